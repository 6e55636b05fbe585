/* runtime_cuda.h on host memory, for the host executor. Work that is queued on a stream stays queued
 * until something waits for it, as the rules of a real device allow: a host that reads too early
 * reads old bytes. Device memory is poisoned when allocated, with guard words on both sides that
 * every launch checks. One thread. */
#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <stdlib.h>
#include <vector>

#include "tests/executor/executor_internal.hpp"

namespace
{
enum { GUARD = 256 };
const unsigned char GUARD_BYTE = 0xA9;
const size_t MEMORY = 1ull << 30; /* of the pretended device */

typedef std::function<ohm_cuda_status()> work;

std::string error_text = "no CUDA error";
ohm_cuda_status broken = OHM_CUDA_OK; /* a kernel failed: everything fails from then on */
std::map<unsigned char *, size_t> &blocks = *new std::map<unsigned char *, size_t>();
size_t used;
int capturing;
} // namespace

size_t executor_allocations, executor_waits;
static const char *broken_kernel, *refused_kernel;
static ohm_cuda_status refused_with;
static size_t taken; /* bytes that somebody else has */

void executor_break(const char *part)
{
    broken_kernel = part;
}

static void (*watcher)(void *context, const char *name);
static void *watching;

void executor_watch(void (*queued)(void *context, const char *name), void *context)
{
    watcher = queued;
    watching = context;
}

void executor_refuse_launch(const char *part, bool memory)
{
    refused_kernel = part;
    refused_with = memory ? OHM_CUDA_MEMORY : OHM_CUDA_ARGUMENT;
}

void executor_take(size_t bytes)
{
    taken = bytes;
}

static int driver;

void executor_set_driver(int version)
{
    driver = version;
}

void executor_lose(void)
{
    broken = ohm_cuda_fail(OHM_CUDA_LOST, "executor", "lost by the test");
}

struct ohm_cuda_stream_body {
    std::deque<work> queue;
    size_t queued = 0, done = 0;
    std::unique_ptr<std::vector<work>> captured;
};
struct ohm_cuda_event_body {
    ohm_cuda_stream stream = nullptr;
    size_t after = 0; /* works of that stream */
    std::chrono::steady_clock::time_point when;
    bool reached = false;
};
struct ohm_cuda_graph_body {
    std::vector<work> steps;
};

namespace
{
std::set<ohm_cuda_stream> &streams = *new std::set<ohm_cuda_stream>();

bool guards_hold(const unsigned char *at, size_t bytes)
{
    for (size_t i = 0; i < GUARD; i++)
        if (at[-1 - static_cast<ptrdiff_t>(i)] != GUARD_BYTE || at[bytes + i] != GUARD_BYTE)
            return false;
    return true;
}

ohm_cuda_status check_memory(const char *what)
{
    for (const auto &block : blocks)
        if (!guards_hold(block.first, block.second)) {
            const std::string text =
                "wrote outside device memory of " + std::to_string(block.second) + " bytes";
            return ohm_cuda_fail(OHM_CUDA_KERNEL, what, text.c_str());
        }
    return OHM_CUDA_OK;
}

/* [at, at + bytes) lies in one allocation. */
bool on_device(const void *at, size_t bytes)
{
    auto block = blocks.upper_bound(static_cast<unsigned char *>(const_cast<void *>(at)));
    if (bytes == 0)
        return true;
    if (block == blocks.begin())
        return false;
    --block;
    return static_cast<const unsigned char *>(at) + bytes <= block->first + block->second;
}

ohm_cuda_status refuse(const char *call, const char *reason)
{
    return ohm_cuda_fail(OHM_CUDA_ARGUMENT, call, reason);
}

ohm_cuda_status queue(ohm_cuda_stream s, const char *call, work step)
{
    if (broken != OHM_CUDA_OK)
        return broken;
    if (!s || !streams.count(s))
        return refuse(call, "no such stream");
    if (watcher)
        watcher(watching, call);
    if (s->captured) {
        s->captured->push_back(std::move(step));
    } else {
        s->queue.push_back(std::move(step));
        s->queued++;
    }
    return OHM_CUDA_OK;
}

ohm_cuda_status drain(ohm_cuda_stream s, size_t until)
{
    while (broken == OHM_CUDA_OK && s->done < until) {
        work step = std::move(s->queue.front());
        s->queue.pop_front();
        s->done++;
        broken = step();
    }
    return broken;
}

ohm_cuda_status reach(ohm_cuda_event e)
{
    return e->stream && streams.count(e->stream) ? drain(e->stream, e->after) : broken;
}

ohm_cuda_status refuse_in_capture(const char *call)
{
    return capturing ? refuse(call, "not allowed while a stream is captured") : broken;
}
} // namespace

