/* What time and temperature do to programmed cells, and drift compensation, against physics.md
 * sections 3 and 4. The laws' numbers are written out here a second time on purpose. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/fixture_physics.h"
#include "tests/runner.h"

enum { CELLS = 1 << 15, TEXT = 1024 };

static const double DAY = 86400.0;

static ohm_chip_moment at(double time_s)
{
    return (ohm_chip_moment){.seed = 11, .chip = 1, .evaluation = 1, .time_s = time_s};
}

/* CELLS cells of 7 bits, on_off inf, at one level and time, µS. */
static double *cells(const char *settings, int level, ohm_chip_moment moment)
{
    char text[3 * TEXT];
    double *g = malloc(CELLS * sizeof *g);
    ck_assert_ptr_nonnull(g);
    snprintf(text, sizeof text, "weight.cell_bits=7 cell.on_off=inf %s", settings);
    physics_cells(g, text, level, CELLS, &moment);
    return g;
}

/* -ln(G(t)/G(0)) / ln((t + t0)/t0): the drift exponent that a cell has shown. */
static double *exponents(const char *settings, int level, double time_s, double t0)
{
    double *fresh = cells(settings, level, at(0)), *aged = cells(settings, level, at(time_s));
    for (int i = 0; i < CELLS; i++)
        aged[i] = -log(aged[i] / fresh[i]) / log((time_s + t0) / t0);
    free(fresh);
    return aged;
}

/* ---- Retention ---------------------------------------------------------------------------------- */

OHM_TEST(physics_time, power_law_without_spread_is_exact)
{
    static const double times[] = {0, 1, 3600, 3e7};
    for (int i = 0; i < 4; i++) {
        double *g = cells("retention.model=power_law retention.nu=0.06 retention.t0_s=7", 100, at(times[i]));
        double expected = 25.0 * 100 / 127 * pow((times[i] + 7) / 7, -0.06);
        for (int j = 0; j < CELLS; j += 997)
            ck_assert_msg(fabs(g[j] / expected - 1.0) < 1e-12, "t %g: %.15g, not %.15g", times[i], g[j], expected);
        free(g);
    }
}

OHM_TEST(physics_time, power_law_exponents_vary_and_stay)
{
    const char *settings = "retention.model=power_law retention.nu=0.03 retention.nu_sigma=0.02";
    double *hour = exponents(settings, 100, 3600, 20), *year = exponents(settings, 100, 365 * DAY, 20);
    OHM_ASSERT(ohm_compare_ks(hour, CELLS, physics_cdf_folded, ((const double[]){0.03, 0.02}), OHM_ALPHA));
    for (int i = 0; i < CELLS; i++)
        ck_assert_msg(fabs(hour[i] - year[i]) < 1e-9, "cell %d drifts with %g, then with %g", i, hour[i], year[i]);
    free(hour);
    free(year);
}

static double bounded(double x, double low, double high)
{
    return fmin(fmax(x, low), high);
}

/* nu = |mu + sigma xi| of the target x = G/G_max. */
static void pcm_exponent(double law[2], double x, int hermes)
{
    double l = log(fmax(x, 1e-7));
    if (!hermes) { /* Nandakumar et al. 2019 */
        law[0] = bounded(-0.0155 * l + 0.0244, 0.049, 0.1);
        law[1] = bounded(-0.0125 * l - 0.0059, 0.008, 0.045);
        return;
    }
    law[0] = x < 0.0945 ? bounded(-0.0387 * l - 0.0182, 0.072, 0.13) : -0.0436 * x * x - 0.0126 * x + 0.0736;
    law[1] = x < 0.3055 ? bounded(-0.0117 * l - 0.0057, 0.0091, 0.04) : -0.0118 * x * x + 0.0093 * x + 0.0073;
}

