/* Programming: the vectorised pipeline against one cell at a time with libm. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/cpu.h"
#include "kernels/half_math.h"
#include "kernels/program_cell.h"
#include "kernels/program_task.h"
#include "tests/compare.h"
#include "tests/fixture_chip.h"
#include "tests/runner.h"

static const char *const models[] = {
    "programming.model=none",
    "programming.model=lognormal programming.sigma=0.1 programming.level=2",
    "programming.model=gaussian programming.sigma=0.03 programming.tolerance=1.5",
    "programming.model=proportional programming.sigma=0.1 faults.stuck_off=0.05 "
    "faults.stuck_on=0.04 faults.stuck_random=0.03",
    "programming.model=polynomial programming.coefficients_us=[0.3,2,-1.2] "
    "retention.model=power_law retention.nu=0.06 retention.nu_sigma=0.02 "
    "retention.time_s=3600",
    "programming.model=exponential programming.coefficients_us=[2,9] retention.model=logarithmic "
    "retention.log_slope_us=0.09 "
    "retention.log_sigma_us=0.4 retention.log_sigma_slope_us=0.04 retention.time_s=86400 "
    "retention.floor_us=0.5",
    "programming.model=pcm retention.model=pcm retention.one_over_f=true retention.time_s=86400",
    "programming.model=pcm retention.model=pcm retention.pcm_law=hermes retention.one_over_f=true "
    "retention.time_s=1e6",
    "programming.model=lognormal temperature.kelvin=360 temperature.activation_ev=0.1 "
    "temperature.activation_sigma_ev=0.02",
    "programming.model=lognormal ir_drop.model=closed_form ir_drop.r_driver_ohm=10 "
    "ir_drop.r_sense_ohm=5 ir_drop.drive=both_ends",
    "programming.model=lognormal mvm.precision=fp16",
    "programming.model=lognormal ir_drop.model=closed_form ir_drop.sense=both_ends "
    "ir_drop.r_wordline_ohm=3",
    "programming.model=lognormal ir_drop.model=exact ir_drop.r_driver_ohm=10 ir_drop.r_sense_ohm=5 "
    "ir_drop.r_wordline_ohm=3",
    "programming.model=lognormal ir_drop.model=exact ir_drop.drive=both_ends "
    "ir_drop.sense=both_ends ir_drop.r_wordline_ohm=3",
};
static const char *const mappings[] = {
    "weight.encoding=differential weight.cell_bits=2 tile.pair=interleaved",
    "weight.encoding=differential weight.cell_bits=4 weight.subtract=digital cell.on_off=10",
    "weight.encoding=offset weight.cell_bits=3 tile.cols=10",
    "weight.encoding=offset weight.cell_bits=8 weight.subtract=digital tile.cols=20",
};

/* Value that the packed tiles should hold, from the reference cells. */
static double expected(const fixture_chip *c, int slice, int array, int k, int n)
{
    const ohm_geometry *g = &c->g;
    size_t cells = (size_t)g->k * g->n,
           at = ((size_t)slice * (g->differential ? 2 : 1) + array) * cells + (size_t)k * g->n + n;
    if (g->digital)
        return c->cells.g[at] - g->pedestal;
    if (g->differential)
        return c->cells.g[at] - c->cells.g[at + cells];
    return c->cells.g[at] -
           c->cells.g_ref[((size_t)slice * g->k + k) * g->column_tiles + n / g->tile_columns];
}

static int tile_of(const ohm_geometry *g, int k)
{
    int t = 0;
    while (k >= ohm_tile_begin(g, t + 1))
        t++;
    return t;
}

