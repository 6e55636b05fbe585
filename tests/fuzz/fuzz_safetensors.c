/* safetensors files: what parses must also be readable to its last byte. */
#include <stdlib.h>
#include <string.h>

#include "host/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    ohm_safetensors *file;
    if (ohm_safetensors_parse(&file, copy, size, "fuzz") != OHM_OK)
        return 0;
    for (int i = 0; i < ohm_safetensors_count(file); i++) {
        const ohm_safetensor *tensor = ohm_safetensors_at(file, i);
        uint8_t sum = 0;
        for (size_t b = 0; b < tensor->bytes; b++)
            sum ^= ((const uint8_t *)tensor->data)[b];
        if (!ohm_safetensors_find(file, tensor->name) || (tensor->bytes == 0 && sum))
            abort();
    }
    ohm_safetensors_metadata(file, "ohmgrad.step");
    ohm_safetensors_destroy(file);
    return 0;
}
