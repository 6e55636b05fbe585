/* Batch norm, pooling, element-wise operations and the loss against scalar double references; their
 * gradients against central differences of those references. */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/activation.h"
#include "kernels/batchnorm.h"
#include "kernels/pool.h"
#include "kernels/softmax.h"
#include "kernels/vector.h"
#include "tests/compare.h"
#include "tests/runner.h"

static float *random_floats(size_t n, uint32_t seed)
{
    float *x = ohm_guard_f32(n);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)(seed >> 8 & 0xFFFF) / 32768.0f - 1.0f;
    }
    return x;
}

static double *doubles(size_t n)
{
    double *x = calloc(n + 1, sizeof *x);
    ck_assert_ptr_nonnull(x);
    return x;
}

static double *widened(const float *x, size_t n)
{
    double *wide = doubles(n);
    for (size_t i = 0; i < n; i++)
        wide[i] = x[i];
    return wide;
}

static void check_bits(const float *got, const float *ref, size_t n)
{
    OHM_ASSERT(ohm_compare_guards(got));
    OHM_ASSERT(ohm_compare_bits(got, ref, n));
}

/* ---- batch norm ---------------------------------------------------------------------------- */

typedef struct {
    size_t rows, channels;
    const float *x, *gamma, *beta, *dy;
} norm_case;

/* y of the definition; also Σ y dy, whose derivatives the backward pass must give. */
static double reference_norm(double *y, double *mean, double *variance, const norm_case *c,
                             const double *x, const double *gamma, const double *beta)
{
    double sum = 0.0;
    for (size_t j = 0; j < c->channels; j++) {
        mean[j] = variance[j] = 0.0;
        for (size_t r = 0; r < c->rows; r++)
            mean[j] += x[r * c->channels + j] / (double)c->rows;
        for (size_t r = 0; r < c->rows; r++)
            variance[j] += pow(x[r * c->channels + j] - mean[j], 2) / (double)c->rows;
        for (size_t r = 0; r < c->rows; r++) {
            size_t at = r * c->channels + j;
            y[at] = (x[at] - mean[j]) / sqrt(variance[j] + 1e-5) * gamma[j] + beta[j];
            sum += y[at] * (double)c->dy[at];
        }
    }
    return sum;
}

/* Central difference of reference_norm's sum by one number. */
static double norm_slope(double *number, const norm_case *c, const double *x, const double *gamma,
                         const double *beta)
{
    double *y = doubles(c->rows * c->channels), *statistics = doubles(2 * c->channels),
           start = *number, value[2];
    for (int side = 0; side < 2; side++) {
        *number = start + (side ? 1e-5 : -1e-5);
        value[side] = reference_norm(y, statistics, statistics + c->channels, c, x, gamma, beta);
    }
    *number = start;
    free(y);
    free(statistics);
    return (value[1] - value[0]) / 2e-5;
}

static void check_norm_gradients(const norm_case *c, const float *dx, const float *dgamma,
                                 const float *dbeta)
{
    size_t count = c->rows * c->channels;
    double *x = widened(c->x, count), *gamma = widened(c->gamma, c->channels),
           *beta = widened(c->beta, c->channels);
    double scale = sqrt((double)c->rows);
    for (size_t i = 0; i < count; i += count / 40 + 1)
        ck_assert_double_eq_tol(dx[i], norm_slope(x + i, c, x, gamma, beta), 1e-4);
    for (size_t j = 0; j < c->channels; j += c->channels / 10 + 1) {
        ck_assert_double_eq_tol(dgamma[j], norm_slope(gamma + j, c, x, gamma, beta),
                                1e-5 * scale + 1e-5);
        ck_assert_double_eq_tol(dbeta[j], norm_slope(beta + j, c, x, gamma, beta),
                                1e-5 * scale + 1e-5);
    }
    free(x);
    free(gamma);
    free(beta);
}

