/* Clean networks on a device: the host executor in `tests`, device 0 in `tests-cuda`. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "datasets/datasets.h"
#include "host/checkpoint.h"
#include "host/file.h"
#include "host/plan.h"
#include "host/step.h"
#include "host/trainer.h"
#include "models/networks.h"
#include "tests/compare.h"
#include "tests/executor/executor.h"
#include "tests/parity.h"
#include "tests/runner.h"

#define NEEDS_DEVICE()                                                                             \
    do                                                                                             \
        if (parity_absent())                                                                       \
            OHM_SKIP("%s", parity_absent());                                                       \
    while (0)

static void fill_random(void *context, int first, int images, int64_t step)
{
    ohm_network *network = context;
    const ohm_architecture *a = ohm_network_architecture(network);
    float *x = ohm_network_images(network);
    int32_t *label = ohm_network_labels(network);
    size_t pixels = (size_t)(a->height * a->width * a->channels);
    for (int i = 0; i < images; i++) {
        uint32_t state = (uint32_t)(100 * step + first + i) * 7919u + 1;
        for (size_t j = 0; j < pixels; j++) {
            state = state * 1664525u + 1013904223u;
            x[(size_t)i * pixels + j] = (float)(int32_t)(state >> 8 & 0xFFFF) / 32768.0f - 1.0f;
        }
        label[i] = (first + i) % a->classes;
    }
}

typedef struct {
    ohm_config config;
    ohm_architecture architecture;
    ohm_network *network;
} model;

/* kind with images of size x size x channels, on `device`. */
static model *model_of(int kind, int size, int channels, const char *device, const char *const *set,
                       int checked)
{
    model *m = calloc(1, sizeof *m);
    char text[32];
    ck_assert_ptr_nonnull(m);
    OHM_OK_OR_FAIL(ohm_config_read(&m->config, NULL));
    m->config.network.kind = kind;
    m->config.train.mode = OHM_MODE_BASELINE;
    m->config.train.batch = 4;
    m->config.train.lr = 0.05;
    m->config.hardware_enabled = 0;
    snprintf(text, sizeof text, "device=%s", device);
    OHM_OK_OR_FAIL(ohm_config_set(&m->config, text));
    for (; set && *set; set++)
        OHM_OK_OR_FAIL(ohm_config_set(&m->config, *set));
    OHM_OK_OR_FAIL(ohm_config_check(&m->config));
    OHM_OK_OR_FAIL(ohm_model_build(&m->architecture, &m->config, size, size, channels, 10));
    const ohm_network_options options = {
        .max_batch = ohm_step_images(&m->config), .training = 1, .checked = checked};
    OHM_OK_OR_FAIL(ohm_network_create(&m->network, &m->architecture, &m->config, &options));
    return m;
}

static void drop(model *m)
{
    ohm_network_destroy(m->network);
    free(m);
}

static ohm_status step_of(model *m, int64_t step, double *loss, int *correct)
{
    const ohm_step s = {
        .network = m->network, .config = &m->config, .fill = fill_random, .context = m->network};
    return ohm_step_run(&s, step, 0.05 / (double)(step + 1), loss, correct);
}

/* Parameter number i, or one of its moments, on the host. */
static float *read_part(const model *m, int i, int kind, size_t *count)
{
    int parameters;
    const ohm_parameter *p = ohm_network_parameters(m->network, &parameters);
    const float *from = i >= parameters ? NULL : kind ? p[i].moment1 : p[i].value;
    *count = i < parameters ? p[i].count : 0;
    if (i >= parameters || !from)
        return NULL;
    float *host = malloc(p[i].count * sizeof *host + 1);
    ck_assert_ptr_nonnull(host);
    OHM_OK_OR_FAIL(ohm_network_read(m->network, host, from, p[i].count));
    return host;
}

