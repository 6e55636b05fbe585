/* Closed-form IR drop against a nodal solution of the same tile: right to first order in the wires,
 * with row 0 farthest from the ADC and the driver's resistance in series with its line once. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/irdrop.h"
#include "tests/compare.h"
#include "tests/fixture_physics.h"
#include "tests/runner.h"

enum { ROWS = 6, COLUMNS = 5, NODES = 2 * ROWS * COLUMNS, TEXT = 1024 };

typedef struct { /* resistances in units of 1/level */
    double word, bit, driver, sense;
    int drive_both, sense_both;
} wires;

static int word_node(int r, int c)
{
    return r * COLUMNS + c;
}
static int bit_node(int r, int c)
{
    return ROWS * COLUMNS + r * COLUMNS + c;
}

/* Conductance between two nodes, or from one to a fixed potential (b < 0). */
static void connect(double a[NODES][NODES], int from, int to, double g)
{
    a[from][from] += g;
    if (to < 0)
        return;
    a[to][to] += g;
    a[from][to] -= g;
    a[to][from] -= g;
}

/* Conductance of a resistor; 0 ohm is next to nothing. */
static double series(double r)
{
    return 1.0 / fmax(r, 1e-13);
}

static void eliminate(double a[NODES][NODES], double b[NODES])
{
    for (int i = 0; i < NODES; i++) { /* diagonally dominant: no pivoting */
        for (int j = i + 1; j < NODES; j++) {
            double f = a[j][i] / a[i][i];
            for (int k = i; f != 0.0 && k < NODES; k++)
                a[j][k] -= f * a[i][k];
            b[j] -= f * b[i];
        }
    }
    for (int i = NODES; i-- > 0;) {
        for (int k = i + 1; k < NODES; k++)
            b[i] -= a[i][k] * b[k];
        b[i] /= a[i][i];
    }
}

/* exact[r][c]: current into the sense amplifiers of column c when row r is at 1 and the others at 0. */
static void solve(double *exact, const double *g, const wires *w)
{
    for (int driven = 0; driven < ROWS; driven++) {
        static double a[NODES][NODES];
        double b[NODES] = {0}, head = series(w->driver + w->word), tail = series(w->sense + w->bit);
        memset(a, 0, sizeof a);
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < COLUMNS; c++) {
                connect(a, word_node(r, c), bit_node(r, c), g[r * COLUMNS + c]);
                if (c > 0)
                    connect(a, word_node(r, c), word_node(r, c - 1), series(w->word));
                if (r > 0)
                    connect(a, bit_node(r, c), bit_node(r - 1, c), series(w->bit));
            }
        for (int r = 0; r < ROWS; r++)
            for (int end = 0; end <= w->drive_both; end++) {
                int node = word_node(r, end ? COLUMNS - 1 : 0);
                connect(a, node, -1, head);
                b[node] += r == driven ? head : 0.0;
            }
        for (int c = 0; c < COLUMNS; c++) {
            connect(a, bit_node(ROWS - 1, c), -1, tail);
            if (w->sense_both)
                connect(a, bit_node(0, c), -1, tail);
        }
        eliminate(a, b);
        for (int c = 0; c < COLUMNS; c++)
            exact[driven * COLUMNS + c] = tail * (b[bit_node(ROWS - 1, c)] + (w->sense_both ? b[bit_node(0, c)] : 0.0));
    }
}

static void levels(double *g, int from)
{
    for (int i = 0; i < ROWS * COLUMNS; i++)
        g[i] = i / COLUMNS < from ? 0.2 + fmod(0.37 * i * i + 0.11 * i, 1.0) : 0.3;
}

/* Largest relative error of the closed form for wires scaled by `scale`; used rows only, the others hold 0.3. */
static double error_of(wires w, double scale, int used)
{
    double g[ROWS * COLUMNS], exact[ROWS * COLUMNS], closed[ROWS * COLUMNS], scratch[(ROWS + 3) * COLUMNS], worst = 0.0;
    wires scaled = {w.word * scale, w.bit * scale, w.driver * scale, w.sense * scale, w.drive_both, w.sense_both};
    levels(g, used);
    solve(exact, g, &scaled);
    ohm_irdrop_closed(closed, g, used, COLUMNS, ROWS - used,
                      &(ohm_wires){.word_line = scaled.word, .bit_line = scaled.bit, .driver = scaled.driver, .sense = scaled.sense,
                                   .unused = 0.3, .drive_both = w.drive_both, .sense_both = w.sense_both}, scratch);
    for (int i = 0; i < used * COLUMNS; i++)
        worst = fmax(worst, fabs(closed[i] / exact[i] - 1.0));
    return worst;
}

