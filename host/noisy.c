#include "host/noisy.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host/device.h"
#include "kernels/quantise.h"

enum {
    ALIGN = 64,
    BIAS_COARSE = 8,
    BIAS_ROWS = BIAS_COARSE + 1,
    QUANTISE_ROWS = 64,
    QUANTISE_CHUNK = 1 << 14,
    BINS_LAYER = 1024,
    BINS_COLUMN = 128
};

/* The persistent floats: x full scale, batches it has seen, batches the ADC ranges have seen, LSB[]. */
enum { X_FULL_SCALE, X_BATCHES, ADC_BATCHES, LSB_FIRST };

typedef enum { MEASURE_NOT, MEASURE_MAX, MEASURE_COUNT } measure;

struct ohm_noisy {
    ohm_hardware hardware;
    ohm_chip *chip;
    ohm_geometry g;
    int k, n, rows; /* rows: k and the always-on rows of the bias */
    int codes;      /* q = 2^(bits-1)-1 */
    uint32_t layer;
    size_t ranges; /* planes·slices·(n or 1) */
    float *persistent;
    float *range;        /* [ranges] currents of the present measurement */
    float *w_scale;      /* [n] s_w */
    float *bias;         /* [n] what is added digitally */
    int32_t *bias_codes; /* [n] b_q */
    ohm_noisy_pass pass;
    float x_scale; /* s_x; 0 = one per row */
    int programmed; /* the chip of this pass holds the weights: done with the first rows, whose codes program sees */
    measure stage;
};

/* ---- Life and memory ------------------------------------------------------------------------- */

static size_t persistent_count(const ohm_noisy *y)
{
    return LSB_FIRST + y->ranges;
}

static int needs_currents(const ohm_noisy *y)
{
    int kind = y->hardware.adc.range.kind;
    return y->hardware.adc.bits > 0 &&
           (kind == OHM_ADC_DATA || kind == OHM_ADC_CALIBRATED || kind == OHM_ADC_RUNNING);
}

static ohm_status make_chip(ohm_noisy *y, const ohm_hardware *hardware)
{
    ohm_chip *chip = NULL;
    OHM_TRY(ohm_chip_create(&chip, hardware, y->rows, y->n, y->layer));
    ohm_chip_destroy(y->chip);
    y->chip = chip;
    y->hardware = *hardware;
    ohm_device_geometry(&y->g, ohm_chip_get_shape(chip));
    if (needs_currents(y) && !ohm_chip_simulator(chip)->measures_range)
        return OHM_FAIL(
            OHM_ERR_CONFIG,
            "adc.range: simulator '%s' measures no currents: use max, granular or a number",
            ohm_chip_simulator(chip)->name);
    return OHM_OK;
}

ohm_status ohm_noisy_create(ohm_noisy **out, const ohm_hardware *hardware, int k, int n,
                            uint32_t layer)
{
    ohm_noisy *y = calloc(1, sizeof *y);
    if (!y)
        return OHM_FAIL(OHM_ERR_MEMORY, "noisy layer %u: out of memory", layer);
    *y = (ohm_noisy){.k = k,
                     .n = n,
                     .layer = layer,
                     .rows = k + (hardware->bias == OHM_BIAS_ROWS ? BIAS_ROWS : 0),
                     .codes = (1 << (hardware->quantise.bits - 1)) - 1};
    ohm_status status = make_chip(y, hardware);
    if (status == OHM_OK) {
        y->ranges = (size_t)y->g.planes * y->g.slices *
                    (hardware->adc.granularity == OHM_ADC_PER_COLUMN ? n : 1);
        y->persistent = calloc(persistent_count(y), sizeof *y->persistent);
        y->range = calloc(y->ranges, sizeof *y->range);
        y->w_scale = calloc((size_t)n, sizeof *y->w_scale);
        y->bias = calloc((size_t)n, sizeof *y->bias);
        y->bias_codes = calloc((size_t)n, sizeof *y->bias_codes);
        if (!y->persistent || !y->range || !y->w_scale || !y->bias || !y->bias_codes)
            status = OHM_FAIL(OHM_ERR_MEMORY, "noisy layer %u: out of memory", layer);
    }
    if (status != OHM_OK) {
        ohm_noisy_destroy(y);
        return status;
    }
    *out = y;
    return OHM_OK;
}

