/* One read of mode full from its currents on: draws, conversions, their gradients. */
#ifndef OHM_KERNELS_MVM_BACKWARD_CHAIN_CUDA_CUH
#define OHM_KERNELS_MVM_BACKWARD_CHAIN_CUDA_CUH

#include "kernels/mvm_backward_cuda.cuh"

/* ---- draws --------------------------------------------------------------------------------- */

static __device__ __forceinline__ bool backward_noisy(const ohm_read &r)
{
    return r.read_noise || r.adc_noise > 0.0f;
}
static __device__ __forceinline__ uint64_t backward_element(const mvm_job &j, const backward_at &at)
{
    return ohm_read_index(&j.g, at.phase, at.plane, at.slice, at.array, at.tile) *
           ohm_draw_pitch(&j.g);
}

/* Draws of the read: of its references to refs, of its columns to d (row stride STRIDE) and, where
 * static errors keep them apart, those of the ADC to stage (row stride 128). Seen after a barrier. */
template <int STRIDE>
static __device__ __forceinline__ void backward_draw(const mvm_job &j, const backward_memory &m,
                                                     float *d, const backward_at &at)
{
    const ohm_geometry &g = j.g;
    const ohm_read &r = j.r;
    float(*z)[STRIDE] = reinterpret_cast<float(*)[STRIDE]>(d);
    const uint64_t first = j.first_row + at.row0, per_sample = ohm_draw_transforms(&g);
    const bool ref_adc = g.digital && r.adc_noise > 0.0f;
    if (!g.differential && (r.read_noise || ref_adc)) {
        const uint64_t e = backward_element(j, at) + ohm_packed_columns(&g) + at.first_ref;
#pragma unroll 1
        for (uint64_t t = e >> 7; t <= (e + at.refs - 1) >> 7; t++)
#pragma unroll 1
            for (int which = r.read_noise ? 0 : 1; which < (ref_adc ? 2 : 1); which++) {
                mvm_block_normals(z, at.rows, j, which ? OHM_SITE_ADC_NOISE : OHM_SITE_READ, first,
                                  t, per_sample);
                __syncthreads();
#pragma unroll 1
                for (int i = static_cast<int>(threadIdx.x); i < at.rows * at.refs;
                     i += BACK_THREADS) {
                    const int row = i / at.refs, ref = i % at.refs;
                    if ((e + ref) >> 7 == t)
                        (which ? m.refs->z_adc : m.refs->z)[row][ref] = z[row][(e + ref) & 127];
                }
                __syncthreads();
            }
    }
    const uint64_t transform = (backward_element(j, at) + at.column0) >> 7;
    if (backward_noisy(r))
        mvm_block_normals(z, at.rows, j, r.read_noise ? OHM_SITE_READ : OHM_SITE_ADC_NOISE, first,
                          transform, per_sample);
    if (backward_two_draws(r))
        mvm_block_normals(reinterpret_cast<float(*)[128]>(m.stage), BACK_ROWS, j,
                          OHM_SITE_ADC_NOISE, first, transform, per_sample);
}

/* ---- conversion ---------------------------------------------------------------------------- */

/* Gradients by current and variance of one conversion. */
struct backward_chain {
    float d, d2;
};

static __device__ __forceinline__ float backward_dsum(const backward_job &job,
                                                      const backward_at &at, int row, int n)
{
    return job.dsums[static_cast<size_t>(at.row0 + row) * job.ldd + n];
}

/* Static errors, or a reference: read and ADC noise drawn apart. */
static __device__ __forceinline__ backward_chain backward_through_adc(const mvm_job &j, float lsb,
                                                                      const mvm_column_error &error,
                                                                      float current, float variance,
                                                                      float z, float z_adc,
                                                                      float dsum)
{
    const ohm_read &r = j.r;
    const float sd = sqrtf(variance);
    float d = dsum;
    if (r.adc_bits > 0) {
        const float high = ohm_adc_high(&j.g, &r), low = ohm_adc_low(&j.g, &r);
        float slope, value = mvm_bend(r, high, (current + z * sd) / lsb, error, &slope);
        value += r.adc_noise * z_adc;
        d = value >= low && value <= high ? dsum * slope : 0.0f;
    }
    return {d, sd > 0.0f ? d * z / (2.0f * sd) : 0.0f};
}

