/* Exact IR drop: one core's milliseconds per tile over its size, beside n³ and beside sgemm's flop rate on
 * the march's 11·R·C² + (2/3)·C³ + 2·R·C² flop; a tile against a sparse direct solver; a layer of 1,024
 * tiles against products; a training step with exact wires against one without any. Uniform 1-100 µS, 1 ohm.
 *
 * Beside them the break-even of ohm_nodal_prefers_matrix: a matrix against one input by line-CG.
 *
 *     bench_irdrop [part]      part: size, inputs, sparse, layer or step; all without it */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/profile.h"
#include "kernels/irdrop_network.h"
#include "models/networks.h"
#include "profiling/bench.h"
#include "tests/oracle_sparse.h"

enum { SIDE = 128, LAYER_TILES = 1024, PRODUCTS = 55, STEPS = 7 };
static const ohm_wires wires = {.word_line = 1.0, .bit_line = 1.0};

typedef struct {
    ohm_crosspoint tile;
    float *g, *out;
    double *g64, *out64;
    size_t tiles;
    int threads;
    void *scratch;
    ohm_oracle *oracle;
} work;

static void *memory(size_t count, size_t bytes)
{
    void *m = aligned_alloc(64, (count * bytes + 63) / 64 * 64);
    if (!m) {
        fprintf(stderr, "bench_irdrop: out of memory\n");
        exit(1);
    }
    return m;
}

/* `tiles` tiles of side n; the double copy is of the first alone. */
static work make(int n, size_t tiles, int threads)
{
    size_t cells = (size_t)n * n;
    work w = {.tile = {n, n, wires}, .tiles = tiles, .threads = threads};
    size_t f32 = ohm_irdrop_exact_batch_bytes_f32(tiles, &w.tile, threads), f64 = ohm_irdrop_exact_bytes_f64(&w.tile);
    w.g = memory(cells * tiles, sizeof *w.g);
    w.out = memory(cells * tiles, sizeof *w.out);
    w.g64 = memory(cells, sizeof *w.g64);
    w.out64 = memory(cells, sizeof *w.out64);
    w.scratch = memory(f32 > f64 ? f32 : f64, 1);
    uint32_t state = 1;
    for (size_t i = 0; i < cells * tiles; i++) {
        state = state * 1664525u + 1013904223u;
        w.g[i] = 1e-6f + 99e-6f * (float)(state >> 8) / 16777216.0f;
        if (i < cells)
            w.g64[i] = w.g[i];
    }
    return w;
}

static void release(work *w)
{
    free(w->g);
    free(w->out);
    free(w->g64);
    free(w->out64);
    free(w->scratch);
    ohm_oracle_destroy(w->oracle);
}

static void must(int good, const char *what)
{
    if (!good) {
        fprintf(stderr, "bench_irdrop: %s\n", what);
        exit(1);
    }
}

static void solve_f32(void *context)
{
    work *w = context;
    must(ohm_irdrop_exact_f32(w->out, w->g, &w->tile, w->scratch, NULL) == OHM_SOLVE_OK, "no solution in float");
}

static void solve_f64(void *context)
{
    work *w = context;
    must(ohm_irdrop_exact_f64(w->out64, w->g64, &w->tile, w->scratch, NULL) == OHM_SOLVE_OK, "no solution in double");
}

static void solve_layer(void *context)
{
    work *w = context;
    must(ohm_irdrop_exact_batch_f32(w->out, w->g, w->tiles, &w->tile, w->threads, w->scratch, NULL, NULL) == OHM_SOLVE_OK,
         "no solution of a layer");
}

static void solve_sparse(void *context)
{
    work *w = context;
    must(ohm_oracle_factorise(w->oracle) && ohm_oracle_solve(w->out64, w->oracle, 0, w->tile.rows), "CHOLMOD failed");
}

/* max|float - double| / max|double| of the first tile. */
static double error_of(const work *w)
{
    double error = 0.0, largest = 0.0;
    for (int i = 0; i < w->tile.rows * w->tile.columns; i++) {
        error = fmax(error, fabs(w->out[i] - w->out64[i]));
        largest = fmax(largest, w->out64[i]);
    }
    return error / largest;
}

