/* Where presets lie and what they are called. */
#ifndef OHM_HOST_CONFIG_PRESETS_H
#define OHM_HOST_CONFIG_PRESETS_H

#include <stddef.h>

#include "host/status.h"

/* Finds a chip's file: a name with a slash or ending in .yaml or .yml is a path, taken as it is;
 * anything else is a preset NAME.yaml in the source tree's models/hardware or the installed
 * share/ohmgrad/hardware beside the program, or in ./models/hardware. An unknown preset is
 * OHM_ERR_CONFIG and names those that exist. */
ohm_status ohm_preset_find(char *path, size_t bytes, const char *name);
int ohm_preset_is_path(const char *name);

#endif
