#include "host/cli/crossbar_arguments.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/cli/plot.h"
#include "host/file.h"
#include "host/option.h"

/* Which actions take an option, and which need it. */
typedef struct {
    int actions, needed;
    const char *value; /* its placeholder in the help; NULL: a flag */
    ohm_option option;
} entry;

enum {
    SOLVE = OHM_CROSSBAR_SOLVE,
    GEFF = OHM_CROSSBAR_GEFF,
    NETLIST = OHM_CROSSBAR_NETLIST,
    MAP = OHM_CROSSBAR_MAP,
    SWEEP = OHM_CROSSBAR_SWEEP,
    TILE = SOLVE | GEFF | NETLIST | MAP, /* a given tile */
    DRIVEN = SOLVE | NETLIST | MAP,      /* with given inputs */
    ALL = TILE | SWEEP,
};

/* clang-format off */
#define FIELD(member) offsetof(ohm_crossbar_arguments, member), sizeof(((ohm_crossbar_arguments *)0)->member)
#define PATH(key, member, help) {key, OHM_OPTION_TEXT, FIELD(member), 0, 0, "", "", "", help}
#define NUMBER(key, member, type, low, high, fallback, unit, help) {key, type, FIELD(member), low, high, "", fallback, unit, help}
#define OHMS(key, member, help) NUMBER(key, member, OHM_OPTION_REAL, 0, 1e6, "0", "ohm", help)
#define ONE_OF(key, member, choices, fallback, help) {key, OHM_OPTION_CHOICE, FIELD(member), 0, 0, choices, fallback, "", help}

static const entry entries[] = {
    {TILE, TILE, "G.npy|G.csv", PATH("g", g, "conductances [rows,columns] in siemens")},
    {DRIVEN, SOLVE | NETLIST, "V.npy|V.csv", PATH("v", v, "inputs in volts, one per row: [inputs,rows]")},
    {ALL, TILE, "FILE", PATH("out", out, "")},
    {MAP, 0, "FILE.csv", PATH("data", data, "the losses and voltages, a line per cell")},
    {SWEEP, 0, "FILE.svg|.png", PATH("plot", plot, "draw loss over tile size; beside it its numbers (.dat) and gnuplot's script (.gp)")},
    {TILE, TILE, "OHM", OHMS("r-wordline", r_wordline, "word line, per segment between cells")},
    {TILE, TILE, "OHM", OHMS("r-bitline", r_bitline, "bit line, per segment between cells")},
    {ALL, 0, "OHM", OHMS("r-driver", r_driver, "driver of a word line")},
    {ALL, 0, "OHM", OHMS("r-sense", r_sense, "input of a sense amplifier")},
    {ALL, 0, "WHERE", ONE_OF("drive", drive, "one_end|both_ends", "one_end", "where word lines are driven: one_end or both_ends")},
    {ALL, 0, "WHERE", ONE_OF("sense", sense, "one_end|both_ends", "one_end", "where bit lines are sensed: one_end or both_ends")},
    {DRIVEN, 0, "LAW", ONE_OF("iv", iv, "linear|cubic|sinh", "linear", "cells: linear g v, sinh g sinh(a v) / a, cubic g (v - a v^3)")},
    {DRIVEN, 0, "A", NUMBER("iv-coefficient", iv_coefficient, OHM_OPTION_REAL, 1e-6, 1e6, "1", "", "a of sinh in 1/V, of cubic in 1/V^2")},
    {DRIVEN, 0, "VOLT", NUMBER("v-read", v_read, OHM_OPTION_REAL, 1e-3, 10, "0.2", "V", "")},
    {DRIVEN, 0, "HOW", ONE_OF("zero-input", zero_input, "grounded|gated", "grounded", "rows whose input is 0 V: grounded, or cut off (gated)")},
    {SOLVE | GEFF, 0, NULL, NUMBER("fp64", fp64, OHM_OPTION_BOOL, 0, 1, "false", "", "double precision, in the output too")},
    {NETLIST | MAP, 0, "N", NUMBER("row", row, OHM_OPTION_INT, 0, 1 << 30, "0", "", "which row of V, from 0 (0)")},
    {SOLVE | SWEEP, 0, "N", NUMBER("threads", threads, OHM_OPTION_INT, 0, 1024, "0", "threads", "0 is one per core (0); the result is the same")},
    {SWEEP, 0, "N,N,...", NUMBER("sizes", sizes, OHM_OPTION_REALS, 1, 4096, "[32, 64, 128, 256]", "cells", "rows and columns of a tile (32,64,128,256)")},
    {SWEEP, 0, "OHM,...", NUMBER("r", r, OHM_OPTION_REALS, 0, 1e6, "[0.1, 1, 5]", "ohm", "word and bit line, per segment (0.1,1,5)")},
    {SWEEP, 0, "NAME,...", NUMBER("weights", weights, OHM_OPTION_TEXT, 0, 0, "uniform,bimodal,gaussian,half_off", "", "uniform between off and on; bimodal, off or on; gaussian, |N(0,1/3)| of the span; half_off, half of them off, the rest uniform (all four)")},
    {SWEEP, 0, "SIEMENS", NUMBER("g-max", g_max, OHM_OPTION_REAL, 1e-12, 1, "1e-4", "S", "conductance of a cell that is on (1e-4)")},
    {SWEEP, 0, "RATIO", NUMBER("on-off", on_off, OHM_OPTION_REAL, 1, (double)INFINITY, "100", "", "of conductances; inf makes off cells open (100)")},
    {SWEEP, 0, "N", NUMBER("tiles", tiles, OHM_OPTION_INT, 1, 1000, "4", "", "random tiles per point (4)")},
    {SWEEP, 0, "N", NUMBER("seed", seed, OHM_OPTION_INT64, 0, 4294967295.0, "1", "", "of the weights (1)")},
    {SWEEP, 0, "PERCENT,...", NUMBER("limit", limit, OHM_OPTION_REALS, 1e-6, 100, "[1, 5, 10]", "%", "mean losses for which the largest tile is named (1,5,10)")},
};
/* clang-format on */
enum { ENTRIES = sizeof entries / sizeof entries[0], KEY_FIRST = 256 };

