/* Programming noise and stuck cells against physics.md sections 3 and 4: cells one by one. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/fixture_physics.h"
#include "tests/runner.h"

enum { CELLS = 1 << 16, TEXT = 1024 };

static const ohm_chip_moment moment = {.seed = 4, .chip = 1, .step = 3};

/* CELLS cells of 7 bits at one level, µS. */
static double *cells(const char *settings, int level, const ohm_chip_moment *when)
{
    char text[2 * TEXT];
    double *g = malloc(CELLS * sizeof *g);
    ck_assert_ptr_nonnull(g);
    snprintf(text, sizeof text, "weight.cell_bits=7 %s", settings);
    physics_cells(g, text, level, CELLS, when);
    return g;
}

static double target(const char *settings, int level)
{
    char text[2 * TEXT];
    snprintf(text, sizeof text, "weight.cell_bits=7 %s", settings);
    return physics_target_us(text, level);
}

static void check_normal(const char *settings, int level, double mean, double sd)
{
    double *g = cells(settings, level, &moment);
    OHM_ASSERT(ohm_compare_normal(g, CELLS, mean, sd, OHM_ALPHA));
    OHM_ASSERT(ohm_compare_normal_moments(g, CELLS, mean, sd, OHM_ALPHA));
    free(g);
}

/* G exp(level sigma z): the median stays, the mean rises by 0.1, 0.5 and 1.1 % at sigma 0.05. */
OHM_TEST(physics_program, lognormal_keeps_the_median)
{
    static const double rise[] = {0.00125, 0.00501, 0.01131};
    for (int level = 1; level <= 3; level++) {
        char settings[TEXT];
        snprintf(settings, sizeof settings, "programming.model=lognormal programming.sigma=0.05 programming.level=%d", level);
        double *g = cells(settings, 90, &moment), *logarithm = malloc(CELLS * sizeof *logarithm), g0 = target(settings, 90), sd = 0.05 * level;
        int below = 0;
        for (int i = 0; i < CELLS; i++) {
            logarithm[i] = log(g[i] / g0);
            below += g[i] < g0;
        }
        OHM_ASSERT(ohm_compare_normal(logarithm, CELLS, 0, sd, OHM_ALPHA));
        OHM_ASSERT(ohm_compare_normal_moments(logarithm, CELLS, 0, sd, OHM_ALPHA));
        ck_assert(physics_binomial_z(below, CELLS, 0.5) < 5.0);
        ohm_moments got = ohm_moments_of(g, CELLS);
        double mean = got.mean / g0 - 1.0;
        ck_assert_msg(fabs(mean - rise[level - 1]) < 5.0 * got.mean_se / g0, "level %d: the mean rose by %g", level, mean);
        free(g);
        free(logarithm);
    }
}

/* Every level, zero included, gets its factor: a cell at G_min is a cell. */
OHM_TEST(physics_program, lognormal_moves_the_smallest_conductance_too)
{
    double *g = cells("programming.model=lognormal cell.on_off=20", 0, &moment);
    for (int i = 0; i < CELLS; i++)
        g[i] = log(g[i] / 1.25);
    OHM_ASSERT(ohm_compare_normal(g, CELLS, 0, 0.05, OHM_ALPHA));
    free(g);
}

OHM_TEST(physics_program, gaussian_is_a_share_of_g_max)
{
    check_normal("programming.model=gaussian programming.sigma=0.02", 120, target("", 120), 0.02 * 25);
    check_normal("programming.model=gaussian programming.sigma=0.02 programming.level=2 cell.g_max_us=60", 70, target("cell.g_max_us=60", 70),
                 0.04 * 60);
}

OHM_TEST(physics_program, proportional_is_a_share_of_g)
{
    check_normal("programming.model=proportional programming.sigma=0.1", 120, target("", 120), 0.1 * target("", 120));
    check_normal("programming.model=proportional programming.sigma=0.1", 3, target("", 3), 0.1 * target("", 3));
}

/* sigma in µS by ascending powers of G/g_max, times the level; a negative one is none. */
OHM_TEST(physics_program, polynomial_is_in_microsiemens)
{
    const char *settings = "programming.model=polynomial programming.coefficients_us=[0.2,1.5,-1.1] programming.level=0.5 cell.on_off=4";
    for (int level = 20; level <= 127; level += 107) {
        double g = target(settings, level), x = g / 25;
        check_normal(settings, level, g, 0.5 * (0.2 + 1.5 * x - 1.1 * x * x));
    }
    const char *none = "programming.model=polynomial programming.coefficients_us=[-0.2]";
    double *g = cells(none, 50, &moment), expected = target("", 50);
    for (int i = 0; i < CELLS; i++)
        ck_assert(fabs(g[i] - expected) < 1e-12);
    free(g);
}

