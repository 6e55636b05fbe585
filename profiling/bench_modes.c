/* The four gradient modes in the form of Table III of Feng et al. 2025: seconds per training step, peak
 * and average memory, on random images. Each mode lives in a process of its own, so that its peak is its
 * own; the processes take turns, one step each, so that their times are measured side by side.
 *
 *     bench_modes [HARDWARE [NETWORK [BATCH [STEPS]]]]
 *
 * Without arguments: ResNet-20 at batch 128 and LeNet-5 at batch 64, chip rasch2023, 5 steps. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/network.h"
#include "kernels/gemm.h"
#include "models/networks.h"
#include "profiling/bench.h"

enum { SIDE = 32, CHANNELS = 3, CLASSES = 10, STEPS = 5, STEPS_MAX = 1000, MODES = 4, WARM = 512 };

static const char *const mode_name[MODES] = {"baseline", "full", "detach", "nograd"};

/* What is measured: the plan, and what the system saw (growth of the peak over the start). */
typedef struct {
    double planned_mib, average_mib, reserved_mib, resident_mib, part_mib[OHM_MEMORY_CATEGORIES];
} memory;

/* A mode's process, seen from the parent: "go" is one byte, the answer one double (seconds). */
typedef struct {
    pid_t child;
    int go, answer;
    double seconds[STEPS_MAX];
    memory memory;
} runner;

typedef struct {
    const char *hardware, *network;
    int batch, steps;
    int judged; /* the targets are those of ResNet-20 at batch 128 */
} job;

/* ---- in a mode's process ------------------------------------------------------------------- */

/* A line of /proc/self/status, in MiB. */
static double status_mib(const char *key)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, key, strlen(key)) == 0)
            sscanf(line + strlen(key), ": %llu", &kib);
    if (file)
        fclose(file);
    return (double)kib / 1024.0;
}

/* Threads and OpenBLAS's own buffers exist before memory is looked at: every mode has them. */
static int warm_up(void)
{
    float *x = calloc(3 * WARM * WARM, sizeof *x);
    if (x)
        ohm_gemm_forward_cpu(x, WARM, x + WARM * WARM, WARM, x + 2 * WARM * WARM, WARM, WARM, WARM,
                             WARM, 0);
    free(x);
    return x != NULL;
}

static void fill(ohm_network *network, int batch)
{
    float *x = ohm_network_images(network);
    uint32_t state = 1;
    for (size_t i = 0; i < (size_t)batch * SIDE * SIDE * CHANNELS; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)state * 0x1p-31f;
    }
    for (int i = 0; i < batch; i++)
        ohm_network_labels(network)[i] = i % CLASSES;
}

static ohm_status step(ohm_network *network, int mode, int batch, uint32_t at)
{
    const ohm_pass pass = {
        .images = batch, .mode = mode, .training = 1, .moment = {.seed = 1, .step = at}};
    double loss;
    int correct;
    ohm_network_zero_gradients(network);
    OHM_TRY(ohm_network_forward(network, &pass));
    OHM_TRY(ohm_network_loss(network, &pass, batch, &loss, &correct));
    if (!isfinite(loss))
        return OHM_FAIL(OHM_ERR_DATA, "mode %s: the loss is not finite", mode_name[mode]);
    OHM_TRY(ohm_network_backward(network, &pass));
    return ohm_network_update(network, 0.01, at);
}

static ohm_status create(ohm_network **network, const job *j, int mode)
{
    static ohm_architecture architecture;
    static ohm_config config;
    char assignment[128];
    OHM_TRY(ohm_config_read(&config, NULL));
    snprintf(assignment, sizeof assignment, "network.kind=%s", j->network);
    OHM_TRY(ohm_config_set(&config, assignment));
    OHM_TRY(ohm_hardware_read(&config.hardware, j->hardware));
    config.hardware_enabled = 1;
    config.train.mode = mode;
    OHM_TRY(ohm_model_build(&architecture, &config, SIDE, SIDE, CHANNELS, CLASSES));
    const ohm_network_options options = {.max_batch = j->batch, .training = 1};
    return ohm_network_create(network, &architecture, &config, &options);
}

