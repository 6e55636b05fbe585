/* One noisy layer with memory of its own, for tests of the chip. */
#ifndef OHM_TESTS_FIXTURE_CHIP_H
#define OHM_TESTS_FIXTURE_CHIP_H

#include "host/config.h"
#include "host/noisy.h"
#include "kernels/program.h"

/* The ideal chip with "key=value ..." applied; fails the test on an error. */
void fixture_hardware(ohm_hardware *hardware, const char *settings);

typedef struct {
    int m, k, n;
    float *x, *w, *bias, *y; /* [m,k], [n,k], [n] or NULL, [m,n] */
} fixture_layer;

void fixture_layer_make(fixture_layer *layer, int m, int k, int n);
void fixture_layer_free(fixture_layer *layer);
/* Uniform reals in [-1, 1), or whole numbers in [-most, most]. */
void fixture_reals(float *x, size_t count, uint32_t seed);
void fixture_integers(float *x, size_t count, int most, uint32_t seed);

typedef struct {
    const char *settings;
    int chunk;               /* rows per call; 0 = all at once */
    ohm_chip_moment moment;
    int calibrate;           /* passes with calibrating = 1 before the one that counts */
} fixture_run;

/* y = the layer through the chip. Checks guard words behind state and scratch. */
void fixture_forward(fixture_layer *layer, const fixture_run *run);

/* The same layer at kernel level: fast tiles and reference cells programmed from the same levels. */
typedef struct {
    ohm_hardware hardware;
    ohm_chip_shape shape;
    ohm_geometry g;
    ohm_read read;
    ohm_read_law law;
    ohm_programming programming;
    ohm_chip_moment moment;
    double johnson;
    int8_t *w_q;             /* [n,k] */
    uint8_t *levels, *negative, ref_level[8];
    double *real_levels;
    ohm_tiles tiles;
    ohm_crossbar cells;      /* with `network` where reads are solved one by one */
    ohm_mvm_network network;
    ohm_read_failure failure;
    ohm_cell_gradient gradient;
    float *lsb;              /* [planes][slices][n] */
    void *memory[48];
    int memory_count;
    void *scratch;           /* enough for every kernel at 256 rows */
} fixture_chip;

/* Random weights; lsb for a full scale of `share` of the worst case (0.3 is usual). */
void fixture_chip_make(fixture_chip *chip, const char *settings, int k, int n, uint32_t seed, double share);
void fixture_chip_free(fixture_chip *chip);
/* Random drive codes as real values (reference) and bytes (kernel). */
void fixture_drive(const fixture_chip *chip, double *x, uint8_t *codes, int m, uint32_t seed);

#endif
