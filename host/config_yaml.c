#include "host/config_yaml.h"

#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "host/file.h"

enum { YAML_BYTES = 1 << 20, KEY_BYTES = 128, LIST_BYTES = 1024 };

struct ohm_yaml {
    yaml_document_t document;
    char *path;
};

/* ---- the document -------------------------------------------------------------------------- */

#define FAIL_AT(name, mark, ...)                                                                   \
    ohm_error_prefix(OHM_FAIL(OHM_ERR_CONFIG, __VA_ARGS__), "%s:%zu:%zu", name, (mark).line + 1,   \
                     (mark).column + 1)

static ohm_status refuse_syntax(const yaml_parser_t *parser, const char *name)
{
    if (parser->error == YAML_MEMORY_ERROR)
        return OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory to read it", name);
    if (parser->error == YAML_READER_ERROR)
        return OHM_FAIL(OHM_ERR_CONFIG,
                        "%s: byte %zu is no UTF-8 text (%s); save the file as UTF-8", name,
                        parser->problem_offset, parser->problem);
    return FAIL_AT(name, parser->problem_mark, "no YAML: %s",
                   parser->problem ? parser->problem : "syntax error");
}

static void start_parser(yaml_parser_t *parser, const char *text, size_t bytes)
{
    int mark = bytes >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3) ? 3 : 0;
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(parser, (const unsigned char *)text + mark, bytes - (size_t)mark);
}

typedef struct {
    int depth, documents;
} screen;

static ohm_status screen_event(screen *seen, const yaml_event_t *event, const char *name)
{
    const unsigned char *anchor = NULL, *tag = NULL;
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (seen->documents++)
            return FAIL_AT(name, event->start_mark,
                           "a second document; keep one document to a file");
        break;
    case YAML_ALIAS_EVENT:
        return FAIL_AT(name, event->start_mark, "an alias (*); write the value out");
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        seen->depth++;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        seen->depth++;
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        seen->depth--;
        break;
    default:
        break;
    }
    if (anchor)
        return FAIL_AT(name, event->start_mark,
                       "an anchor (&); write the value where it is needed");
    if (tag)
        return FAIL_AT(name, event->start_mark,
                       "a tag (!); types follow from the key, leave it out");
    if (seen->depth > OHM_YAML_DEPTH)
        return FAIL_AT(name, event->start_mark, "nested deeper than %d levels; no key needs that",
                       OHM_YAML_DEPTH);
    return OHM_OK;
}

/* A first pass over the events: the document API resolves aliases and drops anchors unseen, and
 * deep nesting costs libyaml quadratic time. */
static ohm_status screen_text(const char *text, size_t bytes, const char *name)
{
    yaml_parser_t parser;
    yaml_event_t event;
    if (!yaml_parser_initialize(&parser))
        return OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory to read it", name);
    start_parser(&parser, text, bytes);
    screen seen = {0};
    ohm_status status = OHM_OK;
    for (int end = 0; status == OHM_OK && !end;) {
        if (!yaml_parser_parse(&parser, &event)) {
            status = refuse_syntax(&parser, name);
            break;
        }
        end = event.type == YAML_STREAM_END_EVENT;
        status = screen_event(&seen, &event, name);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return status;
}

static ohm_status load_document(yaml_document_t *document, const char *text, size_t bytes,
                                const char *name)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory to read it", name);
    start_parser(&parser, text, bytes);
    ohm_status status = yaml_parser_load(&parser, document) ? OHM_OK : refuse_syntax(&parser, name);
    yaml_parser_delete(&parser);
    if (status != OHM_OK)
        return status;
    const yaml_node_t *root = yaml_document_get_root_node(document);
    if (root && root->type == YAML_MAPPING_NODE)
        return OHM_OK;
    yaml_document_delete(document);
    return OHM_FAIL(OHM_ERR_CONFIG, "%s: holds no keys; write lines of 'key: value'", name);
}

