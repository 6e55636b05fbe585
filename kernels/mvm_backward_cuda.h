/* Mode full on CUDA devices: mvm_backward.h's contract with device pointers, the reads' draws made
 * anew. Structs lie in host memory, every address in them is the device's; no call allocates or waits.
 *
 * Two kernels, one towards dx and one towards the cells. A block forms the currents of 64 rows of x on
 * 128 packed columns again, turns them on chip into the gradients of these conversions, and multiplies
 * those by the cells (towards dx) or the drive (towards dg). What goes through memory has the size of
 * dx and dg: nothing of rows x columns x reads exists. dx is summed by the block that owns its rows,
 * dg by blocks that each own a group of rows, fixed by shape alone, and added in the order of groups:
 * no atomics, the same bits on every device of one architecture.
 *
 * Products are tf32 mma with operands split into two parts, so that sums are as good as float's. Bounds
 * of one conversion, R rows per tile (estimates; nothing here has been measured):
 *   products  towards the cells 4R multiply-adds with whole digits (two of the current, two of dg), 3R
 *             where cells are halves; towards dx 5R and 3R; per-cell variances 4R to 6R more. An SM makes
 *             1024 (H100) or 512 (A100) a clock
 *   operands  16 to 32 multiply-adds for each word that a lane fetches from shared memory, 32 of which come
 *             a clock: 512 to 1024 multiply-adds a clock
 *   draws     about 20 issue slots a normal, 0.2 clocks of an SM
 *   bytes     8 of L2 per 128 columns (dx) or 128 rows (dg) and cell; codes and cells from L2
 * hence operands on an H100, products on an A100, from R = 50 on. A chip of P planes and S slices has S
 * conversions per output and tile in the first kernel and P in the second: plane 0 alone carries dx, slice
 * 0 alone dg. */
#ifndef OHM_KERNELS_MVM_BACKWARD_CUDA_H
#define OHM_KERNELS_MVM_BACKWARD_CUDA_H

#include "kernels/mvm_cuda.h"
#include "kernels/program.h"

OHM_C_BEGIN

typedef struct {
    const float *dsums; /* [m][n] gradient of the corrected sums (ohm_read's alpha is applied) */
    int ldd;            /* row stride; 0: all rows have the same */
    float scale;        /* of dsums */
    float *dx;          /* [m][k] written: gradient by the real code; NULL = not wanted */
    int lddx;
    const ohm_cell_gradient *cells; /* dg, dvariance, dref and dref_variance are added to */
    double johnson_scale;
    int halves; /* conductances and variances are halves (ohm_programming's halves): one product less */
    void *scratch; /* ohm_mvm_backward_cuda_bytes, 64-byte aligned */
} ohm_mvm_backward_output;

ohm_cuda_status ohm_mvm_backward_cuda(const ohm_mvm_backward_output *d, const ohm_mvm_input *x,
                                      ohm_cuda_stream s);
/* Of up to m rows. */
size_t ohm_mvm_backward_cuda_bytes(const ohm_geometry *g, int m);
/* Dynamic shared memory of a block; a device with less refuses the launch. */
size_t ohm_mvm_backward_cuda_shared_bytes(const ohm_geometry *g, const ohm_read *r);

/* ---- from gradients by conductances to those by weights: ohm_mvm_finish_gradient ---------------- */

/* negative [k][n]: 1 where a pair's negative array holds the weight, from levels w_split; zeros with
 * offset weights. */
ohm_cuda_status ohm_mvm_negative_cuda(uint8_t *negative, const ohm_geometry *g,
                                      const uint8_t *w_split, ohm_cuda_stream s);

/* Zeros what is gathered: dg, dvariance, dref and dref_variance. */
ohm_cuda_status ohm_mvm_clear_gradient_cuda(const ohm_cell_gradient *cells, const ohm_geometry *g,
                                            ohm_cuda_stream s);

/* What the nominal correction of offset inputs adds: dw [n][k] -= 2^(bits-1)·dsum_total [n], the sums
 * over the batch of the gradients of the corrected sums. */
ohm_cuda_status ohm_mvm_nominal_gradient_cuda(float *dw, const float *dsum_total,
                                              const ohm_geometry *g, int bits, ohm_cuda_stream s);

/* dw [n][k] += d loss / d w_q; what was gathered in cells is then cleared. g, p and read are host memory.
 * Wires go by their closed form, or exactly (irdrop_adjoint_cuda.h): where a tile has no finite gradient,
 * `bit` is set in *fault and dw is of no use. scratch: ohm_mvm_finish_cuda_bytes, 64-byte aligned. */
ohm_cuda_status ohm_mvm_finish_gradient_cuda(float *dw, const ohm_cell_gradient *cells,
                                             const uint8_t *negative, const ohm_geometry *g,
                                             const ohm_programming *p, const ohm_read_law *read,
                                             uint32_t *fault, uint32_t bit, void *scratch,
                                             ohm_cuda_stream s);
size_t ohm_mvm_finish_cuda_bytes(const ohm_geometry *g, const ohm_programming *p);

OHM_C_END

#endif
