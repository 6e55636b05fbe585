#include "kernels/mvm_network.h"

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>

#include "kernels/mvm_backward.h"
#include "kernels/normals.h"

enum { ALIGN = 64 };

/* One physical tile and the memory of its solves. */
typedef struct {
    const ohm_geometry *g;
    const ohm_read *r;
    const ohm_crossbar *cells;
    const ohm_mvm_network *n;
    int slice, tile, column_tile, begin, used; /* rows begin .. begin + used - 1 of x */
    int from, to;                              /* signs that share the tile */
    double *conductance, *spread;              /* [rows][columns] */
    double *v, *current, *word, *bit, *g_eff;
    uint8_t *off;
    int *same; /* [passes] of passes that cut off the same rows the first; -1: solved */
    void *solver;
} tile_of;

static int passes_of(const ohm_geometry *g)
{
    return g->phases * g->planes;
}

static ohm_nodal network_of(const ohm_mvm_network *n, const double *g)
{
    return (ohm_nodal){{n->rows, n->columns, n->wires}, g, n->law};
}

static int linear(const ohm_mvm_network *n)
{
    return n->law.iv == OHM_CELL_LINEAR;
}

/* Places the memory of a row and a tile; returns its bytes. */
static size_t carve(ohm_network_row *row, tile_of *t, const ohm_geometry *g,
                    const ohm_mvm_network *n, void *scratch)
{
    char *base = scratch ? (char *)(((uintptr_t)scratch + ALIGN - 1) / ALIGN * ALIGN) : NULL;
    size_t used = 0, passes = (size_t)passes_of(g), drives = passes * (size_t)g->k,
           cells = (size_t)n->rows * n->columns,
           currents = ohm_network_read(g, passes_of(g), 0, 0) * (size_t)ohm_network_columns(g);
    ohm_nodal all = network_of(n, NULL);
    size_t solver = ohm_nodal_scratch_bytes(&all),
           march = linear(n) ? ohm_irdrop_exact_bytes_f64(&all.tile) : 0;
#define TAKE(field, count)                                                                         \
    do {                                                                                           \
        field = base ? (void *)(base + used) : NULL;                                               \
        used += ((count) * sizeof *field + ALIGN - 1) / ALIGN * ALIGN;                             \
    } while (0)
    TAKE(row->drive, drives);
    TAKE(row->off, drives);
    TAKE(row->current, currents);
    TAKE(row->variance, currents);
    TAKE(row->sums, (size_t)g->n);
    TAKE(t->conductance, cells);
    TAKE(t->spread, cells);
    TAKE(t->v, (size_t)n->rows);
    TAKE(t->current, (size_t)n->columns);
    TAKE(t->word, cells);
    TAKE(t->bit, cells);
    TAKE(t->g_eff, linear(n) ? cells : 0);
    TAKE(t->off, (size_t)n->rows);
    TAKE(t->same, passes);
#undef TAKE
    t->solver = base ? base + used : NULL;
    return used + (solver > march ? solver : march) + 2 * ALIGN;
}

size_t ohm_mvm_network_bytes(const ohm_geometry *g, const ohm_mvm_network *n)
{
    ohm_network_row row;
    tile_of t;
    return carve(&row, &t, g, n, NULL);
}

void ohm_network_row_at(ohm_network_row *row, const ohm_geometry *g, const ohm_mvm_network *n)
{
    tile_of t;
    carve(row, &t, g, n, n->scratch);
}

/* ---- A tile's place in the layer ------------------------------------------------------------- */

/* Columns of the tile that a read sees: index in a read's currents, and where the column's cells are. */
typedef struct {
    int physical, column, sign; /* sign 0 also for references */
    const double *g, *spread;   /* of row 0 of x; spread NULL = the same for all */
    size_t stride;
    int noise_column; /* of per-cell draws */
} line;

static int lines_of(const tile_of *t)
{
    const ohm_geometry *g = t->g;
    int first = t->column_tile * g->tile_columns, left = g->n - first,
        outputs = left < g->tile_columns ? left : g->tile_columns;
    return outputs * (t->to - t->from) + (g->differential ? 0 : 1);
}

