/* The exact solver's inner loops, once per instruction set.
 *
 * Bound, per cell and right-hand side of the march: 6 multiply-adds and 3 stores. A Zen 4 core does a
 * multiply-add on 16 floats per cycle and a store of them in two, so 6 cycles per 16 right-hand sides:
 * 0.25 ms for 128 x 128 in float at 3.3 GHz. A chunk's voltages and currents are read twice and written
 * once per row, 3·columns·128 bytes: beyond about 100 columns they leave the first-level cache.
 * Division: (2/3)·C³ + 2·R·C² flop in blocks of one chunk, all operands in the second-level cache. */
#include <math.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/irdrop_march.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif
/* TALL: rows of a product that are summed in registers at once */
#if defined(__AVX512F__)
enum { VECTOR_BYTES = 64, TALL = 8 };
#define FMA_f32 _mm512_fmadd_ps
#define FMA_f64 _mm512_fmadd_pd
#define FNMA_f32 _mm512_fnmadd_ps
#define FNMA_f64 _mm512_fnmadd_pd
#elif defined(__AVX2__)
enum { VECTOR_BYTES = 32, TALL = 2 };
#define FMA_f32 _mm256_fmadd_ps
#define FMA_f64 _mm256_fmadd_pd
#define FNMA_f32 _mm256_fnmadd_ps
#define FNMA_f64 _mm256_fnmadd_pd
#else
enum { VECTOR_BYTES = 16, TALL = 1 };
#define FMA_f32(a, b, c) ((a) * (b) + (c))
#define FMA_f64(a, b, c) ((a) * (b) + (c))
#define FNMA_f32(a, b, c) ((c) - (a) * (b))
#define FNMA_f64(a, b, c) ((c) - (a) * (b))
#endif

#define UNROLLED(i, n) _Pragma("GCC unroll 16") for (int i = 0; i < (n); i++)

#define REAL float
#define NAME(x) x##_f32
#define CHUNK OHM_MARCH_F32
#include "kernels/irdrop_march.inc"
#undef REAL
#undef NAME
#undef CHUNK
#define REAL double
#define NAME(x) x##_f64
#define CHUNK OHM_MARCH_F64
#include "kernels/irdrop_march.inc"
