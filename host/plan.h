/* Whether an experiment fits into memory, and which batch would, by the plan alone: nothing is
 * reserved and nothing runs. */
#ifndef OHM_HOST_PLAN_H
#define OHM_HOST_PLAN_H

#include "host/network.h"

typedef struct {
    ohm_memory training;
    size_t evaluation; /* bytes of the second network, which evaluates; 0: none */
    size_t total;      /* bytes that both reserve */
} ohm_plan;

/* Bytes of memory that this machine, or the control group around it, has; SIZE_MAX when neither says. */
size_t ohm_plan_physical(void);

/* Bytes of the memory that the experiment's device works in. */
ohm_status ohm_plan_limit(size_t *bytes, const ohm_config *config);

/* What training in passes of `images` images reserves. evaluates = 1: and a network for eval.batch beside it. */
ohm_status ohm_plan_make(ohm_plan *plan, const ohm_architecture *architecture, const ohm_config *config, int images, int evaluates);

/* The most images per pass, 1 .. 10^6, whose plan stays within `limit` bytes; *plan is theirs.
 * OHM_ERR_MEMORY, with the category that is too large, when one image does not. */
ohm_status ohm_plan_largest(int *images, ohm_plan *plan, const ohm_architecture *architecture, const ohm_config *config, int evaluates,
                            size_t limit);

/* OHM_ERR_MEMORY when train.micro_batch (or train.batch) images do not fit `limit` bytes: the line
 * names the category that is too large and the largest batch that fits. */
ohm_status ohm_plan_check(const ohm_architecture *architecture, const ohm_config *config, int evaluates, size_t limit);

/* In words: "512.0 MiB (training 500.0 MiB, evaluation 12.0 MiB), most of it activations (400.0 MiB)". */
void ohm_plan_describe(char *text, size_t bytes, const ohm_plan *plan);

/* After a reservation was refused that the check let pass, because not all of the memory is free: says,
 * as the check does, the largest batch that fits into what is. Returns OHM_ERR_MEMORY. */
ohm_status ohm_plan_refused(const ohm_architecture *architecture, const ohm_config *config, int evaluates);

#endif
