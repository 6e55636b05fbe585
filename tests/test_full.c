/* Mode full: the gradient of the noisy forward against finite differences of the double reference
 * with rounding off, every effect on (physics.md section 7). */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/mvm_backward.h"
#include "tests/compare.h"
#include "tests/fixture_chip.h"
#include "tests/runner.h"

typedef struct {
    fixture_chip c;
    int m;
    double *x, *levels, *sums, *direction; /* direction: d loss / d sum */
} problem;

/* Loss of the reference at x and real levels. */
static double loss_of(problem *p)
{
    ohm_program_ref(&p->c.cells, &p->c.g, &p->c.programming, &p->c.law, p->levels, p->c.ref_level);
    ohm_mvm_ref(p->sums, &p->c.g, &p->c.read, &p->c.cells, p->x, p->m, 50, 0, 0, NULL);
    double loss = 0.0;
    for (int i = 0; i < p->m * p->c.g.n; i++)
        loss += p->direction[i] * p->sums[i];
    return loss;
}

/* A one-sided difference of fourth order: levels and magnitudes of x may not fall below a whole digit. */
static double slope_at(problem *p, double *variable, double h)
{
    static const double weight[] = {-25.0 / 12.0, 4.0, -3.0, 4.0 / 3.0, -0.25};
    double keep = *variable, sum = 0.0;
    for (int i = 0; i < 5; i++) {
        *variable = keep + i * h;
        sum += weight[i] * loss_of(p);
    }
    *variable = keep;
    return sum / h;
}

/* Factors of rows of codes, in guarded memory of just their size: as a read with sums writes them, which
 * must be what one without writes. */
static void *factors_of(const fixture_chip *c, const uint8_t *codes, int m, uint64_t first_row)
{
    size_t bytes = (size_t)m * ohm_mvm_factors_of(&c->g, &c->read).row_bytes;
    void *factors = ohm_guard_alloc(bytes, 1), *alone = ohm_guard_alloc(bytes, 1);
    if (c->cells.network)
        return ohm_guard_free(alone), factors;
    float *sums = malloc((size_t)m * c->g.n * sizeof *sums),
          *plain = malloc((size_t)m * c->g.n * sizeof *plain);
    void *scratch = malloc(ohm_mvm_scratch_bytes(&c->g));
    const ohm_mvm_result both = {.sums = sums, .lds = c->g.n, .factors = factors};
    const ohm_mvm_result one = {.factors = alone};
    ohm_mvm_read_cpu(&both, &c->g, &c->read, &c->tiles, codes, c->g.k, m, first_row, scratch);
    ohm_mvm_read_cpu(&one, &c->g, &c->read, &c->tiles, codes, c->g.k, m, first_row, scratch);
    ohm_mvm_cpu(plain, c->g.n, &c->g, &c->read, &c->tiles, codes, c->g.k, m, first_row, scratch);
    OHM_ASSERT(ohm_compare_guards(factors));
    OHM_ASSERT(ohm_compare_guards(alone));
    ck_assert_mem_eq(factors, alone, bytes);
    ck_assert_mem_eq(sums, plain, (size_t)m * c->g.n * sizeof *sums);
    free(sums);
    free(plain);
    free(scratch);
    ohm_guard_free(alone);
    return factors;
}

