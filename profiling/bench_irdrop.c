/* Exact IR drop: milliseconds per tile over its size, and the share of sgemm's flop rate that the march
 * reaches on its 11·R·C² + (2/3)·C³ + 2·R·C² flop. One thread; uniform 1-100 µS, 1 ohm. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/irdrop_exact.h"
#include "profiling/bench.h"

typedef struct {
    ohm_crosspoint tile;
    float *g, *out;
    double *g64, *out64;
    void *scratch;
} work;

static void solve_f32(void *context)
{
    work *w = context;
    if (ohm_irdrop_exact_f32(w->out, w->g, &w->tile, w->scratch, NULL) != OHM_SOLVE_OK)
        fprintf(stderr, "bench_irdrop: no solution\n");
}

static void solve_f64(void *context)
{
    work *w = context;
    if (ohm_irdrop_exact_f64(w->out64, w->g64, &w->tile, w->scratch, NULL) != OHM_SOLVE_OK)
        fprintf(stderr, "bench_irdrop: no solution\n");
}

static double error_of(const work *w, size_t cells)
{
    double error = 0.0, norm = 0.0;
    for (size_t i = 0; i < cells; i++) {
        error += (w->out[i] - w->out64[i]) * (w->out[i] - w->out64[i]);
        norm += w->out64[i] * w->out64[i];
    }
    return sqrt(error / norm);
}

int main(void)
{
    double sgemm = 2.0 * 1024 * 1024 * 1024 / ohm_bench_sgemm(1024, 1024, 1024, 1);
    for (int n = 32; n <= 512; n *= 2) {
        size_t cells = (size_t)n * n;
        work w = {.tile = {n, n, {.word_line = 1.0, .bit_line = 1.0}}};
        w.g = malloc(cells * sizeof *w.g);
        w.out = malloc(cells * sizeof *w.out);
        w.g64 = malloc(cells * sizeof *w.g64);
        w.out64 = malloc(cells * sizeof *w.out64);
        w.scratch = aligned_alloc(
            64, (ohm_irdrop_exact_bytes_f64(&w.tile) + ohm_irdrop_exact_bytes_f32(&w.tile) + 63) /
                    64 * 64);
        if (!w.g || !w.out || !w.g64 || !w.out64 || !w.scratch) {
            fprintf(stderr, "bench_irdrop: out of memory\n");
            return 1;
        }
        uint32_t state = 1;
        for (size_t i = 0; i < cells; i++) {
            state = state * 1664525u + 1013904223u;
            w.g64[i] = w.g[i] = 1e-6f + 99e-6f * (float)(state >> 8) / 16777216.0f;
        }
        solve_f64(&w);
        solve_f32(&w);
        char shape[32], note[160];
        snprintf(shape, sizeof shape, "%d x %d", n, n);
        snprintf(note, sizeof note, "norm error of float against double %.2g", error_of(&w, cells));
        double flop = (13.0 + 2.0 / 3.0) * n * (double)n * n,
               single = ohm_bench_best(solve_f32, &w, 0.3),
               full = ohm_bench_best(solve_f64, &w, 0.3);
        ohm_bench_print(&(ohm_bench_figure){.bench = "irdrop",
                                            .what = "float",
                                            .shape = shape,
                                            .value = single * 1e3,
                                            .unit = "ms",
                                            .threads = 1,
                                            .ratio = flop / single / sgemm,
                                            .baseline = "flop rate of OpenBLAS sgemm",
                                            .note = note});
        ohm_bench_print(&(ohm_bench_figure){.bench = "irdrop",
                                            .what = "double",
                                            .shape = shape,
                                            .value = full * 1e3,
                                            .unit = "ms",
                                            .threads = 1,
                                            .ratio = flop / full / sgemm,
                                            .baseline = "flop rate of OpenBLAS sgemm"});
        free(w.g);
        free(w.out);
        free(w.g64);
        free(w.out64);
        free(w.scratch);
    }
    return 0;
}
