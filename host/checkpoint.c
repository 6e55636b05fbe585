#include "host/checkpoint.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/safetensors.h"

enum { NAME_BYTES = 128, KINDS = 3 }; /* value, first and second moment */

static const char *const prefixes[KINDS] = {"", "optimiser.moment1.", "optimiser.moment2."};

static float *part_of(const ohm_parameter *parameter, int kind)
{
    return kind == 0 ? parameter->value : kind == 1 ? parameter->moment1 : parameter->moment2;
}

/* ---- tensors ------------------------------------------------------------------------------- */

/* [N, KH, KW, C] in memory <-> [N, C, KH, KW] in the file. */
static void transpose_conv(float *file, float *memory, const int64_t shape[4], int to_file)
{
    int64_t pixels = shape[1] * shape[2], channels = shape[3];
    for (int64_t n = 0; n < shape[0]; n++)
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t c = 0; c < channels; c++) {
                float *in_file = &file[(n * channels + c) * pixels + p];
                float *in_memory = &memory[(n * pixels + p) * channels + c];
                if (to_file)
                    *in_file = *in_memory;
                else
                    *in_memory = *in_file;
            }
}

static void file_shape(int64_t out[4], const ohm_parameter *parameter)
{
    const int64_t *shape = parameter->shape;
    memcpy(out, shape, 4 * sizeof *out);
    if (parameter->conv) {
        out[1] = shape[3];
        out[2] = shape[1];
        out[3] = shape[2];
    }
}

static int all_finite(const float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(x[i]))
            return 0;
    return 1;
}

/* Room for a convolution's weights in memory order; NULL is enough for all others. */
static ohm_status make_room(float **room, const ohm_parameter *parameter)
{
    *room = parameter->conv ? malloc(parameter->count * sizeof **room + 1) : NULL;
    if (parameter->conv && !*room)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory to turn %s", parameter->name);
    return OHM_OK;
}

static ohm_status store(ohm_safetensors *file, const char *name, const ohm_network *network, const ohm_parameter *parameter,
                        const float *from)
{
    float *room, *data = ohm_safetensors_find(file, name)->data;
    OHM_TRY(make_room(&room, parameter));
    float *memory = room ? room : data;
    ohm_status status = ohm_network_read(network, memory, from, parameter->count);
    if (status == OHM_OK && !all_finite(memory, parameter->count))
        status = OHM_FAIL(OHM_ERR_DATA,
                          "%s is no longer finite: training has diverged; go back to the last checkpoint and lower train.lr "
                          "or set train.clip_norm", name);
    else if (status == OHM_OK && room)
        transpose_conv(data, room, parameter->shape, 1);
    free(room);
    return status;
}

static int fits(const ohm_safetensor *tensor, const ohm_parameter *parameter)
{
    int64_t shape[4];
    file_shape(shape, parameter);
    int same = strcmp(tensor->type, "F32") == 0 && tensor->rank == parameter->rank;
    for (int d = 0; same && d < parameter->rank; d++)
        same = tensor->shape[d] == shape[d];
    return same;
}

static ohm_status restore(const ohm_safetensor *tensor, const ohm_network *network, const ohm_parameter *parameter, float *to,
                          const char *path)
{
    float *data = tensor->data, *room;
    float *aligned = NULL;
    if ((uintptr_t)data % sizeof *data) { /* a file that others laid out */
        aligned = malloc(tensor->bytes);
        if (!aligned)
            return OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory for tensor '%s'", path, tensor->name);
        data = memcpy(aligned, tensor->data, tensor->bytes);
    }
    ohm_status status = make_room(&room, parameter);
    if (status == OHM_OK && !all_finite(data, tensor->count))
        status = OHM_FAIL(OHM_ERR_DATA, "%s: tensor '%s' holds NaN or infinity; use an earlier checkpoint", path, tensor->name);
    if (status == OHM_OK && room)
        transpose_conv(data, room, parameter->shape, 0);
    if (status == OHM_OK)
        status = ohm_network_write(network, to, room ? room : data, parameter->count);
    free(room);
    free(aligned);
    return status;
}

/* ---- saving -------------------------------------------------------------------------------- */

typedef struct {
    char name[NAME_BYTES];
    const ohm_parameter *parameter;
    float *data;
} named_part;

