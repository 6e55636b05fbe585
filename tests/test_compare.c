#include "tests/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/runner.h"

#define MUST_FAIL(verdict, words)                                                                  \
    do {                                                                                           \
        ohm_verdict v_ = (verdict);                                                                \
        ck_assert_msg(!v_.pass, "%s passed", #verdict);                                            \
        ck_assert_msg(strstr(v_.text, words) != NULL, "'%s' lacks '%s'", v_.text, words);          \
    } while (0)

OHM_TEST(compare, close_passes_and_fails)
{
    const float got[3] = {1.0f, 2.0f, 3.03f};
    const double ref[3] = {1.0, 2.0, 3.0};
    OHM_ASSERT(ohm_compare_close(got, ref, 2, 0, 1e-7));
    OHM_ASSERT(ohm_compare_close(got, ref, 3, 0.031, 0));
    OHM_ASSERT(ohm_compare_close(got, ref, 3, 0, 0.011));
    OHM_ASSERT(ohm_compare_close(got, got, 0, 0, 0));
    MUST_FAIL(ohm_compare_close(got, ref, 3, 0.029, 0), "1 of 3 differ; worst at 2");
    MUST_FAIL(ohm_compare_close(ref, got, 3, 0, 0), "1 of 3");
}

OHM_TEST(compare, close_names_the_worst)
{
    const double got[4] = {1.1, 2.0, 5.0, 4.2}, ref[4] = {1.0, 2.0, 3.0, 4.0};
    ohm_verdict v = ohm_compare_close(got, ref, 4, 1e-3, 0);
    ck_assert_uint_eq(v.worst, 2);
    ck_assert_double_eq_tol(v.statistic, 2000, 1e-6);
}

OHM_TEST(compare, close_refuses_nan_and_lone_infinity)
{
    const float nan[2] = {1, NAN}, inf[2] = {1, INFINITY}, ref[2] = {1, 2};
    MUST_FAIL(ohm_compare_close(nan, ref, 2, 1e30, 1), "worst at 1");
    MUST_FAIL(ohm_compare_close(ref, nan, 2, 1e30, 1), "worst at 1");
    MUST_FAIL(ohm_compare_close(nan, nan, 2, 1e30, 1), "worst at 1");
    MUST_FAIL(ohm_compare_close(inf, ref, 2, 1e30, 1), "worst at 1");
    MUST_FAIL(ohm_compare_close(ref, inf, 2, 1e30, 1), "worst at 1");
    OHM_ASSERT(ohm_compare_close(inf, inf, 2, 0, 0));
}

OHM_TEST(compare, close_refuses_an_empty_reference)
{
    const float zero[3] = {0, -0.0f, 0}, got[3] = {0};
    MUST_FAIL(ohm_compare_close(got, zero, 3, 1, 1), "all zero");
    OHM_ASSERT(ohm_compare_zero(zero, 3));
    const double nearly[2] = {0, 1e-300}, nan[1] = {NAN};
    MUST_FAIL(ohm_compare_zero(nearly, 2), "element 1");
    MUST_FAIL(ohm_compare_zero(nan, 1), "not zero");
}

OHM_TEST(compare, bits_see_the_sign_of_zero)
{
    const float a[3] = {1, 0, NAN}, b[3] = {1, -0.0f, NAN};
    OHM_ASSERT(ohm_compare_bits(a, a, 3));
    MUST_FAIL(ohm_compare_bits(a, b, 3), "first at 1: got 0x00000000, reference 0x80000000");
    const uint8_t c[2] = {1, 2}, d[2] = {1, 3};
    MUST_FAIL(ohm_compare_bits(c, d, 2), "1 of 2");
}

OHM_TEST(compare, codes_allow_one_step_at_a_threshold_only)
{
    const int32_t ref[4] = {3, -2, 7, 0};
    const double lsb[4] = {3.4999, -1.5001, 7.2, 0.4};
    const int32_t near[4] = {4, -1, 7, 0}, far[4] = {3, -2, 8, 0}, wrong[4] = {3, -2, 7, 2};
    ohm_verdict v = ohm_compare_codes(near, ref, lsb, 4, 2e-4);
    OHM_ASSERT(v);
    ck_assert_uint_eq(v.differing, 2);
    MUST_FAIL(ohm_compare_codes(near, ref, lsb, 4, 5e-5), "code 0");
    MUST_FAIL(ohm_compare_codes(far, ref, lsb, 4, 2e-4), "code 2");
    MUST_FAIL(ohm_compare_codes(wrong, ref, lsb, 4, 9), "got 2, reference 0");
    const double nan[4] = {NAN, NAN, NAN, NAN};
    MUST_FAIL(ohm_compare_codes(near, ref, nan, 4, 1), "code 0");
}

/* Standard normals by the polar method from a fixed 64-bit congruential generator. */
static void fill_normals(double *x, size_t n, double mean, double sd, uint64_t state)
{
    for (size_t i = 0; i < n;) {
        double u[2], r;
        for (int k = 0; k < 2; ++k) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            u[k] = 2 * ((double)(state >> 11) * 0x1p-53) - 1;
        }
        r = u[0] * u[0] + u[1] * u[1];
        if (r > 0 && r < 1)
            x[i++] = mean + sd * u[0] * sqrt(-2 * log(r) / r);
    }
}

enum { SAMPLES = 50000 };

