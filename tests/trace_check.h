/* A validator of Chrome trace-event files, written from the format's description and from what
 * host/trace.h promises of ours. */
#ifndef OHM_TESTS_TRACE_CHECK_H
#define OHM_TESTS_TRACE_CHECK_H

typedef struct {
    int tracks, steps, kernels;
    double coverage;     /* smallest share of a step's time that kernels cover */
    char names[4096];    /* " name " of every kernel that occurs, once each */
} trace_summary;

/* Fails the test unless the file is JSON, every event is complete, events of a track nest without
 * overlap, levels only deepen, and a kernel holds nothing. */
void trace_check(trace_summary *summary, const char *path);

#endif
