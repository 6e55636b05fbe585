/* Simulators of other people: the example beside the models, and objects that do not fit. */
#include <libgen.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/npy.h"
#include "kernels/normals.h"
#include "tests/compare.h"
#include "tests/fixture_physics.h"
#include "tests/runner.h"

enum { M = 12, K = 30, N = 7 };

/* The build folder, where the example lies. */
static const char *build_folder(char *path)
{
    snprintf(path, 4096, "%s", ohm_test_self());
    return dirname(path);
}

/* A hardware file with this text, its path. The example stands beside it as ohmic.so. */
static const char *hardware_file(char *path, const char *text)
{
    char folder[4096], out[256];
    const char *dir = ohm_test_tmpdir();
    ck_assert_int_eq(ohm_test_run(out, sizeof out, "ln -sf '%s/plugins/ohmic.so' '%s/ohmic.so'", build_folder(folder), dir), 0);
    snprintf(path, 4096, "%s/chip.yaml", dir);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    ck_assert_int_eq(fclose(f), 0);
    return path;
}

/* One layer of whole numbers through a chip; chunk rows at a time. */
static ohm_status forward(fixture_layer *l, const ohm_hardware *hardware, const ohm_chip_moment *moment, int chunk)
{
    ohm_noisy *noisy;
    OHM_TRY(ohm_noisy_create(&noisy, NULL, hardware, l->k, l->n, 4));
    ohm_noisy_pass pass = {.w = l->w, .bias = l->bias, .x = l->x, .x_count = (size_t)l->m * l->k, .moment = *moment};
    pass.persistent = calloc(ohm_noisy_persistent_count(noisy), sizeof(float));
    pass.state = malloc(ohm_noisy_state_bytes(noisy, 0));
    pass.scratch = malloc(ohm_noisy_scratch_bytes(noisy, chunk, 0));
    ck_assert(pass.state && pass.scratch);
    ohm_status status = ohm_noisy_begin(noisy, &pass);
    ck_assert(!ohm_noisy_wants_measure(noisy));
    for (int row = 0; status == OHM_OK && row < l->m; row += chunk)
        status = ohm_noisy_rows(noisy, l->y + (size_t)row * l->n, l->n, l->x + (size_t)row * l->k, l->k, l->m - row < chunk ? l->m - row : chunk,
                                (uint64_t)row);
    free(pass.persistent);
    free(pass.state);
    free(pass.scratch);
    ohm_noisy_destroy(noisy);
    return status;
}

static void whole_numbers(fixture_layer *l)
{
    fixture_layer_make(l, M, K, N);
    fixture_integers(l->x, M * K, 127, 1);
    fixture_integers(l->w, N * K, 127, 2);
    fixture_integers(l->bias, N, 900, 3);
}

/* Without noise the example is the exact product, for every mapping it says it obeys. */
OHM_TEST(plugin, example_is_exact_without_noise)
{
    static const char *const mappings[] = {"input: {encoding: offset}", "input: {encoding: two_phase}\nbias: rows",
                                           "input: {encoding: sign_magnitude}\nweight: {encoding: offset, cell_bits: 3}",
                                           "weight: {cell_bits: 1}", "weight: {encoding: offset, cell_bits: 8}"};
    for (size_t i = 0; i < sizeof mappings / sizeof *mappings; i++) {
        char path[4096], text[512];
        ohm_hardware *hardware = malloc(sizeof *hardware);
        fixture_layer l;
        double exact[M * N];
        snprintf(text, sizeof text, "simulator: ohmic.so\nquantise: {x_range: 127, w_range: 127}\n%s\n", mappings[i]);
        OHM_OK_OR_FAIL(ohm_hardware_read(hardware, hardware_file(path, text)));
        whole_numbers(&l);
        physics_product(exact, &l);
        OHM_OK_OR_FAIL(forward(&l, hardware, &(ohm_chip_moment){0}, M));
        OHM_ASSERT(ohm_compare_close(l.y, exact, M * N, 0, 0));
        fixture_layer_free(&l);
        free(hardware);
    }
}