OHM_TEST(physics_program, exponential_saturates)
{
    const char *settings = "programming.model=exponential programming.coefficients_us=[0.9,4.5]";
    for (int level = 30; level <= 127; level += 97) {
        double g = target("", level);
        check_normal(settings, level, g, 0.9 * (1.0 - exp(-g / 4.5)));
    }
}

/* A measured device: mean and sigma linear between the rows of a CSV file, constant beyond. */
OHM_TEST(physics_program, table_interpolates_mean_and_sigma)
{
    char path[512], settings[TEXT];
    snprintf(path, sizeof path, "%s/device.csv", ohm_test_tmpdir());
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs("target,mean,sigma\n5,4,0.2\n10,12,0.4\n20,19,1\n", f);
    ck_assert_int_eq(fclose(f), 0);
    snprintf(settings, sizeof settings, "programming.model=table programming.table=%s cell.on_off=inf cell.g_max_us=25.4", path);
    check_normal(settings, 20, 4.0, 0.2);            /* 4 µS: below the first row */
    check_normal(settings, 25, 4.0, 0.2);            /* 5 µS */
    check_normal(settings, 40, 4.0 + 0.6 * 8, 0.32); /* 8 µS: three fifths of the way */
    check_normal(settings, 75, 15.5, 0.7);           /* 15 µS */
    check_normal(settings, 127, 19.0, 1.0);          /* 25.4 µS: above the last */
}

/* Nandakumar et al. 2019: (0.26348 + 1.9650 x - 1.1731 x^2) G_max/25 µS. */
OHM_TEST(physics_program, pcm_law)
{
    for (int g_max = 25; g_max <= 50; g_max += 25) {
        char settings[TEXT];
        snprintf(settings, sizeof settings, "programming.model=pcm cell.on_off=inf cell.g_max_us=%d", g_max);
        for (int level = 64; level <= 127; level += 63) {
            double x = level / 127.0;
            check_normal(settings, level, x * g_max, (0.26348 + 1.9650 * x - 1.1731 * x * x) * g_max / 25.0);
        }
    }
}

/* No negative conductance: what would be below 0 is 0, P = Phi(-G/sigma). */
OHM_TEST(physics_program, conductance_stops_at_zero)
{
    double *g = cells("programming.model=pcm cell.on_off=inf", 0, &moment);
    int zero = 0;
    double most = 0.0, sum = 0.0;
    for (int i = 0; i < CELLS; i++) {
        ck_assert(g[i] >= 0.0);
        zero += g[i] == 0.0;
        sum += g[i];
        most = fmax(most, g[i]);
    }
    ck_assert(physics_binomial_z(zero, CELLS, 0.5) < 5.0);
    double mean = 0.26348 / sqrt(2.0 * M_PI), sd = 0.26348 * sqrt(0.5 - 0.5 / M_PI); /* of max(0, sigma z) */
    ck_assert_msg(fabs(sum / CELLS - mean) < 5.0 * sd / sqrt(CELLS), "mean %g, not %g", sum / CELLS, mean);
    ck_assert(most < 7.0 * 0.26348);
    free(g);
}

/* Write-verify: the gaussian cut at ±tolerance sigmas and drawn by inverse CDF, not clamped. */
OHM_TEST(physics_program, write_verify_truncates)
{
    static const double tolerances[] = {0.05, 0.7, 2.0};
    for (int i = 0; i < 3; i++) {
        char settings[TEXT];
        snprintf(settings, sizeof settings, "programming.model=gaussian programming.sigma=0.02 programming.tolerance=%g", tolerances[i]);
        double *g = cells(settings, 100, &moment), g0 = target("", 100), most = 0.0;
        for (int j = 0; j < CELLS; j++) {
            g[j] = (g[j] - g0) / 0.5;
            most = fmax(most, fabs(g[j]));
        }
        ck_assert_msg(most <= tolerances[i] + 1e-6 && most > 0.99 * tolerances[i], "largest |z| %g", most);
        OHM_ASSERT(ohm_compare_ks(g, CELLS, physics_cdf_truncated, &tolerances[i], OHM_ALPHA));
        free(g);
        snprintf(settings, sizeof settings, "programming.model=lognormal programming.sigma=0.1 programming.tolerance=%g", tolerances[i]);
        g = cells(settings, 100, &moment);
        for (int j = 0; j < CELLS; j++)
            g[j] = log(g[j] / g0) / 0.1;
        OHM_ASSERT(ohm_compare_ks(g, CELLS, physics_cdf_truncated, &tolerances[i], OHM_ALPHA));
        free(g);
    }
}

/* ---- What is drawn when ------------------------------------------------------------------------- */

static double correlation_with(const double *g, const char *settings, const ohm_chip_moment *when)
{
    double *other = cells(settings, 100, when), r = physics_correlation(g, other, CELLS);
    free(other);
    return r;
}

