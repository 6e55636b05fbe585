/* Mode full on a device: the gradients of a read against those of the CPU. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/mvm_backward.h"
#include "kernels/mvm_backward_cuda.h"
#include "tests/device_mvm.h"
#include "tests/parity.h"

/* What a read leaves. */
enum { DX, DG, DVARIANCE, DREF, DREF_VARIANCE, KINDS };
static const char *const names[KINDS] = {"dx", "dg", "dvariance", "dref", "dref_variance"};
typedef struct {
    float *at[KINDS];
    size_t count[KINDS];
} gathered;

static gathered shapes_of(const ohm_geometry *g, int m)
{
    size_t cells = (size_t)(g->differential ? 2 : 1) * g->k * g->n,
           refs = g->differential ? 0 : (size_t)g->k * g->column_tiles;
    return (gathered){.count = {(size_t)m * g->k, cells, cells, refs, refs}};
}

static ohm_cell_gradient cells_of(const gathered *d)
{
    return (ohm_cell_gradient){.dg = d->at[DG],
                               .dvariance = d->at[DVARIANCE],
                               .dref = d->at[DREF],
                               .dref_variance = d->at[DREF_VARIANCE]};
}

/* Each kind against its largest entry. */
static ohm_verdict compare_gathered(const gathered *got, const gathered *want, double tolerance,
                                    const char *settings)
{
    for (int kind = 0; kind < KINDS; kind++) {
        size_t count = want->count[kind];
        double largest = 0.0, *wide = parity_host((count + 1) * sizeof *wide);
        for (size_t i = 0; i < count; i++) {
            wide[i] = (double)want->at[kind][i];
            largest = fmax(largest, fabs(wide[i]));
        }
        ohm_verdict verdict =
            largest > 0.0 ? ohm_compare_close(got->at[kind], wide, count, tolerance * largest, 0.0)
                          : ohm_compare_zero(got->at[kind], count);
        if (!verdict.pass) {
            char text[sizeof verdict.text];
            snprintf(text, sizeof text, "%s: %.120s: %.120s", names[kind], verdict.text, settings);
            memcpy(verdict.text, text, sizeof text);
            return verdict;
        }
    }
    return parity_pass();
}

/* One call of m rows, gradients of cells added to what a first call has left. dx = 0: without. */
static ohm_verdict compare(const char *settings, int k, int n, int m, int dx)
{
    fixture_mvm f;
    device_mvm d;
    fixture_mvm_make(&f, settings, k, n, m);
    device_mvm_make(&d, &f);
    const ohm_geometry *g = &f.chip.g;
    gathered want = shapes_of(g, m), got = want, device = want;
    float *dsums = parity_host((size_t)m * n * sizeof *dsums),
          *scaled = parity_host((size_t)m * n * sizeof *dsums),
          *alpha = parity_host((size_t)n * sizeof *alpha);
    fixture_reals(dsums, (size_t)m * n, 8);
    for (int i = 0; i < n; i++)
        alpha[i] = 1.0f + 0.03f * (float)(i % 5);
    for (int i = 0; i < m * n; i++)
        scaled[i] = 0.5f * dsums[i] * alpha[i % n];
    for (int kind = 0; kind < KINDS; kind++) {
        size_t bytes = want.count[kind] * sizeof(float);
        want.at[kind] = memset(parity_host(bytes + 1), 0, bytes + 1);
        got.at[kind] = parity_host(bytes + 1);
        device.at[kind] = bytes ? parity_upload(want.at[kind], bytes) : NULL;
    }
    ohm_cell_gradient host_cells = cells_of(&want), cells = cells_of(&device);
    size_t factor_bytes = ohm_mvm_factors_of(g, &f.chip.read).row_bytes * (size_t)m;
    ohm_mvm_result factors = {.factors = parity_host(factor_bytes + 1)};
    ohm_mvm_read_cpu(&factors, g, &f.chip.read, &f.chip.tiles, f.codes, k, m, f.first_row,
                     f.chip.scratch);
    ohm_mvm_gradient host = {.x_u = f.codes,
                             .ldx = k,
                             .factors = factors.factors,
                             .m = m,
                             .first_row = f.first_row,
                             .dsums = scaled,
                             .ldd = n,
                             .dx = dx ? want.at[DX] : NULL,
                             .lddx = k,
                             .cells = &host_cells};
    ohm_mvm_backward_output out = {.dsums = parity_upload(dsums, (size_t)m * n * sizeof *dsums),
                                   .ldd = n,
                                   .scale = 0.5f,
                                   .dx = dx ? device.at[DX] : NULL,
                                   .lddx = k,
                                   .cells = &cells,
                                   .johnson_scale = f.chip.johnson,
                                   .halves = f.chip.programming.halves,
                                   .scratch = parity_alloc(ohm_mvm_backward_cuda_bytes(g, m))};
    d.r.alpha = parity_upload(alpha, (size_t)n * sizeof *alpha);
    for (int call = 0; call < 2; call++) {
        ohm_mvm_backward(&host, g, &f.chip.read, &f.chip.tiles, f.chip.johnson, f.chip.scratch);
        PARITY_TRY(ohm_mvm_backward_cuda(&out, &d.input, parity_stream()));
    }
    for (int kind = 0; kind < KINDS; kind++)
        if (want.count[kind])
            PARITY_TRY(
                parity_fetch(got.at[kind], device.at[kind], want.count[kind] * sizeof(float)));
    ohm_verdict verdict = compare_gathered(&got, &want, 5e-6, settings);
    fixture_mvm_free(&f);
    return verdict;
}

