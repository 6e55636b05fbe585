/* The MVM by wgmma and asynchronous copies, for sm_90a. Four warps feed a ring of chunks: 64 codes of each
 * of 128 rows of x, 16 bytes at a time, and 64 x 128 halves that lie in memory as wgmma wants them, in
 * one bulk copy. Two groups of four warps take 64 rows each, cut digits into registers as the A operands
 * of m64n128k16, and convert by the epilogue of the other tensor-core kernel. Nothing but the ring ties
 * the groups together, so that one multiplies while the other draws noise and converts.
 *
 * Bounds per 128 x 128 outputs and tile of R rows: products 8·R clocks of an SM at 2,048 multiply-adds a
 * clock, draws and conversions as in mvm_mma_cuda.cu, 2,000 clocks (estimates; this kernel has not run
 * anywhere yet, and the host executor cannot run it: a device is tried before it is used, see
 * ohm_mvm_hopper_checked_cuda). */
#include "kernels/mvm_halves_cuda.h"

#include "kernels/platform_cuda.h"

enum {
    BM = 128,
    BN = OHM_HALF_COLUMNS,
    CHUNK = OHM_HALF_ROWS,
    TEAM = 128,                 /* threads of a group of four warps */
    CONSUMERS = 2 * TEAM,       /* their warps come first: wgmma wants warps 0..3 and 4..7 */
    THREADS = CONSUMERS + TEAM, /* the rest feeds them */
    A_BYTES = BM * CHUNK,
    B_BYTES = CHUNK * BN * 2,
    STAGE_BYTES = A_BYTES + B_BYTES,
    STAGES_MOST = 6,
    TEAM_DRAW_BYTES = 4 * 4 * 32 * 16, /* of 64 rows */
    COLUMN_BYTES = BN * 20,
    SUM_BYTES = BM * BN * 8,
    FEWER =
        40, /* registers of a thread that feeds, and of one that multiplies; 168 at the launch */
    MORE = 232,
    SWIZZLE = 1024 /* alignment of what is swizzled */
};

/* Where sums of several groups of reads take shared memory, the ring is shorter. */
static int stages_of(const ohm_geometry *g)
{
    return g->phases * g->planes * g->slices * ohm_arrays(g) > 1 ? STAGES_MOST / 2 : STAGES_MOST;
}

extern "C" size_t ohm_mvm_hopper_shared_bytes(const ohm_geometry *g)
{
    const int stages = stages_of(g);
    return static_cast<size_t>(SWIZZLE + stages * STAGE_BYTES +
                               2 * (TEAM_DRAW_BYTES + COLUMN_BYTES)) +
           (stages < STAGES_MOST ? static_cast<size_t>(SUM_BYTES) : 0);
}

extern "C" int ohm_mvm_hopper_knows(const ohm_mvm_input *x)
{
    const ohm_geometry *g = x->g;
    if (!ohm_mvm_mma_knows(g, x->r) || (x->r->read_noise && x->r->read_cells) ||
        ohm_packed_columns(g) <= 32)
        return 0;
    if (x->ldx % 16 || reinterpret_cast<uintptr_t>(x->x_u) % 16)
        return 0;
    for (int t = 0; t < g->tiles; t++)
        if (ohm_tile_begin(g, t) % 16)
            return 0;
    return 1;
}

#ifndef OHM_EXECUTOR

#include "kernels/hopper_cuda.cuh"
#include "kernels/mvm_epilogue_cuda.cuh"

static_assert(static_cast<int>(COLUMN_BYTES) == BN * static_cast<int>(sizeof(mvm_epilogue_column)),
              "columns of a group");
static_assert(BN * static_cast<int>(sizeof(mvm_epilogue_finish)) <= TEAM_DRAW_BYTES, "its place");

