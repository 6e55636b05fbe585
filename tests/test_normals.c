/* Both generators: bits against the scalar references on every instruction set of this machine,
 * then distributions. Each statistical check has the false-alarm rate OHM_ALPHA or, where a bound
 * is written out, 5.2 standard errors (2e-7, two-sided). */
#include "kernels/normals.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/normals_math.h"
#include "tests/compare.h"
#include "tests/runner.h"

#define SIGMAS 5.2

static const ohm_stream stream = {{2024, 1}, OHM_SITE_READ, 77, 5};

/* ---- bits ----------------------------------------------------------------------------------- */

static void check_exact(const ohm_normals_kernels *kernels, uint64_t first, size_t count)
{
    float *got = ohm_guard_f32(count), *expected = ohm_guard_f32(count);
    kernels->exact(got, first, count, &stream);
    ohm_normals_exact_ref(expected, first, count, &stream);
    OHM_ASSERT(ohm_compare_bits(got, expected, count));
    OHM_ASSERT(ohm_compare_guards(got));
    ohm_guard_free(got);
    ohm_guard_free(expected);
}

OHM_TEST(normals, exact_has_the_same_bits_on_every_instruction_set)
{
    const uint64_t first[] = {0, 1, 2, 3, 130, (1ull << 34) - 37, (1ull << 40) + 1};
    const size_t count[] = {0, 1, 2, 3, 31, 33, 127, 128, 257, 1031};
    for (ohm_isa isa = 0; isa <= ohm_cpu_isa(); isa++)
        for (size_t f = 0; f < sizeof first / sizeof *first; f++)
            for (size_t c = 0; c < sizeof count / sizeof *count; c++)
                check_exact(ohm_normals_kernels_of(isa), first[f], count[c]);
}

OHM_TEST(normals, exact_has_the_same_bits_over_many_words)
{
    for (ohm_isa isa = 0; isa <= ohm_cpu_isa(); isa++)
        check_exact(ohm_normals_kernels_of(isa), 5, 1 << 18);
}

static void check_fast(const ohm_normals_kernels *kernels, uint64_t first, size_t samples,
                       size_t ld, uint64_t transform, uint64_t per_sample)
{
    size_t n = samples * ld;
    float *got = ohm_guard_f32(n), *expected = ohm_guard_f32(n);
    for (size_t i = 0; i < n; i++)
        got[i] = expected[i] = -1234.5f;
    kernels->fast(got, ld, first, samples, transform, per_sample, &stream);
    ohm_normals_fast_ref(expected, ld, first, samples, transform, per_sample, &stream);
    OHM_ASSERT(ohm_compare_bits(got, expected, n));
    OHM_ASSERT(ohm_compare_guards(got));
    ohm_guard_free(got);
    ohm_guard_free(expected);
}

OHM_TEST(normals, fast_has_the_same_bits_on_every_instruction_set)
{
    const size_t samples[] = {0, 1, 2, 3, 31, 33};
    for (ohm_isa isa = 0; isa <= ohm_cpu_isa(); isa++)
        for (size_t n = 0; n < sizeof samples / sizeof *samples; n++) {
            check_fast(ohm_normals_kernels_of(isa), 0, samples[n], 128, 0, 1);
            check_fast(ohm_normals_kernels_of(isa), 17, samples[n], 131, 2, 3);
            /* Block numbers that pass 2^32 on the way. */
            check_fast(ohm_normals_kernels_of(isa), (1ull << 29) / 3 - 2, samples[n], 160, 1, 3);
        }
}

OHM_TEST(normals, fast_integers_are_the_stated_transform)
{
    int16_t v[3 * 128];
    float z[3 * 128];
    ohm_normals_fast_int(v, 128, 9, 3, 1, 2, &stream);
    ohm_normals_fast(z, 128, 9, 3, 1, 2, &stream);
    for (int i = 0; i < 3 * 128; i++)
        ck_assert(z[i] == (float)v[i] * OHM_FAST_SCALE);
    ck_assert(fabs(OHM_FAST_SCALE * sqrt(128.0 * 6825.0) - 1.0) < 6e-8);
    /* Output 0 is the plain sum of the bytes' values. */
    int sum = 0;
    for (unsigned i = 0; i < 128; i++)
        sum += ohm_fast_value((uint8_t)(ohm_stream_word(&stream, 19 * 32 + i / 4) >> 8 * (i % 4)));
    ck_assert_int_eq(v[0], sum);
    ck_assert_int_eq(ohm_fast_value(0), -63);
    ck_assert_int_eq(ohm_fast_value(63), 63);
    ck_assert_int_eq(ohm_fast_value(128 + 64), -189);
    ck_assert_int_eq(ohm_fast_value(255), 189);
}