/* What the same option means to different actions. */
static const char *help_of(const entry *e, int action)
{
    if (!strcmp(e->option.key, "out"))
        return action == SOLVE  ? "currents [inputs,columns] in amperes: I.npy or I.csv"
               : action == GEFF ? "effective conductances [rows,columns] in siemens: .npy or .csv"
               : action == NETLIST ? "the deck"
               : action == MAP     ? "the picture: .svg or .png; beside it its numbers (.dat) and gnuplot's script (.gp)"
                                   : "the table: .csv or .json";
    if (!strcmp(e->option.key, "v-read"))
        return action == MAP ? "every row's voltage where no --v is given (0.2); where given, as "
                               "in solve too: cells are scaled to conduct g at this voltage"
                             : "scale the cells' I(V) so that I(VOLT) = g VOLT; left out, g is the "
                               "conductance at 0 V";
    return e->option.help;
}

_Static_assert(OHM_CELL_CUBIC == (int)OHM_IV_CUBIC && OHM_CELL_SINH == (int)OHM_IV_SINH,
               "the choices of --iv are kinds of cells");

typedef struct {
    ohm_crossbar_arguments *a;
    int action, given[ENTRIES];
    ohm_option rows[ENTRIES];
    ohm_option_table table;
} parser;

/* Lists are written with commas and nothing else. */
static ohm_status set_value(parser *p, int i, const char *value)
{
    char list[256], *end;
    const ohm_option *row = &p->rows[i];
    if (row->type == OHM_OPTION_REAL && !strcmp(row->unit, "ohm") && isinf(strtod(value, &end)) &&
        !*end)
        return OHM_FAIL(
            OHM_ERR_CONFIG,
            "--%s %.40s leaves every line open; give 0..1e6 ohm, and see --zero-input for "
            "rows that are cut off",
            row->key, value);
    if (row->type == OHM_OPTION_REALS) {
        snprintf(list, sizeof list, "[%s]", value);
        if (strlen(value) + 3 > sizeof list || !*value)
            return OHM_FAIL(OHM_ERR_CONFIG, "--%s: '%.40s' is no list of numbers", row->key, value);
        value = list;
    }
    return ohm_option_set(&p->table, p->a, row->key, row->type == OHM_OPTION_BOOL ? "true" : value);
}

static error_t parse(int key, char *value, struct argp_state *state)
{
    parser *p = state->input;
    if (key == ARGP_KEY_ARG)
        return ohm_cli_unexpected(value);
    if (key < KEY_FIRST || key >= KEY_FIRST + ENTRIES)
        return ARGP_ERR_UNKNOWN;
    p->given[key - KEY_FIRST] = 1;
    ohm_status status = set_value(p, key - KEY_FIRST, value);
    return status == OHM_OK ? 0 : ohm_cli_error(status);
}

