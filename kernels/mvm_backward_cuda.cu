#include "kernels/mvm_backward_chain_cuda.cuh"

enum { GROUPS_MOST = 32, GROUP_ROWS = 2 * BACK_ROWS, BLOCKS_WANTED = 256, MERGE_THREADS = 128 };
static_assert(BACK_THREADS == 256, "a thread per code, and eight warps of 32 x 32 conversions");

static __host__ __device__ __forceinline__ int column_blocks(const ohm_geometry &g)
{
    return (ohm_packed_columns(&g) + BACK_COLUMNS - 1) / BACK_COLUMNS;
}

/* First reference that a block of columns needs. */
static __host__ __device__ __forceinline__ int first_ref(const ohm_geometry &g, int block)
{
    return block * BACK_COLUMNS / ohm_tile_pitch(&g);
}

static __device__ __forceinline__ void place_columns(backward_at &at, const ohm_geometry &g,
                                                     int block)
{
    const int left = ohm_packed_columns(&g) - block * BACK_COLUMNS;
    at.column0 = block * BACK_COLUMNS;
    at.columns = left < BACK_COLUMNS ? left : BACK_COLUMNS;
    at.first_ref = first_ref(g, block);
    at.refs =
        g.differential ? 0 : (at.column0 + at.columns - 1) / ohm_tile_pitch(&g) + 1 - at.first_ref;
}

static __device__ __forceinline__ void place_rows(backward_at &at, int row0, int end)
{
    const int left = end - row0;
    at.row0 = row0;
    at.rows = left < 0 ? 0 : left < BACK_ROWS ? left : BACK_ROWS;
}

static __device__ __forceinline__ void place_tile(backward_at &at, const ohm_geometry &g, int tile)
{
    at.tile = tile;
    at.begin = ohm_tile_begin(&g, tile);
    at.end = ohm_tile_begin(&g, tile + 1);
}

/* ---- towards dx ------------------------------------------------------------------------------ */

enum { INPUTS_STRIDE = BACK_COLUMNS + BACK_BY_ROW };
template <bool CELLS> using inputs_layout = backward_layout<CELLS, BACK_ROWS * INPUTS_STRIDE>;

/* dx of the block's rows and the tile's inputs += d times the cells, what the drive's square does to
 * the variance, and what rows share. d is complete; what follows needs a barrier first. */
template <bool CELLS>
static __device__ __forceinline__ void add_inputs(const backward_job &job, const backward_memory &m,
                                                  const backward_at &at, bool first)
{
    const mvm_job &j = job.j;
    const ohm_geometry &g = j.g;
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32,
              warp_row = warp / 2 * 16, warp_input = warp % 2 * 16;
    const bool noisy = j.r.dac_noise > 0.0f;
    float common[2], spread[2]; /* of a row: by the drive, and by its square */
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = warp_row + half * 8 + lane / 4;
        float d = 0.0f, d2 = 0.0f, ref_d2 = 0.0f;
        for (int part = 0; part < 4; part++) {
            d += m.s->row_d[part][row];
            d2 += m.s->row_d2[part][row];
        }
#pragma unroll 1
        for (int ref = 0; ref < at.refs; ref++) {
            d += m.refs->d[row][ref];
            ref_d2 += m.refs->d2[row][ref];
        }
        common[half] = g.digital ? static_cast<float>(g.pedestal) * d : 0.0f;
        spread[half] =
            2.0f * j.r.read_constant * (static_cast<float>(ohm_columns_seen(&g)) * d2 + ref_d2);
    }
