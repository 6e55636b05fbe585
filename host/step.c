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

static void fill(const ohm_step *s, int first, int images, int64_t step)
{
    ohm_trace_kernel(s->trace, "batch");
    s->fill(s->context, first, images, step);
    ohm_trace_end(s->trace);
}

static ohm_status accumulate(const ohm_step *s, int64_t step, double *loss, int *correct)
{
    ohm_pass pass = ohm_step_pass(s->config, step);
    const int batch = s->config->train.batch;
    double sum = 0;
    *correct = 0;
    ohm_network_zero_gradients(s->network);
    for (int first = 0; first < batch; first += pass.images) {
        double part;
        int right;
        fill(s, first, pass.images, step);
        pass.first_image = (uint64_t)first;
        OHM_TRY(ohm_network_forward(s->network, &pass));
        OHM_TRY(ohm_network_loss(s->network, &pass, batch, &part, &right));
        OHM_TRY(ohm_network_backward(s->network, &pass));
        sum += part;
        *correct += right;
    }
    *loss = sum / batch;
    if (!isfinite(*loss))
        return OHM_FAIL(OHM_ERR_DATA,
                        "the loss is no number any more; lower train.lr or set train.clip_norm");
    return OHM_OK;
}

ohm_status ohm_step_run(const ohm_step *s, int64_t step, double lr, double *loss, int *correct)
{
    int depth = ohm_trace_depth(s->trace);
    ohm_trace_begin(s->trace, OHM_TRACE_STEP, s->name ? s->name : "step", -1);
    ohm_status status = accumulate(s, step, loss, correct);
    if (status == OHM_OK)
        status = ohm_network_update(s->network, lr, step);
    ohm_trace_unwind(s->trace, depth);
    return status;
}