static line line_at(const tile_of *t, int i)
{
    const ohm_geometry *g = t->g;
    const ohm_crossbar *cells = t->cells;
    int signs = g->differential ? 2 : 1, shared = t->to - t->from,
        n = t->column_tile * g->tile_columns + i / shared, sign = t->from + i % shared;
    if (!g->differential && i == lines_of(t) - 1) {
        size_t first = (size_t)t->slice * g->k * g->column_tiles + (size_t)t->column_tile;
        return (line){t->n->columns - 1,
                      g->n + t->column_tile,
                      0,
                      cells->g_ref + first,
                      cells->variance_ref ? cells->variance_ref + first : NULL,
                      (size_t)g->column_tiles,
                      g->n + t->column_tile};
    }
    size_t first = ((size_t)t->slice * signs + sign) * g->k * g->n + (size_t)n;
    return (line){
        t->n->interleaved ? 2 * (i / shared) + sign : i,  sign * g->n + n, sign, cells->g + first,
        cells->variance ? cells->variance + first : NULL, (size_t)g->n,    n};
}

/* Cells of the tile; what no weight uses is at G_min, and noiseless. */
static void gather(tile_of *t)
{
    size_t columns = (size_t)t->n->columns, cells = (size_t)t->n->rows * columns;
    for (size_t i = 0; i < cells; i++) {
        t->conductance[i] = t->g->pedestal;
        t->spread[i] = 0.0;
    }
    for (int i = 0; i < lines_of(t); i++) {
        line l = line_at(t, i);
        for (int r = 0; r < t->used; r++) {
            size_t node = (size_t)r * columns + (size_t)l.physical,
                   cell = (size_t)(t->begin + r) * l.stride;
            t->conductance[node] = l.g[cell];
            t->spread[node] = l.spread ? l.spread[cell] : t->r->read_constant;
        }
    }
}

/* ---- Solving --------------------------------------------------------------------------------- */

/* Sources of a pass; whether any cell conducts. Unused rows are grounded, or off with the others. */
static int set_sources(tile_of *t, const ohm_network_row *row, int pass)
{
    const double *drive = row->drive + (size_t)pass * t->g->k + t->begin;
    const uint8_t *off = row->off + (size_t)pass * t->g->k + t->begin;
    int driven = 0;
    for (int r = 0; r < t->n->rows; r++) {
        t->v[r] = r < t->used ? drive[r] : 0.0;
        t->off[r] = (uint8_t)(t->n->gated && (r >= t->used || off[r]));
        driven |= t->v[r] != 0.0 && !t->off[r];
    }
    return driven;
}

static int same_rows(const tile_of *t, const ohm_network_row *row, int a, int b)
{
    const uint8_t *x = row->off + (size_t)a * t->g->k + t->begin,
                  *y = row->off + (size_t)b * t->g->k + t->begin;
    return !memcmp(x, y, (size_t)t->used);
}

static int same_drive(const tile_of *t, const ohm_network_row *row, int a, int b)
{
    const double *x = row->drive + (size_t)a * t->g->k + t->begin,
                 *y = row->drive + (size_t)b * t->g->k + t->begin;
    return same_rows(t, row, a, b) && !memcmp(x, y, (size_t)t->used * sizeof *x);
}

static ohm_solve_status failed(const tile_of *t, ohm_solve_status status, double residual)
{
    if (t->n->failure)
        *t->n->failure = (ohm_read_failure){status, t->slice, t->tile, t->column_tile, residual};
    return status;
}

/* Current, voltages of the sources that are set. */
static ohm_solve_status solve(const tile_of *t)
{
    ohm_nodal network = network_of(t->n, t->conductance);
    ohm_solve_report report = {0};
    ohm_solve_status status =
        ohm_nodal_solve(t->current, t->word, t->bit, &network, t->v, t->n->gated ? t->off : NULL,
                          t->n->tolerance, t->solver, &report);
    return status == OHM_SOLVE_OK ? status : failed(t, status, report.residual);
}

uint64_t ohm_cell_noise_element(const ohm_geometry *g, uint64_t row, uint64_t read, int sign,
                                int column)
{
    uint64_t columns = (uint64_t)g->n + (g->differential ? 0 : (uint64_t)g->column_tiles),
             k = (uint64_t)g->k;
    return (row * ohm_read_count(g) + read) * 2u * k * columns + (uint64_t)sign * k * columns +
           (uint64_t)column;
}