#pragma unroll 1
    for (int i = 0, chunks = backward_chunks(j, at); i < chunks; i++) {
        const backward_chunk chunk = backward_chunk_of(j, at, i);
        float(*z)[128] = reinterpret_cast<float(*)[128]>(m.stage);
        float sum[1][2][4], sum2[1][2][4];
        backward_clear(sum);
        backward_clear(sum2);
        backward_stage_cells<INPUTS_STRIDE>(j, m.stage, at, chunk, CELLS);
        ohm_cp_async_wait<0>();
        __syncthreads();
        if (warp_row < at.rows && chunk.from + warp_input < chunk.to) {
            const float *w = m.stage + warp_input * INPUTS_STRIDE;
            const int steps = (at.columns + 7) / 8, from = warp_row * INPUTS_STRIDE;
            backward_product<INPUTS_STRIDE, 1, 1, INPUTS_STRIDE, false>(sum, m.d + from, w, steps,
                                                                        false, job.halves != 0);
            if constexpr (CELLS)
                backward_product<INPUTS_STRIDE, 1, 1, INPUTS_STRIDE, false>(
                    sum2, m.d2 + from, w + BACK_STAGE, steps, false, job.halves != 0);
        }
        __syncthreads();
        if (noisy) {
            backward_draw_dac(j, z, at, chunk);
            __syncthreads();
        }
#pragma unroll
        for (int e = 0; e < 8; e++) {
            const int nt = e / 4, half = e / 2 % 2, row = warp_row + half * 8 + lane / 4,
                      k = chunk.from + warp_input + nt * 8 + 2 * (lane % 4) + e % 2;
            if (row >= at.rows || k >= chunk.to)
                continue;
            const size_t of_x = static_cast<size_t>(at.row0 + row);
            const backward_drive drive =
                backward_drive_of(j, *m.s, j.x_u[of_x * j.ldx + k], noisy ? z[row][k % 128] : 0.0f);
            float d = sum[0][nt][e % 4] + common[half] +
                      drive.x * fmaf(2.0f, sum2[0][nt][e % 4], spread[half]);
#pragma unroll 1
            for (int ref = 0; ref < at.refs; ref++) {
                const size_t cell =
                    (static_cast<size_t>(at.slice) * g.column_tiles + at.first_ref + ref) * g.k + k;
                d = fmaf(m.refs->d[row][ref], j.w.ref[cell], d);
                if (j.w.ref_variance)
                    d = fmaf(2.0f * drive.x * m.refs->d2[row][ref], j.w.ref_variance[cell], d);
            }
            float *to = job.dx + of_x * job.lddx + k;
            *to = fmaf(d, drive.slope, first ? 0.0f : *to);
        }
        if (noisy)
            __syncthreads();
    }
}

template <bool CELLS>
static __global__ void __launch_bounds__(BACK_THREADS, CELLS ? 1 : 2)
    mvm_backward_inputs(const __grid_constant__ backward_job job)
{
    OHM_SHARED_DYNAMIC(char, shared);
    const mvm_job &j = job.j;
    const ohm_geometry &g = j.g;
    const backward_memory m = inputs_layout<CELLS>::at(shared);
    backward_at &at = m.s->at;
    bool first = true;
    if (threadIdx.x == 0) {
        place_rows(at, static_cast<int>(blockIdx.x) * BACK_ROWS, j.m);
        place_tile(at, g, static_cast<int>(blockIdx.y));
    }
#pragma unroll 1
    for (int phase = 0; phase < g.phases; phase++) {
        backward_tabulate(j, *m.s, phase, 0);
        const int blocks = column_blocks(g), reads = g.slices * ohm_arrays(&g) * blocks;
#pragma unroll 1
        for (int read = 0; read < reads; read++, first = false) {
            if (threadIdx.x == 0) {
                at.phase = phase;
                at.plane = 0;
                at.slice = read / (ohm_arrays(&g) * blocks);
                at.array = read / blocks % ohm_arrays(&g);
                place_columns(at, g, read % blocks);
            }
            __syncthreads();
            float current[2][4][4], variance[CELLS ? 2 : 1][CELLS ? 4 : 1][4];
            backward_currents<CELLS>(current, variance, job, m, at);
            backward_convert<CELLS, true, INPUTS_STRIDE>(current, variance, job, m, at, 0);
            add_inputs<CELLS>(job, m, at, first);
            __syncthreads();
        }
    }
}

/* ---- towards the cells ----------------------------------------------------------------------- */

