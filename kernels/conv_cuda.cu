/* Convolutions as on the CPU (conv_cpu.c), with chunks as large as the workspace in place of blocks
 * per thread. Workspace: that of the matrix products, the turned kernel, patches. */
#include "kernels/conv.h"

#include "kernels/layers_cuda.h"
#include "kernels/loops_cuda.hpp"

static const size_t PIECE_ROWS = 1024, GEMM_FLOATS = OHM_GEMM_WORKSPACE / sizeof(float) + 64;

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t patch_floats(const ohm_conv_shape *s, int images, int pieces)
{
    const size_t rows = static_cast<size_t>(pieces < 1 ? 1 : pieces) * PIECE_ROWS;
    return smaller(rows, ohm_conv_rows(s, images)) * static_cast<size_t>(ohm_conv_k(s));
}

/* The products' workspace is the front of the caller's. */
static ohm_gemm_cuda gemm_in(const ohm_gemm_cuda *gemm, float *workspace)
{
    ohm_gemm_cuda here = *gemm;
    here.workspace = reinterpret_cast<void *>((reinterpret_cast<uintptr_t>(workspace) + 255) / 256 * 256);
    here.bytes = OHM_GEMM_WORKSPACE;
    return here;
}

/* Rows of patches that the floats behind `used` hold. */
static ohm_cuda_status chunk_rows(size_t *rows, size_t floats, size_t used, size_t k)
{
    *rows = floats > used ? (floats - used) / k : 0;
    *rows = smaller(*rows, (static_cast<size_t>(1) << 31) / k);
    return *rows ? OHM_CUDA_OK
                 : ohm_cuda_fail(OHM_CUDA_ARGUMENT, "convolution",
                                 "the workspace holds no row of patches");
}

/* ---- forward ------------------------------------------------------------------------------- */

/* y = patches(x) wᵀ + beta y + bias; patches [floats]. */
static ohm_cuda_status product(float *y, const float *x, const float *w, const float *bias,
                               const ohm_conv_shape *s, int images, float beta, float *patches,
                               size_t floats, const ohm_gemm_cuda *gemm)
{
    const size_t rows = ohm_conv_rows(s, images);
    const int k = ohm_conv_k(s), n = s->out;
    if (ohm_conv_is_plain(s))
        return ohm_gemm_forward_cuda(y, n, x, k, w, k, bias, static_cast<int>(rows), n, k, beta,
                                     gemm);
    size_t chunk;
    OHM_CUDA_TRY(chunk_rows(&chunk, floats, 0, static_cast<size_t>(k)));
    for (size_t row = 0; row < rows; row += chunk) {
        const int some = static_cast<int>(smaller(chunk, rows - row));
        OHM_CUDA_TRY(ohm_im2col_cuda(patches, x, s, row, some, gemm->stream));
        OHM_CUDA_TRY(ohm_gemm_forward_cuda(y + row * static_cast<size_t>(n), n, patches, k, w, k,
                                           bias, some, n, k, beta, gemm));
    }
    return OHM_CUDA_OK;
}

extern "C" size_t ohm_conv_forward_floats_cuda(const ohm_conv_shape *shape, int images, int pieces)
{
    return GEMM_FLOATS + (ohm_conv_is_plain(shape) ? 0 : patch_floats(shape, images, pieces));
}

extern "C" ohm_cuda_status ohm_conv_forward_cuda(float *y, const float *x, const float *w,
                                                 const float *bias, const ohm_conv_shape *shape,
                                                 int images, float *workspace, size_t floats,
                                                 const ohm_gemm_cuda *gemm)
{
    const ohm_gemm_cuda here = gemm_in(gemm, workspace);
    return product(y, x, w, bias, shape, images, 0.0f, workspace + GEMM_FLOATS,
                   floats - GEMM_FLOATS, &here);
}

/* ---- gradient of the input ----------------------------------------------------------------- */

static size_t kernel_floats(const ohm_conv_shape *s)
{
    return static_cast<size_t>(s->out) * static_cast<size_t>(ohm_conv_k(s));
}

/* The turned kernel takes whole lines, so that patches behind it stay aligned. */
static size_t turned_floats(const ohm_conv_shape *s)
{
    return (kernel_floats(s) + 63) / 64 * 64;
}

/* turned [channels][kernel][kernel][out] of w [out][kernel][kernel][channels] */
static __global__ void turn_kernel(float *turned, const float *w, size_t taps, size_t channels,
                                   size_t out)
{
    OHM_EACH(i, channels * taps * out)
    {
        const size_t n = i % out, tap = i / out % taps, c = i / out / taps;
        turned[i] = w[(n * taps + taps - 1 - tap) * channels + c];
    }
}

