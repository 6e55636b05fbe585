#include "host/chip_analog.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host/chip_analog_common.h"
#include "host/chip_cells.h"
#include "kernels/calibrate.h"
#include "kernels/mvm_backward.h"

enum { KEEP_CELLS = 256 };

typedef struct {
    ohm_chip_shape shape;
    ohm_geometry g;
    int per_cell; /* read noise is drawn per cell */
    int separate; /* reads go by separate cells: per_cell, or wires that are solved for every read */
    ohm_mvm_network network; /* of those wires; rows = 0: none */
} analog;

/* What lives in the caller's state memory: a programmed layer. */
typedef struct {
    ohm_read read;
    ohm_read_law law;
    ohm_programming programming;
    double johnson;
    ohm_chip_moment moment;
    int corrected; /* the offset correction of this programming has been read */
    ohm_analog_arrays at;
    ohm_crossbar cells; /* separate reads */
    void *kept;         /* factors of the correction's reads (OHM_CHIP_SAVE) */
} state;

/* ---- Memory ---------------------------------------------------------------------------------- */

static const ohm_mvm_network *network_of(const analog *a)
{
    return a->network.rows ? &a->network : NULL;
}

/* How the chip reads, at the time it is used at. */
static ohm_read usual_read(const analog *a)
{
    const ohm_chip_moment moment = {.time_s = a->shape.hardware->retention.time_s};
    ohm_read r;
    double johnson;
    ohm_device_read(&r, &johnson, &a->g, &a->shape, &moment, OHM_FOR_INFERENCE);
    return r;
}

/* Bytes that mode full needs of a row's reads; nothing of the kind where wires are solved for every read. */
static size_t row_bytes(const analog *a)
{
    const ohm_read r = usual_read(a);
    return network_of(a) ? 0 : ohm_mvm_factors_of(&a->g, &r).row_bytes;
}

/* Places everything from base on (NULL: only counts). gradient: ohm_chip_use. */
static size_t layout(state *s, const analog *a, int gradient, char *base)
{
    const ohm_geometry *g = &a->g;
    const ohm_hardware *hw = a->shape.hardware;
    size_t used = (sizeof *s + OHM_ANALOG_ALIGN - 1) / OHM_ANALOG_ALIGN * OHM_ANALOG_ALIGN,
           signs = g->differential ? 2 : 1, k = a->separate ? (size_t)g->k : 0,
           cells = (size_t)g->slices * signs * k * (size_t)g->n,
           refs = g->differential ? 0 : (size_t)g->slices * k * g->column_tiles;
    int spread = ohm_analog_spreads(hw);
    ohm_analog_place(&s->at, g, hw, !a->separate, gradient, base, &used);
#define TAKE(count) ohm_analog_take(base, &used, (count), sizeof(double))
    s->cells.g = TAKE(cells);
    s->cells.variance = TAKE(spread ? cells : 0);
    s->cells.g_ref = TAKE(refs);
    s->cells.variance_ref = TAKE(spread ? refs : 0);
#undef TAKE
    int keeps = gradient == OHM_CHIP_SAVE && hw->input.encoding == OHM_INPUT_OFFSET &&
                hw->input.correction == OHM_CORRECTION_CALIBRATED;
    s->kept = ohm_analog_take(base, &used, keeps ? OHM_ANALOG_ROWS * row_bytes(a) : 0, 1);
    return used;
}

static size_t state_bytes(const void *self, int want_gradient)
{
    state s;
    return layout(&s, self, want_gradient, NULL) + OHM_ANALOG_ALIGN;
}

static state *aligned(void *memory)
{
    return (state *)(void *)ohm_analog_aligned(memory);
}

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* A calibration read has codes, sums and a read of its own in front of the kernel's scratch. */
static size_t calibration_bytes(const analog *a)
{
    return (size_t)OHM_ANALOG_ROWS *
               ((size_t)a->g.k + OHM_ANALOG_ALIGN + (size_t)a->g.n * 2 * sizeof(double)) +
           3 * OHM_ANALOG_ALIGN;
}

/* Room for the factors of so many rows. */
static size_t factor_bytes(const analog *a, size_t rows)
{
    return (rows * row_bytes(a) + OHM_ANALOG_ALIGN - 1) / OHM_ANALOG_ALIGN * OHM_ANALOG_ALIGN;
}

