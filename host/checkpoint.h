/* Checkpoints: safetensors files (safetensors.h) with everything a run needs to go on to the same
 * bits: parameters, buffers (batch-norm statistics, chip ranges), optimiser moments as
 * "optimiser.moment1.NAME" and "optimiser.moment2.NAME", and as metadata the architecture, the
 * effective configuration, the seed and the training state. Convolution weights are stored as
 * [N, C, KH, KW], as PyTorch has them; a linear layer behind a convolution keeps our K order
 * (row, column, channel).
 *
 * A run keeps them as RUN/checkpoints/step-00001234.safetensors. */
#ifndef OHM_HOST_CHECKPOINT_H
#define OHM_HOST_CHECKPOINT_H

#include <stdint.h>
#include <stdio.h>

#include "host/network.h"

/* What a run carries besides its network. The position in the data follows from the step. */
typedef struct {
    int64_t step;             /* optimiser steps done */
    int64_t evaluated;        /* step of the last evaluation; negative: none */
    int64_t metrics_bytes;    /* length of metrics.jsonl */
    double best_accuracy;     /* of the evaluations so far; negative: none */
    double loss_sum;          /* since the last line of metrics: sum of the image losses, ... */
    int64_t correct, images;  /* ... right answers, images */
} ohm_train_state;

/* Writes atomically. A parameter that is NaN or infinite is refused (OHM_ERR_DATA). */
ohm_status ohm_checkpoint_save(const char *path, ohm_network *network, const ohm_config *config, const ohm_train_state *state);

/* Takes everything back. The file must be sealed and hold exactly what _save wrote for such a network,
 * else OHM_ERR_DATA and the network is untouched or partly overwritten: do not train on. */
ohm_status ohm_checkpoint_load(const char *path, ohm_network *network, ohm_train_state *state);

/* Whether a parameter belongs to a chip and not to the network: its name ends in .chip, .x_range or .column_scale. */
int ohm_checkpoint_of_chip(const char *name);

/* Takes parameters and buffers only, for evaluation, perhaps on another chip. What belongs to a chip may
 * be absent or of another shape: *calibrated is then 0 and the ranges must be gathered anew. */
ohm_status ohm_checkpoint_load_weights(const char *path, ohm_network *network, int *calibrated);

/* The configuration a checkpoint was written under. */
ohm_status ohm_checkpoint_read_config(ohm_config *config, const char *path);

/* ---- the checkpoints of a run -------------------------------------------------------------- */

enum { OHM_CHECKPOINT_PATH_BYTES = OHM_PATH_BYTES + 64 };

/* Saves under the step's name, then removes all but the newest `keep` and what a killed process left. */
ohm_status ohm_checkpoint_save_in(const char *run_dir, ohm_network *network, const ohm_config *config, const ohm_train_state *state);

/* Loads the newest checkpoint that passes its checks; one line about each that does not goes to log
 * (NULL: none). *found = 0, network and state untouched: the run has no checkpoint yet; else 1 or more. None of
 * several is good: OHM_ERR_DATA. */
ohm_status ohm_checkpoint_resume(const char *run_dir, ohm_network *network, ohm_train_state *state, int *found, FILE *log);

/* The path of the newest checkpoint whose checksum is right. None: OHM_ERR_IO. */
ohm_status ohm_checkpoint_newest(char path[OHM_CHECKPOINT_PATH_BYTES], const char *run_dir, FILE *log);

#endif
