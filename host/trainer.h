/* The training loop: batches, accumulation, schedule, evaluation, metrics, checkpoints.
 *
 * A run is a function of its configuration: the order of images and their augmentation come from
 * Philox by (seed, epoch) and (seed, step, position), noise by (seed, step), so a run that is killed and
 * resumed from a checkpoint ends with the bits of an undisturbed one, whatever the number of threads. */
#ifndef OHM_HOST_TRAINER_H
#define OHM_HOST_TRAINER_H

#include <signal.h>
#include <stdio.h>

#include "host/dataset.h"
#include "host/evaluate.h"
#include "host/network.h"

/* What to train on what. Shapes and classes of the architecture and both sets must agree. */
typedef struct {
    const ohm_config *config;
    const ohm_architecture *architecture;
    const ohm_dataset *train, *test;
} ohm_train_job;

/* One optimiser step, or the evaluation after it. */
typedef struct {
    int64_t step, steps;          /* done; of the whole run */
    double loss, accuracy, lr;    /* of this step's batch */
    int evaluated;                /* 1: an evaluation; then these count, and loss, accuracy, lr do not */
    double clean_accuracy;
    ohm_chip_accuracy noisy;      /* chips = 0 without a chip */
} ohm_train_event;

typedef struct {
    const char *run_dir;          /* NULL: nothing is written */
    int resume;                   /* run_dir is a run to go on with */
    int no_evaluation;
    size_t memory_limit;          /* bytes that the plan may take, training and evaluation; 0: the machine's memory */
    const char *trace_path;       /* not NULL: a few steps go there as a Chrome trace (trace.h) */
    FILE *log;                    /* progress, lines and warnings; NULL: silent */
    const volatile sig_atomic_t *stop; /* not NULL: when it is not 0, the step is finished, a checkpoint written,
                                        * and ohm_train returns OHM_ERR_INTERRUPTED */
    void (*on_event)(void *context, const ohm_train_event *event); /* may be NULL */
    void *context;
    ohm_network **network;        /* not NULL: takes the trained network (the caller destroys it); NULL on failure */
} ohm_train_options;

typedef struct {
    int64_t steps;
    double loss, accuracy;        /* of the last log interval, on training images */
    double clean_accuracy;        /* of the last evaluation, on test images; NaN without one */
    ohm_chip_accuracy noisy;      /* chips = 0 without a chip or evaluation */
    double best_accuracy;         /* best evaluation: noisy with a chip, else clean; negative: none */
    double seconds;               /* in this process, evaluation included */
    ohm_memory memory;            /* of the training network */
} ohm_train_result;

/* Trains to the end, from the start or from the newest good checkpoint. *result may be NULL. Errors:
 * OHM_ERR_DATA where the loss is no number any more or no checkpoint is usable, OHM_ERR_IO,
 * OHM_ERR_CONFIG, OHM_ERR_INTERRUPTED. */
ohm_status ohm_train(const ohm_train_job *job, const ohm_train_options *options, ohm_train_result *result);

#endif
