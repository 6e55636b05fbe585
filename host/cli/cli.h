/* The program's commands and what they share. A command returns an ohm_status; main prints the
 * recorded line once and turns the code into the exit status. */
#ifndef OHM_HOST_CLI_CLI_H
#define OHM_HOST_CLI_CLI_H

#include <argp.h>
#include <stddef.h>

#include "host/status.h"

typedef enum {
    OHM_EXIT_OK = 0,
    OHM_EXIT_FAILURE = 1,       /* while running: a file, memory, data */
    OHM_EXIT_USAGE = 2,         /* a command line or a configuration */
    OHM_EXIT_INTERRUPTED = 130, /* as a shell reports Ctrl-C */
} ohm_exit;

/* argv[0] is the command's own name. */
ohm_status ohm_cmd_crossbar(int argc, char **argv);
ohm_status ohm_cmd_demo(int argc, char **argv);
ohm_status ohm_cmd_train(int argc, char **argv);
ohm_status ohm_cmd_eval(int argc, char **argv);
ohm_status ohm_cmd_gradients(int argc, char **argv);
ohm_status ohm_cmd_hardware(int argc, char **argv);
ohm_status ohm_cmd_info(int argc, char **argv);
ohm_status ohm_cmd_mvm(int argc, char **argv);
ohm_status ohm_cmd_profile(int argc, char **argv);

/* argp_parse with --help added and with one-line errors: *helped = 1 means that the help was asked
 * for and printed, and that the command has nothing more to do. A parser that refuses a value
 * records its error with OHM_FAIL and returns ohm_cli_error(status). */
ohm_status ohm_cli_parse(const struct argp *argp, int argc, char **argv, void *input, int *helped);
error_t ohm_cli_error(ohm_status status);

/* Values of an option that may be repeated, such as --set. */
enum { OHM_CLI_LIST_MAX = 256 };
typedef struct {
    int count;
    const char *value[OHM_CLI_LIST_MAX];
    const char *device; /* of --device; NULL: the configuration's */
} ohm_cli_list;

/* The option that every command takes, its key in the parser, and what the parser calls. */
enum { OHM_CLI_DEVICE = 0x7000 };
#define OHM_CLI_DEVICE_OPTION                                                                      \
    {"device", OHM_CLI_DEVICE, "auto|cpu|cuda[:N]", 0, "where to compute (default: the key device)", 0}
error_t ohm_cli_device(ohm_cli_list *list, const char *value);

/* For parsers: appends, or fails when the list is full. */
error_t ohm_cli_list_add(ohm_cli_list *list, const char *value);
/* For parsers: "8G", "1.5GiB", "512M", "100000" (bytes; K, M, G, T are powers of 1024). The error names
 * the option. */
error_t ohm_cli_bytes(size_t *bytes, const char *option, const char *text);
/* For parsers: refuses an argument that the command has no place for. */
error_t ohm_cli_unexpected(const char *value);
/* For parsers: the one argument that the command takes; refuses a second. */
error_t ohm_cli_only(const char **argument, const char *value);

#endif
