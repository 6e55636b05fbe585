/* ohmgrad crossbar: every action from files to files, and one line and no output for whatever is wrong. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "build_info.h"
#include "host/crossbar.h"
#include "host/file.h"
#include "host/matrix.h"
#include "tests/compare.h"
#include "tests/runner.h"

static char out[1 << 14];

static const char *in_folder(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", ohm_test_tmpdir(), name);
    return path;
}

static void save_text(const char *name, const char *text)
{
    const ohm_file_part part = {text, strlen(text)};
    OHM_OK_OR_FAIL(ohm_file_write_atomic(in_folder(name), &part, 1));
}

__attribute__((noinline)) /* gcc 12 sees a dangling pointer where there is none */
static char *
text_of(const char *name)
{
    char *text;
    size_t bytes;
    OHM_OK_OR_FAIL(ohm_file_read(&text, &bytes, in_folder(name), 1 << 22));
    return text;
}

static int crossbar(const char *arguments)
{
    return ohm_test_run(out, sizeof out, "cd '%s' && '%s' crossbar %s", ohm_test_tmpdir(),
                        ohm_test_program(), arguments);
}

static void run(const char *arguments)
{
    ck_assert_msg(crossbar(arguments) == 0, "crossbar %s: %s", arguments, out);
}

#define WIRES "--r-wordline 2 --r-bitline 1 "
#define TILE "--g g.csv " WIRES
#define DRIVEN TILE "--v v.csv "

enum { ROWS = 6, COLUMNS = 4, INPUTS = 3 };
static double g[ROWS * COLUMNS], v[INPUTS * ROWS];

/* g.csv, g.npy, v.csv, v.npy */
static void save_tile(void)
{
    ohm_crossbar_draw(g, ROWS * COLUMNS, OHM_WEIGHTS_UNIFORM, 1e-3, 100.0, 3, 0);
    ohm_crossbar_draw(v, INPUTS * ROWS, OHM_WEIGHTS_UNIFORM, 0.4, 10.0, 3, 1);
    v[2] = 0.0;
    v[ROWS + 4] = -0.25;
    for (int npy = 0; npy < 2; npy++) {
        OHM_OK_OR_FAIL(ohm_matrix_write(in_folder(npy ? "g.npy" : "g.csv"), g, ROWS, COLUMNS, 1));
        OHM_OK_OR_FAIL(ohm_matrix_write(in_folder(npy ? "v.npy" : "v.csv"), v, INPUTS, ROWS, 1));
    }
}

static ohm_matrix load(const char *name, int rows, int columns)
{
    ohm_matrix m;
    OHM_OK_OR_FAIL(ohm_matrix_read(&m, in_folder(name)));
    ck_assert_msg(m.rows == rows && m.columns == columns, "%s is %d x %d", name, m.rows, m.columns);
    return m;
}

/* ---- what it computes ---------------------------------------------------------------------- */

OHM_TEST(cli_crossbar, solve_is_the_nodal_solution)
{
    const ohm_crosspoint tile = {
        ROWS, COLUMNS, {.word_line = 2, .bit_line = 1, .driver = 10, .sense = 5, .sense_both = 1}};
    double g_eff[ROWS * COLUMNS], want[INPUTS * COLUMNS] = {0};
    save_tile();
    ck_assert_int_eq(ohm_irdrop_nodal_ref(g_eff, g, &tile), OHM_SOLVE_OK);
    for (int i = 0; i < INPUTS; i++)
        for (int c = 0; c < COLUMNS; c++)
            for (int r = 0; r < ROWS; r++)
                want[i * COLUMNS + c] += v[i * ROWS + r] * g_eff[r * COLUMNS + c];
    run("solve " DRIVEN "--r-driver 10 --r-sense 5 --sense both_ends --fp64 --out i.csv");
    ck_assert_msg(strstr(out, "6 x 4 cells, 3 inputs: ") && strstr(out, "renormalised 0 times") &&
                      strstr(out, "changed by the wires: "),
                  "%s", out);
    ohm_matrix i = load("i.csv", INPUTS, COLUMNS);
    OHM_ASSERT(ohm_compare_close(i.value, want, INPUTS * COLUMNS, 0.0, 1e-11));
    ohm_matrix_free(&i);
    run("solve --g g.npy --v v.npy " WIRES
        "--r-driver 10 --r-sense 5 --sense both_ends --out i.npy");
    ck_assert_msg(strstr(out, "float32"), "%s", out);
    i = load("i.npy", INPUTS, COLUMNS);
    OHM_ASSERT(ohm_compare_close(i.value, want, INPUTS * COLUMNS, 0.0, 1e-5));
    ohm_matrix_free(&i);
    run("geff " TILE "--r-driver 10 --r-sense 5 --sense both_ends --fp64 --out e.npy");
    i = load("e.npy", ROWS, COLUMNS);
    OHM_ASSERT(ohm_compare_close(i.value, g_eff, ROWS * COLUMNS, 0.0, 1e-11));
    ohm_matrix_free(&i);
}

