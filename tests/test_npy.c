#include "host/npy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/file.h"
#include "tests/runner.h"

static const char *in_folder(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", ohm_test_tmpdir(), name);
    return path;
}

/* A file from its parts: version, dictionary, and bytes of data. */
static size_t compose(char *file, int major, const char *dictionary, size_t data)
{
    size_t n = strlen(dictionary), prefix = major == 2 ? 12 : 10;
    memcpy(file, "\x93NUMPY", 6);
    file[6] = (char)major;
    file[7] = 0;
    memset(file + 8, 0, prefix - 8);
    file[8] = (char)n;
    file[9] = (char)(n >> 8);
    memcpy(file + prefix, dictionary, n);
    for (size_t i = 0; i < data; i++)
        file[prefix + n + i] = (char)i;
    return prefix + n + data;
}

static void refuse(int major, const char *dictionary, size_t data, const char *expected)
{
    char file[8192];
    size_t bytes = compose(file, major, dictionary, data);
    char *exact = malloc(bytes); /* so that ASan sees the first byte too many */
    memcpy(exact, file, bytes);
    ohm_npy array;
    ck_assert_msg(ohm_npy_parse(&array, exact, bytes, "x.npy") == OHM_ERR_DATA, "taken: %s",
                  dictionary);
    ck_assert_msg(strstr(ohm_error_text(), expected), "'%s' lacks '%s'", ohm_error_text(),
                  expected);
    ck_assert_msg(!strncmp(ohm_error_text(), "x.npy: ", 7), "%s", ohm_error_text());
    ck_assert_ptr_null(strchr(ohm_error_text(), '\n'));
    ck_assert_ptr_null(array.value);
    free(exact);
}

OHM_TEST(npy, written_arrays_read_back)
{
    const float value[6] = {1.5f, -0.0f, INFINITY, 1e-42f, 3, 4};
    const int64_t shapes[][3] = {{6, 0, 0}, {2, 3, 0}, {1, 2, 3}};
    for (int rank = 1; rank <= 3; rank++) {
        ohm_npy array;
        OHM_OK_OR_FAIL(ohm_npy_write(in_folder("a.npy"), value, rank, shapes[rank - 1]));
        OHM_OK_OR_FAIL(ohm_npy_read(&array, in_folder("a.npy")));
        ck_assert_int_eq(array.rank, rank);
        ck_assert_uint_eq(array.count, 6);
        ck_assert(!memcmp(array.value, value, sizeof value));
        ck_assert(!memcmp(array.shape, shapes[rank - 1], (size_t)rank * sizeof(int64_t)));
        ohm_npy_free(&array);
        ohm_npy_free(&array);
    }
    ohm_npy_free(NULL);
}

/* The very bytes that numpy.save writes for arange(3, dtype='<f4'). */
OHM_TEST(npy, written_bytes_are_numpys)
{
    char expected[140];
    char *data;
    size_t bytes;
    const float value[3] = {0, 1, 2};
    memset(expected, ' ', sizeof expected);
    memcpy(expected, "\x93NUMPY\x01\x00\x76\x00", 10);
    const char *dictionary = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";
    memcpy(expected + 10, dictionary, strlen(dictionary));
    expected[127] = '\n';
    memcpy(expected + 128, value, sizeof value);
    OHM_OK_OR_FAIL(ohm_npy_write(in_folder("a.npy"), value, 1, (const int64_t[]){3}));
    OHM_OK_OR_FAIL(ohm_file_read(&data, &bytes, in_folder("a.npy"), 1000));
    ck_assert_uint_eq(bytes, sizeof expected);
    ck_assert(!memcmp(data, expected, bytes));
    free(data);
}

OHM_TEST(npy, takes_headers_in_any_order)
{
    char file[512];
    ohm_npy array;
    size_t bytes = compose(file, 2, "{'shape':(2,2),'fortran_order':False,'descr':'<f4'}  \n", 16);
    OHM_OK_OR_FAIL(ohm_npy_parse(&array, file, bytes, "x"));
    ck_assert_int_eq(array.rank, 2);
    ohm_npy_free(&array);
    bytes = compose(file, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (), }\n", 4);
    OHM_OK_OR_FAIL(ohm_npy_parse(&array, file, bytes, "x"));
    ck_assert_int_eq(array.rank, 0);
    ck_assert_uint_eq(array.count, 1);
    ohm_npy_free(&array);
    bytes = compose(file, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 5), }\n", 0);
    OHM_OK_OR_FAIL(ohm_npy_parse(&array, file, bytes, "x"));
    ck_assert_uint_eq(array.count, 0);
    ohm_npy_free(&array);
}

OHM_TEST(npy, refuses_other_types_and_orders)
{
    refuse(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n", 16,
           "holds '<f8', not float32");
    refuse(1, "{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }\n", 8,
           "holds '>f4', not float32");
    refuse(1, "{'descr': '|i1', 'fortran_order': False, 'shape': (2,), }\n", 2, "holds '|i1'");
    refuse(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }\n", 8,
           "not float32");
    refuse(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }\n", 8, "Fortran order");
    refuse(3, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n", 8, "format 3.0");
}

OHM_TEST(npy, refuses_bad_headers)
{
    static const char *const bad[] = {
        "",
        "\n",
        "{}",
        "{",
        "}",
        "{'descr': '<f4'}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x",
        "{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
        "{'descr' '<f4'}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 2}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2 2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '\x01\x02'}",
        "{'descr': '\xff'}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        refuse(1, bad[i], 8, "");
}

OHM_TEST(npy, refuses_sizes_that_do_not_add_up)
{
    const char *two = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n";
    refuse(1, two, 7, "holds 7 bytes of data where its shape asks for 8");
    refuse(1, two, 9, "holds 9 bytes");
    refuse(1, two, 0, "holds 0 bytes");
    refuse(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }\n", 8,
           "more memory");
    refuse(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,), }\n", 8,
           "more memory");
    refuse(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807,), }\n", 8,
           "no list of at most 4 sizes");
}

OHM_TEST(npy, refuses_every_truncation)
{
    char file[512];
    size_t bytes =
        compose(file, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n", 8);
    for (size_t n = 0; n < bytes; n++) {
        char *cut = malloc(n + 1);
        memcpy(cut, file, n);
        ohm_npy array;
        ck_assert_int_eq(ohm_npy_parse(&array, cut, n, "x"), OHM_ERR_DATA);
        free(cut);
    }
}

OHM_TEST(npy, files_that_cannot_be_read)
{
    ohm_npy array;
    ck_assert_int_eq(ohm_npy_read(&array, in_folder("missing.npy")), OHM_ERR_IO);
    ck_assert_int_eq(ohm_npy_read(&array, ohm_test_tmpdir()), OHM_ERR_IO);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "is a directory"));
}
