/* One optimiser step over one parameter, in place. */
#ifndef OHM_KERNELS_OPTIMISER_H
#define OHM_KERNELS_OPTIMISER_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/portable.h"

OHM_C_BEGIN

/* What changes from step to step, in the backend's memory, so that a recorded step can be replayed. */
typedef struct {
    float lr;
    float correction1, correction2; /* Adam: 1 - beta^t, t from 1 */
    uint32_t step;                  /* of the draws */
} ohm_step_numbers;

/* What a step finds out, in the backend's memory; zeroed when it begins. */
typedef struct {
    double loss_sum;
    unsigned long long correct;
    double squares;       /* sum of squares of the gradients, where they are clipped, until decided on */
    float gradient_scale; /* of global-norm clipping; 1 = none */
    int32_t apply;        /* 0: the loss is no number or the data are at fault, the weights stay as they are */
} ohm_step_totals;

/* Sets gradient_scale (clip_norm 0: 1) and apply from the rest and the layers' fault words; squares are 0
 * again. */
OHM_INLINE void ohm_step_decide(ohm_step_totals *totals, const uint32_t *fault, int layers, double clip_norm)
{
    double norm = sqrt(totals->squares);
    totals->gradient_scale = clip_norm > 0.0 && norm > clip_norm ? (float)(clip_norm / norm) : 1.0f;
    totals->squares = 0.0;
    totals->apply = fabs(totals->loss_sum) <= 1.7976931348623157e308;
    for (int i = 0; i < layers; i++)
        totals->apply &= fault[i] == 0;
}

typedef struct {
    float lr;
    float gradient_scale;
    float l2;             /* weight decay as a gradient: g += l2 w */
    float decoupled;      /* AdamW: w -= lr decoupled w */
    float momentum;       /* SGD */
    int nesterov;
    float beta1, beta2, epsilon;    /* Adam */
    float correction1, correction2;
} ohm_optimiser_rule;

/* g' = gradient_scale g + l2 w; m = momentum m + g'; w -= lr (nesterov: g' + momentum m, else m).
 * m [n] starts at 0; NULL without momentum. */
void ohm_sgd_cpu(float *w, const float *g, float *m, size_t n, const ohm_optimiser_rule *rule);
/* Kingma & Ba 2015; with `decoupled` Loshchilov & Hutter 2019. m, v [n] start at 0:
 * m = beta1 m + (1-beta1) g', v = beta2 v + (1-beta2) g'²,
 * w -= lr (m / correction1) / (sqrt(v / correction2) + epsilon), after w -= lr decoupled w. */
void ohm_adam_cpu(float *w, const float *g, float *m, float *v, size_t n,
                  const ohm_optimiser_rule *rule);

/* Sum of squares, in blocks of fixed size summed in order: partial [ohm_sum_squares_blocks(n)]. */
double ohm_sum_squares_cpu(const float *x, size_t n, double *partial);
size_t ohm_sum_squares_blocks(size_t n);

OHM_C_END

#endif
