#include <omp.h>
#include <string.h>

#include "host/backend.h"
#include "kernels/activation.h"
#include "kernels/batchnorm.h"
#include "kernels/conv.h"
#include "kernels/softmax.h"

static int supports(ohm_op op)
{
    return op < OHM_OP_COUNT;
}

static int threads(void)
{
    return omp_get_max_threads();
}

/* Entries that drop the device: name, function, parameters, arguments. */
#define PLAIN(name, function, parameters, arguments)                                               \
    static void name(ohm_device *device, UNPACK parameters)                                        \
    {                                                                                              \
        (void)device;                                                                              \
        function arguments;                                                                        \
    }
#define UNPACK(...) __VA_ARGS__

PLAIN(conv_forward, ohm_conv_forward_cpu,
      (float *y, const float *x, const float *w, const float *bias, const ohm_conv_shape *s,
       int images, float *workspace, size_t floats),
      (y, x, w, bias, s, images, workspace, floats))
PLAIN(conv_input, ohm_conv_input_cpu,
      (float *dx, const float *dy, const float *w, const ohm_conv_shape *s, int images,
       int accumulate, float *workspace, size_t floats),
      (dx, dy, w, s, images, accumulate, workspace, floats))
PLAIN(conv_weight, ohm_conv_weight_cpu,
      (float *dw, const float *dy, const float *x, const ohm_conv_shape *s, int images,
       float *workspace, size_t floats),
      (dw, dy, x, s, images, workspace, floats))
PLAIN(patches, ohm_im2col_cpu,
      (float *patch, const float *x, const ohm_conv_shape *s, size_t first_row, int rows),
      (patch, x, s, first_row, rows))
PLAIN(patches_of_codes, ohm_im2col_codes_cpu,
      (uint8_t * patch, const uint8_t *x, uint8_t outside, const ohm_conv_shape *s,
       size_t first_row, int rows),
      (patch, x, outside, s, first_row, rows))
PLAIN(scatter, ohm_col2im_cpu,
      (float *dx, const float *patch, const ohm_conv_shape *s, size_t first_row, int rows),
      (dx, patch, s, first_row, rows))
PLAIN(relu, ohm_relu_cpu, (float *y, const float *x, size_t n), (y, x, n))
PLAIN(relu_backward, ohm_relu_backward_cpu,
      (float *dx, const float *dy, const float *y, size_t n, int accumulate),
      (dx, dy, y, n, accumulate))
PLAIN(add, ohm_add_cpu, (float *y, const float *a, const float *b, size_t n), (y, a, b, n))
PLAIN(straight_through, ohm_straight_through_cpu, (float *y, const float *noisy, size_t n),
      (y, noisy, n))
PLAIN(copy, ohm_copy_cpu, (float *y, const float *x, size_t n), (y, x, n))
PLAIN(fill, ohm_fill_cpu, (float *y, float value, size_t n), (y, value, n))
PLAIN(scale_columns, ohm_scale_columns_cpu,
      (float *y, const float *x, const float *scale, size_t rows, size_t cols),
      (y, x, scale, rows, cols))
PLAIN(add_row, ohm_add_row_cpu, (float *y, const float *row, size_t rows, size_t cols),
      (y, row, rows, cols))
PLAIN(sum_columns, ohm_sum_columns_cpu,
      (float *sum, const float *x, size_t rows, size_t cols, double *partial),
      (sum, x, rows, cols, partial))
PLAIN(scale_gradient, ohm_scale_gradient_cpu,
      (float *dscale, float *dw, const float *product, const float *w, const float *scale,
       size_t rows, size_t cols),
      (dscale, dw, product, w, scale, rows, cols))
PLAIN(range_gradient, ohm_range_gradient_cpu,
      (float *sum, const float *dx, const float *x, const float *range, size_t n, double *partial),
      (sum, dx, x, range[0], n, partial))
PLAIN(batch_norm_train, ohm_batch_norm_train_cpu,
      (float *y, float *saved, float *running_mean, float *running_variance, const float *x,
       const float *gamma, const float *beta, size_t rows, size_t channels, double momentum,
       double epsilon, double *workspace),
      (y, saved, running_mean, running_variance, x, gamma, beta, rows, channels, momentum, epsilon,
       workspace))
PLAIN(batch_norm_infer, ohm_batch_norm_infer_cpu,
      (float *y, const float *x, const float *gamma, const float *beta, const float *running_mean,
       const float *running_variance, size_t rows, size_t channels, double epsilon,
       double *workspace),
      (y, x, gamma, beta, running_mean, running_variance, rows, channels, epsilon, workspace))
PLAIN(batch_norm_backward, ohm_batch_norm_backward_cpu,
      (float *dx, float *dgamma, float *dbeta, const float *dy, const float *x, const float *saved,
       const float *gamma, size_t rows, size_t channels, int accumulate, double *workspace),
      (dx, dgamma, dbeta, dy, x, saved, gamma, rows, channels, accumulate, workspace))
PLAIN(max_pool, ohm_max_pool_cpu,
      (float *y, uint8_t *which, const float *x, const ohm_pool_shape *s, int images),
      (y, which, x, s, images))
PLAIN(max_pool_backward, ohm_max_pool_backward_cpu,
      (float *dx, const float *dy, const uint8_t *which, const ohm_pool_shape *s, int images,
       int accumulate),
      (dx, dy, which, s, images, accumulate))
PLAIN(avg_pool, ohm_avg_pool_cpu, (float *y, const float *x, const ohm_pool_shape *s, int images),
      (y, x, s, images))
PLAIN(avg_pool_backward, ohm_avg_pool_backward_cpu,
      (float *dx, const float *dy, const ohm_pool_shape *s, int images, int accumulate),
      (dx, dy, s, images, accumulate))
PLAIN(decide, ohm_step_decide, (ohm_step_totals * totals, double clip_norm), (totals, clip_norm))

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

const ohm_backend ohm_backend_cpu = {
    .name = "cpu",
    .supports = supports,
    .threads = threads,
    .conv_forward_floats = ohm_conv_forward_floats,
    .conv_input_floats = ohm_conv_input_floats,
    .conv_weight_floats = ohm_conv_weight_floats,
    .conv_forward = conv_forward,
    .conv_input = conv_input,
    .conv_weight = conv_weight,
    .patches = patches,
    .patches_of_codes = patches_of_codes,
    .scatter = scatter,
    .relu = relu,
    .relu_backward = relu_backward,
    .add = add,
    .straight_through = straight_through,
    .copy = copy,
    .fill = fill,
    .scale_columns = scale_columns,
    .add_row = add_row,
    .column_partials = ohm_column_partials,
    .sum_columns = sum_columns,
    .scale_gradient = scale_gradient,
    .range_gradient = range_gradient,
    .batch_norm_doubles = ohm_batch_norm_doubles,
    .batch_norm_train = batch_norm_train,
    .batch_norm_infer = batch_norm_infer,
    .batch_norm_backward = batch_norm_backward,
    .max_pool = max_pool,
    .max_pool_backward = max_pool_backward,
    .avg_pool = avg_pool,
    .avg_pool_backward = avg_pool_backward,
    .softmax_loss = softmax_loss,
    .sgd = sgd,
    .adam = adam,
    .sum_squares_blocks = ohm_sum_squares_blocks,
    .sum_squares = sum_squares,
    .decide = decide,
};
