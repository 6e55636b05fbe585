/* Accuracy of trained weights: without a chip, and over instances of one. An evaluator has a network of
 * its own that plans no gradients, so evaluating changes nothing of a training run. */
#ifndef OHM_HOST_EVALUATE_H
#define OHM_HOST_EVALUATE_H

#include <signal.h>

#include "host/dataset.h"
#include "host/network.h"

typedef struct ohm_evaluator ohm_evaluator;

typedef struct {
    int chips;
    double mean, deviation; /* share of right answers; sample deviation over the chips (0 for one) */
} ohm_chip_accuracy;

/* The chip is config->hardware (none where it is disabled); passes take config->eval.batch images. */
ohm_status ohm_evaluator_create(ohm_evaluator **evaluator, const ohm_architecture *architecture, const ohm_config *config);
void ohm_evaluator_destroy(ohm_evaluator *evaluator); /* NULL-safe */
/* Bytes that _create would reserve, by the plan alone. */
ohm_status ohm_evaluator_bytes(size_t *bytes, const ohm_architecture *architecture, const ohm_config *config);
/* Where *stop is not 0, evaluations end with OHM_ERR_INTERRUPTED. */
void ohm_evaluator_stop_on(ohm_evaluator *evaluator, const volatile sig_atomic_t *stop);

/* Weights, buffers and ranges from a network, or from a checkpoint file. *calibrated = 0: the source has
 * no ranges that fit this chip; they are as new and want _calibrate. */
ohm_status ohm_evaluator_copy(ohm_evaluator *evaluator, ohm_network *trained, int *calibrated);
ohm_status ohm_evaluator_load(ohm_evaluator *evaluator, const char *path, int *calibrated);
/* Gathers the chip's ranges anew from train.calibration_batches of training images. */
ohm_status ohm_evaluator_calibrate(ohm_evaluator *evaluator, const ohm_dataset *train);
/* Another chip of the same shapes (noise level, time); ranges stay. */
ohm_status ohm_evaluator_set_hardware(ohm_evaluator *evaluator, const ohm_hardware *hardware);

/* Share of right answers over the set without a chip. */
ohm_status ohm_evaluator_clean(ohm_evaluator *evaluator, const ohm_dataset *test, double *accuracy);
/* The same on chips 1 .. chips, time_s after programming (negative: the hardware's retention.time_s).
 * accuracies [chips] unless NULL. Without a chip: OHM_ERR_ARGUMENT. */
ohm_status ohm_evaluator_chips(ohm_evaluator *evaluator, const ohm_dataset *test, int chips, double time_s, double *accuracies,
                               ohm_chip_accuracy *out);

#endif
