#include "kernels/gemm.h"

#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/conv.h"
#include "tests/compare.h"
#include "tests/runner.h"

/* ---- helpers ------------------------------------------------------------------------------- */

static void fill_random(float *x, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)(seed >> 8 & 0xFFFF) / 32768.0f - 1.0f;
    }
}

static float *random_floats(size_t n, uint32_t seed)
{
    float *x = ohm_guard_f32(n);
    fill_random(x, n, seed);
    return x;
}

static double *doubles(size_t n)
{
    double *x = calloc(n + 1, sizeof *x);
    ck_assert_ptr_nonnull(x);
    return x;
}

/* ref (if not zero by construction) is compared; sums of nothing must be exactly what was there. */
static void check_close(const float *got, const double *ref, size_t n, double atol)
{
    if (n > 0)
        OHM_ASSERT(ohm_compare_close(got, ref, n, atol, 1e-5));
    OHM_ASSERT(ohm_compare_guards(got));
}

/* ---- matrix products ----------------------------------------------------------------------- */

typedef enum { FORWARD, INPUT, WEIGHT } product;

typedef struct {
    product which;
    int m, n, k;
    float beta;
} gemm_case;

/* Row strides are a little larger than the rows. */
static void run_gemm(const gemm_case *c, float *out, int ldo, const float *x, int ldx,
                     const float *w, int ldw, const float *dy, int lddy)
{
    float *workspace = ohm_guard_f32(ohm_gemm_weight_floats(c->m, c->n, c->k));
    if (c->which == FORWARD)
        ohm_gemm_forward_cpu(out, ldo, x, ldx, w, ldw, c->m, c->n, c->k, c->beta);
    else if (c->which == INPUT)
        ohm_gemm_input_cpu(out, ldo, dy, lddy, w, ldw, c->m, c->n, c->k, c->beta);
    else
        ohm_gemm_weight_cpu(out, ldo, dy, lddy, x, ldx, c->m, c->n, c->k, workspace);
    OHM_ASSERT(ohm_compare_guards(workspace));
    ohm_guard_free(workspace);
}

static void reference_gemm(const gemm_case *c, double *out, int rows, int cols, int ldo,
                           const float *x, int ldx, const float *w, int ldw, const float *dy,
                           int lddy)
{
    int depth = c->which == FORWARD ? c->k : c->which == INPUT ? c->n : c->m;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) {
            double sum = c->which == WEIGHT || c->beta != 0.0f ? out[i * ldo + j] : 0.0;
            for (int d = 0; d < depth; d++)
                sum += c->which == FORWARD ? (double)x[i * ldx + d] * w[j * ldw + d]
                       : c->which == INPUT ? (double)dy[i * lddy + d] * w[d * ldw + j]
                                           : (double)dy[d * lddy + i] * x[d * ldx + j];
            out[i * ldo + j] = sum;
        }
}

static void check_gemm(const gemm_case *c)
{
    int ldx = c->k + 3, ldw = c->k + 1, lddy = c->n + 2;
    int rows = c->which == WEIGHT ? c->n : c->m, cols = c->which == FORWARD ? c->n : c->k,
        ldo = cols + 5;
    float *x = random_floats((size_t)(c->m * ldx), 1), *w = random_floats((size_t)(c->n * ldw), 2);
    float *dy = random_floats((size_t)(c->m * lddy), 3), *out[2];
    size_t count = (size_t)(rows * ldo);
    double *ref = doubles(count);
    for (int threads = 1; threads <= 2; threads++) {
        omp_set_num_threads(threads);
        out[threads - 1] = random_floats(count, 4);
        for (size_t i = 0; threads == 1 && i < count; i++)
            ref[i] = out[0][i];
        run_gemm(c, out[threads - 1], ldo, x, ldx, w, ldw, dy, lddy);
    }
    reference_gemm(c, ref, rows, cols, ldo, x, ldx, w, ldw, dy, lddy);
    check_close(out[0], ref, count, 1e-5 * (c->m + c->n + c->k));
    OHM_ASSERT(ohm_compare_bits(out[1], out[0], count));
    ohm_guard_free(out[0]);
    ohm_guard_free(out[1]);
    ohm_guard_free(x);
    ohm_guard_free(w);
    ohm_guard_free(dy);
    free(ref);
}

