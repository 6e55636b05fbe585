/* ohmgrad gradients: how far the straight-through gradient is from the full one, by layer and noise. */
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/backend.h"
#include "host/checkpoint.h"
#include "host/cli/cli.h"
#include "host/cli/experiment.h"
#include "host/cli/plot.h"
#include "host/file.h"
#include "host/gradients.h"
#include "host/progress.h"
#include "host/run.h"
#include "host/step.h"
#include "host/trainer.h"

enum { LEVELS_MAX = 64 };

typedef struct {
    int64_t batches, draws, steps;
} numbers;

#define OHM_ROWS_OF numbers
#include "host/option_rows.h"

static const ohm_option rows[] = {
    INT64(batches, 2, 1e6, "4", "batches", "batches of train.batch training images"),
    INT64(draws, 2, 1e6, "8", "draws", "chip instances per batch"),
    INT64(steps, 0, 1e9, "0", "steps", "clean training before the measurement"),
};
static const ohm_option_table table = {"gradients", rows, sizeof rows / sizeof rows[0]};

typedef struct {
    const char *config, *checkpoint, *out;
    ohm_cli_list set;
    double level[LEVELS_MAX];
    int levels, png;
    numbers number;
} arguments;

/* ---- arguments ----------------------------------------------------------------------------- */

static ohm_status parse_levels(arguments *a, const char *text)
{
    a->levels = 0;
    for (;;) {
        char *end;
        double level = strtod(text, &end);
        if (end == text || (*end && *end != ',') || !(level >= 0 && level <= 1e3))
            return OHM_FAIL(OHM_ERR_CONFIG,
                            "gradients: --levels '%.*s' is no noise level; write numbers from 0 to "
                            "1000 with commas between them: 0.5,1,2",
                            (int)strcspn(text, ","), text);
        if (a->levels == LEVELS_MAX)
            return OHM_FAIL(OHM_ERR_CONFIG, "gradients: more than %d noise levels", LEVELS_MAX);
        a->level[a->levels++] = level;
        if (!*end)
            return OHM_OK;
        text = end + 1;
    }
}

enum { KEY_BATCHES = 256, KEY_DRAWS, KEY_STEPS, KEY_LEVELS, KEY_CHECKPOINT, KEY_PNG };

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
    case KEY_BATCHES:
    case KEY_DRAWS:
    case KEY_STEPS:
        return ohm_cli_error(
            ohm_option_set(&table, &a->number, rows[key - KEY_BATCHES].key, value));
    case KEY_LEVELS:
        return ohm_cli_error(parse_levels(a, value));
    case KEY_CHECKPOINT:
        a->checkpoint = value;
        return 0;
    case KEY_PNG:
        a->png = 1;
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
    {"levels", KEY_LEVELS, "L,L,...", 0, "values of programming.level (0.5,1,2,3)", 0},
    {"batches", KEY_BATCHES, "N", 0, "batches of train.batch training images (4)", 0},
    {"draws", KEY_DRAWS, "N", 0, "chip instances per batch (8)", 0},
    {"checkpoint", KEY_CHECKPOINT, "FILE.safetensors", 0, "measure at these weights", 0},
    {"steps", KEY_STEPS, "N", 0, "train so many steps without a chip first (0)", 0},
    {"out", 'o', "DIR", 0, "folder of gradients.csv and the figure (runs/gradients)", 0},
    {"png", KEY_PNG, NULL, 0, "draw gradients.png instead of gradients.svg", 0},
    {0},
};
static const struct argp argp = {
    options,
    parse,
    "CONFIG.yaml",
    "Compares the straight-through gradient of each matrix layer with the full one, which runs "
    "through the simulator, on the same weights, images and random words.\v"
    "Without --checkpoint and --steps the weights are those of the first step.",
    NULL,
    NULL,
    NULL};

