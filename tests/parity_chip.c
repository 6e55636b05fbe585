/* The built-in simulator on a device against its twin on the CPU: the same programming, the same reads. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/backend.h"
#include "host/chip_analog.h"
#include "host/device.h"
#include "kernels/mvm_halves_cuda.h"
#include "tests/fixture_mvm.h"
#include "tests/parity.h"

enum { READS = 16 /* of a calibration */, BINS = 16 };

/* A layer and both its simulators. */
typedef struct {
    fixture_mvm f;
    const ohm_backend *backend;
    ohm_device *device;
    void *self[2]; /* CPU, device */
    void *state[2], *scratch[2];
    uint8_t *levels, *codes; /* on the device */
    float *lsb;
    uint32_t *step, *fault;
    ohm_chip_queue queue;
    ohm_chip_moment moment;
    int use; /* ohm_chip_use */
} twins;

static const ohm_simulator *simulator(int on_device)
{
    return on_device ? &ohm_simulator_analog_cuda : &ohm_simulator_analog;
}

static void open_device(twins *t)
{
    ohm_config config;
    OHM_OK_OR_FAIL(ohm_config_read(&config, NULL));
    config.hardware_enabled = 0;
    OHM_OK_OR_FAIL(ohm_config_set(&config, "device=cuda"));
    OHM_OK_OR_FAIL(ohm_backend_find(&t->backend, &config));
    OHM_OK_OR_FAIL(t->backend->open(&t->device, &config));
}

static void make_for(twins *t, ohm_chip_use use, const char *settings, int k, int n, int m)
{
    memset(t, 0, sizeof *t);
    t->use = use;
    fixture_mvm_make(&t->f, settings, k, n, m);
    open_device(t);
    fixture_chip *c = &t->f.chip;
    const uint32_t none = 0;
    if (c->programming.ir != OHM_WIRES_NONE) { /* both solve in float, in another order */
        t->f.tolerance = 1e-5;
        t->f.threshold = 2e-3;
    }
    t->moment = c->moment;
    t->levels = parity_upload(c->levels, (size_t)c->g.slices * c->shape.signs * k * n);
    t->codes = parity_upload(t->f.codes, (size_t)m * k);
    t->lsb = parity_upload(c->lsb, (size_t)c->g.planes * c->g.slices * n * sizeof *c->lsb);
    t->step = parity_upload(&t->moment.step, sizeof t->moment.step);
    t->fault = parity_upload(&none, sizeof none);
    t->queue = (ohm_chip_queue){t->device, t->step, t->fault};
    for (int i = 0; i < 2; i++) {
        OHM_OK_OR_FAIL(simulator(i)->create(&t->self[i], &c->shape));
        size_t state = simulator(i)->state_bytes(t->self[i], t->use),
               scratch = simulator(i)->scratch_bytes(t->self[i], m, t->use);
        t->state[i] = i ? parity_alloc(state) : parity_host(state);
        t->scratch[i] = i ? parity_alloc(scratch) : parity_host(scratch);
    }
}

static void make(twins *t, const char *settings, int k, int n, int m)
{
    make_for(t, OHM_CHIP_READ, settings, k, n, m);
}

static void drop(twins *t)
{
    for (int i = 0; i < 2; i++)
        simulator(i)->destroy(t->self[i]);
    t->backend->close(t->device);
    fixture_mvm_free(&t->f);
}

static void program(twins *t, int on_device)
{
    const fixture_chip *c = &t->f.chip;
    const ohm_program_args args = {.x_u = on_device ? t->codes : t->f.codes,
                                   .m = t->f.m,
                                   .ldx = t->f.k,
                                   .w_split = on_device ? t->levels : c->levels,
                                   .g = on_device ? t->lsb : c->lsb,
                                   .g_per_column = c->read.lsb_per_column,
                                   .moment = t->moment,
                                   .state = t->state[on_device],
                                   .scratch = t->scratch[on_device],
                                   .want_gradient = t->use,
                                   .queue = on_device ? &t->queue : NULL};
    OHM_OK_OR_FAIL(simulator(on_device)->program(t->self[on_device], &args));
}