/* Without wires the solution is a plain sum over cells, whatever their law. */
OHM_TEST(cli_crossbar, cells_follow_their_law)
{
    static const char *const laws[] = {"", "--iv sinh --iv-coefficient 3",
                                       "--iv cubic --iv-coefficient 0.5",
                                       "--iv sinh --iv-coefficient 3 --v-read 0.2",
                                       "--iv cubic --iv-coefficient 0.5 --v-read 0.2"};
    save_tile();
    for (int law = 0; law < 5; law++) {
        char arguments[256];
        double want[INPUTS * COLUMNS] = {0};
        snprintf(arguments, sizeof arguments,
                 "solve --g g.npy --v v.csv --r-wordline 0 --r-bitline 0 --fp64 %s --out i.csv",
                 laws[law]);
        run(arguments);
        for (int i = 0; i < INPUTS * ROWS; i++) {
            double u = v[i], sinh_read = law == 3 ? 0.2 / (sinh(0.6) / 3) : 1,
                   cubic_read = law == 4 ? 1 / (1 - 0.5 * 0.04) : 1;
            u = law == 0  ? u
                : law % 2 ? sinh_read * sinh(3 * u) / 3
                          : cubic_read * (u - 0.5 * u * u * u);
            for (int c = 0; c < COLUMNS; c++)
                want[i / ROWS * COLUMNS + c] += u * g[i % ROWS * COLUMNS + c];
        }
        ohm_matrix i = load("i.csv", INPUTS, COLUMNS);
        OHM_ASSERT(ohm_compare_close(i.value, want, INPUTS * COLUMNS, 0.0, 1e-10));
        ohm_matrix_free(&i);
    }
}

OHM_TEST(cli_crossbar, one_input_may_be_flat)
{
    save_tile();
    static const char header[] =
        "\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (6,), }";
    char padded[128];
    memset(padded, ' ', sizeof padded);
    memcpy(padded, header, sizeof header - 1);
    padded[127] = '\n';
    const ohm_file_part parts[] = {{padded, 128}, {v, ROWS * sizeof *v}};
    OHM_OK_OR_FAIL(ohm_file_write_atomic(in_folder("flat.npy"), parts, 2));
    run("solve " TILE "--v flat.npy --fp64 --out a.csv");
    ck_assert_msg(strstr(out, "1 input: "), "%s", out);
    run("solve " DRIVEN "--fp64 --out b.csv");
    ohm_matrix a = load("a.csv", 1, COLUMNS), b = load("b.csv", INPUTS, COLUMNS);
    OHM_ASSERT(ohm_compare_close(a.value, b.value, COLUMNS, 0.0, 1e-11));
    ohm_matrix_free(&a);
    ohm_matrix_free(&b);
    ck_assert_msg(crossbar("geff --g flat.npy " WIRES "--out e.csv") == 1, "%s", out);
    ck_assert_msg(strstr(out, "flat.npy: has 1 dimension; give G [rows,columns]"), "%s", out);
}

