/* The arithmetic of both generators, one element at a time, in operations that round the same way
 * everywhere: integer, IEEE add, multiply, square root and fused multiply-add. The vector versions
 * repeat exactly these operations in exactly this order. */
#ifndef OHM_KERNELS_NORMALS_MATH_H
#define OHM_KERNELS_NORMALS_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/portable.h"

/* Minimax coefficients, fitted in double and rounded to float.
 * -2 log(1 + f) / f on [sqrt(1/2) - 1, sqrt(2) - 1], relative error 3e-8. */
#define OHM_LOG_0 (-0x1.000000p+1f)
#define OHM_LOG_1 (0x1.fffff8p-1f)
#define OHM_LOG_2 (-0x1.555792p-1f)
#define OHM_LOG_3 (0x1.000570p-1f)
#define OHM_LOG_4 (-0x1.98b748p-2f)
#define OHM_LOG_5 (0x1.5332a2p-2f)
#define OHM_LOG_6 (-0x1.3238f2p-2f)
#define OHM_LOG_7 (0x1.263baap-2f)
#define OHM_LOG_8 (-0x1.654496p-3f)
#define OHM_MINUS_2LN2 (-0x1.62e430p+0f)
/* sin(pi/2 t) / t in t^2 on |t| <= 1/2, absolute error 5e-9. */
#define OHM_SIN_0 (0x1.921fb6p+0f)
#define OHM_SIN_1 (-0x1.4abbbap-1f)
#define OHM_SIN_2 (0x1.465ec6p-4f)
#define OHM_SIN_3 (-0x1.2d9bb8p-8f)
/* (cos(pi/2 t) - 1) / t^2 in t^2 on |t| <= 1/2, absolute error of the cosine 4e-8. */
#define OHM_COS_1 (-0x1.3bd3a6p+0f)
#define OHM_COS_2 (0x1.03b256p-2f)
#define OHM_COS_3 (-0x1.4ed2eap-6f)
/* sqrt(1/2) as the bits of a float. From here on u - 1 is formed from the complement of the word. */
#define OHM_LOG_TOP_BITS 0x3F3504F3

/* 1 / sqrt(128 * 6825): the variance of a byte's value is 6825, and 128 of them are summed. */
#define OHM_FAST_SCALE (0x1.1877dcp-10f)

OHM_INLINE float ohm_float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

OHM_INLINE uint32_t ohm_bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* sqrt(-2 ln u), u = (word + 1/2) / 2^32. */
OHM_INLINE float ohm_normal_radius(uint32_t word)
{
    float u = fmaf((float)word, 0x1p-32f, 0x1p-33f);
    float above = fmaf((float)(int32_t)~word, -0x1p-32f, -0x1p-33f);
    int32_t bits = (int32_t)ohm_bits_of_float(u);
    int32_t exponent = (bits - OHM_LOG_TOP_BITS) >> 23;
    float mantissa = ohm_float_of_bits((uint32_t)bits - ((uint32_t)exponent << 23));
    uint32_t high = 0u - (uint32_t)(bits >= OHM_LOG_TOP_BITS); /* a select that vectorises */
    float f = ohm_float_of_bits((ohm_bits_of_float(above) & high) |
                                (ohm_bits_of_float(mantissa - 1.0f) & ~high));
    float p = OHM_LOG_8;
    p = fmaf(p, f, OHM_LOG_7);
    p = fmaf(p, f, OHM_LOG_6);
    p = fmaf(p, f, OHM_LOG_5);
    p = fmaf(p, f, OHM_LOG_4);
    p = fmaf(p, f, OHM_LOG_3);
    p = fmaf(p, f, OHM_LOG_2);
    p = fmaf(p, f, OHM_LOG_1);
    p = fmaf(p, f, OHM_LOG_0);
    return sqrtf(fmaf((float)exponent, OHM_MINUS_2LN2, p * f));
}

/* One Box-Muller pair. The top two bits of `angle` choose the quarter turn, the other thirty the
 * place t in it, centred: every angle occurs once. */
OHM_INLINE void ohm_normal_pair(float *cosine, float *sine, uint32_t radius, uint32_t angle)
{
    float r = ohm_normal_radius(radius);
    float t = (float)(int32_t)(angle << 2 | 2) * 0x1p-32f;
    float y = t * t;
    float s = fmaf(fmaf(fmaf(OHM_SIN_3, y, OHM_SIN_2), y, OHM_SIN_1), y, OHM_SIN_0) * t;
    float c = fmaf(fmaf(fmaf(OHM_COS_3, y, OHM_COS_2), y, OHM_COS_1), y, 1.0f);
    uint32_t odd = 0u - (angle >> 30 & 1);
    uint32_t sb = ohm_bits_of_float(s), cb = ohm_bits_of_float(c);
    uint32_t swap = (sb ^ cb) & odd;
    uint32_t cosine_sign = (angle + 0x40000000u) & 0x80000000u;
    uint32_t sine_sign = angle & 0x80000000u;
    *cosine = r * ohm_float_of_bits((cb ^ swap) ^ cosine_sign);
    *sine = r * ohm_float_of_bits((sb ^ swap) ^ sine_sign);
}

/* Value of a byte before the transform: odd, |v| <= 189, variance 6825, kurtosis near 0 excess. */
OHM_INLINE int ohm_fast_value(uint8_t byte)
{
    int u = 2 * (byte & 63) - 63;
    return byte & 128 ? 3 * u : u;
}

/* 1 where output j changes sign: j0 j1 ^ j2 j3 ^ j4 j5 ^ j6 j0. */
OHM_INLINE int ohm_fast_negative(unsigned j)
{
    return ((j & j >> 1) ^ (j >> 2 & j >> 3) ^ (j >> 4 & j >> 5) ^ (j >> 6 & j)) & 1;
}

#endif
