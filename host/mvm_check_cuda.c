#include "host/mvm_check_cuda.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* More chunks than a ring holds, tiles that end within one, rows and columns that end within a block. */
enum { K = 640, TILE = 80, N = 150, PACKED = 160, M = 140, MOST_LEVEL = 7, DEVICES = 64 };

typedef struct {
    float *w, *lsb, *y[2]; /* [K][PACKED], [1], [M][N] by the plain kernel and by the other */
    uint8_t *x;            /* [M][K] */
    uint16_t *halves;
} arrays;

typedef struct {
    float w[K * PACKED], y[2][M * N], lsb;
    uint8_t x[M * K];
} host_side;

#define TRY(call)                                                                                  \
    do {                                                                                           \
        const ohm_cuda_status try_status_ = (call);                                                \
        if (try_status_ != OHM_CUDA_OK)                                                            \
            return try_status_;                                                                    \
    } while (0)

/* Whole levels and digits: currents are exact in both kernels, and read and noise in the same order. */
static void fill(host_side *h)
{
    uint32_t state = 1;
    for (int i = 0; i < K * PACKED; i++) {
        state = state * 1664525u + 1013904223u;
        h->w[i] = (float)((int)(state >> 8) % (2 * MOST_LEVEL + 1) - MOST_LEVEL);
    }
    for (int i = 0; i < M * K; i++) {
        state = state * 1664525u + 1013904223u;
        h->x[i] = (uint8_t)((state >> 8 & 0x80u) | state >> 20 % 8u);
    }
    h->lsb = 4.0f;
}

static ohm_cuda_status allocate(arrays *a, const ohm_geometry *g)
{
    void *at;
    TRY(ohm_cuda_allocate(&at, sizeof(float) * K * PACKED));
    a->w = at;
    TRY(ohm_cuda_allocate(&at, sizeof(float)));
    a->lsb = at;
    for (int i = 0; i < 2; i++) {
        TRY(ohm_cuda_allocate(&at, sizeof(float) * M * N));
        a->y[i] = at;
    }
    TRY(ohm_cuda_allocate(&at, (size_t)M * K));
    a->x = at;
    TRY(ohm_cuda_allocate(&at, ohm_halves_count(g) * sizeof *a->halves));
    a->halves = at;
    return OHM_CUDA_OK;
}

static void release(const arrays *a)
{
    (void)ohm_cuda_free(a->w);
    (void)ohm_cuda_free(a->lsb);
    (void)ohm_cuda_free(a->y[0]);
    (void)ohm_cuda_free(a->y[1]);
    (void)ohm_cuda_free(a->x);
    (void)ohm_cuda_free(a->halves);
}

static ohm_cuda_status read_both(host_side *h, const arrays *a, const ohm_geometry *g,
                                 ohm_mvm_halves_call *kernel, int blocked, ohm_cuda_stream s)
{
    ohm_read r = {.v_read = 1.0,
                  .read_constant = 0.01f,
                  .read_noise = 1,
                  .adc_bits = 9,
                  .adc_noise = 0.5f,
                  .lsb = a->lsb,
                  .stream = {.key = {1, 2}, .where = 3, .step = 4}};
    for (int digit = 0; digit < 256; digit++)
        r.dac_level[digit] = r.drive_level[digit] = (float)digit;
    const ohm_tiles w = {.w = a->w};
    const ohm_mvm_halves halves = {.w = a->halves, .blocked = blocked};
    const ohm_mvm_input x = {.g = g, .r = &r, .w = &w, .x_u = a->x, .ldx = K, .m = M};
    const ohm_mvm_output y[2] = {{.y = a->y[0], .ldy = N}, {.y = a->y[1], .ldy = N}};
    TRY(ohm_cuda_upload(a->w, h->w, sizeof h->w, s));
    TRY(ohm_cuda_upload(a->x, h->x, sizeof h->x, s));
    TRY(ohm_cuda_upload(a->lsb, &h->lsb, sizeof h->lsb, s));
    for (int i = 0; i < 2; i++) /* NaN */
        TRY(ohm_cuda_fill(a->y[i], 0xFF, sizeof h->y[i], s));
    TRY(ohm_mvm_pack_cuda(&halves, g, &w, s));
    TRY(ohm_mvm_plain_cuda(&y[0], &x, s));
    TRY(kernel(&y[1], &x, &halves, s));
    for (int i = 0; i < 2; i++)
        TRY(ohm_cuda_download(h->y[i], a->y[i], sizeof h->y[i], s));
    return ohm_cuda_stream_wait(s);
}

