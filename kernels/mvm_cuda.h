/* The analog matrix-vector product on CUDA devices: mvm.h's contract with device pointers. The structs
 * lie in host memory; every address inside them and beside them is the device's. Draws have the
 * addresses that the CPU gives them, so both devices see the same noise; values agree to float
 * rounding, which an ADC may turn into one code where a value lies on a threshold.
 *
 *   plain  every mapping and effect in float, the reference of the others (mvm_plain_cuda.cu)
 *   mma    tensor cores, conductances in half precision (mvm_mma_cuda.cu)
 *   hopper the same by wgmma and bulk copies on sm_90a (mvm_hopper_cuda.cu)
 * mvm_halves_cuda.h has the last two and chooses.
 *
 * Each reads, converts, adds up and rescales in one launch and writes once; nothing of the size of
 * samples x outputs x reads exists. No call allocates or waits; all work is queued on the stream. */
#ifndef OHM_KERNELS_MVM_CUDA_H
#define OHM_KERNELS_MVM_CUDA_H

#include "kernels/mvm.h"
#include "kernels/runtime_cuda.h"

OHM_C_BEGIN

/* What becomes of a corrected sum: y = sum · x_scale · w_scale · column_scale + bias - clean. */
typedef struct {
    float *y; /* [m][n] written, row stride ldy */
    int ldy;
    const float
        *x_scale; /* [m], or [1]; NULL: y is the corrected sum itself, and nothing below is used */
    int x_scale_rows;                 /* x_scale has one per row */
    const float *w_scale;             /* [n] */
    const float *column_scale, *bias; /* [n] or NULL */
    const float *clean;               /* [m][n] subtracted (delta form), row stride ldc; or NULL */
    int ldc;
} ohm_mvm_output;

OHM_INLINE float ohm_mvm_rescale(const ohm_mvm_output *o, double corrected, int row, int n)
{
    float sum = (float)corrected;
    if (!o->x_scale)
        return sum;
    double x_scale = o->x_scale[o->x_scale_rows ? row : 0];
    double scale = x_scale * o->w_scale[n] * (o->column_scale ? o->column_scale[n] : 1.0f);
    float y = (float)(sum * scale + (o->bias ? o->bias[n] : 0.0f));
    return o->clean ? y - o->clean[(size_t)row * o->ldc + n] : y;
}

/* x_u [m][k] drive codes, row stride ldx; first_row is the global index of row 0. step, where not NULL,
 * is device memory: the optimiser step of all draws instead of r->stream.step, so that a captured graph
 * serves every step. */
typedef struct {
    const ohm_geometry *g;
    const ohm_read *r;
    const ohm_tiles *w;
    const uint8_t *x_u;
    int ldx, m;
    uint64_t first_row;
    const uint32_t *step;
} ohm_mvm_input;

/* The plain kernel. */
ohm_cuda_status ohm_mvm_plain_cuda(const ohm_mvm_output *y, const ohm_mvm_input *x,
                                   ohm_cuda_stream s);
/* Raw sums in double [m][n], row stride lds, for calibration reads. */
ohm_cuda_status ohm_mvm_raw_cuda(double *sums, int lds, const ohm_mvm_input *x, ohm_cuda_stream s);
/* The same for few rows: up to 16 parts of the row tiles are read side by side, and added in order.
 * partial: ohm_mvm_raw_parts_doubles(g, m). */
ohm_cuda_status ohm_mvm_raw_parts_cuda(double *sums, int lds, double *partial,
                                       const ohm_mvm_input *x, ohm_cuda_stream s);
size_t ohm_mvm_raw_parts_doubles(const ohm_geometry *g, int m);
/* mean [n] of the raw sums over the m rows, for corrections that are read from the chip: of few rows, so
 * the groups of reads (phases, planes, slices, arrays) run side by side and are added in a fixed order.
 * partial: ohm_mvm_mean_doubles(g, m). */
ohm_cuda_status ohm_mvm_mean_cuda(double *mean, double *partial, const ohm_mvm_input *x,
                                  ohm_cuda_stream s);
size_t ohm_mvm_mean_doubles(const ohm_geometry *g, int m);
/* As ohm_mvm_range_cpu: raises range [planes][slices][n or 1] to the largest |noise-free current|, or
 * with histogram [planes][slices][n or 1][bins] counts the currents in bins of range/bins. */
ohm_cuda_status ohm_mvm_range_cuda(float *range, uint32_t *histogram, int bins, int per_column,
                                   const ohm_mvm_input *x, ohm_cuda_stream s);

OHM_C_END

#endif