void ohm_noisy_destroy(ohm_noisy *y)
{
    if (!y)
        return;
    ohm_chip_destroy(y->chip);
    free(y->persistent);
    free(y->range);
    free(y->w_scale);
    free(y->bias);
    free(y->bias_codes);
    free(y);
}

ohm_status ohm_noisy_set_hardware(ohm_noisy *y, const ohm_hardware *hardware)
{
    size_t before = ohm_chip_state_bytes(y->chip, 0),
           scratch = ohm_chip_scratch_bytes(y->chip, 1, 0), ranges = y->ranges;
    OHM_TRY(make_chip(y, hardware));
    size_t now = (size_t)y->g.planes * y->g.slices *
                 (hardware->adc.granularity == OHM_ADC_PER_COLUMN ? y->n : 1);
    if (ohm_chip_state_bytes(y->chip, 0) > before ||
        ohm_chip_scratch_bytes(y->chip, 1, 0) > scratch || now != ranges)
        return OHM_FAIL(
            OHM_ERR_ARGUMENT,
            "noisy layer %u: the new chip needs another memory plan: create the network with it",
            y->layer);
    return OHM_OK;
}

int ohm_noisy_has_learned_range(const ohm_noisy *y)
{
    return y->hardware.quantise.x_range.kind == OHM_RANGE_LEARNED;
}

int ohm_noisy_has_column_scale(const ohm_noisy *y)
{
    return y->hardware.output.per_column_scale;
}

float *ohm_noisy_persistent(ohm_noisy *y, size_t *count)
{
    *count = persistent_count(y);
    return y->persistent;
}

size_t ohm_noisy_state_bytes(const ohm_noisy *y, int want_gradient)
{
    return ohm_chip_state_bytes(y->chip, want_gradient);
}

