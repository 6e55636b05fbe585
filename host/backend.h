/* The operations a network needs, as a table of functions over the backend's buffers. Layers call
 * nothing else, so a device joins by filling a table of its own.
 *
 * Buffers are addresses that the backend understands, planned by the arena; the CPU's are host
 * memory. Contracts, shapes and determinism are those of the headers in kernels/ that the entries
 * are named after. Every entry takes what `open` gave (the CPU: NULL). Operations may be queued: the
 * host sees their results after `wait`. They neither allocate nor fail where they are called: the
 * first failure is kept, later ones do nothing, and `status` and `wait` tell it. Every backend has every
 * operation; experiments that it cannot run are reported by `check` before a network is made. */
#ifndef OHM_HOST_BACKEND_H
#define OHM_HOST_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#include "host/chip.h"
#include "host/config.h"
#include "host/status.h"
#include "kernels/gemm_cuda.h"
#include "kernels/im2col.h"
#include "kernels/optimiser.h"
#include "kernels/pool.h"
#include "kernels/ranges.h"

typedef struct ohm_device ohm_device; /* a backend at work; NULL for the CPU */

/* clang-format off */
/* Every operation: name, kernel without _cpu or _cuda, parameters, arguments. The table below, what
 * backends wrap around their kernels, and their initialisers all follow from these.
 *
 * Shapes as in the header in kernels/ of the same name: im2col.h, activation.h, batchnorm.h, pool.h. */
#define OHM_UNPACK(...) __VA_ARGS__
#define OHM_LAYER_OPERATIONS(F)                                                                    \
    F(patches, ohm_im2col,                                                                         \
      (float *patch, const float *x, const ohm_conv_shape *s, size_t first_row, int rows),         \
      (patch, x, s, first_row, rows))                                                              \
    F(patches_of_codes, ohm_im2col_codes,                                                          \
      (uint8_t *patch, const uint8_t *x, uint8_t outside, const ohm_conv_shape *s,                 \
       size_t first_row, int rows),                                                                \
      (patch, x, outside, s, first_row, rows))                                                     \
    F(scatter, ohm_col2im,                                                                         \
      (float *dx, const float *patch, const ohm_conv_shape *s, size_t first_row, int rows),        \
      (dx, patch, s, first_row, rows))                                                             \
    F(relu, ohm_relu, (float *y, const float *x, size_t n), (y, x, n))                             \
    F(relu_backward, ohm_relu_backward,                                                            \
      (float *dx, const float *dy, const float *y, size_t n, int accumulate),                      \
      (dx, dy, y, n, accumulate))                                                                  \
    F(add, ohm_add, (float *y, const float *a, const float *b, size_t n), (y, a, b, n))            \
    F(straight_through, ohm_straight_through,                                                      \
      (float *y, const float *noisy, size_t n),                                                    \
      (y, noisy, n))                                                                               \
    F(scale_columns, ohm_scale_columns,                                                            \
      (float *y, const float *x, const float *scale, size_t rows, size_t cols),                    \
      (y, x, scale, rows, cols))                                                                   \
    F(add_row, ohm_add_row,                                                                        \
      (float *y, const float *row, size_t rows, size_t cols),                                      \
      (y, row, rows, cols))                                                                        \
    F(sum_columns, ohm_sum_columns,                                                                \
      (float *sum, const float *x, size_t rows, size_t cols, double *partial),                     \
      (sum, x, rows, cols, partial))                                                               \
    F(scale_gradient, ohm_scale_gradient,                                                          \
      (float *dscale, float *dw, const float *product, const float *w, const float *scale,         \
       size_t rows, size_t cols),                                                                  \
      (dscale, dw, product, w, scale, rows, cols))                                                 \
    F(batch_norm_train, ohm_batch_norm_train,                                                      \
      (float *y, float *saved, float *running_mean, float *running_variance, const float *x,       \
       const float *gamma, const float *beta, size_t rows, size_t channels, double momentum,       \
       double epsilon, double *workspace),                                                         \
      (y, saved, running_mean, running_variance, x, gamma, beta, rows, channels, momentum,         \
       epsilon, workspace))                                                                        \
    F(batch_norm_infer, ohm_batch_norm_infer,                                                      \
      (float *y, const float *x, const float *gamma, const float *beta,                            \
       const float *running_mean, const float *running_variance, size_t rows, size_t channels,     \
       double epsilon, double *workspace),                                                         \
      (y, x, gamma, beta, running_mean, running_variance, rows, channels, epsilon, workspace))     \
    F(batch_norm_backward, ohm_batch_norm_backward,                                                \
      (float *dx, float *dgamma, float *dbeta, const float *dy, const float *x,                    \
       const float *saved, const float *gamma, size_t rows, size_t channels, int accumulate,       \
       double *workspace),                                                                         \
      (dx, dgamma, dbeta, dy, x, saved, gamma, rows, channels, accumulate, workspace))             \
    F(max_pool, ohm_max_pool,                                                                      \
      (float *y, uint8_t *which, const float *x, const ohm_pool_shape *s, int images),             \
      (y, which, x, s, images))                                                                    \
    F(max_pool_backward, ohm_max_pool_backward,                                                    \
      (float *dx, const float *dy, const uint8_t *which, const ohm_pool_shape *s, int images,      \
       int accumulate),                                                                            \
      (dx, dy, which, s, images, accumulate))                                                      \
    F(avg_pool, ohm_avg_pool,                                                                      \
      (float *y, const float *x, const ohm_pool_shape *s, int images),                             \
      (y, x, s, images))                                                                           \
    F(avg_pool_backward, ohm_avg_pool_backward,                                                    \
      (float *dx, const float *dy, const ohm_pool_shape *s, int images, int accumulate),           \
      (dx, dy, s, images, accumulate))

