/* Large batches: micro-batches with the one-shot batch's noise, bounded workspaces, and activations that are
 * computed again. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/network_internal.h"
#include "host/step.h"
#include "models/networks.h"
#include "tests/compare.h"
#include "tests/runner.h"

enum { STEPS = 2 };

typedef struct {
    ohm_architecture architecture;
    ohm_config config;
    ohm_network *network;
    double lr;
    float *logits; /* [batch, classes] of the last step, in order of images; NULL: not kept */
} lab;

static void fill(void *context, int first, int images, int64_t step)
{
    lab *l = context;
    const ohm_architecture *a = &l->architecture;
    size_t pixels = (size_t)(a->height * a->width * a->channels);
    if (l->logits && first) /* of the micro-batch before */
        memcpy(l->logits + (size_t)(first - images) * a->classes, ohm_network_logits(l->network),
               (size_t)images * a->classes * sizeof *l->logits);
    for (int i = 0; i < images; i++) {
        uint32_t state = (uint32_t)(first + i + 1) * 2654435761u + (uint32_t)step;
        for (size_t j = 0; j < pixels; j++) {
            state = state * 1664525u + 1013904223u;
            ohm_network_images(l->network)[(size_t)i * pixels + j] =
                (float)(int32_t)state * 0x1p-31f;
        }
        ohm_network_labels(l->network)[i] = (first + i) % a->classes;
    }
}

static void describe(lab *l, int kind, int mode, const char *const *set)
{
    *l = (lab){.lr = 0.01};
    OHM_OK_OR_FAIL(ohm_config_read(&l->config, NULL));
    OHM_OK_OR_FAIL(ohm_config_set(&l->config, "hardware=lognormal"));
    for (; *set; set++)
        OHM_OK_OR_FAIL(ohm_config_set(&l->config, *set));
    l->config.network.kind = kind;
    l->config.train.mode = mode;
    OHM_OK_OR_FAIL(ohm_model_build(&l->architecture, &l->config, 32, 32, 1, 10));
}

/* Everything that training left: parameters, statistics, ranges, and the last step's gradients. */
static float *train(lab *l, size_t *count)
{
    int parameters, correct;
    double loss;
    const ohm_network_options options = {
        .max_batch = ohm_step_images(&l->config), .training = 1, .checked = 1};
    OHM_OK_OR_FAIL(ohm_network_create(&l->network, &l->architecture, &l->config, &options));
    const ohm_step step = {
        .network = l->network, .config = &l->config, .fill = fill, .context = l};
    for (int i = 0; i < STEPS; i++)
        OHM_OK_OR_FAIL(ohm_step_run(&step, i, l->lr, &loss, &correct));
    if (l->logits)
        memcpy(l->logits + (size_t)(l->config.train.batch - options.max_batch) *
                               l->architecture.classes,
               ohm_network_logits(l->network),
               (size_t)options.max_batch * l->architecture.classes * sizeof *l->logits);
    const ohm_parameter *p = ohm_network_parameters(l->network, &parameters);
    *count = 0;
    for (int i = 0; i < parameters; i++)
        *count += p[i].count * (p[i].gradient ? 2 : 1);
    float *all = malloc(*count * sizeof *all), *to = all;
    ck_assert_ptr_nonnull(all);
    for (int i = 0; i < parameters; i++) {
        memcpy(to, p[i].value, p[i].count * sizeof *to);
        to += p[i].count;
        if (p[i].gradient)
            memcpy(to, p[i].gradient, p[i].count * sizeof *to);
        to += p[i].gradient ? p[i].count : 0;
    }
    ohm_network_destroy(l->network);
    return all;
}

/* ---- activations that are computed again ---------------------------------------------------- */

static void same_bits(int kind, int mode, const char *const *set, int segments)
{
    static lab kept, again;
    size_t count, other;
    describe(&kept, kind, mode, set);
    describe(&again, kind, mode, set);
    kept.config.train.batch = again.config.train.batch = 4;
    kept.config.train.micro_batch = again.config.train.micro_batch = 2;
    again.config.train.recompute_segments = segments;
    float *whole = train(&kept, &count), *parts = train(&again, &other);
    ck_assert_uint_eq(count, other);
    OHM_ASSERT(ohm_compare_bits(parts, whole, count));
    free(whole);
    free(parts);
}

