/* The gradient modes in the form of Table III of Feng et al. 2025: seconds per training step, peak and
 * average memory, on random images, measured by host/profile.h: all modes in one process, a step each in
 * turns.
 *
 *     bench_modes [HARDWARE [NETWORK [BATCH [STEPS]]]]
 *
 * Without arguments: ResNet-20 at batch 128 and LeNet-5 at batch 64, chip rasch2023, 5 steps. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/profile.h"
#include "models/networks.h"
#include "profiling/bench.h"

enum { SIDE = 32, CHANNELS = 3, CLASSES = 10, STEPS = 5 };
static const double MIB = 1.0 / (1 << 20);

typedef struct {
    const char *hardware, *network;
    int batch, steps;
    int judged; /* the targets are those of ResNet-20 at batch 128 */
} job;

static ohm_status describe(ohm_profile_job *all, ohm_architecture *architecture, const job *j)
{
    char assignment[128];
    ohm_config *config = &all[0].config;
    OHM_TRY(ohm_config_read(config, NULL));
    snprintf(assignment, sizeof assignment, "network.kind=%s", j->network);
    OHM_TRY(ohm_config_set(config, assignment));
    OHM_TRY(ohm_hardware_read(&config->hardware, j->hardware));
    config->hardware_enabled = 1;
    config->train.batch = j->batch;
    OHM_TRY(ohm_model_build(architecture, config, SIDE, SIDE, CHANNELS, CLASSES));
    for (int mode = 0; mode < OHM_MODES; mode++) {
        all[mode].architecture = architecture;
        all[mode].config = *config;
        all[mode].config.train.mode = mode;
    }
    return OHM_OK;
}

/* ---- what is printed ----------------------------------------------------------------------- */

static void print_time(const ohm_profile *r, int mode, ohm_bench_figure figure)
{
    char note[128];
    snprintf(note, sizeof note, "median of %d steps, %.4g to %.4g s", r[mode].steps,
             r[mode].seconds[0], r[mode].seconds[r[mode].steps - 1]);
    figure.value = ohm_profile_median(&r[mode]);
    figure.unit = "s/step";
    figure.ratio = figure.value / ohm_profile_median(r);
    figure.note = note;
    ohm_bench_print(&figure);
}

static void print_resident(const ohm_profile *r, int mode, const job *j, ohm_bench_figure figure)
{
    const ohm_profile *p = &r[mode];
    if (!isfinite(p->seen)) {
        fprintf(stderr, "bench_modes: this system does not tell the resident peak\n");
        return;
    }
    figure.value = p->seen * MIB;
    figure.unit = "MiB resident peak over the start";
    figure.ratio = p->seen / r->seen;
    figure.note = NULL;
    ohm_bench_print(&figure);
    figure.baseline = "the plan's block";
    figure.ratio = p->seen / (double)p->plan.reserved;
    figure.target = j->judged ? 1.02 : 0.0;
    ohm_bench_print(&figure);
}

static void print_memory(const ohm_profile *r, int mode, const job *j, ohm_bench_figure figure)
{
    const ohm_memory *plan = &r[mode].plan;
    char note[256] = "planned MiB:";
    for (int i = 0; i < OHM_MEMORY_CATEGORIES; i++)
        snprintf(note + strlen(note), sizeof note - strlen(note), "%s %s %.1f", i ? "," : "",
                 ohm_memory_name(i), (double)plan->peak[i] * MIB);
    figure.at_most = true;
    figure.target = mode == OHM_MODE_NOGRAD && j->judged ? 1.10 : 0.0;
    figure.value = (double)plan->reserved * MIB;
    figure.unit = "MiB planned peak";
    figure.ratio = (double)plan->reserved / (double)r->plan.reserved;
    figure.note = note;
    ohm_bench_print(&figure);
    print_resident(r, mode, j, figure);
}

static void print_table(const ohm_profile *r, const job *j)
{
    fprintf(stderr, "\n%s, batch %d, chip %s, %d threads\n%-10s %10s %8s %10s %10s %8s\n",
            j->network, j->batch, j->hardware, omp_get_max_threads(), "mode", "s/step", "x base",
            "peak MiB", "mean MiB", "x base");
    for (int mode = 0; mode < OHM_MODES; mode++)
        fprintf(stderr, "%-10s %10.3f %8.2f %10.1f %10.1f %8.3f\n", ohm_mode_name(mode),
                ohm_profile_median(&r[mode]), ohm_profile_median(&r[mode]) / ohm_profile_median(r),
                (double)r[mode].plan.reserved * MIB, r[mode].average_total * MIB,
                (double)r[mode].plan.reserved / (double)r->plan.reserved);
}

static ohm_status bench(const job *j)
{
    static ohm_profile_job all[OHM_MODES];
    static ohm_profile r[OHM_MODES];
    static ohm_architecture architecture;
    char shape[160];
    snprintf(shape, sizeof shape, "%s, batch %d, %s", j->network, j->batch, j->hardware);
    OHM_TRY(describe(all, &architecture, j));
    OHM_TRY(ohm_profile_run(r, all, OHM_MODES, j->steps, 1));
    for (int mode = 0; mode < OHM_MODES; mode++) {
        if (*r[mode].refused)
            return OHM_FAIL(OHM_ERR_UNSUPPORTED, "mode %s: %s", ohm_mode_name(mode),
                            r[mode].refused);
        const ohm_bench_figure figure = {.bench = "modes",
                                         .what = ohm_mode_name(mode),
                                         .shape = shape,
                                         .threads = omp_get_max_threads(),
                                         .baseline = "baseline"};
        print_time(r, mode, figure);
        print_memory(r, mode, j, figure);
    }
    print_table(r, j);
    for (int mode = 0; mode < OHM_MODES; mode++)
        ohm_profile_free(&r[mode]);
    return OHM_OK;
}

static int number(const char *text, int low, int high)
{
    char *end;
    long value = strtol(text, &end, 10);
    return end != text && !*end && value >= low && value <= high ? (int)value : 0;
}

int main(int argc, char **argv)
{
    /* Idle processes must not spin; OpenMP reads this when the process starts. */
    if (!getenv("OMP_WAIT_POLICY") && setenv("OMP_WAIT_POLICY", "passive", 1) == 0)
        execv("/proc/self/exe", argv);
    const char *hardware = argc > 1 ? argv[1] : "rasch2023";
    const job standard[2] = {{hardware, "resnet20", 128, STEPS, 1},
                             {hardware, "lenet5", 64, STEPS, 0}};
    job asked = {hardware, argc > 2 ? argv[2] : "resnet20", argc > 3 ? number(argv[3], 1, 100000) : 128,
                 argc > 4 ? number(argv[4], 1, OHM_PROFILE_STEPS_MAX) : STEPS, 0};
    asked.judged = asked.batch == 128 && strcmp(asked.network, "resnet20") == 0;
    if (!asked.batch || !asked.steps) {
        fprintf(stderr, "bench_modes: BATCH is 1..100000, STEPS 1..%d\n", OHM_PROFILE_STEPS_MAX);
        return 1;
    }
    ohm_status status = argc > 2 ? bench(&asked) : bench(&standard[0]);
    if (argc <= 2 && status == OHM_OK)
        status = bench(&standard[1]);
    if (status != OHM_OK)
        fprintf(stderr, "bench_modes: %s\n", ohm_error_text());
    return status == OHM_OK ? 0 : 1;
}
