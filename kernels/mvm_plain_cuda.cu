/* The plain MVM kernel: every mapping and effect of mvm.h in float, the reference of the tuned ones.
 * A block reads 8 rows of x on up to 128 packed columns, a thread one column; the products run over
 * a tile's rows in order, as mvm_simd.c's do. Reference columns of offset weights are read anew by
 * every block that needs them, in double. Per input a thread loads two words of four drives (one address
 * for all) and a conductance for 8 products: bound by what L2 gives, 4 bytes of w per 8 multiply-adds. */
#include "kernels/mvm_cuda.cuh"
#include "kernels/mvm_draws_cuda.cuh"

enum { ROWS = 8, WIDTH = 128, REFS = 8 /* column tiles that 128 columns can touch */ };

struct plain_shared {
    float drive[WIDTH][ROWS];    /* of the inputs whose number is the index modulo 128 */
    float lent[ROWS][WIDTH + 4]; /* draws of the DAC, of references; rows in different banks */
    float z[ROWS][WIDTH], z_adc[ROWS][WIDTH];
    float ref_z[ROWS][REFS], ref_z_adc[ROWS][REFS];
    float ref_pre[ROWS][REFS];   /* what a reference adds on the bit line */
    double ref_post[ROWS][REFS]; /* and subtracts after the ADC */
    double total[ROWS];
    float power[ROWS];
};

/* A block's work: where it is, and which read. */
struct plain_at {
    int row, column, columns; /* columns: packed ones of this block */
    int first_ref, refs;
    int phase, plane, slice, array, tile, begin, end; /* begin, end: inputs of the tile */
    uint64_t element; /* number of the read's draw for packed column 0 */
};

static __device__ void load_drive(const mvm_job &j, plain_shared &s, const plain_at &at, int from,
                                  int to)
{
    const ohm_geometry &g = j.g;
    const ohm_read &r = j.r;
    const bool noisy = r.dac_noise > 0.0f && !r.quiet && !j.range;
    const float *level = noisy ? r.dac_level : r.drive_level;
    if (noisy) { /* one draw per row of x, input and plane, on the voltage: a non-linear cell sees it bent */
        const uint64_t transforms = ohm_dac_pitch(&g) / 128;
        mvm_block_normals(s.lent, ROWS, j, OHM_SITE_DAC_NOISE, j.first_row + at.row,
                          (static_cast<uint64_t>(at.phase) * g.planes + at.plane) * transforms +
                              from / 128,
                          static_cast<uint64_t>(g.phases) * g.planes * transforms);
        __syncthreads();
    }
    for (int i = static_cast<int>(threadIdx.x); i < ROWS * (to - from);
         i += static_cast<int>(blockDim.x)) {
        const int row = i % ROWS, k = from + i / ROWS;
        float value = 0.0f;
        if (at.row + row < j.m) {
            int sign;
            const int digit = mvm_digit(g, j.x_u[static_cast<size_t>(at.row + row) * j.ldx + k],
                                        at.phase, at.plane, &sign);
            value = static_cast<float>(sign) * level[digit];
            if (noisy) {
                value += r.dac_noise * s.lent[row][k % 128];
                if (r.iv != OHM_CELL_LINEAR)
                    value = static_cast<float>(ohm_cell_drive(r.iv, r.iv_coefficient, r.v_read,
                                                              g.max_digit, value, nullptr));
            }
        }
        s.drive[k % 128][row] = value;
    }
}

/* Draws of this read into z, z_adc, ref_z, ref_z_adc. */
static __device__ void draw_read(const mvm_job &j, plain_shared &s, const plain_at &at)
{
    const ohm_geometry &g = j.g;
    const ohm_read &r = j.r;
    const uint64_t first = j.first_row + at.row, per_sample = ohm_draw_transforms(&g);
    const bool converts = r.adc_bits > 0;
    const uint64_t transform = (at.element + at.column) >> 7;
    if (r.read_noise)
        mvm_block_normals(s.z, ROWS, j, OHM_SITE_READ, first, transform, per_sample);
    if (converts && r.adc_noise > 0.0f && (r.static_errors || !r.read_noise))
        mvm_block_normals(r.read_noise ? s.z_adc : s.z, ROWS, j, OHM_SITE_ADC_NOISE, first,
                          transform, per_sample);
    const bool ref_adc = g.digital && converts && r.adc_noise > 0.0f;
    if (g.differential || (!r.read_noise && !ref_adc))
        return;
    const uint64_t e = at.element + ohm_packed_columns(&g) + at.first_ref;
    for (uint64_t t = e >> 7; t <= (e + at.refs - 1) >> 7; t++)
        for (int which = r.read_noise ? 0 : 1; which < (ref_adc ? 2 : 1); which++) {
            __syncthreads(); /* the draws before are not needed any more */
            mvm_block_normals(s.lent, ROWS, j, which ? OHM_SITE_ADC_NOISE : OHM_SITE_READ, first, t,
                              per_sample);
            __syncthreads();
            for (int i = static_cast<int>(threadIdx.x); i < ROWS * at.refs;
                 i += static_cast<int>(blockDim.x)) {
                const int row = i / at.refs, ref = i % at.refs;
                if ((e + ref) >> 7 == t)
                    (which ? s.ref_z_adc : s.ref_z)[row][ref] = s.lent[row][(e + ref) & 127];
            }
        }
}

