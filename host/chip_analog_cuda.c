/* The built-in simulator on a CUDA device: chip_analog.c's twin over the kernels' CUDA versions. Arrays lie in the
 * memory that the caller plans there, the structs that hold their addresses here; one programming of a
 * layer at a time. Nothing is allocated or waited for, and what is queued follows from the configuration
 * alone, so that a step can be recorded.
 *
 * Launches of a layer (fills of memory counted):
 *   program       1; wires 3 to 5 more, for each 64 MiB of tiles; halves 1 or 2; static ADC errors 1
 *   compensation  twice program but for halves and errors, and 6
 *   correction    calibrated 3 with the first read; nominal 2
 *   infer         1 for each chunk of rows, rescaled; ranges 1, and 2 for the correction's own
 *   backward      4 or 5 for each chunk of rows; with the last one as many of the correction's, and 3 to 10 from
 *                 conductances to weights, those of wires for each 64 MiB of tiles. Programming for it 6 more */
#include <stdlib.h>

#include "host/backend_cuda.h"
#include "host/chip_analog.h"
#include "host/chip_analog_common.h"
#include "kernels/activation.h"
#include "kernels/calibrate_cuda.h"
#include "kernels/irdrop_closed_cuda.h"
#include "kernels/irdrop_exact_cuda.h"
#include "kernels/layers_cuda.h"
#include "kernels/mvm_backward_cuda.h"
#include "kernels/mvm_halves_cuda.h"

typedef struct {
    ohm_chip_shape shape;
    ohm_geometry g;
    /* the present programming */
    ohm_analog_arrays at;
    ohm_mvm_halves halves;
    ohm_read read;
    ohm_read_law law;
    ohm_programming programming;
    double johnson;
    ohm_chip_moment moment;
    int corrected; /* the offset correction of this programming has been read */
} analog;

/* Where one call's work goes. */
typedef struct {
    ohm_cuda_stream stream;
    const uint32_t *step;
    uint32_t *fault;
} work;

#define TRY(call)                                                                                  \
    do {                                                                                           \
        const ohm_cuda_status try_status_ = (call);                                                \
        if (try_status_ != OHM_CUDA_OK)                                                            \
            return try_status_;                                                                    \
    } while (0)

/* ---- Memory ---------------------------------------------------------------------------------- */

/* Whether reads of this layer may come to a kernel that takes halves. */
static int takes_halves(const analog *a)
{
    const ohm_chip_moment any = {0};
    ohm_read r;
    double johnson;
    ohm_device_read(&r, &johnson, &a->g, &a->shape, &any, OHM_FOR_INFERENCE);
    return a->shape.hardware->mvm.precision == OHM_MVM_FP16 && ohm_mvm_mma_knows(&a->g, &r);
}

static size_t layout(analog *a, int gradient, char *base)
{
    size_t used = 0, halves = takes_halves(a) ? ohm_halves_count(&a->g) : 0;
    ohm_analog_place(&a->at, &a->g, a->shape.hardware, 1, gradient, base, &used);
    a->halves.w = ohm_analog_take(base, &used, halves, sizeof *a->halves.w);
    a->halves.variance =
        ohm_analog_take(base, &used, ohm_analog_spreads(a->shape.hardware) ? halves : 0,
                        sizeof *a->halves.variance);
    return used;
}

static size_t state_bytes(const void *self, int want_gradient)
{
    analog a = *(const analog *)self;
    return layout(&a, want_gradient, NULL) + OHM_ANALOG_ALIGN;
}

/* Wires are solved for so many bytes of tiles at a time: enough to fill a device, whatever the layer. */
enum { PHYSICAL_BYTES = 64 << 20 };

static int places_at_once(const analog *a, const ohm_programming *p)
{
    const ohm_program_places all = ohm_places_of(&a->g, NULL);
    const size_t each = (size_t)p->physical_rows * p->physical_columns * sizeof(float) *
                        ohm_physical_arrays(&a->g, p),
                 fit = PHYSICAL_BYTES / each;
    return fit < 1 ? 1 : fit < (size_t)all.count ? (int)fit : all.count;
}

