/* Benchmarks of devices on the host executor, the report from a GPU with stand-ins for all that it runs,
 * and the bundle. */
#include "tests/runner.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char out[1 << 16];

/* Runs lines of shell in this test's folder: ROOT is the tree, BUILT the folder of the tests. */
static int script(const char *lines)
{
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", ohm_test_self());
    *strrchr(folder, '/') = 0;
    return ohm_test_run(out, sizeof out, "cd '%s' && BUILT='%s' ROOT=\"$OLDPWD\" && %s",
                        ohm_test_tmpdir(), folder, lines);
}

static void says(const char *text)
{
    ck_assert_msg(strstr(out, text) != NULL, "'%s' lacks '%s'", out, text);
}

/* The benchmark holds each result against the CPU before it times it. */
OHM_TEST_SLOW(device_bench, every_kernel_is_right_and_measured)
{
    static const char *const figures[] = {"\"ceiling: device copy",
                                          "\"ceiling: Philox words, in",
                                          "\"quantise\"",
                                          "\"exact normals",
                                          "\"fast normals",
                                          "\"G_eff of exact IR drop",
                                          "\"programming",
                                          "tensor cores",
                                          "noise off\"",
                                          "noise on\""};
    int got = script("\"$BUILT/bench_cuda_executor\" --small");
    ck_assert_msg(got == 0, "%d: %s", got, out);
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        says(figures[i]);
    says("\"device\": \"host executor");
    ck_assert_int_eq(script("\"$BUILT/bench_cuda_executor\" --smal"), 2);
    says("bench_cuda: usage");
    ck_assert_int_eq(script("\"$BUILT/bench_cuda_executor\" --device"), 0);
    ck_assert_ptr_eq(strchr(out, '\n'), out + strlen(out) - 1);
}

OHM_TEST_LONG(device_bench, gradient_modes_are_measured_on_a_device)
{
    int got = script("\"$BUILT/bench_modes_executor\" --device cuda rasch2023 mlp 8 1");
    int full = strstr(out, "mode full is missing") == NULL;
    ck_assert_msg(got == !full, "%d: %s", got, out);
    static const char *const modes[] = {"baseline", "detach", "nograd", "full"};
    for (int i = 0; i < 3 + full; i++) {
        char what[64];
        snprintf(what, sizeof what, "\"what\": \"%s\"", modes[i]);
        says(what);
    }
    says("mlp, batch 8, rasch2023, mvm fp16");
    says("MiB of the device's memory in use");
    ck_assert(!full == !strstr(out, "\"baseline\": \"full\""));
    says("\"device\": \"cuda:0, host executor\"");
}

OHM_TEST(device_bench, modes_that_do_not_fit_are_named)
{
    ck_assert_int_eq(script("\"$BUILT/bench_modes_executor\" --device cuda rasch2023 mlp 100000 1"), 1);
    says("4 of 4 modes are missing");
    says("set train.micro_batch to at most ");
    ck_assert_int_eq(script("\"$BUILT/bench_modes_executor\" --device cuda rasch2023 mlp 0"), 1);
    ck_assert_int_eq(script("\"$BUILT/bench_modes_executor\" --device gpu"), 1);
    says("'gpu'");
}

/* Stand-ins: a GPU, a sanitizer whose racecheck finds something, a benchmark with a figure met and one
 * missed, one of gradient modes, and a program whose run on the device loses $DEVICE_LOSS and is right on
 * $DEVICE_CHIPS of chips. */
