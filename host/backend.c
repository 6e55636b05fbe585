#include "host/backend.h"

#include <stdio.h>
#include <string.h>

#include "host/arena.h"
#include "host/nvml.h"

/* Absent where the build has no CUDA part. */
extern const ohm_backend ohm_backend_cuda __attribute__((weak));

static ohm_status on_cpu(const ohm_config *config)
{
    if (config->train.gemm != OHM_GEMM_FP32)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "train.gemm: the CPU multiplies in fp32 alone; set train.gemm: fp32, or "
                        "device: cuda");
    return OHM_OK;
}

enum { REASON_BYTES = 512 };

/* A device that is there and that `auto` leaves: what it lacks. "": there is none. */
static void why_unusable(char reason[REASON_BYTES], int index)
{
    char text[256];
    size_t bytes;
    ohm_backend_cuda.address(text, sizeof text, index);
    if (*text && ohm_backend_cuda.describe(text, sizeof text, &bytes, index) != OHM_OK)
        snprintf(reason, REASON_BYTES, "%s", ohm_error_text());
}

/* ohm_backend_find. reason: why `auto` took the CPU where there is a device; "" otherwise. */
static ohm_status choose(const ohm_backend **backend, char reason[REASON_BYTES],
                         const ohm_config *config)
{
    const int wanted = config->device.kind, automatic = wanted == OHM_DEVICE_AUTO;
    const int built = &ohm_backend_cuda != NULL, index = ohm_backend_index(config);
    *backend = &ohm_backend_cpu;
    *reason = 0;
    if (wanted == OHM_DEVICE_CPU || (automatic && !built))
        return on_cpu(config);
    if (!built)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "device cuda: this build has no CUDA backend; set device: cpu");
    if (automatic && !ohm_backend_cuda.usable(index, 1)) {
        why_unusable(reason, index);
        return on_cpu(config);
    }
    ohm_status status = ohm_backend_cuda.check(config);
    if (automatic && status != OHM_OK) {
        snprintf(reason, REASON_BYTES, "%s", ohm_error_text());
        return on_cpu(config);
    }
    *backend = &ohm_backend_cuda;
    return status == OHM_OK ? OHM_OK : ohm_error_prefix(status, "device cuda");
}

ohm_status ohm_backend_find(const ohm_backend **backend, const ohm_config *config)
{
    char reason[REASON_BYTES];
    return choose(backend, reason, config);
}

void ohm_backend_list(char *text, size_t room)
{
    char name[256];
    size_t bytes, used = (size_t)snprintf(text, room, "cpu");
    if (&ohm_backend_cuda == NULL) {
        snprintf(text, room, "cpu; cuda is not built");
        return;
    }
    int index = 0;
    for (; used < room && ohm_backend_cuda.describe(name, sizeof name, &bytes, index) == OHM_OK;
         index++)
        used += (size_t)snprintf(text + used, room - used, "; cuda:%d %s, %.0f GiB", index, name,
                                 (double)bytes / (1 << 30));
    if (index == 0)
        snprintf(text, room, "cpu; %s", ohm_error_text());
}

static ohm_status describe(char *text, size_t room, size_t *bytes, char reason[REASON_BYTES],
                           const ohm_config *config)
{
    const ohm_backend *backend;
    char name[256];
    *bytes = 0;
    OHM_TRY(choose(&backend, reason, config));
    snprintf(text, room, "%s", backend->name);
    if (!backend->describe)
        return OHM_OK;
    OHM_TRY(backend->describe(name, sizeof name, bytes, ohm_backend_index(config)));
    snprintf(text, room, "%s:%d, %s", backend->name, ohm_backend_index(config), name);
    return OHM_OK;
}

ohm_status ohm_backend_describe(char *text, size_t room, size_t *bytes, const ohm_config *config)
{
    char reason[REASON_BYTES];
    return describe(text, room, bytes, reason, config);
}

ohm_status ohm_backend_announce(char *text, size_t room, const ohm_config *config)
{
    char reason[REASON_BYTES];
    size_t bytes;
    OHM_TRY(describe(text, room, &bytes, reason, config));
    const size_t used = strlen(text);
    if (*reason)
        snprintf(text + used, room - used, ": %s", reason);
    return OHM_OK;
}

static ohm_status settle(char *text, size_t room, ohm_config *config, const int *mode, int modes)
{
    const ohm_backend *backend = &ohm_backend_cpu;
    for (int i = 0; i < modes; i++) {
        config->train.mode = mode[i];
        OHM_TRY(ohm_backend_announce(text, room, config));
        OHM_TRY(ohm_backend_find(&backend, config));
        if (backend == &ohm_backend_cpu)
            break;
    }
    if (backend != &ohm_backend_cpu)
        return OHM_OK;
    config->device = (ohm_mode){.kind = OHM_DEVICE_CPU};
    for (int i = 0; i < modes; i++) {
        config->train.mode = mode[i];
        OHM_TRY(ohm_backend_find(&backend, config));
    }
    return OHM_OK;
}

ohm_status ohm_backend_settle(char *text, size_t room, ohm_config *config, const int *mode,
                              int modes)
{
    const int given = config->train.mode;
    ohm_status status = settle(text, room, config, mode, modes);
    config->train.mode = given;
    return status;
}

void ohm_backend_address(char *text, size_t room, const ohm_config *config)
{
    const ohm_backend *backend;
    *text = 0;
    if (ohm_backend_find(&backend, config) == OHM_OK && backend->address)
        backend->address(text, room, ohm_backend_index(config));
}

ohm_status ohm_backend_available(size_t *bytes, const ohm_config *config)
{
    const ohm_backend *backend;
    ohm_device *device;
    *bytes = ohm_memory_available();
    OHM_TRY(ohm_backend_find(&backend, config));
    if (!backend->open)
        return OHM_OK;
    OHM_TRY(backend->open(&device, config));
    ohm_status status = backend->available(device, bytes);
    backend->close(device);
    return status;
}

ohm_status ohm_backend_about(ohm_backend_facts *facts, const ohm_config *config)
{
    const ohm_backend *backend;
    const int index = ohm_backend_index(config);
    char address[64];
    size_t bytes;
    OHM_TRY(ohm_backend_find(&backend, config));
    *facts = (ohm_backend_facts){.backend = backend->name};
    if (!backend->describe)
        return OHM_OK;
    OHM_TRY(backend->describe(facts->device, sizeof facts->device, &bytes, index));
    backend->versions(&facts->cuda_driver, &facts->cuda_runtime, index);
    backend->address(address, sizeof address, index);
    if (!*address) /* no device of the system's */
        return OHM_OK;
    ohm_nvml *nvml = ohm_nvml_open(address);
    ohm_nvml_driver(facts->driver, sizeof facts->driver, nvml);
    ohm_nvml_close(nvml);
    return OHM_OK;
}
