/* A labelled image set in memory, and how batches are cut from it. Loaders live in datasets/. */
#ifndef OHM_HOST_DATASET_H
#define OHM_HOST_DATASET_H

#include <stddef.h>
#include <stdint.h>

#include "host/status.h"

enum { OHM_CHANNELS_MAX = 4 };

typedef struct {
    char name[64];
    int count, height, width, channels, classes;
    uint8_t *pixels; /* [count][height][width][channels], owned */
    uint8_t *labels; /* [count], owned, below classes */
    float mean[OHM_CHANNELS_MAX], deviation[OHM_CHANNELS_MAX]; /* per channel, in units of a pixel value / 255 */
} ohm_dataset;

/* Zeroed images of the given shape. The old contents of *set are overwritten, not freed. */
ohm_status ohm_dataset_create(ohm_dataset *set, const char *name, int count, int height, int width, int channels, int classes);
void ohm_dataset_free(ohm_dataset *set); /* NULL-safe, idempotent */
/* Bytes of one image. */
size_t ohm_dataset_image_bytes(const ohm_dataset *set);

/* Keeps `limit` images, evenly spaced, for a file may be sorted by class; 0 keeps all. */
void ohm_dataset_limit(ohm_dataset *set, int limit);
/* Bilinear resize to size x size, pixel centres aligned (half-pixel rule), edges repeated. */
ohm_status ohm_dataset_resize(ohm_dataset *set, int size);
/* Measures mean and deviation per channel. A constant channel gets deviation 1. */
void ohm_dataset_measure(ohm_dataset *set);

/* Order of epoch `epoch`: a permutation of 0..count-1 from Philox (seed, epoch), the same everywhere. */
void ohm_dataset_order(uint32_t *order, int count, uint32_t seed, uint32_t epoch);

typedef struct {
    int crop, flip;        /* padding of a random crop, horizontal flip; 0 = off */
    uint32_t seed, step;   /* augmentation draws depend on (seed, step, first + position) only */
    uint64_t first;        /* position of the first image within the step's batch */
} ohm_augment;

/* x [n][height][width][channels] = (pixel/255 - mean)/deviation, labels [n]. augment may be NULL.
 * A crop's border is black (pixel 0). Opens an OpenMP region; images are independent. */
void ohm_dataset_batch(float *x, int32_t *labels, const ohm_dataset *set, const uint32_t *indices, int n, const ohm_augment *augment);

#endif
