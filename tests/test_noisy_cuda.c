/* Networks on a chip on a device: the host executor in `tests`, device 0 in `tests-cuda`. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/backend.h"
#include "host/checkpoint.h"
#include "host/cli/cli.h"
#include "host/npy.h"
#include "tests/compare.h"
#include "tests/executor/executor.h"
#include "tests/fixture_chip.h"
#include "tests/fixture_device.h"

/* One read per tile of a chip with programming, read and ADC noise, whose ranges follow the data. */
#define CHIP                                                                                       \
    "train.mode=nograd", "hardware=lognormal", "hardware.input.encoding=sign_magnitude",           \
        "hardware.input.dac_bits=7", "hardware.weight.cell_bits=7",                                \
        "hardware.programming.sigma=0.05", "hardware.read.model=constant",                         \
        "hardware.read.sigma=0.01", "hardware.adc.bits=8", "hardware.adc.noise_lsb=0.3"
#define MOVING_RANGES "hardware.adc.range=running:0.9", "hardware.quantise.x_range=running:0.9"

static device_model *lenet(const char *device, const char *const *set, int checked)
{
    return device_model_of(OHM_NET_LENET5, 16, 1, device, set, checked);
}

static device_model *mlp(const char *device, const char *const *set, int checked)
{
    return device_model_of(OHM_NET_MLP, 8, 1, device, set, checked);
}

/* ---- both devices -------------------------------------------------------------------------- */

/* From the same weights, by the same draws. The devices' products have other orders, and where a current
 * lies on a threshold of the ADC the codes differ by one. The band: the first loss agrees to 1e-4, each
 * later one to 5 %, and all together to 1 % on average. */
static void train_both(const char *const *set, int steps)
{
    device_model *cpu = lenet("cpu", set, 0), *cuda = lenet("cuda", set, 0);
    double sum = 0.0;
    ck_assert_str_eq(ohm_network_device(cuda->network), "cuda");
    for (int i = 0; i < steps; i++) {
        double loss[2];
        int correct[2];
        OHM_OK_OR_FAIL(device_step(cpu, i, &loss[0], &correct[0]));
        OHM_OK_OR_FAIL(device_step(cuda, i, &loss[1], &correct[1]));
        const double apart = fabs(loss[0] - loss[1]) / loss[0];
        sum += apart;
        ck_assert_msg(apart <= (i ? 5e-2 : 1e-4),
                      "step %d: loss %.9g on the CPU, %.9g on the device", i, loss[0], loss[1]);
    }
    ck_assert_msg(sum <= 1e-2 * steps, "losses are %g apart on average", sum / steps);
    device_drop(cpu);
    device_drop(cuda);
}

static const char *const running[] = {CHIP, MOVING_RANGES, NULL};
static const char *const learned[] = {CHIP,
                                      "train.mode=detach",
                                      "train.batch=2",
                                      "train.clip_norm=0.5",
                                      "hardware.input.encoding=offset",
                                      "hardware.weight.encoding=offset",
                                      "hardware.quantise.x_range=learned",
                                      "hardware.output.per_column_scale=true",
                                      "hardware.adc.range=calibrated:99.5",
                                      NULL};

OHM_TEST(noisy_cuda, lenet_begins_as_on_the_cpu)
{
    OHM_NEEDS_DEVICE();
    train_both(running, 2);
}

/* Straight-through with differential weights and ranges that run along. */
OHM_TEST_SLOW(noisy_cuda, lenet_trains_50_steps_as_on_the_cpu)
{
    OHM_NEEDS_DEVICE();
    train_both(running, 50);
}

/* Detached, with offset weights, learned ranges of x and of the columns, and a range of the ADC that is
 * taken from the first step. */
OHM_TEST_SLOW(noisy_cuda, a_detached_lenet_trains_50_steps_as_on_the_cpu)
{
    OHM_NEEDS_DEVICE();
    train_both(learned, 50);
}

