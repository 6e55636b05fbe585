/* Ranges of a noisy layer on the device: scales, codes, LSBs of the host, bit by bit. */
#include <math.h>
#include <string.h>

#include "kernels/ranges_cuda.h"
#include "tests/fixture_values.h"
#include "tests/parity.h"

static float *values(size_t n, uint32_t seed)
{
    float *x = parity_host(n * sizeof *x + 1);
    fixture_values(x, n, seed);
    return x;
}

/* Numbers of moderate size, for sums. */
static float *numbers(size_t n, uint32_t seed)
{
    float *x = parity_host(n * sizeof *x + 1);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)seed * 0x1p-30f;
    }
    return x;
}

static float *up(const float *x, size_t n)
{
    return parity_upload(x, n * sizeof *x);
}

static ohm_verdict same_floats(const float *dev, const float *expected, size_t n)
{
    float *got = parity_host(n * sizeof *got + 1);
    PARITY_TRY(parity_fetch(got, dev, n * sizeof *got));
    return ohm_compare_bits(got, expected, n);
}

/* The CPU adds some hundred numbers of up to 2 in float, the device in double: seen 5.4e-6 apart. */
static ohm_verdict close_floats(const float *dev, const float *expected, size_t n)
{
    float *got = parity_host(n * sizeof *got + 1);
    PARITY_TRY(parity_fetch(got, dev, n * sizeof *got));
    return ohm_compare_close(got, expected, n, 2e-5, 1e-5);
}

static uint32_t fault_at(const uint32_t *dev)
{
    uint32_t got = UINT32_MAX;
    return parity_fetch(&got, dev, sizeof got) == OHM_CUDA_OK ? got : UINT32_MAX;
}

/* ---- percentiles --------------------------------------------------------------------------- */

static ohm_verdict percentile_of(const float *x, size_t n, double percent)
{
    float expected = ohm_abs_percentile(x, n, percent), *out = parity_alloc(sizeof *out);
    ohm_selection *selection = parity_alloc(sizeof *selection);
    PARITY_TRY(ohm_abs_percentile_cuda(out, up(x, n), n, percent, selection, parity_stream()));
    return same_floats(out, &expected, 1);
}

OHM_PARITY(ranges_cuda, percentiles)
{
    static const size_t sizes[] = {0, 1, 2, 31, 257, 3001};
    static const double percents[] = {0, 0.1, 50, 99.9, 100};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t j = 0; j < sizeof percents / sizeof *percents; j++)
            PARITY_CHECK(percentile_of(values(sizes[i], 3 + (uint32_t)i), sizes[i], percents[j]));
    float *x = values(600, 1);
    for (int i = 0; i < 600; i++) /* all of one digit */
        x[i] = i % 3 ? 1.5f : -1.5f;
    PARITY_CHECK(percentile_of(x, 600, 70));
    x[17] = INFINITY;
    PARITY_CHECK(percentile_of(x, 600, 100));
    x[417] = NAN;
    return percentile_of(x, 600, 50);
}

OHM_PARITY(ranges_cuda, percentiles_of_rows)
{
    enum { ROWS = 3, COLS = 290, LD = 301 };
    static const double percents[] = {0, 60, 99.5, 100};
    float *x = values(ROWS * LD, 8), expected[ROWS], *scale = parity_alloc(sizeof expected);
    memset(x + LD, 0, LD * sizeof *x);
    const float *dx = up(x, ROWS * LD);
    for (int i = 0; i < 5; i++) {
        const ohm_scale_rule rule = {.kind = i < 4 ? OHM_SCALE_PERCENTILE : OHM_SCALE_ABSMAX,
                                     .value = percents[i % 4],
                                     .each_row = 1,
                                     .codes = 127};
        ohm_row_scales_cpu(expected, x, ROWS, COLS, LD, &rule);
        PARITY_TRY(ohm_row_scales_cuda(scale, dx, ROWS, COLS, LD, &rule, parity_stream()));
        PARITY_CHECK(same_floats(scale, expected, ROWS));
    }
    return parity_pass();
}

/* ---- scales -------------------------------------------------------------------------------- */

