/* The executor's emulations, on the executor and on a device: lane layouts, shuffles, halves. */
#include <math.h>
#include <string.h>

#include "kernels/philox.h"
#include "tests/executor/sample_cuda.h"
#include "tests/parity.h"

static uint32_t word(uint32_t i)
{
    const ohm_stream s = {{5, 6}, OHM_SITE_USER, 0, 0};
    return ohm_stream_word(&s, i);
}

OHM_PARITY(sample_cuda, sum_in_shared_memory)
{
    int x[3 * 64], sum[3], expected[3] = {0};
    for (int i = 0; i < 3 * 64; i++)
        expected[i / 64] += x[i] = (int)(word((uint32_t)i) % 1000);
    int *dx = parity_upload(x, sizeof x), *dsum = parity_alloc(sizeof sum);
    PARITY_TRY(ohm_sample_sum(dsum, dx, 0, parity_stream())); /* no blocks, no work */
    PARITY_TRY(ohm_sample_sum(dsum, dx, 3, parity_stream()));
    PARITY_TRY(parity_fetch(sum, dsum, sizeof sum));
    return ohm_compare_bits(sum, expected, 3);
}

OHM_PARITY_ALONE(sample_cuda, mma_of_bytes)
{
    signed char a[16][32], b[32][8];
    int c[16][8], d[16][8], expected[16][8];
    for (int i = 0; i < 16 * 32; i++)
        a[i / 32][i % 32] = (signed char)word((uint32_t)i);
    for (int i = 0; i < 32 * 8; i++)
        b[i / 8][i % 8] = (signed char)word(1000 + (uint32_t)i);
    for (int i = 0; i < 16 * 8; i++)
        c[i / 8][i % 8] = (int)(word(2000 + (uint32_t)i) >> 8);
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 8; column++) {
            expected[row][column] = c[row][column];
            for (int k = 0; k < 32; k++)
                expected[row][column] += a[row][k] * b[k][column];
        }
    int *dd = parity_alloc(sizeof d);
    PARITY_TRY(ohm_sample_product_s8(dd, parity_upload(a, sizeof a), parity_upload(b, sizeof b),
                                     parity_upload(c, sizeof c), parity_stream()));
    PARITY_TRY(parity_fetch(d, dd, sizeof d));
    return ohm_compare_bits(d[0], expected[0], 16 * 8);
}

/* Whole numbers below 32 as halves: products and sums are exact in float. */
static unsigned short half_of(int value)
{
    if (value == 0)
        return 0;
    int exponent = 31 - __builtin_clz((unsigned)(value < 0 ? -value : value));
    unsigned mantissa = ((unsigned)(value < 0 ? -value : value) << (10 - exponent)) & 1023;
    return (unsigned short)((value < 0 ? 0x8000u : 0u) | (unsigned)(exponent + 15) << 10 |
                            mantissa);
}

static void small_halves(unsigned short *half, int *value, int count, uint32_t at)
{
    for (int i = 0; i < count; i++) {
        value[i] = (int)(word(at + (uint32_t)i) % 63) - 31;
        half[i] = half_of(value[i]);
    }
}

OHM_PARITY(sample_cuda, mma_of_halves_through_cp_async_and_ldmatrix)
{
    unsigned short a[16 * 16], b[16 * 8];
    int va[16 * 16], vb[16 * 8];
    float c[16 * 8], d[16 * 8], expected[16 * 8];
    small_halves(a, va, 16 * 16, 0);
    small_halves(b, vb, 16 * 8, 300);
    for (int i = 0; i < 16 * 8; i++) {
        expected[i] = c[i] = (float)(word(500 + (uint32_t)i) % 100) + 0.5f;
        for (int k = 0; k < 16; k++)
            expected[i] += (float)(va[i / 8 * 16 + k] * vb[k * 8 + i % 8]);
    }
    float *dd = parity_alloc(sizeof d);
    PARITY_TRY(ohm_sample_product_f16(dd, parity_upload(a, sizeof a), parity_upload(b, sizeof b),
                                      parity_upload(c, sizeof c), parity_stream()));
    PARITY_TRY(parity_fetch(d, dd, sizeof d));
    return ohm_compare_bits(d, expected, 16 * 8);
}

/* Of 11 bits, and sums that are exact: quarters are left out from 512 on, a 2^-12 beside a whole number always. */
OHM_PARITY_ALONE(sample_cuda, mma_of_tf32)
{
    float a[16 * 8], b[8 * 8], c[16 * 8], d[16 * 8], expected[16 * 8];
    for (int i = 0; i < 16 * 8; i++) {
        a[i] = (float)(word((uint32_t)i) % 1024) + 0.25f;
        expected[i] = c[i] = (float)(word(200 + (uint32_t)i) % 100);
    }
    for (int i = 0; i < 8 * 8; i++)
        b[i] = (float)(word(400 + (uint32_t)i) % 8 + 1) + 0x1p-12f;
    for (int i = 0; i < 16 * 8; i++)
        for (int k = 0; k < 8; k++) {
            float x = a[i / 8 * 8 + k];
            expected[i] += (x < 512.0f ? x : floorf(x)) * floorf(b[k * 8 + i % 8]);
        }
    float *dd = parity_alloc(sizeof d);
    PARITY_TRY(ohm_sample_product_tf32(dd, parity_upload(a, sizeof a), parity_upload(b, sizeof b),
                                       parity_upload(c, sizeof c), parity_stream()));
    PARITY_TRY(parity_fetch(d, dd, sizeof d));
    return ohm_compare_bits(d, expected, 16 * 8);
}

