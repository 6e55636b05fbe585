/* The host executor says what a device would not do; its runtime keeps a device's rules. */
#include <stdio.h>
#include <string.h>

#include "tests/executor/sample_cuda.h"
#include "tests/parity.h"

/* OHM_SKIP leaves the body of the test. */
#define ON_EXECUTOR                                                                                \
    do                                                                                             \
        if (!executor_present())                                                                   \
            OHM_SKIP("for the host executor alone");                                               \
    while (0)

OHM_TEST(executor, faults_are_named)
{
    static const char *const expected[OHM_FAULTS] = {
        [OHM_FAULT_ENDED_THREAD] = "but thread (7,0,0) has ended",
        [OHM_FAULT_TWO_BARRIERS] = "while others wait at",
        [OHM_FAULT_HALF_WARP] = "waits at __shfl_xor_sync",
        [OHM_FAULT_FOREIGN_LANE] = "shuffles from lane 20, which is not in mask 0000ffff",
        [OHM_FAULT_BEHIND_SHARED] = "wrote 0 bytes behind a shared array of 256 bytes",
        [OHM_FAULT_BEHIND_GLOBAL] = "wrote outside device memory of 256 bytes",
        [OHM_FAULT_UNWAITED_COPY] = "ends before it has waited for its asynchronous copies",
        [OHM_FAULT_SHARED_TOO_BIG] = "more than 48 KiB",
    };
    ON_EXECUTOR;
    for (int order = 0; order < executor_orders(); order++)
        for (int fault = 0; fault < OHM_FAULTS; fault++) {
            void *x;
            ohm_cuda_stream s;
            executor_set_order(order);
            ck_assert_int_eq(ohm_cuda_stream_create(&s), OHM_CUDA_OK);
            ck_assert_int_eq(ohm_cuda_allocate(&x, 64 * sizeof(int)), OHM_CUDA_OK);
            ck_assert_int_eq(ohm_fault_launch((ohm_fault)fault, x, s), OHM_CUDA_OK);
            ck_assert_int_eq(ohm_cuda_stream_wait(s), OHM_CUDA_KERNEL);
            ck_assert_msg(strstr(ohm_cuda_error_text(), expected[fault]) != NULL,
                          "fault %d: '%s' lacks '%s'", fault, ohm_cuda_error_text(),
                          expected[fault]);
            ck_assert_ptr_nonnull(strstr(ohm_cuda_error_text(), "misbehave"));
            /* As on a device: nothing works any more. */
            ck_assert_int_eq(ohm_cuda_fill(x, 0, 4, s), OHM_CUDA_KERNEL);
            ohm_cuda_free(x);
            ohm_cuda_stream_destroy(s);
            executor_repair();
        }
}

OHM_TEST(executor, shapes_no_device_launches_are_refused)
{
    ON_EXECUTOR;
    int *x = parity_alloc(64 * sizeof(int));
    ck_assert_int_eq(ohm_fault_shape(33, 0, x, parity_stream()), OHM_CUDA_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(ohm_cuda_error_text(), "multiple of 32"));
    ck_assert_int_eq(ohm_fault_shape(1056, 0, x, parity_stream()), OHM_CUDA_ARGUMENT);
    ck_assert_int_eq(ohm_fault_shape(0, 0, x, parity_stream()), OHM_CUDA_ARGUMENT);
    ck_assert_int_eq(ohm_fault_shape(32, 228 * 1024, x, parity_stream()), OHM_CUDA_ARGUMENT);
    ck_assert_int_eq(ohm_sample_sum(x, x, 1, NULL), OHM_CUDA_ARGUMENT);
    ohm_cuda_free(x);
    ohm_cuda_stream_destroy(parity_stream());
}

