#include "host/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/file.h"

#if OHM_NVTX
#include <nvtx3/nvToolsExt.h>
#endif

enum { DEPTH_MAX = 16, ROOM_LEAST = 4096 };

struct ohm_trace {
    ohm_trace_event *event;
    int count, room, lost;
    int depth;
    int open[DEPTH_MAX];  /* index of the open range's event, -1 where it is not recorded */
    int level[DEPTH_MAX]; /* of the open ranges */
    int recording;
    int ranges, steps; /* seen since it was made */
    void (*settle)(void *context);
    void *context;
#if OHM_NVTX
    nvtxDomainHandle_t domain;
#endif
};

/* ---- NVTX ---------------------------------------------------------------------------------- */

#if OHM_NVTX
static void nvtx_create(ohm_trace *trace)
{
    trace->domain = nvtxDomainCreateA("ohmgrad");
}

static void nvtx_destroy(ohm_trace *trace)
{
    nvtxDomainDestroy(trace->domain);
}

static void nvtx_push(const ohm_trace *trace, const char *name)
{
    nvtxEventAttributes_t attributes = {.version = NVTX_VERSION,
                                        .size = NVTX_EVENT_ATTRIB_STRUCT_SIZE,
                                        .messageType = NVTX_MESSAGE_TYPE_ASCII};
    attributes.message.ascii = name;
    nvtxDomainRangePushEx(trace->domain, &attributes);
}

static void nvtx_pop(const ohm_trace *trace)
{
    nvtxDomainRangePop(trace->domain);
}
#else
static void nvtx_create(ohm_trace *trace)
{
    (void)trace;
}

static void nvtx_destroy(ohm_trace *trace)
{
    (void)trace;
}

static void nvtx_push(const ohm_trace *trace, const char *name)
{
    (void)trace;
    (void)name;
}

static void nvtx_pop(const ohm_trace *trace)
{
    (void)trace;
}
#endif

int ohm_trace_has_nvtx(void)
{
#if OHM_NVTX
    return 1;
#else
    return 0;
#endif
}

/* ---- life ---------------------------------------------------------------------------------- */

ohm_status ohm_trace_create(ohm_trace **trace)
{
    *trace = calloc(1, sizeof **trace);
    if (!*trace)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for a trace");
    nvtx_create(*trace);
    return OHM_OK;
}

void ohm_trace_destroy(ohm_trace *trace)
{
    if (!trace)
        return;
    nvtx_destroy(trace);
    free(trace->event);
    free(trace);
}

ohm_status ohm_trace_record(ohm_trace *trace, int steps)
{
    if (trace->depth)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "a recording begins inside a range");
    int64_t each = trace->steps ? trace->ranges / trace->steps + 1 : ROOM_LEAST;
    int64_t room = 2 * each * steps + ROOM_LEAST;
    if (steps < 1 || room > INT32_MAX)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "%d steps of %" PRId64 " ranges are too many to record",
                        steps, each);
    ohm_trace_event *event = realloc(trace->event, (size_t)room * sizeof *event);
    if (!event)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory to record %d steps", steps);
    memset(event, 0, (size_t)room * sizeof *event); /* touched now, not inside the step */
    trace->event = event;
    trace->room = (int)room;
    trace->count = trace->lost = 0;
    trace->recording = 1;
    return OHM_OK;
}

void ohm_trace_pause(ohm_trace *trace)
{
    if (trace)
        trace->recording = 0;
}

void ohm_trace_settle(ohm_trace *trace, void (*settle)(void *context), void *context)
{
    if (!trace)
        return;
    trace->settle = settle;
    trace->context = context;
}

/* ---- ranges -------------------------------------------------------------------------------- */

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int new_event(ohm_trace *trace, ohm_trace_level level, const char *name, int tick)
{
    if (trace->count == trace->room) {
        trace->lost++;
        return -1;
    }
    ohm_trace_event *e = &trace->event[trace->count];
    e->level = (int)level;
    e->tick = tick;
    strncpy(e->name, name, sizeof e->name - 1);
    e->end_ns = e->begin_ns = now_ns();
    return trace->count++;
}

