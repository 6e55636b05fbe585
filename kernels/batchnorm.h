/* Batch normalisation over the rows of x [rows, channels] (NHWC: rows = images·height·width),
 * Ioffe & Szegedy 2015. Sums are in double, in blocks of 256 rows combined in order: the bits do not
 * depend on threads. y may be x, dx may be dy. */
#ifndef OHM_KERNELS_BATCHNORM_H
#define OHM_KERNELS_BATCHNORM_H

#include <stddef.h>

#include "kernels/portable.h"

OHM_C_BEGIN

/* Workspace of the calls below, in doubles. */
size_t ohm_batch_norm_doubles(size_t rows, size_t channels);

/* y = (x - mean) / sqrt(variance + epsilon) gamma + beta with the batch's own mean and (biased)
 * variance. saved [2][channels] receives mean and 1/sqrt(variance + epsilon); running statistics
 * move by share `momentum` towards the batch's mean and unbiased variance. */
void ohm_batch_norm_train_cpu(float *y, float *saved, float *running_mean, float *running_variance,
                              const float *x, const float *gamma, const float *beta, size_t rows,
                              size_t channels, double momentum, double epsilon, double *workspace);
/* With the running statistics. */
void ohm_batch_norm_infer_cpu(float *y, const float *x, const float *gamma, const float *beta,
                              const float *running_mean, const float *running_variance, size_t rows,
                              size_t channels, double epsilon, double *workspace);
/* dx = (accumulate: dx +) the gradient of x; dgamma, dbeta += theirs. */
void ohm_batch_norm_backward_cpu(float *dx, float *dgamma, float *dbeta, const float *dy,
                                 const float *x, const float *saved, const float *gamma,
                                 size_t rows, size_t channels, int accumulate, double *workspace);

OHM_C_END

#endif
