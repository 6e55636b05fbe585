/* The operations a network needs, as a table of functions over the backend's buffers. Layers call
 * nothing else, so a device joins by filling a table of its own.
 *
 * Buffers are addresses that the backend understands, planned by the arena; the CPU's are host
 * memory. Contracts, shapes and determinism are those of the headers in kernels/ that the entries
 * are named after. Every entry takes what `open` gave (the CPU: NULL). Operations may be queued: the
 * host sees their results after `wait`. They neither allocate nor fail where they are called: the
 * first failure is kept, later ones do nothing, and `status` and `wait` tell it. An operation that a
 * backend lacks is reported by `supports` when a network is made, and that is an error, never a
 * fallback. */
#ifndef OHM_HOST_BACKEND_H
#define OHM_HOST_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#include "host/config.h"
#include "host/status.h"
#include "kernels/gemm_cuda.h"
#include "kernels/im2col.h"
#include "kernels/optimiser.h"
#include "kernels/pool.h"

typedef enum {
    OHM_OP_CONV,
    OHM_OP_COLUMN_SCALE,
    OHM_OP_PATCHES,
    OHM_OP_BATCH_NORM,
    OHM_OP_RELU,
    OHM_OP_ADD,
    OHM_OP_MAX_POOL,
    OHM_OP_AVG_POOL,
    OHM_OP_LOSS,
    OHM_OP_SGD,
    OHM_OP_ADAM,
    OHM_OP_COUNT
} ohm_op;

typedef struct ohm_device ohm_device; /* a backend at work; NULL for the CPU */

typedef struct ohm_backend {
    const char *name;
    int (*supports)(ohm_op op);
    /* Most that will work at once: workspace is planned for so many. A device: pieces of a layer's
     * patches. */
    int (*threads)(void);
    /* Whether device number `index` can be used; automatic: whether to take it unasked. CPU: NULL. */
    int (*usable)(int index, int automatic);
    /* The name and memory of device number `index`. OHM_ERR_UNSUPPORTED: there is none, and why. CPU:
     * NULL. */
    ohm_status (*describe)(char *name, size_t room, size_t *bytes, int index);

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
    int (*has_recording)(const ohm_device *device);
    ohm_status (*replay)(ohm_device *device);

    /* kernels/conv.h; linear layers too */
    size_t (*conv_forward_floats)(const ohm_conv_shape *s, int images, int threads);
    size_t (*conv_input_floats)(const ohm_conv_shape *s, int images, int threads);
    size_t (*conv_weight_floats)(const ohm_conv_shape *s, int images, int threads);
    void (*conv_forward)(ohm_device *device, float *y, const float *x, const float *w,
                         const float *bias, const ohm_conv_shape *s, int images, float *workspace,
                         size_t floats);
    void (*conv_input)(ohm_device *device, float *dx, const float *dy, const float *w,
                       const ohm_conv_shape *s, int images, int accumulate, float *workspace,
                       size_t floats);
    void (*conv_weight)(ohm_device *device, float *dw, const float *dy, const float *x,
                        const ohm_conv_shape *s, int images, float *workspace, size_t floats);

    /* kernels/im2col.h */
    void (*patches)(ohm_device *device, float *patches, const float *x, const ohm_conv_shape *s,
                    size_t first_row, int rows);
    void (*patches_of_codes)(ohm_device *device, uint8_t *patches, const uint8_t *x,
                             uint8_t outside, const ohm_conv_shape *s, size_t first_row, int rows);
    void (*scatter)(ohm_device *device, float *dx, const float *patches, const ohm_conv_shape *s,
                    size_t first_row, int rows);

    /* kernels/activation.h */
    void (*relu)(ohm_device *device, float *y, const float *x, size_t n);
    void (*relu_backward)(ohm_device *device, float *dx, const float *dy, const float *y, size_t n,
                          int accumulate);
    void (*add)(ohm_device *device, float *y, const float *a, const float *b, size_t n);
    void (*straight_through)(ohm_device *device, float *y, const float *noisy, size_t n);
    void (*copy)(ohm_device *device, float *y, const float *x, size_t n);
    void (*fill)(ohm_device *device, float *y, float value, size_t n);
    void (*scale_columns)(ohm_device *device, float *y, const float *x, const float *scale,
                          size_t rows, size_t cols);
    void (*add_row)(ohm_device *device, float *y, const float *row, size_t rows, size_t cols);
    size_t (*column_partials)(size_t rows, size_t cols);
    void (*sum_columns)(ohm_device *device, float *sum, const float *x, size_t rows, size_t cols,
                        double *partial);
    void (*scale_gradient)(ohm_device *device, float *dscale, float *dw, const float *product,
                           const float *w, const float *scale, size_t rows, size_t cols);
    /* range [1]: in the backend's memory */
    void (*range_gradient)(ohm_device *device, float *sum, const float *dx, const float *x,
                           const float *range, size_t n, double *partial);

    /* kernels/batchnorm.h */
    size_t (*batch_norm_doubles)(size_t rows, size_t channels);
    void (*batch_norm_train)(ohm_device *device, float *y, float *saved, float *running_mean,
                             float *running_variance, const float *x, const float *gamma,
                             const float *beta, size_t rows, size_t channels, double momentum,
                             double epsilon, double *workspace);
    void (*batch_norm_infer)(ohm_device *device, float *y, const float *x, const float *gamma,
                             const float *beta, const float *running_mean,
                             const float *running_variance, size_t rows, size_t channels,
                             double epsilon, double *workspace);
    void (*batch_norm_backward)(ohm_device *device, float *dx, float *dgamma, float *dbeta,
                                const float *dy, const float *x, const float *saved,
                                const float *gamma, size_t rows, size_t channels, int accumulate,
                                double *workspace);

    /* kernels/pool.h */
    void (*max_pool)(ohm_device *device, float *y, uint8_t *which, const float *x,
                     const ohm_pool_shape *s, int images);
    void (*max_pool_backward)(ohm_device *device, float *dx, const float *dy, const uint8_t *which,
                              const ohm_pool_shape *s, int images, int accumulate);
    void (*avg_pool)(ohm_device *device, float *y, const float *x, const ohm_pool_shape *s,
                     int images);
    void (*avg_pool_backward)(ohm_device *device, float *dx, const float *dy,
                              const ohm_pool_shape *s, int images, int accumulate);

    /* kernels/softmax.h; adds to totals->loss_sum and ->correct */
    void (*softmax_loss)(ohm_device *device, ohm_step_totals *totals, float *dlogits,
                         const float *logits, const int32_t *labels, int images, int classes,
                         double smoothing, double scale, double *row_loss);

    /* kernels/optimiser.h; totals, numbers and parameters in the backend's memory. The rule's lr,
     * corrections and gradient_scale do not count, and nothing happens where totals->apply is 0. */
    void (*sgd)(ohm_device *device, float *w, const float *g, float *m, size_t n,
                const ohm_optimiser_rule *rule, const ohm_step_numbers *numbers,
                const ohm_step_totals *totals);
    void (*adam)(ohm_device *device, float *w, const float *g, float *m, float *v, size_t n,
                 const ohm_optimiser_rule *rule, const ohm_step_numbers *numbers,
                 const ohm_step_totals *totals);
    size_t (*sum_squares_blocks)(size_t n);
    /* totals->squares += */
    void (*sum_squares)(ohm_device *device, ohm_step_totals *totals, const float *x, size_t n,
                        double *partial);
    /* ohm_step_decide */
    void (*decide)(ohm_device *device, ohm_step_totals *totals, double clip_norm);
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

#endif
