/* Measured devices: a CSV file of target, mean, sigma in µS. */
#ifndef OHM_HOST_DEVICE_TABLE_H
#define OHM_HOST_DEVICE_TABLE_H

#include "host/hardware.h"

/* Reads 2..OHM_TABLE_ROWS rows: three numbers separated by commas, targets strictly increasing,
 * none negative. Lines that are empty or start with # are skipped, and so is one header line
 * before the first row. Errors name file:line. */
ohm_status ohm_device_table_read(ohm_device_table *table, const char *path);
/* The same from text; `name` stands for the path in messages. */
ohm_status ohm_device_table_parse(ohm_device_table *table, const char *text, const char *name);

#endif