static size_t scratch_bytes(const void *self, int max_rows, int want_gradient)
{
    const analog *a = self;
    ohm_programming p;
    ohm_device_programming(&p, &a->g, &a->shape, &(ohm_chip_moment){0});
    size_t bytes = ohm_mvm_scratch_bytes(&a->g),
           rows = (size_t)(max_rows > OHM_ANALOG_ROWS ? max_rows : OHM_ANALOG_ROWS);
    if (a->separate) {
        bytes = most(bytes, rows * (size_t)a->g.n * sizeof(double) +
                                ohm_chip_cells_bytes(&a->g, network_of(a)));
        bytes =
            most(bytes, (size_t)a->g.slices * a->shape.signs * a->g.k * a->g.n * sizeof(double));
    }
    bytes = most(bytes, ohm_program_scratch_bytes(&a->g, &p));
    if (want_gradient) {
        const ohm_read r = usual_read(a);
        bytes = most(bytes, ohm_mvm_backward_scratch_bytes(&a->g, &r, (int)rows));
        if (want_gradient == OHM_CHIP_RECOMPUTE)
            bytes += factor_bytes(a, rows);
        bytes = most(bytes, ohm_mvm_finish_scratch_bytes(&a->g, &p));
        if (network_of(a))
            bytes = most(bytes, ohm_mvm_network_backward_bytes(&a->g, network_of(a)));
        bytes += rows * (size_t)a->g.n * sizeof(float) + OHM_ANALOG_ALIGN;
    }
    return bytes + calibration_bytes(a) + OHM_ANALOG_ALIGN;
}

static ohm_status kept_bytes(const void *self, size_t *bytes)
{
    const analog *a = self;
    if (network_of(a))
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "key 'train.full': save keeps nothing of reads whose wires are solved one by "
                        "one (ir_drop.zero_input: gated, or cell.iv beside exact wires); set "
                        "recompute");
    if (a->shape.hardware->input.noise > 0.0)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "key 'train.full': save keeps no noise of inputs (input.noise = %g); set "
                        "recompute",
                        a->shape.hardware->input.noise);
    *bytes = row_bytes(a);
    return OHM_OK;
}

/* ---- Life ------------------------------------------------------------------------------------ */

static ohm_status create(void **self, const ohm_chip_shape *shape)
{
    const ohm_hardware *hw = shape->hardware;
    OHM_TRY(ohm_analog_check(hw));
    analog *a = calloc(1, sizeof *a);
    if (!a)
        return OHM_FAIL(OHM_ERR_MEMORY, "chip of layer %u: out of memory", shape->layer);
    a->shape = *shape;
    ohm_device_geometry(&a->g, shape);
    a->per_cell = hw->read.model != OHM_READ_NONE && hw->read.form == OHM_FORM_PER_CELL;
    a->separate = a->per_cell;
    if (ohm_device_solves_reads(hw)) {
        ohm_programming p;
        ohm_device_programming(&p, &a->g, &a->shape, &(ohm_chip_moment){0});
        ohm_device_network(&a->network, &a->g, hw, &p);
        a->separate = 1;
    }
    *self = a;
    return OHM_OK;
}

static void destroy(void *self)
{
    free(self);
}

/* ---- Reading --------------------------------------------------------------------------------- */

/* Raw sums [m][n] of a calibration read. */
static ohm_status read_raw(const analog *a, const state *s, const ohm_read *r,
                           const ohm_drive_rows *d, double *sums, char *scratch)
{
    if (a->separate)
        return ohm_chip_read_cells(sums, &a->shape, &a->g, r, &s->cells, d, a->per_cell, scratch);
    ohm_mvm_raw_cpu(sums, a->g.n, &a->g, r, &s->at.tiles, d->x_u, d->ldx, d->m, d->first_row,
                    scratch);
    return OHM_OK;
}

/* Splits scratch into a calibration's codes and sums and what is left. */
static char *carve_calibration(const analog *a, void *scratch, uint8_t **codes, double **sums)
{
    char *at = ohm_analog_aligned(scratch);
    *codes = (uint8_t *)at;
    at += ((size_t)OHM_ANALOG_ROWS * a->g.k + OHM_ANALOG_ALIGN - 1) / OHM_ANALOG_ALIGN *
          OHM_ANALOG_ALIGN;
    *sums = (double *)(void *)at;
    return at + ((size_t)OHM_ANALOG_ROWS * a->g.n * 2 * sizeof(double) + OHM_ANALOG_ALIGN - 1) /
                    OHM_ANALOG_ALIGN * OHM_ANALOG_ALIGN;
}

