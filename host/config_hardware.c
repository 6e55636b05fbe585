#include "host/config_hardware.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/config.h"
#include "host/config_presets.h"
#include "host/device_table.h"
#include "host/file.h"

enum { BASE_DEPTH = 8 };

/* The files that led here, `base:` by `base:`, to refuse a loop. */
typedef struct chain {
    const struct chain *next;
    const char *path;
} chain;

/* ---- one key ------------------------------------------------------------------------------- */

typedef struct {
    ohm_hardware *hardware;
    const char *from; /* the file that names things, or "" for the command line */
} chip_target;

static int names_file(const char *key, const char *value)
{
    size_t n = strlen(value);
    int plugin = !strcmp(key, "simulator") && n > 3 && !strcmp(value + n - 3, ".so");
    int table = !strcmp(key, "programming.table") || !strcmp(key, "read.table");
    return plugin || (table && n);
}

/* An absolute path, so that the effective configuration can be read from any folder. */
static ohm_status resolve(char *path, size_t bytes, const char *from, const char *value)
{
    char beside[PATH_MAX], real[PATH_MAX];
    OHM_TRY(ohm_file_beside(beside, sizeof beside, from, value));
    if (!realpath(beside, real))
        return OHM_FAIL(OHM_ERR_IO, "%s: cannot open: %s", beside, strerror(errno));
    int used = snprintf(path, bytes, "%s", real);
    return used >= 0 && (size_t)used < bytes
               ? OHM_OK
               : OHM_FAIL(OHM_ERR_CONFIG, "the path '%.60s...' is too long", real);
}

static ohm_status load_rows(ohm_device_table *rows, const char *key, const char *path)
{
    memset(rows, 0, sizeof *rows);
    if (!path[0])
        return OHM_OK;
    ohm_status status = ohm_device_table_read(rows, path);
    return status == OHM_OK ? OHM_OK : ohm_error_prefix(status, "key '%s'", key);
}

static ohm_status set_key(void *context, const char *key, const char *value)
{
    chip_target *target = context;
    ohm_hardware *hardware = target->hardware;
    char path[OHM_PATH_BYTES];
    if (names_file(key, value)) {
        ohm_status status = resolve(path, sizeof path, target->from, value);
        if (status != OHM_OK)
            return ohm_error_prefix(status, "key '%s'", key);
        value = path;
    }
    OHM_TRY(ohm_option_set(&ohm_hardware_options, hardware, key, value));
    if (!strcmp(key, "programming.table"))
        return load_rows(&hardware->programming.rows, key, hardware->programming.table);
    if (!strcmp(key, "read.table"))
        return load_rows(&hardware->read.rows, key, hardware->read.table);
    return OHM_OK;
}

/* ---- files --------------------------------------------------------------------------------- */

static ohm_status load_file(ohm_hardware *hardware, const char *name_or_path, const char *from,
                            const chain *below);

static ohm_status set_defaults(ohm_hardware *hardware)
{
    memset(hardware, 0, sizeof *hardware);
    return ohm_option_defaults(&ohm_hardware_options, hardware);
}

static ohm_status walk_chip(ohm_hardware *hardware, const ohm_yaml *yaml, int mapping,
                            const chain *below)
{
    int base = ohm_yaml_find(yaml, mapping, "base");
    const char *name = base ? ohm_yaml_text(yaml, base) : "ideal";
    if (!name)
        return ohm_yaml_at(
            yaml, base,
            OHM_FAIL(OHM_ERR_CONFIG,
                     "key 'base': has no value; name a preset or a file, or remove the key"));
    if (base)
        OHM_TRY(ohm_yaml_at(yaml, base, load_file(hardware, name, ohm_yaml_path(yaml), below)));
    else
        OHM_TRY(set_defaults(hardware));
    chip_target target = {hardware, ohm_yaml_path(yaml)};
    const ohm_yaml_sink sink = {set_key, &target, "base"};
    return ohm_yaml_walk(yaml, mapping, &ohm_hardware_options, &sink);
}

/* What a file is called when it does not say: its name without folder and suffix. */
static void name_after(ohm_hardware *hardware, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *file = slash ? slash + 1 : path;
    snprintf(hardware->name, sizeof hardware->name, "%.*s", (int)strcspn(file, "."), file);
}

static ohm_status check_chain(const char *path, const chain *below)
{
    int depth = 0;
    for (const chain *at = below; at; at = at->next, depth++)
        if (!strcmp(at->path, path))
            return OHM_FAIL(OHM_ERR_CONFIG,
                            "key 'base': %s is its own base; end the chain in a preset", path);
    if (depth >= BASE_DEPTH)
        return OHM_FAIL(OHM_ERR_CONFIG, "key 'base': more than %d files deep; shorten the chain",
                        BASE_DEPTH);
    return OHM_OK;
}

static ohm_status load_file(ohm_hardware *hardware, const char *name_or_path, const char *from,
                            const chain *below)
{
    char found[PATH_MAX], real[PATH_MAX];
    if (ohm_preset_is_path(name_or_path))
        OHM_TRY(ohm_file_beside(found, sizeof found, from, name_or_path));
    else if (!strcmp(name_or_path, "ideal")) /* the defaults, wherever the program stands */
        return set_defaults(hardware);
    else
        OHM_TRY(ohm_preset_find(found, sizeof found, name_or_path));
    const chain here = {below, realpath(found, real) ? real : found};
    OHM_TRY(check_chain(here.path, below));
    ohm_yaml *yaml;
    OHM_TRY(ohm_yaml_open(&yaml, found));
    ohm_status status = walk_chip(hardware, yaml, ohm_yaml_root(yaml), &here);
    if (status == OHM_OK && !ohm_yaml_find(yaml, ohm_yaml_root(yaml), "name"))
        name_after(hardware, found);
    ohm_yaml_close(yaml);
    return status;
}

ohm_status ohm_hardware_walk(ohm_hardware *hardware, const ohm_yaml *yaml, int mapping)
{
    return walk_chip(hardware, yaml, mapping, NULL);
}

ohm_status ohm_hardware_load(ohm_hardware *hardware, const char *name_or_path, const char *from)
{
    return load_file(hardware, name_or_path, from ? from : "", NULL);
}

ohm_status ohm_hardware_read(ohm_hardware *hardware, const char *name_or_path)
{
    OHM_TRY(ohm_hardware_load(hardware, name_or_path, NULL));
    ohm_status status = ohm_hardware_check(hardware);
    return status == OHM_OK ? OHM_OK : ohm_error_prefix(status, "%s", name_or_path);
}

/* ---- the command line ---------------------------------------------------------------------- */

ohm_status ohm_hardware_set(ohm_hardware *hardware, const char *assignment)
{
    char key[128];
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment || (size_t)(equals - assignment) >= sizeof key)
        return OHM_FAIL(OHM_ERR_CONFIG, "'%.80s' is no assignment; write key=value", assignment);
    snprintf(key, sizeof key, "%.*s", (int)(equals - assignment), assignment);
    chip_target target = {hardware, ""};
    return set_key(&target, key, equals + 1);
}

void ohm_hardware_print(const ohm_hardware *hardware, FILE *out)
{
    ohm_option_print_yaml(&ohm_hardware_options, hardware, 0, out);
}