/* ---- errors, devices ----------------------------------------------------------------------- */

const char *ohm_cuda_error_text(void)
{
    return error_text.c_str();
}

ohm_cuda_status ohm_cuda_fail(ohm_cuda_status status, const char *call, const char *reason)
{
    error_text = std::string(call) + ": " + reason;
    return status;
}

ohm_cuda_status ohm_cuda_count(int *count)
{
    *count = 1;
    return OHM_CUDA_OK;
}

ohm_cuda_status ohm_cuda_describe(ohm_cuda_device *out, int device)
{
    if (device != 0)
        return ohm_cuda_fail(OHM_CUDA_ABSENT, "describe", "the host executor is one device, 0");
    *out = ohm_cuda_device();
    snprintf(out->name, sizeof out->name, "host executor");
    out->major = 8;
    out->multiprocessors = 1;
    out->memory_bytes = MEMORY;
    out->l2_bytes = 1 << 20;
    out->shared_bytes = 227 * 1024;
    out->driver = out->runtime = driver;
    return OHM_CUDA_OK;
}

ohm_cuda_status ohm_cuda_use(int device)
{
    return device == 0
               ? OHM_CUDA_OK
               : ohm_cuda_fail(OHM_CUDA_ABSENT, "use", "the host executor is one device, 0");
}

ohm_cuda_status ohm_cuda_memory(size_t *available, size_t *total)
{
    *available = MEMORY - used - taken;
    *total = MEMORY;
    return OHM_CUDA_OK;
}

static ohm_cuda_status wait_for_all()
{
    executor_waits++;
    ohm_cuda_status status = refuse_in_capture("free");
    for (ohm_cuda_stream s : streams)
        if (status == OHM_CUDA_OK)
            status = drain(s, s->queued);
    return status;
}

/* ---- memory -------------------------------------------------------------------------------- */

ohm_cuda_status ohm_cuda_allocate(void **out, size_t bytes)
{
    *out = nullptr;
    executor_allocations++;
    ohm_cuda_status status = refuse_in_capture("allocate");
    if (status != OHM_CUDA_OK || bytes == 0)
        return status;
    const size_t rounded = (bytes + 2 * GUARD + 255) / 256 * 256;
    unsigned char *at =
        bytes > MEMORY - used - taken ? nullptr : static_cast<unsigned char *>(aligned_alloc(256, rounded));
    if (!at)
        return ohm_cuda_fail(OHM_CUDA_MEMORY, "allocate", "out of memory");
    memset(at, GUARD_BYTE, rounded);
    memset(at + GUARD, 0xFF, bytes);
    blocks[at + GUARD] = bytes;
    used += bytes;
    *out = at + GUARD;
    return OHM_CUDA_OK;
}

ohm_cuda_status ohm_cuda_free(void *device)
{
    if (!device)
        return OHM_CUDA_OK;
    if (capturing)
        return refuse_in_capture("free");
    ohm_cuda_status status = wait_for_all();
    auto block = blocks.find(static_cast<unsigned char *>(device));
    if (block == blocks.end())
        return refuse("free", "this is no device memory");
    if (status == OHM_CUDA_OK)
        status = check_memory("free");
    used -= block->second;
    blocks.erase(block);
    free(static_cast<unsigned char *>(device) - GUARD);
    return status;
}