static void check(const char *settings, int m, int k, int n)
{
    problem p = {.m = m};
    fixture_chip_make(&p.c, settings, k, n, 6, 0.15);
    const ohm_geometry *g = &p.c.g;
    size_t cells = (size_t)k * n, all = cells * (size_t)g->slices * p.c.shape.signs;
    uint8_t *codes = malloc((size_t)m * k);
    float *random = malloc((size_t)m * (k > n ? k : n) * sizeof *random),
          *dsums = malloc((size_t)m * n * sizeof *dsums);
    float *dx = malloc((size_t)m * k * sizeof *dx), *dw = calloc(cells, sizeof *dw);
    double *dx_ref = malloc((size_t)m * k * sizeof *dx_ref),
           *dw_ref = malloc(cells * sizeof *dw_ref);
    p.x = malloc((size_t)m * k * sizeof *p.x);
    p.levels = malloc(all * sizeof *p.levels);
    p.sums = malloc((size_t)m * n * sizeof *p.sums);
    p.direction = malloc((size_t)m * n * sizeof *p.direction);
    memcpy(p.levels, p.c.real_levels, all * sizeof *p.levels);
    fixture_drive(&p.c, p.x, codes, m, 31);
    fixture_reals(random, (size_t)m * k, 8);
    for (int i = 0; p.c.cells.network && i < m * k; i++) /* inside a code: gated rows jump at its border */
        p.x[i] = p.x[i] < 0.0 ? p.x[i] + 0.5 - 0.3 * random[i]
                              : fmax(p.x[i] - 1.0, 0.0) + 0.5 + 0.3 * random[i];
    fixture_reals(random, (size_t)m * n, 9);
    for (int i = 0; i < m * n; i++)
        p.direction[i] = dsums[i] = random[i];

    ohm_mvm_gradient d = {.x_u = codes,
                          .ldx = k,
                          .x = p.x,
                          .m = m,
                          .first_row = 50,
                          .factors = factors_of(&p.c, codes, m, 50),
                          .dsums = dsums,
                          .ldd = n,
                          .dx = dx,
                          .lddx = k,
                          .cells = &p.c.gradient};
    if (p.c.cells.network) {
        void *scratch = malloc(ohm_mvm_network_backward_bytes(g, p.c.cells.network));
        ohm_read_failure failure;
        ck_assert_int_eq(ohm_mvm_network_backward(&d, g, &p.c.read, &p.c.cells, scratch, &failure),
                         OHM_SOLVE_OK);
        free(scratch);
    } else
        ohm_mvm_backward(&d, g, &p.c.read, &p.c.tiles, p.c.johnson, p.c.scratch);
    ck_assert_int_eq(ohm_mvm_finish_gradient(dw, &p.c.gradient, p.c.negative, g, &p.c.programming,
                                             &p.c.law, p.c.scratch),
                     OHM_SOLVE_OK);

    for (int i = 0; i < m * k; i++)
        dx_ref[i] = slope_at(&p, &p.x[i], p.x[i] < 0.0 ? -1e-4 : 1e-4);
    for (int column = 0; column < n; column++)
        for (int row = 0; row < k; row++) {
            size_t cell = (size_t)row * n + column;
            int negative = p.c.negative[cell];
            double slope = slope_at(&p, &p.levels[negative * cells + cell], 1e-4);
            dw_ref[(size_t)column * k + row] = negative ? -slope : slope;
        }
    double largest_x = 0.0, largest_w = 0.0;
    for (int i = 0; i < m * k; i++)
        largest_x = fmax(largest_x, fabs(dx_ref[i]));
    for (size_t i = 0; i < cells; i++)
        largest_w = fmax(largest_w, fabs(dw_ref[i]));
    ohm_verdict vx = ohm_compare_close(dx, dx_ref, (size_t)m * k, 2e-5 * largest_x, 1e-3),
                vw = ohm_compare_close(dw, dw_ref, cells, 2e-5 * largest_w, 1e-3);
    ck_assert_msg(vx.pass, "dx, %s: %s", settings, vx.text);
    ck_assert_msg(vw.pass, "dw, %s: %s", settings, vw.text);
    ohm_guard_free((void *)d.factors);
    free(codes);
    free(random);
    free(dsums);
    free(dx);
    free(dw);
    free(dx_ref);
    free(dw_ref);
    free(p.x);
    free(p.levels);
    free(p.sums);
    free(p.direction);
    fixture_chip_free(&p.c);
}