/* The chip's own answer to x = 0 (code 2^(bits-1) on every row), averaged over 16 noisy reads. */
static ohm_status read_correction(const analog *a, state *s, void *scratch)
{
    uint8_t *codes;
    double *sums;
    char *rest = carve_calibration(a, scratch, &codes, &sums);
    ohm_read r =
        ohm_analog_calibration_read(&a->shape, &a->g, &s->moment, &s->read, OHM_FOR_CALIBRATION);
    memset(codes, ohm_analog_zero_code(a->shape.hardware), (size_t)OHM_ANALOG_ROWS * a->g.k);
    ohm_drive_rows d = {.x_u = codes, .m = OHM_ANALOG_ROWS, .ldx = a->g.k};
    if (s->kept) {
        const ohm_mvm_result to = {.raw = sums, .lds = a->g.n, .factors = s->kept};
        ohm_mvm_read_cpu(&to, &a->g, &r, &s->at.tiles, codes, a->g.k, OHM_ANALOG_ROWS, 0, rest);
    } else
        OHM_TRY(read_raw(a, s, &r, &d, sums, rest));
    for (int n = 0; n < a->g.n; n++) {
        double sum = 0.0;
        for (int i = 0; i < OHM_ANALOG_ROWS; i++)
            sum += sums[(size_t)i * a->g.n + n];
        s->at.correction[n] = sum / OHM_ANALOG_ROWS;
    }
    return OHM_OK;
}

/* Raises the ranges to these rows' currents, or counts them. */
static ohm_status measure(const analog *a, const state *s, const ohm_infer_args *to,
                          const ohm_drive_rows *d, char *scratch)
{
    if (a->separate)
        return ohm_chip_range_cells(to->range, to->histogram, to->bins, s->read.lsb_per_column,
                                    &a->shape, &a->g, &s->read, &s->cells, d, scratch);
    ohm_mvm_range_cpu(to->range, to->histogram, to->bins, s->read.lsb_per_column, &a->g, &s->read,
                      &s->at.tiles, d->x_u, d->ldx, d->m, d->first_row, scratch);
    return OHM_OK;
}

/* The correction is read through the same converter, and with signed weights its first plane, where
 * every row is driven, carries more current than that of any input: a range that left it out would
 * clip it, and the error would be in every output. */
static ohm_status range_of_correction(const analog *a, const state *s, const ohm_infer_args *args)
{
    uint8_t *codes;
    double *sums;
    char *rest = carve_calibration(a, args->scratch, &codes, &sums);
    memset(codes, ohm_analog_zero_code(a->shape.hardware), (size_t)a->g.k);
    ohm_drive_rows d = {.x_u = codes, .m = 1, .ldx = a->g.k};
    return measure(a, s, args, &d, rest);
}

/* Noise-free answer to fixed random codes, for drift compensation: sums [16][n]. */
static ohm_status read_compensation(const analog *a, state *s, double *sums, uint8_t *codes,
                                    char *rest)
{
    ohm_read r =
        ohm_analog_calibration_read(&a->shape, &a->g, &s->moment, &s->read, OHM_FOR_COMPENSATION);
    ohm_stream stream = ohm_analog_compensation_stream(&r);
    ohm_calibration_codes(codes, (size_t)OHM_ANALOG_ROWS * a->g.k, a->g.drive,
                          a->shape.hardware->quantise.bits, &stream);
    ohm_drive_rows d = {.x_u = codes, .m = OHM_ANALOG_ROWS, .ldx = a->g.k};
    return read_raw(a, s, &r, &d, sums, rest);
}

/* ---- Programming ----------------------------------------------------------------------------- */

/* Conductances and slopes of slice 0, for mode full. scratch: 2·256 doubles. */
static void keep_cells(const analog *a, state *s, const uint8_t *w_split, char *scratch)
{
    size_t cells = (size_t)a->shape.signs * a->g.k * a->g.n;
    double *g = (double *)(void *)scratch, *slope = g + KEEP_CELLS;
    for (size_t first = 0; first < cells; first += KEEP_CELLS) {
        int count = (int)(cells - first < KEEP_CELLS ? cells - first : KEEP_CELLS);
        ohm_program_cells(g, slope, &s->programming, w_split + first, first, count);
        for (int i = 0; i < count; i++) {
            s->at.gradient.g[first + (size_t)i] = (float)g[i];
            s->at.gradient.slope[first + (size_t)i] = (float)slope[i];
        }
    }
}