/* Scratch of a programming's wires, or of a correction that is read later; of compensation, which lasts over
 * two programmings. */
typedef struct {
    float *physical, *loss; /* closed form */
    int *status;            /* exact: of each tile */
    void *solver;
    uint8_t *codes;  /* [16][k] of compensation */
    double *sums[2]; /* [16][n] */
    double *parts;   /* of one of them */
    uint8_t *zero;   /* [k] */
    double *partial;
    double *column_sums; /* mode full: of the sums' gradients */
    void *backward;      /* of a read's derivative, and of what follows it */
} scratch_arrays;

static ohm_crosspoint physical_tile(const ohm_programming *p)
{
    return (ohm_crosspoint){
        .rows = p->physical_rows, .columns = p->physical_columns, .wires = p->wires};
}

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* max_rows: of the backward pass; 0 leaves its part out. */
static size_t carve(scratch_arrays *s, const analog *a, const ohm_programming *p, int max_rows,
                    char *base)
{
    const ohm_geometry *g = &a->g;
    const ohm_hardware *hw = a->shape.hardware;
    const ohm_crosspoint tile = physical_tile(p);
    const ohm_program_places some = {0, places_at_once(a, p)};
    const int compensates = hw->retention.compensation != OHM_COMPENSATION_NONE,
              corrects = g->drive == OHM_DRIVE_OFFSET, exact = p->ir == OHM_WIRES_EXACT,
              closed = p->ir == OHM_WIRES_CLOSED;
    size_t used = 0, later = 0, back = 0, k = (size_t)g->k, n = (size_t)g->n,
           tiles = p->ir ? ohm_physical_tiles(g, p, &some) : 0,
           sums = compensates ? OHM_ANALOG_ROWS * n : 0;
    /* the correction is read when programming is over */
    s->zero = ohm_analog_take(base, &later, corrects ? k : 0, 1);
    back = later; /* whose derivative drives the chip with the same codes */
    s->partial = ohm_analog_take(
        base, &later, corrects ? ohm_mvm_mean_doubles(g, OHM_ANALOG_ROWS) : 0, sizeof *s->partial);
    if (max_rows > 0) {
        const int rows = max_rows > OHM_ANALOG_ROWS ? max_rows : OHM_ANALOG_ROWS;
        s->column_sums = ohm_analog_take(
            base, &back, corrects ? ohm_column_partials((size_t)max_rows, n) : 0, sizeof(double));
        s->backward = ohm_analog_take(
            base, &back,
            most(ohm_mvm_backward_cuda_bytes(g, rows), ohm_mvm_finish_cuda_bytes(g, p)), 1);
    }
    s->codes = ohm_analog_take(base, &used, compensates ? OHM_ANALOG_ROWS * k : 0, 1);
    for (int i = 0; i < 2; i++)
        s->sums[i] = ohm_analog_take(base, &used, sums, sizeof *s->sums[i]);
    s->parts = ohm_analog_take(base, &used,
                               compensates ? ohm_mvm_raw_parts_doubles(g, OHM_ANALOG_ROWS) : 0,
                               sizeof *s->parts);
    s->physical =
        ohm_analog_take(base, &used, tiles * (size_t)tile.rows * tile.columns, sizeof(float));
    s->loss = ohm_analog_take(base, &used, closed ? ohm_irdrop_closed_cuda_floats(g, p, &some) : 0,
                              sizeof(float));
    s->status = ohm_analog_take(base, &used, exact ? tiles : 0, sizeof(int));
    s->solver =
        ohm_analog_take(base, &used, exact ? ohm_irdrop_exact_cuda_bytes(&tile, (int)tiles) : 0, 1);
    return most(back, most(used, later));
}

static size_t scratch_bytes(const void *self, int max_rows, int want_gradient)
{
    const analog *a = self;
    const ohm_chip_moment any = {0};
    ohm_programming p;
    scratch_arrays s;
    ohm_device_programming(&p, &a->g, &a->shape, &any);
    return carve(&s, a, &p, want_gradient ? max_rows : 0, NULL) + OHM_ANALOG_ALIGN;
}

