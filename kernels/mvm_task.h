/* Inside of the fast MVM: one task = one block of rows x one range of packed columns. Shared by
 * mvm_cpu.c (threads) and mvm_simd.c (arithmetic, once per instruction set). */
#ifndef OHM_KERNELS_MVM_TASK_H
#define OHM_KERNELS_MVM_TASK_H

#include "kernels/cpu.h"
#include "kernels/mvm_factors.h"

typedef struct {
    const ohm_geometry *g;
    const ohm_read *r;
    const ohm_tiles *w;
    const uint8_t *x_u;
    int ldx, m;
    uint64_t first_row;
    ohm_mvm_result to;  /* sums and factors, or */
    ohm_mvm_factors factors; /* shape of to.factors */
    float *range;       /* the largest currents instead */
    uint32_t *histogram;/* or, with the range known, their counts in bins of range/bins */
    int bins;
    int range_per_column;
} ohm_mvm_job;

/* Memory of one thread. */
typedef struct {
    float *drive;       /* [k][48] as [tile][group of 12 rows][row][12]: the drive of one phase and plane */
    float *square;      /* its squares */
    double *total;      /* [tiles][48] sum of the drive over a tile's rows */
    float *power;       /* [tiles][48] sum of squares */
    double *sums;       /* [48][columns] */
    int32_t *codes;     /* [48][columns] */
    float *noise, *noise2, *ref_noise; /* [48][128] */
    float *current, *variance;         /* [48][32] */
    float *lsb;         /* [columns] of the present plane and slice */
    double *ref_post;   /* [column_tiles][48]: what a reference read subtracts after the ADC */
    double *ref_sums;   /* [column_tiles][48]: ref_post over all tiles of an array */
    float *ref_pre;     /* [column_tiles][48]: what it adds on the bit line */
    float *range;       /* [planes][slices][columns] */
} ohm_mvm_scratch;

/* Output of packed column c; padding gives one beyond its column tile. */
static inline int ohm_output_of(const ohm_geometry *g, int c)
{
    int pitch = ohm_tile_pitch(g);
    return g->column_tiles == 1 ? c : c / pitch * g->tile_columns + c % pitch;
}

/* How many of the `width` packed columns from c on, within one column tile, are outputs; 0 and less: none. */
static inline int ohm_outputs_within(const ohm_geometry *g, int c, int width)
{
    int end = g->column_tiles == 1 ? g->n : (c / ohm_tile_pitch(g) + 1) * g->tile_columns,
        first = ohm_output_of(g, c);
    end = end < g->n ? end : g->n;
    return end - first < width ? end - first : width;
}

typedef void ohm_mvm_task(const ohm_mvm_job *job, const ohm_mvm_scratch *s, int row, int rows, int column, int columns);
ohm_mvm_task ohm_mvm_task_base, ohm_mvm_task_avx2, ohm_mvm_task_avx512;
/* The task of an instruction set; NULL where this build does not hold it. */
ohm_mvm_task *ohm_mvm_task_of(ohm_isa isa);
/* The whole job in tasks over threads. scratch: ohm_mvm_scratch_bytes. */
void ohm_mvm_run(const ohm_mvm_job *job, ohm_mvm_task *task, void *scratch);

#endif
