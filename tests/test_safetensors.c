#include "host/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/file.h"
#include "tests/runner.h"

static const ohm_safetensor rows[] = {
    {.name = "conv.weight", .rank = 4, .shape = {2, 3, 1, 1}},
    {.name = "odd \"name\"\n", .rank = 1, .shape = {7}},
    {.name = "empty", .rank = 2, .shape = {0, 5}},
    {.name = "scalar", .rank = 0},
};
static const ohm_metadata metadata[] = {{"step", "12"}, {"config", "seed: 1\nname: \"x\"\n"}};

static ohm_safetensors *make_file(void)
{
    ohm_safetensors *file;
    OHM_OK_OR_FAIL(ohm_safetensors_create(&file, rows, 4, metadata, 2));
    for (int i = 0; i < ohm_safetensors_count(file); i++) {
        const ohm_safetensor *tensor = ohm_safetensors_at(file, i);
        for (size_t e = 0; e < tensor->count; e++)
            ((float *)tensor->data)[e] = (float)(i * 100) + (float)e;
    }
    return file;
}

static const char *write_file(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/file.safetensors", ohm_test_tmpdir());
    ohm_safetensors *file = make_file();
    OHM_OK_OR_FAIL(ohm_safetensors_write(file, path));
    ohm_safetensors_destroy(file);
    return path;
}

OHM_TEST(safetensors, what_is_written_is_read_back)
{
    const char *path = write_file();
    ohm_safetensors *file;
    OHM_OK_OR_FAIL(ohm_safetensors_read(&file, path));
    ck_assert_int_eq(ohm_safetensors_count(file), 4);
    ck_assert_int_eq(ohm_safetensors_sealed(file), 1);
    ck_assert_str_eq(ohm_safetensors_metadata(file, "format"), "pt");
    ck_assert_str_eq(ohm_safetensors_metadata(file, "config"), metadata[1].value);
    ck_assert_ptr_null(ohm_safetensors_metadata(file, "nothing"));
    for (int i = 0; i < 4; i++) {
        const ohm_safetensor *tensor = ohm_safetensors_find(file, rows[i].name);
        ck_assert_ptr_nonnull(tensor);
        ck_assert_str_eq(tensor->type, "F32");
        ck_assert_int_eq(tensor->rank, rows[i].rank);
        ck_assert_mem_eq(tensor->shape, rows[i].shape, sizeof tensor->shape);
    }
    const ohm_safetensor *odd = ohm_safetensors_find(file, rows[1].name);
    ck_assert_uint_eq(odd->count, 7);
    ck_assert(((float *)odd->data)[6] == 106);
    ck_assert_uint_eq(ohm_safetensors_find(file, "scalar")->count, 1);
    ck_assert_ptr_null(ohm_safetensors_find(file, "nothing"));
    ohm_safetensors_destroy(file);
    ohm_safetensors_destroy(NULL);
}

/* Every bit of a small file matters: a flip is refused, or leaves a file that is not sealed. */
OHM_TEST(safetensors, every_flipped_bit_is_noticed)
{
    char *bytes;
    size_t size;
    OHM_OK_OR_FAIL(ohm_file_read(&bytes, &size, write_file(), 1 << 20));
    for (size_t bit = 0; bit < 8 * size; bit++) {
        uint8_t *copy = malloc(size);
        memcpy(copy, bytes, size);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ohm_safetensors *file;
        if (ohm_safetensors_parse(&file, copy, size, "flipped") == OHM_OK) {
            ck_assert_msg(!ohm_safetensors_sealed(file), "bit %zu", bit);
            ohm_safetensors_destroy(file);
        }
    }
    free(bytes);
}

OHM_TEST(safetensors, every_cut_is_refused)
{
    char *bytes;
    size_t size;
    OHM_OK_OR_FAIL(ohm_file_read(&bytes, &size, write_file(), 1 << 20));
    for (size_t length = 0; length < size; length++) {
        uint8_t *copy = malloc(length + 1);
        memcpy(copy, bytes, length);
        ohm_safetensors *file;
        ck_assert_int_eq(ohm_safetensors_parse(&file, copy, length, "cut"), OHM_ERR_DATA);
        ck_assert_ptr_null(file);
    }
    free(bytes);
}

static ohm_status parse_text(ohm_safetensors **file, const char *header, size_t data_bytes)
{
    size_t length = strlen(header);
    uint8_t *bytes = calloc(1, 8 + length + data_bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)((uint64_t)length >> 8 * i);
    memcpy(bytes + 8, header, length);
    return ohm_safetensors_parse(file, bytes, 8 + length + data_bytes, "file");
}

OHM_TEST(safetensors, files_of_others_are_read)
{
    ohm_safetensors *file;
    OHM_OK_OR_FAIL(parse_text(&file, "{\"b\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[1,7]},"
                                     "\"a\": {\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}  ", 7));
    ck_assert_int_eq(ohm_safetensors_sealed(file), 0);
    ck_assert_str_eq(ohm_safetensors_at(file, 0)->name, "a");
    ck_assert_uint_eq(ohm_safetensors_at(file, 1)->bytes, 6);
    ck_assert_ptr_null(ohm_safetensors_metadata(file, "format"));
    ohm_safetensors_destroy(file);
    OHM_OK_OR_FAIL(parse_text(&file, "{}", 0));
    ck_assert_int_eq(ohm_safetensors_count(file), 0);
    ohm_safetensors_destroy(file);
}