/* conv.h, linear layers too: with a workspace; and what is a copy or a fill of memory. */
#define OHM_MEMORY_OPERATIONS(F)                                                                   \
    F(conv_forward, ohm_conv_forward,                                                              \
      (float *y, const float *x, const float *w, const float *bias, const ohm_conv_shape *s,       \
       int images, float *workspace, size_t floats),                                               \
      (y, x, w, bias, s, images, workspace, floats))                                               \
    F(conv_input, ohm_conv_input,                                                                  \
      (float *dx, const float *dy, const float *w, const ohm_conv_shape *s, int images,            \
       int accumulate, float *workspace, size_t floats),                                           \
      (dx, dy, w, s, images, accumulate, workspace, floats))                                       \
    F(conv_weight, ohm_conv_weight,                                                                \
      (float *dw, const float *dy, const float *x, const ohm_conv_shape *s, int images,            \
       float *workspace, size_t floats),                                                           \
      (dw, dy, x, s, images, workspace, floats))                                                   \
    F(copy, ohm_copy, (float *y, const float *x, size_t n), (y, x, n))                             \
    F(fill, ohm_fill, (float *y, float value, size_t n), (y, value, n))

/* What the CPU's kernels take or return by value is in the backend's memory here: range [1];
 * totals->loss_sum and ->correct are added to, and ->squares; sgd and adam take lr and corrections from
 * numbers and the scale from totals, not from the rule, and do nothing where totals->apply is 0; decide
 * is ohm_step_decide. */