/* What reference `ref` of the block adds before, or subtracts after, conversion, for one row. */
static __device__ void read_reference(const mvm_job &j, plain_shared &s, const plain_at &at,
                                      int row, int ref, double current, double variance, bool noisy)
{
    const ohm_geometry &g = j.g;
    const ohm_read &r = j.r;
    const ohm_tiles &w = j.w;
    const int ct = at.first_ref + ref;
    const size_t one = (static_cast<size_t>(at.slice) * g.tiles + at.tile) * g.column_tiles + ct;
    double noise = 0.0;
    if (noisy && r.read_noise) {
        variance += static_cast<double>(r.read_constant) * s.power[row] +
                    (w.ref_johnson ? w.ref_johnson[one] : 0.0f);
        noise = s.ref_z[row][ref] * sqrt(variance);
    }
    if (!g.digital) {
        s.ref_pre[row][ref] = static_cast<float>(-noise);
        return;
    }
    current += g.pedestal * s.total[row] + noise;
    if (r.adc_bits > 0 && !r.quiet && !j.range) {
        const mvm_column_error error = {w.ref_gain ? w.ref_gain[one] : 0.0f,
                                        w.ref_offset ? w.ref_offset[one] : 0.0f,
                                        w.ref_s_shape ? w.ref_s_shape[one] : 0.0f};
        const float lsb = mvm_lsb(j, at.plane, at.slice, ct * ohm_tile_pitch(&g)),
                    high = ohm_adc_high(&g, &r);
        float value = mvm_bend(r, high, static_cast<float>(current / lsb), error);
        if (r.adc_noise > 0.0f)
            value += r.adc_noise * s.ref_z_adc[row][ref];
        current = static_cast<double>(lsb) * rintf(mvm_limit(value, ohm_adc_low(&g, &r), high));
    }
    s.ref_post[row][ref] = current;
}

/* Current and variance of one column -> value at the quantiser -> code. */
struct plain_column {
    float lsb, inverse, johnson;
    mvm_column_error error;
};
static __device__ float convert(const mvm_job &j, const plain_column &c, float current,
                                float variance, float z, float z_adc)
{
    const ohm_read &r = j.r;
    const float high = ohm_adc_high(&j.g, &r), low = ohm_adc_low(&j.g, &r);
    float value = current;
    if (!r.static_errors) { /* gaussians that meet before the same quantiser are one */
        value *= c.inverse;
        if (r.read_noise || r.adc_noise > 0.0f)
            value += z * sqrtf(variance * (c.inverse * c.inverse) + r.adc_noise * r.adc_noise);
        return rintf(mvm_limit(value, low, high));
    }
    if (r.read_noise)
        value += z * sqrtf(variance);
    value = mvm_bend(r, high, value * c.inverse, c.error);
    if (r.adc_noise > 0.0f)
        value += r.adc_noise * z_adc;
    return rintf(mvm_limit(value, low, high));
}

static __device__ void count_current(const mvm_job &j, size_t range, float current)
{
    const float most = j.range[range];
    const int bin = most > 0.0f ? static_cast<int>(current / most * static_cast<float>(j.bins)) : 0;
    atomicAdd(&j.histogram[range * j.bins + (bin < j.bins ? bin : j.bins - 1)], 1u);
}