/* One batch; kept [2] and the learned range [1] go on from batch to batch, on both sides. */
static ohm_verdict input_of(const ohm_scale_rule *rule, const float *x, size_t n, float kept[3],
                            float *dkept, int learns)
{
    float scale = -1, *dscale = parity_upload(&scale, sizeof scale);
    uint32_t fault = 64, *dfault = parity_upload(&fault, sizeof fault);
    ohm_selection *selection = parity_alloc(sizeof *selection);
    ohm_input_scale_cpu(&scale, kept, learns ? kept + 2 : NULL, &fault, x, n, rule, NULL);
    PARITY_TRY(ohm_input_scale_cuda(dscale, dkept, learns ? dkept + 2 : NULL, dfault, up(x, n), n,
                                    rule, selection, parity_stream()));
    uint32_t got = fault_at(dfault);
    PARITY_CHECK(ohm_compare_bits(&got, &fault, 1));
    PARITY_CHECK(same_floats(dkept, kept, 3));
    return fault == 64 ? same_floats(dscale, &scale, 1) : parity_pass();
}

OHM_PARITY_ALONE(ranges_cuda, scales_of_inputs)
{
    enum { N = 700 };
    static const double value[] = {0, 97.5, 0.9, 0, 1.75};
    for (int variant = 0; variant < 5 * 3 * 3; variant++) {
        float kept[3] = {0}, *dkept = up(kept, 3);
        ohm_scale_rule rule = {.kind = variant % 5, .value = value[variant % 5], .codes = 127};
        rule.move = variant / 5 % 3;
        rule.each_row = variant / 15 == 1 && rule.kind <= OHM_SCALE_PERCENTILE;
        for (int batch = 0; batch < 3; batch++) {
            float *x = numbers(N, (uint32_t)(10 * batch + variant));
            if (batch == 1)
                memset(x, 0, N * sizeof *x);
            PARITY_CHECK(input_of(&rule, x, N, kept, dkept, variant / 15 != 2));
        }
        float *bad = numbers(N, 4);
        bad[N - 1] = variant % 2 ? NAN : -INFINITY;
        PARITY_CHECK(input_of(&rule, bad, N, kept, dkept, 1));
    }
    return parity_pass();
}

OHM_PARITY_ALONE(ranges_cuda, scales_of_weights)
{
    enum { N = 5, K = 131 };
    static const int kinds[] = {OHM_SCALE_ABSMAX, OHM_SCALE_PERCENTILE, OHM_SCALE_NUMBER};
    ohm_selection *selection = parity_alloc(sizeof *selection);
    float *w = numbers(N * K, 6), expected[N], *scale = parity_alloc(sizeof expected);
    memset(w + K, 0, K * sizeof *w);
    for (int variant = 0; variant < 12; variant++) {
        uint32_t fault = 1, *dfault = parity_upload(&fault, sizeof fault);
        const ohm_scale_rule rule = {.kind = kinds[variant % 3],
                                     .value = 98.5,
                                     .each_row = variant % 3 < 2 && variant / 3 % 2,
                                     .codes = 63};
        w[3 * K + 1] = variant < 6 ? -0.5f : NAN;
        ohm_weight_scales_cpu(expected, &fault, w, N, K, &rule, NULL);
        PARITY_TRY(ohm_weight_scales_cuda(scale, dfault, up(w, N * K), N, K, &rule, selection,
                                          parity_stream()));
        uint32_t got = fault_at(dfault);
        ck_assert_uint_eq(fault, variant < 6 ? 1 : 1 | OHM_FAULT_WEIGHT);
        PARITY_CHECK(ohm_compare_bits(&got, &fault, 1));
        if (variant < 6)
            PARITY_CHECK(same_floats(scale, expected, N));
    }
    return parity_pass();
}

/* ---- codes --------------------------------------------------------------------------------- */

enum { WN = 9, WK = 21, WROWS = WK + OHM_BIAS_ROWS_COUNT, WLEVELS = 8 * WROWS * WN };

