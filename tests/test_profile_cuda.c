/* Profiles and traces of a device: memory that the device saw, and what lies in which range. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/profile.h"
#include "host/step.h"
#include "models/networks.h"
#include "tests/executor/executor.h"
#include "tests/parity.h"
#include "tests/runner.h"
#include "tests/trace_check.h"

#define NEEDS_EXECUTOR()                                                                           \
    do                                                                                             \
        if (!executor_present())                                                                   \
            OHM_SKIP("looked into on the host executor alone");                                    \
    while (0)

typedef struct {
    ohm_architecture architecture;
    ohm_profile_job job;
} model;

static model *model_of(int kind, int mode, int batch, const char *const *set)
{
    model *m = calloc(1, sizeof *m);
    ck_assert_ptr_nonnull(m);
    ohm_config *config = &m->job.config;
    OHM_OK_OR_FAIL(ohm_config_read(config, NULL));
    config->network.kind = kind;
    config->network.width = 512; /* of the MLP */
    config->train.mode = mode;
    config->train.batch = batch;
    config->device.kind = OHM_DEVICE_CUDA;
    if (mode != OHM_MODE_BASELINE) {
        OHM_OK_OR_FAIL(ohm_config_set(config, "hardware=rasch2023"));
        OHM_OK_OR_FAIL(ohm_config_set(config, "hardware.mvm.precision=fp16"));
    }
    for (; set && *set; set++)
        OHM_OK_OR_FAIL(ohm_config_set(config, *set));
    OHM_OK_OR_FAIL(ohm_model_build(&m->architecture, config, 16, 16, 1, 10));
    m->job.architecture = &m->architecture;
    return m;
}

static void planned_is_seen(int kind, int mode, int batch)
{
    ohm_profile p = {0};
    model *m = model_of(kind, mode, batch, NULL);
    OHM_OK_OR_FAIL(ohm_profile_run(&p, &m->job, 1, 1, 1));
    if (*p.refused) {
        ck_assert_msg(mode == OHM_MODE_FULL, "mode %s: %s", ohm_mode_name(mode), p.refused);
        free(m);
        return;
    }
    double share = p.seen / (double)p.plan.reserved;
    ck_assert_msg(fabs(share - 1.0) <= 0.02, "%s, mode %s: %.0f bytes seen, %zu planned",
                  m->architecture.name, ohm_mode_name(mode), p.seen, p.plan.reserved);
    ck_assert_int_gt(p.points, 5);
    ck_assert_double_gt(p.average_total, 0);
    ohm_profile_free(&p);
    free(m);
}

OHM_TEST(profile_cuda, planned_memory_is_what_the_device_saw)
{
    NEEDS_EXECUTOR();
    planned_is_seen(OHM_NET_MLP, OHM_MODE_BASELINE, 16);
    planned_is_seen(OHM_NET_LENET5, OHM_MODE_BASELINE, 8);
}

static void planned_is_seen_in_every_mode(int kind, int batch)
{
    for (int mode = 0; mode < OHM_MODES; mode++)
        planned_is_seen(kind, mode, batch);
}

OHM_TEST_SLOW(profile_cuda, planned_memory_is_what_the_device_saw_in_every_mode)
{
    NEEDS_EXECUTOR();
    planned_is_seen_in_every_mode(OHM_NET_MLP, 8);
    planned_is_seen_in_every_mode(OHM_NET_LENET5, 4);
}

OHM_TEST_LONG(profile_cuda, planned_memory_is_what_the_device_saw_of_a_resnet)
{
    NEEDS_EXECUTOR();
    planned_is_seen_in_every_mode(OHM_NET_RESNET20, 2);
}

/* ---- ranges -------------------------------------------------------------------------------- */

static struct {
    const ohm_trace *trace;
    int kernels, graphs, outside;
    char first[64];
} watch;

/* Results may come down between ranges. */
static void seen(void *context, const char *name)
{
    (void)context;
    watch.kernels += !strcmp(name, "relu");
    watch.graphs += strstr(name, "graph") != NULL;
    if (!strcmp(name, "download") || ohm_trace_open_level(watch.trace) == OHM_TRACE_KERNEL)
        return;
    if (!watch.outside++)
        snprintf(watch.first, sizeof watch.first, "%s", name);
}

