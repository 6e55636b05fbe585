/* Experiment files, the chip among their keys: what is accepted must print as YAML that reads back
 * to the same print. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *print(const ohm_config *config, size_t *bytes)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, bytes);
    if (!out)
        abort();
    ohm_config_print(config, out);
    if (fclose(out) != 0)
        abort();
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ohm_config *config = malloc(sizeof *config);
    if (!config)
        return 0;
    if (ohm_config_parse(config, (const char *)data, size, "fuzz.yaml") == OHM_OK) {
        size_t first_bytes, second_bytes;
        char *first = print(config, &first_bytes);
        if (ohm_config_parse(config, first, first_bytes, "printed.yaml") != OHM_OK) {
            fprintf(stderr, "the print is refused: %s\n%s", ohm_error_text(), first);
            abort();
        }
        char *second = print(config, &second_bytes);
        if (first_bytes != second_bytes || memcmp(first, second, first_bytes) != 0)
            abort();
        free(first);
        free(second);
    }
    free(config);
    return 0;
}
