/* Matrices in files: every number back to its bits, and one line for whatever is wrong. */
#include "host/matrix.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/file.h"
#include "host/npy.h"
#include "tests/compare.h"
#include "tests/runner.h"

static const char *in_folder(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", ohm_test_tmpdir(), name);
    return path;
}

static const double numbers[6] = {1.0 / 3.0, -2.5e-300, 0.0, 1e22, -7.0, 4.9e-324};
static const double singles[6] = {1.0 / 3.0, -2.5e-30, 0.0, 1e22, -7.0, 1e-42};

static void round_trip(const char *name, const double *value, int doubles)
{
    ohm_matrix m;
    OHM_OK_OR_FAIL(ohm_matrix_write(in_folder(name), value, 2, 3, doubles));
    OHM_OK_OR_FAIL(ohm_matrix_read(&m, in_folder(name)));
    ck_assert(m.rows == 2 && m.columns == 3 && !m.flat);
    for (int i = 0; i < 6; i++)
        ck_assert_msg(doubles ? m.value[i] == value[i] : (float)m.value[i] == (float)value[i],
                      "%s: number %d is %.17g, not %.17g", name, i, m.value[i], value[i]);
    ohm_matrix_free(&m);
    ohm_matrix_free(&m);
}

OHM_TEST(matrix, numbers_come_back_to_the_bit)
{
    round_trip("a.npy", numbers, 1);
    round_trip("a.csv", numbers, 1);
    round_trip("b.npy", singles, 0);
    round_trip("b.csv", singles, 0);
    ohm_matrix_free(NULL);
}

OHM_TEST(matrix, what_a_float_cannot_hold_is_not_written)
{
    const double large[2] = {1.0, 1e39}, none[2] = {NAN, 1.0};
    ck_assert_int_eq(ohm_matrix_write(in_folder("a.csv"), large, 1, 2, 0), OHM_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "number [0,1] is 1e+39"));
    ck_assert_int_eq(ohm_matrix_write(in_folder("a.csv"), none, 1, 2, 1), OHM_ERR_DATA);
    ck_assert_int_eq(ohm_matrix_write(in_folder("a.txt"), numbers, 1, 2, 1), OHM_ERR_CONFIG);
    ck_assert(access(in_folder("a.csv"), F_OK) != 0 && access(in_folder("a.txt"), F_OK) != 0);
}

/* A .npy file of two elements with these bytes. */
static void read_npy(const char *descr, const void *data, size_t bytes, double first, double second)
{
    char header[128];
    ohm_matrix m;
    memset(header, ' ', sizeof header);
    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);
    char dictionary[96];
    snprintf(dictionary, sizeof dictionary,
             "{'descr': '%s', 'fortran_order': False, 'shape': (2,), }", descr);
    memcpy(header + 10, dictionary, strlen(dictionary));
    header[127] = '\n';
    const ohm_file_part parts[] = {{header, sizeof header}, {data, bytes}};
    OHM_OK_OR_FAIL(ohm_file_write_atomic(in_folder("t.npy"), parts, 2));
    OHM_OK_OR_FAIL(ohm_matrix_read(&m, in_folder("t.npy")));
    ck_assert_msg(m.flat && m.rows == 1 && m.columns == 2 && m.value[0] == first &&
                      m.value[1] == second,
                  "%s: %g %g", descr, m.value[0], m.value[1]);
    ohm_matrix_free(&m);
}

OHM_TEST(matrix, every_real_type_of_numpy)
{
    read_npy("<f4", (const float[]){0.5f, -3}, 8, 0.5, -3);
    read_npy("<f8", (const double[]){0.1, -3}, 16, 0.1, -3);
    read_npy("|i1", (const int8_t[]){-128, 127}, 2, -128, 127);
    read_npy("<i2", (const int16_t[]){-300, 5}, 4, -300, 5);
    read_npy("<i4", (const int32_t[]){-70000, 5}, 8, -70000, 5);
    read_npy("<i8", (const int64_t[]){-(1LL << 40), 5}, 16, -1099511627776.0, 5);
    read_npy("|u1", (const uint8_t[]){255, 5}, 2, 255, 5);
    read_npy("<u2", (const uint16_t[]){65535, 5}, 4, 65535, 5);
    read_npy("<u4", (const uint32_t[]){4294967295u, 5}, 8, 4294967295.0, 5);
    read_npy("<u8", (const uint64_t[]){1ULL << 63, 5}, 16, 9223372036854775808.0, 5);
}

