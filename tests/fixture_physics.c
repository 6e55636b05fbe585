#include "tests/fixture_physics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/runner.h"

static void shape_of(ohm_hardware *hardware, ohm_chip_shape *shape, ohm_geometry *g, const char *settings)
{
    fixture_hardware(hardware, settings);
    ohm_device_shape(shape, hardware, 1, 1, 3);
    ohm_device_geometry(g, shape);
}

double physics_step_us(const char *settings)
{
    ohm_hardware hardware;
    fixture_hardware(&hardware, settings);
    double g_min = isinf(hardware.cell.on_off) ? 0.0 : hardware.cell.g_max_us / hardware.cell.on_off;
    int bits = hardware.quantise.bits - (hardware.weight.encoding == OHM_WEIGHT_DIFFERENTIAL);
    int cell_bits = hardware.weight.cell_bits < bits ? hardware.weight.cell_bits : bits;
    return (hardware.cell.g_max_us - g_min) / ((1 << cell_bits) - 1);
}

double physics_target_us(const char *settings, int level)
{
    ohm_hardware hardware;
    fixture_hardware(&hardware, settings);
    double g_min = isinf(hardware.cell.on_off) ? 0.0 : hardware.cell.g_max_us / hardware.cell.on_off;
    return g_min + level * physics_step_us(settings);
}

double physics_unit_ua(const char *settings)
{
    ohm_hardware hardware;
    fixture_hardware(&hardware, settings);
    int bits = hardware.quantise.bits - (hardware.input.encoding != OHM_INPUT_OFFSET);
    int dac_bits = hardware.input.dac_bits < bits ? hardware.input.dac_bits : bits;
    return hardware.input.v_read_v / ((1 << dac_bits) - 1) * physics_step_us(settings);
}

void physics_cells(double *g, const char *settings, int level, int count, const ohm_chip_moment *moment)
{
    ohm_hardware hardware;
    ohm_chip_shape shape;
    ohm_geometry geometry;
    ohm_programming programming;
    uint8_t *levels = malloc((size_t)count);
    ck_assert_ptr_nonnull(levels);
    memset(levels, level, (size_t)count);
    shape_of(&hardware, &shape, &geometry, settings);
    ohm_device_programming(&programming, &geometry, &shape, moment);
    ohm_program_cells(g, NULL, &programming, levels, 0, count);
    double step = physics_step_us(settings);
    for (int i = 0; i < count; i++)
        g[i] *= step;
    free(levels);
}

/* ---- A layer that stays ----------------------------------------------------------------------- */

void physics_open(physics_session *s, const char *settings, int m, int k, int n)
{
    ohm_hardware hardware;
    fixture_hardware(&hardware, settings);
    physics_open_chip(s, &hardware, m, k, n);
}

void physics_open_chip(physics_session *s, const ohm_hardware *hardware, int m, int k, int n)
{
    memset(s, 0, sizeof *s);
    fixture_layer_make(&s->layer, m, k, n);
    s->hardware = *hardware;
    OHM_OK_OR_FAIL(ohm_noisy_create(&s->noisy, NULL, &s->hardware, k, n, 3));
    size_t count = ohm_noisy_persistent_count(s->noisy);
    s->pass.persistent = calloc(count, sizeof(float));
    s->pass.state = malloc(ohm_noisy_state_bytes(s->noisy, 0));
    s->pass.scratch = malloc(ohm_noisy_scratch_bytes(s->noisy, m, 0));
    ck_assert(s->pass.persistent && s->pass.state && s->pass.scratch);
    s->pass.moment = (ohm_chip_moment){.seed = 5, .chip = 1, .time_s = s->hardware.retention.time_s};
    ohm_chip_shape shape;
    ohm_device_shape(&shape, &s->hardware, k, n, 3);
    s->planes = shape.planes;
    s->slices = shape.slices;
    size_t ranges = (size_t)shape.planes * (size_t)shape.slices * (s->hardware.adc.granularity == OHM_ADC_PER_COLUMN ? (size_t)n : 1);
    s->lsb = s->pass.persistent + (count - ranges); /* the ranges stand last */
}

