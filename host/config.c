/* The keys of an experiment: their table, what involves several of them, reading and printing. */
#include "host/config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/config_hardware.h"
#include "host/config_yaml.h"

#define OHM_ROWS_OF ohm_config
#include "host/option_rows.h"

static const ohm_option rows[] = {
    TEXT(name, "experiment", "what the run is called in reports"),
    INT64(seed, 0, 4294967295.0, "1", "", "seed of weights, order of images and noise"),
    INT(threads, 0, 1024, "0", "threads", "0 is one per core"),
    MODE(device, "auto|cpu|cuda:0:0:1023", 0, 0, "auto", "",
         "where to compute; auto takes the best that this build and machine have; cuda:N is device N"),

    CHOICE(network.kind, "mlp|lenet5|vgg8|vgg11|resnet20|resnet18", "mlp", "the network"),
    INT(network.width, 1, 65536, "128", "units", "mlp: units of a hidden layer"),
    INT(network.hidden_layers, 0, 32, "1", "layers", "mlp: hidden layers"),

    CHOICE(data.kind, "digits|mnist|cifar10", "digits", "the images; digits are built in"),
    TEXT(data.dir, "", "folder of the original files; '' is ./data/<kind>"),
    INT(data.image_size, 0, 1024, "0", "pixels", "resize images to this; 0 keeps their size"),
    INT(data.crop, 0, 64, "0", "pixels", "augmentation: padding of a random crop; 0 is off"),
    BOOL(data.flip, "false", "augmentation: random horizontal flip"),
    INT(data.train_limit, 0, 1e9, "0", "images", "use so many training images; 0 is all"),
    INT(data.test_limit, 0, 1e9, "0", "images", "use so many test images; 0 is all"),

    CHOICE(train.mode, "baseline|full|detach|nograd", "nograd",
           "gradient: no chip, through the simulator, straight-through, straight-through without "
           "the clean product"),
    CHOICE(train.full, "recompute|save", "recompute",
           "mode full: in the backward pass read the chip again, with the same noise, or keep what "
           "the derivative needs of every conversion"),
    INT(train.steps, 0, 1e9, "0", "steps", "length of the run; 0 counts epochs instead"),
    INT(train.epochs, 0, 1e6, "10", "epochs", "length of the run where train.steps is 0"),
    INT(train.batch, 1, 1e6, "64", "images", "images per optimiser step"),
    INT(train.micro_batch, 0, 1e6, "0", "images",
        "images per forward pass, a divisor of train.batch; 0 is all of it. Noise is that of the whole "
        "batch; batch norm and ranges from data see each pass alone"),
    INT(train.recompute_segments, 0, 64, "0", "segments",
        "cut the network into so many and compute all but the last one's activations again in the "
        "backward pass, from the same noise; 0 keeps them"),
    CHOICE(train.optimiser, "sgd|adam|adamw", "sgd",
           "sgd has momentum; adamw decays weights apart from the gradient"),
    CHOICE(train.schedule, "constant|cosine|step", "cosine", "how the learning rate falls"),
    REAL(train.lr, 0, 1e3, "0.05", "", "learning rate after warm-up"),
    REAL(train.momentum, 0, 0.999999, "0.9", "", "sgd"),
    REAL(train.beta1, 0, 0.999999, "0.9", "", "adam, adamw: decay of the mean gradient"),
    REAL(train.beta2, 0, 0.99999999, "0.999", "", "adam, adamw: decay of the mean square"),
    REAL(train.epsilon, 1e-16, 1, "1e-8", "", "adam, adamw"),
    REAL(train.weight_decay, 0, 10, "0", "", "of weights, not of biases, norms and ranges"),
    BOOL(train.nesterov, "false", "sgd: Nesterov's momentum"),
    INT(train.warmup_steps, 0, 1e9, "0", "steps", "linear warm-up"),
    INT(train.milestone_steps, 1, 1e9, "1000", "steps",
        "step schedule: the rate falls every so many steps"),
    REAL(train.gamma, 0, 1, "0.1", "", "step schedule: by this factor"),
    REAL(train.lr_final, 0, 1, "0", "(of train.lr)", "cosine: where it ends"),
    REAL(train.clip_norm, 0, 1e12, "0", "", "largest norm of the gradient; 0 is off"),
    REAL(train.label_smoothing, 0, 0.999, "0", "", "share of the target spread over all classes"),
    INT(train.calibration_batches, 1, 1e6, "4", "batches",
        "before step 0, for calibrated and learned ranges"),
    INT(train.eval_every, 0, 1e9, "0", "steps", "0 evaluates only at the end"),
    INT(train.checkpoint_every, 0, 1e9, "0", "steps", "0 writes only at the end"),
    INT(train.log_every, 0, 1e9, "10", "steps", "0 logs only at the end"),
    INT(train.keep, 2, 1e6, "2", "checkpoints", "older ones are removed"),
    BOOL(train.noisy_first, "true", "run the first layer on the chip too"),
    BOOL(train.noisy_last, "true", "run the last layer on the chip too"),
    CHOICE(train.gemm, "fp32|tf32|bf16", "fp32",
           "operands of a device's matrix products; sums are fp32"),
    BOOL(train.record, "true",
         "a device records a step and replays it; false queues each anew, so that tools see its ranges"),
    INT64(train.workspace_mib, 1, 1 << 20, "256", "MiB",
          "bound of patches and simulator workspace"),

    INT(eval.chips, 1, 1e6, "10", "chips", "chip instances of an evaluation"),
    INT(eval.batch, 1, 1e6, "256", "images", "images per evaluation pass"),

    {"demo.seeds", OHM_OPTION_REALS, AT(demo.seeds), 0, 4294967295.0, "", "[1, 2, 3]", "",
     "ohmgrad demo: takes these in turn as seed"},
    {"demo.levels", OHM_OPTION_REALS, AT(demo.levels), 0, 1e3, "", "[1, 2, 3]", "",
     "ohmgrad demo: evaluates at these values of hardware.programming.level"},
};

