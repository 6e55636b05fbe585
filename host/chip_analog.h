/* The built-in simulator: bit-sliced crossbars as described by the hardware file. */
#ifndef OHM_HOST_CHIP_ANALOG_H
#define OHM_HOST_CHIP_ANALOG_H

#include "host/chip.h"

extern const ohm_simulator ohm_simulator_analog;

#endif
