/* Kirchhoff's equations as they stand: an unknown for each node's voltage and each segment's current, so
 * that a resistance of zero is as good as any other. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/irdrop_exact.h"

typedef struct {
    int rows, columns, nodes, size, sides;
    double *a; /* [size][size + sides]: equations and one right side per input */
} system_of_tile;

static double *entry(system_of_tile *s, int row, int column)
{
    return &s->a[(size_t)row * (s->size + s->sides) + column];
}

static int word_node(const system_of_tile *s, int r, int c)
{
    return r * s->columns + c;
}

static int bit_node(const system_of_tile *s, int r, int c)
{
    return s->rows * s->columns + r * s->columns + c;
}

/* A segment of `ohms` from node `from` (-1: the source of input `input`; -2: ground) to node `to`. */
static void connect(system_of_tile *s, int segment, int from, int to, double ohms, int input)
{
    int current =
        s->nodes + segment; /* index of both the unknown and its equation v_from - v_to - R·i = 0 */
    *entry(s, current, current) = -ohms;
    if (from >= 0) {
        *entry(s, current, from) += 1.0;
        *entry(s, from, current) += 1.0;
    } else if (from == -1)
        *entry(s, current, s->size + input) -= 1.0;
    if (to >= 0) {
        *entry(s, current, to) -= 1.0;
        *entry(s, to, current) -= 1.0;
    }
}

static void write_equations(system_of_tile *s, const double *g, const ohm_crosspoint *t)
{
    const ohm_wires *w = &t->wires;
    int segment = 0;
    for (int r = 0; r < s->rows; r++)
        for (int c = 0; c < s->columns; c++) {
            int a = word_node(s, r, c), b = bit_node(s, r, c);
            double conductance = g[(size_t)r * s->columns + c];
            *entry(s, a, a) += conductance;
            *entry(s, a, b) -= conductance;
            *entry(s, b, b) += conductance;
            *entry(s, b, a) -= conductance;
        }
    for (int r = 0; r < s->rows; r++) {
        connect(s, segment++, -1, word_node(s, r, 0), w->driver + w->word_line, r);
        for (int c = 1; c < s->columns; c++)
            connect(s, segment++, word_node(s, r, c - 1), word_node(s, r, c), w->word_line, 0);
        if (w->drive_both)
            connect(s, segment++, -1, word_node(s, r, s->columns - 1), w->driver + w->word_line, r);
    }
    for (int c = 0; c < s->columns; c++) {
        connect(s, segment++, bit_node(s, s->rows - 1, c), -2, w->sense + w->bit_line, 0);
        for (int r = 1; r < s->rows; r++)
            connect(s, segment++, bit_node(s, r - 1, c), bit_node(s, r, c), w->bit_line, 0);
        if (w->sense_both)
            connect(s, segment++, bit_node(s, 0, c), -2, w->sense + w->bit_line, 0);
    }
}

/* Gaussian elimination with row pivoting; the right sides become the solutions. */
static int eliminate(system_of_tile *s)
{
    int width = s->size + s->sides;
    for (int i = 0; i < s->size; i++) {
        int pivot = i;
        for (int r = i + 1; r < s->size; r++)
            pivot = fabs(*entry(s, r, i)) > fabs(*entry(s, pivot, i)) ? r : pivot;
        if (*entry(s, pivot, i) == 0.0)
            return 0;
        for (int c = i; c < width && pivot != i; c++) {
            double swap = *entry(s, i, c);
            *entry(s, i, c) = *entry(s, pivot, c);
            *entry(s, pivot, c) = swap;
        }
        for (int r = 0; r < s->size; r++) {
            double factor = *entry(s, r, i) / *entry(s, i, i);
            for (int c = i; c < width && r != i && factor != 0.0; c++)
                *entry(s, r, c) -= factor * *entry(s, i, c);
        }
    }
    return 1;
}

ohm_solve_status ohm_irdrop_nodal_ref(double *g_eff, const double *g, const ohm_crosspoint *t)
{
    int cells = t->rows * t->columns,
        words = t->rows * (t->columns + (t->wires.drive_both ? 1 : 0));
    int bits = t->columns * (t->rows + (t->wires.sense_both ? 1 : 0)),
        per_column = bits / t->columns;
    system_of_tile s = {.rows = t->rows,
                        .columns = t->columns,
                        .nodes = 2 * cells,
                        .size = 2 * cells + words + bits,
                        .sides = t->rows};
    s.a = calloc((size_t)s.size * (s.size + s.sides), sizeof *s.a);
    if (!s.a)
        return OHM_SOLVE_SINGULAR;
    write_equations(&s, g, t);
    int solved = eliminate(&s);
    for (int c = 0; c < t->columns && solved; c++)
        for (int r = 0; r < t->rows; r++) {
            int last = s.nodes + words + c * per_column, first = last + t->rows;
            g_eff[(size_t)r * t->columns + c] =
                *entry(&s, last, s.size + r) / *entry(&s, last, last);
            if (t->wires.sense_both)
                g_eff[(size_t)r * t->columns + c] +=
                    *entry(&s, first, s.size + r) / *entry(&s, first, first);
        }
    free(s.a);
    return solved ? OHM_SOLVE_OK : OHM_SOLVE_SINGULAR;
}