/* ---- Life ------------------------------------------------------------------------------------ */

ohm_status ohm_chip_analog_cuda_check(const ohm_hardware *hw)
{
    if (hw->read.model != OHM_READ_NONE && hw->read.form == OHM_FORM_PER_CELL)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "read.form: 'per_cell' runs on the CPU alone so far; set device: cpu, or "
                        "read.form: aggregate, the same distribution");
    if (ohm_device_solves_reads(hw))
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "%s with exact wires runs on the CPU alone so far; set device: cpu",
                        hw->cell.iv != OHM_IV_LINEAR ? "cell.iv: not linear"
                                                     : "ir_drop.zero_input: 'gated'");
    if (hw->ir_drop.model == OHM_IR_EXACT && hw->tile.rows > OHM_IRDROP_CUDA_MOST &&
        hw->tile.cols > OHM_IRDROP_CUDA_MOST)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "tile.rows, tile.cols: exact wires of a tile with more than %d lines on "
                        "both sides run on the CPU alone; set device: cpu, or ir_drop.model: "
                        "closed_form",
                        OHM_IRDROP_CUDA_MOST);
    return ohm_analog_check(hw);
}

static ohm_status create(void **self, const ohm_chip_shape *shape)
{
    OHM_TRY(ohm_chip_analog_cuda_check(shape->hardware));
    analog *a = calloc(1, sizeof *a);
    if (!a)
        return OHM_FAIL(OHM_ERR_MEMORY, "chip of layer %u: out of memory", shape->layer);
    a->shape = *shape;
    ohm_device_geometry(&a->g, shape);
    *self = a;
    return OHM_OK;
}

static void destroy(void *self)
{
    free(self);
}

static work work_of(const ohm_chip_queue *queue)
{
    return (work){ohm_backend_cuda_stream(queue->device), queue->step, queue->fault};
}

static ohm_mvm_input rows_of(const analog *a, const ohm_read *r, const work *w, const uint8_t *x_u,
                             int ldx, int m, uint64_t first_row)
{
    return (ohm_mvm_input){.g = &a->g,
                           .r = r,
                           .w = &a->at.tiles,
                           .x_u = x_u,
                           .ldx = ldx,
                           .m = m,
                           .first_row = first_row,
                           .step = w->step};
}

/* ---- Programming ----------------------------------------------------------------------------- */

/* s->physical = what the wires leave of the cells of some places. */
static ohm_cuda_status pass_wires(const analog *a, const ohm_program_args *args, const work *w,
                                  const scratch_arrays *s, const uint8_t *ref_level,
                                  const ohm_program_places *some)
{
    const ohm_programming *p = &a->programming;
    const ohm_crosspoint tile = physical_tile(p);
    const int tiles = (int)ohm_physical_tiles(&a->g, p, some);
    TRY(ohm_program_physical_cuda(s->physical, &a->g, p, args->w_split, ref_level, some, w->step,
                                  w->stream));
    if (p->ir == OHM_WIRES_CLOSED)
        return ohm_irdrop_closed_cuda(s->physical, &a->g, p, some, s->loss, w->stream);
    TRY(ohm_irdrop_exact_cuda(s->physical, s->physical, s->status, NULL, &tile, tiles, s->solver,
                              w->stream));
    return ohm_irdrop_unsolved_cuda(w->fault, OHM_FAULT_WIRES, s->status, tiles, w->stream);
}