/* All parts of all parameters that exist; *parts is NULL when out of memory. */
static int list_parts(named_part **parts, ohm_network *network)
{
    int count, used = 0;
    const ohm_parameter *parameter = ohm_network_parameters(network, &count);
    *parts = malloc(((size_t)count * KINDS + 1) * sizeof **parts);
    for (int i = 0; *parts && i < count; i++)
        for (int kind = 0; kind < KINDS; kind++) {
            float *data = part_of(&parameter[i], kind);
            if (!data && kind > 0)
                continue;
            named_part *part = &(*parts)[used++];
            snprintf(part->name, sizeof part->name, "%s%s", prefixes[kind], parameter[i].name);
            part->parameter = &parameter[i];
            part->data = data;
        }
    return used;
}

static ohm_status make_file(ohm_safetensors **file, const named_part *parts, int count, const ohm_network *network,
                            const ohm_config *config, const ohm_train_state *state)
{
    char step[24], evaluated[24], metrics[24], seed[24], best[40], loss[40], correct[24], images[24];
    snprintf(step, sizeof step, "%" PRId64, state->step);
    snprintf(evaluated, sizeof evaluated, "%" PRId64, state->evaluated);
    snprintf(metrics, sizeof metrics, "%" PRId64, state->metrics_bytes);
    snprintf(seed, sizeof seed, "%" PRId64, config->seed);
    snprintf(best, sizeof best, "%.17g", state->best_accuracy);
    snprintf(loss, sizeof loss, "%.17g", state->loss_sum);
    snprintf(correct, sizeof correct, "%" PRId64, state->correct);
    snprintf(images, sizeof images, "%" PRId64, state->images);
    char *text = ohm_config_text(config);
    ohm_safetensor *rows = calloc((size_t)count + 1, sizeof *rows);
    ohm_status status = OHM_FAIL(OHM_ERR_MEMORY, "no memory for a checkpoint of %d tensors", count);
    if (text && rows) {
        const ohm_metadata metadata[] = {
            {"ohmgrad.architecture", ohm_network_architecture(network)->name},
            {"ohmgrad.config", text}, {"ohmgrad.seed", seed}, {"ohmgrad.step", step},
            {"ohmgrad.evaluated", evaluated}, {"ohmgrad.metrics_bytes", metrics},
            {"ohmgrad.best_accuracy", best},
            {"ohmgrad.loss_sum", loss}, {"ohmgrad.correct", correct}, {"ohmgrad.images", images}};
        for (int i = 0; i < count; i++) {
            rows[i].name = parts[i].name;
            rows[i].rank = parts[i].parameter->rank;
            file_shape(rows[i].shape, parts[i].parameter);
        }
        status = ohm_safetensors_create(file, rows, count, metadata, sizeof metadata / sizeof *metadata);
    }
    free(rows);
    free(text);
    return status;
}

ohm_status ohm_checkpoint_save(const char *path, ohm_network *network, const ohm_config *config, const ohm_train_state *state)
{
    ohm_safetensors *file = NULL;
    named_part *parts;
    int count = list_parts(&parts, network);
    ohm_status status = parts ? make_file(&file, parts, count, network, config, state)
                              : OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory for a checkpoint", path);
    for (int i = 0; i < count && status == OHM_OK; i++)
        status = store(file, parts[i].name, network, parts[i].parameter, parts[i].data);
    if (status == OHM_OK)
        status = ohm_safetensors_write(file, path);
    ohm_safetensors_destroy(file);
    free(parts);
    return status;
}

/* ---- loading ------------------------------------------------------------------------------- */

static ohm_status no_match(const char *path, const char *name, const ohm_safetensor *tensor)
{
    return OHM_FAIL(OHM_ERR_DATA, "%s: tensor '%s' %s; the file is of another network or configuration", path, name,
                    tensor ? "has another shape or type" : "is missing");
}

static ohm_status read_number(const ohm_safetensors *file, const char *key, double *value, const char *path)
{
    const char *text = ohm_safetensors_metadata(file, key);
    char *end = NULL;
    if (text)
        *value = strtod(text, &end);
    if (!text || end == text || *end || !isfinite(*value))
        return OHM_FAIL(OHM_ERR_DATA, "%s: metadata '%s' is missing or no number; the file is no checkpoint of a run", path, key);
    return OHM_OK;
}

