/* Quantisation: bound by memory, so every element is read once, four at a time where rows allow. */
#include "kernels/quantise_cuda.h"

#include "kernels/platform_cuda.h"
#include "kernels/quantise_math.h"

enum { THREADS = 256, WARPS = THREADS / 32, GRID_MOST = 2048, TURN = 64 };

static unsigned grid_for(size_t work, size_t each)
{
    const size_t blocks = (work + each - 1) / each;
    return static_cast<unsigned>(blocks < GRID_MOST ? blocks : size_t{GRID_MOST});
}

static bool aligned(const void *p, size_t to)
{
    return reinterpret_cast<uintptr_t>(p) % to == 0;
}

/* ---- ranges: without its sign bit a float orders like an integer, NaN above infinity --------- */

static __device__ __forceinline__ unsigned magnitude(float x)
{
    return __float_as_uint(x) & 0x7FFFFFFFu;
}

/* Largest |x| of x[0..n) among the THREADS threads of a block, in thread 0. */
static __device__ __forceinline__ unsigned block_absmax(const float *x, size_t n, size_t first,
                                                        size_t stride, bool four)
{
    OHM_SHARED(unsigned, of_warp, [WARPS]);
    unsigned largest = 0;
    size_t done = 0;
    if (four) {
        const float4 *x4 = reinterpret_cast<const float4 *>(x);
        for (size_t i = first; i < n / 4; i += stride) {
            const float4 v = __ldg(x4 + i);
            largest = max(max(largest, max(magnitude(v.x), magnitude(v.y))),
                          max(magnitude(v.z), magnitude(v.w)));
        }
        done = n / 4 * 4;
    }
    for (size_t i = done + first; i < n; i += stride)
        largest = max(largest, magnitude(__ldg(x + i)));
    largest = __reduce_max_sync(0xFFFFFFFFu, largest);
    if (threadIdx.x % 32 == 0)
        of_warp[threadIdx.x / 32] = largest;
    __syncthreads();
    if (threadIdx.x < 32)
        largest = __reduce_max_sync(0xFFFFFFFFu,
                                    threadIdx.x < WARPS ? of_warp[threadIdx.x] : 0u);
    return largest;
}

static __global__ void absmax_all(unsigned *out, const float *x, size_t n, bool four)
{
    const unsigned largest =
        block_absmax(x, n, static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x,
                     static_cast<size_t>(gridDim.x) * THREADS, four);
    if (threadIdx.x == 0)
        atomicMax(out, largest);
}

extern "C" ohm_cuda_status ohm_absmax_cuda(float *out, const float *x, size_t n, ohm_cuda_stream s)
{
    const ohm_cuda_status status = ohm_cuda_fill(out, 0, sizeof *out, s);
    if (status != OHM_CUDA_OK)
        return status;
    return OHM_LAUNCH(absmax_all, grid_for(n, 4 * THREADS), THREADS, 0, s,
                      reinterpret_cast<unsigned *>(out), x, n, aligned(x, 16));
}

static __global__ void absmax_of_rows(float *out, const float *x, size_t cols, size_t ldx, bool four)
{
    const unsigned largest = block_absmax(x + blockIdx.x * ldx, cols, threadIdx.x, THREADS, four);
    if (threadIdx.x == 0)
        out[blockIdx.x] = __uint_as_float(largest);
}

extern "C" ohm_cuda_status ohm_absmax_rows_cuda(float *out, const float *x, size_t rows,
                                                size_t cols, size_t ldx, ohm_cuda_stream s)
{
    return OHM_LAUNCH(absmax_of_rows, static_cast<unsigned>(rows), THREADS, 0, s, out, x, cols, ldx,
                      aligned(x, 16) && ldx % 4 == 0);
}

static __global__ void scales(float *scale, const float *full, size_t n, float codes)
{
    const size_t i = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i < n)
        scale[i] = full[i] > 0.0f ? full[i] / codes : 1.0f;
}

extern "C" ohm_cuda_status ohm_scales_cuda(float *scale, const float *full, size_t n, int codes,
                                           ohm_cuda_stream s)
{
    return OHM_LAUNCH(scales, static_cast<unsigned>((n + THREADS - 1) / THREADS), THREADS, 0, s,
                      scale, full, n, static_cast<float>(codes));
}

