/* A network's life: made from an architecture, stepped forward and backward, destroyed. */
#include "host/network.h"

#include <stdlib.h>
#include <string.h>

#include "host/network_internal.h"

/* ---- making -------------------------------------------------------------------------------- */

static ohm_status make_chips(ohm_network *network)
{
    for (int i = 0; i < network->count && network->config.hardware_enabled; i++) {
        ohm_layer *layer = &network->layer[i];
        if (!ohm_layer_is_matrix(layer->desc.kind) || !layer->desc.noisy)
            continue;
        ohm_status status = ohm_noisy_layer_create(network, layer);
        if (status != OHM_OK)
            return ohm_error_prefix(status, "layer %s", layer->desc.name);
    }
    return OHM_OK;
}

/* Everything but memory. */
static ohm_status describe(ohm_network *network, const ohm_architecture *architecture,
                           const ohm_config *config, const ohm_network_options *options)
{
    network->architecture = *architecture;
    network->config = *config;
    network->options = *options;
    network->count = architecture->count;
    if (options->max_batch < 1)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "a network for %d images; give at least 1",
                        options->max_batch);
    OHM_TRY(ohm_backend_find(&network->backend, config));
    network->threads = network->backend->threads();
    OHM_TRY(ohm_network_shapes(network));
    OHM_TRY(make_chips(network));
    OHM_TRY(ohm_network_list_parameters(network));
    OHM_TRY(ohm_arena_create(&network->arena));
    if (options->checked)
        OHM_TRY(ohm_arena_check_writes(network->arena));
    return ohm_network_plan(network);
}

static ohm_status allocate(ohm_network **network)
{
    *network = calloc(1, sizeof **network);
    if (!*network)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for a network's description");
    return OHM_OK;
}

ohm_status ohm_network_create(ohm_network **network, const ohm_architecture *architecture,
                              const ohm_config *config, const ohm_network_options *options)
{
    OHM_TRY(allocate(network));
    ohm_status status = describe(*network, architecture, config, options);
    if (status == OHM_OK)
        status = ohm_network_open(*network);
    if (status == OHM_OK)
        status = ohm_arena_reserve((*network)->arena);
    if (status == OHM_OK) {
        ohm_network_bind_parameters(*network);
        status = ohm_network_initialise(*network);
    }
    if (status != OHM_OK) {
        ohm_network_destroy(*network);
        *network = NULL;
    }
    return status;
}

ohm_status ohm_network_plan_memory(ohm_memory *memory, const ohm_architecture *architecture,
                                   const ohm_config *config, const ohm_network_options *options)
{
    ohm_network *network;
    OHM_TRY(allocate(&network));
    ohm_status status = describe(network, architecture, config, options);
    if (status == OHM_OK)
        *memory = *ohm_arena_memory(network->arena);
    ohm_network_destroy(network);
    return status;
}

void ohm_network_destroy(ohm_network *network)
{
    if (!network)
        return;
    for (int i = 0; i < OHM_LAYERS_MAX; i++)
        ohm_noisy_destroy(network->layer[i].noisy);
    ohm_arena_destroy(network->arena);
    ohm_network_close(network);
    free(network->parameter);
    free(network->parameter_name);
    free(network->parameter_ids);
    free(network);
}

/* ---- stepping ------------------------------------------------------------------------------ */

static ohm_status check_pass(const ohm_network *network, const ohm_pass *pass)
{
    if (pass->images < 1 || pass->images > network->options.max_batch)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "a pass over %d images on a network planned for 1..%d",
                        pass->images, network->options.max_batch);
    if (network->backend->threads() > network->threads)
        return OHM_FAIL(
            OHM_ERR_ARGUMENT,
            "a pass on %d threads on a network planned for %d; set the number of threads "
            "before the network is created",
            network->backend->threads(), network->threads);
    if (pass->training && !network->options.training)
        return OHM_FAIL(OHM_ERR_ARGUMENT,
                        "a training pass on a network that was planned for evaluation");
    return OHM_OK;
}

static ohm_status finish_layer(const ohm_network *network, const ohm_layer *layer,
                               ohm_status status)
{
    if (status == OHM_OK)
        status = ohm_network_status(network);
    if (status == OHM_OK && network->options.checked)
        status = ohm_arena_check(network->arena);
    return status == OHM_OK ? OHM_OK : ohm_error_prefix(status, "layer %s", layer->desc.name);
}

/* What a layer that is one kernel is called in a trace; matrix layers name their own. */
static const char *kernel_name(int kind, int backward)
{
    static const char *const names[OHM_LAYER_KINDS][2] = {
        [OHM_LAYER_BATCH_NORM] = {"batch_norm", "batch_norm_backward"},
        [OHM_LAYER_RELU] = {"relu", "relu_backward"},
        [OHM_LAYER_MAX_POOL] = {"max_pool", "max_pool_backward"},
        [OHM_LAYER_AVG_POOL] = {"avg_pool", "avg_pool_backward"},
        [OHM_LAYER_GLOBAL_AVG_POOL] = {"avg_pool", "avg_pool_backward"},
        [OHM_LAYER_ADD] = {"add", "add_backward"},
    };
    return names[kind][backward];
}

typedef enum { RUN_FORWARD, RUN_AGAIN, RUN_BACKWARD } run;

