/* Exact IR drop, see the header. Both kernels solve x·E = n without pivoting: E is a product of
 * matrices I + r·Y with Y diagonally dominant, and elimination by columns keeps it so; a pivot that
 * vanishes all the same is reported. Elimination is Jordan's: step k scales column k and takes it
 * out of every other one, so the same steps apply to any rows laid under E, and the multipliers
 * f[k][j] stay where E was. */
#include "kernels/irdrop_exact_cuda.h"

#include "kernels/irdrop_cuda.cuh"

enum {
    SOLVE_ROWS = 32, /* rows of n that a thread holds one column of */
    GENERAL_THREADS = 256,
    GENERAL_ROWS = 8, /* rows x columns that a thread of the general kernel holds */
    GENERAL_COLUMNS = OHM_IRDROP_CUDA_MOST / GENERAL_THREADS,
    GENERAL_BLOCKS = 128 /* most tiles in work at once, each with memory of its own */
};
static const size_t GENERAL_BYTES = static_cast<size_t>(256)
                                    << 20; /* and most memory, unless one tile needs more */

/* How far voltages may grow. The march in registers, which follows word lines as it does bit lines, loses
 * digits from a slope of about 6 on, where the bound is cosh 6; limits of the other as in irdrop_exact_cpu.c. */
static const float MARCH_GROWTH = 150.0f;
static const double GROWTH = 1e3, GROWTH_SENSED_TWICE = 10.0;
static const float LEAST_PIVOT = 1e-30f;

struct solve_job {
    ohm_circuit c;
    float *g_eff;
    const float *g;
    int *status, *renormalised;
    int tiles, everything; /* everything: not only what is pending */
    char *scratch;
    size_t each; /* scratch bytes of a tile, or of a block */
};

/* ---- the march in registers -------------------------------------------------------------------- */

/* What one right-hand side carries along a row. */
struct march_state {
    float w, q, m; /* word line's voltage, current to the source, next row's current so far */
};

/* Cells first..first+31 of one row, for right-hand side j. b is the bit lines' voltage, less 1 on line
 * j, which small drops would drown in. unit: j is one of these lines. */
template <int first, bool unit, int N>
static __device__ __forceinline__ void march_cells(march_state &s, float (&k)[N], float *b,
                                                   const float *d, const float *p, int j,
                                                   float word, float bit)
{
#pragma unroll
    for (int c = first; c < first + 32; c++) {
        float v = b[c * N], t = v - s.w;
        if (unit && c == j)
            t += 1.0f;
        k[c] = fmaf(d[c], t, k[c]);
        s.q = fmaf(-d[c], t, s.q);
        s.w = fmaf(word, s.q, s.w);
        v = fmaf(bit, k[c], v);
        b[c * N] = v;
        s.m = fmaf(p[c], v, s.m);
    }
}

/* From cell `first` to the end; the places in k are constants, else they would leave the registers. */
template <int first, int N>
static __device__ __forceinline__ void march_row(march_state &s, float (&k)[N], float *b,
                                                 const float *d, const float *p, int j, float word,
                                                 float bit)
{
    if constexpr (first < N) {
        if (j / 32 == first / 32)
            march_cells<first, true>(s, k, b, d, p, j, word, bit);
        else
            march_cells<first, false>(s, k, b, d, p, j, word, bit);
        march_row<first + 32>(s, k, b, d, p, j, word, bit);
    }
}

/* E in shared memory -> its multipliers. All threads come; false where a pivot vanishes. */
template <int N> static __device__ bool eliminate_shared(float *e, int n)
{
    const int j = static_cast<int>(threadIdx.x);
    for (int k = 0; k < n; k++) {
        const float pivot = e[k * N + k], inverse = 1.0f / pivot, f = e[k * N + j];
        if (!(fabsf(pivot) > LEAST_PIVOT) || !isfinite(pivot))
            return false;
        if (j > k && j < n)
            e[j * N + k] *= inverse;
        __syncthreads();
        if (j != k && j < n)
            for (int i = k + 1; i < n; i++)
                e[i * N + j] = fmaf(-e[i * N + k], f, e[i * N + j]);
        __syncthreads();
    }
    return true;
}

