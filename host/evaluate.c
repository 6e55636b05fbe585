#include "host/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/checkpoint.h"

struct ohm_evaluator {
    ohm_network *network;
    ohm_config config;
    float *fresh;       /* the chip's ranges as they are before any data */
    uint32_t *indices;  /* [batch], of the pass at work */
    int batch;          /* images per pass */
    const volatile sig_atomic_t *stop;
};

/* What calibration gathers; learned column scales are weights. */
static int is_range(const char *name)
{
    return ohm_checkpoint_of_chip(name) && !strstr(name, ".column_scale");
}

/* Copies the chip's ranges into or out of `store`, or (NULL) only counts them. */
static ohm_status exchange_ranges(size_t *used, ohm_network *network, float *store, int restore)
{
    int count;
    *used = 0;
    const ohm_parameter *parameter = ohm_network_parameters(network, &count);
    for (int i = 0; i < count; i++) {
        if (!is_range(parameter[i].name))
            continue;
        if (store && restore)
            OHM_TRY(ohm_network_write(network, parameter[i].value, store + *used, parameter[i].count));
        else if (store)
            OHM_TRY(ohm_network_read(network, store + *used, parameter[i].value, parameter[i].count));
        *used += parameter[i].count;
    }
    return OHM_OK;
}

/* The ranges as they are before any data. */
static ohm_status forget_ranges(ohm_evaluator *evaluator)
{
    size_t used;
    return exchange_ranges(&used, evaluator->network, evaluator->fresh, 1);
}

/* The mode that plans the chip and nothing for gradients. */
static void plan_for_evaluation(ohm_config *config)
{
    config->train.mode = config->hardware_enabled ? OHM_MODE_NOGRAD : OHM_MODE_BASELINE;
}

static ohm_network_options options_of(const ohm_config *config)
{
    return (ohm_network_options){.max_batch = config->eval.batch, .training = 0};
}

static ohm_status prepare(ohm_evaluator *evaluator, const ohm_architecture *architecture)
{
    const ohm_network_options options = options_of(&evaluator->config);
    size_t ranges;
    OHM_TRY(ohm_network_create(&evaluator->network, architecture, &evaluator->config, &options));
    OHM_TRY(exchange_ranges(&ranges, evaluator->network, NULL, 0));
    evaluator->fresh = malloc((ranges + 1) * sizeof *evaluator->fresh);
    evaluator->indices = malloc((size_t)evaluator->batch * sizeof *evaluator->indices);
    if (!evaluator->fresh || !evaluator->indices)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory to evaluate %d images at a time", evaluator->batch);
    return exchange_ranges(&ranges, evaluator->network, evaluator->fresh, 0);
}

ohm_status ohm_evaluator_create(ohm_evaluator **out, const ohm_architecture *architecture, const ohm_config *config)
{
    *out = NULL;
    ohm_evaluator *evaluator = calloc(1, sizeof *evaluator);
    if (!evaluator)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for an evaluator");
    evaluator->config = *config;
    evaluator->batch = config->eval.batch;
    plan_for_evaluation(&evaluator->config);
    ohm_status status = prepare(evaluator, architecture);
    if (status == OHM_OK)
        *out = evaluator;
    else
        ohm_evaluator_destroy(evaluator);
    return status;
}

ohm_status ohm_evaluator_bytes(size_t *bytes, const ohm_architecture *architecture, const ohm_config *config)
{
    ohm_memory memory;
    ohm_config *copy = malloc(sizeof *copy);
    if (!copy)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for a configuration");
    *copy = *config;
    plan_for_evaluation(copy);
    const ohm_network_options options = options_of(copy);
    ohm_status status = ohm_network_plan_memory(&memory, architecture, copy, &options);
    *bytes = status == OHM_OK ? memory.reserved : 0;
    free(copy);
    return status;
}

void ohm_evaluator_destroy(ohm_evaluator *evaluator)
{
    if (!evaluator)
        return;
    ohm_network_destroy(evaluator->network);
    free(evaluator->fresh);
    free(evaluator->indices);
    free(evaluator);
}

void ohm_evaluator_stop_on(ohm_evaluator *evaluator, const volatile sig_atomic_t *stop)
{
    evaluator->stop = stop;
}

/* ---- weights ------------------------------------------------------------------------------- */

static const ohm_parameter *find_parameter(const ohm_parameter *list, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(list[i].name, name) == 0)
            return &list[i];
    return NULL;
}

ohm_status ohm_evaluator_copy(ohm_evaluator *evaluator, ohm_network *trained, int *calibrated)
{
    int count, from_count;
    const ohm_parameter *to = ohm_network_parameters(evaluator->network, &count);
    const ohm_parameter *from = ohm_network_parameters(trained, &from_count);
    *calibrated = 1;
    for (int i = 0; i < count; i++) {
        const ohm_parameter *source = find_parameter(from, from_count, to[i].name);
        if (source && source->count == to[i].count)
            OHM_TRY(ohm_network_transfer(evaluator->network, to[i].value, trained, source->value,
                                         source->count));
        else if (ohm_checkpoint_of_chip(to[i].name))
            *calibrated = 0;
        else
            return OHM_FAIL(OHM_ERR_ARGUMENT, "parameter '%s' does not fit: the networks are of different architectures", to[i].name);
    }
    return *calibrated ? OHM_OK : forget_ranges(evaluator);
}