/* A line's current and variance into the row's. Noise needs the cell voltages: of the last solve. */
static void deliver(const tile_of *t, const ohm_network_row *to, int pass, uint64_t row,
                    int per_cell)
{
    const ohm_geometry *g = t->g;
    size_t at = ohm_network_read(g, pass, t->slice, t->tile) * (size_t)ohm_network_columns(g);
    int noisy = t->r->read_noise && !t->r->quiet;
    uint64_t columns = (uint64_t)g->n + (g->differential ? 0 : (uint64_t)g->column_tiles);
    ohm_stream stream = t->r->stream;
    stream.site = OHM_SITE_READ;
    stream.where |= 0x80000000u;
    for (int i = 0; i < lines_of(t); i++) {
        line l = line_at(t, i);
        double current = t->current[l.physical], variance = 0.0;
        int array = g->digital ? l.sign : 0;
        uint64_t element = ohm_cell_noise_element(
            g, row, ohm_read_index(g, pass / g->planes, pass % g->planes, t->slice, array, t->tile),
            l.sign, l.noise_column);
        for (int r = 0; noisy && r < t->used; r++) {
            size_t node = (size_t)r * t->n->columns + (size_t)l.physical;
            double carried =
                t->off[r] ? 0.0
                          : ohm_cell_law_current(&t->n->law, t->word[node] - t->bit[node], NULL);
            if (per_cell) {
                float z;
                ohm_normals_exact_ref(&z, element + (uint64_t)(t->begin + r) * columns, 1, &stream);
                current += carried * sqrt(t->spread[node]) * z;
            } else
                variance += carried * carried * t->spread[node];
        }
        to->current[at + (size_t)l.column] = current;
        to->variance[at + (size_t)l.column] = variance;
    }
}

/* Repeats a pass's results for one with the same drive: its currents are the same. */
static void repeat(const tile_of *t, const ohm_network_row *to, int from, int pass)
{
    size_t columns = (size_t)ohm_network_columns(t->g);
    size_t a = ohm_network_read(t->g, from, t->slice, t->tile) * columns,
           b = ohm_network_read(t->g, pass, t->slice, t->tile) * columns;
    for (int i = 0; i < lines_of(t); i++) {
        size_t c = (size_t)line_at(t, i).column;
        to->current[b + c] = to->current[a + c];
        to->variance[b + c] = to->variance[a + c];
    }
}

/* Passes of one linear, noise-free tile that cut off the rows of `pass`, through one matrix. */
static ohm_solve_status through_matrix(tile_of *t, const ohm_network_row *to, int pass)
{
    size_t columns = (size_t)t->n->columns;
    ohm_crosspoint tile = network_of(t->n, NULL).tile;
    set_sources(t, to, pass);
    for (int r = 0; r < t->n->rows; r++)
        for (size_t c = 0; c < columns; c++)
            t->g_eff[(size_t)r * columns + c] =
                t->off[r] ? 0.0 : t->conductance[(size_t)r * columns + c];
    ohm_solve_status status =
        ohm_irdrop_exact_f64(t->g_eff, t->g_eff, &tile,
                             (void *)(((uintptr_t)t->solver + ALIGN - 1) / ALIGN * ALIGN), NULL);
    if (status != OHM_SOLVE_OK)
        return failed(t, status, 0.0);
    for (int p = pass; p < passes_of(t->g); p++) {
        if (t->same[p] != pass)
            continue;
        set_sources(t, to, p);
        memset(t->current, 0, columns * sizeof *t->current);
        for (int r = 0; r < t->used; r++)
            for (size_t c = 0; c < columns; c++)
                t->current[c] += t->v[r] * t->g_eff[(size_t)r * columns + c];
        deliver(t, to, p, 0, 0);
        t->same[p] = -1;
    }
    return OHM_SOLVE_OK;
}

/* Groups of passes by the rows they cut off. */
static ohm_solve_status share_matrices(tile_of *t, const ohm_network_row *to)
{
    int passes = passes_of(t->g);
    for (int p = 0; p < passes; p++) {
        t->same[p] = p;
        for (int q = p - 1; q >= 0; q--)
            if (same_rows(t, to, p, q))
                t->same[p] = t->same[q];
    }
    for (int p = 0; p < passes; p++) {
        int count = 0;
        for (int q = p; q < passes; q++)
            count += t->same[q] == p;
        if (count && ohm_nodal_prefers_matrix(count)) {
            ohm_solve_status status = through_matrix(t, to, p);
            if (status != OHM_SOLVE_OK)
                return status;
        }
    }
    return OHM_SOLVE_OK;
}