static size_t padded(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static int bins_of(const ohm_noisy *y)
{
    return y->hardware.adc.granularity == OHM_ADC_PER_COLUMN ? BINS_COLUMN : BINS_LAYER;
}

static int counts_currents(const ohm_noisy *y)
{
    return needs_currents(y) && y->hardware.adc.range.kind == OHM_ADC_CALIBRATED &&
           y->hardware.adc.range.value < 100.0;
}

/* Scratch: codes and levels of the weights; drive codes and row scales of a chunk; the gradients of
 * mode full; the chip's own. */
static size_t weight_bytes(const ohm_noisy *y)
{
    size_t cells = (size_t)y->rows * y->n,
           slices = (size_t)y->g.slices * (y->g.differential ? 2 : 1);
    return padded(cells) + padded(cells * slices);
}

static size_t rows_bytes(const ohm_noisy *y, size_t m, int want_gradient)
{
    size_t bytes = padded(m * y->rows) + padded(m * sizeof(float));
    if (counts_currents(y))
        bytes += padded(y->ranges * (size_t)bins_of(y) * sizeof(uint32_t));
    if (want_gradient)
        bytes += padded(m * y->n * sizeof(float)) + padded(m * y->rows * sizeof(float)) +
                 padded((size_t)y->n * y->rows * sizeof(float));
    return bytes;
}

size_t ohm_noisy_scratch_bytes(const ohm_noisy *y, int max_rows, int want_gradient)
{
    return weight_bytes(y) + rows_bytes(y, (size_t)max_rows, want_gradient) + ALIGN +
           ohm_chip_scratch_bytes(y->chip, max_rows, want_gradient);
}

typedef struct {
    int8_t *w_codes;  /* [n][rows] */
    uint8_t *levels;  /* [slices][signs][rows][n] */
    uint8_t *codes;   /* [m][rows] */
    float *row_scale; /* [m] */
    uint32_t *histogram;
    float *dsums, *dcodes, *dweights; /* [m][n], [m][rows], [n][rows] */
    void *chip;
} scratch;

static scratch carve(const ohm_noisy *y, size_t m)
{
    char *at = (char *)padded((uintptr_t)y->pass.scratch);
    scratch s = {.w_codes = (int8_t *)at, .levels = (uint8_t *)at + padded((size_t)y->rows * y->n)};
    at += weight_bytes(y);
    if (counts_currents(y)) { /* before what depends on m: chunks of any size share it */
        s.histogram = (uint32_t *)(void *)at;
        at += padded(y->ranges * (size_t)bins_of(y) * sizeof(uint32_t));
    }
    s.codes = (uint8_t *)at;
    at += padded(m * y->rows);
    s.row_scale = (float *)(void *)at;
    at += padded(m * sizeof(float));
    if (y->pass.want_gradient) {
        s.dsums = (float *)(void *)at;
        s.dcodes = (float *)(void *)(at += padded(m * y->n * sizeof(float)));
        s.dweights = (float *)(void *)(at += padded(m * y->rows * sizeof(float)));
        at += padded((size_t)y->n * y->rows * sizeof(float));
    }
    s.chip = at;
    return s;
}

/* ---- Lines 5-12: ranges, codes, programming -------------------------------------------------- */

static ohm_status set_x_scale(ohm_noisy *y)
{
    const ohm_mode *range = &y->hardware.quantise.x_range;
    ohm_noisy_pass *pass = &y->pass;
    float *kept = y->persistent, most = ohm_absmax(pass->x, pass->x_count), full = most;
    if (!isfinite(most))
        return OHM_FAIL(OHM_ERR_DATA,
                        "noisy layer %u: its input holds NaN or infinity: check the data, or lower "
                        "the learning rate",
                        y->layer);
    switch (range->kind) {
    case OHM_RANGE_PERCENTILE:
        full = ohm_abs_percentile(pass->x, pass->x_count, range->value);
        break;
    case OHM_RANGE_RUNNING:
        if (!pass->recomputing &&
            (pass->training || pass->calibrating || kept[X_BATCHES] == 0.0f)) {
            kept[X_FULL_SCALE] =
                kept[X_BATCHES] == 0.0f
                    ? most
                    : (float)(range->value * kept[X_FULL_SCALE] + (1.0 - range->value) * most);
            kept[X_BATCHES] += 1.0f;
        }
        full = kept[X_FULL_SCALE];
        break;
    case OHM_RANGE_LEARNED:
        if (pass->x_range && (pass->calibrating || !(*pass->x_range > 0.0f)) &&
            most > *pass->x_range)
            *pass->x_range = most;
        if (pass->x_range)
            full = *pass->x_range;
        break;
    case OHM_RANGE_NUMBER:
        full = (float)range->value;
        break;
    default:
        break;
    }
    int per_row = y->hardware.quantise.x_granularity == OHM_X_ROW &&
                  (range->kind == OHM_RANGE_ABSMAX || range->kind == OHM_RANGE_PERCENTILE);
    y->x_scale = per_row ? 0.0f : full > 0.0f ? full / (float)y->codes : 1.0f;
    return OHM_OK;
}

static ohm_status set_w_scales(ohm_noisy *y)
{
    const ohm_mode *range = &y->hardware.quantise.w_range;
    const float *w = y->pass.w;
    size_t count = (size_t)y->n * y->k;
    float most = ohm_absmax(w, count), full = most;
    if (!isfinite(most))
        return OHM_FAIL(OHM_ERR_DATA,
                        "noisy layer %u: its weights hold NaN or infinity: lower the learning "
                        "rate, or resume from a checkpoint",
                        y->layer);
    if (range->kind == OHM_RANGE_NUMBER)
        full = (float)range->value;
    else if (range->kind == OHM_RANGE_PERCENTILE)
        full = ohm_abs_percentile(w, count, range->value);
    int per_channel =
        y->hardware.quantise.w_granularity == OHM_W_CHANNEL && range->kind != OHM_RANGE_NUMBER;
    if (per_channel && range->kind == OHM_RANGE_ABSMAX)
        ohm_absmax_rows(y->w_scale, w, (size_t)y->n, (size_t)y->k, (size_t)y->k);
    for (int n = 0; n < y->n; n++) {
        float scale = full;
        if (per_channel)
            scale = range->kind == OHM_RANGE_ABSMAX
                        ? y->w_scale[n]
                        : ohm_abs_percentile(w + (size_t)n * y->k, (size_t)y->k, range->value);
        y->w_scale[n] = scale > 0.0f ? scale / (float)y->codes : 1.0f;
    }
    return OHM_OK;
}

/* b_q on always-on rows: eight driven at full scale share the coarse part, one driven at 1 holds the
 * rest; what they cannot hold is added digitally. codes [n][rows]. */
static void place_bias(ohm_noisy *y, int8_t *codes)
{
    const ohm_noisy_pass *pass = &y->pass;
    for (int n = 0; n < y->n; n++) {
        double unit = (double)y->x_scale * y->w_scale[n], b = pass->bias ? pass->bias[n] : 0.0,
               scale = pass->column_scale ? pass->column_scale[n] : 1.0;
        double ask = scale != 0.0 && unit > 0.0 ? rint(b / scale / unit) : 0.0,
               limit = (double)BIAS_COARSE * y->codes;
        int32_t b_q = (int32_t)fmin(fmax(ask, -2147483647.0), 2147483647.0);
        y->bias[n] = (float)b;
        y->bias_codes[n] = b_q;
        if (y->rows == y->k)
            continue;
        int coarse = (int)fmin(fmax(rint((double)b_q / y->codes), -limit), limit);
        int64_t fine = (int64_t)b_q - (int64_t)coarse * y->codes;
        fine = fine > y->codes ? y->codes : fine < -y->codes ? -y->codes : fine;
        int8_t *row = codes + (size_t)n * y->rows + y->k;
        for (int i = 0; i < BIAS_COARSE; i++)
            row[i] = (int8_t)((coarse * (i + 1)) / BIAS_COARSE - (coarse * i) / BIAS_COARSE);
        row[BIAS_COARSE] = (int8_t)fine;
        y->bias[n] = (float)((ask - (double)coarse * y->codes - (double)fine) * unit * scale);
    }
}

/* What the word lines get: rows of codes, u [m][rows]. */
typedef struct {
    const uint8_t *u;
    int ld;
} word_lines;

/* program(x_u, w_split, b_q, g), before the pass's first rows are read: x_u are their codes. */
static ohm_status program(ohm_noisy *y, const scratch *s, word_lines x, int m)
{
    const ohm_hardware *hw = &y->hardware;
    if (y->programmed)
        return OHM_OK;
    ohm_trace_kernel(y->pass.trace, "quantise");
    ohm_quantise(s->w_codes, (size_t)y->rows, y->pass.w, (size_t)y->n, (size_t)y->k, (size_t)y->k,
                 y->w_scale, 1, y->codes);
    place_bias(y, s->w_codes);
    ohm_weight_split(s->levels, s->w_codes, (size_t)y->n, (size_t)y->rows,
                     hw->weight.encoding == OHM_WEIGHT_OFFSET ? OHM_CELLS_OFFSET
                                                              : OHM_CELLS_DIFFERENTIAL,
                     y->g.cell_bits, hw->quantise.bits);
    ohm_trace_end(y->pass.trace);
    ohm_program_args args = {.x_u = x.u,
                             .m = m,
                             .ldx = x.ld,
                             .w_split = s->levels,
                             .b_q = y->x_scale > 0.0f ? y->bias_codes : NULL,
                             .g = y->persistent + LSB_FIRST,
                             .g_per_column = hw->adc.granularity == OHM_ADC_PER_COLUMN,
                             .moment = y->pass.moment,
                             .state = y->pass.state,
                             .scratch = s->chip,
                             .want_gradient = y->pass.want_gradient};
    if (hw->programming.every == OHM_EVERY_ONCE)
        args.moment.step = 0;
    /* A tile's wires are solved by the thread that has just programmed it. */
    ohm_trace_kernel(y->pass.trace, hw->ir_drop.model == OHM_IR_NONE ? "program" : "program+irdrop");
    ohm_status status = ohm_chip_program(y->chip, &args);
    ohm_trace_end(y->pass.trace);
    y->programmed = status == OHM_OK;
    return status;
}

/* Which measurement of currents this pass begins with. */
static measure first_stage(const ohm_noisy *y)
{
    if (!needs_currents(y) || y->pass.recomputing)
        return MEASURE_NOT;
    int kind = y->hardware.adc.range.kind, known = y->persistent[ADC_BATCHES] > 0.0f;
    if (kind == OHM_ADC_DATA || !known || y->pass.calibrating)
        return MEASURE_MAX;
    return kind == OHM_ADC_RUNNING && y->pass.training ? MEASURE_MAX : MEASURE_NOT;
}

ohm_status ohm_noisy_begin(ohm_noisy *y, const ohm_noisy_pass *pass)
{
    const ohm_simulator *simulator = ohm_chip_simulator(y->chip);
    if (pass->want_gradient && !simulator->backward)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "simulator '%s': has no gradient: use train.mode nograd or detach",
                        simulator->name);
    y->pass = *pass;
    ohm_trace_kernel(pass->trace, "quantise");
    ohm_status status = set_x_scale(y);
    if (status == OHM_OK)
        status = set_w_scales(y);
    ohm_trace_end(pass->trace);
    OHM_TRY(status);
    if (!needs_currents(y) && y->hardware.adc.bits > 0)
        for (size_t i = 0; i < y->ranges; i++)
            y->persistent[LSB_FIRST + i] = (float)ohm_device_lsb(&y->g, &y->hardware);
    y->programmed = 0;
    y->stage = first_stage(y);
    memset(y->range, 0, y->ranges * sizeof *y->range);
    return OHM_OK;
}

