#include "host/safetensors.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <sha256.h>

#include "host/file.h"

#define SEAL_KEY "ohmgrad.sha256"
#define SEAL_TEXT "\"" SEAL_KEY "\":\""

enum { LENGTH_BYTES = 8, SEAL_DIGITS = 64, HEADER_MAX = 16 << 20, NUMBER_MAX_BITS = 53 };
static const size_t FILE_MAX = (size_t)16 << 30;

struct ohm_safetensors {
    uint8_t *bytes;      /* the whole file */
    size_t size, header; /* header: bytes of JSON */
    cJSON *json;         /* of the header; owns names and metadata */
    ohm_safetensor *tensor;
    int count;
    int sealed;
};

static const struct {
    char name[6];
    uint8_t bytes;
} element_types[] = {{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8}, {"I32", 4}, {"I16", 2},
                     {"I8", 1},  {"U64", 8}, {"U32", 4}, {"U16", 2},  {"U8", 1},  {"BOOL", 1}};

static size_t element_bytes(const char *type)
{
    for (size_t i = 0; i < sizeof element_types / sizeof *element_types; i++)
        if (strcmp(element_types[i].name, type) == 0)
            return element_types[i].bytes;
    return 0;
}

/* Elements of a shape; 0 in *ok where a dimension is negative or the product passes 2^53. */
static size_t shape_count(const ohm_safetensor *tensor, int *ok)
{
    size_t count = 1;
    *ok = tensor->rank >= 0 && tensor->rank <= OHM_TENSOR_RANK_MAX;
    for (int i = 0; *ok && i < tensor->rank; i++)
        *ok = tensor->shape[i] >= 0 && !__builtin_mul_overflow(count, (size_t)tensor->shape[i], &count) &&
              count >> NUMBER_MAX_BITS == 0;
    return count;
}

void ohm_safetensors_destroy(ohm_safetensors *file)
{
    if (!file)
        return;
    cJSON_Delete(file->json);
    free(file->tensor);
    free(file->bytes);
    free(file);
}

int ohm_safetensors_count(const ohm_safetensors *file)
{
    return file->count;
}

const ohm_safetensor *ohm_safetensors_at(const ohm_safetensors *file, int index)
{
    return &file->tensor[index];
}

const ohm_safetensor *ohm_safetensors_find(const ohm_safetensors *file, const char *name)
{
    for (int i = 0; i < file->count; i++)
        if (strcmp(file->tensor[i].name, name) == 0)
            return &file->tensor[i];
    return NULL;
}

const char *ohm_safetensors_metadata(const ohm_safetensors *file, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(file->json, "__metadata__"), key));
}

int ohm_safetensors_sealed(const ohm_safetensors *file)
{
    return file->sealed;
}

/* ---- the seal ------------------------------------------------------------------------------ */

/* The 64 digits inside the header, or NULL. cJSON prints and we compare the unformatted form. */
static char *seal_digits(const ohm_safetensors *file)
{
    char *json = (char *)file->bytes + LENGTH_BYTES;
    char *at = memmem(json, file->header, SEAL_TEXT, strlen(SEAL_TEXT));
    if (!at || (size_t)(at - json) + strlen(SEAL_TEXT) + SEAL_DIGITS > file->header)
        return NULL;
    return at + strlen(SEAL_TEXT);
}

static void digest(char hex[SEAL_DIGITS + 1], const ohm_safetensors *file, const char *digits)
{
    static const char zeros[SEAL_DIGITS + 1] = "0000000000000000000000000000000000000000000000000000000000000000";
    uint8_t hash[SHA256_DIGEST_LENGTH];
    size_t before = (size_t)((const uint8_t *)digits - file->bytes), after = before + SEAL_DIGITS;
    SHA256_CTX context;
    SHA256Init(&context);
    SHA256Update(&context, file->bytes, before);
    SHA256Update(&context, (const uint8_t *)zeros, SEAL_DIGITS);
    SHA256Update(&context, file->bytes + after, file->size - after);
    SHA256Final(hash, &context);
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++)
        snprintf(hex + 2 * i, 3, "%02x", hash[i]);
}

