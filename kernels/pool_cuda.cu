#include "kernels/pool.h"

#include "kernels/layers_cuda.h"
#include "kernels/loops_cuda.hpp"

static size_t in_count(const ohm_pool_shape *s, int images)
{
    return static_cast<size_t>(images) * s->height * s->width * s->channels;
}

static size_t out_count(const ohm_pool_shape *s, int images)
{
    return static_cast<size_t>(images) * s->out_height * s->out_width * s->channels;
}

/* Address of tap 0 of the window of output element i. */
static __device__ __forceinline__ size_t window_of(const ohm_pool_shape &s, size_t i)
{
    const size_t c = i % s.channels, position = i / s.channels;
    const size_t x = position % s.out_width * s.stride;
    const size_t y = position / s.out_width % s.out_height * s.stride;
    const size_t image = position / s.out_width / s.out_height;
    return ((image * s.height + y) * s.width + x) * s.channels + c;
}

static __device__ __forceinline__ size_t tap_of(const ohm_pool_shape &s, int tap)
{
    return (static_cast<size_t>(tap / s.kernel) * s.width + tap % s.kernel) * s.channels;
}

static __global__ void max_pool(float *y, uint8_t *which, const float *x, ohm_pool_shape s,
                                size_t n)
{
    OHM_EACH(i, n)
    {
        const float *window = x + window_of(s, i);
        float best = window[0];
        int place = 0;
        for (int tap = 1; tap < s.kernel * s.kernel; tap++) {
            const float value = window[tap_of(s, tap)];
            if (value > best || (value != value && best == best)) {
                best = value;
                place = tap;
            }
        }
        y[i] = best;
        if (which)
            which[i] = static_cast<uint8_t>(place);
    }
}

static __global__ void avg_pool(float *y, const float *x, ohm_pool_shape s, size_t n)
{
    const float share = 1.0f / static_cast<float>(s.kernel * s.kernel);
    OHM_EACH(i, n)
    {
        const float *window = x + window_of(s, i);
        float sum = 0.0f;
        for (int tap = 0; tap < s.kernel * s.kernel; tap++)
            sum += window[tap_of(s, tap)];
        y[i] = sum * share;
    }
}

/* A pixel gathers from the windows that it lies in, in the order of their positions; which NULL: from
 * all of them a share, else from those that it won. */
static __global__ void pool_backward(float *dx, const float *dy, const uint8_t *which,
                                     ohm_pool_shape s, size_t n, int accumulate)
{
    const float share = 1.0f / static_cast<float>(s.kernel * s.kernel);
    OHM_EACH(i, n)
    {
        const size_t c = i % s.channels, pixel = i / s.channels;
        const int x = static_cast<int>(pixel % s.width);
        const int y = static_cast<int>(pixel / s.width % s.height);
        const size_t image = pixel / s.width / s.height;
        const int y0 = y < s.kernel ? 0 : (y - s.kernel) / s.stride + 1;
        const int x0 = x < s.kernel ? 0 : (x - s.kernel) / s.stride + 1;
        float sum = accumulate ? dx[i] : 0.0f;
        for (int out_y = y0; out_y < s.out_height && out_y * s.stride <= y; out_y++)
            for (int out_x = x0; out_x < s.out_width && out_x * s.stride <= x; out_x++) {
                const size_t from =
                    ((image * s.out_height + out_y) * s.out_width + out_x) * s.channels + c;
                const int tap = (y - out_y * s.stride) * s.kernel + x - out_x * s.stride;
                if (!which)
                    sum += share * dy[from];
                else if (which[from] == tap)
                    sum += dy[from];
            }
        dx[i] = sum;
    }
}

extern "C" ohm_cuda_status ohm_max_pool_cuda(float *y, uint8_t *which, const float *x,
                                             const ohm_pool_shape *shape, int images,
                                             ohm_cuda_stream s)
{
    const size_t n = out_count(shape, images);
    return OHM_LOOP(max_pool, n, s, y, which, x, *shape, n);
}

extern "C" ohm_cuda_status ohm_max_pool_backward_cuda(float *dx, const float *dy,
                                                      const uint8_t *which,
                                                      const ohm_pool_shape *shape, int images,
                                                      int accumulate, ohm_cuda_stream s)
{
    const size_t n = in_count(shape, images);
    return OHM_LOOP(pool_backward, n, s, dx, dy, which, *shape, n, accumulate);
}

extern "C" ohm_cuda_status ohm_avg_pool_cuda(float *y, const float *x, const ohm_pool_shape *shape,
                                             int images, ohm_cuda_stream s)
{
    const size_t n = out_count(shape, images);
    return OHM_LOOP(avg_pool, n, s, y, x, *shape, n);
}

extern "C" ohm_cuda_status ohm_avg_pool_backward_cuda(float *dx, const float *dy,
                                                      const ohm_pool_shape *shape, int images,
                                                      int accumulate, ohm_cuda_stream s)
{
    const size_t n = in_count(shape, images);
    return OHM_LOOP(pool_backward, n, s, dx, dy, static_cast<const uint8_t *>(nullptr), *shape, n,
                    accumulate);
}
