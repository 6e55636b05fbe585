/* The quantisation of quantise.h on a device: the same codes and bits. All arrays are device memory,
 * row-major, leading dimensions in elements. Nothing waits; statuses are those of the launches. */
#ifndef OHM_KERNELS_QUANTISE_CUDA_H
#define OHM_KERNELS_QUANTISE_CUDA_H

#include "kernels/quantise.h"
#include "kernels/runtime_cuda.h"

OHM_C_BEGIN

/* out[0] = largest |x| of ohm_absmax; out[rows] of ohm_absmax_rows. */
ohm_cuda_status ohm_absmax_cuda(float *out, const float *x, size_t n, ohm_cuda_stream s);
ohm_cuda_status ohm_absmax_rows_cuda(float *out, const float *x, size_t rows, size_t cols,
                                     size_t ldx, ohm_cuda_stream s);
/* scale[n] = full[n] / codes, 1 where full is not above 0 (noisy.c's rule): ranges need not visit the
 * host. full may be scale. */
ohm_cuda_status ohm_scales_cuda(float *scale, const float *full, size_t n, int codes,
                                ohm_cuda_stream s);
/* As ohm_quantise, scale on the device. */
ohm_cuda_status ohm_quantise_cuda(int8_t *q, size_t ldq, const float *x, size_t rows, size_t cols,
                                  size_t ldx, const float *scale, int per_row, int qmax,
                                  ohm_cuda_stream s);
/* As ohm_quantise_drive; where the encoding is unsigned and some code is negative, *flags |= flag. */
ohm_cuda_status ohm_quantise_drive_cuda(uint8_t *u, size_t ldu, uint32_t *flags, uint32_t flag,
                                        const float *x, size_t rows, size_t cols, size_t ldx,
                                        const float *scale, int per_row, int qmax,
                                        ohm_drive encoding, int bits, ohm_cuda_stream s);
/* As ohm_weight_split: levels [slice][sign][k][n] of q [n][k]. */
ohm_cuda_status ohm_weight_split_cuda(uint8_t *levels, const int8_t *q, size_t n, size_t k,
                                      ohm_cells encoding, int cell_bits, int bits,
                                      ohm_cuda_stream s);
/* Codes and levels of a weight matrix in one pass over it: q [n][k], and levels as above. */
ohm_cuda_status ohm_quantise_split_cuda(int8_t *q, uint8_t *levels, const float *w, size_t n,
                                        size_t k, const float *scale, int per_row, int qmax,
                                        ohm_cells encoding, int cell_bits, int bits,
                                        ohm_cuda_stream s);

OHM_C_END

#endif
