#include "host/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "host/backend.h"
#include "host/checkpoint.h"
#include "host/file.h"
#include "host/metrics.h"
#include "host/plan.h"
#include "host/progress.h"
#include "host/run.h"
#include "host/schedule.h"
#include "host/step.h"

enum { TRACED_STEPS = 3 };

typedef struct {
    const ohm_train_job *job;
    const ohm_train_options *options;
    const ohm_config *config;
    ohm_trace *trace;
    int64_t stepped;            /* in this process */
    enum { TRACE_WAITS, TRACE_RECORDS, TRACE_WRITTEN } trace_state;
    ohm_network *network;
    ohm_evaluator *evaluator;   /* made at the first evaluation */
    ohm_run *run;
    ohm_metrics *metrics;
    ohm_progress progress;
    ohm_train_state state;
    ohm_train_result result;
    int64_t steps, steps_per_epoch;
    int64_t saved;              /* step of the last checkpoint; -1: none */
    int64_t saved_evaluated;    /* and its state.evaluated */
    uint32_t *order;            /* [train->count], of epoch `ordered` */
    int64_t ordered;            /* -1: none yet */
    double start;               /* seconds of the monotonic clock */
} trainer;

static int stopped(const trainer *t)
{
    return t->options->stop && *t->options->stop;
}

static int every(int interval, int64_t step)
{
    return interval > 0 && step % interval == 0;
}

/* ---- one step ------------------------------------------------------------------------------ */

/* The indices of step `step`'s batch. */
static const uint32_t *batch_of(trainer *t, int64_t step)
{
    int64_t epoch = step / t->steps_per_epoch;
    if (epoch != t->ordered)
        ohm_dataset_order(t->order, t->job->train->count, (uint32_t)t->config->seed, (uint32_t)epoch);
    t->ordered = epoch;
    return t->order + step % t->steps_per_epoch * t->config->train.batch;
}

/* A part of the batch of `step`, as that step sees it. */
static void fill_images(trainer *t, const uint32_t *indices, int first, int images, int64_t step)
{
    const ohm_augment augment = {.crop = t->config->data.crop, .flip = t->config->data.flip, .seed = (uint32_t)t->config->seed,
                                 .step = (uint32_t)step, .first = (uint64_t)first};
    ohm_dataset_batch(ohm_network_images(t->network), ohm_network_labels(t->network), t->job->train, indices + first, images, &augment);
}

/* ---- the trace ----------------------------------------------------------------------------- */

static ohm_status write_trace(trainer *t)
{
    const ohm_trace_track track = {t->config->name, t->trace};
    t->trace_state = TRACE_WRITTEN;
    ohm_trace_pause(t->trace);
    ohm_network_trace_steps(t->network, 0);
    return ohm_trace_write(t->options->trace_path, &track, 1);
}

/* Before a step: recording begins with the second step of this process, which has touched its memory,
 * or with the first where there is no other. */
static ohm_status follow_trace(trainer *t)
{
    int first = t->stepped++ == 0, only = t->steps - t->state.step == 1;
    if (!t->options->trace_path || t->trace_state == TRACE_WRITTEN || (first && !only))
        return OHM_OK;
    if (t->trace_state == TRACE_WAITS) {
        t->trace_state = TRACE_RECORDS;
        ohm_network_trace_steps(t->network, 1);
        return ohm_trace_record(t->trace, TRACED_STEPS);
    }
    return t->stepped > TRACED_STEPS + 1 ? write_trace(t) : OHM_OK;
}

/* ---- one step ------------------------------------------------------------------------------ */

static void fill_step(void *context, int first, int images, int64_t step)
{
    trainer *t = context;
    fill_images(t, batch_of(t, step), first, images, step);
}

