/* Both generators in plain C. Included by normals_simd.c alone. The loops run over independent
 * blocks or lanes so that a compiler can vectorise them. */
#ifndef OHM_KERNELS_NORMALS_PORTABLE_H
#define OHM_KERNELS_NORMALS_PORTABLE_H

#include "kernels/normals.h"
#include "kernels/normals_math.h"

enum { CHUNK = 64 }; /* Philox blocks per pass */

static void exact_blocks(float *restrict z, uint64_t block, size_t blocks, const ohm_stream *s)
{
    uint32_t word[4][CHUNK];
    float out[4][CHUNK];
    for (size_t at = 0; at < blocks; at += CHUNK) {
        size_t n = blocks - at < CHUNK ? blocks - at : CHUNK;
        for (size_t i = 0; i < n; i++) {
            uint32_t w[4];
            ohm_stream_block(w, s, block + at + i);
            for (int k = 0; k < 4; k++)
                word[k][i] = w[k];
        }
        for (int k = 0; k < 4; k += 2)
            for (size_t i = 0; i < n; i++)
                ohm_normal_pair(&out[k][i], &out[k + 1][i], word[k][i], word[k + 1][i]);
        for (size_t i = 0; i < n; i++)
            for (int k = 0; k < 4; k++)
                z[(at + i) * 4 + (size_t)k] = out[k][i];
    }
}

static void fast_transform(float *restrict z, uint64_t first_block, const ohm_stream *s)
{
    int16_t v[OHM_NORMALS_BLOCK];
    for (unsigned c = 0; c < 8; c++) {
        uint32_t word[4];
        ohm_stream_block(word, s, first_block + c);
        for (unsigned i = 0; i < 16; i++)
            v[16 * c + i] = (int16_t)ohm_fast_value((uint8_t)(word[i / 4] >> 8 * (i % 4)));
    }
    for (unsigned half = 1; half < OHM_NORMALS_BLOCK; half *= 2)
        for (unsigned i = 0; i < OHM_NORMALS_BLOCK; i += 2 * half)
            for (unsigned j = i; j < i + half; j++) {
                int16_t a = v[j], b = v[j + half];
                v[j] = (int16_t)(a + b);
                v[j + half] = (int16_t)(a - b);
            }
    for (unsigned j = 0; j < OHM_NORMALS_BLOCK; j++)
        z[j] = (float)v[j] * (ohm_fast_negative(j) ? -OHM_FAST_SCALE : OHM_FAST_SCALE);
}

static void fast_transforms(float *z, size_t ldz, uint64_t first_block, uint64_t stride,
                            size_t transforms, const ohm_stream *s)
{
    for (size_t i = 0; i < transforms; i++)
        fast_transform(z + i * ldz, first_block + i * stride, s);
}

#endif