static ohm_status check_seal(ohm_safetensors *file, const char *path)
{
    char hex[SEAL_DIGITS + 1];
    if (!ohm_safetensors_metadata(file, SEAL_KEY))
        return OHM_OK;
    const char *digits = seal_digits(file);
    if (digits)
        digest(hex, file, digits);
    if (!digits || memcmp(hex, digits, SEAL_DIGITS) != 0)
        return OHM_FAIL(OHM_ERR_DATA, "%s: the checksum is wrong: the file is damaged; use another copy or an earlier checkpoint", path);
    file->sealed = 1;
    return OHM_OK;
}

/* ---- writing ------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const ohm_safetensor *const *)a)->name, (*(const ohm_safetensor *const *)b)->name);
}

/* A name that two tensors bear, or NULL; *ok = 0 when out of memory. */
static const char *repeated_name(const ohm_safetensor *tensors, int count, int *ok)
{
    const char *found = NULL;
    const ohm_safetensor **sorted = malloc(((size_t)count + 1) * sizeof *sorted);
    *ok = sorted != NULL;
    if (!sorted)
        return NULL;
    for (int i = 0; i < count; i++)
        sorted[i] = &tensors[i];
    qsort(sorted, (size_t)count, sizeof *sorted, by_name);
    for (int i = 1; i < count && !found; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            found = sorted[i]->name;
    free(sorted);
    return found;
}

/* NULL when out of memory. */
static cJSON *make_tensor_json(const ohm_safetensor *tensor, size_t begin)
{
    cJSON *row = cJSON_CreateObject(), *shape, *offsets;
    int ok = row && cJSON_AddStringToObject(row, "dtype", "F32") && (shape = cJSON_AddArrayToObject(row, "shape"));
    for (int d = 0; ok && d < tensor->rank; d++)
        ok = cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)tensor->shape[d]));
    ok = ok && (offsets = cJSON_AddArrayToObject(row, "data_offsets")) && cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)begin)) &&
         cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)(begin + tensor->bytes)));
    if (ok)
        return row;
    cJSON_Delete(row);
    return NULL;
}

/* The header's text (free it), NULL when out of memory. Sets every row's data to its offset. */
static char *make_header(ohm_safetensor *rows, int count, const ohm_metadata *metadata, int pairs)
{
    static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
    size_t begin = 0;
    cJSON *json = cJSON_CreateObject();
    cJSON *meta = json ? cJSON_AddObjectToObject(json, "__metadata__") : NULL;
    int ok = meta && cJSON_AddStringToObject(meta, "format", "pt") && cJSON_AddStringToObject(meta, SEAL_KEY, zeros);
    for (int i = 0; ok && i < pairs; i++)
        ok = cJSON_AddStringToObject(meta, metadata[i].key, metadata[i].value) != NULL;
    for (int i = 0; ok && i < count; i++) {
        cJSON *row = make_tensor_json(&rows[i], begin);
        ok = row && cJSON_AddItemToObject(json, rows[i].name, row);
        begin += rows[i].bytes;
    }
    char *text = ok ? cJSON_PrintUnformatted(json) : NULL;
    cJSON_Delete(json);
    return text;
}

static ohm_status check_rows(ohm_safetensor *rows, int count)
{
    int ok;
    for (int i = 0; i < count; i++) {
        rows[i].count = shape_count(&rows[i], &ok);
        rows[i].bytes = rows[i].count * sizeof(float);
        if (!ok || !rows[i].name || !*rows[i].name || strcmp(rows[i].name, "__metadata__") == 0)
            return OHM_FAIL(OHM_ERR_ARGUMENT, "tensor %d (%s): no name or shape for a safetensors file", i,
                            rows[i].name ? rows[i].name : "");
    }
    const char *twice = repeated_name(rows, count, &ok);
    if (!ok)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for the names of %d tensors", count);
    return twice ? OHM_FAIL(OHM_ERR_ARGUMENT, "two tensors are named '%s'", twice) : OHM_OK;
}

/* length, header padded with spaces to a multiple of 8, zeros; NULL when out of memory. */
static uint8_t *make_bytes(size_t *size, const char *header, const ohm_safetensor *rows, int count)
{
    size_t length = strlen(header), padded = (length + 7) / 8 * 8;
    *size = LENGTH_BYTES + padded;
    for (int i = 0; i < count; i++)
        *size += rows[i].bytes;
    uint8_t *bytes = calloc(1, *size);
    if (!bytes)
        return NULL;
    for (int i = 0; i < LENGTH_BYTES; i++)
        bytes[i] = (uint8_t)(padded >> 8 * i);
    memcpy(bytes + LENGTH_BYTES, header, length);
    memset(bytes + LENGTH_BYTES + length, ' ', padded - length);
    return bytes;
}

