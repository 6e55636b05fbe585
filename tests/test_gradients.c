/* The quality of gradients: its arithmetic on vectors one can follow, what must hold on real networks,
 * and the command. */
#include "host/gradients.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datasets/datasets.h"
#include "host/chip_analog.h"
#include "host/file.h"
#include "models/networks.h"
#include "tests/compare.h"
#include "tests/runner.h"

/* ---- arithmetic ---------------------------------------------------------------------------- */

static void near(const double *measure, int which, double expected)
{
    ck_assert_msg(fabs(measure[which] - expected) < 1e-12, "%s: %.15g, not %.15g",
                  ohm_measure_name(which), measure[which], expected);
}

/* STE (3,4) and (5,0) around (4,2); full (4,3) and (0,5) around (2,4). */
OHM_TEST(gradients, measures_by_hand)
{
    static const float ste[2][2] = {{3, 4}, {5, 0}}, full[2][2] = {{4, 3}, {0, 5}},
                       clean[2] = {1, 0};
    double m[OHM_MEASURES];
    ohm_gradient_tally *tally = ohm_gradient_tally_new(2);
    ck_assert_ptr_nonnull(tally);
    for (int round = 0; round < 2; round++) { /* the second after a clear */
        ohm_gradient_tally_clear(tally);
        for (int d = 0; d < 2; d++)
            ohm_gradient_tally_add(tally, ste[d], full[d], clean);
        ohm_gradient_tally_read(tally, m);
    }
    near(m, OHM_MEASURE_COSINE, (24.0 / 25.0 + 0.0) / 2);
    near(m, OHM_MEASURE_NORM_RATIO, 1.0);
    near(m, OHM_MEASURE_STE_VARIANCE, 10.0); /* 2 draws, each |(1,2)|^2 = 5 from the mean, over 1 */
    near(m, OHM_MEASURE_FULL_VARIANCE, 10.0);
    near(m, OHM_MEASURE_STE_RELATIVE, 10.0 / 25.0);
    near(m, OHM_MEASURE_FULL_RELATIVE, 10.0 / 25.0);
    /* differences (-1,1) and (5,-5): mean (2,-2), variance 2·18 = 36; 8 - 36/2 < 0 */
    near(m, OHM_MEASURE_BIAS, 0.0);
    near(m, OHM_MEASURE_STE_CLEAN_COSINE, (3.0 / 5 + 1.0) / 2);
    near(m, OHM_MEASURE_FULL_CLEAN_COSINE, (4.0 / 5 + 0.0) / 2);
    near(m, OHM_MEASURE_STE_CLEAN_RATIO, 5.0);
    near(m, OHM_MEASURE_FULL_CLEAN_RATIO, 5.0);
    ohm_gradient_tally_free(tally);
}

/* A constant distance is all bias and no variance; a zero gradient has no direction. */
OHM_TEST(gradients, bias_and_zero)
{
    static const float ste[2] = {6, 0}, full[2] = {3, 4}, zero[2] = {0, 0};
    double m[OHM_MEASURES];
    ohm_gradient_tally *tally = ohm_gradient_tally_new(2);
    ck_assert_ptr_nonnull(tally);
    for (int d = 0; d < 3; d++)
        ohm_gradient_tally_add(tally, ste, full, zero);
    ohm_gradient_tally_read(tally, m);
    near(m, OHM_MEASURE_STE_VARIANCE, 0.0);
    near(m, OHM_MEASURE_FULL_RELATIVE, 0.0);
    near(m, OHM_MEASURE_BIAS, 5.0 / 5.0);
    near(m, OHM_MEASURE_COSINE, 18.0 / 30.0);
    near(m, OHM_MEASURE_NORM_RATIO, 6.0 / 5.0);
    ck_assert(isnan(m[OHM_MEASURE_STE_CLEAN_COSINE]));
    ohm_gradient_tally_free(tally);
}

/* ---- networks ------------------------------------------------------------------------------ */

typedef struct {
    ohm_config config;
    ohm_architecture architecture;
    ohm_dataset train, test;
    ohm_network *network;
} lab;