ohm_status ohm_evaluator_load(ohm_evaluator *evaluator, const char *path, int *calibrated)
{
    OHM_TRY(ohm_checkpoint_load_weights(path, evaluator->network, calibrated));
    return *calibrated ? OHM_OK : forget_ranges(evaluator);
}

ohm_status ohm_evaluator_set_hardware(ohm_evaluator *evaluator, const ohm_hardware *hardware)
{
    OHM_TRY(ohm_network_set_hardware(evaluator->network, hardware));
    evaluator->config.hardware = *hardware;
    return OHM_OK;
}

/* ---- passes -------------------------------------------------------------------------------- */

/* Forward over evaluator->indices[0..images). */
static ohm_status forward(ohm_evaluator *evaluator, const ohm_dataset *set, const ohm_pass *pass)
{
    if (evaluator->stop && *evaluator->stop)
        return OHM_FAIL(OHM_ERR_INTERRUPTED, "evaluation interrupted");
    ohm_dataset_batch(ohm_network_images(evaluator->network), ohm_network_labels(evaluator->network), set, evaluator->indices,
                      pass->images, NULL);
    return ohm_network_forward(evaluator->network, pass);
}

static ohm_chip_moment moment_of(const ohm_evaluator *evaluator, uint32_t chip, double time_s)
{
    return (ohm_chip_moment){.seed = (uint32_t)evaluator->config.seed, .chip = chip, .evaluation = 1,
                             .time_s = time_s < 0 ? evaluator->config.hardware.retention.time_s : time_s};
}

ohm_status ohm_evaluator_calibrate(ohm_evaluator *evaluator, const ohm_dataset *train)
{
    if (!evaluator->config.hardware_enabled)
        return OHM_OK;
    OHM_TRY(forget_ranges(evaluator));
    uint32_t *order = malloc((size_t)train->count * sizeof *order);
    if (!order)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for the order of %d images", train->count);
    ohm_dataset_order(order, train->count, (uint32_t)evaluator->config.seed, 0);
    ohm_pass pass = {.mode = OHM_MODE_NOGRAD, .calibrating = 1, .moment = moment_of(evaluator, 0, -1)};
    ohm_status status = OHM_OK;
    int next = 0;
    for (int b = 0; b < evaluator->config.train.calibration_batches && next < train->count && status == OHM_OK; b++) {
        pass.images = evaluator->batch < train->count - next ? evaluator->batch : train->count - next;
        pass.first_image = (uint64_t)next;
        memcpy(evaluator->indices, order + next, (size_t)pass.images * sizeof *order);
        next += pass.images;
        status = forward(evaluator, train, &pass);
    }
    free(order);
    return status;
}

/* Right answers over the whole set. Noise depends on an image's place in the set, not on the batch. */
static ohm_status count_correct(ohm_evaluator *evaluator, const ohm_dataset *test, ohm_pass pass, int64_t *correct)
{
    *correct = 0;
    for (int first = 0; first < test->count; first += pass.images) {
        int right;
        double loss;
        pass.images = evaluator->batch < test->count - first ? evaluator->batch : test->count - first;
        pass.first_image = (uint64_t)first;
        for (int i = 0; i < pass.images; i++)
            evaluator->indices[i] = (uint32_t)(first + i);
        OHM_TRY(forward(evaluator, test, &pass));
        OHM_TRY(ohm_network_loss(evaluator->network, &pass, pass.images, &loss, &right));
        *correct += right;
    }
    return OHM_OK;
}

ohm_status ohm_evaluator_clean(ohm_evaluator *evaluator, const ohm_dataset *test, double *accuracy)
{
    int64_t correct;
    const ohm_pass pass = {.mode = OHM_MODE_BASELINE, .moment = {.evaluation = 1}};
    OHM_TRY(count_correct(evaluator, test, pass, &correct));
    *accuracy = (double)correct / test->count;
    return OHM_OK;
}

ohm_status ohm_evaluator_chips(ohm_evaluator *evaluator, const ohm_dataset *test, int chips, double time_s, double *accuracies,
                               ohm_chip_accuracy *out)
{
    if (!evaluator->config.hardware_enabled || chips < 1)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "%d chips of '%s' to evaluate on; name a chip with hardware", chips,
                        evaluator->config.hardware_enabled ? evaluator->config.hardware.name : "none");
    double mean = 0, squares = 0; /* Welford's update */
    for (int i = 0; i < chips; i++) {
        int64_t correct;
        const ohm_pass pass = {.mode = OHM_MODE_NOGRAD, .moment = moment_of(evaluator, (uint32_t)i + 1, time_s)};
        OHM_TRY(count_correct(evaluator, test, pass, &correct));
        double accuracy = (double)correct / test->count, change = accuracy - mean;
        mean += change / (i + 1);
        squares += change * (accuracy - mean);
        if (accuracies)
            accuracies[i] = accuracy;
    }
    *out = (ohm_chip_accuracy){chips, mean, chips > 1 ? sqrt(squares / (chips - 1)) : 0};
    return OHM_OK;
}
