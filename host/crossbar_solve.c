/* A crossbar in a person's units: checked, and solved by what suits its cells. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/arena.h"
#include "host/crossbar.h"

enum { ALIGN = 64 };

/* ---- what can be solved -------------------------------------------------------------------- */

/* Of the solver and of the operands as they are held here; inputs 0: the matrix alone. */
static double bytes_needed(const ohm_crossbar *x, int inputs)
{
    double cells = (double)x->network.tile.rows * x->network.tile.columns,
           io = (double)inputs * ((double)x->network.tile.rows + x->network.tile.columns);
    return (double)ohm_irdrop_exact_bytes_f64(&x->network.tile) +
           (double)ohm_nodal_scratch_bytes(&x->network) +
           sizeof(double) * (2.0 * cells + 3.0 * io);
}

/* Where a cell conducts this much more than its wires, a voltage across it is rounding's (1e6: currents are
 * right to 1e-10 still). */
static const double CELL_OVER_WIRE_MOST = 1e6;
enum { LINES_MOST = 8192 }; /* of a side: minutes of work, and no crossbar has more */

ohm_status ohm_crossbar_check(const ohm_crossbar *x, int inputs, const char *name)
{
    const ohm_wires *w = &x->network.tile.wires;
    double ohms = w->driver + w->word_line + w->bit_line + w->sense;
    double needed = bytes_needed(x, inputs), available = (double)ohm_memory_available();
    if (needed > available)
        return OHM_FAIL(
            OHM_ERR_MEMORY,
            "%s: a tile of %d x %d needs %.0f bytes, this machine has %.0f free; cut it "
            "into tiles",
            name, x->network.tile.rows, x->network.tile.columns, needed, available);
    if (x->network.tile.rows > LINES_MOST || x->network.tile.columns > LINES_MOST)
        return OHM_FAIL(OHM_ERR_DATA, "%s: %d x %d cells, at most %d lines a side; cut it into tiles", name,
                        x->network.tile.rows, x->network.tile.columns, LINES_MOST);
    for (int r = 0; r < x->network.tile.rows; r++)
        for (int c = 0; c < x->network.tile.columns; c++) {
            double g = x->network.g[(size_t)r * x->network.tile.columns + c];
            if (!(g >= 0.0) || !isfinite(g))
                return OHM_FAIL(OHM_ERR_DATA,
                                "%s: the conductance at row %d, column %d (from 0) is %g; give "
                                "siemens, 0 or more",
                                name, r, c, g);
            if (g * ohms > CELL_OVER_WIRE_MOST)
                return OHM_FAIL(OHM_ERR_DATA,
                                "%s: the conductance at row %d, column %d (from 0) is %g S, more than "
                                "%g times that of the wires; give siemens",
                                name, r, c, g, CELL_OVER_WIRE_MOST);
        }
    return OHM_OK;
}

static ohm_status refuse_solution(ohm_solve_status status, const ohm_crossbar *x, int doubles)
{
    const char *remedy = doubles ? "lower conductances or resistances" : "try --fp64";
    int rows = x->network.tile.rows, columns = x->network.tile.columns, bits = doubles ? 64 : 32;
    switch (status) {
    case OHM_SOLVE_OK:
        return OHM_OK;
    case OHM_SOLVE_SINGULAR:
        return OHM_FAIL(OHM_ERR_DATA, "the circuit of %d x %d is singular in float%d: %s", rows,
                        columns, bits, remedy);
    case OHM_SOLVE_NOT_CONVERGED:
        return OHM_FAIL(OHM_ERR_DATA,
                        "the circuit of %d x %d was not solved: the residual stays above %g; lower "
                        "the conductances, the resistances or --iv-coefficient",
                        rows, columns, OHM_NODAL_RESIDUAL_MOST);
    case OHM_SOLVE_OUT_OF_RANGE:
        return OHM_FAIL(
            OHM_ERR_DATA,
            "a cell of the circuit of %d x %d sees more voltage than where the current of "
            "v - a v^3 falls; lower V or --iv-coefficient",
            rows, columns);
    case OHM_SOLVE_MEMORY:
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory to solve %d x %d cells", rows, columns);
    default:
        return OHM_FAIL(OHM_ERR_DATA,
                        "the circuit of %d x %d has no finite solution in float%d: a product of "
                        "conductance and resistance is too large; %s",
                        rows, columns, bits, remedy);
    }
}

/* ---- linear cells -------------------------------------------------------------------------- */

static ohm_status geff_double(double *g_eff, const ohm_crossbar *x, void *scratch,
                              ohm_solve_report *report)
{
    return refuse_solution(
        ohm_irdrop_exact_f64(g_eff, x->network.g, &x->network.tile, scratch, report), x, 1);
}

static ohm_status geff_single(double *g_eff, const ohm_crossbar *x, void *scratch,
                              ohm_solve_report *report)
{
    size_t cells = (size_t)x->network.tile.rows * (size_t)x->network.tile.columns;
    float *single = malloc(cells * sizeof *single + 1);
    if (!single)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for %zu conductances", cells);
    for (size_t i = 0; i < cells; i++)
        single[i] = (float)x->network.g[i];
    ohm_status status = refuse_solution(
        ohm_irdrop_exact_f32(single, single, &x->network.tile, scratch, report), x, 0);
    for (size_t i = 0; i < cells; i++)
        g_eff[i] = single[i];
    free(single);
    return status;
}

