/* Floats of every kind for tests of quantisation. */
#ifndef OHM_TESTS_FIXTURE_VALUES_H
#define OHM_TESTS_FIXTURE_VALUES_H

#include <stddef.h>
#include <stdint.h>

/* Ordinary values, exact halves of a code, zeros, denormals, huge ones; x [n] is a function of seed. */
void fixture_values(float *x, size_t n, uint32_t seed);

#endif
