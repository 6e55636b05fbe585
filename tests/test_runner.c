/* The runner is its own subject: hidden cases that misbehave on purpose run in a second copy of the
 * test binary, whose output and exit status are examined here. */
#include "tests/runner.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

OHM_TEST_HIDDEN(subject, passes) { ck_assert_int_eq(1, 1); }
enum { FAILS_LINE = __LINE__ + 1 };
OHM_TEST_HIDDEN(subject, fails) { ck_assert_msg(0, "three is <not> \"four\" & five"); }
OHM_TEST_HIDDEN(subject, killed) { raise(SIGKILL); }
OHM_TEST_HIDDEN(subject, aborts) { abort(); }
OHM_TEST_HIDDEN(subject, hangs) { sleep(60); }
OHM_TEST_HIDDEN(subject, exits_zero) { exit(0); }
OHM_TEST_HIDDEN(subject, exits_nonzero) { exit(3); }
OHM_TEST_HIDDEN(subject, leaks)
{
    void *volatile lost = malloc(77);
    ck_assert_ptr_nonnull(lost);
    lost = NULL;
}
OHM_TEST_HIDDEN(subject, skips)
{
    OHM_SKIP("no %s here", "accelerator");
    ck_assert_msg(0, "went on after the skip");
}
OHM_TEST_HIDDEN(subject, leaves_files)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/sub", ohm_test_tmpdir());
    ck_assert_int_eq(mkdir(path, 0700), 0);
    printf("DIRECTORY %s\n", ohm_test_tmpdir());
    fflush(stdout);
    abort();
}
OHM_TEST_HIDDEN(other_subject, passes) { ck_assert_int_eq(1, 1); }

enum { OUT_BYTES = 16384 };
static int run_hidden(char *out, const char *filter, const char *rest)
{
    return ohm_test_run(out, OUT_BYTES,
                        "CK_TIMEOUT_MULTIPLIER=0.05 %s --tier=hidden --gtest_filter='%s' %s",
                        ohm_test_self(), filter, rest);
}

static void must_hold(const char *text, const char *part)
{
    ck_assert_msg(strstr(text, part) != NULL, "'%s' lacks '%s'", text, part);
}

static void must_lack(const char *text, const char *part)
{
    ck_assert_msg(strstr(text, part) == NULL, "'%s' holds '%s'", text, part);
}

static int count(const char *text, const char *part)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, part)); at += strlen(part))
        ++n;
    return n;
}

static void must_end(const char *text, const char *line)
{
    size_t n = strlen(text), m = strlen(line);
    ck_assert_msg(n >= m && strcmp(text + n - m, line) == 0, "'%s' does not end in '%s'", text,
                  line);
}

OHM_TEST(runner, a_pass_is_green)
{
    char out[OUT_BYTES];
    ck_assert_int_eq(run_hidden(out, "subject.passes", ""), 0);
    must_hold(out, "[ RUN      ] subject.passes\n[       OK ] subject.passes (");
    must_hold(out, "[  PASSED  ] 1 test.\n");
    must_end(out, "100%: Checks: 1, Failures: 0, Errors: 0\n");
}

OHM_TEST(runner, a_failed_assertion_is_red)
{
    char out[OUT_BYTES];
    ck_assert_int_eq(run_hidden(out, "subject.fails:subject.passes", ""), 1);
    char where[64];
    snprintf(where, sizeof where, "%s:%d: Failure\n", __FILE__, FAILS_LINE);
    must_hold(out, where);
    must_hold(out, "three is <not> \"four\" & five");
    must_hold(out, "[  FAILED  ] subject.fails (");
    must_end(out, "50%: Checks: 2, Failures: 1, Errors: 0\n");
}

