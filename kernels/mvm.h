/* The analog matrix-vector product: read a programmed crossbar (physics.md sections 1-3, step 7).
 *
 * For every row of x, phase, plane, slice, array and row tile:
 *   digits -> drive -> bit-line currents -> + read noise -> ADC -> shift-and-add
 * then drift compensation, encoding correction, one float sum per output. Arithmetic is in
 * digit·level units: a current of 1 is one DAC step across one conductance step.
 *
 * ohm_mvm_ref  scalar double on separate cells: the definition, and form `per_cell`
 * ohm_mvm_cpu  packed float tiles, SIMD, OpenMP over row blocks */
#ifndef OHM_KERNELS_MVM_H
#define OHM_KERNELS_MVM_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/irdrop_network.h"
#include "kernels/philox.h"
#include "kernels/quantise.h"


/* How a layer lies on tiles, and how its codes are cut. Shapes only. */
typedef struct {
    int k, n;               /* inputs, outputs */
    int drive;              /* ohm_drive */
    int planes, slices;     /* P, S: least significant first */
    int phases;             /* 2 for two_phase, else 1 */
    int dac_bits, cell_bits;/* d, c */
    int differential;       /* arrays of opposite sign; else offset weights with a reference column */
    int digital;            /* subtraction after the ADC instead of on the bit line */
    int tile_rows, tiles;   /* row tiles over k */
    int even;               /* balance the tiles instead of filling them */
    int tile_columns, column_tiles; /* outputs per tile, tiles over n; 1 tile where no column is shared */
    int max_digit, max_level;       /* 2^d - 1, 2^c - 1 */
    double pedestal;        /* p = G_min / G_step */
} ohm_geometry;

/* First row of tile t; t = tiles gives k. */
OHM_INLINE int ohm_tile_begin(const ohm_geometry *g, int t)
{
    if (t >= g->tiles)
        return g->k;
    return g->even ? (int)(((int64_t)g->k * t + g->tiles - 1) / g->tiles) : t * g->tile_rows;
}

/* Rows of the tallest tile. */
OHM_INLINE int ohm_tile_rows_most(const ohm_geometry *g)
{
    int most = 0;
    for (int t = 0; t < g->tiles; t++) {
        int rows = ohm_tile_begin(g, t + 1) - ohm_tile_begin(g, t);
        most = rows > most ? rows : most;
    }
    return most;
}

/* Arrays whose currents are read separately for one slice: 2 when both signs meet an ADC of their own. */
OHM_INLINE int ohm_arrays(const ohm_geometry *g)
{
    return g->differential && g->digital ? 2 : 1;
}

/* Columns of cells whose currents meet in one conversion: both of an analog pair. */
OHM_INLINE int ohm_columns_seen(const ohm_geometry *g)
{
    return g->differential && !g->digital ? 2 : 1;
}

/* Conductance (levels) of the unused cells of one column of tile t: at G_min, their rows grounded,
 * they carry no signal, but thermal noise. */
OHM_INLINE double ohm_idle_conductance(const ohm_geometry *g, int t)
{
    return g->pedestal * (g->tile_rows - (ohm_tile_begin(g, t + 1) - ohm_tile_begin(g, t)));
}

/* A unipolar ADC sees single-ended currents of non-negative drive. */
OHM_INLINE int ohm_bipolar(const ohm_geometry *g)
{
    return !g->digital || g->drive == OHM_DRIVE_SIGN_MAGNITUDE;
}

/* I(V) of a cell, normalised so that full drive gives G·V_read: the drive, in digits, of a linear
 * cell with the same current. slope may be NULL. */
OHM_INLINE double ohm_cell_drive(int iv, double coefficient, double v_read, double max_digit, double digit,
                      double *slope)
{
    double v = v_read * digit / max_digit, scale = max_digit / v_read, value = digit, d = 1.0;
    if (iv == OHM_CELL_CUBIC) {
        double norm = 1.0 - coefficient * v_read * v_read;
        value = scale * (v - coefficient * v * v * v) / norm;
        d = (1.0 - 3.0 * coefficient * v * v) / norm;
    } else if (iv == OHM_CELL_SINH && coefficient > 0.0) {
        double norm = sinh(coefficient * v_read);
        value = max_digit * sinh(coefficient * v) / norm;
        d = v_read * coefficient * cosh(coefficient * v) / norm;
    }
    if (slope)
        *slope = d;
    return value;
}

