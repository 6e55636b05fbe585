#include "kernels/normals.h"
#include "kernels/normals_math.h"

void ohm_normals_exact_ref(float *z, uint64_t first, size_t count, const ohm_stream *s)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t element = first + i;
        uint32_t word[4];
        float pair[2];
        ohm_stream_block(word, s, element >> 2);
        unsigned at = element & 2;
        ohm_normal_pair(&pair[0], &pair[1], word[at], word[at + 1]);
        z[i] = pair[element & 1];
    }
}

static void fast_block(int *sum, uint64_t first_block, const ohm_stream *s)
{
    int value[OHM_NORMALS_BLOCK];
    for (unsigned i = 0; i < OHM_NORMALS_BLOCK; i++) {
        uint32_t word[4];
        ohm_stream_block(word, s, first_block + i / 16);
        value[i] = ohm_fast_value((uint8_t)(word[i / 4 % 4] >> 8 * (i % 4)));
    }
    for (unsigned j = 0; j < OHM_NORMALS_BLOCK; j++) {
        sum[j] = 0;
        for (unsigned i = 0; i < OHM_NORMALS_BLOCK; i++)
            sum[j] += __builtin_parity(i & j) ? -value[i] : value[i];
    }
}

void ohm_normals_fast_int(int16_t *v, size_t ldv, uint64_t first_sample, size_t samples,
                          uint64_t transform, uint64_t transforms_per_sample, const ohm_stream *s)
{
    for (size_t i = 0; i < samples; i++) {
        int sum[OHM_NORMALS_BLOCK];
        fast_block(sum, ((first_sample + i) * transforms_per_sample + transform) * 8, s);
        for (unsigned j = 0; j < OHM_NORMALS_BLOCK; j++)
            v[i * ldv + j] = (int16_t)(ohm_fast_negative(j) ? -sum[j] : sum[j]);
    }
}

void ohm_normals_fast_ref(float *z, size_t ldz, uint64_t first_sample, size_t samples,
                          uint64_t transform, uint64_t transforms_per_sample, const ohm_stream *s)
{
    for (size_t i = 0; i < samples; i++) {
        int sum[OHM_NORMALS_BLOCK];
        fast_block(sum, ((first_sample + i) * transforms_per_sample + transform) * 8, s);
        for (unsigned j = 0; j < OHM_NORMALS_BLOCK; j++)
            z[i * ldz + j] =
                (float)sum[j] * (ohm_fast_negative(j) ? -OHM_FAST_SCALE : OHM_FAST_SCALE);
    }
}
