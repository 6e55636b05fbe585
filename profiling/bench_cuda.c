/* Kernels on a device, each as a share of what the same card does at best, which is measured first:
 * copying, cuBLAS, Philox words. Medians of calls timed by events, with the second cache cleared
 * before each; a result is checked before it is timed.
 *
 *     bench_cuda            measures; 77 where there is no device, 1 where something failed
 *     bench_cuda --device   prints what the device is called, and ends
 *     bench_cuda --small    the same on little data, to try the benchmark itself */
#include "profiling/bench_cuda.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/irdrop_adjoint.h"
#include "kernels/irdrop_adjoint_cuda.h"
#include "kernels/normals_cuda.h"
#include "kernels/quantise_cuda.h"

enum { NO_DEVICE = 77, WARM = 3, RUNS = 21 };

bench_device bench;

int device_differs(const char *what)
{
    fprintf(stderr, "bench_cuda: %s: the result is wrong; nothing of it is timed\n", what);
    return 0;
}

/* ---- memory of a section -------------------------------------------------------------------- */

/* NULL where it does not fit. */
void *device_memory(size_t bytes)
{
    void *at = NULL;
    if (bench.memories == BENCH_MEMORIES || ohm_cuda_allocate(&at, bytes) != OHM_CUDA_OK)
        return NULL;
    bench.memory[bench.memories++] = at;
    return at;
}

void *device_upload(const void *host, size_t bytes)
{
    void *at = host ? device_memory(bytes) : NULL;
    if (!at || ohm_cuda_upload(at, host, bytes, bench.s) != OHM_CUDA_OK ||
        ohm_cuda_stream_wait(bench.s) != OHM_CUDA_OK)
        return NULL;
    return at;
}

int device_fetch(void *host, const void *device, size_t bytes)
{
    TRY(ohm_cuda_download(host, device, bytes, bench.s));
    TRY(ohm_cuda_stream_wait(bench.s));
    return 1;
}

void device_release(void)
{
    while (bench.memories)
        ohm_cuda_free(bench.memory[--bench.memories]);
}

int device_no_memory(const char *what)
{
    fprintf(stderr, "bench_cuda: %s: no memory on the device or the host\n", what);
    return 0;
}

/* ---- timing --------------------------------------------------------------------------------- */

static int ascending(const void *x, const void *y)
{
    double d = *(const double *)x - *(const double *)y;
    return (d > 0) - (d < 0);
}

/* Median of one call in seconds, and the distance of the quartiles as a share of it. 0: failed. */
double device_timed(subject *run, const void *context, double *spread)
{
    double seconds[RUNS];
    for (int i = 0; i < WARM; i++)
        TRY(run(context));
    for (int i = 0; i < RUNS; i++) {
        TRY(ohm_absmax_cuda(bench.clear + bench.clear_count, bench.clear, bench.clear_count,
                            bench.s));
        TRY(ohm_cuda_event_record(bench.from, bench.s));
        TRY(run(context));
        TRY(ohm_cuda_event_record(bench.to, bench.s));
        TRY(ohm_cuda_event_wait(bench.to));
        TRY(ohm_cuda_event_seconds(&seconds[i], bench.from, bench.to));
    }
    qsort(seconds, RUNS, sizeof *seconds, ascending);
    *spread = (seconds[RUNS * 3 / 4] - seconds[RUNS / 4]) / seconds[RUNS / 2];
    return seconds[RUNS / 2];
}

void device_print(ohm_bench_figure f)
{
    f.bench = "cuda";
    f.device = bench.name;
    ohm_bench_print(&f);
}

const ohm_stream words_of = {{1, 2}, OHM_SITE_USER, 0, 0};

/* ---- ceilings ------------------------------------------------------------------------------- */

typedef struct {
    void *to;
    const void *from;
    size_t bytes, times;
} transfer;

static ohm_cuda_status copy(const void *context)
{
    const transfer *t = context;
    return ohm_cuda_copy(t->to, t->from, t->bytes, bench.s);
}