static ohm_status parse(ohm_safetensors *file, const char *path);

ohm_status ohm_safetensors_create(ohm_safetensors **out, const ohm_safetensor *tensors, int count, const ohm_metadata *metadata, int pairs)
{
    *out = NULL;
    ohm_safetensors *file = calloc(1, sizeof *file);
    ohm_safetensor *rows = malloc(((size_t)count + 1) * sizeof *rows);
    char *header = NULL;
    ohm_status status = file && rows ? OHM_OK : OHM_FAIL(OHM_ERR_MEMORY, "no memory for %d tensors", count);
    if (status == OHM_OK) {
        if (count)
            memcpy(rows, tensors, (size_t)count * sizeof *rows);
        status = check_rows(rows, count);
    }
    if (status == OHM_OK) {
        header = make_header(rows, count, metadata, pairs);
        file->bytes = header ? make_bytes(&file->size, header, rows, count) : NULL;
        status = file->bytes ? parse(file, "new file") : OHM_FAIL(OHM_ERR_MEMORY, "no memory for a file of %d tensors", count);
    }
    cJSON_free(header);
    free(rows);
    if (status == OHM_OK)
        *out = file;
    else
        ohm_safetensors_destroy(file);
    return status;
}

ohm_status ohm_safetensors_write(ohm_safetensors *file, const char *path)
{
    char hex[SEAL_DIGITS + 1], *digits = seal_digits(file);
    digest(hex, file, digits);
    memcpy(digits, hex, SEAL_DIGITS);
    return ohm_file_write_atomic(path, &(ohm_file_part){file->bytes, file->size}, 1);
}

/* ---- reading ------------------------------------------------------------------------------- */

static ohm_status bad(const char *path, const char *name, const char *what)
{
    return OHM_FAIL(OHM_ERR_DATA, "%s: tensor '%.60s': %s; the file is damaged or no safetensors file", path, name, what);
}

static int whole_number(const cJSON *item, int64_t *value)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) || item->valuedouble >= (double)(1LL << NUMBER_MAX_BITS))
        return 0;
    *value = (int64_t)item->valuedouble;
    return (double)*value == item->valuedouble;
}

/* One entry of the header. `data` is where offset 0 lies, of data_bytes. */
static ohm_status parse_tensor(ohm_safetensor *tensor, const cJSON *row, uint8_t *data, size_t data_bytes, const char *path)
{
    const char *name = tensor->name = row->string;
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(row, "shape"), *item;
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(row, "data_offsets");
    int64_t begin, end;
    int ok;
    tensor->type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "dtype"));
    if (!cJSON_IsObject(row) || cJSON_GetArraySize(row) != 3)
        return bad(path, name, "not an object of dtype, shape and data_offsets");
    if (!tensor->type || !element_bytes(tensor->type))
        return bad(path, name, "unknown dtype");
    if (!cJSON_IsArray(shape) || cJSON_GetArraySize(shape) > OHM_TENSOR_RANK_MAX)
        return bad(path, name, "the shape is no list of at most 8 numbers");
    cJSON_ArrayForEach(item, shape) if (!whole_number(item, &tensor->shape[tensor->rank++]))
        return bad(path, name, "a dimension is no whole number");
    tensor->count = shape_count(tensor, &ok);
    if (!ok)
        return bad(path, name, "the shape is too large");
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 || !whole_number(offsets->child, &begin) ||
        !whole_number(offsets->child->next, &end) || begin > end || (size_t)end > data_bytes)
        return bad(path, name, "data_offsets lie outside the file (truncated?)");
    tensor->bytes = (size_t)(end - begin);
    tensor->data = data + begin;
    if (tensor->bytes != tensor->count * element_bytes(tensor->type))
        return bad(path, name, "data_offsets do not fit the shape");
    return OHM_OK;
}

static ohm_status check_metadata(const cJSON *meta, const char *path)
{
    const cJSON *item;
    if (!cJSON_IsObject(meta))
        return OHM_FAIL(OHM_ERR_DATA, "%s: __metadata__ is no object; the file is damaged", path);
    cJSON_ArrayForEach(item, meta) if (!cJSON_IsString(item))
        return OHM_FAIL(OHM_ERR_DATA, "%s: metadata '%.60s' is no text; the file is damaged", path, item->string);
    return OHM_OK;
}

