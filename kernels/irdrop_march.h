/* Inside of the exact solver: the march over some rows for one chunk of right-hand sides, once per
 * instruction set and precision. */
#ifndef OHM_KERNELS_IRDROP_MARCH_H
#define OHM_KERNELS_IRDROP_MARCH_H

enum { OHM_MARCH_F32 = 32, OHM_MARCH_F64 = 16 }; /* right-hand sides of a chunk: two AVX-512 vectors */

#define OHM_MARCH_TYPE(REAL, NAME)                                                                 \
    typedef struct {                                                                               \
        int rows, columns;                                                                         \
        REAL source, word, bit, terminal; /* resistances: driver + first segment, segments, last segment + sense */ \
        REAL far;                         /* conductance of the second driver; 0 = none */         \
        const REAL *g, *ladder;           /* [rows][columns]: conductances; share of a node's voltage that the row hands on */ \
        REAL *b, *k, *j;                  /* [columns][chunk]: bit-line voltage, current up the bit line, current into the row's tail */ \
        REAL *n;                          /* [rows][chunk]: currents into the sources */           \
    } NAME;
OHM_MARCH_TYPE(float, ohm_march_f32)
OHM_MARCH_TYPE(double, ohm_march_f64)

typedef void ohm_march_task_f32(const ohm_march_f32 *m, int from, int to);
typedef void ohm_march_task_f64(const ohm_march_f64 *m, int from, int to);
ohm_march_task_f32 ohm_march_rows_f32_base, ohm_march_rows_f32_avx2, ohm_march_rows_f32_avx512;
ohm_march_task_f64 ohm_march_rows_f64_base, ohm_march_rows_f64_avx2, ohm_march_rows_f64_avx512;

#endif
