#include "kernels/mvm_network.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

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

static ohm_network network_of(const ohm_mvm_network *n, const double *g)
{
    return (ohm_network){{n->rows, n->columns, n->wires}, g, n->law};
}

static int linear(const ohm_mvm_network *n)
{
    return n->law.iv == OHM_CELL_LINEAR;
}

static size_t carve(ohm_network_row *row, tile_of *t, const ohm_geometry *g,
                    const ohm_mvm_network *n, void *scratch)
{
    char *base = scratch ? (char *)(((uintptr_t)scratch + ALIGN - 1) / ALIGN * ALIGN) : NULL;
    size_t used = 0, passes = (size_t)passes_of(g), drives = passes * (size_t)g->k,
           cells = (size_t)n->rows * n->columns,
           currents = ohm_network_read(g, passes_of(g), 0, 0) * (size_t)ohm_network_columns(g);
    ohm_network all = network_of(n, NULL);
    size_t solver = ohm_network_scratch_bytes(&all),
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
        *t->n->failure =
            (ohm_read_failure){status, t->slice, t->tile, t->column_tile, residual};
    return status;
}

/* Current, voltages of the sources that are set. */
static ohm_solve_status solve(const tile_of *t)
{
    ohm_network network = network_of(t->n, t->conductance);
    ohm_solve_report report = {0};
    ohm_solve_status status =
        ohm_network_solve(t->current, t->word, t->bit, &network, t->v, t->n->gated ? t->off : NULL,
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
    ohm_crosspoint tile = network_of(t->n, NULL).tile;
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
        if (count && ohm_network_prefers_matrix(&tile, count)) {
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