static ohm_status train_step(trainer *t)
{
    OHM_TRY(follow_trace(t));
    const ohm_step one = {.network = t->network, .config = t->config, .trace = t->trace, .fill = fill_step, .context = t,
                          .ahead = t->state.step + 1 < t->steps};
    const int64_t step = t->state.step;
    double loss, lr = ohm_schedule_lr(t->config, step, t->steps);
    int correct;
    OHM_TRY(ohm_step_run(&one, step, lr, &loss, &correct));
    t->state.step = step + 1;
    t->state.loss_sum += loss * t->config->train.batch;
    t->state.correct += correct;
    t->state.images += t->config->train.batch;
    char what[64];
    snprintf(what, sizeof what, "loss %.4f", loss);
    ohm_progress_update(&t->progress, t->state.step, what);
    const ohm_train_event event = {.step = t->state.step, .steps = t->steps, .loss = loss, .lr = lr,
                                   .accuracy = (double)correct / t->config->train.batch};
    if (t->options->on_event)
        t->options->on_event(t->options->context, &event);
    return OHM_OK;
}

static int reads_chip(const ohm_config *config)
{
    return config->hardware_enabled && config->train.mode != OHM_MODE_BASELINE;
}

/* Ranges that come from data before the first step. */
static ohm_status calibrate(trainer *t)
{
    if (!reads_chip(t->config))
        return OHM_OK;
    ohm_pass pass = ohm_step_pass(t->config, 0);
    pass.calibrating = 1;
    int batches = t->config->train.calibration_batches;
    for (int64_t b = 0; b < batches && b < t->steps_per_epoch; b++) {
        const uint32_t *indices = batch_of(t, b);
        for (int first = 0; first < t->config->train.batch; first += pass.images) {
            fill_images(t, indices, first, pass.images, 0);
            pass.first_image = (uint64_t)(b * t->config->train.batch + first);
            OHM_TRY(ohm_network_forward(t->network, &pass));
        }
    }
    return OHM_OK;
}

/* ---- what is written ----------------------------------------------------------------------- */

static double seconds(const trainer *t)
{
    return round((ohm_progress_clock() - t->start) * 1e3) / 1e3;
}

static double epochs(const trainer *t)
{
    return round((double)t->state.step / (double)t->steps_per_epoch * 1e4) / 1e4;
}

/* A line about the steps since the last one. */
static ohm_status log_steps(trainer *t)
{
    ohm_train_state *state = &t->state;
    double lr = ohm_schedule_lr(t->config, state->step - 1, t->steps);
    t->result.loss = state->loss_sum / (double)state->images;
    t->result.accuracy = (double)state->correct / (double)state->images;
    const ohm_metric line[] = {{"epoch", epochs(t)}, {"loss", t->result.loss}, {"accuracy", t->result.accuracy}, {"lr", lr},
                               {"seconds", seconds(t)}};
    state->loss_sum = 0;
    state->correct = state->images = 0;
    ohm_progress_line(&t->progress, "step %" PRId64 "/%" PRId64 "  loss %.4f  accuracy %.4f  lr %.4g  %.1f s", state->step, t->steps,
                      t->result.loss, t->result.accuracy, lr, seconds(t));
    return t->metrics ? ohm_metrics_write(t->metrics, state->step, line, sizeof line / sizeof *line) : OHM_OK;
}

static ohm_status report_evaluation(trainer *t)
{
    const ohm_train_result *r = &t->result;
    const ohm_metric line[] = {{"epoch", epochs(t)}, {"clean_accuracy", r->clean_accuracy}, {"seconds", seconds(t)},
                               {"chips", r->noisy.chips}, {"noisy_accuracy", r->noisy.mean}, {"noisy_deviation", r->noisy.deviation}};
    const ohm_train_event event = {.step = t->state.step, .steps = t->steps, .evaluated = 1, .clean_accuracy = r->clean_accuracy,
                                   .noisy = r->noisy};
    if (r->noisy.chips)
        ohm_progress_line(&t->progress, "step %" PRId64 "/%" PRId64 "  test accuracy: clean %.4f, on %d chips %.4f ± %.4f", t->state.step,
                          t->steps, r->clean_accuracy, r->noisy.chips, r->noisy.mean, r->noisy.deviation);
    else
        ohm_progress_line(&t->progress, "step %" PRId64 "/%" PRId64 "  test accuracy %.4f", t->state.step, t->steps, r->clean_accuracy);
    if (t->options->on_event)
        t->options->on_event(t->options->context, &event);
    return t->metrics ? ohm_metrics_write(t->metrics, t->state.step, line, r->noisy.chips ? 6 : 3) : OHM_OK;
}

