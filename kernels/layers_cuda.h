/* The operations of layers on a device. Contracts, shapes and formulas are those of activation.h,
 * im2col.h, batchnorm.h, pool.h, softmax.h, optimiser.h and conv.h; pointers are device memory, the
 * work is queued on stream s, nothing is allocated or waited for.
 *
 * Bits are those of the CPU for every grid (compiled without contraction: --fmad=false), except where
 * a comment says otherwise: the CPU's sums are made in blocks of rows that follow from the shape. */
#ifndef OHM_KERNELS_LAYERS_CUDA_H
#define OHM_KERNELS_LAYERS_CUDA_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/gemm_cuda.h"
#include "kernels/im2col.h"
#include "kernels/optimiser.h"
#include "kernels/pool.h"
#include "kernels/runtime_cuda.h"

OHM_C_BEGIN

/* *where = value as the stream comes to it. where: page-locked host memory, which devices reach at its
 * own address and which outlives them. */
ohm_cuda_status ohm_mark_cuda(uint16_t *where, uint16_t value, ohm_cuda_stream s);

/* ---- activation.h -------------------------------------------------------------------------- */

ohm_cuda_status ohm_relu_cuda(float *y, const float *x, size_t n, ohm_cuda_stream s);
ohm_cuda_status ohm_relu_backward_cuda(float *dx, const float *dy, const float *y, size_t n,
                                       int accumulate, ohm_cuda_stream s);
ohm_cuda_status ohm_add_cuda(float *y, const float *a, const float *b, size_t n, ohm_cuda_stream s);
ohm_cuda_status ohm_straight_through_cuda(float *y, const float *noisy, size_t n,
                                          ohm_cuda_stream s);
ohm_cuda_status ohm_fill_cuda(float *y, float value, size_t n, ohm_cuda_stream s);
ohm_cuda_status ohm_scale_columns_cuda(float *y, const float *x, const float *scale, size_t rows,
                                       size_t cols, ohm_cuda_stream s);
ohm_cuda_status ohm_add_row_cuda(float *y, const float *row, size_t rows, size_t cols,
                                 ohm_cuda_stream s);
ohm_cuda_status ohm_sum_columns_cuda(float *sum, const float *x, size_t rows, size_t cols,
                                     double *partial, ohm_cuda_stream s);
ohm_cuda_status ohm_scale_gradient_cuda(float *dscale, float *dw, const float *product,
                                        const float *w, const float *scale, size_t rows,
                                        size_t cols, ohm_cuda_stream s);
/* range [1]: device memory, too. */
ohm_cuda_status ohm_range_gradient_cuda(float *sum, const float *dx, const float *x,
                                        const float *range, size_t n, double *partial,
                                        ohm_cuda_stream s);

/* ---- im2col.h ------------------------------------------------------------------------------ */

ohm_cuda_status ohm_im2col_cuda(float *patches, const float *x, const ohm_conv_shape *shape,
                                size_t first_row, int rows, ohm_cuda_stream s);
ohm_cuda_status ohm_im2col_codes_cuda(uint8_t *patches, const uint8_t *x, uint8_t outside,
                                      const ohm_conv_shape *shape, size_t first_row, int rows,
                                      ohm_cuda_stream s);
ohm_cuda_status ohm_col2im_cuda(float *dx, const float *patches, const ohm_conv_shape *shape,
                                size_t first_row, int rows, ohm_cuda_stream s);

/* ---- batchnorm.h: the same workspaces -------------------------------------------------------- */

ohm_cuda_status ohm_batch_norm_train_cuda(float *y, float *saved, float *running_mean,
                                          float *running_variance, const float *x,
                                          const float *gamma, const float *beta, size_t rows,
                                          size_t channels, double momentum, double epsilon,
                                          double *workspace, ohm_cuda_stream s);
ohm_cuda_status ohm_batch_norm_infer_cuda(float *y, const float *x, const float *gamma,
                                          const float *beta, const float *running_mean,
                                          const float *running_variance, size_t rows,
                                          size_t channels, double epsilon, double *workspace,
                                          ohm_cuda_stream s);
