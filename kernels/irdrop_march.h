/* Inside of the exact solver: what is compiled once per instruction set and precision.
 *
 * Right-hand sides (one per bit line) are cut into chunks. All that a chunk holds is one panel of rows
 * of `chunk` numbers: e, the bit-line voltages [padded], above k, the currents up the bit lines
 * [padded], above n, the currents into the sources [rows]; padded = columns rounded up to whole chunks,
 * the rest zero. A row of a panel is a row of the matrix, so the elimination finds it as the march left
 * it. While marching, e is held less the unit matrix that it starts as: in float, what a small drop adds
 * to 1 would lose half its digits. */
#ifndef OHM_KERNELS_IRDROP_MARCH_H
#define OHM_KERNELS_IRDROP_MARCH_H

#include <stddef.h>

#include "kernels/cpu.h"
#include "kernels/irdrop_exact.h"

enum { OHM_MARCH_F32 = 32, OHM_MARCH_F64 = 16 }; /* right-hand sides of a chunk: two AVX-512 vectors */

/* ladders: share [rows][columns] of a node's voltage that the row hands on towards its open end; at the
 *   source's end (column 0) what reaches the source of a current at the first node.
 * stretch: the row after the first at which some voltage may pass `limit`, or rows; *most is the bound
 *   there. u, up [columns] carry it.
 * rows: marches rows from..to-1 of one chunk.
 * dominant: every column of e is led by its diagonal, so that elimination without pivoting is stable.
 * divide: rows first..last-1 of the panels <- those rows times the inverse of e, without pivoting; e is
 *   used up. 0 = a pivot was 0. Panels are `pitch` numbers apart. */
#define OHM_MARCH_TYPES(REAL, SUFFIX)                                                              \
    typedef struct {                                                                               \
        int rows, columns;                                                                         \
        REAL source, word, bit, terminal; /* resistances: driver + first segment, segments, last segment + sense */ \
        REAL far;                         /* conductance of the second driver; 0 = none */         \
        const REAL *g, *ladder;           /* [rows][columns] */                                    \
        int first;                        /* the chunk's first right-hand side */                  \
        REAL *b, *k, *j;                  /* [columns][chunk]: bit-line voltage less its start, current up the bit line, current into the row's tail */ \
        REAL *n;                          /* [rows][chunk]: currents into the sources */           \
    } ohm_march##SUFFIX;                                                                           \
    typedef struct {                                                                               \
        void (*ladders)(REAL *ladder, const REAL *g, int rows, int columns, double source,         \
                        double word, double far);                                                  \
        int (*stretch)(double *u, double *up, double *most, const ohm_march##SUFFIX *m, int from,  \
                       double limit);                                                              \
        void (*rows)(const ohm_march##SUFFIX *m, int from, int to);                                \
        int (*dominant)(const REAL *panels, size_t pitch, int padded);                             \
        int (*divide)(REAL *panels, size_t pitch, int padded, int first, int last);                \
    } ohm_march_ops##SUFFIX;                                                                       \
    extern const ohm_march_ops##SUFFIX ohm_march_ops##SUFFIX##_base, ohm_march_ops##SUFFIX##_avx2, \
        ohm_march_ops##SUFFIX##_avx512;                                                            \
    ohm_solve_status ohm_irdrop_exact_on##SUFFIX(REAL *g_eff, const REAL *g,                       \
                                                 const ohm_crosspoint *tile, void *scratch,        \
                                                 ohm_solve_report *report, ohm_isa isa);
OHM_MARCH_TYPES(float, _f32)
OHM_MARCH_TYPES(double, _f64)

#endif