/* Every parameter and moment: to the bit, or within atol. */
static void compare(const model *a, const model *b, double atol)
{
    int parameters;
    ohm_network_parameters(a->network, &parameters);
    ck_assert_int_gt(parameters, 0);
    for (int i = 0; i < 2 * parameters; i++) {
        size_t count;
        float *x = read_part(a, i / 2, i % 2, &count), *y = read_part(b, i / 2, i % 2, &count);
        ck_assert_int_eq(x != NULL, y != NULL);
        for (size_t j = 0; x && j < count && atol > 0.0; j++)
            ck_assert_msg(fabs((double)x[j] - (double)y[j]) <= atol,
                          "parameter %d, part %d [%zu]: %.9g and %.9g", i / 2, i % 2, j,
                          (double)x[j], (double)y[j]);
        if (x && atol == 0.0)
            OHM_ASSERT(ohm_compare_bits(x, y, count));
        free(x);
        free(y);
    }
}

/* ---- training ------------------------------------------------------------------------------ */

/* The products' sums have other orders, and float noise grows with the steps. */
static void train_both(int kind, int size, int channels, const char *const *set, int steps,
                       double atol)
{
    model *cpu = model_of(kind, size, channels, "cpu", set, 0),
          *cuda = model_of(kind, size, channels, "cuda", set, 0);
    ck_assert_str_eq(ohm_network_device(cuda->network), "cuda");
    for (int i = 0; i < steps; i++) {
        double loss[2];
        int correct[2];
        OHM_OK_OR_FAIL(step_of(cpu, i, &loss[0], &correct[0]));
        OHM_OK_OR_FAIL(step_of(cuda, i, &loss[1], &correct[1]));
        ck_assert_msg(fabs(loss[0] - loss[1]) <= 1e-4 * loss[0],
                      "step %d: loss %.9g on the CPU, %.9g on the device", i, loss[0], loss[1]);
        ck_assert_int_eq(correct[0], correct[1]);
    }
    compare(cpu, cuda, atol);
    drop(cpu);
    drop(cuda);
}

OHM_TEST(backend_cuda, lenet_trains_as_on_the_cpu)
{
    static const char *const set[] = {"train.momentum=0.9", "train.weight_decay=1e-3",
                                      "train.clip_norm=0.5", "train.label_smoothing=0.1", NULL};
    NEEDS_DEVICE();
    train_both(OHM_NET_LENET5, 20, 1, set, 4, 1e-6);
}

OHM_TEST_SLOW(backend_cuda, resnet_trains_as_on_the_cpu)
{
    static const char *const set[] = {
        "train.batch=6",       "train.micro_batch=3",        "train.optimiser=sgd",
        "train.nesterov=true", "train.recompute_segments=3", NULL};
    NEEDS_DEVICE();
    train_both(OHM_NET_RESNET20, 8, 3, set, 3, 1e-4);
}

OHM_TEST(backend_cuda, adam_trains_as_on_the_cpu)
{
    static const char *const set[] = {"train.optimiser=adamw", "train.lr=1e-3",
                                      "train.weight_decay=0.01", "train.epsilon=1e-4", NULL};
    NEEDS_DEVICE();
    train_both(OHM_NET_MLP, 8, 1, set, 4, 1e-4);
}

/* ---- recorded steps ------------------------------------------------------------------------ */

/* A network with checks never records. */
OHM_TEST(backend_cuda, a_replayed_step_is_the_direct_one)
{
    static const char *const set[] = {"train.batch=6", "train.micro_batch=2", "train.clip_norm=0.5",
                                      "train.optimiser=adam", NULL};
    NEEDS_DEVICE();
    model *direct = model_of(OHM_NET_LENET5, 20, 1, "cuda", set, 1),
          *replayed = model_of(OHM_NET_LENET5, 20, 1, "cuda", set, 0);
    for (int i = 0; i < 5; i++) {
        double loss[2];
        int correct[2];
        OHM_OK_OR_FAIL(step_of(direct, i, &loss[0], &correct[0]));
        OHM_OK_OR_FAIL(step_of(replayed, i, &loss[1], &correct[1]));
        ck_assert_double_eq(loss[0], loss[1]);
        ck_assert_int_eq(correct[0], correct[1]);
    }
    compare(direct, replayed, 0.0);
    drop(direct);
    drop(replayed);
}

