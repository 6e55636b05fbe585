/* What `ohmgrad profile` says: that its plan is true, that its batches fit, and how it refuses. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/file.h"
#include "host/plan.h"
#include "host/profile.h"
#include "models/networks.h"
#include "tests/runner.h"

static char out[1 << 16];

#define PREFIX "cd '%s' && P='%s' && ROOT=\"$OLDPWD\" && MLP=\"$ROOT/models/digits_mlp.yaml\" && "

static int shell(const char *script)
{
    return ohm_test_run(out, sizeof out, PREFIX "%s", ohm_test_tmpdir(), ohm_test_program(),
                        script);
}

static void refuse(const char *script, int status, const char *expected)
{
    int got = shell(script);
    ck_assert_msg(got == status, "%s: %d, not %d: %s", script, got, status, out);
    ck_assert_msg(strstr(out, expected), "%s: '%s' lacks '%s'", script, out, expected);
    ck_assert_msg(!strncmp(out, "ohmgrad: ", 9) && strchr(out, '\n') == out + strlen(out) - 1,
                  "%s: not one line: %s", script, out);
}

static void expect(const char *script, const char *expected)
{
    int got = shell(script);
    ck_assert_msg(got == 0, "%s: %d: %s", script, got, out);
    ck_assert_msg(strstr(out, expected), "%s: '%s' lacks '%s'", script, out, expected);
}

static void describe(ohm_architecture *a, ohm_config *config, int kind, int mode, int batch)
{
    OHM_OK_OR_FAIL(ohm_config_read(config, NULL));
    OHM_OK_OR_FAIL(ohm_hardware_read(&config->hardware, "rasch2023"));
    config->hardware_enabled = 1;
    config->network.kind = kind;
    config->network.width = 512; /* of the MLP */
    ohm_variant_set(config, mode);
    config->train.batch = batch;
    OHM_OK_OR_FAIL(ohm_model_build(a, config, 32, 32, 3, 10));
}

/* ---- the plan is true ---------------------------------------------------------------------- */

static void planned_is_seen(int kind, int batch)
{
    static ohm_architecture a;
    static ohm_profile_job job;
    job.architecture = &a;
    for (int mode = 0; mode < OHM_VARIANTS; mode++) {
        ohm_profile p = {0};
        describe(&a, &job.config, kind, mode, batch);
        OHM_OK_OR_FAIL(ohm_profile_run(&p, &job, 1, 1, 1));
        double share = p.seen / (double)p.plan.reserved;
        ck_assert_msg(fabs(share - 1.0) <= 0.02, "%s, mode %s: %.0f bytes seen, %zu planned",
                      a.name, ohm_variant_name(mode), p.seen, p.plan.reserved);
        ohm_profile_free(&p);
    }
}

static int tells_the_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (file)
        fclose(file);
    return file != NULL;
}

OHM_TEST_SLOW(profile, planned_peak_is_the_peak_seen)
{
    if (!tells_the_peak())
        OHM_SKIP("this system does not let a process reset its resident peak");
    planned_is_seen(OHM_NET_LENET5, 128);
    planned_is_seen(OHM_NET_RESNET20, 16);
    planned_is_seen(OHM_NET_MLP, 256);
}

/* Its 13 million cells are programmed four times per mode. */
OHM_TEST_LONG(profile, planned_peak_is_the_peak_seen_in_vgg8)
{
    if (!tells_the_peak())
        OHM_SKIP("this system does not let a process reset its resident peak");
    planned_is_seen(OHM_NET_VGG8, 4);
}

/* ---- batches that fit ---------------------------------------------------------------------- */

OHM_TEST_SLOW(profile, the_largest_batch_fits_and_one_more_does_not)
{
    static ohm_architecture a;
    static ohm_config config;
    for (int mode = 0; mode < OHM_VARIANTS; mode++)
        for (int evaluates = 0; evaluates < 2; evaluates++) {
            int images;
            ohm_plan plan, more;
            const size_t limit = (size_t)300 << 20;
            describe(&a, &config, OHM_NET_RESNET20, mode, 64);
            OHM_OK_OR_FAIL(ohm_plan_largest(&images, &plan, &a, &config, evaluates, limit));
            OHM_OK_OR_FAIL(ohm_plan_make(&more, &a, &config, images, evaluates));
            ck_assert_uint_eq(more.total, plan.total);
            ck_assert_uint_le(more.total, limit);
            ck_assert(evaluates == (more.evaluation > 0));
            OHM_OK_OR_FAIL(ohm_plan_make(&more, &a, &config, images + 1, evaluates));
            ck_assert_uint_gt(more.total, limit);
            config.train.batch = images + 1;
            ck_assert_int_eq(ohm_plan_check(&a, &config, evaluates, limit), OHM_ERR_MEMORY);
            char most[64];
            snprintf(most, sizeof most, "at most %d,", images);
            ck_assert_msg(strstr(ohm_error_text(), most), "%s", ohm_error_text());
            config.train.micro_batch = images;
            OHM_OK_OR_FAIL(ohm_plan_check(&a, &config, evaluates, limit));
        }
}