static ohm_drive drive_of(const ohm_noisy *y)
{
    static const ohm_drive drives[] = {[OHM_INPUT_OFFSET] = OHM_DRIVE_OFFSET,
                                       [OHM_INPUT_TWO_PHASE] = OHM_DRIVE_TWO_PHASE,
                                       [OHM_INPUT_SIGN_MAGNITUDE] = OHM_DRIVE_SIGN_MAGNITUDE,
                                       [OHM_INPUT_UNSIGNED] = OHM_DRIVE_UNSIGNED};
    return drives[y->hardware.input.encoding];
}

static ohm_status refuse_negative(const ohm_noisy *y)
{
    return OHM_FAIL(OHM_ERR_DATA,
                    "noisy layer %u: input.encoding 'unsigned' got a negative input: use offset, "
                    "two_phase or sign_magnitude",
                    y->layer);
}

static void append_always_on(const ohm_noisy *y, uint8_t *codes, int m)
{
    int8_t always[BIAS_ROWS];
    uint8_t always_codes[BIAS_ROWS];
    memset(always, y->codes, BIAS_COARSE);
    always[BIAS_COARSE] = 1;
    ohm_drive_encode(always_codes, always, BIAS_ROWS, drive_of(y), y->hardware.quantise.bits);
    for (int i = 0; i < m && y->rows > y->k; i++)
        memcpy(codes + (size_t)i * y->rows + y->k, always_codes, BIAS_ROWS);
}