OHM_TEST(physics_time, pcm_exponents_follow_the_target)
{
    static const int levels[] = {1, 4, 11, 13, 25, 40, 64, 127}; /* on both sides of every branch and clamp */
    for (int hermes = 0; hermes < 2; hermes++)
        for (int i = 0; i < 8; i++) {
            char settings[TEXT];
            double law[2];
            snprintf(settings, sizeof settings, "retention.model=pcm retention.pcm_law=%s retention.t0_s=%d cell.g_max_us=20.7",
                     hermes ? "hermes" : "nandakumar", hermes ? 300 : 20);
            double *nu = exponents(settings, levels[i], DAY, hermes ? 300 : 20);
            pcm_exponent(law, levels[i] / 127.0, hermes);
            OHM_ASSERT(ohm_compare_ks(nu, CELLS, physics_cdf_folded, law, OHM_ALPHA));
            free(nu);
        }
}

/* The laws themselves, at every level, without a draw. */
OHM_TEST(physics_time, pcm_laws_to_the_last_digit)
{
    for (int hermes = 0; hermes < 2; hermes++) {
        ohm_hardware *hardware = malloc(sizeof *hardware);
        ohm_programming *p = malloc(sizeof *p);
        ohm_chip_shape shape;
        ohm_geometry g;
        ck_assert(hardware && p);
        fixture_hardware(hardware, hermes ? "weight.cell_bits=7 retention.model=pcm retention.pcm_law=hermes cell.on_off=inf"
                                          : "weight.cell_bits=7 retention.model=pcm cell.on_off=50");
        ohm_device_shape(&shape, hardware, 1, 1, 3);
        ohm_device_geometry(&g, &shape);
        ohm_chip_moment day = at(DAY);
        ohm_device_programming(p, &g, &shape, &day);
        for (int level = 0; level < 128; level++) {
            double law[2], low = hermes ? 0.0 : 1.0 / 50;
            pcm_exponent(law, low + (1.0 - low) * level / 127.0, hermes);
            ck_assert_msg(fabs(p->level[level].nu - law[0]) < 1e-12 && fabs(p->level[level].nu_sigma - law[1]) < 1e-12, "level %d: %g +- %g, not %g +- %g",
                          level, p->level[level].nu, p->level[level].nu_sigma, law[0], law[1]);
        }
        free(p);
        free(hardware);
    }
}

/* The exponent comes from the target, whatever the programming made of it. */
OHM_TEST(physics_time, exponents_do_not_follow_programming_noise)
{
    const char *settings = "retention.model=pcm programming.model=gaussian programming.sigma=0.05";
    double *fresh = cells(settings, 64, at(0)), *nu = exponents(settings, 64, DAY, 20), law[2];
    pcm_exponent(law, 64 / 127.0, 0);
    OHM_ASSERT(ohm_compare_ks(nu, CELLS, physics_cdf_folded, law, OHM_ALPHA));
    ck_assert(fabs(physics_correlation(fresh, nu, CELLS)) < 5.0 / sqrt(CELLS));
    free(fresh);
    free(nu);
}

/* Mean a G - b ln t, spread c + d ln t, floor; before one second as at one second. */
OHM_TEST(physics_time, logarithmic_relaxation)
{
    const char *settings = "cell.g_max_us=88.2 retention.model=logarithmic retention.log_scale=0.9985 retention.log_slope_us=0.089 "
                           "retention.log_sigma_us=0.4118 retention.log_sigma_slope_us=0.042 retention.floor_us=9";
    static const double times[] = {1, 3600, 1e6, 0.01};
    for (int i = 0; i < 4; i++) {
        double l = fmax(log(times[i]), 0.0), *g = cells(settings, 60, at(times[i]));
        OHM_ASSERT(ohm_compare_normal(g, CELLS, 0.9985 * 88.2 * 60 / 127 - 0.089 * l, 0.4118 + 0.042 * l, OHM_ALPHA));
        free(g);
    }
    double *g = cells(settings, 13, at(1)), mean = 0.9985 * 88.2 * 13 / 127, least = 1e9; /* a target of 9.03 µS */
    int floored = 0;
    for (int i = 0; i < CELLS; i++) {
        floored += g[i] < 9.0 + 1e-9;
        least = fmin(least, g[i]);
    }
    ck_assert_msg(fabs(least - 9.0) < 1e-9, "the smallest is %g uS", least);
    ck_assert(physics_binomial_z(floored, CELLS, 0.5 * erfc((mean - 9.0) / 0.4118 * M_SQRT1_2)) < 5.0);
    free(g);
}

