#include "host/gradients.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/checkpoint.h"
#include "host/step.h"

const char *ohm_measure_name(int measure)
{
    static const char *const name[OHM_MEASURES] = {
        "cosine",          "norm_ratio", "ste_variance",     "full_variance",     "ste_relative",
        "full_relative",   "bias",       "ste_clean_cosine", "full_clean_cosine", "ste_clean_ratio",
        "full_clean_ratio"};
    return name[measure];
}

/* ---- one group, one batch ------------------------------------------------------------------ */

struct ohm_gradient_tally {
    size_t count;
    int draws;
    double *ste, *full;              /* [count] sums over draws */
    double ste2, full2, difference2; /* sums of squared norms */
    double cosine, ratio, ste_cosine, full_cosine, ste_ratio, full_ratio; /* sums over draws */
};

ohm_gradient_tally *ohm_gradient_tally_new(size_t count)
{
    ohm_gradient_tally *tally = calloc(1, sizeof *tally);
    if (!tally)
        return NULL;
    tally->count = count;
    tally->ste = calloc(count + 1, sizeof *tally->ste);
    tally->full = calloc(count + 1, sizeof *tally->full);
    if (tally->ste && tally->full)
        return tally;
    ohm_gradient_tally_free(tally);
    return NULL;
}

void ohm_gradient_tally_free(ohm_gradient_tally *tally)
{
    if (!tally)
        return;
    free(tally->ste);
    free(tally->full);
    free(tally);
}

void ohm_gradient_tally_clear(ohm_gradient_tally *tally)
{
    double *ste = tally->ste, *full = tally->full;
    memset(ste, 0, tally->count * sizeof *ste);
    memset(full, 0, tally->count * sizeof *full);
    *tally = (ohm_gradient_tally){.count = tally->count, .ste = ste, .full = full};
}

void ohm_gradient_tally_add(ohm_gradient_tally *tally, const float *ste, const float *full,
                            const float *clean)
{
    double ss = 0, ff = 0, cc = 0, sf = 0, sc = 0, fc = 0, dd = 0;
    for (size_t i = 0; i < tally->count; i++) {
        double s = ste[i], f = full[i], c = clean[i];
        tally->ste[i] += s;
        tally->full[i] += f;
        ss += s * s;
        ff += f * f;
        cc += c * c;
        sf += s * f;
        sc += s * c;
        fc += f * c;
        dd += (s - f) * (s - f);
    }
    tally->draws++;
    tally->ste2 += ss;
    tally->full2 += ff;
    tally->difference2 += dd;
    tally->cosine += sf / sqrt(ss * ff);
    tally->ratio += sqrt(ss / ff);
    tally->ste_cosine += sc / sqrt(ss * cc);
    tally->full_cosine += fc / sqrt(ff * cc);
    tally->ste_ratio += sqrt(ss / cc);
    tally->full_ratio += sqrt(ff / cc);
}

/* Unbiased variance, summed over coordinates, of draws whose squared norms sum to `squares` and whose
 * mean has the squared norm `mean2`; rounding must not make it negative. */
static double variance(double squares, double mean2, int draws)
{
    return fmax((squares - draws * mean2) / (draws - 1), 0.0);
}

void ohm_gradient_tally_read(const ohm_gradient_tally *tally, double measure[OHM_MEASURES])
{
    double n = tally->draws, ste2 = 0, full2 = 0, difference2 = 0;
    for (size_t i = 0; i < tally->count; i++) {
        double s = tally->ste[i] / n, f = tally->full[i] / n;
        ste2 += s * s;
        full2 += f * f;
        difference2 += (s - f) * (s - f);
    }
    double ste = variance(tally->ste2, ste2, tally->draws);
    double full = variance(tally->full2, full2, tally->draws);
    double bias2 = difference2 - variance(tally->difference2, difference2, tally->draws) / n;
    measure[OHM_MEASURE_COSINE] = tally->cosine / n;
    measure[OHM_MEASURE_NORM_RATIO] = tally->ratio / n;
    measure[OHM_MEASURE_STE_VARIANCE] = ste;
    measure[OHM_MEASURE_FULL_VARIANCE] = full;
    measure[OHM_MEASURE_STE_RELATIVE] = ste / (tally->ste2 / n);
    measure[OHM_MEASURE_FULL_RELATIVE] = full / (tally->full2 / n);
    measure[OHM_MEASURE_BIAS] = sqrt(fmax(bias2, 0.0) / (tally->full2 / n));
    measure[OHM_MEASURE_STE_CLEAN_COSINE] = tally->ste_cosine / n;
    measure[OHM_MEASURE_FULL_CLEAN_COSINE] = tally->full_cosine / n;
    measure[OHM_MEASURE_STE_CLEAN_RATIO] = tally->ste_ratio / n;
    measure[OHM_MEASURE_FULL_CLEAN_RATIO] = tally->full_ratio / n;
}

