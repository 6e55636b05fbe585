/* IDX files: a big-endian header (magic, then one count per dimension) and unsigned bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datasets/datasets.h"

#define REMEDY "run datasets/fetch_mnist.sh"

enum { IDX_IMAGES = 0x803, IDX_LABELS = 0x801, CLASSES = 10, SIDE_MAX = 1024, COUNT_MAX = 1 << 24 };

static uint32_t big_endian(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Reads the header of `rank` dimensions and checks that the file is exactly as long as it says. */
static ohm_status parse_header(uint32_t *shape, int rank, uint32_t magic, const uint8_t *bytes, size_t size, const char *path)
{
    size_t header = 4 * (1 + (size_t)rank), expected = 1;
    if (size < header)
        return OHM_FAIL(OHM_ERR_DATA, "%s: %zu bytes are no IDX header; " REMEDY, path, size);
    if (big_endian(bytes) != magic)
        return OHM_FAIL(OHM_ERR_DATA, "%s: magic number 0x%08x instead of 0x%08x (still packed?); " REMEDY, path,
                        big_endian(bytes), magic);
    for (int i = 0; i < rank; i++) {
        uint32_t most = i == 0 ? COUNT_MAX : SIDE_MAX;
        shape[i] = big_endian(bytes + 4 + 4 * i);
        if (shape[i] < 1 || shape[i] > most)
            return OHM_FAIL(OHM_ERR_DATA, "%s: dimension %d is %u, not 1 to %u; " REMEDY, path, i, shape[i], most);
        expected *= shape[i];
    }
    if (size - header != expected)
        return OHM_FAIL(OHM_ERR_DATA, "%s: %zu bytes of data where the header announces %zu (truncated?); " REMEDY, path,
                        size - header, expected);
    return OHM_OK;
}

ohm_status ohm_idx_parse(ohm_dataset *set, const char *name, const uint8_t *images, size_t images_bytes, const char *images_path,
                         const uint8_t *labels, size_t labels_bytes, const char *labels_path)
{
    uint32_t shape[3] = {0}, count = 0;
    memset(set, 0, sizeof *set);
    OHM_TRY(parse_header(shape, 3, IDX_IMAGES, images, images_bytes, images_path));
    OHM_TRY(parse_header(&count, 1, IDX_LABELS, labels, labels_bytes, labels_path));
    if (count != shape[0])
        return OHM_FAIL(OHM_ERR_DATA, "%s: %u labels for the %u images of %s; " REMEDY, labels_path, count, shape[0], images_path);
    labels += 8;
    for (uint32_t i = 0; i < count; i++)
        if (labels[i] >= CLASSES)
            return OHM_FAIL(OHM_ERR_DATA, "%s: label %u of image %u is not 0 to 9; " REMEDY, labels_path, labels[i], i);
    OHM_TRY(ohm_dataset_create(set, name, (int)count, (int)shape[1], (int)shape[2], 1, CLASSES));
    memcpy(set->pixels, images + 16, images_bytes - 16);
    memcpy(set->labels, labels, count);
    return OHM_OK;
}

static ohm_status load_part(ohm_dataset *set, const char *dir, const char *part)
{
    char images_path[OHM_PATH_BYTES + 32], labels_path[OHM_PATH_BYTES + 32];
    uint8_t *images = NULL, *labels = NULL;
    size_t images_bytes, labels_bytes;
    snprintf(images_path, sizeof images_path, "%s/%s-images-idx3-ubyte", dir, part);
    snprintf(labels_path, sizeof labels_path, "%s/%s-labels-idx1-ubyte", dir, part);
    ohm_status status = ohm_datasets_read(&images, &images_bytes, images_path, REMEDY);
    if (status == OHM_OK)
        status = ohm_datasets_read(&labels, &labels_bytes, labels_path, REMEDY);
    if (status == OHM_OK)
        status = ohm_idx_parse(set, "mnist", images, images_bytes, images_path, labels, labels_bytes, labels_path);
    free(images);
    free(labels);
    return status;
}

ohm_status ohm_mnist_load(ohm_dataset *train, ohm_dataset *test, const char *dir)
{
    memset(train, 0, sizeof *train);
    memset(test, 0, sizeof *test);
    ohm_status status = load_part(train, dir, "train");
    if (status == OHM_OK)
        status = load_part(test, dir, "t10k");
    if (status == OHM_OK && (train->height != test->height || train->width != test->width))
        status = OHM_FAIL(OHM_ERR_DATA, "%s: training images of %dx%d but test images of %dx%d; " REMEDY, dir, train->height,
                          train->width, test->height, test->width);
    if (status != OHM_OK) {
        ohm_dataset_free(train);
        ohm_dataset_free(test);
    }
    return status;
}
