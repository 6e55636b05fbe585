/* Inside of mode full: the derivative of a block of conversions without static errors. */
#ifndef OHM_KERNELS_MVM_CHAIN_H
#define OHM_KERNELS_MVM_CHAIN_H

#include <stddef.h>

typedef struct {
    float *current;         /* [rows][columns], row stride ld: values in, gradients by the current out */
    float *variance;        /* the same for the read variance (values where cells is set) */
    size_t ld;
    const float *dsums;     /* gradients of the sums, row stride ldd */
    size_t ldd;
    const float *z;         /* draws, row stride ldz; with noisy */
    size_t ldz;
    const float *inverse;   /* [columns] 1/LSB; 1 without an ADC */
    const float *johnson;   /* [columns] */
    const float *pre, *power; /* [rows] added on the bit line; variance that all columns share */
    float weight, adc_variance, low, high; /* low, high: ±infinity without an ADC */
    int noisy, cells;
} ohm_chain;

typedef void ohm_chain_task(const ohm_chain *c, int rows, int columns);
ohm_chain_task ohm_chain_block_base, ohm_chain_block_avx2, ohm_chain_block_avx512;

#endif
