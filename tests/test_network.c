#include "host/network.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/network_internal.h"
#include "host/step.h"
#include "models/networks.h"
#include "tests/compare.h"
#include "tests/reference_network.h"
#include "tests/runner.h"

/* ---- helpers ------------------------------------------------------------------------------- */

static void fill_random(float *x, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)(seed >> 8 & 0xFFFF) / 32768.0f - 1.0f;
    }
}

/* Defaults; hardware NULL = no chip. */
static ohm_config config_of(int kind, int mode, const char *hardware)
{
    ohm_config config;
    OHM_OK_OR_FAIL(ohm_config_read(&config, NULL));
    config.network.kind = kind;
    config.train.mode = mode;
    config.hardware_enabled = hardware != NULL;
    if (hardware)
        OHM_OK_OR_FAIL(ohm_hardware_read(&config.hardware, hardware));
    return config;
}

static ohm_network *network_of(const ohm_architecture *a, const ohm_config *config, int max_batch,
                               int training)
{
    ohm_network *network;
    const ohm_network_options options = {
        .max_batch = max_batch, .training = training, .checked = 1, .every_mode = 1};
    OHM_OK_OR_FAIL(ohm_network_create(&network, a, config, &options));
    return network;
}

static size_t pixels_of(const ohm_architecture *a)
{
    return (size_t)a->height * (size_t)a->width * (size_t)a->channels;
}

/* Images first .. first + count - 1 of a fixed random set. */
static void load(ohm_network *network, int first, int count)
{
    const ohm_architecture *a = ohm_network_architecture(network);
    for (int i = 0; i < count; i++) {
        fill_random(ohm_network_images(network) + (size_t)i * pixels_of(a), pixels_of(a),
                    (uint32_t)(first + i) * 7919u);
        ohm_network_labels(network)[i] = (first + i) % a->classes;
    }
}

/* Forward, loss and backward over `batch` images in micro-batches; returns the summed loss. */
static double step(ohm_network *network, int mode, int batch, int micro)
{
    double sum = 0.0, loss;
    int correct;
    for (int first = 0; first < batch; first += micro) {
        ohm_pass pass = {.images = micro,
                         .first_image = (uint64_t)first,
                         .mode = mode,
                         .training = 1,
                         .moment = {.seed = 1, .step = 3}};
        load(network, first, micro);
        OHM_OK_OR_FAIL(ohm_network_forward(network, &pass));
        OHM_OK_OR_FAIL(ohm_network_loss(network, &pass, batch, &loss, &correct));
        OHM_OK_OR_FAIL(ohm_network_backward(network, &pass));
        sum += loss;
    }
    return sum;
}

static int append(ohm_architecture *a, ohm_layer_desc layer)
{
    snprintf(layer.name, sizeof layer.name, "layer%d", a->count);
    a->layer[a->count] = layer;
    return a->count++;
}

#define CONV(from, n, k, s, p, b)                                                                  \
    append(a, (ohm_layer_desc){.kind = OHM_LAYER_CONV,                                             \
                               .input = (from),                                                    \
                               .out = (n),                                                         \
                               .kernel = (k),                                                      \
                               .stride = (s),                                                      \
                               .pad = (p),                                                         \
                               .bias = (b)})
#define LINEAR(from, n)                                                                            \
    append(a, (ohm_layer_desc){.kind = OHM_LAYER_LINEAR, .input = (from), .out = (n), .bias = 1})
