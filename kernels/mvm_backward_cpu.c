#include "kernels/mvm_backward.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/mvm_chain.h"
#include "kernels/normals.h"

#include <omp.h>

/* Rows go in groups fixed by the batch alone, each with partial weight gradients that are added in
 * order; inside a group, blocks of 64 rows. One task is one group on one row tile: tasks share nothing. */
enum { BLOCK = 64, GROUPS_MOST = 4, GROUP_ROWS_LEAST = 64, ALIGN = 64 };

typedef struct {
    float level[256], slope[256]; /* drive of a code, and its derivative by the code */
} drive_table;

typedef struct {
    const ohm_mvm_gradient *d;
    const ohm_geometry *g;
    const ohm_read *r;
    const ohm_tiles *w;
    double johnson_scale;
    drive_table table[16]; /* [phases·planes] */
} job;

typedef struct {      /* of one group */
    float *dg;        /* [arrays][k][n] by the current's conductances */
    float *dvariance; /* [arrays][k][n] */
    float *djohnson;  /* [arrays][tiles][n] by the sum of a column's conductances */
    float *dref;      /* [k][column_tiles] by the reference column's conductances */
    float *dref_variance;
} partial;

typedef struct {                       /* of one thread */
    float *x, *square, *slope;         /* [64][rows]: drive, its square, d drive / d code */
    float *current, *variance;         /* [64][n]: values, then gradients */
    float *w, *cells;                  /* [rows][n]: dense tile and its read variances */
    float *dx;                         /* [64][rows] */
    float *noise, *noise2;             /* [64][draw pitch rounded up to 128, and 128 more] */
    float *power, *total, *pre;        /* [64] */
    float *inverse, *johnson;          /* [n] */
    float *ref_current, *ref_variance; /* [64][column_tiles] */
} memory;

typedef struct {
    int phase, plane, slice, array, tile, begin, rows; /* the read; rows of its tile */
    int first, count;                                  /* rows of x */
} place;

static int group_count(int m)
{
    int groups = m / GROUP_ROWS_LEAST;
    return groups < 1 ? 1 : groups > GROUPS_MOST ? GROUPS_MOST : groups;
}

static size_t noise_pitch(const ohm_geometry *g)
{
    return ((size_t)ohm_draw_pitch(g) + 127) / 128 * 128 + 128;
}

