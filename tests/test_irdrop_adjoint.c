/* The gradient of exact IR drop: against Kirchhoff's equations, against differences of the forward, and
 * what the cheap gradient of the closed form is worth. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/gemm.h"
#include "kernels/irdrop_adjoint.h"
#include "kernels/irdrop_fields.h"
#include "tests/compare.h"
#include "tests/fixture_chip.h"
#include "tests/reference_wires.h"
#include "tests/runner.h"

static double next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) / 16777216.0;
}

typedef struct {
    ohm_crosspoint tile;
    int cells;
    double *g, *d_geff, *dg, *want;
    float *single;      /* [3][cells]: g, d_geff, dg */
    void *scratch[2];   /* float, double */
} problem;

/* Conductances up to g_max siemens, on/off 100, 4 of 10 off; a random gradient of g_eff. */
static problem make(int rows, int columns, ohm_wires wires, double g_max, uint32_t seed)
{
    problem p = {.tile = {rows, columns, wires}, .cells = rows * columns};
    ohm_gemm_one_thread();
    size_t bytes[] = {ohm_irdrop_exact_adjoint_bytes_f32(&p.tile), ohm_irdrop_exact_adjoint_bytes_f64(&p.tile)};
    double **fields[] = {&p.g, &p.d_geff, &p.dg, &p.want};
    for (int i = 0; i < 4; i++)
        *fields[i] = calloc((size_t)p.cells, sizeof(double));
    p.single = calloc((size_t)p.cells, 3 * sizeof *p.single);
    for (int i = 0; i < 2; i++)
        p.scratch[i] = ohm_guard_alloc(bytes[i], 1);
    for (int i = 0; i < p.cells; i++) {
        p.g[i] = next(&seed) < 0.4 ? g_max / 100.0 : g_max * (0.01 + 0.99 * next(&seed));
        p.d_geff[i] = 2.0 * next(&seed) - 1.0;
        p.single[i] = (float)p.g[i];
        p.single[p.cells + i] = (float)p.d_geff[i];
        p.g[i] = p.single[i]; /* both precisions see the same tile */
        p.d_geff[i] = p.single[p.cells + i];
    }
    return p;
}

static void drop(problem *p)
{
    for (int i = 0; i < 2; i++) {
        OHM_ASSERT(ohm_compare_guards(p->scratch[i]));
        ohm_guard_free(p->scratch[i]);
    }
    free(p->g);
    free(p->d_geff);
    free(p->dg);
    free(p->want);
    free(p->single);
}

/* Largest difference of dg from want, relative to want's largest. */
static double difference(const double *dg, const double *want, int cells)
{
    double error = 0.0, most = 0.0;
    for (int i = 0; i < cells; i++) {
        error = fmax(error, fabs(dg[i] - want[i]));
        most = fmax(most, fabs(want[i]));
    }
    return error / most;
}

static int solve_f64(problem *p)
{
    ohm_solve_report report;
    memset(p->dg, 0, (size_t)p->cells * sizeof *p->dg);
    ck_assert_int_eq(ohm_irdrop_exact_adjoint_f64(p->dg, p->d_geff, p->g, &p->tile, p->scratch[1], &report), OHM_SOLVE_OK);
    return report.renormalised;
}

static int solve_f32(problem *p)
{
    ohm_solve_report report;
    float *dg = p->single + 2 * p->cells;
    memset(dg, 0, (size_t)p->cells * sizeof *dg);
    ck_assert_int_eq(ohm_irdrop_exact_adjoint_f32(dg, p->single + p->cells, p->single, &p->tile, p->scratch[0], &report),
                     OHM_SOLVE_OK);
    for (int i = 0; i < p->cells; i++)
        p->dg[i] = dg[i];
    return report.renormalised;
}

typedef struct {
    double f64, f32; /* largest errors so far */
} margin;

static void check_reference(problem *p, double most_f64, margin *worst)
{
    const ohm_wires *w = &p->tile.wires;
    reference_wires_adjoint(p->want, p->d_geff, p->g, &p->tile);
    solve_f64(p);
    double f64 = difference(p->dg, p->want, p->cells);
    solve_f32(p);
    double f32 = difference(p->dg, p->want, p->cells);
    worst->f64 = fmax(worst->f64, f64);
    worst->f32 = fmax(worst->f32, f32);
    ck_assert_msg(f64 < most_f64 && f32 < 1e-5,
                  "%dx%d, word %g bit %g driver %g sense %g both %d%d: error %.2g in double, %.2g in float", p->tile.rows,
                  p->tile.columns, w->word_line, w->bit_line, w->driver, w->sense, w->drive_both, w->sense_both, f64, f32);
}

