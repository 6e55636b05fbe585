#include "kernels/irdrop_lines.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { ALIGN = 64, LANES = 8, STEPS_MOST = 300, RESTARTS_MOST = 40 };

size_t ohm_lines_carve(ohm_lines *l, const ohm_crosspoint *tile, char *base)
{
    const ohm_wires *w = &tile->wires;
    double source = w->driver + w->word_line, terminal = w->sense + w->bit_line;
    size_t used = 0, rows = (size_t)tile->rows, columns = (size_t)tile->columns,
           cells = rows * columns;
    *l = (ohm_lines){.rows = tile->rows,
                     .columns = tile->columns,
                     .source = source,
                     .word = w->word_line,
                     .bit = w->bit_line,
                     .terminal = terminal,
                     /* two ends joined by lines without resistance are one */
                     .far = w->drive_both && source > 0.0 ? 1.0 / source : 0.0,
                     .top = w->sense_both && terminal > 0.0 ? 1.0 / terminal : 0.0};
#define TAKE(field, count)                                                                         \
    do {                                                                                           \
        l->field = base ? (void *)(base + used) : NULL;                                            \
        used += ((count) * sizeof *l->field + ALIGN - 1) / ALIGN * ALIGN;                          \
    } while (0)
    TAKE(word_share, cells);
    TAKE(bit_share, cells);
    TAKE(word_end, rows);
    TAKE(bit_end, columns);
    TAKE(bit_draw, columns);
    TAKE(u, cells);
    TAKE(w, cells);
    TAKE(b, cells);
    TAKE(r, cells);
    TAKE(first, rows);
    TAKE(last, columns);
    TAKE(p, cells);
    TAKE(q, cells);
    TAKE(z, cells);
#undef TAKE
    return used;
}

/* Shares: of a node's voltage, what the ladder beyond leaves of its neighbour's. */
void ohm_lines_factor(ohm_lines *l)
{
    int columns = l->columns;
    for (int r = 0; r < l->rows; r++) {
        const double *d = l->d + (size_t)r * columns;
        double *share = l->word_share + (size_t)r * columns, draw = d[columns - 1] + l->far;
        for (int c = columns - 1; c > 0; c--) {
            share[c] = 1.0 / (1.0 + l->word * draw);
            draw = d[c - 1] + share[c] * draw;
        }
        l->word_end[r] = 1.0 / (1.0 + l->source * draw);
    }
    for (int c = 0; c < columns; c++)
        l->bit_draw[c] = l->d[c] + l->top;
    for (int r = 1; r < l->rows; r++) {
        const double *d = l->d + (size_t)r * columns;
        double *share = l->bit_share + (size_t)r * columns;
        for (int c = 0; c < columns; c++) {
            share[c] = 1.0 / (1.0 + l->bit * l->bit_draw[c]);
            l->bit_draw[c] = d[c] + share[c] * l->bit_draw[c];
        }
    }
    for (int c = 0; c < columns; c++)
        l->bit_end[c] = 1.0 / (1.0 + l->terminal * l->bit_draw[c]);
}

/* b = M⁻¹·(u and the terminals t): from the open end to the terminal and back. */
static void answer_of_bits(const ohm_lines *l, double *restrict b, const double *restrict u,
                           const double *t)
{
    int columns = l->columns, rows = l->rows;
    memcpy(b, u, (size_t)columns * sizeof *b);
    for (int c = 0; t && c < columns; c++)
        b[c] += l->top * t[c];
    for (int r = 1; r < rows; r++) {
        const double *above = b + (size_t)(r - 1) * columns, *in = u + (size_t)r * columns,
                     *share = l->bit_share + (size_t)r * columns;
        double *sum = b + (size_t)r * columns;
        for (int c = 0; c < columns; c++)
            sum[c] = in[c] + share[c] * above[c];
    }
    double *end = b + (size_t)(rows - 1) * columns;
    for (int c = 0; c < columns; c++) {
        l->last[c] = end[c];
        end[c] = ((t ? t[c] : 0.0) + l->terminal * end[c]) * l->bit_end[c];
    }
    for (int r = rows - 2; r >= 0; r--) {
        const double *below = b + (size_t)(r + 1) * columns,
                     *share = l->bit_share + (size_t)(r + 1) * columns;
        double *at = b + (size_t)r * columns;
        for (int c = 0; c < columns; c++)
            at[c] = share[c] * (below[c] + l->bit * at[c]);
    }
}

/* w of some rows from b, e (NULL = 0) and the sources; the rows' ladders run side by side. */
static inline void answer_of_rows(const ohm_lines *l, double *restrict w, const double *restrict b,
                                  const double *e, const double *v, int row, int lanes)
{
    int columns = l->columns;
    size_t at = (size_t)row * columns;
    const double *d = l->d + at, *share = l->word_share + at;
    double sum[LANES];
    w += at;
    b += at;
    e = e ? e + at : NULL;
    for (int i = 0; i < lanes; i++)
        sum[i] = v ? l->far * v[row + i] : 0.0;
    for (int c = columns - 1; c >= 0; c--)
        for (int i = 0; i < lanes; i++) {
            size_t x = (size_t)i * columns + c;
            double carried = c + 1 < columns ? share[x + 1] * sum[i] : sum[i];
            w[x] = sum[i] = d[x] * b[x] - (e ? e[x] : 0.0) + carried;
        }
    for (int i = 0; i < lanes; i++) {
        l->first[row + i] = sum[i];
        sum[i] = w[(size_t)i * columns] =
            ((v ? v[row + i] : 0.0) + l->source * sum[i]) * l->word_end[row + i];
    }
    for (int c = 1; c < columns; c++)
        for (int i = 0; i < lanes; i++) {
            size_t x = (size_t)i * columns + c;
            w[x] = sum[i] = share[x] * (sum[i] + l->word * w[x]);
        }
}

