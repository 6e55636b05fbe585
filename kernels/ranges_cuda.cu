/* Ranges of a noisy layer where they lie: nothing here visits the host. */
#include "kernels/ranges_cuda.h"

#include "kernels/loops_cuda.hpp"
#include "kernels/platform_cuda.h"
#include "kernels/quantise_cuda.h"
#include "kernels/ranges_math.h"

enum { THREADS = 256, SELECT_BLOCKS = 512, EACH = OHM_SELECTION_DIGITS / THREADS };

/* ---- percentiles: the bits of |x|, 31 as 11 + 10 + 10, most significant digit first ---------- */

static const int PASSES = 3;

static __device__ __forceinline__ int digit_width(int pass)
{
    return pass ? 10 : 11;
}
static __device__ __forceinline__ int digit_shift(int pass)
{
    return 20 - 10 * pass;
}

/* Counts digit `pass` of those of x[first], x[first + stride], ... that begin with prefix. */
static __device__ void count_digits(unsigned *count, unsigned *nan, const float *x, size_t n,
                                    size_t first, size_t stride, unsigned prefix, int pass)
{
    const int shift = digit_shift(pass), width = digit_width(pass);
    for (size_t i = first; i < n; i += stride) {
        const unsigned bits = __float_as_uint(x[i]) & 0x7FFFFFFFu;
        if (bits > 0x7F800000u)
            atomicOr(nan, 1u);
        if (bits >> shift >> width == prefix)
            atomicAdd(&count[bits >> shift & ((1u << width) - 1)], 1u);
    }
}

/* Thread 0 gets the digit of the rank-th smallest; *rank becomes the rank among those of that digit. */
static __device__ unsigned pick_digit(const unsigned *count, unsigned *sum, uint64_t *rank)
{
    unsigned mine = 0, at = 0;
    for (unsigned i = 0; i < EACH; i++)
        mine += count[threadIdx.x * EACH + i];
    sum[threadIdx.x] = mine;
    __syncthreads();
    if (threadIdx.x)
        return 0;
    while (at + 1 < THREADS && sum[at] < *rank)
        *rank -= sum[at++];
    at *= EACH;
    for (const unsigned last = at + EACH - 1; at < last && count[at] < *rank; at++)
        *rank -= count[at];
    return at;
}

static __device__ __forceinline__ void clear_digits(unsigned *count)
{
    for (unsigned i = threadIdx.x; i < OHM_SELECTION_DIGITS; i += THREADS)
        count[i] = 0;
}

static __global__ void count_all(ohm_selection *selection, const float *x, size_t n, int pass)
{
    OHM_SHARED(unsigned, count, [OHM_SELECTION_DIGITS]);
    clear_digits(count);
    __syncthreads();
    count_digits(count, &selection->nan, x, n,
                 static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x,
                 static_cast<size_t>(gridDim.x) * THREADS, selection->prefix, pass);
    __syncthreads();
    for (unsigned i = threadIdx.x; i < OHM_SELECTION_DIGITS; i += THREADS)
        if (count[i])
            atomicAdd(&selection->count[i], count[i]);
}

/* NaN as the CPU has it. */
static __device__ __forceinline__ unsigned selected(unsigned bits, unsigned nan)
{
    return nan ? 0x7FC00000u : bits;
}

static __global__ void pick(float *out, ohm_selection *selection, uint64_t first_rank, int pass)
{
    OHM_SHARED(unsigned, sum, [THREADS]);
    uint64_t rank = pass ? selection->rank : first_rank;
    const unsigned digit = pick_digit(selection->count, sum, &rank);
    if (threadIdx.x == 0) {
        selection->prefix = selection->prefix << digit_width(pass) | digit;
        selection->rank = rank;
        if (pass + 1 == PASSES) {
            selection->percentile = selected(selection->prefix, selection->nan);
            if (out)
                *out = __uint_as_float(selection->percentile);
        }
    }
    __syncthreads();
    clear_digits(selection->count);
}

