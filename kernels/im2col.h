/* Patches of a convolution: row r of the product is position r % (out_height·out_width) of image
 * r / (out_height·out_width); column (kernel row, kernel column, channel). Images are NHWC; pixels
 * outside the image are 0. */
#ifndef OHM_KERNELS_IM2COL_H
#define OHM_KERNELS_IM2COL_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/portable.h"

OHM_C_BEGIN

typedef struct {
    int height, width, channels; /* of an input image */
    int kernel, stride, pad;
    int out_height, out_width, out; /* of an output image */
} ohm_conv_shape;

OHM_INLINE int ohm_conv_k(const ohm_conv_shape *s)
{
    return s->kernel * s->kernel * s->channels;
}

OHM_INLINE size_t ohm_conv_rows(const ohm_conv_shape *s, int images)
{
    return (size_t)images * (size_t)s->out_height * (size_t)s->out_width;
}

/* A product of x as it lies in memory: no patches needed. */
OHM_INLINE int ohm_conv_is_plain(const ohm_conv_shape *s)
{
    return s->kernel == 1 && s->stride == 1 && s->pad == 0;
}

/* patches [rows, taps] = rows first_row.. of the product's left side, kernel rows ky0 .. ky1-1 only:
 * taps = (ky1-ky0)·kernel·channels. x: whole images. One thread. */
void ohm_im2col_block(float *patches, const float *x, const ohm_conv_shape *s, size_t first_row,
                      int rows, int ky0, int ky1);
/* Adds patches [rows, K] to the pixels of dx that they were read from. One thread. */
void ohm_col2im_block(float *dx, const float *patches, const ohm_conv_shape *s, size_t first_row,
                      int rows);

/* The same for all kernel rows over threads; the bits do not depend on their number. */
void ohm_im2col_cpu(float *patches, const float *x, const ohm_conv_shape *s, size_t first_row,
                    int rows);
/* The same of codes, a byte each; pixels outside the image give `outside`. */
void ohm_im2col_codes_cpu(uint8_t *patches, const uint8_t *x, uint8_t outside,
                          const ohm_conv_shape *s, size_t first_row, int rows);
void ohm_col2im_cpu(float *dx, const float *patches, const ohm_conv_shape *s, size_t first_row,
                    int rows);

OHM_C_END

#endif
