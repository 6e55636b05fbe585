#include "kernels/conv.h"

#include <omp.h>
#include <string.h>

#include "kernels/gemm.h"

enum { ROWS = 256, FEW_ROWS = 64, COLUMNS = 512 };

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Rows of a block: fewer where 256 would leave threads without work. */
static size_t block_rows(size_t rows)
{
    return rows < 8 * ROWS ? FEW_ROWS : ROWS;
}

/* Threads that have a slot of workspace each. */
static int workers(size_t floats, size_t slot)
{
    size_t slots = slot ? floats / slot : 1, threads = (size_t)omp_get_max_threads();
    slots = slots < 1 ? 1 : slots;
    return (int)smaller(slots, threads);
}

static size_t slots_floats(size_t rows, size_t k, int threads)
{
    size_t blocks = (rows + block_rows(rows) - 1) / block_rows(rows);
    return smaller((size_t)threads, blocks ? blocks : 1) * block_rows(rows) * k;
}

/* ---- forward ------------------------------------------------------------------------------- */

static void add_bias(float *y, const float *bias, size_t rows, int n)
{
    for (size_t r = 0; r < rows; r++, y += n)
        for (int i = 0; i < n; i++)
            y[i] += bias[i];
}

static void add_bias_threads(float *y, const float *bias, size_t rows, int n)
{
#pragma omp parallel for schedule(static) if (rows > ROWS)
    for (size_t row = 0; row < rows; row += ROWS)
        add_bias(y + row * (size_t)n, bias, smaller(ROWS, rows - row), n);
}

/* y = patches(x) wᵀ + beta y + bias */
static void product(float *y, const float *x, const float *w, const float *bias,
                    const ohm_conv_shape *s, int images, float beta, float *workspace,
                    size_t floats)
{
    size_t rows = ohm_conv_rows(s, images), block = block_rows(rows), n = (size_t)s->out;
    int k = ohm_conv_k(s);
    ohm_gemm_one_thread();
#pragma omp parallel for schedule(static)                                                          \
    num_threads(workers(floats, block *(size_t)k)) if (rows > block)
    for (size_t row = 0; row < rows; row += block) {
        float *patches = workspace + (size_t)omp_get_thread_num() * block * (size_t)k;
        size_t some = smaller(block, rows - row);
        ohm_im2col_block(patches, x, s, row, (int)some, 0, s->kernel);
        ohm_gemm_forward_block(y + row * n, s->out, patches, k, w, k, (int)some, s->out, k, beta);
        if (bias)
            add_bias(y + row * n, bias, some, s->out);
    }
}

size_t ohm_conv_forward_floats(const ohm_conv_shape *s, int images, int threads)
{
    return ohm_conv_is_plain(s)
               ? 0
               : slots_floats(ohm_conv_rows(s, images), (size_t)ohm_conv_k(s), threads);
}

void ohm_conv_forward_cpu(float *y, const float *x, const float *w, const float *bias,
                          const ohm_conv_shape *s, int images, float *workspace, size_t floats)
{
    if (!ohm_conv_is_plain(s)) {
        product(y, x, w, bias, s, images, 0.0f, workspace, floats);
        return;
    }
    size_t rows = ohm_conv_rows(s, images);
    ohm_gemm_forward_cpu(y, s->out, x, s->channels, w, s->channels, (int)rows, s->out, s->channels,
                         0.0f);
    if (bias)
        add_bias_threads(y, bias, rows, s->out);
}

/* ---- gradient of the input ----------------------------------------------------------------- */

/* turned [channels][kernel][kernel][out] of w [out][kernel][kernel][channels] */
static void turn_kernel(float *turned, const float *w, const ohm_conv_shape *s)
{
    size_t taps = (size_t)(s->kernel * s->kernel), channels = (size_t)s->channels,
           n = (size_t)s->out;
#pragma omp parallel for schedule(static) if (taps * channels * n > 65536)
    for (size_t c = 0; c < channels; c++)
        for (size_t tap = 0; tap < taps; tap++)
            for (size_t i = 0; i < n; i++)
                turned[(c * taps + tap) * n + i] = w[(i * taps + taps - 1 - tap) * channels + c];
}

/* Any stride: patches of gradients, added to the pixels they came from. A thread takes whole images. */
static void scatter(float *dx, const float *dy, const float *w, const ohm_conv_shape *s, int images,
                    int accumulate, float *workspace, size_t floats)
{
    size_t positions = ohm_conv_rows(s, 1), k = (size_t)ohm_conv_k(s), n = (size_t)s->out;
    size_t pixels = (size_t)s->height * (size_t)s->width * (size_t)s->channels;
    ohm_gemm_one_thread();
#pragma omp parallel for schedule(static) num_threads(workers(floats, ROWS *k)) if (images > 1)
    for (int image = 0; image < images; image++) {
        float *patches = workspace + (size_t)omp_get_thread_num() * ROWS * k;
        if (!accumulate)
            memset(dx + (size_t)image * pixels, 0, pixels * sizeof *dx);
        for (size_t at = 0; at < positions; at += ROWS) {
            size_t row = (size_t)image * positions + at, some = smaller(ROWS, positions - at);
            ohm_gemm_input_block(patches, (int)k, dy + row * n, s->out, w, (int)k, (int)some,
                                 s->out, (int)k, 0.0f);
            ohm_col2im_block(dx, patches, s, row, (int)some);
        }
    }
}

