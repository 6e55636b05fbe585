/* Exact IR drop: the march against Kirchhoff's equations, and the laws of passive circuits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/status.h"
#include "kernels/irdrop_exact.h"
#include "kernels/irdrop_march.h"
#include "tests/compare.h"
#include "tests/fixture_chip.h"
#include "tests/runner.h"

static ohm_wires wired(double word_line, double bit_line, double driver, double sense,
                       int drive_both, int sense_both)
{
    return (ohm_wires){.word_line = word_line,
                       .bit_line = bit_line,
                       .driver = driver,
                       .sense = sense,
                       .drive_both = drive_both,
                       .sense_both = sense_both};
}

static double next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) / 16777216.0;
}

/* On/off conductances up to g_max siemens, a share of them off. */
static void random_tile(double *g, int cells, double g_max, double on_off, double off_share,
                        uint32_t seed)
{
    for (int i = 0; i < cells; i++)
        g[i] = next(&seed) < off_share
                   ? g_max / on_off
                   : g_max * (1.0 / on_off + (1.0 - 1.0 / on_off) * next(&seed));
}

static void *solve_scratch(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    ck_assert_ptr_nonnull(memory);
    return memory;
}

static double norm_error(const double *got, const double *want, int cells)
{
    double error = 0.0, norm = 0.0;
    for (int i = 0; i < cells; i++) {
        error += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return sqrt(error / norm);
}

static int solve_f64(double *out, const double *g, const ohm_crosspoint *tile)
{
    ohm_solve_report report = {0};
    void *scratch = solve_scratch(ohm_irdrop_exact_bytes_f64(tile));
    ck_assert_int_eq(ohm_irdrop_exact_f64(out, g, tile, scratch, &report), OHM_SOLVE_OK);
    free(scratch);
    return report.renormalised;
}

static int solve_f32(double *out, const double *g, const ohm_crosspoint *tile)
{
    int cells = tile->rows * tile->columns;
    ohm_solve_report report = {0};
    float *single = malloc((size_t)cells * sizeof *single);
    void *scratch = solve_scratch(ohm_irdrop_exact_bytes_f32(tile));
    for (int i = 0; i < cells; i++)
        single[i] = (float)g[i];
    ck_assert_int_eq(ohm_irdrop_exact_f32(single, single, tile, scratch, &report), OHM_SOLVE_OK);
    for (int i = 0; i < cells; i++)
        out[i] = single[i];
    free(single);
    free(scratch);
    return report.renormalised;
}

static void check_nodal(const ohm_crosspoint *tile, double g_max, uint32_t seed)
{
    int cells = tile->rows * tile->columns;
    double *g = calloc((size_t)cells, sizeof *g), *want = malloc((size_t)cells * sizeof *want),
           *got = malloc((size_t)cells * sizeof *got);
    random_tile(g, cells, g_max, 100.0, 0.4, seed);
    ck_assert_int_eq(ohm_irdrop_nodal_ref(want, g, tile), OHM_SOLVE_OK);
    solve_f64(got, g, tile);
    double f64 = norm_error(got, want, cells);
    solve_f32(got, g, tile);
    double f32 = norm_error(got, want, cells);
    const ohm_wires *w = &tile->wires;
    ck_assert_msg(
        f64 < 1e-11 && f32 < 1e-5,
        "%dx%d, word %g bit %g driver %g sense %g both %d%d: error %.2g in double, %.2g in float",
        tile->rows, tile->columns, w->word_line, w->bit_line, w->driver, w->sense, w->drive_both,
        w->sense_both, f64, f32);
    free(g);
    free(want);
    free(got);
}

OHM_TEST(irdrop_exact, equals_kirchhoff)
{
    static const int shapes[][2] = {{1, 1}, {4, 4}, {1, 5}, {5, 1}, {7, 4}, {4, 7}};
    static const double ohms[] = {0.0, 1.0, 300.0};
    for (int shape = 0; shape < 6; shape++)
        for (int i = 0; i < 81; i++)
            for (int ends = 0; ends < 4; ends++) {
                ohm_crosspoint tile = {shapes[shape][0], shapes[shape][1],
                                       wired(ohms[i % 3], ohms[i / 3 % 3], ohms[i / 9 % 3],
                                             ohms[i / 27], ends & 1, ends >> 1)};
                const ohm_wires *w = &tile.wires;
                if ((w->drive_both && w->driver + w->word_line == 0.0) ||
                    (w->sense_both && w->sense + w->bit_line == 0.0))
                    continue; /* how a loop without resistance shares its current is not determined */
                check_nodal(&tile, 1e-3, (uint32_t)(i + ends));
            }
}

OHM_TEST_SLOW(irdrop_exact, equals_kirchhoff_larger)
{
    static const int shapes[][2] = {{12, 12}, {14, 9}, {9, 14}};
    for (int shape = 0; shape < 3; shape++)
        for (int ends = 0; ends < 4; ends++) {
            ohm_crosspoint tile = {shapes[shape][0], shapes[shape][1],
                                   wired(1.0, 2.0, 20.0, 10.0, ends & 1, ends >> 1)};
            check_nodal(&tile, 1e-4, (uint32_t)ends);
            tile.wires = wired(200.0, 100.0, 0.0, 500.0, ends & 1, ends >> 1);
            check_nodal(&tile, 1e-3, (uint32_t)ends + 9);
        }
}

/* Steep tiles: an unnormalised march loses every digit; single against double shows that ours does not. */
OHM_TEST(irdrop_exact, steep_tiles_are_renormalised)
{
    static const struct {
        int n;
        double g_max, ohms;
    } tiles[] = {{128, 1e-3, 10.0}, {100, 1e-3, 1.0}, {160, 1e-3, 10.0}};
    int renormalised = 0;
    for (int i = 0; i < 3; i++)
        for (int ends = 0; ends < 4; ends++) {
            ohm_crosspoint tile = {
                tiles[i].n, tiles[i].n - 7 * (ends % 2),
                wired(tiles[i].ohms, tiles[i].ohms, 0.0, 0.0, ends & 1, ends >> 1)};
            int cells = tile.rows * tile.columns;
            double *g = malloc((size_t)cells * sizeof *g), *a = malloc((size_t)cells * sizeof *a),
                   *b = malloc((size_t)cells * sizeof *b);
            random_tile(g, cells, tiles[i].g_max, 100.0, 0.3, (uint32_t)i);
            solve_f64(a, g, &tile);
            renormalised += solve_f32(b, g, &tile);
            double error = norm_error(b, a, cells);
            ck_assert_msg(error < 1e-5, "%d cells a side, %g ohm, ends %d: float is off by %.2g",
                          tiles[i].n, tiles[i].ohms, ends, error);
            free(g);
            free(a);
            free(b);
        }
    ck_assert_int_gt(renormalised, 4);
}

/* Laws of one solved tile; slack is the precision's. Returns the total current with all rows at 1 V. */
static double check_laws(const double *a, const double *g, const ohm_crosspoint *tile, double slack)
{
    double total = 0.0, largest = 0.0;
    for (int i = 0; i < tile->rows * tile->columns; i++) {
        total += a[i];
        largest = a[i] > largest ? a[i] : largest;
        ck_assert_double_ge(a[i], 0.0);
    }
    for (int r = 0; r < tile->rows; r++) {
        double sum = 0.0, bound = 0.0;
        for (int c = 0; c < tile->columns; c++) {
            sum += a[r * tile->columns + c];
            bound += g[r * tile->columns + c];
        }
        ck_assert_msg(sum <= bound + slack * (bound + largest), "row %d: %.9g of %.9g", r, sum, bound);
    }
    for (int c = 0; c < tile->columns; c++) {
        double sum = 0.0, bound = 0.0;
        for (int r = 0; r < tile->rows; r++) {
            sum += a[r * tile->columns + c];
            bound += g[r * tile->columns + c];
        }
        ck_assert_msg(sum <= bound + slack * (bound + largest), "column %d: %.9g of %.9g", c, sum, bound);
    }
    return total;
}

/* The tile seen from its bit lines, both counted from the other end. */
static void turn(double *out, const double *g, int rows, int columns)
{
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            out[(columns - 1 - c) * rows + (rows - 1 - r)] = g[r * columns + c];
}

OHM_TEST(irdrop_exact, laws_of_passive_circuits)
{
    static int (*const solve[2])(double *, const double *, const ohm_crosspoint *) = {solve_f64, solve_f32};
    static const double slack[2] = {1e-12, 3e-6};
    for (uint32_t seed = 0; seed < 24; seed++) {
        int precision = (int)seed % 2, rows = 10 + (int)seed * 3, columns = 80 - (int)seed * 3, cells = rows * columns;
        double *g = malloc((size_t)cells * sizeof *g), *a = malloc((size_t)cells * sizeof *a),
               *b = malloc((size_t)cells * sizeof *b), *turned = malloc((size_t)cells * sizeof *turned), last = INFINITY;
        random_tile(g, cells, 1e-4, 50.0, 0.2, seed);
        for (int i = 0; i < cells; i++)
            g[i] = (float)g[i];
        for (double ohms = 0.0; ohms < 50.0; ohms = ohms * 3.0 + 0.5) {
            int both = (int)seed >> 1;
            ohm_crosspoint tile = {rows, columns, wired(ohms, 2.0 * ohms, 5.0 * ohms, ohms, both & 1, both >> 1 & 1)};
            solve[precision](a, g, &tile);
            double total = check_laws(a, g, &tile, slack[precision]);
            ck_assert_msg(total <= last * (1.0 + slack[precision]),
                          "the total current rises with the resistance of the wires");
            ck_assert_msg(ohms == 0.0 || total < last * 0.99, "wires of %g ohm do nothing", ohms);
            last = total;
            ohm_crosspoint other = {columns, rows, wired(2.0 * ohms, ohms, ohms, 5.0 * ohms, both >> 1 & 1, both & 1)};
            turn(turned, g, rows, columns);
            solve[precision](b, turned, &other);
            turn(turned, b, columns, rows);
            ck_assert_double_le(norm_error(turned, a, cells), precision ? 1e-5 : 1e-11);
        }
        free(g);
        free(a);
        free(b);
        free(turned);
    }
}

/* Without resistance the tile is its conductances, to the bit, in whatever order its rows stand. */
OHM_TEST(irdrop_exact, no_wires_leave_every_bit)
{
    static const int shapes[][2] = {{1, 1}, {5, 1}, {1, 5}, {37, 70}, {70, 33}, {128, 128}};
    for (int i = 0; i < 24; i++) {
        ohm_crosspoint tile = {shapes[i % 6][0], shapes[i % 6][1], wired(0.0, 0.0, 0.0, 0.0, i / 6 & 1, i / 12)};
        int cells = tile.rows * tile.columns;
        double *g = malloc((size_t)cells * sizeof *g), *a = malloc((size_t)cells * sizeof *a);
        random_tile(g, cells, 1e-3, 1000.0, 0.4, (uint32_t)i);
        g[cells / 2] = 0.0;
        for (int precision = 0; precision < 2; precision++) {
            for (int order = 0; order < 2; order++) {
                for (int c = 0; c < tile.columns && order; c++) {
                    double keep = g[c];
                    g[c] = g[cells - tile.columns + c];
                    g[cells - tile.columns + c] = keep;
                }
                for (int k = 0; k < cells && precision; k++)
                    g[k] = (float)g[k];
                (precision ? solve_f32 : solve_f64)(a, g, &tile);
                ck_assert_mem_eq(a, g, (size_t)cells * sizeof *g);
            }
        }
        free(g);
        free(a);
    }
}

/* Instruction sets with fused multiply-add agree to the bit, the one without to rounding. */
OHM_TEST(irdrop_exact, same_on_every_instruction_set)
{
    static const int shapes[][2] = {{1, 1}, {5, 40}, {70, 33}, {96, 100}};
    for (int i = 0; i < 16; i++) {
        ohm_crosspoint tile = {shapes[i % 4][0], shapes[i % 4][1], wired(3.0, 2.0, 20.0, 5.0, i / 4 & 1, i / 8)};
        int cells = tile.rows * tile.columns;
        double *g = malloc((size_t)cells * sizeof *g), *a[3];
        float *single = malloc((size_t)cells * sizeof *single), *b[3];
        random_tile(g, cells, 3e-4, 100.0, 0.3, (uint32_t)i);
        for (int k = 0; k < cells; k++)
            single[k] = (float)g[k];
        void *scratch = solve_scratch(ohm_irdrop_exact_bytes_f64(&tile) + ohm_irdrop_exact_bytes_f32(&tile));
        for (ohm_isa isa = OHM_ISA_BASE; isa <= ohm_cpu_isa(); isa++) {
            a[isa] = malloc((size_t)cells * sizeof *a[isa]);
            b[isa] = malloc((size_t)cells * sizeof *b[isa]);
            ck_assert_int_eq(ohm_irdrop_exact_on_f64(a[isa], g, &tile, scratch, NULL, isa), OHM_SOLVE_OK);
            ck_assert_int_eq(ohm_irdrop_exact_on_f32(b[isa], single, &tile, scratch, NULL, isa), OHM_SOLVE_OK);
            double error = 0.0, largest = 0.0;
            for (int k = 0; k < cells; k++) {
                error = fmax(error, fabs(b[isa][k] - a[0][k]));
                largest = fmax(largest, a[0][k]);
            }
            ck_assert_double_le(error, 3e-6 * largest);
            ck_assert_double_le(norm_error(a[isa], a[0], cells), 1e-13);
            if (isa > OHM_ISA_AVX2) {
                ck_assert_mem_eq(a[isa], a[OHM_ISA_AVX2], (size_t)cells * sizeof *g);
                ck_assert_mem_eq(b[isa], b[OHM_ISA_AVX2], (size_t)cells * sizeof *single);
            }
        }
        for (ohm_isa isa = OHM_ISA_BASE; isa <= ohm_cpu_isa(); isa++) {
            free(a[isa]);
            free(b[isa]);
        }
        free(g);
        free(single);
        free(scratch);
    }
}

/* A batch is its tiles one by one, to the bit, for any number of threads; counters add up; of tiles that
 * cannot be solved the first is named. */
OHM_TEST(irdrop_exact, batch_is_its_tiles)
{
    enum { TILES = 9, ROWS = 44, COLUMNS = 37, CELLS = ROWS * COLUMNS };
    static double g[TILES * CELLS], want[TILES * CELLS], out[TILES * CELLS + 1];
    static float single[TILES * CELLS], want_single[TILES * CELLS], out_single[TILES * CELLS];
    ohm_crosspoint tile = {ROWS, COLUMNS, wired(60.0, 50.0, 5.0, 20.0, 1, 0)};
    ohm_solve_report report, one;
    int renormalised[2] = {0, 0};
    size_t failed;
    void *scratch = solve_scratch(ohm_irdrop_exact_bytes_f32(&tile) + ohm_irdrop_exact_bytes_f64(&tile));
    for (int t = 0; t < TILES; t++) {
        random_tile(g + t * CELLS, CELLS, t % 2 ? 1e-3 : 1e-6, 100.0, 0.3, (uint32_t)t);
        for (int i = 0; i < CELLS; i++)
            single[t * CELLS + i] = (float)g[t * CELLS + i];
        ck_assert_int_eq(ohm_irdrop_exact_f64(want + t * CELLS, g + t * CELLS, &tile, scratch, &one), OHM_SOLVE_OK);
        renormalised[0] += one.renormalised;
        ck_assert_int_eq(ohm_irdrop_exact_f32(want_single + t * CELLS, single + t * CELLS, &tile, scratch, &one), OHM_SOLVE_OK);
        renormalised[1] += one.renormalised;
    }
    ck_assert_int_gt(renormalised[0], 0);
    free(scratch);
    for (int threads = 0; threads <= 16; threads += threads ? threads : 1) {
        char *memory = solve_scratch(ohm_irdrop_exact_batch_bytes_f64(TILES, &tile, threads) + 64);
        out[TILES * CELLS] = 7.0;
        ck_assert_int_eq(ohm_irdrop_exact_batch_f64(out, g, TILES, &tile, threads, memory + 8, &failed, &report), OHM_SOLVE_OK);
        ck_assert_int_eq(failed, TILES);
        ck_assert_int_eq(report.renormalised, renormalised[0]);
        ck_assert_mem_eq(out, want, sizeof want);
        ck_assert(out[TILES * CELLS] == 7.0);
        free(memory);
        memory = solve_scratch(ohm_irdrop_exact_batch_bytes_f32(TILES, &tile, threads));
        ck_assert_int_eq(ohm_irdrop_exact_batch_f32(out_single, single, TILES, &tile, threads, memory, NULL, &report), OHM_SOLVE_OK);
        ck_assert_int_eq(report.renormalised, renormalised[1]);
        ck_assert_mem_eq(out_single, want_single, sizeof want_single);
        free(memory);
    }
    single[5 * CELLS + 3] = -1.0f;
    single[7 * CELLS] = NAN;
    void *memory = solve_scratch(ohm_irdrop_exact_batch_bytes_f32(TILES, &tile, 4));
    ck_assert_int_eq(ohm_irdrop_exact_batch_f32(out_single, single, TILES, &tile, 4, memory, &failed, NULL), OHM_SOLVE_NOT_FINITE);
    ck_assert_int_eq(failed, 5);
    ck_assert_int_eq(ohm_irdrop_exact_batch_f32(out_single, single, 0, &tile, 4, memory, &failed, NULL), OHM_SOLVE_OK);
    ck_assert_int_eq(failed, 0);
    free(memory);
}

OHM_TEST(irdrop_exact, refuses_what_is_no_circuit)
{
    double g[4] = {1e-5, 2e-5, 3e-5, 4e-5}, out[4];
    ohm_crosspoint tile = {2, 2, wired(1.0, 1.0, 0.0, 0.0, 0, 0)};
    void *scratch = solve_scratch(ohm_irdrop_exact_bytes_f64(&tile));
    static const double bad[] = {-1e-9, NAN, INFINITY};
    for (int i = 0; i < 3; i++) {
        g[2] = bad[i];
        ck_assert_int_eq(ohm_irdrop_exact_f64(out, g, &tile, scratch, NULL), OHM_SOLVE_NOT_FINITE);
        g[2] = 3e-5;
        tile.wires.sense = bad[i];
        ck_assert_int_eq(ohm_irdrop_exact_f64(out, g, &tile, scratch, NULL), OHM_SOLVE_NOT_FINITE);
        tile.wires.sense = 0.0;
    }
    ck_assert_int_eq(ohm_irdrop_exact_f64(out, g, &tile, scratch, NULL), OHM_SOLVE_OK);
    free(scratch);
}

/* In the chip: the closed form tends to the exact solution as the wires' resistance falls. */
OHM_TEST(irdrop_exact, in_the_chip)
{
    static const char *const models[] = {"none", "closed_form", "exact"};
    double error[2] = {0, 0};
    for (int step = 0; step < 2; step++) {
        float y[3][90];
        for (int i = 0; i < 3; i++) {
            fixture_layer layer;
            char settings[256];
            fixture_layer_make(&layer, 6, 60, 15);
            snprintf(settings, sizeof settings,
                     "tile.rows=64 tile.cols=32 ir_drop.model=%s ir_drop.r_wordline_ohm=%d "
                     "ir_drop.r_bitline_ohm=%d",
                     models[i], 4 >> (2 * step), 8 >> (2 * step));
            fixture_forward(&layer, &(fixture_run){.settings = settings});
            memcpy(y[i], layer.y, sizeof y[i]);
            fixture_layer_free(&layer);
        }
        double drop = 0.0, norm = 0.0;
        for (int i = 0; i < 90; i++) {
            error[step] += (y[1][i] - y[2][i]) * (y[1][i] - y[2][i]);
            drop += (y[0][i] - y[2][i]) * (y[0][i] - y[2][i]);
            norm += y[2][i] * y[2][i];
        }
        ck_assert_double_gt(sqrt(drop / norm), 3.0 * sqrt(error[step] / norm));
        error[step] = sqrt(error[step] / norm);
    }
    /* second order: a quarter of the resistance, about a sixteenth of the error */
    ck_assert_msg(error[1] < 0.1 * error[0] && error[0] > 1e-6,
                  "errors of the closed form %.3g and %.3g", error[0], error[1]);
}
