/* The matrix products of gemm.h on a device, by cublasLt: row-major, x [m,k], w [n,k], y [m,n]. Any
 * size may be 0; nothing is allocated or waited for. The same call gives the same bits on the same
 * device and library; they are not the CPU's. */
#ifndef OHM_KERNELS_GEMM_CUDA_H
#define OHM_KERNELS_GEMM_CUDA_H

#include <stddef.h>

#include "kernels/runtime_cuda.h"

OHM_C_BEGIN

/* How operands enter a product; sums are fp32 in all three. */
typedef enum {
    OHM_GEMM_FP32,
    OHM_GEMM_TF32, /* operands rounded to 10 bits of mantissa */
    OHM_GEMM_BF16  /* to 7 */
} ohm_gemm_precision;

typedef struct ohm_gemm_handle_body *ohm_gemm_handle;

/* The handle of the device in use; it may be used on any stream of that device. */
ohm_cuda_status ohm_gemm_handle_create(ohm_gemm_handle *out);
void ohm_gemm_handle_destroy(ohm_gemm_handle handle); /* NULL-safe */

/* Where and how a product runs. */
typedef struct {
    ohm_gemm_handle handle;
    ohm_gemm_precision precision;
    ohm_cuda_stream stream;
    void
        *workspace; /* device memory, 256-byte aligned, of this stream alone while work is queued */
    size_t bytes;   /* OHM_GEMM_WORKSPACE is what the library makes use of */
} ohm_gemm_cuda;

enum { OHM_GEMM_WORKSPACE = 32 << 20 };

/* y = x wᵀ + beta y + bias [n] (NULL: none) */
ohm_cuda_status ohm_gemm_forward_cuda(float *y, int ldy, const float *x, int ldx, const float *w,
                                      int ldw, const float *bias, int m, int n, int k, float beta,
                                      const ohm_gemm_cuda *gemm);
/* dx = dy w + beta dx */
ohm_cuda_status ohm_gemm_input_cuda(float *dx, int lddx, const float *dy, int lddy, const float *w,
                                    int ldw, int m, int n, int k, float beta,
                                    const ohm_gemm_cuda *gemm);
/* dw = dyᵀ x + beta dw */
ohm_cuda_status ohm_gemm_weight_cuda(float *dw, int lddw, const float *dy, int lddy, const float *x,
                                     int ldx, int m, int n, int k, float beta,
                                     const ohm_gemm_cuda *gemm);

OHM_C_END

#endif
