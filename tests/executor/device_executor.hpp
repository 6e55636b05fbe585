/* CUDA C++ for the host executor: stands in front of every kernel source (-include) and gives g++
 * and clang++ the qualifiers, built-in variables, vector types and device functions of CUDA. Warp
 * operations and tensor cores are in warp_executor.hpp. */
#ifndef OHM_TESTS_DEVICE_EXECUTOR_HPP
#define OHM_TESTS_DEVICE_EXECUTOR_HPP

/* Whole standard headers first: some use words that are macros further down. */
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <math.h>
#include <string.h>
#include <tuple>

#include "kernels/runtime_cuda.h"
#include "tests/executor/half_executor.hpp"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
#define __restrict__ __restrict

/* ---- types --------------------------------------------------------------------------------- */

#define EXECUTOR_VECTORS(base, type)                                                               \
    struct alignas(2 * sizeof(type)) base##2                                                       \
    {                                                                                              \
        type x, y;                                                                                 \
    };                                                                                             \
    struct base##3                                                                                 \
    {                                                                                              \
        type x, y, z;                                                                              \
    };                                                                                             \
    struct alignas(4 * sizeof(type) > 16 ? 16 : 4 * sizeof(type)) base##4                          \
    {                                                                                              \
        type x, y, z, w;                                                                           \
    };                                                                                             \
    static inline base##2 make_##base##2(type x, type y)                                           \
    {                                                                                              \
        return {x, y};                                                                             \
    }                                                                                              \
    static inline base##3 make_##base##3(type x, type y, type z)                                   \
    {                                                                                              \
        return {x, y, z};                                                                          \
    }                                                                                              \
    static inline base##4 make_##base##4(type x, type y, type z, type w)                           \
    {                                                                                              \
        return {x, y, z, w};                                                                       \
    }
EXECUTOR_VECTORS(char, signed char)
EXECUTOR_VECTORS(uchar, unsigned char)
EXECUTOR_VECTORS(short, short)
EXECUTOR_VECTORS(ushort, unsigned short)
EXECUTOR_VECTORS(int, int)
EXECUTOR_VECTORS(uint, unsigned)
EXECUTOR_VECTORS(float, float)
EXECUTOR_VECTORS(double, double)
#undef EXECUTOR_VECTORS

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

/* ---- where a thread is --------------------------------------------------------------------- */

struct executor_place {
    uint3 thread, block;
    dim3 threads, blocks;
    unsigned lane; /* within its warp */
};
extern executor_place executor_now; /* of the running thread */
#define threadIdx (executor_now.thread)
#define blockIdx (executor_now.block)
#define blockDim (executor_now.threads)
#define gridDim (executor_now.blocks)
enum { warpSize = 32 };

/* ---- the executor's side ------------------------------------------------------------------- */

/* Shared memory of one declaration, the same for all threads of a block, poisoned at its start. */
void *executor_shared(const void *declaration, size_t bytes);
void *executor_dynamic_shared(void);
/* Ends the launch with an error that names kernel, block and thread. */
[[noreturn]] void executor_refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
int executor_block_barrier(const char *what, bool predicate, int mode, const char *file, int line);
void executor_warp_barrier(unsigned mask, const char *file, int line);
void executor_copy_later(void *shared, const void *global, int bytes, int size);
void executor_copy_commit(void);
void executor_copy_wait(int left, const char *file, int line);
ohm_cuda_status executor_queue_launch(const char *name, dim3 grid, dim3 block, size_t shared_bytes,
                                      ohm_cuda_stream s, std::function<void()> body);

#define EXECUTOR_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

static inline void __syncthreads(EXECUTOR_HERE)
{
    executor_block_barrier("__syncthreads", true, 0, file, line);
}
static inline int __syncthreads_count(int predicate, EXECUTOR_HERE)
{
    return executor_block_barrier("__syncthreads_count", predicate != 0, 1, file, line);
}
static inline int __syncthreads_and(int predicate, EXECUTOR_HERE)
{
    return executor_block_barrier("__syncthreads_and", predicate != 0, 2, file, line);
}
static inline int __syncthreads_or(int predicate, EXECUTOR_HERE)
{
    return executor_block_barrier("__syncthreads_or", predicate != 0, 3, file, line);
}
static inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, EXECUTOR_HERE)
{
    executor_warp_barrier(mask, file, line);
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}

/* ---- platform_cuda.h ----------------------------------------------------------------------- */

