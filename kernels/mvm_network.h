/* Inside of the MVM on crossbars whose wires are solved for every read (ohm_mvm_network): what the
 * networks of one row of x give, and its derivative. */
#ifndef OHM_KERNELS_MVM_NETWORK_H
#define OHM_KERNELS_MVM_NETWORK_H

#include "kernels/mvm.h"

/* Drives of one row: a pass is a phase and a plane, phase·planes + plane; a read here is
 * (pass·slices + slice)·tiles + tile, both arrays of a pair at once. Columns of a read: outputs by sign,
 * then (offset weights) the reference of each column tile. All from the network's scratch. */
typedef struct {
    double *drive;    /* [passes][k] digits as the DAC gives them */
    uint8_t *off;     /* [passes][k] 1 = the row is cut off */
    double *current;  /* [reads][columns] digit·level, per-cell read noise included where it is drawn */
    double *variance; /* [reads][columns] of the aggregated read noise */
    double *sums;     /* [n] free for the caller */
    double *dcurrent, *dvariance; /* [reads][columns] gradients by current and variance: ohm_mvm_network_chain */
} ohm_network_row;

void ohm_network_row_at(ohm_network_row *row, const ohm_geometry *g, const ohm_mvm_network *n);

static inline int ohm_network_columns(const ohm_geometry *g)
{
    return g->differential ? 2 * g->n : g->n + g->column_tiles;
}
static inline size_t ohm_network_read(const ohm_geometry *g, int pass, int slice, int tile)
{
    return ((size_t)pass * g->slices + slice) * g->tiles + tile;
}

/* The cell whose own read noise is drawn at stream element `element + k·columns` (form per_cell). */
uint64_t ohm_cell_noise_element(const ohm_geometry *g, uint64_t row, uint64_t read, int sign, int column);

/* current and variance of a row from drive and off. row: global index, for per_cell draws. */
ohm_solve_status ohm_mvm_network_forward(const ohm_network_row *to, const ohm_geometry *g, const ohm_read *r,
                                         const ohm_crossbar *cells, uint64_t row, int per_cell);
/* Mode full, first half: reads a row, x [k] in real drive codes, and from dsums [n] fills dcurrent and
 * dvariance. The network's scratch belongs to the thread; dcurrent and dvariance are the caller's. */
ohm_solve_status ohm_mvm_network_chain(const ohm_network_row *row, const ohm_geometry *g, const ohm_read *r, const ohm_crossbar *cells,
                                       const double *x, uint64_t index, int round, const double *dsums);

#endif
