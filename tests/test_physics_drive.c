/* The DAC and the cell's I(V) against physics.md section 3. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/fixture_physics.h"
#include "tests/runner.h"

enum { TEXT = 1024, CODES = 255 };

/* y of x = -127..127 against a column of weight w, for a chip that reads x in planes of dac_bits. */
static void sweep(float *y, const char *settings, float w)
{
    fixture_layer l;
    fixture_layer_make(&l, CODES, 1, 1);
    for (int i = 0; i < CODES; i++)
        l.x[i] = (float)(i - 127);
    l.w[0] = w;
    fixture_forward(&l, &(fixture_run){.settings = settings});
    memcpy(y, l.y, CODES * sizeof *y);
    fixture_layer_free(&l);
}

/* A cubic of peak `peak` digits at 1/sqrt(3) of full scale, odd, zero at both ends. */
static double bent(double digit, double most, double peak)
{
    double u = digit / most;
    return digit + peak * 1.5 * sqrt(3.0) * u * (1.0 - u * u);
}

OHM_TEST(physics_drive, inl_bends_every_digit)
{
    for (int bits = 2; bits <= 7; bits++) {
        char settings[TEXT];
        float y[CODES];
        double expected[CODES];
        snprintf(settings, sizeof settings, PHYSICS_ONE_READ "input.dac_bits=%d input.inl=0.4", bits);
        sweep(y, settings, 100);
        for (int x = -127; x <= 127; x++) {
            double sum = 0.0;
            for (int shift = 0; shift < 7; shift += bits)
                sum += ldexp(bent((abs(x) >> shift) & ((1 << bits) - 1), (1 << bits) - 1, 0.4), shift);
            expected[x + 127] = x < 0 ? -100 * sum : 100 * sum;
        }
        OHM_ASSERT(ohm_compare_close(y, expected, CODES, 1e-4, 1e-6));
    }
}

/* Current of a cell in units of G_step·V_step, in volts and siemens as the paper writes it. */
typedef double iv_law(double v, double v_read, double coefficient);
static double cubic(double v, double v_read, double k)
{
    return (v - k * v * v * v) / (1.0 - k * v_read * v_read);
}
static double hyperbolic(double v, double v_read, double a)
{
    return v_read * sinh(a * v) / sinh(a * v_read);
}

OHM_TEST(physics_drive, current_voltage_laws)
{
    static const struct { const char *name; iv_law *law; double coefficient, v_read; } cases[] = {
        {"cubic", cubic, 2.0, 0.2}, {"cubic", cubic, 0.9, 0.6}, {"sinh", hyperbolic, 5.0, 0.2}, {"sinh", hyperbolic, 4.0, 1.0},
        {"sinh", hyperbolic, 1e-6, 0.2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int bits = 3; bits <= 7; bits += 4) {
            char settings[TEXT];
            float y[CODES];
            double expected[CODES], most = (1 << bits) - 1, v_step = cases[i].v_read / most;
            snprintf(settings, sizeof settings, PHYSICS_ONE_READ "input.dac_bits=%d input.v_read_v=%.17g cell.iv=%s cell.iv_coefficient=%.17g", bits,
                     cases[i].v_read, cases[i].name, cases[i].coefficient);
            sweep(y, settings, -90);
            for (int x = -127; x <= 127; x++) {
                double sum = 0.0;
                for (int shift = 0; shift < 7; shift += bits) {
                    double v = v_step * ((abs(x) >> shift) & ((1 << bits) - 1));
                    sum += ldexp(cases[i].law(v, cases[i].v_read, cases[i].coefficient) / v_step, shift);
                }
                expected[x + 127] = x < 0 ? 90 * sum : -90 * sum;
            }
            OHM_ASSERT(ohm_compare_close(y, expected, CODES, 1e-4, 1e-6));
        }
}

/* I(V_read) = G V_read: one-bit drive cannot tell a non-linear cell from a linear one. */
OHM_TEST(physics_drive, one_bit_drive_sees_no_curvature)
{
    float y[CODES];
    sweep(y, PHYSICS_ONE_READ "input.dac_bits=1 cell.iv=sinh cell.iv_coefficient=20", 77);
    for (int x = -127; x <= 127; x++)
        ck_assert_msg(fabsf(y[x + 127] - 77.0f * (float)x) <= 1e-3f, "x %d: %g", x, (double)y[x + 127]);
}

/* ---- DAC noise -------------------------------------------------------------------------------- */

/* Errors of m rows through column 0, with sd from the planes: sigma·sqrt(sum 4^(i d))·|w|. */
static void check_noise(const char *extra, int m, double sd)
{
    enum { K = 3, N = 8 };
    char settings[TEXT];
    fixture_layer l;
    const float x[K] = {100, -31, 0}, w[K] = {60, -45, 120};
    double *error = malloc((size_t)m * sizeof *error), clean = 60.0 * 100 + 45.0 * 31;
    fixture_layer_make(&l, m, K, N);
    physics_uniform(&l, x, w);
    for (int k = 0; k < K; k++) /* the second column has every sign turned */
        l.w[K + k] = -w[k];
    snprintf(settings, sizeof settings, PHYSICS_ONE_READ "input.noise=0.3 %s", extra);
    fixture_forward(&l, &(fixture_run){.settings = settings, .moment = {.seed = 2}});
    for (int i = 0; i < m; i++) {
        error[i] = l.y[(size_t)i * N] - clean;
        ck_assert_msg(fabs(l.y[(size_t)i * N + 1] + l.y[(size_t)i * N]) <= 1e-2, "row %d: a column of opposite sign", i);
        for (int n = 2; n < N; n++) /* common to all columns: it is on the word line */
            ck_assert(l.y[(size_t)i * N + n] == l.y[(size_t)i * N]);
    }
    OHM_ASSERT(ohm_compare_normal(error, (size_t)m, 0, sd, OHM_ALPHA));
    OHM_ASSERT(ohm_compare_normal_moments(error, (size_t)m, 0, sd, OHM_ALPHA));
    ck_assert(fabs(physics_correlation(error, error + 1, (size_t)m - 1)) < 5.0 / sqrt(m));
    free(error);
    fixture_layer_free(&l);
}

OHM_TEST(physics_drive, noise_is_a_share_of_a_step_common_to_all_columns)
{
    enum { M = 1 << 12 };
    double w = sqrt(60.0 * 60 + 45.0 * 45 + 120.0 * 120);
    check_noise("", M, 0.3 * w);
    check_noise("normals=exact", M, 0.3 * w);
    /* planes of 2 bits: 1, 4, 16 and 64 times an independent draw */
    check_noise("input.dac_bits=2", M, 0.3 * w * sqrt(1.0 + 16 + 256 + 4096));
    /* both phases draw: a grounded row is noisy too */
    check_noise("input.encoding=two_phase", M, 0.3 * w * sqrt(2.0));
    /* rows over two tiles, and slices of one read share the word line */
    check_noise("tile.rows=2 weight.cell_bits=3", M, 0.3 * w);
}
