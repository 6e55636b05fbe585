/* Programming on a device: program.h's pipeline from levels to packed tiles, in one pass. Conductances,
 * variances and slopes have the bits of ohm_program_cpu, except under a write-verify tolerance (erfc of
 * another library: one float step of the draw); sums of conductances (johnson) are added in another
 * order and agree to 1e-6. */
#ifndef OHM_KERNELS_PROGRAM_CUDA_H
#define OHM_KERNELS_PROGRAM_CUDA_H

#include "kernels/program.h"
#include "kernels/runtime_cuda.h"

OHM_C_BEGIN

/* What ohm_program_cpu takes, with device memory behind the pointers of tiles and gradient and behind
 * w_split; g, p, read and ref_level [slices] are host memory, read at the launch. gradient may be NULL.
 *
 * step, where not NULL, is device memory: the optimiser step of the programming and 1/f draws, so that a
 * captured graph serves every step; p must then be that of step 0 (ohm_programming_time_step).
 *
 * Wires: solved = NULL where p->ir is none. Else ohm_program_physical_cuda writes the tiles as the
 * wires see them, a solver replaces them in place, and this call takes them as solved; for some places
 * after the other, so that not all tiles need exist at once. places NULL: all of them. */
typedef struct {
    int first, count; /* in the order of slices, row tiles, column tiles */
} ohm_program_places;
ohm_cuda_status ohm_program_cuda(const ohm_tiles *tiles, const ohm_cell_gradient *gradient,
                                 const ohm_geometry *g, const ohm_programming *p,
                                 const ohm_read_law *read, double johnson_scale,
                                 const uint8_t *w_split, const uint8_t *ref_level,
                                 const float *solved, const ohm_program_places *places,
                                 const uint32_t *step, ohm_cuda_stream s);

/* Fills errors[count] (host memory with device arrays in it; at most OHM_COLUMN_ERRORS_MOST), with the bits
 * of ohm_column_errors, in one launch. */
enum { OHM_COLUMN_ERRORS_MOST = 6 };
ohm_cuda_status ohm_column_errors_cuda(const ohm_column_error *errors, int count,
                                       const ohm_stream *stream, ohm_cuda_stream s);

/* physical [places][ohm_physical_arrays(g, p)][physical_rows][physical_columns]: two arrays of a pair where
 * they lie apart. Interleaved pairs alternate columns, a reference
 * column is the last; unused cells are at G_min. */
ohm_cuda_status ohm_program_physical_cuda(float *physical, const ohm_geometry *g,
                                          const ohm_programming *p, const uint8_t *w_split,
                                          const uint8_t *ref_level,
                                          const ohm_program_places *places, const uint32_t *step,
                                          ohm_cuda_stream s);

/* Arrays of a pair that lie apart. */
OHM_INLINE int ohm_physical_arrays(const ohm_geometry *g, const ohm_programming *p)
{
    return g->differential && !p->interleaved ? 2 : 1;
}
OHM_INLINE ohm_program_places ohm_places_of(const ohm_geometry *g, const ohm_program_places *places)
{
    ohm_program_places all;
    all.first = 0;
    all.count = g->slices * g->tiles * g->column_tiles;
    return places ? *places : all;
}
/* Physical tiles of those places. */
OHM_INLINE size_t ohm_physical_tiles(const ohm_geometry *g, const ohm_programming *p,
                                     const ohm_program_places *places)
{
    return (size_t)ohm_places_of(g, places).count * ohm_physical_arrays(g, p);
}
/* Index of cell (row r, column c of the column tile; c = -1: the reference) of one array, among all places. */
OHM_INLINE size_t ohm_physical_index(const ohm_geometry *g, const ohm_programming *p, int slice,
                                     int t, int column_tile, int sign, int r, int c)
{
    int arrays = ohm_physical_arrays(g, p), pair = g->differential && p->interleaved;
    size_t tile = (((size_t)slice * g->tiles + t) * g->column_tiles + column_tile) * arrays +
                  (arrays == 2 ? sign : 0);
    int column = c < 0 ? p->physical_columns - 1 : pair ? 2 * c + sign : c;
    return (tile * p->physical_rows + r) * p->physical_columns + column;
}

OHM_C_END

#endif
