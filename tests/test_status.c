#include "host/status.h"

#include <string.h>

#include "tests/runner.h"

static ohm_status refuse(int value)
{
    return OHM_FAIL(OHM_ERR_CONFIG, "value %d is above 3; choose 0..3", value);
}

static ohm_status forward(int value, int *reached)
{
    OHM_TRY(value > 3 ? refuse(value) : OHM_OK);
    *reached = 1;
    return OHM_OK;
}

OHM_TEST(status, try_forwards_and_stops)
{
    int reached = 0;
    ck_assert_int_eq(forward(2, &reached), OHM_OK);
    ck_assert_int_eq(reached, 1);
    reached = 0;
    ck_assert_int_eq(forward(9, &reached), OHM_ERR_CONFIG);
    ck_assert_int_eq(reached, 0);
    ck_assert_str_eq(ohm_error_text(), "value 9 is above 3; choose 0..3");
    ck_assert_ptr_nonnull(strstr(ohm_error_origin(), "tests/test_status.c:"));
}

OHM_TEST(status, text_exists_before_any_error)
{
    ck_assert_str_eq(ohm_error_text(), "no error recorded");
}

OHM_TEST(status, prefix_keeps_code_and_text)
{
    ohm_status code = refuse(7);
    ck_assert_int_eq(ohm_error_prefix(code, "run.yaml:%d", 12), OHM_ERR_CONFIG);
    ck_assert_str_eq(ohm_error_text(), "run.yaml:12: value 7 is above 3; choose 0..3");
}

OHM_TEST(status, a_message_is_one_line)
{
    (void)OHM_FAIL(OHM_ERR_DATA, "file 'a\nb\x1b[2J\x7f': \xc2\xb1");
    ck_assert_str_eq(ohm_error_text(), "file 'a?b?[2J?': \xc2\xb1");
    ohm_error_prefix(OHM_ERR_DATA, "c\td");
    ck_assert_str_eq(ohm_error_text(), "c?d: file 'a?b?[2J?': \xc2\xb1");
}

OHM_TEST(status, long_text_is_cut_not_overrun)
{
    char big[4000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    (void)OHM_FAIL(OHM_ERR_DATA, "%s", big);
    ck_assert_uint_eq(strlen(ohm_error_text()), 1023);
    ohm_error_prefix(OHM_ERR_DATA, "%s", big);
    ck_assert_uint_eq(strlen(ohm_error_text()), 1023);
}
