/* The gradient of exact IR drop, see the header and irdrop_adjoint.h. The adjoint field: sources at 0, terminal j
 * at 1 V. The driven one: sources at d_geff[:,j], terminals at 0. */
#include "kernels/irdrop_adjoint_cuda.h"

#include "kernels/irdrop_cuda.cuh"

enum {
    MARCH_THREADS = 64,
    MARCH_SIDES = 32, /* of each field: 16 lanes of a warp each */
    START_ROWS = 16,  /* of -E⁻¹·driven, per thread */
    FOLD = 16,        /* cells whose products a warp adds up together */
    PREPARE_THREADS = 128,
    WIDE_THREADS = 256,
    WIDE_BLOCKS = 128, /* most tiles in work at once, each with memory of its own */
    WIDE_ROWS = 4,     /* of a product, per thread */
    SLOTS = 5          /* starts of segments that are kept */
};
static const size_t MARCH_BYTES = static_cast<size_t>(128)
                                  << 20;                         /* of the tiles in work at once, */
static const size_t WIDE_BYTES = static_cast<size_t>(256) << 20; /* unless one needs more */

/* How far voltages may grow along a line, its far side at 0. In float the driven field is a difference of
 * grown terms and loses as many digits: largest error seen 5e-6. In double what counts is that elimination
 * needs no pivots. */
static const float MARCH_GROWTH = 30.0f, MARCH_GROWTH_OF_BOTH = 100.0f;
static const double WIDE_GROWTH = 1e3;

struct adjoint_job {
    ohm_circuit c;
    float *dg;
    const float *d_geff, *g;
    int *status, *borders;
    int tiles, everything; /* everything: not only what is pending */
    char *scratch;
    size_t each; /* scratch bytes of a tile, or of a block */
};

/* a [n][n] <- a⁻¹, Gauss and Jordan, no pivots. Columns belong to threads: nobody else need have written
 * them. column: [2][n], that of a step while the next one's is written. All threads come; false where a
 * pivot vanishes. */
template <class T> static __device__ bool invert(T *a, int n, T *column)
{
    const int tid = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    for (int i = 0; tid == 0 && i < n; i++) {
        column[i] = a[static_cast<size_t>(i) * n];
        a[static_cast<size_t>(i) * n] = 0;
    }
    __syncthreads();
    for (int k = 0; k < n; k++) {
        const T *f = column + (k & 1) * n;
        T *next = column + (~k & 1) * n;
        const T pivot = f[k], inverse = 1 / pivot;
        if (!(fabs(pivot) > static_cast<T>(1e-30)) || !isfinite(pivot))
            return false;
        for (int x = tid; x < n; x += threads) {
            const T share = (x == k ? 1 : a[static_cast<size_t>(k) * n + x]) * inverse;
            for (int i = 0; i < n; i++) {
                T *at = a + static_cast<size_t>(i) * n + x;
                const T value = i == k ? share : fma(-f[i], share, *at);
                if (x == k + 1)
                    next[i] = value;
                *at = x == k + 1 ? 0 : value;
            }
        }
        __syncthreads();
    }
    return true;
}

/* ---- the march in registers -------------------------------------------------------------------- */

/* Memory of a tile. */
struct narrow {
    float *p;    /* [rows][n] ohm_transfer_row */
    float *line; /* [rows] a row's conductance from its source */
    /* [3][n][n], column = right-hand side: how the adjoint field (less 1 on its own line) and the driven one
     * start; the first was, and the third is, what 1 V and 0 have come to */
    float *field;
    float *part; /* [parts][rows][n] sums of products */
};

static __host__ __device__ inline int parts_of(const ohm_circuit &c)
{
    return (c.columns + MARCH_SIDES - 1) / MARCH_SIDES;
}

static __host__ __device__ inline size_t carve_narrow(narrow *m, const ohm_circuit &c, char *base)
{
    const size_t n = c.columns, rows = c.rows;
    const size_t counts[] = {rows * n, rows, 3 * n * n, parts_of(c) * rows * n};
    size_t at[5] = {0};
    for (int i = 0; i < 4; i++)
        at[i + 1] = at[i] + (counts[i] * sizeof(float) + 255) / 256 * 256;
    if (m) {
        m->p = reinterpret_cast<float *>(base);
        m->line = reinterpret_cast<float *>(base + at[1]);
        m->field = reinterpret_cast<float *>(base + at[2]);
        m->part = reinterpret_cast<float *>(base + at[3]);
    }
    return at[4];
}

