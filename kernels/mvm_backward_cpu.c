#include "kernels/mvm_backward.h"

#include <cblas.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/mvm_back_task.h"
#include "kernels/normals.h"

#include <omp.h>

/* Rows go in groups fixed by the batch alone, each with partial weight gradients that are added in
 * order; inside a group, blocks of rows. One task is one group on one row tile: tasks share nothing. */
enum { BLOCK = 128, GROUPS_MOST = 4, GROUP_ROWS_LEAST = 64, ALIGN = 64 };

typedef struct {
    float level[256], slope[256]; /* drive of a code, and its derivative by the code */
    int straight;                 /* the derivative is 1 for every code */
} drive_table;

typedef struct {
    const ohm_mvm_gradient *d;
    const ohm_geometry *g;
    const ohm_read *r;
    const ohm_tiles *w;
    double johnson_scale;
    ohm_mvm_factors factors;
    const ohm_back_kernels *kernels;
    drive_table table[16]; /* [phases·planes] */
} job;

typedef struct {      /* of one group */
    float *dg;        /* [arrays][k][n] by the current's conductances */
    float *dvariance; /* [arrays][k][n]; with read variances of cells */
    float *djohnson;  /* [arrays][tiles][n] by the sum of a column's conductances */
    float *dref;      /* [k][column_tiles] by the reference column's conductances */
    float *dref_variance;
} partial;

typedef struct {               /* of one thread */
    float *x, *square, *slope; /* [BLOCK][rows]: drive, its square, d drive / d code (DAC noise) */
    float *current, *variance; /* [BLOCK][n]: gradients by them */
    float *w, *cells;          /* [rows][n]: dense tile and its read variances */
    float *dx, *dx_variance;   /* [BLOCK][rows]: by the drive, and by its square */
    float *noise;              /* [BLOCK][128] */
    float *ref_current, *ref_variance; /* [BLOCK][column_tiles] */
} memory;

typedef struct {
    int phase, plane, slice, array, tile, begin, rows; /* the read; rows of its tile */
    int first, count;                                  /* rows of x */
} place;

static int group_count(int m)
{
    int groups = m / GROUP_ROWS_LEAST;
    return groups < 1 ? 1 : groups > GROUPS_MOST ? GROUPS_MOST : groups;
}

