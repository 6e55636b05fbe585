#include "kernels/batchnorm.h"

#include "kernels/layers_cuda.h"
#include "kernels/loops_cuda.hpp"

/* partial [blocks][2][channels]: sums of a and of b over blocks of 256 rows; mean NULL: of x and x²,
 * else of dy and dy (x - mean). */
static __global__ void sum_pairs(double *partial, const float *dy, const float *x,
                                 const float *mean, size_t rows, size_t channels)
{
    OHM_EACH(i, (rows + OHM_SUM_ROWS - 1) / OHM_SUM_ROWS * channels)
    {
        const size_t block = i / channels, c = i % channels, first = block * OHM_SUM_ROWS;
        const size_t some = rows - first < OHM_SUM_ROWS ? rows - first : OHM_SUM_ROWS;
        double a = 0.0, b = 0.0;
        for (size_t row = first; row < first + some; row++) {
            const float value = x[row * channels + c];
            if (mean) {
                const double gradient = static_cast<double>(dy[row * channels + c]);
                a += gradient;
                b += gradient * static_cast<double>(value - mean[c]);
            } else {
                const double wide = static_cast<double>(value);
                a += wide;
                b += wide * wide;
            }
        }
        partial[2 * block * channels + c] = a;
        partial[(2 * block + 1) * channels + c] = b;
    }
}

static ohm_cuda_status sums(double *partial, const float *dy, const float *x, const float *mean,
                            size_t rows, size_t channels, ohm_cuda_stream s)
{
    const size_t blocks = ohm_sum_blocks(rows);
    OHM_CUDA_TRY(OHM_LOOP(sum_pairs, blocks * channels, s, partial, dy, x, mean, rows, channels));
    return ohm_combine(partial, blocks, 2 * channels, s);
}

/* Where the CPU keeps its floats per channel: behind the sums. */
static float *floats_of(double *workspace, size_t rows, size_t channels)
{
    return reinterpret_cast<float *>(workspace + 2 * ohm_sum_blocks(rows) * channels);
}

/* ---- forward ------------------------------------------------------------------------------- */

static __global__ void statistics(float *scale, float *saved, float *running_mean,
                                  float *running_variance, const double *sum, const float *gamma,
                                  size_t rows, size_t channels, double momentum, double epsilon)
{
    const double n = static_cast<double>(rows);
    OHM_EACH(c, channels)
    {
        const double mean = sum[c] / n;
        double variance = sum[channels + c] / n - mean * mean;
        variance = variance < 0.0 ? 0.0 : variance;
        const double unbiased = rows > 1 ? variance * n / static_cast<double>(rows - 1) : variance;
        const float inverse = static_cast<float>(1.0 / sqrt(variance + epsilon));
        saved[c] = static_cast<float>(mean);
        saved[channels + c] = inverse;
        scale[c] = gamma[c] * inverse;
        running_mean[c] = static_cast<float>(
            (1.0 - momentum) * static_cast<double>(running_mean[c]) + momentum * mean);
        running_variance[c] = static_cast<float>(
            (1.0 - momentum) * static_cast<double>(running_variance[c]) + momentum * unbiased);
    }
}

static __global__ void frozen_scale(float *scale, const float *gamma, const float *running_variance,
                                    size_t channels, double epsilon)
{
    OHM_EACH(c, channels)
    scale[c] = static_cast<float>(static_cast<double>(gamma[c]) /
                                  sqrt(static_cast<double>(running_variance[c]) + epsilon));
}

static __global__ void normalise(float *y, const float *x, const float *mean, const float *scale,
                                 const float *shift, size_t n, size_t channels)
{
    OHM_EACH(i, n)
    {
        const size_t c = i % channels;
        y[i] = (x[i] - mean[c]) * scale[c] + shift[c];
    }
}

extern "C" ohm_cuda_status ohm_batch_norm_train_cuda(float *y, float *saved, float *running_mean,
                                                     float *running_variance, const float *x,
                                                     const float *gamma, const float *beta,
                                                     size_t rows, size_t channels, double momentum,
                                                     double epsilon, double *workspace,
                                                     ohm_cuda_stream s)
{
    if (rows == 0)
        return OHM_CUDA_OK;
    float *scale = floats_of(workspace, rows, channels);
    OHM_CUDA_TRY(sums(workspace, nullptr, x, nullptr, rows, channels, s));
    OHM_CUDA_TRY(OHM_LOOP(statistics, channels, s, scale, saved, running_mean, running_variance,
                          workspace, gamma, rows, channels, momentum, epsilon));
    return OHM_LOOP(normalise, rows * channels, s, y, x, saved, scale, beta, rows * channels,
                    channels);
}

extern "C" ohm_cuda_status ohm_batch_norm_infer_cuda(float *y, const float *x, const float *gamma,
                                                     const float *beta, const float *running_mean,
                                                     const float *running_variance, size_t rows,
                                                     size_t channels, double epsilon,
                                                     double *workspace, ohm_cuda_stream s)
{
    float *scale = reinterpret_cast<float *>(workspace);
    OHM_CUDA_TRY(
        OHM_LOOP(frozen_scale, channels, s, scale, gamma, running_variance, channels, epsilon));
    return OHM_LOOP(normalise, rows * channels, s, y, x, running_mean, scale, beta, rows * channels,
                    channels);
}

/* ---- backward ------------------------------------------------------------------------------ */

static __global__ void factors(float *scale, float *dgamma, float *dbeta, const double *sum,
                               const float *saved, const float *gamma, size_t rows, size_t channels)
{
    OHM_EACH(c, channels)
    {
        const double total = sum[c], product = sum[channels + c];
        const float inverse = saved[channels + c];
        const double n = static_cast<double>(rows), wide = static_cast<double>(inverse);
        dbeta[c] += static_cast<float>(total);
        dgamma[c] += static_cast<float>(product * wide);
        scale[c] = gamma[c] * inverse;
        scale[channels + c] = static_cast<float>(total / n);
        scale[2 * channels + c] = static_cast<float>(product / n * wide * wide);
    }
}

static __global__ void apply(float *dx, const float *dy, const float *x, const float *mean,
                             const float *scale, size_t n, size_t channels, int accumulate)
{
    const float *shift = scale + channels, *slope = shift + channels;
    OHM_EACH(i, n)
    {
        const size_t c = i % channels;
        const float value = scale[c] * (dy[i] - shift[c] - (x[i] - mean[c]) * slope[c]);
        dx[i] = accumulate ? dx[i] + value : value;
    }
}

extern "C" ohm_cuda_status
ohm_batch_norm_backward_cuda(float *dx, float *dgamma, float *dbeta, const float *dy,
                             const float *x, const float *saved, const float *gamma, size_t rows,
                             size_t channels, int accumulate, double *workspace, ohm_cuda_stream s)
{
    if (rows == 0)
        return OHM_CUDA_OK;
    float *scale = floats_of(workspace, rows, channels);
    OHM_CUDA_TRY(sums(workspace, dy, x, saved, rows, channels, s));
    OHM_CUDA_TRY(OHM_LOOP(factors, channels, s, scale, dgamma, dbeta, workspace, saved, gamma, rows,
                          channels));
    return OHM_LOOP(apply, rows * channels, s, dx, dy, x, saved, scale, rows * channels, channels,
                    accumulate);
}