/* Which tiles the march can take, and the transfers of their rows. */
static __global__ void __launch_bounds__(PREPARE_THREADS, 4)
    adjoint_prepare(const __grid_constant__ adjoint_job job)
{
    OHM_SHARED(float, growths, [2][PREPARE_THREADS]);
    const ohm_circuit &c = job.c;
    const int tid = static_cast<int>(threadIdx.x), n = c.columns,
              tile = static_cast<int>(blockIdx.x);
    const size_t cells = static_cast<size_t>(c.rows) * n;
    const float *g = job.g + tile * cells, *d_geff = job.d_geff + tile * cells;
    narrow m = {};
    carve_narrow(&m, c, job.scratch + tile * job.each);
    bool bad = false;
    float along_bits = 1.0f, along_words = 1.0f; /* growth */
    for (int i = tid; i < n; i += PREPARE_THREADS) {
        const float growth = ohm_growth_of(g, c, i);
        bad |= isnan(growth);
        along_bits = fmaxf(along_bits, growth);
    }
    for (size_t i = tid; i < cells; i += PREPARE_THREADS)
        bad |= !isfinite(d_geff[i]);
    for (int r = tid; r < c.rows; r += PREPARE_THREADS) {
        const ohm_march_line line = ohm_transfer_row(m.p + static_cast<size_t>(r) * n, g, c, r);
        m.line[r] = static_cast<float>(line.conductance);
        along_words = fmaxf(along_words, line.growth);
    }
    growths[0][tid] = along_bits;
    growths[1][tid] = along_words;
    bad = __syncthreads_or(bad) != 0;
    if (tid == 0) {
        for (int i = 1; i < PREPARE_THREADS; i++) {
            along_bits = fmaxf(along_bits, growths[0][i]);
            along_words = fmaxf(along_words, growths[1][i]);
        }
        const bool steep = along_bits > MARCH_GROWTH || along_words > MARCH_GROWTH ||
                           along_bits * along_words > MARCH_GROWTH_OF_BOTH;
        job.status[tile] = bad     ? static_cast<int>(OHM_SOLVE_NOT_FINITE)
                           : steep ? static_cast<int>(OHM_MARCH_PENDING)
                                   : static_cast<int>(OHM_SOLVE_OK);
        if (job.borders)
            job.borders[tile] = 0;
    }
}

/* What one right-hand side carries along a row. */
struct march_state {
    float w, q, m; /* word line's voltage, current to the source, next row's current so far */
};

/* Two lanes' worth of values become one's: the lower half of the indices goes to the lane without `bit`. */
template <int half>
static __device__ __forceinline__ void halve(float (&t)[FOLD], int lane, int bit)
{
#pragma unroll
    for (int i = 0; i < half; i++) {
        const float mine = lane & bit ? t[half + i] : t[i], given = lane & bit ? t[i] : t[half + i];
        t[i] = mine + __shfl_xor_sync(0xFFFFFFFFu, given, bit);
    }
}

/* Σ over 16 right-hand sides of adjoint·driven, t: voltages across 16 cells. Lanes 2i and 2i + 1 return cell i's. */
static __device__ __forceinline__ float fold(float (&t)[FOLD], int lane)
{
#pragma unroll
    for (int i = 0; i < FOLD / 2; i++) {
        const float mine = lane & 16 ? t[FOLD / 2 + i] : t[i],
                    given = lane & 16 ? t[i] : t[FOLD / 2 + i];
        t[i] = mine * __shfl_xor_sync(0xFFFFFFFFu, given, 16);
    }
    halve<4>(t, lane, 8);
    halve<2>(t, lane, 4);
    halve<1>(t, lane, 2);
    return t[0] + __shfl_xor_sync(0xFFFFFFFFu, t[0], 1);
}

/* A row's shared memory: conductances, the next row's p, and where products go (NULL: nowhere). */
struct march_row {
    const float *d, *p;
    float *sums;
    float word, bit;
};

/* Cells first..first+31 of a row. b is the bit lines' voltage, less 1 on line `own`, which small drops would
 * drown in. unit: `own` may be one of these lines. */
template <int first, bool unit, bool follow, int N>
static __device__ __forceinline__ void march_cells(march_state &s, float (&k)[N], float *b,
                                                   const march_row &row, int own)
{
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int group = first; group < first + 32; group += FOLD) {
        float across[FOLD];
#pragma unroll
        for (int c = group; c < group + FOLD; c++) {
            float v = b[c * MARCH_THREADS], t = v - s.w;
            if (unit && c == own)
                t += 1.0f;
            k[c] = fmaf(row.d[c], t, k[c]);
            s.q = fmaf(-row.d[c], t, s.q);
            s.w = fmaf(row.word, s.q, s.w);
            v = fmaf(row.bit, k[c], v);
            b[c * MARCH_THREADS] = v;
            s.m = fmaf(row.p[c], v, s.m);
            across[c - group] = t;
        }
        if (follow) {
            const float sum = fold(across, lane);
            if (lane % 2 == 0)
                row.sums[group + lane / 2] = sum;
        }
    }
}