OHM_TEST_SLOW(segments, recomputed_activations_give_the_same_bits)
{
    static const char *const plain[] = {NULL};
    static const char *const running[] = {"hardware.adc.range=running:0.9",
                                          "hardware.quantise.x_range=running:0.9", NULL};
    static const char *const data[] = {"hardware.adc.range=data", "hardware.quantise.x_range=learned",
                                       "hardware.output.per_column_scale=true", NULL};
    for (int mode = 0; mode < OHM_MODES; mode++) {
        for (int segments = 2; segments <= 11; segments += 3)
            same_bits(OHM_NET_LENET5, mode, plain, segments);
        same_bits(OHM_NET_LENET5, mode, running, 3);
        same_bits(OHM_NET_LENET5, mode, data, 4);
    }
}

OHM_TEST_SLOW(segments, recomputed_residual_blocks_give_the_same_bits)
{
    static const char *const one[] = {"hardware=rasch2023", NULL};
    for (int mode = 0; mode < OHM_MODES; mode++) {
        same_bits(OHM_NET_RESNET20, mode, one, 2);
        same_bits(OHM_NET_RESNET20, mode, one, 5);
    }
    same_bits(OHM_NET_RESNET20, OHM_MODE_NOGRAD, one, 11);
}

/* ---- mode full, both memories -------------------------------------------------------------- */

/* Weights after the same steps, reads drawn again or kept. */
static void both_memories(int kind, const char *const *set, int segments)
{
    static lab again, saved;
    size_t count, other;
    describe(&again, kind, OHM_MODE_FULL, set);
    describe(&saved, kind, OHM_MODE_FULL, set);
    again.config.train.batch = saved.config.train.batch = 6;
    again.config.train.micro_batch = saved.config.train.micro_batch = 2;
    again.config.train.recompute_segments = saved.config.train.recompute_segments = segments;
    saved.config.train.full = OHM_FULL_SAVE;
    float *one = train(&again, &count), *two = train(&saved, &other);
    ck_assert_uint_eq(count, other);
    OHM_ASSERT(ohm_compare_bits(two, one, count));
    free(one);
    free(two);
}

OHM_TEST_SLOW(segments, reads_that_are_kept_give_the_bits_of_reads_drawn_again)
{
    static const char *const plain[] = {NULL}, *const rasch[] = {"hardware=rasch2023", NULL};
    static const char *const learned[] = {"hardware=lognormal", "hardware.quantise.x_range=learned",
                                          "hardware.output.per_column_scale=true",
                                          "hardware.adc.range=running:0.9", NULL};
    static const char *const rows[] = {"hardware=ideal", "hardware.quantise.x_granularity=row",
                                       "hardware.adc.bits=8", "hardware.adc.range=max", NULL};
    both_memories(OHM_NET_LENET5, plain, 0);
    both_memories(OHM_NET_LENET5, rasch, 3);
    both_memories(OHM_NET_LENET5, learned, 0);
    both_memories(OHM_NET_LENET5, learned, 2);
    both_memories(OHM_NET_LENET5, rows, 0);
    both_memories(OHM_NET_RESNET20, rasch, 0);
    both_memories(OHM_NET_RESNET20, rasch, 4);
}

static ohm_memory plan(int mode, int segments)
{
    static const char *const none[] = {NULL};
    static lab l;
    ohm_memory memory;
    describe(&l, OHM_NET_RESNET20, mode, none);
    l.config.train.recompute_segments = segments;
    const ohm_network_options options = {.max_batch = 128, .training = 1};
    OHM_OK_OR_FAIL(ohm_network_plan_memory(&memory, &l.architecture, &l.config, &options));
    return memory;
}

