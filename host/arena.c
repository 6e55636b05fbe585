#include "host/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "host/backend.h"

enum { ALIGN = 64, GUARD_BYTE = 0xA5, POISON_BYTE = 0xFF };

typedef struct {
    char name[56];
    size_t bytes,
        span; /* asked for; taken in the block (aligned, with a guard behind if checked) */
    size_t offset;
    int category, first, last;
} buffer;

struct ohm_arena {
    buffer *at;
    int count, room;
    int placed, checked, tick;
    char *block;
    size_t mapped;
    const ohm_backend *backend; /* NULL: the block is host memory */
    ohm_device *device;
    ohm_memory memory;
};

const char *ohm_memory_name(int category)
{
    static const char *const names[OHM_MEMORY_CATEGORIES] = {
        "weights",     "gradients",           "optimiser",
        "activations", "simulator workspace", "saved simulator state"};
    return (unsigned)category < OHM_MEMORY_CATEGORIES ? names[category] : "?";
}

ohm_status ohm_arena_create(ohm_arena **arena)
{
    *arena = calloc(1, sizeof **arena);
    if (!*arena)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for an arena's description");
    return OHM_OK;
}

void ohm_arena_destroy(ohm_arena *arena)
{
    if (!arena)
        return;
    if (arena->block && arena->backend)
        arena->backend->release(arena->device, arena->block);
    else if (arena->block)
        munmap(arena->block, arena->mapped);
    free(arena->at);
    free(arena);
}

static ohm_status grow(ohm_arena *arena)
{
    if (arena->count < arena->room)
        return OHM_OK;
    int room = arena->room ? 2 * arena->room : 64;
    buffer *at = realloc(arena->at, (size_t)room * sizeof *at);
    if (!at)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory to describe %d buffers", room);
    arena->at = at;
    arena->room = room;
    return OHM_OK;
}

ohm_status ohm_arena_add(ohm_arena *arena, int *id, const char *name, size_t bytes,
                         ohm_memory_category category, int first, int last)
{
    if (arena->placed)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "buffer %s is added after the arena was placed", name);
    if (first != OHM_ALWAYS && (first < 0 || last < first))
        return OHM_FAIL(OHM_ERR_ARGUMENT,
                        "buffer %s lives from tick %d to %d: first must be 0..last", name, first,
                        last);
    if (bytes > PTRDIFF_MAX / 2)
        return OHM_FAIL(OHM_ERR_MEMORY, "buffer %s of %zu bytes is beyond any address space", name,
                        bytes);
    OHM_TRY(grow(arena));
    buffer *b = &arena->at[arena->count];
    *b = (buffer){.bytes = bytes, .category = (int)category, .first = first, .last = last};
    if (first == OHM_ALWAYS) {
        b->first = 0;
        b->last = INT32_MAX;
    }
    snprintf(b->name, sizeof b->name, "%s", name);
    *id = arena->count++;
    return OHM_OK;
}

ohm_status ohm_arena_extend(ohm_arena *arena, int id, int tick)
{
    if (arena->placed)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "buffer %s is extended after the arena was placed",
                        arena->at[id].name);
    buffer *b = &arena->at[id];
    b->first = tick < b->first ? tick : b->first;
    b->last = tick > b->last ? tick : b->last;
    return OHM_OK;
}

/* ---- placement ----------------------------------------------------------------------------- */

static int meet(const buffer *a, const buffer *b)
{
    return a->first <= b->last && b->first <= a->last;
}

static int live(const buffer *b, int tick)
{
    return b->first <= tick && tick <= b->last;
}

/* Large first, then long-lived, then as added: a total order, so that a plan is reproducible. */
static int by_size(const void *left, const void *right)
{
    const buffer *a = *(const buffer *const *)left, *b = *(const buffer *const *)right;
    if (a->span != b->span)
        return a->span > b->span ? -1 : 1;
    int64_t long_a = (int64_t)a->last - a->first, long_b = (int64_t)b->last - b->first;
    if (long_a != long_b)
        return long_a > long_b ? -1 : 1;
    return a < b ? -1 : a > b;
}

/* `placed` is kept in order of offset: the lowest gap between the buffers that b meets is b's. */
static size_t lowest_gap(const buffer *b, buffer *const *placed, int count)
{
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        if (!meet(b, placed[i]))
            continue;
        if (placed[i]->offset >= at + b->span)
            break;
        size_t end = placed[i]->offset + placed[i]->span;
        at = end > at ? end : at;
    }
    return at;
}