static ohm_status parse(ohm_matrix *m, const char *text, size_t bytes)
{
    char *exact = malloc(bytes + !bytes); /* so that ASan sees the first byte too many */
    memcpy(exact, text, bytes);
    ohm_status status = ohm_matrix_parse_csv(m, exact, bytes, "x.csv");
    free(exact);
    return status;
}

OHM_TEST(matrix, csv_as_people_write_it)
{
    static const char *const texts[] = {
        "1,2,3\n4,5,6\n",
        "1,2,3\n4,5,6",
        "\357\273\2771,2,3\r\n4,5,6\r\n",
        "# siemens\n\n 1 ,\t2, 3\n  # more\n+4,5.0,60e-1\n\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        ohm_matrix m;
        OHM_OK_OR_FAIL(parse(&m, texts[i], strlen(texts[i])));
        ck_assert_msg(m.rows == 2 && m.columns == 3, "text %zu: %d x %d", i, m.rows, m.columns);
        for (int k = 0; k < 6; k++)
            ck_assert(m.value[k] == k + 1);
        ohm_matrix_free(&m);
    }
}

OHM_TEST(matrix, csv_that_is_wrong_names_its_line)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"", "x.csv: holds no numbers"},
        {"\n# only words\n\n", "x.csv: holds no numbers"},
        {"1,2\n3\n", "x.csv:2: holds 1 numbers, the lines before it 2"},
        {"1,2\n\n3,4,5\n", "x.csv:3: holds 3 numbers, the lines before it 2"},
        {"g0,g1\n1,2\n", "x.csv:1: field 1, 'g0', is no number"},
        {"1,2\n3,four\n", "x.csv:2: field 2, 'four', is no number"},
        {"1;2\n", "x.csv:1: field 1, '1;2', is no number"},
        {"1,,2\n", "x.csv:1: field 2 is empty"},
        {"1,2,\n", "x.csv:1: field 3 is empty"},
        {"1,nan\n", "field 2, 'nan', is no number"},
        {"1,inf\n", "field 2, 'inf', is no number"},
        {"0x10,1\n", "field 1, '0x10', is no number"},
        {"1 2,3\n", "field 1, '1 2', is no number"},
        {"1e999,1\n", "field 1, '1e999', is beyond the largest number"},
        {"-,1\n", "field 1, '-', is no number"},
        {"1e,1\n", "field 1, '1e', is no number"},
        {"\x93NUMPY\x01\n", "field 1, '?NUMPY?', is no number"},
        {"11111111111111111111111111111111111111111111111111111111111111111111111\n",
         "'111111111111111111111111...', is no number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ohm_matrix m = {1, 1, 1, NULL};
        ck_assert_msg(parse(&m, cases[i].text, strlen(cases[i].text)) == OHM_ERR_DATA, "taken: %s",
                      cases[i].text);
        ck_assert_msg(strstr(ohm_error_text(), cases[i].expected), "'%s' lacks '%s'",
                      ohm_error_text(), cases[i].expected);
        ck_assert_ptr_null(strchr(ohm_error_text(), '\n'));
        ck_assert(m.value == NULL && m.rows == 0);
    }
    ohm_matrix m;
    ck_assert_int_eq(parse(&m,
                           "1,\0"
                           "2\n",
                           5),
                     OHM_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "field 2, '?2', is no number"));
}

OHM_TEST(matrix, sides_are_limited)
{
    size_t bytes = 2 * (OHM_MATRIX_SIDE + 1);
    char *text = malloc(bytes);
    ohm_matrix m;
    for (size_t i = 0; i < bytes; i++)
        text[i] = i % 2 ? '\n' : '1';
    ck_assert_int_eq(parse(&m, text, bytes), OHM_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "x.csv:65537: more than 65536 rows"));
    OHM_OK_OR_FAIL(parse(&m, text, bytes - 2));
    ohm_matrix_free(&m);
    for (size_t i = 0; i < bytes; i++)
        text[i] = i % 2 ? ',' : '1';
    text[bytes - 1] = '\n';
    ck_assert_int_eq(parse(&m, text, bytes), OHM_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "x.csv:1: more than 65536 columns"));
    free(text);
}
