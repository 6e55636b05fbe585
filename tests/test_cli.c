/* The program as a person meets it: commands, help, and one line for every mistake. */
#include <stdio.h>
#include <string.h>

#include "tests/runner.h"

static char out[1 << 17];

static int program(const char *arguments)
{
    return ohm_test_run(out, sizeof out, "'%s' %s", ohm_test_program(), arguments);
}

/* Exit status 2 and one line "ohmgrad: ..." that holds `expected`. */
static void refuse(int status, const char *arguments, const char *expected)
{
    ck_assert_msg(program(arguments) == status, "ohmgrad %s: not %d: %s", arguments, status, out);
    ck_assert_msg(!strncmp(out, "ohmgrad: ", 9), "%s", out);
    ck_assert_msg(strchr(out, '\n') == out + strlen(out) - 1, "not one line: %s", out);
    ck_assert_msg(strstr(out, expected), "'%s' lacks '%s'", out, expected);
}

OHM_TEST(cli, usage_errors_are_one_line)
{
    refuse(2, "", "no command");
    refuse(2, "''", "no command ''");
    refuse(2, "nonesuch", "no command 'nonesuch'");
    refuse(2, "--nonesuch", "no command '--nonesuch'");
    refuse(2, "info --nonesuch", "'--nonesuch' is unknown here");
    refuse(2, "info extra", "one argument too many: 'extra'");
    refuse(2, "hardware --set", "'--set' is unknown here, ambiguous, or lacks its value");
    refuse(2, "hardware a b", "one argument too many: 'b'");
    refuse(2, "hardware --set adc.bits=8", "--set without a chip");
    refuse(2, "mvm --hardware=ideal -- x", "one argument too many: 'x'");
}

OHM_TEST(cli, help_and_version)
{
    ck_assert_int_eq(program("--help"), 0);
    ck_assert_ptr_nonnull(strstr(out, "hardware"));
    ck_assert_int_eq(program("--version"), 0);
    ck_assert(!strncmp(out, "ohmgrad 0.", 10));
    static const char *const commands[] = {"info", "hardware", "mvm"};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        char line[64], usage[64];
        snprintf(line, sizeof line, "%s --help", commands[i]);
        snprintf(usage, sizeof usage, "Usage: ohmgrad %s", commands[i]);
        ck_assert_int_eq(program(line), 0);
        ck_assert_msg(!strncmp(out, usage, strlen(usage)), "%s", out);
    }
}

OHM_TEST(cli, whichever_of_help_and_mistake_comes_first)
{
    ck_assert_int_eq(program("mvm --seed=x --help"), 2);
    ck_assert_int_eq(program("mvm --help --seed=x"), 0);
}

OHM_TEST(cli, hardware_lists_prints_and_explains)
{
    ck_assert_int_eq(program("hardware"), 0);
    ck_assert_ptr_nonnull(strstr(out, "pcm_ibm        Nandakumar"));
    ck_assert_int_eq(program("hardware pcm_ibm --set adc.bits=5 --set=name=mine"), 0);
    ck_assert_ptr_nonnull(strstr(out, "name: mine\nsource: 'Nandakumar"));
    ck_assert_ptr_nonnull(strstr(out, "adc:\n  bits: 5\n"));
    ck_assert_int_eq(program("hardware --help"), 0);
    ck_assert_ptr_nonnull(strstr(out, "\nadc.bits: a whole number 0..16 bits; default 0\n"));
    ck_assert_ptr_nonnull(strstr(out, "\nnormals: fast | exact; default fast\n"));
}

OHM_TEST(cli, hardware_prints_what_it_reads)
{
    const char *folder = ohm_test_tmpdir();
    ck_assert_int_eq(
        ohm_test_run(
            out, sizeof out,
            "cd '%s' && '%s' hardware sonos > a.yaml && '%s' hardware ./a.yaml > b.yaml && "
            "cmp a.yaml b.yaml",
            folder, ohm_test_program(), ohm_test_program()),
        0);
}

OHM_TEST(cli, hardware_mistakes)
{
    refuse(2, "hardware sonnos",
           "no chip 'sonnos'; give a file ending in .yaml, or one of: hermes, ideal");
    refuse(1, "hardware nonesuch.yaml", "nonesuch.yaml: cannot open");
    refuse(1, "hardware ./", "is a directory");
    refuse(2, "hardware ideal --set adc.bits=99", "'99' is too large");
    refuse(2, "hardware ideal --set adc.bit=9", "nearest: 'adc.bits'");
    refuse(2, "hardware ideal --set adc.bits", "write key=value");
    refuse(2, "hardware ideal --set ir_drop.model=closed_form --set ir_drop.zero_input=gated", "ir_drop.model to exact");
    refuse(2, "hardware ideal --set 'name=a\nb'", "printable");
}

OHM_TEST(cli, output_that_does_not_arrive_is_a_failure)
{
    ck_assert_int_eq(
        ohm_test_run(out, sizeof out, "'%s' hardware ideal > /dev/full", ohm_test_program()), 1);
    ck_assert_ptr_nonnull(strstr(out, "ohmgrad: cannot write the standard output"));
}

OHM_TEST(cli, info_names_what_results_depend_on)
{
    ck_assert_int_eq(program("info"), 0);
    static const char *const lines[] = {"version ",
                                        "commit ",
                                        "compiler ",
                                        "flags ",
                                        "threads ",
                                        "instructions ",
                                        "BLAS           OpenBLAS ",
                                        "devices "};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        ck_assert_msg(strstr(out, lines[i]), "no '%s' in %s", lines[i], out);
}
