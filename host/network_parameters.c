/* Weights: their list, their start, their optimiser step. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/network_internal.h"
#include "kernels/normals.h"

/* ---- the list ------------------------------------------------------------------------------ */

static ohm_parameter *append(ohm_network *network, ohm_layer *layer, ohm_role role,
                             const char *suffix)
{
    int at = network->parameters++;
    layer->parameter[role] = at;
    snprintf(network->parameter_name[at], sizeof network->parameter_name[at], "%s.%s",
             layer->desc.name, suffix);
    for (int i = 0; i < 4; i++)
        network->parameter_ids[at][i] = OHM_NO_BUFFER;
    ohm_parameter *p = &network->parameter[at];
    *p = (ohm_parameter){.name = network->parameter_name[at], .trainable = 1};
    return p;
}

static void append_vector(ohm_network *network, ohm_layer *layer, ohm_role role, const char *suffix,
                          size_t count, int trainable)
{
    ohm_parameter *p = append(network, layer, role, suffix);
    p->rank = 1;
    p->shape[0] = (int64_t)count;
    p->count = count;
    p->trainable = trainable;
}

static void append_weight(ohm_network *network, ohm_layer *layer)
{
    const ohm_conv_shape *s = &layer->conv;
    ohm_parameter *p = append(network, layer, OHM_ROLE_WEIGHT, "weight");
    p->conv = layer->desc.kind == OHM_LAYER_CONV;
    p->rank = p->conv ? 4 : 2;
    const int64_t shape[4] = {s->out, p->conv ? s->kernel : s->channels, s->kernel, s->channels};
    memcpy(p->shape, shape, (size_t)p->rank * sizeof *shape);
    p->count = (size_t)s->out * (size_t)ohm_conv_k(s);
    p->decays = 1;
}

static void append_matrix(ohm_network *network, ohm_layer *layer)
{
    size_t n = (size_t)layer->out;
    append_weight(network, layer);
    if (layer->desc.bias)
        append_vector(network, layer, OHM_ROLE_BIAS, "bias", n, 1);
    if (!layer->noisy)
        return;
    if (ohm_noisy_has_column_scale(layer->noisy))
        append_vector(network, layer, OHM_ROLE_COLUMN_SCALE, "column_scale", n, 1);
    if (ohm_noisy_has_learned_range(layer->noisy))
        append_vector(network, layer, OHM_ROLE_X_RANGE, "x_range", 1, 1);
    append_vector(network, layer, OHM_ROLE_CHIP, "chip", ohm_noisy_persistent_count(layer->noisy),
                  0);
}

static void append_norm(ohm_network *network, ohm_layer *layer)
{
    size_t n = (size_t)layer->out;
    append_vector(network, layer, OHM_ROLE_WEIGHT, "weight", n, 1);
    append_vector(network, layer, OHM_ROLE_BIAS, "bias", n, 1);
    append_vector(network, layer, OHM_ROLE_MEAN, "running_mean", n, 0);
    append_vector(network, layer, OHM_ROLE_VARIANCE, "running_var", n, 0);
}

ohm_status ohm_network_list_parameters(ohm_network *network)
{
    size_t room = (size_t)network->count * OHM_ROLE_COUNT;
    network->parameter = calloc(room, sizeof *network->parameter);
    network->parameter_name = calloc(room, sizeof *network->parameter_name);
    network->parameter_ids = calloc(room, sizeof *network->parameter_ids);
    if (!network->parameter || !network->parameter_name || !network->parameter_ids)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory to list the parameters of %d layers",
                        network->count);
    for (int i = 0; i < network->count; i++) {
        ohm_layer *layer = &network->layer[i];
        for (int role = 0; role < OHM_ROLE_COUNT; role++)
            layer->parameter[role] = -1;
        if (ohm_layer_is_matrix(layer->desc.kind))
            append_matrix(network, layer);
        else if (layer->desc.kind == OHM_LAYER_BATCH_NORM)
            append_norm(network, layer);
    }
    return OHM_OK;
}

/* ---- memory -------------------------------------------------------------------------------- */

static int moments_of(const ohm_config *config)
{
    if (config->train.optimiser == OHM_OPTIMISER_SGD)
        return config->train.momentum > 0.0 ? 1 : 0;
    return 2;
}

