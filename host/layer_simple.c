/* Batch normalisation, pooling, ReLU and addition. */
#include "host/network_internal.h"

static const double NORM_MOMENTUM = 0.1, NORM_EPSILON = 1e-5;

/* ---- batch norm ---------------------------------------------------------------------------- */

static size_t norm_rows(const ohm_layer *layer, int images)
{
    return (size_t)images * (size_t)layer->out_height * (size_t)layer->out_width;
}

ohm_status ohm_norm_plan(ohm_network *network, ohm_layer *layer)
{
    size_t channels = (size_t)layer->out;
    size_t bytes = network->backend->batch_norm_doubles(
                       norm_rows(layer, network->options.max_batch), channels) *
                   sizeof(double);
    int i = layer->at, tick = layer->back_tick;
    OHM_TRY(ohm_network_buffer(network, &layer->now.forward_workspace, layer->desc.name,
                               "forward workspace", bytes, OHM_MEMORY_WORKSPACE, i, i));
    if (!network->options.training)
        return OHM_OK;
    OHM_TRY(ohm_network_buffer(network, &layer->now.saved, layer->desc.name, "batch statistics",
                               2 * channels * sizeof(float), OHM_MEMORY_ACTIVATIONS, i,
                               layer->until));
    if (layer->until != tick)
        return OHM_OK;
    return ohm_network_buffer(network, &layer->backward_workspace, layer->desc.name,
                              "backward workspace", bytes, OHM_MEMORY_WORKSPACE, tick, tick);
}

ohm_status ohm_norm_forward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass)
{
    const ohm_backend *backend = network->backend;
    float *y = ohm_network_value(network, layer->index);
    const float *x = ohm_network_value(network, layer->desc.input);
    const float *gamma = ohm_layer_value_of(network, layer, OHM_ROLE_WEIGHT);
    const float *beta = ohm_layer_value_of(network, layer, OHM_ROLE_BIAS);
    float *mean = ohm_layer_value_of(network, layer, OHM_ROLE_MEAN);
    float *variance = ohm_layer_value_of(network, layer, OHM_ROLE_VARIANCE);
    double *workspace = ohm_arena_at(network->arena, layer->now.forward_workspace);
    size_t rows = norm_rows(layer, pass->images), channels = (size_t)layer->out;
    double momentum = network->recomputing ? 0.0 : NORM_MOMENTUM; /* the statistics have moved */
    if (pass->training)
        backend->batch_norm_train(network->device, y, ohm_network_at(network, layer->now.saved),
                                  mean, variance, x, gamma, beta, rows, channels, momentum,
                                  NORM_EPSILON, workspace);
    else
        backend->batch_norm_infer(network->device, y, x, gamma, beta, mean, variance, rows,
                                  channels, NORM_EPSILON, workspace);
    return OHM_OK;
}

ohm_status ohm_norm_backward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass)
{
    const float *dy = ohm_network_gradient(network, layer->index);
    float *dx = ohm_network_gradient(network, layer->desc.input);
    if (!dx) /* images need no gradient, but gamma and beta do */
        dx = ohm_network_gradient(network, layer->index);
    network->backend->batch_norm_backward(
        network->device, dx, ohm_layer_gradient_of(network, layer, OHM_ROLE_WEIGHT),
        ohm_layer_gradient_of(network, layer, OHM_ROLE_BIAS), dy,
        ohm_network_value(network, layer->desc.input), ohm_network_at(network, layer->now.saved),
        ohm_layer_value_of(network, layer, OHM_ROLE_WEIGHT), norm_rows(layer, pass->images),
        (size_t)layer->out, layer->route == OHM_GRADIENT_ACCUMULATE,
        ohm_arena_at(network->arena, layer->backward_workspace));
    return OHM_OK;
}

/* ---- pooling ------------------------------------------------------------------------------- */

ohm_status ohm_pool_plan(ohm_network *network, ohm_layer *layer)
{
    if (!network->options.training)
        return OHM_OK;
    return ohm_network_buffer(network, &layer->now.saved, layer->desc.name, "winners",
                              ohm_layer_out_count(layer, network->options.max_batch),
                              OHM_MEMORY_ACTIVATIONS, layer->at, layer->until);
}