#define TENSOR(name, type, shape, offsets) "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

OHM_TEST(safetensors, malformed_headers_are_refused_in_one_line)
{
    static const struct {
        const char *header;
        size_t data;
        const char *part;
    } cases[] = {
        {"", 8, "header of 0 bytes"},
        {"[]", 0, "no JSON object"},
        {"{ ", 0, "no JSON object"},
        {" {}", 0, "no JSON object"},
        {"{}x", 0, "text follows"},
        {"{}", 4, "4 bytes follow"},
        {"{\"a\":1}", 0, "not an object"},
        {"{\"a\":{}}", 0, "not an object"},
        {"{" TENSOR("a", "F31", "[1]", "[0,4]") "}", 4, "unknown dtype"},
        {"{" TENSOR("a", "F32", "1", "[0,4]") "}", 4, "no list"},
        {"{" TENSOR("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "no list"},
        {"{" TENSOR("a", "F32", "[1.5]", "[0,4]") "}", 4, "no whole number"},
        {"{" TENSOR("a", "F32", "[-1]", "[0,4]") "}", 4, "no whole number"},
        {"{" TENSOR("a", "F32", "[1e300]", "[0,4]") "}", 4, "no whole number"},
        {"{" TENSOR("a", "F32", "[\"1\"]", "[0,4]") "}", 4, "no whole number"},
        {"{" TENSOR("a", "F32", "[4294967296,4294967296]", "[0,4]") "}", 4, "too large"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4,4]") "}", 4, "outside the file"},
        {"{" TENSOR("a", "F32", "[1]", "[4,0]") "}", 4, "outside the file"},
        {"{" TENSOR("a", "F32", "[2]", "[0,8]") "}", 4, "outside the file"},
        {"{" TENSOR("a", "F32", "[2]", "[0,4]") "}", 4, "do not fit the shape"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("a", "F32", "[1]", "[4,8]") "}", 8, "twice"},
        {"{" TENSOR("a", "F32", "[2]", "[0,8]") "," TENSOR("b", "F32", "[1]", "[4,8]") "}", 8, "overlap"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("b", "F32", "[1]", "[8,12]") "}", 12, "gap"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "no text"},
        {"{\"__metadata__\":[]}", 0, "no object"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "twice"},
        {"{\"__metadata__\":{\"ohmgrad.sha256\":\"00\"}}", 0, "checksum"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ohm_safetensors *file;
        ck_assert_msg(parse_text(&file, cases[i].header, cases[i].data) == OHM_ERR_DATA, "taken: %s", cases[i].header);
        ck_assert_msg(strstr(ohm_error_text(), cases[i].part), "%s: '%s'", cases[i].header, ohm_error_text());
        ck_assert_ptr_null(strchr(ohm_error_text(), '\n'));
    }
}

OHM_TEST(safetensors, impossible_files_are_not_made)
{
    ohm_safetensors *file;
    const ohm_safetensor twice[] = {{.name = "a", .rank = 1, .shape = {1}}, {.name = "a", .rank = 1, .shape = {2}}};
    const ohm_safetensor negative = {.name = "a", .rank = 1, .shape = {-1}}, reserved = {.name = "__metadata__"};
    ck_assert_int_eq(ohm_safetensors_create(&file, twice, 2, NULL, 0), OHM_ERR_ARGUMENT);
    ck_assert_int_eq(ohm_safetensors_create(&file, &negative, 1, NULL, 0), OHM_ERR_ARGUMENT);
    ck_assert_int_eq(ohm_safetensors_create(&file, &reserved, 1, NULL, 0), OHM_ERR_ARGUMENT);
    ck_assert_ptr_null(file);
    OHM_OK_OR_FAIL(ohm_safetensors_create(&file, NULL, 0, NULL, 0));
    ck_assert_int_eq(ohm_safetensors_write(file, "/dev/null/x.safetensors"), OHM_ERR_IO);
    ohm_safetensors_destroy(file);
}

/* As sha256sum computes it. */
OHM_TEST(safetensors, seal_is_the_sha256_of_the_file)
{
    const char *path = write_file();
    char out[256], seal[65];
    ohm_safetensors *file;
    OHM_OK_OR_FAIL(ohm_safetensors_read(&file, path));
    snprintf(seal, sizeof seal, "%s", ohm_safetensors_metadata(file, "ohmgrad.sha256"));
    ohm_safetensors_destroy(file);
    ck_assert_int_eq(ohm_test_run(out, sizeof out, "sed 's/%s/%064d/' %s | sha256sum | cut -c 1-64", seal, 0, path), 0);
    out[64] = 0;
    ck_assert_str_eq(out, seal);
}