/* Each resistance alone and all together, each end: ten times less wire is a hundred times less error. */
OHM_TEST(physics_wires, closed_form_is_right_to_first_order)
{
    const double e = 0.01; /* what stands for no wire: a node of its own needs some */
    const wires parts[] = {{1, e, 0, 0, 0, 0}, {e, 1, 0, 0, 0, 0}, {e, e, 5, 0, 0, 0}, {e, e, 0, 5, 0, 0}, {1, 0.7, 3, 2, 0, 0},
                           {1, e, 0, 0, 1, 0}, {1, e, 4, 0, 1, 0}, {e, 1, 0, 0, 0, 1}, {e, 1, 0, 4, 0, 1}, {1, 0.7, 3, 2, 1, 1}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        for (int used = ROWS; used >= 4; used -= 2) { /* the last two rows unused, grounded, between the others and the ADC */
            double coarse = error_of(parts[i], 1e-3, used), fine = error_of(parts[i], 1e-4, used);
            ck_assert_msg(coarse < 1e-3 && fine < 1.2e-2 * coarse + 1e-9, "wires %zu, %d rows: error %g, with a tenth of the wires %g", i, used,
                          coarse, fine);
        }
}

OHM_TEST(physics_wires, no_wires_change_nothing)
{
    double g[ROWS * COLUMNS], closed[ROWS * COLUMNS], scratch[(ROWS + 3) * COLUMNS];
    levels(g, ROWS);
    for (int ends = 0; ends < 4; ends++) {
        ohm_irdrop_closed(closed, g, ROWS, COLUMNS, 0, &(ohm_wires){.unused = 0.3, .drive_both = ends & 1, .sense_both = ends >> 1}, scratch);
        OHM_ASSERT(ohm_compare_bits(closed, g, ROWS * COLUMNS));
    }
}

/* Loss only, more of it farther from the driver and from the ADC, less with both ends in use. */
OHM_TEST(physics_wires, farther_cells_lose_more)
{
    double g[ROWS * COLUMNS], closed[ROWS * COLUMNS], both[ROWS * COLUMNS], scratch[(ROWS + 3) * COLUMNS];
    for (int i = 0; i < ROWS * COLUMNS; i++)
        g[i] = 1.0;
    ohm_wires w = {.word_line = 0.01, .bit_line = 0.01, .driver = 0.02, .sense = 0.02};
    ohm_irdrop_closed(closed, g, ROWS, COLUMNS, 0, &w, scratch);
    w.drive_both = w.sense_both = 1;
    ohm_irdrop_closed(both, g, ROWS, COLUMNS, 0, &w, scratch);
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++) {
            int i = r * COLUMNS + c;
            ck_assert(closed[i] < 1.0 && both[i] > closed[i] && both[i] < 1.0);
            ck_assert(c == 0 || closed[i] < closed[i - 1]);       /* column 0 is nearest the driver */
            ck_assert(r == 0 || closed[i] > closed[i - COLUMNS]); /* row 0 is farthest from the ADC */
            ck_assert(fabs(both[i] - both[(ROWS - 1 - r) * COLUMNS + COLUMNS - 1 - c]) < 1e-12);
        }
}

/* ---- Whole layers --------------------------------------------------------------------------------- */

enum { K = 4, N = 5 };

/* Relative rms error of y against the nodal solution of every array, wires of `ohm` a segment. The
 * chip's tile is ROWS x COLUMNS; K rows of it are used, row 0 farthest. */