struct hopper_job {
    mvm_job j;
    const uint16_t *w;
    int rows, columns, stages;
    int checked; /* a ring that stands still writes nothing, and the launch does not fail */
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

struct mvm_warps_team {
    static __device__ __forceinline__ int thread()
    {
        return static_cast<int>(threadIdx.x) % TEAM;
    }
    static __device__ __forceinline__ int threads()
    {
        return TEAM;
    }
    static __device__ __forceinline__ void sync()
    {
        hopper_sync_128(1 + static_cast<int>(threadIdx.x) / TEAM);
    }
};

/* The ring: stage of a chunk, and how often it has been gone round. */
struct ring {
    int stage;
    unsigned round;
};
static __device__ __forceinline__ void turn(ring &at, int stages)
{
    if (++at.stage == stages) {
        at.stage = 0;
        at.round++;
    }
}

/* Nothing waits for ever: what holds a ring up would hold up the machine. */
static __device__ __forceinline__ void ring_wait(const hopper_job &job, uint64_t *barrier,
                                                 unsigned parity, volatile unsigned *given_up)
{
    if (hopper_wait(barrier, parity, given_up, job.checked ? 1ll << 30 : 1ll << 34))
        return;
    if (!job.checked)
        __trap();
    *given_up = 1;
}

/* The feeding warps: every chunk of every read in turn, as soon as its place is free. Each thread takes
 * 16 codes of four rows; what lies outside is zero. (A bulk copy per row would be one instruction at a
 * time: its addresses are a warp's, not a lane's.) */
static __device__ __forceinline__ void feed(const hopper_job &job, unsigned char *stages,
                                            uint64_t *full, uint64_t *empty,
                                            volatile unsigned *given_up)
{
    const mvm_job &j = job.j;
    const ohm_geometry &g = j.g;
    const int thread = static_cast<int>(threadIdx.x) % TEAM, row = thread / 4,
              part = thread % 4 * 16, row0 = static_cast<int>(blockIdx.x) * BM + row,
              chunks = job.rows / CHUNK, column_blocks = job.columns / BN,
              arrays = g.slices * ohm_arrays(&g), groups = mvm_groups(g);
    const uint8_t *x = j.x_u + static_cast<size_t>(row0) * j.ldx + part;
    const size_t further = static_cast<size_t>(32) * j.ldx;
    ring at = {0, 0};
    for (int group = 0; group < groups; group++)
        for (int tile = 0; tile < g.tiles; tile++) {
            const int begin = ohm_tile_begin(&g, tile), end = ohm_tile_begin(&g, tile + 1);
            for (int k = begin; k < end; k += CHUNK) {
                unsigned char *a = stages + at.stage * STAGE_BYTES;
                const int left = end - k - part, count = left < 0 ? 0 : left < 16 ? left : 16;
                if (at.round > 0)
                    ring_wait(job, empty + at.stage, (at.round - 1) & 1, given_up);
#pragma unroll
                for (int i = 0; i < BM / 32; i++) {
                    const int some = row0 + 32 * i < j.m ? count : 0;
                    ohm_cp_async_16(a + (row + 32 * i) * CHUNK + part,
                                    some ? x + i * further + k : j.x_u, some);
                }
                hopper_arrive_after_copies(full + at.stage);
                if (thread == 0) {
                    const size_t block =
                        ((static_cast<size_t>(group % arrays) * g.tiles + tile) * chunks +
                         (k - begin) / CHUNK) *
                            column_blocks +
                        blockIdx.y;
                    hopper_arrive_and_expect(full + at.stage, B_BYTES);
                    hopper_copy(a + A_BYTES, job.w + block * (CHUNK * BN), B_BYTES,
                                full + at.stage);
                }
                turn(at, job.stages);
            }
        }
    ohm_cp_async_wait<0>();
}

/* One chunk for this warp's 16 rows. */
static __device__ __forceinline__ void multiply(float (&current)[16][4], mvm_drive_sums &sums,
                                                const mvm_cut &cut, const mvm_job &j,
                                                const unsigned char *stage, int row, int first)
{
    const int lane = static_cast<int>(threadIdx.x) % 32, t = lane % 4;
    const uint64_t b = hopper_b_descriptor(stage + A_BYTES);
    unsigned code[2][4], a[4][4];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const uint4 w =
            *reinterpret_cast<const uint4 *>(stage + (row + half * 8 + lane / 4) * CHUNK + t * 16);
        code[half][0] = w.x;
        code[half][1] = w.y;
        code[half][2] = w.z;
        code[half][3] = w.w;
    }
#pragma unroll
    for (int step = 0; step < 4; step++) {
        mvm_cut_digits(a[step][0], a[step][2], sums.power[0], sums.total[0], code[0][step], cut, j);
        mvm_cut_digits(a[step][1], a[step][3], sums.power[1], sums.total[1], code[1][step], cut, j);
    }
    hopper_products_fence();
#pragma unroll
    for (int step = 0; step < 4; step++)
        hopper_product(current, a[step], b + static_cast<uint64_t>(step * 32 >> 4),
                       step > 0 || !first);
    hopper_products_commit();
    hopper_products_wait(current);
}

