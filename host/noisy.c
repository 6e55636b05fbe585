#include "host/noisy.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host/device.h"

enum { ALIGN = 64, BINS_LAYER = 1024, BINS_COLUMN = 128 };

/* The persistent floats: x full scale, batches it has seen, batches the ADC ranges have seen, LSB[]. */
enum { X_FULL_SCALE, X_BATCHES, ADC_BATCHES, LSB_FIRST };

typedef enum { MEASURE_NOT, MEASURE_MAX, MEASURE_COUNT } measure;

/* What a pass finds out from its data, in front of the simulator's state. */
typedef struct {
    float *x_scale;      /* [1] s_x; 0 = one per row */
    float *w_scale;      /* [n] s_w */
    float *bias;         /* [n] what is added digitally */
    int32_t *bias_codes; /* [n] b_q */
    float *range;        /* [ranges] currents of the present measurement */
    void *chip;
} found;

struct ohm_noisy {
    const ohm_backend *backend;
    ohm_hardware hardware;
    ohm_chip *chip;
    ohm_geometry g;
    int k, n, rows; /* rows: k and the always-on rows of the bias */
    int codes;      /* q = 2^(bits-1)-1 */
    uint32_t layer;
    size_t ranges; /* planes·slices·(n or 1) */
    ohm_noisy_pass pass;
    found now;
    uint32_t fault; /* the CPU's */
    int known;      /* a device's ADC ranges have been measured */
    int programmed; /* the chip of this pass holds the weights: done with the first rows, whose codes program sees */
    measure stage;
};

/* ---- Life and memory ------------------------------------------------------------------------- */

size_t ohm_noisy_persistent_count(const ohm_noisy *y)
{
    return LSB_FIRST + y->ranges;
}

