/* One optimiser step: the batch in micro-batches, forward, loss, backward, update. What the trainer runs
 * and what the profiler measures. */
#ifndef OHM_HOST_STEP_H
#define OHM_HOST_STEP_H

#include "host/network.h"

typedef struct {
    ohm_network *network;     /* planned for ohm_step_images(config) images */
    const ohm_config *config;
    ohm_trace *trace;         /* as the network's; NULL: none */
    const char *name;         /* of the step's range; NULL: "step" */
    /* Fills the network's images and labels: `images` of the batch of `step` from number `first` on. */
    void (*fill)(void *context, int first, int images, int64_t step);
    void *context;
    int ahead;                /* 1: there is a next step, whose batch may be filled while a device works on this one */
} ohm_step;

/* Images of one forward pass: train.micro_batch, or the whole batch. */
int ohm_step_images(const ohm_config *config);
/* What step `step` draws; images 0 .. ohm_step_images - 1. */
ohm_pass ohm_step_pass(const ohm_config *config, int64_t step);
/* Mean loss and right answers of the batch. Draws are addressed by an image's number in the batch and
 * the programming by the step, so micro-batches see the noise of the one-shot batch, and their
 * gradients add up to its own: up to the order of float sums, and up to what is measured on each
 * forward pass by itself: batch-norm statistics, and ranges of inputs and converters that come from
 * the data (absmax, percentile, running, data, calibrated). In mode detach y_clean + (y_noisy - y_clean)
 * rounds with the clean product, whose last bit may depend on the rows of a pass; a code of the next
 * layer may then flip. OHM_ERR_DATA: the loss is no number; nothing is then updated. */
ohm_status ohm_step_run(const ohm_step *s, int64_t step, double lr, double *loss, int *correct);

#endif