#define TAKE(to, field, count)                                                                     \
    do {                                                                                           \
        (to)->field = base ? (float *)(void *)(base + used) : NULL;                                \
        used += ((count) * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;                             \
    } while (0)

static size_t carve_partial(partial *p, const ohm_geometry *g, char *base)
{
    size_t used = 0, cells = (size_t)ohm_arrays(g) * g->k * g->n;
    TAKE(p, dg, cells);
    TAKE(p, dvariance, cells);
    TAKE(p, djohnson, (size_t)ohm_arrays(g) * g->tiles * g->n);
    TAKE(p, dref, g->differential ? 0 : (size_t)g->k * g->column_tiles);
    TAKE(p, dref_variance, g->differential ? 0 : (size_t)g->k * g->column_tiles);
    return used;
}

static size_t carve_memory(memory *s, const ohm_geometry *g, char *base)
{
    size_t used = 0, rows = (size_t)ohm_tile_rows_most(g), n = (size_t)g->n;
    TAKE(s, x, BLOCK * rows);
    TAKE(s, square, BLOCK * rows);
    TAKE(s, slope, BLOCK * rows);
    TAKE(s, current, BLOCK * n);
    TAKE(s, variance, BLOCK * n);
    TAKE(s, w, rows * n);
    TAKE(s, cells, rows * n);
    TAKE(s, dx, BLOCK * rows);
    TAKE(s, noise, BLOCK * noise_pitch(g));
    TAKE(s, noise2, BLOCK * noise_pitch(g));
    TAKE(s, power, BLOCK);
    TAKE(s, total, BLOCK);
    TAKE(s, pre, BLOCK);
    TAKE(s, inverse, n);
    TAKE(s, johnson, n);
    TAKE(s, ref_current, BLOCK * (size_t)g->column_tiles);
    TAKE(s, ref_variance, BLOCK * (size_t)g->column_tiles);
    return used;
}

size_t ohm_mvm_backward_scratch_bytes(const ohm_geometry *g, int m)
{
    partial p;
    memory s;
    return carve_partial(&p, g, NULL) * (size_t)group_count(m) +
           carve_memory(&s, g, NULL) * (size_t)omp_get_max_threads() + ALIGN;
}

/* ---- Drive ----------------------------------------------------------------------------------- */

/* Digit of a real code on a plane; *slope = 1 on plane 0, which carries fractions, with the sign of the drive. */
static double digit_of(const ohm_geometry *g, double value, const place *at, double *slope)
{
    int is_signed = g->drive == OHM_DRIVE_TWO_PHASE || g->drive == OHM_DRIVE_SIGN_MAGNITUDE,
        base = g->max_digit + 1;
    double magnitude = is_signed ? fabs(value) : value, digit = 0.0, rest = magnitude;
    for (int i = g->planes - 1; i >= 1; i--) {
        double whole = floor(ldexp(magnitude, -i * g->dac_bits));
        whole -= base * floor(whole / base);
        rest -= ldexp(whole, i * g->dac_bits);
        if (i == at->plane)
            digit = whole;
    }
    *slope = at->plane == 0;
    if (at->plane == 0)
        digit = rest;
    if (g->drive == OHM_DRIVE_TWO_PHASE) {
        int here = (value < 0.0) == at->phase;
        *slope *= here ? (at->phase ? -1.0 : 1.0) : 0.0;
        return here ? digit : 0.0;
    }
    return is_signed && value < 0.0 ? -digit : digit; /* d(sign·|x|)/dx = 1 */
}

/* What the DAC gives for a code, and its derivative by the code. */
static double dac_of(const job *j, double value, const place *at, double *slope)
{
    const ohm_geometry *g = j->g;
    double digit = digit_of(g, value, at, slope);
    *slope *= 1.0 + j->r->dac_inl * ohm_inl_slope(digit / g->max_digit) / g->max_digit;
    return ohm_dac_drive(j->r->dac_inl, g->max_digit, digit);
}

/* And what a cell makes of that. */
static double cell_of(const job *j, double level, double *slope)
{
    double iv_slope, drive = ohm_cell_drive(j->r->iv, j->r->iv_coefficient, j->r->v_read,
                                            j->g->max_digit, level, &iv_slope);
    *slope *= iv_slope;
    return drive;
}

static void draw(const job *j, float *z, size_t ldz, uint32_t site, const place *at,
                 uint64_t transform, uint64_t per_sample)
{
    ohm_stream stream = j->r->stream;
    stream.site = site;
    uint64_t first = j->d->first_row + (uint64_t)at->first;
    if (j->r->exact_normals)
        ohm_normals_exact_block(z, ldz, first, (size_t)at->count, transform, per_sample, &stream);
    else
        ohm_normals_fast(z, ldz, first, (size_t)at->count, transform, per_sample, &stream);
}

/* Codes of whole numbers without DAC noise: 256 cases a phase and plane. */
static void tabulate(job *j)
{
    const ohm_geometry *g = j->g;
    int is_signed = g->drive == OHM_DRIVE_TWO_PHASE || g->drive == OHM_DRIVE_SIGN_MAGNITUDE;
    for (int i = 0; i < g->phases * g->planes; i++)
        for (int code = 0; code < 256; code++) {
            place at = {.phase = i / g->planes, .plane = i % g->planes};
            double d, value = !is_signed ? code : code >> 7 ? -(double)(code & 127) : code;
            j->table[i].level[code] = (float)cell_of(j, dac_of(j, value, &at, &d), &d);
            j->table[i].slope[code] = (float)d;
        }
}

static void drive_codes(const job *j, const memory *s, const place *at)
{
    const drive_table *table = &j->table[at->phase * j->g->planes + at->plane];
    for (int i = 0; i < at->count; i++) {
        const uint8_t *codes = j->d->x_u + (size_t)(at->first + i) * j->d->ldx + at->begin;
        float *x = s->x + (size_t)i * at->rows, *to = s->slope + (size_t)i * at->rows;
        for (int k = 0; k < at->rows; k++) {
            x[k] = table->level[codes[k]];
            to[k] = table->slope[codes[k]];
        }
    }
}

/* Real codes, or DAC noise between the DAC and the cell. */
static void drive_values(const job *j, const memory *s, const place *at)
{
    const ohm_geometry *g = j->g;
    const ohm_read *r = j->r;
    int is_signed = g->drive == OHM_DRIVE_TWO_PHASE || g->drive == OHM_DRIVE_SIGN_MAGNITUDE;
    uint64_t pitch = ohm_dac_pitch(g), per_sample = (uint64_t)g->phases * g->planes * pitch / 128,
             held = UINT64_MAX;
    for (int k = 0; k < at->rows; k++) {
        uint64_t e =
            ((uint64_t)at->phase * g->planes + at->plane) * pitch + (uint64_t)(at->begin + k);
        if (r->dac_noise > 0.0f && e >> 7 != held)
            draw(j, s->noise, 128, OHM_SITE_DAC_NOISE, at, held = e >> 7, per_sample);
        for (int i = 0; i < at->count; i++) {
            size_t row = (size_t)(at->first + i), to = (size_t)i * at->rows + k;
            unsigned code = j->d->round ? j->d->x_u[row * (size_t)j->d->ldx + at->begin + k] : 0;
            double whole = !is_signed ? code : code >> 7 ? -(double)(code & 127) : code;
            double value = j->d->round ? whole : j->d->x[row * (size_t)g->k + at->begin + k], slope,
                   level = dac_of(j, value, at, &slope);
            if (r->dac_noise > 0.0f)
                level += (double)r->dac_noise * s->noise[(size_t)i * 128 + (e & 127)];
            s->x[to] = (float)cell_of(j, level, &slope);
            s->slope[to] = (float)slope;
        }
    }
}

static void drive_block(const job *j, const memory *s, const place *at)
{
    if (j->d->round && j->r->dac_noise == 0.0f)
        drive_codes(j, s, at);
    else
        drive_values(j, s, at);
    for (size_t i = 0; i < (size_t)at->count * at->rows; i++)
        s->square[i] = s->x[i] * s->x[i];
    for (int i = 0; i < at->count; i++) {
        float power = 0.0f, total = 0.0f;
        for (int k = 0; k < at->rows; k++) {
            power += s->square[(size_t)i * at->rows + k];
            total += s->x[(size_t)i * at->rows + k];
        }
        s->power[i] = power;
        s->total[i] = total;
    }
}

/* ---- One read -------------------------------------------------------------------------------- */

/* Packed panels of a tile as a dense [rows][n] matrix. */
static void unpack(float *dense, const float *packed, const ohm_geometry *g, const place *at)
{
    for (int r = 0; r < at->rows; r++)
        for (int n = 0; n < g->n;) {
            int c = ohm_packed_position(g, n), pitch = ohm_tile_pitch(g),
                panel = c - c % pitch % OHM_PANEL;
            int width = ohm_panel_width(g, panel), tile_end = (c / pitch + 1) * g->tile_columns;
            int count = width < (tile_end < g->n ? tile_end : g->n) - n
                            ? width
                            : (tile_end < g->n ? tile_end : g->n) - n;
            memcpy(dense + (size_t)r * g->n + n, packed + ohm_packed_index(g, at->tile, r, c),
                   (size_t)count * sizeof *dense);
            n += count;
        }
}

static void multiply(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, const float *a,
                     int lda, const float *b, int ldb, float beta, float *c, int ldc)
{
    cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc);
}

