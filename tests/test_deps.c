/* .ci/deps in its four situations, with every command it could call replaced by a fake that writes
 * down how it was called. */
#include "tests/runner.h"

#include <stdio.h>
#include <string.h>

enum { OUT_BYTES = 4096 };

static void write_fake(const char *name, const char *body)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", ohm_test_tmpdir(), name);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fprintf(f, "#!/bin/sh\n%s\n", body);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(ohm_test_run(NULL, 0, "chmod +x %s", path), 0);
}

/* dpkg knows all packages but `lacking` (a case pattern), id prints uid. */
static void fake_machine(const char *lacking, int uid)
{
    char body[512];
    snprintf(body, sizeof body,
             "case $2 in\n"
             "purged) echo 'Status: deinstall ok config-files' ;;\n"
             "%s) exit 1 ;;\n*) echo 'Status: install ok installed' ;;\nesac",
             lacking);
    write_fake("dpkg", body);
    snprintf(body, sizeof body, "echo %d", uid);
    write_fake("id", body);
    write_fake("env", "shift; exec \"$@\"");
    write_fake("apt-get", "echo \"APT $*\"");
}

/* Only the fakes are on PATH. */
static int run_deps(char *out, const char *arguments)
{
    return ohm_test_run(out, OUT_BYTES, "PATH=%s /bin/sh .ci/deps %s", ohm_test_tmpdir(),
                        arguments);
}

OHM_TEST(deps, nothing_missing_leaves_apt_alone)
{
    char out[OUT_BYTES];
    fake_machine("none", 1000);
    ck_assert_int_eq(run_deps(out, ""), 0);
    ck_assert_str_eq(out, "");
}

OHM_TEST(deps, root_updates_then_installs_what_is_missing)
{
    char out[OUT_BYTES];
    fake_machine("check|libyaml-dev", 0);
    ck_assert_int_eq(run_deps(out, ""), 0);
    ck_assert_str_eq(out, "deps: missing: libyaml-dev check\nAPT update\n"
                          "APT install -y --no-install-recommends libyaml-dev check\n");
}

OHM_TEST(deps, others_go_through_sudo)
{
    char out[OUT_BYTES];
    fake_machine("g++", 1000);
    write_fake("sudo", "echo SUDO; exec \"$@\"");
    ck_assert_int_eq(run_deps(out, ""), 0);
    ck_assert_str_eq(out, "deps: missing: g++\nSUDO\nAPT update\nSUDO\n"
                          "APT install -y --no-install-recommends g++\n");
}

OHM_TEST(deps, without_sudo_it_prints_the_line_and_fails)
{
    char out[OUT_BYTES];
    fake_machine("g++", 1000);
    ck_assert_int_eq(run_deps(out, ""), 1);
    ck_assert_ptr_nonnull(
        strstr(out, "apt-get update && apt-get install -y --no-install-recommends g++\n"));
    ck_assert_ptr_null(strstr(out, "APT"));
}

OHM_TEST(deps, extra_and_half_removed_packages_count)
{
    char out[OUT_BYTES];
    fake_machine("extra", 0);
    ck_assert_int_eq(run_deps(out, "extra purged"), 0);
    ck_assert_ptr_nonnull(strstr(out, "deps: missing: extra purged\n"));
}

OHM_TEST(deps, a_failing_apt_fails)
{
    char out[OUT_BYTES];
    fake_machine("check", 0);
    write_fake("apt-get", "exit 100");
    ck_assert_int_eq(run_deps(out, ""), 1);
    ck_assert_ptr_nonnull(strstr(out, "could not install: check"));
}

OHM_TEST(deps, no_dpkg_says_what_to_install)
{
    char out[OUT_BYTES];
    ck_assert_int_eq(run_deps(out, ""), 1);
    ck_assert_ptr_nonnull(strstr(out, "libopenblas-dev"));
}
