/* Option tables: what a key accepts, its value as YAML, the help. */
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host/hardware.h"
#include "host/option.h"

/* Appends to text, which stays terminated; what does not fit is cut. */
__attribute__((format(printf, 3, 4))) static void append(char *text, size_t bytes,
                                                         const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + used, bytes - used, format, args);
    va_end(args);
}

/* As few digits as read back to the same double. */
static void append_real(char *text, size_t bytes, double value)
{
    char number[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(number, sizeof number, "%.*g", digits, value);
        if (strtod(number, NULL) == value)
            break;
    }
    append(text, bytes, "%s", isinf(value) ? (value < 0 ? "-.inf" : ".inf") : number);
}

static void append_range(char *text, size_t bytes, double low, double high)
{
    append_real(text, bytes, low);
    append(text, bytes, "..");
    append_real(text, bytes, high);
}

static void append_choices(char *text, size_t bytes, const ohm_option *row)
{
    ohm_choice choice;
    for (int i = 0; ohm_option_choice(row, i, &choice); i++) {
        append(text, bytes, "%s", i ? " | " : "");
        if (choice.length == 6 && !memcmp(choice.name, "number", 6)) {
            append(text, bytes, "a number ");
            append_range(text, bytes, row->low, row->high);
            continue;
        }
        append(text, bytes, "%.*s", choice.length, choice.name);
        if (choice.takes_number) {
            append(text, bytes, "[:");
            append_range(text, bytes, choice.low, choice.high);
            append(text, bytes, ", ");
            append_real(text, bytes, choice.fallback);
            append(text, bytes, " if left out]");
        }
    }
}

void ohm_option_bound(const ohm_option *row, char *text, size_t bytes)
{
    text[0] = 0;
    switch (row->type) {
    case OHM_OPTION_INT:
    case OHM_OPTION_INT64:
        append(text, bytes, "a whole number ");
        append_range(text, bytes, row->low, row->high);
        break;
    case OHM_OPTION_REAL:
        append(text, bytes, "a number ");
        append_range(text, bytes, row->low, row->high);
        break;
    case OHM_OPTION_BOOL:
        append(text, bytes, "true | false");
        break;
    case OHM_OPTION_CHOICE:
    case OHM_OPTION_MODE:
        append_choices(text, bytes, row);
        break;
    case OHM_OPTION_TEXT:
        append(text, bytes, "text of at most %zu bytes", row->size - 1);
        break;
    case OHM_OPTION_REALS:
        append(text, bytes, "a list [a, b, ...] of at most %d numbers ", OHM_COEFFICIENTS);
        append_range(text, bytes, row->low, row->high);
        break;
    }
    if (row->unit[0])
        append(text, bytes, " %s", row->unit);
}

/* ---- values as YAML ------------------------------------------------------------------------ */

static void append_mode(char *text, size_t bytes, const ohm_option *row, const ohm_mode *mode)
{
    ohm_choice choice = {0};
    if (!ohm_option_choice(row, mode->kind, &choice))
        return;
    int number = choice.length == 6 && !memcmp(choice.name, "number", 6);
    if (!number)
        append(text, bytes, "%.*s%s", choice.length, choice.name, choice.takes_number ? ":" : "");
    if (number || choice.takes_number)
        append_real(text, bytes, mode->value);
}

/* A plain word where nothing could read it otherwise; else single quotes, '' for '. */
static void append_text(char *text, size_t bytes, const char *value)
{
    const char *plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-";
    int null = !strcasecmp(value, "null");
    if (value[0] && value[0] != '-' && value[0] != '.' && !null && !value[strspn(value, plain)]) {
        append(text, bytes, "%s", value);
        return;
    }
    append(text, bytes, "'");
    for (; *value; value++)
        append(text, bytes, "%s%c", *value == '\'' ? "'" : "", *value);
    append(text, bytes, "'");
}

static void append_reals(char *text, size_t bytes, const ohm_coefficients *list)
{
    append(text, bytes, "[");
    for (int i = 0; i < list->count; i++) {
        append(text, bytes, "%s", i ? ", " : "");
        append_real(text, bytes, list->at[i]);
    }
    append(text, bytes, "]");
}

void ohm_option_format(const ohm_option *row, const void *target, char *text, size_t bytes)
{
    const void *field = (const char *)target + row->offset;
    ohm_choice choice = {0};
    text[0] = 0;
    switch (row->type) {
    case OHM_OPTION_INT:
        append(text, bytes, "%d", *(const int *)field);
        break;
    case OHM_OPTION_INT64:
        append(text, bytes, "%lld", (long long)*(const int64_t *)field);
        break;
    case OHM_OPTION_REAL:
        append_real(text, bytes, *(const double *)field);
        break;
    case OHM_OPTION_BOOL:
        append(text, bytes, "%s", *(const int *)field ? "true" : "false");
        break;
    case OHM_OPTION_CHOICE:
        if (ohm_option_choice(row, *(const int *)field, &choice))
            append(text, bytes, "%.*s", choice.length, choice.name);
        break;
    case OHM_OPTION_MODE:
        append_mode(text, bytes, row, field);
        break;
    case OHM_OPTION_TEXT:
        append_text(text, bytes, field);
        break;
    case OHM_OPTION_REALS:
        append_reals(text, bytes, field);
        break;
    }
}

/* Bytes of the dotted folder that key lies in, without the dot: "adc" of "adc.bits". */
static int folder_of(const char *key)
{
    const char *dot = strrchr(key, '.');
    return dot ? (int)(dot - key) : 0;
}

void ohm_option_print_yaml(const ohm_option_table *table, const void *target, int indent, FILE *out)
{
    char text[2 * OHM_PATH_BYTES + 8]; /* every byte of a path might be a quote */
    const char *open = "";
    for (size_t i = 0; i < table->count; i++) {
        const ohm_option *row = &table->row[i];
        int folder = folder_of(row->key);
        if (folder && (folder != folder_of(open) || memcmp(open, row->key, (size_t)folder)))
            fprintf(out, "%*s%.*s:\n", indent, "", folder, row->key);
        open = row->key;
        ohm_option_format(row, target, text, sizeof text);
        fprintf(out, "%*s%s: %s\n", indent + (folder ? 2 : 0), "", row->key + folder + (folder > 0),
                text);
    }
}

void ohm_option_print_help(const ohm_option_table *table, FILE *out)
{
    char bound[512];
    for (size_t i = 0; i < table->count; i++) {
        const ohm_option *row = &table->row[i];
        ohm_option_bound(row, bound, sizeof bound);
        fprintf(out, "%s: %s; default %s\n    %s\n", row->key, bound,
                row->fallback[0] ? row->fallback : "''", row->help);
    }
}
