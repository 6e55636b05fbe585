#include "kernels/activation.h"

#include "kernels/layers_cuda.h"
#include "kernels/loops_cuda.hpp"

/* ---- element by element -------------------------------------------------------------------- */

static __global__ void relu(float *y, const float *x, size_t n)
{
    OHM_EACH(i, n)
    {
        const float value = x[i];
        y[i] = value < 0.0f ? 0.0f : value;
    }
}

static __global__ void relu_backward(float *dx, const float *dy, const float *y, size_t n,
                                     int accumulate)
{
    OHM_EACH(i, n)
    {
        const float gradient = y[i] > 0.0f ? dy[i] : 0.0f;
        dx[i] = accumulate ? dx[i] + gradient : gradient;
    }
}

static __global__ void add(float *y, const float *a, const float *b, size_t n)
{
    OHM_EACH(i, n) y[i] = a[i] + b[i];
}

static __global__ void straight_through(float *y, const float *noisy, size_t n)
{
    OHM_EACH(i, n) y[i] += noisy[i] - y[i];
}

static __global__ void fill(float *y, float value, size_t n)
{
    OHM_EACH(i, n) y[i] = value;
}

static __global__ void scale_columns(float *y, const float *x, const float *scale, size_t n,
                                     size_t cols)
{
    OHM_EACH(i, n) y[i] = x[i] * scale[i % cols];
}

static __global__ void add_row(float *y, const float *row, size_t n, size_t cols)
{
    OHM_EACH(i, n) y[i] += row[i % cols];
}

extern "C" ohm_cuda_status ohm_relu_cuda(float *y, const float *x, size_t n, ohm_cuda_stream s)
{
    return OHM_LOOP(relu, n, s, y, x, n);
}

extern "C" ohm_cuda_status ohm_relu_backward_cuda(float *dx, const float *dy, const float *y,
                                                  size_t n, int accumulate, ohm_cuda_stream s)
{
    return OHM_LOOP(relu_backward, n, s, dx, dy, y, n, accumulate);
}

extern "C" ohm_cuda_status ohm_add_cuda(float *y, const float *a, const float *b, size_t n,
                                        ohm_cuda_stream s)
{
    return OHM_LOOP(add, n, s, y, a, b, n);
}

extern "C" ohm_cuda_status ohm_straight_through_cuda(float *y, const float *noisy, size_t n,
                                                     ohm_cuda_stream s)
{
    return OHM_LOOP(straight_through, n, s, y, noisy, n);
}

extern "C" ohm_cuda_status ohm_fill_cuda(float *y, float value, size_t n, ohm_cuda_stream s)
{
    return OHM_LOOP(fill, n, s, y, value, n);
}

extern "C" ohm_cuda_status ohm_scale_columns_cuda(float *y, const float *x, const float *scale,
                                                  size_t rows, size_t cols, ohm_cuda_stream s)
{
    return OHM_LOOP(scale_columns, rows * cols, s, y, x, scale, rows * cols, cols);
}

extern "C" ohm_cuda_status ohm_add_row_cuda(float *y, const float *row, size_t rows, size_t cols,
                                            ohm_cuda_stream s)
{
    return OHM_LOOP(add_row, rows * cols, s, y, row, rows * cols, cols);
}

/* ---- sums over rows ------------------------------------------------------------------------ */

static __global__ void sum_blocks(double *partial, const float *x, size_t rows, size_t cols)
{
    OHM_EACH(i, (rows + OHM_SUM_ROWS - 1) / OHM_SUM_ROWS * cols)
    {
        const size_t first = i / cols * OHM_SUM_ROWS, left = rows - first;
        const size_t some = left < OHM_SUM_ROWS ? left : OHM_SUM_ROWS;
        const float *at = x + first * cols + i % cols;
        double sum = 0.0;
        for (size_t row = 0; row < some; row++)
            sum += static_cast<double>(at[row * cols]);
        partial[i] = sum;
    }
}

static __global__ void add_sums(float *sum, const double *total, size_t n)
{
    OHM_EACH(i, n) sum[i] += static_cast<float>(total[i]);
}