void physics_pass(physics_session *s)
{
    fixture_layer *l = &s->layer;
    s->pass.w = l->w;
    s->pass.bias = l->bias;
    s->pass.x = l->x;
    s->pass.x_count = (size_t)l->m * l->k;
    ohm_noisy_pass pass = s->pass;
    OHM_OK_OR_FAIL(ohm_noisy_begin(s->noisy, &pass));
    while (ohm_noisy_wants_measure(s->noisy)) {
        OHM_OK_OR_FAIL(ohm_noisy_measure_rows(s->noisy, l->x, l->k, l->m, 0));
        OHM_OK_OR_FAIL(ohm_noisy_measured(s->noisy));
    }
    OHM_OK_OR_FAIL(ohm_noisy_rows(s->noisy, l->y, l->n, l->x, l->k, l->m, 0));
    ohm_noisy_end(s->noisy);
}

void physics_close(physics_session *s)
{
    ohm_noisy_destroy(s->noisy);
    free(s->pass.persistent);
    free(s->pass.state);
    free(s->pass.scratch);
    fixture_layer_free(&s->layer);
}

/* ---- Numbers ---------------------------------------------------------------------------------- */

void physics_uniform(fixture_layer *layer, const float *x, const float *w)
{
    for (int i = 0; i < layer->m; i++)
        memcpy(layer->x + (size_t)i * layer->k, x, (size_t)layer->k * sizeof *x);
    for (int n = 0; n < layer->n; n++)
        memcpy(layer->w + (size_t)n * layer->k, w, (size_t)layer->k * sizeof *w);
}

void physics_product(double *y, const fixture_layer *l)
{
    for (int i = 0; i < l->m; i++)
        for (int n = 0; n < l->n; n++) {
            double sum = 0.0;
            for (int k = 0; k < l->k; k++)
                sum += (double)l->x[(size_t)i * l->k + k] * l->w[(size_t)n * l->k + k];
            y[(size_t)i * l->n + n] = sum + l->bias[n];
        }
}

double physics_rms(const double *x, size_t count)
{
    double sum = 0.0;
    for (size_t i = 0; i < count; i++)
        sum += x[i] * x[i];
    return sqrt(sum / (double)count);
}

double physics_error(const fixture_layer *layer, const double *exact)
{
    double sum = 0.0;
    size_t count = (size_t)layer->m * layer->n;
    for (size_t i = 0; i < count; i++)
        sum += (layer->y[i] - exact[i]) * (layer->y[i] - exact[i]);
    return sqrt(sum / (double)count) / physics_rms(exact, count);
}

double physics_binomial_z(long count, long n, double p)
{
    return fabs((double)count - (double)n * p) / sqrt((double)n * p * (1.0 - p));
}

double physics_correlation(const double *x, const double *y, size_t n)
{
    double mx = 0.0, my = 0.0, xx = 0.0, yy = 0.0, xy = 0.0;
    for (size_t i = 0; i < n; i++) {
        mx += x[i] / (double)n;
        my += y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
        xy += (x[i] - mx) * (y[i] - my);
    }
    return xy / sqrt(xx * yy);
}

static double normal_cdf(double z)
{
    return 0.5 * erfc(-z * M_SQRT1_2);
}

double physics_cdf_folded(double x, const void *context)
{
    const double *c = context;
    return x < 0.0 ? 0.0 : normal_cdf((x - c[0]) / c[1]) - normal_cdf((-x - c[0]) / c[1]);
}

double physics_cdf_truncated(double x, const void *context)
{
    double t = *(const double *)context, low = normal_cdf(-t);
    return x <= -t ? 0.0 : x >= t ? 1.0 : (normal_cdf(x) - low) / (1.0 - 2.0 * low);
}