/* All passes over one tile. */
static ohm_solve_status read_tile(tile_of *t, const ohm_network_row *to, uint64_t row, int per_cell)
{
    int noisy = t->r->read_noise && !t->r->quiet;
    gather(t);
    memset(t->same, 0, (size_t)passes_of(t->g) * sizeof *t->same);
    if (linear(t->n) && !noisy) { /* noise needs the voltages */
        ohm_solve_status status = share_matrices(t, to);
        if (status != OHM_SOLVE_OK)
            return status;
    }
    for (int pass = 0; pass < passes_of(t->g); pass++) {
        if (t->same[pass] < 0)
            continue;
        int earlier = pass - 1;
        while (earlier >= 0 && (t->same[earlier] < 0 || !same_drive(t, to, earlier, pass)))
            earlier--;
        if (earlier >= 0 && !(per_cell && noisy)) {
            repeat(t, to, earlier, pass);
            continue;
        }
        if (set_sources(t, to, pass)) {
            ohm_solve_status status = solve(t);
            if (status != OHM_SOLVE_OK)
                return status;
        } else { /* nothing is driven: nothing flows */
            size_t cells = (size_t)t->n->rows * t->n->columns;
            memset(t->current, 0, (size_t)t->n->columns * sizeof *t->current);
            memset(t->word, 0, cells * sizeof *t->word);
            memset(t->bit, 0, cells * sizeof *t->bit);
        }
        deliver(t, to, pass, row, per_cell);
    }
    return OHM_SOLVE_OK;
}

ohm_solve_status ohm_mvm_network_forward(const ohm_network_row *to, const ohm_geometry *g,
                                         const ohm_read *r, const ohm_crossbar *cells, uint64_t row,
                                         int per_cell)
{
    const ohm_mvm_network *n = cells->network;
    ohm_network_row unused;
    tile_of t;
    carve(&unused, &t, g, n, n->scratch);
    t.g = g;
    t.r = r;
    t.cells = cells;
    t.n = n;
    int signs = g->differential ? 2 : 1, step = n->interleaved ? signs : 1;
    for (t.slice = 0; t.slice < g->slices; t.slice++)
        for (t.tile = 0; t.tile < g->tiles; t.tile++) {
            t.begin = ohm_tile_begin(g, t.tile);
            t.used = ohm_tile_begin(g, t.tile + 1) - t.begin;
            for (t.column_tile = 0; t.column_tile < g->column_tiles; t.column_tile++)
                for (t.from = 0; t.from < signs; t.from += step) {
                    t.to = t.from + step;
                    ohm_solve_status status = read_tile(&t, to, row, per_cell);
                    if (status != OHM_SOLVE_OK)
                        return status;
                }
        }
    return OHM_SOLVE_OK;
}

/* ---- Ranges ---------------------------------------------------------------------------------- */

static void meet_range(float *range, uint32_t *histogram, int bins, size_t at, double current)
{
    float value = fabsf((float)current);
    if (!histogram) {
        range[at] = fmaxf(range[at], value);
        return;
    }
    int bin = range[at] > 0.0f ? (int)(value / range[at] * (float)bins) : 0;
#pragma omp atomic
    histogram[at * (size_t)bins + (size_t)(bin < bins ? bin : bins - 1)]++;
}

ohm_solve_status ohm_mvm_network_range(float *range, uint32_t *histogram, int bins, int per_column,
                                       const ohm_geometry *g, const ohm_read *r,
                                       const ohm_crossbar *cells, const double *x)
{
    ohm_network_row row;
    ohm_read quiet = *r;
    quiet.quiet = 1;
    ohm_network_row_at(&row, g, cells->network);
    ohm_solve_status status = ohm_mvm_ref(row.sums, g, &quiet, cells, x, 1, 0, 1, 0, NULL);
    if (status != OHM_SOLVE_OK)
        return status;
    for (int pass = 0; pass < passes_of(g); pass++)
        for (int slice = 0; slice < g->slices; slice++)
            for (int tile = 0; tile < g->tiles; tile++) {
                const double *current = row.current + ohm_network_read(g, pass, slice, tile) *
                                                          (size_t)ohm_network_columns(g);
                size_t at = ((size_t)(pass % g->planes) * g->slices + slice) *
                            (size_t)(per_column ? g->n : 1);
                for (int n = 0; n < g->n; n++) {
                    size_t own = at + (size_t)(per_column ? n : 0);
                    double reference = g->differential ? 0.0 : current[g->n + n / g->tile_columns];
                    if (!g->digital)
                        meet_range(range, histogram, bins, own,
                                   current[n] - (g->differential ? current[g->n + n] : reference));
                    for (int sign = 0; g->digital && sign < ohm_arrays(g); sign++)
                        meet_range(range, histogram, bins, own, current[sign * g->n + n]);
                    if (g->digital && !g->differential && n % g->tile_columns == 0)
                        meet_range(range, histogram, bins, own, reference);
                }
            }
    return OHM_SOLVE_OK;
}