OHM_TEST(cli_crossbar, gated_rows_differ_from_grounded_ones)
{
    save_tile();
    run("solve " DRIVEN "--fp64 --out a.csv --r-driver 100");
    run("solve " DRIVEN "--fp64 --out b.csv --r-driver 100 --zero-input gated");
    ohm_matrix a = load("a.csv", INPUTS, COLUMNS), b = load("b.csv", INPUTS, COLUMNS);
    for (int c = 0; c < COLUMNS; c++) /* a grounded row drains the bit lines */
        ck_assert_msg(b.value[c] > a.value[c], "column %d: %g gated, %g grounded", c, b.value[c],
                      a.value[c]);
    OHM_ASSERT(ohm_compare_close(b.value + COLUMNS, a.value + COLUMNS, 2 * COLUMNS, 0.0, 1e-10));
    ohm_matrix_free(&a);
    ohm_matrix_free(&b);
}

OHM_TEST(cli_crossbar, netlist_merges_what_has_no_resistance)
{
    save_text("g.csv", "1e-4,0\n0,2e-4\n");
    save_text("v.csv", "0.1,0\n0.3,0.4\n");
    run("netlist --g g.csv --v v.csv --r-wordline 0 --r-bitline 0 --row 1 --out a.cir");
    char *deck = text_of("a.cir");
    ck_assert_ptr_nonnull(
        strstr(deck, "Vin_1 in_1 0 0.40000000000000002\nRg_1_1 in_1 out_1 5000\n"));
    ck_assert_ptr_nonnull(strstr(deck, "Rg_0_0 in_0 out_0 10000\n"));
    ck_assert_msg(!strstr(deck, "Rg_0_1") && !strstr(deck, "Rw") && !strstr(deck, "Rb") &&
                      !strstr(deck, " 0\nR"),
                  "%s", deck);
    free(deck);
    run("netlist --g g.csv --v v.csv --r-wordline 2 --r-bitline 0 --r-driver 7 --drive both_ends "
        "--zero-input gated "
        "--out a.cir");
    deck = text_of("a.cir");
    ck_assert_msg(!strstr(deck, "in_1"), "row 1 is at 0 V: %s", deck);
    ck_assert_ptr_nonnull(strstr(deck,
                                 "Rinn_0 in_0 wn_0 7\nRwn_0 wn_0 w_0_0 2\nRw_0_1 w_0_0 w_0_1 2\n"
                                 "Rinf_0 in_0 wf_0 7\nRwf_0 wf_0 w_0_1 2\n"));
    free(deck);
}

OHM_TEST(cli_crossbar, map_finds_the_worst_cell)
{
    save_text("g.csv", "1e-3,1e-3,1e-3\n1e-3,1e-3,1e-3\n1e-3,1e-3,1e-3\n");
    run("map --g g.csv --r-wordline 10 --r-bitline 10 --out m.svg --data m.csv");
    ck_assert_msg(strstr(out, "3 x 3 cells, all rows at 0.2 V") &&
                      strstr(out, "worst cell: row 0, column 2: "),
                  "%s", out);
    char *numbers = text_of("m.csv"), *script = text_of("m.gp");
    int lines = 0;
    double real = 0, row, column, siemens, word, bit, current, loss;
    for (char *at = strchr(numbers, '\n') + 1; *at; at = strchr(at, '\n') + 1, lines++) {
        ck_assert_int_eq(sscanf(at, "%lf,%lf,%lf,%lf,%lf,%lf,%lf", &row, &column, &siemens, &word,
                                &bit, &current, &loss),
                         7);
        real += current;
        ck_assert_msg(fabs(current - siemens * (word - bit)) < 1e-7 * current &&
                          fabs(loss - (1 - (word - bit) / 0.2)) < 1e-6,
                      "%s", at);
    }
    ck_assert_int_eq(lines, 9);
    double total = strtod(strstr(out, "sense side: ") + 12, NULL);
    ck_assert_msg(fabs(total - real) < 1e-5 * real, "cells %g, columns %g", real, total);
    ck_assert_ptr_nonnull(strstr(script, "set size ratio 1"));
    free(numbers);
    free(script);
    save_text("v.csv", "0,0.1,0\n0,0,-0.2\n");
    run("map --g g.csv --r-wordline 10 --r-bitline 10 --v v.csv --row 1 --out m.png --zero-input "
        "gated --iv sinh "
        "--iv-coefficient 3");
    ck_assert_msg(strstr(out, "worst cell: row 2, column 2: -0."), "%s", out);
    save_text("v.csv", "0,0,0\n");
    run("map --g g.csv --r-wordline 10 --r-bitline 10 --v v.csv --out m.png");
    ck_assert_msg(strstr(out, "no row is driven"), "%s", out);
}