/* Drive codes of a chunk, always-on rows behind the inputs. */
static ohm_status encode(ohm_noisy *y, const scratch *s, const float *x, int ldx, int m)
{
    const ohm_hardware *hw = &y->hardware;
    ohm_drive drive = drive_of(y);
    int negative = 0, bits = hw->quantise.bits;
    ohm_trace_kernel(y->pass.trace, "quantise");
    append_always_on(y, s->codes, m);
    if (y->x_scale == 0.0f) {
        if (hw->quantise.x_range.kind == OHM_RANGE_ABSMAX)
            ohm_absmax_rows(s->row_scale, x, (size_t)m, (size_t)y->k, (size_t)ldx);
        else
            for (int i = 0; i < m; i++)
                s->row_scale[i] = ohm_abs_percentile(x + (size_t)i * ldx, (size_t)y->k,
                                                     hw->quantise.x_range.value);
        for (int i = 0; i < m; i++)
            s->row_scale[i] = s->row_scale[i] > 0.0f ? s->row_scale[i] / (float)y->codes : 1.0f;
    }
#pragma omp parallel for schedule(static) reduction(| : negative)
    for (int i = 0; i < m; i += QUANTISE_ROWS) {
        int rows = m - i < QUANTISE_ROWS ? m - i : QUANTISE_ROWS;
        const float *scale = y->x_scale == 0.0f ? s->row_scale + i : &y->x_scale;
        negative |= ohm_quantise_drive(s->codes + (size_t)i * y->rows, (size_t)y->rows,
                                       x + (size_t)i * ldx, (size_t)rows, (size_t)y->k, (size_t)ldx,
                                       scale, y->x_scale == 0.0f, y->codes, drive, bits);
    }
    ohm_trace_end(y->pass.trace);
    return negative ? refuse_negative(y) : OHM_OK;
}

/* ---- Rows that are cut from codes ------------------------------------------------------------ */

int ohm_noisy_takes_codes(const ohm_noisy *y)
{
    return y->hardware.quantise.x_granularity == OHM_X_TENSOR;
}