static ohm_verdict effect(int mapping, int which, int rows, int k, int n, int m)
{
    char settings[1024];
    snprintf(settings, sizeof settings, "%s tile.rows=%d %s", fixture_mappings[mapping], rows,
             fixture_effects[which]);
    return compare(settings, k, n, m, 1);
}

/* Of each mapping what it has most of: per-cell variances, Johnson noise, DAC noise, static errors. */
OHM_PARITY_SLOW(mvm_backward_cuda, offset_drive)
{
    PARITY_CHECK(effect(0, 1, 48, 50, 17, 5));
    return effect(0, 4, 48, 50, 17, 5);
}

OHM_PARITY_ALONE(mvm_backward_cuda, halves)
{
    return compare("mvm.precision=fp16 input.encoding=sign_magnitude weight.cell_bits=7 "
                   "input.dac_bits=8 tile.rows=48 adc.bits=8 adc.range=max "
                   "programming.model=lognormal read.model=pcm read.sigma=0.02",
                   50, 17, 5, 1);
}

OHM_PARITY_SLOW(mvm_backward_cuda, two_phases)
{
    return effect(1, 5, 48, 50, 17, 5);
}

OHM_PARITY_ALONE(mvm_backward_cuda, reference_in_analog)
{
    PARITY_CHECK(effect(2, 3, 48, 50, 35, 5));
    return effect(2, 6, 48, 50, 35, 5);
}

OHM_PARITY_ALONE(mvm_backward_cuda, reference_after_the_adc)
{
    return effect(3, 6, 48, 50, 35, 5);
}

/* Two blocks of rows, chunks of inputs, both kinds of reference, draws of DAC, read and ADC. */
static ohm_verdict every_draw(void)
{
    static const char *const chips[] = {
        "input.encoding=two_phase weight.encoding=offset weight.subtract=digital "
        "weight.cell_bits=8 input.dac_bits=4 tile.cols=11 tile.rows=40 programming.model=lognormal "
        "read.model=constant read.sigma=0.01 input.noise=0.1 adc.bits=6 adc.range=max "
        "adc.noise_lsb=0.5 adc.gain_sigma=0.02",
        "input.encoding=sign_magnitude weight.encoding=offset weight.cell_bits=4 input.dac_bits=7 "
        "tile.cols=24 tile.rows=40 programming.model=lognormal read.model=pcm read.sigma=0.02 "
        "temperature.johnson_bandwidth_hz=1e11 adc.bits=8 adc.range=max"};
    PARITY_CHECK(compare(chips[1], 45, 30, 5, 1));
    PARITY_CHECK(effect(2, 3, 48, 50, 35, 5));
    PARITY_CHECK(effect(2, 6, 48, 50, 35, 5));
    return compare(chips[0], 45, 13, 67, 1);
}

/* The chips together need every barrier of the kernels. */
OHM_TEST_SLOW(mvm_backward_cuda, every_draw_without_barriers)
{
    if (!executor_present())
        OHM_SKIP("barriers are left out on the host executor alone");
    parity_barriers(every_draw);
}

OHM_TEST_SLOW(mvm_backward_cuda, every_draw)
{
    if (parity_absent())
        OHM_SKIP("%s", parity_absent());
    parity_orders(every_draw);
}

/* Every mapping and effect; another share of them in each thread order. */
OHM_PARITY_SLOW(mvm_backward_cuda, every_mapping_and_effect)
{
    static int next;
    for (int i = 0; i < FIXTURE_EFFECTS; i++)
        for (int mapping = 0; mapping < FIXTURE_MAPPINGS; mapping++, next++)
            if (next % 5 == 0 || !executor_present())
                PARITY_CHECK(effect(mapping, i, 48, 50, 35, 5));
    return parity_pass();
}

/* Several blocks of rows, columns and groups; tiles and chunks that end anywhere; without dx. Another
 * share in each thread order. */
OHM_PARITY_SLOW(mvm_backward_cuda, odd_sizes)
{
    static const int sizes[][3] = {{1, 1, 1}, {33, 31, 70}, {97, 130, 2}, {150, 260, 9}};
    static int next;
    const int every = executor_present() ? 5 : 1, start = next++;
    for (int i = 0; i < 4 * FIXTURE_MAPPINGS; i++) {
        const int *size = sizes[i / FIXTURE_MAPPINGS];
        if (i % every == start % every)
            PARITY_CHECK(effect(i % FIXTURE_MAPPINGS, (3 * i + i / 4) % FIXTURE_EFFECTS, 40,
                                size[0], size[1], size[2]));
    }
    if (start % every == 0)
        PARITY_CHECK(compare("input.encoding=sign_magnitude weight.cell_bits=7 input.dac_bits=8 "
                             "tile.rows=40 tile.split=even adc.bits=8 adc.range=max "
                             "programming.model=lognormal read.model=pcm read.sigma=0.02",
                             101, 13, 270, 0));
    if (start % every == 1 % every)
        return compare("input.encoding=sign_magnitude weight.cell_bits=7 input.dac_bits=8 "
                       "tile.rows=200 adc.bits=6 adc.range=max programming.model=lognormal "
                       "adc.noise_lsb=0.5",
                       150, 20, 300, 1);
    return parity_pass();
}
