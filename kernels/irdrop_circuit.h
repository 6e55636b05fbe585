/* Inside of the exact solvers: a tile as the march sees it, and LAPACK by its Fortran names (there is
 * no LAPACKE beside OpenBLAS everywhere). */
#ifndef OHM_KERNELS_IRDROP_CIRCUIT_H
#define OHM_KERNELS_IRDROP_CIRCUIT_H

#include <math.h>
#include <stddef.h>

#include "kernels/irdrop_exact.h"

void sgetrf_(const int *m, const int *n, float *a, const int *lda, int *pivot, int *info);
void dgetrf_(const int *m, const int *n, double *a, const int *lda, int *pivot, int *info);
void sgetrs_(const char *trans, const int *n, const int *nrhs, const float *a, const int *lda, const int *pivot, float *b,
             const int *ldb, int *info);
void dgetrs_(const char *trans, const int *n, const int *nrhs, const double *a, const int *lda, const int *pivot, double *b,
             const int *ldb, int *info);

/* `rows` steps, `columns` states. The longer side is marched, unless lines that end in two terminals would
 * be marched along (which takes two marches) and the others are not much shorter; a mirrored tile has its
 * word and bit lines exchanged and both counted from the other end. */
typedef struct {
    int rows, columns, mirrored;
    double source, word, bit, terminal; /* resistances */
    double far, top; /* conductances of second driver and second sense; 0 = none */
} ohm_circuit;

static inline ohm_circuit ohm_circuit_of(const ohm_crosspoint *t)
{
    const ohm_wires *w = &t->wires;
    double source = w->driver + w->word_line, terminal = w->sense + w->bit_line;
    /* two ends joined by lines without resistance are one */
    double far = w->drive_both && source > 0.0 ? 1.0 / source : 0.0,
           top = w->sense_both && terminal > 0.0 ? 1.0 / terminal : 0.0;
    int mirrored = t->rows < t->columns, longer = mirrored ? t->columns : t->rows,
        shorter = mirrored ? t->rows : t->columns;
    if ((mirrored ? far > 0.0 && top == 0.0 : top > 0.0 && far == 0.0) && longer < 2 * shorter)
        mirrored = !mirrored;
    if (!mirrored)
        return (ohm_circuit){t->rows,     t->columns, 0,   source, w->word_line,
                             w->bit_line, terminal,   far, top};
    return (ohm_circuit){t->columns,  t->rows, 1,  terminal, w->bit_line,
                         w->word_line, source, top, far};
}

/* Where the tile has cell (r, i) of the circuit. */
static inline size_t ohm_circuit_cell(const ohm_circuit *c, int r, int i)
{
    return c->mirrored ? (size_t)(c->columns - 1 - i) * c->rows + (size_t)(c->rows - 1 - r)
                       : (size_t)r * c->columns + i;
}

static inline int ohm_wires_usable(const ohm_wires *w)
{
    const double r[] = {w->word_line, w->bit_line, w->driver, w->sense};
    for (int i = 0; i < 4; i++)
        if (!(r[i] >= 0.0) || !isfinite(r[i]))
            return 0;
    return 1;
}

#endif