template <int N>
static __global__ void __launch_bounds__(N, N == 128 ? 3 : 1)
    irdrop_march(const __grid_constant__ solve_job job)
{
    OHM_SHARED_DYNAMIC(float, b); /* [N][N]: row = bit line, column = right-hand side */
    OHM_SHARED(float, rows, [2][2][N]);
    OHM_SHARED(float, column, [2][SOLVE_ROWS]);
    const ohm_circuit &c = job.c;
    const int j = static_cast<int>(threadIdx.x), n = c.columns, tile = static_cast<int>(blockIdx.x);
    const size_t cells = static_cast<size_t>(c.rows) * n;
    const float *g = job.g + tile * cells;
    float *out = job.g_eff + tile * cells,
          *p = reinterpret_cast<float *>(job.scratch + tile * job.each);

    const float growth = j < n ? ohm_growth_of(g, c, j) : 1.0f;
    bool steep = growth > MARCH_GROWTH;
    if (__syncthreads_or(isnan(growth))) {
        if (j == 0)
            job.status[tile] = static_cast<int>(OHM_SOLVE_NOT_FINITE);
        return;
    }
    for (int r = j; r < c.rows; r += N)
        steep |= ohm_transfer_row(p + static_cast<size_t>(r) * n, g, c, r).growth > MARCH_GROWTH;
    if (__syncthreads_or(steep)) { /* p is whole */
        if (j == 0)
            job.status[tile] = static_cast<int>(OHM_MARCH_PENDING);
        return;
    }
    for (int i = 0; i < N; i++)
        b[i * N + j] = 0.0f;
    rows[0][0][j] = j < n ? g[ohm_cell_cuda(c, 0, j)] : 0.0f;
    rows[0][1][j] = j < n && c.rows > 1 ? p[n + j] : 0.0f;
    __syncthreads();

    float k[N], source = j < n ? p[j] : 0.0f; /* current into the row's source */
#pragma unroll
    for (int i = 0; i < N; i++)
        k[i] = 0.0f;
    for (int r = 0; r < c.rows; r++) {
        const float *d = rows[r & 1][0], *next = rows[r & 1][1];
        const float further = j < n && r + 1 < c.rows ? g[ohm_cell_cuda(c, r + 1, j)] : 0.0f;
        const float further_p =
            j < n && r + 2 < c.rows ? p[static_cast<size_t>(r + 2) * n + j] : 0.0f;
        const float bit = static_cast<float>(r + 1 < c.rows ? c.bit : c.terminal),
                    word = static_cast<float>(c.word);
        march_state state = {static_cast<float>(c.source) * source, source, next[j]};
        if (j < n)
            out[ohm_cell_cuda(c, r, j)] = source; /* this row's conductances have been read */
        march_row<0>(state, k, b + j, d, next, j, word, bit);
        source = state.m;
        rows[(r + 1) & 1][0][j] = further;
        rows[(r + 1) & 1][1][j] = further_p;
        __syncthreads();
    }
    b[j * N + j] += 1.0f;
    __syncthreads();

    bool finite = true;
    if (!eliminate_shared<N>(b, n)) {
        if (j == 0)
            job.status[tile] = static_cast<int>(OHM_SOLVE_SINGULAR);
        return;
    }
    const float inverse = 1.0f / b[j * N + j];
    int side = 0; /* of column: written for one step while the last is still read */
    for (int first = 0; first < c.rows; first += SOLVE_ROWS) {
        float x[SOLVE_ROWS];
#pragma unroll
        for (int i = 0; i < SOLVE_ROWS; i++)
            x[i] = j < n && first + i < c.rows ? out[ohm_cell_cuda(c, first + i, j)] : 0.0f;
        for (int step = 0; step < n; step++, side ^= 1) {
            if (j == step) {
#pragma unroll
                for (int i = 0; i < SOLVE_ROWS; i++)
                    column[side][i] = x[i] *= inverse;
            }
            __syncthreads();
            const float f = j == step ? 0.0f : b[step * N + j];
#pragma unroll
            for (int i = 0; i < SOLVE_ROWS; i++)
                x[i] = fmaf(-column[side][i], f, x[i]);
        }
#pragma unroll
        for (int i = 0; i < SOLVE_ROWS; i++)
            if (j < n && first + i < c.rows) {
                out[ohm_cell_cuda(c, first + i, j)] = x[i];
                finite = finite && isfinite(x[i]);
            }
    }
    finite = __syncthreads_or(!finite) == 0;
    if (j == 0)
        job.status[tile] = static_cast<int>(finite ? OHM_SOLVE_OK : OHM_SOLVE_NOT_FINITE);
    if (j == 0 && job.renormalised)
        job.renormalised[tile] = 0;
}