typedef struct {
    float gain, offset, s_shape, lsb, low, high;
} converter;

typedef struct {
    double dcurrent, dvariance;
} chain;

/* Derivative of conversion(current + z·sqrt(variance)) times dsum, read and ADC noise drawn apart: static errors, references. */
static chain through_adc(const ohm_read *r, const converter *c, double current, double variance,
                         double z, double z_adc, double dsum)
{
    double sd = sqrt(variance);
    if (r->adc_bits == 0)
        return (chain){dsum, sd > 0.0 ? dsum * z / (2.0 * sd) : 0.0};
    double value = (current + z * sd) / c->lsb, d = 1.0, n = fabs((double)c->s_shape),
           y = value / c->high;
    if (n > 0.0) {
        double bend = 1.0 + n * fabs(y);
        value = c->high * y * (1.0 + n) / bend;
        d *= (1.0 + n) / (bend * bend);
    }
    value = value * (1.0 + c->gain) + c->offset;
    d *= 1.0 + c->gain;
    d *= 1.0 + r->inl * ohm_inl_slope(value / c->high) / c->high;
    value += r->inl * ohm_inl_shape(value / c->high) + r->adc_noise * z_adc;
    if (value < c->low || value > c->high)
        return (chain){0.0, 0.0};
    return (chain){dsum * d, sd > 0.0 ? dsum * d * z / (2.0 * sd) : 0.0};
}

