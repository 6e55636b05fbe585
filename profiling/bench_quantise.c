/* Quantisation against copying: bytes read and written per second as a share of memcpy's over the same
 * floats, one thread, once in the second cache and once far beyond the caches. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/philox.h"
#include "kernels/quantise.h"
#include "profiling/bench.h"

enum { COLS = 1024 };

typedef struct {
    size_t rows, n, repeat;
    float *x, *copy, scale;
    int8_t *q;
    uint8_t *u, *levels;
    volatile float sink;
} work;

static void copy(void *context)
{
    work *w = context;
    for (size_t i = 0; i < w->repeat; i++)
        memcpy(w->copy, w->x, w->n * sizeof *w->x);
}

static void absmax(void *context)
{
    work *w = context;
    for (size_t i = 0; i < w->repeat; i++)
        w->sink = ohm_absmax(w->x, w->n);
}

static void percentile(void *context)
{
    work *w = context;
    for (size_t i = 0; i < w->repeat; i++)
        w->sink = ohm_abs_percentile(w->x, w->n, 99.9);
}

static void quantise(void *context)
{
    work *w = context;
    for (size_t i = 0; i < w->repeat; i++)
        ohm_quantise(w->q, COLS, w->x, w->rows, COLS, COLS, &w->scale, 0, 127);
}

static void drive(void *context)
{
    work *w = context;
    for (size_t i = 0; i < w->repeat; i++)
        ohm_quantise_drive(w->u, COLS, w->x, w->rows, COLS, COLS, &w->scale, 0, 127,
                           OHM_DRIVE_SIGN_MAGNITUDE, 8);
}

static void split(void *context)
{
    work *w = context;
    for (size_t i = 0; i < w->repeat; i++)
        ohm_weight_split(w->levels, w->q, w->rows, COLS, OHM_CELLS_DIFFERENTIAL, 7, 8);
}

typedef struct {
    const char *what;
    void (*body)(void *);
    double bytes; /* moved per element */
} subject;

static int right(const work *w)
{
    int8_t *expected = malloc(w->n);
    if (!expected)
        return 0;
    ohm_quantise_ref(expected, COLS, w->x, w->rows, COLS, COLS, &w->scale, 0, 127);
    int same = memcmp(expected, w->q, w->n) == 0;
    free(expected);
    return same;
}

static void report(const work *w, const subject *s, double seconds, double copy_rate)
{
    char shape[32];
    double rate = s->bytes * (double)(w->n * w->repeat) / seconds;
    snprintf(shape, sizeof shape, "%zu x %d", w->rows, COLS);
    ohm_bench_print(&(ohm_bench_figure){.bench = "quantise",
                                        .what = s->what,
                                        .shape = shape,
                                        .value = rate * 1e-9,
                                        .unit = "GB/s",
                                        .threads = 1,
                                        .ratio = rate / copy_rate,
                                        .baseline = copy_rate > 0 ? "memcpy bytes/s" : NULL});
}

static int measure(size_t rows, size_t repeat)
{
    size_t n = rows * COLS;
    work w = {.rows = rows, .n = n, .repeat = repeat, .scale = 0.03f};
    w.x = malloc(n * sizeof *w.x);
    w.copy = malloc(n * sizeof *w.copy);
    w.q = malloc(n);
    w.u = malloc(n);
    w.levels = malloc(2 * n);
    int failed = !w.x || !w.copy || !w.q || !w.u || !w.levels;
    if (!failed) {
        const ohm_stream s = {{1, 2}, OHM_SITE_USER, 0, 0};
        for (size_t i = 0; i < n; i++)
            w.x[i] = (float)(int32_t)ohm_stream_word(&s, i) * 0x1p-29f;
        const subject subjects[] = {{"absmax", absmax, 4},
                                    {"percentile", percentile, 16},
                                    {"quantise", quantise, 5},
                                    {"quantise to drive", drive, 5},
                                    {"weight split 7-bit pair", split, 3}};
        double copied = 8.0 * (double)(n * repeat) / ohm_bench_best(copy, &w, 0.2);
        quantise(&w);
        failed = !right(&w);
        report(&w, &(subject){"memcpy", copy, 8}, 8.0 * (double)(n * repeat) / copied, 0);
        for (size_t i = 0; i < sizeof subjects / sizeof *subjects && !failed; i++)
            report(&w, &subjects[i], ohm_bench_best(subjects[i].body, &w, 0.2), copied);
    }
    if (failed)
        fprintf(stderr, "bench_quantise: out of memory, or codes differ from the reference\n");
    free(w.x);
    free(w.copy);
    free(w.q);
    free(w.u);
    free(w.levels);
    return failed;
}

int main(void)
{
    omp_set_num_threads(1);
    return measure(64, 64) | measure(16384, 1);
}
