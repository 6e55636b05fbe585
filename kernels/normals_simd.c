/* Both generators, compiled once per instruction set: the addressing is here, what one set does with
 * whole blocks in the included file. */
#include "kernels/normals.h"

#if defined(__AVX512BW__) && defined(__AVX512DQ__)
#include "kernels/normals_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#include "kernels/normals_avx2.h"
#else
#include "kernels/normals_portable.h"
#endif

static void exact(float *z, uint64_t first, size_t count, const ohm_stream *s)
{
    float edge[4];
    size_t head = (4 - (first & 3)) & 3;
    if (head > count)
        head = count;
    if (head) {
        exact_blocks(edge, first >> 2, 1, s);
        for (size_t i = 0; i < head; i++)
            z[i] = edge[(first & 3) + i];
    }
    size_t blocks = (count - head) / 4;
    exact_blocks(z + head, (first + head) >> 2, blocks, s);
    size_t done = head + 4 * blocks;
    if (done < count) {
        exact_blocks(edge, (first + done) >> 2, 1, s);
        for (size_t i = done; i < count; i++)
            z[i] = edge[i - done];
    }
}

static void fast(float *z, size_t ldz, uint64_t first_sample, size_t samples, uint64_t transform,
                 uint64_t transforms_per_sample, const ohm_stream *s)
{
    fast_transforms(z, ldz, (first_sample * transforms_per_sample + transform) * 8,
                    transforms_per_sample * 8, samples, s);
}

const ohm_normals_kernels OHM_SIMD(ohm_normals_kernels) = {exact, fast};