OHM_TEST(backend_cuda, a_step_allocates_nothing_and_waits_once_at_its_end)
{
    static const char *const set[] = {"train.batch=6", "train.micro_batch=2", NULL};
    NEEDS_DEVICE();
    if (!executor_present())
        OHM_SKIP("allocations and waits are counted on the host executor");
    model *m = model_of(OHM_NET_LENET5, 20, 1, "cuda", set, 0);
    for (int i = 0; i < 4; i++) {
        executor_counts before = executor_count();
        double loss;
        int correct;
        OHM_OK_OR_FAIL(step_of(m, i, &loss, &correct));
        executor_counts after = executor_count();
        ck_assert_uint_eq(after.allocations, before.allocations);
        ck_assert_uint_eq(after.waits - before.waits, 1);
    }
    drop(m);
}

OHM_TEST(backend_cuda, a_loss_that_is_no_number_changes_nothing)
{
    NEEDS_DEVICE();
    for (int steps = 0; steps < 3; steps += 2) { /* direct, then replayed */
        model *m = model_of(OHM_NET_MLP, 8, 1, "cuda", NULL, 0);
        double loss;
        int correct;
        size_t count;
        for (int i = 0; i < steps; i++)
            OHM_OK_OR_FAIL(step_of(m, i, &loss, &correct));
        float *bias = read_part(m, 3, 0, &count), *weight = read_part(m, 0, 0, &count);
        ck_assert_ptr_nonnull(bias);
        bias[0] = NAN;
        int parameters;
        OHM_OK_OR_FAIL(ohm_network_write(
            m->network, ohm_network_parameters(m->network, &parameters)[3].value, bias, 1));
        ck_assert_int_eq(step_of(m, steps, &loss, &correct), OHM_ERR_DATA);
        float *after = read_part(m, 0, 0, &count);
        OHM_ASSERT(ohm_compare_bits(after, weight, count));
        free(bias);
        free(weight);
        free(after);
        drop(m);
    }
}

/* How often a part of a step's batch was filled, and how many waits there had been. */
enum { AHEAD_STEPS = 5, AHEAD_PASSES = 3 };
static struct {
    int fills[AHEAD_STEPS + 1][AHEAD_PASSES];
    size_t waits[AHEAD_STEPS + 1];
} ahead;

static void fill_noted(void *context, int first, int images, int64_t step)
{
    ahead.fills[step][first / images]++;
    ahead.waits[step] = executor_count().waits;
    fill_random(context, first, images, step);
}

/* The next batch is filled while the device works, once, and the steps are the same. */
OHM_TEST(backend_cuda, the_next_batch_is_filled_meanwhile)
{
    static const char *const set[] = {"train.batch=6", "train.micro_batch=2", NULL};
    NEEDS_DEVICE();
    model *m[2];
    double loss[2][AHEAD_STEPS];
    for (int way = 0; way < 2; way++) {
        m[way] = model_of(OHM_NET_LENET5, 20, 1, "cuda", set, 0);
        memset(&ahead, 0, sizeof ahead);
        for (int i = 0; i < AHEAD_STEPS; i++) {
            int correct;
            const ohm_step s = {.network = m[way]->network,
                                .config = &m[way]->config,
                                .fill = fill_noted,
                                .context = m[way]->network,
                                .ahead = way && i + 1 < AHEAD_STEPS};
            const size_t before = executor_count().waits;
            OHM_OK_OR_FAIL(ohm_step_run(&s, i, 0.05, &loss[way][i], &correct));
            if (executor_present() && s.ahead) {
                ck_assert_uint_eq(ahead.waits[i + 1], before);
                ck_assert_uint_eq(executor_count().waits, before + 1);
            }
        }
        for (int i = 0; i < AHEAD_STEPS; i++)
            for (int pass = 0; pass < AHEAD_PASSES; pass++)
                ck_assert_int_eq(ahead.fills[i][pass], 1);
        ck_assert_int_eq(ahead.fills[AHEAD_STEPS][0], 0);
    }
    for (int i = 0; i < AHEAD_STEPS; i++)
        ck_assert_double_eq(loss[0][i], loss[1][i]);
    compare(m[0], m[1], 0.0);
    drop(m[0]);
    drop(m[1]);
}

