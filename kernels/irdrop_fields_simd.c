#include <stddef.h>

#include "kernels/cpu.h"
#include "kernels/irdrop_fields.h"

#if defined(__AVX512F__)
enum { BYTES = 64 };
#elif defined(__AVX__)
enum { BYTES = 32 };
#else
enum { BYTES = 16 };
#endif

typedef float vector_f32 __attribute__((vector_size(BYTES), may_alias));
typedef double vector_f64 __attribute__((vector_size(BYTES), may_alias));
typedef float quarter_f32 __attribute__((vector_size(16), may_alias));
typedef double quarter_f64 __attribute__((vector_size(16), may_alias));

/* As irdrop_simd.c, with sources. A cell's products are folded to 16 bytes as they arise and added up at
 * the row's end. w and sum stay in registers: hence vectors by hand. */
#define DEFINE_FIELDS(REAL, VECTOR, QUARTER, TYPE, CHUNK, NAME)                                    \
    void OHM_SIMD(NAME)(const TYPE *m, int from, int to)                                           \
    {                                                                                              \
        enum { HALF = CHUNK * sizeof(REAL) / BYTES, ALL = 2 * HALF, LEFT = 16 / sizeof(REAL) };    \
        for (int r = from; r < to; r++) {                                                          \
            const REAL *g = m->g + (long)r * m->columns, *a = m->ladder + (long)r * m->columns;    \
            REAL down = r < m->rows - 1 ? m->bit : m->terminal;                                    \
            VECTOR w[ALL], sum[ALL], v[ALL];                                                       \
            for (int i = 0; i < ALL; i++) {                                                        \
                v[i] = i >= HALF && m->v ? ((const VECTOR *)(m->v + r * m->ldv))[i - HALF] : (VECTOR){0}; \
                sum[i] = m->far * v[i];                                                            \
            }                                                                                      \
            for (int c = m->columns - 1; c >= 0; c--) {                                            \
                const VECTOR *b = (const VECTOR *)m->b + (long)c * ALL;                            \
                VECTOR *j = (VECTOR *)m->j + (long)c * ALL;                                        \
                REAL pass = c + 1 < m->columns ? a[c + 1] : 1;                                     \
                for (int i = 0; i < ALL; i++)                                                      \
                    j[i] = sum[i] = g[c] * b[i] + pass * sum[i];                                   \
            }                                                                                      \
            for (int i = 0; i < ALL; i++)                                                          \
                w[i] = a[0] * (v[i] + m->source * sum[i]);                                         \
            for (int c = 0; c < m->columns; c++) {                                                 \
                VECTOR *b = (VECTOR *)m->b + (long)c * ALL, *k = (VECTOR *)m->k + (long)c * ALL;   \
                const VECTOR *j = (const VECTOR *)m->j + (long)c * ALL;                            \
                VECTOR t[ALL];                                                                     \
                for (int i = 0; i < ALL; i++) {                                                    \
                    if (c > 0)                                                                     \
                        w[i] = a[c] * (w[i] + m->word * j[i]);                                     \
                    t[i] = b[i] - w[i];                                                            \
                    VECTOR up = k[i] + g[c] * t[i];                                                \
                    k[i] = up;                                                                     \
                    b[i] += down * up;                                                             \
                }                                                                                  \
                if (m->product) {                                                                  \
                    VECTOR p[HALF];                                                                \
                    for (int i = 0; i < HALF; i++)                                                 \
                        p[i] = t[i] * t[HALF + i];                                                 \
                    const QUARTER *q = (const QUARTER *)p;                                         \
                    ((QUARTER *)m->part)[c] = (q[0] + q[1]) + (q[2] + q[3]);                       \
                }                                                                                  \
            }                                                                                      \
            for (int c = 0; m->product && c < m->columns; c++) {                                   \
                const REAL *p = m->part + (long)c * LEFT;                                          \
                REAL cell = p[0] + p[1];                                                           \
                for (int i = 2; i < LEFT; i += 2)                                                  \
                    cell += p[i] + p[i + 1];                                                       \
                m->product[(long)r * m->columns + c] -= cell;                                      \
            }                                                                                      \
        }                                                                                          \
    }
DEFINE_FIELDS(float, vector_f32, quarter_f32, ohm_fields_f32, OHM_FIELDS_F32, ohm_fields_rows_f32)
DEFINE_FIELDS(double, vector_f64, quarter_f64, ohm_fields_f64, OHM_FIELDS_F64, ohm_fields_rows_f64)