/* ---- Mode full ------------------------------------------------------------------------------- */

enum {
    ROWS = 8
}; /* of x in a round: all rows of a round read, then all tiles go back through them */

/* What a round's rows keep between both halves. */
typedef struct {
    double *x;                    /* [ROWS][k] real drive codes */
    double *dsums;                /* [ROWS][n] */
    double *drive;                /* [ROWS][passes][k] */
    uint8_t *off;                 /* [ROWS][passes][k] */
    double *dcurrent, *dvariance; /* [ROWS][reads][columns] */
    double *ddrive;               /* [networks of a row tile][ROWS][phases][k] of plane 0 */
    ohm_solve_status status[ROWS];
    ohm_read_failure failure[ROWS];
} round_memory;

/* Memory of one thread beside a tile's own. */
typedef struct {
    double *dcurrent, *dcell, *dv, *dg, *dg_sum, *dvariance_sum;
} adjoint_memory;

/* Tiles that stand side by side over the same rows. */
static int networks_of(const ohm_geometry *g, const ohm_mvm_network *n)
{
    return g->column_tiles * (g->differential && !n->interleaved ? 2 : 1);
}

static size_t carve_round(round_memory *m, const ohm_geometry *g, const ohm_mvm_network *n,
                          char *base)
{
    size_t used = 0, k = (size_t)g->k, passes = (size_t)passes_of(g),
           currents = ohm_network_read(g, passes_of(g), 0, 0) * (size_t)ohm_network_columns(g);
#define TAKE(field, count)                                                                         \
    do {                                                                                           \
        m->field = base ? (void *)(base + used) : NULL;                                            \
        used += ((count) * sizeof *m->field + ALIGN - 1) / ALIGN * ALIGN;                          \
    } while (0)
    TAKE(x, ROWS * k);
    TAKE(dsums, ROWS * (size_t)g->n);
    TAKE(drive, ROWS * passes * k);
    TAKE(off, ROWS * passes * k);
    TAKE(dcurrent, ROWS * currents);
    TAKE(dvariance, ROWS * currents);
    TAKE(ddrive, (size_t)networks_of(g, n) * ROWS * (size_t)g->phases * k);
#undef TAKE
    return used;
}

static size_t carve_adjoint(adjoint_memory *m, const ohm_mvm_network *n, char *base)
{
    size_t used = 0, cells = (size_t)n->rows * n->columns;
    double **fields[] = {&m->dcurrent, &m->dcell, &m->dv, &m->dg, &m->dg_sum, &m->dvariance_sum};
    size_t counts[] = {(size_t)n->columns, cells, (size_t)n->rows, cells, cells, cells};
    for (int i = 0; i < 6; i++) {
        *fields[i] = base ? (double *)(void *)(base + used) : NULL;
        used += (counts[i] * sizeof(double) + ALIGN - 1) / ALIGN * ALIGN;
    }
    return used;
}

static size_t thread_bytes(const ohm_geometry *g, const ohm_mvm_network *n)
{
    adjoint_memory m;
    return (carve_adjoint(&m, n, NULL) + ohm_mvm_network_bytes(g, n) + ALIGN - 1) / ALIGN * ALIGN;
}

size_t ohm_mvm_network_backward_bytes(const ohm_geometry *g, const ohm_mvm_network *n)
{
    round_memory m;
    return carve_round(&m, g, n, NULL) + thread_bytes(g, n) * (size_t)omp_get_max_threads() + ALIGN;
}

