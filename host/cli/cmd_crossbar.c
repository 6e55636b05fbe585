/* ohmgrad crossbar: one tile as a circuit, in siemens, volts, ohms and amperes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cli/crossbar_arguments.h"
#include "host/file.h"

/* ---- solve --------------------------------------------------------------------------------- */

/* Current that the wires cost: relative to all current, and at worst relative to the largest of its input. */
static void print_loss(const double *real, const double *ideal, int inputs, int columns)
{
    double lost = 0.0, total = 0.0, worst = -1.0;
    size_t at = 0;
    for (int i = 0; i < inputs; i++) {
        const double *want = ideal + (size_t)i * columns, *got = real + (size_t)i * columns;
        double largest = 0.0;
        for (int c = 0; c < columns; c++)
            largest = fmax(largest, fabs(want[c]));
        for (int c = 0; c < columns && largest > 0.0; c++) {
            double error = fabs(want[c] - got[c]);
            lost += error;
            total += fabs(want[c]);
            if (error / largest > worst) {
                worst = error / largest;
                at = (size_t)i * (size_t)columns + (size_t)c;
            }
        }
    }
    if (!(total > 0.0)) {
        printf("no input drives a current\n");
        return;
    }
    printf("changed by the wires: %.4g %% of all current; at worst %.4g %% of the input's largest "
           "(input %zu, column %zu: %.6g A instead of %.6g A)\n",
           100 * lost / total, 100 * worst, at / (size_t)columns, at % (size_t)columns, real[at],
           ideal[at]);
}

static void print_report(const ohm_crossbar_report *report)
{
    printf("%s, ", report->method);
    if (report->solve.iterations)
        printf("%d iterations, ", report->solve.iterations);
    if (report->solve.inner)
        printf("%d steps of conjugate gradients, ", report->solve.inner);
    if (!isnan(report->solve.residual))
        printf("residual %.2g, ", report->solve.residual);
    printf("renormalised %d times\n", report->solve.renormalised);
}

static ohm_status solve_operands(const ohm_crossbar_arguments *a, const ohm_crossbar_operands *o)
{
    const ohm_crosspoint *t = &o->tile.network.tile;
    int inputs = o->v.rows;
    size_t count = (size_t)inputs * (size_t)t->columns;
    double *real = malloc(2 * count * sizeof *real), *ideal = real ? real + count : NULL;
    ohm_crossbar_report report;
    if (!real)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for %d x %d currents", inputs, t->columns);
    ohm_status status = ohm_crossbar_solve(real, &o->tile, o->v.value, inputs, a->fp64, &report);
    if (status == OHM_OK)
        status = ohm_matrix_write(a->out, real, inputs, t->columns, a->fp64);
    if (status == OHM_OK) {
        printf("%d x %d cells, %d input%s: ", t->rows, t->columns, inputs, inputs == 1 ? "" : "s");
        print_report(&report);
        ohm_crossbar_ideal(ideal, &o->tile, o->v.value, inputs);
        print_loss(real, ideal, inputs, t->columns);
    }
    free(real);
    return status;
}

static ohm_status solve(int argc, char **argv)
{
    return ohm_crossbar_act(OHM_CROSSBAR_SOLVE, ohm_matrix_check_name, solve_operands, argc, argv);
}

/* ---- geff ---------------------------------------------------------------------------------- */

static ohm_status write_geff(const ohm_crossbar_arguments *a, const ohm_crossbar_operands *o)
{
    const ohm_crosspoint *t = &o->tile.network.tile;
    size_t cells = (size_t)t->rows * (size_t)t->columns;
    double *g_eff = malloc(cells * sizeof *g_eff), was = 0.0, is = 0.0;
    ohm_crossbar_report report;
    if (!g_eff)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for G_eff of %d x %d", t->rows, t->columns);
    ohm_status status = ohm_crossbar_geff(g_eff, &o->tile, a->fp64, &report);
    if (status == OHM_OK)
        status = ohm_matrix_write(a->out, g_eff, t->rows, t->columns, a->fp64);
    if (status == OHM_OK) {
        printf("%d x %d cells: ", t->rows, t->columns);
        print_report(&report);
        for (size_t i = 0; i < cells; i++) {
            was += o->g.value[i];
            is += g_eff[i];
        }
        if (was > 0.0)
            printf("sum of G_eff: %.6g S of %.6g S (%.4g %% lost with all rows driven)\n", is, was,
                   100 * (1 - is / was));
    }
    free(g_eff);
    return status;
}

static ohm_status geff(int argc, char **argv)
{
    return ohm_crossbar_act(OHM_CROSSBAR_GEFF, ohm_matrix_check_name, write_geff, argc, argv);
}

/* ---- netlist ------------------------------------------------------------------------------- */

static ohm_status write_deck(const ohm_crossbar_arguments *a, const ohm_crossbar_operands *o)
{
    ohm_file_text text;
    if (a->row >= o->v.rows)
        return OHM_FAIL(OHM_ERR_CONFIG, "--row %d: %s has %d rows, counted from 0", a->row, a->v,
                        o->v.rows);
    OHM_TRY(ohm_file_text_open(&text, a->out));
    ohm_crossbar_netlist(text.stream, &o->tile, o->v.value + (size_t)a->row * (size_t)o->v.columns,
                         a->row, o->v.rows);
    return ohm_file_text_write(&text, a->out);
}

static ohm_status netlist(int argc, char **argv)
{
    return ohm_crossbar_act(OHM_CROSSBAR_NETLIST, NULL, write_deck, argc, argv);
}

/* ---- the command --------------------------------------------------------------------------- */

static const struct {
    const char *name, *help;
    ohm_status (*run)(int argc, char **argv);
} actions[] = {
    {"solve", "column currents of given inputs", solve},
    {"geff", "the effective conductances: one matrix for all inputs", geff},
    {"netlist", "the same circuit as a SPICE deck", netlist},
    {"map", "node voltages and lost current as heat maps", ohm_crossbar_map},
    {"sweep", "loss over tile size, wire resistance and weights", ohm_crossbar_sweep},
};
enum { ACTIONS = sizeof actions / sizeof actions[0] };

static void print_help(void)
{
    printf("Usage: ohmgrad crossbar ACTION [OPTION...]\n"
           "One crossbar tile as an electrical circuit, with the voltage its wires lose.\n\n");
    for (int i = 0; i < ACTIONS; i++)
        printf("  %-10s %s\n", actions[i].name, actions[i].help);
    printf("\nohmgrad crossbar ACTION --help explains an action.\n");
}

ohm_status ohm_cmd_crossbar(int argc, char **argv)
{
    const char *action = argc > 1 ? argv[1] : "";
    char name[64];
    if (!strcmp(action, "--help")) {
        print_help();
        return OHM_OK;
    }
    for (int i = 0; i < ACTIONS; i++)
        if (!strcmp(action, actions[i].name)) {
            snprintf(name, sizeof name, "crossbar %s", action);
            argv[1] = name;
            return actions[i].run(argc - 1, argv + 1);
        }
    return OHM_FAIL(OHM_ERR_CONFIG,
                    "crossbar: %s%.40s%s; give one of solve, geff, netlist, map, sweep, or --help",
                    argc > 1 ? "no action '" : "no action", action, argc > 1 ? "'" : "");
}
