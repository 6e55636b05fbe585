#include "host/progress.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BAR_WIDTH = 24 };

double ohm_progress_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void ohm_progress_start(ohm_progress *progress, FILE *out, int64_t done, int64_t total)
{
    *progress = (ohm_progress){.out = out, .first = done, .total = total, .start = ohm_progress_clock()};
    progress->terminal = out && isatty(fileno(out));
}

static void format_duration(char *text, size_t bytes, double seconds)
{
    long s = (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(text, bytes, "%ldh %02ldm", s / 3600, s / 60 % 60);
    else if (s >= 60)
        snprintf(text, bytes, "%ldm %02lds", s / 60, s % 60);
    else
        snprintf(text, bytes, "%lds", s);
}

void ohm_progress_update(ohm_progress *progress, int64_t done, const char *what)
{
    double now = ohm_progress_clock(), spent = now - progress->start;
    if (!progress->terminal || (progress->shown && now - progress->drawn < 0.1))
        return;
    int filled = progress->total > 0 ? (int)(done * BAR_WIDTH / progress->total) : 0;
    char bar[BAR_WIDTH + 1], left[32] = "?";
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', (size_t)(filled < BAR_WIDTH ? filled : BAR_WIDTH));
    bar[BAR_WIDTH] = 0;
    double rate = spent > 0 ? (double)(done - progress->first) / spent : 0;
    if (rate > 0)
        format_duration(left, sizeof left, (double)(progress->total - done) / rate);
    fprintf(progress->out, "\r\033[K[%s] %" PRId64 "/%" PRId64 "  %.3g/s  %s left  %s", bar, done, progress->total, rate, left, what);
    fflush(progress->out);
    progress->drawn = now;
    progress->shown = 1;
}

void ohm_progress_end(ohm_progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", progress->out);
    if (progress->out)
        fflush(progress->out);
    progress->shown = 0;
}

void ohm_progress_line(ohm_progress *progress, const char *format, ...)
{
    if (!progress->out)
        return;
    ohm_progress_end(progress);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(progress->out, format, arguments);
    va_end(arguments);
    fputc('\n', progress->out);
    fflush(progress->out);
}