static const char *const mappings[] = {
    "input.encoding=offset weight.encoding=differential weight.cell_bits=4 input.dac_bits=4",
    "input.encoding=offset weight.encoding=differential weight.cell_bits=7 input.dac_bits=8 "
    "tile.pair=interleaved",
    "input.encoding=two_phase weight.encoding=differential weight.subtract=digital "
    "weight.cell_bits=4 input.dac_bits=7",
    "input.encoding=sign_magnitude weight.encoding=offset weight.cell_bits=4 input.dac_bits=4 "
    "tile.cols=6",
    "input.encoding=unsigned weight.encoding=offset weight.subtract=digital weight.cell_bits=8 "
    "input.dac_bits=4 tile.cols=6",
};
/* Up to half of the voltage lost on tiles of 6 x 8. */
#define EXACT "ir_drop.model=exact ir_drop.r_wordline_ohm=900 ir_drop.r_bitline_ohm=700 "
static const char *const effects[] = {
    "adc.bits=0",
    "adc.bits=8 adc.range=max",
    "adc.bits=0 programming.model=polynomial programming.coefficients_us=[0.3,2,-1.2] "
    "read.model=polynomial read.coefficients_us=[0.3,1.4,-0.8]",
    "adc.bits=8 adc.range=max programming.model=lognormal read.model=pcm read.sigma=0.05 "
    "adc.noise_lsb=0.5 temperature.johnson_bandwidth_hz=1e9",
    "adc.bits=8 adc.range=max cell.iv=sinh cell.iv_coefficient=4 input.noise=0.2 input.inl=0.1 "
    "read.model=constant read.sigma=0.02",
    ("adc.bits=8 adc.range=max adc.granularity=column adc.gain_sigma=0.03 adc.offset_sigma_lsb=1 "
     "adc.inl_lsb=0.7 "
     "output.s_shape=0.3 read.model=proportional read.sigma=0.05 adc.noise_lsb=0.5"),
    "adc.bits=8 adc.range=max ir_drop.model=closed_form ir_drop.r_wordline_ohm=30 "
    "ir_drop.r_bitline_ohm=30 ir_drop.r_driver_ohm=100 cell.on_off=10",
    "adc.bits=8 adc.range=max ir_drop.model=closed_form ir_drop.r_wordline_ohm=0 "
    "ir_drop.r_bitline_ohm=90 read.model=pcm read.sigma=0.05",
    "adc.bits=0 " EXACT "ir_drop.r_driver_ohm=100 ir_drop.r_sense_ohm=200",
    "adc.bits=8 adc.range=max " EXACT "ir_drop.drive=both_ends ir_drop.sense=both_ends "
    "programming.model=lognormal read.model=polynomial read.coefficients_us=[0.3,1.4,-0.8] "
    "temperature.johnson_bandwidth_hz=1e9",
    "adc.bits=8 adc.range=max " EXACT "ir_drop.sense=both_ends ir_drop.r_bitline_ohm=0 "
    "ir_drop.r_sense_ohm=400 tile.rows=9 tile.split=even read.model=constant read.sigma=0.02",
};
static const char every_effect[] =
    "adc.bits=9 adc.range=max adc.noise_lsb=0.4 adc.gain_sigma=0.02 adc.offset_sigma_lsb=0.5 "
    "adc.inl_lsb=0.5 output.s_shape=0.2 "
    "programming.model=pcm retention.model=pcm retention.one_over_f=true retention.time_s=3600 "
    "read.model=pcm read.sigma=0.0175 "
    "temperature.kelvin=330 temperature.activation_ev=0.05 temperature.johnson_bandwidth_hz=1e8 "
    "faults.stuck_off=0.05 faults.stuck_on=0.05 "
    "input.noise=0.1 input.inl=0.1 cell.iv=cubic cell.iv_coefficient=2";

static void check_each(int m, int k, int n)
{
    for (size_t i = 0; i < sizeof mappings / sizeof *mappings; i++)
        for (size_t j = 0; j < sizeof effects / sizeof *effects; j++) {
            char settings[1024];
            snprintf(settings, sizeof settings, "tile.rows=6 tile.cols=8 %s %s", mappings[i],
                     effects[j]);
            check(settings, m, k, n);
        }
}

OHM_TEST_SLOW(full, each_effect_small)
{
    check_each(2, 4, 2);
}

OHM_TEST_SLOW(full, each_effect)
{
    check_each(2, 7, 5);
}

OHM_TEST_SLOW(full, every_effect_on)
{
    for (size_t i = 0; i < sizeof mappings / sizeof *mappings; i++) {
        char settings[1024];
        snprintf(settings, sizeof settings, "tile.rows=6 tile.cols=8 %s %s", mappings[i],
                 every_effect);
        check(settings, 3, 13, 7);
        snprintf(settings, sizeof settings,
                 "tile.rows=6 tile.cols=8 %s %s ir_drop.model=closed_form "
                 "ir_drop.r_wordline_ohm=20 ir_drop.r_bitline_ohm=20",
                 mappings[i], every_effect);
        check(settings, 2, 9, 7);
        snprintf(settings, sizeof settings, "tile.rows=6 tile.cols=8 %s %s cell.iv=linear %s",
                 mappings[i], every_effect, EXACT);
        check(settings, 2, 9, 7);
    }
}

