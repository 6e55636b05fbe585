/* What host code that queues kernels of its own (*_cuda.c) sees of an opened CUDA device. */
#ifndef OHM_HOST_BACKEND_CUDA_H
#define OHM_HOST_BACKEND_CUDA_H

#include "host/status.h"
#include "kernels/runtime_cuda.h"

struct ohm_device;

ohm_cuda_stream ohm_backend_cuda_stream(struct ohm_device *device);
const ohm_cuda_device *ohm_backend_cuda_about(const struct ohm_device *device);
/* OHM_OK until something failed on the device; the first failure after. */
ohm_status ohm_backend_cuda_status(struct ohm_device *device);
/* Keeps a failure of a call that queued something, as the backend's operations do: the first one counts,
 * and ohm_backend_cuda_status, status and wait tell it. */
void ohm_backend_cuda_note(struct ohm_device *device, ohm_cuda_status status);

#endif
