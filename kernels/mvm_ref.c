/* The MVM in scalar double, straight from physics.md. Every draw has the address that the fast
 * kernel gives it, so that both see the same noise. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/mvm_network.h"
#include "kernels/normals.h"

typedef struct {
    const ohm_geometry *g;
    const ohm_read *r;
    const ohm_crossbar *cells;
    int round, per_cell, columns;  /* columns: outputs and references */
    uint64_t row;                  /* global index of the sample */
    double *drive;                 /* [k] */
    ohm_network_row network;       /* with cells->network */
    const double *dsums;           /* [n] gradient of the sums, NULL = not wanted */
    double *normals, *adc_normals; /* [draw pitch] of the present read */
    float *block;                  /* [128] */
} context;

static void draw_block(const context *c, uint32_t site, uint64_t transform, uint64_t per_sample)
{
    ohm_stream stream = c->r->stream;
    stream.site = site;
    if (c->r->exact_normals)
        ohm_normals_exact_ref(c->block, (c->row * per_sample + transform) * 128, 128, &stream);
    else
        ohm_normals_fast_ref(c->block, 128, c->row, 1, transform, per_sample, &stream);
}

static void draw_read(const context *c, double *z, uint32_t site, uint64_t read)
{
    uint64_t pitch = (uint64_t)ohm_draw_pitch(c->g), first = read * pitch, held = UINT64_MAX;
    for (uint64_t e = first; e < first + pitch; e++) {
        if (e >> 7 != held)
            draw_block(c, site, held = e >> 7, ohm_draw_transforms(c->g));
        z[e - first] = c->block[e & 127];
    }
}

static double digit_of(const context *c, double x, int phase, int plane)
{
    const ohm_geometry *g = c->g;
    int is_signed = g->drive == OHM_DRIVE_TWO_PHASE || g->drive == OHM_DRIVE_SIGN_MAGNITUDE,
        base = g->max_digit + 1;
    double magnitude = is_signed ? fabs(x) : x, digit = 0.0, rest = magnitude;
    for (int i = g->planes - 1; i >= 1;
         i--) { /* whole digits first: what is left rides on plane 0 */
        double d = floor(ldexp(magnitude, -i * g->dac_bits));
        d -= base * floor(d / base);
        rest -= ldexp(d, i * g->dac_bits);
        if (i == plane)
            digit = d;
    }
    if (plane == 0)
        digit = rest;
    if (g->drive == OHM_DRIVE_TWO_PHASE)
        return (x < 0.0) == phase ? digit : 0.0;
    return is_signed && x < 0.0 ? -digit : digit;
}

/* What the DAC gives (out), and, off not NULL, which rows it does not drive. */
static void drive_digits(const context *c, double *out, uint8_t *off, const double *x, int phase,
                         int plane)
{
    const ohm_geometry *g = c->g;
    const ohm_read *r = c->r;
    uint64_t pitch = ohm_dac_pitch(g), per_sample = (uint64_t)g->phases * g->planes * pitch / 128;
    uint64_t base = ((uint64_t)phase * g->planes + plane) * pitch / 128;
    for (int k = 0; k < g->k; k++) {
        double whole = digit_of(c, x[k], phase, plane),
               digit = ohm_dac_drive(r->dac_inl, g->max_digit, whole);
        if (off)
            off[k] = whole == 0.0;
        if (r->dac_noise > 0.0f && !r->quiet) {
            if (k % 128 == 0)
                draw_block(c, OHM_SITE_DAC_NOISE, base + (uint64_t)k / 128, per_sample);
            digit += (double)r->dac_noise * c->block[k % 128];
        }
        out[k] = digit;
    }
}

static void drive_row(const context *c, const double *x, int phase, int plane)
{
    const ohm_read *r = c->r;
    drive_digits(c, c->drive, NULL, x, phase, plane);
    for (int k = 0; k < c->g->k; k++)
        c->drive[k] =
            ohm_cell_drive(r->iv, r->iv_coefficient, r->v_read, c->g->max_digit, c->drive[k], NULL);
}

/* Bit-line currents of all reads of a row, from the wires. */
static ohm_solve_status solve_row(const context *c, const double *x)
{
    const ohm_geometry *g = c->g;
    for (int phase = 0; phase < g->phases; phase++)
        for (int plane = 0; plane < g->planes; plane++) {
            size_t at = ((size_t)phase * g->planes + plane) * g->k;
            drive_digits(c, c->network.drive + at, c->network.off + at, x, phase, plane);
        }
    return ohm_mvm_network_forward(&c->network, g, c->r, c->cells, c->row, c->per_cell);
}