static void open_lab(lab *l, const char *hardware, int hidden_layers)
{
    memset(l, 0, sizeof *l);
    omp_set_num_threads(1);
    OHM_OK_OR_FAIL(ohm_config_read(&l->config, NULL));
    l->config.network.width = 24;
    l->config.network.hidden_layers = hidden_layers;
    l->config.train.mode = OHM_MODE_FULL;
    l->config.train.batch = 32;
    l->config.train.micro_batch = 16;
    l->config.data.train_limit = 128;
    l->config.hardware_enabled = hardware != NULL;
    if (hardware)
        OHM_OK_OR_FAIL(ohm_hardware_read(&l->config.hardware, hardware));
    OHM_OK_OR_FAIL(ohm_datasets_load(&l->train, &l->test, &l->config));
    OHM_OK_OR_FAIL(ohm_model_build(&l->architecture, &l->config, l->train.height, l->train.width,
                                   l->train.channels, l->train.classes));
}

static void open_network(lab *l)
{
    const ohm_network_options options = {.max_batch = 16, .training = 1, .every_mode = 1};
    OHM_OK_OR_FAIL(ohm_network_create(&l->network, &l->architecture, &l->config, &options));
}

static void close_lab(lab *l)
{
    ohm_network_destroy(l->network);
    ohm_dataset_free(&l->train);
    ohm_dataset_free(&l->test);
}

static ohm_status measure(ohm_gradient_report *report, lab *l, const double *level, int levels)
{
    const ohm_gradient_job job = {.level = level, .levels = levels, .batches = 2, .draws = 3};
    return ohm_gradients_measure(report, l->network, &l->config, &l->train, &job);
}

/* Without noise nothing varies, and the two gradients differ by quantisation alone. */
OHM_TEST(gradients, ideal_chip_agrees)
{
    static lab l;
    for (int hidden = 0; hidden < 2; hidden++) {
        const double level = 1;
        ohm_gradient_report r;
        open_lab(&l, "ideal", hidden);
        open_network(&l);
        OHM_OK_OR_FAIL(measure(&r, &l, &level, 1));
        ck_assert_int_eq(r.groups, hidden + 2);
        ck_assert_str_eq(r.group[0], "fc1");
        ck_assert_str_eq(r.group[hidden + 1], "all");
        for (int g = 0; g < r.groups; g++) {
            const ohm_estimate *e = ohm_gradient_at(&r, 0, g);
            ck_assert_double_gt(e[OHM_MEASURE_COSINE].mean, 0.99);
            ck_assert_double_gt(e[OHM_MEASURE_STE_CLEAN_COSINE].mean, 0.99);
            ck_assert_double_eq_tol(e[OHM_MEASURE_NORM_RATIO].mean, 1.0, 0.02);
            ck_assert_double_lt(e[OHM_MEASURE_STE_RELATIVE].mean, 1e-9);
            ck_assert_double_lt(e[OHM_MEASURE_FULL_RELATIVE].mean, 1e-9);
        }
        ohm_gradient_report_free(&r);
        close_lab(&l);
    }
}

OHM_TEST(gradients, agreement_falls_with_noise)
{
    static const double level[4] = {0, 1, 3, 6};
    static lab l;
    ohm_gradient_report r;
    open_lab(&l, "lognormal", 1);
    open_network(&l);
    OHM_OK_OR_FAIL(measure(&r, &l, level, 4));
    for (int g = 0; g < r.groups; g++) {
        ck_assert_double_lt(ohm_gradient_at(&r, 0, g)[OHM_MEASURE_STE_RELATIVE].mean, 1e-9);
        for (int i = 1; i < 4; i++) {
            const ohm_estimate *low = ohm_gradient_at(&r, i - 1, g),
                               *high = ohm_gradient_at(&r, i, g);
            ck_assert_double_lt(high[OHM_MEASURE_COSINE].mean, low[OHM_MEASURE_COSINE].mean);
            ck_assert_double_lt(high[OHM_MEASURE_STE_CLEAN_COSINE].mean,
                                low[OHM_MEASURE_STE_CLEAN_COSINE].mean);
            ck_assert_double_gt(high[OHM_MEASURE_FULL_RELATIVE].mean,
                                low[OHM_MEASURE_FULL_RELATIVE].mean);
            ck_assert_double_gt(high[OHM_MEASURE_COSINE].error, 0.0);
        }
    }
    ohm_gradient_report_free(&r);
    close_lab(&l);
}

