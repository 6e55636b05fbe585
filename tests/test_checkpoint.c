#include "host/checkpoint.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/file.h"
#include "host/metrics.h"
#include "host/run.h"
#include "host/safetensors.h"
#include "models/networks.h"
#include "tests/runner.h"

static void make_config(ohm_config *config)
{
    OHM_OK_OR_FAIL(ohm_config_read(config, NULL));
    OHM_OK_OR_FAIL(ohm_config_set(config, "network.kind=lenet5"));
    OHM_OK_OR_FAIL(ohm_config_set(config, "train.optimiser=adam"));
    OHM_OK_OR_FAIL(ohm_config_set(config, "train.batch=4"));
    OHM_OK_OR_FAIL(ohm_config_set(config, "hardware=lognormal"));
    OHM_OK_OR_FAIL(ohm_config_check(config));
}

/* A LeNet for 16x16 images whose every parameter and moment has a value of its own, from `start` on. */
static ohm_network *make_network(const ohm_config *config, float start)
{
    ohm_architecture *architecture = malloc(sizeof *architecture);
    ohm_network *network;
    int count;
    OHM_OK_OR_FAIL(ohm_model_build(architecture, config, 16, 16, 1, 10));
    OHM_OK_OR_FAIL(ohm_network_create(&network, architecture, config, &(ohm_network_options){.max_batch = 4, .training = 1}));
    free(architecture);
    ohm_parameter *parameter = ohm_network_parameters(network, &count);
    for (int i = 0; i < count; i++) {
        float *parts[3] = {parameter[i].value, parameter[i].moment1, parameter[i].moment2};
        for (int p = 0; p < 3; p++)
            for (size_t e = 0; parts[p] && e < parameter[i].count; e++)
                parts[p][e] = start++;
    }
    return network;
}

static void check_equal(ohm_network *a, ohm_network *b)
{
    int count, other;
    const ohm_parameter *x = ohm_network_parameters(a, &count), *y = ohm_network_parameters(b, &other);
    ck_assert_int_eq(count, other);
    for (int i = 0; i < count; i++) {
        if (x[i].count)
            ck_assert_mem_eq(x[i].value, y[i].value, x[i].count * sizeof(float));
        ck_assert_int_eq(x[i].moment2 != NULL, y[i].moment2 != NULL);
        if (x[i].moment1)
            ck_assert_mem_eq(x[i].moment1, y[i].moment1, x[i].count * sizeof(float));
        if (x[i].moment2)
            ck_assert_mem_eq(x[i].moment2, y[i].moment2, x[i].count * sizeof(float));
    }
}

static const ohm_train_state some_state = {.step = 12, .evaluated = 10, .metrics_bytes = 345, .best_accuracy = 0.1 + 0.2,
                                           .loss_sum = 1.0 / 3.0, .correct = 5, .images = 8};

static const char *path_in(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", ohm_test_tmpdir(), name);
    return path;
}

OHM_TEST(checkpoint, everything_comes_back)
{
    static ohm_config config, read;
    make_config(&config);
    ohm_network *saved = make_network(&config, 1), *loaded = make_network(&config, -1e6f);
    ohm_train_state state = {0};
    const char *path = path_in("a.safetensors");
    OHM_OK_OR_FAIL(ohm_checkpoint_save(path, saved, &config, &some_state));
    OHM_OK_OR_FAIL(ohm_checkpoint_load(path, loaded, &state));
    check_equal(loaded, saved);
    ck_assert(state.step == 12 && state.evaluated == 10 && state.metrics_bytes == 345 && state.correct == 5 && state.images == 8);
    ck_assert(state.best_accuracy == 0.1 + 0.2 && state.loss_sum == 1.0 / 3.0);
    OHM_OK_OR_FAIL(ohm_checkpoint_read_config(&read, path));
    ck_assert_mem_eq(&read, &config, sizeof read);
    ohm_network_destroy(saved);
    ohm_network_destroy(loaded);
}

OHM_TEST(checkpoint, convolutions_are_stored_as_pytorch_has_them)
{
    static ohm_config config;
    make_config(&config);
    ohm_network *network = make_network(&config, 1);
    const char *path = path_in("a.safetensors");
    OHM_OK_OR_FAIL(ohm_checkpoint_save(path, network, &config, &some_state));
    ohm_safetensors *file;
    OHM_OK_OR_FAIL(ohm_safetensors_read(&file, path));
    int count, convolutions = 0;
    const ohm_parameter *p = ohm_network_parameters(network, &count);
    for (int i = 0; i < count; i++) {
        const ohm_safetensor *tensor = ohm_safetensors_find(file, p[i].name);
        ck_assert_ptr_nonnull(tensor);
        if (!p[i].conv)
            continue;
        convolutions++;
        const int64_t *s = p[i].shape;
        ck_assert(tensor->shape[0] == s[0] && tensor->shape[1] == s[3] && tensor->shape[2] == s[1] && tensor->shape[3] == s[2]);
        for (int64_t n = 0; n < s[0]; n++)
            for (int64_t y = 0; y < s[1]; y++)
                for (int64_t x = 0; x < s[2]; x++)
                    for (int64_t c = 0; c < s[3]; c++)
                        ck_assert(((const float *)tensor->data)[((n * s[3] + c) * s[1] + y) * s[2] + x] ==
                                  p[i].value[((n * s[1] + y) * s[2] + x) * s[3] + c]);
    }
    ck_assert_int_eq(convolutions, 2);
    ohm_safetensors_destroy(file);
    ohm_network_destroy(network);
}