/* ---- Accumulated 1/f noise ------------------------------------------------------------------------ */

/* z of G = G_drifted (1 + Q S z), S = sqrt(ln((t + t0 + t_read)/(2 t_read))), for a share Q of the cell. */
static double *flicker(const char *settings, int level, ohm_chip_moment moment, double q, double s)
{
    char noisy[2 * TEXT];
    snprintf(noisy, sizeof noisy, "%s retention.one_over_f=true", settings);
    double *plain = cells(settings, level, moment), *z = cells(noisy, level, moment);
    for (int i = 0; i < CELLS; i++)
        z[i] = (z[i] / plain[i] - 1.0) / (q * s);
    free(plain);
    return z;
}

static double share(double x, int hermes)
{
    if (!hermes)
        return fmin(0.0088 / fmax(pow(x, 0.65), 1e-3), 0.2);
    return x < 0.16 ? bounded(-0.0117 * log(x) - 0.0069, 0.015, 0.04) : 0.0069 * x * x * x - 0.028 * x * x + 0.0211 * x + 0.0123;
}

OHM_TEST(physics_time, one_over_f_has_the_laws_size)
{
    static const int levels[] = {127, 64, 25, 15, 4};
    for (int hermes = 0; hermes < 2; hermes++) {
        double *first = NULL;
        for (int i = 0; i < 5; i++) {
            char settings[TEXT];
            double x = levels[i] / 127.0, t0 = hermes ? 300 : 20, t_read = hermes ? 5.12e-7 : 2.5e-7;
            if (!hermes && levels[i] < 15) /* there the noise reaches G = 0: see the clamp below */
                continue;
            snprintf(settings, sizeof settings, "retention.model=pcm retention.pcm_law=%s retention.t0_s=%g retention.t_read_s=%g",
                     hermes ? "hermes" : "nandakumar", t0, t_read);
            double *z = flicker(settings, levels[i], at(3600), share(x, hermes), sqrt(log((3600 + t0 + t_read) / (2 * t_read))));
            OHM_ASSERT(ohm_compare_normal(z, CELLS, 0, 1, OHM_ALPHA));
            OHM_ASSERT(ohm_compare_normal_moments(z, CELLS, 0, 1, OHM_ALPHA));
            if (i == 0)
                first = z;
            else { /* a cell's draw is the same at every target: the laws differ by Q alone */
                OHM_ASSERT(ohm_compare_close(z, first, CELLS, 1e-9, 1e-9));
                free(z);
            }
        }
        free(first);
    }
}

/* Q of level 1 is 0.2, so that Q S = 0.98 of G: a share Phi(-1/(Q S)) of the cells ends at 0. */
OHM_TEST(physics_time, one_over_f_stops_at_zero)
{
    double qs = 0.0088 / pow(1 / 127.0, 0.65), *g;
    qs = fmin(qs, 0.2) * sqrt(log((DAY + 20 + 2.5e-7) / 5e-7));
    int zero = 0;
    g = cells("retention.model=pcm retention.one_over_f=true", 1, at(DAY));
    for (int i = 0; i < CELLS; i++) {
        ck_assert(g[i] >= 0.0);
        zero += g[i] == 0.0;
    }
    ck_assert(physics_binomial_z(zero, CELLS, 0.5 * erfc(M_SQRT1_2 / qs)) < 5.0);
    free(g);
}