/* From cell `first` to the end; the places in k are constants, else they would leave the registers. */
template <int first, bool follow, int N>
static __device__ __forceinline__ void march_cells_from(march_state &s, float (&k)[N], float *b,
                                                        const march_row &row, int own, int part)
{
    if constexpr (first < N) {
        if (part * MARCH_SIDES == first)
            march_cells<first, true, follow>(s, k, b, row, own);
        else
            march_cells<first, false, follow>(s, k, b, row, own);
        march_cells_from<first + 32, follow>(s, k, b, row, own, part);
    }
}

/* Both fields of 32 right-hand sides through the tile. Without follow they start from 1 V and from 0, and
 * what they come to is written; with it they start as solved for, and products are added up. */
template <int N, bool follow>
static __global__ void __launch_bounds__(MARCH_THREADS, 4)
    adjoint_march(const __grid_constant__ adjoint_job job)
{
    OHM_SHARED_DYNAMIC(float, voltages); /* [N][MARCH_THREADS] */
    OHM_SHARED(float, rows, [2][2][N]);
    OHM_SHARED(float, sums, [2][MARCH_THREADS / 32][N]);
    const ohm_circuit &c = job.c;
    const int x = static_cast<int>(threadIdx.x), n = c.columns, parts = parts_of(c),
              tile = static_cast<int>(blockIdx.x) / parts,
              part = static_cast<int>(blockIdx.x) % parts, driven = x % 32 / 16,
              j = part * MARCH_SIDES + x / 32 * 16 + x % 16;
    const size_t cells = static_cast<size_t>(c.rows) * n;
    const float *g = job.g + tile * cells, *d_geff = job.d_geff + tile * cells;
    if (job.status[tile] != OHM_SOLVE_OK)
        return;
    narrow m = {};
    carve_narrow(&m, c, job.scratch + tile * job.each);
    const size_t square = static_cast<size_t>(n) * n;
    float *field = m.field +
                   (!driven  ? 0
                    : follow ? square
                             : 2 * square) +
                   j,
          *b = voltages + x, *part_sums = m.part + part * cells;

    float arriving =
        !driven && j < n ? m.p[j] : 0.0f; /* current into the row's source, if that is at 0 */
    for (int i = 0; i < N; i++) {
        const float start = follow && i < n && j < n ? field[static_cast<size_t>(i) * n] : 0.0f;
        b[i * MARCH_THREADS] = start;
        if (follow && i < n)
            arriving = fmaf(m.p[i], start, arriving);
    }
    for (int i = x; i < N; i += MARCH_THREADS) {
        rows[0][0][i] = i < n ? g[ohm_cell_cuda(c, 0, i)] : 0.0f;
        rows[0][1][i] = i < n && c.rows > 1 ? m.p[n + i] : 0.0f;
    }
    float k[N], v = driven && j < n ? d_geff[ohm_cell_cuda(c, 0, j)] : 0.0f;
#pragma unroll
    for (int i = 0; i < N; i++)
        k[i] = 0.0f;
    __syncthreads();
    for (int r = 0; r < c.rows; r++) {
        constexpr int LOADS = (N + MARCH_THREADS - 1) / MARCH_THREADS;
        float further[LOADS][2];
#pragma unroll
        for (int l = 0; l < LOADS; l++) {
            const int i = l * MARCH_THREADS + x;
            further[l][0] = i < n && r + 1 < c.rows ? g[ohm_cell_cuda(c, r + 1, i)] : 0.0f;
            further[l][1] =
                i < n && r + 2 < c.rows ? m.p[static_cast<size_t>(r + 2) * n + i] : 0.0f;
        }
        const float further_v =
            driven && j < n && r + 1 < c.rows ? d_geff[ohm_cell_cuda(c, r + 1, j)] : 0.0f;
        const march_row row = {rows[r & 1][0], rows[r & 1][1], sums[r & 1][x / 32],
                               static_cast<float>(c.word),
                               static_cast<float>(r + 1 < c.rows ? c.bit : c.terminal)};
        const float source = fmaf(-v, m.line[r], arriving);
        march_state state = {fmaf(static_cast<float>(c.source), source, v), source,
                             driven ? 0.0f : row.p[j]};
        march_cells_from<0, follow>(state, k, b, row, driven ? -1 : j, part);
        arriving = state.m;
        v = further_v;
#pragma unroll
        for (int l = 0; l < LOADS; l++)
            if (l * MARCH_THREADS + x < N) {
                rows[(r + 1) & 1][0][l * MARCH_THREADS + x] = further[l][0];
                rows[(r + 1) & 1][1][l * MARCH_THREADS + x] = further[l][1];
            }
        __syncthreads();
        for (int i = x; follow && i < n; i += MARCH_THREADS)
            part_sums[static_cast<size_t>(r) * n + i] = sums[r & 1][0][i] + sums[r & 1][1][i];
    }
    for (int i = 0; !follow && j < n && i < n; i++)
        field[static_cast<size_t>(i) * n] = b[i * MARCH_THREADS];
}

