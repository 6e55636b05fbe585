/* Counter-based random words: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011; cuRAND's generator, same word order). A word is a function of its address
 * alone, so threads, batch splits and evaluation order change nothing. C and CUDA compile this. */
#ifndef OHM_KERNELS_PHILOX_H
#define OHM_KERNELS_PHILOX_H

#include <stdint.h>

#include "kernels/portable.h"

#define OHM_PHILOX_M0 0xD2511F53u
#define OHM_PHILOX_M1 0xCD9E8D57u
#define OHM_PHILOX_W0 0x9E3779B9u
#define OHM_PHILOX_W1 0xBB67AE85u

/* What a draw is for (8 bits of the counter). Numbers are part of every recorded result: append only. */
typedef enum {
    OHM_SITE_PROGRAM = 0,
    OHM_SITE_READ = 1,
    OHM_SITE_ADC_NOISE = 2,
    OHM_SITE_DAC_NOISE = 3,
    OHM_SITE_DRIFT_NU = 4,
    OHM_SITE_ONE_OVER_F = 5,
    OHM_SITE_ACTIVATION_ENERGY = 6,
    OHM_SITE_FAULT = 7,
    OHM_SITE_ADC_GAIN = 8,
    OHM_SITE_ADC_OFFSET = 9,
    OHM_SITE_S_SHAPE = 10,
    OHM_SITE_CALIBRATION_READ = 11,
    OHM_SITE_COMPENSATION_READ = 12,
    OHM_SITE_COMPENSATION_INPUT = 13,
    OHM_SITE_INIT_WEIGHTS = 14,
    OHM_SITE_DATA_ORDER = 15,
    OHM_SITE_AUGMENT = 16,
    OHM_SITE_DROPOUT = 17,
    OHM_SITE_PLUGIN = 18,
    OHM_SITE_USER = 19,
    OHM_SITE_COUNT
} ohm_site;

/* One sequence of random words (physics.md section 5). */
typedef struct {
    uint32_t key[2]; /* seed, chip instance */
    uint32_t site;   /* ohm_site, below 256 */
    uint32_t where;  /* layer, tile, slice, sign and train or evaluate, packed by the caller */
    uint32_t step;   /* optimiser step; 0 for what is drawn once per chip */
} ohm_stream;

/* out = Philox4x32-10 of one counter. */
OHM_INLINE void ohm_philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)OHM_PHILOX_M0 * c0;
        uint64_t p1 = (uint64_t)OHM_PHILOX_M1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += OHM_PHILOX_W0;
        k1 += OHM_PHILOX_W1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Second counter word: the site, and the block index above 2^32 (blocks stay below 2^56). */
OHM_INLINE uint32_t ohm_stream_site_word(const ohm_stream *s, uint64_t block)
{
    return s->site | (uint32_t)(block >> 32) << 8;
}

/* The four words of a 16-byte block. */
OHM_INLINE void ohm_stream_block(uint32_t out[4], const ohm_stream *s, uint64_t block)
{
    const uint32_t counter[4] = {(uint32_t)block, ohm_stream_site_word(s, block), s->where,
                                 s->step};
    ohm_philox4x32(out, counter, s->key);
}

/* Word `element`: number element & 3 of block element >> 2. */
OHM_INLINE uint32_t ohm_stream_word(const ohm_stream *s, uint64_t element)
{
    uint32_t block[4];
    ohm_stream_block(block, s, element >> 2);
    return block[element & 3];
}

/* Uniform in the open interval (0, 1): (word + 1/2) / 2^32, exact in double. */
OHM_INLINE double ohm_uniform_of(uint32_t word)
{
    return ((double)word + 0.5) * (1.0 / 4294967296.0);
}
OHM_INLINE double ohm_stream_uniform(const ohm_stream *s, uint64_t element)
{
    return ohm_uniform_of(ohm_stream_word(s, element));
}

#endif
