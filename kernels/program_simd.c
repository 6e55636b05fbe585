/* The device pipeline over a run of cells: short loops, one effect each, that become vectors.
 * Bound: one to three exact normals and one to three exponentials a cell. */
#include <math.h>

#include "kernels/cpu.h"
#include "kernels/normals.h"
#include "kernels/program_cell.h"
#include "kernels/program_task.h"

typedef struct {
    double *g, *slope;
    const ohm_programming *p;
    const uint8_t *level;
    uint64_t first;
    int count;
    float z[OHM_CELLS];
} run;

static void draw(run *r, const ohm_stream *stream, uint32_t site)
{
    ohm_stream s = *stream;
    s.site = site;
    ohm_normals_exact(r->z, r->first, (size_t)r->count, &s);
}

static void at_least(run *r, double floor)
{
    for (int i = 0; i < r->count; i++)
        r->slope[i] = r->g[i] < floor ? 0.0 : r->slope[i];
    for (int i = 0; i < r->count; i++)
        r->g[i] = r->g[i] < floor ? floor : r->g[i];
}

static void write_levels(run *r)
{
    const ohm_programming *p = r->p;
    double sigma[OHM_CELLS], d_sigma[OHM_CELLS];
    for (int i = 0; i < r->count; i++) {
        const ohm_level *at = &p->level[r->level[i]];
        r->g[i] = at->mean;
        r->slope[i] = at->d_mean;
        sigma[i] = at->sigma;
        d_sigma[i] = at->d_sigma;
    }
    if (!p->noise)
        return;
    draw(r, &p->per_program, OHM_SITE_PROGRAM);
    if (isfinite(p->tolerance))
        for (int i = 0; i < r->count; i++)
            r->z[i] = (float)ohm_truncate_normal(r->z[i], p->tolerance);
    if (p->lognormal)
        for (int i = 0; i < r->count; i++) {
            double factor = ohm_exp(sigma[i] * r->z[i]);
            r->g[i] *= factor;
            r->slope[i] *= factor;
        }
    else
        for (int i = 0; i < r->count; i++) {
            r->g[i] += sigma[i] * r->z[i];
            r->slope[i] += d_sigma[i] * r->z[i];
        }
    at_least(r, 0.0);
}

static void keep(run *r)
{
    const ohm_programming *p = r->p;
    if (p->keep == OHM_KEEP_NONE && p->flicker == OHM_FLICKER_NONE)
        return;
    double written[OHM_CELLS], d_written[OHM_CELLS];
    for (int i = 0; i < r->count; i++) {
        written[i] = r->g[i];
        d_written[i] = r->slope[i];
    }
    if (p->nu_random)
        draw(r, &p->per_chip, OHM_SITE_DRIFT_NU);
    else
        for (int i = 0; i < r->count; i++)
            r->z[i] = 0.0f;
    if (p->keep == OHM_KEEP_POWER) {
        double nu[OHM_CELLS], d_nu[OHM_CELLS];
        for (int i = 0; i < r->count; i++) {
            const ohm_level *at = &p->level[r->level[i]];
            double value = at->nu + at->nu_sigma * r->z[i],
                   slope = at->d_nu + at->d_nu_sigma * r->z[i];
            nu[i] = value < 0.0 ? -value : value;
            d_nu[i] = value < 0.0 ? -slope : slope;
        }
        for (int i = 0; i < r->count; i++) {
            double factor = ohm_exp(-nu[i] * p->log_ratio);
            r->slope[i] = factor * (r->slope[i] - r->g[i] * p->log_ratio * d_nu[i]);
            r->g[i] *= factor;
        }
    } else if (p->keep == OHM_KEEP_LOGARITHMIC)
        for (int i = 0; i < r->count; i++) {
            r->g[i] = p->keep_scale * r->g[i] - p->keep_shift + p->keep_spread * r->z[i];
            r->slope[i] *= p->keep_scale;
        }
    if (p->flicker != OHM_FLICKER_NONE) {
        draw(r, &p->per_time, OHM_SITE_ONE_OVER_F);
        for (int i = 0; i < r->count; i++) {
            double q, dq, scale = p->flicker_scale * r->z[i];
            ohm_flicker_share(&q, &dq, p->flicker, written[i] / p->g_max);
            r->slope[i] =
                r->slope[i] * (1.0 + q * scale) + r->g[i] * scale * dq * d_written[i] / p->g_max;
            r->g[i] *= 1.0 + q * scale;
        }
    }
    at_least(r, p->floor);
}

static void heat(run *r)
{
    const ohm_programming *p = r->p;
    if (!p->thermal)
        return;
    if (p->activation_sigma > 0.0)
        draw(r, &p->per_chip, OHM_SITE_ACTIVATION_ENERGY);
    else
        for (int i = 0; i < r->count; i++)
            r->z[i] = 0.0f;
    for (int i = 0; i < r->count; i++) {
        double factor =
            ohm_exp(-(p->activation + p->activation_sigma * r->z[i]) * p->inverse_kelvin);
        r->g[i] *= factor;
        r->slope[i] *= factor;
    }
}

static void stick(run *r)
{
    const ohm_programming *p = r->p;
    double off = p->stuck_off, on = off + p->stuck_on, random = on + p->stuck_random;
    if (random <= 0.0)
        return;
    ohm_stream s = p->per_chip;
    s.site = OHM_SITE_FAULT;
    for (int i = 0; i < r->count; i++) {
        uint64_t e = r->first + (uint64_t)i;
        double u = ohm_stream_uniform(&s, 2 * e);
        if (u >= random)
            continue;
        r->slope[i] = 0.0;
        r->g[i] = u < off  ? p->g_min
                  : u < on ? p->g_max
                           : ohm_stuck_level(p, ohm_stream_uniform(&s, 2 * e + 1));
    }
}

void OHM_SIMD(ohm_cells_task)(double *g, double *slope, const ohm_programming *p,
                              const uint8_t *level, uint64_t first, int count)
{
    run r = {.g = g, .slope = slope, .p = p, .level = level, .first = first, .count = count};
    write_levels(&r);
    keep(&r);
    heat(&r);
    stick(&r);
}
