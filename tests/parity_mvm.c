/* The CUDA MVM: against the scalar double reference, cut in any way, rescaled, measured. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/mvm_cuda.h"
#include "tests/device_mvm.h"
#include "tests/parity.h"

static ohm_verdict compare_raw(const char *mapping, const char *effect, int rows, int k, int n,
                               int m)
{
    char settings[1024];
    fixture_mvm f;
    device_mvm d;
    snprintf(settings, sizeof settings, "%s tile.rows=%d %s", mapping, rows, effect);
    fixture_mvm_make(&f, settings, k, n, m);
    device_mvm_make(&d, &f);
    double *got = calloc((size_t)m * n, sizeof *got),
           *sums = parity_alloc((size_t)m * n * sizeof *got);
    PARITY_TRY(ohm_mvm_raw_cuda(sums, n, &d.input, parity_stream()));
    PARITY_TRY(parity_fetch(got, sums, (size_t)m * n * sizeof *got));
    ohm_verdict verdict = fixture_mvm_compare(&f, got);
    free(got);
    fixture_mvm_free(&f);
    return verdict;
}

static ohm_verdict every_effect(int mapping, int first, int step, int k, int n, int m)
{
    for (int i = first; i < FIXTURE_EFFECTS; i += step)
        PARITY_CHECK(compare_raw(fixture_mappings[mapping], fixture_effects[i], 48, k, n, m));
    return parity_pass();
}

OHM_PARITY_ALONE(mvm_cuda, offset_drive)
{
    return every_effect(0, 0, 2, 50, 17, 5);
}

OHM_PARITY_ALONE(mvm_cuda, two_phases)
{
    return every_effect(1, 1, 2, 50, 17, 5);
}

OHM_PARITY_ALONE(mvm_cuda, reference_in_analog)
{
    return every_effect(2, 0, 2, 50, 35, 5);
}

/* The mean of raw sums, by groups of reads side by side, is that of the sums read one after the other. */
static ohm_verdict compare_mean(const char *settings, int k, int n, int m)
{
    fixture_mvm f;
    device_mvm d;
    fixture_mvm_make(&f, settings, k, n, m);
    device_mvm_make(&d, &f);
    size_t columns = (size_t)n, bytes = columns * sizeof(double);
    double *raw = parity_host(bytes * m), *expected = parity_host(bytes), *got = parity_host(bytes),
           *sums = parity_alloc(bytes * m), *mean = parity_alloc(bytes),
           *partial = parity_alloc(ohm_mvm_mean_doubles(d.input.g, m) * sizeof *partial);
    PARITY_TRY(ohm_mvm_mean_cuda(mean, partial, &d.input, parity_stream()));
    PARITY_TRY(parity_fetch(got, mean, bytes));
    PARITY_TRY(ohm_mvm_raw_cuda(sums, n, &d.input, parity_stream()));
    PARITY_TRY(parity_fetch(raw, sums, bytes * m));
    for (size_t c = 0; c < columns; c++) {
        expected[c] = 0.0;
        for (int row = 0; row < m; row++)
            expected[c] += raw[(size_t)row * columns + c] / m;
    }
    fixture_mvm_free(&f);
    return ohm_compare_close(got, expected, columns, 1e-9, 1e-12);
}

/* Parts of the tiles give what one block after another gives, converted or not. */
static ohm_verdict compare_parts(const char *effects, int k, int n, int m)
{
    char settings[1024];
    fixture_mvm f;
    device_mvm d;
    snprintf(settings, sizeof settings, "%s tile.rows=16 %s", fixture_mappings[0], effects);
    fixture_mvm_make(&f, settings, k, n, m);
    device_mvm_make(&d, &f);
    size_t count = (size_t)m * (size_t)n, bytes = count * sizeof(double);
    double *expected = parity_host(bytes), *got = parity_host(bytes), *sums = parity_alloc(bytes),
           *partial = parity_alloc(ohm_mvm_raw_parts_doubles(d.input.g, m) * sizeof *partial);
    PARITY_TRY(ohm_mvm_raw_cuda(sums, n, &d.input, parity_stream()));
    PARITY_TRY(parity_fetch(expected, sums, bytes));
    PARITY_TRY(ohm_cuda_fill(sums, 0xFF, bytes, parity_stream()));
    PARITY_TRY(ohm_mvm_raw_parts_cuda(sums, n, partial, &d.input, parity_stream()));
    PARITY_TRY(parity_fetch(got, sums, bytes));
    fixture_mvm_free(&f);
    return ohm_compare_close(got, expected, count, 1e-12, 1e-12);
}

