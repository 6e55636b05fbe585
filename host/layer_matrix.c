/* Linear layers and convolutions without noise: y = scale∘(x wᵀ) + b, and their backward pass, which
 * is also the straight-through backward of the noisy ones (physics.md section 1, step 9). */
#include "host/network_internal.h"

static size_t rows_of(const ohm_layer *layer, int images)
{
    return ohm_conv_rows(&layer->conv, images);
}

static size_t weight_count(const ohm_layer *layer)
{
    return (size_t)layer->out * (size_t)ohm_conv_k(&layer->conv);
}

void ohm_matrix_clean(ohm_network *network, ohm_layer *layer, int images)
{
    const ohm_backend *backend = network->backend;
    float *y = ohm_network_value(network, layer->index),
          *workspace = ohm_network_at(network, layer->now.forward_workspace);
    const float *x = ohm_network_value(network, layer->desc.input);
    const float *w = ohm_layer_value_of(network, layer, OHM_ROLE_WEIGHT);
    const float *bias = ohm_layer_value_of(network, layer, OHM_ROLE_BIAS);
    const float *scale = ohm_layer_value_of(network, layer, OHM_ROLE_COLUMN_SCALE);
    size_t rows = rows_of(layer, images), n = (size_t)layer->out;
    ohm_trace_kernel(network->trace, "gemm");
    backend->conv_forward(network->device, y, x, w, scale ? NULL : bias, &layer->conv, images,
                          workspace, layer->forward_floats);
    ohm_trace_end(network->trace);
    if (!scale)
        return;
    ohm_trace_kernel(network->trace, "rescale");
    backend->scale_columns(network->device, y, y, scale, rows, n);
    if (bias)
        backend->add_row(network->device, y, bias, rows, n);
    ohm_trace_end(network->trace);
}

ohm_status ohm_matrix_forward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass)
{
    if (layer->noisy && pass->mode != OHM_MODE_BASELINE)
        return ohm_noisy_layer_forward(network, layer, pass);
    ohm_matrix_clean(network, layer, pass->images);
    return OHM_OK;
}

/* ---- backward ------------------------------------------------------------------------------ */

/* In mode full the simulator has a backward pass of its own. */
static int has_clean_backward(const ohm_network *network, const ohm_layer *layer)
{
    return network->options.every_mode || !layer->noisy || !network->plans_chip ||
           network->config.train.mode != OHM_MODE_FULL;
}

static void bias_gradient(ohm_network *network, const ohm_layer *layer, const float *dy, int images)
{
    float *db = ohm_layer_gradient_of(network, layer, OHM_ROLE_BIAS);
    double *partial = ohm_arena_at(network->arena, layer->backward_workspace);
    if (db)
        network->backend->sum_columns(network->device, db, dy, rows_of(layer, images),
                                      (size_t)layer->out, partial);
}

/* dw, and with a learned output scale its gradient; dy becomes the gradient of x wᵀ. */
static void weight_gradient(ohm_network *network, const ohm_layer *layer, float *dy, int images)
{
    const ohm_backend *backend = network->backend;
    const float *x = ohm_network_value(network, layer->desc.input);
    const float *scale = ohm_layer_value_of(network, layer, OHM_ROLE_COLUMN_SCALE);
    float *dw = ohm_layer_gradient_of(network, layer, OHM_ROLE_WEIGHT);
    float *workspace = ohm_network_at(network, layer->backward_workspace);
    if (!scale) {
        backend->conv_weight(network->device, dw, dy, x, &layer->conv, images, workspace,
                             layer->backward_floats);
        return;
    }
    size_t count = weight_count(layer), n = (size_t)layer->out;
    backend->fill(network->device, workspace, 0.0f, count);
    backend->conv_weight(network->device, workspace, dy, x, &layer->conv, images, workspace + count,
                         layer->backward_floats - count);
    backend->scale_gradient(network->device,
                            ohm_layer_gradient_of(network, layer, OHM_ROLE_COLUMN_SCALE), dw,
                            workspace, ohm_layer_value_of(network, layer, OHM_ROLE_WEIGHT), scale,
                            n, (size_t)ohm_conv_k(&layer->conv));
    backend->scale_columns(network->device, dy, dy, scale, rows_of(layer, images), n);
}

static void x_gradient(ohm_network *network, const ohm_layer *layer, float *dx, int accumulate,
                       const float *dy, int images)
{
    ohm_trace_kernel(network->trace, "input_gradient");
    network->backend->conv_input(
        network->device, dx, dy, ohm_layer_value_of(network, layer, OHM_ROLE_WEIGHT), &layer->conv,
        images, accumulate, ohm_network_at(network, layer->backward_workspace),
        layer->backward_floats);
    ohm_trace_end(network->trace);
}

/* The range of x takes the gradient of what it clips: of this layer's own share of dx. */
static void range_gradient(ohm_network *network, const ohm_layer *layer, const float *dx,
                           int images)
{
    network->backend->range_gradient(
        network->device, ohm_layer_gradient_of(network, layer, OHM_ROLE_X_RANGE), dx,
        ohm_network_value(network, layer->desc.input),
        ohm_layer_value_of(network, layer, OHM_ROLE_X_RANGE), (size_t)images * layer->in_floats,
        ohm_arena_at(network->arena, layer->backward_workspace));
}

