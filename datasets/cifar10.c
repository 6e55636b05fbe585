/* CIFAR-10's binary batches: records of a label and three planes, R, G, B, row by row. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datasets/datasets.h"

#define REMEDY "run datasets/fetch_cifar10.sh"

enum { SIDE = 32, PIXELS = SIDE * SIDE, CHANNELS = 3, CLASSES = 10, BATCHES = 5 };

ohm_status ohm_cifar10_check(const uint8_t *bytes, size_t size, const char *path)
{
    if (size == 0 || size % OHM_CIFAR_RECORD)
        return OHM_FAIL(OHM_ERR_DATA, "%s: %zu bytes are not a whole number of %d-byte records (truncated?); " REMEDY, path, size,
                        OHM_CIFAR_RECORD);
    for (size_t i = 0; i < size; i += OHM_CIFAR_RECORD)
        if (bytes[i] >= CLASSES)
            return OHM_FAIL(OHM_ERR_DATA, "%s: label %u of image %zu is not 0 to 9; " REMEDY, path, bytes[i], i / OHM_CIFAR_RECORD);
    return OHM_OK;
}

void ohm_cifar10_unpack(ohm_dataset *set, int first, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size / OHM_CIFAR_RECORD; i++) {
        const uint8_t *record = bytes + i * OHM_CIFAR_RECORD;
        uint8_t *pixels = set->pixels + ((size_t)first + i) * PIXELS * CHANNELS;
        set->labels[(size_t)first + i] = record[0];
        for (int p = 0; p < PIXELS; p++)
            for (int c = 0; c < CHANNELS; c++)
                pixels[p * CHANNELS + c] = record[1 + c * PIXELS + p];
    }
}

/* Adds one file to *set, which is made for `files` files of the first one's size. A batch of another
 * size is refused: a file cut at a record's end would pass every other check. */
static ohm_status load_batch(ohm_dataset *set, const char *dir, const char *file, int index, int files)
{
    char path[OHM_PATH_BYTES + 32];
    uint8_t *bytes;
    size_t size;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    OHM_TRY(ohm_datasets_read(&bytes, &size, path, REMEDY));
    ohm_status status = ohm_cifar10_check(bytes, size, path);
    int records = (int)(size / OHM_CIFAR_RECORD);
    if (status == OHM_OK && index == 0)
        status = ohm_dataset_create(set, "cifar10", records * files, SIDE, SIDE, CHANNELS, CLASSES);
    if (status == OHM_OK && records * files != set->count)
        status = OHM_FAIL(OHM_ERR_DATA, "%s: %d images where the first batch has %d (truncated?); " REMEDY, path, records,
                          set->count / files);
    if (status == OHM_OK)
        ohm_cifar10_unpack(set, index * records, bytes, size);
    free(bytes);
    return status;
}

ohm_status ohm_cifar10_load(ohm_dataset *train, ohm_dataset *test, const char *dir)
{
    ohm_status status = OHM_OK;
    memset(train, 0, sizeof *train);
    memset(test, 0, sizeof *test);
    for (int i = 0; i < BATCHES && status == OHM_OK; i++) {
        char file[32];
        snprintf(file, sizeof file, "data_batch_%d.bin", i + 1);
        status = load_batch(train, dir, file, i, BATCHES);
    }
    if (status == OHM_OK)
        status = load_batch(test, dir, "test_batch.bin", 0, 1);
    if (status != OHM_OK) {
        ohm_dataset_free(train);
        ohm_dataset_free(test);
    }
    return status;
}
