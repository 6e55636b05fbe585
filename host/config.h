/* Experiment configuration: what to train, on which data, through which chip. Read from YAML by
 * libyaml's document API, walked by the option tables; every scalar is parsed strictly, unknown
 * and duplicate keys are refused with file:line:column and the nearest valid key. */
#ifndef OHM_HOST_CONFIG_H
#define OHM_HOST_CONFIG_H

#include <stdint.h>
#include <stdio.h>

#include "host/hardware.h"
#include "host/option.h"

typedef enum { OHM_MODE_BASELINE, OHM_MODE_FULL, OHM_MODE_DETACH, OHM_MODE_NOGRAD, OHM_MODES } ohm_gradient_mode;
/* What mode full needs of the forward pass's reads: drawn again from the same counters, or kept. */
typedef enum { OHM_FULL_RECOMPUTE, OHM_FULL_SAVE } ohm_full_memory;
enum { OHM_VARIANTS = OHM_MODES + 1 }; /* rows of Table III: full counts twice */
typedef enum { OHM_NET_MLP, OHM_NET_LENET5, OHM_NET_VGG8, OHM_NET_VGG11, OHM_NET_RESNET20, OHM_NET_RESNET18 } ohm_network_kind;
typedef enum { OHM_DATA_DIGITS, OHM_DATA_MNIST, OHM_DATA_CIFAR10 } ohm_data_kind;
typedef enum { OHM_OPTIMISER_SGD, OHM_OPTIMISER_ADAM, OHM_OPTIMISER_ADAMW } ohm_optimiser_kind;
typedef enum { OHM_SCHEDULE_CONSTANT, OHM_SCHEDULE_COSINE, OHM_SCHEDULE_STEP } ohm_schedule_kind;
typedef enum { OHM_DEVICE_AUTO, OHM_DEVICE_CPU, OHM_DEVICE_CUDA } ohm_device_kind;

typedef struct ohm_config {
    char name[OHM_NAME_BYTES];
    int64_t seed;                     /* 0 .. 2^32-1 */
    int threads;                      /* 0 = all cores */
    ohm_mode device;                  /* ohm_device_kind; cuda: which */
    struct { int kind; int width; int hidden_layers; } network; /* width: MLP hidden units; others ignore */
    struct {
        int kind;
        char dir[OHM_PATH_BYTES];     /* "" = built in (digits) or ./data/<set> */
        int image_size;               /* 0 = native; digits and MNIST are resized to it */
        int crop, flip;               /* padding of the random crop in pixels (0 = off); horizontal flip */
        int train_limit, test_limit;  /* 0 = all */
    } data;
    struct {
        int mode;                     /* ohm_gradient_mode */
        int full;                     /* ohm_full_memory, of mode full */
        int steps, epochs;            /* steps > 0 wins over epochs */
        int recompute_segments;       /* 0 = activations are kept; else computed again in the backward pass, all segments but the last */
        int batch, micro_batch;       /* micro_batch 0 = batch; else must divide batch: gradient accumulation */
        int optimiser, schedule;
        double lr, momentum, beta1, beta2, epsilon, weight_decay;
        int nesterov;
        int warmup_steps;
        int milestone_steps;          /* step schedule: lr *= gamma every so many steps */
        double gamma, lr_final;       /* lr_final: share of lr where the cosine ends */
        double clip_norm;             /* 0 = off */
        double label_smoothing;
        int calibration_batches;      /* before step 0, for calibrated and learned ranges */
        int eval_every, checkpoint_every, log_every; /* steps; 0 = only at the end */
        int keep;                     /* checkpoints kept, at least 2 */
        int noisy_first, noisy_last;  /* whether the first and last layer run on the chip too */
        int gemm;                     /* ohm_gemm_precision */
        int record;                   /* a device replays its second step */
        int64_t workspace_mib;        /* bound of patch and simulator workspace */
    } train;
    struct { int chips, batch; } eval; /* chip instances, images per batch */
    struct { ohm_coefficients seeds, levels; } demo; /* of `ohmgrad demo`: whole seeds; programming.level of each evaluation */
    int hardware_enabled;             /* false: no chip at all (plain digital training) */
    ohm_hardware hardware;
} ohm_config;

extern const ohm_option_table ohm_config_options;   /* keys of the experiment, without hardware */
extern const ohm_option_table ohm_hardware_options; /* keys of one chip */

const char *ohm_mode_name(int mode);                /* as train.mode takes it */
/* Gradient modes, mode full once with each memory: baseline, full, full:save, detach, nograd. */
const char *ohm_variant_name(int variant);
int ohm_variant_of(const ohm_config *config);
void ohm_variant_set(ohm_config *config, int variant);

/* Reads an experiment. `hardware:` is a preset name, a path to a hardware YAML (relative to the
 * file that names it), a mapping (with `base:`), or `none`. NULL path: all defaults. */
ohm_status ohm_config_read(ohm_config *config, const char *path);
/* The same from memory; `name` stands for the path in messages. */
ohm_status ohm_config_parse(ohm_config *config, const char *text, size_t bytes, const char *name);
/* Reads a chip: a preset's name or a YAML path. */
ohm_status ohm_hardware_read(ohm_hardware *hardware, const char *name_or_path);
/* Applies "key=value". Experiment: hardware keys carry the prefix "hardware."; `hardware=NAME` replaces the chip. */
ohm_status ohm_config_set(ohm_config *config, const char *assignment);
ohm_status ohm_hardware_set(ohm_hardware *hardware, const char *assignment);
/* Checks what involves several keys; both readers call it, and so must whoever calls _set last. */
ohm_status ohm_config_check(const ohm_config *config);
ohm_status ohm_hardware_check(const ohm_hardware *hardware);
/* The effective configuration as YAML that ohm_config_read takes back to the same struct. */
void ohm_config_print(const ohm_config *config, FILE *out);
char *ohm_config_text(const ohm_config *config); /* the same as a string of the caller's (free); NULL: out of memory */
void ohm_hardware_print(const ohm_hardware *hardware, FILE *out);
/* Preset names (built-in list found in the preset folder), NULL-terminated; owned by the caller, free with ohm_strings_free. */
ohm_status ohm_hardware_presets(char ***names);
void ohm_strings_free(char **names);

#endif