/* Rows from..to-1; arguments that ask for something else come in `more`. */
static void infer(twins *t, int on_device, float *sums, int from, int to,
                  const ohm_infer_args *more)
{
    ohm_infer_args args = more ? *more : (ohm_infer_args){0};
    args.x_u = (on_device ? t->codes : t->f.codes) + (size_t)from * t->f.k;
    args.m = to - from;
    args.ldx = t->f.k;
    args.first_row = t->f.first_row + (uint64_t)from;
    args.moment = &t->moment;
    args.state = t->state[on_device];
    args.scratch = t->scratch[on_device];
    args.sums = sums ? sums + (size_t)from * t->f.n : NULL;
    args.lds = t->f.n;
    args.queue = on_device ? &t->queue : NULL;
    OHM_OK_OR_FAIL(simulator(on_device)->infer(t->self[on_device], &args));
}

static ohm_cuda_status fetch(twins *t, void *host, const void *device, size_t bytes)
{
    OHM_OK_OR_FAIL(t->backend->wait(t->device));
    return parity_fetch(host, device, bytes);
}

/* Codes of the correction's own reads that lie on a threshold: what the mean of 16 may be off, [n]. */
static void correction_slack(twins *t, double *slack, size_t *close_calls)
{
    const fixture_chip *c = &t->f.chip;
    size_t k = (size_t)t->f.k, n = (size_t)t->f.n, reads = ohm_read_count(&c->g);
    double *x = parity_host(READS * k * sizeof *x), *sums = parity_host(READS * n * sizeof *sums),
           *analogue = parity_host(READS * reads * n * sizeof *analogue), johnson;
    ohm_read r;
    ohm_device_read(&r, &johnson, &c->g, &c->shape, &t->moment, OHM_FOR_CALIBRATION);
    r.lsb = c->lsb;
    r.lsb_per_column = c->read.lsb_per_column;
    for (size_t i = 0; i < READS * k; i++)
        x[i] = 1 << (c->hardware.quantise.bits - 1);
    ohm_mvm_ref(sums, &c->g, &r, &c->cells, x, READS, 0, 1, 0, analogue);
    for (size_t i = 0; i < n; i++)
        for (int row = 0; row < READS; row++)
            slack[i] +=
                fixture_mvm_slack(&t->f, analogue + row * reads * n, (int)i, close_calls) / READS;
}

/* Corrected sums: float noise of the raw ones, and a code where a conversion was close. */
static ohm_verdict compare(twins *t, const float *got, const float *expected)
{
    const fixture_mvm *f = &t->f;
    size_t reads = ohm_read_count(&f->chip.g), close_calls = 0;
    double scale = 0.0, *slack = parity_host((size_t)f->n * sizeof *slack);
    memset(slack, 0, (size_t)f->n * sizeof *slack);
    if (f->chip.g.drive == OHM_DRIVE_OFFSET &&
        f->chip.hardware.input.correction == OHM_CORRECTION_CALIBRATED)
        correction_slack(t, slack, &close_calls);
    for (int i = 0; i < f->m * f->n; i++)
        scale = fmax(scale, fmax(fabs(f->sums[i]), fabs((double)expected[i])));
    for (int i = 0; i < f->m * f->n; i++) {
        const double *analogue = f->analogue + (size_t)(i / f->n) * reads * f->n;
        double allowed = f->tolerance * scale + slack[i % f->n] +
                         fixture_mvm_slack(f, analogue, i % f->n, &close_calls);
        if (f->chip.hardware.retention.compensation != OHM_COMPENSATION_NONE)
            allowed *= 2.0; /* alpha is below 2 here */
        if (!(fabs((double)got[i] - (double)expected[i]) <= allowed)) {
            ohm_verdict bad = {.worst = (size_t)i};
            snprintf(bad.text, sizeof bad.text,
                     "%.180s: sum %d is %.9g, the CPU's %.9g, allowed %.3g", f->settings, i,
                     (double)got[i], (double)expected[i], allowed);
            return bad;
        }
    }
    if (close_calls >
        (size_t)(50.0 * f->threshold * (double)(reads * (size_t)f->n * (size_t)(f->m + READS))) +
            20)
        return parity_failed("too many values lie on a threshold to be chance");
    return parity_pass();
}