typedef struct {
    const ohm_mvm_gradient *d;
    const ohm_geometry *g;
    const ohm_read *r;
    const ohm_crossbar *cells;
    round_memory m;
    char *threads;
    int first, count; /* rows of this round */
} round_of;

/* First half: one row of the round. */
static void chain_row(round_of *j, int i, ohm_mvm_network *own, ohm_crossbar *cells)
{
    const ohm_geometry *g = j->g;
    const ohm_mvm_gradient *d = j->d;
    int row = j->first + i,
        is_signed = g->drive == OHM_DRIVE_TWO_PHASE || g->drive == OHM_DRIVE_SIGN_MAGNITUDE;
    double *x = j->m.x + (size_t)i * g->k, *dsums = j->m.dsums + (size_t)i * g->n;
    size_t drives = (size_t)passes_of(g) * g->k,
           currents = ohm_network_read(g, passes_of(g), 0, 0) * (size_t)ohm_network_columns(g);
    for (int k = 0; k < g->k; k++) {
        unsigned code = d->round ? d->x_u[(size_t)row * d->ldx + k] : 0;
        double whole = is_signed && code >> 7 ? -(double)(code & 127) : code;
        x[k] = d->round ? whole : d->x[(size_t)row * g->k + k];
    }
    for (int n = 0; n < g->n; n++)
        dsums[n] = d->dsums[(size_t)row * d->ldd + n];
    ohm_network_row to;
    ohm_network_row_at(&to, g, own);
    to.dcurrent = j->m.dcurrent + (size_t)i * currents;
    to.dvariance = j->m.dvariance + (size_t)i * currents;
    own->failure = &j->m.failure[i];
    j->m.status[i] = ohm_mvm_network_chain(&to, g, j->r, cells, x, d->first_row + (uint64_t)row,
                                           d->round, dsums);
    memcpy(j->m.drive + (size_t)i * drives, to.drive, drives * sizeof *to.drive);
    memcpy(j->m.off + (size_t)i * drives, to.off, drives);
}

/* Gradients by currents and cell voltages of the solution that the tile holds; whether there are any. */
static int gather_gradients(const tile_of *t, const adjoint_memory *a, const double *dcurrent,
                            const double *dvariance, int noisy)
{
    size_t columns = (size_t)t->n->columns;
    int any = 0;
    memset(a->dcurrent, 0, columns * sizeof *a->dcurrent);
    if (noisy)
        memset(a->dcell, 0, (size_t)t->n->rows * columns * sizeof *a->dcell);
    for (int i = 0; i < lines_of(t); i++) {
        line l = line_at(t, i);
        a->dcurrent[l.physical] = dcurrent[l.column];
        any |= dcurrent[l.column] != 0.0 || (noisy && dvariance[l.column] != 0.0);
        for (int r = 0; noisy && r < t->used; r++) {
            size_t node = (size_t)r * columns + (size_t)l.physical;
            double slope,
                carried = ohm_cell_law_current(&t->n->law, t->word[node] - t->bit[node], &slope);
            if (!t->off[r])
                a->dcell[node] = 2.0 * dvariance[l.column] * carried * slope * t->spread[node];
        }
    }
    return any;
}

/* Adds to the sums of slice 0's cells what one read makes of their conductance and variance. */
static void sum_cells(const tile_of *t, const adjoint_memory *a, const double *dvariance,
                      double johnson)
{
    size_t columns = (size_t)t->n->columns;
    for (int i = 0; i < lines_of(t); i++) {
        line l = line_at(t, i);
        for (int r = 0; r < t->used; r++) {
            size_t node = (size_t)r * columns + (size_t)l.physical;
            double carried =
                t->off[r] ? 0.0
                          : ohm_cell_law_current(&t->n->law, t->word[node] - t->bit[node], NULL);
            a->dg_sum[node] += a->dg[node] + johnson * dvariance[l.column];
            a->dvariance_sum[node] += carried * carried * dvariance[l.column];
        }
    }
}

