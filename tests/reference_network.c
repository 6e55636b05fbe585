#include "tests/reference_network.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int height, width, channels;
    double *at; /* [count, height, width, channels] */
} image;

static double *doubles(size_t n)
{
    double *x = calloc(n + 1, sizeof *x);
    ck_assert_ptr_nonnull(x);
    return x;
}

/* The parameter `layer.suffix`; NULL where there is none. */
static const double *parameter_of(const ohm_reference_network *r, const ohm_layer_desc *d,
                                  const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", d->name, suffix);
    for (int i = 0; i < r->parameters; i++)
        if (strcmp(r->parameter[i].name, name) == 0)
            return r->value[i];
    return NULL;
}

static image image_of(const ohm_reference_network *r, int height, int width, int channels)
{
    return (image){height, width, channels,
                   doubles((size_t)r->count * (size_t)(height * width * channels))};
}

static double *pixel(const image *x, int n, int y, int column, int channel)
{
    size_t row = (size_t)(n * x->height + y) * (size_t)x->width + (size_t)column;
    return x->at + row * (size_t)x->channels + channel;
}

static double conv_sum(const image *x, const ohm_layer_desc *d, const double *w, int n, int oy,
                       int ox, int out)
{
    double sum = 0.0;
    for (int ky = 0; ky < d->kernel; ky++)
        for (int kx = 0; kx < d->kernel; kx++)
            for (int c = 0; c < x->channels; c++) {
                int y = oy * d->stride + ky - d->pad, column = ox * d->stride + kx - d->pad;
                if (y < 0 || y >= x->height || column < 0 || column >= x->width)
                    continue;
                sum += *pixel(x, n, y, column, c) *
                       w[((out * d->kernel + ky) * d->kernel + kx) * x->channels + c];
            }
    return sum;
}

static image conv(const ohm_reference_network *r, const ohm_layer_desc *layer, const image *x)
{
    ohm_layer_desc d = *layer;
    image from = *x;
    if (d.kind == OHM_LAYER_LINEAR) { /* one pixel with all values as channels */
        from = (image){1, 1, x->height * x->width * x->channels, x->at};
        d.kernel = d.stride = 1;
        d.pad = 0;
    }
    image y = image_of(r, (from.height + 2 * d.pad - d.kernel) / d.stride + 1,
                       (from.width + 2 * d.pad - d.kernel) / d.stride + 1, d.out);
    const double *w = parameter_of(r, layer, "weight"), *bias = parameter_of(r, layer, "bias");
    const double *scale = parameter_of(r, layer, "column_scale");
    for (int n = 0; n < r->count; n++)
        for (int i = 0; i < y.height * y.width * d.out; i++) {
            int out = i % d.out, ox = i / d.out % y.width, oy = i / d.out / y.width;
            *pixel(&y, n, oy, ox, out) =
                conv_sum(&from, &d, w, n, oy, ox, out) * (scale ? scale[out] : 1.0) +
                (bias ? bias[out] : 0.0);
        }
    return y;
}

static image norm(const ohm_reference_network *r, const ohm_layer_desc *d, const image *x)
{
    image y = image_of(r, x->height, x->width, x->channels);
    size_t rows = (size_t)(r->count * x->height * x->width), channels = (size_t)x->channels;
    const double *gamma = parameter_of(r, d, "weight"), *beta = parameter_of(r, d, "bias");
    for (size_t c = 0; c < channels; c++) {
        double mean = 0.0, variance = 0.0;
        for (size_t i = 0; i < rows; i++)
            mean += x->at[i * channels + c] / (double)rows;
        for (size_t i = 0; i < rows; i++)
            variance += pow(x->at[i * channels + c] - mean, 2) / (double)rows;
        if (!r->training) {
            mean = parameter_of(r, d, "running_mean")[c];
            variance = parameter_of(r, d, "running_var")[c];
        }
        for (size_t i = 0; i < rows; i++)
            y.at[i * channels + c] =
                (x->at[i * channels + c] - mean) / sqrt(variance + 1e-5) * gamma[c] + beta[c];
    }
    return y;
}