/* The draws take the step that lies on the device, where there is one: the laws are then those of step 0. */
static ohm_cuda_status program_cells(analog *a, const ohm_program_args *args, const work *w,
                                     const scratch_arrays *s, double time_s)
{
    uint8_t ref_level[8] = {0};
    ohm_chip_moment moment = args->moment;
    moment.time_s = time_s;
    moment.step = w->step ? 0 : moment.step;
    ohm_device_programming(&a->programming, &a->g, &a->shape, &moment);
    ohm_device_read_law(&a->law, &a->g, a->shape.hardware, time_s);
    ohm_analog_reference_levels(ref_level, &a->shape, &a->g);
    const int wires = a->programming.ir != OHM_WIRES_NONE, all = ohm_places_of(&a->g, NULL).count,
              most = wires ? places_at_once(a, &a->programming) : all;
    for (int first = 0; first < all; first += most) {
        const ohm_program_places some = {first, all - first < most ? all - first : most};
        if (wires)
            TRY(pass_wires(a, args, w, s, ref_level, &some));
        TRY(ohm_program_cuda(&a->at.tiles, args->want_gradient ? &a->at.gradient : NULL, &a->g,
                             &a->programming, &a->law, a->johnson, args->w_split, ref_level,
                             wires ? s->physical : NULL, &some, w->step, w->stream));
    }
    return OHM_CUDA_OK;
}

/* Programs the cells as they are now; where drift is compensated, as they were at first and in between. */
static ohm_cuda_status program_and_compensate(analog *a, const ohm_program_args *args,
                                              const work *w, const scratch_arrays *s)
{
    const ohm_hardware *hw = a->shape.hardware;
    if (!ohm_analog_compensates(hw, &args->moment))
        return program_cells(a, args, w, s, args->moment.time_s);
    const ohm_read r =
        ohm_analog_calibration_read(&a->shape, &a->g, &a->moment, &a->read, OHM_FOR_COMPENSATION);
    const ohm_stream stream = ohm_analog_compensation_stream(&r);
    const ohm_mvm_input x = rows_of(a, &r, w, s->codes, a->g.k, OHM_ANALOG_ROWS, 0);
    TRY(ohm_calibration_codes_cuda(s->codes, (size_t)OHM_ANALOG_ROWS * a->g.k, a->g.drive,
                                   hw->quantise.bits, &stream, w->stream));
    for (int now = 0; now < 2; now++) {
        TRY(program_cells(a, args, w, s, now ? args->moment.time_s : 0.0));
        TRY(ohm_mvm_raw_parts_cuda(s->sums[now], a->g.n, s->parts, &x, w->stream));
    }
    a->read.alpha = a->at.alpha;
    return ohm_calibration_alpha_cuda(a->at.alpha, s->sums[0], s->sums[1], OHM_ANALOG_ROWS, a->g.n,
                                      hw->retention.compensation == OHM_COMPENSATION_COLUMN,
                                      w->stream);
}

/* In the order of the kernel that the first rows get. */
static ohm_cuda_status pack(analog *a, const ohm_program_args *args, const work *w,
                            const ohm_cuda_device *about)
{
    const ohm_mvm_input x = rows_of(a, &a->read, w, args->x_u, args->ldx, args->m, 0);
    const ohm_mvm_kernel kernel = a->halves.w ? ohm_mvm_choose(&x, about) : OHM_MVM_PLAIN;
    if (kernel == OHM_MVM_PLAIN)
        a->halves.w = NULL;
    a->halves.blocked = kernel == OHM_MVM_HOPPER;
    return a->halves.w ? ohm_mvm_pack_cuda(&a->halves, &a->g, &a->at.tiles, w->stream)
                       : OHM_CUDA_OK;
}

static ohm_cuda_status queue_program(analog *a, const ohm_program_args *args, const work *w,
                                     const ohm_cuda_device *about)
{
    const ohm_hardware *hw = a->shape.hardware;
    ohm_column_error errors[OHM_ANALOG_ERRORS];
    scratch_arrays s;
    carve(&s, a, &a->programming, 0, ohm_analog_aligned(args->scratch));
    TRY(program_and_compensate(a, args, w, &s));
    TRY(pack(a, args, w, about));
    const int count = ohm_analog_errors(errors, &a->at, &a->g, hw);
    if (count)
        TRY(ohm_column_errors_cuda(errors, count, &a->programming.per_chip, w->stream));
    if (args->want_gradient) {
        TRY(ohm_mvm_negative_cuda(a->at.negative, &a->g, args->w_split, w->stream));
        TRY(ohm_mvm_clear_gradient_cuda(&a->at.gradient, &a->g, w->stream));
        TRY(ohm_cuda_fill(a->at.dsum_total, 0, (size_t)a->g.n * sizeof *a->at.dsum_total,
                          w->stream));
    }
    if (ohm_analog_set_correction(&a->read, hw, a->at.correction))
        TRY(ohm_calibration_nominal_cuda(a->at.correction, &a->g, args->w_split, hw->quantise.bits,
                                         a->shape.weight_bits, w->stream));
    return OHM_CUDA_OK;
}

