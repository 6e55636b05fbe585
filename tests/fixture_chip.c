#include "tests/fixture_chip.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/device.h"
#include "kernels/mvm_backward.h"
#include "tests/runner.h"

enum { GUARD = 64, ROWS = 256 };

void fixture_hardware(ohm_hardware *hardware, const char *settings)
{
    char copy[2048], *save = NULL;
    OHM_OK_OR_FAIL(ohm_hardware_read(hardware, "ideal"));
    snprintf(copy, sizeof copy, "%s", settings);
    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
        OHM_OK_OR_FAIL(ohm_hardware_set(hardware, word));
    OHM_OK_OR_FAIL(ohm_hardware_check(hardware));
}

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

void fixture_reals(float *x, size_t count, uint32_t seed)
{
    for (size_t i = 0; i < count; i++)
        x[i] = (float)next(&seed) * (2.0f / 16777216.0f) - 1.0f;
}

void fixture_integers(float *x, size_t count, int most, uint32_t seed)
{
    for (size_t i = 0; i < count; i++)
        x[i] = (float)((int)(next(&seed) % (uint32_t)(2 * most + 1)) - most);
}

static void *guarded(size_t bytes)
{
    char *memory = aligned_alloc(64, (bytes + 63) / 64 * 64 + GUARD);
    ck_assert_ptr_nonnull(memory);
    memset(memory, 0xa5, (bytes + 63) / 64 * 64 + GUARD);
    return memory;
}

static void check_guard(const void *memory, size_t bytes)
{
    const unsigned char *guard = (const unsigned char *)memory + (bytes + 63) / 64 * 64;
    for (int i = 0; i < GUARD; i++)
        ck_assert_msg(guard[i] == 0xa5, "a chip wrote %d bytes past its memory", i);
}

void fixture_layer_make(fixture_layer *layer, int m, int k, int n)
{
    *layer = (fixture_layer){.m = m, .k = k, .n = n};
    layer->x = guarded((size_t)m * k * sizeof(float));
    layer->w = guarded((size_t)n * k * sizeof(float));
    layer->y = guarded((size_t)m * n * sizeof(float));
    layer->bias = calloc((size_t)n, sizeof(float));
    fixture_reals(layer->x, (size_t)m * k, 1);
    fixture_reals(layer->w, (size_t)n * k, 2);
}

void fixture_layer_free(fixture_layer *layer)
{
    check_guard(layer->y, (size_t)layer->m * layer->n * sizeof(float));
    free(layer->x);
    free(layer->w);
    free(layer->y);
    free(layer->bias);
}

void fixture_forward(fixture_layer *layer, const fixture_run *run)
{
    ohm_hardware hardware;
    ohm_noisy *noisy;
    int chunk = run->chunk ? run->chunk : layer->m;
    fixture_hardware(&hardware, run->settings);
    OHM_OK_OR_FAIL(ohm_noisy_create(&noisy, NULL, &hardware, layer->k, layer->n, 3));
    size_t kept = ohm_noisy_persistent_count(noisy) * sizeof(float),
           state = ohm_noisy_state_bytes(noisy, 0),
           scratch = ohm_noisy_scratch_bytes(noisy, chunk, 0);
    ohm_noisy_pass pass = {.w = layer->w,
                           .bias = layer->bias,
                           .x = layer->x,
                           .x_count = (size_t)layer->m * layer->k,
                           .moment = run->moment,
                           .persistent = guarded(kept),
                           .state = guarded(state),
                           .scratch = guarded(scratch)};
    memset(pass.persistent, 0, kept);
    for (int i = 0; i <= run->calibrate; i++) {
        pass.calibrating = i < run->calibrate;
        OHM_OK_OR_FAIL(ohm_noisy_begin(noisy, &pass));
        while (ohm_noisy_wants_measure(noisy)) {
            for (int row = 0; row < layer->m; row += chunk) {
                int rows = layer->m - row < chunk ? layer->m - row : chunk;
                OHM_OK_OR_FAIL(ohm_noisy_measure_rows(noisy, layer->x + (size_t)row * layer->k,
                                                      layer->k, rows, (uint64_t)row));
            }
            OHM_OK_OR_FAIL(ohm_noisy_measured(noisy));
        }
        for (int row = 0; row < layer->m; row += chunk) {
            int rows = layer->m - row < chunk ? layer->m - row : chunk;
            OHM_OK_OR_FAIL(ohm_noisy_rows(noisy, layer->y + (size_t)row * layer->n, layer->n,
                                          layer->x + (size_t)row * layer->k, layer->k, rows,
                                          (uint64_t)row));
        }
        ohm_noisy_end(noisy);
    }
    check_guard(pass.persistent, kept);
    check_guard(pass.state, state);
    check_guard(pass.scratch, scratch);
    free(pass.persistent);
    free(pass.state);
    free(pass.scratch);
    ohm_noisy_destroy(noisy);
}