static void answer_of_words(const ohm_lines *l, double *w, const double *b, const double *e,
                            const double *v)
{
    for (int r = 0; r < l->rows; r += LANES) {
        int lanes = l->rows - r;
        if (lanes >= LANES)
            answer_of_rows(l, w, b, e, v, r, LANES);
        else
            answer_of_rows(l, w, b, e, v, r, lanes);
    }
}

static size_t cells_of(const ohm_lines *l)
{
    return (size_t)l->rows * l->columns;
}

double ohm_lines_evaluate(ohm_lines *l)
{
    double sum = 0.0;
    answer_of_bits(l, l->b, l->u, l->t);
    answer_of_words(l, l->w, l->b, l->e, l->v);
    for (size_t i = 0; i < cells_of(l); i++) {
        l->r[i] = l->d[i] * l->w[i] + (l->e ? l->e[i] : 0.0) - l->u[i];
        sum += fabs(l->r[i]);
    }
    return sum;
}

static double dot(const double *x, const double *y, size_t count)
{
    double sum[LANES] = {0}, total = 0.0;
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++)
            sum[j] += x[i + (size_t)j] * y[i + (size_t)j];
    for (; i < count; i++)
        total += x[i] * y[i];
    for (int j = 0; j < LANES; j++)
        total += sum[j];
    return total;
}

/* z = z - w·d and the rest of a step; returns the sum of |r|. */
static double advance(ohm_lines *l, double alpha)
{
    double sum[LANES] = {0}, total = 0.0;
    size_t count = cells_of(l), i = 0;
    double *u = l->u, *r = l->r;
    const double *q = l->q, *s = l->w;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++) {
            size_t x = i + (size_t)j;
            u[x] += alpha * q[x];
            r[x] -= alpha * s[x];
            sum[j] += fabs(r[x]);
        }
    for (; i < count; i++) {
        u[i] += alpha * q[i];
        r[i] -= alpha * s[i];
        total += fabs(r[i]);
    }
    for (int j = 0; j < LANES; j++)
        total += sum[j];
    return total;
}

/* Conjugate gradients from r = F(u) - u until its own account of the sum of |r| meets the target, then
 * one plain step u = F(u): it takes out what M⁻¹ does not see (currents between merged nodes). */
static void descend(ohm_lines *l, double target, int *iterations)
{
    size_t count = cells_of(l);
    answer_of_bits(l, l->z, l->r, NULL);
    double rho = dot(l->r, l->z, count), start = rho;
    memcpy(l->p, l->z, count * sizeof *l->p);
    memcpy(l->q, l->r, count * sizeof *l->q);
    for (int step = 0; step < STEPS_MOST && rho > 1e-30 * start; step++) {
        answer_of_words(l, l->w, l->p, NULL, NULL);
        for (size_t i = 0; i < count; i++)
            l->w[i] = l->q[i] - l->d[i] * l->w[i];
        double curvature = dot(l->p, l->w, count);
        if (!(curvature > 0.0))
            break;
        ++*iterations;
        if (advance(l, rho / curvature) <= target)
            break;
        answer_of_bits(l, l->z, l->r, NULL);
        double next = dot(l->r, l->z, count), beta = next / rho;
        rho = next;
        for (size_t i = 0; i < count; i++) {
            l->p[i] = l->z[i] + beta * l->p[i];
            l->q[i] = l->r[i] + beta * l->q[i];
        }
    }
    for (size_t i = 0; i < count; i++)
        l->u[i] += l->r[i];
}

double ohm_lines_solve(ohm_lines *l, double target, int *iterations)
{
    double sum = ohm_lines_evaluate(l);
    for (int i = 0; i < RESTARTS_MOST && !(sum <= target) && isfinite(sum); i++) {
        double before = sum, size = 0.0;
        descend(l, 0.5 * target, iterations);
        sum = ohm_lines_evaluate(l);
        if (sum <= target || sum < 0.1 * before)
            continue;
        for (size_t x = 0; x < cells_of(l); x++)
            size += fabs(l->u[x]);
        if (sum <= 4.0 * DBL_EPSILON * size || sum > 0.9 * before)
            break; /* rounding's floor */
    }
    return sum;
}

void ohm_lines_currents(double *current, const ohm_lines *l)
{
    for (int c = 0; c < l->columns; c++)
        current[c] = l->last[c] * l->bit_end[c] + l->top * l->b[c];
}

void ohm_lines_drawn(double *current, const ohm_lines *l)
{
    for (int r = 0; r < l->rows; r++)
        current[r] =
            -l->first[r] * l->word_end[r] - l->far * l->w[(size_t)r * l->columns + l->columns - 1];
}
