/* What the test runner prints: GoogleTest's console lines and XML, Check's closing line. */
#ifndef OHM_TESTS_RUNNER_REPORT_H
#define OHM_TESTS_RUNNER_REPORT_H

#include <stdbool.h>

#include "tests/runner.h"

/* FAILED: an assertion. ERROR: a signal, a time-out, a leak, an early exit. */
typedef enum {
    OHM_OUTCOME_OK,
    OHM_OUTCOME_SKIPPED,
    OHM_OUTCOME_FAILED,
    OHM_OUTCOME_ERROR
} ohm_test_outcome;

typedef struct {
    const ohm_test_case *test;
    ohm_test_outcome outcome;
    int line; /* of the last assertion passed or failed in test->file */
    double seconds;
    char text[4096]; /* why it failed or was skipped */
} ohm_test_result;

typedef struct {
    int run, failures, errors; /* skipped cases are not run */
} ohm_report_totals;

void ohm_report_begin(int n);
void ohm_report_start(const ohm_test_case *test);
void ohm_report_end(const ohm_test_result *result);
/* The lists at the end of a round; adds the round to totals. */
void ohm_report_summary(const ohm_test_result *results, int n, ohm_report_totals *totals);
void ohm_report_last_line(const ohm_report_totals *totals);
/* GoogleTest's XML schema; results of one suite stand together. False, with a line on stderr, if
 * the file cannot be written whole. */
bool ohm_report_xml(const char *path, const ohm_test_result *results, int n);

#endif
