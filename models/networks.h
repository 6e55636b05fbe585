/* The networks: config->network.kind as an architecture of layers.
 *
 *   mlp       hidden_layers x (linear width, ReLU), linear classes
 *   lenet5    LeCun et al. 1998 with ReLU and max pooling: conv5 6, pool, conv5 16, pool, 120, 84; 32x32 images
 *   vgg8      NeuroSim's (Peng et al. 2019), with batch norm: 128 128 M 256 256 M 512 512 M, 1024
 *   vgg11     Simonyan & Zisserman 2015 A, with batch norm: 64 M 128 M 256 256 M 512 512 M 512 512 M
 *   resnet20  He et al. 2016 for CIFAR, 16/32/64 channels; shortcuts that change shape are 1x1 convolution + batch
 *             norm (their option B)
 *   resnet18  64..512 channels, CIFAR stem: one 3x3 convolution, no pooling; option B
 */
#ifndef OHM_MODELS_NETWORKS_H
#define OHM_MODELS_NETWORKS_H

#include "host/network.h"

/* height, width, channels of the images. Matrix layers are noisy, the first and the last as
 * train.noisy_first and train.noisy_last say. OHM_ERR_CONFIG when the images do not suit the network. */
ohm_status ohm_model_build(ohm_architecture *architecture, const ohm_config *config, int height,
                           int width, int channels, int classes);

#endif
