#include "tests/compare.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double real_at(ohm_reals x, size_t i)
{
    return x.is_float ? (double)((const float *)x.at)[i] : ((const double *)x.at)[i];
}

__attribute__((format(printf, 2, 3))) static ohm_verdict refuse(ohm_verdict v, const char *format,
                                                                ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(v.text, sizeof v.text, format, args);
    va_end(args);
    v.pass = false;
    return v;
}

/* ---- element by element -------------------------------------------------------------------- */

/* |got - ref| in units of its tolerance; infinite where NaN or an infinity stands alone. */
static double excess(double got, double ref, double atol, double rtol)
{
    if (got == ref)
        return 0;
    double tolerance = atol + rtol * fabs(ref);
    double ratio = fabs(got - ref) / tolerance;
    return isfinite(got) && isfinite(ref) && tolerance > 0 ? ratio : INFINITY;
}

ohm_verdict ohm_compare_close_any(ohm_reals got, ohm_reals ref, size_t n, double atol, double rtol)
{
    ohm_verdict v = {.pass = true};
    size_t bad = 0;
    bool informative = n == 0;
    for (size_t i = 0; i < n; ++i) {
        double r = real_at(ref, i);
        double e = excess(real_at(got, i), r, atol, rtol);
        informative = informative || r != 0;
        bad += e > 1;
        if (e > v.statistic) {
            v.statistic = e;
            v.worst = i;
        }
    }
    if (!informative)
        return refuse(v, "the reference is all zero and proves nothing (n = %zu)", n);
    if (bad)
        return refuse(v,
                      "%zu of %zu differ; worst at %zu: got %.9g, reference %.9g, %.3g times "
                      "the tolerance",
                      bad, n, v.worst, real_at(got, v.worst), real_at(ref, v.worst), v.statistic);
    return v;
}

ohm_verdict ohm_compare_zero_any(ohm_reals got, size_t n)
{
    ohm_verdict v = {.pass = true};
    for (size_t i = 0; i < n; ++i)
        if (!(real_at(got, i) == 0)) {
            v.worst = i;
            return refuse(v, "element %zu of %zu is %.9g, not zero", i, n, real_at(got, i));
        }
    return v;
}

static void hex_of(char *out, size_t cap, const unsigned char *bytes, size_t size)
{
    size_t used = 0;
    out[0] = 0;
    for (size_t i = size; i-- > 0 && used + 3 < cap;) /* little-endian: high byte first */
        used += (size_t)snprintf(out + used, cap - used, "%02x", bytes[i]);
}

ohm_verdict ohm_compare_bits_any(const void *got, const void *ref, size_t n, size_t size)
{
    ohm_verdict v = {.pass = true};
    const unsigned char *a = got, *b = ref;
    for (size_t i = 0; i < n; ++i)
        if (memcmp(a + i * size, b + i * size, size) != 0 && v.differing++ == 0)
            v.worst = i;
    if (v.differing) {
        char x[40], y[40];
        hex_of(x, sizeof x, a + v.worst * size, size);
        hex_of(y, sizeof y, b + v.worst * size, size);
        return refuse(v, "%zu of %zu differ in bits; first at %zu: got 0x%s, reference 0x%s",
                      v.differing, n, v.worst, x, y);
    }
    return v;
}

ohm_verdict ohm_compare_codes(const int32_t *got, const int32_t *ref, const double *lsb, size_t n,
                              double tolerance_lsb)
{
    ohm_verdict v = {.pass = true};
    for (size_t i = 0; i < n; ++i) {
        if (got[i] == ref[i])
            continue;
        int64_t apart = (int64_t)got[i] - ref[i];
        double threshold = 0.5 * ((double)got[i] + (double)ref[i]);
        v.worst = i;
        if (apart != 1 && apart != -1)
            return refuse(v, "code %zu of %zu: got %d, reference %d", i, n, got[i], ref[i]);
        if (!(fabs(lsb[i] - threshold) <= tolerance_lsb))
            return refuse(v,
                          "code %zu of %zu: got %d, reference %d, but %.9g LSB is %.3g from "
                          "the threshold %.1f (allowed %.3g)",
                          i, n, got[i], ref[i], lsb[i], fabs(lsb[i] - threshold), threshold,
                          tolerance_lsb);
        v.differing++;
    }
    return v;
}

/* ---- Kolmogorov-Smirnov -------------------------------------------------------------------- */

