/* Both generators with AVX-512 (F, BW, DQ). Included by normals_simd.c alone.
 *
 * Philox keeps eight blocks in eight 64-bit lanes: one vpmuludq gives both halves of a product, and
 * what stands in the upper half of a lane is never read. */
#ifndef OHM_KERNELS_NORMALS_AVX512_H
#define OHM_KERNELS_NORMALS_AVX512_H

#include <immintrin.h>

#include "kernels/normals.h"
#include "kernels/normals_math.h"

/* Truth tables of vpternlog. */
enum { XOR3 = 0x96, XOR_OF_AND = 0x78 }; /* a ^ b ^ c, a ^ (b & c) */

/* A stream with its key schedule spread over the lanes. */
typedef struct {
    __m512i key[2 * 10], site, where, step;
} wide_stream;

static inline wide_stream widen_stream(const ohm_stream *s)
{
    wide_stream wide = {.site = _mm512_set1_epi64(s->site),
                        .where = _mm512_set1_epi64(s->where),
                        .step = _mm512_set1_epi64(s->step)};
    for (uint32_t round = 0; round < 10; round++) {
        wide.key[2 * round] = _mm512_set1_epi32((int)(s->key[0] + round * OHM_PHILOX_W0));
        wide.key[2 * round + 1] = _mm512_set1_epi32((int)(s->key[1] + round * OHM_PHILOX_W1));
    }
    return wide;
}

/* Words 0..3 of the blocks in the lanes of block[way], each in the lower half of its lane. The ways
 * are independent: one alone would wait for its own multiplications. */
enum { WAYS = 2 };
static inline void philox8(__m512i word[WAYS][4], const __m512i block[WAYS], const wide_stream *s)
{
    const __m512i m0 = _mm512_set1_epi64(OHM_PHILOX_M0), m1 = _mm512_set1_epi64(OHM_PHILOX_M1);
    for (int way = 0; way < WAYS; way++) {
        __m512i high = _mm512_slli_epi64(_mm512_srli_epi64(block[way], 32), 8);
        word[way][0] = block[way];
        word[way][1] = _mm512_or_si512(high, s->site);
        word[way][2] = s->where;
        word[way][3] = s->step;
    }
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++)
#pragma GCC unroll 2
        for (int way = 0; way < WAYS; way++) {
            __m512i *c = word[way];
            __m512i p0 = _mm512_mul_epu32(c[0], m0), p1 = _mm512_mul_epu32(c[2], m1);
            __m512i high0 = _mm512_srli_epi64(p0, 32), high1 = _mm512_srli_epi64(p1, 32);
            c[0] = _mm512_ternarylogic_epi64(high1, c[1], s->key[2 * round], XOR3);
            c[2] = _mm512_ternarylogic_epi64(high0, c[3], s->key[2 * round + 1], XOR3);
            c[1] = p1;
            c[3] = p0;
        }
}

/* Lower halves of the lanes of `even` and `odd`, side by side. */
static inline __m512i pair_words(__m512i even, __m512i odd)
{
    return _mm512_mask_shuffle_epi32(even, 0xAAAA, odd, _MM_PERM_CCAA);
}

/* ---- exact ---------------------------------------------------------------------------------- */

static inline __m512 radius16(__m512i word)
{
#define CONSTANT(x) _mm512_set1_ps(x)
    const __m512i top = _mm512_set1_epi32(OHM_LOG_TOP_BITS);
    __m512 u = _mm512_fmadd_ps(_mm512_cvtepu32_ps(word), CONSTANT(0x1p-32f), CONSTANT(0x1p-33f));
    __m512i complement = _mm512_xor_si512(word, _mm512_set1_epi32(-1));
    __m512 above =
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(complement), CONSTANT(-0x1p-32f), CONSTANT(-0x1p-33f));
    __m512i bits = _mm512_castps_si512(u);
    __m512i exponent = _mm512_srai_epi32(_mm512_sub_epi32(bits, top), 23);
    __m512 mantissa = _mm512_castsi512_ps(_mm512_sub_epi32(bits, _mm512_slli_epi32(exponent, 23)));
    __mmask16 high = _mm512_cmpge_epi32_mask(bits, top);
    __m512 f = _mm512_mask_mov_ps(_mm512_sub_ps(mantissa, CONSTANT(1.0f)), high, above);
    __m512 p = CONSTANT(OHM_LOG_8);
    p = _mm512_fmadd_ps(p, f, CONSTANT(OHM_LOG_7));
    p = _mm512_fmadd_ps(p, f, CONSTANT(OHM_LOG_6));
    p = _mm512_fmadd_ps(p, f, CONSTANT(OHM_LOG_5));
    p = _mm512_fmadd_ps(p, f, CONSTANT(OHM_LOG_4));
    p = _mm512_fmadd_ps(p, f, CONSTANT(OHM_LOG_3));
    p = _mm512_fmadd_ps(p, f, CONSTANT(OHM_LOG_2));
    p = _mm512_fmadd_ps(p, f, CONSTANT(OHM_LOG_1));
    p = _mm512_fmadd_ps(p, f, CONSTANT(OHM_LOG_0));
    return _mm512_sqrt_ps(_mm512_fmadd_ps(_mm512_cvtepi32_ps(exponent), CONSTANT(OHM_MINUS_2LN2),
                                          _mm512_mul_ps(p, f)));
}