void ohm_trace_begin(ohm_trace *trace, ohm_trace_level level, const char *name, int tick)
{
    if (!trace)
        return;
    trace->ranges++;
    trace->steps += level == OHM_TRACE_STEP;
    nvtx_push(trace, name);
    if (trace->depth < DEPTH_MAX) {
        trace->level[trace->depth] = (int)level;
        trace->open[trace->depth] = trace->recording ? new_event(trace, level, name, tick) : -1;
    }
    trace->depth++;
}

void ohm_trace_end(ohm_trace *trace)
{
    if (!trace || !trace->depth)
        return;
    int at = --trace->depth < DEPTH_MAX ? trace->open[trace->depth] : -1;
    if (at >= 0 && trace->settle && trace->event[at].level == OHM_TRACE_KERNEL)
        trace->settle(trace->context);
    if (at >= 0)
        trace->event[at].end_ns = now_ns();
    nvtx_pop(trace);
}

void ohm_trace_unwind(ohm_trace *trace, int depth)
{
    while (trace && trace->depth > depth)
        ohm_trace_end(trace);
}

int ohm_trace_depth(const ohm_trace *trace)
{
    return trace ? trace->depth : 0;
}

int ohm_trace_open_level(const ohm_trace *trace)
{
    int depth = ohm_trace_depth(trace);
    return depth && depth <= DEPTH_MAX ? trace->level[depth - 1] : -1;
}

const ohm_trace_event *ohm_trace_events(const ohm_trace *trace, int *count)
{
    *count = trace ? trace->count : 0;
    return trace ? trace->event : NULL;
}

/* ---- the file ------------------------------------------------------------------------------ */

/* Text in JSON's quotes. */
static void quote(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            fprintf(out, "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            fprintf(out, "\\u%04x", (unsigned)*text);
        else
            fputc(*text, out);
    fputc('"', out);
}

static void print_event(FILE *out, const ohm_trace_event *e, int64_t zero, int pid)
{
    static const char *const level[OHM_TRACE_LEVELS] = {"step", "phase", "layer", "kernel"};
    int64_t begin = e->begin_ns - zero, length = e->end_ns - e->begin_ns;
    fprintf(out, ",\n{\"name\":");
    quote(out, e->name);
    fprintf(out,
            ",\"cat\":\"%s\",\"ph\":\"X\",\"ts\":%" PRId64 ".%03" PRId64 ",\"dur\":%" PRId64
            ".%03" PRId64 ",\"pid\":%d,\"tid\":1}",
            level[e->level], begin / 1000, begin % 1000, length / 1000, length % 1000, pid);
}

static void print_track(FILE *out, const ohm_trace_track *track, int pid)
{
    const ohm_trace *trace = track->trace;
    fprintf(out, "%s\n{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%d,\"args\":{\"name\":",
            pid > 1 ? "," : "", pid);
    quote(out, track->name);
    fprintf(out, "}}");
    for (int i = 0; i < trace->count; i++)
        print_event(out, &trace->event[i], trace->event[0].begin_ns, pid);
}

ohm_status ohm_trace_write(const char *path, const ohm_trace_track *track, int count)
{
    ohm_file_text text;
    for (int i = 0; i < count; i++)
        if (track[i].trace->lost)
            return OHM_FAIL(OHM_ERR_DATA, "%s: %d ranges of '%s' found no room; record fewer steps",
                            path, track[i].trace->lost, track[i].name);
    OHM_TRY(ohm_file_text_open(&text, path));
    fprintf(text.stream, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[");
    for (int i = 0; i < count; i++)
        print_track(text.stream, &track[i], i + 1);
    fprintf(text.stream, "\n]}\n");
    return ohm_file_text_write(&text, path);
}
