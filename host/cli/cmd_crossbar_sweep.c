/* ohmgrad crossbar sweep: what a tile loses on its wires, over its size, so that one can be chosen. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/arena.h"
#include "host/cli/crossbar_arguments.h"
#include "host/cli/plot.h"
#include "host/file.h"

enum { LIST = OHM_COEFFICIENTS };

/* Points in the order weights, wires, sizes. */
typedef struct {
    int weights_count, r_count, size_count, size[LIST];
    ohm_weights weights[OHM_WEIGHTS_COUNT];
    double r[LIST];
    ohm_sweep sweep;
    ohm_sweep_point *point;
} table;

static int points_of(const table *t)
{
    return t->weights_count * t->r_count * t->size_count;
}

static const ohm_sweep_point *point_at(const table *t, int weights, int r, int size)
{
    return &t->point[(weights * t->r_count + r) * t->size_count + size];
}

/* ---- what is asked for --------------------------------------------------------------------- */

static ohm_status read_weights(table *t, const char *list)
{
    for (const char *at = list;; at++) {
        size_t n = strcspn(at, ",");
        int found = -1;
        for (int i = 0; i < OHM_WEIGHTS_COUNT; i++)
            if (strlen(ohm_weights_name[i]) == n && !strncmp(at, ohm_weights_name[i], n))
                found = i;
        if (found < 0)
            return OHM_FAIL(OHM_ERR_CONFIG,
                            "--weights: '%.*s' is none of uniform, bimodal, gaussian, half_off",
                            n < 40 ? (int)n : 40, at);
        for (int i = 0; i < t->weights_count; i++)
            if ((int)t->weights[i] == found)
                return OHM_FAIL(OHM_ERR_CONFIG, "--weights: '%s' twice", ohm_weights_name[found]);
        t->weights[t->weights_count++] = (ohm_weights)found;
        if (!(at += n)[0])
            return OHM_OK;
    }
}

/* The lists rise, so that tables and curves read from left to right. */
static ohm_status check_rising(const ohm_coefficients *list, const char *name, int whole)
{
    for (int i = 0; i < list->count; i++) {
        if (whole && list->at[i] != floor(list->at[i]))
            return OHM_FAIL(OHM_ERR_CONFIG, "--%s: %g is no whole number", name, list->at[i]);
        if (i && list->at[i] <= list->at[i - 1])
            return OHM_FAIL(OHM_ERR_CONFIG, "--%s: %g follows %g; give rising numbers", name,
                            list->at[i], list->at[i - 1]);
    }
    return OHM_OK;
}

/* Every thread holds a tile of the largest size. */
static ohm_status check_memory(const table *t)
{
    int n = t->size[t->size_count - 1], threads = omp_get_max_threads();
    const ohm_crosspoint tile = {.rows = n, .columns = n};
    double each = 2.0 * sizeof(double) * n * n + (double)ohm_irdrop_exact_bytes_f64(&tile),
           machine = (double)ohm_memory_available();
    if (each * threads > machine)
        return OHM_FAIL(
            OHM_ERR_MEMORY,
            "--sizes %d needs %.0f bytes on %d threads, this machine has %.0f free; give "
            "smaller sizes or fewer --threads",
            n, each * threads, threads, machine);
    return OHM_OK;
}

static ohm_status plan(table *t, const ohm_crossbar_arguments *a)
{
    OHM_TRY(read_weights(t, a->weights));
    OHM_TRY(check_rising(&a->sizes, "sizes", 1));
    OHM_TRY(check_rising(&a->r, "r", 0));
    OHM_TRY(check_rising(&a->limit, "limit", 0));
    t->r_count = a->r.count;
    t->size_count = a->sizes.count;
    for (int i = 0; i < LIST; i++) {
        t->r[i] = a->r.at[i];
        t->size[i] = (int)a->sizes.at[i];
    }
    t->sweep = (ohm_sweep){a->g_max, a->on_off, ohm_crossbar_wires(a), a->tiles, (uint32_t)a->seed};
    OHM_TRY(check_memory(t));
    t->point = calloc((size_t)points_of(t), sizeof *t->point);
    if (!t->point)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for %d points", points_of(t));
    for (int i = 0; i < points_of(t); i++)
        t->point[i] = (ohm_sweep_point){.size = t->size[i % t->size_count],
                                        .ohms = t->r[i / t->size_count % t->r_count],
                                        .weights = t->weights[i / t->size_count / t->r_count]};
    return OHM_OK;
}

