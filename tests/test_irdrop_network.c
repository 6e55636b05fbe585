/* Tiles solved per input: against dense Kirchhoff, against the march, and by the laws of circuits. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/irdrop_network.h"
#include "tests/compare.h"
#include "tests/fixture_network.h"
#include "tests/runner.h"

enum { MOST = 300 * 300 };

static double next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) / 16777216.0;
}

static const ohm_cell_law linear = {OHM_CELL_LINEAR, 0.0, 1.0};

/* A tile with its inputs and results. */
typedef struct {
    ohm_nodal n;
    double *g, *v, *current, *want, *word, *bit;
    uint8_t *off;
    void *scratch;
    ohm_solve_report report;
} bench;

static void bench_make(bench *b, int rows, int columns, ohm_wires wires, double g_max,
                       ohm_cell_law law, uint32_t seed)
{
    int cells = rows * columns;
    *b = (bench){.n = {{rows, columns, wires}, NULL, law}};
    b->g = malloc((size_t)cells * sizeof *b->g);
    b->v = malloc((size_t)rows * sizeof *b->v);
    b->current = calloc((size_t)columns, sizeof *b->current);
    b->want = calloc((size_t)columns, sizeof *b->want);
    b->word = malloc((size_t)cells * sizeof *b->word);
    b->bit = malloc((size_t)cells * sizeof *b->bit);
    b->off = calloc((size_t)rows, 1);
    b->scratch = malloc(ohm_nodal_scratch_bytes(&b->n));
    ck_assert(b->g && b->v && b->current && b->want && b->word && b->bit && b->off && b->scratch);
    for (int i = 0; i < cells; i++)
        b->g[i] = next(&seed) < 0.4 ? 0.01 * g_max : g_max * (0.01 + 0.99 * next(&seed));
    for (int r = 0; r < rows; r++)
        b->v[r] = next(&seed) < 0.3 ? 0.0 : next(&seed);
    b->n.g = b->g;
}

static void bench_free(bench *b)
{
    free(b->g);
    free(b->v);
    free(b->current);
    free(b->want);
    free(b->word);
    free(b->bit);
    free(b->off);
    free(b->scratch);
}

static ohm_solve_status solve(bench *b, const uint8_t *off)
{
    return ohm_nodal_solve(b->current, b->word, b->bit, &b->n, b->v, off, OHM_NODAL_TOLERANCE,
                           b->scratch, &b->report);
}

/* Largest difference over the largest reference. */
static double off_by(const double *got, const double *want, int count)
{
    double error = 0.0, most = 0.0;
    for (int i = 0; i < count; i++) {
        error = fmax(error, isfinite(got[i]) ? fabs(got[i] - want[i]) : INFINITY);
        most = fmax(most, fabs(want[i]));
    }
    return error / most;
}

static ohm_wires wires_of(int i, int ends)
{
    static const double ohms[] = {0.0, 1.0, 300.0};
    return (ohm_wires){.word_line = ohms[i % 3],
                       .bit_line = ohms[i / 3 % 3],
                       .driver = ohms[i / 9 % 3],
                       .sense = ohms[i / 27],
                       .drive_both = ends & 1,
                       .sense_both = ends >> 1};
}

static int loops(const ohm_wires *w)
{
    return (w->drive_both && w->driver + w->word_line == 0.0) ||
           (w->sense_both && w->sense + w->bit_line == 0.0);
}

