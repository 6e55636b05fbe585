/* Products and convolutions of a device against the CPU's. */
#include <math.h>
#include <string.h>

#include "kernels/conv.h"
#include "kernels/gemm.h"
#include "kernels/layers_cuda.h"
#include "tests/parity.h"

enum { PRODUCT_BYTES = 1 << 20 };

static float *numbers(size_t n, uint32_t seed)
{
    float *x = parity_host((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)(seed >> 8 & 0xFFFF) / 32768.0f - 1.0f;
    }
    return x;
}

static float *up(const float *x, size_t n)
{
    return parity_upload(x, n * sizeof *x);
}

/* Sums of `depth` products of numbers below 1, operands rounded to `bits` of mantissa. */
static ohm_verdict near(const float *device, float *expected, size_t n, int depth,
                        ohm_gemm_precision precision)
{
    static const double step[] = {0x1p-24, 0x1p-11, 0x1p-8};
    float *got = numbers(n, 0);
    ohm_verdict verdict = parity_pass();
    if (parity_fetch(got, device, n * sizeof *got) != OHM_CUDA_OK)
        verdict = parity_failed("fetch");
    else if (n && depth)
        verdict = ohm_compare_close(got, expected, n,
                                    4.0 * step[precision] * sqrt(depth + 1.0) + 1e-7, 1e-6);
    else if (n)
        verdict = ohm_compare_bits(got, expected, n);
    return verdict;
}

static ohm_verdict product_case(int m, int n, int k, ohm_gemm_precision precision)
{
    const size_t x_count = (size_t)m * (size_t)(k + 3), w_count = (size_t)n * (size_t)(k + 1),
                 y_count = (size_t)m * (size_t)(n + 2);
    float *x = numbers(x_count, 1), *w = numbers(w_count, 2), *y = numbers(y_count, 3),
          *bias = numbers((size_t)n, 4);
    float *dx = up(x, x_count), *dw = up(w, w_count), *dy = up(y, y_count);
    ohm_gemm_cuda g = {.precision = precision,
                       .stream = parity_stream(),
                       .workspace = parity_alloc(PRODUCT_BYTES),
                       .bytes = PRODUCT_BYTES};
    PARITY_TRY(ohm_gemm_handle_create(&g.handle));
    ohm_gemm_one_thread();
    for (int beta = 0; beta < 2; beta++) {
        float *expected = numbers(y_count, 3), *to = up(expected, y_count);
        PARITY_TRY(ohm_gemm_forward_cuda(to, n + 2, dx, k + 3, dw, k + 1,
                                         beta ? up(bias, (size_t)n) : NULL, m, n, k, (float)beta,
                                         &g));
        ohm_gemm_forward_block(expected, n + 2, x, k + 3, w, k + 1, m, n, k, (float)beta);
        for (int i = 0; beta && i < m * n; i++)
            expected[i / n * (n + 2) + i % n] += bias[i % n];
        PARITY_CHECK(near(to, expected, y_count, k, precision));
        expected = numbers(x_count, 5);
        to = up(expected, x_count);
        PARITY_TRY(ohm_gemm_input_cuda(to, k + 3, dy, n + 2, dw, k + 1, m, n, k, (float)beta, &g));
        ohm_gemm_input_block(expected, k + 3, y, n + 2, w, k + 1, m, n, k, (float)beta);
        PARITY_CHECK(near(to, expected, x_count, n, precision));
        expected = numbers(w_count, 6);
        to = up(expected, w_count);
        PARITY_TRY(ohm_gemm_weight_cuda(to, k + 1, dy, n + 2, dx, k + 3, m, n, k, (float)beta, &g));
        ohm_gemm_weight_block(expected, k + 1, y, n + 2, x, k + 3, m, n, k, (float)beta);
        PARITY_CHECK(near(to, expected, w_count, m, precision));
    }
    ohm_gemm_handle_destroy(g.handle);
    return parity_pass();
}

OHM_PARITY_ALONE(gemm_cuda, products)
{
    static const int sizes[][3] = {{1, 1, 1}, {31, 33, 257}, {33, 31, 1}, {65, 10, 75},
                                   {0, 3, 4}, {3, 0, 4},     {5, 3, 0}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int precision = OHM_GEMM_FP32; precision <= OHM_GEMM_BF16; precision++)
            PARITY_CHECK(
                product_case(sizes[i][0], sizes[i][1], sizes[i][2], (ohm_gemm_precision)precision));
    return parity_pass();
}

/* Of all convolutions here. */
enum { WORKSPACE_FLOATS = OHM_GEMM_WORKSPACE / 4 + (1 << 20) };

