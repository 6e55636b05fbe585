/* Quantisation on the device: the codes, levels and ranges of the host, bit by bit. */
#include <math.h>
#include <string.h>

#include "kernels/quantise_cuda.h"
#include "tests/fixture_values.h"
#include "tests/parity.h"

enum { MOST = 9000 };
static const size_t sizes[] = {0, 1, 2, 31, 33, 257, 4099, MOST};
enum { SIZES = sizeof sizes / sizeof *sizes };

OHM_PARITY(quantise_cuda, absmax)
{
    static float x[MOST + 1];
    for (size_t i = 0; i < SIZES; i++)
        for (size_t skip = 0; skip < 2; skip++) { /* four at a time, and one by one */
            float got, expected, *out = parity_alloc(sizeof got);
            fixture_values(x, MOST + 1, 1 + (uint32_t)i);
            if (sizes[i] > 100)
                x[skip + sizes[i] / 2] = i % 2 ? INFINITY : NAN;
            expected = ohm_absmax(x + skip, sizes[i]);
            const float *dx = parity_upload(x, sizeof x);
            PARITY_TRY(ohm_absmax_cuda(out, dx + skip, sizes[i], parity_stream()));
            PARITY_TRY(parity_fetch(&got, out, sizeof got));
            PARITY_CHECK(ohm_compare_bits(&got, &expected, 1));
        }
    for (size_t at = 0; at < 300; at += 23) { /* in whichever warp the largest stands */
        float y[300] = {0}, got, *out = parity_alloc(sizeof got);
        const float expected = 3.0f;
        y[at] = -3.0f;
        PARITY_TRY(ohm_absmax_cuda(out, parity_upload(y, sizeof y), 300, parity_stream()));
        PARITY_TRY(parity_fetch(&got, out, sizeof got));
        PARITY_CHECK(ohm_compare_bits(&got, &expected, 1));
    }
    return parity_pass();
}

OHM_PARITY(quantise_cuda, absmax_of_rows_and_scales)
{
    enum { ROWS = 33, COLS = 5, LD = 7, WIDE = 1032 };
    static float x[3 * WIDE], got[ROWS], expected[ROWS];
    float *out = parity_alloc(sizeof got);
    fixture_values(x, ROWS * LD, 3);
    memset(x + 5 * LD, 0, LD * sizeof *x);
    ohm_absmax_rows(expected, x, ROWS, COLS, LD);
    PARITY_TRY(
        ohm_absmax_rows_cuda(out, parity_upload(x, sizeof x), ROWS, COLS, LD, parity_stream()));
    PARITY_TRY(parity_fetch(got, out, sizeof got));
    PARITY_CHECK(ohm_compare_bits(got, expected, ROWS));
    for (int i = 0; i < ROWS; i++)
        expected[i] = expected[i] > 0.0f ? expected[i] / 127.0f : 1.0f;
    PARITY_TRY(ohm_scales_cuda(out, out, ROWS, 127, parity_stream()));
    PARITY_TRY(parity_fetch(got, out, sizeof got));
    PARITY_CHECK(ohm_compare_bits(got, expected, ROWS));
    fixture_values(x, 3 * WIDE, 9);
    ohm_absmax_rows(expected, x, 3, WIDE - 2, WIDE);
    PARITY_TRY(ohm_absmax_rows_cuda(out, parity_upload(x, 3 * WIDE * sizeof *x), 3, WIDE - 2, WIDE,
                                    parity_stream()));
    PARITY_TRY(parity_fetch(got, out, 3 * sizeof *got));
    return ohm_compare_bits(got, expected, 3);
}

/* Four and one at a time; wide rows and one long one; one scale and one a row. */
OHM_PARITY_ALONE(quantise_cuda, codes_and_drive_bytes)
{
    enum { ROWS = 7, LD = 300 };
    static float x[ROWS * LD];
    static const size_t cols[] = {0, 1, 31, 257, 299, 300};
    float scale[ROWS] = {0.02f, 0.0f, 1e-30f, 3.0f, 0.25f, 1e30f, 0.5f};
    fixture_values(x, ROWS * LD, 2);
    x[17] = NAN;
    x[LD + 3] = -INFINITY;
    const float *dx = parity_upload(x, sizeof x), *dscale = parity_upload(scale, sizeof scale);
    for (size_t c = 0; c < sizeof cols / sizeof *cols; c++)
        for (int variant = 0; variant < 12; variant++) {
            const int per_row = variant & 1, encoding = variant / 2 % 4, plain = variant >= 8;
            const size_t ldq = variant % 3 ? LD : LD + 5, n = ROWS * (LD + 5);
            int8_t got[ROWS * (LD + 5)], expected[ROWS * (LD + 5)];
            uint32_t flags = 1, expected_flags = 1, *dflags = parity_upload(&flags, sizeof flags);
            int8_t *dq = parity_alloc(n);
            memset(expected, 0x55, n);
            PARITY_TRY(ohm_cuda_fill(dq, 0x55, n, parity_stream()));
            if (plain) {
                ohm_quantise(expected, ldq, x, ROWS, cols[c], LD, scale, per_row, 127);
                PARITY_TRY(ohm_quantise_cuda(dq, ldq, dx, ROWS, cols[c], LD, dscale, per_row, 127,
                                             parity_stream()));
            } else {
                if (ohm_quantise_drive((uint8_t *)expected, ldq, x, ROWS, cols[c], LD, scale,
                                       per_row, 7, encoding, 4))
                    expected_flags |= 4;
                PARITY_TRY(ohm_quantise_drive_cuda((uint8_t *)dq, ldq, dflags, 4, dx, ROWS, cols[c],
                                                   LD, dscale, per_row, 7, encoding, 4,
                                                   parity_stream()));
            }
            PARITY_TRY(parity_fetch(got, dq, n));
            PARITY_TRY(parity_fetch(&flags, dflags, sizeof flags));
            PARITY_CHECK(ohm_compare_bits(got, expected, n));
            PARITY_CHECK(ohm_compare_bits(&flags, &expected_flags, 1));
        }
    return parity_pass();
}

