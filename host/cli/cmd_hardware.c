/* ohmgrad hardware: the chips there are, one of them in full, the meaning of every key. */
#include <stdio.h>
#include <stdlib.h>

#include "host/cli/cli.h"
#include "host/config.h"

typedef struct {
    const char *name;
    ohm_cli_list set;
} arguments;

static error_t parse(int key, char *value, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case 's':
        return ohm_cli_list_add(&a->set, value);
    case ARGP_KEY_ARG:
        return ohm_cli_only(&a->name, value);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"set", 's', "KEY=VALUE", 0, "change a key of NAME before it is printed; may be repeated", 0},
    {0},
};
static const struct argp argp = {
    options,
    parse,
    "[NAME|FILE.yaml]",
    "Lists the chips that come with ohmgrad, or prints the whole description of one, ready to be "
    "saved as FILE.yaml and edited.\vEvery key, nested by its dots in a file:",
    NULL,
    NULL,
    NULL};

static ohm_status list_chips(void)
{
    char **names;
    ohm_hardware *hardware = malloc(sizeof *hardware);
    if (!hardware)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for a chip's description");
    ohm_status status = ohm_hardware_presets(&names);
    for (char **at = status == OHM_OK ? names : NULL; at && *at; at++) {
        if ((status = ohm_hardware_read(hardware, *at)) != OHM_OK)
            break;
        printf("%-14s %s\n", *at, hardware->source[0] ? hardware->source : "every effect off");
    }
    if (status == OHM_OK && !names[0])
        status = OHM_FAIL(OHM_ERR_IO, "no folder models/hardware here or beside the program");
    ohm_strings_free(names);
    free(hardware);
    return status;
}

static ohm_status load_chip(ohm_hardware *hardware, const arguments *a)
{
    OHM_TRY(ohm_hardware_read(hardware, a->name));
    for (int i = 0; i < a->set.count; i++)
        OHM_TRY(ohm_hardware_set(hardware, a->set.value[i]));
    return ohm_hardware_check(hardware);
}

ohm_status ohm_cmd_hardware(int argc, char **argv)
{
    arguments a = {0};
    int helped;
    OHM_TRY(ohm_cli_parse(&argp, argc, argv, &a, &helped));
    if (helped) {
        printf("\n");
        ohm_option_print_help(&ohm_hardware_options, stdout);
        return OHM_OK;
    }
    if (!a.name && a.set.count)
        return OHM_FAIL(OHM_ERR_CONFIG, "hardware: --set without a chip; give its name too");
    if (!a.name)
        return list_chips();
    ohm_hardware *hardware = malloc(sizeof *hardware);
    if (!hardware)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for a chip's description");
    ohm_status status = load_chip(hardware, &a);
    if (status == OHM_OK)
        ohm_hardware_print(hardware, stdout);
    free(hardware);
    return status;
}
