/* A tile as a network that is solved for given inputs, in double: where one matrix does not suffice
 * (rows cut off on a zero input, cells whose current is not linear in the voltage) and where the
 * voltages of the nodes are wanted. irdrop_exact.h serves everything else.
 *
 * Linear networks: conjugate gradients on the bit lines, word lines eliminated, bit lines as the
 * preconditioner ("line-CG", irdrop_lines.h). Non-linear cells: chord iteration (the conductances at 0 V
 * kept) up to a·V = 2, as long as each step gains a digit; else Newton's, with a line search.
 *
 * What is reported as the residual bounds the error. A solution satisfies every wire exactly; what is
 * wrong with it are mismatches of cell currents. A current injected at a node of a network whose cells
 * conduct more at a higher voltage reaches the terminals with a share between 0 and 1, so no terminal
 * current is off by more than the sum of all mismatches. The residual is that sum over the largest
 * bit line's sum of |cell current|. */
#ifndef OHM_KERNELS_IRDROP_NETWORK_H
#define OHM_KERNELS_IRDROP_NETWORK_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/irdrop_exact.h"

/* Kinds of I(V) of a cell. */
typedef enum { OHM_CELL_LINEAR, OHM_CELL_CUBIC, OHM_CELL_SINH } ohm_cell_iv;

/* I(V) of a cell of conductance g: linear g·V; cubic g·scale·(V - k·V³); sinh g·scale·sinh(a·V)/a;
 * coefficient = k or a. scale 1 makes g the conductance at 0 V; ohm_cell_law_at normalises it so that
 * I(V_read) = g·V_read (physics.md section 3). Linear cells ignore both. */
typedef struct {
    int iv; /* ohm_cell_iv */
    double coefficient, scale;
} ohm_cell_law;

ohm_cell_law ohm_cell_law_at(int iv, double coefficient, double v_read);
/* I/g at a cell voltage; slope (may be NULL) its derivative. */
double ohm_cell_law_current(const ohm_cell_law *law, double volts, double *slope);

/* Units: any in which conductance times resistance is dimensionless, voltage times conductance current,
 * and coefficient fits the voltages. wires.unused is not read. */
typedef struct {
    ohm_crosspoint tile;
    const double *g; /* [rows][columns] */
    ohm_cell_law law;
} ohm_nodal;

/* Tolerance of a residual where nothing else is asked for. Residuals that rounding keeps from it (steep
 * tiles) are accepted up to OHM_NODAL_RESIDUAL_MOST, and reported. */
#define OHM_NODAL_TOLERANCE 1e-12
#define OHM_NODAL_RESIDUAL_MOST 1e-9

/* One input. v [rows]: volts at the sources; off [rows] or NULL: 1 = the row's cells conduct nothing.
 * current [columns]: into the sense side, both ends summed. word, bit [rows][columns]: node voltages,
 * or NULL. tolerance: residual at which it stops. scratch: ohm_nodal_scratch_bytes. report may be NULL.
 * Works in the calling thread. Where it fails current is not written. Fails with
 *   OHM_SOLVE_NOT_FINITE      negative or no numbers among g, wires, v
 *   OHM_SOLVE_OUT_OF_RANGE    a cubic cell sees more than 1/sqrt(3k), where its current falls
 *   OHM_SOLVE_NOT_CONVERGED   the residual stays above both tolerance and OHM_NODAL_RESIDUAL_MOST */
ohm_solve_status ohm_nodal_solve(double *current, double *word, double *bit, const ohm_nodal *n,
                                   const double *v, const uint8_t *off, double tolerance,
                                   void *scratch, ohm_solve_report *report);
size_t ohm_nodal_scratch_bytes(const ohm_nodal *n);

/* Inputs v [inputs][rows] -> current [inputs][columns], threads over inputs; the same bits for any
 * number of them. gated = 1: rows whose input is exactly 0 are cut off. Inputs of a linear network that
 * share their rows go through G_eff where ohm_nodal_prefers_matrix says so. Allocates
 * (OHM_SOLVE_MEMORY). report: the method most inputs took, the worst of everything else. */
ohm_solve_status ohm_nodal_solve_many(double *current, const ohm_nodal *n, const double *v,
                                        int inputs, int gated, double tolerance,
                                        ohm_solve_report *report);
/* The break-even: whether `inputs` of one linear network are cheaper through G_eff than one by one. */
int ohm_nodal_prefers_matrix(int inputs);

/* Adjoint at a solution: word, bit, off as ohm_nodal_solve left them. dcurrent [columns] = d loss /
 * d current, dcell [rows][columns] or NULL = d loss / d (word - bit) besides. Adds d loss / d v to dv [rows]
 * and d loss / d g to dg [rows][columns]; either may be NULL. One linear solve, the same scratch. */
ohm_solve_status ohm_nodal_adjoint(double *dv, double *dg, const ohm_nodal *n, const double *word,
                                     const double *bit, const uint8_t *off, const double *dcurrent,
                                     const double *dcell, double tolerance, void *scratch,
                                     ohm_solve_report *report);

#endif
