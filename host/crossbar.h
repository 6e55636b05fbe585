/* One crossbar tile as an electrical circuit, in siemens, volts, ohms and amperes: solved, written as a
 * SPICE deck, or drawn at random for a sweep over tile sizes. Beside the chip (host/chip.h), which
 * solves the same circuit inside training.
 *
 * Row r is a word line, driven at the left: source, driver resistance, one wire segment, cell 0, a segment,
 * cell 1 ... Column c is a bit line, sensed at the bottom: cell 0, a segment, cell 1 ... last cell, one
 * segment, sense resistance, ground. Driven or sensed at both ends: the far end has the same again. */
#ifndef OHM_HOST_CROSSBAR_H
#define OHM_HOST_CROSSBAR_H

#include <stdint.h>
#include <stdio.h>

#include "host/status.h"
#include "kernels/irdrop_network.h"

typedef struct {
    ohm_nodal network; /* siemens, volts, ohms */
    int gated;           /* rows whose input is exactly 0 are cut off instead of grounded */
} ohm_crossbar;

/* How a solution came about. */
typedef struct {
    const char *method;     /* in words */
    ohm_solve_report solve; /* residual: NAN where the method has none */
} ohm_crossbar_report;

/* OHM_ERR_DATA: a conductance that is negative, not finite or a million times that of the wires, by row and column of `name`; OHM_ERR_MEMORY: what
 * the solution of `inputs` inputs needs exceeds the memory that is free, by bytes. */
ohm_status ohm_crossbar_check(const ohm_crossbar *x, int inputs, const char *name);

/* g_eff [rows][columns] of linear cells: I = V^T G_eff. In float32, or in double if `doubles`. OHM_ERR_DATA: no
 * unique or no finite solution. */
ohm_status ohm_crossbar_geff(double *g_eff, const ohm_crossbar *x, int doubles,
                             ohm_crossbar_report *report);
/* current [inputs][columns] of v [inputs][rows]: the currents into the sense side, both ends summed. */
ohm_status ohm_crossbar_solve(double *current, const ohm_crossbar *x, const double *v, int inputs,
                              int doubles, ohm_crossbar_report *report);
/* One input v [rows] in double: the currents [columns] and the nodes' voltages, word and bit [rows][columns]. */
ohm_status ohm_crossbar_nodes(double *current, double *word, double *bit, const ohm_crossbar *x,
                              const double *v, ohm_crossbar_report *report);
/* The same without wires. */
void ohm_crossbar_ideal(double *current, const ohm_crossbar *x, const double *v, int inputs);

/* A deck for `ngspice -b` that prints i(vout_c), c = 0.., the columns' currents, with 17 digits. v [rows]; row, of: which
 * input of how many, for the title. Resistances of zero join their nodes (ngspice makes them 1 milliohm),
 * conductances of zero and rows that are cut off have no element. */
void ohm_crossbar_netlist(FILE *out, const ohm_crossbar *x, const double *v, int row, int of);

/* ---- sweeps -------------------------------------------------------------------------------- */

typedef enum { OHM_WEIGHTS_UNIFORM, OHM_WEIGHTS_BIMODAL, OHM_WEIGHTS_GAUSSIAN, OHM_WEIGHTS_HALF_OFF, OHM_WEIGHTS_COUNT } ohm_weights;
extern const char *const ohm_weights_name[OHM_WEIGHTS_COUNT];

/* g [cells]: from g_max / on_off to g_max. uniform: between the two; bimodal: one or the other, even odds;
 * gaussian: |N(0, 1/3)| of the span, clipped at 1; half_off: off with even odds, else uniform. A function
 * of its arguments alone. */
void ohm_crossbar_draw(double *g, int cells, ohm_weights weights, double g_max, double on_off,
                       uint32_t seed, uint32_t tile);

/* A point: square tiles of one size, wire and distribution, every row driven with the same voltage. */
typedef struct {
    int size;
    double ohms; /* per segment of word and bit line */
    ohm_weights weights;
    double mean, worst; /* share of a column's current lost: over all columns of all tiles */
} ohm_sweep_point;

typedef struct {
    double g_max, on_off; /* siemens */
    ohm_wires wires;      /* driver, sense, ends; word_line and bit_line come from the point */
    int tiles;            /* per point */
    uint32_t seed;
} ohm_sweep;

/* Fills mean and worst of each point (NaN where no cell conducts), in double, tiles spread over threads. The same for any number of threads. */
ohm_status ohm_sweep_run(ohm_sweep_point *points, int count, const ohm_sweep *sweep);

#endif