/* Gaussians that meet before the same quantiser are one. */
static __device__ __forceinline__ backward_chain backward_through(const mvm_job &j, float inverse,
                                                                  float low, float high,
                                                                  float current, float variance,
                                                                  float z, float dsum)
{
    float value = current * inverse, d2 = 0.0f;
    if (backward_noisy(j.r)) {
        const float sigma = sqrtf(variance * (inverse * inverse) + j.r.adc_noise * j.r.adc_noise);
        value += z * sigma;
        d2 = sigma > 0.0f ? dsum * z * inverse / (2.0f * sigma) : 0.0f;
    }
    return value >= low && value <= high ? backward_chain{dsum, d2} : backward_chain{0.0f, 0.0f};
}

/* Variance of reference `ref` in a row of the current read. */
static __device__ __forceinline__ float backward_ref_variance(const mvm_job &j,
                                                              const backward_memory &m,
                                                              const backward_at &at, int row,
                                                              int ref)
{
    if (!j.r.read_noise)
        return 0.0f;
    const size_t one = (static_cast<size_t>(at.slice) * j.g.tiles + at.tile) * j.g.column_tiles +
                       at.first_ref + ref;
    return j.r.read_constant * m.s->power[row] + (j.w.ref_johnson ? j.w.ref_johnson[one] : 0.0f) +
           (j.w.ref_variance ? m.refs->variance[row][ref] : 0.0f);
}

/* What an analog reference adds on the bit lines of its columns, to refs.current. */
static __device__ __forceinline__ void
backward_ref_noise(const mvm_job &j, const backward_memory &m, const backward_at &at)
{
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < at.rows * at.refs; i += BACK_THREADS) {
        const int row = i / at.refs, ref = i % at.refs;
        m.refs->current[row][ref] =
            j.r.read_noise ? -m.refs->z[row][ref] * sqrtf(backward_ref_variance(j, m, at, row, ref))
                           : 0.0f;
    }
}

/* With the columns' gradients in d: those of the references to refs.d and refs.d2, rows from base on.
 * They are linear in the columns', so that a column tile may be shared by blocks. */
template <int STRIDE>
static __device__ __forceinline__ void backward_references(const backward_job &job,
                                                           const backward_memory &m, const float *d,
                                                           const backward_at &at, int base)
{
    const mvm_job &j = job.j;
    const ohm_geometry &g = j.g;
    const ohm_tiles &w = j.w;
    const int pitch = ohm_tile_pitch(&g);
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < at.rows * at.refs; i += BACK_THREADS) {
        const int row = i / at.refs, ref = i % at.refs, ct = at.first_ref + ref;
        int first = ct * pitch - at.column0, last = first + pitch;
        first = first > 0 ? first : 0;
        last = last < at.columns ? last : at.columns;
        const float variance = backward_ref_variance(j, m, at, row, ref),
                    z = j.r.read_noise ? m.refs->z[row][ref] : 0.0f;
        float dsum = 0.0f;
        backward_chain out = {0.0f, 0.0f};
        if (!g.digital) { /* the current is in the cells' differences: its gradient is minus theirs */
#pragma unroll 1
            for (int c = first; c < last; c++)
                dsum -= d[row * STRIDE + c];
            const float sd = sqrtf(variance);
            out.d2 = sd > 0.0f ? dsum * z / (2.0f * sd) : 0.0f;
        } else if (row < at.rows) {
            const size_t one =
                (static_cast<size_t>(at.slice) * g.tiles + at.tile) * g.column_tiles + ct;
            const mvm_column_error error = {w.ref_gain ? w.ref_gain[one] : 0.0f,
                                            w.ref_offset ? w.ref_offset[one] : 0.0f,
                                            w.ref_s_shape ? w.ref_s_shape[one] : 0.0f};
#pragma unroll 1
            for (int c = first; c < last; c++)
                if (m.s->column[c].n >= 0)
                    dsum -= m.s->column[c].weight * backward_dsum(job, at, row, m.s->column[c].n);
            const float pedestal = static_cast<float>(g.pedestal * m.s->total[row]);
            out = backward_through_adc(
                j, j.r.adc_bits > 0 ? mvm_lsb(j, at.plane, at.slice, ct * pitch) : 1.0f, error,
                m.refs->current[row][ref] + pedestal, variance, z,
                j.r.adc_noise > 0.0f ? m.refs->z_adc[row][ref] : 0.0f, dsum);
        }
        m.refs->d[base + row][ref] = out.d;
        m.refs->d2[base + row][ref] = out.d2;
    }
}