static converter converter_at(const job *j, const place *at, int n)
{
    const ohm_geometry *g = j->g;
    const ohm_tiles *w = j->w;
    size_t e = (((size_t)at->slice * ohm_arrays(g) + at->array) * g->tiles + at->tile) *
                   ohm_packed_columns(g) +
               ohm_packed_position(g, n);
    converter c = {.gain = w->gain ? w->gain[e] : 0.0f,
                   .offset = w->offset ? w->offset[e] : 0.0f,
                   .s_shape = w->s_shape ? w->s_shape[e] : 0.0f};
    if (j->r->adc_bits > 0) {
        c.lsb = j->r->lsb[((size_t)at->plane * g->slices + at->slice) *
                              (j->r->lsb_per_column ? g->n : 1) +
                          (j->r->lsb_per_column ? n : 0)];
        c.low = ohm_adc_low(g, j->r);
        c.high = ohm_adc_high(g, j->r);
    }
    return c;
}

static double read_weight(const ohm_geometry *g, const place *at)
{
    return ldexp(at->phase ^ at->array ? -1.0 : 1.0,
                 at->plane * g->dac_bits + at->slice * g->cell_bits);
}

/* The offset of packed column c's draws in noise, whose row i starts with the read's first transform. */
static void draw_read(const job *j, const memory *s, const place *at, size_t *offset)
{
    const ohm_geometry *g = j->g;
    uint64_t first = ohm_read_index(g, at->phase, at->plane, at->slice, at->array, at->tile) *
                     (uint64_t)ohm_draw_pitch(g);
    size_t pitch = noise_pitch(g);
    *offset = first & 127;
    for (uint64_t t = first >> 7; t <= (first + (uint64_t)ohm_draw_pitch(g) - 1) >> 7; t++) {
        size_t to = (size_t)(t - (first >> 7)) * 128;
        draw(j, s->noise + to, pitch, j->r->read_noise ? OHM_SITE_READ : OHM_SITE_ADC_NOISE, at, t,
             ohm_draw_transforms(g));
        if (j->r->adc_noise > 0.0f)
            draw(j, s->noise2 + to, pitch, OHM_SITE_ADC_NOISE, at, t, ohm_draw_transforms(g));
    }
}

/* Reference columns: their own conversion (digital), or their share of the noise (analog). Leaves the
 * gradients of current and variance in ref_current, ref_variance. dcurrent [64][n]: of the columns. */
