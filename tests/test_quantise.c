#include "kernels/quantise.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/philox.h"
#include "tests/compare.h"
#include "tests/fixture_values.h"
#include "tests/runner.h"

static const size_t sizes[] = {0, 1, 2, 31, 33, 257, 300};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* ---- ranges --------------------------------------------------------------------------------- */

static void check_bits(float got, float expected)
{
    OHM_ASSERT(ohm_compare_bits(&got, &expected, 1));
}

OHM_TEST(quantise, absmax_equals_reference)
{
    float *x = ohm_guard_f32(300);
    fixture_values(x, 300, 1);
    for (ohm_isa isa = 0; isa <= ohm_cpu_isa(); isa++)
        for (size_t i = 0; i < SIZES; i++) {
            uint32_t bits = ohm_quantise_kernels_of(isa)->absmax(x, sizes[i]);
            float got;
            memcpy(&got, &bits, sizeof got);
            check_bits(got, ohm_absmax_ref(x, sizes[i]));
        }
    for (size_t at = 0; at < 70; at++) { /* wherever the largest stands */
        float y[70] = {0};
        y[at] = -3.0f;
        ck_assert(ohm_absmax(y, 70) == 3.0f);
    }
    ohm_guard_free(x);
}

OHM_TEST(quantise, absmax_shows_infinity_and_nan)
{
    float x[67];
    for (int at = 0; at < 67; at++) {
        for (int i = 0; i < 67; i++)
            x[i] = (float)i - 70;
        x[at] = -INFINITY;
        ck_assert(ohm_absmax(x, 67) == INFINITY);
        x[66 - at] = at & 1 ? NAN : -NAN;
        ck_assert(isnan(ohm_absmax(x, 67)));
        float rows[2];
        ohm_absmax_rows(rows, x, 2, 33, 34);
        ck_assert_int_eq(isnan(rows[0]) != 0, 66 - at < 33);
        ck_assert_int_eq(isnan(rows[1]) != 0, 66 - at >= 34);
    }
}

OHM_TEST(quantise, absmax_rows_skips_the_padding)
{
    float *x = ohm_guard_f32(5 * 260); /* poison between the rows is NaN */
    float out[5];
    for (size_t r = 0; r < 5; r++)
        fixture_values(x + r * 260, 257, (uint32_t)r);
    ohm_absmax_rows(out, x, 5, 257, 260);
    for (size_t r = 0; r < 5; r++)
        check_bits(out[r], ohm_absmax_ref(x + r * 260, 257));
    ohm_guard_free(x);
}

static int by_magnitude(const void *a, const void *b)
{
    float x = fabsf(*(const float *)a), y = fabsf(*(const float *)b);
    return (x > y) - (x < y);
}

static void check_percentile(size_t n, double percent, uint32_t seed)
{
    float *x = ohm_guard_f32(n), *sorted = ohm_guard_f32(n);
    fixture_values(x, n, seed);
    memcpy(sorted, x, n * sizeof *x);
    qsort(sorted, n, sizeof *x, by_magnitude);
    size_t rank = (size_t)ceil(percent / 100 * (double)n);
    ck_assert(ohm_abs_percentile(x, n, percent) == fabsf(sorted[rank ? rank - 1 : 0]));
    ohm_guard_free(x);
    ohm_guard_free(sorted);
}

OHM_TEST(quantise, percentile_equals_sorting)
{
    const double percent[] = {0, 1, 50, 99, 99.9, 99.99, 100};
    for (size_t i = 1; i < SIZES; i++)
        for (size_t p = 0; p < sizeof percent / sizeof *percent; p++)
            check_percentile(sizes[i], percent[p], (uint32_t)i);
    check_percentile(100003, 99.9, 3);
    ck_assert(ohm_abs_percentile(NULL, 0, 50) == 0.0f);
    const float bad[3] = {1, NAN, 2}, high[3] = {1, INFINITY, 2};
    ck_assert(isnan(ohm_abs_percentile(bad, 3, 10)));
    ck_assert(ohm_abs_percentile(high, 3, 60) == 2.0f);
    ck_assert(ohm_abs_percentile(high, 3, 100) == INFINITY);
}

