#include "host/matrix.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/file.h"
#include "host/npy.h"

static const size_t FILE_BYTES = (size_t)16 << 30;
enum { FIELD_BYTES = 64 };

static int ends_in(const char *path, const char *end)
{
    size_t n = strlen(path), m = strlen(end);
    return n > m && !strcmp(path + n - m, end);
}

ohm_status ohm_matrix_check_name(const char *path)
{
    if (ends_in(path, ".npy") || ends_in(path, ".csv"))
        return OHM_OK;
    return OHM_FAIL(OHM_ERR_CONFIG, "'%.200s': a matrix's file name ends in .npy or .csv", path);
}

void ohm_matrix_free(ohm_matrix *matrix)
{
    if (!matrix)
        return;
    free(matrix->value);
    memset(matrix, 0, sizeof *matrix);
}

/* ---- CSV ----------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    int line; /* from 1 */
    size_t count, room;
    ohm_matrix m;
} reader;

static ohm_status append(reader *r, double value)
{
    if (r->count == r->room) {
        size_t room = r->room ? 2 * r->room : 256;
        double *grown = realloc(r->m.value, room * sizeof *grown);
        if (!grown)
            return OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory for %zu numbers", r->name, room);
        r->m.value = grown;
        r->room = room;
    }
    r->m.value[r->count++] = value;
    return OHM_OK;
}

static int is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static void trim(const char **at, const char **end)
{
    while (*at < *end && is_blank(**at))
        ++*at;
    while (*end > *at && is_blank((*end)[-1]))
        --*end;
}

/* A field as a message may show it: short, one line, printable. */
static const char *shown(char text[28], const char *at, size_t n)
{
    size_t kept = n < 24 ? n : 24;
    for (size_t i = 0; i < kept; i++)
        text[i] = (unsigned char)at[i] < 0x20 || (unsigned char)at[i] >= 0x7F ? '?' : at[i];
    strcpy(text + kept, n > kept ? "..." : "");
    return text;
}

/* Decimal numbers only: strtod would also take hexadecimal ones, inf and nan. */
static ohm_status add_field(reader *r, int field, const char *at, const char *end)
{
    char text[FIELD_BYTES], *stop = text, quoted[28];
    trim(&at, &end);
    size_t n = (size_t)(end - at);
    double value = 0;
    if (n && n < sizeof text) {
        memcpy(text, at, n);
        text[n] = 0;
        if (strspn(text, "+-.0123456789eE") == n)
            value = strtod(text, &stop);
    }
    if (!n)
        return OHM_FAIL(OHM_ERR_DATA, "%s:%d: field %d is empty; write a number", r->name, r->line,
                        field);
    if ((size_t)(stop - text) != n)
        return OHM_FAIL(OHM_ERR_DATA,
                        "%s:%d: field %d, '%s', is no number; write decimal numbers "
                        "separated by commas",
                        r->name, r->line, field, shown(quoted, at, n));
    if (!isfinite(value))
        return OHM_FAIL(OHM_ERR_DATA, "%s:%d: field %d, '%s', is beyond the largest number",
                        r->name, r->line, field, shown(quoted, at, n));
    if (field > OHM_MATRIX_SIDE)
        return OHM_FAIL(OHM_ERR_DATA, "%s:%d: more than %d columns", r->name, r->line,
                        OHM_MATRIX_SIDE);
    return append(r, value);
}

static ohm_status add_line(reader *r, const char *at, const char *end)
{
    int fields = 0;
    trim(&at, &end);
    if (at == end || *at == '#')
        return OHM_OK;
    for (const char *next = at; next; at = next + 1) {
        next = memchr(at, ',', (size_t)(end - at));
        OHM_TRY(add_field(r, ++fields, at, next ? next : end));
        if (!next)
            break;
    }
    if (r->m.rows && fields != r->m.columns)
        return OHM_FAIL(OHM_ERR_DATA,
                        "%s:%d: holds %d numbers, the lines before it %d; make all rows as long",
                        r->name, r->line, fields, r->m.columns);
    if (r->m.rows == OHM_MATRIX_SIDE)
        return OHM_FAIL(OHM_ERR_DATA, "%s:%d: more than %d rows", r->name, r->line,
                        OHM_MATRIX_SIDE);
    r->m.columns = fields;
    r->m.rows++;
    return OHM_OK;
}

