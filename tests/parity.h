/* Kernels against their references. A parity case launches, waits, fetches and gives a verdict:
 *
 *     OHM_PARITY(quantise_cuda, codes)
 *     {
 *         float x[257], *dx = parity_upload(x, sizeof x);
 *         int8_t q[257], expected[257], *dq = parity_alloc(sizeof q);
 *         ...
 *         PARITY_TRY(ohm_quantise_cuda(dq, dx, 257, ..., parity_stream()));
 *         PARITY_TRY(parity_fetch(q, dq, sizeof q));
 *         PARITY_CHECK(ohm_compare_bits(q, expected, 257));
 *         return parity_pass();
 *     }
 *
 * It makes two tests. <name> runs the case in every thread order of the host executor, or once on
 * the device in tests-cuda (skipped where there is none). <name>_without_barriers, a slow one, runs
 * it with each barrier that it passed ignored in turn, and fails when no order notices: a table that
 * does not need a barrier does not test it. Kernels without barriers take OHM_PARITY_ALONE. */
#ifndef OHM_TESTS_PARITY_H
#define OHM_TESTS_PARITY_H

#include "kernels/runtime_cuda.h"
#include "tests/compare.h"
#include "tests/executor/executor.h"
#include "tests/runner.h"

typedef ohm_verdict parity_case(void);

/* Device memory of this case, released after it. Uninitialised (poison) or a copy of host[bytes]. */
void *parity_alloc(size_t bytes);
void *parity_upload(const void *host, size_t bytes);
/* Host memory of this case, released after it however it ends. */
void *parity_host(size_t bytes);
/* Waits for the stream, then host[bytes] = device. */
ohm_cuda_status parity_fetch(void *host, const void *device, size_t bytes);
ohm_cuda_stream parity_stream(void);

ohm_verdict parity_pass(void);
ohm_verdict parity_failed(const char *what);
#define PARITY_TRY(call)                                                                           \
    do {                                                                                           \
        if ((call) != OHM_CUDA_OK)                                                                 \
            return parity_failed(#call);                                                           \
    } while (0)
#define PARITY_CHECK(verdict)                                                                      \
    do {                                                                                           \
        ohm_verdict parity_verdict_ = (verdict);                                                   \
        if (!parity_verdict_.pass)                                                                 \
            return parity_verdict_;                                                                \
    } while (0)

/* NULL, or why kernels cannot run here. */
const char *parity_absent(void);
/* Every order must pass; for each barrier ignored some order must fail. Failures end the test. */
void parity_orders(parity_case *run);
void parity_barriers(parity_case *run);

#define OHM_PARITY_IN(test, suite, name)                                                           \
    static ohm_verdict parity_##suite##_##name(void);                                              \
    test(suite, name)                                                                              \
    {                                                                                              \
        if (parity_absent())                                                                       \
            OHM_SKIP("%s", parity_absent());                                                       \
        parity_orders(parity_##suite##_##name);                                                    \
    }                                                                                              \
    static ohm_verdict parity_##suite##_##name(void)

#define OHM_PARITY_ALONE(suite, name) OHM_PARITY_IN(OHM_TEST, suite, name)
#define OHM_PARITY_SLOW(suite, name) OHM_PARITY_IN(OHM_TEST_SLOW, suite, name)

#define OHM_PARITY(suite, name)                                                                    \
    static ohm_verdict parity_##suite##_##name(void);                                              \
    OHM_TEST_SLOW(suite, name##_without_barriers)                                                  \
    {                                                                                              \
        if (!executor_present())                                                                   \
            OHM_SKIP("barriers are left out on the host executor alone");                          \
        parity_barriers(parity_##suite##_##name);                                                  \
    }                                                                                              \
    OHM_PARITY_ALONE(suite, name)

#endif