OHM_TEST(cli_crossbar, sweep_is_the_same_for_any_number_of_threads)
{
    run("sweep --sizes 8,16 --r 0,2 --tiles 3 --threads 1 --out a.csv");
    run("sweep --sizes 8,16 --r 0,2 --tiles 3 --threads 3 --out b.csv --plot s.svg");
    char *a = text_of("a.csv"), *b = text_of("b.csv"), *data = text_of("s.dat");
    ck_assert_str_eq(a, b);
    ck_assert_ptr_nonnull(strstr(a, "weights,r_ohm,size,mean_loss,worst_loss\nuniform,0,8,"));
    ck_assert_ptr_nonnull(strstr(data, "# uniform weights: 2 ohm (x, y)\n8 "));
    free(a);
    free(b);
    free(data);
    run("sweep --sizes 8 --r 2 --seed 2 --weights bimodal --on-off inf --out c.json");
    a = text_of("c.json");
    ck_assert_ptr_nonnull(strstr(a, "\"g_min_s\": 0"));
    ck_assert_ptr_nonnull(
        strstr(a, "{\"weights\": \"bimodal\", \"r_ohm\": 2, \"size\": 8, \"mean_loss\": 0.0"));
    free(a);
}

/* A lone cell between its two segments: the loss is a formula. And a tile is larger if it is called so. */
OHM_TEST(cli_crossbar, sweep_against_a_formula)
{
    run("sweep --sizes 1 --r 50 --r-driver 30 --r-sense 20 --g-max 1e-3 --on-off 1 --weights "
        "uniform --tiles 1 "
        "--limit 10,14 --out a.csv");
    char *text = text_of("a.csv");
    double mean, worst, want = 1 - 1 / (1 + 1e-3 * (50 + 50 + 30 + 20));
    ck_assert_int_eq(sscanf(strstr(text, "uniform,"), "uniform,50,1,%lf,%lf", &mean, &worst), 2);
    ck_assert_msg(fabs(mean - want) < 1e-8 && fabs(worst - want) < 1e-8, "%g and %g, not %g", mean,
                  worst, want);
    ck_assert_msg(strstr(out, "at most 10, 14 %") && strstr(out, "-  1\n"), "%s", out);
    free(text);
}

OHM_TEST_SLOW(cli_crossbar, weights_are_distributed_as_named)
{
    enum { CELLS = 50000 };
    double *x = malloc(CELLS * sizeof *x);
    static const struct {
        double mean, square; /* of the share of the span */
    } moments[OHM_WEIGHTS_COUNT] = {{0.5, 1.0 / 3}, {0.5, 0.5}, {0.2659, 0.11097}, {0.25, 1.0 / 6}};
    for (int w = 0; w < OHM_WEIGHTS_COUNT; w++) {
        ohm_crossbar_draw(x, CELLS, (ohm_weights)w, 1.0, INFINITY, 9, 0);
        double sum = 0, square = 0, most = 0;
        for (int i = 0; i < CELLS; i++) {
            ck_assert(x[i] >= 0 && x[i] <= 1);
            sum += x[i];
            square += x[i] * x[i];
            most = fmax(most, x[i]);
        }
        ck_assert_msg(fabs(sum / CELLS - moments[w].mean) < 0.01 &&
                          fabs(square / CELLS - moments[w].square) < 0.01 && most > 0.99,
                      "%s: mean %g, mean square %g, most %g", ohm_weights_name[w], sum / CELLS,
                      square / CELLS, most);
    }
    ohm_crossbar_draw(x, CELLS, OHM_WEIGHTS_HALF_OFF, 2e-4, 50.0, 9, 0);
    int off = 0;
    for (int i = 0; i < CELLS; i++) {
        ck_assert(x[i] >= 4e-6 && x[i] <= 2e-4);
        off += x[i] == 4e-6;
    }
    ck_assert_msg(abs(off - CELLS / 2) < 600, "%d of %d off", off, CELLS);
    free(x);
}