static void check_dense(int rows, int columns, const ohm_wires *wires, ohm_cell_law law,
                        uint32_t seed)
{
    bench b;
    bench_make(&b, rows, columns, *wires, 1e-3, law, seed);
    size_t cells = (size_t)rows * columns;
    double *word = malloc(cells * sizeof *word), *bit = malloc(cells * sizeof *bit);
    for (int gated = 0; gated < 2; gated++) {
        for (int r = 0; r < rows; r++)
            b.off[r] = gated && b.v[r] == 0.0;
        b.v[0] = 0.7;
        b.off[0] = 0;
        fixture_network_solve(b.want, word, bit, &b.n, b.v, b.off);
        ohm_solve_status status = solve(&b, gated ? b.off : NULL);
        double current = off_by(b.current, b.want, columns),
               words = off_by(b.word, word, rows * columns);
        double bits = 0.0; /* bit lines at 0 V leave nothing to be relative to */
        for (size_t i = 0; i < cells; i++)
            bits = fmax(bits, fabs(b.bit[i] - bit[i]));
        ck_assert_msg(status == OHM_SOLVE_OK && current < 1e-11 && words < 1e-11 && bits < 1e-11,
                      "%dx%d, word %g bit %g driver %g sense %g both %d%d, law %d, gated %d: "
                      "status %d, off by "
                      "%.2g in currents, %.2g and %.2g in voltages, residual %.2g",
                      rows, columns, wires->word_line, wires->bit_line, wires->driver, wires->sense,
                      wires->drive_both, wires->sense_both, law.iv, gated, status, current, words,
                      bits, b.report.residual);
    }
    free(word);
    free(bit);
    bench_free(&b);
}

static void check_wirings(int step)
{
    static const int shapes[][2] = {{1, 1}, {4, 4}, {1, 5}, {5, 1}, {9, 4}, {3, 10}};
    for (int shape = 0; shape < 6; shape++)
        for (int i = 0; i < 81; i += step)
            for (int ends = 0; ends < 4; ends++) {
                ohm_wires wires = wires_of(i, ends);
                if (!loops(&wires))
                    check_dense(shapes[shape][0], shapes[shape][1], &wires, linear,
                                (uint32_t)(i + ends));
            }
}

OHM_TEST(irdrop_network, equals_kirchhoff)
{
    check_wirings(7);
}

OHM_TEST_SLOW(irdrop_network, equals_kirchhoff_in_every_wiring)
{
    check_wirings(1);
}

OHM_TEST_SLOW(irdrop_network, nonlinear_cells_equal_kirchhoff)
{
    /* normalised at 1 V; sinh up to a·V = 5, and 20, where hardly any current flows below full drive */
    const ohm_cell_law laws[] = {
        ohm_cell_law_at(OHM_CELL_CUBIC, 0.3, 1.0), ohm_cell_law_at(OHM_CELL_SINH, 1.0, 1.0),
        ohm_cell_law_at(OHM_CELL_SINH, 2.0, 1.0),  ohm_cell_law_at(OHM_CELL_SINH, 5.0, 1.0),
        ohm_cell_law_at(OHM_CELL_SINH, 20.0, 1.0), {OHM_CELL_SINH, 3.0, 1.0}};
    static const int shapes[][2] = {{1, 1}, {5, 4}, {3, 6}};
    for (int shape = 0; shape < 3; shape++)
        for (int i = 0; i < 81; i += shape ? 5 : 1)
            for (int ends = 0; ends < 4; ends++)
                for (int law = 0; law < 6; law++) {
                    ohm_wires wires = wires_of(i, ends);
                    if (!loops(&wires))
                        check_dense(shapes[shape][0], shapes[shape][1], &wires, laws[law],
                                    (uint32_t)(i + ends));
                }
}

