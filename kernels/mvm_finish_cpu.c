/* Mode full, last step: from the gradients by conductances to those by weights, through the wires and
 * the device laws. */
#include <omp.h>
#include <stdint.h>
#include <string.h>

#include "kernels/irdrop_adjoint.h"
#include "kernels/mvm_backward.h"
#include "kernels/program_cell.h"

enum { ALIGN = 64 };

/* A physical tile; the exact gradient in float, like the solution it belongs to. */
typedef struct {
    double *g, *dg_eff, *dg, *scratch;
    float *single; /* [3][cells]: g, dg_eff, dg */
    char *solver;
} tile_memory;

static ohm_crosspoint physical_tile(const ohm_programming *p)
{
    return (ohm_crosspoint){
        .rows = p->physical_rows, .columns = p->physical_columns, .wires = p->wires};
}

/* Rows that the wires' derivative is taken of: the closed form knows unused ones without seeing them. */
static int tile_rows(const ohm_programming *p, int used)
{
    return p->ir_gradient == OHM_WIRES_EXACT ? p->physical_rows : used;
}

/* And columns: where word lines lose nothing, each column is on its own, and unused ones need not be seen. */
static int tile_width(const ohm_geometry *g, const ohm_programming *p)
{
    int outputs = g->tile_columns < g->n ? g->tile_columns : g->n,
        used = outputs * (p->interleaved ? 2 : 1) + !g->differential;
    int apart = p->wires.word_line == 0.0 && p->wires.driver == 0.0;
    return p->ir_gradient == OHM_WIRES_CLOSED && apart ? used : p->physical_columns;
}

static size_t carve_tile(tile_memory *t, const ohm_geometry *g, const ohm_programming *p,
                         char *base)
{
    size_t columns = (size_t)tile_width(g, p), used = 0,
           cells = p->ir ? (size_t)tile_rows(p, ohm_tile_rows_most(g)) * columns : 0;
    int exact = p->ir_gradient == OHM_WIRES_EXACT;
    ohm_crosspoint tile = physical_tile(p);
#define TAKE(field, count)                                                                         \
    do {                                                                                           \
        t->field = base ? (void *)(base + used) : NULL;                                            \
        used += ((count) * sizeof *t->field + ALIGN - 1) / ALIGN * ALIGN;                          \
    } while (0)
    TAKE(g, cells);
    TAKE(dg_eff, cells);
    TAKE(dg, cells);
    TAKE(scratch, p->ir_gradient == OHM_WIRES_CLOSED ? 2 * cells + 3 * columns : 0);
    TAKE(single, exact ? 3 * cells : 0);
    TAKE(solver, exact ? ohm_irdrop_exact_adjoint_bytes_f32(&tile) : 0);
#undef TAKE
    return used;
}

/* Tiles that pass the wires, each with memory of its own where they are fewer than threads. */
static int task_count(const ohm_geometry *g, const ohm_programming *p)
{
    return g->tiles * g->column_tiles * (g->differential && !p->interleaved ? 2 : 1);
}

size_t ohm_mvm_finish_scratch_bytes(const ohm_geometry *g, const ohm_programming *p)
{
    tile_memory t;
    int tasks = task_count(g, p), threads = omp_get_max_threads();
    return carve_tile(&t, g, p, NULL) * (size_t)(tasks < threads ? tasks : threads) + ALIGN;
}

/* dg += what dg_eff means for the cells before the wires, `used` rows of them driven. */
static ohm_solve_status wires_adjoint(tile_memory *t, const ohm_programming *p, int used, int width)
{
    if (p->ir_gradient == OHM_WIRES_CLOSED) {
        ohm_irdrop_closed_adjoint(t->dg, t->dg_eff, t->g, used, width, p->physical_rows - used,
                                  &p->wires, t->scratch);
        return OHM_SOLVE_OK;
    }
    ohm_crosspoint tile = physical_tile(p);
    size_t cells = (size_t)p->physical_rows * p->physical_columns;
    float *g = t->single, *dg_eff = g + cells, *dg = dg_eff + cells;
    for (size_t i = 0; i < cells; i++) {
        g[i] = (float)t->g[i];
        dg_eff[i] = (float)t->dg_eff[i];
        dg[i] = 0.0f;
    }
    ohm_solve_status status = ohm_irdrop_exact_adjoint_f32(dg, dg_eff, g, &tile, t->solver, NULL);
    for (size_t i = 0; i < cells; i++)
        t->dg[i] += dg[i];
    return status;
}