static uint64_t rank_of(double percent, size_t n)
{
    const double wanted = ceil(percent / 100.0 * static_cast<double>(n));
    return wanted < 1.0 ? 1 : wanted > static_cast<double>(n) ? n : static_cast<uint64_t>(wanted);
}

extern "C" ohm_cuda_status ohm_abs_percentile_cuda(float *out, const float *x, size_t n,
                                                   double percent, ohm_selection *selection,
                                                   ohm_cuda_stream s)
{
    const size_t most = (n + THREADS - 1) / THREADS;
    const unsigned grid = static_cast<unsigned>(most < SELECT_BLOCKS ? most : size_t{SELECT_BLOCKS});
    OHM_CUDA_TRY(
        ohm_cuda_fill(&selection->percentile, 0, sizeof *selection - sizeof selection->most, s));
    if (n == 0)
        return out ? ohm_cuda_fill(out, 0, sizeof *out, s) : OHM_CUDA_OK;
    for (int pass = 0; pass < PASSES; pass++) {
        OHM_CUDA_TRY(OHM_LAUNCH(count_all, grid, THREADS, 0, s, selection, x, n, pass));
        OHM_CUDA_TRY(OHM_LAUNCH(pick, 1, THREADS, 0, s, out, selection, rank_of(percent, n), pass));
    }
    return OHM_CUDA_OK;
}

/* A block takes a row. */
static __global__ void percentile_scales(float *scale, const float *x, size_t cols, size_t ldx,
                                         uint64_t rank, int codes)
{
    OHM_SHARED(unsigned, count, [OHM_SELECTION_DIGITS]);
    OHM_SHARED(unsigned, sum, [THREADS]);
    OHM_SHARED(unsigned, found, [2]); /* prefix; whether there is NaN */
    if (threadIdx.x < 2)
        found[threadIdx.x] = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        clear_digits(count);
        __syncthreads();
        count_digits(count, &found[1], x + blockIdx.x * ldx, cols, threadIdx.x, THREADS, found[0],
                     pass);
        __syncthreads();
        const unsigned digit = pick_digit(count, sum, &rank);
        if (threadIdx.x == 0)
            found[0] = found[0] << digit_width(pass) | digit;
        __syncthreads();
    }
    if (threadIdx.x == 0)
        scale[blockIdx.x] = ohm_scale_of(__uint_as_float(selected(found[0], found[1])), codes);
}

/* ---- scales -------------------------------------------------------------------------------- */

static __global__ void finish_input(float *scale, float *kept, float *learned, uint32_t *fault,
                                    const ohm_selection *selection, ohm_scale_rule rule)
{
    const float most = __uint_as_float(selection->most);
    if (threadIdx.x)
        return;
    if (!ohm_range_is_finite(most)) {
        atomicOr(fault, static_cast<uint32_t>(OHM_FAULT_INPUT));
        *scale = rule.each_row ? 0.0f : 1.0f;
        return;
    }
    const float full =
        ohm_full_scale(kept, learned, &rule, most, __uint_as_float(selection->percentile));
    *scale = rule.each_row ? 0.0f : ohm_scale_of(full, rule.codes);
}

extern "C" ohm_cuda_status ohm_input_scale_cuda(float *scale, float *kept, float *learned,
                                                uint32_t *fault, const float *x, size_t count,
                                                const ohm_scale_rule *rule,
                                                ohm_selection *selection, ohm_cuda_stream s)
{
    if (rule->kind == OHM_SCALE_PERCENTILE && !rule->each_row)
        OHM_CUDA_TRY(ohm_abs_percentile_cuda(nullptr, x, count, rule->value, selection, s));
    OHM_CUDA_TRY(ohm_absmax_cuda(reinterpret_cast<float *>(&selection->most), x, count, s));
    return OHM_LAUNCH(finish_input, 1, 32, 0, s, scale, kept, learned, fault, selection, *rule);
}

