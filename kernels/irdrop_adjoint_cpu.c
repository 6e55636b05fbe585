#include "kernels/irdrop_adjoint.h"

#include <math.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/irdrop_circuit.h"
#include "kernels/irdrop_fields.h"

void sgemm_(const char *ta, const char *tb, const int *m, const int *n, const int *k, const float *alpha, const float *a,
            const int *lda, const float *b, const int *ldb, const float *beta, float *c, const int *ldc);
void dgemm_(const char *ta, const char *tb, const int *m, const int *n, const int *k, const double *alpha, const double *a,
            const int *lda, const double *b, const int *ldb, const double *beta, double *c, const int *ldc);

enum { ALIGN = 64 };

/* How far voltages may grow within a segment: the particular solutions are differences of grown terms
 * and lose as many digits. Largest errors seen: float 3e-6, double 1e-10 of the largest entry. */
static double limit_f32(const ohm_circuit *c)
{
    return c->top > 0.0 ? 8.0 : 30.0;
}

static double limit_f64(const ohm_circuit *c)
{
    return c->top > 0.0 ? 1e3 : 1e4;
}

/* Families of right-hand sides of a segment: unit voltages at its start; the sources at d_geff; the far
 * terminals of bit lines that are sensed twice at 1 V. */
typedef enum { HOMOGENEOUS, DRIVEN, LIFTED } family;

#define REAL float
#define NAME(x) x##_f32
#define HALF OHM_FIELDS_F32
#define SLOTS 1
#define TASK(isa) ohm_fields_rows_f32_##isa
#define GETRF sgetrf_
#define GETRS sgetrs_
#define GEMM sgemm_
#include "kernels/irdrop_adjoint.inc"
#undef REAL
#undef NAME
#undef HALF
#undef SLOTS
#undef TASK
#undef GETRF
#undef GETRS
#undef GEMM
#define REAL double
#define NAME(x) x##_f64
#define HALF OHM_FIELDS_F64
#define SLOTS 5 /* segments up to 8 need no march more than log2 times, more of them only time */
#define TASK(isa) ohm_fields_rows_f64_##isa
#define GETRF dgetrf_
#define GETRS dgetrs_
#define GEMM dgemm_
#include "kernels/irdrop_adjoint.inc"

size_t ohm_irdrop_exact_adjoint_bytes_f64(const ohm_crosspoint *tile)
{
    ohm_circuit c = ohm_circuit_of(tile);
    memory_f64 s;
    return carve_f64(&s, &c, NULL);
}

/* Of a float tile as doubles: dg, d_geff, g. */
static size_t widened(const ohm_crosspoint *tile)
{
    return (3 * (size_t)tile->rows * tile->columns * sizeof(double) + ALIGN - 1) / ALIGN * ALIGN;
}

size_t ohm_irdrop_exact_adjoint_bytes_f32(const ohm_crosspoint *tile)
{
    ohm_circuit c = ohm_circuit_of(tile);
    memory_f32 s;
    size_t single = carve_f32(&s, &c, NULL), wide = widened(tile) + ohm_irdrop_exact_adjoint_bytes_f64(tile);
    return single > wide ? single : wide;
}

ohm_solve_status ohm_irdrop_exact_adjoint_f64(double *dg, const double *d_geff, const double *g, const ohm_crosspoint *tile,
                                              void *scratch, ohm_solve_report *report)
{
    ohm_circuit c = ohm_circuit_of(tile);
    memory_f64 s;
    if (!ohm_wires_usable(&tile->wires))
        return OHM_SOLVE_NOT_FINITE;
    for (size_t i = 0; i < (size_t)tile->rows * tile->columns; i++)
        if (!(g[i] >= 0.0) || !isfinite(g[i]) || !isfinite(d_geff[i]))
            return OHM_SOLVE_NOT_FINITE;
    carve_f64(&s, &c, scratch);
    int segments = prepare_f64(&s, g, d_geff, limit_f64(&c));
    return finish_f64(&s, dg, segments, report);
}

static ohm_solve_status in_double(float *dg, const float *d_geff, const float *g, const ohm_crosspoint *tile, char *scratch,
                                  ohm_solve_report *report)
{
    size_t cells = (size_t)tile->rows * tile->columns;
    double *wide = (double *)(void *)scratch;
    for (size_t i = 0; i < cells; i++) {
        wide[i] = 0.0;
        wide[cells + i] = d_geff[i];
        wide[2 * cells + i] = g[i];
    }
    ohm_solve_status status = ohm_irdrop_exact_adjoint_f64(wide, wide + cells, wide + 2 * cells, tile, scratch + widened(tile), report);
    for (size_t i = 0; status == OHM_SOLVE_OK && i < cells; i++)
        dg[i] += (float)wide[i];
    return status;
}

ohm_solve_status ohm_irdrop_exact_adjoint_f32(float *dg, const float *d_geff, const float *g, const ohm_crosspoint *tile,
                                              void *scratch, ohm_solve_report *report)
{
    ohm_circuit c = ohm_circuit_of(tile);
    memory_f32 s;
    if (!ohm_wires_usable(&tile->wires))
        return OHM_SOLVE_NOT_FINITE;
    for (size_t i = 0; i < (size_t)tile->rows * tile->columns; i++)
        if (!(g[i] >= 0.0f) || !isfinite(g[i]) || !isfinite(d_geff[i]))
            return OHM_SOLVE_NOT_FINITE;
    carve_f32(&s, &c, scratch);
    if (prepare_f32(&s, g, d_geff, limit_f32(&c)) > 1)
        return in_double(dg, d_geff, g, tile, scratch, report);
    return finish_f32(&s, dg, 1, report);
}
