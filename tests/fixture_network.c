#include "tests/fixture_network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/runner.h"

typedef struct {
    int rows, columns, size, segment;
    double *a, *x, *f; /* Jacobian, unknowns, equations */
} kirchhoff;

static double law(const ohm_cell_law *l, double v, double *slope)
{
    double a = l->coefficient;
    *slope = l->iv == OHM_CELL_CUBIC  ? l->scale * (1.0 - 3.0 * a * v * v)
             : l->iv == OHM_CELL_SINH ? l->scale * cosh(a * v)
                                      : 1.0;
    return l->iv == OHM_CELL_CUBIC  ? l->scale * (v - a * v * v * v)
           : l->iv == OHM_CELL_SINH ? l->scale * sinh(a * v) / a
                                    : v;
}

static void add(kirchhoff *k, int equation, int unknown, double factor)
{
    k->a[(size_t)equation * k->size + unknown] += factor;
    k->f[equation] += factor * k->x[unknown];
}

/* A segment from node `from` (-1: a source of `volts`) to node `to` (-1: ground). */
static void segment(kirchhoff *k, int from, int to, double volts, double ohms)
{
    int current = 2 * k->rows * k->columns + k->segment++;
    add(k, current, current, -ohms);
    if (from >= 0) {
        add(k, current, from, 1.0);
        add(k, from, current, 1.0);
    } else
        k->f[current] += volts;
    if (to >= 0) {
        add(k, current, to, -1.0);
        add(k, to, current, -1.0);
    }
}

static void equations(kirchhoff *k, const ohm_nodal *n, const double *v, const uint8_t *off)
{
    const ohm_wires *w = &n->tile.wires;
    int rows = k->rows, columns = k->columns, cells = rows * columns;
    memset(k->a, 0, (size_t)k->size * k->size * sizeof *k->a);
    memset(k->f, 0, (size_t)k->size * sizeof *k->f);
    k->segment = 0;
    for (int i = 0; i < cells; i++) {
        double slope, g = off && off[i / columns] ? 0.0 : n->g[i],
                      current = g * law(&n->law, k->x[i] - k->x[cells + i], &slope);
        k->f[i] += current;
        k->f[cells + i] -= current;
        for (int side = 0; side < 4; side++)
            k->a[(size_t)(side & 2 ? cells + i : i) * k->size + (side & 1 ? cells + i : i)] +=
                (side == 0 || side == 3 ? 1.0 : -1.0) * g * slope;
    }
    for (int c = 0; c < columns;
         c++) { /* the bit lines' ends come first: their currents are wanted */
        segment(k, cells + (rows - 1) * columns + c, -1, 0.0, w->sense + w->bit_line);
        if (w->sense_both)
            segment(k, cells + c, -1, 0.0, w->sense + w->bit_line);
    }
    for (int r = 0; r < rows; r++) {
        segment(k, -1, r * columns, v[r], w->driver + w->word_line);
        if (w->drive_both)
            segment(k, -1, r * columns + columns - 1, v[r], w->driver + w->word_line);
        for (int c = 1; c < columns; c++)
            segment(k, r * columns + c - 1, r * columns + c, 0.0, w->word_line);
    }
    for (int r = 1; r < rows; r++)
        for (int c = 0; c < columns; c++)
            segment(k, cells + (r - 1) * columns + c, cells + r * columns + c, 0.0, w->bit_line);
}

/* f = a⁻¹·f, row pivoting; zeros are skipped. */
static void eliminate(kirchhoff *k)
{
    int n = k->size;
    for (int i = 0; i < n; i++) {
        int pivot = i;
        for (int r = i + 1; r < n; r++)
            if (fabs(k->a[(size_t)r * n + i]) > fabs(k->a[(size_t)pivot * n + i]))
                pivot = r;
        double *row = k->a + (size_t)i * n, *other = k->a + (size_t)pivot * n, f = k->f[i];
        for (int c = i; c < n && pivot != i; c++) {
            double held = row[c];
            row[c] = other[c];
            other[c] = held;
        }
        k->f[i] = k->f[pivot];
        k->f[pivot] = pivot == i ? k->f[i] : f;
        ck_assert_double_ne(row[i], 0.0);
        for (int r = i + 1; r < n; r++) {
            double *below = k->a + (size_t)r * n, factor = below[i] / row[i];
            for (int c = i; c < n && factor != 0.0; c++)
                below[c] -= factor * row[c];
            k->f[r] -= factor * k->f[i];
        }
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int c = i + 1; c < n; c++)
            k->f[i] -= k->a[(size_t)i * n + c] * k->f[c];
        k->f[i] /= k->a[(size_t)i * n + i];
    }
}

void fixture_network_solve(double *current, double *word, double *bit, const ohm_nodal *n,
                           const double *v, const uint8_t *off)
{
    int rows = n->tile.rows, columns = n->tile.columns, cells = rows * columns;
    int drives = n->tile.wires.drive_both ? 2 : 1, senses = n->tile.wires.sense_both ? 2 : 1;
    kirchhoff k = {.rows = rows, .columns = columns};
    k.size =
        2 * cells + columns * senses + rows * drives + rows * (columns - 1) + (rows - 1) * columns;
    k.a = malloc((size_t)k.size * k.size * sizeof *k.a);
    k.x = calloc((size_t)k.size, sizeof *k.x);
    k.f = malloc((size_t)k.size * sizeof *k.f);
    double step = 1.0;
    /* the largest change of a cell's voltage per step keeps exponentials from running away */
    double reach = n->law.iv == OHM_CELL_SINH ? 2.0 / n->law.coefficient : INFINITY;
    int extra = 0;
    for (int i = 0; i < 500 && extra < 3; i++) {
        equations(&k, n, v, off);
        eliminate(&k);
        double most = 0.0, volts = 0.0;
        for (int x = 0; x < cells; x++)
            most = fmax(most, fabs(k.f[x] - k.f[cells + x]));
        step = i == 0 || most <= reach ? 1.0 : reach / most;
        for (int x = 0; x < k.size; x++)
            k.x[x] -= step * k.f[x];
        for (int x = 0; x < rows; x++)
            volts = fmax(volts, fabs(v[x]));
        extra += most <= 1e-13 * volts; /* a few more, to the last digit */
    }
    ck_assert_msg(extra > 0, "the dense reference did not converge");
    for (int c = 0; c < columns; c++) {
        current[c] = k.x[2 * cells + c * senses];
        if (senses == 2)
            current[c] += k.x[2 * cells + c * senses + 1];
    }
    for (int i = 0; i < cells; i++) {
        if (word)
            word[i] = k.x[i];
        if (bit)
            bit[i] = k.x[cells + i];
    }
    free(k.a);
    free(k.x);
    free(k.f);
}
