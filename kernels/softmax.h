/* Softmax cross-entropy with label smoothing: targets (1-smoothing) on the label plus
 * smoothing/classes on every class. */
#ifndef OHM_KERNELS_SOFTMAX_H
#define OHM_KERNELS_SOFTMAX_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/portable.h"

OHM_C_BEGIN

/* logits [images, classes], labels [images] in 0..classes-1. Returns the sum of the losses, added in
 * order of the images, in double; NaN logits give NaN. *correct = images whose largest logit (the
 * first of equals) is the label. dlogits = scale · (softmax - target), NULL = not wanted; may be
 * logits. row_loss [images] is workspace. */
double ohm_softmax_loss_cpu(float *dlogits, int *correct, const float *logits,
                            const int32_t *labels, int images, int classes, double smoothing,
                            double scale, double *row_loss);

OHM_C_END

#endif
