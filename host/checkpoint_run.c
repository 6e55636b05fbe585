/* The checkpoints of one run: names, order, pruning, the newest good one. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/checkpoint.h"
#include "host/safetensors.h"

#define NAME_FORMAT "step-%08" PRId64 ".safetensors"

typedef struct {
    int64_t *step; /* newest first */
    int count;
} step_list;

static ohm_status path_of(char path[OHM_CHECKPOINT_PATH_BYTES], const char *run_dir, int64_t step)
{
    int length = snprintf(path, OHM_CHECKPOINT_PATH_BYTES, "%s/checkpoints/" NAME_FORMAT, run_dir, step);
    return length < OHM_CHECKPOINT_PATH_BYTES ? OHM_OK : OHM_FAIL(OHM_ERR_ARGUMENT, "%s: the path is too long", run_dir);
}

/* The step in a checkpoint's name; -1 for any other name. */
static int64_t step_in(const char *name)
{
    char again[64];
    int64_t step;
    if (sscanf(name, "step-%" SCNd64, &step) != 1 || step < 0)
        return -1;
    snprintf(again, sizeof again, NAME_FORMAT, step);
    return strcmp(name, again) == 0 ? step : -1;
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

static ohm_status collect(step_list *list, DIR *folder)
{
    const struct dirent *entry;
    int room = 0;
    while ((entry = readdir(folder))) {
        int64_t step = step_in(entry->d_name);
        if (step < 0)
            continue;
        if (list->count == room) {
            room = 2 * room + 16;
            int64_t *grown = realloc(list->step, (size_t)room * sizeof *grown);
            if (!grown)
                return OHM_FAIL(OHM_ERR_MEMORY, "no memory for a list of %d checkpoints", room);
            list->step = grown;
        }
        list->step[list->count++] = step;
    }
    if (list->count)
        qsort(list->step, (size_t)list->count, sizeof *list->step, newest_first);
    return OHM_OK;
}

/* Free list->step, also after a failure. A folder that is not there is empty. */
static ohm_status list_steps(step_list *list, const char *run_dir)
{
    char path[OHM_CHECKPOINT_PATH_BYTES];
    *list = (step_list){0};
    snprintf(path, sizeof path, "%s/checkpoints", run_dir);
    DIR *folder = opendir(path);
    if (!folder && errno == ENOENT)
        return OHM_OK;
    if (!folder)
        return OHM_FAIL(OHM_ERR_IO, "%s: cannot list the checkpoints: %s", path, strerror(errno));
    ohm_status status = collect(list, folder);
    closedir(folder);
    return status;
}

/* Names that ohm_file_write_atomic left behind when its process was killed. */
static void remove_leftovers(const char *run_dir)
{
    char path[OHM_CHECKPOINT_PATH_BYTES + 256];
    const struct dirent *entry;
    snprintf(path, sizeof path, "%s/checkpoints", run_dir);
    DIR *folder = opendir(path);
    while (folder && (entry = readdir(folder)))
        if (strncmp(entry->d_name, "step-", 5) == 0 && strstr(entry->d_name, ".safetensors.tmp-")) {
            snprintf(path, sizeof path, "%s/checkpoints/%s", run_dir, entry->d_name);
            unlink(path);
        }
    if (folder)
        closedir(folder);
}

ohm_status ohm_checkpoint_save_in(const char *run_dir, ohm_network *network, const ohm_config *config, const ohm_train_state *state)
{
    char path[OHM_CHECKPOINT_PATH_BYTES];
    step_list list;
    OHM_TRY(path_of(path, run_dir, state->step));
    OHM_TRY(ohm_checkpoint_save(path, network, config, state));
    remove_leftovers(run_dir);
    ohm_status status = list_steps(&list, run_dir);
    /* Later ones were refused when this run was resumed: they count for nothing and are written anew. */
    for (int i = 0, kept = 0; status == OHM_OK && i < list.count; i++)
        if (list.step[i] <= state->step && ++kept > config->train.keep && (status = path_of(path, run_dir, list.step[i])) == OHM_OK)
            unlink(path);
    free(list.step);
    return status;
}

/* Calls try(path, context) from the newest checkpoint on until one succeeds. *tried counts them. A device
 * that fails says nothing about a checkpoint. */
static ohm_status first_good(const char *run_dir, ohm_status (*try)(const char *path, void *context), void *context, int *tried, FILE *log)
{
    step_list list;
    ohm_status status = list_steps(&list, run_dir);
    int good = 0;
    for (*tried = 0; status == OHM_OK && !good && *tried < list.count; ++*tried) {
        char path[OHM_CHECKPOINT_PATH_BYTES];
        status = path_of(path, run_dir, list.step[*tried]);
        ohm_status tries = status == OHM_OK ? try(path, context) : status;
        good = tries == OHM_OK;
        if (tries == OHM_ERR_DEVICE)
            status = ohm_error_prefix(tries, "%s, before it was loaded", path);
        else if (status == OHM_OK && !good && log)
            fprintf(log, "ohmgrad: warning: checkpoint skipped: %s\n", ohm_error_text());
    }
    free(list.step);
    if (status == OHM_OK && *tried && !good)
        status = OHM_FAIL(OHM_ERR_DATA, "%s: none of its %d checkpoints is usable; start anew with --out, or put back a copy", run_dir, *tried);
    return status;
}

typedef struct {
    ohm_network *network;
    ohm_train_state *state;
} load_target;

static ohm_status try_load(const char *path, void *context)
{
    load_target *target = context;
    return ohm_checkpoint_load(path, target->network, target->state);
}

ohm_status ohm_checkpoint_resume(const char *run_dir, ohm_network *network, ohm_train_state *state, int *found, FILE *log)
{
    load_target target = {network, state};
    return first_good(run_dir, try_load, &target, found, log);
}

static ohm_status try_read(const char *path, void *context)
{
    ohm_safetensors *file;
    OHM_TRY(ohm_safetensors_read(&file, path));
    ohm_status status = ohm_safetensors_sealed(file) ? OHM_OK : OHM_FAIL(OHM_ERR_DATA, "%s: carries no checksum", path);
    ohm_safetensors_destroy(file);
    if (status == OHM_OK)
        snprintf(context, OHM_CHECKPOINT_PATH_BYTES, "%s", path);
    return status;
}

ohm_status ohm_checkpoint_newest(char path[OHM_CHECKPOINT_PATH_BYTES], const char *run_dir, FILE *log)
{
    int tried;
    OHM_TRY(first_good(run_dir, try_read, path, &tried, log));
    return tried ? OHM_OK : OHM_FAIL(OHM_ERR_IO, "%s: has no checkpoints; name a run that train wrote, or a .safetensors file", run_dir);
}