static image pool(const ohm_reference_network *r, const ohm_layer_desc *d, const image *x)
{
    int kernel = d->kind == OHM_LAYER_GLOBAL_AVG_POOL ? x->height : d->kernel;
    int stride = d->kind == OHM_LAYER_GLOBAL_AVG_POOL ? 1 : d->stride;
    int max = d->kind == OHM_LAYER_MAX_POOL;
    image y = image_of(r, (x->height - kernel) / stride + 1, (x->width - kernel) / stride + 1,
                       x->channels);
    for (int n = 0; n < r->count; n++)
        for (int i = 0; i < y.height * y.width * y.channels; i++) {
            int c = i % y.channels, ox = i / y.channels % y.width, oy = i / y.channels / y.width;
            double best = -INFINITY, sum = 0.0;
            for (int tap = 0; tap < kernel * kernel; tap++) {
                double value =
                    *pixel(x, n, oy * stride + tap / kernel, ox * stride + tap % kernel, c);
                best = value > best ? value : best;
                sum += value / (kernel * kernel);
            }
            *pixel(&y, n, oy, ox, c) = max ? best : sum;
        }
    return y;
}

static image pointwise(const ohm_reference_network *r, const ohm_layer_desc *d, const image *x,
                       const image *other)
{
    image y = image_of(r, x->height, x->width, x->channels);
    size_t count = (size_t)(r->count * x->height * x->width * x->channels);
    for (size_t i = 0; i < count; i++)
        y.at[i] = d->kind == OHM_LAYER_ADD ? x->at[i] + other->at[i] : fmax(x->at[i], 0.0);
    return y;
}

static image layer_of(const ohm_reference_network *r, const ohm_layer_desc *d, const image *x,
                      const image *other)
{
    switch (d->kind) {
    case OHM_LAYER_LINEAR:
    case OHM_LAYER_CONV:
        return conv(r, d, x);
    case OHM_LAYER_BATCH_NORM:
        return norm(r, d, x);
    case OHM_LAYER_RELU:
    case OHM_LAYER_ADD:
        return pointwise(r, d, x, other);
    default:
        return pool(r, d, x);
    }
}

static double mean_loss(const ohm_reference_network *r, const double *logits)
{
    int classes = r->architecture->classes;
    double loss = 0.0;
    for (int n = 0; n < r->count; n++) {
        const double *z = logits + n * classes;
        double sum = 0.0;
        for (int c = 0; c < classes; c++)
            sum += exp(z[c]);
        for (int c = 0; c < classes; c++)
            loss -= ((c == r->labels[n] ? 1.0 - r->smoothing : 0.0) + r->smoothing / classes) *
                    (z[c] - log(sum)) / r->count;
    }
    return loss;
}

double ohm_reference_loss(const ohm_reference_network *r, double *logits)
{
    const ohm_architecture *a = r->architecture;
    image value[OHM_LAYERS_MAX + 1]; /* value[i + 1] is layer i's, value[0] the images */
    value[0] = image_of(r, a->height, a->width, a->channels);
    for (size_t i = 0; i < (size_t)(r->count * a->height * a->width * a->channels); i++)
        value[0].at[i] = r->images[i];
    for (int i = 0; i < a->count; i++) {
        const ohm_layer_desc *d = &a->layer[i];
        value[i + 1] = layer_of(r, d, &value[d->input + 1], &value[d->other + 1]);
    }
    double loss = mean_loss(r, value[a->count].at);
    if (logits)
        memcpy(logits, value[a->count].at, (size_t)(r->count * a->classes) * sizeof *logits);
    for (int i = 0; i <= a->count; i++)
        free(value[i].at);
    return loss;
}
