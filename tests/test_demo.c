/* ohmgrad demo: its statistics, and a shrunken one as a person runs it. VGG-8 stands here too: the
 * other thing that a stranger tries first. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "datasets/datasets.h"
#include "host/cli/demo.h"
#include "host/file.h"
#include "kernels/philox.h"
#include "tests/runner.h"

static char out[1 << 16];

static void expect(const char *line, int status, const char *part)
{
    int got = ohm_test_run(out, sizeof out, "D='%s'; P='%s'; %s", ohm_test_tmpdir(), ohm_test_program(), line);
    ck_assert_msg(got == status, "'%s' ended with %d, not %d: %s", line, got, status, out);
    ck_assert_msg(strstr(out, part) != NULL, "'%s' said '%s', not '%s'", line, out, part);
}

/* ---- statistics ---------------------------------------------------------------------------- */

/* Two seeds, two chips, one level: the pairs differ by 0.1, 0.3, 0.2 and 0.2. */
OHM_TEST(demo, gain_is_paired_by_seed_and_chip)
{
    static const double clean[2][2] = {{0.5, 0.4}, {0.9, 0.1}}, ste[2][2] = {{0.6, 0.7}, {1.1, 0.3}};
    ohm_config *config = calloc(1, sizeof *config);
    ohm_demo demo;
    OHM_OK_OR_FAIL(ohm_config_read(config, NULL));
    OHM_OK_OR_FAIL(ohm_config_set(config, "demo.seeds=[1, 2]"));
    OHM_OK_OR_FAIL(ohm_config_set(config, "demo.levels=[3]"));
    OHM_OK_OR_FAIL(ohm_config_set(config, "eval.chips=2"));
    OHM_OK_OR_FAIL(ohm_demo_create(&demo, config, 4));
    for (int seed = 0; seed < 2; seed++)
        for (int chip = 0; chip < 2; chip++) {
            demo.run[OHM_DEMO_CLEAN][seed].accuracy[chip] = clean[seed][chip];
            demo.run[OHM_DEMO_STE][seed].accuracy[chip] = ste[seed][chip];
        }
    ohm_demo_gain gain = ohm_demo_compare(&demo, OHM_DEMO_STE, 0);
    ohm_demo_spread spread = ohm_demo_summary(&demo, OHM_DEMO_CLEAN, 0);
    ck_assert_double_eq_tol(gain.mean, 0.2, 1e-12);
    ck_assert_double_eq_tol(gain.error, sqrt(0.02 / 3) / 2, 1e-12);
    ck_assert_double_eq_tol(gain.of_seed[0], 0.2, 1e-12);
    ck_assert_double_eq_tol(gain.of_seed[1], 0.2, 1e-12);
    ck_assert_double_eq_tol(spread.mean, 0.475, 1e-12);
    ck_assert_double_eq_tol(spread.deviation, sqrt(0.3275 / 3), 1e-12);
    ohm_demo_free(&demo);
    free(config);
}

OHM_TEST(demo, loss_is_smoothed_over_the_last_steps)
{
    double loss[40];
    for (int i = 0; i < 40; i++)
        loss[i] = i;
    const ohm_demo_run run = {.loss = loss};
    ck_assert_double_eq(ohm_demo_loss(&run, 0), 0);
    ck_assert_double_eq(ohm_demo_loss(&run, 4), 2);
    ck_assert_double_eq(ohm_demo_loss(&run, 39), 39 - (OHM_DEMO_SMOOTH_STEPS - 1) / 2.0);
}

OHM_TEST(demo, refuses_what_it_cannot_do)
{
    expect("$P demo --set hardware=none", 2, "hardware.programming.model");
    expect("$P demo --set hardware=pcm_ibm", 2, "hardware.programming.model");
    expect("$P demo --set demo.seeds=[]", 2, "demo.seeds");
    expect("$P demo --set demo.seeds=[1.5]", 2, "demo.seeds': 1.5 is not a whole number");
    expect("$P demo --set demo.levels=[-1]", 2, "demo.levels");
    expect("$P demo missing.yaml", 1, "missing.yaml");
    expect("$P demo one two", 2, "'two'");
    expect("touch $D/file && $P demo --out $D/file/demo", 1, "file");
}

/* ---- a shrunken demo ----------------------------------------------------------------------- */

static cJSON *read_results(const char *dir)
{
    char path[512], *text;
    size_t bytes;
    snprintf(path, sizeof path, "%s/%s/results.json", ohm_test_tmpdir(), dir);
    OHM_OK_OR_FAIL(ohm_file_read(&text, &bytes, path, 1 << 20));
    cJSON *json = cJSON_ParseWithOpts(text, NULL, 1);
    ck_assert_ptr_nonnull(json);
    free(text);
    return json;
}

static void check_results(const cJSON *json)
{
    const cJSON *run;
    ck_assert_int_eq(cJSON_GetArraySize(cJSON_GetObjectItem(json, "table")), 6);
    ck_assert_int_eq(cJSON_GetArraySize(cJSON_GetObjectItem(json, "runs")), 6);
    cJSON_ArrayForEach(run, cJSON_GetObjectItem(json, "runs"))
    {
        const cJSON *levels = cJSON_GetObjectItem(run, "chip_accuracies");
        ck_assert_int_eq(cJSON_GetArraySize(levels), 2);
        for (int level = 0; level < 2; level++)
            for (int chip = 0; chip < 2; chip++) {
                double accuracy = cJSON_GetArrayItem(cJSON_GetArrayItem(levels, level), chip)->valuedouble;
                ck_assert(accuracy >= 0 && accuracy <= 1);
            }
    }
}