static __device__ __forceinline__ void consume(const hopper_job &job, unsigned char *stages,
                                               uint64_t *full, uint64_t *empty,
                                               volatile unsigned *given_up)
{
    const mvm_job &j = job.j;
    const ohm_geometry &g = j.g;
    const int team = static_cast<int>(threadIdx.x) / TEAM,
              warp = static_cast<int>(threadIdx.x) % TEAM / 32, groups = mvm_groups(g);
    unsigned char *own =
        stages + job.stages * STAGE_BYTES + team * (TEAM_DRAW_BYTES + COLUMN_BYTES);
    double *sums = reinterpret_cast<double *>(stages + job.stages * STAGE_BYTES +
                                              2 * (TEAM_DRAW_BYTES + COLUMN_BYTES));
    mvm_epilogue e;
    e.draws = reinterpret_cast<uint4 *>(own);
    e.columns = reinterpret_cast<mvm_epilogue_column *>(own + TEAM_DRAW_BYTES);
    mvm_epilogue_begin<mvm_warps_team>(e, j, static_cast<int>(blockIdx.x) * BM + team * 64,
                                       static_cast<int>(blockIdx.y) * BN, warp * 16, 0, BN);
    float current[1][16][4], unused[1][1][4];
    int codes[1][16][2];
    ring at = {0, 0};
    for (int number = 0; number < groups; number++) {
        const mvm_group group = mvm_group_of(g, number);
        mvm_clear(codes);
        for (int tile = 0; tile < g.tiles; tile++) {
            mvm_drive_sums drive[1] = {};
            const int rows = ohm_tile_begin(&g, tile + 1) - ohm_tile_begin(&g, tile);
            mvm_warps_team::
                sync(); /* the last tile's draws, columns and LSBs are not needed any more */
            if (tile == 0)
                mvm_epilogue_group<mvm_warps_team>(e, j, group, BN);
            for (int k = 0; k < rows; k += CHUNK) {
                ring_wait(job, full + at.stage, at.round & 1, given_up);
                __syncwarp(); /* wgmma wants whole warps */
                multiply(current[0], drive[0], e.cut, j, stages + at.stage * STAGE_BYTES,
                         team * 64 + warp * 16, k == 0);
                __syncwarp();
                if (threadIdx.x % 32 == 0)
                    hopper_arrive(empty + at.stage);
                turn(at, job.stages);
            }
            mvm_epilogue_tile<mvm_warps_team>(e, j, group, tile, BN, 4, 4);
            mvm_convert<1, 16, false>(codes, current, unused, drive, e, j);
        }
        mvm_epilogue_sum<mvm_warps_team, 1, 16, CONSUMERS, true>(sums, codes, e, j, group, groups,
                                                                 BN);
    }
    if (job.checked && *given_up) { /* results that cannot be taken for right */
        const int lane = static_cast<int>(threadIdx.x) % 32, n = e.columns[lane].n;
        if (e.row0 + e.warp_row < j.m && n >= 0)
            j.out.y[static_cast<size_t>(e.row0 + e.warp_row) * j.out.ldy + n] = NAN;
    }
}

#endif

