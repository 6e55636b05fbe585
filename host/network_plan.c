/* Shapes, then memory: which buffer holds which value and gradient, and when each is live. Forward of
 * layer i is tick i, its backward tick 2n-1-i, the update tick 2n. */
#include <stdio.h>
#include <string.h>

#include "host/network_internal.h"

int ohm_network_backward_tick(const ohm_network *network, int layer)
{
    return 2 * network->count - 1 - layer;
}

ohm_status ohm_network_buffer(ohm_network *network, int *id, const char *layer, const char *what,
                              size_t bytes, ohm_memory_category category, int first, int last)
{
    *id = OHM_NO_BUFFER;
    if (bytes == 0)
        return OHM_OK;
    char name[OHM_LAYER_NAME_BYTES + 32];
    snprintf(name, sizeof name, "%s.%s", layer, what);
    return ohm_arena_add(network->arena, id, name, bytes, category, first, last);
}

/* ---- shapes -------------------------------------------------------------------------------- */

static ohm_status check_operand(const ohm_layer *layer, int operand, const char *which)
{
    if (operand < -1 || operand >= layer->index)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "layer %d (%s): %s operand %d is not an earlier layer",
                        layer->index, layer->desc.name, which, operand);
    return OHM_OK;
}

/* Output size of a window of `kernel` pixels that moves by `stride` over size + 2 pad pixels. */
static ohm_status window_size(int *out, const ohm_layer *layer, int size, int pad)
{
    const ohm_layer_desc *d = &layer->desc;
    if (d->kernel < 1 || d->stride < 1 || pad < 0 || d->kernel > size + 2 * pad)
        return OHM_FAIL(OHM_ERR_ARGUMENT,
                        "layer %s: kernel %d, stride %d, padding %d do not fit %d pixels", d->name,
                        d->kernel, d->stride, pad, size);
    *out = (size + 2 * pad - d->kernel) / d->stride + 1;
    return OHM_OK;
}

static ohm_status matrix_shape(ohm_layer *layer, int height, int width, int channels)
{
    if (layer->desc.out < 1)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "layer %s: %d outputs; give at least 1", layer->desc.name,
                        layer->desc.out);
    layer->out = layer->desc.out;
    ohm_conv_shape *s = &layer->conv;
    if (layer->desc.kind == OHM_LAYER_LINEAR) {
        *s = (ohm_conv_shape){1, 1, height * width * channels, 1, 1, 0, 1, 1, layer->out};
        layer->out_height = layer->out_width = 1;
        return OHM_OK;
    }
    OHM_TRY(window_size(&layer->out_height, layer, height, layer->desc.pad));
    OHM_TRY(window_size(&layer->out_width, layer, width, layer->desc.pad));
    *s = (ohm_conv_shape){height,
                          width,
                          channels,
                          layer->desc.kernel,
                          layer->desc.stride,
                          layer->desc.pad,
                          layer->out_height,
                          layer->out_width,
                          layer->out};
    return OHM_OK;
}

static ohm_status pool_shape(ohm_layer *layer, int height, int width, int channels)
{
    if (layer->desc.kind == OHM_LAYER_GLOBAL_AVG_POOL) {
        if (height != width)
            return OHM_FAIL(OHM_ERR_ARGUMENT,
                            "layer %s: global pooling needs square images, not %dx%d",
                            layer->desc.name, height, width);
        layer->desc.kernel = layer->desc.stride = height;
    }
    if (layer->desc.kind == OHM_LAYER_MAX_POOL && layer->desc.kernel > 15)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "layer %s: max pooling windows go up to 15x15",
                        layer->desc.name);
    OHM_TRY(window_size(&layer->out_height, layer, height, 0));
    OHM_TRY(window_size(&layer->out_width, layer, width, 0));
    layer->out = channels;
    layer->pool = (ohm_pool_shape){
        height,          width, channels, layer->desc.kernel, layer->desc.stride, layer->out_height,
        layer->out_width};
    return OHM_OK;
}