static int by_offset(const void *a, const void *b)
{
    const ohm_safetensor *x = a, *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* Offsets must tile the data: the format allows no gap, no overlap and nothing behind the last. */
static ohm_status check_tiling(ohm_safetensors *file, uint8_t *data, const char *path)
{
    int ok;
    const char *twice = repeated_name(file->tensor, file->count, &ok);
    if (!ok)
        return OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory for the names of %d tensors", path, file->count);
    if (twice)
        return bad(path, twice, "the name stands there twice");
    qsort(file->tensor, (size_t)file->count, sizeof *file->tensor, by_offset);
    uint8_t *next = data;
    for (int i = 0; i < file->count; i++) {
        if (file->tensor[i].data != next)
            return bad(path, file->tensor[i].name, "a gap or an overlap lies before it");
        next += file->tensor[i].bytes;
    }
    if (next != file->bytes + file->size)
        return OHM_FAIL(OHM_ERR_DATA, "%s: %zu bytes follow the last tensor; the file is damaged", path,
                        (size_t)(file->bytes + file->size - next));
    return OHM_OK;
}

static ohm_status parse_header(ohm_safetensors *file, const char *path)
{
    uint64_t length = 0;
    if (file->size < LENGTH_BYTES)
        return OHM_FAIL(OHM_ERR_DATA, "%s: %zu bytes are no safetensors file", path, file->size);
    for (int i = 0; i < LENGTH_BYTES; i++)
        length |= (uint64_t)file->bytes[i] << 8 * i;
    if (length < 2 || length > HEADER_MAX || length > file->size - LENGTH_BYTES)
        return OHM_FAIL(OHM_ERR_DATA, "%s: a header of %" PRIu64 " bytes does not fit (truncated, or no safetensors file)", path, length);
    file->header = (size_t)length;
    const char *end, *text = (const char *)file->bytes + LENGTH_BYTES;
    file->json = text[0] == '{' ? cJSON_ParseWithLengthOpts(text, file->header, &end, 0) : NULL;
    if (!cJSON_IsObject(file->json))
        return OHM_FAIL(OHM_ERR_DATA, "%s: the header is no JSON object; the file is damaged or no safetensors file", path);
    for (; end < text + file->header; end++)
        if (*end != ' ')
            return OHM_FAIL(OHM_ERR_DATA, "%s: text follows the header's JSON; the file is damaged", path);
    return OHM_OK;
}

/* Fills everything from file->bytes. */
static ohm_status parse(ohm_safetensors *file, const char *path)
{
    OHM_TRY(parse_header(file, path));
    uint8_t *data = file->bytes + LENGTH_BYTES + file->header;
    int entries = cJSON_GetArraySize(file->json);
    file->tensor = calloc((size_t)entries + 1, sizeof *file->tensor);
    if (!file->tensor)
        return OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory for %d tensors", path, entries);
    const cJSON *row;
    int metadata = 0;
    cJSON_ArrayForEach(row, file->json) {
        if (strcmp(row->string, "__metadata__") == 0)
            OHM_TRY(metadata++ ? bad(path, row->string, "stands there twice") : check_metadata(row, path));
        else
            OHM_TRY(parse_tensor(&file->tensor[file->count++], row, data, file->size - LENGTH_BYTES - file->header, path));
    }
    OHM_TRY(check_tiling(file, data, path));
    return OHM_OK;
}

ohm_status ohm_safetensors_parse(ohm_safetensors **out, void *bytes, size_t size, const char *path)
{
    *out = NULL;
    ohm_safetensors *file = calloc(1, sizeof *file);
    if (!file) {
        free(bytes);
        return OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory", path);
    }
    file->bytes = bytes;
    file->size = size;
    ohm_status status = parse(file, path);
    if (status == OHM_OK)
        status = check_seal(file, path);
    if (status == OHM_OK)
        *out = file;
    else
        ohm_safetensors_destroy(file);
    return status;
}

ohm_status ohm_safetensors_read(ohm_safetensors **file, const char *path)
{
    char *bytes;
    size_t size;
    *file = NULL;
    OHM_TRY(ohm_file_read(&bytes, &size, path, FILE_MAX));
    return ohm_safetensors_parse(file, bytes, size, path);
}
