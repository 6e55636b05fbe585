/* The ranges and codes of a noisy layer (physics.md section 1, lines 5-17 of Algorithm 1): from data to
 * scales, codes, LSBs and outputs. Everything that follows from data lies in memory of the caller and
 * is read where it lies, so that a device needs no host in between. What data may not hold is noted:
 * bits are added to *fault.
 *
 * _cpu: host memory, OpenMP where large; selection may be NULL. ranges_cuda.h: device memory, the same
 * bits for every grid, except where a comment says otherwise. */
#ifndef OHM_KERNELS_RANGES_H
#define OHM_KERNELS_RANGES_H

#include "kernels/portable.h"
#include "kernels/quantise.h"

OHM_C_BEGIN

typedef enum {
    OHM_FAULT_INPUT = 1,
    OHM_FAULT_WEIGHT = 2,
    OHM_FAULT_NEGATIVE = 4,
    OHM_FAULT_WIRES = 8
} ohm_fault;

/* Where a full scale comes from. */
typedef enum {
    OHM_SCALE_ABSMAX,
    OHM_SCALE_PERCENTILE,
    OHM_SCALE_RUNNING,
    OHM_SCALE_LEARNED,
    OHM_SCALE_NUMBER
} ohm_scale_kind;
/* When one that is kept moves: never, while it has seen nothing, with every batch. */
typedef enum { OHM_MOVE_NEVER, OHM_MOVE_FIRST, OHM_MOVE_ALWAYS } ohm_move;

typedef struct {
    int kind;     /* ohm_scale_kind */
    double value; /* percentile, decay of the running mean, or the number */
    int each_row; /* every row of x, or of w, has a scale of its own (absmax, percentile) */
    int move;     /* ohm_move, of running and learned ones */
    int codes;    /* scale = full scale / codes; 1 where the full scale is not above 0 */
} ohm_scale_rule;

enum { OHM_SELECTION_DIGITS = 2048 };
/* What a device needs to find a largest element or a percentile. */
typedef struct {
    uint32_t most, percentile; /* bits of floats */
    uint32_t prefix, nan;
    uint64_t rank;
    uint32_t count[OHM_SELECTION_DIGITS];
} ohm_selection;

/* scale [1] of x [count], 0 with each_row. kept [2]: running full scale and the batches it has seen;
 * learned [1] or NULL: raised to the data while it moves. NaN or infinity: OHM_FAULT_INPUT. */
void ohm_input_scale_cpu(float *scale, float *kept, float *learned, uint32_t *fault, const float *x,
                         size_t count, const ohm_scale_rule *rule, ohm_selection *selection);
/* scale [rows] of the rows of x [rows, cols]. */
void ohm_row_scales_cpu(float *scale, const float *x, size_t rows, size_t cols, size_t ldx,
                        const ohm_scale_rule *rule);
/* scale [n] of w [n,k], one for all without each_row. NaN or infinity: OHM_FAULT_WEIGHT. */
void ohm_weight_scales_cpu(float *scale, uint32_t *fault, const float *w, size_t n, size_t k,
                           const ohm_scale_rule *rule, ohm_selection *selection);

/* Where a bias goes on rows that are always driven: eight at full scale share the coarse part, one at 1
 * holds the rest; what they cannot hold is added digitally. */
enum { OHM_BIAS_COARSE = 8, OHM_BIAS_ROWS_COUNT = OHM_BIAS_COARSE + 1 };

/* A layer's weights on their way into cells. */
typedef struct {
    const float *w;                   /* [n,k] */
    const float *bias, *column_scale; /* [n] or NULL */
    const float *x_scale, *w_scale;   /* [1], 0 where rows have their own; [n] */
    int n, k;
    int rows; /* k, or k and the OHM_BIAS_ROWS_COUNT rows of the bias */
    int codes, bits, cell_bits;
    int cells; /* ohm_cells */
} ohm_weight_job;
/* levels [slices][signs][rows][n] (quantise.h), by way of codes [n][rows]; bias_codes [n] = rint(b/(s_x s_w)),
 * 0 where s_x differs by row; digital [n]: what is left to be added to the outputs. */
void ohm_weight_levels_cpu(uint8_t *levels, int8_t *codes, float *digital, int32_t *bias_codes,
                           const ohm_weight_job *job);

/* u [rows, cols]: drive bytes of x, as ohm_quantise_drive. A code below zero with an unsigned encoding:
 * OHM_FAULT_NEGATIVE. */
