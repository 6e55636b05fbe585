/* The gradient of exact IR drop on CUDA devices (irdrop_adjoint.h), float, many tiles of one shape at
 * once.
 *
 * Tiles of which one side has at most 128 lines, driven and sensed at one end, are marched in float, 32
 * right-hand sides of both fields to a block: the bit lines' currents in registers, their voltages in shared
 * memory (36 KiB at most), up to four blocks a tile. A march for how the fields start, an inverse of C lines
 * (65 KiB), a march that follows them: 46·R·C² + 4·C³ flop. Steep tiles, and every other shape and wiring up
 * to 1024 on the shorter side, are marched in double, in segments, one block of threads a tile; segments past
 * the first are crossed up to log2 times as often, past the eighth more. No field is stored in either:
 * memory beside a tile is 5 copies of it and 3 to 26 C², and of the tiles in work at once no more than
 * 128 MiB in float, then 256 MiB in double, unless one takes more. */
#ifndef OHM_KERNELS_IRDROP_ADJOINT_CUDA_H
#define OHM_KERNELS_IRDROP_ADJOINT_CUDA_H

#include "kernels/irdrop_exact_cuda.h"

OHM_C_BEGIN

/* dg += (d g_eff / d g)^T d_geff. dg, d_geff, g: [tiles][rows][columns], none may overlap dg. status
 * [tiles]: ohm_solve_status, and where it is not OK the tile's dg is as it was. borders [tiles]: between
 * segments, or NULL. scratch: ohm_irdrop_adjoint_cuda_bytes. All on the device; queued on the stream. Sizes
 * and wires as ohm_irdrop_exact_cuda takes them; error under 1e-5 of a tile's largest entry. */
ohm_cuda_status ohm_irdrop_adjoint_cuda(float *dg, const float *d_geff, const float *g, int *status,
                                        int *borders, const ohm_crosspoint *tile, int tiles,
                                        void *scratch, ohm_cuda_stream s);
size_t ohm_irdrop_adjoint_cuda_bytes(const ohm_crosspoint *tile, int tiles);

OHM_C_END

#endif
