/* Inside of the gradient of exact IR drop: the march for two fields side by side, once per instruction
 * set and precision. */
#ifndef OHM_KERNELS_IRDROP_FIELDS_H
#define OHM_KERNELS_IRDROP_FIELDS_H

enum { OHM_FIELDS_F32 = 16, OHM_FIELDS_F64 = 8 }; /* right-hand sides of one field in a chunk: one AVX-512 vector */

#define OHM_FIELDS_TYPE(REAL, NAME)                                                                \
    typedef struct {                                                                               \
        int rows, columns;                                                                         \
        REAL source, word, bit, terminal, far; /* as in irdrop_march.h */                          \
        const REAL *g, *ladder;                /* [rows][columns] */                               \
        REAL *b, *k, *j;                       /* [columns][2][chunk]: lower and upper field */    \
        const REAL *v;                         /* [rows][chunk], row stride ldv: sources of the upper field; NULL = 0 V */ \
        long ldv;                                                                                  \
        REAL *product;                         /* [rows][columns], added to: Σ (b - w)_lower·(w - b)_upper; or NULL */ \
        REAL *part;                            /* [columns] 16 bytes each, with product */                    \
    } NAME;
OHM_FIELDS_TYPE(float, ohm_fields_f32)
OHM_FIELDS_TYPE(double, ohm_fields_f64)

/* Rows from..to-1. */
typedef void ohm_fields_task_f32(const ohm_fields_f32 *m, int from, int to);
typedef void ohm_fields_task_f64(const ohm_fields_f64 *m, int from, int to);
ohm_fields_task_f32 ohm_fields_rows_f32_base, ohm_fields_rows_f32_avx2, ohm_fields_rows_f32_avx512;
ohm_fields_task_f64 ohm_fields_rows_f64_base, ohm_fields_rows_f64_avx2, ohm_fields_rows_f64_avx512;

#endif