/* Memory that the host cannot look at, work that is done later. */
static int on_device(const ohm_noisy *y)
{
    return y->backend->wait != NULL;
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
    OHM_TRY(ohm_chip_create(&chip, y->backend, hardware, y->rows, y->n, y->layer));
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

ohm_status ohm_noisy_create(ohm_noisy **out, const ohm_backend *backend,
                            const ohm_hardware *hardware, int k, int n, uint32_t layer)
{
    ohm_noisy *y = calloc(1, sizeof *y);
    if (!y)
        return OHM_FAIL(OHM_ERR_MEMORY, "noisy layer %u: out of memory", layer);
    *y = (ohm_noisy){.backend = backend ? backend : &ohm_backend_cpu,
                     .k = k,
                     .n = n,
                     .layer = layer,
                     .rows = k + (hardware->bias == OHM_BIAS_ROWS ? OHM_BIAS_ROWS_COUNT : 0),
                     .codes = (1 << (hardware->quantise.bits - 1)) - 1};
    ohm_status status = make_chip(y, hardware);
    if (status == OHM_OK)
        y->ranges = (size_t)y->g.planes * y->g.slices *
                    (hardware->adc.granularity == OHM_ADC_PER_COLUMN ? n : 1);
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

static size_t padded(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Places what a pass finds out from `at` on; the simulator's state follows. */
static found place(const ohm_noisy *y, void *state)
{
    size_t n = (size_t)y->n;
    char *at = (char *)padded((uintptr_t)state);
    found f = {.x_scale = (float *)(void *)at};
    f.w_scale = (float *)(void *)(at += ALIGN);
    f.bias = (float *)(void *)(at += padded(n * sizeof *f.w_scale));
    f.bias_codes = (int32_t *)(void *)(at += padded(n * sizeof *f.bias));
    f.range = (float *)(void *)(at += padded(n * sizeof *f.bias_codes));
    f.chip = at + padded(y->ranges * sizeof *f.range);
    return f;
}

size_t ohm_noisy_state_bytes(const ohm_noisy *y, int want_gradient)
{
    return (size_t)(uintptr_t)place(y, NULL).chip + ALIGN +
           ohm_chip_state_bytes(y->chip, want_gradient);
}

int ohm_noisy_learns_scales(const ohm_noisy *y)
{
    return ohm_noisy_has_learned_range(y) || ohm_noisy_has_column_scale(y);
}

ohm_status ohm_noisy_kept_bytes(const ohm_noisy *y, size_t rows, size_t *bytes)
{
    size_t each;
    OHM_TRY(ohm_chip_kept_bytes(y->chip, &each));
    *bytes = rows * each + (each ? ALIGN : 0);
    return OHM_OK;
}

/* What is kept of a pass's rows from first_row on. */
static void *kept_of(const ohm_noisy *y, uint64_t first_row)
{
    size_t each;
    if (y->pass.want_gradient != OHM_CHIP_SAVE || ohm_chip_kept_bytes(y->chip, &each) != OHM_OK)
        return NULL;
    return (char *)padded((uintptr_t)y->pass.kept) + (size_t)(first_row - y->pass.first_row) * each;
}

void ohm_noisy_loaded(ohm_noisy *y, const float *persistent)
{
    y->known = persistent[ADC_BATCHES] > 0.0f;
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

/* Scratch: what a device selects percentiles with; codes and levels of the weights; drive codes and
 * row scales of a chunk; the gradients of mode full; the chip's own. */
static size_t selection_bytes(const ohm_noisy *y)
{
    return on_device(y) ? padded(sizeof(ohm_selection)) : 0;
}

static size_t weight_bytes(const ohm_noisy *y)
{
    size_t cells = (size_t)y->rows * y->n,
           slices = (size_t)y->g.slices * (y->g.differential ? 2 : 1);
    return padded(cells) + padded(cells * slices);
}

static size_t partial_bytes(const ohm_noisy *y, size_t m)
{
    return padded(ohm_range_partials(m, (size_t)y->n, (size_t)y->k) * sizeof(double));
}

static size_t rows_bytes(const ohm_noisy *y, size_t m, int want_gradient)
{
    size_t bytes = padded(m * y->rows) + padded(m * sizeof(float));
    if (counts_currents(y))
        bytes += padded(y->ranges * (size_t)bins_of(y) * sizeof(uint32_t));
    if (want_gradient)
        bytes += padded(m * y->n * sizeof(float)) + padded(m * y->rows * sizeof(float)) +
                 padded((size_t)y->n * y->rows * sizeof(float)) + partial_bytes(y, m);
    if (want_gradient && ohm_noisy_learns_scales(y))
        bytes += padded(m * y->n * sizeof(float));
    return bytes;
}

size_t ohm_noisy_scratch_bytes(const ohm_noisy *y, int max_rows, int want_gradient)
{
    return selection_bytes(y) + weight_bytes(y) + rows_bytes(y, (size_t)max_rows, want_gradient) +
           ALIGN + ohm_chip_scratch_bytes(y->chip, max_rows, want_gradient);
}

typedef struct {
    ohm_selection *selection;
    int8_t *w_codes;  /* [n][rows] */
    uint8_t *levels;  /* [slices][signs][rows][n] */
    uint8_t *codes;   /* [m][rows] */
    float *row_scale; /* [m] */
    uint32_t *histogram;
    float *dsums, *dcodes, *dweights; /* [m][n], [m][rows], [n][rows] */
    double *partial;
    float *sums; /* [m][n], once more, for learned scales */
    void *chip;
} scratch;

static scratch carve(const ohm_noisy *y, size_t m)
{
    char *at = (char *)padded((uintptr_t)y->pass.scratch);
    scratch s = {.selection = (ohm_selection *)(void *)at};
    at += selection_bytes(y);
    s.w_codes = (int8_t *)at;
    s.levels = (uint8_t *)at + padded((size_t)y->rows * y->n);
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
        s.partial = (double *)(void *)(at += padded((size_t)y->n * y->rows * sizeof(float)));
        at += partial_bytes(y, m);
    }
    if (y->pass.want_gradient && ohm_noisy_learns_scales(y)) {
        s.sums = (float *)(void *)at;
        at += padded(m * y->n * sizeof(float));
    }
    s.chip = at;
    return s;
}

/* ---- Lines 5-12: ranges, codes, programming -------------------------------------------------- */

_Static_assert((int)OHM_SCALE_ABSMAX == (int)OHM_RANGE_ABSMAX &&
                   (int)OHM_SCALE_PERCENTILE == (int)OHM_RANGE_PERCENTILE &&
                   (int)OHM_SCALE_RUNNING == (int)OHM_RANGE_RUNNING &&
                   (int)OHM_SCALE_LEARNED == (int)OHM_RANGE_LEARNED &&
                   (int)OHM_SCALE_NUMBER == (int)OHM_RANGE_NUMBER,
               "kinds of ranges, in the configuration and in the kernels");

static uint32_t *fault_of(ohm_noisy *y)
{
    return on_device(y) ? y->pass.queue.fault : &y->fault;
}

/* The CPU's faults end the call; a device's are seen at the end of the step. */
static ohm_status settle(const ohm_noisy *y)
{
    return on_device(y) ? OHM_OK : ohm_chip_fault(y->fault, y->layer);
}

static ohm_scale_rule x_rule(const ohm_noisy *y)
{
    const ohm_mode *range = &y->hardware.quantise.x_range;
    const ohm_noisy_pass *pass = &y->pass;
    int moves =
        range->kind == OHM_RANGE_LEARNED ? pass->calibrating : pass->training || pass->calibrating;
    ohm_scale_rule rule = {.kind = range->kind, .value = range->value, .codes = y->codes};
    rule.each_row = y->hardware.quantise.x_granularity == OHM_X_ROW &&
                    (range->kind == OHM_RANGE_ABSMAX || range->kind == OHM_RANGE_PERCENTILE);
    rule.move = moves ? OHM_MOVE_ALWAYS : OHM_MOVE_FIRST;
    if (pass->recomputing && range->kind == OHM_RANGE_RUNNING)
        rule.move = OHM_MOVE_NEVER;
    return rule;
}

static void set_scales(ohm_noisy *y, const scratch *s)
{
    const ohm_mode *range = &y->hardware.quantise.w_range;
    const ohm_noisy_pass *pass = &y->pass;
    const ohm_scale_rule rule = x_rule(y);
    const ohm_scale_rule w_rule = {.kind = range->kind,
                                   .value = range->value,
                                   .codes = y->codes,
                                   .each_row =
                                       y->hardware.quantise.w_granularity == OHM_W_CHANNEL &&
                                       range->kind != OHM_RANGE_NUMBER};
    y->backend->input_scale(pass->queue.device, y->now.x_scale, pass->persistent + X_FULL_SCALE,
                            pass->x_range, fault_of(y), pass->x, pass->x_count, &rule,
                            s->selection);
    if (!on_device(y) && y->fault)
        return;
    y->backend->weight_scales(pass->queue.device, y->now.w_scale, fault_of(y), pass->w,
                              (size_t)y->n, (size_t)y->k, &w_rule, s->selection);
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
    const ohm_weight_job job = {.w = y->pass.w,
                                .bias = y->pass.bias,
                                .column_scale = y->pass.column_scale,
                                .x_scale = y->now.x_scale,
                                .w_scale = y->now.w_scale,
                                .n = y->n,
                                .k = y->k,
                                .rows = y->rows,
                                .codes = y->codes,
                                .bits = hw->quantise.bits,
                                .cell_bits = y->g.cell_bits,
                                .cells = hw->weight.encoding == OHM_WEIGHT_OFFSET
                                             ? OHM_CELLS_OFFSET
                                             : OHM_CELLS_DIFFERENTIAL};
    ohm_trace_kernel(y->pass.trace, "quantise");
    y->backend->weight_levels(y->pass.queue.device, s->levels, s->w_codes, y->now.bias,
                              y->now.bias_codes, &job);
    ohm_trace_end(y->pass.trace);
    ohm_chip_queue queue = y->pass.queue;
    ohm_program_args args = {.x_u = x.u,
                             .m = m,
                             .ldx = x.ld,
                             .w_split = s->levels,
                             .b_q = x_rule(y).each_row ? NULL : y->now.bias_codes,
                             .g = y->pass.persistent + LSB_FIRST,
                             .g_per_column = hw->adc.granularity == OHM_ADC_PER_COLUMN,
                             .moment = y->pass.moment,
                             .state = y->now.chip,
                             .scratch = s->chip,
                             .want_gradient = y->pass.want_gradient,
                             .queue = on_device(y) ? &queue : NULL};
    if (hw->programming.every == OHM_EVERY_ONCE) {
        args.moment.step = 0;
        queue.step = NULL;
    }
    /* A tile's wires are solved by the thread that has just programmed it. */
    ohm_trace_kernel(y->pass.trace,
                     hw->ir_drop.model == OHM_IR_NONE ? "program" : "program+irdrop");
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
    int kind = y->hardware.adc.range.kind,
        known = on_device(y) ? y->known : y->pass.persistent[ADC_BATCHES] > 0.0f;
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
    y->now = place(y, pass->state);
    y->fault = 0;
    const scratch s = carve(y, 0);
    ohm_trace_kernel(pass->trace, "quantise");
    set_scales(y, &s);
    if (!needs_currents(y) && y->hardware.adc.bits > 0)
        y->backend->fill(pass->queue.device, pass->persistent + LSB_FIRST,
                         (float)ohm_device_lsb(&y->g, &y->hardware), y->ranges);
    y->backend->fill(pass->queue.device, y->now.range, 0.0f, y->ranges);
    ohm_trace_end(pass->trace);
    y->programmed = 0;
    y->stage = first_stage(y);
    return settle(y);
}

static ohm_drive drive_of(const ohm_noisy *y)
{
    static const ohm_drive drives[] = {[OHM_INPUT_OFFSET] = OHM_DRIVE_OFFSET,
                                       [OHM_INPUT_TWO_PHASE] = OHM_DRIVE_TWO_PHASE,
                                       [OHM_INPUT_SIGN_MAGNITUDE] = OHM_DRIVE_SIGN_MAGNITUDE,
                                       [OHM_INPUT_UNSIGNED] = OHM_DRIVE_UNSIGNED};
    return drives[y->hardware.input.encoding];
}

/* Codes of the always-on rows behind those of the inputs, which are already there (from NULL) or are
 * copied. */
static void append_always_on(const ohm_noisy *y, uint8_t *codes, const uint8_t *from, int ld_from,
                             int m)
{
    int8_t driven[OHM_BIAS_ROWS_COUNT];
    ohm_always_on always;
    memset(driven, y->codes, OHM_BIAS_COARSE);
    driven[OHM_BIAS_COARSE] = 1;
    ohm_drive_encode(always.code, driven, OHM_BIAS_ROWS_COUNT, drive_of(y),
                     y->hardware.quantise.bits);
    if (y->rows > y->k)
        y->backend->append_always_on(y->pass.queue.device, codes, (size_t)y->rows, from,
                                     (size_t)ld_from, (size_t)m, (size_t)y->k, &always);
}

/* Drive codes of a chunk, always-on rows behind the inputs. */
static ohm_status encode(ohm_noisy *y, const scratch *s, const float *x, int ldx, int m)
{
    const ohm_scale_rule rule = x_rule(y);
    const size_t rows = (size_t)m, k = (size_t)y->k;
    ohm_trace_kernel(y->pass.trace, "quantise");
    append_always_on(y, s->codes, NULL, 0, m);
    if (rule.each_row)
        y->backend->row_scales(y->pass.queue.device, s->row_scale, x, rows, k, (size_t)ldx, &rule);
    y->backend->drive_codes(y->pass.queue.device, s->codes, (size_t)y->rows, fault_of(y), x, rows,
                            k, (size_t)ldx, rule.each_row ? s->row_scale : y->now.x_scale,
                            rule.each_row, y->codes, drive_of(y), y->hardware.quantise.bits);
    ohm_trace_end(y->pass.trace);
    return settle(y);
}

/* ---- Rows that are cut from codes ------------------------------------------------------------ */

int ohm_noisy_takes_codes(const ohm_noisy *y)
{
    return y->hardware.quantise.x_granularity == OHM_X_TENSOR;
}

ohm_status ohm_noisy_quantise(ohm_noisy *y, uint8_t *codes, uint8_t *zero)
{
    const int8_t nothing = 0;
    const int bits = y->hardware.quantise.bits;
    ohm_trace_kernel(y->pass.trace, "quantise");
    ohm_drive_encode(zero, &nothing, 1, drive_of(y), bits);
    y->backend->drive_codes(y->pass.queue.device, codes, 1, fault_of(y), y->pass.x, y->pass.x_count,
                            1, 1, y->now.x_scale, 0, y->codes, drive_of(y), bits);
    ohm_trace_end(y->pass.trace);
    return settle(y);
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
    append_always_on(y, s->codes, codes, ldc, m);
    ohm_trace_end(y->pass.trace);
    return encoded(y, s);
}

/* ---- ADC ranges ------------------------------------------------------------------------------ */

int ohm_noisy_wants_measure(const ohm_noisy *y)
{
    return y->stage != MEASURE_NOT;
}

/* Memory and moment of the pass are put in here. */
static ohm_status infer(ohm_noisy *y, const scratch *s, ohm_infer_args args, const char *range)
{
    args.moment = &y->pass.moment;
    args.state = y->now.chip;
    args.scratch = s->chip;
    args.queue = on_device(y) ? &y->pass.queue : NULL;
    ohm_trace_kernel(y->pass.trace, range);
    ohm_status status = ohm_chip_infer(y->chip, &args);
    ohm_trace_end(y->pass.trace);
    return status;
}

static ohm_status measure_lines(ohm_noisy *y, const scratch *s, word_lines x, int m,
                                uint64_t first_row)
{
    OHM_TRY(program(y, s, x, m));
    ohm_infer_args args = {
        .x_u = x.u, .m = m, .ldx = x.ld, .first_row = first_row, .range = y->now.range};
    if (y->stage == MEASURE_COUNT) {
        args.histogram = s->histogram;
        args.bins = bins_of(y);
    }
    return infer(y, s, args, "measure");
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

/* From largest currents and their histogram to percentiles; the chip's own calibration reads stay
 * within range, or every output would be wrong by what was cut. */
static ohm_status cut_to_percentile(ohm_noisy *y, const scratch *s)
{
    ohm_device *device = y->pass.queue.device;
    float *own = (float *)(void *)s->histogram; /* counted out */
    y->backend->cut_ranges(device, y->now.range, s->histogram, y->ranges, bins_of(y),
                           y->hardware.adc.range.value);
    y->backend->fill(device, own, 0.0f, y->ranges);
    OHM_TRY(infer(y, s, (ohm_infer_args){.ldx = y->rows, .range = own}, "measure"));
    y->backend->raise_ranges(device, y->now.range, own, y->ranges);
    return OHM_OK;
}

ohm_status ohm_noisy_measured(ohm_noisy *y)
{
    const ohm_mode *range = &y->hardware.adc.range;
    const scratch s = carve(y, 0);
    const ohm_lsb_rule rule = {.kind = range->kind == OHM_ADC_RUNNING      ? OHM_LSB_RUNNING
                                       : range->kind != OHM_ADC_CALIBRATED ? OHM_LSB_DATA
                                       : counts_currents(y)                ? OHM_LSB_MEAN
                                                                           : OHM_LSB_MOST,
                               .decay = range->value,
                               .codes = ohm_device_codes(&y->g, &y->hardware)};
    if (y->stage == MEASURE_MAX && counts_currents(y)) {
        y->backend->fill(y->pass.queue.device, (float *)(void *)s.histogram, 0.0f,
                         y->ranges * (size_t)bins_of(y));
        y->stage = MEASURE_COUNT;
        return OHM_OK;
    }
    if (y->stage == MEASURE_COUNT)
        OHM_TRY(cut_to_percentile(y, &s));
    y->backend->update_lsb(y->pass.queue.device, y->pass.persistent + LSB_FIRST,
                           y->pass.persistent + ADC_BATCHES, y->now.range, y->ranges, &rule);
    y->known = 1;
    y->stage = MEASURE_NOT;
    return OHM_OK;
}

/* ---- Lines 13-17: read, rescale -------------------------------------------------------------- */

static ohm_scales scales_of(const ohm_noisy *y, const scratch *s)
{
    int each_row = x_rule(y).each_row;
    return (ohm_scales){.x_scale = each_row ? s->row_scale : y->now.x_scale,
                        .x_scale_rows = each_row,
                        .w_scale = y->now.w_scale,
                        .column_scale = y->pass.column_scale,
                        .codes = y->codes};
}

static ohm_status read_lines(ohm_noisy *y, float *out, int ldy, const scratch *s, word_lines x,
                             int m, uint64_t first_row)
{
    const ohm_scales scales = scales_of(y, s);
    const ohm_chip_rescale rescale = {.x_scale = scales.x_scale,
                                      .x_scale_rows = scales.x_scale_rows,
                                      .w_scale = scales.w_scale,
                                      .column_scale = scales.column_scale,
                                      .bias = y->now.bias};
    const int rescales = ohm_chip_simulator(y->chip)->rescales;
    OHM_TRY(program(y, s, x, m));
    ohm_infer_args args = {.x_u = x.u,
                           .m = m,
                           .ldx = x.ld,
                           .first_row = first_row,
                           .sums = out,
                           .lds = ldy,
                           .kept = kept_of(y, first_row),
                           .rescale = rescales ? &rescale : NULL};
    OHM_TRY(infer(y, s, args, "mvm"));
    if (rescales)
        return OHM_OK;
    ohm_trace_kernel(y->pass.trace, "rescale");
    y->backend->rescale(y->pass.queue.device, out, (size_t)ldy, (size_t)m, (size_t)y->n, &scales,
                        y->now.bias);
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

/* ---- Mode full ------------------------------------------------------------------------------- */

int ohm_noisy_never_clips(const ohm_noisy *y)
{
    return y->hardware.quantise.x_range.kind == OHM_RANGE_ABSMAX;
}

/* One chunk: y = x wᵀ + b of these rows. */
typedef struct {
    const float *dy, *x; /* [m,n], [m,k]; x may be NULL */
    int lddy, ldx, m, last;
    uint64_t first_row;
    word_lines lines;
} chunk;

static ohm_status read_again(ohm_noisy *y, const scratch *s, const chunk *c, float *sums)
{
    return infer(y, s,
                 (ohm_infer_args){.x_u = c->lines.u,
                                  .m = c->m,
                                  .ldx = c->lines.ld,
                                  .first_row = c->first_row,
                                  .sums = sums,
                                  .lds = y->n},
                 "mvm");
}

/* sums: the corrected sums once more, NULL = not wanted. */
static ohm_status chip_backward(ohm_noisy *y, const scratch *s, const chunk *c, int want_dx,
                                float *sums)
{
    ohm_backward_args args = {.x_u = c->lines.u,
                              .m = c->m,
                              .ldx = c->lines.ld,
                              .first_row = c->first_row,
                              .moment = &y->pass.moment,
                              .state = y->now.chip,
                              .scratch = s->chip,
                              .dsums = s->dsums,
                              .ldd = y->n,
                              .dx = want_dx ? s->dcodes : NULL,
                              .lddx = y->rows,
                              .dw = s->dweights,
                              .kept = kept_of(y, c->first_row),
                              .last = c->last,
                              .queue = on_device(y) ? &y->pass.queue : NULL};
    if (sums && !args.kept && ohm_chip_simulator(y->chip)->kept_bytes) {
        args.sums = sums;
        args.lds = y->n;
    } else if (sums) { /* backward does not give them */
        OHM_TRY(read_again(y, s, c, sums));
    }
    ohm_trace_kernel(y->pass.trace, "mvm_backward");
    ohm_status status = ohm_chip_backward(y->chip, &args);
    ohm_trace_end(y->pass.trace);
    return status;
}

/* Outputs tell the sums that they were made of, but where a scale is 0. The host looks at it. */
static int outputs_tell(const ohm_noisy *y)
{
    for (int n = 0; y->pass.column_scale && !on_device(y) && n < y->n; n++)
        if (y->pass.column_scale[n] == 0.0f)
            return 0;
    return !on_device(y);
}

/* Gradients of learned scales, by the sums that outputs tell, whether out was kept or (NULL) made again of
 * s->sums: the same bits. Where they tell nothing, by s->sums themselves. */
static void scale_gradients(ohm_noisy *y, const scratch *s, const chunk *c, float *dx_range,
                            float *dcolumn_scale, const float *out, int ldo)
{
    const ohm_scales scales = scales_of(y, s);
    const size_t m = (size_t)c->m, n = (size_t)y->n;
    ohm_device *device = y->pass.queue.device;
    ohm_trace_kernel(y->pass.trace, "rescale_backward");
    if (outputs_tell(y)) {
        if (!out)
            y->backend->rescale(device, s->sums, n, m, n, &scales, y->now.bias);
        y->backend->unscale(device, s->sums, out ? out : s->sums, out ? (size_t)ldo : n, m, n,
                            &scales, y->now.bias);
    }
    y->backend->scale_gradients(device, dx_range, dcolumn_scale, c->dy, (size_t)c->lddy, s->sums, m,
                                n, &scales, s->partial);
    ohm_trace_end(y->pass.trace);
}

ohm_status ohm_noisy_backward_rows(ohm_noisy *y, float *dx, int lddx, float *dw, float *db,
                                   float *dx_range, float *dcolumn_scale, const float *dy, int lddy,
                                   const float *out, int ldo, const float *x, int ldx,
                                   const uint8_t *codes, int ldc, int m, uint64_t first_row,
                                   int last)
{
    const scratch s = carve(y, (size_t)m);
    const ohm_scales scales = scales_of(y, &s);
    chunk c = {dy, codes ? NULL : x, lddy, ldx, m, last, first_row, {0}};
    const size_t rows = (size_t)m, n = (size_t)y->n, k = (size_t)y->k, ld = (size_t)y->rows;
    const int learns = dx_range || dcolumn_scale, told = learns && out && outputs_tell(y);
    ohm_device *device = y->pass.queue.device;
    if (!codes)
        OHM_TRY(encode(y, &s, x, ldx, m));
    c.lines = codes ? given(y, &s, codes, ldc, m) : encoded(y, &s);
    ohm_trace_kernel(y->pass.trace, "rescale_backward");
    y->backend->rescale_backward(device, s.dsums, db, dy, (size_t)lddy, rows, n, &scales,
                                 s.partial);
    y->backend->fill(device, s.dweights, 0.0f, n * ld);
    ohm_trace_end(y->pass.trace);
    OHM_TRY(chip_backward(y, &s, &c, dx || dx_range, learns && !told ? s.sums : NULL));
    if (learns)
        scale_gradients(y, &s, &c, dx_range, dcolumn_scale, told ? out : NULL, ldo);
    ohm_trace_kernel(y->pass.trace, "quantise_backward");
    if (dx || dx_range)
        y->backend->drive_backward(device, dx, (size_t)lddx, dx_range, s.dcodes, ld, c.x,
                                   (size_t)ldx, rows, k, &scales, s.partial);
    if (last)
        y->backend->weight_backward(device, dw, s.dweights, ld, y->pass.w, n, k, &scales);
    ohm_trace_end(y->pass.trace);
    return OHM_OK;
}
