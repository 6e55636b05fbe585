/* Programming, one cell at a time, in the words of physics.md section 3. */
#include <math.h>
#include <stdlib.h>

#include "kernels/normals.h"
#include "kernels/program_cell.h"

static double normal_at(const ohm_stream *stream, uint32_t site, uint64_t element)
{
    ohm_stream s = *stream;
    float z;
    s.site = site;
    ohm_normals_exact_ref(&z, element, 1, &s);
    return z;
}

static double clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

double ohm_program_cell_ref(const ohm_programming *p, double level, uint64_t element, double *slope)
{
    ohm_level at;
    if (level == floor(level) || !p->law)
        at = p->level[(int)level];
    else
        p->law(&at, level, p->law_context);

    double g = at.mean, d = at.d_mean;
    if (p->noise) {
        double z = normal_at(&p->per_program, OHM_SITE_PROGRAM, element);
        if (isfinite(p->tolerance))
            z = (float)ohm_truncate_normal(z, p->tolerance);
        if (p->lognormal) {
            g *= exp(at.sigma * z);
            d *= exp(at.sigma * z);
        } else {
            g += at.sigma * z;
            d += at.d_sigma * z;
        }
        if (g < 0.0)
            g = d = 0.0;
    }
    double written = g, d_written = d;
    double xi = p->nu_random ? normal_at(&p->per_chip, OHM_SITE_DRIFT_NU, element) : 0.0;
    if (p->keep == OHM_KEEP_POWER) {
        double nu = at.nu + at.nu_sigma * xi, d_nu = at.d_nu + at.d_nu_sigma * xi;
        if (nu < 0.0) {
            nu = -nu;
            d_nu = -d_nu;
        }
        d = exp(-nu * p->log_ratio) * (d - g * p->log_ratio * d_nu);
        g *= exp(-nu * p->log_ratio);
    } else if (p->keep == OHM_KEEP_LOGARITHMIC) {
        g = p->keep_scale * g - p->keep_shift + p->keep_spread * xi;
        d *= p->keep_scale;
    }
    if (p->flicker != OHM_FLICKER_NONE) {
        double x = fmax(written / p->g_max, 1e-7), q, dq = 0.0;
        if (p->flicker == OHM_FLICKER_NANDAKUMAR) {
            q = fmin(0.0088 / fmax(pow(x, 0.65), 1e-3), 0.2);
            if (q < 0.2 && pow(x, 0.65) > 1e-3)
                dq = -0.65 * q / x;
        } else if (x < 0.16) {
            q = clamp(-0.0117 * log(x) - 0.0069, 0.015, 0.04);
            if (q > 0.015 && q < 0.04)
                dq = -0.0117 / x;
        } else {
            q = 0.0069 * x * x * x - 0.028 * x * x + 0.0211 * x + 0.0123;
            dq = 3.0 * 0.0069 * x * x - 2.0 * 0.028 * x + 0.0211;
        }
        double scale = p->flicker_scale * normal_at(&p->per_time, OHM_SITE_ONE_OVER_F, element);
        d = d * (1.0 + q * scale) + g * scale * dq * d_written / p->g_max;
        g *= 1.0 + q * scale;
    }
    if ((p->keep != OHM_KEEP_NONE || p->flicker != OHM_FLICKER_NONE) && g < p->floor) {
        g = p->floor;
        d = 0.0;
    }
    if (p->thermal) {
        double energy = p->activation;
        if (p->activation_sigma > 0.0)
            energy +=
                p->activation_sigma * normal_at(&p->per_chip, OHM_SITE_ACTIVATION_ENERGY, element);
        g *= exp(-energy * p->inverse_kelvin);
        d *= exp(-energy * p->inverse_kelvin);
    }
    ohm_stream fault = p->per_chip;
    fault.site = OHM_SITE_FAULT;
    double u = p->stuck_off + p->stuck_on + p->stuck_random > 0.0
                   ? ohm_stream_uniform(&fault, 2 * element)
                   : 1.0;
    if (u < p->stuck_off + p->stuck_on + p->stuck_random) {
        d = 0.0;
        if (u < p->stuck_off)
            g = p->g_min;
        else if (u < p->stuck_off + p->stuck_on)
            g = p->g_max;
        else
            g = ohm_stuck_level(p, ohm_stream_uniform(&fault, 2 * element + 1));
    }
    if (slope)
        *slope = d;
    return g;
}

/* One physical tile of doubles through the wires; arrays of a pair interleaved or apart. */
typedef struct {
    const ohm_geometry *g;
    const ohm_programming *p;
    int slice, tile, column_tile, begin, rows, first, columns;
} place;

/* Physical column of output column c of the tile, or of the reference (c = -1). */
static int physical_column(const place *at, int sign, int c)
{
    if (c < 0)
        return at->p->physical_columns - 1;
    return at->p->interleaved ? 2 * c + sign : c;
}

static ohm_solve_status pass_wires(const place *at, double *tile, void *scratch)
{
    const ohm_programming *p = at->p;
    ohm_crosspoint exact = {
        .rows = p->physical_rows, .columns = p->physical_columns, .wires = p->wires};
    if (p->ir == OHM_WIRES_EXACT)
        return ohm_irdrop_exact_f64(tile, tile, &exact, scratch, NULL);
    ohm_irdrop_closed(tile, tile, at->rows, p->physical_columns, p->physical_rows - at->rows,
                      &p->wires, scratch);
    return OHM_SOLVE_OK;
}