ohm_cuda_status ohm_cuda_allocate_host(void **out, size_t bytes)
{
    executor_allocations++;
    *out = bytes ? malloc(bytes) : nullptr;
    return *out || !bytes ? OHM_CUDA_OK
                          : ohm_cuda_fail(OHM_CUDA_MEMORY, "allocate_host", "out of memory");
}

ohm_cuda_status ohm_cuda_free_host(void *host)
{
    ohm_cuda_status status = wait_for_all();
    free(host);
    return status;
}

static ohm_cuda_status queue_copy(const char *call, void *to, const void *from, size_t bytes,
                                  const void *device_to, const void *device_from, ohm_cuda_stream s)
{
    if ((device_to && !on_device(device_to, bytes)) ||
        (device_from && !on_device(device_from, bytes)) || (bytes && (!to || !from)))
        return refuse(call, "outside device memory");
    return queue(s, call, [=]() {
        if (bytes)
            memcpy(to, from, bytes);
        return OHM_CUDA_OK;
    });
}

ohm_cuda_status ohm_cuda_upload(void *device, const void *host, size_t bytes, ohm_cuda_stream s)
{
    return queue_copy("upload", device, host, bytes, device, nullptr, s);
}

ohm_cuda_status ohm_cuda_download(void *host, const void *device, size_t bytes, ohm_cuda_stream s)
{
    return queue_copy("download", host, device, bytes, nullptr, device, s);
}

ohm_cuda_status ohm_cuda_copy(void *device, const void *from, size_t bytes, ohm_cuda_stream s)
{
    return queue_copy("copy", device, from, bytes, device, from, s);
}

ohm_cuda_status ohm_cuda_fill(void *device, int byte, size_t bytes, ohm_cuda_stream s)
{
    if (!on_device(device, bytes))
        return refuse("fill", "outside device memory");
    return queue(s, "fill", [=]() {
        if (bytes)
            memset(device, byte, bytes);
        return OHM_CUDA_OK;
    });
}

/* ---- streams and events -------------------------------------------------------------------- */

ohm_cuda_status ohm_cuda_stream_create(ohm_cuda_stream *out)
{
    *out = new ohm_cuda_stream_body();
    streams.insert(*out);
    return OHM_CUDA_OK;
}

void ohm_cuda_stream_destroy(ohm_cuda_stream s)
{
    if (!s)
        return;
    if (s->captured)
        capturing--;
    drain(s, s->queued);
    streams.erase(s);
    delete s;
}

ohm_cuda_status ohm_cuda_stream_wait(ohm_cuda_stream s)
{
    executor_waits++;
    ohm_cuda_status status = refuse_in_capture("stream_wait");
    if (status != OHM_CUDA_OK)
        return status;
    return streams.count(s) ? drain(s, s->queued) : refuse("stream_wait", "no such stream");
}

ohm_cuda_status ohm_cuda_event_create(ohm_cuda_event *out)
{
    *out = new ohm_cuda_event_body();
    return OHM_CUDA_OK;
}

void ohm_cuda_event_destroy(ohm_cuda_event e)
{
    delete e;
}

ohm_cuda_status ohm_cuda_event_record(ohm_cuda_event e, ohm_cuda_stream s)
{
    ohm_cuda_status status = queue(s, "event_record", [=]() {
        e->when = std::chrono::steady_clock::now();
        e->reached = true;
        return OHM_CUDA_OK;
    });
    if (status == OHM_CUDA_OK && !s->captured) {
        e->stream = s;
        e->after = s->queued;
        e->reached = false;
    }
    return status;
}

ohm_cuda_status ohm_cuda_event_wait(ohm_cuda_event e)
{
    executor_waits++;
    ohm_cuda_status status = refuse_in_capture("event_wait");
    return status == OHM_CUDA_OK ? reach(e) : status;
}