static inline void pair16(__m512 *cosine, __m512 *sine, __m512i radius, __m512i angle)
{
    const __m512i sign = _mm512_set1_epi32(INT32_MIN), quarter = _mm512_set1_epi32(1 << 30);
    __m512 r = radius16(radius);
    __m512i place = _mm512_or_si512(_mm512_slli_epi32(angle, 2), _mm512_set1_epi32(2));
    __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(place), CONSTANT(0x1p-32f));
    __m512 y = _mm512_mul_ps(t, t);
    __m512 s = _mm512_fmadd_ps(CONSTANT(OHM_SIN_3), y, CONSTANT(OHM_SIN_2));
    __m512 c = _mm512_fmadd_ps(CONSTANT(OHM_COS_3), y, CONSTANT(OHM_COS_2));
    s = _mm512_fmadd_ps(s, y, CONSTANT(OHM_SIN_1));
    c = _mm512_fmadd_ps(c, y, CONSTANT(OHM_COS_1));
    s = _mm512_mul_ps(_mm512_fmadd_ps(s, y, CONSTANT(OHM_SIN_0)), t);
    c = _mm512_fmadd_ps(c, y, CONSTANT(1.0f));
    __mmask16 odd = _mm512_test_epi32_mask(angle, quarter);
    __m512i cosine_bits = _mm512_castps_si512(_mm512_mask_mov_ps(c, odd, s));
    __m512i sine_bits = _mm512_castps_si512(_mm512_mask_mov_ps(s, odd, c));
    __m512i ahead = _mm512_add_epi32(angle, quarter);
    cosine_bits = _mm512_ternarylogic_epi32(cosine_bits, ahead, sign, XOR_OF_AND);
    sine_bits = _mm512_ternarylogic_epi32(sine_bits, angle, sign, XOR_OF_AND);
    *cosine = _mm512_mul_ps(r, _mm512_castsi512_ps(cosine_bits));
    *sine = _mm512_mul_ps(r, _mm512_castsi512_ps(sine_bits));
#undef CONSTANT
}

/* 64 normals of the 16 blocks from `block` on. */
static inline void exact_sixteen(float *z, uint64_t block, const wide_stream *s)
{
    /* In this order the interleaving below leaves the blocks in sequence. */
    const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    __m512i at[WAYS], word[WAYS][4];
    for (int way = 0; way < WAYS; way++)
        at[way] = _mm512_add_epi64(_mm512_set1_epi64((long long)block + 8 * way), order);
    philox8(word, at, s);
    for (int way = 0; way < WAYS; way++) {
        __m512i *w = word[way];
        __m512 cosine, sine;
        pair16(&cosine, &sine, pair_words(w[0], w[2]), pair_words(w[1], w[3]));
        _mm512_storeu_ps(z + 32 * way, _mm512_unpacklo_ps(cosine, sine));
        _mm512_storeu_ps(z + 32 * way + 16, _mm512_unpackhi_ps(cosine, sine));
    }
}

static void exact_blocks(float *z, uint64_t block, size_t blocks, const ohm_stream *s)
{
    const wide_stream wide = widen_stream(s);
    size_t at = 0;
    for (; at + 16 <= blocks; at += 16)
        exact_sixteen(z + at * 4, block + at, &wide);
    if (at < blocks) {
        float rest[64];
        exact_sixteen(rest, block + at, &wide);
        memcpy(z + at * 4, rest, (blocks - at) * 4 * sizeof *z);
    }
}

/* ---- fast ----------------------------------------------------------------------------------- */

/* (a, b) <- (a + b, a - b) */
static inline void butterfly(__m512i *a, __m512i *b)
{
    __m512i sum = _mm512_add_epi16(*a, *b);
    *b = _mm512_sub_epi16(*a, *b);
    *a = sum;
}

/* (v + 189) / 2 of every byte, v the value of normals_math.h: 3a where bit 7 is set, else a + 63. */
static inline __m512i raised_values(__m512i bytes)
{
    __m512i a = _mm512_and_si512(bytes, _mm512_set1_epi8(63));
    __m512i plain = _mm512_add_epi8(a, _mm512_set1_epi8(63));
    return _mm512_mask_add_epi8(plain, _mm512_movepi8_mask(bytes), a, _mm512_add_epi8(a, a));
}