static ohm_status plan_parameter(ohm_network *network, int at)
{
    static const char *const what[4] = {"", "gradient", "moment1", "moment2"};
    static const ohm_memory_category category[4] = {OHM_MEMORY_WEIGHTS, OHM_MEMORY_GRADIENTS,
                                                    OHM_MEMORY_OPTIMISER, OHM_MEMORY_OPTIMISER};
    const ohm_parameter *p = &network->parameter[at];
    int copies = 1;
    if (p->trainable && network->options.training)
        copies += 1 + moments_of(&network->config);
    for (int i = 0; i < copies; i++)
        OHM_TRY(ohm_network_buffer(network, &network->parameter_ids[at][i], p->name, what[i],
                                   p->count * sizeof(float), category[i], OHM_ALWAYS, 0));
    return OHM_OK;
}

ohm_status ohm_network_plan_parameters(ohm_network *network)
{
    size_t partials = 0;
    for (int i = 0; i < network->parameters; i++) {
        size_t blocks = network->backend->sum_squares_blocks(network->parameter[i].count);
        partials = blocks > partials ? blocks : partials;
        OHM_TRY(plan_parameter(network, i));
    }
    network->norm_partials = OHM_NO_BUFFER;
    if (!network->options.training || network->config.train.clip_norm <= 0.0)
        return OHM_OK;
    return ohm_network_buffer(network, &network->norm_partials, "gradients", "norm",
                              partials * sizeof(double), OHM_MEMORY_WORKSPACE, network->update_tick,
                              network->update_tick);
}

void ohm_network_bind_parameters(ohm_network *network)
{
    for (int i = 0; i < network->parameters; i++) {
        ohm_parameter *p = &network->parameter[i];
        const int *id = network->parameter_ids[i];
        if (!p->value)
            p->value = ohm_network_at(network, id[0]);
        p->gradient = ohm_network_at(network, id[1]);
        p->moment1 = ohm_network_at(network, id[2]);
        p->moment2 = ohm_network_at(network, id[3]);
    }
}

/* ---- the start ----------------------------------------------------------------------------- */

static int feeds_relu(const ohm_network *network, const ohm_layer *layer)
{
    return layer->index < network->count - 1;
}

/* He et al. 2015: deviation sqrt(2 / inputs) before a ReLU; the logits get sqrt(1 / inputs). */
static ohm_status start_weight(ohm_network *network, const ohm_layer *layer)
{
    const ohm_parameter *p = ohm_layer_parameter(network, layer, OHM_ROLE_WEIGHT);
    double gain = feeds_relu(network, layer) ? 2.0 : 1.0;
    float deviation = (float)sqrt(gain / ohm_conv_k(&layer->conv));
    ohm_stream stream = {.key = {(uint32_t)network->config.seed, 0},
                         .site = OHM_SITE_INIT_WEIGHTS,
                         .where = (uint32_t)layer->index,
                         .step = 0};
    float *host = network->device ? malloc(p->count * sizeof *host) : p->value;
    if (!host)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory to start %s", p->name);
    ohm_normals_exact(host, 0, p->count, &stream);
    for (size_t i = 0; i < p->count; i++)
        host[i] *= deviation;
    if (!network->device)
        return OHM_OK;
    ohm_status status = ohm_network_write(network, p->value, host, p->count);
    free(host);
    return status;
}

static void start_at(const ohm_network *network, const ohm_layer *layer, ohm_role role, float value)
{
    const ohm_parameter *p = ohm_layer_parameter(network, layer, role);
    if (p)
        network->backend->fill(network->device, p->value, value, p->count);
}

ohm_status ohm_network_initialise(ohm_network *network)
{
    for (int i = 0; i < network->count; i++) {
        const ohm_layer *layer = &network->layer[i];
        if (ohm_layer_is_matrix(layer->desc.kind)) {
            OHM_TRY(start_weight(network, layer));
            start_at(network, layer, OHM_ROLE_COLUMN_SCALE, 1.0f);
        } else if (layer->desc.kind == OHM_LAYER_BATCH_NORM) {
            start_at(network, layer, OHM_ROLE_WEIGHT, 1.0f);
            start_at(network, layer, OHM_ROLE_VARIANCE, 1.0f);
        }
    }
    return ohm_network_status(network);
}

/* ---- use ----------------------------------------------------------------------------------- */

ohm_parameter *ohm_network_parameters(ohm_network *network, int *count)
{
    *count = network->parameters;
    return network->parameter;
}

