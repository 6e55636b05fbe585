/* The gradient of exact IR drop: dg += (d g_eff / d g)^T d_geff of irdrop_exact.h.
 *
 * Changing one cell's conductance acts as a current between its two nodes, in proportion to the voltage
 * across it (adjoint method for linear networks, Director and Rohrer 1969), hence
 *
 *     dL/dg[r][c] = Σ_j (w - b)_j · (b - w)*_j
 *
 * with w, b the cell's word- and bit-line voltages: unstarred for the sources at d_geff[:,j] and all
 * terminals at 0, starred for the sources at 0 and terminal j (both ends of it) at 1 V. One march finds
 * how both fields start at the open end, a second follows them and adds up the products row by row: no
 * field is ever stored. Steep tiles are marched in segments; the voltages at their borders come from the
 * terminals backwards, so that nothing that has grown is ever taken as a difference.
 * 4 marches of C right-hand sides against the forward's one; state O(C²) and the tile. */
#ifndef OHM_KERNELS_IRDROP_ADJOINT_H
#define OHM_KERNELS_IRDROP_ADJOINT_H

#include "kernels/irdrop_exact.h"

/* dg is added to; dg, d_geff, g: [rows][columns], none may overlap dg. scratch: the bytes of the matching
 * function, 64-byte aligned. report may be NULL: renormalised counts the borders between segments. On an
 * error dg is as it was. Works in the calling thread. The float version goes over to double where a
 * tile is too steep for one segment in float. The first-order gradient in O(rows·columns), as wrong as
 * its model, is ohm_irdrop_closed_adjoint (irdrop.h). */
ohm_solve_status ohm_irdrop_exact_adjoint_f32(float *dg, const float *d_geff, const float *g, const ohm_crosspoint *tile,
                                              void *scratch, ohm_solve_report *report);
ohm_solve_status ohm_irdrop_exact_adjoint_f64(double *dg, const double *d_geff, const double *g, const ohm_crosspoint *tile,
                                              void *scratch, ohm_solve_report *report);
size_t ohm_irdrop_exact_adjoint_bytes_f32(const ohm_crosspoint *tile);
size_t ohm_irdrop_exact_adjoint_bytes_f64(const ohm_crosspoint *tile);

#endif
