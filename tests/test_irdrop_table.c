/* The table of kernels/IRDROP.md: errors of G_eff by the march against conjugate gradients on the network
 * (irdrop_network.h), which share no step, over tiles from usable to hopeless. Printed, and held to bounds. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/crossbar.h"
#include "tests/runner.h"

enum { SAMPLES = 8, SIDE = 256 };

typedef struct {
    double f64, f32, kept; /* norm errors; share of the current with all rows driven */
    int renormalised_f64, renormalised_f32;
} errors;

/* A row of G_eff is what one row at 1 V sends into the bit lines: a few rows, first and last among them. */
static double row_error(const double *g_eff, const double *want, const int *row, int columns)
{
    double error = 0.0, norm = 0.0;
    for (int s = 0; s < SAMPLES; s++)
        for (int c = 0; c < columns; c++) {
            double x = want[s * columns + c], d = g_eff[(size_t)row[s] * columns + c] - x;
            error += d * d;
            norm += x * x;
        }
    ck_assert(norm > 0.0);
    return sqrt(error / norm);
}

static errors errors_of(const ohm_crossbar *x)
{
    int n = x->network.tile.rows, row[SAMPLES];
    size_t cells = (size_t)n * n;
    errors e = {0};
    double *v = calloc((size_t)n, sizeof *v), *want = malloc((size_t)SAMPLES * n * sizeof *want),
           *g_eff = malloc(cells * sizeof *g_eff), ideal = 0.0;
    void *scratch = aligned_alloc(64, ohm_nodal_scratch_bytes(&x->network) / 64 * 64 + 64);
    ck_assert(v && want && g_eff && scratch);
    for (int s = 0; s < SAMPLES; s++) {
        ohm_solve_report report;
        row[s] = s * (n - 1) / (SAMPLES - 1);
        v[row[s]] = 1.0;
        ck_assert_int_eq(ohm_nodal_solve(want + s * n, NULL, NULL, &x->network, v, NULL,
                                           OHM_NODAL_TOLERANCE, scratch, &report),
                         OHM_SOLVE_OK);
        ck_assert_msg(report.method == OHM_METHOD_LINE_CG, "method %d", report.method);
        v[row[s]] = 0.0;
    }
    for (int doubles = 0; doubles < 2; doubles++) {
        ohm_crossbar_report report;
        OHM_OK_OR_FAIL(ohm_crossbar_geff(g_eff, x, doubles, &report));
        *(doubles ? &e.f64 : &e.f32) = row_error(g_eff, want, row, n);
        *(doubles ? &e.renormalised_f64 : &e.renormalised_f32) = report.solve.renormalised;
    }
    for (size_t i = 0; i < cells; i++) {
        ideal += x->network.g[i];
        e.kept += g_eff[i];
    }
    e.kept /= ideal;
    free(scratch);
    free(g_eff);
    free(want);
    free(v);
    return e;
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

/* The worst of four distributions of weights, one terminal configuration. */
static errors worst_of(int n, double g_max, double ohms, int ends)
{
    static double g[SIDE * SIDE];
    errors worst = {.kept = 1.0};
    const ohm_crossbar x = {.network = {.tile = {n,
                                                 n,
                                                 {.word_line = ohms,
                                                  .bit_line = ohms,
                                                  .drive_both = ends & 1,
                                                  .sense_both = ends >> 1}},
                                        .g = g}};
    for (int w = 0; w < OHM_WEIGHTS_COUNT; w++) {
        ohm_crossbar_draw(g, n * n, (ohm_weights)w, g_max, 100.0, 4, (uint32_t)n);
        errors e = errors_of(&x);
        worst.f64 = fmax(worst.f64, e.f64);
        worst.f32 = fmax(worst.f32, e.f32);
        worst.kept = fmin(worst.kept, e.kept);
        worst.renormalised_f64 = larger(worst.renormalised_f64, e.renormalised_f64);
        worst.renormalised_f32 = larger(worst.renormalised_f32, e.renormalised_f32);
    }
    return worst;
}

OHM_TEST_SLOW(irdrop_table, errors_over_steepness)
{
    static const struct {
        int n;
        double g_max, ohms;
    } tiles[] = {{64, 1e-5, 1.0},  {128, 1e-5, 1.0},  {128, 1e-4, 1.0}, {256, 1e-4, 1.0},
                 {128, 1e-3, 1.0}, {128, 1e-3, 10.0}, {256, 1e-3, 10.0}};
    printf("| tile | G_max | segment | θ | current kept | double | float | renormalised (double, "
           "float) |\n"
           "|---|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++)
        for (int ends = 0; ends < 4; ends += 3) {
            errors e = worst_of(tiles[i].n, tiles[i].g_max, tiles[i].ohms, ends);
            printf("| %d² | %g µS | %g Ω%s | %.2g | %.2g | %.0e | %.0e | %d, %d |\n", tiles[i].n,
                   1e6 * tiles[i].g_max, tiles[i].ohms, ends ? ", both ends" : "",
                   tiles[i].n * sqrt(tiles[i].ohms * tiles[i].g_max), e.kept, e.f64, e.f32,
                   e.renormalised_f64, e.renormalised_f32);
            ck_assert_msg(e.f64 <= 1e-9 && e.f32 <= 1e-5, "tile %zu, ends %d: %g, %g", i, ends,
                          e.f64, e.f32);
        }
}
