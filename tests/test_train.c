#include "host/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "datasets/datasets.h"
#include "host/checkpoint.h"
#include "host/file.h"
#include "host/safetensors.h"
#include "host/schedule.h"
#include "models/networks.h"
#include "tests/compare.h"
#include "tests/runner.h"

/* ---- schedule ------------------------------------------------------------------------------ */

OHM_TEST(train, schedules_follow_their_formulas)
{
    static ohm_config c;
    OHM_OK_OR_FAIL(ohm_config_read(&c, NULL));
    c.train.lr = 0.5;
    c.train.batch = 10;
    c.train.epochs = 3;
    ck_assert_int_eq(ohm_schedule_steps_per_epoch(&c, 39), 3);
    ck_assert_int_eq(ohm_schedule_steps(&c, 39), 9);
    c.train.steps = 5;
    ck_assert_int_eq(ohm_schedule_steps(&c, 39), 5);
    c.train.schedule = OHM_SCHEDULE_CONSTANT;
    ck_assert(ohm_schedule_lr(&c, 0, 100) == 0.5 && ohm_schedule_lr(&c, 99, 100) == 0.5);
    c.train.warmup_steps = 4;
    ck_assert_double_eq_tol(ohm_schedule_lr(&c, 0, 100), 0.125, 1e-15);
    ck_assert_double_eq_tol(ohm_schedule_lr(&c, 3, 100), 0.5, 1e-15);
    c.train.schedule = OHM_SCHEDULE_COSINE;
    c.train.lr_final = 0.1;
    ck_assert_double_eq_tol(ohm_schedule_lr(&c, 4, 104), 0.5, 1e-15);
    ck_assert_double_eq_tol(ohm_schedule_lr(&c, 54, 104), 0.275, 1e-15);
    ck_assert_double_eq_tol(ohm_schedule_lr(&c, 104, 104), 0.05, 1e-15);
    c.train.schedule = OHM_SCHEDULE_STEP;
    c.train.milestone_steps = 10;
    c.train.gamma = 0.1;
    ck_assert_double_eq_tol(ohm_schedule_lr(&c, 9, 100), 0.5, 1e-15);
    ck_assert_double_eq_tol(ohm_schedule_lr(&c, 29, 100), 0.005, 1e-15);
}

/* ---- runs ---------------------------------------------------------------------------------- */

enum { STEPS = 20 };

typedef struct {
    ohm_config config;
    ohm_architecture architecture;
    ohm_dataset train, test;
} experiment;

/* A small MLP on the digits, through a noisy chip, with everything that a checkpoint must carry. */
static experiment *make_experiment(const char *const *set)
{
    static const char *const base[] = {"threads=1", "network.width=24", "network.hidden_layers=1", "hardware=lognormal", "data.crop=1",
                                       "hardware.quantise.x_range=running:0.9", "data.train_limit=300", "data.test_limit=40",
                                       "train.optimiser=adam", "train.lr=0.01", "train.batch=32", "train.steps=20", "train.log_every=3",
                                       "train.checkpoint_every=4", "train.eval_every=10", "eval.chips=2", "eval.batch=40", NULL};
    experiment *e = calloc(1, sizeof *e);
    OHM_OK_OR_FAIL(ohm_config_read(&e->config, NULL));
    for (int i = 0; base[i]; i++)
        OHM_OK_OR_FAIL(ohm_config_set(&e->config, base[i]));
    for (int i = 0; set && set[i]; i++)
        OHM_OK_OR_FAIL(ohm_config_set(&e->config, set[i]));
    OHM_OK_OR_FAIL(ohm_config_check(&e->config));
    OHM_OK_OR_FAIL(ohm_datasets_load(&e->train, &e->test, &e->config));
    OHM_OK_OR_FAIL(ohm_model_build(&e->architecture, &e->config, e->train.height, e->train.width, e->train.channels, e->train.classes));
    return e;
}