/* ---- codes ---------------------------------------------------------------------------------- */

static void check_row(ohm_isa isa, size_t n, float scale, int qmax)
{
    float *x = ohm_guard_f32(n);
    int8_t *got = ohm_guard_alloc(n, 1), *expected = ohm_guard_alloc(n, 1);
    fixture_values(x, n, 5);
    ohm_quantise_kernels_of(isa)->quantise(got, x, n, scale, qmax);
    ohm_quantise_ref(expected, n, x, 1, n, n, &scale, 0, qmax);
    OHM_ASSERT(ohm_compare_bits(got, expected, n));
    OHM_ASSERT(ohm_compare_guards(got));
    ohm_guard_free(x);
    ohm_guard_free(got);
    ohm_guard_free(expected);
}

OHM_TEST(quantise, codes_equal_reference_on_every_instruction_set)
{
    const float scale[] = {0.0f, 0.5f, 1.0f, 0.0314f, 3.0f, 1e-42f, 1e30f};
    const int qmax[] = {1, 7, 127};
    for (ohm_isa isa = 0; isa <= ohm_cpu_isa(); isa++)
        for (size_t n = 0; n < SIZES; n++)
            for (size_t s = 0; s < sizeof scale / sizeof *scale; s++)
                for (size_t q = 0; q < 3; q++)
                    check_row(isa, sizes[n], scale[s], qmax[q]);
}

OHM_TEST(quantise, ties_go_to_even_and_specials_are_defined)
{
    const float x[] = {0.5f,   1.5f,     2.5f,      -0.5f, -1.5f,  -2.5f, 126.5f, 127.5f,
                       -1e38f, INFINITY, -INFINITY, NAN,   1e-45f, -0.0f, 127.0f, -127.49f};
    const int8_t expected[] = {0,    2,   2,    0,    -2, -2, 126, 127,
                               -127, 127, -127, -127, 0,  0,  127, -127};
    enum { N = sizeof expected };
    int8_t q[N];
    const float one = 1.0f, zero = 0.0f;
    ohm_quantise(q, N, x, 1, N, N, &one, 0, 127);
    OHM_ASSERT(ohm_compare_bits(q, expected, N));
    ohm_quantise(q, N, x, 1, N, N, &zero, 0, 127);
    OHM_ASSERT(ohm_compare_bits(q, expected, N));
}

/* Half a scale divided by the scale is a tie; times a rounded reciprocal it often is not. */
OHM_TEST(quantise, division_is_true_division)
{
    for (int range = 1; range < 4000; range++) {
        float scale = (float)range / 127.0f, x = (float)range;
        float ratio = x / scale;
        float halves[2] = {scale * 0.5f, scale * 1.5f};
        int8_t q[2], whole;
        ohm_quantise(&whole, 1, &x, 1, 1, 1, &scale, 0, 127);
        ck_assert_int_eq(whole, (int)rintf(ratio));
        ohm_quantise(q, 2, halves, 1, 2, 2, &scale, 0, 127);
        ck_assert_int_eq(q[0], (int)rintf(halves[0] / scale));
        ck_assert_int_eq(q[1], (int)rintf(halves[1] / scale));
    }
}

static void check_matrix(size_t rows, size_t cols, size_t ld, int per_row)
{
    float *x = ohm_guard_f32(rows * ld), *scale = ohm_guard_f32(rows + 1);
    int8_t *got = ohm_guard_alloc(rows * ld, 1), *expected = ohm_guard_alloc(rows * ld, 1);
    memset(got, 99, rows * ld);
    memset(expected, 99, rows * ld);
    for (size_t r = 0; r <= rows; r++)
        scale[r] = 0.01f * (float)(r + 1);
    for (size_t r = 0; r < rows; r++)
        fixture_values(x + r * ld, cols, (uint32_t)r);
    ohm_quantise(got, ld, x, rows, cols, ld, scale, per_row, 127);
    ohm_quantise_ref(expected, ld, x, rows, cols, ld, scale, per_row, 127);
    OHM_ASSERT(ohm_compare_bits(got, expected, rows * ld));
    OHM_ASSERT(ohm_compare_guards(got));
    ohm_guard_free(x);
    ohm_guard_free(scale);
    ohm_guard_free(got);
    ohm_guard_free(expected);
}

