/* The host executor has products of its own, tests/executor/gemm_executor.cpp. */
#ifndef OHM_EXECUTOR

#include "kernels/gemm_cuda.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <stdlib.h>

#include "kernels/loops_cuda.hpp"

/* ---- the library ---------------------------------------------------------------------------- */

/* It is opened when the first handle is made, so that a program with this backend starts on machines
 * without it. */
#define FUNCTIONS(F)                                                                               \
    F(Create)                                                                                      \
    F(Destroy)                                                                                     \
    F(GetStatusString)                                                                             \
    F(Matmul)                                                                                      \
    F(MatmulAlgoGetHeuristic)                                                                      \
    F(MatmulDescCreate)                                                                            \
    F(MatmulDescDestroy)                                                                           \
    F(MatmulDescSetAttribute)                                                                      \
    F(MatmulPreferenceCreate)                                                                      \
    F(MatmulPreferenceDestroy)                                                                     \
    F(MatmulPreferenceSetAttribute)                                                                \
    F(MatrixLayoutCreate)                                                                          \
    F(MatrixLayoutDestroy)

#define MEMBER(name) decltype(&cublasLt##name) name;
struct ohm_gemm_handle_body {
    void *library;
    cublasLtHandle_t handle;
    FUNCTIONS(MEMBER)
};

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define LIBRARY "libcublasLt.so." TEXT(CUBLAS_VER_MAJOR)

static ohm_cuda_status report(ohm_gemm_handle lt, cublasStatus_t status, const char *call)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return OHM_CUDA_OK;
    return ohm_cuda_fail(status == CUBLAS_STATUS_NOT_INITIALIZED    ? OHM_CUDA_ABSENT
                         : status == CUBLAS_STATUS_ALLOC_FAILED     ? OHM_CUDA_MEMORY
                         : status == CUBLAS_STATUS_EXECUTION_FAILED ? OHM_CUDA_KERNEL
                                                                    : OHM_CUDA_ARGUMENT,
                         call, lt->GetStatusString(status));
}

static bool open_library(ohm_gemm_handle lt)
{
    lt->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!lt->library)
        lt->library = dlopen("/usr/local/cuda/lib64/" LIBRARY, RTLD_NOW | RTLD_LOCAL);
