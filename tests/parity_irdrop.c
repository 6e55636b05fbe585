/* Exact IR drop and its gradient on the device against the double-precision marches of the CPU. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/gemm.h"
#include "kernels/irdrop_adjoint.h"
#include "kernels/irdrop_adjoint_cuda.h"
#include "tests/parity.h"

typedef struct {
    int rows, columns, tiles;
    double g_max, word_line, bit_line, driver, sense;
    int drive_both, sense_both;
    int least; /* renormalisations that the steepest tile must count; of a gradient, borders */
} wired_tiles;

static ohm_crosspoint crosspoint(const wired_tiles *w)
{
    return (ohm_crosspoint){w->rows,
                            w->columns,
                            {.word_line = w->word_line,
                             .bit_line = w->bit_line,
                             .driver = w->driver,
                             .sense = w->sense,
                             .drive_both = w->drive_both,
                             .sense_both = w->sense_both}};
}

static double next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) / 16777216.0;
}

/* Tile after tile less of it is off, so that one launch holds gentle and steep ones. */
static void random_tiles(float *g, const wired_tiles *w, uint32_t seed)
{
    int cells = w->rows * w->columns;
    for (int i = 0; i < cells * w->tiles; i++) {
        double off = 1.0 - (i / cells + 1.0) / w->tiles * 0.7;
        g[i] = (float)(w->g_max * (next(&seed) < off ? 0.01 : 0.01 + 0.99 * next(&seed)));
    }
}

static ohm_verdict solve(const wired_tiles *w, int in_place)
{
    int cells = w->rows * w->columns, most = 0;
    ohm_crosspoint tile = crosspoint(w);
    size_t bytes = (size_t)cells * w->tiles * sizeof(float);
    float *g = malloc(bytes), *got = malloc(bytes);
    double *wide = malloc((size_t)cells * sizeof *wide);
    int *status = malloc((size_t)w->tiles * sizeof *status),
        *renormalised = malloc((size_t)w->tiles * sizeof *status);
    void *work = aligned_alloc(64, (ohm_irdrop_exact_bytes_f64(&tile) + 63) / 64 * 64);
    random_tiles(g, w, 7);
    float *from = parity_upload(g, bytes), *to = in_place ? from : parity_alloc(bytes);
    int *device_status = parity_alloc((size_t)w->tiles * sizeof *status),
        *counts = parity_alloc((size_t)w->tiles * sizeof *status);
    void *scratch = parity_alloc(ohm_irdrop_exact_cuda_bytes(&tile, w->tiles));
    PARITY_TRY(ohm_irdrop_exact_cuda(to, from, device_status, counts, &tile, w->tiles, scratch,
                                     parity_stream()));
    PARITY_TRY(parity_fetch(got, to, bytes));
    PARITY_TRY(parity_fetch(status, device_status, (size_t)w->tiles * sizeof *status));
    PARITY_TRY(parity_fetch(renormalised, counts, (size_t)w->tiles * sizeof *status));
    ohm_verdict verdict = {.pass = true};
    for (int t = 0; t < w->tiles; t++) {
        double error = 0.0, norm = 0.0;
        for (int i = 0; i < cells; i++)
            wide[i] = g[t * cells + i];
        ck_assert_int_eq(ohm_irdrop_exact_f64(wide, wide, &tile, work, NULL), OHM_SOLVE_OK);
        for (int i = 0; i < cells; i++) {
            error += (got[t * cells + i] - wide[i]) * (got[t * cells + i] - wide[i]);
            norm += wide[i] * wide[i];
        }
        most = renormalised[t] > most ? renormalised[t] : most;
        /* measured: 2.4e-6 at most, sensed at both ends and renormalised four times */
        if (status[t] != OHM_SOLVE_OK || !(sqrt(error / norm) < 5e-6)) {
            verdict.pass = false;
            snprintf(verdict.text, sizeof verdict.text,
                     "tile %d, %dx%d, word %g bit %g driver %g sense %g both %d%d: status %d, "
                     "error %.2g",
                     t, w->rows, w->columns, w->word_line, w->bit_line, w->driver, w->sense,
                     w->drive_both, w->sense_both, status[t], sqrt(error / norm));
        }
    }
    if (verdict.pass && most < w->least) {
        verdict.pass = false;
        snprintf(verdict.text, sizeof verdict.text, "%dx%d: %d renormalisations, %d expected",
                 w->rows, w->columns, most, w->least);
    }
    free(g);
    free(got);
    free(wide);
    free(status);
    free(renormalised);
    free(work);
    return verdict;
}