/* Starts from ends: E = 1 + adjoint's; E⁻¹ and -E⁻¹·driven. */
static __global__ void __launch_bounds__(2 * OHM_MARCH_MOST, 2)
    adjoint_starts(const __grid_constant__ adjoint_job job)
{
    OHM_SHARED_DYNAMIC(float, e); /* [n][n] */
    OHM_SHARED(float, column, [2 * OHM_MARCH_MOST]);
    const int x = static_cast<int>(threadIdx.x), n = job.c.columns,
              tile = static_cast<int>(blockIdx.x);
    const size_t square = static_cast<size_t>(n) * n;
    if (job.status[tile] != OHM_SOLVE_OK)
        return;
    narrow m = {};
    carve_narrow(&m, job.c, job.scratch + tile * job.each);
    const float *driven = m.field + 2 * square + x % n;
    float *starts = m.field + x % n;
    for (int i = 0; x < n && i < n; i++)
        e[i * n + x] = starts[static_cast<size_t>(i) * n] + (i == x ? 1.0f : 0.0f);
    if (!invert(e, n, column)) {
        if (x == 0)
            job.status[tile] = OHM_SOLVE_SINGULAR;
        return;
    }
    for (int i = 0; x < n && i < n; i++)
        starts[static_cast<size_t>(i) * n] = e[i * n + x] - (i == x ? 1.0f : 0.0f);
    for (int first = x / n * START_ROWS; x < 2 * n && first < n; first += 2 * START_ROWS) {
        float sum[START_ROWS] = {0.0f};
        for (int l = 0; l < n; l++) {
            const float end = driven[static_cast<size_t>(l) * n];
#pragma unroll
            for (int i = 0; i < START_ROWS; i++)
                sum[i] = fmaf(-e[(first + i < n ? first + i : first) * n + l], end, sum[i]);
        }
#pragma unroll
        for (int i = 0; i < START_ROWS; i++)
            if (first + i < n)
                starts[square + static_cast<size_t>(first + i) * n] = sum[i];
    }
}

/* dg -= sum of the parts, unless some sum is no number. */
static __global__ void __launch_bounds__(WIDE_THREADS, 1)
    adjoint_collect(const __grid_constant__ adjoint_job job)
{
    const ohm_circuit &c = job.c;
    const int tid = static_cast<int>(threadIdx.x), tile = static_cast<int>(blockIdx.x),
              cells = c.rows * c.columns, parts = parts_of(c);
    if (job.status[tile] != OHM_SOLVE_OK)
        return;
    narrow m = {};
    carve_narrow(&m, c, job.scratch + tile * job.each);
    float *dg = job.dg + static_cast<size_t>(tile) * cells;
    bool finite = true;
    for (int i = tid; i < cells; i += WIDE_THREADS) {
        float sum = m.part[i];
        for (int part = 1; part < parts; part++)
            sum += m.part[static_cast<size_t>(part) * cells + i];
        m.part[i] = sum;
        finite &= isfinite(sum);
    }
    if (__syncthreads_or(!finite)) {
        if (tid == 0)
            job.status[tile] = OHM_SOLVE_NOT_FINITE;
        return;
    }
    for (int i = tid; i < cells; i += WIDE_THREADS)
        dg[ohm_cell_cuda(c, i / c.columns, i % c.columns)] -= m.part[i];
}

/* ---- the march in double, by segments ----------------------------------------------------------- */

/* Families of right-hand sides of a segment: unit voltages at its start; the sources at d_geff; the far
 * terminals of bit lines that are sensed twice at 1 V. The fields themselves take the places of the first two. */
enum { HOMOGENEOUS, DRIVEN, LIFTED };

