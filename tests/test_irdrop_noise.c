/* Read noise under IR drop. A read's noise moves conductances, and with them G_eff; the chip keeps G_eff
 * of the programming and scales each cell's sigma by G_eff/G. Measured here against solving the tile
 * anew for every draw, the same draws in both. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/gemm.h"
#include "kernels/normals.h"
#include "kernels/program_cell.h"
#include "tests/compare.h"
#include "tests/fixture_chip.h"
#include "tests/runner.h"

typedef struct {
    double loss;           /* share of the tile's conductance that the wires take */
    double over, worst;    /* scaled over re-solved deviation - 1: of all bit lines, of the worst one */
} overstatement;

/* n x n cells of one array, half of them off, PCM's read noise (1.75 % of g_max at g_max). All rows at
 * full drive, or half of them at random and the others grounded. */
static overstatement measure(int n, double g_max_us, double ohms, int half, int draws)
{
    char settings[512];
    fixture_chip c;
    snprintf(settings, sizeof settings,
             "input.encoding=sign_magnitude input.dac_bits=7 weight.cell_bits=7 cell.on_off=100 "
             "tile.rows=%d tile.cols=%d cell.g_max_us=%g read.model=pcm read.sigma=0.0175 "
             "ir_drop.model=exact ir_drop.r_wordline_ohm=%g ir_drop.r_bitline_ohm=%g",
             n, n, g_max_us, ohms, ohms);
    fixture_chip_make(&c, settings, n, n, 21, 0.3);
    ohm_gemm_one_thread();
    int cells = n * n;
    ohm_crosspoint tile = {n, n, c.programming.wires};
    double *g = malloc((size_t)cells * sizeof *g), *drawn = malloc((size_t)cells * sizeof *drawn);
    double *sums = calloc((size_t)n, 5 * sizeof *sums); /* of x, x², y, y² of each bit line; its quiet current */
    float *z = malloc((size_t)cells * sizeof *z), *drive = malloc((size_t)n * sizeof *drive);
    void *scratch = aligned_alloc(64, (ohm_irdrop_exact_bytes_f64(&tile) + 63) / 64 * 64);
    ohm_stream stream = {.key = {5, 6}};
    double before = 0.0, after = 0.0;
    fixture_reals(drive, (size_t)n, 40);
    for (int i = 0; i < n; i++)
        drive[i] = !half || drive[i] < 0.0f;
    for (int i = 0; i < cells; i++) {
        g[i] = ohm_program_cell_ref(&c.programming, c.real_levels[i], (uint64_t)i, NULL);
        before += g[i];
        after += c.cells.g[i];
        sums[4 * n + i % n] += drive[i / n] * c.cells.g[i];
    }
    for (int draw = 0; draw < draws; draw++) {
        stream.step = (uint32_t)draw;
        ohm_normals_exact(z, 0, (size_t)cells, &stream);
        for (int i = 0; i < cells; i++)
            drawn[i] = fmax(g[i] + z[i] * sqrt(ohm_read_variance(&c.law, g[i], NULL)), 0.0);
        ck_assert_int_eq(ohm_irdrop_exact_f64(drawn, drawn, &tile, scratch, NULL), OHM_SOLVE_OK);
        for (int column = 0; column < n; column++) {
            double x = -sums[4 * n + column], y = 0.0; /* current's deviation: re-solved, scaled */
            for (int i = column; i < cells; i += n) {
                x += drive[i / n] * drawn[i];
                y += drive[i / n] * z[i] * sqrt(c.cells.variance[i]);
            }
            sums[column] += x;
            sums[n + column] += x * x;
            sums[2 * n + column] += y;
            sums[3 * n + column] += y * y;
        }
    }
    overstatement o = {.loss = 1.0 - after / before, .worst = -1.0};
    double all[2] = {0, 0};
    for (int column = 0; column < n; column++) {
        double variance[2];
        for (int i = 0; i < 2; i++) {
            double mean = sums[2 * i * n + column] / draws;
            variance[i] = sums[(2 * i + 1) * n + column] / draws - mean * mean;
            all[i] += variance[i];
        }
        o.worst = fmax(o.worst, sqrt(variance[1] / variance[0]) - 1.0);
    }
    o.over = sqrt(all[1] / all[0]) - 1.0;
    free(g);
    free(drawn);
    free(sums);
    free(z);
    free(drive);
    free(scratch);
    fixture_chip_free(&c);
    return o;
}

/* kernels/IRDROP.md quotes what this prints. */
OHM_TEST_SLOW(irdrop_noise, scaled_sigma_against_solving_anew)
{
    static const struct {
        int n;
        double g_max_us, ohms, over[2]; /* %, of all bit lines: every row driven, half of them */
        int draws;
    } cases[] = {
        {16, 25, 1, {0.08, 0.04}, 2000},    {16, 25, 10, {0.81, 0.42}, 2000},
        {16, 100, 1, {0.32, 0.17}, 2000},   {16, 100, 10, {3.15, 1.65}, 2000},
        {32, 25, 1, {0.28, 0.16}, 2000},    {32, 25, 10, {2.75, 1.60}, 2000},
        {32, 100, 1, {1.12, 0.65}, 2000},   {32, 100, 10, {10.29, 6.05}, 2000},
        {128, 25, 1, {3.61, 1.88}, 200},    {128, 100, 1, {13.49, 7.31}, 200},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int half = 0; half < 2; half++) {
            overstatement o = measure(cases[i].n, cases[i].g_max_us, cases[i].ohms, half, cases[i].draws);
            printf("%3d^2 %3g uS %2g ohm, %s driven: wires take %5.2f %%, sigma overstated by %5.2f %%, worst bit line "
                   "%5.2f %%\n",
                   cases[i].n, cases[i].g_max_us, cases[i].ohms, half ? "half the rows" : "all rows", 100 * o.loss,
                   100 * o.over, 100 * o.worst);
            ck_assert_msg(fabs(100 * o.over - cases[i].over[half]) < 0.02 + 0.1 * cases[i].over[half] &&
                              o.worst < 2.7 * o.over + 1e-3,
                          "%d^2, %g uS, %g ohm: sigma overstated by %.3g %%, worst bit line %.3g %%, not %g",
                          cases[i].n, cases[i].g_max_us, cases[i].ohms, 100 * o.over, 100 * o.worst,
                          cases[i].over[half]);
        }
}
