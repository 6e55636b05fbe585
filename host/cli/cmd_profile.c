/* ohmgrad profile: what a training step costs in time and memory, by gradient mode. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/backend.h"
#include "host/cli/cli.h"
#include "host/cli/experiment.h"
#include "host/cli/profile_report.h"
#include "host/file.h"
#include "host/plan.h"
#include "host/run.h"
#include "host/step.h"

typedef struct {
    int64_t steps;
} numbers;

#define OHM_ROWS_OF numbers
#include "host/option_rows.h"

static const ohm_option rows[] = {
    INT64(steps, 1, OHM_PROFILE_STEPS_MAX, "5", "steps", "timed steps of each mode"),
};
static const ohm_option_table table = {"profile", rows, sizeof rows / sizeof rows[0]};

typedef struct {
    const char *config, *out, *json, *trace;
    ohm_cli_list set;
    int mode[OHM_VARIANTS], modes; /* ohm_variant_name */
    int batch[OHM_PROFILE_BATCHES_MAX], batches;
    size_t limit;
    int find_batch, steps_given;
    numbers number;
} arguments;

/* ---- arguments ----------------------------------------------------------------------------- */

static int mode_of(const char *text, size_t length)
{
    for (int mode = 0; mode < OHM_VARIANTS; mode++)
        if (strlen(ohm_variant_name(mode)) == length &&
            !strncmp(ohm_variant_name(mode), text, length))
            return mode;
    return -1;
}

static ohm_status parse_modes(arguments *a, const char *text)
{
    a->modes = 0;
    for (;; text++) {
        size_t length = strcspn(text, ",");
        int mode = mode_of(text, length);
        if (mode < 0)
            return OHM_FAIL(OHM_ERR_CONFIG,
                            "profile: --modes '%.*s' is no mode; give some of "
                            "baseline,full,full:save,detach,nograd",
                            (int)length, text);
        for (int i = 0; i < a->modes; i++)
            if (a->mode[i] == mode)
                return OHM_FAIL(OHM_ERR_CONFIG, "profile: --modes names %s twice",
                                ohm_variant_name(mode));
        a->mode[a->modes++] = mode;
        text += length;
        if (!*text)
            return OHM_OK;
    }
}

static ohm_status parse_batches(arguments *a, const char *text)
{
    a->batches = 0;
    for (;; text++) {
        char *end;
        long batch = strtol(text, &end, 10);
        if (end == text || (*end && *end != ',') || batch < 1 || batch > 1000000)
            return OHM_FAIL(OHM_ERR_CONFIG,
                            "profile: --batch '%.*s' is no batch; write numbers from 1 to 1000000 "
                            "with commas between them: 64,128",
                            (int)strcspn(text, ","), text);
        for (int i = 0; i < a->batches; i++)
            if (a->batch[i] == batch)
                return OHM_FAIL(OHM_ERR_CONFIG, "profile: --batch names %ld twice", batch);
        if (a->batches == OHM_PROFILE_BATCHES_MAX)
            return OHM_FAIL(OHM_ERR_CONFIG, "profile: more than %d batches",
                            OHM_PROFILE_BATCHES_MAX);
        a->batch[a->batches++] = (int)batch;
        text = end;
        if (!*text)
            return OHM_OK;
    }
}

enum {
    KEY_STEPS = 256,
    KEY_MODES,
    KEY_BATCH,
    KEY_JSON,
    KEY_TRACE,
    KEY_LIMIT,
    KEY_FIND
};

static error_t parse(int key, char *value, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case 's':
        return ohm_cli_list_add(&a->set, value);
    case OHM_CLI_DEVICE:
        return ohm_cli_device(&a->set, value);
    case 'o':
        a->out = value;
        return 0;
    case KEY_STEPS:
        a->steps_given = 1;
        return ohm_cli_error(ohm_option_set(&table, &a->number, "steps", value));
    case KEY_MODES:
        return ohm_cli_error(parse_modes(a, value));
    case KEY_BATCH:
        return ohm_cli_error(parse_batches(a, value));
    case KEY_JSON:
        a->json = value;
        return 0;
    case KEY_TRACE:
        a->trace = value;
        return 0;
    case KEY_LIMIT:
        return ohm_cli_bytes(&a->limit, "profile: --memory-limit", value);
    case KEY_FIND:
        a->find_batch = 1;
        return 0;
    case ARGP_KEY_ARG:
        return ohm_cli_only(&a->config, value);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"set", 's', "KEY=VALUE", 0, "change a key of CONFIG.yaml; may be repeated", 0},
    OHM_CLI_DEVICE_OPTION,
    {"modes", KEY_MODES, "MODE,...", 0,
     "of baseline, full (which reads the chip again), full:save (which keeps what it needs), detach, "
     "nograd (all; without a chip: baseline)", 0},
    {"batch", KEY_BATCH, "N,...", 0, "images per step (train.batch)", 0},
    {"steps", KEY_STEPS, "N", 0, "timed steps of each mode (5)", 0},
    {"memory-limit", KEY_LIMIT, "SIZE", 0,
     "refuse a plan of more, such as 8G, before anything runs (the machine's memory)", 0},
    {"find-batch", KEY_FIND, NULL, 0,
     "only find the largest batch that trains within the limit, by the plan alone", 0},
    {"out", 'o', "DIR", 0, "folder of profile.json and memory.svg (runs/profile)", 0},
    {"json", KEY_JSON, "FILE", 0, "write the numbers there; no folder and no picture", 0},
    {"trace", KEY_TRACE, "FILE.json", 0,
     "write a few steps of each mode as a Chrome trace, for ui.perfetto.dev", 0},
    {0},
};
static const struct argp argp = {
    options,
    parse,
    "CONFIG.yaml",
    "Time per training step, peak and average memory by category and utilisation, for each "
    "gradient mode: Table III of Feng et al. 2025 for the network and chip of CONFIG.yaml.\v"
    "Images are random, so no data set is needed. The first step of each mode is not timed.",
    NULL,
    NULL,
    NULL};

