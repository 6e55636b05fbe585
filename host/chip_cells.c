#include "host/chip_cells.h"

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>

enum { ALIGN = 64 };

/* Memory of one thread. */
typedef struct {
    double *x;    /* [k] */
    float *range; /* [planes][slices][n] */
    char *network;
} thread_memory;

static size_t carve(thread_memory *t, const ohm_geometry *g, const ohm_mvm_network *n, char *base)
{
    size_t ranges = n ? (size_t)g->planes * g->slices * g->n : 0, used = 0;
    t->x = base ? (double *)(void *)base : NULL;
    used += ((size_t)g->k * sizeof *t->x + ALIGN - 1) / ALIGN * ALIGN;
    t->range = base ? (float *)(void *)(base + used) : NULL;
    used += (ranges * sizeof *t->range + ALIGN - 1) / ALIGN * ALIGN;
    t->network = base ? base + used : NULL;
    return used + (n ? (ohm_mvm_network_bytes(g, n) + ALIGN - 1) / ALIGN * ALIGN : 0);
}

size_t ohm_chip_cells_bytes(const ohm_geometry *g, const ohm_mvm_network *n)
{
    thread_memory unused;
    return carve(&unused, g, n, NULL) * (size_t)omp_get_max_threads() + ALIGN;
}

static void real_codes(double *x, const ohm_geometry *g, const ohm_drive_rows *d, int i)
{
    const uint8_t *codes = d->x_u + (size_t)i * d->ldx;
    int is_signed = g->drive == OHM_DRIVE_TWO_PHASE || g->drive == OHM_DRIVE_SIGN_MAGNITUDE;
    for (int k = 0; k < g->k; k++)
        x[k] = is_signed && codes[k] >> 7 ? -(codes[k] & 127) : codes[k];
}

ohm_status ohm_chip_refuse_read(const ohm_chip_shape *shape, const ohm_read_failure *f)
{
    if (f->status == OHM_SOLVE_MEMORY)
        return OHM_FAIL(OHM_ERR_MEMORY, "chip of layer %u: out of memory", shape->layer);
    const char *what = "the network of wires and cells has no finite solution: check ir_drop.r_* "
                       "and cell.g_max_us";
    if (f->status == OHM_SOLVE_NOT_CONVERGED)
        what = "the currents do not converge: lower cell.iv_coefficient, ir_drop.r_* or tile.rows";
    if (f->status == OHM_SOLVE_OUT_OF_RANGE)
        what = "a cell sees a voltage where its cubic current falls: lower cell.iv_coefficient or "
               "input.v_read_v, or set cell.iv to sinh";
    return OHM_FAIL(OHM_ERR_DATA, "chip of layer %u, slice %d, row tile %d, column tile %d: %s",
                    shape->layer, f->slice, f->tile, f->column_tile, what);
}

/* What all rows share; each thread has its own copy of cells and network around its own memory. */
typedef struct {
    const ohm_geometry *g;
    const ohm_crossbar *cells;
    char *scratch;
    ohm_read_failure failure; /* of the first row that failed */
    int row;
} job;

static job job_of(const ohm_geometry *g, const ohm_crossbar *cells, void *scratch)
{
    return (job){.g = g,
                 .cells = cells,
                 .scratch = (char *)(((uintptr_t)scratch + ALIGN - 1) / ALIGN * ALIGN),
                 .row = -1};
}

static void join(const job *j, thread_memory *t, ohm_crossbar *cells, ohm_mvm_network *network,
                 ohm_read_failure *failure)
{
    size_t each = carve(t, j->g, j->cells->network, NULL);
    carve(t, j->g, j->cells->network, j->scratch + each * (size_t)omp_get_thread_num());
    *cells = *j->cells;
    *failure = (ohm_read_failure){0};
    if (!cells->network)
        return;
    *network = *cells->network;
    network->scratch = t->network;
    network->failure = failure;
    cells->network = network;
}

static void note(job *j, int row, ohm_solve_status status, const ohm_read_failure *failure)
{
    if (status == OHM_SOLVE_OK)
        return;
#pragma omp critical(ohm_chip_cells)
    if (j->row < 0 || row < j->row) {
        j->row = row;
        j->failure = *failure;
        j->failure.status = status;
    }
}

ohm_status ohm_chip_read_cells(double *sums, const ohm_chip_shape *shape, const ohm_geometry *g,
                               const ohm_read *r, const ohm_crossbar *cells,
                               const ohm_drive_rows *d, int per_cell, void *scratch)
{
    job j = job_of(g, cells, scratch);
#pragma omp parallel
    {
        thread_memory t;
        ohm_crossbar own;
        ohm_mvm_network network;
        ohm_read_failure failure;
        join(&j, &t, &own, &network, &failure);
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < d->m; i++) {
            real_codes(t.x, g, d, i);
            note(&j, i,
                 ohm_mvm_ref(sums + (size_t)i * g->n, g, r, &own, t.x, 1,
                             d->first_row + (uint64_t)i, 1, per_cell, NULL),
                 &failure);
        }
    }
    return j.row < 0 ? OHM_OK : ohm_chip_refuse_read(shape, &j.failure);
}

ohm_status ohm_chip_range_cells(float *range, uint32_t *histogram, int bins, int per_column,
                                const ohm_chip_shape *shape, const ohm_geometry *g,
                                const ohm_read *r, const ohm_crossbar *cells,
                                const ohm_drive_rows *d, void *scratch)
{
    size_t ranges = (size_t)g->planes * g->slices * (size_t)(per_column ? g->n : 1);
    job j = job_of(g, cells, scratch);
#pragma omp parallel
    {
        thread_memory t;
        ohm_crossbar own;
        ohm_mvm_network network;
        ohm_read_failure failure;
        join(&j, &t, &own, &network, &failure);
        memcpy(t.range, range, ranges * sizeof *t.range);
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < d->m; i++) {
            real_codes(t.x, g, d, i);
            note(&j, i,
                 ohm_mvm_network_range(t.range, histogram, bins, per_column, g, r, &own, t.x),
                 &failure);
        }
#pragma omp critical(ohm_chip_cells)
        for (size_t i = 0; i < ranges && !histogram; i++)
            range[i] = fmaxf(range[i], t.range[i]);
    }
    return j.row < 0 ? OHM_OK : ohm_chip_refuse_read(shape, &j.failure);
}
