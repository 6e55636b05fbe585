#include "host/step.h"

#include <math.h>

int ohm_step_images(const ohm_config *config)
{
    return config->train.micro_batch ? config->train.micro_batch : config->train.batch;
}

ohm_pass ohm_step_pass(const ohm_config *config, int64_t step)
{
    return (ohm_pass){.images = ohm_step_images(config),
                      .mode = config->train.mode,
                      .training = 1,
                      .moment = {.seed = (uint32_t)config->seed,
                                 .step = (uint32_t)step,
                                 .time_s = config->hardware.retention.time_s}};
}

static void fill(const ohm_step *s, int slot, int images, int64_t step)
{
    ohm_trace_kernel(s->trace, "batch");
    ohm_network_use_slot(s->network, slot);
    s->fill(s->context, slot * images, images, step);
    ohm_trace_end(s->trace);
}

static int passes_of(const ohm_step *s)
{
    return s->config->train.batch / ohm_step_images(s->config);
}

/* All passes of a step, where they have a slot each. */
static int fill_all(const ohm_step *s, int64_t step)
{
    const int passes = passes_of(s);
    if (ohm_network_slots(s->network) < passes)
        return 0;
    for (int slot = 0; slot < passes; slot++)
        fill(s, slot, ohm_step_images(s->config), step);
    return 1;
}

static void fill_next(const ohm_step *s, int64_t step)
{
    if (!s->ahead || !ohm_network_spare_begin(s->network))
        return;
    fill_all(s, step);
    ohm_network_spare_end(s->network, step);
}

/* Everything from zero gradients to the update, nothing waited for. */
static ohm_status queue(const ohm_step *s, int64_t step, double lr, int filled)
{
    ohm_pass pass = ohm_step_pass(s->config, step);
    const int batch = s->config->train.batch;
    ohm_network_zero_gradients(s->network);
    for (int first = 0; first < batch; first += pass.images) {
        if (!filled)
            fill(s, first / pass.images, pass.images, step);
        ohm_network_use_slot(s->network, first / pass.images);
        pass.first_image = (uint64_t)first;
        OHM_TRY(ohm_network_forward(s->network, &pass));
        OHM_TRY(ohm_network_loss(s->network, &pass, batch, NULL, NULL));
        OHM_TRY(ohm_network_backward(s->network, &pass));
    }
    return ohm_network_update(s->network, lr, step);
}

static ohm_status run(const ohm_step *s, int64_t step, double lr)
{
    int done, filled = ohm_network_take_spare(s->network, step) || fill_all(s, step);
    OHM_TRY(ohm_network_replay(s->network, lr, step, &done));
    if (done)
        return OHM_OK;
    ohm_status status = ohm_network_record_begin(s->network, lr, step);
    if (status == OHM_OK)
        status = queue(s, step, lr, filled);
    return ohm_network_record_end(s->network, status);
}

/* The one place where the host waits for a device. */
static ohm_status finish(const ohm_step *s, double *loss, int *correct)
{
    double sum;
    OHM_TRY(ohm_network_totals(s->network, &sum, correct));
    *loss = sum / s->config->train.batch;
    if (!isfinite(*loss))
        return OHM_FAIL(OHM_ERR_DATA,
                        "the loss is no number any more; lower train.lr or set train.clip_norm");
    return OHM_OK;
}

ohm_status ohm_step_run(const ohm_step *s, int64_t step, double lr, double *loss, int *correct)
{
    int depth = ohm_trace_depth(s->trace);
    ohm_trace_begin(s->trace, OHM_TRACE_STEP, s->name ? s->name : "step", -1);
    ohm_status status = run(s, step, lr);
    if (status == OHM_OK) {
        fill_next(s, step + 1);
        status = finish(s, loss, correct);
    }
    ohm_trace_unwind(s->trace, depth);
    return status;
}
