#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/normals.h"
#include "kernels/program_cell.h"
#include "kernels/program_task.h"

#include <omp.h>

enum { COLUMNS_MOST = 512, ROWS_MOST = 32, ALIGN = 64 };

ohm_cells_task *ohm_cells_task_of(ohm_isa isa)
{
    switch (isa) {
    case OHM_ISA_BASE:
        return ohm_cells_task_base;
#if defined(__x86_64__)
    case OHM_ISA_AVX2:
        return ohm_cells_task_avx2;
    case OHM_ISA_AVX512:
        return ohm_cells_task_avx512;
#endif
    default:
        return NULL;
    }
}

void ohm_program_cells(double *g, double *slope, const ohm_programming *p, const uint8_t *level,
                       uint64_t first, int count)
{
    ohm_cells_task *task = ohm_cells_task_of(ohm_cpu_isa());
    double unused[OHM_CELLS];
    for (int i = 0; i < count; i += OHM_CELLS) {
        int some = count - i < OHM_CELLS ? count - i : OHM_CELLS;
        task(g + i, slope ? slope + i : unused, p, level + i, first + (uint64_t)i, some);
    }
}

typedef struct {
    ohm_tiles *tiles;
    ohm_cell_gradient *gradient;
    const ohm_geometry *g;
    const ohm_programming *p;
    const ohm_read_law *read;
    double johnson_scale;
    const uint8_t *w_split, *ref_level;
} job;

/* Memory of one thread: a block of rows x columns cells. */
typedef struct {
    double *before, *after, *slope; /* [signs][rows][columns] */
    double *ref_before, *ref_after; /* [rows] */
    double *johnson;                /* [signs + 1][columns] */
    double *tile, *wires;           /* a physical tile and the scratch of the closed form */
    float *single;                  /* the tile in float, and */
    char *solver;                   /* the scratch of the exact solution */
    ohm_solve_status status;
} block;

typedef struct {
    int slice, tile, column_tile;
    int begin, rows;    /* of the row tile */
    int first, columns; /* output columns of this part */
    int from, count;    /* rows of the block, within the tile */
} part;

static int block_rows(const ohm_geometry *g, const ohm_programming *p)
{
    int rows = ohm_tile_rows_most(g);
    return p->ir || rows < ROWS_MOST ? rows : ROWS_MOST;
}

static int block_columns(const ohm_geometry *g, const ohm_programming *p)
{
    int columns = g->column_tiles == 1 ? g->n : g->tile_columns;
    return p->ir || columns < COLUMNS_MOST ? columns : COLUMNS_MOST;
}

static ohm_crosspoint physical_tile(const ohm_programming *p)
{
    return (ohm_crosspoint){
        .rows = p->physical_rows, .columns = p->physical_columns, .wires = p->wires};
}

static size_t carve(block *b, const ohm_geometry *g, const ohm_programming *p, char *base)
{
    size_t used = 0, rows = (size_t)block_rows(g, p), columns = (size_t)block_columns(g, p);
    size_t cells = (g->differential ? 2 : 1) * rows * columns,
           physical = p->ir ? (size_t)p->physical_rows * p->physical_columns : 0;
    ohm_crosspoint exact = physical_tile(p);
    int solves = p->ir == OHM_WIRES_EXACT;
#define TAKE(field, count)                                                                         \
    do {                                                                                           \
        b->field = base ? (void *)(base + used) : NULL;                                            \
        used += ((count) * sizeof *b->field + ALIGN - 1) / ALIGN * ALIGN;                          \
    } while (0)
    TAKE(before, cells);
    TAKE(after, cells);
    TAKE(slope, cells);
    TAKE(ref_before, rows);
    TAKE(ref_after, rows);
    TAKE(johnson, 3 * columns);
    TAKE(tile, physical);
    TAKE(wires, p->ir == OHM_WIRES_CLOSED ? physical + 3 * (size_t)p->physical_columns : 0);
    TAKE(single, solves ? physical : 0);
    TAKE(solver, solves ? ohm_irdrop_exact_bytes_f32(&exact) : 0);
#undef TAKE
    return used;
}