static ohm_verdict levels_of(int rows, ohm_cells cells, float x_scale, int with_column)
{
    float *w = numbers(WN * WK, 2), *bias = numbers(WN, 3), *column = numbers(WN, 4), w_scale[WN];
    uint8_t levels[WLEVELS] = {0}, got[WLEVELS];
    int8_t codes[WN * WROWS];
    float digital[WN];
    int32_t bias_codes[WN], got_codes[WN];
    column[2] = 0.0f;
    bias[3] *= 1e6f; /* more than the rows hold */
    for (int i = 0; i < WN; i++)
        w_scale[i] = 0.01f + 0.002f * (float)i;
    ohm_weight_job job = {.w = w,
                          .bias = bias,
                          .column_scale = with_column ? column : NULL,
                          .x_scale = &x_scale,
                          .w_scale = w_scale,
                          .n = WN,
                          .k = WK,
                          .rows = rows,
                          .codes = 127,
                          .bits = 8,
                          .cell_bits = 2,
                          .cells = cells};
    ohm_weight_levels_cpu(levels, codes, digital, bias_codes, &job);
    job.w = up(w, WN * WK);
    job.bias = up(bias, WN);
    job.column_scale = with_column ? up(column, WN) : NULL;
    job.x_scale = up(&x_scale, 1);
    job.w_scale = up(w_scale, WN);
    memset(got, 0, sizeof got);
    uint8_t *dlevels = parity_upload(got, sizeof got);
    float *ddigital = parity_alloc(sizeof digital);
    int32_t *dbias_codes = parity_alloc(sizeof bias_codes);
    PARITY_TRY(ohm_weight_levels_cuda(dlevels, parity_alloc(sizeof codes), ddigital, dbias_codes,
                                      &job, parity_stream()));
    PARITY_TRY(parity_fetch(got, dlevels, sizeof got));
    PARITY_TRY(parity_fetch(got_codes, dbias_codes, sizeof got_codes));
    PARITY_CHECK(ohm_compare_bits(got, levels, WLEVELS));
    PARITY_CHECK(ohm_compare_bits(got_codes, bias_codes, WN));
    return same_floats(ddigital, digital, WN);
}

OHM_PARITY(ranges_cuda, levels_and_biases)
{
    for (int variant = 0; variant < 16; variant++)
        PARITY_CHECK(levels_of(variant & 1 ? WROWS : WK,
                               variant & 2 ? OHM_CELLS_OFFSET : OHM_CELLS_DIFFERENTIAL,
                               variant & 4 ? 0.02f : 0.0f, variant & 8));
    return parity_pass();
}

OHM_PARITY_ALONE(ranges_cuda, drive_codes_and_always_on_rows)
{
    enum { M = 37, K = 19, LD = K + OHM_BIAS_ROWS_COUNT };
    const ohm_always_on always = {{1, 2, 3, 4, 5, 6, 7, 8, 255}};
    float *x = numbers(M * K, 2), *scale = numbers(M, 9), *dx = up(x, M * K);
    for (int i = 0; i < M; i++)
        scale[i] = 0.01f + fabsf(scale[i]) / 50.0f;
    const float *dscale = up(scale, M);
    for (int variant = 0; variant < 16; variant++) {
        const int per_row = variant & 1, appends = variant & 2, encoding = variant / 4;
        const size_t ld = appends ? LD : K;
        uint8_t expected[M * LD], got[M * LD], all[M * LD];
        uint32_t fault = 0, *dfault = parity_upload(&fault, sizeof fault);
        memset(expected, 0x77, sizeof expected);
        uint8_t *u = parity_upload(expected, sizeof expected);
        ohm_drive_codes_cpu(expected, ld, &fault, x, M, K, K, scale, per_row, 127, encoding, 8);
        PARITY_TRY(ohm_drive_codes_cuda(u, ld, dfault, dx, M, K, K, dscale, per_row, 127, encoding,
                                        8, parity_stream()));
        if (appends) {
            ohm_append_always_on_cpu(expected, ld, NULL, 0, M, K, &always);
            PARITY_TRY(ohm_append_always_on_cuda(u, ld, NULL, 0, M, K, &always, parity_stream()));
        }
        uint32_t faulted = fault_at(dfault);
        ck_assert_uint_eq(fault, encoding == OHM_DRIVE_UNSIGNED ? OHM_FAULT_NEGATIVE : 0);
        PARITY_CHECK(ohm_compare_bits(&faulted, &fault, 1));
        PARITY_TRY(parity_fetch(got, u, sizeof got));
        PARITY_CHECK(ohm_compare_bits(got, expected, sizeof got));
        uint8_t *copy = parity_alloc(sizeof all);
        ohm_append_always_on_cpu(all, LD, expected, ld, M, K, &always);
        PARITY_TRY(ohm_append_always_on_cuda(copy, LD, u, ld, M, K, &always, parity_stream()));
        PARITY_TRY(parity_fetch(got, copy, sizeof got));
        PARITY_CHECK(ohm_compare_bits(got, all, sizeof got));
    }
    return parity_pass();
}

