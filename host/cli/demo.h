/* What `ohmgrad demo` measures, and how it reports it. */
#ifndef OHM_HOST_CLI_DEMO_H
#define OHM_HOST_CLI_DEMO_H

#include <stdio.h>

#include "host/config.h"

typedef enum { OHM_DEMO_CLEAN, OHM_DEMO_FULL, OHM_DEMO_STE, OHM_DEMO_METHODS } ohm_demo_method;

/* One training and its evaluations. */
typedef struct {
    double no_chip;      /* share of right answers without a chip */
    double seconds;      /* of training */
    double *accuracy;    /* [levels][chips] */
    double *loss;        /* [steps], of each step's batch */
} ohm_demo_run;

typedef struct {
    int seeds, levels, chips, steps;
    double seed[OHM_COEFFICIENTS], level[OHM_COEFFICIENTS];
    double *memory;             /* owned; all of the arrays below */
    ohm_demo_run run[OHM_DEMO_METHODS][OHM_COEFFICIENTS]; /* by method and seed */
} ohm_demo;

/* Arrays for what config->demo asks for. */
ohm_status ohm_demo_create(ohm_demo *demo, const ohm_config *config, int steps);
void ohm_demo_free(ohm_demo *demo);

const char *ohm_demo_name(int method); /* "no noise" */

/* Mean loss of the last few steps up to `step` (from 0). */
enum { OHM_DEMO_SMOOTH_STEPS = 15 };
double ohm_demo_loss(const ohm_demo_run *run, int step);

/* Over seeds and chips of one method at one level. */
typedef struct {
    double mean, deviation;
} ohm_demo_spread;
ohm_demo_spread ohm_demo_summary(const ohm_demo *demo, int method, int level);

/* Difference between a method and training without noise, pair by pair: the same seed, the same chip. */
typedef struct {
    double mean, error;              /* standard error of the mean over all pairs */
    double of_seed[OHM_COEFFICIENTS]; /* mean over the chips of one seed */
} ohm_demo_gain;
ohm_demo_gain ohm_demo_compare(const ohm_demo *demo, int method, int level);

void ohm_demo_print(const ohm_demo *demo, FILE *out);
/* results.json, loss.svg and accuracy.svg with their numbers, config.yaml; older ones are replaced. */
ohm_status ohm_demo_write(const ohm_demo *demo, const ohm_config *config, const char *dir);

#endif
