/* Which MVM kernel runs. */
#include "kernels/mvm_halves_cuda.h"

#include "kernels/platform_cuda.h"

extern "C" ohm_mvm_kernel ohm_mvm_choose(const ohm_mvm_input *x, const ohm_cuda_device *device)
{
    const size_t shared = device->shared_bytes;
    const unsigned distrusted = device->distrusted;
    if (device->major == 9 && device->minor == 0 && !(distrusted >> OHM_MVM_HOPPER & 1) &&
        ohm_mvm_hopper_knows(x) && ohm_mvm_hopper_shared_bytes(x->g) <= shared)
        return OHM_MVM_HOPPER;
    if (device->major >= 8 && !(distrusted >> OHM_MVM_MMA & 1) && ohm_mvm_mma_knows(x->g, x->r) &&
        ohm_mvm_mma_shared_bytes(x->g, x->r) <= shared)
        return OHM_MVM_MMA;
    return OHM_MVM_PLAIN;
}

extern "C" ohm_mvm_kernel ohm_mvm_runs(const ohm_mvm_input *x, const ohm_mvm_halves *h,
                                       const ohm_cuda_device *device)
{
    if (!h || !h->w || (x->r->read_noise && x->r->read_cells && !h->variance))
        return OHM_MVM_PLAIN;
    const ohm_mvm_kernel best = ohm_mvm_choose(x, device);
    return (best == OHM_MVM_HOPPER) == (h->blocked != 0) ? best : OHM_MVM_PLAIN;
}

extern "C" ohm_cuda_status ohm_mvm_cuda(const ohm_mvm_output *y, const ohm_mvm_input *x,
                                        const ohm_mvm_halves *h, const ohm_cuda_device *device,
                                        ohm_cuda_stream s)
{
    switch (ohm_mvm_runs(x, h, device)) {
    case OHM_MVM_HOPPER:
        return ohm_mvm_hopper_cuda(y, x, h, s);
    case OHM_MVM_MMA:
        return ohm_mvm_mma_cuda(y, x, h, s);
    default:
        return ohm_mvm_plain_cuda(y, x, s);
    }
}