typedef struct {
    int phase, plane, slice, array, tile;
    uint64_t index;
} read_at;

/* Current of one array's column: cells g[(begin + r)·stride], and its read noise when asked. */
typedef struct {
    const double *g, *variance;
    size_t stride;
    uint64_t element; /* per-cell draws: element + r·columns */
    int solved;       /* index among the columns of a solved read */
} column;

static void add_column(const context *c, const read_at *at, const column *cells, double sign,
                       double *current, double *variance, double *conductance)
{
    int begin = ohm_tile_begin(c->g, at->tile), end = ohm_tile_begin(c->g, at->tile + 1);
    ohm_stream stream = c->r->stream;
    stream.site = OHM_SITE_READ;
    stream.where |= 0x80000000u;
    if (c->cells->network) {
        size_t read =
            ohm_network_read(c->g, at->phase * c->g->planes + at->plane, at->slice, at->tile) *
                (size_t)ohm_network_columns(c->g) +
            (size_t)cells->solved;
        *current += sign * c->network.current[read];
        *variance += c->network.variance[read];
        for (int k = begin; k < end; k++)
            *conductance += cells->g[k * cells->stride];
        return;
    }
    for (int k = begin; k < end; k++) {
        double v = c->drive[k],
               spread = cells->variance ? cells->variance[k * cells->stride] : c->r->read_constant;
        *current += sign * v * cells->g[k * cells->stride];
        *conductance += cells->g[k * cells->stride];
        if (c->per_cell && c->r->read_noise && !c->r->quiet) {
            float z;
            ohm_normals_exact_ref(&z, cells->element + (uint64_t)k * (uint64_t)c->columns, 1,
                                  &stream);
            *current += sign * v * sqrt(spread) * z;
        } else
            *variance += v * v * spread;
    }
}

static column column_at(const context *c, const read_at *at, int sign, int n)
{
    const ohm_geometry *g = c->g;
    int signs = g->differential ? 2 : 1;
    size_t first = ((size_t)at->slice * signs + sign) * g->k * g->n + n;
    return (column){c->cells->g + first, c->cells->variance ? c->cells->variance + first : NULL,
                    (size_t)g->n, ohm_cell_noise_element(g, c->row, at->index, sign, n),
                    sign * g->n + n};
}

static column reference_at(const context *c, const read_at *at, int ct)
{
    const ohm_geometry *g = c->g;
    size_t first = (size_t)at->slice * g->k * g->column_tiles + ct;
    return (column){c->cells->g_ref + first,
                    c->cells->variance_ref ? c->cells->variance_ref + first : NULL,
                    (size_t)g->column_tiles,
                    ohm_cell_noise_element(g, c->row, at->index, 0, g->n + ct), g->n + ct};
}

typedef struct {
    double gain, offset, s_shape;
} column_error;

/* Derivatives of a conversion, rounding as identity. */
typedef struct {
    double current, variance;
} slopes;

/* Current -> code (or the current itself without an ADC). z: packed column of the draws. */
static double convert(const context *c, double current, double variance, double lsb, column_error e,
                      int z, double *analogue, slopes *d)
{
    const ohm_read *r = c->r;
    int noisy = r->read_noise && !r->quiet, separate = r->static_errors || c->per_cell;
    *d = (slopes){1.0, 0.0};
    if (noisy && (r->adc_bits == 0 || r->quiet || separate)) {
        current += c->normals[z] * sqrt(variance);
        d->variance = variance > 0.0 ? c->normals[z] / (2.0 * sqrt(variance)) : 0.0;
    }
    if (r->adc_bits == 0 || r->quiet)
        return *analogue = current;
    double high = ohm_adc_high(c->g, r), low = ohm_adc_low(c->g, r), value = current / lsb,
           slope = 1.0 / lsb;
    if (e.s_shape != 0.0) {
        double y = value / high, bend = 1.0 + fabs(e.s_shape * y);
        value = high * y * (1.0 + fabs(e.s_shape)) / bend;
        slope *= (1.0 + fabs(e.s_shape)) / (bend * bend);
    }
    value = value * (1.0 + e.gain) + e.offset;
    slope *= (1.0 + e.gain) * (1.0 + r->inl * ohm_inl_slope(value / high) / high);
    value += r->inl * ohm_inl_shape(value / high);
    *d = (slopes){slope, slope * d->variance};
    if (noisy && !separate) { /* gaussians that meet before the same quantiser are one */
        double sd = sqrt(variance / (lsb * lsb) + (double)r->adc_noise * r->adc_noise);
        value += c->normals[z] * sd;
        d->variance = sd > 0.0 ? c->normals[z] / (2.0 * sd * lsb * lsb) : 0.0;
    } else if (r->adc_noise > 0.0f)
        value += r->adc_noise * c->adc_normals[z];
    *analogue = value;
    if (value < low || value > high)
        *d = (slopes){0.0, 0.0};
    if (c->round)
        value = rint(value);
    return fmin(fmax(value, low), high);
}

