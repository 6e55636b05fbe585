/* The MVM on tensor cores against the scalar double reference and the plain kernel. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/mvm_check_cuda.h"
#include "kernels/half_math.h"
#include "kernels/mvm_halves_cuda.h"
#include "tests/device_mvm.h"
#include "tests/parity.h"

static ohm_verdict compare_halves(const char *settings, int k, int n, int m, int ldx, int blocked)
{
    fixture_mvm f;
    device_mvm d;
    ohm_mvm_halves h = {0};
    fixture_mvm_make(&f, settings, k, n, m);
    ck_assert_int_ne(f.chip.programming.halves, 0);
    device_mvm_make(&d, &f);
    const ohm_geometry *g = &f.chip.g;
    ck_assert_msg(ohm_mvm_mma_knows(g, &f.chip.read), "%s", settings);
    uint8_t *codes = calloc((size_t)m, (size_t)ldx);
    for (int i = 0; i < m; i++)
        memcpy(codes + (size_t)i * ldx, f.codes + (size_t)i * k, (size_t)k);
    d.input.x_u = parity_upload(codes, (size_t)m * ldx);
    d.input.ldx = ldx;
    d.input.step = parity_upload(&d.r.stream.step, sizeof d.r.stream.step);
    d.r.stream.step += 3; /* the device's word counts */
    h.w = parity_alloc(ohm_halves_count(g) * sizeof *h.w);
    h.variance = d.w.variance ? parity_alloc(ohm_halves_count(g) * sizeof *h.w) : NULL;
    float *sums = parity_alloc((size_t)m * n * sizeof *sums),
          *got = malloc((size_t)m * n * sizeof *got);
    double *wide = malloc((size_t)m * n * sizeof *wide);
    h.blocked = blocked;
    PARITY_TRY(ohm_mvm_pack_cuda(&h, g, &d.w, parity_stream()));
    ohm_mvm_output y = {.y = sums, .ldy = n};
    PARITY_TRY(
        (blocked ? ohm_mvm_hopper_cuda : ohm_mvm_mma_cuda)(&y, &d.input, &h, parity_stream()));
    PARITY_TRY(parity_fetch(got, sums, (size_t)m * n * sizeof *got));
    for (int i = 0; i < m * n; i++)
        wide[i] = (double)got[i];
    ohm_verdict verdict = fixture_mvm_compare(&f, wide);
    free(codes);
    free(got);
    free(wide);
    fixture_mvm_free(&f);
    return verdict;
}

static ohm_verdict compare_mma(const char *settings, int k, int n, int m, int ldx)
{
    return compare_halves(settings, k, n, m, ldx, 0);
}

/* On the device alone, and one of 9.0. */
static ohm_verdict compare_hopper(const char *settings, int k, int n, int m, int ldx,
                                  ohm_mvm_kernel kernel)
{
    ohm_cuda_device device;
    PARITY_TRY(ohm_cuda_describe(&device, 0));
    if (device.major != 9 || kernel != OHM_MVM_HOPPER)
        return parity_pass();
    char noisy[1024];
    snprintf(noisy, sizeof noisy, "%s adc.noise_lsb=0.4 read.model=constant read.sigma=0.01",
             settings);
    PARITY_CHECK(compare_halves(settings, k, n, m, ldx, 1));
    return compare_halves(noisy, k, n, m, ldx, 1);
}