/* One read of a row of the round, back through its network. ddrive [phases][k] or NULL. */
static ohm_solve_status read_back(tile_of *t, const adjoint_memory *a, const round_of *j, int i,
                                  int pass, double *ddrive)
{
    const ohm_geometry *g = t->g;
    size_t drives = (size_t)passes_of(g) * g->k, cells = (size_t)t->n->rows * t->n->columns,
           read = ((size_t)i * ohm_network_read(g, passes_of(g), 0, 0) +
                   ohm_network_read(g, pass, t->slice, t->tile)) *
                  (size_t)ohm_network_columns(g);
    ohm_network_row row = {.drive = j->m.drive + (size_t)i * drives,
                           .off = j->m.off + (size_t)i * drives};
    int noisy = j->r->read_noise && !j->r->quiet;
    memset(t->word, 0, cells * sizeof *t->word);
    memset(t->bit, 0, cells * sizeof *t->bit);
    if (set_sources(t, &row, pass)) {
        ohm_solve_status status = solve(t);
        if (status != OHM_SOLVE_OK)
            return status;
    }
    if (!gather_gradients(t, a, j->m.dcurrent + read, j->m.dvariance + read, noisy))
        return OHM_SOLVE_OK;
    ohm_nodal network = network_of(t->n, t->conductance);
    memset(a->dv, 0, (size_t)t->n->rows * sizeof *a->dv);
    memset(a->dg, 0, cells * sizeof *a->dg);
    ohm_solve_report report;
    ohm_solve_status status = ohm_nodal_adjoint(
        a->dv, a->dg, &network, t->word, t->bit, t->n->gated ? t->off : NULL, a->dcurrent,
        noisy ? a->dcell : NULL, t->n->tolerance, t->solver, &report);
    if (status != OHM_SOLVE_OK)
        return failed(t, status, report.residual);
    if (t->slice == 0)
        sum_cells(t, a, j->m.dvariance + read, *j->cells->johnson_scale);
    for (int r = 0; ddrive && r < t->used; r++)
        ddrive[(size_t)(pass / g->planes) * g->k + t->begin + r] += a->dv[r];
    return OHM_SOLVE_OK;
}

/* Second half: all rows of the round back through the slices of one tile. dx comes from plane 0, dg from
 * slice 0, where the fractions ride. */
static ohm_solve_status tile_back(tile_of *t, const adjoint_memory *a, const round_of *j,
                                  double *ddrive)
{
    const ohm_geometry *g = t->g;
    ohm_cell_gradient *to = j->d->cells;
    size_t cells = (size_t)t->n->rows * t->n->columns, columns = (size_t)t->n->columns;
    for (t->slice = 0; t->slice < g->slices; t->slice++) {
        gather(t);
        memset(a->dg_sum, 0, cells * sizeof *a->dg_sum);
        memset(a->dvariance_sum, 0, cells * sizeof *a->dvariance_sum);
        for (int i = 0; i < j->count; i++)
            for (int pass = 0; pass < passes_of(g); pass++) {
                int wanted = pass % g->planes == 0 && j->d->dx;
                double *drive = wanted ? ddrive + (size_t)i * (size_t)g->phases * g->k : NULL;
                ohm_solve_status status =
                    wanted || t->slice == 0 ? read_back(t, a, j, i, pass, drive) : OHM_SOLVE_OK;
                if (status != OHM_SOLVE_OK)
                    return status;
            }
        for (int i = 0; t->slice == 0 && i < lines_of(t); i++) {
            line l = line_at(t, i);
            if (l.column >= ohm_network_columns(g) - (g->differential ? 0 : g->column_tiles))
                continue; /* a reference is no weight */
            for (int r = 0; r < t->used; r++) {
                size_t node = (size_t)r * columns + (size_t)l.physical,
                       cell = ((size_t)l.sign * g->k + t->begin + r) * g->n + l.noise_column;
                to->dg[cell] += (float)a->dg_sum[node];
                to->dvariance[cell] += (float)a->dvariance_sum[node];
            }
        }
    }
    return OHM_SOLVE_OK;
}

/* d drive / d code on plane 0 of a phase. */
static double drive_slope(const ohm_geometry *g, const ohm_read *r, double x, int phase)
{
    double rest = fabs(x), base = g->max_digit + 1.0;
    int elsewhere = g->drive == OHM_DRIVE_TWO_PHASE && (x < 0.0) != phase;
    if (g->planes > 1)
        rest -= base * floor(rest / base);
    double slope = 1.0 + r->dac_inl * ohm_inl_slope(rest / g->max_digit) / g->max_digit;
    return elsewhere ? 0.0 : phase ? -slope : slope;
}