static ohm_cuda_status words(const void *context)
{
    const transfer *t = context;
    ohm_cuda_status status = OHM_CUDA_OK;
    for (size_t i = 0; i < t->times && status == OHM_CUDA_OK; i++)
        status = ohm_words_cuda(t->to, i * (t->bytes / 16), t->bytes / 16, &words_of, bench.s);
    return status;
}

static int measure_copy(void)
{
    transfer t = {.bytes = bench.small ? 1 << 16 : (size_t)512 << 20};
    double spread;
    void *from = device_memory(t.bytes);
    t.to = device_memory(t.bytes);
    t.from = from;
    if (!from || !t.to)
        return device_no_memory("copy");
    TRY(ohm_cuda_fill(from, 7, t.bytes, bench.s));
    double seconds = device_timed(copy, &t, &spread);
    if (seconds <= 0)
        return 0;
    bench.copy = 2.0 * (double)t.bytes / seconds;
    device_print((ohm_bench_figure){.what = "ceiling: device copy, bytes read and written",
                                    .shape = bench.small ? "64 KiB" : "512 MiB",
                                    .value = bench.copy * 1e-9,
                                    .unit = "GB/s",
                                    .spread = spread});
    return 1;
}

static int measure_words(void)
{
    static const char *const what[] = {"ceiling: Philox words, in the second cache",
                                       "ceiling: Philox words, written to memory"};
    uint32_t got[4], expected;
    for (int stored = 0; stored < 2; stored++) {
        size_t cached = bench.device.l2_bytes / 2 / 16 * 16;
        transfer t = {.bytes = bench.small ? 1 << 12
                               : stored    ? (size_t)512 << 20
                                           : (cached ? cached : (size_t)1 << 20),
                      .times = stored || bench.small ? 1 : 16};
        char shape[48];
        double spread;
        t.to = device_memory(t.bytes);
        if (!t.to)
            return device_no_memory(what[stored]);
        TRY(words(&(transfer){.to = t.to, .bytes = t.bytes, .times = 1}));
        if (!device_fetch(got, (char *)t.to + t.bytes - sizeof got, sizeof got))
            return 0;
        expected = ohm_stream_word(&words_of, t.bytes / 4 - 1);
        if (got[3] != expected)
            return device_differs(what[stored]);
        double seconds = device_timed(words, &t, &spread);
        if (seconds <= 0)
            return 0;
        double rate = (double)(t.bytes * t.times) / seconds;
        *(stored ? &bench.words_stored : &bench.words_cached) = rate;
        snprintf(shape, sizeof shape, "%zu x %zu bytes", t.times, t.bytes);
        device_print((ohm_bench_figure){.what = what[stored],
                                        .shape = shape,
                                        .value = rate * 1e-9,
                                        .unit = "GB/s",
                                        .spread = spread});
    }
    return 1;
}

/* cuBLAS by its binary interface, which every version since 11 shares: this file is built where its
 * headers may be missing. */
enum { R_32F = 0, R_16F = 2, COMPUTE_32F = 68, COMPUTE_32F_FAST_TF32 = 77, DEFAULT_ALGORITHM = -1 };
static struct {
    void *library, *handle;
    int (*create)(void **);
    int (*destroy)(void *);
    int (*set_stream)(void *, void *);
    int (*gemm)(void *, int, int, int, int, int, const void *, const void *, int, int, const void *,
                int, int, const void *, void *, int, int, int, int);
} blas;

