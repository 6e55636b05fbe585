/* Inside of programming: one pipeline over a run of at most OHM_CELLS cells, once per instruction set. */
#ifndef OHM_KERNELS_PROGRAM_TASK_H
#define OHM_KERNELS_PROGRAM_TASK_H

#include "kernels/cpu.h"
#include "kernels/program.h"

enum { OHM_CELLS = 128 };

typedef void ohm_cells_task(double *g, double *slope, const ohm_programming *p, const uint8_t *level, uint64_t first, int count);
ohm_cells_task ohm_cells_task_base, ohm_cells_task_avx2, ohm_cells_task_avx512;
/* The task of an instruction set; NULL where this build does not hold it. */
ohm_cells_task *ohm_cells_task_of(ohm_isa isa);

#endif
