/* Every kernel here touches a cell a few times: bound by memory, 20 to 40 bytes a cell of slice 0. */
#include "kernels/irdrop_adjoint_cuda.h"
#include "kernels/irdrop_closed_cuda.h"
#include "kernels/mvm_backward_cuda.h"
#include "kernels/platform_cuda.h"
#include "kernels/program_cell.h"

enum { THREADS = 256, SQUARE = 32, SQUARE_ROWS = 8 };

struct finish_job {
    ohm_cell_gradient c;
    ohm_geometry g;
    ohm_read_law read;
    int wires;                       /* cells have passed them */
    int rows, columns, arrays, pair; /* of a physical tile; pair: its arrays share it */
    double g_min;
    const uint8_t *negative;
    float *dw;
    float *g_of, *dg_eff, *dg; /* physical tiles of some places of slice 0 */
    int first;                 /* of these places */
    size_t nodes;
};

/* ---- physical tiles -------------------------------------------------------------------------- */

/* What stands at a node of slice 0's physical tiles. */
struct finish_node {
    bool cell, reference; /* else unused */
    size_t at;            /* in the arrays of cells, or of references */
};

static __device__ __forceinline__ finish_node node_of(const finish_job &job, size_t node)
{
    const ohm_geometry &g = job.g;
    const int column = static_cast<int>(node % job.columns);
    const size_t row = node / job.columns, tile = job.first * job.arrays + row / job.rows;
    const int r = static_cast<int>(row % job.rows),
              sign = job.pair ? column % 2 : static_cast<int>(tile % job.arrays),
              ct = static_cast<int>(tile / job.arrays % g.column_tiles),
              t = static_cast<int>(tile / job.arrays / g.column_tiles),
              begin = ohm_tile_begin(&g, t), c = job.pair ? column / 2 : column,
              n = ct * g.tile_columns + c;
    if (begin + r >= ohm_tile_begin(&g, t + 1))
        return {false, false, 0};
    if (!g.differential && column == job.columns - 1)
        return {false, true, static_cast<size_t>(begin + r) * g.column_tiles + ct};
    return {c < g.tile_columns && n < g.n, false,
            (static_cast<size_t>(sign) * g.k + begin + r) * g.n + n};
}

static __global__ void mvm_finish_gather(const __grid_constant__ finish_job job)
{
    const size_t node = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (node >= job.nodes)
        return;
    const finish_node from = node_of(job, node);
    double g = job.g_min, dg_eff = 0.0, dg = 0.0;
    if (from.cell) {
        g = job.c.g[from.at];
        dg_eff = job.c.dg[from.at];
        dg = ohm_variance_chain(&job.read, g, job.c.g_eff[from.at], job.c.dvariance[from.at],
                                &dg_eff);
    } else if (from.reference) {
        g = job.c.g_ref[from.at];
        dg_eff = job.c.dref[from.at];
        ohm_variance_chain(&job.read, g, job.c.g_ref_eff[from.at], job.c.dref_variance[from.at],
                           &dg_eff);
    }
    job.g_of[node] = static_cast<float>(g);
    job.dg_eff[node] = static_cast<float>(dg_eff);
    job.dg[node] = static_cast<float>(dg);
}

static __global__ void mvm_finish_scatter(const __grid_constant__ finish_job job)
{
    const size_t node = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (node >= job.nodes)
        return;
    const finish_node to = node_of(job, node);
    if (to.cell)
        job.c.dg[to.at] = job.dg[node];
}

/* ---- weights --------------------------------------------------------------------------------- */

/* A square of weights, turned: cells are [k][n], weights [n][k]. */
static __global__ void mvm_finish_weights(const __grid_constant__ finish_job job)
{
    OHM_SHARED(float, turned, [SQUARE][SQUARE + 1]);
    const ohm_geometry &g = job.g;
    const int x = static_cast<int>(threadIdx.x), k0 = static_cast<int>(blockIdx.y) * SQUARE,
              n0 = static_cast<int>(blockIdx.x) * SQUARE;
    for (int y = static_cast<int>(threadIdx.y); y < SQUARE; y += SQUARE_ROWS) {
        const int k = k0 + y, n = n0 + x;
        if (k >= g.k || n >= g.n)
            continue;
        const size_t cell = static_cast<size_t>(k) * g.n + n;
        const bool negative = job.negative[cell] != 0;
        const size_t from = negative ? cell + static_cast<size_t>(g.k) * g.n : cell;
        float dg = job.c.dg[from];
        if (!job.wires && job.c.dvariance[from] != 0.0f) {
            double slope;
            ohm_read_variance(&job.read, job.c.g[from], &slope);
            dg += static_cast<float>(job.c.dvariance[from] * slope);
        }
        turned[y][x] = (negative ? -dg : dg) * job.c.slope[from];
    }
    __syncthreads();
    for (int y = static_cast<int>(threadIdx.y); y < SQUARE; y += SQUARE_ROWS) {
        const int k = k0 + x, n = n0 + y;
        if (k < g.k && n < g.n)
            job.dw[static_cast<size_t>(n) * g.k + k] += turned[x][y];
    }
}