typedef struct {
    float *y, *saved, *running, *dx, *dsum;
} norm_results;

static norm_results run_norm(const norm_case *c, int threads)
{
    size_t count = c->rows * c->channels, n = c->channels,
           doubles_needed = ohm_batch_norm_doubles(c->rows, n);
    norm_results r = {ohm_guard_f32(count), ohm_guard_f32(2 * n), ohm_guard_f32(2 * n),
                      ohm_guard_f32(count), ohm_guard_f32(2 * n)};
    double *workspace = ohm_guard_alloc(doubles_needed, sizeof(double));
    omp_set_num_threads(threads);
    for (size_t i = 0; i < 2 * n; i++) {
        r.running[i] = i < n ? 0.5f : 2.0f;
        r.dsum[i] = 0.0f;
    }
    ohm_batch_norm_train_cpu(r.y, r.saved, r.running, r.running + n, c->x, c->gamma, c->beta,
                             c->rows, n, 0.1, 1e-5, workspace);
    ohm_batch_norm_backward_cpu(r.dx, r.dsum, r.dsum + n, c->dy, c->x, r.saved, c->gamma, c->rows,
                                n, 0, workspace);
    OHM_ASSERT(ohm_compare_guards(workspace));
    ohm_guard_free(workspace);
    return r;
}

static void free_norm(norm_results *r)
{
    ohm_guard_free(r->y);
    ohm_guard_free(r->saved);
    ohm_guard_free(r->running);
    ohm_guard_free(r->dx);
    ohm_guard_free(r->dsum);
}

static void check_norm_forward(const norm_case *c, const norm_results *r)
{
    size_t n = c->channels, count = c->rows * n;
    double *x = widened(c->x, count), *gamma = widened(c->gamma, n), *beta = widened(c->beta, n);
    double *y = doubles(count), *mean = doubles(n), *variance = doubles(n),
           *running = doubles(2 * n);
    reference_norm(y, mean, variance, c, x, gamma, beta);
    /* a single row has no deviation: its x - mean is rounding times 1/sqrt(epsilon) */
    OHM_ASSERT(ohm_compare_close(r->y, y, count, 1e-4, 1e-5));
    for (size_t j = 0; j < n; j++) {
        double unbiased =
            c->rows > 1 ? variance[j] * (double)c->rows / (double)(c->rows - 1) : variance[j];
        running[j] = 0.9 * 0.5 + 0.1 * mean[j];
        running[n + j] = 0.9 * 2.0 + 0.1 * unbiased;
    }
    OHM_ASSERT(ohm_compare_close(r->running, running, 2 * n, 1e-6, 1e-6));
    double *all[] = {x, gamma, beta, y, mean, variance, running};
    for (size_t i = 0; i < 7; i++)
        free(all[i]);
}

static void check_norm(size_t rows, size_t channels)
{
    size_t count = rows * channels;
    float *x = random_floats(count, 1), *gamma = random_floats(channels, 2),
          *beta = random_floats(channels, 3);
    float *dy = random_floats(count, 4);
    for (size_t i = 0; i < count; i++)
        x[i] += (float)(i % channels); /* means that are large beside the deviations */
    norm_case c = {rows, channels, x, gamma, beta, dy};
    norm_results one = run_norm(&c, 1), two = run_norm(&c, 2);
    check_norm_forward(&c, &one);
    if (rows > 1)
        check_norm_gradients(&c, one.dx, one.dsum, one.dsum + channels);
    check_bits(two.y, one.y, count);
    check_bits(two.dx, one.dx, count);
    check_bits(two.dsum, one.dsum, 2 * channels);
    check_bits(two.running, one.running, 2 * channels);
    free_norm(&one);
    free_norm(&two);
    float *all[] = {x, gamma, beta, dy};
    for (size_t i = 0; i < 4; i++)
        ohm_guard_free(all[i]);
}