/* Columns and rows of a thread's accumulators. */
static __device__ __forceinline__ int backward_row_of(int mt, int half)
{
    return backward_warp_row() + mt * 16 + half * 8 + static_cast<int>(threadIdx.x) % 32 / 4;
}
static __device__ __forceinline__ int backward_column_of(int nt, int i)
{
    return backward_warp_column() + nt * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + i;
}

/* Of a lane's gradients in a row. */
static __device__ __forceinline__ void backward_keep_row_sums(const backward_memory &m, int row,
                                                              float d, float d2)
{
#pragma unroll
    for (int bit = 1; bit < 4; bit *= 2) { /* the four lanes of a row */
        d += __shfl_xor_sync(0xFFFFFFFFu, d, bit);
        d2 += __shfl_xor_sync(0xFFFFFFFFu, d2, bit);
    }
    if (threadIdx.x % 4 == 0) {
        m.s->row_d[backward_warp_column() / 32][row] = d;
        m.s->row_d2[backward_warp_column() / 32][row] = d2;
    }
}

/* Of a lane's columns. */
static __device__ __forceinline__ void backward_keep_column_sums(const backward_memory &m,
                                                                 const float (&d2)[4][2])
{
#pragma unroll
    for (int nt = 0; nt < 4; nt++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float sum = d2[nt][i];
#pragma unroll
            for (int bit = 4; bit < 32; bit *= 2) /* the eight lanes of a column */
                sum += __shfl_xor_sync(0xFFFFFFFFu, sum, bit);
            if (threadIdx.x % 32 < 4)
                m.s->column_d2[backward_warp_row() / 32][backward_column_of(nt, i)] += sum;
        }
}

/* Conversions of a warp's accumulators, their draws in d and stage: values become gradients. Sums of
 * them go where backward_shared has a place: over columns TO_INPUTS, else over rows. */