void ohm_drive_codes_cpu(uint8_t *u, size_t ldu, uint32_t *fault, const float *x, size_t rows,
                         size_t cols, size_t ldx, const float *scale, int per_row, int qmax,
                         ohm_drive encoding, int bits);
typedef struct {
    uint8_t code[OHM_BIAS_ROWS_COUNT];
} ohm_always_on;
/* Columns cols .. cols + OHM_BIAS_ROWS_COUNT - 1 of u [rows, ldu] become the codes of the always-on rows;
 * those before, where from [rows, cols] is not NULL, are copied from it. */
void ohm_append_always_on_cpu(uint8_t *u, size_t ldu, const uint8_t *from, size_t ld_from,
                              size_t rows, size_t cols, const ohm_always_on *always);

/* ---- the ADC's range: [ranges] currents in digit·level units ---- */

/* From largest currents and their histogram [ranges][bins] to the upper edge of the bin below which
 * `percent` of the currents lie. */
void ohm_cut_ranges_cpu(float *range, const uint32_t *histogram, size_t ranges, int bins,
                        double percent);
/* range = max(range, other). */
void ohm_raise_ranges_cpu(float *range, const float *other, size_t ranges);

typedef enum { OHM_LSB_DATA, OHM_LSB_RUNNING, OHM_LSB_MEAN, OHM_LSB_MOST } ohm_lsb_kind;
typedef struct {
    int kind; /* ohm_lsb_kind: this batch's currents alone; a running mean; the mean of batches; the most of them */
    double decay; /* of the running mean */
    double codes; /* LSB = range / codes; 1 where the range is not above 0 */
} ohm_lsb_rule;
/* lsb [ranges] takes in range; batches [1], which it has seen before, is raised by one. */
void ohm_update_lsb_cpu(float *lsb, float *batches, const float *range, size_t ranges,
                        const ohm_lsb_rule *rule);

/* ---- outputs ---- */

/* Scales of one layer. */
typedef struct {
    const float *x_scale; /* [1] or, x_scale_rows, one per row */
    int x_scale_rows;
    const float *w_scale, *column_scale; /* [n]; column_scale or NULL */
    int codes;
} ohm_scales;
/* y [m,n] = y · x_scale · w_scale · column_scale + bias [n], in double. */
void ohm_rescale_cpu(float *y, size_t ldy, size_t m, size_t n, const ohm_scales *scales,
                     const float *bias);

/* ---- mode full: partial [ohm_range_partials(m, n, k)]; device sums are added in another order ---- */

size_t ohm_range_partials(size_t m, size_t n, size_t k);
/* dsums [m,n], dense, = gradient of the corrected sums; adds dy [m,n] to db [n] unless NULL. */
void ohm_rescale_backward_cpu(float *dsums, float *db, const float *dy, size_t lddy, size_t m,
                              size_t n, const ohm_scales *scales, double *partial);
/* sums [m,n], dense, = what ohm_rescale made y of, to a float's rounding of y and bias. No scale may be 0;
 * sums may be y. */
void ohm_unscale_cpu(float *sums, const float *y, size_t ldy, size_t m, size_t n,
                     const ohm_scales *scales, const float *bias);
/* sums [m,n], dense: the corrected sums again. Adds to dcolumn_scale [n] unless NULL, and to dx_range [1],
 * unless NULL, what y = sums · range/codes · ... gives it. */
void ohm_scale_gradients_cpu(float *dx_range, float *dcolumn_scale, const float *dy, size_t lddy,
                             const float *sums, size_t m, size_t n, const ohm_scales *scales,
                             double *partial);
/* dx [m,k], unless NULL, = dcodes [m,k] / x_scale within the full scale, 0 beyond it; x NULL: none is beyond it.
 * Adds to dx_range [1], unless NULL (as it must be without x), what the codes x / (range/codes) give it. */
void ohm_drive_backward_cpu(float *dx, size_t lddx, float *dx_range, const float *dcodes,
                            size_t ldd, const float *x, size_t ldx, size_t m, size_t k,
                            const ohm_scales *scales, double *partial);
/* dw [n,k] += dcodes [n,k] (row stride ldd) / w_scale within the full scale. */
void ohm_weight_backward_cpu(float *dw, const float *dcodes, size_t ldd, const float *w, size_t n,
                             size_t k, const ohm_scales *scales);

OHM_C_END

#endif
