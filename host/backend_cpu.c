#include <omp.h>

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

const ohm_backend ohm_backend_cpu = {
    .name = "cpu",
    .supports = supports,
    .threads = threads,
    .conv_forward_floats = ohm_conv_forward_floats,
    .conv_input_floats = ohm_conv_input_floats,
    .conv_weight_floats = ohm_conv_weight_floats,
    .conv_forward = ohm_conv_forward_cpu,
    .conv_input = ohm_conv_input_cpu,
    .conv_weight = ohm_conv_weight_cpu,
    .patches = ohm_im2col_cpu,
    .patches_of_codes = ohm_im2col_codes_cpu,
    .scatter = ohm_col2im_cpu,
    .relu = ohm_relu_cpu,
    .relu_backward = ohm_relu_backward_cpu,
    .add = ohm_add_cpu,
    .straight_through = ohm_straight_through_cpu,
    .copy = ohm_copy_cpu,
    .fill = ohm_fill_cpu,
    .scale_columns = ohm_scale_columns_cpu,
    .add_row = ohm_add_row_cpu,
    .column_partials = ohm_column_partials,
    .sum_columns = ohm_sum_columns_cpu,
    .scale_gradient = ohm_scale_gradient_cpu,
    .range_gradient = ohm_range_gradient_cpu,
    .batch_norm_doubles = ohm_batch_norm_doubles,
    .batch_norm_train = ohm_batch_norm_train_cpu,
    .batch_norm_infer = ohm_batch_norm_infer_cpu,
    .batch_norm_backward = ohm_batch_norm_backward_cpu,
    .max_pool = ohm_max_pool_cpu,
    .max_pool_backward = ohm_max_pool_backward_cpu,
    .avg_pool = ohm_avg_pool_cpu,
    .avg_pool_backward = ohm_avg_pool_backward_cpu,
    .softmax_loss = ohm_softmax_loss_cpu,
    .sgd = ohm_sgd_cpu,
    .adam = ohm_adam_cpu,
    .sum_squares_blocks = ohm_sum_squares_blocks,
    .sum_squares = ohm_sum_squares_cpu,
};