OHM_TEST_SLOW(runner, ways_to_die_are_errors)
{
    static const struct {
        const char *name, *why;
    } cases[] = {
        {"subject.killed", "signal 9"},
        {"subject.aborts", "signal 6"},
        {"subject.hangs", "timeout expired"},
        {"subject.exits_zero", "left by exit()"},
        {"subject.exits_nonzero", "return value 3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        char out[OUT_BYTES];
        ck_assert_int_eq(run_hidden(out, cases[i].name, ""), 1);
        must_hold(out, cases[i].why);
        must_hold(out, "[  FAILED  ] subject.");
        must_end(out, "0%: Checks: 1, Failures: 0, Errors: 1\n");
    }
}

OHM_TEST(runner, a_leak_fails_under_asan)
{
#ifdef __SANITIZE_ADDRESS__
    char out[OUT_BYTES];
    if (strstr(getenv("ASAN_OPTIONS") ? getenv("ASAN_OPTIONS") : "", "detect_leaks=0"))
        OHM_SKIP("leak detection is off in this run");
    ck_assert_int_eq(run_hidden(out, "subject.leaks", ""), 1);
    must_hold(out, "Direct leak of 77 byte(s)");
#else
    OHM_SKIP("a build without ASan");
#endif
}

OHM_TEST(runner, a_skip_has_a_reason_and_is_not_run)
{
    char out[OUT_BYTES];
    ck_assert_int_eq(run_hidden(out, "subject.skips", ""), 0);
    must_hold(out, "no accelerator here\n[  SKIPPED ] subject.skips (");
    must_hold(out, "[  SKIPPED ] 1 test, listed below:\n[  SKIPPED ] subject.skips\n");
    must_end(out, "100%: Checks: 0, Failures: 0, Errors: 0\n");
}

OHM_TEST(runner, an_empty_choice_fails)
{
    char out[OUT_BYTES];
    ck_assert_int_eq(run_hidden(out, "subject.no_such", ""), 1);
    must_hold(out, "no case matches");
}

OHM_TEST(runner, filters_know_wildcards_and_negatives)
{
    char out[OUT_BYTES];
    ck_assert_int_eq(run_hidden(out, "*.passes", "--gtest_list_tests"), 0);
    must_hold(out, "other_subject.\n  passes\nsubject.\n  passes\n");
    run_hidden(out, "sub*.?a?ses:subject.sk*", "--gtest_list_tests");
    must_hold(out, "subject.\n  passes\n  skips\n");
    must_lack(out, "other_subject");
    run_hidden(out, "-*.passes:*.exits*", "--gtest_list_tests");
    must_lack(out, "  passes\n");
    must_lack(out, "  exits");
    must_hold(out, "  killed\n");
    run_hidden(out, "subject.*-*.passes", "--gtest_list_tests");
    must_lack(out, "  passes\n");
    must_hold(out, "  skips\n");
}

OHM_TEST(runner, hidden_cases_stay_hidden)
{
    static char out[1 << 20];
    ck_assert_int_eq(ohm_test_run(out, sizeof out, "%s --gtest_list_tests", ohm_test_self()), 0);
    must_lack(out, "subject");
    must_hold(out, "runner.\n");
    ck_assert_int_ne(ohm_test_run(out, sizeof out, "%s --gtest_filter='subject.*'",
                                  ohm_test_self()),
                     0);
}

OHM_TEST(runner, repeats_add_up)
{
    char out[OUT_BYTES];
    ck_assert_int_eq(run_hidden(out, "*.passes", "--gtest_repeat=3"), 0);
    ck_assert_int_eq(count(out, "[ RUN      ]"), 6);
    must_end(out, "100%: Checks: 6, Failures: 0, Errors: 0\n");
    ck_assert_int_eq(count(out, "Checks:"), 1);
}

OHM_TEST(runner, shuffle_follows_its_seed)
{
    char first[OUT_BYTES], again[OUT_BYTES], seeds[OUT_BYTES];
    const char *list = "2>/dev/null | grep '^\\[ RUN' | tr -d '\\n'";
    const char *filter = "-*.hangs";
    char rest[256];
    int orders = 0;
    snprintf(rest, sizeof rest, "--gtest_shuffle --gtest_random_seed=7 %s", list);
    run_hidden(first, filter, rest);
    run_hidden(again, filter, rest);
    ck_assert_str_eq(first, again);
    ck_assert_int_eq(count(first, "RUN"), 10);
    for (int seed = 1; seed <= 3; ++seed) {
        snprintf(rest, sizeof rest, "--gtest_shuffle --gtest_random_seed=%d %s", seed, list);
        run_hidden(seeds, filter, rest);
        orders += strcmp(seeds, first) != 0;
    }
    ck_assert_int_ge(orders, 2);
}

OHM_TEST(runner, xml_has_googletests_form)
{
    char out[OUT_BYTES], rest[4200];
    snprintf(rest, sizeof rest, "--gtest_output=xml:%s/r.xml", ohm_test_tmpdir());
    ck_assert_int_eq(run_hidden(out, "*.passes:subject.fails:subject.skips", rest), 1);
    ohm_test_run(out, sizeof out, "cat %s/r.xml", ohm_test_tmpdir());
    must_hold(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"AllTests\" "
                   "tests=\"4\" failures=\"1\" disabled=\"0\" skipped=\"1\" errors=\"0\" time=\"");
    must_hold(out, "<testsuite name=\"other_subject\" tests=\"1\" failures=\"0\"");
    must_hold(out, "<testsuite name=\"subject\" tests=\"3\" failures=\"1\"");
    must_hold(out, "classname=\"subject\">\n      <failure message=\"tests/test_runner.c:");
    must_hold(out, "three is &lt;not&gt; &quot;four&quot; &amp; five");
    must_hold(out, "result=\"skipped\"");
    must_hold(out, "no accelerator here\" />");
    ck_assert_int_eq(count(out, "<testcase "), 4);
}

OHM_TEST(runner, an_unwritable_xml_fails)
{
    char out[OUT_BYTES];
    ck_assert_int_eq(run_hidden(out, "subject.passes", "--gtest_output=xml:/dev/null/x.xml"), 1);
    must_hold(out, "cannot write /dev/null/x.xml");
    ck_assert_int_eq(run_hidden(out, "subject.passes", "--gtest_output=xml:/dev/full"), 1);
    must_hold(out, "cannot write all of /dev/full");
}

OHM_TEST(runner, unknown_options_are_refused)
{
    static const char *const bad[] = {"--gtest_bogus",        "--gtest_repeat=x",
                                      "--gtest_repeat=0",     "--tier=huge",
                                      "--gtest_output=json:", "extra"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
        char out[OUT_BYTES];
        ck_assert_int_eq(run_hidden(out, "*", bad[i]), 2);
        must_hold(out, bad[i]);
    }
}

OHM_TEST(runner, temporary_directories_go_even_after_a_crash)
{
    char out[OUT_BYTES], path[4200] = "";
    ck_assert_int_eq(run_hidden(out, "subject.leaves_files", ""), 1);
    const char *at = strstr(out, "DIRECTORY ");
    ck_assert_ptr_nonnull(at);
    ck_assert_int_eq(sscanf(at, "DIRECTORY %4199s", path), 1);
    ck_assert_int_eq(access(path, F_OK), -1);
}

OHM_TEST(runner, run_reports_output_and_status)
{
    char out[16];
    ck_assert_int_eq(ohm_test_run(out, sizeof out, "echo a; echo b >&2; exit %d", 5), 5);
    ck_assert_str_eq(out, "a\nb\n");
    ck_assert_int_eq(ohm_test_run(out, sizeof out, "echo 0123456789abcdefgh"), 0);
    ck_assert_str_eq(out, "0123456789abcde");
    ck_assert_int_eq(ohm_test_run(NULL, 0, "kill -9 $$"), 128 + 9);
    ck_assert_int_eq(ohm_test_run(out, sizeof out, "cat"), 0);
    ck_assert_str_eq(out, "");
}