OHM_TEST(operations, batch_norm_and_its_gradient)
{
    check_norm(1, 31);
    check_norm(31, 1);
    check_norm(33, 33);
    check_norm(257, 5);
    check_norm(1030, 3);
}

OHM_TEST(operations, batch_norm_in_place_and_accumulating)
{
    enum { ROWS = 300, N = 7, COUNT = ROWS * N };
    float *x = random_floats(COUNT, 1), *gamma = random_floats(N, 2), *beta = random_floats(N, 3);
    float *dy = random_floats(COUNT, 4), *sum = random_floats(COUNT, 5),
          *expected = ohm_guard_f32(COUNT);
    norm_case c = {ROWS, N, x, gamma, beta, dy};
    norm_results r = run_norm(&c, 2);
    double *workspace = doubles(ohm_batch_norm_doubles(ROWS, N));
    float dsum[2 * N] = {0};
    for (int i = 0; i < COUNT; i++)
        expected[i] = sum[i] + r.dx[i];
    ohm_batch_norm_backward_cpu(sum, dsum, dsum + N, dy, x, r.saved, gamma, ROWS, N, 1, workspace);
    check_bits(sum, expected, COUNT);
    ohm_batch_norm_backward_cpu(dy, dsum, dsum + N, dy, x, r.saved, gamma, ROWS, N, 0, workspace);
    check_bits(dy, r.dx, COUNT);
    ohm_batch_norm_infer_cpu(expected, x, gamma, beta, r.running, r.running + N, ROWS, N, 1e-5,
                             workspace);
    double *ref = doubles(COUNT);
    for (int i = 0; i < COUNT; i++)
        ref[i] = ((double)x[i] - r.running[i % N]) / sqrt((double)r.running[N + i % N] + 1e-5) *
                     gamma[i % N] +
                 beta[i % N];
    OHM_ASSERT(ohm_compare_close(expected, ref, COUNT, 1e-6, 1e-5));
    ohm_batch_norm_infer_cpu(x, x, gamma, beta, r.running, r.running + N, ROWS, N, 1e-5, workspace);
    check_bits(x, expected, COUNT);
    float *all[] = {x, gamma, beta, dy, sum, expected};
    for (size_t i = 0; i < 6; i++)
        ohm_guard_free(all[i]);
    free_norm(&r);
    free(workspace);
    free(ref);
}

/* ---- pooling ------------------------------------------------------------------------------- */

/* The value of a window in double; *winner = the tap of the first largest. */
static double reference_window(const float *x, const ohm_pool_shape *s, size_t out, int max,
                               int *winner)
{
    size_t channel = out % (size_t)s->channels, at = out / (size_t)s->channels;
    size_t ox = at % (size_t)s->out_width, oy = at / (size_t)s->out_width % (size_t)s->out_height;
    size_t image = at / (size_t)(s->out_width * s->out_height);
    double best = -INFINITY, sum = 0.0;
    for (int tap = 0; tap < s->kernel * s->kernel; tap++) {
        size_t y = oy * (size_t)s->stride + (size_t)(tap / s->kernel),
               xx = ox * (size_t)s->stride + (size_t)(tap % s->kernel);
        double value =
            x[((image * (size_t)s->height + y) * (size_t)s->width + xx) * (size_t)s->channels +
              channel];
        sum += value;
        if (value > best) {
            best = value;
            *winner = tap;
        }
    }
    return max ? best : sum / (s->kernel * s->kernel);
}

static size_t tap_at(const ohm_pool_shape *s, size_t out, int tap)
{
    size_t channel = out % (size_t)s->channels, at = out / (size_t)s->channels;
    size_t ox = at % (size_t)s->out_width, oy = at / (size_t)s->out_width % (size_t)s->out_height;
    size_t image = at / (size_t)(s->out_width * s->out_height);
    size_t y = oy * (size_t)s->stride + (size_t)(tap / s->kernel),
           x = ox * (size_t)s->stride + (size_t)(tap % s->kernel);
    return ((image * (size_t)s->height + y) * (size_t)s->width + x) * (size_t)s->channels + channel;
}

