/* What the benchmarks share: a clock, repetition, the sgemm baseline, one JSON line per figure.
 * A benchmark checks its result before it times it. */
#ifndef OHM_PROFILING_BENCH_H
#define OHM_PROFILING_BENCH_H

#include <stdbool.h>
#include <stddef.h>

/* Seconds of the monotonic clock. */
double ohm_bench_now(void);

/* Best time in seconds of one call of body(context), over as many calls as fit into `budget` seconds
 * and never fewer than three. */
double ohm_bench_best(void (*body)(void *context), void *context, double budget);

/* Best time in seconds of one OpenBLAS sgemm, y [m,n] = x [m,k] wᵀ with w [n,k], on `threads` threads.
 * Call it before anything opens an OpenMP region: libgomp's threads spin and slow it down. Ends the
 * benchmark with a message when memory runs out. */
double ohm_bench_sgemm(size_t m, size_t n, size_t k, int threads);

/* Clock of this core in Hz, from a chain of dependent additions; 0 where it cannot be measured. */
double ohm_bench_clock(void);

/* One figure. Text and numbers are printed as given. */
typedef struct {
    const char *bench, *what, *shape; /* "normals", "fast", "128 x 64" */
    double value;
    const char *unit; /* "G/s" */
    int threads;        /* 0: none to speak of */
    const char *device; /* where it ran, instead of on this processor; NULL: it did not */
    double spread;      /* distance of the quartiles as a share of the median; 0: left out */
    double ratio;         /* to the baseline named next, measured in the same run */
    const char *baseline; /* NULL when there is none: ratio and target are then left out */
    double target;        /* what ratio must reach; 0 = none was set */
    bool at_most;         /* the target is an upper bound */
    const char *note;     /* what bounds the figure; may be NULL */
} ohm_bench_figure;

/* Prints the figure as one line of JSON with commit, processor or device, and date. A missed target is said in it. */
void ohm_bench_print(const ohm_bench_figure *figure);

#endif