/* Programs and reads on both; sums [m][n] of the device stay in *got where it is not NULL. */
static ohm_verdict as_on_the_cpu(const char *settings, int k, int n, int m)
{
    twins t;
    make(&t, settings, k, n, m);
    size_t count = (size_t)m * n;
    float *expected = parity_host(count * sizeof *expected),
          *got = parity_host(count * sizeof *got), *sums = parity_alloc(count * sizeof *sums);
    program(&t, 0);
    infer(&t, 0, expected, 0, m, NULL);
    program(&t, 1);
    infer(&t, 1, sums, 0, m, NULL);
    PARITY_TRY(fetch(&t, got, sums, count * sizeof *got));
    ohm_verdict verdict = compare(&t, got, expected);
    uint32_t fault = 1;
    PARITY_TRY(fetch(&t, &fault, t.fault, sizeof fault));
    ck_assert_uint_eq(fault, 0);
    drop(&t);
    return verdict;
}

static ohm_verdict effects(int mapping, int first, int step)
{
    for (int i = first; i < FIXTURE_EFFECTS; i += step) {
        char settings[1024];
        snprintf(settings, sizeof settings, "%s tile.rows=48 %s", fixture_mappings[mapping],
                 fixture_effects[i]);
        PARITY_CHECK(as_on_the_cpu(settings, 50, mapping == 3 ? 35 : 17, 5));
    }
    return parity_pass();
}

OHM_PARITY_SLOW(chip_cuda, every_effect_on_every_mapping)
{
    for (int mapping = 0; mapping < FIXTURE_MAPPINGS; mapping++)
        PARITY_CHECK(effects(mapping, 0, 1));
    return parity_pass();
}

OHM_PARITY_ALONE(chip_cuda, reads_as_the_cpu_does)
{
    for (int mapping = 0; mapping < FIXTURE_MAPPINGS; mapping++)
        PARITY_CHECK(effects(mapping, 3 + mapping, FIXTURE_EFFECTS));
    return parity_pass();
}

#define OFFSET "input.encoding=offset weight.cell_bits=4 input.dac_bits=4 tile.rows=32 "
#define ADC "programming.model=lognormal adc.bits=8 adc.range=max adc.noise_lsb=0.5 "

/* The correction is read through noise and converter, or is a sum of levels. */
OHM_PARITY_ALONE(chip_cuda, corrections_of_offset_inputs)
{
    static const char *const chips[] = {
        OFFSET ADC "read.model=constant read.sigma=0.01 input.correction=calibrated",
        OFFSET ADC "input.correction=nominal",
        OFFSET ADC "input.correction=nominal weight.encoding=offset tile.cols=12",
        OFFSET "weight.encoding=offset weight.subtract=digital tile.cols=12 adc.bits=7 "
               "adc.range=max input.noise=0.1 adc.gain_sigma=0.02"};
    for (int i = 0; i < 4; i++)
        PARITY_CHECK(as_on_the_cpu(chips[i], 70, i == 1 ? 140 : 37, 5));
    return parity_pass();
}

