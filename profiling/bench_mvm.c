/* The fused MVM against one OpenBLAS sgemm of the same shape: infer from drive codes, one plane, one
 * slice, analog subtraction, 128-row tiles. The sgemm baseline is timed first, before this process
 * opens an OpenMP region. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/chip.h"
#include "host/config.h"
#include "kernels/philox.h"
#include "profiling/bench.h"

typedef struct {
    const char *what, *settings;
    double target;
    const char *note;
} variant;

#define COMMON                                                                                     \
    "input.encoding=sign_magnitude input.dac_bits=7 weight.cell_bits=7 tile.rows=128 "             \
    "programming.model=lognormal "
static const variant variants[] = {
    {"noise off, ADC on", COMMON "adc.bits=8 adc.range=max", 1.5,
     "bound: 2MNK flop, and 10 vector instructions per 16 conversions"},
    {"constant read noise and ADC noise",
     COMMON "adc.bits=8 adc.range=max adc.noise_lsb=0.5 read.model=constant read.sigma=0.0175", 1.8,
     "bound: 2MNK flop, MNK/128 fast normals and square roots"},
    {"polynomial read noise",
     COMMON "adc.bits=8 adc.range=max adc.noise_lsb=0.5 read.model=polynomial "
            "read.coefficients_us=[0.3,1.6,-1.1]",
     3.0, "bound: 4MNK flop (variance is a second product), MNK/128 fast normals and square roots"},
};

typedef struct {
    ohm_chip *chip;
    ohm_infer_args args;
} work;

static void infer(void *context)
{
    work *w = context;
    if (ohm_chip_infer(w->chip, &w->args) != OHM_OK)
        fprintf(stderr, "bench_mvm: %s\n", ohm_error_text());
}

static ohm_status make(work *w, const variant *v, int m, int k, int n, ohm_chip_moment *moment)
{
    ohm_hardware hardware;
    char settings[512], *save = NULL;
    OHM_TRY(ohm_hardware_read(&hardware, "ideal"));
    snprintf(settings, sizeof settings, "%s", v->settings);
    for (char *word = strtok_r(settings, " ", &save); word; word = strtok_r(NULL, " ", &save))
        OHM_TRY(ohm_hardware_set(&hardware, word));
    OHM_TRY(ohm_hardware_check(&hardware));
    OHM_TRY(ohm_chip_create(&w->chip, NULL, &hardware, k, n, 0));
    size_t cells = (size_t)k * n;
    uint8_t *levels = malloc(2 * cells), *codes = malloc((size_t)m * k);
    float *lsb = malloc(sizeof *lsb), *sums = malloc((size_t)m * n * sizeof *sums);
    void *state = malloc(ohm_chip_state_bytes(w->chip, 0)),
         *scratch = malloc(ohm_chip_scratch_bytes(w->chip, m, 0));
    if (!levels || !codes || !lsb || !sums || !state || !scratch)
        return OHM_FAIL(OHM_ERR_MEMORY, "bench_mvm: out of memory");
    ohm_stream stream = {.key = {1, 0}, .site = OHM_SITE_USER};
    for (size_t i = 0; i < cells; i++) {
        uint32_t word = ohm_stream_word(&stream, i);
        levels[i] = word >> 31 ? 0 : (uint8_t)(word % 128);
        levels[cells + i] = word >> 31 ? (uint8_t)(word % 128) : 0;
    }
    for (size_t i = 0; i < (size_t)m * k; i++)
        codes[i] = (uint8_t)ohm_stream_word(&stream, cells + i);
    lsb[0] = 127.0f * 127.0f * 128.0f * 0.2f / 127.0f;
    ohm_program_args program = {
        .w_split = levels, .g = lsb, .moment = *moment, .state = state, .scratch = scratch};
    OHM_TRY(ohm_chip_program(w->chip, &program));
    w->args = (ohm_infer_args){.x_u = codes,
                               .m = m,
                               .ldx = k,
                               .moment = moment,
                               .state = state,
                               .scratch = scratch,
                               .sums = sums,
                               .lds = n};
    free(levels);
    return OHM_OK;
}

int main(void)
{
    static const int sizes[] = {512, 1024}, threads[] = {1, 2};
    double sgemm[2][2];
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            sgemm[i][j] =
                ohm_bench_sgemm((size_t)sizes[i], (size_t)sizes[i], (size_t)sizes[i], threads[j]);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
                int size = sizes[i];
                char shape[64];
                ohm_chip_moment moment = {.seed = 1};
                work w = {0};
                omp_set_num_threads(threads[j]);
                if (make(&w, &variants[v], size, size, size, &moment) != OHM_OK) {
                    fprintf(stderr, "bench_mvm: %s\n", ohm_error_text());
                    return 1;
                }
                double seconds = ohm_bench_best(infer, &w, 0.6);
                snprintf(shape, sizeof shape, "%d x %d x %d", size, size, size);
                ohm_bench_print(&(ohm_bench_figure){.bench = "mvm",
                                                    .what = variants[v].what,
                                                    .shape = shape,
                                                    .value = seconds * 1e3,
                                                    .unit = "ms",
                                                    .threads = threads[j],
                                                    .ratio = seconds / sgemm[i][j],
                                                    .baseline = "OpenBLAS sgemm",
                                                    .target = variants[v].target,
                                                    .at_most = true,
                                                    .note = variants[v].note});
                free((void *)w.args.x_u);
                free(w.args.sums);
                free(w.args.state);
                free(w.args.scratch);
                ohm_chip_destroy(w.chip);
            }
    return 0;
}