static ohm_status run_layer(ohm_network *network, ohm_layer *layer, const ohm_pass *pass, run way)
{
    int backward = way == RUN_BACKWARD;
    ohm_trace *trace = network->trace;
    const ohm_layer_verbs *verbs = ohm_layer_verbs_of(layer->desc.kind);
    const char *kernel = kernel_name(layer->desc.kind, backward);
    int tick = backward           ? layer->back_tick
               : way == RUN_AGAIN ? layer->again_tick
                                  : layer->index,
        depth = ohm_trace_depth(trace);
    ohm_network_mark(network,
                     backward           ? "backward"
                     : way == RUN_AGAIN ? "recompute"
                                        : "forward",
                     layer->desc.name);
    ohm_arena_tick(network->arena, tick);
    ohm_trace_begin(trace, OHM_TRACE_LAYER, layer->desc.name, tick);
    if (kernel)
        ohm_trace_kernel(trace, kernel);
    ohm_status status = (backward ? verbs->backward : verbs->forward)(network, layer, pass);
    ohm_trace_unwind(trace, depth);
    return finish_layer(network, layer, status);
}

ohm_status ohm_network_forward(ohm_network *network, const ohm_pass *pass)
{
    OHM_TRY(check_pass(network, pass));
    ohm_status status = OHM_OK;
    ohm_trace_begin(network->trace, OHM_TRACE_PHASE, "forward", -1);
    for (int i = 0; i < network->count; i++)
        network->layer[i].now = network->layer[i].first;
    ohm_network_mark(network, "forward", NULL);
    ohm_network_upload(network, pass->images);
    for (int i = 0; i < network->count && status == OHM_OK; i++)
        status = run_layer(network, &network->layer[i], pass, RUN_FORWARD);
    ohm_trace_end(network->trace);
    return status;
}

ohm_status ohm_network_loss(ohm_network *network, const ohm_pass *pass, int batch_total,
                            double *loss_sum, int *correct)
{
    OHM_TRY(check_pass(network, pass));
    int classes = network->architecture.classes;
    const int32_t *labels = ohm_network_pass_labels(network);
    ohm_step_totals *totals = ohm_network_totals_at(network);
    for (int i = 0; i < pass->images; i++)
        if (labels[i] < 0 || labels[i] >= classes)
            return OHM_FAIL(OHM_ERR_DATA, "label %d of image %d is outside 0..%d", (int)labels[i],
                            i, classes - 1);
    if (pass->training && batch_total < pass->images)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "a batch of %d images with %d in this pass", batch_total,
                        pass->images);
    ohm_arena_tick(network->arena, network->count);
    ohm_trace_begin(network->trace, OHM_TRACE_PHASE, "loss", network->count);
    ohm_trace_kernel(network->trace, "softmax_loss");
    float *gradient = pass->training ? ohm_network_gradient(network, network->count - 1) : NULL;
    ohm_network_mark(network, "loss", NULL);
    if (loss_sum)
        network->backend->fill(network->device, (float *)totals, 0.0f,
                               sizeof *totals / sizeof(float));
    network->backend->softmax_loss(network->device, totals, gradient, ohm_network_logits(network),
                                   ohm_arena_at(network->arena, network->labels), pass->images,
                                   classes, network->config.train.label_smoothing,
                                   pass->training ? 1.0 / batch_total : 1.0,
                                   ohm_arena_at(network->arena, network->row_loss));
    ohm_trace_end(network->trace);
    ohm_trace_end(network->trace);
    OHM_TRY(ohm_network_status(network));
    return loss_sum ? ohm_network_totals(network, loss_sum, correct) : OHM_OK;
}

/* Layers first .. end - 1 again, from the same inputs, ranges and draws, keeping what backward needs. */
static ohm_status recompute(ohm_network *network, int first, int end, const ohm_pass *pass)
{
    ohm_status status = OHM_OK;
    ohm_trace_begin(network->trace, OHM_TRACE_PHASE, "recompute", -1);
    ohm_network_mark(network, "recompute", NULL);
    network->recomputing = 1;
    for (int i = first; i < end; i++)
        network->layer[i].now = network->layer[i].again;
    for (int i = first; i < end && status == OHM_OK; i++)
        status = run_layer(network, &network->layer[i], pass, RUN_AGAIN);
    network->recomputing = 0;
    ohm_trace_end(network->trace);
    return status;
}

ohm_status ohm_network_backward(ohm_network *network, const ohm_pass *pass)
{
    OHM_TRY(check_pass(network, pass));
    if (!pass->training)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "a backward pass needs training = 1");
    ohm_status status = OHM_OK;
    for (int end = network->count, first; end > 0 && status == OHM_OK; end = first) {
        for (first = end - 1; first > 0 && network->layer[first - 1].segment ==
                                               network->layer[end - 1].segment;
             first--)
            ;
        if (network->layer[first].recomputed)
            status = recompute(network, first, end, pass);
        ohm_trace_begin(network->trace, OHM_TRACE_PHASE, "backward", -1);
        ohm_network_mark(network, "backward", NULL);
        for (int i = end - 1; i >= first && status == OHM_OK; i--)
            status = run_layer(network, &network->layer[i], pass, RUN_BACKWARD);
        ohm_trace_end(network->trace);
    }
    return status;
}

/* ---- looking ------------------------------------------------------------------------------- */

const float *ohm_network_logits(const ohm_network *network)
{
    return ohm_network_value(network, network->count - 1);
}

const ohm_memory *ohm_network_memory(const ohm_network *network)
{
    return ohm_arena_memory(network->arena);
}

size_t ohm_network_live(const ohm_network *network, int tick, size_t live[OHM_MEMORY_CATEGORIES])
{
    return ohm_arena_live(network->arena, tick, live);
}

void ohm_network_set_trace(ohm_network *network, ohm_trace *trace)
{
    network->trace = trace;
}

int ohm_network_threads(const ohm_network *network)
{
    return network->threads;
}

const ohm_architecture *ohm_network_architecture(const ohm_network *network)
{
    return &network->architecture;
}
