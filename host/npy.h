/* NumPy's .npy files: little-endian, C order, format 1.0 and 2.0. What the chip computes with is float32
 * and nothing else; circuits take every real type as double. */
#ifndef OHM_HOST_NPY_H
#define OHM_HOST_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "host/status.h"

enum { OHM_NPY_RANK_MAX = 4 };

typedef struct {
    int rank;
    int64_t shape[OHM_NPY_RANK_MAX];
    size_t count; /* elements */
    float *value; /* [count], the last index running fastest; owned */
} ohm_npy;

/* Reads a file. The data must be exactly as long as the header says: OHM_ERR_DATA otherwise, and
 * for every other format, type or order. Values are not looked at. Free with ohm_npy_free. */
ohm_status ohm_npy_read(ohm_npy *array, const char *path);
/* The same from memory; `name` stands for the path in messages. */
ohm_status ohm_npy_parse(ohm_npy *array, const char *data, size_t bytes, const char *name);
void ohm_npy_free(ohm_npy *array); /* NULL-safe, idempotent */
/* Writes a file of format 1.0, atomically (host/file.h). */
ohm_status ohm_npy_write(const char *path, const float *value, int rank, const int64_t *shape);

typedef struct {
    int rank;
    int64_t shape[OHM_NPY_RANK_MAX];
    size_t count;
    double *value; /* [count], the last index running fastest; owned: free() */
} ohm_npy_real;

/* As ohm_npy_parse, for float32, float64 and whole numbers of 8 to 64 bits, converted to double. */
ohm_status ohm_npy_parse_real(ohm_npy_real *array, const char *data, size_t bytes, const char *name);
ohm_status ohm_npy_write_f64(const char *path, const double *value, int rank, const int64_t *shape);

#endif