/* Memory of a block. Squares are [n][n], column = right-hand side. */
struct wide {
    float *g, *v, *dg; /* [rows][n]: the tile, d_geff, products */
    double *ladder;    /* [rows][n] */
    double *b, *k, *j; /* [families] squares */
    double *field;     /* [2] squares: voltages where the current segment ends, then starts */
    double *
        start; /* [SLOTS][families] squares: how a segment starts, k = y·b + q; y, q of DRIVEN, q of LIFTED */
    double *u, *up; /* [n] growth bound */
    double *column; /* [2][n] */
    int *begin;     /* [rows + 1] first row of each segment */
    size_t square;
    int n, families;
};

static __host__ __device__ inline size_t carve_wide(wide *m, const ohm_circuit &c, char *base)
{
    const size_t n = c.columns, rows = c.rows, square = n * n, families = c.top > 0.0 ? 3 : 2;
    const size_t doubles[] = {rows * n, 3 * families * square, 2 * square,
                              SLOTS * families * square, 4 * n};
    size_t at[6] = {0};
    for (int i = 0; i < 5; i++)
        at[i + 1] = at[i] + (doubles[i] * sizeof(double) + 255) / 256 * 256;
    if (m) {
        m->square = square;
        m->n = c.columns;
        m->families = static_cast<int>(families);
        m->ladder = reinterpret_cast<double *>(base);
        m->b = reinterpret_cast<double *>(base + at[1]);
        m->k = m->b + families * square;
        m->j = m->k + families * square;
        m->field = reinterpret_cast<double *>(base + at[2]);
        m->start = reinterpret_cast<double *>(base + at[3]);
        m->u = reinterpret_cast<double *>(base + at[4]);
        m->up = m->u + n;
        m->column = m->up + n;
        m->g = reinterpret_cast<float *>(base + at[5]);
        m->v = m->g + rows * n;
        m->dg = m->v + rows * n;
        m->begin = reinterpret_cast<int *>(m->dg + rows * n);
    }
    return at[5] + ((3 * rows * n * sizeof(float) + (rows + 1) * sizeof(int)) + 255) / 256 * 256;
}

/* to = from + sign·x·y, all [n][n]; from may be to, NULL is 0. */
static __device__ void product(double *to, const double *from, double sign, const double *x,
                               const double *y, int n)
{
    const int groups = (n + WIDE_ROWS - 1) / WIDE_ROWS;
    for (int i = static_cast<int>(threadIdx.x); i < groups * n; i += WIDE_THREADS) {
        const int first = i / n * WIDE_ROWS, j = i % n;
        const double *row[WIDE_ROWS];
        double sum[WIDE_ROWS];
#pragma unroll
        for (int l = 0; l < WIDE_ROWS; l++) {
            row[l] = x + static_cast<size_t>(first + l < n ? first + l : first) * n;
            sum[l] = 0.0;
        }
        for (int at = 0; at < n; at++) {
            const double right = y[static_cast<size_t>(at) * n + j];
#pragma unroll
            for (int l = 0; l < WIDE_ROWS; l++)
                sum[l] = fma(row[l][at], right, sum[l]);
        }
#pragma unroll
        for (int l = 0; l < WIDE_ROWS; l++)
            if (first + l < n) {
                const size_t cell = static_cast<size_t>(first + l) * n + j;
                to[cell] = fma(sign, sum[l], from ? from[cell] : 0.0);
            }
    }
}

/* Share of a node's voltage that the row hands on, from the open end: what lies beyond draws y. */
static __device__ void ladder_row(const wide &m, const ohm_circuit &c, int r)
{
    const float *g = m.g + static_cast<size_t>(r) * m.n;
    double *a = m.ladder + static_cast<size_t>(r) * m.n, y = g[m.n - 1] + c.far;
    for (int i = m.n - 1; i > 0; i--) {
        a[i] = 1.0 / (1.0 + c.word * y);
        y = g[i - 1] + a[i] * y;
    }
    a[0] = 1.0 / (1.0 + c.source * y);
}

/* Row r for one right-hand side, as irdrop_fields_simd.c has it. j keeps the voltages across the cells. */
static __device__ void march_wide(const wide &m, const ohm_circuit &c, int r, int f, int side)
{
    const int n = m.n;
    const size_t first = f * m.square + side;
    const float *g = m.g + static_cast<size_t>(r) * n;
    const double *a = m.ladder + static_cast<size_t>(r) * n;
    double *b = m.b + first, *k = m.k + first, *j = m.j + first;
    const double down = r + 1 < c.rows ? c.bit : c.terminal,
                 v = f == DRIVEN ? m.v[static_cast<size_t>(r) * n + side] : 0.0;
    double sum = c.far * v;
    for (int i = n - 1; i >= 0; i--) {
        const size_t at = static_cast<size_t>(i) * n;
        j[at] = sum = fma(static_cast<double>(g[i]), b[at], (i + 1 < n ? a[i + 1] : 1.0) * sum);
    }
    double w = a[0] * fma(c.source, sum, v);
    for (int i = 0; i < n; i++) {
        const size_t at = static_cast<size_t>(i) * n;
        if (i > 0)
            w = a[i] * fma(c.word, j[at], w);
        const double t = b[at] - w, up = fma(static_cast<double>(g[i]), t, k[at]);
        k[at] = up;
        b[at] = fma(down, up, b[at]);
        j[at] = t;
    }
}