OHM_TEST(gemm, matches_double_at_odd_sizes)
{
    static const int size[] = {0, 1, 31, 33, 257};
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++)
            for (int l = 0; l < 5; l++)
                for (int which = FORWARD; which <= WEIGHT; which++) {
                    if (size[i] * size[j] * size[l] > 257 * 257 * 33)
                        continue;
                    gemm_case c = {(product)which, size[i], size[j], size[l],
                                   (float)((i + j + l) % 2)};
                    check_gemm(&c);
                }
}

OHM_TEST(gemm, deep_reduction_is_cut_into_segments)
{
    ck_assert_uint_gt(ohm_gemm_weight_floats(8200, 17, 145), 0);
    ck_assert_uint_eq(ohm_gemm_weight_floats(500, 17, 145), 0);
    gemm_case deep = {WEIGHT, 8200, 17, 145, 1.0f}, wide = {WEIGHT, 1100, 130, 700, 1.0f};
    check_gemm(&deep);
    check_gemm(&wide);
}

OHM_TEST(gemm, core_has_a_name)
{
    ck_assert_uint_gt(strlen(ohm_gemm_core()), 0);
}

/* ---- convolution --------------------------------------------------------------------------- */

/* sum over output positions and taps of f(image, output pixel, output channel, input index, weight index) */
typedef struct {
    const float *x, *w, *dy;
    double *y, *dx, *dw;
} conv_arrays;

static void visit_tap(const ohm_conv_shape *s, const conv_arrays *a, size_t out_at, int iy, int ix,
                      int image, int tap)
{
    for (int n = 0; n < s->out; n++)
        for (int c = 0; c < s->channels; c++) {
            size_t in = (size_t)(((image * s->height + iy) * s->width + ix) * s->channels + c);
            size_t weight = (size_t)((n * s->kernel * s->kernel + tap) * s->channels + c);
            size_t out = out_at * (size_t)s->out + (size_t)n;
            a->y[out] += (double)a->x[in] * a->w[weight];
            a->dx[in] += (double)a->dy[out] * a->w[weight];
            a->dw[weight] += (double)a->dy[out] * a->x[in];
        }
}

static void reference_conv(const ohm_conv_shape *s, const conv_arrays *a, int images)
{
    for (int image = 0; image < images; image++)
        for (int oy = 0; oy < s->out_height; oy++)
            for (int ox = 0; ox < s->out_width; ox++)
                for (int tap = 0; tap < s->kernel * s->kernel; tap++) {
                    int iy = oy * s->stride - s->pad + tap / s->kernel,
                        ix = ox * s->stride - s->pad + tap % s->kernel;
                    if (iy >= 0 && iy < s->height && ix >= 0 && ix < s->width)
                        visit_tap(s, a, (size_t)((image * s->out_height + oy) * s->out_width + ox),
                                  iy, ix, image, tap);
                }
}

static ohm_conv_shape shape_of(int height, int width, int channels, int kernel, int stride, int pad,
                               int out)
{
    return (ohm_conv_shape){height,
                            width,
                            channels,
                            kernel,
                            stride,
                            pad,
                            (height + 2 * pad - kernel) / stride + 1,
                            (width + 2 * pad - kernel) / stride + 1,
                            out};
}

typedef struct {
    float *y, *dx, *dw;
} conv_results;

static conv_results run_conv(const ohm_conv_shape *s, int images, const conv_arrays *a,
                             const float *bias, int threads, int slots, int accumulate)
{
    size_t in = (size_t)(images * s->height * s->width * s->channels),
           out = ohm_conv_rows(s, images) * (size_t)s->out;
    size_t weights = (size_t)(s->out * ohm_conv_k(s));
    conv_results r = {random_floats(out, 7), random_floats(in, 8), random_floats(weights, 9)};
    size_t floats[3] = {ohm_conv_forward_floats(s, images, slots),
                        ohm_conv_input_floats(s, images, slots),
                        ohm_conv_weight_floats(s, images, slots)};
    float *workspace[3];
    omp_set_num_threads(threads);
    for (int i = 0; i < 3; i++)
        workspace[i] = ohm_guard_f32(floats[i]);
    ohm_conv_forward_cpu(r.y, a->x, a->w, bias, s, images, workspace[0], floats[0]);
    ohm_conv_input_cpu(r.dx, a->dy, a->w, s, images, accumulate, workspace[1], floats[1]);
    ohm_conv_weight_cpu(r.dw, a->dy, a->x, s, images, workspace[2], floats[2]);
    for (int i = 0; i < 3; i++) {
        OHM_ASSERT(ohm_compare_guards(workspace[i]));
        ohm_guard_free(workspace[i]);
    }
    return r;
}