static __global__ void mvm_add_nominal(float *dw, const float *dsum_total, float offset, int k,
                                       size_t weights)
{
    const size_t i = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i < weights)
        dw[i] -= offset * dsum_total[i / k];
}

static __global__ void mvm_mark_negative(uint8_t *negative, const uint8_t *w_split, size_t cells,
                                         int slices)
{
    const size_t i = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i >= cells)
        return;
    unsigned any = 0;
    for (int slice = 0; slice < slices; slice++)
        any |= w_split[(static_cast<size_t>(slice) * 2 + 1) * cells + i];
    negative[i] = any != 0;
}

/* ---- launches -------------------------------------------------------------------------------- */

static unsigned blocks_of(size_t count)
{
    return static_cast<unsigned>((count + THREADS - 1) / THREADS);
}

extern "C" ohm_cuda_status ohm_mvm_negative_cuda(uint8_t *negative, const ohm_geometry *g,
                                                 const uint8_t *w_split, ohm_cuda_stream s)
{
    const size_t cells = static_cast<size_t>(g->k) * g->n;
    if (!g->differential)
        return ohm_cuda_fill(negative, 0, cells, s);
    return OHM_LAUNCH(mvm_mark_negative, blocks_of(cells), THREADS, 0, s, negative, w_split, cells,
                      g->slices);
}

extern "C" ohm_cuda_status ohm_mvm_nominal_gradient_cuda(float *dw, const float *dsum_total,
                                                         const ohm_geometry *g, int bits,
                                                         ohm_cuda_stream s)
{
    const size_t weights = static_cast<size_t>(g->k) * g->n;
    return OHM_LAUNCH(mvm_add_nominal, blocks_of(weights), THREADS, 0, s, dw, dsum_total,
                      static_cast<float>(1 << (bits - 1)), g->k, weights);
}

static ohm_crosspoint tile_of(const ohm_programming &p)
{
    ohm_crosspoint tile = {};
    tile.rows = p.physical_rows;
    tile.columns = p.physical_columns;
    tile.wires = p.wires;
    return tile;
}

/* Wires are gone through for so many bytes of tiles at a time: enough to fill a device. */
enum { PART_BYTES = 64 << 20 };

/* Of slice 0's places. */
static int places_at_once(const ohm_geometry &g, const ohm_programming &p)
{
    const size_t each = static_cast<size_t>(p.physical_rows) * p.physical_columns * sizeof(float) *
                        ohm_physical_arrays(&g, &p),
                 fit = PART_BYTES / each, all = static_cast<size_t>(g.tiles) * g.column_tiles;
    return static_cast<int>(fit < 1 ? 1 : fit < all ? fit : all);
}

/* What the derivative of the wires works with. */
struct finish_wires {
    int *status; /* of each tile, exact */
    char *scratch;
};

static size_t carve(finish_job *job, finish_wires *wires, const ohm_geometry &g,
                    const ohm_programming &p, char *base)
{
    const bool exact = p.ir_gradient == OHM_WIRES_EXACT;
    const ohm_crosspoint tile = tile_of(p);
    const ohm_program_places some = {0, places_at_once(g, p)};
    const size_t tiles = ohm_physical_tiles(&g, &p, &some),
                 each = (tiles * p.physical_rows * p.physical_columns * sizeof(float) + 255) / 256 *
                        256,
                 status = exact ? (tiles * sizeof(int) + 255) / 256 * 256 : 0;
    if (job) {
        job->g_of = reinterpret_cast<float *>(base);
        job->dg_eff = reinterpret_cast<float *>(base + each);
        job->dg = reinterpret_cast<float *>(base + 2 * each);
        wires->status = reinterpret_cast<int *>(base + 3 * each);
        wires->scratch = base + 3 * each + status;
    }
    return 3 * each + status +
           (exact ? ohm_irdrop_adjoint_cuda_bytes(&tile, static_cast<int>(tiles))
                  : ohm_irdrop_closed_cuda_floats(&g, &p, &some) * sizeof(float));
}

extern "C" size_t ohm_mvm_finish_cuda_bytes(const ohm_geometry *g, const ohm_programming *p)
{
    return p->ir == OHM_WIRES_NONE ? 0 : carve(nullptr, nullptr, *g, *p, nullptr);
}