#define FAKES                                                                                      \
    "mkdir -p f/bin && cd f && "                                                                   \
    "echo 'echo \"Fake GPU 9000, 570.1, 80 GiB\"' >nvidia-smi && "                                 \
    "echo 'case \"$*\" in *racecheck*) echo a hazard; exit 9;; esac; "                             \
    "echo 100%: Checks: 12, Failures: 0, Errors: 0' >compute-sanitizer && "                        \
    "echo 'echo 100%: Checks: ${CHECKS:-40}, Failures: 0, Errors: 0' >bin/tests-cuda && "          \
    "echo '[ $# = 0 ] || { echo \"Fake GPU 9000, sm_90\"; exit ${NO_DEVICE:-0}; }; "               \
    "echo {\\\"what\\\": \\\"copy\\\", \\\"met\\\": true}; "                                       \
    "echo {\\\"what\\\": \\\"read\\\", \\\"met\\\": false}' >bin/bench_cuda && "                   \
    "echo 'echo \"resnet18, batch 512\"; echo \"nograd 1.2\"; "                                    \
    "echo {\\\"bench\\\": \\\"modes\\\", \\\"what\\\": \\\"nograd\\\", \\\"met\\\": true}' "           \
    ">bin/bench_modes && "                                                                         \
    "echo 'loss=0.5; chips=0.95; while [ $# -gt 0 ]; do case $1 in --out) o=$2;; "                 \
    "cuda) loss=${DEVICE_LOSS:-0.5001}; chips=${DEVICE_CHIPS:-0.94};; esac; shift; done; "         \
    "mkdir -p $o; "                                                                                \
    "for s in 10 20; do echo {\\\"step\\\": $s, \\\"loss\\\": $loss}; done >$o/metrics.jsonl; "    \
    "case $o in */chip-*) chips=\", \\\"noisy_accuracy\\\": $chips\";; *) chips=;; esac; "         \
    "echo \"{\\\"step\\\": 20, \\\"clean_accuracy\\\": 0.97$chips}\" >>$o/metrics.jsonl' "         \
    ">bin/ohmgrad && "                                                                             \
    "for t in nvidia-smi compute-sanitizer bin/*; do sed -i '1i #!/bin/sh' $t; chmod +x $t; "      \
    "done; PATH=$PWD:$PATH BIN=$PWD/bin; export PATH BIN; cd ..; "

OHM_TEST(gpu_report, every_step_is_recorded_and_a_failed_one_stops_none)
{
    ck_assert_int_eq(script(FAKES "\"$ROOT/profiling/gpu-report.sh\" \"$PWD/r\""), 1);
    says("racecheck: failed, exit status 9: a hazard");
    says("synccheck: passed");
    says("train-compared: passed, 2 losses, worst off by 0.02 % (band 2 %); accuracy 0.9700 and "
         "0.9700 (band 0.01)");
    says("train-chip-compared: passed, 2 losses, worst off by 0.02 % (band 5 %); accuracy 0.9700 and "
         "0.9700, on chips 0.9500 and 0.9400 (band 0.02)");
    says("gpu-report: 13 passed, 0 skipped, 0 cut, 1 failed; targets: 2 met, 1 missed; see ");
    ck_assert_int_eq(script("cat r/report.md"), 0);
    says("# Fake GPU 9000, sm_90");
    says("570.1");
    says("| racecheck | failed | ");
    says("| **missed** |");
    says("\n    resnet18, batch 512\n    nograd 1.2\n");
    says("| step, mode nograd | ");
    ck_assert_int_eq(script("grep -c '\"result\": \"passed\"' r/steps.jsonl; cat r/bench.jsonl"),
                     0);
    says("13\n{\"what\": \"copy\"");
}

OHM_TEST(gpu_report, runs_that_differ_and_tests_that_skip_are_failures)
{
    ck_assert_int_eq(script(FAKES "rm f/compute-sanitizer; CHECKS=0 DEVICE_LOSS=0.52 DEVICE_CHIPS=0.9 "
                                  "\"$ROOT/profiling/gpu-report.sh\" \"$PWD/r\""),
                     1);
    says("device-tests: failed, no test ran on the device");
    says("train-compared: failed, exit status 1: 2 losses, worst off by 4 %");
    says("train-chip-compared: failed, exit status 1: 2 losses, worst off by 4 % (band 5 %)");
    says("on chips 0.9500 and 0.9000 (band 0.02)");
    if (strstr(out, "memcheck: skipped, compute-sanitizer is not installed"))
        says("gpu-report: 7 passed, 4 skipped, 0 cut, 3 failed; targets: 2 met, 1 missed; see ");
}

OHM_TEST(gpu_report, without_time_left_steps_fail_and_the_report_is_written)
{
    ck_assert_int_eq(
        script(FAKES
               "SECONDS_IN_ALL=0 \"$ROOT/profiling/gpu-report.sh\" \"$PWD/r\" && cat r/report.md"),
        1);
    says("benchmarks: failed, no time was left of 0 s");
    says("1 passed, 0 skipped, 0 cut, 13 failed");
}

/* A clock that stands still but while a step runs, and steps that end only by the second signal. */
#define SLOW_STEPS                                                                                 \
    "echo 1000 >clock; export CLOCK=$PWD/clock; "                                                  \
    "printf '%s\\n' '#!/bin/sh' 'case $1 in +%s) cat $CLOCK;; *) exec /bin/date \"$@\";; esac' "  \
    ">f/date && printf '%s\\n' '#!/bin/sh' "                                                       \
    "'echo $(($(cat $CLOCK) + $2 + $3)) >$CLOCK; exit 137' >f/timeout && "                         \
    "chmod +x f/date f/timeout && "

