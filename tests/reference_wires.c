#include "tests/reference_wires.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/irdrop_circuit.h"
#include "tests/runner.h"

typedef struct {
    int size;
    double *a;      /* column-major */
    double *source; /* [size] for each output: d_geff at the sources */
    double *output; /* [size] for each output: 1 at the currents that make it */
} equations;

static double *at(const equations *e, int row, int column)
{
    return &e->a[(size_t)column * e->size + row];
}

/* A branch of `ohms` whose current is unknown number `current`, between two nodes (-1: a fixed potential). */
static void branch(const equations *e, int current, int from, int to, double ohms)
{
    *at(e, current, current) -= ohms;
    if (from >= 0) {
        *at(e, current, from) += 1.0;
        *at(e, from, current) += 1.0;
    }
    if (to >= 0) {
        *at(e, current, to) -= 1.0;
        *at(e, to, current) -= 1.0;
    }
}

static void write(const equations *e, const double *d_geff, const double *g, const ohm_crosspoint *t)
{
    const ohm_wires *w = &t->wires;
    int cells = t->rows * t->columns, next = 2 * cells;
    for (int i = 0; i < cells; i++) {
        *at(e, i, i) += g[i];
        *at(e, i, cells + i) -= g[i];
        *at(e, cells + i, i) -= g[i];
        *at(e, cells + i, cells + i) += g[i];
    }
    for (int r = 0; r < t->rows; r++) {
        for (int c = 1; c < t->columns; c++)
            branch(e, next++, r * t->columns + c - 1, r * t->columns + c, w->word_line);
        for (int end = 0; end <= (w->drive_both != 0); end++) {
            for (int c = 0; c < t->columns; c++) /* 0 = V - v_node - R·i, written v_source - ... */
                e->source[(size_t)c * e->size + next] = -d_geff[r * t->columns + c];
            branch(e, next++, -1, r * t->columns + (end ? t->columns - 1 : 0), w->driver + w->word_line);
        }
    }
    for (int c = 0; c < t->columns; c++) {
        for (int r = 1; r < t->rows; r++)
            branch(e, next++, cells + (r - 1) * t->columns + c, cells + r * t->columns + c, w->bit_line);
        for (int end = 0; end <= (w->sense_both != 0); end++) {
            e->output[(size_t)c * e->size + next] = 1.0;
            branch(e, next++, cells + (end ? 0 : t->rows - 1) * t->columns + c, -1, w->sense + w->bit_line);
        }
    }
    ck_assert_int_eq(next, e->size);
}

void reference_wires_adjoint(double *dg, const double *d_geff, const double *g, const ohm_crosspoint *t)
{
    int cells = t->rows * t->columns, n = t->columns, info;
    equations e = {.size = 2 * cells + t->rows * (t->columns - 1) + t->columns * (t->rows - 1) +
                           t->rows * (t->wires.drive_both ? 2 : 1) + t->columns * (t->wires.sense_both ? 2 : 1)};
    int *pivot = malloc((size_t)e.size * sizeof *pivot);
    e.a = calloc((size_t)e.size * e.size, sizeof *e.a);
    e.source = calloc((size_t)e.size * n, sizeof *e.source);
    e.output = calloc((size_t)e.size * n, sizeof *e.output);
    ck_assert(pivot && e.a && e.source && e.output);
    write(&e, d_geff, g, t);
    dgetrf_(&e.size, &e.size, e.a, &e.size, pivot, &info);
    ck_assert_msg(info == 0, "the reference's equations are singular");
    dgetrs_("N", &e.size, &n, e.a, &e.size, pivot, e.source, &e.size, &info);
    dgetrs_("T", &e.size, &n, e.a, &e.size, pivot, e.output, &e.size, &info);
    for (int i = 0; i < cells; i++) {
        dg[i] = 0.0;
        for (int j = 0; j < n; j++) {
            const double *x = e.source + (size_t)j * e.size, *y = e.output + (size_t)j * e.size;
            dg[i] -= (x[i] - x[cells + i]) * (y[i] - y[cells + i]);
        }
    }
    free(pivot);
    free(e.a);
    free(e.source);
    free(e.output);
}