static int open_blas(void)
{
    static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so.11",
                                        "libcublas.so", "/usr/local/cuda/lib64/libcublas.so"};
    for (size_t i = 0; i < sizeof names / sizeof *names && !blas.library; i++)
        blas.library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!blas.library)
        return 0;
    /* POSIX has dlsym's result stored like this; ISO C knows no such cast. */
    *(void **)&blas.create = dlsym(blas.library, "cublasCreate_v2");
    *(void **)&blas.destroy = dlsym(blas.library, "cublasDestroy_v2");
    *(void **)&blas.set_stream = dlsym(blas.library, "cublasSetStream_v2");
    *(void **)&blas.gemm = dlsym(blas.library, "cublasGemmEx");
    return blas.create && blas.destroy && blas.set_stream && blas.gemm &&
           blas.create(&blas.handle) == 0 && blas.set_stream(blas.handle, bench.s) == 0;
}

typedef struct {
    int size, type, compute;
    const void *x, *w;
    void *y;
} product;

static ohm_cuda_status multiply(const void *context)
{
    const product *p = context;
    const float one = 1, zero = 0;
    int status =
        blas.gemm(blas.handle, 1, 0, p->size, p->size, p->size, &one, p->w, p->type, p->size, p->x,
                  p->type, p->size, &zero, p->y, p->type, p->size, p->compute, DEFAULT_ALGORITHM);
    return status ? ohm_cuda_fail(OHM_CUDA_ARGUMENT, "cublasGemmEx", "refused") : OHM_CUDA_OK;
}

/* ±0.5 to ±1, in half precision. */
static uint16_t half_bits(uint32_t word)
{
    return (uint16_t)((word & 0x8000u) | 0x3800u | (word & 0x3ffu));
}
static double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31, mantissa = h & 0x3ff;
    double magnitude = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return h & 0x8000 ? -magnitude : magnitude;
}

static int measure_product(int half)
{
    enum { SIZE = 4096 };
    const char *what = half ? "ceiling: cuBLAS fp16" : "ceiling: cuBLAS TF32";
    size_t count = (size_t)SIZE * SIZE, each = half ? 2 : 4;
    void *host[2] = {malloc(count * each), malloc(count * each)}, *at[2] = {NULL, NULL};
    double expected = 0, got, spread;
    for (int side = 0; side < 2 && host[0] && host[1]; side++) {
        for (size_t i = 0; i < count; i++) {
            uint32_t word = ohm_stream_word(&words_of, i + side * count);
            if (half)
                ((uint16_t *)host[side])[i] = half_bits(word);
            else
                ((float *)host[side])[i] = (float)half_value(half_bits(word));
        }
        at[side] = device_upload(host[side], count * each);
    }
    for (int i = 0; i < SIZE && at[1]; i++)
        expected +=
            half ? half_value(((uint16_t *)host[0])[i]) * half_value(((uint16_t *)host[1])[i])
                 : (double)((float *)host[0])[i] * ((float *)host[1])[i];
    free(host[0]);
    free(host[1]);
    product p = {
        SIZE,  half ? R_16F : R_32F,       half ? COMPUTE_32F : COMPUTE_32F_FAST_TF32, at[0],
        at[1], device_memory(count * each)};
    if (!p.x || !p.w || !p.y)
        return device_no_memory(what);
    TRY(multiply(&p));
    float first = 0;
    uint16_t bits = 0;
    if (!device_fetch(half ? (void *)&bits : (void *)&first, p.y, each))
        return 0;
    got = half ? half_value(bits) : first;
    /* of 4096 terms up to 1: a result of some 40 in half precision, perhaps summed up in it */
    if (!(fabs(got - expected) < 0.5))
        return device_differs(what);
    double seconds = device_timed(multiply, &p, &spread), flop = 2.0 * SIZE * SIZE * (double)SIZE;
    if (seconds <= 0)
        return 0;
    if (half)
        bench.fp16 = flop / seconds;
    device_print((ohm_bench_figure){.what = what,
                                    .shape = "4096 x 4096 x 4096",
                                    .value = flop / seconds * 1e-12,
                                    .unit = "Tflop/s",
                                    .spread = spread});
    return 1;
}

