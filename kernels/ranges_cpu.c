/* Ranges of a noisy layer on the CPU. */
#include "kernels/ranges_math.h"

#include <string.h>

enum { QUANTISE_ROWS = 64, QUANTISE_CHUNK = 1 << 14, COLUMNS = 64, SERIAL = 1 << 14 };

static size_t part(size_t n, size_t at, size_t block)
{
    return n - at < block ? n - at : block;
}

/* ---- scales -------------------------------------------------------------------------------- */

void ohm_input_scale_cpu(float *scale, float *kept, float *learned, uint32_t *fault, const float *x,
                         size_t count, const ohm_scale_rule *rule, ohm_selection *selection)
{
    (void)selection;
    float most = ohm_absmax(x, count), percentile = 0.0f;
    if (!ohm_range_is_finite(most)) {
        *fault |= OHM_FAULT_INPUT;
        return;
    }
    if (rule->kind == OHM_SCALE_PERCENTILE && !rule->each_row)
        percentile = ohm_abs_percentile(x, count, rule->value);
    float full = ohm_full_scale(kept, learned, rule, most, percentile);
    *scale = rule->each_row ? 0.0f : ohm_scale_of(full, rule->codes);
}

void ohm_row_scales_cpu(float *scale, const float *x, size_t rows, size_t cols, size_t ldx,
                        const ohm_scale_rule *rule)
{
    if (rule->kind == OHM_SCALE_ABSMAX)
        ohm_absmax_rows(scale, x, rows, cols, ldx);
    else
        for (size_t i = 0; i < rows; i++)
            scale[i] = ohm_abs_percentile(x + i * ldx, cols, rule->value);
    for (size_t i = 0; i < rows; i++)
        scale[i] = ohm_scale_of(scale[i], rule->codes);
}

void ohm_weight_scales_cpu(float *scale, uint32_t *fault, const float *w, size_t n, size_t k,
                           const ohm_scale_rule *rule, ohm_selection *selection)
{
    (void)selection;
    float full = ohm_absmax(w, n * k);
    if (!ohm_range_is_finite(full)) {
        *fault |= OHM_FAULT_WEIGHT;
        return;
    }
    if (rule->each_row) {
        ohm_row_scales_cpu(scale, w, n, k, k, rule);
        return;
    }
    if (rule->kind == OHM_SCALE_NUMBER)
        full = (float)rule->value;
    else if (rule->kind == OHM_SCALE_PERCENTILE)
        full = ohm_abs_percentile(w, n * k, rule->value);
    for (size_t i = 0; i < n; i++)
        scale[i] = ohm_scale_of(full, rule->codes);
}

/* ---- codes --------------------------------------------------------------------------------- */

void ohm_weight_levels_cpu(uint8_t *levels, int8_t *codes, float *digital, int32_t *bias_codes,
                           const ohm_weight_job *job)
{
    const size_t n = (size_t)job->n, k = (size_t)job->k, rows = (size_t)job->rows;
    ohm_quantise(codes, rows, job->w, n, k, k, job->w_scale, 1, job->codes);
    for (int i = 0; i < job->n; i++)
        ohm_place_bias(codes, digital, bias_codes, job, i);
    ohm_weight_split(levels, codes, n, rows, (ohm_cells)job->cells, job->cell_bits, job->bits);
}

void ohm_drive_codes_cpu(uint8_t *u, size_t ldu, uint32_t *fault, const float *x, size_t rows,
                         size_t cols, size_t ldx, const float *scale, int per_row, int qmax,
                         ohm_drive encoding, int bits)
{
    int negative = 0;
    const int dense = !per_row && ldu == cols && ldx == cols; /* one long row */
    const size_t chunk = dense ? QUANTISE_CHUNK : QUANTISE_ROWS;
    rows *= dense ? cols : 1;
#pragma omp parallel for schedule(static) reduction(| : negative)
    for (size_t at = 0; at < rows; at += chunk) {
        size_t some = part(rows, at, chunk);
        if (dense)
            negative |= ohm_quantise_drive(u + at, some, x + at, 1, some, some, scale, 0, qmax,
                                           encoding, bits);
        else
            negative |=
                ohm_quantise_drive(u + at * ldu, ldu, x + at * ldx, some, cols, ldx,
                                   scale + (per_row ? at : 0), per_row, qmax, encoding, bits);
    }
    if (negative)
        *fault |= OHM_FAULT_NEGATIVE;
}