/* Images may be overwritten only when the device has read them. */
OHM_TEST(backend_cuda, images_stay_until_they_were_read)
{
    float logits[2][40];
    NEEDS_DEVICE();
    for (int again = 0; again < 2; again++) {
        model *m = model_of(OHM_NET_MLP, 8, 1, "cuda", NULL, 0);
        const ohm_pass pass = {.images = 4};
        fill_random(m->network, 0, 4, 0);
        OHM_OK_OR_FAIL(ohm_network_forward(m->network, &pass));
        if (again)
            fill_random(m->network, 0, 4, 7);
        OHM_OK_OR_FAIL(
            ohm_network_read(m->network, logits[again], ohm_network_logits(m->network), 40));
        drop(m);
    }
    OHM_ASSERT(ohm_compare_bits(logits[0], logits[1], 40));
}

/* ---- precision ----------------------------------------------------------------------------- */

OHM_TEST(backend_cuda, tf32_and_bf16_round_the_operands)
{
    static const char *const tf32[] = {"train.gemm=tf32", NULL}, *const bf16[] = {"train.gemm=bf16",
                                                                                  NULL};
    NEEDS_DEVICE();
    model *m[3] = {model_of(OHM_NET_LENET5, 20, 1, "cuda", NULL, 0),
                   model_of(OHM_NET_LENET5, 20, 1, "cuda", tf32, 0),
                   model_of(OHM_NET_LENET5, 20, 1, "cuda", bf16, 0)};
    double loss[3];
    int correct;
    for (int i = 0; i < 3; i++) {
        OHM_OK_OR_FAIL(step_of(m[i], 0, &loss[i], &correct));
        drop(m[i]);
    }
    ck_assert(fabs(loss[1] - loss[0]) <= 2e-3 * loss[0]);
    ck_assert(fabs(loss[2] - loss[0]) <= 2e-2 * loss[0]);
    if (executor_present())
        ck_assert(loss[1] != loss[0] && loss[2] != loss[1]);
}

/* ---- checkpoints --------------------------------------------------------------------------- */

OHM_TEST(backend_cuda, checkpoints_pass_between_devices)
{
    static const char *const names[2] = {"cpu", "cuda"};
    char path[256];
    NEEDS_DEVICE();
    snprintf(path, sizeof path, "%s/device.safetensors", ohm_test_tmpdir());
    for (int from = 0; from < 2; from++) {
        model *a = model_of(OHM_NET_RESNET20, 8, 3, names[from], NULL, 0),
              *b = model_of(OHM_NET_RESNET20, 8, 3, names[!from], NULL, 0);
        ohm_train_state state = {.step = 1, .evaluated = -1, .best_accuracy = -1}, loaded;
        double loss[2];
        int correct[2];
        OHM_OK_OR_FAIL(step_of(a, 0, &loss[0], &correct[0]));
        OHM_OK_OR_FAIL(ohm_checkpoint_save(path, a->network, &a->config, &state));
        OHM_OK_OR_FAIL(ohm_checkpoint_load(path, b->network, &loaded));
        ck_assert_int_eq(loaded.step, 1);
        compare(a, b, 0.0);
        OHM_OK_OR_FAIL(step_of(a, 1, &loss[0], &correct[0]));
        OHM_OK_OR_FAIL(step_of(b, 1, &loss[1], &correct[1]));
        ck_assert_msg(fabs(loss[0] - loss[1]) <= 1e-4 * loss[0], "%.9g and %.9g", loss[0], loss[1]);
        drop(a);
        drop(b);
    }
}

/* A run without a chip of two micro-batches per step, a checkpoint every two. */
typedef struct {
    ohm_config config;
    ohm_architecture architecture;
    ohm_dataset train, test;
} experiment;