#define OHM_STEP_OPERATIONS(F)                                                                     \
    F(range_gradient, ohm_range_gradient,                                                          \
      (float *sum, const float *dx, const float *x, const float *range, size_t n,                  \
       double *partial),                                                                           \
      (sum, dx, x, range, n, partial))                                                             \
    F(softmax_loss, ohm_softmax_loss,                                                              \
      (ohm_step_totals *totals, float *dlogits, const float *logits, const int32_t *labels,        \
       int images, int classes, double smoothing, double scale, double *row_loss),                 \
      (totals, dlogits, logits, labels, images, classes, smoothing, scale, row_loss))              \
    F(sgd, ohm_sgd,                                                                                \
      (float *w, const float *g, float *m, size_t n, const ohm_optimiser_rule *rule,               \
       const ohm_step_numbers *numbers, const ohm_step_totals *totals),                            \
      (w, g, m, n, rule, numbers, totals))                                                         \
    F(adam, ohm_adam,                                                                              \
      (float *w, const float *g, float *m, float *v, size_t n, const ohm_optimiser_rule *rule,     \
       const ohm_step_numbers *numbers, const ohm_step_totals *totals),                            \
      (w, g, m, v, n, rule, numbers, totals))                                                      \
    F(sum_squares, ohm_sum_squares,                                                                \
      (ohm_step_totals *totals, const float *x, size_t n, double *partial),                        \
      (totals, x, n, partial))                                                                     \
    F(decide, ohm_step_decide,                                                                     \
      (ohm_step_totals *totals, const uint32_t *fault, int layers, double clip_norm),              \
      (totals, fault, layers, clip_norm))

/* ranges.h: around a layer's chip. The structs that rules and jobs are come from the host and are read
 * at the call; what they point at is the backend's. */
#define OHM_CHIP_OPERATIONS(F)                                                                     \
    F(input_scale, ohm_input_scale,                                                                \
      (float *scale, float *kept, float *learned, uint32_t *fault, const float *x, size_t count,   \
       const ohm_scale_rule *rule, ohm_selection *selection),                                      \
      (scale, kept, learned, fault, x, count, rule, selection))                                    \
    F(row_scales, ohm_row_scales,                                                                  \
      (float *scale, const float *x, size_t rows, size_t cols, size_t ldx,                         \
       const ohm_scale_rule *rule),                                                                \
      (scale, x, rows, cols, ldx, rule))                                                           \
    F(weight_scales, ohm_weight_scales,                                                            \
      (float *scale, uint32_t *fault, const float *w, size_t n, size_t k,                          \
       const ohm_scale_rule *rule, ohm_selection *selection),                                      \
      (scale, fault, w, n, k, rule, selection))                                                    \
    F(weight_levels, ohm_weight_levels,                                                            \
      (uint8_t *levels, int8_t *codes, float *digital, int32_t *bias_codes,                        \
       const ohm_weight_job *job),                                                                 \
      (levels, codes, digital, bias_codes, job))                                                   \
    F(drive_codes, ohm_drive_codes,                                                                \
      (uint8_t *u, size_t ldu, uint32_t *fault, const float *x, size_t rows, size_t cols,          \
       size_t ldx, const float *scale, int per_row, int qmax, ohm_drive encoding, int bits),       \
      (u, ldu, fault, x, rows, cols, ldx, scale, per_row, qmax, encoding, bits))                   \
    F(append_always_on, ohm_append_always_on,                                                      \
      (uint8_t *u, size_t ldu, const uint8_t *from, size_t ld_from, size_t rows, size_t cols,      \
       const ohm_always_on *always),                                                               \
      (u, ldu, from, ld_from, rows, cols, always))                                                 \
    F(cut_ranges, ohm_cut_ranges,                                                                  \
      (float *range, const uint32_t *histogram, size_t ranges, int bins, double percent),          \
      (range, histogram, ranges, bins, percent))                                                   \
    F(raise_ranges, ohm_raise_ranges, (float *range, const float *other, size_t ranges),           \
      (range, other, ranges))                                                                      \
    F(update_lsb, ohm_update_lsb,                                                                  \
      (float *lsb, float *batches, const float *range, size_t ranges, const ohm_lsb_rule *rule),   \
      (lsb, batches, range, ranges, rule))                                                         \
    F(rescale, ohm_rescale,                                                                        \
      (float *y, size_t ldy, size_t m, size_t n, const ohm_scales *scales, const float *bias),     \
      (y, ldy, m, n, scales, bias))                                                                \
    F(rescale_backward, ohm_rescale_backward,                                                      \
      (float *dsums, float *db, const float *dy, size_t lddy, size_t m, size_t n,                  \
       const ohm_scales *scales, double *partial),                                                 \
      (dsums, db, dy, lddy, m, n, scales, partial))                                                \
    F(unscale, ohm_unscale,                                                                        \
      (float *sums, const float *y, size_t ldy, size_t m, size_t n, const ohm_scales *scales,      \
       const float *bias),                                                                         \
      (sums, y, ldy, m, n, scales, bias))                                                          \
    F(scale_gradients, ohm_scale_gradients,                                                        \
      (float *dx_range, float *dcolumn_scale, const float *dy, size_t lddy, const float *sums,     \
       size_t m, size_t n, const ohm_scales *scales, double *partial),                             \
      (dx_range, dcolumn_scale, dy, lddy, sums, m, n, scales, partial))                            \
    F(drive_backward, ohm_drive_backward,                                                          \
      (float *dx, size_t lddx, float *dx_range, const float *dcodes, size_t ldd, const float *x,   \
       size_t ldx, size_t m, size_t k, const ohm_scales *scales, double *partial),                 \
      (dx, lddx, dx_range, dcodes, ldd, x, ldx, m, k, scales, partial))                            \
    F(weight_backward, ohm_weight_backward,                                                        \
      (float *dw, const float *dcodes, size_t ldd, const float *w, size_t n, size_t k,             \
       const ohm_scales *scales),                                                                  \
      (dw, dcodes, ldd, w, n, k, scales))

