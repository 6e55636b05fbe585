/* Half precision (IEEE binary16) in integer arithmetic, the same on every compiler and device. */
#ifndef OHM_KERNELS_HALF_MATH_H
#define OHM_KERNELS_HALF_MATH_H

#include <stdint.h>

#include "kernels/normals_math.h"

/* Bits of the half nearest to x, ties to even; beyond 65504 the largest half, NaN stays one. */
OHM_INLINE uint16_t ohm_half_bits(float x)
{
    uint32_t bits = ohm_bits_of_float(x), sign = bits >> 16 & 0x8000u, size = bits & 0x7FFFFFFFu;
    if (size > 0x7F800000u)
        return (uint16_t)(sign | 0x7E00u);
    if (size >= 0x477FF000u) /* 65520 and above */
        return (uint16_t)(sign | 0x7BFFu);
    if (size < 0x38800000u) { /* below 2^-14 the step is 2^-24: adding 1/2 leaves that many bits */
        float shifted = ohm_float_of_bits(size) + 0.5f;
        return (uint16_t)(sign | (ohm_bits_of_float(shifted) - 0x3F000000u));
    }
    uint32_t odd = size >> 13 & 1u;
    return (uint16_t)(sign | ((size - 0x38000000u + 0xFFFu + odd) >> 13));
}

OHM_INLINE float ohm_half_value(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, size = half & 0x7FFFu;
    if (size >= 0x7C00u)
        return ohm_float_of_bits(sign | 0x7F800000u | (size & 0x3FFu) << 13);
    if (size < 0x400u)
        return (sign ? -1.0f : 1.0f) * (float)size * 0x1p-24f;
    return ohm_float_of_bits(sign | ((size << 13) + 0x38000000u));
}

/* x in half precision. */
OHM_INLINE float ohm_half_round(float x)
{
    return ohm_half_value(ohm_half_bits(x));
}

#endif
