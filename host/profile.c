#include "host/profile.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/backend.h"
#include "host/nvml.h"
#include "host/plan.h"
#include "host/progress.h"
#include "host/step.h"
#include "kernels/gemm.h"

enum { WARM = 512 };
static const double MIB = 1.0 / (1 << 20), RATE = 1e-4;

/* One job at work. */
typedef struct {
    const ohm_profile_job *job;
    ohm_profile *result;
    ohm_network *network;
    int64_t step;
    int on_device;
    double cpu_seconds, wall_seconds, gpu_sum;
    int gpu_count;
} worker;

/* ---- what the system says ------------------------------------------------------------------ */

/* Peak of resident memory in bytes; NaN when the system does not say. */
static double resident_peak(void)
{
    char line[128];
    double bytes = NAN;
    unsigned long long kib;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %llu kB", &kib) == 1)
            bytes = (double)kib * 1024.0;
    if (file)
        fclose(file);
    return bytes;
}

/* Lowers the peak to what is resident now; 0: the system cannot. */
static int reset_resident_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (!file)
        return 0;
    int written = fputs("5", file) >= 0;
    return fclose(file) == 0 && written;
}

static double cpu_clock(void)
{
    struct timespec t;
    return clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0
               ? (double)t.tv_sec + 1e-9 * (double)t.tv_nsec
               : 0.0;
}

/* ---- one job ------------------------------------------------------------------------------- */

static void fill(void *context, int first, int images, int64_t step)
{
    const worker *w = context;
    const ohm_architecture *a = w->job->architecture;
    size_t pixels = (size_t)a->height * (size_t)a->width * (size_t)a->channels;
    float *x = ohm_network_images(w->network);
    uint32_t state = (uint32_t)first * 2654435761u + (uint32_t)step + 1;
    for (size_t i = 0; i < (size_t)images * pixels; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)state * 0x1p-31f;
    }
    for (int i = 0; i < images; i++)
        ohm_network_labels(w->network)[i] = (first + i) % a->classes;
}

/* `name`: of its range, by which profiling/nsys.sh finds the timed ones. */
static ohm_status take_step(worker *w, const char *name)
{
    const ohm_step step = {.network = w->network,
                           .config = &w->job->config,
                           .trace = w->result->trace,
                           .name = name,
                           .fill = fill,
                           .context = w,
                           .ahead = 1};
    double loss;
    int correct;
    return ohm_step_run(&step, w->step++, RATE, &loss, &correct);
}

static ohm_status create(worker *w, int images)
{
    const ohm_network_options options = {.max_batch = images, .training = 1};
    w->step = 0;
    ohm_status status =
        ohm_network_create(&w->network, w->job->architecture, &w->job->config, &options);
    if (status == OHM_ERR_MEMORY)
        return ohm_plan_refused(w->job->architecture, &w->job->config, 0);
    OHM_TRY(status);
    ohm_network_set_trace(w->network, w->result->trace);
    return OHM_OK;
}

/* A step on one image: code, threads and libraries are in memory before it is looked at. */
static ohm_status warm_up(worker *w)
{
    worker small = *w;
    ohm_profile_job job = *w->job;
    ohm_profile unused = {0};
    job.config.train.batch = 1;
    job.config.train.micro_batch = 0;
    small.job = &job;
    small.result = &unused;
    OHM_TRY(create(&small, 1));
    ohm_status status = take_step(&small, NULL);
    ohm_network_destroy(small.network);
    return status;
}

static ohm_status warm_up_blas(void)
{
    float *x = calloc(3 * WARM * WARM, sizeof *x);
    if (!x)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory to warm up");
    ohm_gemm_forward_cpu(x, WARM, x + WARM * WARM, WARM, x + 2 * WARM * WARM, WARM, WARM, WARM,
                         WARM, 0);
    free(x);
    return OHM_OK;
}

/* The network and its first step, which touches all of the memory; on a device also the second, which is
 * recorded. */
static ohm_status begin(worker *w)
{
    OHM_TRY(create(w, ohm_step_images(&w->job->config)));
    OHM_TRY(take_step(w, NULL));
    return w->on_device ? take_step(w, NULL) : OHM_OK;
}

/* What `begin` makes the system give: of a device's memory, or of resident memory. */
static ohm_status start(worker *w)
{
    const ohm_config *config = &w->job->config;
    const ohm_backend *backend;
    size_t before = 0, after = 0;
    OHM_TRY(ohm_backend_find(&backend, config));
    w->on_device = backend->open != NULL;
    OHM_TRY(warm_up(w));
    OHM_TRY(ohm_trace_create(&w->result->trace));
    int resets = !w->on_device && reset_resident_peak();
    double resident = resident_peak();
    if (w->on_device)
        OHM_TRY(ohm_backend_available(&before, config));
    OHM_TRY(begin(w));
    if (w->on_device)
        OHM_TRY(ohm_backend_available(&after, config));
    w->result->seen = w->on_device ? (double)before - (double)after
                      : resets     ? resident_peak() - resident
                                   : NAN;
    w->result->plan = *ohm_network_memory(w->network);
    return OHM_OK;
}

static ohm_status timed_step(worker *w, ohm_nvml *nvml)
{
    double wall = ohm_progress_clock(), cpu = cpu_clock();
    OHM_TRY(take_step(w, "timed step"));
    wall = ohm_progress_clock() - wall;
    w->cpu_seconds += cpu_clock() - cpu;
    w->wall_seconds += wall;
    w->result->seconds[w->result->steps++] = wall;
    double gpu = ohm_nvml_utilisation(nvml);
    if (isfinite(gpu)) {
        w->gpu_sum += gpu;
        w->gpu_count++;
    }
    return OHM_OK;
}

