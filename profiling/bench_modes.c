/* The four gradient modes in the form of Table III of Feng et al. 2025: seconds per training step and
 * peak memory, planned by category and as the system saw it. Each mode runs in a process of its own.
 *
 *     bench_modes [HARDWARE [NETWORK [BATCH]]]      rasch2023 resnet20 128 */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/network.h"
#include "models/networks.h"
#include "profiling/bench.h"

enum { SIDE = 32, CHANNELS = 3, CLASSES = 10, STEPS = 3 };

/* What a mode's process tells its parent. */
typedef struct {
    double seconds, loss, resident_mib, planned_mib, part_mib[OHM_MEMORY_CATEGORIES];
} result;

static const char *const mode_name[] = {"baseline", "full", "detach", "nograd"};

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

static ohm_status step(ohm_network *network, const ohm_pass *pass, double *loss)
{
    int correct;
    ohm_network_zero_gradients(network);
    OHM_TRY(ohm_network_forward(network, pass));
    OHM_TRY(ohm_network_loss(network, pass, pass->images, loss, &correct));
    OHM_TRY(ohm_network_backward(network, pass));
    *loss /= pass->images;
    return ohm_network_update(network, 0.01, pass->moment.step);
}

static ohm_status measure(result *r, ohm_network *network, int mode, int batch)
{
    fill(network, batch);
    r->seconds = INFINITY;
    for (uint32_t i = 0; i < STEPS; i++) { /* the first step also touches the memory: not counted */
        ohm_pass pass = {
            .images = batch, .mode = mode, .training = 1, .moment = {.seed = 1, .step = i}};
        double start = ohm_bench_now();
        OHM_TRY(step(network, &pass, &r->loss));
        double seconds = ohm_bench_now() - start;
        r->seconds = i > 0 && seconds < r->seconds ? seconds : r->seconds;
    }
    if (!isfinite(r->loss))
        return OHM_FAIL(OHM_ERR_DATA, "mode %s: the loss is not finite", mode_name[mode]);
    const ohm_memory *memory = ohm_network_memory(network);
    r->planned_mib = (double)memory->peak_total / (1 << 20);
    for (int i = 0; i < OHM_MEMORY_CATEGORIES; i++)
        r->part_mib[i] = (double)memory->peak[i] / (1 << 20);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    r->resident_mib = (double)usage.ru_maxrss / 1024.0;
    return OHM_OK;
}

static ohm_status run(result *r, const ohm_config *config, int mode, int batch)
{
    static ohm_architecture architecture;
    ohm_config own = *config;
    own.train.mode = mode;
    own.hardware_enabled = 1;
    OHM_TRY(ohm_model_build(&architecture, &own, SIDE, SIDE, CHANNELS, CLASSES));
    ohm_network *network;
    const ohm_network_options options = {.max_batch = batch, .training = 1};
    OHM_TRY(ohm_network_create(&network, &architecture, &own, &options));
    ohm_status status = measure(r, network, mode, batch);
    ohm_network_destroy(network);
    return status;
}

/* Runs one mode in a child, so that its peak is its own. 0 when it went wrong; the child says why. */
static int run_apart(result *r, const ohm_config *config, int mode, int batch)
{
    int ends[2], outcome = 1;
    if (pipe(ends) != 0)
        return 0;
    pid_t child = fork();
    if (child == 0) {
        int fine = run(r, config, mode, batch) == OHM_OK;
        if (!fine)
            fprintf(stderr, "bench_modes: %s\n", ohm_error_text());
        _exit(fine && write(ends[1], r, sizeof *r) == (ssize_t)sizeof *r ? 0 : 1);
    }
    close(ends[1]);
    int whole = child > 0 && read(ends[0], r, sizeof *r) == (ssize_t)sizeof *r;
    close(ends[0]);
    return child > 0 && waitpid(child, &outcome, 0) == child && outcome == 0 && whole;
}

static void print(const result *r, const result *baseline, int mode, const char *shape)
{
    char note[256] = "planned MiB:";
    for (int i = 0; i < OHM_MEMORY_CATEGORIES; i++)
        snprintf(note + strlen(note), sizeof note - strlen(note), "%s %s %.1f", i ? "," : "",
                 ohm_memory_name(i), r->part_mib[i]);
    int threads = omp_get_max_threads();
    ohm_bench_figure time = {.bench = "modes",
                             .what = mode_name[mode],
                             .shape = shape,
                             .value = r->seconds,
                             .unit = "s/step",
                             .threads = threads,
                             .ratio = r->seconds / baseline->seconds,
                             .baseline = "baseline"};
    ohm_bench_figure planned = {.bench = "modes",
                                .what = mode_name[mode],
                                .shape = shape,
                                .value = r->planned_mib,
                                .unit = "MiB planned peak",
                                .threads = threads,
                                .ratio = r->planned_mib / baseline->planned_mib,
                                .baseline = "baseline",
                                .note = note,
                                .target = mode == OHM_MODE_NOGRAD ? 1.10 : 0.0,
                                .at_most = true};
    ohm_bench_figure resident = planned;
    resident.value = r->resident_mib;
    resident.unit = "MiB resident peak";
    resident.ratio = r->resident_mib / baseline->resident_mib;
    resident.note = NULL;
    ohm_bench_print(&time);
    ohm_bench_print(&planned);
    ohm_bench_print(&resident);
}

static int network_kind(const char *name)
{
    static const char *const names[] = {"mlp", "lenet5", "vgg8", "vgg11", "resnet20", "resnet18"};
    for (int i = 0; i < 6; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    return -1;
}

int main(int argc, char **argv)
{
    const char *hardware = argc > 1 ? argv[1] : "rasch2023",
               *name = argc > 2 ? argv[2] : "resnet20";
    int batch = argc > 3 ? atoi(argv[3]) : 128;
    static ohm_config config;
    static result r[4];
    if (ohm_config_read(&config, NULL) != OHM_OK ||
        ohm_hardware_read(&config.hardware, hardware) != OHM_OK) {
        fprintf(stderr, "bench_modes: %s\n", ohm_error_text());
        return 1;
    }
    config.network.kind = network_kind(name);
    char shape[160];
    snprintf(shape, sizeof shape, "%s, batch %d, %s", name, batch, hardware);
    for (int mode = 0; mode < 4; mode++) {
        if (!run_apart(&r[mode], &config, mode, batch))
            return 1;
        print(&r[mode], &r[OHM_MODE_BASELINE], mode, shape);
    }
    return 0;
}