/* What is asked for goes together and has a name. */
static ohm_status check_combination(const arguments *a)
{
    const struct {
        const char *option, *value;
    } outputs[] = {{"--json", a->json}, {"--trace", a->trace}, {"--out", a->out}};
    for (int i = 0; i < 3; i++)
        if (outputs[i].value && !*outputs[i].value)
            return OHM_FAIL(OHM_ERR_CONFIG, "profile: %s '' names nothing; give a path",
                            outputs[i].option);
    if (a->json && a->out)
        return OHM_FAIL(OHM_ERR_CONFIG, "profile: --out makes a folder, --json a file; give only "
                                        "one of them");
    if (a->json && a->trace && !strcmp(a->json, a->trace))
        return OHM_FAIL(OHM_ERR_CONFIG, "profile: --json and --trace are both %s; give each a file "
                                        "of its own",
                        a->json);
    if (a->find_batch && (a->batches || a->steps_given || a->json || a->trace || a->out))
        return OHM_FAIL(OHM_ERR_CONFIG, "profile: --find-batch runs nothing and writes no file; "
                                        "leave out --batch, --steps, --json, --trace and --out");
    return OHM_OK;
}

static ohm_status check_arguments(arguments *a, const ohm_config *config)
{
    size_t machine;
    OHM_TRY(check_combination(a));
    for (int i = 0; i < a->modes && !config->hardware_enabled; i++)
        if (a->mode[i] != OHM_MODE_BASELINE)
            return OHM_FAIL(OHM_ERR_CONFIG,
                            "%s: has no chip, so mode %s is the baseline; add --set hardware=NAME",
                            a->config, ohm_variant_name(a->mode[i]));
    const int all = config->hardware_enabled ? OHM_VARIANTS : 1;
    for (int mode = 0; !a->modes && mode < all; mode++)
        a->mode[mode] = mode;
    a->modes = a->modes ? a->modes : all;
    if (!a->batches)
        a->batch[a->batches++] = config->train.batch;
    OHM_TRY(ohm_plan_limit(&machine, config));
    if (!a->limit || (a->limit > machine && !a->find_batch)) /* a plan may be for another machine */
        a->limit = machine;
    return OHM_OK;
}

/* ---- the largest batch --------------------------------------------------------------------- */

static ohm_status find_batches(const ohm_experiment *experiment, const arguments *a)
{
    ohm_config config = experiment->config;
    int images[OHM_VARIANTS];
    ohm_plan plan[OHM_VARIANTS];
    char refused[OHM_VARIANTS][OHM_PROFILE_REASON_BYTES] = {""};
    for (int i = 0; i < a->modes; i++) {
        ohm_variant_set(&config, a->mode[i]);
        ohm_status status = ohm_plan_largest(&images[i], &plan[i], &experiment->architecture,
                                             &config, 1, a->limit);
        if (status == OHM_ERR_UNSUPPORTED)
            snprintf(refused[i], sizeof refused[i], "%s", ohm_error_text());
        else
            OHM_TRY(status);
    }
    printf("largest batch per pass of %s, chip %s, that trains within %.1f MiB (the network for "
           "evaluation, eval.batch %d, counts)\n%-10s %10s %12s %12s\n",
           experiment->architecture.name, ohm_profile_chip(&config),
           (double)a->limit / (1 << 20), config.eval.batch, "mode", "batch", "training MiB",
           "total MiB");
    for (int i = 0; i < a->modes; i++)
        if (*refused[i])
            printf("%-10s not available: %s\n", ohm_variant_name(a->mode[i]), refused[i]);
        else
            printf("%-10s %10d %12.1f %12.1f\n", ohm_variant_name(a->mode[i]), images[i],
                   (double)plan[i].training.reserved / (1 << 20),
                   (double)plan[i].total / (1 << 20));
    return OHM_OK;
}

/* ---- the measurement ----------------------------------------------------------------------- */

/* The configuration of each job, every mode of every batch, and whether each fits by itself; *together:
 * whether those of one batch do at once. */
