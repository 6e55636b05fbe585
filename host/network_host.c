/* What passes between the host and the memory of the backend. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/network_internal.h"

/* ---- the device ---------------------------------------------------------------------------- */

static size_t pixels_of(const ohm_network *network)
{
    const ohm_architecture *a = &network->architecture;
    return (size_t)a->height * (size_t)a->width * (size_t)a->channels;
}

/* Passes of one step. */
static int slots_of(const ohm_network *network)
{
    const int batch = network->config.train.batch, each = network->options.max_batch;
    return network->options.training && batch > each ? (batch + each - 1) / each : 1;
}

static size_t lines(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static ohm_status reserve_host(ohm_network *network)
{
    ohm_host_side *h = &network->host;
    const size_t slots = (size_t)h->slots, batch = (size_t)network->options.max_batch;
    const size_t totals = lines(sizeof *h->totals), numbers = lines(sizeof *h->numbers);
    const size_t faults = lines((size_t)network->count * sizeof *h->faults);
    const size_t images = lines(2 * slots * batch * pixels_of(network) * sizeof *h->images);
    OHM_TRY(network->backend->reserve_host(network->device, &h->block,
                                           totals + numbers + faults + images +
                                               2 * slots * batch * sizeof *h->labels));
    char *at = h->block;
    h->totals = (ohm_step_totals *)at;
    h->numbers = (ohm_step_numbers *)(at + totals);
    h->faults = (uint32_t *)(at + totals + numbers);
    h->images = (float *)(at + totals + numbers + faults);
    h->labels = (int32_t *)(at + totals + numbers + faults + images);
    return OHM_OK;
}

ohm_status ohm_network_open(ohm_network *network)
{
    network->host.slots = 1;
    if (!network->backend->open)
        return OHM_OK;
    network->host.slots = slots_of(network);
    OHM_TRY(network->backend->open(&network->device, &network->config));
    ohm_arena_use(network->arena, network->backend, network->device);
    return reserve_host(network);
}

void ohm_network_close(ohm_network *network)
{
    if (!network->device)
        return;
    network->backend->release_host(network->device, network->host.block);
    network->backend->close(network->device);
}

ohm_status ohm_network_status(const ohm_network *network)
{
    return network->device ? network->backend->status(network->device) : OHM_OK;
}

/* A mark is a kernel, too: its own range, unless it lies in one. */
void ohm_network_mark(const ohm_network *network, const char *phase, const char *layer)
{
    const int depth = ohm_trace_depth(network->trace);
    if (!network->device)
        return;
    if (ohm_trace_open_level(network->trace) != OHM_TRACE_KERNEL)
        ohm_trace_kernel(network->trace, "mark");
    network->backend->mark(network->device, phase, layer);
    ohm_trace_unwind(network->trace, depth);
}

static ohm_status wait(ohm_network *network)
{
    network->host.queued = 0;
    return network->device ? network->backend->wait(network->device) : OHM_OK;
}

const char *ohm_network_device(const ohm_network *network)
{
    return network->backend->name;
}

/* ---- images -------------------------------------------------------------------------------- */

/* A failure shows in the pass that follows. */
static void settle_slot(ohm_network *network)
{
    if (network->host.slot < network->host.queued)
        (void)wait(network);
}

int ohm_network_slots(const ohm_network *network)
{
    return network->host.slots;
}

void ohm_network_use_slot(ohm_network *network, int slot)
{
    const int slots = network->host.slots;
    network->host.slot = slot % slots + (network->host.filling ? slots : 0);
}

int ohm_network_spare_begin(ohm_network *network)
{
    network->host.filling = network->device != NULL;
    network->host.spare = 0;
    return network->host.filling;
}

void ohm_network_spare_end(ohm_network *network, int64_t step)
{
    network->host.filling = 0;
    network->host.spare = step + 1;
    ohm_network_use_slot(network, 0);
}

int ohm_network_take_spare(ohm_network *network, int64_t step)
{
    ohm_host_side *h = &network->host;
    const size_t images = (size_t)h->slots * (size_t)network->options.max_batch,
                 pixels = images * pixels_of(network);
    if (!network->device || h->spare != step + 1)
        return 0;
    h->spare = 0;
    h->slot = 0;
    settle_slot(network);
    memcpy(h->images, h->images + pixels, pixels * sizeof *h->images);
    memcpy(h->labels, h->labels + images, images * sizeof *h->labels);
    return 1;
}

float *ohm_network_images(ohm_network *network)
{
    const ohm_host_side *h = &network->host;
    if (!network->device)
        return ohm_network_at(network, network->images);
    settle_slot(network);
    return h->images + (size_t)h->slot * (size_t)network->options.max_batch * pixels_of(network);
}

const int32_t *ohm_network_pass_labels(const ohm_network *network)
{
    const ohm_host_side *h = &network->host;
    return network->device ? h->labels + (size_t)h->slot * (size_t)network->options.max_batch
                           : ohm_arena_at(network->arena, network->labels);
}

int32_t *ohm_network_labels(ohm_network *network)
{
    if (network->device)
        settle_slot(network);
    return (int32_t *)ohm_network_pass_labels(network);
}

void ohm_network_upload(ohm_network *network, int images)
{
    ohm_host_side *h = &network->host;
    if (!network->device)
        return;
    const size_t first = (size_t)h->slot * (size_t)network->options.max_batch, n = (size_t)images;
    ohm_trace_kernel(network->trace, "upload");
    network->backend->upload(network->device, ohm_network_at(network, network->images),
                             h->images + first * pixels_of(network),
                             n * pixels_of(network) * sizeof *h->images);
    network->backend->upload(network->device, ohm_arena_at(network->arena, network->labels),
                             h->labels + first, n * sizeof *h->labels);
    ohm_trace_end(network->trace);
    h->queued = h->slot + 1 > h->queued ? h->slot + 1 : h->queued;
}

/* ---- the numbers of a step ----------------------------------------------------------------- */

ohm_step_totals *ohm_network_totals_at(const ohm_network *network)
{
    return ohm_arena_at(network->arena, network->totals);
}

uint32_t *ohm_network_faults_at(const ohm_network *network)
{
    return ohm_arena_at(network->arena, network->faults);
}

const uint32_t *ohm_network_step_at(const ohm_network *network)
{
    const ohm_step_numbers *numbers = ohm_arena_at(network->arena, network->numbers);
    return network->host.stepping ? &numbers->step : NULL;
}

static ohm_step_numbers numbers_of(const ohm_config *config, double lr, int64_t step)
{
    const double t = (double)step + 1.0;
    return (ohm_step_numbers){.lr = (float)lr,
                              .correction1 = (float)(1.0 - pow(config->train.beta1, t)),
                              .correction2 = (float)(1.0 - pow(config->train.beta2, t)),
                              .step = (uint32_t)step};
}

ohm_status ohm_network_set_numbers(ohm_network *network, double lr, int64_t step)
{
    ohm_step_numbers *numbers = ohm_arena_at(network->arena, network->numbers);
    if (!network->device) {
        *numbers = numbers_of(&network->config, lr, step);
        return OHM_OK;
    }
    *network->host.numbers = numbers_of(&network->config, lr, step);
    network->backend->upload(network->device, numbers, network->host.numbers, sizeof *numbers);
    return ohm_network_status(network);
}

/* What layers on a chip found wrong with their data since it was last told. */
static ohm_status tell_faults(ohm_network *network)
{
    const uint32_t *faults = network->host.faults;
    for (int i = 0; i < network->count; i++) {
        if (!faults[i])
            continue;
        network->backend->fill(network->device, (float *)(void *)ohm_network_faults_at(network),
                               0.0f, (size_t)network->count);
        return ohm_error_prefix(ohm_chip_fault(faults[i], (uint32_t)i), "layer %s",
                                network->layer[i].desc.name);
    }
    return OHM_OK;
}

ohm_status ohm_network_totals(ohm_network *network, double *loss_sum, int *correct)
{
    const ohm_step_totals *totals = ohm_network_totals_at(network);
    if (network->device) {
        network->backend->download(network->device, network->host.totals, totals, sizeof *totals);
        network->backend->download(network->device, network->host.faults,
                                   ohm_network_faults_at(network),
                                   (size_t)network->count * sizeof(uint32_t));
        totals = network->host.totals;
        OHM_TRY(wait(network));
        OHM_TRY(tell_faults(network));
    }
    *loss_sum = totals->loss_sum;
    *correct = (int)totals->correct;
    return OHM_OK;
}

/* ---- recorded steps ------------------------------------------------------------------------ */

static int can_record(const ohm_network *network)
{
    return network->device && network->options.training && !network->options.checked &&
           !network->traces_steps && network->config.train.record;
}

static void settle(void *context)
{
    const ohm_network *network = context;
    (void)network->backend->wait(network->device); /* a failure is kept and told by the step */
}

void ohm_network_trace_steps(ohm_network *network, int on)
{
    network->traces_steps = on;
    ohm_trace_settle(network->trace, on && network->device ? settle : NULL, network);
}

void ohm_network_forget_recording(ohm_network *network)
{
    network->host.stepped = network->host.recorded = 0;
}

ohm_status ohm_network_replay(ohm_network *network, double lr, int64_t step, int *done)
{
    *done = can_record(network) && network->host.recorded;
    if (!*done)
        return OHM_OK;
    *network->host.numbers = numbers_of(&network->config, lr, step);
    network->host.queued = network->host.slots;
    ohm_network_mark(network, "recorded step", NULL);
    return network->backend->replay(network->device);
}

ohm_status ohm_network_record_begin(ohm_network *network, double lr, int64_t step)
{
    if (!network->device)
        return OHM_OK;
    if (can_record(network) && network->host.stepped)
        OHM_TRY(network->backend->record(network->device));
    network->host.stepping = 1;
    ohm_trace_kernel(network->trace, "upload");
    ohm_status status = ohm_network_set_numbers(network, lr, step);
    ohm_trace_end(network->trace);
    return status;
}

ohm_status ohm_network_record_end(ohm_network *network, ohm_status status)
{
    network->host.stepping = 0;
    if (!can_record(network))
        return status;
    if (!network->host.stepped) {
        network->host.stepped = status == OHM_OK;
        return status;
    }
    if (status != OHM_OK) {
        network->backend->drop_recording(network->device);
        return status;
    }
    OHM_TRY(network->backend->recorded(network->device));
    network->host.recorded = 1;
    return network->backend->replay(network->device);
}

/* ---- parameters ---------------------------------------------------------------------------- */

ohm_status ohm_network_read(const ohm_network *network, float *host, const float *from,
                            size_t count)
{
    if (!network->device) {
        if (count)
            memcpy(host, from, count * sizeof *host);
        return OHM_OK;
    }
    network->backend->download(network->device, host, from, count * sizeof *host);
    return network->backend->wait(network->device);
}

/* A layer on a chip acts on what its ranges have seen. */
static void note_ranges(const ohm_network *network, const float *to, const float *host)
{
    for (int i = 0; i < network->count; i++) {
        const ohm_layer *layer = &network->layer[i];
        if (layer->noisy && ohm_layer_value_of(network, layer, OHM_ROLE_CHIP) == to)
            ohm_noisy_loaded(layer->noisy, host);
    }
}

ohm_status ohm_network_write(const ohm_network *network, float *to, const float *host, size_t count)
{
    if (!network->device) {
        if (count)
            memcpy(to, host, count * sizeof *host);
        return OHM_OK;
    }
    note_ranges(network, to, host);
    network->backend->upload(network->device, to, host, count * sizeof *host);
    return network->backend->wait(network->device);
}

ohm_status ohm_network_transfer(const ohm_network *network, float *to, const ohm_network *source,
                                const float *from, size_t count)
{
    if (!network->device && !source->device) {
        network->backend->copy(NULL, to, from, count);
        return OHM_OK;
    }
    float *host = malloc(count * sizeof *host + 1);
    if (!host)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory to copy %zu parameters", count);
    ohm_status status = ohm_network_read(source, host, from, count);
    if (status == OHM_OK)
        status = ohm_network_write(network, to, host, count);
    free(host);
    return status;
}