static ohm_status make_evaluator(trainer *t)
{
    if (t->evaluator)
        return OHM_OK;
    OHM_TRY(ohm_evaluator_create(&t->evaluator, t->job->architecture, t->config));
    ohm_evaluator_stop_on(t->evaluator, t->options->stop);
    return OHM_OK;
}

static ohm_status evaluate(trainer *t)
{
    int calibrated;
    ohm_train_result *r = &t->result;
    ohm_progress_update(&t->progress, t->state.step, "evaluating");
    OHM_TRY(make_evaluator(t));
    OHM_TRY(ohm_evaluator_copy(t->evaluator, t->network, &calibrated));
    OHM_TRY(ohm_evaluator_clean(t->evaluator, t->job->test, &r->clean_accuracy));
    if (t->config->hardware_enabled) {
        if (!calibrated || t->config->train.mode == OHM_MODE_BASELINE)
            OHM_TRY(ohm_evaluator_calibrate(t->evaluator, t->job->train));
        OHM_TRY(ohm_evaluator_chips(t->evaluator, t->job->test, t->config->eval.chips, -1, NULL, &r->noisy));
    }
    double accuracy = t->config->hardware_enabled ? r->noisy.mean : r->clean_accuracy;
    t->state.best_accuracy = fmax(t->state.best_accuracy, accuracy);
    t->state.evaluated = t->state.step;
    return report_evaluation(t);
}

static ohm_status save(trainer *t)
{
    if (!t->run || (t->saved == t->state.step && t->saved_evaluated == t->state.evaluated))
        return OHM_OK;
    OHM_TRY(ohm_metrics_sync(t->metrics));
    t->state.metrics_bytes = ohm_metrics_bytes(t->metrics);
    OHM_TRY(ohm_checkpoint_save_in(t->options->run_dir, t->network, t->config, &t->state));
    t->saved = t->state.step;
    t->saved_evaluated = t->state.evaluated;
    return OHM_OK;
}

/* ---- the run ------------------------------------------------------------------------------- */

/* Where it fails but the device works on, the steps so far are kept. */
static ohm_status evaluate_or_save(trainer *t)
{
    char text[1024];
    ohm_status status = evaluate(t);
    if (status == OHM_OK || status == OHM_ERR_INTERRUPTED || status == OHM_ERR_DEVICE)
        return status;
    snprintf(text, sizeof text, "%s", ohm_error_text());
    (void)save(t);
    return OHM_FAIL(status, "%s", text);
}

/* What is due after `state.step` steps. A checkpoint that is due is written before the evaluation, which may
 * take long or fail, and again with its result; a run resumed in between evaluates first. */
static ohm_status finish_step(trainer *t)
{
    const ohm_config *c = t->config;
    const int64_t step = t->state.step;
    int end = step == t->steps, due = end || every(c->train.checkpoint_every, step);
    if (t->state.images && (end || every(c->train.log_every, step)))
        OHM_TRY(log_steps(t));
    if (!t->options->no_evaluation && t->state.evaluated != step && (end || every(c->train.eval_every, step))) {
        if (due)
            OHM_TRY(save(t));
        OHM_TRY(evaluate_or_save(t));
    }
    return due ? save(t) : OHM_OK;
}

static ohm_status interrupted(trainer *t)
{
    OHM_TRY(save(t));
    ohm_progress_end(&t->progress);
    if (!t->run)
        return OHM_FAIL(OHM_ERR_INTERRUPTED, "interrupted after step %" PRId64, t->state.step);
    return OHM_FAIL(OHM_ERR_INTERRUPTED, "interrupted after step %" PRId64 "; go on with --resume %s", t->state.step, t->options->run_dir);
}

/* A new run gathers its ranges; a resumed one has them, and does what its last step left undone. */
static ohm_status begin(trainer *t)
{
    if (t->saved >= 0)
        return t->state.step > 0 ? finish_step(t) : OHM_OK;
    OHM_TRY(calibrate(t));
    ohm_progress_start(&t->progress, t->options->log, 0, t->steps); /* the rate is that of the steps */
    return OHM_OK;
}

