/* ohmgrad eval: accuracy of trained weights over chip instances and times. */
#include <cjson/cJSON.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/checkpoint.h"
#include "host/cli/cli.h"
#include "host/cli/experiment.h"
#include "host/evaluate.h"
#include "host/run.h"

enum { TIMES_MAX = 64 };

typedef struct {
    const char *target, *config, *hardware;
    ohm_cli_list set;
    int chips;               /* 0: eval.chips */
    double time_s[TIMES_MAX];
    int times;
    int json;
} arguments;

typedef struct {
    char checkpoint[OHM_CHECKPOINT_PATH_BYTES];
    double clean;
    double time_s[TIMES_MAX];
    ohm_chip_accuracy row[TIMES_MAX];
    int rows;
    double *accuracies;      /* [rows][chips] */
} report;

/* ---- arguments ----------------------------------------------------------------------------- */

static const struct {
    char name;
    double s;
} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'y', 31536000}};
enum { UNITS = sizeof units / sizeof *units };

/* "1h" -> 3600; -1 for what is no time. */
static double parse_time(const char *text, size_t length)
{
    char copy[32], *end;
    if (length == 0 || length >= sizeof copy || strspn(text, "0123456789.e+-") == 0)
        return -1;
    memcpy(copy, text, length);
    copy[length] = 0;
    double value = strtod(copy, &end), scale = *end ? -1 : 1;
    for (int i = 0; i < UNITS; i++)
        if (*end == units[i].name && !end[1])
            scale = units[i].s;
    return scale > 0 && isfinite(value) && value >= 0 ? value * scale : -1;
}

static ohm_status parse_times(arguments *a, const char *text)
{
    for (;;) {
        size_t length = strcspn(text, ",");
        double time_s = parse_time(text, length);
        if (time_s < 0)
            return OHM_FAIL(OHM_ERR_CONFIG, "eval: --time '%.*s' is no time; write 90s, 5m, 1h, 1d or 1y", (int)length, text);
        if (a->times == TIMES_MAX)
            return OHM_FAIL(OHM_ERR_CONFIG, "eval: more than %d times", TIMES_MAX);
        a->time_s[a->times++] = time_s;
        if (!text[length])
            return OHM_OK;
        text += length + 1;
    }
}

static ohm_status parse_chips(arguments *a, const char *text)
{
    char *end;
    long chips = strtol(text, &end, 10);
    if (end == text || *end || chips < 1 || chips > 100000)
        return OHM_FAIL(OHM_ERR_CONFIG, "eval: --chips '%.40s' is not 1 to 100000", text);
    a->chips = (int)chips;
    return OHM_OK;
}

enum { KEY_CONFIG = 0x200, KEY_HARDWARE, KEY_CHIPS, KEY_TIME, KEY_JSON };

static error_t parse(int key, char *value, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case 's':
        return ohm_cli_list_add(&a->set, value);
    case OHM_CLI_DEVICE:
        return ohm_cli_device(&a->set, value);
    case KEY_CONFIG:
        a->config = value;
        return 0;
    case KEY_HARDWARE:
        a->hardware = value;
        return 0;
    case KEY_CHIPS:
        return ohm_cli_error(parse_chips(a, value));
    case KEY_TIME:
        return ohm_cli_error(parse_times(a, value));
    case KEY_JSON:
        a->json = 1;
        return 0;
    case ARGP_KEY_ARG:
        return ohm_cli_only(&a->target, value);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"config", KEY_CONFIG, "FILE", 0, "the experiment, instead of the one stored with the weights", 0},
    {"hardware", KEY_HARDWARE, "FILE|NAME|none", 0, "another chip; its ranges are gathered anew from training images", 0},
    {"set", 's', "KEY=VALUE", 0, "change a key (hardware.programming.level=2); may be repeated", 0},
    OHM_CLI_DEVICE_OPTION,
    {"chips", KEY_CHIPS, "N", 0, "chip instances (default: eval.chips)", 0},
    {"time", KEY_TIME, "T,T,...", 0, "times since programming: 1s,1h,1d,1y (default: retention.time_s)", 0},
    {"json", KEY_JSON, NULL, 0, "one JSON object instead of a table", 0},
    {0},
};
static const struct argp argp = {options, parse, "RUN|FILE.safetensors",
                                 "Accuracy on the test images: without a chip, then mean and deviation over N instances of the chip.\v"
                                 "RUN is a folder that train wrote; its newest good checkpoint is taken.",
                                 NULL, NULL, NULL};

/* ---- evaluation ---------------------------------------------------------------------------- */

/* Finds weights and configuration, then applies what the command line changes. */
static ohm_status read_target(ohm_experiment *experiment, char checkpoint[OHM_CHECKPOINT_PATH_BYTES], const arguments *a)
{
    struct stat info;
    if (!a->target)
        return OHM_FAIL(OHM_ERR_CONFIG, "eval: nothing to evaluate; name a run or a .safetensors file");
    if (stat(a->target, &info) != 0)
        return OHM_FAIL(OHM_ERR_IO, "%s: no such run or file", a->target);
    if (S_ISDIR(info.st_mode))
        OHM_TRY(ohm_checkpoint_newest(checkpoint, a->target, stderr));
    else
        snprintf(checkpoint, OHM_CHECKPOINT_PATH_BYTES, "%s", a->target);
    OHM_TRY(a->config ? ohm_config_read(&experiment->config, a->config) : ohm_checkpoint_read_config(&experiment->config, checkpoint));
    if (a->hardware) {
        char assignment[OHM_PATH_BYTES];
        if (snprintf(assignment, sizeof assignment, "hardware=%s", a->hardware) >= (int)sizeof assignment)
            return OHM_FAIL(OHM_ERR_CONFIG, "eval: --hardware: the path is too long");
        OHM_TRY(ohm_config_set(&experiment->config, assignment));
    }
    OHM_TRY(ohm_experiment_set(experiment, &a->set));
    if (a->chips)
        experiment->config.eval.chips = a->chips;
    if (!experiment->config.hardware_enabled && (a->chips || a->times))
        return OHM_FAIL(OHM_ERR_CONFIG, "eval: --chips and --time need a chip, and the experiment has none; name one with --hardware");
    return OHM_OK;
}

