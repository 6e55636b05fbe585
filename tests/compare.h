/* Comparators that can fail. Each returns a verdict; OHM_ASSERT turns a bad one into a test failure
 * that names the worst place:
 *
 *     OHM_ASSERT(ohm_compare_close(got, ref, n, 1e-6, 1e-5));
 *
 * got, ref and x are float or double arrays, in any mix. NaN fails everywhere. A statistical verdict
 * states its false-alarm rate alpha; OHM_ALPHA is for tests that run on every commit. */
#ifndef OHM_TESTS_COMPARE_H
#define OHM_TESTS_COMPARE_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OHM_ALPHA 1e-6

typedef struct {
    bool pass;
    size_t worst;     /* index of the largest excess over the tolerance; 0 where there is none */
    size_t differing; /* codes: elements one code apart; bits: elements that differ */
    double statistic; /* close: largest |got-ref| over its tolerance; KS: D; moments: largest |z| */
    char text[320];   /* why it failed; empty after a pass */
} ohm_verdict;

#define OHM_ASSERT(verdict)                                                                        \
    do {                                                                                           \
        ohm_verdict ohm_verdict_ = (verdict);                                                      \
        ck_assert_msg(ohm_verdict_.pass, "%s: %s", #verdict, ohm_verdict_.text);                   \
    } while (0)

/* A read-only array of float or double. */
typedef struct {
    const void *at;
    bool is_float;
} ohm_reals;
#define OHM_REALS(p)                                                                               \
    ((ohm_reals){(p), _Generic((p), float *: true, const float *: true, double *: false,           \
                               const double *: false)})

/* |got - ref| <= atol + rtol |ref| everywhere; equal infinities agree. Fails if all of ref (n > 0)
 * is zero: such a reference proves nothing, use ohm_compare_zero to mean it. */
#define ohm_compare_close(got, ref, n, atol, rtol)                                                 \
    ohm_compare_close_any(OHM_REALS(got), OHM_REALS(ref), (n), (atol), (rtol))
ohm_verdict ohm_compare_close_any(ohm_reals got, ohm_reals ref, size_t n, double atol, double rtol);

/* Every element is +0 or -0. */
#define ohm_compare_zero(got, n) ohm_compare_zero_any(OHM_REALS(got), (n))
ohm_verdict ohm_compare_zero_any(ohm_reals got, size_t n);

/* n elements of the same type hold the same bytes. */
#define ohm_compare_bits(got, ref, n)                                                              \
    ohm_compare_bits_any((got), (ref), (n),                                                        \
                         sizeof *(got) + 0 * sizeof(*(got) == *(ref))) /* comparable types */
ohm_verdict ohm_compare_bits_any(const void *got, const void *ref, size_t n, size_t size);

/* Two quantisers' outputs. lsb holds the reference's analogue values before rounding, in LSB, as
 * doubles; a code of difference is allowed only where lsb lies within tolerance_lsb of the
 * threshold between the two codes (thresholds at half-integers, as rint has them). */
ohm_verdict ohm_compare_codes(const int32_t *got, const int32_t *ref, const double *lsb, size_t n,
                              double tolerance_lsb);

/* ---- distributions ------------------------------------------------------------------------- */

typedef double ohm_cdf(double x, const void *context);

/* CDF of a normal variable; context is double[2]: mean, sd > 0. */
double ohm_cdf_normal(double x, const void *context);

/* Kolmogorov-Smirnov against a continuous CDF. The bound P(D > d) <= 2 exp(-2 n d^2)
 * (Dvoretzky-Kiefer-Wolfowitz, Massart 1990) holds for every n. */
#define ohm_compare_ks(x, n, cdf, context, alpha)                                                  \
    ohm_compare_ks_any(OHM_REALS(x), (n), (cdf), (context), (alpha))
ohm_verdict ohm_compare_ks_any(ohm_reals x, size_t n, ohm_cdf *cdf, const void *context,
                               double alpha);

#define ohm_compare_normal(x, n, mean, sd, alpha)                                                  \
    ohm_compare_ks((x), (n), ohm_cdf_normal, ((const double[2]){(mean), (sd)}), (alpha))

/* Two-sample Kolmogorov-Smirnov: D > sqrt(ln(2/alpha)/2 (1/n + 1/m)) is refused, the tail of the
 * limiting distribution (n, m of hundreds or more). Ties are counted right. */
#define ohm_compare_ks2(x, n, y, m, alpha)                                                         \
    ohm_compare_ks2_any(OHM_REALS(x), (n), OHM_REALS(y), (m), (alpha))
ohm_verdict ohm_compare_ks2_any(ohm_reals x, size_t n, ohm_reals y, size_t m, double alpha);

/* Sample moments with standard errors estimated from the sample itself. */
typedef struct {
    double mean, variance, skewness, kurtosis; /* kurtosis 3 for a normal */
    double mean_se, variance_se;               /* from sample variance and fourth moment */
} ohm_moments;
#define ohm_moments_of(x, n) ohm_moments_of_any(OHM_REALS(x), (n))
ohm_moments ohm_moments_of_any(ohm_reals x, size_t n);

/* Mean and variance are the given ones. kurtosis is the population's (3 for a normal); it sets the
 * standard error of the variance, sqrt((kurtosis-1)/n) of it. Each of the two tests has alpha/2.
 * A shift of s in the mean is seen from n of about (2 z sd/s)^2, of share s in the deviation from
 * (kurtosis-1) (z/s)^2, z = 5 for OHM_ALPHA. */
#define ohm_compare_moments(x, n, mean, variance, kurtosis, alpha)                                 \
    ohm_compare_moments_any(OHM_REALS(x), (n), (mean), (variance), (kurtosis), (alpha))
ohm_verdict ohm_compare_moments_any(ohm_reals x, size_t n, double mean, double variance,
                                    double kurtosis, double alpha);

/* Mean, variance, skewness and kurtosis are a normal's; alpha/4 each. */
#define ohm_compare_normal_moments(x, n, mean, sd, alpha)                                          \
    ohm_compare_normal_moments_any(OHM_REALS(x), (n), (mean), (sd), (alpha))
ohm_verdict ohm_compare_normal_moments_any(ohm_reals x, size_t n, double mean, double sd,
                                           double alpha);

/* Two samples have the same mean and the same variance (standard errors from the samples). */
#define ohm_compare_moments2(x, n, y, m, alpha)                                                    \
    ohm_compare_moments2_any(OHM_REALS(x), (n), OHM_REALS(y), (m), (alpha))
ohm_verdict ohm_compare_moments2_any(ohm_reals x, size_t n, ohm_reals y, size_t m, double alpha);

/* ---- guard words --------------------------------------------------------------------------- */

/* n elements of size bytes, 64-byte aligned, with poison before, behind and inside (as float or
 * double the poison is a NaN, so an element nobody wrote fails a comparison). Release with
 * ohm_guard_free. Fails the test when memory runs out. */
void *ohm_guard_alloc(size_t n, size_t size);
static inline float *ohm_guard_f32(size_t n)
{
    return (float *)ohm_guard_alloc(n, sizeof(float));
}
/* The words before and behind are untouched. */
ohm_verdict ohm_compare_guards(const void *block);
void ohm_guard_free(void *block);

#endif