#define LOGNORMAL "programming.model=lognormal mvm.precision=fp16 "
static const char *const chips[] = {
    "input.encoding=sign_magnitude weight.encoding=differential weight.cell_bits=7 "
    "input.dac_bits=8 "
    "adc.bits=8 adc.range=max adc.noise_lsb=0.5 " LOGNORMAL,
    "input.encoding=offset weight.encoding=differential weight.cell_bits=4 input.dac_bits=4 "
    "adc.bits=7 adc.range=max adc.noise_lsb=0.3 adc.granularity=column read.model=constant "
    "read.sigma=0.01 " LOGNORMAL,
    "input.encoding=two_phase weight.encoding=differential weight.subtract=digital "
    "weight.cell_bits=7 "
    "input.dac_bits=4 adc.bits=8 adc.range=max read.model=constant read.sigma=0.01 " LOGNORMAL,
    "input.encoding=sign_magnitude weight.encoding=differential weight.subtract=digital "
    "weight.cell_bits=7 "
    "input.dac_bits=8 adc.bits=9 adc.range=max " LOGNORMAL,
    "input.encoding=sign_magnitude weight.encoding=differential weight.cell_bits=7 "
    "input.dac_bits=8 adc.bits=8 adc.range=max "
    "adc.noise_lsb=0.5 read.model=pcm read.sigma=0.0175 "
    "temperature.johnson_bandwidth_hz=1e8 " LOGNORMAL,
    "input.encoding=unsigned weight.encoding=offset weight.cell_bits=4 input.dac_bits=7 "
    "tile.cols=24 adc.bits=7 adc.range=max "
    "adc.noise_lsb=0.4 mvm.precision=fp16",
};

static ohm_verdict chip(int which, int rows, int k, int n, int m, int ldx)
{
    char settings[1024];
    snprintf(settings, sizeof settings, "%s tile.rows=%d", chips[which], rows);
    return compare_mma(settings, k, n, m, ldx);
}

/* 16, 32 and 64 columns a read: several reads share a transform. */
OHM_PARITY(mvm_mma_cuda, few_columns)
{
    PARITY_CHECK(chip(1, 32, 40, 10, 5, 40));
    return chip(4, 96, 144, 20, 3, 144);
}

OHM_PARITY_ALONE(mvm_mma_cuda, every_drive)
{
    for (int i = 0; i < 6; i++)
        PARITY_CHECK(chip(i, 48, 70, 19, 5, 70));
    return parity_pass();
}

OHM_PARITY_SLOW(mvm_mma_cuda, wide_blocks)
{
    PARITY_CHECK(chip(0, 80, 200, 150, 37, 208)); /* one read: 128 x 128 */
    PARITY_CHECK(chip(1, 48, 70, 100, 37, 70));   /* several: 64 x 128 */
    PARITY_CHECK(chip(1, 80, 100, 60, 37, 100));  /* 128 x 64, two reads of a transform */
    PARITY_CHECK(chip(4, 80, 100, 50, 20, 100));  /* with per-cell variances */
    PARITY_CHECK(chip(2, 64, 100, 40, 10, 100));
    PARITY_CHECK(chip(4, 80, 160, 130, 70, 160)); /* per-cell variances */
    return chip(5, 48, 70, 50, 5, 70);
}