static void free_results(conv_results *r)
{
    ohm_guard_free(r->y);
    ohm_guard_free(r->dx);
    ohm_guard_free(r->dw);
}

static void check_conv(ohm_conv_shape s, int images, int with_bias, int accumulate)
{
    size_t in = (size_t)(images * s.height * s.width * s.channels),
           out = ohm_conv_rows(&s, images) * (size_t)s.out;
    size_t weights = (size_t)(s.out * ohm_conv_k(&s));
    float *x = random_floats(in, 1), *w = random_floats(weights, 2), *dy = random_floats(out, 3);
    float *bias = random_floats((size_t)s.out, 4), *before = random_floats(in, 8),
          *dw_before = random_floats(weights, 9);
    conv_arrays a = {x, w, dy, doubles(out), doubles(in), doubles(weights)};
    for (size_t i = 0; i < out && with_bias; i++)
        a.y[i] = bias[i % (size_t)s.out];
    for (size_t i = 0; i < in && accumulate; i++)
        a.dx[i] = before[i];
    for (size_t i = 0; i < weights; i++)
        a.dw[i] = dw_before[i];
    reference_conv(&s, &a, images);
    conv_results one = run_conv(&s, images, &a, with_bias ? bias : NULL, 1, 1, accumulate);
    check_close(one.y, a.y, out, 1e-6 * ohm_conv_k(&s));
    check_close(one.dx, a.dx, in, 1e-6 * s.out * s.kernel * s.kernel);
    check_close(one.dw, a.dw, weights, 1e-6 * (double)ohm_conv_rows(&s, images));
    for (int slots = 1; slots <= 2; slots++) { /* two threads, workspace for one and for two */
        conv_results two = run_conv(&s, images, &a, with_bias ? bias : NULL, 2, slots, accumulate);
        OHM_ASSERT(ohm_compare_bits(two.y, one.y, out));
        OHM_ASSERT(ohm_compare_bits(two.dx, one.dx, in));
        OHM_ASSERT(ohm_compare_bits(two.dw, one.dw, weights));
        free_results(&two);
    }
    free_results(&one);
    float *all[] = {x, w, dy, bias, before, dw_before};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ohm_guard_free(all[i]);
    free(a.y);
    free(a.dx);
    free(a.dw);
}

OHM_TEST(conv, matches_double_over_shapes)
{
    check_conv(shape_of(1, 1, 33, 1, 1, 0, 31), 257, 1, 1); /* linear */
    check_conv(shape_of(1, 1, 1, 1, 1, 0, 1), 1, 1, 0);
    check_conv(shape_of(5, 7, 3, 3, 1, 1, 4), 3, 0, 0);
    check_conv(shape_of(5, 7, 3, 3, 1, 1, 4), 3, 1, 1);
    check_conv(shape_of(9, 8, 5, 3, 2, 1, 7), 2, 1, 0);
    check_conv(shape_of(9, 8, 5, 1, 2, 0, 7), 2, 1, 1);
    check_conv(shape_of(14, 14, 6, 5, 1, 0, 16), 2, 1, 0);
    check_conv(shape_of(3, 3, 2, 3, 1, 2, 3), 2, 0, 1); /* padding of a whole kernel less one */
    check_conv(shape_of(4, 4, 3, 1, 1, 2, 2), 2, 1, 0); /* rows that see no pixel at all */
    check_conv(shape_of(2, 2, 3, 3, 3, 2, 2), 2, 1, 1); /* windows that jump over pixels */
}

OHM_TEST(conv, matches_double_where_blocks_and_segments_are_many)
{
    check_conv(shape_of(17, 17, 4, 3, 1, 1, 5), 9, 1,
               0); /* 2,601 rows: blocks of 256 across images */
    check_conv(shape_of(16, 16, 60, 3, 1, 1, 3), 8, 0, 1); /* K = 540: a task per kernel row */
    check_conv(shape_of(33, 33, 2, 3, 2, 1, 3), 8, 1, 0);  /* stride 2, images of 289 rows */
}

