#include "kernels/irdrop_network.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/irdrop_lines.h"

enum { ALIGN = 64, STEPS_MOST = 200, HALVINGS_MOST = 30 };

ohm_cell_law ohm_cell_law_at(int iv, double coefficient, double v_read)
{
    ohm_cell_law law = {iv, coefficient, 1.0};
    if (iv == OHM_CELL_SINH && coefficient == 0.0)
        law.iv = OHM_CELL_LINEAR;
    law.scale = v_read / ohm_cell_law_current(&law, v_read, NULL);
    return law;
}

double ohm_cell_law_current(const ohm_cell_law *law, double volts, double *slope)
{
    double a = law->coefficient, current = volts, unused;
    slope = slope ? slope : &unused;
    *slope = 1.0;
    if (law->iv == OHM_CELL_LINEAR)
        return current;
    if (law->iv == OHM_CELL_CUBIC) {
        current = volts - a * volts * volts * volts;
        *slope = 1.0 - 3.0 * a * volts * volts;
    } else if (a > 0.0) { /* sinh and cosh from one call */
        double t = expm1(a * volts), back = t / (t + 1.0);
        current = 0.5 * (t + back) / a;
        *slope = 0.5 * (t + 2.0 - back);
    }
    *slope *= law->scale;
    return law->scale * current;
}

/* The same, but a cubic cell goes on rising beyond its summit, so that the iteration always has one
 * solution to go to; a solution out there is refused. */
static double monotone(const ohm_cell_law *law, double volts, double *slope)
{
    if (law->iv == OHM_CELL_CUBIC && 3.0 * law->coefficient * volts * volts > 1.0) {
        double summit = copysign(1.0 / sqrt(3.0 * law->coefficient), volts);
        *slope = 1e-3 * law->scale;
        return ohm_cell_law_current(law, summit, NULL) + *slope * (volts - summit);
    }
    return ohm_cell_law_current(law, volts, slope);
}

/* Memory of one solve. A state of the cells: their voltage, and their current as the word lines (into
 * the cell) and the bit lines (out of it) have it. Wires are satisfied, whatever the states are mixed of. */
typedef struct {
    double *volts, *into, *out;
    double *law, *slope; /* what I(V) says: current and conductance */
} cell_state;

typedef struct {
    ohm_lines lines;
    double *d, *e;
    cell_state now, trial;
    double *column; /* [columns] */
} memory;

static int is_linear(const ohm_nodal *n)
{
    return n->law.iv == OHM_CELL_LINEAR;
}

static size_t carve(memory *m, const ohm_nodal *n, void *scratch)
{
    char *base = scratch ? (char *)(((uintptr_t)scratch + ALIGN - 1) / ALIGN * ALIGN) : NULL;
    size_t used = ohm_lines_carve(&m->lines, &n->tile, base),
           cells = (size_t)n->tile.rows * n->tile.columns, extra = is_linear(n) ? 0 : cells;
    struct {
        double **at;
        size_t count;
    } fields[] = {{&m->d, cells},           {&m->column, (size_t)n->tile.columns},
                  {&m->e, cells},           {&m->now.volts, extra},
                  {&m->now.into, extra},    {&m->now.out, extra},
                  {&m->trial.volts, extra}, {&m->trial.into, extra},
                  {&m->trial.out, extra},   {&m->now.law, extra},
                  {&m->now.slope, extra},   {&m->trial.law, extra},
                  {&m->trial.slope, extra}};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        *fields[i].at = base && fields[i].count ? (double *)(void *)(base + used) : NULL;
        used += (fields[i].count * sizeof(double) + ALIGN - 1) / ALIGN * ALIGN;
    }
    m->lines.d = m->d;
    return used + ALIGN;
}

size_t ohm_nodal_scratch_bytes(const ohm_nodal *n)
{
    memory m;
    return carve(&m, n, NULL);
}

