#include "host/backend.h"
#include "host/cli/profile_report.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build_info.h"
#include "host/cli/plot.h"
#include "host/file.h"
#include "host/step.h"

static const double MIB = 1.0 / (1 << 20);

const char *ohm_profile_chip(const ohm_config *config)
{
    return config->hardware_enabled ? config->hardware.name : "none";
}

/* "cuda:0, NVIDIA H100, gemm tf32, mvm fp16": what the numbers hang on besides the network and the chip. */
static void describe_device(char *text, size_t room, const ohm_config *config)
{
    static const char *const gemm[] = {"fp32", "tf32", "bf16"}, *const mvm[] = {"fp32", "fp16"};
    size_t bytes, used;
    if (ohm_backend_describe(text, room, &bytes, config) != OHM_OK)
        snprintf(text, room, "cpu");
    used = strlen(text);
    if (bytes)
        used += (size_t)snprintf(text + used, room - used, ", gemm %s", gemm[config->train.gemm]);
    if (config->hardware_enabled && used < room)
        snprintf(text + used, room - used, ", mvm %s", mvm[config->hardware.mvm.precision]);
}

static const ohm_profile *result_at(const ohm_profile_report *r, int batch, int mode)
{
    return &r->result[batch * r->modes + mode];
}

/* ---- the table ----------------------------------------------------------------------------- */

/* The first measured mode of a batch, to which the others are ratios; NULL: none was. */
static const ohm_profile *base_of(const ohm_profile_report *r, int batch)
{
    for (int m = 0; m < r->modes; m++)
        if (!*result_at(r, batch, m)->refused)
            return result_at(r, batch, m);
    return NULL;
}

static void print_share(double share)
{
    if (isfinite(share))
        printf(" %7.0f %%", 100.0 * share);
    else
        printf(" %9s", "n/a");
}

static void print_row(const ohm_profile *p, const ohm_profile *base, const char *mode)
{
    if (*p->refused) {
        printf("%-10s not available: %s\n", mode, p->refused);
        return;
    }
    double seconds = ohm_profile_median(p), planned = (double)p->plan.reserved;
    printf("%-10s %9.4f %9.4f %9.4f %6.2f | %9.1f %9.1f %6.2f |", mode, seconds, p->seconds[0],
           p->seconds[p->steps - 1], seconds / ohm_profile_median(base), planned * MIB,
           p->average_total * MIB, planned / (double)base->plan.reserved);
    if (isfinite(p->seen))
        printf(" %9.1f %7.3f |", p->seen * MIB, p->seen / planned);
    else
        printf(" %9s %7s |", "n/a", "n/a");
    print_share(p->cpu);
    print_share(p->gpu);
    printf("\n");
}

static void print_categories(const ohm_profile_report *r, int batch)
{
    printf("\n%-22s", "peak / mean MiB");
    for (int m = 0; m < r->modes; m++)
        printf(" %17s", ohm_variant_name(r->mode[m]));
    for (int c = 0; c < OHM_MEMORY_CATEGORIES; c++) {
        printf("\n%-22s", ohm_memory_name(c));
        for (int m = 0; m < r->modes; m++) {
            const ohm_profile *p = result_at(r, batch, m);
            if (*p->refused)
                printf(" %17s", "-");
            else
                printf(" %8.1f %8.1f", (double)p->plan.peak[c] * MIB, p->average[c] * MIB);
        }
    }
    printf("\n");
}

void ohm_profile_print(const ohm_profile_report *r)
{
    const ohm_config *config = &r->experiment->config;
    char device[320];
    describe_device(device, sizeof device, config);
    for (int b = 0; b < r->batches; b++) {
        const ohm_profile *base = base_of(r, b);
        printf("%s%s, batch %d, chip %s, %s, %d threads; %d steps each, %s\n", b ? "\n" : "",
               r->experiment->architecture.name, r->batch[b], ohm_profile_chip(config), device,
               omp_get_max_threads(), r->steps,
               r->together ? "in turns" : "one mode after the other");
        printf("%-10s %9s %9s %9s %6s | %9s %9s %6s | %9s %7s | %9s %9s\n", "mode", "s/step", "min",
               "max", "ratio", "peak MiB", "mean MiB", "ratio", "seen MiB", "of plan", "CPU",
               "GPU");
        for (int m = 0; m < r->modes; m++)
            print_row(result_at(r, b, m), base, ohm_variant_name(r->mode[m]));
        print_categories(r, b);
    }
    printf("\ns/step    median; ratio: to the first row\n"
           "peak      what the plan reserves; mean: of what is live, over the time of a step\n"
           "seen      growth of the process's resident peak, or of a device's memory in use, over the "
           "reservation and the first steps\n"
           "CPU, GPU  share of the host threads' time that was computed in; utilisation by NVML (n/a: "
           "not available)\n");
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static void add_share(cJSON *object, const char *name, double value)
{
    if (isfinite(value))
        cJSON_AddNumberToObject(object, name, value);
    else
        cJSON_AddNullToObject(object, name);
}

static void add_categories(cJSON *object, const ohm_profile *p)
{
    cJSON *all = cJSON_AddObjectToObject(object, "categories");
    for (int c = 0; c < OHM_MEMORY_CATEGORIES; c++) {
        cJSON *one = cJSON_AddObjectToObject(all, ohm_memory_name(c));
        cJSON_AddNumberToObject(one, "peak_bytes", (double)p->plan.peak[c]);
        cJSON_AddNumberToObject(one, "mean_bytes", round(p->average[c]));
    }
}

static void add_points(cJSON *object, const ohm_profile *p)
{
    cJSON *points = cJSON_AddArrayToObject(object, "memory_over_step");
    for (int i = 0; i < p->points; i++) {
        const double point[2] = {p->at_ms[i], p->live_mib[i]};
        cJSON_AddItemToArray(points, cJSON_CreateDoubleArray(point, 2));
    }
}

static cJSON *result_json(const ohm_profile *p, int batch, const char *mode)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "batch", batch);
    cJSON_AddStringToObject(o, "mode", mode);
    if (*p->refused) {
        cJSON_AddStringToObject(o, "not_available", p->refused);
        return o;
    }
    cJSON_AddNumberToObject(o, "seconds_median", ohm_profile_median(p));
    cJSON_AddItemToObject(o, "seconds", cJSON_CreateDoubleArray(p->seconds, p->steps));
    cJSON_AddNumberToObject(o, "planned_peak_bytes", (double)p->plan.reserved);
    cJSON_AddNumberToObject(o, "live_peak_bytes", (double)p->plan.peak_total);
    cJSON_AddNumberToObject(o, "mean_bytes", round(p->average_total));
    add_share(o, "measured_peak_bytes", p->seen);
    add_categories(o, p);
    add_share(o, "cpu_utilisation", p->cpu);
    add_share(o, "gpu_utilisation", p->gpu);
    add_points(o, p);
    return o;
}

