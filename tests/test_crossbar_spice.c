/* One circuit, two solvers: ngspice on the deck that ohmgrad writes, against what ohmgrad computes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/crossbar.h"
#include "host/matrix.h"
#include "tests/runner.h"

enum { ROWS = 32, COLUMNS = 32, OUT = 1 << 14 };

static int have_ngspice(void)
{
    return ohm_test_run(NULL, 0, "command -v ngspice") == 0;
}
#define NEED_NGSPICE                                                                               \
    if (!have_ngspice())                                                                           \
    OHM_SKIP("ngspice is not installed (Debian: ngspice)")

/* The columns' currents as ngspice prints them. */
static void run_ngspice(double *current, int columns, const char *deck)
{
    static char out[OUT];
    ck_assert_msg(
        ohm_test_run(out, sizeof out, "cd '%s' && ngspice -b %s", ohm_test_tmpdir(), deck) == 0,
        "%s", out);
    for (int c = 0; c < columns; c++) {
        char name[32];
        snprintf(name, sizeof name, "i(vout_%d) = ", c);
        const char *at = strstr(out, name);
        ck_assert_msg(at != NULL, "no %sin: %s", name, out);
        current[c] = strtod(at + strlen(name), NULL);
    }
}

static double worst_share(const double *got, const double *want, int count)
{
    double error = 0.0, largest = 0.0;
    for (int i = 0; i < count; i++) {
        ck_assert(isfinite(got[i]) && isfinite(want[i]));
        error = fmax(error, fabs(got[i] - want[i]));
        largest = fmax(largest, fabs(want[i]));
    }
    ck_assert_msg(largest > 0.0, "ngspice finds no current");
    return error / largest;
}

/* Volts of both signs, every fifth row at exactly 0. */
static void draw_inputs(double *v, int rows, uint32_t seed)
{
    double u[ROWS];
    ohm_crossbar_draw(u, rows, OHM_WEIGHTS_UNIFORM, 1.0, INFINITY, seed, 77);
    for (int r = 0; r < rows; r++)
        v[r] = r % 5 == 3 ? 0.0 : r % 3 == 1 ? -0.5 * u[r] : 0.1 + 0.5 * u[r];
}

typedef struct {
    double f64, f32;
} errors;

/* The library's two precisions against ngspice on one input. */
static errors compare(const ohm_crossbar *x, const double *v)
{
    const ohm_crosspoint *t = &x->network.tile;
    double want[COLUMNS], got[COLUMNS] = {0}, g_eff[ROWS * COLUMNS];
    char path[4096];
    errors e = {0.0, 0.0};
    ohm_crossbar_report report;
    snprintf(path, sizeof path, "%s/deck.cir", ohm_test_tmpdir());
    FILE *out = fopen(path, "w");
    ck_assert_ptr_nonnull(out);
    ohm_crossbar_netlist(out, x, v, 0, 1);
    ck_assert_int_eq(fclose(out), 0);
    run_ngspice(want, t->columns, "deck.cir");

    OHM_OK_OR_FAIL(ohm_crossbar_solve(got, x, v, 1, 1, &report));
    e.f64 = worst_share(got, want, t->columns);
    if (x->network.law.iv != OHM_CELL_LINEAR || x->gated)
        return e;
    OHM_OK_OR_FAIL(ohm_crossbar_geff(g_eff, x, 0, NULL));
    for (int c = 0; c < t->columns; c++) {
        got[c] = 0.0;
        for (int r = 0; r < t->rows; r++)
            got[c] += v[r] * g_eff[r * t->columns + c];
    }
    e.f32 = worst_share(got, want, t->columns);
    return e;
}

static const struct {
    double word_line, bit_line, driver, sense;
} wires[] = {
    {1, 2, 0, 0},  {1, 2, 30, 20}, {0, 0, 0, 0},  {0, 0, 50, 40},  {3, 0, 0, 0},
    {0, 3, 0, 10}, {5, 0, 7, 9},   {0, 4, 60, 0}, {100, 50, 0, 0},
};
static const int shapes[][2] = {{4, 4}, {16, 16}, {32, 24}, {1, 5}, {5, 1}};
enum { WIRES = sizeof wires / sizeof *wires, SHAPES = sizeof shapes / sizeof *shapes };

static errors worst; /* of this test's cases */

static void print_worst(const char *what)
{
    printf("ngspice, %s: %.0e in double", what, worst.f64);
    if (worst.f32 > 0.0) /* solved in double only */
        printf(", %.0e in float", worst.f32);
    printf(", of the largest current\n");
}

static void check(int shape, int wire, int ends, ohm_cell_law law, int gated)
{
    double g[ROWS * COLUMNS], v[ROWS];
    int rows = shapes[shape][0], columns = shapes[shape][1];
    ohm_crossbar x = {.network = {.tile = {rows,
                                           columns,
                                           {.word_line = wires[wire].word_line,
                                            .bit_line = wires[wire].bit_line,
                                            .driver = wires[wire].driver,
                                            .sense = wires[wire].sense,
                                            .drive_both = ends & 1,
                                            .sense_both = ends >> 1}},
                                  .g = g,
                                  .law = law},
                      .gated = gated};
    uint32_t seed = (uint32_t)(shape * 100 + wire * 10 + ends);
    /* half of the cells do not conduct at all */
    ohm_crossbar_draw(g, rows * columns, OHM_WEIGHTS_HALF_OFF, 3e-4, INFINITY, seed, 0);
    g[0] = 2e-4;
    draw_inputs(v, rows, seed);
    for (int r = 0; r < rows && columns == 1;
         r++) /* a lone current must not cancel: it is the scale, too */
        v[r] = fabs(v[r]);
    errors e = compare(&x, v);
    worst.f64 = fmax(worst.f64, e.f64);
    worst.f32 = fmax(worst.f32, e.f32);
    ck_assert_msg(e.f64 <= 1e-9 && e.f32 <= 1e-5,
                  "%d x %d, wires %d, ends %d, law %d, gated %d: %.2g in double, %.2g in float",
                  rows, columns, wire, ends, law.iv, gated, e.f64, e.f32);
}

