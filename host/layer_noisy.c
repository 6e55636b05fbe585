/* Matrix layers on the chip: the input is cut into chunks of rows (patches of a convolution) and
 * handed to host/noisy.h. How long the simulator's memory lives is what tells the modes apart:
 * nograd drops it with the layer's output, detach with the end of the forward pass, full keeps it
 * for the layer's backward pass. */
#include "host/network_internal.h"

enum {
    ROW_STEP = 16, /* fast normals come in aligned groups of 16 rows */
    MOST_ROWS = 8192,
    CHUNK_BYTES = 8 << 20,
    DEVICE_ROWS = 1 << 16, /* enough blocks for a device, also where a layer is narrow */
    DEVICE_CHUNK_BYTES = 64 << 20
};

typedef struct {
    const float *x; /* the layer's input */
    float *patches; /* chunk_rows x K; NULL where x's rows or their codes serve */
    uint8_t *codes,
        *code_patches; /* of all of x, and chunk_rows x K of them; NULL where not used */
    uint8_t zero;      /* code of x = 0 */
    int k, n;
    size_t rows;        /* of the product */
    uint64_t first_row; /* global index of row 0 within the step */
} chunks;

static int trains(const ohm_network *network, ohm_gradient_mode mode)
{
    return network->options.training && network->config.train.mode == (int)mode;
}

/* Where mode full has the forward pass's reads from. */
static ohm_chip_use full_use(const ohm_network *network)
{
    return network->config.train.full == OHM_FULL_SAVE ? OHM_CHIP_SAVE : OHM_CHIP_RECOMPUTE;
}

/* Patches are cut from codes, a quarter of the bytes and quantised once, where one scale serves all. */
static int cuts_codes(const ohm_layer *layer)
{
    return !ohm_conv_is_plain(&layer->conv) && ohm_noisy_takes_codes(layer->noisy);
}

static chunks chunks_of(const ohm_network *network, const ohm_layer *layer, const ohm_pass *pass)
{
    return (chunks){.x = ohm_network_value(network, layer->desc.input),
                    .k = ohm_conv_k(&layer->conv),
                    .n = layer->out,
                    .rows = ohm_conv_rows(&layer->conv, pass->images),
                    .first_row = pass->first_image * ohm_conv_rows(&layer->conv, 1)};
}

static int chunk_size(const ohm_layer *layer, const chunks *c, size_t row)
{
    size_t left = c->rows - row;
    return left < (size_t)layer->chunk_rows ? (int)left : layer->chunk_rows;
}

/* Rows row .. row + some - 1 of the product's left side. */
static const float *chunk_x(const ohm_network *network, const ohm_layer *layer, const chunks *c,
                            size_t row, int some)
{
    if (!c->patches)
        return c->x + row * (size_t)c->k;
    ohm_trace_kernel(network->trace, "patches");
    network->backend->patches(network->device, c->patches, c->x, &layer->conv, row, some);
    ohm_trace_end(network->trace);
    return c->patches;
}

static const uint8_t *chunk_codes(const ohm_network *network, const ohm_layer *layer,
                                  const chunks *c, size_t row, int some)
{
    ohm_trace_kernel(network->trace, "patches");
    network->backend->patches_of_codes(network->device, c->code_patches, c->codes, c->zero,
                                       &layer->conv, row, some);
    ohm_trace_end(network->trace);
    return c->code_patches;
}

/* ---- forward ------------------------------------------------------------------------------- */

static ohm_status measure_chunk(ohm_network *network, ohm_layer *layer, const chunks *c, size_t row)
{
    int some = chunk_size(layer, c, row);
    if (c->codes)
        return ohm_noisy_measure_codes(layer->noisy, chunk_codes(network, layer, c, row, some),
                                       c->k, some, c->first_row + row);
    return ohm_noisy_measure_rows(layer->noisy, chunk_x(network, layer, c, row, some), c->k, some,
                                  c->first_row + row);
}

static ohm_status read_chunk(ohm_network *network, ohm_layer *layer, float *y, const chunks *c,
                             size_t row)
{
    int some = chunk_size(layer, c, row);
    if (c->codes)
        return ohm_noisy_code_rows(layer->noisy, y, c->n, chunk_codes(network, layer, c, row, some),
                                   c->k, some, c->first_row + row);
    return ohm_noisy_rows(layer->noisy, y, c->n, chunk_x(network, layer, c, row, some), c->k, some,
                          c->first_row + row);
}

static ohm_status measure(ohm_network *network, ohm_layer *layer, const chunks *c)
{
    while (ohm_noisy_wants_measure(layer->noisy)) {
        for (size_t row = 0; row < c->rows; row += (size_t)layer->chunk_rows)
            OHM_TRY(measure_chunk(network, layer, c, row));
        OHM_TRY(ohm_noisy_measured(layer->noisy));
    }
    return OHM_OK;
}

