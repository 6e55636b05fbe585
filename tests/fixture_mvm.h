/* What tests of the MVM share: the table of mappings and effects, and the comparison with the scalar
 * double reference. */
#ifndef OHM_TESTS_FIXTURE_MVM_H
#define OHM_TESTS_FIXTURE_MVM_H

#include "tests/compare.h"
#include "tests/fixture_chip.h"

enum { FIXTURE_MAPPINGS = 4, FIXTURE_EFFECTS = 9 };
extern const char *const fixture_mappings[FIXTURE_MAPPINGS],
    *const fixture_effects[FIXTURE_EFFECTS];

/* One read of random codes, and what the reference makes of it. */
typedef struct {
    fixture_chip chip;
    int k, n, m;
    uint64_t first_row;
    double tolerance; /* of the largest sum, for float arithmetic */
    double threshold; /* LSB: so near to a threshold a conversion may differ by one code */
    uint8_t *codes;   /* [m][k] */
    double *x, *sums, *analogue; /* [m][k], [m][n], [m][reads][n] */
    char settings[1024];
} fixture_mvm;

void fixture_mvm_make(fixture_mvm *f, const char *settings, int k, int n, int m);
void fixture_mvm_free(fixture_mvm *f);
/* What the codes of output n may add up to that lie within the threshold of the next one: analogue
 * [reads][n] of one row. Adds their number to *close_calls. */
double fixture_mvm_slack(const fixture_mvm *f, const double *analogue, int n, size_t *close_calls);
/* got [m][n] are the raw sums that f stands for. */
ohm_verdict fixture_mvm_compare(const fixture_mvm *f, const double *got);

#endif