OHM_TEST(checkpoint, weights_serve_another_chip)
{
    static ohm_config config, other;
    int calibrated;
    make_config(&config);
    ohm_network *saved = make_network(&config, 1);
    const char *path = path_in("a.safetensors");
    OHM_OK_OR_FAIL(ohm_checkpoint_save(path, saved, &config, &some_state));
    ohm_network *same = make_network(&config, 0);
    OHM_OK_OR_FAIL(ohm_checkpoint_load_weights(path, same, &calibrated));
    ck_assert_int_eq(calibrated, 1);
    other = config;
    OHM_OK_OR_FAIL(ohm_config_set(&other, "hardware.quantise.x_range=learned"));
    OHM_OK_OR_FAIL(ohm_config_set(&other, "hardware.weight.cell_bits=4"));
    ohm_network *another = make_network(&other, 0);
    OHM_OK_OR_FAIL(ohm_checkpoint_load_weights(path, another, &calibrated));
    ck_assert_int_eq(calibrated, 0);
    ck_assert_int_eq(ohm_checkpoint_load(path, another, &(ohm_train_state){0}), OHM_ERR_DATA);
    int count, other_count;
    ck_assert_mem_eq(ohm_network_parameters(another, &other_count)[0].value, ohm_network_parameters(saved, &count)[0].value, 6 * 25 * 4);
    OHM_OK_OR_FAIL(ohm_config_set(&other, "network.kind=mlp"));
    ohm_network *mlp = make_network(&other, 0);
    ck_assert_int_eq(ohm_checkpoint_load_weights(path, mlp, &calibrated), OHM_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "another network"));
    ohm_network_destroy(saved);
    ohm_network_destroy(same);
    ohm_network_destroy(another);
    ohm_network_destroy(mlp);
}

OHM_TEST(checkpoint, nan_is_neither_written_nor_read)
{
    static ohm_config config;
    int count, calibrated;
    make_config(&config);
    ohm_network *network = make_network(&config, 1);
    ohm_parameter *parameter = ohm_network_parameters(network, &count);
    const char *path = path_in("a.safetensors");
    parameter[0].moment2[3] = NAN;
    ck_assert_int_eq(ohm_checkpoint_save(path, network, &config, &some_state), OHM_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "optimiser.moment2."));
    ck_assert_int_ne(access(path, F_OK), 0);
    parameter[0].moment2[3] = 0;
    OHM_OK_OR_FAIL(ohm_checkpoint_save(path, network, &config, &some_state));
    ohm_safetensors *file;
    OHM_OK_OR_FAIL(ohm_safetensors_read(&file, path));
    ((float *)ohm_safetensors_find(file, parameter[0].name)->data)[0] = INFINITY;
    OHM_OK_OR_FAIL(ohm_safetensors_write(file, path));
    ohm_safetensors_destroy(file);
    ck_assert_int_eq(ohm_checkpoint_load_weights(path, network, &calibrated), OHM_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "NaN or infinity"));
    ohm_network_destroy(network);
}

/* ---- of a run ------------------------------------------------------------------------------ */

static void damage(const char *path, long offset)
{
    FILE *file = fopen(path, "r+b");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, offset, SEEK_END), 0);
    int byte = fgetc(file);
    ck_assert_int_eq(fseek(file, offset, SEEK_END), 0);
    fputc(byte ^ 1, file);
    ck_assert_int_eq(fclose(file), 0);
}

static int exists(const char *name)
{
    return access(path_in(name), F_OK) == 0;
}