static void *keep(fixture_chip *c, size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    ck_assert_ptr_nonnull(memory);
    ck_assert_int_lt(c->memory_count, 48);
    return c->memory[c->memory_count++] = memory;
}

static void make_errors(fixture_chip *c)
{
    const ohm_hardware *hw = &c->hardware;
    const ohm_geometry *g = &c->g;
    size_t adcs = (size_t)g->slices * ohm_arrays(g) * g->tiles * ohm_packed_columns(g),
           refs = (size_t)g->slices * g->tiles * g->column_tiles;
    const struct {
        double mean, sigma;
        uint32_t site;
        float **of, **ref;
        const float **cell, **cell_ref;
    } errors[] = {{0, hw->adc.gain_sigma, OHM_SITE_ADC_GAIN, &c->tiles.gain, &c->tiles.ref_gain,
                   &c->cells.gain, &c->cells.ref_gain},
                  {0, hw->adc.offset_sigma_lsb, OHM_SITE_ADC_OFFSET, &c->tiles.offset,
                   &c->tiles.ref_offset, &c->cells.offset, &c->cells.ref_offset},
                  {hw->output.s_shape, hw->output.s_shape_sigma, OHM_SITE_S_SHAPE,
                   &c->tiles.s_shape, &c->tiles.ref_s_shape, &c->cells.s_shape,
                   &c->cells.ref_s_shape}};
    for (int i = 0; i < 3; i++) {
        if (errors[i].sigma == 0.0 && errors[i].mean == 0.0)
            continue;
        *errors[i].cell = *errors[i].of = keep(c, adcs, sizeof(float));
        *errors[i].cell_ref = *errors[i].ref = keep(c, refs, sizeof(float));
        ohm_column_errors(*errors[i].of, adcs, errors[i].mean, errors[i].sigma,
                          &c->programming.per_chip, errors[i].site, 0);
        ohm_column_errors(*errors[i].ref, refs, errors[i].mean, errors[i].sigma,
                          &c->programming.per_chip, errors[i].site, adcs);
    }
}

