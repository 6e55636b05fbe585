/* Option tables: one row per key gives type, place in a struct, bounds, default, unit and help.
 * The YAML reader, `--set key=value`, the printer of the effective configuration and `--help`
 * all walk the same table, so that they cannot disagree. */
#ifndef OHM_HOST_OPTION_H
#define OHM_HOST_OPTION_H

#include <stddef.h>
#include <stdio.h>

#include "host/status.h"

typedef enum {
    OHM_OPTION_INT,    /* int */
    OHM_OPTION_INT64,  /* int64_t */
    OHM_OPTION_REAL,   /* double; accepts inf and .inf where the bounds do */
    OHM_OPTION_BOOL,   /* int: true | false */
    OHM_OPTION_CHOICE, /* int: index into choices "a|b|c" */
    OHM_OPTION_MODE,   /* ohm_mode: choices "absmax|percentile:99.9:50:100|number" */
    OHM_OPTION_TEXT,   /* char[size] */
    OHM_OPTION_REALS,  /* ohm_coefficients */
} ohm_option_type;

typedef struct {
    const char *key; /* "bias" or, one level deep, "quantise.bits" */
    ohm_option_type type;
    size_t offset, size; /* of the field in the struct */
    double low, high;    /* inclusive bounds of a number (of a MODE: of its bare number) */
    const char *choices; /* CHOICE and MODE, in the order of the enum; "name:default:low:high" takes
                             an optional number after a colon, "number" stands for a bare one */
    const char *fallback; /* the default, as one would write it in YAML */
    const char *unit;     /* "" if none */
    const char *help;     /* one line */
} ohm_option;

typedef struct {
    const char *what; /* "hardware", "experiment": for messages */
    const ohm_option *row;
    size_t count;
} ohm_option_table;

/* One item of a CHOICE or MODE. */
typedef struct {
    const char *name; /* `length` bytes, not terminated */
    int length;
    int takes_number; /* "name:number"; without one the number is `fallback` */
    double fallback, low, high;
} ohm_choice;

/* The index-th choice of a row; 0 = there is none. */
int ohm_option_choice(const ohm_option *row, int index, ohm_choice *choice);
/* The row of a key, NULL if it is unknown. */
const ohm_option *ohm_option_find(const ohm_option_table *table, const char *key);

/* Writes every default into target. */
ohm_status ohm_option_defaults(const ohm_option_table *table, void *target);
/* Sets one key from its text, strictly: the whole text must parse and lie within the bounds.
 * The error names key, value, bound and, for an unknown key, the nearest valid ones. */
ohm_status ohm_option_set(const ohm_option_table *table, void *target, const char *key,
                          const char *value);
/* What a row accepts, in words: "a whole number 2..8". */
void ohm_option_bound(const ohm_option *row, char *text, size_t bytes);
/* The value of a row as YAML text that ohm_option_set takes back to the same bits. */
void ohm_option_format(const ohm_option *row, const void *target, char *text, size_t bytes);
/* The whole struct as YAML, keys nested by their dots, each line indented by `indent` spaces. */
void ohm_option_print_yaml(const ohm_option_table *table, const void *target, int indent,
                           FILE *out);
/* The table for a reader: key, type, unit, bounds, default, help. */
void ohm_option_print_help(const ohm_option_table *table, FILE *out);

#endif