static float *values_of(ohm_network *network, size_t *count)
{
    int parameters;
    const ohm_parameter *p = ohm_network_parameters(network, &parameters);
    *count = 0;
    for (int i = 0; i < parameters; i++)
        *count += p[i].count;
    float *all = malloc(*count * sizeof *all), *at = all;
    ck_assert_ptr_nonnull(all);
    for (int i = 0; i < parameters; at += p[i++].count)
        memcpy(at, p[i].value, p[i].count * sizeof *at);
    return all;
}

/* The same bits on any number of threads, and on a network that has measured before. */
OHM_TEST(gradients, repeatable_and_leaves_the_network)
{
    static const double level[2] = {1, 3};
    static lab l;
    ohm_gradient_report r[2];
    size_t count;
    open_lab(&l, "lognormal", 1);
    omp_set_num_threads(2);
    open_network(&l);
    float *before = values_of(l.network, &count);
    for (int run = 0; run < 2; run++) {
        omp_set_num_threads(run + 1);
        OHM_OK_OR_FAIL(measure(&r[run], &l, level, 2));
    }
    float *after = values_of(l.network, &count);
    ck_assert_int_eq(memcmp(before, after, count * sizeof *before), 0);
    ck_assert_int_eq(
        memcmp(r[0].estimate, r[1].estimate, (size_t)2 * 3 * OHM_MEASURES * sizeof *r[0].estimate),
        0);
    for (int run = 0; run < 2; run++)
        ohm_gradient_report_free(&r[run]);
    free(before);
    free(after);
    close_lab(&l);
}

static void refuse(lab *l, const ohm_gradient_job *job, ohm_status code, const char *text)
{
    ohm_gradient_report r;
    ck_assert_int_eq(ohm_gradients_measure(&r, l->network, &l->config, &l->train, job), code);
    ck_assert_msg(strstr(ohm_error_text(), text), "'%s' lacks '%s'", ohm_error_text(), text);
    ck_assert_ptr_null(r.estimate);
}

OHM_TEST(gradients, bad_jobs_are_refused)
{
    static const double good[1] = {1}, bad[1] = {NAN}, negative[1] = {-1};
    static lab l;
    open_lab(&l, "lognormal", 0);
    open_network(&l);
    refuse(&l, &(ohm_gradient_job){good, 1, 2, 1, NULL, NULL}, OHM_ERR_ARGUMENT, "1 draws");
    refuse(&l, &(ohm_gradient_job){good, 1, 0, 2, NULL, NULL}, OHM_ERR_ARGUMENT, "0 batches");
    refuse(&l, &(ohm_gradient_job){good, 0, 2, 2, NULL, NULL}, OHM_ERR_ARGUMENT, "no noise level");
    refuse(&l, &(ohm_gradient_job){bad, 1, 2, 2, NULL, NULL}, OHM_ERR_ARGUMENT, "noise level nan");
    refuse(&l, &(ohm_gradient_job){negative, 1, 2, 2, NULL, NULL}, OHM_ERR_ARGUMENT, "level -1");
    refuse(&l, &(ohm_gradient_job){good, 1, 5, 2, NULL, NULL}, OHM_ERR_CONFIG, "5 batches of 32");
    close_lab(&l);
    open_lab(&l, NULL, 0);
    open_network(&l);
    refuse(&l, &(ohm_gradient_job){good, 1, 2, 2, NULL, NULL}, OHM_ERR_CONFIG, "has no chip");
    close_lab(&l);
}

