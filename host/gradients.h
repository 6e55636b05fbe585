/* How good the straight-through gradient is: g_STE (mode nograd) and g_full (mode full) at the same
 * weights, images and random words, with the clean gradient g_clean (mode baseline) beside them.
 *
 * One sample is one batch on one draw, a chip instance with everything random drawn anew. For a group of
 * parameters (the weights of one matrix layer, or all that is trained), <.> being the mean over the
 * draws of one batch and |.| the Euclidean norm:
 *
 *   cosine            < g_STE . g_full / (|g_STE| |g_full|) >
 *   norm ratio        < |g_STE| / |g_full| >
 *   variance          V(g) = sum over the coordinates of the unbiased sample variance over the draws
 *   relative variance V(g) / <|g|^2>, the share of the squared norm that is noise: 0..1
 *   bias              |E g_STE - E g_full| / sqrt(<|g_full|^2>); the square of the numerator is estimated by
 *                     |<g_STE> - <g_full>|^2 - V(g_STE - g_full)/draws, taken as 0 where that is negative
 *   clean cosine      < g . g_clean / (|g| |g_clean|) >, of g_STE and of g_full
 *   clean norm ratio  < |g| / |g_clean| >, of both
 *
 * The quantities are those of Feng et al. 2025, section on gradient quality; these definitions are ours.
 * Each is computed per batch; reported are the mean over batches and its standard error, from the
 * spread between batches. Where a norm is zero, what divides by it is NaN. */
#ifndef OHM_HOST_GRADIENTS_H
#define OHM_HOST_GRADIENTS_H

#include "host/dataset.h"
#include "host/network.h"

typedef enum {
    OHM_MEASURE_COSINE,
    OHM_MEASURE_NORM_RATIO,
    OHM_MEASURE_STE_VARIANCE,
    OHM_MEASURE_FULL_VARIANCE,
    OHM_MEASURE_STE_RELATIVE, /* relative variance */
    OHM_MEASURE_FULL_RELATIVE,
    OHM_MEASURE_BIAS,
    OHM_MEASURE_STE_CLEAN_COSINE,
    OHM_MEASURE_FULL_CLEAN_COSINE,
    OHM_MEASURE_STE_CLEAN_RATIO,
    OHM_MEASURE_FULL_CLEAN_RATIO,
    OHM_MEASURES,
} ohm_measure;

/* "cosine", "norm_ratio", ...: words without spaces, for column heads. */
const char *ohm_measure_name(int measure);

typedef struct {
    double mean, error; /* standard error of the mean */
} ohm_estimate;

typedef struct {
    int levels, groups;
    double *level;          /* [levels] */
    char (*group)[OHM_LAYER_NAME_BYTES]; /* [groups] the matrix layers in order, then "all" */
    ohm_estimate *estimate; /* [levels][groups][OHM_MEASURES] */
} ohm_gradient_report;

typedef struct {
    const double *level;    /* [levels] values of programming.level */
    int levels;
    int batches, draws;     /* at least 2 each */
    void (*on_sample)(void *context, int64_t done, int64_t total); /* may be NULL */
    void *context;
} ohm_gradient_job;

/* The network was created for training in mode full (both modes and the clean pass run on it), holds the
 * weights to measure at, and is given back as it came. The chip's ranges are gathered anew for each
 * level, from train.calibration_batches of images. Batches are train.batch images in the order of epoch
 * 0, without augmentation. The report is the caller's (ohm_gradient_report_free), empty on failure.
 * OHM_ERR_CONFIG: no chip, too few images; OHM_ERR_ARGUMENT: counts or levels out of bounds;
 * OHM_ERR_UNSUPPORTED: the simulator has no gradient. */
ohm_status ohm_gradients_measure(ohm_gradient_report *report, ohm_network *network, const ohm_config *config, const ohm_dataset *images,
                                 const ohm_gradient_job *job);
void ohm_gradient_report_free(ohm_gradient_report *report); /* NULL-safe, idempotent */
const ohm_estimate *ohm_gradient_at(const ohm_gradient_report *report, int level, int group);

/* ---- the arithmetic, apart, for one batch -------------------------------------------------- */

typedef struct ohm_gradient_tally ohm_gradient_tally;

/* For one group of `count` parameters. NULL: out of memory. */
ohm_gradient_tally *ohm_gradient_tally_new(size_t count);
void ohm_gradient_tally_free(ohm_gradient_tally *tally); /* NULL-safe */
void ohm_gradient_tally_clear(ohm_gradient_tally *tally);
/* One draw: three vectors [count]. */
void ohm_gradient_tally_add(ohm_gradient_tally *tally, const float *ste, const float *full, const float *clean);
/* The measures over the draws so far, at least 2. */
void ohm_gradient_tally_read(const ohm_gradient_tally *tally, double measure[OHM_MEASURES]);

#endif
