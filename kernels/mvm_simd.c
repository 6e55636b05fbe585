/* The fast MVM, one task: drive a block of up to 48 rows, and for each read multiply with 32-column
 * panels, add noise, convert, and add up codes. Compiled once per instruction set. Bound: 2·M·K·N
 * flop per plane, slice and array (twice with per-cell read variance); per conversion one draw and
 * about ten instructions per vector; panels of 32 x tile rows stay in the first-level cache. */
#include <math.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/mvm_task.h"
#include "kernels/normals.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif
#if defined(__AVX512F__)
typedef __m512 vec;
enum { LANES = 16, MICRO_ROWS = 12 };
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define SPLAT(x) _mm512_set1_ps(x)
#define ZERO _mm512_setzero_ps()
#define MULTIPLY_ADD(a, b, c) _mm512_fmadd_ps(a, b, c)
#elif defined(__AVX2__)
typedef __m256 vec;
enum { LANES = 8, MICRO_ROWS = 3 };
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define SPLAT(x) _mm256_set1_ps(x)
#define ZERO _mm256_setzero_ps()
#define MULTIPLY_ADD(a, b, c) _mm256_fmadd_ps(a, b, c)
#else
typedef float vec __attribute__((vector_size(16)));
typedef float loose_vec __attribute__((vector_size(16), aligned(4), may_alias)); /* anywhere in memory */
enum { LANES = 4, MICRO_ROWS = 1 };
#define LOAD(p) (*(const loose_vec *)(p))
#define STORE(p, v) (*(loose_vec *)(p) = (v))
#define SPLAT(x) ((vec){(x), (x), (x), (x)})
#define ZERO ((vec){0})
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

enum { BLOCK = OHM_ROW_BLOCK, GROUP = OHM_ROW_GROUP };

typedef struct {
    const ohm_mvm_job *job;
    const ohm_mvm_scratch *s;
    int row, rows, column, columns;         /* the task */
    int phase, plane, slice, array, tile;   /* the read */
    uint64_t first;                         /* global index of the task's first row */
    uint64_t noise_at;                      /* transform that s->noise holds */
    int kept;                               /* the read's place among those whose factors are written; -1: none */
} task;

static int wants_sums(const task *t)
{
    return t->job->to.sums || t->job->to.raw;
}

/* c[MICRO_ROWS][32] = a[rows][12 (MICRO_ROWS used)] x b[rows][vectors·LANES]; added in row order, so
 * that an output does not depend on where in a block its row stands. */
#define DEFINE_MICRO(name, VECTORS)                                                                \
    static void name(float *c, const float *a, const float *b, int rows)                           \
    {                                                                                              \
        vec sum[MICRO_ROWS][VECTORS];                                                              \
        _Pragma("GCC unroll 12") for (int i = 0; i < MICRO_ROWS; i++)                              \
            _Pragma("GCC unroll 8") for (int v = 0; v < (VECTORS); v++) sum[i][v] = ZERO;          \
        for (int r = 0; r < rows; r++, a += GROUP, b += (VECTORS) * LANES) {                       \
            vec column[VECTORS];                                                                   \
            _Pragma("GCC unroll 8") for (int v = 0; v < (VECTORS); v++) column[v] = LOAD(b + v * LANES); \
            _Pragma("GCC unroll 12") for (int i = 0; i < MICRO_ROWS; i++) {                        \
                vec drive = SPLAT(a[i]);                                                           \
                _Pragma("GCC unroll 8") for (int v = 0; v < (VECTORS); v++)                        \
                    sum[i][v] = MULTIPLY_ADD(drive, column[v], sum[i][v]);                         \
            }                                                                                      \
        }                                                                                          \
        _Pragma("GCC unroll 12") for (int i = 0; i < MICRO_ROWS; i++)                              \
            _Pragma("GCC unroll 8") for (int v = 0; v < (VECTORS); v++)                            \
                STORE(c + i * OHM_PANEL + v * LANES, sum[i][v]);                                   \
    }
DEFINE_MICRO(micro_panel, OHM_PANEL / LANES)
DEFINE_MICRO(micro_half, OHM_HALF_PANEL / LANES)

/* c[48][32] for rows [from, to) of a tile of `rows` word lines. */
static void multiply(float *c, const float *drive, const float *panel, int width, int rows, int from, int to, int used)
{
    for (int i = 0; i < used; i += MICRO_ROWS) {
        const float *a = drive + (size_t)(i / GROUP) * rows * GROUP + (size_t)from * GROUP + i % GROUP;
        const float *b = panel + (size_t)from * width;
        if (width == OHM_PANEL)
            micro_panel(c + i * OHM_PANEL, a, b, to - from);
        else
            micro_half(c + i * OHM_PANEL, a, b, to - from);
    }
}

static void draw(float *z, const task *t, uint32_t site, uint64_t transform, uint64_t per_sample)
{
    ohm_stream stream = t->job->r->stream;
    stream.site = site;
    if (t->job->r->exact_normals)
        ohm_normals_exact_block(z, 128, t->first, (size_t)t->rows, transform, per_sample, &stream);
    else
        ohm_normals_fast(z, 128, t->first, (size_t)t->rows, transform, per_sample, &stream);
}