#define TAKE(to, field, count)                                                                     \
    do {                                                                                           \
        (to)->field = base ? (float *)(void *)(base + used) : NULL;                                \
        used += ((count) * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;                             \
    } while (0)

static size_t carve_partial(partial *p, const ohm_geometry *g, const ohm_read *r, char *base)
{
    size_t used = 0, cells = (size_t)ohm_arrays(g) * g->k * g->n;
    TAKE(p, dg, cells);
    TAKE(p, dvariance, r->read_cells ? cells : 0);
    TAKE(p, djohnson, (size_t)ohm_arrays(g) * g->tiles * g->n);
    TAKE(p, dref, g->differential ? 0 : (size_t)g->k * g->column_tiles);
    TAKE(p, dref_variance, g->differential ? 0 : (size_t)g->k * g->column_tiles);
    return used;
}

static size_t carve_memory(memory *s, const ohm_geometry *g, const ohm_read *r, char *base)
{
    size_t used = 0, rows = (size_t)ohm_tile_rows_most(g), n = (size_t)g->n, cells = r->read_cells;
    TAKE(s, x, BLOCK * rows);
    TAKE(s, square, cells * BLOCK * rows);
    TAKE(s, slope, r->dac_noise > 0.0f ? BLOCK * rows : 0);
    TAKE(s, current, BLOCK * n);
    TAKE(s, variance, BLOCK * n);
    TAKE(s, w, rows * n);
    TAKE(s, cells, cells * rows * n);
    TAKE(s, dx, BLOCK * rows);
    TAKE(s, dx_variance, cells * BLOCK * rows);
    TAKE(s, noise, BLOCK * 128);
    TAKE(s, ref_current, BLOCK * (size_t)g->column_tiles);
    TAKE(s, ref_variance, BLOCK * (size_t)g->column_tiles);
    return used;
}

size_t ohm_mvm_backward_scratch_bytes(const ohm_geometry *g, const ohm_read *r, int m)
{
    partial p;
    memory s;
    return carve_partial(&p, g, r, NULL) * (size_t)group_count(m) +
           carve_memory(&s, g, r, NULL) * (size_t)omp_get_max_threads() + ALIGN;
}

/* ---- Drive ----------------------------------------------------------------------------------- */

/* What the DAC gives for a code (dac), what a linear or bent cell makes of it (level), and the latter's
 * derivative by the code: on plane 0, which carries fractions, alone. */
static void tabulate(job *j)
{
    const ohm_geometry *g = j->g;
    const ohm_read *r = j->r;
    const float *level_of = r->dac_noise > 0.0f ? r->dac_level : r->drive_level;
    int is_signed = g->drive == OHM_DRIVE_TWO_PHASE || g->drive == OHM_DRIVE_SIGN_MAGNITUDE;
    for (int i = 0; i < g->phases * g->planes; i++) {
        drive_table *to = &j->table[i];
        int phase = i / g->planes, plane = i % g->planes;
        to->straight = 1;
        for (int code = 0; code < 256; code++) {
            int negative = is_signed && code >> 7, magnitude = is_signed ? code & 127 : code,
                digit = magnitude >> (plane * g->dac_bits) & g->max_digit;
            double bent,
                dac = 1.0 + r->dac_inl * ohm_inl_slope((double)digit / g->max_digit) / g->max_digit;
            ohm_cell_drive(r->iv, r->iv_coefficient, r->v_read, g->max_digit, r->dac_level[digit],
                           &bent);
            double slope = plane                 ? 0.0
                           : r->dac_noise > 0.0f ? dac
                                                 : dac * bent,
                   sign = negative ? -1.0 : 1.0;
            if (g->drive == OHM_DRIVE_TWO_PHASE) { /* a magnitude, in one phase of the two */
                slope *= negative == phase ? sign : 0.0;
                sign = negative == phase;
            }
            to->level[code] = (float)sign * level_of[digit];
            to->slope[code] = (float)slope; /* d (sign·|x|) / dx = 1 */
            to->straight &= to->slope[code] == 1.0f;
        }
    }
}

/* DAC noise comes between the DAC and the cell. */
static void add_dac_noise(const job *j, const memory *s, const place *at, const drive_table *table)
{
    const ohm_geometry *g = j->g;
    const ohm_read *r = j->r;
    uint64_t pitch = ohm_dac_pitch(g), per_sample = (uint64_t)g->phases * g->planes * pitch / 128,
             held = UINT64_MAX, first = j->d->first_row + (uint64_t)at->first;
    ohm_stream stream = r->stream;
    stream.site = OHM_SITE_DAC_NOISE;
    for (int k = 0; k < at->rows; k++) {
        uint64_t e =
            ((uint64_t)at->phase * g->planes + at->plane) * pitch + (uint64_t)(at->begin + k);
        if (e >> 7 != held) {
            held = e >> 7;
            (r->exact_normals ? ohm_normals_exact_block : ohm_normals_fast)(
                s->noise, 128, first, (size_t)at->count, held, per_sample, &stream);
        }
        for (int i = 0; i < at->count; i++) {
            size_t to = (size_t)i * at->rows + k;
            float level = s->x[to] + r->dac_noise * s->noise[(size_t)i * 128 + (e & 127)];
            double bent;
            s->x[to] = (float)ohm_cell_drive(r->iv, r->iv_coefficient, r->v_read, g->max_digit,
                                             level, &bent);
            const uint8_t *codes = j->d->x_u + (size_t)(at->first + i) * j->d->ldx + at->begin;
            s->slope[to] = table->slope[codes[k]] * (float)bent;
        }
    }
}

static void drive_block(const job *j, const memory *s, const place *at)
{
    const drive_table *table = &j->table[at->phase * j->g->planes + at->plane];
    int noisy = j->r->dac_noise > 0.0f, squares = j->r->read_cells && at->slice == 0;
    for (int i = 0; i < at->count; i++) {
        size_t to = (size_t)i * at->rows;
        j->kernels->drive(s->x + to, squares && !noisy ? s->square + to : NULL,
                          j->d->x_u + (size_t)(at->first + i) * j->d->ldx + at->begin, table->level,
                          at->rows);
    }
    if (!noisy)
        return;
    add_dac_noise(j, s, at, table);
    if (squares)
        j->kernels->square(s->square, s->x, at->count * at->rows);
}

/* ---- One read -------------------------------------------------------------------------------- */

/* Packed panels of a tile as a dense [rows][n] matrix. */
static void unpack(float *dense, const float *packed, const ohm_geometry *g, const place *at)
{
    for (int r = 0; r < at->rows; r++)
        for (int n = 0; n < g->n;) {
            int c = ohm_packed_position(g, n), pitch = ohm_tile_pitch(g),
                panel = c - c % pitch % OHM_PANEL;
            int width = ohm_panel_width(g, panel), tile_end = (c / pitch + 1) * g->tile_columns;
            int count = width < (tile_end < g->n ? tile_end : g->n) - n
                            ? width
                            : (tile_end < g->n ? tile_end : g->n) - n;
            memcpy(dense + (size_t)r * g->n + n, packed + ohm_packed_index(g, at->tile, r, c),
                   (size_t)count * sizeof *dense);
            n += count;
        }
}

static void multiply(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, const float *a,
                     int lda, const float *b, int ldb, float beta, float *c, int ldc)
{
    cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc);
}