ohm_status ohm_crossbar_geff(double *g_eff, const ohm_crossbar *x, int doubles,
                             ohm_crossbar_report *report)
{
    ohm_solve_report solved = {0};
    size_t bytes = doubles ? ohm_irdrop_exact_bytes_f64(&x->network.tile)
                           : ohm_irdrop_exact_bytes_f32(&x->network.tile);
    void *scratch = aligned_alloc(ALIGN, (bytes / ALIGN + 1) * ALIGN);
    if (!scratch)
        return OHM_FAIL(OHM_ERR_MEMORY, "a tile of %d x %d needs %zu bytes, which are not free",
                        x->network.tile.rows, x->network.tile.columns, bytes);
    ohm_status status =
        doubles ? geff_double(g_eff, x, scratch, &solved) : geff_single(g_eff, x, scratch, &solved);
    free(scratch);
    solved.residual = NAN;
    if (report)
        *report = (ohm_crossbar_report){
            doubles ? "G_eff by the march, float64" : "G_eff by the march, float32", solved};
    return status;
}

/* current [inputs][columns] = drive [inputs][rows] . g [rows][columns]; law, or NULL, of a cell's current. */
static void add_currents(double *current, const double *g, const ohm_crosspoint *tile,
                         const ohm_cell_law *law, const double *v, int inputs)
{
#pragma omp parallel for schedule(static) if (inputs > 1)
    for (int i = 0; i < inputs; i++) {
        double *sum = current + (size_t)i * tile->columns;
        memset(sum, 0, (size_t)tile->columns * sizeof *sum);
        for (int r = 0; r < tile->rows; r++) {
            double drive = v[(size_t)i * tile->rows + r];
            drive = law ? ohm_cell_law_current(law, drive, NULL) : drive;
            for (int c = 0; c < tile->columns; c++)
                sum[c] += drive * g[(size_t)r * tile->columns + c];
        }
    }
}

void ohm_crossbar_ideal(double *current, const ohm_crossbar *x, const double *v, int inputs)
{
    add_currents(current, x->network.g, &x->network.tile, &x->network.law, v, inputs);
}

static ohm_status solve_single(double *current, const ohm_crossbar *x, const double *v, int inputs,
                               ohm_crossbar_report *report)
{
    const ohm_crosspoint *t = &x->network.tile;
    double *g_eff = malloc((size_t)t->rows * (size_t)t->columns * sizeof *g_eff);
    if (!g_eff)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for G_eff of %d x %d", t->rows, t->columns);
    ohm_status status = ohm_crossbar_geff(g_eff, x, 0, report);
    if (status == OHM_OK)
        add_currents(current, g_eff, t, NULL, v, inputs);
    free(g_eff);
    return status;
}

/* ---- any cells, input by input ------------------------------------------------------------- */

static const char *method_name(int method)
{
    return method == OHM_METHOD_G_EFF     ? "G_eff by the march, float64"
           : method == OHM_METHOD_LINE_CG ? "conjugate gradients on the bit lines"
           : method == OHM_METHOD_CHORD   ? "chord iteration"
                                          : "Newton's iteration";
}

ohm_status ohm_crossbar_solve(double *current, const ohm_crossbar *x, const double *v, int inputs,
                              int doubles, ohm_crossbar_report *report)
{
    const ohm_nodal *n = &x->network;
    if (!doubles && !x->gated && n->law.iv == OHM_CELL_LINEAR &&
        ohm_nodal_prefers_matrix(inputs))
        return solve_single(current, x, v, inputs, report);
    ohm_solve_report solved = {0};
    OHM_TRY(refuse_solution(
        ohm_nodal_solve_many(current, n, v, inputs, x->gated, OHM_NODAL_TOLERANCE, &solved), x,
        1));
    if (solved.method == OHM_METHOD_G_EFF)
        solved.residual = NAN;
    *report = (ohm_crossbar_report){method_name(solved.method), solved};
    return OHM_OK;
}

ohm_status ohm_crossbar_nodes(double *current, double *word, double *bit, const ohm_crossbar *x,
                              const double *v, ohm_crossbar_report *report)
{
    const ohm_nodal *n = &x->network;
    ohm_solve_report solved = {0};
    size_t bytes = ohm_nodal_scratch_bytes(n) / ALIGN * ALIGN + ALIGN;
    uint8_t *off = malloc((size_t)n->tile.rows);
    void *scratch = aligned_alloc(ALIGN, bytes);
    ohm_solve_status status = OHM_SOLVE_MEMORY;
    if (off && scratch) {
        for (int r = 0; r < n->tile.rows; r++)
            off[r] = x->gated && v[r] == 0.0;
        status = ohm_nodal_solve(current, word, bit, n, v, off, OHM_NODAL_TOLERANCE, scratch,
                                   &solved);
    }
    free(off);
    free(scratch);
    *report = (ohm_crossbar_report){method_name(solved.method), solved};
    return refuse_solution(status, x, 1);
}
