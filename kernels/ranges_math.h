/* One scale, column or range at a time: what both versions of ranges.h do with it. */
#ifndef OHM_KERNELS_RANGES_MATH_H
#define OHM_KERNELS_RANGES_MATH_H

#include <math.h>

#include "kernels/ranges.h"

OHM_INLINE int ohm_range_is_finite(float most)
{
    return most <= 3.402823466e38f;
}

OHM_INLINE float ohm_scale_of(float full, int codes)
{
    return full > 0.0f ? full / (float)codes : 1.0f;
}

/* The full scale of x whose largest element and percentile are known; what is kept moves. */
OHM_INLINE float ohm_full_scale(float *kept, float *learned, const ohm_scale_rule *rule, float most,
                                float percentile)
{
    switch (rule->kind) {
    case OHM_SCALE_PERCENTILE:
        return percentile;
    case OHM_SCALE_RUNNING:
        if (rule->move == OHM_MOVE_ALWAYS || (rule->move == OHM_MOVE_FIRST && kept[1] == 0.0f)) {
            kept[0] = kept[1] == 0.0f ? most
                                      : (float)(rule->value * kept[0] + (1.0 - rule->value) * most);
            kept[1] += 1.0f;
        }
        return kept[0];
    case OHM_SCALE_LEARNED:
        if (!learned)
            return most;
        if ((rule->move == OHM_MOVE_ALWAYS || !(*learned > 0.0f)) && most > *learned)
            *learned = most;
        return *learned;
    case OHM_SCALE_NUMBER:
        return (float)rule->value;
    default:
        return most;
    }
}

/* b_q of column n; always-on cells of its codes [n][rows], and what is left to be added digitally. */
OHM_INLINE void ohm_place_bias(int8_t *codes, float *digital, int32_t *bias_codes,
                               const ohm_weight_job *job, int n)
{
    double unit = (double)job->x_scale[0] * job->w_scale[n], b = job->bias ? job->bias[n] : 0.0,
           scale = job->column_scale ? job->column_scale[n] : 1.0;
    double ask = scale != 0.0 && unit > 0.0 ? rint(b / scale / unit) : 0.0,
           limit = (double)OHM_BIAS_COARSE * job->codes;
    int32_t b_q = (int32_t)fmin(fmax(ask, -2147483647.0), 2147483647.0);
    digital[n] = (float)b;
    bias_codes[n] = b_q;
    if (job->rows == job->k)
        return;
    int coarse = (int)fmin(fmax(rint((double)b_q / job->codes), -limit), limit);
    int64_t fine = (int64_t)b_q - (int64_t)coarse * job->codes;
    fine = fine > job->codes ? job->codes : fine < -job->codes ? -job->codes : fine;
    int8_t *row = codes + (size_t)n * job->rows + job->k;
    for (int i = 0; i < OHM_BIAS_COARSE; i++)
        row[i] = (int8_t)((coarse * (i + 1)) / OHM_BIAS_COARSE - (coarse * i) / OHM_BIAS_COARSE);
    row[OHM_BIAS_COARSE] = (int8_t)fine;
    digital[n] = (float)((ask - (double)coarse * job->codes - (double)fine) * unit * scale);
}

/* Upper edge of the bin below which `percent` of the counted currents lie. */
OHM_INLINE float ohm_cut_range(float range, const uint32_t *histogram, int bins, double percent)
{
    double total = 0.0, below = 0.0;
    for (int i = 0; i < bins; i++)
        total += histogram[i];
    for (int i = 0; i < bins; i++) {
        below += histogram[i];
        if (below >= total * percent / 100.0)
            return (float)((double)range * (i + 1) / bins);
    }
    return range;
}

OHM_INLINE float ohm_lsb_of(float lsb, float batches, float range, const ohm_lsb_rule *rule)
{
    double full = range, old = (double)lsb * rule->codes;
    if (batches > 0.0f && rule->kind == OHM_LSB_RUNNING)
        full = rule->decay * old + (1.0 - rule->decay) * full;
    else if (batches > 0.0f && rule->kind == OHM_LSB_MEAN)
        full = old + (full - old) / (batches + 1.0);
    else if (batches > 0.0f && rule->kind == OHM_LSB_MOST)
        full = fmax(old, full);
    return full > 0.0 ? (float)(full / rule->codes) : 1.0f;
}

OHM_INLINE double ohm_x_scale(const ohm_scales *s, size_t row)
{
    return s->x_scale[s->x_scale_rows ? row : 0];
}

OHM_INLINE float ohm_rescaled(float sum, double x_scale, const ohm_scales *s, const float *bias,
                              size_t n)
{
    double scale = x_scale * s->w_scale[n] * (s->column_scale ? s->column_scale[n] : 1.0f);
    return (float)((double)sum * scale + bias[n]);
}

/* ---- mode full ---- */

/* The sum behind an output. */
OHM_INLINE float ohm_unscaled(float y, double x_scale, const ohm_scales *s, const float *bias,
                              size_t n)
{
    double scale = x_scale * s->w_scale[n] * (s->column_scale ? s->column_scale[n] : 1.0f);
    return (float)(((double)y - bias[n]) / scale);
}

enum { OHM_RANGE_BLOCK = 256 }; /* rows whose sums a device makes first */

/* Gradient of the corrected sum, from that of the output. */
OHM_INLINE float ohm_sum_gradient(float d, double x_scale, const ohm_scales *s, size_t n)
{
    return (float)(d * x_scale * s->w_scale[n] * (s->column_scale ? s->column_scale[n] : 1.0f));
}

/* Gradient of x from that of its code; *share is what the full scale's gradient loses by it:
 * x_q = x/s, s = range/codes: d x_q / d range = -x_q/range. */
OHM_INLINE float ohm_drive_gradient(double *share, float dcode, float x, float scale, int codes)
{
    const float full = scale * (float)codes, d = dcode / scale;
    if (!(fabsf(x) <= full))
        return 0.0f;
    *share = (double)d * x / full;
    return d;
}

OHM_INLINE float ohm_weight_gradient(float dcode, float w, float scale, int codes)
{
    return fabsf(w) <= scale * (float)codes ? dcode / scale : 0.0f;
}

#endif
