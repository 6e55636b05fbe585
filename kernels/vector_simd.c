/* Element-wise loops have no order to keep; sums over rows keep that of the rows in each column. */
#include "kernels/vector.h"

#include <math.h>

#define EACH _Pragma("omp simd") for (size_t i = 0; i < n; i++)
#define EACH_COLUMN _Pragma("omp simd") for (size_t c = 0; c < cols; c++)

static void add(float *y, const float *a, const float *b, size_t n)
{
    EACH y[i] = a[i] + b[i];
}

static void relu(float *y, const float *x, size_t n)
{
    EACH y[i] = x[i] < 0.0f ? 0.0f : x[i];
}

static void relu_backward(float *dx, const float *dy, const float *y, size_t n, int accumulate)
{
    if (accumulate) {
        EACH dx[i] += y[i] > 0.0f ? dy[i] : 0.0f;
    } else {
        EACH dx[i] = y[i] > 0.0f ? dy[i] : 0.0f;
    }
}

static void scale_columns(float *y, const float *x, const float *scale, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++, y += cols, x += cols)
        EACH_COLUMN y[c] = x[c] * scale[c];
}

static void sum_columns(double *sum, const float *x, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++, x += cols)
        EACH_COLUMN sum[c] += (double)x[c];
}

static void moments(double *sum, double *square, const float *x, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++, x += cols)
        EACH_COLUMN
        {
            double value = (double)x[c];
            sum[c] += value;
            square[c] += value * value;
        }
}

static void normalise(float *y, const float *x, const float *mean, const float *scale,
                      const float *shift, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++, y += cols, x += cols)
        EACH_COLUMN y[c] = (x[c] - mean[c]) * scale[c] + shift[c];
}

static void normalise_sums(double *sum, double *product, const float *dy, const float *x,
                           const float *mean, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++, dy += cols, x += cols)
        EACH_COLUMN
        {
            sum[c] += (double)dy[c];
            product[c] += (double)dy[c] * (double)(x[c] - mean[c]);
        }
}

static void normalise_backward(float *dx, const float *dy, const float *x, const float *mean,
                               const float *scale, const float *shift, const float *slope,
                               size_t rows, size_t cols, int accumulate)
{
    for (size_t r = 0; r < rows; r++, dx += cols, dy += cols, x += cols)
        if (accumulate)
            EACH_COLUMN dx[c] += scale[c] * (dy[c] - shift[c] - (x[c] - mean[c]) * slope[c]);
        else
            EACH_COLUMN dx[c] = scale[c] * (dy[c] - shift[c] - (x[c] - mean[c]) * slope[c]);
}

/* Sixteen partial sums whatever the vector width, so that every instruction set adds alike. */
static double sum_squares(const float *x, size_t n)
{
    double lane[16] = {0.0}, sum = 0.0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++)
            lane[j] += (double)x[i + j] * (double)x[i + j];
    for (size_t j = 0; i < n; i++, j++)
        lane[j] += (double)x[i] * (double)x[i];
    for (size_t j = 0; j < 16; j++)
        sum += lane[j];
    return sum;
}

static void sgd(float *w, const float *g, float *m, size_t n, const ohm_optimiser_rule *rule)
{
    const float scale = rule->gradient_scale, l2 = rule->l2, momentum = rule->momentum,
                lr = rule->lr;
    if (!m) {
        EACH w[i] -= lr * (g[i] * scale + l2 * w[i]);
    } else if (rule->nesterov) {
        EACH
        {
            float gradient = g[i] * scale + l2 * w[i];
            m[i] = momentum * m[i] + gradient;
            w[i] -= lr * (gradient + momentum * m[i]);
        }
    } else {
        EACH
        {
            m[i] = momentum * m[i] + (g[i] * scale + l2 * w[i]);
            w[i] -= lr * m[i];
        }
    }
}

static void adam(float *w, const float *g, float *m, float *v, size_t n,
                 const ohm_optimiser_rule *rule)
{
    const float scale = rule->gradient_scale, l2 = rule->l2, epsilon = rule->epsilon;
    const float beta1 = rule->beta1, beta2 = rule->beta2, keep = 1.0f - rule->lr * rule->decoupled;
    const float rate = rule->lr / rule->correction1, root = sqrtf(rule->correction2);
    EACH
    {
        float gradient = g[i] * scale + l2 * w[i];
        m[i] = beta1 * m[i] + (1.0f - beta1) * gradient;
        v[i] = beta2 * v[i] + (1.0f - beta2) * gradient * gradient;
        w[i] = w[i] * keep - rate * m[i] / (sqrtf(v[i]) / root + epsilon);
    }
}

extern const ohm_vector_kernels OHM_SIMD(ohm_vector_kernels);
const ohm_vector_kernels OHM_SIMD(ohm_vector_kernels) = {
    .add = add,
    .relu = relu,
    .relu_backward = relu_backward,
    .scale_columns = scale_columns,
    .sum_columns = sum_columns,
    .moments = moments,
    .normalise = normalise,
    .normalise_sums = normalise_sums,
    .normalise_backward = normalise_backward,
    .sum_squares = sum_squares,
    .sgd = sgd,
    .adam = adam,
};
