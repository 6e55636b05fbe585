/* ohmgrad mvm: exact on the ideal chip, the same for any number of threads, and one line and no
 * output for whatever is wrong. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/file.h"
#include "host/npy.h"
#include "tests/runner.h"

static char out[1 << 14];

static const char *in_folder(char *path, const char *name)
{
    snprintf(path, 4096, "%s/%s", ohm_test_tmpdir(), name);
    return path;
}

static void save(const char *name, const float *value, int rank, int64_t a, int64_t b)
{
    char path[4096];
    OHM_OK_OR_FAIL(ohm_npy_write(in_folder(path, name), value, rank, (const int64_t[]){a, b}));
}

/* Runs in the test's folder; --x, --w and --out are given unless the arguments are meant to fail. */
static int mvm(const char *arguments)
{
    return ohm_test_run(out, sizeof out, "cd '%s' && '%s' mvm %s", ohm_test_tmpdir(),
                        ohm_test_program(), arguments);
}

#define FILES "--x x.npy --w w.npy --out y.npy "

typedef struct {
    int m, n, k;
    float *x, *w, *bias;
} product;

static float next_integer(unsigned *state, int limit, int only_positive)
{
    *state = *state * 1664525u + 1013904223u;
    float size = (float)((*state >> 8) % (unsigned)(limit + 1));
    return only_positive || *state >> 31 ? size : -size;
}

/* Integers of a fixed sequence, at most limit in size. */
static product integers(int m, int n, int k, int limit, int only_positive)
{
    product p = {m,
                 n,
                 k,
                 malloc((size_t)(m * k) * sizeof(float)),
                 malloc((size_t)(n * k) * sizeof(float)),
                 malloc((size_t)n * sizeof(float))};
    unsigned state = 12345u + (unsigned)(m * 31 + n * 7 + k);
    for (int i = 0; i < m * k; i++)
        p.x[i] = next_integer(&state, limit, only_positive);
    for (int i = 0; i < n * k; i++)
        p.w[i] = next_integer(&state, limit, 0);
    for (int i = 0; i < n; i++)
        p.bias[i] = (float)(i - n / 2);
    save("x.npy", p.x, 2, m, k);
    save("w.npy", p.w, 2, n, k);
    save("b.npy", p.bias, 1, n, 0);
    return p;
}

static void release(product *p)
{
    free(p->x);
    free(p->w);
    free(p->bias);
}

static void expect_exact(const product *p, const char *arguments)
{
    char path[4096];
    ohm_npy y;
    ck_assert_msg(mvm(arguments) == 0, "%s: %s", arguments, out);
    OHM_OK_OR_FAIL(ohm_npy_read(&y, in_folder(path, "y.npy")));
    ck_assert(y.rank == 2 && y.shape[0] == p->m && y.shape[1] == p->n);
    for (int m = 0; m < p->m; m++)
        for (int n = 0; n < p->n; n++) {
            double sum = p->bias[n];
            for (int k = 0; k < p->k; k++)
                sum += (double)p->x[m * p->k + k] * p->w[n * p->k + k];
            float got = y.value[m * p->n + n];
            ck_assert_msg((double)got == sum, "%s: y[%d][%d] is %.9g, not %.9g", arguments, m, n,
                          got, sum);
        }
    ohm_npy_free(&y);
}

#define UNIT                                                                                       \
    "--hardware ideal --set quantise.x_range=127 --set quantise.w_range=127 --bias b.npy " FILES