extern "C" ohm_cuda_status ohm_sum_columns_cuda(float *sum, const float *x, size_t rows,
                                                size_t cols, double *partial, ohm_cuda_stream s)
{
    const size_t blocks = ohm_sum_blocks(rows);
    if (rows == 0)
        return OHM_CUDA_OK;
    OHM_CUDA_TRY(OHM_LOOP(sum_blocks, blocks * cols, s, partial, x, rows, cols));
    OHM_CUDA_TRY(ohm_combine(partial, blocks, cols, s));
    return OHM_LOOP(add_sums, cols, s, sum, partial, cols);
}

/* ---- learned scales and ranges ------------------------------------------------------------- */

static const unsigned TILE = 32;

/* A warp takes 32 rows: it fetches 32 columns of each, then every lane adds its own row's in order. */
static __global__ void scale_sums(float *dscale, const float *product, const float *w, size_t rows,
                                  size_t cols)
{
    OHM_SHARED(double, tile, [TILE][TILE + 1]);
    const size_t first = static_cast<size_t>(blockIdx.x) * TILE, row = first + threadIdx.x;
    double total = 0.0;
    for (size_t at = 0; at < cols; at += TILE) {
        const size_t column = at + threadIdx.x;
        for (size_t r = 0; r < TILE; r++)
            if (first + r < rows && column < cols) {
                const size_t i = (first + r) * cols + column;
                tile[r][threadIdx.x] = static_cast<double>(w[i]) * static_cast<double>(product[i]);
            }
        __syncthreads();
        if (row < rows)
            for (size_t c = 0; c < TILE && at + c < cols; c++)
                total += tile[threadIdx.x][c];
        __syncthreads();
    }
    if (row < rows)
        dscale[row] += static_cast<float>(total);
}

static __global__ void add_scaled(float *dw, const float *product, const float *scale, size_t n,
                                  size_t cols)
{
    OHM_EACH(i, n) dw[i] += scale[i / cols] * product[i];
}

extern "C" ohm_cuda_status ohm_scale_gradient_cuda(float *dscale, float *dw, const float *product,
                                                   const float *w, const float *scale, size_t rows,
                                                   size_t cols, ohm_cuda_stream s)
{
    const unsigned groups = static_cast<unsigned>((rows + TILE - 1) / TILE);
    OHM_CUDA_TRY(OHM_LAUNCH(scale_sums, groups, TILE, 0, s, dscale, product, w, rows, cols));
    return OHM_LOOP(add_scaled, rows * cols, s, dw, product, scale, rows * cols, cols);
}

/* The same for the clipped share of dx: rows of 256 elements. */
static __global__ void clipped_sums(double *partial, const float *dx, const float *x,
                                    const float *range, size_t n)
{
    OHM_SHARED(double, tile, [TILE][TILE + 1]);
    const size_t first = static_cast<size_t>(blockIdx.x) * TILE, row = first + threadIdx.x;
    const size_t rows = (n + OHM_SUM_ROWS - 1) / OHM_SUM_ROWS;
    const float limit = range[0];
    double total = 0.0;
    for (size_t at = 0; at < OHM_SUM_ROWS; at += TILE) {
        for (size_t r = 0; r < TILE; r++) {
            const size_t i = (first + r) * OHM_SUM_ROWS + at + threadIdx.x;
            double share = 0.0;
            if (i < n && fabsf(x[i]) > limit)
                share = x[i] > 0.0f ? static_cast<double>(dx[i]) : -static_cast<double>(dx[i]);
            tile[r][threadIdx.x] = share;
        }
        __syncthreads();
        for (size_t c = 0; c < TILE; c++)
            total += tile[threadIdx.x][c];
        __syncthreads();
    }
    if (row < rows)
        partial[row] = total;
}

extern "C" ohm_cuda_status ohm_range_gradient_cuda(float *sum, const float *dx, const float *x,
                                                   const float *range, size_t n, double *partial,
                                                   ohm_cuda_stream s)
{
    const size_t blocks = ohm_sum_blocks(n);
    const unsigned groups = static_cast<unsigned>((blocks + TILE - 1) / TILE);
    if (n == 0)
        return OHM_CUDA_OK;
    OHM_CUDA_TRY(OHM_LAUNCH(clipped_sums, groups, TILE, 0, s, partial, dx, x, range, n));
    OHM_CUDA_TRY(ohm_combine(partial, blocks, 1, s));
    return OHM_LOOP(add_sums, 1, s, sum, partial, static_cast<size_t>(1));
}
