/* Programming on the device against the host: bits, where the header claims them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/device.h"
#include "kernels/program_cuda.h"
#include "tests/fixture_chip.h"
#include "tests/parity.h"

static const char *const models[] = {
    "programming.model=none",
    "programming.model=lognormal programming.sigma=0.1 programming.level=2 read.model=constant "
    "read.sigma=0.01",
    "programming.model=proportional programming.sigma=0.1 faults.stuck_off=0.05 "
    "faults.stuck_on=0.04 faults.stuck_random=0.03 read.model=proportional read.sigma=0.02",
    "programming.model=polynomial programming.coefficients_us=[0.3,2,-1.2] "
    "retention.model=power_law retention.nu=0.06 retention.nu_sigma=0.02 "
    "retention.time_s=3600 read.model=pcm read.sigma=0.01",
    "programming.model=exponential programming.coefficients_us=[2,9] retention.model=logarithmic "
    "retention.log_slope_us=0.09 retention.log_sigma_us=0.4 retention.log_sigma_slope_us=0.04 "
    "retention.time_s=86400 retention.floor_us=0.5",
    "programming.model=pcm retention.model=pcm retention.one_over_f=true retention.time_s=86400",
    "programming.model=pcm retention.model=pcm retention.pcm_law=hermes retention.one_over_f=true "
    "retention.time_s=1e6",
    "programming.model=lognormal temperature.kelvin=360 temperature.activation_ev=0.1 "
    "temperature.activation_sigma_ev=0.02",
    "programming.model=lognormal read.model=pcm read.sigma=0.02 mvm.precision=fp16",
};
static const char *const mappings[] = {
    "weight.encoding=differential weight.cell_bits=2 tile.pair=interleaved",
    "weight.encoding=differential weight.cell_bits=4 weight.subtract=digital cell.on_off=10",
    "weight.encoding=offset weight.cell_bits=3 tile.cols=10",
    "weight.encoding=offset weight.cell_bits=8 weight.subtract=digital tile.cols=20",
};
enum { MODELS = sizeof models / sizeof *models, MAPPINGS = sizeof mappings / sizeof *mappings };

/* One array of floats on both sides. */
typedef struct {
    float *host, *device;
    size_t count;
} both;

static both pair_of(const float *like, size_t count)
{
    both b = {NULL, NULL, like ? count : 0};
    if (like) {
        b.host = calloc(count, sizeof(float));
        b.device = parity_alloc(count * sizeof(float));
    }
    return b;
}

/* The device's array has the host's bits, or its values to rtol of themselves and of a level. */
static ohm_verdict same(both b, double rtol)
{
    ohm_verdict verdict = {.pass = true};
    float *got = malloc(b.count * sizeof *got);
    if (parity_fetch(got, b.device, b.count * sizeof *got) != OHM_CUDA_OK)
        verdict = parity_failed("fetch");
    else if (rtol == 0.0)
        verdict = ohm_compare_bits(got, b.host, b.count);
    else if (b.count)
        verdict = ohm_compare_close(got, b.host, b.count, rtol, rtol);
    free(got);
    free(b.host);
    return verdict;
}

/* The device's tiles before wires, solved on the host as ohm_program_cpu does, back on the device. */
static ohm_cuda_status pass_wires(const float **solved, const fixture_chip *c, const uint8_t *levels,
                                  const ohm_program_places *some, const uint32_t *step)
{
    const ohm_programming *p = &c->programming;
    const ohm_crosspoint tile = {
        .rows = p->physical_rows, .columns = p->physical_columns, .wires = p->wires};
    const size_t count = ohm_physical_tiles(&c->g, p, some), cells = (size_t)tile.rows * tile.columns,
                 bytes = count * cells * sizeof(float);
    float *physical = malloc(bytes), *device = parity_alloc(bytes);
    void *scratch = aligned_alloc(64, (ohm_irdrop_exact_bytes_f32(&tile) + 63) / 64 * 64);
    ohm_cuda_status status = ohm_program_physical_cuda(device, &c->g, p, levels, c->ref_level, some, step,
                                                       parity_stream());
    if (status == OHM_CUDA_OK)
        status = parity_fetch(physical, device, bytes);
    for (size_t i = 0; i < count && status == OHM_CUDA_OK; i++)
        ohm_irdrop_exact_f32(physical + i * cells, physical + i * cells, &tile, scratch, NULL);
    *solved = parity_upload(physical, bytes);
    free(scratch);
    free(physical);
    return status;
}