/* Without wires g_eff = g, and both parts of the variance's gradient meet in the slope of sigma². */
static ohm_solve_status through_wires(tile_memory *t, ohm_cell_gradient *c, const ohm_geometry *g,
                                      const ohm_programming *p, const ohm_read_law *read, int tile,
                                      int ct, int sign)
{
    int begin = ohm_tile_begin(g, tile), rows = ohm_tile_begin(g, tile + 1) - begin,
        width = tile_width(g, p);
    int first = ct * g->tile_columns,
        end = first + g->tile_columns < g->n ? first + g->tile_columns : g->n;
    int signs = p->interleaved ? 2 : 1;
    ohm_solve_status status = OHM_SOLVE_OK;
    size_t physical = (size_t)tile_rows(p, rows) * width, cells = (size_t)g->k * g->n;
    for (size_t i = 0; i < physical; i++) {
        t->g[i] = p->g_min;
        t->dg_eff[i] = t->dg[i] = 0.0;
    }
    for (int store = 0; store < 2; store++) {
        for (int s = 0; s < signs; s++)
            for (int r = 0; r < rows; r++)
                for (int n = first; n < end; n++) {
                    size_t cell = (size_t)(sign + s) * cells + (size_t)(begin + r) * g->n + n,
                           node = (size_t)r * width + (n - first) * signs + s;
                    if (store) {
                        c->dg[cell] = (float)t->dg[node];
                        continue;
                    }
                    t->g[node] = c->g[cell];
                    t->dg_eff[node] = c->dg[cell];
                    t->dg[node] = ohm_variance_chain(read, c->g[cell], c->g_eff[cell],
                                                     c->dvariance[cell], &t->dg_eff[node]);
                }
        for (int r = 0; r < rows && !g->differential && !store; r++) {
            size_t node = (size_t)r * width + width - 1,
                   cell = (size_t)(begin + r) * g->column_tiles + ct;
            t->g[node] = c->g_ref[cell];
            t->dg_eff[node] = c->dref[cell];
            ohm_variance_chain(read, c->g_ref[cell], c->g_ref_eff[cell], c->dref_variance[cell],
                               &t->dg_eff[node]);
        }
        if (!store)
            status = wires_adjoint(t, p, rows, width);
    }
    return status;
}

ohm_solve_status ohm_mvm_finish_gradient(float *dw, ohm_cell_gradient *c, const uint8_t *negative,
                                         const ohm_geometry *g, const ohm_programming *p,
                                         const ohm_read_law *read, void *scratch)
{
    int signs = g->differential ? 2 : 1, step = p->interleaved ? signs : 1;
    size_t cells = (size_t)g->k * g->n;
    tile_memory unused;
    size_t each = carve_tile(&unused, g, p, NULL);
    int tasks = task_count(g, p), of_task = tasks < omp_get_max_threads();
    char *base = (char *)(((uintptr_t)scratch + ALIGN - 1) / ALIGN * ALIGN);
    int worst = OHM_SOLVE_OK;
#pragma omp parallel
    {
        if (p->ir) {
#pragma omp for schedule(dynamic, 1) reduction(max : worst)
            for (int task = 0; task < tasks; task++) {
                int one = g->tiles * g->column_tiles, at = task % one;
                tile_memory t;
                carve_tile(&t, g, p, base + each * (size_t)(of_task ? task : omp_get_thread_num()));
                int status = through_wires(&t, c, g, p, read, at / g->column_tiles,
                                           at % g->column_tiles, task / one * step);
                worst = status > worst ? status : worst;
            }
        } else {
#pragma omp for schedule(static)
            for (size_t i = 0; i < signs * cells; i++) {
                double slope = 0.0;
                if (c->dvariance[i] != 0.0f)
                    ohm_read_variance(read, c->g[i], &slope);
                c->dg[i] += (float)(c->dvariance[i] * slope);
            }
        }
#pragma omp for schedule(static)
        for (int k = 0; k < g->k; k++)
            for (int n = 0; n < g->n && worst == OHM_SOLVE_OK; n++) {
                size_t cell = (size_t)k * g->n + n;
                if (negative[cell])
                    dw[(size_t)n * g->k + k] -= c->dg[cells + cell] * c->slope[cells + cell];
                else
                    dw[(size_t)n * g->k + k] += c->dg[cell] * c->slope[cell];
            }
    }
    memset(c->dg, 0, signs * cells * sizeof *c->dg);
    memset(c->dvariance, 0, signs * cells * sizeof *c->dvariance);
    for (int i = 0; i < 2 && c->dref; i++)
        memset(i ? c->dref_variance : c->dref, 0, (size_t)g->k * g->column_tiles * sizeof *c->dref);
    return (ohm_solve_status)worst;
}