/* What else a layer asks of its ranges. */
OHM_TEST_SLOW(noisy_cuda, every_kind_of_range_begins_as_on_the_cpu)
{
    static const char *const rows[] = {CHIP,
                                       "hardware.quantise.x_granularity=row",
                                       "hardware.quantise.x_range=percentile:99",
                                       "hardware.quantise.w_granularity=channel",
                                       "hardware.quantise.w_range=percentile:99.5",
                                       "hardware.adc.granularity=column",
                                       "hardware.adc.range=data",
                                       NULL},
                             *const biases[] = {CHIP,
                                                "hardware.bias=rows",
                                                "hardware.quantise.x_range=percentile:99.9",
                                                "hardware.quantise.w_range=percentile:99.9",
                                                "hardware.adc.range=granular",
                                                NULL},
                             *const wired[] = {CHIP,
                                               "hardware.quantise.x_range=4",
                                               "hardware.quantise.w_range=0.5",
                                               "hardware.ir_drop.model=exact",
                                               "hardware.ir_drop.r_wordline_ohm=1",
                                               "hardware.ir_drop.r_bitline_ohm=1",
                                               "hardware.tile.rows=64",
                                               "hardware.tile.cols=64",
                                               "hardware.adc.range=max",
                                               NULL};
    OHM_NEEDS_DEVICE();
    train_both(rows, 2);
    train_both(biases, 2);
    train_both(wired, 2);
}

/* ---- mode full ----------------------------------------------------------------------------- */

/* What a read gives goes on as it is: no code can fall on the other side of a threshold. */
#define FULL CHIP, "train.mode=full", "hardware.adc.noise_lsb=0", "hardware.adc.bits=0"

/* Momentum after the first step is its gradient. */
static void same_gradients(device_model *cpu, device_model *cuda, double tolerance)
{
    double loss[2];
    int correct, parameters;
    OHM_OK_OR_FAIL(device_step(cpu, 0, &loss[0], &correct));
    OHM_OK_OR_FAIL(device_step(cuda, 0, &loss[1], &correct));
    ohm_network_parameters(cpu->network, &parameters);
    for (int i = 0; i < parameters; i++) {
        size_t count;
        float *want = device_part(cpu, i, 1, &count), *got = device_part(cuda, i, 1, &count);
        double largest = 0.0;
        ck_assert_int_eq(want != NULL, got != NULL);
        for (size_t j = 0; want && j < count; j++)
            largest = fmax(largest, fabs((double)want[j]));
        for (size_t j = 0; want && j < count; j++) {
            const double apart = fabs((double)got[j] - (double)want[j]);
            ck_assert_msg(apart <= tolerance * largest,
                          "parameter %d [%zu]: gradient %.9g on the CPU, %.9g on the device, "
                          "largest %.3g",
                          i, j, (double)want[j], (double)got[j], largest);
        }
        ck_assert(!want || largest > 0.0);
        free(want);
        free(got);
    }
    device_drop(cpu);
    device_drop(cuda);
}

OHM_TEST(noisy_cuda, gradients_through_the_chip_are_the_cpu_s)
{
    static const char *const set[] = {FULL, "network.width=20", NULL};
    OHM_NEEDS_DEVICE();
    same_gradients(mlp("cpu", set, 0), mlp("cuda", set, 0), 1e-5);
}

OHM_TEST_SLOW(noisy_cuda, gradients_of_convolutions_and_learned_scales)
{
    static const char *const set[] = {FULL, "train.micro_batch=2", NULL};
    static const char *const learned[] = {FULL,
                                          "hardware.input.encoding=offset",
                                          "hardware.input.dac_bits=4",
                                          "hardware.weight.encoding=offset",
                                          "hardware.quantise.x_range=learned",
                                          "hardware.output.per_column_scale=true",
                                          "hardware.ir_drop.model=closed_form",
                                          NULL};
    OHM_NEEDS_DEVICE();
    same_gradients(lenet("cpu", set, 0), lenet("cuda", set, 0), 1e-5);
    same_gradients(mlp("cpu", learned, 0), mlp("cuda", learned, 0), 1e-5);
}

OHM_TEST_SLOW(noisy_cuda, lenet_trains_through_the_chip_as_on_the_cpu)
{
    static const char *const set[] = {CHIP, MOVING_RANGES, "train.mode=full", NULL};
    OHM_NEEDS_DEVICE();
    train_both(set, 3);
}

