/* Read noise and Johnson noise against physics.md section 3, and the two forms of read noise
 * against each other. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/irdrop.h"
#include "tests/compare.h"
#include "tests/fixture_physics.h"
#include "tests/runner.h"

enum { TEXT = 2048, K = 4 };

static const float drive[K] = {127, -60, 0, 33}, weight[K] = {100, -3, 90, 0};

/* y of m x n reads of one current, less what it should be, in digit·level units. */
static double *errors(const char *settings, int m, int n, const float *x, const float *w)
{
    char text[TEXT];
    fixture_layer l;
    double clean = 0.0, *error = malloc((size_t)m * n * sizeof *error);
    ohm_hardware *hardware = malloc(sizeof *hardware);
    ck_assert(error && hardware);
    snprintf(text, sizeof text, PHYSICS_ONE_READ "%s", settings);
    fixture_hardware(hardware, text);
    ohm_chip_moment moment = {.seed = 21, .step = 2, .time_s = hardware->retention.time_s};
    fixture_layer_make(&l, m, K, n);
    physics_uniform(&l, x, w);
    fixture_forward(&l, &(fixture_run){.settings = text, .moment = moment});
    for (int k = 0; k < K; k++)
        clean += (double)x[k] * w[k];
    for (int i = 0; i < m * n; i++)
        error[i] = l.y[i] - clean;
    fixture_layer_free(&l);
    free(hardware);
    return error;
}

/* sigma(G) in µS of a cell of G µS. */
typedef double sigma_law(double g_us);

/* Variance of the current: a pair of cells per weight, those at G_min included. */
static double variance_of(const char *settings, sigma_law *law)
{
    char text[TEXT];
    snprintf(text, sizeof text, PHYSICS_ONE_READ "%s", settings);
    double step = physics_step_us(text), sum = 0.0, other = pow(law(physics_target_us(text, 0)) / step, 2);
    for (int k = 0; k < K; k++)
        sum += drive[k] * drive[k] * (pow(law(physics_target_us(text, (int)fabsf(weight[k]))) / step, 2) + other);
    return sum;
}

static void check_model(const char *settings, sigma_law *law)
{
    enum { M = 128, N = 256 };
    double sd = sqrt(variance_of(settings, law)), *error = errors(settings, M, N, drive, weight);
    OHM_ASSERT(ohm_compare_normal(error, M * N, 0, sd, OHM_ALPHA));
    OHM_ASSERT(ohm_compare_normal_moments(error, M * N, 0, sd, OHM_ALPHA));
    double limit = 5.0 / sqrt(M * N - N);
    ck_assert(fabs(physics_correlation(error, error + 1, M * N - 1)) < limit);
    ck_assert(fabs(physics_correlation(error, error + N, M * N - N)) < limit);
    free(error);
}

static double constant(double g)
{
    (void)g;
    return 0.02 * 25;
}
static double proportional(double g)
{
    return 0.08 * g;
}
static double polynomial(double g)
{
    return 0.1 + 0.9 * (g / 25) - 0.5 * (g / 25) * (g / 25);
}
static double table(double g)
{
    return g < 5 ? 0.4 : g < 15 ? 0.4 + (g - 5) * 0.03 : 0.7; /* the rows below */
}
static double pcm(double g)
{
    return 0.0175 * 25 * sqrt(g / 25);
}
static double logarithmic(double g)
{
    return g > 1 ? 0.02773 * log10(g) * sqrt(log((3600 + 1e-6) / 2e-6)) : 0.0;
}

OHM_TEST(physics_read, constant_sigma)
{
    check_model("read.model=constant read.sigma=0.02 cell.on_off=10", constant);
    check_model("read.model=constant read.sigma=0.02 cell.on_off=10 normals=exact", constant);
}

OHM_TEST(physics_read, proportional_sigma)
{
    check_model("read.model=proportional read.sigma=0.08 cell.on_off=10", proportional);
}

OHM_TEST(physics_read, polynomial_sigma)
{
    check_model("read.model=polynomial read.coefficients_us=[0.1,0.9,-0.5] cell.on_off=10", polynomial);
}

OHM_TEST(physics_read, table_sigma)
{
    char settings[TEXT / 2], path[512];
    snprintf(path, sizeof path, "%s/read.csv", ohm_test_tmpdir());
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs("5,99,0.4\n15,99,0.7\n", f); /* the means are not used */
    ck_assert_int_eq(fclose(f), 0);
    snprintf(settings, sizeof settings, "read.model=table read.table=%s cell.on_off=10", path);
    check_model(settings, table);
}

OHM_TEST(physics_read, pcm_sigma)
{
    check_model("read.model=pcm read.sigma=0.0175 cell.on_off=10", pcm);
}