double ohm_cdf_normal(double x, const void *context)
{
    const double *mean_sd = context;
    return 0.5 * erfc((mean_sd[0] - x) / (mean_sd[1] * M_SQRT2));
}

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* A sorted copy, or NULL if x holds a NaN; the caller frees it. */
static double *sorted(ohm_reals x, size_t n)
{
    double *copy = malloc(n * sizeof *copy);
    ck_assert_msg(copy != NULL, "out of memory");
    for (size_t i = 0; i < n; ++i)
        if (isnan(copy[i] = real_at(x, i))) {
            free(copy);
            return NULL;
        }
    qsort(copy, n, sizeof *copy, ascending);
    return copy;
}

ohm_verdict ohm_compare_ks_any(ohm_reals x, size_t n, ohm_cdf *cdf, const void *context,
                               double alpha)
{
    ohm_verdict v = {.pass = true};
    if (n == 0)
        return refuse(v, "KS: no samples");
    double *s = sorted(x, n);
    if (!s)
        return refuse(v, "KS: the sample holds a NaN");
    double worst_at = 0;
    for (size_t i = 0; i < n; ++i) {
        double p = cdf(s[i], context);
        double d = fmax(p - (double)i / (double)n, (double)(i + 1) / (double)n - p);
        if (!(d <= v.statistic)) { /* a NaN from the CDF is taken too, and then refused */
            v.statistic = d;
            worst_at = s[i];
        }
    }
    free(s);
    double limit = sqrt(log(2 / alpha) / (2 * (double)n));
    if (!(v.statistic <= limit))
        return refuse(v, "KS: D = %.5f at x = %.6g exceeds %.5f (n = %zu, alpha = %g)", v.statistic,
                      worst_at, limit, n, alpha);
    return v;
}

static double ks2_distance(const double *a, size_t n, const double *b, size_t m)
{
    double d = 0;
    for (size_t i = 0, j = 0; i < n && j < m;) {
        double at = fmin(a[i], b[j]);
        while (i < n && a[i] == at)
            ++i;
        while (j < m && b[j] == at)
            ++j;
        d = fmax(d, fabs((double)i / (double)n - (double)j / (double)m));
    }
    return d;
}

ohm_verdict ohm_compare_ks2_any(ohm_reals x, size_t n, ohm_reals y, size_t m, double alpha)
{
    ohm_verdict v = {.pass = true};
    if (n == 0 || m == 0)
        return refuse(v, "two-sample KS: no samples");
    double *a = sorted(x, n), *b = sorted(y, m);
    bool whole = a && b;
    if (whole)
        v.statistic = ks2_distance(a, n, b, m);
    free(a);
    free(b);
    if (!whole)
        return refuse(v, "two-sample KS: a sample holds a NaN");
    double limit = sqrt(log(2 / alpha) / 2 * (1 / (double)n + 1 / (double)m));
    if (v.statistic > limit)
        return refuse(v, "two-sample KS: D = %.5f exceeds %.5f (n = %zu, m = %zu, alpha = %g)",
                      v.statistic, limit, n, m, alpha);
    return v;
}

/* ---- moments ------------------------------------------------------------------------------- */

ohm_moments ohm_moments_of_any(ohm_reals x, size_t n)
{
    ohm_moments out = {0};
    double count = (double)n, m2 = 0, m3 = 0, m4 = 0;
    for (size_t i = 0; i < n; ++i)
        out.mean += real_at(x, i) / count;
    for (size_t i = 0; i < n; ++i) {
        double d = real_at(x, i) - out.mean;
        m2 += d * d / count;
        m3 += d * d * d / count;
        m4 += d * d * d * d / count;
    }
    out.variance = m2 * count / (count - 1);
    out.skewness = m3 / pow(m2, 1.5);
    out.kurtosis = m4 / (m2 * m2);
    out.mean_se = sqrt(out.variance / count);
    out.variance_se = out.variance * sqrt((out.kurtosis - 1) / count);
    return out;
}

/* z with P(|Z| > z) = alpha for a standard normal Z, by bisection. */
static double two_sided_z(double alpha)
{
    double low = 0, high = 40;
    for (int i = 0; i < 100; ++i) {
        double middle = 0.5 * (low + high);
        if (erfc(middle / M_SQRT2) > alpha)
            low = middle;
        else
            high = middle;
    }
    return high;
}

typedef struct {
    const char *what;
    double got, expected, se;
} moment_check;