static ohm_status add_shape(const ohm_network *network, ohm_layer *layer, int height, int width,
                            int channels)
{
    OHM_TRY(check_operand(layer, layer->desc.other, "second"));
    const ohm_layer *other = layer->desc.other < 0 ? NULL : &network->layer[layer->desc.other];
    if (!other || layer->desc.other == layer->desc.input || other->out_height != height ||
        other->out_width != width || other->out != channels)
        return OHM_FAIL(OHM_ERR_ARGUMENT,
                        "layer %s: addition needs two different layers of one shape",
                        layer->desc.name);
    return OHM_OK;
}

static ohm_status layer_shape(ohm_network *network, ohm_layer *layer)
{
    const ohm_architecture *a = &network->architecture;
    OHM_TRY(check_operand(layer, layer->desc.input, "first"));
    const ohm_layer *from = layer->desc.input < 0 ? NULL : &network->layer[layer->desc.input];
    int height = from ? from->out_height : a->height, width = from ? from->out_width : a->width;
    int channels = from ? from->out : a->channels;
    layer->in_floats = (size_t)height * (size_t)width * (size_t)channels;
    layer->out_height = height;
    layer->out_width = width;
    layer->out = channels;
    switch (layer->desc.kind) {
    case OHM_LAYER_LINEAR:
    case OHM_LAYER_CONV:
        OHM_TRY(matrix_shape(layer, height, width, channels));
        break;
    case OHM_LAYER_MAX_POOL:
    case OHM_LAYER_AVG_POOL:
    case OHM_LAYER_GLOBAL_AVG_POOL:
        OHM_TRY(pool_shape(layer, height, width, channels));
        break;
    case OHM_LAYER_ADD:
        OHM_TRY(add_shape(network, layer, height, width, channels));
        break;
    case OHM_LAYER_BATCH_NORM:
    case OHM_LAYER_RELU:
        break;
    default:
        return OHM_FAIL(OHM_ERR_ARGUMENT, "layer %s: kind %d is unknown", layer->desc.name,
                        layer->desc.kind);
    }
    layer->out_floats = (size_t)layer->out_height * (size_t)layer->out_width * (size_t)layer->out;
    return OHM_OK;
}

ohm_status ohm_network_shapes(ohm_network *network)
{
    const ohm_architecture *a = &network->architecture;
    if (a->count < 1 || a->count > OHM_LAYERS_MAX || a->height < 1 || a->width < 1 ||
        a->channels < 1)
        return OHM_FAIL(OHM_ERR_ARGUMENT,
                        "architecture %s: %d layers on %dx%dx%d images; need 1..%d layers", a->name,
                        a->count, a->height, a->width, a->channels, OHM_LAYERS_MAX);
    for (int i = 0; i < a->count; i++) {
        ohm_layer *layer = &network->layer[i];
        layer->desc = a->layer[i];
        layer->index = i;
        OHM_TRY(layer_shape(network, layer));
    }
    if (network->layer[a->count - 1].out_floats != (size_t)a->classes)
        return OHM_FAIL(OHM_ERR_ARGUMENT,
                        "architecture %s: the last layer gives %zu values for %d classes", a->name,
                        network->layer[a->count - 1].out_floats, a->classes);
    return OHM_OK;
}

/* ---- values -------------------------------------------------------------------------------- */

static int reads(const ohm_layer *layer, int value)
{
    return layer->desc.input == value ||
           (layer->desc.kind == OHM_LAYER_ADD && layer->desc.other == value);
}

static int keeps_input(const ohm_layer *layer)
{
    return ohm_layer_is_matrix(layer->desc.kind) || layer->desc.kind == OHM_LAYER_BATCH_NORM;
}

/* Last tick at which the output of layer `value` is read, by a later layer or by a backward pass. */
static int last_read(const ohm_network *network, int value)
{
    const ohm_layer *layer = &network->layer[value];
    int training = network->options.training, last = value;
    if (training && layer->desc.kind == OHM_LAYER_RELU)
        last = ohm_network_backward_tick(network, value);
    for (int j = value + 1; j < network->count; j++) {
        const ohm_layer *reader = &network->layer[j];
        if (!reads(reader, value))
            continue;
        int tick = training && keeps_input(reader) ? ohm_network_backward_tick(network, j) : j;
        last = tick > last ? tick : last;
    }
    /* The logits stay until the next forward pass. */
    return value == network->count - 1 ? 2 * network->count : last;
}