OHM_TEST(physics_program, drawn_per_programming)
{
    const char *settings = "programming.model=gaussian programming.sigma=0.02";
    const double limit = 5.0 / sqrt(CELLS);
    ohm_chip_moment other = moment;
    double *g = cells(settings, 100, &moment);
    ck_assert(correlation_with(g, settings, &moment) > 1.0 - 1e-9);
    other.step++;
    ck_assert(fabs(correlation_with(g, settings, &other)) < limit);
    other = moment;
    other.chip++;
    ck_assert(fabs(correlation_with(g, settings, &other)) < limit);
    other = moment;
    other.seed++;
    ck_assert(fabs(correlation_with(g, settings, &other)) < limit);
    other = moment;
    other.evaluation = 1;
    ck_assert(fabs(correlation_with(g, settings, &other)) < limit);
    ck_assert(fabs(physics_correlation(g, g + 1, CELLS - 1)) < limit);
    free(g);
}

/* ---- Stuck cells -------------------------------------------------------------------------------- */

static const char faulty[] = "faults.stuck_off=0.1 faults.stuck_on=0.05 faults.stuck_random=0.2 cell.on_off=5";

OHM_TEST(physics_program, stuck_cells_have_their_shares_and_values)
{
    double *g = cells(faulty, 50, &moment);
    int count[128] = {0};
    for (int i = 0; i < CELLS; i++) {
        double level = (g[i] - 5.0) / (20.0 / 127);
        ck_assert_msg(fabs(level - rint(level)) < 1e-9 && level > -0.5 && level < 127.5, "cell %d is at level %g", i, level);
        count[(int)rint(level)]++;
    }
    for (int level = 0; level < 128; level++) { /* a random level is any of the 128 */
        double p = 0.2 / 128 + (level == 0 ? 0.1 : level == 127 ? 0.05 : level == 50 ? 0.65 : 0.0);
        ck_assert_msg(physics_binomial_z(count[level], CELLS, p) < 5.5, "level %d: %d of %d, probability %g", level, count[level], CELLS, p);
    }
    free(g);
}

/* They belong to the chip, and neither vary, drift nor feel the temperature. */
OHM_TEST(physics_program, stuck_cells_stay_as_they_are)
{
    char settings[TEXT];
    ohm_chip_moment later = {.seed = 4, .chip = 1, .step = 900, .evaluation = 1, .time_s = 1e6};
    snprintf(settings, sizeof settings, "%s programming.model=lognormal retention.model=power_law retention.nu_sigma=0.02 temperature.kelvin=350 "
                                        "temperature.activation_ev=0.1", faulty);
    double *plain = cells(faulty, 50, &moment), *old = cells(settings, 50, &later), g0 = target(faulty, 50);
    int stuck = 0, same = 0, apart = 0;
    for (int i = 0; i < CELLS; i++)
        if (fabs(plain[i] - g0) > 1e-9) {
            stuck++;
            same += fabs(old[i] - plain[i]) < 1e-9;
        } else
            apart += fabs(old[i] - g0) > 1e-9;
    ck_assert(physics_binomial_z(stuck, CELLS, 0.15 + 0.2 * 127 / 128) < 5.0);
    ck_assert_int_eq(same, stuck);
    ck_assert(physics_binomial_z(CELLS - stuck - apart, CELLS, 0.2 / 128) < 5.0); /* stuck at level 50 by chance */
    later.chip = 2;
    double *another = cells(faulty, 50, &later);
    int both = 0;
    for (int i = 0; i < CELLS; i++)
        both += fabs(another[i] - g0) > 1e-9 && fabs(plain[i] - g0) > 1e-9;
    ck_assert(physics_binomial_z(both, CELLS, pow(0.15 + 0.2 * 127 / 128, 2)) < 5.0);
    free(plain);
    free(old);
    free(another);
}

/* A cell stuck on in an ideal pair: the weight is off by the whole missing level. */
OHM_TEST(physics_program, stuck_cells_reach_the_output)
{
    fixture_layer l;
    fixture_layer_make(&l, 1, 1, 500);
    physics_uniform(&l, (const float[]){1}, (const float[]){100});
    fixture_forward(&l, &(fixture_run){.settings = PHYSICS_ONE_READ "faults.stuck_on=0.3", .moment = {.seed = 8}});
    int count[4] = {0};
    for (int n = 0; n < 500; n++) { /* (G+, G-) = free or stuck */
        static const float values[] = {100, 127, 100 - 127, 0};
        int found = -1;
        for (int i = 0; i < 4; i++)
            if (fabsf(l.y[n] - values[i]) < 1e-3f)
                found = i;
        ck_assert_msg(found >= 0, "column %d: %g", n, (double)l.y[n]);
        count[found]++;
    }
    static const double share[] = {0.49, 0.21, 0.21, 0.09};
    for (int i = 0; i < 4; i++)
        ck_assert(physics_binomial_z(count[i], 500, share[i]) < 5.0);
    fixture_layer_free(&l);
}