/* Noise-free currents of the column's rows: counted, or their largest kept. */
static __device__ void measure(const mvm_job &j, const plain_shared &s, const plain_at &at,
                               const float (&current)[ROWS], int c, int n)
{
    const ohm_geometry &g = j.g;
    const int pitch = ohm_tile_pitch(&g), width = j.range_per_column ? g.n : 1;
    const size_t range = (static_cast<size_t>(at.plane) * g.slices + at.slice) * width +
                         (j.range_per_column ? n : 0);
    /* a digital reference is converted in the range of the first column of its tile */
    const bool referred = !g.differential && g.digital && c % pitch == 0;
    float most = 0.0f;
    for (int row = 0; row < ROWS && at.row + row < j.m; row++) {
        const float value = fabsf(
            current[row] + (g.digital ? static_cast<float>(g.pedestal * s.total[row]) : 0.0f));
        const float reference =
            referred ? fabsf(static_cast<float>(s.ref_post[row][c / pitch - at.first_ref])) : 0.0f;
        if (j.histogram) {
            count_current(j, range, value);
            if (referred)
                count_current(j, range, reference);
        }
        most = fmaxf(most, fmaxf(value, reference));
    }
    /* non-negative floats are in the order of their bits; most blocks find a larger one there */
    if (!j.histogram && most > *static_cast<volatile const float *>(&j.range[range]))
        atomicMax(reinterpret_cast<int *>(&j.range[range]), __float_as_int(most));
}

/* What a thread holds of one read: its column, and where it adds up a reference or a row's drive. */
struct plain_read {
    float current[ROWS], variance[ROWS];
    double ref_current, ref_variance, total;
    float power;
};

/* What a thread works on throughout. */
struct plain_place {
    int c, n, ref;     /* packed column; output, or -1; its reference's number in the block */
    int panel;         /* row stride of the column's cells */
    bool codes, drawn; /* the currents are converted; noise is drawn */
    bool referred;     /* references are read */
    bool totals;       /* sums of a row's drive are wanted, or of its squares */
};

/* All rows' drive of one input: two words of four, the same for all threads. */
static __device__ __forceinline__ void drives_of(float (&drive)[ROWS], const plain_shared &s, int k)
{
    static_assert(ROWS == 8, "two words of four");
    const float4 *from = reinterpret_cast<const float4 *>(s.drive[k]);
    const float4 low = from[0], high = from[1];
    drive[0] = low.x;
    drive[1] = low.y;
    drive[2] = low.z;
    drive[3] = low.w;
    drive[4] = high.x;
    drive[5] = high.y;
    drive[6] = high.z;
    drive[7] = high.w;
}

/* Inputs from..to-1 of a tile, none beyond a multiple of 128. */
static __device__ __forceinline__ void add_cells(const mvm_job &j, const plain_shared &s,
                                                 const plain_at &at, const plain_place &p,
                                                 plain_read &read, int from, int to)
{
    const ohm_geometry &g = j.g;
    const ohm_tiles &w = j.w;
    const int tid = static_cast<int>(threadIdx.x), end = from % 128 + (to - from);
    if (p.n >= 0) {
        const size_t array = static_cast<size_t>(at.slice) * ohm_arrays(&g) + at.array;
        size_t cell = array * g.k * ohm_packed_columns(&g) +
                      ohm_packed_index(&g, at.tile, from - at.begin, p.c);
        const bool spreads = j.r.read_cells && p.drawn;
#pragma unroll 4
        for (int k = from % 128; k < end; k++, cell += p.panel) {
            float drive[ROWS];
            drives_of(drive, s, k);
            const float conductance = w.w[cell];
#pragma unroll
            for (int row = 0; row < ROWS; row++)
                read.current[row] = fmaf(drive[row], conductance, read.current[row]);
            if (!spreads)
                continue;
            const float spread = w.variance[cell];
#pragma unroll
            for (int row = 0; row < ROWS; row++)
                read.variance[row] = fmaf(drive[row] * drive[row], spread, read.variance[row]);
        }
    }
    if (p.referred && tid < ROWS * at.refs) {
        const int ct = at.first_ref + tid % at.refs;
        const size_t first = (static_cast<size_t>(at.slice) * g.column_tiles + ct) * g.k;
        for (int k = from; k < to; k++) {
            const double drive = s.drive[k % 128][tid / at.refs];
            read.ref_current += drive * w.ref[first + k];
            if (w.ref_variance)
                read.ref_variance += drive * drive * w.ref_variance[first + k];
        }
    }
    for (int k = from % 128; p.totals && tid < ROWS && k < end; k++) {
        const float drive = s.drive[k][tid];
        read.total += static_cast<double>(drive);
        read.power += drive * drive;
    }
}