/* ---- the report ---------------------------------------------------------------------------- */

void ohm_gradient_report_free(ohm_gradient_report *report)
{
    if (!report)
        return;
    free(report->level);
    free(report->group);
    free(report->estimate);
    *report = (ohm_gradient_report){0};
}

static ohm_estimate *estimates_of(const ohm_gradient_report *report, int level, int group)
{
    return report->estimate +
           ((size_t)level * (size_t)report->groups + (size_t)group) * OHM_MEASURES;
}

const ohm_estimate *ohm_gradient_at(const ohm_gradient_report *report, int level, int group)
{
    return estimates_of(report, level, group);
}

/* ---- the measurement ----------------------------------------------------------------------- */

/* A group's place in the flat vector of all trained parameters. */
typedef struct {
    size_t first, count;
    ohm_gradient_tally *tally;
} span;

typedef struct {
    ohm_gradient_report *report;
    ohm_network *network;
    const ohm_config *config;
    const ohm_dataset *images;
    const ohm_gradient_job *job;
    ohm_parameter *parameter;
    int parameters;
    size_t trained, kept;          /* floats of the gradient, and of all that a pass may change */
    float *start;                  /* [kept] as the caller gave them */
    float *calibrated;             /* [kept] with the ranges of the present level */
    float *ste, *full, *clean;     /* [trained] gradients of one sample */
    double (*batch)[OHM_MEASURES]; /* [groups][batches] */
    uint32_t *order;               /* [images->count] */
    span *span;                    /* [groups] */
    int64_t done;
} measurement;

static ohm_status check_job(const ohm_config *config, const ohm_dataset *images,
                            const ohm_gradient_job *job)
{
    if (job->batches < 2 || job->draws < 2)
        return OHM_FAIL(OHM_ERR_ARGUMENT,
                        "%d batches and %d draws; give at least 2 of each, or nothing can be said "
                        "about their spread",
                        job->batches, job->draws);
    if (job->levels < 1)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "no noise level to measure at; give at least one");
    for (int i = 0; i < job->levels; i++)
        if (!(job->level[i] >= 0 && job->level[i] <= 1e3))
            return OHM_FAIL(OHM_ERR_ARGUMENT, "noise level %g is not 0 to 1000", job->level[i]);
    if (!config->hardware_enabled)
        return OHM_FAIL(OHM_ERR_CONFIG,
                        "this experiment has no chip, so every gradient is the clean "
                        "one; set hardware=NAME");
    if ((int64_t)job->batches * config->train.batch > images->count)
        return OHM_FAIL(OHM_ERR_CONFIG,
                        "%d batches of %d images (train.batch) are more than the %d training "
                        "images; lower one of them",
                        job->batches, config->train.batch, images->count);
    return OHM_OK;
}

static int is_matrix_weight(const ohm_parameter *p)
{
    return p->trainable && p->rank >= 2;
}

static void count_parameters(measurement *m)
{
    m->parameter = ohm_network_parameters(m->network, &m->parameters);
    m->report->groups = 1;
    for (int i = 0; i < m->parameters; i++) {
        m->kept += m->parameter[i].count;
        m->trained += m->parameter[i].gradient ? m->parameter[i].count : 0;
        m->report->groups += is_matrix_weight(&m->parameter[i]);
    }
}

static ohm_status name_groups(measurement *m)
{
    int group = 0;
    size_t first = 0;
    for (int i = 0; i < m->parameters; i++) {
        const ohm_parameter *p = &m->parameter[i];
        if (is_matrix_weight(p)) {
            char *name = m->report->group[group], *dot;
            snprintf(name, OHM_LAYER_NAME_BYTES, "%s", p->name);
            dot = strrchr(name, '.');
            if (dot)
                *dot = 0;
            m->span[group++] = (span){first, p->count, NULL};
        }
        first += p->gradient ? p->count : 0;
    }
    snprintf(m->report->group[group], OHM_LAYER_NAME_BYTES, "all");
    m->span[group] = (span){0, m->trained, NULL};
    for (int g = 0; g < m->report->groups; g++)
        if (!(m->span[g].tally = ohm_gradient_tally_new(m->span[g].count)))
            return OHM_FAIL(OHM_ERR_MEMORY, "no memory for gradients of %zu numbers", m->trained);
    return OHM_OK;
}

