/* Ranges: they nest, every operation lies in one of them, Nsight would see them, the file is valid. */
#include "host/trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/chip_analog.h"
#include "host/file.h"
#include "host/network_internal.h"
#include "host/step.h"
#include "models/networks.h"
#include "tests/runner.h"
#include "tests/trace_check.h"

static char out[1 << 15];

/* ---- every operation lies in a kernel range ------------------------------------------------ */

/* The CPU's operations and the built-in chip, each asking whether a kernel range is open. */
static struct {
    const ohm_trace *trace;
    int calls, outside;
    char first[64]; /* operation outside */
} watch;

static void seen(const char *operation)
{
    watch.calls++;
    if (ohm_trace_open_level(watch.trace) == OHM_TRACE_KERNEL)
        return;
    if (!watch.outside++)
        snprintf(watch.first, sizeof watch.first, "%s", operation);
}

#define WATCHED(name, kernel, parameters, arguments)                                               \
    static void watched_##name(ohm_device *device, OHM_UNPACK parameters)                          \
    {                                                                                              \
        seen(#name);                                                                               \
        ohm_backend_cpu.name(device, OHM_UNPACK arguments);                                        \
    }
OHM_OPERATIONS(WATCHED)

static ohm_backend watched_backend(void)
{
    ohm_backend b = ohm_backend_cpu;
#define WATCH(name, kernel, parameters, arguments) b.name = watched_##name;
    OHM_OPERATIONS(WATCH)
    return b;
}

static ohm_status watched_program(void *self, const ohm_program_args *args)
{
    seen("program");
    return ohm_simulator_analog.program(self, args);
}

static ohm_status watched_infer(void *self, const ohm_infer_args *args)
{
    seen("infer");
    return ohm_simulator_analog.infer(self, args);
}

static ohm_status watched_backward(void *self, const ohm_backward_args *args)
{
    seen("backward");
    return ohm_simulator_analog.backward(self, args);
}

static void fill_random(void *context, int first, int images, int64_t step)
{
    ohm_network *network = context;
    const ohm_architecture *a = ohm_network_architecture(network);
    size_t count = (size_t)images * (size_t)(a->height * a->width * a->channels);
    uint32_t state = (uint32_t)(first + step) * 7919u + 1;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        ohm_network_images(network)[i] = (float)(int32_t)state * 0x1p-31f;
    }
    for (int i = 0; i < images; i++)
        ohm_network_labels(network)[i] = i % a->classes;
}

/* Steps with everything watched; returns the trace, recorded. */
static ohm_trace *watched_steps(int kind, int mode, const char *const *set, int steps)
{
    static ohm_architecture a;
    static ohm_config config;
    ohm_network *network;
    ohm_trace *trace;
    double loss;
    int correct;
    OHM_OK_OR_FAIL(ohm_config_read(&config, NULL));
    OHM_OK_OR_FAIL(ohm_config_set(&config, "hardware=rasch2023"));
    OHM_OK_OR_FAIL(ohm_config_set(&config, "hardware.simulator=watched"));
    for (; *set; set++)
        OHM_OK_OR_FAIL(ohm_config_set(&config, *set));
    config.network.kind = kind;
    config.train.mode = mode;
    config.train.batch = 4;
    config.train.micro_batch = 2;
    config.train.clip_norm = 1.0;
    OHM_OK_OR_FAIL(ohm_model_build(&a, &config, 32, 32, 1, 10));
    const ohm_network_options options = {.max_batch = 2, .training = 1};
    OHM_OK_OR_FAIL(ohm_network_create(&network, &a, &config, &options));
    OHM_OK_OR_FAIL(ohm_trace_create(&trace));
    const ohm_backend backend = watched_backend();
    network->backend = &backend;
    ohm_network_set_trace(network, trace);
    watch.trace = trace;
    watch.calls = watch.outside = 0;
    OHM_OK_OR_FAIL(ohm_trace_record(trace, steps));
    const ohm_step step = {.network = network,
                           .config = &config,
                           .trace = trace,
                           .fill = fill_random,
                           .context = network};
    for (int i = 0; i < steps; i++)
        OHM_OK_OR_FAIL(ohm_step_run(&step, i, 1e-3, &loss, &correct));
    ck_assert_int_eq(ohm_trace_depth(trace), 0);
    ohm_network_destroy(network);
    return trace;
}

