#include "host/backend.h"

#include "host/config.h"

ohm_status ohm_backend_find(const ohm_backend **backend, int device)
{
    if (device == OHM_DEVICE_CUDA)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "device cuda: this build has no CUDA backend; set device: cpu");
    *backend = &ohm_backend_cpu;
    return OHM_OK;
}
