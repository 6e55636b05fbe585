#include "host/file.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/runner.h"

static const char *in_folder(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", ohm_test_tmpdir(), name);
    return path;
}

static ohm_status write_text(const char *path, const char *text)
{
    const ohm_file_part part = {text, strlen(text)};
    return ohm_file_write_atomic(path, &part, 1);
}

static void holds(const char *path, const char *text)
{
    char *data;
    size_t bytes;
    OHM_OK_OR_FAIL(ohm_file_read(&data, &bytes, path, 1000));
    ck_assert_uint_eq(bytes, strlen(text));
    ck_assert_str_eq(data, text);
    free(data);
}

static int files_in_folder(void)
{
    char out[64];
    ck_assert_int_eq(ohm_test_run(out, sizeof out, "ls -A '%s' | wc -l", ohm_test_tmpdir()), 0);
    return atoi(out);
}

OHM_TEST(file, parts_are_joined_and_replace_the_old)
{
    const ohm_file_part parts[] = {{"ab", 2}, {"", 0}, {"cde", 3}};
    OHM_OK_OR_FAIL(write_text(in_folder("a"), "something longer"));
    OHM_OK_OR_FAIL(ohm_file_write_atomic(in_folder("a"), parts, 3));
    holds(in_folder("a"), "abcde");
    ck_assert_int_eq(files_in_folder(), 1);
}

OHM_TEST(file, reads_up_to_the_limit)
{
    char *data;
    size_t bytes;
    OHM_OK_OR_FAIL(write_text(in_folder("a"), "12345"));
    OHM_OK_OR_FAIL(ohm_file_read(&data, &bytes, in_folder("a"), 5));
    ck_assert_uint_eq(bytes, 5);
    free(data);
    ck_assert_int_eq(ohm_file_read(&data, &bytes, in_folder("a"), 4), OHM_ERR_DATA);
    ck_assert_ptr_null(data);
    ck_assert_int_eq(ohm_file_read(&data, &bytes, "/dev/zero", SIZE_MAX - 2), OHM_ERR_IO); /* never ends */
    OHM_OK_OR_FAIL(ohm_file_read(&data, &bytes, "/proc/self/status", 100000)); /* its size says 0 */
    ck_assert_uint_gt(bytes, 100);
    free(data);
    ck_assert_int_eq(ohm_file_read(&data, &bytes, in_folder("none"), 5), OHM_ERR_IO);
    ck_assert_int_eq(ohm_file_read(&data, &bytes, "/", 5), OHM_ERR_IO);
}

OHM_TEST(file, refuses_what_is_no_plain_file)
{
    ck_assert_int_eq(write_text("/dev/full", "x"), OHM_ERR_IO);
    struct stat info;
    ck_assert_int_eq(stat("/dev/full", &info), 0);
    ck_assert(S_ISCHR(info.st_mode));
    ck_assert_int_eq(write_text(ohm_test_tmpdir(), "x"), OHM_ERR_IO);
    OHM_OK_OR_FAIL(write_text(in_folder("plain"), "x"));
    ck_assert_int_eq(write_text(in_folder("plain/below"), "x"), OHM_ERR_IO);
    ck_assert_int_eq(write_text(in_folder("no/such/folder"), "x"), OHM_ERR_IO);
}

/* A full disk: the old file stands, nothing is left over. */
OHM_TEST(file, a_failed_write_leaves_the_old_file)
{
    char big[70000];
    memset(big, 'x', sizeof big);
    const ohm_file_part part = {big, sizeof big};
    OHM_OK_OR_FAIL(write_text(in_folder("a"), "old"));
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {40000, 40000};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(ohm_file_write_atomic(in_folder("a"), &part, 1), OHM_ERR_IO);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "cannot write"));
    holds(in_folder("a"), "old");
    ck_assert_int_eq(files_in_folder(), 1);
}

OHM_TEST(file, beside)
{
    char path[16];
    OHM_OK_OR_FAIL(ohm_file_beside(path, sizeof path, "a/b.yaml", "c"));
    ck_assert_str_eq(path, "a/c");
    OHM_OK_OR_FAIL(ohm_file_beside(path, sizeof path, "b.yaml", "c"));
    ck_assert_str_eq(path, "c");
    OHM_OK_OR_FAIL(ohm_file_beside(path, sizeof path, "/b.yaml", "c"));
    ck_assert_str_eq(path, "/c");
    OHM_OK_OR_FAIL(ohm_file_beside(path, sizeof path, "a/b.yaml", "/c"));
    ck_assert_str_eq(path, "/c");
    ck_assert_int_eq(ohm_file_beside(path, sizeof path, "a/b", "0123456789abcdef"), OHM_ERR_CONFIG);
}
