/* What tests of single effects share: cells of one target, and a layer that is read again and again. */
#ifndef OHM_TESTS_FIXTURE_PHYSICS_H
#define OHM_TESTS_FIXTURE_PHYSICS_H

#include "host/device.h"
#include "tests/fixture_chip.h"

/* One read makes y: signed drive of all bits, one pair of 7-bit cells, scales of 1, so that y is the
 * bit-line current in digit·level units (times the ADC's rounding). */
#define PHYSICS_ONE_READ                                                                           \
    "quantise.x_range=127 quantise.w_range=127 input.encoding=sign_magnitude input.dac_bits=7 "    \
    "weight.cell_bits=7 tile.rows=4096 tile.cols=8192 "

/* g[count] in µS: cells of one target level, elements 0..count-1, at moment (time_s included). */
void physics_cells(double *g, const char *settings, int level, int count, const ohm_chip_moment *moment);
/* µS of a target level, and of one level. */
double physics_target_us(const char *settings, int level);
double physics_step_us(const char *settings);
/* µA of one digit on one level. */
double physics_unit_ua(const char *settings);

/* A layer that stays: x and w may be changed between passes. */
typedef struct {
    fixture_layer layer;
    ohm_hardware hardware;
    ohm_noisy *noisy;
    ohm_noisy_pass pass;
    float *lsb;        /* [planes][slices][n or 1] as the layer keeps them, digit·level */
    int planes, slices;
} physics_session;

void physics_open(physics_session *s, const char *settings, int m, int k, int n);
void physics_open_chip(physics_session *s, const ohm_hardware *hardware, int m, int k, int n);
/* One forward pass into layer.y; pass.moment, training and calibrating as they stand. */
void physics_pass(physics_session *s);
void physics_close(physics_session *s);

/* Every row of x, every row of w is the same [k]. */
void physics_uniform(fixture_layer *layer, const float *x, const float *w);
/* y [m,n] of the clean product, in double. */
void physics_product(double *y, const fixture_layer *layer);
double physics_rms(const double *x, size_t count);
/* rms(y - exact) / rms(exact). */
double physics_error(const fixture_layer *layer, const double *exact);
/* P(count of n) under probability p as |z|. */
double physics_binomial_z(long count, long n, double p);
/* Pearson correlation of x[0..n) and y[0..n). */
double physics_correlation(const double *x, const double *y, size_t n);

/* CDF of |mean + sd·z| and of N(0,1) truncated to ±tolerance; context: double[2], double[1]. */
double physics_cdf_folded(double x, const void *context);
double physics_cdf_truncated(double x, const void *context);

#endif
