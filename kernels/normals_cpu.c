/* Run-time choice of the instruction set; the work is in normals_simd.c. */
#include "kernels/normals.h"

extern const ohm_normals_kernels ohm_normals_kernels_base;
#if defined(__x86_64__)
extern const ohm_normals_kernels ohm_normals_kernels_avx2;
extern const ohm_normals_kernels ohm_normals_kernels_avx512;
#endif

const ohm_normals_kernels *ohm_normals_kernels_of(ohm_isa isa)
{
    switch (isa) {
    case OHM_ISA_BASE:
        return &ohm_normals_kernels_base;
#if defined(__x86_64__)
    case OHM_ISA_AVX2:
        return &ohm_normals_kernels_avx2;
    case OHM_ISA_AVX512:
        return &ohm_normals_kernels_avx512;
#endif
    default:
        return NULL;
    }
}

void ohm_normals_exact(float *z, uint64_t first, size_t count, const ohm_stream *s)
{
    ohm_normals_kernels_of(ohm_cpu_isa())->exact(z, first, count, s);
}

void ohm_normals_fast(float *z, size_t ldz, uint64_t first_sample, size_t samples,
                      uint64_t transform, uint64_t transforms_per_sample, const ohm_stream *s)
{
    ohm_normals_kernels_of(ohm_cpu_isa())
        ->fast(z, ldz, first_sample, samples, transform, transforms_per_sample, s);
}

void ohm_normals_exact_block(float *z, size_t ldz, uint64_t first_sample, size_t samples,
                             uint64_t transform, uint64_t transforms_per_sample,
                             const ohm_stream *s)
{
    const ohm_normals_kernels *kernels = ohm_normals_kernels_of(ohm_cpu_isa());
    for (size_t i = 0; i < samples; i++) {
        uint64_t block = (first_sample + i) * transforms_per_sample + transform;
        kernels->exact(z + i * ldz, block * OHM_NORMALS_BLOCK, OHM_NORMALS_BLOCK, s);
    }
}