/* Drawn once per programming and evaluation time: another time or step is another draw. */
OHM_TEST(physics_time, one_over_f_is_redrawn_per_time)
{
    const char *settings = "retention.model=pcm";
    ohm_chip_moment hour = at(3600), other = at(7200), step = at(3600);
    step.step = 1;
    double *a = flicker(settings, 100, hour, 1, 1), *again = flicker(settings, 100, hour, 1, 1), *b = flicker(settings, 100, other, 1, 1),
           *c = flicker(settings, 100, step, 1, 1), limit = 5.0 / sqrt(CELLS);
    OHM_ASSERT(ohm_compare_bits(again, a, CELLS));
    ck_assert(fabs(physics_correlation(a, b, CELLS)) < limit);
    ck_assert(fabs(physics_correlation(a, c, CELLS)) < limit);
    free(a);
    free(again);
    free(b);
    free(c);
}

/* Frozen across reads: every sample of a batch, and a second pass, see the same cells. */
OHM_TEST(physics_time, one_over_f_is_frozen_across_reads)
{
    physics_session s;
    const float x[4] = {100, -50, 3, 127}, w[4] = {90, 80, -70, 60};
    physics_open(&s, PHYSICS_ONE_READ "retention.model=pcm retention.one_over_f=true retention.time_s=3600", 40, 4, 16);
    float first[16];
    physics_uniform(&s.layer, x, w);
    physics_pass(&s);
    memcpy(first, s.layer.y, sizeof first);
    ck_assert(first[0] != first[1]);
    physics_pass(&s);
    for (int i = 0; i < 40; i++)
        OHM_ASSERT(ohm_compare_bits(s.layer.y + 16 * i, first, 16));
    physics_close(&s);
}

/* ---- Temperature ---------------------------------------------------------------------------------- */

OHM_TEST(physics_time, arrhenius)
{
    static const double kelvins[] = {253, 300, 358};
    for (int i = 0; i < 3; i++)
        for (int spread = 0; spread < 2; spread++) {
            char settings[TEXT];
            snprintf(settings, sizeof settings, "temperature.kelvin=%g temperature.reference_kelvin=310 temperature.activation_ev=0.12 "
                                                "temperature.activation_sigma_ev=%g", kelvins[i], spread ? 0.03 : 0.0);
            double *g = cells(settings, 80, at(0)), beta = (1 / kelvins[i] - 1 / 310.0) / 8.617333262e-5, g0 = 25.0 * 80 / 127;
            for (int j = 0; j < CELLS; j++)
                g[j] = -log(g[j] / g0) / beta; /* the activation energy, eV */
            if (spread)
                OHM_ASSERT(ohm_compare_normal(g, CELLS, 0.12, 0.03, OHM_ALPHA));
            for (int j = 0; j < CELLS && !spread; j += 331)
                ck_assert(fabs(g[j] - 0.12) < 1e-12);
            free(g);
        }
}

/* The energy of a cell is its own for good: colder and warmer, the same one. */
OHM_TEST(physics_time, activation_energy_belongs_to_the_cell)
{
    const char *format = "temperature.kelvin=%d temperature.activation_sigma_ev=0.05";
    char cold[TEXT], warm[TEXT];
    snprintf(cold, sizeof cold, format, 270);
    snprintf(warm, sizeof warm, format, 330);
    ohm_chip_moment later = at(5);
    later.step = 17;
    double *a = cells(cold, 90, at(0)), *b = cells(warm, 90, later), g0 = 25.0 * 90 / 127;
    for (int i = 0; i < CELLS; i++) {
        double energy = -log(a[i] / g0) / (1 / 270.0 - 1 / 300.0), other = -log(b[i] / g0) / (1 / 330.0 - 1 / 300.0);
        ck_assert_msg(fabs(energy - other) < 1e-6 * fabs(energy) + 1e-6, "cell %d: %g K, then %g K", i, energy, other);
    }
    free(a);
    free(b);
}

/* Drift first, temperature after it: the product of both factors. */
OHM_TEST(physics_time, drift_and_temperature_multiply)
{
    double *g = cells("retention.model=power_law retention.nu=0.1 temperature.kelvin=350 temperature.activation_ev=0.2", 50, at(1000));
    double expected = 25.0 * 50 / 127 * pow(1020.0 / 20, -0.1) * exp(-0.2 / 8.617333262e-5 * (1 / 350.0 - 1 / 300.0));
    ck_assert_msg(fabs(g[7] / expected - 1.0) < 1e-12, "%.15g, not %.15g", g[7], expected);
    free(g);
}