/* Every reason to choose either kernel; the chosen one runs, and refuses what it does not know. */
OHM_PARITY_ALONE(mvm_mma_cuda, chosen_for_what_it_knows)
{
    static const struct {
        const char *settings;
        ohm_mvm_kernel kernel;
    } cases[] = {
        {"adc.bits=7 adc.range=max", OHM_MVM_MMA},
        {"adc.bits=7 adc.range=max normals=exact", OHM_MVM_PLAIN},
        {"adc.bits=0", OHM_MVM_PLAIN},
        {"adc.bits=7 adc.range=max input.noise=0.1", OHM_MVM_PLAIN},
        {"adc.bits=7 adc.range=max cell.iv=cubic cell.iv_coefficient=0.1 input.dac_bits=4",
         OHM_MVM_PLAIN},
        {"adc.bits=7 adc.range=max adc.gain_sigma=0.1", OHM_MVM_PLAIN},
        {"adc.bits=7 adc.range=max weight.encoding=offset", OHM_MVM_MMA},
        {"adc.bits=7 adc.range=max weight.encoding=offset read.model=constant read.sigma=0.01",
         OHM_MVM_PLAIN},
        {"adc.bits=7 adc.range=max weight.encoding=offset weight.subtract=digital", OHM_MVM_PLAIN},
        {"adc.bits=16 adc.range=max tile.rows=16", OHM_MVM_PLAIN}};
    const ohm_cuda_device ampere = {.major = 8, .shared_bytes = 163 * 1024};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture_mvm f;
        device_mvm d;
        ohm_mvm_halves h = {0};
        float got[3 * 7];
        double wide[3 * 7];
        char settings[512];
        snprintf(settings, sizeof settings, LOGNORMAL "weight.cell_bits=4 input.dac_bits=4 %s",
                 cases[i].settings);
        fixture_mvm_make(&f, settings, 40, 7, 3);
        device_mvm_make(&d, &f);
        h.w = parity_alloc(ohm_halves_count(&f.chip.g) * sizeof *h.w);
        PARITY_TRY(ohm_mvm_pack_cuda(&h, &f.chip.g, &d.w, parity_stream()));
        if (ohm_mvm_runs(&d.input, &h, &ampere) != cases[i].kernel)
            return parity_failed(cases[i].settings);
        ohm_cuda_device turing = ampere, small = ampere;
        turing.major = 7;
        small.shared_bytes = 16 * 1024;
        if (ohm_mvm_runs(&d.input, NULL, &ampere) != OHM_MVM_PLAIN ||
            ohm_mvm_runs(&d.input, &h, &turing) != OHM_MVM_PLAIN ||
            ohm_mvm_runs(&d.input, &h, &small) != OHM_MVM_PLAIN)
            return parity_failed("halves, cores and shared memory are needed");
        h.blocked = 1;
        if (ohm_mvm_runs(&d.input, &h, &ampere) != OHM_MVM_PLAIN)
            return parity_failed("halves in another order were taken");
        h.blocked = 0;
        float *sums = parity_alloc(sizeof got);
        ohm_mvm_output y = {.y = sums, .ldy = 7};
        PARITY_TRY(ohm_mvm_cuda(&y, &d.input, &h, &ampere, parity_stream()));
        PARITY_TRY(parity_fetch(got, sums, sizeof got));
        for (int j = 0; j < 3 * 7; j++)
            wide[j] = (double)got[j];
        PARITY_CHECK(fixture_mvm_compare(&f, wide));
        if (cases[i].kernel == OHM_MVM_PLAIN &&
            ohm_mvm_mma_cuda(&y, &d.input, &h, parity_stream()) != OHM_CUDA_ARGUMENT)
            return parity_failed("a read that it does not know was taken");
        fixture_mvm_free(&f);
    }
    return parity_pass();
}

/* The Hopper kernel: chosen on 9.0 for wide layers whose codes it can copy; its halves lie as wgmma's
 * 128-byte swizzle wants them, each cell once. */