/* Mode detach forms y = y_clean + (y_noisy - y_clean) as the formula stands; y holds y_clean. */
static ohm_status noisy_rows(ohm_network *network, ohm_layer *layer, const chunks *c,
                             float *noisy_y)
{
    size_t n = (size_t)c->n;
    float *y = ohm_network_value(network, layer->index);
    for (size_t row = 0; row < c->rows; row += (size_t)layer->chunk_rows) {
        OHM_TRY(read_chunk(network, layer, noisy_y ? noisy_y : y + row * n, c, row));
        if (!noisy_y)
            continue;
        ohm_trace_kernel(network->trace, "straight_through");
        network->backend->straight_through(network->device, y + row * n, noisy_y,
                                           (size_t)chunk_size(layer, c, row) * n);
        ohm_trace_end(network->trace);
    }
    return OHM_OK;
}

static ohm_status begin(ohm_network *network, ohm_layer *layer, const ohm_pass *pass)
{
    ohm_noisy_pass noisy_pass = {
        .w = ohm_layer_value_of(network, layer, OHM_ROLE_WEIGHT),
        .bias = ohm_layer_value_of(network, layer, OHM_ROLE_BIAS),
        .column_scale = ohm_layer_value_of(network, layer, OHM_ROLE_COLUMN_SCALE),
        .x = ohm_network_value(network, layer->desc.input),
        .x_count = (size_t)pass->images * layer->in_floats,
        .x_range = ohm_layer_value_of(network, layer, OHM_ROLE_X_RANGE),
        .moment = pass->moment,
        .training = pass->training,
        .calibrating = pass->calibrating,
        .want_gradient =
            pass->training && pass->mode == OHM_MODE_FULL && ohm_layer_keeps(network, layer)
                ? full_use(network)
                : OHM_CHIP_READ,
        .kept = ohm_network_at(network, layer->now.kept),
        .first_row = pass->first_image * ohm_conv_rows(&layer->conv, 1),
        .recomputing = network->recomputing,
        .persistent = ohm_layer_value_of(network, layer, OHM_ROLE_CHIP),
        .state = ohm_network_at(network, layer->now.state),
        .scratch = ohm_network_at(network, layer->now.scratch),
        .trace = network->trace,
    };
    if (network->device)
        noisy_pass.queue = (ohm_chip_queue){.device = network->device,
                                            .step = ohm_network_step_at(network),
                                            .fault = ohm_network_faults_at(network) + layer->index};
    return ohm_noisy_begin(layer->noisy, &noisy_pass);
}

/* The forward workspace: y_noisy of detach, then patches, or codes and patches of codes. */
static ohm_status forward_chunks(ohm_network *network, ohm_layer *layer, const ohm_pass *pass,
                                 int detach)
{
    float *workspace = ohm_network_at(network, layer->now.forward_workspace), *patches = workspace;
    chunks c = chunks_of(network, layer, pass);
    if (trains(network, OHM_MODE_DETACH))
        patches += (size_t)layer->chunk_rows * (size_t)c.n;
    if (cuts_codes(layer)) {
        c.codes = (uint8_t *)patches;
        c.code_patches = c.codes + (size_t)network->options.max_batch * layer->in_floats;
        OHM_TRY(ohm_noisy_quantise(layer->noisy, c.codes, &c.zero));
    } else if (!ohm_conv_is_plain(&layer->conv)) {
        c.patches = patches;
    }
    OHM_TRY(measure(network, layer, &c));
    return noisy_rows(network, layer, &c, detach ? workspace : NULL);
}

ohm_status ohm_noisy_layer_forward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass)
{
    if (!network->plans_chip)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "this network was planned for clean training "
                                          "(train.mode: baseline): evaluate chips with a "
                                          "network that is created with training = 0");
    int full = pass->training && pass->mode == OHM_MODE_FULL,
        detach = pass->training && pass->mode == OHM_MODE_DETACH;
    if ((full && !trains(network, OHM_MODE_FULL)) || (detach && !trains(network, OHM_MODE_DETACH)))
        return OHM_FAIL(OHM_ERR_ARGUMENT,
                        "a training pass in another mode than the network was planned for");
    if (detach)
        ohm_matrix_clean(network, layer, pass->images);
    ohm_noisy_end(layer->noisy); /* of a full pass whose backward never came */
    OHM_TRY(begin(network, layer, pass));
    ohm_status status = forward_chunks(network, layer, pass, detach);
    layer->programmed = full && ohm_layer_keeps(network, layer) && status == OHM_OK;
    if (!layer->programmed)
        ohm_noisy_end(layer->noisy);
    return status;
}

/* ---- backward of mode full ----------------------------------------------------------------- */

