/* The converter against physics.md section 2: codes, ranges, static errors, thermal noise. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/fixture_physics.h"
#include "tests/runner.h"

enum { TEXT = 1024 };

/* One-read settings with a numeric full scale that makes LSB = lsb digit·levels. */
static const char *with_lsb(char *settings, const char *extra, int bits, int unipolar, double lsb)
{
    char base[TEXT];
    double codes = (1 << (unipolar ? bits : bits - 1)) - 1;
    snprintf(base, sizeof base, PHYSICS_ONE_READ "adc.bits=%d %s", bits, extra);
    snprintf(settings, TEXT, PHYSICS_ONE_READ "adc.bits=%d adc.range=%.17g %s", bits, lsb * codes * physics_unit_ua(base), extra);
    return settings;
}

/* x = -127..127 down the rows, w = 1, 8, 15 .. 127 across: every product once. */
static void products(fixture_layer *l)
{
    fixture_layer_make(l, 255, 1, 19);
    for (int i = 0; i < l->m; i++)
        l->x[i] = (float)(i - 127);
    for (int n = 0; n < l->n; n++)
        l->w[n] = (float)(1 + 7 * n);
}

static double limited(double x, double low, double high)
{
    return fmin(fmax(x, low), high);
}

OHM_TEST(physics_adc, bipolar_codes_round_to_even_and_clip)
{
    static const double lsbs[] = {1.0, 2.0, 88.3, 1075.0 / 3.0, 40000.0};
    for (int bits = 2; bits <= 12; bits += 5)
        for (int i = 0; i < 5; i++) {
            char settings[TEXT];
            fixture_layer l;
            products(&l);
            fixture_forward(&l, &(fixture_run){.settings = with_lsb(settings, "", bits, 0, lsbs[i])});
            double high = (1 << (bits - 1)) - 1;
            for (int r = 0; r < l.m; r++)
                for (int n = 0; n < l.n; n++) {
                    double lsb = (double)(float)lsbs[i], code = limited(rint((double)l.x[r] * l.w[n] / lsb), -high, high);
                    ck_assert_msg(l.y[r * l.n + n] == (float)(code * lsb), "%d bits, LSB %g: %g x %g gives %.9g, code %g", bits, lsb,
                                  (double)l.x[r], (double)l.w[n], (double)l.y[r * l.n + n], code);
                }
            fixture_layer_free(&l);
        }
}

/* Each array has a converter of its own that sees the pedestal; codes 0 .. 2^b-1. */
OHM_TEST(physics_adc, unipolar_codes_see_the_pedestal)
{
    for (int bits = 1; bits <= 9; bits += 4) {
        char settings[TEXT];
        fixture_layer l;
        products(&l);
        for (int i = 0; i < l.m; i++)
            l.x[i] = fabsf(l.x[i]);
        double high = (1 << bits) - 1, lsb = 12000.1 / high, pedestal = 127.0 / 9.0; /* (2^c - 1)/(on_off - 1) */
        const char *extra = "input.encoding=unsigned weight.subtract=digital cell.on_off=10";
        fixture_forward(&l, &(fixture_run){.settings = with_lsb(settings, extra, bits, 1, lsb)});
        int full = 0;
        for (int r = 0; r < l.m; r++)
            for (int n = 0; n < l.n; n++) {
                double x = l.x[r], plus = limited(rint(x * (l.w[n] + pedestal) / lsb), 0, high), minus = limited(rint(x * pedestal / lsb), 0, high);
                full += plus == high;
                ck_assert_msg(fabs(l.y[r * l.n + n] - (plus - minus) * lsb) <= 1e-3, "%d bits: %g x %g gives %.9g, codes %g and %g", bits, x,
                              (double)l.w[n], (double)l.y[r * l.n + n], plus, minus);
            }
        ck_assert_int_gt(full, 0);
        fixture_layer_free(&l);
    }
}

/* ---- Ranges ------------------------------------------------------------------------------------ */

