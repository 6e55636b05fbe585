/* Option tables: parsing. Printing is in option_print.c. */
#include "host/option.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host/hardware.h"

/* ---- numbers, strictly --------------------------------------------------------------------- */

static const char *skip_digits(const char *s)
{
    while (isdigit((unsigned char)*s))
        s++;
    return s;
}

/* The whole text is -?(0|[1-9][0-9]*); strtoll alone would take "08", "+1" and " 1". */
static int is_integer(const char *s)
{
    s += *s == '-';
    if (!isdigit((unsigned char)*s) || (s[0] == '0' && s[1]))
        return 0;
    return *skip_digits(s) == 0;
}

/* -?(digits[.digits] | .digits)[e[+-]digits], without leading zeros. */
static int is_decimal(const char *s)
{
    s += *s == '-';
    if (s[0] == '0' && isdigit((unsigned char)s[1]))
        return 0;
    const char *whole = skip_digits(s);
    int digits = whole != s;
    s = whole;
    if (*s == '.') {
        const char *part = skip_digits(s + 1);
        digits |= part != s + 1;
        s = part;
    }
    if (!digits)
        return 0;
    if (*s == 'e' || *s == 'E') {
        s += s[1] == '+' || s[1] == '-' ? 2 : 1;
        if (!isdigit((unsigned char)*s))
            return 0;
        s = skip_digits(s);
    }
    return *s == 0;
}

typedef enum { PARSED, NOT_A_NUMBER, TOO_LARGE } parsed;

static parsed parse_real(double *value, const char *text)
{
    const char *tail = text + (text[0] == '-');
    if (!strcmp(tail, "inf") || !strcmp(tail, ".inf")) {
        *value = tail == text ? INFINITY : -INFINITY;
        return PARSED;
    }
    if (!is_decimal(text))
        return NOT_A_NUMBER;
    char *end;
    errno = 0;
    *value = strtod(text, &end);
    if (*end) /* a locale with a decimal comma */
        return NOT_A_NUMBER;
    return errno == ERANGE ? TOO_LARGE : PARSED;
}

/* ---- errors -------------------------------------------------------------------------------- */

/* Foreign text for a message: cut, and without the bytes that would break or colour the line. */
static void one_line(char *out, size_t bytes, const char *text)
{
    size_t n = 0;
    for (; text[n] && n + 1 < bytes; n++)
        out[n] = (unsigned char)text[n] < 0x20 || text[n] == 0x7F ? '?' : text[n];
    out[n] = 0;
}

static ohm_status refuse_value(const ohm_option *row, const char *value, const char *why)
{
    char bound[512], shown[96];
    ohm_option_bound(row, bound, sizeof bound);
    one_line(shown, sizeof shown, value);
    return OHM_FAIL(OHM_ERR_CONFIG, "key '%s': '%s' %s; give %s", row->key, shown, why, bound);
}

static int minimum(int a, int b)
{
    return a < b ? a : b;
}

/* Levenshtein distance; texts are cut at 63 characters. */
static int distance(const char *a, const char *b)
{
    int row[64], n = minimum((int)strlen(b), 63), m = minimum((int)strlen(a), 63);
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; i <= m; i++) {
        int corner = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int swap = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            row[j] = minimum(swap, minimum(row[j], row[j - 1]) + 1);
        }
    }
    return row[n];
}

/* How far a wrong key is from a row: as a whole, or from its last part ("bits" for "adc.bits"). */
static int key_distance(const char *key, const char *candidate)
{
    const char *last = strrchr(candidate, '.');
    int whole = 2 * distance(key, candidate);
    return last ? minimum(whole, 2 * distance(key, last + 1) + 1) : whole;
}

static ohm_status refuse_key(const ohm_option_table *table, const char *key)
{
    int best = INT_MAX, named = 0;
    for (size_t i = 0; i < table->count; i++)
        best = minimum(best, key_distance(key, table->row[i].key));
    char near[256] = "";
    for (size_t i = 0; i < table->count && named < 3; i++)
        if (key_distance(key, table->row[i].key) == best)
            snprintf(near + strlen(near), sizeof near - strlen(near), "%s'%s'", named++ ? ", " : "",
                     table->row[i].key);
    char shown[96];
    one_line(shown, sizeof shown, key);
    return OHM_FAIL(OHM_ERR_CONFIG, "unknown %s key '%s'; nearest: %s", table->what, shown, near);
}