/* Both quiet reads, and their ratio. */
OHM_PARITY_SLOW(chip_cuda, drift_and_its_compensation)
{
    static const char *const chips[] = {
        OFFSET ADC "retention.model=power_law retention.nu=0.06 retention.nu_sigma=0.02 "
                   "retention.time_s=3600 retention.compensation=global",
        "input.encoding=sign_magnitude weight.cell_bits=7 input.dac_bits=8 tile.rows=32 "
        "programming.model=pcm read.model=pcm read.sigma=0.0175 retention.model=pcm "
        "retention.one_over_f=true retention.time_s=1e5 retention.compensation=column adc.bits=8 "
        "adc.range=max",
        "input.encoding=unsigned weight.encoding=offset tile.cols=12 tile.rows=32 "
        "programming.model=pcm retention.model=pcm retention.time_s=1e5 "
        "retention.compensation=global adc.bits=0",
        OFFSET "retention.model=logarithmic retention.log_slope_us=0.09 retention.log_sigma_us=0.4 "
               "retention.time_s=86400 retention.compensation=none adc.bits=0"};
    for (int i = 0; i < 4; i++)
        PARITY_CHECK(as_on_the_cpu(chips[i], 70, i == 1 ? 300 : 19, 4));
    return parity_pass();
}

#define WIRES "tile.rows=32 tile.cols=24 read.model=constant read.sigma=0.01 adc.bits=0 "

OHM_PARITY_SLOW(chip_cuda, wires)
{
    static const char *const chips[] = {
        WIRES "ir_drop.model=closed_form ir_drop.r_wordline_ohm=3 ir_drop.r_bitline_ohm=2 "
              "ir_drop.r_driver_ohm=20 ir_drop.r_sense_ohm=10",
        WIRES "ir_drop.model=closed_form ir_drop.r_wordline_ohm=0 ir_drop.r_bitline_ohm=5 "
              "tile.pair=interleaved retention.model=pcm retention.time_s=100 "
              "retention.compensation=global",
        WIRES "ir_drop.model=closed_form ir_drop.r_wordline_ohm=4 ir_drop.r_bitline_ohm=4 "
              "ir_drop.drive=both_ends ir_drop.sense=both_ends weight.encoding=offset",
        WIRES "ir_drop.model=exact ir_drop.r_wordline_ohm=3 ir_drop.r_bitline_ohm=2 "
              "ir_drop.r_driver_ohm=20 programming.model=lognormal",
        WIRES "ir_drop.model=exact ir_drop.r_wordline_ohm=3 ir_drop.r_bitline_ohm=2 "
              "ir_drop.drive=both_ends weight.encoding=offset",
    };
    for (int i = 0; i < 5; i++)
        PARITY_CHECK(as_on_the_cpu(chips[i], 50, 35, 3));
    return parity_pass();
}

/* Tensor cores, where the chip rounds conductances to halves and they know the read. */
OHM_PARITY_ALONE(chip_cuda, halves_go_to_tensor_cores)
{
    static const struct {
        const char *settings;
        ohm_mvm_kernel kernel;
    } cases[] = {{"mvm.precision=fp16 " OFFSET ADC, OHM_MVM_MMA},
                 {"mvm.precision=fp16 " OFFSET ADC "read.model=pcm read.sigma=0.02", OHM_MVM_MMA},
                 {"mvm.precision=fp16 " OFFSET "adc.bits=0", OHM_MVM_PLAIN},
                 {"mvm.precision=fp32 " OFFSET ADC, OHM_MVM_PLAIN}};
    for (int i = 0; i < 4; i++) {
        executor_counts before = executor_count();
        PARITY_CHECK(as_on_the_cpu(cases[i].settings, 40, 20, 5));
        /* tiles, halves (and variances), codes and two kernels of the correction, the read */
        size_t launches = executor_count().launches - before.launches,
               halves = cases[i].kernel == OHM_MVM_PLAIN ? 0
                        : i == 1                         ? 2
                                                         : 1;
        if (executor_present() && launches != 4 + halves)
            return parity_failed("more or fewer launches than the simulator says");
    }
    return parity_pass();
}

