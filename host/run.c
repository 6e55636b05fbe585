#include "host/run.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "build_info.h"
#include "host/backend.h"
#include "host/file.h"
#include "kernels/gemm.h"

struct ohm_run {
    char dir[OHM_PATH_BYTES];
    int lock; /* file descriptor */
};

ohm_status ohm_run_path(char path[OHM_PATH_BYTES], const char *dir, const char *name)
{
    int length = snprintf(path, OHM_PATH_BYTES, "%s/%s", dir, name);
    return length < OHM_PATH_BYTES ? OHM_OK : OHM_FAIL(OHM_ERR_ARGUMENT, "%s: the path is too long; choose a shorter --out", dir);
}

/* What a run leaves that was killed before its first step: no reason to refuse a folder. */
static int is_trace(const char *name)
{
    return !strcmp(name, ".") || !strcmp(name, "..") || !strcmp(name, "lock") || !strcmp(name, "checkpoints") || strstr(name, ".tmp-");
}

static int holds_something(const char *dir)
{
    const struct dirent *entry;
    int found = 0;
    DIR *folder = opendir(dir);
    while (folder && !found && (entry = readdir(folder)))
        found = !is_trace(entry->d_name);
    if (folder)
        closedir(folder);
    return found;
}

static ohm_status refuse_filled(const char *dir, const char *checkpoints)
{
    if (holds_something(dir) || holds_something(checkpoints))
        return OHM_FAIL(OHM_ERR_IO, "%s: is not empty; choose another --out, or go on with --resume %s", dir, dir);
    return OHM_OK;
}