OHM_TEST(profile, limits_that_nothing_fits_say_why)
{
    static ohm_architecture a;
    static ohm_config config;
    int images;
    ohm_plan plan;
    describe(&a, &config, OHM_NET_RESNET20, OHM_VARIANTS - 1, 1);
    ck_assert_int_eq(ohm_plan_largest(&images, &plan, &a, &config, 0, 1 << 19), OHM_ERR_MEMORY);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "512.0 KiB is below the weights alone (1."));
    ck_assert_int_eq(ohm_plan_largest(&images, &plan, &a, &config, 0, 4 << 20), OHM_ERR_MEMORY);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "even one image"));
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "simulator workspace"));
    ck_assert_int_eq(ohm_plan_largest(&images, &plan, &a, &config, 1, 40 << 20), OHM_ERR_MEMORY);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "lower eval.batch"));
}

OHM_TEST(profile, find_batch_runs_nothing)
{
    expect("$P profile $MLP --find-batch --memory-limit 64M --modes baseline,nograd && ls",
           "nograd ");
    ck_assert_ptr_null(strstr(out, "runs"));
    ck_assert_ptr_null(strstr(out, "detach"));
    refuse("$P profile $MLP --find-batch --memory-limit 10000", 1, "below the weights alone");
}

/* ---- the program --------------------------------------------------------------------------- */

static cJSON *read_json(const char *name)
{
    char path[4096], *text;
    size_t bytes;
    snprintf(path, sizeof path, "%s/%s", ohm_test_tmpdir(), name);
    OHM_OK_OR_FAIL(ohm_file_read(&text, &bytes, path, 1 << 24));
    cJSON *json = cJSON_ParseWithOpts(text, NULL, 1);
    ck_assert_msg(json != NULL, "%s is no JSON", name);
    free(text);
    return json;
}

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    ck_assert_msg(cJSON_IsNumber(item), "no number '%s'", name);
    return item->valuedouble;
}

/* Means lie below peaks, categories below totals, the points of a step between its ends. */
static void check_result(const cJSON *r, int steps)
{
    double peak = number(r, "planned_peak_bytes"), live = number(r, "live_peak_bytes"),
           mean = number(r, "mean_bytes"), sum = 0, at = -1;
    const cJSON *each, *seconds = cJSON_GetObjectItemCaseSensitive(r, "seconds");
    ck_assert_int_eq(cJSON_GetArraySize(seconds), steps);
    ck_assert_double_gt(number(r, "seconds_median"), 0);
    ck_assert(mean > 0 && mean <= live && live <= peak);
    cJSON_ArrayForEach(each, cJSON_GetObjectItemCaseSensitive(r, "categories"))
    {
        ck_assert_double_le(number(each, "mean_bytes"), number(each, "peak_bytes") + 1);
        ck_assert_double_le(number(each, "peak_bytes"), live);
        sum += number(each, "mean_bytes");
    }
    ck_assert_double_eq_tol(sum, mean, 8);
    double most = 0;
    cJSON_ArrayForEach(each, cJSON_GetObjectItemCaseSensitive(r, "memory_over_step"))
    {
        double t = cJSON_GetArrayItem(each, 0)->valuedouble;
        ck_assert_double_ge(t, at);
        at = t;
        most = fmax(most, cJSON_GetArrayItem(each, 1)->valuedouble * (1 << 20));
    }
    ck_assert_double_eq_tol(most, live, 1);
    double cpu = number(r, "cpu_utilisation");
    ck_assert(cpu > 0 && cpu < 1.1);
}

OHM_TEST(profile, table_json_and_figure_agree)
{
    expect("$P profile $MLP --batch 8,24 --steps 3 && ls runs/profile", "batch 24, chip");
    ck_assert_ptr_nonnull(strstr(out, "memory.dat"));
    ck_assert_ptr_nonnull(strstr(out, "saved simulator state"));
    cJSON *json = read_json("runs/profile/profile.json");
    const cJSON *results = cJSON_GetObjectItemCaseSensitive(json, "results");
    ck_assert_int_eq(cJSON_GetArraySize(results), 2 * OHM_VARIANTS);
    for (int i = 0; i < 2 * OHM_VARIANTS; i++) {
        const cJSON *r = cJSON_GetArrayItem(results, i);
        ck_assert_double_eq(number(r, "batch"), i < OHM_VARIANTS ? 8 : 24);
        ck_assert_str_eq(cJSON_GetObjectItemCaseSensitive(r, "mode")->valuestring,
                         ohm_variant_name(i % OHM_VARIANTS));
        check_result(r, 3);
    }
    cJSON_Delete(json);
}

OHM_TEST(profile, modes_without_a_gradient_give_their_reason)
{
    expect("$P profile $MLP --batch 8 --steps 1 --set hardware=rasch2023 --set hardware.read.form=per_cell --json p.json",
           "full       not available: ");
    cJSON *json = read_json("p.json");
    const cJSON *r = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(json, "results"), 1);
    ck_assert(cJSON_IsString(cJSON_GetObjectItemCaseSensitive(r, "not_available")));
    cJSON_Delete(json);
}

