#include "kernels/quantise.h"

#include <math.h>

float ohm_absmax_ref(const float *x, size_t n)
{
    double largest = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i]))
            return NAN;
        largest = fmax(largest, fabs((double)x[i]));
    }
    return (float)largest;
}

static int quantise_one(float x, float scale, int qmax)
{
    float s = scale == 0.0f ? 1.0f : scale;
    float ratio = x / s;
    if (!(ratio > (float)-qmax))
        return -qmax;
    if (ratio > (float)qmax)
        return qmax;
    return (int)rint((double)ratio);
}

void ohm_quantise_ref(int8_t *q, size_t ldq, const float *x, size_t rows, size_t cols, size_t ldx,
                      const float *scale, int per_row, int qmax)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            q[r * ldq + c] = (int8_t)quantise_one(x[r * ldx + c], scale[per_row ? r : 0], qmax);
}

int ohm_drive_encode_ref(uint8_t *u, const int8_t *q, size_t n, ohm_drive encoding, int bits)
{
    int negative = 0;
    for (size_t i = 0; i < n; i++) {
        int code = q[i];
        if (encoding == OHM_DRIVE_OFFSET) {
            u[i] = (uint8_t)(code + (1 << (bits - 1)));
        } else if (encoding == OHM_DRIVE_UNSIGNED) {
            negative |= code < 0;
            u[i] = (uint8_t)(code < 0 ? 0 : code);
        } else {
            u[i] = (uint8_t)(code < 0 ? 128 - code : code);
        }
    }
    return negative;
}

void ohm_weight_split_ref(uint8_t *levels, const int8_t *q, size_t n, size_t k, ohm_cells encoding,
                          int cell_bits, int bits)
{
    int differential = encoding == OHM_CELLS_DIFFERENTIAL;
    int wide = differential ? bits - 1 : bits;
    int cell = cell_bits < wide ? cell_bits : wide;
    int signs = differential ? 2 : 1;
    int slices = ohm_weight_slices(encoding, cell_bits, bits);
    for (int slice = 0; slice < slices; slice++)
        for (int sign = 0; sign < signs; sign++)
            for (size_t row = 0; row < k; row++)
                for (size_t col = 0; col < n; col++) {
                    int code = q[col * k + row];
                    int value = differential ? (sign ? -code : code) : code + (1 << (bits - 1));
                    size_t at = (((size_t)(slice * signs + sign)) * k + row) * n + col;
                    levels[at] =
                        (uint8_t)(value < 0 ? 0 : value >> (slice * cell) & ((1 << cell) - 1));
                }
}
