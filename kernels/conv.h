/* Convolution y [images,out_height,out_width,out] of x [images,height,width,channels] with
 * w [out, K], K = (kernel row, kernel column, channel), as blocks of patches and matrix products.
 * A linear layer is the case height = width = kernel = 1.
 *
 * The whole patch matrix never exists: each thread keeps one block of up to 256 rows, as far as the
 * workspace reaches. Which rows and sums make a block depends on the shape alone, so the bits do
 * not depend on threads or workspace. Nothing allocates or fails. */
#ifndef OHM_KERNELS_CONV_H
#define OHM_KERNELS_CONV_H

#include "kernels/im2col.h"

OHM_C_BEGIN

/* With stride 1 the gradient of the input is itself a convolution: of dy with the kernel turned by
 * half a turn. */
OHM_INLINE int ohm_conv_turns(const ohm_conv_shape *s)
{
    return s->stride == 1 && s->pad < s->kernel;
}

OHM_INLINE ohm_conv_shape ohm_conv_turned(const ohm_conv_shape *s)
{
    ohm_conv_shape turned = *s;
    turned.height = s->out_height;
    turned.width = s->out_width;
    turned.channels = s->out;
    turned.pad = s->kernel - 1 - s->pad;
    turned.out_height = s->height;
    turned.out_width = s->width;
    turned.out = s->channels;
    return turned;
}

/* Floats of workspace for `threads` threads; with less, down to that of one thread, fewer work. */
size_t ohm_conv_forward_floats(const ohm_conv_shape *s, int images, int threads);
size_t ohm_conv_input_floats(const ohm_conv_shape *s, int images, int threads);
size_t ohm_conv_weight_floats(const ohm_conv_shape *s, int images, int threads);

/* y = conv(x, w) + bias[out] (NULL: none) */
void ohm_conv_forward_cpu(float *y, const float *x, const float *w, const float *bias,
                          const ohm_conv_shape *s, int images, float *workspace, size_t floats);
/* dx = (accumulate: dx +) the gradient of x from dy */
void ohm_conv_input_cpu(float *dx, const float *dy, const float *w, const ohm_conv_shape *s,
                        int images, int accumulate, float *workspace, size_t floats);
/* dw += the gradient of w from dy and the saved x */
void ohm_conv_weight_cpu(float *dw, const float *dy, const float *x, const ohm_conv_shape *s,
                         int images, float *workspace, size_t floats);

OHM_C_END

#endif
