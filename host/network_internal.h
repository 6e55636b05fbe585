/* What the files of the network share: network.c (steps), network_plan.c (memory),
 * network_parameters.c (weights and their optimiser), layer_*.c (one layer each). */
#ifndef OHM_HOST_NETWORK_INTERNAL_H
#define OHM_HOST_NETWORK_INTERNAL_H

#include "host/backend.h"
#include "host/network.h"
#include "host/noisy.h"

enum { OHM_NO_BUFFER = -1 };

typedef enum {
    OHM_ROLE_WEIGHT,   /* [N,K]; batch norm: gamma */
    OHM_ROLE_BIAS,     /* [N]; batch norm: beta */
    OHM_ROLE_MEAN,     /* batch norm's running statistics, or the learned scale of each column */
    OHM_ROLE_VARIANCE, /* ..., or the learned full scale of x */
    OHM_ROLE_CHIP,     /* the chip's ranges */
    OHM_ROLE_COUNT,
    OHM_ROLE_COLUMN_SCALE = OHM_ROLE_MEAN,
    OHM_ROLE_X_RANGE = OHM_ROLE_VARIANCE,
} ohm_role;

/* Where the gradient of an operand goes. */
typedef enum {
    OHM_GRADIENT_NONE,       /* images */
    OHM_GRADIENT_WRITE,      /* first consumer in backward order */
    OHM_GRADIENT_ACCUMULATE, /* a later layer has written already */
    OHM_GRADIENT_IN_PLACE,   /* the operand's gradient takes over the buffer of the output's */
} ohm_gradient_route;

/* What a forward pass of a layer needs of the arena; OHM_NO_BUFFER where there is none. */
typedef struct {
    int value;             /* output [images, out_floats] */
    int saved;             /* batch norm: mean and 1/deviation; max pool: winners */
    int forward_workspace;
    int state, scratch;    /* of the simulator */
    int kept;              /* mode full: what the backward pass needs of every read (train.full: save) */
} ohm_layer_buffers;

typedef struct {
    ohm_layer_desc desc;
    int index;
    int segment, recomputed;   /* its forward runs again before its segment's backward */
    int again_tick, back_tick; /* ticks of that, and of its backward */
    int at, until, pass_end;   /* while planning: tick of the forward; last tick of what backward needs, and of
                                * the forward pass around it */
    int again_end;             /* last tick of the segment's recomputation */
    ohm_conv_shape conv; /* linear and conv */
    ohm_pool_shape pool;
    size_t in_floats, out_floats; /* of one image */
    int out_height, out_width, out;

    int parameter[OHM_ROLE_COUNT]; /* index in the network's list, or -1 */
    ohm_noisy *noisy;              /* NULL: never on a chip */

    /* arena ids, OHM_NO_BUFFER where there is none */
    ohm_layer_buffers now, first, again; /* in use; of the forward pass; of the recomputation */
    int gradient;                        /* of the output */
    int backward_workspace;
    size_t forward_floats, backward_floats;
    int own_gradient;   /* gradient of x by this layer alone, for a learned range */
    int chunk_rows;     /* rows per call of the noisy layer */
    ohm_gradient_route route, other_route;
    int programmed; /* mode full: the forward pass left a programmed chip for backward */
} ohm_layer;

/* What the host and a device exchange, page-locked; nothing on the CPU, where it is the arena's. A
 * slot holds the images and labels of one pass. */
typedef struct {
    void *block;
    ohm_step_totals *totals;
    ohm_step_numbers *numbers;
    uint32_t *faults; /* [layers] */
    float *images;   /* [2][slots][max_batch, pixels]: the second are spare */
    int32_t *labels; /* [2][slots][max_batch] */
    int slots, slot; /* there are; that the next pass takes its images from */
    int filling;     /* the spare slots are being filled */
    int64_t spare;   /* 1 + the step that they hold; 0: none */
    int queued;      /* slots 0 .. queued-1 may still be read by uploads */
    int stepping;    /* between the begin and the end of a step: its numbers are in place */
    int stepped;     /* a whole step has run: what a device prepares at first use is prepared */
    int recorded;    /* a step is recorded that can be replayed */
} ohm_host_side;

struct ohm_network {
    ohm_architecture architecture;
    ohm_config config;
    ohm_network_options options;
    const ohm_backend *backend;
    ohm_device *device; /* NULL: the CPU, or a plan alone */
    ohm_arena *arena;
    ohm_trace *trace; /* not owned; NULL: none */
    int traces_steps; /* ohm_network_trace_steps is on */
    ohm_layer layer[OHM_LAYERS_MAX];
    int count;                                   /* layers */
    int threads;                                 /* the most that the workspaces are planned for */
    int plans_chip;                              /* memory for the simulator is planned */
    int segments, recomputing;                   /* network_segments.c; a recomputation runs */
    int update_tick;
    int images, labels, row_loss, norm_partials; /* arena ids */
    int totals, numbers, faults;                 /* ohm_step_totals, ohm_step_numbers, [layers] of ohm_fault */
    ohm_host_side host;

    ohm_parameter *parameter;
    char (*parameter_name)[64];
    int (*parameter_ids)[4]; /* value, gradient, moment1, moment2 */
    int parameters;
};

/* ---- network_segments.c ---- */
/* Cuts the network as train.recompute_segments says, and gives every pass of a layer its tick. */
ohm_status ohm_network_cut(ohm_network *network);