OHM_PARITY_SLOW(mvm_cuda, parts_of_the_tiles)
{
    PARITY_CHECK(compare_parts("adc.bits=0", 16 * 19 + 3, 7, 9)); /* more tiles than parts */
    return compare_parts("adc.bits=7 adc.range=max adc.noise_lsb=0.5", 40, 20, 5);
}

/* Every barrier of the kernels is passed here. */
OHM_PARITY(mvm_cuda, reference_after_the_adc)
{
    const char *effects = "programming.model=lognormal read.model=constant read.sigma=0.01 "
                          "input.noise=0.1 adc.bits=6 "
                          "adc.range=max adc.noise_lsb=0.5 adc.gain_sigma=0.02";
    PARITY_CHECK(compare_raw(fixture_mappings[3], effects, 200, 150, 17, 9));
    char settings[1024];
    snprintf(settings, sizeof settings, "%s tile.rows=200 %s", fixture_mappings[3], effects);
    PARITY_CHECK(compare_mean(settings, 40, 20, 13));
    return compare_raw(fixture_mappings[3], "adc.bits=7 adc.range=max", 200, 150, 17, 9);
}

/* Sizes that end inside tiles, panels, transforms and blocks. */
OHM_PARITY_SLOW(mvm_cuda, odd_sizes)
{
    static const int sizes[][3] = {{1, 1, 1}, {33, 31, 13}, {97, 130, 2}, {257, 3, 9}};
    static int next; /* another effect in each thread order */
    for (int size = 0; size < 4; size++)
        for (int i = 0; i < FIXTURE_MAPPINGS; i++, next++)
            PARITY_CHECK(compare_raw(fixture_mappings[i], fixture_effects[next % FIXTURE_EFFECTS],
                                     48, sizes[size][0], sizes[size][1], sizes[size][2]));
    return parity_pass();
}

/* The effects that the quick tests leave to the other mappings. */
OHM_PARITY_SLOW(mvm_cuda, every_mapping_and_effect)
{
    for (int i = 0; i < FIXTURE_MAPPINGS; i++)
        PARITY_CHECK(every_effect(i, (i + 1) % 2, 2, 50, 17, 5));
    return every_effect(3, 1, 2, 50, 17, 5);
}

/* A row's sums do not depend on the rows that it is read with. */
OHM_PARITY_ALONE(mvm_cuda, same_bits_however_cut)
{
    enum { K = 40, N = 20, M = 9 };
    for (int i = 0; i < FIXTURE_MAPPINGS; i++) {
        char settings[1024];
        fixture_mvm f;
        device_mvm d;
        double one[M * N], two[M * N], *sums = parity_alloc(sizeof one);
        snprintf(settings, sizeof settings, "%s tile.rows=32 %s", fixture_mappings[i],
                 fixture_effects[3 + i]);
        fixture_mvm_make(&f, settings, K, N, M);
        device_mvm_make(&d, &f);
        PARITY_TRY(ohm_mvm_raw_cuda(sums, N, &d.input, parity_stream()));
        PARITY_TRY(parity_fetch(one, sums, sizeof one));
        for (int row = 0, step = 1; row < M; row += step, step = step * 2 + 1) {
            ohm_mvm_input part = d.input;
            part.x_u += (size_t)row * K;
            part.first_row += (uint64_t)row;
            part.m = M - row < step ? M - row : step;
            PARITY_TRY(ohm_mvm_raw_cuda(sums + (size_t)row * N, N, &part, parity_stream()));
        }
        PARITY_TRY(parity_fetch(two, sums, sizeof two));
        PARITY_CHECK(ohm_compare_bits(two, one, M * N));
        fixture_mvm_free(&f);
    }
    return parity_pass();
}