/* LSB of range `max`: the smallest whole number that covers rows·digit·(level + pedestal if single-ended). */
OHM_TEST(physics_adc, range_max_is_the_smallest_whole_multiple)
{
    static const struct { const char *settings; int rows, digit, level, codes; double pedestal; } cases[] = {
        {"input.dac_bits=1 weight.cell_bits=2 tile.rows=128 adc.bits=8", 128, 1, 3, 127, 0},
        {"input.dac_bits=2 weight.cell_bits=3 tile.rows=100 adc.bits=6", 100, 3, 7, 31, 0},
        {"input.dac_bits=8 weight.cell_bits=7 tile.rows=64 adc.bits=16", 64, 255, 127, 32767, 0},
        {"input.dac_bits=1 weight.cell_bits=1 tile.rows=127 adc.bits=8", 127, 1, 1, 127, 0},
        {"input.dac_bits=1 weight.cell_bits=2 weight.subtract=digital tile.rows=128 adc.bits=8", 128, 1, 3, 255, 3.0 / 99},
        {"input.dac_bits=1 weight.cell_bits=2 weight.subtract=digital tile.rows=128 adc.bits=7 cell.on_off=2", 128, 1, 3, 127, 3},
        {"input.encoding=sign_magnitude input.dac_bits=7 weight.cell_bits=4 weight.subtract=digital cell.on_off=inf tile.rows=30 adc.bits=9",
         30, 127, 15, 255, 0},
        {"weight.encoding=offset input.dac_bits=1 weight.cell_bits=2 tile.rows=128 adc.bits=8", 128, 1, 3, 127, 0},
        /* 300 rows over tiles of 200: 200 + 100, or 150 + 150 */
        {"input.dac_bits=1 weight.cell_bits=1 tile.rows=200 adc.bits=6", 200, 1, 1, 31, 0},
        {"input.dac_bits=1 weight.cell_bits=1 tile.rows=200 tile.split=even adc.bits=6", 150, 1, 1, 31, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char settings[TEXT];
        physics_session s;
        snprintf(settings, sizeof settings, "adc.range=max %s", cases[i].settings);
        physics_open(&s, settings, 1, 300, 2);
        physics_pass(&s);
        double worst = cases[i].rows * (double)cases[i].digit * (cases[i].level + cases[i].pedestal);
        for (int j = 0; j < s.planes * s.slices; j++) {
            ck_assert_msg(s.lsb[j] == ceil(worst / cases[i].codes), "%s: LSB %g", cases[i].settings, (double)s.lsb[j]);
            ck_assert(s.lsb[j] * (double)cases[i].codes >= worst && (s.lsb[j] - 1.0) * cases[i].codes < worst);
        }
        physics_close(&s);
    }
}

/* One unit a step, whatever the number of codes: 127 units are code 127 and not 126 or 128. */
OHM_TEST(physics_adc, range_granular_is_one_unit)
{
    physics_session s;
    physics_open(&s, PHYSICS_ONE_READ "adc.bits=8 adc.range=granular", 3, 1, 1);
    const float x[] = {126, 127, 2}, expected[] = {126, 127, 2};
    for (int w = 1; w <= 3; w++) {
        memcpy(s.layer.x, x, sizeof x);
        s.layer.w[0] = (float)w;
        physics_pass(&s);
        ck_assert(s.lsb[0] == 1.0f);
        for (int i = 0; i < 3; i++)
            ck_assert(s.layer.y[i] == fminf(expected[i] * (float)w, 127.0f));
    }
    physics_close(&s);
}

/* Full scale = the batch's largest noise-free current, per layer or column, and nothing random in it. */
OHM_TEST(physics_adc, range_data_is_this_batchs_largest_current)
{
    for (int column = 0; column < 2; column++) {
        char settings[TEXT];
        physics_session s;
        snprintf(settings, sizeof settings,
                 PHYSICS_ONE_READ "adc.bits=9 adc.range=data adc.granularity=%s adc.noise_lsb=0.3 input.noise=3 read.model=constant read.sigma=0.1",
                 column ? "column" : "layer");
        physics_open(&s, settings, 20, 40, 6);
        for (int batch = 0; batch < 2; batch++) {
            double exact[20 * 6], most[7] = {0};
            fixture_integers(s.layer.x, 20 * 40, 50 + 70 * batch, 3);
            fixture_integers(s.layer.w, 6 * 40, 100, 4);
            physics_product(exact, &s.layer);
            for (int i = 0; i < 20 * 6; i++) {
                most[i % 6] = fmax(most[i % 6], fabs(exact[i]));
                most[6] = fmax(most[6], fabs(exact[i]));
            }
            physics_pass(&s);
            for (int n = 0; n < (column ? 6 : 1); n++)
                ck_assert_msg(fabs(s.lsb[n] * 255.0 / most[column ? n : 6] - 1.0) < 1e-6, "batch %d, column %d: full scale %g, not %g", batch, n,
                              s.lsb[n] * 255.0, most[column ? n : 6]);
        }
        physics_close(&s);
    }
}

/* Planes and slices have ranges of their own: the largest of each bit plane's own currents. */
OHM_TEST(physics_adc, ranges_stand_per_plane_and_slice)
{
    physics_session s;
    physics_open(&s, "quantise.x_range=127 quantise.w_range=127 input.encoding=unsigned input.dac_bits=2 weight.cell_bits=3 tile.rows=9 adc.bits=8 "
                     "adc.range=data", 30, 20, 5);
    fixture_integers(s.layer.x, 30 * 20, 127, 7);
    fixture_integers(s.layer.w, 5 * 20, 127, 8);
    for (int i = 0; i < 30 * 20; i++)
        s.layer.x[i] = fabsf(s.layer.x[i]);
    physics_pass(&s);
    ck_assert_int_eq(s.planes, 4);
    ck_assert_int_eq(s.slices, 3);
    for (int plane = 0; plane < 4; plane++)
        for (int slice = 0; slice < 3; slice++) {
            double most = 0.0;
            for (int i = 0; i < 30; i++)
                for (int n = 0; n < 5; n++)
                    for (int begin = 0; begin < 20; begin += 9) {
                        int sum = 0;
                        for (int k = begin; k < begin + 9 && k < 20; k++) {
                            int x = (int)s.layer.x[i * 20 + k], w = (int)s.layer.w[n * 20 + k], level = (abs(w) >> (3 * slice)) & 7;
                            sum += ((x >> (2 * plane)) & 3) * (w < 0 ? -level : level);
                        }
                        most = fmax(most, abs(sum));
                    }
            ck_assert_msg(fabs(s.lsb[plane * 3 + slice] * 127.0 / most - 1.0) < 1e-6, "plane %d, slice %d: %g, not %g", plane, slice,
                          s.lsb[plane * 3 + slice] * 127.0, most);
        }
    physics_close(&s);
}

/* Calibration batches with largest currents 1000·batch; then one that must not move anything. */
static void calibrate(physics_session *s, int batches, float scale)
{
    for (int batch = 1; batch <= batches + 1; batch++) {
        for (int i = 0; i < s->layer.m; i++)
            s->layer.x[i] = (float)(i + 1) * scale * (float)batch;
        s->pass.calibrating = batch <= batches;
        physics_pass(s);
    }
}

OHM_TEST(physics_adc, range_calibrated_is_the_largest_seen_then_frozen)
{
    physics_session s;
    physics_open(&s, PHYSICS_ONE_READ "adc.bits=8 adc.range=calibrated", 10, 1, 1);
    s.layer.w[0] = 100.0f;
    calibrate(&s, 3, 1.0f); /* x up to 10, 20, 30, then 40 */
    ck_assert_msg(fabs(s.lsb[0] * 127.0 / 3000.0 - 1.0) < 1e-6, "full scale %g", s.lsb[0] * 127.0);
    ck_assert(s.layer.y[9] == (float)(127.0 * s.lsb[0])); /* 40·100 clips */
    physics_close(&s);
}

/* calibrated:P: the mean over batches of the current that P % do not exceed, to a bin of 1/1024. */
OHM_TEST(physics_adc, range_calibrated_percentile)
{
    physics_session s;
    physics_open(&s, PHYSICS_ONE_READ "adc.bits=12 adc.range=calibrated:90", 100, 1, 1);
    s.layer.w[0] = 100.0f;
    calibrate(&s, 2, 0.5f); /* 90 % lie at or below 45·100, then 90·100; x is rounded to whole codes */
    double expected = (4500.0 + 9000.0) / 2.0;
    ck_assert_msg(fabs(s.lsb[0] * 2047.0 - expected) <= 10000.0 / 1024.0 + 50.0, "full scale %g, not %g", s.lsb[0] * 2047.0, expected);
    physics_close(&s);
}

OHM_TEST(physics_adc, range_running_is_a_decaying_mean)
{
    physics_session s;
    physics_open(&s, PHYSICS_ONE_READ "adc.bits=8 adc.range=running:0.75", 1, 1, 1);
    s.layer.w[0] = 10.0f;
    s.pass.training = 1;
    double expected = 0.0;
    for (int batch = 1; batch <= 6; batch++) {
        s.layer.x[0] = (float)(20 * batch);
        physics_pass(&s);
        expected = batch == 1 ? 200.0 : 0.75 * expected + 0.25 * 200.0 * batch;
        ck_assert_msg(fabs(s.lsb[0] * 127.0 / expected - 1.0) < 1e-6, "batch %d: %g, not %g", batch, s.lsb[0] * 127.0, expected);
    }
    s.pass.training = 0;
    s.layer.x[0] = 1.0f;
    physics_pass(&s);
    ck_assert(fabs(s.lsb[0] * 127.0 / expected - 1.0) < 1e-6);
    physics_close(&s);
}

/* Reads that hang over every output must lie inside a measured range: the read of the offset
 * correction, and the reference column of offset weights, which has a converter of its own when it
 * subtracts digitally. Both are usually larger than any current of the data. */
OHM_TEST(physics_adc, measured_ranges_cover_references_and_corrections)
{
    static const char *const settings[] = {
        "weight.subtract=digital adc.range=calibrated",
        "weight.subtract=analog adc.range=calibrated:99.9",
        "weight.subtract=digital adc.range=calibrated:99.9",
        "weight.encoding=offset adc.range=calibrated:99.9",
        "weight.encoding=offset weight.subtract=digital adc.range=data",
        "weight.encoding=offset weight.subtract=digital adc.range=calibrated adc.granularity=column",
        "weight.encoding=offset weight.subtract=digital adc.range=calibrated:99.99 input.correction=nominal"};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        char text[TEXT];
        fixture_layer l;
        double exact[16 * 24];
        snprintf(text, sizeof text, "adc.bits=10 %s", settings[i]);
        fixture_layer_make(&l, 16, 100, 24);
        physics_product(exact, &l);
        fixture_forward(&l, &(fixture_run){.settings = text, .calibrate = 1});
        double error = physics_error(&l, exact); /* 0.13 to 5 where such a read is cut */
        ck_assert_msg(error < 0.03, "%s: error %g of rms y", text, error);
        fixture_layer_free(&l);
    }
}