/* The gradient of every tile, by the tile's largest. */
static ohm_verdict follow(const wired_tiles *w)
{
    int cells = w->rows * w->columns, all = cells * w->tiles, most = 0;
    ohm_crosspoint tile = crosspoint(w);
    size_t bytes = (size_t)all * sizeof(float), each = (size_t)cells * sizeof(double);
    float *g = parity_host(bytes), *d_geff = parity_host(bytes), *got = parity_host(bytes);
    double *wide = parity_host(3 * each);
    int *status = parity_host((size_t)w->tiles * sizeof *status),
        *borders = parity_host((size_t)w->tiles * sizeof *borders);
    char *work = parity_host(ohm_irdrop_exact_adjoint_bytes_f64(&tile) + 63);
    work += -(uintptr_t)work % 64;
    uint32_t seed = 11;
    ohm_gemm_one_thread();
    random_tiles(g, w, 7);
    for (int i = 0; i < all; i++) {
        d_geff[i] = (float)(2.0 * next(&seed) - 1.0);
        got[i] = 0.0f;
    }
    float *dg = parity_upload(got, bytes);
    int *device_status = parity_alloc((size_t)w->tiles * sizeof *status),
        *counts = parity_alloc((size_t)w->tiles * sizeof *borders);
    void *scratch = parity_alloc(ohm_irdrop_adjoint_cuda_bytes(&tile, w->tiles));
    PARITY_TRY(ohm_irdrop_adjoint_cuda(dg, parity_upload(d_geff, bytes), parity_upload(g, bytes),
                                       device_status, counts, &tile, w->tiles, scratch,
                                       parity_stream()));
    PARITY_TRY(parity_fetch(got, dg, bytes));
    PARITY_TRY(parity_fetch(status, device_status, (size_t)w->tiles * sizeof *status));
    PARITY_TRY(parity_fetch(borders, counts, (size_t)w->tiles * sizeof *borders));
    for (int t = 0; t < w->tiles; t++) {
        double error = 0.0, norm = 0.0;
        for (int i = 0; i < cells; i++) {
            wide[i] = 0.0;
            wide[cells + i] = d_geff[t * cells + i];
            wide[2 * cells + i] = g[t * cells + i];
        }
        ck_assert_int_eq(ohm_irdrop_exact_adjoint_f64(wide, wide + cells, wide + 2 * cells, &tile,
                                                      work, NULL),
                         OHM_SOLVE_OK);
        for (int i = 0; i < cells; i++) {
            error = fmax(error, fabs(got[t * cells + i] - wide[i]));
            norm = fmax(norm, fabs(wide[i]));
        }
        most = borders[t] > most ? borders[t] : most;
        /* as of irdrop_adjoint_f32; measured: 2.7e-6 at most, 128x128 */
        if (status[t] != OHM_SOLVE_OK || !(error / norm < 1e-5)) {
            ohm_verdict verdict = {.pass = false};
            snprintf(verdict.text, sizeof verdict.text,
                     "gradient, tile %d, %dx%d, word %g bit %g driver %g sense %g both %d%d: status %d, "
                     "error %.2g",
                     t, w->rows, w->columns, w->word_line, w->bit_line, w->driver, w->sense,
                     w->drive_both, w->sense_both, status[t], error / norm);
            return verdict;
        }
    }
    return most < w->least ? parity_failed("fewer borders than expected") : parity_pass();
}

/* Both kernels, with every barrier that they pass: gentle and steep tiles, taller and wider than high. */
OHM_PARITY(irdrop_cuda, gentle_and_steep)
{
    static const wired_tiles tiles[] = {{37, 33, 2, 1e-3, 20.0, 10.0, 20.0, 10.0, 0, 0, 0},
                                        {20, 36, 3, 1e-3, 400.0, 300.0, 10.0, 5.0, 0, 0, 1},
                                        {17, 19, 1, 1e-3, 200.0, 300.0, 10.0, 5.0, 1, 1, 1},
                                        /* word lines alone are steep */
                                        {34, 34, 2, 1e-3, 300.0, 0.1, 0.0, 300.0, 0, 0, 0}};
    for (int i = 0; i < 4; i++)
        PARITY_CHECK(solve(&tiles[i], i & 1));
    return parity_pass();
}