/* ---- the ADC ------------------------------------------------------------------------------- */

OHM_PARITY_ALONE(ranges_cuda, histograms_to_ranges)
{
    enum { RANGES = 300, BINS = 40 };
    float *range = numbers(RANGES, 5), *other = numbers(RANGES, 6), *dev;
    uint32_t *histogram = parity_host(RANGES * BINS * sizeof *histogram);
    for (int i = 0; i < RANGES * BINS; i++)
        histogram[i] = i / BINS == 7 ? 0 : (uint32_t)(i * 7919) % 1000;
    for (int i = 0; i < RANGES; i++)
        range[i] = fabsf(range[i]);
    dev = up(range, RANGES);
    ohm_cut_ranges_cpu(range, histogram, RANGES, BINS, 93.0);
    PARITY_TRY(ohm_cut_ranges_cuda(dev, parity_upload(histogram, RANGES * BINS * sizeof *histogram),
                                   RANGES, BINS, 93.0, parity_stream()));
    PARITY_CHECK(same_floats(dev, range, RANGES));
    ohm_raise_ranges_cpu(range, other, RANGES);
    PARITY_TRY(ohm_raise_ranges_cuda(dev, up(other, RANGES), RANGES, parity_stream()));
    return same_floats(dev, range, RANGES);
}

OHM_PARITY(ranges_cuda, lsb_over_batches)
{
    enum { RANGES = 300 };
    for (int kind = OHM_LSB_DATA; kind <= OHM_LSB_MOST; kind++) {
        const ohm_lsb_rule rule = {.kind = kind, .decay = 0.8, .codes = 127.0};
        float lsb[RANGES + 1] = {0}, *dev = up(lsb, RANGES + 1);
        for (int batch = 0; batch < 3; batch++) {
            float *range = numbers(RANGES, (uint32_t)(kind + 9 * batch));
            range[4] = 0.0f;
            for (int i = 0; i < RANGES; i++)
                range[i] = fabsf(range[i]);
            ohm_update_lsb_cpu(lsb, lsb + RANGES, range, RANGES, &rule);
            PARITY_TRY(ohm_update_lsb_cuda(dev, dev + RANGES, up(range, RANGES), RANGES, &rule,
                                           parity_stream()));
            PARITY_CHECK(same_floats(dev, lsb, RANGES + 1));
        }
    }
    return parity_pass();
}

/* ---- outputs and mode full ----------------------------------------------------------------- */

enum { M = 261, N = 13, K = 29, LDY = N + 2, LDX = K + 3 };

/* Scales of both sides: device pointers in *dev. */
static ohm_scales scales_of(ohm_scales *dev, int x_rows, int columns)
{
    float *x = numbers(M, 11), *w = numbers(N, 12), *c = numbers(N, 13);
    for (int i = 0; i < M; i++)
        x[i] = 0.004f + fabsf(x[i]) / 500.0f;
    for (int i = 0; i < N; i++)
        w[i] = 0.003f + fabsf(w[i]) / 100.0f;
    *dev = (ohm_scales){up(x, M), x_rows, up(w, N), columns ? up(c, N) : NULL, 127};
    return (ohm_scales){x, x_rows, w, columns ? c : NULL, 127};
}