/* ---- values -------------------------------------------------------------------------------- */

static ohm_status check_bounds(const ohm_option *row, const char *text, double value, double low,
                               double high)
{
    if (value < low)
        return refuse_value(row, text, "is too small");
    if (value > high)
        return refuse_value(row, text, "is too large");
    return OHM_OK;
}

static ohm_status set_integer(const ohm_option *row, void *field, const char *text)
{
    if (!is_integer(text))
        return refuse_value(row, text, "is not a whole number");
    errno = 0;
    int64_t value = strtoll(text, NULL, 10);
    if (errno == ERANGE)
        return refuse_value(row, text, "is too large");
    OHM_TRY(check_bounds(row, text, (double)value, row->low, row->high));
    if (row->type == OHM_OPTION_INT)
        *(int *)field = (int)value;
    else
        *(int64_t *)field = value;
    return OHM_OK;
}

static ohm_status read_real(const ohm_option *row, double *field, const char *text, double low,
                            double high)
{
    double value;
    parsed result = parse_real(&value, text);
    if (result == NOT_A_NUMBER)
        return refuse_value(row, text, "is not a number");
    if (result == TOO_LARGE)
        return refuse_value(row, text, "does not fit a double");
    OHM_TRY(check_bounds(row, text, value, low, high));
    *field = value;
    return OHM_OK;
}

static ohm_status set_bool(const ohm_option *row, int *field, const char *text)
{
    if (!strcmp(text, "true"))
        *field = 1;
    else if (!strcmp(text, "false"))
        *field = 0;
    else
        return refuse_value(row, text, "is neither true nor false");
    return OHM_OK;
}

/* The next item of "a|b:1:0:2|c"; returns where the one after it starts, NULL at the end. */
static const char *next_choice(const char *at, ohm_choice *choice)
{
    size_t n = strcspn(at, "|"), name = strcspn(at, ":|");
    *choice = (ohm_choice){.name = at, .length = (int)name, .takes_number = at[name] == ':'};
    if (choice->takes_number)
        sscanf(at + name, ":%lf:%lf:%lf", &choice->fallback, &choice->low, &choice->high);
    return at[n] ? at + n + 1 : NULL;
}

int ohm_option_choice(const ohm_option *row, int index, ohm_choice *choice)
{
    const char *at = row->choices;
    for (int i = 0; at; i++) {
        at = next_choice(at, choice);
        if (i == index)
            return 1;
    }
    return 0;
}

static ohm_status set_choice(const ohm_option *row, int *field, const char *text)
{
    ohm_choice choice;
    for (int i = 0; ohm_option_choice(row, i, &choice); i++)
        if ((int)strlen(text) == choice.length &&
            !memcmp(text, choice.name, (size_t)choice.length)) {
            *field = i;
            return OHM_OK;
        }
    return refuse_value(row, text, "is not one of the choices");
}

static int is_number_choice(const ohm_choice *choice)
{
    return choice->length == 6 && !memcmp(choice->name, "number", 6);
}

static ohm_status set_mode(const ohm_option *row, ohm_mode *field, const char *text)
{
    ohm_choice choice;
    for (int i = 0; ohm_option_choice(row, i, &choice); i++) {
        double value = choice.fallback;
        const char *tail = text + choice.length;
        if (is_number_choice(&choice)) {
            if (parse_real(&value, text) == NOT_A_NUMBER)
                continue;
            OHM_TRY(read_real(row, &value, text, row->low, row->high));
        } else if (strncmp(text, choice.name, (size_t)choice.length) || (*tail && *tail != ':')) {
            continue;
        } else if (*tail) {
            if (!choice.takes_number)
                return refuse_value(row, text, "carries a number that this choice has no use for");
            OHM_TRY(read_real(row, &value, tail + 1, choice.low, choice.high));
        }
        field->kind = i;
        field->value = value;
        return OHM_OK;
    }
    return refuse_value(row, text, "is not one of the choices");
}