OHM_TEST(physics_read, logarithmic_sigma)
{
    check_model("read.model=logarithmic read.sigma=0.02773 retention.time_s=3600 retention.t_read_s=1e-6 cell.on_off=10", logarithmic);
}

/* Read noise follows the conductance that a cell has now, not its target. */
OHM_TEST(physics_read, sigma_follows_drift)
{
    enum { M = 128, N = 256 };
    const char *settings = "read.model=proportional read.sigma=0.08 cell.on_off=10 retention.model=power_law retention.nu=0.2 retention.time_s=1980";
    double fade = pow(100, -0.2), sd = fade * sqrt(variance_of(settings, proportional)), *error = errors(settings, M, N, drive, weight), clean = 0.0;
    for (int k = 0; k < K; k++)
        clean += (double)drive[k] * weight[k];
    OHM_ASSERT(ohm_compare_normal_moments(error, M * N, clean * (fade - 1.0), sd, OHM_ALPHA));
    free(error);
}

/* Behind wires, sigma shrinks with G_eff/G. One driven cell pair in the corner of a small tile. */
OHM_TEST(physics_read, sigma_shrinks_with_the_effective_conductance)
{
    enum { M = 256, N = 8 };
    const char *settings = PHYSICS_ONE_READ "read.model=proportional read.sigma=0.05 cell.on_off=inf tile.rows=4 tile.cols=8 "
                                            "ir_drop.model=closed_form ir_drop.r_wordline_ohm=900 ir_drop.r_bitline_ohm=500";
    double g[4 * 8], effective[4 * 8], scratch[7 * 8], step = physics_step_us(settings) * 1e-6;
    fixture_layer l;
    fixture_layer_make(&l, M, 4, N);
    physics_uniform(&l, drive, weight);
    for (int i = 0; i < M * 4; i++)
        l.x[i] = i % 4 ? 0.0f : 127.0f;
    for (int i = 0; i < N * 4; i++)
        l.w[i] = 100.0f; /* all positive: the negative array is empty */
    fixture_forward(&l, &(fixture_run){.settings = settings, .moment = {.seed = 5}});
    for (int i = 0; i < 32; i++)
        g[i] = 100.0;
    ohm_irdrop_closed(effective, g, 4, 8, 0, &(ohm_wires){.word_line = 900 * step, .bit_line = 500 * step}, scratch);
    for (int n = 0; n < N; n++) {
        double error[M], sd = 127 * 0.05 * effective[n];
        ck_assert(effective[n] < 95.0);
        for (int i = 0; i < M; i++)
            error[i] = l.y[i * N + n] - 127 * effective[n];
        OHM_ASSERT(ohm_compare_normal_moments(error, M, 0, sd, OHM_ALPHA));
    }
    fixture_layer_free(&l);
}

/* Reads are fresh each step and each evaluation, and the same for the same moment. */
OHM_TEST(physics_read, drawn_per_read)
{
    enum { M = 64, N = 64 };
    physics_session s;
    static float first[M * N];
    physics_open(&s, "read.model=constant read.sigma=0.05", M, 20, N);
    physics_pass(&s);
    memcpy(first, s.layer.y, sizeof first);
    physics_pass(&s);
    OHM_ASSERT(ohm_compare_bits(s.layer.y, first, M * N));
    s.pass.moment.step++;
    physics_pass(&s);
    int same = 0;
    for (int i = 0; i < M * N; i++)
        same += s.layer.y[i] == first[i];
    ck_assert_int_lt(same, M * N / 100);
    physics_close(&s);
}

/* ---- Johnson noise ------------------------------------------------------------------------------- */

/* Siemens of a pair of columns: K cells each, and two unused rows of a tile of six at G_min. */
#define SIX_ROWS " tile.rows=6 "
static double siemens_of(const char *settings)
{
    double sum = 2 * 2 * physics_target_us(settings, 0);
    for (int k = 0; k < K; k++)
        sum += physics_target_us(settings, (int)fabsf(weight[k])) + physics_target_us(settings, 0);
    return 1e-6 * sum;
}

/* Variance 4kTB·(conductance of both columns) in A^2, whatever the voltage, unused cells included. */
OHM_TEST(physics_read, johnson_noise_does_not_depend_on_the_voltage)
{
    enum { M = 128, N = 256 };
    static const float still[K] = {0};
    const char *settings = "temperature.johnson_bandwidth_hz=1e9 temperature.kelvin=400 temperature.reference_kelvin=400 cell.on_off=10" SIX_ROWS;
    char text[TEXT];
    snprintf(text, sizeof text, PHYSICS_ONE_READ "%s", settings);
    double sd = sqrt(4 * 1.380649e-23 * 400 * 1e9 * siemens_of(text)) / (physics_unit_ua(text) * 1e-6);
    for (int i = 0; i < 2; i++) {
        double *error = errors(settings, M, N, i ? drive : still, weight);
        OHM_ASSERT(ohm_compare_normal(error, M * N, 0, sd, OHM_ALPHA));
        OHM_ASSERT(ohm_compare_normal_moments(error, M * N, 0, sd, OHM_ALPHA));
        free(error);
    }
}