OHM_TEST_SLOW(program, fast_is_reference)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        for (size_t j = 0; j < sizeof mappings / sizeof *mappings; j++) {
            char settings[1024];
            fixture_chip c;
            int k = 45, n = 29;
            snprintf(settings, sizeof settings, "%s tile.rows=32 %s", mappings[j], models[i]);
            fixture_chip_make(&c, settings, k, n, 4, 0.3);
            double largest = 0.0;
            for (int slice = 0; slice < c.g.slices; slice++)
                for (int array = 0; array < ohm_arrays(&c.g); array++)
                    for (int row = 0; row < k; row++)
                        for (int column = 0; column < n; column++) {
                            int t = tile_of(&c.g, row);
                            size_t base = ((size_t)slice * ohm_arrays(&c.g) + array) * (size_t)k *
                                          ohm_packed_columns(&c.g);
                            float got = c.tiles.w[base + ohm_packed_index(
                                                             &c.g, t, row - ohm_tile_begin(&c.g, t),
                                                             ohm_packed_position(&c.g, column))];
                            double want = expected(&c, slice, array, row, column);
                            largest = fmax(largest, fabs(want));
                            /* one float rounding of a value of at most a few hundred levels, measured 6e-8 relative; the march in
                             * float, measured 5.2e-6 of g_max with both bit-line ends sensed */
                            double allowed = 1e-7 * fabs(want) +
                                             (c.programming.ir == OHM_WIRES_EXACT ? 8e-6 : 1e-9) *
                                                 c.programming.g_max;
                            ck_assert_msg(
                                fabs(got - want) <= allowed,
                                "%s: slice %d array %d cell (%d, %d) is %.9g, the reference %.9g",
                                settings, slice, array, row, column, (double)got, want);
                        }
            ck_assert_double_gt(largest, 0.5);
            fixture_chip_free(&c);
        }
}

/* Number of halves that are not those of single precision. */
static size_t not_halves(const float *got, const float *single, size_t count, float scale)
{
    size_t wrong = 0, changed = 0;
    for (size_t i = 0; i < count; i++) {
        wrong += got[i] != ohm_half_round(scale * single[i]) / scale;
        changed += got[i] != single[i];
    }
    ck_assert_uint_gt(changed, count / 4); /* some are padding */
    return wrong;
}

/* mvm.precision fp16: conductances and variances are those of fp32, rounded once after everything else. */
OHM_TEST(program, fp16_is_fp32_rounded_once)
{
    static const char *const effects =
        "tile.rows=32 programming.model=lognormal retention.model=power_law "
        "retention.time_s=3600 read.model=pcm read.sigma=0.02";
    static const char *const wires[] = {"", "ir_drop.model=closed_form", "ir_drop.model=exact"};
    for (size_t i = 0; i < sizeof mappings / sizeof *mappings; i++)
        for (size_t j = 0; j < sizeof wires / sizeof *wires; j++) {
            char settings[1024];
            fixture_chip half, single;
            snprintf(settings, sizeof settings, "%s %s %s", effects, mappings[i], wires[j]);
            fixture_chip_make(&single, settings, 45, 29, 4, 0.3);
            snprintf(settings, sizeof settings, "%s %s %s mvm.precision=fp16", effects, mappings[i],
                     wires[j]);
            fixture_chip_make(&half, settings, 45, 29, 4, 0.3);
            const ohm_geometry *g = &half.g;
            size_t count =
                (size_t)g->slices * ohm_arrays(g) * g->k * ohm_packed_columns(g);
            ck_assert_uint_eq(not_halves(half.tiles.w, single.tiles.w, count, 1.0f), 0);
            ck_assert_uint_eq(not_halves(half.tiles.variance, single.tiles.variance, count,
                                         ohm_variance_scale(g)),
                              0);
            size_t cells = (size_t)g->k * g->n;
            for (size_t c = 0; c < (g->differential ? 2 : 1) * cells; c++) {
                double sum = half.cells.variance[c];
                ck_assert_double_ge(sum, 0.0);
                if (!g->differential || g->digital || c >= cells)
                    continue;
                sum += half.cells.variance[c + cells];
                float held = ohm_half_round(ohm_variance_scale(g) * (float)sum);
                ck_assert_double_eq_tol(sum, held / ohm_variance_scale(g), 1e-12);
            }
            fixture_chip_free(&half);
            fixture_chip_free(&single);
        }
}

