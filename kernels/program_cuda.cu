/* A block programs 128 columns of a row tile: a lane takes four neighbours, which share a Philox block,
 * a warp takes every eighth row. Layers are small beside a device, so that a block takes 32 rows only,
 * but for chips with thermal noise, whose blocks add up whole columns. */
#include "kernels/program_cuda.h"

#include "kernels/normals_cuda.cuh"
#include "kernels/platform_cuda.h"
#include "kernels/program_cell.h"

enum {
    LANES = 32,
    ROWS = 8,
    STRIP = 4 * LANES,
    PART = 32,
    SLICES_MOST = 8,
    LEVELS = 256,
    TABLES = 8
};

struct program_job {
    ohm_tiles tiles;
    ohm_cell_gradient gradient; /* all NULL where there is none */
    float *physical;            /* written instead of tiles */
    const float *solved;
    const uint8_t *w_split;
    const uint32_t *step;
    double johnson_scale;
    ohm_geometry g;
    ohm_programming p;
    ohm_read_law read;
    uint8_t ref_level[SLICES_MOST];
    int part; /* rows of a block */
    ohm_program_places places;
};

/* What a device does at each level, in shared memory: neighbouring lanes want different levels. */
typedef double level_table[TABLES][LEVELS];
enum { MEAN, SIGMA, NU, NU_SIGMA, D_MEAN, D_SIGMA, D_NU, D_NU_SIGMA };

static __device__ __forceinline__ void fill_table(level_table &table, const program_job &job,
                                                  unsigned thread, int levels)
{
    for (int i = static_cast<int>(thread); i < levels; i += LANES * ROWS) {
        const ohm_level &at = job.p.level[i];
        table[MEAN][i] = at.mean;
        table[SIGMA][i] = at.sigma;
        table[NU][i] = at.nu;
        table[NU_SIGMA][i] = at.nu_sigma;
        table[D_MEAN][i] = at.d_mean;
        table[D_SIGMA][i] = at.d_sigma;
        table[D_NU][i] = at.d_nu;
        table[D_NU_SIGMA][i] = at.d_nu_sigma;
    }
}

/* Elements e..e+3 of a stream's exact normals. */
static __device__ __forceinline__ void draw_four(float (&z)[4], ohm_stream s, uint32_t site,
                                                 uint64_t e)
{
    s.site = site;
    ohm_exact_four(z, s, e >> 2);
    const unsigned skip = static_cast<unsigned>(e & 3);
    if (skip == 0)
        return;
    float next[4];
    ohm_exact_four(next, s, (e >> 2) + 1);
    float v[8] = {z[0], z[1], z[2], z[3], next[0], next[1], next[2], next[3]};
#pragma unroll
    for (int i = 0; i < 7; i++) /* shifts by selects: registers have no index */
        v[i] = skip & 1 ? v[i + 1] : v[i];
#pragma unroll
    for (int i = 0; i < 4; i++)
        z[i] = skip & 2 ? v[i + 2] : v[i];
}

