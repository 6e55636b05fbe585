#include "kernels/softmax.h"

#include "kernels/layers_cuda.h"
#include "kernels/loops_cuda.hpp"

/* A thread takes an image and adds over its classes in order. */
static __global__ void rows(ohm_step_totals *totals, double *row_loss, float *dlogits,
                            const float *logits, const int32_t *labels, int images, int classes,
                            double smoothing, double scale)
{
    const double share = smoothing / classes;
    OHM_EACH(image, static_cast<size_t>(images))
    {
        const float *logit = logits + image * classes;
        const int label = labels[image];
        int best = 0;
        for (int c = 1; c < classes; c++)
            best = logit[c] > logit[best] ? c : best;
        const double top = static_cast<double>(logit[best]);
        double sum = 0.0, expected = 0.0;
        for (int c = 0; c < classes; c++) {
            const double z = static_cast<double>(logit[c]) - top;
            sum += exp(z);
            expected += (share + (c == label ? 1.0 - smoothing : 0.0)) * z;
        }
        row_loss[image] = log(sum) - expected;
        if (best == label)
            atomicAdd(&totals->correct, 1ull); /* whole numbers: the order does not matter */
        for (int c = 0; dlogits && c < classes; c++) {
            const double target = share + (c == label ? 1.0 - smoothing : 0.0);
            dlogits[image * classes + c] = static_cast<float>(
                scale * (exp(static_cast<double>(logit[c]) - top) / sum - target));
        }
    }
}

/* totals->loss_sum += the sum of row_loss, in order. One block: all fetch, one adds. */
static __global__ void add_losses(ohm_step_totals *totals, const double *row_loss, unsigned images)
{
    OHM_SHARED(double, tile, [OHM_LOOP_THREADS]);
    double sum = 0.0;
    for (unsigned first = 0; first < images; first += OHM_LOOP_THREADS) {
        if (first + threadIdx.x < images)
            tile[threadIdx.x] = row_loss[first + threadIdx.x];
        __syncthreads();
        if (threadIdx.x == 0)
            for (unsigned i = 0; i < OHM_LOOP_THREADS && first + i < images; i++)
                sum += tile[i];
        __syncthreads();
    }
    if (threadIdx.x == 0)
        totals->loss_sum += sum;
}

extern "C" ohm_cuda_status ohm_softmax_loss_cuda(ohm_step_totals *totals, float *dlogits,
                                                 const float *logits, const int32_t *labels,
                                                 int images, int classes, double smoothing,
                                                 double scale, double *row_loss, ohm_cuda_stream s)
{
    OHM_CUDA_TRY(OHM_LOOP(rows, static_cast<size_t>(images), s, totals, row_loss, dlogits, logits,
                          labels, images, classes, smoothing, scale));
    return OHM_LAUNCH(add_losses, 1, OHM_LOOP_THREADS, 0, s, totals, row_loss,
                      static_cast<unsigned>(images));
}
