/* Networks: an architecture (immutable description, built by models/) and a network (weights,
 * planned memory, state). Activations are NHWC; linear and convolution weights are [N,K] with
 * K = (kernel row, kernel column, channel). */
#ifndef OHM_HOST_NETWORK_H
#define OHM_HOST_NETWORK_H

#include "host/arena.h"
#include "host/chip.h"
#include "host/config.h"
#include "host/trace.h"

typedef enum { OHM_LAYER_LINEAR, OHM_LAYER_CONV, OHM_LAYER_BATCH_NORM, OHM_LAYER_RELU, OHM_LAYER_MAX_POOL, OHM_LAYER_AVG_POOL,
               OHM_LAYER_GLOBAL_AVG_POOL, OHM_LAYER_ADD, OHM_LAYER_KINDS } ohm_layer_kind;

enum { OHM_LAYERS_MAX = 128, OHM_LAYER_NAME_BYTES = 48 };

typedef struct {
    int kind;
    int input, other;      /* index of the layer whose output is read (-1 = the images); other: second operand of ADD */
    int out;               /* output channels or units */
    int kernel, stride, pad;
    int bias;              /* linear and conv */
    int noisy;             /* runs on the chip when the experiment has one */
    char name[OHM_LAYER_NAME_BYTES]; /* "layer1.0.conv1": parameters are name.weight, name.bias, ... */
} ohm_layer_desc;

typedef struct {
    char name[64];
    int height, width, channels, classes; /* of the images */
    int count;
    ohm_layer_desc layer[OHM_LAYERS_MAX]; /* in order of execution; the last one gives the logits */
} ohm_architecture;

typedef struct ohm_network ohm_network;

typedef struct {
    int max_batch;         /* most images per forward call (a micro-batch) */
    int training;          /* 0: no gradients, optimiser or saved activations are planned */
    int checked;           /* for tests: guard words behind buffers, NaN in dead ones (arena.h); a step that overruns fails */
    int every_mode;        /* training passes of modes baseline and nograd are planned beside config->train.mode */
} ohm_network_options;

typedef struct {
    const char *name;
    int rank;
    int64_t shape[4];      /* conv weights: [N, KH, KW, C] in memory */
    size_t count;
    float *value, *gradient, *moment1, *moment2; /* gradient and moments NULL where not planned; in the
                                                  * backend's memory: ohm_network_read, ohm_network_write */
    int decays;            /* weight decay applies (not to biases, norms, ranges) */
    int trainable;         /* 0: a buffer (batch-norm statistics, chip ranges): kept in checkpoints, not optimised */
    int conv;              /* 1: rank-4 convolution weight, written to checkpoints as [N, C, KH, KW] */
} ohm_parameter;

typedef struct {
    int images;            /* <= max_batch */
    uint64_t first_image;  /* position within the step's batch: noise depends on it, not on micro-batches */
    int mode;              /* ohm_gradient_mode; baseline runs no simulator */
    int training;          /* batch statistics, running ranges; else evaluation */
    int calibrating;
    ohm_chip_moment moment;
} ohm_pass;

/* Plans and reserves all memory; weights are initialised from config->seed (He et al. 2015).
 * With training = 1 the plan is that of config->train.mode: `baseline` then holds no simulator memory,
 * and chips are evaluated with a second network (training = 0) and ohm_network_copy_parameters.
 * Workspaces are planned for the threads that OpenMP has now; passes on more are refused. */
ohm_status ohm_network_create(ohm_network **network, const ohm_architecture *architecture, const ohm_config *config, const ohm_network_options *options);
void ohm_network_destroy(ohm_network *network);
/* The plan alone, without reserving: what training would need. */
ohm_status ohm_network_plan_memory(ohm_memory *memory, const ohm_architecture *architecture, const ohm_config *config, const ohm_network_options *options);

/* Where the caller puts the images [max_batch, height, width, channels] and labels [max_batch] of the
 * next forward pass, in host memory. Ask before each: a device may still be reading the last one's. */
float *ohm_network_images(ohm_network *network);
int32_t *ohm_network_labels(ohm_network *network);
/* A device's passes of one step each take theirs from a slot of their own, so that all can be filled
 * ahead; the CPU has one slot. The next images, labels and forward are about slot `slot`. */