static experiment *experiment_of(void)
{
    static const char *const set[] = {
        "hardware=none",       "train.mode=baseline",     "network.width=16",
        "data.train_limit=64", "data.test_limit=20",      "train.batch=16",
        "train.micro_batch=8", "train.steps=4",           "eval.batch=16",
        "train.eval_every=2",  "train.checkpoint_every=2"};
    experiment *e = calloc(1, sizeof *e);
    ck_assert_ptr_nonnull(e);
    OHM_OK_OR_FAIL(ohm_config_read(&e->config, NULL));
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        OHM_OK_OR_FAIL(ohm_config_set(&e->config, set[i]));
    OHM_OK_OR_FAIL(ohm_datasets_load(&e->train, &e->test, &e->config));
    OHM_OK_OR_FAIL(ohm_model_build(&e->architecture, &e->config, e->train.height, e->train.width,
                                   e->train.channels, 10));
    return e;
}

static void drop_experiment(experiment *e)
{
    ohm_dataset_free(&e->train);
    ohm_dataset_free(&e->test);
    free(e);
}

static ohm_status train_to(experiment *e, int device, int steps, ohm_train_options options,
                           ohm_train_result *result)
{
    const ohm_train_job job = {&e->config, &e->architecture, &e->train, &e->test};
    e->config.device.kind = device;
    e->config.train.steps = steps;
    return ohm_train(&job, &options, result);
}

/* A run on the device, evaluated there, goes on on the CPU, and the other way. */
OHM_TEST(backend_cuda, a_run_changes_its_device)
{
    double accuracy[2], loss[2];
    NEEDS_DEVICE();
    experiment *e = experiment_of();
    for (int i = 0; i < 2; i++) {
        char dir[256];
        ohm_train_result result;
        snprintf(dir, sizeof dir, "%s/run-%d", ohm_test_tmpdir(), i);
        OHM_OK_OR_FAIL(train_to(e, i ? OHM_DEVICE_CUDA : OHM_DEVICE_CPU, 2,
                                (ohm_train_options){.run_dir = dir}, &result));
        OHM_OK_OR_FAIL(train_to(e, i ? OHM_DEVICE_CPU : OHM_DEVICE_CUDA, 4,
                                (ohm_train_options){.run_dir = dir, .resume = 1}, &result));
        ck_assert_int_eq(result.steps, 4);
        accuracy[i] = result.clean_accuracy;
        loss[i] = result.loss;
    }
    ck_assert_double_eq(accuracy[0], accuracy[1]);
    ck_assert_double_eq_tol(loss[0], loss[1], 1e-4);
    drop_experiment(e);
}

/* What goes wrong on the device after a step; the second step is the one that is recorded. */
typedef enum { BREAK, REFUSE, EXHAUST, LOSE, FAULTS } fault;
typedef struct {
    fault which;
    int after, checkpoint_every;
    ohm_status status;
    const char *says[3];
} accident;

static void go_wrong(void *context, const ohm_train_event *event)
{
    const accident *a = context;
    if (event->step != a->after || event->evaluated)
        return;
    if (a->which == BREAK)
        executor_break("relu_backward");
    else if (a->which == LOSE)
        executor_lose();
    else
        executor_refuse_launch("relu_backward", a->which == EXHAUST);
}