static uint64_t draw_element(const task *t, int column)
{
    const ohm_geometry *g = t->job->g;
    return ohm_read_index(g, t->phase, t->plane, t->slice, t->array, t->tile) * (uint64_t)ohm_draw_pitch(g) + (uint64_t)column;
}

/* Normals of a panel: z[i*128 + j] for row i, packed column column + j. */
static const float *panel_noise(task *t, int column)
{
    uint64_t e = draw_element(t, column), per_sample = ohm_draw_transforms(t->job->g);
    if (t->noise_at != e >> 7) {
        const ohm_read *r = t->job->r;
        t->noise_at = e >> 7;
        draw(t->s->noise, t, r->read_noise ? OHM_SITE_READ : OHM_SITE_ADC_NOISE, e >> 7, per_sample);
        if (r->static_errors && r->read_noise && r->adc_noise > 0.0f)
            draw(t->s->noise2, t, OHM_SITE_ADC_NOISE, e >> 7, per_sample);
    }
    return t->s->noise + (e & 127);
}

/* ---- Drive ------------------------------------------------------------------------------- */

static float digit_of(const ohm_geometry *g, const float *level_of, unsigned code, int phase, int plane)
{
    unsigned shift = (unsigned)(plane * g->dac_bits), mask = (unsigned)g->max_digit;
    int is_signed = g->drive == OHM_DRIVE_TWO_PHASE || g->drive == OHM_DRIVE_SIGN_MAGNITUDE;
    unsigned magnitude = is_signed ? code & 127u : code;
    int negative = is_signed && code >> 7;
    float level = level_of[(magnitude >> shift) & mask];
    if (g->drive == OHM_DRIVE_TWO_PHASE)
        return negative == phase ? level : 0.0f;
    return negative ? -level : level;
}

/* One draw per row of x, input and plane, on the voltage: a non-linear cell sees it bent. */
static void add_dac_noise(task *t)
{
    const ohm_geometry *g = t->job->g;
    const ohm_read *r = t->job->r;
    uint64_t pitch = ohm_dac_pitch(g), per_sample = (uint64_t)g->phases * g->planes * pitch / 128;
    uint64_t base = ((uint64_t)t->phase * g->planes + t->plane) * pitch / 128;
    for (int k0 = 0, tile = 0; k0 < g->k; k0 += 128) {
        draw(t->s->noise, t, OHM_SITE_DAC_NOISE, base + (uint64_t)k0 / 128, per_sample);
        for (int k = k0; k < g->k && k < k0 + 128; k++) {
            while (k >= ohm_tile_begin(g, tile + 1))
                tile++;
            int begin = ohm_tile_begin(g, tile), rows = ohm_tile_begin(g, tile + 1) - begin;
            float *out = t->s->drive + (size_t)begin * BLOCK + (size_t)(k - begin) * GROUP;
            for (int i = 0; i < t->rows; i++) {
                float *drive = out + (size_t)(i / GROUP) * rows * GROUP + i % GROUP;
                *drive += r->dac_noise * t->s->noise[i * 128 + (k - k0)];
                if (r->iv != OHM_CELL_LINEAR)
                    *drive = (float)ohm_cell_drive(r->iv, r->iv_coefficient, r->v_read, g->max_digit, *drive, NULL);
            }
        }
    }
    t->noise_at = UINT64_MAX;
}

/* Four codes of four rows of x at one word line, lowest byte first. */
typedef uint32_t four_rows;

/* quad[k] = codes x[0..3][k] of 16 word lines. */
static inline void turn_sixteen(four_rows quad[16], const uint8_t *const x[4])
{
#if defined(__SSE2__)
    __m128i a = _mm_loadu_si128((const void *)x[0]), b = _mm_loadu_si128((const void *)x[1]);
    __m128i c = _mm_loadu_si128((const void *)x[2]), d = _mm_loadu_si128((const void *)x[3]);
    __m128i ab = _mm_unpacklo_epi8(a, b), cd = _mm_unpacklo_epi8(c, d);
    __m128i ab_high = _mm_unpackhi_epi8(a, b), cd_high = _mm_unpackhi_epi8(c, d);
    _mm_storeu_si128((void *)quad, _mm_unpacklo_epi16(ab, cd));
    _mm_storeu_si128((void *)(quad + 4), _mm_unpackhi_epi16(ab, cd));
    _mm_storeu_si128((void *)(quad + 8), _mm_unpacklo_epi16(ab_high, cd_high));
    _mm_storeu_si128((void *)(quad + 12), _mm_unpackhi_epi16(ab_high, cd_high));
#else
    for (int k = 0; k < 16; k++)
        quad[k] = (four_rows)x[0][k] | (four_rows)x[1][k] << 8 | (four_rows)x[2][k] << 16 | (four_rows)x[3][k] << 24;
#endif
}

typedef uint32_t words __attribute__((vector_size(16)));
typedef int32_t ints __attribute__((vector_size(16)));
typedef float floats __attribute__((vector_size(16)));
typedef float loose_floats __attribute__((vector_size(16), aligned(4), may_alias));

