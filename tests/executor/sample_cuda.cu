/* An example for authors of kernels, and what the executor is tested with on executor and device. */
#include "kernels/platform_cuda.h"
#include "tests/executor/sample_cuda.h"

/* sum[block] = the sum of 64 integers. */
static __global__ void sum_64(int *sum, const int *x)
{
    OHM_SHARED(int, part, [64]);
    const int i = static_cast<int>(threadIdx.x);
    part[i] = x[blockIdx.x * 64 + threadIdx.x];
    for (int half = 32; half > 0; half /= 2) {
        __syncthreads();
        if (i < half)
            part[i] += part[i + half];
    }
    if (i == 0)
        sum[blockIdx.x] = part[0];
}

extern "C" ohm_cuda_status ohm_sample_sum(int *sum, const int *x, int blocks, ohm_cuda_stream s)
{
    return OHM_LAUNCH(sum_64, blocks, 64, 0, s, sum, x);
}

/* One warp: d [16][8] = a [16][32] · b [32][8] + c, bytes. */
static __global__ void product_s8(int *d, const signed char *a, const signed char *b, const int *c)
{
    const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
    unsigned ra[4], rb[2];
    int rc[4], rd[4];
    for (int r = 0; r < 4; r++) {
        ra[r] = 0;
        for (int i = 0; i < 4; i++)
            ra[r] |= static_cast<unsigned>(static_cast<unsigned char>(
                         a[(g + r % 2 * 8) * 32 + r / 2 * 16 + 4 * t + i]))
                     << 8 * i;
    }
    for (int r = 0; r < 2; r++) {
        rb[r] = 0;
        for (int i = 0; i < 4; i++)
            rb[r] |=
                static_cast<unsigned>(static_cast<unsigned char>(b[(r * 16 + 4 * t + i) * 8 + g]))
                << 8 * i;
    }
    for (int i = 0; i < 4; i++)
        rc[i] = c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
    ohm_mma_s8(rd, ra, rb, rc);
    for (int i = 0; i < 4; i++)
        d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = rd[i];
}

extern "C" ohm_cuda_status ohm_sample_product_s8(int *d, const signed char *a, const signed char *b,
                                                 const int *c, ohm_cuda_stream s)
{
    return OHM_LAUNCH(product_s8, 1, 32, 0, s, d, a, b, c);
}

/* One warp: d [16][8] = a [16][16] · b [16][8] + c, operands as halves through cp.async, shared
 * memory and ldmatrix. */
static __global__ void product_f16(float *d, const __half *a, const __half *b, const float *c)
{
    OHM_SHARED(__half, sa, [16][16]);
    OHM_SHARED(__half, sb, [16][8]);
    const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
    ohm_cp_async_16(&sa[lane / 2][lane % 2 * 8], a + lane * 8);
    ohm_cp_async_commit();
    if (lane < 16)
        ohm_cp_async_16(&sb[lane][0], b + lane * 8);
    ohm_cp_async_commit();
    ohm_cp_async_wait<0>();
    __syncwarp();
    unsigned ra[4], rb[2];
    float rc[4], rd[4];
    ohm_ldmatrix_x4(ra, &sa[lane % 16][lane / 16 * 8]);
    ohm_ldmatrix_x2_trans(rb, &sb[lane % 16][0]);
    for (int i = 0; i < 4; i++)
        rc[i] = c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
    ohm_mma_f16(rd, ra, rb, rc);
    for (int i = 0; i < 4; i++)
        d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = rd[i];
}

extern "C" ohm_cuda_status ohm_sample_product_f16(float *d, const unsigned short *a,
                                                  const unsigned short *b, const float *c,
                                                  ohm_cuda_stream s)
{
    return OHM_LAUNCH(product_f16, 1, 32, 0, s, d, reinterpret_cast<const __half *>(a),
                      reinterpret_cast<const __half *>(b), c);
}

/* One warp: d [16][8] = a [16][8] · b [8][8] + c, the low bits of each operand left out. */
static __global__ void product_tf32(float *d, const float *a, const float *b, const float *c)
{
    const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
    unsigned ra[4], rb[2];
    float rc[4], rd[4];
    for (int i = 0; i < 4; i++) {
        ra[i] = __float_as_uint(a[(g + i % 2 * 8) * 8 + t + i / 2 * 4]);
        rc[i] = c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
    }
    for (int i = 0; i < 2; i++)
        rb[i] = __float_as_uint(b[(t + i * 4) * 8 + g]);
    ohm_mma_tf32(rd, ra, rb, rc);
    for (int i = 0; i < 4; i++)
        d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = rd[i];
}