/* ---- the general march ----------------------------------------------------------------------- */

/* Memory of a block. Matrices have one or two families of right-hand sides side by side: stride all. */
struct general {
    float *g, *ladder; /* [rows][n] */
    float *b, *k, *j;  /* [n][all] */
    float *source;     /* [rows][all] */
    double *u, *up;    /* [n] growth bound */
    int n, all;
};

static __host__ __device__ inline size_t carve_general(general *m, const ohm_circuit &c, char *base)
{
    const size_t n = c.columns, rows = c.rows, all = c.top > 0.0 ? 2 * n : n;
    const size_t counts[] = {2 * n * 2, rows * n, rows * n, n * all, n * all, n * all, rows * all};
    size_t at[8] = {0};
    for (int i = 0; i < 7; i++)
        at[i + 1] = at[i] + (counts[i] * sizeof(float) + 255) / 256 * 256;
    if (m) {
        m->u = reinterpret_cast<double *>(base);
        m->up = m->u + n;
        m->g = reinterpret_cast<float *>(base + at[1]);
        m->ladder = reinterpret_cast<float *>(base + at[2]);
        m->b = reinterpret_cast<float *>(base + at[3]);
        m->k = reinterpret_cast<float *>(base + at[4]);
        m->j = reinterpret_cast<float *>(base + at[5]);
        m->source = reinterpret_cast<float *>(base + at[6]);
        m->n = c.columns;
        m->all = static_cast<int>(all);
    }
    return at[7];
}

static __device__ void ladder_row(const general &m, const ohm_circuit &c, int r)
{
    const float *g = m.g + static_cast<size_t>(r) * m.n;
    float *a = m.ladder + static_cast<size_t>(r) * m.n;
    double y = g[m.n - 1] + c.far;
    for (int i = m.n - 1; i > 0; i--) {
        const double share = 1.0 / (1.0 + c.word * y);
        a[i] = static_cast<float>(share);
        y = g[i - 1] + share * y;
    }
    a[0] = static_cast<float>(1.0 / (1.0 + c.source * y));
}

/* One row for right-hand side i, as in irdrop_simd.c. */
static __device__ void march_general(const general &m, const ohm_circuit &c, int r, int i)
{
    const float *g = m.g + static_cast<size_t>(r) * m.n,
                *a = m.ladder + static_cast<size_t>(r) * m.n;
    const float bit = static_cast<float>(r + 1 < c.rows ? c.bit : c.terminal),
                word = static_cast<float>(c.word);
    float sum = 0.0f;
    for (int l = m.n - 1; l >= 0; l--) {
        const size_t at = static_cast<size_t>(l) * m.all + i;
        m.j[at] = sum = fmaf(g[l], m.b[at], (l + 1 < m.n ? a[l + 1] : 0.0f) * sum);
    }
    const float source = a[0] * sum;
    float w = static_cast<float>(c.source) * source;
    for (int l = 0; l < m.n; l++) {
        const size_t at = static_cast<size_t>(l) * m.all + i;
        const float b = m.b[at];
        if (l > 0)
            w = a[l] * fmaf(word, m.j[at], w);
        const float k = fmaf(g[l], b - w, m.k[at]);
        m.k[at] = k;
        m.b[at] = fmaf(bit, k, b);
    }
    m.source[static_cast<size_t>(r) * m.all + i] = fmaf(static_cast<float>(c.far), w, source);
}

