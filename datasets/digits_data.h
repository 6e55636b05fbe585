/* The embedded digits: 1,797 images as text, see digits_data.c. */
#ifndef OHM_DATASETS_DIGITS_DATA_H
#define OHM_DATASETS_DIGITS_DATA_H

enum { OHM_DIGITS_COUNT = 1797, OHM_DIGITS_SIDE = 8 };

extern const char ohm_digits_data[]; /* OHM_DIGITS_COUNT x (label '0'-'9', 64 pixels 'A'-'Q') */

#endif