extern "C" ohm_cuda_status ohm_sample_product_tf32(float *d, const float *a, const float *b,
                                                   const float *c, ohm_cuda_stream s)
{
    return OHM_LAUNCH(product_tf32, 1, 32, 0, s, d, a, b, c);
}

/* One warp: WMMA, d [16][16] = a · b, b column-major. */
template <class T, class Sum> static __global__ void product_wmma(Sum *d, const T *a, const T *b)
{
    using namespace nvcuda;
    wmma::fragment<wmma::matrix_a, 16, 16, 16, T, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, T, wmma::col_major> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 16, Sum> fd;
    wmma::fill_fragment(fd, Sum(0));
    wmma::load_matrix_sync(fa, a, 16);
    wmma::load_matrix_sync(fb, b, 16);
    wmma::mma_sync(fd, fa, fb, fd);
    wmma::store_matrix_sync(d, fd, 16, wmma::mem_row_major);
}

extern "C" ohm_cuda_status ohm_sample_wmma(int *d8, float *d16, const signed char *a8,
                                           const signed char *b8, const unsigned short *a16,
                                           const unsigned short *b16, ohm_cuda_stream s)
{
    const ohm_cuda_status status =
        OHM_LAUNCH((product_wmma<signed char, int>), 1, 32, 0, s, d8, a8, b8);
    if (status != OHM_CUDA_OK)
        return status;
    return OHM_LAUNCH((product_wmma<__half, float>), 1, 32, 0, s, d16,
                      reinterpret_cast<const __half *>(a16), reinterpret_cast<const __half *>(b16));
}

/* Every lane's view of shuffles, votes and reductions: out [32][12]. */
static __global__ void lanes(int *out, const int *x)
{
    const unsigned all = 0xFFFFFFFFu;
    const int lane = static_cast<int>(threadIdx.x), v = x[lane];
    int *mine = out + 12 * lane;
    mine[0] = __shfl_sync(all, v, 5);
    mine[1] = __shfl_sync(all, v, lane + 1, 8);
    mine[2] = __shfl_xor_sync(all, v, 3);
    mine[3] = __shfl_up_sync(all, v, 2, 16);
    mine[4] = __shfl_down_sync(all, v, 7);
    mine[5] = static_cast<int>(__ballot_sync(all, v % 3 == 0));
    mine[6] = __any_sync(all, v == x[9]);
    mine[7] = __all_sync(all, v == x[9]);
    mine[8] = __reduce_add_sync(all, v);
    mine[9] = __reduce_max_sync(all, v);
    mine[10] = static_cast<int>(__reduce_xor_sync(all, static_cast<unsigned>(v)));
    mine[11] = 0;
    if (lane < 16) /* half a warp on its own */
        mine[11] = __shfl_xor_sync(0xFFFFu, v, 1);
}

extern "C" ohm_cuda_status ohm_sample_lanes(int *out, const int *x, ohm_cuda_stream s)
{
    return OHM_LAUNCH(lanes, 1, 32, 0, s, out, x);
}

/* Counts by __syncthreads_count/_and/_or, an atomic histogram, and bit tricks: out [16]. */
static __global__ void votes(int *out, const int *x, int count)
{
    OHM_SHARED_DYNAMIC(int, bins);
    const int i = static_cast<int>(threadIdx.x);
    if (i < 4)
        bins[i] = 0;
    const int even = __syncthreads_count(x[i] % 2 == 0);
    const int every = __syncthreads_and(x[i] < count), some = __syncthreads_or(x[i] == count);
    atomicAdd(&bins[x[i] & 3], 1);
    atomicMax(&out[7], x[i]);
    __syncthreads();
    if (i < 4)
        out[i] = bins[i];
    if (i == 0) {
        out[4] = even;
        out[5] = every;
        out[6] = some;
        out[8] = static_cast<int>(__byte_perm(0x33221100u, 0x77665544u, 0x7610u));
        out[9] = __popc(0xF0F0u) + 100 * __clz(1) + 10000 * __ffs(8);
        out[10] = static_cast<int>(__brev(1u) >> 31);
        out[11] = __float_as_int(__half2float(__float2half(0.1f)));
        out[12] = __float_as_int(__half2float(__float2half(6.1e-5f)));
        out[13] = __float_as_int(__half2float(__float2half(70000.0f)));
        out[14] = __float_as_int(__bfloat162float(__float2bfloat16(1.005859375f)));
        out[15] = __float_as_int(
            __half2float(__hfma(__float2half(3.0f), __float2half(0.1f), __float2half(7.0f))));
    }
}

extern "C" ohm_cuda_status ohm_sample_votes(int *out, const int *x, int count, ohm_cuda_stream s)
{
    return OHM_LAUNCH(votes, 1, 64, 16, s, out, x, count);
}