static __global__ void __launch_bounds__(THREADS, 1)
    mvm_hopper(const __grid_constant__ hopper_job job)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    OHM_SHARED_DYNAMIC(unsigned char, shared);
    OHM_SHARED(uint64_t, full, [STAGES_MOST]);
    OHM_SHARED(uint64_t, empty, [STAGES_MOST]);
    OHM_SHARED(unsigned, given_up, [1]);
    unsigned char *stages = shared + (SWIZZLE - ohm_shared_address(shared) % SWIZZLE) % SWIZZLE;
    if (threadIdx.x == 0) {
        *given_up = 0;
        for (int i = 0; i < job.stages; i++) {
            hopper_barrier_begin(full + i, TEAM + 1); /* feeding threads, and the bulk copy's */
            hopper_barrier_begin(empty + i, CONSUMERS / 32);
        }
        hopper_barriers_begun();
    }
    __syncthreads();
    if (threadIdx.x >= CONSUMERS) {
        hopper_fewer_registers<FEWER>();
        feed(job, stages, full, empty, given_up);
    } else {
        hopper_more_registers<MORE>();
        consume(job, stages, full, empty, given_up);
    }
#else
    if (job.stages) /* ohm_mvm_choose never sends a read here */
        __trap();
#endif
}

static ohm_cuda_status launch(const ohm_mvm_output *y, const ohm_mvm_input *x,
                              const ohm_mvm_halves *h, int checked, ohm_cuda_stream s)
{
    if (!ohm_mvm_hopper_knows(x) || !h->blocked)
        return ohm_cuda_fail(OHM_CUDA_ARGUMENT, "ohm_mvm_hopper_cuda",
                             "a read or an order of halves that it does not know");
    hopper_job job = {};
    job.j = mvm_job_of(x);
    job.j.out = *y;
    job.w = h->w;
    job.rows = ohm_half_rows(x->g);
    job.columns = ohm_half_columns(x->g);
    job.stages = stages_of(x->g);
    job.checked = checked;
    const dim3 grid((x->m + BM - 1) / BM, job.columns / BN);
    return OHM_LAUNCH(mvm_hopper, grid, THREADS, ohm_mvm_hopper_shared_bytes(x->g), s, job);
}

extern "C" ohm_cuda_status ohm_mvm_hopper_cuda(const ohm_mvm_output *y, const ohm_mvm_input *x,
                                               const ohm_mvm_halves *h, ohm_cuda_stream s)
{
    return launch(y, x, h, 0, s);
}

extern "C" ohm_cuda_status ohm_mvm_hopper_checked_cuda(const ohm_mvm_output *y,
                                                       const ohm_mvm_input *x,
                                                       const ohm_mvm_halves *h, ohm_cuda_stream s)
{
    cudaFuncAttributes is;
    const ohm_cuda_status status =
        ohm_cuda_report(cudaFuncGetAttributes(&is, reinterpret_cast<const void *>(mvm_hopper)),
                        "cudaFuncGetAttributes");
    if (status != OHM_CUDA_OK)
        return status;
    /* fewer, and setmaxnreg would wait for ever; also where the code is not that of sm_90a */
    if (is.numRegs * THREADS < FEWER * TEAM + MORE * CONSUMERS)
        return ohm_cuda_fail(OHM_CUDA_ARGUMENT, "ohm_mvm_hopper_cuda",
                             "built without sm_90a, or with other registers than it moves");
    return launch(y, x, h, 1, s);
}

#else

extern "C" ohm_cuda_status ohm_mvm_hopper_cuda(const ohm_mvm_output *, const ohm_mvm_input *,
                                               const ohm_mvm_halves *, ohm_cuda_stream)
{
    return ohm_cuda_fail(OHM_CUDA_ARGUMENT, "ohm_mvm_hopper_cuda",
                         "this kernel runs on devices of compute capability 9.0 alone");
}

extern "C" ohm_cuda_status ohm_mvm_hopper_checked_cuda(const ohm_mvm_output *y,
                                                       const ohm_mvm_input *x,
                                                       const ohm_mvm_halves *h, ohm_cuda_stream s)
{
    return ohm_mvm_hopper_cuda(y, x, h, s);
}

#endif
