/* What a device makes of reads of the chip itself, and the closed form of its wires, against the CPU. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/calibrate_cuda.h"
#include "kernels/irdrop_closed_cuda.h"
#include "tests/fixture_chip.h"
#include "tests/parity.h"

OHM_PARITY_ALONE(calibrate_cuda, codes_have_the_host_s_bits)
{
    const ohm_stream stream = {.key = {3, 4}, .site = OHM_SITE_COMPENSATION_INPUT, .where = 9};
    for (int drive = OHM_DRIVE_OFFSET; drive <= OHM_DRIVE_UNSIGNED; drive++)
        for (size_t count = 1; count < 1200; count = 5 * count + 2) {
            uint8_t got[1200], expected[1200], *there = parity_alloc(count);
            ohm_calibration_codes(expected, count, drive, 8, &stream);
            PARITY_TRY(
                ohm_calibration_codes_cuda(there, count, drive, 8, &stream, parity_stream()));
            PARITY_TRY(parity_fetch(got, there, count));
            PARITY_CHECK(ohm_compare_bits(got, expected, count));
        }
    return parity_pass();
}

static ohm_verdict alphas(int n, int per_column)
{
    enum { ROWS = 16 };
    size_t count = (size_t)ROWS * n;
    double *fresh = parity_host(count * sizeof *fresh), *now = parity_host(count * sizeof *now);
    float *expected = parity_host((size_t)n * sizeof *expected),
          *got = parity_host((size_t)n * sizeof *got),
          *there = parity_alloc((size_t)n * sizeof *got);
    for (size_t i = 0; i < count; i++) {
        fresh[i] = (i % 2 ? -1.0 : 1.0) * (double)(i % 97 + 1);
        now[i] = i % (size_t)n == 1 ? 0.0 : fresh[i] * (0.5 + 0.001 * (double)(i % (size_t)n));
    }
    ohm_calibration_alpha(expected, fresh, now, ROWS, n, per_column);
    PARITY_TRY(ohm_calibration_alpha_cuda(there, parity_upload(fresh, count * sizeof *fresh),
                                          parity_upload(now, count * sizeof *now), ROWS, n,
                                          per_column, parity_stream()));
    PARITY_TRY(parity_fetch(got, there, (size_t)n * sizeof *got));
    return per_column ? ohm_compare_bits(got, expected, n)
                      : ohm_compare_close(got, expected, n, 0.0, 2e-7);
}

OHM_PARITY(calibrate_cuda, alpha)
{
    PARITY_CHECK(alphas(1, 0));
    PARITY_CHECK(alphas(1, 1));
    PARITY_CHECK(alphas(300, 1));
    PARITY_CHECK(alphas(255, 0));
    return alphas(700, 0);
}

/* A sum of whole numbers has its bits in any order. */
OHM_PARITY_ALONE(calibrate_cuda, nominal_correction)
{
    static const char *const weights[] = {"weight.cell_bits=2",
                                          "weight.encoding=offset weight.cell_bits=3",
                                          "weight.subtract=digital weight.cell_bits=7"};
    for (int i = 0; i < 3; i++) {
        fixture_chip c;
        enum { K = 130, N = 129 };
        double expected[N], got[N], *there = parity_alloc(sizeof got);
        fixture_chip_make(&c, weights[i], K, N, 5, 0.3);
        const uint8_t *levels = parity_upload(c.levels, (size_t)c.g.slices * c.shape.signs * K * N);
        ohm_calibration_nominal(expected, &c.g, c.levels, 8, c.shape.weight_bits);
        PARITY_TRY(ohm_calibration_nominal_cuda(there, &c.g, levels, 8, c.shape.weight_bits,
                                                parity_stream()));
        PARITY_TRY(parity_fetch(got, there, sizeof got));
        PARITY_CHECK(ohm_compare_bits(got, expected, N));
        fixture_chip_free(&c);
    }
    return parity_pass();
}

/* ---- closed form --------------------------------------------------------------------------- */