ohm_status ohm_noisy_quantise(const ohm_noisy *y, uint8_t *codes, uint8_t *zero)
{
    const int8_t nothing = 0;
    size_t count = y->pass.x_count;
    ohm_drive drive = drive_of(y);
    int negative = 0, bits = y->hardware.quantise.bits;
    ohm_trace_kernel(y->pass.trace, "quantise");
    ohm_drive_encode(zero, &nothing, 1, drive, bits);
#pragma omp parallel for schedule(static) reduction(| : negative)
    for (size_t at = 0; at < count; at += QUANTISE_CHUNK) {
        size_t some = count - at < QUANTISE_CHUNK ? count - at : QUANTISE_CHUNK;
        negative |= ohm_quantise_drive(codes + at, some, y->pass.x + at, 1, some, some, &y->x_scale,
                                       0, y->codes, drive, bits);
    }
    ohm_trace_end(y->pass.trace);
    return negative ? refuse_negative(y) : OHM_OK;
}

static word_lines encoded(const ohm_noisy *y, const scratch *s)
{
    return (word_lines){s->codes, y->rows};
}

/* Rows of codes as they are, or in front of the always-on rows. */
static word_lines given(const ohm_noisy *y, const scratch *s, const uint8_t *codes, int ldc, int m)
{
    if (y->rows == y->k)
        return (word_lines){codes, ldc};
    ohm_trace_kernel(y->pass.trace, "quantise");
    for (int i = 0; i < m; i++)
        memcpy(s->codes + (size_t)i * y->rows, codes + (size_t)i * ldc, (size_t)y->k);
    append_always_on(y, s->codes, m);
    ohm_trace_end(y->pass.trace);
    return encoded(y, s);
}

/* ---- ADC ranges ------------------------------------------------------------------------------ */

int ohm_noisy_wants_measure(const ohm_noisy *y)
{
    return y->stage != MEASURE_NOT;
}

static ohm_status infer(ohm_noisy *y, const ohm_infer_args *args, const char *range)
{
    ohm_trace_kernel(y->pass.trace, range);
    ohm_status status = ohm_chip_infer(y->chip, args);
    ohm_trace_end(y->pass.trace);
    return status;
}

static ohm_status measure_lines(ohm_noisy *y, const scratch *s, word_lines x, int m,
                                uint64_t first_row)
{
    OHM_TRY(program(y, s, x, m));
    ohm_infer_args args = {.x_u = x.u,
                           .m = m,
                           .ldx = x.ld,
                           .first_row = first_row,
                           .moment = &y->pass.moment,
                           .state = y->pass.state,
                           .scratch = s->chip,
                           .range = y->range};
    if (y->stage == MEASURE_COUNT) {
        args.histogram = s->histogram;
        args.bins = bins_of(y);
    }
    return infer(y, &args, "measure");
}

ohm_status ohm_noisy_measure_rows(ohm_noisy *y, const float *x, int ldx, int m, uint64_t first_row)
{
    scratch s = carve(y, (size_t)m);
    OHM_TRY(encode(y, &s, x, ldx, m));
    return measure_lines(y, &s, encoded(y, &s), m, first_row);
}

ohm_status ohm_noisy_measure_codes(ohm_noisy *y, const uint8_t *codes, int ldc, int m,
                                   uint64_t first_row)
{
    scratch s = carve(y, (size_t)m);
    return measure_lines(y, &s, given(y, &s, codes, ldc, m), m, first_row);
}

/* Upper edge of the bin below which `percent` of the counted currents lie. */
static double percentile_of(const uint32_t *histogram, int bins, double percent, double range)
{
    double total = 0.0, below = 0.0;
    for (int i = 0; i < bins; i++)
        total += histogram[i];
    for (int i = 0; i < bins; i++) {
        below += histogram[i];
        if (below >= total * percent / 100.0)
            return range * (i + 1) / bins;
    }
    return range;
}

/* From largest currents and their histogram to percentiles; the chip's own calibration reads stay
 * within range, or every output would be wrong by what was cut. */