/* How a code becomes a digit where the DAC gives digits as they are. */
typedef struct {
    words shift, mask; /* of the digit in each byte of a quad */
    int drive, phase;
} digits;

static digits digits_of(const task *t)
{
    const ohm_geometry *g = t->job->g;
    uint32_t shift = (uint32_t)(t->plane * g->dac_bits), mask = (uint32_t)g->max_digit;
    if (g->drive == OHM_DRIVE_TWO_PHASE || g->drive == OHM_DRIVE_SIGN_MAGNITUDE)
        mask &= 127u >> shift;
    else
        mask &= 255u >> shift;
    return (digits){{shift, shift + 8, shift + 16, shift + 24}, {mask, mask, mask, mask}, g->drive, t->phase};
}

static inline floats drive_of(four_rows quad, const digits *d)
{
    static const words sign_up = {24, 16, 8, 0}; /* brings bit 7 of each byte to the top */
    words four = {quad, quad, quad, quad};
    ints digit = (ints)(four >> d->shift & d->mask), negative = (ints)(four << sign_up) >> 31;
    if (d->drive == OHM_DRIVE_SIGN_MAGNITUDE)
        digit = (digit ^ negative) - negative;
    else if (d->drive == OHM_DRIVE_TWO_PHASE)
        digit &= d->phase ? negative : ~negative;
    return __builtin_convertvector(digit, floats);
}

static int gives_digits(const ohm_geometry *g, const float *level_of)
{
    int same = 1;
    for (int digit = 0; digit <= g->max_digit; digit++)
        same &= level_of[digit] == (float)digit;
    return same;
}

/* out[k][12], columns 4 quarter .. 4 quarter + 3, from four rows of codes; a row that is NULL gives zeros. */
static void drive_quarter(float *out, const uint8_t *const row[4], int rows, const digits *d)
{
    static const uint8_t zeros[16];
    for (int k = 0; k < rows; k += 16, out += 16 * GROUP) {
        int some = rows - k < 16 ? rows - k : 16;
        uint8_t rest[4][16] = {{0}};
        const uint8_t *x[4];
        four_rows quad[16];
        for (int i = 0; i < 4; i++) {
            x[i] = row[i] ? row[i] + k : zeros;
            if (some < 16)
                x[i] = memcpy(rest[i], x[i], (size_t)some);
        }
        turn_sixteen(quad, x);
        for (int j = 0; j < some; j++)
            *(loose_floats *)(out + j * GROUP) = drive_of(quad[j], d);
    }
}

/* The drive of a group of rows on one tile, digits as they are. */
static void drive_digits(float *out, const task *t, int first, int begin, int rows, const digits *d)
{
    const ohm_mvm_job *job = t->job;
    for (int quarter = 0; quarter < GROUP; quarter += 4) {
        const uint8_t *row[4];
        for (int i = 0; i < 4; i++) {
            int at = first + quarter + i;
            row[i] = at < t->rows ? job->x_u + (size_t)(t->row + at) * job->ldx + begin : NULL;
        }
        drive_quarter(out + quarter, row, rows, d);
    }
}

/* The same through the levels of a DAC or cell that bends them. */
static void drive_levels(float *out, const task *t, int first, int begin, int rows, const float level[256])
{
    for (int i = 0; i < GROUP; i++) {
        int at = first + i;
        const uint8_t *x = t->job->x_u + (size_t)(t->row + at) * t->job->ldx + begin;
        for (int k = 0; k < rows; k++)
            out[k * GROUP + i] = at < t->rows ? level[x[k]] : 0.0f;
    }
}

/* Sums over the word lines of a tile, of the drive and of its square, for a group of rows. */
static void sum_drive(double total[GROUP], float power[GROUP], const float *in, int rows)
{
    typedef double doubles __attribute__((vector_size(32)));
    for (int i = 0; i < GROUP; i += 4) {
        doubles sum = {0};
        floats squares = {0};
        for (int k = 0; k < rows; k++) {
            floats drive = *(const loose_floats *)(in + k * GROUP + i);
            sum += __builtin_convertvector(drive, doubles);
            squares += drive * drive;
        }
        memcpy(total + i, &sum, sizeof sum);
        memcpy(power + i, &squares, sizeof squares);
    }
}

/* Total and power of one phase and plane, for those who ask for them. */
static void sum_tiles(task *t, int groups)
{
    const ohm_geometry *g = t->job->g;
    for (int tile = 0; tile < g->tiles; tile++) {
        int begin = ohm_tile_begin(g, tile), rows = ohm_tile_begin(g, tile + 1) - begin;
        const float *in = t->s->drive + (size_t)begin * BLOCK;
        double *total = t->s->total + (size_t)tile * BLOCK;
        float *power = t->s->power + (size_t)tile * BLOCK;
        memset(total, 0, BLOCK * sizeof *total);
        memset(power, 0, BLOCK * sizeof *power);
        if (!g->digital && t->job->r->read_constant == 0.0f)
            continue;
        for (int group = 0; group < groups; group++, in += (size_t)rows * GROUP)
            sum_drive(total + group * GROUP, power + group * GROUP, in, rows);
    }
}

