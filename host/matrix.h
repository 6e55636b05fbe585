/* Matrices in files: .npy (host/npy.h) or .csv, told apart by the name's end. */
#ifndef OHM_HOST_MATRIX_H
#define OHM_HOST_MATRIX_H

#include <stddef.h>

#include "host/status.h"

enum { OHM_MATRIX_SIDE = 65536 }; /* most rows, most columns */

typedef struct {
    int rows, columns;
    int flat;      /* read from an array of one dimension: one row */
    double *value; /* [rows][columns]; owned */
} ohm_matrix;

/* Reads 1..OHM_MATRIX_SIDE rows and columns. A .csv file holds one row per line, numbers separated by
 * commas, blanks around them allowed; lines that are empty or start with # are skipped. Of a .npy
 * file float32, float64 and whole numbers are taken. OHM_ERR_DATA names the line of a .csv file that is
 * ragged or holds no number; NaN and infinities pass in .npy files only. */
ohm_status ohm_matrix_read(ohm_matrix *matrix, const char *path);
/* A .csv file from memory; `name` stands for the path in messages. */
ohm_status ohm_matrix_parse_csv(ohm_matrix *matrix, const char *text, size_t bytes, const char *name);
void ohm_matrix_free(ohm_matrix *matrix); /* NULL-safe, idempotent */

/* Whether a path's end names a format. OHM_ERR_CONFIG if not. */
ohm_status ohm_matrix_check_name(const char *path);
/* Writes value [rows][columns], atomically: float64 or, in .csv, 17 digits if `doubles`, else float32 or
 * 9 digits. OHM_ERR_DATA, and nothing written, if a number is not finite or exceeds float32. */
ohm_status ohm_matrix_write(const char *path, const double *value, int rows, int columns, int doubles);

#endif
