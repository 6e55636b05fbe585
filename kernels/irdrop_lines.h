/* Inside of the network solver: a tile of linear cells, each with a current of its own beside,
 *
 *     cell current (word to bit line) = d·(w - b) + e
 *
 * Unknown is u = d·w + e, what the cells would feed into bit lines at 0 V. Bit lines answer it with
 * b = M⁻¹·u, word lines answer b with w, and u = F(u) = d·w(b(u)) + e is the solution. Both answers are
 * ladders of positive terms in which resistances multiply and nothing divides by them, so that any of
 * them may be 0; M itself, infinite then, is never formed. F is affine and its linear part self-adjoint
 * in the product x·M⁻¹·y: conjugate gradients in that product are line-CG. */
#ifndef OHM_KERNELS_IRDROP_LINES_H
#define OHM_KERNELS_IRDROP_LINES_H

#include <stddef.h>

#include "kernels/irdrop_exact.h"

typedef struct {
    int rows, columns;
    double source, word, bit, terminal; /* resistances: driver + first segment, segments, last segment + sense */
    double far, top;                    /* conductances of second driver and second sense; 0 = none */
    double *d;                          /* [rows][columns] */
    const double *v, *t;                /* [rows] volts at the sources, [columns] at the terminals; NULL = 0 */
    const double *e;                    /* [rows][columns] or NULL = 0 */
    double *word_share, *bit_share;     /* ladders of d */
    double *word_end, *bit_end, *bit_draw; /* [rows]; [columns]: share at the terminal; what a bit line draws there */
    double *u, *w, *b, *r;              /* [rows][columns] solution; r = F(u) - u */
    double *first;                      /* [rows] current into the rest of the row at the source's node */
    double *last;                       /* [columns] the same at the terminal's node */
    double *p, *q, *z;                  /* directions */
} ohm_lines;

/* Places everything but d, v, t, e from base on (NULL: only counts); returns the bytes. */
size_t ohm_lines_carve(ohm_lines *l, const ohm_crosspoint *tile, char *base);
/* To be called whenever d has changed. */
void ohm_lines_factor(ohm_lines *l);
/* b, w, r and the sum of |r| from u. */
double ohm_lines_evaluate(ohm_lines *l);
/* From u as given to one whose sum of |r| is at most `target` or at rounding's floor; w, b, r belong to
 * it. Returns that sum and adds to *iterations. */
double ohm_lines_solve(ohm_lines *l, double target, int *iterations);
/* Currents into the terminals, both ends of a bit line summed, of the solution; t = 0. */
void ohm_lines_currents(double *current, const ohm_lines *l);
/* Currents drawn from the sources, both ends summed; v = 0. */
void ohm_lines_drawn(double *current, const ohm_lines *l);

#endif