/* Wires solved for every read: gated rows, cells that are not linear. */
static const char *const solved[] = {
    "adc.bits=0 ir_drop.zero_input=gated", "adc.bits=0 cell.iv=sinh cell.iv_coefficient=10",
    "adc.bits=8 adc.range=max cell.iv=cubic cell.iv_coefficient=3 ir_drop.zero_input=gated "
    "programming.model=lognormal read.model=polynomial read.coefficients_us=[0.3,1.4,-0.8] "
    "temperature.johnson_bandwidth_hz=1e9",
    "adc.bits=8 adc.range=max adc.granularity=column adc.gain_sigma=0.03 adc.offset_sigma_lsb=1 "
    "adc.inl_lsb=0.7 output.s_shape=0.3 read.model=proportional read.sigma=0.05 adc.noise_lsb=0.5 "
    "cell.iv=sinh cell.iv_coefficient=20 input.noise=0.2 input.inl=0.1 ir_drop.sense=both_ends",
    "adc.bits=8 adc.range=max adc.noise_lsb=0.5 read.model=pcm read.sigma=0.05 "
    "ir_drop.zero_input=gated ir_drop.drive=both_ends ir_drop.r_wordline_ohm=0 "
    "ir_drop.r_driver_ohm=350"};

static void check_solved(int m, int k, int n)
{
    for (size_t i = 0; i < sizeof mappings / sizeof *mappings; i++)
        for (size_t j = 0; j < sizeof solved / sizeof *solved; j++) {
            char settings[1024];
            snprintf(settings, sizeof settings,
                     "tile.rows=6 tile.cols=8 %s ir_drop.model=exact ir_drop.r_wordline_ohm=40 "
                     "ir_drop.r_bitline_ohm=30 cell.g_max_us=100 %s",
                     mappings[i], solved[j]);
            check(settings, m, k, n);
        }
}

OHM_TEST_SLOW(full, wires_solved_per_read_small)
{
    check_solved(2, 4, 2);
}

OHM_TEST_SLOW(full, wires_solved_per_read)
{
    check_solved(2, 9, 5);
}

static void check_threads(const char *settings)
{
    fixture_chip c;
    int m = 300, k = 150, n = 40;
    fixture_chip_make(&c, settings, k, n, 6, 0.3);
    uint8_t *codes = malloc((size_t)m * k);
    double *x = malloc((size_t)m * k * sizeof *x);
    float *dsums = malloc((size_t)m * n * sizeof *dsums), *dx[2], *dw[2];
    fixture_drive(&c, x, codes, m, 3);
    fixture_reals(dsums, (size_t)m * n, 4);
    for (int i = 0; i < 2; i++) {
        dx[i] = calloc((size_t)m * k, sizeof(float));
        dw[i] = calloc((size_t)n * k, sizeof(float));
        omp_set_num_threads(i + 1);
        size_t bytes = ohm_mvm_backward_scratch_bytes(&c.g, &c.read, m);
        void *scratch = malloc(bytes + ohm_mvm_finish_scratch_bytes(&c.g, &c.programming));
        ohm_mvm_gradient d = {.x_u = codes,
                              .ldx = k,
                              .factors = factors_of(&c, codes, m, 0),
                              .m = m,
                              .dsums = dsums,
                              .ldd = n,
                              .dx = dx[i],
                              .lddx = k,
                              .cells = &c.gradient};
        ohm_mvm_backward(&d, &c.g, &c.read, &c.tiles, c.johnson, scratch);
        ohm_mvm_finish_gradient(dw[i], &c.gradient, c.negative, &c.g, &c.programming, &c.law,
                                scratch);
        free(scratch);
        ohm_guard_free((void *)d.factors);
    }
    OHM_ASSERT(ohm_compare_bits(dx[1], dx[0], (size_t)m * k));
    OHM_ASSERT(ohm_compare_bits(dw[1], dw[0], (size_t)n * k));
    for (int i = 0; i < 2; i++) {
        free(dx[i]);
        free(dw[i]);
    }
    free(codes);
    free(x);
    free(dsums);
    fixture_chip_free(&c);
}

