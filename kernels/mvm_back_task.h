/* Inside of mode full: loops over one row of x, once per instruction set. Shared by mvm_backward_cpu.c
 * (order of the work) and mvm_backward_simd.c. */
#ifndef OHM_KERNELS_MVM_BACK_TASK_H
#define OHM_KERNELS_MVM_BACK_TASK_H

#include <stdint.h>

#include "kernels/mvm_factors.h"

/* A row of gradients by the code: dx (=, or with `add` +=) slope·(current + spread·x + common), where spread
 * is `spread`, and with variance 2·variance[k] more. */
typedef struct {
    const float *current, *variance; /* [rows] gradients by the drive, and by its square; variance may be NULL */
    const float *x;                  /* [rows] the drive */
    const float *slope;              /* [rows] d drive / d code, or NULL: of_code */
    const uint8_t *codes;
    const float *of_code;            /* [256], or NULL: 1 */
    float common, spread;
    int rows, add;
} ohm_back_dx;

typedef struct {
    /* x[k] = level[codes[k]], and its square unless NULL. */
    void (*drive)(float *x, float *square, const uint8_t *codes, const float *level, int rows);
    void (*square)(float *square, const float *x, int rows);
    /* From gradients of sums to gradients by current and, with a spread, variance of outputs 0 .. n-1 of a
     * kept read. row: its factors. Without factors (row_bytes = 0) current = weight·dsums. */
    void (*chain)(float *current, float *variance, const float *dsums, float weight, const ohm_geometry *g,
                  const ohm_mvm_factors *f, const void *row, int read);
    void (*dx)(float *dx, const ohm_back_dx *of);
} ohm_back_kernels;
extern const ohm_back_kernels ohm_back_kernels_base, ohm_back_kernels_avx2, ohm_back_kernels_avx512;

#endif
