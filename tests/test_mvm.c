/* The fast MVM against the scalar double reference, on the same cells and the same draws. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/mvm_task.h"
#include "tests/fixture_mvm.h"
#include "tests/runner.h"

enum { ROWS = 61 };

static void run_isa(ohm_isa isa, const fixture_chip *c, double *sums, const uint8_t *codes, int m)
{
    ohm_mvm_job job = {.g = &c->g,
                       .r = &c->read,
                       .w = &c->tiles,
                       .x_u = codes,
                       .ldx = c->g.k,
                       .m = m,
                       .first_row = 1000,
                       .to = {.raw = sums, .lds = c->g.n}};
    ohm_mvm_run(&job, ohm_mvm_task_of(isa), c->scratch);
}

/* Raw sums of an instruction set and of the reference. */
static void compare_read(ohm_isa isa, const char *settings, int k, int n, int m)
{
    fixture_mvm f;
    fixture_mvm_make(&f, settings, k, n, m);
    double *got = malloc((size_t)m * n * sizeof *got);
    run_isa(isa, &f.chip, got, f.codes, m);
    OHM_ASSERT(fixture_mvm_compare(&f, got));
    free(got);
    fixture_mvm_free(&f);
}

static void compare_all(ohm_isa isa, int k, int n, int m)
{
    for (int i = 0; i < FIXTURE_MAPPINGS; i++)
        for (int j = 0; j < FIXTURE_EFFECTS; j++) {
            char settings[1024];
            snprintf(settings, sizeof settings, "%s tile.rows=48 %s", fixture_mappings[i], fixture_effects[j]);
            compare_read(isa, settings, k, n, m);
        }
}

OHM_TEST(mvm, every_effect)
{
    compare_all(ohm_cpu_isa(), 50, 17, 5);
}

OHM_TEST_SLOW(mvm, odd_sizes)
{
    compare_all(ohm_cpu_isa(), 1, 1, 1);
    compare_all(ohm_cpu_isa(), 33, 31, 13);
    compare_all(ohm_cpu_isa(), 97, 130, 2);
    compare_all(ohm_cpu_isa(), 257, 3, 21);
}

OHM_TEST_SLOW(mvm, every_instruction_set)
{
    for (ohm_isa isa = OHM_ISA_BASE; isa <= ohm_cpu_isa(); isa++)
        compare_all(isa, 50, 49, 5);
}

/* Bits: threads, batch splits, and rows alone give the same sums. */
OHM_TEST(mvm, same_bits_however_cut)
{
    for (int i = 0; i < FIXTURE_MAPPINGS; i++)
        for (int j = 0; j < FIXTURE_EFFECTS; j++) {
            char settings[1024];
            fixture_chip c;
            int k = 70, n = 40, m = ROWS;
            snprintf(settings, sizeof settings, "%s tile.rows=32 %s", fixture_mappings[i], fixture_effects[j]);
            fixture_chip_make(&c, settings, k, n, 21, 0.3);
            double *x = malloc((size_t)m * k * sizeof *x),
                   *one = malloc((size_t)m * n * sizeof *one),
                   *two = malloc((size_t)m * n * sizeof *two);
            uint8_t *codes = malloc((size_t)m * k);
            fixture_drive(&c, x, codes, m, 5);
            omp_set_num_threads(1);
            ohm_mvm_raw_cpu(one, n, &c.g, &c.read, &c.tiles, codes, k, m, 64, c.scratch);
            omp_set_num_threads(2);
            ohm_mvm_raw_cpu(two, n, &c.g, &c.read, &c.tiles, codes, k, m, 64, c.scratch);
            OHM_ASSERT(ohm_compare_bits(two, one, (size_t)m * n));
            for (int row = 0, step = 1; row < m; row += step, step = step * 2 + 1) {
                int some = m - row < step ? m - row : step;
                ohm_mvm_raw_cpu(two + (size_t)row * n, n, &c.g, &c.read, &c.tiles,
                                codes + (size_t)row * k, k, some, 64 + (uint64_t)row, c.scratch);
            }
            OHM_ASSERT(ohm_compare_bits(two, one, (size_t)m * n));
            free(x);
            free(one);
            free(two);
            free(codes);
            fixture_chip_free(&c);
        }
}

OHM_TEST(mvm, ranges_and_histograms)
{
    for (int i = 0; i < FIXTURE_MAPPINGS; i++) {
        char settings[512];
        fixture_chip c;
        int k = 70, n = 40, m = 20;
        snprintf(settings, sizeof settings,
                 "%s tile.rows=32 programming.model=lognormal adc.bits=8 adc.range=max "
                 "adc.granularity=column",
                 fixture_mappings[i]);
        fixture_chip_make(&c, settings, k, n, 3, 0.3);
        size_t reads = ohm_read_count(&c.g), ranges = (size_t)c.g.planes * c.g.slices * n;
        double *x = malloc((size_t)m * k * sizeof *x), *sums = malloc((size_t)m * n * sizeof *sums),
               *analogue = malloc((size_t)m * n * reads * sizeof *analogue);
        uint8_t *codes = malloc((size_t)m * k);
        float *range = calloc(ranges, sizeof *range), *ref = calloc(ranges, sizeof *ref);
        uint32_t *histogram = calloc(ranges * 16, sizeof *histogram);
        fixture_drive(&c, x, codes, m, 5);
        ohm_mvm_ref(sums, &c.g, &c.read, &c.cells, x, m, 0, 1, 0, analogue);
        for (size_t row = 0; row < (size_t)m; row++)
            for (size_t r = 0; r < reads; r++)
                for (int j = 0; j < n; j++) {
                    size_t at = (r / ((size_t)c.g.tiles * ohm_arrays(&c.g)) %
                                 ((size_t)c.g.planes * c.g.slices)) *
                                    n +
                                j;
                    ref[at] = fmaxf(ref[at],
                                    (float)(fabs(analogue[(row * reads + r) * n + j]) * c.lsb[at]));
                }
        ohm_mvm_range_cpu(range, NULL, 0, 1, &c.g, &c.read, &c.tiles, codes, k, m, 0, c.scratch);
        int references =
            !c.g.differential &&
            c.g.digital; /* converted in the range of their tile's first column, which holds them */
        for (size_t at = 0; references && at < ranges; at++)
            if (at % (size_t)n % (size_t)c.g.tile_columns == 0) {
                ck_assert(range[at] >= ref[at] * (1.0f - 1e-5f));
                ref[at] = range[at];
            }
        OHM_ASSERT(ohm_compare_close(range, ref, ranges, 1e-4, 1e-5));
        ohm_mvm_range_cpu(range, histogram, 16, 1, &c.g, &c.read, &c.tiles, codes, k, m, 0,
                          c.scratch);
        uint64_t total = 0;
        for (size_t j = 0; j < ranges * 16; j++)
            total += histogram[j];
        ck_assert_uint_eq(total, (uint64_t)m * reads *
                                     (uint64_t)(n + (references ? c.g.column_tiles : 0)));
        free(x);
        free(sums);
        free(analogue);
        free(codes);
        free(range);
        free(ref);
        free(histogram);
        fixture_chip_free(&c);
    }
}
