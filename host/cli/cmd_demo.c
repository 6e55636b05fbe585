/* ohmgrad demo: one network trained three ways, each evaluated on chips of rising noise. */
#include <inttypes.h>
#include <omp.h>
#include <stdlib.h>

#include "host/backend.h"
#include "host/cli/cli.h"
#include "host/cli/demo.h"
#include "host/cli/experiment.h"
#include "host/file.h"
#include "host/plan.h"
#include "host/progress.h"
#include "host/schedule.h"
#include "host/trainer.h"

typedef struct {
    const char *config, *out;
    ohm_cli_list set;
} arguments;

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
    case ARGP_KEY_ARG:
        return ohm_cli_only(&a->config, value);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"set", 's', "KEY=VALUE", 0, "change a key of CONFIG.yaml; may be repeated", 0},
    OHM_CLI_DEVICE_OPTION,
    {"out", 'o', "DIR", 0, "folder of the results, whose files are replaced (default: runs/demo)",
     0},
    {0},
};
static const struct argp argp = {options,
                                 parse,
                                 "[CONFIG.yaml]",
                                 "Trains a network without noise, with the gradient through the "
                                 "simulator, and straight-through; evaluates each on "
                                 "chips of rising noise; prints a table and writes results.json, "
                                 "loss.svg and accuracy.svg to DIR.\v"
                                 "CONFIG.yaml (default: models/demo.yaml) is an experiment as for "
                                 "train; demo.seeds and demo.levels say what to repeat.",
                                 NULL,
                                 NULL,
                                 NULL};

/* ---- one training -------------------------------------------------------------------------- */

typedef struct {
    ohm_progress progress;
    ohm_demo_run *run;
    const char *name;
} observer;

static void on_event(void *context, const ohm_train_event *event)
{
    observer *o = context;
    char what[64];
    o->run->loss[event->step - 1] = event->loss;
    snprintf(what, sizeof what, "%s, loss %.3f", o->name, event->loss);
    ohm_progress_update(&o->progress, event->step, what);
}

/* Every level has its chips measure their ADC ranges anew, whatever the training: no method has an advantage. */
static ohm_status evaluate(ohm_evaluator *evaluator, const ohm_demo *demo,
                           ohm_experiment *experiment, observer *o)
{
    ohm_chip_accuracy chips;
    OHM_TRY(ohm_evaluator_clean(evaluator, &experiment->test, &o->run->no_chip));
    for (int level = 0; level < demo->levels; level++) {
        ohm_hardware hardware = experiment->config.hardware;
        char what[64];
        hardware.programming.level = demo->level[level];
        snprintf(what, sizeof what, "%s, %d chips at level %g", o->name, demo->chips,
                 demo->level[level]);
        ohm_progress_update(&o->progress, demo->steps, what);
        OHM_TRY(ohm_evaluator_set_hardware(evaluator, &hardware));
        OHM_TRY(ohm_evaluator_calibrate(evaluator, &experiment->train));
        OHM_TRY(ohm_evaluator_chips(evaluator, &experiment->test, demo->chips, -1,
                                    o->run->accuracy + level * demo->chips, &chips));
    }
    return OHM_OK;
}

static ohm_status train_and_evaluate(const ohm_demo *demo, ohm_experiment *experiment, observer *o)
{
    ohm_network *network = NULL;
    ohm_evaluator *evaluator = NULL;
    ohm_train_result result;
    int calibrated;
    const ohm_train_job job = {&experiment->config, &experiment->architecture, &experiment->train,
                               &experiment->test};
    const ohm_train_options options = {
        .no_evaluation = 1, .on_event = on_event, .context = o, .network = &network};
    OHM_TRY(ohm_train(&job, &options, &result));
    o->run->seconds = result.seconds;
    ohm_status status =
        ohm_evaluator_create(&evaluator, &experiment->architecture, &experiment->config);
    if (status == OHM_OK)
        status = ohm_evaluator_copy(evaluator, network, &calibrated);
    if (status == OHM_OK)
        status = evaluate(evaluator, demo, experiment, o);
    ohm_evaluator_destroy(evaluator);
    ohm_network_destroy(network);
    return status;
}

static void print_run(const ohm_demo *demo, observer *o, int seed)
{
    char text[256] = "";
    size_t used = 0;
    for (int level = 0; level < demo->levels; level++) {
        double mean = 0;
        for (int chip = 0; chip < demo->chips; chip++)
            mean += o->run->accuracy[level * demo->chips + chip] / demo->chips;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%.2f", level ? ", " : "",
                                 100 * mean);
    }
    ohm_progress_line(
        &o->progress,
        "seed %-3.0f %-14s loss %.3f after %5.1f s; %.2f %% without a chip; on chips %s %%",
        demo->seed[seed], o->name, ohm_demo_loss(o->run, demo->steps - 1), o->run->seconds,
        100 * o->run->no_chip, text);
}