/* Fills drive, square, total and power for one phase and plane. */
static void drive_rows(task *t)
{
    const ohm_mvm_job *job = t->job;
    const ohm_geometry *g = job->g;
    const ohm_mvm_scratch *s = t->s;
    float level[256];
    int groups = (t->rows + GROUP - 1) / GROUP, noisy = job->r->dac_noise > 0.0f && !job->r->quiet && !job->range;
    const float *level_of = noisy ? job->r->dac_level : job->r->drive_level;
    int plain = gives_digits(g, level_of);
    digits d = digits_of(t);
    for (unsigned code = 0; code < 256 && !plain; code++)
        level[code] = digit_of(g, level_of, code, t->phase, t->plane);
    for (int tile = 0; tile < g->tiles; tile++) {
        int begin = ohm_tile_begin(g, tile), rows = ohm_tile_begin(g, tile + 1) - begin;
        float *out = s->drive + (size_t)begin * BLOCK;
        for (int group = 0; group < groups; group++, out += (size_t)rows * GROUP) {
            if (plain)
                drive_digits(out, t, group * GROUP, begin, rows, &d);
            else
                drive_levels(out, t, group * GROUP, begin, rows, level);
        }
    }
    if (noisy)
        add_dac_noise(t);
    sum_tiles(t, groups);
    if (job->r->read_cells)
        for (size_t i = 0, count = (size_t)g->k * BLOCK; i < count; i++)
            s->square[i] = s->drive[i] * s->drive[i];
}

/* ---- Conversion -------------------------------------------------------------------------- */

typedef struct { /* one column's static errors; zeros where off */
    float gain, offset, s_shape;
} column_error;

/* The analogue value at the ADC in LSB, without ADC noise; *slope: its derivative by the value in LSB. */
static float bend(float *slope, const ohm_read *r, float high, float value, column_error e)
{
    *slope = 1.0f + e.gain;
    if (e.s_shape != 0.0f) {
        float y = value / high, bent = 1.0f / (1.0f + fabsf(e.s_shape * y));
        value = high * (y * (1.0f + fabsf(e.s_shape)) / (1.0f + fabsf(e.s_shape * y)));
        *slope *= (1.0f + fabsf(e.s_shape)) * bent * bent;
    }
    value = value * (1.0f + e.gain) + e.offset;
    if (r->inl != 0.0f) {
        *slope *= 1.0f + r->inl * (float)ohm_inl_slope((double)(value / high)) / high;
        value += r->inl * (float)ohm_inl_shape((double)(value / high));
    }
    return value;
}

/* Derivative of z·sigma by sigma squared. */
static inline float spread_of(float z, float sigma)
{
    return sigma > 0.0f ? z / (2.0f * sigma) : 0.0f;
}

static float limit(float value, float low, float high)
{
    return value > low ? (value < high ? value : high) : low;
}

/* LSB of packed column c of this read. */
static float lsb_at(const task *t, int column)
{
    const ohm_geometry *g = t->job->g;
    const ohm_read *r = t->job->r;
    const float *lsb = r->lsb + ((size_t)t->plane * g->slices + t->slice) * (r->lsb_per_column ? g->n : 1);
    if (!r->lsb_per_column)
        return lsb[0];
    int n = ohm_output_of(g, column);
    return lsb[n < g->n ? n : g->n - 1];
}

static size_t column_base(const task *t)
{
    const ohm_geometry *g = t->job->g;
    return (((size_t)t->slice * ohm_arrays(g) + t->array) * g->tiles + t->tile) * ohm_packed_columns(g);
}

enum { KEEP_NOTHING, KEEP_SLOPE, KEEP_SPREAD };

/* The common case: one draw, no static errors. Loops of fixed shape that the compiler turns into vectors.
 * Factors that are kept take the place of what they are made of: the slope of currents, the spread of
 * variances (values only where `cells` is set). */
static inline void convert_plain(int32_t *restrict codes, int ld, float *restrict current, float *restrict variance,
                                 const float *restrict z, const float *restrict pre, const float *restrict power,
                                 const float *restrict inverse, const float *restrict johnson, float adc_variance, float low,
                                 float high, int rows, int width, int noisy, int cells, int keep)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < width; j++) {
            float value = (current[i * OHM_PANEL + j] + pre[i]) * inverse[j], sigma = 0.0f;
            if (noisy) {
                float v = power[i] + johnson[j];
                if (cells)
                    v += variance[i * OHM_PANEL + j];
                sigma = sqrtf(v * (inverse[j] * inverse[j]) + adc_variance);
                value += z[i * 128 + j] * sigma;
            }
            if (keep == KEEP_SLOPE)
                current[i * OHM_PANEL + j] = value >= low && value <= high ? 1.0f : 0.0f;
            if (keep == KEEP_SPREAD) { /* by the variance of the current: inverse squared, times LSB */
                float spread = sigma > 0.0f ? z[i * 128 + j] * inverse[j] / (2.0f * sigma) : 0.0f;
                variance[i * OHM_PANEL + j] = value >= low && value <= high ? spread : INFINITY;
            }
            value = value > low ? value : low; /* an overflow's NaN, too, is a code */
            value = value < high ? value : high;
            codes[(size_t)i * ld + j] += (int32_t)rintf(value);
        }
}

