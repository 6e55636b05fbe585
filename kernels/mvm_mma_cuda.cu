/* The MVM on tensor cores, by mma.sync and its own operand layouts (WMMA would hide them, and with
 * them where a current and its noise lie). Digits are cut from bytes of x in registers, exact in
 * half precision; conductances come packed as halves (mvm_halves_cuda.h); currents stay in the
 * accumulators from the product through read noise and ADC to an integer code per output.
 *
 * A block makes BM x BN outputs for one read after another: chunks of 64 inputs through a ring of
 * asynchronous copies, then the epilogue of a tile. Bounds per 128 x 128 outputs and tile of R rows:
 *   products   128·128·R multiply-adds: 16·R clocks of an SM with 1024 of them a clock (A100), twice
 *              with per-cell variances
 *   draws      16,384 conversions at about 8 issue slots for a fast normal (4 of them Philox) and 8 for
 *              noise, limits and code: 2,000 clocks of four schedulers
 *   bytes      per chunk 128·64 codes and 64·128 halves through shared memory, x and w from L2
 * so draws, not products, are the bound below R = 128 (estimates; nothing here has been measured).
 * Fast normals are drawn once per 16 rows x 128 outputs, by the warps of a block in turns, and handed
 * over as operands (normals_cuda.cuh). */
#include "kernels/mvm_halves_cuda.h"

#include "kernels/mvm_cuda.cuh"
#include "kernels/mvm_epilogue_cuda.cuh"

enum { THREADS = 256, CHUNK = OHM_HALF_ROWS };

template <int BM, int BN, bool CELLS> struct shape {
    static constexpr int WARPS_N = BN == 32 ? 1 : BM == 64 ? 4 : 2, WARPS_M = 8 / WARPS_N;
    static constexpr int MT = BM / 16 / WARPS_M, NT = BN / 8 / WARPS_N; /* mma tiles of a warp */
    static constexpr int STRIDE = BN + 8; /* halves; rows shifted by four banks: no conflicts */
    static constexpr int A_BYTES = BM * CHUNK, B_BYTES = CHUNK * STRIDE * 2;
    static constexpr int STAGE_BYTES = A_BYTES + (CELLS ? 2 : 1) * B_BYTES, STAGES = CELLS ? 2 : 3;
    static constexpr int DRAW_BYTES = BM / 16 * 4 * 32 * 16;
    static constexpr int COLUMN_BYTES = BN * static_cast<int>(sizeof(mvm_epilogue_column));
    static constexpr bool KEEPS = BM < 128 || BN < 128; /* sums of several groups of reads */
    static constexpr int SUM_BYTES = BM * BN * 8;
    static_assert(BN * static_cast<int>(sizeof(mvm_epilogue_finish)) <= DRAW_BYTES, "its place");
    static constexpr int BYTES = STAGES * STAGE_BYTES + DRAW_BYTES + COLUMN_BYTES;
};

struct mma_job {
    mvm_job j;
    const uint16_t *w, *variance;
    int rows, columns; /* padded */
    int aligned;       /* codes of a chunk start at multiples of 16 bytes */
};

/* Where in the sequence of chunks of all reads one is; group: number of a phase, plane, slice, array. */
struct mma_cursor {
    int group, tile, chunk;
};

static __device__ __forceinline__ int chunks_of(const ohm_geometry &g, int tile)
{
    return (ohm_tile_begin(&g, tile + 1) - ohm_tile_begin(&g, tile) + CHUNK - 1) / CHUNK;
}

static __device__ __forceinline__ void advance(mma_cursor &at, const ohm_geometry &g)
{
    if (++at.chunk < chunks_of(g, at.tile))
        return;
    at.chunk = 0;
    if (++at.tile < g.tiles)
        return;
    at.tile = 0;
    at.group++;
}