static void fill_ones(void *context, int first, int images, int64_t step)
{
    ohm_network *network = context;
    const ohm_architecture *a = ohm_network_architecture(network);
    (void)first, (void)step;
    for (int i = 0; i < images * a->height * a->width * a->channels; i++)
        ohm_network_images(network)[i] = 1.0f;
    for (int i = 0; i < images; i++)
        ohm_network_labels(network)[i] = i % a->classes;
}

/* Steps of a traced network, watched; recorded ones first, then while the trace sees them. */
static void watch_steps(int kind, int mode, const char *const *set)
{
    double loss;
    int correct;
    trace_summary summary;
    char path[512];
    ohm_network *network;
    ohm_trace *trace;
    model *m = model_of(kind, mode, 4, set);
    const ohm_config *config = &m->job.config;
    const ohm_network_options options = {.max_batch = ohm_step_images(config), .training = 1};
    OHM_OK_OR_FAIL(ohm_network_create(&network, &m->architecture, config, &options));
    OHM_OK_OR_FAIL(ohm_trace_create(&trace));
    ohm_network_set_trace(network, trace);
    const ohm_step step = {.network = network,
                           .config = config,
                           .trace = trace,
                           .fill = fill_ones,
                           .context = network};
    for (int i = 0; i < 3; i++)
        OHM_OK_OR_FAIL(ohm_step_run(&step, i, 1e-3, &loss, &correct));
    OHM_OK_OR_FAIL(ohm_trace_record(trace, 2));
    ohm_network_trace_steps(network, 1);
    memset(&watch, 0, sizeof watch);
    watch.trace = trace;
    executor_watch(seen, NULL);
    for (int i = 3; i < 5; i++)
        OHM_OK_OR_FAIL(ohm_step_run(&step, i, 1e-3, &loss, &correct));
    ck_assert_int_gt(watch.kernels, 0);
    ck_assert_int_eq(watch.graphs, 0);
    ck_assert_msg(watch.outside == 0, "%d in no kernel range, first %s", watch.outside, watch.first);
    ohm_trace_pause(trace);
    ohm_network_trace_steps(network, 0);
    const ohm_trace_track track = {"device", trace};
    snprintf(path, sizeof path, "%s/device.json", ohm_test_tmpdir());
    OHM_OK_OR_FAIL(ohm_trace_write(path, &track, 1));
    trace_check(&summary, path);
    ck_assert_int_eq(summary.steps, 2);
    ck_assert_double_gt(summary.coverage, 0.0);
    OHM_OK_OR_FAIL(ohm_step_run(&step, 5, 1e-3, &loss, &correct));
    ck_assert_int_eq(watch.graphs, config->train.record ? 1 : 0);
    executor_watch(NULL, NULL);
    ohm_network_destroy(network);
    ohm_trace_destroy(trace);
    free(m);
}

OHM_TEST(profile_cuda, everything_a_step_queues_lies_in_a_kernel_range)
{
    static const char *const adam[] = {"train.optimiser=adam", "train.clip_norm=1",
                                       "train.micro_batch=2", "train.recompute_segments=2", NULL},
                             *const unrecorded[] = {"train.record=false", NULL};
    NEEDS_EXECUTOR();
    watch_steps(OHM_NET_LENET5, OHM_MODE_BASELINE, NULL);
    watch_steps(OHM_NET_LENET5, OHM_MODE_BASELINE, adam);
    watch_steps(OHM_NET_MLP, OHM_MODE_BASELINE, unrecorded);
}

OHM_TEST_SLOW(profile_cuda, everything_a_chip_queues_lies_in_a_kernel_range)
{
    static const char *const learned[] = {"hardware.quantise.x_range=learned",
                                          "hardware.output.per_column_scale=true",
                                          "hardware.bias=rows", "hardware.adc.range=calibrated:99",
                                          NULL},
                             *const wires[] = {"hardware.ir_drop.model=exact",
                                               "hardware.tile.rows=32", "hardware.tile.cols=32",
                                               NULL};
    NEEDS_EXECUTOR();
    for (int mode = OHM_MODE_NOGRAD; mode > OHM_MODE_BASELINE; mode--) {
        watch_steps(OHM_NET_LENET5, mode, NULL);
        watch_steps(OHM_NET_LENET5, mode, learned);
        watch_steps(OHM_NET_LENET5, mode, wires);
    }
}