/* Less room than one piece of 1024 rows: `rows` rows of patches at a time. */
static ohm_verdict conv_case(float *workspace, const ohm_conv_shape *c, int images, size_t rows)
{
    const size_t in = (size_t)images * (size_t)(c->height * c->width * c->channels),
                 out = ohm_conv_rows(c, images) * (size_t)c->out, k = (size_t)ohm_conv_k(c),
                 count = k * (size_t)c->out;
    float *x = numbers(in, 1), *w = numbers(count, 2), *bias = numbers((size_t)c->out, 3),
          *y = numbers(out, 4), *dy = numbers(out, 5), *dx = numbers(in, 6),
          *dw = numbers(count, 7);
    const size_t turned = (size_t)(c->kernel * c->kernel) * (size_t)c->out,
                 wide = k > turned ? k : turned;
    size_t floats = OHM_GEMM_WORKSPACE / sizeof(float) + 64 + count + 64 + rows * wide,
           cpu = ohm_conv_forward_floats(c, images, 1);
    cpu += ohm_conv_input_floats(c, images, 1) + ohm_conv_weight_floats(c, images, 1);
    float *host = numbers(cpu, 0);
    ck_assert_uint_le(floats, WORKSPACE_FLOATS);
    float *dev_x = up(x, in), *dev_w = up(w, count), *dev_y = up(y, out), *dev_dy = up(dy, out),
          *dev_dx = up(dx, in), *dev_dw = up(dw, count);
    ohm_gemm_cuda g = {.precision = OHM_GEMM_FP32, .stream = parity_stream()};
    PARITY_TRY(ohm_gemm_handle_create(&g.handle));
    PARITY_TRY(ohm_conv_forward_cuda(dev_y, dev_x, dev_w, up(bias, (size_t)c->out), c, images,
                                     workspace, floats, &g));
    ohm_conv_forward_cpu(y, x, w, bias, c, images, host, cpu);
    PARITY_CHECK(near(dev_y, y, out, (int)k, OHM_GEMM_FP32));
    PARITY_TRY(ohm_conv_weight_cuda(dev_dw, dev_dy, dev_x, c, images, workspace, floats, &g));
    ohm_conv_weight_cpu(dw, dy, x, c, images, host, cpu);
    PARITY_CHECK(near(dev_dw, dw, count, (int)ohm_conv_rows(c, images), OHM_GEMM_FP32));
    for (int accumulate = 1; accumulate >= 0; accumulate--) {
        float *expected = numbers(in, 6);
        PARITY_TRY(ohm_conv_input_cuda(dev_dx, dev_dy, dev_w, c, images, accumulate, workspace,
                                       floats, &g));
        ohm_conv_input_cpu(expected, dy, w, c, images, accumulate, host, cpu);
        PARITY_CHECK(near(dev_dx, expected, in, (int)turned, OHM_GEMM_FP32));
    }
    ohm_gemm_handle_destroy(g.handle);
    return parity_pass();
}

OHM_PARITY_ALONE(conv_cuda, forward_and_gradients)
{
    /* height, width, channels, kernel, stride, pad, out_height, out_width, out */
    static const ohm_conv_shape shapes[] = {
        {1, 1, 33, 1, 1, 0, 1, 1, 7}, {8, 8, 3, 5, 1, 2, 8, 8, 6},   {9, 9, 4, 3, 2, 1, 5, 5, 8},
        {5, 5, 4, 1, 2, 0, 3, 3, 5},  {12, 12, 1, 5, 1, 0, 8, 8, 6}, {6, 6, 2, 2, 2, 0, 3, 3, 3},
        {4, 4, 5, 1, 1, 0, 4, 4, 3}};
    float *workspace = parity_alloc(WORKSPACE_FLOATS * sizeof *workspace);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        PARITY_CHECK(conv_case(workspace, &shapes[i], 3, 7));
        PARITY_CHECK(conv_case(workspace, &shapes[i], 3, 1000));
    }
    return parity_pass();
}

OHM_PARITY_ALONE(conv_cuda, refuses_a_workspace_without_room)
{
    const ohm_conv_shape c = {8, 8, 3, 5, 1, 2, 8, 8, 6};
    const size_t floats = OHM_GEMM_WORKSPACE / sizeof(float) + 64 + 74;
    float *any = parity_alloc(floats * sizeof *any);
    ohm_gemm_cuda g = {.stream = parity_stream()};
    PARITY_TRY(ohm_gemm_handle_create(&g.handle));
    ck_assert_int_eq(ohm_conv_forward_cuda(any, any, any, NULL, &c, 1, any, floats, &g),
                     OHM_CUDA_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(ohm_cuda_error_text(), "holds no row of patches"));
    ohm_gemm_handle_destroy(g.handle);
    return parity_pass();
}