#define OHM_OPERATIONS(F)                                                                          \
    OHM_LAYER_OPERATIONS(F)                                                                        \
    OHM_MEMORY_OPERATIONS(F)                                                                       \
    OHM_STEP_OPERATIONS(F)                                                                         \
    OHM_CHIP_OPERATIONS(F)
/* clang-format on */

typedef struct ohm_backend {
    const char *name;
    /* Most that will work at once: workspace is planned for so many. A device: pieces of a layer's
     * patches. */
    int (*threads)(void);
    /* Whether device number `index` can be used; automatic: whether to take it unasked. CPU: NULL. */
    int (*usable)(int index, int automatic);
    /* The name and memory of device number `index`. OHM_ERR_UNSUPPORTED: there is none, and why. CPU:
     * NULL. */
    ohm_status (*describe)(char *name, size_t room, size_t *bytes, int index);
    /* Whether it can run the experiment; the line says what it cannot. NULL: whatever there is. */
    ohm_status (*check)(const ohm_config *config);
    /* The built-in simulator in this backend's memory; NULL: it has none. */
    const ohm_simulator *analog;

    /* Where the system's tools find device number `index`: "0000:3b:00.0", "" nowhere. CPU: NULL. */
    void (*address)(char *text, size_t room, int index);
    /* CUDA versions of its driver and of the runtime, 1000·major + 10·minor; 0: not known. CPU: NULL. */
    void (*versions)(int *driver, int *runtime, int index);

    /* ---- memory and time: NULL for the CPU, whose buffers are host memory and whose operations are
     * done when they return ---- */

    /* Takes the device into use. close is NULL-safe. */
    ohm_status (*open)(ohm_device **device, const ohm_config *config);
    void (*close)(ohm_device *device);
    /* A zeroed block of the arena, and the bytes there are; a host block that uploads may come from. */
    ohm_status (*available)(ohm_device *device, size_t *bytes);
    ohm_status (*reserve)(ohm_device *device, void **block, size_t bytes);
    void (*release)(ohm_device *device, void *block);
    ohm_status (*reserve_host)(ohm_device *device, void **block, size_t bytes);
    void (*release_host)(ohm_device *device, void *block);
    /* Queued: `host` must stay as it is until the next wait. */
    void (*upload)(ohm_device *device, void *to, const void *host, size_t bytes);
    void (*download)(ohm_device *device, void *host, const void *from, size_t bytes);
    void (*set_bytes)(ohm_device *device, void *to, int byte, size_t bytes);
    /* Until everything queued is done. */
    ohm_status (*wait)(ohm_device *device);
    /* The first failure so far, without waiting. */
    ohm_status (*status)(ohm_device *device);
    /* What the operations that follow belong to, for error texts: a phase, and a layer or NULL. Both
     * must stay. */
    void (*mark)(ohm_device *device, const char *phase, const char *layer);
    /* What is queued between record and recorded is kept instead of run; replay queues all of it. */
    ohm_status (*record)(ohm_device *device);
    ohm_status (*recorded)(ohm_device *device);
    void (*drop_recording)(ohm_device *device); /* instead of recorded, after a failure */
    ohm_status (*replay)(ohm_device *device);

    /* Sizes of workspace, as the headers of the kernels have them. */
    size_t (*conv_forward_floats)(const ohm_conv_shape *s, int images, int threads);
    size_t (*conv_input_floats)(const ohm_conv_shape *s, int images, int threads);
    size_t (*conv_weight_floats)(const ohm_conv_shape *s, int images, int threads);
    size_t (*column_partials)(size_t rows, size_t cols);
    size_t (*batch_norm_doubles)(size_t rows, size_t channels);
    size_t (*sum_squares_blocks)(size_t n);

#define OHM_OPERATION_ENTRY(name, kernel, parameters, arguments)                                   \
    void (*name)(ohm_device *device, OHM_UNPACK parameters);
    OHM_OPERATIONS(OHM_OPERATION_ENTRY)
} ohm_backend;