static ohm_solve_status through_wires(ohm_crossbar *cells, const place *at, int sign, double *tile,
                                      void *scratch)
{
    const ohm_geometry *g = at->g;
    int width = at->p->physical_columns, signs = g->differential ? 2 : 1;
    int from = at->p->interleaved ? 0 : sign, to = at->p->interleaved ? signs : sign + 1;
    for (size_t i = 0; i < (size_t)at->p->physical_rows * width; i++)
        tile[i] = at->p->g_min;
    for (int store = 0; store < 2; store++) {
        ohm_solve_status status = store ? pass_wires(at, tile, scratch) : OHM_SOLVE_OK;
        if (status != OHM_SOLVE_OK)
            return status;
        for (int r = 0; r < at->rows; r++) {
            for (int s = from; s < to; s++)
                for (int c = 0; c < at->columns; c++) {
                    double *cell =
                        cells->g + ohm_cell_element(g, at->slice, s, at->begin + r, at->first + c);
                    double *node = tile + (size_t)r * width + physical_column(at, s, c);
                    *(store ? cell : node) = *(store ? node : cell);
                }
            if (!g->differential) {
                double *cell = cells->g_ref +
                               ((size_t)at->slice * g->k + at->begin + r) * g->column_tiles +
                               at->column_tile;
                double *node = tile + (size_t)r * width + physical_column(at, 0, -1);
                *(store ? cell : node) = *(store ? node : cell);
            }
        }
    }
    return OHM_SOLVE_OK;
}

static double scaled_variance(const ohm_read_law *read, double before, double after)
{
    double share = before > 0.0 ? after / before : 1.0;
    return ohm_read_variance(read, before, NULL) * share * share;
}

/* Rounds what a bit line subtracts: the cell that its current counts positively takes the difference; the
 * variances of a pair keep their ratio. */
static void hold_halves(ohm_crossbar *cells, const ohm_geometry *g, const ohm_programming *p)
{
    int signs = g->differential ? 2 : 1, pair = g->differential && !g->digital;
    size_t array = (size_t)g->k * g->n;
    for (int slice = 0; slice < g->slices; slice++)
        for (int sign = 0; sign < (pair ? 1 : signs); sign++)
            for (int k = 0; k < g->k; k++)
                for (int n = 0; n < g->n; n++) {
                    size_t cell = ohm_cell_element(g, slice, sign, k, n);
                    size_t ref = ((size_t)slice * g->k + k) * g->column_tiles +
                                 ohm_packed_position(g, n) / ohm_tile_pitch(g);
                    double less = pair         ? cells->g[cell + array]
                                  : g->digital ? g->pedestal
                                               : cells->g_ref[ref];
                    cells->g[cell] = less + ohm_held_conductance(p, cells->g[cell] - less);
                    if (!cells->variance)
                        continue;
                    double *of = cells->variance + cell, sum = of[0] + (pair ? of[array] : 0.0);
                    double held = ohm_held_variance(p, sum, ohm_variance_scale(g));
                    for (int i = 0; i < (pair ? 2 : 1); i++)
                        of[(size_t)i * array] *= sum > 0.0 ? held / sum : 1.0;
                }
}

ohm_solve_status ohm_program_ref(ohm_crossbar *cells, const ohm_geometry *g,
                                 const ohm_programming *p, const ohm_read_law *read,
                                 const double *level, const uint8_t *ref_level)
{
    int signs = g->differential ? 2 : 1;
    size_t count = (size_t)g->slices * signs * g->k * g->n,
           refs = g->differential ? 0 : (size_t)g->slices * g->k * g->column_tiles;
    double *before = malloc((count + refs) * sizeof *before);
    size_t physical = (size_t)p->physical_rows * (p->ir ? p->physical_columns : 0);
    ohm_crosspoint exact = {
        .rows = p->physical_rows, .columns = p->physical_columns, .wires = p->wires};
    size_t solver = p->ir == OHM_WIRES_EXACT
                        ? ohm_irdrop_exact_bytes_f64(&exact)
                        : (physical + 3 * (size_t)p->physical_columns) * sizeof(double);
    double *tile = malloc((physical + 1) * sizeof *tile);
    void *scratch = aligned_alloc(64, (solver + 64) / 64 * 64);
    ohm_solve_status status = before && tile && scratch ? OHM_SOLVE_OK : OHM_SOLVE_SINGULAR;
    if (status != OHM_SOLVE_OK) {
        free(before);
        free(tile);
        free(scratch);
        return status;
    }
    for (size_t i = 0; i < count; i++)
        cells->g[i] = before[i] = ohm_program_cell_ref(p, level[i], i, NULL);
    for (size_t i = 0; i < refs; i++)
        cells->g_ref[i] = before[count + i] = ohm_program_cell_ref(
            p, ref_level[i / ((size_t)g->k * g->column_tiles)], count + i, NULL);
    for (int slice = 0; p->ir && slice < g->slices; slice++)
        for (int t = 0; t < g->tiles; t++)
            for (int ct = 0; ct < g->column_tiles; ct++) {
                int begin = ohm_tile_begin(g, t), first = ct * g->tile_columns;
                place at = {g,
                            p,
                            slice,
                            t,
                            ct,
                            begin,
                            ohm_tile_begin(g, t + 1) - begin,
                            first,
                            g->n - first < g->tile_columns ? g->n - first : g->tile_columns};
                for (int sign = 0; sign < (p->interleaved ? 1 : signs) && status == OHM_SOLVE_OK;
                     sign++)
                    status = through_wires(cells, &at, sign, tile, scratch);
            }
    for (size_t i = 0; cells->variance && i < count; i++)
        cells->variance[i] = scaled_variance(read, before[i], cells->g[i]);
    for (size_t i = 0; cells->variance_ref && i < refs; i++)
        cells->variance_ref[i] = scaled_variance(read, before[count + i], cells->g_ref[i]);
    if (p->halves)
        hold_halves(cells, g, p);
    free(before);
    free(tile);
    free(scratch);
    return status;
}
