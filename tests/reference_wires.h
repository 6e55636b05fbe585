/* The gradient of exact IR drop from Kirchhoff's equations as they stand: an unknown for each node and
 * each segment's current, one solution A x = s for the sources and one of the transposed system for the
 * outputs, dL/dg = -λᵀ·(dA/dg)·x. Nothing of it is shared with the kernels. */
#ifndef OHM_TESTS_REFERENCE_WIRES_H
#define OHM_TESTS_REFERENCE_WIRES_H

#include "kernels/irdrop_exact.h"

/* dg [rows][columns] written. Dense: (4·rows·columns)³ operations. Fails the test without a solution. */
void reference_wires_adjoint(double *dg, const double *d_geff, const double *g, const ohm_crosspoint *tile);

#endif
