/* IR drop: from programmed conductances to the effective ones that a read sees. The closed form is
 * a first-order estimate; irdrop_exact.h has the nodal solution. */
#ifndef OHM_KERNELS_IRDROP_H
#define OHM_KERNELS_IRDROP_H

/* Resistances times G_step: dimensionless per level of conductance. */
typedef struct {
    double word_line, bit_line; /* per segment */
    double driver, sense;
    double unused;              /* conductance of the cells of unused rows, levels */
    int drive_both, sense_both; /* word lines driven, bit lines sensed at both ends */
} ohm_wires;

/* g_eff = g / (1 + Lw + Lb) on a rows x columns tile (row stride columns). Lw, Lb: relative voltage
 * lost along the word and the bit line to first order, every row at the full voltage (prefix sums of
 * conductance times resistance). Row 0 is farthest from the ADC, column 0 nearest the driver; one
 * segment lies before the first cell of a word line and one after the last cell of a bit line;
 * rows_below unused, grounded rows lie between the last row and the ADC; their cells drain the bit line too.
 * scratch: (rows + 3)·columns doubles. g_eff may be g. */
void ohm_irdrop_closed(double *g_eff, const double *g, int rows, int columns, int rows_below, const ohm_wires *wires, double *scratch);
/* dg += (d g_eff / d g)^T dg_eff. scratch: (2·rows + 3)·columns doubles. */
void ohm_irdrop_closed_adjoint(double *dg, const double *dg_eff, const double *g, int rows, int columns, int rows_below,
                               const ohm_wires *wires, double *scratch);

#endif