static void reference_pool(double *y, double *dx, const float *x, const float *dy,
                           const ohm_pool_shape *s, size_t out, int max)
{
    int taps = s->kernel * s->kernel, winner = 0;
    for (size_t o = 0; o < out; o++) {
        y[o] = reference_window(x, s, o, max, &winner);
        for (int tap = 0; tap < taps; tap++)
            dx[tap_at(s, o, tap)] +=
                max ? (tap == winner ? (double)dy[o] : 0.0) : (double)dy[o] / taps;
    }
}

static void check_pool(int max, int height, int width, int channels, int kernel, int stride,
                       int images, int accumulate)
{
    ohm_pool_shape s = {height,
                        width,
                        channels,
                        kernel,
                        stride,
                        (height - kernel) / stride + 1,
                        (width - kernel) / stride + 1};
    size_t in = (size_t)(images * height * width * channels);
    size_t out = (size_t)(images * s.out_height * s.out_width * channels);
    float *x = random_floats(in, 1), *dy = random_floats(out, 2), *y[2], *dx[2];
    for (size_t i = 0; i < in; i++)
        x[i] = roundf(x[i] * 8.0f); /* ties: the first wins */
    double *ref_y = doubles(out), *ref_dx = doubles(in);
    uint8_t *which = ohm_guard_alloc(out, 1);
    for (int threads = 1; threads <= 2; threads++) {
        omp_set_num_threads(threads);
        float *to = y[threads - 1] = ohm_guard_f32(out),
              *from = dx[threads - 1] = random_floats(in, 3);
        for (size_t i = 0; i < in && threads == 1; i++)
            ref_dx[i] = accumulate ? from[i] : 0.0;
        if (max) {
            ohm_max_pool_cpu(to, which, x, &s, images);
            ohm_max_pool_backward_cpu(from, dy, which, &s, images, accumulate);
        } else {
            ohm_avg_pool_cpu(to, x, &s, images);
            ohm_avg_pool_backward_cpu(from, dy, &s, images, accumulate);
        }
        OHM_ASSERT(ohm_compare_guards(which));
    }
    reference_pool(ref_y, ref_dx, x, dy, &s, out, max);
    OHM_ASSERT(ohm_compare_close(y[0], ref_y, out, 1e-6, 1e-6));
    OHM_ASSERT(ohm_compare_close(dx[0], ref_dx, in, 1e-6, 1e-6));
    check_bits(y[1], y[0], out);
    check_bits(dx[1], dx[0], in);
    for (int i = 0; i < 2; i++) {
        ohm_guard_free(y[i]);
        ohm_guard_free(dx[i]);
    }
    ohm_guard_free(x);
    ohm_guard_free(dy);
    ohm_guard_free(which);
    free(ref_y);
    free(ref_dx);
}

OHM_TEST(operations, pooling_and_its_gradient)
{
    for (int max = 0; max < 2; max++) {
        check_pool(max, 8, 8, 3, 2, 2, 5, 0);
        check_pool(max, 7, 9, 1, 2, 2, 2, 1);  /* a row and a column of pixels in no window */
        check_pool(max, 7, 7, 31, 3, 2, 3, 0); /* windows that overlap */
        check_pool(max, 4, 4, 33, 4, 4, 1, 1);
        check_pool(max, 1, 1, 1, 1, 1, 1, 0);
    }
}

OHM_TEST(operations, max_pool_does_not_lose_a_nan)
{
    ohm_pool_shape s = {2, 2, 1, 2, 2, 1, 1};
    for (int place = 0; place < 4; place++) {
        float x[4] = {1, 2, 3, 4}, y;
        x[place] = NAN;
        ohm_max_pool_cpu(&y, NULL, x, &s, 1);
        ck_assert(isnan(y));
    }
}

/* ---- element by element -------------------------------------------------------------------- */

