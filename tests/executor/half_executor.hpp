/* 16-bit floats of the host executor, with CUDA's names: conversions round to nearest even, sums and
 * products are formed in double and rounded once. */
#ifndef OHM_TESTS_HALF_EXECUTOR_HPP
#define OHM_TESTS_HALF_EXECUTOR_HPP

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Bits of the nearest number with `exponent_bits` and `mantissa_bits`, of a double. */
static inline uint16_t executor_narrow(double x, int exponent_bits, int mantissa_bits)
{
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const uint16_t sign = static_cast<uint16_t>(signbit(x) ? 0x8000 : 0);
    const uint16_t infinity = static_cast<uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits);
    if (isnan(x))
        return 0x7FFF;
    double a = fabs(x);
    int exponent = 0;
    if (a == 0.0)
        return sign;
    if (isinf(a))
        return static_cast<uint16_t>(sign | infinity);
    frexp(a, &exponent); /* a = f·2^exponent, f in [1/2, 1) */
    if (exponent - 1 < 1 - bias)
        exponent = 2 - bias; /* subnormal: the step of the smallest normal number */
    double step = ldexp(1.0, exponent - 1 - mantissa_bits);
    double units = rint(a / step);
    /* Counted in steps the bits of a positive number are consecutive, carries included. */
    uint32_t bits = static_cast<uint32_t>(units) +
                    (static_cast<uint32_t>(exponent - 2 + bias) << mantissa_bits);
    return static_cast<uint16_t>(sign | (bits > infinity ? infinity : bits));
}

static inline float executor_widen(uint16_t bits, int exponent_bits, int mantissa_bits)
{
    const int bias = (1 << (exponent_bits - 1)) - 1, top = (1 << exponent_bits) - 1;
    int exponent = bits >> mantissa_bits & top, mantissa = bits & ((1 << mantissa_bits) - 1);
    double value;
    if (exponent == top)
        value = mantissa ? static_cast<double>(NAN) : static_cast<double>(INFINITY);
    else if (exponent)
        value = ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
    else
        value = ldexp(mantissa, 1 - bias - mantissa_bits);
    return static_cast<float>(bits & 0x8000 ? -value : value);
}

#define EXECUTOR_SHORT_FLOAT(name, pair, e, m)                                                     \
    struct name {                                                                                  \
        uint16_t bits;                                                                             \
        name() = default;                                                                          \
        name(float x) : bits(executor_narrow(static_cast<double>(x), e, m)) {}                     \
        name(double x) : bits(executor_narrow(x, e, m)) {}                                         \
        name(int x) : bits(executor_narrow(static_cast<double>(x), e, m)) {}                       \
        operator float() const                                                                     \
        {                                                                                          \
            return executor_widen(bits, e, m);                                                     \
        }                                                                                          \
    };                                                                                             \
    struct pair {                                                                                  \
        name x, y;                                                                                 \
    };

EXECUTOR_SHORT_FLOAT(__half, __half2, 5, 10)
EXECUTOR_SHORT_FLOAT(__nv_bfloat16, __nv_bfloat162, 8, 7)
#undef EXECUTOR_SHORT_FLOAT
typedef __half half;
typedef __half2 half2;

static inline double executor_wide(__half x)
{
    return static_cast<double>(static_cast<float>(x));
}

static inline __half __float2half(float x)
{
    return __half(x);
}
static inline __half __float2half_rn(float x)
{
    return __half(x);
}
static inline __half __double2half(double x)
{
    return __half(x);
}
static inline __half __int2half_rn(int x)
{
    return __half(x);
}
static inline float __half2float(__half x)
{
    return x;
}
static inline uint16_t __half_as_ushort(__half x)
{
    return x.bits;
}
static inline __half __ushort_as_half(uint16_t bits)
{
    __half x;
    x.bits = bits;
    return x;
}
static inline __half2 __halves2half2(__half x, __half y)
{
    return {x, y};
}
static inline __half2 __half2half2(__half x)
{
    return {x, x};
}
static inline __half2 __floats2half2_rn(float x, float y)
{
    return {__half(x), __half(y)};
}
static inline __half __low2half(__half2 v)
{
    return v.x;
}
static inline __half __high2half(__half2 v)
{
    return v.y;
}
static inline float __low2float(__half2 v)
{
    return v.x;
}
static inline float __high2float(__half2 v)
{
    return v.y;
}
static inline __half __hadd(__half a, __half b)
{
    return __half(executor_wide(a) + executor_wide(b));
}
static inline __half __hsub(__half a, __half b)
{
    return __half(executor_wide(a) - executor_wide(b));
}
static inline __half __hmul(__half a, __half b)
{
    return __half(executor_wide(a) * executor_wide(b));
}
static inline __half __hfma(__half a, __half b, __half c)
{
    return __half(executor_wide(a) * executor_wide(b) + executor_wide(c));
}
static inline __half2 __hadd2(__half2 a, __half2 b)
{
    return {__hadd(a.x, b.x), __hadd(a.y, b.y)};
}
static inline __half2 __hsub2(__half2 a, __half2 b)
{
    return {__hsub(a.x, b.x), __hsub(a.y, b.y)};
}
static inline __half2 __hmul2(__half2 a, __half2 b)
{
    return {__hmul(a.x, b.x), __hmul(a.y, b.y)};
}
static inline __half2 __hfma2(__half2 a, __half2 b, __half2 c)
{
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
static inline __nv_bfloat16 __float2bfloat16(float x)
{
    return __nv_bfloat16(x);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x)
{
    return __nv_bfloat16(x);
}
static inline float __bfloat162float(__nv_bfloat16 x)
{
    return x;
}
static inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 x)
{
    return x.bits;
}

#endif
