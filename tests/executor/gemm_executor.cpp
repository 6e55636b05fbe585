/* kernels/gemm_cuda.h on OpenBLAS, for the host executor: operands are rounded as the precision says,
 * and the workspace is spoilt, as a library may. */
#include <vector>

#include "kernels/gemm.h"
#include "kernels/gemm_cuda.h"
#include "tests/executor/executor_internal.hpp"

struct ohm_gemm_handle_body {
    int unused;
};

namespace
{
/* The nearest float with `bits` bits of mantissa, ties to even. */
float rounded(float x, int bits)
{
    const uint32_t drop = 23u - static_cast<uint32_t>(bits), u = __float_as_uint(x);
    const uint32_t half = (1u << (drop - 1)) - 1 + (u >> drop & 1);
    return std::isfinite(x) ? __uint_as_float((u + half) >> drop << drop) : x;
}

/* [rows, cols], packed. */
std::vector<float> operand(const float *x, int ld, int rows, int cols, ohm_gemm_precision precision)
{
    std::vector<float> packed(static_cast<size_t>(rows) * static_cast<size_t>(cols) + 1);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++) {
            const float value =
                x[static_cast<size_t>(r) * static_cast<size_t>(ld) + static_cast<size_t>(c)];
            packed[static_cast<size_t>(r) * static_cast<size_t>(cols) + static_cast<size_t>(c)] =
                precision == OHM_GEMM_FP32 ? value
                                           : rounded(value, precision == OHM_GEMM_TF32 ? 10 : 7);
        }
    return packed;
}

size_t extent(int rows, int cols, int ld)
{
    return rows > 0 && cols > 0 ? (static_cast<size_t>(rows - 1) * static_cast<size_t>(ld) +
                                   static_cast<size_t>(cols)) *
                                      sizeof(float)
                                : 0;
}

ohm_cuda_status start(const ohm_gemm_cuda *g, size_t out_bytes, const float *out, size_t a_bytes,
                      const float *a, size_t b_bytes, const float *b,
                      std::function<ohm_cuda_status()> body)
{
    if (!g->handle)
        return ohm_cuda_fail(OHM_CUDA_ARGUMENT, "product", "no handle");
    if (!executor_on_device(out, out_bytes) || !executor_on_device(a, a_bytes) ||
        !executor_on_device(b, b_bytes) || !executor_on_device(g->workspace, g->bytes))
        return ohm_cuda_fail(OHM_CUDA_ARGUMENT, "product", "outside device memory");
    if (reinterpret_cast<uintptr_t>(g->workspace) % 64)
        return ohm_cuda_fail(OHM_CUDA_ARGUMENT, "product", "the workspace is not aligned");
    void *workspace = g->workspace;
    const size_t bytes = g->bytes < 4096 ? g->bytes : 4096;
    return executor_queue_work("product", g->stream, [=]() {
        ohm_gemm_one_thread();
        if (bytes)
            memset(workspace, 0xFF, bytes);
        return body();
    });
}
} // namespace

ohm_cuda_status ohm_gemm_handle_create(ohm_gemm_handle *out)
{
    *out = new ohm_gemm_handle_body();
    return OHM_CUDA_OK;
}

void ohm_gemm_handle_destroy(ohm_gemm_handle handle)
{
    delete handle;
}

ohm_cuda_status ohm_gemm_forward_cuda(float *y, int ldy, const float *x, int ldx, const float *w,
                                      int ldw, const float *bias, int m, int n, int k, float beta,
                                      const ohm_gemm_cuda *gemm)
{
    const ohm_gemm_precision precision = gemm->precision;
    return start(gemm, extent(m, n, ldy), y, extent(m, k, ldx), x, extent(n, k, ldw), w, [=]() {
        const std::vector<float> px = operand(x, ldx, m, k, precision),
                                 pw = operand(w, ldw, n, k, precision);
        ohm_gemm_forward_block(y, ldy, px.data(), k, pw.data(), k, m, n, k, beta);
        for (int r = 0; bias && r < m; r++)
            for (int c = 0; c < n; c++)
                y[static_cast<size_t>(r) * static_cast<size_t>(ldy) + static_cast<size_t>(c)] +=
                    bias[c];
        return OHM_CUDA_OK;
    });
}

ohm_cuda_status ohm_gemm_input_cuda(float *dx, int lddx, const float *dy, int lddy, const float *w,
                                    int ldw, int m, int n, int k, float beta,
                                    const ohm_gemm_cuda *gemm)
{
    const ohm_gemm_precision precision = gemm->precision;
    return start(gemm, extent(m, k, lddx), dx, extent(m, n, lddy), dy, extent(n, k, ldw), w, [=]() {
        const std::vector<float> pd = operand(dy, lddy, m, n, precision),
                                 pw = operand(w, ldw, n, k, precision);
        ohm_gemm_input_block(dx, lddx, pd.data(), n, pw.data(), k, m, n, k, beta);
        return OHM_CUDA_OK;
    });
}

ohm_cuda_status ohm_gemm_weight_cuda(float *dw, int lddw, const float *dy, int lddy, const float *x,
                                     int ldx, int m, int n, int k, float beta,
                                     const ohm_gemm_cuda *gemm)
{
    const ohm_gemm_precision precision = gemm->precision;
    return start(gemm, extent(n, k, lddw), dw, extent(m, n, lddy), dy, extent(m, k, ldx), x, [=]() {
        const std::vector<float> pd = operand(dy, lddy, m, n, precision),
                                 px = operand(x, ldx, m, k, precision);
        ohm_gemm_weight_block(dw, lddw, pd.data(), n, px.data(), k, m, n, k, beta);
        return OHM_CUDA_OK;
    });
}