OHM_PARITY_ALONE(sample_cuda, wmma)
{
    signed char a8[256], b8[256];
    unsigned short a16[256], b16[256];
    int va[256], vb[256], d8[256], expected8[256];
    float d16[256], expected16[256];
    small_halves(a16, va, 256, 0);
    small_halves(b16, vb, 256, 300);
    for (int i = 0; i < 256; i++) {
        a8[i] = (signed char)va[i];
        b8[i] = (signed char)vb[i];
    }
    for (int i = 0; i < 256; i++) {
        expected8[i] = 0;
        for (int k = 0; k < 16; k++)
            expected8[i] += va[i / 16 * 16 + k] * vb[i % 16 * 16 + k];
        expected16[i] = (float)expected8[i];
    }
    int *dd8 = parity_alloc(sizeof d8);
    float *dd16 = parity_alloc(sizeof d16);
    PARITY_TRY(ohm_sample_wmma(dd8, dd16, parity_upload(a8, sizeof a8),
                               parity_upload(b8, sizeof b8), parity_upload(a16, sizeof a16),
                               parity_upload(b16, sizeof b16), parity_stream()));
    PARITY_TRY(parity_fetch(d8, dd8, sizeof d8));
    PARITY_TRY(parity_fetch(d16, dd16, sizeof d16));
    PARITY_CHECK(ohm_compare_bits(d8, expected8, 256));
    return ohm_compare_bits(d16, expected16, 256);
}

OHM_PARITY_ALONE(sample_cuda, shuffles_and_votes)
{
    int x[32], out[32][12], expected[32][12];
    unsigned ballot = 0, parity = 0;
    int sum = 0, most = 0;
    for (int i = 0; i < 32; i++) {
        x[i] = (int)(word((uint32_t)i) % 1000);
        ballot |= (unsigned)(x[i] % 3 == 0) << i;
        parity ^= (unsigned)x[i];
        sum += x[i];
        most = x[i] > most ? x[i] : most;
    }
    for (int i = 0; i < 32; i++) {
        const int one[12] = {x[5],
                             x[i / 8 * 8 + (i + 1) % 8],
                             x[i ^ 3],
                             x[i % 16 >= 2 ? i - 2 : i],
                             x[i + 7 < 32 ? i + 7 : i],
                             (int)ballot,
                             1,
                             0,
                             sum,
                             most,
                             (int)parity,
                             i < 16 ? x[i ^ 1] : 0};
        memcpy(expected[i], one, sizeof one);
    }
    int *dout = parity_alloc(sizeof out);
    PARITY_TRY(ohm_sample_lanes(dout, parity_upload(x, sizeof x), parity_stream()));
    PARITY_TRY(parity_fetch(out, dout, sizeof out));
    return ohm_compare_bits(out[0], expected[0], 32 * 12);
}

static int bits_of(float value)
{
    int bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

OHM_PARITY(sample_cuda, atomics_and_conversions)
{
    int x[64], out[16], expected[16] = {0}, even = 0;
    for (int i = 0; i < 64; i++) {
        x[i] = (int)(word((uint32_t)i) % 50);
        even += x[i] % 2 == 0;
        expected[x[i] & 3]++;
        expected[7] = x[i] > expected[7] ? x[i] : expected[7];
    }
    expected[4] = even;
    expected[5] = 1;
    expected[8] = 0x77661100;
    expected[9] = 8 + 3100 + 40000;
    expected[10] = 1;
    expected[11] = bits_of(0.0999755859375f);       /* 0.1 to 11 bits */
    expected[12] = bits_of(6.097555160522461e-05f); /* a subnormal half: 1023 steps of 2^-24 */
    expected[13] = bits_of(1.0f / 0.0f);
    expected[14] = bits_of(1.0078125f);  /* 1 + 3/512, half-way, to the even 1 + 1/128 */
    expected[15] = bits_of(7.30078125f); /* 7.2999268 in steps of 1/256 */
    int *dout = parity_alloc(sizeof out);
    PARITY_TRY(ohm_cuda_fill(dout, 0, sizeof out, parity_stream()));
    PARITY_TRY(ohm_sample_votes(dout, parity_upload(x, sizeof x), 50, parity_stream()));
    PARITY_TRY(parity_fetch(out, dout, sizeof out));
    return ohm_compare_bits(out, expected, 16);
}