OHM_TEST(backend_cuda, a_failure_ends_a_run_and_loses_nothing)
{
    static accident accidents[FAULTS] = {
        {BREAK, 3, 2, OHM_ERR_DEVICE,
         {"after step 3 (last good checkpoint: step 2)", "device cuda:0: backward, layer relu",
          "relu_backward: broken"}},
        {REFUSE, 1, 1, OHM_ERR_DEVICE,
         {"after step 1 (last good checkpoint: step 1)", "device cuda:0: backward, layer relu",
          "relu_backward: refused"}},
        {EXHAUST, 1, 1, OHM_ERR_MEMORY,
         {"after step 1 (last good checkpoint: step 1): beside the plan of ",
          ", most of it simulator workspace (", "device cuda:0: backward, layer relu"}},
        {LOSE, 3, 2, OHM_ERR_DEVICE,
         {"after step 3 (last good checkpoint: step 2)", "device cuda:0: ", "lost by the test"}}};
    NEEDS_DEVICE();
    if (!executor_present())
        OHM_SKIP("devices fail on the host executor alone");
    for (int i = 0; i < FAULTS; i++) {
        char dir[256];
        accident *a = &accidents[i];
        ohm_train_result result;
        experiment *e = experiment_of();
        snprintf(dir, sizeof dir, "%s/run-%d", ohm_test_tmpdir(), i);
        e->config.train.checkpoint_every = a->checkpoint_every;
        const ohm_train_options broken = {.run_dir = dir, .on_event = go_wrong, .context = a};
        ck_assert_int_eq(train_to(e, OHM_DEVICE_CUDA, 4, broken, &result), a->status);
        for (int j = 0; j < 3; j++)
            ck_assert_msg(strstr(ohm_error_text(), a->says[j]) != NULL, "'%s' lacks '%s'",
                          ohm_error_text(), a->says[j]);
        executor_repair();
        OHM_OK_OR_FAIL(train_to(e, OHM_DEVICE_CPU, 4,
                                (ohm_train_options){.run_dir = dir, .resume = 1}, &result));
        ck_assert_int_eq(result.steps, 4);
        drop_experiment(e);
    }
}

static void lacks_memory(experiment *e, size_t left, const char *expected)
{
    char dir[256];
    ohm_train_result result;
    size_t total;
    snprintf(dir, sizeof dir, "%s/none", ohm_test_tmpdir());
    e->config.device.kind = OHM_DEVICE_CUDA;
    OHM_OK_OR_FAIL(ohm_plan_limit(&total, &e->config));
    executor_take(total - left);
    ck_assert_int_eq(
        train_to(e, OHM_DEVICE_CUDA, 4, (ohm_train_options){.run_dir = dir}, &result),
        OHM_ERR_MEMORY);
    ck_assert_msg(strstr(ohm_error_text(), expected) && strstr(ohm_error_text(), "most of it "),
                  "'%s' lacks '%s'", ohm_error_text(), expected);
    ck_assert_int_ne(access(dir, F_OK), 0);
    executor_take(0);
}

/* Memory that others have taken is missed before the first step, for the evaluation at its end too. */
OHM_TEST(backend_cuda, what_is_not_free_ends_before_training)
{
    ohm_plan plan;
    NEEDS_DEVICE();
    if (!executor_present())
        OHM_SKIP("memory is taken on the host executor alone");
    experiment *e = experiment_of();
    e->config.train.micro_batch = 0;
    e->config.network.width = 20000;
    e->config.device.kind = OHM_DEVICE_CUDA;
    OHM_OK_OR_FAIL(ohm_model_build(&e->architecture, &e->config, e->train.height, e->train.width,
                                   e->train.channels, 10));
    OHM_OK_OR_FAIL(ohm_plan_make(&plan, &e->architecture, &e->config, 16, 1));
    lacks_memory(e, plan.training.reserved - 1, " are free now: even one image per pass needs ");
    lacks_memory(e, plan.total - 64, " are free now: mode baseline at 16 images");
    lacks_memory(e, plan.total - 64, "set train.micro_batch to at most ");
    ohm_train_result result;
    OHM_OK_OR_FAIL(train_to(e, OHM_DEVICE_CUDA, 1, (ohm_train_options){0}, &result));
    drop_experiment(e);
}

/* A device that fails says nothing about a checkpoint: older ones are not tried. */
OHM_TEST(backend_cuda, a_failure_while_resuming_names_the_checkpoint)
{
    char dir[256];
    ohm_train_state state;
    int found;
    NEEDS_DEVICE();
    if (!executor_present())
        OHM_SKIP("devices are lost on the host executor alone");
    model *m = model_of(OHM_NET_MLP, 8, 1, "cuda", NULL, 0);
    snprintf(dir, sizeof dir, "%s/resumed", ohm_test_tmpdir());
    OHM_OK_OR_FAIL(ohm_file_make_folder(dir));
    snprintf(dir, sizeof dir, "%s/resumed/checkpoints", ohm_test_tmpdir());
    OHM_OK_OR_FAIL(ohm_file_make_folder(dir));
    snprintf(dir, sizeof dir, "%s/resumed", ohm_test_tmpdir());
    for (int step = 1; step < 3; step++) {
        state = (ohm_train_state){.step = step, .evaluated = -1, .best_accuracy = -1};
        OHM_OK_OR_FAIL(ohm_checkpoint_save_in(dir, m->network, &m->config, &state));
    }
    executor_lose();
    ck_assert_int_eq(ohm_checkpoint_resume(dir, m->network, &state, &found, NULL), OHM_ERR_DEVICE);
    ck_assert_msg(strstr(ohm_error_text(), "step-00000002.safetensors, before it was loaded: "),
                  "%s", ohm_error_text());
    executor_repair();
    drop(m);
}