OHM_TEST(conv, patches_and_their_sums)
{
    ohm_conv_shape s = shape_of(6, 5, 3, 3, 2, 1, 1);
    int images = 4, rows = (int)ohm_conv_rows(&s, images), k = ohm_conv_k(&s);
    float *x = random_floats((size_t)(images * 6 * 5 * 3), 1);
    float *all = ohm_guard_f32((size_t)(rows * k)), *part = ohm_guard_f32((size_t)(7 * k));
    ohm_im2col_cpu(all, x, &s, 0, rows);
    OHM_ASSERT(ohm_compare_guards(all));
    ohm_im2col_cpu(part, x, &s, 5, 7); /* rows that begin and end inside an image */
    OHM_ASSERT(ohm_compare_bits(part, all + 5 * k, (size_t)(7 * k)));
    OHM_ASSERT(ohm_compare_guards(part));
    /* col2im of im2col counts how many patches see a pixel */
    float *sum[2];
    for (int i = 0; i < 2; i++) {
        sum[i] = ohm_guard_f32((size_t)(images * 90));
        memset(sum[i], 0, (size_t)(images * 90) * sizeof(float));
        if (i == 0)
            ohm_col2im_cpu(sum[i], all, &s, 0, rows);
        for (int row = 0; i == 1 && row < rows; row += 7)
            ohm_col2im_cpu(sum[i], all + row * k, &s, (size_t)row, rows - row < 7 ? rows - row : 7);
    }
    OHM_ASSERT(ohm_compare_bits(sum[1], sum[0], (size_t)(images * 90)));
    OHM_ASSERT(ohm_compare_guards(sum[0]));
    float middle = sum[0][(2 * 5 + 1) * 3] / x[(2 * 5 + 1) * 3]; /* seen by 1 x 2 windows */
    ck_assert_float_eq_tol(middle, 2.0f, 1e-6f);
    ohm_guard_free(x);
    ohm_guard_free(all);
    ohm_guard_free(part);
    ohm_guard_free(sum[0]);
    ohm_guard_free(sum[1]);
}

/* Patches of codes hold what patches of the same numbers hold, and `outside` where those hold 0. */
static void check_code_patches(ohm_conv_shape s, int images)
{
    enum { OUTSIDE = 128 };
    size_t pixels = (size_t)(images * s.height * s.width * s.channels);
    int rows = (int)ohm_conv_rows(&s, images), k = ohm_conv_k(&s);
    float *x = ohm_guard_f32(pixels), *all = ohm_guard_f32((size_t)(rows * k));
    uint8_t *codes = ohm_guard_alloc(pixels, 1), *got = ohm_guard_alloc((size_t)(rows * k), 1);
    for (size_t i = 0; i < pixels; i++) {
        codes[i] = (uint8_t)(1 + i % 127);
        x[i] = codes[i];
    }
    ohm_im2col_cpu(all, x, &s, 0, rows);
    ohm_im2col_codes_cpu(got, codes, OUTSIDE, &s, 0, rows / 2); /* in two, inside an image */
    ohm_im2col_codes_cpu(got + rows / 2 * k, codes, OUTSIDE, &s, (size_t)(rows / 2),
                         rows - rows / 2);
    for (int i = 0; i < rows * k; i++)
        ck_assert_int_eq(got[i], all[i] == 0.0f ? OUTSIDE : (int)all[i]);
    OHM_ASSERT(ohm_compare_guards(got));
    ohm_guard_free(x);
    ohm_guard_free(all);
    ohm_guard_free(codes);
    ohm_guard_free(got);
}

OHM_TEST(conv, patches_of_codes)
{
    check_code_patches(shape_of(6, 5, 3, 3, 2, 1, 1), 3);
    check_code_patches(shape_of(17, 17, 4, 5, 1, 2, 1), 2);
    check_code_patches(shape_of(4, 4, 3, 1, 1, 2, 2), 2); /* rows that see no pixel at all */
}

OHM_TEST(conv, nothing_is_left_of_no_images)
{
    ohm_conv_shape s = shape_of(5, 5, 3, 3, 1, 1, 4);
    float workspace[1], weight[108] = {0}, none[1];
    size_t floats = ohm_conv_weight_floats(&s, 0, 2);
    float *room = ohm_guard_f32(floats);
    ohm_conv_forward_cpu(none, none, weight, NULL, &s, 0, workspace, 0);
    ohm_conv_weight_cpu(weight, none, none, &s, 0, room, floats);
    OHM_ASSERT(ohm_compare_zero(weight, 108));
    ohm_guard_free(room);
}
