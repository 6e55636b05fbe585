#include "host/npy.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/arena.h"
#include "host/file.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "values are copied as they lie in the file");

static const size_t NPY_BYTES = (size_t)16 << 30;
static const char magic[] = "\x93NUMPY";
enum { MAGIC_BYTES = 6, PREFIX_V1 = 10, PREFIX_V2 = 12, HEADER_MAX = 4096 };

#define REFUSE(name, ...) return ohm_error_prefix(OHM_FAIL(OHM_ERR_DATA, __VA_ARGS__), "%s", name)

/* ---- the header: a Python dictionary of three known keys ----------------------------------- */

static void skip_blanks(const char **at)
{
    *at += strspn(*at, " ");
}

/* Steps over a word and the blanks after it. */
static int take(const char **at, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(*at, word, n))
        return 0;
    *at += n;
    skip_blanks(at);
    return 1;
}

static int take_size(const char **at, int64_t *size)
{
    *size = 0;
    if (!isdigit((unsigned char)**at))
        return 0;
    for (; isdigit((unsigned char)**at); ++*at) {
        if (*size > (INT64_MAX - 9) / 10)
            return 0;
        *size = 10 * *size + (**at - '0');
    }
    skip_blanks(at);
    return 1;
}

/* "(3, 4)", "(3,)" or "()". */
static int take_shape(const char **at, ohm_npy *array)
{
    array->rank = 0;
    if (!take(at, "("))
        return 0;
    while (!take(at, ")")) {
        if (array->rank == OHM_NPY_RANK_MAX || !take_size(at, &array->shape[array->rank++]))
            return 0;
        if (!take(at, ",") && (array->rank < 2 || **at != ')'))
            return 0;
    }
    return 1;
}

typedef struct {
    const char *descr;
    size_t bytes;
} element;

static const element elements[] = {
    {"'<f4'", 4}, {"'<f8'", 8}, {"'|i1'", 1}, {"'<i2'", 2}, {"'<i4'", 4},
    {"'<i8'", 8}, {"'|u1'", 1}, {"'<u2'", 2}, {"'<u4'", 4}, {"'<u8'", 8},
};
enum { F4, F8, I1, I2, I4, I8, U1, U2, U4, U8, ELEMENTS };

/* Of the first `known` types, the one that stands here; -1: none. */
static int take_element(const char **at, int known)
{
    for (int i = 0; i < known; i++)
        if (take(at, elements[i].descr))
            return i;
    return -1;
}

static ohm_status refuse_element(const char *at, int known, const char *name)
{
    int length = (int)strcspn(at, ",}\n");
    if (known == F4 + 1)
        REFUSE(name, "holds %.*s, not float32; convert it: numpy.save(FILE, a.astype('<f4'))",
               length, at);
    REFUSE(name,
           "holds %.*s, not float32, float64 or whole numbers; convert it: "
           "numpy.save(FILE, a.astype('<f8'))",
           length, at);
}

/* Takes the first `known` types of the table; *type is an index into it. */
static ohm_status read_dictionary(ohm_npy *array, int *type_found, int known, const char *at,
                                  const char *name)
{
    int type = 0, order = 0, shape = 0;
    skip_blanks(&at);
    int open = take(&at, "{");
    while (open && !take(&at, "}")) {
        if (!type && take(&at, "'descr'") && take(&at, ":")) {
            if ((*type_found = take_element(&at, known)) < 0)
                return refuse_element(at, known, name);
            type = 1;
        } else if (!order && take(&at, "'fortran_order'") && take(&at, ":")) {
            if (!take(&at, "False"))
                REFUSE(name, "is in Fortran order; convert it with numpy.ascontiguousarray");
            order = 1;
        } else if (!shape && take(&at, "'shape'") && take(&at, ":")) {
            if (!take_shape(&at, array))
                REFUSE(name, "its shape is no list of at most %d sizes", OHM_NPY_RANK_MAX);
            shape = 1;
        } else {
            REFUSE(name, "its header cannot be read at '%.20s'; write it again with numpy.save",
                   at);
        }
        if (!take(&at, ",") && *at != '}')
            REFUSE(name, "its header cannot be read at '%.20s'; write it again with numpy.save",
                   at);
    }
    if (!type || !order || !shape || at[strspn(at, " \n")])
        REFUSE(name, "its header lacks descr, fortran_order or shape, or goes on after them");
    return OHM_OK;
}

