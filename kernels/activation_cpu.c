#include "kernels/activation.h"

#include <math.h>
#include <string.h>

#include "kernels/vector.h"

enum { BLOCK = 1 << 14, ROWS = 256 };

static size_t part(size_t n, size_t at, size_t block)
{
    return n - at < block ? n - at : block;
}

void ohm_relu_cpu(float *y, const float *x, size_t n)
{
    const ohm_vector_kernels *vector = ohm_vector();
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t at = 0; at < n; at += BLOCK)
        vector->relu(y + at, x + at, part(n, at, BLOCK));
}

void ohm_relu_backward_cpu(float *dx, const float *dy, const float *y, size_t n, int accumulate)
{
    const ohm_vector_kernels *vector = ohm_vector();
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t at = 0; at < n; at += BLOCK)
        vector->relu_backward(dx + at, dy + at, y + at, part(n, at, BLOCK), accumulate);
}

void ohm_add_cpu(float *y, const float *a, const float *b, size_t n)
{
    const ohm_vector_kernels *vector = ohm_vector();
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t at = 0; at < n; at += BLOCK)
        vector->add(y + at, a + at, b + at, part(n, at, BLOCK));
}

void ohm_straight_through_cpu(float *y, const float *noisy, size_t n)
{
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t i = 0; i < n; i++)
        y[i] += noisy[i] - y[i];
}

void ohm_copy_cpu(float *y, const float *x, size_t n)
{
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t at = 0; at < n; at += BLOCK)
        memcpy(y + at, x + at, part(n, at, BLOCK) * sizeof *y);
}

void ohm_fill_cpu(float *y, float value, size_t n)
{
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t i = 0; i < n; i++)
        y[i] = value;
}

void ohm_scale_columns_cpu(float *y, const float *x, const float *scale, size_t rows, size_t cols)
{
    const ohm_vector_kernels *vector = ohm_vector();
#pragma omp parallel for schedule(static) if (rows > ROWS)
    for (size_t row = 0; row < rows; row += ROWS)
        vector->scale_columns(y + row * cols, x + row * cols, scale, part(rows, row, ROWS), cols);
}

void ohm_add_row_cpu(float *y, const float *row, size_t rows, size_t cols)
{
    const ohm_vector_kernels *vector = ohm_vector();
#pragma omp parallel for schedule(static) if (rows > ROWS)
    for (size_t r = 0; r < rows; r++)
        vector->add(y + r * cols, y + r * cols, row, cols);
}

size_t ohm_column_partials(size_t rows, size_t cols)
{
    return (rows + ROWS - 1) / ROWS * cols;
}

void ohm_sum_columns_cpu(float *sum, const float *x, size_t rows, size_t cols, double *partial)
{
    const ohm_vector_kernels *vector = ohm_vector();
    size_t blocks = (rows + ROWS - 1) / ROWS;
#pragma omp parallel for schedule(static) if (blocks > 1)
    for (size_t block = 0; block < blocks; block++) {
        memset(partial + block * cols, 0, cols * sizeof *partial);
        vector->sum_columns(partial + block * cols, x + block * ROWS * cols,
                            part(rows, block * ROWS, ROWS), cols);
    }
    for (size_t c = 0; c < cols; c++) {
        double total = 0.0;
        for (size_t block = 0; block < blocks; block++)
            total += partial[block * cols + c];
        sum[c] += (float)total;
    }
}

void ohm_scale_gradient_cpu(float *dscale, float *dw, const float *product, const float *w,
                            const float *scale, size_t rows, size_t cols)
{
#pragma omp parallel for schedule(static) if (rows * cols > BLOCK)
    for (size_t r = 0; r < rows; r++) {
        double total = 0.0;
        for (size_t i = r * cols; i < (r + 1) * cols; i++) {
            total += (double)w[i] * (double)product[i];
            dw[i] += scale[r] * product[i];
        }
        dscale[r] += (float)total;
    }
}

void ohm_range_gradient_cpu(float *sum, const float *dx, const float *x, float range, size_t n,
                            double *partial)
{
    size_t blocks = (n + ROWS - 1) / ROWS;
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t block = 0; block < blocks; block++) {
        double total = 0.0;
        for (size_t i = block * ROWS; i < block * ROWS + part(n, block * ROWS, ROWS); i++)
            total += fabsf(x[i]) > range ? (x[i] > 0.0f ? (double)dx[i] : -(double)dx[i]) : 0.0;
        partial[block] = total;
    }
    double total = 0.0;
    for (size_t block = 0; block < blocks; block++)
        total += partial[block];
    sum[0] += (float)total;
}