/* Products over one tile. Without conversion they go to sums in pieces that float adds up exactly:
 * none exceeds 2^24. */
static __device__ __forceinline__ void multiply(const mvm_job &j, plain_shared &s,
                                                const plain_at &at, const plain_place &p,
                                                plain_read &read, double (&sums)[ROWS],
                                                double weight)
{
    const bool whole = p.codes || j.range;
    const int exact = (1 << 24) / (j.g.max_digit * j.g.max_level);
    int end = whole || exact > at.end - at.begin ? at.end : at.begin + exact;
    for (int from = at.begin, to; from < at.end; from = to) {
        to = (from / 128 + 1) * 128; /* draws of the DAC come in such blocks */
        to = to < end ? to : end;
        __syncthreads();
        load_drive(j, s, at, from, to);
        __syncthreads();
        add_cells(j, s, at, p, read, from, to);
        if (to < end || whole)
            continue;
        end = exact > at.end - to ? at.end : to + exact;
        for (int row = 0; row < ROWS; row++) {
            sums[row] += weight * static_cast<double>(read.current[row]);
            read.current[row] = 0.0f;
        }
    }
    if (threadIdx.x < ROWS) {
        s.total[threadIdx.x] = read.total;
        s.power[threadIdx.x] = read.power;
    }
}

/* Read noise and conversion of one tile's currents: codes and what their references take, or sums. */
static __device__ __forceinline__ void finish_read(const mvm_job &j, const plain_shared &s,
                                                   const plain_at &at, const plain_place &p,
                                                   plain_column &column, const plain_read &read,
                                                   int (&codes)[ROWS], double (&ref_sums)[ROWS],
                                                   double (&sums)[ROWS], double weight)
{
    const ohm_geometry &g = j.g;
    const ohm_read &r = j.r;
    const ohm_tiles &w = j.w;
    const size_t array = static_cast<size_t>(at.slice) * ohm_arrays(&g) + at.array,
                 error = (array * g.tiles + at.tile) * ohm_packed_columns(&g) + p.c;
    const int z_at = static_cast<int>((at.element + at.column) & 127) + p.c - at.column;
    const float cells = static_cast<float>(ohm_columns_seen(&g)),
                johnson = p.drawn && r.read_noise && w.johnson ? w.johnson[error] : 0.0f;
    column.error = {w.gain ? w.gain[error] : 0.0f, w.offset ? w.offset[error] : 0.0f,
                    w.s_shape ? w.s_shape[error] : 0.0f};
    for (int row = 0; row < ROWS; row++) {
        const double post = p.referred && g.digital ? s.ref_post[row][p.ref] : 0.0,
                     pedestal = g.digital ? g.pedestal * s.total[row] : 0.0;
        const float pre = p.referred && !g.digital ? s.ref_pre[row][p.ref] : 0.0f,
                    spread = cells * r.read_constant * s.power[row] + johnson + read.variance[row],
                    z = p.drawn ? s.z[row][z_at] : 0.0f;
        if (p.codes) {
            const bool two = r.read_noise && r.static_errors && r.adc_noise > 0.0f;
            const float current = read.current[row] + (static_cast<float>(pedestal) + pre),
                        code = convert(j, column, current, r.read_noise ? spread : 0.0f, z,
                                       two ? s.z_adc[row][z_at] : z);
            codes[row] += static_cast<int>(code);
            ref_sums[row] += post;
        } else {
            double value = pedestal - post + static_cast<double>(pre);
            if (p.drawn)
                value += static_cast<double>(z * sqrtf(spread));
            sums[row] += weight * value;
        }
    }
}

/* Reads of all row tiles: a phase, plane, slice and array each. */
static __host__ __device__ __forceinline__ int groups_of(const ohm_geometry &g)
{
    return g.phases * g.planes * g.slices * ohm_arrays(&g);
}

