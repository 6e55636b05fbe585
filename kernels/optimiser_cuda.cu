#include "kernels/optimiser.h"

#include "kernels/layers_cuda.h"
#include "kernels/loops_cuda.hpp"

static const unsigned BLOCK = 1 << 14, LANES = 16; /* of the CPU's sum of squares */

/* ---- global norm --------------------------------------------------------------------------- */

/* 16 threads share a block of 2^14 elements as 16 partial sums, which the first adds in order. */
static __global__ void square_blocks(double *partial, const float *x, size_t n)
{
    OHM_SHARED(double, lane_sum, [OHM_LOOP_THREADS]);
    const size_t lane = threadIdx.x % LANES, blocks = (n + BLOCK - 1) / BLOCK;
    const size_t block =
        static_cast<size_t>(blockIdx.x) * (OHM_LOOP_THREADS / LANES) + threadIdx.x / LANES;
    double sum = 0.0;
    if (block < blocks) {
        const size_t first = block * BLOCK, end = n - first < BLOCK ? n : first + BLOCK;
        for (size_t i = first + lane; i < end; i += LANES)
            sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    }
    lane_sum[threadIdx.x] = sum;
    __syncthreads();
    if (lane != 0 || block >= blocks)
        return;
    double total = 0.0;
    for (unsigned i = 0; i < LANES; i++)
        total += lane_sum[threadIdx.x + i];
    partial[block] = total;
}

static __global__ void add_squares(ohm_step_totals *totals, const double *partial)
{
    if (threadIdx.x == 0)
        totals->squares += partial[0];
}

extern "C" ohm_cuda_status ohm_sum_squares_cuda(ohm_step_totals *totals, const float *x, size_t n,
                                                double *partial, ohm_cuda_stream s)
{
    const size_t blocks = (n + BLOCK - 1) / BLOCK, each = OHM_LOOP_THREADS / LANES;
    if (n == 0)
        return OHM_CUDA_OK;
    OHM_CUDA_TRY(OHM_LAUNCH(square_blocks, static_cast<unsigned>((blocks + each - 1) / each),
                            OHM_LOOP_THREADS, 0, s, partial, x, n));
    OHM_CUDA_TRY(ohm_combine(partial, blocks, 1, s));
    return OHM_LAUNCH(add_squares, 1, 32, 0, s, totals, partial);
}

static __global__ void decide(ohm_step_totals *totals, const uint32_t *fault, int layers,
                              double clip_norm)
{
    if (threadIdx.x == 0)
        ohm_step_decide(totals, fault, layers, clip_norm);
}

extern "C" ohm_cuda_status ohm_step_decide_cuda(ohm_step_totals *totals, const uint32_t *fault,
                                                int layers, double clip_norm, ohm_cuda_stream s)
{
    return OHM_LAUNCH(decide, 1, 32, 0, s, totals, fault, layers, clip_norm);
}

/* ---- steps --------------------------------------------------------------------------------- */

static __global__ void sgd(float *w, const float *g, float *m, size_t n, ohm_optimiser_rule rule,
                           const ohm_step_numbers *numbers, const ohm_step_totals *totals)
{
    const float lr = numbers->lr, scale = totals->gradient_scale;
    if (!totals->apply)
        return;
    OHM_EACH(i, n)
    {
        const float gradient = g[i] * scale + rule.l2 * w[i];
        if (!m) {
            w[i] -= lr * gradient;
            continue;
        }
        const float moment = rule.momentum * m[i] + gradient;
        m[i] = moment;
        w[i] -= lr * (rule.nesterov ? gradient + rule.momentum * moment : moment);
    }
}

static __global__ void adam(float *w, const float *g, float *m, float *v, size_t n,
                            ohm_optimiser_rule rule, const ohm_step_numbers *numbers,
                            const ohm_step_totals *totals)
{
    const float scale = totals->gradient_scale, beta1 = rule.beta1, beta2 = rule.beta2;
    const float keep = 1.0f - numbers->lr * rule.decoupled;
    const float rate = numbers->lr / numbers->correction1, root = sqrtf(numbers->correction2);
    if (!totals->apply)
        return;
    OHM_EACH(i, n)
    {
        const float gradient = g[i] * scale + rule.l2 * w[i];
        m[i] = beta1 * m[i] + (1.0f - beta1) * gradient;
        v[i] = beta2 * v[i] + (1.0f - beta2) * gradient * gradient;
        w[i] = w[i] * keep - rate * m[i] / (sqrtf(v[i]) / root + rule.epsilon);
    }
}

extern "C" ohm_cuda_status ohm_sgd_cuda(float *w, const float *g, float *m, size_t n,
                                        const ohm_optimiser_rule *rule,
                                        const ohm_step_numbers *numbers,
                                        const ohm_step_totals *totals, ohm_cuda_stream s)
{
    return OHM_LOOP(sgd, n, s, w, g, m, n, *rule, numbers, totals);
}

extern "C" ohm_cuda_status ohm_adam_cuda(float *w, const float *g, float *m, float *v, size_t n,
                                         const ohm_optimiser_rule *rule,
                                         const ohm_step_numbers *numbers,
                                         const ohm_step_totals *totals, ohm_cuda_stream s)
{
    return OHM_LOOP(adam, n, s, w, g, m, v, n, *rule, numbers, totals);
}