ohm_status ohm_matrix_backward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass)
{
    int noisy = layer->noisy && pass->mode != OHM_MODE_BASELINE;
    if (noisy && pass->mode == OHM_MODE_FULL)
        return ohm_noisy_layer_backward(network, layer, pass);
    if (!has_clean_backward(network, layer))
        return OHM_FAIL(OHM_ERR_ARGUMENT, "a straight-through backward pass on a network that was "
                                          "planned for mode full alone");
    ohm_trace *trace = network->trace;
    float *dy = ohm_network_gradient(network, layer->index),
          *dx = ohm_network_gradient(network, layer->desc.input);
    ohm_trace_kernel(trace, "bias_gradient");
    bias_gradient(network, layer, dy, pass->images);
    ohm_trace_end(trace);
    ohm_trace_kernel(trace, "weight_gradient");
    weight_gradient(network, layer, dy, pass->images);
    ohm_trace_end(trace);
    if (!noisy || !ohm_layer_parameter(network, layer, OHM_ROLE_X_RANGE)) {
        if (dx)
            x_gradient(network, layer, dx, layer->route == OHM_GRADIENT_ACCUMULATE, dy,
                       pass->images);
        return OHM_OK;
    }
    float *own =
        layer->own_gradient == OHM_NO_BUFFER ? dx : ohm_network_at(network, layer->own_gradient);
    x_gradient(network, layer, own, 0, dy, pass->images);
    ohm_trace_kernel(trace, "range_gradient");
    range_gradient(network, layer, own, pass->images);
    if (dx && own != dx)
        network->backend->add(network->device, dx, dx, own,
                              (size_t)pass->images * layer->in_floats);
    ohm_trace_end(trace);
    return OHM_OK;
}

/* ---- memory -------------------------------------------------------------------------------- */

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t backward_floats(const ohm_network *network, const ohm_layer *layer, int threads)
{
    const ohm_backend *backend = network->backend;
    int images = network->options.max_batch;
    size_t scaled = layer->parameter[OHM_ROLE_COLUMN_SCALE] >= 0 ? weight_count(layer) : 0;
    size_t weight = backend->conv_weight_floats(&layer->conv, images, threads) + scaled;
    size_t input = backend->conv_input_floats(&layer->conv, images, threads);
    size_t columns = 2 * backend->column_partials(rows_of(layer, images), (size_t)layer->out);
    size_t range = layer->parameter[OHM_ROLE_X_RANGE] >= 0
                       ? 2 * backend->column_partials((size_t)images * layer->in_floats, 1)
                       : 0;
    return larger(larger(weight, input), larger(columns, range));
}

/* Fewer threads get a slot each where the workspace is bounded; one always does. */
static int threads_within(const ohm_network *network, const ohm_layer *layer)
{
    int threads =
        network->config.threads > 0 ? network->config.threads : network->backend->threads();
    size_t bound = (size_t)network->config.train.workspace_mib << 18;
    while (threads > 1 && larger(network->backend->conv_forward_floats(
                                     &layer->conv, network->options.max_batch, threads),
                                 network->options.training && has_clean_backward(network, layer)
                                     ? backward_floats(network, layer, threads)
                                     : 0) > bound)
        threads--;
    return threads;
}

ohm_status ohm_matrix_plan(ohm_network *network, ohm_layer *layer)
{
    int threads = threads_within(network, layer), images = network->options.max_batch,
        i = layer->at, tick = layer->back_tick;
    layer->forward_floats = network->backend->conv_forward_floats(&layer->conv, images, threads);
    if (layer->noisy && network->plans_chip)
        OHM_TRY(ohm_noisy_layer_plan(network, layer));
    OHM_TRY(ohm_network_buffer(network, &layer->now.forward_workspace, layer->desc.name,
                               "forward workspace", layer->forward_floats * sizeof(float),
                               OHM_MEMORY_WORKSPACE, i, i));
    if (!network->options.training || layer->until != tick)
        return OHM_OK;
    if (has_clean_backward(network, layer))
        layer->backward_floats =
            larger(layer->backward_floats, backward_floats(network, layer, threads));
    OHM_TRY(ohm_network_buffer(network, &layer->backward_workspace, layer->desc.name,
                               "backward workspace", layer->backward_floats * sizeof(float),
                               OHM_MEMORY_WORKSPACE, tick, tick));
    int learned = network->plans_chip && layer->parameter[OHM_ROLE_X_RANGE] >= 0;
    if (!learned || layer->route == OHM_GRADIENT_WRITE)
        return OHM_OK;
    return ohm_network_buffer(network, &layer->own_gradient, layer->desc.name, "own gradient",
                              (size_t)images * layer->in_floats * sizeof(float),
                              OHM_MEMORY_GRADIENTS, tick, tick);
}