/* The plan was reserved before the first step: what a device lacks later, it lacks beside it. */
static ohm_status say_plan(const trainer *t, ohm_status status)
{
    char needs[192];
    const ohm_memory *memory = ohm_network_memory(t->network);
    const ohm_plan plan = {.training = *memory, .total = memory->reserved};
    if (status != OHM_ERR_MEMORY || !strcmp(ohm_network_device(t->network), "cpu"))
        return status;
    ohm_plan_describe(needs, sizeof needs, &plan);
    return ohm_error_prefix(status, "beside the plan of %s; lower train.micro_batch", needs);
}

static ohm_status loop(trainer *t)
{
    ohm_status status = begin(t);
    while (status == OHM_OK && t->state.step < t->steps && !stopped(t)) {
        status = train_step(t);
        if (status == OHM_OK)
            status = finish_step(t);
    }
    if (status == OHM_OK && t->trace_state == TRACE_RECORDS)
        status = write_trace(t);
    if (status == OHM_ERR_INTERRUPTED || (status == OHM_OK && t->state.step < t->steps))
        return interrupted(t);
    status = say_plan(t, status);
    if (status == OHM_OK || !t->run)
        return status == OHM_OK ? OHM_OK : ohm_error_prefix(status, "after step %" PRId64, t->state.step);
    if (t->saved < 0)
        return ohm_error_prefix(status, "%s, after step %" PRId64 " (no checkpoint)", t->options->run_dir, t->state.step);
    return ohm_error_prefix(status, "%s, after step %" PRId64 " (last good checkpoint: step %" PRId64 ")", t->options->run_dir,
                            t->state.step, t->saved);
}

static ohm_status check_job(const ohm_train_job *job)
{
    const ohm_architecture *a = job->architecture;
    const ohm_dataset *sets[2] = {job->train, job->test};
    for (int i = 0; i < 2; i++)
        if (sets[i]->height != a->height || sets[i]->width != a->width || sets[i]->channels != a->channels || sets[i]->classes > a->classes)
            return OHM_FAIL(OHM_ERR_ARGUMENT, "%s: images of %dx%dx%d in %d classes do not fit %s, which takes %dx%dx%d in %d", sets[i]->name,
                            sets[i]->height, sets[i]->width, sets[i]->channels, sets[i]->classes, a->name, a->height, a->width,
                            a->channels, a->classes);
    if (job->config->train.batch > job->train->count)
        return OHM_FAIL(OHM_ERR_CONFIG, "key 'train.batch': %d is more than the %d training images; lower it", job->config->train.batch,
                        job->train->count);
    return OHM_OK;
}

/* Opens the run's files; with resume, takes the newest good checkpoint. */
static ohm_status open_run(trainer *t)
{
    const char *dir = t->options->run_dir;
    char path[OHM_PATH_BYTES];
    if (!dir)
        return OHM_OK;
    OHM_TRY(ohm_run_open(&t->run, dir, t->options->resume));
    OHM_TRY(ohm_run_describe(t->run, t->config));
    if (t->options->resume) {
        int found;
        OHM_TRY(ohm_checkpoint_resume(dir, t->network, &t->state, &found, t->options->log));
        if (found) {
            t->saved = t->state.step;
            t->saved_evaluated = t->state.evaluated;
        }
    }
    if (t->state.step > t->steps)
        return OHM_FAIL(OHM_ERR_CONFIG, "%s: its checkpoint is of step %" PRId64 " but the run has only %" PRId64, dir, t->state.step, t->steps);
    if (t->options->resume)
        OHM_TRY(ohm_run_resumed(t->run, t->config, t->state.step));
    OHM_TRY(ohm_run_path(path, dir, "metrics.jsonl"));
    return ohm_metrics_open(&t->metrics, path, t->state.metrics_bytes);
}

