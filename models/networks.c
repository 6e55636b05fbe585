#include "models/networks.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { POOL = -1, END = 0 }; /* marks in lists of channels */

/* Each call appends a layer and returns its index; -1 stands for the images. */
static int append(ohm_architecture *a, ohm_layer_desc layer, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int append(ohm_architecture *a, ohm_layer_desc layer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(layer.name, sizeof layer.name, format, args);
    va_end(args);
    if (a->count < OHM_LAYERS_MAX)
        a->layer[a->count] = layer;
    return a->count++; /* too many layers: ohm_model_build reports */
}

static int linear(ohm_architecture *a, int from, int out, const char *name)
{
    return append(a,
                  (ohm_layer_desc){.kind = OHM_LAYER_LINEAR, .input = from, .out = out, .bias = 1},
                  "%s", name);
}

static int conv(ohm_architecture *a, int from, int out, int kernel, int stride, int pad, int bias,
                const char *name)
{
    return append(a,
                  (ohm_layer_desc){.kind = OHM_LAYER_CONV,
                                   .input = from,
                                   .out = out,
                                   .kernel = kernel,
                                   .stride = stride,
                                   .pad = pad,
                                   .bias = bias},
                  "%s", name);
}

static int plain(ohm_architecture *a, int kind, int from, const char *name)
{
    return append(a, (ohm_layer_desc){.kind = kind, .input = from}, "%s", name);
}

static int max_pool(ohm_architecture *a, int from, int number)
{
    return append(
        a, (ohm_layer_desc){.kind = OHM_LAYER_MAX_POOL, .input = from, .kernel = 2, .stride = 2},
        "pool%d", number);
}

static int add(ohm_architecture *a, int from, int other, const char *name)
{
    return append(a, (ohm_layer_desc){.kind = OHM_LAYER_ADD, .input = from, .other = other}, "%s",
                  name);
}

/* ---- the networks -------------------------------------------------------------------------- */

static void build_mlp(ohm_architecture *a, const ohm_config *config)
{
    int at = -1;
    char name[OHM_LAYER_NAME_BYTES];
    for (int i = 1; i <= config->network.hidden_layers; i++) {
        snprintf(name, sizeof name, "fc%d", i);
        at = linear(a, at, config->network.width, name);
        snprintf(name, sizeof name, "relu%d", i);
        at = plain(a, OHM_LAYER_RELU, at, name);
    }
    snprintf(name, sizeof name, "fc%d", config->network.hidden_layers + 1);
    linear(a, at, a->classes, name);
}

static void build_lenet5(ohm_architecture *a, const ohm_config *config)
{
    (void)config;
    int at = conv(a, -1, 6, 5, 1, 0, 1, "conv1");
    at = max_pool(a, plain(a, OHM_LAYER_RELU, at, "relu1"), 1);
    at = conv(a, at, 16, 5, 1, 0, 1, "conv2");
    at = max_pool(a, plain(a, OHM_LAYER_RELU, at, "relu2"), 2);
    at = plain(a, OHM_LAYER_RELU, linear(a, at, 120, "fc1"), "relu3");
    at = plain(a, OHM_LAYER_RELU, linear(a, at, 84, "fc2"), "relu4");
    linear(a, at, a->classes, "fc3");
}

static int conv_norm(ohm_architecture *a, int from, int out, int kernel, int stride,
                     const char *name, const char *norm)
{
    int at = conv(a, from, out, kernel, stride, kernel / 2, 0, name);
    return plain(a, OHM_LAYER_BATCH_NORM, at, norm);
}

/* Channels of 3x3 convolutions with batch norm and ReLU, POOL between them. */
static int features(ohm_architecture *a, const int *channels)
{
    char name[3][OHM_LAYER_NAME_BYTES];
    int at = -1, number = 0, pools = 0;
    for (int i = 0; channels[i] != END; i++) {
        if (channels[i] == POOL) {
            at = max_pool(a, at, ++pools);
            continue;
        }
        number++;
        snprintf(name[0], sizeof name[0], "conv%d", number);
        snprintf(name[1], sizeof name[1], "bn%d", number);
        snprintf(name[2], sizeof name[2], "relu%d", number);
        at = plain(a, OHM_LAYER_RELU, conv_norm(a, at, channels[i], 3, 1, name[0], name[1]),
                   name[2]);
    }
    return at;
}

static void build_vgg8(ohm_architecture *a, const ohm_config *config)
{
    (void)config;
    static const int channels[] = {128, 128, POOL, 256, 256, POOL, 512, 512, POOL, END};
    int at = linear(a, features(a, channels), 1024, "fc1");
    linear(a, plain(a, OHM_LAYER_RELU, at, "relu7"), a->classes, "fc2");
}

static void build_vgg11(ohm_architecture *a, const ohm_config *config)
{
    (void)config;
    static const int channels[] = {64,  POOL, 128,  POOL, 256, 256,  POOL,
                                   512, 512,  POOL, 512,  512, POOL, END};
    linear(a, features(a, channels), a->classes, "fc");
}

/* y = relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)) */
static int basic_block(ohm_architecture *a, int from, int channels_in, int channels, int stride,
                       const char *prefix)
{
    char name[OHM_LAYER_NAME_BYTES], norm[OHM_LAYER_NAME_BYTES];
#define NAMED(buffer, suffix) (snprintf(buffer, sizeof buffer, "%s." suffix, prefix), buffer)
    int shortcut = from;
    if (stride != 1 || channels_in != channels)
        shortcut = conv_norm(a, from, channels, 1, stride, NAMED(name, "downsample.0"),
                             NAMED(norm, "downsample.1"));
    int at = conv_norm(a, from, channels, 3, stride, NAMED(name, "conv1"), NAMED(norm, "bn1"));
    at = plain(a, OHM_LAYER_RELU, at, NAMED(name, "relu1"));
    at = conv_norm(a, at, channels, 3, 1, NAMED(name, "conv2"), NAMED(norm, "bn2"));
    at = add(a, at, shortcut, NAMED(name, "add"));
    return plain(a, OHM_LAYER_RELU, at, NAMED(name, "relu2"));
#undef NAMED
}

static void build_resnet(ohm_architecture *a, int channels, int stages, int blocks)
{
    int at = plain(a, OHM_LAYER_RELU, conv_norm(a, -1, channels, 3, 1, "conv1", "bn1"), "relu1");
    int before = channels;
    for (int stage = 0; stage < stages; stage++)
        for (int block = 0; block < blocks; block++) {
            char prefix[24];
            snprintf(prefix, sizeof prefix, "layer%d.%d", stage + 1, block);
            at = basic_block(a, at, before, channels << stage, stage > 0 && block == 0 ? 2 : 1,
                             prefix);
            before = channels << stage;
        }
    linear(a, plain(a, OHM_LAYER_GLOBAL_AVG_POOL, at, "pool"), a->classes, "fc");
}

static void build_resnet20(ohm_architecture *a, const ohm_config *config)
{
    (void)config;
    build_resnet(a, 16, 3, 3);
}

static void build_resnet18(ohm_architecture *a, const ohm_config *config)
{
    (void)config;
    build_resnet(a, 64, 4, 2);
}

/* ---- the choice ---------------------------------------------------------------------------- */

/* In the order of ohm_network_kind. */
static const struct {
    const char *name;
    void (*build)(ohm_architecture *a, const ohm_config *config);
    int smallest, multiple; /* image sides; 0 = any */
} models[] = {
    [OHM_NET_MLP] = {"mlp", build_mlp, 1, 1},
    [OHM_NET_LENET5] = {"lenet5", build_lenet5, 16, 1},
    [OHM_NET_VGG8] = {"vgg8", build_vgg8, 8, 8},
    [OHM_NET_VGG11] = {"vgg11", build_vgg11, 32, 32},
    [OHM_NET_RESNET20] = {"resnet20", build_resnet20, 4, 4},
    [OHM_NET_RESNET18] = {"resnet18", build_resnet18, 8, 8},
};

static int is_matrix(const ohm_layer_desc *layer)
{
    return layer->kind == OHM_LAYER_LINEAR || layer->kind == OHM_LAYER_CONV;
}

/* Layers without trained weights have nothing to put on a chip. */
static void mark_noisy(ohm_architecture *a, int first_too, int last_too)
{
    int first = -1, last = -1;
    for (int i = 0; i < a->count; i++) {
        if (!is_matrix(&a->layer[i]))
            continue;
        a->layer[i].noisy = 1;
        first = first < 0 ? i : first;
        last = i;
    }
    if (!last_too)
        a->layer[last].noisy = 0;
    if (!first_too)
        a->layer[first].noisy = 0;
}

ohm_status ohm_model_build(ohm_architecture *architecture, const ohm_config *config, int height,
                           int width, int channels, int classes)
{
    int kind = config->network.kind;
    if (kind < 0 || (size_t)kind >= sizeof models / sizeof *models)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "network kind %d is unknown", kind);
    if (channels < 1 || classes < 2)
        return OHM_FAIL(OHM_ERR_ARGUMENT,
                        "network %s: %d channels and %d classes; need at least 1 and 2",
                        models[kind].name, channels, classes);
    int smallest = models[kind].smallest, multiple = models[kind].multiple;
    if (height < smallest || width < smallest || height % multiple || width % multiple ||
        (height != width && kind != OHM_NET_MLP))
        return OHM_FAIL(OHM_ERR_CONFIG,
                        "network %s needs square images of at least %d pixels in multiples of %d, "
                        "not %dx%d: set "
                        "data.image_size",
                        models[kind].name, smallest, multiple, height, width);
    memset(architecture, 0, sizeof *architecture);
    snprintf(architecture->name, sizeof architecture->name, "%s", models[kind].name);
    architecture->height = height;
    architecture->width = width;
    architecture->channels = channels;
    architecture->classes = classes;
    models[kind].build(architecture, config);
    if (architecture->count > OHM_LAYERS_MAX)
        return OHM_FAIL(OHM_ERR_CONFIG,
                        "network %s has %d layers, more than %d: lower network.hidden_layers",
                        models[kind].name, architecture->count, OHM_LAYERS_MAX);
    mark_noisy(architecture, config->train.noisy_first, config->train.noisy_last);
    return OHM_OK;
}