size_t ohm_program_scratch_bytes(const ohm_geometry *g, const ohm_programming *p)
{
    block b;
    return carve(&b, g, p, NULL) * (size_t)omp_get_max_threads() + ALIGN;
}

static void write_cells(const job *j, const block *b, const part *at)
{
    const ohm_geometry *g = j->g;
    int signs = g->differential ? 2 : 1;
    for (int sign = 0; sign < signs; sign++)
        for (int r = 0; r < at->count; r++) {
            uint64_t e = ohm_cell_element(g, at->slice, sign, at->begin + at->from + r, at->first);
            size_t row = ((size_t)sign * at->count + r) * at->columns;
            ohm_program_cells(b->before + row, b->slope + row, j->p, j->w_split + e, e,
                              at->columns);
        }
    for (int r = 0; r < at->count && !g->differential; r++) {
        uint64_t e = ohm_ref_element(g, at->slice, at->begin + at->from + r, at->column_tile);
        ohm_program_cells(b->ref_before + r, NULL, j->p, j->ref_level + at->slice, e, 1);
    }
}

/* What the wires leave of the physical tile in b->tile, of which `used` rows are driven: unused rows
 * are grounded, which the closed form knows and the exact solution sees as cells at G_min. */
static void pass_wires(const ohm_programming *p, block *b, int used)
{
    int rows = p->physical_rows, columns = p->physical_columns;
    if (p->ir == OHM_WIRES_CLOSED) {
        ohm_irdrop_closed(b->tile, b->tile, used, columns, rows - used, &p->wires, b->wires);
        return;
    }
    ohm_crosspoint exact = physical_tile(p);
    for (size_t i = 0; i < (size_t)rows * columns; i++)
        b->single[i] = (float)b->tile[i];
    ohm_solve_status status = ohm_irdrop_exact_f32(b->single, b->single, &exact, b->solver, NULL);
    b->status = status == OHM_SOLVE_OK ? b->status : status;
    for (size_t i = 0; i < (size_t)rows * columns; i++)
        b->tile[i] = b->single[i];
}

/* after = what the wires leave of before. Separate arrays pass one by one, a pair of columns together. */
static void through_wires(const job *j, block *b, const part *at)
{
    const ohm_geometry *g = j->g;
    const ohm_programming *p = j->p;
    int signs = g->differential ? 2 : 1, step = p->interleaved ? signs : 1,
        width = p->physical_columns;
    size_t cells = (size_t)at->count * at->columns;
    if (!p->ir) {
        memcpy(b->after, b->before, signs * cells * sizeof *b->after);
        memcpy(b->ref_after, b->ref_before, (size_t)at->count * sizeof *b->ref_after);
        return;
    }
    for (int sign = 0; sign < signs; sign += step) {
        for (size_t i = 0; i < (size_t)p->physical_rows * width; i++)
            b->tile[i] = p->g_min;
        for (int s = 0; s < step; s++)
            for (int r = 0; r < at->count; r++)
                for (int c = 0; c < at->columns; c++)
                    b->tile[(size_t)r * width + c * step + s] =
                        b->before[(sign + s) * cells + (size_t)r * at->columns + c];
        for (int r = 0; r < at->count && !g->differential; r++)
            b->tile[(size_t)r * width + width - 1] = b->ref_before[r];
        pass_wires(p, b, at->count);
        for (int s = 0; s < step; s++)
            for (int r = 0; r < at->count; r++)
                for (int c = 0; c < at->columns; c++)
                    b->after[(sign + s) * cells + (size_t)r * at->columns + c] =
                        b->tile[(size_t)r * width + c * step + s];
        for (int r = 0; r < at->count && !g->differential; r++)
            b->ref_after[r] = b->tile[(size_t)r * width + width - 1];
    }
}

static double variance_of(const ohm_read_law *read, double before, double after)
{
    double share = before > 0.0 ? after / before : 1.0;
    return ohm_read_variance(read, before, NULL) * share * share;
}

