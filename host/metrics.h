/* metrics.jsonl: one JSON object per line, each with "step" (optimiser steps done) as its first key.
 * NaN and infinity have no form in JSON and are written as null. */
#ifndef OHM_HOST_METRICS_H
#define OHM_HOST_METRICS_H

#include <stdint.h>

#include "host/status.h"

typedef struct ohm_metrics ohm_metrics;

/* Opens for appending, after cutting the file back to its first `bytes` bytes: to what it was when the
 * checkpoint was written that is resumed. The file is made if need be. */
ohm_status ohm_metrics_open(ohm_metrics **metrics, const char *path, int64_t bytes);
void ohm_metrics_close(ohm_metrics *metrics); /* NULL-safe */
int64_t ohm_metrics_bytes(const ohm_metrics *metrics);

typedef struct {
    const char *key;
    double value;
} ohm_metric;

/* {"step": step, key: value, ...}: whole numbers below 2^53 as such, others with as many digits as bring them back. The line is
 * handed to the system before the call returns. */
ohm_status ohm_metrics_write(ohm_metrics *metrics, int64_t step, const ohm_metric *pairs, int count);
/* Waits until the lines are on the disk: before a checkpoint that counts on them. */
ohm_status ohm_metrics_sync(ohm_metrics *metrics);

#endif