OHM_TEST(full, same_bits_for_any_thread_count)
{
    check_threads("tile.rows=64 adc.bits=8 adc.range=max programming.model=lognormal "
                  "read.model=pcm read.sigma=0.0175");
    check_threads("tile.rows=64 tile.cols=32 adc.bits=8 adc.range=max ir_drop.model=exact "
                  "ir_drop.r_wordline_ohm=5 tile.pair=interleaved read.model=pcm read.sigma=0.01");
}

enum { LAYER_M = 20, LAYER_K = 40, LAYER_N = 12, LAYER_CHUNK = 16 };

/* Gradients of a whole layer, in two chunks. */
typedef struct {
    float dw[LAYER_K * LAYER_N], dx[LAYER_M * LAYER_K], db[LAYER_N], dcolumn[LAYER_N], drange;
    float y[LAYER_M * LAYER_N], dy[LAYER_M * LAYER_N], bias[LAYER_N];
} layer_gradients;

/* At w, into guarded memory of just the planned size. column [n]: output scales, where they are learned. */
static void layer_backward(layer_gradients *to, const char *settings, ohm_chip_use use,
                           const float *column)
{
    enum { M = LAYER_M, K = LAYER_K, N = LAYER_N };
    ohm_hardware hardware;
    ohm_noisy *noisy;
    fixture_layer layer;
    float *dy = to->dy, range = 0.8f;
    size_t kept = 0;
    fixture_hardware(&hardware, settings);
    fixture_layer_make(&layer, M, K, N);
    for (int i = 0; hardware.input.encoding == OHM_INPUT_UNSIGNED && i < M * K; i++)
        layer.x[i] = fabsf(layer.x[i]);
    memset(to, 0, sizeof *to);
    fixture_reals(dy, M * N, 12);
    fixture_reals(layer.bias, N, 14);
    memcpy(to->bias, layer.bias, sizeof to->bias);
    OHM_OK_OR_FAIL(ohm_noisy_create(&noisy, NULL, &hardware, K, N, 3));
    if (use == OHM_CHIP_SAVE)
        OHM_OK_OR_FAIL(ohm_noisy_kept_bytes(noisy, M, &kept));
    int scales = ohm_noisy_has_column_scale(noisy), ranges = ohm_noisy_has_learned_range(noisy);
    ohm_noisy_pass pass = {.w = layer.w,
                           .bias = layer.bias,
                           .column_scale = scales ? column : NULL,
                           .x = layer.x,
                           .x_count = M * K,
                           .x_range = ranges ? &range : NULL,
                           .moment = {.time_s = hardware.retention.time_s},
                           .want_gradient = use,
                           .kept = ohm_guard_alloc(kept, 1),
                           .first_row = 300,
                           .persistent = calloc(ohm_noisy_persistent_count(noisy), sizeof(float)),
                           .state = ohm_guard_alloc(ohm_noisy_state_bytes(noisy, use), 1),
                           .scratch =
                               ohm_guard_alloc(ohm_noisy_scratch_bytes(noisy, LAYER_CHUNK, use), 1)};
    OHM_OK_OR_FAIL(ohm_noisy_begin(noisy, &pass));
    for (int backward = 0; backward < 2; backward++)
        for (int row = 0; row < M; row += LAYER_CHUNK) {
            int m = M - row < LAYER_CHUNK ? M - row : LAYER_CHUNK, last = row + m == M;
            const float *x = layer.x + (size_t)row * K;
            OHM_OK_OR_FAIL(
                backward ? ohm_noisy_backward_rows(noisy, to->dx + row * K, K, to->dw, to->db,
                                                   ranges ? &to->drange : NULL,
                                                   scales ? to->dcolumn : NULL, dy + row * N, N,
                                                   use == OHM_CHIP_SAVE ? layer.y + row * N : NULL,
                                                   N, x, K, NULL, 0, m, 300 + (uint64_t)row, last)
                         : ohm_noisy_rows(noisy, layer.y + row * N, N, x, K, m, 300 + (uint64_t)row));
        }
    ohm_noisy_end(noisy);
    memcpy(to->y, layer.y, sizeof to->y);
    OHM_ASSERT(ohm_compare_guards(pass.state));
    OHM_ASSERT(ohm_compare_guards(pass.scratch));
    OHM_ASSERT(ohm_compare_guards(pass.kept));
    ohm_guard_free(pass.state);
    ohm_guard_free(pass.scratch);
    ohm_guard_free(pass.kept);
    free(pass.persistent);
    ohm_noisy_destroy(noisy);
    fixture_layer_free(&layer);
}