/* ---- what is wrong ------------------------------------------------------------------------- */

/* One line, the status, and no output file. */
static void refuse(int status, const char *arguments, const char *expected)
{
    ck_assert_msg(crossbar(arguments) == status, "crossbar %s: not %d: %s", arguments, status, out);
    ck_assert_msg(!strncmp(out, "ohmgrad: ", 9), "%s", out);
    ck_assert_msg(strchr(out, '\n') == out + strlen(out) - 1, "not one line: %s", out);
    ck_assert_msg(strstr(out, expected), "'%s' lacks '%s'", out, expected);
    ck_assert_int_eq(ohm_test_run(out, sizeof out, "ls '%s' | grep '^o\\.'", ohm_test_tmpdir()), 1);
}

OHM_TEST(cli_crossbar, command_lines_that_are_wrong)
{
    save_tile();
    refuse(2, "", "crossbar: no action; give one of solve, geff, netlist, map, sweep");
    refuse(2, "melt", "no action 'melt'");
    refuse(2, "solve --melt", "crossbar solve: '--melt' is unknown here");
    refuse(2, "solve x", "one argument too many: 'x'");
    refuse(2, "solve", "crossbar solve: --g is missing; see ohmgrad crossbar solve --help");
    refuse(2, "solve " TILE "--out o.csv", "--v is missing");
    refuse(2, "solve " DRIVEN, "--out is missing");
    refuse(2, "solve --g g.csv --v v.csv --r-wordline 1 --out o.csv", "--r-bitline is missing");
    refuse(2, "netlist " TILE "--out o.cir", "--v is missing");
    refuse(2, "map " WIRES "--out o.svg", "--g is missing");
    refuse(2, "geff " DRIVEN "--out o.csv", "'--v' is unknown here");
    refuse(2, "solve " DRIVEN "--out o.txt", "a matrix's file name ends in .npy or .csv");
    refuse(2, "solve " WIRES "--g g.txt --v v.csv --out o.csv", "'g.txt': a matrix's file name");
    refuse(1, "map " TILE "--out o.pdf", "ends in .svg or .png");
    refuse(2, "sweep --out o.txt", "ends in .csv or .json");
    refuse(1, "sweep --plot o.pdf", "ends in .svg or .png");
    refuse(2, "solve " DRIVEN "--out o.csv --drive sideways", "key 'drive': 'sideways'");
    refuse(2, "solve " DRIVEN "--out o.csv --iv ohmic", "key 'iv': 'ohmic'");
    refuse(2, "solve " DRIVEN "--out o.csv --iv sinh", "--iv sinh without --iv-coefficient");
    refuse(2, "solve " DRIVEN "--out o.csv --iv-coefficient 2", "--iv-coefficient without --iv");
    refuse(2, "solve " DRIVEN "--out o.csv --iv cubic --iv-coefficient 0", "'0' is too small");
    refuse(2, "solve " DRIVEN "--out o.csv --iv cubic --iv-coefficient 5 --v-read 0.5",
           "beyond what cells");
    refuse(2, "netlist " DRIVEN "--out o.cir --row 3", "--row 3: v.csv has 3 rows, counted from 0");
    refuse(2, "map " DRIVEN "--out o.svg --row 3", "--row 3: there are 3 inputs");
}

OHM_TEST(cli_crossbar, resistances_that_are_none)
{
    save_tile();
    refuse(2, "geff --g g.csv --r-wordline=-1 --r-bitline 1 --out o.csv",
           "key 'r-wordline': '-1' is too small");
    refuse(2, "geff " TILE "--r-driver inf --out o.csv", "--r-driver inf leaves every line open");
    refuse(2, "geff " TILE "--r-sense=.inf --out o.csv", "'.inf' is too large");
    refuse(2, "geff " TILE "--r-driver nan --out o.csv", "'nan' is not a number");
    refuse(2, "geff " TILE "--r-driver 1e7 --out o.csv", "'1e7' is too large");
    refuse(2, "geff " TILE "--r-driver 10k --out o.csv", "'10k' is not a number");
    refuse(2, "sweep --r 1,-2", "key 'r'");
    refuse(2, "sweep --r 1,inf", "key 'r'");
}

