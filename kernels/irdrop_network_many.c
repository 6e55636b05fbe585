/* Many inputs of one network: those that share their rows through one matrix, the others one by one. */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/irdrop_network.h"

enum { ALIGN = 64 };

/* G_eff in double costs what 0.3 (steep tiles) to 1.5 line-CG solutions to 1e-12 cost, at 32² to 256² on
 * one core (bench_irdrop inputs): its march runs in full vectors, a ladder does not. */
int ohm_nodal_prefers_matrix(int inputs)
{
    return inputs >= 2;
}

typedef struct {
    const double *v;
    int rows, index, gated;
} input;

/* By which rows are driven, then by index. */
static int by_mask(const void *a, const void *b)
{
    const input *x = a, *y = b;
    for (int r = 0; x->gated && r < x->rows; r++)
        if ((x->v[r] == 0.0) != (y->v[r] == 0.0))
            return x->v[r] == 0.0 ? 1 : -1;
    return x->index - y->index;
}

static int same_mask(const input *x, const input *y)
{
    for (int r = 0; x->gated && r < x->rows; r++)
        if ((x->v[r] == 0.0) != (y->v[r] == 0.0))
            return 0;
    return 1;
}

typedef struct {
    input *order;
    int *first; /* [groups + 1] in order */
    int groups;
    char *scratch; /* [threads][each] */
    size_t each;
    ohm_solve_report *reports; /* [inputs] */
    ohm_solve_status *status;
} plan;

/* G_eff of the group's rows, times its inputs. The matrix lies in front of the solver's scratch. */
static ohm_solve_status through_matrix(const plan *p, double *current, const ohm_nodal *n,
                                       int group, char *scratch)
{
    size_t rows = (size_t)n->tile.rows, columns = (size_t)n->tile.columns;
    double *g_eff = (double *)(void *)scratch;
    const input *lead = &p->order[p->first[group]];
    ohm_solve_report report = {0};
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            g_eff[r * columns + c] = lead->gated && lead->v[r] == 0.0 ? 0.0 : n->g[r * columns + c];
    ohm_solve_status status = ohm_irdrop_exact_f64(
        g_eff, g_eff, &n->tile,
        scratch + (rows * columns * sizeof *g_eff + ALIGN - 1) / ALIGN * ALIGN, &report);
    for (int i = p->first[group]; i < p->first[group + 1] && status == OHM_SOLVE_OK; i++) {
        const input *in = &p->order[i];
        double *out = current + (size_t)in->index * columns;
        p->reports[in->index] = report;
        memset(out, 0, columns * sizeof *out);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < columns; c++)
                out[c] += in->v[r] * g_eff[r * columns + c];
    }
    return status;
}

static ohm_solve_status one_by_one(const plan *p, double *current, const ohm_nodal *n,
                                   const input *in, double tolerance, char *scratch)
{
    uint8_t *off = (uint8_t *)scratch;
    size_t rows = (size_t)n->tile.rows;
    for (int r = 0; r < in->rows; r++)
        off[r] = in->v[r] == 0.0;
    return ohm_nodal_solve(current + (size_t)in->index * n->tile.columns, NULL, NULL, n, in->v,
                             in->gated ? off : NULL, tolerance,
                             scratch + (rows + ALIGN - 1) / ALIGN * ALIGN, &p->reports[in->index]);
}

/* What to tell of all inputs. */
static void summarise(ohm_solve_report *report, const ohm_solve_report *all, int inputs)
{
    int methods[4] = {0};
    *report = (ohm_solve_report){0};
    for (int i = 0; i < inputs; i++) {
        const ohm_solve_report *r = &all[i];
        methods[r->method]++;
        report->renormalised =
            r->renormalised > report->renormalised ? r->renormalised : report->renormalised;
        report->iterations =
            r->iterations > report->iterations ? r->iterations : report->iterations;
        report->inner = r->inner > report->inner ? r->inner : report->inner;
        report->residual = fmax(report->residual, r->residual);
    }
    for (int i = 0; i < 4; i++)
        if (methods[i] > methods[report->method])
            report->method = i;
}

static void run(plan *p, double *current, const ohm_nodal *n, int inputs, double tolerance)
{
    int linear = n->law.iv == OHM_CELL_LINEAR;
#pragma omp parallel
    {
        char *scratch = p->scratch + p->each * (size_t)omp_get_thread_num();
#pragma omp for schedule(dynamic, 1)
        for (int g = 0; g < p->groups; g++) {
            int count = p->first[g + 1] - p->first[g];
            if (!linear || !ohm_nodal_prefers_matrix(count))
                continue;
            ohm_solve_status status = through_matrix(p, current, n, g, scratch);
            for (int i = p->first[g]; i < p->first[g + 1]; i++)
                p->status[p->order[i].index] = status;
        }
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < inputs; i++) {
            const input *in = &p->order[i];
            if (p->status[in->index] == OHM_SOLVE_MEMORY) /* nobody has solved it yet */
                p->status[in->index] = one_by_one(p, current, n, in, tolerance, scratch);
        }
    }
}

ohm_solve_status ohm_nodal_solve_many(double *current, const ohm_nodal *n, const double *v,
                                        int inputs, int gated, double tolerance,
                                        ohm_solve_report *report)
{
    size_t rows = (size_t)n->tile.rows, columns = (size_t)n->tile.columns, count = (size_t)inputs;
    size_t matrix = rows * columns * sizeof(double) + ohm_irdrop_exact_bytes_f64(&n->tile),
           single = rows + ohm_nodal_scratch_bytes(n);
    plan p = {.order = malloc((count + 1) * sizeof *p.order),
              .first = malloc((count + 1) * sizeof *p.first),
              .reports = calloc(count + 1, sizeof *p.reports),
              .status = malloc((count + 1) * sizeof *p.status),
              .each = ((matrix > single ? matrix : single) / ALIGN + 3) * ALIGN};
    p.scratch = aligned_alloc(ALIGN, p.each * (size_t)omp_get_max_threads());
    ohm_solve_status status = OHM_SOLVE_MEMORY;
    int finite = 1;
    for (size_t i = 0; i < rows * count; i++)
        finite &= isfinite(v[i]) != 0;
    if (!finite)
        status = OHM_SOLVE_NOT_FINITE;
    else if (p.order && p.first && p.reports && p.status && p.scratch) {
        for (int i = 0; i < inputs; i++) {
            p.order[i] = (input){v + (size_t)i * rows, n->tile.rows, i, gated};
            p.status[i] = OHM_SOLVE_MEMORY;
        }
        qsort(p.order, count, sizeof *p.order, by_mask);
        for (int i = 0; i < inputs; i++)
            if (i == 0 || !same_mask(&p.order[i - 1], &p.order[i]))
                p.first[p.groups++] = i;
        p.first[p.groups] = inputs;
        run(&p, current, n, inputs, tolerance);
        status = OHM_SOLVE_OK;
        for (int i = inputs - 1; i >= 0; i--)
            status = p.status[i] != OHM_SOLVE_OK ? p.status[i] : status;
        if (report)
            summarise(report, p.reports, inputs);
    }
    free(p.order);
    free(p.first);
    free(p.reports);
    free(p.status);
    free(p.scratch);
    return status;
}
