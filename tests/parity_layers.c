/* The layers' device operations against their CPU versions, bit for bit, at odd sizes. */
#include <math.h>
#include <string.h>

#include "kernels/activation.h"
#include "kernels/batchnorm.h"
#include "kernels/layers_cuda.h"
#include "kernels/softmax.h"
#include "tests/parity.h"

/* Numbers in -1..1, many of them 0. */
static float *numbers(size_t n, uint32_t seed)
{
    float *x = parity_host((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = seed >> 28 == 0 ? 0.0f : (float)(int32_t)(seed >> 8 & 0xFFFF) / 32768.0f - 1.0f;
    }
    return x;
}

static float *copy_of(const float *x, size_t n)
{
    float *copy = parity_host((n + 1) * sizeof *copy);
    memcpy(copy, x, n * sizeof *copy);
    return copy;
}

static float *up(const float *x, size_t n)
{
    return parity_upload(x, n * sizeof *x);
}

/* Device memory against the CPU's. */
static ohm_verdict same(const void *device, void *expected, size_t n, size_t size)
{
    char *got = parity_host(n * size + 1);
    ohm_verdict verdict = parity_fetch(got, device, n * size) == OHM_CUDA_OK
                              ? ohm_compare_bits_any(got, expected, n, size)
                              : parity_failed("fetch");
    return verdict;
}

static ohm_verdict same_floats(const float *device, float *expected, size_t n)
{
    return same(device, expected, n, sizeof *expected);
}

static const size_t odd[] = {0, 1, 31, 33, 257, 1000};
enum { ODD = sizeof odd / sizeof *odd };

/* ---- activation.h -------------------------------------------------------------------------- */

OHM_PARITY_ALONE(activation_cuda, elementwise)
{
    ohm_cuda_stream s = parity_stream();
    for (int i = 0; i < ODD; i++) {
        size_t n = odd[i];
        float *a = numbers(n, 1), *b = numbers(n, 2), *y = numbers(n, 3);
        if (n > 30)
            a[30] = NAN;
        float *da = up(a, n), *db = up(b, n), *dy = up(y, n);
        PARITY_TRY(ohm_relu_cuda(dy, da, n, s));
        ohm_relu_cpu(y, a, n);
        PARITY_CHECK(same_floats(dy, copy_of(y, n), n));
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            PARITY_TRY(ohm_relu_backward_cuda(db, da, dy, n, accumulate, s));
            ohm_relu_backward_cpu(b, a, y, n, accumulate);
            PARITY_CHECK(same_floats(db, copy_of(b, n), n));
        }
        PARITY_TRY(ohm_add_cuda(dy, dy, db, n, s));
        ohm_add_cpu(y, y, b, n);
        PARITY_TRY(ohm_straight_through_cuda(dy, da, n, s));
        ohm_straight_through_cpu(y, a, n);
        PARITY_CHECK(same_floats(dy, y, n));
        PARITY_TRY(ohm_fill_cuda(db, 1.5f, n, s));
        ohm_fill_cpu(b, 1.5f, n);
        PARITY_CHECK(same_floats(db, b, n));
    }
    return parity_pass();
}

typedef struct {
    size_t rows, cols;
} matrix;
static const matrix matrices[] = {{0, 3},   {1, 1},   {31, 33}, {256, 5},
                                  {257, 1}, {600, 7}, {513, 20}};
enum { MATRICES = sizeof matrices / sizeof *matrices };

