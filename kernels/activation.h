/* Element-wise operations and sums over rows. Matrices are contiguous [rows, cols]. Outputs may be
 * their inputs. Threads do not change the bits: sums are made in blocks of fixed size, combined in
 * order. */
#ifndef OHM_KERNELS_ACTIVATION_H
#define OHM_KERNELS_ACTIVATION_H

#include <stddef.h>

#include "kernels/portable.h"

OHM_C_BEGIN

void ohm_relu_cpu(float *y, const float *x, size_t n); /* y = max(x, 0); NaN stays NaN */
/* dx = (accumulate: dx +) dy where the output y > 0, else 0 */
void ohm_relu_backward_cpu(float *dx, const float *dy, const float *y, size_t n, int accumulate);
void ohm_add_cpu(float *y, const float *a, const float *b, size_t n); /* y = a + b */
/* y = y + (noisy - y): in value noisy (up to rounding), in gradient y. */
void ohm_straight_through_cpu(float *y, const float *noisy, size_t n);
void ohm_copy_cpu(float *y, const float *x, size_t n);
void ohm_fill_cpu(float *y, float value, size_t n);

void ohm_scale_columns_cpu(float *y, const float *x, const float *scale, size_t rows, size_t cols);
void ohm_add_row_cpu(float *y, const float *row, size_t rows,
                     size_t cols); /* y += row on every row */
/* sum [cols] += column sums of x; partial: ohm_column_partials(rows, cols) doubles. */
void ohm_sum_columns_cpu(float *sum, const float *x, size_t rows, size_t cols, double *partial);
/* Gradients of y = scale∘(x wᵀ) from D = dyᵀ x [rows, cols]: dscale[r] += w[r,:]·D[r,:], dw[r,:] += scale[r] D[r,:]. */
void ohm_scale_gradient_cpu(float *dscale, float *dw, const float *product, const float *w,
                            const float *scale, size_t rows, size_t cols);
/* sum[0] += Σ dx sign(x) over |x| > range: the gradient of a clipping range. partial as for one column of n rows. */
void ohm_range_gradient_cpu(float *sum, const float *dx, const float *x, float range, size_t n,
                            double *partial);
size_t ohm_column_partials(size_t rows, size_t cols);

OHM_C_END

#endif
