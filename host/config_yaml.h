/* YAML documents for the option tables. A node is a positive number within its document. */
#ifndef OHM_HOST_CONFIG_YAML_H
#define OHM_HOST_CONFIG_YAML_H

#include <stddef.h>

#include "host/option.h"

typedef struct ohm_yaml ohm_yaml;

/* Reads one document of at most 1 MiB of UTF-8. Anchors, aliases, tags, further documents and
 * nesting deeper than OHM_YAML_DEPTH are refused: no key needs them. */
enum { OHM_YAML_DEPTH = 8 };
ohm_status ohm_yaml_open(ohm_yaml **yaml, const char *path);
/* The same from memory; `name` stands for the path in messages. */
ohm_status ohm_yaml_parse(ohm_yaml **yaml, const char *text, size_t bytes, const char *name);
void ohm_yaml_close(ohm_yaml *yaml); /* NULL-safe */
const char *ohm_yaml_path(const ohm_yaml *yaml);

int ohm_yaml_root(const ohm_yaml *yaml); /* always a mapping */
int ohm_yaml_is_mapping(const ohm_yaml *yaml, int node);
int ohm_yaml_find(const ohm_yaml *yaml, int mapping, const char *key); /* the value's node, or 0 */
/* The text of a scalar; NULL for null, empty, a list or a mapping. */
const char *ohm_yaml_text(const ohm_yaml *yaml, int node);
/* Puts file:line:column of the node in front of the recorded error. */
ohm_status ohm_yaml_at(const ohm_yaml *yaml, int node, ohm_status code);

/* Who takes what the walk finds. */
typedef struct {
    ohm_status (*set)(void *context, const char *key, const char *value);
    void *context;
    const char *skip; /* a top-level key that the caller reads himself, or NULL */
} ohm_yaml_sink;

/* Hands every value below `mapping` to the sink under its dotted key, in the order of the file,
 * and stops at the first that is unknown, set twice, null, or of the wrong kind. */
ohm_status ohm_yaml_walk(const ohm_yaml *yaml, int mapping, const ohm_option_table *table,
                         const ohm_yaml_sink *sink);

#endif
