/* The image sets an experiment may name: the loaders, and the dispatcher over them. */
#ifndef OHM_DATASETS_DATASETS_H
#define OHM_DATASETS_DATASETS_H

#include <stddef.h>
#include <stdint.h>

#include "host/config.h"
#include "host/dataset.h"

/* Loads what config->data names, resized and limited as it says, both parts normalised by the
 * statistics of the training part. Both are owned by the caller; on failure both are empty. */
ohm_status ohm_datasets_load(ohm_dataset *train, ohm_dataset *test, const ohm_config *config);

/* The shape of those images and the number of classes, without looking for any file. */
ohm_status ohm_datasets_shape(int *height, int *width, int *channels, int *classes, const ohm_config *config);

/* UCI optical digits (embedded): 1,437 + 360 images of 8x8x1. The split is fixed: each class is
 * shuffled by Philox with key 0, the classes are laid end to end, every fifth image is a test image. */
ohm_status ohm_digits_load(ohm_dataset *train, ohm_dataset *test);
/* MNIST: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-... in dir, unpacked. */
ohm_status ohm_mnist_load(ohm_dataset *train, ohm_dataset *test, const char *dir);
/* CIFAR-10: data_batch_1.bin .. data_batch_5.bin (of equal size) and test_batch.bin in dir. */
ohm_status ohm_cifar10_load(ohm_dataset *train, ohm_dataset *test, const char *dir);

/* Reads one file of a set (at most 256 MiB); if it is missing, the message ends in `remedy`. Free *bytes. */
ohm_status ohm_datasets_read(uint8_t **bytes, size_t *size, const char *path, const char *remedy);

/* The file formats, from memory; `path` is for messages.
 * IDX images and IDX labels make one set (MNIST's ten classes); owned by the caller. */
ohm_status ohm_idx_parse(ohm_dataset *set, const char *name, const uint8_t *images, size_t images_bytes, const char *images_path,
                         const uint8_t *labels, size_t labels_bytes, const char *labels_path);
enum { OHM_CIFAR_RECORD = 1 + 3072 }; /* a label, then the planes R, G, B */
/* Checks a batch file: whole records, at least one, labels 0-9. */
ohm_status ohm_cifar10_check(const uint8_t *bytes, size_t size, const char *path);
/* Images first, first + 1, ... of *set from a checked batch file that fits. */
void ohm_cifar10_unpack(ohm_dataset *set, int first, const uint8_t *bytes, size_t size);

#endif
