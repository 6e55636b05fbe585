/* One code at a time: what every version of quantise.h does with an element. */
#ifndef OHM_KERNELS_QUANTISE_MATH_H
#define OHM_KERNELS_QUANTISE_MATH_H

#include <stdint.h>
#include <string.h>

#include "kernels/portable.h"
#include "kernels/quantise.h"

/* clamp(rint(ratio), -qmax, qmax), NaN to -qmax: adding 1.5 * 2^23 rounds half to even and leaves the
 * code in the low bits. */
OHM_INLINE int8_t ohm_code_of(float ratio, float qmax)
{
    ratio = ratio > -qmax ? ratio : -qmax;
    ratio = ratio < qmax ? ratio : qmax;
    ratio += 0x1.8p23f;
    uint32_t bits;
    memcpy(&bits, &ratio, sizeof bits);
    return (int8_t)(uint8_t)bits;
}

/* Drive byte of a code; offset = 2^(bits-1). */
OHM_INLINE uint8_t ohm_drive_of(int8_t code, ohm_drive encoding, uint8_t offset)
{
    if (encoding == OHM_DRIVE_OFFSET)
        return (uint8_t)((uint8_t)code + offset);
    if (encoding == OHM_DRIVE_UNSIGNED)
        return (uint8_t)(code < 0 ? 0 : code);
    return (uint8_t)(code < 0 ? (uint8_t)(128 - code) : (uint8_t)code);
}

/* What one array of cells holds of a weight code, all slices together: sign 1 is the negative array
 * of a pair. */
OHM_INLINE uint8_t ohm_array_of(int8_t code, ohm_cells encoding, int sign, uint8_t offset)
{
    if (encoding == OHM_CELLS_OFFSET)
        return (uint8_t)((uint8_t)code + offset);
    int value = sign ? -code : code;
    return (uint8_t)(value > 0 ? value : 0);
}

#endif