static int measure_products(void)
{
    if (bench.small)
        return 1; /* its memory may be the host's */
    if (!open_blas()) {
        fprintf(stderr, "bench_cuda: libcublas is not found or does not start: no share of it is "
                        "given; put it on LD_LIBRARY_PATH\n");
        return 0;
    }
    int ok = measure_product(1);
    device_release();
    ok &= measure_product(0);
    blas.destroy(blas.handle);
    return ok;
}

/* ---- quantisation --------------------------------------------------------------------------- */

enum { COLS = 4096, BITS = 8 };
typedef struct {
    size_t rows;
    float *x, *scale, *most;
    int8_t *q;
    uint8_t *levels;
    uint32_t *flags;
} matrix;

static ohm_cuda_status absmax(const void *context)
{
    const matrix *m = context;
    return ohm_absmax_cuda(m->most, m->x, m->rows * COLS, bench.s);
}
static ohm_cuda_status quantise(const void *context)
{
    const matrix *m = context;
    return ohm_quantise_cuda(m->q, COLS, m->x, m->rows, COLS, COLS, m->scale, 0, 127, bench.s);
}
static ohm_cuda_status drive(const void *context)
{
    const matrix *m = context;
    return ohm_quantise_drive_cuda((uint8_t *)m->q, COLS, m->flags, 1, m->x, m->rows, COLS, COLS,
                                   m->scale, 0, 127, OHM_DRIVE_SIGN_MAGNITUDE, BITS, bench.s);
}
static ohm_cuda_status split(const void *context)
{
    const matrix *m = context;
    return ohm_quantise_split_cuda(m->q, m->levels, m->x, m->rows, COLS, m->scale, 0, 127,
                                   OHM_CELLS_DIFFERENTIAL, 7, BITS, bench.s);
}

static int measure_quantise(void)
{
    static const struct {
        const char *what;
        subject *run;
        double bytes; /* read and written per element */
    } all[] = {{"largest magnitude", absmax, 4},
               {"quantise", quantise, 5},
               {"quantise to drive bytes", drive, 5},
               {"quantise and split to 7-bit pairs", split, 7}};
    enum { CHECKED = 4 };
    matrix m = {.rows = bench.small ? 8 : 16384};
    size_t n = m.rows * COLS;
    float scale = 0.03f, *host = malloc(n * sizeof *host);
    static int8_t got[CHECKED * COLS], expected[CHECKED * COLS];
    for (size_t i = 0; i < n && host; i++)
        host[i] = (float)(int32_t)ohm_stream_word(&words_of, i) * 0x1p-29f;
    if (host)
        ohm_quantise_ref(expected, COLS, host, CHECKED, COLS, COLS, &scale, 0, 127);
    m.x = device_upload(host, n * sizeof *host);
    free(host);
    m.scale = device_upload(&scale, sizeof scale);
    m.most = device_memory(sizeof *m.most);
    m.q = device_memory(n);
    m.levels = device_memory(2 * n);
    m.flags = device_memory(sizeof *m.flags);
    if (!m.x || !m.scale || !m.most || !m.q || !m.levels || !m.flags)
        return device_no_memory("quantise");
    TRY(ohm_cuda_fill(m.flags, 0, sizeof *m.flags, bench.s));
    TRY(quantise(&m));
    if (!device_fetch(got, m.q, sizeof got))
        return 0;
    if (memcmp(got, expected, sizeof got) != 0)
        return device_differs("quantise");
    char shape[48];
    snprintf(shape, sizeof shape, "%zu x %d", m.rows, COLS);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        double spread, seconds = device_timed(all[i].run, &m, &spread);
        if (seconds <= 0)
            return 0;
        double rate = all[i].bytes * (double)n / seconds;
        device_print((ohm_bench_figure){.what = all[i].what,
                                        .shape = shape,
                                        .value = rate * 1e-9,
                                        .unit = "GB/s",
                                        .spread = spread,
                                        .ratio = rate / bench.copy,
                                        .baseline = bench.copy > 0 ? "device copy" : NULL,
                                        .target = 0.8});
    }
    return 1;
}

