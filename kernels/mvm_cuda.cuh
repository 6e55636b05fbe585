/* Inside of the MVM kernels: what a launch carries, normals of a block of rows, conversion. */
#ifndef OHM_KERNELS_MVM_CUDA_CUH
#define OHM_KERNELS_MVM_CUDA_CUH

#include "kernels/mvm_cuda.h"
#include "kernels/normals_math.h"
#include "kernels/platform_cuda.h"

/* A launch's parameters, by value. */
struct mvm_job {
    ohm_geometry g;
    ohm_read r;
    ohm_tiles w;
    ohm_mvm_output out;
    const uint8_t *x_u;
    const uint32_t *step; /* of the draws, or NULL: r's */
    int ldx, m;
    uint64_t first_row;
    double *raw; /* uncorrected sums instead of out, or */
    int lds;
    double *partial; /* [groups][blocks of rows][n]: sums over a block's rows, a group each, or */
    float *range;        /* the largest currents instead, or */
    uint32_t *histogram; /* with the range known their counts */
    int bins, range_per_column;
};

static inline mvm_job mvm_job_of(const ohm_mvm_input *x)
{
    mvm_job j = {};
    j.g = *x->g;
    j.r = *x->r;
    j.w = *x->w;
    j.x_u = x->x_u;
    j.step = x->step;
    j.ldx = x->ldx;
    j.m = x->m;
    j.first_row = x->first_row;
    return j;
}

/* Output column at packed column c; -1 = padding. */
static __device__ __forceinline__ int mvm_output_column(const ohm_geometry &g, int c)
{
    if (g.column_tiles == 1)
        return c < g.n ? c : -1;
    const int pitch = ohm_tile_pitch(&g), within = c % pitch,
              n = c / pitch * g.tile_columns + within;
    return within < g.tile_columns && n < g.n ? n : -1;
}

/* LSB of packed column c; padding takes the last column's. */
static __device__ __forceinline__ float mvm_lsb(const mvm_job &j, int plane, int slice, int c)
{
    const ohm_geometry &g = j.g;
    const float *lsb =
        j.r.lsb + (static_cast<size_t>(plane) * g.slices + slice) * (j.r.lsb_per_column ? g.n : 1);
    if (!j.r.lsb_per_column)
        return lsb[0];
    const int pitch = ohm_tile_pitch(&g),
              n = g.column_tiles == 1 ? c : c / pitch * g.tile_columns + c % pitch;
    return lsb[n < g.n ? n : g.n - 1];
}

/* A drive byte as the digit that one phase and plane drive: its index in a level table, and its sign. */
static __device__ __forceinline__ int mvm_digit(const ohm_geometry &g, unsigned code, int phase,
                                                int plane, int *sign)
{
    const bool is_signed = g.drive == OHM_DRIVE_TWO_PHASE || g.drive == OHM_DRIVE_SIGN_MAGNITUDE;
    const unsigned magnitude = is_signed ? code & 127u : code;
    const int negative = is_signed ? static_cast<int>(code >> 7) : 0;
    *sign = negative ? -1 : 1;
    if (g.drive == OHM_DRIVE_TWO_PHASE)
        *sign = negative == phase;
    return static_cast<int>(magnitude >> (plane * g.dac_bits) & static_cast<unsigned>(g.max_digit));
}

static __device__ __forceinline__ ohm_stream mvm_stream(const mvm_job &j, uint32_t site)
{
    ohm_stream s = j.r.stream;
    s.site = site;
    if (j.step)
        s.step = __ldg(j.step);
    return s;
}

/* ---- conversion ---------------------------------------------------------------------------- */

struct mvm_column_error { /* zeros where off */
    float gain, offset, s_shape;
};

/* The analogue value at the ADC in LSB, without ADC noise; *slope, where not NULL, its derivative. */
static __device__ __forceinline__ float mvm_bend(const ohm_read &r, float high, float value,
                                                 mvm_column_error e, float *slope = nullptr)
{
    float d = 1.0f + e.gain;
    if (e.s_shape != 0.0f) {
        const float y = value / high, bend = 1.0f + fabsf(e.s_shape * y);
        value = high * (y * (1.0f + fabsf(e.s_shape)) / bend);
        d *= (1.0f + fabsf(e.s_shape)) / (bend * bend);
    }
    value = value * (1.0f + e.gain) + e.offset;
    if (r.inl != 0.0f) {
        const double u = static_cast<double>(value / high);
        d *= 1.0f + r.inl * static_cast<float>(ohm_inl_slope(u)) / high;
        value += r.inl * static_cast<float>(ohm_inl_shape(u));
    }
    if (slope)
        *slope = d;
    return value;
}

/* An overload's NaN, too, is a code. */
static __device__ __forceinline__ float mvm_limit(float value, float low, float high)
{
    return value > low ? (value < high ? value : high) : low;
}

/* The raw sum of output (row, n) to where the job wants it. */
static __device__ __forceinline__ void mvm_deliver(const mvm_job &j, double sum, int row, int n)
{
    if (j.raw)
        j.raw[static_cast<size_t>(row) * j.lds + n] = sum;
    else
        j.out.y[static_cast<size_t>(row) * j.out.ldy + n] =
            ohm_mvm_rescale(&j.out, ohm_correct(&j.r, sum, n), row, n);
}

#endif
