/* What lets one source be host C and CUDA C++: functions marked OHM_INLINE are `static inline` in C
 * and `__host__ __device__` under nvcc, with the same bits (-ffp-contract=off, --fmad=false); what
 * stands between OHM_C_BEGIN and OHM_C_END has C names in both. */
#ifndef OHM_KERNELS_PORTABLE_H
#define OHM_KERNELS_PORTABLE_H

#ifdef __CUDACC__
#define OHM_INLINE static inline __host__ __device__
#else
#define OHM_INLINE static inline
#endif

#ifdef __cplusplus
#define OHM_C_BEGIN extern "C" {
#define OHM_C_END }
#else
#define OHM_C_BEGIN
#define OHM_C_END
#endif

#endif