static void free_experiment(experiment *e)
{
    ohm_dataset_free(&e->train);
    ohm_dataset_free(&e->test);
    free(e);
}

static ohm_status train(const experiment *e, const ohm_train_options *options, ohm_train_result *result)
{
    const ohm_train_job job = {&e->config, &e->architecture, &e->train, &e->test};
    return ohm_train(&job, options, result);
}

/* What happens to a run on the way. */
typedef struct {
    int kill_at, stop_at; /* step; 0: never */
    int in_evaluation;    /* only with that step's evaluation */
    volatile sig_atomic_t stop;
} accident;

static void cause(void *context, const ohm_train_event *event)
{
    accident *a = context;
    if (event->step == a->kill_at && event->evaluated == a->in_evaluation)
        raise(SIGKILL);
    if (event->step == a->stop_at)
        a->stop = 1;
}

/* Trains in a process of its own, with `threads` threads. Returns what waitpid says; a status other
 * than OHM_OK becomes the exit status. */
static int train_in_child(const char *const *set, const char *dir, int resume, int threads, accident a)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        experiment *e = make_experiment(set);
        e->config.threads = threads;
        const ohm_train_options options = {.run_dir = dir, .resume = resume, .stop = &a.stop, .on_event = cause, .context = &a};
        ohm_status status = train(e, &options, NULL);
        free_experiment(e);
        _exit((int)status);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

static const char *run_dir(const char *name)
{
    static char path[64][600];
    static int next;
    char *at = path[next++ % 64];
    snprintf(at, sizeof path[0], "%s/%s", ohm_test_tmpdir(), name);
    return at;
}

static ohm_safetensors *final_weights(const char *dir)
{
    char path[700];
    ohm_safetensors *file;
    snprintf(path, sizeof path, "%s/checkpoints/step-%08d.safetensors", dir, STEPS);
    OHM_OK_OR_FAIL(ohm_safetensors_read(&file, path));
    return file;
}

/* metrics.jsonl without its timings. */
static char *metrics_of(const char *dir)
{
    char path[700], *text, *from, *to;
    size_t size;
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    OHM_OK_OR_FAIL(ohm_file_read(&text, &size, path, 1 << 20));
    for (from = to = text; *from;) {
        if (strncmp(from, ", \"seconds\": ", 13) == 0)
            from += 13 + strspn(from + 13, "0123456789.e-+");
        else
            *to++ = *from++;
    }
    *to = 0;
    return text;
}

/* Both runs ended with the same bits of every tensor and the same metrics. */
static void check_same_run(const char *a, const char *b)
{
    ohm_safetensors *x = final_weights(a), *y = final_weights(b);
    ck_assert_int_eq(ohm_safetensors_count(x), ohm_safetensors_count(y));
    for (int i = 0; i < ohm_safetensors_count(x); i++) {
        const ohm_safetensor *s = ohm_safetensors_at(x, i), *t = ohm_safetensors_at(y, i);
        ck_assert_str_eq(s->name, t->name);
        ck_assert_uint_eq(s->bytes, t->bytes);
        ck_assert_msg(memcmp(s->data, t->data, s->bytes) == 0, "%s differs", s->name);
    }
    ck_assert_str_eq(ohm_safetensors_metadata(x, "ohmgrad.best_accuracy"), ohm_safetensors_metadata(y, "ohmgrad.best_accuracy"));
    char *p = metrics_of(a), *q = metrics_of(b);
    ck_assert_str_eq(p, q);
    ck_assert_ptr_nonnull(strstr(p, "noisy_accuracy"));
    free(p);
    free(q);
    ohm_safetensors_destroy(x);
    ohm_safetensors_destroy(y);
}

static const accident none = {0};