OHM_TEST(cli_mvm, ideal_chip_is_the_integer_product)
{
    static const char *const chips[] = {
        "",
        "--set input.encoding=two_phase",
        "--set input.encoding=sign_magnitude --set input.dac_bits=8",
        "--set weight.encoding=offset --set cell.on_off=inf",
        "--set weight.cell_bits=8 --set input.dac_bits=8",
        "--set weight.cell_bits=3 --set input.dac_bits=5 --set weight.subtract=digital",
        "--set tile.rows=7 --set tile.cols=3 --set tile.split=even",
        "--set bias=rows",
    };
    static const int sizes[][3] = {{1, 1, 1}, {3, 5, 130}, {17, 2, 257}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        product p = integers(sizes[s][0], sizes[s][1], sizes[s][2], 127, 0);
        for (size_t c = 0; c < sizeof chips / sizeof chips[0]; c++) {
            char arguments[512];
            snprintf(arguments, sizeof arguments, UNIT "%s", chips[c]);
            expect_exact(&p, arguments);
        }
        release(&p);
    }
}

OHM_TEST(cli_mvm, unsigned_inputs_are_exact_or_refused)
{
    product p = integers(4, 3, 50, 127, 1);
    expect_exact(&p, UNIT "--set input.encoding=unsigned");
    release(&p);
    p = integers(4, 3, 50, 127, 0);
    ck_assert_int_eq(mvm(UNIT "--set input.encoding=unsigned"), 1);
    ck_assert_ptr_nonnull(strstr(out, "unsigned"));
    release(&p);
}

static char *bytes_of(const char *name, size_t *bytes)
{
    char path[4096], *data;
    OHM_OK_OR_FAIL(ohm_file_read(&data, bytes, in_folder(path, name), 1 << 24));
    return data;
}

OHM_TEST(cli_mvm, threads_change_nothing_and_seeds_do)
{
    product p = integers(70, 33, 200, 90, 0);
    const char *const runs[] = {"--out a --threads 1", "--out b --threads 2", "--out c --seed 2",
                                "--out d --chip 1"};
    char *data[4];
    size_t bytes[4];
    for (int i = 0; i < 4; i++) {
        char arguments[256];
        snprintf(arguments, sizeof arguments, "--hardware rasch2023 --x x.npy --w w.npy %s",
                 runs[i]);
        ck_assert_msg(mvm(arguments) == 0, "%s", out);
        data[i] = bytes_of((const char[]){(char)('a' + i), 0}, &bytes[i]);
        ck_assert_uint_eq(bytes[i], bytes[0]);
    }
    ck_assert(!memcmp(data[0], data[1], bytes[0]));
    ck_assert(memcmp(data[0], data[2], bytes[0]));
    ck_assert(memcmp(data[0], data[3], bytes[0]));
    for (int i = 0; i < 4; i++)
        free(data[i]);
    release(&p);
}

/* Runs, and gives the error of y, rms relative to rms y; the product has no bias. */
static double error_of(const product *p, const char *arguments)
{
    char path[4096];
    ohm_npy y;
    ck_assert_msg(mvm(arguments) == 0, "%s: %s", arguments, out);
    OHM_OK_OR_FAIL(ohm_npy_read(&y, in_folder(path, "y.npy")));
    double error = 0, power = 0;
    for (int i = 0; i < p->m * p->n; i++) {
        double sum = 0;
        for (int k = 0; k < p->k; k++)
            sum += (double)p->x[i / p->n * p->k + k] * p->w[i % p->n * p->k + k];
        error += (y.value[i] - sum) * (y.value[i] - sum);
        power += sum * sum;
    }
    ohm_npy_free(&y);
    return sqrt(error / power);
}

OHM_TEST(cli_mvm, every_preset_runs)
{
    static const char *const presets[] = {"ideal",  "lognormal",     "pcm_ibm",    "pcm_joshi",
                                          "hermes", "reram_wan2022", "reram_milo", "reram_cmo",
                                          "sonos",  "rasch2023",     "isaac",      "prime"};
    product p = integers(9, 10, 140, 100, 0);
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        char arguments[256];
        snprintf(arguments, sizeof arguments, "--hardware %s --time 3600 --threads 1 " FILES,
                 presets[i]);
        double error = error_of(&p, arguments);
        ck_assert_msg(error < 0.5, "%s: error %g of rms y", presets[i], error);
    }
    release(&p);
}