static const ohm_cell_law linear = {OHM_CELL_LINEAR, 1.0, 1.0},
                          hyperbolic = {OHM_CELL_SINH, 3.0, 1.0},
                          cubic = {OHM_CELL_CUBIC, 0.3, 1.0};

OHM_TEST(crossbar_spice, agrees)
{
    NEED_NGSPICE;
    for (int i = 0; i < 20; i++)
        check(i % SHAPES, i % WIRES, i % 4,
              i % 3 == 0   ? linear
              : i % 3 == 1 ? hyperbolic
                           : cubic,
              i % 7 == 2);
}

OHM_TEST_SLOW(crossbar_spice, linear_tiles)
{
    NEED_NGSPICE;
    for (int shape = 0; shape < SHAPES; shape++)
        for (int wire = 0; wire < WIRES; wire++)
            for (int ends = 0; ends < 4; ends++)
                check(shape, wire, ends, linear, 0);
    print_worst("linear cells");
}

OHM_TEST_SLOW(crossbar_spice, rows_that_are_cut_off)
{
    NEED_NGSPICE;
    for (int shape = 0; shape < SHAPES; shape++)
        for (int wire = 0; wire < WIRES; wire++)
            check(shape, wire, (shape + wire) % 4, linear, 1);
    print_worst("rows that are cut off");
}

OHM_TEST_SLOW(crossbar_spice, sinh_cells)
{
    NEED_NGSPICE;
    for (int shape = 0; shape < SHAPES; shape++)
        for (int wire = 0; wire < WIRES; wire++)
            for (int ends = 0; ends < 4; ends++)
                check(shape, wire, ends,
                      wire % 2 ? ohm_cell_law_at(OHM_CELL_SINH, 5.0, 0.3) : hyperbolic, ends == 3);
    print_worst("sinh cells");
}

OHM_TEST_SLOW(crossbar_spice, cubic_cells)
{
    NEED_NGSPICE;
    for (int shape = 0; shape < SHAPES; shape++)
        for (int wire = 0; wire < WIRES; wire++)
            for (int ends = 0; ends < 4; ends++)
                check(shape, wire, ends,
                      wire % 2 ? ohm_cell_law_at(OHM_CELL_CUBIC, 0.5, 0.3) : cubic, ends == 2);
    print_worst("cubic cells");
}

/* ---- the program, from files to files ------------------------------------------------------ */

static void save(const char *name, const double *value, int rows, int columns)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", ohm_test_tmpdir(), name);
    OHM_OK_OR_FAIL(ohm_matrix_write(path, value, rows, columns, 1));
}

static void check_program(const char *options, double bound, const char *precision)
{
    double g[32 * 24], v[8 * 32], want[24];
    static char out[OUT];
    ohm_matrix got;
    char path[4096];
    ohm_crossbar_draw(g, 32 * 24, OHM_WEIGHTS_GAUSSIAN, 1e-4, 50.0, 5, 1);
    for (int i = 0; i < 8; i++)
        draw_inputs(v + 32 * i, 32, (uint32_t)(i + 50));
    save("g.npy", g, 32, 24);
    save("v.csv", v, 8, 32);
    ck_assert_msg(
        ohm_test_run(
            out, sizeof out,
            "cd '%s' && '%s' crossbar solve --g g.npy --v v.csv %s %s --out i.npy && '%s' crossbar "
            "netlist --g g.npy --v v.csv --row 6 %s --out deck.cir",
            ohm_test_tmpdir(), ohm_test_program(), options, precision, ohm_test_program(),
            options) == 0,
        "%s", out);
    run_ngspice(want, 24, "deck.cir");
    snprintf(path, sizeof path, "%s/i.npy", ohm_test_tmpdir());
    OHM_OK_OR_FAIL(ohm_matrix_read(&got, path));
    ck_assert(got.rows == 8 && got.columns == 24);
    double error = worst_share(got.value + 6 * 24, want, 24);
    ck_assert_msg(error <= bound, "%s %s: %g", options, precision, error);
    ohm_matrix_free(&got);
}

OHM_TEST_SLOW(crossbar_spice, agrees_with_the_program)
{
    static const char *const options[] = {
        "--r-wordline 2 --r-bitline 1",
        "--r-wordline 2 --r-bitline 1 --r-driver 100 --r-sense 30 --drive both_ends --sense "
        "both_ends",
        "--r-wordline 0 --r-bitline 1 --r-driver 20 --zero-input gated",
        "--r-wordline 4 --r-bitline 3 --iv sinh --iv-coefficient 4 --sense both_ends",
        "--r-wordline 4 --r-bitline 3 --iv cubic --iv-coefficient 0.4 --v-read 0.5 --zero-input "
        "gated",
    };
    NEED_NGSPICE;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        check_program(options[i], 1e-9, "--fp64");
        check_program(options[i], 1e-5, "");
    }
}
