/* Programmed tiles as the tensor cores read them: half precision, rounded by programming (`halves` of
 * ohm_programming) on both devices alike, so that packing loses nothing. */
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
    int blocked;   /* in the order of the Hopper kernel instead, see ohm_halves_index */
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
/* Where the cell at `place` of a tile (chunk and place in it) and packed column c lies. blocked: each
 * chunk of 64 inputs x 128 columns is 16 KB in one piece, a line of 64 inputs per column, the eight
 * pieces of 16 bytes of a line exchanged as wgmma's 128-byte swizzle has them. */
OHM_INLINE size_t ohm_halves_index(const ohm_geometry *g, int blocked, size_t array, int tile,
                                   int place, int c)
{
    size_t rows = (size_t)ohm_half_rows(g), columns = (size_t)ohm_half_columns(g),
           at = array * (size_t)g->tiles + (size_t)tile;
    if (!blocked)
        return (at * rows + (size_t)place) * columns + (size_t)c;
    size_t block = (at * (rows / OHM_HALF_ROWS) + (size_t)(place / OHM_HALF_ROWS)) *
                       (columns / OHM_HALF_COLUMNS) +
                   (size_t)(c / OHM_HALF_COLUMNS);
    int line = c % OHM_HALF_COLUMNS, p = place % OHM_HALF_ROWS;
    return (block * OHM_HALF_COLUMNS + (size_t)line) * OHM_HALF_ROWS +
           (size_t)(((p / 8) ^ (line % 8)) * 8 + p % 8);
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

/* The Hopper kernel, for halves that are blocked: what the other knows, without per-cell variances and
 * with rows of x and tiles that begin at multiples of 16 bytes. It has not run anywhere yet. */
ohm_cuda_status ohm_mvm_hopper_cuda(const ohm_mvm_output *y, const ohm_mvm_input *x,
                                    const ohm_mvm_halves *h, ohm_cuda_stream s);
/* To find out whether it runs on this device: what would be waited for without end makes outputs NaN
 * within a second, where the kernel as used fails after some ten; refused where its code or its
 * registers are not those that it needs. */
ohm_cuda_status ohm_mvm_hopper_checked_cuda(const ohm_mvm_output *y, const ohm_mvm_input *x,
                                            const ohm_mvm_halves *h, ohm_cuda_stream s);
int ohm_mvm_hopper_knows(const ohm_mvm_input *x);
size_t ohm_mvm_hopper_shared_bytes(const ohm_geometry *g);

typedef enum { OHM_MVM_PLAIN, OHM_MVM_MMA, OHM_MVM_HOPPER } ohm_mvm_kernel;

/* The kernel for a read in half precision on a device: the Hopper one on 9.0, else tensor cores from 8.0
 * on, where they know the read, have the shared memory and are not among device->distrusted; else the
 * plain one. Says which order of halves to pack. */
ohm_mvm_kernel ohm_mvm_choose(const ohm_mvm_input *x, const ohm_cuda_device *device);
/* h: NULL in single precision, which the plain kernel alone has; it also reads where the halves are not
 * in the order of the kernel chosen. device: of the stream. */
ohm_cuda_status ohm_mvm_cuda(const ohm_mvm_output *y, const ohm_mvm_input *x,
                             const ohm_mvm_halves *h, const ohm_cuda_device *device,
                             ohm_cuda_stream s);
/* What ohm_mvm_cuda runs. */
ohm_mvm_kernel ohm_mvm_runs(const ohm_mvm_input *x, const ohm_mvm_halves *h,
                            const ohm_cuda_device *device);

OHM_C_END

#endif
