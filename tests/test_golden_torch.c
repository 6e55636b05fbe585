/* Clean training against tests/golden/torch.safetensors: PyTorch in float64 on a small residual
 * network that holds every kind of layer (make_torch.py beside it). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "host/network.h"
#include "host/safetensors.h"
#include "host/schedule.h"
#include "tests/compare.h"
#include "tests/runner.h"

enum { STEPS = 10, KEY = 128 };

static int append(ohm_architecture *a, const char *name, ohm_layer_desc layer)
{
    snprintf(layer.name, sizeof layer.name, "%s", name);
    a->layer[a->count] = layer;
    return a->count++;
}

static int conv(ohm_architecture *a, const char *name, int from, int out, int kernel, int stride, int pad, int bias)
{
    return append(a, name, (ohm_layer_desc){.kind = OHM_LAYER_CONV, .input = from, .out = out, .kernel = kernel, .stride = stride,
                                            .pad = pad, .bias = bias});
}

static int linear(ohm_architecture *a, const char *name, int from, int out)
{
    return append(a, name, (ohm_layer_desc){.kind = OHM_LAYER_LINEAR, .input = from, .out = out, .bias = 1});
}

static int plain(ohm_architecture *a, int kind, const char *name, int from)
{
    return append(a, name, (ohm_layer_desc){.kind = kind, .input = from, .kernel = 2, .stride = 2});
}

/* Tiny of make_torch.py. */
static ohm_architecture build(void)
{
    ohm_architecture a = {.name = "tiny", .height = 17, .width = 17, .channels = 3, .classes = 5};
    int at = plain(&a, OHM_LAYER_BATCH_NORM, "bn1", conv(&a, "conv1", -1, 6, 3, 1, 1, 0));
    int pooled = plain(&a, OHM_LAYER_MAX_POOL, "pool", plain(&a, OHM_LAYER_RELU, "relu1", at));
    int shortcut = plain(&a, OHM_LAYER_BATCH_NORM, "downbn", conv(&a, "down", pooled, 8, 1, 2, 0, 0));
    at = plain(&a, OHM_LAYER_BATCH_NORM, "bn2", conv(&a, "conv2", pooled, 8, 5, 2, 2, 0));
    at = conv(&a, "conv3", plain(&a, OHM_LAYER_RELU, "relu2", at), 8, 3, 1, 1, 1);
    at = append(&a, "add", (ohm_layer_desc){.kind = OHM_LAYER_ADD, .input = at, .other = shortcut});
    at = plain(&a, OHM_LAYER_AVG_POOL, "average", plain(&a, OHM_LAYER_RELU, "relu3", at));
    at = plain(&a, OHM_LAYER_GLOBAL_AVG_POOL, "mean", at);
    linear(&a, "fc2", plain(&a, OHM_LAYER_RELU, "relu4", linear(&a, "fc1", at, 7)), 5);
    return a;
}

static const ohm_safetensor *golden(const ohm_safetensors *file, const char *folder, const char *name)
{
    char key[KEY];
    snprintf(key, sizeof key, "%s%s%s", folder, *folder ? "/" : "", name);
    const ohm_safetensor *tensor = ohm_safetensors_find(file, key);
    ck_assert_msg(tensor != NULL, "torch.safetensors: has no %s; run tests/golden/make_torch.py", key);
    return tensor;
}

static void expect(const ohm_safetensors *file, const char *folder, const char *name, const float *got, double atol, double rtol)
{
    const ohm_safetensor *reference = golden(file, folder, name);
    ohm_verdict verdict = ohm_compare_close(got, (const float *)reference->data, reference->count, atol, rtol);
    ck_assert_msg(verdict.pass, "%s/%s: %s", folder, name, verdict.text);
}

/* settings: "key=value" strings, NULL at the end. */
static ohm_config config_of(const char *const *settings)
{
    ohm_config config;
    OHM_OK_OR_FAIL(ohm_config_read(&config, NULL));
    config.hardware_enabled = 0;
    config.train.mode = OHM_MODE_BASELINE;
    config.train.label_smoothing = 0.1;
    for (; *settings; settings++)
        OHM_OK_OR_FAIL(ohm_config_set(&config, *settings));
    return config;
}

static ohm_network *network_of(const ohm_safetensors *file, const ohm_architecture *a, const ohm_config *config)
{
    ohm_network *network;
    int count;
    OHM_OK_OR_FAIL(ohm_network_create(&network, a, config, &(ohm_network_options){.max_batch = 8, .training = 1, .checked = 1}));
    ohm_parameter *parameter = ohm_network_parameters(network, &count);
    for (int i = 0; i < count; i++) {
        const ohm_safetensor *start = golden(file, "start", parameter[i].name);
        ck_assert_uint_eq(start->count, parameter[i].count);
        memcpy(parameter[i].value, start->data, start->bytes);
    }
    return network;
}

