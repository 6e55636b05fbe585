/* A tile by nodal analysis with SuiteSparse's CHOLMOD: an oracle that shares no line and no formula with
 * the solvers in kernels/. Word and bit nodes that a zero resistance joins are one node. */
#ifndef OHM_TESTS_ORACLE_SPARSE_H
#define OHM_TESTS_ORACLE_SPARSE_H

#include <stddef.h>

#include "kernels/irdrop_exact.h"

/* Whether the build found CHOLMOD; without it the rest returns NULL. Why, for a skipped test's reason. */
int ohm_oracle_here(void);
extern const char ohm_oracle_missing[];

typedef struct ohm_oracle ohm_oracle;

/* Assembles and orders the equations of g [rows][columns]; NULL: no memory. */
ohm_oracle *ohm_oracle_create(const double *g, const ohm_crosspoint *tile);
/* Factorises; 0 = failed. May be repeated (benchmarks). */
int ohm_oracle_factorise(ohm_oracle *o);
/* current [count][columns]: the bit lines' currents with 1 V on row first, first + 1, .. and 0 V on the
 * others; all right-hand sides in one solution. 0 = failed. */
int ohm_oracle_solve(double *current, ohm_oracle *o, int first, int count);
void ohm_oracle_destroy(ohm_oracle *o);

/* All of it: g_eff [rows][columns], 32 rows at a time. 0 = failed. */
int ohm_oracle_g_eff(double *g_eff, const double *g, const ohm_crosspoint *tile);

#endif