template <bool CELLS, bool TO_INPUTS, bool GENERAL, int STRIDE>
static __device__ __forceinline__ void
backward_chains(float (&current)[2][4][4], float (&variance)[CELLS ? 2 : 1][CELLS ? 4 : 1][4],
                const backward_job &job, const backward_memory &m, const float *d,
                const backward_at &at)
{
    const mvm_job &j = job.j;
    const ohm_geometry &g = j.g;
    const ohm_read &r = j.r;
    const bool noisy = backward_noisy(r), converts = r.adc_bits > 0, two = backward_two_draws(r),
               analog_refs = at.refs > 0 && !g.digital;
    const float high = converts ? ohm_adc_high(&g, &r) : INFINITY,
                low = converts ? ohm_adc_low(&g, &r) : -INFINITY;
    const int offset = static_cast<int>((backward_element(j, at) + at.column0) & 127);
    float by_variance[4][2]; /* of the lane's columns */
#pragma unroll
    for (int nt = 0; nt < 4; nt++)
        by_variance[nt][0] = by_variance[nt][1] = 0.0f;
#pragma unroll
    for (int mt = 0; mt < 2; mt++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = backward_row_of(mt, half);
            const bool there = row < at.rows;
            float pedestal = 0.0f, power = 0.0f, row_d = 0.0f, row_d2 = 0.0f;
            if (there && g.digital)
                pedestal = static_cast<float>(g.pedestal * m.s->total[row]);
            if (there)
                power =
                    static_cast<float>(ohm_columns_seen(&g)) * r.read_constant * m.s->power[row];
            const float *z = d + row * STRIDE + offset, *z_adc = m.stage + row * 128 + offset;
#pragma unroll
            for (int nt = 0; nt < 4; nt++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const int c = backward_column_of(nt, i), e = half * 2 + i;
                    /* volatile: read for each row, not kept in registers for all of them */
                    const volatile backward_column &column = m.s->column[c];
                    const int n = column.n;
                    backward_chain out = {0.0f, 0.0f};
                    if (there && n >= 0) {
                        const float dsum = column.weight * backward_dsum(job, at, row, n);
                        float value = current[mt][nt][e] + pedestal, v = 0.0f;
                        if (analog_refs)
                            value += m.refs->current[row][column.ref];
                        if (r.read_noise)
                            v = power + column.johnson +
                                (CELLS ? variance[CELLS ? mt : 0][CELLS ? nt : 0][e] : 0.0f);
                        const float draw = noisy ? z[c] : 0.0f;
                        if (GENERAL)
                            out = backward_through_adc(
                                j, column.lsb,
                                {column.error.gain, column.error.offset, column.error.s_shape},
                                value, v, r.read_noise ? draw : 0.0f, two ? z_adc[c] : draw, dsum);
                        else
                            out = backward_through(j, column.inverse, low, high, value, v, draw,
                                                   dsum);
                    }
                    current[mt][nt][e] = out.d;
                    if (CELLS)
                        variance[CELLS ? mt : 0][CELLS ? nt : 0][e] = out.d2;
                    if (TO_INPUTS) {
                        row_d += out.d;
                        row_d2 += out.d2;
                    } else {
                        by_variance[nt][i] += out.d2;
                    }
                }
            if constexpr (TO_INPUTS)
                backward_keep_row_sums(m, row, row_d, row_d2);
        }
    if constexpr (!TO_INPUTS)
        if (job.johnson_scale > 0.0f)
            backward_keep_column_sums(m, by_variance);
}

/* What a warp without rows or columns leaves. */
static __device__ __forceinline__ void backward_no_chains(const backward_memory &m)
{
    const int lane = static_cast<int>(threadIdx.x) % 32, row = backward_warp_row(),
              column = backward_warp_column();
    m.s->row_d[column / 32][row + lane] = m.s->row_d2[column / 32][row + lane] = 0.0f;
}

/* The read's draws and conversions: currents and variances become gradients, to m.d and, with CELLS,
 * m.d2, [64][STRIDE] from row `base` on. Ends with a barrier. */
template <bool CELLS, bool TO_INPUTS, int STRIDE>
static __device__ __forceinline__ void
backward_convert(float (&current)[2][4][4], float (&variance)[CELLS ? 2 : 1][CELLS ? 4 : 1][4],
                 const backward_job &job, const backward_memory &m, const backward_at &at, int base)
{
    float *d = m.d + base * STRIDE, *d2 = m.d2 + base * STRIDE;
    const bool active = backward_warp_row() < at.rows && backward_warp_column() < at.columns;
    backward_draw<STRIDE>(job.j, m, d, at);
    __syncthreads();
    if (at.refs > 0 && !job.j.g.digital) {
        backward_ref_noise(job.j, m, at);
        __syncthreads();
    }
    if (!active)
        backward_no_chains(m);
    else if (job.j.r.static_errors && job.j.r.adc_bits > 0)
        backward_chains<CELLS, TO_INPUTS, true, STRIDE>(current, variance, job, m, d, at);
    else
        backward_chains<CELLS, TO_INPUTS, false, STRIDE>(current, variance, job, m, d, at);
    __syncthreads(); /* the draws have been read */
#pragma unroll
    for (int mt = 0; mt < 2; mt++)
#pragma unroll
        for (int nt = 0; nt < 4; nt++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int to = backward_row_of(mt, e / 2) * STRIDE + backward_column_of(nt, e % 2);
                d[to] = current[mt][nt][e]; /* zeros of a warp that is not active */
                if (CELLS)
                    d2[to] = variance[CELLS ? mt : 0][CELLS ? nt : 0][e];
            }
    __syncthreads();
    if (at.refs > 0) {
        backward_references<STRIDE>(job, m, d, at, base);
        __syncthreads();
    }
}

#endif