ohm_status ohm_profile_write_json(const ohm_profile_report *r, const char *path)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "network", r->experiment->architecture.name);
    cJSON_AddStringToObject(json, "hardware", ohm_profile_chip(&r->experiment->config));
    char device[320];
    describe_device(device, sizeof device, &r->experiment->config);
    cJSON_AddStringToObject(json, "device", device);
    cJSON_AddNumberToObject(json, "threads", omp_get_max_threads());
    cJSON_AddStringToObject(json, "commit", OHM_COMMIT);
    cJSON_AddNumberToObject(json, "steps", r->steps);
    cJSON_AddBoolToObject(json, "in_turns", r->together);
    cJSON *results = cJSON_AddArrayToObject(json, "results");
    for (int b = 0; b < r->batches; b++)
        for (int m = 0; m < r->modes; m++)
            cJSON_AddItemToArray(
                results, result_json(result_at(r, b, m), r->batch[b], ohm_variant_name(r->mode[m])));
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    if (!text)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for %s", path);
    const ohm_file_part parts[] = {{text, strlen(text)}, {"\n", 1}};
    ohm_status status = ohm_file_write_atomic(path, parts, 2);
    cJSON_free(text);
    return status;
}

/* ---- the figure ---------------------------------------------------------------------------- */

/* Stairs: what is live stays until the next point. */
static ohm_status make_stairs(ohm_plot_series *series, const ohm_profile *p, const char *name)
{
    size_t room = (size_t)(p->points > 0 ? 2 * p->points : 1);
    double *x = malloc(2 * room * sizeof *x), *y = x + room;
    if (!x)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for a figure");
    int at = 0;
    for (int i = 0; i < p->points; i++) {
        if (i) {
            x[at] = p->at_ms[i];
            y[at++] = p->live_mib[i - 1];
        }
        x[at] = p->at_ms[i];
        y[at++] = p->live_mib[i];
    }
    *series = (ohm_plot_series){.name = name, .points = at, .x = x, .y = y};
    return OHM_OK;
}

static ohm_status make_panel(ohm_plot_panel *panel, ohm_plot_series *series, char *title,
                             size_t bytes, const ohm_profile_report *r, int batch)
{
    int count = 0;
    snprintf(title, bytes, "%s, batch %d", r->experiment->architecture.name, r->batch[batch]);
    for (int m = 0; m < r->modes; m++)
        if (!*result_at(r, batch, m)->refused)
            OHM_TRY(make_stairs(&series[count++], result_at(r, batch, m),
                                ohm_variant_name(r->mode[m])));
    *panel = (ohm_plot_panel){.title = title,
                              .x_label = "time within a training step (ms)",
                              .y_label = "live memory (MiB)",
                              .legend = batch ? OHM_LEGEND_NONE : OHM_LEGEND_OUTSIDE,
                              .count = count,
                              .series = series};
    return OHM_OK;
}

ohm_status ohm_profile_draw(const ohm_profile_report *r, const char *path)
{
    ohm_plot_panel panel[OHM_PROFILE_BATCHES_MAX];
    char title[OHM_PROFILE_BATCHES_MAX][128];
    ohm_status status = OHM_OK;
    size_t all = (size_t)r->batches * (size_t)r->modes;
    ohm_plot_series *series = calloc(all, sizeof *series);
    if (!series)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for %s", path);
    for (int b = 0; b < r->batches && status == OHM_OK; b++)
        status = make_panel(&panel[b], series + (size_t)b * (size_t)r->modes, title[b],
                            sizeof title[b], r, b);
    if (status == OHM_OK)
        status = ohm_plot_optional(ohm_plot_write(path, panel, r->batches));
    for (size_t i = 0; i < all; i++)
        free((double *)series[i].x);
    free(series);
    return status;
}

ohm_status ohm_profile_write_trace(const ohm_profile_report *r, const char *path)
{
    enum { TRACKS = OHM_PROFILE_BATCHES_MAX * OHM_VARIANTS };
    ohm_trace_track track[TRACKS];
    char name[TRACKS][64];
    int count = 0;
    for (int b = 0; b < r->batches; b++)
        for (int m = 0; m < r->modes; m++) {
            const ohm_profile *p = result_at(r, b, m);
            if (*p->refused)
                continue;
            snprintf(name[count], sizeof name[count], "%s, batch %d", ohm_variant_name(r->mode[m]),
                     r->batch[b]);
            track[count] = (ohm_trace_track){name[count], p->trace};
            count++;
        }
    return ohm_trace_write(path, track, count);
}