static ohm_status check_arguments(const arguments *a, const ohm_config *config)
{
    if (a->checkpoint && a->number.steps)
        return OHM_FAIL(OHM_ERR_CONFIG,
                        "gradients: --checkpoint brings trained weights and --steps trains new "
                        "ones; give only one of them");
    if (!config->hardware_enabled)
        return OHM_FAIL(OHM_ERR_CONFIG,
                        "%s: has no chip, so there is no noise to compare under; "
                        "add --set hardware=lognormal",
                        a->config);
    if (config->hardware.programming.model == OHM_PROGRAM_NONE && a->levels > 1)
        return OHM_FAIL(OHM_ERR_CONFIG,
                        "%s: programming.model is none, so %d noise levels are all the same; give "
                        "--levels 1, or set hardware.programming.model",
                        a->config, a->levels);
    return OHM_OK;
}

/* ---- weights ------------------------------------------------------------------------------- */

static ohm_status train_clean(ohm_network *network, const ohm_experiment *experiment, int64_t steps)
{
    ohm_config *config = malloc(sizeof *config);
    if (!config)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for a configuration");
    *config = experiment->config;
    config->train.mode = OHM_MODE_BASELINE;
    config->train.steps = (int)steps;
    config->train.log_every = 0;
    ohm_network *trained;
    const ohm_train_job job = {config, &experiment->architecture, &experiment->train,
                               &experiment->test};
    const ohm_train_options train = {.no_evaluation = 1, .log = stdout, .network = &trained};
    ohm_status status = ohm_train(&job, &train, NULL);
    if (status == OHM_OK) {
        status = ohm_network_copy_parameters(network, trained);
        ohm_network_destroy(trained);
    }
    free(config);
    return status;
}

static ohm_status load_weights(ohm_network *network, const ohm_experiment *experiment,
                               const arguments *a)
{
    int calibrated; /* ranges are gathered anew anyway */
    if (a->checkpoint)
        return ohm_checkpoint_load_weights(a->checkpoint, network, &calibrated);
    return a->number.steps ? train_clean(network, experiment, a->number.steps) : OHM_OK;
}

/* ---- the table ----------------------------------------------------------------------------- */

static const struct {
    int measure;
    const char *head, *panel;
} columns[] = {
    {OHM_MEASURE_COSINE, "cosine", "cosine of STE and full"},
    {OHM_MEASURE_NORM_RATIO, "norm ratio", "norm of STE / norm of full"},
    {OHM_MEASURE_BIAS, "bias", "bias of STE"},
    {OHM_MEASURE_STE_RELATIVE, "var STE", "relative variance of STE"},
    {OHM_MEASURE_FULL_RELATIVE, "var full", "relative variance of full"},
    {OHM_MEASURE_STE_CLEAN_COSINE, "cos STE,clean", "cosine of STE and clean"},
    {OHM_MEASURE_FULL_CLEAN_COSINE, "cos full,clean", "cosine of full and clean"},
};
enum { COLUMNS = sizeof columns / sizeof columns[0], PANELS = 6, CELL = 15 };

static int name_width(const ohm_gradient_report *report)
{
    size_t width = strlen("layer");
    for (int g = 0; g < report->groups; g++)
        if (strlen(report->group[g]) > width)
            width = strlen(report->group[g]);
    return (int)width;
}

static void print_level(const ohm_gradient_report *report, int level, int width)
{
    printf("\nnoise level %g\n%-*s", report->level[level], width, "layer");
    for (int c = 0; c < COLUMNS; c++)
        printf("  %*s", CELL, columns[c].head);
    for (int g = 0; g < report->groups; g++) {
        printf("\n%-*s", width, report->group[g]);
        const ohm_estimate *at = ohm_gradient_at(report, level, g);
        for (int c = 0; c < COLUMNS; c++) {
            const ohm_estimate *e = &at[columns[c].measure];
            printf("  %*.4f ±%.4f", CELL - 8, e->mean, e->error);
        }
    }
    printf("\n");
}

