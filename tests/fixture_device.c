#include "tests/fixture_device.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/compare.h"

void device_images(void *context, int first, int images, int64_t step)
{
    ohm_network *network = context;
    const ohm_architecture *a = ohm_network_architecture(network);
    float *x = ohm_network_images(network);
    int32_t *label = ohm_network_labels(network);
    size_t pixels = (size_t)(a->height * a->width * a->channels);
    for (int i = 0; i < images; i++) {
        uint32_t state = (uint32_t)(100 * step + first + i) * 7919u + 1;
        for (size_t j = 0; j < pixels; j++) {
            state = state * 1664525u + 1013904223u;
            x[(size_t)i * pixels + j] = (float)(int32_t)(state >> 8 & 0xFFFF) / 32768.0f - 1.0f;
        }
        label[i] = (first + i) % a->classes;
    }
}

device_model *device_model_of(int kind, int size, int channels, const char *device,
                              const char *const *set, int checked)
{
    device_model *m = calloc(1, sizeof *m);
    char text[32];
    ck_assert_ptr_nonnull(m);
    OHM_OK_OR_FAIL(ohm_config_read(&m->config, NULL));
    m->config.network.kind = kind;
    m->config.train.mode = OHM_MODE_BASELINE;
    m->config.train.batch = 4;
    m->config.train.lr = 0.05;
    m->config.hardware_enabled = 0;
    snprintf(text, sizeof text, "device=%s", device);
    OHM_OK_OR_FAIL(ohm_config_set(&m->config, text));
    for (; set && *set; set++)
        OHM_OK_OR_FAIL(ohm_config_set(&m->config, *set));
    OHM_OK_OR_FAIL(ohm_config_check(&m->config));
    OHM_OK_OR_FAIL(ohm_model_build(&m->architecture, &m->config, size, size, channels, 10));
    const ohm_network_options options = {
        .max_batch = ohm_step_images(&m->config), .training = 1, .checked = checked};
    OHM_OK_OR_FAIL(ohm_network_create(&m->network, &m->architecture, &m->config, &options));
    return m;
}

void device_drop(device_model *m)
{
    ohm_network_destroy(m->network);
    free(m);
}

ohm_status device_step(device_model *m, int64_t step, double *loss, int *correct)
{
    const ohm_step s = {
        .network = m->network, .config = &m->config, .fill = device_images, .context = m->network};
    return ohm_step_run(&s, step, 0.05 / (double)(step + 1), loss, correct);
}

float *device_part(const device_model *m, int i, int kind, size_t *count)
{
    int parameters;
    const ohm_parameter *p = ohm_network_parameters(m->network, &parameters);
    const float *from = i >= parameters ? NULL : kind ? p[i].moment1 : p[i].value;
    *count = i < parameters ? p[i].count : 0;
    if (i >= parameters || !from)
        return NULL;
    float *host = malloc(p[i].count * sizeof *host + 1);
    ck_assert_ptr_nonnull(host);
    OHM_OK_OR_FAIL(ohm_network_read(m->network, host, from, p[i].count));
    return host;
}

void device_compare(const device_model *a, const device_model *b, double atol)
{
    int parameters;
    ohm_network_parameters(a->network, &parameters);
    ck_assert_int_gt(parameters, 0);
    for (int i = 0; i < 2 * parameters; i++) {
        size_t count;
        float *x = device_part(a, i / 2, i % 2, &count), *y = device_part(b, i / 2, i % 2, &count);
        ck_assert_int_eq(x != NULL, y != NULL);
        for (size_t j = 0; x && j < count && atol > 0.0; j++)
            ck_assert_msg(fabs((double)x[j] - (double)y[j]) <= atol,
                          "parameter %d, part %d [%zu]: %.9g and %.9g", i / 2, i % 2, j,
                          (double)x[j], (double)y[j]);
        if (x && atol == 0.0)
            OHM_ASSERT(ohm_compare_bits(x, y, count));
        free(x);
        free(y);
    }
}
