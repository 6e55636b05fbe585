/* executor.h where kernels run on a device. */
#include "tests/executor/executor.h"
#include "tests/executor/sample_cuda.h"

bool executor_present(void)
{
    return false;
}

int executor_orders(void)
{
    return 1;
}

void executor_set_order(int order)
{
    (void)order;
}

int executor_barriers(void)
{
    return 0;
}

const char *executor_barrier(int index)
{
    (void)index;
    return "";
}

void executor_ignore_barrier(int index)
{
    (void)index;
}

void executor_forget_barriers(void) {}

void executor_repair(void) {}

void executor_break(const char *part)
{
    (void)part;
}

void executor_refuse_launch(const char *part, bool memory)
{
    (void)part, (void)memory;
}

void executor_watch(void (*queued)(void *context, const char *name), void *context)
{
    (void)queued, (void)context;
}

void executor_take(size_t bytes)
{
    (void)bytes;
}

void executor_set_driver(int version)
{
    (void)version;
}

void executor_lose(void) {}

executor_counts executor_count(void)
{
    return (executor_counts){0};
}

ohm_cuda_status ohm_fault_launch(ohm_fault fault, int *x, ohm_cuda_stream s)
{
    (void)fault, (void)x, (void)s;
    return ohm_cuda_fail(OHM_CUDA_ARGUMENT, "fault_launch", "for the host executor alone");
}

ohm_cuda_status ohm_fault_shape(int threads, size_t shared_bytes, int *x, ohm_cuda_stream s)
{
    (void)threads, (void)shared_bytes, (void)x, (void)s;
    return ohm_cuda_fail(OHM_CUDA_ARGUMENT, "fault_shape", "for the host executor alone");
}