/* Whether the codes tell all that backward needs of x. */
static int goes_back_by_codes(const ohm_layer *layer)
{
    return cuts_codes(layer) && ohm_noisy_never_clips(layer->noisy);
}

/* Where a chunk's dx goes: straight to its place, or to patches that are then added to the pixels. */
static int goes_straight(const ohm_layer *layer)
{
    return ohm_conv_is_plain(&layer->conv) && layer->route == OHM_GRADIENT_WRITE;
}

static ohm_status backward_chunk(ohm_network *network, ohm_layer *layer, const chunks *c, float *dx,
                                 float *dpatches, size_t row)
{
    int some = chunk_size(layer, c, row), last = row + (size_t)some == c->rows;
    float *to = !dx ? NULL : goes_straight(layer) ? dx + row * (size_t)c->k : dpatches;
    const float *dy = ohm_network_gradient(network, layer->index) + row * (size_t)c->n;
    const float *y = ohm_noisy_layer_keeps_output(network, layer)
                         ? ohm_network_value(network, layer->index) + row * (size_t)c->n
                         : NULL;
    const uint8_t *codes = c->codes ? chunk_codes(network, layer, c, row, some) : NULL;
    OHM_TRY(ohm_noisy_backward_rows(
        layer->noisy, to, c->k, ohm_layer_gradient_of(network, layer, OHM_ROLE_WEIGHT),
        ohm_layer_gradient_of(network, layer, OHM_ROLE_BIAS),
        ohm_layer_gradient_of(network, layer, OHM_ROLE_X_RANGE),
        ohm_layer_gradient_of(network, layer, OHM_ROLE_COLUMN_SCALE), dy, c->n, y, c->n,
        codes ? NULL : chunk_x(network, layer, c, row, some), c->k, codes, c->k, some,
        c->first_row + row, last));
    if (!dx || goes_straight(layer))
        return OHM_OK;
    ohm_trace_kernel(network->trace, "scatter");
    network->backend->scatter(network->device, dx, dpatches, &layer->conv, row, some);
    ohm_trace_end(network->trace);
    return OHM_OK;
}

/* Floats of the workspace: patches of dx; then patches of x, or codes and patches of codes. */
static size_t dx_floats(const ohm_layer *layer, int rows)
{
    int none = layer->route == OHM_GRADIENT_NONE || goes_straight(layer);
    return none ? 0 : (size_t)rows * (size_t)ohm_conv_k(&layer->conv);
}

static size_t x_floats(const ohm_network *network, const ohm_layer *layer, int rows)
{
    size_t patches = (size_t)rows * (size_t)ohm_conv_k(&layer->conv);
    if (ohm_conv_is_plain(&layer->conv))
        return 0;
    if (!goes_back_by_codes(layer))
        return patches;
    return ((size_t)network->options.max_batch * layer->in_floats + patches + sizeof(float) - 1) /
           sizeof(float);
}

ohm_status ohm_noisy_layer_backward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass)
{
    if (!layer->programmed)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "layer %s: backward without a forward pass in mode full",
                        layer->desc.name);
    float *dpatches = ohm_network_at(network, layer->backward_workspace);
    float *x = dpatches + dx_floats(layer, layer->chunk_rows);
    float *dx = ohm_network_gradient(network, layer->desc.input);
    chunks c = chunks_of(network, layer, pass);
    if (goes_back_by_codes(layer)) {
        c.codes = (uint8_t *)x;
        c.code_patches = c.codes + (size_t)network->options.max_batch * layer->in_floats;
        OHM_TRY(ohm_noisy_quantise(layer->noisy, c.codes, &c.zero));
    } else if (!ohm_conv_is_plain(&layer->conv)) {
        c.patches = x;
    }
    if (dx && layer->route == OHM_GRADIENT_WRITE && !goes_straight(layer)) {
        ohm_trace_kernel(network->trace, "scatter");
        network->backend->fill(network->device, dx, 0.0f, (size_t)pass->images * layer->in_floats);
        ohm_trace_end(network->trace);
    }
    ohm_status status = OHM_OK;
    for (size_t row = 0; row < c.rows && status == OHM_OK; row += (size_t)layer->chunk_rows)
        status = backward_chunk(network, layer, &c, dx, dpatches, row);
    ohm_noisy_end(layer->noisy);
    layer->programmed = 0;
    return status;
}

/* ---- memory -------------------------------------------------------------------------------- */

ohm_status ohm_noisy_layer_create(ohm_network *network, ohm_layer *layer)
{
    return ohm_noisy_create(&layer->noisy, network->backend, &network->config.hardware,
                            ohm_conv_k(&layer->conv), layer->out, (uint32_t)layer->index);
}

