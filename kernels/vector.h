/* Inner loops over floats, compiled once per instruction set; the bits are the same on all of them
 * (no contraction, sums in a fixed order). One thread; the *_cpu.c files around them cut the work.
 * Matrices are contiguous [rows, cols]; outputs may be the inputs themselves, element for element. */
#ifndef OHM_KERNELS_VECTOR_H
#define OHM_KERNELS_VECTOR_H

#include <stddef.h>

#include "kernels/cpu.h"
#include "kernels/optimiser.h"

typedef struct {
    void (*add)(float *y, const float *a, const float *b, size_t n);
    void (*relu)(float *y, const float *x, size_t n); /* NaN passes */
    /* dx = (accumulate: dx +) dy where y > 0 */
    void (*relu_backward)(float *dx, const float *dy, const float *y, size_t n, int accumulate);
    void (*scale_columns)(float *y, const float *x, const float *scale, size_t rows, size_t cols);

    void (*sum_columns)(double *sum, const float *x, size_t rows, size_t cols); /* += x */
    void (*moments)(double *sum, double *square, const float *x, size_t rows,
                    size_t cols); /* += x, += x² */
    /* y = (x - mean) scale + shift */
    void (*normalise)(float *y, const float *x, const float *mean, const float *scale,
                      const float *shift, size_t rows, size_t cols);
    /* sum += dy, product += dy (x - mean) */
    void (*normalise_sums)(double *sum, double *product, const float *dy, const float *x,
                           const float *mean, size_t rows, size_t cols);
    /* dx = (accumulate: dx +) scale (dy - shift - (x - mean) slope) */
    void (*normalise_backward)(float *dx, const float *dy, const float *x, const float *mean,
                               const float *scale, const float *shift, const float *slope,
                               size_t rows, size_t cols, int accumulate);

    double (*sum_squares)(const float *x, size_t n);
    void (*sgd)(float *w, const float *g, float *momentum, size_t n,
                const ohm_optimiser_rule *rule);
    void (*adam)(float *w, const float *g, float *m, float *v, size_t n,
                 const ohm_optimiser_rule *rule);
} ohm_vector_kernels;

/* NULL where this build does not hold the instruction set. */
const ohm_vector_kernels *ohm_vector_kernels_of(ohm_isa isa);
/* The best of this machine. */
const ohm_vector_kernels *ohm_vector(void);

#endif
