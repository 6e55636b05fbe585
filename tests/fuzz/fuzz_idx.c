/* IDX files: the first byte says how many 64ths of the rest are the image file; the rest are labels. */
#include "datasets/datasets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t images = (size - 1) * (data[0] % 65) / 64;
    ohm_dataset set;
    if (ohm_idx_parse(&set, "fuzz", data + 1, images, "images", data + 1 + images, size - 1 - images, "labels") == OHM_OK) {
        ohm_dataset_measure(&set);
        ohm_dataset_free(&set);
    }
    return 0;
}