OHM_TEST(cli_crossbar, sweeps_that_are_wrong)
{
    refuse(2, "sweep --sizes 32,16", "--sizes: 16 follows 32; give rising numbers");
    refuse(2, "sweep --sizes 0", "key 'sizes'");
    refuse(2, "sweep --sizes 8.5", "--sizes: 8.5 is no whole number");
    refuse(2, "sweep --sizes ''", "--sizes: '' is no list of numbers");
    refuse(2, "sweep --sizes 8,x", "key 'sizes'");
    refuse(2, "sweep --sizes 1,2,3,4,5,6,7,8,9", "too many numbers");
    refuse(2, "sweep --weights uniform,heavy",
           "--weights: 'heavy' is none of uniform, bimodal, gaussian, half_off");
    refuse(2, "sweep --weights uniform,uniform", "'uniform' twice");
    refuse(2, "sweep --weights ''", "--weights: '' is none of");
    refuse(2, "sweep --g-max 0", "key 'g-max'");
    refuse(2, "sweep --on-off 0.5", "key 'on-off'");
    refuse(2, "sweep --v v.csv", "'--v' is unknown here");
    refuse(1, "sweep --sizes 4096 --threads 1024", "this machine has");
    refuse(1, "sweep --sizes 4 --tiles 1 --r 1 --weights uniform --out no/o.csv >/dev/null",
           "no/o.csv: cannot write here");
}

OHM_TEST(cli_crossbar, files_that_are_wrong)
{
    static const struct {
        const char *name, *g, *v, *expected;
    } cases[] = {
        {"negative", "1e-4,1e-4\n1e-4,-1e-6\n", "0.1,0.1\n",
         "g.csv: the conductance at row 1, column 1 (from 0) is -1e-06"},
        {"nan", "1e-4,nan\n", "0.1\n", "g.csv:1: field 2, 'nan', is no number"},
        {"ragged", "1e-4,1e-4\n1e-4\n", "0.1,0.1\n", "g.csv:2: holds 1 numbers"},
        {"text", "g,h\n1e-4,1e-4\n", "0.1\n", "g.csv:1: field 1, 'g', is no number"},
        {"empty", "", "0.1\n", "g.csv: holds no numbers"},
        {"empty v", "1e-4\n", "", "v.csv: holds no numbers"},
        {"columns", "1e-4,1e-4\n1e-4,1e-4\n", "0.1,0.1,0.1\n",
         "v.csv: 3 voltages per input, but g.csv has 2 rows"},
        {"transposed", "1e-4\n1e-4\n", "0.1\n0.1\n",
         "v.csv: 1 voltages per input, but g.csv has 2 rows"},
        {"huge v", "1e-4\n", "1e999\n", "v.csv:1: field 1, '1e999', is beyond"},
        {"overflow", "1e300\n", "0.1\n", "row 0, column 0 (from 0) is 1e+300 S, more than"},
        {"lost in rounding", "1e-4\n1e7\n", "0.1,0.1\n", "row 1, column 0 (from 0) is 1e+07 S, more than"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        save_text("g.csv", cases[i].g);
        save_text("v.csv", cases[i].v);
        refuse(1, "solve " DRIVEN "--out o.csv", cases[i].expected);
    }
    save_text("g.csv", "1e-4\n");
    save_text("v.csv", "2\n");
    refuse(1, "solve " DRIVEN "--out o.csv --iv cubic --iv-coefficient 1",
           "where the current of v - 1 v^3 falls; stay below 0.5774 V");
    refuse(1, "solve " DRIVEN "--out o.csv --iv sinh --iv-coefficient 100", "stay below 0.5 V");
    refuse(1, "map " TILE "--out o.svg --iv cubic --iv-coefficient 15",
           "--v-read: input 0 at row 0 is 0.2 V");
    refuse(1, "solve --g none.csv --v v.csv " WIRES "--out o.csv", "none.csv: cannot open");
    refuse(1, "solve --g /dev/zero.csv --v v.csv " WIRES "--out o.csv", "cannot open");
}

static void save_npy(const char *name, const char *dictionary, const void *data, size_t bytes)
{
    char header[128];
    memset(header, ' ', sizeof header);
    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);
    memcpy(header + 10, dictionary, strlen(dictionary));
    header[127] = '\n';
    const ohm_file_part parts[] = {{header, sizeof header}, {data, bytes}};
    OHM_OK_OR_FAIL(ohm_file_write_atomic(in_folder(name), parts, 2));
}