static void check_elements(size_t n)
{
    float *x = random_floats(n, 1), *b = random_floats(n, 2), *y = ohm_guard_f32(n),
          *ref = ohm_guard_f32(n);
    float *sum = random_floats(n, 3);
    ohm_relu_cpu(y, x, n);
    for (size_t i = 0; i < n; i++)
        ref[i] = x[i] > 0.0f ? x[i] : 0.0f;
    check_bits(y, ref, n);
    for (size_t i = 0; i < n; i++)
        ref[i] = sum[i] + (y[i] > 0.0f ? b[i] : 0.0f);
    ohm_relu_backward_cpu(sum, b, y, n, 1);
    check_bits(sum, ref, n);
    for (size_t i = 0; i < n; i++)
        ref[i] = y[i] > 0.0f ? b[i] : 0.0f;
    ohm_relu_backward_cpu(sum, b, y, n, 0);
    check_bits(sum, ref, n);
    for (size_t i = 0; i < n; i++)
        ref[i] = x[i] + b[i];
    ohm_add_cpu(x, x, b, n);
    check_bits(x, ref, n);
    for (size_t i = 0; i < n; i++)
        ref[i] = x[i] + (b[i] - x[i]);
    ohm_straight_through_cpu(x, b, n);
    check_bits(x, ref, n);
    ohm_copy_cpu(y, b, n);
    check_bits(y, b, n);
    ohm_fill_cpu(y, 3.5f, n);
    for (size_t i = 0; i < n; i++)
        ck_assert_float_eq(y[i], 3.5f);
    OHM_ASSERT(ohm_compare_guards(y));
    float *all[] = {x, b, y, ref, sum};
    for (size_t i = 0; i < 5; i++)
        ohm_guard_free(all[i]);
}

OHM_TEST(operations, elementwise)
{
    static const size_t size[] = {0, 1, 31, 33, 257, 40001};
    for (int threads = 1; threads <= 2; threads++) {
        omp_set_num_threads(threads);
        for (size_t i = 0; i < 6; i++)
            check_elements(size[i]);
    }
}

OHM_TEST(operations, relu_does_not_lose_a_nan)
{
    float x[3] = {NAN, -1.0f, 2.0f};
    ohm_relu_cpu(x, x, 3);
    ck_assert(isnan(x[0]));
    ck_assert_float_eq(x[1], 0.0f);
    ck_assert_float_eq(x[2], 2.0f);
}

static void check_columns(size_t rows, size_t cols, int threads)
{
    size_t n = rows * cols;
    float *x = random_floats(n, 1), *row = random_floats(cols, 2), *y = ohm_guard_f32(n),
          *ref = ohm_guard_f32(n);
    double *sums = doubles(cols),
           *partial = ohm_guard_alloc(ohm_column_partials(rows, cols), sizeof(double));
    float *sum = ohm_guard_f32(cols);
    omp_set_num_threads(threads);
    for (size_t c = 0; c < cols; c++)
        sums[c] = sum[c] = 1.0f;
    for (size_t i = 0; i < n; i++) {
        ref[i] = x[i] * row[i % cols];
        sums[i % cols] += x[i];
    }
    ohm_scale_columns_cpu(y, x, row, rows, cols);
    check_bits(y, ref, n);
    for (size_t i = 0; i < n; i++)
        ref[i] = y[i] + row[i % cols];
    ohm_add_row_cpu(y, row, rows, cols);
    check_bits(y, ref, n);
    ohm_sum_columns_cpu(sum, x, rows, cols, partial);
    if (cols)
        OHM_ASSERT(ohm_compare_close(sum, sums, cols, 1e-6, 1e-6));
    OHM_ASSERT(ohm_compare_guards(sum));
    OHM_ASSERT(ohm_compare_guards(partial));
    ohm_guard_free(partial);
    float *all[] = {x, row, y, ref, sum};
    for (size_t i = 0; i < 5; i++)
        ohm_guard_free(all[i]);
    free(sums);
}

