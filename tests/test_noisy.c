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

OHM_TEST(noisy, refuses_nan_and_infinity)
{
    static const float bad[] = {NAN, INFINITY};
    for (int i = 0; i < 4; i++) {
        ohm_hardware hardware;
        ohm_noisy *noisy;
        float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, w[8] = {1, 2, 3, 4, 5, 6, 7, 8};
        (i < 2 ? x : w)[3] = bad[i % 2];
        fixture_hardware(&hardware, "adc.bits=0");
        OHM_OK_OR_FAIL(ohm_noisy_create(&noisy, &hardware, 4, 2, 0));
        ohm_noisy_pass pass = {.w = w,
                               .x = x,
                               .x_count = 8,
                               .state = malloc(ohm_noisy_state_bytes(noisy, 0)),
                               .scratch = malloc(ohm_noisy_scratch_bytes(noisy, 2, 0))};
        ck_assert_int_eq(ohm_noisy_begin(noisy, &pass), OHM_ERR_DATA);
        ck_assert_ptr_nonnull(strstr(ohm_error_text(), "NaN or infinity"));
        free(pass.state);
        free(pass.scratch);
        ohm_noisy_destroy(noisy);
    }
}