enum { W, VARIANCE, JOHNSON, REF, REF_VARIANCE, REF_JOHNSON, G, G_EFF, SLOPE, G_REF, G_REF_EFF, KEPT };

/* Both sides program the same levels; tolerance: of cells, johnson's is 1e-6. */
static ohm_verdict check(const char *settings, int k, int n, int with_gradient, double tolerance)
{
    static const char *const names[KEPT] = {"w",           "variance", "johnson", "ref",   "ref_variance",
                                            "ref_johnson", "g",        "g_eff",   "slope", "g_ref",
                                            "g_ref_eff"};
    fixture_chip c;
    fixture_chip_make(&c, settings, k, n, 4, 0.3);
    const ohm_geometry *g = &c.g;
    const int signs = g->differential ? 2 : 1, offset = !g->differential;
    const size_t np = (size_t)ohm_packed_columns(g), arrays = (size_t)g->slices * ohm_arrays(g);
    const float one = 1.0f, *ref = offset ? &one : NULL, *grad = with_gradient ? &one : NULL;
    both b[KEPT];
    b[W] = pair_of(&one, arrays * k * np);
    b[VARIANCE] = pair_of(&one, arrays * k * np);
    b[JOHNSON] = pair_of(&one, arrays * g->tiles * np);
    b[REF] = pair_of(ref, (size_t)g->slices * g->column_tiles * k);
    b[REF_VARIANCE] = pair_of(ref, (size_t)g->slices * g->column_tiles * k);
    b[REF_JOHNSON] = pair_of(ref, (size_t)g->slices * g->tiles * g->column_tiles);
    for (int i = G; i <= SLOPE; i++)
        b[i] = pair_of(grad, (size_t)signs * k * n);
    for (int i = G_REF; i <= G_REF_EFF; i++)
        b[i] = pair_of(grad && ref ? grad : NULL, (size_t)k * g->column_tiles);
    ohm_tiles tiles[2] = {{0}, {0}};
    ohm_cell_gradient gradient[2] = {{0}, {0}};
    for (int on_device = 0; on_device < 2; on_device++) {
        ohm_tiles *t = &tiles[on_device];
        ohm_cell_gradient *d = &gradient[on_device];
        float **to[KEPT] = {&t->w,     &t->variance, &t->johnson, &t->ref,   &t->ref_variance, &t->ref_johnson,
                            &d->g,     &d->g_eff,    &d->slope,   &d->g_ref, &d->g_ref_eff};
        for (int i = 0; i < KEPT; i++)
            *to[i] = on_device ? b[i].device : b[i].host;
    }
    /* The step is read on the device; the host's is the same number. */
    const uint32_t step = 77;
    ohm_programming here, there;
    c.moment.step = step;
    ohm_device_programming(&here, g, &c.shape, &c.moment);
    c.moment.step = 0;
    ohm_device_programming(&there, g, &c.shape, &c.moment);
    const double johnson = 0.125;
    ohm_program_cpu(&tiles[0], grad ? &gradient[0] : NULL, g, &here, &c.law, johnson, c.levels, c.ref_level,
                    c.scratch);
    const uint8_t *levels = parity_upload(c.levels, (size_t)g->slices * signs * k * n);
    const uint32_t *dstep = parity_upload(&step, sizeof step);
    ohm_verdict verdict = {.pass = true};
    const int all = ohm_places_of(g, NULL).count, half = (all + 1) / 2;
    for (int first = 0; first < all && verdict.pass; first += half) { /* in two parts */
        const float *solved = NULL;
        const ohm_program_places some = {first, all - first < half ? all - first : half};
        if (c.programming.ir != OHM_WIRES_NONE && pass_wires(&solved, &c, levels, &some, dstep) != OHM_CUDA_OK)
            verdict = parity_failed("ohm_program_physical_cuda");
        else if (ohm_program_cuda(&tiles[1], grad ? &gradient[1] : NULL, g, &there, &c.law, johnson, levels,
                                  c.ref_level, solved, &some, dstep, parity_stream()) != OHM_CUDA_OK)
            verdict = parity_failed("ohm_program_cuda");
    }
    double largest = 0.0;
    for (size_t i = 0; i < b[W].count; i++)
        largest = fmax(largest, fabs((double)b[W].host[i]));
    ck_assert_double_gt(largest, 0.5);
    for (int i = 0; i < KEPT; i++) {
        ohm_verdict one_array = same(b[i], i == JOHNSON || i == REF_JOHNSON ? 1e-6 : tolerance);
        if (verdict.pass && !one_array.pass) {
            verdict = one_array;
            snprintf(verdict.text, sizeof verdict.text, "%.80s: %s: %.160s", settings, names[i], one_array.text);
        }
    }
    fixture_chip_free(&c);
    return verdict;
}

