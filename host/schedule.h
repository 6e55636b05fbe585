/* Learning rate over the steps of a run. */
#ifndef OHM_HOST_SCHEDULE_H
#define OHM_HOST_SCHEDULE_H

#include <stdint.h>

#include "host/config.h"

/* Optimiser steps per pass over `images` training images: the last, incomplete batch is left out. */
int64_t ohm_schedule_steps_per_epoch(const ohm_config *config, int images);
/* Optimiser steps of the whole run: train.steps, or train.epochs passes. */
int64_t ohm_schedule_steps(const ohm_config *config, int images);
/* Learning rate of step `step` (from 0) of `steps`: a linear warm-up to train.lr, then constant; cosine
 * down to lr·lr_final (Loshchilov and Hutter 2017, one cycle); or lr·gamma^floor(step/milestone_steps). */
double ohm_schedule_lr(const ohm_config *config, int64_t step, int64_t steps);

#endif
