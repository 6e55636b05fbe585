#include "kernels/gemm.h"

#include <cblas.h>
#include <string.h>

enum {
    ROWS = 256,              /* rows of x per task: 1.0-1.2x the time of one large call */
    COLUMNS = 256,           /* outputs per task */
    DEPTH = 512,             /* fewest rows that a segment of the dw reduction is worth */
    SEGMENTS = 16,           /* most segments, and tasks aimed at */
    PARTIAL_FLOATS = 1 << 21 /* most floats of partial sums */
};

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

static int pieces(int size, int piece)
{
    return (size + piece - 1) / piece;
}

void ohm_gemm_one_thread(void)
{
    if (openblas_get_num_threads() != 1)
        openblas_set_num_threads(1);
}

const char *ohm_gemm_core(void)
{
    return openblas_get_corename();
}

/* Products over nothing: cblas refuses zero strides, and beta still counts. */
static int nothing_to_add(float *c, int ldc, int m, int n, int k, float beta)
{
    if (m <= 0 || n <= 0)
        return 1;
    if (k > 0)
        return 0;
    for (int i = 0; i < m && beta == 0.0f; i++)
        memset(c + (size_t)i * (size_t)ldc, 0, (size_t)n * sizeof *c);
    return 1;
}

void ohm_gemm_forward_block(float *y, int ldy, const float *x, int ldx, const float *w, int ldw,
                            int m, int n, int k, float beta)
{
    if (!nothing_to_add(y, ldy, m, n, k, beta))
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.0f, x, ldx, w, ldw, beta, y,
                    ldy);
}

void ohm_gemm_input_block(float *dx, int lddx, const float *dy, int lddy, const float *w, int ldw,
                          int m, int n, int k, float beta)
{
    if (!nothing_to_add(dx, lddx, m, k, n, beta))
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, k, n, 1.0f, dy, lddy, w, ldw,
                    beta, dx, lddx);
}

void ohm_gemm_weight_block(float *dw, int lddw, const float *dy, int lddy, const float *x, int ldx,
                           int m, int n, int k, float beta)
{
    if (!nothing_to_add(dw, lddw, n, k, m, beta))
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, k, m, 1.0f, dy, lddy, x, ldx, beta,
                    dw, lddw);
}

void ohm_gemm_forward_cpu(float *y, int ldy, const float *x, int ldx, const float *w, int ldw,
                          int m, int n, int k, float beta)
{
    ohm_gemm_one_thread();
    int across = pieces(n, COLUMNS), tasks = pieces(m, ROWS) * across;
#pragma omp parallel for schedule(static) if (tasks > 1)
    for (int task = 0; task < tasks; task++) {
        int row = task / across * ROWS, column = task % across * COLUMNS;
        ohm_gemm_forward_block(y + (size_t)row * (size_t)ldy + column, ldy,
                               x + (size_t)row * (size_t)ldx, ldx, w + (size_t)column * (size_t)ldw,
                               ldw, smaller(ROWS, m - row), smaller(COLUMNS, n - column), k, beta);
    }
}

void ohm_gemm_input_cpu(float *dx, int lddx, const float *dy, int lddy, const float *w, int ldw,
                        int m, int n, int k, float beta)
{
    ohm_gemm_one_thread();
    int across = pieces(k, COLUMNS), tasks = pieces(m, ROWS) * across;
#pragma omp parallel for schedule(static) if (tasks > 1)
    for (int task = 0; task < tasks; task++) {
        int row = task / across * ROWS, column = task % across * COLUMNS;
        ohm_gemm_input_block(dx + (size_t)row * (size_t)lddx + column, lddx,
                             dy + (size_t)row * (size_t)lddy, lddy, w + column, ldw,
                             smaller(ROWS, m - row), n, smaller(COLUMNS, k - column), beta);
    }
}

int ohm_gemm_segments(size_t m, int n, int k, int column_blocks)
{
    size_t product = (size_t)n * (size_t)k;
    size_t segments = m / DEPTH;
    size_t wanted = (size_t)(SEGMENTS / (column_blocks < 1 ? 1 : column_blocks));
    size_t fit = product ? PARTIAL_FLOATS / product : 1;
    segments = segments < wanted ? segments : wanted;
    segments = segments < fit ? segments : fit;
    return segments < 1 ? 1 : (int)segments;
}

size_t ohm_gemm_weight_floats(int m, int n, int k)
{
    int segments = ohm_gemm_segments((size_t)m, n, k, pieces(k, COLUMNS));
    return segments > 1 ? (size_t)segments * (size_t)n * (size_t)k : 0;
}

/* dw += the sum of the segments' partial products, in order. */
static void add_segments(float *dw, int lddw, const float *partial, int segments, int n, int k)
{
#pragma omp parallel for schedule(static)
    for (int row = 0; row < n; row++)
        for (int s = 0; s < segments; s++) {
            const float *from = partial + ((size_t)s * (size_t)n + (size_t)row) * (size_t)k;
            float *to = dw + (size_t)row * (size_t)lddw;
            for (int i = 0; i < k; i++)
                to[i] += from[i];
        }
}

void ohm_gemm_weight_cpu(float *dw, int lddw, const float *dy, int lddy, const float *x, int ldx,
                         int m, int n, int k, float *workspace)
{
    ohm_gemm_one_thread();
    int across = pieces(k, COLUMNS), segments = ohm_gemm_segments((size_t)m, n, k, across);
    int depth = pieces(m, segments);
#pragma omp parallel for schedule(static) if (segments * across > 1)
    for (int task = 0; task < segments * across; task++) {
        int segment = task / across, column = task % across * COLUMNS;
        int row = smaller(segment * depth, m), alone = segments == 1;
        float *to = alone ? dw : workspace + (size_t)segment * (size_t)n * (size_t)k;
        ohm_gemm_weight_block(to + column, alone ? lddw : k, dy + (size_t)row * (size_t)lddy, lddy,
                              x + (size_t)row * (size_t)ldx + column, ldx, smaller(depth, m - row),
                              n, smaller(COLUMNS, k - column), alone ? 1.0f : 0.0f);
    }
    if (segments > 1)
        add_segments(dw, lddw, workspace, segments, n, k);
}