static void store_dx(const round_of *j)
{
    const ohm_geometry *g = j->g;
    int networks = networks_of(g, j->cells->network);
#pragma omp for schedule(static)
    for (int i = 0; i < j->count; i++)
        for (int k = 0; k < g->k; k++) {
            double sum = 0.0;
            for (int phase = 0; phase < g->phases; phase++) {
                double d = 0.0;
                for (int n = 0; n < networks; n++)
                    d += j->m.ddrive[(((size_t)n * ROWS + i) * g->phases + phase) * g->k + k];
                sum += d * drive_slope(g, j->r, j->m.x[(size_t)i * g->k + k], phase);
            }
            j->d->dx[(size_t)(j->first + i) * j->d->lddx + k] = (float)sum;
        }
}

/* Both halves of a round. failure: of the first row or tile that has one. */
static ohm_solve_status go_back(round_of *j, ohm_read_failure *failure)
{
    const ohm_geometry *g = j->g;
    const ohm_mvm_network *n = j->cells->network;
    int networks = networks_of(g, n), tasks = g->tiles * networks, worst = tasks;
    size_t each = thread_bytes(g, n);
    ohm_solve_status status = OHM_SOLVE_OK;
    memset(j->m.ddrive, 0,
           (size_t)networks * ROWS * (size_t)g->phases * g->k * sizeof *j->m.ddrive);
#pragma omp parallel
    {
        char *base = j->threads + each * (size_t)omp_get_thread_num();
        adjoint_memory a;
        ohm_mvm_network own = *n;
        ohm_crossbar cells = *j->cells;
        own.scratch = base + carve_adjoint(&a, n, base);
        cells.network = &own;
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < j->count; i++)
            chain_row(j, i, &own, &cells);
        ohm_solve_status read = OHM_SOLVE_OK;
        for (int i = j->count - 1; i >= 0; i--)
            read = j->m.status[i] != OHM_SOLVE_OK ? j->m.status[i] : read;
#pragma omp for schedule(dynamic, 1)
        for (int task = 0; task < tasks; task++) {
            ohm_network_row unused;
            ohm_read_failure own_failure = {0};
            tile_of t;
            carve(&unused, &t, g, &own, own.scratch);
            own.failure = &own_failure;
            t.g = g;
            t.r = j->r;
            t.cells = &cells;
            t.n = &own;
            t.tile = task / networks;
            int place = task % networks, pair = networks / g->column_tiles;
            t.column_tile = place / pair;
            t.from = pair == 2 ? place % pair : 0;
            t.to = pair == 2 ? t.from + 1 : g->differential ? 2 : 1;
            t.begin = ohm_tile_begin(g, t.tile);
            t.used = ohm_tile_begin(g, t.tile + 1) - t.begin;
            ohm_solve_status back =
                read != OHM_SOLVE_OK
                    ? OHM_SOLVE_OK
                    : tile_back(&t, &a, j,
                                j->m.ddrive + (size_t)place * ROWS * (size_t)g->phases * g->k);
#pragma omp critical(ohm_mvm_network)
            if (back != OHM_SOLVE_OK && task < worst) {
                worst = task;
                status = back;
                *failure = own_failure;
            }
        }
        if (j->d->dx)
            store_dx(j);
    }
    for (int i = j->count - 1; i >= 0; i--)
        if (j->m.status[i] != OHM_SOLVE_OK) {
            status = j->m.status[i];
            *failure = j->m.failure[i];
        }
    failure->status = status;
    return status;
}

ohm_solve_status ohm_mvm_network_backward(const ohm_mvm_gradient *d, const ohm_geometry *g,
                                          const ohm_read *r, const ohm_crossbar *cells,
                                          void *scratch, ohm_read_failure *failure)
{
    round_of j = {.d = d, .g = g, .r = r, .cells = cells};
    char *base = (char *)(((uintptr_t)scratch + ALIGN - 1) / ALIGN * ALIGN);
    ohm_solve_status status = OHM_SOLVE_OK;
    j.threads = base + carve_round(&j.m, g, cells->network, base);
    for (j.first = 0; j.first < d->m && status == OHM_SOLVE_OK; j.first += ROWS) {
        j.count = d->m - j.first < ROWS ? d->m - j.first : ROWS;
        memset(j.m.failure, 0, sizeof j.m.failure);
        status = go_back(&j, failure);
    }
    return status;
}