/* Counts stay far below 2^53, so a double carries them exactly. */
static ohm_status read_state(const ohm_safetensors *file, ohm_train_state *state, const char *path)
{
    double step = 0, evaluated = 0, metrics = 0, correct = 0, images = 0;
    OHM_TRY(read_number(file, "ohmgrad.step", &step, path));
    OHM_TRY(read_number(file, "ohmgrad.evaluated", &evaluated, path));
    OHM_TRY(read_number(file, "ohmgrad.metrics_bytes", &metrics, path));
    OHM_TRY(read_number(file, "ohmgrad.correct", &correct, path));
    OHM_TRY(read_number(file, "ohmgrad.images", &images, path));
    OHM_TRY(read_number(file, "ohmgrad.best_accuracy", &state->best_accuracy, path));
    OHM_TRY(read_number(file, "ohmgrad.loss_sum", &state->loss_sum, path));
    if (!(step >= 0 && step < 0x1p53 && evaluated >= -1 && evaluated <= step &&
          metrics >= 0 && metrics < 0x1p53 && correct >= 0 && correct <= images && images < 0x1p53))
        return OHM_FAIL(OHM_ERR_DATA, "%s: the training state in the metadata is impossible", path);
    state->step = (int64_t)step;
    state->evaluated = (int64_t)evaluated;
    state->metrics_bytes = (int64_t)metrics;
    state->correct = (int64_t)correct;
    state->images = (int64_t)images;
    return OHM_OK;
}

static ohm_status load_all(const ohm_safetensors *file, ohm_network *network, ohm_train_state *state, const char *path)
{
    ohm_train_state loaded = {0};
    if (!ohm_safetensors_sealed(file))
        return OHM_FAIL(OHM_ERR_DATA, "%s: carries no checksum, so training cannot go on from it; use a file from RUN/checkpoints", path);
    OHM_TRY(read_state(file, &loaded, path));
    named_part *parts;
    int count = list_parts(&parts, network);
    ohm_status status = parts ? OHM_OK : OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory to load it", path);
    for (int i = 0; i < count && status == OHM_OK; i++) {
        const ohm_safetensor *tensor = ohm_safetensors_find(file, parts[i].name);
        if (!tensor || !fits(tensor, parts[i].parameter))
            status = no_match(path, parts[i].name, tensor);
        else
            status = restore(tensor, network, parts[i].parameter, parts[i].data, path);
    }
    free(parts);
    if (status == OHM_OK && count != ohm_safetensors_count(file))
        status = OHM_FAIL(OHM_ERR_DATA, "%s: %d tensors where the network has %d; the file is of another network or configuration",
                          path, ohm_safetensors_count(file), count);
    if (status == OHM_OK)
        *state = loaded;
    return status;
}

ohm_status ohm_checkpoint_load(const char *path, ohm_network *network, ohm_train_state *state)
{
    ohm_safetensors *file;
    OHM_TRY(ohm_safetensors_read(&file, path));
    ohm_status status = load_all(file, network, state, path);
    ohm_safetensors_destroy(file);
    return status;
}

int ohm_checkpoint_of_chip(const char *name)
{
    const char *end = strrchr(name, '.');
    return end && (strcmp(end, ".chip") == 0 || strcmp(end, ".x_range") == 0 || strcmp(end, ".column_scale") == 0);
}

ohm_status ohm_checkpoint_load_weights(const char *path, ohm_network *network, int *calibrated)
{
    ohm_safetensors *file;
    int count;
    ohm_parameter *parameter = ohm_network_parameters(network, &count);
    OHM_TRY(ohm_safetensors_read(&file, path));
    ohm_status status = OHM_OK;
    *calibrated = 1;
    for (int i = 0; i < count && status == OHM_OK; i++) {
        const ohm_safetensor *tensor = ohm_safetensors_find(file, parameter[i].name);
        if (tensor && fits(tensor, &parameter[i]))
            status = restore(tensor, network, &parameter[i], parameter[i].value, path);
        else if (ohm_checkpoint_of_chip(parameter[i].name))
            *calibrated = 0;
        else
            status = no_match(path, parameter[i].name, tensor);
    }
    ohm_safetensors_destroy(file);
    return status;
}

ohm_status ohm_checkpoint_read_config(ohm_config *config, const char *path)
{
    ohm_safetensors *file;
    OHM_TRY(ohm_safetensors_read(&file, path));
    const char *text = ohm_safetensors_metadata(file, "ohmgrad.config");
    ohm_status status = text ? ohm_config_parse(config, text, strlen(text), path)
                             : OHM_FAIL(OHM_ERR_DATA, "%s: carries no configuration; say which with --config", path);
    ohm_safetensors_destroy(file);
    return status;
}
