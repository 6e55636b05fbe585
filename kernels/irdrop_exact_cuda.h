/* Exact IR drop on CUDA devices (irdrop_exact.h), float, many tiles of one shape at once.
 *
 * Tiles of which one side has at most 128 lines, driven and sensed at one end, are marched with a
 * thread per right-hand side, the state in registers and shared memory (form v2 of the march:
 * 8.5 instructions per cell and right-hand side). Steep ones, and every other shape and wiring up to
 * 1024 on the shorter side, take the renormalised march of the CPU, one block of threads per tile. */
#ifndef OHM_KERNELS_IRDROP_EXACT_CUDA_H
#define OHM_KERNELS_IRDROP_EXACT_CUDA_H

#include <stdint.h>

#include "kernels/irdrop_exact.h"
#include "kernels/runtime_cuda.h"

OHM_C_BEGIN

enum { OHM_IRDROP_CUDA_MOST = 1024 }; /* lines of the shorter side */

/* g, g_eff: [tiles][rows][columns]; g_eff may be g. status [tiles]: ohm_solve_status, and where it is
 * not OK the tile's g_eff is undefined. renormalised [tiles]: how often each march was, or NULL.
 * scratch: ohm_irdrop_exact_cuda_bytes. All on the device; queued on the stream. */
ohm_cuda_status ohm_irdrop_exact_cuda(float *g_eff, const float *g, int *status, int *renormalised,
                                      const ohm_crosspoint *tile, int tiles, void *scratch,
                                      ohm_cuda_stream s);
/* Adds bits to *fault where a tile has no solution. */
ohm_cuda_status ohm_irdrop_unsolved_cuda(uint32_t *fault, uint32_t bits, const int *status,
                                         int tiles, ohm_cuda_stream s);
size_t ohm_irdrop_exact_cuda_bytes(const ohm_crosspoint *tile, int tiles);

OHM_C_END

#endif