/* Gradients by the current and the variance of a solved column, of a conversion worth dvalue. */
static void add_gradient(const context *c, const read_at *at, int column, double dvalue, slopes d)
{
    size_t to = ohm_network_read(c->g, at->phase * c->g->planes + at->plane, at->slice, at->tile) *
                    (size_t)ohm_network_columns(c->g) +
                (size_t)column;
    c->network.dcurrent[to] += dvalue * d.current;
    c->network.dvariance[to] += dvalue * d.variance;
}

static void read_tile(const context *c, const read_at *at, double weight, double *sums,
                      double *analogue)
{
    const ohm_geometry *g = c->g;
    const ohm_read *r = c->r;
    const ohm_crossbar *cells = c->cells;
    int np = ohm_packed_columns(g), pitch = ohm_tile_pitch(g), arrays = ohm_arrays(g);
    double johnson = cells->johnson_scale ? *cells->johnson_scale : 0.0, unused,
           idle = ohm_idle_conductance(g, at->tile);
    const float *lsb = r->lsb ? r->lsb + ((size_t)at->plane * g->slices + at->slice) *
                                             (r->lsb_per_column ? g->n : 1)
                              : NULL;
    draw_read(c, c->normals, OHM_SITE_READ, at->index);
    draw_read(c, c->adc_normals, OHM_SITE_ADC_NOISE, at->index);
    for (int n = 0; n < g->n; n++) {
        int packed = ohm_packed_position(g, n), ct = packed / pitch;
        size_t error =
            (((size_t)at->slice * arrays + at->array) * g->tiles + at->tile) * np + packed;
        size_t ref_error = ((size_t)at->slice * g->tiles + at->tile) * g->column_tiles + ct;
        double current = 0.0, variance = 0.0, conductance = 0.0, ref = 0.0, ref_variance = 0.0,
               ref_conductance = 0.0, post = 0.0;
        slopes d;
        column plus = column_at(c, at, at->array, n);
        add_column(c, at, &plus, 1.0, &current, &variance, &conductance);
        if (g->differential && !g->digital) {
            column minus = column_at(c, at, 1, n);
            add_column(c, at, &minus, -1.0, &current, &variance, &conductance);
        }
        variance += johnson * (conductance + ohm_columns_seen(g) * idle);
        if (!g->differential) {
            column reference = reference_at(c, at, ct);
            add_column(c, at, &reference, 1.0, &ref, &ref_variance, &ref_conductance);
            ref_variance += johnson * (ref_conductance + idle);
            if (g->digital) {
                column_error e = {cells->ref_gain ? cells->ref_gain[ref_error] : 0.0,
                                  cells->ref_offset ? cells->ref_offset[ref_error] : 0.0,
                                  cells->ref_s_shape ? cells->ref_s_shape[ref_error] : 0.0};
                /* the reference column has a converter of its own, and draws of its own */
                context own = *c;
                own.per_cell = 1;
                double ref_lsb = lsb ? lsb[r->lsb_per_column ? ct * g->tile_columns : 0] : 1.0;
                double scale = r->adc_bits > 0 && !r->quiet ? ref_lsb : 1.0;
                post = scale * convert(&own, ref, ref_variance, ref_lsb, e, np + ct, &unused, &d);
                if (c->dsums)
                    add_gradient(c, at, g->n + ct, -weight * scale * c->dsums[n], d);
            } else {
                current -= ref;
                if (r->read_noise && !r->quiet)
                    current -= c->normals[np + ct] * sqrt(ref_variance);
            }
        }
        column_error e = {cells->gain ? cells->gain[error] : 0.0,
                          cells->offset ? cells->offset[error] : 0.0,
                          cells->s_shape ? cells->s_shape[error] : 0.0};
        double unit = lsb ? lsb[r->lsb_per_column ? n : 0] : 1.0,
               value = convert(c, current, variance, unit, e, packed, &unused, &d),
               scale = r->adc_bits > 0 && !r->quiet ? unit : 1.0;
        if (c->dsums) {
            double dsum = weight * scale * c->dsums[n];
            add_gradient(c, at, plus.solved, dsum, d);
            if (g->differential && !g->digital)
                add_gradient(c, at, g->n + n, -dsum, (slopes){d.current, -d.variance});
            if (!g->differential && !g->digital) {
                double share = r->read_noise && !r->quiet && ref_variance > 0.0
                                   ? c->normals[np + ct] / (2.0 * sqrt(ref_variance))
                                   : 0.0;
                add_gradient(c, at, g->n + ct, -dsum * d.current, (slopes){1.0, share});
            }
        }
        if (analogue)
            analogue[at->index * (uint64_t)g->n + (uint64_t)n] = unused;
        sums[n] += weight * (value * scale - post);
    }
}