#define PLAIN(what, from) append(a, (ohm_layer_desc){.kind = OHM_LAYER_##what, .input = (from)})
#define POOLED(what, from, k, s)                                                                   \
    append(a, (ohm_layer_desc){                                                                    \
                  .kind = OHM_LAYER_##what, .input = (from), .kernel = (k), .stride = (s)})
#define ADDED(from, second)                                                                        \
    append(a, (ohm_layer_desc){.kind = OHM_LAYER_ADD, .input = (from), .other = (second)})

/* Every kind of layer, both kinds of shortcut, a value with three readers, a ReLU of a ReLU. */
static void build_tiny(ohm_architecture *a)
{
    *a = (ohm_architecture){.name = "tiny", .height = 6, .width = 6, .channels = 2, .classes = 3};
    int stem = PLAIN(RELU, PLAIN(BATCH_NORM, CONV(-1, 4, 3, 1, 1, 1)));
    int at = PLAIN(RELU, PLAIN(BATCH_NORM, CONV(stem, 6, 3, 2, 1, 0)));
    at = PLAIN(BATCH_NORM, CONV(at, 6, 3, 1, 1, 0));
    int down = PLAIN(BATCH_NORM, CONV(stem, 6, 1, 2, 0, 0));
    int block = PLAIN(RELU, ADDED(at, down));
    at = PLAIN(BATCH_NORM, CONV(block, 6, 3, 1, 1, 0));
    at = PLAIN(RELU, ADDED(at, block));
    at = ADDED(PLAIN(BATCH_NORM, block), at);
    at = ADDED(POOLED(MAX_POOL, at, 2, 1), POOLED(AVG_POOL, at, 2, 1));
    at = PLAIN(GLOBAL_AVG_POOL, PLAIN(RELU, PLAIN(RELU, at)));
    LINEAR(PLAIN(RELU, LINEAR(at, 7)), 3);
}

/* ---- against the double reference ---------------------------------------------------------- */

static ohm_reference_network reference_of(ohm_network *network, int images)
{
    ohm_reference_network r = {.architecture = ohm_network_architecture(network),
                               .images = ohm_network_images(network),
                               .labels = ohm_network_labels(network),
                               .count = images,
                               .smoothing = 0.1,
                               .training = 1};
    r.parameter = ohm_network_parameters(network, &r.parameters);
    r.value = calloc((size_t)r.parameters, sizeof *r.value);
    ck_assert_ptr_nonnull(r.value);
    for (int i = 0; i < r.parameters; i++) {
        r.value[i] = calloc(r.parameter[i].count, sizeof **r.value);
        ck_assert_ptr_nonnull(r.value[i]);
        for (size_t j = 0; j < r.parameter[i].count; j++)
            r.value[i][j] = r.parameter[i].value[j];
    }
    return r;
}

static void free_reference(ohm_reference_network *r)
{
    for (int i = 0; i < r->parameters; i++)
        free(r->value[i]);
    free(r->value);
}

/* Norms and biases away from their starts, where mistakes would cancel. */
static void disturb(ohm_network *network)
{
    int count;
    ohm_parameter *p = ohm_network_parameters(network, &count);
    for (int i = 0; i < count; i++)
        for (size_t j = 0; j < p[i].count && p[i].rank == 1 && p[i].trainable; j++)
            p[i].value[j] += 0.3f * sinf((float)(i + 3 * (int)j));
}

static void check_gradient(const ohm_reference_network *r, int i, size_t every)
{
    const ohm_parameter *p = &r->parameter[i];
    for (size_t j = (size_t)i % every; j < p->count && p->gradient; j += every) {
        double start = r->value[i][j], side[2];
        for (int s = 0; s < 2; s++) {
            r->value[i][j] = start + (s ? 1e-5 : -1e-5);
            side[s] = ohm_reference_loss(r, NULL);
        }
        r->value[i][j] = start;
        double slope = (side[1] - side[0]) / 2e-5;
        ck_assert_msg(fabs(p->gradient[j] - slope) <= 2e-5 + 1e-3 * fabs(slope),
                      "%s[%zu]: gradient %.8g, difference quotient %.8g", p->name, j,
                      (double)p->gradient[j], slope);
    }
}

OHM_TEST(network, gradients_of_every_layer)
{
    static ohm_architecture a;
    build_tiny(&a);
    ohm_config config = config_of(0, OHM_MODE_BASELINE, NULL);
    config.train.label_smoothing = 0.1;
    ohm_network *network = network_of(&a, &config, 5, 1);
    disturb(network);
    load(network, 0, 3);
    ohm_reference_network r = reference_of(network, 3);
    double logits[9], loss = step(network, OHM_MODE_BASELINE, 3, 3);
    ck_assert_double_eq_tol(loss / 3.0, ohm_reference_loss(&r, logits), 1e-5);
    OHM_ASSERT(ohm_compare_close(ohm_network_logits(network), logits, 9, 1e-5, 1e-4));
    for (int i = 0; i < r.parameters; i++)
        check_gradient(&r, i, r.parameter[i].count > 20 ? 7 : 1);
    free_reference(&r);
    ohm_network_destroy(network);
}

/* Each thread has workspace of its own, so more of them than planned would write over each other's. */
OHM_TEST(network, more_threads_than_planned_are_refused)
{
    static ohm_architecture a;
    const ohm_pass pass = {.images = 1};
    build_tiny(&a);
    ohm_config config = config_of(0, OHM_MODE_BASELINE, NULL);
    omp_set_num_threads(1);
    ohm_network *network = network_of(&a, &config, 1, 0);
    load(network, 0, 1);
    omp_set_num_threads(2);
    ck_assert_int_eq(ohm_network_forward(network, &pass), OHM_ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "2 threads on a network planned for 1"));
    omp_set_num_threads(1);
    OHM_OK_OR_FAIL(ohm_network_forward(network, &pass));
    ohm_network_destroy(network);
}

OHM_TEST(network, evaluation_uses_running_statistics)
{
    static ohm_architecture a;
    build_tiny(&a);
    ohm_config config = config_of(0, OHM_MODE_BASELINE, NULL);
    for (int training = 0; training < 2; training++) { /* both plans can evaluate */
        ohm_network *network = network_of(&a, &config, 4, training);
        ohm_pass pass = {.images = 3};
        disturb(network);
        load(network, 0, 3);
        ohm_reference_network r = reference_of(network, 3);
        r.training = 0;
        double logits[9];
        ohm_reference_loss(&r, logits);
        for (int again = 0; again < 2; again++) {
            OHM_OK_OR_FAIL(ohm_network_forward(network, &pass));
            OHM_ASSERT(ohm_compare_close(ohm_network_logits(network), logits, 9, 1e-5, 1e-4));
        }
        free_reference(&r);
        ohm_network_destroy(network);
    }
}

/* ---- threads, micro-batches ---------------------------------------------------------------- */

static size_t parameter_floats(ohm_network *network)
{
    int count;
    size_t sum = 0;
    const ohm_parameter *p = ohm_network_parameters(network, &count);
    for (int i = 0; i < count; i++)
        sum += p[i].count;
    return sum;
}

/* All values, or all gradients, one behind the other; free() it. */
static float *gather(ohm_network *network, int gradients)
{
    int count;
    const ohm_parameter *p = ohm_network_parameters(network, &count);
    float *all = calloc(parameter_floats(network) + 1, sizeof *all), *to = all;
    ck_assert_ptr_nonnull(all);
    for (int i = 0; i < count; to += p[i].count, i++)
        if (!gradients || p[i].gradient)
            memcpy(to, gradients ? p[i].gradient : p[i].value, p[i].count * sizeof *to);
    return all;
}

static float *train(const ohm_architecture *a, const ohm_config *config, int threads, int batch)
{
    omp_set_num_threads(threads);
    ohm_network *network = network_of(a, config, batch, 1);
    for (int i = 0; i < 3; i++) {
        ohm_network_zero_gradients(network);
        step(network, config->train.mode, batch, batch);
        OHM_OK_OR_FAIL(ohm_network_update(network, 0.01, i));
    }
    float *all = gather(network, 0);
    ohm_network_destroy(network);
    return all;
}

static void check_threads(const ohm_architecture *a, const ohm_config *config, int batch)
{
    ohm_network *network = network_of(a, config, batch, 1);
    size_t count = parameter_floats(network);
    ohm_network_destroy(network);
    float *one = train(a, config, 1, batch), *two = train(a, config, 2, batch);
    OHM_ASSERT(ohm_compare_bits(two, one, count));
    free(one);
    free(two);
}

OHM_TEST(network, one_and_two_threads_train_to_the_same_bits)
{
    static ohm_architecture a;
    for (int optimiser = OHM_OPTIMISER_SGD; optimiser <= OHM_OPTIMISER_ADAMW; optimiser++) {
        ohm_config config = config_of(OHM_NET_LENET5, OHM_MODE_BASELINE, NULL);
        config.train.optimiser = optimiser;
        config.train.clip_norm = 0.5;
        config.train.weight_decay = 0.01;
        OHM_OK_OR_FAIL(ohm_model_build(&a, &config, 32, 32, 1, 10));
        check_threads(&a, &config, 16);
    }
    build_tiny(&a);
    ohm_config config = config_of(0, OHM_MODE_BASELINE, NULL);
    check_threads(&a, &config, 33);
}

OHM_TEST(network, micro_batches_add_up)
{
    static ohm_architecture a;
    ohm_config config = config_of(OHM_NET_LENET5, OHM_MODE_BASELINE, NULL);
    OHM_OK_OR_FAIL(ohm_model_build(&a, &config, 32, 32, 1, 10));
    ohm_network *network = network_of(&a, &config, 64, 1);
    double whole = step(network, OHM_MODE_BASELINE, 64, 64);
    float *one = gather(network, 1);
    ohm_network_zero_gradients(network);
    double parts = step(network, OHM_MODE_BASELINE, 64, 16);
    float *four = gather(network, 1);
    ck_assert_double_eq_tol(whole, parts, 1e-5 * whole);
    OHM_ASSERT(ohm_compare_close(four, one, parameter_floats(network), 1e-6, 1e-3));
    free(one);
    free(four);
    ohm_network_destroy(network);
}

OHM_TEST(network, clipping_limits_the_norm)
{
    static ohm_architecture a;
    ohm_config config = config_of(OHM_NET_MLP, OHM_MODE_BASELINE, NULL);
    config.train.clip_norm = 0.01;
    config.train.momentum = 0.0;
    OHM_OK_OR_FAIL(ohm_model_build(&a, &config, 8, 8, 1, 10));
    ohm_network *network = network_of(&a, &config, 8, 1);
    size_t count = parameter_floats(network);
    float *before = gather(network, 0);
    step(network, OHM_MODE_BASELINE, 8, 8);
    OHM_OK_OR_FAIL(ohm_network_update(network, 1.0, 0));
    float *after = gather(network, 0);
    double sum = 0.0;
    for (size_t i = 0; i < count; i++)
        sum += ((double)after[i] - before[i]) * ((double)after[i] - before[i]);
    ck_assert_double_eq_tol(sqrt(sum), 0.01, 1e-5);
    free(before);
    free(after);
    ohm_network_destroy(network);
}

/* ---- on the chip --------------------------------------------------------------------------- */

/* A clean layer, then a noisy one with the learned extras, so that dx, dw, db and they all show. */
static void build_pair(ohm_architecture *a, int convolution)
{
    *a = (ohm_architecture){.name = "pair", .height = 8, .width = 8, .channels = 2, .classes = 5};
    int at = PLAIN(RELU, CONV(-1, 6, 3, 1, 1, 1));
    if (convolution) {
        at = CONV(at, 5, 3, 2, 1, 1);
        a->layer[at].noisy = 1;
        PLAIN(GLOBAL_AVG_POOL, at);
        return;
    }
    a->layer[LINEAR(at, 5)].noisy = 1;
}

/* Gradients after a forward pass in `mode`, the gradient of the logits being given. */
static float *gradients_for(const ohm_architecture *a, const ohm_config *config, int mode,
                            size_t *count)
{
    ohm_network *network = network_of(a, config, 20, 1);
    ohm_pass pass = {.images = 19, .mode = mode, .training = 1, .moment = {.seed = 5, .step = 2}};
    double loss;
    int correct;
    load(network, 0, 19);
    OHM_OK_OR_FAIL(ohm_network_forward(network, &pass));
    OHM_OK_OR_FAIL(ohm_network_loss(network, &pass, 19, &loss, &correct));
    fill_random(ohm_network_gradient(network, a->count - 1), 19 * 5, 99);
    OHM_OK_OR_FAIL(ohm_network_backward(network, &pass));
    float *all = gather(network, 1);
    *count = parameter_floats(network);
    ohm_network_destroy(network);
    return all;
}

OHM_TEST(network, straight_through_gradients_are_the_clean_ones)
{
    static ohm_architecture a;
    for (int convolution = 0; convolution < 2; convolution++) {
        build_pair(&a, convolution);
        ohm_config config = config_of(0, OHM_MODE_NOGRAD, "lognormal");
        size_t count, again;
        float *clean = gradients_for(&a, &config, OHM_MODE_BASELINE, &count);
        float *nograd = gradients_for(&a, &config, OHM_MODE_NOGRAD, &again);
        config.train.mode = OHM_MODE_DETACH;
        float *detach = gradients_for(&a, &config, OHM_MODE_DETACH, &again);
        OHM_ASSERT(ohm_compare_bits(nograd, clean, count));
        OHM_ASSERT(ohm_compare_bits(detach, clean, count));
        free(clean);
        free(nograd);
        free(detach);
    }
}

static float *logits_of(ohm_network *network, const ohm_architecture *a, int mode, int batch,
                        int micro)
{
    float *all = calloc((size_t)(batch * a->classes), sizeof *all);
    ck_assert_ptr_nonnull(all);
    for (int first = 0; first < batch; first += micro) {
        ohm_pass pass = {.images = micro,
                         .first_image = (uint64_t)first,
                         .mode = mode,
                         .moment = {.seed = 5, .chip = 2, .evaluation = 1}};
        load(network, first, micro);
        OHM_OK_OR_FAIL(ohm_network_forward(network, &pass));
        memcpy(all + first * a->classes, ohm_network_logits(network),
               (size_t)(micro * a->classes) * sizeof *all);
    }
    return all;
}

static double mean_distance(const float *a, const float *b, int count)
{
    double sum = 0.0;
    for (int i = 0; i < count; i++)
        sum += fabs((double)a[i] - b[i]) / count;
    return sum;
}

OHM_TEST(network, noise_does_not_depend_on_the_batch_split)
{
    static ohm_architecture a;
    for (int convolution = 0; convolution < 2; convolution++) {
        build_pair(&a, convolution);
        ohm_config config = config_of(0, OHM_MODE_NOGRAD, "lognormal");
        config.hardware.quantise.x_range = (ohm_mode){OHM_RANGE_NUMBER, 2.0};
        config.hardware.adc.bits = 0; /* no thresholds: float error stays float error */
        config.hardware.read.model = OHM_READ_CONSTANT;
        config.hardware.read.sigma = 0.05;
        ohm_network *network = network_of(&a, &config, 64, 0);
        float *one = logits_of(network, &a, OHM_MODE_NOGRAD, 64, 64);
        float *four = logits_of(network, &a, OHM_MODE_NOGRAD, 64, 16);
        float *clean = logits_of(network, &a, OHM_MODE_BASELINE, 64, 64);
        OHM_ASSERT(ohm_compare_close(four, one, (size_t)(64 * a.classes), 1e-5, 1e-4));
        ck_assert_double_gt(mean_distance(one, clean, 64 * a.classes), 1e-3);
        free(one);
        free(four);
        free(clean);
        ohm_network_destroy(network);
    }
}

OHM_TEST(network, chunks_change_neither_output_nor_full_gradient)
{
    static ohm_architecture a;
    build_pair(&a, 1);
    ohm_config config = config_of(0, OHM_MODE_FULL, "lognormal");
    size_t count, again;
    float *whole = gradients_for(&a, &config, OHM_MODE_FULL, &count);
    ohm_network *network = network_of(&a, &config, 20, 1);
    int rows = network->layer[2].chunk_rows;
    ohm_network_destroy(network);
    /* the same batch through a plan whose chunks are smaller: more columns of scratch per row */
    config.train.workspace_mib = 0;
    float *cut = gradients_for(&a, &config, OHM_MODE_FULL, &again);
    ck_assert_int_gt(rows, 16);
    OHM_ASSERT(ohm_compare_close(cut, whole, count, 1e-5, 1e-3));
    free(whole);
    free(cut);
}

OHM_TEST(network, modes_agree_on_the_value)
{
    static ohm_architecture a;
    build_pair(&a, 1);
    float *logits[3];
    const int mode[3] = {OHM_MODE_NOGRAD, OHM_MODE_DETACH, OHM_MODE_FULL};
    for (int i = 0; i < 3; i++) {
        ohm_config config = config_of(0, mode[i], "lognormal");
        ohm_network *network = network_of(&a, &config, 20, 1);
        ohm_pass pass = {.images = 20, .mode = mode[i], .training = 1, .moment = {.seed = 5}};
        load(network, 0, 20);
        OHM_OK_OR_FAIL(ohm_network_forward(network, &pass));
        logits[i] = calloc(100, sizeof **logits);
        ck_assert_ptr_nonnull(logits[i]);
        memcpy(logits[i], ohm_network_logits(network), 100 * sizeof **logits);
        ohm_network_destroy(network);
    }
    OHM_ASSERT(ohm_compare_close(logits[1], logits[0], 100, 1e-5, 1e-5));
    OHM_ASSERT(ohm_compare_close(logits[2], logits[0], 100, 1e-5, 1e-5));
    for (int i = 0; i < 3; i++)
        free(logits[i]);
}

OHM_TEST(network, noisy_threads_train_to_the_same_bits)
{
    static ohm_architecture a;
    build_tiny(&a);
    for (int i = 0; i < a.count; i++)
        a.layer[i].noisy = 1;
    for (int mode = OHM_MODE_FULL; mode <= OHM_MODE_NOGRAD; mode++) {
        ohm_config config = config_of(0, mode, "lognormal");
        check_threads(&a, &config, 9);
    }
    ohm_config config = config_of(0, OHM_MODE_FULL, "lognormal");
    config.hardware.ir_drop.model = OHM_IR_EXACT;
    config.hardware.tile.rows = config.hardware.tile.cols = 16;
    check_threads(&a, &config, 9);
}

/* Range and output scale that are learned: central differences of the clean value where the
 * straight-through rule is the true derivative. */
OHM_TEST(network, learned_scale_and_range)
{
    static ohm_architecture a;
    build_pair(&a, 1);
    ohm_config config = config_of(0, OHM_MODE_NOGRAD, "ideal");
    config.hardware.output.per_column_scale = 1;
    config.hardware.quantise.x_range = (ohm_mode){OHM_RANGE_LEARNED, 0.0};
    ohm_network *network = network_of(&a, &config, 20, 1);
    const ohm_layer *layer = &network->layer[2];
    ohm_parameter *range = ohm_layer_parameter(network, layer, OHM_ROLE_X_RANGE);
    ohm_parameter *scale = ohm_layer_parameter(network, layer, OHM_ROLE_COLUMN_SCALE);
    ck_assert_str_eq(range->name, "layer2.x_range");
    ck_assert_str_eq(scale->name, "layer2.column_scale");
    disturb(network);
    load(network, 0, 20);
    ohm_reference_network r = reference_of(network, 20);
    r.smoothing = 0.0;
    step(network, OHM_MODE_BASELINE, 20, 20);
    for (int i = 0; i < r.parameters; i++)
        if (&r.parameter[i] != range)
            check_gradient(&r, i, r.parameter[i].count > 20 ? 7 : 1);
    ck_assert_float_eq(range->gradient[0], 0.0f); /* without a chip nothing is clipped */
    range->value[0] = 0.5f;
    step(network, OHM_MODE_NOGRAD, 20, 20);
    ck_assert_float_ne(range->gradient[0], 0.0f);
    free_reference(&r);
    ohm_network_destroy(network);
}

/* ---- memory -------------------------------------------------------------------------------- */

static ohm_memory plan(int kind, int mode, int batch, const char *hardware)
{
    static ohm_architecture a;
    ohm_config config = config_of(kind, mode, hardware);
    OHM_OK_OR_FAIL(ohm_model_build(&a, &config, 32, 32, 3, 10));
    ohm_memory memory;
    const ohm_network_options options = {.max_batch = batch, .training = 1};
    OHM_OK_OR_FAIL(ohm_network_plan_memory(&memory, &a, &config, &options));
    return memory;
}

static void check_modes(const char *hardware)
{
    ohm_memory memory[4]; /* by ohm_gradient_mode */
    for (int mode = 0; mode < 4; mode++) {
        memory[mode] = plan(OHM_NET_RESNET20, mode, 128, hardware);
        size_t peak = memory[mode].peak_total;
        ck_assert_uint_le(memory[mode].reserved, peak + peak / 20);
        int saves = mode == OHM_MODE_FULL;
        ck_assert_int_eq(memory[mode].peak[OHM_MEMORY_SAVED] > 0, saves);
    }
    size_t baseline = memory[OHM_MODE_BASELINE].peak_total;
    ck_assert_msg(memory[OHM_MODE_NOGRAD].peak_total <= baseline + baseline / 10,
                  "%s: nograd %zu bytes, baseline %zu", hardware,
                  memory[OHM_MODE_NOGRAD].peak_total, baseline);
    ck_assert_uint_gt(memory[OHM_MODE_DETACH].peak_total, memory[OHM_MODE_NOGRAD].peak_total);
    ck_assert_uint_gt(memory[OHM_MODE_FULL].peak_total, memory[OHM_MODE_DETACH].peak_total);
}

OHM_TEST(network, memory_of_the_four_modes)
{
    check_modes("lognormal");
    check_modes("rasch2023");
    check_modes("isaac");
}

/* Saved activations of ResNet-20: the images, each convolution's output (for its batch norm), each
 * block's ReLUs; no patch matrix (which alone would be 9 times as much). */
OHM_TEST(network, baseline_saves_each_input_once)
{
    ohm_memory memory = plan(OHM_NET_RESNET20, OHM_MODE_BASELINE, 1, NULL);
    size_t stage[3] = {32 * 32 * 16, 16 * 16 * 32, 8 * 8 * 64}, floats = 32 * 32 * 3;
    for (int i = 0; i < 3;
         i++) /* 6 convolutions and ReLUs; the stem in one, a shortcut in the others */
        floats += 12 * stage[i] + (i == 0 ? 2 : 1) * stage[i];
    for (int i = 1; i < 3;
         i++) /* the sum of a shortcut lies in its batch norm's buffer until added */
        floats += stage[i];
    ck_assert_uint_le(memory.peak[OHM_MEMORY_ACTIVATIONS], (floats + 8192) * sizeof(float));
    ck_assert_uint_ge(memory.peak[OHM_MEMORY_ACTIVATIONS], (floats - 4 * stage[2]) * sizeof(float));
}

/* ---- what is refused ----------------------------------------------------------------------- */

OHM_TEST(network, wrong_passes_are_refused)
{
    static ohm_architecture a;
    build_pair(&a, 0);
    ohm_config config = config_of(0, OHM_MODE_BASELINE, "lognormal");
    ohm_network *network = network_of(&a, &config, 4, 1),
                *evaluation = network_of(&a, &config, 4, 0);
    ohm_pass pass = {.images = 5, .training = 1};
    double loss;
    int correct;
    ck_assert_int_eq(ohm_network_forward(network, &pass), OHM_ERR_ARGUMENT);
    pass.images = 4;
    load(network, 0, 4);
    OHM_OK_OR_FAIL(ohm_network_forward(network, &pass));
    ck_assert_int_eq(ohm_network_loss(network, &pass, 3, &loss, &correct), OHM_ERR_ARGUMENT);
    ohm_network_labels(network)[2] = 5;
    ck_assert_int_eq(ohm_network_loss(network, &pass, 4, &loss, &correct), OHM_ERR_DATA);
    ck_assert_int_eq(ohm_network_forward(evaluation, &pass), OHM_ERR_ARGUMENT);
    ck_assert_int_eq(ohm_network_update(evaluation, 0.1, 0), OHM_ERR_ARGUMENT);
    pass.mode = OHM_MODE_NOGRAD;
    ck_assert_int_eq(ohm_network_forward(network, &pass), OHM_ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "training = 0"));
    pass.training = 0;
    ck_assert_int_eq(ohm_network_backward(network, &pass), OHM_ERR_ARGUMENT);
    load(evaluation, 0, 4);
    OHM_OK_OR_FAIL(ohm_network_forward(evaluation, &pass));
    ohm_network_destroy(network);
    ohm_network_destroy(evaluation);
    ohm_network_destroy(NULL);
}

