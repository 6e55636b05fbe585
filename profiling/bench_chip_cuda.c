/* The chip's read and its programming, for bench_cuda. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/mvm_backward.h"
#include "kernels/mvm_backward_cuda.h"
#include "kernels/mvm_halves_cuda.h"
#include "kernels/program_cuda.h"
#include "profiling/bench_cuda.h"

/* ---- the chip's read ------------------------------------------------------------------------ */

/* One plane, one slice, analog pairs, 128-row tiles. */
static ohm_geometry one_read(int size)
{
    return (ohm_geometry){.k = size,
                          .n = size,
                          .drive = OHM_DRIVE_SIGN_MAGNITUDE,
                          .planes = 1,
                          .slices = 1,
                          .phases = 1,
                          .dac_bits = 7,
                          .cell_bits = 7,
                          .differential = 1,
                          .tile_rows = 128,
                          .tiles = (size + 127) / 128,
                          .tile_columns = size,
                          .column_tiles = 1,
                          .max_digit = 127,
                          .max_level = 127};
}

typedef struct {
    ohm_geometry g;
    ohm_read r;
    ohm_tiles host, w;
    ohm_mvm_input input;
    ohm_mvm_output y;
    ohm_mvm_halves halves;
    uint8_t *codes;
    float lsb;
} chip;

static ohm_cuda_status mvm_plain(const void *context)
{
    const chip *c = context;
    return ohm_mvm_plain_cuda(&c->y, &c->input, bench.s);
}

static ohm_cuda_status mvm_tensor_cores(const void *context)
{
    const chip *c = context;
    return ohm_mvm_mma_cuda(&c->y, &c->input, &c->halves, bench.s);
}

static ohm_cuda_status mvm_hopper(const void *context)
{
    const chip *c = context;
    return ohm_mvm_hopper_cuda(&c->y, &c->input, &c->halves, bench.s);
}

/* Kernels, and what each is to reach: of cuBLAS fp16 with noise off, of the larger bound with noise on.
 * The plain one is there to be right. The last one has nothing to lose if it ends the context. */
static const struct {
    const char *name;
    subject *run;
    double quiet, noisy;
    ohm_mvm_kernel kernel;
} reads[] = {{"plain kernel", mvm_plain, 0, 0, OHM_MVM_PLAIN},
             {"tensor cores", mvm_tensor_cores, 0.45, 0.6, OHM_MVM_MMA},
             {"sm_90a", mvm_hopper, 0.7, 0.6, OHM_MVM_HOPPER}};

/* An 8-bit ADC; random cells and codes. */
static int chip_make(chip *c, int size, int noise)
{
    c->g = one_read(size);
    c->lsb = 127.0f * 127.0f * 128.0f * 0.2f / 127.0f;
    c->r = (ohm_read){.v_read = 0.2,
                      .read_constant = noise ? 0.0175f * 0.0175f * 127.0f * 127.0f : 0.0f,
                      .read_noise = noise,
                      .adc_bits = 8,
                      .adc_noise = noise ? 0.5f : 0.0f,
                      .lsb = &c->lsb,
                      .stream = words_of};
    for (int i = 0; i < 256; i++)
        c->r.dac_level[i] = c->r.drive_level[i] = (float)i;
    size_t cells = (size_t)size * ohm_packed_columns(&c->g), codes = (size_t)size * size;
    c->host.w = malloc(cells * sizeof *c->host.w);
    c->codes = malloc(codes);
    if (!c->host.w || !c->codes)
        return 0;
    for (size_t i = 0; i < cells; i++)
        c->host.w[i] = (float)(int)(ohm_stream_word(&words_of, i) % 255) - 127.0f;
    for (size_t i = 0; i < codes; i++)
        c->codes[i] = (uint8_t)ohm_stream_word(&words_of, cells + i);
    return 1;
}

/* Some first rows against the CPU, which draws the same noise. A value on a threshold may become the
 * next code: one per mille of the outputs, by a code or two. */
static int chip_right(const chip *c)
{
    enum { ROWS = 2 };
    size_t count = (size_t)ROWS * c->g.n, wrong = 0;
    float *got = malloc(count * sizeof *got), *expected = malloc(count * sizeof *expected);
    void *scratch = aligned_alloc(64, (ohm_mvm_scratch_bytes(&c->g) + 63) / 64 * 64);
    ohm_read r = c->r;
    int ok = got && expected && scratch && device_fetch(got, c->y.y, count * sizeof *got);
    r.lsb = &c->lsb;
    if (ok)
        ohm_mvm_cpu(expected, c->g.n, &c->g, &r, &c->host, c->codes, c->g.k, ROWS, 0, scratch);
    for (size_t i = 0; ok && i < count; i++) {
        float off = fabsf(got[i] - expected[i]);
        wrong += !(off < 1e-3f * c->lsb);
        ok = off < 2.5f * c->lsb;
    }
    free(got);
    free(expected);
    free(scratch);
    return ok && wrong <= count / 1000 + 1;
}

