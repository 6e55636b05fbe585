#include "kernels/softmax.h"

#include <math.h>

static int largest(const float *logit, int classes)
{
    int best = 0;
    for (int c = 1; c < classes; c++)
        best = logit[c] > logit[best] ? c : best;
    return best;
}

/* -Σ target log softmax = log Σ exp(z - top) - Σ target (z - top) */
static double row(float *dlogit, const float *logit, int label, int classes, double smoothing,
                  double scale)
{
    double top = logit[largest(logit, classes)], sum = 0.0, expected = 0.0;
    double share = smoothing / classes;
    for (int c = 0; c < classes; c++) {
        double z = (double)logit[c] - top;
        sum += exp(z);
        expected += (share + (c == label ? 1.0 - smoothing : 0.0)) * z;
    }
    double loss = log(sum) - expected;
    for (int c = 0; dlogit && c < classes; c++) {
        double target = share + (c == label ? 1.0 - smoothing : 0.0);
        dlogit[c] = (float)(scale * (exp((double)logit[c] - top) / sum - target));
    }
    return loss;
}

double ohm_softmax_loss_cpu(float *dlogits, int *correct, const float *logits,
                            const int32_t *labels, int images, int classes, double smoothing,
                            double scale, double *row_loss)
{
    int right = 0;
#pragma omp parallel for schedule(static) reduction(+ : right) if (images * classes > 4096)
    for (int image = 0; image < images; image++) {
        size_t at = (size_t)image * (size_t)classes;
        right += largest(logits + at, classes) == labels[image];
        row_loss[image] = row(dlogits ? dlogits + at : NULL, logits + at, labels[image], classes,
                              smoothing, scale);
    }
    double sum = 0.0;
    for (int image = 0; image < images; image++)
        sum += row_loss[image];
    *correct = right;
    return sum;
}