static ohm_status program_cells(const analog *a, state *s, const ohm_program_args *args,
                                double time_s, const uint8_t *ref_level, char *scratch)
{
    ohm_chip_moment moment = args->moment;
    moment.time_s = time_s;
    ohm_device_programming(&s->programming, &a->g, &a->shape, &moment);
    ohm_device_read_law(&s->law, &a->g, a->shape.hardware, time_s);
    ohm_solve_status status;
    if (a->separate) {
        size_t cells = (size_t)a->g.slices * a->shape.signs * a->g.k * a->g.n;
        double *level = (double *)(void *)scratch;
        for (size_t i = 0; i < cells; i++)
            level[i] = args->w_split[i];
        status = ohm_program_ref(&s->cells, &a->g, &s->programming, &s->law, level, ref_level);
        if (args->want_gradient)
            keep_cells(a, s, args->w_split, scratch);
    } else
        status = ohm_program_cpu(&s->at.tiles, args->want_gradient ? &s->at.gradient : NULL, &a->g,
                                 &s->programming, &s->law, s->johnson, args->w_split, ref_level,
                                 scratch);
    if (status != OHM_SOLVE_OK)
        return ohm_chip_fault(OHM_FAULT_WIRES, a->shape.layer);
    return OHM_OK;
}

static void draw_column_errors(const analog *a, state *s)
{
    ohm_column_error errors[OHM_ANALOG_ERRORS];
    const ohm_tiles *w = &s->at.tiles;
    int count = ohm_analog_errors(errors, &s->at, &a->g, a->shape.hardware);
    for (int i = 0; i < count; i++)
        ohm_column_errors(errors[i].out, errors[i].count, errors[i].mean, errors[i].sigma,
                          &s->programming.per_chip, errors[i].site, errors[i].first);
    s->cells.gain = w->gain;
    s->cells.offset = w->offset;
    s->cells.s_shape = w->s_shape;
    s->cells.ref_gain = w->ref_gain;
    s->cells.ref_offset = w->ref_offset;
    s->cells.ref_s_shape = w->ref_s_shape;
}

static void mark_negative(const analog *a, state *s, const uint8_t *w_split)
{
    const ohm_geometry *g = &a->g;
    size_t cells = (size_t)g->k * g->n;
    memset(s->at.negative, 0, cells);
    for (int slice = 0; g->differential && slice < g->slices; slice++)
        for (size_t i = 0; i < cells; i++)
            s->at.negative[i] |= w_split[((size_t)slice * 2 + 1) * cells + i] != 0;
}

static ohm_status program(void *self, const ohm_program_args *args)
{
    const analog *a = self;
    state *s = aligned(args->state);
    uint8_t ref_level[8] = {0}, *codes;
    double *sums;
    char *rest = carve_calibration(a, args->scratch, &codes, &sums);
    if (args->want_gradient && a->per_cell)
        return OHM_FAIL(
            OHM_ERR_UNSUPPORTED,
            "read.form: 'per_cell' has no gradient; train with aggregate, the same distribution");
    memset(s, 0, sizeof *s);
    layout(s, a, args->want_gradient, (char *)s);
    s->moment = args->moment;
    ohm_device_read(&s->read, &s->johnson, &a->g, &a->shape, &s->moment, OHM_FOR_INFERENCE);
    if (args->want_gradient && !network_of(a) &&
        ohm_mvm_factors_of(&a->g, &s->read).row_bytes > row_bytes(a))
        return OHM_FAIL(OHM_ERR_ARGUMENT,
                        "chip of layer %u: read noise at %g s, but memory was planned without: set "
                        "retention.time_s",
                        a->shape.layer, args->moment.time_s);
    s->cells.johnson_scale = &s->johnson;
    s->cells.network = network_of(a);
    s->read.lsb = args->g;
    s->read.lsb_per_column = args->g_per_column;
    for (int n = 0; n < a->g.n; n++)
        s->at.alpha[n] = 1.0f;
    ohm_analog_reference_levels(ref_level, &a->shape, &a->g);
    const ohm_hardware *hw = a->shape.hardware;
    int compensate = ohm_analog_compensates(hw, &args->moment);
    if (compensate) {
        OHM_TRY(program_cells(a, s, args, 0.0, ref_level, rest));
        OHM_TRY(read_compensation(a, s, sums, codes, rest));
    }
    OHM_TRY(program_cells(a, s, args, args->moment.time_s, ref_level, rest));
    if (compensate) {
        double *now = sums + (size_t)OHM_ANALOG_ROWS * a->g.n;
        OHM_TRY(read_compensation(a, s, now, codes, rest));
        ohm_calibration_alpha(s->at.alpha, sums, now, OHM_ANALOG_ROWS, a->g.n,
                              hw->retention.compensation == OHM_COMPENSATION_COLUMN);
    }
    draw_column_errors(a, s);
    if (args->want_gradient) {
        size_t cells = (size_t)a->shape.signs * a->g.k * a->g.n;
        mark_negative(a, s, args->w_split);
        memset(s->at.gradient.dg, 0, cells * sizeof(float));
        memset(s->at.gradient.dvariance, 0, cells * sizeof(float));
        for (int i = 0; i < 2 && s->at.gradient.dref; i++)
            memset(i ? s->at.gradient.dref_variance : s->at.gradient.dref, 0,
                   (size_t)a->g.k * a->g.column_tiles * sizeof(float));
        memset(s->at.dsum_total, 0, (size_t)a->g.n * sizeof(float));
    }
    if (compensate)
        s->read.alpha = s->at.alpha;
    if (ohm_analog_set_correction(&s->read, hw, s->at.correction))
        ohm_calibration_nominal(s->at.correction, &a->g, args->w_split, hw->quantise.bits,
                                a->shape.weight_bits);
    return OHM_OK;
}