/* All families over one segment. */
static __device__ void cross(const wide &m, const ohm_circuit &c, int segment, int slot)
{
    const int n = m.n;
    const double *start = m.start + slot * m.families * m.square;
    for (int x = static_cast<int>(threadIdx.x); x < m.families * n; x += WIDE_THREADS) {
        const int f = x / n, side = x % n;
        for (int i = 0; i < n; i++) {
            const size_t at = f * m.square + static_cast<size_t>(i) * n + side;
            m.b[at] = f == HOMOGENEOUS && i == side ? 1.0 : 0.0;
            m.k[at] = start[at];
        }
        for (int r = m.begin[segment]; r < m.begin[segment + 1]; r++)
            march_wide(m, c, r, f, side);
    }
}

/* The next segment's start, from what cross() left of this one's. */
static __device__ bool hand_on(const wide &m, int slot)
{
    const int n = m.n;
    double *next = m.start + slot * m.families * m.square;
    if (!invert(m.b, n, m.column))
        return false;
    product(m.j, nullptr, 1.0, m.k, m.b, n);
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < n * n; i += WIDE_THREADS)
        next[i] = (m.j[i] + m.j[static_cast<size_t>(i % n) * n + i / n]) / 2;
    __syncthreads();
    for (int f = DRIVEN; f < m.families; f++)
        product(next + f * m.square, m.k + f * m.square, -1.0, next, m.b + f * m.square, n);
    __syncthreads();
    return true;
}

/* The fields' voltages, from the end of the segment that cross() has crossed to its start. */
static __device__ bool step_back(const wide &m)
{
    const int n = m.n;
    const double *driven = m.b + m.square, *lifted = driven + m.square;
    if (!invert(m.b, n, m.column))
        return false;
    for (int i = static_cast<int>(threadIdx.x); i < n * n; i += WIDE_THREADS) {
        m.j[i] = m.field[i] - (m.families > LIFTED ? lifted[i] : 0.0);
        m.j[m.square + i] = m.field[m.square + i] - driven[i];
    }
    __syncthreads();
    for (int f = 0; f < 2; f++)
        product(m.field + f * m.square, nullptr, 1.0, m.b, m.j + f * m.square, n);
    __syncthreads();
    return true;
}

/* Both fields through a segment, their products into dg. */
static __device__ void follow_wide(const wide &m, const ohm_circuit &c, int segment, int slot)
{
    const int tid = static_cast<int>(threadIdx.x), n = m.n;
    const double *y = m.start + slot * m.families * m.square, *driven = y + m.square,
                 *lifted = driven + m.square;
    product(m.k, m.families > LIFTED ? lifted : nullptr, 1.0, y, m.field, n);
    product(m.k + m.square, driven, 1.0, y, m.field + m.square, n);
    for (size_t i = tid; i < 2 * m.square; i += WIDE_THREADS)
        m.b[i] = m.field[i];
    for (int r = m.begin[segment]; r < m.begin[segment + 1]; r++) {
        __syncthreads();
        for (int x = tid; x < 2 * n; x += WIDE_THREADS)
            march_wide(m, c, r, x / n, x % n);
        __syncthreads();
        for (int i = tid / 32; i < n; i += WIDE_THREADS / 32) {
            const double *t = m.j + static_cast<size_t>(i) * n;
            double sum = 0.0;
            for (int side = tid % 32; side < n; side += 32)
                sum = fma(t[side], t[m.square + side], sum);
            for (int bit = 16; bit > 0; bit /= 2)
                sum += __shfl_xor_sync(0xFFFFFFFFu, sum, bit);
            if (tid % 32 == 0)
                m.dg[static_cast<size_t>(r) * n + i] = static_cast<float>(sum);
        }
    }
    __syncthreads();
}