static void check_refused(const ohm_architecture *a, const char *text)
{
    ohm_config config = config_of(0, OHM_MODE_BASELINE, NULL);
    const ohm_network_options options = {.max_batch = 4, .training = 1};
    ohm_network *network = NULL;
    ck_assert_int_eq(ohm_network_create(&network, a, &config, &options), OHM_ERR_ARGUMENT);
    ck_assert_msg(strstr(ohm_error_text(), text), "'%s' lacks '%s'", ohm_error_text(), text);
    ck_assert_ptr_null(network);
}

OHM_TEST(network, wrong_architectures_are_refused)
{
    static ohm_architecture good, bad;
    build_tiny(&good);
    bad = good;
    bad.classes = 4;
    check_refused(&bad, "classes");
    bad = good;
    bad.layer[3].input = 3;
    check_refused(&bad, "not an earlier layer");
    bad = good;
    bad.layer[0].kernel = 9;
    check_refused(&bad, "do not fit");
    bad = good;
    bad.layer[0].out = 0;
    check_refused(&bad, "at least 1");
    bad = good;
    bad.layer[10].other = 2;
    check_refused(&bad, "one shape");
    bad = good;
    bad.count = 0;
    check_refused(&bad, "layers");
    bad = good;
    bad.layer[4].kind = 77;
    check_refused(&bad, "unknown");
}

