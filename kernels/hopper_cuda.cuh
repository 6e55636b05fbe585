/* Instructions of sm_90a, one per function: barriers of asynchronous copies, bulk copies, wgmma. No
 * executor emulates them; only kernels that stand between #ifndef OHM_EXECUTOR and #endif may use
 * them. Layouts and bit fields as in the PTX manual, sections on mbarrier, cp.async.bulk and wgmma. */
#ifndef OHM_KERNELS_HOPPER_CUDA_CUH
#define OHM_KERNELS_HOPPER_CUDA_CUH

#include "kernels/platform_cuda.h"

/* ---- mbarrier, in shared memory -------------------------------------------------------------- */

static __device__ __forceinline__ void hopper_barrier_begin(uint64_t *barrier, unsigned arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(ohm_shared_address(barrier)),
                 "r"(arrivals)
                 : "memory");
}
/* Makes barriers just begun known to the copy engine. */
static __device__ __forceinline__ void hopper_barriers_begun()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
static __device__ __forceinline__ void hopper_arrive(uint64_t *barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(ohm_shared_address(barrier))
                 : "memory");
}
/* Arrives, and holds the phase until so many bytes were copied. */
static __device__ __forceinline__ void hopper_arrive_and_expect(uint64_t *barrier, unsigned bytes)
{
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(ohm_shared_address(barrier)),
        "r"(bytes)
        : "memory");
}
/* Arrives when the ohm_cp_async copies that this thread has queued are done; one of the arrivals that
 * the barrier was begun with. */
static __device__ __forceinline__ void hopper_arrive_after_copies(uint64_t *barrier)
{
    asm volatile(
        "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(ohm_shared_address(barrier))
        : "memory");
}
/* Whether the phase of this parity is over; may wait a while before it says no. */
static __device__ __forceinline__ bool hopper_try_wait(uint64_t *barrier, unsigned parity)
{
    unsigned over;
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; "
                 "selp.u32 %0, 1, 0, p; }"
                 : "=r"(over)
                 : "r"(ohm_shared_address(barrier)), "r"(parity)
                 : "memory");
    return over != 0;
}
/* Waits for the end of a phase; false where it does not come within `clocks` of the multiprocessor, or
 * *given_up (shared) says that another thread's did not. */
static __device__ __forceinline__ bool hopper_wait(uint64_t *barrier, unsigned parity,
                                                   volatile unsigned *given_up, long long clocks)
{
    if (hopper_try_wait(barrier, parity))
        return true;
    const long long began = clock64();
    while (!hopper_try_wait(barrier, parity))
        if (*given_up || clock64() - began > clocks)
            return false;
    return true;
}

/* ---- copies ------------------------------------------------------------------------------------ */

/* bytes, a multiple of 16, from global to shared memory, both 16-byte aligned; counted at the barrier. */
static __device__ __forceinline__ void hopper_copy(void *shared, const void *global, unsigned bytes,
                                                   uint64_t *barrier)
{
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
        "[%3];" ::"r"(ohm_shared_address(shared)),
        "l"(global), "r"(bytes), "r"(ohm_shared_address(barrier))
        : "memory");
}

/* ---- part of a block --------------------------------------------------------------------------- */

/* Barrier number `which` (0 is __syncthreads) of 128 threads. */
static __device__ __forceinline__ void hopper_sync_128(int which)
{
    asm volatile("bar.sync %0, 128;" ::"r"(which) : "memory");
}

/* Registers per thread of these four warps from here on; 40 and 232 of 168 at the launch. */
template <int count> static __device__ __forceinline__ void hopper_fewer_registers()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count> static __device__ __forceinline__ void hopper_more_registers()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

/* ---- wgmma: four warps ------------------------------------------------------------------------- */

/* Registers written before are seen by products that follow. */
static __device__ __forceinline__ void hopper_products_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
static __device__ __forceinline__ void hopper_products_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/* Waits for all committed products, which give d: no use of it may move in front. */
static __device__ __forceinline__ void hopper_products_wait(float (&d)[16][4])
{
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
    for (int n = 0; n < 16; n++)
        asm volatile("" : "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])::"memory");
}

/* Descriptor of B in shared memory: lines of 64 halves (128 bytes) per column, K-major, swizzled in
 * 128 bytes; eight lines are 1,024 bytes apart from the next eight. The start may lie 32 bytes further
 * per step of 16 inputs. The leading offset is not used in this layout. */
static __device__ __forceinline__ uint64_t hopper_b_descriptor(const void *shared)
{
    return static_cast<uint64_t>((ohm_shared_address(shared) & 0x3FFFFu) >> 4) |
           static_cast<uint64_t>(1) << 16 | static_cast<uint64_t>(1024 >> 4) << 32 |
           static_cast<uint64_t>(1) << 62;
}

/* d (+)= a·b, m64n128k16, halves in, floats out. Warp w of the four has rows 16w..16w+15; a as in
 * mma.m16n8k16, d[n] as in its accumulators of columns 8n..8n+7. accumulate 0: d = a·b. */
static __device__ __forceinline__ void hopper_product(float (&d)[16][4], const unsigned (&a)[4],
                                                      uint64_t b, int accumulate)
{
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %69, 0; "
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
                 "{%64, %65, %66, %67}, %68, p, 1, 1, 0; }"
                 : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]),
                   "+f"(d[1][1]), "+f"(d[1][2]), "+f"(d[1][3]), "+f"(d[2][0]), "+f"(d[2][1]),
                   "+f"(d[2][2]), "+f"(d[2][3]), "+f"(d[3][0]), "+f"(d[3][1]), "+f"(d[3][2]),
                   "+f"(d[3][3]), "+f"(d[4][0]), "+f"(d[4][1]), "+f"(d[4][2]), "+f"(d[4][3]),
                   "+f"(d[5][0]), "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3]), "+f"(d[6][0]),
                   "+f"(d[6][1]), "+f"(d[6][2]), "+f"(d[6][3]), "+f"(d[7][0]), "+f"(d[7][1]),
                   "+f"(d[7][2]), "+f"(d[7][3]), "+f"(d[8][0]), "+f"(d[8][1]), "+f"(d[8][2]),
                   "+f"(d[8][3]), "+f"(d[9][0]), "+f"(d[9][1]), "+f"(d[9][2]), "+f"(d[9][3]),
                   "+f"(d[10][0]), "+f"(d[10][1]), "+f"(d[10][2]), "+f"(d[10][3]), "+f"(d[11][0]),
                   "+f"(d[11][1]), "+f"(d[11][2]), "+f"(d[11][3]), "+f"(d[12][0]), "+f"(d[12][1]),
                   "+f"(d[12][2]), "+f"(d[12][3]), "+f"(d[13][0]), "+f"(d[13][1]), "+f"(d[13][2]),
                   "+f"(d[13][3]), "+f"(d[14][0]), "+f"(d[14][1]), "+f"(d[14][2]), "+f"(d[14][3]),
                   "+f"(d[15][0]), "+f"(d[15][1]), "+f"(d[15][2]), "+f"(d[15][3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate)
                 : "memory");
}

#endif
