#include "host/schedule.h"

#include <math.h>

int64_t ohm_schedule_steps_per_epoch(const ohm_config *config, int images)
{
    return images / config->train.batch;
}

int64_t ohm_schedule_steps(const ohm_config *config, int images)
{
    if (config->train.steps > 0)
        return config->train.steps;
    return config->train.epochs * ohm_schedule_steps_per_epoch(config, images);
}

double ohm_schedule_lr(const ohm_config *config, int64_t step, int64_t steps)
{
    const double lr = config->train.lr;
    const int64_t warmup = config->train.warmup_steps;
    if (step < warmup)
        return lr * (double)(step + 1) / (double)warmup;
    if (config->train.schedule == OHM_SCHEDULE_COSINE && steps > warmup) {
        double done = (double)(step - warmup) / (double)(steps - warmup), end = config->train.lr_final;
        return lr * (end + (1 - end) * 0.5 * (1 + cos(3.14159265358979323846 * done)));
    }
    if (config->train.schedule == OHM_SCHEDULE_STEP && config->train.milestone_steps > 0)
        return lr * pow(config->train.gamma, (double)(step / config->train.milestone_steps));
    return lr;
}