/* In the worst case, and after the longest build, every step has its turn. */
OHM_TEST_SLOW(gpu_report, where_every_step_is_cut_each_has_its_share)
{
    static const struct {
        int seconds;
        const char *lines;
    } limit[] = {{570, FAKES SLOW_STEPS "SECONDS_IN_ALL=570 \"$ROOT/profiling/gpu-report.sh\" \"$PWD/r\""},
                 {328, FAKES SLOW_STEPS "SECONDS_IN_ALL=328 \"$ROOT/profiling/gpu-report.sh\" \"$PWD/r\""}};
    for (int i = 0; i < 2; i++) {
        int seconds, shortest = 1000, steps = 0;
        ck_assert_int_eq(script(limit[i].lines), 1);
        says("gpu-report: 1 passed, 0 skipped, 13 cut, 0 failed; ");
        says("synccheck: cut, by its limit of ");
        for (const char *at = out; (at = strstr(at, "check: cut, by its limit of ")); at++, steps++)
            if (sscanf(at, "check: cut, by its limit of %d", &seconds) == 1 && seconds < shortest)
                shortest = seconds;
        ck_assert_int_eq(steps, 4);
        ck_assert_msg(shortest >= 12, "%d s for a sanitizer: %s", shortest, out);
        ck_assert_int_eq(script("cat clock"), 0);
        ck_assert_int_eq(sscanf(out, "%d", &seconds), 1);
        ck_assert_msg(seconds - 1000 <= limit[i].seconds, "%d of %d s", seconds - 1000, limit[i].seconds);
    }
}

OHM_TEST(gpu_report, without_a_gpu_it_says_so_in_one_line)
{
    if (access("/dev/nvidiactl", F_OK) == 0)
        OHM_SKIP("there is a GPU here");
    ck_assert_int_eq(
        script("mkdir bin && printf '#!/bin/sh\\nexit 9\\n' >bin/nvidia-smi && chmod +x "
               "bin/nvidia-smi && PATH=$PWD/bin:$PATH \"$ROOT/profiling/gpu-report.sh\" "
               "\"$PWD/r\"; s=$?; ls; exit $s"),
        77);
    ck_assert_str_eq(out,
                     "gpu-report: no NVIDIA GPU here (nvidia-smi names none); nothing was run\n"
                     "bin\n");
    /* a driver without a device that CUDA can use */
    ck_assert_int_eq(script(FAKES "NO_DEVICE=77 \"$ROOT/profiling/gpu-report.sh\" \"$PWD/r\""), 77);
    says("gpu-report: CUDA finds no device");
}

/* Unpacked elsewhere, the program loads its libraries, and what they need, from the bundle. */
OHM_TEST_SLOW(bundle, brings_its_libraries)
{
    if (ohm_test_run(NULL, 0, "git ls-files --error-unmatch Makefile") != 0)
        OHM_SKIP("no git checkout: a bundle cannot be made here");
    int got =
        script("\"$ROOT/profiling/bundle.sh\" \"$PWD/b.tar.gz\" \"$BUILT/bundled/ohmgrad\" && "
               "tar -xzf b.tar.gz && cd ohmgrad-gpu && ./prebuilt/ohmgrad info && "
               "ldd prebuilt/ohmgrad | grep -E 'openblas|gfortran|yaml|cjson|libmd' | "
               "grep -v ohmgrad-gpu/prebuilt/lib/; ls . prebuilt/include; cat commit.txt");
    ck_assert_msg(got == 0, "%d: %s", got, out);
    says("cblas.h\n");
    says("gpu-report\n");
    ck_assert_ptr_null(strstr(out, "=> /"));
    ck_assert_int_eq(script("MOST_BYTES=1000 \"$ROOT/profiling/bundle.sh\" \"$PWD/c.tar.gz\" "
                            "\"$BUILT/bundled/ohmgrad\"; s=$?; ls; exit $s"),
                     1);
    says("a bundle must be smaller than 1000\n");
    ck_assert_ptr_null(strstr(out, "c.tar.gz\n"));
    ck_assert_int_eq(script("\"$ROOT/profiling/bundle.sh\" \"$PWD/c.tar.gz\" nonesuch"), 1);
    says("nonesuch: no such program");
}
