/* .npy files: what parses must hold as many readable values as it says. */
#include <stdint.h>
#include <stdlib.h>

#include "host/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ohm_npy array;
    if (ohm_npy_parse(&array, (const char *)data, size, "fuzz.npy") != OHM_OK)
        return 0;
    size_t count = 1;
    for (int i = 0; i < array.rank; i++)
        count *= (size_t)array.shape[i];
    if (count != array.count || array.rank > OHM_NPY_RANK_MAX)
        abort();
    volatile float sink = 0;
    for (size_t i = 0; i < array.count; i++)
        sink = array.value[i];
    (void)sink;
    ohm_npy_free(&array);
    return 0;
}