static void bench_sizes(void)
{
    enum { SIZES = 5 };
    double sgemm = 2.0 * 1024 * 1024 * 1024 / ohm_bench_sgemm(1024, 1024, 1024, 1), seconds[SIZES][2];
    for (int i = 0; i < SIZES; i++) {
        work w = make(32 << i, 1, 1);
        solve_f64(&w);
        solve_f32(&w);
        char shape[32], note[96];
        snprintf(shape, sizeof shape, "%d x %d", w.tile.rows, w.tile.columns);
        snprintf(note, sizeof note, "float off by %.2g of the largest entry", error_of(&w));
        double flop = (13.0 + 2.0 / 3.0) * pow(w.tile.rows, 3.0);
        for (int wide = 0; wide < 2; wide++) {
            seconds[i][wide] = ohm_bench_best(wide ? solve_f64 : solve_f32, &w, 0.5);
            ohm_bench_print(&(ohm_bench_figure){.bench = "irdrop",
                                                .what = wide ? "double" : "float",
                                                .shape = shape,
                                                .value = seconds[i][wide] * 1e3,
                                                .unit = "ms",
                                                .threads = 1,
                                                .ratio = flop / seconds[i][wide] / sgemm,
                                                .baseline = "flop rate of OpenBLAS sgemm",
                                                .note = wide ? NULL : note});
        }
        release(&w);
    }
    fprintf(stderr, "\none core    float ms   /n^3 to 128   double ms   /n^3 to 128\n");
    for (int i = 0; i < SIZES; i++) {
        double cubes = pow(2.0, 3.0 * (i - 2));
        fprintf(stderr, "%4d^2    %11.4g %13.2f %11.4g %13.2f\n", 32 << i, seconds[i][0] * 1e3,
                seconds[i][0] / seconds[2][0] / cubes, seconds[i][1] * 1e3, seconds[i][1] / seconds[2][1] / cubes);
    }
}

typedef struct {
    ohm_nodal network;
    double *v, *current;
    void *scratch;
} one_input;

static void solve_input(void *context)
{
    one_input *x = context;
    must(ohm_nodal_solve(x->current, NULL, NULL, &x->network, x->v, NULL, OHM_NODAL_TOLERANCE, x->scratch, NULL) ==
             OHM_SOLVE_OK,
         "an input was not solved");
}

/* How many inputs by line-CG cost what G_eff costs, on gentle and on steep tiles; both in double, one core. */
static void bench_inputs(void)
{
    static const double ohms[] = {1.0, 100.0};
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 2; k++) {
            work w = make(32 << i, 1, 1);
            w.tile.wires.word_line = w.tile.wires.bit_line = ohms[k];
            one_input x = {.network = {.tile = w.tile, .g = w.g64, .law = {OHM_CELL_LINEAR, 0.0, 1.0}}};
            x.v = memory((size_t)w.tile.rows, sizeof *x.v);
            x.current = memory((size_t)w.tile.columns, sizeof *x.current);
            x.scratch = memory(ohm_nodal_scratch_bytes(&x.network), 1);
            for (int r = 0; r < w.tile.rows; r++)
                x.v[r] = 0.2 * (r % 3);
            char shape[48];
            snprintf(shape, sizeof shape, "%d x %d, %g ohm", w.tile.rows, w.tile.columns, ohms[k]);
            double matrix = ohm_bench_best(solve_f64, &w, 0.3), input = ohm_bench_best(solve_input, &x, 0.3);
            ohm_bench_print(&(ohm_bench_figure){.bench = "irdrop",
                                                .what = "inputs by line-CG that cost what G_eff costs",
                                                .shape = shape,
                                                .value = input * 1e3,
                                                .unit = "ms per input",
                                                .threads = 1,
                                                .ratio = matrix / input,
                                                .baseline = "one input by line-CG, double"});
            free(x.v);
            free(x.current);
            free(x.scratch);
            release(&w);
        }
}

static void bench_sparse(void)
{
    if (!ohm_oracle_here()) {
        fprintf(stderr, "bench_irdrop: against CHOLMOD SKIPPED, %s\n", ohm_oracle_missing);
        return;
    }
    ohm_bench_sgemm(32, 32, 32, 1); /* CHOLMOD calls OpenBLAS: one thread */
    work w = make(SIDE, 1, 1);
    w.oracle = ohm_oracle_create(w.g64, &w.tile);
    must(w.oracle != NULL, "no memory for CHOLMOD");
    double sparse = ohm_bench_best(solve_sparse, &w, 2.0);
    solve_f32(&w);
    double error = error_of(&w), march = ohm_bench_best(solve_f32, &w, 0.5);
    must(error < 1e-5, "float and CHOLMOD disagree");
    char note[160];
    snprintf(note, sizeof note, "CHOLMOD: factor and %d right-hand sides in %.4g ms, ordering not counted; they differ by %.2g",
             SIDE, sparse * 1e3, error);
    ohm_bench_print(&(ohm_bench_figure){.bench = "irdrop",
                                        .what = "float, times as fast as CHOLMOD",
                                        .shape = "128 x 128",
                                        .value = march * 1e3,
                                        .unit = "ms",
                                        .threads = 1,
                                        .ratio = sparse / march,
                                        .baseline = "sparse direct solver",
                                        .target = 100.0,
                                        .note = note});
    fprintf(stderr, "128^2, one core: CHOLMOD %.4g ms, march %.4g ms: %.0fx; target >= 100: %s\n", sparse * 1e3, march * 1e3,
            sparse / march, sparse / march >= 100.0 ? "met" : "missed");
    release(&w);
}

