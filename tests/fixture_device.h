/* Networks on a device and on the CPU, of the same random images. The device is the host executor in
 * `tests`, device 0 in `tests-cuda`. */
#ifndef OHM_TESTS_FIXTURE_DEVICE_H
#define OHM_TESTS_FIXTURE_DEVICE_H

#include "host/step.h"
#include "models/networks.h"
#include "tests/parity.h"
#include "tests/runner.h"

#define OHM_NEEDS_DEVICE()                                                                             \
    do                                                                                             \
        if (parity_absent())                                                                       \
            OHM_SKIP("%s", parity_absent());                                                       \
    while (0)

/* Random images and labels of step `step`; context is the network (host/step.h). */
void device_images(void *context, int first, int images, int64_t step);

typedef struct {
    ohm_config config;
    ohm_architecture architecture;
    ohm_network *network;
} device_model;

/* kind with images of size x size x channels, on `device`; mode baseline, no chip and batches of four, unless
 * `set` (key=value ..., NULL) says otherwise. */
device_model *device_model_of(int kind, int size, int channels, const char *device, const char *const *set, int checked);
void device_drop(device_model *model);
/* One step of training, its learning rate falling with the steps. */
ohm_status device_step(device_model *model, int64_t step, double *loss, int *correct);
/* Parameter number i (kind 0), or its first moment (1), on the host: the caller frees it. NULL: there is none. */
float *device_part(const device_model *model, int i, int kind, size_t *count);
/* Every parameter and moment: to the bit (0), or within atol. */
void device_compare(const device_model *a, const device_model *b, double atol);

#endif
