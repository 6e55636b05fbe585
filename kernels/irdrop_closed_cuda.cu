/* Bit lines first: a block takes 32 columns of a tile, eight threads a column, each an eighth of its rows.
 * With S the sum of a column's conductances up to a row (P of a part, Q the sum of those), the voltage lost
 * at row r is sense·S + bit·Σ_{q >= r} S_q, so that parts are joined by their P and Q alone. Then word
 * lines, where they have resistance: a warp takes a row, and the loss at column c is
 *
 *     driver·S + word·(Σ_{i <= c} (i + 1) g_i + (c + 1) Σ_{i > c} g_i).
 *
 * Both read a tile twice and write it once, some 5 double operations a cell: bound by memory. */
#include "kernels/irdrop_closed_cuda.h"

#include "kernels/platform_cuda.h"

enum { WARP = 32, PARTS = 8 };

/* What becomes of a cell and its loss. Both loss operators are symmetric, hence with s = 1 / (1 + loss(g))
 * dL/dg = dg_eff·s - loss(dg_eff·g·s²): a second turn with what the first leaves in place of g. */
enum closed_turn { CLOSED_VALUE, CLOSED_ADJOINT_FIRST, CLOSED_ADJOINT_SECOND };

struct closed_job {
    float *physical, *loss; /* loss: of the bit lines, NULL where there is no other */
    float *dg;
    const float *dg_eff;
    closed_turn turn;
    ohm_geometry g;
    ohm_wires w;
    int rows, columns; /* of a tile */
    int arrays, first; /* tiles of one place that lie behind each other; the first place */
};

static __device__ __forceinline__ void take_loss(const closed_job &job, size_t at, double g,
                                                 double loss)
{
    if (job.turn == CLOSED_VALUE) {
        job.physical[at] = static_cast<float>(g / (1.0 + loss));
    } else if (job.turn == CLOSED_ADJOINT_FIRST) {
        const double share = 1.0 / (1.0 + loss), d = job.dg_eff[at] * share;
        job.dg[at] += static_cast<float>(d);
        job.physical[at] = static_cast<float>(d * g * share);
    } else {
        job.dg[at] -= static_cast<float>(loss);
    }
}

/* Rows of the tile that are driven. */
static __device__ __forceinline__ int used_rows(const closed_job &job, int tile)
{
    const int t = (job.first + tile / job.arrays) / job.g.column_tiles % job.g.tiles;
    return ohm_tile_begin(&job.g, t + 1) - ohm_tile_begin(&job.g, t);
}

static __global__ void irdrop_closed_columns(const __grid_constant__ closed_job job)
{
    OHM_SHARED(double, sum, [PARTS][WARP]);
    OHM_SHARED(double, sum_of_sums, [PARTS][WARP]);
    const int tile = static_cast<int>(blockIdx.x), x = static_cast<int>(threadIdx.x),
              y = static_cast<int>(threadIdx.y), c = static_cast<int>(blockIdx.y) * WARP + x,
              used = used_rows(job, tile), below = job.rows - used,
              first = static_cast<int>(static_cast<long long>(used) * y / PARTS),
              end = static_cast<int>(static_cast<long long>(used) * (y + 1) / PARTS);
    const size_t base = static_cast<size_t>(tile) * job.rows * job.columns + c;
    const bool there = c < job.columns;
    double s = 0.0, q = 0.0;
    for (int r = first; there && r < end; r++) {
        s += job.physical[base + static_cast<size_t>(r) * job.columns];
        q += s;
    }
    sum[y][x] = s;
    sum_of_sums[y][x] = q;
    __syncthreads();
    if (!there)
        return;
    double before = 0.0, total = 0.0, later = 0.0,
           all = 0.0; /* S before this part, of the column; Σ S */
    for (int i = 0; i < PARTS; i++) {
        const int rows = static_cast<int>(static_cast<long long>(used) * (i + 1) / PARTS) -
                         static_cast<int>(static_cast<long long>(used) * i / PARTS);
        const double part = sum_of_sums[i][x] + rows * total;
        before = i == y ? total : before;
        later += i > y ? part : 0.0;
        all += part;
        total += sum[i][x];
    }
    const ohm_wires &w = job.w;
    const double tail = w.sense + w.bit_line * below,
                 span = 2.0 * w.sense + w.bit_line * (job.rows + 1),
                 idle = w.unused * below * (w.sense + 0.5 * w.bit_line * (below + 1)),
                 top = w.sense_both && span > 0.0 ? (tail * total + w.bit_line * all + idle) / span
                                                  : 0.0;
    double lost = tail * total + idle + w.bit_line * later, now = before + s;
    for (int r = end - 1; r >= first; r--) {
        const size_t at = base + static_cast<size_t>(r) * job.columns;
        const double g = job.physical[at];
        lost += w.bit_line * now;
        const double loss = lost - top * (tail + w.bit_line * (used - r));
        now -= g;
        if (job.loss)
            job.loss[at] = static_cast<float>(loss);
        else
            take_loss(job, at, g, loss);
    }
}

static __device__ __forceinline__ double sum_of_warp(double x)
{
    for (int lane = WARP / 2; lane > 0; lane /= 2)
        x += __shfl_xor_sync(0xFFFFFFFFu, x, lane);
    return x;
}