extern "C" ohm_cuda_status ohm_row_scales_cuda(float *scale, const float *x, size_t rows,
                                               size_t cols, size_t ldx, const ohm_scale_rule *rule,
                                               ohm_cuda_stream s)
{
    if (rule->kind == OHM_SCALE_PERCENTILE && cols)
        return OHM_LAUNCH(percentile_scales, static_cast<unsigned>(rows), THREADS, 0, s, scale, x,
                          cols, ldx, rank_of(rule->value, cols), rule->codes);
    OHM_CUDA_TRY(ohm_absmax_rows_cuda(scale, x, rows, cols, ldx, s));
    return ohm_scales_cuda(scale, scale, rows, rule->codes, s);
}

static __global__ void finish_weights(float *scale, uint32_t *fault, size_t n,
                                      const ohm_selection *selection, ohm_scale_rule rule)
{
    const float most = __uint_as_float(selection->most);
    if (blockIdx.x == 0 && threadIdx.x == 0 && !ohm_range_is_finite(most))
        atomicOr(fault, static_cast<uint32_t>(OHM_FAULT_WEIGHT));
    const float full = rule.kind == OHM_SCALE_NUMBER       ? static_cast<float>(rule.value)
                       : rule.kind == OHM_SCALE_PERCENTILE ? __uint_as_float(selection->percentile)
                                                           : most;
    if (!rule.each_row)
        OHM_EACH(i, n) scale[i] = ohm_scale_of(full, rule.codes);
}

extern "C" ohm_cuda_status ohm_weight_scales_cuda(float *scale, uint32_t *fault, const float *w,
                                                  size_t n, size_t k, const ohm_scale_rule *rule,
                                                  ohm_selection *selection, ohm_cuda_stream s)
{
    if (rule->each_row)
        OHM_CUDA_TRY(ohm_row_scales_cuda(scale, w, n, k, k, rule, s));
    else if (rule->kind == OHM_SCALE_PERCENTILE)
        OHM_CUDA_TRY(ohm_abs_percentile_cuda(nullptr, w, n * k, rule->value, selection, s));
    OHM_CUDA_TRY(ohm_absmax_cuda(reinterpret_cast<float *>(&selection->most), w, n * k, s));
    return OHM_LOOP(finish_weights, n, s, scale, fault, n, selection, *rule);
}

/* ---- codes --------------------------------------------------------------------------------- */

static __global__ void place_biases(int8_t *codes, float *digital, int32_t *bias_codes,
                                    ohm_weight_job job)
{
    OHM_EACH(i, static_cast<size_t>(job.n))
    ohm_place_bias(codes, digital, bias_codes, &job, static_cast<int>(i));
}

extern "C" ohm_cuda_status ohm_weight_levels_cuda(uint8_t *levels, int8_t *codes, float *digital,
                                                  int32_t *bias_codes, const ohm_weight_job *job,
                                                  ohm_cuda_stream s)
{
    const size_t n = static_cast<size_t>(job->n), k = static_cast<size_t>(job->k);
    const size_t rows = static_cast<size_t>(job->rows);
    const ohm_cells cells = static_cast<ohm_cells>(job->cells);
    const int fused = rows == k;
    OHM_CUDA_TRY(
        fused ? ohm_quantise_split_cuda(codes, levels, job->w, n, k, job->w_scale, 1, job->codes,
                                        cells, job->cell_bits, job->bits, s)
              : ohm_quantise_cuda(codes, rows, job->w, n, k, k, job->w_scale, 1, job->codes, s));
    OHM_CUDA_TRY(OHM_LOOP(place_biases, n, s, codes, digital, bias_codes, *job));
    return fused
               ? OHM_CUDA_OK
               : ohm_weight_split_cuda(levels, codes, n, rows, cells, job->cell_bits, job->bits, s);
}

