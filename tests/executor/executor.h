/* What tests say to the host executor. In the binary for devices (tests-cuda) the same calls exist:
 * one order, no barriers, see executor_absent.c. */
#ifndef OHM_TESTS_EXECUTOR_H
#define OHM_TESTS_EXECUTOR_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Whether kernels run on the executor; else on device 0, which may be absent. */
bool executor_present(void);

/* Orders in which blocks and threads run: 0 forward, 1 reversed, 2.. random. */
int executor_orders(void);
void executor_set_order(int order);

/* Barriers and waits that kernels have passed since executor_forget_barriers, by place in the source.
 * The one that is ignored does nothing from then on; -1 = none. */
int executor_barriers(void);
const char *executor_barrier(int index); /* "file:line __syncthreads" */
void executor_ignore_barrier(int index);
void executor_forget_barriers(void);

/* After a kernel failed every call fails, as on a device. This drops what is queued and lets tests of
 * failures go on; memory stays. */
void executor_repair(void);

/* The next launch of a kernel whose name holds `part` fails when the stream comes to it, as a bad
 * address would; NULL: none does. On a device nothing happens. */
void executor_break(const char *part);
/* The next launch of such a kernel is refused where it is asked for: for its shape, or for want of memory. */
void executor_refuse_launch(const char *part, bool memory);
/* Calls queued(context, name) for every kernel, product, copy, fill and graph that is asked for on a stream;
 * NULL: no more. */
void executor_watch(void (*queued)(void *context, const char *name), void *context);
/* Somebody else has taken so many bytes of the device's memory. */
void executor_take(size_t bytes);
/* The driver's version that the device names, as on a device, which `device: auto` takes; 0: no more. */
void executor_set_driver(int version);
/* The device is gone. executor_repair brings it back, and what was taken. */
void executor_lose(void);

/* Work done since the start of the process. */
typedef struct {
    size_t launches, blocks, threads, switches;
    size_t allocations, waits; /* of device or page-locked memory; of the host */
} executor_counts;
executor_counts executor_count(void);

#ifdef __cplusplus
}
#endif

#endif