static void print_table(const ohm_gradient_report *report, const ohm_experiment *experiment,
                        const arguments *a)
{
    int width = name_width(report);
    printf("%s on %s, chip %s: %" PRId64 " batches of %d images, %" PRId64 " draws each\n",
           experiment->architecture.name, experiment->train.name, experiment->config.hardware.name,
           a->number.batches, experiment->config.train.batch, a->number.draws);
    for (int level = 0; level < report->levels; level++)
        print_level(report, level, width);
    printf("\nmean over batches ± its standard error. <.> is the mean over draws of one batch, |.| "
           "the norm.\n"
           "cosine, norm ratio  of the straight-through and the full gradient at the same draw\n"
           "bias                |E STE - E full| / sqrt<|full|^2>, corrected for the number of "
           "draws\n"
           "var                 variance over draws / mean squared norm: 0 no noise, 1 only noise\n"
           "cos .,clean         cosine with the gradient of the network without a chip\n"
           "all                 everything that is trained, biases and norms too\n");
}

/* ---- files --------------------------------------------------------------------------------- */

static void print_csv(FILE *out, const ohm_gradient_report *report)
{
    fprintf(out, "level,layer");
    for (int i = 0; i < OHM_MEASURES; i++)
        fprintf(out, ",%s,%s_error", ohm_measure_name(i), ohm_measure_name(i));
    for (int level = 0; level < report->levels; level++)
        for (int g = 0; g < report->groups; g++) {
            const ohm_estimate *at = ohm_gradient_at(report, level, g);
            fprintf(out, "\n%.9g,%s", report->level[level], report->group[g]);
            for (int i = 0; i < OHM_MEASURES; i++)
                fprintf(out, ",%.9g,%.9g", at[i].mean, at[i].error);
        }
    fprintf(out, "\n");
}

static ohm_status write_csv(const ohm_gradient_report *report, const char *path)
{
    ohm_file_text text;
    OHM_TRY(ohm_file_text_open(&text, path));
    print_csv(text.stream, report);
    return ohm_file_text_write(&text, path);
}

/* Panel p's lines: one per group over the levels. numbers: 2·levels per group. */
static void fill_panel(ohm_plot_series *series, double *numbers, const ohm_gradient_report *report,
                       int measure)
{
    for (int g = 0; g < report->groups; g++) {
        double *y = numbers + (size_t)2 * (size_t)g * (size_t)report->levels,
               *error = y + report->levels;
        for (int level = 0; level < report->levels; level++) {
            y[level] = ohm_gradient_at(report, level, g)[measure].mean;
            error[level] = ohm_gradient_at(report, level, g)[measure].error;
        }
        series[g] = (ohm_plot_series){.name = report->group[g],
                                      .points = report->levels,
                                      .x = report->level,
                                      .y = y,
                                      .error = error};
    }
}

static ohm_status draw(const ohm_gradient_report *report, const char *path)
{
    ohm_plot_panel panel[PANELS];
    size_t groups = (size_t)report->groups, block = 2 * groups * (size_t)report->levels;
    ohm_plot_series *series = malloc(PANELS * groups * sizeof *series);
    double *numbers = malloc(PANELS * block * sizeof *numbers);
    ohm_status status = OHM_OK;
    if (!series || !numbers)
        status = OHM_FAIL(OHM_ERR_MEMORY, "no memory for %s", path);
    for (int p = 0; p < PANELS && status == OHM_OK; p++) {
        fill_panel(series + (size_t)p * groups, numbers + (size_t)p * block, report,
                   columns[p].measure);
        panel[p] = (ohm_plot_panel){.title = columns[p].panel,
                                    .x_label = "noise level",
                                    .y_label = columns[p].head,
                                    .legend = p == 0 ? OHM_LEGEND_OUTSIDE : OHM_LEGEND_NONE,
                                    .count = report->groups,
                                    .series = series + (size_t)p * groups};
    }
    if (status == OHM_OK)
        status = ohm_plot_optional(ohm_plot_write(path, panel, PANELS));
    free(series);
    free(numbers);
    return status;
}