/* Kills a run, resumes it, kills it at the next accident ...: it ends like an undisturbed one. */
static void kill_and_resume(const char *whole, const char *name, const accident *kills, int count)
{
    const char *dir = run_dir(name);
    for (int i = 0; i < count; i++) {
        int status = train_in_child(NULL, dir, i > 0, 1 + (i == 1), kills[i]);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    ck_assert_int_eq(train_in_child(NULL, dir, 1, 1, none), 0);
    check_same_run(dir, whole);
}

/* Before the first checkpoint, right behind one, between two, at the last step. */
static const accident kills[] = {{.kill_at = 3}, {.kill_at = 5}, {.kill_at = 11}, {.kill_at = 20},
                                 {.kill_at = 1}, {.kill_at = 10, .in_evaluation = 1}, {.kill_at = 20, .in_evaluation = 1}, {.kill_at = 4}};

OHM_TEST(train, killed_and_resumed_ends_with_the_same_bits)
{
    const char *whole = run_dir("whole");
    ck_assert_int_eq(train_in_child(NULL, whole, 0, 1, none), 0);
    kill_and_resume(whole, "killed", kills, 4);
}

OHM_TEST_SLOW(train, killed_anywhere_and_resumed_ends_with_the_same_bits)
{
    const char *whole = run_dir("whole");
    ck_assert_int_eq(train_in_child(NULL, whole, 0, 2, none), 0);
    for (int i = 0; i < (int)(sizeof kills / sizeof *kills); i++) {
        char name[32];
        snprintf(name, sizeof name, "killed%d", i);
        kill_and_resume(whole, name, &kills[i], 1);
    }
}

OHM_TEST(train, interrupted_and_resumed_ends_with_the_same_bits)
{
    const char *whole = run_dir("whole");
    ck_assert_int_eq(train_in_child(NULL, whole, 0, 1, none), 0);
    static const int stops[] = {0, 2, 8, 20}; /* 0: before the first step; 20: the evaluation is what is interrupted */
    for (int i = 0; i < 4; i++) {
        char name[32], checkpoint[64];
        snprintf(name, sizeof name, "stopped%d", i);
        snprintf(checkpoint, sizeof checkpoint, "stopped%d/checkpoints/step-%08d.safetensors", i, stops[i]);
        const char *dir = run_dir(name);
        int status = train_in_child(NULL, dir, 0, 1, (accident){.stop_at = stops[i], .stop = stops[i] == 0});
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == OHM_ERR_INTERRUPTED);
        ck_assert_int_eq(access(run_dir(checkpoint), F_OK), 0);
        ck_assert_int_eq(train_in_child(NULL, dir, 1, 1, none), 0);
        check_same_run(dir, whole);
    }
}

OHM_TEST(train, damaged_checkpoint_falls_back_to_the_previous)
{
    const char *whole = run_dir("whole"), *dir = run_dir("damaged");
    ck_assert_int_eq(train_in_child(NULL, whole, 0, 1, none), 0);
    ck_assert(WIFSIGNALED(train_in_child(NULL, dir, 0, 1, (accident){.kill_at = 15})));
    ck_assert_int_eq(truncate(run_dir("damaged/checkpoints/step-00000012.safetensors"), 9999), 0);
    ck_assert_int_eq(train_in_child(NULL, dir, 1, 1, none), 0);
    check_same_run(dir, whole);
}

