#include "tests/oracle_sparse.h"

#if OHM_HAVE_CHOLMOD

#include <stdlib.h>
#include <suitesparse/cholmod.h>

/* Nodes: word (r, c), bit (r, c), source r, ground. What stands for a node after joining is its root;
 * known voltages (sources, ground) stay roots. */
struct ohm_oracle {
    ohm_crosspoint tile;
    const double *g;
    int nodes, ground, unknowns;
    int *parent;  /* [nodes] */
    int *unknown; /* [nodes]: index in the equations; -1: voltage known */
    cholmod_common common;
    cholmod_triplet *triplet, *known; /* between unknowns; from sources to unknowns [unknowns][rows] */
    cholmod_sparse *matrix;
    cholmod_factor *factor;
};

int ohm_oracle_here(void)
{
    return 1;
}

static int word(const ohm_oracle *o, int r, int c)
{
    return r * o->tile.columns + c;
}

static int bit(const ohm_oracle *o, int r, int c)
{
    return (o->tile.rows + r) * o->tile.columns + c;
}

static int source(const ohm_oracle *o, int r)
{
    return o->ground - o->tile.rows + r;
}

static int root(const ohm_oracle *o, int node)
{
    while (o->parent[node] != node)
        node = o->parent[node] = o->parent[o->parent[node]];
    return node;
}

static void entry(cholmod_triplet *t, int row, int column, double value)
{
    ((int *)t->i)[t->nnz] = row;
    ((int *)t->j)[t->nnz] = column;
    ((double *)t->x)[t->nnz++] = value;
}

/* A conductance between two nodes of the merged network. */
static void conduct(ohm_oracle *o, int a, int b, double siemens)
{
    int ends[2] = {root(o, a), root(o, b)};
    if (ends[0] == ends[1])
        return;
    for (int i = 0; i < 2; i++) {
        int here = o->unknown[ends[i]], there = o->unknown[ends[1 - i]];
        if (here < 0)
            continue;
        entry(o->triplet, here, here, siemens);
        if (there >= 0 && here <= there)
            entry(o->triplet, here, there, -siemens);
        if (there < 0 && ends[1 - i] != o->ground)
            entry(o->known, here, ends[1 - i] - source(o, 0), siemens);
    }
}

/* Every wire, either to join its ends where it has no resistance or to conduct where it has one. */
static void wires(ohm_oracle *o, int join)
{
    const ohm_crosspoint *t = &o->tile;
    const ohm_wires *w = &t->wires;
    int last_column = t->columns - 1, last_row = t->rows - 1;
#define WIRE(a, b, ohms)                                                                           \
    do {                                                                                           \
        if (join && (ohms) == 0.0)                                                                 \
            o->parent[root(o, a)] = root(o, b);                                                    \
        else if (!join && (ohms) > 0.0)                                                            \
            conduct(o, a, b, 1.0 / (ohms));                                                        \
    } while (0)
    /* nodes join towards the source or the ground, which so stay roots */
    for (int r = 0; r < t->rows; r++) {
        WIRE(word(o, r, 0), source(o, r), w->driver + w->word_line);
        for (int c = 0; c < last_column; c++)
            WIRE(word(o, r, c + 1), word(o, r, c), w->word_line);
        if (w->drive_both && root(o, word(o, r, last_column)) != source(o, r))
            WIRE(word(o, r, last_column), source(o, r), w->driver + w->word_line);
    }
    for (int c = 0; c < t->columns; c++) {
        WIRE(bit(o, last_row, c), o->ground, w->sense + w->bit_line);
        for (int r = last_row; r > 0; r--)
            WIRE(bit(o, r - 1, c), bit(o, r, c), w->bit_line);
        if (w->sense_both && root(o, bit(o, 0, c)) != o->ground)
            WIRE(bit(o, 0, c), o->ground, w->sense + w->bit_line);
    }
#undef WIRE
}

static int assemble(ohm_oracle *o)
{
    const ohm_crosspoint *t = &o->tile;
    int cells = t->rows * t->columns;
    size_t most = 8 * (size_t)o->nodes;
    for (int i = 0; i < o->nodes; i++)
        o->parent[i] = i;
    wires(o, 1);
    for (int i = 0; i < o->nodes; i++)
        o->unknown[i] = root(o, i) == i && i < source(o, 0) ? o->unknowns++ : -1;
    size_t size = (size_t)(o->unknowns > 0 ? o->unknowns : 1);
    o->triplet = cholmod_allocate_triplet(size, size, most, 1, CHOLMOD_REAL, &o->common);
    o->known = cholmod_allocate_triplet(size, (size_t)t->rows, most, 0, CHOLMOD_REAL, &o->common);
    if (!o->triplet || !o->known)
        return 0;
    if (o->unknowns == 0)
        entry(o->triplet, 0, 0, 1.0);
    for (int i = 0; i < cells; i++)
        conduct(o, i, cells + i, o->g[i]);
    wires(o, 0);
    o->matrix = cholmod_triplet_to_sparse(o->triplet, 0, &o->common);
    o->factor = o->matrix ? cholmod_analyze(o->matrix, &o->common) : NULL;
    return o->factor != NULL;
}

