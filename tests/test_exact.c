/* The ideal chip computes the integer product exactly, whatever its mapping. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/compare.h"
#include "tests/fixture_chip.h"
#include "tests/runner.h"

static void check_exact(int m, int k, int n, const char *settings)
{
    fixture_layer layer;
    fixture_layer_make(&layer, m, k, n);
    fixture_integers(layer.x, (size_t)m * k, 127, 11);
    fixture_integers(layer.w, (size_t)n * k, 127, 12);
    fixture_integers(layer.bias, (size_t)n, 5000, 13);
    if (strstr(settings, "unsigned"))
        for (int i = 0; i < m * k; i++)
            layer.x[i] = layer.x[i] < 0 ? -layer.x[i] : layer.x[i];
    fixture_forward(&layer, &(fixture_run){.settings = settings, .chunk = m > 3 ? 3 : 0});
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            int64_t sum = (int64_t)layer.bias[j];
            for (int r = 0; r < k; r++)
                sum += (int64_t)layer.x[(size_t)i * k + r] * (int64_t)layer.w[(size_t)j * k + r];
            ck_assert_msg(layer.y[(size_t)i * n + j] == (float)sum,
                          "%dx%dx%d %s: y[%d,%d] = %.9g, the integer product is %lld", m, k, n,
                          settings, i, j, (double)layer.y[(size_t)i * n + j], (long long)sum);
        }
    fixture_layer_free(&layer);
}

static const char *const inputs[] = {"offset", "offset input.correction=nominal", "two_phase",
                                     "sign_magnitude", "unsigned"};
static const char *const weights[] = {"differential", "differential weight.subtract=digital",
                                      "offset", "offset weight.subtract=digital"};

OHM_TEST(exact, every_mapping)
{
    for (int input = 0; input < 5; input++)
        for (int weight = 0; weight < 4; weight++)
            for (int bits = 1; bits <= 8; bits++) {
                char settings[512];
                int dac = bits, cell = (bits * 3 + input + weight) % 8 + 1;
                snprintf(settings, sizeof settings,
                         "quantise.x_range=127 quantise.w_range=127 input.encoding=%s "
                         "weight.encoding=%s input.dac_bits=%d weight.cell_bits=%d "
                         "tile.rows=29 tile.cols=16 cell.on_off=%s tile.split=%s bias=%s "
                         "mvm.precision=%s",
                         inputs[input], weights[weight], dac, cell, bits % 2 ? "100" : "inf",
                         bits % 3 ? "fill" : "even", bits % 4 ? "digital" : "rows",
                         (bits + input + weight) % 2 ? "fp16" : "fp32");
                check_exact(7, 71, 33, settings);
            }
}

OHM_TEST_SLOW(exact, every_bit_pair)
{
    for (int input = 0; input < 5; input++)
        for (int weight = 0; weight < 4; weight++)
            for (int dac = 1; dac <= 8; dac++)
                for (int cell = 1; cell <= 8; cell++) {
                    char settings[512];
                    snprintf(settings, sizeof settings,
                             "quantise.x_range=127 quantise.w_range=127 input.encoding=%s "
                             "weight.encoding=%s input.dac_bits=%d "
                             "weight.cell_bits=%d tile.rows=64 cell.on_off=%d mvm.precision=fp16",
                             inputs[input], weights[weight], dac, cell, 3 + dac * cell);
                    check_exact(3, 130, 17, settings);
                }
}

OHM_TEST(exact, small_and_large)
{
    const char *const settings[] = {"quantise.x_range=127 quantise.w_range=127 tile.rows=512 "
                                    "input.dac_bits=8 weight.cell_bits=8",
                                    "quantise.x_range=127 quantise.w_range=127 tile.rows=512 "
                                    "weight.encoding=offset input.dac_bits=8 weight.cell_bits=8",
                                    "quantise.x_range=127 quantise.w_range=127 tile.rows=2000 "
                                    "input.encoding=two_phase input.dac_bits=7 weight.cell_bits=7"};
    for (int i = 0; i < 3; i++) {
        check_exact(1, 1, 1, settings[i]);
        check_exact(1, 300, 1, settings[i]);
        check_exact(2, 1, 40, settings[i]);
        check_exact(50, 1037, 3, settings[i]);
    }
}

OHM_TEST(exact, adc_with_enough_codes)
{
    check_exact(5, 200, 20,
                "quantise.x_range=127 quantise.w_range=127 tile.rows=64 input.dac_bits=1 "
                "weight.cell_bits=1 adc.bits=8 adc.range=granular");
    check_exact(5, 200, 20,
                "quantise.x_range=127 quantise.w_range=127 tile.rows=64 input.dac_bits=2 "
                "weight.cell_bits=2 adc.bits=12 adc.range=max "
                "input.encoding=two_phase");
    check_exact(5, 200, 20,
                "quantise.x_range=127 quantise.w_range=127 tile.rows=31 input.dac_bits=1 "
                "weight.cell_bits=1 adc.bits=6 adc.range=max "
                "input.encoding=sign_magnitude weight.encoding=offset cell.on_off=inf");
}