OHM_TEST(network, a_device_that_is_not_built_is_refused)
{
    static ohm_architecture a;
    build_pair(&a, 0);
    ohm_config config = config_of(0, OHM_MODE_FULL, "lognormal");
    const ohm_network_options options = {.max_batch = 4, .training = 1};
    ohm_network *network;
    config.device.kind = OHM_DEVICE_CUDA;
    config.train.full = OHM_FULL_SAVE; /* which those that are built refuse */
    ck_assert_int_eq(ohm_network_create(&network, &a, &config, &options), OHM_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "device"));
}

OHM_TEST(network, a_plan_beyond_the_machine_is_refused)
{
    static ohm_architecture a;
    ohm_config config = config_of(OHM_NET_RESNET18, OHM_MODE_BASELINE, NULL);
    OHM_OK_OR_FAIL(ohm_model_build(&a, &config, 32, 32, 3, 10));
    const ohm_network_options options = {.max_batch = 1000000, .training = 1};
    ohm_network *network;
    ck_assert_int_eq(ohm_network_create(&network, &a, &config, &options), OHM_ERR_MEMORY);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "activations"));
}

/* ---- models -------------------------------------------------------------------------------- */

OHM_TEST(network, models_have_their_published_sizes)
{
    static ohm_architecture a;
    const struct {
        int kind, channels;
        size_t trainable;
    } models[] = {
        {OHM_NET_LENET5, 1, 61706},
        {OHM_NET_VGG11, 3, 9217728 + 5504 + 5130}, /* 3x3 weights, batch norms, classifier */
        {OHM_NET_RESNET20, 3, 272474},
        {OHM_NET_RESNET18, 3, 11173962},
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        ohm_config config = config_of(models[i].kind, OHM_MODE_BASELINE, NULL);
        OHM_OK_OR_FAIL(ohm_model_build(&a, &config, 32, 32, models[i].channels, 10));
        ohm_network *network = network_of(&a, &config, 1, 0);
        int count;
        size_t sum = 0;
        const ohm_parameter *p = ohm_network_parameters(network, &count);
        for (int j = 0; j < count; j++)
            sum += p[j].trainable ? p[j].count : 0;
        ck_assert_msg(sum == models[i].trainable, "%s has %zu parameters", a.name, sum);
        ohm_network_destroy(network);
    }
}

