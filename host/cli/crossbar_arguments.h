/* The command line of `ohmgrad crossbar ACTION`, and the files it names, read and checked. */
#ifndef OHM_HOST_CLI_CROSSBAR_ARGUMENTS_H
#define OHM_HOST_CLI_CROSSBAR_ARGUMENTS_H

#include <stdint.h>

#include "host/cli/cli.h"
#include "host/crossbar.h"
#include "host/hardware.h"
#include "host/matrix.h"

typedef enum {
    OHM_CROSSBAR_SOLVE = 1,
    OHM_CROSSBAR_GEFF = 2,
    OHM_CROSSBAR_NETLIST = 4,
    OHM_CROSSBAR_MAP = 8,
    OHM_CROSSBAR_SWEEP = 16
} ohm_crossbar_action;

typedef struct {
    char g[OHM_PATH_BYTES], v[OHM_PATH_BYTES], out[OHM_PATH_BYTES], data[OHM_PATH_BYTES],
        plot[OHM_PATH_BYTES]; /* "" = not given */
    double r_wordline, r_bitline, r_driver, r_sense, iv_coefficient, v_read;
    int drive, sense, iv, zero_input, fp64, row, threads;
    ohm_coefficients sizes, r, limit;
    char weights[OHM_PATH_BYTES];
    double g_max, on_off;
    int tiles;
    int64_t seed;
    int v_read_given; /* --v-read stood on the command line */
} ohm_crossbar_arguments;

/* Parses argv of one action, argv[0] its name. *helped as in ohm_cli_parse. Refuses what is missing, and
 * outputs that are inputs. */
ohm_status ohm_crossbar_parse(ohm_crossbar_arguments *a, ohm_crossbar_action action, int argc,
                              char **argv, int *helped);
/* The terminals and wires; word_line and bit_line 0 for a sweep. */
ohm_wires ohm_crossbar_wires(const ohm_crossbar_arguments *a);

/* A tile and its inputs. */
typedef struct {
    ohm_crossbar tile;
    ohm_matrix g, v; /* v.value NULL: no inputs */
} ohm_crossbar_operands;

typedef ohm_status ohm_crossbar_run(const ohm_crossbar_arguments *a, const ohm_crossbar_operands *o);

/* An action on a given tile: parses, checks the name of --out (check_out may be NULL), reads and checks what
 * the arguments name, runs, frees. */
ohm_status ohm_crossbar_act(ohm_crossbar_action action, ohm_status (*check_out)(const char *path),
                            ohm_crossbar_run *run, int argc, char **argv);

ohm_status ohm_crossbar_map(int argc, char **argv);
ohm_status ohm_crossbar_sweep(int argc, char **argv);

#endif