void ohm_append_always_on_cpu(uint8_t *u, size_t ldu, const uint8_t *from, size_t ld_from,
                              size_t rows, size_t cols, const ohm_always_on *always)
{
    for (size_t i = 0; i < rows; i++) {
        if (from)
            memcpy(u + i * ldu, from + i * ld_from, cols);
        memcpy(u + i * ldu + cols, always->code, sizeof always->code);
    }
}

/* ---- the ADC ------------------------------------------------------------------------------- */

void ohm_cut_ranges_cpu(float *range, const uint32_t *histogram, size_t ranges, int bins,
                        double percent)
{
    for (size_t i = 0; i < ranges; i++)
        range[i] = ohm_cut_range(range[i], histogram + i * (size_t)bins, bins, percent);
}

void ohm_raise_ranges_cpu(float *range, const float *other, size_t ranges)
{
    for (size_t i = 0; i < ranges; i++)
        range[i] = fmaxf(range[i], other[i]);
}

void ohm_update_lsb_cpu(float *lsb, float *batches, const float *range, size_t ranges,
                        const ohm_lsb_rule *rule)
{
    for (size_t i = 0; i < ranges; i++)
        lsb[i] = ohm_lsb_of(lsb[i], *batches, range[i], rule);
    *batches += 1.0f;
}

/* ---- outputs ------------------------------------------------------------------------------- */

void ohm_rescale_cpu(float *y, size_t ldy, size_t m, size_t n, const ohm_scales *scales,
                     const float *bias)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < m; i++) {
        const double x_scale = ohm_x_scale(scales, i);
        float *row = y + i * ldy;
        for (size_t c = 0; c < n; c++)
            row[c] = ohm_rescaled(row[c], x_scale, scales, bias, c);
    }
}

/* ---- mode full ----------------------------------------------------------------------------- */

/* Rows share nothing; db is summed row by row, a block of columns at a time. */
void ohm_rescale_backward_cpu(float *dsums, float *db, const float *dy, size_t lddy, size_t m,
                              size_t n, const ohm_scales *scales, double *partial)
{
    (void)partial;
#pragma omp parallel if (m * n >= SERIAL)
    {
#pragma omp for schedule(static) nowait
        for (size_t i = 0; i < m; i++) {
            const double x_scale = ohm_x_scale(scales, i);
            for (size_t c = 0; c < n; c++)
                dsums[i * n + c] = ohm_sum_gradient(dy[i * lddy + c], x_scale, scales, c);
        }
#pragma omp for schedule(static)
        for (size_t first = 0; first < (db ? n : 0); first += COLUMNS)
            for (size_t i = 0; i < m; i++)
                for (size_t c = first; c < first + part(n, first, COLUMNS); c++)
                    db[c] += dy[i * lddy + c];
    }
}

void ohm_unscale_cpu(float *sums, const float *y, size_t ldy, size_t m, size_t n,
                     const ohm_scales *scales, const float *bias)
{
#pragma omp parallel for schedule(static) if (m * n >= SERIAL)
    for (size_t i = 0; i < m; i++) {
        const double x_scale = ohm_x_scale(scales, i);
        for (size_t c = 0; c < n; c++)
            sums[i * n + c] = ohm_unscaled(y[i * ldy + c], x_scale, scales, bias, c);
    }
}