static uint64_t fnv1a(const void *data, size_t bytes)
{
    const uint8_t *at = data;
    uint64_t hash = 14695981039346656037ull;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ at[i]) * 1099511628211ull;
    return hash;
}

/* The same bits whatever compiler and flags built this: recorded results depend on them. */
OHM_TEST(normals, bits_are_the_recorded_ones)
{
    static float z[512 * 128];
    ohm_normals_exact(z, 0, 512 * 128, &stream);
    ck_assert_uint_eq(fnv1a(z, sizeof z), 16645678541777871990ull);
    ohm_normals_fast(z, 128, 0, 512, 0, 1, &stream);
    ck_assert_uint_eq(fnv1a(z, sizeof z), 13388967244407993415ull);
}

OHM_TEST(normals, exact_block_is_exact_under_another_index)
{
    float block[5 * 140], flat[128];
    ohm_normals_exact_block(block, 140, 6, 5, 2, 3, &stream);
    for (uint64_t i = 0; i < 5; i++) {
        ohm_normals_exact(flat, ((6 + i) * 3 + 2) * 128, 128, &stream);
        OHM_ASSERT(ohm_compare_bits(block + i * 140, flat, 128));
    }
}

/* ---- accuracy of Box-Muller ------------------------------------------------------------------ */

OHM_TEST(normals, exact_is_box_muller_in_double)
{
    enum { N = 1 << 18 };
    double worst = 0;
    for (uint32_t i = 0; i < N; i++) {
        uint32_t word[4];
        ohm_stream_block(word, &stream, i);
        const uint32_t edges[] = {0, 1, 255, 0x7FFFFFFF, 0x80000000, 0xB504F2FF, 0xB504F300, ~0u};
        if (i < 64) {
            word[0] = edges[i % 8];
            word[1] = edges[i / 8];
        }
        float got[2];
        ohm_normal_pair(&got[0], &got[1], word[0], word[1]);
        double r = sqrt(-2.0 * log1p(-((double)~word[0] + 0.5) * 0x1p-32));
        double quarter = (double)(word[1] >> 30);
        double t = (double)(int32_t)(word[1] << 2 | 2) * 0x1p-32;
        double angle = (quarter + t) * 1.57079632679489661923;
        worst = fmax(worst, fabs(got[0] - r * cos(angle)) / r);
        worst = fmax(worst, fabs(got[1] - r * sin(angle)) / r);
    }
    ck_assert_msg(worst < 3e-7, "error %.2e of the radius", worst);
}

/* ---- distributions --------------------------------------------------------------------------- */

OHM_TEST(normals, exact_is_normal)
{
    enum { N = 1 << 19 };
    static float z[N];
    ohm_normals_exact(z, 0, N, &stream);
    OHM_ASSERT(ohm_compare_normal(z, N, 0, 1, OHM_ALPHA));
    OHM_ASSERT(ohm_compare_normal_moments(z, N, 0, 1, OHM_ALPHA));
}

OHM_TEST(normals, fast_is_normal_one_output_per_transform)
{
    enum { N = 1 << 18, PART = 256 };
    static float z[N], part[PART * 128];
    for (size_t at = 0; at < N; at += PART) {
        ohm_normals_fast(part, 128, at, PART, 0, 1, &stream);
        for (size_t i = 0; i < PART; i++)
            z[at + i] = part[i * 128 + (at + i) * 37 % 128];
    }
    OHM_ASSERT(ohm_compare_normal(z, N, 0, 1, OHM_ALPHA));
    OHM_ASSERT(ohm_compare_normal_moments(z, N, 0, 1, OHM_ALPHA));
}

/* Sums over many transforms. */
typedef struct {
    double n, sum2, sum4, above3, above4;
    double blocks, energy, energy2, total2, total4;
} fast_sums;

static void add_transform(fast_sums *a, const float *z)
{
    double energy = 0, total = 0;
    for (int j = 0; j < 128; j++) {
        double square = (double)z[j] * z[j];
        a->sum4 += square * square;
        a->above3 += square > 9;
        a->above4 += square > 16;
        energy += square;
        total += z[j];
    }
    total /= sqrt(128.0);
    a->n += 128;
    a->sum2 += energy;
    a->blocks += 1;
    a->energy += energy;
    a->energy2 += energy * energy;
    a->total2 += total * total;
    a->total4 += total * total * total * total;
}

