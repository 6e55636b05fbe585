/* Both generators with AVX2 and FMA. Included by normals_simd.c alone. The scheme is that of
 * normals_avx512.h on registers of half the width. */
#ifndef OHM_KERNELS_NORMALS_AVX2_H
#define OHM_KERNELS_NORMALS_AVX2_H

#include <immintrin.h>

#include "kernels/normals.h"
#include "kernels/normals_math.h"

/* A stream with its key schedule spread over the lanes. */
typedef struct {
    __m256i key[2 * 10], site, where, step;
} wide_stream;

static inline wide_stream widen_stream(const ohm_stream *s)
{
    wide_stream wide = {.site = _mm256_set1_epi64x(s->site),
                        .where = _mm256_set1_epi64x(s->where),
                        .step = _mm256_set1_epi64x(s->step)};
    for (uint32_t round = 0; round < 10; round++) {
        wide.key[2 * round] = _mm256_set1_epi32((int)(s->key[0] + round * OHM_PHILOX_W0));
        wide.key[2 * round + 1] = _mm256_set1_epi32((int)(s->key[1] + round * OHM_PHILOX_W1));
    }
    return wide;
}

static inline __m256i xor3(__m256i a, __m256i b, __m256i c)
{
    return _mm256_xor_si256(_mm256_xor_si256(a, b), c);
}

/* Words 0..3 of eight blocks: way 0 those of first + order, way 1 those of first + 4 + order. */
enum { WAYS = 2 };
static inline void philox8(__m256i word[WAYS][4], uint64_t first, __m256i order,
                           const wide_stream *s)
{
    const __m256i m0 = _mm256_set1_epi64x(OHM_PHILOX_M0), m1 = _mm256_set1_epi64x(OHM_PHILOX_M1);
    for (int way = 0; way < WAYS; way++) {
        __m256i block = _mm256_add_epi64(_mm256_set1_epi64x((long long)first + 4 * way), order);
        word[way][0] = block;
        word[way][1] = _mm256_or_si256(_mm256_slli_epi64(_mm256_srli_epi64(block, 32), 8), s->site);
        word[way][2] = s->where;
        word[way][3] = s->step;
    }
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++)
#pragma GCC unroll 2
        for (int way = 0; way < WAYS; way++) {
            __m256i *c = word[way];
            __m256i p0 = _mm256_mul_epu32(c[0], m0), p1 = _mm256_mul_epu32(c[2], m1);
            c[0] = xor3(_mm256_srli_epi64(p1, 32), c[1], s->key[2 * round]);
            c[2] = xor3(_mm256_srli_epi64(p0, 32), c[3], s->key[2 * round + 1]);
            c[1] = p1;
            c[3] = p0;
        }
}

/* ---- exact ---------------------------------------------------------------------------------- */

enum { CHUNK = 32 }; /* blocks whose words wait in the first cache */

/* The arithmetic is left to the compiler: plain loops over the words of CHUNK blocks. */
static inline void exact_chunk(float *z, uint64_t block, const wide_stream *s)
{
    const __m256i order = _mm256_setr_epi64x(0, 2, 1, 3); /* undone by the interleaving below */
    uint32_t radius[2 * CHUNK], angle[2 * CHUNK];
    float cosine[2 * CHUNK], sine[2 * CHUNK];
    for (int at = 0; at < CHUNK; at += 8) {
        __m256i word[WAYS][4];
        philox8(word, block + (uint64_t)at, order, s);
        for (int way = 0; way < WAYS; way++) {
            __m256i *w = word[way];
            int to = 2 * at + 8 * way;
            __m256i radii = _mm256_blend_epi32(w[0], _mm256_slli_epi64(w[2], 32), 0xAA);
            __m256i angles = _mm256_blend_epi32(w[1], _mm256_slli_epi64(w[3], 32), 0xAA);
            _mm256_storeu_si256((__m256i *)(radius + to), radii);
            _mm256_storeu_si256((__m256i *)(angle + to), angles);
        }
    }
    for (int i = 0; i < 2 * CHUNK; i++)
        ohm_normal_pair(&cosine[i], &sine[i], radius[i], angle[i]);
    for (int i = 0; i < 2 * CHUNK; i += 8) {
        __m256 c = _mm256_loadu_ps(cosine + i), si = _mm256_loadu_ps(sine + i);
        _mm256_storeu_ps(z + 2 * i, _mm256_unpacklo_ps(c, si));
        _mm256_storeu_ps(z + 2 * i + 8, _mm256_unpackhi_ps(c, si));
    }
}

static void exact_blocks(float *z, uint64_t block, size_t blocks, const ohm_stream *s)
{
    const wide_stream wide = widen_stream(s);
    size_t at = 0;
    for (; at + CHUNK <= blocks; at += CHUNK)
        exact_chunk(z + at * 4, block + at, &wide);
    if (at < blocks) {
        float rest[4 * CHUNK];
        exact_chunk(rest, block + at, &wide);
        memcpy(z + at * 4, rest, (blocks - at) * 4 * sizeof *z);
    }
}

/* ---- fast ----------------------------------------------------------------------------------- */