OHM_TEST(irdrop_adjoint, equals_kirchhoff)
{
    static const int shapes[][2] = {{1, 1}, {4, 4}, {1, 5}, {5, 1}, {9, 4}, {4, 9}};
    static const double ohms[] = {0.0, 1.0, 300.0};
    margin worst = {0, 0};
    for (int shape = 0; shape < 6; shape++)
        for (int i = 0; i < 81; i++)
            for (int ends = 0; ends < 4; ends++) {
                ohm_wires w = {.word_line = ohms[i % 3],
                               .bit_line = ohms[i / 3 % 3],
                               .driver = ohms[i / 9 % 3],
                               .sense = ohms[i / 27],
                               .drive_both = ends & 1,
                               .sense_both = ends >> 1};
                if ((w.drive_both && w.driver + w.word_line == 0.0) || (w.sense_both && w.sense + w.bit_line == 0.0))
                    continue; /* two ends in one point: the reference has a loop without resistance */
                problem p = make(shapes[shape][0], shapes[shape][1], w, 1e-4, (uint32_t)(i * 4 + ends));
                check_reference(&p, 1e-13, &worst);
                drop(&p);
            }
    printf("largest error %.1e in double, %.1e in float, of the largest entry\n", worst.f64, worst.f32);
}

static ohm_wires wired(double ohms, int ends)
{
    return (ohm_wires){.word_line = ohms, .bit_line = 0.8 * ohms, .driver = ohms, .sense = 2.0 * ohms,
                       .drive_both = ends & 1, .sense_both = ends >> 1};
}

/* rows·sqrt(r·g_max) = 6 and 25 (more than one segment in double), and what is steeper than any tile:
 * all segments of the recursion, and more of them than it has room for. */
OHM_TEST(irdrop_adjoint, steep_tiles)
{
    static const int shapes[][2] = {{17, 9}, {12, 14}};
    static const double steepness[] = {6.0, 25.0, 70.0, 1e4};
    margin worst[4] = {{0, 0}};
    /* at least; lines with one terminal are marched, even if shorter, where the others have two */
    static const int borders[2][4] = {{0, 1, 2, 11}, {0, 0, 1, 8}};
    for (int shape = 0; shape < 2; shape++)
        for (int i = 0; i < 4; i++)
            for (int ends = 0; ends < 4; ends++) {
                int rows = shapes[shape][0], columns = shapes[shape][1], longer = rows > columns ? rows : columns;
                double theta = steepness[i] / longer;
                problem p = make(rows, columns, wired(theta * theta / 1e-3, ends), 1e-3, (uint32_t)(shape * 16 + i * 4 + ends));
                check_reference(&p, theta < 100.0 ? 1e-12 : 1e-9, &worst[i]);
                int least = borders[ends == 1 || ends == 2][i];
                ck_assert_int_ge(solve_f64(&p), least);
                ck_assert_int_ge(solve_f32(&p), least);
                drop(&p);
            }
    for (int i = 0; i < 4; i++)
        printf("theta %g: largest error %.1e in double, %.1e in float\n", steepness[i], worst[i].f64, worst[i].f32);
}

static double loss(const problem *p, const double *direction, double h, void *scratch)
{
    double *g = malloc((size_t)p->cells * sizeof *g), sum = 0.0;
    for (int i = 0; i < p->cells; i++)
        g[i] = p->g[i] * (1.0 + h * direction[i]);
    ck_assert_int_eq(ohm_irdrop_exact_f64(g, g, &p->tile, scratch, NULL), OHM_SOLVE_OK);
    for (int i = 0; i < p->cells; i++)
        sum += p->d_geff[i] * g[i];
    free(g);
    return sum;
}

/* A difference of fourth order along a random direction, relative to the sum of what was added. */
static void check_forward(int rows, int columns, ohm_wires wires, double g_max)
{
    problem p = make(rows, columns, wires, g_max, 77);
    double *direction = malloc((size_t)p.cells * sizeof *direction), slope = 0.0, scale = 0.0, h = 1e-3;
    size_t bytes = ohm_irdrop_exact_bytes_f64(&p.tile);
    void *scratch = aligned_alloc(64, (bytes + 63) / 64 * 64);
    uint32_t seed = 5;
    solve_f64(&p);
    for (int i = 0; i < p.cells; i++) {
        direction[i] = 2.0 * next(&seed) - 1.0;
        slope += p.dg[i] * p.g[i] * direction[i];
        scale += fabs(p.dg[i] * p.g[i] * direction[i]);
    }
    double want = (8.0 * (loss(&p, direction, h, scratch) - loss(&p, direction, -h, scratch)) -
                   (loss(&p, direction, 2 * h, scratch) - loss(&p, direction, -2 * h, scratch))) / (12.0 * h);
    ck_assert_msg(fabs(slope - want) <= 1e-10 * scale, "%dx%d: slope %.12g, of the forward %.12g", rows, columns, slope, want);
    memcpy(p.want, p.dg, (size_t)p.cells * sizeof *p.want);
    solve_f32(&p);
    double f32 = difference(p.dg, p.want, p.cells);
    ck_assert_msg(f32 < 1e-5, "%dx%d: error in float %.2g", rows, columns, f32);
    printf("%dx%d, %g uS: %.1e from the forward's difference, float %.1e from double\n", rows, columns, 1e6 * g_max,
           fabs(slope - want) / scale, f32);
    free(direction);
    free(scratch);
    drop(&p);
}