/* ohm_cells_task of four cells at elements e..e+3: the same operations in the same order. */
static __device__ __forceinline__ void program_four(double (&g)[4], double (&slope)[4],
                                                    const program_job &job,
                                                    const level_table &table,
                                                    const unsigned (&level)[4], uint64_t e)
{
    const ohm_programming &p = job.p;
    float z[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        g[i] = table[MEAN][level[i]];
        slope[i] = table[D_MEAN][level[i]];
    }
    if (p.noise) {
        ohm_stream s = p.per_program;
        if (job.step)
            s.step = *job.step;
        draw_four(z, s, OHM_SITE_PROGRAM, e);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (isfinite(p.tolerance))
                z[i] = (float)ohm_truncate_normal(z[i], p.tolerance);
            if (p.lognormal) {
                const double factor = ohm_exp(table[SIGMA][level[i]] * z[i]);
                g[i] *= factor;
                slope[i] *= factor;
            } else {
                g[i] += table[SIGMA][level[i]] * z[i];
                slope[i] += table[D_SIGMA][level[i]] * z[i];
            }
            slope[i] = g[i] < 0.0 ? 0.0 : slope[i];
            g[i] = g[i] < 0.0 ? 0.0 : g[i];
        }
    }
    if (p.keep != OHM_KEEP_NONE || p.flicker != OHM_FLICKER_NONE) {
        double written[4], d_written[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            written[i] = g[i];
            d_written[i] = slope[i];
            z[i] = 0.0f;
        }
        if (p.nu_random)
            draw_four(z, p.per_chip, OHM_SITE_DRIFT_NU, e);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (p.keep == OHM_KEEP_POWER) {
                const double value = table[NU][level[i]] + table[NU_SIGMA][level[i]] * z[i];
                const double d_value = table[D_NU][level[i]] + table[D_NU_SIGMA][level[i]] * z[i];
                const double nu = value < 0.0 ? -value : value;
                const double d_nu = value < 0.0 ? -d_value : d_value;
                const double factor = ohm_exp(-nu * p.log_ratio);
                slope[i] = factor * (slope[i] - g[i] * p.log_ratio * d_nu);
                g[i] *= factor;
            } else if (p.keep == OHM_KEEP_LOGARITHMIC) {
                g[i] = p.keep_scale * g[i] - p.keep_shift + p.keep_spread * z[i];
                slope[i] *= p.keep_scale;
            }
        }
        if (p.flicker != OHM_FLICKER_NONE) {
            ohm_stream s = p.per_time;
            if (job.step)
                s.step = ohm_programming_time_step(*job.step, s.step);
            draw_four(z, s, OHM_SITE_ONE_OVER_F, e);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                double q, dq;
                const double scale = p.flicker_scale * z[i];
                ohm_flicker_share(&q, &dq, p.flicker, written[i] / p.g_max);
                slope[i] =
                    slope[i] * (1.0 + q * scale) + g[i] * scale * dq * d_written[i] / p.g_max;
                g[i] *= 1.0 + q * scale;
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            slope[i] = g[i] < p.floor ? 0.0 : slope[i];
            g[i] = g[i] < p.floor ? p.floor : g[i];
        }
    }
    if (p.thermal) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            z[i] = 0.0f;
        if (p.activation_sigma > 0.0)
            draw_four(z, p.per_chip, OHM_SITE_ACTIVATION_ENERGY, e);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const double factor =
                ohm_exp(-(p.activation + p.activation_sigma * z[i]) * p.inverse_kelvin);
            g[i] *= factor;
            slope[i] *= factor;
        }
    }
    const double off = p.stuck_off, on = off + p.stuck_on, random = on + p.stuck_random;
    if (random > 0.0) {
        ohm_stream s = p.per_chip;
        s.site = OHM_SITE_FAULT;
        const uint64_t first = 2 * e; /* two words a cell: two blocks, three where e is odd */
        uint4 w[3] = {ohm_stream_block_cuda(s, first >> 2),
                      ohm_stream_block_cuda(s, (first >> 2) + 1), make_uint4(0, 0, 0, 0)};
        const bool odd = (first & 3) != 0;
        if (odd)
            w[2] = ohm_stream_block_cuda(s, (first >> 2) + 2);
        const unsigned word[8] = {odd ? w[0].z : w[0].x, odd ? w[0].w : w[0].y,
                                  odd ? w[1].x : w[0].z, odd ? w[1].y : w[0].w,
                                  odd ? w[1].z : w[1].x, odd ? w[1].w : w[1].y,
                                  odd ? w[2].x : w[1].z, odd ? w[2].y : w[1].w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const double u = ohm_uniform_of(word[2 * i]);
            if (u < random) {
                slope[i] = 0.0;
                g[i] = u < off  ? p.g_min
                       : u < on ? p.g_max
                                : ohm_stuck_level(&p, ohm_uniform_of(word[2 * i + 1]));
            }
        }
    }
}

static __device__ __forceinline__ double variance_of(const ohm_read_law &read, double before,
                                                     double after)
{
    const double share = before > 0.0 ? after / before : 1.0;
    return ohm_read_variance(&read, before, nullptr) * share * share;
}

