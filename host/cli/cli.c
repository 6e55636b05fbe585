#include "host/cli/cli.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "host/config.h"

/* What the outer parser hands to the command's and learns from argp. */
typedef struct {
    void *input;
    int helped;
    const char *last; /* the word that argp was at when it gave up */
} outer;

enum { KEY_HELP = 0x10000 };

static error_t parse_outer(int key, char *value, struct argp_state *state)
{
    outer *o = state->input;
    (void)value;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = o->input;
        return 0;
    case KEY_HELP:
        o->helped = 1;
        return 0;
    case ARGP_KEY_ERROR:
        o->last = state->next > 0 && state->next <= state->argc ? state->argv[state->next - 1] : "";
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Our codes travel through argp as negative numbers, its own are errno's. */
error_t ohm_cli_error(ohm_status status)
{
    return -(error_t)status;
}

ohm_status ohm_cli_parse(const struct argp *argp, int argc, char **argv, void *input, int *helped)
{
    static const struct argp_option options[] = {
        {"help", KEY_HELP, NULL, 0, "show this help", -1},
        {0},
    };
    const struct argp_child children[] = {{argp, 0, NULL, 0}, {0}};
    const struct argp whole = {options, parse_outer, NULL, NULL, children, NULL, NULL};
    outer o = {.input = input};
    char name[64];
    snprintf(name, sizeof name, "ohmgrad %s", argv[0]);

    *helped = 0;
    error_t error =
        argp_parse(&whole, argc, argv, ARGP_NO_HELP | ARGP_NO_ERRS | ARGP_NO_EXIT, NULL, &o);
    if (o.helped) {
        argp_help(&whole, stdout, ARGP_HELP_USAGE | ARGP_HELP_LONG | ARGP_HELP_DOC, name);
        *helped = 1;
        return OHM_OK;
    }
    if (error < 0)
        return (ohm_status)-error;
    if (error > 0)
        return OHM_FAIL(OHM_ERR_CONFIG,
                        "%s: '%.80s' is unknown here, ambiguous, or lacks its value; see %s --help",
                        argv[0], o.last ? o.last : "", name);
    return OHM_OK;
}

error_t ohm_cli_list_add(ohm_cli_list *list, const char *value)
{
    if (list->count == OHM_CLI_LIST_MAX)
        return ohm_cli_error(OHM_FAIL(
            OHM_ERR_CONFIG, "more than %d values of one option; use a file", OHM_CLI_LIST_MAX));
    list->value[list->count++] = value;
    return 0;
}

static ohm_status read_device(ohm_mode *device, const char *value)
{
    char text[64];
    ohm_config *config = malloc(sizeof *config);
    if (!config)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for a configuration");
    snprintf(text, sizeof text, "device=%.50s", value);
    ohm_status status = ohm_config_set(config, text);
    *device = config->device;
    free(config);
    return status;
}

error_t ohm_cli_device(ohm_cli_list *list, const char *value)
{
    ohm_mode device;
    list->device = value;
    return ohm_cli_error(read_device(&device, value));
}

error_t ohm_cli_bytes(size_t *bytes, const char *option, const char *text)
{
    static const char units[] = "KMGT";
    char *end;
    double value = strtod(text, &end);
    const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    int number = isdigit((unsigned char)*text) && !strpbrk(text, "xX");
    if (number && unit) {
        value = ldexp(value, 10 * (int)(unit - units + 1));
        end += strncasecmp(end + 1, "iB", 2) == 0 ? 3 : strncasecmp(end + 1, "B", 1) == 0 ? 2 : 1;
    }
    if (!number || *end || !(value >= 1 && value < 0x1p62))
        return ohm_cli_error(
            OHM_FAIL(OHM_ERR_CONFIG, "%s '%.40s' is no size; write 8G, 1.5G, 512M or bytes", option,
                     text));
    *bytes = (size_t)value;
    return 0;
}

error_t ohm_cli_unexpected(const char *value)
{
    return ohm_cli_error(
        OHM_FAIL(OHM_ERR_CONFIG, "one argument too many: '%.80s'; see --help", value));
}

error_t ohm_cli_only(const char **argument, const char *value)
{
    if (*argument)
        return ohm_cli_unexpected(value);
    *argument = value;
    return 0;
}
