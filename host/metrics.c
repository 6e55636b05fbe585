#include "host/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct ohm_metrics {
    int fd;
    char *path;
    int64_t bytes; /* of the file */
};

static ohm_status cut(ohm_metrics *metrics, int64_t bytes)
{
    off_t size = lseek(metrics->fd, 0, SEEK_END);
    if (size < 0 || (size > bytes && ftruncate(metrics->fd, (off_t)bytes) != 0))
        return OHM_FAIL(OHM_ERR_IO, "%s: cannot cut it back to %" PRId64 " bytes: %s", metrics->path, bytes, strerror(errno));
    metrics->bytes = size > bytes ? bytes : size;
    return OHM_OK;
}

ohm_status ohm_metrics_open(ohm_metrics **out, const char *path, int64_t bytes)
{
    *out = NULL;
    ohm_metrics *metrics = calloc(1, sizeof *metrics);
    if (metrics)
        metrics->path = strdup(path);
    if (!metrics || !metrics->path) {
        free(metrics);
        return OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory", path);
    }
    metrics->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    ohm_status status = metrics->fd < 0 ? OHM_FAIL(OHM_ERR_IO, "%s: cannot open for writing: %s", path, strerror(errno))
                                        : cut(metrics, bytes);
    if (status == OHM_OK)
        *out = metrics;
    else
        ohm_metrics_close(metrics);
    return status;
}

void ohm_metrics_close(ohm_metrics *metrics)
{
    if (!metrics)
        return;
    if (metrics->fd >= 0)
        close(metrics->fd);
    free(metrics->path);
    free(metrics);
}

int64_t ohm_metrics_bytes(const ohm_metrics *metrics)
{
    return metrics->bytes;
}

static int format_number(char *text, size_t bytes, double value)
{
    if (!isfinite(value))
        return snprintf(text, bytes, "null");
    if (value == floor(value) && fabs(value) < 0x1p53)
        return snprintf(text, bytes, "%.0f", value);
    int used = snprintf(text, bytes, "%.15g", value);
    return strtod(text, NULL) == value ? used : snprintf(text, bytes, "%.17g", value);
}

ohm_status ohm_metrics_write(ohm_metrics *metrics, int64_t step, const ohm_metric *pairs, int count)
{
    char line[2048];
    int used = snprintf(line, sizeof line, "{\"step\": %" PRId64, step);
    for (int i = 0; i < count && used < (int)sizeof line - 128; i++) {
        used += snprintf(line + used, sizeof line - (size_t)used, ", \"%.64s\": ", pairs[i].key);
        used += format_number(line + used, sizeof line - (size_t)used, pairs[i].value);
    }
    used += snprintf(line + used, sizeof line - (size_t)used, "}\n");
    ssize_t put;
    do
        put = write(metrics->fd, line, (size_t)used);
    while (put < 0 && errno == EINTR);
    if (put > 0)
        metrics->bytes += put;
    if (put != used)
        return OHM_FAIL(OHM_ERR_IO, "%s: cannot write: %s; make room, then go on with --resume", metrics->path,
                        put < 0 ? strerror(errno) : "disk full");
    return OHM_OK;
}

ohm_status ohm_metrics_sync(ohm_metrics *metrics)
{
    return fdatasync(metrics->fd) == 0 ? OHM_OK : OHM_FAIL(OHM_ERR_IO, "%s: cannot sync: %s", metrics->path, strerror(errno));
}
