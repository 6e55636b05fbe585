/* Programming a crossbar: levels -> conductances -> programming noise -> retention -> temperature
 * -> stuck-at faults -> IR drop (physics.md section 3), all in level units (1 = G_step). What a read
 * then multiplies by may be rounded to half precision (`halves`).
 *
 * ohm_program_ref  one cell at a time with libm, real-valued levels allowed: the definition
 * ohm_program_cpu  blocks of cells, SIMD, straight into the packed tiles of mvm.h */
#ifndef OHM_KERNELS_PROGRAM_H
#define OHM_KERNELS_PROGRAM_H

#include "kernels/irdrop.h"
#include "kernels/irdrop_exact.h"
#include "kernels/mvm.h"

/* What a device does at one target level; d_ = derivative by the level. */
typedef struct {
    double mean, sigma;       /* after programming; lognormal: sigma of the exponent */
    double nu, nu_sigma;      /* drift exponent: |nu + nu_sigma·z| */
    double d_mean, d_sigma, d_nu, d_nu_sigma;
} ohm_level;

typedef enum { OHM_KEEP_NONE, OHM_KEEP_POWER, OHM_KEEP_LOGARITHMIC } ohm_keep;
typedef enum { OHM_WIRES_NONE, OHM_WIRES_CLOSED, OHM_WIRES_EXACT } ohm_wire_model;
typedef enum { OHM_FLICKER_NONE, OHM_FLICKER_NANDAKUMAR, OHM_FLICKER_HERMES } ohm_flicker;

typedef struct {
    ohm_level level[256];     /* of the integer levels 0 .. max_level */
    void (*law)(ohm_level *at, double level, const void *context); /* the same for real levels (reference) */
    const void *law_context;
    double g_min, g_max;      /* level units: pedestal, pedestal + max_level */
    int noise, lognormal;
    double tolerance;         /* write-verify: |z| truncated here; inf = not */
    int keep;                 /* ohm_keep */
    double log_ratio;         /* power: ln((t + t0)/t0) */
    double keep_scale, keep_shift, keep_spread, floor; /* logarithmic: max(scale·G - shift + spread·z, floor) */
    int nu_random;
    int flicker;              /* ohm_flicker: accumulated 1/f noise */
    double flicker_scale;     /* sqrt(ln((t + t0 + t_read)/(2 t_read))) */
    double activation, activation_sigma, inverse_kelvin; /* factor exp(-Ea·inverse_kelvin), inverse_kelvin = (1/T - 1/T0)/k */
    int thermal;
    double stuck_off, stuck_on, stuck_random;
    ohm_stream per_program, per_chip, per_time; /* site is set per draw */
    int ir;                   /* ohm_wire_model */
    int ir_gradient;          /* ohm_wire_model whose derivative mode full takes */
    int interleaved;
    ohm_wires wires;
    int physical_rows, physical_columns; /* of a tile, for the wires */
    int halves;               /* last of all, what tiles->w and variance hold is rounded to half precision, the variance at ohm_variance_scale */
} ohm_programming;

/* The step of per_time: of a programming's optimiser step, and of the time since then as the bits of a
 * float. With the result of step 0 in place of the time it gives that of `step`. */
OHM_INLINE uint32_t ohm_programming_time_step(uint32_t step, uint32_t time_bits)
{
    return (step * 2654435761u) ^ time_bits;
}

/* Variance of one cell's conductance per read, level^2. */
typedef enum { OHM_SPREAD_NONE, OHM_SPREAD_CONSTANT, OHM_SPREAD_PROPORTIONAL, OHM_SPREAD_POLYNOMIAL, OHM_SPREAD_TABLE, OHM_SPREAD_PCM,
               OHM_SPREAD_LOGARITHMIC } ohm_spread;
enum { OHM_SPREAD_COEFFICIENTS = 8, OHM_SPREAD_ROWS = 256 };
typedef struct {
    int model;
    double sigma, g_max, g_step_us; /* sigma: level units (constant), share (proportional, pcm), scale (logarithmic) */
    int count;                /* polynomial coefficients by ascending powers of G/g_max, level units; or table rows */
    double coefficient[OHM_SPREAD_COEFFICIENTS];
    double at[OHM_SPREAD_ROWS], value[OHM_SPREAD_ROWS];
} ohm_read_law;

/* Mode full: slice 0's cells and the gradients gathered for them, [signs][k][n]. */
typedef struct {
    float *g, *g_eff, *slope; /* before wires; after; d g / d level */
    float *g_ref, *g_ref_eff; /* reference cells before and after wires: [k][column_tiles], offset weights */
    float *dref, *dref_variance; /* d loss / d (g_ref_eff), d loss / d (their variance) */
    float *dg, *dvariance;    /* d loss / d (g_eff), d loss / d (read variance of the cell as it acts) */
} ohm_cell_gradient;

/* g[count] of consecutive elements; slope (may be NULL) = d g / d level. */
void ohm_program_cells(double *g, double *slope, const ohm_programming *p, const uint8_t *level, uint64_t first, int count);
/* One cell: level is real, element addresses its draws. */
double ohm_program_cell_ref(const ohm_programming *p, double level, uint64_t element, double *slope);

/* A cell stuck at a random level: all levels equally likely. uniform in (0,1). */
OHM_INLINE double ohm_stuck_level(const ohm_programming *p, double uniform)
{
    return p->g_min + floor(uniform * (rint(p->g_max - p->g_min) + 1.0));
}

/* Element index of a cell, and of a reference cell of offset weights. */
OHM_INLINE uint64_t ohm_cell_element(const ohm_geometry *g, int slice, int sign, int k, int n)
{
    return (((uint64_t)slice * (g->differential ? 2 : 1) + sign) * g->k + k) * g->n + n;
}
OHM_INLINE uint64_t ohm_ref_element(const ohm_geometry *g, int slice, int k, int column_tile)
{
    return (uint64_t)g->slices * (g->differential ? 2 : 1) * g->k * g->n + ((uint64_t)slice * g->k + k) * g->column_tiles + column_tile;
}

/* w_split [slices][signs][k][n] levels; ref_level[slices]: level of the reference column (offset
 * weights). Fills tiles->w, variance, johnson, ref, ref_variance, ref_johnson where not NULL, and
 * gradient (may be NULL). Fails only where the wires of a tile have no solution. johnson_scale: (digit·level)^2 per level of a column's conductance. */
ohm_solve_status ohm_program_cpu(ohm_tiles *tiles, ohm_cell_gradient *gradient, const ohm_geometry *g, const ohm_programming *p,
                     const ohm_read_law *read, double johnson_scale, const uint8_t *w_split, const uint8_t *ref_level, void *scratch);
size_t ohm_program_scratch_bytes(const ohm_geometry *g, const ohm_programming *p);
/* level [slices][signs][k][n] real. Fills cells->g, variance, g_ref, variance_ref. With halves,
 * cells->g and variance are such that differences and sums on a bit line are those of the tiles. */
ohm_solve_status ohm_program_ref(ohm_crossbar *cells, const ohm_geometry *g, const ohm_programming *p, const ohm_read_law *read, const double *level,
                     const uint8_t *ref_level);
/* One kind of static error of a row of ADC columns: normals first, first + 1, .. of the site. */
typedef struct {
    float *out;
    size_t count;
    double mean, sigma;
    uint32_t site;
    uint64_t first;
} ohm_column_error;
/* Static errors of ADC columns: count exact normals times sigma (plus mean). */
void ohm_column_errors(float *out, size_t count, double mean, double sigma, const ohm_stream *stream, uint32_t site, uint64_t first);

#endif