static void layer_gradient(float *dw, const char *settings)
{
    static layer_gradients all;
    layer_backward(&all, settings, OHM_CHIP_RECOMPUTE, NULL);
    memcpy(dw, all.dw, sizeof all.dw);
}

/* Reads that are kept, and reads drawn again: the same gradients to the bit. */
static void check_memories(const char *settings, const float *column)
{
    static layer_gradients again, saved;
    layer_backward(&again, settings, OHM_CHIP_RECOMPUTE, column);
    layer_backward(&saved, settings, OHM_CHIP_SAVE, column);
    double size = 0.0;
    for (int i = 0; i < LAYER_K * LAYER_N; i++)
        size += fabsf(again.dw[i]);
    ck_assert_msg(size > 0.0 && memcmp(&again, &saved, sizeof again) == 0, "%s: gradients differ",
                  settings);
}

OHM_TEST_SLOW(full, both_memories_give_the_same_bits)
{
    static const char learned[] = "quantise.x_range=learned output.per_column_scale=true";
    float column[LAYER_N];
    fixture_reals(column, LAYER_N, 13);
    for (size_t i = 0; i < sizeof mappings / sizeof *mappings; i++)
        for (size_t j = 0; j < sizeof effects / sizeof *effects; j++) {
            char settings[1024];
            if (strstr(effects[j], "input.noise")) /* whose noise is not kept */
                continue;
            snprintf(settings, sizeof settings, "tile.rows=16 tile.cols=8 %s %s %s", mappings[i],
                     effects[j], i % 2 ? learned : "");
            column[3] = j % 2 ? 0.0f : 0.5f; /* of 0, whose outputs do not tell their sums */
            check_memories(settings, column);
        }
}

/* A column's scale gets what stands beside it: the output at scale 1, without bias. */
OHM_TEST(full, a_learned_scale_gets_its_output)
{
    static const char settings[] =
        "tile.rows=16 tile.cols=8 output.per_column_scale=true adc.bits=8 adc.range=max "
        "read.model=pcm read.sigma=0.05 quantise.x_granularity=row";
    static layer_gradients plain, scaled;
    float column[LAYER_N], one[LAYER_N];
    double wanted[LAYER_N] = {0};
    fixture_reals(column, LAYER_N, 13);
    for (int n = 0; n < LAYER_N; n++)
        one[n] = 1.0f;
    layer_backward(&plain, settings, OHM_CHIP_RECOMPUTE, one);
    for (int i = 0; i < LAYER_M * LAYER_N; i++)
        wanted[i % LAYER_N] += plain.dy[i] * ((double)plain.y[i] - plain.bias[i % LAYER_N]);
    for (int dead = 0; dead < 2; dead++)
        for (int use = OHM_CHIP_RECOMPUTE; use <= OHM_CHIP_SAVE; use++) {
            column[5] = dead ? 0.0f : 0.3f;
            layer_backward(&scaled, settings, (ohm_chip_use)use, column);
            OHM_ASSERT(ohm_compare_close(scaled.dcolumn, wanted, LAYER_N, 1e-5, 1e-4));
        }
}