/* ---- Static errors ----------------------------------------------------------------------------- */

/* y of [m][n] = codes of formula(current in LSB) · lsb, a code apart only at a threshold. */
static void check_codes(const fixture_layer *l, double lsb, int bits, double (*formula)(double value, double high, double parameter),
                        double parameter)
{
    size_t count = (size_t)l->m * l->n;
    int32_t *got = malloc(count * sizeof *got), *ref = malloc(count * sizeof *ref);
    double *analogue = malloc(count * sizeof *analogue), high = (1 << (bits - 1)) - 1;
    ck_assert(got && ref && analogue);
    for (int i = 0; i < l->m; i++)
        for (int n = 0; n < l->n; n++) {
            size_t at = (size_t)i * l->n + n;
            analogue[at] = formula((double)l->x[i] * l->w[n] / lsb, high, parameter);
            ref[at] = (int32_t)limited(rint(analogue[at]), -high, high);
            got[at] = (int32_t)rint(l->y[at] / lsb);
        }
    OHM_ASSERT(ohm_compare_codes(got, ref, analogue, count, 1e-3));
    free(got);
    free(ref);
    free(analogue);
}

/* Peak `parameter` LSB at 1/sqrt(3) of full scale, odd, zero at the ends and outside. */
static double with_inl(double value, double high, double parameter)
{
    double u = value / high;
    return fabs(u) < 1.0 ? value + parameter * 1.5 * sqrt(3.0) * u * (1.0 - u * u) : value;
}