static memory memory_of(const ohm_network *network, double start_mib)
{
    const ohm_memory *plan = ohm_network_memory(network);
    const double mib = 1.0 / (1 << 20);
    memory m = {.planned_mib = (double)plan->peak_total * mib,
                .average_mib = (double)plan->average_total * mib,
                .reserved_mib = (double)plan->reserved * mib,
                .resident_mib = status_mib("VmHWM") - start_mib};
    for (int i = 0; i < OHM_MEMORY_CATEGORIES; i++)
        m.part_mib[i] = (double)plan->peak[i] * mib;
    return m;
}

/* Answers each byte with the time of one step; step 0, which also touches the memory, is the parent's to
 * leave out. Sends the memory when `go` is closed. */
static ohm_status serve(const job *j, int mode, int go, int answer)
{
    ohm_network *network;
    char byte;
    if (!warm_up())
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory to warm up");
    double start_mib = status_mib("VmRSS");
    OHM_TRY(create(&network, j, mode));
    fill(network, j->batch);
    ohm_status status = OHM_OK;
    for (uint32_t i = 0; status == OHM_OK && read(go, &byte, 1) == 1; i++) {
        double start = ohm_bench_now();
        status = step(network, mode, j->batch, i);
        double seconds = ohm_bench_now() - start;
        if (status == OHM_OK && write(answer, &seconds, sizeof seconds) != sizeof seconds)
            status = OHM_FAIL(OHM_ERR_IO, "the parent is gone");
    }
    memory m = memory_of(network, start_mib);
    if (status == OHM_OK && write(answer, &m, sizeof m) != sizeof m)
        status = OHM_FAIL(OHM_ERR_IO, "the parent is gone");
    ohm_network_destroy(network);
    return status;
}

/* ---- in the parent ------------------------------------------------------------------------- */

/* Forks the process of one mode. It inherits the pipes of earlier ones and closes them. */
static int start(runner *r, int mode, const job *j)
{
    int to[2], from[2];
    if (pipe(to) != 0 || pipe(from) != 0)
        return 0;
    r[mode].child = fork();
    if (r[mode].child == 0) {
        close(to[1]);
        for (int earlier = 0; earlier < mode; earlier++)
            close(r[earlier].go);
        ohm_status status = serve(j, mode, to[0], from[1]);
        if (status != OHM_OK)
            fprintf(stderr, "bench_modes: %s\n", ohm_error_text());
        _exit(status == OHM_OK ? 0 : 1);
    }
    close(to[0]);
    close(from[1]);
    r[mode].go = to[1];
    r[mode].answer = from[0];
    return r[mode].child > 0;
}

static int take_step(runner *r, double *seconds)
{
    return write(r->go, "s", 1) == 1 &&
           read(r->answer, seconds, sizeof *seconds) == sizeof *seconds;
}