static int measure_mvm_with(chip *c, size_t kernel, int noise)
{
    const int size = bench.small ? 144 : 4096;
    char what[96], shape[48];
    snprintf(what, sizeof what, "mvm, %s, ADC on, noise %s", reads[kernel].name,
             noise ? "on" : "off");
    snprintf(shape, sizeof shape, "%d x %d x %d", size, size, size);
    if (!chip_make(c, size, noise))
        return device_no_memory(what);
    const size_t cells = (size_t)size * ohm_packed_columns(&c->g), outputs = (size_t)size * size;
    float *y = device_memory(outputs * sizeof *y);
    c->w.w = device_upload(c->host.w, cells * sizeof(float));
    c->r.lsb = device_upload(&c->lsb, sizeof c->lsb);
    c->y = (ohm_mvm_output){.y = y, .ldy = size};
    c->input = (ohm_mvm_input){.g = &c->g,
                               .r = &c->r,
                               .w = &c->w,
                               .x_u = device_upload(c->codes, outputs),
                               .ldx = size,
                               .m = size};
    c->halves.w = device_memory(ohm_halves_count(&c->g) * sizeof *c->halves.w);
    c->halves.blocked = reads[kernel].kernel == OHM_MVM_HOPPER;
    if (!y || !c->w.w || !c->r.lsb || !c->input.x_u || !c->halves.w)
        return device_no_memory(what);
    if (c->halves.blocked && ohm_mvm_choose(&c->input, &bench.device) != OHM_MVM_HOPPER)
        return 1; /* another architecture */
    TRY(ohm_mvm_pack_cuda(&c->halves, &c->g, &c->w, bench.s));
    TRY(ohm_cuda_fill(y, 255, outputs * sizeof *y, bench.s));
    TRY(reads[kernel].run(c));
    if (!chip_right(c))
        return device_differs(what);
    double spread, seconds = device_timed(reads[kernel].run, c, &spread);
    if (seconds <= 0)
        return 0;
    double flop = 2.0 * size * (double)outputs, draws = (double)outputs * c->g.tiles;
    double products = bench.fp16 > 0 ? flop / bench.fp16 : 0, bound = products;
    if (noise && bench.words_cached > 0) /* a byte per draw */
        bound = fmax(bound, draws / bench.words_cached);
    device_print((ohm_bench_figure){
        .what = what,
        .shape = shape,
        .value = flop / seconds * 1e-12,
        .unit = "Tflop/s",
        .spread = spread,
        .ratio = bound / seconds,
        .baseline = products <= 0 ? NULL
                    : noise       ? "larger bound of cuBLAS fp16 and a Philox byte per draw"
                                  : "cuBLAS fp16",
        .target = noise ? reads[kernel].noisy : reads[kernel].quiet});
    return 1;
}

int measure_mvm(void)
{
    int ok = 1;
    for (size_t kernel = 0; kernel < sizeof reads / sizeof *reads; kernel++)
        for (int noise = 0; noise < 2; noise++) {
            chip c = {.lsb = 0};
            ok &= measure_mvm_with(&c, kernel, noise);
            free(c.host.w);
            free(c.codes);
            device_release();
        }
    return ok;
}

/* ---- mode full: the derivative of that read --------------------------------------------------- */

typedef struct {
    chip c;
    ohm_mvm_input input;
    ohm_mvm_backward_output out;
    ohm_cell_gradient cells; /* on the device */
    float *dsums;
} derivative;

static ohm_cuda_status mvm_backward(const void *context)
{
    const derivative *d = context;
    return ohm_mvm_backward_cuda(&d->out, &d->input, bench.s);
}

static int near(const float *got, const float *expected, size_t count)
{
    float largest = 0.0f, off = 0.0f;
    for (size_t i = 0; i < count; i++) {
        largest = fmaxf(largest, fabsf(expected[i]));
        off = fmaxf(off, fabsf(got[i] - expected[i]));
    }
    return largest > 0.0f && off <= 1e-4f * largest; /* NaN is not near */
}