OHM_TEST(irdrop_adjoint, equals_differences_of_the_forward)
{
    check_forward(128, 128, wired(1.0, 0), 1e-5);
    check_forward(128, 128, wired(1.0, 0), 1e-4);
    check_forward(128, 40, wired(10.0, 0), 1e-3);
    for (int ends = 0; ends < 4; ends++)
        check_forward(40, 90, wired(2.0, ends), 2e-4);
}

/* Every instruction set adds up the same numbers in the same order. */
OHM_TEST(irdrop_adjoint, same_bits_on_every_instruction_set)
{
#if defined(__x86_64__)
    enum { ROWS = 5, COLUMNS = 11, LANES = 2 * OHM_FIELDS_F32, WIDE = 2 * OHM_FIELDS_F64 };
    static float g[ROWS * COLUMNS] __attribute__((aligned(64))), v[ROWS * OHM_FIELDS_F32] __attribute__((aligned(64)));
    static float state[3][3][COLUMNS * LANES] __attribute__((aligned(64))), product[3][ROWS * COLUMNS], part[COLUMNS * 4] __attribute__((aligned(64)));
    static double wide_g[ROWS * COLUMNS], wide_v[ROWS * OHM_FIELDS_F64] __attribute__((aligned(64)));
    static double wide[3][3][COLUMNS * WIDE] __attribute__((aligned(64))), wide_product[3][ROWS * COLUMNS], wide_part[COLUMNS * 2] __attribute__((aligned(64)));
    ohm_fields_task_f32 *const f32[] = {ohm_fields_rows_f32_base, ohm_fields_rows_f32_avx2, ohm_fields_rows_f32_avx512};
    ohm_fields_task_f64 *const f64[] = {ohm_fields_rows_f64_base, ohm_fields_rows_f64_avx2, ohm_fields_rows_f64_avx512};
    uint32_t seed = 1;
    int sets = (int)ohm_cpu_isa() + 1;
    if (sets < 2)
        OHM_SKIP("this machine has one instruction set only");
    for (int i = 0; i < ROWS * COLUMNS; i++)
        wide_g[i] = g[i] = (float)next(&seed);
    for (int i = 0; i < ROWS * OHM_FIELDS_F32; i++)
        v[i] = (float)next(&seed);
    for (int i = 0; i < ROWS * OHM_FIELDS_F64; i++)
        wide_v[i] = next(&seed);
    for (int i = 0; i < COLUMNS * LANES; i++)
        state[0][0][i] = state[1][0][i] = state[2][0][i] = (float)next(&seed);
    for (int i = 0; i < COLUMNS * WIDE; i++)
        wide[0][0][i] = wide[1][0][i] = wide[2][0][i] = next(&seed);
    for (int i = 0; i < sets; i++) {
        ohm_fields_f32 m = {.rows = ROWS, .columns = COLUMNS, .source = 0.1f, .word = 0.2f, .bit = 0.3f, .terminal = 0.4f,
                            .far = 0.5f, .g = g, .ladder = g, .b = state[i][0], .k = state[i][1], .j = state[i][2], .v = v,
                            .ldv = OHM_FIELDS_F32, .product = product[i], .part = part};
        ohm_fields_f64 d = {.rows = ROWS, .columns = COLUMNS, .source = 0.1, .word = 0.2, .bit = 0.3, .terminal = 0.4,
                            .far = 0.5, .g = wide_g, .ladder = wide_g, .b = wide[i][0], .k = wide[i][1], .j = wide[i][2],
                            .v = wide_v, .ldv = OHM_FIELDS_F64, .product = wide_product[i], .part = wide_part};
        f32[i](&m, 0, ROWS);
        f64[i](&d, 0, ROWS);
        OHM_ASSERT(ohm_compare_bits(&state[i][0][0], &state[0][0][0], 3 * COLUMNS * LANES));
        OHM_ASSERT(ohm_compare_bits(product[i], product[0], ROWS * COLUMNS));
        OHM_ASSERT(ohm_compare_bits(&wide[i][0][0], &wide[0][0][0], 3 * COLUMNS * WIDE));
        OHM_ASSERT(ohm_compare_bits(wide_product[i], wide_product[0], ROWS * COLUMNS));
    }
    ck_assert(product[0][3] != 0.0f && wide_product[0][3] != 0.0);
#else
    OHM_SKIP("this machine has one instruction set only");
#endif
}

