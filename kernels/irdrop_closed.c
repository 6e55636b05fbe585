#include "kernels/irdrop.h"

#include <stddef.h>
#include <string.h>

/* Relative voltage lost along the word lines when cell (r, c) draws x[r][c]: two prefix sums a row.
 * Driven at both ends, the far source lifts every node by its share of the open-end loss. */
static void word_line_loss(double *loss, const double *x, int rows, int columns, const ohm_wires *w)
{
    double span = 2.0 * w->driver + w->word_line * (columns + 1);
    for (int r = 0; r < rows; r++) {
        const double *row = x + (size_t)r * columns;
        double *out = loss + (size_t)r * columns, current = 0.0, lost;
        for (int c = 0; c < columns; c++)
            current += row[c];
        lost = w->driver * current;
        for (int c = 0; c < columns; c++) {
            lost += w->word_line * current;
            out[c] = lost;
            current -= row[c];
        }
        if (w->drive_both && span > 0.0) {
            double end = out[columns - 1] / span;
            for (int c = 0; c < columns; c++)
                out[c] -= end * (w->driver + w->word_line * (c + 1));
        }
    }
}

/* The same along the bit lines, added to loss; all columns of a row at once. sum: [columns]. */
static void add_bit_line_loss(double *loss, const double *x, int rows, int columns, int rows_below, const ohm_wires *w, double *sum)
{
    double tail = w->sense + w->bit_line * rows_below, span = 2.0 * w->sense + w->bit_line * (rows + rows_below + 1);
    double *total = sum, *lost = sum + columns, *end = sum + 2 * (size_t)columns;
    double idle = w->unused * rows_below * (w->sense + 0.5 * w->bit_line * (rows_below + 1));
    memset(sum, 0, 3 * (size_t)columns * sizeof *sum);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            total[c] += x[(size_t)r * columns + c];
    for (int c = 0; c < columns; c++)
        lost[c] = tail * total[c] + idle;
    if (w->sense_both && span > 0.0) /* the loss at the top, were it open */
        for (int c = 0; c < columns; c++) {
            end[c] = idle / span;
            for (int r = 0; r < rows; r++)
                end[c] += x[(size_t)r * columns + c] * (tail + w->bit_line * (rows - r)) / span;
        }
    for (int r = rows - 1; r >= 0; r--)
        for (int c = 0; c < columns; c++) {
            lost[c] += w->bit_line * total[c];
            loss[(size_t)r * columns + c] += lost[c] - end[c] * (tail + w->bit_line * (rows - r));
            total[c] -= x[(size_t)r * columns + c];
        }
}

static void loss_of(double *loss, const double *x, int rows, int columns, int rows_below, const ohm_wires *w, double *sum)
{
    word_line_loss(loss, x, rows, columns, w);
    add_bit_line_loss(loss, x, rows, columns, rows_below, w, sum);
}

void ohm_irdrop_closed(double *g_eff, const double *g, int rows, int columns, int rows_below, const ohm_wires *wires, double *scratch)
{
    size_t cells = (size_t)rows * columns;
    loss_of(scratch, g, rows, columns, rows_below, wires, scratch + cells);
    for (size_t i = 0; i < cells; i++)
        g_eff[i] = g[i] / (1.0 + scratch[i]);
}

/* Both loss operators are symmetric (a line's resistance shared by two cells), hence
 * dL/dg = D∘S - loss(D∘g∘S²) with S = 1/(1 + loss(g)). */
void ohm_irdrop_closed_adjoint(double *dg, const double *dg_eff, const double *g, int rows, int columns, int rows_below,
                               const ohm_wires *wires, double *scratch)
{
    size_t cells = (size_t)rows * columns;
    double *loss = scratch, *h = scratch + cells, *sum = scratch + 2 * cells;
    ohm_wires linear = *wires;
    linear.unused = 0.0; /* what unused cells drain is a constant */
    loss_of(loss, g, rows, columns, rows_below, wires, sum);
    for (size_t i = 0; i < cells; i++) {
        double s = 1.0 / (1.0 + loss[i]);
        dg[i] += dg_eff[i] * s;
        h[i] = dg_eff[i] * g[i] * s * s;
    }
    loss_of(loss, h, rows, columns, rows_below, &linear, sum);
    for (size_t i = 0; i < cells; i++)
        dg[i] -= loss[i];
}