/* Its noise is what its README says: a factor per output, drawn at the plug-in's site, rounded to the ADC's step. */
OHM_TEST(plugin, example_noise_and_rounding)
{
    char path[4096];
    ohm_hardware *hardware = malloc(sizeof *hardware);
    fixture_layer l;
    double exact[M * N];
    const ohm_chip_moment moment = {.seed = 6, .chip = 2, .step = 9};
    OHM_OK_OR_FAIL(ohm_hardware_read(hardware, hardware_file(path, "simulator: ohmic.so\nsimulator_options: sigma=0.1\n"
                                                                   "quantise: {x_range: 127, w_range: 127}\n"
                                                                   "input: {encoding: sign_magnitude, dac_bits: 8}\nweight: {cell_bits: 7}\n"
                                                                   "adc: {bits: 10, range: max}\n")));
    whole_numbers(&l);
    memset(l.bias, 0, N * sizeof *l.bias);
    physics_product(exact, &l);
    double lsb = ceil(K * 127.0 * 127.0 / 511.0);
    const ohm_stream stream = {.key = {6, 2}, .site = OHM_SITE_PLUGIN, .where = 4, .step = 9};
    for (int i = 0; i < M * N; i++) {
        float z;
        ohm_normals_exact(&z, (uint64_t)i, 1, &stream);
        exact[i] = lsb * rint(exact[i] * (1.0 + 0.1 * z) / lsb);
    }
    OHM_OK_OR_FAIL(forward(&l, hardware, &moment, M));
    OHM_ASSERT(ohm_compare_close(l.y, exact, M * N, 0, 1e-6));
    float whole[M * N];
    memcpy(whole, l.y, sizeof whole);
    OHM_OK_OR_FAIL(forward(&l, hardware, &moment, 5)); /* however the batch is cut */
    OHM_ASSERT(ohm_compare_bits(l.y, whole, M * N));
    fixture_layer_free(&l);
    free(hardware);
}

/* The exact product through `program mvm` with ohmic.so of the test's folder. */
static void through_program(const char *program)
{
    char path[4096], out[4096], file[4200];
    const char *dir = ohm_test_tmpdir();
    fixture_layer l;
    double exact[M * N];
    ohm_npy y;
    whole_numbers(&l);
    memset(l.bias, 0, N * sizeof *l.bias);
    physics_product(exact, &l);
    snprintf(file, sizeof file, "%s/x.npy", dir);
    OHM_OK_OR_FAIL(ohm_npy_write(file, l.x, 2, (const int64_t[]){M, K}));
    snprintf(file, sizeof file, "%s/w.npy", dir);
    OHM_OK_OR_FAIL(ohm_npy_write(file, l.w, 2, (const int64_t[]){N, K}));
    snprintf(path, sizeof path, "%s/chip.yaml", dir);
    int status = ohm_test_run(out, sizeof out, "cd '%s' && '%s' mvm --hardware chip.yaml --x x.npy --w w.npy --out y.npy", dir, program);
    ck_assert_msg(status == 0, "%s", out);
    snprintf(file, sizeof file, "%s/y.npy", dir);
    OHM_OK_OR_FAIL(ohm_npy_read(&y, file));
    OHM_ASSERT(ohm_compare_close(y.value, exact, M * N, 0, 0));
    ohm_npy_free(&y);
    fixture_layer_free(&l);
}

static const char ideal[] = "simulator: ohmic.so\nquantise: {x_range: 127, w_range: 127}\n";

OHM_TEST(plugin, the_program_loads_it)
{
    char path[4096];
    hardware_file(path, ideal);
    through_program(ohm_test_program());
}

