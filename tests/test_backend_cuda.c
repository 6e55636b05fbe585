/* Clean networks on a device: the host executor in `tests`, device 0 in `tests-cuda`. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "datasets/datasets.h"
#include "host/backend.h"
#include "host/checkpoint.h"
#include "host/file.h"
#include "host/plan.h"
#include "host/step.h"
#include "host/trainer.h"
#include "models/networks.h"
#include "tests/compare.h"
#include "tests/executor/executor.h"
#include "tests/fixture_device.h"
#include "tests/parity.h"
#include "tests/runner.h"

/* ---- training ------------------------------------------------------------------------------ */

/* The products' sums have other orders, and float noise grows with the steps. */
static void train_both(int kind, int size, int channels, const char *const *set, int steps,
                       double atol)
{
    device_model *cpu = device_model_of(kind, size, channels, "cpu", set, 0),
                 *cuda = device_model_of(kind, size, channels, "cuda", set, 0);
    ck_assert_str_eq(ohm_network_device(cuda->network), "cuda");
    for (int i = 0; i < steps; i++) {
        double loss[2];
        int correct[2];
        OHM_OK_OR_FAIL(device_step(cpu, i, &loss[0], &correct[0]));
        OHM_OK_OR_FAIL(device_step(cuda, i, &loss[1], &correct[1]));
        ck_assert_msg(fabs(loss[0] - loss[1]) <= 1e-4 * loss[0],
                      "step %d: loss %.9g on the CPU, %.9g on the device", i, loss[0], loss[1]);
        ck_assert_int_eq(correct[0], correct[1]);
    }
    device_compare(cpu, cuda, atol);
    device_drop(cpu);
    device_drop(cuda);
}

OHM_TEST(backend_cuda, lenet_trains_as_on_the_cpu)
{
    static const char *const set[] = {"train.momentum=0.9", "train.weight_decay=1e-3",
                                      "train.clip_norm=0.5", "train.label_smoothing=0.1", NULL};
    OHM_NEEDS_DEVICE();
    train_both(OHM_NET_LENET5, 20, 1, set, 4, 1e-6);
}

OHM_TEST_SLOW(backend_cuda, resnet_trains_as_on_the_cpu)
{
    static const char *const set[] = {
        "train.batch=6",       "train.micro_batch=3",        "train.optimiser=sgd",
        "train.nesterov=true", "train.recompute_segments=3", NULL};
    OHM_NEEDS_DEVICE();
    train_both(OHM_NET_RESNET20, 8, 3, set, 3, 1e-4);
}

OHM_TEST(backend_cuda, adam_trains_as_on_the_cpu)
{
    static const char *const set[] = {"train.optimiser=adamw", "train.lr=1e-3",
                                      "train.weight_decay=0.01", "train.epsilon=1e-4", NULL};
    OHM_NEEDS_DEVICE();
    train_both(OHM_NET_MLP, 8, 1, set, 4, 1e-4);
}

/* ---- recorded steps ------------------------------------------------------------------------ */

/* A network with checks never records. */
OHM_TEST(backend_cuda, a_replayed_step_is_the_direct_one)
{
    static const char *const set[] = {"train.batch=6", "train.micro_batch=2", "train.clip_norm=0.5",
                                      "train.optimiser=adam", NULL};
    OHM_NEEDS_DEVICE();
    device_model *direct = device_model_of(OHM_NET_LENET5, 20, 1, "cuda", set, 1),
                 *replayed = device_model_of(OHM_NET_LENET5, 20, 1, "cuda", set, 0);
    for (int i = 0; i < 5; i++) {
        double loss[2];
        int correct[2];
        OHM_OK_OR_FAIL(device_step(direct, i, &loss[0], &correct[0]));
        OHM_OK_OR_FAIL(device_step(replayed, i, &loss[1], &correct[1]));
        ck_assert_double_eq(loss[0], loss[1]);
        ck_assert_int_eq(correct[0], correct[1]);
    }
    device_compare(direct, replayed, 0.0);
    device_drop(direct);
    device_drop(replayed);
}

OHM_TEST(backend_cuda, a_step_allocates_nothing_and_waits_once_at_its_end)
{
    static const char *const set[] = {"train.batch=6", "train.micro_batch=2", NULL};
    OHM_NEEDS_DEVICE();
    if (!executor_present())
        OHM_SKIP("allocations and waits are counted on the host executor");
    device_model *m = device_model_of(OHM_NET_LENET5, 20, 1, "cuda", set, 0);
    for (int i = 0; i < 4; i++) {
        executor_counts before = executor_count();
        double loss;
        int correct;
        OHM_OK_OR_FAIL(device_step(m, i, &loss, &correct));
        executor_counts after = executor_count();
        ck_assert_uint_eq(after.allocations, before.allocations);
        ck_assert_uint_eq(after.waits - before.waits, 1);
    }
    device_drop(m);
}