/* What mvm_factors.h says a conversion takes, on a layer of one read: one tile, one plane, one slice. */
OHM_TEST(full, bytes_kept_of_a_conversion)
{
    static const struct {
        const char *settings;
        size_t bytes;
    } cases[] = {{"adc.bits=0", 0},
                 {"adc.bits=8 adc.range=max adc.noise_lsb=0.5", 64 / 8},
                 {"adc.bits=8 adc.range=max adc.inl_lsb=0.5", 4 * 64},
                 {"adc.bits=0 read.model=constant read.sigma=0.02", 4 * 64},
                 {"adc.bits=8 adc.range=max read.model=pcm read.sigma=0.02", 4 * 64},
                 {"adc.bits=8 adc.range=max adc.inl_lsb=0.5 read.model=pcm read.sigma=0.02", 8 * 64}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char settings[512];
        ohm_hardware hardware;
        ohm_chip *chip;
        size_t bytes;
        snprintf(settings, sizeof settings,
                 "input.encoding=sign_magnitude input.dac_bits=7 weight.cell_bits=7 tile.rows=64 %s",
                 cases[i].settings);
        fixture_hardware(&hardware, settings);
        OHM_OK_OR_FAIL(ohm_chip_create(&chip, NULL, &hardware, 50, 64, 0));
        OHM_OK_OR_FAIL(ohm_chip_kept_bytes(chip, &bytes));
        ck_assert_msg(bytes == cases[i].bytes, "%s: %zu bytes", settings, bytes);
        ohm_chip_destroy(chip);
    }
}

static double distance(const float *a, const float *b, int count)
{
    double error = 0.0, norm = 0.0;
    for (int i = 0; i < count; i++) {
        error += (a[i] - b[i]) * (double)(a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(error / norm);
}

/* ir_drop.gradient: both tend to each other, faster than to no wires, as wires get better. */
OHM_TEST(full, exact_wires_and_the_closed_form)
{
    static const char *const models[] = {"exact", "exact ir_drop.gradient=closed_form", "none"};
    double closed[2], none[2];
    for (int step = 0; step < 2; step++) {
        float dw[3][40 * 12];
        for (int i = 0; i < 3; i++) {
            char settings[256];
            snprintf(settings, sizeof settings,
                     "tile.rows=48 tile.cols=20 ir_drop.r_wordline_ohm=%d ir_drop.r_bitline_ohm=%d "
                     "ir_drop.model=%s",
                     40 >> (2 * step), 20 >> (2 * step), models[i]);
            layer_gradient(dw[i], settings);
        }
        closed[step] = distance(dw[1], dw[0], 40 * 12);
        none[step] = distance(dw[2], dw[0], 40 * 12);
    }
    ck_assert_msg(closed[1] > 1e-6 && closed[1] < 0.12 * closed[0] && none[1] > 0.2 * none[0] &&
                      none[1] > 10.0 * closed[1],
                  "off by %.3g and %.3g with the closed form, %.3g and %.3g without wires",
                  closed[0], closed[1], none[0], none[1]);
}

/* A whole layer whose wires are solved per read: without resistance the gradient is that of no wires, with
 * some it is another; the same bits for any number of threads. */
OHM_TEST_SLOW(full, a_layer_of_solved_reads)
{
    static const char *const kinds[] = {
        "ir_drop.zero_input=gated input.dac_bits=4 weight.cell_bits=4",
        "cell.iv=sinh cell.iv_coefficient=8 input.encoding=two_phase input.dac_bits=7 "
        "weight.subtract=digital read.model=pcm read.sigma=0.02"};
    for (int kind = 0; kind < 2; kind++) {
        float dw[4][40 * 12];
        static const char *const wires[] = {
            "none", "exact ir_drop.r_wordline_ohm=0 ir_drop.r_bitline_ohm=0",
            "exact ir_drop.r_wordline_ohm=40 ir_drop.r_bitline_ohm=40",
            "exact ir_drop.r_wordline_ohm=40 ir_drop.r_bitline_ohm=40"};
        for (int i = 0; i < 4; i++) {
            char settings[512];
            snprintf(settings, sizeof settings, "tile.rows=24 tile.cols=16 %s ir_drop.model=%s",
                     kinds[kind], wires[i]);
            omp_set_num_threads(i == 3 ? 3 : 1);
            layer_gradient(dw[i], settings);
        }
        double zero = distance(dw[1], dw[0], 40 * 12), wired = distance(dw[2], dw[0], 40 * 12);
        ck_assert_msg(zero < 1e-5 && wired > 1e-2, "kind %d: off by %.2g without, %.2g with wires",
                      kind, zero, wired);
        OHM_ASSERT(ohm_compare_bits(dw[3], dw[2], 40 * 12));
    }
}
