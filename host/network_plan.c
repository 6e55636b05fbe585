/* Shapes, then memory: which buffer holds which value and gradient, and when each is live, in the ticks
 * of network_segments.c. */
#include <stdio.h>
#include <string.h>

#include "host/network_internal.h"

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

/* Last tick at which `reader` looks at an operand, as the first forward pass left it (again = 0) or as
 * the recomputation did. */
static int read_tick(const ohm_network *network, const ohm_layer *reader, int again, int inside)
{
    int first_pass = inside && !again;
    if (network->options.training && keeps_input(reader) && !(first_pass && reader->recomputed))
        return reader->back_tick;
    return reader->recomputed && !first_pass ? reader->again_tick : reader->index;
}

/* Last tick at which the output of layer `value` is read, by a later layer or by a backward pass. Of a
 * recomputed segment the first pass serves the segment itself and later ones, the second itself alone. */
static int last_read(const ohm_network *network, int value, int again)
{
    const ohm_layer *layer = &network->layer[value];
    int last = again ? layer->again_tick : value;
    int keeps =
        layer->desc.kind == OHM_LAYER_RELU || ohm_noisy_layer_keeps_output(network, layer);
    if (network->options.training && keeps && again == layer->recomputed)
        last = layer->back_tick;
    for (int j = value + 1; j < network->count; j++) {
        const ohm_layer *reader = &network->layer[j];
        int inside = reader->segment == layer->segment;
        if (!reads(reader, value) || (again && !inside))
            continue;
        int tick = read_tick(network, reader, again, inside);
        last = tick > last ? tick : last;
    }
    /* The logits stay until the next forward pass. */
    return value == network->count - 1 ? network->update_tick : last;
}

static int works_in_place(const ohm_network *network, const ohm_layer *layer)
{
    return layer->desc.kind == OHM_LAYER_RELU || layer->desc.kind == OHM_LAYER_ADD ||
           (layer->desc.kind == OHM_LAYER_BATCH_NORM && !network->options.training);
}

/* The operand whose buffer the layer may write over: one that nobody reads later. */
static int overwritten(const ohm_network *network, const ohm_layer *layer, int again)
{
    if (!works_in_place(network, layer))
        return -1;
    const int operand[2] = {layer->desc.input,
                            layer->desc.kind == OHM_LAYER_ADD ? layer->desc.other : -1};
    for (int i = 0; i < 2; i++)
        if (operand[i] >= 0 && network->layer[operand[i]].segment >= layer->segment * again &&
            last_read(network, operand[i], again) <= (again ? layer->again_tick : layer->index))
            return operand[i];
    return -1;
}

static ohm_layer_buffers *buffers_of(ohm_layer *layer, int again)
{
    return again ? &layer->again : &layer->first;
}

static ohm_status plan_values(ohm_network *network, int again)
{
    size_t batch = (size_t)network->options.max_batch * sizeof(float);
    for (int i = 0; i < network->count; i++) {
        ohm_layer *layer = &network->layer[i];
        if (again && !layer->recomputed)
            continue;
        int *value = &buffers_of(layer, again)->value, operand = overwritten(network, layer, again),
            last = last_read(network, i, again);
        if (operand >= 0) {
            *value = buffers_of(&network->layer[operand], again)->value;
            OHM_TRY(ohm_arena_extend(network->arena, *value, last));
        } else {
            OHM_TRY(ohm_network_buffer(network, value, layer->desc.name, "value",
                                       batch * layer->out_floats, OHM_MEMORY_ACTIVATIONS,
                                       again ? layer->again_tick : i, last));
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
    int first = layer->back_tick, last = from->back_tick;
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
    static const ohm_layer_buffers none = {OHM_NO_BUFFER, OHM_NO_BUFFER, OHM_NO_BUFFER,
                                           OHM_NO_BUFFER, OHM_NO_BUFFER, OHM_NO_BUFFER};
    layer->now = layer->first = layer->again = none;
    layer->gradient = layer->backward_workspace = layer->own_gradient = OHM_NO_BUFFER;
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

/* A layer's own buffers for one forward pass, in `to`, which holds its value already. */
static ohm_status plan_pass(ohm_network *network, ohm_layer *layer, ohm_layer_buffers *to, int at,
                            int until, int pass_end)
{
    layer->now = *to;
    layer->at = at;
    layer->until = until;
    layer->pass_end = pass_end;
    OHM_TRY(plan_layer(network, layer));
    *to = layer->now;
    return OHM_OK;
}

static ohm_status plan_passes(ohm_network *network, ohm_layer *layer)
{
    int i = layer->index, back = layer->back_tick;
    OHM_TRY(plan_pass(network, layer, &layer->first, i, layer->recomputed ? i : back,
                      network->count - 1));
    if (layer->recomputed)
        OHM_TRY(
            plan_pass(network, layer, &layer->again, layer->again_tick, back, layer->again_end));
    layer->now = layer->first;
    return OHM_OK;
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
                               OHM_MEMORY_WORKSPACE, 0, network->update_tick - 1));
    for (int i = 0; i < network->count; i++)
        network->layer[i].now.scratch = network->layer[i].first.scratch =
            network->layer[i].again.scratch = id;
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
    OHM_TRY(ohm_network_buffer(network, &network->totals, "step", "totals", sizeof(ohm_step_totals),
                               OHM_MEMORY_WORKSPACE, OHM_ALWAYS, 0));
    OHM_TRY(ohm_network_buffer(network, &network->numbers, "step", "numbers",
                               sizeof(ohm_step_numbers), OHM_MEMORY_WORKSPACE, OHM_ALWAYS, 0));
    OHM_TRY(ohm_network_buffer(network, &network->faults, "step", "faults",
                               (size_t)network->count * sizeof(uint32_t), OHM_MEMORY_WORKSPACE,
                               OHM_ALWAYS, 0));
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
    OHM_TRY(ohm_network_cut(network));
    OHM_TRY(plan_common(network));
    OHM_TRY(ohm_network_plan_parameters(network));
    for (int again = 0; again < 2; again++)
        OHM_TRY(plan_values(network, again));
    if (training)
        OHM_TRY(plan_gradients(network));
    for (int i = 0; i < network->count; i++)
        OHM_TRY(plan_passes(network, &network->layer[i]));
    if (training && network->plans_chip && mode == OHM_MODE_FULL)
        OHM_TRY(plan_full_scratch(network));
    return ohm_arena_place(network->arena);
}