/* The read of the correction must lie within the calibrated range: left out,
 * it was clipped and the error here was 0.078 against 0.0096 of the nominal correction. */
OHM_TEST(cli_mvm, calibrated_range_holds_the_correction)
{
    product p = integers(64, 32, 512, 127, 0);
    double calibrated = error_of(&p, "--hardware ideal --set adc.bits=8 " FILES);
    double nominal =
        error_of(&p, "--hardware ideal --set adc.bits=8 --set input.correction=nominal " FILES);
    ck_assert_msg(calibrated < 1.6 * nominal, "%g against %g", calibrated, nominal);
    release(&p);
}

/* ---- what is wrong ------------------------------------------------------------------------- */

/* One line, the status, and no output file. */
static void refuse(int status, const char *arguments, const char *expected)
{
    char path[4096];
    ck_assert_msg(mvm(arguments) == status, "mvm %s: not %d: %s", arguments, status, out);
    ck_assert_msg(!strncmp(out, "ohmgrad: ", 9), "%s", out);
    ck_assert_msg(strchr(out, '\n') == out + strlen(out) - 1, "not one line: %s", out);
    ck_assert_msg(strstr(out, expected), "'%s' lacks '%s'", out, expected);
    ck_assert_msg(access(in_folder(path, "y.npy"), F_OK) != 0, "mvm %s wrote y.npy", arguments);
}

OHM_TEST(cli_mvm, arguments_that_lack_or_exceed)
{
    product p = integers(2, 2, 2, 3, 0);
    refuse(2, "", "--hardware is missing");
    refuse(2, "--hardware ideal --x x.npy --w w.npy", "--out is missing");
    refuse(2, "--hardware ideal --w w.npy --out y.npy", "--x is missing");
    refuse(2, "--hardware ideal --x x.npy --out y.npy", "--w is missing");
    refuse(2, FILES "--hardware nonesuch", "no chip 'nonesuch'");
    refuse(2, FILES "--hardware ideal --set adc.bits=99", "'99' is too large");
    refuse(2, FILES "--hardware ideal --seed=-1", "key 'seed': '-1' is too small");
    refuse(2, FILES "--hardware ideal --seed 4294967296", "too large");
    refuse(2, FILES "--hardware ideal --threads x", "'x' is not a whole number");
    refuse(2, FILES "--hardware ideal --time nan", "'nan' is not a number");
    release(&p);
}

OHM_TEST(cli_mvm, files_that_are_not_arrays)
{
    product p = integers(2, 2, 2, 3, 0);
    refuse(1, "--hardware ideal --x none.npy --w w.npy --out y.npy", "none.npy: cannot open");
    refuse(1, "--hardware ideal --x . --w w.npy --out y.npy", "is a directory");
    refuse(1, "--hardware ideal --x /dev/zero --w w.npy --out y.npy", "is a device");
    ck_assert_int_eq(ohm_test_run(out, sizeof out,
                                  "cd '%s' && head -c 130 x.npy > cut.npy && echo words > text.npy",
                                  ohm_test_tmpdir()),
                     0);
    refuse(1, "--hardware ideal --x cut.npy --w w.npy --out y.npy",
           "cut.npy: holds 2 bytes of data where its shape asks for 16");
    refuse(1, "--hardware ideal --x text.npy --w w.npy --out y.npy", "text.npy: is no .npy file");
    refuse(1, FILES "--hardware ideal --bias text.npy", "text.npy: is no .npy file");
    release(&p);
}