/* Read, Johnson and ADC noise before one quantiser: variances add. */
OHM_TEST(physics_read, gaussians_before_the_adc_add)
{
    enum { M = 128, N = 256 };
    char settings[TEXT / 2], text[TEXT];
    const char *noise = "read.model=constant read.sigma=0.02 temperature.johnson_bandwidth_hz=1e10 cell.on_off=10" SIX_ROWS;
    snprintf(text, sizeof text, PHYSICS_ONE_READ "%s", noise);
    double lsb = 30.0, unit_a = physics_unit_ua(text) * 1e-6;
    double johnson = 4 * 1.380649e-23 * 300 * 1e10 * siemens_of(text) / (unit_a * unit_a);
    double variance = variance_of(noise, constant) + johnson + lsb * lsb * (6.0 * 6.0 + 1.0 / 12);
    snprintf(settings, sizeof settings, "%s adc.bits=12 adc.noise_lsb=6 adc.range=%.17g", noise, lsb * 2047 * unit_a * 1e6);
    double *error = errors(settings, M, N, drive, weight);
    ck_assert(johnson > 0.05 * variance && johnson < 0.6 * variance);
    OHM_ASSERT(ohm_compare_moments(error, M * N, 0, variance, 3, OHM_ALPHA));
    free(error);
}

/* ---- One draw per bit line against one per cell ---------------------------------------------------- */

typedef struct {
    double *value; /* [m][n] errors */
    int m, n;
} sample;

/* m x 16 outputs of one current, form aggregate or per_cell. */
static sample draw_form(const char *settings, const char *form, double sigma, int m)
{
    enum { N = 16, INPUTS = 5 };
    char text[TEXT];
    static const float x[INPUTS] = {90, -127, 40, 5, -77}, w[INPUTS] = {-100, 20, 127, 64, 1};
    fixture_layer l;
    sample s = {malloc((size_t)m * N * sizeof(double)), m, N};
    ck_assert_ptr_nonnull(s.value);
    fixture_layer_make(&l, m, INPUTS, N);
    physics_uniform(&l, x, w);
    snprintf(text, sizeof text, "quantise.x_range=127 quantise.w_range=127 cell.on_off=10 read.model=proportional read.sigma=%g read.form=%s %s",
             sigma, form, settings);
    fixture_forward(&l, &(fixture_run){.settings = text, .moment = {.seed = 31}});
    double clean = 0.0;
    for (int k = 0; k < INPUTS; k++)
        clean += (double)x[k] * w[k];
    for (int i = 0; i < m * N; i++)
        s.value[i] = l.y[i] - clean;
    fixture_layer_free(&l);
    return s;
}

/* Row sums over the columns: what is common to columns shows in their variance. */
static double *row_sums(const sample *s, int columns)
{
    double *sums = calloc((size_t)s->m, sizeof *sums);
    for (int i = 0; i < s->m; i++)
        for (int n = 0; n < columns; n++)
            sums[i] += s->value[(size_t)i * s->n + n];
    return sums;
}

/* One column of each row is compared: outputs of a row may share a reference. */
static ohm_verdict compare_forms(const sample *a, const sample *b, int column)
{
    double *x = malloc((size_t)a->m * sizeof *x), *y = malloc((size_t)b->m * sizeof *y);
    for (int i = 0; i < a->m; i++)
        x[i] = a->value[(size_t)i * a->n + column];
    for (int i = 0; i < b->m; i++)
        y[i] = b->value[(size_t)i * b->n + column];
    ohm_verdict v = ohm_compare_ks2(x, (size_t)a->m, y, (size_t)b->m, OHM_ALPHA);
    if (v.pass)
        v = ohm_compare_moments2(x, (size_t)a->m, y, (size_t)b->m, OHM_ALPHA);
    free(x);
    free(y);
    return v;
}

/* All outputs pooled; for mappings whose columns are independent. */
static ohm_verdict compare_all(const sample *a, const sample *b)
{
    ohm_verdict v = ohm_compare_ks2(a->value, (size_t)a->m * a->n, b->value, (size_t)b->m * b->n, OHM_ALPHA);
    return v.pass ? ohm_compare_moments2(a->value, (size_t)a->m * a->n, b->value, (size_t)b->m * b->n, OHM_ALPHA) : v;
}