static double with_s_shape(double value, double high, double n)
{
    double y = value / high;
    return high * y * (1.0 + fabs(n)) / (1.0 + fabs(n * y));
}

OHM_TEST(physics_adc, inl_is_a_bounded_cubic)
{
    static const double lsbs[] = {10.0, 1.0}; /* within full scale, and eight times beyond it */
    for (int i = 0; i < 2; i++) {
        char settings[TEXT];
        fixture_layer l;
        products(&l);
        fixture_forward(&l, &(fixture_run){.settings = with_lsb(settings, "adc.inl_lsb=37.5", 12, 0, lsbs[i])});
        check_codes(&l, lsbs[i], 12, with_inl, 37.5);
        fixture_layer_free(&l);
    }
}

/* An overload of any size stays at its end of the scale. */
OHM_TEST(physics_adc, inl_does_not_fold_an_overload)
{
    char settings[TEXT];
    fixture_layer l;
    products(&l);
    fixture_forward(&l, &(fixture_run){.settings = with_lsb(settings, "adc.inl_lsb=2", 4, 0, 20.0)});
    for (int i = 0; i < l.m; i++)
        for (int n = 0; n < l.n; n++)
            if (fabsf(l.x[i] * l.w[n]) > 200.0f)
                ck_assert(l.y[i * l.n + n] == (l.x[i] > 0.0f ? 140.0f : -140.0f));
    fixture_layer_free(&l);
}

