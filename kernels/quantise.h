/* Fused symmetric quantisation (physics.md sections 1 and 2): ranges, codes, DAC drives and cell
 * levels. All matrices are row-major, lengths and leading dimensions in elements.
 *
 * Opens an OpenMP region when large: ohm_absmax, ohm_absmax_rows, ohm_abs_percentile, ohm_quantise,
 * ohm_weight_split. Results do not depend on the number of threads. The drive functions work in the
 * calling thread. Nothing here allocates. */
#ifndef OHM_KERNELS_QUANTISE_H
#define OHM_KERNELS_QUANTISE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu.h"

/* How a signed code drives the word lines. */
typedef enum {
    OHM_DRIVE_OFFSET,         /* code + 2^(bits-1) */
    OHM_DRIVE_SIGN_MAGNITUDE, /* sign << 7 | magnitude */
    OHM_DRIVE_TWO_PHASE,      /* the same byte, read as x+ and then x- */
    OHM_DRIVE_UNSIGNED        /* the code; codes below zero are an error of the caller */
} ohm_drive;

/* How a signed weight code sits in the cells. */
typedef enum {
    OHM_CELLS_DIFFERENTIAL, /* bits-1 magnitude bits in one of two arrays */
    OHM_CELLS_OFFSET        /* code + 2^(bits-1) in one array */
} ohm_cells;

/* Largest |x|: 0 for n = 0, infinity if present, NaN if any element is NaN. */
float ohm_absmax(const float *x, size_t n);
/* The same for each row: out [rows], x [rows, cols] with ldx >= cols. */
void ohm_absmax_rows(float *out, const float *x, size_t rows, size_t cols, size_t ldx);
/* Nearest-rank percentile of |x|: the smallest element that at least percent % of the elements do
 * not exceed, 0 <= percent <= 100. Exact. NaN if any element is NaN, 0 for n = 0. */
float ohm_abs_percentile(const float *x, size_t n, double percent);

/* q [rows, cols] = clamp(rint(x / s), -qmax, qmax): true division, ties to even. s = scale[row] if
 * per_row, else scale[0]; a scale of 0 counts as 1. qmax <= 127. NaN becomes -qmax. */
void ohm_quantise(int8_t *q, size_t ldq, const float *x, size_t rows, size_t cols, size_t ldx,
                  const float *scale, int per_row, int qmax);

/* u [n] = drive byte of q [n]; bits = width of the signed code, 2..8. Returns 1 if the encoding is
 * unsigned and some code is negative (it is driven as 0), else 0. */
int ohm_drive_encode(uint8_t *u, const int8_t *q, size_t n, ohm_drive encoding, int bits);
/* ohm_quantise and ohm_drive_encode in one pass, u [rows, cols]. Same return value; a negative x
 * that rounds to code 0 does not count. */
int ohm_quantise_drive(uint8_t *u, size_t ldu, const float *x, size_t rows, size_t cols, size_t ldx,
                       const float *scale, int per_row, int qmax, ohm_drive encoding, int bits);

/* Slices that a weight code of `bits` bits needs with cells of cell_bits: ceil(b/c). */
int ohm_weight_slices(ohm_cells encoding, int cell_bits, int bits);
/* levels [slice][sign][k][n] from codes q [n][k] (n columns of the array, k word lines), slice 0 =
 * least significant bits. Differential: sign 0 holds the magnitude of positive codes, sign 1 that
 * of negative ones, 0 elsewhere. Offset: one sign. */
void ohm_weight_split(uint8_t *levels, const int8_t *q, size_t n, size_t k, ohm_cells encoding,
                      int cell_bits, int bits);

/* References: scalar, in double where it matters. */
float ohm_absmax_ref(const float *x, size_t n);
void ohm_quantise_ref(int8_t *q, size_t ldq, const float *x, size_t rows, size_t cols, size_t ldx,
                      const float *scale, int per_row, int qmax);
int ohm_drive_encode_ref(uint8_t *u, const int8_t *q, size_t n, ohm_drive encoding, int bits);
void ohm_weight_split_ref(uint8_t *levels, const int8_t *q, size_t n, size_t k, ohm_cells encoding,
                          int cell_bits, int bits);

/* Single-threaded inner loops of one instruction set; NULL where this build does not hold it. */
typedef struct {
    uint32_t (*absmax)(const float *x, size_t n); /* bits of the largest |x| */
    void (*quantise)(int8_t *q, const float *x, size_t n, float scale, int qmax);
    int (*quantise_drive)(uint8_t *u, const float *x, size_t n, float scale, int qmax,
                          ohm_drive encoding, int bits);
    int (*drive_encode)(uint8_t *u, const int8_t *q, size_t n, ohm_drive encoding, int bits);
    /* turned [rows][ldt] = the transpose of q [cols][ldq] */
    void (*turn)(int8_t *turned, size_t ldt, const int8_t *q, size_t ldq, size_t rows, size_t cols);
    /* level = (code of one array) >> shift & mask; sign 1 is the negative array of a pair */
    void (*split)(uint8_t *level, const int8_t *q, size_t n, ohm_cells encoding, int sign, int bits,
                  int shift, int mask);
} ohm_quantise_kernels;
const ohm_quantise_kernels *ohm_quantise_kernels_of(ohm_isa isa);

#endif