/* ---- normals -------------------------------------------------------------------------------- */

typedef struct {
    float *z;
    size_t samples; /* of 128 */
} normals;

static ohm_cuda_status normals_exact(const void *context)
{
    const normals *n = context;
    return ohm_normals_exact_cuda(n->z, 0, n->samples * OHM_NORMALS_BLOCK, &words_of, bench.s);
}
static ohm_cuda_status normals_fast(const void *context)
{
    const normals *n = context;
    return ohm_normals_fast_cuda(n->z, OHM_NORMALS_BLOCK, 0, n->samples, 0, 1, &words_of, bench.s);
}

static int measure_normals(void)
{
    normals n = {.samples = bench.small ? 16 : (size_t)1 << 20};
    size_t count = n.samples * OHM_NORMALS_BLOCK;
    float got[OHM_NORMALS_BLOCK], expected[OHM_NORMALS_BLOCK];
    n.z = device_memory(count * sizeof *n.z);
    if (!n.z)
        return device_no_memory("normals");
    for (int fast = 0; fast < 2; fast++) {
        subject *run = fast ? normals_fast : normals_exact;
        double spread;
        char shape[48];
        if (fast)
            ohm_normals_fast(expected, OHM_NORMALS_BLOCK, n.samples - 1, 1, 0, 1, &words_of);
        else
            ohm_normals_exact(expected, count - OHM_NORMALS_BLOCK, OHM_NORMALS_BLOCK, &words_of);
        TRY(run(&n));
        if (!device_fetch(got, n.z + count - OHM_NORMALS_BLOCK, sizeof got))
            return 0;
        if (memcmp(got, expected, sizeof got) != 0)
            return device_differs("normals");
        double seconds = device_timed(run, &n, &spread);
        if (seconds <= 0)
            return 0;
        snprintf(shape, sizeof shape, "%zu x 128", n.samples);
        device_print((ohm_bench_figure){
            .what = fast ? "fast normals, written" : "exact normals, written",
            .shape = shape,
            .value = (double)count / seconds * 1e-9,
            .unit = "G/s",
            .spread = spread,
            .ratio = (double)count * sizeof(float) / seconds / bench.words_stored,
            .baseline = bench.words_stored > 0 ? "Philox words written" : NULL});
    }
    return 1;
}

/* ---- exact IR drop -------------------------------------------------------------------------- */

typedef struct {
    ohm_crosspoint tile;
    int tiles;
    float *g, *g_eff, *dg; /* d g_eff is g_eff itself */
    int *status;
    void *scratch;
} wired;

static ohm_cuda_status solve(const void *context)
{
    const wired *w = context;
    return ohm_irdrop_exact_cuda(w->g_eff, w->g, w->status, NULL, &w->tile, w->tiles, w->scratch,
                                 bench.s);
}

static ohm_cuda_status solve_gradient(const void *context)
{
    const wired *w = context;
    return ohm_irdrop_adjoint_cuda(w->dg, w->g_eff, w->g, w->status, NULL, &w->tile, w->tiles,
                                   w->scratch, bench.s);
}