/* The backend that config->device asks for; `auto` takes a device where there is one that can run the
 * experiment, else the CPU. OHM_ERR_UNSUPPORTED: this build or machine lacks it, or it cannot run the
 * experiment; the line says which. */
ohm_status ohm_backend_find(const ohm_backend **backend, const ohm_config *config);
extern const ohm_backend ohm_backend_cpu;

/* The number of the device that config->device asks for. */
static inline int ohm_backend_index(const ohm_config *config)
{
    return config->device.kind == OHM_DEVICE_CUDA ? (int)config->device.value : 0;
}

/* One line for people: what this build and machine have. */
void ohm_backend_list(char *text, size_t room);
/* One line: what ohm_backend_find finds, "cpu" or "cuda:0, NVIDIA H100"; and the bytes of its memory
 * (the CPU: 0, for ohm_memory_available and ohm_plan_physical know). */
ohm_status ohm_backend_describe(char *text, size_t room, size_t *bytes, const ohm_config *config);
/* The same for people: why `auto` left a device that is there, too: "cpu: key 'train.full': ...". */
enum { OHM_BACKEND_LINE_BYTES = 900 };
ohm_status ohm_backend_announce(char *text, size_t room, const ohm_config *config);
/* Before a command writes anything: one backend for all of the values `mode` of train.mode, at least one,
 * that it will use, announced in `text`. config->device becomes cpu where it is the CPU, which `auto`
 * takes for all where the device refuses one. Errors: as _find and _describe. */
ohm_status ohm_backend_settle(char *text, size_t room, ohm_config *config, const int *mode,
                              int modes);
/* What a result was computed on. "", 0: not known, or the CPU. */
typedef struct {
    const char *backend; /* "cpu", "cuda" */
    char device[256];    /* "NVIDIA H100 80GB HBM3" */
    char driver[64];     /* "570.86.15" */
    int cuda_driver, cuda_runtime; /* as backend->versions */
} ohm_backend_facts;
/* Errors: as _find and _describe. */
ohm_status ohm_backend_about(ohm_backend_facts *facts, const ohm_config *config);
/* backend->address of it; the CPU: "". */
void ohm_backend_address(char *text, size_t room, const ohm_config *config);
/* Bytes of it that are free now; takes a device into use for the moment. */
ohm_status ohm_backend_available(size_t *bytes, const ohm_config *config);

#endif
