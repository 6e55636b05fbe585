/* ohmgrad mvm: one layer through the chip, for checking our physics against another simulator. */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cli/cli.h"
#include "host/config.h"
#include "host/noisy.h"
#include "host/npy.h"

/* Rows per call: a multiple of 16, so that splitting changes no random word (physics.md section 5). */
enum { CHUNK = 256, SIZE_LIMIT = 1 << 30, ALIGN = 64 };

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
    OHM_TRY(ohm_cli_cpu_alone("mvm", &a->set));
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

/* Zeroed; at least one byte, so that NULL always means that there is no memory. */
static void *allocate(size_t bytes)
{
    return calloc(bytes / ALIGN + 1, ALIGN);
}

static ohm_status run_layer(float *y, const operands *o, const ohm_hardware *hardware,
                            const arguments *a)
{
    ohm_noisy *noisy;
    OHM_TRY(ohm_noisy_create(&noisy, NULL, hardware, o->k, o->n, 0));
    float learned = 0; /* full scale of x, found while calibrating */
    ohm_noisy_pass pass = {
        .w = o->w.value,
        .bias = o->bias.value,
        .x = o->x.value,
        .x_count = o->x.count,
        .x_range = ohm_noisy_has_learned_range(noisy) ? &learned : NULL,
        .moment = {(uint32_t)a->number.seed, (uint32_t)a->number.chip, 0, 1,
                   hardware->retention.time_s},
        .calibrating = 1,
        .persistent = allocate(ohm_noisy_persistent_count(noisy) * sizeof *pass.persistent),
        .state = allocate(ohm_noisy_state_bytes(noisy, 0)),
        .scratch = allocate(ohm_noisy_scratch_bytes(noisy, CHUNK, 0)),
    };
    ohm_status status =
        pass.persistent && pass.state && pass.scratch
            ? run_pass(noisy, o, y, &pass)
            : OHM_FAIL(OHM_ERR_MEMORY, "no memory for a chip of %d x %d", o->k, o->n);
    free(pass.persistent);
    free(pass.scratch);
    free(pass.state);
    ohm_noisy_destroy(noisy);
    return status;
}

/* Numbers within their bounds can still multiply to more than a float holds. */
static ohm_status check_finite(const float *y, const operands *o)
{
    for (int m = 0; m < o->m; m++)
        for (int n = 0; n < o->n; n++)
            if (!isfinite(y[(size_t)m * o->n + n]))
                return OHM_FAIL(OHM_ERR_DATA,
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
