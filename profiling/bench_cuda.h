/* What the sources of bench_cuda share: one device, its ceilings, memory of a section, timing. */
#ifndef OHM_PROFILING_BENCH_CUDA_H
#define OHM_PROFILING_BENCH_CUDA_H

#include <stdio.h>

#include "kernels/philox.h"
#include "kernels/runtime_cuda.h"
#include "profiling/bench.h"

enum { BENCH_MEMORIES = 32 };

typedef struct {
    ohm_cuda_device device;
    char name[320];
    ohm_cuda_stream s;
    ohm_cuda_event from, to;
    float *clear; /* read through before each call: nothing of the caller's stays in the cache */
    size_t clear_count;
    int small;
    double copy, fp16, words_cached, words_stored; /* bytes/s, flop/s, bytes/s; 0: not measured */
    void *memory[BENCH_MEMORIES];                  /* of the section that runs */
    int memories;
} bench_device;
extern bench_device bench;
extern const ohm_stream words_of; /* all data are drawn from it */

/* In functions that return 0 when they fail, and have then said why. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        if ((call) != OHM_CUDA_OK) {                                                               \
            fprintf(stderr, "bench_cuda: %s\n", ohm_cuda_error_text());                            \
            return 0;                                                                              \
        }                                                                                          \
    } while (0)
int device_differs(const char *what);
int device_no_memory(const char *what);
int device_fetch(void *host, const void *device, size_t bytes);

/* NULL where it does not fit. Lives until device_release, which ends a section. */
void *device_memory(size_t bytes);
void *device_upload(const void *host, size_t bytes);
void device_release(void);

/* Median of one call in seconds, and the distance of the quartiles as a share of it. 0: failed. */
typedef ohm_cuda_status subject(const void *context);
double device_timed(subject *run, const void *context, double *spread);
/* As ohm_bench_print, with the device's name. */
void device_print(ohm_bench_figure f);

/* Sections of bench_chip_cuda.c: 1, or 0 where something failed. */
int measure_program(void);
int measure_mvm(void);
int measure_mvm_backward(void);

#endif