static __device__ __forceinline__ double sum_up_to_lane(double x, int lane)
{
    for (int from = 1; from < WARP; from *= 2) {
        const double other = __shfl_up_sync(0xFFFFFFFFu, x, from);
        x += lane >= from ? other : 0.0;
    }
    return x;
}

static __global__ void irdrop_closed_rows(const __grid_constant__ closed_job job)
{
    const int tile = static_cast<int>(blockIdx.x), lane = static_cast<int>(threadIdx.x),
              r = static_cast<int>(blockIdx.y) * PARTS + static_cast<int>(threadIdx.y);
    if (r >= used_rows(job, tile))
        return;
    const size_t base = (static_cast<size_t>(tile) * job.rows + r) * job.columns;
    double total = 0.0, moment = 0.0;
    for (int c = lane; c < job.columns; c += WARP) {
        const double g = job.physical[base + c];
        total += g;
        moment += (c + 1) * g;
    }
    total = sum_of_warp(total);
    moment = sum_of_warp(moment);
    const ohm_wires &w = job.w;
    const double span = 2.0 * w.driver + w.word_line * (job.columns + 1),
                 far = w.drive_both && span > 0.0 ? (w.driver * total + w.word_line * moment) / span
                                                  : 0.0;
    double sum = 0.0, weighted = 0.0; /* of the columns of earlier rounds */
    for (int first = 0; first < job.columns; first += WARP) {
        const int c = first + lane;
        const double g = c < job.columns ? job.physical[base + c] : 0.0,
                     up_to = sum + sum_up_to_lane(g, lane),
                     weighted_up_to = weighted + sum_up_to_lane((c + 1) * g, lane);
        if (c < job.columns) {
            const double lost = w.driver * total +
                                w.word_line * (weighted_up_to + (c + 1) * (total - up_to)) -
                                far * (w.driver + w.word_line * (c + 1));
            take_loss(job, base + c, g, lost + static_cast<double>(job.loss[base + c]));
        }
        sum = __shfl_sync(0xFFFFFFFFu, up_to, WARP - 1);
        weighted = __shfl_sync(0xFFFFFFFFu, weighted_up_to, WARP - 1);
    }
}

static bool words_lose(const ohm_wires &w)
{
    return w.word_line > 0.0 || w.driver > 0.0;
}

extern "C" size_t ohm_irdrop_closed_cuda_floats(const ohm_geometry *g, const ohm_programming *p,
                                                const ohm_program_places *places)
{
    return words_lose(p->wires)
               ? ohm_physical_tiles(g, p, places) * static_cast<size_t>(p->physical_rows) *
                     static_cast<size_t>(p->physical_columns)
               : 0;
}

static closed_job job_of(float *physical, const ohm_geometry *g, const ohm_programming *p,
                         const ohm_program_places *places, float *scratch)
{
    closed_job job = {};
    job.physical = physical;
    job.loss = words_lose(p->wires) ? scratch : nullptr;
    job.turn = CLOSED_VALUE;
    job.g = *g;
    job.w = p->wires;
    job.rows = p->physical_rows;
    job.columns = p->physical_columns;
    job.arrays = ohm_physical_arrays(g, p);
    job.first = ohm_places_of(g, places).first;
    return job;
}

static ohm_cuda_status launch(const closed_job &job, size_t count, ohm_cuda_stream s)
{
    const unsigned tiles = static_cast<unsigned>(count);
    const ohm_cuda_status status =
        OHM_LAUNCH(irdrop_closed_columns, dim3(tiles, (job.columns + WARP - 1) / WARP),
                   dim3(WARP, PARTS), 0, s, job);
    if (status != OHM_CUDA_OK || !job.loss)
        return status;
    return OHM_LAUNCH(irdrop_closed_rows, dim3(tiles, (job.rows + PARTS - 1) / PARTS),
                      dim3(WARP, PARTS), 0, s, job);
}

extern "C" ohm_cuda_status ohm_irdrop_closed_cuda(float *physical, const ohm_geometry *g,
                                                  const ohm_programming *p,
                                                  const ohm_program_places *places, float *scratch,
                                                  ohm_cuda_stream s)
{
    return launch(job_of(physical, g, p, places, scratch), ohm_physical_tiles(g, p, places), s);
}

extern "C" ohm_cuda_status ohm_irdrop_closed_adjoint_cuda(float *dg, const float *dg_eff,
                                                          float *physical, const ohm_geometry *g,
                                                          const ohm_programming *p,
                                                          const ohm_program_places *places,
                                                          float *scratch, ohm_cuda_stream s)
{
    const size_t tiles = ohm_physical_tiles(g, p, places);
    closed_job job = job_of(physical, g, p, places, scratch);
    job.dg = dg;
    job.dg_eff = dg_eff;
    job.turn = CLOSED_ADJOINT_FIRST;
    const ohm_cuda_status status = launch(job, tiles, s);
    if (status != OHM_CUDA_OK)
        return status;
    job.turn = CLOSED_ADJOINT_SECOND;
    job.w.unused = 0.0; /* what unused cells drain is a constant */
    return launch(job, tiles, s);
}
