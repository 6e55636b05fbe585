/* The chip whose wires are solved for every read: gated rows and non-linear cells under exact IR drop. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/device.h"
#include "tests/compare.h"
#include "tests/fixture_chip.h"
#include "tests/fixture_network.h"
#include "tests/runner.h"

static const char *const mappings[] = {
    "input.encoding=offset input.dac_bits=1 weight.cell_bits=4",
    "input.encoding=offset input.dac_bits=4 weight.cell_bits=7 tile.pair=interleaved",
    "input.encoding=two_phase input.dac_bits=4 weight.cell_bits=4 weight.subtract=digital",
    "input.encoding=two_phase input.dac_bits=7 weight.cell_bits=7 weight.subtract=digital "
    "tile.pair=interleaved",
    "input.encoding=sign_magnitude input.dac_bits=7 weight.cell_bits=4 weight.encoding=offset",
    "input.encoding=unsigned input.dac_bits=4 weight.cell_bits=8 weight.encoding=offset "
    "weight.subtract=digital tile.split=even",
};
static const char *const kinds[] = {"ir_drop.zero_input=gated",
                                    "cell.iv=sinh cell.iv_coefficient=8",
                                    "cell.iv=cubic cell.iv_coefficient=2 ir_drop.zero_input=gated",
                                    "cell.iv=sinh cell.iv_coefficient=25 ir_drop.zero_input=gated"};
enum { MAPPINGS = 6, KINDS = 4 };

/* ---- Against Kirchhoff's equations, read by read ---------------------------------------------- */

/* Digit of a drive code in a phase and plane, by the bits. */
static int digit(const fixture_chip *c, int code, int phase, int plane)
{
    int magnitude = abs(code) >> (plane * c->g.dac_bits) & c->g.max_digit;
    if (c->g.drive == OHM_DRIVE_TWO_PHASE)
        return (code < 0) == phase ? magnitude : 0;
    return code < 0 ? -magnitude : magnitude;
}

/* Currents of one array of a tile, in digit·level: sign -1 = interleaved, both. [physical columns] */
static void tile_currents(double *current, const fixture_chip *c, const double *x, int phase,
                          int plane, int slice, int tile, int first, int sign)
{
    const ohm_geometry *g = &c->g;
    const ohm_hardware *hw = &c->hardware;
    int rows = hw->tile.rows, columns = hw->tile.cols, begin = ohm_tile_begin(g, tile),
        used = ohm_tile_begin(g, tile + 1) - begin, signs = g->differential ? 2 : 1;
    double *cells = malloc((size_t)rows * columns * sizeof *cells), *v = malloc(rows * sizeof *v);
    uint8_t *off = calloc((size_t)rows, 1);
    double step = hw->input.v_read_v / g->max_digit, k = hw->cell.iv_coefficient,
           full = hw->input.v_read_v;
    /* wires count in units of G_step; 1 V across a level of conductance is a current of 1 */
    ohm_nodal n = {{rows, columns, c->programming.wires}, cells, {OHM_CELL_LINEAR, 0.0, 1.0}};
    if (hw->cell.iv == OHM_IV_CUBIC)
        n.law = (ohm_cell_law){OHM_CELL_CUBIC, k, 1.0 / (1.0 - k * full * full)};
    if (hw->cell.iv == OHM_IV_SINH)
        n.law = (ohm_cell_law){OHM_CELL_SINH, k, k * full / sinh(k * full)};
    for (int i = 0; i < rows * columns; i++)
        cells[i] = g->pedestal;
    for (int r = 0; r < rows; r++) {
        int d = r < used ? digit(c, (int)x[begin + r], phase, plane) : 0;
        v[r] = step * d;
        off[r] = hw->ir_drop.zero_input == OHM_ZERO_GATED && d == 0;
        for (int j = 0; r < used && j < g->tile_columns && first + j < g->n; j++)
            for (int s = 0; s < signs; s++)
                if (sign < 0 || s == sign)
                    cells[r * columns + (sign < 0 ? 2 * j + s : j)] =
                        c->cells
                            .g[(((size_t)slice * signs + s) * g->k + begin + r) * g->n + first + j];
        if (r < used && !g->differential)
            cells[r * columns + columns - 1] =
                c->cells.g_ref[((size_t)slice * g->k + begin + r) * g->column_tiles +
                               first / g->tile_columns];
    }
    fixture_network_solve(current, NULL, NULL, &n, v, off);
    for (int i = 0; i < columns; i++)
        current[i] /= step;
    free(cells);
    free(v);
    free(off);
}