/* As the README says, against what `make install` lays down. */
OHM_TEST_SLOW(plugin, builds_against_an_installation)
{
    char path[4096], folder[4096], out[8192];
    const char *dir = ohm_test_tmpdir();
    hardware_file(path, ideal);
    int status = ohm_test_run(out, sizeof out,
                              "unset MAKEFLAGS MAKELEVEL; make install-files BUILD='%s' PREFIX='%s/usr' && cd '%s' && rm ohmic.so && "
                              "export PKG_CONFIG_PATH=usr/lib/pkgconfig && cc -std=c11 -O3 -fPIC -shared -o ohmic.so "
                              "usr/share/ohmgrad/plugins/ohmic.c $(pkg-config --cflags ohmgrad)",
                              build_folder(folder), dir, dir);
    ck_assert_msg(status == 0, "%s", out);
    snprintf(path, sizeof path, "%s/usr/bin/ohmgrad", dir);
    through_program(path);
}

/* ---- Refusals --------------------------------------------------------------------------------- */

static void expect_line(ohm_status status, const char *expected)
{
    ck_assert_int_ne(status, OHM_OK);
    ck_assert_msg(strstr(ohm_error_text(), expected), "'%s' lacks '%s'", ohm_error_text(), expected);
    ck_assert_ptr_null(strchr(ohm_error_text(), '\n'));
}

/* Creating a layer with this chip fails with a line that holds `expected`. */
static void refuse(const char *yaml, const char *expected)
{
    char path[4096];
    ohm_hardware *hardware = malloc(sizeof *hardware);
    ohm_noisy *noisy = NULL;
    ohm_status status = ohm_hardware_read(hardware, hardware_file(path, yaml));
    if (status == OHM_OK)
        status = ohm_noisy_create(&noisy, NULL, hardware, 3, 2, 0);
    expect_line(status, expected);
    ck_assert_ptr_null(noisy);
    free(hardware);
}

/* Compiles a line of C into an object beside the hardware file. */
static void object(const char *name, const char *source)
{
    char out[4096];
    int status = ohm_test_run(out, sizeof out, "cd '%s' && printf '%%s\\n' '#include <stddef.h>' '%s' > a.c && cc -shared -fPIC -o %s a.c",
                              ohm_test_tmpdir(), source, name);
    ck_assert_msg(status == 0, "%s", out);
}

OHM_TEST(plugin, refusals_name_what_is_wrong)
{
    refuse("simulator: missing.so\n", "missing.so");
    refuse("simulator: chip.yaml.so\n", "cannot open");
    refuse("simulator: nobody\n", "simulator 'nobody': not known");
    object("empty.so", "int unrelated;");
    refuse("simulator: empty.so\n", "exports no ohm_simulator_entry");
    object("text.so", "int unrelated;");
    char out[256];
    ck_assert_int_eq(ohm_test_run(out, sizeof out, "echo no object > '%s/text.so'", ohm_test_tmpdir()), 0);
    refuse("simulator: text.so\n", "cannot be loaded");
    object("none.so", "void *ohm_simulator_entry(void) { return NULL; }");
    refuse("simulator: none.so\n", "built for interface 0");
    /* another interface: its fields stand elsewhere and must not be called */
    object("other.so", "static size_t s[20] = {77, 1, 1, 1, 1, 1, 1, 1, 1}; void *ohm_simulator_entry(void) { return s; }");
    refuse("simulator: other.so\n", "built for interface 77");
    object("half.so", "static struct { int abi; const char *name; void *verbs[8]; } s = {2, \"half\"}; void *ohm_simulator_entry(void) { return &s; }");
    refuse("simulator: half.so\n", "lacks one of");
    refuse("simulator: ohmic.so\nsimulator_options: sigma=much\n", "'simulator_options'");
    refuse("simulator: ohmic.so\nsimulator_options: sigma=0.1x\n", "'simulator_options'");
    refuse("simulator: ohmic.so\nsimulator_options: sigma=nan\n", "'simulator_options'");
    refuse("simulator: ohmic.so\nadc: {bits: 8, range: calibrated}\n", "measures no currents");
}