extern "C" size_t ohm_conv_input_floats_cuda(const ohm_conv_shape *shape, int images, int pieces)
{
    if (ohm_conv_is_plain(shape))
        return GEMM_FLOATS;
    if (!ohm_conv_turns(shape))
        return GEMM_FLOATS + patch_floats(shape, images, pieces);
    const ohm_conv_shape turned = ohm_conv_turned(shape);
    return GEMM_FLOATS + turned_floats(shape) + patch_floats(&turned, images, pieces);
}

/* Any stride: patches of gradients, gathered by the pixels they came from. */
static ohm_cuda_status scatter(float *dx, const float *dy, const float *w, const ohm_conv_shape *s,
                               int images, int accumulate, float *patches, size_t floats,
                               const ohm_gemm_cuda *gemm)
{
    const size_t rows = ohm_conv_rows(s, images);
    const int k = ohm_conv_k(s), n = s->out;
    const size_t pixels = static_cast<size_t>(s->height) * s->width * s->channels;
    size_t chunk;
    OHM_CUDA_TRY(chunk_rows(&chunk, floats, 0, static_cast<size_t>(k)));
    if (!accumulate)
        OHM_CUDA_TRY(
            ohm_cuda_fill(dx, 0, static_cast<size_t>(images) * pixels * sizeof *dx, gemm->stream));
    for (size_t row = 0; row < rows; row += chunk) {
        const int some = static_cast<int>(smaller(chunk, rows - row));
        OHM_CUDA_TRY(ohm_gemm_input_cuda(patches, k, dy + row * static_cast<size_t>(n), n, w, k,
                                         some, n, k, 0.0f, gemm));
        OHM_CUDA_TRY(ohm_col2im_cuda(dx, patches, s, row, some, gemm->stream));
    }
    return OHM_CUDA_OK;
}

extern "C" ohm_cuda_status ohm_conv_input_cuda(float *dx, const float *dy, const float *w,
                                               const ohm_conv_shape *shape, int images,
                                               int accumulate, float *workspace, size_t floats,
                                               const ohm_gemm_cuda *gemm)
{
    const ohm_gemm_cuda here = gemm_in(gemm, workspace);
    const float beta = accumulate ? 1.0f : 0.0f;
    float *behind = workspace + GEMM_FLOATS;
    const size_t left = floats - GEMM_FLOATS;
    if (ohm_conv_is_plain(shape))
        return ohm_gemm_input_cuda(dx, shape->channels, dy, shape->out, w, shape->channels,
                                   static_cast<int>(ohm_conv_rows(shape, images)), shape->out,
                                   shape->channels, beta, &here);
    if (!ohm_conv_turns(shape))
        return scatter(dx, dy, w, shape, images, accumulate, behind, left, &here);
    const ohm_conv_shape turned = ohm_conv_turned(shape);
    const size_t used = turned_floats(shape),
                 taps = static_cast<size_t>(shape->kernel) * shape->kernel;
    OHM_CUDA_TRY(OHM_LOOP(turn_kernel, kernel_floats(shape), gemm->stream, behind, w, taps,
                          static_cast<size_t>(shape->channels), static_cast<size_t>(shape->out)));
    return product(dx, dy, behind, nullptr, &turned, images, beta, behind + used, left - used,
                   &here);
}

/* ---- gradient of the weights --------------------------------------------------------------- */

extern "C" size_t ohm_conv_weight_floats_cuda(const ohm_conv_shape *shape, int images, int pieces)
{
    return ohm_conv_forward_floats_cuda(shape, images, pieces);
}

extern "C" ohm_cuda_status ohm_conv_weight_cuda(float *dw, const float *dy, const float *x,
                                                const ohm_conv_shape *shape, int images,
                                                float *workspace, size_t floats,
                                                const ohm_gemm_cuda *gemm)
{
    const ohm_gemm_cuda here = gemm_in(gemm, workspace);
    const size_t rows = ohm_conv_rows(shape, images);
    const int k = ohm_conv_k(shape), n = shape->out;
    float *patches = workspace + GEMM_FLOATS;
    if (ohm_conv_is_plain(shape))
        return ohm_gemm_weight_cuda(dw, k, dy, n, x, k, static_cast<int>(rows), n, k, 1.0f, &here);
    size_t chunk;
    OHM_CUDA_TRY(chunk_rows(&chunk, floats, GEMM_FLOATS, static_cast<size_t>(k)));
    for (size_t row = 0; row < rows; row += chunk) {
        const int some = static_cast<int>(smaller(chunk, rows - row));
        OHM_CUDA_TRY(ohm_im2col_cuda(patches, x, shape, row, some, gemm->stream));
        OHM_CUDA_TRY(ohm_gemm_weight_cuda(dw, k, dy + row * static_cast<size_t>(n), n, patches, k,
                                          some, n, k, 1.0f, &here));
    }
    return OHM_CUDA_OK;
}