/* Bytes before the data, or 0 with an error recorded. */
static ohm_status read_header(ohm_npy *array, int *type, int known, size_t *before,
                              const char *data, size_t bytes, const char *name)
{
    const unsigned char *u = (const unsigned char *)data;
    if (bytes < PREFIX_V1 || memcmp(data, magic, MAGIC_BYTES))
        REFUSE(name, "is no .npy file; write it with numpy.save");
    size_t prefix = u[6] == 1 ? PREFIX_V1 : PREFIX_V2;
    if (u[6] != 1 && u[6] != 2)
        REFUSE(name, "is .npy format %d.%d; formats 1.0 and 2.0 are read here", u[6], u[7]);
    if (bytes < prefix)
        REFUSE(name, "ends within its header; is the copy whole?");
    size_t length = u[8] | (size_t)u[9] << 8;
    if (u[6] == 2)
        length |= (size_t)u[10] << 16 | (size_t)u[11] << 24;
    if (length > HEADER_MAX)
        REFUSE(name, "its header of %zu bytes is longer than any of ours (%d)", length, HEADER_MAX);
    if (bytes < prefix + length)
        REFUSE(name, "ends within its header; is the copy whole?");
    char text[HEADER_MAX + 1];
    memcpy(text, data + prefix, length);
    text[length] = 0;
    for (size_t i = 0; i < length; i++) /* so that messages that quote it stay one plain line */
        if ((unsigned char)text[i] >= 0x7F || ((unsigned char)text[i] < 0x20 && text[i] != '\n'))
            REFUSE(name, "byte %zu of its header is no text; write it again with numpy.save", i);
    *before = prefix + length;
    return read_dictionary(array, type, known, text, name);
}

static ohm_status count_elements(ohm_npy *array, const char *name)
{
    array->count = 1;
    for (int i = 0; i < array->rank; i++)
        if (__builtin_mul_overflow(array->count, (size_t)array->shape[i], &array->count) ||
            array->count > SIZE_MAX / sizeof(double))
            REFUSE(name, "its shape asks for more memory than there is addresses");
    return OHM_OK;
}

/* Header and length are right; *at is the data. */
static ohm_status look(ohm_npy *array, int *type, int known, const char **at, const char *data,
                       size_t bytes, const char *name)
{
    size_t before;
    OHM_TRY(read_header(array, type, known, &before, data, bytes, name));
    OHM_TRY(count_elements(array, name));
    size_t wanted = array->count * elements[*type].bytes;
    if (bytes - before != wanted)
        REFUSE(name, "holds %zu bytes of data where its shape asks for %zu; is the copy whole?",
               bytes - before, wanted);
    *at = data + before;
    return OHM_OK;
}

ohm_status ohm_npy_parse(ohm_npy *array, const char *data, size_t bytes, const char *name)
{
    memset(array, 0, sizeof *array);
    ohm_npy read = {0};
    int type = F4;
    const char *at;
    OHM_TRY(look(&read, &type, F4 + 1, &at, data, bytes, name));
    read.value = malloc(read.count ? read.count * sizeof(float) : 1);
    if (!read.value)
        return OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory for %zu numbers", name, read.count);
    memcpy(read.value, at, read.count * sizeof(float));
    *array = read;
    return OHM_OK;
}

#define TAKE_AS(type)                                                                              \
    {                                                                                              \
        type value;                                                                                \
        memcpy(&value, at, sizeof value);                                                          \
        return (double)value;                                                                      \
    }