/* How a read behaves: constants of one layer at one moment. */
typedef struct {
    int iv;                  /* ohm_cell_iv of every cell */
    double iv_coefficient, v_read; /* 1/V^2 (cubic) or 1/V (sinh); V */
    double dac_inl;          /* peak of the DAC's cubic INL, digits */
    float dac_level[256];    /* what the DAC gives for a digit, in digits */
    float drive_level[256];  /* and what a cell makes of it */
    float dac_noise;         /* sigma, digits */
    float read_constant;     /* variance of one cell's conductance per read, level^2, where it is the same for all cells */
    int read_cells;          /* variances per cell are given instead */
    int read_noise;          /* any of: constant, per cell, Johnson */
    int adc_bits;            /* 0 = no conversion */
    float adc_noise;         /* sigma, LSB */
    float inl;               /* peak of the cubic INL, LSB */
    int static_errors;       /* gain, offset, INL or S-shape present: two noise draws instead of one */
    const float *lsb;        /* [planes][slices][n or 1] digit·level per code; unused without an ADC */
    int lsb_per_column;
    int exact_normals;       /* generator of the draws per conversion */
    int integer_sums;        /* noise-free integers: round the sums, which removes the pedestal's rounding */
    const double *correction;/* [n] encoding correction, NULL = none */
    const float *alpha;      /* [n] drift compensation, NULL = none */
    int correction_read;     /* the correction is a read of the drifted chip: compensated with the sums */
    int quiet;               /* no noise and no conversion: compensation reads */
    ohm_stream stream;       /* key, layer and step; the site is set per draw */
} ohm_read;

/* What the digital side makes of the raw sum of output n: rounding, drift compensation, encoding correction. */
OHM_INLINE double ohm_correct(const ohm_read *r, double sum, int n)
{
    double correction = r->correction ? r->correction[n] : 0.0, alpha = r->alpha ? r->alpha[n] : 1.0;
    sum = r->correction_read ? alpha * (sum - correction) : alpha * sum - correction;
    return r->integer_sums ? rint(sum) : sum;
}

/* The codes an ADC can return. */
OHM_INLINE float ohm_adc_high(const ohm_geometry *g, const ohm_read *r)
{
    return (float)((1 << (ohm_bipolar(g) ? r->adc_bits - 1 : r->adc_bits)) - 1);
}
OHM_INLINE float ohm_adc_low(const ohm_geometry *g, const ohm_read *r)
{
    return ohm_bipolar(g) ? -ohm_adc_high(g, r) : 0.0f;
}

/* Bounded INL shape: odd, zero at 0 and from ±1 on (an overload must not come back), peak 1. */
OHM_INLINE double ohm_inl_shape(double u)
{
    return fabs(u) < 1.0 ? 2.598076211353316 * u * (1.0 - u * u) : 0.0;
}
/* What a DAC with that INL (peak in digits) gives for a digit. */
OHM_INLINE double ohm_dac_drive(double inl, double max_digit, double digit)
{
    return digit + inl * ohm_inl_shape(digit / max_digit);
}
OHM_INLINE double ohm_inl_slope(double u)
{
    return fabs(u) < 1.0 ? 2.598076211353316 * (1.0 - 3.0 * u * u) : 0.0;
}

/* ---- Packed columns: each column tile padded to a multiple of 16, panels of 32 with one of 16 at the end. */
enum { OHM_PANEL = 32, OHM_HALF_PANEL = 16, OHM_ROW_BLOCK = 48, OHM_ROW_GROUP = 12 };

