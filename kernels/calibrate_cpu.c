#include <math.h>

#include "kernels/calibrate.h"

void ohm_calibration_codes(uint8_t *codes, size_t count, int drive, int bits,
                           const ohm_stream *stream)
{
    for (size_t i = 0; i < count; i++)
        codes[i] = ohm_calibration_code(ohm_stream_word(stream, i), drive, (1 << (bits - 1)) - 1);
}

static double column_sum(const double *sums, int rows, int n, int column)
{
    double sum = 0.0;
    for (int i = 0; i < rows; i++)
        sum += fabs(sums[(size_t)i * n + column]);
    return sum;
}

void ohm_calibration_alpha(float *alpha, const double *fresh, const double *now, int rows, int n,
                           int per_column)
{
    double all_fresh = 0.0, all_now = 0.0;
    for (int i = 0; i < n; i++) {
        double before = column_sum(fresh, rows, n, i), after = column_sum(now, rows, n, i);
        all_fresh += before;
        all_now += after;
        alpha[i] = after > 0.0 ? (float)(before / after) : 1.0f;
    }
    for (int i = 0; i < n && !per_column; i++)
        alpha[i] = all_now > 0.0 ? (float)(all_fresh / all_now) : 1.0f;
}

void ohm_calibration_nominal(double *correction, const ohm_geometry *g, const uint8_t *levels,
                             int bits, int weight_bits)
{
    double offset = (double)(1 << (bits - 1)),
           mean = g->differential ? 0.0 : (double)(1 << (weight_bits - 1));
    for (int n = 0; n < g->n; n++) {
        double sum = 0.0;
        for (int slice = 0; slice < g->slices; slice++)
            for (int sign = 0; sign < (g->differential ? 2 : 1); sign++) {
                int64_t all = 0;
                for (int k = 0; k < g->k; k++)
                    all += levels[ohm_cell_element(g, slice, sign, k, n)];
                sum += ldexp(sign ? -1.0 : 1.0, slice * g->cell_bits) * (double)all;
            }
        correction[n] = offset * (sum - mean * g->k);
    }
}