OHM_TEST(operations, columns)
{
    static const size_t rows[] = {0, 1, 33, 257, 2000}, cols[] = {1, 31, 33};
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < 3; j++)
            for (int threads = 1; threads <= 2; threads++)
                check_columns(rows[i], cols[j], threads);
}

OHM_TEST(operations, gradients_of_scale_and_range)
{
    enum { N = 33, K = 257 };
    float *product = random_floats(N * K, 1), *w = random_floats(N * K, 2),
          *scale = random_floats(N, 3);
    float *dscale = random_floats(N, 4), *dw = random_floats(N * K, 5),
          range_sum[2] = {0.25f, 0.25f};
    double *ref_scale = widened(dscale, N), *ref_w = widened(dw, N * K), ref_range = 0.25;
    double *partial = doubles(ohm_column_partials(N * K, 1));
    for (int i = 0; i < N * K; i++) {
        ref_scale[i / K] += (double)product[i] * w[i];
        ref_w[i] += (double)product[i] * scale[i / K];
        ref_range += fabs((double)w[i]) > 0.5 ? (w[i] > 0 ? 1 : -1) * (double)product[i] : 0.0;
    }
    ohm_scale_gradient_cpu(dscale, dw, product, w, scale, N, K);
    OHM_ASSERT(ohm_compare_close(dscale, ref_scale, N, 1e-6, 1e-6));
    OHM_ASSERT(ohm_compare_close(dw, ref_w, N * K, 1e-6, 1e-6));
    for (int threads = 1; threads <= 2; threads++) {
        omp_set_num_threads(threads);
        ohm_range_gradient_cpu(range_sum + threads - 1, product, w, 0.5f, N * K, partial);
    }
    ck_assert_double_eq_tol(range_sum[0], ref_range, 1e-5);
    ck_assert_float_eq(range_sum[0], range_sum[1]);
    float *all[] = {product, w, scale, dscale, dw};
    for (size_t i = 0; i < 5; i++)
        ohm_guard_free(all[i]);
    free(ref_scale);
    free(ref_w);
    free(partial);
}

/* ---- the same bits on every instruction set ------------------------------------------------ */

static void run_vector(const ohm_vector_kernels *v, float *out, double *sums, const float *x,
                       const float *y, size_t rows, size_t cols)
{
    size_t n = rows * cols;
    memset(sums, 0, 6 * cols * sizeof *sums);
    v->relu(out, x, n);
    v->relu_backward(out + n, x, y, n, 0);
    v->scale_columns(out + 2 * n, x, y, rows, cols);
    v->normalise(out + 3 * n, x, y, y + cols, y + 2 * cols, rows, cols);
    v->normalise_backward(out + 4 * n, x, y, x, y, y + cols, y + 2 * cols, rows, cols, 0);
    v->sum_columns(sums, x, rows, cols);
    v->moments(sums + cols, sums + 2 * cols, x, rows, cols);
    v->normalise_sums(sums + 3 * cols, sums + 4 * cols, x, y, x, rows, cols);
    sums[5 * cols] = v->sum_squares(x, n);
}

OHM_TEST(operations, instruction_sets_agree_to_the_bit)
{
    enum { ROWS = 37, COLS = 33, N = ROWS * COLS };
    float *x = random_floats(N, 1), *y = random_floats(N, 2),
          *out[2] = {ohm_guard_f32(5 * N), ohm_guard_f32(5 * N)};
    double *sums[2] = {doubles(6 * COLS), doubles(6 * COLS)};
    run_vector(ohm_vector_kernels_of(OHM_ISA_BASE), out[0], sums[0], x, y, ROWS, COLS);
    for (int isa = OHM_ISA_AVX2; isa <= (int)ohm_cpu_isa(); isa++) {
        run_vector(ohm_vector_kernels_of((ohm_isa)isa), out[1], sums[1], x, y, ROWS, COLS);
        check_bits(out[1], out[0], 5 * N);
        OHM_ASSERT(ohm_compare_bits(sums[1], sums[0], 5 * COLS + 1));
    }
    ohm_guard_free(x);
    ohm_guard_free(y);
    for (int i = 0; i < 2; i++) {
        ohm_guard_free(out[i]);
        free(sums[i]);
    }
}