/* Ranges are those of the rows and of the correction's own read; histograms those of the rows. */
OHM_PARITY_SLOW(chip_cuda, ranges_and_histograms)
{
    static const char *const chips[] = {
        OFFSET "programming.model=lognormal adc.bits=8 adc.range=max",
        "programming.model=lognormal weight.encoding=offset "
        "weight.subtract=digital tile.cols=9 tile.rows=32 adc.bits=8 "
        "adc.range=max adc.granularity=column"};
    for (int i = 0; i < 2; i++)
        for (int m = 0; m < 4; m += 3) {
            twins t;
            make(&t, chips[i], 40, 20, 3);
            const fixture_chip *c = &t.f.chip;
            size_t ranges = (size_t)c->g.planes * c->g.slices * (c->read.lsb_per_column ? 20 : 1);
            float *range = parity_host(ranges * sizeof *range),
                  *got = parity_host(ranges * sizeof *got),
                  *there = parity_alloc(ranges * sizeof *there);
            uint32_t *counts = parity_host(ranges * BINS * sizeof *counts),
                     *got_counts = parity_host(ranges * BINS * sizeof *counts),
                     *counts_there = parity_alloc(ranges * BINS * sizeof *counts);
            memset(range, 0, ranges * sizeof *range);
            memset(counts, 0, ranges * BINS * sizeof *counts);
            t.backend->set_bytes(t.device, there, 0, ranges * sizeof *there);
            t.backend->set_bytes(t.device, counts_there, 0, ranges * BINS * sizeof *counts);
            program(&t, 0);
            program(&t, 1);
            infer(&t, 0, NULL, 0, m, &(ohm_infer_args){.range = range});
            infer(&t, 1, NULL, 0, m, &(ohm_infer_args){.range = there});
            PARITY_TRY(fetch(&t, got, there, ranges * sizeof *got));
            if (m > 0 || c->g.drive == OHM_DRIVE_OFFSET)
                PARITY_CHECK(ohm_compare_close(got, range, ranges, 0.0, 2e-6));
            t.backend->upload(t.device, there, range, ranges * sizeof *range);
            infer(&t, 0, NULL, 0, m,
                  &(ohm_infer_args){.range = range, .histogram = counts, .bins = BINS});
            infer(&t, 1, NULL, 0, m,
                  &(ohm_infer_args){.range = there, .histogram = counts_there, .bins = BINS});
            PARITY_TRY(fetch(&t, got_counts, counts_there, ranges * BINS * sizeof *counts));
            size_t differing = 0, all = 0;
            for (size_t b = 0; b < ranges * BINS; b++) {
                differing += (size_t)llabs((int64_t)got_counts[b] - (int64_t)counts[b]);
                all += counts[b];
            }
            if (differing > all / 500 || (m > 0) != (all > 0))
                return parity_failed("histograms differ");
            drop(&t);
        }
    return parity_pass();
}

/* ---- mode full ------------------------------------------------------------------------------- */

/* Gradients of two chunks of rows: dx [m][k] and dw [n][k]. */
static void back(twins *t, int on_device, float *dx, float *dw, const float *dsums)
{
    int k = t->f.k, n = t->f.n, m = t->f.m, cut = m / 2;
    for (int last = 0; last < 2; last++) {
        int from = last ? cut : 0;
        const ohm_backward_args args = {.x_u =
                                            (on_device ? t->codes : t->f.codes) + (size_t)from * k,
                                        .m = last ? m - cut : cut,
                                        .ldx = k,
                                        .first_row = t->f.first_row + (uint64_t)from,
                                        .moment = &t->moment,
                                        .state = t->state[on_device],
                                        .scratch = t->scratch[on_device],
                                        .dsums = dsums + (size_t)from * n,
                                        .ldd = n,
                                        .dx = dx + (size_t)from * k,
                                        .lddx = k,
                                        .dw = dw,
                                        .last = last,
                                        .queue = on_device ? &t->queue : NULL};
        OHM_OK_OR_FAIL(simulator(on_device)->backward(t->self[on_device], &args));
    }
}

static ohm_verdict near(const float *got, const float *expected, size_t count)
{
    double largest = 0.0, *wide = parity_host(count * sizeof *wide);
    for (size_t i = 0; i < count; i++) {
        wide[i] = (double)expected[i];
        largest = fmax(largest, fabs(wide[i]));
    }
    return ohm_compare_close(got, wide, count, 1e-5 * largest, 0.0);
}