static ohm_status prepare(measurement *m)
{
    ohm_gradient_report *r = m->report;
    count_parameters(m);
    size_t groups = (size_t)r->groups, levels = (size_t)m->job->levels;
    r->levels = m->job->levels;
    r->level = malloc(levels * sizeof *r->level);
    r->group = calloc(groups, sizeof *r->group);
    r->estimate = calloc(levels * groups * OHM_MEASURES, sizeof *r->estimate);
    m->start = malloc((m->kept + 1) * sizeof *m->start);
    m->calibrated = malloc((m->kept + 1) * sizeof *m->calibrated);
    m->ste = malloc((m->trained + 1) * sizeof *m->ste);
    m->full = malloc((m->trained + 1) * sizeof *m->full);
    m->clean = malloc((m->trained + 1) * sizeof *m->clean);
    m->batch = malloc(groups * (size_t)m->job->batches * sizeof *m->batch);
    m->order = malloc((size_t)m->images->count * sizeof *m->order);
    m->span = calloc(groups, sizeof *m->span);
    if (!r->level || !r->group || !r->estimate || !m->start || !m->calibrated || !m->ste ||
        !m->full || !m->clean || !m->batch || !m->order || !m->span)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for gradients of %zu numbers", m->trained);
    memcpy(r->level, m->job->level, levels * sizeof *r->level);
    ohm_dataset_order(m->order, m->images->count, (uint32_t)m->config->seed, 0);
    return name_groups(m);
}

static void release(measurement *m)
{
    for (int g = 0; m->span && g < m->report->groups; g++)
        ohm_gradient_tally_free(m->span[g].tally);
    free(m->span);
    free(m->order);
    free(m->batch);
    free(m->clean);
    free(m->full);
    free(m->ste);
    free(m->calibrated);
    free(m->start);
}

static ohm_status keep(const measurement *m, float *to)
{
    for (int i = 0; i < m->parameters; to += m->parameter[i++].count)
        OHM_TRY(ohm_network_read(m->network, to, m->parameter[i].value, m->parameter[i].count));
    return OHM_OK;
}

static ohm_status restore(const measurement *m, const float *from)
{
    for (int i = 0; i < m->parameters; from += m->parameter[i++].count)
        OHM_TRY(ohm_network_write(m->network, m->parameter[i].value, from, m->parameter[i].count));
    return OHM_OK;
}

static ohm_status forget_ranges(const measurement *m)
{
    for (int i = 0; i < m->parameters; i++) {
        const ohm_parameter *p = &m->parameter[i];
        if (p->trainable || !ohm_checkpoint_of_chip(p->name))
            continue;
        float *zero = calloc(p->count, sizeof *zero);
        if (!zero)
            return OHM_FAIL(OHM_ERR_MEMORY, "no memory for the ranges of %s", p->name);
        ohm_status status = ohm_network_write(m->network, p->value, zero, p->count);
        free(zero);
        OHM_TRY(status);
    }
    return OHM_OK;
}

/* One batch in the given mode; without `gradient` forward only, for calibration. */
static ohm_status run_batch(measurement *m, float *gradient, int mode, int batch, int draw)
{
    ohm_pass pass = {.images = ohm_step_images(m->config),
                     .mode = mode,
                     .training = 1,
                     .calibrating = !gradient,
                     .moment = {.seed = (uint32_t)m->config->seed,
                                .chip = (uint32_t)draw,
                                .step = (uint32_t)batch,
                                .time_s = m->config->hardware.retention.time_s}};
    const uint32_t *indices = m->order + (size_t)batch * (size_t)m->config->train.batch;
    double loss;
    int correct;
    ohm_network_zero_gradients(m->network);
    for (int first = 0; first < m->config->train.batch; first += pass.images) {
        ohm_dataset_batch(ohm_network_images(m->network), ohm_network_labels(m->network), m->images,
                          indices + first, pass.images, NULL);
        pass.first_image = (uint64_t)first;
        OHM_TRY(ohm_network_forward(m->network, &pass));
        if (!gradient)
            continue;
        OHM_TRY(ohm_network_loss(m->network, &pass, m->config->train.batch, &loss, &correct));
        OHM_TRY(ohm_network_backward(m->network, &pass));
    }
    for (int i = 0; gradient && i < m->parameters; i++)
        if (m->parameter[i].gradient) {
            OHM_TRY(ohm_network_read(m->network, gradient, m->parameter[i].gradient,
                                     m->parameter[i].count));
            gradient += m->parameter[i].count;
        }
    return OHM_OK;
}