static ohm_status measure(report *r, ohm_evaluator *evaluator, const ohm_experiment *experiment, const arguments *a)
{
    const ohm_config *config = &experiment->config;
    int calibrated;
    OHM_TRY(ohm_evaluator_load(evaluator, r->checkpoint, &calibrated));
    OHM_TRY(ohm_evaluator_clean(evaluator, &experiment->test, &r->clean));
    if (!config->hardware_enabled)
        return OHM_OK;
    if (a->hardware || !calibrated || config->train.mode == OHM_MODE_BASELINE)
        OHM_TRY(ohm_evaluator_calibrate(evaluator, &experiment->train));
    r->rows = a->times ? a->times : 1;
    r->accuracies = calloc((size_t)r->rows * (size_t)config->eval.chips, sizeof *r->accuracies);
    if (!r->accuracies)
        return OHM_FAIL(OHM_ERR_MEMORY, "eval: no memory for %d x %d accuracies", r->rows, config->eval.chips);
    for (int i = 0; i < r->rows; i++) {
        r->time_s[i] = a->times ? a->time_s[i] : config->hardware.retention.time_s;
        OHM_TRY(ohm_evaluator_chips(evaluator, &experiment->test, config->eval.chips, r->time_s[i],
                                    r->accuracies + (size_t)i * (size_t)config->eval.chips, &r->row[i]));
    }
    return OHM_OK;
}

/* ---- output -------------------------------------------------------------------------------- */

/* In the largest unit that divides it: "1 y", "90 s". */
static void format_time(char *text, size_t bytes, double time_s)
{
    int unit = UNITS - 1;
    while (unit > 0 && (time_s < units[unit].s || fmod(time_s, units[unit].s) != 0))
        unit--;
    snprintf(text, bytes, "%.6g %c", time_s / units[unit].s, units[unit].name);
}

static void print_table(const report *r, const ohm_experiment *experiment)
{
    printf("%s: %s on %d test images of %s\n", r->checkpoint, experiment->architecture.name, experiment->test.count, experiment->test.name);
    printf("%-20s %8s %10s\n", "", "accuracy", "deviation");
    printf("%-20s %8.4f\n", "no chip", r->clean);
    for (int i = 0; i < r->rows; i++) {
        char time[24], label[48];
        format_time(time, sizeof time, r->time_s[i]);
        snprintf(label, sizeof label, "%d chips, %s", r->row[i].chips, time);
        printf("%-20s %8.4f %10.4f\n", label, r->row[i].mean, r->row[i].deviation);
    }
}

static ohm_status print_json(const report *r, const ohm_experiment *experiment)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "checkpoint", r->checkpoint);
    cJSON_AddStringToObject(json, "architecture", experiment->architecture.name);
    cJSON_AddStringToObject(json, "data", experiment->test.name);
    cJSON_AddNumberToObject(json, "images", experiment->test.count);
    cJSON_AddNumberToObject(json, "clean_accuracy", r->clean);
    cJSON_AddStringToObject(json, "hardware", r->rows ? experiment->config.hardware.name : "none");
    cJSON *rows = cJSON_AddArrayToObject(json, "chips");
    for (int i = 0; i < r->rows; i++) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddNumberToObject(row, "time_s", r->time_s[i]);
        cJSON_AddNumberToObject(row, "mean", r->row[i].mean);
        cJSON_AddNumberToObject(row, "deviation", r->row[i].deviation);
        cJSON_AddItemToObject(row, "accuracies",
                              cJSON_CreateDoubleArray(r->accuracies + (size_t)i * (size_t)r->row[i].chips, r->row[i].chips));
        cJSON_AddItemToArray(rows, row);
    }
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    if (!text)
        return OHM_FAIL(OHM_ERR_MEMORY, "eval: no memory for the JSON");
    puts(text);
    cJSON_free(text);
    return OHM_OK;
}

static ohm_status run(ohm_experiment *experiment, report *r, const arguments *a)
{
    ohm_evaluator *evaluator;
    OHM_TRY(read_target(experiment, r->checkpoint, a));
    if (experiment->config.threads > 0)
        omp_set_num_threads(experiment->config.threads);
    OHM_TRY(ohm_experiment_load(experiment));
    OHM_TRY(ohm_evaluator_create(&evaluator, &experiment->architecture, &experiment->config));
    ohm_status status = measure(r, evaluator, experiment, a);
    ohm_evaluator_destroy(evaluator);
    OHM_TRY(status);
    if (a->json)
        return print_json(r, experiment);
    print_table(r, experiment);
    return OHM_OK;
}

ohm_status ohm_cmd_eval(int argc, char **argv)
{
    arguments a = {0};
    int helped;
    OHM_TRY(ohm_cli_parse(&argp, argc, argv, &a, &helped));
    if (helped)
        return OHM_OK;
    ohm_experiment *experiment = ohm_experiment_new();
    report r = {0};
    if (!experiment)
        return OHM_ERR_MEMORY;
    ohm_status status = run(experiment, &r, &a);
    free(r.accuracies);
    ohm_experiment_free(experiment);
    return status;
}
