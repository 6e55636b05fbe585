#include "kernels/batchnorm.h"

#include <math.h>
#include <string.h>

#include "kernels/vector.h"

enum { ROWS = 256 };

static size_t blocks_of(size_t rows)
{
    return (rows + ROWS - 1) / ROWS;
}

static size_t part(size_t rows, size_t block)
{
    return rows - block * ROWS < ROWS ? rows - block * ROWS : ROWS;
}

/* Two sums per block and channel, and two floats per channel for a scale and the like. */
size_t ohm_batch_norm_doubles(size_t rows, size_t channels)
{
    return 2 * (blocks_of(rows) + 1) * channels;
}

/* Adds the blocks' sums in order into the first block's. */
static void combine(double *partial, size_t blocks, size_t width)
{
    for (size_t block = 1; block < blocks; block++)
        for (size_t c = 0; c < width; c++)
            partial[c] += partial[block * width + c];
}

static void sum_moments(double *partial, const float *x, size_t rows, size_t channels)
{
    const ohm_vector_kernels *vector = ohm_vector();
    size_t blocks = blocks_of(rows);
#pragma omp parallel for schedule(static) if (blocks > 1)
    for (size_t block = 0; block < blocks; block++) {
        double *sum = partial + 2 * block * channels;
        memset(sum, 0, 2 * channels * sizeof *sum);
        vector->moments(sum, sum + channels, x + block * ROWS * channels, part(rows, block),
                        channels);
    }
    combine(partial, blocks, 2 * channels);
}

static void apply(float *y, const float *x, const float *mean, const float *scale,
                  const float *shift, size_t rows, size_t channels)
{
    const ohm_vector_kernels *vector = ohm_vector();
#pragma omp parallel for schedule(static) if (rows > ROWS)
    for (size_t block = 0; block < blocks_of(rows); block++)
        vector->normalise(y + block * ROWS * channels, x + block * ROWS * channels, mean, scale,
                          shift, part(rows, block), channels);
}

void ohm_batch_norm_train_cpu(float *y, float *saved, float *running_mean, float *running_variance,
                              const float *x, const float *gamma, const float *beta, size_t rows,
                              size_t channels, double momentum, double epsilon, double *workspace)
{
    if (rows == 0)
        return;
    float *scale = (float *)(workspace + 2 * blocks_of(rows) * channels),
          *inverse = saved + channels;
    sum_moments(workspace, x, rows, channels);
    for (size_t c = 0; c < channels; c++) {
        double mean = workspace[c] / (double)rows;
        double variance = workspace[channels + c] / (double)rows - mean * mean;
        variance = variance < 0.0 ? 0.0 : variance; /* rounding of a constant channel; NaN stays */
        double unbiased = rows > 1 ? variance * (double)rows / (double)(rows - 1) : variance;
        saved[c] = (float)mean;
        inverse[c] = (float)(1.0 / sqrt(variance + epsilon));
        scale[c] = gamma[c] * inverse[c];
        running_mean[c] = (float)((1.0 - momentum) * running_mean[c] + momentum * mean);
        running_variance[c] = (float)((1.0 - momentum) * running_variance[c] + momentum * unbiased);
    }
    apply(y, x, saved, scale, beta, rows, channels);
}

void ohm_batch_norm_infer_cpu(float *y, const float *x, const float *gamma, const float *beta,
                              const float *running_mean, const float *running_variance, size_t rows,
                              size_t channels, double epsilon, double *workspace)
{
    float *scale = (float *)workspace;
    for (size_t c = 0; c < channels; c++)
        scale[c] = (float)(gamma[c] / sqrt((double)running_variance[c] + epsilon));
    apply(y, x, running_mean, scale, beta, rows, channels);
}

static void sum_gradients(double *partial, const float *dy, const float *x, const float *mean,
                          size_t rows, size_t channels)
{
    const ohm_vector_kernels *vector = ohm_vector();
    size_t blocks = blocks_of(rows);
#pragma omp parallel for schedule(static) if (blocks > 1)
    for (size_t block = 0; block < blocks; block++) {
        double *sum = partial + 2 * block * channels;
        size_t at = block * ROWS * channels;
        memset(sum, 0, 2 * channels * sizeof *sum);
        vector->normalise_sums(sum, sum + channels, dy + at, x + at, mean, part(rows, block),
                               channels);
    }
    combine(partial, blocks, 2 * channels);
}

void ohm_batch_norm_backward_cpu(float *dx, float *dgamma, float *dbeta, const float *dy,
                                 const float *x, const float *saved, const float *gamma,
                                 size_t rows, size_t channels, int accumulate, double *workspace)
{
    if (rows == 0)
        return;
    const ohm_vector_kernels *vector = ohm_vector();
    const float *mean = saved, *inverse = saved + channels;
    sum_gradients(workspace, dy, x, mean, rows, channels);
    /* dx = gamma inverse (dy - mean(dy) - (x - mean) inverse² mean(dy (x - mean))) */
    float *scale = (float *)(workspace + 2 * blocks_of(rows) * channels);
    float *shift = scale + channels, *slope = shift + channels;
    for (size_t c = 0; c < channels; c++) {
        double sum = workspace[c], product = workspace[channels + c];
        dbeta[c] += (float)sum;
        dgamma[c] += (float)(product * inverse[c]);
        scale[c] = gamma[c] * inverse[c];
        shift[c] = (float)(sum / (double)rows);
        slope[c] = (float)(product / (double)rows * inverse[c] * inverse[c]);
    }
#pragma omp parallel for schedule(static) if (rows > ROWS)
    for (size_t block = 0; block < blocks_of(rows); block++) {
        size_t at = block * ROWS * channels;
        vector->normalise_backward(dx + at, dy + at, x + at, mean, scale, shift, slope,
                                   part(rows, block), channels, accumulate);
    }
}