/* One row of one array into its panels: positive - negative, or - reference, or without pedestal. */
static void store_row(const job *j, const block *b, const part *at, int array, int r)
{
    const ohm_geometry *g = j->g;
    size_t cells = (size_t)at->count * at->columns, row = (size_t)r * at->columns;
    const double *plus = b->after + (g->differential && array ? cells : 0) + row,
                 *minus = b->after + cells + row;
    const double *plus_before = b->before + (g->differential && array ? cells : 0) + row,
                 *minus_before = b->before + cells + row;
    int pair = g->differential && !g->digital, at_start = ohm_packed_position(g, at->first);
    int pitch = ohm_tile_pitch(g), tile_end = (at_start / pitch + 1) * pitch;
    int last = at->first + at->columns == g->n || (at->first + at->columns) % g->tile_columns == 0;
    int end = last ? tile_end : at_start + at->columns;
    double single = g->digital ? g->pedestal : g->differential ? 0.0 : b->ref_after[r];
    float scale = ohm_variance_scale(g);
    size_t base =
        ((size_t)at->slice * ohm_arrays(g) + array) * (size_t)g->k * ohm_packed_columns(g);
    for (int c = at_start, width; c < end; c += width) {
        width = ohm_panel_width(g, c);
        size_t to = base + ohm_packed_index(g, at->tile, at->from + r, c);
        for (int i = 0; i < width; i++) {
            int from = c - at_start + i;
            double value = 0.0, variance = 0.0;
            if (from < at->columns) {
                value = pair ? plus[from] - minus[from] : plus[from] - single;
                if (j->tiles->variance) {
                    variance = variance_of(j->read, plus_before[from], plus[from]);
                    if (pair)
                        variance += variance_of(j->read, minus_before[from], minus[from]);
                }
            }
            j->tiles->w[to + i] = ohm_held_conductance(j->p, value);
            if (j->tiles->variance)
                j->tiles->variance[to + i] = ohm_held_variance(j->p, variance, scale);
        }
    }
}

static void store_gradient(const job *j, const block *b, const part *at)
{
    const ohm_geometry *g = j->g;
    size_t cells = (size_t)at->count * at->columns;
    for (int sign = 0; sign < (g->differential ? 2 : 1); sign++)
        for (int r = 0; r < at->count; r++) {
            size_t to = (size_t)ohm_cell_element(g, 0, sign, at->begin + at->from + r, at->first);
            size_t from = sign * cells + (size_t)r * at->columns;
            for (int c = 0; c < at->columns; c++) {
                j->gradient->g[to + c] = (float)b->before[from + c];
                j->gradient->g_eff[to + c] = (float)b->after[from + c];
                j->gradient->slope[to + c] = (float)b->slope[from + c];
            }
        }
}

static void store_references(const job *j, const block *b, const part *at, double *johnson)
{
    const ohm_geometry *g = j->g;
    size_t to =
        ((size_t)at->slice * g->column_tiles + at->column_tile) * g->k + at->begin + at->from;
    for (int r = 0; r < at->count; r++) {
        j->tiles->ref[to + r] = (float)(b->ref_after[r] - g->pedestal);
        if (j->tiles->ref_variance)
            j->tiles->ref_variance[to + r] =
                (float)variance_of(j->read, b->ref_before[r], b->ref_after[r]);
        if (j->gradient && at->slice == 0) {
            size_t cell = (size_t)(at->begin + at->from + r) * g->column_tiles + at->column_tile;
            j->gradient->g_ref[cell] = (float)b->ref_before[r];
            j->gradient->g_ref_eff[cell] = (float)b->ref_after[r];
        }
        *johnson += j->johnson_scale * b->ref_after[r];
    }
}