OHM_PARITY_ALONE(activation_cuda, rows_and_columns)
{
    ohm_cuda_stream s = parity_stream();
    for (int i = 0; i < MATRICES; i++) {
        size_t rows = matrices[i].rows, cols = matrices[i].cols, n = rows * cols;
        float *x = numbers(n, 1), *scale = numbers(cols, 2), *by_row = numbers(rows, 3);
        float *w = numbers(n, 4), *dscale = numbers(rows, 5), *dw = numbers(n, 6);
        float *dx = up(x, n), *dev_scale = up(scale, cols), *dev_dscale = up(dscale, rows),
              *dev_dw = up(dw, n);
        PARITY_TRY(ohm_scale_columns_cuda(dx, dx, dev_scale, rows, cols, s));
        PARITY_TRY(ohm_add_row_cuda(dx, dev_scale, rows, cols, s));
        ohm_scale_columns_cpu(x, x, scale, rows, cols);
        ohm_add_row_cpu(x, scale, rows, cols);
        PARITY_CHECK(same_floats(dx, copy_of(x, n), n));
        PARITY_TRY(ohm_scale_gradient_cuda(dev_dscale, dev_dw, dx, up(w, n), up(by_row, rows), rows,
                                           cols, s));
        ohm_scale_gradient_cpu(dscale, dw, x, w, by_row, rows, cols);
        PARITY_CHECK(same_floats(dev_dscale, dscale, rows));
        PARITY_CHECK(same_floats(dev_dw, dw, n));
    }
    return parity_pass();
}

/* 128 blocks of 256 rows are one tile of the combination: 40,000 rows take two. */
OHM_PARITY(activation_cuda, sums)
{
    static const matrix tall[] = {{0, 3}, {1, 1}, {257, 1}, {600, 7}, {513, 20}, {40000, 2}};
    ohm_cuda_stream s = parity_stream();
    for (size_t i = 0; i < sizeof tall / sizeof *tall; i++) {
        size_t rows = tall[i].rows, cols = tall[i].cols, n = rows * cols;
        size_t partials = ohm_column_partials(rows > n ? rows : n, cols);
        float *x = numbers(n, 1), *w = numbers(n, 2), *sum = numbers(cols, 3), range = 0.5f;
        double *partial = parity_host((partials + 1) * sizeof *partial);
        double *dev_partial = parity_alloc((partials + 1) * sizeof *partial);
        float *dx = up(x, n), *dsum = up(sum, cols);
        PARITY_TRY(ohm_sum_columns_cuda(dsum, dx, rows, cols, dev_partial, s));
        ohm_sum_columns_cpu(sum, x, rows, cols, partial);
        PARITY_CHECK(same_floats(dsum, copy_of(sum, cols), cols));
        PARITY_TRY(ohm_range_gradient_cuda(dsum, dx, up(w, n), up(&range, 1), n, dev_partial, s));
        ohm_range_gradient_cpu(sum, x, w, range, n, partial);
        PARITY_CHECK(same_floats(dsum, sum, cols));
    }
    return parity_pass();
}

/* Rows of 32 numbers meet in shared memory. */
OHM_PARITY(activation_cuda, learned_scales)
{
    enum { ROWS = 70, COLS = 100 };
    float *w = numbers(ROWS * COLS, 1), *product = numbers(ROWS * COLS, 2),
          *scale = numbers(ROWS, 3);
    float *dscale = numbers(ROWS, 4), *dw = numbers(ROWS * COLS, 5);
    float *dev_dscale = up(dscale, ROWS), *dev_dw = up(dw, ROWS * COLS);
    PARITY_TRY(ohm_scale_gradient_cuda(dev_dscale, dev_dw, up(product, ROWS * COLS),
                                       up(w, ROWS * COLS), up(scale, ROWS), ROWS, COLS,
                                       parity_stream()));
    ohm_scale_gradient_cpu(dscale, dw, product, w, scale, ROWS, COLS);
    PARITY_CHECK(same_floats(dev_dscale, dscale, ROWS));
    return same_floats(dev_dw, dw, ROWS * COLS);
}

/* ---- im2col.h ------------------------------------------------------------------------------ */