/* R·sqrt(r·g_max) from 1 to 51, against the renormalised march. */
OHM_TEST(irdrop_network, steep_tiles_equal_the_march)
{
    static const struct {
        int rows, columns;
        double g_max, ohms;
        int ends;
    } tiles[] = {{128, 128, 1e-4, 1, 0},  {128, 128, 1e-3, 1, 3}, {128, 128, 1e-3, 10, 0},
                 {256, 256, 1e-3, 10, 0}, {256, 96, 1e-3, 10, 1}, {64, 256, 1e-3, 10, 2},
                 {256, 256, 1e-3, 40, 3}};
    for (int i = 0; i < 7; i++) {
        bench b;
        ohm_wires wires = {.word_line = tiles[i].ohms,
                           .bit_line = tiles[i].ohms,
                           .drive_both = tiles[i].ends & 1,
                           .sense_both = tiles[i].ends >> 1};
        bench_make(&b, tiles[i].rows, tiles[i].columns, wires, tiles[i].g_max, linear, 5u);
        double *g_eff = malloc(MOST * sizeof *g_eff);
        void *scratch = aligned_alloc(64, ohm_irdrop_exact_bytes_f64(&b.n.tile) / 64 * 64 + 64);
        ck_assert_int_eq(ohm_irdrop_exact_f64(g_eff, b.g, &b.n.tile, scratch, NULL), OHM_SOLVE_OK);
        for (int r = 0; r < tiles[i].rows; r++)
            for (int c = 0; c < tiles[i].columns; c++)
                b.want[c] += b.v[r] * g_eff[(size_t)r * tiles[i].columns + c];
        ohm_solve_status status = solve(&b, NULL);
        double error = off_by(b.current, b.want, tiles[i].columns);
        ck_assert_msg(status == OHM_SOLVE_OK && error < 1e-9 &&
                          b.report.method == OHM_METHOD_LINE_CG && b.report.inner < 150,
                      "tile %d: status %d, off by %.2g after %d steps, residual %.2g", i, status,
                      error, b.report.inner, b.report.residual);
        free(g_eff);
        free(scratch);
        bench_free(&b);
    }
}

/* A row cut off is a row without cells. */
OHM_TEST(irdrop_network, gated_rows_are_rows_without_cells)
{
    const ohm_cell_law laws[] = {linear, ohm_cell_law_at(OHM_CELL_SINH, 4.0, 1.0)};
    for (int law = 0; law < 2; law++) {
        bench b;
        bench_make(&b, 24, 17, wires_of(3 + 9 + 27 + 1, 0), 1e-3, laws[law], 11u);
        int cut = 0;
        for (int r = 0; r < 24; r++)
            cut += b.off[r] = b.v[r] == 0.0;
        ck_assert_int_gt(cut, 3);
        ck_assert_int_eq(solve(&b, NULL), OHM_SOLVE_OK);
        memcpy(b.want, b.current, 17 * sizeof *b.want);
        ck_assert_int_eq(solve(&b, b.off), OHM_SOLVE_OK);
        ck_assert_msg(off_by(b.current, b.want, 17) > 1e-3, "gating changes nothing");
        memcpy(b.want, b.current, 17 * sizeof *b.want);
        for (int r = 0; r < 24; r++)
            for (int c = 0; b.off[r] && c < 17; c++)
                b.g[r * 17 + c] = 0.0;
        ck_assert_int_eq(solve(&b, NULL), OHM_SOLVE_OK);
        ck_assert_mem_eq(b.current, b.want, 17 * sizeof *b.want);
        bench_free(&b);
    }
}

/* What the sources give is what the terminals take, and more wire never means more current. */
OHM_TEST(irdrop_network, laws_of_circuits)
{
    const ohm_cell_law laws[] = {linear, ohm_cell_law_at(OHM_CELL_CUBIC, 0.3, 1.0),
                                 ohm_cell_law_at(OHM_CELL_SINH, 5.0, 1.0)};
    for (int law = 0; law < 3; law++) {
        double before = INFINITY;
        for (int i = 0; i < 6; i++) {
            double ohms = i ? 0.3 * pow(4.0, i) : 0.0, sourced = 0.0, sunk = 0.0, cells = 0.0;
            bench b;
            bench_make(&b, 40, 33, (ohm_wires){ohms, ohms, 20.0, 20.0, 0.0, i & 1, 0}, 1e-3,
                       laws[law], 3u);
            for (int r = 0; r < 40; r++)
                b.v[r] = 1.0;
            ck_assert_int_eq(solve(&b, NULL), OHM_SOLVE_OK);
            for (int r = 0; r < 40; r++) {
                sourced += (b.v[r] - b.word[r * 33]) / (20.0 + ohms);
                sourced += i & 1 ? (b.v[r] - b.word[r * 33 + 32]) / (20.0 + ohms) : 0.0;
            }
            for (int x = 0; x < 40 * 33; x++)
                cells += b.g[x] * ohm_cell_law_current(&b.n.law, b.word[x] - b.bit[x], NULL);
            for (int c = 0; c < 33; c++)
                sunk += b.current[c];
            ck_assert_double_eq_tol(sunk, sourced, 1e-11 * sunk);
            ck_assert_double_eq_tol(sunk, cells, 1e-11 * sunk);
            ck_assert_double_gt(sunk, 0.0);
            if (i % 2 == 0) {
                ck_assert_msg(sunk < before, "%g ohm carry %g A, less wire %g A", ohms, sunk,
                              before);
                before = sunk;
            }
            bench_free(&b);
        }
    }
}

