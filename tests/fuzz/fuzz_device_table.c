/* Tables of measured devices: what parses must be sorted, finite and not negative. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host/device_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    ohm_device_table *table = malloc(sizeof *table);
    if (!text || !table)
        abort();
    memcpy(text, data, size);
    text[size] = 0;
    if (ohm_device_table_parse(table, text, "fuzz.csv") == OHM_OK) {
        if (table->count < 2 || table->count > OHM_TABLE_ROWS)
            abort();
        for (int i = 0; i < table->count; i++)
            if (!(table->mean_us[i] >= 0) || !(table->sigma_us[i] >= 0) ||
                !isfinite(table->sigma_us[i]) ||
                (i && !(table->target_us[i] > table->target_us[i - 1])))
                abort();
    }
    free(table);
    free(text);
    return 0;
}