/* ---- codes --------------------------------------------------------------------------------- */

struct codes_job {
    uint8_t *out;
    const float *x, *scale;
    uint32_t *flags, flag; /* drive bytes: or-ed where an unsigned code would be below zero */
    size_t rows, cols, ldout, ldx;
    int per_row, encoding;
    float qmax;
    uint8_t offset;
};

static __device__ __forceinline__ float scale_of(const float *scale, size_t at)
{
    const float s = __ldg(scale + at);
    return s == 0.0f ? 1.0f : s;
}

template <bool drive>
static __device__ __forceinline__ uint8_t byte_of(const codes_job &job, float x, float scale,
                                                  int *seen)
{
    const int8_t code = ohm_code_of(x / scale, job.qmax);
    if (!drive)
        return static_cast<uint8_t>(code);
    *seen |= code < 0;
    return ohm_drive_of(code, static_cast<ohm_drive>(job.encoding), job.offset);
}

/* A thread takes four neighbours of a row. */
template <bool drive, bool four> static __global__ void codes_of(codes_job job)
{
    const size_t groups = (job.cols + 3) / 4, count = job.rows * groups;
    int seen = 0;
    for (size_t i = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x; i < count;
         i += static_cast<size_t>(gridDim.x) * THREADS) {
        const size_t row = job.rows == 1 ? 0 : i / groups, at = (i - row * groups) * 4;
        const float scale = scale_of(job.scale, job.per_row ? row : 0);
        const float *x = job.x + row * job.ldx + at;
        uint8_t *out = job.out + row * job.ldout + at;
        if (four && at + 4 <= job.cols) {
            const float4 v = __ldg(reinterpret_cast<const float4 *>(x));
            const uchar4 bytes = {
                byte_of<drive>(job, v.x, scale, &seen), byte_of<drive>(job, v.y, scale, &seen),
                byte_of<drive>(job, v.z, scale, &seen), byte_of<drive>(job, v.w, scale, &seen)};
            *reinterpret_cast<uchar4 *>(out) = bytes;
            continue;
        }
        for (size_t k = 0; k < 4 && at + k < job.cols; k++)
            out[k] = byte_of<drive>(job, __ldg(x + k), scale, &seen);
    }
    if (drive && job.encoding == OHM_DRIVE_UNSIGNED && seen)
        atomicOr(job.flags, job.flag);
}

static ohm_cuda_status launch_codes(codes_job job, bool drive, ohm_cuda_stream s)
{
    if (job.ldx == job.cols && job.ldout == job.cols && !job.per_row) { /* one long row */
        job.cols *= job.rows;
        job.rows = job.cols ? 1 : 0;
    }
    const bool four = aligned(job.x, 16) && aligned(job.out, 4) &&
                      (job.rows == 1 || (job.ldx % 4 == 0 && job.ldout % 4 == 0));
    const unsigned grid = grid_for(job.rows * ((job.cols + 3) / 4), THREADS);
    if (drive)
        return four ? OHM_LAUNCH((codes_of<true, true>), grid, THREADS, 0, s, job)
                    : OHM_LAUNCH((codes_of<true, false>), grid, THREADS, 0, s, job);
    return four ? OHM_LAUNCH((codes_of<false, true>), grid, THREADS, 0, s, job)
                : OHM_LAUNCH((codes_of<false, false>), grid, THREADS, 0, s, job);
}

extern "C" ohm_cuda_status ohm_quantise_cuda(int8_t *q, size_t ldq, const float *x, size_t rows,
                                             size_t cols, size_t ldx, const float *scale,
                                             int per_row, int qmax, ohm_cuda_stream s)
{
    const codes_job job = {reinterpret_cast<uint8_t *>(q), x,   scale,   nullptr, 0, rows, cols,
                           ldq, ldx, per_row, 0, static_cast<float>(qmax), 0};
    return launch_codes(job, false, s);
}

