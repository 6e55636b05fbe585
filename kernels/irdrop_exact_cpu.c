#include "kernels/irdrop_exact.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/irdrop_circuit.h"
#include "kernels/irdrop_march.h"

void sgemm_(const char *ta, const char *tb, const int *m, const int *n, const int *k,
            const float *alpha, const float *a, const int *lda, const float *b, const int *ldb,
            const float *beta, float *c, const int *ldc);
void dgemm_(const char *ta, const char *tb, const int *m, const int *n, const int *k,
            const double *alpha, const double *a, const int *lda, const double *b, const int *ldb,
            const double *beta, double *c, const int *ldc);

enum { ALIGN = 64 };

/* How far voltages may grow between renormalisations. One family's growth cancels in N·E⁻¹; with both
 * bit-line ends sensed, the second family is a difference of grown terms and loses that many digits. */
static double growth_limit(const ohm_circuit *c, double usual, double sensed_twice)
{
    return c->top > 0.0 ? sensed_twice : usual;
}

/* Whether some bit line may have grown past the limit: a bound from each bit line alone, the far side
 * of every cell at 0. */
#define DEFINE_STEEP(REAL, NAME)                                                                   \
    static int NAME(double *u, double *k, const REAL *row, double bit, int columns, double limit)  \
    {                                                                                              \
        double most = 0.0;                                                                         \
        for (int c = 0; c < columns; c++) {                                                        \
            k[c] += row[c] * u[c];                                                                 \
            u[c] += bit * k[c];                                                                    \
            most = u[c] > most ? u[c] : most;                                                      \
        }                                                                                          \
        return most > limit;                                                                       \
    }
DEFINE_STEEP(float, too_steep_f32)
DEFINE_STEEP(double, too_steep_f64)

#define REAL float
#define NAME(x) x##_f32
#define CHUNK OHM_MARCH_F32
#define LIMIT 1e3, 10.0
#define TASK(isa) ohm_march_rows_f32_##isa
#define GESV sgesv_
#define GEMM sgemm_
#include "kernels/irdrop_exact.inc"
#undef REAL
#undef NAME
#undef CHUNK
#undef LIMIT
#undef TASK
#undef GESV
#undef GEMM
#define REAL double
#define NAME(x) x##_f64
#define CHUNK OHM_MARCH_F64
#define LIMIT 1e6, 1e3
#define TASK(isa) ohm_march_rows_f64_##isa
#define GESV dgesv_
#define GEMM dgemm_
#include "kernels/irdrop_exact.inc"