OHM_PARITY_SLOW(mvm_mma_cuda, halves_for_hopper)
{
    static const struct {
        const char *settings;
        int k, n, ldx;
        ohm_mvm_kernel kernel;
    } cases[] = {{"tile.rows=80", 160, 40, 160, OHM_MVM_HOPPER},
                 {"tile.rows=80 tile.cols=48", 100, 150, 112, OHM_MVM_HOPPER},
                 {"tile.rows=80", 100, 40, 100, OHM_MVM_MMA},
                 {"tile.rows=80", 160, 20, 160, OHM_MVM_MMA},
                 {"tile.rows=72", 160, 40, 160, OHM_MVM_MMA},
                 {"tile.rows=80 read.model=pcm read.sigma=0.02", 160, 40, 160, OHM_MVM_MMA},
                 {"tile.rows=80 normals=exact", 160, 40, 160, OHM_MVM_PLAIN}};
    const ohm_cuda_device hopper = {.major = 9, .shared_bytes = 227 * 1024},
                          blackwell = {.major = 10, .shared_bytes = 227 * 1024};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char settings[512];
        fixture_mvm f;
        device_mvm d;
        snprintf(settings, sizeof settings,
                 LOGNORMAL "weight.cell_bits=4 input.dac_bits=4 adc.bits=7 adc.range=max %s",
                 cases[i].settings);
        fixture_mvm_make(&f, settings, cases[i].k, cases[i].n, 3);
        device_mvm_make(&d, &f);
        d.input.ldx = cases[i].ldx;
        if (ohm_mvm_choose(&d.input, &hopper) != cases[i].kernel)
            return parity_failed(settings);
        if (ohm_mvm_choose(&d.input, &blackwell) == OHM_MVM_HOPPER)
            return parity_failed("wgmma is of 9.0 alone");
        const ohm_geometry *g = &f.chip.g;
        size_t count = ohm_halves_count(g), cells = 0;
        ohm_mvm_halves h = {.w = parity_alloc(count * sizeof *h.w), .blocked = 1};
        uint16_t *got = malloc(count * sizeof *got);
        PARITY_TRY(ohm_mvm_pack_cuda(&h, g, &d.w, parity_stream()));
        PARITY_TRY(parity_fetch(got, h.w, count * sizeof *got));
        for (size_t at = 0; at < count; at++) {
            size_t block = at / 8192,
                   byte = at % 8192 * 2; /* a line of 128 bytes a column, its pieces exchanged */
            byte ^= (byte >> 7 & 7) << 4;
            int blocks = ohm_half_columns(g) / 128, chunks = ohm_half_rows(g) / 64,
                p = (int)(byte % 128 / 2),
                c = (int)(block % (size_t)blocks) * 128 + (int)(byte / 128),
                chunk = (int)(block / (size_t)blocks) % chunks,
                tile = (int)(block / (size_t)blocks / (size_t)chunks) % g->tiles,
                /* step and slot of an A operand's place, and the input whose digit a lane puts there */
                slot = p % 16,
                row = chunk * 64 + slot / 2 % 4 * 16 + p / 16 * 4 + slot / 8 * 2 + slot % 2;
            size_t array = block / (size_t)blocks / (size_t)chunks / (size_t)g->tiles;
            float want = 0.0f;
            if (c < ohm_packed_columns(g) &&
                row < ohm_tile_begin(g, tile + 1) - ohm_tile_begin(g, tile)) {
                want = f.chip.tiles.w[array * (size_t)g->k * ohm_packed_columns(g) +
                                      ohm_packed_index(g, tile, row, c)];
                cells++;
            }
            if (got[at] != ohm_half_bits(want))
                return parity_failed("a half in the wrong place");
        }
        ck_assert_uint_eq(cells, (size_t)g->slices * ohm_arrays(g) * g->k * ohm_packed_columns(g));
        if (!executor_present())
            PARITY_CHECK(compare_hopper(settings, cases[i].k, cases[i].n, 140, cases[i].ldx,
                                        cases[i].kernel));
        free(got);
        fixture_mvm_free(&f);
    }
    return parity_pass();
}

/* ---- outputs ---------------------------------------------------------------------------------- */