static void insert(buffer *b, buffer **placed, int count)
{
    int at = count;
    for (; at > 0 && placed[at - 1]->offset > b->offset; at--)
        placed[at] = placed[at - 1];
    placed[at] = b;
}

size_t ohm_arena_live(const ohm_arena *arena, int tick, size_t bytes[OHM_MEMORY_CATEGORIES])
{
    size_t total = 0;
    memset(bytes, 0, OHM_MEMORY_CATEGORIES * sizeof *bytes);
    for (int i = 0; i < arena->count; i++) {
        const buffer *b = &arena->at[i];
        if (!live(b, tick))
            continue;
        bytes[b->category] += b->span;
        total += b->span;
    }
    return total;
}

static void measure_tick(ohm_arena *arena, int tick)
{
    ohm_memory *memory = &arena->memory;
    memory->current_total = ohm_arena_live(arena, tick, memory->current);
    for (int c = 0; c < OHM_MEMORY_CATEGORIES; c++)
        if (memory->current[c] > memory->peak[c])
            memory->peak[c] = memory->current[c];
    if (memory->current_total > memory->peak_total)
        memory->peak_total = memory->current_total;
}

/* Peaks and average of a step: ticks from 0 to the last at which something begins or ends. */
static void measure_plan(ohm_arena *arena)
{
    double sum = 0;
    int last = 0;
    for (int i = 0; i < arena->count; i++) {
        const buffer *b = &arena->at[i];
        int end = b->last == INT32_MAX ? b->first : b->last;
        last = end > last ? end : last;
    }
    for (int tick = 0; tick <= last; tick++) {
        measure_tick(arena, tick);
        sum += (double)arena->memory.current_total;
    }
    arena->memory.average_total = (size_t)(sum / (last + 1));
    measure_tick(arena, 0);
}

ohm_status ohm_arena_place(ohm_arena *arena)
{
    if (arena->placed)
        return OHM_OK;
    size_t room = (size_t)arena->count + 1;
    buffer **order = malloc(2 * room * sizeof *order);
    if (!order)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory to place %d buffers", arena->count);
    buffer **placed = order + room;
    for (int i = 0; i < arena->count; i++) {
        buffer *b = &arena->at[i];
        b->span = (b->bytes + ALIGN - 1) / ALIGN * ALIGN + (arena->checked && b->bytes ? ALIGN : 0);
        order[i] = b;
    }
    qsort(order, (size_t)arena->count, sizeof *order, by_size);
    for (int i = 0; i < arena->count; i++) {
        order[i]->offset = lowest_gap(order[i], placed, i);
        insert(order[i], placed, i);
        size_t end = order[i]->offset + order[i]->span;
        arena->memory.reserved = end > arena->memory.reserved ? end : arena->memory.reserved;
    }
    free(order);
    arena->placed = 1;
    measure_plan(arena);
    return OHM_OK;
}

/* ---- the block ----------------------------------------------------------------------------- */

size_t ohm_memory_available(void)
{
    FILE *file = fopen("/proc/meminfo", "r");
    if (!file)
        return SIZE_MAX;
    char line[128];
    unsigned long long kib = 0;
    int found = 0;
    while (!found && fgets(line, sizeof line, file))
        found = sscanf(line, "MemAvailable: %llu kB", &kib) == 1;
    fclose(file);
    return found ? (size_t)kib * 1024 : SIZE_MAX;
}

static ohm_status does_not_fit(const ohm_arena *arena, const char *why, double limit_mib)
{
    const ohm_memory *memory = &arena->memory;
    int biggest = 0;
    for (int c = 1; c < OHM_MEMORY_CATEGORIES; c++)
        if (memory->peak[c] > memory->peak[biggest])
            biggest = c;
    const double mib = 1.0 / (1 << 20);
    return OHM_FAIL(
        OHM_ERR_MEMORY,
        "the plan needs %.1f MiB, of which %s %.1f MiB, %s %.1f MiB: lower train.micro_batch, "
        "train.workspace_mib or eval.batch",
        (double)memory->reserved * mib, ohm_memory_name(biggest),
        (double)memory->peak[biggest] * mib, why, limit_mib);
}

void ohm_arena_use(ohm_arena *arena, const ohm_backend *backend, ohm_device *device)
{
    arena->backend = backend;
    arena->device = device;
}

static ohm_status reserve_on_device(ohm_arena *arena)
{
    size_t bytes = arena->memory.reserved, available;
    void *block;
    OHM_TRY(arena->backend->available(arena->device, &available));
    if (bytes > available)
        return does_not_fit(arena, "and the device has free only", (double)available / (1 << 20));
    ohm_status status = arena->backend->reserve(arena->device, &block, bytes ? bytes : 1);
    if (status == OHM_ERR_MEMORY)
        return does_not_fit(arena, "and the device refuses", (double)bytes / (1 << 20));
    arena->block = status == OHM_OK ? block : NULL;
    return status;
}

