/* The closed form of IR drop (irdrop.h) on a device, over all tiles of a layer at once. */
#ifndef OHM_KERNELS_IRDROP_CLOSED_CUDA_H
#define OHM_KERNELS_IRDROP_CLOSED_CUDA_H

#include "kernels/program_cuda.h"

OHM_C_BEGIN

/* physical: as ohm_program_physical_cuda writes it, of places (NULL: all); becomes what the wires leave, as ohm_irdrop_closed does
 * with the rows of each tile that are used. In double but for what it reads and writes: within 2e-7 of a
 * cell. scratch: ohm_irdrop_closed_cuda_floats. One launch, two where word lines lose voltage. */
ohm_cuda_status ohm_irdrop_closed_cuda(float *physical, const ohm_geometry *g,
                                       const ohm_programming *p, const ohm_program_places *places,
                                       float *scratch, ohm_cuda_stream s);
size_t ohm_irdrop_closed_cuda_floats(const ohm_geometry *g, const ohm_programming *p,
                                     const ohm_program_places *places);

/* Its derivative: dg += (d g_eff / d g)^T dg_eff, both laid out as g is, which is used up. places and scratch
 * as above. Twice the launches. */
ohm_cuda_status ohm_irdrop_closed_adjoint_cuda(float *dg, const float *dg_eff, float *physical,
                                               const ohm_geometry *g, const ohm_programming *p,
                                               const ohm_program_places *places, float *scratch,
                                               ohm_cuda_stream s);

OHM_C_END

#endif
