/* The noisy matrix layer: Algorithm 1, lines 1-17, for y = x wᵀ + b with x [M,K], w [N,K].
 * Linear layers call it with their input, convolutions with chunks of patches. It owns the chip of
 * one layer; ranges and conductances live in memory that the caller plans.
 *
 * Every array below is in the backend's memory (host/backend.h), and everything that follows from data
 * stays there. On a device the calls queue their work: what is wrong with the data is noted in
 * *queue.fault, which ohm_chip_fault puts in words; on the CPU the call itself fails.
 *
 * One forward pass:  begin (ranges; the chip is programmed with the first rows)
 *                    -> while (ohm_noisy_wants_measure) { measure_rows for every chunk; measured }
 *                    -> rows for every chunk -> end
 * Where one scale serves all of x, a convolution quantises x once and cuts its rows from the codes:
 * quantise after begin, then measure_codes and code_rows in place of measure_rows and rows.
 * Every call takes rows by global index, so results do not depend on how the batch is cut. */
#ifndef OHM_HOST_NOISY_H
#define OHM_HOST_NOISY_H

#include "host/backend.h"
#include "host/chip.h"
#include "host/trace.h"

typedef struct ohm_noisy ohm_noisy;

typedef struct {
    const float *w;           /* [n,k] clean float weights */
    const float *bias;        /* [n] or NULL */
    const float *column_scale;/* [n] learned output scale (output.per_column_scale) or NULL */
    const float *x;           /* the layer's whole input (activations, before im2col), for its range */
    size_t x_count;
    float *x_range;           /* learned full scale [1], when quantise.x_range is learned; else NULL. Raised to the data's while calibrating, or while it is 0 */
    ohm_chip_moment moment;
    int training;             /* 1: running ranges move; 0: they are frozen */
    int recomputing;          /* 1: repeats a pass of this moment and input, whose ranges stand: none moves */
    int calibrating;          /* 1: calibrated ranges and the learned range's start are being gathered */
    int want_gradient;        /* ohm_chip_use: mode full, and where it has the forward pass's reads from */
    void *kept;               /* OHM_CHIP_SAVE: ohm_noisy_kept_bytes for the rows of this pass */
    uint64_t first_row;       /* global index of the first of them */
    float *persistent;        /* [ohm_noisy_persistent_count] zero at first: what a checkpoint keeps of the ranges */
    void *state;              /* ohm_noisy_state_bytes */
    void *scratch;            /* ohm_noisy_scratch_bytes */
    ohm_chip_queue queue;     /* of a device; the CPU: zero */
    ohm_trace *trace;         /* or NULL */
} ohm_noisy_pass;

/* backend NULL: the CPU. It must outlive the layer. */
ohm_status ohm_noisy_create(ohm_noisy **noisy, const ohm_backend *backend, const ohm_hardware *hardware, int k, int n, uint32_t layer);
void ohm_noisy_destroy(ohm_noisy *noisy);
/* Replaces hardware numbers that do not change shapes (noise level, time): evaluation sweeps. */
ohm_status ohm_noisy_set_hardware(ohm_noisy *noisy, const ohm_hardware *hardware);
size_t ohm_noisy_state_bytes(const ohm_noisy *noisy, int want_gradient);
size_t ohm_noisy_scratch_bytes(const ohm_noisy *noisy, int max_rows, int want_gradient);
/* OHM_CHIP_SAVE: what forward leaves for backward, of so many rows of the product: of every conversion what
 * mvm_factors.h says. OHM_ERR_UNSUPPORTED, and why, where the chip keeps nothing. */
ohm_status ohm_noisy_kept_bytes(const ohm_noisy *noisy, size_t rows, size_t *bytes);
/* 1: scales of outputs or inputs are learned, whose gradients need the sums that they scale. OHM_CHIP_SAVE takes
 * them from the layer's outputs, which must live until then. */
int ohm_noisy_learns_scales(const ohm_noisy *noisy);
int ohm_noisy_has_learned_range(const ohm_noisy *noisy);
int ohm_noisy_has_column_scale(const ohm_noisy *noisy);

ohm_status ohm_noisy_begin(ohm_noisy *noisy, const ohm_noisy_pass *pass);
int ohm_noisy_wants_measure(const ohm_noisy *noisy);
ohm_status ohm_noisy_measure_rows(ohm_noisy *noisy, const float *x, int ldx, int m, uint64_t first_row);
ohm_status ohm_noisy_measured(ohm_noisy *noisy);
/* y [m,n] = rescaled chip output + bias, row stride ldy. x [m,k]. */
ohm_status ohm_noisy_rows(ohm_noisy *noisy, float *y, int ldy, const float *x, int ldx, int m, uint64_t first_row);
/* 1: x has one scale, and the calls below give what those above give for the rows' own x. */
int ohm_noisy_takes_codes(const ohm_noisy *noisy);
/* Drive codes [x_count] of the pass's x, and that of x = 0, for pixels outside an image. */
ohm_status ohm_noisy_quantise(ohm_noisy *noisy, uint8_t *codes, uint8_t *zero);
/* codes [m,k], row stride ldc. */
ohm_status ohm_noisy_measure_codes(ohm_noisy *noisy, const uint8_t *codes, int ldc, int m, uint64_t first_row);
ohm_status ohm_noisy_code_rows(ohm_noisy *noisy, float *y, int ldy, const uint8_t *codes, int ldc, int m, uint64_t first_row);
/* 1: no x lies beyond its full scale, so that the backward pass below needs no x where it has its codes. */
int ohm_noisy_never_clips(const ohm_noisy *noisy);
/* Mode full: adds to dw [n,k], db [n], and to dx_range [1] and dcolumn_scale [n] if not NULL; writes dx [m,k] unless NULL.
 * dy [m,n] and x [m,k] are one chunk; last = 1 with the batch's last chunk. codes [m,k], row stride ldc: x is
 * not looked at; only with ohm_noisy_never_clips. NULL: they are formed. y [m,n], row stride ldy: the outputs,
 * where OHM_CHIP_SAVE needs them, else NULL. Where a learned output scale is 0 they tell nothing, and these rows
 * are read again. */
ohm_status ohm_noisy_backward_rows(ohm_noisy *noisy, float *dx, int lddx, float *dw, float *db, float *dx_range, float *dcolumn_scale,
                                   const float *dy, int lddy, const float *y, int ldy, const float *x, int ldx, const uint8_t *codes, int ldc, int m,
                                   uint64_t first_row, int last);
void ohm_noisy_end(ohm_noisy *noisy);

/* The persistent floats: x full scale, batches it has seen, batches the ADC ranges have seen, LSB [planes][slices][n or 1]. */
size_t ohm_noisy_persistent_count(const ohm_noisy *noisy);
/* A device's were written from the host, which has them here: what the host does next depends on them. */
void ohm_noisy_loaded(ohm_noisy *noisy, const float *persistent);

#endif