static const char *doc_of(int action)
{
    switch (action) {
    case SOLVE:
        return "Currents of a crossbar tile with resistive wires: the nodal solution.\vOne wire "
               "segment "
               "lies before the first cell of a word line and one after the last cell of a bit "
               "line, in "
               "series with driver and sense resistance. Without --fp64 linear tiles are solved in "
               "float32; tiles with gated rows or non-linear cells are always solved in double.";
    case GEFF:
        return "The effective conductances of a tile: I = V^T G_eff is the nodal solution for "
               "every V.";
    case NETLIST:
        return "The tile with one input as a SPICE deck: ngspice -b FILE prints the column "
               "currents.";
    case MAP:
        return "Node voltages and lost current over the tile, as heat maps.";
    default:
        return "Current lost on the wires of random square tiles, all rows driven, over tile size, "
               "wire "
               "resistance and distribution of weights.";
    }
}

static int index_of(const char *key)
{
    for (int i = 0; i < ENTRIES; i++)
        if (!strcmp(entries[i].option.key, key))
            return i;
    return -1;
}

/* ---- what must hold before a file is read --------------------------------------------------- */

static int same_file(const char *a, const char *b)
{
    struct stat x, y;
    return !strcmp(a, b) ||
           (stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

static ohm_status check_names(const ohm_crossbar_arguments *a)
{
    const char *const outs[] = {a->out, a->data, a->plot}, *const ins[] = {a->g, a->v};
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 2 && *outs[i]; k++) {
            if (*ins[k] && same_file(outs[i], ins[k]))
                return OHM_FAIL(OHM_ERR_CONFIG, "'%s' is input and output; choose another --out",
                                outs[i]);
            if (k < i && *outs[k] && same_file(outs[i], outs[k]))
                return OHM_FAIL(OHM_ERR_CONFIG, "'%s' is named for two outputs", outs[i]);
        }
    const char *picture = *a->plot ? a->plot : a->out, *other = *a->plot ? a->out : a->data;
    if (ohm_plot_is_beside(picture, other))
        return OHM_FAIL(OHM_ERR_CONFIG, "'%s' is where the figure %s keeps its own; choose another name",
                        other, picture);
    for (int i = 0; i < 3; i++)
        if (*outs[i])
            OHM_TRY(ohm_file_check_writable(outs[i]));
    return OHM_OK;
}

static ohm_status check_law(const parser *p)
{
    int given = p->given[index_of("iv-coefficient")];
    if (p->a->iv == OHM_IV_LINEAR && given)
        return OHM_FAIL(OHM_ERR_CONFIG, "--iv-coefficient without --iv sinh or cubic");
    if (p->a->iv != OHM_IV_LINEAR && !given)
        return OHM_FAIL(OHM_ERR_CONFIG, "--iv %s without --iv-coefficient",
                        p->a->iv == OHM_IV_SINH ? "sinh" : "cubic");
    return OHM_OK;
}

ohm_status ohm_crossbar_parse(ohm_crossbar_arguments *a, ohm_crossbar_action action, int argc,
                              char **argv, int *helped)
{
    parser p = {.a = a, .action = (int)action};
    struct argp_option options[ENTRIES + 1];
    int count = 0;
    memset(options, 0, sizeof options);
    memset(a, 0, sizeof *a);
    for (int i = 0; i < ENTRIES; i++) {
        const entry *e = &entries[i];
        p.rows[i] = e->option;
        if (e->actions & p.action)
            options[count++] = (struct argp_option){
                e->option.key, KEY_FIRST + i, e->value, 0, help_of(e, p.action), 0};
    }
    p.table = (ohm_option_table){"crossbar", p.rows, ENTRIES};
    OHM_TRY(ohm_option_defaults(&p.table, a));
    const struct argp argp = {options, parse, NULL, doc_of(p.action), NULL, NULL, NULL};
    OHM_TRY(ohm_cli_parse(&argp, argc, argv, &p, helped));
    if (*helped)
        return OHM_OK;
    for (int i = 0; i < ENTRIES; i++)
        if (entries[i].needed & p.action && !p.given[i])
            return OHM_FAIL(OHM_ERR_CONFIG, "%s: --%s is missing; see ohmgrad %s --help", argv[0],
                            entries[i].option.key, argv[0]);
    a->v_read_given = p.given[index_of("v-read")];
    if (a->threads > 0)
        omp_set_num_threads(a->threads);
    OHM_TRY(check_law(&p));
    return check_names(a);
}

ohm_wires ohm_crossbar_wires(const ohm_crossbar_arguments *a)
{
    return (ohm_wires){.word_line = a->r_wordline,
                       .bit_line = a->r_bitline,
                       .driver = a->r_driver,
                       .sense = a->r_sense,
                       .drive_both = a->drive == OHM_BOTH_ENDS,
                       .sense_both = a->sense == OHM_BOTH_ENDS};
}

/* ---- files --------------------------------------------------------------------------------- */

static ohm_status check_input(const ohm_crossbar_operands *o, const ohm_crossbar_arguments *a,
                              size_t i)
{
    double v = o->v.value[i], size = fabs(v);
    const ohm_cell_law *law = &o->tile.network.law;
    const char *name = *a->v ? a->v : "--v-read";
    size_t input = i / (size_t)o->v.columns, row = i % (size_t)o->v.columns;
    if (!isfinite(v))
        return OHM_FAIL(OHM_ERR_DATA, "%s: the voltage of input %zu at row %zu (from 0) is %g",
                        name, input, row, v);
    if (law->iv == OHM_CELL_CUBIC && 3 * law->coefficient * size * size >= 1.0)
        return OHM_FAIL(OHM_ERR_DATA,
                        "%s: input %zu at row %zu is %g V, where the current of v - %g v^3 falls; "
                        "stay below %.4g V",
                        name, input, row, v, law->coefficient, 1 / sqrt(3 * law->coefficient));
    if (law->iv == OHM_CELL_SINH && law->coefficient * size > 50.0)
        return OHM_FAIL(OHM_ERR_DATA,
                        "%s: input %zu at row %zu is %g V: sinh(%g * %g) exceeds any current; stay "
                        "below %.4g V",
                        name, input, row, v, law->coefficient, v, 50.0 / law->coefficient);
    return OHM_OK;
}

static ohm_status read_inputs(ohm_crossbar_operands *o, const ohm_crossbar_arguments *a)
{
    OHM_TRY(ohm_matrix_read(&o->v, a->v));
    if (o->v.columns != o->tile.network.tile.rows)
        return OHM_FAIL(
            OHM_ERR_DATA,
            "%s: %d voltages per input, but %s has %d rows; give one voltage per row, one "
            "input per line",
            a->v, o->v.columns, a->g, o->tile.network.tile.rows);
    for (size_t i = 0; i < (size_t)o->v.rows * (size_t)o->v.columns; i++)
        OHM_TRY(check_input(o, a, i));
    return OHM_OK;
}

/* Where no inputs are given, all rows at the read voltage. */
static ohm_status drive_all(ohm_crossbar_operands *o, const ohm_crossbar_arguments *a)
{
    o->v = (ohm_matrix){
        .rows = 1, .columns = o->g.rows, .value = malloc((size_t)o->g.rows * sizeof *o->v.value)};
    if (!o->v.value)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for %d voltages", o->g.rows);
    for (int r = 0; r < o->g.rows; r++)
        o->v.value[r] = a->v_read;
    for (int r = 0; r < o->g.rows; r++)
        OHM_TRY(check_input(o, a, (size_t)r));
    return OHM_OK;
}

static ohm_status load(ohm_crossbar_operands *o, const ohm_crossbar_arguments *a)
{
    OHM_TRY(ohm_matrix_read(&o->g, a->g));
    if (o->g.flat)
        return OHM_FAIL(OHM_ERR_DATA, "%s: has 1 dimension; give G [rows,columns]", a->g);
    o->tile = (ohm_crossbar){.network = {.tile = {o->g.rows, o->g.columns, ohm_crossbar_wires(a)},
                                         .g = o->g.value,
                                         .law = {a->iv, a->iv_coefficient, 1.0}},
                             .gated = a->zero_input == OHM_ZERO_GATED};
    if (a->v_read_given)
        o->tile.network.law = ohm_cell_law_at(a->iv, a->iv_coefficient, a->v_read);
    if (!(o->tile.network.law.scale > 0.0) || !isfinite(o->tile.network.law.scale))
        return OHM_FAIL(OHM_ERR_CONFIG,
                        "--v-read %g is beyond what cells with --iv-coefficient %g conduct",
                        a->v_read, a->iv_coefficient);
    if (*a->v)
        OHM_TRY(read_inputs(o, a));
    else
        OHM_TRY(drive_all(o, a));
    return ohm_crossbar_check(&o->tile, o->v.rows, a->g);
}

ohm_status ohm_crossbar_act(ohm_crossbar_action action, ohm_status (*check_out)(const char *path),
                            ohm_crossbar_run *run, int argc, char **argv)
{
    ohm_crossbar_arguments a;
    ohm_crossbar_operands o = {0};
    int helped;
    OHM_TRY(ohm_crossbar_parse(&a, action, argc, argv, &helped));
    if (helped)
        return OHM_OK;
    if (check_out)
        OHM_TRY(check_out(a.out));
    ohm_status status = load(&o, &a);
    if (status == OHM_OK)
        status = run(&a, &o);
    ohm_matrix_free(&o.g);
    ohm_matrix_free(&o.v);
    return status;
}