ohm_status ohm_yaml_parse(ohm_yaml **yaml, const char *text, size_t bytes, const char *name)
{
    *yaml = NULL;
    OHM_TRY(screen_text(text, bytes, name));
    ohm_yaml *made = calloc(1, sizeof *made);
    char *path = strdup(name);
    ohm_status status = made && path ? load_document(&made->document, text, bytes, name)
                                     : OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory to read it", name);
    if (status != OHM_OK) {
        free(path);
        free(made);
        return status;
    }
    made->path = path;
    *yaml = made;
    return OHM_OK;
}

ohm_status ohm_yaml_open(ohm_yaml **yaml, const char *path)
{
    char *text;
    size_t bytes;
    *yaml = NULL;
    OHM_TRY(ohm_file_read(&text, &bytes, path, YAML_BYTES));
    ohm_status status = ohm_yaml_parse(yaml, text, bytes, path);
    free(text);
    return status;
}

void ohm_yaml_close(ohm_yaml *yaml)
{
    if (!yaml)
        return;
    yaml_document_delete(&yaml->document);
    free(yaml->path);
    free(yaml);
}

/* ---- nodes --------------------------------------------------------------------------------- */

/* libyaml asks for a document it may write to, though none of these calls does. */
static const yaml_node_t *node_at(const ohm_yaml *yaml, int node)
{
    return yaml_document_get_node((yaml_document_t *)&yaml->document, node);
}

const char *ohm_yaml_path(const ohm_yaml *yaml)
{
    return yaml->path;
}

int ohm_yaml_root(const ohm_yaml *yaml)
{
    (void)yaml;
    return 1; /* libyaml numbers nodes from the root on */
}

int ohm_yaml_is_mapping(const ohm_yaml *yaml, int node)
{
    return node_at(yaml, node)->type == YAML_MAPPING_NODE;
}

const char *ohm_yaml_text(const ohm_yaml *yaml, int node)
{
    const yaml_node_t *n = node_at(yaml, node);
    if (n->type != YAML_SCALAR_NODE ||
        strlen((const char *)n->data.scalar.value) != n->data.scalar.length)
        return NULL;
    const char *text = (const char *)n->data.scalar.value;
    int null = !*text || !strcmp(text, "~") || !strcasecmp(text, "null");
    return null && n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? NULL : text;
}

int ohm_yaml_find(const ohm_yaml *yaml, int mapping, const char *key)
{
    const yaml_node_t *m = node_at(yaml, mapping);
    for (const yaml_node_pair_t *pair = m->data.mapping.pairs.start;
         pair < m->data.mapping.pairs.top; pair++) {
        const char *text = ohm_yaml_text(yaml, pair->key);
        if (text && !strcmp(text, key))
            return pair->value;
    }
    return 0;
}

ohm_status ohm_yaml_at(const ohm_yaml *yaml, int node, ohm_status code)
{
    yaml_mark_t mark = node_at(yaml, node)->start_mark;
    return code == OHM_OK
               ? OHM_OK
               : ohm_error_prefix(code, "%s:%zu:%zu", yaml->path, mark.line + 1, mark.column + 1);
}

/* ---- the walk ------------------------------------------------------------------------------ */

#define REFUSE(yaml, node, ...)                                                                    \
    return ohm_yaml_at(yaml, node, OHM_FAIL(OHM_ERR_CONFIG, __VA_ARGS__))

typedef struct {
    const ohm_yaml *yaml;
    const ohm_option_table *table;
    const ohm_yaml_sink *sink;
} walk;

/* A row of the folder `key` ("adc.bits" of "adc"), or NULL. */
static const ohm_option *row_below(const ohm_option_table *table, const char *key)
{
    size_t n = strlen(key);
    for (size_t i = 0; i < table->count; i++)
        if (!strncmp(table->row[i].key, key, n) && table->row[i].key[n] == '.')
            return &table->row[i];
    return NULL;
}