/* (a, b) <- (a + b, a - b) */
static inline void butterfly(__m256i *a, __m256i *b)
{
    __m256i sum = _mm256_add_epi16(*a, *b);
    *b = _mm256_sub_epi16(*a, *b);
    *a = sum;
}

/* (v + 189) / 2 of every byte, v the value of normals_math.h: 3a where bit 7 is set, else a + 63. */
static inline __m256i raised_values(__m256i bytes)
{
    __m256i a = _mm256_and_si256(bytes, _mm256_set1_epi8(63));
    __m256i more = _mm256_blendv_epi8(_mm256_set1_epi8(63), _mm256_add_epi8(a, a), bytes);
    return _mm256_add_epi8(a, more);
}

/* Words `even` and `odd` of four blocks, bytes in the order c1 w0 k1 c0 k0 of their index bits. */
static inline __m256i sorted_bytes(__m256i even, __m256i odd)
{
    const __m256i order = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
    __m256 words = _mm256_shuffle_ps(_mm256_castsi256_ps(even), _mm256_castsi256_ps(odd), 0x88);
    return _mm256_shuffle_epi8(_mm256_castps_si256(words), order);
}

/* z[0..7] = sums times scale with the signs of outputs first .. first + 7. */
static inline void store_eight(float *z, __m128i sums, unsigned first)
{
    float scale[8];
    for (unsigned j = 0; j < 8; j++)
        scale[j] = ohm_fast_negative(first + j) ? -OHM_FAST_SCALE : OHM_FAST_SCALE;
    __m256 value = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(sums));
    _mm256_storeu_ps(z + first, _mm256_mul_ps(value, _mm256_loadu_ps(scale)));
}

/* One transform of the words that philox8 gave for its eight blocks. Its seven index bits are
 * c2 c1 c0 (block), w1 w0 (word), k1 k0 (byte). A bit is transformed while it tells registers apart,
 * r[4 * first + 2 * second + third]; the comments name the three bits that do, then the four of the
 * int16 lanes, highest first. */
static inline void fast_transform(float *z, __m256i word[WAYS][4])
{
    const __m256i twice = _mm256_set1_epi8(2), twice_minus = _mm256_set1_epi16((short)0xFE02);
    __m256i r[8], t[8];

    /* Bit k0, within byte pairs, doubled on the way: c2 w1 k0 | c1 w0 k1 c0. */
    for (int i = 0; i < 4; i++) {
        const __m256i *w = &word[i / 2][i % 2 * 2];
        __m256i values = raised_values(sorted_bytes(w[0], w[1]));
        r[2 * i] = _mm256_maddubs_epi16(values, twice);
        r[2 * i + 1] = _mm256_maddubs_epi16(values, twice_minus);
    }
    for (int i = 0; i < 4; i++)
        butterfly(&r[i], &r[i + 4]);
    for (int i = 0; i < 4; i++) {
        int w1_clear = i < 2 ? i : i + 2; /* registers 0, 1, 4, 5 */
        butterfly(&r[w1_clear], &r[w1_clear + 2]);
    }
    r[0] = _mm256_sub_epi16(r[0], _mm256_set1_epi16(8 * 189)); /* lower the raised values again */

    /* k0 down, w0 up: c2 w1 w0 | c1 k1 c0 k0. */
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi16(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi16(r[i], r[i + 1]);
        butterfly(&t[i], &t[i + 1]);
    }
    /* w0 down, k1 up: c2 w1 k1 | c1 c0 w0 k0. */
    for (int i = 0; i < 8; i += 2) {
        r[i] = _mm256_unpacklo_epi32(t[i], t[i + 1]);
        r[i + 1] = _mm256_unpackhi_epi32(t[i], t[i + 1]);
        butterfly(&r[i], &r[i + 1]);
    }
    /* k1 down, c0 up: c2 w1 c0 | c1 w0 k1 k0. */
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
        butterfly(&t[i], &t[i + 1]);
    }
    /* c0 down, c1 up: c2 w1 c1 | c0 w0 k1 k0. */
    for (int i = 0; i < 8; i += 2) {
        r[i] = _mm256_permute2x128_si256(t[i], t[i + 1], 0x20);
        r[i + 1] = _mm256_permute2x128_si256(t[i], t[i + 1], 0x31);
        butterfly(&r[i], &r[i + 1]);
    }
#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++) {
        unsigned first = 64 * (i >> 2) + 8 * (i >> 1 & 1) + 32 * (i & 1);
        store_eight(z, _mm256_castsi256_si128(r[i]), first);
        store_eight(z, _mm256_extracti128_si256(r[i], 1), first + 16);
    }
}

/* `transforms` of them, rows of z ldz apart, first blocks `stride` apart. */
static void fast_transforms(float *z, size_t ldz, uint64_t first_block, uint64_t stride,
                            size_t transforms, const ohm_stream *s)
{
    const __m256i order = _mm256_setr_epi64x(0, 1, 2, 3);
    const wide_stream wide = widen_stream(s);
    for (size_t i = 0; i < transforms; i++) {
        __m256i word[WAYS][4];
        philox8(word, first_block + i * stride, order, &wide);
        fast_transform(z + i * ldz, word);
    }
}

#endif