static ohm_status make_jobs(ohm_profile_job *job, int *together, const ohm_experiment *experiment,
                            const arguments *a)
{
    size_t room;
    OHM_TRY(ohm_backend_available(&room, &experiment->config));
    *together = 1;
    for (int b = 0; b < a->batches; b++) {
        size_t sum = 0;
        for (int m = 0; m < a->modes; m++) {
            ohm_profile_job *j = &job[b * a->modes + m];
            ohm_plan plan;
            j->architecture = &experiment->architecture;
            j->config = experiment->config;
            ohm_variant_set(&j->config, a->mode[m]);
            j->config.train.batch = a->batch[b];
            OHM_TRY(ohm_config_check(&j->config));
            ohm_status status = ohm_plan_check(j->architecture, &j->config, 0, a->limit);
            if (status == OHM_ERR_UNSUPPORTED) /* its row will say why */
                continue;
            OHM_TRY(status);
            OHM_TRY(ohm_plan_make(&plan, j->architecture, &j->config, ohm_step_images(&j->config),
                                  0));
            sum += plan.total;
        }
        *together &= sum <= a->limit && sum <= room;
    }
    return OHM_OK;
}

/* Refuses what could not be written, before anything runs. */
static ohm_status check_outputs(const arguments *a)
{
    if (a->trace)
        OHM_TRY(ohm_file_check_writable(a->trace));
    return a->json ? ohm_file_check_writable(a->json)
                   : ohm_file_make_folder(a->out ? a->out : "runs/profile");
}

static ohm_status measure(ohm_profile_report *report, ohm_profile_job *job,
                          const ohm_experiment *experiment, const arguments *a)
{
    OHM_TRY(make_jobs(job, &report->together, experiment, a));
    OHM_TRY(check_outputs(a));
    for (int b = 0; b < a->batches; b++)
        OHM_TRY(ohm_profile_run(report->result + b * a->modes, job + b * a->modes, a->modes,
                                (int)a->number.steps, report->together));
    return OHM_OK;
}

static ohm_status write_all(const ohm_profile_report *report, const arguments *a)
{
    char json[OHM_PATH_BYTES], picture[OHM_PATH_BYTES];
    const char *dir = a->out ? a->out : "runs/profile";
    if (a->trace)
        OHM_TRY(ohm_profile_write_trace(report, a->trace));
    if (a->json)
        return ohm_profile_write_json(report, a->json);
    OHM_TRY(ohm_run_path(json, dir, "profile.json"));
    OHM_TRY(ohm_run_path(picture, dir, "memory.svg"));
    OHM_TRY(ohm_profile_write_json(report, json));
    OHM_TRY(ohm_profile_draw(report, picture));
    printf("\n%s: the same as numbers; %s: memory over one step\n", json, picture);
    return OHM_OK;
}

static ohm_status profile(const ohm_experiment *experiment, const arguments *a)
{
    int count = a->batches * a->modes;
    ohm_profile_job *job = calloc((size_t)count, sizeof *job);
    ohm_profile *result = calloc((size_t)count, sizeof *result);
    ohm_profile_report report = {.experiment = experiment,
                                 .batch = a->batch,
                                 .batches = a->batches,
                                 .mode = a->mode,
                                 .modes = a->modes,
                                 .steps = (int)a->number.steps,
                                 .result = result};
    ohm_status status = job && result ? measure(&report, job, experiment, a)
                                      : OHM_FAIL(OHM_ERR_MEMORY, "no memory for %d jobs", count);
    if (status == OHM_OK) {
        ohm_profile_print(&report);
        status = write_all(&report, a);
    }
    for (int i = 0; result && i < count; i++)
        ohm_profile_free(&result[i]);
    free(result);
    free(job);
    return status;
}

static ohm_status run(ohm_experiment *experiment, arguments *a)
{
    ohm_config *config = &experiment->config;
    if (!a->config)
        return OHM_FAIL(OHM_ERR_CONFIG, "profile: no CONFIG.yaml; see ohmgrad profile --help");
    OHM_TRY(ohm_config_read(config, a->config));
    OHM_TRY(ohm_experiment_set(experiment, &a->set));
    OHM_TRY(check_arguments(a, config));
    if (config->threads > 0)
        omp_set_num_threads(config->threads);
    OHM_TRY(ohm_experiment_describe(experiment));
    if (a->find_batch)
        return find_batches(experiment, a);
    return profile(experiment, a);
}

ohm_status ohm_cmd_profile(int argc, char **argv)
{
    arguments a = {0};
    int helped;
    OHM_TRY(ohm_option_defaults(&table, &a.number));
    OHM_TRY(ohm_cli_parse(&argp, argc, argv, &a, &helped));
    if (helped)
        return OHM_OK;
    ohm_experiment *experiment = ohm_experiment_new();
    if (!experiment)
        return OHM_ERR_MEMORY;
    ohm_status status = run(experiment, &a);
    ohm_experiment_free(experiment);
    return status;
}