/* ---- the table on the terminal ------------------------------------------------------------- */

static void print_heading(const table *t, const char *what)
{
    char text[32];
    printf("\n%-10s", what);
    for (int r = 0; r < t->r_count; r++) {
        snprintf(text, sizeof text, "%g ohm", t->r[r]);
        printf("%20s", text);
    }
    printf("\n");
}

static void print_losses(const table *t)
{
    const ohm_wires *w = &t->sweep.wires;
    printf("%d random tiles per point, %g..%g S, driver %g ohm, sense %g ohm, driven at %s, sensed "
           "at %s\n"
           "share of a column's current lost on the wires, all rows driven alike: mean and worst "
           "column, in %%\n",
           t->sweep.tiles, t->sweep.g_max / t->sweep.on_off, t->sweep.g_max, w->driver, w->sense,
           w->drive_both ? "both ends" : "one end", w->sense_both ? "both ends" : "one end");
    for (int i = 0; i < t->weights_count; i++) {
        print_heading(t, ohm_weights_name[t->weights[i]]);
        for (int s = 0; s < t->size_count; s++) {
            printf("%6d    ", t->size[s]);
            for (int r = 0; r < t->r_count; r++) {
                const ohm_sweep_point *p = point_at(t, i, r, s);
                printf("%12.3f%8.3f", 100 * p->mean, 100 * p->worst);
            }
            printf("\n");
        }
    }
}

static void print_choice(const table *t, const ohm_coefficients *limit)
{
    printf("\nlargest of these tiles whose mean loss is at most");
    for (int l = 0; l < limit->count; l++)
        printf("%s%g", l ? ", " : " ", limit->at[l]);
    printf(" %%\n");
    print_heading(t, "");
    for (int i = 0; i < t->weights_count; i++) {
        printf("%-10s", ohm_weights_name[t->weights[i]]);
        for (int r = 0; r < t->r_count; r++) {
            char text[128] = "";
            for (int l = 0; l < limit->count; l++) {
                int largest = 0;
                for (int s = 0; s < t->size_count; s++)
                    if (100 * point_at(t, i, r, s)->mean <= limit->at[l])
                        largest = t->size[s];
                int used = (int)strlen(text);
                snprintf(text + used, sizeof text - (size_t)used, largest ? "%s%d" : "%s-",
                         l ? "  " : "", largest);
            }
            printf("%20s", text);
        }
        printf("\n");
    }
}

/* ---- files --------------------------------------------------------------------------------- */

static void print_csv(FILE *out, const table *t)
{
    fprintf(out, "weights,r_ohm,size,mean_loss,worst_loss\n");
    for (int i = 0; i < points_of(t); i++)
        fprintf(out, "%s,%.9g,%d,%.9g,%.9g\n", ohm_weights_name[t->point[i].weights],
                t->point[i].ohms, t->point[i].size, t->point[i].mean, t->point[i].worst);
}

/* JSON has no NaN: a point none of whose columns conducts has no loss. */
static const char *json_number(char text[32], double x)
{
    snprintf(text, 32, isfinite(x) ? "%.9g" : "null", x);
    return text;
}

static void print_json(FILE *out, const table *t)
{
    const ohm_wires *w = &t->sweep.wires;
    fprintf(
        out,
        "{\"g_max_s\": %.9g, \"g_min_s\": %.9g, \"r_driver_ohm\": %.9g, \"r_sense_ohm\": %.9g,\n"
        " \"drive\": \"%s\", \"sense\": \"%s\", \"tiles\": %d, \"seed\": \"%u\",\n \"points\": [",
        t->sweep.g_max, t->sweep.g_max / t->sweep.on_off, w->driver, w->sense,
        w->drive_both ? "both_ends" : "one_end", w->sense_both ? "both_ends" : "one_end",
        t->sweep.tiles, t->sweep.seed);
    for (int i = 0; i < points_of(t); i++) {
        char mean[32], worst[32];
        fprintf(out,
                "%s\n  {\"weights\": \"%s\", \"r_ohm\": %.9g, \"size\": %d, \"mean_loss\": %s, "
                "\"worst_loss\": %s}",
                i ? "," : "", ohm_weights_name[t->point[i].weights], t->point[i].ohms,
                t->point[i].size, json_number(mean, t->point[i].mean),
                json_number(worst, t->point[i].worst));
    }
    fprintf(out, "]}\n");
}

