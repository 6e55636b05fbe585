/* Presets against the numbers of their sources, and the checks across keys. */
#include "host/hardware.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/config.h"
#include "tests/runner.h"

static ohm_hardware *preset(const char *name)
{
    ohm_hardware *chip = calloc(1, sizeof *chip);
    OHM_OK_OR_FAIL(ohm_hardware_read(chip, name));
    return chip;
}

static void near(double value, double expected)
{
    ck_assert_msg(fabs(value - expected) <= 1e-12 * fabs(expected), "%.17g is not %.17g", value,
                  expected);
}

/* sigma in µS at conductance g of a preset's programming polynomial. */
static double sigma_at(const ohm_hardware *chip, double g)
{
    double sum = 0, x = g / chip->cell.g_max_us;
    for (int i = chip->programming.coefficients_us.count; i-- > 0;)
        sum = sum * x + chip->programming.coefficients_us.at[i];
    return sum;
}

OHM_TEST(hardware, every_preset_reads_and_names_its_source)
{
    char **names;
    int count = 0;
    OHM_OK_OR_FAIL(ohm_hardware_presets(&names));
    for (char **at = names; *at; at++, count++) {
        ohm_hardware *chip = preset(*at);
        ck_assert_str_eq(chip->name, *at);
        ck_assert_msg(chip->source[0] || !strcmp(*at, "ideal"), "%s names no source", *at);
        free(chip);
    }
    ohm_strings_free(names);
    ck_assert_int_ge(count, 12);
}

OHM_TEST(hardware, ideal_is_every_effect_off)
{
    ohm_hardware *chip = preset("ideal"), *defaults = calloc(1, sizeof *defaults);
    OHM_OK_OR_FAIL(ohm_option_defaults(&ohm_hardware_options, defaults));
    ck_assert(!memcmp(chip, defaults, sizeof *chip));
    ck_assert_int_eq(chip->programming.model, OHM_PROGRAM_NONE);
    ck_assert_int_eq(chip->read.model, OHM_READ_NONE);
    ck_assert_int_eq(chip->retention.model, OHM_RETENTION_NONE);
    ck_assert_int_eq(chip->ir_drop.model, OHM_IR_NONE);
    ck_assert_int_eq(chip->cell.iv, OHM_IV_LINEAR);
    ck_assert_int_eq(chip->adc.bits, 0);
    ck_assert(chip->input.noise == 0 && chip->input.inl == 0 && chip->output.s_shape == 0);
    ck_assert(chip->faults.stuck_off == 0 && chip->faults.stuck_on == 0 &&
              chip->faults.stuck_random == 0);
    ck_assert(chip->temperature.kelvin == chip->temperature.reference_kelvin);
    ck_assert(chip->temperature.johnson_bandwidth_hz == 0);
    free(chip);
    free(defaults);
}

/* The laws as their papers write them, in µS, evaluated at a few conductances. */
OHM_TEST(hardware, polynomials_follow_their_papers)
{
    ohm_hardware *chip = preset("pcm_joshi");
    for (double g = 0; g <= 25; g += 5)
        near(sigma_at(chip, g), -0.00178767 * g * g + 0.07585724 * g + 0.28638599);
    free(chip);
    chip = preset("reram_milo");
    for (double g = 50; g <= 225; g += 25)
        near(sigma_at(chip, g), -0.009107 * g + 4.782321);
    near(chip->cell.g_max_us / chip->cell.on_off, 50);
    free(chip);
    chip = preset("reram_cmo");
    for (double g = 9; g <= 88.2; g += 9)
        near(sigma_at(chip, g), 0.00081107 + 0.00106879 * g);
    near(chip->cell.g_max_us / chip->cell.on_off, 9);
    free(chip);
    chip = preset("hermes");
    near(sigma_at(chip, 20.7), 0.16603222 + 4.71806468 - 8.48101252 + 4.68961419);
    free(chip);
    chip = preset("reram_wan2022");
    near(sigma_at(chip, 40), 0.348 + 16.030 - 43.853 + 45.393 - 16.815);
    near(sigma_at(chip, 20), 0.348 + 16.030 / 2 - 43.853 / 4 + 45.393 / 8 - 16.815 / 16);
    free(chip);
}

/* The read table of the SONOS cell against its formula, at and between its rows. */
OHM_TEST(hardware, sonos_table_is_its_formula)
{
    ohm_hardware *chip = preset("sonos");
    const ohm_device_table *t = &chip->read.rows;
    ck_assert_int_eq(t->count, 129);
    for (int i = 0; i < t->count; i++) {
        double nanoampere = 100 * t->target_us[i],
               exact = 12.58037 * (1 - exp(-nanoampere / 215.36557)) / 100;
        ck_assert(fabs(t->sigma_us[i] - exact) < 1e-9);
    }
    for (int i = 0; i + 1 < t->count; i++) {
        double g = (t->target_us[i] + t->target_us[i + 1]) / 2,
               line = (t->sigma_us[i] + t->sigma_us[i + 1]) / 2;
        ck_assert(fabs(line - 12.58037 * (1 - exp(-100 * g / 215.36557)) / 100) < 5.3e-5);
    }
    near(chip->programming.coefficients_us.at[0], 19.88665 / 100);
    near(chip->programming.coefficients_us.at[1], 176.3115 / 100);
    free(chip);
}

