/* Kirchhoff's equations of a tile whose cells may be non-linear, by Newton's method on the dense system:
 * an unknown for each node's voltage and each segment's current. Independent of the solvers in kernels/. */
#ifndef OHM_TESTS_FIXTURE_NETWORK_H
#define OHM_TESTS_FIXTURE_NETWORK_H

#include <stdint.h>

#include "kernels/irdrop_network.h"

/* One input v [rows]; off [rows] or NULL. current [columns]; word, bit [rows][columns] or NULL. Fails the
 * test where it does not converge. Loops without resistance (two ends, nothing between) have no answer. */
void fixture_network_solve(double *current, double *word, double *bit, const ohm_nodal *n,
                           const double *v, const uint8_t *off);

#endif