/* ---- network_plan.c ---- */
ohm_status ohm_network_shapes(ohm_network *network);
ohm_status ohm_network_plan(ohm_network *network);
/* Adds a buffer of `bytes` and sets *id; 0 bytes: OHM_NO_BUFFER. */
ohm_status ohm_network_buffer(ohm_network *network, int *id, const char *layer, const char *what,
                              size_t bytes, ohm_memory_category category, int first, int last);

/* ---- network_parameters.c ---- */
ohm_status ohm_network_list_parameters(ohm_network *network);
ohm_status ohm_network_plan_parameters(ohm_network *network);
void ohm_network_bind_parameters(ohm_network *network);
ohm_status ohm_network_initialise(ohm_network *network);

/* ---- network_host.c ---- */
ohm_status ohm_network_open(ohm_network *network);
void ohm_network_close(ohm_network *network);
/* Queues the upload of the slot's images and labels. */
void ohm_network_upload(ohm_network *network, int images);
/* The labels of the pass at work, in host memory. */
const int32_t *ohm_network_pass_labels(const ohm_network *network);
ohm_step_totals *ohm_network_totals_at(const ohm_network *network); /* in the backend's memory */
uint32_t *ohm_network_faults_at(const ohm_network *network);        /* too */
/* The step of the draws in the backend's memory, within a step of a device; else NULL. */
const uint32_t *ohm_network_step_at(const ohm_network *network);
ohm_status ohm_network_set_numbers(ohm_network *network, double lr, int64_t step);
/* What was recorded no longer holds. */
void ohm_network_forget_recording(ohm_network *network);
/* The first failure on the backend so far. */
ohm_status ohm_network_status(const ohm_network *network);
void ohm_network_mark(const ohm_network *network, const char *phase, const char *layer);

/* ---- layers ---- */
typedef struct {
    ohm_status (*forward)(ohm_network *network, ohm_layer *layer, const ohm_pass *pass);
    ohm_status (*backward)(ohm_network *network, ohm_layer *layer, const ohm_pass *pass);
} ohm_layer_verbs;

const ohm_layer_verbs *ohm_layer_verbs_of(int kind);

ohm_status ohm_matrix_forward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass);
ohm_status ohm_matrix_backward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass);
/* y of a matrix layer without a chip. */
void ohm_matrix_clean(ohm_network *network, ohm_layer *layer, int images);
ohm_status ohm_matrix_plan(ohm_network *network, ohm_layer *layer);

ohm_status ohm_noisy_layer_create(ohm_network *network, ohm_layer *layer);
ohm_status ohm_noisy_layer_plan(ohm_network *network, ohm_layer *layer);
ohm_status ohm_noisy_layer_forward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass);
ohm_status ohm_noisy_layer_backward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass);
/* Its backward pass looks at what its forward pass gave: train.full: save where scales are learned. */
int ohm_noisy_layer_keeps_output(const ohm_network *network, const ohm_layer *layer);
size_t ohm_noisy_layer_scratch_bytes(const ohm_network *network, const ohm_layer *layer);

ohm_status ohm_norm_forward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass);
ohm_status ohm_norm_backward(ohm_network *network, ohm_layer *layer, const ohm_pass *pass);
ohm_status ohm_norm_plan(ohm_network *network, ohm_layer *layer);
ohm_status ohm_pool_plan(ohm_network *network, ohm_layer *layer);

/* ---- buffers of a layer ---- */
static inline float *ohm_network_at(const ohm_network *network, int id)
{
    return id == OHM_NO_BUFFER ? NULL : ohm_arena_at(network->arena, id);
}

/* Output of layer `index`, or the images for -1. */
static inline float *ohm_network_value(const ohm_network *network, int index)
{
    return ohm_network_at(network, index < 0 ? network->images : network->layer[index].now.value);
}

/* Gradient of that; NULL for the images. */
static inline float *ohm_network_gradient(const ohm_network *network, int index)
{
    return index < 0 ? NULL : ohm_network_at(network, network->layer[index].gradient);
}

static inline ohm_parameter *ohm_layer_parameter(const ohm_network *network, const ohm_layer *layer,
                                                 ohm_role role)
{
    int at = layer->parameter[role];
    return at < 0 ? NULL : &network->parameter[at];
}

static inline float *ohm_layer_value_of(const ohm_network *network, const ohm_layer *layer,
                                        ohm_role role)
{
    const ohm_parameter *parameter = ohm_layer_parameter(network, layer, role);
    return parameter ? parameter->value : NULL;
}

static inline float *ohm_layer_gradient_of(const ohm_network *network, const ohm_layer *layer,
                                           ohm_role role)
{
    const ohm_parameter *parameter = ohm_layer_parameter(network, layer, role);
    return parameter ? parameter->gradient : NULL;
}

static inline int ohm_layer_is_matrix(int kind)
{
    return kind == OHM_LAYER_LINEAR || kind == OHM_LAYER_CONV;
}

/* A first forward pass keeps nothing for a backward pass that follows a recomputation. */
static inline int ohm_layer_keeps(const ohm_network *network, const ohm_layer *layer)
{
    return !layer->recomputed || network->recomputing;
}

static inline size_t ohm_layer_out_count(const ohm_layer *layer, int images)
{
    return (size_t)images * layer->out_floats;
}

#endif