static ohm_verdict check_table(int every)
{
    for (size_t i = 0; i < MODELS; i++)
        for (size_t j = 0; j < MAPPINGS; j++) {
            char settings[1024];
            if (!every && j != i % MAPPINGS)
                continue;
            /* tiles of one and of two parts */
            snprintf(settings, sizeof settings, "%s tile.rows=%d %s", mappings[j],
                     (i + j) % 4 < 2 ? 32 : 48, models[i]);
            PARITY_CHECK(check(settings, 37, (i + j) % 2 ? 29 : 28, (i + j) % 3 == 0, 0.0));
        }
    return parity_pass();
}

OHM_PARITY_SLOW(program_cuda, every_model_on_every_mapping)
{
    return check_table(1);
}

/* erfc is another library's: one float step of a draw, times sigma = 0.3 of a level. */
OHM_PARITY_ALONE(program_cuda, write_verify_is_within_a_float_step)
{
    return check("weight.cell_bits=4 tile.rows=32 programming.model=gaussian programming.sigma=0.03 "
                 "programming.tolerance=1.5 read.model=constant read.sigma=0.01", 37, 29, 0, 1e-6);
}

OHM_PARITY(program_cuda, takes_tiles_that_wires_have_changed)
{
    for (size_t j = 0; j < MAPPINGS; j++) {
        char settings[1024];
        snprintf(settings, sizeof settings,
                 "tile.cols=24 %s tile.rows=16 programming.model=lognormal ir_drop.model=exact "
                 "ir_drop.r_driver_ohm=10 ir_drop.r_sense_ohm=5 ir_drop.r_wordline_ohm=3 "
                 "read.model=proportional read.sigma=0.02", mappings[j]);
        PARITY_CHECK(check(settings, 37, 19, j % 2, 0.0));
    }
    return parity_pass();
}

OHM_PARITY_ALONE(program_cuda, wires_without_solved_tiles_are_refused)
{
    fixture_chip c;
    fixture_chip_make(&c, "tile.rows=8 tile.cols=16 ir_drop.model=exact", 8, 8, 4, 0.3);
    const ohm_cuda_status status = ohm_program_cuda(&c.tiles, NULL, &c.g, &c.programming, &c.law, 0.0, c.levels,
                                                    c.ref_level, NULL, NULL, NULL, parity_stream());
    fixture_chip_free(&c);
    return status == OHM_CUDA_ARGUMENT ? parity_pass() : parity_failed("expected a refusal");
}

OHM_PARITY(program_cuda, has_the_bits_of_the_host)
{
    PARITY_CHECK(check_table(0));
    return check("weight.encoding=differential weight.cell_bits=7 tile.rows=16 tile.cols=512 "
                 "programming.model=lognormal programming.sigma=0.05", 20, 150, 0, 0.0);
}