static ohm_verdict compare_outputs(const char *settings)
{
    enum { K = 48, N = 21, M = 5, LD = 24 };
    fixture_mvm f;
    device_mvm d;
    ohm_mvm_halves h = {0};
    float sums[M * N], got[M * LD], clean[M * LD], alpha[N], scale[N], column[N], bias[N], rows[M];
    double correction[N];
    fixture_mvm_make(&f, settings, K, N, M);
    device_mvm_make(&d, &f);
    h.w = parity_alloc(ohm_halves_count(&f.chip.g) * sizeof *h.w);
    float *y = parity_alloc(sizeof got);
    ohm_mvm_output plain = {.y = y, .ldy = N};
    PARITY_TRY(ohm_mvm_pack_cuda(&h, &f.chip.g, &d.w, parity_stream()));
    PARITY_TRY(ohm_mvm_mma_cuda(&plain, &d.input, &h, parity_stream()));
    PARITY_TRY(parity_fetch(sums, y, sizeof sums));
    for (int n = 0; n < N; n++) {
        correction[n] = (double)sums[n] - 3.25 * n; /* near the first row's sums: digits are lost */
        alpha[n] = 1.0f + 0.01f * (float)n;
        scale[n] = 0.002f + 1e-4f * (float)n;
        column[n] = 1.5f - 0.02f * (float)n;
        bias[n] = 0.3f * (float)n - 2.0f;
    }
    fixture_reals(clean, M * LD, 3);
    for (int i = 0; i < M; i++)
        rows[i] = 0.01f + 0.003f * (float)i;
    for (int kind = 0; kind < 16; kind++) {
        const int corrects = kind & 1, scales = kind & 2, each_row = kind & 4, more = kind & 8;
        d.r.correction_read = kind >> 1 & 1;
        d.r.correction = corrects ? parity_upload(correction, sizeof correction) : NULL;
        d.r.alpha = corrects ? parity_upload(alpha, sizeof alpha) : NULL;
        ohm_mvm_output out = {.y = y, .ldy = more ? LD - 1 : LD, .ldc = LD};
        out.x_scale = scales ? parity_upload(rows, sizeof rows) : NULL;
        out.x_scale_rows = each_row != 0;
        out.w_scale = parity_upload(scale, sizeof scale);
        out.column_scale = more ? parity_upload(column, sizeof column) : NULL;
        out.bias = more ? parity_upload(bias, sizeof bias) : NULL;
        out.clean = more ? parity_upload(clean, sizeof clean) : NULL;
        PARITY_TRY(ohm_mvm_mma_cuda(&out, &d.input, &h, parity_stream()));
        PARITY_TRY(parity_fetch(got, y, sizeof got));
        for (int i = 0; i < M * N; i++) {
            const int row = i / N, n = i % N;
            const double a = corrects ? (double)alpha[n] : 1.0, c = corrects ? correction[n] : 0.0,
                         sum = d.r.correction_read ? a * ((double)sums[i] - c)
                                                   : a * (double)sums[i] - c,
                         lost = 1e-7 * fabs((double)sums[i]); /* of the rounded sum it began with */
            double by = 1.0, want = sum;
            if (scales) {
                by = (double)rows[each_row ? row : 0] * (double)scale[n] *
                     (double)(more ? column[n] : 1.0f);
                want = sum * by + (double)(more ? bias[n] : 0.0f) -
                       (double)(more ? clean[row * LD + n] : 0.0f);
            }
            const double allowed =
                by * lost + 4e-7 * (fabs(want) + fabs(sum * by) + (scales && more ? 4.0 : 0.0));
            if (!(fabs((double)got[row * out.ldy + n] - want) <= allowed))
                return parity_failed(settings);
        }
    }
    fixture_mvm_free(&f);
    return parity_pass();
}

/* One group of reads, which adds up in float, and two. */
static ohm_verdict outputs(void)
{
    PARITY_CHECK(compare_outputs(
        "input.encoding=sign_magnitude weight.encoding=differential weight.cell_bits=7 "
        "input.dac_bits=8 adc.bits=8 adc.range=max adc.noise_lsb=0.5 tile.rows=32 " LOGNORMAL));
    return compare_outputs(
        "input.encoding=two_phase weight.encoding=differential weight.cell_bits=7 "
        "input.dac_bits=8 adc.bits=8 adc.range=max adc.noise_lsb=0.5 tile.rows=32 " LOGNORMAL);
}

OHM_TEST_SLOW(mvm_mma_cuda, outputs)
{
    if (parity_absent())
        OHM_SKIP("%s", parity_absent());
    executor_set_order(2);
    ohm_verdict verdict = outputs();
    ck_assert_msg(verdict.pass, "%s", verdict.text);
}

/* ---- tried before use ------------------------------------------------------------------------- */

static ohm_cuda_status writes_nothing(const ohm_mvm_output *y, const ohm_mvm_input *x,
                                      const ohm_mvm_halves *h, ohm_cuda_stream s)
{
    (void)y;
    (void)x;
    (void)h;
    (void)s;
    return OHM_CUDA_OK;
}

