/* Convolutions of ResNet-20 at batch 128: flop/s of the three products of a layer against one large
 * sgemm of the same machine and threads, patches included. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/conv.h"
#include "profiling/bench.h"

enum { BATCH = 128 };

typedef struct {
    ohm_conv_shape shape;
    float *x, *y, *w, *dw, *workspace;
    size_t floats;
} work;

static void forward(void *context)
{
    work *c = context;
    ohm_conv_forward_cpu(c->y, c->x, c->w, NULL, &c->shape, BATCH, c->workspace, c->floats);
}

static void input(void *context)
{
    work *c = context;
    ohm_conv_input_cpu(c->x, c->y, c->w, &c->shape, BATCH, 0, c->workspace, c->floats);
}

static void weight(void *context)
{
    work *c = context;
    ohm_conv_weight_cpu(c->dw, c->y, c->x, &c->shape, BATCH, c->workspace, c->floats);
}

static float *ones(size_t n, float value)
{
    float *x = aligned_alloc(64, (n * sizeof *x / 64 + 1) * 64);
    if (!x) {
        fprintf(stderr, "bench_conv: no memory for %zu floats\n", n);
        exit(1);
    }
    for (size_t i = 0; i < n; i++)
        x[i] = value;
    return x;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static work work_of(int side, int in, int out, int stride, int threads)
{
    work c = {.shape = {side, side, in, 3, stride, 1, side / stride, side / stride, out}};
    c.floats = larger(ohm_conv_forward_floats(&c.shape, BATCH, threads),
                      larger(ohm_conv_input_floats(&c.shape, BATCH, threads),
                             ohm_conv_weight_floats(&c.shape, BATCH, threads)));
    c.x = ones((size_t)BATCH * (size_t)(side * side * in), 1.0f);
    c.y = ones(ohm_conv_rows(&c.shape, BATCH) * (size_t)out, 0.0f);
    c.w = ones((size_t)(out * ohm_conv_k(&c.shape)), 0.5f);
    c.dw = ones((size_t)(out * ohm_conv_k(&c.shape)), 0.0f);
    c.workspace = ones(c.floats, 0.0f);
    return c;
}

/* An inner pixel of a convolution of ones with halves. */
static void check(work *c)
{
    forward(c);
    size_t inner = (size_t)(c->shape.out_width + 1) * (size_t)c->shape.out;
    if (fabsf(c->y[inner] - 0.5f * (float)ohm_conv_k(&c->shape)) > 1e-3f) {
        fprintf(stderr, "bench_conv: a convolution of ones is wrong\n");
        exit(1);
    }
}

static void report(work *c, double baseline, int threads)
{
    static const struct {
        const char *what;
        void (*body)(void *);
    } product[] = {{"forward", forward}, {"weight", weight}, {"input", input}};
    const ohm_conv_shape *s = &c->shape;
    char shape[64];
    snprintf(shape, sizeof shape, "%dx%dx%d -> %d stride %d, batch %d", s->height, s->width,
             s->channels, s->out, s->stride, BATCH);
    double flop = 2.0 * (double)ohm_conv_rows(s, BATCH) * s->out * ohm_conv_k(s);
    for (int i = 0; i < 3; i++) {
        double rate = flop / ohm_bench_best(product[i].body, c, 0.2) * 1e-9;
        ohm_bench_print(&(ohm_bench_figure){.bench = "conv",
                                            .what = product[i].what,
                                            .shape = shape,
                                            .value = rate,
                                            .unit = "Gflop/s",
                                            .threads = threads,
                                            .ratio = rate / baseline,
                                            .baseline = "sgemm 1024x1024x1024, Gflop/s"});
    }
}

int main(void)
{
    static const int layer[][4] = {{32, 3, 16, 1},  {32, 16, 16, 1}, {32, 16, 32, 2},
                                   {16, 32, 32, 1}, {16, 32, 64, 2}, {8, 64, 64, 1}};
    int threads = omp_get_max_threads();
    double baseline = 2.0 * 1024 * 1024 * 1024 / ohm_bench_sgemm(1024, 1024, 1024, threads) * 1e-9;
    for (size_t i = 0; i < sizeof layer / sizeof *layer; i++) {
        work c = work_of(layer[i][0], layer[i][1], layer[i][2], layer[i][3], threads);
        check(&c);
        report(&c, baseline, threads);
        float *all[] = {c.x, c.y, c.w, c.dw, c.workspace};
        for (size_t j = 0; j < 5; j++)
            free(all[j]);
    }
    return 0;
}