/* Floats outside the simulator: y_noisy of detach; patches, or codes and patches of codes. */
static size_t chunk_floats(const ohm_network *network, const ohm_layer *layer, int rows)
{
    size_t patches =
        ohm_conv_is_plain(&layer->conv) ? 0 : (size_t)rows * (size_t)ohm_conv_k(&layer->conv);
    size_t codes = (size_t)network->options.max_batch * layer->in_floats;
    if (cuts_codes(layer))
        patches = (codes + patches + sizeof(float) - 1) / sizeof(float);
    return patches + (trains(network, OHM_MODE_DETACH) ? (size_t)rows * (size_t)layer->out : 0);
}

static size_t full_floats(const ohm_network *network, const ohm_layer *layer, int rows)
{
    return dx_floats(layer, rows) + x_floats(network, layer, rows);
}

int ohm_noisy_layer_keeps_output(const ohm_network *network, const ohm_layer *layer)
{
    return layer->noisy && network->plans_chip && trains(network, OHM_MODE_FULL) &&
           full_use(network) == OHM_CHIP_SAVE && ohm_noisy_learns_scales(layer->noisy);
}

/* How the chip is used by a pass that a backward pass follows. */
static ohm_chip_use use_of(const ohm_network *network)
{
    return trains(network, OHM_MODE_FULL) ? full_use(network) : OHM_CHIP_READ;
}

static size_t chunk_bytes(const ohm_network *network, const ohm_layer *layer, int rows)
{
    size_t floats = chunk_floats(network, layer, rows),
           backward = trains(network, OHM_MODE_FULL) ? full_floats(network, layer, rows) : 0;
    floats = backward > floats ? backward : floats;
    return floats * sizeof(float) + ohm_noisy_scratch_bytes(layer->noisy, rows, use_of(network));
}

/* Within the user's bound, and what grows with the rows about as large as a cache: larger chunks
 * would only raise the peak. A device is kept busy by larger ones. */
static int fits(const ohm_network *network, const ohm_layer *layer, int rows)
{
    size_t bytes = chunk_bytes(network, layer, rows);
    size_t grown = bytes - chunk_bytes(network, layer, ROW_STEP);
    return bytes <= (size_t)network->config.train.workspace_mib << 20 &&
           grown <= (network->backend->open ? DEVICE_CHUNK_BYTES : CHUNK_BYTES);
}

static int rows_within(const ohm_network *network, const ohm_layer *layer)
{
    size_t all = ohm_conv_rows(&layer->conv, network->options.max_batch);
    const size_t most = network->backend->open ? DEVICE_ROWS : MOST_ROWS;
    int rows = (int)(all < most ? (all + ROW_STEP - 1) / ROW_STEP * ROW_STEP : most);
    while (rows > ROW_STEP && !fits(network, layer, rows))
        rows = (rows / 2 + ROW_STEP - 1) / ROW_STEP * ROW_STEP;
    return rows;
}

size_t ohm_noisy_layer_scratch_bytes(const ohm_network *network, const ohm_layer *layer)
{
    return ohm_noisy_scratch_bytes(layer->noisy, layer->chunk_rows, use_of(network));
}

ohm_status ohm_noisy_layer_plan(ohm_network *network, ohm_layer *layer)
{
    int i = layer->at, full = trains(network, OHM_MODE_FULL),
        keeps = full && layer->until == layer->back_tick;
    layer->chunk_rows = rows_within(network, layer);
    size_t floats = chunk_floats(network, layer, layer->chunk_rows);
    layer->forward_floats = floats > layer->forward_floats ? floats : layer->forward_floats;
    if (full)
        layer->backward_floats = full_floats(network, layer, layer->chunk_rows);
    int last = keeps ? layer->until : trains(network, OHM_MODE_DETACH) ? layer->pass_end : i;
    OHM_TRY(ohm_network_buffer(
        network, &layer->now.state, layer->desc.name, "simulator state",
        ohm_noisy_state_bytes(layer->noisy, keeps ? full_use(network) : OHM_CHIP_READ),
        keeps ? OHM_MEMORY_SAVED : OHM_MEMORY_WORKSPACE, i, last));
    if (keeps && full_use(network) == OHM_CHIP_SAVE) {
        size_t bytes;
        OHM_TRY(ohm_noisy_kept_bytes(
            layer->noisy, ohm_conv_rows(&layer->conv, network->options.max_batch), &bytes));
        OHM_TRY(ohm_network_buffer(network, &layer->now.kept, layer->desc.name, "kept reads", bytes,
                                   OHM_MEMORY_SAVED, i, last));
    }
    if (full) /* one scratch for all layers, network_plan.c */
        return OHM_OK;
    return ohm_network_buffer(network, &layer->now.scratch, layer->desc.name, "simulator scratch",
                              ohm_noisy_layer_scratch_bytes(network, layer), OHM_MEMORY_WORKSPACE,
                              i, i);
}
