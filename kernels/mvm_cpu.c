#include <string.h>

#include "kernels/cpu.h"
#include "kernels/mvm_task.h"

#include <omp.h>

enum { COLUMNS_MOST = 512, ALIGN = 64 };

ohm_mvm_task *ohm_mvm_task_of(ohm_isa isa)
{
    switch (isa) {
    case OHM_ISA_BASE:
        return ohm_mvm_task_base;
#if defined(__x86_64__)
    case OHM_ISA_AVX2:
        return ohm_mvm_task_avx2;
    case OHM_ISA_AVX512:
        return ohm_mvm_task_avx512;
#endif
    default:
        return NULL;
    }
}

/* Columns of one task: whole column tiles, about 512; a border that depends on shape alone. */
static int task_columns(const ohm_geometry *g)
{
    int pitch = ohm_tile_pitch(g), all = ohm_packed_columns(g);
    if (g->column_tiles == 1)
        return all < COLUMNS_MOST ? all : COLUMNS_MOST;
    int tiles = pitch < COLUMNS_MOST ? COLUMNS_MOST / pitch : 1;
    return tiles * pitch < all ? tiles * pitch : all;
}

/* Carves one thread's memory from base (NULL: only counts); returns its bytes. */
static size_t carve(ohm_mvm_scratch *s, const ohm_geometry *g, char *base)
{
    size_t used = 0, columns = (size_t)task_columns(g), cts = (size_t)g->column_tiles;
#define TAKE(field, count)                                                                         \
    do {                                                                                           \
        s->field = base ? (void *)(base + used) : NULL;                                            \
        used += ((count) * sizeof *s->field + ALIGN - 1) / ALIGN * ALIGN;                          \
    } while (0)
    TAKE(drive, (size_t)g->k * OHM_ROW_BLOCK);
    TAKE(square, (size_t)g->k * OHM_ROW_BLOCK);
    TAKE(total, (size_t)g->tiles * OHM_ROW_BLOCK);
    TAKE(power, (size_t)g->tiles * OHM_ROW_BLOCK);
    TAKE(sums, OHM_ROW_BLOCK * columns);
    TAKE(codes, OHM_ROW_BLOCK * columns);
    TAKE(noise, (size_t)OHM_ROW_BLOCK * 128);
    TAKE(noise2, (size_t)OHM_ROW_BLOCK * 128);
    TAKE(ref_noise, (size_t)OHM_ROW_BLOCK * 256);
    TAKE(current, (size_t)OHM_ROW_BLOCK * OHM_PANEL);
    TAKE(variance, (size_t)OHM_ROW_BLOCK * OHM_PANEL);
    TAKE(lsb, columns);
    TAKE(ref_post, cts * OHM_ROW_BLOCK);
    TAKE(ref_sums, cts * OHM_ROW_BLOCK);
    TAKE(ref_pre, cts * OHM_ROW_BLOCK);
    TAKE(range, (size_t)g->planes * g->slices * columns);
#undef TAKE
    return used;
}

size_t ohm_mvm_scratch_bytes(const ohm_geometry *g)
{
    ohm_mvm_scratch s;
    return carve(&s, g, NULL) * (size_t)omp_get_max_threads() + ALIGN;
}

static void merge_range(const ohm_mvm_job *job, const ohm_mvm_scratch *s, int column, int columns)
{
    const ohm_geometry *g = job->g;
    int width = job->range_per_column ? g->n : 1;
    for (int i = 0; i < g->planes * g->slices; i++)
        for (int c = column; c < column + columns; c++) {
            int n = ohm_output_of(g, c);
            if (ohm_outputs_within(g, c, 1) < 1)
                continue;
            float *to = job->range + (size_t)i * width + (job->range_per_column ? n : 0);
            float value = s->range[(size_t)i * columns + (c - column)];
            *to = value > *to ? value : *to;
        }
}

