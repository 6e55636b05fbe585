#include "kernels/irdrop_exact.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/irdrop_circuit.h"
#include "kernels/irdrop_march.h"

enum { ALIGN = 64 };

/* How far voltages may grow between renormalisations: their growth cancels in N·E⁻¹, but beyond this E
 * loses its dominant diagonal and with it elimination without pivots. */
#define LIMIT 30.0

#define REAL float
#define NAME(x) x##_f32
#define NAME_ISA(isa) ohm_march_ops_f32_##isa
#define CHUNK OHM_MARCH_F32
#define MOST FLT_MAX
#include "kernels/irdrop_exact.inc"
#undef REAL
#undef NAME
#undef NAME_ISA
#undef CHUNK
#undef MOST
#define REAL double
#define NAME(x) x##_f64
#define NAME_ISA(isa) ohm_march_ops_f64_##isa
#define CHUNK OHM_MARCH_F64
#define MOST DBL_MAX
#include "kernels/irdrop_exact.inc"

size_t ohm_irdrop_exact_bytes_f64(const ohm_crosspoint *tile)
{
    ohm_circuit c = ohm_circuit_of(tile);
    return bytes_f64(&c);
}

ohm_solve_status ohm_irdrop_exact_on_f64(double *g_eff, const double *g, const ohm_crosspoint *tile, void *scratch,
                                         ohm_solve_report *report, ohm_isa isa)
{
    ohm_circuit c = ohm_circuit_of(tile);
    int renormalised = 0;
    if (!ohm_wires_usable(&tile->wires) || !usable_f64(g, (size_t)tile->rows * tile->columns))
        return OHM_SOLVE_NOT_FINITE;
    ohm_solve_status status = solve_f64(g_eff, g, &c, scratch, &renormalised, isa);
    if (report)
        report->renormalised = renormalised;
    return status;
}

/* Cells that add alike round alike: what the drop adds to a bit line's voltage and current may be off by
 * rows·2⁻²⁴ of itself, what a word line hands on by columns·2⁻²⁵. Where that could come near 1e-5, or
 * the tile is so steep that it is renormalised, double solves it. */
static int float_suffices(const memory_f32 *s, const float *g, const ohm_circuit *c)
{
    enum { ALIKE = 100, LONG = 260 };
    double most;
    ohm_march_f32 m = march_of_f32(s, c, g);
    for (int i = 0; i < c->columns; i++) {
        s->u[i] = 1.0;
        s->up[i] = c->top;
    }
    s->ops->stretch(s->u, s->up, &most, &m, 0, HUGE_VAL);
    return most <= LIMIT && c->rows * (1.0 - 1.0 / most) <= ALIKE && c->columns <= LONG;
}

size_t ohm_irdrop_exact_bytes_f32(const ohm_crosspoint *tile)
{
    ohm_circuit c = ohm_circuit_of(tile);
    size_t single = bytes_f32(&c), wide = (size_t)tile->rows * tile->columns * sizeof(double);
    wide = (wide + ALIGN - 1) / ALIGN * ALIGN + bytes_f64(&c);
    return single > wide ? single : wide;
}

ohm_solve_status ohm_irdrop_exact_on_f32(float *g_eff, const float *g, const ohm_crosspoint *tile, void *scratch,
                                         ohm_solve_report *report, ohm_isa isa)
{
    ohm_circuit c = ohm_circuit_of(tile);
    memory_f32 s = {.ops = ops_of_f32(isa)};
    size_t cells = (size_t)tile->rows * tile->columns;
    int renormalised = 0;
    if (!ohm_wires_usable(&tile->wires) || !usable_f32(g, cells))
        return OHM_SOLVE_NOT_FINITE;
    carve_f32(&s, &c, scratch);
    ohm_solve_status status;
    if (float_suffices(&s, laid_out_f32(&s, g, &c), &c))
        status = solve_f32(g_eff, g, &c, scratch, &renormalised, isa);
    else {
        double *wide = scratch;
        for (size_t i = 0; i < cells; i++)
            wide[i] = g[i];
        status = solve_f64(wide, wide, &c, wide + (cells + ALIGN / 8 - 1) / (ALIGN / 8) * (ALIGN / 8), &renormalised, isa);
        for (size_t i = 0; i < cells; i++)
            g_eff[i] = (float)wide[i];
    }
    if (report)
        report->renormalised = renormalised;
    return status;
}

ohm_solve_status ohm_irdrop_exact_f32(float *g_eff, const float *g, const ohm_crosspoint *tile, void *scratch, ohm_solve_report *report)
{
    return ohm_irdrop_exact_on_f32(g_eff, g, tile, scratch, report, ohm_cpu_isa());
}

ohm_solve_status ohm_irdrop_exact_f64(double *g_eff, const double *g, const ohm_crosspoint *tile, void *scratch, ohm_solve_report *report)
{
    return ohm_irdrop_exact_on_f64(g_eff, g, tile, scratch, report, ohm_cpu_isa());
}