extern "C" ohm_cuda_status ohm_quantise_drive_cuda(uint8_t *u, size_t ldu, uint32_t *flags,
                                                   uint32_t flag, const float *x, size_t rows,
                                                   size_t cols, size_t ldx, const float *scale,
                                                   int per_row, int qmax, ohm_drive encoding,
                                                   int bits, ohm_cuda_stream s)
{
    const codes_job job = {u, x, scale, flags, flag, rows, cols, ldu, ldx, per_row, encoding,
                           static_cast<float>(qmax),
                           static_cast<uint8_t>(1u << (bits - 1))};
    return launch_codes(job, true, s);
}

/* ---- cells: codes [n][k] become levels [slice][sign][k][n], turned in shared memory ---------- */

struct split_job {
    uint8_t *levels;
    int8_t *q;               /* written where w is given, else read */
    const float *w, *scale;  /* NULL: codes are given */
    size_t n, k;
    int per_row, encoding, signs, slices, cell;
    float qmax;
    uint8_t offset;
};

static __global__ void split_codes(split_job job)
{
    OHM_SHARED(int8_t, turned, [TURN][TURN + 4]); /* [k][n], rows on different banks */
    const size_t across = (job.n + TURN - 1) / TURN;
    const size_t n0 = blockIdx.x % across * TURN, k0 = blockIdx.x / across * TURN;
    for (unsigned i = threadIdx.x; i < TURN * TURN; i += THREADS) {
        const size_t n = n0 + i / TURN, k = k0 + i % TURN;
        if (n >= job.n || k >= job.k)
            continue;
        int8_t code;
        if (job.w) {
            code = ohm_code_of(__ldg(job.w + n * job.k + k) /
                                   scale_of(job.scale, job.per_row ? n : 0),
                               job.qmax);
            job.q[n * job.k + k] = code;
        } else {
            code = job.q[n * job.k + k];
        }
        turned[i % TURN][i / TURN] = code;
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < TURN * TURN; i += THREADS) {
        const size_t k = k0 + i / TURN, n = n0 + i % TURN;
        if (n >= job.n || k >= job.k)
            continue;
        const int8_t code = turned[i / TURN][i % TURN];
        for (int slice = 0; slice < job.slices; slice++)
            for (int sign = 0; sign < job.signs; sign++)
                job.levels[((static_cast<size_t>(slice) * job.signs + sign) * job.k + k) * job.n +
                           n] = static_cast<uint8_t>(
                    ohm_array_of(code, static_cast<ohm_cells>(job.encoding), sign, job.offset) >>
                        slice * job.cell &
                    ((1 << job.cell) - 1));
    }
}

static ohm_cuda_status launch_split(split_job job, int cell_bits, int bits, ohm_cuda_stream s)
{
    const int wide = job.encoding == OHM_CELLS_DIFFERENTIAL ? bits - 1 : bits;
    job.cell = cell_bits < wide ? cell_bits : wide;
    job.signs = job.encoding == OHM_CELLS_DIFFERENTIAL ? 2 : 1;
    job.slices = (wide + job.cell - 1) / job.cell;
    job.offset = static_cast<uint8_t>(1u << (bits - 1));
    const size_t tiles = ((job.n + TURN - 1) / TURN) * ((job.k + TURN - 1) / TURN);
    return OHM_LAUNCH(split_codes, static_cast<unsigned>(tiles), THREADS, 0, s, job);
}

extern "C" ohm_cuda_status ohm_weight_split_cuda(uint8_t *levels, const int8_t *q, size_t n,
                                                 size_t k, ohm_cells encoding, int cell_bits,
                                                 int bits, ohm_cuda_stream s)
{
    const split_job job = {levels,   const_cast<int8_t *>(q), nullptr, nullptr, n, k, 0,
                           encoding, 0,                       0,       0,       0.0f, 0};
    return launch_split(job, cell_bits, bits, s);
}

extern "C" ohm_cuda_status ohm_quantise_split_cuda(int8_t *q, uint8_t *levels, const float *w,
                                                   size_t n, size_t k, const float *scale,
                                                   int per_row, int qmax, ohm_cells encoding,
                                                   int cell_bits, int bits, ohm_cuda_stream s)
{
    const split_job job = {levels,   q, w, scale, n, k, per_row,
                           encoding, 0, 0, 0,     static_cast<float>(qmax), 0};
    return launch_split(job, cell_bits, bits, s);
}