OHM_TEST(plugin, mode_full_is_refused)
{
    char path[4096];
    ohm_hardware *hardware = malloc(sizeof *hardware);
    ohm_noisy *noisy;
    float x[3] = {1, 2, 3}, w[6] = {1, 2, 3, 4, 5, 6}, dy[2] = {1, 1}, dw[6] = {0};
    OHM_OK_OR_FAIL(ohm_hardware_read(hardware, hardware_file(path, "simulator: ohmic.so\n")));
    OHM_OK_OR_FAIL(ohm_noisy_create(&noisy, NULL, hardware, 3, 2, 0));
    ohm_noisy_pass pass = {.w = w, .x = x, .x_count = 3, .want_gradient = 1, .persistent = calloc(ohm_noisy_persistent_count(noisy), sizeof(float)), .state = malloc(ohm_noisy_state_bytes(noisy, 1)),
                           .scratch = malloc(ohm_noisy_scratch_bytes(noisy, 1, 1))};
    ohm_status status = ohm_noisy_begin(noisy, &pass);
    if (status == OHM_OK)
        status = ohm_noisy_backward_rows(noisy, NULL, 3, dw, NULL, NULL, NULL, dy, 2, NULL, 0, x, 3, NULL, 0, 1, 0, 1);
    expect_line(status, "has no gradient: use train.mode nograd or detach");
    free(pass.persistent);
    free(pass.state);
    free(pass.scratch);
    ohm_noisy_destroy(noisy);
    free(hardware);
}

/* ---- Registered in code ------------------------------------------------------------------------ */

static ohm_status constant_create(void **self, const ohm_chip_shape *shape)
{
    *self = malloc(sizeof *shape);
    *(ohm_chip_shape *)*self = *shape;
    return OHM_OK;
}

static size_t constant_bytes(const void *self, int gradient)
{
    (void)self, (void)gradient;
    return 1;
}

static size_t constant_scratch(const void *self, int rows, int gradient)
{
    (void)self, (void)rows, (void)gradient;
    return 1;
}

static ohm_status constant_program(void *self, const ohm_program_args *args)
{
    (void)self, (void)args;
    return OHM_OK;
}

static ohm_status constant_infer(void *self, const ohm_infer_args *args)
{
    const ohm_chip_shape *shape = self;
    for (int i = 0; i < args->m; i++)
        for (int n = 0; n < shape->n; n++)
            args->sums[(size_t)i * args->lds + n] = 7.0f;
    return OHM_OK;
}

OHM_TEST(plugin, registered_in_code)
{
    static const ohm_simulator constant = {OHM_SIMULATOR_ABI, "seven", constant_create, free, constant_bytes, constant_scratch,
                                           constant_program, constant_infer, NULL, 0, 0, NULL};
    static const ohm_simulator impostor = {OHM_SIMULATOR_ABI, "analog", constant_create, free, constant_bytes, constant_scratch,
                                           constant_program, constant_infer, NULL, 0, 0, NULL};
    static const ohm_simulator old = {OHM_SIMULATOR_ABI + 1, "old", constant_create, free, constant_bytes, constant_scratch,
                                      constant_program, constant_infer, NULL, 0, 0, NULL};
    OHM_OK_OR_FAIL(ohm_chip_register(&constant));
    expect_line(ohm_chip_register(&constant), "the name is taken");
    expect_line(ohm_chip_register(&impostor), "the name is taken");
    expect_line(ohm_chip_register(&old), "rebuild it");
    fixture_layer l;
    whole_numbers(&l);
    fixture_forward(&l, &(fixture_run){.settings = "simulator=seven quantise.x_range=127 quantise.w_range=127"});
    for (int i = 0; i < M * N; i++)
        ck_assert(l.y[i] == 7.0f + l.bias[i % N]);
    fixture_layer_free(&l);
}