static ohm_status read_lines(reader *r, const char *at, const char *end)
{
    if (end - at >= 3 && !memcmp(at, "\xEF\xBB\xBF", 3)) /* the mark some spreadsheets begin with */
        at += 3;
    for (const char *next; at < end; at = next + 1) {
        next = memchr(at, '\n', (size_t)(end - at));
        next = next ? next : end;
        r->line++;
        OHM_TRY(add_line(r, at, next));
        if (next == end)
            break;
    }
    if (!r->m.rows)
        return OHM_FAIL(OHM_ERR_DATA, "%s: holds no numbers; write one row per line", r->name);
    return OHM_OK;
}

ohm_status ohm_matrix_parse_csv(ohm_matrix *matrix, const char *text, size_t bytes,
                                const char *name)
{
    reader r = {.name = name};
    ohm_status status = read_lines(&r, text, text + bytes);
    if (status != OHM_OK)
        ohm_matrix_free(&r.m);
    *matrix = r.m;
    return status;
}

/* ---- files --------------------------------------------------------------------------------- */

static ohm_status parse_npy(ohm_matrix *matrix, const char *data, size_t bytes, const char *path)
{
    ohm_npy_real array;
    OHM_TRY(ohm_npy_parse_real(&array, data, bytes, path));
    int flat = array.rank == 1;
    int64_t rows = flat ? 1 : array.shape[0], columns = flat ? array.shape[0] : array.shape[1];
    ohm_status status = OHM_OK;
    if (array.rank != 1 && array.rank != 2)
        status = OHM_FAIL(OHM_ERR_DATA, "%s: has %d dimensions; give a matrix", path, array.rank);
    else if (rows < 1 || columns < 1 || rows > OHM_MATRIX_SIDE || columns > OHM_MATRIX_SIDE)
        status = OHM_FAIL(OHM_ERR_DATA, "%s: is %lld x %lld; give 1..%d rows and columns", path,
                          (long long)rows, (long long)columns, OHM_MATRIX_SIDE);
    if (status != OHM_OK)
        free(array.value);
    else
        *matrix = (ohm_matrix){(int)rows, (int)columns, flat, array.value};
    return status;
}

ohm_status ohm_matrix_read(ohm_matrix *matrix, const char *path)
{
    char *data;
    size_t bytes;
    memset(matrix, 0, sizeof *matrix);
    OHM_TRY(ohm_matrix_check_name(path));
    OHM_TRY(ohm_file_read(&data, &bytes, path, FILE_BYTES));
    ohm_status status = ends_in(path, ".npy") ? parse_npy(matrix, data, bytes, path)
                                              : ohm_matrix_parse_csv(matrix, data, bytes, path);
    free(data);
    return status;
}

static ohm_status write_csv(const char *path, const double *value, int rows, int columns,
                            int doubles)
{
    ohm_file_text text;
    OHM_TRY(ohm_file_text_open(&text, path));
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) {
            double v = value[(size_t)r * columns + c];
            fprintf(text.stream, "%.*g%c", doubles ? 17 : 9, doubles ? v : (double)(float)v,
                    c + 1 < columns ? ',' : '\n');
        }
    return ohm_file_text_write(&text, path);
}

static ohm_status write_npy(const char *path, const double *value, int rows, int columns,
                            int doubles)
{
    const int64_t shape[] = {rows, columns};
    if (doubles)
        return ohm_npy_write_f64(path, value, 2, shape);
    size_t count = (size_t)rows * (size_t)columns;
    float *single = malloc(count * sizeof *single + 1);
    if (!single)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory to write %s", path);
    for (size_t i = 0; i < count; i++)
        single[i] = (float)value[i];
    ohm_status status = ohm_npy_write(path, single, 2, shape);
    free(single);
    return status;
}

ohm_status ohm_matrix_write(const char *path, const double *value, int rows, int columns,
                            int doubles)
{
    OHM_TRY(ohm_matrix_check_name(path));
    for (size_t i = 0; i < (size_t)rows * (size_t)columns; i++)
        if (!isfinite(doubles ? value[i] : (double)(float)value[i]))
            return OHM_FAIL(OHM_ERR_DATA,
                            "%s is not written: its number [%zu,%zu] is %g, beyond what float%d "
                            "holds",
                            path, i / (size_t)columns, i % (size_t)columns, value[i],
                            doubles ? 64 : 32);
    return ends_in(path, ".npy") ? write_npy(path, value, rows, columns, doubles)
                                 : write_csv(path, value, rows, columns, doubles);
}