/* A loss of currents and cell voltages, for finite differences. */
static double loss_of(bench *b, const double *weight, const double *cell, const uint8_t *off)
{
    double loss = 0.0;
    ck_assert_int_eq(solve(b, off), OHM_SOLVE_OK);
    for (int c = 0; c < b->n.tile.columns; c++)
        loss += weight[c] * b->current[c];
    for (int i = 0; i < b->n.tile.rows * b->n.tile.columns; i++)
        loss += cell[i] * (b->word[i] - b->bit[i]);
    return loss;
}

OHM_TEST(irdrop_network, adjoint_equals_finite_differences)
{
    enum { R = 7, C = 6 };
    const ohm_cell_law laws[] = {linear, ohm_cell_law_at(OHM_CELL_CUBIC, 0.25, 1.0),
                                 ohm_cell_law_at(OHM_CELL_SINH, 1.0, 1.0),
                                 ohm_cell_law_at(OHM_CELL_SINH, 5.0, 1.0)};
    static const int wires[] = {40, 77, 0, 39, 28};
    for (int law = 0; law < 4; law++)
        for (int i = 0; i < 20; i++) {
            ohm_wires w = wires_of(wires[i % 5], i / 5);
            bench b;
            if (loops(&w))
                continue;
            bench_make(&b, R, C, w, 1e-3, laws[law], (uint32_t)i);
            double weight[C], cell[R * C], dv[R] = {0}, dg[R * C] = {0};
            uint32_t seed = 9;
            for (int c = 0; c < C; c++)
                weight[c] = 1e3 * (next(&seed) - 0.5);
            for (int x = 0; x < R * C; x++)
                cell[x] = i % 2 ? 0.1 * (next(&seed) - 0.5) : 0.0;
            for (int r = 0; r < R; r++)
                b.off[r] = b.v[r] == 0.0;
            loss_of(&b, weight, cell, b.off);
            ck_assert_int_eq(ohm_nodal_adjoint(dv, dg, &b.n, b.word, b.bit, b.off, weight,
                                               i % 2 ? cell : NULL, OHM_NODAL_TOLERANCE, b.scratch,
                                               NULL),
                             OHM_SOLVE_OK);
            for (int x = 0; x < R * C + R; x++) {
                double *at = x < R * C ? &b.g[x] : &b.v[x - R * C], held = *at,
                       h = x < R * C ? 1e-3 * (held + 1e-5) : 1e-4;
                double got = x < R * C ? dg[x] : dv[x - R * C], d[2];
                for (int half = 0; half < 2; half++) { /* Richardson: h and h/2 */
                    double step = h / (half + 1);
                    *at = held + step;
                    d[half] = loss_of(&b, weight, cell, b.off);
                    *at = held - step;
                    d[half] = (d[half] - loss_of(&b, weight, cell, b.off)) / (2.0 * step);
                }
                *at = held;
                double want = (4.0 * d[1] - d[0]) / 3.0;
                if (b.off[x < R * C ? x / C : x - R * C]) /* only its own line feels it */
                    want = x < R * C ? 0.0 : want;
                double scale = x < R * C ? 10.0 : 1e-2;
                ck_assert_msg(fabs(got - want) <= 1e-6 * (fabs(want) + scale),
                              "law %d case %d %d: adjoint %g, differences %g", law, i, x, got,
                              want);
            }
            bench_free(&b);
        }
}

