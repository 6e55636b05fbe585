#include "tests/fixture_values.h"

#include "kernels/philox.h"

void fixture_values(float *x, size_t n, uint32_t seed)
{
    const ohm_stream s = {{seed, 0}, OHM_SITE_USER, 0, 0};
    for (size_t i = 0; i < n; i++) {
        uint32_t word = ohm_stream_word(&s, i);
        float value = (float)(int32_t)word * 0x1p-29f;
        switch (word % 16) {
        case 0:
            value = ((float)(word >> 24) - 128.5f) * 0.5f;
            break;
        case 1:
            value = word & 16 ? 0.0f : -0.0f;
            break;
        case 2:
            value = (float)(int32_t)word * 0x1p-149f;
            break;
        case 3:
            value *= 1e30f;
            break;
        }
        x[i] = value;
    }
}
