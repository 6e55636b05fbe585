/* The normals of normals.h on a device: the same bits. z and words are device memory; indices as in
 * normals.h. Nothing waits; statuses are those of the launch. */
#ifndef OHM_KERNELS_NORMALS_CUDA_H
#define OHM_KERNELS_NORMALS_CUDA_H

#include "kernels/normals.h"
#include "kernels/runtime_cuda.h"

OHM_C_BEGIN

/* words [4·blocks]: blocks first_block.. of the stream; what generators of normals are measured by. */
ohm_cuda_status ohm_words_cuda(uint32_t *words, uint64_t first_block, size_t blocks,
                               const ohm_stream *stream, ohm_cuda_stream s);
ohm_cuda_status ohm_normals_exact_cuda(float *z, uint64_t first, size_t count,
                                       const ohm_stream *stream, ohm_cuda_stream s);
/* The transform on tensor cores, and in shared memory as its definition says. */
ohm_cuda_status ohm_normals_fast_cuda(float *z, size_t ldz, uint64_t first_sample, size_t samples,
                                      uint64_t transform, uint64_t transforms_per_sample,
                                      const ohm_stream *stream, ohm_cuda_stream s);
ohm_cuda_status ohm_normals_fast_simple_cuda(float *z, size_t ldz, uint64_t first_sample,
                                             size_t samples, uint64_t transform,
                                             uint64_t transforms_per_sample,
                                             const ohm_stream *stream, ohm_cuda_stream s);

OHM_C_END

#endif
