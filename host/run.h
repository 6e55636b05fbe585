/* The folder of one training run:
 *
 *     config.yaml    the effective configuration      lock          held while a process trains
 *     run.json       commit, seed, device, ...        checkpoints/  checkpoint.h
 *     metrics.jsonl  metrics.h
 */
#ifndef OHM_HOST_RUN_H
#define OHM_HOST_RUN_H

#include "host/config.h"

typedef struct ohm_run ohm_run;

/* Makes the folder (resume: it must be there) and locks it against other processes until _close.
 * A folder that already holds something is refused unless resume is set. */
ohm_status ohm_run_open(ohm_run **run, const char *dir, int resume);
void ohm_run_close(ohm_run *run); /* NULL-safe; the lock ends with the process too */

/* Writes config.yaml and run.json, each unless it is there. */
ohm_status ohm_run_describe(ohm_run *run, const ohm_config *config);
/* Before a run goes on from `step`: where that is on another backend, device or driver than before, run.json
 * has it in its list "resumed". OHM_ERR_DATA: run.json is no JSON. */
ohm_status ohm_run_resumed(ohm_run *run, const ohm_config *config, int64_t step);

/* DIR/name. */
ohm_status ohm_run_path(char path[OHM_PATH_BYTES], const char *dir, const char *name);

#endif