OHM_TEST(segments, the_plan_falls)
{
    for (int mode = 0; mode < OHM_MODES; mode++) {
        ohm_memory kept = plan(mode, 0), one = plan(mode, 1), again = plan(mode, 4);
        ck_assert_uint_eq(one.reserved, kept.reserved);
        ck_assert_msg(again.reserved < kept.reserved * 6 / 10, "mode %s: %zu of %zu bytes",
                      ohm_mode_name(mode), again.reserved, kept.reserved);
        if (mode == OHM_MODE_FULL)
            ck_assert_uint_lt(again.peak[OHM_MEMORY_SAVED], kept.peak[OHM_MEMORY_SAVED]);
    }
}

OHM_TEST(segments, more_than_can_be_cut_are_refused)
{
    static const char *const none[] = {NULL};
    static lab l;
    ohm_memory memory;
    describe(&l, OHM_NET_RESNET20, OHM_MODE_NOGRAD, none);
    l.config.train.recompute_segments = 64;
    ohm_network_options options = {.max_batch = 4, .training = 1};
    ck_assert_int_eq(ohm_network_plan_memory(&memory, &l.architecture, &l.config, &options),
                     OHM_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "resnet20 can be cut into at most 23, not 64"));
    options.training = 0; /* evaluation has no backward pass */
    OHM_OK_OR_FAIL(ohm_network_plan_memory(&memory, &l.architecture, &l.config, &options));
}

/* ---- micro-batches ------------------------------------------------------------------------- */

/* With ranges that do not hang on the batch: logits to the bit, gradients up to the order of sums. */
OHM_TEST_SLOW(segments, micro_batches_see_the_noise_of_the_batch)
{
    static const char *const fixed[] = {"hardware=rasch2023", "hardware.quantise.x_range=3",
                                        NULL};
    enum { BATCH = 12, CLASSES = 10 };
    static lab whole, parts;
    float logits[2][BATCH * CLASSES];
    for (int mode = 0; mode < OHM_MODES; mode++) {
        size_t count, other;
        describe(&whole, OHM_NET_LENET5, mode, fixed);
        describe(&parts, OHM_NET_LENET5, mode, fixed);
        whole.config.train.batch = parts.config.train.batch = BATCH;
        parts.config.train.micro_batch = 4;
        whole.lr = parts.lr = 0; /* one set of weights throughout */
        whole.logits = logits[0];
        parts.logits = logits[1];
        float *one = train(&whole, &count), *three = train(&parts, &other);
        ck_assert_uint_eq(count, other);
        if (mode == OHM_MODE_FULL || mode == OHM_MODE_NOGRAD) /* the others hold a float product */
            OHM_ASSERT(ohm_compare_bits(logits[1], logits[0], BATCH * CLASSES));
        OHM_ASSERT(ohm_compare_close(three, one, count, 1e-6, 1e-4));
        free(one);
        free(three);
    }
}

/* ---- workspaces ---------------------------------------------------------------------------- */

OHM_TEST(segments, workspaces_stay_within_their_bound)
{
    static const char *const none[] = {NULL};
    static lab l;
    for (int variant = 0; variant < OHM_VARIANTS; variant++) {
        describe(&l, OHM_NET_RESNET20, OHM_MODE_NOGRAD, none);
        ohm_variant_set(&l.config, variant);
        const ohm_network_options options = {.max_batch = 64, .training = 1};
        l.config.train.workspace_mib = 4;
        OHM_OK_OR_FAIL(ohm_network_create(&l.network, &l.architecture, &l.config, &options));
        for (int i = 0; i < l.network->count; i++) {
            const ohm_layer *layer = &l.network->layer[i];
            size_t bytes = (layer->forward_floats > layer->backward_floats
                                ? layer->forward_floats
                                : layer->backward_floats) *
                           sizeof(float);
            if (!ohm_layer_is_matrix(layer->desc.kind))
                continue;
            if (layer->noisy && l.config.train.mode != OHM_MODE_BASELINE)
                bytes += ohm_noisy_layer_scratch_bytes(l.network, layer);
            ck_assert_msg(bytes <= 4 << 20, "mode %s, %s: %zu bytes", ohm_variant_name(variant),
                          layer->desc.name, bytes);
        }
        ohm_network_destroy(l.network);
    }
}