/* ---- Inference ------------------------------------------------------------------------------- */

static ohm_status infer(void *self, const ohm_infer_args *args)
{
    const analog *a = self;
    state *s = aligned(args->state);
    char *scratch = ohm_analog_aligned(args->scratch);
    s->moment.step = s->read.stream.step =
        args->moment->step; /* a kept programming is read anew each step */
    ohm_drive_rows d = {
        .x_u = args->x_u, .m = args->m, .ldx = args->ldx, .first_row = args->first_row};
    if (args->range) {
        if (a->per_cell)
            return OHM_FAIL(OHM_ERR_UNSUPPORTED, "read.form: 'per_cell' cannot measure currents: "
                                                 "use adc.range max, granular or a number");
        OHM_TRY(measure(a, s, args, &d, scratch));
        return s->read.correction_read && !args->histogram ? range_of_correction(a, s, args)
                                                           : OHM_OK;
    }
    if (s->read.correction_read && !s->corrected)
        OHM_TRY(read_correction(a, s, args->scratch));
    s->corrected = 1;
    if (!a->separate) {
        const ohm_mvm_result to = {.sums = args->sums, .lds = args->lds, .factors = args->kept};
        ohm_mvm_read_cpu(&to, &a->g, &s->read, &s->at.tiles, args->x_u, args->ldx, args->m,
                         args->first_row, scratch);
        return OHM_OK;
    }
    double *sums = (double *)(void *)scratch;
    OHM_TRY(read_raw(a, s, &s->read, &d, sums, (char *)(sums + (size_t)args->m * a->g.n)));
    for (int i = 0; i < args->m; i++)
        for (int n = 0; n < a->g.n; n++)
            args->sums[(size_t)i * args->lds + n] =
                (float)ohm_correct(&s->read, sums[(size_t)i * a->g.n + n], n);
    return OHM_OK;
}

/* ---- Mode full ------------------------------------------------------------------------------- */

/* d->factors NULL: read again, into scratch, and with them `sums`, row stride lds, unless NULL. */
static ohm_status rows_backward(const analog *a, const state *s, ohm_mvm_gradient *d,
                                const ohm_read *r, float *sums, int lds, char *scratch)
{
    ohm_read_failure failure;
    if (network_of(a))
        return ohm_mvm_network_backward(d, &a->g, r, &s->cells, scratch, &failure) == OHM_SOLVE_OK
                   ? OHM_OK
                   : ohm_chip_refuse_read(&a->shape, &failure);
    if (!d->factors) {
        const ohm_mvm_result to = {.sums = sums, .lds = lds, .factors = scratch};
        d->factors = scratch;
        scratch += factor_bytes(a, (size_t)d->m);
        ohm_mvm_read_cpu(&to, &a->g, r, &s->at.tiles, d->x_u, d->ldx, d->m, d->first_row, scratch);
    }
    ohm_mvm_backward(d, &a->g, r, &s->at.tiles, s->johnson, scratch);
    return OHM_OK;
}