static ohm_status cut_to_percentile(ohm_noisy *y)
{
    scratch s = carve(y, 0);
    int bins = bins_of(y);
    for (size_t i = 0; i < y->ranges; i++)
        y->range[i] = (float)percentile_of(s.histogram + i * (size_t)bins, bins,
                                           y->hardware.adc.range.value, y->range[i]);
    float *own = (float *)(void *)s.histogram; /* counted out */
    memset(own, 0, y->ranges * sizeof *own);
    ohm_infer_args args = {.ldx = y->rows,
                           .moment = &y->pass.moment,
                           .state = y->pass.state,
                           .scratch = s.chip,
                           .range = own};
    OHM_TRY(infer(y, &args, "measure"));
    for (size_t i = 0; i < y->ranges; i++)
        y->range[i] = fmaxf(y->range[i], own[i]);
    return OHM_OK;
}

ohm_status ohm_noisy_measured(ohm_noisy *y)
{
    const ohm_mode *range = &y->hardware.adc.range;
    float *lsb = y->persistent + LSB_FIRST, *batches = y->persistent + ADC_BATCHES;
    double codes = ohm_device_codes(&y->g, &y->hardware);
    if (y->stage == MEASURE_MAX && counts_currents(y)) {
        scratch s = carve(y, 0);
        memset(s.histogram, 0, y->ranges * (size_t)bins_of(y) * sizeof *s.histogram);
        y->stage = MEASURE_COUNT;
        return OHM_OK;
    }
    if (y->stage == MEASURE_COUNT)
        OHM_TRY(cut_to_percentile(y));
    for (size_t i = 0; i < y->ranges; i++) {
        double full = y->range[i], old = (double)lsb[i] * codes;
        if (range->kind == OHM_ADC_RUNNING && *batches > 0.0f)
            full = range->value * old + (1.0 - range->value) * full;
        else if (range->kind == OHM_ADC_CALIBRATED &&
                 *batches > 0.0f) /* mean of percentiles, largest of maxima */
            full = counts_currents(y) ? old + (full - old) / (*batches + 1.0) : fmax(old, full);
        lsb[i] = full > 0.0 ? (float)(full / codes) : 1.0f;
    }
    *batches += 1.0f;
    y->stage = MEASURE_NOT;
    return OHM_OK;
}

/* ---- Lines 13-17: read, rescale -------------------------------------------------------------- */

static ohm_status read_lines(ohm_noisy *y, float *out, int ldy, const scratch *s, word_lines x,
                             int m, uint64_t first_row)
{
    const float *column = y->pass.column_scale;
    OHM_TRY(program(y, s, x, m));
    ohm_infer_args args = {.x_u = x.u,
                           .m = m,
                           .ldx = x.ld,
                           .first_row = first_row,
                           .moment = &y->pass.moment,
                           .state = y->pass.state,
                           .scratch = s->chip,
                           .sums = out,
                           .lds = ldy};
    OHM_TRY(infer(y, &args, "mvm"));
    ohm_trace_kernel(y->pass.trace, "rescale");
#pragma omp parallel for schedule(static)
    for (int i = 0; i < m; i++) {
        double x_scale = y->x_scale == 0.0f ? s->row_scale[i] : y->x_scale;
        float *row = out + (size_t)i * ldy;
        for (int n = 0; n < y->n; n++)
            row[n] =
                (float)((double)row[n] * (x_scale * y->w_scale[n] * (column ? column[n] : 1.0f)) +
                        y->bias[n]);
    }
    ohm_trace_end(y->pass.trace);
    return OHM_OK;
}

ohm_status ohm_noisy_rows(ohm_noisy *y, float *out, int ldy, const float *x, int ldx, int m,
                          uint64_t first_row)
{
    scratch s = carve(y, (size_t)m);
    OHM_TRY(encode(y, &s, x, ldx, m));
    return read_lines(y, out, ldy, &s, encoded(y, &s), m, first_row);
}

ohm_status ohm_noisy_code_rows(ohm_noisy *y, float *out, int ldy, const uint8_t *codes, int ldc,
                               int m, uint64_t first_row)
{
    scratch s = carve(y, (size_t)m);
    return read_lines(y, out, ldy, &s, given(y, &s, codes, ldc, m), m, first_row);
}

void ohm_noisy_end(ohm_noisy *y)
{
    y->pass.state = y->pass.scratch = NULL;
}

float ohm_noisy_x_full_scale(const ohm_noisy *y)
{
    return y->x_scale * (float)y->codes;
}

/* ---- Mode full ------------------------------------------------------------------------------- */