/* Where a block works. */
struct strip {
    int slice, t, column_tile, begin, rows;
    int from, to;       /* rows of this block, of those of the tile */
    int first, columns; /* of the column tile: outputs, how many it has */
    int local;          /* this lane's first column within the column tile */
};

static __device__ __forceinline__ strip strip_of(const program_job &job)
{
    const ohm_geometry &g = job.g;
    const int pitch = ohm_tile_pitch(&g), strips = (pitch + STRIP - 1) / STRIP;
    const int x = static_cast<int>(blockIdx.x), tile = job.places.first + x / strips;
    strip at;
    at.slice = tile / (g.tiles * g.column_tiles);
    at.t = tile / g.column_tiles % g.tiles;
    at.column_tile = tile % g.column_tiles;
    at.begin = ohm_tile_begin(&g, at.t);
    at.rows = ohm_tile_begin(&g, at.t + 1) - at.begin;
    at.from = static_cast<int>(blockIdx.y) * job.part;
    at.to = at.from + job.part < at.rows ? at.from + job.part : at.rows;
    const int wide = g.column_tiles == 1 ? g.n : g.tile_columns;
    at.first = at.column_tile * wide;
    at.columns = g.n - at.first < wide ? g.n - at.first : wide;
    at.local = x % strips * STRIP + 4 * static_cast<int>(threadIdx.x);
    return at;
}