static double double_of(const char *at, int type)
{
    switch (type) {
    case F4:
        TAKE_AS(float)
    case F8:
        TAKE_AS(double)
    case I1:
        TAKE_AS(int8_t)
    case I2:
        TAKE_AS(int16_t)
    case I4:
        TAKE_AS(int32_t)
    case I8:
        TAKE_AS(int64_t)
    case U1:
        TAKE_AS(uint8_t)
    case U2:
        TAKE_AS(uint16_t)
    case U4:
        TAKE_AS(uint32_t)
    default:
        TAKE_AS(uint64_t)
    }
}

ohm_status ohm_npy_parse_real(ohm_npy_real *array, const char *data, size_t bytes, const char *name)
{
    memset(array, 0, sizeof *array);
    ohm_npy header = {0};
    int type = F4;
    const char *at;
    OHM_TRY(look(&header, &type, ELEMENTS, &at, data, bytes, name));
    size_t wanted = header.count * sizeof(double);
    double *value = wanted <= ohm_memory_available() ? malloc(wanted + !wanted) : NULL;
    if (!value)
        return OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory for %zu numbers (%zu bytes)", name,
                        header.count, wanted);
    for (size_t i = 0; i < header.count; i++)
        value[i] = double_of(at + i * elements[type].bytes, type);
    *array = (ohm_npy_real){.rank = header.rank, .count = header.count, .value = value};
    memcpy(array->shape, header.shape, sizeof array->shape);
    return OHM_OK;
}

ohm_status ohm_npy_read(ohm_npy *array, const char *path)
{
    char *data;
    size_t bytes;
    memset(array, 0, sizeof *array);
    OHM_TRY(ohm_file_read(&data, &bytes, path, NPY_BYTES));
    ohm_status status = ohm_npy_parse(array, data, bytes, path);
    free(data);
    return status;
}

void ohm_npy_free(ohm_npy *array)
{
    if (!array)
        return;
    free(array->value);
    memset(array, 0, sizeof *array);
}

/* ---- writing ------------------------------------------------------------------------------- */

static ohm_status write_array(const char *path, const void *value, int type, int rank,
                              const int64_t *shape)
{
    char dictionary[256], header[PREFIX_V1 + 320];
    size_t count = 1;
    if (rank < 0 || rank > OHM_NPY_RANK_MAX)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "%s: an array of %d dimensions; at most %d are written",
                        path, rank, OHM_NPY_RANK_MAX);
    int used = snprintf(dictionary, sizeof dictionary,
                        "{'descr': %s, 'fortran_order': False, 'shape': (", elements[type].descr);
    for (int i = 0; i < rank; i++) {
        used += snprintf(dictionary + used, sizeof dictionary - (size_t)used,
                         i ? ", %" PRId64 : "%" PRId64, shape[i]);
        count *= (size_t)shape[i];
    }
    snprintf(dictionary + used, sizeof dictionary - (size_t)used, "%s), }", rank == 1 ? "," : "");
    /* Blanks and a newline up to a multiple of 64, where NumPy wants the data to start. */
    int length = (PREFIX_V1 + (int)strlen(dictionary) + 1 + 63) / 64 * 64 - PREFIX_V1;
    memcpy(header, magic, MAGIC_BYTES);
    memcpy(header + MAGIC_BYTES,
           (const unsigned char[]){1, 0, (unsigned char)length, (unsigned char)(length >> 8)}, 4);
    snprintf(header + PREFIX_V1, sizeof header - PREFIX_V1, "%-*s\n", length - 1, dictionary);
    const ohm_file_part parts[] = {{header, (size_t)(PREFIX_V1 + length)},
                                   {value, count * elements[type].bytes}};
    return ohm_file_write_atomic(path, parts, 2);
}

ohm_status ohm_npy_write(const char *path, const float *value, int rank, const int64_t *shape)
{
    return write_array(path, value, F4, rank, shape);
}

ohm_status ohm_npy_write_f64(const char *path, const double *value, int rank, const int64_t *shape)
{
    return write_array(path, value, F8, rank, shape);
}
