/* Inner loops of quantisation, compiled once per instruction set: plain C that vectorises. */
#include "kernels/quantise_math.h"

#include <string.h>

static uint32_t absmax(const float *x, size_t n)
{
    int32_t largest =
        0; /* without its sign bit a float orders like an integer, NaN above infinity */
    for (size_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7FFFFFFF;
        largest = bits > largest ? bits : largest;
    }
    return (uint32_t)largest;
}

static void quantise(int8_t *restrict q, const float *restrict x, size_t n, float scale, int qmax)
{
    float s = scale == 0.0f ? 1.0f : scale;
    for (size_t i = 0; i < n; i++)
        q[i] = ohm_code_of(x[i] / s, (float)qmax);
}

__attribute__((always_inline)) static inline int drive_codes(uint8_t *restrict u,
                                                             const int8_t *restrict q, size_t n,
                                                             ohm_drive encoding, uint8_t offset)
{
    int8_t seen = 0; /* the sign bit of every code, or-ed */
    for (size_t i = 0; i < n; i++) {
        seen |= q[i];
        u[i] = ohm_drive_of(q[i], encoding, offset);
    }
    return encoding == OHM_DRIVE_UNSIGNED && seen < 0;
}

static int drive_encode(uint8_t *u, const int8_t *q, size_t n, ohm_drive encoding, int bits)
{
    uint8_t offset = (uint8_t)(1u << (bits - 1));
    switch (encoding) { /* constants, so that each loop is free of branches */
    case OHM_DRIVE_OFFSET:
        return drive_codes(u, q, n, OHM_DRIVE_OFFSET, offset);
    case OHM_DRIVE_UNSIGNED:
        return drive_codes(u, q, n, OHM_DRIVE_UNSIGNED, offset);
    default:
        return drive_codes(u, q, n, OHM_DRIVE_SIGN_MAGNITUDE, offset);
    }
}

static int quantise_drive(uint8_t *u, const float *x, size_t n, float scale, int qmax,
                          ohm_drive encoding, int bits)
{
    enum { CHUNK = 2048 }; /* the codes stay in the first cache */
    int8_t codes[CHUNK];
    int negative = 0;
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t m = n - at < CHUNK ? n - at : CHUNK;
        quantise(codes, x + at, m, scale, qmax);
        negative |= drive_encode(u + at, codes, m, encoding, bits);
    }
    return negative;
}

/* Rows a and b hold 2 x 2 squares, each `shift` bits wide: swaps the upper right one (high bits of a)
 * with the lower left one (low bits of b). */
static inline void swap_squares(uint64_t *a, uint64_t *b, int shift, uint64_t mask)
{
    uint64_t differ = (*a >> shift ^ *b) & mask;
    *b ^= differ;
    *a ^= differ << shift;
}

/* Transposes 8 x 8 bytes, a row in each word, lowest byte first. */
static inline void turn_eight(uint64_t row[8])
{
    for (int i = 0; i < 4; i++)
        swap_squares(&row[i], &row[i + 4], 32, 0x00000000FFFFFFFFull);
    for (int i = 0; i < 4; i++) {
        int upper = i < 2 ? i : i + 2; /* rows 0, 1, 4, 5 */
        swap_squares(&row[upper], &row[upper + 2], 16, 0x0000FFFF0000FFFFull);
    }
    for (int i = 0; i < 8; i += 2)
        swap_squares(&row[i], &row[i + 1], 8, 0x00FF00FF00FF00FFull);
}

static void turn(int8_t *restrict turned, size_t ldt, const int8_t *restrict q, size_t ldq,
                 size_t rows, size_t cols)
{
    size_t whole_rows = rows / 8 * 8, whole_cols = cols / 8 * 8;
    for (size_t r = 0; r < whole_rows; r += 8)
        for (size_t c = 0; c < whole_cols; c += 8) {
            uint64_t block[8];
            for (size_t i = 0; i < 8; i++)
                memcpy(&block[i], q + (c + i) * ldq + r, 8);
            turn_eight(block);
            for (size_t i = 0; i < 8; i++)
                memcpy(turned + (r + i) * ldt + c, &block[i], 8);
        }
    for (size_t r = 0; r < rows; r++)
        for (size_t c = r < whole_rows ? whole_cols : 0; c < cols; c++)
            turned[r * ldt + c] = q[c * ldq + r];
}

static void split(uint8_t *restrict level, const int8_t *restrict q, size_t n, ohm_cells encoding,
                  int sign, int bits, int shift, int mask)
{
    if (encoding == OHM_CELLS_OFFSET) {
        uint8_t offset = (uint8_t)(1u << (bits - 1));
        for (size_t i = 0; i < n; i++)
            level[i] = (uint8_t)((uint8_t)((uint8_t)q[i] + offset) >> shift & mask);
    } else if (sign) {
        for (size_t i = 0; i < n; i++)
            level[i] = (uint8_t)((q[i] < 0 ? (uint8_t)-q[i] : 0) >> shift & mask);
    } else {
        for (size_t i = 0; i < n; i++)
            level[i] = (uint8_t)((q[i] > 0 ? (uint8_t)q[i] : 0) >> shift & mask);
    }
}

const ohm_quantise_kernels OHM_SIMD(ohm_quantise_kernels) = {absmax,       quantise, quantise_drive,
                                                             drive_encode, turn,     split};
