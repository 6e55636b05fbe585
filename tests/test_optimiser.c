/* The optimisers against their formulas, step by step in double. */
#include "kernels/optimiser.h"

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/vector.h"
#include "tests/compare.h"
#include "tests/runner.h"

enum { STEPS = 5 };

static float *random_floats(size_t n, uint32_t seed)
{
    float *x = ohm_guard_f32(n);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)(seed >> 8 & 0xFFFF) / 32768.0f - 1.0f;
    }
    return x;
}

typedef struct {
    int adam;
    ohm_optimiser_rule rule; /* corrections are set per step */
} optimiser_case;

static ohm_optimiser_rule rule_at(const optimiser_case *c, int step)
{
    ohm_optimiser_rule rule = c->rule;
    rule.correction1 = (float)(1.0 - pow(rule.beta1, step + 1));
    rule.correction2 = (float)(1.0 - pow(rule.beta2, step + 1));
    return rule;
}

/* One number through one step. */
static void reference_step(double *w, double *m, double *v, double g, const optimiser_case *c,
                           int step)
{
    const ohm_optimiser_rule *r = &c->rule;
    g = g * r->gradient_scale + r->l2 * *w;
    if (!c->adam) {
        *m = r->momentum * *m + g;
        *w -= r->lr * (r->nesterov ? g + r->momentum * *m : *m);
        return;
    }
    *m = r->beta1 * *m + (1.0 - r->beta1) * g;
    *v = r->beta2 * *v + (1.0 - r->beta2) * g * g;
    double mean = *m / (1.0 - pow(r->beta1, step + 1)),
           square = *v / (1.0 - pow(r->beta2, step + 1));
    *w -= r->lr * r->decoupled * *w;
    *w -= r->lr * mean / (sqrt(square) + r->epsilon);
}

static void check_optimiser(const optimiser_case *c, size_t n, int threads)
{
    float *w = random_floats(n, 1), *m = ohm_guard_f32(n), *v = ohm_guard_f32(n);
    double *ref = calloc(3 * n + 1, sizeof *ref);
    ck_assert_ptr_nonnull(ref);
    omp_set_num_threads(threads);
    for (size_t i = 0; i < n; i++) {
        ref[i] = w[i];
        m[i] = v[i] = 0.0f;
    }
    for (int step = 0; step < STEPS; step++) {
        float *g = random_floats(n, 10 + (uint32_t)step);
        ohm_optimiser_rule rule = rule_at(c, step);
        if (c->adam)
            ohm_adam_cpu(w, g, m, v, n, &rule);
        else
            ohm_sgd_cpu(w, g, rule.momentum == 0.0f ? NULL : m, n, &rule);
        for (size_t i = 0; i < n; i++)
            reference_step(ref + i, ref + n + i, ref + 2 * n + i, g[i], c, step);
        ohm_guard_free(g);
    }
    if (n)
        OHM_ASSERT(ohm_compare_close(w, ref, n, 2e-6, 1e-5));
    OHM_ASSERT(ohm_compare_guards(w));
    OHM_ASSERT(ohm_compare_guards(m));
    OHM_ASSERT(ohm_compare_guards(v));
    ohm_guard_free(w);
    ohm_guard_free(m);
    ohm_guard_free(v);
    free(ref);
}

OHM_TEST(optimiser, follows_the_formulas)
{
    static const size_t size[] = {0, 1, 31, 33, 257, 40001};
    const ohm_optimiser_rule base = {.lr = 0.05f,
                                     .gradient_scale = 0.5f,
                                     .l2 = 0.01f,
                                     .momentum = 0.9f,
                                     .beta1 = 0.9f,
                                     .beta2 = 0.99f,
                                     .epsilon = 1e-3f};
    optimiser_case cases[5] = {{0, base}, {0, base}, {0, base}, {1, base}, {1, base}};
    cases[1].rule.nesterov = 1;
    cases[2].rule.momentum = 0.0f;
    cases[4].rule.l2 = 0.0f;
    cases[4].rule.decoupled = 0.1f;
    for (size_t i = 0; i < 6; i++)
        for (size_t j = 0; j < 5; j++)
            for (int threads = 1; threads <= 2; threads++)
                check_optimiser(&cases[j], size[i], threads);
}

OHM_TEST(optimiser, sum_of_squares_has_the_same_bits_on_any_thread)
{
    static const size_t size[] = {0, 1, 33, 16385, 100003};
    for (size_t i = 0; i < 5; i++) {
        float *x = random_floats(size[i], 1);
        double *partial = ohm_guard_alloc(ohm_sum_squares_blocks(size[i]), sizeof *partial), sum[2],
               ref = 0.0;
        for (size_t j = 0; j < size[i]; j++)
            ref += (double)x[j] * x[j];
        for (int threads = 1; threads <= 2; threads++) {
            omp_set_num_threads(threads);
            sum[threads - 1] = ohm_sum_squares_cpu(x, size[i], partial);
        }
        ck_assert_double_eq_tol(sum[0], ref, 1e-9 * ref + 1e-300);
        ck_assert_double_eq(sum[0], sum[1]);
        OHM_ASSERT(ohm_compare_guards(partial));
        ohm_guard_free(x);
        ohm_guard_free(partial);
    }
}

OHM_TEST(optimiser, instruction_sets_agree_to_the_bit)
{
    enum { N = 1003 };
    const ohm_optimiser_rule rule = {.lr = 0.05f,
                                     .gradient_scale = 0.5f,
                                     .l2 = 0.01f,
                                     .momentum = 0.9f,
                                     .nesterov = 1,
                                     .beta1 = 0.9f,
                                     .beta2 = 0.99f,
                                     .epsilon = 1e-3f,
                                     .correction1 = 0.1f,
                                     .correction2 = 0.01f};
    float *g = random_floats(N, 2), *out[2][4];
    for (int isa = OHM_ISA_BASE; isa <= (int)ohm_cpu_isa(); isa++) {
        int which = isa == OHM_ISA_BASE ? 0 : 1;
        for (uint32_t i = 0; i < 4; i++) {
            out[which][i] = random_floats(N, 3 + i);
            for (int j = 0; j < N; j++) /* second moments are not negative */
                out[which][i][j] = i == 3 ? fabsf(out[which][i][j]) : out[which][i][j];
        }
        const ohm_vector_kernels *vector = ohm_vector_kernels_of((ohm_isa)isa);
        vector->sgd(out[which][0], g, out[which][2], N, &rule);
        vector->adam(out[which][1], g, out[which][2], out[which][3], N, &rule);
        for (int i = 0; i < 4 && which; i++) {
            OHM_ASSERT(ohm_compare_bits(out[1][i], out[0][i], N));
            ohm_guard_free(out[1][i]);
        }
    }
    for (int i = 0; i < 4; i++)
        ohm_guard_free(out[0][i]);
    ohm_guard_free(g);
}