OHM_TEST(cli_crossbar, arrays_that_are_wrong)
{
    const double values[] = {1e-4, INFINITY, NAN, 1e-4};
    const char *const ends = "--v v.csv " WIRES "--out o.npy";
    char arguments[256];
    static const struct {
        const char *dictionary, *expected;
        size_t bytes;
    } cases[] = {
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), }",
         "row 0, column 1 (from 0) is inf", 32},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }",
         "holds 32 bytes of data where its shape asks for 8000000000000", 32},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (0, 2), }",
         "is 0 x 2; give 1..65536 rows and columns", 0},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2, 2), }",
         "has 3 dimensions; give a matrix", 32},
        {"{'descr': '<c8', 'fortran_order': False, 'shape': (2, 2), }",
         "holds '<c8', not float32, float64 or whole numbers", 32},
        {"{'descr': '>f8', 'fortran_order': False, 'shape': (2, 2), }", "holds '>f8', not", 32},
        {"{'descr': '<f8', 'fortran_order': True, 'shape': (2, 2), }", "Fortran order", 32},
    };
    save_text("v.csv", "0.1,0.1\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        save_npy("g.npy", cases[i].dictionary, values, cases[i].bytes);
        snprintf(arguments, sizeof arguments, "solve --g g.npy %s", ends);
        refuse(1, arguments, cases[i].expected);
    }
    save_text("g.csv", "1e-4\n1e-4\n");
    save_npy("v.npy", "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), }", values + 2, 0);
    refuse(1, "solve " TILE "--v v.npy --out o.csv", "holds 0 bytes of data");
    save_npy("v.npy", "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }", values + 2,
             16);
    refuse(1, "solve " TILE "--v v.npy --out o.csv",
           "v.npy: the voltage of input 0 at row 0 (from 0) is nan");
}

/* A picture brings its numbers and its script: neither replaces a file that no picture left. */
OHM_TEST(cli_crossbar, pictures_replace_no_other_files)
{
    save_text("g.csv", "1e-4,2e-4\n3e-4,1e-4\n");
    save_text("lab.dat", "mine\n");
    ck_assert_int_eq(crossbar("map --g g.csv " WIRES "--out lab.png"), 1);
    ck_assert_msg(strstr(out, "lab.dat is in the way"), "%s", out);
    ck_assert_int_eq(crossbar("sweep --sizes 8 --r 1 --plot lab.svg"), 1);
    ck_assert_msg(strstr(out, "lab.dat is in the way"), "%s", out);
    ck_assert_int_eq(crossbar("map --g g.csv " WIRES "--out new.svg --data new.dat"), 2);
    ck_assert_int_eq(ohm_test_run(out, sizeof out,
                                  "cd '%s' && cat lab.dat && "
                                  "ls lab.gp lab.png lab.svg new.svg new.dat 2>&1 | grep -vc No",
                                  ohm_test_tmpdir()),
                     1);
    ck_assert_str_eq(out, "mine\n0\n");
}

/* What cannot be written at the end is refused before the work, and nothing else is written. */
OHM_TEST(cli_crossbar, outputs_are_tried_first)
{
    save_text("g.csv", "1e-4,2e-4\n3e-4,1e-4\n");
    refuse(1, "map --g g.csv " WIRES "--out o.svg --data none/x.csv",
           "none/x.csv: cannot write here");
    refuse(1, "sweep --sizes 8 --r 1 --out o.csv --plot none/x.svg",
           "none/x.svg: cannot write here");
    refuse(1, "sweep --sizes 8 --r 1 --out none/x.csv", "none/x.csv: cannot write here");
}