OHM_TEST(backend_cuda, a_loss_that_is_no_number_changes_nothing)
{
    OHM_NEEDS_DEVICE();
    for (int steps = 0; steps < 3; steps += 2) { /* direct, then replayed */
        device_model *m = device_model_of(OHM_NET_MLP, 8, 1, "cuda", NULL, 0);
        double loss;
        int correct;
        size_t count;
        for (int i = 0; i < steps; i++)
            OHM_OK_OR_FAIL(device_step(m, i, &loss, &correct));
        float *bias = device_part(m, 3, 0, &count), *weight = device_part(m, 0, 0, &count);
        ck_assert_ptr_nonnull(bias);
        bias[0] = NAN;
        int parameters;
        OHM_OK_OR_FAIL(ohm_network_write(
            m->network, ohm_network_parameters(m->network, &parameters)[3].value, bias, 1));
        ck_assert_int_eq(device_step(m, steps, &loss, &correct), OHM_ERR_DATA);
        float *after = device_part(m, 0, 0, &count);
        OHM_ASSERT(ohm_compare_bits(after, weight, count));
        free(bias);
        free(weight);
        free(after);
        device_drop(m);
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
    device_images(context, first, images, step);
}

/* The next batch is filled while the device works, once, and the steps are the same. */
OHM_TEST(backend_cuda, the_next_batch_is_filled_meanwhile)
{
    static const char *const set[] = {"train.batch=6", "train.micro_batch=2", NULL};
    OHM_NEEDS_DEVICE();
    device_model *m[2];
    double loss[2][AHEAD_STEPS];
    for (int way = 0; way < 2; way++) {
        m[way] = device_model_of(OHM_NET_LENET5, 20, 1, "cuda", set, 0);
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
    device_compare(m[0], m[1], 0.0);
    device_drop(m[0]);
    device_drop(m[1]);
}

/* Images may be overwritten only when the device has read them. */
OHM_TEST(backend_cuda, images_stay_until_they_were_read)
{
    float logits[2][40];
    OHM_NEEDS_DEVICE();
    for (int again = 0; again < 2; again++) {
        device_model *m = device_model_of(OHM_NET_MLP, 8, 1, "cuda", NULL, 0);
        const ohm_pass pass = {.images = 4};
        device_images(m->network, 0, 4, 0);
        OHM_OK_OR_FAIL(ohm_network_forward(m->network, &pass));
        if (again)
            device_images(m->network, 0, 4, 7);
        OHM_OK_OR_FAIL(
            ohm_network_read(m->network, logits[again], ohm_network_logits(m->network), 40));
        device_drop(m);
    }
    OHM_ASSERT(ohm_compare_bits(logits[0], logits[1], 40));
}

/* ---- precision ----------------------------------------------------------------------------- */

OHM_TEST(backend_cuda, tf32_and_bf16_round_the_operands)
{
    static const char *const tf32[] = {"train.gemm=tf32", NULL}, *const bf16[] = {"train.gemm=bf16",
                                                                                  NULL};
    OHM_NEEDS_DEVICE();
    device_model *m[3] = {device_model_of(OHM_NET_LENET5, 20, 1, "cuda", NULL, 0),
                          device_model_of(OHM_NET_LENET5, 20, 1, "cuda", tf32, 0),
                          device_model_of(OHM_NET_LENET5, 20, 1, "cuda", bf16, 0)};
    double loss[3];
    int correct;
    for (int i = 0; i < 3; i++) {
        OHM_OK_OR_FAIL(device_step(m[i], 0, &loss[i], &correct));
        device_drop(m[i]);
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
    OHM_NEEDS_DEVICE();
    snprintf(path, sizeof path, "%s/device.safetensors", ohm_test_tmpdir());
    for (int from = 0; from < 2; from++) {
        device_model *a = device_model_of(OHM_NET_RESNET20, 8, 3, names[from], NULL, 0),
                     *b = device_model_of(OHM_NET_RESNET20, 8, 3, names[!from], NULL, 0);
        ohm_train_state state = {.step = 1, .evaluated = -1, .best_accuracy = -1}, loaded;
        double loss[2];
        int correct[2];
        OHM_OK_OR_FAIL(device_step(a, 0, &loss[0], &correct[0]));
        OHM_OK_OR_FAIL(ohm_checkpoint_save(path, a->network, &a->config, &state));
        OHM_OK_OR_FAIL(ohm_checkpoint_load(path, b->network, &loaded));
        ck_assert_int_eq(loaded.step, 1);
        device_compare(a, b, 0.0);
        OHM_OK_OR_FAIL(device_step(a, 1, &loss[0], &correct[0]));
        OHM_OK_OR_FAIL(device_step(b, 1, &loss[1], &correct[1]));
        ck_assert_msg(fabs(loss[0] - loss[1]) <= 1e-4 * loss[0], "%.9g and %.9g", loss[0], loss[1]);
        device_drop(a);
        device_drop(b);
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

/* run.json names what a run began on and, once, what it went on on. */
static void check_record(const char *dir, int began_on_device)
{
    char path[300], *text;
    size_t bytes;
    snprintf(path, sizeof path, "%s/run.json", dir);
    OHM_OK_OR_FAIL(ohm_file_read(&text, &bytes, path, 1 << 20));
    cJSON *json = cJSON_Parse(text);
    const cJSON *list = cJSON_GetObjectItem(json, "resumed"), *later = cJSON_GetArrayItem(list, 0);
    ck_assert_msg(cJSON_GetArraySize(list) == 1, "%s", text);
    ck_assert_double_eq(cJSON_GetNumberValue(cJSON_GetObjectItem(later, "from_step")), 2);
    const cJSON *cpu = began_on_device ? later : json, *device = began_on_device ? json : later;
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(cpu, "backend")), "cpu");
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(device, "backend")), "cuda");
    ck_assert_ptr_null(cJSON_GetObjectItem(cpu, "device"));
    ck_assert_ptr_null(cJSON_GetObjectItem(cpu, "cuda_driver"));
    ck_assert_ptr_nonnull(cJSON_GetStringValue(cJSON_GetObjectItem(device, "device")));
    if (executor_present()) {
        ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(device, "cuda_driver")), "12.8");
        ck_assert_ptr_null(cJSON_GetObjectItem(device, "driver"));
    }
    ck_assert_ptr_null(strstr(text, "null"));
    cJSON_Delete(json);
    free(text);
}