/* Sums of one row without noise or converter. */
static void expected_row(double *sums, const fixture_chip *c, const double *x)
{
    const ohm_geometry *g = &c->g;
    double plus[64], minus[64];
    int interleaved = c->hardware.tile.pair == OHM_PAIR_INTERLEAVED && g->differential;
    memset(sums, 0, (size_t)g->n * sizeof *sums);
    for (int phase = 0; phase < g->phases; phase++)
        for (int plane = 0; plane < g->planes; plane++)
            for (int slice = 0; slice < g->slices; slice++)
                for (int tile = 0; tile < g->tiles; tile++)
                    for (int first = 0; first < g->n; first += g->tile_columns) {
                        double weight = (phase ? -1.0 : 1.0) *
                                        pow(2.0, plane * g->dac_bits + slice * g->cell_bits);
                        tile_currents(plus, c, x, phase, plane, slice, tile, first,
                                      interleaved ? -1 : 0);
                        if (g->differential && !interleaved)
                            tile_currents(minus, c, x, phase, plane, slice, tile, first, 1);
                        for (int j = 0; j < g->tile_columns && first + j < g->n; j++)
                            sums[first + j] +=
                                weight * (interleaved
                                              ? plus[2 * j] - plus[2 * j + 1]
                                              : plus[j] - (g->differential
                                                               ? minus[j]
                                                               : plus[c->hardware.tile.cols - 1]));
                    }
}

OHM_TEST_SLOW(chip_network, equals_kirchhoff)
{
    enum { M = 1, K = 11, N = 4 };
    static const char *const wires[] = {
        "ir_drop.r_wordline_ohm=30 ir_drop.r_bitline_ohm=50 ir_drop.r_driver_ohm=100 "
        "ir_drop.r_sense_ohm=60",
        "ir_drop.r_wordline_ohm=0 ir_drop.r_bitline_ohm=80 ir_drop.drive=both_ends "
        "ir_drop.r_driver_ohm=200 ir_drop.sense=both_ends"};
    for (int mapping = 0; mapping < MAPPINGS; mapping++)
        for (int kind = 0; kind < KINDS; kind++) {
            char settings[1024];
            snprintf(settings, sizeof settings,
                     "ir_drop.model=exact cell.g_max_us=200 cell.on_off=20 tile.rows=6 tile.cols=4 "
                     "input.v_read_v=0.3 programming.model=lognormal adc.bits=0 %s %s %s",
                     mappings[mapping], kinds[kind], wires[(mapping + kind) % 2]);
            fixture_chip c;
            double x[M * K], sums[M * N], want[M * N], unwired[M * N], largest = 0.0, moved = 0.0;
            uint8_t codes[M * K];
            fixture_chip_make(&c, settings, K, N, 3, 0.3);
            fixture_drive(&c, x, codes, M, 17);
            x[2] = x[5] = x[9] = c.g.drive == OHM_DRIVE_OFFSET ? 16 : 0;
            ck_assert_ptr_nonnull(c.cells.network);
            ck_assert_int_eq(ohm_mvm_ref(sums, &c.g, &c.read, &c.cells, x, M, 0, 1, 0, NULL),
                             OHM_SOLVE_OK);
            for (int i = 0; i < M; i++)
                expected_row(want + i * N, &c, x + i * K);
            c.cells.network = NULL;
            ohm_mvm_ref(unwired, &c.g, &c.read, &c.cells, x, M, 0, 1, 0, NULL);
            for (int i = 0; i < M * N; i++) {
                largest = fmax(largest, fabs(want[i]));
                moved = fmax(moved, fabs(want[i] - unwired[i]));
            }
            ck_assert_msg(moved > 1e-3 * largest, "%s: the wires change nothing", settings);
            for (int i = 0; i < M * N; i++)
                ck_assert_msg(fabs(sums[i] - want[i]) <= 1e-10 * largest,
                              "%s: sum %d is %.12g, Kirchhoff says %.12g", settings, i, sums[i],
                              want[i]);
            fixture_chip_free(&c);
        }
}

/* ---- Without resistance it is the chip without wires ------------------------------------------ */

static void forward(fixture_layer *layer, const char *settings, int chunk, int calibrate,
                    double time_s)
{
    fixture_run run = {
        .settings = settings,
        .chunk = chunk,
        .calibrate = calibrate,
        .moment = {.seed = 4, .chip = 1, .evaluation = !calibrate, .time_s = time_s}};
    fixture_forward(layer, &run);
}

