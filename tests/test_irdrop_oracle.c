/* Exact IR drop against a sparse direct solver that knows nothing of marches. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/irdrop_exact.h"
#include "tests/oracle_sparse.h"
#include "tests/runner.h"

typedef enum { UNIFORM, BIMODAL, GAUSSIAN, HALF_OFF, DISTRIBUTIONS } distribution;
static const char *const distribution_name[] = {"uniform", "bimodal", "gaussian", "half off"};

typedef struct {
    double f64, f32;
} errors;

static double next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) * 0x1p-53;
}

/* From least to most, evenly in the logarithm. */
static double between(uint64_t *state, double least, double most)
{
    return least * pow(most / least, next(state));
}

static void fill(double *g, int cells, distribution d, double g_max, double on_off, uint64_t *state)
{
    double low = g_max / on_off;
    for (int i = 0; i < cells; i++) {
        double u = next(state), normal = sqrt(-2.0 * log(next(state) + 1e-300)) * cos(6.283185307179586 * u), value;
        if (d == UNIFORM)
            value = low + (g_max - low) * u;
        else if (d == BIMODAL)
            value = u < 0.5 ? low : g_max;
        else if (d == GAUSSIAN)
            value = g_max * (0.5 + 0.2 * normal);
        else
            value = u < 0.5 ? low : low + (g_max - low) * next(state);
        g[i] = (float)fmin(fmax(value, low), g_max); /* what both precisions can hold */
    }
}

/* max|ΔG| / max|G| of both precisions; with `step`, on every step-th block of 32 rows. */
static errors solve_and_compare(const double *g, const ohm_crosspoint *tile, int step)
{
    int cells = tile->rows * tile->columns;
    size_t f64 = ohm_irdrop_exact_bytes_f64(tile), f32 = ohm_irdrop_exact_bytes_f32(tile);
    double *want = malloc(32 * (size_t)tile->columns * sizeof *want), *got = malloc((size_t)cells * sizeof *got), largest = 0.0;
    float *single = malloc((size_t)cells * sizeof *single);
    void *scratch = aligned_alloc(64, ((f64 > f32 ? f64 : f32) + 63) / 64 * 64);
    errors e = {0.0, 0.0};
    for (int i = 0; i < cells; i++)
        single[i] = (float)g[i];
    ck_assert_int_eq(ohm_irdrop_exact_f64(got, g, tile, scratch, NULL), OHM_SOLVE_OK);
    ck_assert_int_eq(ohm_irdrop_exact_f32(single, single, tile, scratch, NULL), OHM_SOLVE_OK);
    ohm_oracle *o = ohm_oracle_create(g, tile);
    ck_assert(o && ohm_oracle_factorise(o));
    for (int r = 0; r < tile->rows; r += 32 * step) {
        int some = tile->rows - r < 32 ? tile->rows - r : 32;
        ck_assert(ohm_oracle_solve(want, o, r, some));
        for (int i = 0; i < some * tile->columns; i++) {
            size_t at = (size_t)r * tile->columns + i;
            ck_assert(!isnan(got[at]) && !isnan(single[at]));
            largest = fmax(largest, want[i]);
            e.f64 = fmax(e.f64, fabs(got[at] - want[i]));
            e.f32 = fmax(e.f32, fabs(single[at] - want[i]));
        }
    }
    ohm_oracle_destroy(o);
    free(want);
    free(got);
    free(single);
    free(scratch);
    if (largest > 0.0)
        return (errors){e.f64 / largest, e.f32 / largest};
    return e;
}

static void check(errors e, const ohm_crosspoint *t, const char *what, errors *worst)
{
    const ohm_wires *w = &t->wires;
    ck_assert_msg(e.f64 <= 1e-9 && e.f32 <= 1e-5,
                  "%dx%d %s, word %g bit %g driver %g sense %g ohm, both ends %d%d: off by %.2g in double, %.2g in float",
                  t->rows, t->columns, what, w->word_line, w->bit_line, w->driver, w->sense, w->drive_both, w->sense_both,
                  e.f64, e.f32);
    worst->f64 = fmax(worst->f64, e.f64);
    worst->f32 = fmax(worst->f32, e.f32);
}

/* Nothing, or something up to `most`; not far less, or the oracle's own conductances would lose digits. */
static double ohms(uint64_t *state, double most)
{
    return next(state) < 0.2 ? 0.0 : between(state, 1e-3 * most, most);
}

/* Random tiles of up to `most` lines a side; a few rows and columns of zeros, a few single lines. Segments
 * of up to `wire` ohm, drivers and sense sides of up to ten times that. */
