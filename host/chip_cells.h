/* Reads of a layer by separate cells in double (ohm_mvm_ref), rows over threads: form per_cell, and wires
 * that are solved for every read. */
#ifndef OHM_HOST_CHIP_CELLS_H
#define OHM_HOST_CHIP_CELLS_H

#include "host/chip.h"
#include "kernels/mvm.h"

typedef struct {
    const uint8_t *x_u; /* [m,k] drive codes */
    int m, ldx;
    uint64_t first_row;
} ohm_drive_rows;

/* Raw sums [m][n]; per_cell: read noise per cell. scratch: ohm_chip_cells_bytes. */
ohm_status ohm_chip_read_cells(double *sums, const ohm_chip_shape *shape, const ohm_geometry *g, const ohm_read *r, const ohm_crossbar *cells,
                               const ohm_drive_rows *d, int per_cell, void *scratch);
/* As ohm_mvm_range_cpu; cells->network is not NULL. The same scratch. */
ohm_status ohm_chip_range_cells(float *range, uint32_t *histogram, int bins, int per_column, const ohm_chip_shape *shape,
                                const ohm_geometry *g, const ohm_read *r, const ohm_crossbar *cells, const ohm_drive_rows *d, void *scratch);
/* Says which tile has no solution and what to change; returns the error. */
ohm_status ohm_chip_refuse_read(const ohm_chip_shape *shape, const ohm_read_failure *failure);
/* network: NULL where there is none. */
size_t ohm_chip_cells_bytes(const ohm_geometry *g, const ohm_mvm_network *network);

#endif