static ohm_status program(void *self, const ohm_program_args *args)
{
    analog *a = self;
    if (!args->queue)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "chip of layer %u: a device's simulator, and no queue",
                        a->shape.layer);
    OHM_TRY(ohm_backend_cuda_status(args->queue->device));
    const work w = work_of(args->queue);
    layout(a, args->want_gradient, ohm_analog_aligned(args->state));
    a->moment = args->moment;
    a->corrected = 0;
    ohm_device_programming(&a->programming, &a->g, &a->shape, &a->moment);
    ohm_device_read(&a->read, &a->johnson, &a->g, &a->shape, &a->moment, OHM_FOR_INFERENCE);
    a->read.lsb = args->g;
    a->read.lsb_per_column = args->g_per_column;
    ohm_backend_cuda_note(args->queue->device,
                          queue_program(a, args, &w, ohm_backend_cuda_about(args->queue->device)));
    return OHM_OK;
}

/* ---- Inference ------------------------------------------------------------------------------- */

/* Drive codes [k] of x = 0; with them as every row (a stride of 0) the chip answers for itself. */
static ohm_cuda_status zero_codes(const analog *a, const scratch_arrays *s, const work *w)
{
    return ohm_cuda_fill(s->zero, ohm_analog_zero_code(a->shape.hardware), (size_t)a->g.k,
                         w->stream);
}

/* The chip's own answer to x = 0, averaged over 16 noisy reads. */
static ohm_cuda_status read_correction(analog *a, const scratch_arrays *s, const work *w)
{
    const ohm_read r =
        ohm_analog_calibration_read(&a->shape, &a->g, &a->moment, &a->read, OHM_FOR_CALIBRATION);
    const ohm_mvm_input x = rows_of(a, &r, w, s->zero, 0, OHM_ANALOG_ROWS, 0);
    TRY(zero_codes(a, s, w));
    return ohm_mvm_mean_cuda(a->at.correction, s->partial, &x, w->stream);
}

static ohm_cuda_status measure(const analog *a, const ohm_infer_args *to, const ohm_mvm_input *x,
                               const work *w)
{
    return ohm_mvm_range_cuda(to->range, to->histogram, to->bins, a->read.lsb_per_column, x,
                              w->stream);
}

static ohm_cuda_status queue_infer(analog *a, const ohm_infer_args *args, const work *w,
                                   const ohm_cuda_device *about)
{
    const ohm_chip_rescale *y = args->rescale;
    const ohm_mvm_input x = rows_of(a, &a->read, w, args->x_u, args->ldx, args->m, args->first_row);
    scratch_arrays s;
    carve(&s, a, &a->programming, 0, ohm_analog_aligned(args->scratch));
    if (args->range) {
        TRY(measure(a, args, &x, w));
        if (!a->read.correction_read || args->histogram)
            return OHM_CUDA_OK;
        const ohm_mvm_input zero = rows_of(a, &a->read, w, s.zero, 0, 1, 0);
        TRY(zero_codes(a, &s, w));
        return measure(a, args, &zero, w);
    }
    if (a->read.correction_read && !a->corrected)
        TRY(read_correction(a, &s, w));
    a->corrected = 1;
    ohm_mvm_output out = {.y = args->sums, .ldy = args->lds};
    if (y) {
        out.x_scale = y->x_scale;
        out.x_scale_rows = y->x_scale_rows;
        out.w_scale = y->w_scale;
        out.column_scale = y->column_scale;
        out.bias = y->bias;
    }
    return ohm_mvm_cuda(&out, &x, &a->halves, about, w->stream);
}