static ohm_status correction_backward(const analog *a, state *s, float *dw, void *scratch)
{
    const ohm_geometry *g = &a->g;
    if (g->drive != OHM_DRIVE_OFFSET)
        return OHM_OK;
    if (a->shape.hardware->input.correction == OHM_CORRECTION_NOMINAL) {
        float offset = (float)ohm_analog_zero_code(a->shape.hardware);
        for (int n = 0; n < g->n; n++)
            for (int k = 0; k < g->k; k++)
                dw[(size_t)n * g->k + k] -= offset * s->at.dsum_total[n];
        return OHM_OK;
    }
    uint8_t *codes;
    double *memory;
    char *rest = carve_calibration(a, scratch, &codes, &memory);
    float *sums = (float *)(void *)memory;
    ohm_read r =
        ohm_analog_calibration_read(&a->shape, g, &s->moment, &s->read, OHM_FOR_CALIBRATION);
    memset(codes, ohm_analog_zero_code(a->shape.hardware), (size_t)OHM_ANALOG_ROWS * g->k);
    for (int i = 0; i < OHM_ANALOG_ROWS; i++)
        for (int n = 0; n < g->n; n++)
            sums[(size_t)i * g->n + n] = -s->at.dsum_total[n] * s->at.alpha[n] / OHM_ANALOG_ROWS;
    ohm_mvm_gradient d = {.x_u = codes,
                          .ldx = g->k,
                          .round = 1,
                          .m = OHM_ANALOG_ROWS,
                          .factors = s->kept,
                          .dsums = sums,
                          .ldd = g->n,
                          .cells = &s->at.gradient};
    return rows_backward(a, s, &d, &r, NULL, 0, rest);
}

static ohm_status backward(void *self, const ohm_backward_args *args)
{
    const analog *a = self;
    state *s = aligned(args->state);
    char *scratch = ohm_analog_aligned(args->scratch);
    float *raw = (float *)(void *)scratch;
    for (int i = 0; i < args->m; i++)
        for (int n = 0; n < a->g.n; n++) {
            float d = args->dsums[(size_t)i * args->ldd + n];
            s->at.dsum_total[n] += d;
            raw[(size_t)i * a->g.n + n] = d * s->at.alpha[n];
        }
    char *rest = scratch + ((size_t)args->m * a->g.n * sizeof(float) + OHM_ANALOG_ALIGN - 1) /
                               OHM_ANALOG_ALIGN * OHM_ANALOG_ALIGN;
    ohm_mvm_gradient d = {.x_u = args->x_u,
                          .ldx = args->ldx,
                          .round = 1,
                          .m = args->m,
                          .first_row = args->first_row,
                          .factors = args->kept,
                          .dsums = raw,
                          .ldd = a->g.n,
                          .dx = args->dx,
                          .lddx = args->lddx,
                          .cells = &s->at.gradient};
    if (args->sums && network_of(a)) {
        const ohm_infer_args again = {.x_u = args->x_u,
                                      .m = args->m,
                                      .ldx = args->ldx,
                                      .first_row = args->first_row,
                                      .moment = args->moment,
                                      .state = args->state,
                                      .scratch = rest,
                                      .sums = args->sums,
                                      .lds = args->lds};
        OHM_TRY(infer(self, &again));
    }
    OHM_TRY(rows_backward(a, s, &d, &s->read, args->sums, args->lds, rest));
    if (!args->last)
        return OHM_OK;
    OHM_TRY(correction_backward(a, s, args->dw, args->scratch));
    ohm_solve_status status = ohm_mvm_finish_gradient(args->dw, &s->at.gradient, s->at.negative,
                                                      &a->g, &s->programming, &s->law, scratch);
    if (status != OHM_SOLVE_OK)
        return OHM_FAIL(OHM_ERR_DATA,
                        "chip of layer %u: the wires of a tile have no finite gradient: check "
                        "ir_drop.r_*, cell.g_max_us and the learning rate",
                        a->shape.layer);
    return OHM_OK;
}

const ohm_simulator ohm_simulator_analog = {
    .abi = OHM_SIMULATOR_ABI,
    .name = "analog",
    .create = create,
    .destroy = destroy,
    .state_bytes = state_bytes,
    .scratch_bytes = scratch_bytes,
    .program = program,
    .infer = infer,
    .backward = backward,
    .measures_range = 1,
    .kept_bytes = kept_bytes,
};
