/* The noisy layer: what is drawn when. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/fixture_chip.h"
#include "tests/runner.h"

/* The layer at two optimiser steps; 1 if all outputs agree to the bit. */
static int same_at_two_steps(const char *settings)
{
    fixture_layer layer;
    fixture_layer_make(&layer, 6, 40, 10);
    float first[60];
    fixture_forward(&layer, &(fixture_run){.settings = settings, .moment = {.seed = 3, .step = 4}});
    memcpy(first, layer.y, sizeof first);
    fixture_forward(&layer, &(fixture_run){.settings = settings, .moment = {.seed = 3, .step = 5}});
    int same = !memcmp(first, layer.y, sizeof first);
    fixture_layer_free(&layer);
    return same;
}

OHM_TEST(noisy, programming_every_step_or_once)
{
    ck_assert(!same_at_two_steps("programming.model=lognormal programming.every=step"));
    ck_assert(same_at_two_steps("programming.model=lognormal programming.every=once"));
    ck_assert(!same_at_two_steps(
        "programming.model=lognormal programming.every=once read.model=constant read.sigma=0.02"));
    ck_assert(
        !same_at_two_steps("programming.model=lognormal programming.every=once input.noise=0.3"));
    ck_assert(!same_at_two_steps("programming.model=lognormal programming.every=once adc.bits=6 "
                                 "adc.range=max adc.noise_lsb=1"));
    ck_assert(same_at_two_steps("retention.model=pcm retention.time_s=1e5 faults.stuck_on=0.1"));
}

OHM_TEST(noisy, another_chip_another_layer_another_seed)
{
    static const ohm_chip_moment moments[] = {
        {.seed = 3}, {.seed = 4}, {.seed = 3, .chip = 1}, {.seed = 3, .evaluation = 1}};
    fixture_layer layer;
    fixture_layer_make(&layer, 6, 40, 10);
    float y[4][60];
    for (int i = 0; i < 4; i++) {
        fixture_forward(&layer, &(fixture_run){.settings = "programming.model=lognormal",
                                               .moment = moments[i]});
        memcpy(y[i], layer.y, sizeof y[i]);
        for (int j = 0; j < i; j++)
            ck_assert_msg(memcmp(y[i], y[j], sizeof y[i]), "moments %d and %d give the same chip",
                          j, i);
    }
    fixture_layer_free(&layer);
}

OHM_TEST(noisy, a_layer_of_zeros_stays_zero)
{
    fixture_layer layer;
    fixture_layer_make(&layer, 4, 20, 5);
    memset(layer.x, 0, 80 * sizeof(float));
    fixture_forward(&layer,
                    &(fixture_run){.settings = "adc.bits=8 adc.range=calibrated", .calibrate = 1});
    OHM_ASSERT(ohm_compare_zero(layer.y, 20));
    fixture_reals(layer.x, 80, 1);
    memset(layer.w, 0, 100 * sizeof(float));
    fixture_forward(&layer, &(fixture_run){.settings = "adc.bits=8 adc.range=data"});
    OHM_ASSERT(ohm_compare_zero(layer.y, 20));
    fixture_layer_free(&layer);
}

/* Rows of one input with the always-on rows behind it are no dense column. */
OHM_TEST(noisy, a_bias_on_rows_behind_one_input)
{
    enum { ROWS = 70, OUTPUTS = 3 };
    fixture_layer layer;
    fixture_layer_make(&layer, ROWS, 1, OUTPUTS);
    fixture_forward(&layer, &(fixture_run){.settings = "bias=rows adc.bits=0"});
    for (int i = 0; i < ROWS; i++)
        for (int n = 0; n < OUTPUTS; n++) {
            float want = layer.x[i] * layer.w[n] + layer.bias[n];
            ck_assert_msg(fabsf(layer.y[i * OUTPUTS + n] - want) < 0.02f, "row %d: %g, not %g", i,
                          (double)layer.y[i * OUTPUTS + n], (double)want);
        }
    fixture_layer_free(&layer);
}

