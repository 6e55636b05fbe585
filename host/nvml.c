#include "host/nvml.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>

/* As nvml.h declares them (NVML is a stable ABI; 0 is success). */
typedef struct {
    unsigned int gpu, memory; /* per cent */
} utilisation;
typedef int (*plain_call)(void);
typedef int (*handle_call)(unsigned int index, void **device);
typedef int (*address_call)(const char *address, void **device);
typedef int (*text_call)(char *text, unsigned int room);
typedef int (*rates_call)(void *device, utilisation *rates);

struct ohm_nvml {
    void *library, *device;
    plain_call shut_down;
    rates_call rates;
};

/* dlsym gives a data pointer; POSIX lets it be read as a function's. */
static void find(void *function, void *library, const char *name)
{
    *(void **)function = dlsym(library, name);
}

static int start(ohm_nvml *nvml, const char *address)
{
    plain_call init;
    handle_call handle;
    address_call at;
    find(&init, nvml->library, "nvmlInit_v2");
    find(&handle, nvml->library, "nvmlDeviceGetHandleByIndex_v2");
    find(&at, nvml->library, "nvmlDeviceGetHandleByPciBusId_v2");
    find(&nvml->rates, nvml->library, "nvmlDeviceGetUtilizationRates");
    find(&nvml->shut_down, nvml->library, "nvmlShutdown");
    if (!init || !handle || !nvml->rates || !nvml->shut_down || init() != 0)
        return 0;
    if ((*address ? at && at(address, &nvml->device) == 0 : handle(0, &nvml->device) == 0))
        return 1;
    nvml->shut_down();
    return 0;
}

ohm_nvml *ohm_nvml_open(const char *address)
{
    ohm_nvml *nvml = calloc(1, sizeof *nvml);
    if (!nvml)
        return NULL;
    nvml->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (nvml->library && start(nvml, address))
        return nvml;
    if (nvml->library)
        dlclose(nvml->library);
    free(nvml);
    return NULL;
}

void ohm_nvml_close(ohm_nvml *nvml)
{
    if (!nvml)
        return;
    nvml->shut_down();
    dlclose(nvml->library);
    free(nvml);
}

double ohm_nvml_utilisation(const ohm_nvml *nvml)
{
    utilisation rates;
    if (!nvml || nvml->rates(nvml->device, &rates) != 0 || rates.gpu > 100)
        return NAN;
    return rates.gpu / 100.0;
}

void ohm_nvml_driver(char *text, size_t room, const ohm_nvml *nvml)
{
    text_call version = NULL;
    if (nvml)
        find(&version, nvml->library, "nvmlSystemGetDriverVersion");
    if (!version || version(text, (unsigned int)room) != 0)
        *text = 0;
}
