/* A labelled image set in memory, and how batches are cut from it. Loaders live in datasets/. */
#ifndef OHM_HOST_DATASET_H
#define OHM_HOST_DATASET_H

#include <stdint.h>

#include "host/status.h"

typedef struct {
    char name[64];
    int count, height, width, channels, classes;
    uint8_t *pixels; /* [count][height][width][channels], owned */
    uint8_t *labels; /* [count], owned */
    float mean[4], deviation[4]; /* per channel, in units of a pixel value / 255 */
} ohm_dataset;

void ohm_dataset_free(ohm_dataset *set); /* NULL-safe, idempotent */

/* Order of epoch `epoch`: a permutation of 0..count-1 from Philox (seed, epoch), the same everywhere. */
void ohm_dataset_order(uint32_t *order, int count, uint32_t seed, uint32_t epoch);

typedef struct {
    int crop, flip;        /* padding of a random crop, horizontal flip; 0 = off */
    uint32_t seed, step;   /* augmentation draws depend on (seed, step, first + position) only */
    uint64_t first;        /* position of the first image within the step's batch */
} ohm_augment;

/* x [n][height][width][channels] = (pixel/255 - mean)/deviation, labels [n]. augment may be NULL. */
void ohm_dataset_batch(float *x, int32_t *labels, const ohm_dataset *set, const uint32_t *indices, int n, const ohm_augment *augment);

#endif