/* Some first rows alone against the CPU: towards x and towards the cells. A current on the edge of the
 * ADC's range may be clipped by one and not by the other; with noise none is seen. */
static int derivative_right(const derivative *d)
{
    enum { ROWS = 2 };
    const ohm_geometry *g = &d->c.g;
    ohm_read r = d->c.r;
    r.lsb = &d->c.lsb;
    size_t xs = (size_t)ROWS * g->k, cells = 2 * (size_t)g->k * g->n,
           read = ohm_mvm_scratch_bytes(g), back = ohm_mvm_backward_scratch_bytes(g, &r, ROWS);
    float *all = calloc(2 * xs + 3 * cells, sizeof *all);
    void *factors = malloc(ROWS * ohm_mvm_factors_of(g, &r).row_bytes + 1),
         *scratch = aligned_alloc(64, ((read > back ? read : back) + 63) / 64 * 64);
    int ok = all && factors && scratch;
    if (ok) {
        float *dx = all, *dg = dx + xs, *dvariance = dg + cells;
        ohm_cell_gradient host = {.dg = dg, .dvariance = dvariance};
        const ohm_mvm_gradient of = {.x_u = d->c.codes,
                                     .ldx = g->k,
                                     .m = ROWS,
                                     .factors = factors,
                                     .dsums = d->dsums,
                                     .ldd = g->n,
                                     .dx = dx,
                                     .lddx = g->k,
                                     .cells = &host};
        ohm_mvm_read_cpu(&(ohm_mvm_result){.factors = factors}, g, &r, &d->c.host, d->c.codes, g->k,
                         ROWS, 0, scratch);
        ohm_mvm_backward(&of, g, &r, &d->c.host, 0.0, scratch);
        ohm_mvm_input few = d->input;
        few.m = ROWS;
        float *got_dx = dvariance + cells, *got_dg = got_dx + xs;
        ok = ohm_mvm_clear_gradient_cuda(&d->cells, g, bench.s) == OHM_CUDA_OK &&
             ohm_mvm_backward_cuda(&d->out, &few, bench.s) == OHM_CUDA_OK &&
             device_fetch(got_dx, d->out.dx, xs * sizeof *dx) &&
             device_fetch(got_dg, d->cells.dg, cells * sizeof *dg) && near(got_dx, dx, xs) &&
             near(got_dg, dg, cells);
    }
    free(all);
    free(factors);
    free(scratch);
    return ok;
}

/* Four products, the currents twice, against as many of cuBLAS in halves: no target, nothing to compare with. */
int measure_mvm_backward(void)
{
    static const char what[] = "mvm backward, ADC and noise on";
    const int size = bench.small ? 144 : 4096;
    derivative d = {.c = {.lsb = 0}};
    const size_t outputs = (size_t)size * size;
    int ok = chip_make(&d.c, size, 1);
    d.dsums = malloc(outputs * sizeof *d.dsums);
    for (size_t i = 0; d.dsums && i < outputs; i++)
        d.dsums[i] = (float)(int)(ohm_stream_word(&words_of, i) % 2001) * 1e-3f - 1.0f;
    d.c.w.w = ok ? device_upload(d.c.host.w, (size_t)size * ohm_packed_columns(&d.c.g) * 4) : NULL;
    d.cells.dg = device_memory(2 * outputs * sizeof(float));
    d.cells.dvariance = device_memory(2 * outputs * sizeof(float));
    ohm_read r = d.c.r;
    r.lsb = device_upload(&d.c.lsb, sizeof d.c.lsb);
    d.input = (ohm_mvm_input){.g = &d.c.g,
                              .r = &r,
                              .w = &d.c.w,
                              .x_u = ok ? device_upload(d.c.codes, outputs) : NULL,
                              .ldx = size,
                              .m = size};
    d.out = (ohm_mvm_backward_output){
        .dsums = d.dsums ? device_upload(d.dsums, outputs * sizeof *d.dsums) : NULL,
        .ldd = size,
        .scale = 1.0f,
        .dx = device_memory(outputs * sizeof(float)),
        .lddx = size,
        .cells = &d.cells,
        .halves = 1, /* whole levels are */
        .scratch = device_memory(ohm_mvm_backward_cuda_bytes(&d.c.g, size))};
    ok = ok && d.c.w.w && d.cells.dg && d.cells.dvariance && r.lsb && d.input.x_u && d.out.dsums &&
         d.out.dx && d.out.scratch;
    if (!ok)
        device_no_memory(what);
    else if (!derivative_right(&d))
        ok = device_differs(what);
    double spread, seconds = ok ? device_timed(mvm_backward, &d, &spread) : 0;
    if (seconds > 0) {
        const double flop = 4 * 2.0 * size * (double)outputs;
        char shape[48];
        snprintf(shape, sizeof shape, "%d x %d x %d", size, size, size);
        device_print((ohm_bench_figure){.what = what,
                                        .shape = shape,
                                        .value = flop / seconds * 1e-12,
                                        .unit = "Tflop/s",
                                        .spread = spread,
                                        .ratio = bench.fp16 > 0 ? flop / bench.fp16 / seconds : 0,
                                        .baseline = bench.fp16 > 0 ? "cuBLAS fp16" : NULL});
    }
    free(d.dsums);
    free(d.c.host.w);
    free(d.c.codes);
    return seconds > 0;
}

