/* The demo's table, JSON and figures. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "build_info.h"
#include "host/cli/demo.h"
#include "host/cli/plot.h"
#include "host/file.h"
#include "host/run.h"

const char *ohm_demo_name(int method)
{
    static const char *const name[] = {"no noise", "full gradient", "STE"};
    return name[method];
}

ohm_status ohm_demo_create(ohm_demo *demo, const ohm_config *config, int steps)
{
    *demo = (ohm_demo){.seeds = config->demo.seeds.count,
                       .levels = config->demo.levels.count,
                       .chips = config->eval.chips,
                       .steps = steps};
    memcpy(demo->seed, config->demo.seeds.at, sizeof demo->seed);
    memcpy(demo->level, config->demo.levels.at, sizeof demo->level);
    size_t accuracies = (size_t)demo->levels * (size_t)demo->chips,
           each = accuracies + (size_t)steps;
    demo->memory = calloc(OHM_DEMO_METHODS * (size_t)demo->seeds * each, sizeof *demo->memory);
    if (!demo->memory)
        return OHM_FAIL(OHM_ERR_MEMORY, "demo: no memory for the results");
    double *at = demo->memory;
    for (int method = 0; method < OHM_DEMO_METHODS; method++)
        for (int seed = 0; seed < demo->seeds; seed++, at += each)
            demo->run[method][seed] = (ohm_demo_run){.accuracy = at, .loss = at + accuracies};
    return OHM_OK;
}

void ohm_demo_free(ohm_demo *demo)
{
    free(demo->memory);
    *demo = (ohm_demo){0};
}

double ohm_demo_loss(const ohm_demo_run *run, int step)
{
    int first = step < OHM_DEMO_SMOOTH_STEPS ? 0 : step - OHM_DEMO_SMOOTH_STEPS + 1;
    double sum = 0;
    for (int i = first; i <= step; i++)
        sum += run->loss[i];
    return sum / (step - first + 1);
}

/* ---- statistics ---------------------------------------------------------------------------- */

static double accuracy_at(const ohm_demo *demo, int method, int seed, int level, int chip)
{
    return demo->run[method][seed].accuracy[level * demo->chips + chip];
}

/* Accuracy, or with `reference` the difference to another method, over seeds and chips. */
static ohm_demo_spread spread_of(const ohm_demo *demo, int method, int reference, int level)
{
    double mean = 0, squares = 0;
    int count = 0;
    for (int seed = 0; seed < demo->seeds; seed++)
        for (int chip = 0; chip < demo->chips; chip++) {
            double value = accuracy_at(demo, method, seed, level, chip);
            if (reference >= 0)
                value -= accuracy_at(demo, reference, seed, level, chip);
            double change = value - mean; /* Welford's update */
            mean += change / ++count;
            squares += change * (value - mean);
        }
    return (ohm_demo_spread){mean, count > 1 ? sqrt(squares / (count - 1)) : 0};
}

ohm_demo_spread ohm_demo_summary(const ohm_demo *demo, int method, int level)
{
    return spread_of(demo, method, -1, level);
}

ohm_demo_gain ohm_demo_compare(const ohm_demo *demo, int method, int level)
{
    ohm_demo_spread spread = spread_of(demo, method, OHM_DEMO_CLEAN, level);
    ohm_demo_gain gain = {
        spread.mean, spread.deviation / sqrt((double)demo->seeds * demo->chips), {0}};
    for (int seed = 0; seed < demo->seeds; seed++)
        for (int chip = 0; chip < demo->chips; chip++)
            gain.of_seed[seed] += (accuracy_at(demo, method, seed, level, chip) -
                                   accuracy_at(demo, OHM_DEMO_CLEAN, seed, level, chip)) /
                                  demo->chips;
    return gain;
}

static double mean_over_seeds(const ohm_demo *demo, int method, int of_time)
{
    double sum = 0;
    for (int seed = 0; seed < demo->seeds; seed++)
        sum += of_time ? demo->run[method][seed].seconds : demo->run[method][seed].no_chip;
    return sum / demo->seeds;
}

/* ---- table --------------------------------------------------------------------------------- */

static void print_rule(const ohm_demo *demo, FILE *out)
{
    for (int i = 0; i < 38 + 25 * demo->levels; i++)
        fputc('-', out);
    fputc('\n', out);
}

