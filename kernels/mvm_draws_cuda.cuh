/* Normals of a block of rows into shared memory, either kind, for kernels in any layout. */
#ifndef OHM_KERNELS_MVM_DRAWS_CUDA_CUH
#define OHM_KERNELS_MVM_DRAWS_CUDA_CUH

#include "kernels/mvm_cuda.cuh"
#include "kernels/normals_math.h"

/* z[row][0..127] = transform `transform` of samples first + row, row < rows, by the whole block.
 * Fast ones in two passes over the 7 bits of an output's number: 16-point transforms of the bytes of
 * one Philox block, then 8-point ones across blocks, each in place. Others see z after a barrier. */
template <int STRIDE>
static __device__ void mvm_block_normals(float (*z)[STRIDE], int rows, const mvm_job &j,
                                         uint32_t site, uint64_t first, uint64_t transform,
                                         uint64_t per_sample)
{
    const ohm_stream stream = mvm_stream(j, site);
    const int threads = static_cast<int>(blockDim.x), tid = static_cast<int>(threadIdx.x);
    if (j.r.exact_normals) {
        for (int i = tid; i < rows * 32; i += threads) {
            const int row = i / 32, block = i % 32;
            const uint4 w = ohm_stream_block_cuda(
                stream, ((first + row) * per_sample + transform) * 32 + block);
            float *out = z[row] + block * 4;
            ohm_normal_pair(out, out + 1, w.x, w.y);
            ohm_normal_pair(out + 2, out + 3, w.z, w.w);
        }
        return;
    }
    for (int i = tid; i < rows * 8; i += threads) {
        const int row = i / 8, block = i % 8;
        const uint4 w =
            ohm_stream_block_cuda(stream, ((first + row) * per_sample + transform) * 8 + block);
        const unsigned word[4] = {w.x, w.y, w.z, w.w};
        int v[16];
#pragma unroll
        for (int b = 0; b < 16; b++)
            v[b] = ohm_fast_value(static_cast<uint8_t>(word[b / 4] >> 8 * (b % 4)));
#pragma unroll
        for (int half = 1; half < 16; half *= 2)
#pragma unroll
            for (int b = 0; b < 16; b++)
                if (!(b & half)) {
                    const int a = v[b], c = v[b + half];
                    v[b] = a + c;
                    v[b + half] = a - c;
                }
#pragma unroll
        for (int b = 0; b < 16; b++)
            z[row][block * 16 + b] = __int_as_float(v[b]);
    }
    __syncthreads();
    for (int i = tid; i < rows * 16; i += threads) {
        const int row = i / 16, b = i % 16;
        int v[8];
#pragma unroll
        for (int block = 0; block < 8; block++)
            v[block] = __float_as_int(z[row][block * 16 + b]);
#pragma unroll
        for (int half = 1; half < 8; half *= 2)
#pragma unroll
            for (int block = 0; block < 8; block++)
                if (!(block & half)) {
                    const int a = v[block], c = v[block + half];
                    v[block] = a + c;
                    v[block + half] = a - c;
                }
#pragma unroll
        for (int block = 0; block < 8; block++) {
            const unsigned out = static_cast<unsigned>(block * 16 + b);
            z[row][out] = static_cast<float>(v[block]) *
                          (ohm_fast_negative(out) ? -OHM_FAST_SCALE : OHM_FAST_SCALE);
        }
    }
}

#endif
