#include "host/arena.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "tests/runner.h"

enum { TICKS = 40, BUFFERS = 120 };

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void add_random(ohm_arena *arena, uint32_t *state)
{
    for (int i = 0; i < BUFFERS; i++) {
        char name[16];
        snprintf(name, sizeof name, "b%d", i);
        int first = (int)(next_random(state) % TICKS), last = first + (int)(next_random(state) % 9);
        size_t bytes =
            next_random(state) % 5 == 0 ? next_random(state) % 64 : next_random(state) % 70000;
        int category = (int)(next_random(state) % OHM_MEMORY_CATEGORIES), id;
        if (next_random(state) % 10 == 0)
            first = OHM_ALWAYS;
        OHM_OK_OR_FAIL(
            ohm_arena_add(arena, &id, name, bytes, (ohm_memory_category)category, first, last));
        ck_assert_int_eq(id, i);
    }
}

static int overlap(ohm_span a, ohm_span b)
{
    int together = a.first <= b.last && b.first <= a.last;
    int sharing = a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
    return together && sharing;
}

OHM_TEST(arena, live_buffers_never_overlap)
{
    uint32_t state = 1;
    for (int round = 0; round < 60; round++) {
        ohm_arena *arena;
        OHM_OK_OR_FAIL(ohm_arena_create(&arena));
        add_random(arena, &state);
        OHM_OK_OR_FAIL(ohm_arena_place(arena));
        const ohm_memory *memory = ohm_arena_memory(arena);
        for (int i = 0; i < BUFFERS; i++) {
            ohm_span a = ohm_arena_span(arena, i);
            ck_assert_uint_eq(a.offset % 64, 0);
            ck_assert_uint_le(a.offset + a.bytes, memory->reserved);
            for (int j = 0; j < i; j++)
                ck_assert_msg(!overlap(a, ohm_arena_span(arena, j)),
                              "round %d: b%d and b%d share bytes", round, i, j);
        }
        ohm_arena_destroy(arena);
    }
}

OHM_TEST(arena, peaks_are_those_of_a_tick_by_tick_count)
{
    uint32_t state = 77;
    ohm_arena *arena;
    OHM_OK_OR_FAIL(ohm_arena_create(&arena));
    add_random(arena, &state);
    OHM_OK_OR_FAIL(ohm_arena_place(arena));
    size_t peak[OHM_MEMORY_CATEGORIES] = {0}, peak_total = 0;
    for (int tick = 0; tick < TICKS + 9; tick++) {
        size_t now[OHM_MEMORY_CATEGORIES] = {0}, total = 0;
        for (int i = 0; i < BUFFERS; i++) {
            ohm_span s = ohm_arena_span(arena, i);
            if (s.first <= tick && tick <= s.last) {
                now[s.category] += s.bytes;
                total += s.bytes;
            }
        }
        ohm_arena_tick(arena, tick);
        const ohm_memory *memory = ohm_arena_memory(arena);
        ck_assert_uint_eq(memory->current_total, total);
        for (int c = 0; c < OHM_MEMORY_CATEGORIES; c++) {
            ck_assert_uint_eq(memory->current[c], now[c]);
            peak[c] = now[c] > peak[c] ? now[c] : peak[c];
        }
        peak_total = total > peak_total ? total : peak_total;
    }
    const ohm_memory *memory = ohm_arena_memory(arena);
    ck_assert_uint_eq(memory->peak_total, peak_total);
    for (int c = 0; c < OHM_MEMORY_CATEGORIES; c++)
        ck_assert_uint_eq(memory->peak[c], peak[c]);
    ck_assert_uint_ge(memory->reserved, peak_total);
    ohm_arena_destroy(arena);
}

OHM_TEST(arena, average_is_over_the_ticks_of_the_plan)
{
    ohm_arena *arena;
    int id;
    OHM_OK_OR_FAIL(ohm_arena_create(&arena));
    OHM_OK_OR_FAIL(ohm_arena_add(arena, &id, "always", 64, OHM_MEMORY_WEIGHTS, OHM_ALWAYS, 0));
    OHM_OK_OR_FAIL(ohm_arena_add(arena, &id, "half", 128, OHM_MEMORY_ACTIVATIONS, 1, 2));
    OHM_OK_OR_FAIL(ohm_arena_add(arena, &id, "end", 256, OHM_MEMORY_WORKSPACE, 3, 3));
    OHM_OK_OR_FAIL(ohm_arena_place(arena));
    ck_assert_uint_eq(ohm_arena_memory(arena)->average_total, 64 + (2 * 128 + 256) / 4);
    ck_assert_uint_eq(ohm_arena_memory(arena)->peak_total, 64 + 256);
    ohm_arena_destroy(arena);
}

OHM_TEST(arena, chain_shares_two_buffers)
{
    ohm_arena *arena;
    OHM_OK_OR_FAIL(ohm_arena_create(&arena));
    for (int i = 0; i < 20; i++) {
        int id;
        OHM_OK_OR_FAIL(ohm_arena_add(arena, &id, "link", 1000, OHM_MEMORY_ACTIVATIONS, i, i + 1));
    }
    OHM_OK_OR_FAIL(ohm_arena_place(arena));
    ck_assert_uint_eq(ohm_arena_memory(arena)->reserved, 2 * 1024);
    ohm_arena_destroy(arena);
}