/* Where lane w1 w0 k1 k0 c2 comes from: register k1, lane c2 c1 w0 w1 k0. */
static inline __m512i sorted_lanes(int c1)
{
#define LANES(w1, w0, k1, k0) (0x00100000 + 0x00010001 * (32 * (k1) + 4 * (w0) + 2 * (w1) + (k0)))
    const __m512i from = _mm512_setr_epi32(
        LANES(0, 0, 0, 0), LANES(0, 0, 0, 1), LANES(0, 0, 1, 0), LANES(0, 0, 1, 1),
        LANES(0, 1, 0, 0), LANES(0, 1, 0, 1), LANES(0, 1, 1, 0), LANES(0, 1, 1, 1),
        LANES(1, 0, 0, 0), LANES(1, 0, 0, 1), LANES(1, 0, 1, 0), LANES(1, 0, 1, 1),
        LANES(1, 1, 0, 0), LANES(1, 1, 0, 1), LANES(1, 1, 1, 0), LANES(1, 1, 1, 1));
#undef LANES
    return _mm512_add_epi16(from, _mm512_set1_epi16((short)(8 * c1)));
}

/* z[0..15] = sums times scale, negative where the mask is set (ohm_fast_negative of 16 outputs). */
static inline void store_sixteen(float *z, __m512i sums, __mmask16 negative)
{
    const __m512 scale = _mm512_mask_blend_ps(negative, _mm512_set1_ps(OHM_FAST_SCALE),
                                              _mm512_set1_ps(-OHM_FAST_SCALE));
    _mm512_storeu_ps(z, _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale));
}

/* One transform of the words that philox8 gave for its eight blocks. Its seven index bits are c2 c1 c0 (block), w1 w0 (word), k1 k0 (byte). A bit is
 * transformed while it tells registers apart, r[2 * first + second]; the comments name the two bits
 * that do, then the five of the int16 lanes, highest first. */
static inline void fast_transform(float *z, const __m512i word[4])
{
    const __m512i twice = _mm512_set1_epi8(2), twice_minus = _mm512_set1_epi16((short)0xFE02);
    __m512i r[4], t[4];

    /* Bit k0, within byte pairs, doubled on the way: w1 k0 | c2 c1 c0 w0 k1. */
    for (int w = 0; w < 2; w++) {
        __m512i values = raised_values(pair_words(word[2 * w], word[2 * w + 1]));
        r[2 * w] = _mm512_maddubs_epi16(values, twice);
        r[2 * w + 1] = _mm512_maddubs_epi16(values, twice_minus);
    }
    butterfly(&r[0], &r[2]);
    butterfly(&r[1], &r[3]);
    r[0] = _mm512_sub_epi16(r[0], _mm512_set1_epi16(4 * 189)); /* lower the raised values again */

    /* k0 down, c0 up: w1 c0 | c2 c1 w0 k1 k0. */
    for (int i = 0; i < 4; i += 2) {
        t[i] = _mm512_unpacklo_epi16(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi16(r[i], r[i + 1]);
        butterfly(&t[i], &t[i + 1]);
    }
    /* w1 down, w0 up: w0 c0 | c2 c1 k1 w1 k0. */
    for (int i = 0; i < 2; i++) {
        r[i] = _mm512_unpacklo_epi32(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpackhi_epi32(t[i], t[i + 2]);
        butterfly(&r[i], &r[i + 2]);
    }
    /* w0 down, k1 up: k1 c0 | c2 c1 w0 w1 k0. */
    for (int i = 0; i < 2; i++) {
        t[i] = _mm512_unpacklo_epi64(r[i], r[i + 2]);
        t[i + 2] = _mm512_unpackhi_epi64(r[i], r[i + 2]);
        butterfly(&t[i], &t[i + 2]);
    }
    /* k1 down, c1 up, and the lanes sorted: c1 c0 | w1 w0 k1 k0 c2. */
    for (int i = 0; i < 2; i++) {
        r[i] = _mm512_permutex2var_epi16(t[i], sorted_lanes(0), t[i + 2]);
        r[i + 2] = _mm512_permutex2var_epi16(t[i], sorted_lanes(1), t[i + 2]);
        butterfly(&r[i], &r[i + 2]);
    }
    /* c2, within lane pairs, widening: the registers are c2 c1 c0 and the lanes w1 w0 k1 k0. */
    const __m512i plus = _mm512_set1_epi16(1), minus = _mm512_set1_epi32((int)0xFFFF0001);
    for (int c = 0; c < 4; c++) {
        store_sixteen(z + 16 * c, _mm512_madd_epi16(r[c], plus), c == 3 ? 0x8777 : 0x7888);
        store_sixteen(z + 64 + 16 * c, _mm512_madd_epi16(r[c], minus), c == 3 ? 0x2DDD : 0xD222);
    }
}

/* `transforms` of them, rows of z ldz apart, first blocks `stride` apart. */
static void fast_transforms(float *z, size_t ldz, uint64_t first_block, uint64_t stride,
                            size_t transforms, const ohm_stream *s)
{
    const __m512i lanes = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    const wide_stream wide = widen_stream(s);
    for (size_t i = 0; i < transforms; i += WAYS) {
        __m512i at[WAYS], word[WAYS][4];
        for (size_t way = 0; way < WAYS; way++) {
            uint64_t block = first_block + (i + way) * stride;
            at[way] = _mm512_add_epi64(_mm512_set1_epi64((long long)block), lanes);
        }
        philox8(word, at, &wide);
        for (size_t way = 0; way < WAYS && i + way < transforms; way++)
            fast_transform(z + (i + way) * ldz, word[way]);
    }
}

#endif