static ohm_verdict judge_moments(const moment_check *checks, int count, double alpha)
{
    ohm_verdict v = {.pass = true};
    double limit = two_sided_z(alpha / count);
    for (int i = 0; i < count; ++i) {
        double z = fabs(checks[i].got - checks[i].expected) / checks[i].se;
        if (!(z <= limit))
            return refuse(v,
                          "%s is %.7g, expected %.7g +- %.2g: z = %.2f exceeds %.2f "
                          "(alpha = %g)",
                          checks[i].what, checks[i].got, checks[i].expected, checks[i].se, z, limit,
                          alpha);
        v.statistic = fmax(v.statistic, z);
    }
    return v;
}

ohm_verdict ohm_compare_moments_any(ohm_reals x, size_t n, double mean, double variance,
                                    double kurtosis, double alpha)
{
    if (n < 2)
        return refuse((ohm_verdict){0}, "moments of fewer than two samples");
    ohm_moments got = ohm_moments_of_any(x, n);
    const moment_check checks[] = {
        {"mean", got.mean, mean, sqrt(variance / (double)n)},
        {"variance", got.variance, variance, variance * sqrt((kurtosis - 1) / (double)n)},
    };
    return judge_moments(checks, 2, alpha);
}

ohm_verdict ohm_compare_normal_moments_any(ohm_reals x, size_t n, double mean, double sd,
                                           double alpha)
{
    if (n < 2)
        return refuse((ohm_verdict){0}, "moments of fewer than two samples");
    ohm_moments got = ohm_moments_of_any(x, n);
    double variance = sd * sd, count = (double)n;
    const moment_check checks[] = {
        {"mean", got.mean, mean, sd / sqrt(count)},
        {"variance", got.variance, variance, variance * sqrt(2 / count)},
        {"skewness", got.skewness, 0, sqrt(6 / count)},
        {"kurtosis", got.kurtosis, 3, sqrt(24 / count)},
    };
    return judge_moments(checks, 4, alpha);
}

ohm_verdict ohm_compare_moments2_any(ohm_reals x, size_t n, ohm_reals y, size_t m, double alpha)
{
    if (n < 2 || m < 2)
        return refuse((ohm_verdict){0}, "moments of fewer than two samples");
    ohm_moments a = ohm_moments_of_any(x, n), b = ohm_moments_of_any(y, m);
    const moment_check checks[] = {
        {"mean of the first sample", a.mean, b.mean, hypot(a.mean_se, b.mean_se)},
        {"variance of the first sample", a.variance, b.variance,
         hypot(a.variance_se, b.variance_se)},
    };
    return judge_moments(checks, 2, alpha);
}

/* ---- guard words --------------------------------------------------------------------------- */

enum { GUARD_BYTES = 256 };
/* Four bytes repeated: a quiet NaN as float, and as double. */
static const unsigned char poison[4] = {0xad, 0xde, 0xfc, 0x7f};

typedef struct {
    size_t bytes; /* of the block between the guards */
} guard_header;

static unsigned char *guard_start(const void *block)
{
    return (unsigned char *)(uintptr_t)block - GUARD_BYTES;
}

void *ohm_guard_alloc(size_t n, size_t size)
{
    guard_header header = {n * size};
    size_t total = (header.bytes + 2 * GUARD_BYTES + 63) / 64 * 64;
    unsigned char *start = aligned_alloc(64, total);
    ck_assert_msg(start != NULL, "out of memory");
    for (size_t i = 0; i < total; ++i)
        start[i] = poison[i % sizeof poison];
    memcpy(start, &header, sizeof header);
    return start + GUARD_BYTES;
}

ohm_verdict ohm_compare_guards(const void *block)
{
    ohm_verdict v = {.pass = true};
    guard_header header;
    const unsigned char *start = guard_start(block);
    memcpy(&header, start, sizeof header);
    for (size_t i = sizeof header; i < GUARD_BYTES; ++i)
        if (start[i] != poison[i % sizeof poison])
            return refuse(v, "a byte %zu before the block was overwritten", GUARD_BYTES - i);
    size_t behind = GUARD_BYTES + header.bytes;
    for (size_t i = behind; i < behind + GUARD_BYTES; ++i)
        if (start[i] != poison[i % sizeof poison])
            return refuse(v, "byte %zu behind the block's %zu was overwritten", i - behind,
                          header.bytes);
    return v;
}

void ohm_guard_free(void *block)
{
    if (block)
        free(guard_start(block));
}
