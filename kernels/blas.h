/* Which BLAS is linked: its bits are part of every result. */
#ifndef OHM_KERNELS_BLAS_H
#define OHM_KERNELS_BLAS_H

/* Version, build options and the kernel set that it chose for this CPU, in one line. */
const char *ohm_blas_config(void);

#endif