/* Queues one chunk's copies into a stage; what lies outside is zero. */
template <class S, int BM, int BN, bool CELLS>
static __device__ __forceinline__ void fetch(const mma_job &job, unsigned char *stage,
                                             const mma_cursor &at, int row0, int column0)
{
    const mvm_job &j = job.j;
    const ohm_geometry &g = j.g;
    const int tid = static_cast<int>(threadIdx.x),
              begin = ohm_tile_begin(&g, at.tile) + at.chunk * CHUNK,
              left = ohm_tile_begin(&g, at.tile + 1) - begin;
#pragma unroll 1
    for (int i = tid; i < BM * CHUNK / 16; i += THREADS) {
        const int row = i / (CHUNK / 16), k = i % (CHUNK / 16) * 16;
        int count = row0 + row < j.m ? left - k : 0;
        count = count < 0 ? 0 : count > 16 ? 16 : count;
        const uint8_t *from =
            count ? j.x_u + static_cast<size_t>(row0 + row) * j.ldx + begin + k : j.x_u;
        unsigned char *to = stage + i * 16;
        if (job.aligned) {
            ohm_cp_async_16(to, from, count);
        } else {
            unsigned word[4] = {0, 0, 0, 0};
#pragma unroll
            for (int b = 0; b < 16; b++)
                if (b < count)
                    word[b / 4] |= static_cast<unsigned>(from[b]) << 8 * (b % 4);
            *reinterpret_cast<uint4 *>(to) = make_uint4(word[0], word[1], word[2], word[3]);
        }
    }
    const size_t array = at.group % (g.slices * ohm_arrays(&g)),
                 first = ((array * g.tiles + at.tile) * job.rows + at.chunk * CHUNK) * job.columns +
                         column0;
#pragma unroll 1
    for (int i = tid; i < CHUNK * BN / 8; i += THREADS) {
        const int row = i / (BN / 8), column = i % (BN / 8) * 8;
        unsigned char *to = stage + S::A_BYTES + (row * S::STRIDE + column) * 2;
        const size_t from = first + static_cast<size_t>(row) * job.columns + column;
        ohm_cp_async_16(to, job.w + from);
        if (CELLS)
            ohm_cp_async_16(to + S::B_BYTES, job.variance + from);
    }
}

/* Squares of two halves each. */
static __device__ __forceinline__ void square(unsigned (&a)[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const __half2 v = mvm_halves_of(a[i]);
        a[i] = mvm_bits_of(__hmul2(v, v));
    }
}

/* B operands of a pair of mma tiles; rows lie in the order of their slots. */
static __device__ __forceinline__ void load_b(unsigned (&b)[4], const unsigned char *at, int stride,
                                              int step, int column, int lane)
{
    const int row = step * 16 + lane % 16;
    ohm_ldmatrix_x4_trans(b, at + (row * stride + column + lane / 16 * 8) * 2);
}

template <class S, int MT, int NT, bool CELLS>
static __device__ __forceinline__ void
multiply(float (&current)[MT][NT][4], float (&variance)[CELLS ? MT : 1][CELLS ? NT : 1][4],
         mvm_drive_sums (&sums)[MT], const mvm_cut &cut, const mvm_job &j,
         const unsigned char *stage, int warp_row, int warp_column)
{
    const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
    unsigned code[MT][2][4];
#pragma unroll
    for (int mt = 0; mt < MT; mt++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint4 w = *reinterpret_cast<const uint4 *>(
                stage + (warp_row + mt * 16 + half * 8 + g) * CHUNK + t * 16);
            code[mt][half][0] = w.x;
            code[mt][half][1] = w.y;
            code[mt][half][2] = w.z;
            code[mt][half][3] = w.w;
        }
#pragma unroll
    for (int step = 0; step < 4; step++) {
        unsigned a[MT][4];
#pragma unroll
        for (int mt = 0; mt < MT; mt++) {
            mvm_cut_digits(a[mt][0], a[mt][2], sums[mt].power[0], sums[mt].total[0],
                           code[mt][0][step], cut, j);
            mvm_cut_digits(a[mt][1], a[mt][3], sums[mt].power[1], sums[mt].total[1],
                           code[mt][1][step], cut, j);
        }
#pragma unroll
        for (int what = 0; what < (CELLS ? 2 : 1); what++) {
#pragma unroll
            for (int nt = 0; nt < NT; nt += 2) {
                unsigned b[4];
                load_b(b, stage + S::A_BYTES + what * S::B_BYTES, S::STRIDE, step,
                       warp_column + nt * 8, lane);
                const unsigned b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
#pragma unroll
                for (int mt = 0; mt < MT; mt++) {
                    if (what == 0) {
                        ohm_mma_f16(current[mt][nt], a[mt], b0, current[mt][nt]);
                        ohm_mma_f16(current[mt][nt + 1], a[mt], b1, current[mt][nt + 1]);
                    } else if (CELLS) {
                        ohm_mma_f16(variance[CELLS ? mt : 0][CELLS ? nt : 0], a[mt], b0,
                                    variance[CELLS ? mt : 0][CELLS ? nt : 0]);
                        ohm_mma_f16(variance[CELLS ? mt : 0][CELLS ? nt + 1 : 0], a[mt], b1,
                                    variance[CELLS ? mt : 0][CELLS ? nt + 1 : 0]);
                    }
                }
            }
            if (CELLS && what == 0)
#pragma unroll
                for (int mt = 0; mt < MT; mt++)
                    square(a[mt]);
        }
    }
}

