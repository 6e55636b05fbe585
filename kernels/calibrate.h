/* What a chip's digital side makes of reads of the chip itself: codes and ratio of drift compensation, and
 * the encoding correction of offset inputs (physics.md section 2). The CPU's versions work in the calling
 * thread; calibrate_cuda.h has the same on a device. */
#ifndef OHM_KERNELS_CALIBRATE_H
#define OHM_KERNELS_CALIBRATE_H

#include "kernels/program.h"

/* A drive code of a compensation read, from a random word: magnitudes up to most_code = 2^(bits-1)-1 with
 * either sign, where the drive has signs. */
OHM_INLINE uint8_t ohm_calibration_code(uint32_t word, int drive, int most_code)
{
    uint32_t most = (uint32_t)most_code;
    if (drive == OHM_DRIVE_OFFSET)
        return (uint8_t)(word % (2 * most + 1) + 1);
    uint32_t value = word % (most + 1), sign = drive == OHM_DRIVE_UNSIGNED ? 0 : word >> 31;
    return (uint8_t)(value | sign << 7);
}

/* Code i from word i of the stream; bits of a signed code. */
void ohm_calibration_codes(uint8_t *codes, size_t count, int drive, int bits,
                           const ohm_stream *stream);
/* alpha [n] = mean |sum| just after programming over mean |sum| now, per layer or per column; 1 where
 * nothing is left. fresh, now: [rows][n]. */
void ohm_calibration_alpha(float *alpha, const double *fresh, const double *now, int rows, int n,
                           int per_column);
/* correction [n] = 2^(bits-1)·Σ w_q over the inputs, from levels [slices][signs][k][n]; weight_bits: of the
 * codes in the cells. Exact. */
void ohm_calibration_nominal(double *correction, const ohm_geometry *g, const uint8_t *levels,
                             int bits, int weight_bits);

#endif