void ohm_mvm_run(const ohm_mvm_job *job, ohm_mvm_task *task, void *scratch)
{
    int columns = task_columns(job->g), all = ohm_packed_columns(job->g);
    int row_blocks = (job->m + OHM_ROW_BLOCK - 1) / OHM_ROW_BLOCK,
        column_blocks = (all + columns - 1) / columns;
    ohm_mvm_scratch unused;
    size_t bytes = carve(&unused, job->g, NULL);
    char *base = (char *)(((uintptr_t)scratch + ALIGN - 1) / ALIGN * ALIGN);
#pragma omp parallel
    {
        ohm_mvm_scratch s;
        carve(&s, job->g, base + bytes * (size_t)omp_get_thread_num());
#pragma omp for schedule(dynamic, 1) collapse(2)
        for (int i = 0; i < row_blocks; i++)
            for (int j = 0; j < column_blocks; j++) {
                int row = i * OHM_ROW_BLOCK, column = j * columns;
                int rows = job->m - row < OHM_ROW_BLOCK ? job->m - row : OHM_ROW_BLOCK;
                int width = all - column < columns ? all - column : columns;
                task(job, &s, row, rows, column, width);
                if (job->range && !job->histogram) {
#pragma omp critical(ohm_mvm_range)
                    merge_range(job, &s, column, width);
                }
            }
    }
}

/* Rows to read; what is made of their currents is the caller's to say. */
static ohm_mvm_job job_of(const ohm_geometry *g, const ohm_read *r, const ohm_tiles *w,
                          const uint8_t *x_u, int ldx, int m, uint64_t first_row)
{
    return (ohm_mvm_job){
        .g = g, .r = r, .w = w, .x_u = x_u, .ldx = ldx, .m = m, .first_row = first_row};
}

void ohm_mvm_read_cpu(const ohm_mvm_result *to, const ohm_geometry *g, const ohm_read *r,
                      const ohm_tiles *w, const uint8_t *x_u, int ldx, int m, uint64_t first_row,
                      void *scratch)
{
    ohm_mvm_job job = job_of(g, r, w, x_u, ldx, m, first_row);
    job.to = *to;
    job.factors = ohm_mvm_factors_of(g, r);
    if (job.factors.row_bytes == 0)
        job.to.factors = NULL;
    if (job.to.sums || job.to.raw || job.to.factors)
        ohm_mvm_run(&job, ohm_mvm_task_of(ohm_cpu_isa()), scratch);
}

void ohm_mvm_cpu(float *sums, int lds, const ohm_geometry *g, const ohm_read *r, const ohm_tiles *w,
                 const uint8_t *x_u, int ldx, int m, uint64_t first_row, void *scratch)
{
    ohm_mvm_read_cpu(&(ohm_mvm_result){.sums = sums, .lds = lds}, g, r, w, x_u, ldx, m, first_row,
                     scratch);
}

void ohm_mvm_raw_cpu(double *sums, int lds, const ohm_geometry *g, const ohm_read *r,
                     const ohm_tiles *w, const uint8_t *x_u, int ldx, int m, uint64_t first_row,
                     void *scratch)
{
    ohm_mvm_read_cpu(&(ohm_mvm_result){.raw = sums, .lds = lds}, g, r, w, x_u, ldx, m, first_row,
                     scratch);
}

void ohm_mvm_range_cpu(float *range, uint32_t *histogram, int bins, int per_column,
                       const ohm_geometry *g, const ohm_read *r, const ohm_tiles *w,
                       const uint8_t *x_u, int ldx, int m, uint64_t first_row, void *scratch)
{
    ohm_mvm_job job = job_of(g, r, w, x_u, ldx, m, first_row);
    job.range = range;
    job.histogram = histogram;
    job.bins = bins;
    job.range_per_column = per_column;
    ohm_mvm_run(&job, ohm_mvm_task_of(ohm_cpu_isa()), scratch);
}
