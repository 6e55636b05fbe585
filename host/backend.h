/* The operations a network needs, as a table of functions over the backend's buffers. Layers call
 * nothing else, so a device joins by filling a table of its own.
 *
 * Buffers are addresses that the backend understands, planned by the arena; the CPU's are host
 * memory. Contracts, shapes and determinism are those of the headers in kernels/ that the entries
 * are named after. Operations neither allocate nor fail; an operation that a backend lacks is
 * reported by `supports` when a network is made, and that is an error, never a fallback. */
#ifndef OHM_HOST_BACKEND_H
#define OHM_HOST_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#include "host/status.h"
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

typedef struct ohm_backend {
    const char *name;
    int (*supports)(ohm_op op);
    int (*threads)(void); /* most that will work at once: workspace is planned for so many */

    /* kernels/conv.h; linear layers too */
    size_t (*conv_forward_floats)(const ohm_conv_shape *s, int images, int threads);
    size_t (*conv_input_floats)(const ohm_conv_shape *s, int images, int threads);
    size_t (*conv_weight_floats)(const ohm_conv_shape *s, int images, int threads);
    void (*conv_forward)(float *y, const float *x, const float *w, const float *bias,
                         const ohm_conv_shape *s, int images, float *workspace, size_t floats);
    void (*conv_input)(float *dx, const float *dy, const float *w, const ohm_conv_shape *s,
                       int images, int accumulate, float *workspace, size_t floats);
    void (*conv_weight)(float *dw, const float *dy, const float *x, const ohm_conv_shape *s,
                        int images, float *workspace, size_t floats);

    /* kernels/im2col.h */
    void (*patches)(float *patches, const float *x, const ohm_conv_shape *s, size_t first_row,
                    int rows);
    void (*patches_of_codes)(uint8_t *patches, const uint8_t *x, uint8_t outside,
                             const ohm_conv_shape *s, size_t first_row, int rows);
    void (*scatter)(float *dx, const float *patches, const ohm_conv_shape *s, size_t first_row,
                    int rows);

    /* kernels/activation.h */
    void (*relu)(float *y, const float *x, size_t n);
    void (*relu_backward)(float *dx, const float *dy, const float *y, size_t n, int accumulate);
    void (*add)(float *y, const float *a, const float *b, size_t n);
    void (*straight_through)(float *y, const float *noisy, size_t n);
    void (*copy)(float *y, const float *x, size_t n);
    void (*fill)(float *y, float value, size_t n);
    void (*scale_columns)(float *y, const float *x, const float *scale, size_t rows, size_t cols);
    void (*add_row)(float *y, const float *row, size_t rows, size_t cols);
    size_t (*column_partials)(size_t rows, size_t cols);
    void (*sum_columns)(float *sum, const float *x, size_t rows, size_t cols, double *partial);
    void (*scale_gradient)(float *dscale, float *dw, const float *product, const float *w,
                           const float *scale, size_t rows, size_t cols);
    void (*range_gradient)(float *sum, const float *dx, const float *x, float range, size_t n,
                           double *partial);

    /* kernels/batchnorm.h */
    size_t (*batch_norm_doubles)(size_t rows, size_t channels);
    void (*batch_norm_train)(float *y, float *saved, float *running_mean, float *running_variance,
                             const float *x, const float *gamma, const float *beta, size_t rows,
                             size_t channels, double momentum, double epsilon, double *workspace);
    void (*batch_norm_infer)(float *y, const float *x, const float *gamma, const float *beta,
                             const float *running_mean, const float *running_variance, size_t rows,
                             size_t channels, double epsilon, double *workspace);
    void (*batch_norm_backward)(float *dx, float *dgamma, float *dbeta, const float *dy,
                                const float *x, const float *saved, const float *gamma, size_t rows,
                                size_t channels, int accumulate, double *workspace);

    /* kernels/pool.h */
    void (*max_pool)(float *y, uint8_t *which, const float *x, const ohm_pool_shape *s, int images);
    void (*max_pool_backward)(float *dx, const float *dy, const uint8_t *which,
                              const ohm_pool_shape *s, int images, int accumulate);
    void (*avg_pool)(float *y, const float *x, const ohm_pool_shape *s, int images);
    void (*avg_pool_backward)(float *dx, const float *dy, const ohm_pool_shape *s, int images,
                              int accumulate);

    /* kernels/softmax.h */
    double (*softmax_loss)(float *dlogits, int *correct, const float *logits, const int32_t *labels,
                           int images, int classes, double smoothing, double scale,
                           double *row_loss);

    /* kernels/optimiser.h */
    void (*sgd)(float *w, const float *g, float *m, size_t n, const ohm_optimiser_rule *rule);
    void (*adam)(float *w, const float *g, float *m, float *v, size_t n,
                 const ohm_optimiser_rule *rule);
    size_t (*sum_squares_blocks)(size_t n);
    double (*sum_squares)(const float *x, size_t n, double *partial);
} ohm_backend;

/* The backend for config->device (ohm_device_kind). OHM_ERR_UNSUPPORTED where this build has none. */
ohm_status ohm_backend_find(const ohm_backend **backend, int device);
extern const ohm_backend ohm_backend_cpu;

#endif
