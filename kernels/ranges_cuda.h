/* The ranges of ranges.h on a device: all arrays, and what rules and jobs point at, are device memory;
 * the structs themselves are host memory, read at the call. Nothing waits; statuses are those of the
 * launches. Largest elements, percentiles, scales, codes and ranges have the CPU's bits; the sums of
 * mode full are made in double in another order. */
#ifndef OHM_KERNELS_RANGES_CUDA_H
#define OHM_KERNELS_RANGES_CUDA_H

#include "kernels/ranges.h"
#include "kernels/runtime_cuda.h"

OHM_C_BEGIN

/* *out = ohm_abs_percentile of x [n]; selection->percentile holds its bits, too. */
ohm_cuda_status ohm_abs_percentile_cuda(float *out, const float *x, size_t n, double percent,
                                        ohm_selection *selection, ohm_cuda_stream s);

ohm_cuda_status ohm_input_scale_cuda(float *scale, float *kept, float *learned, uint32_t *fault,
                                     const float *x, size_t count, const ohm_scale_rule *rule,
                                     ohm_selection *selection, ohm_cuda_stream s);
ohm_cuda_status ohm_row_scales_cuda(float *scale, const float *x, size_t rows, size_t cols,
                                    size_t ldx, const ohm_scale_rule *rule, ohm_cuda_stream s);
ohm_cuda_status ohm_weight_scales_cuda(float *scale, uint32_t *fault, const float *w, size_t n,
                                       size_t k, const ohm_scale_rule *rule,
                                       ohm_selection *selection, ohm_cuda_stream s);
ohm_cuda_status ohm_weight_levels_cuda(uint8_t *levels, int8_t *codes, float *digital,
                                       int32_t *bias_codes, const ohm_weight_job *job,
                                       ohm_cuda_stream s);
ohm_cuda_status ohm_drive_codes_cuda(uint8_t *u, size_t ldu, uint32_t *fault, const float *x,
                                     size_t rows, size_t cols, size_t ldx, const float *scale,
                                     int per_row, int qmax, ohm_drive encoding, int bits,
                                     ohm_cuda_stream s);
ohm_cuda_status ohm_append_always_on_cuda(uint8_t *u, size_t ldu, const uint8_t *from,
                                          size_t ld_from, size_t rows, size_t cols,
                                          const ohm_always_on *always, ohm_cuda_stream s);

ohm_cuda_status ohm_cut_ranges_cuda(float *range, const uint32_t *histogram, size_t ranges,
                                    int bins, double percent, ohm_cuda_stream s);
ohm_cuda_status ohm_raise_ranges_cuda(float *range, const float *other, size_t ranges,
                                      ohm_cuda_stream s);
ohm_cuda_status ohm_update_lsb_cuda(float *lsb, float *batches, const float *range, size_t ranges,
                                    const ohm_lsb_rule *rule, ohm_cuda_stream s);

ohm_cuda_status ohm_rescale_cuda(float *y, size_t ldy, size_t m, size_t n, const ohm_scales *scales,
                                 const float *bias, ohm_cuda_stream s);

ohm_cuda_status ohm_rescale_backward_cuda(float *dsums, float *db, const float *dy, size_t lddy,
                                          size_t m, size_t n, const ohm_scales *scales,
                                          double *partial, ohm_cuda_stream s);
ohm_cuda_status ohm_unscale_cuda(float *sums, const float *y, size_t ldy, size_t m, size_t n,
                                 const ohm_scales *scales, const float *bias, ohm_cuda_stream s);
ohm_cuda_status ohm_scale_gradients_cuda(float *dx_range, float *dcolumn_scale, const float *dy,
                                         size_t lddy, const float *sums, size_t m, size_t n,
                                         const ohm_scales *scales, double *partial,
                                         ohm_cuda_stream s);
ohm_cuda_status ohm_drive_backward_cuda(float *dx, size_t lddx, float *dx_range,
                                        const float *dcodes, size_t ldd, const float *x, size_t ldx,
                                        size_t m, size_t k, const ohm_scales *scales,
                                        double *partial, ohm_cuda_stream s);
ohm_cuda_status ohm_weight_backward_cuda(float *dw, const float *dcodes, size_t ldd, const float *w,
                                         size_t n, size_t k, const ohm_scales *scales,
                                         ohm_cuda_stream s);

OHM_C_END

#endif
