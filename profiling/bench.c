#include "profiling/bench.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "build_info.h"

/* OpenBLAS by its Fortran names: cblas.h belongs to the CPU kernels. */
void sgemm_(const char *transa, const char *transb, const int *m, const int *n, const int *k,
            const float *alpha, const float *a, const int *lda, const float *b, const int *ldb,
            const float *beta, float *c, const int *ldc);
void openblas_set_num_threads(int threads);

double ohm_bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double ohm_bench_best(void (*body)(void *context), void *context, double budget)
{
    double best = 1e30, end = ohm_bench_now() + budget;
    for (int calls = 0; calls < 3 || ohm_bench_now() < end; calls++) {
        double start = ohm_bench_now();
        body(context);
        double took = ohm_bench_now() - start;
        best = took < best ? took : best;
    }
    return best;
}

typedef struct {
    int m, n, k;
    float *x, *w, *y;
} product;

static void multiply(void *context)
{
    const product *p = context;
    const float one = 1, zero = 0;
    /* Column-major yᵀ [n,m] = w xᵀ. */
    sgemm_("T", "N", &p->n, &p->m, &p->k, &one, p->w, &p->k, p->x, &p->k, &zero, p->y, &p->n);
}

double ohm_bench_sgemm(size_t m, size_t n, size_t k, int threads)
{
    product p = {(int)m,
                 (int)n,
                 (int)k,
                 malloc(m * k * sizeof(float)),
                 malloc(n * k * sizeof(float)),
                 malloc(m * n * sizeof(float))};
    if (!p.x || !p.w || !p.y) {
        fprintf(stderr, "bench: no memory for a %zu x %zu x %zu product\n", m, n, k);
        exit(1);
    }
    for (size_t i = 0; i < m * k; i++)
        p.x[i] = (float)(i % 17) - 8;
    for (size_t i = 0; i < n * k; i++)
        p.w[i] = (float)(i % 13) - 6;
    openblas_set_num_threads(threads);
    double best = ohm_bench_best(multiply, &p, 0.5);
    free(p.x);
    free(p.w);
    free(p.y);
    return best;
}

#if defined(__x86_64__)
static void add_chain(void *context)
{
    uint64_t *x = context;
    for (int i = 0; i < 1000000; i++)
        __asm__ volatile("add $1, %0" : "+r"(*x));
}

double ohm_bench_clock(void)
{
    uint64_t x = 0;
    return 1e6 / ohm_bench_best(add_chain, &x, 0.1);
}
#else
double ohm_bench_clock(void)
{
    return 0;
}
#endif

/* "model name" of the first processor, without quotes and backslashes. */
static void cpu_name(char *name, size_t cap)
{
    snprintf(name, cap, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f)
        return;
    char line[256];
    while (fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        size_t n = 0;
        for (const char *c = colon + 2; *c && *c != '\n' && n + 1 < cap; c++)
            if (*c != '"' && *c != '\\')
                name[n++] = *c;
        name[n] = 0;
        break;
    }
    fclose(f);
}

void ohm_bench_print(const ohm_bench_figure *f)
{
    char cpu[128], date[32];
    time_t now = time(NULL);
    struct tm utc;
    cpu_name(cpu, sizeof cpu);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    printf("{\"bench\": \"%s\", \"what\": \"%s\", \"shape\": \"%s\", \"value\": %.4g, "
           "\"unit\": \"%s\"",
           f->bench, f->what, f->shape, f->value, f->unit);
    if (f->threads > 0)
        printf(", \"threads\": %d", f->threads);
    if (f->spread > 0)
        printf(", \"spread\": %.3f", f->spread);
    if (f->baseline)
        printf(", \"ratio\": %.4g, \"baseline\": \"%s\"", f->ratio, f->baseline);
    if (f->baseline && f->target > 0) {
        bool met = f->at_most ? f->ratio <= f->target : f->ratio >= f->target;
        printf(", \"target\": \"%s %.4g\", \"met\": %s", f->at_most ? "<=" : ">=", f->target,
               met ? "true" : "false");
    }
    if (f->note)
        printf(", \"note\": \"%s\"", f->note);
    printf(", \"date\": \"%s\", \"commit\": \"%s\", \"%s\": \"%s\"}\n", date, OHM_COMMIT,
           f->device ? "device" : "cpu", f->device ? f->device : cpu);
    fflush(stdout);
}