/* Everything: S-shape, gain, offset, INL between the read noise and the ADC's own. Leaves slope and spread
 * where convert_plain does. */
static void convert_general(const task *t, int32_t *codes, int ld, const float *z, const float *pre, const float *power,
                            const float *inverse, const float *johnson, int column, int width)
{
    const ohm_geometry *g = t->job->g;
    const ohm_read *r = t->job->r;
    const ohm_tiles *w = t->job->w;
    const float *z_adc = r->read_noise ? t->s->noise2 + (z - t->s->noise) : z;
    float low = ohm_adc_low(g, r), high = ohm_adc_high(g, r);
    size_t base = column_base(t) + (size_t)column;
    for (int j = 0; j < width; j++) {
        column_error e = {w->gain ? w->gain[base + j] : 0.0f, w->offset ? w->offset[base + j] : 0.0f,
                          w->s_shape ? w->s_shape[base + j] : 0.0f};
        for (int i = 0; i < t->rows; i++) {
            float value = t->s->current[i * OHM_PANEL + j] + pre[i], slope, spread = 0.0f;
            if (r->read_noise) {
                float v = power[i] + johnson[j];
                if (r->read_cells)
                    v += t->s->variance[i * OHM_PANEL + j];
                value += z[i * 128 + j] * sqrtf(v);
                spread = spread_of(z[i * 128 + j], sqrtf(v));
            }
            value = bend(&slope, r, high, value * inverse[j], e);
            if (r->adc_noise > 0.0f)
                value += r->adc_noise * z_adc[i * 128 + j];
            slope = value >= low && value <= high ? slope : 0.0f;
            t->s->current[i * OHM_PANEL + j] = slope;
            t->s->variance[i * OHM_PANEL + j] = slope * spread;
            codes[(size_t)i * ld + j] += (int32_t)rintf(limit(value, low, high));
        }
    }
}

/* ---- Factors ------------------------------------------------------------------------------- */

static void *factors_of_row(const task *t, int i)
{
    return (char *)t->job->to.factors + (size_t)(t->row + i) * t->job->factors.row_bytes;
}

/* What a panel's conversions left in current (slope) and variance (spread). */
static void keep_panel(const task *t, int column, int width)
{
    const ohm_geometry *g = t->job->g;
    const ohm_mvm_factors *f = &t->job->factors;
    int n = ohm_output_of(g, column), count = ohm_outputs_within(g, column, width);
    if (t->kept < 0 || count <= 0)
        return;
    for (int i = 0; i < t->rows; i++) {
        void *row = factors_of_row(t, i);
        const float *slope = t->s->current + i * OHM_PANEL, *spread = t->s->variance + i * OHM_PANEL;
        if (f->slope)
            memcpy((float *)row + ohm_mvm_slope_at(f, t->kept) + n, slope, (size_t)count * sizeof *slope);
        if (f->spread)
            memcpy((float *)row + ohm_mvm_spread_at(f, t->kept) + n, spread, (size_t)count * sizeof *spread);
        for (int j = 0; f->bits && j < width; j += 16) {
            unsigned bits = 0;
            for (int b = 0; b < 16; b++)
                bits |= (unsigned)(slope[j + b] != 0.0f) << b;
            ((uint16_t *)row + ohm_mvm_bits_at(f, t->kept))[(column + j) / 16] = (uint16_t)bits;
        }
    }
}

/* The same of one reference read; spread: that of the current before the converter. Tasks that share a
 * column tile read its reference each, and the first keeps it. */
static void keep_reference(const task *t, int ct, int i, float slope, float spread)
{
    const ohm_geometry *g = t->job->g;
    const ohm_mvm_factors *f = &t->job->factors;
    if (t->kept < 0 || ct * ohm_tile_pitch(g) < t->column)
        return;
    void *row = factors_of_row(t, i);
    if (f->slope)
        ((float *)row + ohm_mvm_slope_at(f, t->kept))[g->n + ct] = slope;
    if (f->spread)
        ((float *)row + ohm_mvm_spread_at(f, t->kept))[g->n + ct] = slope == 0.0f && !f->slope ? INFINITY : slope * spread;
    if (f->bits)
        ((uint16_t *)row + ohm_mvm_bits_at(f, t->kept))[ohm_packed_columns(g) / 16 + ct] = slope != 0.0f;
}

/* ---- Reference columns of offset weights --------------------------------------------------- */

