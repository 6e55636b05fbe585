/* Matrices as CSV: what parses must hold as many finite numbers as it says. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "host/matrix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ohm_matrix m;
    if (ohm_matrix_parse_csv(&m, (const char *)data, size, "fuzz.csv") != OHM_OK) {
        if (m.value)
            abort();
        return 0;
    }
    if (m.rows < 1 || m.columns < 1 || m.rows > OHM_MATRIX_SIDE || m.columns > OHM_MATRIX_SIDE)
        abort();
    for (size_t i = 0; i < (size_t)m.rows * (size_t)m.columns; i++)
        if (!isfinite(m.value[i]))
            abort();
    ohm_matrix_free(&m);
    return 0;
}