/* Rows of one part of a tile, block by block. */
static void program_part(const job *j, block *b, part at, int rows_most)
{
    const ohm_geometry *g = j->g;
    int arrays = ohm_arrays(g), np = ohm_packed_columns(g),
        start = ohm_packed_position(g, at.first);
    size_t columns = (size_t)at.columns;
    double ref_johnson = j->johnson_scale * ohm_idle_conductance(g, at.tile);
    for (size_t c = 0; c < (size_t)arrays * columns; c++)
        b->johnson[c] = ref_johnson * ohm_columns_seen(g);
    for (at.from = 0; at.from < at.rows; at.from += rows_most) {
        at.count = at.rows - at.from < rows_most ? at.rows - at.from : rows_most;
        write_cells(j, b, &at);
        through_wires(j, b, &at);
        for (int array = 0; array < arrays; array++)
            for (int r = 0; r < at.count; r++)
                store_row(j, b, &at, array, r);
        for (int sign = 0; sign < (g->differential ? 2 : 1); sign++)
            for (int r = 0; r < at.count; r++)
                for (size_t c = 0; c < columns; c++)
                    b->johnson[(arrays == 1 ? 0 : sign) * columns + c] +=
                        j->johnson_scale * b->after[((size_t)sign * at.count + r) * columns + c];
        if (j->gradient && at.slice == 0)
            store_gradient(j, b, &at);
        if (!g->differential && at.first == at.column_tile * g->tile_columns)
            store_references(j, b, &at, &ref_johnson);
    }
    int pitch = ohm_tile_pitch(g), end = at.first + at.columns;
    int last = end == g->n || end % g->tile_columns == 0;
    size_t width = last ? (size_t)(pitch - start % pitch) : columns; /* with the padding behind it */
    for (int array = 0; array < arrays && j->tiles->johnson; array++)
        for (size_t c = 0; c < width; c++)
            j->tiles->johnson[(((size_t)at.slice * arrays + array) * g->tiles + at.tile) * np +
                              start + c] =
                c < columns ? (float)b->johnson[array * columns + c] : 0.0f;
    if (!g->differential && j->tiles->ref_johnson && at.first == at.column_tile * g->tile_columns)
        j->tiles->ref_johnson[((size_t)at.slice * g->tiles + at.tile) * g->column_tiles +
                              at.column_tile] = (float)ref_johnson;
}

ohm_solve_status ohm_program_cpu(ohm_tiles *tiles, ohm_cell_gradient *gradient,
                                 const ohm_geometry *g, const ohm_programming *p,
                                 const ohm_read_law *read, double johnson_scale,
                                 const uint8_t *w_split, const uint8_t *ref_level, void *scratch)
{
    job j = {tiles, gradient, g, p, read, johnson_scale, w_split, ref_level};
    int rows_most = block_rows(g, p), columns_most = block_columns(g, p);
    int tile_columns = g->column_tiles == 1 ? g->n : g->tile_columns,
        parts = (tile_columns + columns_most - 1) / columns_most;
    block unused;
    size_t bytes = carve(&unused, g, p, NULL);
    char *base = (char *)(((uintptr_t)scratch + ALIGN - 1) / ALIGN * ALIGN);
    int worst = OHM_SOLVE_OK;
#pragma omp parallel reduction(max : worst)
    {
        block b = {.status = OHM_SOLVE_OK};
        carve(&b, g, p, base + bytes * (size_t)omp_get_thread_num());
#pragma omp for collapse(3) schedule(dynamic, 1)
        for (int slice = 0; slice < g->slices; slice++)
            for (int t = 0; t < g->tiles; t++)
                for (int i = 0; i < g->column_tiles * parts; i++) {
                    int ct = i / parts, first = ct * tile_columns + i % parts * columns_most;
                    int end = (ct + 1) * tile_columns < g->n ? (ct + 1) * tile_columns : g->n,
                        left = end - first;
                    part at = {.slice = slice,
                               .tile = t,
                               .column_tile = ct,
                               .begin = ohm_tile_begin(g, t),
                               .first = first,
                               .columns = left < columns_most ? left : columns_most};
                    at.rows = ohm_tile_begin(g, t + 1) - at.begin;
                    if (left > 0)
                        program_part(&j, &b, at, rows_most);
                }
        worst = b.status;
    }
    return (ohm_solve_status)worst;
}

void ohm_column_errors(float *out, size_t count, double mean, double sigma,
                       const ohm_stream *stream, uint32_t site, uint64_t first)
{
    ohm_stream s = *stream;
    s.site = site;
    ohm_normals_exact(out, first, count, &s);
    for (size_t i = 0; i < count; i++)
        out[i] = (float)(mean + sigma * out[i]);
}