static ohm_status lock_folder(ohm_run *run)
{
    char path[OHM_PATH_BYTES];
    OHM_TRY(ohm_run_path(path, run->dir, "lock"));
    run->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (run->lock < 0)
        return OHM_FAIL(OHM_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    if (flock(run->lock, LOCK_EX | LOCK_NB) != 0)
        return OHM_FAIL(OHM_ERR_IO, "%s: another process is training in this folder; wait for it or choose another --out", run->dir);
    return OHM_OK;
}

static ohm_status open_folder(ohm_run *run, int resume)
{
    char path[OHM_PATH_BYTES];
    struct stat info;
    if (resume && (stat(run->dir, &info) != 0 || !S_ISDIR(info.st_mode)))
        return OHM_FAIL(OHM_ERR_IO, "%s: is no folder of a run; start one with --out", run->dir);
    OHM_TRY(ohm_run_path(path, run->dir, "checkpoints"));
    if (!resume) {
        OHM_TRY(ohm_file_make_folder(run->dir));
        OHM_TRY(refuse_filled(run->dir, path)); /* before a lock is left in somebody's folder, ... */
    }
    OHM_TRY(lock_folder(run));
    if (!resume)
        OHM_TRY(refuse_filled(run->dir, path)); /* ... and again where another process came first */
    return ohm_file_make_folder(path);
}

ohm_status ohm_run_open(ohm_run **out, const char *dir, int resume)
{
    *out = NULL;
    ohm_run *run = calloc(1, sizeof *run);
    if (!run)
        return OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory", dir);
    run->lock = -1;
    int length = snprintf(run->dir, sizeof run->dir, "%s", dir);
    ohm_status status = length > 0 && length < OHM_PATH_BYTES - 64 ? open_folder(run, resume)
                                                                  : OHM_FAIL(OHM_ERR_ARGUMENT, "'%s': no path for a run", dir);
    if (status == OHM_OK)
        *out = run;
    else
        ohm_run_close(run);
    return status;
}

void ohm_run_close(ohm_run *run)
{
    if (!run)
        return;
    if (run->lock >= 0)
        close(run->lock);
    free(run);
}

/* Writes text (taken over; NULL means out of memory) to DIR/name unless that is there. */
static ohm_status write_once(const ohm_run *run, const char *name, char *text)
{
    char path[OHM_PATH_BYTES];
    ohm_status status = text ? ohm_run_path(path, run->dir, name) : OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory", name);
    if (status == OHM_OK && access(path, F_OK) != 0)
        status = ohm_file_write_atomic(path, &(ohm_file_part){text, strlen(text)}, 1);
    free(text);
    return status;
}

static void add_time(cJSON *json)
{
    char started[32];
    time_t now = time(NULL);
    struct tm utc;
    strftime(started, sizeof started, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    cJSON_AddStringToObject(json, "started", started);
}

static const char *const device_keys[] = {"backend", "device", "driver", "cuda_driver", "cuda_runtime"};

static void add_known(cJSON *json, const char *key, const char *value)
{
    if (*value)
        cJSON_AddStringToObject(json, key, value);
}

/* device_keys, those that are known; of the CPU the first alone. */
static void add_device(cJSON *json, const ohm_backend_facts *facts)
{
    const int version[2] = {facts->cuda_driver, facts->cuda_runtime};
    add_known(json, device_keys[0], facts->backend);
    add_known(json, device_keys[1], facts->device);
    add_known(json, device_keys[2], facts->driver);
    for (int i = 0; i < 2; i++) {
        char text[32] = "";
        if (version[i])
            snprintf(text, sizeof text, "%d.%d", version[i] / 1000, version[i] % 1000 / 10);
        add_known(json, device_keys[3 + i], text);
    }
}

static int same_device(const cJSON *a, const cJSON *b)
{
    for (size_t i = 0; i < sizeof device_keys / sizeof *device_keys; i++) {
        const cJSON *one = cJSON_GetObjectItem(a, device_keys[i]), *other = cJSON_GetObjectItem(b, device_keys[i]);
        if (one != other && !cJSON_Compare(one, other, 1))
            return 0;
    }
    return 1;
}

/* What a result hangs on besides the configuration. Seeds pass 2^53 in other tools: text. */
static char *run_text(const ohm_config *config, const ohm_backend_facts *facts)
{
    char seed[24];
    snprintf(seed, sizeof seed, "%" PRId64, config->seed);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "name", config->name);
    cJSON_AddStringToObject(json, "commit", OHM_COMMIT);
    cJSON_AddStringToObject(json, "compiler", OHM_COMPILER);
    cJSON_AddStringToObject(json, "flags", OHM_CFLAGS);
    cJSON_AddStringToObject(json, "seed", seed);
    cJSON_AddNumberToObject(json, "threads", omp_get_max_threads());
    cJSON_AddStringToObject(json, "blas_core", ohm_gemm_core());
    add_device(json, facts);
    add_time(json);
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    return text;
}

ohm_status ohm_run_describe(ohm_run *run, const ohm_config *config)
{
    ohm_backend_facts facts;
    OHM_TRY(ohm_backend_about(&facts, config));
    OHM_TRY(write_once(run, "config.yaml", ohm_config_text(config)));
    return write_once(run, "run.json", run_text(config, &facts));
}

/* Adds to the list of what it was resumed on; *changed = 0: the same as before. 0: no memory. */
static int add_resumed(cJSON *json, int *changed, const ohm_backend_facts *facts, int64_t step)
{
    cJSON *list = cJSON_GetObjectItem(json, "resumed"), *now = cJSON_CreateObject();
    const int count = cJSON_GetArraySize(list);
    cJSON_AddNumberToObject(now, "from_step", (double)step);
    add_device(now, facts);
    *changed = now && !same_device(count ? cJSON_GetArrayItem(list, count - 1) : json, now);
    add_time(now);
    list = list || !*changed ? list : cJSON_AddArrayToObject(json, "resumed");
    if (*changed && cJSON_AddItemToArray(list, now))
        return 1;
    cJSON_Delete(now);
    return now && !*changed;
}

ohm_status ohm_run_resumed(ohm_run *run, const ohm_config *config, int64_t step)
{
    char path[OHM_PATH_BYTES], *old, *text = NULL;
    size_t bytes;
    int changed;
    ohm_backend_facts facts;
    OHM_TRY(ohm_backend_about(&facts, config));
    OHM_TRY(ohm_run_path(path, run->dir, "run.json"));
    OHM_TRY(ohm_file_read(&old, &bytes, path, 1 << 20));
    cJSON *json = cJSON_Parse(old);
    free(old);
    if (!cJSON_IsObject(json)) {
        cJSON_Delete(json);
        return OHM_FAIL(OHM_ERR_DATA, "%s: is no JSON; move it away to go on, a new one is written", path);
    }
    ohm_status status = OHM_OK;
    if (!add_resumed(json, &changed, &facts, step) || (changed && !(text = cJSON_Print(json))))
        status = OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory", path);
    else if (changed)
        status = ohm_file_write_atomic(path, &(ohm_file_part){text, strlen(text)}, 1);
    free(text);
    cJSON_Delete(json);
    return status;
}
