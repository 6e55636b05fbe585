/* Generators of normals as kernels of their own: for what is drawn once, and to be measured by. */
#include "kernels/normals_cuda.h"

#include "kernels/normals_cuda.cuh"

enum { THREADS = 256, WARPS = THREADS / 32, SAMPLES_OF_WARP = 16 };

static unsigned blocks_for(size_t count, size_t each)
{
    return static_cast<unsigned>((count + each - 1) / each);
}

/* ---- words and exact normals: a thread takes a Philox block -------------------------------- */

static __global__ void words_of_blocks(uint4 *words, uint64_t first, size_t blocks, ohm_stream s)
{
    const size_t i = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i < blocks)
        words[i] = ohm_stream_block_cuda(s, first + i);
}

extern "C" ohm_cuda_status ohm_words_cuda(uint32_t *words, uint64_t first_block, size_t blocks,
                                          const ohm_stream *stream, ohm_cuda_stream s)
{
    return OHM_LAUNCH(words_of_blocks, blocks_for(blocks, THREADS), THREADS, 0, s,
                      reinterpret_cast<uint4 *>(words), first_block, blocks, *stream);
}

static __global__ void exact_normals(float *z, uint64_t first, size_t count, ohm_stream s)
{
    const size_t i = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    const size_t skipped = static_cast<size_t>(first & 3); /* of the first block */
    if (4 * i >= count + skipped)
        return;
    float four[4];
    ohm_exact_four(four, s, (first >> 2) + i);
    if (skipped == 0 && 4 * i + 4 <= count && reinterpret_cast<uintptr_t>(z) % 16 == 0) {
        reinterpret_cast<float4 *>(z)[i] = make_float4(four[0], four[1], four[2], four[3]);
        return;
    }
#pragma unroll
    for (size_t k = 0; k < 4; k++)
        if (4 * i + k >= skipped && 4 * i + k < count + skipped)
            z[4 * i + k - skipped] = four[k];
}

extern "C" ohm_cuda_status ohm_normals_exact_cuda(float *z, uint64_t first, size_t count,
                                                  const ohm_stream *stream, ohm_cuda_stream s)
{
    const size_t blocks = count ? (count + (first & 3) + 3) / 4 : 0;
    return OHM_LAUNCH(exact_normals, blocks_for(blocks, THREADS), THREADS, 0, s, z, first, count,
                      *stream);
}

/* ---- fast normals -------------------------------------------------------------------------- */

struct fast_job {
    float *z;
    size_t ldz, samples;
    uint64_t first_block, stride; /* Philox blocks: of sample 0, between samples */
    ohm_stream s;
};

/* The definition: one sample a block, seven butterfly stages in shared memory. */
static __global__ void fast_simple(fast_job job)
{
    OHM_SHARED(int, v, [OHM_NORMALS_BLOCK]);
    const unsigned i = threadIdx.x;
    const uint64_t first = job.first_block + blockIdx.x * job.stride;
    const uint4 w = ohm_stream_block_cuda(job.s, first + i / 16);
    const unsigned words[4] = {w.x, w.y, w.z, w.w};
    v[i] = ohm_fast_value(static_cast<uint8_t>(words[i / 4 % 4] >> 8 * (i % 4)));
    for (unsigned half = 1; half < OHM_NORMALS_BLOCK; half *= 2) {
        __syncthreads();
        const int mine = v[i], other = v[i ^ half];
        __syncthreads();
        v[i] = i & half ? other - mine : mine + other;
    }
    job.z[blockIdx.x * job.ldz + i] =
        static_cast<float>(v[i]) * (ohm_fast_negative(i) ? -OHM_FAST_SCALE : OHM_FAST_SCALE);
}

/* A warp takes 16 samples. */
static __global__ void fast_mma(fast_job job)
{
    const unsigned lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    const size_t first =
        (static_cast<size_t>(blockIdx.x) * WARPS + threadIdx.x / 32) * SAMPLES_OF_WARP;
    if (first >= job.samples)
        return;
    const size_t row[2] = {first + g, first + g + 8};
    unsigned a[4][4];
    ohm_fast_draw(a, job.s, job.first_block + row[0] * job.stride,
                  job.first_block + row[1] * job.stride, lane);
#pragma unroll
    for (unsigned q = 0; q < 4; q++) {
        int sum[4][4];
        ohm_fast_quarter(sum, a, q, lane);
#pragma unroll
        for (unsigned f = 0; f < 4; f++)
#pragma unroll
            for (unsigned i = 0; i < 4; i++) {
                const unsigned j = 32 * q + 8 * f + 2 * t + (i & 1);
                if (row[i >> 1] < job.samples)
                    job.z[row[i >> 1] * job.ldz + j] =
                        static_cast<float>(sum[f][i]) *
                        (ohm_fast_negative(j) ? -OHM_FAST_SCALE_HALF : OHM_FAST_SCALE_HALF);
            }
    }
}

static fast_job job_of(float *z, size_t ldz, uint64_t first_sample, size_t samples,
                       uint64_t transform, uint64_t transforms_per_sample,
                       const ohm_stream *stream)
{
    const fast_job job = {z,
                          ldz,
                          samples,
                          (first_sample * transforms_per_sample + transform) * 8,
                          transforms_per_sample * 8,
                          *stream};
    return job;
}

extern "C" ohm_cuda_status ohm_normals_fast_cuda(float *z, size_t ldz, uint64_t first_sample,
                                                 size_t samples, uint64_t transform,
                                                 uint64_t transforms_per_sample,
                                                 const ohm_stream *stream, ohm_cuda_stream s)
{
    return OHM_LAUNCH(
        fast_mma, blocks_for(samples, WARPS * SAMPLES_OF_WARP), THREADS, 0, s,
        job_of(z, ldz, first_sample, samples, transform, transforms_per_sample, stream));
}

extern "C" ohm_cuda_status ohm_normals_fast_simple_cuda(float *z, size_t ldz, uint64_t first_sample,
                                                        size_t samples, uint64_t transform,
                                                        uint64_t transforms_per_sample,
                                                        const ohm_stream *stream, ohm_cuda_stream s)
{
    return OHM_LAUNCH(
        fast_simple, static_cast<unsigned>(samples), OHM_NORMALS_BLOCK, 0, s,
        job_of(z, ldz, first_sample, samples, transform, transforms_per_sample, stream));
}