/* Every draw takes the step that lies on the device, where there is one. */
OHM_PARITY_ALONE(mvm_cuda, step_on_the_device)
{
    enum { K = 40, N = 20, M = 5 };
    const char *effects = "tile.rows=32 read.model=constant read.sigma=0.01 input.noise=0.1 "
                          "adc.bits=8 adc.range=max adc.noise_lsb=0.5 adc.gain_sigma=0.02";
    for (int i = 0; i < FIXTURE_MAPPINGS; i++) {
        char settings[1024];
        fixture_mvm f;
        device_mvm d;
        double one[M * N], two[M * N], other[M * N], *sums = parity_alloc(sizeof one);
        snprintf(settings, sizeof settings, "%s %s", fixture_mappings[i], effects);
        fixture_mvm_make(&f, settings, K, N, M);
        device_mvm_make(&d, &f);
        const uint32_t step = d.r.stream.step;
        PARITY_TRY(ohm_mvm_raw_cuda(sums, N, &d.input, parity_stream()));
        PARITY_TRY(parity_fetch(one, sums, sizeof one));
        d.r.stream.step = step + 1;
        PARITY_TRY(ohm_mvm_raw_cuda(sums, N, &d.input, parity_stream()));
        PARITY_TRY(parity_fetch(other, sums, sizeof other));
        d.input.step = parity_upload(&step, sizeof step);
        PARITY_TRY(ohm_mvm_raw_cuda(sums, N, &d.input, parity_stream()));
        PARITY_TRY(parity_fetch(two, sums, sizeof two));
        PARITY_CHECK(ohm_compare_bits(two, one, M * N));
        if (ohm_compare_bits(other, one, M * N).pass)
            return parity_failed("another step drew the same");
        fixture_mvm_free(&f);
    }
    return parity_pass();
}

/* Corrections, rescaling, bias and delta form, from the raw sums of the same kernel, in the host's words. */
OHM_PARITY_ALONE(mvm_cuda, one_write)
{
    enum { K = 40, N = 21, M = 6, LD = 24 };
    fixture_mvm f;
    device_mvm d;
    double raw[M * N], correction[N], *sums = parity_alloc(sizeof raw);
    float alpha[N], scale[N], column[N], bias[N], rows[M], clean[M * LD], got[M * LD], want[M * LD];
    char settings[1024];
    snprintf(settings, sizeof settings, "%s tile.rows=32 %s", fixture_mappings[0],
             fixture_effects[3]);
    fixture_mvm_make(&f, settings, K, N, M);
    device_mvm_make(&d, &f);
    PARITY_TRY(ohm_mvm_raw_cuda(sums, N, &d.input, parity_stream()));
    PARITY_TRY(parity_fetch(raw, sums, sizeof raw));
    for (int n = 0; n < N; n++) {
        correction[n] = 17.25 * n - 100.0;
        alpha[n] = 1.0f + 0.01f * (float)n;
        scale[n] = 0.002f + 1e-4f * (float)n;
        column[n] = 1.5f - 0.02f * (float)n;
        bias[n] = 0.3f * (float)n - 2.0f;
    }
    fixture_reals(clean, M * LD, 3);
    for (int i = 0; i < M; i++)
        rows[i] = 0.01f + 0.003f * (float)i;
    d.r.correction = parity_upload(correction, sizeof correction);
    d.r.alpha = parity_upload(alpha, sizeof alpha);
    float *y = parity_alloc(sizeof got);
    ohm_mvm_output out = {.y = y, .ldy = LD};
    ohm_mvm_output host = {.x_scale = rows,
                           .w_scale = scale,
                           .column_scale = column,
                           .bias = bias,
                           .clean = clean,
                           .ldc = LD};
    ohm_read r = f.chip.read;
    r.correction = correction;
    r.alpha = alpha;
    for (int kind = 0; kind < 8; kind++) {
        d.r.correction_read = r.correction_read = kind & 1;
        out.x_scale_rows = host.x_scale_rows = kind >> 1 & 1;
        out.x_scale = kind ? parity_upload(rows, sizeof rows) : NULL;
        out.w_scale = parity_upload(scale, sizeof scale);
        out.column_scale = kind & 4 ? parity_upload(column, sizeof column) : NULL;
        out.bias = kind & 4 ? parity_upload(bias, sizeof bias) : NULL;
        out.clean = kind == 5 ? parity_upload(clean, sizeof clean) : NULL;
        out.ldc = LD;
        PARITY_TRY(ohm_mvm_plain_cuda(&out, &d.input, parity_stream()));
        PARITY_TRY(parity_fetch(got, y, sizeof got));
        for (int i = 0; i < M; i++)
            for (int n = 0; n < LD; n++) {
                ohm_mvm_output o = host;
                o.x_scale = out.x_scale ? rows : NULL;
                o.column_scale = out.column_scale ? column : NULL;
                o.bias = out.bias ? bias : NULL;
                o.clean = out.clean ? clean : NULL;
                want[i * LD + n] =
                    n < N ? ohm_mvm_rescale(&o, ohm_correct(&r, raw[i * N + n], n), i, n)
                          : got[i * LD + n];
            }
        PARITY_CHECK(ohm_compare_bits(got, want, M * LD));
    }
    fixture_mvm_free(&f);
    return parity_pass();
}