static int usable(const ohm_nodal *n, const double *v)
{
    const ohm_wires *w = &n->tile.wires;
    const double r[] = {w->word_line, w->bit_line, w->driver, w->sense, n->law.coefficient};
    int linear = is_linear(n);
    for (int i = 0; i < (linear ? 4 : 5); i++)
        if (!(r[i] >= 0.0) || !isfinite(r[i]))
            return 0;
    if (!linear && (!(n->law.scale > 0.0) || !isfinite(n->law.scale)))
        return 0;
    for (size_t i = 0; i < (size_t)n->tile.rows * n->tile.columns; i++)
        if (!(n->g[i] >= 0.0) || !isfinite(n->g[i]))
            return 0;
    for (int r = 0; v && r < n->tile.rows; r++)
        if (!isfinite(v[r]))
            return 0;
    return 1;
}

/* Conductance of a cell, rows that are off taken out. */
static double conductance(const ohm_nodal *n, const uint8_t *off, size_t cell)
{
    return off && off[cell / (size_t)n->tile.columns] ? 0.0 : n->g[cell];
}

static double largest(const double *x, int count)
{
    double most = 0.0;
    for (int i = 0; i < count; i++)
        most = fmax(most, fabs(x[i]));
    return most;
}

/* ---- Linear cells ---------------------------------------------------------------------------- */

/* The largest bit line's sum of |cell current|, of u and b. */
static double column_current(memory *m)
{
    const ohm_lines *l = &m->lines;
    memset(m->column, 0, (size_t)l->columns * sizeof *m->column);
    for (int r = 0; r < l->rows; r++)
        for (int c = 0; c < l->columns; c++) {
            size_t i = (size_t)r * l->columns + c;
            m->column[c] += fabs(l->u[i] - l->d[i] * l->b[i]);
        }
    return largest(m->column, l->columns);
}

/* Sets the residual. The target is a share of the currents, which the first round only estimates. */
static ohm_solve_status solve_linear(memory *m, double tolerance, ohm_solve_report *report)
{
    ohm_lines *l = &m->lines;
    size_t bytes = (size_t)l->rows * l->columns * sizeof *l->u;
    memset(l->u, 0, bytes);
    double sum = ohm_lines_evaluate(l), current = 0.0;
    memcpy(l->u, l->r, bytes);
    for (int round = 0; round < 4; round++) {
        sum = ohm_lines_solve(l, round ? tolerance * current : 1e-3 * sum, &report->inner);
        if (!isfinite(sum))
            return OHM_SOLVE_NOT_FINITE;
        current = column_current(m);
        report->residual = current > 0.0 ? sum / current : 0.0;
        if (sum <= tolerance * current)
            return OHM_SOLVE_OK;
    }
    return report->residual <= OHM_NODAL_RESIDUAL_MOST ? OHM_SOLVE_OK : OHM_SOLVE_NOT_CONVERGED;
}

/* ---- Non-linear cells ------------------------------------------------------------------------ */

static size_t cells_of(const ohm_nodal *n)
{
    return (size_t)n->tile.rows * n->tile.columns;
}

/* Sum of the mismatches of now + step·(trial - now), step in (0,1]; trial becomes that mixture. With
 * `current`, the largest bit line's sum of |cell current|. */
static double mismatch(memory *m, const ohm_nodal *n, const uint8_t *off, double step,
                       double *current)
{
    double sum = 0.0;
    size_t columns = (size_t)n->tile.columns;
    memset(m->column, 0, columns * sizeof *m->column);
    for (size_t i = 0; i < cells_of(n); i++) {
        if (step < 1.0) {
            m->trial.volts[i] = m->now.volts[i] + step * (m->trial.volts[i] - m->now.volts[i]);
            m->trial.into[i] = m->now.into[i] + step * (m->trial.into[i] - m->now.into[i]);
            m->trial.out[i] = m->now.out[i] + step * (m->trial.out[i] - m->now.out[i]);
        }
        double g = conductance(n, off, i),
               law = g * monotone(&n->law, m->trial.volts[i], &m->trial.slope[i]);
        m->trial.law[i] = law;
        m->trial.slope[i] *= g;
        sum += fabs(law - m->trial.into[i]) + fabs(m->trial.into[i] - m->trial.out[i]);
        m->column[i % columns] += fabs(law);
    }
    if (current)
        *current = largest(m->column, n->tile.columns);
    return sum;
}

