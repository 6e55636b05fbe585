#include <stdlib.h>
#include <string.h>

#include "datasets/datasets.h"
#include "datasets/digits_data.h"

enum { PIXELS = OHM_DIGITS_SIDE * OHM_DIGITS_SIDE, RECORD = 1 + PIXELS, CLASSES = 10, TEST_EVERY = 5,
       TEST_COUNT = (OHM_DIGITS_COUNT + TEST_EVERY - 1) / TEST_EVERY };

static void unpack(ohm_dataset *set, int at, const char *record)
{
    set->labels[at] = (uint8_t)(record[0] - '0');
    for (int i = 0; i < PIXELS; i++)
        set->pixels[at * PIXELS + i] = (uint8_t)(((record[1 + i] - 'A') * 255 + 8) / 16);
}

/* All images in the order the split walks them: by class, shuffled within a class. */
static void order_by_class(uint32_t by_class[OHM_DIGITS_COUNT])
{
    uint32_t shuffled[OHM_DIGITS_COUNT];
    ohm_dataset_order(shuffled, OHM_DIGITS_COUNT, 0, 0);
    int next = 0;
    for (char label = '0'; label < '0' + CLASSES; label++)
        for (int i = 0; i < OHM_DIGITS_COUNT; i++)
            if (ohm_digits_data[shuffled[i] * RECORD] == label)
                by_class[next++] = shuffled[i];
}

ohm_status ohm_digits_load(ohm_dataset *train, ohm_dataset *test)
{
    const int side = OHM_DIGITS_SIDE;
    memset(test, 0, sizeof *test);
    OHM_TRY(ohm_dataset_create(train, "digits", OHM_DIGITS_COUNT - TEST_COUNT, side, side, 1, CLASSES));
    ohm_status status = ohm_dataset_create(test, "digits", TEST_COUNT, side, side, 1, CLASSES);
    if (status != OHM_OK) {
        ohm_dataset_free(train);
        return status;
    }
    uint32_t by_class[OHM_DIGITS_COUNT];
    order_by_class(by_class);
    for (int i = 0; i < OHM_DIGITS_COUNT; i++) {
        int tests = (i + TEST_EVERY - 1) / TEST_EVERY; /* test images before i */
        if (i % TEST_EVERY == 0)
            unpack(test, tests, ohm_digits_data + by_class[i] * RECORD);
        else
            unpack(train, i - tests, ohm_digits_data + by_class[i] * RECORD);
    }
    return OHM_OK;
}
