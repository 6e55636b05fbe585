/* What ranges cost a training step: none against ranges that nobody listens to (compiled in with NVTX where
 * the build has it), and against a recording. Steps of the three take turns; the best of each counts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "host/step.h"
#include "models/networks.h"
#include "profiling/bench.h"

enum { SIDE = 32, CHANNELS = 3, CLASSES = 10, BATCH = 16, ROUNDS = 40, PAIRS = 1 << 20 };

static void fill(void *context, int first, int images, int64_t step)
{
    ohm_network *network = context;
    uint32_t state = (uint32_t)(first + step) + 1;
    for (size_t i = 0; i < (size_t)images * SIDE * SIDE * CHANNELS; i++) {
        state = state * 1664525u + 1013904223u;
        ohm_network_images(network)[i] = (float)(int32_t)state * 0x1p-31f;
    }
    for (int i = 0; i < images; i++)
        ohm_network_labels(network)[i] = i % CLASSES;
}

typedef enum { NO_RANGES, RANGES, RECORDED, WAYS } way;

/* Seconds of the best step each way. */
static ohm_status measure(double best[WAYS], ohm_network *network, const ohm_config *config,
                          ohm_trace *trace)
{
    double loss;
    int correct;
    for (int i = 0; i < WAYS; i++)
        best[i] = INFINITY;
    for (int round = 0; round <= ROUNDS; round++)
        for (int i = 0; i < WAYS; i++) {
            ohm_step step = {.network = network, .config = config, .fill = fill, .context = network};
            step.trace = i == NO_RANGES ? NULL : trace;
            ohm_network_set_trace(network, step.trace);
            if (i == RECORDED)
                OHM_TRY(ohm_trace_record(trace, 1));
            double start = ohm_bench_now();
            OHM_TRY(ohm_step_run(&step, round, 1e-4, &loss, &correct));
            double seconds = ohm_bench_now() - start;
            ohm_trace_pause(trace);
            best[i] = round ? fmin(best[i], seconds) : best[i]; /* the first touches memory */
        }
    return OHM_OK;
}

static void one_range(ohm_trace *trace)
{
    double start = ohm_bench_now();
    for (int i = 0; i < PAIRS; i++) {
        ohm_trace_kernel(trace, "range");
        ohm_trace_end(trace);
    }
    const ohm_bench_figure figure = {.bench = "trace",
                                     .what = "one range that nobody listens to",
                                     .shape = ohm_trace_has_nvtx() ? "with NVTX" : "without NVTX",
                                     .value = (ohm_bench_now() - start) / PAIRS * 1e9,
                                     .unit = "ns",
                                     .threads = 1};
    ohm_bench_print(&figure);
}

static ohm_status bench(void)
{
    static ohm_architecture architecture;
    static ohm_config config;
    static const char *const what[WAYS] = {"no ranges", "ranges, nobody listens", "recorded"};
    ohm_network *network;
    ohm_trace *trace;
    double best[WAYS];
    OHM_TRY(ohm_config_read(&config, NULL));
    OHM_TRY(ohm_config_set(&config, "hardware=rasch2023"));
    OHM_TRY(ohm_config_set(&config, "network.kind=lenet5"));
    config.train.batch = BATCH;
    OHM_TRY(ohm_model_build(&architecture, &config, SIDE, SIDE, CHANNELS, CLASSES));
    const ohm_network_options options = {.max_batch = BATCH, .training = 1};
    OHM_TRY(ohm_network_create(&network, &architecture, &config, &options));
    OHM_TRY(ohm_trace_create(&trace));
    OHM_TRY(measure(best, network, &config, trace));
    one_range(trace);
    for (int i = 0; i < WAYS; i++) {
        const ohm_bench_figure figure = {.bench = "trace",
                                         .what = what[i],
                                         .shape = "lenet5, batch 16, rasch2023, nograd",
                                         .value = best[i] * 1e3,
                                         .unit = "ms/step",
                                         .threads = ohm_network_threads(network),
                                         .ratio = best[i] / best[NO_RANGES],
                                         .baseline = "no ranges",
                                         .target = i == RANGES ? 1.02 : 0.0,
                                         .at_most = true};
        ohm_bench_print(&figure);
    }
    ohm_trace_destroy(trace);
    ohm_network_destroy(network);
    return OHM_OK;
}

int main(int argc, char **argv)
{
    (void)argc;
    /* OpenMP reads this when the process starts. */
    if (!getenv("OMP_WAIT_POLICY") && setenv("OMP_WAIT_POLICY", "passive", 1) == 0)
        execv("/proc/self/exe", argv);
    ohm_status status = bench();
    if (status != OHM_OK)
        fprintf(stderr, "bench_trace: %s\n", ohm_error_text());
    return status == OHM_OK ? 0 : 1;
}
