/* The inner loops of mode full over one block of conversions, once per instruction set. */
#include <math.h>

#include "kernels/cpu.h"
#include "kernels/mvm_chain.h"

/* Values of fixed stride and count, so that the loop becomes vectors. With noise the variance is cells
 * (or nothing) + power + johnson; the draw scales the square root of it and the ADC's own. */
static inline void chain_row(float *restrict current, float *restrict variance,
                             const float *restrict dsums, const float *restrict z,
                             const float *restrict inverse, const float *restrict johnson,
                             float pre, float power, float weight, float adc_variance, float low,
                             float high, int columns, int noisy, int cells)
{
    for (int n = 0; n < columns; n++) {
        float value = (current[n] + pre) * inverse[n], d = weight * dsums[n], dvariance = 0.0f;
        if (noisy) {
            float v = power + johnson[n] + (cells ? variance[n] : 0.0f),
                  square = inverse[n] * inverse[n];
            float sigma = sqrtf(v * square + adc_variance);
            value += z[n] * sigma;
            /* d value / d variance = z·inverse²/(2 sigma), and a sum counts 1/inverse per LSB */
            dvariance = sigma > 0.0f ? d * z[n] * inverse[n] / (2.0f * sigma) : 0.0f;
        }
        int inside = value >= low && value <= high;
        current[n] = inside ? d : 0.0f;
        variance[n] = inside ? dvariance : 0.0f;
    }
}

void OHM_SIMD(ohm_chain_block)(const ohm_chain *c, int rows, int columns)
{
    for (int i = 0; i < rows; i++) {
        float *current = c->current + (size_t)i * c->ld,
              *variance = c->variance + (size_t)i * c->ld;
        const float *dsums = c->dsums + (size_t)i * c->ldd, *z = c->z + (size_t)i * c->ldz;
        if (!c->noisy)
            chain_row(current, variance, dsums, z, c->inverse, c->johnson, c->pre[i], 0.0f,
                      c->weight, 0.0f, c->low, c->high, columns, 0, 0);
        else if (!c->cells)
            chain_row(current, variance, dsums, z, c->inverse, c->johnson, c->pre[i], c->power[i],
                      c->weight, c->adc_variance, c->low, c->high, columns, 1, 0);
        else
            chain_row(current, variance, dsums, z, c->inverse, c->johnson, c->pre[i], c->power[i],
                      c->weight, c->adc_variance, c->low, c->high, columns, 1, 1);
    }
}