extern "C" ohm_cuda_status ohm_drive_codes_cuda(uint8_t *u, size_t ldu, uint32_t *fault,
                                                const float *x, size_t rows, size_t cols,
                                                size_t ldx, const float *scale, int per_row,
                                                int qmax, ohm_drive encoding, int bits,
                                                ohm_cuda_stream s)
{
    return ohm_quantise_drive_cuda(u, ldu, fault, OHM_FAULT_NEGATIVE, x, rows, cols, ldx, scale,
                                   per_row, qmax, encoding, bits, s);
}

static __global__ void append(uint8_t *u, size_t ldu, const uint8_t *from, size_t ld_from,
                              size_t rows, size_t cols, ohm_always_on always)
{
    const size_t skip = from ? 0 : cols, width = cols + OHM_BIAS_ROWS_COUNT - skip;
    OHM_EACH(i, rows * width)
    {
        const size_t row = i / width, c = i % width + skip;
        u[row * ldu + c] = c < cols ? from[row * ld_from + c] : always.code[c - cols];
    }
}

extern "C" ohm_cuda_status ohm_append_always_on_cuda(uint8_t *u, size_t ldu, const uint8_t *from,
                                                     size_t ld_from, size_t rows, size_t cols,
                                                     const ohm_always_on *always, ohm_cuda_stream s)
{
    return OHM_LOOP(append, rows * ((from ? cols : 0) + OHM_BIAS_ROWS_COUNT), s, u, ldu, from,
                    ld_from, rows, cols, *always);
}

/* ---- the ADC ------------------------------------------------------------------------------- */

static __global__ void cut_ranges(float *range, const uint32_t *histogram, size_t ranges, int bins,
                                  double percent)
{
    OHM_EACH(i, ranges)
    range[i] = ohm_cut_range(range[i], histogram + i * static_cast<size_t>(bins), bins, percent);
}

extern "C" ohm_cuda_status ohm_cut_ranges_cuda(float *range, const uint32_t *histogram,
                                               size_t ranges, int bins, double percent,
                                               ohm_cuda_stream s)
{
    return OHM_LOOP(cut_ranges, ranges, s, range, histogram, ranges, bins, percent);
}

static __global__ void raise_ranges(float *range, const float *other, size_t ranges)
{
    OHM_EACH(i, ranges) range[i] = fmaxf(range[i], other[i]);
}

extern "C" ohm_cuda_status ohm_raise_ranges_cuda(float *range, const float *other, size_t ranges,
                                                 ohm_cuda_stream s)
{
    return OHM_LOOP(raise_ranges, ranges, s, range, other, ranges);
}

/* One block: the batches are counted when all LSBs have seen their number. */
static __global__ void update_lsb(float *lsb, float *batches, const float *range, size_t ranges,
                                  ohm_lsb_rule rule)
{
    for (size_t i = threadIdx.x; i < ranges; i += THREADS)
        lsb[i] = ohm_lsb_of(lsb[i], *batches, range[i], &rule);
    __syncthreads();
    if (threadIdx.x == 0)
        *batches += 1.0f;
}

extern "C" ohm_cuda_status ohm_update_lsb_cuda(float *lsb, float *batches, const float *range,
                                               size_t ranges, const ohm_lsb_rule *rule,
                                               ohm_cuda_stream s)
{
    return OHM_LAUNCH(update_lsb, 1, THREADS, 0, s, lsb, batches, range, ranges, *rule);
}

/* ---- outputs ------------------------------------------------------------------------------- */

static __global__ void rescale(float *y, size_t ldy, size_t m, size_t n, ohm_scales scales,
                               const float *bias)
{
    OHM_EACH(i, m * n)
    {
        const size_t row = i / n, c = i % n;
        float *at = y + row * ldy + c;
        *at = ohm_rescaled(*at, ohm_x_scale(&scales, row), &scales, bias, c);
    }
}