static __device__ bool eliminate(float *e, int n, int stride)
{
    const int tid = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    for (int k = 0; k < n; k++) {
        const float pivot = e[static_cast<size_t>(k) * stride + k], inverse = 1.0f / pivot;
        if (!(fabsf(pivot) > LEAST_PIVOT) || !isfinite(pivot))
            return false;
        for (int i = k + 1 + tid; i < n; i += threads)
            e[static_cast<size_t>(i) * stride + k] *= inverse;
        __syncthreads();
        for (int j = tid; j < n; j += threads) {
            const float f = e[static_cast<size_t>(k) * stride + j];
            for (int i = k + 1; j != k && i < n; i++) {
                const size_t row = static_cast<size_t>(i) * stride;
                e[row + j] = fmaf(-e[row + k], f, e[row + j]);
            }
        }
        __syncthreads();
    }
    return true;
}

/* Column k of a few rows, from the thread that has it to all: one side is written while the other is read. */
struct general_column {
    float (*at)[GENERAL_ROWS]; /* [2], shared */
    int side;
};

/* x [height][n] <- x·e⁻¹, e eliminated. A thread keeps its columns of a few rows in registers. */
static __device__ void divide(float *x, int height, const float *e, int n, int stride,
                              general_column &column)
{
    const int tid = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    for (int first = 0; first < height; first += GENERAL_ROWS) {
        float held[GENERAL_COLUMNS][GENERAL_ROWS];
#pragma unroll
        for (int part = 0; part < GENERAL_COLUMNS; part++)
#pragma unroll
        for (int i = 0; i < GENERAL_ROWS; i++) {
            const int j = part * threads + tid;
            held[part][i] =
                j < n && first + i < height ? x[static_cast<size_t>(first + i) * stride + j] : 0.0f;
        }
        for (int k = 0; k < n; k++, column.side ^= 1) {
            const float *f = e + static_cast<size_t>(k) * stride;
#pragma unroll
            for (int part = 0; part < GENERAL_COLUMNS; part++)
                if (part * threads + tid == k) {
#pragma unroll
                    for (int i = 0; i < GENERAL_ROWS; i++)
                        column.at[column.side][i] = held[part][i] /= f[k];
                }
            __syncthreads();
#pragma unroll
            for (int part = 0; part < GENERAL_COLUMNS; part++) {
                const int j = part * threads + tid;
                const float factor = j < n && j != k ? f[j] : 0.0f;
#pragma unroll
                for (int i = 0; i < GENERAL_ROWS; i++)
                    held[part][i] = fmaf(-column.at[column.side][i], factor, held[part][i]);
            }
        }
#pragma unroll
        for (int part = 0; part < GENERAL_COLUMNS; part++)
#pragma unroll
        for (int i = 0; i < GENERAL_ROWS; i++) {
            const int j = part * threads + tid;
            if (j < n && first + i < height)
                x[static_cast<size_t>(first + i) * stride + j] = held[part][i];
        }
    }
}

/* y [height][n] -= x [height][n]·a [n][n], where a's diagonal counts less `unit`. */
static __device__ void subtract_product(float *y, const float *x, const float *a, int height, int n,
                                        int stride, float unit)
{
    const int tid = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    for (int i = tid; i < n * height; i += threads) {
        const int row = i / n, j = i % n;
        const float *from = x + static_cast<size_t>(row) * stride;
        float sum = 0.0f;
        for (int l = 0; l < n; l++)
            sum =
                fmaf(from[l], a[static_cast<size_t>(l) * stride + j] - (l == j ? unit : 0.0f), sum);
        y[static_cast<size_t>(row) * stride + j] -= sum;
    }
}

/* b = 1, k = k·b⁻¹, source = source·b⁻¹; of the second family what the first can represent is taken out. */
static __device__ bool renormalise(const general &m, const ohm_circuit &c, int rows,
                                   general_column &column)
{
    const int tid = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    if (!eliminate(m.b, m.n, m.all))
        return false;
    divide(m.k, m.n, m.b, m.n, m.all, column);
    divide(m.source, rows, m.b, m.n, m.all, column);
    if (c.top > 0.0) {
        __syncthreads();
        subtract_product(m.k + m.n, m.k, m.b + m.n, m.n, m.n, m.all, 0.0f);
        subtract_product(m.source + m.n, m.source, m.b + m.n, rows, m.n, m.all, 0.0f);
    }
    __syncthreads();
    for (int i = tid; i < m.n * m.all; i += threads)
        m.b[i] = i % m.all == i / m.all ? 1.0f : 0.0f;
    for (int i = tid; i < m.n; i += threads) {
        double sum = 0.0;
        for (int l = 0; l < m.n; l++)
            sum += fabs(static_cast<double>(m.k[static_cast<size_t>(i) * m.all + l]));
        m.u[i] = 1.0;
        m.up[i] = sum;
    }
    __syncthreads();
    return true;
}