enum { CELLS_STRIDE = BACK_COLUMNS + BACK_BY_COLUMN };
/* Blocks of rows between two additions to the sums: as many as shared memory holds on every device. */
template <bool CELLS> struct at_once {
    static constexpr int BLOCKS = CELLS ? 1 : 2;
};
template <bool CELLS>
using cells_layout = backward_layout<CELLS, at_once<CELLS>::BLOCKS * BACK_ROWS * CELLS_STRIDE>;

static __host__ __device__ __forceinline__ int group_begin(int m, int groups, int group)
{
    const int64_t blocks = (m + GROUP_ROWS - 1) / GROUP_ROWS;
    const int64_t row = blocks * group / groups * GROUP_ROWS;
    return row < m ? static_cast<int>(row) : m;
}

static __device__ __forceinline__ backward_partial part_of(const backward_job &job, int group)
{
    backward_partial p = job.part;
    const size_t by = group * job.part_floats;
    p.dg += by;
    p.dvariance += by;
    p.djohnson += by;
    p.dref += by;
    p.dref_variance += by;
    return p;
}

static __device__ __forceinline__ void add_to(float *to, float value, bool first)
{
    *to = first ? value : *to + value;
}

/* The group's sums += drive, and its square, times d and d2 of the blocks of 64 rows from row0 on.
 * d is complete. */
template <bool CELLS>
static __device__ __forceinline__ void add_cells(const backward_job &job, const backward_memory &m,
                                                 backward_at &at, int row0, bool first)
{
    constexpr int X = BACK_CHUNK + BACK_BY_COLUMN;
    const mvm_job &j = job.j;
    const ohm_geometry &g = j.g;
    const int tid = static_cast<int>(threadIdx.x), lane = tid % 32, warp = tid / 32,
              warp_input = warp / 4 * 16, warp_column = warp % 4 * 32,
              packed = ohm_packed_columns(&g);
#pragma unroll 1
    for (int i = 0, chunks = backward_chunks(j, at); i < chunks; i++) {
        const backward_chunk chunk = backward_chunk_of(j, at, i);
        const int input = tid % BACK_CHUNK, ref = tid / BACK_CHUNK; /* of the references */
        float sum[1][4][4], sum2[1][4][4], ref_d = 0.0f, ref_d2 = 0.0f;
        backward_clear(sum);
        backward_clear(sum2);
#pragma unroll 1
        for (int block = 0; block < at_once<CELLS>::BLOCKS && row0 + block * BACK_ROWS < at.to;
             block++) {
            const float *d = m.d + block * BACK_ROWS * CELLS_STRIDE + warp_column,
                        *d2 = m.d2 + block * BACK_ROWS * CELLS_STRIDE + warp_column;
            if (tid == 0)
                place_rows(at, row0 + block * BACK_ROWS, at.to);
            __syncthreads();
            backward_stage_drive<X>(j, m, at, chunk);
            __syncthreads();
            if (chunk.from + warp_input < chunk.to && warp_column < at.columns) {
                const int steps = (at.rows + 7) / 8;
                backward_product<1, X, CELLS_STRIDE, 1, false>(sum, m.x + warp_input, d, steps,
                                                               job.whole != 0, false);
                if constexpr (CELLS)
                    backward_product<1, X, CELLS_STRIDE, 1, true>(sum2, m.x + warp_input, d2, steps,
                                                                  false, false);
            }
#pragma unroll 1
            for (int row = 0; ref < at.refs && row < at.rows; row++) {
                const float x = m.x[row * X + input],
                            by_variance = m.refs->d2[block * BACK_ROWS + row][ref];
                ref_d = fmaf(x, m.refs->d[block * BACK_ROWS + row][ref], ref_d);
                ref_d = fmaf(job.johnson_scale, by_variance, ref_d);
                ref_d2 = fmaf(x * x, by_variance, ref_d2);
            }
            __syncthreads();
        }
        const backward_partial part = part_of(job, static_cast<int>(blockIdx.z));
#pragma unroll
        for (int e = 0; e < 16; e++) {
            const int nt = e / 4, k = chunk.from + warp_input + e / 2 % 2 * 8 + lane / 4,
                      c = warp_column + nt * 8 + 2 * (lane % 4) + e % 2;
            if (k >= chunk.to || c >= at.columns)
                continue;
            const size_t to = (static_cast<size_t>(at.array) * g.k + k) * packed + at.column0 + c;
            add_to(part.dg + to, sum[0][nt][e % 4], first);
            if (CELLS)
                add_to(part.dvariance + to, sum2[0][nt][e % 4], first);
        }
        if (ref < at.refs && chunk.from + input < chunk.to) {
            const size_t to =
                (static_cast<size_t>(blockIdx.x) * BACK_REFS + ref) * g.k + chunk.from + input;
            add_to(part.dref + to, ref_d, first);
            add_to(part.dref_variance + to, ref_d2, first);
        }
    }
}

