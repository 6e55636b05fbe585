/* Inside of the host executor: fibers, and the one way to run a kernel. */
#ifndef OHM_TESTS_EXECUTOR_INTERNAL_HPP
#define OHM_TESTS_EXECUTOR_INTERNAL_HPP

#include <string>

#include "tests/executor/device_executor.hpp"
#include "tests/executor/executor.h"

/* A stack of its own, kept when the fiber is started again. */
struct executor_fiber {
    void *stack;   /* lowest address; NULL before the first start */
    void *context; /* where it stands */
    void *sanitizer;
};
/* The next enter begins at body, which must not return. */
void executor_fiber_start(executor_fiber *f, void (*body)());
/* From the scheduler: runs f until it leaves. */
void executor_fiber_enter(executor_fiber *f);
/* From f: back to the scheduler, for good if last. */
void executor_fiber_leave(executor_fiber *f, bool last);

/* Runs all blocks now; false and one line in *error when the kernel did what a device forbids. */
bool executor_run_kernel(std::string *error, const char *name, dim3 grid, dim3 block,
                         size_t dynamic_bytes, const std::function<void()> &body);

/* What executor_count tells of the runtime. */
extern size_t executor_allocations, executor_waits;

/* What a library would queue on a stream. */
ohm_cuda_status executor_queue_work(const char *name, ohm_cuda_stream s,
                                    std::function<ohm_cuda_status()> body);
/* [at, at + bytes) lies in one allocation of device memory. */
bool executor_on_device(const void *at, size_t bytes);

#endif