OHM_TEST(program, same_bits_for_any_thread_count)
{
    for (size_t j = 0; j < sizeof mappings / sizeof *mappings; j++) {
        char settings[1024];
        fixture_chip c;
        int k = 200, n = 150;
        snprintf(settings, sizeof settings, "%s tile.rows=64 %s", mappings[j], models[6]);
        fixture_chip_make(&c, settings, k, n, 4, 0.3);
        size_t count = (size_t)c.g.slices * ohm_arrays(&c.g) * k * ohm_packed_columns(&c.g);
        float *one = calloc(count, sizeof *one);
        ohm_tiles tiles = c.tiles;
        tiles.w = one;
        omp_set_num_threads(1);
        ohm_program_cpu(&tiles, NULL, &c.g, &c.programming, &c.law, c.johnson, c.levels,
                        c.ref_level, c.scratch);
        omp_set_num_threads(2);
        ohm_program_cpu(&c.tiles, NULL, &c.g, &c.programming, &c.law, c.johnson, c.levels,
                        c.ref_level, c.scratch);
        OHM_ASSERT(ohm_compare_bits(c.tiles.w, one, count));
        free(one);
        fixture_chip_free(&c);
    }
}

OHM_TEST(program, same_bits_on_every_instruction_set)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        fixture_chip c;
        double g[2][OHM_CELLS], slope[2][OHM_CELLS];
        fixture_chip_make(&c, models[i], 40, 30, 4, 0.3);
        for (ohm_isa isa = OHM_ISA_BASE; isa <= ohm_cpu_isa(); isa++) {
            int now = isa != OHM_ISA_BASE;
            ohm_cells_task_of(isa)(g[now], slope[now], &c.programming, c.levels + 11, 11, 97);
            OHM_ASSERT(ohm_compare_bits(g[now], g[0], 97));
            OHM_ASSERT(ohm_compare_bits(slope[now], slope[0], 97));
        }
        fixture_chip_free(&c);
    }
}

/* d g / d level of every stage, by central differences of the reference at real levels. */
OHM_TEST(program, slopes)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char settings[1024];
        fixture_chip c;
        snprintf(settings, sizeof settings, "weight.cell_bits=4 tile.rows=32 %s", models[i]);
        fixture_chip_make(&c, settings, 8, 8, 4, 0.3);
        for (uint64_t e = 0; e < 200; e++) {
            double level = 0.3 + 14.0 * (double)(e % 37) / 37.0, h = 1e-5, slope;
            double up = ohm_program_cell_ref(&c.programming, level + h, e, NULL),
                   down = ohm_program_cell_ref(&c.programming, level - h, e, NULL);
            ohm_program_cell_ref(&c.programming, level, e, &slope);
            double difference = (up - down) / (2.0 * h);
            ck_assert_msg(fabs(slope - difference) <= 2e-5 * fabs(difference) + 2e-5,
                          "%s: level %g: slope %.9g, difference quotient %.9g", settings, level,
                          slope, difference);
        }
        fixture_chip_free(&c);
    }
}

OHM_TEST(program, elementary_functions)
{
    for (double x = -700.0; x < 700.0; x += 0.37)
        ck_assert_double_le(fabs(ohm_exp(x) / exp(x) - 1.0), 1e-15);
    for (double x = 1e-300; x < 1e300; x *= 1.37)
        ck_assert_double_le(fabs(ohm_log(x) - log(x)), 4e-16 * fmax(1.0, fabs(log(x))));
    for (double z = -6.0; z < 6.0; z += 0.01)
        ck_assert_double_le(fabs(ohm_truncate_normal(z, 40.0) - z), 1e-6);
    ck_assert_double_le(fabs(ohm_truncate_normal(9.0, 2.0)), 2.0);
    ck_assert_double_eq(ohm_truncate_normal(0.3, 0.0), 0.0);
}