OHM_TEST(arena, reserve_is_zeroed_and_aligned)
{
    ohm_arena *arena;
    int a, b, none;
    OHM_OK_OR_FAIL(ohm_arena_create(&arena));
    OHM_OK_OR_FAIL(ohm_arena_add(arena, &a, "a", 100, OHM_MEMORY_WEIGHTS, OHM_ALWAYS, 0));
    OHM_OK_OR_FAIL(ohm_arena_add(arena, &b, "b", 4, OHM_MEMORY_WEIGHTS, OHM_ALWAYS, 0));
    OHM_OK_OR_FAIL(ohm_arena_add(arena, &none, "none", 0, OHM_MEMORY_WEIGHTS, OHM_ALWAYS, 0));
    OHM_OK_OR_FAIL(ohm_arena_reserve(arena));
    OHM_OK_OR_FAIL(ohm_arena_reserve(arena));
    char *at = ohm_arena_at(arena, a);
    ck_assert_uint_eq((uintptr_t)at % 64, 0);
    ck_assert_uint_eq((uintptr_t)ohm_arena_at(arena, b) % 64, 0);
    ck_assert_ptr_null(ohm_arena_at(arena, none));
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(at[i], 0);
    ck_assert_int_eq(ohm_arena_add(arena, &a, "late", 4, OHM_MEMORY_WEIGHTS, 0, 0),
                     OHM_ERR_ARGUMENT);
    ohm_arena_destroy(arena);
}

OHM_TEST(arena, too_large_is_refused_before_reserving)
{
    ohm_arena *arena;
    int id;
    OHM_OK_OR_FAIL(ohm_arena_create(&arena));
    OHM_OK_OR_FAIL(ohm_arena_add(arena, &id, "small", 1 << 20, OHM_MEMORY_WEIGHTS, 0, 1));
    OHM_OK_OR_FAIL(
        ohm_arena_add(arena, &id, "huge", (size_t)1 << 50, OHM_MEMORY_ACTIVATIONS, 0, 1));
    ck_assert_int_eq(ohm_arena_reserve(arena), OHM_ERR_MEMORY);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "activations 1073741824.0 MiB"));
    ohm_arena_destroy(arena);
    ohm_arena_destroy(NULL);
}

OHM_TEST(arena, wrong_lifetimes_are_refused)
{
    ohm_arena *arena;
    int id;
    OHM_OK_OR_FAIL(ohm_arena_create(&arena));
    ck_assert_int_eq(ohm_arena_add(arena, &id, "backwards", 4, OHM_MEMORY_WEIGHTS, 3, 2),
                     OHM_ERR_ARGUMENT);
    ck_assert_int_eq(ohm_arena_add(arena, &id, "absurd", SIZE_MAX, OHM_MEMORY_SAVED, 0, 1),
                     OHM_ERR_MEMORY);
    OHM_OK_OR_FAIL(ohm_arena_add(arena, &id, "grows", 4, OHM_MEMORY_WEIGHTS, 3, 3));
    OHM_OK_OR_FAIL(ohm_arena_extend(arena, id, 7));
    OHM_OK_OR_FAIL(ohm_arena_extend(arena, id, 1));
    ck_assert_int_eq(ohm_arena_span(arena, id).first, 1);
    ck_assert_int_eq(ohm_arena_span(arena, id).last, 7);
    ohm_arena_destroy(arena);
}

OHM_TEST(arena, checked_mode_sees_an_overrun_and_poisons_the_dead)
{
    ohm_arena *arena;
    int a, b;
    OHM_OK_OR_FAIL(ohm_arena_create(&arena));
    OHM_OK_OR_FAIL(ohm_arena_add(arena, &a, "first", 16, OHM_MEMORY_ACTIVATIONS, 0, 1));
    OHM_OK_OR_FAIL(ohm_arena_add(arena, &b, "second", 40, OHM_MEMORY_ACTIVATIONS, 1, 2));
    ck_assert_int_eq(ohm_arena_check(arena), OHM_ERR_ARGUMENT);
    OHM_OK_OR_FAIL(ohm_arena_check_writes(arena));
    OHM_OK_OR_FAIL(ohm_arena_reserve(arena));
    ohm_arena_tick(arena, 0);
    float *first = ohm_arena_at(arena, a), *second = ohm_arena_at(arena, b);
    first[3] = 1.0f;
    ohm_arena_tick(arena, 1);
    OHM_OK_OR_FAIL(ohm_arena_check(arena));
    ck_assert_float_eq(first[3], 1.0f);
    ohm_arena_tick(arena, 2);
    ck_assert(isnan(first[3]));
    OHM_OK_OR_FAIL(ohm_arena_check(arena));
    second[16] = 0.0f;
    ck_assert_int_eq(ohm_arena_check(arena), OHM_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "second"));
    ohm_arena_destroy(arena);
}
