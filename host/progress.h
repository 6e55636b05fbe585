/* What a person sees while something long runs: on a terminal a bar that redraws itself, with rate and
 * time left; elsewhere nothing but the plain lines. */
#ifndef OHM_HOST_PROGRESS_H
#define OHM_HOST_PROGRESS_H

#include <stdint.h>
#include <stdio.h>

typedef struct {
    FILE *out;            /* NULL: silent */
    int terminal;
    int64_t first, total; /* work done when it began, and in all */
    double start, drawn;  /* seconds of the monotonic clock */
    int shown;            /* a bar stands on the current line */
} ohm_progress;

double ohm_progress_clock(void); /* monotonic seconds */

void ohm_progress_start(ohm_progress *progress, FILE *out, int64_t done, int64_t total);
/* Redraws at most ten times a second. `what` is a short text behind the bar ("loss 0.31"). */
void ohm_progress_update(ohm_progress *progress, int64_t done, const char *what);
/* A line of its own, above the bar. */
void ohm_progress_line(ohm_progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ohm_progress_end(ohm_progress *progress); /* takes the bar away */

#endif