static void reference_chain(const job *j, const memory *s, const place *at, size_t offset)
{
    const ohm_geometry *g = j->g;
    const ohm_read *r = j->r;
    const ohm_tiles *w = j->w;
    int noisy = r->read_noise || r->adc_noise > 0.0f;
    for (int ct = 0; ct < g->column_tiles; ct++) {
        size_t cells = ((size_t)at->slice * g->column_tiles + ct) * g->k + at->begin,
               one = ((size_t)at->slice * g->tiles + at->tile) * g->column_tiles + ct;
        int from = ct * g->tile_columns,
            to = from + g->tile_columns < g->n ? from + g->tile_columns : g->n;
        converter c = converter_at(j, at, from);
        c.gain = w->ref_gain ? w->ref_gain[one] : 0.0f;
        c.offset = w->ref_offset ? w->ref_offset[one] : 0.0f;
        c.s_shape = w->ref_s_shape ? w->ref_s_shape[one] : 0.0f;
        for (int i = 0; i < at->count; i++) {
            const float *x = s->x + (size_t)i * at->rows;
            double current = g->digital ? g->pedestal * s->total[i] : 0.0, dsum = 0.0;
            double variance = r->read_noise ? (double)r->read_constant * s->power[i] +
                                                  (w->ref_johnson ? w->ref_johnson[one] : 0.0f)
                                            : 0.0;
            for (int k = 0; k < at->rows; k++) {
                current += (double)x[k] * w->ref[cells + k];
                if (r->read_noise && w->ref_variance)
                    variance += (double)x[k] * x[k] * w->ref_variance[cells + k];
            }
            size_t z = (size_t)i * noise_pitch(g) + offset + (size_t)(ohm_packed_columns(g) + ct);
            chain out;
            if (g->digital) {
                for (int n = from; n < to; n++)
                    dsum -=
                        read_weight(g, at) * j->d->dsums[(size_t)(at->first + i) * j->d->ldd + n];
                out = through_adc(r, &c, current, variance, r->read_noise ? s->noise[z] : 0.0,
                                  r->adc_noise > 0.0f ? s->noise2[z] : 0.0, dsum);
            } else {
                for (int n = from; n < to; n++)
                    dsum -= s->current[(size_t)i * g->n + n];
                out = (chain){0.0, noisy && variance > 0.0
                                       ? dsum * s->noise[z] / (2.0 * sqrt(variance))
                                       : 0.0};
            }
            s->ref_current[(size_t)i * g->column_tiles + ct] = (float)out.dcurrent;
            s->ref_variance[(size_t)i * g->column_tiles + ct] = (float)out.dvariance;
        }
    }
}

/* What a row adds on the bit lines of a column tile: pedestal, and the noise of an analog reference. */
static void common_current(const job *j, const memory *s, const place *at, size_t offset, int ct)
{
    const ohm_geometry *g = j->g;
    const ohm_read *r = j->r;
    size_t one = ((size_t)at->slice * g->tiles + at->tile) * g->column_tiles + ct;
    const float *ref =
        j->w->ref_variance
            ? j->w->ref_variance + ((size_t)at->slice * g->column_tiles + ct) * g->k + at->begin
            : NULL;
    for (int i = 0; i < at->count; i++) {
        double pre = g->digital ? g->pedestal * s->total[i] : 0.0;
        if (!g->differential && !g->digital && r->read_noise) {
            double shared = (double)r->read_constant * s->power[i] +
                            (j->w->ref_johnson ? j->w->ref_johnson[one] : 0.0f);
            for (int k = 0; ref && k < at->rows; k++)
                shared += (double)s->square[(size_t)i * at->rows + k] * ref[k];
            pre -= s->noise[(size_t)i * noise_pitch(g) + offset +
                            (size_t)(ohm_packed_columns(g) + ct)] *
                   sqrt(shared);
        }
        s->pre[i] = (float)pre;
    }
}

/* Static errors: one conversion at a time. first: packed position of column n = from. */
static void chain_general(const job *j, const memory *s, const place *at, size_t offset, int from,
                          int to, int first)
{
    const ohm_geometry *g = j->g;
    const ohm_read *r = j->r;
    float cells = g->differential && !g->digital ? 2.0f : 1.0f;
    size_t base = (((size_t)at->slice * ohm_arrays(g) + at->array) * g->tiles + at->tile) *
                  ohm_packed_columns(g);
    for (int n = from; n < to; n++) {
        converter c = converter_at(j, at, n);
        size_t packed = (size_t)(first + n - from);
        for (int i = 0; i < at->count; i++) {
            size_t cell = (size_t)i * g->n + n, z = (size_t)i * noise_pitch(g) + offset + packed;
            double variance = 0.0,
                   dsum = read_weight(g, at) * j->d->dsums[(size_t)(at->first + i) * j->d->ldd + n];
            if (r->read_noise)
                variance = (r->read_cells ? s->variance[cell] : 0.0f) +
                           cells * r->read_constant * s->power[i] +
                           (j->w->johnson ? j->w->johnson[base + packed] : 0.0f);
            chain out = through_adc(
                r, &c, s->current[cell] + s->pre[i], variance, r->read_noise ? s->noise[z] : 0.0,
                r->adc_noise > 0.0f ? (r->read_noise ? s->noise2[z] : s->noise[z]) : 0.0, dsum);
            s->current[cell] = (float)out.dcurrent;
            s->variance[cell] = (float)out.dvariance;
        }
    }
}

