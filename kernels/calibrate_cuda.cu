/* Reads of calibration are of few rows: these kernels are short, and their launches what they cost. */
#include "kernels/calibrate_cuda.h"

#include "kernels/platform_cuda.h"

enum { THREADS = 256, COLUMNS = 128, INPUTS = 64 };

/* A thread makes the four codes of a block of words. */
static __global__ void codes_of_words(uint8_t *codes, size_t count, int drive, int most,
                                      ohm_stream stream)
{
    const size_t block = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x, i = 4 * block;
    const uint4 w = ohm_stream_block_cuda(stream, block);
    if (i < count)
        codes[i] = ohm_calibration_code(w.x, drive, most);
    if (i + 1 < count)
        codes[i + 1] = ohm_calibration_code(w.y, drive, most);
    if (i + 2 < count)
        codes[i + 2] = ohm_calibration_code(w.z, drive, most);
    if (i + 3 < count)
        codes[i + 3] = ohm_calibration_code(w.w, drive, most);
}

extern "C" ohm_cuda_status ohm_calibration_codes_cuda(uint8_t *codes, size_t count, int drive,
                                                      int bits, const ohm_stream *stream,
                                                      ohm_cuda_stream s)
{
    const size_t each = 4 * THREADS;
    return OHM_LAUNCH(codes_of_words, static_cast<unsigned>((count + each - 1) / each), THREADS, 0,
                      s, codes, count, drive, (1 << (bits - 1)) - 1, *stream);
}

static __device__ __forceinline__ float ratio(double fresh, double now)
{
    return now > 0.0 ? static_cast<float>(fresh / now) : 1.0f;
}

/* One block where all columns share a ratio. */
static __global__ void alpha_of_reads(float *alpha, const double *fresh, const double *now,
                                      int rows, int n, int per_column)
{
    OHM_SHARED(double, sum, [2][THREADS]);
    const int tid = static_cast<int>(threadIdx.x);
    double before = 0.0, after = 0.0;
    for (int c = static_cast<int>(blockIdx.x) * THREADS + tid; c < n;
         c += static_cast<int>(gridDim.x) * THREADS) {
        double column_before = 0.0, column_after = 0.0;
        for (int i = 0; i < rows; i++) {
            column_before += fabs(fresh[static_cast<size_t>(i) * n + c]);
            column_after += fabs(now[static_cast<size_t>(i) * n + c]);
        }
        if (per_column)
            alpha[c] = ratio(column_before, column_after);
        before += column_before;
        after += column_after;
    }
    if (per_column)
        return;
    sum[0][tid] = before;
    sum[1][tid] = after;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (tid < half) {
            sum[0][tid] += sum[0][tid + half];
            sum[1][tid] += sum[1][tid + half];
        }
    }
    __syncthreads();
    const float all = ratio(sum[0][0], sum[1][0]);
    for (int c = tid; c < n; c += THREADS)
        alpha[c] = all;
}

extern "C" ohm_cuda_status ohm_calibration_alpha_cuda(float *alpha, const double *fresh,
                                                      const double *now, int rows, int n,
                                                      int per_column, ohm_cuda_stream s)
{
    return OHM_LAUNCH(alpha_of_reads, per_column ? (n + THREADS - 1) / THREADS : 1, THREADS, 0, s,
                      alpha, fresh, now, rows, n, per_column);
}

/* Whole numbers far below 2^53: their sum has the same bits in any order. */
static __global__ void add_levels(double *correction, const __grid_constant__ ohm_geometry g,
                                  const uint8_t *levels, double offset, double mean)
{
    const int n = static_cast<int>(blockIdx.x * COLUMNS + threadIdx.x),
              array = static_cast<int>(blockIdx.y), signs = g.differential ? 2 : 1,
              first = static_cast<int>(blockIdx.z) * INPUTS,
              end = first + INPUTS < g.k ? first + INPUTS : g.k;
    if (n >= g.n)
        return;
    const uint8_t *level = levels + ohm_cell_element(&g, array / signs, array % signs, first, n);
    int all = 0;
    for (int k = first; k < end; k++, level += g.n)
        all += *level;
    double value = ldexp(array % signs ? -offset : offset, array / signs * g.cell_bits) * all;
    if (array == 0)
        value -= offset * mean * (end - first);
    atomicAdd(correction + n, value);
}

extern "C" ohm_cuda_status ohm_calibration_nominal_cuda(double *correction, const ohm_geometry *g,
                                                        const uint8_t *levels, int bits,
                                                        int weight_bits, ohm_cuda_stream s)
{
    const int arrays = g->slices * (g->differential ? 2 : 1);
    const ohm_cuda_status status =
        ohm_cuda_fill(correction, 0, static_cast<size_t>(g->n) * sizeof *correction, s);
    if (status != OHM_CUDA_OK)
        return status;
    return OHM_LAUNCH(add_levels,
                      dim3((g->n + COLUMNS - 1) / COLUMNS, arrays, (g->k + INPUTS - 1) / INPUTS),
                      COLUMNS, 0, s, correction, *g, levels, static_cast<double>(1 << (bits - 1)),
                      g->differential ? 0.0 : static_cast<double>(1 << (weight_bits - 1)));
}