/* ---- programming ---------------------------------------------------------------------------- */

typedef struct {
    ohm_geometry g;
    ohm_programming p;
    ohm_read_law read;
    ohm_tiles w;
    uint8_t *levels;
} programmed;

static ohm_cuda_status program(const void *context)
{
    const programmed *c = context;
    static const uint8_t no_reference[1];
    return ohm_program_cuda(&c->w, NULL, &c->g, &c->p, &c->read, 0.0, c->levels, no_reference, NULL,
                            NULL, NULL, bench.s);
}

/* Packed cells against the host's, bit by bit. */
static int programmed_right(const programmed *c, const uint8_t *levels, size_t cells)
{
    static const uint8_t no_reference[1];
    float *got = malloc(cells * sizeof *got), *expected = calloc(cells, sizeof *expected);
    size_t bytes = (ohm_program_scratch_bytes(&c->g, &c->p) + 63) / 64 * 64 + 64;
    void *scratch = aligned_alloc(64, bytes);
    ohm_tiles host = {.w = expected};
    int ok = got && expected && scratch && device_fetch(got, c->w.w, cells * sizeof *got) &&
             ohm_program_cpu(&host, NULL, &c->g, &c->p, &c->read, 0.0, levels, no_reference,
                             scratch) == OHM_SOLVE_OK &&
             memcmp(got, expected, cells * sizeof *got) == 0;
    free(got);
    free(expected);
    free(scratch);
    return ok;
}

/* Lognormal cells: one exact normal, four bytes of Philox, for each of the two of a weight. */
int measure_program(void)
{
    const int size = bench.small ? 144 : 4096;
    const double pedestal = 127.0 / 50.0;
    programmed c = {.g = one_read(size)};
    c.g.pedestal = pedestal;
    c.p = (ohm_programming){.g_min = pedestal,
                            .g_max = pedestal + 127.0,
                            .noise = 1,
                            .lognormal = 1,
                            .tolerance = INFINITY,
                            .per_program = words_of,
                            .per_chip = words_of,
                            .per_time = words_of};
    for (int i = 0; i < 128; i++)
        c.p.level[i] = (ohm_level){.mean = pedestal + i, .sigma = 0.1};
    const size_t drawn = 2 * (size_t)size * size, cells = (size_t)size * ohm_packed_columns(&c.g);
    uint8_t *levels = malloc(drawn);
    for (size_t i = 0; i < drawn && levels; i++)
        levels[i] = ohm_stream_word(&words_of, i) & 127;
    c.levels = device_upload(levels, drawn);
    c.w.w = device_memory(cells * sizeof *c.w.w);
    int ok = c.levels && c.w.w;
    if (!ok)
        device_no_memory("programming");
    else if (ohm_cuda_fill(c.w.w, 0, cells * sizeof *c.w.w, bench.s) != OHM_CUDA_OK ||
             program(&c) != OHM_CUDA_OK)
        ok = fprintf(stderr, "bench_cuda: %s\n", ohm_cuda_error_text()) < 0;
    else if (!programmed_right(&c, levels, cells))
        ok = device_differs("programming");
    free(levels);
    double spread, seconds = ok ? device_timed(program, &c, &spread) : 0,
                   words_needed = 4.0 * (double)drawn;
    if (seconds <= 0)
        return 0;
    char shape[48];
    snprintf(shape, sizeof shape, "%d x %d pairs", size, size);
    device_print((ohm_bench_figure){
        .what = "programming, lognormal",
        .shape = shape,
        .value = (double)drawn / seconds * 1e-9,
        .unit = "G cells/s",
        .spread = spread,
        .ratio = words_needed / seconds / bench.words_cached,
        .baseline = bench.words_cached > 0 ? "Philox words in the second cache" : NULL,
        .target = 0.6});
    return 1;
}