/* Blocks of rows have sums of their own, [blocks][2][n], which are added in order. */
void ohm_scale_gradients_cpu(float *dx_range, float *dcolumn_scale, const float *dy, size_t lddy,
                             const float *sums, size_t m, size_t n, const ohm_scales *scales,
                             double *partial)
{
    const size_t blocks = (m + OHM_RANGE_BLOCK - 1) / OHM_RANGE_BLOCK;
#pragma omp parallel for schedule(static) if (m * n >= SERIAL)
    for (size_t block = 0; block < blocks; block++) {
        const size_t first = block * OHM_RANGE_BLOCK;
        double *of_column = partial + 2 * block * n, *of_x = of_column + n;
        memset(of_column, 0, 2 * n * sizeof *of_column);
        for (size_t i = first; i < first + part(m, first, OHM_RANGE_BLOCK); i++) {
            const double x_scale = ohm_x_scale(scales, i);
            for (size_t c = 0; c < n; c++) {
                double share = (double)dy[i * lddy + c] * sums[i * n + c];
                of_column[c] += share * x_scale;
                of_x[c] += share;
            }
        }
    }
    double total = 0.0;
    for (size_t c = 0; c < n; c++) {
        double of_column = 0.0, of_x = 0.0;
        for (size_t block = 0; block < blocks; block++) {
            of_column += partial[2 * block * n + c];
            of_x += partial[(2 * block + 1) * n + c];
        }
        if (dcolumn_scale)
            dcolumn_scale[c] += (float)(of_column * scales->w_scale[c]);
        total +=
            of_x * scales->w_scale[c] * (scales->column_scale ? scales->column_scale[c] : 1.0f);
    }
    if (dx_range)
        *dx_range += (float)(total / scales->codes);
}

size_t ohm_range_partials(size_t m, size_t n, size_t k)
{
    const size_t blocks = (m + OHM_RANGE_BLOCK - 1) / OHM_RANGE_BLOCK;
    (void)k;
    return m > 2 * blocks * n ? m : 2 * blocks * n;
}

/* Without a gradient of the range: floats alone, as vectors. */
static void drive_row(float *restrict dx, const float *restrict dcodes, const float *restrict x,
                      size_t k, float scale, float full)
{
    for (size_t c = 0; x && c < k; c++)
        dx[c] = fabsf(x[c]) <= full ? dcodes[c] / scale : 0.0f;
    for (size_t c = 0; !x && c < k; c++)
        dx[c] = dcodes[c] / scale;
}

/* The same, and what the range loses by it. */
static double drive_and_range(float *dx, const float *dcodes, const float *x, size_t k, float scale,
                              int codes)
{
    double total = 0.0;
    for (size_t c = 0; c < k; c++) {
        double share = 0.0;
        float d = ohm_drive_gradient(&share, dcodes[c], x[c], scale, codes);
        if (dx)
            dx[c] = d;
        total += share;
    }
    return total;
}

void ohm_drive_backward_cpu(float *dx, size_t lddx, float *dx_range, const float *dcodes,
                            size_t ldd, const float *x, size_t ldx, size_t m, size_t k,
                            const ohm_scales *scales, double *partial)
{
#pragma omp parallel for schedule(static) if (m * k >= SERIAL)
    for (size_t i = 0; i < m; i++) {
        float scale = scales->x_scale[scales->x_scale_rows ? i : 0],
              *to = dx ? dx + i * lddx : NULL;
        const float *from = dcodes + i * ldd, *at = x ? x + i * ldx : NULL;
        if (dx_range)
            partial[i] = drive_and_range(to, from, at, k, scale, scales->codes);
        else if (dx)
            drive_row(to, from, at, k, scale, scale * (float)scales->codes);
    }
    double total = 0.0;
    for (size_t i = 0; dx_range && i < m; i++)
        total -= partial[i];
    if (dx_range)
        *dx_range += (float)total;
}

void ohm_weight_backward_cpu(float *dw, const float *dcodes, size_t ldd, const float *w, size_t n,
                             size_t k, const ohm_scales *scales)
{
#pragma omp parallel for schedule(static) if (n * k >= SERIAL)
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < k; c++)
            dw[r * k + c] += ohm_weight_gradient(dcodes[r * ldd + c], w[r * k + c],
                                                 scales->w_scale[r], scales->codes);
}
