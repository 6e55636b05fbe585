/* What happens to one cell where it takes more than a line: shared by the CPU's kernels, the reference
 * and the device. */
#ifndef OHM_KERNELS_PROGRAM_CELL_H
#define OHM_KERNELS_PROGRAM_CELL_H

#include <math.h>
#include <stddef.h>

#include "kernels/half_math.h"
#include "kernels/program.h"
#include "kernels/program_math.h"

/* Quantile of N(0,1): Acklam's rational start (relative error 1e-9 after one Halley step). */
OHM_INLINE double ohm_normal_quantile(double u)
{
    double t = sqrt(-2.0 * log(u < 0.5 ? u : 1.0 - u));
    double z = t - (2.515517 + 0.802853 * t + 0.010328 * t * t) /
                       (1.0 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t);
    if (u < 0.5)
        z = -z;
    for (int i = 0; i < 3; i++) { /* Hastings' start is good to 5e-4; Halley triples the digits */
        double error = (0.5 * erfc(-z * M_SQRT1_2) - u) * sqrt(2.0 * M_PI) * exp(0.5 * z * z);
        z -= error / (1.0 + 0.5 * z * error);
    }
    return z;
}

/* z of N(0,1) truncated to ±tolerance from an untruncated one, by inverse CDF. */
OHM_INLINE double ohm_truncate_normal(double z, double tolerance)
{
    if (tolerance <= 0.0)
        return 0.0;
    double low = 0.5 * erfc(tolerance * M_SQRT1_2), u = 0.5 * erfc(-z * M_SQRT1_2);
    double cut = ohm_normal_quantile(low + u * (1.0 - 2.0 * low));
    return fmin(fmax(cut, -tolerance), tolerance);
}

/* Share q of accumulated 1/f noise at relative conductance, and dq / d relative. */
OHM_INLINE void ohm_flicker_share(double *q, double *dq, int model, double relative)
{
    double x = relative > 1e-7 ? relative : 1e-7, l = ohm_log(x);
    *dq = 0.0;
    if (model == OHM_FLICKER_NANDAKUMAR) {
        double power = ohm_exp(0.65 * l);
        *q = 0.0088 / (power > 1e-3 ? power : 1e-3);
        if (*q > 0.2)
            *q = 0.2;
        else if (power > 1e-3)
            *dq = -0.65 * *q / x;
    } else if (relative < 0.16) {
        *q = -0.0117 * l - 0.0069;
        if (*q >= 0.015 && *q <= 0.04)
            *dq = -0.0117 / x;
        *q = *q < 0.015 ? 0.015 : *q > 0.04 ? 0.04 : *q;
    } else {
        *q = 0.0069 * x * x * x - 0.028 * x * x + 0.0211 * x + 0.0123;
        *dq = 3.0 * 0.0069 * x * x - 2.0 * 0.028 * x + 0.0211;
    }
}

/* Variance of a read at conductance g, level^2; slope may be NULL: d variance / d g. */
OHM_INLINE double ohm_read_variance(const ohm_read_law *law, double g, double *slope)
{
    double sigma = 0.0, d = 0.0, x = g / law->g_max;
    switch (law->model) {
    case OHM_SPREAD_CONSTANT:
        sigma = law->sigma;
        break;
    case OHM_SPREAD_PROPORTIONAL:
        sigma = law->sigma * g;
        d = law->sigma;
        break;
    case OHM_SPREAD_POLYNOMIAL:
        for (int i = law->count - 1; i >= 0; i--) {
            d = d * x + sigma;
            sigma = sigma * x + law->coefficient[i];
        }
        d /= law->g_max;
        if (sigma < 0.0)
            sigma = d = 0.0;
        break;
    case OHM_SPREAD_TABLE: {
        int i = 0;
        while (i < law->count && law->at[i] <= g)
            i++;
        if (i == 0)
            sigma = law->value[0];
        else if (i == law->count)
            sigma = law->value[law->count - 1];
        else {
            d = (law->value[i] - law->value[i - 1]) / (law->at[i] - law->at[i - 1]);
            sigma = law->value[i - 1] + d * (g - law->at[i - 1]);
        }
        break;
    }
    case OHM_SPREAD_PCM: /* sigma^2 = s^2·g_max·g: finite slope at g = 0 */
        if (slope)
            *slope = law->sigma * law->sigma * law->g_max;
        return law->sigma * law->sigma * law->g_max * fmax(g, 0.0);
    case OHM_SPREAD_LOGARITHMIC: /* sigma·log10(G in µS); none below 1 µS */
        if (g * law->g_step_us > 1.0) {
            sigma = law->sigma * log10(g * law->g_step_us);
            d = law->sigma / (g * M_LN10);
        }
        break;
    default:
        break;
    }
    if (slope)
        *slope = 2.0 * sigma * d;
    return sigma * sigma;
}

/* What the tiles hold of a difference of conductances, and of a read variance; scale: ohm_variance_scale. */
OHM_INLINE float ohm_held_conductance(const ohm_programming *p, double g)
{
    return p->halves ? ohm_half_round((float)g) : (float)g;
}
OHM_INLINE float ohm_held_variance(const ohm_programming *p, double variance, float scale)
{
    return p->halves ? ohm_half_round(scale * (float)variance) / scale : (float)variance;
}

/* Variance acts as sigma²(g)·(g_eff/g)²: its gradient by g_eff is added to dg, its own by g returned. */
OHM_INLINE double ohm_variance_chain(const ohm_read_law *read, double g, double g_eff, double dvariance,
                                     double *dg_eff)
{
    double slope, sigma2 = ohm_read_variance(read, g, &slope);
    if (dvariance == 0.0)
        return 0.0;
    if (g <= 0.0)
        return dvariance * slope;
    double share = g_eff / g;
    *dg_eff += dvariance * 2.0 * sigma2 * share / g;
    return dvariance * (slope * share * share - 2.0 * sigma2 * share * share / g);
}

#endif