/* height, width, channels, kernel, stride, pad, out_height, out_width, out */
static const ohm_conv_shape shapes[] = {
    {1, 1, 33, 1, 1, 0, 1, 1, 7},  {7, 5, 1, 3, 1, 1, 7, 5, 4}, {8, 8, 3, 5, 1, 2, 8, 8, 6},
    {9, 9, 4, 3, 2, 1, 5, 5, 8},   {6, 6, 2, 2, 2, 0, 3, 3, 3}, {5, 5, 4, 1, 2, 0, 3, 3, 5},
    {12, 12, 1, 5, 1, 0, 8, 8, 6}, {4, 4, 8, 3, 1, 1, 4, 4, 8}, {7, 9, 3, 3, 3, 1, 3, 3, 5},
    {5, 4, 16, 3, 1, 1, 5, 4, 3},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

OHM_PARITY_ALONE(im2col_cuda, patches_there_and_back)
{
    ohm_cuda_stream s = parity_stream();
    for (int i = 0; i < SHAPES; i++) {
        const ohm_conv_shape *c = &shapes[i];
        enum { IMAGES = 3 };
        size_t pixels = (size_t)IMAGES * (size_t)(c->height * c->width * c->channels),
               k = (size_t)ohm_conv_k(c), all = ohm_conv_rows(c, IMAGES), first = all / 5;
        int rows = (int)(all - first - all / 7);
        size_t n = (size_t)rows * k;
        float *x = numbers(pixels, 1), *patches = numbers(n, 2), *dx = up(x, pixels),
              *dev = up(patches, n);
        PARITY_TRY(ohm_im2col_cuda(dev, dx, c, first, rows, s));
        ohm_im2col_cpu(patches, x, c, first, rows);
        PARITY_CHECK(same_floats(dev, copy_of(patches, n), n));
        PARITY_TRY(ohm_col2im_cuda(dx, dev, c, first, rows, s));
        ohm_col2im_cpu(x, patches, c, first, rows);
        PARITY_CHECK(same_floats(dx, x, pixels));
        uint8_t *codes = parity_host(pixels), *cut = parity_host(n), *dev_cut = parity_alloc(n);
        for (size_t j = 0; j < pixels; j++)
            codes[j] = (uint8_t)(j * 7 + 1);
        PARITY_TRY(
            ohm_im2col_codes_cuda(dev_cut, parity_upload(codes, pixels), 128, c, first, rows, s));
        ohm_im2col_codes_cpu(cut, codes, 128, c, first, rows);
        PARITY_CHECK(same(dev_cut, cut, n, 1));
    }
    return parity_pass();
}

/* ---- batchnorm.h --------------------------------------------------------------------------- */

static ohm_verdict norm_case(size_t rows, size_t channels)
{
    ohm_cuda_stream s = parity_stream();
    size_t n = rows * channels, doubles = ohm_batch_norm_doubles(rows, channels) + 1;
    float *x = numbers(n, 1), *y = numbers(n, 2), *gamma = numbers(channels, 3),
          *beta = numbers(channels, 4), *saved = numbers(2 * channels, 5),
          *mean = numbers(channels, 6), *variance = numbers(channels, 7),
          *dgamma = numbers(channels, 8), *dbeta = numbers(channels, 9);
    double *workspace = parity_host(doubles * sizeof *workspace),
           *dev_workspace = parity_alloc(doubles * sizeof *workspace);
    for (size_t c = 0; c < channels; c++)
        variance[c] = fabsf(variance[c]) + 0.1f;
    float *dx = up(x, n), *dy = up(y, n), *dev_gamma = up(gamma, channels),
          *dev_beta = up(beta, channels), *dev_saved = up(saved, 2 * channels),
          *dev_mean = up(mean, channels), *dev_variance = up(variance, channels),
          *dev_dgamma = up(dgamma, channels), *dev_dbeta = up(dbeta, channels);
    PARITY_TRY(ohm_batch_norm_infer_cuda(dy, dx, dev_gamma, dev_beta, dev_mean, dev_variance, rows,
                                         channels, 1e-5, dev_workspace, s));
    ohm_batch_norm_infer_cpu(y, x, gamma, beta, mean, variance, rows, channels, 1e-5, workspace);
    PARITY_CHECK(same_floats(dy, copy_of(y, n), n));
    PARITY_TRY(ohm_batch_norm_train_cuda(dy, dev_saved, dev_mean, dev_variance, dx, dev_gamma,
                                         dev_beta, rows, channels, 0.1, 1e-5, dev_workspace, s));
    ohm_batch_norm_train_cpu(y, saved, mean, variance, x, gamma, beta, rows, channels, 0.1, 1e-5,
                             workspace);
    PARITY_CHECK(same_floats(dy, copy_of(y, n), n));
    PARITY_CHECK(same_floats(dev_saved, copy_of(saved, 2 * channels), 2 * channels));
    PARITY_CHECK(same_floats(dev_mean, mean, channels));
    PARITY_CHECK(same_floats(dev_variance, variance, channels));
    for (int accumulate = 1; accumulate >= 0; accumulate--) {
        float *gradient = numbers(n, 10), *dev_gradient = up(gradient, n);
        float *to = accumulate ? gradient : y, *dev_to = accumulate ? dev_gradient : dy;
        PARITY_TRY(ohm_batch_norm_backward_cuda(dev_to, dev_dgamma, dev_dbeta, dy, dx, dev_saved,
                                                dev_gamma, rows, channels, accumulate,
                                                dev_workspace, s));
        ohm_batch_norm_backward_cpu(to, dgamma, dbeta, y, x, saved, gamma, rows, channels,
                                    accumulate, workspace);
        PARITY_CHECK(same_floats(dev_to, copy_of(to, n), n));
    }
    PARITY_CHECK(same_floats(dev_dgamma, dgamma, channels));
    PARITY_CHECK(same_floats(dev_dbeta, dbeta, channels));
    return parity_pass();
}

OHM_PARITY_ALONE(batchnorm_cuda, forward_and_backward)
{
    for (int i = 0; i < MATRICES; i++)
        PARITY_CHECK(norm_case(matrices[i].rows, matrices[i].cols));
    return parity_pass();
}

OHM_PARITY(batchnorm_cuda, many_blocks)
{
    return norm_case(40000, 1);
}

/* ---- pool.h -------------------------------------------------------------------------------- */

OHM_PARITY_ALONE(pool_cuda, forward_and_backward)
{
    /* height, width, channels, kernel, stride, out_height, out_width */
    static const ohm_pool_shape pools[] = {{8, 8, 3, 2, 2, 4, 4},
                                           {7, 9, 5, 3, 2, 3, 4},
                                           {5, 5, 1, 3, 1, 3, 3},
                                           {4, 4, 33, 4, 4, 1, 1},
                                           {7, 7, 2, 2, 3, 2, 2}};
    ohm_cuda_stream s = parity_stream();
    for (size_t i = 0; i < sizeof pools / sizeof *pools; i++)
        for (int images = 0; images < 4; images++) {
            const ohm_pool_shape *p = &pools[i];
            size_t in = (size_t)(images * p->height * p->width * p->channels),
                   out = (size_t)(images * p->out_height * p->out_width * p->channels);
            float *x = numbers(in, 1), *y = numbers(out, 2);
            if (in > 5)
                x[5] = NAN;
            float *dev_x = up(x, in), *dev_y = up(y, out);
            uint8_t *which = memset(parity_host(out), 0, out),
                    *dev_which = parity_upload(which, out);
            PARITY_TRY(ohm_max_pool_cuda(dev_y, dev_which, dev_x, p, images, s));
            ohm_max_pool_cpu(y, which, x, p, images);
            PARITY_CHECK(same(dev_y, copy_of(y, out), out, sizeof *y));
            uint8_t *winners = parity_host(out + 1);
            memcpy(winners, which, out);
            PARITY_CHECK(same(dev_which, winners, out, 1));
            PARITY_TRY(ohm_max_pool_cuda(dev_y, NULL, dev_x, p, images, s));
            PARITY_CHECK(same(dev_y, copy_of(y, out), out, sizeof *y));
            for (int accumulate = 1; accumulate >= 0; accumulate--) {
                float *dx = numbers(in, 3), *dev_dx = up(dx, in), *dy = numbers(out, 4),
                      *dev_dy = up(dy, out);
                PARITY_TRY(ohm_max_pool_backward_cuda(dev_dx, dev_dy, dev_which, p, images,
                                                      accumulate, s));
                ohm_max_pool_backward_cpu(dx, dy, which, p, images, accumulate);
                PARITY_CHECK(same_floats(dev_dx, copy_of(dx, in), in));
                PARITY_TRY(ohm_avg_pool_backward_cuda(dev_dx, dev_dy, p, images, accumulate, s));
                ohm_avg_pool_backward_cpu(dx, dy, p, images, accumulate);
                PARITY_CHECK(same_floats(dev_dx, dx, in));
            }
            PARITY_TRY(ohm_avg_pool_cuda(dev_y, dev_x, p, images, s));
            ohm_avg_pool_cpu(y, x, p, images);
            PARITY_CHECK(same_floats(dev_y, y, out));
        }
    return parity_pass();
}

/* ---- softmax.h ----------------------------------------------------------------------------- */

static ohm_verdict loss_case(int images, int classes, double smoothing)
{
    size_t n = (size_t)images * (size_t)classes;
    float *logits = numbers(n, 1), *dlogits = numbers(n, 2), *got = numbers(n, 3);
    int32_t *labels = parity_host(((size_t)images + 1) * sizeof *labels);
    double *row_loss = parity_host(((size_t)images + 1) * sizeof *row_loss);
    ohm_step_totals start = {.loss_sum = 2.5, .correct = 4}, totals;
    int correct;
    for (size_t i = 0; i < n; i++)
        logits[i] *= 9.0f;
    for (int i = 0; i < images; i++)
        labels[i] = (i * 7) % classes;
    ohm_step_totals *dev_totals = parity_upload(&start, sizeof start);
    float *dev = up(logits, n);
    PARITY_TRY(ohm_softmax_loss_cuda(
        dev_totals, dev, dev, parity_upload(labels, (size_t)images * sizeof *labels), images,
        classes, smoothing, 0.125, parity_alloc((size_t)images * sizeof(double)), parity_stream()));
    double loss = ohm_softmax_loss_cpu(dlogits, &correct, logits, labels, images, classes,
                                       smoothing, 0.125, row_loss);
    PARITY_TRY(parity_fetch(&totals, dev_totals, sizeof totals));
    PARITY_TRY(parity_fetch(got, dev, n * sizeof *got));
    const double both[] = {totals.loss_sum, (double)totals.correct},
                 expected[] = {2.5 + loss, 4.0 + correct};
    PARITY_CHECK(ohm_compare_close(both, expected, 2, 0.0, 1e-12));
    if (n && classes > 1) /* one class has no gradient */
        PARITY_CHECK(ohm_compare_close(got, dlogits, n, 1e-8, 1e-6));
    return parity_pass();
}

OHM_PARITY(softmax_cuda, loss_and_gradient)
{
    PARITY_CHECK(loss_case(0, 3, 0.0));
    PARITY_CHECK(loss_case(1, 1, 0.0));
    PARITY_CHECK(loss_case(33, 10, 0.1));
    PARITY_CHECK(loss_case(600, 3, 0.0));
    return loss_case(257, 31, 0.0);
}

/* ---- optimiser.h --------------------------------------------------------------------------- */

static ohm_verdict optimiser_case(size_t n, const ohm_optimiser_rule *rule, int adam, int moments,
                                  int apply)
{
    ohm_cuda_stream s = parity_stream();
    float *w = numbers(n, 1), *g = numbers(n, 2), *m = numbers(n, 3), *v = numbers(n, 4);
    for (size_t i = 0; i < n; i++)
        v[i] = fabsf(v[i]);
    const ohm_step_numbers numbers_of = {rule->lr, rule->correction1, rule->correction2, 0};
    const ohm_step_totals totals = {.gradient_scale = rule->gradient_scale, .apply = apply};
    ohm_optimiser_rule fixed = *rule;
    fixed.lr = fixed.gradient_scale = fixed.correction1 = fixed.correction2 =
        NAN; /* those of the blocks count */
    float *dw = up(w, n), *dg = up(g, n), *dm = up(m, n), *dv = up(v, n);
    ohm_step_numbers *dev_numbers = parity_upload(&numbers_of, sizeof numbers_of);
    ohm_step_totals *dev_totals = parity_upload(&totals, sizeof totals);
    if (adam)
        PARITY_TRY(ohm_adam_cuda(dw, dg, dm, dv, n, &fixed, dev_numbers, dev_totals, s));
    else
        PARITY_TRY(
            ohm_sgd_cuda(dw, dg, moments ? dm : NULL, n, &fixed, dev_numbers, dev_totals, s));
    if (adam && apply)
        ohm_adam_cpu(w, g, m, v, n, rule);
    else if (apply)
        ohm_sgd_cpu(w, g, moments ? m : NULL, n, rule);
    PARITY_CHECK(same_floats(dw, w, n));
    PARITY_CHECK(same_floats(dm, m, n));
    return same_floats(dv, v, n);
}

OHM_PARITY_ALONE(optimiser_cuda, steps)
{
    const ohm_optimiser_rule rule = {.lr = 0.05f,
                                     .gradient_scale = 0.7f,
                                     .l2 = 1e-3f,
                                     .momentum = 0.9f,
                                     .beta1 = 0.9f,
                                     .beta2 = 0.99f,
                                     .epsilon = 1e-8f,
                                     .correction1 = 0.19f,
                                     .correction2 = 0.02f};
    ohm_optimiser_rule other = rule;
    other.nesterov = 1;
    other.decoupled = 0.01f;
    for (int i = 0; i < ODD; i++) {
        PARITY_CHECK(optimiser_case(odd[i], &rule, 0, 0, 1));
        PARITY_CHECK(optimiser_case(odd[i], &rule, 0, 1, 1));
        PARITY_CHECK(optimiser_case(odd[i], &other, 0, 1, 1));
        PARITY_CHECK(optimiser_case(odd[i], &rule, 1, 1, 1));
        PARITY_CHECK(optimiser_case(odd[i], &other, 1, 1, 1));
        PARITY_CHECK(optimiser_case(odd[i], &other, i % 2, 1, 0));
    }
    return parity_pass();
}

static ohm_verdict norm_of(size_t n, double clip, double loss, uint32_t fault)
{
    const uint32_t faults[3] = {0, 0, fault};
    ohm_cuda_stream s = parity_stream();
    float *x = numbers(n, 1);
    size_t blocks = ohm_sum_squares_blocks(n) + 1;
    double *partial = parity_host(blocks * sizeof *partial);
    ohm_step_totals expected = {.loss_sum = loss, .squares = 0.25}, got;
    ohm_step_totals *dev = parity_upload(&expected, sizeof expected);
    PARITY_TRY(ohm_sum_squares_cuda(dev, up(x, n), n, parity_alloc(blocks * sizeof *partial), s));
    PARITY_TRY(parity_fetch(&got, dev, sizeof got));
    double squares = got.squares;
    PARITY_TRY(ohm_step_decide_cuda(dev, parity_upload(faults, sizeof faults), 3, clip, s));
    expected.squares += ohm_sum_squares_cpu(x, n, partial);
    double expected_squares = expected.squares;
    ohm_step_decide(&expected, faults, 3, clip);
    PARITY_TRY(parity_fetch(&got, dev, sizeof got));
    ck_assert_int_eq(expected.apply, isfinite(loss) && !fault);
    const double both[] = {squares, (double)got.gradient_scale, got.apply};
    const double want[] = {expected_squares, (double)expected.gradient_scale, expected.apply};
    return ohm_compare_bits(both, want, 3);
}

OHM_PARITY(optimiser_cuda, global_norm)
{
    PARITY_CHECK(norm_of(0, 0.0, 1.0, 0));
    PARITY_CHECK(norm_of(1, 0.1, 1.0, 4));
    PARITY_CHECK(norm_of(16385, 3.0, INFINITY, 0));
    PARITY_CHECK(norm_of(33, 100.0, NAN, 0));
    return norm_of(150 << 14, 1.0, -1.0, 0);
}