/* Every pass starts from the same ranges and statistics, so that modes and draws are comparable. */
static ohm_status gradient_of(measurement *m, float *gradient, int mode, int batch, int draw)
{
    OHM_TRY(restore(m, m->calibrated));
    return run_batch(m, gradient, mode, batch, draw);
}

static ohm_status set_level(measurement *m, double level)
{
    ohm_hardware hardware = m->config->hardware;
    hardware.programming.level = level;
    OHM_TRY(ohm_network_set_hardware(m->network, &hardware));
    OHM_TRY(restore(m, m->start));
    OHM_TRY(forget_ranges(m));
    int batches = m->images->count / m->config->train.batch;
    for (int b = 0; b < m->config->train.calibration_batches && b < batches; b++)
        OHM_TRY(run_batch(m, NULL, OHM_MODE_NOGRAD, b, 0));
    return keep(m, m->calibrated);
}

static ohm_status measure_batch(measurement *m, int batch)
{
    int groups = m->report->groups;
    int64_t total = (int64_t)m->job->levels * m->job->batches * m->job->draws;
    for (int g = 0; g < groups; g++)
        ohm_gradient_tally_clear(m->span[g].tally);
    OHM_TRY(gradient_of(m, m->clean, OHM_MODE_BASELINE, batch, 0));
    for (int draw = 0; draw < m->job->draws; draw++) {
        OHM_TRY(gradient_of(m, m->ste, OHM_MODE_NOGRAD, batch, draw));
        OHM_TRY(gradient_of(m, m->full, OHM_MODE_FULL, batch, draw));
        for (int g = 0; g < groups; g++) {
            size_t first = m->span[g].first;
            ohm_gradient_tally_add(m->span[g].tally, m->ste + first, m->full + first,
                                   m->clean + first);
        }
        m->done++;
        if (m->job->on_sample)
            m->job->on_sample(m->job->context, m->done, total);
    }
    for (int g = 0; g < groups; g++)
        ohm_gradient_tally_read(m->span[g].tally, m->batch[g * m->job->batches + batch]);
    return OHM_OK;
}

static ohm_estimate estimate_of(double (*batch)[OHM_MEASURES], int batches, int measure)
{
    double mean = 0, squares = 0;
    for (int b = 0; b < batches; b++)
        mean += batch[b][measure] / batches;
    for (int b = 0; b < batches; b++)
        squares += (batch[b][measure] - mean) * (batch[b][measure] - mean);
    return (ohm_estimate){mean, sqrt(squares / (batches - 1) / batches)};
}

static ohm_status measure_level(measurement *m, int level)
{
    OHM_TRY(set_level(m, m->job->level[level]));
    for (int b = 0; b < m->job->batches; b++)
        OHM_TRY(measure_batch(m, b));
    for (int g = 0; g < m->report->groups; g++)
        for (int i = 0; i < OHM_MEASURES; i++)
            estimates_of(m->report, level, g)[i] =
                estimate_of(m->batch + g * m->job->batches, m->job->batches, i);
    return OHM_OK;
}

/* The network as it came; an earlier failure stays the one that is told. */
static ohm_status put_back(measurement *m, ohm_status status)
{
    const ohm_status restored = restore(m, m->start);
    ohm_network_zero_gradients(m->network);
    if (status == OHM_OK)
        status = restored;
    return status == OHM_OK ? ohm_network_set_hardware(m->network, &m->config->hardware) : status;
}

ohm_status ohm_gradients_measure(ohm_gradient_report *report, ohm_network *network,
                                 const ohm_config *config, const ohm_dataset *images,
                                 const ohm_gradient_job *job)
{
    measurement m = {
        .report = report, .network = network, .config = config, .images = images, .job = job};
    *report = (ohm_gradient_report){0};
    OHM_TRY(check_job(config, images, job));
    ohm_status status = prepare(&m);
    if (status == OHM_OK) {
        status = keep(&m, m.start);
        for (int level = 0; level < job->levels && status == OHM_OK; level++) {
            status = measure_level(&m, level);
            if (status != OHM_OK)
                ohm_error_prefix(status, "noise level %g", job->level[level]);
        }
        status = put_back(&m, status);
    }
    release(&m);
    if (status != OHM_OK)
        ohm_gradient_report_free(report);
    return status;
}