OHM_TEST(gradients, simulator_without_gradient_is_refused)
{
    static ohm_simulator one_way;
    static const double level[1] = {1};
    static lab l;
    one_way = ohm_simulator_analog;
    one_way.name = "one_way";
    one_way.backward = NULL;
    OHM_OK_OR_FAIL(ohm_chip_register(&one_way));
    open_lab(&l, "lognormal", 0);
    OHM_OK_OR_FAIL(ohm_hardware_set(&l.config.hardware, "simulator=one_way"));
    open_network(&l);
    refuse(&l, &(ohm_gradient_job){level, 1, 2, 2, NULL, NULL}, OHM_ERR_UNSUPPORTED,
           "has no gradient");
    close_lab(&l);
}

/* ---- the command --------------------------------------------------------------------------- */

static char out[1 << 16];

static const char *config_file(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/config.yaml", ohm_test_tmpdir());
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fprintf(file, "network: {width: 16}\ndata: {kind: digits, train_limit: 64}\n"
                  "train: {batch: 16, calibration_batches: 1}\nhardware: lognormal\n");
    ck_assert_int_eq(fclose(file), 0);
    return path;
}

static int gradients(const char *arguments)
{
    return ohm_test_run(out, sizeof out, "cd '%s' && '%s' gradients %s", ohm_test_tmpdir(),
                        ohm_test_program(), arguments);
}

OHM_TEST(gradients, command_prints_writes_and_draws)
{
    char path[512], *csv;
    size_t bytes;
    int lines = 0;
    config_file();
    ck_assert_msg(gradients("config.yaml --levels=0.5,2 --batches 2 --draws 2 --steps 3") == 0,
                  "%s", out);
    ck_assert_ptr_nonnull(strstr(out, "\nnoise level 2\nlayer"));
    ck_assert_ptr_nonnull(strstr(out, "\nfc2  "));
    ck_assert_ptr_nonnull(strstr(out, "±"));
    snprintf(path, sizeof path, "%s/runs/gradients/gradients.csv", ohm_test_tmpdir());
    OHM_OK_OR_FAIL(ohm_file_read(&csv, &bytes, path, 1 << 20));
    for (const char *at = csv; (at = strchr(at, '\n')); at++)
        lines++;
    ck_assert_int_eq(lines, 1 + 2 * 3);
    ck_assert_int_eq(strncmp(csv, "level,layer,cosine,cosine_error,", 32), 0);
    ck_assert_ptr_nonnull(strstr(csv, "\n0.5,all,"));
    free(csv);
}

static void refuse_command(int status, const char *arguments, const char *expected)
{
    ck_assert_msg(gradients(arguments) == status, "%s: not %d: %s", arguments, status, out);
    ck_assert_msg(!strncmp(out, "ohmgrad: ", 9), "%s", out);
    ck_assert_msg(strchr(out, '\n') == out + strlen(out) - 1, "not one line: %s", out);
    ck_assert_msg(strstr(out, expected), "'%s' lacks '%s'", out, expected);
}

OHM_TEST(gradients, command_refuses_in_one_line)
{
    config_file();
    refuse_command(2, "", "no CONFIG.yaml");
    refuse_command(1, "none.yaml", "none.yaml");
    refuse_command(2, "config.yaml --levels 1,x", "--levels 'x' is no noise level");
    refuse_command(2, "config.yaml --levels 1,,2", "--levels '' is no noise level");
    refuse_command(2, "config.yaml --levels=-1", "--levels '-1' is no noise level");
    refuse_command(2, "config.yaml --draws 0", "'draws'");
    refuse_command(2, "config.yaml --batches 1.5", "'batches'");
    refuse_command(2, "config.yaml --set hardware=none", "has no chip");
    refuse_command(2, "config.yaml --set hardware=ideal", "programming.model is none");
    refuse_command(2, "config.yaml --batches 5", "5 batches of 16");
    refuse_command(2, "config.yaml --steps 1 --checkpoint x", "give only one of them");
    refuse_command(1, "config.yaml --checkpoint none.safetensors", "none.safetensors");
    refuse_command(1, "config.yaml --out config.yaml/x", "config.yaml");
    refuse_command(1, "config.yaml --device cuda --set train.full=save --out refused", "device cuda");
    ck_assert_int_eq(ohm_test_run(out, sizeof out, "test -e '%s/refused'", ohm_test_tmpdir()), 1);
}