OHM_TEST(noisy, refuses_nan_and_infinity)
{
    static const float bad[] = {NAN, INFINITY};
    for (int i = 0; i < 4; i++) {
        ohm_hardware hardware;
        ohm_noisy *noisy;
        float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, w[8] = {1, 2, 3, 4, 5, 6, 7, 8};
        (i < 2 ? x : w)[3] = bad[i % 2];
        fixture_hardware(&hardware, "adc.bits=0");
        OHM_OK_OR_FAIL(ohm_noisy_create(&noisy, NULL, &hardware, 4, 2, 0));
        ohm_noisy_pass pass = {.w = w,
                               .x = x,
                               .x_count = 8,
                               .persistent = calloc(ohm_noisy_persistent_count(noisy), sizeof(float)),
                           .state = malloc(ohm_noisy_state_bytes(noisy, 0)),
                               .scratch = malloc(ohm_noisy_scratch_bytes(noisy, 2, 0))};
        ck_assert_int_eq(ohm_noisy_begin(noisy, &pass), OHM_ERR_DATA);
        ck_assert_ptr_nonnull(strstr(ohm_error_text(), "NaN or infinity"));
        free(pass.persistent);
        free(pass.state);
        free(pass.scratch);
        ohm_noisy_destroy(noisy);
    }
}

/* ---- rows cut from codes ------------------------------------------------------------------- */

enum { CODE_ROWS = 33, CODE_K = 19, CODE_N = 5 };

/* The layer on rows of x, or on rows of its codes; measured first. */
static ohm_status forward_by(const char *settings, int by_codes, const float *x, float *y)
{
    ohm_hardware hardware;
    ohm_noisy *noisy;
    float w[CODE_N * CODE_K], bias[CODE_N] = {0.5f, -0.25f, 0, 3, -2};
    uint8_t codes[CODE_ROWS * CODE_K], zero = 0;
    fixture_hardware(&hardware, settings);
    fixture_reals(w, CODE_N * CODE_K, 5);
    OHM_OK_OR_FAIL(ohm_noisy_create(&noisy, NULL, &hardware, CODE_K, CODE_N, 0));
    ck_assert_int_eq(ohm_noisy_takes_codes(noisy), 1);
    ohm_noisy_pass pass = {.w = w,
                           .bias = bias,
                           .x = x,
                           .x_count = CODE_ROWS * CODE_K,
                           .moment = {.seed = 2, .step = 1},
                           .persistent = calloc(ohm_noisy_persistent_count(noisy), sizeof(float)),
                           .state = malloc(ohm_noisy_state_bytes(noisy, 0)),
                           .scratch = malloc(ohm_noisy_scratch_bytes(noisy, CODE_ROWS, 0))};
    OHM_OK_OR_FAIL(ohm_noisy_begin(noisy, &pass));
    ohm_status status = by_codes ? ohm_noisy_quantise(noisy, codes, &zero) : OHM_OK;
    while (status == OHM_OK && ohm_noisy_wants_measure(noisy)) {
        status = by_codes ? ohm_noisy_measure_codes(noisy, codes, CODE_K, CODE_ROWS, 0)
                          : ohm_noisy_measure_rows(noisy, x, CODE_K, CODE_ROWS, 0);
        if (status == OHM_OK)
            OHM_OK_OR_FAIL(ohm_noisy_measured(noisy));
    }
    if (status == OHM_OK)
        status = by_codes ? ohm_noisy_code_rows(noisy, y, CODE_N, codes, CODE_K, CODE_ROWS, 0)
                          : ohm_noisy_rows(noisy, y, CODE_N, x, CODE_K, CODE_ROWS, 0);
    free(pass.persistent);
    free(pass.state);
    free(pass.scratch);
    ohm_noisy_destroy(noisy);
    return status;
}

OHM_TEST(noisy, rows_of_codes_are_rows_of_x)
{
    static const char *const settings[] = {
        "input.encoding=offset read.model=constant read.sigma=0.02 adc.bits=7 adc.range=data",
        "input.encoding=two_phase programming.model=lognormal adc.bits=8 adc.range=calibrated:99",
        "input.encoding=sign_magnitude bias=rows adc.bits=0",
        "input.encoding=offset bias=rows adc.bits=8 adc.range=data",
        "input.encoding=unsigned adc.bits=8 adc.range=max",
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        float x[CODE_ROWS * CODE_K], y[2][CODE_ROWS * CODE_N];
        fixture_reals(x, CODE_ROWS * CODE_K, 4);
        for (int j = 0; j < CODE_ROWS * CODE_K && i == 4; j++)
            x[j] = fabsf(x[j]);
        OHM_OK_OR_FAIL(forward_by(settings[i], 0, x, y[0]));
        OHM_OK_OR_FAIL(forward_by(settings[i], 1, x, y[1]));
        OHM_ASSERT(ohm_compare_bits(y[1], y[0], CODE_ROWS * CODE_N));
    }
}

OHM_TEST(noisy, codes_of_negative_inputs_need_a_sign)
{
    float x[CODE_ROWS * CODE_K] = {1, -1}, y[CODE_ROWS * CODE_N];
    ck_assert_int_eq(forward_by("input.encoding=unsigned adc.bits=0", 1, x, y), OHM_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "negative input"));
}