static void print_table(const ohm_demo *demo, FILE *out)
{
    double clean = mean_over_seeds(demo, OHM_DEMO_CLEAN, 0);
    fprintf(out, "%-14s %10s %11s", "", "", "");
    for (int level = 0; level < demo->levels; level++)
        fprintf(out, "  |       noise level %-3g", demo->level[level]);
    fprintf(out, "\n%-14s %10s %11s", "trained with", "s/training", "no chip (%)");
    for (int level = 0; level < demo->levels; level++)
        fprintf(out, "  | acc (%%)   delta   dev");
    fputc('\n', out);
    print_rule(demo, out);
    for (int method = 0; method < OHM_DEMO_METHODS; method++) {
        fprintf(out, "%-14s %10.1f %11.2f", ohm_demo_name(method), mean_over_seeds(demo, method, 1),
                100 * mean_over_seeds(demo, method, 0));
        for (int level = 0; level < demo->levels; level++) {
            ohm_demo_spread s = ohm_demo_summary(demo, method, level);
            fprintf(out, "  |  %6.2f  %+6.2f %5.2f", 100 * s.mean, 100 * (s.mean - clean),
                    100 * s.deviation);
        }
        fputc('\n', out);
    }
    fprintf(out,
            "accuracy: mean over %d seeds x %d chips; delta: to %.2f %%, trained with no noise and "
            "without a chip;\n"
            "dev: standard deviation over seeds and chips\n",
            demo->seeds, demo->chips, 100 * clean);
}

static void print_gains(const ohm_demo *demo, FILE *out)
{
    fprintf(out,
            "\ngain of STE over training with no noise, in points, paired by seed and chip:\n");
    for (int level = 0; level < demo->levels; level++) {
        ohm_demo_gain gain = ohm_demo_compare(demo, OHM_DEMO_STE, level);
        const char *verdict = fabs(gain.mean) <= 2 * gain.error
                                  ? "within two standard errors of none"
                              : gain.mean > 0 ? "a gain of more than two standard errors"
                                              : "a loss of more than two standard errors";
        fprintf(out, "  level %-3g %+6.2f, standard error %.2f: %s (by seed:", demo->level[level],
                100 * gain.mean, 100 * gain.error, verdict);
        for (int seed = 0; seed < demo->seeds; seed++)
            fprintf(out, " %+.2f", 100 * gain.of_seed[seed]);
        fprintf(out, ")\n");
    }
}

void ohm_demo_print(const ohm_demo *demo, FILE *out)
{
    fputc('\n', out);
    print_table(demo, out);
    print_gains(demo, out);
}

/* ---- files --------------------------------------------------------------------------------- */

static ohm_status write_text(const char *dir, const char *name, const char *text)
{
    char path[OHM_PATH_BYTES];
    OHM_TRY(ohm_run_path(path, dir, name));
    const ohm_file_part part = {text, strlen(text)};
    return ohm_file_write_atomic(path, &part, 1);
}

static cJSON *json_of_run(const ohm_demo *demo, int method, int seed)
{
    const ohm_demo_run *run = &demo->run[method][seed];
    cJSON *json = cJSON_CreateObject(), *levels = cJSON_AddArrayToObject(json, "chip_accuracies");
    cJSON_AddStringToObject(json, "method", ohm_demo_name(method));
    cJSON_AddNumberToObject(json, "seed", demo->seed[seed]);
    cJSON_AddNumberToObject(json, "seconds", run->seconds);
    cJSON_AddNumberToObject(json, "no_chip_accuracy", run->no_chip);
    for (int level = 0; level < demo->levels; level++)
        cJSON_AddItemToArray(
            levels, cJSON_CreateDoubleArray(run->accuracy + level * demo->chips, demo->chips));
    return json;
}

static cJSON *json_of_level(const ohm_demo *demo, int method, int level)
{
    ohm_demo_spread s = ohm_demo_summary(demo, method, level);
    ohm_demo_gain gain = ohm_demo_compare(demo, method, level);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "method", ohm_demo_name(method));
    cJSON_AddNumberToObject(json, "level", demo->level[level]);
    cJSON_AddNumberToObject(json, "accuracy", s.mean);
    cJSON_AddNumberToObject(json, "deviation", s.deviation);
    cJSON_AddNumberToObject(json, "gain", gain.mean);
    cJSON_AddNumberToObject(json, "gain_standard_error", gain.error);
    return json;
}