/* Small tiles with resistances from 0 up, all ends. */
static ohm_verdict all_wirings(int step, int gradient)
{
    static const int shapes[][2] = {{1, 1}, {1, 5}, {5, 1}, {7, 4}};
    static const double ohms[] = {0.0, 1.0, 300.0};
    for (int i = 0; i < 4 * 27; i += step)
        for (int ends = i / 3 % 3; ends < 4; ends += 3) {
            wired_tiles w = {shapes[i % 4][0],
                             shapes[i % 4][1],
                             1,
                             1e-3,
                             ohms[i / 4 % 3],
                             ohms[i / 12 % 3],
                             ohms[i / 36],
                             ohms[(i + ends) % 3],
                             ends & 1,
                             ends >> 1,
                             0};
            if ((w.drive_both && w.driver + w.word_line == 0.0) ||
                (w.sense_both && w.sense + w.bit_line == 0.0))
                continue; /* how a loop without resistance shares its current is not determined */
            PARITY_CHECK(gradient ? follow(&w) : solve(&w, 0));
        }
    return parity_pass();
}

OHM_PARITY_ALONE(irdrop_cuda, every_wiring)
{
    return all_wirings(3, 0);
}

OHM_PARITY_ALONE(irdrop_adjoint_cuda, every_wiring)
{
    return all_wirings(3, 1);
}

/* Float and double, with every barrier that they pass: gentle, steep and steeper tiles in one call. */
OHM_PARITY(irdrop_adjoint_cuda, gentle_and_steep)
{
    static const wired_tiles tiles[] = {{37, 33, 2, 1e-4, 20.0, 10.0, 20.0, 10.0, 0, 0, 0},
                                        {20, 36, 3, 1e-3, 400.0, 300.0, 10.0, 5.0, 0, 0, 1},
                                        {17, 9, 1, 1e-3, 2e4, 2e4, 10.0, 5.0, 0, 1, 2},
                                        {6, 5, 1, 1e-3, 10.0, 10.0, 10.0, 5.0, 1, 0, 0}};
    for (int i = 0; i < 4; i++)
        PARITY_CHECK(follow(&tiles[i]));
    return parity_pass();
}

OHM_PARITY_SLOW(irdrop_cuda, larger_tiles)
{
    static const wired_tiles tiles[] = {{128, 128, 1, 1e-4, 1.0, 1.0, 0.0, 0.0, 0, 0, 0},
                                        {130, 128, 1, 1e-3, 3.0, 3.0, 0.0, 0.0, 0, 0, 0},
                                        {64, 150, 2, 1e-4, 1.0, 2.0, 50.0, 0.0, 0, 0, 0},
                                        {100, 100, 1, 1e-3, 10.0, 10.0, 0.0, 0.0, 1, 1, 1},
                                        {70, 60, 1, 1e-3, 100.0, 100.0, 0.0, 0.0, 0, 1, 1},
                                        {140, 135, 1, 1e-3, 10.0, 10.0, 0.0, 0.0, 1, 0, 1}};
    for (int i = 0; i < 6; i++)
        PARITY_CHECK(solve(&tiles[i], i & 1));
    return parity_pass();
}

OHM_PARITY_SLOW(irdrop_adjoint_cuda, larger_tiles)
{
    static const wired_tiles tiles[] = {{128, 128, 1, 1e-4, 1.0, 1.0, 0.0, 0.0, 0, 0, 0},
                                        {64, 150, 2, 1e-4, 1.0, 2.0, 50.0, 0.0, 0, 0, 0},
                                        {50, 100, 3, 1e-4, 2.0, 1.0, 0.0, 10.0, 0, 0, 0},
                                        {130, 132, 1, 1e-4, 1.0, 1.0, 0.0, 0.0, 0, 0, 0},
                                        {60, 60, 1, 1e-3, 10.0, 10.0, 0.0, 0.0, 1, 1, 0},
                                        {70, 60, 1, 1e-3, 100.0, 100.0, 0.0, 0.0, 0, 1, 1},
                                        /* drivers and amplifiers that take most of the voltage */
                                        {30, 64, 1, 1e-3, 0.1, 0.1, 600.0, 60.0, 0, 0, 0},
                                        {64, 30, 1, 1e-3, 0.1, 0.1, 1e4, 1e4, 0, 0, 0},
                                        /* more segments than starts are kept for */
                                        {40, 12, 1, 1.0, 1e4, 1e4, 0.0, 0.0, 0, 0, 12},
                                        {34, 34, 1, 1e-3, 300.0, 0.1, 0.0, 300.0, 0, 0, 0},
                                        {45, 50, 1, 1e-3, 10.0, 10.0, 0.0, 0.0, 1, 0, 0}};
    for (int i = 0; i < 11; i++)
        PARITY_CHECK(follow(&tiles[i]));
    return all_wirings(1, 1);
}

