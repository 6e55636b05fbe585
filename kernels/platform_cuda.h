/* The one header of kernel sources (*_cuda.cu). nvcc compiles them for devices; g++ or clang++
 * compile the same files for the host executor (tests/executor/README.md), which puts its own
 * definitions of everything here in front (-include).
 *
 * Rules for kernel sources:
 *   - device functions that several sources share stand in <op>_cuda.cuh
 *   - no CUDA header beside this one: halves, bfloat16, WMMA and cuRAND's Philox come with it
 *   - OHM_SHARED(type, name, [sizes]) and OHM_SHARED_DYNAMIC(type, name) instead of __shared__
 *   - launches through OHM_LAUNCH; warp operations with a mask; blocks of whole warps
 *   - inline assembly in one-instruction functions of this header alone, each emulated by the
 *     executor; sources that cannot run there stand between #ifndef OHM_EXECUTOR and #endif
 *   - exported functions are extern "C", take device pointers and an ohm_cuda_stream, return
 *     ohm_cuda_status, and neither allocate nor wait. */
#ifndef OHM_KERNELS_PLATFORM_CUDA_H
#define OHM_KERNELS_PLATFORM_CUDA_H

#include "kernels/philox.h"
#include "kernels/portable.h"
#include "kernels/runtime_cuda.h"

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <curand_philox4x32_x.h>
#include <mma.h>

/* ---- shared memory ------------------------------------------------------------------------- */

#define OHM_SHARED(type, name, ...) __shared__ __align__(16) type name __VA_ARGS__
/* name = the block's dynamic shared memory, 128-byte aligned; its size is given at the launch. */
#define OHM_SHARED_DYNAMIC(type, name)                                                             \
    extern __shared__ __align__(128) unsigned char ohm_dynamic_shared[];                           \
    type *name = reinterpret_cast<type *>(ohm_dynamic_shared)

/* ---- launches ------------------------------------------------------------------------------ */

/* Records what a CUDA call returned (runtime_cuda.cu). */
extern "C" ohm_cuda_status ohm_cuda_report(cudaError_t error, const char *call);

template <class T> struct ohm_same {
    typedef T type;
};

template <class... P>
static inline ohm_cuda_status ohm_launch(const char *name, void (*kernel)(P...), dim3 grid,
                                         dim3 block, size_t shared_bytes, ohm_cuda_stream s,
                                         typename ohm_same<P>::type... args)
{
    const void *function = reinterpret_cast<const void *>(kernel);
    if (grid.x == 0 || grid.y == 0 || grid.z == 0)
        return OHM_CUDA_OK;
    if (shared_bytes > 48 * 1024) {
        cudaError_t error = cudaFuncSetAttribute(
            function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
        if (error != cudaSuccess)
            return ohm_cuda_report(error, name);
    }
    void *pointers[sizeof...(P) + 1] = {const_cast<void *>(static_cast<const void *>(&args))...,
                                        nullptr};
    return ohm_cuda_report(cudaLaunchKernel(function, grid, block, pointers, shared_bytes,
                                            reinterpret_cast<cudaStream_t>(s)),
                           name);
}

/* Queues kernel(args...) on stream s; an empty grid is no work and no error. A template kernel goes
 * in parentheses: OHM_LAUNCH((copy<4>), grid, block, 0, s, to, from). Value: ohm_cuda_status. */
#define OHM_LAUNCH(kernel, grid, block, shared_bytes, s, ...)                                      \
    ohm_launch(#kernel, kernel, dim3(grid), dim3(block), shared_bytes, s, __VA_ARGS__)

/* ---- random words -------------------------------------------------------------------------- */

/* cuRAND's Philox4x32-10 of one counter. */
static __device__ __forceinline__ uint4 ohm_philox_cuda(uint4 counter, uint2 key)
{
    return curand_Philox4x32_10(counter, key);
}

/* ---- arithmetic ---------------------------------------------------------------------------- */

/* 1/sqrt(x) of a normal number; rsqrtf spends three instructions more on the others. */
static __device__ __forceinline__ float ohm_rsqrt_normal(float x)
{
    float y;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* ---- tensor cores, in the lane layouts of the PTX manual ------------------------------------
 * g = lane / 4, t = lane % 4. Accumulators of m16n8: d[0], d[1] at row g, columns 2t and 2t + 1;
 * d[2], d[3] the same of row g + 8. */

/* d = a·b + c, m16n8k32, signed bytes, first k in the lowest byte. a[0]: row g, k = 4t..4t+3; a[1]:
 * row g+8; a[2], a[3]: k + 16. b[0]: k = 4t..4t+3 of column g; b[1]: k + 16. */
static __device__ __forceinline__ void ohm_mma_s8(int (&d)[4], const unsigned (&a)[4],
                                                  const unsigned (&b)[2], const int (&c)[4])
{
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%11,%12,%13};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c[0]), "r"(c[1]),
          "r"(c[2]), "r"(c[3]));
}