static void watch_all(int kind, const char *const *set)
{
    for (int mode = 0; mode < OHM_MODES; mode++) {
        ohm_trace_destroy(watched_steps(kind, mode, set, 1));
        ck_assert_int_gt(watch.calls, 20);
        ck_assert_msg(watch.outside == 0, "mode %s: %d of %d operations in no kernel range, first %s",
                      ohm_mode_name(mode), watch.outside, watch.calls, watch.first);
    }
}

OHM_TEST_SLOW(trace, every_operation_lies_in_a_kernel_range)
{
    static ohm_simulator watched;
    static const char *const plain[] = {NULL}, *const adam[] = {"train.optimiser=adam", NULL};
    static const char *const learned[] = {"hardware.quantise.x_range=learned",
                                          "hardware.output.per_column_scale=true",
                                          "hardware.bias=rows",
                                          "hardware.adc.range=calibrated:99", NULL};
    static const char *const rows[] = {"hardware.quantise.x_granularity=row", NULL};
    static const char *const save[] = {"train.full=save", "hardware.output.per_column_scale=true",
                                       NULL};
    watched = ohm_simulator_analog;
    watched.name = "watched";
    watched.program = watched_program;
    watched.infer = watched_infer;
    watched.backward = watched_backward;
    OHM_OK_OR_FAIL(ohm_chip_register(&watched));
    watch_all(OHM_NET_LENET5, plain);
    watch_all(OHM_NET_LENET5, learned);
    watch_all(OHM_NET_LENET5, rows);
    watch_all(OHM_NET_LENET5, save);
    watch_all(OHM_NET_RESNET20, adam);
}

/* ---- the file ------------------------------------------------------------------------------ */

#define PREFIX "cd '%s' && P='%s' && ROOT=\"$OLDPWD\" && "

static void program(const char *script)
{
    int got = ohm_test_run(out, sizeof out, PREFIX "%s", ohm_test_tmpdir(), ohm_test_program(),
                           script);
    ck_assert_msg(got == 0, "%s: %d: %s", script, got, out);
}

static void check(trace_summary *summary, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", ohm_test_tmpdir(), name);
    trace_check(summary, path);
}

OHM_TEST_SLOW(trace, profile_writes_a_valid_trace)
{
    trace_summary s;
    program("$P profile \"$ROOT/models/digits_lenet.yaml\" --batch 8 --steps 3 --trace t.json "
            "--json p.json");
    check(&s, "t.json");
    ck_assert_int_eq(s.tracks, OHM_VARIANTS);
    ck_assert_int_eq(s.steps, 3 * OHM_VARIANTS);
    ck_assert_msg(s.coverage >= 0.95, "kernels cover %.3f of a step", s.coverage);
    static const char *const names[] = {" quantise ",   " program",     " mvm ",
                                        " rescale ",    " optimiser ",  " gemm ",
                                        " weight_gradient ", " input_gradient ", " mvm_backward ",
                                        " straight_through ", " softmax_loss ", " batch "};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ck_assert_msg(strstr(s.names, names[i]) != NULL, "no kernel '%s' in '%s'", names[i],
                      s.names);
}

OHM_TEST(trace, training_writes_three_steps_after_the_first)
{
    trace_summary s;
    program("T=\"$P train $ROOT/models/digits_mlp.yaml -q -s train.epochs=0 -s eval.chips=1 "
            "-s data.test_limit=10 -s train.steps\"; "
            "$T=9 -o a --trace a.json && $T=3 -o b --trace b.json && $T=1 -o c --trace c.json && "
            "$T=9 -o d && tail -c 9000 a/checkpoints/*9.safetensors >a.bin && "
            "tail -c 9000 d/checkpoints/*9.safetensors >d.bin && cmp a.bin d.bin");
    check(&s, "a.json");
    ck_assert_int_eq(s.steps, 3);
    check(&s, "b.json");
    ck_assert_int_eq(s.steps, 2);
    check(&s, "c.json");
    ck_assert_int_eq(s.steps, 1);
}