static void random_tiles(int count, int most, double wire, uint64_t seed)
{
    errors worst = {0, 0};
    for (int i = 0; i < count; i++) {
        uint64_t state = seed + (uint64_t)i * 0x9e3779b97f4a7c15u;
        next(&state);
        distribution d = (distribution)(i % DISTRIBUTIONS);
        int rows = 1 + (int)(next(&state) * most), columns = 1 + (int)(next(&state) * most);
        if (i % 7 == 0)
            *(i % 2 ? &rows : &columns) = 1 + i / 7 % 3;
        int cells = rows * columns, ends = i / DISTRIBUTIONS % 4;
        double g_max = i % 5 ? between(&state, 1e-6, 1e-3) : 1e-3, on_off = between(&state, 10.0, 1000.0);
        double *g = malloc((size_t)cells * sizeof *g);
        fill(g, cells, d, g_max, on_off, &state);
        for (int c = 0; c < columns && i % 9 == 0; c++)
            g[(size_t)(i % rows) * columns + c] = 0.0;
        for (int r = 0; r < rows && i % 11 == 0; r++)
            g[(size_t)r * columns + i % columns] = 0.0;
        ohm_crosspoint tile = {rows, columns,
                               {.word_line = ohms(&state, wire), .bit_line = ohms(&state, wire), .driver = ohms(&state, 10.0 * wire),
                                .sense = ohms(&state, 10.0 * wire), .drive_both = ends & 1, .sense_both = ends >> 1}};
        check(solve_and_compare(g, &tile, 1), &tile, distribution_name[d], &worst);
        free(g);
    }
    printf("%d tiles up to %d a side, wires up to %g ohm: largest error %.1e in double, %.1e in float\n", count, most, wire, worst.f64, worst.f32);
}

OHM_TEST(irdrop_oracle, small_tiles)
{
    if (!ohm_oracle_here())
        OHM_SKIP("%s", ohm_oracle_missing);
    random_tiles(600, 24, 10.0, 1);
}

/* So steep that every row is renormalised, and that E needs pivots. */
OHM_TEST(irdrop_oracle, absurd_wires)
{
    if (!ohm_oracle_here())
        OHM_SKIP("%s", ohm_oracle_missing);
    random_tiles(300, 24, 1e6, 3);
}

OHM_TEST_SLOW(irdrop_oracle, medium_tiles)
{
    if (!ohm_oracle_here())
        OHM_SKIP("%s", ohm_oracle_missing);
    random_tiles(150, 100, 10.0, 2);
}

/* R·sqrt(r·g_max) up to 25, where a march that is not renormalised loses everything. */
static void steep_tiles(int rows, int columns, int step)
{
    errors worst = {0, 0};
    for (int i = 0; i < 16; i++) {
        uint64_t state = (uint64_t)i;
        double theta = i / 4 % 2 ? 25.0 : 9.0, g_max = 1e-3, r = theta * theta / (rows * (double)rows * g_max);
        int cells = rows * columns;
        double *g = malloc((size_t)cells * sizeof *g);
        fill(g, cells, (distribution)(i % 4), g_max, i / 8 ? 1000.0 : 10.0, &state);
        int ends = (i + i / 4) % 4;
        ohm_crosspoint tile = {rows, columns, {.word_line = r, .bit_line = r, .drive_both = ends & 1, .sense_both = ends >> 1}};
        check(solve_and_compare(g, &tile, step), &tile, distribution_name[i % 4], &worst);
        free(g);
    }
    printf("steep %d x %d: largest error %.1e in double, %.1e in float\n", rows, columns, worst.f64, worst.f32);
}

OHM_TEST(irdrop_oracle, steep_tiles)
{
    if (!ohm_oracle_here())
        OHM_SKIP("%s", ohm_oracle_missing);
    steep_tiles(40, 33, 1);
}

OHM_TEST_SLOW(irdrop_oracle, steep_tiles_of_128)
{
    if (!ohm_oracle_here())
        OHM_SKIP("%s", ohm_oracle_missing);
    steep_tiles(128, 120, 4);
    steep_tiles(37, 211, 2);
}

/* The largest: the first, a middle and the last block of rows would do; every other one is compared. */
OHM_TEST_SLOW(irdrop_oracle, tiles_of_256)
{
    static const double g_max[] = {1e-6, 1e-5, 1e-4, 1e-3}, wire[] = {10.0, 1.0, 0.1, 10.0}, driver[] = {0.0, 100.0, 0.0, 1.0};
    if (!ohm_oracle_here())
        OHM_SKIP("%s", ohm_oracle_missing);
    errors worst = {0, 0};
    for (int i = 0; i < 8; i++) {
        uint64_t state = (uint64_t)i + 7;
        double *g = malloc(65536 * sizeof *g);
        fill(g, 65536, (distribution)(i / 2), g_max[i % 4], i / 4 ? 1000.0 : 10.0, &state);
        ohm_crosspoint tile = {256, 256,
                               {.word_line = wire[i % 4], .bit_line = wire[i % 4], .driver = driver[i % 4], .sense = driver[(i + 2) % 4],
                                .drive_both = i / 2 & 1, .sense_both = i / 4}};
        check(solve_and_compare(g, &tile, 7), &tile, distribution_name[i / 2], &worst);
        free(g);
    }
    printf("256 x 256: largest error %.1e in double, %.1e in float\n", worst.f64, worst.f32);
}
