/* Quantisation over matrices: threads, ranges and the split of weights into cells. */
#include "kernels/quantise.h"

#include <math.h>
#include <string.h>

enum {
    CHUNK = 1 << 14,  /* elements a thread takes at a time */
    SERIAL = 1 << 16, /* below this many elements threads cost more than they bring */
    DIGIT_BITS = 11,  /* histogram of a percentile: 31 bits as 11 + 10 + 10 */
    DIGITS = 1 << DIGIT_BITS
};

extern const ohm_quantise_kernels ohm_quantise_kernels_base;
#if defined(__x86_64__)
extern const ohm_quantise_kernels ohm_quantise_kernels_avx2;
extern const ohm_quantise_kernels ohm_quantise_kernels_avx512;
#endif

const ohm_quantise_kernels *ohm_quantise_kernels_of(ohm_isa isa)
{
    switch (isa) {
    case OHM_ISA_BASE:
        return &ohm_quantise_kernels_base;
#if defined(__x86_64__)
    case OHM_ISA_AVX2:
        return &ohm_quantise_kernels_avx2;
    case OHM_ISA_AVX512:
        return &ohm_quantise_kernels_avx512;
#endif
    default:
        return NULL;
    }
}

static const ohm_quantise_kernels *here(void)
{
    return ohm_quantise_kernels_of(ohm_cpu_isa());
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- ranges --------------------------------------------------------------------------------- */

float ohm_absmax(const float *x, size_t n)
{
    const ohm_quantise_kernels *kernels = here();
    uint32_t largest = 0;
#pragma omp parallel for schedule(static) reduction(max : largest) if (n >= SERIAL)
    for (size_t at = 0; at < n; at += CHUNK) {
        uint32_t bits = kernels->absmax(x + at, smaller(n - at, CHUNK));
        largest = bits > largest ? bits : largest;
    }
    return float_of(largest);
}

void ohm_absmax_rows(float *out, const float *x, size_t rows, size_t cols, size_t ldx)
{
    const ohm_quantise_kernels *kernels = here();
#pragma omp parallel for schedule(static) if (rows * cols >= SERIAL)
    for (size_t r = 0; r < rows; r++)
        out[r] = float_of(kernels->absmax(x + r * ldx, cols));
}

/* count[d] = how many |x| share the bits `prefix` above shift + width and have digit d at shift. */
static void digit_histogram(uint64_t *count, const float *x, size_t n, uint32_t prefix, int shift,
                            int width)
{
    memset(count, 0, DIGITS * sizeof *count);
#pragma omp parallel if (n >= SERIAL)
    {
        uint64_t mine[DIGITS] = {0};
#pragma omp for schedule(static) nowait
        for (size_t i = 0; i < n; i++) {
            uint32_t bits;
            memcpy(&bits, x + i, sizeof bits);
            bits &= 0x7FFFFFFFu;
            if (bits >> shift >> width == prefix)
                mine[bits >> shift & ((1u << width) - 1)]++;
        }
#pragma omp critical(ohm_digit_histogram)
        for (int d = 0; d < DIGITS; d++)
            count[d] += mine[d];
    }
}

float ohm_abs_percentile(const float *x, size_t n, double percent)
{
    if (n == 0)
        return 0.0f;
    if (isnan(ohm_absmax(x, n)))
        return NAN;
    double wanted = ceil(percent / 100.0 * (double)n);
    uint64_t rank = wanted < 1.0 ? 1 : wanted > (double)n ? n : (uint64_t)wanted;
    static const int width[] = {11, 10, 10}, shift[] = {20, 10, 0};
    uint64_t count[DIGITS];
    uint32_t prefix = 0;
    for (int pass = 0; pass < 3; pass++) { /* the digits of the answer, most significant first */
        digit_histogram(count, x, n, prefix, shift[pass], width[pass]);
        uint32_t digit = 0;
        while (count[digit] < rank)
            rank -= count[digit++];
        prefix = prefix << width[pass] | digit;
    }
    return float_of(prefix);
}

/* ---- codes ---------------------------------------------------------------------------------- */

void ohm_quantise(int8_t *q, size_t ldq, const float *x, size_t rows, size_t cols, size_t ldx,
                  const float *scale, int per_row, int qmax)
{
    const ohm_quantise_kernels *kernels = here();
    size_t pieces = (cols + CHUNK - 1) / CHUNK; /* long rows are shared out too */
#pragma omp parallel for schedule(static) if (rows * cols >= SERIAL)
    for (size_t job = 0; job < rows * pieces; job++) {
        size_t r = job / pieces, at = job % pieces * CHUNK;
        kernels->quantise(q + r * ldq + at, x + r * ldx + at, smaller(cols - at, CHUNK),
                          scale[per_row ? r : 0], qmax);
    }
}

int ohm_drive_encode(uint8_t *u, const int8_t *q, size_t n, ohm_drive encoding, int bits)
{
    return here()->drive_encode(u, q, n, encoding, bits);
}

int ohm_quantise_drive(uint8_t *u, size_t ldu, const float *x, size_t rows, size_t cols, size_t ldx,
                       const float *scale, int per_row, int qmax, ohm_drive encoding, int bits)
{
    const ohm_quantise_kernels *kernels = here();
    int negative = 0;
    for (size_t r = 0; r < rows; r++)
        negative |= kernels->quantise_drive(u + r * ldu, x + r * ldx, cols, scale[per_row ? r : 0],
                                            qmax, encoding, bits);
    return negative;
}

/* ---- cells ---------------------------------------------------------------------------------- */

static int weight_bits(ohm_cells encoding, int bits)
{
    return encoding == OHM_CELLS_DIFFERENTIAL ? bits - 1 : bits;
}

int ohm_weight_slices(ohm_cells encoding, int cell_bits, int bits)
{
    int wide = weight_bits(encoding, bits);
    int cell = cell_bits < wide ? cell_bits : wide;
    return (wide + cell - 1) / cell;
}

enum { TILE = 64 }; /* word lines and columns turned around at once: 4 KiB */

void ohm_weight_split(uint8_t *levels, const int8_t *q, size_t n, size_t k, ohm_cells encoding,
                      int cell_bits, int bits)
{
    const ohm_quantise_kernels *kernels = here();
    int signs = encoding == OHM_CELLS_DIFFERENTIAL ? 2 : 1;
    int wide = weight_bits(encoding, bits);
    int cell = cell_bits < wide ? cell_bits : wide;
    int arrays = signs * ohm_weight_slices(encoding, cell_bits, bits);
    size_t across = (n + TILE - 1) / TILE, down = (k + TILE - 1) / TILE;
#pragma omp parallel for schedule(static) if (n * k >= SERIAL)
    for (size_t job = 0; job < across * down; job++) {
        size_t row0 = job / across * TILE, col0 = job % across * TILE;
        size_t rows = smaller(k - row0, TILE), cols = smaller(n - col0, TILE);
        int8_t turned[TILE][TILE];
        kernels->turn(turned[0], TILE, q + col0 * k + row0, k, rows, cols);
        for (int array = 0; array < arrays; array++)
            for (size_t row = 0; row < rows; row++)
                kernels->split(levels + ((size_t)array * k + row0 + row) * n + col0, turned[row],
                               cols, encoding, array % signs, bits, array / signs * cell,
                               (1 << cell) - 1);
    }
}