static ohm_verdict closed(const char *settings, int k, int n)
{
    fixture_chip c;
    fixture_chip_make(&c, settings, k, n, 5, 0.3);
    const ohm_programming *p = &c.programming;
    size_t cells = (size_t)p->physical_rows * p->physical_columns,
           tiles = ohm_physical_tiles(&c.g, p, NULL), bytes = tiles * cells * sizeof(float);
    float *before = parity_host(bytes), *got = parity_host(bytes);
    double *one = parity_host(cells * sizeof *one),
           *expected = parity_host(tiles * cells * sizeof *expected),
           *work = parity_host((cells + 3 * (size_t)p->physical_columns) * sizeof *work);
    uint32_t state = 5;
    for (size_t i = 0; i < tiles * cells; i++) {
        state = state * 1664525u + 1013904223u;
        before[i] = (float)(state >> 8) * (float)p->g_max / 16777216.0f;
    }
    for (size_t tile = 0; tile < tiles; tile++) {
        int t = (int)(tile / (size_t)(c.g.column_tiles * ohm_physical_arrays(&c.g, p))) % c.g.tiles,
            used = ohm_tile_begin(&c.g, t + 1) - ohm_tile_begin(&c.g, t);
        for (size_t i = 0; i < cells; i++)
            one[i] = (double)before[tile * cells + i];
        ohm_irdrop_closed(one, one, used, p->physical_columns, p->physical_rows - used, &p->wires,
                          work);
        memcpy(expected + tile * cells, one, cells * sizeof *one);
    }
    float *there = parity_upload(before, bytes),
          *scratch = parity_alloc((ohm_irdrop_closed_cuda_floats(&c.g, p, NULL) + 1) * sizeof(float));
    const int all = ohm_places_of(&c.g, NULL).count, half = (all + 1) / 2;
    for (int first = 0; first < all; first += half) { /* in two parts */
        const ohm_program_places some = {first, all - first < half ? all - first : half};
        float *at = there + (size_t)(first * ohm_physical_arrays(&c.g, p)) * cells;
        PARITY_TRY(ohm_irdrop_closed_cuda(at, &c.g, p, &some, scratch, parity_stream()));
    }
    PARITY_TRY(parity_fetch(got, there, bytes));
    double lost = 0.0;
    for (size_t i = 0; i < tiles * cells; i++)
        lost = fmax(lost, 1.0 - expected[i] / ((double)before[i] + 1e-9));
    ck_assert_double_gt(lost, 0.05); /* what wires lose must be seen */
    ohm_verdict verdict = ohm_compare_close(got, expected, tiles * cells, 1e-9, 2e-7);
    fixture_chip_free(&c);
    return verdict;
}

/* Tall and wide tiles that are not full, wires without resistance, both ends, pairs and references. */
OHM_PARITY(irdrop_cuda, closed_form)
{
#define CLOSED "ir_drop.model=closed_form ir_drop.r_wordline_ohm=30 ir_drop.r_bitline_ohm=20 "
    PARITY_CHECK(closed(
        CLOSED "tile.rows=37 tile.cols=70 ir_drop.r_driver_ohm=50 weight.cell_bits=4", 50, 80));
    PARITY_CHECK(
        closed("ir_drop.model=closed_form ir_drop.r_bitline_ohm=100 ir_drop.r_wordline_ohm=0 "
               "tile.rows=40 tile.cols=33 weight.encoding=offset ir_drop.r_sense_ohm=30",
               45, 40));
    PARITY_CHECK(closed(
        CLOSED "tile.rows=9 tile.cols=34 tile.pair=interleaved ir_drop.drive=both_ends", 20, 20));
    return closed(CLOSED "tile.rows=50 tile.cols=5 tile.split=even ir_drop.sense=both_ends "
                         "ir_drop.drive=both_ends ir_drop.r_driver_ohm=20 ir_drop.r_sense_ohm=40",
                  70, 8);
}
