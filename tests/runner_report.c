#include "tests/runner_report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *plural(int n)
{
    return n == 1 ? "" : "s";
}

static bool broken(const ohm_test_result *r)
{
    return r->outcome == OHM_OUTCOME_FAILED || r->outcome == OHM_OUTCOME_ERROR;
}

static int suite_end(const ohm_test_result *results, int n, int start)
{
    int end = start + 1;
    while (end < n && strcmp(results[end].test->suite, results[start].test->suite) == 0)
        ++end;
    return end;
}

static int suite_count(const ohm_test_result *results, int n)
{
    int suites = 0;
    for (int i = 0; i < n; i = suite_end(results, n, i))
        ++suites;
    return suites;
}

static double seconds_of(const ohm_test_result *results, int n)
{
    double sum = 0;
    for (int i = 0; i < n; ++i)
        sum += results[i].seconds;
    return sum;
}

/* ---- console ------------------------------------------------------------------------------- */

void ohm_report_begin(int n)
{
    printf("[==========] Running %d test%s.\n", n, plural(n));
}

void ohm_report_start(const ohm_test_case *test)
{
    printf("[ RUN      ] %s.%s\n", test->suite, test->name);
    fflush(stdout);
}

void ohm_report_end(const ohm_test_result *r)
{
    static const char *const tags[] = {"[       OK ]", "[  SKIPPED ]", "[  FAILED  ]",
                                       "[  FAILED  ]"};
    if (broken(r))
        printf("%s:%d: Failure\n%s\n", r->test->file, r->line, r->text);
    if (r->outcome == OHM_OUTCOME_SKIPPED)
        printf("%s:%d: Skipped\n%s\n", r->test->file, r->line, r->text);
    printf("%s %s.%s (%.0f ms)\n", tags[r->outcome], r->test->suite, r->test->name,
           1e3 * r->seconds);
    fflush(stdout);
}

static void print_list(const char *tag, const ohm_test_result *results, int n, bool failed)
{
    int count = 0;
    for (int i = 0; i < n; ++i)
        count += failed ? broken(&results[i]) : results[i].outcome == OHM_OUTCOME_SKIPPED;
    if (!count)
        return;
    printf("%s %d test%s, listed below:\n", tag, count, plural(count));
    for (int i = 0; i < n; ++i)
        if (failed ? broken(&results[i]) : results[i].outcome == OHM_OUTCOME_SKIPPED)
            printf("%s %s.%s\n", tag, results[i].test->suite, results[i].test->name);
}

void ohm_report_summary(const ohm_test_result *results, int n, ohm_report_totals *totals)
{
    int passed = 0, suites = suite_count(results, n);
    for (int i = 0; i < n; ++i) {
        passed += results[i].outcome == OHM_OUTCOME_OK;
        totals->run += results[i].outcome != OHM_OUTCOME_SKIPPED;
        totals->failures += results[i].outcome == OHM_OUTCOME_FAILED;
        totals->errors += results[i].outcome == OHM_OUTCOME_ERROR;
    }
    printf("[==========] %d test%s from %d test suite%s ran. (%.0f ms total)\n", n, plural(n),
           suites, plural(suites), 1e3 * seconds_of(results, n));
    printf("[  PASSED  ] %d test%s.\n", passed, plural(passed));
    print_list("[  SKIPPED ]", results, n, false);
    print_list("[  FAILED  ]", results, n, true);
}

void ohm_report_last_line(const ohm_report_totals *t)
{
    int bad = t->failures + t->errors;
    int percent = t->run ? 100 * (t->run - bad) / t->run : 100;
    printf("%d%%: Checks: %d, Failures: %d, Errors: %d\n", percent, t->run, t->failures, t->errors);
}

/* ---- XML ----------------------------------------------------------------------------------- */

/* Attribute text; bytes that XML 1.0 forbids become '?'. */
static void put_escaped(FILE *out, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; ++c) {
        if (*c == '<')
            fputs("&lt;", out);
        else if (*c == '>')
            fputs("&gt;", out);
        else if (*c == '&')
            fputs("&amp;", out);
        else if (*c == '"')
            fputs("&quot;", out);
        else if (*c == '\n' || *c == '\t' || *c == '\r')
            fprintf(out, "&#x%X;", *c);
        else
            fputc(*c < 0x20 ? '?' : *c, out);
    }
}

static void put_counts(FILE *out, const char *name, const ohm_test_result *results, int n,
                       const char *stamp)
{
    int failures = 0, skipped = 0;
    for (int i = 0; i < n; ++i) {
        failures += broken(&results[i]);
        skipped += results[i].outcome == OHM_OUTCOME_SKIPPED;
    }
    fprintf(out,
            "name=\"%s\" tests=\"%d\" failures=\"%d\" disabled=\"0\" skipped=\"%d\" errors=\"0\" "
            "time=\"%.3f\" timestamp=\"%s\">\n",
            name, n, failures, skipped, seconds_of(results, n), stamp);
}

static void put_case(FILE *out, const ohm_test_result *r, const char *stamp)
{
    bool skipped = r->outcome == OHM_OUTCOME_SKIPPED;
    fprintf(out,
            "    <testcase name=\"%s\" file=\"%s\" line=\"%d\" status=\"run\" result=\"%s\" "
            "time=\"%.3f\" timestamp=\"%s\" classname=\"%s\"",
            r->test->name, r->test->file, r->test->line, skipped ? "skipped" : "completed",
            r->seconds, stamp, r->test->suite);
    if (r->outcome == OHM_OUTCOME_OK) {
        fputs(" />\n", out);
        return;
    }
    fprintf(out, ">\n      <%s message=\"%s:%d&#xA;", skipped ? "skipped" : "failure",
            r->test->file, r->line);
    put_escaped(out, r->text);
    fprintf(out, "\"%s />\n    </testcase>\n", skipped ? "" : " type=\"\"");
}

bool ohm_report_xml(const char *path, const ohm_test_result *results, int n)
{
    FILE *out = fopen(path, "w");
    if (!out) {
        fprintf(stderr, "tests: cannot write %s: %s\n", path, strerror(errno));
        return false;
    }
    char stamp[32];
    time_t now = time(NULL);
    struct tm local;
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S.000", localtime_r(&now, &local));
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites ", out);
    put_counts(out, "AllTests", results, n, stamp);
    for (int i = 0, end; i < n; i = end) {
        end = suite_end(results, n, i);
        fputs("  <testsuite ", out);
        put_counts(out, results[i].test->suite, results + i, end - i, stamp);
        for (int k = i; k < end; ++k)
            put_case(out, &results[k], stamp);
        fputs("  </testsuite>\n", out);
    }
    fputs("</testsuites>\n", out);
    bool good = !ferror(out);
    good = fclose(out) == 0 && good;
    if (!good)
        fprintf(stderr, "tests: cannot write all of %s: %s\n", path, strerror(errno));
    return good;
}
