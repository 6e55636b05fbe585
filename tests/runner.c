/* The test runner: GoogleTest's command line and output around libcheck's forked cases. */
#include "tests/runner.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/runner_report.h"

extern const ohm_test_case *const __start_ohm_tests[];
extern const ohm_test_case *const __stop_ohm_tests[];

/* What a forked case tells the runner, in a page both see. Check's callbacks carry no context, so
 * the page's address is the one variable here with static storage. */
typedef struct {
    bool ended; /* the body ran to its end: exit(0) half-way is no pass */
    bool skipped;
    char reason[1024];
    char tmpdir[4096];
    char path[4096];
} child_page;
static child_page *page;

typedef struct {
    const char *filter;
    const char *xml;
    long repeat;
    unsigned seed;
    bool list, shuffle, tier_given;
    ohm_test_tier tier;
} options;

/* ---- what test files call ------------------------------------------------------------------ */

void ohm_test_skip(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(page->reason, sizeof page->reason, format, args);
    va_end(args);
    page->skipped = true;
}

const char *ohm_test_tmpdir(void)
{
    if (!page->tmpdir[0]) {
        const char *base = getenv("TMPDIR");
        snprintf(page->tmpdir, sizeof page->tmpdir, "%s/ohm-test-XXXXXX",
                 base && base[0] ? base : "/tmp");
        if (!mkdtemp(page->tmpdir)) {
            page->tmpdir[0] = 0;
            ck_abort_msg("no temporary directory: %s", strerror(errno));
        }
    }
    return page->tmpdir;
}

