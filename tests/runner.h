/* Tests. A file tests/test_<module>.c includes this header and writes
 *
 *     OHM_TEST(module, name) { ck_assert_int_eq(1 + 1, 2); }
 *
 * and nothing else: the case registers itself. Every case runs in a forked process of its own
 * under a time limit (20 s quick, 300 s slow, 2 h long; CK_TIMEOUT_MULTIPLIER scales them). A
 * failed assertion, a signal, a time-out, a leak under ASan or leaving by exit() is a failure.
 * The parent opens no OpenMP region, or libgomp would hang in the children.
 *
 * The binary speaks GoogleTest (--help) and ends with Check's line "100%: Checks: ...". */
#ifndef OHM_TESTS_RUNNER_H
#define OHM_TESTS_RUNNER_H

#include <check.h>
#include <stddef.h>

/* Who runs a case: make check and make san run quick ones, make test adds slow ones, make test-long
 * adds long ones. Hidden cases fail on purpose; the runner's own tests run them as a subject. */
typedef enum { OHM_TIER_QUICK, OHM_TIER_SLOW, OHM_TIER_LONG, OHM_TIER_HIDDEN } ohm_test_tier;

typedef struct {
    const char *suite, *name, *file;
    int line;
    ohm_test_tier tier;
    void (*body)(void);
} ohm_test_case;

/* A pointer per case in a linker section of its own: the runner walks the section. */
#define OHM_TEST_DEFINE_(suite_, name_, tier_)                                                     \
    static void ohm_test_##suite_##_##name_(void);                                                 \
    static const ohm_test_case ohm_case_##suite_##_##name_ = {                                     \
        #suite_, #name_, __FILE__, __LINE__, tier_, ohm_test_##suite_##_##name_};                  \
    __attribute__((                                                                                \
        used,                                                                                      \
        section("ohm_tests"))) static const ohm_test_case *const ohm_entry_##suite_##_##name_ =    \
        &ohm_case_##suite_##_##name_;                                                              \
    static void ohm_test_##suite_##_##name_(void)

#define OHM_TEST(suite, name) OHM_TEST_DEFINE_(suite, name, OHM_TIER_QUICK)
#define OHM_TEST_SLOW(suite, name) OHM_TEST_DEFINE_(suite, name, OHM_TIER_SLOW)
#define OHM_TEST_LONG(suite, name) OHM_TEST_DEFINE_(suite, name, OHM_TIER_LONG)
#define OHM_TEST_HIDDEN(suite, name) OHM_TEST_DEFINE_(suite, name, OHM_TIER_HIDDEN)

/* Leaves the test body (not a helper it calls) and reports it as SKIPPED with a reason. */
#define OHM_SKIP(...)                                                                              \
    do {                                                                                           \
        ohm_test_skip(__VA_ARGS__);                                                                \
        return;                                                                                    \
    } while (0)
void ohm_test_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* An ohm_status call that must succeed; its error text is the failure's message. Needs host/status.h. */
#define OHM_OK_OR_FAIL(call)                                                                       \
    ck_assert_msg((call) == OHM_OK, "%s: %s (%s)", #call, ohm_error_text(), ohm_error_origin())

/* This test's empty directory; made at the first call, removed after the test however it ends. */
const char *ohm_test_tmpdir(void);

/* Runs a shell command with empty stdin. Its stdout and stderr together go to out (cap bytes,
 * always terminated, the rest is dropped; out may be NULL when cap is 0). Returns the exit status,
 * 128 + signal when a signal ended it. Fails the test if no shell can be started. */
int ohm_test_run(char *out, size_t cap, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Absolute paths of the running test binary and of the program built beside it. */
const char *ohm_test_self(void);
const char *ohm_test_program(void);

#endif