static const char *const effects[] = {
    "adc.bits=8 adc.range=data",
    "adc.bits=8 adc.range=calibrated:99 adc.granularity=column input.noise=0.1 input.inl=0.1",
    "adc.bits=0 programming.model=lognormal read.model=pcm read.sigma=0.05 "
    "temperature.johnson_bandwidth_hz=1e8",
    "adc.bits=0 read.model=proportional read.sigma=0.05 read.form=per_cell input.noise=0.1",
    "adc.bits=8 adc.range=running adc.gain_sigma=0.03 adc.offset_sigma_lsb=0.5 adc.noise_lsb=0.3 "
    "read.model=constant read.sigma=0.02",
    "adc.bits=9 adc.range=max programming.model=pcm retention.model=pcm "
    "retention.compensation=global"};

OHM_TEST_SLOW(chip_network, without_resistance_it_is_the_chip_without_wires)
{
    enum { M = 5, K = 20, N = 7 };
    omp_set_num_threads(1); /* small tiles */
    for (int mapping = 0; mapping < MAPPINGS; mapping++)
        for (int effect = 0; effect < 6; effect++) {
            char settings[1024], wired[1400];
            fixture_layer plain, layer;
            /* the DAC's noise on a zero digit reaches a grounded row, not one that is cut off */
            int gated = !strstr(effects[effect], "input.noise") && (mapping + effect) % 2,
                calibrate = effect == 1 || effect == 4;
            snprintf(settings, sizeof settings, "tile.rows=8 tile.cols=8 cell.on_off=30 %s %s %s",
                     mappings[mapping], effects[effect],
                     gated ? "" : "cell.iv=sinh cell.iv_coefficient=10");
            snprintf(wired, sizeof wired,
                     "%s ir_drop.model=exact ir_drop.r_wordline_ohm=0 ir_drop.r_bitline_ohm=0 %s",
                     settings, gated ? "ir_drop.zero_input=gated" : "");
            snprintf(settings + strlen(settings), sizeof settings - strlen(settings),
                     " ir_drop.model=closed_form ir_drop.r_wordline_ohm=0 ir_drop.r_bitline_ohm=0");
            fixture_layer_make(&plain, M, K, N);
            fixture_layer_make(&layer, M, K, N);
            for (int i = 0; i < M * K; i++) /* unsigned inputs are not negative; some are 0 */
                plain.x[i] = layer.x[i] =
                    i % 5 ? fabsf(layer.x[i]) * (mapping == 5 ? 1 : 1 - 2 * (i % 2)) : 0.0f;
            forward(&plain, settings, 0, calibrate, effect == 5 ? 1e4 : 0.0);
            forward(&layer, wired, 0, calibrate, effect == 5 ? 1e4 : 0.0);
            double largest = 0.0, square = 0.0, moved = 0.0;
            for (int i = 0; i < M * N; i++) {
                largest = fmax(largest, fabs(plain.y[i]));
                square += (double)plain.y[i] * plain.y[i];
                moved += (plain.y[i] - layer.y[i]) * (plain.y[i] - layer.y[i]);
            }
            /* float against double: after a converter a code may differ here and there */
            double rms = sqrt(moved / square), bound = effect == 2 || effect == 3 ? 2e-6 : 1e-2;
            ck_assert_msg(largest > 0.1 && rms <= bound, "%s: off by %.2g of rms", wired, rms);
            fixture_layer_free(&plain);
            fixture_layer_free(&layer);
        }
}

/* ---- Bits, ranges, failures ------------------------------------------------------------------- */

#define WIRED                                                                                      \
    "tile.rows=8 tile.cols=8 cell.on_off=30 cell.g_max_us=100 ir_drop.model=exact "                \
    "ir_drop.r_wordline_ohm=20 ir_drop.r_bitline_ohm=20 "

OHM_TEST_SLOW(chip_network, same_bits_for_any_threads_and_batch_split)
{
    static const char *const settings[] = {
        WIRED "ir_drop.zero_input=gated adc.bits=8 adc.range=data adc.noise_lsb=0.4 "
              "read.model=constant read.sigma=0.01 input.dac_bits=2",
        WIRED "cell.iv=sinh cell.iv_coefficient=10 adc.bits=8 adc.range=calibrated:99.5 "
              "input.noise=0.1 input.encoding=two_phase weight.subtract=digital",
        WIRED "ir_drop.zero_input=gated adc.bits=0 read.model=constant read.sigma=0.01 "
              "read.form=per_cell weight.encoding=offset input.encoding=sign_magnitude"};
    for (int i = 0; i < 3; i++) {
        fixture_layer a, b;
        fixture_layer_make(&a, 7, 20, 6);
        fixture_layer_make(&b, 7, 20, 6);
        omp_set_num_threads(1);
        forward(&a, settings[i], 0, i == 1, 0.0);
        omp_set_num_threads(3);
        forward(&b, settings[i], 2, i == 1, 0.0);
        ck_assert_mem_eq(a.y, b.y, 7 * 6 * sizeof(float));
        fixture_layer_free(&a);
        fixture_layer_free(&b);
    }
}