static void check_share(double count, double n, double expected)
{
    double error = sqrt(expected * (1 - expected) / n);
    ck_assert_msg(fabs(count / n - expected) < SIGMAS * error, "%g, expected %g +- %g", count / n,
                  expected, error);
}

OHM_TEST(normals, fast_has_normal_tails_energy_and_sums)
{
    enum { BLOCKS = 1 << 17, PART = 256 };
    static float part[PART * 128];
    fast_sums a = {0};
    for (size_t at = 0; at < BLOCKS; at += PART) {
        ohm_normals_fast(part, 128, at, PART, 1, 2, &stream);
        for (size_t i = 0; i < PART; i++)
            add_transform(&a, part + i * 128);
    }
    double variance = a.sum2 / a.n, kurtosis = a.sum4 / a.n / (variance * variance) - 3;
    ck_assert_msg(fabs(variance - 1) < SIGMAS * sqrt(2 / a.n), "variance %g", variance);
    ck_assert_msg(fabs(kurtosis) < 4e-4 + SIGMAS * sqrt(24 / a.n), "excess kurtosis %g", kurtosis);
    check_share(a.above3, a.n, 2.6998e-3);
    check_share(a.above4, a.n, 6.334e-5);
    double mean = a.energy / a.blocks, sd = sqrt(a.energy2 / a.blocks - mean * mean);
    ck_assert_msg(fabs(sd - 15.8) < 0.05 + SIGMAS * 16 / sqrt(2 * a.blocks), "energy sd %g", sd);
    /* The sum over a whole transform: -1.2 without the signs. */
    double spread = a.total2 / a.blocks, tails = a.total4 / a.blocks / (spread * spread) - 3;
    ck_assert_msg(fabs(tails) < 0.02 + SIGMAS * sqrt(24 / a.blocks), "kurtosis of sums %g", tails);
}

/* ---- independence ---------------------------------------------------------------------------- */

enum { CORRELATED = 1 << 17 };

static void check_uncorrelated(const float *x, const float *y, const char *what)
{
    double xy = 0, squares = 0;
    for (size_t i = 0; i < CORRELATED; i++) {
        xy += (double)x[i] * y[i];
        squares += ((double)x[i] * x[i] - 1) * ((double)y[i] * y[i] - 1) / 2;
    }
    double z = xy / sqrt(CORRELATED), z2 = squares / sqrt(CORRELATED);
    /* Products have heavier tails than a normal; half as much again covers them at this n. */
    ck_assert_msg(fabs(z) < SIGMAS && fabs(z2) < 1.5 * SIGMAS, "%s: %g and %g", what, z, z2);
}

static void draw(float *z, int exact, uint64_t first, uint64_t transform, const ohm_stream *s)
{
    (exact ? ohm_normals_exact_block : ohm_normals_fast)(z, 128, first, CORRELATED / 128, transform,
                                                         2, s);
}

static void check_independence(int exact)
{
    static float x[CORRELATED + 128], y[CORRELATED + 128];
    draw(x, exact, 0, 0, &stream);
    draw(y, exact, 1, 0, &stream);
    check_uncorrelated(x, y, "next sample");
    draw(y, exact, 0, 1, &stream);
    check_uncorrelated(x, y, "next transform");
    const ohm_stream other[] = {{{2025, 1}, OHM_SITE_READ, 77, 5},
                                {{2024, 2}, OHM_SITE_READ, 77, 5},
                                {{2024, 1}, OHM_SITE_ADC_NOISE, 77, 5},
                                {{2024, 1}, OHM_SITE_READ, 78, 5},
                                {{2024, 1}, OHM_SITE_READ, 77, 6}};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        draw(y, exact, 0, 0, &other[i]);
        check_uncorrelated(x, y, "another stream");
    }
    for (size_t lag = 1; lag <= 64; lag *= 2) { /* neighbours inside one sequence */
        memcpy(y, x + lag, (CORRELATED - lag) * sizeof *y);
        memcpy(y + CORRELATED - lag, x, lag * sizeof *y);
        check_uncorrelated(x, y, "lag");
    }
}

OHM_TEST(normals, fast_samples_and_streams_are_uncorrelated)
{
    check_independence(0);
}

OHM_TEST(normals, exact_samples_and_streams_are_uncorrelated)
{
    check_independence(1);
}
