/* What the marches of irdrop_exact_cuda.cu and irdrop_adjoint_cuda.cu share. */
#ifndef OHM_KERNELS_IRDROP_CUDA_CUH
#define OHM_KERNELS_IRDROP_CUDA_CUH

#include "kernels/irdrop_circuit.h"
#include "kernels/platform_cuda.h"

enum {
    OHM_MARCH_PENDING =
        -1, /* status of a tile that the march in registers leaves to the other kernel */
    OHM_MARCH_MOST = 128 /* columns whose state the march holds in registers */
};

/* Tiles that the march in registers can take, unless they are steep. */
static inline bool ohm_march_fits(const ohm_circuit &c)
{
    return c.columns <= OHM_MARCH_MOST && c.top == 0.0 && c.far == 0.0;
}

static __device__ __forceinline__ size_t ohm_cell_cuda(const ohm_circuit &c, int r, int i)
{
    return c.mirrored ? static_cast<size_t>(c.columns - 1 - i) * c.rows + (c.rows - 1 - r)
                      : static_cast<size_t>(r) * c.columns + i;
}

/* A row seen from its source. */
struct ohm_march_line {
    double conductance; /* all bit lines grounded */
    float growth;       /* of a voltage that is followed from the source to the open end, bit lines grounded */
};

/* p[c] = d[c]·a[0]···a[c]: what 1 V on bit line c drives into the row's source. a: shares of a node's
 * voltage that the ladder hands on. From the open end, in double; p holds the products beyond c on the way. */
static inline __device__ ohm_march_line ohm_transfer_row(float *p, const float *g,
                                                         const ohm_circuit &c, int r)
{
    double y = g[ohm_cell_cuda(c, r, c.columns - 1)], beyond = 1.0;
    for (int i = c.columns - 1; i > 0; i--) {
        const double share = 1.0 / (1.0 + c.word * y);
        p[i] = static_cast<float>(beyond);
        beyond *= share;
        y = g[ohm_cell_cuda(c, r, i - 1)] + share * y;
    }
    p[0] = static_cast<float>(beyond);
    const double share = 1.0 / (1.0 + c.source * y), all = beyond * share;
    for (int i = 0; i < c.columns; i++)
        p[i] = static_cast<float>(g[ohm_cell_cuda(c, r, i)] * (all / p[i]));
    return {share * y, static_cast<float>(1.0 / all)};
}

/* Bound of the growth on bit line i, the far side of every cell at 0; NaN where a cell is no conductance. */
static inline __device__ float ohm_growth_of(const float *g, const ohm_circuit &c, int i)
{
    float k = 0.0f, u = 1.0f;
    for (int r = 0; r < c.rows; r++) {
        const float d = g[ohm_cell_cuda(c, r, i)];
        if (!(d >= 0.0f) || !isfinite(d))
            return NAN;
        k = fmaf(d, u, k);
        u = fmaf(static_cast<float>(r + 1 < c.rows ? c.bit : c.terminal), k, u);
    }
    return u;
}

#endif