/* d = a·b + c, m16n8k16, halves in, floats out. a[0]: row g, k = 2t, 2t+1; a[1]: row g+8; a[2],
 * a[3]: k + 8. b[0]: k = 2t, 2t+1 of column g; b[1]: k + 8. */
static __device__ __forceinline__ void ohm_mma_f16(float (&d)[4], const unsigned (&a)[4],
                                                   const unsigned (&b)[2], const float (&c)[4])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
          "f"(c[2]), "f"(c[3]));
}

/* d = a·b + c, m16n8k8, tf32 in (floats whose low 13 bits are left out), floats out. a[0]: row g,
 * k = t; a[1]: row g+8; a[2], a[3]: k + 4. b[0]: k = t of column g; b[1]: k + 4. */
static __device__ __forceinline__ void ohm_mma_tf32(float (&d)[4], const unsigned (&a)[4],
                                                    const unsigned (&b)[2], const float (&c)[4])
{
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
          "f"(c[2]), "f"(c[3]));
}

static __device__ __forceinline__ unsigned ohm_shared_address(const void *shared)
{
    return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

/* Four 8x8 matrices of 16-bit elements: lane 8i + r points at row r of matrix i (16-byte aligned,
 * shared); r[i] = elements 2t, 2t+1 of row g of matrix i. _trans: of column g, rows 2t, 2t+1. */
static __device__ __forceinline__ void ohm_ldmatrix_x4(unsigned (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(ohm_shared_address(row))
                 : "memory");
}
static __device__ __forceinline__ void ohm_ldmatrix_x4_trans(unsigned (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(ohm_shared_address(row))
                 : "memory");
}
/* Two matrices; the addresses of lanes 0..15 count. */
static __device__ __forceinline__ void ohm_ldmatrix_x2(unsigned (&r)[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(ohm_shared_address(row))
                 : "memory");
}
static __device__ __forceinline__ void ohm_ldmatrix_x2_trans(unsigned (&r)[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(ohm_shared_address(row))
                 : "memory");
}

/* ---- asynchronous copies into shared memory ------------------------------------------------- */

/* 16 bytes, both sides 16-byte aligned; only the first `bytes` (0..16) are read, the rest is 0. */
static __device__ __forceinline__ void ohm_cp_async_16(void *shared, const void *global,
                                                       int bytes = 16)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(ohm_shared_address(shared)),
                 "l"(global), "r"(bytes)
                 : "memory");
}
/* 4 bytes, both sides 4-byte aligned. */
static __device__ __forceinline__ void ohm_cp_async_4(void *shared, const void *global,
                                                      int bytes = 4)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(ohm_shared_address(shared)),
                 "l"(global), "r"(bytes)
                 : "memory");
}
/* This thread's copies since the last commit form a group. */
static __device__ __forceinline__ void ohm_cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Waits until at most `left` of this thread's groups are under way. Others see them after a barrier. */
template <int left> static __device__ __forceinline__ void ohm_cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
}

#elif !defined(OHM_EXECUTOR)
#error "kernel sources are compiled by nvcc or for the host executor (tests/executor/README.md)"
#endif

/* ---- both ---------------------------------------------------------------------------------- */

/* The four words of a 16-byte block of a stream (philox.h). */
static __device__ __forceinline__ uint4 ohm_stream_block_cuda(const ohm_stream &s, uint64_t block)
{
    return ohm_philox_cuda(
        make_uint4(static_cast<uint32_t>(block), ohm_stream_site_word(&s, block), s.where, s.step),
        make_uint2(s.key[0], s.key[1]));
}

#endif
