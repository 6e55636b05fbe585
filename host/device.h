/* From a hardware description to the numbers that kernels work with: geometry of a layer on its
 * tiles, device laws per level, constants of a read. Sources of the laws: physics of each preset as
 * named in the folder models/hardware. */
#ifndef OHM_HOST_DEVICE_H
#define OHM_HOST_DEVICE_H

#include "host/chip.h"
#include "kernels/program.h"

/* What a draw is for: calibration reads must not repeat the words of ordinary ones. */
typedef enum { OHM_FOR_INFERENCE, OHM_FOR_CALIBRATION, OHM_FOR_COMPENSATION } ohm_purpose;

void ohm_device_shape(ohm_chip_shape *shape, const ohm_hardware *hardware, int k, int n, uint32_t layer);
void ohm_device_geometry(ohm_geometry *geometry, const ohm_chip_shape *shape);
/* Laws, noise and retention of programming at a moment. hardware must outlive p (its law context). */
void ohm_device_programming(ohm_programming *p, const ohm_geometry *g, const ohm_chip_shape *shape, const ohm_chip_moment *moment);
void ohm_device_read_law(ohm_read_law *law, const ohm_geometry *g, const ohm_hardware *hardware, double time_s);
/* A read at a moment; lsb stays the caller's. *johnson = (digit·level)^2 per level of conductance. */
void ohm_device_read(ohm_read *r, double *johnson, const ohm_geometry *g, const ohm_chip_shape *shape, const ohm_chip_moment *moment,
                     ohm_purpose purpose);
/* Whether wires are solved for every read: ir_drop.model exact, and either rows are cut off on a zero digit
 * or cells are not linear. Programming then leaves the wires out. */
int ohm_device_solves_reads(const ohm_hardware *hardware);
/* The network of one tile of such a chip; scratch and failure stay empty. p: for its wires. */
void ohm_device_network(ohm_mvm_network *network, const ohm_geometry *g, const ohm_hardware *hardware, const ohm_programming *p);
/* LSB in digit·level units for the ranges that need no data (max, granular, a number), else 0. */
double ohm_device_lsb(const ohm_geometry *g, const ohm_hardware *hardware);
/* Codes on one side: 2^(b-1)-1 for a bipolar ADC, 2^b-1 for a unipolar one. */
double ohm_device_codes(const ohm_geometry *g, const ohm_hardware *hardware);

#endif
