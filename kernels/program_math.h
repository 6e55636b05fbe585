/* exp and log in double from multiplications and additions alone, so that loops over cells turn into
 * vectors and give the same bits on every instruction set. Relative error below 4e-16. */
#ifndef OHM_KERNELS_PROGRAM_MATH_H
#define OHM_KERNELS_PROGRAM_MATH_H

#include <stdint.h>
#include <string.h>

#include "kernels/portable.h"

/* exp(x); clamped to the range of normal numbers. */
OHM_INLINE double ohm_exp(double x)
{
    const double magic = 6755399441055744.0; /* 1.5·2^52: adding it rounds to an integer in the low bits */
    x = x < -708.0 ? -708.0 : x;
    x = x > 709.0 ? 709.0 : x;
    double shifted = x * 1.4426950408889634 + magic, n = shifted - magic;
    double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    int64_t bits, exponent;
    memcpy(&bits, &shifted, sizeof bits);
    exponent = (int64_t)((uint64_t)bits << 52) + (int64_t)((uint64_t)1023 << 52);
    double scale;
    memcpy(&scale, &exponent, sizeof scale);
    return p * scale;
}

/* Natural logarithm of a positive normal number. */
OHM_INLINE double ohm_log(double x)
{
    int64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int64_t exponent = (bits - 0x3fe6a09e667f3bcdLL) >> 52; /* so that the mantissa lies in [sqrt(1/2), sqrt(2)) */
    bits -= (int64_t)((uint64_t)exponent << 52);
    double m;
    memcpy(&m, &bits, sizeof m);
    double s = (m - 1.0) / (m + 1.0), q = s * s, p = 1.0 / 21.0;
    p = p * q + 1.0 / 19.0;
    p = p * q + 1.0 / 17.0;
    p = p * q + 1.0 / 15.0;
    p = p * q + 1.0 / 13.0;
    p = p * q + 1.0 / 11.0;
    p = p * q + 1.0 / 9.0;
    p = p * q + 1.0 / 7.0;
    p = p * q + 1.0 / 5.0;
    p = p * q + 1.0 / 3.0;
    double e = (double)exponent;
    return e * 0.693147180369123816490 + (2.0 * s + (2.0 * s * q * p + e * 1.90821492927058770002e-10));
}

#endif