ohm_status ohm_arena_reserve(ohm_arena *arena)
{
    if (arena->block)
        return OHM_OK;
    OHM_TRY(ohm_arena_place(arena));
    if (arena->backend)
        return reserve_on_device(arena);
    size_t bytes = arena->memory.reserved, available = ohm_memory_available();
    if (bytes > available)
        return does_not_fit(arena, "and the machine has free only", (double)available / (1 << 20));
    arena->mapped = bytes ? bytes : 1;
    void *block =
        mmap(NULL, arena->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED)
        return does_not_fit(arena, "and the system refuses", (double)arena->mapped / (1 << 20));
    /* A hint: refusing it changes nothing. No huge page reaches past the end, so that what is resident
     * is what was planned. */
    madvise(block, arena->mapped, MADV_HUGEPAGE);
    arena->block = block;
    return OHM_OK;
}

void *ohm_arena_at(const ohm_arena *arena, int id)
{
    const buffer *b = &arena->at[id];
    return b->bytes && arena->block ? arena->block + b->offset : NULL;
}

int ohm_arena_count(const ohm_arena *arena)
{
    return arena->count;
}

ohm_span ohm_arena_span(const ohm_arena *arena, int id)
{
    const buffer *b = &arena->at[id];
    return (ohm_span){b->name, b->offset, b->span, b->category, b->first, b->last};
}

const ohm_memory *ohm_arena_memory(const ohm_arena *arena)
{
    return &arena->memory;
}

/* ---- time and the checked mode ------------------------------------------------------------- */

ohm_status ohm_arena_check_writes(ohm_arena *arena)
{
    if (arena->placed)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "checked mode is asked for after the arena was placed");
    arena->checked = 1;
    arena->tick = -1; /* nothing is live yet: the first tick writes every guard */
    return OHM_OK;
}

static char *guard_of(const ohm_arena *arena, const buffer *b)
{
    return arena->block + b->offset + b->span - ALIGN;
}

static void set_bytes(const ohm_arena *arena, char *at, int byte, size_t bytes)
{
    if (arena->backend)
        arena->backend->set_bytes(arena->device, at, byte, bytes);
    else
        memset(at, byte, bytes);
}

/* Dead bytes become NaN first, then newly live buffers get their guards: they may share bytes. */
static void poison_and_guard(ohm_arena *arena, int tick)
{
    for (int i = 0; i < arena->count; i++) {
        const buffer *b = &arena->at[i];
        if (b->bytes && live(b, arena->tick) && !live(b, tick))
            set_bytes(arena, arena->block + b->offset, POISON_BYTE, b->span);
    }
    for (int i = 0; i < arena->count; i++) {
        const buffer *b = &arena->at[i];
        if (b->bytes && !live(b, arena->tick) && live(b, tick))
            set_bytes(arena, guard_of(arena, b), GUARD_BYTE, ALIGN);
    }
}

void ohm_arena_tick(ohm_arena *arena, int tick)
{
    if (arena->checked && arena->block)
        poison_and_guard(arena, tick);
    arena->tick = tick;
    measure_tick(arena, tick);
}

static ohm_status read_guard(unsigned char guard[ALIGN], const ohm_arena *arena, const buffer *b)
{
    if (!arena->backend) {
        memcpy(guard, guard_of(arena, b), ALIGN);
        return OHM_OK;
    }
    arena->backend->download(arena->device, guard, guard_of(arena, b), ALIGN);
    return arena->backend->wait(arena->device);
}

ohm_status ohm_arena_check(const ohm_arena *arena)
{
    if (!arena->checked || !arena->block)
        return OHM_FAIL(OHM_ERR_ARGUMENT,
                        "the arena keeps no guard words: ask before it is placed");
    for (int i = 0; i < arena->count; i++) {
        const buffer *b = &arena->at[i];
        if (!b->bytes || !live(b, arena->tick))
            continue;
        unsigned char guard[ALIGN];
        OHM_TRY(read_guard(guard, arena, b));
        for (int j = 0; j < ALIGN; j++)
            if (guard[j] != GUARD_BYTE)
                return OHM_FAIL(OHM_ERR_DATA,
                                "buffer %s of %zu bytes was written past its end at tick %d",
                                b->name, b->bytes, arena->tick);
    }
    return OHM_OK;
}