template <int BM, int BN, bool CELLS>
static __global__ void __launch_bounds__(THREADS, 1) mvm_mma(const __grid_constant__ mma_job job)
{
    typedef shape<BM, BN, CELLS> S;
    constexpr int MT = S::MT, NT = S::NT;
    OHM_SHARED_DYNAMIC(unsigned char, shared);
    const mvm_job &j = job.j;
    const ohm_geometry &g = j.g;
    const int tid = static_cast<int>(threadIdx.x), warp = tid / 32;
    const int row0 = static_cast<int>(blockIdx.x) * BM, column0 = static_cast<int>(blockIdx.y) * BN;
    mvm_epilogue e;
    e.draws = reinterpret_cast<uint4 *>(shared + S::STAGES * S::STAGE_BYTES);
    e.columns = reinterpret_cast<mvm_epilogue_column *>(shared + S::STAGES * S::STAGE_BYTES +
                                                        S::DRAW_BYTES);
    double *sums = reinterpret_cast<double *>(shared + S::BYTES);
    mvm_epilogue_begin<mvm_block_team>(e, j, row0, column0, warp / S::WARPS_N * MT * 16,
                                       warp % S::WARPS_N * NT * 8, BN);

    mma_cursor ahead = {}, at = {};
    const int groups = mvm_groups(g);
    for (int stage = 0; stage < S::STAGES - 1; stage++) {
        if (ahead.group < groups) {
            fetch<S, BM, BN, CELLS>(job, shared + stage * S::STAGE_BYTES, ahead, row0, column0);
            advance(ahead, g);
        }
        ohm_cp_async_commit();
    }
    float current[MT][NT][4], variance[CELLS ? MT : 1][CELLS ? NT : 1][4];
    int codes[MT][NT][2];
    mvm_drive_sums drive[MT];
    for (int stage = 0; at.group < groups;) {
        ohm_cp_async_wait<S::STAGES - 2>();
        __syncthreads();
        if (ahead.group < groups) {
            fetch<S, BM, BN, CELLS>(job,
                                    shared + (stage + S::STAGES - 1) % S::STAGES * S::STAGE_BYTES,
                                    ahead, row0, column0);
            advance(ahead, g);
        }
        ohm_cp_async_commit();
        if (at.chunk == 0) {
            mvm_clear(current);
            if (CELLS)
                mvm_clear(variance);
#pragma unroll
            for (int mt = 0; mt < MT; mt++)
                drive[mt] = {};
            if (at.tile == 0) {
                mvm_clear(codes);
                mvm_epilogue_group<mvm_block_team>(e, j, mvm_group_of(g, at.group), BN);
            }
        }
        multiply<S, MT, NT, CELLS>(current, variance, drive, e.cut, j,
                                   shared + stage * S::STAGE_BYTES, e.warp_row, e.warp_column);
        const bool tile_ends = at.chunk + 1 == chunks_of(g, at.tile);
        if (tile_ends) {
            const mvm_group group = mvm_group_of(g, at.group);
            mvm_epilogue_tile<mvm_block_team>(e, j, group, at.tile, BN, BM / 16, THREADS / 32);
            mvm_convert<MT, NT, CELLS>(codes, current, variance, drive, e, j);
            if (at.tile + 1 == g.tiles)
                mvm_epilogue_sum<mvm_block_team, MT, NT, THREADS, S::KEEPS>(sums, codes, e, j,
                                                                            group, groups, BN);
        }
        advance(at, g);
        stage = (stage + 1) % S::STAGES;
    }
}

/* ---- launches -------------------------------------------------------------------------------- */