/* What the reference column of a column tile adds before, or subtracts after, conversion. */
static void read_reference(task *t, int ct)
{
    const ohm_mvm_job *job = t->job;
    const ohm_geometry *g = job->g;
    const ohm_read *r = job->r;
    const ohm_tiles *w = job->w;
    int begin = ohm_tile_begin(g, t->tile), rows = ohm_tile_begin(g, t->tile + 1) - begin, noisy = !r->quiet && !job->range;
    size_t cells = ((size_t)t->slice * g->column_tiles + ct) * g->k + begin;
    size_t one = ((size_t)t->slice * g->tiles + t->tile) * g->column_tiles + ct;
    float *pre = t->s->ref_pre + (size_t)ct * BLOCK;
    double *post = t->s->ref_post + (size_t)ct * BLOCK;
    uint64_t e = draw_element(t, ohm_packed_columns(g) + ct), per_sample = ohm_draw_transforms(g);
    int drawn = noisy && (r->read_noise || (g->digital && r->adc_noise > 0.0f && r->adc_bits > 0));
    float *noise = t->s->ref_noise, *adc_noise = noise + BLOCK * 128;
    if (drawn && r->read_noise)
        draw(noise, t, OHM_SITE_READ, e >> 7, per_sample);
    if (drawn && g->digital && r->adc_noise > 0.0f)
        draw(adc_noise, t, OHM_SITE_ADC_NOISE, e >> 7, per_sample);
    for (int i = 0; i < t->rows; i++) {
        const float *a = t->s->drive + (size_t)begin * BLOCK + (size_t)(i / GROUP) * rows * GROUP + i % GROUP;
        double current = 0.0, variance = 0.0;
        for (int k = 0; k < rows; k++) {
            current += (double)a[k * GROUP] * w->ref[cells + k];
            if (w->ref_variance)
                variance += (double)a[k * GROUP] * a[k * GROUP] * w->ref_variance[cells + k];
        }
        double noise_value = 0.0;
        float spread = 0.0f, slope = 1.0f;
        if (noisy && r->read_noise) {
            variance += (double)r->read_constant * t->s->power[(size_t)t->tile * BLOCK + i] + (w->ref_johnson ? w->ref_johnson[one] : 0.0f);
            noise_value = noise[i * 128 + (e & 127)] * sqrt(variance);
            spread = spread_of(noise[i * 128 + (e & 127)], (float)sqrt(variance));
        }
        if (!g->digital) {
            pre[i] = (float)-noise_value;
            keep_reference(t, ct, i, slope, spread);
            continue;
        }
        current += g->pedestal * t->s->total[(size_t)t->tile * BLOCK + i] + noise_value;
        if (r->adc_bits == 0 || r->quiet || job->range) {
            post[i] = current;
            keep_reference(t, ct, i, slope, spread);
            continue;
        }
        column_error error = {w->ref_gain ? w->ref_gain[one] : 0.0f, w->ref_offset ? w->ref_offset[one] : 0.0f,
                              w->ref_s_shape ? w->ref_s_shape[one] : 0.0f};
        float lsb = lsb_at(t, ct * ohm_tile_pitch(g)), high = ohm_adc_high(g, r);
        float value = bend(&slope, r, high, (float)(current / lsb), error), low = ohm_adc_low(g, r);
        if (r->adc_noise > 0.0f)
            value += r->adc_noise * adc_noise[i * 128 + (e & 127)];
        keep_reference(t, ct, i, value >= low && value <= high ? slope : 0.0f, spread);
        post[i] = (double)lsb * rintf(limit(value, low, high));
    }
}

/* ---- One read ------------------------------------------------------------------------------ */

/* Sums of a read without an ADC, in double; a tile whose sum could exceed 2^24 is cut into exact pieces. */
static void accumulate(const task *t, const float *panel, int column, int width, double weight, const float *z, const float *johnson,
                       const float *power)
{
    const ohm_geometry *g = t->job->g;
    const ohm_read *r = t->job->r;
    int begin = ohm_tile_begin(g, t->tile), rows = ohm_tile_begin(g, t->tile + 1) - begin;
    int exact = (1 << 24) / (g->max_digit * g->max_level), ct = column / ohm_tile_pitch(g);
    const float *drive = t->s->drive + (size_t)begin * BLOCK;
    const float *pre = t->s->ref_pre + (size_t)ct * BLOCK;
    const double *post = t->s->ref_post + (size_t)ct * BLOCK, *total = t->s->total + (size_t)t->tile * BLOCK;
    float *c = t->s->current;
    for (int from = 0; from < rows && wants_sums(t); from += exact) {
        int to = from + exact < rows ? from + exact : rows;
        multiply(c, drive, panel, width, rows, from, to, t->rows);
        for (int i = 0; i < t->rows; i++) {
            double *sums = t->s->sums + (size_t)i * t->columns + (column - t->column);
            for (int j = 0; j < width; j++)
                sums[j] += weight * c[i * OHM_PANEL + j];
        }
    }
    int reference = !g->differential, single = g->digital, noisy = r->read_noise && !r->quiet;
    if (!reference && !single && !noisy)
        return;
    for (int i = 0; i < t->rows; i++) {
        double *sums = t->s->sums + (size_t)i * t->columns + (column - t->column);
        double common = (single ? g->pedestal * total[i] : 0.0) + (reference ? (g->digital ? -post[i] : pre[i]) : 0.0);
        for (int j = 0; j < width; j++) {
            double value = common;
            if (noisy) {
                float v = power[i] + johnson[j] + (r->read_cells ? t->s->variance[i * OHM_PANEL + j] : 0.0f);
                value += z[i * 128 + j] * sqrtf(v);
                t->s->variance[i * OHM_PANEL + j] = spread_of(z[i * 128 + j], sqrtf(v));
            }
            sums[j] += weight * value;
        }
    }
}

