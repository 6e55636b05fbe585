/* Programmed tiles to halves in the order in which a tensor-core kernel reads them. */
#include "kernels/half_math.h"
#include "kernels/mvm_halves_cuda.h"
#include "kernels/platform_cuda.h"

static __global__ void mvm_pack(const __grid_constant__ ohm_geometry g, int blocked, uint16_t *to,
                                const float *from, float scale)
{
    const int rows = ohm_half_rows(&g), columns = ohm_half_columns(&g),
              packed = ohm_packed_columns(&g);
    const size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= ohm_halves_count(&g))
        return;
    const int c = static_cast<int>(i % columns), place = static_cast<int>(i / columns % rows),
              tile = static_cast<int>(i / columns / rows % g.tiles);
    const size_t array = i / columns / rows / g.tiles;
    const int row = place / OHM_HALF_ROWS * OHM_HALF_ROWS + ohm_half_row(place % OHM_HALF_ROWS);
    const bool inside = c < packed && row < ohm_tile_begin(&g, tile + 1) - ohm_tile_begin(&g, tile);
    to[ohm_halves_index(&g, blocked, array, tile, place, c)] =
        inside
            ? ohm_half_bits(scale * from[array * g.k * packed + ohm_packed_index(&g, tile, row, c)])
            : 0;
}

extern "C" ohm_cuda_status ohm_mvm_pack_cuda(const ohm_mvm_halves *h, const ohm_geometry *g,
                                             const ohm_tiles *w, ohm_cuda_stream s)
{
    const unsigned blocks = static_cast<unsigned>((ohm_halves_count(g) + 255) / 256);
    ohm_cuda_status status =
        OHM_LAUNCH(mvm_pack, blocks, 256, 0, s, *g, h->blocked, h->w, w->w, 1.0f);
    if (status == OHM_CUDA_OK && h->variance && w->variance)
        status = OHM_LAUNCH(mvm_pack, blocks, 256, 0, s, *g, h->blocked, h->variance, w->variance,
                            ohm_variance_scale(g));
    return status;
}