/* ---- loss ---------------------------------------------------------------------------------- */

static double reference_loss(const double *logits, const int32_t *labels, int images, int classes,
                             double smoothing)
{
    double loss = 0.0;
    for (int i = 0; i < images; i++) {
        double sum = 0.0;
        for (int c = 0; c < classes; c++)
            sum += exp(logits[i * classes + c]);
        for (int c = 0; c < classes; c++)
            loss -= ((c == labels[i] ? 1.0 - smoothing : 0.0) + smoothing / classes) *
                    (logits[i * classes + c] - log(sum));
    }
    return loss;
}

static void check_loss(int images, int classes, double smoothing)
{
    size_t n = (size_t)(images * classes);
    float *logits = random_floats(n, 1), *gradient = ohm_guard_f32(n);
    int32_t *labels = ohm_guard_alloc((size_t)images, sizeof *labels);
    for (int i = 0; i < images; i++)
        labels[i] = (i * 7) % classes;
    double *wide = widened(logits, n), *rows = doubles((size_t)images);
    int correct, right = 0;
    for (int i = 0; i < images; i++) {
        int best = 0;
        for (int c = 1; c < classes; c++)
            best = wide[i * classes + c] > wide[i * classes + best] ? c : best;
        right += best == labels[i];
    }
    double loss = ohm_softmax_loss_cpu(gradient, &correct, logits, labels, images, classes,
                                       smoothing, 0.5, rows);
    ck_assert_double_eq_tol(loss, reference_loss(wide, labels, images, classes, smoothing),
                            1e-9 * (images + 1));
    ck_assert_int_eq(correct, right);
    for (size_t i = 0; i < n; i += n / 50 + 1) {
        double start = wide[i], side[2];
        for (int s = 0; s < 2; s++) {
            wide[i] = start + (s ? 1e-6 : -1e-6);
            side[s] = reference_loss(wide, labels, images, classes, smoothing);
        }
        wide[i] = start;
        ck_assert_double_eq_tol(gradient[i], 0.5 * (side[1] - side[0]) / 2e-6, 1e-6);
    }
    OHM_ASSERT(ohm_compare_guards(gradient));
    ohm_guard_free(logits);
    ohm_guard_free(gradient);
    ohm_guard_free(labels);
    free(wide);
    free(rows);
}

OHM_TEST(operations, loss_and_its_gradient)
{
    for (int threads = 1; threads <= 2; threads++) {
        omp_set_num_threads(threads);
        check_loss(1, 2, 0.0);
        check_loss(33, 10, 0.0);
        check_loss(257, 31, 0.1);
    }
}

OHM_TEST(operations, loss_of_extremes)
{
    float logits[6] = {1000.0f, 0.0f, -1000.0f, -1000.0f, 0.0f, 1000.0f},
          bad[3] = {0.0f, NAN, 1.0f}, gradient[6];
    int32_t labels[2] = {0, 0};
    double rows[2];
    int correct;
    double loss = ohm_softmax_loss_cpu(gradient, &correct, logits, labels, 2, 3, 0.0, 1.0, rows);
    ck_assert_double_eq_tol(loss, 2000.0, 1e-9);
    ck_assert_int_eq(correct, 1);
    ck_assert_float_eq(gradient[3], -1.0f);
    ck_assert_float_eq(gradient[5], 1.0f);
    ck_assert(isnan(ohm_softmax_loss_cpu(NULL, &correct, bad, labels, 1, 3, 0.0, 1.0, rows)));
}