#define OHM_SHARED(type, name, ...)                                                                \
    typedef type ohm_shared_##name __VA_ARGS__;                                                    \
    static const char ohm_declared_##name = 0;                                                     \
    ohm_shared_##name &name = *static_cast<ohm_shared_##name *>(                                   \
        executor_shared(&ohm_declared_##name, sizeof(ohm_shared_##name)))
#define OHM_SHARED_DYNAMIC(type, name) type *name = static_cast<type *>(executor_dynamic_shared())

template <class T> struct ohm_same {
    typedef T type;
};
template <class... P>
static inline ohm_cuda_status ohm_launch(const char *name, void (*kernel)(P...), dim3 grid,
                                         dim3 block, size_t shared_bytes, ohm_cuda_stream s,
                                         typename ohm_same<P>::type... args)
{
    return executor_queue_launch(name, grid, block, shared_bytes, s, [=]() { kernel(args...); });
}
#define OHM_LAUNCH(kernel, grid, block, shared_bytes, s, ...)                                      \
    ohm_launch(#kernel, kernel, dim3(grid), dim3(block), shared_bytes, s, __VA_ARGS__)

#include "kernels/philox.h"
static inline uint4 ohm_philox_cuda(uint4 counter, uint2 key)
{
    const uint32_t c[4] = {counter.x, counter.y, counter.z, counter.w}, k[2] = {key.x, key.y};
    uint32_t w[4];
    ohm_philox4x32(w, c, k);
    return {w[0], w[1], w[2], w[3]};
}

static inline void ohm_cp_async_16(void *shared, const void *global, int bytes = 16)
{
    executor_copy_later(shared, global, bytes, 16);
}
static inline void ohm_cp_async_4(void *shared, const void *global, int bytes = 4)
{
    executor_copy_later(shared, global, bytes, 4);
}
static inline void ohm_cp_async_commit()
{
    executor_copy_commit();
}
template <int left> static inline void ohm_cp_async_wait(EXECUTOR_HERE)
{
    executor_copy_wait(left, file, line);
}

/* ---- device functions ---------------------------------------------------------------------- */

template <class T> static inline T __ldg(const T *p)
{
    return *p;
}

/* Threads of the executor never run at the same time. */
template <class T> static inline T executor_exchange(T *at, T value)
{
    T old = *at;
    *at = value;
    return old;
}
#define EXECUTOR_ATOMIC(name, expression)                                                          \
    template <class T> static inline T name(T *at, typename ohm_same<T>::type value)               \
    {                                                                                              \
        const T old = *at;                                                                         \
        return executor_exchange(at, static_cast<T>(expression));                                  \
    }
EXECUTOR_ATOMIC(atomicAdd, old + value)
EXECUTOR_ATOMIC(atomicSub, old - value)
EXECUTOR_ATOMIC(atomicMax, old > value ? old : value)
EXECUTOR_ATOMIC(atomicMin, old < value ? old : value)
EXECUTOR_ATOMIC(atomicAnd, old &value)
EXECUTOR_ATOMIC(atomicOr, old | value)
EXECUTOR_ATOMIC(atomicXor, old ^ value)
template <class T> static inline T atomicExch(T *at, typename ohm_same<T>::type value)
{
    return executor_exchange(at, static_cast<T>(value));
}
#undef EXECUTOR_ATOMIC
template <class T>
static inline T atomicCAS(T *at, typename ohm_same<T>::type expected,
                          typename ohm_same<T>::type value)
{
    return executor_exchange(at, *at == expected ? value : *at);
}

template <class To, class From> static inline To executor_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
static inline unsigned __float_as_uint(float x)
{
    return executor_bits<unsigned>(x);
}
static inline int __float_as_int(float x)
{
    return executor_bits<int>(x);
}
static inline float __uint_as_float(unsigned x)
{
    return executor_bits<float>(x);
}
static inline float __int_as_float(int x)
{
    return executor_bits<float>(x);
}
static inline long long __double_as_longlong(double x)
{
    return executor_bits<long long>(x);
}
static inline double __longlong_as_double(long long x)
{
    return executor_bits<double>(x);
}
static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
static inline int __popcll(unsigned long long x)
{
    return __builtin_popcountll(x);
}
static inline int __clz(int x)
{
    return x ? __builtin_clz(static_cast<unsigned>(x)) : 32;
}
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
static inline unsigned __brev(unsigned x)
{
    unsigned y = 0;
    for (int i = 0; i < 32; i++)
        y |= (x >> i & 1u) << (31 - i);
    return y;
}
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
/* Byte i of the result is byte (selector >> 4i & 7) of y:x; with bit 3 its sign, eight times. */
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
    const uint64_t both = static_cast<uint64_t>(y) << 32 | x;
    unsigned result = 0;
    for (int i = 0; i < 4; i++) {
        unsigned pick = selector >> 4 * i & 15, byte = both >> 8 * (pick & 7) & 255;
        if (pick & 8)
            byte = byte & 128 ? 255 : 0;
        result |= byte << 8 * i;
    }
    return result;
}
static inline int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 4; i++)
        c += static_cast<int8_t>(a >> 8 * i) * static_cast<int8_t>(b >> 8 * i);
    return c;
}
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c)
{
    for (int i = 0; i < 4; i++)
        c += (a >> 8 * i & 255) * (b >> 8 * i & 255);
    return c;
}
static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
static inline float __fadd_rn(float a, float b)
{
    return a + b;
}
static inline float __fmul_rn(float a, float b)
{
    return a * b;
}
static inline float __fdiv_rn(float a, float b)
{
    return a / b;
}
static inline float __fsqrt_rn(float x)
{
    return sqrtf(x);
}
static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
static inline float ohm_rsqrt_normal(float x)
{
    return 1.0f / sqrtf(x);
}
static inline double rsqrt(double x)
{
    return 1.0 / sqrt(x);
}
static inline int __float2int_rn(float x)
{
    return static_cast<int>(lrintf(x));
}
static inline float __int2float_rn(int x)
{
    return static_cast<float>(x);
}
template <class T> static inline T max(T a, T b)
{
    return a > b ? a : b;
}
template <class T> static inline T min(T a, T b)
{
    return a < b ? a : b;
}
static inline float max(float a, float b)
{
    return fmaxf(a, b);
}
static inline float min(float a, float b)
{
    return fminf(a, b);
}
static inline double max(double a, double b)
{
    return fmax(a, b);
}
static inline double min(double a, double b)
{
    return fmin(a, b);
}

#include "tests/executor/warp_executor.hpp"

#endif
