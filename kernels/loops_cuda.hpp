/* What the element-wise kernels and reductions of layers share; for *_cuda.cu files alone.
 *
 * Reductions give the CPU's bits: one thread adds a block of 256 rows in order, the blocks' sums are
 * added in order. Which numbers meet in a sum follows from the shape alone, never from the grid. */
#ifndef OHM_KERNELS_LOOPS_CUDA_HPP
#define OHM_KERNELS_LOOPS_CUDA_HPP

#include "kernels/platform_cuda.h"

static const unsigned OHM_LOOP_THREADS = 256;
/* More than any device runs at once: the loop takes the rest. */
static const unsigned OHM_LOOP_BLOCKS = 1 << 16;
static const unsigned OHM_SUM_ROWS = 256, OHM_COMBINE_COLUMNS = 16, OHM_COMBINE_ROWS = 128;

static inline unsigned ohm_loop_grid(size_t n)
{
    const size_t blocks = (n + OHM_LOOP_THREADS - 1) / OHM_LOOP_THREADS;
    return blocks < OHM_LOOP_BLOCKS ? static_cast<unsigned>(blocks) : OHM_LOOP_BLOCKS;
}

/* Launches kernel over n items; the kernel's loop is OHM_EACH(i, n). */
#define OHM_LOOP(kernel, n, s, ...)                                                                \
    OHM_LAUNCH(kernel, ohm_loop_grid(n), OHM_LOOP_THREADS, 0, s, __VA_ARGS__)
#define OHM_EACH(i, n)                                                                             \
    for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < (n);           \
         i += static_cast<size_t>(gridDim.x) * blockDim.x)

static inline size_t ohm_sum_blocks(size_t rows)
{
    return (rows + OHM_SUM_ROWS - 1) / OHM_SUM_ROWS;
}

/* partial[0][c] += partial[1][c] + partial[2][c] + ..., in that order; partial [blocks][width]. A
 * thread block owns 16 columns: all of it fetches 128 rows, one thread per column adds them. */
static __global__ void ohm_combine_kernel(double *partial, size_t blocks, size_t width)
{
    OHM_SHARED(double, tile, [OHM_COMBINE_ROWS][OHM_COMBINE_COLUMNS]);
    const size_t column = static_cast<size_t>(blockIdx.x) * OHM_COMBINE_COLUMNS + threadIdx.x;
    double total = 0.0;
    for (size_t first = 0; first < blocks; first += OHM_COMBINE_ROWS) {
        for (size_t row = threadIdx.y; row < OHM_COMBINE_ROWS; row += blockDim.y)
            if (first + row < blocks && column < width)
                tile[row][threadIdx.x] = partial[(first + row) * width + column];
        __syncthreads();
        if (threadIdx.y == 0 && column < width)
            for (size_t row = 0; row < OHM_COMBINE_ROWS && first + row < blocks; row++)
                total = first + row ? total + tile[row][threadIdx.x] : tile[row][threadIdx.x];
        __syncthreads();
    }
    if (threadIdx.y == 0 && column < width)
        partial[column] = total;
}

static inline ohm_cuda_status ohm_combine(double *partial, size_t blocks, size_t width,
                                          ohm_cuda_stream s)
{
    if (blocks < 2)
        return OHM_CUDA_OK;
    const size_t groups = (width + OHM_COMBINE_COLUMNS - 1) / OHM_COMBINE_COLUMNS;
    return OHM_LAUNCH(ohm_combine_kernel, static_cast<unsigned>(groups),
                      dim3(OHM_COMBINE_COLUMNS, 16), 0, s, partial, blocks, width);
}

/* Does the next call only if those before went well. */
#define OHM_CUDA_TRY(call)                                                                         \
    do {                                                                                           \
        const ohm_cuda_status ohm_status_ = (call);                                                \
        if (ohm_status_ != OHM_CUDA_OK)                                                            \
            return ohm_status_;                                                                    \
    } while (0)

#endif