OHM_TEST_SLOW(train, every_mode_and_network_part_survives_a_kill)
{
    static const char *const sets[][8] = {
        {"train.mode=baseline", "train.optimiser=sgd", "train.schedule=step", NULL},
        {"train.mode=detach", "hardware.quantise.x_range=learned", "hardware.output.per_column_scale=true", NULL},
        {"train.micro_batch=8", "hardware.programming.every=once", "hardware.adc.range=running:0.9", NULL},
        {"train.mode=full", NULL},
        {"train.mode=full", "hardware.ir_drop.model=exact", "hardware.tile.rows=32", "hardware.tile.cols=32", NULL},
        {"network.kind=resnet20", "train.batch=8", "data.test_limit=8", "eval.chips=1", NULL},
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        char whole[600], dir[600];
        snprintf(whole, sizeof whole, "%s/whole%zu", ohm_test_tmpdir(), i);
        snprintf(dir, sizeof dir, "%s/killed%zu", ohm_test_tmpdir(), i);
        ck_assert_int_eq(train_in_child(sets[i], whole, 0, 2, none), 0);
        ck_assert(WIFSIGNALED(train_in_child(sets[i], dir, 0, 1, (accident){.kill_at = 14})));
        ck_assert_int_eq(train_in_child(sets[i], dir, 1, 2, none), 0);
        check_same_run(dir, whole);
    }
}

/* ---- learning ------------------------------------------------------------------------------ */

OHM_TEST(train, digits_are_learnt_through_a_noisy_chip)
{
    static const char *const set[] = {"data.train_limit=0", "data.test_limit=0", "train.steps=150", "train.batch=64", "network.width=48",
                                      "train.eval_every=0", "data.crop=0", NULL};
    experiment *e = make_experiment(set);
    ohm_train_result result;
    ohm_network *network;
    const ohm_train_options options = {.network = &network};
    OHM_OK_OR_FAIL(train(e, &options, &result));
    ck_assert_int_eq(result.steps, 150);
    ck_assert_double_lt(result.loss, 0.25);
    ck_assert_double_gt(result.clean_accuracy, 0.93);
    ck_assert_double_gt(result.noisy.mean, 0.90);
    ck_assert_int_eq(result.noisy.chips, 2);
    ck_assert(result.best_accuracy == result.noisy.mean && result.memory.peak_total > 0);
    ck_assert_ptr_nonnull(network);
    ohm_network_destroy(network);
    free_experiment(e);
}

/* The weights after `steps` steps of plain SGD. */
static float *trained_weights(const char *const *set, size_t *count)
{
    experiment *e = make_experiment(set);
    ohm_network *network;
    const ohm_train_options options = {.network = &network, .no_evaluation = 1};
    OHM_OK_OR_FAIL(train(e, &options, NULL));
    int parameters;
    const ohm_parameter *p = ohm_network_parameters(network, &parameters);
    *count = p[0].count;
    float *copy = malloc(p[0].count * sizeof *copy);
    memcpy(copy, p[0].value, p[0].count * sizeof *copy);
    ohm_network_destroy(network);
    free_experiment(e);
    return copy;
}

/* A batch at once or in quarters: the same gradient up to the order of a float sum. Fixed ranges
 * keep the chip's codes from hanging on the batch. */
OHM_TEST(train, micro_batches_add_up_to_the_batch)
{
    static const char *const whole_set[] = {"train.mode=baseline", "train.optimiser=sgd", NULL};
    static const char *const parts_set[] = {"train.mode=baseline", "train.optimiser=sgd", "train.micro_batch=8", NULL};
    size_t count, other;
    float *whole = trained_weights(whole_set, &count), *parts = trained_weights(parts_set, &other);
    ck_assert_uint_eq(count, other);
    OHM_ASSERT(ohm_compare_close(parts, whole, count, 1e-6, 1e-5));
    free(whole);
    free(parts);
}

/* ---- bad input ----------------------------------------------------------------------------- */

OHM_TEST(train, divergence_stops_with_the_last_good_checkpoint)
{
    static const char *const set[] = {"train.lr=1e3", "train.optimiser=sgd", "train.mode=baseline", "train.schedule=constant",
                                      "train.checkpoint_every=1", "train.eval_every=0", "network.hidden_layers=4", NULL};
    experiment *e = make_experiment(set);
    const ohm_train_options options = {.run_dir = run_dir("nan")};
    ohm_train_result result;
    ck_assert_int_eq(train(e, &options, &result), OHM_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "last good checkpoint: step "));
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "lower train.lr"));
    ck_assert_ptr_null(strchr(ohm_error_text(), '\n'));
    ck_assert_int_gt(result.steps, 0);
    char newest[OHM_CHECKPOINT_PATH_BYTES];
    OHM_OK_OR_FAIL(ohm_checkpoint_newest(newest, options.run_dir, NULL));
    free_experiment(e);
}