OHM_TEST(physics_adc, s_shape_saturates_towards_full_scale)
{
    char settings[TEXT];
    fixture_layer l;
    products(&l);
    fixture_forward(&l, &(fixture_run){.settings = with_lsb(settings, "output.s_shape=0.7", 12, 0, 8.0)});
    check_codes(&l, 8.0, 12, with_s_shape, 0.7);
    fixture_layer_free(&l);
}

enum { COLUMNS = 4000 };

/* y of one current on many columns, in LSB: each column has errors of its own. */
static void one_current(double *value, const char *extra, int bits, double current_lsb, uint32_t chip)
{
    char settings[TEXT];
    fixture_layer l;
    fixture_layer_make(&l, 2, 1, COLUMNS);
    physics_uniform(&l, (const float[]){100}, (const float[]){100});
    double lsb = current_lsb != 0.0 ? 10000.0 / current_lsb : 1.0;
    if (current_lsb == 0.0)
        memset(l.x, 0, 2 * sizeof *l.x);
    fixture_forward(&l, &(fixture_run){.settings = with_lsb(settings, extra, bits, 0, lsb), .moment = {.seed = 3, .chip = chip}});
    for (int n = 0; n < COLUMNS; n++) {
        ck_assert(l.y[n] == l.y[COLUMNS + n]); /* the same for every sample */
        value[n] = l.y[n] / lsb;
    }
    fixture_layer_free(&l);
}

OHM_TEST(physics_adc, gain_error_is_gaussian_per_column_and_chip)
{
    static double value[COLUMNS], other[COLUMNS];
    one_current(value, "adc.gain_sigma=0.05", 16, 16000, 1);
    one_current(other, "adc.gain_sigma=0.05", 16, 16000, 2);
    for (int n = 0; n < COLUMNS; n++) {
        value[n] = value[n] / 16000.0 - 1.0;
        other[n] = other[n] / 16000.0 - 1.0;
    }
    OHM_ASSERT(ohm_compare_normal(value, COLUMNS, 0, 0.05, OHM_ALPHA));
    OHM_ASSERT(ohm_compare_normal_moments(value, COLUMNS, 0, 0.05, OHM_ALPHA));
    ck_assert(fabs(physics_correlation(value, other, COLUMNS)) < 5.0 / sqrt(COLUMNS));
    /* neighbours share nothing: not one draw for all converters */
    ck_assert(fabs(physics_correlation(value, value + 1, COLUMNS - 1)) < 5.0 / sqrt(COLUMNS));
}

OHM_TEST(physics_adc, offset_error_is_gaussian_in_lsb)
{
    static double value[COLUMNS];
    one_current(value, "adc.offset_sigma_lsb=200", 16, 0, 1);
    OHM_ASSERT(ohm_compare_normal(value, COLUMNS, 0, 200, OHM_ALPHA));
    OHM_ASSERT(ohm_compare_normal_moments(value, COLUMNS, 0, sqrt(200.0 * 200.0 + 1.0 / 12), OHM_ALPHA));
}

OHM_TEST(physics_adc, s_shape_varies_over_columns_around_its_mean)
{
    static double n[COLUMNS];
    one_current(n, "output.s_shape=0.6 output.s_shape_sigma=0.1", 16, 16383.5, 1);
    for (int i = 0; i < COLUMNS; i++) {
        double out = n[i] / 32767.0, y = 16383.5 / 32767.0;
        n[i] = (out - y) / (y * (1.0 - out)); /* out = y (1 + n)/(1 + n y) */
    }
    OHM_ASSERT(ohm_compare_normal(n, COLUMNS, 0.6, 0.1, OHM_ALPHA));
}