extern "C" ohm_cuda_status ohm_rescale_cuda(float *y, size_t ldy, size_t m, size_t n,
                                            const ohm_scales *scales, const float *bias,
                                            ohm_cuda_stream s)
{
    return OHM_LOOP(rescale, m * n, s, y, ldy, m, n, *scales, bias);
}

/* ---- mode full ----------------------------------------------------------------------------- */

static __global__ void sum_gradients(float *dsums, const float *dy, size_t lddy, size_t m, size_t n,
                                     ohm_scales scales)
{
    OHM_EACH(i, m * n)
    {
        const size_t row = i / n, c = i % n;
        dsums[i] = ohm_sum_gradient(dy[row * lddy + c], ohm_x_scale(&scales, row), &scales, c);
    }
}

/* Blocks of rows of a column: of dy; or, with sums, of what a column's scale and what x's scale get. */
static __global__ void column_blocks(double *partial, const float *dy, size_t lddy,
                                     const float *sums, size_t m, size_t n, ohm_scales scales)
{
    const size_t blocks = (m + OHM_RANGE_BLOCK - 1) / OHM_RANGE_BLOCK;
    OHM_EACH(i, blocks * n)
    {
        const size_t c = i % n, first = i / n * OHM_RANGE_BLOCK;
        const size_t end = m - first < OHM_RANGE_BLOCK ? m : first + OHM_RANGE_BLOCK;
        double of_column = 0.0, of_x = 0.0;
        for (size_t row = first; row < end; row++) {
            const double d = dy[row * lddy + c];
            const double share = sums ? d * static_cast<double>(sums[row * n + c]) *
                                            static_cast<double>(scales.w_scale[c])
                                      : d;
            of_column += sums ? share * ohm_x_scale(&scales, row) : share;
            of_x +=
                share * static_cast<double>(scales.column_scale ? scales.column_scale[c] : 1.0f);
        }
        partial[i] = of_column;
        if (sums)
            partial[blocks * n + i] = of_x;
    }
}

static __global__ void add_columns(float *sum, const double *total, size_t n, double by)
{
    OHM_EACH(i, n) sum[i] += static_cast<float>(total[i] / by);
}

static ohm_cuda_status launch_columns(double *partial, const float *dy, size_t lddy,
                                      const float *sums, size_t m, size_t n,
                                      const ohm_scales *scales, ohm_cuda_stream s)
{
    const size_t blocks = (m + OHM_RANGE_BLOCK - 1) / OHM_RANGE_BLOCK;
    OHM_CUDA_TRY(OHM_LOOP(column_blocks, blocks * n, s, partial, dy, lddy, sums, m, n, *scales));
    return ohm_combine(partial, blocks, n, s);
}

extern "C" ohm_cuda_status ohm_rescale_backward_cuda(float *dsums, float *db, const float *dy,
                                                     size_t lddy, size_t m, size_t n,
                                                     const ohm_scales *scales, double *partial,
                                                     ohm_cuda_stream s)
{
    OHM_CUDA_TRY(OHM_LOOP(sum_gradients, m * n, s, dsums, dy, lddy, m, n, *scales));
    if (!db)
        return OHM_CUDA_OK;
    OHM_CUDA_TRY(launch_columns(partial, dy, lddy, nullptr, m, n, scales, s));
    return OHM_LOOP(add_columns, n, s, db, partial, n, 1.0);
}

static __global__ void unscale(float *sums, const float *y, size_t ldy, size_t m, size_t n,
                               ohm_scales scales, const float *bias)
{
    OHM_EACH(i, m * n)
    {
        const size_t row = i / n, c = i % n;
        sums[i] = ohm_unscaled(y[row * ldy + c], ohm_x_scale(&scales, row), &scales, bias, c);
    }
}

