/* Exact IR drop: one matrix G_eff holds the nodal solution of a passive tile for every input,
 * I = Vᵀ·G_eff. Computed by marching along the bit lines ("shooting"): all C bit-line terminals at
 * once, numerator N (currents into the sources) and denominator E (terminal voltages) kept apart,
 * G_eff = N·E⁻¹ by reciprocity. 11·R·C² + (2/3)·C³ + 2·R·C² flop. Steep tiles are renormalised on the
 * way; without that the march loses every digit once R·sqrt(r·g_max) passes about 15. Lines sensed at both
 * ends take two marches. Needs no BLAS: bits depend on the instruction set alone. */
#ifndef OHM_KERNELS_IRDROP_EXACT_H
#define OHM_KERNELS_IRDROP_EXACT_H

#include <stddef.h>

#include "kernels/irdrop.h"

/* A tile as it is wired; conductance times resistance is dimensionless. */
typedef struct {
    int rows, columns;
    ohm_wires wires;
} ohm_crosspoint;

typedef enum {
    OHM_SOLVE_OK,
    OHM_SOLVE_SINGULAR,  /* no unique solution: the terminal matrix cannot be inverted */
    OHM_SOLVE_NOT_FINITE, /* a conductance or resistance was negative or no number, or the result overflowed */
    OHM_SOLVE_NOT_CONVERGED, /* irdrop_network.h */
    OHM_SOLVE_OUT_OF_RANGE,
    OHM_SOLVE_MEMORY
} ohm_solve_status;

typedef enum { OHM_METHOD_G_EFF, OHM_METHOD_LINE_CG, OHM_METHOD_CHORD, OHM_METHOD_NEWTON } ohm_solve_method;

typedef struct {
    int renormalised; /* how often the march was renormalised */
    int method;       /* ohm_solve_method; this and what follows: irdrop_network.h */
    int iterations, inner; /* chord or Newton steps; steps of line-CG, over all of those */
    double residual;
} ohm_solve_report;

/* g, g_eff: [rows][columns]; g_eff may be g. scratch: the bytes of the matching function, 64-byte aligned.
 * report may be NULL. Works in the calling thread: the batch puts threads over tiles. Error of the float version:
 * under 1e-5 of the largest entry; where float might not keep that (steep tiles, tall ones with a large drop), it
 * solves in double inside. Negative rounding residues are 0. */
ohm_solve_status ohm_irdrop_exact_f32(float *g_eff, const float *g, const ohm_crosspoint *tile, void *scratch, ohm_solve_report *report);
ohm_solve_status ohm_irdrop_exact_f64(double *g_eff, const double *g, const ohm_crosspoint *tile, void *scratch, ohm_solve_report *report);
size_t ohm_irdrop_exact_bytes_f32(const ohm_crosspoint *tile);
size_t ohm_irdrop_exact_bytes_f64(const ohm_crosspoint *tile);

/* Many tiles with the same wires: g, g_eff [tiles][rows][columns]; g_eff may be g. threads over tiles: at
 * most that many, 0 = as many as OpenMP would take; bits do not depend on it. scratch: the bytes of the
 * matching function, any alignment. Goes on after a tile that has no solution (its g_eff is then not
 * defined): returns the status of the first one and puts its index into *failed, or `tiles` where there is
 * none. report: renormalised is summed over tiles. failed and report may be NULL. */
ohm_solve_status ohm_irdrop_exact_batch_f32(float *g_eff, const float *g, size_t tiles, const ohm_crosspoint *tile, int threads,
                                            void *scratch, size_t *failed, ohm_solve_report *report);
ohm_solve_status ohm_irdrop_exact_batch_f64(double *g_eff, const double *g, size_t tiles, const ohm_crosspoint *tile, int threads,
                                            void *scratch, size_t *failed, ohm_solve_report *report);
size_t ohm_irdrop_exact_batch_bytes_f32(size_t tiles, const ohm_crosspoint *tile, int threads);
size_t ohm_irdrop_exact_batch_bytes_f64(size_t tiles, const ohm_crosspoint *tile, int threads);

/* The definition: Kirchhoff's equations of all 2·rows·columns nodes in dense double, one input at a
 * time. For tests: O((rows·columns)³). Allocates; OHM_SOLVE_SINGULAR also when memory runs out. */
ohm_solve_status ohm_irdrop_nodal_ref(double *g_eff, const double *g, const ohm_crosspoint *tile);

#endif