static int works_in_place(const ohm_network *network, const ohm_layer *layer)
{
    return layer->desc.kind == OHM_LAYER_RELU || layer->desc.kind == OHM_LAYER_ADD ||
           (layer->desc.kind == OHM_LAYER_BATCH_NORM && !network->options.training);
}

/* The operand whose buffer the layer may write over: one that nobody reads later. */
static int overwritten(const ohm_network *network, const ohm_layer *layer)
{
    if (!works_in_place(network, layer))
        return -1;
    const int operand[2] = {layer->desc.input,
                            layer->desc.kind == OHM_LAYER_ADD ? layer->desc.other : -1};
    for (int i = 0; i < 2; i++)
        if (operand[i] >= 0 && last_read(network, operand[i]) <= layer->index)
            return operand[i];
    return -1;
}

static ohm_status plan_values(ohm_network *network)
{
    size_t batch = (size_t)network->options.max_batch * sizeof(float);
    for (int i = 0; i < network->count; i++) {
        ohm_layer *layer = &network->layer[i];
        int operand = overwritten(network, layer), last = last_read(network, i);
        if (operand >= 0) {
            layer->value = network->layer[operand].value;
            OHM_TRY(ohm_arena_extend(network->arena, layer->value, last));
        } else {
            OHM_TRY(ohm_network_buffer(network, &layer->value, layer->desc.name, "value",
                                       batch * layer->out_floats, OHM_MEMORY_ACTIVATIONS, i, last));
        }
    }
    return OHM_OK;
}

/* ---- gradients ----------------------------------------------------------------------------- */

static int last_reader(const ohm_network *network, int value)
{
    int last = -1;
    for (int j = value + 1; j < network->count; j++)
        if (reads(&network->layer[j], value))
            last = j;
    return last;
}

/* Backward runs from the last layer: the last reader of a value is the first to write its gradient. */
static ohm_gradient_route route_of(const ohm_network *network, const ohm_layer *layer, int operand)
{
    if (operand < 0)
        return OHM_GRADIENT_NONE;
    return last_reader(network, operand) == layer->index ? OHM_GRADIENT_WRITE
                                                         : OHM_GRADIENT_ACCUMULATE;
}

/* Gradients that are element-wise functions of the output's gradient take over its buffer. */
static void route_gradients(const ohm_network *network, ohm_layer *layer)
{
    int kind = layer->desc.kind;
    layer->route = route_of(network, layer, layer->desc.input);
    layer->other_route =
        kind == OHM_LAYER_ADD ? route_of(network, layer, layer->desc.other) : OHM_GRADIENT_NONE;
    if (kind != OHM_LAYER_RELU && kind != OHM_LAYER_ADD && kind != OHM_LAYER_BATCH_NORM)
        return;
    if (layer->route == OHM_GRADIENT_WRITE)
        layer->route = OHM_GRADIENT_IN_PLACE;
    else if (layer->other_route == OHM_GRADIENT_WRITE)
        layer->other_route = OHM_GRADIENT_IN_PLACE;
}

/* The gradient of `operand` begins at this layer's backward and ends at its own layer's. */
static ohm_status plan_gradient(ohm_network *network, ohm_layer *layer, int operand,
                                ohm_gradient_route route)
{
    if (operand < 0 || route == OHM_GRADIENT_ACCUMULATE || route == OHM_GRADIENT_NONE)
        return OHM_OK;
    ohm_layer *from = &network->layer[operand];
    int first = ohm_network_backward_tick(network, layer->index),
        last = ohm_network_backward_tick(network, operand);
    if (route == OHM_GRADIENT_IN_PLACE) {
        from->gradient = layer->gradient;
        return ohm_arena_extend(network->arena, from->gradient, last);
    }
    size_t bytes = (size_t)network->options.max_batch * from->out_floats * sizeof(float);
    return ohm_network_buffer(network, &from->gradient, from->desc.name, "gradient", bytes,
                              OHM_MEMORY_GRADIENTS, first, last);
}