size_t ohm_conv_input_floats(const ohm_conv_shape *s, int images, int threads)
{
    if (ohm_conv_is_plain(s))
        return 0;
    if (!ohm_conv_turns(s))
        return smaller((size_t)threads, (size_t)images) * ROWS * (size_t)ohm_conv_k(s);
    ohm_conv_shape turned = ohm_conv_turned(s);
    size_t kernel = (size_t)s->out * (size_t)ohm_conv_k(s);
    return kernel +
           slots_floats(ohm_conv_rows(&turned, images), (size_t)ohm_conv_k(&turned), threads);
}

void ohm_conv_input_cpu(float *dx, const float *dy, const float *w, const ohm_conv_shape *s,
                        int images, int accumulate, float *workspace, size_t floats)
{
    float beta = accumulate ? 1.0f : 0.0f;
    if (ohm_conv_is_plain(s)) {
        ohm_gemm_input_cpu(dx, s->channels, dy, s->out, w, s->channels,
                           (int)ohm_conv_rows(s, images), s->out, s->channels, beta);
    } else if (ohm_conv_turns(s)) {
        ohm_conv_shape turned = ohm_conv_turned(s);
        size_t kernel = (size_t)s->out * (size_t)ohm_conv_k(s);
        turn_kernel(workspace, w, s);
        product(dx, dy, workspace, NULL, &turned, images, beta, workspace + kernel,
                floats - kernel);
    } else {
        scatter(dx, dy, w, s, images, accumulate, workspace, floats);
    }
}

/* ---- gradient of the weights --------------------------------------------------------------- */

/* The sum over rows is cut into segments with a partial dw each, the columns of dw into groups of
 * kernel rows: tasks that share nothing. Both cuts follow from the shape. */
typedef struct {
    int segments, groups, lines; /* lines: kernel rows of a group */
    size_t depth;                /* rows of a segment */
    size_t slot;                 /* floats of one thread's patches */
} weight_plan;

static weight_plan plan_weight(const ohm_conv_shape *s, int images)
{
    weight_plan plan;
    size_t rows = ohm_conv_rows(s, images);
    plan.lines = ohm_conv_k(s) <= COLUMNS ? s->kernel : 1;
    plan.groups = s->kernel / plan.lines;
    plan.segments = ohm_gemm_segments(rows, s->out, ohm_conv_k(s), plan.groups);
    plan.depth = (rows + (size_t)plan.segments - 1) / (size_t)plan.segments;
    plan.slot = ROWS * (size_t)(plan.lines * s->kernel * s->channels);
    return plan;
}

static size_t partial_floats(const weight_plan *plan, const ohm_conv_shape *s)
{
    return plan->segments > 1 ? (size_t)plan->segments * (size_t)s->out * (size_t)ohm_conv_k(s) : 0;
}

size_t ohm_conv_weight_floats(const ohm_conv_shape *s, int images, int threads)
{
    if (ohm_conv_is_plain(s))
        return ohm_gemm_weight_floats((int)ohm_conv_rows(s, images), s->out, s->channels);
    weight_plan plan = plan_weight(s, images);
    size_t tasks = (size_t)(plan.segments * plan.groups);
    return partial_floats(&plan, s) + smaller((size_t)threads, tasks) * plan.slot;
}

/* to [out, K], the columns of one group += the product over rows from .. to-1 */
static void weight_task(float *to, const float *dy, const float *x, const ohm_conv_shape *s,
                        const weight_plan *plan, int group, size_t first, size_t last,
                        float *patches)
{
    int ky = group * plan->lines, line = s->kernel * s->channels, columns = plan->lines * line;
    for (size_t row = first; row < last; row += ROWS) {
        int some = (int)smaller(ROWS, last - row);
        ohm_im2col_block(patches, x, s, row, some, ky, ky + plan->lines);
        ohm_gemm_weight_block(to + ky * line, ohm_conv_k(s), dy + row * (size_t)s->out, s->out,
                              patches, columns, some, s->out, columns, 1.0f);
    }
}

static void add_partials(float *dw, const float *partial, int segments, size_t count)
{
#pragma omp parallel for schedule(static) if (count > 16384)
    for (size_t at = 0; at < count; at += 4096)
        for (int segment = 0; segment < segments; segment++) {
            const float *from = partial + (size_t)segment * count;
            for (size_t i = at; i < smaller(at + 4096, count); i++)
                dw[i] += from[i];
        }
}

void ohm_conv_weight_cpu(float *dw, const float *dy, const float *x, const ohm_conv_shape *s,
                         int images, float *workspace, size_t floats)
{
    size_t rows = ohm_conv_rows(s, images);
    if (ohm_conv_is_plain(s)) {
        ohm_gemm_weight_cpu(dw, s->channels, dy, s->out, x, s->channels, (int)rows, s->out,
                            s->channels, workspace);
        return;
    }
    weight_plan plan = plan_weight(s, images);
    size_t count = (size_t)s->out * (size_t)ohm_conv_k(s), partials = partial_floats(&plan, s);
    float *slots = workspace + partials;
    memset(workspace, 0, partials * sizeof *workspace);
    ohm_gemm_one_thread();
    int tasks = plan.segments * plan.groups, team = workers(floats - partials, plan.slot);
#pragma omp parallel for schedule(dynamic, 1) num_threads(team) if (tasks > 1)
    for (int task = 0; task < tasks; task++) {
        int segment = task / plan.groups;
        float *to = partials ? workspace + (size_t)segment * count : dw;
        weight_task(to, dy, x, s, &plan, task % plan.groups,
                    smaller((size_t)segment * plan.depth, rows),
                    smaller((size_t)(segment + 1) * plan.depth, rows),
                    slots + (size_t)omp_get_thread_num() * plan.slot);
    }
    if (partials)
        add_partials(dw, workspace, plan.segments, count);
}
