/* The built-in simulator: bit-sliced crossbars as described by the hardware file. */
#ifndef OHM_HOST_CHIP_ANALOG_H
#define OHM_HOST_CHIP_ANALOG_H

#include "host/chip.h"

extern const ohm_simulator ohm_simulator_analog;
/* The same on a CUDA device (chip_analog_cuda.c, in builds that have one): refuses memory of the host, and
 * hardware that ohm_chip_analog_cuda_check refuses. */
extern const ohm_simulator ohm_simulator_analog_cuda;
/* What runs on the CPU alone: reads by cells, reads whose wires are solved anew, very large tiles. One line. */
ohm_status ohm_chip_analog_cuda_check(const ohm_hardware *hardware);

#endif