/* Gain comes first, then offset, INL last: code = rint(v + inl(v)), v = value (1 + gain) + offset. */
OHM_TEST(physics_adc, errors_act_in_order)
{
    static double gain[COLUMNS], offset[COLUMNS], both[COLUMNS];
    one_current(gain, "adc.gain_sigma=0.1", 16, 8000, 1);
    one_current(offset, "adc.offset_sigma_lsb=900", 16, 0, 1);
    one_current(both, "adc.gain_sigma=0.1 adc.offset_sigma_lsb=900 adc.inl_lsb=100", 16, 8000, 1);
    for (int i = 0; i < COLUMNS; i++) {
        double expected = with_inl(gain[i] + offset[i], 32767, 100);
        ck_assert_msg(fabs(both[i] - expected) <= 2.0, "column %d: %g, not %g", i, both[i], expected);
    }
}

/* ---- Thermal noise ----------------------------------------------------------------------------- */

/* Errors in LSB of m x n conversions of one current. */
static double *noise_lsb(const char *extra, int bits, double current_lsb, int m, int n)
{
    char settings[TEXT];
    fixture_layer l;
    double *error = malloc((size_t)m * n * sizeof *error);
    fixture_layer_make(&l, m, 1, n);
    physics_uniform(&l, (const float[]){100}, (const float[]){100});
    double lsb = 10000.0 / current_lsb;
    fixture_forward(&l, &(fixture_run){.settings = with_lsb(settings, extra, bits, 0, lsb), .moment = {.seed = 9}});
    for (int i = 0; i < m * n; i++)
        error[i] = l.y[i] / lsb - current_lsb;
    fixture_layer_free(&l);
    return error;
}

OHM_TEST(physics_adc, thermal_noise_is_gaussian)
{
    static const char *const normals[] = {"adc.noise_lsb=50 normals=fast", "adc.noise_lsb=50 normals=exact"};
    for (int i = 0; i < 2; i++) {
        enum { M = 256, N = 256, COUNT = M * N };
        double *error = noise_lsb(normals[i], 14, 20, M, N);
        OHM_ASSERT(ohm_compare_normal(error, COUNT, 0, 50, OHM_ALPHA));
        OHM_ASSERT(ohm_compare_normal_moments(error, COUNT, 0, sqrt(2500.0 + 1.0 / 12), OHM_ALPHA));
        double limit = 5.0 / sqrt(COUNT - N);
        ck_assert(fabs(physics_correlation(error, error + 1, COUNT - 1)) < limit);     /* between columns */
        ck_assert(fabs(physics_correlation(error, error + N, COUNT - N)) < limit);     /* between samples */
        free(error);
    }
}

/* Noise comes before rounding: code c appears with the normal's probability between its thresholds. */
OHM_TEST(physics_adc, noise_is_added_before_rounding)
{
    enum { COUNT = 1 << 16 };
    double *error = noise_lsb("adc.noise_lsb=0.6", 8, 20.3, 256, 256);
    for (int code = 18; code <= 22; code++) {
        double low = (code - 0.5 - 20.3) / 0.6, high = (code + 0.5 - 20.3) / 0.6;
        double p = 0.5 * (erfc(-high * M_SQRT1_2) - erfc(-low * M_SQRT1_2));
        long seen = 0;
        for (int i = 0; i < COUNT; i++)
            seen += rint(error[i] + 20.3) == code;
        ck_assert_msg(physics_binomial_z(seen, COUNT, p) < 5.0, "code %d: %ld of %d, probability %g", code, seen, COUNT, p);
    }
    free(error);
}

/* The noise of a full code stays inside the codes. */
OHM_TEST(physics_adc, noise_does_not_leave_the_codes)
{
    double *error = noise_lsb("adc.noise_lsb=5", 8, 126, 64, 64);
    double most = -1e9;
    for (int i = 0; i < 64 * 64; i++)
        most = fmax(most, error[i]);
    ck_assert_msg(fabs(most - 1.0) < 1e-3, "largest %g", most);
    free(error);
}