/* Of the wires, tiles without a gradient noted. */
static ohm_cuda_status adjoint(const finish_job &job, const finish_wires &wires,
                               const ohm_geometry *g, const ohm_programming *p,
                               const ohm_program_places &some, uint32_t *fault, uint32_t bit,
                               ohm_cuda_stream s)
{
    const ohm_crosspoint tile = tile_of(*p);
    const int tiles = static_cast<int>(ohm_physical_tiles(g, p, &some));
    if (p->ir_gradient != OHM_WIRES_EXACT)
        return ohm_irdrop_closed_adjoint_cuda(job.dg, job.dg_eff, job.g_of, g, p, &some,
                                              reinterpret_cast<float *>(wires.scratch), s);
    const ohm_cuda_status status = ohm_irdrop_adjoint_cuda(
        job.dg, job.dg_eff, job.g_of, wires.status, nullptr, &tile, tiles, wires.scratch, s);
    return status == OHM_CUDA_OK ? ohm_irdrop_unsolved_cuda(fault, bit, wires.status, tiles, s)
                                 : status;
}

static ohm_cuda_status through_wires(finish_job job, char *scratch, const ohm_geometry *g,
                                     const ohm_programming *p, uint32_t *fault, uint32_t bit,
                                     ohm_cuda_stream s)
{
    finish_wires wires = {};
    ohm_cuda_status status = OHM_CUDA_OK;
    const int all = g->tiles * g->column_tiles, most = places_at_once(*g, *p);
    carve(&job, &wires, *g, *p, scratch);
    for (int first = 0; first < all && status == OHM_CUDA_OK; first += most) {
        const ohm_program_places some = {first, all - first < most ? all - first : most};
        job.first = first;
        job.nodes = ohm_physical_tiles(g, p, &some) * static_cast<size_t>(p->physical_rows) *
                    static_cast<size_t>(p->physical_columns);
        status = OHM_LAUNCH(mvm_finish_gather, blocks_of(job.nodes), THREADS, 0, s, job);
        if (status == OHM_CUDA_OK)
            status = adjoint(job, wires, g, p, some, fault, bit, s);
        if (status == OHM_CUDA_OK)
            status = OHM_LAUNCH(mvm_finish_scatter, blocks_of(job.nodes), THREADS, 0, s, job);
    }
    return status;
}

extern "C" ohm_cuda_status ohm_mvm_clear_gradient_cuda(const ohm_cell_gradient *c,
                                                       const ohm_geometry *g, ohm_cuda_stream s)
{
    const size_t cells = (g->differential ? 2 : 1) * static_cast<size_t>(g->k) * g->n,
                 refs = static_cast<size_t>(g->k) * g->column_tiles;
    ohm_cuda_status status = ohm_cuda_fill(c->dg, 0, cells * sizeof(float), s);
    if (status == OHM_CUDA_OK)
        status = ohm_cuda_fill(c->dvariance, 0, cells * sizeof(float), s);
    if (status == OHM_CUDA_OK && c->dref)
        status = ohm_cuda_fill(c->dref, 0, refs * sizeof(float), s);
    if (status == OHM_CUDA_OK && c->dref)
        status = ohm_cuda_fill(c->dref_variance, 0, refs * sizeof(float), s);
    return status;
}

extern "C" ohm_cuda_status
ohm_mvm_finish_gradient_cuda(float *dw, const ohm_cell_gradient *cells, const uint8_t *negative,
                             const ohm_geometry *g, const ohm_programming *p,
                             const ohm_read_law *read, uint32_t *fault, uint32_t bit, void *scratch,
                             ohm_cuda_stream s)
{
    finish_job job = {};
    job.c = *cells;
    job.g = *g;
    job.wires = p->ir != OHM_WIRES_NONE;
    job.rows = p->physical_rows;
    job.columns = p->physical_columns;
    job.arrays = ohm_physical_arrays(g, p);
    job.pair = g->differential && p->interleaved;
    job.g_min = p->g_min;
    job.read = *read;
    job.negative = negative;
    job.dw = dw;
    ohm_cuda_status status = OHM_CUDA_OK;
    if (job.wires)
        status = through_wires(job, static_cast<char *>(scratch), g, p, fault, bit, s);
    if (status == OHM_CUDA_OK)
        status = OHM_LAUNCH(mvm_finish_weights,
                            dim3((g->n + SQUARE - 1) / SQUARE, (g->k + SQUARE - 1) / SQUARE),
                            dim3(SQUARE, SQUARE_ROWS), 0, s, job);
    return status == OHM_CUDA_OK ? ohm_mvm_clear_gradient_cuda(cells, g, s) : status;
}