/* ---- Drift compensation ----------------------------------------------------------------------------- */

enum { M = 40, K = 200, N = 30 };

/* rms error of a layer after `time` against the clean product of the quantised operands. */
static double compensated(const char *settings, double time)
{
    char text[3 * TEXT];
    static double exact[M * N];
    fixture_layer l;
    snprintf(text, sizeof text, "quantise.x_range=127 quantise.w_range=127 tile.rows=64 %s", settings);
    fixture_layer_make(&l, M, K, N);
    fixture_integers(l.x, M * K, 127, 1);
    fixture_integers(l.w, N * K, 127, 2);
    physics_product(exact, &l);
    ohm_chip_moment moment = at(time);
    fixture_forward(&l, &(fixture_run){.settings = text, .moment = moment});
    double error = physics_error(&l, exact);
    fixture_layer_free(&l);
    return error;
}

/* Cells that all fade alike are made whole, whatever the encoding: the factor acts before the
 * encoding correction, nominal or read from the faded chip. */
OHM_TEST(physics_time, compensation_undoes_a_common_drift)
{
    static const char *const mappings[] = {"input.correction=nominal", "input.correction=calibrated", "input.encoding=two_phase",
                                           "input.encoding=sign_magnitude weight.subtract=digital", "weight.encoding=offset cell.on_off=inf",
                                           "weight.encoding=offset weight.subtract=digital"};
    for (int i = 0; i < 6; i++)
        for (int column = 0; column < 2; column++) {
            char settings[TEXT];
            const char *drift = "retention.model=power_law retention.nu=0.05";
            snprintf(settings, sizeof settings, "%s %s", mappings[i], drift);
            double faded = compensated(settings, DAY);
            snprintf(settings, sizeof settings, "%s %s retention.compensation=%s", mappings[i], drift, column ? "column" : "global");
            double whole = compensated(settings, DAY);
            ck_assert_msg(faded > 0.2 && whole < 1e-5, "%s: error %g without, %g with", settings, faded, whole);
        }
}

/* With exponents of their own: compensation takes the common part, per column a little more. */
OHM_TEST(physics_time, compensation_of_pcm)
{
    const char *drift = "input.encoding=sign_magnitude retention.model=pcm cell.on_off=inf";
    char settings[TEXT];
    double none = compensated(drift, DAY), error[2];
    for (int column = 0; column < 2; column++) {
        snprintf(settings, sizeof settings, "%s retention.compensation=%s", drift, column ? "column" : "global");
        error[column] = compensated(settings, DAY);
    }
    ck_assert_msg(none > 0.3 && error[0] < 0.1 && error[1] < error[0] * 1.05, "errors %g, global %g, column %g", none, error[0], error[1]);
}

/* alpha is (mean |y| fresh)/(mean |y| now): here ((t + t0)/t0)^nu to the last digits of y. */
OHM_TEST(physics_time, compensation_is_a_ratio_of_means)
{
    fixture_layer l;
    fixture_layer_make(&l, 1, 1, 1);
    const char *settings = PHYSICS_ONE_READ "retention.model=power_law retention.nu=0.2 retention.compensation=global adc.bits=8 adc.range=granular";
    l.x[0] = 10;
    l.w[0] = 11;
    ohm_chip_moment moment = at(980);
    fixture_forward(&l, &(fixture_run){.settings = settings, .moment = moment});
    double factor = pow(1000.0 / 20, 0.2), code = rint(110 / factor); /* the ADC sees the faded current */
    ck_assert_msg(fabs(l.y[0] / (code * factor) - 1.0) < 1e-6, "%g, not %g x %g", (double)l.y[0], code, factor);
    fixture_layer_free(&l);
}
