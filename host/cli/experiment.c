#include "host/cli/experiment.h"

#include <stdio.h>
#include <stdlib.h>

#include "datasets/datasets.h"
#include "models/networks.h"

ohm_experiment *ohm_experiment_new(void)
{
    ohm_experiment *experiment = calloc(1, sizeof *experiment);
    if (!experiment)
        (void)OHM_FAIL(OHM_ERR_MEMORY, "no memory for an experiment");
    return experiment;
}

void ohm_experiment_free(ohm_experiment *experiment)
{
    if (!experiment)
        return;
    ohm_dataset_free(&experiment->train);
    ohm_dataset_free(&experiment->test);
    free(experiment);
}

ohm_status ohm_experiment_set(ohm_experiment *experiment, const ohm_cli_list *set)
{
    for (int i = 0; i < set->count; i++)
        OHM_TRY(ohm_config_set(&experiment->config, set->value[i]));
    if (set->device) {
        char text[64];
        snprintf(text, sizeof text, "device=%.50s", set->device);
        OHM_TRY(ohm_config_set(&experiment->config, text));
    }
    return ohm_config_check(&experiment->config);
}

ohm_status ohm_experiment_load(ohm_experiment *experiment)
{
    OHM_TRY(ohm_datasets_load(&experiment->train, &experiment->test, &experiment->config));
    const ohm_dataset *images = &experiment->train;
    return ohm_model_build(&experiment->architecture, &experiment->config, images->height, images->width, images->channels, images->classes);
}

ohm_status ohm_experiment_describe(ohm_experiment *experiment)
{
    int height, width, channels, classes;
    OHM_TRY(ohm_datasets_shape(&height, &width, &channels, &classes, &experiment->config));
    return ohm_model_build(&experiment->architecture, &experiment->config, height, width, channels, classes);
}
