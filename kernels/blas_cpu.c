#include "kernels/blas.h"

#include <cblas.h>

const char *ohm_blas_config(void)
{
    return openblas_get_config();
}