OHM_TEST(trace, names_are_quoted_and_errors_leave_nothing_open)
{
    ohm_trace *trace;
    trace_summary s;
    char path[4096];
    OHM_OK_OR_FAIL(ohm_trace_create(&trace));
    ohm_trace_begin(trace, OHM_TRACE_STEP, "not recorded", -1);
    ck_assert_int_eq(ohm_trace_record(trace, 1), OHM_ERR_ARGUMENT);
    ohm_trace_end(trace);
    OHM_OK_OR_FAIL(ohm_trace_record(trace, 1));
    ohm_trace_begin(trace, OHM_TRACE_STEP, "a \"step\" \\ of\n48 bytes and more, which is cut off", -1);
    for (int depth = 0; depth < 40; depth++)
        ohm_trace_begin(trace, OHM_TRACE_KERNEL, "deep", depth);
    ck_assert_int_eq(ohm_trace_depth(trace), 41);
    ohm_trace_unwind(trace, 0);
    ohm_trace_end(trace); /* one too many does nothing */
    ck_assert_int_eq(ohm_trace_depth(trace), 0);
    ck_assert_int_eq(ohm_trace_open_level(trace), -1);
    OHM_OK_OR_FAIL(ohm_trace_record(trace, 1));
    ohm_trace_begin(trace, OHM_TRACE_STEP, "a \"step\" \\ of\n48 bytes and more, which is cut off", -1);
    ohm_trace_kernel(trace, "k");
    for (volatile int i = 0; i < 10000; i++)
        ;
    ohm_trace_unwind(trace, 0);
    const ohm_trace_track track = {"odd \t\"name\"", trace};
    snprintf(path, sizeof path, "%s/odd.json", ohm_test_tmpdir());
    OHM_OK_OR_FAIL(ohm_trace_write(path, &track, 1));
    check(&s, "odd.json");
    ck_assert_int_eq(s.kernels, 1);
    for (int i = 0; i < 1 << 15; i++)
        ohm_trace_begin(trace, OHM_TRACE_STEP, "more than there is room for", -1), ohm_trace_end(trace);
    ck_assert_int_eq(ohm_trace_write(path, &track, 1), OHM_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "record fewer steps"));
    ohm_trace_destroy(trace);
    ohm_trace_destroy(NULL);
    ohm_trace_kernel(NULL, "nothing");
    ohm_trace_end(NULL);
    ohm_trace_unwind(NULL, 0);
}

/* ---- NVTX ---------------------------------------------------------------------------------- */

/* A tool as Nsight is one: NVTX loads it, it asks for the ranges of domains and counts their names. */
static const char listener[] =
    "#include <nvtx3/nvToolsExt.h>\n"
    "#include <stdio.h>\n"
    "#include <string.h>\n"
    "static int depth, pushed, mvm, mine;\n"
    "static nvtxDomainHandle_t create(const char *name)\n"
    "{ mine += !strcmp(name, \"ohmgrad\"); return (nvtxDomainHandle_t)&mine; }\n"
    "static int push(nvtxDomainHandle_t d, const nvtxEventAttributes_t *e)\n"
    "{ (void)d; pushed++; mvm += !strcmp(e->message.ascii, \"mvm\"); return depth++; }\n"
    "static int pop(nvtxDomainHandle_t d) { (void)d; return --depth; }\n"
    "__attribute__((destructor)) static void report(void)\n"
    "{ if (pushed) fprintf(stderr, \"domain %d, open %d, mvm %d\\n\", mine > 0, depth, mvm); }\n"
    "__attribute__((visibility(\"default\"))) int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get)\n"
    "{\n"
    "    NvtxFunctionTable table; unsigned size;\n"
    "    const NvtxExportTableCallbacks *c = get(NVTX_ETID_CALLBACKS);\n"
    "    if (!c || !c->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size)) return 0;\n"
    "    *table[NVTX_CBID_CORE2_DomainCreateA] = (NvtxFunctionPointer)create;\n"
    "    *table[NVTX_CBID_CORE2_DomainRangePushEx] = (NvtxFunctionPointer)push;\n"
    "    *table[NVTX_CBID_CORE2_DomainRangePop] = (NvtxFunctionPointer)pop;\n"
    "    return 1;\n"
    "}\n";