/* Recorded, too; nothing is allocated, and nothing waited for before the end. */
OHM_TEST(noisy_cuda, a_replayed_step_of_mode_full_is_the_direct_one)
{
    static const char *const set[] = {CHIP,
                                      MOVING_RANGES,
                                      "train.mode=full",
                                      "train.batch=6",
                                      "train.micro_batch=2",
                                      "network.width=20",
                                      NULL};
    OHM_NEEDS_DEVICE();
    device_model *direct = mlp("cuda", set, 1), *replayed = mlp("cuda", set, 0);
    for (int i = 0; i < 4; i++) {
        double loss[2];
        int correct;
        OHM_OK_OR_FAIL(device_step(direct, i, &loss[0], &correct));
        executor_counts before = executor_count();
        OHM_OK_OR_FAIL(device_step(replayed, i, &loss[1], &correct));
        executor_counts after = executor_count();
        ck_assert_uint_eq(after.allocations, before.allocations);
        if (executor_present())
            ck_assert_uint_eq(after.waits - before.waits, 1);
        ck_assert_double_eq(loss[0], loss[1]);
    }
    device_compare(direct, replayed, 0.0);
    device_drop(direct);
    device_drop(replayed);
}

OHM_TEST(noisy_cuda, kept_reads_are_refused)
{
    static const char *const set[] = {CHIP, "train.mode=full", "train.full=save", NULL};
    ohm_config config;
    const ohm_backend *backend;
    OHM_NEEDS_DEVICE();
    OHM_OK_OR_FAIL(ohm_config_read(&config, NULL));
    for (int i = 0; set[i]; i++)
        OHM_OK_OR_FAIL(ohm_config_set(&config, set[i]));
    OHM_OK_OR_FAIL(ohm_config_set(&config, "device=cuda"));
    ck_assert_int_eq(ohm_backend_find(&backend, &config), OHM_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "key 'train.full'"));
}

/* ---- recorded steps ------------------------------------------------------------------------ */