/* Programmed, read and gone back through on both, twice: the second batch finds no trace of the first. */
static ohm_verdict gradients(const char *settings, int k, int n, int m)
{
    twins t;
    make_for(&t, OHM_CHIP_RECOMPUTE, settings, k, n, m);
    size_t xs = (size_t)m * k, ws = (size_t)n * k, ys = (size_t)m * n;
    float *dx[2], *dw[2], *got = parity_host((xs + ws) * sizeof *got),
                          *dsums = parity_host(ys * sizeof *dsums), *sums[2];
    fixture_reals(dsums, ys, 31);
    const float *of[2] = {dsums, parity_upload(dsums, ys * sizeof *dsums)};
    for (int i = 0; i < 2; i++) {
        dx[i] = i ? parity_alloc(xs * sizeof(float)) : parity_host(xs * sizeof(float));
        dw[i] = i ? parity_alloc(ws * sizeof(float)) : parity_host(ws * sizeof(float));
        sums[i] = i ? parity_alloc(ys * sizeof(float)) : parity_host(ys * sizeof(float));
    }
    for (int batch = 0; batch < 2; batch++) {
        memset(dw[0], 0, ws * sizeof(float));
        t.backend->set_bytes(t.device, dw[1], 0, ws * sizeof(float));
        for (int i = 0; i < 2; i++) {
            program(&t, i);
            infer(&t, i, sums[i], 0, m, NULL);
            back(&t, i, dx[i], dw[i], of[i]);
        }
    }
    uint32_t fault = 1;
    PARITY_TRY(fetch(&t, got, dx[1], xs * sizeof *got));
    PARITY_TRY(fetch(&t, got + xs, dw[1], ws * sizeof *got));
    PARITY_TRY(fetch(&t, &fault, t.fault, sizeof fault));
    ck_assert_uint_eq(fault, 0);
    drop(&t);
    PARITY_CHECK(near(got, dx[0], xs));
    return near(got + xs, dw[0], ws);
}

OHM_PARITY_ALONE(chip_cuda, gradients_are_the_cpu_s)
{
    return gradients(OFFSET ADC "read.model=constant read.sigma=0.01 weight.cell_bits=7", 40, 17,
                     4);
}

/* Others in each thread order. */
OHM_PARITY_SLOW(chip_cuda, gradients_of_every_kind)
{
    static const char *const chips[] = {
        OFFSET ADC "read.model=pcm read.sigma=0.02",
        OFFSET ADC "input.correction=nominal",
        "input.encoding=two_phase weight.subtract=digital weight.cell_bits=7 input.dac_bits=7 "
        "tile.rows=32 ir_drop.model=closed_form ir_drop.r_wordline_ohm=2 " ADC,
        OFFSET ADC "retention.model=power_law retention.nu=0.06 retention.nu_sigma=0.02 "
                   "retention.time_s=3600 retention.compensation=column weight.encoding=offset "
                   "tile.cols=12 adc.gain_sigma=0.02 temperature.johnson_bandwidth_hz=1e9",
        OFFSET "weight.encoding=offset weight.subtract=digital tile.cols=12 adc.bits=7 "
               "adc.range=max input.noise=0.1 cell.iv=sinh cell.iv_coefficient=3",
        WIRES "ir_drop.model=exact ir_drop.r_wordline_ohm=3 ir_drop.r_bitline_ohm=2 "
              "ir_drop.r_driver_ohm=20 programming.model=lognormal",
        WIRES "ir_drop.model=exact ir_drop.gradient=closed_form ir_drop.r_wordline_ohm=3 "
              "weight.encoding=offset"};
    static int next;
    const int every = executor_present() ? 5 : 1, start = next++;
    for (int i = 0; i < 7; i++)
        if (i % every == start % every)
            PARITY_CHECK(gradients(chips[i], 50, 35, 7));
    return parity_pass();
}