/* Both ways through the break-even, gated and not, and any number of threads. */
OHM_TEST(irdrop_network, many_inputs)
{
    enum { R = 40, C = 30, INPUTS = 24 };
    bench b;
    bench_make(&b, R, C, wires_of(40, 1), 1e-3, linear, 5u);
    double *v = malloc((size_t)INPUTS * R * sizeof *v),
           *got = malloc((size_t)INPUTS * C * sizeof *got),
           *again = malloc((size_t)INPUTS * C * sizeof *got);
    uint32_t seed = 2;
    for (int i = 0; i < INPUTS; i++) /* a third shares its rows, the others have their own */
        for (int r = 0; r < R; r++)
            v[i * R + r] = (i % 3 ? next(&seed) < 0.5 : r % 4 == 0) ? 0.0 : next(&seed);
    ck_assert(ohm_nodal_prefers_matrix(INPUTS / 3));
    ck_assert(!ohm_nodal_prefers_matrix(1));
    for (int gated = 0; gated < 2; gated++) {
        ohm_solve_report report;
        ck_assert_int_eq(
            ohm_nodal_solve_many(got, &b.n, v, INPUTS, gated, OHM_NODAL_TOLERANCE, &report),
            OHM_SOLVE_OK);
        ck_assert_int_eq(report.method, gated ? OHM_METHOD_LINE_CG : OHM_METHOD_G_EFF);
        for (int i = 0; i < INPUTS; i++) {
            memcpy(b.v, v + i * R, R * sizeof *v);
            for (int r = 0; r < R; r++)
                b.off[r] = b.v[r] == 0.0;
            ck_assert_int_eq(solve(&b, gated ? b.off : NULL), OHM_SOLVE_OK);
            double error = off_by(got + i * C, b.current, C);
            ck_assert_msg(error < 1e-11, "gated %d, input %d: off by %.2g", gated, i, error);
        }
        omp_set_num_threads(3);
        ck_assert_int_eq(
            ohm_nodal_solve_many(again, &b.n, v, INPUTS, gated, OHM_NODAL_TOLERANCE, NULL),
            OHM_SOLVE_OK);
        omp_set_num_threads(1);
        ck_assert_int_eq(
            ohm_nodal_solve_many(again, &b.n, v, INPUTS, gated, OHM_NODAL_TOLERANCE, NULL),
            OHM_SOLVE_OK);
        ck_assert_mem_eq(got, again, (size_t)INPUTS * C * sizeof *got);
    }
    free(v);
    free(got);
    free(again);
    bench_free(&b);
}

OHM_TEST(irdrop_network, methods)
{
    static const struct {
        int iv;
        double coefficient;
        int method;
    } cases[] = {{OHM_CELL_SINH, 0.5, OHM_METHOD_CHORD},
                 {OHM_CELL_CUBIC, 0.05, OHM_METHOD_CHORD},
                 {OHM_CELL_SINH, 5.0, OHM_METHOD_NEWTON},
                 {OHM_CELL_SINH, 50.0, OHM_METHOD_NEWTON}};
    for (int i = 0; i < 4; i++) {
        bench b;
        bench_make(&b, 64, 64, wires_of(40, 0), 1e-4,
                   ohm_cell_law_at(cases[i].iv, cases[i].coefficient, 1.0), 5u);
        ohm_solve_status status = solve(&b, NULL);
        ck_assert_msg(status == OHM_SOLVE_OK && b.report.method == cases[i].method &&
                          b.report.iterations > 0 && b.report.residual <= 1e-12,
                      "case %d: status %d, method %d, %d steps, residual %.2g", i, status,
                      b.report.method, b.report.iterations, b.report.residual);
        bench_free(&b);
    }
}

