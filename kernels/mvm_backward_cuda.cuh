/* One read of mode full up to its currents, for 64 rows of x on 128 packed columns: what the kernels of
 * both directions share, with mvm_backward_chain_cuda.cuh. */
#ifndef OHM_KERNELS_MVM_BACKWARD_CUDA_CUH
#define OHM_KERNELS_MVM_BACKWARD_CUDA_CUH

#include "kernels/mvm_backward_cuda.h"
#include "kernels/mvm_cuda.cuh"
#include "kernels/mvm_draws_cuda.cuh"

enum {
    BACK_THREADS = 256,
    BACK_ROWS = 64,
    BACK_COLUMNS = 128,
    BACK_CHUNK = 32, /* inputs staged at once */
    BACK_REFS = 8,   /* column tiles that 128 packed columns can touch */
    /* Strides that lead the lanes of an mma operand to different banks: 4 (mod 32) where a lane's row
     * is g and its column t, 8 where it is the other way round. */
    BACK_BY_ROW = 4,
    BACK_BY_COLUMN = 8,
    BACK_X = BACK_CHUNK + BACK_BY_COLUMN, /* most words of a row */
    BACK_W = BACK_COLUMNS + BACK_BY_COLUMN,
    BACK_STAGE = BACK_CHUNK * BACK_W
};

/* Sums of one group of rows. */
struct backward_partial {
    float *dg, *dvariance;       /* [arrays][k][packed columns] */
    float *djohnson;             /* [arrays][tiles][packed columns] */
    float *dref, *dref_variance; /* [blocks of columns][BACK_REFS][k], offset weights */
};

struct backward_job {
    mvm_job j;
    const float *dsums;
    int ldd;
    float *dx;
    int lddx;
    backward_partial part; /* of group 0 */
    size_t part_floats;    /* from one group to the next */
    int groups;
    float scale; /* of dsums */
    int whole;   /* drives are whole digits, exact in tf32 */
    int halves;  /* so are conductances and variances */
    float johnson_scale;
};

/* A block's place, and which read. */
struct backward_at {
    int row0, rows;       /* of x; 0 .. 64 of them */
    int column0, columns; /* packed, a multiple of 16 */
    int first_ref, refs;  /* reference columns that serve them; 0 with differential weights */
    int phase, plane, slice, array, tile, begin, end; /* begin, end: inputs of the tile */
    int from, to; /* rows of the block's group, towards the cells */
};

struct backward_column {
    int n, ref; /* output, or -1; number of its reference in the block */
    float weight, lsb, inverse, johnson;
    mvm_column_error error;
};

struct backward_shared {
    backward_at at; /* here, it costs no registers; thread 0 moves it on between barriers */
    float level[256], slope[256]; /* drive of a code in this phase and plane, d drive / d code */
    backward_column column[BACK_COLUMNS];
    float total[BACK_ROWS], power[BACK_ROWS];        /* of the tile's drive: sum, sum of squares */
    float row_d[4][BACK_ROWS], row_d2[4][BACK_ROWS]; /* sums of gradients over 32 columns each */
    float column_d2[2][BACK_COLUMNS]; /* with Johnson noise, of all the block's rows of 32 */
};

/* Of reference columns: values of the current read, and gradients of up to two blocks of rows. */
struct backward_refs {
    float current[BACK_ROWS][BACK_REFS], variance[BACK_ROWS][BACK_REFS];
    float z[BACK_ROWS][BACK_REFS], z_adc[BACK_ROWS][BACK_REFS];
    float d[2 * BACK_ROWS][BACK_REFS], d2[2 * BACK_ROWS][BACK_REFS];
};

/* Dynamic shared memory. x: [64] rows of a chunk's drive. stage: a chunk of cells, their variances behind
 * them, between products a place for draws; half of it where there are neither. d, d2: gradients of the
 * conversions by current and (per-cell variances) by variance, 64 rows per block of rows. */
struct backward_memory {
    backward_shared *s;
    backward_refs *refs;
    float *x, *stage, *d, *d2;
};

static __host__ __device__ __forceinline__ bool backward_two_draws(const ohm_read &r)
{
    return r.static_errors && r.adc_bits > 0 && r.read_noise && r.adc_noise > 0.0f;
}