extern "C" ohm_cuda_status ohm_unscale_cuda(float *sums, const float *y, size_t ldy, size_t m,
                                            size_t n, const ohm_scales *scales, const float *bias,
                                            ohm_cuda_stream s)
{
    return OHM_LOOP(unscale, m * n, s, sums, y, ldy, m, n, *scales, bias);
}

extern "C" ohm_cuda_status ohm_scale_gradients_cuda(float *dx_range, float *dcolumn_scale,
                                                    const float *dy, size_t lddy, const float *sums,
                                                    size_t m, size_t n, const ohm_scales *scales,
                                                    double *partial, ohm_cuda_stream s)
{
    double *of_x = partial + (m + OHM_RANGE_BLOCK - 1) / OHM_RANGE_BLOCK * n;
    OHM_CUDA_TRY(launch_columns(partial, dy, lddy, sums, m, n, scales, s));
    if (dcolumn_scale)
        OHM_CUDA_TRY(OHM_LOOP(add_columns, n, s, dcolumn_scale, partial, n, 1.0));
    if (!dx_range)
        return OHM_CUDA_OK;
    OHM_CUDA_TRY(ohm_combine(of_x, static_cast<size_t>(of_x - partial), 1, s));
    return OHM_LOOP(add_columns, 1, s, dx_range, of_x, static_cast<size_t>(1),
                    static_cast<double>(scales->codes));
}

/* A block takes a row. */
static __global__ void drive_gradients(float *dx, size_t lddx, double *partial, const float *dcodes,
                                       size_t ldd, const float *x, size_t ldx, size_t k,
                                       ohm_scales scales)
{
    OHM_SHARED(double, of_thread, [THREADS]);
    const size_t row = blockIdx.x;
    const float scale = scales.x_scale[scales.x_scale_rows ? row : 0];
    double total = 0.0;
    for (size_t c = threadIdx.x; c < k; c += THREADS) {
        double share = 0.0;
        const float d = ohm_drive_gradient(&share, dcodes[row * ldd + c],
                                           x ? x[row * ldx + c] : 0.0f, scale, scales.codes);
        if (dx)
            dx[row * lddx + c] = d;
        total -= share;
    }
    of_thread[threadIdx.x] = total;
    __syncthreads();
    if (threadIdx.x)
        return;
    for (unsigned i = 1; i < THREADS; i++)
        total += of_thread[i];
    partial[row] = total;
}

extern "C" ohm_cuda_status ohm_drive_backward_cuda(float *dx, size_t lddx, float *dx_range,
                                                   const float *dcodes, size_t ldd, const float *x,
                                                   size_t ldx, size_t m, size_t k,
                                                   const ohm_scales *scales, double *partial,
                                                   ohm_cuda_stream s)
{
    OHM_CUDA_TRY(OHM_LAUNCH(drive_gradients, static_cast<unsigned>(m), THREADS, 0, s, dx, lddx,
                            partial, dcodes, ldd, x, ldx, k, *scales));
    if (!dx_range)
        return OHM_CUDA_OK;
    OHM_CUDA_TRY(ohm_combine(partial, m, 1, s));
    return OHM_LOOP(add_columns, 1, s, dx_range, partial, static_cast<size_t>(1), 1.0);
}

static __global__ void weight_gradients(float *dw, const float *dcodes, size_t ldd, const float *w,
                                        size_t n, size_t k, ohm_scales scales)
{
    OHM_EACH(i, n * k)
    {
        const size_t row = i / k;
        dw[i] +=
            ohm_weight_gradient(dcodes[row * ldd + i % k], w[i], scales.w_scale[row], scales.codes);
    }
}

extern "C" ohm_cuda_status ohm_weight_backward_cuda(float *dw, const float *dcodes, size_t ldd,
                                                    const float *w, size_t n, size_t k,
                                                    const ohm_scales *scales, ohm_cuda_stream s)
{
    return OHM_LOOP(weight_gradients, n * k, s, dw, dcodes, ldd, w, n, k, *scales);
}
