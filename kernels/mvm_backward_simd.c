/* The loops of mode full over a row of x. */
#include <float.h>
#include <math.h>

#include "kernels/cpu.h"
#include "kernels/mvm_back_task.h"

static void square(float *restrict to, const float *restrict x, int rows)
{
    for (int k = 0; k < rows; k++)
        to[k] = x[k] * x[k];
}

static void drive(float *restrict x, float *restrict squares, const uint8_t *restrict codes,
                  const float *restrict level, int rows)
{
    for (int k = 0; k < rows; k++)
        x[k] = level[codes[k]];
    if (squares)
        square(squares, x, rows);
}

static void chain_bits(float *restrict current, const float *restrict dsums, float weight,
                       const ohm_geometry *g, const uint16_t *bits)
{
    for (int n = 0; n < g->n; n++) {
        int c = ohm_packed_position(g, n);
        current[n] = bits[c / 16] >> c % 16 & 1 ? weight * dsums[n] : 0.0f;
    }
}

static void chain(float *restrict current, float *restrict variance, const float *restrict dsums,
                  float weight, const ohm_geometry *g, const ohm_mvm_factors *f, const void *row,
                  int read)
{
    const float *slope = f->slope ? (const float *)row + ohm_mvm_slope_at(f, read) : NULL;
    const float *spread = f->spread ? (const float *)row + ohm_mvm_spread_at(f, read) : NULL;
    if (f->bits)
        chain_bits(current, dsums, weight, g, (const uint16_t *)row + ohm_mvm_bits_at(f, read));
    else if (slope && spread)
        for (int n = 0; n < g->n; n++) {
            current[n] = weight * dsums[n] * slope[n];
            variance[n] = weight * dsums[n] * spread[n];
        }
    else if (slope)
        for (int n = 0; n < g->n; n++)
            current[n] = weight * dsums[n] * slope[n];
    else if (spread)
        for (int n = 0; n < g->n; n++) { /* infinite where the converter clips */
            int inside = fabsf(spread[n]) <= FLT_MAX;
            float d = weight * dsums[n];
            current[n] = inside ? d : 0.0f;
            variance[n] = inside ? d * spread[n] : 0.0f;
        }
    else
        for (int n = 0; n < g->n; n++)
            current[n] = weight * dsums[n];
}

static inline void dx_row(float *restrict dx, const float *restrict current,
                          const float *restrict variance, const float *restrict x, float common,
                          float spread, int rows, int add, int varies)
{
    for (int k = 0; k < rows; k++) {
        float d = current[k] + (varies ? 2.0f * variance[k] + spread : spread) * x[k] + common;
        dx[k] = add ? dx[k] + d : d;
    }
}

static inline void dx_sloped(float *restrict dx, const ohm_back_dx *of)
{
    for (int k = 0; k < of->rows; k++) {
        float spread = of->variance ? 2.0f * of->variance[k] + of->spread : of->spread;
        float d = of->current[k] + spread * of->x[k] + of->common;
        d *= of->slope ? of->slope[k] : of->of_code[of->codes[k]];
        dx[k] = of->add ? dx[k] + d : d;
    }
}

static void dx(float *to, const ohm_back_dx *of)
{
    if (of->slope || of->of_code)
        dx_sloped(to, of);
    else if (of->variance && of->add)
        dx_row(to, of->current, of->variance, of->x, of->common, of->spread, of->rows, 1, 1);
    else if (of->variance)
        dx_row(to, of->current, of->variance, of->x, of->common, of->spread, of->rows, 0, 1);
    else if (of->add)
        dx_row(to, of->current, of->current, of->x, of->common, of->spread, of->rows, 1, 0);
    else
        dx_row(to, of->current, of->current, of->x, of->common, of->spread, of->rows, 0, 0);
}

const ohm_back_kernels OHM_SIMD(ohm_back_kernels) = {drive, square, chain, dx};