/* A single code of -1 among zeros and more is told, wherever it lies. */
OHM_PARITY_ALONE(quantise_cuda, one_code_below_zero_is_told)
{
    enum { N = 9 };
    const float scale = 0.5f, *dscale = parity_upload(&scale, sizeof scale);
    uint8_t *codes = parity_alloc(N);
    for (int at = -1; at < N; at++) {
        float x[N];
        uint32_t flags = 1, *dflags = parity_upload(&flags, sizeof flags);
        for (int i = 0; i < N; i++)
            x[i] = i == at ? -0.5f : 0.5f * (float)(i % 3);
        PARITY_TRY(ohm_quantise_drive_cuda(codes, N, dflags, 4, parity_upload(x, sizeof x), 1, N, N,
                                           dscale, 0, 7, OHM_DRIVE_UNSIGNED, 4, parity_stream()));
        PARITY_TRY(parity_fetch(&flags, dflags, sizeof flags));
        if (flags != (at < 0 ? 1u : 5u))
            return parity_failed("the flag");
    }
    return parity_pass();
}

OHM_PARITY(quantise_cuda, levels_of_weights)
{
    enum { N = 67, K = 130, ARRAYS = 16 };
    static const struct {
        ohm_cells encoding;
        int cell_bits, bits;
    } kinds[] = {{OHM_CELLS_DIFFERENTIAL, 2, 8},
                 {OHM_CELLS_DIFFERENTIAL, 7, 8},
                 {OHM_CELLS_OFFSET, 3, 8},
                 {OHM_CELLS_OFFSET, 1, 8},
                 {OHM_CELLS_DIFFERENTIAL, 4, 4}};
    static float w[N * K], scale[N];
    static int8_t q[N * K], expected_q[N * K];
    static uint8_t got[ARRAYS * N * K], expected[ARRAYS * N * K];
    fixture_values(w, N * K, 4);
    for (int i = 0; i < N; i++)
        scale[i] = 0.03f + 0.01f * (float)i;
    const float *dw = parity_upload(w, sizeof w), *dscale = parity_upload(scale, sizeof scale);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const int bits = kinds[i].bits, qmax = (1 << (bits - 1)) - 1;
        const int arrays = ohm_weight_slices(kinds[i].encoding, kinds[i].cell_bits, bits) *
                           (kinds[i].encoding == OHM_CELLS_DIFFERENTIAL ? 2 : 1);
        const size_t bytes = (size_t)arrays * N * K;
        uint8_t *levels = parity_alloc(bytes), *again = parity_alloc(bytes);
        int8_t *dq = parity_alloc(sizeof q);
        ohm_quantise(expected_q, K, w, N, K, K, scale, 1, qmax);
        ohm_weight_split(expected, expected_q, N, K, kinds[i].encoding, kinds[i].cell_bits, bits);
        PARITY_TRY(ohm_quantise_split_cuda(dq, levels, dw, N, K, dscale, 1, qmax, kinds[i].encoding,
                                           kinds[i].cell_bits, bits, parity_stream()));
        PARITY_TRY(parity_fetch(q, dq, sizeof q));
        PARITY_TRY(parity_fetch(got, levels, bytes));
        PARITY_CHECK(ohm_compare_bits(q, expected_q, N * K));
        PARITY_CHECK(ohm_compare_bits(got, expected, bytes));
        PARITY_TRY(ohm_weight_split_cuda(again, dq, N, K, kinds[i].encoding, kinds[i].cell_bits,
                                         bits, parity_stream()));
        PARITY_TRY(parity_fetch(got, again, bytes));
        PARITY_CHECK(ohm_compare_bits(got, expected, bytes));
    }
    return parity_pass();
}