static float read_weight(const ohm_geometry *g, const place *at)
{
    return (float)ldexp(at->phase ^ at->array ? -1.0 : 1.0,
                        at->plane * g->dac_bits + at->slice * g->cell_bits);
}

/* Gradients by the reference columns of a row: their own conversion (digital), or their share of the noise
 * (analog), whose current is the columns' common one. */
static void chain_references(const job *j, const memory *s, const place *at, int i, const void *row,
                             int read)
{
    const ohm_geometry *g = j->g;
    const ohm_mvm_factors *f = &j->factors;
    const float *dsums = j->d->dsums + (size_t)(at->first + i) * j->d->ldd,
                *slope = f->slope ? (const float *)row + ohm_mvm_slope_at(f, read) + g->n : NULL,
                *spread = f->spread ? (const float *)row + ohm_mvm_spread_at(f, read) + g->n : NULL;
    const uint16_t *bits =
        f->bits ? (const uint16_t *)row + ohm_mvm_bits_at(f, read) + ohm_packed_columns(g) / 16
                : NULL;
    for (int ct = 0; ct < g->column_tiles; ct++) {
        int from = ct * g->tile_columns,
            to = from + g->tile_columns < g->n ? from + g->tile_columns : g->n;
        double sum = 0.0;
        for (int n = from; n < to; n++)
            sum -= g->digital ? read_weight(g, at) * dsums[n] : s->current[(size_t)i * g->n + n];
        int inside = spread && !slope ? fabsf(spread[ct]) <= FLT_MAX : bits ? bits[ct] : 1;
        float d = inside ? (float)sum : 0.0f;
        s->ref_variance[(size_t)i * g->column_tiles + ct] =
            spread && inside ? d * spread[ct] : 0.0f;
        s->ref_current[(size_t)i * g->column_tiles + ct] = !g->digital ? 0.0f
                                                           : slope     ? d * slope[ct]
                                                                       : d;
    }
}

/* From the gradients of the sums to those by currents and variances. */
static void chain_block(const job *j, const memory *s, const place *at)
{
    const ohm_geometry *g = j->g;
    int read = ohm_mvm_kept_read(g, at->phase, at->plane, at->slice, at->array, at->tile);
    for (int i = 0; i < at->count; i++) {
        size_t m = (size_t)(at->first + i);
        const char *row =
            j->factors.row_bytes ? (const char *)j->d->factors + m * j->factors.row_bytes : NULL;
        j->kernels->chain(s->current + (size_t)i * g->n, s->variance + (size_t)i * g->n,
                          j->d->dsums + m * j->d->ldd, read_weight(g, at), g, &j->factors, row,
                          read);
        if (!g->differential)
            chain_references(j, s, at, i, row, read);
    }
}

static double sum_of(const float *x, int count)
{
    double sum = 0.0;
    for (int i = 0; i < count; i++)
        sum += x[i];
    return sum;
}

/* What the reference columns add to a row's gradients by its drive. */
static void add_references(const job *j, const memory *s, const place *at, int i)
{
    const ohm_geometry *g = j->g;
    for (int ct = 0; ct < g->column_tiles; ct++) {
        size_t ref = ((size_t)at->slice * g->column_tiles + ct) * g->k + at->begin;
        float dcurrent = s->ref_current[(size_t)i * g->column_tiles + ct],
              dvariance = s->ref_variance[(size_t)i * g->column_tiles + ct];
        for (int k = 0; k < at->rows; k++) {
            size_t cell = (size_t)i * at->rows + k;
            s->dx[cell] += dcurrent * j->w->ref[ref + k];
            if (j->r->read_cells)
                s->dx_variance[cell] += dvariance * j->w->ref_variance[ref + k];
        }
    }
}