/* The last tile's gradient, added once to zeros, against the adjoint in double: at most 1e-5 of the largest. */
static int followed(const wired *w, const float *g)
{
    size_t cells = (size_t)w->tile.rows * w->tile.columns, last = (w->tiles - 1) * cells;
    float *got = malloc(2 * cells * sizeof *got);
    double *wide = calloc(3 * cells, sizeof *wide), error = 0, most = 0;
    int *status = malloc(w->tiles * sizeof *status), ok = 0;
    void *work = aligned_alloc(64, (ohm_irdrop_exact_adjoint_bytes_f64(&w->tile) + 63) / 64 * 64);
    if (got && wide && status && work && device_fetch(got, w->dg + last, cells * sizeof *got) &&
        device_fetch(got + cells, w->g_eff + last, cells * sizeof *got) &&
        device_fetch(status, w->status, w->tiles * sizeof *status)) {
        for (size_t i = 0; i < cells; i++) {
            wide[cells + i] = got[cells + i];
            wide[2 * cells + i] = g[last + i];
        }
        ok = ohm_irdrop_exact_adjoint_f64(wide, wide + cells, wide + 2 * cells, &w->tile, work,
                                          NULL) == OHM_SOLVE_OK;
        for (size_t i = 0; i < cells; i++) {
            error = fmax(error, fabs(got[i] - wide[i]));
            most = fmax(most, fabs(wide[i]));
        }
        ok &= error < 1e-5 * most;
        for (int t = 0; t < w->tiles; t++)
            ok &= status[t] == OHM_SOLVE_OK;
    }
    free(got);
    free(wide);
    free(status);
    free(work);
    return ok;
}

/* The last tile against the march in double: at most 5e-6 of its norm, as the tests ask. */
static int solved(const wired *w, const float *g)
{
    size_t cells = (size_t)w->tile.rows * w->tile.columns, last = (w->tiles - 1) * cells;
    float *got = malloc(cells * sizeof *got);
    double *wide = malloc(cells * sizeof *wide), error = 0, norm = 0;
    int *status = malloc(w->tiles * sizeof *status), ok = 0;
    void *work = aligned_alloc(64, (ohm_irdrop_exact_bytes_f64(&w->tile) + 63) / 64 * 64);
    if (got && wide && status && work && device_fetch(got, w->g_eff + last, cells * sizeof *got) &&
        device_fetch(status, w->status, w->tiles * sizeof *status)) {
        for (size_t i = 0; i < cells; i++)
            wide[i] = g[last + i];
        ok = ohm_irdrop_exact_f64(wide, wide, &w->tile, work, NULL) == OHM_SOLVE_OK;
        for (size_t i = 0; i < cells; i++) {
            error += (got[i] - wide[i]) * (got[i] - wide[i]);
            norm += wide[i] * wide[i];
        }
        ok &= sqrt(error / norm) < 5e-6;
        for (int t = 0; t < w->tiles; t++)
            ok &= status[t] == OHM_SOLVE_OK;
    }
    free(got);
    free(wide);
    free(status);
    free(work);
    return ok;
}

static int measure_irdrop(void)
{
    const int size = bench.small ? 16 : 128, tiles = bench.small ? 3 : 1024;
    wired w = {.tile = {size, size, {.word_line = 1, .bit_line = 1}}, .tiles = tiles};
    size_t cells = (size_t)size * size * tiles;
    char shape[48];
    float *host = malloc(cells * sizeof *host);
    for (size_t i = 0; i < cells && host; i++) /* 1 to 40 microsiemens */
        host[i] = 1e-6f + 39e-6f * (float)(ohm_stream_word(&words_of, i) >> 8) * 0x1p-24f;
    w.g = device_upload(host, cells * sizeof *host);
    w.g_eff = device_memory(cells * sizeof *host);
    w.status = device_memory(tiles * sizeof *w.status);
    size_t scratch = ohm_irdrop_exact_cuda_bytes(&w.tile, tiles),
           adjoint = ohm_irdrop_adjoint_cuda_bytes(&w.tile, tiles);
    w.scratch = device_memory(scratch > adjoint ? scratch : adjoint);
    w.dg = device_memory(cells * sizeof *host);
    int ok = w.g && w.g_eff && w.dg && w.status && w.scratch &&
             ohm_cuda_fill(w.dg, 0, cells * sizeof *host, bench.s) == OHM_CUDA_OK;
    if (!ok)
        device_no_memory("exact IR drop");
    else if (solve(&w) != OHM_CUDA_OK)
        ok = fprintf(stderr, "bench_cuda: %s\n", ohm_cuda_error_text()) < 0;
    else if (!solved(&w, host))
        ok = device_differs("exact IR drop");
    else if (solve_gradient(&w) != OHM_CUDA_OK)
        ok = fprintf(stderr, "bench_cuda: %s\n", ohm_cuda_error_text()) < 0;
    else if (!followed(&w, host))
        ok = device_differs("the gradient of exact IR drop");
    free(host);
    if (!ok)
        return 0;
    double spread, seconds = device_timed(solve, &w, &spread);
    if (seconds <= 0)
        return 0;
    snprintf(shape, sizeof shape, "%d tiles of %d x %d", tiles, size, size);
    device_print((ohm_bench_figure){.what = "G_eff of exact IR drop, 1 ohm, up to 40 uS",
                                    .shape = shape,
                                    .value = seconds * 1e3,
                                    .unit = "ms",
                                    .spread = spread,
                                    .ratio = seconds / 5e-3,
                                    .baseline = "5 ms",
                                    .target = 1,
                                    .at_most = true});
    const double forward = seconds;
    seconds = device_timed(solve_gradient, &w, &spread);
    if (seconds <= 0)
        return 0;
    device_print((ohm_bench_figure){.what = "gradient of exact IR drop",
                                    .shape = shape,
                                    .value = seconds * 1e3,
                                    .unit = "ms",
                                    .spread = spread,
                                    .ratio = seconds / forward,
                                    .baseline = "G_eff"});
    return 1;
}