/* The picture is what was asked for: without gnuplot the program fails. */
OHM_TEST(cli_crossbar, no_gnuplot_is_a_failure)
{
    save_text("g.csv", "1e-4,2e-4\n3e-4,1e-4\n");
    ck_assert_int_eq(ohm_test_run(out, sizeof out,
                                  "cd '%s' && PATH=/nonexistent '%s' crossbar map --g g.csv " WIRES
                                  "--out o.svg 2>&1 >/dev/null",
                                  ohm_test_tmpdir(), ohm_test_program()),
                     1);
    ck_assert_msg(strstr(out, "gnuplot is missing"), "%s", out);
}

OHM_TEST(cli_crossbar, wires_without_resistance_can_be_drawn)
{
    if (ohm_test_run(NULL, 0, "command -v gnuplot") != 0)
        OHM_SKIP("gnuplot is not installed");
    ck_assert_msg(crossbar("sweep --sizes 8,16 --r 0 --plot zero.svg") == 0, "%s", out);
}

OHM_TEST(cli_crossbar, tiles_beyond_memory_name_the_bytes)
{
    const ohm_crossbar x = {
        .network = {.tile = {OHM_MATRIX_SIDE, OHM_MATRIX_SIDE, {.word_line = 1}}}};
    ck_assert_int_eq(ohm_crossbar_check(&x, 1, "g.npy"),
                     OHM_ERR_MEMORY); /* before any conductance is read */
    ck_assert_msg(strstr(ohm_error_text(), "g.npy: a tile of 65536 x 65536 needs ") &&
                      strstr(ohm_error_text(), " bytes, this machine has "),
                  "%s", ohm_error_text());
}

/* The file is a hole on the disk; its numbers, as doubles, exceed the limit. ASan needs more than that itself. */
OHM_TEST_SLOW(cli_crossbar, memory_that_is_refused)
{
    if (strstr(OHM_CFLAGS, "sanitize"))
        OHM_SKIP("a sanitised program does not start under a memory limit");
    save_npy("g.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (16384, 16384), }", "", 0);
    ck_assert_int_eq(truncate(in_folder("g.npy"), 128 + 16384LL * 16384), 0);
    ck_assert_int_eq(
        ohm_test_run(out, sizeof out,
                     "cd '%s' && ulimit -v 2000000 && '%s' crossbar geff --g g.npy " WIRES
                     "--out o.npy",
                     ohm_test_tmpdir(), ohm_test_program()),
        1);
    ck_assert_msg(strstr(out, "no memory for 268435456 numbers (2147483648 bytes)") &&
                      strchr(out, '\n') == out + strlen(out) - 1,
                  "%s", out);
    ck_assert(access(in_folder("o.npy"), F_OK) != 0);
}

OHM_TEST(cli_crossbar, outputs_that_cannot_be_written)
{
    save_tile();
    refuse(1, "solve " DRIVEN "--out no/o.csv", "no/o.csv: cannot write here");
    refuse(1, "geff " TILE "--out v.csv/o.csv", "v.csv/o.csv: cannot write here");
    refuse(2, "solve " DRIVEN "--out g.csv", "'g.csv' is input and output");
    refuse(2, "solve " DRIVEN "--out ./v.csv", "'./v.csv' is input and output");
    refuse(2, "netlist " DRIVEN "--out v.csv", "'v.csv' is input and output");
    refuse(2, "map " TILE "--out o.svg --data g.csv", "'g.csv' is input and output");
    refuse(2, "map " TILE "--out o.svg --data o.svg", "'o.svg' is named for two outputs");
    char *text = text_of("g.csv");
    ck_assert_msg(strlen(text) > 100, "g.csv was touched: %s", text);
    free(text);
    refuse(1, "map " TILE "--out no/o.svg", "no/o.svg: cannot write here");
}

OHM_TEST(cli_crossbar, help_of_every_action)
{
    static const char *const actions[] = {"solve", "geff", "netlist", "map", "sweep"};
    run("--help");
    ck_assert_ptr_nonnull(strstr(out, "Usage: ohmgrad crossbar ACTION"));
    for (int i = 0; i < 5; i++) {
        char arguments[64], usage[64];
        snprintf(arguments, sizeof arguments, "%s --help", actions[i]);
        snprintf(usage, sizeof usage, "Usage: ohmgrad crossbar %s ", actions[i]);
        run(arguments);
        ck_assert_msg(!strncmp(out, usage, strlen(usage)), "%s", out);
    }
}