static void check_picture(const char *name)
{
    char line[64];
    snprintf(line, sizeof line, "head -c 400 $D/a/%s", name);
    expect(line, 0, "<svg");
}

#define SHRUNKEN "--set train.steps=6 --set eval.chips=2 --set data.test_limit=40 --set demo.seeds=[1,4] --set demo.levels=[1,3] "

OHM_TEST_SLOW(demo, prints_a_table_and_writes_numbers_and_figures)
{
    expect("$P demo " SHRUNKEN "--out $D/a", 0, "level 3");
    ck_assert_ptr_nonnull(strstr(out, "full gradient"));
    ck_assert_ptr_nonnull(strstr(out, "standard error"));
    cJSON *first = read_results("a");
    check_results(first);
    if (ohm_test_run(NULL, 0, "command -v gnuplot >/dev/null") == 0) {
        check_picture("loss.svg");
        check_picture("accuracy.svg");
    }
    /* Another number of threads and the printed configuration: the same accuracies to the last bit. */
    expect("$P demo $D/a/config.yaml --set threads=1 --out $D/b", 0, "level 3");
    cJSON *second = read_results("b");
    const cJSON *runs = cJSON_GetObjectItem(first, "runs"), *again = cJSON_GetObjectItem(second, "runs");
    for (int i = 0; i < cJSON_GetArraySize(runs); i++)
        ck_assert(cJSON_Compare(cJSON_GetObjectItem(cJSON_GetArrayItem(runs, i), "chip_accuracies"),
                                cJSON_GetObjectItem(cJSON_GetArrayItem(again, i), "chip_accuracies"), 1));
    cJSON_Delete(first);
    cJSON_Delete(second);
}

/* What a device refuses, for one method of three or for want of it, is known before the folder is made. */
OHM_TEST(demo, a_refused_device_leaves_nothing)
{
    expect("$P demo --device cuda --set train.full=save --out $D/c; s=$?; ls $D; exit $s", 1, "device cuda");
    ck_assert_msg(strchr(out, '\n') == out + strlen(out) - 1, "more than one line: %s", out);
    if (access("/dev/nvidiactl", F_OK) == 0)
        OHM_SKIP("there is a GPU here");
    expect("$P demo --device cuda --out $D/c; s=$?; ls $D; exit $s", 1, "device cuda");
    ck_assert_msg(strchr(out, '\n') == out + strlen(out) - 1, "more than one line: %s", out);
    /* builds without a CUDA part have no word on drivers */
    ck_assert_msg(strstr(out, "no NVIDIA driver on this machine; set device: cpu") || strstr(out, "no CUDA backend"), "%s", out);
}

/* ---- VGG-8 --------------------------------------------------------------------------------- */

static void write_batch(const char *name, int records, uint32_t site)
{
    char path[512];
    const ohm_stream stream = {.site = site};
    snprintf(path, sizeof path, "%s/%s", ohm_test_tmpdir(), name);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < records; i++)
        for (int byte = 0; byte < OHM_CIFAR_RECORD; byte++) {
            uint32_t word = ohm_stream_word(&stream, (uint64_t)i * OHM_CIFAR_RECORD + (uint64_t)byte);
            ck_assert_int_ne(fputc((int)(byte ? word & 255 : word % 10), file), EOF);
        }
    ck_assert_int_eq(fclose(file), 0);
}

#define VGG8 "$P train models/cifar_vgg8.yaml --set train.micro_batch=0 --set train.calibration_batches=1 --set train.warmup_steps=0 "

OHM_TEST_SLOW(demo, vgg8_trains_on_images_of_noise)
{
    for (int i = 0; i < 6; i++) {
        char name[32];
        snprintf(name, sizeof name, i < 5 ? "data_batch_%d.bin" : "test_batch.bin", i + 1);
        write_batch(name, 4, (uint32_t)i);
    }
    expect(VGG8 "--set data.dir=$D --set train.batch=4 --set train.steps=3 --set eval.chips=1 --out $D/run", 0, "3 steps");
    expect("ls $D/run/checkpoints", 0, "step-00000003.safetensors");
}

OHM_TEST_SLOW(demo, vgg8_loss_falls_on_cifar10)
{
    const char *data = getenv("OHMGRAD_DATA");
    char line[1024], dir[512], batch[600];
    double first, last;
    snprintf(dir, sizeof dir, "%s/cifar10", data ? data : "data");
    snprintf(batch, sizeof batch, "%s/data_batch_1.bin", dir);
    if (access(batch, R_OK) != 0)
        OHM_SKIP("%s is not there; datasets/fetch_cifar10.sh fetches it", dir);
    snprintf(line, sizeof line,
             VGG8 "--set data.dir='%s' --set data.test_limit=16 --set train.batch=16 --set train.steps=40 --set train.lr=0.01 "
                  "--set train.log_every=10 --set eval.chips=1 --out $D/run >/dev/null && sed -n 's/.*\"loss\": \\([0-9.e+-]*\\).*/\\1/p' $D/run/metrics.jsonl",
             dir);
    expect(line, 0, ".");
    ck_assert_int_eq(sscanf(out, "%lf %*f %*f %lf", &first, &last), 2);
    ck_assert_msg(last < first, "mean loss of steps 31-40 is %g, of steps 1-10 %g", last, first);
}
