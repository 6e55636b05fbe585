/* Known answers: the published Random123 vectors, which cuRAND reproduces. */
#include "kernels/philox.h"

#include "tests/compare.h"
#include "tests/runner.h"

static void check_vector(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0,
                         uint32_t k1, const uint32_t expected[4])
{
    const uint32_t counter[4] = {c0, c1, c2, c3}, key[2] = {k0, k1};
    uint32_t out[4];
    ohm_philox4x32(out, counter, key);
    OHM_ASSERT(ohm_compare_bits(out, expected, 4));
}

OHM_TEST(philox, known_answers)
{
    check_vector(0, 0, 0, 0, 0, 0,
                 (const uint32_t[]){0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    check_vector(~0u, ~0u, ~0u, ~0u, ~0u, ~0u,
                 (const uint32_t[]){0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    check_vector(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0,
                 (const uint32_t[]){0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

OHM_TEST(philox, stream_is_the_stated_counter)
{
    const ohm_stream s = {{11, 22}, OHM_SITE_USER, 33, 44};
    const uint64_t block = 0x5600000007ull;
    const uint32_t counter[4] = {7, OHM_SITE_USER | 0x5600, 33, 44};
    uint32_t expected[4], got[4];
    ohm_philox4x32(expected, counter, s.key);
    ohm_stream_block(got, &s, block);
    OHM_ASSERT(ohm_compare_bits(got, expected, 4));
    for (unsigned i = 0; i < 4; i++)
        ck_assert_uint_eq(ohm_stream_word(&s, 4 * block + i), expected[i]);
}

OHM_TEST(philox, sites_fit_eight_bits)
{
    ck_assert_int_le(OHM_SITE_COUNT, 256);
}

OHM_TEST(philox, uniform_is_open_and_flat)
{
    const ohm_stream s = {{1, 2}, OHM_SITE_USER, 3, 4};
    enum { N = 1 << 16 };
    static double x[N];
    for (size_t i = 0; i < N; i++) {
        x[i] = ohm_stream_uniform(&s, i);
        ck_assert(x[i] > 0.0 && x[i] < 1.0);
        ck_assert(x[i] == (ohm_stream_word(&s, i) + 0.5) / 4294967296.0);
    }
    OHM_ASSERT(ohm_compare_moments(x, N, 0.5, 1.0 / 12, 1.8, OHM_ALPHA));
}
