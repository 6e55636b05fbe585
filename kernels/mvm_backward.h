/* Mode full: the derivative of ohm_mvm_cpu with rounding as identity (physics.md section 7). Noise
 * draws, LSB and drift compensation are constants; clipping masks; the fraction that rounding drops
 * rides on plane 0 and slice 0, so dx passes through plane 0 alone and dg through slice 0 alone. */
#ifndef OHM_KERNELS_MVM_BACKWARD_H
#define OHM_KERNELS_MVM_BACKWARD_H

#include "kernels/mvm_factors.h"
#include "kernels/program.h"

typedef struct {
    const uint8_t *x_u;     /* [m,k] drive codes, row stride ldx */
    int ldx;
    const double *x;        /* ohm_mvm_network_backward, instead: [m,k] real drive codes (round = 0), as ohm_mvm_ref takes them */
    int round;
    int m;
    uint64_t first_row;
    const void *factors;    /* [m][row_bytes] of these rows' conversions (mvm_factors.h); not for ohm_mvm_network_backward */
    const float *dsums;     /* [m,n] gradient of the uncorrected sums, row stride ldd */
    int ldd;
    float *dx;              /* [m,k] written: gradient by the real code; NULL = not wanted */
    int lddx;
    ohm_cell_gradient *cells; /* dg and dvariance are added to; dw is formed by ohm_mvm_finish_gradient */
} ohm_mvm_gradient;

/* scratch: ohm_mvm_backward_scratch_bytes(g, r, m). Same bits for any number of threads. */
void ohm_mvm_backward(const ohm_mvm_gradient *d, const ohm_geometry *g, const ohm_read *r, const ohm_tiles *w, double johnson_scale,
                      void *scratch);
size_t ohm_mvm_backward_scratch_bytes(const ohm_geometry *g, const ohm_read *r, int m);

/* The same where wires are solved for every read (cells->network): by the adjoint at each read's solution.
 * cells->network->scratch and failure are not used; *failure says where a read had no solution. scratch:
 * ohm_mvm_network_backward_bytes. What is gathered goes through ohm_mvm_finish_gradient without wires. */
ohm_solve_status ohm_mvm_network_backward(const ohm_mvm_gradient *d, const ohm_geometry *g, const ohm_read *r, const ohm_crossbar *cells,
                                          void *scratch, ohm_read_failure *failure);
size_t ohm_mvm_network_backward_bytes(const ohm_geometry *g, const ohm_mvm_network *n);

/* dw [n,k] += d loss / d w_q through wires and device laws, from what was gathered in cells, which
 * is cleared. negative [k][n]: 1 where the weight sits in the negative array of a pair. Fails, with dw
 * as it was, only where the wires of a tile have no finite gradient. */
ohm_solve_status ohm_mvm_finish_gradient(float *dw, ohm_cell_gradient *cells, const uint8_t *negative, const ohm_geometry *g,
                             const ohm_programming *p, const ohm_read_law *read, void *scratch);
size_t ohm_mvm_finish_scratch_bytes(const ohm_geometry *g, const ohm_programming *p);

#endif
