/* The gradient modes in the form of Table III of Feng et al. 2025: seconds per training step, peak and
 * average memory, on random images, measured by host/profile.h: all modes in one process, a step each in
 * turns, as far as their plans fit together.
 *
 *     bench_modes [--device DEVICE] [HARDWARE [NETWORK [BATCH [STEPS]]]]
 *
 * Without a network: ResNet-20 at batch 128 and LeNet-5 at batch 64; on a device, in half precision,
 * ResNet-18 at batch 512, VGG-11 at 256 and ResNet-20 at 512. Chip rasch2023, 5 steps. A mode that the device
 * lacks, or that does not fit, is said to be missing, and the exit status is then 1. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/backend.h"
#include "host/plan.h"
#include "host/profile.h"
#include "models/networks.h"
#include "profiling/bench.h"

enum { SIDE = 32, CHANNELS = 3, CLASSES = 10, STEPS = 5 };
static const double MIB = 1.0 / (1 << 20);
static const char SAVE[] = "full:save";

typedef struct {
    const char *hardware, *network;
    int batch, steps;
    int time, memory; /* whether step time and planned peak of nograd, and the plan's truth, are judged */
} job;

/* What all jobs share. */
typedef struct {
    const char *asked; /* --device, or NULL */
    int on_device;
    char device[320];
} place;

static ohm_status describe(ohm_config *config, ohm_architecture *architecture, const job *j,
                           const place *p)
{
    char assignment[400];
    OHM_TRY(ohm_config_read(config, NULL));
    snprintf(assignment, sizeof assignment, "network.kind=%s", j->network);
    OHM_TRY(ohm_config_set(config, assignment));
    snprintf(assignment, sizeof assignment, "device=%s", p->asked ? p->asked : "cpu");
    OHM_TRY(ohm_config_set(config, assignment));
    OHM_TRY(ohm_hardware_read(&config->hardware, j->hardware));
    config->hardware_enabled = 1;
    config->hardware.mvm.precision = p->on_device ? OHM_MVM_FP16 : OHM_MVM_FP32;
    config->train.batch = j->batch;
    return ohm_model_build(architecture, config, SIDE, SIDE, CHANNELS, CLASSES);
}

/* Devices keep no reads for mode full so far. */
static int measures(const place *p, const char *mode)
{
    return !p->on_device || strcmp(mode, SAVE) != 0;
}

/* Jobs of the modes that fit by themselves; the others are named. *together: all fit at once. */
static ohm_status make_jobs(ohm_profile_job *all, int *modes, int *together,
                            const ohm_architecture *architecture, const ohm_config *config,
                            const place *p)
{
    size_t available, sum = 0;
    OHM_TRY(ohm_backend_available(&available, config));
    *modes = 0;
    for (int mode = 0; mode < OHM_VARIANTS; mode++) {
        if (!measures(p, ohm_variant_name(mode)))
            continue;
        ohm_plan plan;
        ohm_profile_job *one = &all[*modes];
        one->architecture = architecture;
        one->config = *config;
        ohm_variant_set(&one->config, mode);
        ohm_status status = ohm_plan_check(architecture, &one->config, 0, available);
        if (status == OHM_ERR_MEMORY) {
            fprintf(stderr, "bench_modes: %s\n", ohm_error_text());
            continue;
        }
        ++*modes;
        if (status == OHM_ERR_UNSUPPORTED) /* the profile says why */
            continue;
        OHM_TRY(status);
        OHM_TRY(ohm_plan_make(&plan, architecture, &one->config, config->train.batch, 0));
        sum += plan.total;
    }
    *together = sum <= available;
    return OHM_OK;
}

/* ---- what is printed ----------------------------------------------------------------------- */

/* A figure of mode m, whose ratio to mode `to` is at most `target`, if that is not 0. */
static void print_ratio(ohm_bench_figure figure, const ohm_profile *m, const ohm_profile *to,
                        double (*value)(const ohm_profile *), double target)
{
    figure.value = value(m);
    figure.ratio = figure.value / value(to);
    figure.at_most = true;
    figure.target = target;
    ohm_bench_print(&figure);
}

static double planned_mib(const ohm_profile *p)
{
    return (double)p->plan.reserved * MIB;
}