static int finish(runner *r)
{
    int outcome = 1;
    close(r->go);
    int whole = read(r->answer, &r->memory, sizeof r->memory) == sizeof r->memory;
    close(r->answer);
    return waitpid(r->child, &outcome, 0) == r->child && outcome == 0 && whole;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int run(runner *r, const job *j)
{
    double first;
    for (int mode = 0; mode < MODES; mode++)
        if (!start(r, mode, j) || !take_step(&r[mode], &first))
            return 0;
    for (int i = 0; i < j->steps; i++)
        for (int mode = 0; mode < MODES; mode++)
            if (!take_step(&r[mode], &r[mode].seconds[i]))
                return 0;
    for (int mode = 0; mode < MODES; mode++) {
        if (!finish(&r[mode]))
            return 0;
        qsort(r[mode].seconds, (size_t)j->steps, sizeof *r[mode].seconds, by_value);
    }
    return 1;
}

/* ---- what is printed ----------------------------------------------------------------------- */

static double median(const runner *r, const job *j)
{
    return r->seconds[j->steps / 2];
}

static void print_time(const runner *r, int mode, const job *j, ohm_bench_figure figure)
{
    char note[128];
    snprintf(note, sizeof note, "median of %d steps, %.4g to %.4g s", j->steps, r[mode].seconds[0],
             r[mode].seconds[j->steps - 1]);
    figure.value = median(&r[mode], j);
    figure.unit = "s/step";
    figure.ratio = figure.value / median(r, j);
    figure.note = note;
    ohm_bench_print(&figure);
}

static void print_memory(const runner *r, int mode, const job *j, ohm_bench_figure figure)
{
    const memory *m = &r[mode].memory;
    char note[256] = "planned MiB:";
    for (int i = 0; i < OHM_MEMORY_CATEGORIES; i++)
        snprintf(note + strlen(note), sizeof note - strlen(note), "%s %s %.1f", i ? "," : "",
                 ohm_memory_name(i), m->part_mib[i]);
    figure.at_most = true;
    figure.target = mode == OHM_MODE_NOGRAD && j->judged ? 1.10 : 0.0;
    figure.value = m->planned_mib;
    figure.unit = "MiB planned peak";
    figure.ratio = m->planned_mib / r->memory.planned_mib;
    figure.note = note;
    ohm_bench_print(&figure);
    figure.value = m->resident_mib;
    figure.unit = "MiB resident peak over the start";
    figure.ratio = m->resident_mib / r->memory.resident_mib;
    figure.note = NULL;
    ohm_bench_print(&figure);
    figure.baseline = "the plan's block";
    figure.ratio = m->resident_mib / m->reserved_mib;
    figure.target = j->judged ? 1.02 : 0.0;
    figure.note = "the block is of whole 2 MiB pages; code pages count, too";
    ohm_bench_print(&figure);
}

static void print_table(const runner *r, const job *j)
{
    fprintf(stderr, "\n%s, batch %d, chip %s, %d threads\n%-10s %10s %8s %10s %10s %8s\n",
            j->network, j->batch, j->hardware, omp_get_max_threads(), "mode", "s/step", "x base",
            "peak MiB", "mean MiB", "x base");
    for (int mode = 0; mode < MODES; mode++)
        fprintf(stderr, "%-10s %10.3f %8.2f %10.1f %10.1f %8.3f\n", mode_name[mode],
                median(&r[mode], j), median(&r[mode], j) / median(r, j), r[mode].memory.planned_mib,
                r[mode].memory.average_mib, r[mode].memory.planned_mib / r->memory.planned_mib);
}

static int bench(const job *j)
{
    static runner r[MODES];
    char shape[160];
    snprintf(shape, sizeof shape, "%s, batch %d, %s", j->network, j->batch, j->hardware);
    if (!run(r, j))
        return 0;
    for (int mode = 0; mode < MODES; mode++) {
        const ohm_bench_figure figure = {.bench = "modes",
                                         .what = mode_name[mode],
                                         .shape = shape,
                                         .threads = omp_get_max_threads(),
                                         .baseline = "baseline"};
        print_time(r, mode, j, figure);
        print_memory(r, mode, j, figure);
    }
    print_table(r, j);
    return 1;
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
    if (argc <= 2)
        return bench(&standard[0]) && bench(&standard[1]) ? 0 : 1;
    job asked = {hardware, argv[2], argc > 3 ? number(argv[3], 1, 100000) : 128,
                 argc > 4 ? number(argv[4], 1, STEPS_MAX) : STEPS, 0};
    asked.judged = asked.batch == 128 && strcmp(asked.network, "resnet20") == 0;
    if (!asked.batch || !asked.steps) {
        fprintf(stderr, "bench_modes: BATCH is 1..100000, STEPS 1..%d\n", STEPS_MAX);
        return 1;
    }
    return bench(&asked) ? 0 : 1;
}