/* With 2^17 outputs a side, 2 % in sigma is 4 % in variance or seven standard errors of the ratio. */
static void check_forms(const char *settings)
{
    enum { M = 1 << 13 };
    sample cells = draw_form(settings, "per_cell", 0.05, M), lines = draw_form(settings, "aggregate", 0.05, M),
           more = draw_form(settings, "aggregate", 0.05 * 1.02, M), less = draw_form(settings, "aggregate", 0.05 / 1.02, M);
    OHM_ASSERT(compare_all(&lines, &cells));
    ck_assert_msg(!compare_all(&more, &cells).pass && !compare_all(&less, &cells).pass, "%s: 2 %% in sigma went unseen", settings);
    free(cells.value);
    free(lines.value);
    free(more.value);
    free(less.value);
}

OHM_TEST(physics_read, forms_agree_for_an_analog_pair)
{
    check_forms("input.encoding=sign_magnitude input.dac_bits=7 weight.cell_bits=7");
}

OHM_TEST_SLOW(physics_read, forms_agree_for_digital_subtraction)
{
    check_forms("input.encoding=sign_magnitude input.dac_bits=7 weight.cell_bits=7 weight.subtract=digital");
}

OHM_TEST_SLOW(physics_read, forms_agree_for_two_phases_and_planes)
{
    check_forms("input.encoding=two_phase input.dac_bits=4 weight.cell_bits=7");
}

/* Before a converter: aggregated with its thermal noise into one draw, or apart from it. */
OHM_TEST_SLOW(physics_read, forms_agree_before_a_converter)
{
    check_forms("input.encoding=sign_magnitude input.dac_bits=7 weight.cell_bits=7 adc.bits=16 adc.range=10 adc.noise_lsb=0.5");
}

/* Offset weights share a reference column, drawn once per read: the same in both forms, so that
 * columns of a tile have its variance in common and columns of two tiles have nothing. */
static void check_reference(const char *settings, int m)
{
    enum { FIRST = 8 }; /* columns of a tile: tile.cols 9 with the reference */
    char text[TEXT / 2];
    snprintf(text, sizeof text, "input.encoding=sign_magnitude input.dac_bits=7 weight.cell_bits=8 weight.encoding=offset tile.cols=9 %s", settings);
    sample cells = draw_form(text, "per_cell", 0.05, m), lines = draw_form(text, "aggregate", 0.05, m);
    for (int column = 0; column < 16; column += 5)
        OHM_ASSERT(compare_forms(&lines, &cells, column));
    double *a = row_sums(&cells, FIRST), *b = row_sums(&lines, FIRST);
    OHM_ASSERT(ohm_compare_moments2(a, (size_t)m, b, (size_t)m, OHM_ALPHA));
    /* var(sum of 8) = 8 var(cell) + 64 var(reference), in levels: code w + 128 against code 128 */
    static const double x[] = {90, -127, 40, 5, -77}, w[] = {-100, 20, 127, 64, 1};
    double own = 0.0, common = 0.0, pedestal = 255.0 / 9.0;
    for (int k = 0; k < 5; k++) {
        own += x[k] * x[k] * pow(0.05 * (w[k] + 128 + pedestal), 2);
        common += x[k] * x[k] * pow(0.05 * (128 + pedestal), 2);
    }
    OHM_ASSERT(ohm_compare_normal_moments(a, (size_t)m, 0, sqrt(8 * own + 64 * common), OHM_ALPHA));
    OHM_ASSERT(ohm_compare_normal_moments(b, (size_t)m, 0, sqrt(8 * own + 64 * common), OHM_ALPHA));
    double *left = malloc((size_t)m * sizeof *left), *right = malloc((size_t)m * sizeof *right), *far = malloc((size_t)m * sizeof *far);
    for (int form = 0; form < 2; form++) {
        const sample *s = form ? &lines : &cells;
        for (int i = 0; i < m; i++) {
            left[i] = s->value[(size_t)i * 16];
            right[i] = s->value[(size_t)i * 16 + 7];
            far[i] = s->value[(size_t)i * 16 + 8];
        }
        double r = common / (own + common), se = (1.0 - r * r) / sqrt(m);
        ck_assert_msg(fabs(physics_correlation(left, right, (size_t)m) - r) < 5.0 * se, "form %d: columns of a tile correlate by %g, not %g", form,
                      physics_correlation(left, right, (size_t)m), r);
        ck_assert(fabs(physics_correlation(left, far, (size_t)m)) < 5.0 / sqrt(m));
    }
    free(left);
    free(right);
    free(far);
    free(a);
    free(b);
    free(cells.value);
    free(lines.value);
}

OHM_TEST(physics_read, reference_column_is_common_to_its_tile)
{
    check_reference("weight.subtract=analog", 1 << 12);
}

OHM_TEST_SLOW(physics_read, reference_column_is_common_to_its_tile_digitally)
{
    check_reference("weight.subtract=digital", 1 << 14);
    check_reference("weight.subtract=analog", 1 << 14);
}