static int is_json(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && !strcmp(path + n - 5, ".json");
}

static ohm_status check_name(const char *path)
{
    size_t n = strlen(path);
    if (n == 0 || is_json(path) || (n > 4 && !strcmp(path + n - 4, ".csv")))
        return OHM_OK;
    return OHM_FAIL(OHM_ERR_CONFIG, "--out '%.200s': a table's name ends in .csv or .json", path);
}

static ohm_status write_table(const table *t, const char *path)
{
    ohm_file_text text;
    OHM_TRY(ohm_file_text_open(&text, path));
    (is_json(path) ? print_json : print_csv)(text.stream, t);
    return ohm_file_text_write(&text, path);
}

/* ---- the picture --------------------------------------------------------------------------- */

/* A panel per distribution; a curve of the mean per wire, the worst column dashed beside it. */
typedef struct {
    double x[LIST], y[OHM_WEIGHTS_COUNT][2 * LIST][LIST];
    char name[LIST][32], title[OHM_WEIGHTS_COUNT][64];
    ohm_plot_series series[OHM_WEIGHTS_COUNT][2 * LIST];
    ohm_plot_panel panel[OHM_WEIGHTS_COUNT];
} picture;

static void fill_panel(picture *p, const table *t, int i)
{
    int lost = 0; /* wires without resistance alone: a curve of zeros, which no logarithm has */
    for (int k = 0; k < t->r_count * t->size_count; k++)
        lost |= point_at(t, i, k / t->size_count, k % t->size_count)->worst > 0.0;
    for (int r = 0; r < t->r_count; r++)
        for (int worst = 0; worst < 2; worst++) {
            double *y = p->y[i][2 * r + worst];
            for (int s = 0; s < t->size_count; s++) {
                const ohm_sweep_point *point = point_at(t, i, r, s);
                double loss = worst ? point->worst : point->mean;
                y[s] = loss > 0.0 || !lost ? 100 * loss : NAN; /* none on a logarithmic axis */
            }
            p->series[i][2 * r + worst] = (ohm_plot_series){
                .name = p->name[r], .points = t->size_count, .x = p->x, .y = y, .companion = worst};
        }
    snprintf(p->title[i], sizeof p->title[i], "%s weights", ohm_weights_name[t->weights[i]]);
    p->panel[i] = (ohm_plot_panel){.title = p->title[i],
                                   .x_label = "rows and columns of a tile",
                                   .y_label = "current lost (%): mean, dashed worst column",
                                   .log_x = 1,
                                   .log_y = lost,
                                   .y_most = 100,
                                   .legend = OHM_LEGEND_INSIDE_RIGHT_LOW,
                                   .count = 2 * t->r_count,
                                   .series = p->series[i]};
}

static ohm_status draw(const table *t, const char *path)
{
    picture *p = calloc(1, sizeof *p);
    if (!p)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for a figure");
    for (int s = 0; s < t->size_count; s++)
        p->x[s] = t->size[s];
    for (int r = 0; r < t->r_count; r++)
        snprintf(p->name[r], sizeof p->name[r], "%g ohm", t->r[r]);
    for (int i = 0; i < t->weights_count; i++)
        fill_panel(p, t, i);
    ohm_status status = ohm_plot_write(path, p->panel, t->weights_count);
    free(p);
    return status;
}

static ohm_status run(table *t, const ohm_crossbar_arguments *a)
{
    OHM_TRY(plan(t, a));
    OHM_TRY(ohm_sweep_run(t->point, points_of(t), &t->sweep));
    print_losses(t);
    print_choice(t, &a->limit);
    if (*a->out)
        OHM_TRY(write_table(t, a->out));
    return *a->plot ? draw(t, a->plot) : OHM_OK;
}

ohm_status ohm_crossbar_sweep(int argc, char **argv)
{
    ohm_crossbar_arguments a;
    table t = {0};
    int helped;
    OHM_TRY(ohm_crossbar_parse(&a, OHM_CROSSBAR_SWEEP, argc, argv, &helped));
    if (helped)
        return OHM_OK;
    OHM_TRY(check_name(a.out));
    if (*a.plot)
        OHM_TRY(ohm_plot_check_name(a.plot));
    ohm_status status = run(&t, &a);
    free(t.point);
    return status;
}