void fixture_chip_make(fixture_chip *c, const char *settings, int k, int n, uint32_t seed,
                       double share)
{
    memset(c, 0, sizeof *c);
    fixture_hardware(&c->hardware, settings);
    ohm_device_shape(&c->shape, &c->hardware, k, n, 5);
    ohm_device_geometry(&c->g, &c->shape);
    const ohm_geometry *g = &c->g;
    int q = (1 << (c->hardware.quantise.bits - 1)) - 1;
    size_t cells = (size_t)k * n, all = cells * (size_t)g->slices * c->shape.signs,
           refs = (size_t)g->slices * k * g->column_tiles;
    size_t packed = (size_t)g->slices * ohm_arrays(g) * k * ohm_packed_columns(g);
    c->moment = (ohm_chip_moment){
        .seed = seed, .chip = 2, .step = 7, .time_s = c->hardware.retention.time_s};
    ohm_device_programming(&c->programming, g, &c->shape, &c->moment);
    ohm_device_read_law(&c->law, g, &c->hardware, c->moment.time_s);
    ohm_device_read(&c->read, &c->johnson, g, &c->shape, &c->moment, OHM_FOR_INFERENCE);
    c->w_q = keep(c, cells, 1);
    c->levels = keep(c, all, 1);
    c->negative = keep(c, cells, 1);
    c->real_levels = keep(c, all, sizeof(double));
    float *reals = keep(c, cells, sizeof(float));
    fixture_integers(reals, cells, q, seed + 1);
    for (size_t i = 0; i < cells; i++)
        c->w_q[i] = (int8_t)reals[i];
    ohm_weight_split(c->levels, c->w_q, (size_t)n, (size_t)k,
                     g->differential ? OHM_CELLS_DIFFERENTIAL : OHM_CELLS_OFFSET, g->cell_bits,
                     c->hardware.quantise.bits);
    for (size_t i = 0; i < all; i++)
        c->real_levels[i] = c->levels[i];
    for (int row = 0; row < k; row++)
        for (int column = 0; column < n; column++)
            c->negative[(size_t)row * n + column] =
                g->differential && c->w_q[(size_t)column * k + row] < 0;
    for (int slice = 0; slice < g->slices; slice++)
        c->ref_level[slice] = (uint8_t)(1u << (c->shape.weight_bits - 1) >> (slice * g->cell_bits) &
                                        (unsigned)g->max_level);
    c->tiles.w = keep(c, packed, sizeof(float));
    c->tiles.ref = keep(c, refs, sizeof(float));
    c->cells.g = keep(c, all, sizeof(double));
    c->cells.g_ref = keep(c, refs, sizeof(double));
    c->cells.johnson_scale = &c->johnson;
    if (ohm_device_solves_reads(&c->hardware)) {
        ohm_device_network(&c->network, g, &c->hardware, &c->programming);
        c->network.scratch = keep(c, ohm_mvm_network_bytes(g, &c->network), 1);
        c->network.failure = &c->failure;
        c->cells.network = &c->network;
    }
    if (c->read.read_cells) {
        c->tiles.variance = keep(c, packed, sizeof(float));
        c->tiles.ref_variance = keep(c, refs, sizeof(float));
        c->cells.variance = keep(c, all, sizeof(double));
        c->cells.variance_ref = keep(c, refs, sizeof(double));
    }
    if (c->johnson > 0.0) {
        c->tiles.johnson = keep(
            c, (size_t)g->slices * ohm_arrays(g) * g->tiles * ohm_packed_columns(g), sizeof(float));
        c->tiles.ref_johnson =
            keep(c, (size_t)g->slices * g->tiles * g->column_tiles, sizeof(float));
    }
    make_errors(c);
    float **fields[] = {&c->gradient.g, &c->gradient.g_eff, &c->gradient.slope, &c->gradient.dg,
                        &c->gradient.dvariance};
    for (int i = 0; i < 5; i++)
        *fields[i] = keep(c, cells * 2, sizeof(float));
    float **refs_of[] = {&c->gradient.g_ref, &c->gradient.g_ref_eff, &c->gradient.dref,
                         &c->gradient.dref_variance};
    for (int i = 0; i < 4; i++)
        *refs_of[i] = keep(c, (size_t)k * g->column_tiles, sizeof(float));
    size_t bytes = ohm_mvm_scratch_bytes(g) + ohm_program_scratch_bytes(g, &c->programming) +
                   ohm_mvm_backward_scratch_bytes(g, &c->read, ROWS) +
                   ohm_mvm_finish_scratch_bytes(g, &c->programming);
    c->scratch = keep(c, bytes, 1);
    ohm_program_cpu(&c->tiles, &c->gradient, g, &c->programming, &c->law, c->johnson, c->levels,
                    c->ref_level, c->scratch);
    ohm_program_ref(&c->cells, g, &c->programming, &c->law, c->real_levels, c->ref_level);
    c->lsb = keep(c, (size_t)g->planes * g->slices * n, sizeof(float));
    double worst = (g->k < g->tile_rows ? g->k : g->tile_rows) * (double)g->max_digit *
                   (g->max_level + (g->digital ? g->pedestal : 0.0));
    for (int i = 0; i < g->planes * g->slices * n && c->read.adc_bits > 0; i++)
        c->lsb[i] = (float)(worst * share * (1.0 + 0.01 * (i % 7)) / ohm_adc_high(g, &c->read));
    c->read.lsb = c->lsb;
}

void fixture_chip_free(fixture_chip *c)
{
    for (int i = 0; i < c->memory_count; i++)
        free(c->memory[i]);
}

void fixture_drive(const fixture_chip *c, double *x, uint8_t *codes, int m, uint32_t seed)
{
    int most = (1 << (c->hardware.quantise.bits - 1)) - 1;
    for (size_t i = 0; i < (size_t)m * c->g.k; i++) {
        int q = (int)(next(&seed) % (uint32_t)(2 * most + 1)) - most;
        int8_t code = (int8_t)(c->g.drive == OHM_DRIVE_UNSIGNED && q < 0 ? -q : q);
        ohm_drive_encode(&codes[i], &code, 1, (ohm_drive)c->g.drive, c->hardware.quantise.bits);
        x[i] = c->g.drive == OHM_DRIVE_OFFSET ? codes[i] : code;
    }
}