OHM_TEST(network, experiments_build_their_networks)
{
    static const struct {
        const char *path;
        int side, channels;
    } experiments[] = {
        {"models/digits_mlp.yaml", 8, 1},      {"models/digits_lenet.yaml", 32, 1},
        {"models/cifar_vgg8.yaml", 32, 3},     {"models/cifar_vgg11.yaml", 32, 3},
        {"models/cifar_resnet20.yaml", 32, 3}, {"models/cifar_resnet18.yaml", 32, 3},
    };
    static ohm_architecture a;
    for (size_t i = 0; i < sizeof experiments / sizeof *experiments; i++) {
        ohm_config config;
        OHM_OK_OR_FAIL(ohm_config_read(&config, experiments[i].path));
        int side = experiments[i].side;
        OHM_OK_OR_FAIL(ohm_model_build(&a, &config, side, side, experiments[i].channels, 10));
        ohm_memory memory;
        const ohm_network_options options = {.max_batch = ohm_step_images(&config), .training = 1};
        OHM_OK_OR_FAIL(ohm_network_plan_memory(&memory, &a, &config, &options));
        ck_assert_uint_gt(memory.peak_total, 0);
    }
}

OHM_TEST(network, first_and_last_layer_may_stay_digital)
{
    static ohm_architecture a;
    ohm_config config = config_of(OHM_NET_LENET5, OHM_MODE_NOGRAD, NULL);
    config.train.noisy_first = config.train.noisy_last = 0;
    OHM_OK_OR_FAIL(ohm_model_build(&a, &config, 32, 32, 1, 10));
    int noisy = 0;
    for (int i = 0; i < a.count; i++)
        noisy += a.layer[i].noisy;
    ck_assert_int_eq(noisy, 3);
    ck_assert_int_eq(a.layer[0].noisy, 0);
    ck_assert_int_eq(a.layer[a.count - 1].noisy, 0);
    ck_assert_int_eq(ohm_model_build(&a, &config, 8, 8, 1, 10), OHM_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "data.image_size"));
}