/* One bad tile is named and spoils no other; a bad wire is refused before anything is launched. */
OHM_PARITY_ALONE(irdrop_cuda, refuses_what_is_no_circuit)
{
    static const float bad[] = {-1e-9f, NAN, INFINITY};
    for (int ends = 0; ends < 2; ends++)
        for (int i = 0; i < 3; i++) {
            float g[12] = {1e-5f, 2e-5f, 3e-5f, 4e-5f, 1e-5f, 2e-5f,
                           3e-5f, 4e-5f, 1e-5f, 2e-5f, 3e-5f, 4e-5f},
                  got[12];
            int status[3];
            g[6] = bad[i];
            ohm_crosspoint tile = {2, 2, {.word_line = 1.0, .bit_line = 1.0, .drive_both = ends}};
            float *from = parity_upload(g, sizeof g), *to = parity_alloc(sizeof g);
            int *device_status = parity_alloc(sizeof status);
            void *scratch = parity_alloc(ohm_irdrop_exact_cuda_bytes(&tile, 3));
            PARITY_TRY(ohm_irdrop_exact_cuda(to, from, device_status, NULL, &tile, 3, scratch,
                                             parity_stream()));
            PARITY_TRY(parity_fetch(status, device_status, sizeof status));
            PARITY_TRY(parity_fetch(got, to, sizeof got));
            if (status[0] != OHM_SOLVE_OK || status[1] != OHM_SOLVE_NOT_FINITE ||
                status[2] != OHM_SOLVE_OK)
                return parity_failed("statuses");
            PARITY_CHECK(ohm_compare_bits(got + 8, got, 4));
            tile.wires.sense = (double)bad[i];
            if (ohm_irdrop_exact_cuda(to, from, device_status, NULL, &tile, 3, scratch,
                                      parity_stream()) != OHM_CUDA_ARGUMENT)
                return parity_failed("a bad wire was taken");
        }
    return parity_pass();
}

/* Gradients are added; one bad tile of a kind is named, keeps its own and spoils no other. */
OHM_PARITY_ALONE(irdrop_adjoint_cuda, adds_or_leaves_alone)
{
    static const float bad[] = {-1e-9f, NAN, INFINITY};
    for (int i = 0; i < 3 * 2 * 2; i++) {
        int ends = i & 1, of_gradient = i >> 1 & 1;
        float value = bad[i / 4], g[12], d_geff[12], before[12], once[12], twice[12];
        int status[3];
        for (int cell = 0; cell < 12; cell++) {
            g[cell] = 1e-3f * (float)(1 + cell % 4);
            d_geff[cell] = (float)(cell % 4) - 1.5f;
            before[cell] = 0.0f;
        }
        ohm_crosspoint tile = {2, 2, {.word_line = 30.0, .bit_line = 20.0, .drive_both = ends}};
        float *to = parity_upload(before, sizeof before), *good = parity_upload(g, sizeof g),
              *good_gradient = parity_upload(d_geff, sizeof d_geff);
        int *device_status = parity_alloc(sizeof status);
        void *scratch = parity_alloc(ohm_irdrop_adjoint_cuda_bytes(&tile, 3));
        PARITY_TRY(ohm_irdrop_adjoint_cuda(to, good_gradient, good, device_status, NULL, &tile, 3,
                                           scratch, parity_stream()));
        PARITY_TRY(parity_fetch(once, to, sizeof once));
        if (of_gradient && value < 0.0f)
            value = -INFINITY; /* a gradient may be negative */
        (of_gradient ? d_geff : g)[6] = value;
        PARITY_TRY(ohm_irdrop_adjoint_cuda(to, parity_upload(d_geff, sizeof d_geff),
                                           parity_upload(g, sizeof g), device_status, NULL, &tile,
                                           3, scratch, parity_stream()));
        PARITY_TRY(parity_fetch(twice, to, sizeof twice));
        PARITY_TRY(parity_fetch(status, device_status, sizeof status));
        if (status[0] != OHM_SOLVE_OK || status[1] != OHM_SOLVE_NOT_FINITE ||
            status[2] != OHM_SOLVE_OK)
            return parity_failed("statuses");
        PARITY_CHECK(ohm_compare_bits(once + 8, once, 4));
        PARITY_CHECK(ohm_compare_bits(twice + 4, once + 4, 4));
        for (int cell = 0; cell < 4; cell++)
            once[cell] *= 2.0f;
        PARITY_CHECK(ohm_compare_bits(twice, once, 4));
        PARITY_CHECK(ohm_compare_bits(twice + 8, once, 4));
        tile.wires.sense = (double)bad[i / 4];
        if (ohm_irdrop_adjoint_cuda(to, good_gradient, good, device_status, NULL, &tile, 3, scratch,
                                    parity_stream()) != OHM_CUDA_ARGUMENT)
            return parity_failed("a bad wire was taken");
    }
    return parity_pass();
}
