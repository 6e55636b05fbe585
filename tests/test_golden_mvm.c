/* The chip against tests/golden/mvm.safetensors: another implementation in numpy (make_mvm.py beside
 * it), float64, written from the physics. Operands lie off every rounding edge, so that the codes
 * must be the same and only float error is left. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/safetensors.h"
#include "tests/compare.h"
#include "tests/fixture_chip.h"
#include "tests/runner.h"

enum { KEY = 128 };

static const ohm_safetensor *part(const ohm_safetensors *file, const char *name, const char *what)
{
    char key[KEY];
    snprintf(key, sizeof key, "%s/%s", name, what);
    const ohm_safetensor *tensor = ohm_safetensors_find(file, key);
    ck_assert_msg(tensor != NULL, "mvm.safetensors: has no %s; run tests/golden/make_mvm.py", key);
    return tensor;
}

/* A tolerance is a share of the largest |y|: outputs are sums that cancel. */
static ohm_verdict compare_y(const ohm_safetensors *file, const char *name, const float *got, const ohm_safetensor *y)
{
    char key[KEY];
    snprintf(key, sizeof key, "%s/tolerance", name);
    const char *share = ohm_safetensors_metadata(file, key);
    ck_assert_msg(share != NULL, "mvm.safetensors: has no %s; run tests/golden/make_mvm.py", key);
    const float *ref = y->data;
    double largest = 0;
    for (size_t i = 0; i < y->count; i++)
        largest = fmax(largest, fabs((double)ref[i]));
    return ohm_compare_close(got, ref, y->count, strtod(share, NULL) * largest, 0.0);
}

static void check_case(const ohm_safetensors *file, const char *name, int chunk)
{
    const ohm_safetensor *x = part(file, name, "x"), *w = part(file, name, "w"), *b = part(file, name, "b"), *y = part(file, name, "y");
    fixture_layer layer;
    ohm_hardware hardware;
    fixture_layer_make(&layer, (int)x->shape[0], (int)x->shape[1], (int)w->shape[0]);
    memcpy(layer.x, x->data, x->bytes);
    memcpy(layer.w, w->data, w->bytes);
    memcpy(layer.bias, b->data, b->bytes);
    fixture_run run = {.settings = ohm_safetensors_metadata(file, name), .calibrate = 1, .chunk = chunk};
    fixture_hardware(&hardware, run.settings);
    run.moment = (ohm_chip_moment){.seed = 1, .evaluation = 1, .time_s = hardware.retention.time_s};
    fixture_forward(&layer, &run);
    ohm_verdict verdict = compare_y(file, name, layer.y, y);
    ck_assert_msg(verdict.pass, "%s (%s): %s", name, run.settings, verdict.text);
    fixture_layer_free(&layer);
}

OHM_TEST(golden_mvm, every_case)
{
    ohm_safetensors *file;
    OHM_OK_OR_FAIL(ohm_safetensors_read(&file, "tests/golden/mvm.safetensors"));
    int cases = 0;
    for (int i = 0; i < ohm_safetensors_count(file); i++) {
        const char *key = ohm_safetensors_at(file, i)->name, *slash = strchr(key, '/');
        if (!slash || strcmp(slash, "/x") != 0)
            continue;
        char name[KEY];
        snprintf(name, sizeof name, "%.*s", (int)(slash - key), key);
        check_case(file, name, cases++ % 2 ? 2 : 0);
    }
    ck_assert_int_gt(cases, 50);
    ohm_safetensors_destroy(file);
}