static double seen_mib(const ohm_profile *p)
{
    return p->seen * MIB;
}

/* The larger over the smaller. */
static void print_truth(ohm_bench_figure figure, const ohm_profile *p, double target)
{
    const double share = p->seen / (double)p->plan.reserved;
    figure.value = seen_mib(p);
    figure.baseline = "the plan's block";
    figure.ratio = share < 1.0 ? 1.0 / share : share;
    figure.at_most = true;
    figure.target = target;
    ohm_bench_print(&figure);
}

static void print_mode(const ohm_profile *m, const ohm_profile *base, const ohm_profile *full,
                       const ohm_profile *save, const job *j, ohm_bench_figure figure)
{
    const int nograd = !strcmp(figure.what, ohm_mode_name(OHM_MODE_NOGRAD));
    char time[128], memory[256] = "planned MiB:";
    snprintf(time, sizeof time, "median of %d steps, %.4g to %.4g s", m->steps, m->seconds[0],
             m->seconds[m->steps - 1]);
    for (int i = 0; i < OHM_MEMORY_CATEGORIES; i++)
        snprintf(memory + strlen(memory), sizeof memory - strlen(memory), "%s %s %.1f",
                 i ? "," : "", ohm_memory_name(i), (double)m->plan.peak[i] * MIB);
    figure.unit = "s/step";
    figure.note = time;
    print_ratio(figure, m, base, ohm_profile_median, nograd && j->time ? 1.5 : 0.0);
    figure.unit = "MiB planned peak";
    figure.note = memory;
    print_ratio(figure, m, base, planned_mib, nograd && j->memory ? 1.10 : 0.0);
    figure.note = NULL;
    figure.unit = figure.device ? "MiB of the device's memory in use" : "MiB resident peak over the start";
    if (isfinite(m->seen)) {
        print_ratio(figure, m, base, seen_mib, 0.0);
        print_truth(figure, m, j->memory ? 1.02 : 0.0);
    } else
        fprintf(stderr, "bench_modes: this system does not tell the resident peak\n");
    for (int i = 0; i < 2 && nograd; i++) {
        const ohm_profile *of = i ? save : full;
        if (!of)
            continue;
        figure.baseline = i ? SAVE : ohm_mode_name(OHM_MODE_FULL);
        figure.unit = "s/step";
        print_ratio(figure, m, of, ohm_profile_median, 0.0);
        figure.unit = "MiB planned peak";
        print_ratio(figure, m, of, planned_mib, 0.0);
    }
}

static void print_row(const ohm_profile *m, const ohm_profile *base, const char *mode)
{
    fprintf(stderr, "%-10s %10.4f %8.2f %10.1f %10.1f %8.3f\n", mode, ohm_profile_median(m),
            ohm_profile_median(m) / ohm_profile_median(base), planned_mib(m),
            m->average_total * MIB, planned_mib(m) / planned_mib(base));
}

static const char *name_of(const ohm_profile_job *job)
{
    return ohm_variant_name(ohm_variant_of(&job->config));
}

/* The result of the mode of that name, or NULL. */
static const ohm_profile *result_of(const ohm_profile *r, const ohm_profile_job *all, int modes,
                                    const char *name)
{
    for (int i = 0; i < modes; i++)
        if (!strcmp(name_of(&all[i]), name))
            return *r[i].refused ? NULL : &r[i];
    return NULL;
}