int ohm_network_slots(const ohm_network *network);
void ohm_network_use_slot(ohm_network *network, int slot);
/* A device has as many spare slots, which no upload reads: between spare_begin and spare_end, images and
 * labels are about those, to be filled for `step` while the device works. 0: there are none. take_spare copies
 * them into the slots if they are `step`'s, once; 0: they are not. */
int ohm_network_spare_begin(ohm_network *network);
void ohm_network_spare_end(ohm_network *network, int64_t step);
int ohm_network_take_spare(ohm_network *network, int64_t step);
ohm_status ohm_network_forward(ohm_network *network, const ohm_pass *pass);
/* [images, classes], until the next forward; in the backend's memory (ohm_network_read) */
const float *ohm_network_logits(const ohm_network *network);
/* Sum of the losses over the images and number of right answers; in training mode also starts the backward
 * pass: the loss gradient is divided by batch_total, so that micro-batches add up to the one-shot batch.
 * loss_sum NULL (with correct): nothing is waited for, they are added to ohm_network_totals instead. */
ohm_status ohm_network_loss(ohm_network *network, const ohm_pass *pass, int batch_total, double *loss_sum, int *correct);
/* Adds to the gradients. */
ohm_status ohm_network_backward(ohm_network *network, const ohm_pass *pass);
void ohm_network_zero_gradients(ohm_network *network);
/* One optimiser step (step counts from 0), with weight decay, clipping and lr as given. Where the losses
 * of the step are no number, the weights stay as they are. */
ohm_status ohm_network_update(ohm_network *network, double lr, int64_t step);
/* Sum of the losses and right answers since ohm_network_zero_gradients. Waits for a device; what its layers on
 * a chip found wrong with their data (OHM_ERR_DATA) is told here. */
ohm_status ohm_network_totals(ohm_network *network, double *loss_sum, int *correct);

/* A device records the second step of a network, from zeroing the gradients to the update, as a graph, and repeats
 * it: *done = 1, the step with this lr and number is queued from the images in the slots. The CPU, a
 * network with checks and a first step: *done = 0, nothing happened. */
ohm_status ohm_network_replay(ohm_network *network, double lr, int64_t step, int *done);
/* Around the calls of one step, with its lr and number. Between them a device that records runs nothing;
 * `record_end` queues it, or, after a failure `status`, drops it and returns that. */
ohm_status ohm_network_record_begin(ohm_network *network, double lr, int64_t step);
ohm_status ohm_network_record_end(ohm_network *network, ohm_status status);

/* host[count] = the backend's numbers, and back; waits. On the CPU a copy. */
ohm_status ohm_network_read(const ohm_network *network, float *host, const float *from, size_t count);
ohm_status ohm_network_write(const ohm_network *network, float *to, const float *host, size_t count);
/* to[count] of one network's memory = from[count] of another's; both were given by ohm_network_parameters. */
ohm_status ohm_network_transfer(const ohm_network *network, float *to, const ohm_network *source, const float *from, size_t count);
const char *ohm_network_device(const ohm_network *network); /* "cpu", "cuda" */

ohm_parameter *ohm_network_parameters(ohm_network *network, int *count); /* trainable and buffers, in layer order */
/* Every parameter and buffer of `from`; both must be of the same architecture and hardware. */
ohm_status ohm_network_copy_parameters(ohm_network *to, const ohm_network *from);
/* Evaluation on another chip: same shapes, other numbers (noise level, drift time). */
ohm_status ohm_network_set_hardware(ohm_network *network, const ohm_hardware *hardware);
const ohm_memory *ohm_network_memory(const ohm_network *network);
/* Bytes of each category that the plan holds at a tick of the step (trace.h gives their times); returns the sum. */
size_t ohm_network_live(const ohm_network *network, int tick, size_t live[OHM_MEMORY_CATEGORIES]);
/* Ranges of every pass go to `trace`, which must outlive them; NULL: none (so it is at first). */
void ohm_network_set_trace(ohm_network *network, ohm_trace *trace);
/* While on, a trace that records sees what a device does: steps are queued anew instead of replayed, and each
 * recorded kernel range waits for the device. The trace must be set. */
void ohm_network_trace_steps(ohm_network *network, int on);
int ohm_network_threads(const ohm_network *network); /* the most that its workspaces are planned for */
const ohm_architecture *ohm_network_architecture(const ohm_network *network);

#endif
