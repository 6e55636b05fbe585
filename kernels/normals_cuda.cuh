/* Normals inside kernels.
 *
 * Fast normals on tensor cores: one warp makes the 128 outputs of 16 samples, with rows g and g + 8
 * (g = lane / 4) where mma.m16n8 has them, so that noise lands in the lanes that hold the currents.
 * Bit j of an output index meets bit j of an input index; of the seven bits of a byte's index
 *
 *     bits 0, 1  byte of a word     bit 2  low bit of the word     bits 5, 6  t = lane % 4
 *
 * are summed by the product (k = 16·bit 2 + 4t + byte), and bits 3, 4, which name one of four A
 * operands, by adds and subtracts of accumulators. An accumulator of columns 2t, 2t+1 then holds
 * outputs j = 32q + 8f + column: q chooses the B operand, f the combination. */
#ifndef OHM_KERNELS_NORMALS_CUDA_CUH
#define OHM_KERNELS_NORMALS_CUDA_CUH

#include "kernels/normals_math.h"
#include "kernels/platform_cuda.h"

/* The integer of a fast normal is twice what the product sums: (value - 1) / 2 of each byte. */
#define OHM_FAST_SCALE_HALF (2.0f * OHM_FAST_SCALE)

/* (ohm_fast_value(byte) - 1) / 2 of four bytes: L or 3L + 1, L = (byte & 63) - 32. No byte carries:
 * with 128 added all are between 33 and 222. */
static __device__ __forceinline__ unsigned ohm_fast_halves(unsigned word)
{
    const unsigned low = word & 0x3F3F3F3Fu, triple = word >> 7 & 0x01010101u;
    const unsigned scaled = low + (low << 1 & triple * 255u);
    return (scaled + (0x60606060u - 63u * triple)) ^ 0x80808080u;
}

/* A operands of 16 samples: this lane draws blocks 2t and 2t + 1 of the transforms of rows g and
 * g + 8, whose first Philox blocks are given. a[f]: f = bits 3, 4 of the index. */
static __device__ __forceinline__ void ohm_fast_draw(unsigned (&a)[4][4], const ohm_stream &s,
                                                     uint64_t block_g, uint64_t block_g8,
                                                     unsigned lane)
{
    const uint64_t at = 2 * (lane & 3);
#pragma unroll
    for (int upper = 0; upper < 2; upper++) { /* bit 4: which of the two blocks */
        const uint4 g = ohm_stream_block_cuda(s, block_g + at + upper);
        const uint4 g8 = ohm_stream_block_cuda(s, block_g8 + at + upper);
        a[2 * upper][0] = ohm_fast_halves(g.x);
        a[2 * upper][1] = ohm_fast_halves(g8.x);
        a[2 * upper][2] = ohm_fast_halves(g.y);
        a[2 * upper][3] = ohm_fast_halves(g8.y);
        a[2 * upper + 1][0] = ohm_fast_halves(g.z);
        a[2 * upper + 1][1] = ohm_fast_halves(g8.z);
        a[2 * upper + 1][2] = ohm_fast_halves(g.w);
        a[2 * upper + 1][3] = ohm_fast_halves(g8.w);
    }
}

/* B operand of quarter q: signs (-1)^(index · output) as bytes. */
static __device__ __forceinline__ void ohm_fast_signs(unsigned (&b)[2], unsigned q, unsigned lane)
{
    const unsigned n = lane >> 2, t = lane & 3;
    unsigned minus = 0; /* 1 in each byte that is -1 */
#pragma unroll
    for (unsigned byte = 0; byte < 4; byte++)
        minus |= (__popc(byte & n) & 1u) << 8 * byte;
    minus ^= __popc(t & q) & 1 ? 0x01010101u : 0u;
    b[0] = 0x01010101u | minus * 254u;
    b[1] = n & 4 ? 0x01010101u | (minus ^ 0x01010101u) * 254u : b[0];
}

/* sum[f][i]: half the integer, before its sign d_j, of output j = 32q + 8f + 2t + (i & 1) of row
 * g + 8·(i >> 1). */
static __device__ __forceinline__ void ohm_fast_quarter(int (&sum)[4][4], const unsigned (&a)[4][4],
                                                        unsigned q, unsigned lane)
{
    unsigned b[2];
    ohm_fast_signs(b, q, lane);
    /* The ones left out of (value - 1) / 2 add 64 to output 0 alone. */
    const int one = q == 0 && (lane & 3) == 0 ? 16 : 0;
    const int start[4] = {one, 0, one, 0};
#pragma unroll
    for (int f = 0; f < 4; f++)
        ohm_mma_s8(sum[f], a[f], b, start);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int p = sum[0][i] + sum[1][i], m = sum[0][i] - sum[1][i];
        const int p2 = sum[2][i] + sum[3][i], m2 = sum[2][i] - sum[3][i];
        sum[0][i] = p + p2;
        sum[1][i] = m + m2;
        sum[2][i] = p - p2;
        sum[3][i] = m - m2;
    }
}

/* Exact normals of the four elements of a Philox block. */
static __device__ __forceinline__ void ohm_exact_four(float (&z)[4], const ohm_stream &s,
                                                      uint64_t block)
{
    const uint4 w = ohm_stream_block_cuda(s, block);
    ohm_normal_pair(&z[0], &z[1], w.x, w.y);
    ohm_normal_pair(&z[2], &z[3], w.z, w.w);
}

#endif