int ohm_test_run(char *out, size_t cap, const char *format, ...)
{
    char *command = NULL, *full = NULL;
    va_list args;
    va_start(args, format);
    int made = vasprintf(&command, format, args);
    va_end(args);
    if (made < 0 || asprintf(&full, "exec 2>&1 </dev/null\n%s", command) < 0)
        ck_abort_msg("out of memory");
    FILE *pipe = popen(full, "r");
    if (!pipe)
        ck_abort_msg("cannot start a shell: %s", strerror(errno));
    size_t used = 0;
    char chunk[4096];
    for (size_t got; (got = fread(chunk, 1, sizeof chunk, pipe)) > 0;) {
        size_t room = cap > used + 1 ? cap - used - 1 : 0;
        size_t take = got < room ? got : room;
        if (take)
            memcpy(out + used, chunk, take);
        used += take;
    }
    if (cap)
        out[used] = 0;
    int status = pclose(pipe);
    free(full);
    free(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

const char *ohm_test_self(void)
{
    ssize_t n = readlink("/proc/self/exe", page->path, sizeof page->path - 1);
    page->path[n > 0 ? n : 0] = 0;
    return page->path;
}

const char *ohm_test_program(void)
{
    ohm_test_self();
    char *slash = strrchr(page->path, '/');
    if (slash)
        snprintf(slash, sizeof page->path - (size_t)(slash - page->path), "/ohmgrad");
    return page->path;
}

/* ---- one case ------------------------------------------------------------------------------ */

/* Runs in the child; Check's loop index says which case. */
static void run_body(int index)
{
    __start_ohm_tests[index]->body();
    page->ended = true;
}

static int time_limit_s(ohm_test_tier tier)
{
    return tier == OHM_TIER_LONG ? 7200 : tier == OHM_TIER_SLOW ? 300 : 20;
}

static void remove_tmpdir(void)
{
    if (!page->tmpdir[0])
        return;
    char command[sizeof page->tmpdir + 32];
    snprintf(command, sizeof command, "rm -rf -- '%s'", page->tmpdir);
    if (system(command) != 0)
        fprintf(stderr, "cannot remove %s\n", page->tmpdir);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void read_verdict(TestResult *r, ohm_test_result *result)
{
    result->outcome = OHM_OUTCOME_OK;
    result->line = result->test->line;
    if (tr_rtype(r) != CK_PASS) {
        result->outcome = tr_rtype(r) == CK_FAILURE ? OHM_OUTCOME_FAILED : OHM_OUTCOME_ERROR;
        if (tr_lno(r) > 0)
            result->line = tr_lno(r);
        snprintf(result->text, sizeof result->text, "%s", tr_msg(r) ? tr_msg(r) : "no message");
    } else if (!page->ended) {
        result->outcome = OHM_OUTCOME_ERROR;
        snprintf(result->text, sizeof result->text, "the test left by exit() before its end");
    } else if (page->skipped) {
        result->outcome = OHM_OUTCOME_SKIPPED;
        snprintf(result->text, sizeof result->text, "%s", page->reason);
    }
}

static void run_case(int index, ohm_test_result *result)
{
    const ohm_test_case *test = __start_ohm_tests[index];
    *result = (ohm_test_result){.test = test};
    memset(page, 0, sizeof *page);
    ohm_report_start(test);

    const TTest body = {test->name, run_body, test->file, test->line};
    Suite *suite = suite_create(test->suite);
    TCase *tcase = tcase_create(test->name);
    tcase_set_timeout(tcase, time_limit_s(test->tier));
    tcase_add_loop_test(tcase, &body, index, index + 1);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    double start = now_s();
    srunner_run_all(runner, CK_SILENT);
    result->seconds = now_s() - start;

    TestResult **all = srunner_results(runner);
    read_verdict(all[0], result);
    free(all);
    srunner_free(runner);
    remove_tmpdir();
    ohm_report_end(result);
}

/* ---- choosing cases ------------------------------------------------------------------------ */

/* One of the ':'-separated patterns in text[0..n) matches name. */
static bool any_pattern(const char *text, size_t n, const char *name)
{
    for (size_t at = 0; at <= n;) {
        const char *colon = memchr(text + at, ':', n - at);
        size_t len = colon ? (size_t)(colon - text) - at : n - at;
        char pattern[512];
        if (len && len < sizeof pattern) {
            memcpy(pattern, text + at, len);
            pattern[len] = 0;
            if (fnmatch(pattern, name, FNM_NOESCAPE) == 0)
                return true;
        }
        at += len + 1;
    }
    return false;
}

static bool chosen(const ohm_test_case *test, const options *opt)
{
    if (test->tier == OHM_TIER_HIDDEN ? opt->tier != OHM_TIER_HIDDEN : test->tier > opt->tier)
        return false;
    if (opt->tier == OHM_TIER_HIDDEN && test->tier != OHM_TIER_HIDDEN)
        return false;
    char name[512];
    snprintf(name, sizeof name, "%s.%s", test->suite, test->name);
    const char *minus = strchr(opt->filter, '-');
    size_t wanted = minus ? (size_t)(minus - opt->filter) : strlen(opt->filter);
    if (minus && any_pattern(minus + 1, strlen(minus + 1), name))
        return false;
    return wanted == 0 || any_pattern(opt->filter, wanted, name);
}

static void shuffle(int *order, int n, unsigned seed)
{
    unsigned state = seed * 2654435761u + 1;
    for (int i = n - 1; i > 0; --i) {
        state = state * 1664525u + 1013904223u;
        int j = (int)((state >> 8) % (unsigned)(i + 1));
        int swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

/* Brings the cases of one suite together, suites in order of their first case. */
static void group_by_suite(int *order, int n)
{
    for (int i = 1; i < n; ++i) {
        int at = i;
        const char *suite = __start_ohm_tests[order[i]]->suite;
        while (at > 0 && strcmp(__start_ohm_tests[order[at - 1]]->suite, suite) != 0)
            --at;
        if (at == 0)
            continue;
        int moved = order[i];
        memmove(order + at + 1, order + at, (size_t)(i - at) * sizeof *order);
        order[at] = moved;
    }
}

/* By suite, file and line: the linker's order differs between compilers. */
static int compare_cases(const void *left, const void *right)
{
    const ohm_test_case *a = __start_ohm_tests[*(const int *)left];
    const ohm_test_case *b = __start_ohm_tests[*(const int *)right];
    int by_suite = strcmp(a->suite, b->suite), by_file = strcmp(a->file, b->file);
    return by_suite ? by_suite : by_file ? by_file : a->line - b->line;
}

static int choose(const options *opt, int *order)
{
    int total = (int)(__stop_ohm_tests - __start_ohm_tests), n = 0;
    for (int i = 0; i < total; ++i)
        if (chosen(__start_ohm_tests[i], opt))
            order[n++] = i;
    qsort(order, (size_t)n, sizeof *order, compare_cases);
    return n;
}

static void list_cases(const int *order, int n)
{
    const char *suite = "";
    for (int i = 0; i < n; ++i) {
        const ohm_test_case *test = __start_ohm_tests[order[i]];
        if (strcmp(suite, test->suite) != 0)
            printf("%s.\n", suite = test->suite);
        printf("  %s\n", test->name);
    }
}

/* ---- command line -------------------------------------------------------------------------- */

static const char *value_of(const char *arg, const char *name)
{
    size_t n = strlen(name);
    return strncmp(arg, name, n) == 0 && arg[n] == '=' ? arg + n + 1 : NULL;
}

static bool parse_number(const char *text, long *value)
{
    char *end;
    errno = 0;
    *value = strtol(text, &end, 10);
    return *text && !*end && !errno;
}

static bool parse_tier(const char *text, options *opt)
{
    static const char *const names[] = {"quick", "slow", "long", "hidden"};
    for (int t = 0; t < 4; ++t)
        if (strcmp(text, names[t]) == 0) {
            opt->tier = (ohm_test_tier)t;
            opt->tier_given = true;
            return true;
        }
    return false;
}

static bool parse_option(const char *arg, options *opt)
{
    const char *v;
    long number;
    if ((v = value_of(arg, "--gtest_filter")))
        return opt->filter = v, true;
    if ((v = value_of(arg, "--tier")))
        return parse_tier(v, opt);
    if ((v = value_of(arg, "--gtest_output")))
        return strncmp(v, "xml:", 4) == 0 && v[4] ? (opt->xml = v + 4, true) : false;
    if ((v = value_of(arg, "--gtest_repeat")))
        return parse_number(v, &opt->repeat) && opt->repeat >= 1;
    if ((v = value_of(arg, "--gtest_random_seed")))
        return parse_number(v, &number) && number >= 0 && number <= 99999
                   ? (opt->seed = (unsigned)number, true)
                   : false;
    if (strcmp(arg, "--gtest_list_tests") == 0)
        return opt->list = true;
    if (strcmp(arg, "--gtest_shuffle") == 0)
        return opt->shuffle = true;
    /* Asked for by drivers of GoogleTest binaries; the output has no colour either way. */
    return value_of(arg, "--gtest_color") != NULL;
}

static void print_usage(void)
{
    puts(
        "usage: tests [--tier=quick|slow|long|hidden] [--gtest_filter=PATTERNS[-PATTERNS]]\n"
        "             [--gtest_list_tests] [--gtest_output=xml:FILE] [--gtest_repeat=N]\n"
        "             [--gtest_shuffle] [--gtest_random_seed=N]\n"
        "Patterns match suite.name, know * and ?, and are joined by ':'. Without --tier, a filter\n"
        "looks at all tiers and a plain run at quick and slow ones. The seed 0 is the clock.");
}

/* ---- main ---------------------------------------------------------------------------------- */

static int run_all(const options *opt, int *order, int n, ohm_test_result *results)
{
    ohm_report_totals totals = {0};
    bool written = true;
    for (long round = 1; round <= opt->repeat; ++round) {
        if (opt->repeat > 1)
            printf("\nRepeating all tests (iteration %ld) . . .\n\n", round);
        unsigned seed = opt->seed ? opt->seed : (unsigned)time(NULL) % 99999 + 1;
        if (opt->shuffle) {
            shuffle(order, n, seed + (unsigned)round - 1);
            group_by_suite(order, n);
            printf("Note: Randomizing tests' orders with a seed of %u .\n",
                   seed + (unsigned)round - 1);
        }
        ohm_report_begin(n);
        for (int i = 0; i < n; ++i)
            run_case(order[i], &results[i]);
        ohm_report_summary(results, n, &totals);
        if (opt->xml)
            written = ohm_report_xml(opt->xml, results, n) && written;
    }
    ohm_report_last_line(&totals);
    return totals.failures + totals.errors == 0 && written ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    options opt = {.filter = "", .repeat = 1, .tier = OHM_TIER_SLOW};
    for (int i = 1; i < argc; ++i) {
        if (strcmp(argv[i], "--help") == 0)
            return print_usage(), EXIT_SUCCESS;
        if (!parse_option(argv[i], &opt)) {
            fprintf(stderr, "tests: cannot use '%s'; see --help\n", argv[i]);
            return 2;
        }
    }
    if (opt.filter[0] && !opt.tier_given)
        opt.tier = OHM_TIER_LONG;

    size_t total = (size_t)(__stop_ohm_tests - __start_ohm_tests);
    int *order = calloc(total, sizeof *order);
    ohm_test_result *results = calloc(total, sizeof *results);
    page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!order || !results || page == MAP_FAILED) {
        fprintf(stderr, "tests: out of memory\n");
        return 2;
    }
    int n = choose(&opt, order), status = EXIT_SUCCESS;
    if (opt.filter[0])
        printf("Note: Google Test filter = %s\n", opt.filter);
    if (n == 0) {
        fprintf(stderr, "tests: no case matches; --gtest_list_tests shows them\n");
        status = EXIT_FAILURE;
    } else if (opt.list) {
        list_cases(order, n);
    } else {
        status = run_all(&opt, order, n, results);
    }
    free(results);
    free(order);
    return status;
}