/* Four neighbouring cells of one array; those that do not exist are at level 0 and not used. */
static __device__ __forceinline__ void cells_of(double (&g)[4], double (&slope)[4],
                                                const program_job &job, const level_table &table,
                                                const strip &at, int sign, int r)
{
    const uint64_t e = ohm_cell_element(&job.g, at.slice, sign, at.begin + r, at.first + at.local);
    unsigned level[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        level[i] = at.local + i < at.columns ? __ldg(job.w_split + e + i) : 0u;
    program_four(g, slope, job, table, level, e);
}

static __device__ __forceinline__ double
reference_of(const program_job &job, const level_table &table, const strip &at, int r)
{
    const unsigned level = job.ref_level[at.slice];
    const unsigned levels[4] = {level, level, level, level};
    double g[4], slope[4];
    program_four(g, slope, job, table, levels,
                 ohm_ref_element(&job.g, at.slice, at.begin + r, at.column_tile));
    return g[0];
}

/* Index of a cell among those of the launch's places. */
static __device__ __forceinline__ size_t physical_index(const program_job &job, const strip &at,
                                                        int sign, int r, int c)
{
    const size_t before = static_cast<size_t>(job.places.first) *
                          ohm_physical_arrays(&job.g, &job.p) * job.p.physical_rows *
                          job.p.physical_columns;
    return ohm_physical_index(&job.g, &job.p, at.slice, at.t, at.column_tile, sign, r, c) - before;
}

/* ---- tiles as the wires see them ------------------------------------------------------------ */

static __global__ void program_physical(const __grid_constant__ program_job job)
{
    OHM_SHARED(double, table, [TABLES][LEVELS]);
    const ohm_geometry &g = job.g;
    const strip at = strip_of(job);
    if (at.from >= at.rows)
        return;
    fill_table(table, job, threadIdx.y * LANES + threadIdx.x, g.max_level + 1);
    __syncthreads();
    if (at.local >= at.columns)
        return;
    for (int r = at.from + static_cast<int>(threadIdx.y); r < at.to; r += ROWS) {
        for (int sign = 0; sign < (g.differential ? 2 : 1); sign++) {
            double cells[4], slope[4];
            cells_of(cells, slope, job, table, at, sign, r);
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (at.local + i < at.columns)
                    job.physical[physical_index(job, at, sign, r, at.local + i)] =
                        static_cast<float>(cells[i]);
        }
        if (!g.differential && at.local == 0)
            job.physical[physical_index(job, at, 0, r, -1)] =
                static_cast<float>(reference_of(job, table, at, r));
    }
}

static __global__ void fill_floats(float *x, size_t n, float value)
{
    const size_t i = static_cast<size_t>(blockIdx.x) * LANES * ROWS + threadIdx.x;
    if (i < n)
        x[i] = value;
}

/* ---- packed tiles --------------------------------------------------------------------------- */

static __device__ __forceinline__ double after_wires(const program_job &job, const strip &at,
                                                     int sign, int r, int c, double before)
{
    if (!job.solved)
        return before;
    const float g = job.solved[physical_index(job, at, sign, r, c)];
    return fmax(static_cast<double>(g), 0.0);
}

static __device__ __forceinline__ void store_four(float *to, const float (&v)[4])
{
    *reinterpret_cast<float4 *>(to) = make_float4(v[0], v[1], v[2], v[3]);
}

static __device__ __forceinline__ void store_gradient(const program_job &job, const strip &at,
                                                      int sign, int r, const double (&before)[4],
                                                      const double (&after)[4],
                                                      const double (&slope)[4])
{
    const size_t to = ohm_cell_element(&job.g, 0, sign, at.begin + r, at.first + at.local);
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (at.local + i < at.columns) {
            job.gradient.g[to + i] = static_cast<float>(before[i]);
            job.gradient.g_eff[to + i] = static_cast<float>(after[i]);
            job.gradient.slope[to + i] = static_cast<float>(slope[i]);
        }
}

/* One row: cells, packed floats, and their share of the columns' sums. */
template <bool gradient>
static __device__ __forceinline__ void program_row(const program_job &job, const level_table &table,
                                                   const strip &at, int r, double (&sum)[2][4],
                                                   double *ref_sum)
{
    const ohm_geometry &g = job.g;
    const int signs = g.differential ? 2 : 1, arrays = ohm_arrays(&g);
    double before[2][4], after[2][4], slope[4], ref = 0.0, ref_after = 0.0;
#pragma unroll
    for (int sign = 0; sign < 2; sign++) {
        if (sign >= signs)
            break;
        cells_of(before[sign], slope, job, table, at, sign, r);
#pragma unroll
        for (int i = 0; i < 4; i++)
            after[sign][i] = at.local + i < at.columns
                                 ? after_wires(job, at, sign, r, at.local + i, before[sign][i])
                                 : 0.0;
        if (gradient && at.slice == 0)
            store_gradient(job, at, sign, r, before[sign], after[sign], slope);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const double share = job.johnson_scale * after[sign][i];
            if (sign == 1 && arrays == 2) /* an index would put the sums into memory */
                sum[1][i] += share;
            else
                sum[0][i] += share;
        }
    }
    if (!g.differential) {
        ref = reference_of(job, table, at, r);
        ref_after = after_wires(job, at, 0, r, -1, ref);
        *ref_sum += job.johnson_scale * ref_after;
        if (at.local == 0) {
            const size_t to =
                (static_cast<size_t>(at.slice) * g.column_tiles + at.column_tile) * g.k + at.begin +
                r;
            job.tiles.ref[to] = static_cast<float>(ref_after - g.pedestal);
            if (job.tiles.ref_variance)
                job.tiles.ref_variance[to] =
                    static_cast<float>(variance_of(job.read, ref, ref_after));
            if (gradient && at.slice == 0) {
                const size_t cell =
                    static_cast<size_t>(at.begin + r) * g.column_tiles + at.column_tile;
                job.gradient.g_ref[cell] = static_cast<float>(ref);
                job.gradient.g_ref_eff[cell] = static_cast<float>(ref_after);
            }
        }
    }
    const int pitch = ohm_tile_pitch(&g), np = ohm_packed_columns(&g);
    const size_t to = ohm_packed_index(&g, at.t, r, at.column_tile * pitch + at.local);
    const bool pair = g.differential && !g.digital;
    const double single = g.digital ? g.pedestal : g.differential ? 0.0 : ref_after;
    const float scale = ohm_variance_scale(&g);
#pragma unroll
    for (int array = 0; array < 2; array++) {
        if (array >= arrays)
            break;
        float value[4], variance[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const bool there = at.local + i < at.columns;
            const double v = pair ? after[0][i] - after[1][i] : after[array][i] - single;
            value[i] = there ? ohm_held_conductance(&job.p, v) : 0.0f;
            variance[i] = 0.0f;
            if (job.tiles.variance && there) {
                double s2 = variance_of(job.read, before[array][i], after[array][i]);
                if (pair)
                    s2 += variance_of(job.read, before[1][i], after[1][i]);
                variance[i] = ohm_held_variance(&job.p, s2, scale);
            }
        }
        const size_t base =
            (static_cast<size_t>(at.slice) * arrays + array) * static_cast<size_t>(g.k) * np;
        store_four(job.tiles.w + base + to, value);
        if (job.tiles.variance)
            store_four(job.tiles.variance + base + to, variance);
    }
}