OHM_TEST(quantise, matrices_with_padding_and_row_scales)
{
    for (int per_row = 0; per_row < 2; per_row++) {
        for (size_t i = 0; i < SIZES; i++)
            check_matrix(sizes[i], sizes[SIZES - 1 - i], sizes[SIZES - 1 - i] + 3, per_row);
        check_matrix(2, 40001, 40005, per_row); /* rows longer than one piece */
        check_matrix(3000, 33, 33, per_row);    /* above the threading threshold */
    }
}

/* ---- drives ---------------------------------------------------------------------------------- */

static void check_drive(ohm_isa isa, ohm_drive encoding, int bits, size_t n)
{
    const ohm_quantise_kernels *kernels = ohm_quantise_kernels_of(isa);
    int qmax = (1 << (bits - 1)) - 1;
    float *x = ohm_guard_f32(n);
    int8_t *q = ohm_guard_alloc(n, 1);
    uint8_t *expected = ohm_guard_alloc(n, 1), *got = ohm_guard_alloc(n, 1);
    uint8_t *fused = ohm_guard_alloc(n, 1);
    const float scale = 0.02f;
    fixture_values(x, n, 8);
    ohm_quantise_ref(q, n, x, 1, n, n, &scale, 0, qmax);
    int negative = ohm_drive_encode_ref(expected, q, n, encoding, bits);
    ck_assert_int_eq(kernels->drive_encode(got, q, n, encoding, bits), negative);
    ck_assert_int_eq(kernels->quantise_drive(fused, x, n, scale, qmax, encoding, bits), negative);
    OHM_ASSERT(ohm_compare_bits(got, expected, n));
    OHM_ASSERT(ohm_compare_bits(fused, expected, n));
    OHM_ASSERT(ohm_compare_guards(got));
    OHM_ASSERT(ohm_compare_guards(fused));
    ohm_guard_free(x);
    ohm_guard_free(q);
    ohm_guard_free(expected);
    ohm_guard_free(got);
    ohm_guard_free(fused);
}

OHM_TEST(quantise, drives_equal_reference_on_every_instruction_set)
{
    for (ohm_isa isa = 0; isa <= ohm_cpu_isa(); isa++)
        for (ohm_drive encoding = OHM_DRIVE_OFFSET; encoding <= OHM_DRIVE_UNSIGNED; encoding++)
            for (int bits = 2; bits <= 8; bits++) {
                for (size_t i = 0; i < SIZES; i++)
                    check_drive(isa, encoding, bits, sizes[i]);
                check_drive(isa, encoding, bits, 5001);
            }
}

OHM_TEST(quantise, drive_bytes_are_the_stated_ones)
{
    const int8_t q[5] = {-127, -1, 0, 1, 127};
    const uint8_t offset[5] = {1, 127, 128, 129, 255}, magnitude[5] = {255, 129, 0, 1, 127};
    uint8_t u[5];
    ck_assert_int_eq(ohm_drive_encode(u, q, 5, OHM_DRIVE_OFFSET, 8), 0);
    OHM_ASSERT(ohm_compare_bits(u, offset, 5));
    ck_assert_int_eq(ohm_drive_encode(u, q, 5, OHM_DRIVE_SIGN_MAGNITUDE, 8), 0);
    OHM_ASSERT(ohm_compare_bits(u, magnitude, 5));
    ck_assert_int_eq(ohm_drive_encode(u, q, 5, OHM_DRIVE_UNSIGNED, 8), 1);
    ck_assert_int_eq(ohm_drive_encode(u, q + 2, 3, OHM_DRIVE_UNSIGNED, 8), 0);
    OHM_ASSERT(ohm_compare_bits(u, (const uint8_t *)q + 2, 3));
}

