/* ohmgrad: finds the command, runs it, prints its error once. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "build_info.h"
#include "host/cli/cli.h"

typedef struct {
    const char *name, *help;
    ohm_status (*run)(int argc, char **argv);
} command;

static const command commands[] = {
    {"demo", "train three ways, compare on chips of rising noise", ohm_cmd_demo},
    {"train", "train a network, or go on with a run", ohm_cmd_train},
    {"eval", "accuracy over chip instances and times", ohm_cmd_eval},
    {"gradients", "the straight-through gradient against the full one", ohm_cmd_gradients},
    {"crossbar", "one tile as a circuit: solve, draw, export, choose its size", ohm_cmd_crossbar},
    {"profile", "what a training step costs in time and memory, by mode", ohm_cmd_profile},
    {"mvm", "one layer through the chip: y = x w^T + b", ohm_cmd_mvm},
    {"hardware", "list chips, print one, explain every key", ohm_cmd_hardware},
    {"info", "what was built, and what this machine has", ohm_cmd_info},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(void)
{
    printf("Usage: ohmgrad COMMAND [OPTION...]\n"
           "Train networks through a simulated analog compute-in-memory chip.\n\n");
    for (int i = 0; i < COMMANDS; i++)
        printf("  %-10s %s\n", commands[i].name, commands[i].help);
    printf("\nohmgrad COMMAND --help explains a command, ohmgrad --version names this build.\n"
           "Exit status: 0 done, 1 failed while running, 2 usage or configuration, 130 "
           "interrupted.\n");
}

static ohm_status no_command(const char *given)
{
    char names[256] = "";
    for (int i = 0; i < COMMANDS; i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? ", " : "",
                 commands[i].name);
    if (!given)
        return OHM_FAIL(OHM_ERR_CONFIG, "no command; give one of %s, or --help", names);
    return OHM_FAIL(OHM_ERR_CONFIG, "no command '%.80s'; give one of %s, or --help", given, names);
}

static ohm_status dispatch(int argc, char **argv)
{
    if (argc < 2)
        return no_command(NULL);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) {
        print_help();
        return OHM_OK;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("ohmgrad %s (%s)\n", OHM_VERSION, OHM_COMMIT);
        return OHM_OK;
    }
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(argv[1], commands[i].name))
            return commands[i].run(argc - 1, argv + 1);
    return no_command(argv[1]);
}

/* Output that never arrived is a failure too. */
static ohm_status flush_output(void)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        return OHM_FAIL(OHM_ERR_IO, "cannot write the standard output: %s", strerror(errno));
    return OHM_OK;
}

/* OpenMP threads that spin between regions cost several times the work where cores are shared. The
 * runtime reads its environment before main, so the choice takes effect in a second start. */
static void let_threads_sleep(char **argv)
{
    if (!getenv("OMP_WAIT_POLICY") && setenv("OMP_WAIT_POLICY", "passive", 1) == 0)
        execv("/proc/self/exe", argv); /* where it fails we go on, slower */
}

int main(int argc, char **argv)
{
    let_threads_sleep(argv);
    signal(SIGXFSZ, SIG_IGN); /* a file-size limit then fails the write instead of killing us */
    ohm_status status = dispatch(argc, argv);
    if (status == OHM_OK)
        status = flush_output();
    if (status == OHM_OK)
        return OHM_EXIT_OK;
    fprintf(stderr, "ohmgrad: %s\n", ohm_error_text());
    return status == OHM_ERR_CONFIG        ? OHM_EXIT_USAGE
           : status == OHM_ERR_INTERRUPTED ? OHM_EXIT_INTERRUPTED
                                           : OHM_EXIT_FAILURE;
}