OHM_INLINE int ohm_tile_pitch(const ohm_geometry *g)
{
    int columns = g->column_tiles == 1 ? g->n : g->tile_columns;
    return (columns + OHM_HALF_PANEL - 1) / OHM_HALF_PANEL * OHM_HALF_PANEL;
}
/* Packed width of a layer. */
OHM_INLINE int ohm_packed_columns(const ohm_geometry *g)
{
    return g->column_tiles * ohm_tile_pitch(g);
}
/* Packed position of output column n. */
OHM_INLINE int ohm_packed_position(const ohm_geometry *g, int n)
{
    return g->column_tiles == 1 ? n : n / g->tile_columns * ohm_tile_pitch(g) + n % g->tile_columns;
}
/* Width of the panel that starts at packed position c (c a multiple of 32 within its column tile). */
OHM_INLINE int ohm_panel_width(const ohm_geometry *g, int c)
{
    int pitch = ohm_tile_pitch(g), left = pitch - c % pitch;
    return left >= OHM_PANEL ? OHM_PANEL : OHM_HALF_PANEL;
}
/* Index of cell (row r of tile t, packed column c) in one packed array of k·packed_columns floats. */
OHM_INLINE size_t ohm_packed_index(const ohm_geometry *g, int t, int r, int c)
{
    int begin = ohm_tile_begin(g, t), rows = ohm_tile_begin(g, t + 1) - begin;
    int pitch = ohm_tile_pitch(g), tile = c / pitch, within = c % pitch;
    int panel = within / OHM_PANEL * OHM_PANEL, width = ohm_panel_width(g, tile * pitch + panel);
    return (size_t)begin * ohm_packed_columns(g) + (size_t)(tile * pitch + panel) * rows + (size_t)r * width + (within - panel);
}

/* Draws of one sample: element = read·pitch + packed column, references after the columns; a pitch
 * divides 128 or is a multiple of it, so that panels never straddle two transforms. */
OHM_INLINE int ohm_draw_pitch(const ohm_geometry *g)
{
    int need = ohm_packed_columns(g) + (g->differential ? 0 : g->column_tiles), pitch = 16;
    if (need > 128)
        return (need + 127) / 128 * 128;
    while (pitch < need)
        pitch *= 2;
    return pitch;
}
OHM_INLINE uint64_t ohm_read_count(const ohm_geometry *g)
{
    return (uint64_t)g->phases * g->planes * g->slices * ohm_arrays(g) * g->tiles;
}
OHM_INLINE uint64_t ohm_read_index(const ohm_geometry *g, int phase, int plane, int slice, int array, int t)
{
    return ((((uint64_t)phase * g->planes + plane) * g->slices + slice) * ohm_arrays(g) + array) * g->tiles + t;
}
OHM_INLINE uint64_t ohm_draw_transforms(const ohm_geometry *g)
{
    return (ohm_read_count(g) * ohm_draw_pitch(g) + 127) / 128;
}
/* DAC draws of one sample: element = (phase·planes + plane)·dac_pitch + input. */
OHM_INLINE uint64_t ohm_dac_pitch(const ohm_geometry *g)
{
    return ((uint64_t)g->k + 127) / 128 * 128;
}

/* Programmed tiles as the fast kernel reads them. All float, level units; a single-ended array is
 * stored without its pedestal, an analog difference as the difference. NULL where an effect is off. */
typedef struct {
    float *w;          /* [slices][arrays] packed */
    float *variance;   /* [slices][arrays] packed: read variance, pairs summed */
    float *johnson;    /* [slices][arrays][tiles][packed_columns]: variance of a column's Johnson noise, (digit·level)^2 */
    float *gain, *offset, *s_shape; /* [slices][arrays][tiles][packed_columns]: relative, LSB, exponent n */
    float *ref;        /* [slices][column_tiles][k]: reference column without pedestal (offset weights) */
    float *ref_variance;
    float *ref_johnson, *ref_gain, *ref_offset, *ref_s_shape; /* [slices][tiles][column_tiles] */
} ohm_tiles;

/* A power of two that brings variances (level^2, at most the square of the largest level) to where
 * halves are dense. */
OHM_INLINE float ohm_variance_scale(const ohm_geometry *g)
{
    float scale = 32768.0f;
    for (int i = 0; i < g->cell_bits; i++)
        scale *= 0.25f;
    return scale;
}