OHM_TEST(quantise, fused_rows_keep_their_padding)
{
    enum { ROWS = 7, COLS = 33, LD = 40 };
    float x[ROWS * LD], scale[ROWS];
    int8_t q[COLS];
    uint8_t got[ROWS * LD], expected[ROWS * LD];
    memset(got, 77, sizeof got);
    memset(expected, 77, sizeof expected);
    fixture_values(x, ROWS * LD, 4);
    for (int r = 0; r < ROWS; r++) {
        scale[r] = 0.05f * (float)(r + 1);
        ohm_quantise_ref(q, COLS, x + r * LD, 1, COLS, COLS, &scale[r], 0, 127);
        ohm_drive_encode_ref(expected + r * LD, q, COLS, OHM_DRIVE_OFFSET, 8);
    }
    ohm_quantise_drive(got, LD, x, ROWS, COLS, LD, scale, 1, 127, OHM_DRIVE_OFFSET, 8);
    OHM_ASSERT(ohm_compare_bits(got, expected, ROWS * LD));
}

/* ---- cells ----------------------------------------------------------------------------------- */

static void check_split(size_t n, size_t k, ohm_cells encoding, int cell_bits, int bits)
{
    int signs = encoding == OHM_CELLS_DIFFERENTIAL ? 2 : 1;
    size_t arrays = (size_t)(signs * ohm_weight_slices(encoding, cell_bits, bits));
    int8_t *q = ohm_guard_alloc(n * k, 1);
    uint8_t *got = ohm_guard_alloc(arrays * n * k, 1);
    uint8_t *expected = ohm_guard_alloc(arrays * n * k, 1);
    int qmax = (1 << (bits - 1)) - 1;
    for (size_t i = 0; i < n * k; i++)
        q[i] = (int8_t)((int)(i * 37 % (size_t)(2 * qmax + 1)) - qmax);
    memset(got, 0xEE, arrays * n * k);
    ohm_weight_split(got, q, n, k, encoding, cell_bits, bits);
    ohm_weight_split_ref(expected, q, n, k, encoding, cell_bits, bits);
    OHM_ASSERT(ohm_compare_bits(got, expected, arrays * n * k));
    OHM_ASSERT(ohm_compare_guards(got));
    ohm_guard_free(q);
    ohm_guard_free(got);
    ohm_guard_free(expected);
}

OHM_TEST(quantise, split_equals_reference)
{
    for (ohm_cells encoding = OHM_CELLS_DIFFERENTIAL; encoding <= OHM_CELLS_OFFSET; encoding++) {
        for (int bits = 2; bits <= 8; bits++)
            for (int cell = 1; cell <= 8; cell++) {
                check_split(33, 65, encoding, cell, bits);
                check_split(1, 31, encoding, cell, bits);
            }
        for (size_t i = 0; i < SIZES; i++)
            check_split(sizes[i], sizes[SIZES - 1 - i], encoding, 2, 8);
        check_split(300, 257, encoding, 7, 8); /* above the threading threshold */
    }
}

OHM_TEST(quantise, turning_is_transposing_on_every_instruction_set)
{
    enum { LDQ = 70, LDT = 67 };
    int8_t q[64 * LDQ], got[64 * LDT], expected[64 * LDT];
    for (int i = 0; i < 64 * LDQ; i++)
        q[i] = (int8_t)(i * 31 % 255 - 127);
    const size_t some[] = {0, 1, 7, 8, 9, 31, 33, 64};
    for (ohm_isa isa = 0; isa <= ohm_cpu_isa(); isa++)
        for (size_t i = 0; i < 64; i++) {
            size_t rows = some[i / 8], cols = some[i % 8];
            memset(got, 99, sizeof got);
            memset(expected, 99, sizeof expected);
            for (size_t r = 0; r < rows; r++)
                for (size_t c = 0; c < cols; c++)
                    expected[r * LDT + c] = q[c * LDQ + r];
            ohm_quantise_kernels_of(isa)->turn(got, LDT, q, LDQ, rows, cols);
            OHM_ASSERT(ohm_compare_bits(got, expected, 64 * LDT));
        }
}

