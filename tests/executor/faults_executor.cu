/* Kernels that do what a device forbids: the executor must say so. */
#include "kernels/platform_cuda.h"
#include "tests/executor/sample_cuda.h"

static __global__ void misbehave(ohm_fault fault, int *x)
{
    const int i = static_cast<int>(threadIdx.x);
    switch (fault) {
    case OHM_FAULT_ENDED_THREAD:
        if (i == 7)
            return;
        __syncthreads();
        break;
    case OHM_FAULT_TWO_BARRIERS:
        if (i < 32)
            __syncthreads();
        else
            __syncthreads_or(1);
        break;
    case OHM_FAULT_HALF_WARP:
        if (i % 2)
            x[i] = __shfl_xor_sync(0xFFFFFFFFu, i, 2);
        break;
    case OHM_FAULT_FOREIGN_LANE:
        if (i < 16)
            x[i] = __shfl_sync(0xFFFFu, i, 20);
        break;
    case OHM_FAULT_BEHIND_SHARED: {
        OHM_SHARED(int, part, [64]);
        int *at = part; /* so that a sanitiser does not see it first */
        at[i + 1] = x[i];
        __syncthreads();
        x[i] = part[i];
        break;
    }
    case OHM_FAULT_BEHIND_GLOBAL:
        x[i + 1] = i;
        break;
    case OHM_FAULT_UNWAITED_COPY: {
        OHM_SHARED(int, part, [64]);
        ohm_cp_async_4(&part[i], &x[i]);
        ohm_cp_async_commit();
        break;
    }
    default: {
        OHM_SHARED(int, much, [49 * 256]);
        much[i] = i;
        x[i] = much[i];
    }
    }
}

extern "C" ohm_cuda_status ohm_fault_launch(ohm_fault fault, int *x, ohm_cuda_stream s)
{
    return OHM_LAUNCH(misbehave, 1, 64, 0, s, fault, x);
}

extern "C" ohm_cuda_status ohm_fault_shape(int threads, size_t shared_bytes, int *x,
                                           ohm_cuda_stream s)
{
    return OHM_LAUNCH(misbehave, 1, static_cast<unsigned>(threads), shared_bytes, s,
                      OHM_FAULT_BEHIND_GLOBAL, x);
}