/* A run on the device, evaluated there, goes on on the CPU, and the other way. */
static void change_device(const char *const *set)
{
    double accuracy[2], noisy[2], loss[2];
    experiment *e = experiment_of();
    for (; *set; set++)
        OHM_OK_OR_FAIL(ohm_config_set(&e->config, *set));
    executor_set_driver(12080);
    for (int i = 0; i < 2; i++) {
        char dir[256];
        ohm_train_result result;
        snprintf(dir, sizeof dir, "%s/%s-%d", ohm_test_tmpdir(), e->config.hardware.name, i);
        OHM_OK_OR_FAIL(train_to(e, i ? OHM_DEVICE_CUDA : OHM_DEVICE_CPU, 2,
                                (ohm_train_options){.run_dir = dir}, &result));
        OHM_OK_OR_FAIL(train_to(e, i ? OHM_DEVICE_CPU : OHM_DEVICE_CUDA, 4,
                                (ohm_train_options){.run_dir = dir, .resume = 1}, &result));
        ck_assert_int_eq(result.steps, 4);
        accuracy[i] = result.clean_accuracy;
        noisy[i] = result.noisy.mean;
        loss[i] = result.loss;
        OHM_OK_OR_FAIL(train_to(e, i ? OHM_DEVICE_CPU : OHM_DEVICE_CUDA, 4,
                                (ohm_train_options){.run_dir = dir, .resume = 1}, &result));
        check_record(dir, i);
    }
    executor_set_driver(0);
    const double one = 1.0 / (e->test.count * fmax(e->config.eval.chips, 1));
    ck_assert_double_eq_tol(accuracy[0], accuracy[1], one + 1e-9);
    ck_assert_double_eq_tol(noisy[0], noisy[1], one + 1e-9);
    ck_assert_double_eq_tol(loss[0], loss[1], e->config.hardware_enabled ? 1e-2 : 1e-4);
    drop_experiment(e);
}

OHM_TEST(backend_cuda, a_run_changes_its_device)
{
    static const char *const clean[] = {NULL};
    OHM_NEEDS_DEVICE();
    change_device(clean);
}