template <bool gradient>
static __global__ void program_tiles(const __grid_constant__ program_job job)
{
    OHM_SHARED(double, table, [TABLES][LEVELS]);
    OHM_SHARED(double, part, [ROWS][2][STRIP]);
    OHM_SHARED(double, ref_part, [ROWS]);
    const ohm_geometry &g = job.g;
    const int lane = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
    const strip at = strip_of(job);
    if (at.from >= at.rows)
        return;
    fill_table(table, job, threadIdx.y * LANES + threadIdx.x, g.max_level + 1);
    __syncthreads();
    const int arrays = ohm_arrays(&g), pitch = ohm_tile_pitch(&g);
    double sum[2][4] = {{0.0}}, ref_sum = 0.0;
    for (int r = at.from + y; r < at.to && at.local < pitch; r += ROWS)
        program_row<gradient>(job, table, at, r, sum, &ref_sum);
    if (!job.tiles.johnson)
        return;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        part[y][0][4 * lane + i] = sum[0][i];
        part[y][1][4 * lane + i] = sum[1][i];
    }
    if (lane == 0)
        ref_part[y] = ref_sum;
    __syncthreads();
    const double idle = job.johnson_scale * ohm_idle_conductance(&g, at.t);
    for (int i = y * LANES + lane; i < arrays * STRIP; i += ROWS * LANES) {
        const int array = i / STRIP, within = i % STRIP, column = at.local - 4 * lane + within;
        double total = idle * ohm_columns_seen(&g);
        for (int from = 0; from < ROWS; from++)
            total += part[from][array][within];
        if (column < pitch)
            job.tiles.johnson[((static_cast<size_t>(at.slice) * arrays + array) * g.tiles + at.t) *
                                  ohm_packed_columns(&g) +
                              at.column_tile * pitch + column] =
                column < at.columns ? static_cast<float>(total) : 0.0f;
    }
    if (!g.differential && job.tiles.ref_johnson && at.local == 0 && y == 0) {
        double total = idle;
        for (int from = 0; from < ROWS; from++)
            total += ref_part[from];
        job.tiles.ref_johnson[(static_cast<size_t>(at.slice) * g.tiles + at.t) * g.column_tiles +
                              at.column_tile] = static_cast<float>(total);
    }
}

/* ---- static errors of ADC columns ------------------------------------------------------------ */

struct error_job {
    ohm_column_error at[OHM_COLUMN_ERRORS_MOST];
    ohm_stream stream;
};

static __global__ void column_errors(const __grid_constant__ error_job job)
{
    const ohm_column_error &to = job.at[blockIdx.y];
    const size_t i = static_cast<size_t>(blockIdx.x) * (LANES * ROWS) + threadIdx.x;
    if (i >= to.count)
        return;
    ohm_stream s = job.stream;
    s.site = to.site;
    float z[4];
    ohm_exact_four(z, s, (to.first + i) >> 2);
    const unsigned which = static_cast<unsigned>(to.first + i);
    const float low = which & 1 ? z[1] : z[0], high = which & 1 ? z[3] : z[2];
    to.out[i] = static_cast<float>(to.mean + to.sigma * (which & 2 ? high : low));
}

extern "C" ohm_cuda_status ohm_column_errors_cuda(const ohm_column_error *errors, int count,
                                                  const ohm_stream *stream, ohm_cuda_stream s)
{
    error_job job = {};
    size_t most = 0;
    for (int i = 0; i < count; i++) {
        job.at[i] = errors[i];
        most = errors[i].count > most ? errors[i].count : most;
    }
    job.stream = *stream;
    const unsigned blocks = static_cast<unsigned>((most + LANES * ROWS - 1) / (LANES * ROWS));
    return OHM_LAUNCH(column_errors, dim3(blocks, count), LANES * ROWS, 0, s, job);
}