/* Gradients by the drive of this block, to d->dx; add = 0: they are the first. */
static void put_dx(const job *j, const memory *s, const place *at, int add)
{
    const ohm_geometry *g = j->g;
    const ohm_read *r = j->r;
    const drive_table *table = &j->table[at->phase * g->planes];
    float cells = (float)ohm_columns_seen(g);
    multiply(CblasNoTrans, CblasTrans, at->count, at->rows, g->n, s->current, g->n, s->w, g->n,
             0.0f, s->dx, at->rows);
    if (r->read_cells)
        multiply(CblasNoTrans, CblasTrans, at->count, at->rows, g->n, s->variance, g->n, s->cells,
                 g->n, 0.0f, s->dx_variance, at->rows);
    for (int i = 0; i < at->count; i++) {
        size_t row = (size_t)(at->first + i), to = (size_t)i * at->rows, of = (size_t)i * g->n;
        ohm_back_dx dx = {.current = s->dx + to,
                          .variance = r->read_cells ? s->dx_variance + to : NULL,
                          .x = s->x + to,
                          .slope = r->dac_noise > 0.0f ? s->slope + to : NULL,
                          .codes = j->d->x_u + row * (size_t)j->d->ldx + at->begin,
                          .of_code = table->straight ? NULL : table->slope,
                          .rows = at->rows,
                          .add = add};
        if (!g->differential)
            add_references(j, s, at, i);
        const float *ref = s->ref_current + (size_t)i * g->column_tiles,
                    *ref_variance = s->ref_variance + (size_t)i * g->column_tiles;
        int references = g->differential ? 0 : g->column_tiles;
        if (g->digital)
            dx.common =
                (float)(g->pedestal * (sum_of(s->current + of, g->n) + sum_of(ref, references)));
        if (r->read_constant > 0.0f)
            dx.spread =
                2.0f * r->read_constant *
                (float)(cells * sum_of(s->variance + of, g->n) + sum_of(ref_variance, references));
        j->kernels->dx(j->d->dx + row * (size_t)j->d->lddx + at->begin, &dx);
    }
}

/* Gradients by slice 0's conductances, added to the group's partial sums. */
static void add_dg(const job *j, const memory *s, const place *at, const partial *p)
{
    const ohm_geometry *g = j->g;
    size_t base = ((size_t)at->array * g->k + at->begin) * g->n;
    multiply(CblasTrans, CblasNoTrans, at->rows, g->n, at->count, s->x, at->rows, s->current, g->n,
             1.0f, p->dg + base, g->n);
    if (j->r->read_cells)
        multiply(CblasTrans, CblasNoTrans, at->rows, g->n, at->count, s->square, at->rows,
                 s->variance, g->n, 1.0f, p->dvariance + base, g->n);
    float *johnson = p->djohnson + ((size_t)at->array * g->tiles + at->tile) * g->n;
    for (int i = 0; i < at->count && j->johnson_scale > 0.0; i++)
        for (int n = 0; n < g->n; n++)
            johnson[n] += (float)(j->johnson_scale * s->variance[(size_t)i * g->n + n]);
    for (int ct = 0; ct < g->column_tiles && !g->differential; ct++)
        for (int k = 0; k < at->rows; k++) {
            double current = 0.0, variance = 0.0, all = 0.0;
            for (int i = 0; i < at->count; i++) {
                size_t to = (size_t)i * g->column_tiles + ct;
                double x = s->x[(size_t)i * at->rows + k];
                current += x * s->ref_current[to];
                variance += x * x * s->ref_variance[to];
                all += s->ref_variance[to];
            }
            p->dref[(size_t)(at->begin + k) * g->column_tiles + ct] +=
                (float)(current + j->johnson_scale * all);
            p->dref_variance[(size_t)(at->begin + k) * g->column_tiles + ct] += (float)variance;
        }
}

/* A group's rows back through one slice of one array of a tile: dx by plane 0, dg by slice 0. */
static void array_backward(const job *j, const memory *s, place at, const partial *p, int group,
                           int groups, int add)
{
    const ohm_geometry *g = j->g;
    int m = j->d->m, from = (int)((int64_t)m * group / groups),
        to = (int)((int64_t)m * (group + 1) / groups), planes = at.slice == 0 ? g->planes : 1;
    size_t array =
        ((size_t)at.slice * ohm_arrays(g) + at.array) * (size_t)g->k * ohm_packed_columns(g);
    if (j->d->dx) {
        unpack(s->w, j->w->w + array, g, &at);
        if (j->r->read_cells)
            unpack(s->cells, j->w->variance + array, g, &at);
    }
    for (at.first = from; at.first < to; at.first += BLOCK) {
        at.count = to - at.first < BLOCK ? to - at.first : BLOCK;
        for (at.plane = 0; at.plane < planes; at.plane++) {
            drive_block(j, s, &at);
            chain_block(j, s, &at);
            if (at.slice == 0)
                add_dg(j, s, &at, p);
            if (at.plane == 0 && j->d->dx)
                put_dx(j, s, &at, add);
        }
    }
}