/* d and e: the tangent at the present voltages, or the line of slope d as it is. */
static void linearise(memory *m, const ohm_nodal *n, int tangent)
{
    for (size_t i = 0; i < cells_of(n); i++) {
        if (tangent)
            m->d[i] = m->now.slope[i];
        m->e[i] = m->now.law[i] - m->d[i] * m->now.volts[i];
        m->lines.u[i] = m->d[i] * m->lines.w[i] + m->e[i];
    }
    if (tangent)
        ohm_lines_factor(&m->lines);
}

/* Solves the linearised network and puts the cells' state in trial. */
static void solve_step(memory *m, const ohm_nodal *n, double target, int *iterations)
{
    ohm_lines *l = &m->lines;
    ohm_lines_solve(l, target, iterations);
    for (size_t i = 0; i < cells_of(n); i++) {
        m->trial.volts[i] = l->w[i] - l->b[i];
        m->trial.into[i] = m->d[i] * m->trial.volts[i] + m->e[i];
        m->trial.out[i] = m->trial.into[i] - l->r[i];
    }
}

static void accept(memory *m)
{
    cell_state held = m->now;
    m->now = m->trial;
    m->trial = held;
}

/* The coefficient a of the sinh law that bends as much. */
static double bend(const ohm_cell_law *law)
{
    return law->iv == OHM_CELL_CUBIC ? sqrt(6.0 * law->coefficient) : law->coefficient;
}

static double rounding_floor(const ohm_lines *l)
{
    double size = 0.0;
    for (size_t i = 0; i < (size_t)l->rows * l->columns; i++)
        size += fabs(l->u[i]);
    return 8.0 * DBL_EPSILON * size;
}

static void start_at_zero_bias(memory *m, const ohm_nodal *n, const uint8_t *off)
{
    ohm_lines *l = &m->lines;
    double slope;
    ohm_cell_law_current(&n->law, 0.0, &slope);
    for (size_t i = 0; i < cells_of(n); i++) {
        m->d[i] = conductance(n, off, i) * slope;
        m->e[i] = 0.0;
    }
    ohm_lines_factor(l);
    memset(l->u, 0, cells_of(n) * sizeof *l->u);
    solve_step(m, n, 1e-2 * ohm_lines_evaluate(l), &(int){0});
}

/* One step from `now` with its sum of mismatches: 1 = taken (possibly in part: *full = 0), 0 = not.
 * A chord step that gains too little makes the next one Newton's. */
static int take_step(memory *m, const ohm_nodal *n, const uint8_t *off, double *sum,
                     double *current, double tolerance, int *full, ohm_solve_report *report)
{
    int newton = report->method == OHM_METHOD_NEWTON;
    double share = newton ? fmin(0.1, *sum / *current) : 0.05, part = 1.0;
    linearise(m, n, newton);
    solve_step(m, n, fmax(0.3 * tolerance * *current, share * *sum), &report->inner);
    report->iterations++;
    double flows, next = mismatch(m, n, off, 1.0, &flows),
                  met = fmax(tolerance * flows, rounding_floor(&m->lines));
    *full = 1;
    if (!newton && !(next <= fmax(met, 0.1 * *sum))) /* from here on tangents are cheaper */
        report->method = OHM_METHOD_NEWTON;
    if (!newton && !(next < 0.5 * *sum) && !(next <= met))
        return 0;
    for (int i = 0; !(next <= (1.0 - 0.01 * part) * *sum) && !(next <= met); i++) {
        if (i == HALVINGS_MOST)
            return 0;
        *full = 0;
        part *= 0.5;
        next = mismatch(m, n, off, 0.5, &flows);
    }
    accept(m);
    *sum = next;
    *current = flows;
    return 1;
}

