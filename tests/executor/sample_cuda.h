/* Small kernels for tests of the executor itself; see sample_cuda.cu. Device pointers. */
#ifndef OHM_TESTS_SAMPLE_CUDA_H
#define OHM_TESTS_SAMPLE_CUDA_H

#include "kernels/runtime_cuda.h"

OHM_C_BEGIN

/* sum [blocks] of x [blocks][64]. */
ohm_cuda_status ohm_sample_sum(int *sum, const int *x, int blocks, ohm_cuda_stream s);
/* d [16][8] = a [16][32] · b [32][8] + c. */
ohm_cuda_status ohm_sample_product_s8(int *d, const signed char *a, const signed char *b,
                                      const int *c, ohm_cuda_stream s);
/* d [16][8] = a [16][16] · b [16][8] + c, a and b bits of halves. */
ohm_cuda_status ohm_sample_product_f16(float *d, const unsigned short *a, const unsigned short *b,
                                       const float *c, ohm_cuda_stream s);
ohm_cuda_status ohm_sample_product_tf32(float *d, const float *a, const float *b, const float *c,
                                        ohm_cuda_stream s);
/* 16 x 16 products, b column-major. */
ohm_cuda_status ohm_sample_wmma(int *d8, float *d16, const signed char *a8, const signed char *b8,
                                const unsigned short *a16, const unsigned short *b16,
                                ohm_cuda_stream s);
/* out [32][12] of x [32]; out [16] (zeroed) of x [64]: see the kernels. */
ohm_cuda_status ohm_sample_lanes(int *out, const int *x, ohm_cuda_stream s);
ohm_cuda_status ohm_sample_votes(int *out, const int *x, int count, ohm_cuda_stream s);

/* What a device forbids; on the executor alone, refused where kernels run on a device. */
typedef enum {
    OHM_FAULT_ENDED_THREAD,   /* a thread ends, the others wait at a barrier */
    OHM_FAULT_TWO_BARRIERS,   /* halves of the block at different barriers */
    OHM_FAULT_HALF_WARP,      /* a full mask, half of the lanes come */
    OHM_FAULT_FOREIGN_LANE,   /* a shuffle from a lane outside the mask */
    OHM_FAULT_BEHIND_SHARED,  /* writes behind a shared array */
    OHM_FAULT_BEHIND_GLOBAL,  /* writes behind device memory */
    OHM_FAULT_UNWAITED_COPY,  /* ends with copies under way */
    OHM_FAULT_SHARED_TOO_BIG, /* 49 KiB of static shared memory */
    OHM_FAULTS
} ohm_fault;
/* x: device memory of 64 ints. */
ohm_cuda_status ohm_fault_launch(ohm_fault fault, int *x, ohm_cuda_stream s);
/* Launches that the runtime refuses: a part of a warp, too many threads, too much shared memory. */
ohm_cuda_status ohm_fault_shape(int threads, size_t shared_bytes, int *x, ohm_cuda_stream s);

OHM_C_END

#endif