static ohm_status plan_gradients(ohm_network *network)
{
    ohm_layer *logits = &network->layer[network->count - 1];
    size_t bytes = (size_t)network->options.max_batch * logits->out_floats * sizeof(float);
    OHM_TRY(ohm_network_buffer(network, &logits->gradient, logits->desc.name, "gradient", bytes,
                               OHM_MEMORY_GRADIENTS, network->count, network->count));
    for (int i = network->count - 1; i >= 0; i--) {
        ohm_layer *layer = &network->layer[i];
        if (layer->gradient == OHM_NO_BUFFER)
            return OHM_FAIL(OHM_ERR_ARGUMENT, "layer %s: no later layer reads its output",
                            layer->desc.name);
        route_gradients(network, layer);
        OHM_TRY(plan_gradient(network, layer, layer->desc.input, layer->route));
        OHM_TRY(plan_gradient(network, layer, layer->desc.other, layer->other_route));
    }
    return OHM_OK;
}

/* ---- all ----------------------------------------------------------------------------------- */

static void forget_buffers(ohm_layer *layer)
{
    layer->value = layer->gradient = layer->saved = OHM_NO_BUFFER;
    layer->forward_workspace = layer->backward_workspace = OHM_NO_BUFFER;
    layer->state = layer->scratch = layer->own_gradient = OHM_NO_BUFFER;
}

static ohm_status plan_layer(ohm_network *network, ohm_layer *layer)
{
    switch (layer->desc.kind) {
    case OHM_LAYER_LINEAR:
    case OHM_LAYER_CONV:
        return ohm_matrix_plan(network, layer);
    case OHM_LAYER_BATCH_NORM:
        return ohm_norm_plan(network, layer);
    case OHM_LAYER_MAX_POOL:
        return ohm_pool_plan(network, layer);
    default:
        return OHM_OK;
    }
}

/* Saved simulator state waits for its backward pass; its scratch must stay where it was. */
static ohm_status plan_full_scratch(ohm_network *network)
{
    size_t most = 0;
    for (int i = 0; i < network->count; i++) {
        size_t bytes = network->layer[i].noisy
                           ? ohm_noisy_layer_scratch_bytes(network, &network->layer[i])
                           : 0;
        most = bytes > most ? bytes : most;
    }
    int id;
    OHM_TRY(ohm_network_buffer(network, &id, "all layers", "simulator scratch", most,
                               OHM_MEMORY_WORKSPACE, 0, 2 * network->count - 1));
    for (int i = 0; i < network->count; i++)
        network->layer[i].scratch = id;
    return OHM_OK;
}

static ohm_status plan_common(ohm_network *network)
{
    const ohm_architecture *a = &network->architecture;
    size_t batch = (size_t)network->options.max_batch;
    size_t pixels = (size_t)a->height * (size_t)a->width * (size_t)a->channels;
    OHM_TRY(ohm_network_buffer(network, &network->images, "images", "value",
                               batch * pixels * sizeof(float), OHM_MEMORY_ACTIVATIONS, OHM_ALWAYS,
                               0));
    OHM_TRY(ohm_network_buffer(network, &network->labels, "labels", "value",
                               batch * sizeof(int32_t), OHM_MEMORY_ACTIVATIONS, OHM_ALWAYS, 0));
    return ohm_network_buffer(network, &network->row_loss, "loss", "rows", batch * sizeof(double),
                              OHM_MEMORY_WORKSPACE, network->count, network->count);
}

ohm_status ohm_network_plan(ohm_network *network)
{
    int training = network->options.training, mode = network->config.train.mode;
    network->plans_chip =
        network->config.hardware_enabled && !(training && mode == OHM_MODE_BASELINE);
    for (int i = 0; i < network->count; i++)
        forget_buffers(&network->layer[i]);
    OHM_TRY(plan_common(network));
    OHM_TRY(ohm_network_plan_parameters(network));
    OHM_TRY(plan_values(network));
    if (training)
        OHM_TRY(plan_gradients(network));
    for (int i = 0; i < network->count; i++)
        OHM_TRY(plan_layer(network, &network->layer[i]));
    if (training && network->plans_chip && mode == OHM_MODE_FULL)
        OHM_TRY(plan_full_scratch(network));
    return ohm_arena_place(network->arena);
}