const ohm_option_table ohm_config_options = {"experiment", rows, sizeof rows / sizeof rows[0]};

const char *ohm_mode_name(int mode)
{
    static const char *const names[OHM_MODES] = {"baseline", "full", "detach", "nograd"};
    return mode >= 0 && mode < OHM_MODES ? names[mode] : "?";
}

static const struct {
    int mode, full;
    const char *name;
} variants[OHM_VARIANTS] = {{OHM_MODE_BASELINE, OHM_FULL_RECOMPUTE, "baseline"},
                            {OHM_MODE_FULL, OHM_FULL_RECOMPUTE, "full"},
                            {OHM_MODE_FULL, OHM_FULL_SAVE, "full:save"},
                            {OHM_MODE_DETACH, OHM_FULL_RECOMPUTE, "detach"},
                            {OHM_MODE_NOGRAD, OHM_FULL_RECOMPUTE, "nograd"}};

const char *ohm_variant_name(int variant)
{
    return variant >= 0 && variant < OHM_VARIANTS ? variants[variant].name : "?";
}

int ohm_variant_of(const ohm_config *config)
{
    int at = 0, mode = config->train.mode;
    while (at < OHM_VARIANTS - 1 &&
           (variants[at].mode != mode ||
            (mode == OHM_MODE_FULL && variants[at].full != config->train.full)))
        at++;
    return at;
}

void ohm_variant_set(ohm_config *config, int variant)
{
    config->train.mode = variants[variant].mode;
    config->train.full = variants[variant].full;
}

/* ---- reading ------------------------------------------------------------------------------- */

static ohm_status set_defaults(ohm_config *config)
{
    memset(config, 0, sizeof *config);
    OHM_TRY(ohm_option_defaults(&ohm_config_options, config));
    return ohm_option_defaults(&ohm_hardware_options, &config->hardware);
}

static ohm_status select_chip(ohm_config *config, const char *name, const char *from)
{
    memset(&config->hardware, 0, sizeof config->hardware);
    config->hardware_enabled = strcmp(name, "none") != 0;
    if (!config->hardware_enabled)
        return ohm_option_defaults(&ohm_hardware_options, &config->hardware);
    return ohm_hardware_load(&config->hardware, name, from);
}

static ohm_status set_key(void *context, const char *key, const char *value)
{
    return ohm_option_set(&ohm_config_options, context, key, value);
}