/* Where they lie: known when the kernel is compiled, so that no pointer is kept. FLOATS: of d. */
template <bool CELLS, int FLOATS> struct backward_layout {
    static constexpr int REFS_BYTES = static_cast<int>(sizeof(backward_refs)),
                         X = static_cast<int>(sizeof(backward_shared) + 15) / 16 * 16,
                         D = X + 4 * BACK_ROWS * BACK_X, D2 = D + 4 * FLOATS,
                         STAGE = D2 + (CELLS ? 4 * FLOATS : 0), REFS = STAGE + 8 * BACK_STAGE;
    static __device__ __forceinline__ backward_memory at(char *base)
    {
        return {reinterpret_cast<backward_shared *>(base),
                reinterpret_cast<backward_refs *>(base + REFS),
                reinterpret_cast<float *>(base + X),
                reinterpret_cast<float *>(base + STAGE),
                reinterpret_cast<float *>(base + D),
                reinterpret_cast<float *>(base + D2)};
    }
    static size_t bytes(const ohm_geometry &g, const ohm_read &r)
    {
        if (!g.differential)
            return static_cast<size_t>(REFS + REFS_BYTES);
        const bool all = CELLS || r.dac_noise > 0.0f || backward_two_draws(r);
        return static_cast<size_t>(all ? REFS : REFS - 4 * BACK_STAGE);
    }
};

/* ---- products ------------------------------------------------------------------------------ */

/* x = high + low, each of which tf32 holds but for the last two bits of low. */
static __device__ __forceinline__ void backward_split(unsigned &high, unsigned &low, float x)
{
    high = (__float_as_uint(x) + 0x1000u) & 0xFFFFE000u;
    low = __float_as_uint(x - __uint_as_float(high));
}

/* sum += A·B of 8·steps terms, one warp: MT x NT tiles of m16n8. Element (row, k) of A is
 * a[row·AR + k·AK], (k, column) of B is b[k·BK + column·BC]. a_whole, b_whole: theirs have no low part.
 * SQUARE: A's elements are squared. */
template <int AR, int AK, int BK, int BC, bool SQUARE, int MT, int NT>
static __device__ __forceinline__ void backward_product(float (&sum)[MT][NT][4], const float *a,
                                                        const float *b, int steps, bool a_whole,
                                                        bool b_whole)
{
    const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
    a += g * AR + t * AK;
    b += t * BK + g * BC;
#pragma unroll 1
    for (int step = 0; step < steps; step++, a += 8 * AK, b += 8 * BK) {
        unsigned ah[MT][4], al[MT][4];
#pragma unroll
        for (int mt = 0; mt < MT; mt++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float x = a[(mt * 16 + i % 2 * 8) * AR + i / 2 * 4 * AK];
                backward_split(ah[mt][i], al[mt][i], SQUARE ? x * x : x);
            }
#pragma unroll
        for (int nt = 0; nt < NT; nt++) {
            unsigned bh[2], bl[2];
#pragma unroll
            for (int i = 0; i < 2; i++)
                backward_split(bh[i], bl[i], b[i * 4 * BK + nt * 8 * BC]);
#pragma unroll
            for (int mt = 0; mt < MT; mt++) {
                if (!b_whole)
                    ohm_mma_tf32(sum[mt][nt], ah[mt], bl, sum[mt][nt]);
                if (SQUARE || !a_whole)
                    ohm_mma_tf32(sum[mt][nt], al[mt], bh, sum[mt][nt]);
                ohm_mma_tf32(sum[mt][nt], ah[mt], bh, sum[mt][nt]);
            }
        }
    }
}