static void run_task(const job *j, const memory *s, const partial *p, int group, int groups,
                     int tile)
{
    const ohm_geometry *g = j->g;
    place at = {.tile = tile, .begin = ohm_tile_begin(g, tile)};
    at.rows = ohm_tile_begin(g, tile + 1) - at.begin;
    for (at.phase = 0; at.phase < g->phases; at.phase++)
        for (at.slice = 0; at.slice < (j->d->dx ? g->slices : 1); at.slice++)
            for (at.array = 0; at.array < ohm_arrays(g); at.array++)
                array_backward(j, s, at, p, group, groups, at.phase + at.slice + at.array > 0);
}

static const ohm_back_kernels *kernels_here(void)
{
#if defined(__x86_64__)
    if (ohm_cpu_isa() == OHM_ISA_AVX512)
        return &ohm_back_kernels_avx512;
    if (ohm_cpu_isa() == OHM_ISA_AVX2)
        return &ohm_back_kernels_avx2;
#endif
    return &ohm_back_kernels_base;
}

/* Adds the groups' partial sums, in order, to the gradients of the separate cells. */
static void merge(const job *j, const partial *parts, int groups)
{
    const ohm_geometry *g = j->g;
    const ohm_read *r = j->r;
    ohm_cell_gradient *c = j->d->cells;
    size_t cells = (size_t)g->k * g->n;
    int arrays = ohm_arrays(g), signs = g->differential ? 2 : 1;
#pragma omp parallel for schedule(static)
    for (int k = 0; k < g->k; k++) {
        int tile = 0;
        while (k >= ohm_tile_begin(g, tile + 1))
            tile++;
        for (int sign = 0; sign < signs; sign++)
            for (int n = 0; n < g->n; n++) {
                int array = arrays == 2 ? sign : 0;
                size_t from = (size_t)array * cells + (size_t)k * g->n + n,
                       to = (size_t)sign * cells + (size_t)k * g->n + n;
                double dg = 0.0, dvariance = 0.0, johnson = 0.0;
                for (int i = 0; i < groups; i++) {
                    dg += parts[i].dg[from];
                    dvariance += r->read_cells ? parts[i].dvariance[from] : 0.0f;
                    johnson += parts[i].djohnson[((size_t)array * g->tiles + tile) * g->n + n];
                }
                c->dg[to] += (float)((sign && arrays == 1 ? -dg : dg) + johnson);
                c->dvariance[to] += (float)dvariance;
            }
        for (int ct = 0; ct < g->column_tiles && !g->differential; ct++) {
            double dref = 0.0, dvariance = 0.0;
            for (int i = 0; i < groups; i++) {
                dref += parts[i].dref[(size_t)k * g->column_tiles + ct];
                dvariance += parts[i].dref_variance[(size_t)k * g->column_tiles + ct];
            }
            int end = (ct + 1) * g->tile_columns < g->n ? (ct + 1) * g->tile_columns : g->n;
            for (int n = ct * g->tile_columns; n < end && !g->digital; n++)
                for (int i = 0; i < groups; i++)
                    dref -= parts[i].dg[(size_t)k * g->n + n];
            c->dref[(size_t)k * g->column_tiles + ct] += (float)dref;
            c->dref_variance[(size_t)k * g->column_tiles + ct] += (float)dvariance;
        }
    }
}

void ohm_mvm_backward(const ohm_mvm_gradient *d, const ohm_geometry *g, const ohm_read *r,
                      const ohm_tiles *w, double johnson_scale, void *scratch)
{
    job j = {.d = d,
             .g = g,
             .r = r,
             .w = w,
             .johnson_scale = johnson_scale,
             .factors = ohm_mvm_factors_of(g, r),
             .kernels = kernels_here()};
    partial parts[GROUPS_MOST];
    memory unused;
    int groups = group_count(d->m);
    char *base = (char *)(((uintptr_t)scratch + ALIGN - 1) / ALIGN * ALIGN);
    size_t bytes = carve_partial(parts, g, r, base), each = carve_memory(&unused, g, r, NULL);
    memset(base, 0, bytes * (size_t)groups);
    for (int i = 0; i < groups; i++, base += bytes)
        carve_partial(&parts[i], g, r, base);
    tabulate(&j);
#pragma omp parallel
    {
        memory s;
        carve_memory(&s, g, r, base + each * (size_t)omp_get_thread_num());
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (int group = 0; group < groups; group++)
            for (int tile = 0; tile < g->tiles; tile++)
                run_task(&j, &s, &parts[group], group, groups, tile);
    }
    merge(&j, parts, groups);
}