static ohm_status walk_experiment(ohm_config *config, const ohm_yaml *yaml)
{
    int root = ohm_yaml_root(yaml), chip = ohm_yaml_find(yaml, root, "hardware");
    const ohm_yaml_sink sink = {set_key, config, "hardware"};
    OHM_TRY(ohm_yaml_walk(yaml, root, &ohm_config_options, &sink));
    if (!chip)
        return OHM_OK;
    if (ohm_yaml_is_mapping(yaml, chip)) {
        config->hardware_enabled = 1;
        return ohm_hardware_walk(&config->hardware, yaml, chip);
    }
    const char *name = ohm_yaml_text(yaml, chip);
    if (!name)
        return ohm_yaml_at(
            yaml, chip,
            OHM_FAIL(OHM_ERR_CONFIG, "key 'hardware': give a preset, a file, a mapping or none"));
    return ohm_yaml_at(yaml, chip, select_chip(config, name, ohm_yaml_path(yaml)));
}

static ohm_status read_document(ohm_config *config, ohm_yaml *yaml, const char *name)
{
    ohm_status status = walk_experiment(config, yaml);
    if (status == OHM_OK && (status = ohm_config_check(config)) != OHM_OK)
        ohm_error_prefix(status, "%s", name);
    return status;
}

ohm_status ohm_config_read(ohm_config *config, const char *path)
{
    OHM_TRY(set_defaults(config));
    if (!path)
        return OHM_OK;
    ohm_yaml *yaml;
    OHM_TRY(ohm_yaml_open(&yaml, path));
    ohm_status status = read_document(config, yaml, path);
    ohm_yaml_close(yaml);
    return status;
}

ohm_status ohm_config_parse(ohm_config *config, const char *text, size_t bytes, const char *name)
{
    ohm_yaml *yaml;
    OHM_TRY(set_defaults(config));
    OHM_TRY(ohm_yaml_parse(&yaml, text, bytes, name));
    ohm_status status = read_document(config, yaml, name);
    ohm_yaml_close(yaml);
    return status;
}

ohm_status ohm_config_set(ohm_config *config, const char *assignment)
{
    char key[128];
    const char *equals = strchr(assignment, '=');
    if (!strncmp(assignment, "hardware=", 9))
        return select_chip(config, assignment + 9, NULL);
    if (!strncmp(assignment, "hardware.", 9)) {
        if (!config->hardware_enabled)
            return OHM_FAIL(OHM_ERR_CONFIG,
                            "'%.80s': this experiment has no chip; set hardware=NAME first",
                            assignment);
        return ohm_hardware_set(&config->hardware, assignment + 9);
    }
    if (!equals || equals == assignment || (size_t)(equals - assignment) >= sizeof key)
        return OHM_FAIL(OHM_ERR_CONFIG, "'%.80s' is no assignment; write key=value", assignment);
    snprintf(key, sizeof key, "%.*s", (int)(equals - assignment), assignment);
    return ohm_option_set(&ohm_config_options, config, key, equals + 1);
}

/* ---- what involves several keys ------------------------------------------------------------ */

ohm_status ohm_config_check(const ohm_config *config)
{
    int batch = config->train.batch, micro = config->train.micro_batch;
    if (config->train.steps == 0 && config->train.epochs == 0)
        return OHM_FAIL(OHM_ERR_CONFIG,
                        "keys 'train.steps', 'train.epochs': both are 0; set one of them");
    if (micro && batch % micro)
        return OHM_FAIL(
            OHM_ERR_CONFIG,
            "key 'train.micro_batch': %d does not divide train.batch = %d; give a divisor or 0",
            micro, batch);
    if (config->train.nesterov && config->train.momentum <= 0)
        return OHM_FAIL(
            OHM_ERR_CONFIG,
            "key 'train.nesterov': needs train.momentum above 0; set it, or nesterov to false");
    for (int i = 0; i < config->demo.seeds.count; i++)
        if (config->demo.seeds.at[i] != floor(config->demo.seeds.at[i]))
            return OHM_FAIL(OHM_ERR_CONFIG, "key 'demo.seeds': %g is not a whole number", config->demo.seeds.at[i]);
    if (!config->hardware_enabled)
        return OHM_OK;
    ohm_status status = ohm_hardware_check(&config->hardware);
    return status == OHM_OK ? OHM_OK : ohm_error_prefix(status, "hardware");
}

void ohm_config_print(const ohm_config *config, FILE *out)
{
    ohm_option_print_yaml(&ohm_config_options, config, 0, out);
    fprintf(out, "hardware:%s\n", config->hardware_enabled ? "" : " none");
    if (config->hardware_enabled)
        ohm_option_print_yaml(&ohm_hardware_options, &config->hardware, 2, out);
}

char *ohm_config_text(const ohm_config *config)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    ohm_config_print(config, out);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}