static ohm_status check_memory(const trainer *t)
{
    size_t limit = t->options->memory_limit;
    if (!limit)
        OHM_TRY(ohm_plan_limit(&limit, t->config));
    return ohm_plan_check(t->job->architecture, t->config, !t->options->no_evaluation, limit);
}

static ohm_status announce(const trainer *t)
{
    char device[OHM_BACKEND_LINE_BYTES];
    OHM_TRY(ohm_backend_announce(device, sizeof device, t->config));
    const int on_device = strcmp(ohm_network_device(t->network), "cpu") != 0;
    if (t->options->log)
        fprintf(t->options->log, "device %s\n", device);
    if (t->options->log && on_device && reads_chip(t->config) && t->config->hardware.mvm.precision != OHM_MVM_FP16)
        fprintf(t->options->log, "the chip is read in fp32, without tensor cores; they read it in fp16: --set hardware.mvm.precision=fp16\n");
    if (t->saved >= 0 && t->options->log)
        fprintf(t->options->log, "going on from step %" PRId64 " of %" PRId64 "\n", t->state.step, t->steps);
    return OHM_OK;
}

/* On a device the network that evaluates is made now, too: what does not fit is known before the first
 * step. */
static ohm_status make_networks(trainer *t)
{
    const ohm_network_options options = {.max_batch = ohm_step_images(t->config), .training = 1};
    const int evaluates = !t->options->no_evaluation;
    ohm_status status = ohm_network_create(&t->network, t->job->architecture, t->config, &options);
    if (status == OHM_OK && evaluates && strcmp(ohm_network_device(t->network), "cpu"))
        status = make_evaluator(t);
    if (status == OHM_ERR_MEMORY) {
        ohm_network_destroy(t->network);
        t->network = NULL;
        return ohm_plan_refused(t->job->architecture, t->config, evaluates);
    }
    return status;
}

static ohm_status prepare(trainer *t)
{
    OHM_TRY(check_job(t->job));
    if (t->options->trace_path)
        OHM_TRY(ohm_file_check_writable(t->options->trace_path));
    OHM_TRY(ohm_trace_create(&t->trace));
    if (t->config->threads > 0)
        omp_set_num_threads(t->config->threads);
    OHM_TRY(check_memory(t));
    t->steps_per_epoch = ohm_schedule_steps_per_epoch(t->config, t->job->train->count);
    t->steps = ohm_schedule_steps(t->config, t->job->train->count);
    t->order = malloc((size_t)t->job->train->count * sizeof *t->order);
    if (!t->order)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for the order of %d images", t->job->train->count);
    OHM_TRY(make_networks(t));
    ohm_network_set_trace(t->network, t->trace);
    OHM_TRY(open_run(t));
    OHM_TRY(announce(t));
    ohm_progress_start(&t->progress, t->options->log, t->state.step, t->steps);
    return OHM_OK;
}

static void report(trainer *t, ohm_status status, ohm_train_result *result)
{
    t->result.steps = t->state.step;
    t->result.best_accuracy = t->state.best_accuracy;
    t->result.seconds = seconds(t);
    if (t->network)
        t->result.memory = *ohm_network_memory(t->network);
    if (result)
        *result = t->result;
    if (t->options->network) {
        *t->options->network = status == OHM_OK ? t->network : NULL;
        if (status == OHM_OK) {
            ohm_network_set_trace(t->network, NULL);
            t->network = NULL;
        }
    }
}

ohm_status ohm_train(const ohm_train_job *job, const ohm_train_options *options, ohm_train_result *result)
{
    trainer t = {.job = job, .options = options, .config = job->config, .saved = -1, .ordered = -1, .start = ohm_progress_clock(),
                 .state = {.best_accuracy = -1, .evaluated = -1}, .result = {.clean_accuracy = NAN}};
    ohm_status status = prepare(&t);
    if (status == OHM_OK) {
        status = loop(&t);
        ohm_progress_end(&t.progress);
    }
    report(&t, status, result);
    ohm_evaluator_destroy(t.evaluator);
    ohm_network_destroy(t.network);
    ohm_trace_destroy(t.trace);
    ohm_metrics_close(t.metrics);
    ohm_run_close(t.run);
    free(t.order);
    return status;
}