/* Codes on a threshold are few. */
static const char *judge(const host_side *h)
{
    static char text[200];
    int off = 0;
    for (int i = 0; i < M * N; i++) {
        const float gap = fabsf(h->y[1][i] - h->y[0][i]);
        off += gap > 0.5f * h->lsb;
        if (gap <= 1.5f * h->lsb && off < M * N / 100)
            continue;
        snprintf(text, sizeof text, "output %d of row %d is %g, the plain kernel's %g", i % N,
                 i / N, (double)h->y[1][i], (double)h->y[0][i]);
        return text;
    }
    return NULL;
}

static const char *check(host_side *h, int drive, ohm_mvm_halves_call *kernel, int blocked,
                         ohm_cuda_stream s)
{
    const ohm_geometry g = {.k = K,
                            .n = N,
                            .drive = drive,
                            .planes = 1,
                            .slices = 1,
                            .phases = drive == OHM_DRIVE_TWO_PHASE ? 2 : 1,
                            .dac_bits = 3,
                            .cell_bits = 3,
                            .differential = 1,
                            .tile_rows = TILE,
                            .tiles = K / TILE,
                            .tile_columns = N,
                            .column_tiles = 1,
                            .max_digit = 7,
                            .max_level = MOST_LEVEL};
    arrays a = {0};
    ohm_cuda_status status = allocate(&a, &g);
    if (status == OHM_CUDA_OK)
        status = read_both(h, &a, &g, kernel, blocked, s);
    release(&a);
    return status == OHM_CUDA_OK ? judge(h) : ohm_cuda_error_text();
}

const char *ohm_mvm_check(ohm_mvm_halves_call *kernel, int blocked, ohm_cuda_stream s)
{
    host_side *h = malloc(sizeof *h);
    if (!h)
        return "no memory to try it";
    fill(h);
    const char *wrong = check(h, OHM_DRIVE_SIGN_MAGNITUDE, kernel, blocked, s);
    if (!wrong) /* two groups of reads */
        wrong = check(h, OHM_DRIVE_TWO_PHASE, kernel, blocked, s);
    free(h);
    return wrong;
}

static unsigned distrust(ohm_mvm_kernel which, const char *name, const char *instead, int index,
                         const char *wrong)
{
    if (!wrong)
        return 0;
    fprintf(stderr, "ohmgrad: device cuda:%d: the %s kernel of reads is not used, %s is: %s\n",
            index, name, instead, wrong);
    return 1u << which;
}

unsigned ohm_mvm_distrusted(const ohm_cuda_device *about, int index, ohm_cuda_stream s)
{
    static unsigned found[DEVICES]; /* and bit 31: it has been tried */
    if (index < 0 || index >= DEVICES || about->driver == 0)
        return 0;
    if (!found[index]) {
        found[index] = 1u << 31;
        found[index] |= distrust(OHM_MVM_MMA, "tensor-core", "the plain one", index,
                                 ohm_mvm_check(ohm_mvm_mma_cuda, 0, s));
        if (about->major == 9 && about->minor == 0)
            found[index] |= distrust(OHM_MVM_HOPPER, "compute capability 9.0", "that of 8.0", index,
                                     ohm_mvm_check(ohm_mvm_hopper_checked_cuda, 1, s));
    }
    return found[index] & ~(1u << 31);
}