static ohm_status write_files(const ohm_gradient_report *report, const char *dir, int png)
{
    char csv[OHM_PATH_BYTES], picture[OHM_PATH_BYTES];
    OHM_TRY(ohm_run_path(csv, dir, "gradients.csv"));
    OHM_TRY(ohm_run_path(picture, dir, png ? "gradients.png" : "gradients.svg"));
    OHM_TRY(write_csv(report, csv));
    OHM_TRY(draw(report, picture));
    printf("\n%s: the same and more as numbers; %s %s\n", csv, picture,
           access(picture, F_OK) == 0 ? "shows it" : "is not drawn");
    return OHM_OK;
}

/* ---- the command --------------------------------------------------------------------------- */

static void show_progress(void *context, int64_t done, int64_t total)
{
    (void)total;
    ohm_progress_update(context, done, "samples");
}

static ohm_status measure(ohm_gradient_report *report, ohm_network *network,
                          const ohm_experiment *experiment, const arguments *a)
{
    ohm_progress progress;
    const ohm_gradient_job job = {.level = a->level,
                                  .levels = a->levels,
                                  .batches = (int)a->number.batches,
                                  .draws = (int)a->number.draws,
                                  .on_sample = show_progress,
                                  .context = &progress};
    OHM_TRY(load_weights(network, experiment, a));
    ohm_progress_start(&progress, stderr, 0, a->levels * a->number.batches * a->number.draws);
    ohm_status status =
        ohm_gradients_measure(report, network, &experiment->config, &experiment->train, &job);
    ohm_progress_end(&progress);
    return status;
}

static ohm_status run(ohm_gradient_report *report, ohm_experiment *experiment, const arguments *a)
{
    ohm_config *config = &experiment->config;
    const char *dir = a->out ? a->out : "runs/gradients";
    static const int modes[] = {OHM_MODE_FULL, OHM_MODE_BASELINE};
    char device[OHM_BACKEND_LINE_BYTES];
    ohm_network *network;
    if (!a->config)
        return OHM_FAIL(OHM_ERR_CONFIG, "gradients: no CONFIG.yaml; see ohmgrad gradients --help");
    OHM_TRY(ohm_config_read(config, a->config));
    OHM_TRY(ohm_experiment_set(experiment, &a->set));
    OHM_TRY(check_arguments(a, config));
    OHM_TRY(ohm_backend_settle(device, sizeof device, config, modes, 2));
    config->train.mode = OHM_MODE_FULL; /* the plan that serves every mode */
    if (config->threads > 0)
        omp_set_num_threads(config->threads);
    OHM_TRY(ohm_experiment_load(experiment));
    const ohm_network_options plan = {
        .max_batch = ohm_step_images(config), .training = 1, .every_mode = 1};
    OHM_TRY(ohm_network_create(&network, &experiment->architecture, config, &plan));
    ohm_status status = ohm_file_make_folder(dir);
    if (status == OHM_OK)
        status = measure(report, network, experiment, a);
    ohm_network_destroy(network);
    OHM_TRY(status);
    printf("device %s\n", device);
    print_table(report, experiment, a);
    return write_files(report, dir, a->png);
}

ohm_status ohm_cmd_gradients(int argc, char **argv)
{
    arguments a = {.level = {0.5, 1, 2, 3}, .levels = 4};
    ohm_gradient_report report = {0};
    int helped;
    OHM_TRY(ohm_option_defaults(&table, &a.number));
    OHM_TRY(ohm_cli_parse(&argp, argc, argv, &a, &helped));
    if (helped)
        return OHM_OK;
    ohm_experiment *experiment = ohm_experiment_new();
    if (!experiment)
        return OHM_ERR_MEMORY;
    ohm_status status = run(&report, experiment, &a);
    ohm_gradient_report_free(&report);
    ohm_experiment_free(experiment);
    return status;
}