/* The first and the third input of every chunk change places. */
static ohm_cuda_status takes_another_order(const ohm_mvm_output *y, const ohm_mvm_input *x,
                                           const ohm_mvm_halves *h, ohm_cuda_stream s)
{
    ohm_mvm_input moved = *x;
    uint8_t *codes = parity_host((size_t)x->m * x->ldx);
    if (parity_fetch(codes, x->x_u, (size_t)x->m * x->ldx) != OHM_CUDA_OK)
        return OHM_CUDA_KERNEL;
    for (int i = 0; i + 2 < x->m * x->ldx; i += 64) {
        uint8_t first = codes[i];
        codes[i] = codes[i + 2];
        codes[i + 2] = first;
    }
    moved.x_u = parity_upload(codes, (size_t)x->m * x->ldx);
    return ohm_mvm_mma_cuda(y, &moved, h, s);
}

static ohm_cuda_status draws_another_noise(const ohm_mvm_output *y, const ohm_mvm_input *x,
                                           const ohm_mvm_halves *h, ohm_cuda_stream s)
{
    ohm_mvm_input moved = *x;
    moved.first_row += 16;
    return ohm_mvm_mma_cuda(y, &moved, h, s);
}

static ohm_cuda_status refuses(const ohm_mvm_output *y, const ohm_mvm_input *x,
                               const ohm_mvm_halves *h, ohm_cuda_stream s)
{
    (void)writes_nothing(y, x, h, s);
    return ohm_cuda_fail(OHM_CUDA_ARGUMENT, "a kernel", "refuses");
}

static ohm_verdict tried(void)
{
    ohm_mvm_halves_call *const wrong[] = {writes_nothing, takes_another_order, draws_another_noise,
                                          refuses};
    const char *text = ohm_mvm_check(ohm_mvm_mma_cuda, 0, parity_stream());
    if (text)
        return parity_failed(text);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (!ohm_mvm_check(wrong[i], 0, parity_stream()))
            return parity_failed("a wrong kernel was taken");
    return parity_pass();
}

OHM_TEST_SLOW(mvm_mma_cuda, tried_before_use)
{
    if (parity_absent())
        OHM_SKIP("%s", parity_absent());
    executor_set_order(0);
    ohm_verdict verdict = tried();
    ck_assert_msg(verdict.pass, "%s", verdict.text);
}

OHM_PARITY_ALONE(mvm_mma_cuda, distrusted_kernels_are_not_chosen)
{
    fixture_mvm f;
    device_mvm d;
    fixture_mvm_make(&f,
                     LOGNORMAL "weight.cell_bits=4 input.dac_bits=4 adc.bits=7 adc.range=max "
                               "tile.rows=80",
                     160, 40, 3);
    device_mvm_make(&d, &f);
    ohm_cuda_device hopper = {.major = 9, .shared_bytes = 227 * 1024};
    const ohm_mvm_kernel expected[] = {OHM_MVM_HOPPER, OHM_MVM_MMA, OHM_MVM_HOPPER, OHM_MVM_PLAIN};
    for (unsigned i = 0; i < 4; i++) {
        hopper.distrusted = (i & 1) << OHM_MVM_HOPPER | (i >> 1) << OHM_MVM_MMA;
        if (ohm_mvm_choose(&d.input, &hopper) != expected[i])
            return parity_failed("a kernel that failed its trial was chosen, or a good one not");
    }
    fixture_mvm_free(&f);
    return parity_pass();
}

OHM_TEST(mvm_mma_cuda, half_precision_rounds_to_nearest)
{
    uint32_t wrong = 0;
    for (uint32_t half = 0; half < 0x7C00; half++) { /* halves stay; halfway goes to the even one */
        float x = ohm_half_value((uint16_t)half), next = ohm_half_value((uint16_t)(half + 1)),
              middle = x + (next - x) / 2;
        wrong += ohm_half_bits(x) != half || ohm_half_bits(-x) != (half | 0x8000u);
        if (half + 1 < 0x7C00)
            wrong += ohm_half_bits(middle) != half + (half & 1) ||
                     ohm_half_bits(nextafterf(middle, 0.0f)) != half ||
                     ohm_half_bits(nextafterf(middle, 1e6f)) != half + 1;
    }
    ck_assert_uint_eq(wrong, 0);
    ck_assert_uint_eq(ohm_half_bits(1e9f), 0x7BFF);
    ck_assert(isnan(ohm_half_round(NAN)));
}
