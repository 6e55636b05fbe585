#include "tests/parity.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Memory of the running case; a case runs in a process of its own. */
enum { MOST = 4096 };
static struct {
    void *at[MOST];
    int count;
    void *host[MOST];
    int hosts;
    ohm_cuda_stream stream;
} memory;

static void must(ohm_cuda_status status)
{
    ck_assert_msg(status == OHM_CUDA_OK, "%s", ohm_cuda_error_text());
}

ohm_cuda_stream parity_stream(void)
{
    if (!memory.stream)
        must(ohm_cuda_stream_create(&memory.stream));
    return memory.stream;
}

void *parity_alloc(size_t bytes)
{
    void *at = NULL;
    ck_assert_int_lt(memory.count, MOST);
    must(ohm_cuda_allocate(&at, bytes));
    memory.at[memory.count++] = at;
    return at;
}

void *parity_host(size_t bytes)
{
    void *at = malloc(bytes + 1);
    ck_assert_ptr_nonnull(at);
    ck_assert_int_lt(memory.hosts, MOST);
    memory.host[memory.hosts++] = at;
    return at;
}

void *parity_upload(const void *host, size_t bytes)
{
    void *at = parity_alloc(bytes);
    must(ohm_cuda_upload(at, host, bytes, parity_stream()));
    must(ohm_cuda_stream_wait(parity_stream()));
    return at;
}

ohm_cuda_status parity_fetch(void *host, const void *device, size_t bytes)
{
    ohm_cuda_status status = ohm_cuda_download(host, device, bytes, parity_stream());
    return status == OHM_CUDA_OK ? ohm_cuda_stream_wait(parity_stream()) : status;
}

/* After a kernel failed, memory is given back all the same; the failure has been reported. */
static void release(void)
{
    executor_repair();
    for (int i = 0; i < memory.count; i++)
        ohm_cuda_free(memory.at[i]);
    ohm_cuda_stream_destroy(memory.stream);
    executor_repair();
    for (int i = 0; i < memory.hosts; i++)
        free(memory.host[i]);
    memory.count = memory.hosts = 0;
    memory.stream = NULL;
}

ohm_verdict parity_pass(void)
{
    return (ohm_verdict){.pass = true};
}

ohm_verdict parity_failed(const char *what)
{
    ohm_verdict verdict = {.pass = false};
    snprintf(verdict.text, sizeof verdict.text, "%.80s: %.200s", what, ohm_cuda_error_text());
    return verdict;
}

const char *parity_absent(void)
{
    int count;
    return ohm_cuda_count(&count) == OHM_CUDA_OK && count > 0 ? NULL : ohm_cuda_error_text();
}

static ohm_verdict run_in(parity_case *run, int order)
{
    executor_set_order(order);
    ohm_verdict verdict = run();
    release();
    return verdict;
}

void parity_orders(parity_case *run)
{
    for (int order = 0; order < executor_orders(); order++) {
        ohm_verdict verdict = run_in(run, order);
        ck_assert_msg(verdict.pass, "thread order %d: %s", order, verdict.text);
    }
}

/* In a process of its own: what a missing barrier leaves in shared memory may be any address. It says
 * what it did not notice; every other end is one that a test would show. */
static bool noticed_without(parity_case *run, int barrier)
{
    enum { UNNOTICED = 42 };
    int status;
    fflush(NULL);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        executor_ignore_barrier(barrier);
        for (int order = 0; order < executor_orders(); order++)
            if (!run_in(run, order).pass)
                _exit(0);
        _exit(UNNOTICED);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == UNNOTICED);
}

void parity_barriers(parity_case *run)
{
    omp_set_num_threads(1); /* OpenMP's threads do not outlive a fork */
    executor_forget_barriers();
    ohm_verdict whole = run_in(run, 0);
    ck_assert_msg(whole.pass, "with all barriers: %s", whole.text);
    int count = executor_barriers();
    ck_assert_msg(count > 0, "this case passes no barrier: use OHM_PARITY_ALONE");
    for (int barrier = 0; barrier < count; barrier++)
        ck_assert_msg(noticed_without(run, barrier), "%s can be left out and no thread order fails",
                      executor_barrier(barrier));
}