static ohm_status print_all(const ohm_profile *r, const ohm_profile_job *all, int modes,
                            const job *j, const place *p)
{
    const ohm_profile *base = result_of(r, all, modes, "baseline"),
                      *full = result_of(r, all, modes, "full"),
                      *save = result_of(r, all, modes, SAVE);
    char shape[160];
    const int wanted = OHM_VARIANTS - !measures(p, SAVE);
    int missing = wanted - modes;
    snprintf(shape, sizeof shape, "%s, batch %d, %s%s", j->network, j->batch, j->hardware,
             p->on_device ? ", mvm fp16" : "");
    for (int i = 0; i < modes; i++) {
        const char *name = name_of(&all[i]);
        missing += *r[i].refused != 0;
        if (*r[i].refused)
            fprintf(stderr, "bench_modes: mode %s is missing: %s\n", name, r[i].refused);
        else if (base)
            print_mode(&r[i], base, full, save, j,
                       (ohm_bench_figure){.bench = "modes",
                                          .what = name,
                                          .shape = shape,
                                          .threads = omp_get_max_threads(),
                                          .device = p->on_device ? p->device : NULL,
                                          .baseline = "baseline"});
    }
    fprintf(stderr, "\n%s, %d threads\n%-10s %10s %8s %10s %10s %8s\n", shape,
            omp_get_max_threads(), "mode", "s/step", "x base", "peak MiB", "mean MiB", "x base");
    for (int i = 0; i < modes && base; i++)
        if (!*r[i].refused)
            print_row(&r[i], base, name_of(&all[i]));
    return missing ? OHM_FAIL(OHM_ERR_UNSUPPORTED, "%s: %d of %d modes are missing", shape, missing,
                              wanted)
                   : OHM_OK;
}

static ohm_status bench(const job *j, const place *p)
{
    static ohm_config config;
    static ohm_profile_job all[OHM_VARIANTS];
    static ohm_architecture architecture;
    static ohm_profile r[OHM_VARIANTS]; /* zeroed: by ohm_profile_free after each job */
    int modes, together;
    OHM_TRY(describe(&config, &architecture, j, p));
    OHM_TRY(make_jobs(all, &modes, &together, &architecture, &config, p));
    ohm_status status = ohm_profile_run(r, all, modes, j->steps, together);
    if (status == OHM_OK)
        status = print_all(r, all, modes, j, p);
    for (int i = 0; i < modes; i++)
        ohm_profile_free(&r[i]);
    return status;
}

/* One that fails leaves the others to be measured. */
static int bench_all(const job *j, int count, const place *p)
{
    int failed = 0;
    for (int i = 0; i < count; i++)
        if (bench(&j[i], p) != OHM_OK) {
            fprintf(stderr, "bench_modes: %s\n", ohm_error_text());
            failed = 1;
        }
    return failed;
}

static ohm_status find_place(place *p)
{
    char assignment[400];
    size_t bytes;
    static ohm_config config;
    snprintf(assignment, sizeof assignment, "device=%s", p->asked ? p->asked : "cpu");
    OHM_TRY(ohm_config_read(&config, NULL));
    OHM_TRY(ohm_config_set(&config, assignment));
    OHM_TRY(ohm_backend_describe(p->device, sizeof p->device, &bytes, &config));
    p->on_device = bytes > 0;
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
    place p = {0};
    if (argc > 2 && !strcmp(argv[1], "--device")) {
        p.asked = argv[2];
        argc -= 2;
        argv += 2;
    }
    if (find_place(&p) != OHM_OK) {
        fprintf(stderr, "bench_modes: %s\n", ohm_error_text());
        return 1;
    }
    const char *hardware = argc > 1 ? argv[1] : "rasch2023";
    const job on_cpu[] = {{hardware, "resnet20", 128, STEPS, 0, 1}, {hardware, "lenet5", 64, STEPS, 0, 0}},
              on_device[] = {{hardware, "resnet18", 512, STEPS, 1, 1},
                             {hardware, "vgg11", 256, STEPS, 0, 1},
                             {hardware, "resnet20", 512, STEPS, 0, 1}};
    if (argc <= 2)
        return p.on_device ? bench_all(on_device, sizeof on_device / sizeof *on_device, &p)
                           : bench_all(on_cpu, sizeof on_cpu / sizeof *on_cpu, &p);
    job asked = {hardware, argv[2], argc > 3 ? number(argv[3], 1, 100000) : 128,
                 argc > 4 ? number(argv[4], 1, OHM_PROFILE_STEPS_MAX) : STEPS, 0, 0};
    asked.memory = !p.on_device && asked.batch == 128 && strcmp(asked.network, "resnet20") == 0;
    if (!asked.batch || !asked.steps) {
        fprintf(stderr, "bench_modes: BATCH is 1..100000, STEPS 1..%d\n", OHM_PROFILE_STEPS_MAX);
        return 1;
    }
    return bench_all(&asked, 1, &p);
}
