/* Reading a chip from a YAML node; shared by the chip reader and the experiment reader. */
#ifndef OHM_HOST_CONFIG_HARDWARE_H
#define OHM_HOST_CONFIG_HARDWARE_H

#include "host/config_yaml.h"
#include "host/hardware.h"

/* A chip's mapping, with its `base:`. Relative paths in it are taken from the document's folder. */
ohm_status ohm_hardware_walk(ohm_hardware *hardware, const ohm_yaml *yaml, int mapping);
/* A preset's name or a path, the latter relative to the folder of the file `from` (NULL: to the
 * working directory). Not checked across keys yet. */
ohm_status ohm_hardware_load(ohm_hardware *hardware, const char *name_or_path, const char *from);

#endif
