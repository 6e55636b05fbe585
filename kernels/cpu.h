/* Instruction sets of the CPU backend.
 *
 * A file named *_simd.c is compiled once per instruction set (Makefile: base, avx2, avx512) with
 * OHM_ISA set to that word; OHM_SIMD(name) then gives name_base, name_avx2 or name_avx512. A plain
 * *_cpu.c file beside it picks one at run time with ohm_cpu_isa(). */
#ifndef OHM_KERNELS_CPU_H
#define OHM_KERNELS_CPU_H

typedef enum { OHM_ISA_BASE, OHM_ISA_AVX2, OHM_ISA_AVX512, OHM_ISA_COUNT } ohm_isa;

#ifndef OHM_ISA
#define OHM_ISA base
#endif
#define OHM_PASTE2(a, b) a##_##b
#define OHM_PASTE(a, b) OHM_PASTE2(a, b)
#define OHM_SIMD(name) OHM_PASTE(name, OHM_ISA)

/* The best instruction set that this build holds and this machine runs. */
ohm_isa ohm_cpu_isa(void);
const char *ohm_isa_name(ohm_isa isa);

#endif