static ohm_status write_json(const ohm_demo *demo, const char *dir)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "commit", OHM_COMMIT);
    cJSON_AddNumberToObject(json, "steps", demo->steps);
    cJSON_AddNumberToObject(json, "chips", demo->chips);
    cJSON_AddItemToObject(json, "seeds", cJSON_CreateDoubleArray(demo->seed, demo->seeds));
    cJSON_AddItemToObject(json, "levels", cJSON_CreateDoubleArray(demo->level, demo->levels));
    cJSON *table = cJSON_AddArrayToObject(json, "table"),
          *runs = cJSON_AddArrayToObject(json, "runs");
    for (int method = 0; method < OHM_DEMO_METHODS; method++) {
        for (int level = 0; level < demo->levels; level++)
            cJSON_AddItemToArray(table, json_of_level(demo, method, level));
        for (int seed = 0; seed < demo->seeds; seed++)
            cJSON_AddItemToArray(runs, json_of_run(demo, method, seed));
    }
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    if (!text)
        return OHM_FAIL(OHM_ERR_MEMORY, "demo: no memory for results.json");
    ohm_status status = write_text(dir, "results.json", text);
    cJSON_free(text);
    return status;
}

static double mean_loss(const ohm_demo *demo, int method, int step)
{
    double sum = 0;
    for (int seed = 0; seed < demo->seeds; seed++)
        sum += ohm_demo_loss(&demo->run[method][seed], step);
    return sum / demo->seeds;
}

static ohm_status draw_loss(const ohm_demo *demo, const char *path)
{
    double *x = malloc((1 + OHM_DEMO_METHODS) * (size_t)demo->steps * sizeof *x);
    if (!x)
        return OHM_FAIL(OHM_ERR_MEMORY, "demo: no memory for a figure");
    ohm_plot_series series[OHM_DEMO_METHODS];
    for (int step = 0; step < demo->steps; step++)
        x[step] = step + 1;
    for (int method = 0; method < OHM_DEMO_METHODS; method++) {
        double *y = x + (size_t)(1 + method) * (size_t)demo->steps;
        for (int step = 0; step < demo->steps; step++)
            y[step] = mean_loss(demo, method, step);
        series[method] =
            (ohm_plot_series){.name = ohm_demo_name(method), .points = demo->steps, .x = x, .y = y};
    }
    const ohm_plot_panel panel = {.title = "Training loss, mean over seeds and 15 steps",
                                  .x_label = "step",
                                  .y_label = "cross-entropy",
                                  .log_y = 1,
                                  .legend = OHM_LEGEND_INSIDE,
                                  .count = OHM_DEMO_METHODS,
                                  .series = series};
    ohm_status status = ohm_plot_write(path, &panel, 1);
    free(x);
    return status;
}

static ohm_status draw_accuracy(const ohm_demo *demo, const char *path)
{
    double x[OHM_DEMO_METHODS][OHM_COEFFICIENTS], y[OHM_DEMO_METHODS][OHM_COEFFICIENTS],
        error[OHM_DEMO_METHODS][OHM_COEFFICIENTS];
    ohm_plot_series series[OHM_DEMO_METHODS];
    for (int method = 0; method < OHM_DEMO_METHODS; method++) {
        for (int level = 0; level < demo->levels; level++) {
            ohm_demo_spread s = ohm_demo_summary(demo, method, level);
            x[method][level] = demo->level[level] + 0.03 * (method - 1); /* bars side by side */
            y[method][level] = 100 * s.mean;
            error[method][level] = 100 * s.deviation;
        }
        series[method] = (ohm_plot_series){.name = ohm_demo_name(method),
                                           .points = demo->levels,
                                           .x = x[method],
                                           .y = y[method],
                                           .error = error[method]};
    }
    const ohm_plot_panel panel = {.title = "Accuracy on chips, mean and deviation",
                                  .x_label = "noise level",
                                  .y_label = "accuracy (%)",
                                  .legend = OHM_LEGEND_INSIDE_LOW,
                                  .count = OHM_DEMO_METHODS,
                                  .series = series};
    return ohm_plot_write(path, &panel, 1);
}

static ohm_status write_config(const ohm_config *config, const char *dir)
{
    char *text = ohm_config_text(config);
    if (!text)
        return OHM_FAIL(OHM_ERR_MEMORY, "demo: no memory for config.yaml");
    ohm_status status = write_text(dir, "config.yaml", text);
    free(text);
    return status;
}

ohm_status ohm_demo_write(const ohm_demo *demo, const ohm_config *config, const char *dir)
{
    char path[OHM_PATH_BYTES];
    OHM_TRY(write_config(config, dir));
    OHM_TRY(write_json(demo, dir));
    OHM_TRY(ohm_run_path(path, dir, "loss.svg"));
    OHM_TRY(ohm_plot_optional(draw_loss(demo, path)));
    OHM_TRY(ohm_run_path(path, dir, "accuracy.svg"));
    return ohm_plot_optional(draw_accuracy(demo, path));
}