OHM_TEST(trace, a_tool_that_listens_gets_the_ranges)
{
    char path[4096];
    if (!ohm_trace_has_nvtx())
        OHM_SKIP("this build has no NVTX");
    snprintf(path, sizeof path, "%s/listener.c", ohm_test_tmpdir());
    const ohm_file_part part = {listener, strlen(listener)};
    OHM_OK_OR_FAIL(ohm_file_write_atomic(path, &part, 1));
    if (ohm_test_run(out, sizeof out,
                     "cd '%s' && cc -w -shared -fPIC -idirafter /usr/local/cuda/include -o "
                     "listener.so listener.c",
                     ohm_test_tmpdir()) != 0)
        OHM_SKIP("the listener does not compile here: %s", out);
    program("NVTX_INJECTION64_PATH=$PWD/listener.so $P profile \"$ROOT/models/digits_mlp.yaml\" "
            "--batch 8 --steps 1 --modes nograd --json p.json");
    ck_assert_msg(strstr(out, "domain 1, open 0, mvm ") != NULL, "%s", out);
    ck_assert_ptr_null(strstr(out, "mvm 0"));
}

OHM_TEST_SLOW(trace, without_nvtx_nothing_of_it_is_compiled)
{
    const char *dir = ohm_test_tmpdir();
    ck_assert_int_eq(ohm_test_run(out, sizeof out,
                                  "unset MAKEFLAGS MAKELEVEL MFLAGS; make -s NVTX=0 BUILD=%s/b "
                                  "%s/b/obj/host/trace.o && nm %s/b/obj/host/trace.o",
                                  dir, dir, dir),
                     0);
    ck_assert_ptr_nonnull(strstr(out, "ohm_trace_begin"));
    ck_assert_msg(strstr(out, "nvtxDomain") == NULL && strstr(out, "dlopen") == NULL, "%s", out);
}

/* ---- the scripts for Nsight ----------------------------------------------------------------- */

/* Without the tools on the path, and with none of their files left behind. */
static void script_refuses(const char *line, const char *expected)
{
    int got = ohm_test_run(out, sizeof out,
                           PREFIX "mkdir -p bin && for t in dirname cat tr grep sed sort mkdir; do "
                                  "ln -sf \"$(command -v $t)\" bin/; done; "
                                  "S=\"$ROOT/profiling\" M=\"$ROOT/models/digits_mlp.yaml\" "
                                  "PROGRAM=$P PATH=$PWD/bin; export PATH PROGRAM; /bin/sh %s",
                           ohm_test_tmpdir(), ohm_test_program(), line);
    ck_assert_msg(got == 1, "%s: %d: %s", line, got, out);
    ck_assert_msg(strstr(out, expected), "%s: '%s' lacks '%s'", line, out, expected);
    ck_assert_msg(strchr(out, '\n') == out + strlen(out) - 1, "%s: not one line: %s", line, out);
}

OHM_TEST(trace, scripts_say_what_is_missing_in_one_line)
{
    script_refuses("$S/nsys.sh", "usage: profiling/nsys.sh CONFIG.yaml");
    script_refuses("$S/nsys.sh missing.yaml", "missing.yaml: no such file");
    script_refuses("$S/nsys.sh $M nogrd", "'nogrd' is no mode");
    script_refuses("$S/nsys.sh $M nograd 8", "nsys is not installed");
    script_refuses("$S/ncu.sh", "usage: profiling/ncu.sh KERNEL");
    script_refuses("$S/ncu.sh nonesuch", "no kernel 'nonesuch'; there are: ");
    script_refuses("$S/ncu.sh relu missing.yaml", "missing.yaml: no such file");
    script_refuses("$S/ncu.sh relu $M", "ncu is not installed");
}

/* Tools that only show how they are called. */
OHM_TEST(trace, scripts_call_their_tools)
{
    program("for t in nsys ncu; do printf '#!/bin/sh\\necho %s \"$@\"\\n' $t >$t; chmod +x $t; done; "
            "PATH=$PWD:$PATH PROGRAM=$P; export PATH PROGRAM; M=$ROOT/models/digits_mlp.yaml; "
            "\"$ROOT/profiling/nsys.sh\" $M detach 8 a/n && \"$ROOT/profiling/ncu.sh\" relu $M b/k && ls a b");
    ck_assert_ptr_nonnull(strstr(out, "--nvtx-capture=timed step@ohmgrad"));
    ck_assert_ptr_nonnull(strstr(out, "--modes detach --batch 8 --set train.record=false --steps 1 --json a/n.json"));
    ck_assert_ptr_nonnull(strstr(out, "--kernel-name regex:^relu$"));
}