OHM_TEST_SLOW(backend_cuda, a_run_on_a_chip_changes_its_device)
{
    static const char *const chip[] = {"hardware=rasch2023",
                                       "train.mode=nograd",
                                       "hardware.adc.range=calibrated",
                                       "hardware.quantise.x_range=running:0.9",
                                       "train.calibration_batches=2",
                                       "eval.chips=2",
                                       NULL};
    OHM_NEEDS_DEVICE();
    change_device(chip);
}

/* What goes wrong on the device after a step; the second step is the one that is recorded. */
typedef enum { BREAK, REFUSE, EXHAUST, LOSE, BREAK_EVALUATION, FAULTS } fault;
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
    else if (a->which == BREAK_EVALUATION)
        executor_break("relu");
    else if (a->which == LOSE)
        executor_lose();
    else
        executor_refuse_launch("relu_backward", a->which == EXHAUST);
}

OHM_TEST(backend_cuda, a_failure_ends_a_run_and_loses_nothing)
{
    static accident accidents[FAULTS] = {
        {BREAK,
         3,
         2,
         OHM_ERR_DEVICE,
         {"after step 3 (last good checkpoint: step 2)", "device cuda:0: backward, layer relu",
          "relu_backward: broken"}},
        {REFUSE,
         1,
         1,
         OHM_ERR_DEVICE,
         {"after step 1 (last good checkpoint: step 1)", "device cuda:0: backward, layer relu",
          "relu_backward: refused"}},
        {EXHAUST,
         1,
         1,
         OHM_ERR_MEMORY,
         {"after step 1 (last good checkpoint: step 1): beside the plan of ",
          ", most of it simulator workspace (", "device cuda:0: backward, layer relu"}},
        {LOSE,
         3,
         2,
         OHM_ERR_DEVICE,
         {"after step 3 (last good checkpoint: step 2)", "device cuda:0: ", "lost by the test"}},
        {BREAK_EVALUATION, 2, 2, OHM_ERR_DEVICE,
         {"after step 2 (last good checkpoint: step 2)", "device cuda:0: forward, layer relu",
          "relu: broken"}}};
    OHM_NEEDS_DEVICE();
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
    ck_assert_int_eq(train_to(e, OHM_DEVICE_CUDA, 4, (ohm_train_options){.run_dir = dir}, &result),
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
    OHM_NEEDS_DEVICE();
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
    OHM_NEEDS_DEVICE();
    if (!executor_present())
        OHM_SKIP("devices are lost on the host executor alone");
    device_model *m = device_model_of(OHM_NET_MLP, 8, 1, "cuda", NULL, 0);
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
    device_drop(m);
}

/* A chip that is read without tensor cores is told once, with the key that changes it. */
OHM_TEST_SLOW(backend_cuda, single_precision_reads_are_told)
{
    static const char *const chip[] = {"hardware=rasch2023", "train.mode=nograd", "train.batch=8",
                                       "train.micro_batch=0", "hardware.tile.rows=32"};
    OHM_NEEDS_DEVICE();
    experiment *e = experiment_of();
    for (size_t i = 0; i < sizeof chip / sizeof *chip; i++)
        OHM_OK_OR_FAIL(ohm_config_set(&e->config, chip[i]));
    OHM_OK_OR_FAIL(ohm_model_build(&e->architecture, &e->config, e->train.height, e->train.width,
                                   e->train.channels, 10));
    for (int half = 0; half < 2; half++) {
        char *text;
        size_t bytes;
        ohm_train_result result;
        FILE *log = open_memstream(&text, &bytes);
        e->config.hardware.mvm.precision = half;
        OHM_OK_OR_FAIL(train_to(e, OHM_DEVICE_CUDA, 1,
                                (ohm_train_options){.log = log, .no_evaluation = 1}, &result));
        fclose(log);
        ck_assert_msg(!half == (strstr(text, "hardware.mvm.precision=fp16") != NULL), "%s", text);
        free(text);
    }
    drop_experiment(e);
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
    static const char *const cells[] = {"hardware=lognormal", "hardware.read.model=constant",
                                        "hardware.read.form=per_cell", "device=cuda", NULL},
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
    char simulator[300];
    const char *const other[] = {"hardware=lognormal", simulator, "device=cuda", NULL};
    OHM_NEEDS_DEVICE();
    snprintf(simulator, sizeof simulator, "hardware.simulator=%s/mine.so", ohm_test_tmpdir());
    fclose(fopen(strchr(simulator, '/'), "w"));
    refused(cells, "device cuda: read.form: 'per_cell' runs on the CPU alone so far");
    refused(other, "/mine.so': works in host memory alone; set device: cpu");
    refused(number, "device cuda:1000: this machine has 1");
    refused(gemm, "set train.gemm: fp32");
    refused(large, "of which gradients");
    ck_assert_int_eq(ohm_config_set(&config, "device=gpu"), OHM_ERR_CONFIG);
    ck_assert_int_eq(ohm_config_set(&config, "device=cuda:x"), OHM_ERR_CONFIG);
    ck_assert_int_eq(ohm_config_set(&config, "device=cpu:1"), OHM_ERR_CONFIG);
}

/* `auto` takes the device for all modes or, where it refuses one, the CPU for all, and says why. */
OHM_TEST(backend_cuda, a_command_of_several_modes_stays_on_one_device)
{
    static const int modes[] = {OHM_MODE_BASELINE, OHM_MODE_FULL};
    static ohm_config config;
    char line[OHM_BACKEND_LINE_BYTES];
    if (!executor_present())
        OHM_SKIP("a device is pretended on the host executor alone");
    executor_set_driver(12080);
    OHM_OK_OR_FAIL(ohm_config_read(&config, NULL));
    OHM_OK_OR_FAIL(ohm_config_set(&config, "hardware=lognormal"));
    const int given = config.train.mode;
    OHM_OK_OR_FAIL(ohm_backend_settle(line, sizeof line, &config, modes, 2));
    ck_assert_str_eq(line, "cuda:0, host executor");
    ck_assert_int_eq(config.device.kind, OHM_DEVICE_AUTO);
    OHM_OK_OR_FAIL(ohm_config_set(&config, "train.full=save"));
    OHM_OK_OR_FAIL(ohm_backend_settle(line, sizeof line, &config, modes, 1));
    ck_assert_int_eq(config.device.kind, OHM_DEVICE_AUTO);
    OHM_OK_OR_FAIL(ohm_backend_settle(line, sizeof line, &config, modes, 2));
    ck_assert_int_eq(strncmp(line, "cpu: key 'train.full': save", 27), 0);
    ck_assert_int_eq(config.device.kind, OHM_DEVICE_CPU);
    ck_assert_int_eq(config.train.mode, given);
    OHM_OK_OR_FAIL(ohm_config_set(&config, "device=cuda"));
    ck_assert_int_eq(ohm_backend_settle(line, sizeof line, &config, modes, 2), OHM_ERR_UNSUPPORTED);
    ck_assert_int_eq(config.device.kind, OHM_DEVICE_CUDA);
    /* a wish that the CPU cannot meet either */
    OHM_OK_OR_FAIL(ohm_config_set(&config, "device=auto"));
    OHM_OK_OR_FAIL(ohm_config_set(&config, "train.gemm=tf32"));
    ck_assert_int_eq(ohm_backend_settle(line, sizeof line, &config, modes, 2), OHM_ERR_UNSUPPORTED);
    executor_set_driver(0);
    OHM_OK_OR_FAIL(ohm_config_set(&config, "train.gemm=fp32"));
    OHM_OK_OR_FAIL(ohm_backend_settle(line, sizeof line, &config, modes, 2));
    ck_assert_str_eq(line, "cpu");
}

OHM_TEST(backend_cuda, a_failure_names_phase_and_layer)
{
    static const char *const where[][3] = {{"relu_backward", "backward, layer ", "relu"},
                                           {"max_pool", "forward, layer ", "pool"},
                                           {"sgd", "update: ", "sgd"}};
    OHM_NEEDS_DEVICE();
    if (!executor_present())
        OHM_SKIP("kernels break on the host executor alone");
    for (size_t i = 0; i < sizeof where / sizeof *where; i++)
        for (int steps = 0; steps < 3; steps += 2) { /* direct, then replayed */
            device_model *m = device_model_of(OHM_NET_LENET5, 20, 1, "cuda", NULL, 0);
            double loss;
            int correct;
            for (int j = 0; j < steps / 2; j++)
                OHM_OK_OR_FAIL(device_step(m, j, &loss, &correct));
            executor_break(where[i][0]);
            ck_assert_int_eq(device_step(m, 5, &loss, &correct), OHM_ERR_DEVICE);
            const char *text = ohm_error_text();
            ck_assert_msg(strstr(text, where[i][1]) && strstr(text, where[i][2]) &&
                              strstr(text, "device cuda:0: "),
                          "%s", text);
            device_drop(m);
            executor_repair();
        }
}