#define LOAD(name)                                                                                 \
    lt->name = lt->library                                                                         \
                   ? reinterpret_cast<decltype(lt->name)>(dlsym(lt->library, "cublasLt" #name))    \
                   : nullptr;
    FUNCTIONS(LOAD)
#define AND_LOADED(name) &&lt->name
    return lt->library FUNCTIONS(AND_LOADED);
}

extern "C" ohm_cuda_status ohm_gemm_handle_create(ohm_gemm_handle *out)
{
    *out = static_cast<ohm_gemm_handle>(calloc(1, sizeof **out));
    if (!*out)
        return ohm_cuda_fail(OHM_CUDA_MEMORY, "cublasLt", "no memory for a handle");
    ohm_cuda_status status =
        open_library(*out) ? report(*out, (*out)->Create(&(*out)->handle), "cublasLtCreate")
                           : ohm_cuda_fail(OHM_CUDA_ABSENT, LIBRARY, "not found on this machine; name its folder in LD_LIBRARY_PATH");
    if (status != OHM_CUDA_OK) {
        ohm_gemm_handle_destroy(*out);
        *out = nullptr;
    }
    return status;
}

extern "C" void ohm_gemm_handle_destroy(ohm_gemm_handle handle)
{
    if (!handle)
        return;
    if (handle->handle)
        handle->Destroy(handle->handle);
    if (handle->library)
        dlclose(handle->library);
    free(handle);
}

/* ---- one product --------------------------------------------------------------------------- */

/* The library counts in columns: a row-major [rows, cols] with stride ld is its [cols, rows]. */
struct operand {
    const float *at;
    int rows, cols, ld; /* row-major */
    bool turned;
};

static uint32_t alignment(const void *at)
{
    uint32_t bytes = 256;
    while (reinterpret_cast<uintptr_t>(at) % bytes)
        bytes /= 2;
    return bytes;
}

/* What one call describes; everything in it is freed, in whatever state it is. */
struct plan {
    ohm_gemm_handle lt;
    cublasLtMatmulDesc_t product = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
    cublasLtMatmulPreference_t preference = nullptr;

    explicit plan(ohm_gemm_handle handle) : lt(handle) {}
    ~plan()
    {
        if (preference)
            lt->MatmulPreferenceDestroy(preference);
        if (c)
            lt->MatrixLayoutDestroy(c);
        if (b)
            lt->MatrixLayoutDestroy(b);
        if (a)
            lt->MatrixLayoutDestroy(a);
        if (product)
            lt->MatmulDescDestroy(product);
    }
};

#define LT(name, ...) OHM_CUDA_TRY(report(p.lt, p.lt->name(__VA_ARGS__), "cublasLt" #name))
#define SET(object, kind, name, value)                                                             \
    LT(object##SetAttribute, p.kind, name, &(value), sizeof(value))

static cublasComputeType_t compute_type(ohm_gemm_precision precision)
{
    return precision == OHM_GEMM_TF32   ? CUBLAS_COMPUTE_32F_FAST_TF32
           : precision == OHM_GEMM_BF16 ? CUBLAS_COMPUTE_32F_FAST_16BF
                                        : CUBLAS_COMPUTE_32F;
}

static ohm_cuda_status describe(plan &p, const operand &left, const operand &right,
                                const operand &out, const float *bias, const ohm_gemm_cuda *gemm)
{
    const cublasOperation_t turn_a = right.turned ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t turn_b = left.turned ? CUBLAS_OP_T : CUBLAS_OP_N;
    LT(MatmulDescCreate, &p.product, compute_type(gemm->precision), CUDA_R_32F);
    SET(MatmulDesc, product, CUBLASLT_MATMUL_DESC_TRANSA, turn_a);
    SET(MatmulDesc, product, CUBLASLT_MATMUL_DESC_TRANSB, turn_b);
    if (bias) {
        const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        SET(MatmulDesc, product, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
        SET(MatmulDesc, product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }
    LT(MatrixLayoutCreate, &p.a, CUDA_R_32F, static_cast<uint64_t>(right.cols),
       static_cast<uint64_t>(right.rows), right.ld);
    LT(MatrixLayoutCreate, &p.b, CUDA_R_32F, static_cast<uint64_t>(left.cols),
       static_cast<uint64_t>(left.rows), left.ld);
    LT(MatrixLayoutCreate, &p.c, CUDA_R_32F, static_cast<uint64_t>(out.cols),
       static_cast<uint64_t>(out.rows), out.ld);
    return OHM_CUDA_OK;
}

/* out = left·right + beta out + bias. Row-major out is the library's outᵀ = rightᵀ·leftᵀ. */
static ohm_cuda_status multiply(const operand &out, const operand &left, const operand &right,
                                const float *bias, float beta, const ohm_gemm_cuda *gemm)
{
    plan p(gemm->handle);
    const cublasLtHandle_t handle = p.lt->handle;
    const uint32_t align_a = alignment(right.at), align_b = alignment(left.at),
                   align_c = alignment(out.at);
    const float alpha = 1.0f;
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    OHM_CUDA_TRY(describe(p, left, right, out, bias, gemm));
    LT(MatmulPreferenceCreate, &p.preference);
    SET(MatmulPreference, preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, gemm->bytes);
    SET(MatmulPreference, preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, align_a);
    SET(MatmulPreference, preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, align_b);
    SET(MatmulPreference, preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, align_c);
    SET(MatmulPreference, preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, align_c);
    LT(MatmulAlgoGetHeuristic, handle, p.product, p.a, p.b, p.c, p.c, p.preference, 1, &found,
       &count);
    if (count < 1)
        return ohm_cuda_fail(OHM_CUDA_ARGUMENT, "cublasLtMatmul", "no algorithm for these sizes");
    float *to = const_cast<float *>(out.at);
    return report(p.lt,
                  p.lt->Matmul(handle, p.product, &alpha, right.at, p.a, left.at, p.b, &beta, to,
                               p.c, to, p.c, &found.algo, gemm->workspace, gemm->bytes,
                               reinterpret_cast<cudaStream_t>(gemm->stream)),
                  "cublasLtMatmul");
}

/* ---- the three of a layer ------------------------------------------------------------------ */

/* Products over nothing: beta and bias still count. */
static __global__ void without_sum(float *y, size_t rows, size_t cols, size_t ld, const float *bias,
                                   float beta)
{
    OHM_EACH(i, rows * cols)
    {
        const size_t at = i / cols * ld + i % cols;
        const float kept = beta == 0.0f ? 0.0f : beta * y[at];
        y[at] = bias ? kept + bias[i % cols] : kept;
    }
}

static ohm_cuda_status any_size(const operand &out, const operand &left, const operand &right,
                                int depth, const float *bias, float beta, const ohm_gemm_cuda *gemm)
{
    if (out.rows <= 0 || out.cols <= 0)
        return OHM_CUDA_OK;
    if (depth > 0)
        return multiply(out, left, right, bias, beta, gemm);
    const size_t rows = static_cast<size_t>(out.rows), cols = static_cast<size_t>(out.cols);
    return OHM_LOOP(without_sum, rows * cols, gemm->stream, const_cast<float *>(out.at), rows, cols,
                    static_cast<size_t>(out.ld), bias, beta);
}

extern "C" ohm_cuda_status ohm_gemm_forward_cuda(float *y, int ldy, const float *x, int ldx,
                                                 const float *w, int ldw, const float *bias, int m,
                                                 int n, int k, float beta,
                                                 const ohm_gemm_cuda *gemm)
{
    return any_size({y, m, n, ldy, false}, {x, m, k, ldx, false}, {w, n, k, ldw, true}, k, bias,
                    beta, gemm);
}

extern "C" ohm_cuda_status ohm_gemm_input_cuda(float *dx, int lddx, const float *dy, int lddy,
                                               const float *w, int ldw, int m, int n, int k,
                                               float beta, const ohm_gemm_cuda *gemm)
{
    return any_size({dx, m, k, lddx, false}, {dy, m, n, lddy, false}, {w, n, k, ldw, false}, n,
                    nullptr, beta, gemm);
}

extern "C" ohm_cuda_status ohm_gemm_weight_cuda(float *dw, int lddw, const float *dy, int lddy,
                                                const float *x, int ldx, int m, int n, int k,
                                                float beta, const ohm_gemm_cuda *gemm)
{
    return any_size({dw, n, k, lddw, false}, {dy, m, n, lddy, true}, {x, m, k, ldx, false}, m,
                    nullptr, beta, gemm);
}

#endif
