/* ohmgrad mvm: one layer through the chip, for checking our physics against another simulator. */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/arena.h"
#include "host/backend.h"
#include "host/cli/cli.h"
#include "host/config.h"
#include "host/noisy.h"
#include "host/npy.h"

/* Rows per call: a multiple of 16, so that splitting changes no random word (physics.md section 5). */
enum { CHUNK = 256, SIZE_LIMIT = 1 << 30 };

typedef struct {
    int64_t seed, chip;
    int threads;
    double time;
} numbers;

#define OHM_ROWS_OF numbers
#include "host/option_rows.h"

static const ohm_option rows[] = {
    INT64(seed, 0, 4294967295.0, "1", "", "seed of every draw"),
    INT64(chip, 0, 4294967295.0, "0", "", "which chip: devices and errors are drawn anew for each"),
    INT(threads, 0, 1024, "0", "threads", "0 is one per core"),
    REAL(time, 0, 1e12, "0", "s", "time since programming, instead of retention.time_s"),
};
static const ohm_option_table table = {"mvm", rows, sizeof rows / sizeof rows[0]};

/* Of the options that name a file, in order; then those of `rows`, in order. */
enum { HARDWARE, X, W, BIAS, OUT, FILES };
enum {
    KEY_HARDWARE = 256,
    KEY_X,
    KEY_W,
    KEY_BIAS,
    KEY_OUT,
    KEY_SEED,
    KEY_CHIP,
    KEY_THREADS,
    KEY_TIME,
    KEY_SET
};

typedef struct {
    const char *file[FILES];
    ohm_cli_list set;
    numbers number;
    int timed;
} arguments;

static const struct argp_option options[] = {
    {"hardware", KEY_HARDWARE, "NAME|FILE", 0, "the chip: a preset or a YAML file", 0},
    {"x", KEY_X, "X.npy", 0, "activations [M,K], float32", 0},
    {"w", KEY_W, "W.npy", 0, "weights [N,K], float32", 0},
    {"bias", KEY_BIAS, "B.npy", 0, "bias [N], float32; none if left out", 0},
    {"out", KEY_OUT, "Y.npy", 0, "where to write y [M,N], float32", 0},
    {"set", KEY_SET, "KEY=VALUE", 0, "change a key of the chip; may be repeated", 0},
    OHM_CLI_DEVICE_OPTION,
    {"seed", KEY_SEED, "N", 0, "seed of every draw (1)", 0},
    {"chip", KEY_CHIP, "N", 0, "which chip instance (0)", 0},
    {"threads", KEY_THREADS, "N", 0, "0 is one per core (0); the result is the same", 0},
    {"time", KEY_TIME, "SECONDS", 0, "time since programming, instead of retention.time_s", 0},
    {0},
};