static __global__ void __launch_bounds__(WIDTH, 2) mvm_plain(const __grid_constant__ mvm_job j)
{
    OHM_SHARED(plain_shared, s);
    const ohm_geometry &g = j.g;
    const ohm_read &r = j.r;
    const int tid = static_cast<int>(threadIdx.x), packed = ohm_packed_columns(&g),
              pitch = ohm_tile_pitch(&g);
    const bool noise_on = !r.quiet && !j.range;
    plain_at at = {};
    at.row = static_cast<int>(blockIdx.x) * ROWS;
    at.column = static_cast<int>(blockIdx.y) * WIDTH;
    at.columns = packed - at.column < WIDTH ? packed - at.column : WIDTH;
    at.first_ref = at.column / pitch;
    at.refs = (at.column + at.columns - 1) / pitch + 1 - at.first_ref;
    plain_place p = {at.column + tid, -1, 0, 0, false, false, false, false};
    if (tid < at.columns) {
        p.n = mvm_output_column(g, p.c);
        p.ref = p.c / pitch - at.first_ref;
        p.panel = ohm_panel_width(&g, p.c - p.c % pitch % OHM_PANEL);
    }
    p.codes = r.adc_bits > 0 && noise_on;
    p.drawn = noise_on && (r.read_noise || (p.codes && r.adc_noise > 0.0f));
    /* in analog a reference's current is part of the cells' differences: only its noise is left */
    p.referred = !g.differential && (g.digital || (p.drawn && r.read_noise));
    p.totals = g.digital || (p.drawn && r.read_noise && r.read_constant > 0.0f);
    double sums[ROWS] = {};
    /* raw sums: a part of the row tiles each, see ohm_mvm_raw_parts_cuda */
    const int parts = j.raw ? static_cast<int>(gridDim.z) : 1,
              part = j.raw ? static_cast<int>(blockIdx.z) : 0, tiles_from = g.tiles * part / parts,
              tiles_to = g.tiles * (part + 1) / parts;

    const int first = j.partial ? static_cast<int>(blockIdx.z) : 0,
              end = j.partial ? first + 1 : groups_of(g);
    for (int group = first; group < end; group++) {
        at.array = group % ohm_arrays(&g);
        at.slice = group / ohm_arrays(&g) % g.slices;
        at.plane = group / (ohm_arrays(&g) * g.slices) % g.planes;
        at.phase = group / (ohm_arrays(&g) * g.slices * g.planes);
        const double weight = ldexp(at.phase != at.array ? -1.0 : 1.0,
                                    at.plane * g.dac_bits + at.slice * g.cell_bits);
        plain_column column = {};
        int codes[ROWS] = {};
        double ref_sums[ROWS] = {};
        if (p.codes && p.n >= 0) {
            column.lsb = mvm_lsb(j, at.plane, at.slice, p.c);
            column.inverse = 1.0f / column.lsb;
        }
        for (at.tile = tiles_from; at.tile < tiles_to; at.tile++) {
            plain_read read = {};
            at.begin = ohm_tile_begin(&g, at.tile);
            at.end = ohm_tile_begin(&g, at.tile + 1);
            at.element = ohm_read_index(&g, at.phase, at.plane, at.slice, at.array, at.tile) *
                         ohm_draw_pitch(&g);
            multiply(j, s, at, p, read, sums, weight);
            if (p.drawn)
                draw_read(j, s, at);
            __syncthreads();
            if (p.referred) {
                if (tid < ROWS * at.refs)
                    read_reference(j, s, at, tid / at.refs, tid % at.refs, read.ref_current,
                                   read.ref_variance, noise_on);
                __syncthreads();
            }
            if (p.n >= 0 && j.range)
                measure(j, s, at, read.current, p.c, p.n);
            else if (p.n >= 0)
                finish_read(j, s, at, p, column, read, codes, ref_sums, sums, weight);
        }
        for (int row = 0; p.codes && row < ROWS; row++)
            sums[row] += weight * (static_cast<double>(column.lsb) * codes[row] - ref_sums[row]);
    }
    if (j.partial && p.n >= 0) {
        double total = 0.0;
        for (int row = 0; row < ROWS && at.row + row < j.m; row++)
            total += sums[row];
        j.partial[(static_cast<size_t>(first) * gridDim.x + blockIdx.x) * g.n + p.n] = total;
        return;
    }
    for (int row = 0; p.n >= 0 && !j.range && row < ROWS && at.row + row < j.m; row++)
        mvm_deliver(j, sums[row], part * j.m + at.row + row, p.n);
}

static ohm_cuda_status launch(const mvm_job &j, ohm_cuda_stream s, int parts = 1)
{
    const int packed = ohm_packed_columns(&j.g),
              width = packed < WIDTH ? (packed + 31) / 32 * 32 : WIDTH;
    return OHM_LAUNCH(mvm_plain,
                      dim3((j.m + ROWS - 1) / ROWS, (packed + WIDTH - 1) / WIDTH,
                           j.partial ? groups_of(j.g) : parts),
                      width, 0, s, j);
}

