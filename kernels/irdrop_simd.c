#include "kernels/cpu.h"
#include "kernels/irdrop_march.h"

/* Rows from..to-1. Sources are at 0 V. A row is a ladder of its cells: first its Thévenin currents are
 * gathered from the open end to the source, then the node voltages w follow from the source outwards,
 * and each cell's current moves the bit line's current k and, over one segment, its voltage b. */
#define DEFINE_MARCH(REAL, TYPE, CHUNK, NAME)                                                      \
    void OHM_SIMD(NAME)(const TYPE *m, int from, int to)                                           \
    {                                                                                              \
        for (int r = from; r < to; r++) {                                                          \
            const REAL *g = m->g + (long)r * m->columns, *a = m->ladder + (long)r * m->columns;    \
            REAL down = r < m->rows - 1 ? m->bit : m->terminal, w[CHUNK], sum[CHUNK];              \
            for (int i = 0; i < CHUNK; i++)                                                        \
                sum[i] = 0;                                                                        \
            for (int c = m->columns - 1; c >= 0; c--) {                                            \
                const REAL *b = m->b + (long)c * CHUNK;                                            \
                REAL *j = m->j + (long)c * CHUNK, pass = c + 1 < m->columns ? a[c + 1] : 0;        \
                for (int i = 0; i < CHUNK; i++)                                                    \
                    j[i] = sum[i] = g[c] * b[i] + pass * sum[i];                                   \
            }                                                                                      \
            REAL *n = m->n + (long)r * CHUNK;                                                      \
            for (int i = 0; i < CHUNK; i++) {                                                      \
                n[i] = a[0] * sum[i];                                                              \
                w[i] = m->source * n[i];                                                           \
            }                                                                                      \
            for (int c = 0; c < m->columns; c++) {                                                 \
                REAL *b = m->b + (long)c * CHUNK, *k = m->k + (long)c * CHUNK;                     \
                const REAL *j = m->j + (long)c * CHUNK;                                            \
                for (int i = 0; i < CHUNK; i++) {                                                  \
                    if (c > 0)                                                                     \
                        w[i] = a[c] * (w[i] + m->word * j[i]);                                     \
                    k[i] += g[c] * (b[i] - w[i]);                                                  \
                    b[i] += down * k[i];                                                           \
                }                                                                                  \
            }                                                                                      \
            for (int i = 0; i < CHUNK; i++)                                                        \
                n[i] += m->far * w[i];                                                             \
        }                                                                                          \
    }
DEFINE_MARCH(float, ohm_march_f32, OHM_MARCH_F32, ohm_march_rows_f32)
DEFINE_MARCH(double, ohm_march_f64, OHM_MARCH_F64, ohm_march_rows_f64)
