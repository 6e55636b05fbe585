/* CIFAR-10 batch files. */
#include "datasets/datasets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ohm_dataset set;
    if (ohm_cifar10_check(data, size, "fuzz") != OHM_OK ||
        ohm_dataset_create(&set, "fuzz", (int)(size / OHM_CIFAR_RECORD), 32, 32, 3, 10) != OHM_OK)
        return 0;
    ohm_cifar10_unpack(&set, 0, data, size);
    ohm_dataset_measure(&set);
    ohm_dataset_free(&set);
    return 0;
}
