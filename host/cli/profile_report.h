/* What `ohmgrad profile` shows of a measurement: a table, JSON, a figure, a trace. */
#ifndef OHM_HOST_CLI_PROFILE_REPORT_H
#define OHM_HOST_CLI_PROFILE_REPORT_H

#include "host/cli/experiment.h"
#include "host/profile.h"

enum { OHM_PROFILE_BATCHES_MAX = 8 }; /* each is a panel of the figure */

typedef struct {
    const ohm_experiment *experiment;
    const int *batch, *mode;     /* [batches], [modes]: ohm_variant_name */
    int batches, modes, steps;
    int together;                /* the modes of a batch took turns */
    ohm_profile *result;         /* [batches][modes] */
} ohm_profile_report;

const char *ohm_profile_chip(const ohm_config *config); /* its name, "none" without one */
void ohm_profile_print(const ohm_profile_report *report);
ohm_status ohm_profile_write_json(const ohm_profile_report *report, const char *path);
/* Memory over one step, a panel per batch (plot.h). */
ohm_status ohm_profile_draw(const ohm_profile_report *report, const char *path);
ohm_status ohm_profile_write_trace(const ohm_profile_report *report, const char *path);

#endif