/* Borders wherever a bit line alone, the far side of its cells at 0 V, would have grown past the limit. */
static __device__ int cut(const wide &m, const ohm_circuit &c)
{
    const int tid = static_cast<int>(threadIdx.x), n = m.n;
    int count = 0;
    if (tid == 0)
        m.begin[0] = 0;
    for (int i = tid; i < n; i += WIDE_THREADS) {
        m.u[i] = 1.0;
        m.up[i] = c.top;
    }
    for (int r = 0; r < c.rows; r++) {
        bool steep = false;
        for (int i = tid; i < n; i += WIDE_THREADS) {
            m.up[i] += static_cast<double>(m.g[static_cast<size_t>(r) * n + i]) * m.u[i];
            m.u[i] += (r + 1 < c.rows ? c.bit : c.terminal) * m.up[i];
            steep |= m.u[i] > WIDE_GROWTH;
        }
        if (!__syncthreads_or(steep) && r + 1 < c.rows)
            continue;
        count++;
        if (tid == 0)
            m.begin[count] = r + 1;
        for (int i = tid; i < n; i += WIDE_THREADS) {
            m.up[i] /= m.u[i];
            m.u[i] = 1.0;
        }
    }
    return count;
}

static __device__ int solve_wide(const wide &m, const adjoint_job &job, int tile, int *borders)
{
    const ohm_circuit &c = job.c;
    const int tid = static_cast<int>(threadIdx.x), n = m.n, cells = c.rows * n;
    const float *g = job.g + static_cast<size_t>(tile) * cells,
                *d_geff = job.d_geff + static_cast<size_t>(tile) * cells;
    float *dg = job.dg + static_cast<size_t>(tile) * cells;
    bool bad = false;
    for (int i = tid; i < cells; i += WIDE_THREADS) {
        const size_t cell = ohm_cell_cuda(c, i / n, i % n);
        m.g[i] = g[cell];
        m.v[i] = d_geff[cell];
        bad |= !(m.g[i] >= 0.0f) || !isfinite(m.g[i]) || !isfinite(m.v[i]);
    }
    if (__syncthreads_or(bad))
        return OHM_SOLVE_NOT_FINITE;
    for (int r = tid; r < c.rows; r += WIDE_THREADS)
        ladder_row(m, c, r);
    for (int i = tid; i < n * n; i += WIDE_THREADS) {
        const double unit = i / n == i % n ? 1.0 : 0.0;
        m.field[i] = unit;
        m.field[m.square + i] = 0.0;
        m.start[i] = c.top * unit;
        m.start[m.square + i] = 0.0;
        if (m.families > LIFTED)
            m.start[2 * m.square + i] = -c.top * unit;
    }
    const int segments = cut(m, c);
    *borders = segments - 1;
    __syncthreads();

    /* Segments from the last on. What lies before one is reached anew from the last start that is kept,
     * keeping those half-way; with no slot left, one segment at a time. */
    int kept[SLOTS] = {0}, slot = 0;
    for (int to = segments; to > 0; to--) {
        while (kept[slot] < to - 1) {
            const int from = kept[slot],
                      middle = slot + 2 < SLOTS ? from + (to - from) / 2 : to - 1;
            for (int i = from; i < middle; i++) {
                cross(m, c, i, i > from ? slot + 1 : slot);
                if (!hand_on(m, slot + 1))
                    return OHM_SOLVE_SINGULAR;
            }
            kept[++slot] = middle;
        }
        cross(m, c, to - 1, slot);
        if (!step_back(m))
            return OHM_SOLVE_SINGULAR;
        follow_wide(m, c, to - 1, slot);
        slot -= slot > 0;
    }
    for (int i = tid; i < cells; i += WIDE_THREADS)
        bad |= !isfinite(m.dg[i]);
    if (__syncthreads_or(bad))
        return OHM_SOLVE_NOT_FINITE;
    for (int i = tid; i < cells; i += WIDE_THREADS)
        dg[ohm_cell_cuda(c, i / n, i % n)] -= m.dg[i];
    return OHM_SOLVE_OK;
}

static __global__ void __launch_bounds__(WIDE_THREADS, 1)
    adjoint_wide(const __grid_constant__ adjoint_job job)
{
    wide m = {};
    carve_wide(&m, job.c, job.scratch + blockIdx.x * job.each);
    for (int tile = static_cast<int>(blockIdx.x); tile < job.tiles;
         tile += static_cast<int>(gridDim.x)) {
        if (!job.everything && job.status[tile] != OHM_MARCH_PENDING)
            continue;
        int borders = 0;
        const int status = solve_wide(m, job, tile, &borders);
        if (threadIdx.x == 0) {
            job.status[tile] = status;
            if (job.borders)
                job.borders[tile] = borders;
        }
    }
}

/* ---- launches -------------------------------------------------------------------------------- */

static int in_work(size_t bytes, size_t each, int most, int tiles)
{
    const size_t fit = bytes / each;
    most = fit < static_cast<size_t>(most) ? static_cast<int>(fit) : most;
    most = most > 0 ? most : 1;
    return most < tiles ? most : tiles;
}

