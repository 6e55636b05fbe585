/* Standard normal variates addressed by counter (physics.md section 5): the value of an element is
 * a function of the stream and its index alone. Two kinds, the same bits on every instruction set:
 *
 *   exact  Box-Muller from full 32-bit words, own fused-multiply-add polynomials (error below
 *          3e-7 of the radius), |z| up to 6.8. For what is drawn once per programming or per chip.
 *   fast   128-point Walsh-Hadamard transforms of Philox bytes, |z| up to 25.9. For what is drawn
 *          per conversion. Outputs of one transform share a residue mod 4 before scaling: never use
 *          their low bits, and keep sigma below 100 times the step they are compared with.
 *
 * No function here allocates, fails or opens an OpenMP region; callers own the threads. */
#ifndef OHM_KERNELS_NORMALS_H
#define OHM_KERNELS_NORMALS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu.h"
#include "kernels/philox.h"

enum { OHM_NORMALS_BLOCK = 128 }; /* outputs of one transform */

/* Exact normals first .. first + count - 1 of the stream. Element e is output e & 3 of Philox block
 * e >> 2: words (w0, w1) give (cos, sin), words (w2, w3) the next two. z: [count]. */
void ohm_normals_exact(float *z, uint64_t first, size_t count, const ohm_stream *s);

/* Fast normals of transform number `transform` of `samples` samples from first_sample on:
 * z[i * ldz + j], j < 128, is output j for sample first_sample + i, made from the Philox blocks
 * ((first_sample + i) * transforms_per_sample + transform) * 8 + 0..7. ldz >= 128. */
void ohm_normals_fast(float *z, size_t ldz, uint64_t first_sample, size_t samples,
                      uint64_t transform, uint64_t transforms_per_sample, const ohm_stream *s);

/* Exact normals under the indexing of ohm_normals_fast: z[i * ldz + j] is element
 * ((first_sample + i) * transforms_per_sample + transform) * 128 + j of ohm_normals_exact. */
void ohm_normals_exact_block(float *z, size_t ldz, uint64_t first_sample, size_t samples,
                             uint64_t transform, uint64_t transforms_per_sample,
                             const ohm_stream *s);

/* References: scalar, one element at a time. */
void ohm_normals_exact_ref(float *z, uint64_t first, size_t count, const ohm_stream *s);
void ohm_normals_fast_ref(float *z, size_t ldz, uint64_t first_sample, size_t samples,
                          uint64_t transform, uint64_t transforms_per_sample, const ohm_stream *s);
/* The integers underneath the fast normals, sign d_j applied, scale not: |v| <= 24192. */
void ohm_normals_fast_int(int16_t *v, size_t ldv, uint64_t first_sample, size_t samples,
                          uint64_t transform, uint64_t transforms_per_sample, const ohm_stream *s);

/* The same operations for one instruction set. NULL where this build does not hold it; the caller
 * checks ohm_cpu_isa() before it calls one. */
typedef struct {
    void (*exact)(float *z, uint64_t first, size_t count, const ohm_stream *s);
    void (*fast)(float *z, size_t ldz, uint64_t first_sample, size_t samples, uint64_t transform,
                 uint64_t transforms_per_sample, const ohm_stream *s);
} ohm_normals_kernels;
const ohm_normals_kernels *ohm_normals_kernels_of(ohm_isa isa);

#endif
