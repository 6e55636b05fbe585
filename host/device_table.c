#include "host/device_table.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/file.h"

enum { TABLE_BYTES = 1 << 20, LINE_BYTES = 256 };

/* A decimal number up to `stop`, blanks around it allowed; hexadecimal, inf and nan are not. */
static int read_number(double *value, const char **at, char stop)
{
    const char *start = *at + strspn(*at, " \t");
    size_t n = strspn(start, "+-.0123456789eE");
    char *end;
    *value = strtod(start, &end);
    if (n == 0 || end != start + n || !isfinite(*value))
        return 0;
    *at = end + strspn(end, " \t\r");
    if (**at != stop)
        return 0;
    *at += stop != 0;
    return 1;
}

static ohm_status add_row(ohm_device_table *table, const char *line, const char *name, int number)
{
    double target, mean, sigma;
    const char *at = line;
    if (!read_number(&target, &at, ',') || !read_number(&mean, &at, ',') ||
        !read_number(&sigma, &at, 0))
        return OHM_FAIL(OHM_ERR_DATA,
                        "%s:%d: no row; write three numbers: target, mean, sigma in uS", name,
                        number);
    if (target < 0 || mean < 0 || sigma < 0)
        return OHM_FAIL(OHM_ERR_DATA,
                        "%s:%d: a negative conductance or sigma; write numbers of 0 or more", name,
                        number);
    if (table->count && target <= table->target_us[table->count - 1])
        return OHM_FAIL(OHM_ERR_DATA,
                        "%s:%d: target %g does not exceed the row before; sort rows by target",
                        name, number, target);
    if (table->count == OHM_TABLE_ROWS)
        return OHM_FAIL(OHM_ERR_DATA, "%s:%d: more than %d rows; thin the table out", name, number,
                        OHM_TABLE_ROWS);
    table->target_us[table->count] = target;
    table->mean_us[table->count] = mean;
    table->sigma_us[table->count++] = sigma;
    return OHM_OK;
}

ohm_status ohm_device_table_parse(ohm_device_table *table, const char *text, const char *name)
{
    memset(table, 0, sizeof *table);
    int number = 1, header = 0;
    for (const char *at = text; *at; number++) {
        char line[LINE_BYTES];
        size_t n = strcspn(at, "\n");
        if (n >= sizeof line)
            return OHM_FAIL(OHM_ERR_DATA, "%s:%d: the line is too long for a table row", name,
                            number);
        memcpy(line, at, n);
        line[n] = 0;
        at += n + (at[n] == '\n');
        const char *first = line + strspn(line, " \t\r");
        if (!*first || *first == '#')
            continue;
        if (!table->count && !header && isalpha((unsigned char)*first)) {
            header = 1;
            continue;
        }
        OHM_TRY(add_row(table, line, name, number));
    }
    if (table->count < 2)
        return OHM_FAIL(OHM_ERR_DATA, "%s: holds %d rows; a device table needs at least 2", name,
                        table->count);
    return OHM_OK;
}

ohm_status ohm_device_table_read(ohm_device_table *table, const char *path)
{
    char *text;
    size_t bytes;
    OHM_TRY(ohm_file_read(&text, &bytes, path, TABLE_BYTES));
    ohm_status status =
        strlen(text) == bytes
            ? ohm_device_table_parse(table, text, path)
            : OHM_FAIL(OHM_ERR_DATA, "%s: holds a zero byte; is it a CSV file?", path);
    free(text);
    return status;
}
