/* What the built-in simulators of all devices share: where the arrays of a programmed layer lie, and what is
 * the same for them on the host. */
#ifndef OHM_HOST_CHIP_ANALOG_COMMON_H
#define OHM_HOST_CHIP_ANALOG_COMMON_H

#include "host/chip.h"
#include "host/device.h"

enum {
    OHM_ANALOG_ALIGN = 64,
    OHM_ANALOG_ROWS = 16, /* of a calibration read */
    OHM_ANALOG_ERRORS = 6 /* kinds of static ADC errors, columns and references */
};

/* Arrays of a programmed layer in the simulator's memory; NULL where the chip has no use for one. */
typedef struct {
    ohm_tiles tiles;
    ohm_cell_gradient gradient; /* mode full, as what follows where it says so */
    uint8_t *negative;          /* [k][n] full */
    double *correction;         /* [n] encoding correction */
    float *alpha;               /* [n] drift compensation */
    float *dsum_total;          /* [n] full: gradient of the sums over the batch, for the correction's own gradient */
} ohm_analog_arrays;

/* The address of count elements at base + *used (base NULL or count 0: NULL), and moves *used on. */
void *ohm_analog_take(char *base, size_t *used, size_t count, size_t size);
/* memory, at the next multiple of OHM_ANALOG_ALIGN. */
char *ohm_analog_aligned(void *memory);
/* Cells have read variances of their own. */
int ohm_analog_spreads(const ohm_hardware *hardware);
/* Places all arrays (those of the tiles' conductances with `packed` alone) from base + *used on; base NULL:
 * only counts. */
void ohm_analog_place(ohm_analog_arrays *a, const ohm_geometry *g, const ohm_hardware *hardware, int packed, int gradient, char *base,
                      size_t *used);
/* Refuses hardware that no geometry fits. */
ohm_status ohm_analog_check(const ohm_hardware *hardware);

/* Levels [slices] of the code 2^(bits-1): the reference column of offset weights. */
void ohm_analog_reference_levels(uint8_t level[8], const ohm_chip_shape *shape, const ohm_geometry *g);
/* The static ADC errors that the arrays have room for; returns how many. They are the chip's: of the stream
 * per_chip of a programming. */
int ohm_analog_errors(ohm_column_error errors[OHM_ANALOG_ERRORS], const ohm_analog_arrays *a, const ohm_geometry *g, const ohm_hardware *hardware);
/* Drift is compensated at this moment. */
int ohm_analog_compensates(const ohm_hardware *hardware, const ohm_chip_moment *moment);
/* A read of the chip for itself; quiet where it is for compensation. LSBs as in `like`. */
ohm_read ohm_analog_calibration_read(const ohm_chip_shape *shape, const ohm_geometry *g, const ohm_chip_moment *moment, const ohm_read *like,
                                     ohm_purpose purpose);
/* The stream of a compensation read's codes. */
ohm_stream ohm_analog_compensation_stream(const ohm_read *compensation);
/* Where inputs are offset, sets what r->correction is to be read from: [n] at `correction`. Returns whether it
 * is the nominal one, which the caller then computes. */
int ohm_analog_set_correction(ohm_read *r, const ohm_hardware *hardware, double *correction);
/* The code of x = 0 with offset inputs. */
int ohm_analog_zero_code(const ohm_hardware *hardware);

#endif
