/* .ci/layers on small trees that break one rule each. */
#include "tests/runner.h"

#include <stdio.h>
#include <string.h>

enum { OUT_BYTES = 8192 };

static void put(const char *name, const char *text)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", ohm_test_tmpdir(), name);
    FILE *f = fopen(path, "w");
    ck_assert_msg(f != NULL, "cannot write %s", path);
    fputs(text, f);
    ck_assert_int_eq(fclose(f), 0);
}

static void make_good_tree(void)
{
    ck_assert_int_eq(ohm_test_run(NULL, 0,
                                  "cp .ci/layers %s && cd %s && mkdir -p kernels host/cli models "
                                  "datasets tests profiling && for d in kernels host host/cli "
                                  "models datasets tests profiling; do echo x > $d/README.md; done",
                                  ohm_test_tmpdir(), ohm_test_tmpdir()),
                     0);
    put("kernels/op.h", "#include <stddef.h>\nsize_t op(size_t);\n");
    put("host/chip.h", "#include \"kernels/op.h\"\nsize_t chip(void);\n");
    put("models/net.c", "#include \"host/chip.h\"\nint net;\n");
    put("host/cli/main.c", "#include \"host/chip.h\"\n#include <stdlib.h>\n"
                           "int main(void) { exit(0); }\n");
}

static int run_layers(char *out)
{
    return ohm_test_run(out, OUT_BYTES, "cd %s && ./layers", ohm_test_tmpdir());
}

OHM_TEST(layers, a_good_tree_passes)
{
    char out[OUT_BYTES];
    make_good_tree();
    ck_assert_msg(run_layers(out) == 0, "%s", out);
    ck_assert_ptr_nonnull(strstr(out, "keep the rules"));
}

OHM_TEST_SLOW(layers, each_broken_rule_is_named)
{
    static const struct {
        const char *file, *text, *complaint;
    } cases[] = {
        {"kernels/up.c", "#include \"host/chip.h\"\n", "kernels/up.c (kernels) includes host/chip.h"},
        {"host/side.c", "#include \"models/list.h\"\n", "host/side.c (host) includes models/list.h"},
        {"datasets/d.c", "#include \"models/list.h\"\n", "datasets/d.c (datasets) includes models"},
        {"host/blas.c", "#include <cblas.h>\n", "host/blas.c includes cblas.h"},
        {"host/read.c", "#include <yaml.h>\n", "host/read.c includes yaml.h"},
        {"host/gpu.c", "#include <cuda_runtime.h>\n", "host/gpu.c includes a CUDA header"},
        {"kernels/op_cuda.cu", "#include <cuda_fp16.h>\n", "kernels/platform_cuda.h has what"},
        {"kernels/up_cuda.cu", "#include \"host/chip.h\"\n", "(kernels) includes host/chip.h"},
        {"kernels/kernel.cu", "\n", "kernel.cu is called neither"},
        {"host/stop.c", "#include <stdlib.h>\nvoid f(void) { exit(1); }\n", "host/stop.c ends"},
        {"host/op.h", "int twice;\n", "several files are called op.h"},
        {"host/alone.h", "size_t lacks(void);\n", "host/alone.h does not compile alone"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        char out[OUT_BYTES];
        make_good_tree();
        put("models/list.h", "int list(void);\n");
        put(cases[i].file, cases[i].text);
        ck_assert_int_eq(run_layers(out), 1);
        ck_assert_msg(strstr(out, cases[i].complaint) != NULL, "'%s' lacks '%s'", out,
                      cases[i].complaint);
        ck_assert_int_eq(ohm_test_run(NULL, 0, "rm -rf %s/*", ohm_test_tmpdir()), 0);
    }
}

OHM_TEST(layers, long_files_and_bare_folders_are_named)
{
    char out[OUT_BYTES];
    make_good_tree();
    ck_assert_int_eq(ohm_test_run(NULL, 0,
                                  "cd %s && yes '/* */' | head -n 800 > host/long.c && "
                                  "rm models/README.md",
                                  ohm_test_tmpdir()),
                     0);
    ck_assert_int_eq(run_layers(out), 1);
    ck_assert_ptr_nonnull(strstr(out, "host/long.c has 800 lines"));
    ck_assert_ptr_nonnull(strstr(out, "models has no README.md"));
}
