#include "tests/trace_check.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/file.h"
#include "tests/runner.h"

enum { TRACKS_MAX = 64, DEPTH_MAX = 16 };
static const double RESOLUTION_US = 0.0015; /* times have three decimals */

typedef struct {
    double begin, end, covered; /* covered: by kernels, of a step */
    int level;
} range;

typedef struct {
    int depth, named;
    double last;
    range open[DEPTH_MAX];
} track;

static double number(const cJSON *event, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(event, name);
    ck_assert_msg(cJSON_IsNumber(item) && isfinite(item->valuedouble), "an event without '%s'",
                  name);
    return item->valuedouble;
}

static const char *text(const cJSON *event, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(event, name);
    ck_assert_msg(cJSON_IsString(item) && *item->valuestring, "an event without '%s'", name);
    return item->valuestring;
}

static int level_of(const cJSON *event)
{
    static const char *const names[] = {"step", "phase", "layer", "kernel"};
    for (int i = 0; i < 4; i++)
        if (!strcmp(text(event, "cat"), names[i]))
            return i;
    ck_abort_msg("category '%s' is unknown", text(event, "cat"));
    return -1;
}

static void close_range(trace_summary *s, track *t)
{
    const range *r = &t->open[--t->depth];
    if (r->level != 0)
        return;
    s->steps++;
    s->coverage = fmin(s->coverage, r->covered / (r->end - r->begin));
}

static void note_kernel(trace_summary *s, const char *name)
{
    char padded[64];
    s->kernels++;
    snprintf(padded, sizeof padded, " %s ", name);
    if (!strstr(s->names, padded)) {
        ck_assert_uint_lt(strlen(s->names) + strlen(padded), sizeof s->names);
        strcat(s->names, padded);
    }
}

static void check_range(trace_summary *s, track *t, const cJSON *event)
{
    range r = {.begin = number(event, "ts"), .level = level_of(event)};
    const char *name = text(event, "name");
    r.end = r.begin + number(event, "dur");
    ck_assert_msg(r.begin >= 0 && r.end >= r.begin, "%s: from %g to %g", name, r.begin, r.end);
    ck_assert_msg(r.begin >= t->last - RESOLUTION_US, "%s: opened before its predecessor", name);
    ck_assert_msg(number(event, "tid") == 1, "%s: on another thread", name);
    t->last = r.begin;
    while (t->depth && t->open[t->depth - 1].end <= r.begin + RESOLUTION_US)
        close_range(s, t);
    if (t->depth) {
        const range *parent = &t->open[t->depth - 1];
        ck_assert_msg(r.end <= parent->end + RESOLUTION_US, "%s: outlives what it lies in", name);
        ck_assert_msg(r.level > parent->level, "%s: lies in a range of its own or a lower level",
                      name);
    } else {
        ck_assert_msg(r.level == 0, "%s: lies in no step", name);
    }
    if (r.level == 3) {
        t->open[0].covered += r.end - r.begin;
        note_kernel(s, name);
    }
    ck_assert_int_lt(t->depth, DEPTH_MAX);
    t->open[t->depth++] = r;
}

void trace_check(trace_summary *s, const char *path)
{
    static track all[TRACKS_MAX];
    char *bytes;
    size_t size;
    memset(all, 0, sizeof all);
    *s = (trace_summary){.coverage = 1.0};
    OHM_OK_OR_FAIL(ohm_file_read(&bytes, &size, path, (size_t)1 << 28));
    cJSON *json = cJSON_ParseWithOpts(bytes, NULL, 1);
    ck_assert_msg(json != NULL, "%s is no JSON", path);
    const cJSON *event, *events = cJSON_GetObjectItemCaseSensitive(json, "traceEvents");
    ck_assert_msg(cJSON_IsArray(events), "%s: no array traceEvents", path);
    cJSON_ArrayForEach(event, events)
    {
        int pid = (int)number(event, "pid");
        ck_assert(pid > 0 && pid < TRACKS_MAX);
        if (!strcmp(text(event, "ph"), "M")) {
            ck_assert_str_eq(text(event, "name"), "process_name");
            text(cJSON_GetObjectItemCaseSensitive(event, "args"), "name");
            s->tracks += !all[pid].named;
            all[pid].named = 1;
            continue;
        }
        ck_assert_str_eq(text(event, "ph"), "X");
        ck_assert_msg(all[pid].named, "process %d has no name", pid);
        check_range(s, &all[pid], event);
    }
    for (int i = 0; i < TRACKS_MAX; i++)
        while (all[i].depth)
            close_range(s, &all[i]);
    cJSON_Delete(json);
    free(bytes);
}