template <bool CELLS>
static __global__ void __launch_bounds__(BACK_THREADS, CELLS ? 1 : 2)
    mvm_backward_cells(const __grid_constant__ backward_job job)
{
    constexpr int BLOCKS = at_once<CELLS>::BLOCKS;
    OHM_SHARED_DYNAMIC(char, shared);
    const mvm_job &j = job.j;
    const ohm_geometry &g = j.g;
    const int tid = static_cast<int>(threadIdx.x);
    const backward_memory m = cells_layout<CELLS>::at(shared);
    backward_at &at = m.s->at;
    if (tid < BACK_COLUMNS)
        m.s->column_d2[0][tid] = m.s->column_d2[1][tid] = 0.0f;
    if (tid == 0) {
        place_columns(at, g, static_cast<int>(blockIdx.x));
        place_tile(at, g, static_cast<int>(blockIdx.y) / ohm_arrays(&g));
        at.array = static_cast<int>(blockIdx.y) % ohm_arrays(&g);
        at.slice = 0;
        at.from = group_begin(j.m, job.groups, static_cast<int>(blockIdx.z));
        at.to = group_begin(j.m, job.groups, static_cast<int>(blockIdx.z) + 1);
    }
#pragma unroll 1
    for (int drive = 0; drive < g.phases * g.planes; drive++) {
        __syncthreads();
        backward_tabulate(j, *m.s, drive / g.planes, drive % g.planes);
#pragma unroll 1
        for (int row = at.from; row < at.to; row += BLOCKS * BACK_ROWS) {
#pragma unroll 1
            for (int block = 0; block < BLOCKS && row + block * BACK_ROWS < at.to; block++) {
                if (tid == 0) {
                    at.phase = drive / g.planes;
                    at.plane = drive % g.planes;
                    place_rows(at, row + block * BACK_ROWS, at.to);
                }
                __syncthreads();
                float current[2][4][4], variance[CELLS ? 2 : 1][CELLS ? 4 : 1][4];
                backward_currents<CELLS>(current, variance, job, m, at);
                backward_convert<CELLS, false, CELLS_STRIDE>(current, variance, job, m, at,
                                                             block * BACK_ROWS);
            }
            add_cells<CELLS>(job, m, at, row, drive == 0 && row == at.from);
        }
    }
    if (tid < at.columns)
        part_of(job, static_cast<int>(blockIdx.z))
            .djohnson[(static_cast<size_t>(at.array) * g.tiles + at.tile) * ohm_packed_columns(&g) +
                      at.column0 + tid] =
            job.johnson_scale * (m.s->column_d2[0][tid] + m.s->column_d2[1][tid]);
}

/* ---- the groups' sums, in order -------------------------------------------------------------- */

struct merge_job {
    backward_job b;
    ohm_cell_gradient to;
    int cells; /* dvariance was gathered */
};

