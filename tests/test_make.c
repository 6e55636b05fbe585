/* The Makefile's answers to a person: its help, and what it says on a bare machine. */
#include "tests/runner.h"

#include <stdio.h>
#include <string.h>

enum { OUT_BYTES = 8192 };
#define MAKE_ALONE "unset MAKEFLAGS MAKELEVEL MFLAGS; make -s "

OHM_TEST(make, help_lists_the_targets)
{
    static const char *const targets[] = {"all",  "demo", "deps",  "check", "test",    "test-long", "san",
                                          "fuzz", "help", "bench", "clean", "install", "layers",
                                          "ptxas", "gpu-report", "bundle"};
    char out[OUT_BYTES], line[32];
    ck_assert_int_eq(ohm_test_run(out, sizeof out, MAKE_ALONE "help"), 0);
    for (size_t i = 0; i < sizeof targets / sizeof *targets; ++i) {
        snprintf(line, sizeof line, "  %s ", targets[i]);
        ck_assert_msg(strstr(out, line) != NULL, "'%s' lacks '%s'", out, line);
    }
}

OHM_TEST_SLOW(make, missing_headers_name_the_cure)
{
    char out[OUT_BYTES];
    ck_assert_int_ne(ohm_test_run(out, sizeof out, MAKE_ALONE "CC=false BUILD=%s/b all",
                                  ohm_test_tmpdir()),
                     0);
    ck_assert_msg(strstr(out, "finds no stdio.h cblas.h yaml.h cjson/cJSON.h sha256.h; 'make deps'") != NULL,
                  "%s", out);
}

OHM_TEST_SLOW(make, changed_flags_rebuild)
{
    char out[OUT_BYTES];
    const char *object = "b/obj/host/status.o";
    const char *dir = ohm_test_tmpdir();
    const char *line = MAKE_ALONE "BUILD=%s/b CFLAGS=%s %s/%s";
    ck_assert_int_eq(ohm_test_run(out, sizeof out, line, dir, "-DA", dir, object), 0);
    ck_assert_ptr_nonnull(strstr(out, "host/status.c"));
    ck_assert_int_eq(ohm_test_run(out, sizeof out, line, dir, "-DA", dir, object), 0);
    ck_assert_str_eq(out, "");
    ck_assert_int_eq(ohm_test_run(out, sizeof out, line, dir, "-DB", dir, object), 0);
    ck_assert_ptr_nonnull(strstr(out, "host/status.c"));
}