static ohm_status infer(void *self, const ohm_infer_args *args)
{
    analog *a = self;
    OHM_TRY(ohm_backend_cuda_status(args->queue->device));
    const work w = work_of(args->queue);
    a->moment.step = a->read.stream.step =
        args->moment->step; /* a kept programming is read anew each step */
    ohm_backend_cuda_note(args->queue->device,
                          queue_infer(a, args, &w, ohm_backend_cuda_about(args->queue->device)));
    return OHM_OK;
}

/* ---- Mode full ------------------------------------------------------------------------------- */

/* What the encoding correction has to do with the weights: dsums are those of the sums it was taken from. */
static ohm_cuda_status correction_backward(analog *a, const ohm_backward_args *args, const work *w,
                                           const scratch_arrays *s)
{
    const ohm_hardware *hw = a->shape.hardware;
    if (a->g.drive != OHM_DRIVE_OFFSET)
        return OHM_CUDA_OK;
    if (!a->read.correction_read)
        return ohm_mvm_nominal_gradient_cuda(args->dw, a->at.dsum_total, &a->g, hw->quantise.bits,
                                             w->stream);
    ohm_read r =
        ohm_analog_calibration_read(&a->shape, &a->g, &a->moment, &a->read, OHM_FOR_CALIBRATION);
    r.alpha = a->read.alpha;
    const ohm_mvm_input x = rows_of(a, &r, w, s->zero, 0, OHM_ANALOG_ROWS, 0);
    const ohm_mvm_backward_output d = {.dsums = a->at.dsum_total,
                                       .scale = -1.0f / OHM_ANALOG_ROWS,
                                       .cells = &a->at.gradient,
                                       .johnson_scale = a->johnson,
                                       .halves = a->programming.halves,
                                       .scratch = s->backward};
    TRY(zero_codes(a, s, w));
    return ohm_mvm_backward_cuda(&d, &x, w->stream);
}

static ohm_cuda_status queue_backward(analog *a, const ohm_backward_args *args, const work *w)
{
    const ohm_mvm_input x = rows_of(a, &a->read, w, args->x_u, args->ldx, args->m, args->first_row);
    scratch_arrays s;
    carve(&s, a, &a->programming, args->m, ohm_analog_aligned(args->scratch));
    const ohm_mvm_backward_output d = {.dsums = args->dsums,
                                       .ldd = args->ldd,
                                       .scale = 1.0f,
                                       .dx = args->dx,
                                       .lddx = args->lddx,
                                       .cells = &a->at.gradient,
                                       .johnson_scale = a->johnson,
                                       .halves = a->programming.halves,
                                       .scratch = s.backward};
    if (a->g.drive == OHM_DRIVE_OFFSET)
        TRY(ohm_sum_columns_cuda(a->at.dsum_total, args->dsums, (size_t)args->m, (size_t)a->g.n,
                                 s.column_sums, w->stream));
    TRY(ohm_mvm_backward_cuda(&d, &x, w->stream));
    if (!args->last)
        return OHM_CUDA_OK;
    TRY(correction_backward(a, args, w, &s));
    return ohm_mvm_finish_gradient_cuda(args->dw, &a->at.gradient, a->at.negative, &a->g,
                                        &a->programming, &a->law, w->fault, OHM_FAULT_WIRES,
                                        s.backward, w->stream);
}

static ohm_status backward(void *self, const ohm_backward_args *args)
{
    analog *a = self;
    OHM_TRY(ohm_backend_cuda_status(args->queue->device));
    if (a->g.drive == OHM_DRIVE_OFFSET && args->ldd != a->g.n)
        return OHM_FAIL(OHM_ERR_ARGUMENT,
                        "chip of layer %u: gradients of sums in rows of %d, not %d", a->shape.layer,
                        args->ldd, a->g.n);
    const work w = work_of(args->queue);
    ohm_backend_cuda_note(args->queue->device, queue_backward(a, args, &w));
    return OHM_OK;
}

const ohm_simulator ohm_simulator_analog_cuda = {
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
    .rescales = 1,
};
