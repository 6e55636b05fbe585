/* What the tensor-core MVM kernels do between the product of a tile and the write: digits cut from
 * codes, read noise on the accumulators, ADC, shift-and-add. A warp holds MT x NT accumulators in the
 * layout of mma m16n8: d[i] at row g + 8·(i / 2), column 2t + i % 2, g = lane / 4, t = lane % 4. */
#ifndef OHM_KERNELS_MVM_EPILOGUE_CUDA_CUH
#define OHM_KERNELS_MVM_EPILOGUE_CUDA_CUH

#include "kernels/mvm_cuda.cuh"
#include "kernels/mvm_halves_cuda.h"
#include "kernels/normals_cuda.cuh"

/* 1.5·2^23: a small integer added to these bits is that integer added to the float. */
static constexpr int MVM_MAGIC_BITS = 0x4B400000;
static constexpr float MVM_MAGIC = 12582912.0f;

static __device__ __forceinline__ __half2 mvm_halves_of(unsigned bits)
{
    __half2 v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
static __device__ __forceinline__ unsigned mvm_bits_of(__half2 v)
{
    unsigned bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* ---- which read ------------------------------------------------------------------------------ */

/* All row tiles of one phase, plane, slice and array. */
struct mvm_group {
    int number, phase, plane, slice, array;
};

static __host__ __device__ __forceinline__ int mvm_groups(const ohm_geometry &g)
{
    return g.phases * g.planes * g.slices * ohm_arrays(&g);
}

static __device__ __forceinline__ mvm_group mvm_group_of(const ohm_geometry &g, int n)
{
    const int arrays = ohm_arrays(&g);
    return {n, n / (arrays * g.slices * g.planes), n / (arrays * g.slices) % g.planes,
            n / arrays % g.slices, n % arrays};
}

/* ---- digits ---------------------------------------------------------------------------------- */

/* How four codes become digits: constants of a plane and phase. */
struct mvm_cut {
    unsigned shift, mask, keep; /* mask, keep: in every byte; keep: codes of this sign, two_phase */
};

static __device__ __forceinline__ mvm_cut mvm_cut_of(const ohm_geometry &g, const mvm_group &group)
{
    const unsigned shift = static_cast<unsigned>(group.plane * g.dac_bits);
    const bool is_signed = g.drive == OHM_DRIVE_TWO_PHASE || g.drive == OHM_DRIVE_SIGN_MAGNITUDE;
    const unsigned mask = static_cast<unsigned>(g.max_digit) & (is_signed ? 127u : 255u) >> shift;
    return {shift, mask * 0x01010101u, group.phase ? 0u : 0xFFFFFFFFu};
}

/* Two words of two halves each from four codes, first input lowest; adds up squares and sum where a
 * read asks for them. */
static __device__ __forceinline__ void mvm_cut_digits(unsigned &low, unsigned &high,
                                                      unsigned &power, int &total, unsigned code,
                                                      const mvm_cut &c, const mvm_job &j)
{
    unsigned digit = code >> c.shift & c.mask;
    const unsigned negative = __byte_perm(code, 0, 0xBA98); /* each byte's sign, eight times */
    if (j.g.drive == OHM_DRIVE_TWO_PHASE)
        digit &= negative ^ c.keep;
    if (j.r.read_noise && j.r.read_constant > 0.0f)
        power = __dp4a(digit, digit, power);
    if (j.g.digital) {
        total += static_cast<int>(__dp4a(digit, 0x01010101u, 0u));
        if (j.g.drive == OHM_DRIVE_SIGN_MAGNITUDE)
            total -= 2 * static_cast<int>(__dp4a(digit & negative, 0x01010101u, 0u));
    }
    /* 0x6400 + digit is 1024 + digit in half precision */
    const __half2 offset = mvm_halves_of(0x64006400u);
    low = mvm_bits_of(__hsub2(mvm_halves_of(__byte_perm(digit, 0x64646464u, 0x4140)), offset));
    high = mvm_bits_of(__hsub2(mvm_halves_of(__byte_perm(digit, 0x64646464u, 0x4342)), offset));
    if (j.g.drive == OHM_DRIVE_SIGN_MAGNITUDE) {
        low ^= __byte_perm(negative, 0, 0x1404) & 0x80008000u;
        high ^= __byte_perm(negative, 0, 0x3424) & 0x80008000u;
    }
}

/* Of the rows g and g + 8 of an mma tile: sum of the digits, and of their squares. */
struct mvm_drive_sums {
    unsigned power[2];
    int total[2];
};

template <int MT, int NT, int N, class T>
static __device__ __forceinline__ void mvm_clear(T (&x)[MT][NT][N])
{
#pragma unroll
    for (int mt = 0; mt < MT; mt++)
#pragma unroll
        for (int nt = 0; nt < NT; nt++)
#pragma unroll
            for (int i = 0; i < N; i++)
                x[mt][nt][i] = T();
}

/* ---- columns and draws ----------------------------------------------------------------------- */

/* The threads that convert together; sync is their barrier. */
struct mvm_block_team {
    static __device__ __forceinline__ int thread()
    {
        return static_cast<int>(threadIdx.x);
    }
    static __device__ __forceinline__ int threads()
    {
        return static_cast<int>(blockDim.x);
    }
    static __device__ __forceinline__ void sync()
    {
        __syncthreads();
    }
};

struct mvm_epilogue_column { /* one of the block's, shared */
    int n;                   /* output, or -1 */
    int lsb_at;              /* where its LSB is among a plane's and slice's */
    float lsb, inverse;
    float johnson; /* variance */
};

struct mvm_epilogue {
    mvm_epilogue_column *columns; /* shared */
    uint4 *draws;                 /* shared: A operands of the transforms, [row / 16][f][lane] */
    mvm_cut cut;
    int row0, column0, warp_row, warp_column; /* of the block; of the warp in it */
    uint32_t drawn;                           /* transform of a sample that draws holds */
    int offset;                               /* of packed column column0 in its transform */
    unsigned signs;                           /* bit 2·nt + i: the output's sign */
};

static __device__ __forceinline__ bool mvm_noisy(const mvm_job &j)
{
    return j.r.read_noise || j.r.adc_noise > 0.0f;
}

/* Bit 2·nt + i: sign of column 8·nt + 2t + i of the warp. */
static __device__ __forceinline__ unsigned mvm_signs(int first)
{
    const unsigned t = threadIdx.x % 4;
    unsigned signs = 0;
    for (unsigned bit = 0; bit < 32; bit++)
        signs |=
            static_cast<unsigned>(ohm_fast_negative((first + bit / 2 * 8 + 2 * t + bit % 2) & 127u))
            << bit;
    return signs;
}

template <class Team>
static __device__ __forceinline__ void mvm_epilogue_begin(mvm_epilogue &e, const mvm_job &j,
                                                          int row0, int column0, int warp_row,
                                                          int warp_column, int columns)
{
    const ohm_geometry &g = j.g;
    e.row0 = row0;
    e.column0 = column0;
    e.warp_row = warp_row;
    e.warp_column = warp_column;
    e.drawn = UINT32_MAX;
    e.offset = -1;
    e.signs = 0;
    for (int i = Team::thread(); i < columns; i += Team::threads()) {
        const int c = column0 + i, n = c < ohm_packed_columns(&g) ? mvm_output_column(g, c) : -1;
        e.columns[i] = {n, j.r.lsb_per_column ? (n >= 0 ? n : g.n - 1) : 0, 1.0f, 1.0f, 0.0f};
    }
}

/* LSBs and digits of a group's reads; others see them after the barrier of mvm_epilogue_tile. */
template <class Team>
static __device__ __forceinline__ void mvm_epilogue_group(mvm_epilogue &e, const mvm_job &j,
                                                          const mvm_group &group, int columns)
{
    const ohm_geometry &g = j.g;
    e.cut = mvm_cut_of(g, group);
    const float *lsb = j.r.lsb + (static_cast<size_t>(group.plane) * g.slices + group.slice) *
                                     (j.r.lsb_per_column ? g.n : 1);
    for (int i = Team::thread(); i < columns; i += Team::threads()) {
        e.columns[i].lsb = lsb[e.columns[i].lsb_at];
        e.columns[i].inverse = 1.0f / e.columns[i].lsb;
    }
}

static __device__ __forceinline__ uint64_t mvm_first_element(const mvm_job &j,
                                                             const mvm_group &group, int tile)
{
    return ohm_read_index(&j.g, group.phase, group.plane, group.slice, group.array, tile) *
           ohm_draw_pitch(&j.g);
}

/* Draws of a tile's read for all rows of the block, by all warps. The caller has a barrier between the
 * tile before and this one. A transform that serves several reads is drawn once. */
template <class Team>
static __device__ __forceinline__ void mvm_epilogue_tile(mvm_epilogue &e, const mvm_job &j,
                                                         const mvm_group &group, int tile,
                                                         int columns, int sixteens, int warps)
{
    const size_t array = static_cast<size_t>(group.slice) * ohm_arrays(&j.g) + group.array;
    for (int i = Team::thread(); j.r.read_noise && j.w.johnson && i < columns; i += Team::threads())
        if (e.columns[i].n >= 0)
            e.columns[i].johnson =
                j.w.johnson[(array * j.g.tiles + tile) * ohm_packed_columns(&j.g) + e.column0 + i];
    const uint64_t element = mvm_first_element(j, group, tile) + e.column0;
    const uint32_t transform = static_cast<uint32_t>(element >> 7);
    const int offset = static_cast<int>(element & 127), warp = Team::thread() / 32;
    if (mvm_noisy(j) && offset != e.offset) {
        e.offset = offset;
        e.signs = mvm_signs(offset + e.warp_column);
    }
    const bool draw = mvm_noisy(j) && transform != e.drawn;
    e.drawn = transform;
    const unsigned lane = threadIdx.x % 32;
    const ohm_stream stream = mvm_stream(j, j.r.read_noise ? OHM_SITE_READ : OHM_SITE_ADC_NOISE);
    const uint64_t per_sample = ohm_draw_transforms(&j.g);
    for (int unit = warp; draw && unit < sixteens * 2; unit += warps) {
        const int sixteen = unit / 2, upper = unit % 2;
        const uint64_t sample = j.first_row + e.row0 + sixteen * 16 + lane / 4;
        const uint64_t block = 2 * (lane % 4) + upper;
        const uint4 a = ohm_stream_block_cuda(stream,
                                              (sample * per_sample + transform) * 8 + block),
                    b = ohm_stream_block_cuda(stream,
                                              ((sample + 8) * per_sample + transform) * 8 + block);
        uint4 *to = e.draws + (sixteen * 4 + 2 * upper) * 32 + lane;
        to[0] = make_uint4(ohm_fast_halves(a.x), ohm_fast_halves(b.x), ohm_fast_halves(a.y),
                           ohm_fast_halves(b.y));
        to[32] = make_uint4(ohm_fast_halves(a.z), ohm_fast_halves(b.z), ohm_fast_halves(a.w),
                            ohm_fast_halves(b.w));
    }
    Team::sync();
}

/* ---- conversion ------------------------------------------------------------------------------ */

/* Normals of 32 columns of one mma tile's rows, at z[f][i] for columns 8f + 2t + i % 2. */
static __device__ __forceinline__ void mvm_quarter(float (&z)[4][4], const mvm_epilogue &e,
                                                   const unsigned (&a)[4][4], int quarter)
{
    const unsigned lane = threadIdx.x % 32;
    const int first = e.offset + e.warp_column + quarter * 32;
    int sum[4][4];
    ohm_fast_quarter(sum, a, static_cast<unsigned>(first) / 32 & 3, lane);
    if (first & 16) { /* reads of 16 columns: the upper half of a quarter comes down */
#pragma unroll
        for (int i = 0; i < 4; i++) {
            sum[0][i] = sum[2][i];
            sum[1][i] = sum[3][i];
        }
    }
#pragma unroll
    for (int f = 0; f < 4; f++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float v = __int_as_float(sum[f][i] + MVM_MAGIC_BITS) - MVM_MAGIC;
            const unsigned sign = e.signs << (31 - (quarter * 8 + f * 2 + i % 2)) & 0x80000000u;
            z[f][i] = __uint_as_float(__float_as_uint(v) ^ sign) * OHM_FAST_SCALE_HALF;
        }
}

/* Currents of a tile to codes, added to those of the tiles before. Sums of codes stay below 2^15
 * (ohm_mvm_mma_knows), so two of them, of neighbouring columns, share a register: first + 2^16·second. */
template <int MT, int NT, bool CELLS>
static __device__ __forceinline__ void
mvm_convert(int (&codes)[MT][NT][2], const float (&current)[MT][NT][4],
            const float (&variance)[CELLS ? MT : 1][CELLS ? NT : 1][4],
            const mvm_drive_sums (&drive)[MT], const mvm_epilogue &e, const mvm_job &j)
{
    const ohm_geometry &g = j.g;
    const ohm_read &r = j.r;
    const int lane = static_cast<int>(threadIdx.x) % 32, t = lane % 4;
    const float low = ohm_adc_low(&g, &r), high = ohm_adc_high(&g, &r),
                adc = r.adc_noise * r.adc_noise;
    const float spread_scale = CELLS ? 1.0f / ohm_variance_scale(&g) : 0.0f;
#pragma unroll
    for (int mt = 0; mt < MT; mt++) {
        unsigned a[4][4] = {};
        if (mvm_noisy(j)) {
            const uint4 *from = e.draws + (e.warp_row / 16 + mt) * 4 * 32 + lane;
#pragma unroll
            for (int f = 0; f < 4; f++) {
                const uint4 w = from[f * 32];
                a[f][0] = w.x;
                a[f][1] = w.y;
                a[f][2] = w.z;
                a[f][3] = w.w;
            }
        }
        float pre[2], power[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            unsigned squares = drive[mt].power[half];
            int total = drive[mt].total[half];
            for (int bit = 1; bit < 4; bit *= 2) { /* the four lanes of a row */
                squares += __shfl_xor_sync(0xFFFFFFFFu, squares, bit);
                total += __shfl_xor_sync(0xFFFFFFFFu, total, bit);
            }
            pre[half] = g.digital ? static_cast<float>(g.pedestal * total) : 0.0f;
            power[half] = static_cast<float>(ohm_columns_seen(&g)) * r.read_constant *
                          static_cast<float>(squares);
        }
#pragma unroll
        for (int quarter = 0; quarter < NT / 4; quarter++) {
            float z[4][4];
            if (mvm_noisy(j))
                mvm_quarter(z, e, a, quarter);
#pragma unroll
            for (int f = 0; f < 4; f++) {
                const int nt = quarter * 4 + f, column = e.warp_column + nt * 8 + 2 * t;
                /* volatile: read for each mma tile, not kept in registers for all of them */
                const volatile mvm_epilogue_column *two = e.columns + column;
                const float inverse[2] = {two[0].inverse, two[1].inverse};
                const float johnson[2] = {two[0].johnson, two[1].johnson};
                float value[4];
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    value[i] = (current[mt][nt][i] + pre[i / 2]) * inverse[i % 2];
                    if (mvm_noisy(j)) {
                        float v = power[i / 2] + johnson[i % 2];
                        if (CELLS)
                            v = fmaf(variance[CELLS ? mt : 0][CELLS ? nt : 0][i], spread_scale, v);
                        v = fmaxf(fmaf(v, inverse[i % 2] * inverse[i % 2], adc), 1e-30f);
                        value[i] = fmaf(z[f][i], v * ohm_rsqrt_normal(v), value[i]);
                    }
                    /* an overload's NaN, too, is a code; the sum rounds to the nearest integer, ties to even */
                    value[i] = fminf(fmaxf(value[i], low), high) + MVM_MAGIC;
                }
#pragma unroll
                for (int half = 0; half < 2;
                     half++) /* of the second only the integer stays when it is shifted */
                    codes[mt][nt][half] +=
                        __float_as_int(value[2 * half]) - MVM_MAGIC_BITS +
                        static_cast<int>(__float_as_uint(value[2 * half + 1]) << 16);
            }
        }
    }
}

/* ---- the digital side ------------------------------------------------------------------------- */

/* What becomes of the sum of codes of one column, worked out once where the draws lay. A double costs
 * eight times a float here, so that one group of reads never sees one: gain and offset are their
 * doubles as two floats each. */
struct mvm_epilogue_finish {
    double alpha, offset;
    float gain[2];         /* alpha times the LSB */
    float offset_parts[2]; /* what is subtracted */
    float scale, bias;     /* y = scale · corrected sum + bias */
};

static __device__ __forceinline__ void mvm_in_two(float (&parts)[2], double x)
{
    parts[0] = static_cast<float>(x);
    parts[1] = static_cast<float>(x - static_cast<double>(parts[0]));
}

static __device__ __forceinline__ mvm_epilogue_finish
mvm_finish_of(const mvm_job &j, const mvm_epilogue_column &column, double weight)
{
    const ohm_read &r = j.r;
    const ohm_mvm_output &o = j.out;
    mvm_epilogue_finish f = {1.0, 0.0, {0.0f, 0.0f}, {0.0f, 0.0f}, 1.0f, -0.0f};
    const int n = column.n;
    if (n < 0)
        return f;
    f.alpha = r.alpha ? static_cast<double>(r.alpha[n]) : 1.0;
    f.offset = r.correction ? (r.correction_read ? f.alpha : 1.0) * r.correction[n] : 0.0;
    mvm_in_two(f.gain, f.alpha * (weight * static_cast<double>(column.lsb)));
    mvm_in_two(f.offset_parts, f.offset);
    if (!o.x_scale)
        return f;
    f.scale = static_cast<float>((o.x_scale_rows ? 1.0 : static_cast<double>(o.x_scale[0])) *
                                 static_cast<double>(o.w_scale[n]) *
                                 static_cast<double>(o.column_scale ? o.column_scale[n] : 1.0f));
    f.bias = o.bias ? o.bias[n] : 0.0f;
    return f;
}

/* Two neighbours of a row, in one piece where the row lies so. */
static __device__ __forceinline__ void mvm_write_two(const mvm_job &j, const float (&y)[2], int row,
                                                     int n0, int n1)
{
    const ohm_mvm_output &o = j.out;
    float *at = o.y + static_cast<size_t>(row) * o.ldy;
    const float *clean =
        o.x_scale && o.clean ? o.clean + static_cast<size_t>(row) * o.ldc : nullptr;
    const float first = clean && n0 >= 0 ? y[0] - clean[n0] : y[0],
                second = clean && n1 >= 0 ? y[1] - clean[n1] : y[1];
    if (n0 >= 0 && n1 == n0 + 1 && reinterpret_cast<uintptr_t>(at + n0) % sizeof(float2) == 0) {
        *reinterpret_cast<float2 *>(at + n0) = make_float2(first, second);
        return;
    }
    if (n0 >= 0)
        at[n0] = first;
    if (n1 >= 0)
        at[n1] = second;
}

/* Codes of a group, weighted, to the sums; after the last group to the outputs. A thread meets no sums
 * but its own: [accumulator][thread]. Without KEEPS there is one group, and sums is unused. Sums are
 * not rounded: with an ADC they need not be (integer_sums). */
template <class Team, int MT, int NT, int THREADS_PER_BLOCK, bool KEEPS>
static __device__ __forceinline__ void
mvm_epilogue_sum(double *sums, const int (&codes)[MT][NT][2], const mvm_epilogue &e,
                 const mvm_job &j, const mvm_group &group, int groups, int columns)
{
    const ohm_geometry &g = j.g;
    const int tid = static_cast<int>(threadIdx.x), lane = tid % 32;
    const bool last = group.number + 1 == groups, one = !KEEPS || groups == 1;
    const double weight = ldexp(group.phase != group.array ? -1.0 : 1.0,
                                group.plane * g.dac_bits + group.slice * g.cell_bits);
    mvm_epilogue_finish *finish = reinterpret_cast<mvm_epilogue_finish *>(e.draws);
    if (!KEEPS || last) {
        Team::sync(); /* the draws are not needed any more */
        for (int i = Team::thread(); i < columns; i += Team::threads())
            finish[i] = mvm_finish_of(j, e.columns[i], weight);
        Team::sync();
    }
    float of_row[MT][2];
#pragma unroll
    for (int mt = 0; mt < MT; mt++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = e.row0 + e.warp_row + mt * 16 + half * 8 + lane / 4;
            of_row[mt][half] =
                j.out.x_scale && j.out.x_scale_rows && row < j.m ? j.out.x_scale[row] : 1.0f;
        }
#pragma unroll
    for (int nt = 0; nt < NT; nt++) {
        const int column = e.warp_column + nt * 8 + 2 * (lane % 4);
        const int n[2] = {e.columns[column].n, e.columns[column + 1].n};
        const float lsb[2] = {e.columns[column].lsb, e.columns[column + 1].lsb};
#pragma unroll
        for (int mt = 0; mt < MT; mt++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int two = codes[mt][nt][half], first = static_cast<int16_t>(two & 0xFFFF);
                const int code[2] = {first, (two - first) >> 16};
                const int row = e.row0 + e.warp_row + mt * 16 + half * 8 + lane / 4;
                float y[2];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    if (one) {
                        const mvm_epilogue_finish &f = finish[column + i];
                        const float sum = static_cast<float>(code[i]);
                        y[i] = fmaf(sum, f.gain[0], -f.offset_parts[0]) +
                               fmaf(sum, f.gain[1], -f.offset_parts[1]);
                    } else {
                        double *held =
                            sums + ((mt * NT + nt) * 4 + half * 2 + i) * THREADS_PER_BLOCK + tid;
                        double sum = weight * (static_cast<double>(lsb[i]) * code[i]);
                        if (group.number > 0)
                            sum += *held;
                        if (!last) {
                            *held = sum;
                            continue;
                        }
                        sum = finish[column + i].alpha * sum - finish[column + i].offset;
                        y[i] = static_cast<float>(sum);
                    }
                    y[i] = fmaf(y[i], finish[column + i].scale * of_row[mt][half],
                                finish[column + i].bias);
                }
                if ((!KEEPS || last) && row < j.m)
                    mvm_write_two(j, y, row, n[0], n[1]);
            }
    }
}

#endif