/* A recorded step, replayed with another step on the device, is that step; in pieces of rows, too. */
OHM_PARITY_SLOW(chip_cuda, a_recorded_step_serves_every_step)
{
    enum { K = 40, N = 20, M = 5 };
    static const char *const chips[] = {
        OFFSET ADC "read.model=constant read.sigma=0.01 retention.model=pcm "
                   "retention.one_over_f=true retention.time_s=100 retention.compensation=global "
                   "adc.gain_sigma=0.02",
        "programming.model=lognormal input.encoding=sign_magnitude ir_drop.model=closed_form "
        "ir_drop.r_wordline_ohm=2 tile.rows=32 tile.cols=24 " ADC};
    for (int i = 0; i < 2; i++) {
        twins t;
        float direct[M * N], same[M * N], later[M * N], *sums = parity_alloc(sizeof direct);
        make(&t, chips[i], K, N, M);
        const uint32_t first = t.moment.step, other = first + 41;
        t.queue.step = NULL;
        program(&t, 1);
        infer(&t, 1, sums, 0, M, NULL);
        PARITY_TRY(fetch(&t, direct, sums, sizeof direct));
        t.queue.step = t.step;
        t.moment.step = 12345; /* the device's word counts */
        executor_counts before = executor_count();
        OHM_OK_OR_FAIL(t.backend->record(t.device));
        program(&t, 1);
        infer(&t, 1, sums, 0, 2, NULL);
        infer(&t, 1, sums, 2, M, NULL);
        OHM_OK_OR_FAIL(t.backend->recorded(t.device));
        executor_counts after = executor_count();
        ck_assert_uint_eq(after.allocations, before.allocations);
        ck_assert_uint_eq(after.waits, before.waits);
        OHM_OK_OR_FAIL(t.backend->replay(t.device));
        PARITY_TRY(fetch(&t, same, sums, sizeof same));
        PARITY_CHECK(ohm_compare_bits(same, direct, M * N));
        t.backend->upload(t.device, t.step, &other, sizeof other);
        OHM_OK_OR_FAIL(t.backend->replay(t.device));
        PARITY_TRY(fetch(&t, later, sums, sizeof later));
        t.queue.step = NULL;
        t.moment.step = other;
        program(&t, 1);
        infer(&t, 1, sums, 0, M, NULL);
        PARITY_TRY(fetch(&t, direct, sums, sizeof direct));
        PARITY_CHECK(ohm_compare_bits(later, direct, M * N));
        if (ohm_compare_bits(same, later, M * N).pass)
            return parity_failed("two steps drew the same");
        drop(&t);
    }
    return parity_pass();
}

/* Cells that stay as they were programmed draw the noise of the step in which they are read. */
OHM_PARITY_ALONE(chip_cuda, a_kept_chip_is_read_anew_in_each_step)
{
    enum { K = 20, N = 6, M = 3 };
    twins t;
    float kept[M * N], anew[M * N], before[M * N], *sums = parity_alloc(sizeof kept);
    make(&t,
         "input.encoding=sign_magnitude input.dac_bits=7 programming.model=none adc.bits=0 "
         "read.model=constant read.sigma=0.01",
         K, N, M);
    t.queue.step = NULL;
    program(&t, 1);
    infer(&t, 1, sums, 0, M, NULL);
    PARITY_TRY(fetch(&t, before, sums, sizeof before));
    t.moment.step++;
    infer(&t, 1, sums, 0, M, NULL);
    PARITY_TRY(fetch(&t, kept, sums, sizeof kept));
    program(&t, 1); /* to the same cells: nothing of it is random */
    infer(&t, 1, sums, 0, M, NULL);
    PARITY_TRY(fetch(&t, anew, sums, sizeof anew));
    drop(&t);
    PARITY_CHECK(ohm_compare_bits(kept, anew, M * N));
    return ohm_compare_bits(kept, before, M * N).pass ? parity_failed("two steps drew the same")
                                                      : parity_pass();
}