OHM_TEST(checkpoint, a_run_keeps_the_newest_and_skips_the_damaged)
{
    static ohm_config config;
    make_config(&config);
    const char *dir = ohm_test_tmpdir();
    ohm_train_state state = some_state;
    int found;
    char newest[OHM_CHECKPOINT_PATH_BYTES], *warnings = NULL;
    size_t size;
    ohm_network *network = make_network(&config, 1);
    OHM_OK_OR_FAIL(ohm_checkpoint_resume(dir, network, &state, &found, NULL));
    ck_assert_int_eq(found, 0);
    ck_assert_int_eq(ohm_checkpoint_newest(newest, dir, NULL), OHM_ERR_IO);
    ck_assert_int_eq(mkdir(path_in("checkpoints"), 0777), 0);
    ck_assert_int_eq(close(creat(path_in("checkpoints/step-00000001.safetensors.tmp-99-0"), 0666)), 0);
    for (state.step = 10; state.step <= 40; state.step += 10)
        OHM_OK_OR_FAIL(ohm_checkpoint_save_in(dir, network, &config, &state));
    ck_assert(!exists("checkpoints/step-00000010.safetensors") && !exists("checkpoints/step-00000020.safetensors"));
    ck_assert(exists("checkpoints/step-00000030.safetensors") && exists("checkpoints/step-00000040.safetensors"));
    ck_assert(!exists("checkpoints/step-00000001.safetensors.tmp-99-0"));

    damage(path_in("checkpoints/step-00000040.safetensors"), -100);
    FILE *log = open_memstream(&warnings, &size);
    OHM_OK_OR_FAIL(ohm_checkpoint_resume(dir, network, &state, &found, log));
    fclose(log);
    ck_assert_int_eq(state.step, 30);
    ck_assert_ptr_nonnull(strstr(warnings, "step-00000040.safetensors: the checksum is wrong"));
    free(warnings);
    OHM_OK_OR_FAIL(ohm_checkpoint_newest(newest, dir, NULL));
    ck_assert_ptr_nonnull(strstr(newest, "step-00000030"));

    /* The damaged one is of the future: it does not push out a good one. */
    state.step = 35;
    OHM_OK_OR_FAIL(ohm_checkpoint_save_in(dir, network, &config, &state));
    ck_assert(exists("checkpoints/step-00000030.safetensors"));

    ck_assert_int_eq(truncate(path_in("checkpoints/step-00000035.safetensors"), 5000), 0);
    ck_assert_int_eq(truncate(path_in("checkpoints/step-00000030.safetensors"), 0), 0);
    ck_assert_int_eq(ohm_checkpoint_resume(dir, network, &state, &found, NULL), OHM_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "none of its 3 checkpoints is usable"));
    ohm_network_destroy(network);
}

OHM_TEST(checkpoint, metrics_are_cut_back)
{
    const char *path = path_in("metrics.jsonl");
    ohm_metrics *metrics;
    char *text;
    size_t size;
    OHM_OK_OR_FAIL(ohm_metrics_open(&metrics, path, 0));
    OHM_OK_OR_FAIL(ohm_metrics_write(metrics, 5, (const ohm_metric[]){{"loss", 0.1}, {"count", 3}, {"bad", NAN}}, 3));
    OHM_OK_OR_FAIL(ohm_metrics_sync(metrics));
    int64_t bytes = ohm_metrics_bytes(metrics);
    OHM_OK_OR_FAIL(ohm_metrics_write(metrics, 6, NULL, 0));
    ohm_metrics_close(metrics);
    FILE *torn = fopen(path, "ab");
    fputs("{\"step\": 7, \"lo", torn);
    fclose(torn);
    OHM_OK_OR_FAIL(ohm_metrics_open(&metrics, path, bytes));
    OHM_OK_OR_FAIL(ohm_metrics_write(metrics, 6, (const ohm_metric[]){{"loss", 1e-300}}, 1));
    ohm_metrics_close(metrics);
    OHM_OK_OR_FAIL(ohm_file_read(&text, &size, path, 1000));
    ck_assert_str_eq(text, "{\"step\": 5, \"loss\": 0.1, \"count\": 3, \"bad\": null}\n{\"step\": 6, \"loss\": 1e-300}\n");
    free(text);
    ck_assert_int_eq(ohm_metrics_open(&metrics, "/dev/null/metrics.jsonl", 0), OHM_ERR_IO);
    OHM_OK_OR_FAIL(ohm_metrics_open(&metrics, "/dev/full", 0));
    ck_assert_int_eq(ohm_metrics_write(metrics, 1, NULL, 0), OHM_ERR_IO);
    ohm_metrics_close(metrics);
}

OHM_TEST(checkpoint, a_run_has_one_writer_and_an_empty_folder)
{
    ohm_run *run, *second;
    char dir[600];
    snprintf(dir, sizeof dir, "%s/a/b", ohm_test_tmpdir());
    ck_assert_int_eq(ohm_run_open(&run, dir, 1), OHM_ERR_IO);
    OHM_OK_OR_FAIL(ohm_run_open(&run, dir, 0));
    ck_assert_int_eq(ohm_run_open(&second, dir, 1), OHM_ERR_IO);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "another process"));
    ohm_run_close(run);
    OHM_OK_OR_FAIL(ohm_run_open(&run, dir, 0)); /* nothing was written yet */
    static ohm_config config;
    make_config(&config);
    OHM_OK_OR_FAIL(ohm_run_describe(run, &config));
    ohm_run_close(run);
    ck_assert_int_eq(ohm_run_open(&run, dir, 0), OHM_ERR_IO);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "is not empty"));
    OHM_OK_OR_FAIL(ohm_run_open(&run, dir, 1));
    ohm_run_close(run);
    ck_assert_int_eq(ohm_run_open(&run, "/dev/null/a", 0), OHM_ERR_IO);
    ck_assert_int_eq(ohm_run_open(&run, "", 0), OHM_ERR_ARGUMENT);
}