static const int mode[OHM_DEMO_METHODS] = {OHM_MODE_BASELINE, OHM_MODE_FULL, OHM_MODE_NOGRAD};

static ohm_status run_all(ohm_demo *demo, ohm_experiment *experiment)
{
    for (int seed = 0; seed < demo->seeds; seed++)
        for (int method = 0; method < OHM_DEMO_METHODS; method++) {
            observer o = {.run = &demo->run[method][seed], .name = ohm_demo_name(method)};
            experiment->config.seed = (int64_t)demo->seed[seed];
            experiment->config.train.mode = mode[method];
            ohm_progress_start(&o.progress, stdout, 0, demo->steps);
            ohm_status status = train_and_evaluate(demo, experiment, &o);
            ohm_progress_end(&o.progress);
            OHM_TRY(status);
            print_run(demo, &o, seed);
        }
    return OHM_OK;
}

/* ---- the command --------------------------------------------------------------------------- */

static ohm_status check(const ohm_config *config)
{
    if (!config->hardware_enabled || config->hardware.programming.model != OHM_PROGRAM_LOGNORMAL)
        return OHM_FAIL(
            OHM_ERR_CONFIG,
            "demo: key 'hardware.programming.model': noise levels need a chip with 'lognormal'");
    if (config->demo.seeds.count == 0 || config->demo.levels.count == 0)
        return OHM_FAIL(OHM_ERR_CONFIG,
                        "demo: keys 'demo.seeds', 'demo.levels': give at least one of each");
    return OHM_OK;
}

/* Whether every method will fit, before anything is written or trained. */
static ohm_status check_plans(ohm_experiment *experiment)
{
    size_t limit;
    ohm_config *config = &experiment->config;
    const int given = config->train.mode;
    ohm_status status = ohm_plan_limit(&limit, config);
    for (int method = 0; method < OHM_DEMO_METHODS && status == OHM_OK; method++) {
        config->train.mode = mode[method];
        status = ohm_plan_check(&experiment->architecture, config, 1, limit);
    }
    config->train.mode = given;
    return status;
}

static void introduce(const ohm_demo *demo, const ohm_experiment *e, const char *device)
{
    const ohm_config *c = &e->config;
    printf("%s on %s: %d training and %d test images of %dx%d\n", e->architecture.name,
           e->train.name, e->train.count, e->test.count, e->train.height, e->train.width);
    printf(
        "chip %s: every conductance times exp(level x sigma x z), sigma %g, trained at level %g\n",
        c->hardware.name, c->hardware.programming.sigma, c->hardware.programming.level);
    printf("%d seeds x %d trainings of %d steps of %d images, each then on %d chips at %d noise "
           "levels\ndevice %s\n\n",
           demo->seeds, OHM_DEMO_METHODS, demo->steps, c->train.batch, demo->chips, demo->levels,
           device);
    fflush(stdout);
}

static ohm_status run(ohm_experiment *experiment, ohm_demo *demo, const arguments *a)
{
    ohm_config *config = &experiment->config;
    const char *dir = a->out ? a->out : "runs/demo";
    char device[OHM_BACKEND_LINE_BYTES];
    double start = ohm_progress_clock();
    OHM_TRY(ohm_config_read(config, a->config ? a->config : "models/demo.yaml"));
    OHM_TRY(ohm_experiment_set(experiment, &a->set));
    OHM_TRY(check(config));
    const ohm_config given = *config;
    OHM_TRY(ohm_backend_settle(device, sizeof device, config, mode, OHM_DEMO_METHODS));
    OHM_TRY(ohm_experiment_load(experiment));
    if (config->threads > 0)
        omp_set_num_threads(config->threads);
    OHM_TRY(check_plans(experiment));
    OHM_TRY(ohm_file_make_folder(dir));
    OHM_TRY(
        ohm_demo_create(demo, &given, (int)ohm_schedule_steps(config, experiment->train.count)));
    introduce(demo, experiment, device);
    OHM_TRY(run_all(demo, experiment));
    ohm_demo_print(demo, stdout);
    OHM_TRY(ohm_demo_write(demo, &given, dir));
    printf("\n%.0f s. The figures are %s/loss.svg and %s/accuracy.svg, every number is in "
           "%s/results.json.\n",
           ohm_progress_clock() - start, dir, dir, dir);
    return OHM_OK;
}

ohm_status ohm_cmd_demo(int argc, char **argv)
{
    arguments a = {0};
    ohm_demo demo = {0};
    int helped;
    OHM_TRY(ohm_cli_parse(&argp, argc, argv, &a, &helped));
    if (helped)
        return OHM_OK;
    ohm_experiment *experiment = ohm_experiment_new();
    if (!experiment)
        return OHM_ERR_MEMORY;
    ohm_status status = run(experiment, &demo, &a);
    ohm_demo_free(&demo);
    ohm_experiment_free(experiment);
    return status;
}