/* One row of x: sums [n] added to; analogue [reads][n] or NULL. */
static ohm_solve_status read_row(context *c, double *sums, const double *x, double *analogue)
{
    const ohm_geometry *g = c->g;
    if (c->cells->network) {
        ohm_solve_status status = solve_row(c, x);
        if (status != OHM_SOLVE_OK)
            return status;
    }
    for (int phase = 0; phase < g->phases; phase++)
        for (int plane = 0; plane < g->planes; plane++) {
            if (!c->cells->network)
                drive_row(c, x, phase, plane);
            for (int slice = 0; slice < g->slices; slice++)
                for (int array = 0; array < ohm_arrays(g); array++)
                    for (int tile = 0; tile < g->tiles; tile++) {
                        read_at at = {phase, plane,
                                      slice, array,
                                      tile,  ohm_read_index(g, phase, plane, slice, array, tile)};
                        double weight = ldexp(phase ^ array ? -1.0 : 1.0,
                                              plane * g->dac_bits + slice * g->cell_bits);
                        read_tile(c, &at, weight, sums, analogue);
                    }
        }
    return OHM_SOLVE_OK;
}

/* Memory of a context; NULL where there is none. */
static double *remember(context *c)
{
    size_t pitch = (size_t)ohm_draw_pitch(c->g);
    double *memory = malloc(((size_t)c->g->k + 2 * pitch) * sizeof *memory);
    c->columns = c->g->n + (c->g->differential ? 0 : c->g->column_tiles);
    c->drive = memory;
    c->normals = memory ? memory + c->g->k : NULL;
    c->adc_normals = memory ? c->normals + pitch : NULL;
    return memory;
}

ohm_solve_status ohm_mvm_ref(double *sums, const ohm_geometry *g, const ohm_read *r,
                             const ohm_crossbar *cells, const double *x, int m, uint64_t first_row,
                             int round, int per_cell, double *analogue)
{
    float block[128];
    context c = {
        .g = g, .r = r, .cells = cells, .round = round, .per_cell = per_cell, .block = block};
    double *memory = remember(&c);
    ohm_solve_status status = memory ? OHM_SOLVE_OK : OHM_SOLVE_MEMORY;
    if (cells->network)
        ohm_network_row_at(&c.network, g, cells->network);
    memset(sums, 0, (size_t)m * g->n * sizeof *sums);
    for (int i = 0; i < m && status == OHM_SOLVE_OK; i++) {
        c.row = first_row + (uint64_t)i;
        status = read_row(&c, sums + (size_t)i * g->n, x + (size_t)i * g->k,
                          analogue ? analogue + (size_t)i * ohm_read_count(g) * g->n : NULL);
    }
    free(memory);
    return status;
}

ohm_solve_status ohm_mvm_network_chain(const ohm_network_row *row, const ohm_geometry *g,
                                       const ohm_read *r, const ohm_crossbar *cells,
                                       const double *x, uint64_t index, int round,
                                       const double *dsums)
{
    float block[128];
    context c = {.g = g,
                 .r = r,
                 .cells = cells,
                 .round = round,
                 .block = block,
                 .row = index,
                 .network = *row,
                 .dsums = dsums};
    double *memory = remember(&c);
    size_t count =
        ohm_network_read(g, g->phases * g->planes, 0, 0) * (size_t)ohm_network_columns(g);
    if (!memory)
        return OHM_SOLVE_MEMORY;
    memset(row->dcurrent, 0, count * sizeof *row->dcurrent);
    memset(row->dvariance, 0, count * sizeof *row->dvariance);
    memset(row->sums, 0, (size_t)g->n * sizeof *row->sums);
    ohm_solve_status status = read_row(&c, row->sums, x, NULL);
    free(memory);
    return status;
}