static int march_tiles(const ohm_circuit &c, int tiles)
{
    return in_work(MARCH_BYTES, carve_narrow(nullptr, c, nullptr), tiles, tiles);
}

static int wide_blocks(const ohm_circuit &c, int tiles)
{
    return in_work(WIDE_BYTES, carve_wide(nullptr, c, nullptr),
                   ohm_march_fits(c) ? WIDE_BLOCKS / 4 : static_cast<int>(WIDE_BLOCKS), tiles);
}

/* One after the other the two kernels use the same memory. */
extern "C" size_t ohm_irdrop_adjoint_cuda_bytes(const ohm_crosspoint *tile, int tiles)
{
    const ohm_circuit c = ohm_circuit_of(tile);
    const size_t narrow_bytes = ohm_march_fits(c)
                                    ? carve_narrow(nullptr, c, nullptr) * march_tiles(c, tiles)
                                    : 0,
                 wide_bytes = carve_wide(nullptr, c, nullptr) * wide_blocks(c, tiles);
    return narrow_bytes > wide_bytes ? narrow_bytes : wide_bytes;
}

template <int N> static ohm_cuda_status launch_march(const adjoint_job &job, ohm_cuda_stream s)
{
    const int n = job.c.columns, blocks = job.tiles * parts_of(job.c);
    const size_t shared = N * MARCH_THREADS * sizeof(float);
    ohm_cuda_status launched = OHM_LAUNCH(adjoint_prepare, job.tiles, PREPARE_THREADS, 0, s, job);
    if (launched == OHM_CUDA_OK)
        launched = OHM_LAUNCH((adjoint_march<N, false>), blocks, MARCH_THREADS, shared, s, job);
    if (launched == OHM_CUDA_OK)
        launched = OHM_LAUNCH(adjoint_starts, job.tiles, (2 * n + 31) / 32 * 32,
                              static_cast<size_t>(N) * N * sizeof(float), s, job);
    if (launched == OHM_CUDA_OK)
        launched = OHM_LAUNCH((adjoint_march<N, true>), blocks, MARCH_THREADS, shared, s, job);
    if (launched == OHM_CUDA_OK)
        launched = OHM_LAUNCH(adjoint_collect, job.tiles, WIDE_THREADS, 0, s, job);
    return launched;
}

extern "C" ohm_cuda_status ohm_irdrop_adjoint_cuda(float *dg, const float *d_geff, const float *g,
                                                   int *status, int *borders,
                                                   const ohm_crosspoint *tile, int tiles,
                                                   void *scratch, ohm_cuda_stream s)
{
    const char *here = "ohm_irdrop_adjoint_cuda";
    if (tile->rows < 1 || tile->columns < 1 || tiles < 0)
        return ohm_cuda_fail(OHM_CUDA_ARGUMENT, here, "a tile has at least one row and one column");
    if (!ohm_wires_usable(&tile->wires))
        return ohm_cuda_fail(OHM_CUDA_ARGUMENT, here, "a resistance is negative or not finite");
    adjoint_job job = {};
    job.c = ohm_circuit_of(tile);
    if (job.c.columns > OHM_IRDROP_CUDA_MOST)
        return ohm_cuda_fail(OHM_CUDA_ARGUMENT, here,
                             "more than 1024 lines on both sides of a tile");
    job.scratch = static_cast<char *>(scratch);
    job.everything = !ohm_march_fits(job.c);
    const int n = job.c.columns, most = march_tiles(job.c, tiles);
    const size_t cells = static_cast<size_t>(tile->rows) * tile->columns;
    for (int first = 0; !job.everything && first < tiles; first += job.tiles) {
        job.tiles = tiles - first < most ? tiles - first : most;
        job.dg = dg + first * cells;
        job.d_geff = d_geff + first * cells;
        job.g = g + first * cells;
        job.status = status + first;
        job.borders = borders ? borders + first : nullptr;
        job.each = carve_narrow(nullptr, job.c, nullptr);
        const ohm_cuda_status launched = n <= 32   ? launch_march<32>(job, s)
                                         : n <= 64 ? launch_march<64>(job, s)
                                                   : launch_march<128>(job, s);
        if (launched != OHM_CUDA_OK)
            return launched;
    }
    job.dg = dg;
    job.d_geff = d_geff;
    job.g = g;
    job.status = status;
    job.borders = borders;
    job.tiles = tiles;
    job.each = carve_wide(nullptr, job.c, nullptr);
    return OHM_LAUNCH(adjoint_wide, wide_blocks(job.c, tiles), WIDE_THREADS, 0, s, job);
}