/* Where a read had no solution. */
typedef struct {
    ohm_solve_status status;
    int slice, tile, column_tile;
    double residual;
} ohm_read_failure;

/* Wires that are solved anew for every read (irdrop_network.h): where cells are not linear, or rows are cut
 * off on a zero digit. Cells keep their own conductance then; a read takes its bit-line currents from the
 * network, with the DAC's noise and INL on its sources. Read noise is scaled to what a cell carries: its
 * current's deviation is sigma(g)/g times the current. Within a row of x, reads of a linear tile that cut
 * off the same rows share one G_eff beyond the break-even, and reads with the same drive one solution. */
typedef struct {
    ohm_wires wires;
    int rows, columns;       /* physical, of a tile */
    int interleaved, gated;
    ohm_cell_law law;        /* of voltages in digits */
    double tolerance;        /* residual of a solution */
    void *scratch;           /* ohm_mvm_network_bytes, of the calling thread */
    ohm_read_failure *failure; /* of the calling thread; or NULL */
} ohm_mvm_network;
size_t ohm_mvm_network_bytes(const ohm_geometry *g, const ohm_mvm_network *n);

/* Separate cells in double, for the reference. Level units with pedestal. */
typedef struct {
    double *g;         /* [slices][signs][k][n], signs = 2 for differential */
    double *variance;  /* same, or NULL */
    double *g_ref;     /* [slices][k][column_tiles] (offset weights) */
    double *variance_ref;
    double *johnson_scale; /* (digit·level)^2 per level of conductance in a column, [1] */
    const float *gain, *offset, *s_shape;     /* as in ohm_tiles */
    const float *ref_gain, *ref_offset, *ref_s_shape;
    const ohm_mvm_network *network;           /* or NULL: g holds what the wires leave of the cells */
} ohm_crossbar;

/* Corrected sums [m, n] (float, row stride lds) of drive codes x_u [m, k] (row stride ldx).
 * first_row is the global index of row 0. scratch: ohm_mvm_scratch_bytes. Opens one OpenMP region. */
void ohm_mvm_cpu(float *sums, int lds, const ohm_geometry *g, const ohm_read *r, const ohm_tiles *w, const uint8_t *x_u, int ldx,
                 int m, uint64_t first_row, void *scratch);
/* The raw sums in double, for calibration reads. */
void ohm_mvm_raw_cpu(double *sums, int lds, const ohm_geometry *g, const ohm_read *r, const ohm_tiles *w, const uint8_t *x_u, int ldx,
                     int m, uint64_t first_row, void *scratch);
/* Raises range[planes][slices][n or 1] to the largest |noise-free bit-line current| instead; or, with
 * histogram [planes][slices][n or 1][bins] not NULL, counts those currents in bins of range/bins. */
void ohm_mvm_range_cpu(float *range, uint32_t *histogram, int bins, int per_column, const ohm_geometry *g, const ohm_read *r, const ohm_tiles *w, const uint8_t *x_u,
                       int ldx, int m, uint64_t first_row, void *scratch);
size_t ohm_mvm_scratch_bytes(const ohm_geometry *g);

/* The raw sums in scalar double. x holds real-valued drive codes: magnitudes with their sign for
 * two_phase and sign_magnitude, x + 2^(bits-1) for offset. With round = 0 nothing is rounded: the
 * fraction of x rides on plane 0 and the ADC keeps fractions (physics.md section 7).
 * per_cell draws read noise per cell and read (its own stream site), else aggregated as the fast kernel.
 * analogue, if not NULL: [m][reads][n] value at the ADC in LSB before rounding and clamping.
 * Fails only where cells->network does, and says where in its `failure`. */
ohm_solve_status ohm_mvm_ref(double *sums, const ohm_geometry *g, const ohm_read *r, const ohm_crossbar *cells, const double *x, int m,
                 uint64_t first_row, int round, int per_cell, double *analogue);
/* What ohm_mvm_range_cpu does, of one row and one thread, for cells with a network. */
ohm_solve_status ohm_mvm_network_range(float *range, uint32_t *histogram, int bins, int per_column, const ohm_geometry *g, const ohm_read *r,
                                       const ohm_crossbar *cells, const double *x);

#endif
