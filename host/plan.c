#include "host/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host/backend.h"
#include "host/evaluate.h"
#include "host/step.h"

enum { IMAGES_MOST = 1000000 };
static const double MIB = 1.0 / (1 << 20), KIB = 1.0 / (1 << 10);

typedef struct {
    char text[32];
} size_text;

static size_text in_words(size_t bytes)
{
    size_text s;
    int small = bytes < 1 << 20;
    snprintf(s.text, sizeof s.text, "%.1f %s", (double)bytes * (small ? KIB : MIB),
             small ? "KiB" : "MiB");
    return s;
}

/* Of control group version 2; SIZE_MAX: no limit, or none that can be read. */
static size_t group_limit(void)
{
    unsigned long long bytes;
    FILE *file = fopen("/sys/fs/cgroup/memory.max", "r");
    if (!file)
        return SIZE_MAX;
    int found = fscanf(file, "%llu", &bytes) == 1;
    fclose(file);
    return found ? (size_t)bytes : SIZE_MAX;
}

size_t ohm_plan_physical(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), each = sysconf(_SC_PAGESIZE);
    size_t all = pages > 0 && each > 0 ? (size_t)pages * (size_t)each : SIZE_MAX,
           group = group_limit();
    return group < all ? group : all;
}

ohm_status ohm_plan_limit(size_t *bytes, const ohm_config *config)
{
    char text[320];
    OHM_TRY(ohm_backend_describe(text, sizeof text, bytes, config));
    *bytes = *bytes ? *bytes : ohm_plan_physical();
    return OHM_OK;
}

ohm_status ohm_plan_make(ohm_plan *plan, const ohm_architecture *architecture,
                         const ohm_config *config, int images, int evaluates)
{
    const ohm_network_options options = {.max_batch = images, .training = 1};
    *plan = (ohm_plan){0};
    OHM_TRY(ohm_network_plan_memory(&plan->training, architecture, config, &options));
    if (evaluates)
        OHM_TRY(ohm_evaluator_bytes(&plan->evaluation, architecture, config));
    plan->total = plan->training.reserved + plan->evaluation;
    return OHM_OK;
}

/* *fits = 0 also where a buffer would be beyond any address space. */
static ohm_status try_images(int *fits, ohm_plan *plan, const ohm_architecture *architecture,
                             const ohm_config *config, int images, int evaluates, size_t limit)
{
    ohm_status status = ohm_plan_make(plan, architecture, config, images, evaluates);
    *fits = status == OHM_OK && plan->total <= limit;
    return status == OHM_ERR_MEMORY ? OHM_OK : status;
}

static int largest_category(const ohm_memory *memory)
{
    int most = 0;
    for (int c = 1; c < OHM_MEMORY_CATEGORIES; c++)
        if (memory->peak[c] > memory->peak[most])
            most = c;
    return most;
}

void ohm_plan_describe(char *text, size_t bytes, const ohm_plan *plan)
{
    int most = largest_category(&plan->training);
    int used = snprintf(text, bytes, "%s", in_words(plan->total).text);
    if (plan->evaluation)
        used += snprintf(text + used, bytes - (size_t)used, " (training %s, evaluation %s)",
                         in_words(plan->training.reserved).text, in_words(plan->evaluation).text);
    snprintf(text + used, bytes - (size_t)used, ", most of it %s (%s)", ohm_memory_name(most),
             in_words(plan->training.peak[most]).text);
}

/* Why not even one image fits. */
static ohm_status refuse_one(const ohm_plan *plan, const ohm_config *config, size_t limit)
{
    char needs[192];
    size_t weights = plan->training.peak[OHM_MEMORY_WEIGHTS];
    if (weights > limit)
        return OHM_FAIL(OHM_ERR_MEMORY,
                        "the limit of %s is below the weights alone (%s); raise "
                        "--memory-limit, or take a smaller network",
                        in_words(limit).text, in_words(weights).text);
    if (plan->evaluation > plan->training.reserved)
        return OHM_FAIL(OHM_ERR_MEMORY,
                        "a batch of one image fits, but evaluation (%s) does not fit the "
                        "limit of %s beside it; lower eval.batch = %d",
                        in_words(plan->evaluation).text, in_words(limit).text, config->eval.batch);
    ohm_plan_describe(needs, sizeof needs, plan);
    return OHM_FAIL(OHM_ERR_MEMORY,
                    "even one image per pass needs %s: more than the limit of %s; lower "
                    "train.workspace_mib, raise --memory-limit, or take a smaller network",
                    needs, in_words(limit).text);
}

ohm_status ohm_plan_largest(int *images, ohm_plan *plan, const ohm_architecture *architecture,
                            const ohm_config *config, int evaluates, size_t limit)
{
    int fits, low = 1, high = IMAGES_MOST + 1; /* low fits, high does not */
    ohm_plan tried;
    OHM_TRY(ohm_plan_make(plan, architecture, config, 1, evaluates));
    if (plan->total > limit)
        return refuse_one(plan, config, limit);
    while (high - low > 1) {
        int middle = high > IMAGES_MOST && low < IMAGES_MOST / 2 ? 2 * low : low + (high - low) / 2;
        OHM_TRY(try_images(&fits, &tried, architecture, config, middle, evaluates, limit));
        if (fits) {
            low = middle;
            *plan = tried;
        } else {
            high = middle;
        }
    }
    *images = low;
    return OHM_OK;
}

ohm_status ohm_plan_check(const ohm_architecture *architecture, const ohm_config *config,
                          int evaluates, size_t limit)
{
    ohm_plan plan, largest;
    int images = ohm_step_images(config), fits, most;
    char needs[192];
    ohm_status status = ohm_plan_make(&plan, architecture, config, images, evaluates);
    if (status == OHM_OK && plan.total <= limit)
        return OHM_OK;
    if (status != OHM_OK && status != OHM_ERR_MEMORY)
        return status;
    fits = status == OHM_OK;
    OHM_TRY(ohm_plan_largest(&most, &largest, architecture, config, evaluates, limit));
    if (fits)
        ohm_plan_describe(needs, sizeof needs, &plan);
    return OHM_FAIL(OHM_ERR_MEMORY,
                    "mode %s at %d images per pass needs %s: more than the limit of %s; "
                    "set train.micro_batch to at most %d, the largest that fits",
                    ohm_variant_name(ohm_variant_of(config)), images,
                    fits ? needs : "more than any address space holds", in_words(limit).text, most);
}

ohm_status ohm_plan_refused(const ohm_architecture *architecture, const ohm_config *config,
                            int evaluates)
{
    char refused[1024];
    size_t available;
    snprintf(refused, sizeof refused, "%s", ohm_error_text());
    ohm_status status = ohm_backend_available(&available, config);
    if (status == OHM_OK)
        status = ohm_plan_check(architecture, config, evaluates, available);
    if (status == OHM_ERR_MEMORY)
        return ohm_error_prefix(status, "only %s are free now", in_words(available).text);
    return OHM_FAIL(OHM_ERR_MEMORY, "%s", refused);
}