/* What is queued happens when it is waited for, not before. */
OHM_TEST(executor, streams_and_events_run_in_order)
{
    ON_EXECUTOR;
    void *x;
    ohm_cuda_stream first, second;
    ohm_cuda_event e;
    unsigned char host[4] = {9, 9, 9, 9};
    double seconds;
    ck_assert_int_eq(ohm_cuda_allocate(&x, 4), OHM_CUDA_OK);
    ck_assert_int_eq(ohm_cuda_stream_create(&first), OHM_CUDA_OK);
    ck_assert_int_eq(ohm_cuda_stream_create(&second), OHM_CUDA_OK);
    ck_assert_int_eq(ohm_cuda_event_create(&e), OHM_CUDA_OK);
    ohm_cuda_fill(x, 7, 4, first);
    ck_assert_int_eq(ohm_cuda_event_record(e, first), OHM_CUDA_OK);
    ck_assert_int_eq(ohm_cuda_event_seconds(&seconds, e, e), OHM_CUDA_ARGUMENT);
    ohm_cuda_fill(x, 8, 4, first);
    ck_assert_int_eq(ohm_cuda_event_wait(e), OHM_CUDA_OK);
    ohm_cuda_download(host, x, 4, second);
    ck_assert_int_eq(host[0], 9);
    ck_assert_int_eq(ohm_cuda_stream_wait(second), OHM_CUDA_OK);
    ck_assert_int_eq(host[0], 7);
    ck_assert_int_eq(ohm_cuda_event_seconds(&seconds, e, e), OHM_CUDA_OK);
    ck_assert(seconds == 0.0);
    ohm_cuda_download(host, x, 4, first);
    ck_assert_int_eq(ohm_cuda_stream_wait(first), OHM_CUDA_OK);
    ck_assert_int_eq(host[3], 8);
    ck_assert_int_eq(ohm_cuda_download(host, x, 5, first), OHM_CUDA_ARGUMENT);
    ck_assert_int_eq(ohm_cuda_upload(host, host, 4, first), OHM_CUDA_ARGUMENT);
    ck_assert_int_eq(ohm_cuda_allocate(&x, (size_t)1 << 40), OHM_CUDA_MEMORY);
    ohm_cuda_event_destroy(e);
    ohm_cuda_stream_destroy(first);
    ohm_cuda_stream_destroy(second);
}

OHM_PARITY_ALONE(runtime_cuda, graphs_record_and_are_updated)
{
    int x[64], sum = -1;
    for (int i = 0; i < 64; i++)
        x[i] = i;
    ohm_cuda_stream s = parity_stream();
    int *dx = parity_upload(x, sizeof x), *two = parity_alloc(2 * sizeof(int));
    ohm_cuda_graph graph = NULL;
    ohm_verdict verdict = {.pass = false, .text = "wrong sum"};
    PARITY_TRY(ohm_cuda_fill(two, 0, 2 * sizeof(int), s));
    for (int to = 0; to < 2; to++) { /* the second capture changes a pointer */
        PARITY_TRY(ohm_cuda_graph_begin(s));
        PARITY_TRY(ohm_sample_sum(two + to, dx, 1, s));
        PARITY_TRY(ohm_cuda_graph_end(&graph, s));
        PARITY_TRY(parity_fetch(&sum, two + to, sizeof sum));
        if (sum != 0)
            return verdict; /* recorded, not run */
        PARITY_TRY(ohm_cuda_graph_launch(graph, s));
        PARITY_TRY(parity_fetch(&sum, two + to, sizeof sum));
        if (sum != 63 * 32)
            return verdict;
    }
    ohm_cuda_graph_destroy(graph);
    return parity_pass();
}

OHM_TEST(executor, captures_forbid_what_waits)
{
    ON_EXECUTOR;
    void *x, *y;
    ohm_cuda_graph graph = NULL;
    ohm_cuda_stream s = parity_stream();
    ck_assert_int_eq(ohm_cuda_allocate(&x, 4), OHM_CUDA_OK);
    ck_assert_int_eq(ohm_cuda_graph_begin(s), OHM_CUDA_OK);
    ck_assert_int_eq(ohm_cuda_allocate(&y, 4), OHM_CUDA_ARGUMENT);
    ck_assert_int_eq(ohm_cuda_free(x), OHM_CUDA_ARGUMENT);
    ck_assert_int_eq(ohm_cuda_stream_wait(s), OHM_CUDA_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(ohm_cuda_error_text(), "while a stream is captured"));
    ck_assert_int_eq(ohm_cuda_graph_end(&graph, s), OHM_CUDA_OK);
    ck_assert_int_eq(ohm_cuda_free(x), OHM_CUDA_OK);
    ohm_cuda_graph_destroy(graph);
    ohm_cuda_stream_destroy(s);
}

/* tests-cuda is the binary for devices: without one it starts, and says why it skips. */
OHM_TEST(executor, a_cuda_build_starts_without_a_device)
{
    char out[4096];
    char path[4200];
    ON_EXECUTOR;
    snprintf(path, sizeof path, "%s-cuda", ohm_test_self());
    if (ohm_test_run(out, sizeof out, "test -x %s", path) != 0)
        OHM_SKIP("no tests-cuda beside this binary: built without nvcc");
    ck_assert_msg(ohm_test_run(out, sizeof out, "%s --gtest_filter=runtime_cuda.*", path) == 0,
                  "%s", out);
    if (ohm_test_run(NULL, 0, "test -e /dev/nvidiactl") != 0)
        ck_assert_msg(strstr(out, "[  SKIPPED ]") && strstr(out, "cudaGetDeviceCount: "), "%s",
                      out);
}