/* Joins a list's numbers to "[a, b]", the form that the option table takes. */
static ohm_status join_list(const walk *w, char *text, size_t bytes, const char *key, int node)
{
    const yaml_node_t *list = node_at(w->yaml, node);
    size_t used = (size_t)snprintf(text, bytes, "[");
    for (const yaml_node_item_t *item = list->data.sequence.items.start;
         item < list->data.sequence.items.top; item++) {
        const char *value = ohm_yaml_text(w->yaml, *item);
        if (!value || value[strcspn(value, ",[] ")])
            REFUSE(w->yaml, *item,
                   "key '%s': the list holds something that is no number; write [1, 2.5]", key);
        used += (size_t)snprintf(text + used, bytes - used, "%s%s", used > 1 ? ", " : "", value);
        if (used + 2 > bytes)
            REFUSE(w->yaml, *item, "key '%s': the list is too long; give at most 8 numbers", key);
    }
    snprintf(text + used, bytes - used, "]");
    return OHM_OK;
}

static ohm_status walk_value(const walk *w, const char *key, int node)
{
    char list[LIST_BYTES];
    const ohm_option *row = ohm_option_find(w->table, key);
    const yaml_node_t *n = node_at(w->yaml, node);
    const char *text = ohm_yaml_text(w->yaml, node);
    if (!row && row_below(w->table, key))
        REFUSE(w->yaml, node, "key '%s': holds keys of its own; write '%s: {%s: %s}' or remove it",
               key, key, row_below(w->table, key)->key + strlen(key) + 1,
               row_below(w->table, key)->fallback);
    if (row && n->type == YAML_MAPPING_NODE)
        REFUSE(w->yaml, node, "key '%s': takes one value, not a mapping", key);
    if (row && n->type == YAML_SEQUENCE_NODE) {
        if (row->type != OHM_OPTION_REALS)
            REFUSE(w->yaml, node, "key '%s': takes one value, not a list", key);
        OHM_TRY(join_list(w, list, sizeof list, key, node));
        text = list;
    }
    if (row && !text)
        REFUSE(w->yaml, node, "key '%s': has no value; give one, or remove the key", key);
    return ohm_yaml_at(w->yaml, node, w->sink->set(w->sink->context, key, text ? text : ""));
}

/* Keys before this one are known and met once, so there are few of them. */
static ohm_status check_unique(const walk *w, const yaml_node_t *mapping,
                               const yaml_node_pair_t *pair)
{
    const char *key = ohm_yaml_text(w->yaml, pair->key);
    if (!key)
        REFUSE(w->yaml, pair->key, "a key that is no word; write lines of 'key: value'");
    for (const yaml_node_pair_t *other = mapping->data.mapping.pairs.start; other < pair; other++)
        if (!strcmp(key, ohm_yaml_text(w->yaml, other->key)))
            REFUSE(w->yaml, pair->key,
                   "key '%.80s' is set a second time, first in line %zu; keep one of them", key,
                   node_at(w->yaml, other->key)->start_mark.line + 1);
    return OHM_OK;
}

static ohm_status walk_mapping(const walk *w, const char *prefix, int node)
{
    const yaml_node_t *mapping = node_at(w->yaml, node);
    for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
         pair < mapping->data.mapping.pairs.top; pair++) {
        OHM_TRY(check_unique(w, mapping, pair));
        char key[KEY_BYTES];
        const char *name = ohm_yaml_text(w->yaml, pair->key);
        if (!*prefix && w->sink->skip && !strcmp(name, w->sink->skip))
            continue;
        snprintf(key, sizeof key, "%s%s%.80s", prefix, *prefix ? "." : "", name);
        int dotted = strchr(name, '.') != NULL; /* "adc.bits: 8" could set a key twice */
        if (dotted && ohm_option_find(w->table, key))
            REFUSE(w->yaml, pair->key, "key '%s': nest it in the file, '%.*s: {%s: ...}'", key,
                   (int)strcspn(key, "."), key, strchr(key, '.') + 1);
        if (ohm_yaml_is_mapping(w->yaml, pair->value) && !*prefix && row_below(w->table, key))
            OHM_TRY(walk_mapping(w, key, pair->value));
        else
            OHM_TRY(walk_value(w, key, pair->value));
    }
    return OHM_OK;
}

ohm_status ohm_yaml_walk(const ohm_yaml *yaml, int mapping, const ohm_option_table *table,
                         const ohm_yaml_sink *sink)
{
    walk w = {yaml, table, sink};
    return walk_mapping(&w, "", mapping);
}
