/* Programmed tiles as the tensor cores read them: half precision, rounded once after programming, on
 * both devices alike (half_math.h), so that packing loses nothing. */
#ifndef OHM_KERNELS_MVM_HALVES_CUDA_H
#define OHM_KERNELS_MVM_HALVES_CUDA_H

#include "kernels/mvm_cuda.h"

OHM_C_BEGIN

enum {
    OHM_HALF_ROWS = 64,     /* inputs of a chunk */
    OHM_HALF_COLUMNS = 128, /* packed columns are padded to a multiple */
};

/* Bits of halves, [slices][arrays][tiles][rows][columns], rows and columns padded with zeros. Within a
 * chunk the rows stand in the order in which mma meets them, see ohm_half_row. */
typedef struct {
    uint16_t *w; /* conductances, level units */
    uint16_t
        *variance; /* per-cell read variances times ohm_variance_scale; NULL where there are none */
} ohm_mvm_halves;

/* Padded rows of a tile, and columns. */
OHM_INLINE int ohm_half_rows(const ohm_geometry *g)
{
    return (ohm_tile_rows_most(g) + OHM_HALF_ROWS - 1) / OHM_HALF_ROWS * OHM_HALF_ROWS;
}
OHM_INLINE int ohm_half_columns(const ohm_geometry *g)
{
    return (ohm_packed_columns(g) + OHM_HALF_COLUMNS - 1) / OHM_HALF_COLUMNS * OHM_HALF_COLUMNS;
}
/* Elements of one array of ohm_mvm_halves. */
OHM_INLINE size_t ohm_halves_count(const ohm_geometry *g)
{
    return (size_t)g->slices * ohm_arrays(g) * g->tiles * ohm_half_rows(g) * ohm_half_columns(g);
}
/* Input of a chunk at place p, p = 16·step + slot. A lane (t of four) holds 16 successive codes of a
 * row of x, a word of four per step; mma wants its slots 2t, 2t+1 and 2t+8, 2t+9. */
OHM_INLINE int ohm_half_row(int p)
{
    int step = p / 16, slot = p % 16;
    return slot % 8 / 2 * 16 + 4 * step + slot / 8 * 2 + slot % 2;
}
/* A power of two that brings variances (level^2, at most the square of the largest level) to where
 * halves are dense. */
OHM_INLINE float ohm_variance_scale(const ohm_geometry *g)
{
    float scale = 32768.0f;
    for (int i = 0; i < g->cell_bits; i++)
        scale *= 0.25f;
    return scale;
}

/* Fills h, arrays of ohm_halves_count, from w. */
ohm_cuda_status ohm_mvm_pack_cuda(const ohm_mvm_halves *h, const ohm_geometry *g,
                                  const ohm_tiles *w, ohm_cuda_stream s);

/* The tensor-core kernel. What it does not know it refuses: OHM_CUDA_ARGUMENT. */
ohm_cuda_status ohm_mvm_mma_cuda(const ohm_mvm_output *y, const ohm_mvm_input *x,
                                 const ohm_mvm_halves *h, ohm_cuda_stream s);
/* Whole digits from the DAC, an ADC without static errors, fast normals, no noise of a reference
 * column, and codes whose sum over the row tiles stays below 2^15. */
int ohm_mvm_mma_knows(const ohm_geometry *g, const ohm_read *r);
/* Dynamic shared memory of a block. */
size_t ohm_mvm_mma_shared_bytes(const ohm_geometry *g, const ohm_read *r);

typedef enum { OHM_MVM_PLAIN, OHM_MVM_MMA } ohm_mvm_kernel;

/* The kernel that ohm_mvm_cuda runs: tensor cores where halves are given (mvm.precision fp16), the
 * kernel knows the read and the device has the cores (8.0) and the shared memory; else the plain one. */
ohm_mvm_kernel ohm_mvm_choose(const ohm_mvm_input *x, const ohm_mvm_halves *h,
                              const ohm_cuda_device *device);
/* h: NULL in single precision. device: of the stream. */
ohm_cuda_status ohm_mvm_cuda(const ohm_mvm_output *y, const ohm_mvm_input *x,
                             const ohm_mvm_halves *h, const ohm_cuda_device *device,
                             ohm_cuda_stream s);

OHM_C_END

#endif
