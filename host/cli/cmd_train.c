/* ohmgrad train: trains a network, or goes on with a run. */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/cli/cli.h"
#include "host/cli/experiment.h"
#include "host/run.h"
#include "host/trainer.h"

typedef struct {
    const char *config, *out, *resume;
    ohm_cli_list set;
    const char *trace;
    size_t memory_limit;
    int quiet;
} arguments;

enum { KEY_TRACE = 0x200, KEY_LIMIT };

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
    case 'r':
        a->resume = value;
        return 0;
    case KEY_TRACE:
        a->trace = value;
        return 0;
    case KEY_LIMIT:
        return ohm_cli_bytes(&a->memory_limit, "train: --memory-limit", value);
    case 'q':
        a->quiet = 1;
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
    {"out", 'o', "DIR", 0, "folder of the run, new or empty (default: runs/NAME)", 0},
    {"resume", 'r', "DIR", 0, "go on with the run in DIR, from its newest good checkpoint", 0},
    {"memory-limit", KEY_LIMIT, "SIZE", 0, "refuse a plan of more, such as 8G, before anything runs (default: the machine's memory)", 0},
    {"trace", KEY_TRACE, "FILE.json", 0, "write a few steps as a Chrome trace, for ui.perfetto.dev", 0},
    {"quiet", 'q', NULL, 0, "no progress", 0},
    {0},
};
static const struct argp argp = {
    options, parse, "CONFIG.yaml\n--resume DIR",
    "Trains what CONFIG.yaml describes and writes DIR/config.yaml, run.json, metrics.jsonl and checkpoints.\v"
    "Ctrl-C finishes the step, writes a checkpoint and exits with 130; a second one quits at once. "
    "Every key of CONFIG.yaml:",
    NULL, NULL, NULL};

/* The one writable global of the program: a signal handler reaches nothing else. */
static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

/* After the first signal the default is back, so that a second one ends the process. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* ---- going on with a run ------------------------------------------------------------------- */

/* The effective configuration as text, without the number of threads, which changes no result, and the device, which a run may change. NULL:
 * out of memory. */
static char *comparable_text(const ohm_config *config)
{
    ohm_config *copy = malloc(sizeof *copy);
    char *text = NULL;
    if (copy) {
        *copy = *config;
        copy->threads = 0;
        copy->device = (ohm_mode){.kind = OHM_DEVICE_AUTO};
        text = ohm_config_text(copy);
    }
    free(copy);
    return text;
}

/* Refuses a configuration that is not the run's: names the first line that differs. */
static ohm_status compare(const char *dir, const char *run, const char *given)
{
    size_t at = 0, line = 0;
    for (; run[at] && run[at] == given[at]; at++)
        if (run[at] == '\n')
            line = at + 1;
    if (run[at] == given[at])
        return OHM_OK;
    return OHM_FAIL(OHM_ERR_CONFIG, "%s: the run has '%.*s', not '%.*s'; leave CONFIG.yaml and --set away, or start a new run with --out", dir,
                    (int)strcspn(run + line, "\n"), run + line, (int)strcspn(given + line, "\n"), given + line);
}

static ohm_status check_same(const arguments *a, const ohm_config *run)
{
    ohm_experiment *given = ohm_experiment_new();
    if (!given)
        return OHM_ERR_MEMORY;
    char *run_text = NULL, *given_text = NULL;
    given->config = *run;
    ohm_status status = a->config ? ohm_config_read(&given->config, a->config) : OHM_OK;
    if (status == OHM_OK)
        status = ohm_experiment_set(given, &a->set);
    if (status == OHM_OK) {
        run_text = comparable_text(run);
        given_text = comparable_text(&given->config);
        status = run_text && given_text ? compare(a->resume, run_text, given_text) : OHM_FAIL(OHM_ERR_MEMORY, "no memory to compare configurations");
    }
    free(run_text);
    free(given_text);
    ohm_experiment_free(given);
    return status;
}