template <int BM, int BN, bool CELLS>
static ohm_cuda_status launch(const mma_job &job, size_t bytes, ohm_cuda_stream s)
{
    const dim3 grid((job.j.m + BM - 1) / BM, (ohm_packed_columns(&job.j.g) + BN - 1) / BN);
    return OHM_LAUNCH((mvm_mma<BM, BN, CELLS>), grid, THREADS, bytes, s, job);
}

template <int BM, int BN, bool CELLS> static size_t shared_bytes(const ohm_geometry &g)
{
    typedef shape<BM, BN, CELLS> S;
    return static_cast<size_t>(S::BYTES) +
           (mvm_groups(g) > 1 ? static_cast<size_t>(S::SUM_BYTES) : 0);
}

/* Blocks of a layer: narrow ones for few columns, lower ones where more must be held per output. */
enum form { NARROW, NARROW_CELLS, HALF, HALF_CELLS, LOW, LOW_CELLS, SQUARE };
static form form_of(const ohm_geometry &g, const ohm_read &r)
{
    const bool cells = r.read_noise && r.read_cells;
    if (ohm_packed_columns(&g) <= 32)
        return cells ? NARROW_CELLS : NARROW;
    if (ohm_packed_columns(&g) <= 64)
        return cells ? HALF_CELLS : HALF;
    if (cells)
        return LOW_CELLS;
    return mvm_groups(g) > 1 ? LOW : SQUARE;
}

extern "C" size_t ohm_mvm_mma_shared_bytes(const ohm_geometry *g, const ohm_read *r)
{
    switch (form_of(*g, *r)) {
    case NARROW:
        return shared_bytes<128, 32, false>(*g);
    case NARROW_CELLS:
        return shared_bytes<128, 32, true>(*g);
    case HALF:
        return shared_bytes<128, 64, false>(*g);
    case HALF_CELLS:
        return shared_bytes<128, 64, true>(*g);
    case LOW:
        return shared_bytes<64, 128, false>(*g);
    case LOW_CELLS:
        return shared_bytes<64, 128, true>(*g);
    default:
        return shared_bytes<128, 128, false>(*g);
    }
}

extern "C" int ohm_mvm_mma_knows(const ohm_geometry *g, const ohm_read *r)
{
    if (r->adc_bits < 1 || r->adc_bits > 16 || r->quiet || r->static_errors || r->exact_normals ||
        r->dac_noise > 0.0f)
        return 0;
    if (!g->differential && (g->digital || r->read_noise))
        return 0;
    if (ohm_adc_high(g, r) * static_cast<float>(g->tiles) > 32767.0f)
        return 0;
    for (int digit = 0; digit <= g->max_digit; digit++)
        if (r->drive_level[digit] != static_cast<float>(digit))
            return 0;
    return 1;
}

extern "C" ohm_cuda_status ohm_mvm_mma_cuda(const ohm_mvm_output *y, const ohm_mvm_input *x,
                                            const ohm_mvm_halves *h, ohm_cuda_stream s)
{
    if (!ohm_mvm_mma_knows(x->g, x->r) || h->blocked)
        return ohm_cuda_fail(OHM_CUDA_ARGUMENT, "ohm_mvm_mma_cuda",
                             "an effect or mapping that only the plain kernel knows");
    mma_job job = {};
    job.j = mvm_job_of(x);
    job.j.out = *y;
    job.w = h->w;
    job.variance = h->variance;
    job.rows = ohm_half_rows(x->g);
    job.columns = ohm_half_columns(x->g);
    job.aligned = x->ldx % 16 == 0 && reinterpret_cast<uintptr_t>(x->x_u) % 16 == 0;
    for (int t = 0; t < x->g->tiles; t++)
        job.aligned = job.aligned && ohm_tile_begin(x->g, t) % 16 == 0;
    const size_t bytes = ohm_mvm_mma_shared_bytes(x->g, x->r);
    switch (form_of(*x->g, *x->r)) {
    case NARROW:
        return launch<128, 32, false>(job, bytes, s);
    case NARROW_CELLS:
        return launch<128, 32, true>(job, bytes, s);
    case HALF:
        return launch<128, 64, false>(job, bytes, s);
    case HALF_CELLS:
        return launch<128, 64, true>(job, bytes, s);
    case LOW:
        return launch<64, 128, false>(job, bytes, s);
    case LOW_CELLS:
        return launch<64, 128, true>(job, bytes, s);
    default:
        return launch<128, 128, false>(job, bytes, s);
    }
}
