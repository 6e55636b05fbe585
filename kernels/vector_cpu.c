#include "kernels/vector.h"

extern const ohm_vector_kernels ohm_vector_kernels_base;
#if defined(__x86_64__)
extern const ohm_vector_kernels ohm_vector_kernels_avx2;
extern const ohm_vector_kernels ohm_vector_kernels_avx512;
#endif

const ohm_vector_kernels *ohm_vector_kernels_of(ohm_isa isa)
{
    switch (isa) {
    case OHM_ISA_BASE:
        return &ohm_vector_kernels_base;
#if defined(__x86_64__)
    case OHM_ISA_AVX2:
        return &ohm_vector_kernels_avx2;
    case OHM_ISA_AVX512:
        return &ohm_vector_kernels_avx512;
#endif
    default:
        return NULL;
    }
}

const ohm_vector_kernels *ohm_vector(void)
{
    return ohm_vector_kernels_of(ohm_cpu_isa());
}