static __device__ int solve_general(const general &m, const solve_job &job, const float *g,
                                    float *out, int *renormalised, general_column &column)
{
    const ohm_circuit &c = job.c;
    const int tid = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x), n = m.n;
    const double limit = c.top > 0.0 ? GROWTH_SENSED_TWICE : GROWTH;
    bool bad = false;
    for (int i = tid; i < c.rows * n; i += threads) {
        const float d = g[ohm_cell_cuda(c, i / n, i % n)];
        bad = bad || !(d >= 0.0f) || !isfinite(d);
        m.g[i] = d;
    }
    if (__syncthreads_or(bad))
        return OHM_SOLVE_NOT_FINITE;
    for (int r = tid; r < c.rows; r += threads)
        ladder_row(m, c, r);
    for (int i = tid; i < n * m.all; i += threads) {
        const int row = i / m.all, at = i % m.all;
        m.b[i] = at == row ? 1.0f : 0.0f;
        m.k[i] = static_cast<float>(at == row ? c.top : at == n + row ? -c.top : 0.0);
    }
    for (int i = tid; i < n; i += threads) {
        m.u[i] = 1.0;
        m.up[i] = c.top;
    }
    __syncthreads();
    for (int r = 0; r < c.rows; r++) {
        bool steep = false;
        for (int i = tid; i < n; i += threads) {
            m.up[i] += static_cast<double>(m.g[static_cast<size_t>(r) * n + i]) * m.u[i];
            m.u[i] += (r + 1 < c.rows ? c.bit : c.terminal) * m.up[i];
            steep = steep || m.u[i] > limit;
        }
        for (int i = tid; i < m.all; i += threads)
            march_general(m, c, r, i);
        if (__syncthreads_or(steep) && r + 1 < c.rows) {
            if (!renormalise(m, c, r + 1, column))
                return OHM_SOLVE_SINGULAR;
            ++*renormalised;
        }
    }
    if (!eliminate(m.b, n, m.all))
        return OHM_SOLVE_SINGULAR;
    divide(m.source, c.rows, m.b, n, m.all, column);
    if (c.top > 0.0) { /* both terminals of a bit line at 1 V: n1·e1⁻¹·(1 - e2) + n2 */
        __syncthreads();
        subtract_product(m.source + n, m.source, m.b + n, c.rows, n, m.all, 1.0f);
    }
    __syncthreads();
    bool finite = true;
    for (int i = tid; i < c.rows * n; i += threads) {
        const float value = m.source[static_cast<size_t>(i / n) * m.all + (m.all - n) + i % n];
        finite = finite && isfinite(value);
        out[ohm_cell_cuda(c, i / n, i % n)] = value;
    }
    return __syncthreads_or(!finite) ? OHM_SOLVE_NOT_FINITE : OHM_SOLVE_OK;
}

static __global__ void __launch_bounds__(GENERAL_THREADS)
    irdrop_general(const __grid_constant__ solve_job job)
{
    OHM_SHARED(float, shared_column, [2][GENERAL_ROWS]);
    general_column column = {shared_column, 0};
    const size_t cells = static_cast<size_t>(job.c.rows) * job.c.columns;
    general m = {};
    carve_general(&m, job.c, job.scratch + blockIdx.x * job.each);
    for (int tile = static_cast<int>(blockIdx.x); tile < job.tiles;
         tile += static_cast<int>(gridDim.x)) {
        if (!job.everything && job.status[tile] != OHM_MARCH_PENDING)
            continue;
        int renormalised = 0;
        const int status = solve_general(m, job, job.g + tile * cells, job.g_eff + tile * cells,
                                         &renormalised, column);
        if (threadIdx.x == 0) {
            job.status[tile] = status;
            if (job.renormalised)
                job.renormalised[tile] = renormalised;
        }
    }
}

