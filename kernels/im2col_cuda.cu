#include "kernels/im2col.h"

#include "kernels/layers_cuda.h"
#include "kernels/loops_cuda.hpp"

/* Items that one launch counts with 32 bits. */
static const size_t ITEMS_MOST = static_cast<size_t>(1) << 31;

/* ---- patches ------------------------------------------------------------------------------- */

/* T holds one or several channels; `lanes` of them make a pixel. */
template <class T>
static __global__ void gather(T *patches, const T *x, T outside, ohm_conv_shape s, unsigned lanes,
                              size_t first_row, unsigned items)
{
    const unsigned taps = static_cast<unsigned>(s.kernel * s.kernel), width = taps * lanes;
    const unsigned positions = static_cast<unsigned>(s.out_height * s.out_width);
    OHM_EACH(wide, items)
    {
        const unsigned i = static_cast<unsigned>(wide), within = i % width, tap = within / lanes;
        const size_t row = first_row + i / width, image = row / positions;
        const unsigned at = static_cast<unsigned>(row % positions);
        const int out_y = static_cast<int>(at) / s.out_width,
                  out_x = static_cast<int>(at) % s.out_width;
        const int y = out_y * s.stride - s.pad + static_cast<int>(tap) / s.kernel;
        const int column = out_x * s.stride - s.pad + static_cast<int>(tap) % s.kernel;
        const bool inside = y >= 0 && y < s.height && column >= 0 && column < s.width;
        patches[wide] =
            inside ? x[((image * s.height + y) * s.width + column) * lanes + within % lanes]
                   : outside;
    }
}

/* Rows that one launch takes. */
static int rows_of_launch(size_t width, size_t row, int rows)
{
    const size_t most = ITEMS_MOST / width, left = static_cast<size_t>(rows) - row;
    return static_cast<int>(left < most ? left : most);
}

template <class T>
static ohm_cuda_status gather_all(T *patches, const T *x, T outside, const ohm_conv_shape *shape,
                                  size_t lanes, size_t first_row, int rows, ohm_cuda_stream s)
{
    const size_t width = static_cast<size_t>(shape->kernel) * shape->kernel * lanes;
    for (size_t row = 0; row < static_cast<size_t>(rows);) {
        const int some = rows_of_launch(width, row, rows);
        const size_t items = static_cast<size_t>(some) * width;
        OHM_CUDA_TRY(OHM_LOOP((gather<T>), items, s, patches + row * width, x, outside, *shape,
                              static_cast<unsigned>(lanes), first_row + row,
                              static_cast<unsigned>(items)));
        row += static_cast<size_t>(some);
    }
    return OHM_CUDA_OK;
}

static bool aligned(const void *a, const void *b, size_t bytes)
{
    return reinterpret_cast<uintptr_t>(a) % bytes == 0 &&
           reinterpret_cast<uintptr_t>(b) % bytes == 0;
}

extern "C" ohm_cuda_status ohm_im2col_cuda(float *patches, const float *x,
                                           const ohm_conv_shape *shape, size_t first_row, int rows,
                                           ohm_cuda_stream s)
{
    const size_t channels = static_cast<size_t>(shape->channels);
    if (rows <= 0)
        return OHM_CUDA_OK;
    if (channels % 4 || !aligned(patches, x, sizeof(float4)))
        return gather_all<float>(patches, x, 0.0f, shape, channels, first_row, rows, s);
    return gather_all<float4>(
        reinterpret_cast<float4 *>(patches), reinterpret_cast<const float4 *>(x),
        make_float4(0.0f, 0.0f, 0.0f, 0.0f), shape, channels / 4, first_row, rows, s);
}

extern "C" ohm_cuda_status ohm_im2col_codes_cuda(uint8_t *patches, const uint8_t *x,
                                                 uint8_t outside, const ohm_conv_shape *shape,
                                                 size_t first_row, int rows, ohm_cuda_stream s)
{
    const size_t channels = static_cast<size_t>(shape->channels);
    if (rows <= 0)
        return OHM_CUDA_OK;
    const uint32_t four = outside * 0x01010101u;
    if (channels % 16 == 0 && aligned(patches, x, sizeof(uint4)))
        return gather_all<uint4>(reinterpret_cast<uint4 *>(patches),
                                 reinterpret_cast<const uint4 *>(x),
                                 make_uint4(four, four, four, four), shape, channels / 16,
                                 first_row, rows, s);
    if (channels % 4 || !aligned(patches, x, sizeof(uint32_t)))
        return gather_all<uint8_t>(patches, x, outside, shape, channels, first_row, rows, s);
    return gather_all<uint32_t>(reinterpret_cast<uint32_t *>(patches),
                                reinterpret_cast<const uint32_t *>(x), four, shape, channels / 4,
                                first_row, rows, s);
}

/* ---- back to pixels ------------------------------------------------------------------------ */

/* Outputs along one axis whose window covers pixel `at`: first .. last - 1. */
static __device__ __forceinline__ void windows_over(int *first, int *last, int at, int kernel,
                                                    int stride, int pad, int outputs)
{
    const int begin = at + pad - kernel + 1;
    *first = begin <= 0 ? 0 : (begin + stride - 1) / stride;
    *last = (at + pad) / stride + 1;
    *last = *last < outputs ? *last : outputs;
}

/* A pixel gathers from the patches that it lies in, in the order of their rows: that of the CPU. */
static __global__ void add_patches(float *dx, const float *patches, ohm_conv_shape s,
                                   size_t first_row, size_t end_row, size_t first_pixel,
                                   size_t items)
{
    const size_t positions = static_cast<size_t>(s.out_height) * s.out_width;
    const size_t width = static_cast<size_t>(s.kernel) * s.kernel * s.channels;
    OHM_EACH(i, items)
    {
        const size_t pixel = first_pixel + i / s.channels,
                     image = pixel / (static_cast<size_t>(s.height) * s.width);
        const int channel = static_cast<int>(i % s.channels), x = static_cast<int>(pixel % s.width);
        const int y = static_cast<int>(pixel / s.width % s.height);
        int y0, y1, x0, x1;
        windows_over(&y0, &y1, y, s.kernel, s.stride, s.pad, s.out_height);
        windows_over(&x0, &x1, x, s.kernel, s.stride, s.pad, s.out_width);
        float sum = dx[pixel * s.channels + channel];
        for (int out_y = y0; out_y < y1; out_y++)
            for (int out_x = x0; out_x < x1; out_x++) {
                const size_t row =
                    image * positions + static_cast<size_t>(out_y) * s.out_width + out_x;
                if (row < first_row || row >= end_row)
                    continue;
                const int tap =
                    (y + s.pad - out_y * s.stride) * s.kernel + x + s.pad - out_x * s.stride;
                sum += patches[(row - first_row) * width + static_cast<size_t>(tap) * s.channels +
                               channel];
            }
        dx[pixel * s.channels + channel] = sum;
    }
}

extern "C" ohm_cuda_status ohm_col2im_cuda(float *dx, const float *patches,
                                           const ohm_conv_shape *shape, size_t first_row, int rows,
                                           ohm_cuda_stream s)
{
    const size_t positions = ohm_conv_rows(shape, 1);
    const size_t pixels = static_cast<size_t>(shape->height) * shape->width;
    if (rows <= 0)
        return OHM_CUDA_OK;
    const size_t end_row = first_row + static_cast<size_t>(rows);
    const size_t image = first_row / positions, images = (end_row - 1) / positions - image + 1;
    const size_t items = images * pixels * shape->channels;
    return OHM_LOOP(add_patches, items, s, dx, patches, *shape, first_row, end_row, image * pixels,
                    items);
}
