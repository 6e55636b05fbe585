/* Planned memory. Buffers are added with a lifetime (first and last tick of a step) and a category,
 * placed once so that lifetimes that do not meet share bytes, and reserved in one block.
 * Nothing is allocated inside a step. */
#ifndef OHM_HOST_ARENA_H
#define OHM_HOST_ARENA_H

#include <stddef.h>

#include "host/status.h"

struct ohm_backend;
struct ohm_device;

typedef enum { OHM_MEMORY_WEIGHTS, OHM_MEMORY_GRADIENTS, OHM_MEMORY_OPTIMISER, OHM_MEMORY_ACTIVATIONS, OHM_MEMORY_WORKSPACE,
               OHM_MEMORY_SAVED, OHM_MEMORY_CATEGORIES } ohm_memory_category;

const char *ohm_memory_name(int category); /* "weights", "gradients", "optimiser", "activations", "simulator workspace", "saved simulator state" */

typedef struct {
    size_t current[OHM_MEMORY_CATEGORIES]; /* live bytes at the plan's present tick */
    size_t peak[OHM_MEMORY_CATEGORIES];    /* most live bytes of each category at any tick */
    size_t current_total, peak_total;      /* peak_total: most live bytes at one tick, all categories */
    size_t average_total;                  /* live bytes, mean over the ticks 0 .. last of the plan */
    size_t reserved;                       /* bytes of the block (>= peak_total: fragmentation) */
} ohm_memory;

typedef struct ohm_arena ohm_arena;

enum { OHM_ALWAYS = -1 };                  /* as `first`: lives for ever */

ohm_status ohm_arena_create(ohm_arena **arena);
void ohm_arena_destroy(ohm_arena *arena);
/* Adds a buffer that is live at ticks first..last; returns its index in *id. Before ohm_arena_reserve only. */
ohm_status ohm_arena_add(ohm_arena *arena, int *id, const char *name, size_t bytes, ohm_memory_category category, int first, int last);
/* Widens a buffer's lifetime so that it holds `tick`. Before ohm_arena_place only. */
ohm_status ohm_arena_extend(ohm_arena *arena, int id, int tick);
ohm_status ohm_arena_place(ohm_arena *arena);                    /* offsets; idempotent */
/* Bytes that the system can give without swapping; SIZE_MAX when it does not say. */
size_t ohm_memory_available(void);
/* Where the block will be reserved: on `device` of `backend` instead of in host memory. */
void ohm_arena_use(ohm_arena *arena, const struct ohm_backend *backend, struct ohm_device *device);
/* Places and allocates, zeroed. OHM_ERR_MEMORY, before anything is allocated, when the plan exceeds
 * what the system or device has free; the message names the largest category. */
ohm_status ohm_arena_reserve(ohm_arena *arena);
void *ohm_arena_at(const ohm_arena *arena, int id);              /* 64-byte aligned; NULL for 0 bytes */
void ohm_arena_tick(ohm_arena *arena, int tick);                 /* where the step is: moves `current` */
const ohm_memory *ohm_arena_memory(const ohm_arena *arena);
/* Bytes of each category that are live at a tick; returns their sum. Of a placed plan. */
size_t ohm_arena_live(const ohm_arena *arena, int tick, size_t bytes[OHM_MEMORY_CATEGORIES]);

/* One buffer of a placed plan: bytes offset .. offset + bytes of the block at ticks first..last. */
typedef struct {
    const char *name;
    size_t offset, bytes;
    int category, first, last;
} ohm_span;
int ohm_arena_count(const ohm_arena *arena);
ohm_span ohm_arena_span(const ohm_arena *arena, int id);

/* Checked mode, for tests; asked for before the arena is placed. Each buffer gets guard words behind
 * it, and at a tick the bytes of buffers that died become NaN. ohm_arena_check looks at the guards of
 * what is live: OHM_ERR_DATA names the buffer that was overrun. */
ohm_status ohm_arena_check_writes(ohm_arena *arena);
ohm_status ohm_arena_check(const ohm_arena *arena);

#endif