/* Outputs of the layer in the same launch. */
OHM_PARITY_ALONE(chip_cuda, rescales)
{
    enum { K = 40, N = 20, M = 5 };
    twins t;
    float sums[M * N], got[M * N], expected[M * N], rows[M], scale[N], column[N], bias[N];
    float *y = parity_alloc(sizeof got);
    make(&t, OFFSET ADC, K, N, M);
    for (int i = 0; i < N; i++) {
        scale[i] = 0.002f + 1e-4f * (float)i;
        column[i] = 1.5f - 0.02f * (float)i;
        bias[i] = 0.3f * (float)i - 2.0f;
    }
    for (int i = 0; i < M; i++)
        rows[i] = 0.01f + 0.003f * (float)i;
    program(&t, 1);
    infer(&t, 1, y, 0, M, NULL);
    PARITY_TRY(fetch(&t, sums, y, sizeof sums));
    for (int kind = 0; kind < 4; kind++) {
        ohm_chip_rescale there = {.x_scale = parity_upload(rows, sizeof rows),
                                  .x_scale_rows = kind & 1,
                                  .w_scale = parity_upload(scale, sizeof scale),
                                  .column_scale =
                                      kind & 2 ? parity_upload(column, sizeof column) : NULL,
                                  .bias = kind & 2 ? parity_upload(bias, sizeof bias) : NULL};
        infer(&t, 1, y, 0, M, &(ohm_infer_args){.rescale = &there});
        PARITY_TRY(fetch(&t, got, y, sizeof got));
        for (int i = 0; i < M * N; i++) {
            int row = i / N, n = i % N;
            double by = (double)rows[kind & 1 ? row : 0] * (double)scale[n] *
                        (double)(kind & 2 ? column[n] : 1.0f);
            expected[i] = (float)((double)sums[i] * by + (double)(kind & 2 ? bias[n] : 0.0f));
        }
        PARITY_CHECK(ohm_compare_bits(got, expected, M * N));
    }
    drop(&t);
    return parity_pass();
}

/* What stops the CPU at once is a bit on the device. */
OHM_PARITY_ALONE(chip_cuda, notes_wires_without_a_solution)
{
    twins t;
    uint32_t fault = 0;
    make(&t, WIRES "ir_drop.model=exact ir_drop.r_wordline_ohm=1e3", 20, 7, 2);
    t.f.chip.hardware.cell.g_max_us = 1e300; /* no float holds it */
    program(&t, 1);
    PARITY_TRY(fetch(&t, &fault, t.fault, sizeof fault));
    ck_assert_uint_eq(fault, OHM_FAULT_WIRES);
    drop(&t);
    return parity_pass();
}

static void refused(const char *settings, const char *line)
{
    ohm_hardware hardware;
    ohm_chip_shape shape;
    void *self = NULL;
    fixture_hardware(&hardware, settings);
    ohm_device_shape(&shape, &hardware, 10, 5, 3);
    ck_assert_int_eq(ohm_simulator_analog_cuda.create(&self, &shape), OHM_ERR_UNSUPPORTED);
    ck_assert_ptr_null(self);
    ck_assert_str_eq(ohm_error_text(), line);
}

OHM_TEST(chip_cuda, refuses_what_the_cpu_alone_does)
{
    refused("read.model=constant read.sigma=0.01 read.form=per_cell",
            "read.form: 'per_cell' runs on the CPU alone so far; set device: cpu, or read.form: "
            "aggregate, the same distribution");
    refused("ir_drop.model=exact ir_drop.zero_input=gated",
            "ir_drop.zero_input: 'gated' with exact wires runs on the CPU alone so far; set "
            "device: cpu");
    refused("ir_drop.model=exact cell.iv=cubic cell.iv_coefficient=0.1",
            "cell.iv: not linear with exact wires runs on the CPU alone so far; set device: cpu");
    refused(
        "ir_drop.model=exact tile.rows=1025 tile.cols=1100",
        "tile.rows, tile.cols: exact wires of a tile with more than 1024 lines on both sides run "
        "on the CPU alone; set device: cpu, or ir_drop.model: closed_form");
}