/* ---- launches -------------------------------------------------------------------------------- */

static size_t march_bytes(const ohm_circuit &c)
{
    return (static_cast<size_t>(c.rows) * c.columns * sizeof(float) + 255) / 256 * 256;
}

static int general_blocks(const ohm_circuit &c, int tiles)
{
    const size_t fit = GENERAL_BYTES / carve_general(nullptr, c, nullptr);
    int blocks = fit < GENERAL_BLOCKS ? static_cast<int>(fit) : static_cast<int>(GENERAL_BLOCKS);
    blocks = ohm_march_fits(c) && blocks > GENERAL_BLOCKS / 4 ? GENERAL_BLOCKS / 4 : blocks;
    blocks = blocks > 0 ? blocks : 1;
    return blocks < tiles ? blocks : tiles;
}

extern "C" size_t ohm_irdrop_exact_cuda_bytes(const ohm_crosspoint *tile, int tiles)
{
    const ohm_circuit c = ohm_circuit_of(tile);
    return (ohm_march_fits(c) ? march_bytes(c) * tiles : 0) +
           carve_general(nullptr, c, nullptr) * general_blocks(c, tiles);
}

template <int N> static ohm_cuda_status launch_march(const solve_job &job, ohm_cuda_stream s)
{
    return OHM_LAUNCH((irdrop_march<N>), job.tiles, N, N * N * sizeof(float), s, job);
}

extern "C" ohm_cuda_status ohm_irdrop_exact_cuda(float *g_eff, const float *g, int *status,
                                                 int *renormalised, const ohm_crosspoint *tile,
                                                 int tiles, void *scratch, ohm_cuda_stream s)
{
    const char *here = "ohm_irdrop_exact_cuda";
    if (tile->rows < 1 || tile->columns < 1 || tiles < 0)
        return ohm_cuda_fail(OHM_CUDA_ARGUMENT, here, "a tile has at least one row and one column");
    if (!ohm_wires_usable(&tile->wires))
        return ohm_cuda_fail(OHM_CUDA_ARGUMENT, here, "a resistance is negative or not finite");
    solve_job job = {};
    job.c = ohm_circuit_of(tile);
    if (job.c.columns > OHM_IRDROP_CUDA_MOST)
        return ohm_cuda_fail(OHM_CUDA_ARGUMENT, here,
                             "more than 1024 lines on both sides of a tile");
    job.g_eff = g_eff;
    job.g = g;
    job.status = status;
    job.renormalised = renormalised;
    job.tiles = tiles;
    job.scratch = static_cast<char *>(scratch);
    job.everything = !ohm_march_fits(job.c);
    if (!job.everything) {
        job.each = march_bytes(job.c);
        const int n = job.c.columns;
        ohm_cuda_status launched = n <= 32   ? launch_march<32>(job, s)
                                   : n <= 64 ? launch_march<64>(job, s)
                                             : launch_march<128>(job, s);
        if (launched != OHM_CUDA_OK)
            return launched;
        job.scratch += job.each * tiles;
    }
    job.each = carve_general(nullptr, job.c, nullptr);
    return OHM_LAUNCH(irdrop_general, general_blocks(job.c, tiles), GENERAL_THREADS, 0, s, job);
}

static __global__ void irdrop_unsolved(uint32_t *fault, uint32_t bits, const int *status, int tiles)
{
    const int i = static_cast<int>(blockIdx.x * 256 + threadIdx.x);
    if (i < tiles && status[i] != OHM_SOLVE_OK)
        atomicOr(fault, bits);
}

extern "C" ohm_cuda_status ohm_irdrop_unsolved_cuda(uint32_t *fault, uint32_t bits,
                                                    const int *status, int tiles, ohm_cuda_stream s)
{
    return OHM_LAUNCH(irdrop_unsolved, (tiles + 255) / 256, 256, 0, s, fault, bits, status, tiles);
}
