/* ohmgrad crossbar map: where on a tile the voltage goes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cli/crossbar_arguments.h"
#include "host/cli/plot.h"
#include "host/file.h"

/* One input's solution, cell by cell; a cell whose row is at 0 V has no loss (NaN). */
typedef struct {
    const ohm_crossbar *x;
    const double *v; /* [rows] */
    double *word, *bit, *loss,
        *picture[3];         /* [rows][columns]: volts; share of current; in the figure's units */
    double *current, *ideal; /* [columns] amperes */
    int worst_row, worst_column; /* -1: no row is driven */
    double *memory;
    ohm_crossbar_report report;
} map;

static ohm_status allocate(map *m, const ohm_crosspoint *t)
{
    size_t cells = (size_t)t->rows * (size_t)t->columns;
    m->memory = malloc((6 * cells + 2 * (size_t)t->columns) * sizeof *m->memory);
    if (!m->memory)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for a map of %d x %d", t->rows, t->columns);
    m->word = m->memory;
    m->bit = m->word + cells;
    m->loss = m->bit + cells;
    m->picture[0] = m->loss + cells;
    m->picture[1] = m->picture[0] + cells;
    m->picture[2] = m->picture[1] + cells;
    m->current = m->picture[2] + cells;
    m->ideal = m->current + t->columns;
    return OHM_OK;
}

static size_t cell_of(const map *m, int r, int c)
{
    return (size_t)r * (size_t)m->x->network.tile.columns + (size_t)c;
}

/* Amperes per siemens. */
static double cell_current(const map *m, double volts)
{
    return ohm_cell_law_current(&m->x->network.law, volts, NULL);
}

/* A cell's current is less by the share that the voltage across it takes from the law. */
static void find_losses(map *m)
{
    double worst = -INFINITY;
    m->worst_row = m->worst_column = -1;
    for (int r = 0; r < m->x->network.tile.rows; r++)
        for (int c = 0; c < m->x->network.tile.columns; c++) {
            size_t i = cell_of(m, r, c);
            m->loss[i] = NAN;
            if (m->v[r] == 0.0)
                continue;
            m->loss[i] = 1.0 - cell_current(m, m->word[i] - m->bit[i]) / cell_current(m, m->v[r]);
            if (m->loss[i] > worst) {
                worst = m->loss[i];
                m->worst_row = r;
                m->worst_column = c;
            }
        }
}

static void print_map(const map *m, int all_rows)
{
    const ohm_crosspoint *t = &m->x->network.tile;
    double real = 0.0, ideal = 0.0, drive = 0.0;
    for (int c = 0; c < t->columns; c++) {
        real += m->current[c];
        ideal += m->ideal[c];
    }
    for (int r = 0; r < t->rows; r++)
        drive = fmax(drive, fabs(m->v[r]));
    printf("%d x %d cells, %s %g V: %s; residual %.2g\n", t->rows, t->columns,
           all_rows ? "all rows at" : "inputs up to", drive, m->report.method,
           m->report.solve.residual);
    printf("current into the sense side: %.6g A of %.6g A without wires\n", real, ideal);
    if (m->worst_row < 0) {
        printf("no row is driven\n");
        return;
    }
    size_t i = cell_of(m, m->worst_row, m->worst_column);
    printf(
        "worst cell: row %d, column %d: %.6g V of %.6g V across it, %.4g %% of its current lost\n",
        m->worst_row, m->worst_column, m->word[i] - m->bit[i], m->v[m->worst_row],
        100 * m->loss[i]);
}

static ohm_status write_numbers(const map *m, const char *path)
{
    ohm_file_text text;
    OHM_TRY(ohm_file_text_open(&text, path));
    fprintf(text.stream, "row,column,g_s,word_line_v,bit_line_v,current_a,loss\n");
    for (int r = 0; r < m->x->network.tile.rows; r++)
        for (int c = 0; c < m->x->network.tile.columns; c++) {
            size_t i = cell_of(m, r, c);
            double g = m->x->network.g[i], across = m->word[i] - m->bit[i];
            fprintf(text.stream, "%d,%d,%.9g,%.9g,%.9g,%.9g,%.9g\n", r, c, g, m->word[i], m->bit[i],
                    g * cell_current(m, across), m->loss[i]);
        }
    return ohm_file_text_write(&text, path);
}

/* The unit in which the largest of these volts is a number from 1 to 1000. */
static const char *volt_unit(const double *v, size_t count, double *factor)
{
    double largest = 0.0;
    for (size_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(v[i]));
    *factor = largest >= 1.0 || largest == 0.0 ? 1.0 : largest >= 1e-3 ? 1e3 : 1e6;
    return *factor == 1.0 ? "V" : *factor == 1e3 ? "mV" : "uV";
}

static ohm_status draw(const map *m, const char *path)
{
    const ohm_crosspoint *t = &m->x->network.tile;
    size_t cells = (size_t)t->rows * (size_t)t->columns;
    double factor[2];
    const char *const unit[2] = {volt_unit(m->word, cells, &factor[0]),
                                 volt_unit(m->bit, cells, &factor[1])};
    for (size_t i = 0; i < cells; i++) {
        m->picture[0][i] = factor[0] * m->word[i];
        m->picture[1][i] = factor[1] * m->bit[i];
        m->picture[2][i] = 100 * m->loss[i];
    }
    const ohm_plot_map maps[] = {
        {"Word line voltage", unit[0], m->picture[0], -1, -1},
        {"Bit line voltage", unit[1], m->picture[1], -1, -1},
        {"Current lost, worst cell marked", "%", m->picture[2], m->worst_row, m->worst_column},
    };
    return ohm_plot_maps(path, maps, 3, t->rows, t->columns,
                         t->wires.sense_both ? "bit line (sensed at top and bottom)"
                                             : "bit line (sensed at the bottom)",
                         t->wires.drive_both ? "word line (driven from both sides)"
                                             : "word line (driven from the left)");
}

static ohm_status make(map *m, const ohm_crossbar_arguments *a, const ohm_crossbar_operands *o)
{
    if (a->row >= o->v.rows)
        return OHM_FAIL(OHM_ERR_CONFIG, "--row %d: there are %d inputs, counted from 0", a->row,
                        o->v.rows);
    m->x = &o->tile;
    m->v = o->v.value + (size_t)a->row * (size_t)o->v.columns;
    OHM_TRY(allocate(m, &o->tile.network.tile));
    OHM_TRY(ohm_crossbar_nodes(m->current, m->word, m->bit, m->x, m->v, &m->report));
    ohm_crossbar_ideal(m->ideal, m->x, m->v, 1);
    find_losses(m);
    print_map(m, !*a->v);
    if (*a->data)
        OHM_TRY(write_numbers(m, a->data));
    return draw(m, a->out);
}

static ohm_status map_operands(const ohm_crossbar_arguments *a, const ohm_crossbar_operands *o)
{
    map m = {0};
    ohm_status status = make(&m, a, o);
    free(m.memory);
    return status;
}

ohm_status ohm_crossbar_map(int argc, char **argv)
{
    return ohm_crossbar_act(OHM_CROSSBAR_MAP, ohm_plot_check_name, map_operands, argc, argv);
}