template <int MT, int NT>
static __device__ __forceinline__ void backward_clear(float (&x)[MT][NT][4])
{
#pragma unroll
    for (int mt = 0; mt < MT; mt++)
#pragma unroll
        for (int nt = 0; nt < NT; nt++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                x[mt][nt][i] = 0.0f;
}

/* ---- staging ------------------------------------------------------------------------------- */

/* Chunk i of a tile's inputs; with DAC noise it lies within one transform of 128 inputs. */
struct backward_chunk {
    int from, to; /* inputs */
};
static __device__ __forceinline__ int backward_chunk_base(const mvm_job &j, const backward_at &at)
{
    return j.r.dac_noise > 0.0f ? at.begin & ~(BACK_CHUNK - 1) : at.begin;
}
static __device__ __forceinline__ int backward_chunks(const mvm_job &j, const backward_at &at)
{
    return (at.end - backward_chunk_base(j, at) + BACK_CHUNK - 1) / BACK_CHUNK;
}
static __device__ __forceinline__ backward_chunk backward_chunk_of(const mvm_job &j,
                                                                   const backward_at &at, int i)
{
    const int from = backward_chunk_base(j, at) + i * BACK_CHUNK, to = from + BACK_CHUNK;
    return {from < at.begin ? at.begin : from, to > at.end ? at.end : to};
}

/* Cells of a chunk, and their variances, to stage[inputs][STRIDE]; zero outside of both. Complete
 * after ohm_cp_async_wait<0>() and a barrier. */
template <int STRIDE>
static __device__ __forceinline__ void backward_stage_cells(const mvm_job &j, float *stage,
                                                            const backward_at &at,
                                                            const backward_chunk &chunk, bool cells)
{
    const ohm_geometry &g = j.g;
    const int tid = static_cast<int>(threadIdx.x), quad = tid % 32 * 4, c = at.column0 + quad,
              pitch = ohm_tile_pitch(&g), packed = ohm_packed_columns(&g);
    const bool there = quad < at.columns;
    size_t first = 0, step = 0;
    if (there) {
        first = (static_cast<size_t>(at.slice) * ohm_arrays(&g) + at.array) * g.k * packed +
                ohm_packed_index(&g, at.tile, chunk.from - at.begin, c);
        step = static_cast<size_t>(ohm_panel_width(&g, c - c % pitch % OHM_PANEL));
    }
#pragma unroll 1
    for (int r = tid / 32; r < BACK_CHUNK; r += BACK_THREADS / 32) {
        const bool real = there && chunk.from + r < chunk.to;
        const size_t from = real ? first + r * step : 0;
        ohm_cp_async_16(stage + r * STRIDE + quad, j.w.w + from, real ? 16 : 0);
        if (cells)
            ohm_cp_async_16(stage + BACK_STAGE + r * STRIDE + quad, j.w.variance + from,
                            real ? 16 : 0);
    }
    ohm_cp_async_commit();
}

/* DAC draws of the block's rows for the chunk's transform of 128 inputs, to z; seen after a barrier. */
static __device__ __forceinline__ void backward_draw_dac(const mvm_job &j, float (*z)[128],
                                                         const backward_at &at,
                                                         const backward_chunk &chunk)
{
    const ohm_geometry &g = j.g;
    const uint64_t transforms = ohm_dac_pitch(&g) / 128;
    mvm_block_normals(z, at.rows, j, OHM_SITE_DAC_NOISE, j.first_row + at.row0,
                      (static_cast<uint64_t>(at.phase) * g.planes + at.plane) * transforms +
                          chunk.from / 128,
                      static_cast<uint64_t>(g.phases) * g.planes * transforms);
}

/* Drive of a code and its derivative by the code; z: its DAC draw. */
struct backward_drive {
    float x, slope;
};
static __device__ __forceinline__ backward_drive backward_drive_of(const mvm_job &j,
                                                                   const backward_shared &s,
                                                                   unsigned code, float z)
{
    backward_drive d = {s.level[code], s.slope[code]};
    if (j.r.dac_noise > 0.0f) { /* the table holds what the DAC gives */
        d.x += j.r.dac_noise * z;
        if (j.r.iv != OHM_CELL_LINEAR) {
            double slope;
            d.x = static_cast<float>(
                ohm_cell_drive(j.r.iv, j.r.iv_coefficient, j.r.v_read, j.g.max_digit, d.x, &slope));
            d.slope = static_cast<float>(d.slope * slope);
        }
    }
    return d;
}

/* The tables of a phase and plane, between two barriers. */
static __device__ __forceinline__ void backward_tabulate(const mvm_job &j, backward_shared &s,
                                                         int phase, int plane)
{
    const ohm_geometry &g = j.g;
    const ohm_read &r = j.r;
    const unsigned code = threadIdx.x;
    int sign;
    const int digit = mvm_digit(g, code, phase, plane, &sign);
    double slope = 1.0, direction = 1.0;
    if (r.dac_noise > 0.0f) {
        s.level[code] = static_cast<float>(sign) * r.dac_level[digit];
    } else {
        s.level[code] = static_cast<float>(sign) * r.drive_level[digit];
        ohm_cell_drive(r.iv, r.iv_coefficient, r.v_read, g.max_digit,
                       ohm_dac_drive(r.dac_inl, g.max_digit, digit), &slope);
    }
    if (g.drive == OHM_DRIVE_TWO_PHASE)
        direction = phase ? -sign : sign;
    slope *=
        1.0 + r.dac_inl * ohm_inl_slope(static_cast<double>(digit) / g.max_digit) / g.max_digit;
    s.slope[code] = plane == 0 ? static_cast<float>(direction * slope) : 0.0f;
}

/* Drive of a chunk to x[row][STRIDE]; zero for rows and inputs that are not there. With DAC noise its
 * draws go through the stage, by two barriers; no thread may need what lay there. */
template <int STRIDE>
static __device__ __forceinline__ void
backward_stage_drive(const mvm_job &j, const backward_memory &m, const backward_at &at,
                     const backward_chunk &chunk)
{
    float(*z)[128] = reinterpret_cast<float(*)[128]>(m.stage);
    const bool noisy = j.r.dac_noise > 0.0f;
    if (noisy) {
        backward_draw_dac(j, z, at, chunk);
        __syncthreads();
    }
    const int kk = static_cast<int>(threadIdx.x) % BACK_CHUNK, k = chunk.from + kk;
    for (int row = static_cast<int>(threadIdx.x) / BACK_CHUNK; row < BACK_ROWS;
         row += BACK_THREADS / BACK_CHUNK) {
        float x = 0.0f;
        if (row < at.rows && k < chunk.to) {
            const unsigned code = j.x_u[static_cast<size_t>(at.row0 + row) * j.ldx + k];
            x = backward_drive_of(j, *m.s, code, noisy ? z[row][k % 128] : 0.0f).x;
        }
        m.x[row * STRIDE + kk] = x;
    }
    if (noisy)
        __syncthreads();
}

/* ---- currents ------------------------------------------------------------------------------ */

/* What a thread adds up beside the products: over a quarter of a row's drive, and of two references. */
struct backward_sums {
    float total, power, current[2], variance[2];
};

static __device__ __forceinline__ bool backward_reads_refs(const mvm_job &j)
{
    return !j.g.differential && (j.g.digital || (j.r.read_noise && j.w.ref_variance));
}

template <int STRIDE>
static __device__ __forceinline__ void
backward_add_sums(backward_sums &sums, const mvm_job &j, const backward_memory &m,
                  const backward_at &at, const backward_chunk &chunk)
{
    const int row = static_cast<int>(threadIdx.x) / 4, part = static_cast<int>(threadIdx.x) % 4;
    const float *x = m.x + row * STRIDE;
    for (int i = part; i < BACK_CHUNK; i += 4) {
        sums.total += x[i];
        sums.power = fmaf(x[i], x[i], sums.power);
    }
    if (!backward_reads_refs(j))
        return;
#pragma unroll
    for (int which = 0; which < 2; which++) {
        const int ref = part + 4 * which;
        if (ref >= at.refs)
            continue;
        const size_t first =
            (static_cast<size_t>(at.slice) * j.g.column_tiles + at.first_ref + ref) * j.g.k +
            chunk.from;
#pragma unroll 1
        for (int i = 0; i < chunk.to - chunk.from; i++) {
            sums.current[which] = fmaf(x[i], j.w.ref[first + i], sums.current[which]);
            if (j.w.ref_variance)
                sums.variance[which] =
                    fmaf(x[i] * x[i], j.w.ref_variance[first + i], sums.variance[which]);
        }
    }
}

static __device__ __forceinline__ void backward_keep_sums(const backward_sums &sums,
                                                          const mvm_job &j,
                                                          const backward_memory &m,
                                                          const backward_at &at)
{
    const int row = static_cast<int>(threadIdx.x) / 4, part = static_cast<int>(threadIdx.x) % 4;
    float total = sums.total, power = sums.power;
#pragma unroll
    for (int bit = 1; bit < 4; bit *= 2) {
        total += __shfl_xor_sync(0xFFFFFFFFu, total, bit);
        power += __shfl_xor_sync(0xFFFFFFFFu, power, bit);
    }
    if (part == 0) {
        m.s->total[row] = total;
        m.s->power[row] = power;
    }
    if (backward_reads_refs(j))
#pragma unroll
        for (int which = 0; which < 2; which++)
            if (part + 4 * which < at.refs) {
                m.refs->current[row][part + 4 * which] = sums.current[which];
                m.refs->variance[row][part + 4 * which] = sums.variance[which];
            }
}

/* Constants of the read's columns; others see them after a barrier. */
static __device__ __forceinline__ void backward_columns(const backward_job &job, backward_shared &s,
                                                        const backward_at &at)
{
    const mvm_job &j = job.j;
    const ohm_geometry &g = j.g;
    const ohm_tiles &w = j.w;
    const int tid = static_cast<int>(threadIdx.x), c = at.column0 + tid;
    if (tid >= BACK_COLUMNS)
        return;
    backward_column column = {-1, 0, 0.0f, 1.0f, 1.0f, 0.0f, {0.0f, 0.0f, 0.0f}};
    if (tid < at.columns) {
        const size_t e =
            ((static_cast<size_t>(at.slice) * ohm_arrays(&g) + at.array) * g.tiles + at.tile) *
                ohm_packed_columns(&g) +
            c;
        column.n = mvm_output_column(g, c);
        column.ref = c / ohm_tile_pitch(&g) - at.first_ref;
        if (column.n >= 0)
            column.weight =
                static_cast<float>(ldexp(at.phase != at.array ? -1.0 : 1.0,
                                         at.plane * g.dac_bits + at.slice * g.cell_bits)) *
                job.scale * (j.r.alpha ? j.r.alpha[column.n] : 1.0f);
        if (j.r.adc_bits > 0) {
            column.lsb = mvm_lsb(j, at.plane, at.slice, c);
            column.inverse = 1.0f / column.lsb;
        }
        column.johnson = j.r.read_noise && w.johnson ? w.johnson[e] : 0.0f;
        column.error = {w.gain ? w.gain[e] : 0.0f, w.offset ? w.offset[e] : 0.0f,
                        w.s_shape ? w.s_shape[e] : 0.0f};
    }
    s.column[tid] = column;
}

/* A warp has 32 rows x 32 columns. */
static __device__ __forceinline__ int backward_warp_row()
{
    return static_cast<int>(threadIdx.x) / 128 * 32;
}
static __device__ __forceinline__ int backward_warp_column()
{
    return static_cast<int>(threadIdx.x) / 32 % 4 * 32;
}

/* Bit-line currents, and with CELLS their variances, without pedestal. x and stage are free at the end;
 * sums of the drive are seen after a barrier. */
template <bool CELLS>
static __device__ __forceinline__ void
backward_currents(float (&current)[2][4][4], float (&variance)[CELLS ? 2 : 1][CELLS ? 4 : 1][4],
                  const backward_job &job, const backward_memory &m, const backward_at &at)
{
    constexpr int STRIDE = BACK_CHUNK + BACK_BY_ROW;
    const mvm_job &j = job.j;
    const int row = backward_warp_row(), column = backward_warp_column(),
              chunks = backward_chunks(j, at);
    backward_sums sums = {};
    backward_clear(current);
    backward_clear(variance);
    backward_columns(job, *m.s, at);
#pragma unroll 1
    for (int i = 0; i < chunks; i++) {
        const backward_chunk chunk = backward_chunk_of(j, at, i);
        if (j.r.dac_noise == 0.0f)
            backward_stage_cells<BACK_W>(j, m.stage, at, chunk, CELLS);
        backward_stage_drive<STRIDE>(j, m, at, chunk);
        if (j.r.dac_noise > 0.0f)
            backward_stage_cells<BACK_W>(j, m.stage, at, chunk, CELLS);
        ohm_cp_async_wait<0>();
        __syncthreads();
        backward_add_sums<STRIDE>(sums, j, m, at, chunk);
        if (row < at.rows && column < at.columns) {
            const int steps = (chunk.to - chunk.from + 7) / 8;
            const float *x = m.x + row * STRIDE, *w = m.stage + column;
            backward_product<STRIDE, 1, BACK_W, 1, false>(current, x, w, steps, job.whole != 0,
                                                          job.halves != 0);
            if constexpr (CELLS)
                backward_product<STRIDE, 1, BACK_W, 1, true>(variance, x, w + BACK_STAGE, steps,
                                                             false, job.halves != 0);
        }
        __syncthreads();
    }
    backward_keep_sums(sums, j, m, at);
}

#endif