/* Forward and backward over batch `which`; the loss. */
static double run_batch(const ohm_safetensors *file, ohm_network *network, int which, int training)
{
    char images[16], labels[16];
    snprintf(images, sizeof images, "images%d", which);
    snprintf(labels, sizeof labels, "labels%d", which);
    const ohm_safetensor *x = golden(file, "", images), *y = golden(file, "", labels);
    memcpy(ohm_network_images(network), x->data, x->bytes);
    for (size_t i = 0; i < y->count; i++)
        ohm_network_labels(network)[i] = (int32_t)((const float *)y->data)[i];
    ohm_pass pass = {.images = (int)y->count, .training = training, .mode = OHM_MODE_BASELINE};
    double loss;
    int correct;
    OHM_OK_OR_FAIL(ohm_network_forward(network, &pass));
    if (!training)
        return 0.0;
    OHM_OK_OR_FAIL(ohm_network_loss(network, &pass, pass.images, &loss, &correct));
    OHM_OK_OR_FAIL(ohm_network_backward(network, &pass));
    return loss / pass.images;
}

static ohm_safetensors *read_golden(void)
{
    ohm_safetensors *file;
    OHM_OK_OR_FAIL(ohm_safetensors_read(&file, "tests/golden/torch.safetensors"));
    return file;
}

OHM_TEST(golden_torch, logits_and_gradients_of_one_step)
{
    ohm_safetensors *file = read_golden();
    ohm_architecture a = build();
    ohm_config config = config_of((const char *const[]){NULL});
    ohm_network *network = network_of(file, &a, &config);
    ohm_network_zero_gradients(network);
    double loss = run_batch(file, network, 0, 1);
    ck_assert_double_eq_tol(loss, ((const float *)golden(file, "sgd", "losses")->data)[0], 1e-6);
    expect(file, "", "logits", ohm_network_logits(network), 1e-6, 1e-5);
    int count;
    ohm_parameter *parameter = ohm_network_parameters(network, &count);
    for (int i = 0; i < count; i++)
        if (parameter[i].trainable)
            expect(file, "gradient", parameter[i].name, parameter[i].gradient, 3e-7, 1e-5);
    ohm_network_destroy(network);
    ohm_safetensors_destroy(file);
}

/* Ten steps on two batches in turn: losses, rates, weights, running statistics, logits in evaluation. */
static void check_training(const char *name, const char *const *settings)
{
    ohm_safetensors *file = read_golden();
    ohm_architecture a = build();
    ohm_config config = config_of(settings);
    ohm_network *network = network_of(file, &a, &config);
    const float *losses = golden(file, name, "losses")->data, *rates = golden(file, name, "rates")->data;
    for (int step = 0; step < STEPS; step++) {
        double lr = ohm_schedule_lr(&config, step, STEPS);
        ck_assert_double_eq_tol(lr, rates[step], 1e-7 * lr);
        ohm_network_zero_gradients(network);
        double loss = run_batch(file, network, step % 2, 1);
        ck_assert_msg(fabs(loss - losses[step]) < 1e-5, "%s: loss of step %d is %.8g, in PyTorch %.8g", name, step, loss, (double)losses[step]);
        OHM_OK_OR_FAIL(ohm_network_update(network, lr, step));
    }
    int count;
    ohm_parameter *parameter = ohm_network_parameters(network, &count);
    for (int i = 0; i < count; i++)
        expect(file, name, parameter[i].name, parameter[i].value, 1e-5, 1e-5);
    run_batch(file, network, 0, 0);
    expect(file, name, "eval_logits", ohm_network_logits(network), 1e-5, 1e-5);
    ohm_network_destroy(network);
    ohm_safetensors_destroy(file);
}

OHM_TEST(golden_torch, sgd_nesterov_decay_warm_up_cosine)
{
    check_training("sgd", (const char *const[]){"train.optimiser=sgd", "train.lr=0.1", "train.momentum=0.9", "train.nesterov=true",
                                                "train.weight_decay=0.005", "train.warmup_steps=3", "train.schedule=cosine",
                                                "train.lr_final=0.05", NULL});
}

OHM_TEST(golden_torch, adam_decay_steps)
{
    check_training("adam", (const char *const[]){"train.optimiser=adam", "train.lr=0.01", "train.beta1=0.8", "train.beta2=0.95",
                                                 "train.epsilon=1e-6", "train.weight_decay=0.01", "train.schedule=step",
                                                 "train.milestone_steps=4", "train.gamma=0.3", NULL});
}

OHM_TEST(golden_torch, adamw_clipping_constant)
{
    check_training("adamw", (const char *const[]){"train.optimiser=adamw", "train.lr=0.02", "train.weight_decay=0.2",
                                                  "train.clip_norm=0.25", "train.schedule=constant", NULL});
}
