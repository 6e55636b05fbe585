/* How busy the accelerator is, by NVIDIA's management library, which is looked for when it is asked
 * and needed for nothing else. */
#ifndef OHM_HOST_NVML_H
#define OHM_HOST_NVML_H

#include <stddef.h>

typedef struct ohm_nvml ohm_nvml;

/* address: of the device on its bus, "0000:3b:00.0"; "": the first one. NULL where the library, the driver
 * or the device is missing. */
ohm_nvml *ohm_nvml_open(const char *address);
void ohm_nvml_close(ohm_nvml *nvml); /* NULL-safe */
/* Share of the last sample period (1 s at most) in which a kernel ran on the device, 0..1; NaN: not available. */
double ohm_nvml_utilisation(const ohm_nvml *nvml);
/* Version of the driver, "570.86.15"; "": not available. */
void ohm_nvml_driver(char *text, size_t room, const ohm_nvml *nvml);

#endif