OHM_TEST(train, what_does_not_fit_is_refused_before_anything_is_written)
{
    experiment *e = make_experiment(NULL);
    const ohm_train_options options = {.run_dir = run_dir("never")};
    e->config.train.batch = 301;
    ck_assert_int_eq(train(e, &options, NULL), OHM_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "train.batch"));
    e->config.train.batch = 32;
    e->architecture.channels = 3;
    ck_assert_int_eq(train(e, &options, NULL), OHM_ERR_ARGUMENT);
    ck_assert_int_ne(access(options.run_dir, F_OK), 0);
    free_experiment(e);
}

/* ---- evaluation ---------------------------------------------------------------------------- */

OHM_TEST(train, evaluation_repeats_and_reports_its_chips)
{
    static const char *const set[] = {"train.steps=60", "train.mode=baseline", "hardware.programming.level=4", NULL};
    experiment *e = make_experiment(set);
    ohm_network *network;
    const ohm_train_options options = {.network = &network, .no_evaluation = 1};
    OHM_OK_OR_FAIL(train(e, &options, NULL));
    ohm_evaluator *evaluator;
    int calibrated;
    double accuracies[8], again[8], clean;
    ohm_chip_accuracy out;
    OHM_OK_OR_FAIL(ohm_evaluator_create(&evaluator, &e->architecture, &e->config));
    for (int round = 0; round < 2; round++) {
        OHM_OK_OR_FAIL(ohm_evaluator_copy(evaluator, network, &calibrated));
        OHM_OK_OR_FAIL(ohm_evaluator_calibrate(evaluator, &e->train));
        OHM_OK_OR_FAIL(ohm_evaluator_clean(evaluator, &e->test, &clean));
        OHM_OK_OR_FAIL(ohm_evaluator_chips(evaluator, &e->test, 8, -1, round ? again : accuracies, &out));
    }
    ck_assert_mem_eq(accuracies, again, sizeof again);
    double mean = 0, variance = 0;
    for (int i = 0; i < 8; i++)
        mean += accuracies[i] / 8;
    for (int i = 0; i < 8; i++)
        variance += (accuracies[i] - mean) * (accuracies[i] - mean) / 7;
    ck_assert_double_eq_tol(out.mean, mean, 1e-12);
    ck_assert_double_eq_tol(out.deviation, sqrt(variance), 1e-12);
    ck_assert_double_gt(out.deviation, 0);
    ck_assert(clean > 0.5 && clean <= 1);
    ohm_evaluator_destroy(evaluator);
    ohm_evaluator_destroy(NULL);
    ohm_network_destroy(network);
    free_experiment(e);
}

OHM_TEST(train, evaluation_without_a_chip_has_no_chips)
{
    static const char *const set[] = {"hardware=none", NULL};
    experiment *e = make_experiment(set);
    ohm_train_result result;
    const ohm_train_options options = {0};
    OHM_OK_OR_FAIL(train(e, &options, &result));
    ck_assert_int_eq(result.noisy.chips, 0);
    ck_assert(result.best_accuracy >= result.clean_accuracy && result.clean_accuracy > 0);
    ohm_evaluator *evaluator;
    ohm_chip_accuracy out;
    OHM_OK_OR_FAIL(ohm_evaluator_create(&evaluator, &e->architecture, &e->config));
    ck_assert_int_eq(ohm_evaluator_chips(evaluator, &e->test, 2, -1, NULL, &out), OHM_ERR_ARGUMENT);
    ohm_evaluator_destroy(evaluator);
    free_experiment(e);
}