static ohm_chain_task *chain_task(void)
{
#if defined(__x86_64__)
    if (ohm_cpu_isa() == OHM_ISA_AVX512)
        return ohm_chain_block_avx512;
    if (ohm_cpu_isa() == OHM_ISA_AVX2)
        return ohm_chain_block_avx2;
#endif
    return ohm_chain_block_base;
}

static void chain_plain(const job *j, const memory *s, const place *at, size_t offset, int from,
                        int to, int first)
{
    const ohm_geometry *g = j->g;
    const ohm_read *r = j->r;
    float cells = g->differential && !g->digital ? 2.0f : 1.0f, power[BLOCK];
    size_t base = (((size_t)at->slice * ohm_arrays(g) + at->array) * g->tiles + at->tile) *
                  ohm_packed_columns(g);
    for (int i = 0; i < at->count; i++)
        power[i] = cells * r->read_constant * s->power[i];
    for (int n = from; n < to; n++) {
        s->inverse[n - from] = r->adc_bits > 0 ? 1.0f / converter_at(j, at, n).lsb : 1.0f;
        s->johnson[n - from] = j->w->johnson && r->read_noise
                                   ? j->w->johnson[base + (size_t)(first + n - from)]
                                   : 0.0f;
    }
    int noisy = r->read_noise || r->adc_noise > 0.0f;
    ohm_chain c = {.current = s->current + from,
                   .variance = s->variance + from,
                   .ld = (size_t)g->n,
                   .dsums = j->d->dsums + (size_t)at->first * j->d->ldd + from,
                   .ldd = (size_t)j->d->ldd,
                   .z = s->noise + offset + first,
                   .ldz = noise_pitch(g),
                   .inverse = s->inverse,
                   .johnson = s->johnson,
                   .pre = s->pre,
                   .power = power,
                   .weight = (float)read_weight(g, at),
                   .adc_variance = r->adc_noise * r->adc_noise,
                   .low = r->adc_bits > 0 ? ohm_adc_low(g, r) : -INFINITY,
                   .high = r->adc_bits > 0 ? ohm_adc_high(g, r) : INFINITY,
                   .noisy = noisy,
                   .cells = r->read_noise && r->read_cells};
    chain_task()(&c, at->count, to - from);
}

/* current, variance: from values to gradients. */
static void convert_chain(const job *j, const memory *s, const place *at, size_t offset)
{
    const ohm_geometry *g = j->g;
    for (int ct = 0; ct < g->column_tiles; ct++) {
        int from = ct * g->tile_columns,
            to = from + g->tile_columns < g->n ? from + g->tile_columns : g->n;
        common_current(j, s, at, offset, ct);
        (j->r->static_errors ? chain_general : chain_plain)(j, s, at, offset, from, to,
                                                            ohm_packed_position(g, from));
    }
}

/* Gradients by the drive of this block, added to d->dx. */
static void add_dx(const job *j, const memory *s, const place *at)
{
    const ohm_geometry *g = j->g;
    const ohm_read *r = j->r;
    float cells = g->differential && !g->digital ? 2.0f : 1.0f;
    if (r->read_cells) {
        multiply(CblasNoTrans, CblasTrans, at->count, at->rows, g->n, s->variance, g->n, s->cells,
                 g->n, 0.0f, s->dx, at->rows);
        for (size_t i = 0; i < (size_t)at->count * at->rows; i++)
            s->dx[i] *= 2.0f * s->x[i];
    }
    multiply(CblasNoTrans, CblasTrans, at->count, at->rows, g->n, s->current, g->n, s->w, g->n,
             r->read_cells ? 1.0f : 0.0f, s->dx, at->rows);
    for (int i = 0; i < at->count; i++) {
        double currents = 0.0, variances = 0.0;
        for (int n = 0; n < g->n; n++) {
            currents += s->current[(size_t)i * g->n + n];
            variances += s->variance[(size_t)i * g->n + n];
        }
        double common = g->digital ? g->pedestal * currents : 0.0,
               spread = 2.0 * cells * r->read_constant * variances;
        for (int ct = 0; ct < g->column_tiles && !g->differential; ct++) {
            common +=
                g->digital ? g->pedestal * s->ref_current[(size_t)i * g->column_tiles + ct] : 0.0;
            spread += 2.0 * r->read_constant * s->ref_variance[(size_t)i * g->column_tiles + ct];
        }
        for (int k = 0; k < at->rows; k++) {
            size_t cell = (size_t)i * at->rows + k;
            double d = s->dx[cell] + common + spread * s->x[cell];
            for (int ct = 0; ct < g->column_tiles && !g->differential; ct++) {
                size_t ref = ((size_t)at->slice * g->column_tiles + ct) * g->k + at->begin + k;
                d += (double)s->ref_current[(size_t)i * g->column_tiles + ct] * j->w->ref[ref];
                if (j->w->ref_variance)
                    d += 2.0 * s->x[cell] * s->ref_variance[(size_t)i * g->column_tiles + ct] *
                         j->w->ref_variance[ref];
            }
            j->d->dx[(size_t)(at->first + i) * j->d->lddx + at->begin + k] +=
                (float)(d * s->slope[cell]);
        }
    }
}

