/* Where a device is in its queue. */
#include "kernels/layers_cuda.h"
#include "kernels/platform_cuda.h"

static __global__ void put_mark(uint16_t *where, uint16_t value)
{
    if (threadIdx.x == 0)
        *where = value;
}

extern "C" ohm_cuda_status ohm_mark_cuda(uint16_t *where, uint16_t value, ohm_cuda_stream s)
{
    return OHM_LAUNCH(put_mark, 1, 32, 0, s, where, value);
}
