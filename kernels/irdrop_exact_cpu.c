#include "kernels/irdrop_exact.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/irdrop_march.h"

/* LAPACK by its Fortran names: there is no LAPACKE beside OpenBLAS everywhere. */
void sgesv_(const int *n, const int *nrhs, float *a, const int *lda, int *pivot, float *b,
            const int *ldb, int *info);
void dgesv_(const int *n, const int *nrhs, double *a, const int *lda, int *pivot, double *b,
            const int *ldb, int *info);
void sgemm_(const char *ta, const char *tb, const int *m, const int *n, const int *k,
            const float *alpha, const float *a, const int *lda, const float *b, const int *ldb,
            const float *beta, float *c, const int *ldc);
void dgemm_(const char *ta, const char *tb, const int *m, const int *n, const int *k,
            const double *alpha, const double *a, const int *lda, const double *b, const int *ldb,
            const double *beta, double *c, const int *ldc);

enum { ALIGN = 64 };

/* The circuit as the march sees it: `rows` steps, `columns` states. The longer side is marched;
 * a mirrored tile has its word and bit lines exchanged and both counted from the other end. */
typedef struct {
    int rows, columns, mirrored;
    double source, word, bit, terminal; /* resistances */
    double far, top; /* conductances of second driver and second sense; 0 = none */
} circuit;

static circuit circuit_of(const ohm_crosspoint *t)
{
    const ohm_wires *w = &t->wires;
    double source = w->driver + w->word_line, terminal = w->sense + w->bit_line;
    /* two ends joined by lines without resistance are one */
    double far = w->drive_both && source > 0.0 ? 1.0 / source : 0.0,
           top = w->sense_both && terminal > 0.0 ? 1.0 / terminal : 0.0;
    if (t->rows >= t->columns)
        return (circuit){t->rows,     t->columns, 0,   source, w->word_line,
                         w->bit_line, terminal,   far, top};
    return (circuit){t->columns, t->rows, 1, terminal, w->bit_line, w->word_line, source, top, far};
}

static int usable(const ohm_wires *w)
{
    const double r[] = {w->word_line, w->bit_line, w->driver, w->sense};
    for (int i = 0; i < 4; i++)
        if (!(r[i] >= 0.0) || !isfinite(r[i]))
            return 0;
    return 1;
}

/* How far voltages may grow between renormalisations. One family's growth cancels in N·E⁻¹; with both
 * bit-line ends sensed, the second family is a difference of grown terms and loses that many digits. */
static double growth_limit(const circuit *c, double usual, double sensed_twice)
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