static void count_current(const ohm_mvm_job *job, size_t range, float current)
{
    int bin = job->range[range] > 0.0f ? (int)(current / job->range[range] * (float)job->bins) : 0;
#pragma omp atomic
    job->histogram[range * (size_t)job->bins + (size_t)(bin < job->bins ? bin : job->bins - 1)]++;
}

/* Currents of a panel; with the first of a column tile those of its digital reference, whose
 * converter has the range of that column. */
static void count_currents(const task *t, const float *pre, const double *reference, int column, int width)
{
    const ohm_mvm_job *job = t->job;
    const ohm_geometry *g = job->g;
    for (int j = 0; j < width; j++) {
        int n = ohm_output_of(g, column + j);
        if (ohm_outputs_within(g, column + j, 1) < 1)
            continue;
        size_t at = ((size_t)t->plane * g->slices + t->slice) * (job->range_per_column ? g->n : 1) + (job->range_per_column ? n : 0);
        for (int i = 0; i < t->rows; i++)
            count_current(job, at, fabsf(t->s->current[i * OHM_PANEL + j] + pre[i]));
        for (int i = 0; reference && j == 0 && i < t->rows; i++)
            count_current(job, at, fabsf((float)reference[i]));
    }
}

static void raise_range(const task *t, const float *pre, int column, int width)
{
    const ohm_geometry *g = t->job->g;
    int pitch = ohm_tile_pitch(g), referred = !g->differential && g->digital && column % pitch == 0;
    const double *reference = referred ? t->s->ref_post + (size_t)(column / pitch) * BLOCK : NULL;
    if (t->job->histogram) {
        count_currents(t, pre, reference, column, width);
        return;
    }
    float *range = t->s->range + ((size_t)t->plane * g->slices + t->slice) * t->columns + (column - t->column);
    for (int i = 0; i < t->rows; i++)
        for (int j = 0; j < width; j++) {
            float value = fabsf(t->s->current[i * OHM_PANEL + j] + pre[i]);
            range[j] = value > range[j] ? value : range[j];
        }
    for (int i = 0; reference && i < t->rows; i++)
        range[0] = fmaxf(range[0], fabsf((float)reference[i]));
}

static void read_panel(task *t, int column, double weight)
{
    const ohm_mvm_job *job = t->job;
    const ohm_geometry *g = job->g;
    const ohm_read *r = job->r;
    static const float zeros[OHM_PANEL];
    int width = ohm_panel_width(g, column), begin = ohm_tile_begin(g, t->tile), rows = ohm_tile_begin(g, t->tile + 1) - begin;
    size_t array = ((size_t)t->slice * ohm_arrays(g) + t->array) * (size_t)g->k * ohm_packed_columns(g);
    size_t at = array + ohm_packed_index(g, t->tile, 0, column);
    const float *drive = t->s->drive + (size_t)begin * BLOCK, *square = t->s->square + (size_t)begin * BLOCK;
    int read_noise = r->read_noise && !r->quiet && !job->range, convert = r->adc_bits > 0 && !r->quiet;
    float power[BLOCK], pre[BLOCK], inverse[OHM_PANEL];
    float cells = g->differential && !g->digital ? 2.0f : 1.0f;

    if (read_noise && r->read_cells)
        multiply(t->s->variance, square, job->w->variance + at, width, rows, 0, rows, t->rows);
    const float *johnson = read_noise && job->w->johnson ? job->w->johnson + column_base(t) + column : zeros;
    for (int i = 0; i < t->rows; i++)
        power[i] = cells * r->read_constant * t->s->power[(size_t)t->tile * BLOCK + i];
    if (!job->range && !convert) {
        accumulate(t, job->w->w + at, column, width, weight, read_noise ? panel_noise(t, column) : NULL, johnson, power);
        keep_panel(t, column, width);
        return;
    }
    multiply(t->s->current, drive, job->w->w + at, width, rows, 0, rows, t->rows);
    for (int i = 0; i < t->rows; i++) {
        pre[i] = g->digital ? (float)(g->pedestal * t->s->total[(size_t)t->tile * BLOCK + i]) : 0.0f;
        if (!g->differential && !g->digital && !job->range)
            pre[i] += t->s->ref_pre[(size_t)(column / ohm_tile_pitch(g)) * BLOCK + i];
    }
    if (job->range) {
        raise_range(t, pre, column, width);
        return;
    }
    for (int j = 0; j < width; j++)
        inverse[j] = 1.0f / lsb_at(t, column + j);
    int noisy = read_noise || r->adc_noise > 0.0f;
    const float *z = noisy ? panel_noise(t, column) : NULL;
    int32_t *codes = t->s->codes + (column - t->column);
    float low = ohm_adc_low(g, r), high = ohm_adc_high(g, r), adc = r->adc_noise * r->adc_noise;
    int keep = t->kept < 0 ? KEEP_NOTHING : job->factors.spread ? KEEP_SPREAD : KEEP_SLOPE;
    float *current = t->s->current, *variance = t->s->variance;
#define CONVERT(width, noisy, cells, keep)                                                         \
    convert_plain(codes, t->columns, current, variance, z, pre, power, inverse, johnson, adc, low, high, t->rows, width, noisy, cells, keep)
    if (r->static_errors)
        convert_general(t, codes, t->columns, z, pre, power, inverse, johnson, column, width);
    else if (!noisy)
        CONVERT(width, 0, 0, keep);
    else if (keep == KEEP_SLOPE)
        CONVERT(width, 1, 0, KEEP_SLOPE);
    else if (keep && r->read_cells)
        CONVERT(width, 1, 1, KEEP_SPREAD);
    else if (keep)
        CONVERT(width, 1, 0, KEEP_SPREAD);
    else if (r->read_cells)
        CONVERT(width, 1, 1, KEEP_NOTHING);
    else if (width == OHM_PANEL)
        CONVERT(OHM_PANEL, 1, 0, KEEP_NOTHING);
    else
        CONVERT(OHM_HALF_PANEL, 1, 0, KEEP_NOTHING);
#undef CONVERT
    keep_panel(t, column, width);
}