/* A network with checks never records. Ranges move with every step, and the draws with its number. */
OHM_TEST(noisy_cuda, a_replayed_step_is_the_direct_one)
{
    static const char *const set[] = {
        CHIP, MOVING_RANGES, "train.batch=6", "train.micro_batch=2", "network.width=20", NULL};
    OHM_NEEDS_DEVICE();
    device_model *direct = mlp("cuda", set, 1), *replayed = mlp("cuda", set, 0);
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

static void same_images(void *context, int first, int images, int64_t step)
{
    (void)step;
    device_images(context, first, images, 0);
}

/* Weights that stay and images that stay: what differs from step to step are the draws. */
OHM_TEST(noisy_cuda, every_step_draws_anew)
{
    static const char *const set[] = {CHIP, "network.width=20", NULL};
    static const char *const once[] = {CHIP,
                                       "hardware.programming.every=once",
                                       "hardware.read.model=none",
                                       "hardware.adc.noise_lsb=0",
                                       "network.width=20",
                                       NULL};
    OHM_NEEDS_DEVICE();
    for (int fixed = 0; fixed < 2; fixed++) {
        device_model *m[2] = {mlp("cuda", fixed ? once : set, 1),
                              mlp("cuda", fixed ? once : set, 0)};
        double loss[2][5];
        int correct;
        for (int j = 0; j < 2; j++) {
            const ohm_step s = {.network = m[j]->network,
                                .config = &m[j]->config,
                                .fill = same_images,
                                .context = m[j]->network};
            for (int i = 0; i < 5; i++)
                OHM_OK_OR_FAIL(ohm_step_run(&s, i, 0.0, &loss[j][i], &correct));
            device_drop(m[j]);
        }
        for (int i = 0; i < 5; i++) {
            ck_assert_double_eq(loss[0][i], loss[1][i]);
            for (int k = 0; k < i; k++)
                ck_assert_int_eq(loss[0][i] == loss[0][k], fixed);
        }
    }
}

OHM_TEST(noisy_cuda, a_step_allocates_nothing_and_waits_once_at_its_end)
{
    static const char *const set[] = {CHIP, MOVING_RANGES, "train.batch=6", "train.micro_batch=2",
                                      NULL};
    OHM_NEEDS_DEVICE();
    if (!executor_present())
        OHM_SKIP("allocations and waits are counted on the host executor");
    device_model *m = lenet("cuda", set, 0);
    for (int i = 0; i < 3; i++) {
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

/* ---- evaluation ---------------------------------------------------------------------------- */

/* Logits of eight images on a chip of its own, after a time. */
static void logits_on(float *logits, const char *device, const char *const *set, uint32_t chip,
                      double time_s)
{
    device_model *m = mlp(device, set, 0);
    ohm_pass pass = {.images = 4, .mode = OHM_MODE_NOGRAD, .calibrating = 1};
    for (int calibrated = 0; calibrated < 2; calibrated++) {
        pass.moment = (ohm_chip_moment){
            .seed = 3, .chip = chip * (uint32_t)calibrated, .evaluation = 1, .time_s = time_s};
        pass.calibrating = !calibrated;
        device_images(m->network, 0, 4, calibrated);
        OHM_OK_OR_FAIL(ohm_network_forward(m->network, &pass));
    }
    OHM_OK_OR_FAIL(ohm_network_read(m->network, logits, ohm_network_logits(m->network), 40));
    device_drop(m);
}

OHM_TEST_SLOW(noisy_cuda, chips_and_times_are_those_of_the_cpu)
{
    static const char *const set[] = {"train.mode=nograd", "hardware=rasch2023", "network.width=24",
                                      "hardware.adc.range=calibrated:99", NULL};
    float logits[2][40], others[40];
    OHM_NEEDS_DEVICE();
    for (int i = 0; i < 3; i++) {
        logits_on(logits[0], "cpu", set, i ? 2 : 1, i == 2 ? 1e6 : 1);
        logits_on(logits[1], "cuda", set, i ? 2 : 1, i == 2 ? 1e6 : 1);
        OHM_ASSERT(ohm_compare_close(logits[1], logits[0], 40, 2e-2, 1e-3));
        if (i)
            ck_assert(memcmp(logits[1], others, sizeof others));
        memcpy(others, logits[1], sizeof others);
    }
}

/* ohmgrad mvm, one layer and its ranges, on both. */
OHM_TEST_SLOW(noisy_cuda, one_layer_is_that_of_the_cpu)
{
    enum { M = 300, K = 40, N = 9 }; /* more than one call's rows */
    static float x[M * K], w[N * K], bias[N] = {1, -2, 3};
    char path[5][512];
    static const char *const name[5] = {"x", "w", "b", "cpu", "cuda"};
    static const char *const sets[] = {"adc.range=calibrated:99", "quantise.x_range=learned",
                                       "bias=rows"};
    OHM_NEEDS_DEVICE();
    for (int i = 0; i < 5; i++)
        snprintf(path[i], sizeof path[i], "%s/%s.npy", ohm_test_tmpdir(), name[i]);
    fixture_reals(x, M * K, 1);
    fixture_reals(w, N * K, 2);
    OHM_OK_OR_FAIL(ohm_npy_write(path[0], x, 2, (const int64_t[]){M, K}));
    OHM_OK_OR_FAIL(ohm_npy_write(path[1], w, 2, (const int64_t[]){N, K}));
    OHM_OK_OR_FAIL(ohm_npy_write(path[2], bias, 1, (const int64_t[]){N}));
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        ohm_npy y[2];
        for (int device = 0; device < 2; device++) {
            const char *const words[] = {"mvm",
                                         "--hardware",
                                         "rasch2023",
                                         "--x",
                                         path[0],
                                         "--w",
                                         path[1],
                                         "--bias",
                                         path[2],
                                         "--out",
                                         path[3 + device],
                                         "--device",
                                         name[3 + device],
                                         "--set",
                                         sets[i]};
            char *argv[sizeof words / sizeof *words + 1] = {0};
            for (size_t j = 0; j < sizeof words / sizeof *words; j++)
                argv[j] = strdup(words[j]);
            OHM_OK_OR_FAIL(ohm_cmd_mvm(sizeof words / sizeof *words, argv));
            OHM_OK_OR_FAIL(ohm_npy_read(&y[device], path[3 + device]));
            for (size_t j = 0; argv[j]; j++)
                free(argv[j]);
        }
        OHM_ASSERT(ohm_compare_close(y[1].value, y[0].value, M * N, 2e-2, 1e-3));
        ohm_npy_free(&y[0]);
        ohm_npy_free(&y[1]);
    }
}

/* ---- checkpoints --------------------------------------------------------------------------- */

/* Two steps of `a`, a checkpoint, and a step of each. */
static void hand_over(const char *const *set, int to_device)
{
    static const char *const names[2] = {"cpu", "cuda"};
    char path[256];
    device_model *a = mlp(names[!to_device], set, 0), *b = mlp(names[to_device], set, 0);
    ohm_train_state state = {.step = 2, .evaluated = -1, .best_accuracy = -1}, loaded;
    double loss[2];
    int correct;
    snprintf(path, sizeof path, "%s/chip.safetensors", ohm_test_tmpdir());
    for (int i = 0; i < 2; i++)
        OHM_OK_OR_FAIL(device_step(a, i, &loss[0], &correct));
    OHM_OK_OR_FAIL(ohm_checkpoint_save(path, a->network, &a->config, &state));
    OHM_OK_OR_FAIL(ohm_checkpoint_load(path, b->network, &loaded));
    device_compare(a, b, 0.0);
    OHM_OK_OR_FAIL(device_step(a, 2, &loss[0], &correct));
    OHM_OK_OR_FAIL(device_step(b, 2, &loss[1], &correct));
    ck_assert_msg(fabs(loss[0] - loss[1]) <= 1e-3 * loss[0], "%.9g, %.9g", loss[0], loss[1]);
    device_compare(a, b, 1e-2);
    device_drop(a);
    device_drop(b);
}

/* Calibrated ranges stay as they were loaded: nothing is measured again. */
OHM_TEST(noisy_cuda, checkpoints_with_ranges_pass_between_devices)
{
    static const char *const moving[] = {CHIP, MOVING_RANGES, "network.width=20", NULL},
                             *const calibrated[] = {CHIP, "hardware.adc.range=calibrated",
                                                    "network.width=20", NULL};
    OHM_NEEDS_DEVICE();
    for (int to_device = 0; to_device < 2; to_device++) {
        hand_over(moving, to_device);
        hand_over(calibrated, to_device);
    }
}

/* ---- what goes wrong ----------------------------------------------------------------------- */

/* The line is the CPU's, with the layer's name; weights stay, and the next step is not blamed. */
static void faults(const char *const *set, int parameter, float value, const char *expected)
{
    for (int steps = 0; steps < 3; steps += 2) { /* direct, then replayed */
        device_model *m = mlp("cuda", set, 0);
        double loss;
        int correct, parameters;
        size_t count;
        for (int i = 0; i < steps; i++)
            OHM_OK_OR_FAIL(device_step(m, i, &loss, &correct));
        const ohm_parameter *p = ohm_network_parameters(m->network, &parameters);
        float *weight = device_part(m, 0, 0, &count), old;
        OHM_OK_OR_FAIL(ohm_network_read(m->network, &old, p[parameter].value, 1));
        OHM_OK_OR_FAIL(ohm_network_write(m->network, p[parameter].value, &value, 1));
        ck_assert_int_eq(device_step(m, steps, &loss, &correct), OHM_ERR_DATA);
        ck_assert_msg(strstr(ohm_error_text(), expected) != NULL, "'%s' lacks '%s'",
                      ohm_error_text(), expected);
        OHM_OK_OR_FAIL(ohm_network_write(m->network, p[parameter].value, &old, 1));
        float *after = device_part(m, 0, 0, &count);
        OHM_ASSERT(ohm_compare_bits(after, weight, count));
        OHM_OK_OR_FAIL(device_step(m, steps + 1, &loss, &correct));
        free(weight);
        free(after);
        device_drop(m);
    }
}

OHM_TEST(noisy_cuda, bad_data_end_the_step_with_the_layer_named)
{
    static const char *const set[] = {CHIP, "network.width=20", "network.hidden_layers=2", NULL},
                             *const positive[] = {CHIP, "hardware.input.encoding=unsigned", NULL};
    double loss;
    int correct;
    OHM_NEEDS_DEVICE();
    faults(set, 3, NAN, "layer fc2: noisy layer 2: its weights hold NaN or infinity");
    faults(set, 1, INFINITY, "layer fc2: noisy layer 2: its input holds NaN or infinity");
    device_model *m = mlp("cuda", positive, 0);
    ck_assert_int_eq(device_step(m, 0, &loss, &correct), OHM_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "layer fc1: noisy layer 0: input.encoding "
                                                   "'unsigned' got a negative input"));
    device_drop(m);
}