/* Bytes of the UTF-8 character at s that a YAML stream may hold, 0 if it is none. */
static int character_bytes(const unsigned char *s)
{
    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7F;
    int n = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4)
        return 0;
    uint32_t code = s[0] & (0x7Fu >> n);
    for (int i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (s[i] & 0x3F);
    }
    int shortest = n == 2 ? 0xA0 : n == 3 ? 0x800 : 0x10000; /* below A0: control characters */
    int printable =
        code < 0xD800 || (code > 0xDFFF && code != 0xFEFF && code != 0xFFFE && code != 0xFFFF);
    return code >= (uint32_t)shortest && code <= 0x10FFFF && printable ? n : 0;
}

static ohm_status set_text(const ohm_option *row, char *field, const char *text)
{
    size_t n = strlen(text);
    while (n && text[n - 1] == '\n') /* a folded YAML scalar ends in one */
        n--;
    if (n >= row->size)
        return refuse_value(row, text, "is too long");
    for (size_t i = 0; i < n;) {
        int bytes = character_bytes((const unsigned char *)text + i);
        if (!bytes)
            return OHM_FAIL(OHM_ERR_CONFIG,
                            "key '%s': byte %zu is no printable UTF-8; give one line of text",
                            row->key, i);
        i += (size_t)bytes;
    }
    memset(field, 0, row->size);
    memcpy(field, text, n);
    return OHM_OK;
}

/* "[a, b, c]". */
static ohm_status set_reals(const ohm_option *row, ohm_coefficients *field, const char *text)
{
    ohm_coefficients list = {0};
    size_t n = strlen(text);
    if (n < 2 || text[0] != '[' || text[n - 1] != ']')
        return refuse_value(row, text, "is not a list");
    const char *at = text + 1, *end = text + n - 1;
    at += strspn(at, " ");
    for (int more = at != end; more;) {
        char number[64];
        size_t word = strcspn(at, " ,]");
        snprintf(number, sizeof number, "%.*s", (int)(word < sizeof number ? word : 0), at);
        if (list.count == OHM_COEFFICIENTS)
            return refuse_value(row, text, "has too many numbers");
        OHM_TRY(read_real(row, &list.at[list.count++], number, row->low, row->high));
        at += word;
        at += strspn(at, " ");
        more = *at == ',';
        if (!more && at != end)
            return refuse_value(row, text, "is not a list of numbers");
        at += more;
        at += strspn(at, " ");
    }
    field->count = list.count;
    memcpy(field->at, list.at, sizeof list.at);
    return OHM_OK;
}

static ohm_status set_row(const ohm_option *row, void *target, const char *text)
{
    void *field = (char *)target + row->offset;
    switch (row->type) {
    case OHM_OPTION_INT:
    case OHM_OPTION_INT64:
        return set_integer(row, field, text);
    case OHM_OPTION_REAL:
        return read_real(row, field, text, row->low, row->high);
    case OHM_OPTION_BOOL:
        return set_bool(row, field, text);
    case OHM_OPTION_CHOICE:
        return set_choice(row, field, text);
    case OHM_OPTION_MODE:
        return set_mode(row, field, text);
    case OHM_OPTION_TEXT:
        return set_text(row, field, text);
    case OHM_OPTION_REALS:
        return set_reals(row, field, text);
    }
    return OHM_FAIL(OHM_ERR_ARGUMENT, "key '%s' has no type", row->key);
}

const ohm_option *ohm_option_find(const ohm_option_table *table, const char *key)
{
    for (size_t i = 0; i < table->count; i++)
        if (!strcmp(table->row[i].key, key))
            return &table->row[i];
    return NULL;
}

ohm_status ohm_option_set(const ohm_option_table *table, void *target, const char *key,
                          const char *value)
{
    const ohm_option *row = ohm_option_find(table, key);
    return row ? set_row(row, target, value) : refuse_key(table, key);
}

ohm_status ohm_option_defaults(const ohm_option_table *table, void *target)
{
    for (size_t i = 0; i < table->count; i++)
        OHM_TRY(set_row(&table->row[i], target, table->row[i].fallback));
    return OHM_OK;
}