ohm_oracle *ohm_oracle_create(const double *g, const ohm_crosspoint *tile)
{
    ohm_oracle *o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    o->tile = *tile;
    o->g = g;
    o->ground = (2 * tile->columns + 1) * tile->rows;
    o->nodes = o->ground + 1;
    o->parent = malloc((size_t)o->nodes * sizeof *o->parent);
    o->unknown = malloc((size_t)o->nodes * sizeof *o->unknown);
    cholmod_start(&o->common);
    if (o->parent && o->unknown && assemble(o))
        return o;
    ohm_oracle_destroy(o);
    return NULL;
}

int ohm_oracle_factorise(ohm_oracle *o)
{
    return cholmod_factorize(o->matrix, o->factor, &o->common) && o->common.status == CHOLMOD_OK;
}

/* Voltage of a node in one solution x, with 1 V on row r. */
static double voltage(const ohm_oracle *o, const double *x, int node, int r)
{
    int at = root(o, node);
    return o->unknown[at] >= 0 ? x[o->unknown[at]] : at == source(o, r) ? 1.0 : 0.0;
}

int ohm_oracle_solve(double *current, ohm_oracle *o, int first, int count)
{
    const ohm_crosspoint *t = &o->tile;
    size_t size = o->matrix->nrow;
    cholmod_dense *right = cholmod_zeros(size, (size_t)count, CHOLMOD_REAL, &o->common);
    for (size_t i = 0; right && i < o->known->nnz; i++) {
        int side = ((int *)o->known->j)[i] - first;
        if (side >= 0 && side < count)
            ((double *)right->x)[(size_t)side * size + (size_t)((int *)o->known->i)[i]] +=
                ((double *)o->known->x)[i];
    }
    cholmod_dense *x = right ? cholmod_solve(CHOLMOD_A, o->factor, right, &o->common) : NULL;
    for (int side = 0; x && side < count; side++)
        for (int c = 0; c < t->columns; c++) {
            const double *at = (double *)x->x + (size_t)side * size;
            double sum = 0.0;
            for (int r = 0; r < t->rows; r++)
                sum += o->g[(size_t)r * t->columns + c] *
                       (voltage(o, at, word(o, r, c), first + side) -
                        voltage(o, at, bit(o, r, c), first + side));
            current[(size_t)side * t->columns + c] = sum;
        }
    int solved = x != NULL;
    cholmod_free_dense(&right, &o->common);
    cholmod_free_dense(&x, &o->common);
    return solved;
}

void ohm_oracle_destroy(ohm_oracle *o)
{
    if (!o)
        return;
    cholmod_free_triplet(&o->triplet, &o->common);
    cholmod_free_triplet(&o->known, &o->common);
    cholmod_free_sparse(&o->matrix, &o->common);
    cholmod_free_factor(&o->factor, &o->common);
    cholmod_finish(&o->common);
    free(o->parent);
    free(o->unknown);
    free(o);
}

#else

int ohm_oracle_here(void)
{
    return 0;
}

ohm_oracle *ohm_oracle_create(const double *g, const ohm_crosspoint *tile)
{
    (void)g;
    (void)tile;
    return NULL;
}

int ohm_oracle_factorise(ohm_oracle *o)
{
    return o != NULL;
}

int ohm_oracle_solve(double *current, ohm_oracle *o, int first, int count)
{
    (void)current;
    (void)first;
    (void)count;
    return o != NULL;
}

void ohm_oracle_destroy(ohm_oracle *o)
{
    (void)o;
}

#endif

const char ohm_oracle_missing[] = "built without SuiteSparse (Debian: libsuitesparse-dev)";

int ohm_oracle_g_eff(double *g_eff, const double *g, const ohm_crosspoint *tile)
{
    ohm_oracle *o = ohm_oracle_create(g, tile);
    int solved = o && ohm_oracle_factorise(o);
    for (int r = 0; r < tile->rows && solved; r += 32)
        solved = ohm_oracle_solve(g_eff + (size_t)r * tile->columns, o, r,
                                  tile->rows - r < 32 ? tile->rows - r : 32);
    ohm_oracle_destroy(o);
    return solved;
}