OHM_TEST(cli_mvm, shapes_that_do_not_fit)
{
    const float value[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    save("x.npy", value, 2, 2, 4);
    save("w.npy", value, 2, 2, 3);
    refuse(1, FILES "--hardware ideal", "w.npy: K is 3, but 4 in x.npy");
    save("w.npy", value, 2, 2, 4);
    save("b.npy", value, 1, 3, 0);
    refuse(1, FILES "--hardware ideal --bias b.npy", "b.npy: N is 3, but 2 in w.npy");
    save("b.npy", value, 2, 2, 1);
    refuse(1, FILES "--hardware ideal --bias b.npy", "has 2 dimensions; give bias [N]");
    save("x.npy", value, 1, 8, 0);
    refuse(1, FILES "--hardware ideal", "x.npy: has 1 dimensions; give x [M,K]");
    save("x.npy", value, 2, 0, 4);
    refuse(1, FILES "--hardware ideal", "x.npy: size 1 of x [M,K] is 0");
    save("x.npy", value, 2, 4, 0);
    refuse(1, FILES "--hardware ideal", "x.npy: size 2 of x [M,K] is 0");
    save("x.npy", value, 2, 2, 4);
    save("w.npy", value, 2, 0, 4);
    refuse(1, FILES "--hardware ideal", "w.npy: size 1 of w [N,K] is 0");
}

OHM_TEST(cli_mvm, numbers_that_are_none)
{
    float value[4] = {1, 2, 3, NAN};
    product p = integers(2, 2, 2, 3, 0);
    save("x.npy", value, 2, 2, 2);
    refuse(1, FILES "--hardware ideal", "x.npy: number 3 (from 0, in C order) is nan");
    save("x.npy", p.x, 2, 2, 2);
    value[3] = -INFINITY;
    save("w.npy", value, 2, 2, 2);
    refuse(1, FILES "--hardware ideal", "w.npy: number 3 (from 0, in C order) is -inf");
    save("w.npy", p.w, 2, 2, 2);
    save("b.npy", value + 2, 1, 2, 0);
    refuse(1, FILES "--hardware ideal --bias b.npy", "b.npy: number 1");
    release(&p);
}

OHM_TEST(cli_mvm, results_that_overflow)
{
    product p = integers(2, 2, 2, 3, 0);
    float large[4] = {3e38f, 3e38f, 1, 1}, weights[4] = {1, 1, 1, 1};
    save("x.npy", large, 2, 2, 2);
    save("w.npy", weights, 2, 2, 2);
    refuse(1, FILES "--hardware ideal", "y[0,0] is inf");
    save("x.npy", p.x, 2, 2, 2);
    refuse(1, FILES "--hardware lognormal --set programming.level=1000 --set programming.sigma=10",
           "exceed what a float holds");
    release(&p);
}

OHM_TEST(cli_mvm, outputs_that_cannot_be_written)
{
    product p = integers(64, 64, 2, 3, 0);
    refuse(1, "--hardware ideal --x x.npy --w w.npy --out x.npy/y.npy",
           "x.npy/y.npy: cannot write here");
    refuse(1, "--hardware ideal --x x.npy --w w.npy --out no/y.npy", "no/y.npy: cannot write here");
    refuse(1, "--hardware ideal --x x.npy --w w.npy --out .", "is a directory");
    refuse(1, "--hardware ideal --x x.npy --w w.npy --out /dev/full", "is a device");
    release(&p);
}

OHM_TEST(cli_mvm, a_full_disk_leaves_nothing_behind)
{
    product p = integers(64, 64, 2, 3, 0);
    ck_assert_int_eq(ohm_test_run(out, sizeof out,
                                  "cd '%s' && ulimit -f 8 && '%s' mvm --hardware ideal " FILES,
                                  ohm_test_tmpdir(), ohm_test_program()),
                     1);
    ck_assert_msg(strstr(out, "ohmgrad: y.npy: cannot write: File too large"), "%s", out);
    ck_assert_int_eq(ohm_test_run(out, sizeof out, "ls '%s'", ohm_test_tmpdir()), 0);
    ck_assert_str_eq(out, "b.npy\nw.npy\nx.npy\n");
    release(&p);
}