/* ---- all ------------------------------------------------------------------------------------ */

/* 0 with a line where there is no device. */
static int find_device(void)
{
    int count = 0;
    if (ohm_cuda_count(&count) != OHM_CUDA_OK || count < 1 ||
        ohm_cuda_describe(&bench.device, 0) != OHM_CUDA_OK || ohm_cuda_use(0) != OHM_CUDA_OK) {
        fprintf(stderr, "bench_cuda: no device to measure: %s\n", ohm_cuda_error_text());
        return 0;
    }
    snprintf(bench.name, sizeof bench.name, "%s, sm_%d%d, driver for CUDA %d.%d", bench.device.name,
             bench.device.major, bench.device.minor, bench.device.driver / 1000,
             bench.device.driver % 1000 / 10);
    return 1;
}

static int begin(void)
{
    TRY(ohm_cuda_stream_create(&bench.s));
    TRY(ohm_cuda_event_create(&bench.from));
    TRY(ohm_cuda_event_create(&bench.to));
    void *clear = NULL;
    bench.clear_count = bench.small ? 1 << 12 : 2 * bench.device.l2_bytes / sizeof(float) + 1024;
    TRY(ohm_cuda_allocate(&clear, (bench.clear_count + 1) * sizeof(float)));
    bench.clear = clear;
    TRY(ohm_cuda_fill(clear, 0, (bench.clear_count + 1) * sizeof(float), bench.s));
    return 1;
}

int main(int argc, char **argv)
{
    static int (*const sections[])(void) = {measure_copy,     measure_products, measure_words,
                                            measure_quantise, measure_normals,  measure_irdrop,
                                            measure_program,  measure_mvm, measure_mvm_backward};
    int only_name = argc == 2 && !strcmp(argv[1], "--device"), ok = 1;
    bench.small = argc == 2 && !strcmp(argv[1], "--small");
    if (argc > 1 && !only_name && !bench.small) {
        fprintf(stderr, "bench_cuda: usage: bench_cuda [--device | --small]\n");
        return 2;
    }
    if (!find_device())
        return NO_DEVICE;
    if (only_name)
        return printf("%s\n", bench.name) < 0;
    ok = begin();
    for (size_t i = 0; bench.clear && i < sizeof sections / sizeof *sections; i++) {
        ok &= sections[i]();
        device_release();
    }
    ohm_cuda_free(bench.clear);
    ohm_cuda_event_destroy(bench.from);
    ohm_cuda_event_destroy(bench.to);
    ohm_cuda_stream_destroy(bench.s);
    return !ok;
}