/* Gradients by slice 0's conductances, added to the group's partial sums. */
static void add_dg(const job *j, const memory *s, const place *at, const partial *p)
{
    const ohm_geometry *g = j->g;
    size_t base = ((size_t)at->array * g->k + at->begin) * g->n;
    multiply(CblasTrans, CblasNoTrans, at->rows, g->n, at->count, s->x, at->rows, s->current, g->n,
             1.0f, p->dg + base, g->n);
    if (j->r->read_cells)
        multiply(CblasTrans, CblasNoTrans, at->rows, g->n, at->count, s->square, at->rows,
                 s->variance, g->n, 1.0f, p->dvariance + base, g->n);
    float *johnson = p->djohnson + ((size_t)at->array * g->tiles + at->tile) * g->n;
    for (int i = 0; i < at->count && j->johnson_scale > 0.0; i++)
        for (int n = 0; n < g->n; n++)
            johnson[n] += (float)(j->johnson_scale * s->variance[(size_t)i * g->n + n]);
    for (int ct = 0; ct < g->column_tiles && !g->differential; ct++)
        for (int k = 0; k < at->rows; k++) {
            double current = 0.0, variance = 0.0, all = 0.0;
            for (int i = 0; i < at->count; i++) {
                size_t to = (size_t)i * g->column_tiles + ct, cell = (size_t)i * at->rows + k;
                current += (double)s->x[cell] * s->ref_current[to];
                variance += (double)s->square[cell] * s->ref_variance[to];
                all += s->ref_variance[to];
            }
            p->dref[(size_t)(at->begin + k) * g->column_tiles + ct] +=
                (float)(current + j->johnson_scale * all);
            p->dref_variance[(size_t)(at->begin + k) * g->column_tiles + ct] += (float)variance;
        }
}

static void read_backward(const job *j, const memory *s, const place *at, const partial *p)
{
    const ohm_geometry *g = j->g;
    const ohm_read *r = j->r;
    size_t array = ((size_t)at->slice * ohm_arrays(g) + at->array) * (size_t)g->k *
                   ohm_packed_columns(g),
           offset = 0;
    unpack(s->w, j->w->w + array, g, at);
    multiply(CblasNoTrans, CblasNoTrans, at->count, g->n, at->rows, s->x, at->rows, s->w, g->n,
             0.0f, s->current, g->n);
    if (r->read_cells) {
        unpack(s->cells, j->w->variance + array, g, at);
        multiply(CblasNoTrans, CblasNoTrans, at->count, g->n, at->rows, s->square, at->rows,
                 s->cells, g->n, 0.0f, s->variance, g->n);
    }
    if (r->read_noise || r->adc_noise > 0.0f)
        draw_read(j, s, at, &offset);
    convert_chain(j, s, at, offset);
    if (!g->differential)
        reference_chain(j, s, at, offset);
    if (at->plane == 0 && j->d->dx)
        add_dx(j, s, at);
    if (at->slice == 0)
        add_dg(j, s, at, p);
}

