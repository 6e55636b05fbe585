/* How busy the accelerator is, by NVIDIA's management library, which is looked for when it is asked
 * and needed for nothing else. */
#ifndef OHM_HOST_NVML_H
#define OHM_HOST_NVML_H

typedef struct ohm_nvml ohm_nvml;

/* NULL where the library, the driver or a first device is missing. */
ohm_nvml *ohm_nvml_open(void);
void ohm_nvml_close(ohm_nvml *nvml); /* NULL-safe */
/* Share of the last sample period (1 s at most) in which a kernel ran on the first device, 0..1; NaN: not available. */
double ohm_nvml_utilisation(const ohm_nvml *nvml);

#endif
