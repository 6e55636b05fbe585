/* Table III of Feng et al. 2025 for any network: time and memory of a training step, by gradient mode.
 *
 * All jobs of a measurement live in one process and take turns, a step each, so that their times are
 * measured side by side; where their plans do not fit together, one after the other. The peak that the
 * system saw is taken per job: growth of the process's resident peak (VmHWM, reset before) from before
 * the reservation to after the first step; on a device, growth of its memory in use, to after the second
 * step, which is recorded. Images are random: time does not depend on them. */
#ifndef OHM_HOST_PROFILE_H
#define OHM_HOST_PROFILE_H

#include "host/network.h"

enum { OHM_PROFILE_STEPS_MAX = 1000, OHM_PROFILE_TRACED_STEPS = 3, OHM_PROFILE_REASON_BYTES = 256 };

typedef struct {
    const ohm_architecture *architecture;
    ohm_config config;        /* with mode, full, batch and micro_batch set */
} ohm_profile_job;

typedef struct {
    char refused[OHM_PROFILE_REASON_BYTES]; /* not empty: this mode is not supported, and why; the rest is then empty */
    int steps;
    double seconds[OHM_PROFILE_STEPS_MAX]; /* of each step, ascending */
    ohm_memory plan;
    double average[OHM_MEMORY_CATEGORIES], average_total; /* live bytes, mean over the time of a step */
    double seen;              /* bytes of the peak that the system or device saw; NaN: it does not say */
    double cpu;               /* share of the host threads' time that was computed in, 0..1 */
    double gpu;               /* utilisation of the accelerator, 0..1; NaN: not available */
    int points;               /* over one step: */
    double *at_ms, *live_mib; /* [points] time since its begin, planned bytes live from then on */
    ohm_trace *trace;         /* of up to OHM_PROFILE_TRACED_STEPS more steps */
} ohm_profile;

/* Fills result[count], of zeroed memory; free each with ohm_profile_free, also after an error. `together`
 * = 0: one job after the other. A mode that the chip or device does not support is no error. */
ohm_status ohm_profile_run(ohm_profile *result, const ohm_profile_job *job, int count, int steps, int together);
void ohm_profile_free(ohm_profile *result);

static inline double ohm_profile_median(const ohm_profile *p)
{
    return p->steps ? 0.5 * (p->seconds[(p->steps - 1) / 2] + p->seconds[p->steps / 2]) : 0.0;
}

#endif
