/* Mode full: what the derivative needs of every conversion, and no more. A read writes it
 * (ohm_mvm_read_cpu), the backward pass takes it: kept in between (`save`), or written again from the
 * same counters (`recompute`). Either way it is the same bits.
 *
 *   slope  = d (LSB·code) / d current: 0 where the converter clips; inside its range 1, but for gain
 *            error, INL and S-shape
 *   spread = d (LSB·code) / d (variance of the current) = slope·z / (2 sigma): where there is read noise
 *
 * A chain rule that sees conversions as black boxes can do with no less:
 *
 *   read noise | static errors | bytes per conversion
 *   no         | no            | 1/8: the slope, a bit; nothing without a converter
 *   no         | yes           | 4: the slope
 *   yes        | no            | 4: the spread, infinite where the converter clips
 *   yes        | yes           | 8: both
 *
 * Reads kept of a row of x are those of plane 0, for dx, and of slice 0, for dg (physics.md section 7):
 * planes + slices - 1 of planes·slices, per phase, array and row tile. Of offset weights, a reference
 * column counts as one more column of its column tile. What rows are driven with is no more than their
 * codes and DAC noise, and is formed again. */
#ifndef OHM_KERNELS_MVM_FACTORS_H
#define OHM_KERNELS_MVM_FACTORS_H

#include "kernels/mvm.h"

/* Shape of the factors of one row of x: slope [reads][columns], spread the same, or bits [reads][words]. */
typedef struct {
    int slope, spread, bits; /* which there are */
    int reads, columns;      /* columns: n, and references */
    int words;               /* of 16 packed columns, or of one reference */
    size_t row_bytes;        /* 0: the derivative needs nothing */
} ohm_mvm_factors;

OHM_INLINE ohm_mvm_factors ohm_mvm_factors_of(const ohm_geometry *g, const ohm_read *r)
{
    int references = g->differential ? 0 : g->column_tiles, converts = r->adc_bits > 0;
    ohm_mvm_factors f = {.slope = converts && r->static_errors,
                         .spread = r->read_noise,
                         .bits = converts && !r->static_errors && !r->read_noise,
                         .reads = g->phases * (g->planes + g->slices - 1) * ohm_arrays(g) * g->tiles,
                         .columns = g->n + references,
                         .words = ohm_packed_columns(g) / 16 + references};
    size_t floats = (size_t)(f.slope + f.spread) * (size_t)f.columns * sizeof(float);
    f.row_bytes = (size_t)f.reads * (floats + (f.bits ? (size_t)f.words * sizeof(uint16_t) : 0));
    return f;
}

/* Which of the kept reads this is; -1: none. */
OHM_INLINE int ohm_mvm_kept_read(const ohm_geometry *g, int phase, int plane, int slice, int array, int tile)
{
    if (plane > 0 && slice > 0)
        return -1;
    int place = plane ? g->slices - 1 + plane : slice;
    return ((phase * (g->planes + g->slices - 1) + place) * ohm_arrays(g) + array) * g->tiles + tile;
}

/* Where the factors of a kept read begin within those of its row, in floats, or in words of bits. References
 * come after the columns; packed column c is bit c % 16 of word c / 16. */
OHM_INLINE size_t ohm_mvm_slope_at(const ohm_mvm_factors *f, int read)
{
    return (size_t)read * (size_t)f->columns;
}
OHM_INLINE size_t ohm_mvm_spread_at(const ohm_mvm_factors *f, int read)
{
    return (size_t)(read + f->slope * f->reads) * (size_t)f->columns;
}
OHM_INLINE size_t ohm_mvm_bits_at(const ohm_mvm_factors *f, int read)
{
    return (size_t)read * (size_t)f->words;
}

/* What is made of the currents of the rows that are read; NULL where it is not wanted. */
typedef struct {
    float *sums;    /* [m,n] corrected, row stride lds; or */
    double *raw;    /* [m,n] uncorrected */
    int lds;
    void *factors;  /* [m][row_bytes]. Alone, only the kept reads are done */
} ohm_mvm_result;

/* As ohm_mvm_cpu, ohm_mvm_raw_cpu (mvm.h). Factors are those of a read that is not quiet. */
void ohm_mvm_read_cpu(const ohm_mvm_result *to, const ohm_geometry *g, const ohm_read *r, const ohm_tiles *w, const uint8_t *x_u, int ldx,
                      int m, uint64_t first_row, void *scratch);

#endif
