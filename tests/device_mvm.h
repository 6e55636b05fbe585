/* A fixture's chip on the device: for parity cases of the CUDA MVM. */
#ifndef OHM_TESTS_DEVICE_MVM_H
#define OHM_TESTS_DEVICE_MVM_H

#include "kernels/mvm_cuda.h"
#include "tests/fixture_mvm.h"

typedef struct {
    ohm_read r;
    ohm_tiles w;
    ohm_mvm_input input; /* points at the two above */
} device_mvm;

/* Memory is the running case's (parity_alloc). */
void device_mvm_make(device_mvm *d, const fixture_mvm *f);

#endif