extern "C" ohm_cuda_status ohm_mvm_plain_cuda(const ohm_mvm_output *y, const ohm_mvm_input *x,
                                              ohm_cuda_stream s)
{
    mvm_job j = mvm_job_of(x);
    j.out = *y;
    return launch(j, s);
}

extern "C" ohm_cuda_status ohm_mvm_raw_cuda(double *sums, int lds, const ohm_mvm_input *x,
                                            ohm_cuda_stream s)
{
    mvm_job j = mvm_job_of(x);
    j.raw = sums;
    j.lds = lds;
    return launch(j, s);
}

enum { PARTS_MOST = 16, ADD_THREADS = 256 };

static int parts_of(const ohm_geometry &g)
{
    return g.tiles < PARTS_MOST ? g.tiles : static_cast<int>(PARTS_MOST);
}

/* In the order of the parts. */
static __global__ void add_parts(double *sums, int lds, const double *partial, int parts, int m,
                                 int n)
{
    const size_t i = static_cast<size_t>(blockIdx.x) * ADD_THREADS + threadIdx.x,
                 count = static_cast<size_t>(m) * n;
    if (i >= count)
        return;
    double sum = partial[i];
    for (int part = 1; part < parts; part++)
        sum += partial[part * count + i];
    sums[i / n * lds + i % n] = sum;
}

extern "C" size_t ohm_mvm_raw_parts_doubles(const ohm_geometry *g, int m)
{
    return static_cast<size_t>(parts_of(*g)) * m * g->n;
}

extern "C" ohm_cuda_status ohm_mvm_raw_parts_cuda(double *sums, int lds, double *partial,
                                                  const ohm_mvm_input *x, ohm_cuda_stream s)
{
    mvm_job j = mvm_job_of(x);
    j.raw = partial;
    j.lds = x->g->n;
    const ohm_cuda_status status = launch(j, s, parts_of(*x->g));
    const size_t count = static_cast<size_t>(x->m) * x->g->n;
    return status == OHM_CUDA_OK
               ? OHM_LAUNCH(add_parts,
                            static_cast<unsigned>((count + ADD_THREADS - 1) / ADD_THREADS),
                            ADD_THREADS, 0, s, sums, lds, partial, parts_of(*x->g), x->m, x->g->n)
               : status;
}

enum { MEAN_COLUMNS = 32, MEAN_PARTS = 8 };

static __global__ void mvm_mean(double *mean, const double *partial, int parts, int n, double rows)
{
    OHM_SHARED(double, sum, [MEAN_PARTS][MEAN_COLUMNS]);
    const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y),
              c = static_cast<int>(blockIdx.x) * MEAN_COLUMNS + x;
    double own = 0.0;
    for (int i = y; c < n && i < parts; i += MEAN_PARTS)
        own += partial[static_cast<size_t>(i) * n + c];
    sum[y][x] = own;
    __syncthreads();
    if (y > 0 || c >= n)
        return;
    for (int i = 1; i < MEAN_PARTS; i++)
        own += sum[i][x];
    mean[c] = own / rows;
}

extern "C" size_t ohm_mvm_mean_doubles(const ohm_geometry *g, int m)
{
    return static_cast<size_t>(groups_of(*g)) * ((m + ROWS - 1) / ROWS) * g->n;
}

extern "C" ohm_cuda_status ohm_mvm_mean_cuda(double *mean, double *partial, const ohm_mvm_input *x,
                                             ohm_cuda_stream s)
{
    mvm_job j = mvm_job_of(x);
    j.partial = partial;
    const ohm_cuda_status status = launch(j, s);
    return status == OHM_CUDA_OK ? OHM_LAUNCH(mvm_mean, (x->g->n + MEAN_COLUMNS - 1) / MEAN_COLUMNS,
                                              dim3(MEAN_COLUMNS, MEAN_PARTS), 0, s, mean, partial,
                                              groups_of(*x->g) * ((x->m + ROWS - 1) / ROWS),
                                              x->g->n, static_cast<double>(x->m))
                                 : status;
}

extern "C" ohm_cuda_status ohm_mvm_range_cuda(float *range, uint32_t *histogram, int bins,
                                              int per_column, const ohm_mvm_input *x,
                                              ohm_cuda_stream s)
{
    mvm_job j = mvm_job_of(x);
    j.range = range;
    j.histogram = histogram;
    j.bins = bins;
    j.range_per_column = per_column;
    return launch(j, s);
}
