#include "kernels/pool.h"

#include <string.h>

static size_t in_size(const ohm_pool_shape *s)
{
    return (size_t)s->height * (size_t)s->width * (size_t)s->channels;
}

static size_t out_size(const ohm_pool_shape *s)
{
    return (size_t)s->out_height * (size_t)s->out_width * (size_t)s->channels;
}

/* Offset in an input image of tap `tap` of the window of output position `at`. */
static size_t tap_offset(const ohm_pool_shape *s, size_t at, int tap)
{
    size_t y = at / (size_t)s->out_width * (size_t)s->stride + (size_t)(tap / s->kernel);
    size_t x = at % (size_t)s->out_width * (size_t)s->stride + (size_t)(tap % s->kernel);
    return (y * (size_t)s->width + x) * (size_t)s->channels;
}

static size_t positions(const ohm_pool_shape *s)
{
    return (size_t)s->out_height * (size_t)s->out_width;
}

static void max_window(float *y, uint8_t *which, const float *image, const ohm_pool_shape *s,
                       size_t at)
{
    size_t channels = (size_t)s->channels;
    const float *first = image + tap_offset(s, at, 0);
    memcpy(y, first, channels * sizeof *y);
    if (which)
        memset(which, 0, channels);
    for (int tap = 1; tap < s->kernel * s->kernel; tap++) {
        const float *from = image + tap_offset(s, at, tap);
        for (size_t c = 0; c < channels; c++) {
            int wins = from[c] > y[c] || (from[c] != from[c] && y[c] == y[c]);
            y[c] = wins ? from[c] : y[c];
            if (which)
                which[c] = wins ? (uint8_t)tap : which[c];
        }
    }
}

void ohm_max_pool_cpu(float *y, uint8_t *which, const float *x, const ohm_pool_shape *s, int images)
{
    size_t channels = (size_t)s->channels;
#pragma omp parallel for schedule(static) if (images > 1)
    for (int image = 0; image < images; image++)
        for (size_t at = 0; at < positions(s); at++) {
            size_t to = (size_t)image * out_size(s) + at * channels;
            max_window(y + to, which ? which + to : NULL, x + (size_t)image * in_size(s), s, at);
        }
}

void ohm_max_pool_backward_cpu(float *dx, const float *dy, const uint8_t *which,
                               const ohm_pool_shape *s, int images, int accumulate)
{
    size_t channels = (size_t)s->channels;
#pragma omp parallel for schedule(static) if (images > 1)
    for (int image = 0; image < images; image++) {
        float *to = dx + (size_t)image * in_size(s);
        if (!accumulate)
            memset(to, 0, in_size(s) * sizeof *to);
        for (size_t at = 0; at < positions(s); at++) {
            size_t from = (size_t)image * out_size(s) + at * channels;
            for (size_t c = 0; c < channels; c++)
                to[tap_offset(s, at, which[from + c]) + c] += dy[from + c];
        }
    }
}

void ohm_avg_pool_cpu(float *y, const float *x, const ohm_pool_shape *s, int images)
{
    size_t channels = (size_t)s->channels;
    int taps = s->kernel * s->kernel;
    float share = 1.0f / (float)taps;
#pragma omp parallel for schedule(static) if (images > 1)
    for (int image = 0; image < images; image++)
        for (size_t at = 0; at < positions(s); at++) {
            float *to = y + (size_t)image * out_size(s) + at * channels;
            const float *from = x + (size_t)image * in_size(s);
            memset(to, 0, channels * sizeof *to);
            for (int tap = 0; tap < taps; tap++)
                for (size_t c = 0; c < channels; c++)
                    to[c] += from[tap_offset(s, at, tap) + c];
            for (size_t c = 0; c < channels; c++)
                to[c] *= share;
        }
}

void ohm_avg_pool_backward_cpu(float *dx, const float *dy, const ohm_pool_shape *s, int images,
                               int accumulate)
{
    size_t channels = (size_t)s->channels;
    int taps = s->kernel * s->kernel;
    float share = 1.0f / (float)taps;
#pragma omp parallel for schedule(static) if (images > 1)
    for (int image = 0; image < images; image++) {
        float *to = dx + (size_t)image * in_size(s);
        if (!accumulate)
            memset(to, 0, in_size(s) * sizeof *to);
        for (size_t at = 0; at < positions(s); at++) {
            const float *from = dy + (size_t)image * out_size(s) + at * channels;
            for (int tap = 0; tap < taps; tap++)
                for (size_t c = 0; c < channels; c++)
                    to[tap_offset(s, at, tap) + c] += share * from[c];
        }
    }
}