static error_t parse(int key, char *value, struct argp_state *state)
{
    arguments *a = state->input;
    if (key >= KEY_HARDWARE && key <= KEY_OUT) {
        a->file[key - KEY_HARDWARE] = value;
        return 0;
    }
    if (key >= KEY_SEED && key <= KEY_TIME) {
        a->timed |= key == KEY_TIME;
        return ohm_cli_error(ohm_option_set(&table, &a->number, rows[key - KEY_SEED].key, value));
    }
    if (key == KEY_SET)
        return ohm_cli_list_add(&a->set, value);
    if (key == OHM_CLI_DEVICE)
        return ohm_cli_device(&a->set, value);
    return key == ARGP_KEY_ARG ? ohm_cli_unexpected(value) : ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {options,
                                 parse,
                                 NULL,
                                 "Computes y = x w^T + b through a simulated chip. ADC and input "
                                 "ranges that need calibration are calibrated on x itself.",
                                 NULL,
                                 NULL,
                                 NULL};

static ohm_status check_arguments(const arguments *a)
{
    static const char *const name[FILES] = {"--hardware", "--x", "--w", NULL, "--out"};
    for (int i = 0; i < FILES; i++)
        if (name[i] && !a->file[i])
            return OHM_FAIL(OHM_ERR_CONFIG, "mvm: %s is missing; see ohmgrad mvm --help", name[i]);
    return OHM_OK;
}

static ohm_status read_chip(ohm_hardware *hardware, const arguments *a)
{
    OHM_TRY(ohm_hardware_read(hardware, a->file[HARDWARE]));
    for (int i = 0; i < a->set.count; i++)
        OHM_TRY(ohm_hardware_set(hardware, a->set.value[i]));
    if (a->timed)
        hardware->retention.time_s = a->number.time;
    return ohm_hardware_check(hardware);
}

/* ---- operands ------------------------------------------------------------------------------ */

typedef struct {
    ohm_npy x, w, bias;
    int m, n, k;
} operands;

static void free_operands(operands *o)
{
    ohm_npy_free(&o->x);
    ohm_npy_free(&o->w);
    ohm_npy_free(&o->bias);
}

static ohm_status read_operand(ohm_npy *array, const char *path, int rank, const char *shape)
{
    OHM_TRY(ohm_npy_read(array, path));
    if (array->rank != rank)
        return OHM_FAIL(OHM_ERR_DATA, "%s: has %d dimensions; give %s", path, array->rank, shape);
    for (int i = 0; i < rank; i++)
        if (array->shape[i] < 1 || array->shape[i] > SIZE_LIMIT)
            return OHM_FAIL(OHM_ERR_DATA, "%s: size %d of %s is %lld; give 1..%d", path, i + 1,
                            shape, (long long)array->shape[i], SIZE_LIMIT);
    for (size_t i = 0; i < array->count; i++)
        if (!isfinite(array->value[i]))
            return OHM_FAIL(OHM_ERR_DATA,
                            "%s: number %zu (from 0, in C order) is %g; remove NaN and infinity",
                            path, i, (double)array->value[i]);
    return OHM_OK;
}

static ohm_status read_operands(operands *o, const arguments *a)
{
    OHM_TRY(read_operand(&o->x, a->file[X], 2, "x [M,K]"));
    OHM_TRY(read_operand(&o->w, a->file[W], 2, "w [N,K]"));
    if (a->file[BIAS])
        OHM_TRY(read_operand(&o->bias, a->file[BIAS], 1, "bias [N]"));
    o->m = (int)o->x.shape[0];
    o->k = (int)o->x.shape[1];
    o->n = (int)o->w.shape[0];
    if (o->w.shape[1] != o->k)
        return OHM_FAIL(OHM_ERR_DATA, "%s: K is %lld, but %d in %s; x is [M,K] and w is [N,K]",
                        a->file[W], (long long)o->w.shape[1], o->k, a->file[X]);
    if (a->file[BIAS] && o->bias.shape[0] != o->n)
        return OHM_FAIL(OHM_ERR_DATA, "%s: N is %lld, but %d in %s; give one bias per row of w",
                        a->file[BIAS], (long long)o->bias.shape[0], o->n, a->file[W]);
    return OHM_OK;
}

/* ---- the layer ----------------------------------------------------------------------------- */

typedef ohm_status (*chunk_fn)(ohm_noisy *noisy, const operands *o, float *y, int row, int count);

static ohm_status measure_chunk(ohm_noisy *noisy, const operands *o, float *y, int row, int count)
{
    (void)y;
    return ohm_noisy_measure_rows(noisy, o->x.value + (size_t)row * o->k, o->k, count,
                                  (uint64_t)row);
}

static ohm_status run_chunk(ohm_noisy *noisy, const operands *o, float *y, int row, int count)
{
    return ohm_noisy_rows(noisy, y + (size_t)row * o->n, o->n, o->x.value + (size_t)row * o->k,
                          o->k, count, (uint64_t)row);
}

static ohm_status for_chunks(ohm_noisy *noisy, const operands *o, float *y, chunk_fn call)
{
    for (int row = 0; row < o->m; row += CHUNK)
        OHM_TRY(call(noisy, o, y, row, o->m - row < CHUNK ? o->m - row : CHUNK));
    return OHM_OK;
}

static ohm_status run_pass(ohm_noisy *noisy, const operands *o, float *y,
                           const ohm_noisy_pass *pass)
{
    OHM_TRY(ohm_noisy_begin(noisy, pass));
    while (ohm_noisy_wants_measure(noisy)) {
        OHM_TRY(for_chunks(noisy, o, NULL, measure_chunk));
        OHM_TRY(ohm_noisy_measured(noisy));
    }
    OHM_TRY(for_chunks(noisy, o, y, run_chunk));
    ohm_noisy_end(noisy);
    return OHM_OK;
}

/* What the layer works with; operands and y are host memory themselves on the CPU. */
enum { IN_X, IN_W, IN_BIAS, IN_Y, X_RANGE, PERSISTENT, STATE, SCRATCH, FAULT, BUFFERS };

typedef struct {
    const ohm_backend *backend;
    ohm_device *device; /* NULL: the CPU */
    ohm_arena *arena;
    int id[BUFFERS];
} memory;

static ohm_status plan_memory(memory *m, const ohm_noisy *noisy, const operands *o)
{
    static const char *const name[BUFFERS] = {"x",          "w",     "bias",    "y",    "x range",
                                              "persistent", "state", "scratch", "fault"};
    const size_t y = (size_t)o->m * (size_t)o->n, some = m->device ? sizeof(float) : 0;
    const size_t bytes[BUFFERS] = {o->x.count * some,
                                   o->w.count * some,
                                   o->bias.count * some,
                                   y * some,
                                   sizeof(float),
                                   ohm_noisy_persistent_count(noisy) * sizeof(float),
                                   ohm_noisy_state_bytes(noisy, 0),
                                   ohm_noisy_scratch_bytes(noisy, CHUNK, 0),
                                   sizeof(uint32_t)};
    OHM_TRY(ohm_arena_create(&m->arena));
    for (int i = 0; i < BUFFERS; i++)
        OHM_TRY(ohm_arena_add(m->arena, &m->id[i], name[i], bytes[i],
                              i < X_RANGE ? OHM_MEMORY_ACTIVATIONS : OHM_MEMORY_WORKSPACE,
                              OHM_ALWAYS, 0));
    if (m->device)
        ohm_arena_use(m->arena, m->backend, m->device);
    return ohm_arena_reserve(m->arena);
}

/* An operand where the backend sees it. */
static float *operand(const memory *m, int buffer, const ohm_npy *from)
{
    if (!m->device || !from->value)
        return from->value;
    float *at = ohm_arena_at(m->arena, m->id[buffer]);
    m->backend->upload(m->device, at, from->value, from->count * sizeof *at);
    return at;
}

/* y in host memory, and what was wrong with the data; the one wait for a device. */
static ohm_status fetch(const memory *m, float *y, const operands *o)
{
    uint32_t fault = 0;
    if (!m->device)
        return OHM_OK;
    m->backend->download(m->device, y, ohm_arena_at(m->arena, m->id[IN_Y]),
                         (size_t)o->m * (size_t)o->n * sizeof *y);
    m->backend->download(m->device, &fault, ohm_arena_at(m->arena, m->id[FAULT]), sizeof fault);
    OHM_TRY(m->backend->wait(m->device));
    return ohm_chip_fault(fault, 0);
}

static ohm_status run_on(memory *m, ohm_noisy *noisy, float *y, const operands *o,
                         const ohm_hardware *hardware, const arguments *a)
{
    OHM_TRY(plan_memory(m, noisy, o));
    operands placed = *o;
    placed.x.value = operand(m, IN_X, &o->x);
    const ohm_noisy_pass pass = {
        .w = operand(m, IN_W, &o->w),
        .bias = operand(m, IN_BIAS, &o->bias),
        .x = placed.x.value,
        .x_count = o->x.count,
        .x_range =
            ohm_noisy_has_learned_range(noisy) ? ohm_arena_at(m->arena, m->id[X_RANGE]) : NULL,
        .moment = {(uint32_t)a->number.seed, (uint32_t)a->number.chip, 0, 1,
                   hardware->retention.time_s},
        .calibrating = 1,
        .persistent = ohm_arena_at(m->arena, m->id[PERSISTENT]),
        .state = ohm_arena_at(m->arena, m->id[STATE]),
        .scratch = ohm_arena_at(m->arena, m->id[SCRATCH]),
        .queue = {.device = m->device,
                  .fault = m->device ? ohm_arena_at(m->arena, m->id[FAULT]) : NULL},
    };
    OHM_TRY(run_pass(noisy, &placed, m->device ? ohm_arena_at(m->arena, m->id[IN_Y]) : y, &pass));
    return fetch(m, y, o);
}

/* The experiment that this layer alone is. */
static ohm_status find_backend(memory *m, ohm_config *config, const ohm_hardware *hardware,
                               const arguments *a)
{
    char text[64];
    OHM_TRY(ohm_config_read(config, NULL));
    snprintf(text, sizeof text, "device=%s", a->set.device ? a->set.device : "auto");
    OHM_TRY(ohm_config_set(config, text));
    config->hardware = *hardware;
    config->hardware_enabled = 1;
    config->train.mode = OHM_MODE_NOGRAD;
    OHM_TRY(ohm_backend_find(&m->backend, config));
    return m->backend->open ? m->backend->open(&m->device, config) : OHM_OK;
}

static ohm_status run_layer(float *y, const operands *o, const ohm_hardware *hardware,
                            const arguments *a)
{
    memory m = {0};
    ohm_noisy *noisy = NULL;
    ohm_config *config = malloc(sizeof *config);
    if (!config)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for a configuration");
    ohm_status status = find_backend(&m, config, hardware, a);
    if (status == OHM_OK)
        status = ohm_noisy_create(&noisy, m.backend, hardware, o->k, o->n, 0);
    if (status == OHM_OK)
        status = run_on(&m, noisy, y, o, hardware, a);
    ohm_noisy_destroy(noisy);
    ohm_arena_destroy(m.arena);
    if (m.device)
        m.backend->close(m.device);
    free(config);
    return status;
}

/* Numbers within their bounds can still multiply to more than a float holds. */
static ohm_status check_finite(const float *y, const operands *o)
{
    for (int m = 0; m < o->m; m++)
        for (int n = 0; n < o->n; n++)
            if (!isfinite(y[(size_t)m * o->n + n]))
                return OHM_FAIL(
                    OHM_ERR_DATA,
                    "mvm: y[%d,%d] is %g: x, w or the chip's spread exceed what a float "
                    "holds; scale them down",
                    m, n, (double)y[(size_t)m * o->n + n]);
    return OHM_OK;
}

static ohm_status run_mvm(const arguments *a, operands *o, ohm_hardware *hardware)
{
    OHM_TRY(read_chip(hardware, a));
    OHM_TRY(read_operands(o, a));
    if (a->number.threads > 0)
        omp_set_num_threads(a->number.threads);
    float *y = calloc((size_t)o->m * (size_t)o->n, sizeof *y);
    if (!y)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for y of %d x %d", o->m, o->n);
    ohm_status status = run_layer(y, o, hardware, a);
    if (status == OHM_OK)
        status = check_finite(y, o);
    if (status == OHM_OK)
        status = ohm_npy_write(a->file[OUT], y, 2, (const int64_t[]){o->m, o->n});
    free(y);
    return status;
}

ohm_status ohm_cmd_mvm(int argc, char **argv)
{
    arguments a = {0};
    operands o = {0};
    int helped;
    OHM_TRY(ohm_option_defaults(&table, &a.number));
    OHM_TRY(ohm_cli_parse(&argp, argc, argv, &a, &helped));
    if (helped)
        return OHM_OK;
    OHM_TRY(check_arguments(&a));
    ohm_hardware *hardware = malloc(sizeof *hardware);
    if (!hardware)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for a chip's description");
    ohm_status status = run_mvm(&a, &o, hardware);
    free_operands(&o);
    free(hardware);
    return status;
}