ohm_status ohm_network_copy_parameters(ohm_network *to, const ohm_network *from)
{
    if (to->parameters != from->parameters)
        return OHM_FAIL(
            OHM_ERR_ARGUMENT,
            "parameters of %s (%d) do not fit %s (%d): same architecture and hardware needed",
            from->architecture.name, from->parameters, to->architecture.name, to->parameters);
    for (int i = 0; i < to->parameters; i++) {
        const ohm_parameter *a = &from->parameter[i], *b = &to->parameter[i];
        if (a->count != b->count || strcmp(a->name, b->name) != 0)
            return OHM_FAIL(
                OHM_ERR_ARGUMENT,
                "parameter %s [%zu] does not fit %s [%zu]: same architecture and hardware needed",
                a->name, a->count, b->name, b->count);
    }
    for (int i = 0; i < to->parameters; i++)
        OHM_TRY(ohm_network_transfer(to, to->parameter[i].value, from, from->parameter[i].value,
                                     to->parameter[i].count));
    return OHM_OK;
}

void ohm_network_zero_gradients(ohm_network *network)
{
    ohm_trace_kernel(network->trace, "zero_gradients");
    ohm_network_mark(network, "zero_gradients", NULL);
    network->backend->fill(network->device, (float *)ohm_network_totals_at(network), 0.0f,
                           sizeof(ohm_step_totals) / sizeof(float));
    for (int i = 0; i < network->parameters; i++)
        if (network->parameter[i].gradient)
            network->backend->fill(network->device, network->parameter[i].gradient, 0.0f,
                                   network->parameter[i].count);
    ohm_trace_end(network->trace);
}

/* What the gradients are multiplied with so that their common norm is at most clip_norm. */
static void decide(ohm_network *network)
{
    double limit = network->config.train.clip_norm;
    ohm_step_totals *totals = ohm_network_totals_at(network);
    for (int i = 0; i < network->parameters && limit > 0.0; i++)
        if (network->parameter[i].gradient)
            network->backend->sum_squares(network->device, totals, network->parameter[i].gradient,
                                          network->parameter[i].count,
                                          ohm_arena_at(network->arena, network->norm_partials));
    network->backend->decide(network->device, totals, ohm_network_faults_at(network),
                             network->count, limit);
}

static ohm_optimiser_rule rule_of(const ohm_config *config)
{
    return (ohm_optimiser_rule){
        .momentum = (float)config->train.momentum,
        .nesterov = config->train.nesterov,
        .beta1 = (float)config->train.beta1,
        .beta2 = (float)config->train.beta2,
        .epsilon = (float)config->train.epsilon,
    };
}

ohm_status ohm_network_update(ohm_network *network, double lr, int64_t step)
{
    if (!network->options.training)
        return OHM_FAIL(OHM_ERR_ARGUMENT,
                        "this network was planned for evaluation: nothing to update");
    const ohm_config *config = &network->config;
    ohm_arena_tick(network->arena, network->update_tick);
    ohm_trace_begin(network->trace, OHM_TRACE_PHASE, "update", network->update_tick);
    ohm_trace_kernel(network->trace, "optimiser");
    ohm_network_mark(network, "update", NULL);
    if (!network->host.stepping)
        OHM_TRY(ohm_network_set_numbers(network, lr, step));
    decide(network);
    const ohm_step_numbers *numbers = ohm_arena_at(network->arena, network->numbers);
    const ohm_step_totals *totals = ohm_network_totals_at(network);
    ohm_optimiser_rule rule = rule_of(config);
    for (int i = 0; i < network->parameters; i++) {
        const ohm_parameter *p = &network->parameter[i];
        if (!p->gradient)
            continue;
        float decay = p->decays ? (float)config->train.weight_decay : 0.0f;
        rule.decoupled = config->train.optimiser == OHM_OPTIMISER_ADAMW ? decay : 0.0f;
        rule.l2 = config->train.optimiser == OHM_OPTIMISER_ADAMW ? 0.0f : decay;
        if (config->train.optimiser == OHM_OPTIMISER_SGD)
            network->backend->sgd(network->device, p->value, p->gradient, p->moment1, p->count,
                                  &rule, numbers, totals);
        else
            network->backend->adam(network->device, p->value, p->gradient, p->moment1, p->moment2,
                                   p->count, &rule, numbers, totals);
    }
    ohm_trace_end(network->trace);
    ohm_trace_end(network->trace);
    return ohm_network_status(network);
}

ohm_status ohm_network_set_hardware(ohm_network *network, const ohm_hardware *hardware)
{
    for (int i = 0; i < network->count; i++)
        if (network->layer[i].noisy)
            OHM_TRY(ohm_noisy_set_hardware(network->layer[i].noisy, hardware));
    network->config.hardware = *hardware;
    ohm_network_forget_recording(network);
    return OHM_OK;
}