static __global__ void mvm_backward_merge(const __grid_constant__ merge_job job)
{
    const ohm_geometry &g = job.b.j.g;
    const int n = static_cast<int>(blockIdx.x) * MERGE_THREADS + static_cast<int>(threadIdx.x),
              tile = static_cast<int>(blockIdx.z), packed = ohm_packed_columns(&g),
              arrays = ohm_arrays(&g), begin = ohm_tile_begin(&g, tile),
              k = begin + static_cast<int>(blockIdx.y);
    if (n >= g.n || k >= ohm_tile_begin(&g, tile + 1))
        return;
    const int c = ohm_packed_position(&g, n);
    for (int sign = 0; sign < (g.differential ? 2 : 1); sign++) {
        const int array = arrays == 2 ? sign : 0;
        const size_t cell = (static_cast<size_t>(array) * g.k + k) * packed + c,
                     column = (static_cast<size_t>(array) * g.tiles + tile) * packed + c,
                     to = (static_cast<size_t>(sign) * g.k + k) * g.n + n;
        double dg = 0.0, dvariance = 0.0, johnson = 0.0;
        for (int group = 0; group < job.b.groups; group++) {
            const backward_partial p = part_of(job.b, group);
            dg += p.dg[cell];
            johnson += p.djohnson[column];
            if (job.cells)
                dvariance += p.dvariance[cell];
        }
        job.to.dg[to] += static_cast<float>((sign && arrays == 1 ? -dg : dg) + johnson);
        if (job.cells)
            job.to.dvariance[to] += static_cast<float>(dvariance);
    }
}

/* A warp per input and column tile: an analog reference counts against all columns of its tile. */
static __global__ void mvm_backward_merge_refs(const __grid_constant__ merge_job job)
{
    const ohm_geometry &g = job.b.j.g;
    const int lane = static_cast<int>(threadIdx.x) % 32,
              at = (static_cast<int>(blockIdx.x) * MERGE_THREADS + static_cast<int>(threadIdx.x)) /
                   32,
              k = at / g.column_tiles, ct = at % g.column_tiles, pitch = ohm_tile_pitch(&g),
              packed = ohm_packed_columns(&g), last = ct * pitch + pitch;
    double dref = 0.0, dvariance = 0.0;
    if (k < g.k && !g.digital) /* padding has no gradient */
        for (int group = 0; group < job.b.groups; group++) {
            const backward_partial p = part_of(job.b, group);
            for (int c = ct * pitch + lane; c < last; c += 32)
                dref -= p.dg[static_cast<size_t>(k) * packed + c];
        }
    for (int bit = 1; bit < 32; bit *= 2)
        dref += __shfl_xor_sync(0xFFFFFFFFu, dref, bit);
    if (k >= g.k || lane > 0)
        return;
    for (int group = 0; group < job.b.groups; group++) {
        const backward_partial p = part_of(job.b, group);
        for (int block = ct * pitch / BACK_COLUMNS; block * BACK_COLUMNS < last; block++) {
            const size_t from =
                (static_cast<size_t>(block) * BACK_REFS + ct - first_ref(g, block)) * g.k + k;
            dref += p.dref[from];
            dvariance += p.dref_variance[from];
        }
    }
    job.to.dref[static_cast<size_t>(k) * g.column_tiles + ct] += static_cast<float>(dref);
    job.to.dref_variance[static_cast<size_t>(k) * g.column_tiles + ct] +=
        static_cast<float>(dvariance);
}

/* ---- launches -------------------------------------------------------------------------------- */

/* Groups of rows, so that the device is filled: by shape alone. */
static int groups_of(const ohm_geometry &g, int m)
{
    const int blocks = column_blocks(g) * g.tiles * ohm_arrays(&g),
              most = (m + GROUP_ROWS - 1) / GROUP_ROWS;
    int groups = (BLOCKS_WANTED + blocks - 1) / blocks;
    groups = groups < GROUPS_MOST ? groups : static_cast<int>(GROUPS_MOST);
    groups = groups < most ? groups : most;
    return groups > 0 ? groups : 1;
}

/* Floats of one group; with base the pieces of the first. */
static size_t carve_part(backward_partial *p, const ohm_geometry &g, float *base)
{
    const size_t packed = ohm_packed_columns(&g), cells = ohm_arrays(&g) * packed * g.k,
                 columns = ohm_arrays(&g) * packed * g.tiles,
                 refs =
                     g.differential ? 0 : static_cast<size_t>(column_blocks(g)) * BACK_REFS * g.k;
    if (p) {
        p->dg = base;
        p->dvariance = base + cells;
        p->djohnson = p->dvariance + cells;
        p->dref = p->djohnson + columns;
        p->dref_variance = p->dref + refs;
    }
    return 2 * cells + columns + 2 * refs;
}

