#include "host/option.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host/config.h"
#include "tests/runner.h"

typedef struct {
    int whole;
    int64_t wide;
    double real, open;
    int yes, choice;
    ohm_mode mode;
    char text[8];
    ohm_coefficients list;
} subject;

#define OHM_ROWS_OF subject
#include "host/option_rows.h"

static const ohm_option rows[] = {
    INT(whole, -5, 100, "7", "bits", "a whole number"),
    INT64(wide, 0, 4294967295.0, "1", "", "a wide one"),
    REAL(real, -1, 1, "0.25", "V", "a real"),
    REAL(open, 1, INFINITY, "inf", "", "an open one"),
    BOOL(yes, "false", "a switch"),
    CHOICE(choice, "one|two|three", "two", "a choice"),
    MODE(mode, "off|part:99.9:50:100|number", 0.5, 8, "off", "mm", "a mode"),
    TEXT(text, "abc", "a text"),
    REALS(list, "a list"),
};
static const ohm_option_table table = {"subject", rows, sizeof rows / sizeof rows[0]};

static subject fresh(void)
{
    subject s;
    memset(&s, 0, sizeof s);
    OHM_OK_OR_FAIL(ohm_option_defaults(&table, &s));
    return s;
}

static void refuse(const char *key, const char *value, const char *expected)
{
    subject s = fresh(), before = s;
    ck_assert_msg(ohm_option_set(&table, &s, key, value) == OHM_ERR_CONFIG, "%s=%s was taken", key,
                  value);
    ck_assert_msg(strstr(ohm_error_text(), expected), "'%s' lacks '%s'", ohm_error_text(),
                  expected);
    ck_assert_msg(!strchr(ohm_error_text(), '\n'), "more than one line: %s", ohm_error_text());
    ck_assert_msg(!memcmp(&s, &before, sizeof s), "%s=%s was refused and yet obeyed", key, value);
}

OHM_TEST(option, defaults)
{
    subject s = fresh();
    ck_assert_int_eq(s.whole, 7);
    ck_assert_int_eq(s.wide, 1);
    ck_assert(s.real == 0.25 && isinf(s.open));
    ck_assert_int_eq(s.yes, 0);
    ck_assert_int_eq(s.choice, 1);
    ck_assert_int_eq(s.mode.kind, 0);
    ck_assert_str_eq(s.text, "abc");
    ck_assert_int_eq(s.list.count, 0);
}

OHM_TEST(option, takes_what_is_within_bounds)
{
    subject s = fresh();
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "whole", "-5"));
    ck_assert_int_eq(s.whole, -5);
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "whole", "100"));
    ck_assert_int_eq(s.whole, 100);
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "wide", "4294967295"));
    ck_assert_int_eq(s.wide, 4294967295);
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "real", "-.5e-1"));
    ck_assert(s.real == -0.05);
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "open", "1E3"));
    ck_assert(s.open == 1000);
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "open", ".inf"));
    ck_assert(isinf(s.open));
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "yes", "true"));
    ck_assert_int_eq(s.yes, 1);
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "choice", "three"));
    ck_assert_int_eq(s.choice, 2);
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "text", "1234567"));
    ck_assert_str_eq(s.text, "1234567");
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "text", "x\n"));
    ck_assert_str_eq(s.text, "x");
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "text", ""));
    ck_assert_str_eq(s.text, "");
}

OHM_TEST(option, modes_carry_numbers)
{
    subject s = fresh();
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "mode", "part"));
    ck_assert(s.mode.kind == 1 && s.mode.value == 99.9);
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "mode", "part:50"));
    ck_assert(s.mode.kind == 1 && s.mode.value == 50);
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "mode", "0.5"));
    ck_assert(s.mode.kind == 2 && s.mode.value == 0.5);
    refuse("mode", "part:49.9", "too small");
    refuse("mode", "part:", "is not a number");
    refuse("mode", "part:1x", "is not a number");
    refuse("mode", "partial", "is not one of the choices");
    refuse("mode", "off:3", "no use for");
    refuse("mode", "9", "too large");
    refuse("mode", "number", "is not one of the choices");
    refuse("mode", "nan", "is not one of the choices");
    refuse("mode", "", "off | part[:50..100, 99.9 if left out] | a number 0.5..8 mm");
}

