/* What train and eval share: a configuration with its images and its network's description. */
#ifndef OHM_HOST_CLI_EXPERIMENT_H
#define OHM_HOST_CLI_EXPERIMENT_H

#include "host/cli/cli.h"
#include "host/config.h"
#include "host/dataset.h"
#include "host/network.h"

typedef struct {
    ohm_config config;
    ohm_architecture architecture;
    ohm_dataset train, test;
} ohm_experiment;

/* Zeroed; NULL when out of memory. Large: keep it off the stack. */
ohm_experiment *ohm_experiment_new(void);
void ohm_experiment_free(ohm_experiment *experiment); /* NULL-safe */

/* Applies --set values and checks the whole. */
ohm_status ohm_experiment_set(ohm_experiment *experiment, const ohm_cli_list *set);
/* Describes the network without looking for images, which need not be there. */
ohm_status ohm_experiment_describe(ohm_experiment *experiment);
/* Loads the images and describes the network, once the configuration stands. */
ohm_status ohm_experiment_load(ohm_experiment *experiment);

#endif