OHM_TEST(quantise, splitting_a_row_on_every_instruction_set)
{
    enum { N = 255 };
    int8_t q[N];
    uint8_t got[N];
    for (int i = 0; i < N; i++)
        q[i] = (int8_t)(i - 127);
    for (ohm_isa isa = 0; isa <= ohm_cpu_isa(); isa++)
        for (int array = 0; array < 3; array++)
            for (int shift = 0; shift < 8; shift++) {
                ohm_cells encoding = array == 2 ? OHM_CELLS_OFFSET : OHM_CELLS_DIFFERENTIAL;
                ohm_quantise_kernels_of(isa)->split(got, q, N, encoding, array & 1, 8, shift, 7);
                for (int i = 0; i < N; i++) {
                    int value = array == 2 ? q[i] + 128 : array ? -q[i] : q[i];
                    ck_assert_int_eq(got[i], value < 0 ? 0 : value >> shift & 7);
                }
            }
}

/* The slices add up to the code again, whatever the reference says. */
OHM_TEST(quantise, split_sums_to_the_code)
{
    enum { N = 255 };
    int8_t q[N];
    uint8_t levels[2 * 8 * N];
    for (int i = 0; i < N; i++)
        q[i] = (int8_t)(i - 127);
    for (int cell = 1; cell <= 8; cell++) {
        int slices = ohm_weight_slices(OHM_CELLS_DIFFERENTIAL, cell, 8);
        ohm_weight_split(levels, q, N, 1, OHM_CELLS_DIFFERENTIAL, cell, 8);
        for (int i = 0; i < N; i++) {
            int sum = 0;
            for (int s = 0; s < slices; s++)
                sum += (levels[2 * s * N + i] - levels[(2 * s + 1) * N + i]) * (1 << s * cell);
            ck_assert_int_eq(sum, q[i]);
        }
    }
}

/* ---- threads --------------------------------------------------------------------------------- */

OHM_TEST(quantise, threads_change_no_bit)
{
    enum { ROWS = 700, COLS = 257, ALL = ROWS * COLS };
    float *x = ohm_guard_f32(ALL), rows[2][ROWS], range[2], percentile[2];
    int8_t *q = ohm_guard_alloc(2 * ALL, 1);
    uint8_t *levels = ohm_guard_alloc(2 * 8 * ALL, 1);
    fixture_values(x, ALL, 6);
    for (int t = 0; t < 2; t++) {
        omp_set_num_threads(t + 1);
        range[t] = ohm_absmax(x, ALL);
        percentile[t] = ohm_abs_percentile(x, ALL, 99.9);
        ohm_absmax_rows(rows[t], x, ROWS, COLS, COLS);
        ohm_quantise(q + t * ALL, COLS, x, ROWS, COLS, COLS, rows[0], 1, 127);
        ohm_weight_split(levels + t * 8 * ALL, q, ROWS, COLS, OHM_CELLS_DIFFERENTIAL, 2, 8);
    }
    OHM_ASSERT(ohm_compare_bits(range, range + 1, 1));
    OHM_ASSERT(ohm_compare_bits(percentile, percentile + 1, 1));
    OHM_ASSERT(ohm_compare_bits(rows[0], rows[1], ROWS));
    OHM_ASSERT(ohm_compare_bits(q, q + ALL, ALL));
    OHM_ASSERT(ohm_compare_bits(levels, levels + 8 * ALL, 8 * ALL));
    ohm_guard_free(x);
    ohm_guard_free(q);
    ohm_guard_free(levels);
}