OHM_TEST(profile, a_chip_that_keeps_nothing_gives_its_reason)
{
    static const char reason[] = "full:save  not available: key 'train.full'";
    expect("$P profile $MLP --batch 8 --steps 1 --set hardware.input.noise=0.1 --json p.json", reason);
    ck_assert_ptr_nonnull(strstr(out, "\nnograd "));
    expect("$P profile $MLP --find-batch --memory-limit 64M --set hardware.input.noise=0.1", reason);
}

OHM_TEST(profile, utilisation_comes_from_nvml_or_not_at_all)
{
    expect("LD_LIBRARY_PATH=. $P profile $MLP --batch 8 --steps 1 --modes nograd --json p.json",
           "n/a");
    static const char fake[] =
        "int nvmlInit_v2(void) { return 0; }\n"
        "int nvmlShutdown(void) { return 0; }\n"
        "int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = d; return (int)i; }\n"
        "int nvmlDeviceGetUtilizationRates(void *d, unsigned *r)\n"
        "{ (void)d; r[0] = 37; r[1] = 5; return 0; }\n";
    char path[4096];
    snprintf(path, sizeof path, "%s/fake.c", ohm_test_tmpdir());
    const ohm_file_part part = {fake, strlen(fake)};
    OHM_OK_OR_FAIL(ohm_file_write_atomic(path, &part, 1));
    if (shell("cc -shared -fPIC -o libnvidia-ml.so.1 fake.c") != 0)
        OHM_SKIP("no compiler that is called cc");
    expect("LD_LIBRARY_PATH=. $P profile $MLP --batch 8 --steps 1 --modes nograd --json p.json",
           "37 %");
}

OHM_TEST(profile, what_is_wrong_is_said_in_one_line)
{
    refuse("$P profile", 2, "no CONFIG.yaml");
    refuse("$P profile $MLP --modes nogrd", 2, "'nogrd' is no mode");
    refuse("$P profile $MLP --modes full,,detach", 2, "'' is no mode");
    refuse("$P profile $MLP --modes full,full", 2, "full twice");
    refuse("$P profile $MLP --modes full:keep", 2, "'full:keep' is no mode");
    refuse("$P train $MLP --set train.full=keep", 2, "train.full");
    refuse("$P train $MLP --set train.mode=full --set train.full=save --set "
           "hardware.ir_drop.model=exact --set hardware.ir_drop.zero_input=gated",
           1, "wires are solved one by one");
    refuse("$P train $MLP --set train.mode=full --set train.full=save --set hardware.input.noise=0.1",
           1, "save keeps no noise of inputs");
    refuse("$P profile $MLP --batch 0", 2, "'0' is no batch");
    refuse("$P profile $MLP --batch 8,", 2, "'' is no batch");
    refuse("$P profile $MLP --batch 8x", 2, "'8x' is no batch");
    refuse("$P profile $MLP --batch 1,2,3,4,5,6,7,8,9", 2, "more than 8 batches");
    refuse("$P profile $MLP --steps 0", 2, "steps");
    refuse("$P profile $MLP --memory-limit 8Q", 2, "'8Q' is no size");
    refuse("$P profile $MLP --memory-limit -1", 2, "'-1' is no size");
    refuse("$P profile $MLP --memory-limit 1G5", 2, "'1G5' is no size");
    refuse("$P profile $MLP --memory-limit 20K", 1, "below the weights alone");
    refuse("$P profile $MLP --batch 100000 --memory-limit 16MiB", 1, "set train.micro_batch to");
    refuse("$P profile $MLP --batch 1000000 --memory-limit 900T --set network.width=4096", 1, "limit");
    refuse("$P profile $MLP --batch 8,8", 2, "names 8 twice");
    refuse("$P profile $MLP --out a --json b", 2, "only one of them");
    refuse("$P profile $MLP --json ''", 2, "--json '' names nothing");
    refuse("$P profile $MLP --trace a --json a", 2, "both a;");
    refuse("$P profile $MLP --find-batch --batch 8", 2, "--find-batch runs nothing");
    refuse("$P profile $MLP --json /dev/null/x", 1, "/dev/null/x: cannot write here");
    refuse("$P profile $MLP --trace missing/x", 1, "missing/x: cannot write here");
    refuse("$P profile $MLP --out /dev/null/x", 1, "/dev/null/x: cannot make the folder");
    refuse("$P profile $MLP --set hardware=none --modes nograd", 2, "has no chip");
    refuse("$P train $MLP --memory-limit 20K", 1, "below the weights alone");
    refuse("$P train $MLP --set network.width=512 --set train.batch=1000 --memory-limit 7M", 1,
           "most of it simulator workspace");
    refuse("$P train $MLP --trace /dev/null/x", 1, "/dev/null/x: cannot write here");
    refuse("ls | grep . || $P profile $MLP extra extra", 2, "one argument too many");
}
