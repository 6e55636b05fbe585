/* Words and normals of the device: the bits of the host. */
#include <string.h>

#include "kernels/normals_cuda.h"
#include "tests/parity.h"

static const ohm_stream stream = {{2024, 1}, OHM_SITE_READ, 77, 5};
static const size_t counts[] = {0, 1, 2, 3, 31, 33, 257, 1031};
enum { COUNTS = sizeof counts / sizeof *counts, MOST = 1031 };

OHM_PARITY_ALONE(normals_cuda, words_are_philox)
{
    const uint64_t first[] = {0, 7, (1ull << 32) - 20, (1ull << 40) + 3};
    for (size_t f = 0; f < sizeof first / sizeof *first; f++) {
        uint32_t got[4 * MOST], expected[4 * MOST];
        uint32_t *words = parity_alloc(sizeof got);
        for (uint64_t i = 0; i < MOST; i++)
            ohm_stream_block(expected + 4 * i, &stream, first[f] + i);
        PARITY_TRY(ohm_words_cuda(words, first[f], MOST, &stream, parity_stream()));
        PARITY_TRY(parity_fetch(got, words, sizeof got));
        PARITY_CHECK(ohm_compare_bits(got, expected, 4 * MOST));
    }
    return parity_pass();
}

OHM_PARITY_ALONE(normals_cuda, exact_has_the_bits_of_the_host)
{
    const uint64_t first[] = {0, 1, 2, 3, (1ull << 34) - 37};
    for (size_t f = 0; f < sizeof first / sizeof *first; f++)
        for (size_t c = 0; c < COUNTS; c++) {
            float got[MOST + 1], expected[MOST + 1];
            size_t bytes = counts[c] * sizeof(float);
            float *z = parity_alloc(bytes);
            ohm_normals_exact_ref(expected, first[f], counts[c], &stream);
            PARITY_TRY(ohm_normals_exact_cuda(z, first[f], counts[c], &stream, parity_stream()));
            PARITY_TRY(parity_fetch(got, z, bytes));
            PARITY_CHECK(ohm_compare_bits(got, expected, counts[c]));
        }
    return parity_pass();
}

typedef ohm_cuda_status fast_cuda(float *z, size_t ldz, uint64_t first_sample, size_t samples,
                                  uint64_t transform, uint64_t transforms_per_sample,
                                  const ohm_stream *stream, ohm_cuda_stream s);

static ohm_verdict check_fast(fast_cuda *run, size_t samples, size_t ld, uint64_t first,
                              uint64_t transform, uint64_t per_sample)
{
    enum { ROWS = 300, LD = 131 };
    static float got[ROWS * LD], expected[ROWS * LD];
    size_t bytes = samples * ld * sizeof(float);
    float *z = parity_alloc(bytes);
    memset(expected, 0xA1, bytes); /* between the rows nothing is written */
    PARITY_TRY(ohm_cuda_fill(z, 0xA1, bytes, parity_stream()));
    ohm_normals_fast_ref(expected, ld, first, samples, transform, per_sample, &stream);
    PARITY_TRY(run(z, ld, first, samples, transform, per_sample, &stream, parity_stream()));
    PARITY_TRY(parity_fetch(got, z, bytes));
    return ohm_compare_bits(got, expected, samples * ld);
}

OHM_PARITY_ALONE(normals_cuda, fast_on_tensor_cores_has_the_bits_of_the_host)
{
    const size_t samples[] = {0, 1, 8, 9, 16, 33, 257};
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        PARITY_CHECK(check_fast(ohm_normals_fast_cuda, samples[i], 128, 0, 0, 1));
        PARITY_CHECK(check_fast(ohm_normals_fast_cuda, samples[i], 131, (1ull << 29) / 3 - 2, 1, 3));
    }
    return parity_pass();
}

OHM_PARITY(normals_cuda, fast_in_shared_memory_has_the_bits_of_the_host)
{
    PARITY_CHECK(check_fast(ohm_normals_fast_simple_cuda, 3, 128, 0, 0, 1));
    return check_fast(ohm_normals_fast_simple_cuda, 5, 131, 17, 2, 3);
}