/* A measured range is that of the currents that the ADC then sees: the largest is its last code. */
OHM_TEST(chip_network, measured_ranges_are_of_the_wired_currents)
{
    for (int mapping = 0; mapping < MAPPINGS; mapping++) {
        enum { M = 4, K = 11, N = 5 };
        char settings[1024];
        snprintf(settings, sizeof settings,
                 WIRED "ir_drop.zero_input=gated adc.bits=8 adc.range=data %s", mappings[mapping]);
        fixture_chip c;
        double x[M * K], sums[N];
        uint8_t codes[M * K];
        fixture_chip_make(&c, settings, K, N, 3, 0.3);
        fixture_drive(&c, x, codes, M, 23);
        size_t ranges = (size_t)c.g.planes * c.g.slices, reads = ohm_read_count(&c.g) * (size_t)N;
        float *range = calloc(ranges, sizeof *range), *want = calloc(ranges, sizeof *want);
        double *analogue = malloc(reads * sizeof *analogue);
        ohm_read quiet = c.read;
        quiet.quiet = 1;
        for (int i = 0; i < M; i++) {
            ck_assert_int_eq(
                ohm_mvm_network_range(range, NULL, 0, 0, &c.g, &c.read, &c.cells, x + i * K),
                OHM_SOLVE_OK);
            ck_assert_int_eq(
                ohm_mvm_ref(sums, &c.g, &quiet, &c.cells, x + i * K, 1, 0, 1, 0, analogue),
                OHM_SOLVE_OK);
            for (size_t r = 0; r < reads; r++) {
                size_t read =
                           r / N / c.g.tiles / (size_t)ohm_arrays(&c.g), /* phase, plane, slice */
                    at = read % ranges;
                want[at] = fmaxf(want[at], fabsf((float)analogue[r]));
            }
        }
        for (size_t i = 0; i < ranges; i++) /* a digital reference may be the largest of all */
            ck_assert_msg(mapping == 5 ? range[i] >= want[i] : range[i] == want[i],
                          "%s: range %zu is %g, currents reach %g", settings, i, range[i], want[i]);
        ck_assert_float_gt(range[0], 0.0f);
        free(range);
        free(want);
        free(analogue);
        fixture_chip_free(&c);
    }
}

/* Negative rows pull against positive ones through a bad sense amplifier: twice the read voltage. */
OHM_TEST(chip_network, a_read_without_solution_names_its_tile)
{
    ohm_hardware hardware;
    ohm_noisy *noisy;
    enum { M = 3, K = 20, N = 6 };
    fixture_layer layer;
    fixture_hardware(&hardware,
                     WIRED "cell.iv=cubic cell.iv_coefficient=8 ir_drop.r_sense_ohm=100000 "
                           "input.encoding=sign_magnitude input.dac_bits=7 adc.bits=0");
    fixture_layer_make(&layer, M, K, N);
    for (int i = 0; i < M * K; i++)
        layer.x[i] = i % K == 11 ? -1.0f : i % K > 7 && i % K < 16 ? 1.0f : 0.1f;
    OHM_OK_OR_FAIL(ohm_noisy_create(&noisy, NULL, &hardware, K, N, 3));
    ohm_noisy_pass pass = {.w = layer.w,
                           .bias = layer.bias,
                           .x = layer.x,
                           .x_count = M * K,
                           .persistent = calloc(ohm_noisy_persistent_count(noisy), sizeof(float)),
                           .state = malloc(ohm_noisy_state_bytes(noisy, 0)),
                           .scratch = malloc(ohm_noisy_scratch_bytes(noisy, M, 0))};
    OHM_OK_OR_FAIL(ohm_noisy_begin(noisy, &pass));
    ck_assert_int_eq(ohm_noisy_rows(noisy, layer.y, N, layer.x, K, M, 0), OHM_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "layer 3"));
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "row tile 1"));
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "cubic"));
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "set cell.iv to sinh"));
    ohm_noisy_end(noisy);
    free(pass.persistent);
    free(pass.state);
    free(pass.scratch);
    ohm_noisy_destroy(noisy);
    fixture_layer_free(&layer);
}
