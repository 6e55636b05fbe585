/* Named ranges over a training step: step > phase > layer > kernel. Each is an NVTX range of the
 * domain `ohmgrad` where the build has NVTX (make NVTX=0 leaves it out), so that Nsight shows it, and
 * while recording is on an event for a Chrome trace, which Perfetto and chrome://tracing open.
 *
 * Every kernel and every matrix product of a step lies inside exactly one range of level
 * OHM_TRACE_KERNEL; such a range holds no other. Ranges open and close on the thread that steps, as a
 * stack. A NULL trace is allowed everywhere and costs a branch. */
#ifndef OHM_HOST_TRACE_H
#define OHM_HOST_TRACE_H

#include <stdint.h>

#include "host/status.h"

typedef enum { OHM_TRACE_STEP, OHM_TRACE_PHASE, OHM_TRACE_LAYER, OHM_TRACE_KERNEL, OHM_TRACE_LEVELS } ohm_trace_level;

enum { OHM_TRACE_NAME_BYTES = 48 };

typedef struct {
    char name[OHM_TRACE_NAME_BYTES];
    int level;                /* ohm_trace_level */
    int tick;                 /* of the network's plan (arena.h) that begins here; -1: none does */
    int64_t begin_ns, end_ns; /* of the monotonic clock */
} ohm_trace_event;

typedef struct ohm_trace ohm_trace;

/* Nothing is recorded yet: ranges only go to NVTX. */
ohm_status ohm_trace_create(ohm_trace **trace);
void ohm_trace_destroy(ohm_trace *trace); /* NULL-safe */

/* Makes room for `steps` steps like those seen so far and records from now on; events of an earlier
 * recording are dropped. Nothing is allocated while it records. Not inside a range. */
ohm_status ohm_trace_record(ohm_trace *trace, int steps);
void ohm_trace_pause(ohm_trace *trace);

/* From now on settle(context) is called before a kernel range that is recorded closes: where a device works
 * apart from the host, it waits for what the range holds. NULL: nothing is called. */
void ohm_trace_settle(ohm_trace *trace, void (*settle)(void *context), void *context);

/* tick: see ohm_trace_event. */
void ohm_trace_begin(ohm_trace *trace, ohm_trace_level level, const char *name, int tick);
void ohm_trace_end(ohm_trace *trace);
/* A range of level OHM_TRACE_KERNEL. */
static inline void ohm_trace_kernel(ohm_trace *trace, const char *name)
{
    if (trace)
        ohm_trace_begin(trace, OHM_TRACE_KERNEL, name, -1);
}
/* Closes ranges down to `depth`: after an error that left some open. */
void ohm_trace_unwind(ohm_trace *trace, int depth);
int ohm_trace_depth(const ohm_trace *trace);
/* Level of the innermost open range; -1: none. */
int ohm_trace_open_level(const ohm_trace *trace);

/* Closed events in the order in which they were opened; *count = 0 without any. */
const ohm_trace_event *ohm_trace_events(const ohm_trace *trace, int *count);

/* One row of the written trace, such as one gradient mode. */
typedef struct {
    const char *name;
    const ohm_trace *trace;
} ohm_trace_track;
/* Writes a Chrome trace-event file: complete events ("ph":"X"), times in microseconds from the first
 * event of its track. OHM_ERR_DATA when more happened than there was room for. */
ohm_status ohm_trace_write(const char *path, const ohm_trace_track *track, int count);

/* 1: this build has NVTX. */
int ohm_trace_has_nvtx(void);

#endif