static void bench_layer(void)
{
    int threads = omp_get_num_procs() < 2 ? 1 : 2;
    double product = ohm_bench_sgemm(1024, 1024, 1024, 2);
    ohm_bench_sgemm(32, 32, 32, 1); /* back to one thread */
    work w = make(SIDE, LAYER_TILES, threads);
    solve_layer(&w);
    solve_f64(&w);
    must(error_of(&w) < 1e-5, "float and double disagree");
    double layer = ohm_bench_best(solve_layer, &w, 2.0), ratio = layer / (PRODUCTS * product);
    ohm_bench_print(&(ohm_bench_figure){.bench = "irdrop",
                                        .what = "a 4096 x 4096 layer",
                                        .shape = "1024 tiles of 128 x 128",
                                        .value = layer,
                                        .unit = "s",
                                        .threads = threads,
                                        .ratio = ratio,
                                        .baseline = "55 products of 1024 x 1024 x 1024, OpenBLAS sgemm, two threads",
                                        .target = 1.0,
                                        .at_most = true});
    fprintf(stderr, "1024 tiles of 128^2, %d threads: %.3g s, 55 sgemms %.3g s: %.2f; target <= 1: %s\n", threads, layer,
            PRODUCTS * product, ratio, ratio <= 1.0 ? "met" : "missed");
    release(&w);
}

/* ResNet-20, batch 128, mode nograd, on 128 x 128 tiles: exact wires against none, steps in turns. */
static ohm_status bench_step(void)
{
    static ohm_profile_job job[2];
    static ohm_profile r[2];
    static ohm_architecture architecture;
    static const char *const common[] = {"tile.rows=128", "tile.cols=128"};
    static const char *const model[2] = {"ir_drop.model=none", "ir_drop.model=exact"};
    ohm_config *config = &job[0].config;
    OHM_TRY(ohm_config_read(config, NULL));
    OHM_TRY(ohm_config_set(config, "network.kind=resnet20"));
    OHM_TRY(ohm_hardware_read(&config->hardware, "rasch2023"));
    for (size_t i = 0; i < sizeof common / sizeof *common; i++)
        OHM_TRY(ohm_hardware_set(&config->hardware, common[i]));
    OHM_TRY(ohm_hardware_set(&config->hardware, "ir_drop.r_wordline_ohm=1"));
    OHM_TRY(ohm_hardware_set(&config->hardware, "ir_drop.r_bitline_ohm=1"));
    config->hardware_enabled = 1;
    config->train.batch = 128;
    config->train.mode = OHM_MODE_NOGRAD;
    OHM_TRY(ohm_model_build(&architecture, config, 32, 32, 3, 10));
    job[1] = job[0];
    for (int i = 0; i < 2; i++) {
        job[i].architecture = &architecture;
        OHM_TRY(ohm_hardware_set(&job[i].config.hardware, model[i]));
    }
    OHM_TRY(ohm_profile_run(r, job, 2, STEPS, 1));
    for (int i = 0; i < 2; i++)
        if (*r[i].refused)
            return OHM_FAIL(OHM_ERR_UNSUPPORTED, "%s: %s", model[i], r[i].refused);
    double none = ohm_profile_median(&r[0]), exact = ohm_profile_median(&r[1]);
    char note[128];
    snprintf(note, sizeof note, "medians of %d steps in turns; without wires %.4g s", STEPS, none);
    ohm_bench_print(&(ohm_bench_figure){.bench = "irdrop",
                                        .what = "training step with exact wires",
                                        .shape = "resnet20, batch 128, rasch2023 on 128 x 128 tiles, nograd",
                                        .value = exact,
                                        .unit = "s/step",
                                        .threads = omp_get_max_threads(),
                                        .ratio = exact / none,
                                        .baseline = "the same step without wires",
                                        .target = 1.3,
                                        .at_most = true,
                                        .note = note});
    fprintf(stderr, "ResNet-20 step, batch 128: none %.4g s, exact %.4g s: %.2fx; target <= 1.3: %s\n", none, exact, exact / none,
            exact / none <= 1.3 ? "met" : "missed");
    ohm_profile_free(&r[0]);
    ohm_profile_free(&r[1]);
    return OHM_OK;
}

int main(int argc, char **argv)
{
    /* Threads that spin after a region would slow the products; OpenMP reads this when the process starts. */
    if (!getenv("OMP_WAIT_POLICY") && setenv("OMP_WAIT_POLICY", "passive", 1) == 0)
        execv("/proc/self/exe", argv);
    static const char *const parts[] = {"size", "inputs", "sparse", "layer", "step"};
    int known = argc < 2;
    for (int i = 0; i < 5; i++) {
        int wanted = argc < 2 || strcmp(argv[1], parts[i]) == 0;
        known |= wanted;
        if (!wanted)
            continue;
        if (i == 0)
            bench_sizes();
        else if (i == 1)
            bench_inputs();
        else if (i == 2)
            bench_sparse();
        else if (i == 3)
            bench_layer();
        else if (bench_step() != OHM_OK) {
            fprintf(stderr, "bench_irdrop: %s\n", ohm_error_text());
            return 1;
        }
    }
    if (!known)
        fprintf(stderr, "bench_irdrop: the parts are size, inputs, sparse, layer and step, not '%s'\n", argv[1]);
    return known ? 0 : 1;
}