OHM_TEST(hardware, rasch_converter_is_in_physical_units)
{
    ohm_hardware *chip = preset("rasch2023");
    near(chip->adc.range.value, 10 * chip->cell.g_max_us * chip->input.v_read_v);
    near(chip->adc.noise_lsb, 0.04 * 127 / 10);
    near(chip->ir_drop.r_bitline_ohm * chip->cell.g_max_us, 0.35 * 5);
    free(chip);
}

static void refuse(const char *const assignment[], const char *expected)
{
    ohm_hardware *chip = preset("ideal");
    for (int i = 0; assignment[i]; i++)
        OHM_OK_OR_FAIL(ohm_hardware_set(chip, assignment[i]));
    ck_assert_msg(ohm_hardware_check(chip) == OHM_ERR_CONFIG, "taken: %s", assignment[0]);
    ck_assert_msg(strstr(ohm_error_text(), expected), "'%s' lacks '%s'", ohm_error_text(),
                  expected);
    ck_assert_ptr_null(strchr(ohm_error_text(), '\n'));
    free(chip);
}
#define REFUSE(expected, ...) refuse((const char *const[]){__VA_ARGS__, NULL}, expected)

OHM_TEST(hardware, keys_that_contradict_each_other)
{
    REFUSE("'quantise.w_range'", "quantise.w_range=learned");
    REFUSE("'quantise.w_range'", "quantise.w_range=running:0.5");
    REFUSE("key 'bias'", "bias=rows", "quantise.x_granularity=row");
    REFUSE("'quantise.x_range'", "quantise.x_granularity=row", "quantise.x_range=learned");
    REFUSE("'tile.pair'", "tile.pair=interleaved", "weight.encoding=offset");
    REFUSE("'tile.cols'", "tile.pair=interleaved", "tile.cols=1");
    REFUSE("'cell.iv_coefficient'", "cell.iv=cubic", "cell.iv_coefficient=9", "input.v_read_v=0.2");
    REFUSE("'cell.iv_coefficient'", "cell.iv=sinh", "cell.iv_coefficient=300");
    REFUSE("'programming.coefficients_us'", "programming.model=polynomial");
    REFUSE("'programming.coefficients_us'", "programming.model=exponential",
           "programming.coefficients_us=[1]");
    REFUSE("'programming.coefficients_us'", "programming.model=exponential",
           "programming.coefficients_us=[1, 0]");
    REFUSE("'programming.table'", "programming.model=table");
    REFUSE("'read.coefficients_us'", "read.model=polynomial");
    REFUSE("'read.table'", "read.model=table");
    REFUSE("'faults.*'", "faults.stuck_on=0.6", "faults.stuck_off=0.6");
    REFUSE("'retention.one_over_f'", "retention.one_over_f=true");
    REFUSE("'retention.compensation'", "retention.compensation=global");
    REFUSE("'ir_drop.gradient'", "ir_drop.gradient=closed_form");
    REFUSE("'ir_drop.gradient'", "ir_drop.gradient=closed_form", "ir_drop.model=closed_form");
    REFUSE("'ir_drop.gradient'", "ir_drop.gradient=closed_form", "ir_drop.model=exact",
           "ir_drop.zero_input=gated");
    REFUSE("'ir_drop.gradient'", "ir_drop.gradient=closed_form", "ir_drop.model=exact",
           "cell.iv=sinh", "cell.iv_coefficient=1");
    REFUSE("'adc.bits'", "adc.bits=1");
    REFUSE("'adc.*_lsb'", "adc.noise_lsb=0.5");
    REFUSE("'adc.gain_sigma'", "adc.gain_sigma=0.01");
    REFUSE("'output.s_shape*'", "output.s_shape=0.5");
    REFUSE("'ir_drop.zero_input'", "ir_drop.model=closed_form", "ir_drop.zero_input=gated");
    REFUSE("'read.form'", "read.model=constant", "read.form=per_cell", "adc.bits=8", "adc.range=data");
}

OHM_TEST(hardware, keys_that_get_along)
{
    static const char *const one[] = {"adc.bits=1", "weight.subtract=digital"};
    ohm_hardware *chip = preset("ideal");
    for (int i = 0; i < 2; i++)
        OHM_OK_OR_FAIL(ohm_hardware_set(chip, one[i]));
    OHM_OK_OR_FAIL(ohm_hardware_check(chip));
    OHM_OK_OR_FAIL(ohm_hardware_set(chip, "cell.iv=cubic"));
    OHM_OK_OR_FAIL(ohm_hardware_set(chip, "cell.iv_coefficient=8"));
    OHM_OK_OR_FAIL(ohm_hardware_check(chip));
    free(chip);
}