static uint8_t *winners(const ohm_network *network, const ohm_layer *layer)
{
    return layer->now.saved == OHM_NO_BUFFER ? NULL : ohm_arena_at(network->arena, layer->now.saved);
}

static ohm_status max_forward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass)
{
    network->backend->max_pool(
        network->device, ohm_network_value(network, layer->index), winners(network, layer),
        ohm_network_value(network, layer->desc.input), &layer->pool, pass->images);
    return OHM_OK;
}

static ohm_status max_backward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass)
{
    float *dx = ohm_network_gradient(network, layer->desc.input);
    if (dx)
        network->backend->max_pool_backward(network->device, dx,
                                            ohm_network_gradient(network, layer->index),
                                            winners(network, layer), &layer->pool, pass->images,
                                            layer->route == OHM_GRADIENT_ACCUMULATE);
    return OHM_OK;
}

static ohm_status avg_forward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass)
{
    network->backend->avg_pool(network->device, ohm_network_value(network, layer->index),
                               ohm_network_value(network, layer->desc.input), &layer->pool,
                               pass->images);
    return OHM_OK;
}

static ohm_status avg_backward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass)
{
    float *dx = ohm_network_gradient(network, layer->desc.input);
    if (dx)
        network->backend->avg_pool_backward(
            network->device, dx, ohm_network_gradient(network, layer->index), &layer->pool,
            pass->images, layer->route == OHM_GRADIENT_ACCUMULATE);
    return OHM_OK;
}

/* ---- ReLU and addition --------------------------------------------------------------------- */

static ohm_status relu_forward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass)
{
    network->backend->relu(network->device, ohm_network_value(network, layer->index),
                           ohm_network_value(network, layer->desc.input),
                           ohm_layer_out_count(layer, pass->images));
    return OHM_OK;
}

static ohm_status relu_backward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass)
{
    float *dx = ohm_network_gradient(network, layer->desc.input);
    if (dx)
        network->backend->relu_backward(
            network->device, dx, ohm_network_gradient(network, layer->index),
            ohm_network_value(network, layer->index), ohm_layer_out_count(layer, pass->images),
            layer->route == OHM_GRADIENT_ACCUMULATE);
    return OHM_OK;
}

static ohm_status add_forward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass)
{
    network->backend->add(network->device, ohm_network_value(network, layer->index),
                          ohm_network_value(network, layer->desc.input),
                          ohm_network_value(network, layer->desc.other),
                          ohm_layer_out_count(layer, pass->images));
    return OHM_OK;
}

static void pass_on(ohm_network *network, const ohm_layer *layer, int operand,
                    ohm_gradient_route route, int images)
{
    const float *dy = ohm_network_gradient(network, layer->index);
    float *dx = ohm_network_gradient(network, operand);
    size_t count = ohm_layer_out_count(layer, images);
    if (route == OHM_GRADIENT_WRITE)
        network->backend->copy(network->device, dx, dy, count);
    else if (route == OHM_GRADIENT_ACCUMULATE)
        network->backend->add(network->device, dx, dx, dy, count);
}

static ohm_status add_backward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass)
{
    pass_on(network, layer, layer->desc.input, layer->route, pass->images);
    pass_on(network, layer, layer->desc.other, layer->other_route, pass->images);
    return OHM_OK;
}

const ohm_layer_verbs *ohm_layer_verbs_of(int kind)
{
    static const ohm_layer_verbs verbs[OHM_LAYER_KINDS] = {
        [OHM_LAYER_LINEAR] = {ohm_matrix_forward, ohm_matrix_backward},
        [OHM_LAYER_CONV] = {ohm_matrix_forward, ohm_matrix_backward},
        [OHM_LAYER_BATCH_NORM] = {ohm_norm_forward, ohm_norm_backward},
        [OHM_LAYER_RELU] = {relu_forward, relu_backward},
        [OHM_LAYER_MAX_POOL] = {max_forward, max_backward},
        [OHM_LAYER_AVG_POOL] = {avg_forward, avg_backward},
        [OHM_LAYER_GLOBAL_AVG_POOL] = {avg_forward, avg_backward},
        [OHM_LAYER_ADD] = {add_forward, add_backward},
    };
    return &verbs[kind];
}
