/* What `make install` lays down is enough for a stranger's C program. */
#include "tests/runner.h"

#include <libgen.h>
#include <stdio.h>
#include <string.h>

static const char stranger[] =
    "#include <stdio.h>\n#include <host/status.h>\n#include <kernels/cpu.h>\n"
    "int main(void) { puts(ohm_error_text()); return ohm_isa_name(ohm_cpu_isa())[0] == 0; }\n";

OHM_TEST_SLOW(install, an_external_program_builds_and_runs)
{
    char out[8192], build[4096], path[4200];
    const char *dir = ohm_test_tmpdir();
    snprintf(build, sizeof build, "%s", ohm_test_self());
    ck_assert_msg(ohm_test_run(out, sizeof out,
                               "unset MAKEFLAGS MAKELEVEL; make install-files BUILD=%s "
                               "PREFIX=%s/usr",
                               dirname(build), dir) == 0,
                  "%s", out);
    snprintf(path, sizeof path, "%s/stranger.c", dir);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(stranger, f);
    ck_assert_int_eq(fclose(f), 0);
    int status = ohm_test_run(out, sizeof out,
                              "export PKG_CONFIG_PATH=%s/usr/lib/pkgconfig; cd %s && "
                              "$(pkg-config --variable=compiler ohmgrad) stranger.c -o stranger "
                              "$(pkg-config --cflags --libs ohmgrad) && ./stranger",
                              dir, dir);
    ck_assert_msg(status == 0, "%s", out);
    ck_assert_str_eq(out, "no error recorded\n");
}

OHM_TEST_SLOW(install, destdir_stages_without_entering_the_files)
{
    char out[8192], build[4096];
    const char *dir = ohm_test_tmpdir();
    snprintf(build, sizeof build, "%s", ohm_test_self());
    ck_assert_int_eq(ohm_test_run(out, sizeof out,
                                  "unset MAKEFLAGS MAKELEVEL; make install-files BUILD=%s "
                                  "DESTDIR=%s PREFIX=/opt/ohm",
                                  dirname(build), dir),
                     0);
    ck_assert_int_eq(ohm_test_run(out, sizeof out,
                                  "cd %s/opt/ohm && bin/ohmgrad hardware && ls lib/libohmgrad.a "
                                  "include/ohmgrad/host/status.h && cat lib/pkgconfig/ohmgrad.pc",
                                  dir),
                     0);
    ck_assert_ptr_nonnull(strstr(out, "pcm_ibm")); /* a preset beside the program, not beside us */
    ck_assert_ptr_nonnull(strstr(out, "prefix=/opt/ohm\n"));
    ck_assert_ptr_null(strstr(out, dir));
}
