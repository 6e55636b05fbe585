/* Tensor-core kernels are tried before a device is used: their operands' layouts are the hardware's, and a
 * mistake there gives wrong numbers, not an error. */
#ifndef OHM_HOST_MVM_CHECK_CUDA_H
#define OHM_HOST_MVM_CHECK_CUDA_H

#include "kernels/mvm_halves_cuda.h"

typedef ohm_cuda_status ohm_mvm_halves_call(const ohm_mvm_output *y, const ohm_mvm_input *x,
                                            const ohm_mvm_halves *h, ohm_cuda_stream s);

/* Reads two small layers with noise by `kernel`, whose halves are blocked or not, and by the plain one.
 * NULL where they agree (within a code where a value lies on a threshold), else what is wrong, until the
 * next call. Allocates some MB on the device for as long as it takes, and waits for the stream. */
const char *ohm_mvm_check(ohm_mvm_halves_call *kernel, int blocked, ohm_cuda_stream s);

/* Bits of ohm_cuda_device's `distrusted` for the device of the stream, each told in a line on stderr; a
 * device is tried once in a process. A failure of the device itself is left for the next call to find. */
unsigned ohm_mvm_distrusted(const ohm_cuda_device *about, int index, ohm_cuda_stream s);

#endif
