/* Exact IR drop of many tiles, threads over tiles. */
#include <stdint.h>

#include "kernels/irdrop_exact.h"

#include <omp.h>

enum { ALIGN = 64 };

static size_t per_thread(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static int team(size_t tiles, int threads)
{
    int most = threads > 0 ? threads : omp_get_max_threads();
    return tiles < (size_t)most ? tiles ? (int)tiles : 1 : most;
}

/* Threads write only what is theirs; what they found is put together in the order of tiles. */
#define DEFINE_BATCH(REAL, SUFFIX)                                                                 \
    size_t ohm_irdrop_exact_batch_bytes##SUFFIX(size_t tiles, const ohm_crosspoint *tile,          \
                                                int threads)                                       \
    {                                                                                              \
        return (size_t)team(tiles, threads) * per_thread(ohm_irdrop_exact_bytes##SUFFIX(tile)) +   \
               ALIGN;                                                                              \
    }                                                                                              \
    ohm_solve_status ohm_irdrop_exact_batch##SUFFIX(                                               \
        REAL *g_eff, const REAL *g, size_t tiles, const ohm_crosspoint *tile, int threads,         \
        void *scratch, size_t *failed, ohm_solve_report *report)                                   \
    {                                                                                              \
        size_t cells = (size_t)tile->rows * tile->columns, first = tiles;                          \
        size_t bytes = per_thread(ohm_irdrop_exact_bytes##SUFFIX(tile));                           \
        char *base = (char *)(((uintptr_t)scratch + ALIGN - 1) / ALIGN * ALIGN);                   \
        ohm_solve_status status = OHM_SOLVE_OK;                                                    \
        int renormalised = 0;                                                                      \
        _Pragma("omp parallel for num_threads(team(tiles, threads)) schedule(dynamic, 1)           \
                    reduction(+ : renormalised)")                                                  \
        for (size_t i = 0; i < tiles; i++) {                                                       \
            ohm_solve_report one = {0};                                                            \
            ohm_solve_status found = ohm_irdrop_exact##SUFFIX(                                     \
                g_eff + i * cells, g + i * cells, tile,                                            \
                base + bytes * (size_t)omp_get_thread_num(), &one);                                \
            renormalised += one.renormalised;                                                      \
            if (found != OHM_SOLVE_OK) {                                                           \
                _Pragma("omp critical(ohm_irdrop_batch)") if (i < first)                           \
                {                                                                                  \
                    first = i;                                                                     \
                    status = found;                                                                \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        if (failed)                                                                                \
            *failed = first;                                                                       \
        if (report)                                                                                \
            *report = (ohm_solve_report){.renormalised = renormalised};                            \
        return status;                                                                             \
    }
DEFINE_BATCH(float, _f32)
DEFINE_BATCH(double, _f64)
