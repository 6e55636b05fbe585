/* Short names for the rows of an option table, for the files that hold one. Such a file defines
 * OHM_ROWS_OF as the struct before it includes this; a row's key is the path of its field. */
#ifndef OHM_HOST_OPTION_ROWS_H
#define OHM_HOST_OPTION_ROWS_H

#include "host/option.h"

/* clang-format off */
#define AT(member) offsetof(OHM_ROWS_OF, member), sizeof(((OHM_ROWS_OF *)0)->member)
#define INT(key, low, high, fallback, unit, help) {#key, OHM_OPTION_INT, AT(key), low, high, "", fallback, unit, help}
#define INT64(key, low, high, fallback, unit, help) {#key, OHM_OPTION_INT64, AT(key), low, high, "", fallback, unit, help}
#define REAL(key, low, high, fallback, unit, help) {#key, OHM_OPTION_REAL, AT(key), low, high, "", fallback, unit, help}
#define BOOL(key, fallback, help) {#key, OHM_OPTION_BOOL, AT(key), 0, 1, "", fallback, "", help}
#define CHOICE(key, choices, fallback, help) {#key, OHM_OPTION_CHOICE, AT(key), 0, 0, choices, fallback, "", help}
#define MODE(key, choices, low, high, fallback, unit, help) {#key, OHM_OPTION_MODE, AT(key), low, high, choices, fallback, unit, help}
#define TEXT(key, fallback, help) {#key, OHM_OPTION_TEXT, AT(key), 0, 0, "", fallback, "", help}
#define REALS(key, help) {#key, OHM_OPTION_REALS, AT(key), -1e12, 1e12, "", "[]", "", help}
/* clang-format on */

#endif