static ohm_solve_status solve_nonlinear(memory *m, const ohm_nodal *n, const uint8_t *off,
                                        double volts, double tolerance, ohm_solve_report *report)
{
    double current;
    report->method = bend(&n->law) * volts <= 2.0 ? OHM_METHOD_CHORD : OHM_METHOD_NEWTON;
    m->lines.e = m->e;
    start_at_zero_bias(m, n, off);
    double sum = mismatch(m, n, off, 1.0, &current);
    accept(m);
    for (int full = 1;;) {
        if (!isfinite(sum))
            return OHM_SOLVE_NOT_FINITE;
        report->residual = current > 0.0 ? sum / current : 0.0;
        if (full && sum <= fmax(tolerance * current, rounding_floor(&m->lines)))
            break;
        if (report->iterations == STEPS_MOST)
            return OHM_SOLVE_NOT_CONVERGED;
        int chord = report->method == OHM_METHOD_CHORD;
        if (!take_step(m, n, off, &sum, &current, tolerance, &full, report) && !chord)
            return OHM_SOLVE_NOT_CONVERGED;
    }
    if (report->residual > fmax(tolerance, OHM_NODAL_RESIDUAL_MOST))
        return OHM_SOLVE_NOT_CONVERGED;
    double summit = n->law.iv == OHM_CELL_CUBIC ? 1.0 / sqrt(3.0 * n->law.coefficient) : INFINITY;
    for (size_t i = 0; i < cells_of(n); i++)
        if (conductance(n, off, i) > 0.0 && fabs(m->now.volts[i]) > summit)
            return OHM_SOLVE_OUT_OF_RANGE;
    return OHM_SOLVE_OK;
}

/* ---- The contract ---------------------------------------------------------------------------- */

ohm_solve_status ohm_nodal_solve(double *current, double *word, double *bit, const ohm_nodal *n,
                                   const double *v, const uint8_t *off, double tolerance,
                                   void *scratch, ohm_solve_report *report)
{
    memory m;
    ohm_solve_report unused, *to = report ? report : &unused;
    ohm_solve_status status;
    *to = (ohm_solve_report){.method = OHM_METHOD_LINE_CG};
    if (!usable(n, v))
        return OHM_SOLVE_NOT_FINITE;
    carve(&m, n, scratch);
    m.lines.v = v;
    if (is_linear(n)) {
        for (size_t i = 0; i < cells_of(n); i++)
            m.d[i] = conductance(n, off, i);
        ohm_lines_factor(&m.lines);
        status = solve_linear(&m, tolerance, to);
    } else
        status = solve_nonlinear(&m, n, off, largest(v, n->tile.rows), tolerance, to);
    if (status != OHM_SOLVE_OK)
        return status;
    ohm_lines_currents(current, &m.lines);
    if (word)
        memcpy(word, m.lines.w, cells_of(n) * sizeof *word);
    if (bit)
        memcpy(bit, m.lines.b, cells_of(n) * sizeof *bit);
    return OHM_SOLVE_OK;
}

ohm_solve_status ohm_nodal_adjoint(double *dv, double *dg, const ohm_nodal *n,
                                     const double *word, const double *bit, const uint8_t *off,
                                     const double *dcurrent, const double *dcell, double tolerance,
                                     void *scratch, ohm_solve_report *report)
{
    memory m;
    ohm_solve_report unused, *to = report ? report : &unused;
    *to = (ohm_solve_report){.method = OHM_METHOD_LINE_CG};
    carve(&m, n, scratch);
    m.lines.t = dcurrent;
    for (size_t i = 0; i < cells_of(n); i++) {
        double slope;
        ohm_cell_law_current(&n->law, word[i] - bit[i], &slope);
        m.d[i] = conductance(n, off, i) * slope;
        m.e[i] = dcell ? -dcell[i] : 0.0;
    }
    m.lines.e = dcell ? m.e : NULL;
    ohm_lines_factor(&m.lines);
    ohm_solve_status status = solve_linear(&m, tolerance, to);
    if (status != OHM_SOLVE_OK)
        return status;
    for (size_t i = 0; dg && i < cells_of(n); i++)
        if (!off || !off[i / (size_t)n->tile.columns])
            dg[i] += ohm_cell_law_current(&n->law, word[i] - bit[i], NULL) *
                     (m.lines.b[i] - m.lines.w[i]);
    if (dv) { /* m.lines.first is free to hold the currents: drawn reads each row before writing it */
        ohm_lines_drawn(m.lines.first, &m.lines);
        for (int r = 0; r < n->tile.rows; r++)
            dv[r] -= m.lines.first[r];
    }
    return OHM_SOLVE_OK;
}