OHM_PARITY_ALONE(ranges_cuda, outputs)
{
    for (int variant = 0; variant < 4; variant++) {
        ohm_scales dev;
        const ohm_scales scales = scales_of(&dev, variant & 1, variant & 2);
        float *y = numbers((size_t)M * LDY, 1), *bias = numbers(N, 2), *dy = up(y, (size_t)M * LDY);
        ohm_rescale_cpu(y, LDY, M, N, &scales, bias);
        PARITY_TRY(ohm_rescale_cuda(dy, LDY, M, N, &dev, up(bias, N), parity_stream()));
        PARITY_CHECK(same_floats(dy, y, (size_t)M * LDY));
        float *sums = numbers((size_t)M * N, 3), *dsums = up(sums, (size_t)M * N);
        ohm_unscale_cpu(sums, y, LDY, M, N, &scales, bias);
        PARITY_TRY(ohm_unscale_cuda(dsums, dy, LDY, M, N, &dev, up(bias, N), parity_stream()));
        PARITY_CHECK(same_floats(dsums, sums, (size_t)M * N));
    }
    return parity_pass();
}

static ohm_verdict gradients(int variant)
{
    ohm_scales dev;
    const ohm_scales scales = scales_of(&dev, variant & 1, variant & 2);
    const size_t partials = ohm_range_partials(M, N, K);
    double *partial = parity_host(partials * sizeof *partial),
           *dpartial = parity_alloc(partials * sizeof *partial);
    float *dy = numbers((size_t)M * LDY, 1), *sums = numbers((size_t)M * N, 2),
          *x = numbers((size_t)M * LDX, 3), *dcodes = numbers((size_t)M * K, 4),
          *dsums = numbers((size_t)M * N, 5), *dx = numbers((size_t)M * LDX, 6),
          *sum = numbers(2 * N + 1, 7), *gsum = up(sum, 2 * N + 1);
    float *gdy = up(dy, (size_t)M * LDY), *gsums = up(sums, (size_t)M * N),
          *gx = up(x, (size_t)M * LDX), *gdcodes = up(dcodes, (size_t)M * K),
          *gdsums = up(dsums, (size_t)M * N), *gdx = up(dx, (size_t)M * LDX);
    const int range = variant & 4, whole = variant & 8;
    ohm_rescale_backward_cpu(dsums, whole ? sum : NULL, dy, LDY, M, N, &scales, partial);
    PARITY_TRY(ohm_rescale_backward_cuda(gdsums, whole ? gsum : NULL, gdy, LDY, M, N, &dev,
                                         dpartial, parity_stream()));
    PARITY_CHECK(same_floats(gdsums, dsums, (size_t)M * N));
    PARITY_CHECK(close_floats(gsum, sum, N));
    ohm_scale_gradients_cpu(range ? sum + 2 * N : NULL, whole ? sum + N : NULL, dy, LDY, sums, M, N,
                            &scales, partial);
    PARITY_TRY(ohm_scale_gradients_cuda(range ? gsum + 2 * N : NULL, whole ? gsum + N : NULL, gdy,
                                        LDY, gsums, M, N, &dev, dpartial, parity_stream()));
    PARITY_CHECK(close_floats(gsum, sum, 2 * N + 1));
    ohm_drive_backward_cpu(whole ? dx : NULL, LDX, range ? sum : NULL, dcodes, K, x, LDX, M, K,
                           &scales, partial);
    PARITY_TRY(ohm_drive_backward_cuda(whole ? gdx : NULL, LDX, range ? gsum : NULL, gdcodes, K, gx,
                                       LDX, M, K, &dev, dpartial, parity_stream()));
    PARITY_CHECK(same_floats(gdx, dx, (size_t)M * LDX));
    return close_floats(gsum, sum, 1);
}

OHM_PARITY(ranges_cuda, gradients_of_mode_full)
{
    for (int variant = 0; variant < 16; variant++)
        PARITY_CHECK(gradients(variant));
    float *w = numbers(N * K, 1), *dcodes = numbers(N * LDX, 2), *dw = numbers(N * K, 3),
          *gdw = up(dw, N * K);
    ohm_scales dev;
    const ohm_scales scales = scales_of(&dev, 0, 0);
    ohm_weight_backward_cpu(dw, dcodes, LDX, w, N, K, &scales);
    PARITY_TRY(ohm_weight_backward_cuda(gdw, up(dcodes, N * LDX), LDX, up(w, N * K), N, K, &dev,
                                        parity_stream()));
    return same_floats(gdw, dw, N * K);
}