/* ---- memory over a step -------------------------------------------------------------------- */

static int last_step(const ohm_trace_event *event, int count)
{
    int at = count - 1;
    while (at > 0 && event[at].level != OHM_TRACE_STEP)
        at--;
    return at;
}

static void add_point(ohm_profile *p, double at_ms, size_t live)
{
    p->at_ms[p->points] = at_ms;
    p->live_mib[p->points++] = (double)live * MIB;
}

/* From the ticks of the last recorded step: what lives from each on, and its mean over time. */
static ohm_status follow_memory(worker *w)
{
    ohm_profile *p = w->result;
    int count;
    const ohm_trace_event *event = ohm_trace_events(p->trace, &count);
    int first = last_step(event, count);
    size_t live[OHM_MEMORY_CATEGORIES], room = (size_t)(count - first) + 2;
    p->at_ms = malloc(room * sizeof *p->at_ms);
    p->live_mib = malloc(room * sizeof *p->live_mib);
    if (!p->at_ms || !p->live_mib)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for %zu points", room);
    const int64_t zero = event[first].begin_ns, end = event[first].end_ns;
    int64_t since = zero;
    size_t total = ohm_network_live(w->network, 0, live);
    add_point(p, 0.0, total);
    for (int i = first; i <= count; i++) {
        if (i < count && event[i].tick < 0)
            continue;
        int64_t at = i < count ? event[i].begin_ns : end;
        double share = (double)(at - since) / (double)(end - zero);
        for (int c = 0; c < OHM_MEMORY_CATEGORIES; c++)
            p->average[c] += share * (double)live[c];
        p->average_total += share * (double)total;
        if (i < count)
            total = ohm_network_live(w->network, event[i].tick, live);
        add_point(p, (double)(at - zero) * 1e-6, total);
        since = at;
    }
    return OHM_OK;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static ohm_status finish(worker *w)
{
    ohm_profile *p = w->result;
    int traced = p->steps < OHM_PROFILE_TRACED_STEPS ? p->steps : OHM_PROFILE_TRACED_STEPS;
    OHM_TRY(ohm_trace_record(p->trace, traced));
    ohm_network_trace_steps(w->network, 1);
    for (int i = 0; i < traced; i++)
        OHM_TRY(take_step(w, NULL));
    ohm_trace_pause(p->trace);
    ohm_network_trace_steps(w->network, 0);
    OHM_TRY(follow_memory(w));
    qsort(p->seconds, (size_t)p->steps, sizeof *p->seconds, by_value);
    p->cpu = w->cpu_seconds / (w->wall_seconds * omp_get_max_threads());
    p->gpu = w->gpu_count ? w->gpu_sum / w->gpu_count : NAN;
    return OHM_OK;
}

/* Of the device that the jobs run on. */
static ohm_nvml *open_nvml(const ohm_profile_job *job)
{
    char address[32];
    ohm_backend_address(address, sizeof address, &job->config);
    return ohm_nvml_open(address);
}

/* ---- all jobs ------------------------------------------------------------------------------ */

/* A mode that is not supported gives its reason and takes no further part. */
static ohm_status start_or_refuse(worker *w)
{
    ohm_status status = start(w);
    if (status != OHM_ERR_UNSUPPORTED)
        return status;
    snprintf(w->result->refused, sizeof w->result->refused, "%s", ohm_error_text());
    ohm_network_destroy(w->network);
    w->network = NULL;
    return OHM_OK;
}

/* Jobs from .. to - 1 side by side. */
static ohm_status run_group(worker *all, int from, int to, int steps, ohm_nvml *nvml)
{
    ohm_status status = OHM_OK;
    for (int i = from; i < to && status == OHM_OK; i++)
        status = start_or_refuse(&all[i]);
    for (int step = 0; step < steps; step++)
        for (int i = from; i < to && status == OHM_OK; i++)
            if (all[i].network)
                status = timed_step(&all[i], nvml);
    for (int i = from; i < to; i++) {
        if (all[i].network && status == OHM_OK)
            status = finish(&all[i]);
        ohm_network_destroy(all[i].network);
        all[i].network = NULL;
    }
    return status;
}

ohm_status ohm_profile_run(ohm_profile *result, const ohm_profile_job *job, int count, int steps,
                           int together)
{
    if (steps < 1 || steps > OHM_PROFILE_STEPS_MAX)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "%d steps to measure; give 1..%d", steps,
                        OHM_PROFILE_STEPS_MAX);
    worker *all = calloc((size_t)count, sizeof *all);
    if (!all)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory to measure %d jobs", count);
    for (int i = 0; i < count; i++)
        all[i] = (worker){.job = &job[i], .result = &result[i]};
    ohm_nvml *nvml = open_nvml(job);
    ohm_status status = warm_up_blas();
    for (int i = 0, each = together ? count : 1; i < count && status == OHM_OK; i += each)
        status = run_group(all, i, i + each, steps, nvml);
    ohm_nvml_close(nvml);
    free(all);
    return status;
}

void ohm_profile_free(ohm_profile *result)
{
    ohm_trace_destroy(result->trace);
    free(result->at_ms);
    free(result->live_mib);
    *result = (ohm_profile){0};
}
