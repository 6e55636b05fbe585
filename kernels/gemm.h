/* Matrix products of a layer y = x wᵀ, row-major, x [m,k], w [n,k], y [m,n], single precision.
 *
 * OpenBLAS runs on one thread per call, inside OpenMP blocks whose borders depend on the shape alone:
 * the bits do not depend on the number of threads (they do on the CPU's kernel set). beta is 0
 * (the output is written) or 1 (it is added to). Any size may be 0. Nothing allocates or fails.
 * The threaded calls open a parallel region: do not call them from inside one. */
#ifndef OHM_KERNELS_GEMM_H
#define OHM_KERNELS_GEMM_H

#include <stddef.h>

#include "kernels/portable.h"

OHM_C_BEGIN

/* y = x wᵀ + beta y */
void ohm_gemm_forward_cpu(float *y, int ldy, const float *x, int ldx, const float *w, int ldw,
                          int m, int n, int k, float beta);
/* dx = dy w + beta dx */
void ohm_gemm_input_cpu(float *dx, int lddx, const float *dy, int lddy, const float *w, int ldw,
                        int m, int n, int k, float beta);
/* dw += dyᵀ x. A deep and narrow reduction is cut into segments with partial sums in workspace
 * [ohm_gemm_weight_floats], added in order. */
void ohm_gemm_weight_cpu(float *dw, int lddw, const float *dy, int lddy, const float *x, int ldx,
                         int m, int n, int k, float *workspace);
size_t ohm_gemm_weight_floats(int m, int n, int k);

/* How the reduction over m rows of dw [n,k] is cut: a function of the shape alone. */
int ohm_gemm_segments(size_t m, int n, int k, int column_blocks);

/* The same three products as one OpenBLAS call on this thread. */
void ohm_gemm_forward_block(float *y, int ldy, const float *x, int ldx, const float *w, int ldw,
                            int m, int n, int k, float beta);
void ohm_gemm_input_block(float *dx, int lddx, const float *dy, int lddy, const float *w, int ldw,
                          int m, int n, int k, float beta);
void ohm_gemm_weight_block(float *dw, int lddw, const float *dy, int lddy, const float *x, int ldx,
                           int m, int n, int k, float beta);
/* Holds OpenBLAS to one thread; call it outside parallel regions before the block calls. */
void ohm_gemm_one_thread(void);
/* OpenBLAS's kernel set ("SkylakeX"), which the bits depend on. */
const char *ohm_gemm_core(void);

OHM_C_END

#endif