/* A steep tile of steep cells: 1e-9 of the largest current against the residual's own promise, by a
 * solution that is asked for more. */
OHM_TEST(irdrop_network, steep_cells_on_steep_tiles)
{
    static const double ohms[] = {1.0, 10.0, 40.0};
    for (int i = 0; i < 3; i++)
        for (int a = 1; a <= 5; a += 2) {
            bench b;
            ohm_wires wires = {.word_line = ohms[i], .bit_line = ohms[i]};
            bench_make(&b, 128, 128, wires, 1e-3, ohm_cell_law_at(OHM_CELL_SINH, a, 1.0), 5u);
            ohm_solve_status status =
                ohm_nodal_solve(b.want, NULL, NULL, &b.n, b.v, NULL, 1e-6, b.scratch, &b.report);
            double promised = b.report.residual;
            ck_assert_int_eq(status, OHM_SOLVE_OK);
            status = solve(&b, NULL);
            double error = off_by(b.want, b.current, 128);
            ck_assert_msg(status == OHM_SOLVE_OK && b.report.residual < 1e-10 &&
                              error <= promised * 3.0,
                          "%g ohm, a %d: status %d, residual %.2g, off by %.2g against %.2g",
                          ohms[i], a, status, b.report.residual, error, promised);
            bench_free(&b);
        }
}

OHM_TEST(irdrop_network, refusals)
{
    bench b;
    bench_make(&b, 6, 5, wires_of(40, 0), 1e-3, linear, 1u);
    double held = b.g[7];
    b.current[0] = 17.0;
    for (int i = 0; i < 3; i++) {
        b.g[7] = i == 0 ? -1e-6 : i == 1 ? NAN : INFINITY;
        ck_assert_int_eq(solve(&b, NULL), OHM_SOLVE_NOT_FINITE);
    }
    b.g[7] = held;
    b.v[3] = NAN;
    ck_assert_int_eq(solve(&b, NULL), OHM_SOLVE_NOT_FINITE);
    ck_assert_int_eq(ohm_nodal_solve_many(b.want, &b.n, b.v, 1, 0, 1e-12, NULL),
                     OHM_SOLVE_NOT_FINITE);
    b.v[3] = 0.5;
    b.n.tile.wires.bit_line = -1.0;
    ck_assert_int_eq(solve(&b, NULL), OHM_SOLVE_NOT_FINITE);
    b.n.tile.wires.bit_line = 1.0;
    /* 2 V across cells whose current falls beyond 1 V */
    b.n.law = (ohm_cell_law){OHM_CELL_CUBIC, 1.0 / 3.0, 1.0};
    for (int r = 0; r < 6; r++)
        b.v[r] = 2.0;
    bench_free(&b);
    bench_make(&b, 6, 5, wires_of(40, 0), 1e-6, (ohm_cell_law){OHM_CELL_CUBIC, 1.0 / 3.0, 1.0}, 1u);
    b.current[0] = 17.0;
    for (int r = 0; r < 6; r++)
        b.v[r] = 2.0;
    ck_assert_int_eq(solve(&b, NULL), OHM_SOLVE_OUT_OF_RANGE);
    /* a current that no double holds */
    b.n.law = (ohm_cell_law){OHM_CELL_SINH, 1e4, 1.0};
    ohm_solve_status status = solve(&b, NULL);
    ck_assert_int_eq(status, OHM_SOLVE_NOT_FINITE);
    /* and one that Newton approaches by 1/a a step, 500 of them away */
    b.n.law.coefficient = 1e4;
    for (int r = 0; r < 6; r++)
        b.v[r] = 0.05;
    ck_assert_int_eq(solve(&b, NULL), OHM_SOLVE_NOT_CONVERGED);
    ck_assert_double_eq(b.current[0], 17.0);
    bench_free(&b);
}
