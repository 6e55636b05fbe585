#include "host/config_presets.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/config.h"

/* The folders in the order of search; a leading slash stands for the folder of the program. */
static const char *const folders[] = {
    "/../models/hardware",        /* build/ohmgrad */
    "/../../models/hardware",     /* build/san/ohmgrad */
    "/../share/ohmgrad/hardware", /* installed */
    "models/hardware",
};
enum { FOLDERS = sizeof folders / sizeof folders[0], NAMES_MAX = 1024 };

static int folder_path(char *path, size_t bytes, int index)
{
    char program[PATH_MAX] = "";
    if (folders[index][0] == '/') {
        ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
        program[n > 0 ? n : 0] = 0;
        char *slash = strrchr(program, '/');
        if (!slash)
            return 0;
        *slash = 0;
    }
    int used = snprintf(path, bytes, "%s%s", program, folders[index]);
    return used > 0 && (size_t)used < bytes;
}

int ohm_preset_is_path(const char *name)
{
    const char *dot = strrchr(name, '.');
    return strchr(name, '/') || (dot && (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml")));
}

static ohm_status refuse_preset(const char *name)
{
    char **names, list[512] = "";
    OHM_TRY(ohm_hardware_presets(&names));
    for (char **at = names; *at; at++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", at == names ? "" : ", ",
                 *at);
    ohm_strings_free(names);
    return OHM_FAIL(OHM_ERR_CONFIG, "no chip '%.80s'; give a file ending in .yaml, or one of: %s",
                    name, list[0] ? list : "(no preset folder found: run from the source tree)");
}

ohm_status ohm_preset_find(char *path, size_t bytes, const char *name)
{
    if (ohm_preset_is_path(name)) {
        int used = snprintf(path, bytes, "%s", name);
        return used >= 0 && (size_t)used < bytes
                   ? OHM_OK
                   : OHM_FAIL(OHM_ERR_CONFIG, "the path '%.60s...' is too long", name);
    }
    char folder[PATH_MAX];
    for (int i = 0; i < FOLDERS && name[0]; i++) {
        if (!folder_path(folder, sizeof folder, i))
            continue;
        int used = snprintf(path, bytes, "%s/%s.yaml", folder, name);
        if (used > 0 && (size_t)used < bytes && access(path, F_OK) == 0)
            return OHM_OK;
    }
    return refuse_preset(name);
}

/* ---- the list ------------------------------------------------------------------------------ */

typedef struct {
    char **name;
    int count;
} name_list;

static int known(const name_list *list, const char *name)
{
    for (int i = 0; i < list->count; i++)
        if (!strcmp(list->name[i], name))
            return 1;
    return 0;
}

static int add_name(name_list *list, const char *file)
{
    size_t n = strlen(file);
    if (n < 6 || strcmp(file + n - 5, ".yaml") != 0 || file[0] == '.')
        return 1;
    char *name = strndup(file, n - 5);
    if (name && list->count < NAMES_MAX && !known(list, name))
        list->name[list->count++] = name;
    else
        free(name);
    return name != NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

ohm_status ohm_hardware_presets(char ***names)
{
    char folder[PATH_MAX];
    name_list list = {calloc(NAMES_MAX + 1, sizeof(char *)), 0};
    int whole = list.name != NULL;
    for (int i = 0; i < FOLDERS && whole; i++) {
        DIR *open = folder_path(folder, sizeof folder, i) ? opendir(folder) : NULL;
        for (struct dirent *entry; open && whole && (entry = readdir(open));)
            whole = add_name(&list, entry->d_name);
        if (open)
            closedir(open);
    }
    *names = list.name;
    if (!whole) {
        ohm_strings_free(list.name);
        *names = NULL;
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for the list of presets");
    }
    qsort(list.name, (size_t)list.count, sizeof list.name[0], by_name);
    return OHM_OK;
}

void ohm_strings_free(char **names)
{
    for (char **at = names; at && *at; at++)
        free(*at);
    free(names);
}
