#include "kernels/cpu.h"

ohm_isa ohm_cpu_isa(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return OHM_ISA_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return OHM_ISA_AVX2;
#endif
    return OHM_ISA_BASE;
}

const char *ohm_isa_name(ohm_isa isa)
{
    static const char *const names[OHM_ISA_COUNT] = {"base", "avx2", "avx512"};
    return (unsigned)isa < OHM_ISA_COUNT ? names[isa] : "?";
}
