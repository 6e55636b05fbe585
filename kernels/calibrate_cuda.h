/* calibrate.h on a device: arrays are device memory, g and stream host memory, read at the launch. Codes and
 * the nominal correction have the CPU's bits; alpha adds columns in another, fixed order. */
#ifndef OHM_KERNELS_CALIBRATE_CUDA_H
#define OHM_KERNELS_CALIBRATE_CUDA_H

#include "kernels/calibrate.h"
#include "kernels/runtime_cuda.h"

OHM_C_BEGIN

ohm_cuda_status ohm_calibration_codes_cuda(uint8_t *codes, size_t count, int drive, int bits,
                                           const ohm_stream *stream, ohm_cuda_stream s);
ohm_cuda_status ohm_calibration_alpha_cuda(float *alpha, const double *fresh, const double *now,
                                           int rows, int n, int per_column, ohm_cuda_stream s);
ohm_cuda_status ohm_calibration_nominal_cuda(double *correction, const ohm_geometry *g,
                                             const uint8_t *levels, int bits, int weight_bits,
                                             ohm_cuda_stream s);

OHM_C_END

#endif