/* All row tiles of one phase, plane, slice and array. */
static void read_array(task *t)
{
    const ohm_geometry *g = t->job->g;
    const ohm_read *r = t->job->r;
    if (!wants_sums(t) && !t->job->range && t->plane > 0 && t->slice > 0) /* a read whose factors nobody needs */
        return;
    int convert = r->adc_bits > 0 && !r->quiet && !t->job->range;
    double weight = ldexp(t->phase || t->array ? -1.0 : 1.0, t->plane * g->dac_bits + t->slice * g->cell_bits);
    if (t->phase && t->array)
        weight = -weight;
    int pitch = ohm_tile_pitch(g), first = t->column / pitch, end = (t->column + t->columns + pitch - 1) / pitch;
    if (convert)
        memset(t->s->codes, 0, (size_t)BLOCK * t->columns * sizeof *t->s->codes);
    memset(t->s->ref_sums, 0, (size_t)g->column_tiles * BLOCK * sizeof *t->s->ref_sums);
    for (t->tile = 0; t->tile < g->tiles; t->tile++) {
        t->kept = t->job->to.factors ? ohm_mvm_kept_read(g, t->phase, t->plane, t->slice, t->array, t->tile) : -1;
        for (int ct = first; !g->differential && (g->digital || !t->job->range) && ct < end; ct++) {
            read_reference(t, ct);
            for (int i = 0; convert && g->digital && i < t->rows; i++)
                t->s->ref_sums[ct * BLOCK + i] += t->s->ref_post[ct * BLOCK + i];
        }
        for (int c = t->column; c < t->column + t->columns; c += ohm_panel_width(g, c))
            read_panel(t, c, weight);
    }
    if (!convert)
        return;
    for (int c = t->column; c < t->column + t->columns; c += pitch - c % pitch) { /* columns that share a reference */
        int from = c - t->column, left = pitch - c % pitch, to = from + left < t->columns ? from + left : t->columns;
        for (int j = from; j < to; j++)
            t->s->lsb[j] = lsb_at(t, t->column + j);
        for (int i = 0; i < t->rows; i++) {
            double *sums = t->s->sums + (size_t)i * t->columns, ref = t->s->ref_sums[(size_t)(c / pitch) * BLOCK + i];
            const int32_t *codes = t->s->codes + (size_t)i * t->columns;
            for (int j = from; j < to; j++)
                sums[j] += weight * ((double)t->s->lsb[j] * codes[j] - ref);
        }
    }
}

/* One row of sums to the caller: corrections in double, then a float. */
static void deliver(const task *t, int i)
{
    const ohm_mvm_job *job = t->job;
    const ohm_geometry *g = job->g;
    double *sums = t->s->sums + (size_t)i * t->columns;
    size_t row = (size_t)(t->row + i) * job->to.lds;
    int pitch = ohm_tile_pitch(g);
    for (int c = t->column; c < t->column + t->columns; c += pitch - c % pitch) {
        double *from = sums + (c - t->column);
        int first = ohm_output_of(g, c), count = ohm_outputs_within(g, c, t->column + t->columns - c);
        if (job->to.raw)
            for (int j = 0; j < count; j++)
                job->to.raw[row + first + j] = from[j];
        else
            for (int j = 0; j < count; j++)
                job->to.sums[row + first + j] = (float)ohm_correct(job->r, from[j], first + j);
    }
}

void OHM_SIMD(ohm_mvm_task)(const ohm_mvm_job *job, const ohm_mvm_scratch *s, int row, int rows, int column, int columns)
{
    const ohm_geometry *g = job->g;
    task t = {.job = job, .s = s, .row = row, .rows = rows, .column = column, .columns = columns,
              .first = job->first_row + (uint64_t)row, .noise_at = UINT64_MAX};
    memset(s->sums, 0, (size_t)BLOCK * columns * sizeof *s->sums);
    if (job->range)
        memset(s->range, 0, (size_t)g->planes * g->slices * columns * sizeof *s->range);
    for (t.phase = 0; t.phase < g->phases; t.phase++)
        for (t.plane = 0; t.plane < g->planes; t.plane++) {
            drive_rows(&t);
            for (t.slice = 0; t.slice < g->slices; t.slice++)
                for (t.array = 0; t.array < ohm_arrays(g); t.array++)
                    read_array(&t);
        }
    for (int i = 0; i < rows && wants_sums(&t); i++)
        deliver(&t, i);
}