/* ---- launches ------------------------------------------------------------------------------- */

static program_job job_of(const ohm_geometry *g, const ohm_programming *p, const uint8_t *w_split,
                          const uint8_t *ref_level, const ohm_program_places *places,
                          const uint32_t *step)
{
    program_job job = program_job();
    job.g = *g;
    job.p = *p;
    job.p.law = nullptr;
    job.p.law_context = nullptr;
    job.w_split = w_split;
    job.step = step;
    job.part = PART;
    job.places = ohm_places_of(g, places);
    for (int i = 0; i < g->slices && !g->differential; i++)
        job.ref_level[i] = ref_level[i];
    return job;
}

static dim3 grid_of(const program_job &job)
{
    const ohm_geometry &g = job.g;
    const int strips = (ohm_tile_pitch(&g) + STRIP - 1) / STRIP,
              parts = (ohm_tile_rows_most(&g) + job.part - 1) / job.part;
    return dim3(static_cast<unsigned>(job.places.count) * static_cast<unsigned>(strips),
                static_cast<unsigned>(parts));
}

static ohm_cuda_status refuse_shape(const ohm_geometry *g)
{
    return g->slices > SLICES_MOST
               ? ohm_cuda_fail(OHM_CUDA_ARGUMENT, "program", "more than 8 slices")
               : OHM_CUDA_OK;
}

extern "C" ohm_cuda_status
ohm_program_cuda(const ohm_tiles *tiles, const ohm_cell_gradient *gradient, const ohm_geometry *g,
                 const ohm_programming *p, const ohm_read_law *read, double johnson_scale,
                 const uint8_t *w_split, const uint8_t *ref_level, const float *solved,
                 const ohm_program_places *places, const uint32_t *step, ohm_cuda_stream s)
{
    ohm_cuda_status status = refuse_shape(g);
    if (status == OHM_CUDA_OK && (p->ir != OHM_WIRES_NONE) != (solved != nullptr))
        status = ohm_cuda_fail(OHM_CUDA_ARGUMENT, "program",
                               "wires need solved tiles, and only wires do");
    if (status != OHM_CUDA_OK)
        return status;
    program_job job = job_of(g, p, w_split, ref_level, places, step);
    job.tiles = *tiles;
    if (gradient)
        job.gradient = *gradient;
    job.read = *read;
    job.johnson_scale = johnson_scale;
    job.solved = solved;
    if (tiles->johnson)
        job.part = ohm_tile_rows_most(g);
    return gradient
               ? OHM_LAUNCH((program_tiles<true>), grid_of(job), dim3(LANES, ROWS), 0, s, job)
               : OHM_LAUNCH((program_tiles<false>), grid_of(job), dim3(LANES, ROWS), 0, s, job);
}

extern "C" ohm_cuda_status
ohm_program_physical_cuda(float *physical, const ohm_geometry *g, const ohm_programming *p,
                          const uint8_t *w_split, const uint8_t *ref_level,
                          const ohm_program_places *places, const uint32_t *step, ohm_cuda_stream s)
{
    const size_t cells = ohm_physical_tiles(g, p, places) * static_cast<size_t>(p->physical_rows) *
                         static_cast<size_t>(p->physical_columns);
    ohm_cuda_status status = refuse_shape(g);
    if (status == OHM_CUDA_OK)
        status = OHM_LAUNCH(fill_floats,
                            static_cast<unsigned>((cells + LANES * ROWS - 1) / (LANES * ROWS)),
                            LANES * ROWS, 0, s, physical, cells, static_cast<float>(p->g_min));
    if (status != OHM_CUDA_OK)
        return status;
    program_job job = job_of(g, p, w_split, ref_level, places, step);
    job.physical = physical;
    return OHM_LAUNCH(program_physical, grid_of(job), dim3(LANES, ROWS), 0, s, job);
}