OHM_TEST(network, starts_are_he_normal)
{
    static ohm_architecture a;
    ohm_config config = config_of(OHM_NET_LENET5, OHM_MODE_BASELINE, NULL);
    OHM_OK_OR_FAIL(ohm_model_build(&a, &config, 32, 32, 1, 10));
    ohm_network *network = network_of(&a, &config, 1, 0);
    int count;
    const ohm_parameter *p = ohm_network_parameters(network, &count);
    for (int i = 0; i < count; i++)
        if (strcmp(p[i].name, "fc1.weight") == 0) /* 120 x 400 */
            OHM_ASSERT(
                ohm_compare_normal(p[i].value, p[i].count, 0.0, sqrt(2.0 / 400.0), OHM_ALPHA));
        else if (strcmp(p[i].name, "fc1.bias") == 0)
            OHM_ASSERT(ohm_compare_zero(p[i].value, p[i].count));
    ohm_network_destroy(network);
}

OHM_TEST(network, parameters_are_copied)
{
    static ohm_architecture a, other;
    build_pair(&a, 1);
    build_pair(&other, 0);
    ohm_config config = config_of(0, OHM_MODE_NOGRAD, "lognormal");
    ohm_network *from = network_of(&a, &config, 4, 1), *wrong = network_of(&other, &config, 4, 0);
    config.seed = 77;
    ohm_network *to = network_of(&a, &config, 4, 0);
    OHM_OK_OR_FAIL(ohm_network_copy_parameters(to, from));
    float *one = gather(from, 0), *two = gather(to, 0);
    OHM_ASSERT(ohm_compare_bits(two, one, parameter_floats(from)));
    ck_assert_int_eq(ohm_network_copy_parameters(wrong, from), OHM_ERR_ARGUMENT);
    free(one);
    free(two);
    ohm_network_destroy(from);
    ohm_network_destroy(to);
    ohm_network_destroy(wrong);
}
