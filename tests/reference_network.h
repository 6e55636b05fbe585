/* A network in double, one scalar at a time, straight from the definitions: the oracle for the
 * framework's forward pass and, by central differences, for its gradients. No noise. */
#ifndef OHM_TESTS_REFERENCE_NETWORK_H
#define OHM_TESTS_REFERENCE_NETWORK_H

#include "host/network.h"

typedef struct {
    const ohm_architecture *architecture;
    const ohm_parameter *parameter; /* names and shapes */
    int parameters;
    double **value;      /* [parameters][count] */
    const float *images; /* [count, height, width, channels] */
    const int32_t *labels;
    int count;
    double smoothing;
    int training; /* batch statistics, else the running ones */
} ohm_reference_network;

/* Mean loss; logits [count, classes] unless NULL. Fails the test when memory runs out. */
double ohm_reference_loss(const ohm_reference_network *r, double *logits);

#endif