ohm_cuda_status ohm_cuda_event_seconds(double *out, ohm_cuda_event from, ohm_cuda_event to)
{
    if (!from->reached || !to->reached)
        return refuse("event_seconds", "an event was not reached yet");
    *out = std::chrono::duration<double>(to->when - from->when).count();
    return OHM_CUDA_OK;
}

/* ---- graphs -------------------------------------------------------------------------------- */

ohm_cuda_status ohm_cuda_graph_begin(ohm_cuda_stream s)
{
    if (!streams.count(s) || s->captured)
        return refuse("graph_begin", "no such stream, or captured already");
    s->captured.reset(new std::vector<work>());
    capturing++;
    return broken;
}

ohm_cuda_status ohm_cuda_graph_end(ohm_cuda_graph *graph, ohm_cuda_stream s)
{
    if (!streams.count(s) || !s->captured)
        return refuse("graph_end", "the stream is not captured");
    std::unique_ptr<std::vector<work>> steps = std::move(s->captured);
    capturing--;
    if (broken != OHM_CUDA_OK)
        return broken;
    if (!*graph)
        *graph = new ohm_cuda_graph_body();
    (*graph)->steps = std::move(*steps);
    return OHM_CUDA_OK;
}

ohm_cuda_status ohm_cuda_graph_launch(ohm_cuda_graph graph, ohm_cuda_stream s)
{
    if (!graph)
        return refuse("graph_launch", "no graph");
    const std::vector<work> steps = graph->steps; /* a later update does not change this launch */
    return queue(s, "graph_launch", [=]() {
        ohm_cuda_status status = OHM_CUDA_OK;
        for (size_t i = 0; i < steps.size() && status == OHM_CUDA_OK; i++)
            status = steps[i]();
        return status;
    });
}

void ohm_cuda_graph_destroy(ohm_cuda_graph graph)
{
    delete graph;
}

/* ---- launches ------------------------------------------------------------------------------ */

ohm_cuda_status executor_queue_launch(const char *name, dim3 grid, dim3 block, size_t shared_bytes,
                                      ohm_cuda_stream s, std::function<void()> body)
{
    if (grid.x == 0 || grid.y == 0 || grid.z == 0)
        return broken;
    const size_t threads = static_cast<size_t>(block.x) * block.y * block.z;
    if (threads == 0 || threads > 1024 || block.z > 64 || grid.x > 0x7FFFFFFF || grid.y > 65535 ||
        grid.z > 65535)
        return refuse(name, "no device can launch such a grid or block");
    if (threads % 32)
        return refuse(name, "blocks are whole warps here: a multiple of 32 threads");
    if (shared_bytes > 227 * 1024)
        return refuse(name, "more than 227 KiB of dynamic shared memory");
    if (refused_kernel && strstr(name, refused_kernel)) {
        refused_kernel = nullptr;
        return ohm_cuda_fail(refused_with, name, "refused by the test");
    }
    return queue(s, name, [=]() {
        std::string error;
        if (broken_kernel && strstr(name, broken_kernel)) {
            broken_kernel = nullptr;
            return ohm_cuda_fail(OHM_CUDA_KERNEL, name, "broken by the test");
        }
        if (executor_run_kernel(&error, name, grid, block, shared_bytes, body))
            return check_memory(name);
        return ohm_cuda_fail(OHM_CUDA_KERNEL, "executor", error.c_str());
    });
}

ohm_cuda_status executor_queue_work(const char *name, ohm_cuda_stream s,
                                    std::function<ohm_cuda_status()> body)
{
    return queue(s, name, std::move(body));
}

bool executor_on_device(const void *at, size_t bytes)
{
    return on_device(at, bytes);
}

void executor_repair(void)
{
    for (ohm_cuda_stream s : streams) {
        s->queue.clear();
        s->done = s->queued;
        s->captured.reset();
    }
    capturing = 0;
    taken = 0;
    broken = OHM_CUDA_OK;
}