ohm_cuda_status ohm_batch_norm_backward_cuda(float *dx, float *dgamma, float *dbeta,
                                             const float *dy, const float *x, const float *saved,
                                             const float *gamma, size_t rows, size_t channels,
                                             int accumulate, double *workspace, ohm_cuda_stream s);

/* ---- pool.h -------------------------------------------------------------------------------- */

ohm_cuda_status ohm_max_pool_cuda(float *y, uint8_t *which, const float *x,
                                  const ohm_pool_shape *shape, int images, ohm_cuda_stream s);
ohm_cuda_status ohm_max_pool_backward_cuda(float *dx, const float *dy, const uint8_t *which,
                                           const ohm_pool_shape *shape, int images, int accumulate,
                                           ohm_cuda_stream s);
ohm_cuda_status ohm_avg_pool_cuda(float *y, const float *x, const ohm_pool_shape *shape, int images,
                                  ohm_cuda_stream s);
ohm_cuda_status ohm_avg_pool_backward_cuda(float *dx, const float *dy, const ohm_pool_shape *shape,
                                           int images, int accumulate, ohm_cuda_stream s);

/* ---- softmax.h ----------------------------------------------------------------------------- */

/* Adds to totals->loss_sum and ->correct. exp and log are the device's: dlogits and losses agree with
 * the CPU's to 1e-6 of the largest; the bits are the same for every grid. */
ohm_cuda_status ohm_softmax_loss_cuda(ohm_step_totals *totals, float *dlogits, const float *logits,
                                      const int32_t *labels, int images, int classes,
                                      double smoothing, double scale, double *row_loss,
                                      ohm_cuda_stream s);

/* ---- optimiser.h: rule from the host, what changes from step to step in device memory -------- */

/* totals->squares += the sum of squares */
ohm_cuda_status ohm_sum_squares_cuda(ohm_step_totals *totals, const float *x, size_t n,
                                     double *partial, ohm_cuda_stream s);
ohm_cuda_status ohm_step_decide_cuda(ohm_step_totals *totals, const uint32_t *fault, int layers,
                                     double clip_norm, ohm_cuda_stream s);
ohm_cuda_status ohm_sgd_cuda(float *w, const float *g, float *m, size_t n,
                             const ohm_optimiser_rule *rule, const ohm_step_numbers *numbers,
                             const ohm_step_totals *totals, ohm_cuda_stream s);
ohm_cuda_status ohm_adam_cuda(float *w, const float *g, float *m, float *v, size_t n,
                              const ohm_optimiser_rule *rule, const ohm_step_numbers *numbers,
                              const ohm_step_totals *totals, ohm_cuda_stream s);

/* ---- conv.h -------------------------------------------------------------------------------- */

/* Patches of as many rows as the workspace holds, and one matrix product for each; sums within a
 * product have the order that the library chooses: not the CPU's bits. `pieces`: how many slots of
 * 1024 rows are wanted, 1 is enough. The workspace of the products lies in front. */
size_t ohm_conv_forward_floats_cuda(const ohm_conv_shape *shape, int images, int pieces);
size_t ohm_conv_input_floats_cuda(const ohm_conv_shape *shape, int images, int pieces);
size_t ohm_conv_weight_floats_cuda(const ohm_conv_shape *shape, int images, int pieces);
ohm_cuda_status ohm_conv_forward_cuda(float *y, const float *x, const float *w, const float *bias,
                                      const ohm_conv_shape *shape, int images, float *workspace,
                                      size_t floats, const ohm_gemm_cuda *gemm);
ohm_cuda_status ohm_conv_input_cuda(float *dx, const float *dy, const float *w,
                                    const ohm_conv_shape *shape, int images, int accumulate,
                                    float *workspace, size_t floats, const ohm_gemm_cuda *gemm);
ohm_cuda_status ohm_conv_weight_cuda(float *dw, const float *dy, const float *x,
                                     const ohm_conv_shape *shape, int images, float *workspace,
                                     size_t floats, const ohm_gemm_cuda *gemm);

OHM_C_END

#endif