static void run_task(const job *j, const memory *s, const partial *p, int group, int groups,
                     int tile)
{
    const ohm_geometry *g = j->g;
    int m = j->d->m, from = (int)((int64_t)m * group / groups),
        to = (int)((int64_t)m * (group + 1) / groups);
    place at = {.tile = tile, .begin = ohm_tile_begin(g, tile)};
    at.rows = ohm_tile_begin(g, tile + 1) - at.begin;
    for (at.first = from; at.first < to; at.first += BLOCK) {
        at.count = to - at.first < BLOCK ? to - at.first : BLOCK;
        for (int i = 0; j->d->dx && i < at.count; i++)
            memset(j->d->dx + (size_t)(at.first + i) * j->d->lddx + at.begin, 0,
                   (size_t)at.rows * sizeof(float));
        for (at.phase = 0; at.phase < g->phases; at.phase++)
            for (at.plane = 0; at.plane < g->planes; at.plane++) {
                drive_block(j, s, &at);
                for (at.slice = 0; at.slice < g->slices; at.slice++)
                    for (at.array = 0; at.array < ohm_arrays(g); at.array++)
                        if (at.plane == 0 || at.slice == 0)
                            read_backward(j, s, &at, p);
            }
    }
}

/* Adds the groups' partial sums, in order, to the gradients of the separate cells. */
static void merge(const job *j, const partial *parts, int groups)
{
    const ohm_geometry *g = j->g;
    ohm_cell_gradient *c = j->d->cells;
    size_t cells = (size_t)g->k * g->n;
    int arrays = ohm_arrays(g), signs = g->differential ? 2 : 1;
#pragma omp parallel for schedule(static)
    for (int k = 0; k < g->k; k++) {
        int tile = 0;
        while (k >= ohm_tile_begin(g, tile + 1))
            tile++;
        for (int sign = 0; sign < signs; sign++)
            for (int n = 0; n < g->n; n++) {
                int array = arrays == 2 ? sign : 0;
                size_t from = (size_t)array * cells + (size_t)k * g->n + n,
                       to = (size_t)sign * cells + (size_t)k * g->n + n;
                double dg = 0.0, dvariance = 0.0, johnson = 0.0;
                for (int i = 0; i < groups; i++) {
                    dg += parts[i].dg[from];
                    dvariance += parts[i].dvariance[from];
                    johnson += parts[i].djohnson[((size_t)array * g->tiles + tile) * g->n + n];
                }
                c->dg[to] += (float)((sign && arrays == 1 ? -dg : dg) + johnson);
                c->dvariance[to] += (float)dvariance;
            }
        for (int ct = 0; ct < g->column_tiles && !g->differential; ct++) {
            double dref = 0.0, dvariance = 0.0;
            for (int i = 0; i < groups; i++) {
                dref += parts[i].dref[(size_t)k * g->column_tiles + ct];
                dvariance += parts[i].dref_variance[(size_t)k * g->column_tiles + ct];
            }
            int end = (ct + 1) * g->tile_columns < g->n ? (ct + 1) * g->tile_columns : g->n;
            for (int n = ct * g->tile_columns; n < end && !g->digital; n++)
                for (int i = 0; i < groups; i++)
                    dref -= parts[i].dg[(size_t)k * g->n + n];
            c->dref[(size_t)k * g->column_tiles + ct] += (float)dref;
            c->dref_variance[(size_t)k * g->column_tiles + ct] += (float)dvariance;
        }
    }
}

void ohm_mvm_backward(const ohm_mvm_gradient *d, const ohm_geometry *g, const ohm_read *r,
                      const ohm_tiles *w, double johnson_scale, void *scratch)
{
    job j = {.d = d, .g = g, .r = r, .w = w, .johnson_scale = johnson_scale};
    partial parts[GROUPS_MOST];
    memory unused;
    int groups = group_count(d->m);
    char *base = (char *)(((uintptr_t)scratch + ALIGN - 1) / ALIGN * ALIGN);
    size_t bytes = carve_partial(parts, g, base), each = carve_memory(&unused, g, NULL);
    memset(base, 0, bytes * (size_t)groups);
    for (int i = 0; i < groups; i++, base += bytes)
        carve_partial(&parts[i], g, base);
    tabulate(&j);
#pragma omp parallel
    {
        memory s;
        carve_memory(&s, g, base + each * (size_t)omp_get_thread_num());
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (int group = 0; group < groups; group++)
            for (int tile = 0; tile < g->tiles; tile++)
                run_task(&j, &s, &parts[group], group, groups, tile);
    }
    merge(&j, parts, groups);
}