/* ---- what goes wrong ----------------------------------------------------------------------- */

static void refused(const char *const *set, const char *expected)
{
    static ohm_architecture a;
    static ohm_config config;
    ohm_network *network;
    OHM_OK_OR_FAIL(ohm_config_read(&config, NULL));
    for (; *set; set++)
        OHM_OK_OR_FAIL(ohm_config_set(&config, *set));
    OHM_OK_OR_FAIL(ohm_model_build(&a, &config, 8, 8, 1, 10));
    const ohm_network_options options = {.max_batch = 4, .training = 1};
    ck_assert_int_ne(ohm_network_create(&network, &a, &config, &options), OHM_OK);
    ck_assert_msg(strstr(ohm_error_text(), expected) != NULL, "'%s' lacks '%s'", ohm_error_text(),
                  expected);
    ck_assert_ptr_null(strchr(ohm_error_text(), '\n'));
}

OHM_TEST(backend_cuda, what_a_device_cannot_do_is_refused)
{
    static const char *const chip[] = {"hardware=lognormal", "device=cuda", NULL},
                             *const number[] = {"hardware=none", "device=cuda:1000", NULL},
                             *const gemm[] = {"hardware=none", "device=cpu", "train.gemm=tf32",
                                              NULL},
                             *const large[] = {"hardware=none",
                                               "train.mode=baseline",
                                               "device=cuda",
                                               "network.kind=mlp",
                                               "network.width=65536",
                                               "network.hidden_layers=32",
                                               NULL};
    static ohm_config config;
    NEEDS_DEVICE();
    refused(chip, "layers on a chip run on the CPU alone so far");
    refused(number, "device cuda:1000: this machine has 1");
    refused(gemm, "set train.gemm: fp32");
    refused(large, "of which gradients");
    ck_assert_int_eq(ohm_config_set(&config, "device=gpu"), OHM_ERR_CONFIG);
    ck_assert_int_eq(ohm_config_set(&config, "device=cuda:x"), OHM_ERR_CONFIG);
    ck_assert_int_eq(ohm_config_set(&config, "device=cpu:1"), OHM_ERR_CONFIG);
}

OHM_TEST(backend_cuda, a_failure_names_phase_and_layer)
{
    static const char *const where[][3] = {{"relu_backward", "backward, layer ", "relu"},
                                           {"max_pool", "forward, layer ", "pool"},
                                           {"sgd", "update: ", "sgd"}};
    NEEDS_DEVICE();
    if (!executor_present())
        OHM_SKIP("kernels break on the host executor alone");
    for (size_t i = 0; i < sizeof where / sizeof *where; i++)
        for (int steps = 0; steps < 3; steps += 2) { /* direct, then replayed */
            model *m = model_of(OHM_NET_LENET5, 20, 1, "cuda", NULL, 0);
            double loss;
            int correct;
            for (int j = 0; j < steps / 2; j++)
                OHM_OK_OR_FAIL(step_of(m, j, &loss, &correct));
            executor_break(where[i][0]);
            ck_assert_int_eq(step_of(m, 5, &loss, &correct), OHM_ERR_DEVICE);
            const char *text = ohm_error_text();
            ck_assert_msg(strstr(text, where[i][1]) && strstr(text, where[i][2]) &&
                              strstr(text, "device cuda:0: "),
                          "%s", text);
            drop(m);
            executor_repair();
        }
}