OHM_TEST(irdrop_adjoint, adds_or_leaves_alone)
{
    problem p = make(6, 9, wired(20.0, 0), 1e-3, 3);
    solve_f64(&p);
    memcpy(p.want, p.dg, (size_t)p.cells * sizeof *p.want);
    ck_assert_int_eq(ohm_irdrop_exact_adjoint_f64(p.dg, p.d_geff, p.g, &p.tile, p.scratch[1], NULL), OHM_SOLVE_OK);
    for (int i = 0; i < p.cells; i++)
        p.want[i] *= 2.0;
    OHM_ASSERT(ohm_compare_bits(p.dg, p.want, (size_t)p.cells));
    solve_f32(&p);
    float *dg = p.single + 2 * p.cells, before = dg[4];
    static const double bad[] = {-1e-9, NAN, INFINITY};
    for (int i = 0; i < 3; i++)
        for (int of = 0; of < (i ? 3 : 2); of++) {
            problem q = p;
            double *wide = of ? q.d_geff : q.g, keep = wide[3];
            float *single = of ? q.single + q.cells : q.single, keep_single = single[3];
            if (of == 1 && i == 0)
                continue; /* a gradient may be negative */
            if (of < 2) {
                wide[3] = bad[i];
                single[3] = (float)bad[i];
            } else
                q.tile.wires.bit_line = bad[i];
            ck_assert_int_eq(ohm_irdrop_exact_adjoint_f64(q.dg, q.d_geff, q.g, &q.tile, q.scratch[1], NULL), OHM_SOLVE_NOT_FINITE);
            ck_assert_int_eq(ohm_irdrop_exact_adjoint_f32(dg, q.single + q.cells, q.single, &q.tile, q.scratch[0], NULL), OHM_SOLVE_NOT_FINITE);
            wide[3] = keep;
            single[3] = keep_single;
        }
    ck_assert(dg[4] == before);
    drop(&p);
}

/* What the gradient of the closed form misses, with exact wires; the conductances themselves taken
 * (d g_eff = d g) beside it. Norm of the error over the norm of the exact gradient. */
OHM_TEST(irdrop_adjoint, error_of_the_closed_form)
{
    static const struct {
        double theta, low, high; /* bimodal cells, half of them off; uniform ones err by a third */
    } band[] = {{0.6, 0.003, 0.012}, {1.3, 0.03, 0.09}, {2.0, 0.12, 0.3}};
    enum { N = 128 };
    double *scratch = malloc((2 * N + 3) * N * sizeof *scratch);
    for (int i = 0; i < 6; i++) {
        int bimodal = i < 3;
        double theta = band[i % 3].theta, g_max = theta * theta / (N * N), closed = 0.0, none = 0.0, norm = 0.0;
        problem p = make(N, N, (ohm_wires){.word_line = 1.0, .bit_line = 1.0}, g_max, 9);
        for (int c = 0; c < p.cells && bimodal; c++)
            p.g[c] = p.d_geff[(c + 1) % p.cells] > 0.0 ? g_max : g_max / 100.0;
        solve_f64(&p);
        memset(p.want, 0, (size_t)p.cells * sizeof *p.want);
        ohm_irdrop_closed_adjoint(p.want, p.d_geff, p.g, N, N, 0, &p.tile.wires, scratch);
        for (int c = 0; c < p.cells; c++) {
            closed += (p.want[c] - p.dg[c]) * (p.want[c] - p.dg[c]);
            none += (p.d_geff[c] - p.dg[c]) * (p.d_geff[c] - p.dg[c]);
            norm += p.dg[c] * p.dg[c];
        }
        closed = sqrt(closed / norm);
        none = sqrt(none / norm);
        printf("%s cells, theta %.1f: the gradient of the closed form is off by %.2g, without wires by %.2g\n",
               bimodal ? "bimodal" : "uniform", theta, closed, none);
        ck_assert_msg(closed > band[i % 3].low * (bimodal ? 1.0 : 0.3) && closed < band[i % 3].high && none > 3.0 * closed,
                      "theta %g: error of the closed form %.3g, not in %g..%g; without wires %.3g", theta, closed,
                      band[i % 3].low, band[i % 3].high, none);
        drop(&p);
    }
    free(scratch);
}
