#include "kernels/optimiser.h"

#include "kernels/vector.h"

enum { BLOCK = 1 << 14 };

static size_t part(size_t n, size_t at)
{
    return n - at < BLOCK ? n - at : BLOCK;
}

void ohm_sgd_cpu(float *w, const float *g, float *m, size_t n, const ohm_optimiser_rule *rule)
{
    const ohm_vector_kernels *vector = ohm_vector();
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t at = 0; at < n; at += BLOCK)
        vector->sgd(w + at, g + at, m ? m + at : NULL, part(n, at), rule);
}

void ohm_adam_cpu(float *w, const float *g, float *m, float *v, size_t n,
                  const ohm_optimiser_rule *rule)
{
    const ohm_vector_kernels *vector = ohm_vector();
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t at = 0; at < n; at += BLOCK)
        vector->adam(w + at, g + at, m + at, v + at, part(n, at), rule);
}

size_t ohm_sum_squares_blocks(size_t n)
{
    return (n + BLOCK - 1) / BLOCK;
}

double ohm_sum_squares_cpu(const float *x, size_t n, double *partial)
{
    const ohm_vector_kernels *vector = ohm_vector();
    double sum = 0.0;
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t at = 0; at < n; at += BLOCK)
        partial[at / BLOCK] = vector->sum_squares(x + at, part(n, at));
    for (size_t block = 0; block < ohm_sum_squares_blocks(n); block++)
        sum += partial[block];
    return sum;
}
