/* Normals per second of one core, against the same core's sgemm flop/s. The buffer stays in the first
 * cache, as it does in the chip, which draws a block of rows at a time.
 *
 * What bounds them is vector operations. Counted in normals_avx512.h per 128 fast normals: Philox 63,
 * pairing words 2, byte values 10, Hadamard stages 48, convert, scale and store 24. In normals_avx2.h:
 * 168, 8, 20, 89, 72. Exact, AVX-512, per 32 normals: Philox 63, words 2, radius 24 (one square root),
 * angle 20, interleave and store 4. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/normals.h"
#include "profiling/bench.h"

enum { ROWS = 32, COUNT = ROWS * OHM_NORMALS_BLOCK, REPEAT = 64 };

typedef struct {
    const ohm_normals_kernels *kernels;
    ohm_stream stream;
    _Alignas(64) float z[COUNT];
} work;

static void draw_fast(void *context)
{
    work *w = context;
    for (uint64_t i = 0; i < REPEAT; i++)
        w->kernels->fast(w->z, OHM_NORMALS_BLOCK, i * ROWS, ROWS, 0, 1, &w->stream);
}

static void draw_exact(void *context)
{
    work *w = context;
    for (uint64_t i = 0; i < REPEAT; i++)
        w->kernels->exact(w->z, i * COUNT, COUNT, &w->stream);
}

/* What the last repetition left must be the reference's. */
static int right(const work *w, int exact)
{
    static float expected[COUNT];
    uint64_t last = REPEAT - 1;
    if (exact)
        ohm_normals_exact_ref(expected, last * COUNT, COUNT, &w->stream);
    else
        ohm_normals_fast_ref(expected, OHM_NORMALS_BLOCK, last * ROWS, ROWS, 0, 1, &w->stream);
    return memcmp(w->z, expected, sizeof expected) == 0;
}

/* Vector operations per normal; 0 where the compiler chooses them. */
static double operations(ohm_isa isa, int exact)
{
    if (isa == OHM_ISA_AVX512)
        return exact ? 113.0 / 32 : 147.0 / 128;
    return isa == OHM_ISA_AVX2 && !exact ? 357.0 / 128 : 0;
}

static int measure(work *w, ohm_isa isa, int exact, double flops, double clock)
{
    void (*body)(void *) = exact ? draw_exact : draw_fast;
    w->kernels = ohm_normals_kernels_of(isa);
    body(w);
    if (!right(w, exact)) {
        fprintf(stderr, "bench_normals: %s differs from the reference\n", ohm_isa_name(isa));
        return 1;
    }
    double rate = (double)COUNT * REPEAT / ohm_bench_best(body, w, 0.3);
    char what[32], note[128] = "";
    snprintf(what, sizeof what, "%s %s", exact ? "exact" : "fast", ohm_isa_name(isa));
    if (operations(isa, exact) > 0 && clock > 0)
        snprintf(note, sizeof note, "%.2f vector operations per normal, %.2f per clock at %.2f GHz",
                 operations(isa, exact), operations(isa, exact) * rate / clock, clock * 1e-9);
    ohm_bench_print(&(ohm_bench_figure){.bench = "normals",
                                        .what = what,
                                        .shape = "32 x 128",
                                        .value = rate * 1e-9,
                                        .unit = "G/s",
                                        .threads = 1,
                                        .ratio = rate / flops,
                                        .baseline = "sgemm 1024^3 flop/s",
                                        .target = isa != ohm_cpu_isa() ? 0
                                                  : exact              ? 1.0 / 400
                                                                       : 1.0 / 60,
                                        .note = note[0] ? note : NULL});
    return 0;
}

int main(void)
{
    static work w = {.stream = {{1, 2}, OHM_SITE_READ, 3, 4}};
    double flops = 2.0 * 1024 * 1024 * 1024 / ohm_bench_sgemm(1024, 1024, 1024, 1);
    double clock = ohm_bench_clock();
    ohm_bench_print(&(ohm_bench_figure){.bench = "normals",
                                        .what = "sgemm",
                                        .shape = "1024^3",
                                        .value = flops * 1e-9,
                                        .unit = "Gflop/s",
                                        .threads = 1});
    int failed = 0;
    for (ohm_isa isa = 0; isa <= ohm_cpu_isa(); isa++)
        for (int exact = 0; exact < 2; exact++)
            failed |= measure(&w, isa, exact, flops, clock);
    return failed;
}