/* The run's own configuration; a run that was killed before it wrote one takes CONFIG again. */
static ohm_status read_resumed(ohm_experiment *experiment, const arguments *a)
{
    char path[OHM_PATH_BYTES];
    OHM_TRY(ohm_run_path(path, a->resume, "config.yaml"));
    if (access(path, F_OK) != 0) {
        if (!a->config)
            return OHM_FAIL(OHM_ERR_IO, "%s: no such file, so %s is no run; name CONFIG.yaml to start it", path, a->resume);
        OHM_TRY(ohm_config_read(&experiment->config, a->config));
        return ohm_experiment_set(experiment, &a->set);
    }
    OHM_TRY(ohm_config_read(&experiment->config, path));
    if (a->config || a->set.count)
        OHM_TRY(check_same(a, &experiment->config));
    const ohm_cli_list device = {.device = a->set.device};
    return ohm_experiment_set(experiment, &device);
}

static ohm_status read_new(ohm_experiment *experiment, const arguments *a)
{
    if (!a->config)
        return OHM_FAIL(OHM_ERR_CONFIG, "train: no CONFIG.yaml; name one, or go on with a run by --resume DIR");
    OHM_TRY(ohm_config_read(&experiment->config, a->config));
    return ohm_experiment_set(experiment, &a->set);
}

/* ---- the command --------------------------------------------------------------------------- */

static void print_result(const ohm_train_result *r, const char *dir)
{
    printf("%s: %" PRId64 " steps, %.1f s", dir, r->steps, r->seconds);
    if (r->noisy.chips)
        printf(", test accuracy %.4f clean, %.4f ± %.4f on %d chips\n", r->clean_accuracy, r->noisy.mean, r->noisy.deviation, r->noisy.chips);
    else if (r->clean_accuracy >= 0)
        printf(", test accuracy %.4f\n", r->clean_accuracy);
    else
        printf(", nothing left to do\n");
}

/* runs/NAME, NAME being one folder. */
static ohm_status default_folder(char dir[OHM_PATH_BYTES], const char *name)
{
    if (!*name || *name == '.' || strchr(name, '/'))
        return OHM_FAIL(OHM_ERR_CONFIG, "train: the name '%s' makes no folder in runs/; give --out, or another name", name);
    return ohm_run_path(dir, "runs", name);
}

static ohm_status run(ohm_experiment *experiment, const arguments *a)
{
    char dir[OHM_PATH_BYTES] = "";
    if (a->out && a->resume)
        return OHM_FAIL(OHM_ERR_CONFIG, "train: --out starts a run, --resume goes on with one; give only one of them");
    OHM_TRY(a->resume ? read_resumed(experiment, a) : read_new(experiment, a));
    if (!a->resume && !a->out)
        OHM_TRY(default_folder(dir, experiment->config.name));
    OHM_TRY(ohm_experiment_load(experiment));
    const ohm_train_job job = {&experiment->config, &experiment->architecture, &experiment->train, &experiment->test};
    const ohm_train_options train = {.run_dir = a->resume ? a->resume : a->out ? a->out : dir, .resume = a->resume != NULL,
                                     .log = a->quiet ? NULL : stdout, .stop = &stop,
                                     .memory_limit = a->memory_limit, .trace_path = a->trace};
    ohm_train_result result;
    catch_signals();
    OHM_TRY(ohm_train(&job, &train, &result));
    print_result(&result, train.run_dir);
    return OHM_OK;
}

ohm_status ohm_cmd_train(int argc, char **argv)
{
    arguments a = {0};
    int helped;
    OHM_TRY(ohm_cli_parse(&argp, argc, argv, &a, &helped));
    if (helped) {
        printf("\n");
        ohm_option_print_help(&ohm_config_options, stdout);
        return OHM_OK;
    }
    ohm_experiment *experiment = ohm_experiment_new();
    if (!experiment)
        return OHM_ERR_MEMORY;
    ohm_status status = run(experiment, &a);
    ohm_experiment_free(experiment);
    return status;
}