OHM_TEST(option, lists)
{
    subject s = fresh();
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "list", "[1, -2.5e3 ,3]"));
    ck_assert_int_eq(s.list.count, 3);
    ck_assert(s.list.at[0] == 1 && s.list.at[1] == -2500 && s.list.at[2] == 3);
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "list", "[1,2,3,4,5,6,7,8]"));
    ck_assert_int_eq(s.list.count, 8);
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, "list", "[ ]"));
    ck_assert_int_eq(s.list.count, 0);
    refuse("list", "1", "is not a list");
    refuse("list", "[1", "is not a list");
    refuse("list", "[1 2]", "is not a list");
    refuse("list", "[1]2]", "is not a list");
    refuse("list", "[1,]", "is not a number");
    refuse("list", "[,1]", "is not a number");
    refuse("list", "[a]", "is not a number");
    refuse("list", "[1,2,3,4,5,6,7,8,9]", "too many");
    refuse("list", "[1e13]", "too large");
    refuse("list", "[inf]", "too large");
}

/* What libcyaml took in silence (as 8, 0, 12, inf, true) and worse. */
OHM_TEST(option, refuses_bad_values)
{
    static const char *const no_integer[] = {"8.5", "08",   "12abc", "",    " 1",  "1 ",
                                             "+1",  "0x10", "-",     "--1", "1e2", "-01"};
    for (size_t i = 0; i < sizeof no_integer / sizeof no_integer[0]; i++)
        refuse("whole", no_integer[i], "is not a whole number");
    refuse("whole", "101", "'101' is too large; give a whole number -5..100 bits");
    refuse("whole", "-6", "too small");
    refuse("whole", "99999999999999999999", "too large");
    refuse("wide", "4294967296", "too large");
    static const char *const no_real[] = {"",      "nan",      "NaN",   ".nan", "1e",
                                          "1e+",   ".",        "0x1p3", "1,5",  "00.5",
                                          "1.5.2", "infinity", "Inf",   "+1",   "1e5 "};
    for (size_t i = 0; i < sizeof no_real / sizeof no_real[0]; i++)
        refuse("real", no_real[i], "is not a number");
    refuse("real", "1e999", "does not fit");
    refuse("real", "1e-999", "does not fit");
    refuse("real", "1.0000001", "too large");
    refuse("real", "inf", "too large");
    refuse("open", "-inf", "too small");
    refuse("yes", "maybe", "true | false");
    refuse("yes", "1", "true | false");
    refuse("choice", "four", "one | two | three");
    refuse("choice", "tw", "one | two | three");
    refuse("text", "12345678", "too long");
    refuse("text", "a\tb", "printable");
    refuse("text", "a\xff", "printable");
    refuse("text", "\xc0\x80", "printable");
    refuse("text", "\xed\xa0\x80", "printable");
    refuse("whole", "a\nb", "'a?b'");
}

OHM_TEST(option, names_the_nearest_key)
{
    refuse("whol", "1", "unknown subject key 'whol'; nearest: 'whole'");
    subject s = fresh();
    ck_assert_int_eq(ohm_option_set(&ohm_hardware_options, &s, "adc.bit", "1"), OHM_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "nearest: 'adc.bits'"));
    ck_assert_int_eq(ohm_option_set(&ohm_hardware_options, &s, "cel_bits", "1"), OHM_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "nearest: 'weight.cell_bits'"));
}

/* Text is quoted for YAML: test_config reads that back. */
static void survives(const char *key, const char *value)
{
    subject s = fresh(), again = fresh();
    char text[4096];
    const ohm_option *row = ohm_option_find(&table, key);
    OHM_OK_OR_FAIL(ohm_option_set(&table, &s, key, value));
    ohm_option_format(row, &s, text, sizeof text);
    OHM_OK_OR_FAIL(ohm_option_set(&table, &again, key, text));
    ck_assert_msg(!memcmp(&s, &again, sizeof s), "%s: '%s' came back as '%s'", key, value, text);
}

OHM_TEST(option, format_gives_the_same_bits_back)
{
    survives("real", "0.1");
    survives("real", "0.30000000000000004");
    survives("real", "-1e-300");
    survives("real", "0.333333333333333314829616256247");
    survives("open", "inf");
    survives("open", "123456789.12345678");
    survives("mode", "part:99.99");
    survives("mode", "7.25");
    survives("mode", "off");
    survives("list", "[0.1, 1e-7, -3]");
    survives("choice", "three");
    survives("yes", "true");
    survives("wide", "4294967295");
}

OHM_TEST(option, help_has_every_key)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    ohm_option_print_help(&ohm_hardware_options, out);
    ck_assert_int_eq(fclose(out), 0);
    for (size_t i = 0; i < ohm_hardware_options.count; i++) {
        const ohm_option *row = &ohm_hardware_options.row[i];
        char start[128];
        snprintf(start, sizeof start, "%s: ", row->key);
        ck_assert_msg(strstr(text, start) && strstr(text, row->help), "%s is not in the help",
                      row->key);
        ck_assert_msg(strlen(row->help) > 5, "%s has no help", row->key);
    }
    ck_assert_ptr_nonnull(strstr(text, "adc.bits: a whole number 0..16 bits; default 0"));
    free(text);
}
