/* Pooling of NHWC images without padding: windows of kernel x kernel every `stride` pixels, whole
 * windows only. Threads take whole images; the bits do not depend on their number. */
#ifndef OHM_KERNELS_POOL_H
#define OHM_KERNELS_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/portable.h"

OHM_C_BEGIN

typedef struct {
    int height, width, channels, kernel, stride, out_height, out_width;
} ohm_pool_shape;

/* y [images,out_height,out_width,channels] = the largest of each window; which [same] = its place in
 * the window (kernel ≤ 16), the first of equals; NULL = not wanted. A NaN wins. */
void ohm_max_pool_cpu(float *y, uint8_t *which, const float *x, const ohm_pool_shape *s,
                      int images);
void ohm_max_pool_backward_cpu(float *dx, const float *dy, const uint8_t *which,
                               const ohm_pool_shape *s, int images, int accumulate);
/* y = the mean of each window */
void ohm_avg_pool_cpu(float *y, const float *x, const ohm_pool_shape *s, int images);
void ohm_avg_pool_backward_cpu(float *dx, const float *dy, const ohm_pool_shape *s, int images,
                               int accumulate);

OHM_C_END

#endif