static double *normals(double mean, double sd, uint64_t seed)
{
    double *x = malloc(SAMPLES * sizeof *x);
    ck_assert_ptr_nonnull(x);
    fill_normals(x, SAMPLES, mean, sd, seed);
    return x;
}

OHM_TEST(compare, ks_accepts_the_right_and_sees_the_wrong)
{
    double *x = normals(2, 3, 11);
    OHM_ASSERT(ohm_compare_normal(x, SAMPLES, 2, 3, OHM_ALPHA));
    MUST_FAIL(ohm_compare_normal(x, SAMPLES, 2.1, 3, OHM_ALPHA), "KS: D");
    MUST_FAIL(ohm_compare_normal(x, SAMPLES, 2, 3.2, OHM_ALPHA), "KS: D");
    MUST_FAIL(ohm_compare_normal(x, 0, 2, 3, OHM_ALPHA), "no samples");
    x[77] = NAN;
    MUST_FAIL(ohm_compare_normal(x, SAMPLES, 2, 3, OHM_ALPHA), "NaN");
    free(x);
}

OHM_TEST(compare, ks_distance_is_exact)
{
    const double mean_sd[2] = {0, 1}, one[1] = {0.5};
    ohm_verdict v = ohm_compare_ks(one, 1, ohm_cdf_normal, mean_sd, 0.5);
    ck_assert_double_eq_tol(v.statistic, 0.6914624612740131, 1e-12); /* Phi(0.5) */
    const float a[4] = {1, 2, 2, 3}, b[2] = {2, 4};
    ck_assert_double_eq_tol(ohm_compare_ks2(a, 4, b, 2, 0.5).statistic, 0.5, 1e-12);
    ck_assert_double_eq(ohm_compare_ks2(a, 4, a, 4, 0.5).statistic, 0);
}

OHM_TEST(compare, ks2_accepts_the_same_and_sees_a_shift)
{
    double *x = normals(0, 1, 1), *y = normals(0, 1, 2), *z = normals(0.08, 1, 3);
    OHM_ASSERT(ohm_compare_ks2(x, SAMPLES, y, SAMPLES / 2, OHM_ALPHA));
    MUST_FAIL(ohm_compare_ks2(x, SAMPLES, z, SAMPLES, OHM_ALPHA), "two-sample");
    z[0] = NAN;
    MUST_FAIL(ohm_compare_ks2(x, SAMPLES, z, SAMPLES, OHM_ALPHA), "NaN");
    free(x);
    free(y);
    free(z);
}

OHM_TEST(compare, moments_match_hand_computed)
{
    const float x[4] = {1, 2, 3, 6};
    ohm_moments m = ohm_moments_of(x, 4);
    ck_assert_double_eq_tol(m.mean, 3, 1e-12);
    ck_assert_double_eq_tol(m.variance, 14.0 / 3, 1e-12);
    ck_assert_double_eq_tol(m.skewness, 4.5 / pow(3.5, 1.5), 1e-12);
    ck_assert_double_eq_tol(m.kurtosis, 24.5 / 12.25, 1e-12);
    ck_assert_double_eq_tol(m.mean_se, sqrt(14.0 / 12), 1e-12);
}

OHM_TEST(compare, moments_see_small_errors)
{
    double *x = normals(1, 2, 5), *y = normals(1, 2, 6), *wide = normals(1, 2.12, 7);
    OHM_ASSERT(ohm_compare_normal_moments(x, SAMPLES, 1, 2, OHM_ALPHA));
    OHM_ASSERT(ohm_compare_moments(x, SAMPLES, 1, 4, 3, OHM_ALPHA));
    OHM_ASSERT(ohm_compare_moments2(x, SAMPLES, y, SAMPLES, OHM_ALPHA));
    MUST_FAIL(ohm_compare_moments(x, SAMPLES, 1.1, 4, 3, OHM_ALPHA), "mean");
    MUST_FAIL(ohm_compare_moments(wide, SAMPLES, 1, 4, 3, OHM_ALPHA), "variance");
    MUST_FAIL(ohm_compare_moments2(x, SAMPLES, wide, SAMPLES, OHM_ALPHA), "variance");
    for (size_t i = 0; i < SAMPLES; ++i)
        x[i] = (x[i] - 1) * (1 + 0.15 * (i % 2 ? 1.0 : -1.0)); /* same mean, heavier tails */
    MUST_FAIL(ohm_compare_normal_moments(x, SAMPLES, 0, 2 * sqrt(1.0225), OHM_ALPHA), "kurtosis");
    x[3] = NAN;
    MUST_FAIL(ohm_compare_moments(x, SAMPLES, 0, 4, 3, OHM_ALPHA), "mean");
    free(x);
    free(y);
    free(wide);
}

OHM_TEST(compare, guards_see_a_write_on_either_side)
{
    const size_t sizes[] = {0, 1, 31, 33, 257};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; ++s) {
        float *block = ohm_guard_f32(sizes[s]);
        for (size_t i = 0; i < sizes[s]; ++i) {
            ck_assert(isnan(block[i]));
            block[i] = 1;
        }
        OHM_ASSERT(ohm_compare_guards(block));
        block[sizes[s]] = 1;
        MUST_FAIL(ohm_compare_guards(block), "behind");
        ohm_guard_free(block);
        block = ohm_guard_f32(sizes[s]);
        block[-1] = 1;
        MUST_FAIL(ohm_compare_guards(block), "before");
        ohm_guard_free(block);
    }
    ohm_guard_free(NULL);
}