/* Gradients of the learned output scale and input range need the chip's answer again. */
static ohm_status scale_gradients(ohm_noisy *y, const scratch *s, float *dx_range,
                                  float *dcolumn_scale, const float *dy, int lddy, int m,
                                  uint64_t first_row)
{
    const float *column = y->pass.column_scale;
    ohm_infer_args args = {.x_u = s->codes,
                           .m = m,
                           .ldx = y->rows,
                           .first_row = first_row,
                           .moment = &y->pass.moment,
                           .state = y->pass.state,
                           .scratch = s->chip,
                           .sums = s->dsums,
                           .lds = y->n};
    OHM_TRY(infer(y, &args, "mvm"));
    double dscale = 0.0;
    for (int i = 0; i < m; i++)
        for (int n = 0; n < y->n; n++) {
            double part =
                (double)dy[(size_t)i * lddy + n] * s->dsums[(size_t)i * y->n + n] * y->w_scale[n];
            if (dcolumn_scale)
                dcolumn_scale[n] +=
                    (float)(part * (y->x_scale == 0.0f ? s->row_scale[i] : y->x_scale));
            dscale += part * (column ? column[n] : 1.0f);
        }
    if (dx_range)
        *dx_range += (float)(dscale / y->codes);
    return OHM_OK;
}

ohm_status ohm_noisy_backward_rows(ohm_noisy *y, float *dx, int lddx, float *dw, float *db,
                                   float *dx_range, float *dcolumn_scale, const float *dy, int lddy,
                                   const float *x, int ldx, int m, uint64_t first_row, int last)
{
    scratch s = carve(y, (size_t)m);
    const float *column = y->pass.column_scale;
    OHM_TRY(encode(y, &s, x, ldx, m));
    if (dx_range || dcolumn_scale)
        OHM_TRY(scale_gradients(y, &s, dx_range, dcolumn_scale, dy, lddy, m, first_row));
    ohm_trace_kernel(y->pass.trace, "rescale_backward");
    for (int i = 0; i < m; i++) {
        double x_scale = y->x_scale == 0.0f ? s.row_scale[i] : y->x_scale;
        for (int n = 0; n < y->n; n++) {
            float d = dy[(size_t)i * lddy + n];
            if (db)
                db[n] += d;
            s.dsums[(size_t)i * y->n + n] =
                (float)(d * x_scale * y->w_scale[n] * (column ? column[n] : 1.0f));
        }
    }
    memset(s.dweights, 0, (size_t)y->n * y->rows * sizeof *s.dweights);
    ohm_trace_end(y->pass.trace);
    ohm_backward_args args = {.x_u = s.codes,
                              .m = m,
                              .ldx = y->rows,
                              .first_row = first_row,
                              .moment = &y->pass.moment,
                              .state = y->pass.state,
                              .scratch = s.chip,
                              .dsums = s.dsums,
                              .ldd = y->n,
                              .dx = dx || dx_range ? s.dcodes : NULL,
                              .lddx = y->rows,
                              .dw = s.dweights,
                              .last = last};
    ohm_trace_kernel(y->pass.trace, "mvm_backward");
    ohm_status status = ohm_chip_backward(y->chip, &args);
    ohm_trace_end(y->pass.trace);
    OHM_TRY(status);
    ohm_trace_kernel(y->pass.trace, "quantise_backward");
    double drange = 0.0;
    for (int i = 0; (dx || dx_range) && i < m; i++) {
        float scale = y->x_scale == 0.0f ? s.row_scale[i] : y->x_scale,
              full = scale * (float)y->codes;
        for (int k = 0; k < y->k; k++) {
            float value = x[(size_t)i * ldx + k], d = s.dcodes[(size_t)i * y->rows + k] / scale;
            int inside = fabsf(value) <= full;
            if (dx)
                dx[(size_t)i * lddx + k] = inside ? d : 0.0f;
            if (inside) /* x_q = x/s, s = range/q: d x_q / d range = -x_q/range */
                drange -= (double)d * value / full;
        }
    }
    if (dx_range)
        *dx_range += (float)drange;
    for (int n = 0; last && n < y->n; n++)
        for (int k = 0; k < y->k; k++) {
            size_t at = (size_t)n * y->k + k;
            if (fabsf(y->pass.w[at]) <= y->w_scale[n] * (float)y->codes)
                dw[at] += s.dweights[(size_t)n * y->rows + k] / y->w_scale[n];
        }
    ohm_trace_end(y->pass.trace);
    return OHM_OK;
}
