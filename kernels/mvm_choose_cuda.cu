/* Which MVM kernel runs. */
#include "kernels/mvm_halves_cuda.h"

#include "kernels/platform_cuda.h"

extern "C" ohm_mvm_kernel ohm_mvm_choose(const ohm_mvm_input *x, const ohm_mvm_halves *h,
                                         const ohm_cuda_device *device)
{
    const ohm_read *r = x->r;
    if (!h || !h->w || (r->read_noise && r->read_cells && !h->variance))
        return OHM_MVM_PLAIN;
    if (!ohm_mvm_mma_knows(x->g, r) || device->major < 8 ||
        ohm_mvm_mma_shared_bytes(x->g, r) > device->shared_bytes)
        return OHM_MVM_PLAIN;
    return OHM_MVM_MMA;
}

extern "C" ohm_cuda_status ohm_mvm_cuda(const ohm_mvm_output *y, const ohm_mvm_input *x,
                                        const ohm_mvm_halves *h, const ohm_cuda_device *device,
                                        ohm_cuda_stream s)
{
    switch (ohm_mvm_choose(x, h, device)) {
    case OHM_MVM_MMA:
        return ohm_mvm_mma_cuda(y, x, h, s);
    default:
        return ohm_mvm_plain_cuda(y, x, s);
    }
}
