#include <omp.h>
#include <string.h>

#include "host/backend.h"
#include "host/chip_analog.h"
#include "kernels/activation.h"
#include "kernels/batchnorm.h"
#include "kernels/conv.h"
#include "kernels/softmax.h"

static int threads(void)
{
    return omp_get_max_threads();
}

#define PLAIN(name, kernel, parameters, arguments)                                                 \
    static void name(ohm_device *device, OHM_UNPACK parameters)                                    \
    {                                                                                              \
        (void)device;                                                                              \
        kernel##_cpu arguments;                                                                    \
    }
OHM_LAYER_OPERATIONS(PLAIN)
OHM_MEMORY_OPERATIONS(PLAIN)
OHM_CHIP_OPERATIONS(PLAIN)

static void range_gradient(ohm_device *device, float *sum, const float *dx, const float *x,
                           const float *range, size_t n, double *partial)
{
    (void)device;
    ohm_range_gradient_cpu(sum, dx, x, range[0], n, partial);
}

static void softmax_loss(ohm_device *device, ohm_step_totals *totals, float *dlogits,
                         const float *logits, const int32_t *labels, int images, int classes,
                         double smoothing, double scale, double *row_loss)
{
    int correct;
    (void)device;
    totals->loss_sum += ohm_softmax_loss_cpu(dlogits, &correct, logits, labels, images, classes,
                                             smoothing, scale, row_loss);
    totals->correct += (unsigned)correct;
}

static ohm_optimiser_rule rule_of_step(const ohm_optimiser_rule *rule,
                                       const ohm_step_numbers *numbers,
                                       const ohm_step_totals *totals)
{
    ohm_optimiser_rule step = *rule;
    step.lr = numbers->lr;
    step.correction1 = numbers->correction1;
    step.correction2 = numbers->correction2;
    step.gradient_scale = totals->gradient_scale;
    return step;
}

static void sgd(ohm_device *device, float *w, const float *g, float *m, size_t n,
                const ohm_optimiser_rule *rule, const ohm_step_numbers *numbers,
                const ohm_step_totals *totals)
{
    (void)device;
    const ohm_optimiser_rule step = rule_of_step(rule, numbers, totals);
    if (totals->apply)
        ohm_sgd_cpu(w, g, m, n, &step);
}

static void adam(ohm_device *device, float *w, const float *g, float *m, float *v, size_t n,
                 const ohm_optimiser_rule *rule, const ohm_step_numbers *numbers,
                 const ohm_step_totals *totals)
{
    (void)device;
    const ohm_optimiser_rule step = rule_of_step(rule, numbers, totals);
    if (totals->apply)
        ohm_adam_cpu(w, g, m, v, n, &step);
}

static void sum_squares(ohm_device *device, ohm_step_totals *totals, const float *x, size_t n,
                        double *partial)
{
    (void)device;
    totals->squares += ohm_sum_squares_cpu(x, n, partial);
}

static void decide(ohm_device *device, ohm_step_totals *totals, const uint32_t *fault, int layers,
                   double clip_norm)
{
    (void)device;
    ohm_step_decide(totals, fault, layers, clip_norm);
}

#define ENTRY(name, kernel, parameters, arguments) .name = name,
const ohm_backend ohm_backend_cpu = {
    .name = "cpu",
    .threads = threads,
    .analog = &ohm_simulator_analog,
    .conv_forward_floats = ohm_conv_forward_floats,
    .conv_input_floats = ohm_conv_input_floats,
    .conv_weight_floats = ohm_conv_weight_floats,
    .column_partials = ohm_column_partials,
    .batch_norm_doubles = ohm_batch_norm_doubles,
    .sum_squares_blocks = ohm_sum_squares_blocks,
    OHM_OPERATIONS(ENTRY)};