static double layer_error(const char *mapping, double ohm, int pairs)
{
    char settings[2 * TEXT], without[TEXT];
    fixture_layer l;
    double expected[8 * N] = {0};
    snprintf(without, sizeof without, "%s cell.on_off=4 tile.rows=%d tile.cols=%d", mapping, ROWS, COLUMNS);
    snprintf(settings, sizeof settings, PHYSICS_ONE_READ "%s ir_drop.model=closed_form ir_drop.r_wordline_ohm=%g ir_drop.r_bitline_ohm=%g "
             "ir_drop.r_driver_ohm=%g ir_drop.r_sense_ohm=%g", without, ohm, 0.8 * ohm, 2 * ohm, 3 * ohm);
    fixture_layer_make(&l, 8, K, N);
    fixture_integers(l.x, 8 * K, 127, 5);
    fixture_integers(l.w, N * K, 127, 6);
    char text[2 * TEXT];
    snprintf(text, sizeof text, PHYSICS_ONE_READ "%s", without);
    double step = physics_step_us(text) * 1e-6, pedestal = physics_target_us(text, 0) * 1e-6 / step;
    const wires w = {ohm * step, 0.8 * ohm * step, 2 * ohm * step, 3 * ohm * step, 0, 0};
    int tile_outputs = pairs == 2 ? COLUMNS / 2 : pairs ? COLUMNS : COLUMNS - 1;
    for (int first = 0; first < N; first += tile_outputs)
        for (int array = 0; array < (pairs == 1 ? 2 : 1); array++) {
            double g[ROWS * COLUMNS], exact[ROWS * COLUMNS];
            for (int i = 0; i < ROWS * COLUMNS; i++)
                g[i] = pedestal;
            for (int k = 0; k < K; k++) {
                for (int n = first; n < N && n < first + tile_outputs; n++) {
                    double code = l.w[n * K + k], plus = pedestal + fmax(code, 0), minus = pedestal + fmax(-code, 0);
                    int c = n - first;
                    if (pairs == 1)
                        g[k * COLUMNS + c] = array ? minus : plus;
                    else if (pairs == 2) {
                        g[k * COLUMNS + 2 * c] = plus;
                        g[k * COLUMNS + 2 * c + 1] = minus;
                    } else
                        g[k * COLUMNS + c] = pedestal + code + 128;
                }
                if (!pairs) /* the reference column is the last of the tile */
                    g[k * COLUMNS + COLUMNS - 1] = pedestal + 128;
            }
            solve(exact, g, &w);
            for (int i = 0; i < 8; i++)
                for (int n = first; n < N && n < first + tile_outputs; n++)
                    for (int k = 0; k < K; k++) {
                        const double *row = exact + k * COLUMNS;
                        int c = n - first;
                        double effective = pairs == 1 ? (array ? -row[c] : row[c]) : pairs == 2 ? row[2 * c] - row[2 * c + 1] : row[c] - row[COLUMNS - 1];
                        expected[i * N + n] += l.x[i * K + k] * effective;
                    }
        }
    fixture_forward(&l, &(fixture_run){.settings = settings});
    double error = physics_error(&l, expected);
    fixture_layer_free(&l);
    return error;
}

OHM_TEST(physics_wires, layers_agree_with_nodal_analysis_to_first_order)
{
    static const struct { const char *mapping; int pairs; } cases[] = {
        {"tile.pair=separate", 1}, {"tile.pair=separate weight.subtract=digital", 1}, {"tile.pair=interleaved", 2},
        {"weight.encoding=offset weight.cell_bits=8", 0}};
    for (int i = 0; i < 4; i++) {
        double coarse = layer_error(cases[i].mapping, 80, cases[i].pairs), fine = layer_error(cases[i].mapping, 8, cases[i].pairs);
        double none = layer_error(cases[i].mapping, 0, cases[i].pairs);
        ck_assert_msg(none < 1e-6 && coarse < 3e-3 && fine < 2e-2 * coarse + 1e-6, "%s: error %g, with a tenth of the wires %g, with none %g",
                      cases[i].mapping, coarse, fine, none);
    }
}

/* Wires get worse with heat: R (1 + tcr (T - T0)); driver and sense amplifier stay. */
OHM_TEST(physics_wires, resistance_follows_temperature)
{
    float y[2][40];
    static const char *const settings[] = {"ir_drop.r_wordline_ohm=10 ir_drop.r_bitline_ohm=20 temperature.kelvin=400 temperature.wire_tcr_per_k=0.004",
                                           "ir_drop.r_wordline_ohm=14 ir_drop.r_bitline_ohm=28"};
    for (int i = 0; i < 2; i++) {
        char text[TEXT];
        fixture_layer l;
        fixture_layer_make(&l, 8, 20, 5);
        snprintf(text, sizeof text, "ir_drop.model=closed_form ir_drop.r_driver_ohm=30 ir_drop.r_sense_ohm=40 %s", settings[i]);
        fixture_forward(&l, &(fixture_run){.settings = text});
        memcpy(y[i], l.y, sizeof y[i]);
        fixture_layer_free(&l);
    }
    OHM_ASSERT(ohm_compare_close(y[0], y[1], 40, 1e-6, 1e-6));
}

/* Signs side by side in one array share its wires: about twice the error of arrays of their own. */
OHM_TEST(physics_wires, interleaving_costs_accuracy)
{
    static double exact[32 * 64];
    double error[2];
    for (int i = 0; i < 2; i++) {
        char text[TEXT];
        fixture_layer l;
        fixture_layer_make(&l, 32, 128, 64);
        physics_product(exact, &l);
        snprintf(text, sizeof text, "input.encoding=sign_magnitude input.dac_bits=7 weight.cell_bits=7 ir_drop.model=closed_form tile.pair=%s",
                 i ? "interleaved" : "separate");
        fixture_forward(&l, &(fixture_run){.settings = text});
        error[i] = physics_error(&l, exact);
        fixture_layer_free(&l);
    }
    ck_assert_msg(error[1] > 1.3 * error[0] && error[1] < 3.0 * error[0], "separate %g, interleaved %g", error[0], error[1]);
}