/* Ranges and histograms are those of the CPU. */
OHM_PARITY_ALONE(mvm_cuda, ranges_and_histograms)
{
    enum { K = 40, N = 20, M = 9, BINS = 16 };
    for (int i = 0; i < FIXTURE_MAPPINGS; i++) {
        char settings[1024];
        fixture_mvm f;
        device_mvm d;
        int per_column = i & 1;
        snprintf(settings, sizeof settings,
                 "%s tile.rows=32 programming.model=lognormal adc.bits=8 adc.range=max "
                 "adc.granularity=%s",
                 fixture_mappings[i], per_column ? "column" : "layer");
        fixture_mvm_make(&f, settings, K, N, M);
        device_mvm_make(&d, &f);
        size_t ranges = (size_t)f.chip.g.planes * f.chip.g.slices * (per_column ? N : 1);
        float *range = calloc(ranges, sizeof *range), *got = malloc(ranges * sizeof *got);
        uint32_t *histogram = calloc(ranges * BINS, sizeof *histogram),
                 *counts = malloc(ranges * BINS * sizeof *counts);
        ohm_mvm_range_cpu(range, NULL, 0, per_column, &f.chip.g, &f.chip.read, &f.chip.tiles,
                          f.codes, K, M, 0, f.chip.scratch);
        float *device_range = parity_alloc(ranges * sizeof *range);
        uint32_t *device_counts = parity_alloc(ranges * BINS * sizeof *counts);
        PARITY_TRY(ohm_cuda_fill(device_range, 0, ranges * sizeof *range, parity_stream()));
        PARITY_TRY(
            ohm_cuda_fill(device_counts, 0, ranges * BINS * sizeof *counts, parity_stream()));
        PARITY_TRY(
            ohm_mvm_range_cuda(device_range, NULL, 0, per_column, &d.input, parity_stream()));
        PARITY_TRY(parity_fetch(got, device_range, ranges * sizeof *got));
        PARITY_CHECK(ohm_compare_close(got, range, ranges, 0.0, 2e-6));
        /* counted by the same ranges, a current falls into a neighbour's bin only from the border */
        PARITY_TRY(ohm_cuda_upload(device_range, range, ranges * sizeof *range, parity_stream()));
        ohm_mvm_range_cpu(range, histogram, BINS, per_column, &f.chip.g, &f.chip.read,
                          &f.chip.tiles, f.codes, K, M, 0, f.chip.scratch);
        PARITY_TRY(ohm_mvm_range_cuda(device_range, device_counts, BINS, per_column, &d.input,
                                      parity_stream()));
        PARITY_TRY(parity_fetch(counts, device_counts, ranges * BINS * sizeof *counts));
        uint64_t differing = 0, all = 0;
        for (size_t b = 0; b < ranges * BINS; b++) {
            differing += (uint64_t)llabs((int64_t)counts[b] - (int64_t)histogram[b]);
            all += histogram[b];
        }
        if (differing > all / 1000)
            return parity_failed("histograms differ");
        free(range);
        free(got);
        free(histogram);
        free(counts);
        fixture_mvm_free(&f);
    }
    return parity_pass();
}