extern "C" size_t ohm_mvm_backward_cuda_bytes(const ohm_geometry *g, int m)
{
    return carve_part(nullptr, *g, nullptr) * groups_of(*g, m) * sizeof(float);
}

static bool has_cells(const ohm_read &r)
{
    return r.read_noise && r.read_cells;
}

static size_t inputs_bytes(const ohm_geometry &g, const ohm_read &r)
{
    return has_cells(r) ? inputs_layout<true>::bytes(g, r) : inputs_layout<false>::bytes(g, r);
}
static size_t cells_bytes(const ohm_geometry &g, const ohm_read &r)
{
    return has_cells(r) ? cells_layout<true>::bytes(g, r) : cells_layout<false>::bytes(g, r);
}

extern "C" size_t ohm_mvm_backward_cuda_shared_bytes(const ohm_geometry *g, const ohm_read *r)
{
    const size_t a = inputs_bytes(*g, *r), b = cells_bytes(*g, *r);
    return a > b ? a : b;
}

extern "C" ohm_cuda_status ohm_mvm_backward_cuda(const ohm_mvm_backward_output *d,
                                                 const ohm_mvm_input *x, ohm_cuda_stream s)
{
    const ohm_geometry &g = *x->g;
    const ohm_read &r = *x->r;
    const bool cells = has_cells(r);
    merge_job merge = {};
    backward_job &job = merge.b;
    if (x->m < 1)
        return OHM_CUDA_OK;
    job.j = mvm_job_of(x);
    job.dsums = d->dsums;
    job.ldd = d->ldd;
    job.scale = d->scale;
    job.halves = d->halves;
    job.dx = d->dx;
    job.lddx = d->lddx;
    job.part_floats = carve_part(&job.part, g, static_cast<float *>(d->scratch));
    job.groups = groups_of(g, x->m);
    job.johnson_scale = static_cast<float>(d->johnson_scale);
    job.whole = r.dac_noise == 0.0f;
    for (int digit = 0; digit <= g.max_digit; digit++)
        job.whole = job.whole && r.drive_level[digit] == static_cast<float>(digit);
    merge.to = *d->cells;
    merge.cells = cells;
    ohm_cuda_status status = OHM_CUDA_OK;
    if (d->dx) {
        const dim3 grid((x->m + BACK_ROWS - 1) / BACK_ROWS, g.tiles);
        status = cells ? OHM_LAUNCH((mvm_backward_inputs<true>), grid, BACK_THREADS,
                                    inputs_bytes(g, r), s, job)
                       : OHM_LAUNCH((mvm_backward_inputs<false>), grid, BACK_THREADS,
                                    inputs_bytes(g, r), s, job);
    }
    const dim3 grid(column_blocks(g), g.tiles * ohm_arrays(&g), job.groups);
    if (status == OHM_CUDA_OK)
        status = cells ? OHM_LAUNCH((mvm_backward_cells<true>), grid, BACK_THREADS,
                                    cells_bytes(g, r), s, job)
                       : OHM_LAUNCH((mvm_backward_cells<false>), grid, BACK_THREADS,
                                    cells_bytes(g, r), s, job);
    if (status == OHM_CUDA_OK)
        status = OHM_LAUNCH(
            mvm_backward_merge,
            dim3((g.n + MERGE_THREADS - 1) / MERGE_THREADS, ohm_tile_rows_most(&g), g.tiles),
            MERGE_THREADS, 0, s, merge);
    if (status == OHM_CUDA_OK && !g.differential)
        status = OHM_LAUNCH(mvm_backward_merge_refs,
                            static_cast<unsigned>((static_cast<size_t>(g.k) * g.column_tiles * 32 +
                                                   MERGE_THREADS - 1) /
                                                  MERGE_THREADS),
                            MERGE_THREADS, 0, s, merge);
    return status;
}
