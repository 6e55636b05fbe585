#include "datasets/datasets.h"

#include <unistd.h>

#include "host/file.h"

enum { FILE_BYTES_MAX = 1 << 28 };

ohm_status ohm_datasets_read(uint8_t **bytes, size_t *size, const char *path, const char *remedy)
{
    char *data;
    if (access(path, F_OK) != 0)
        return OHM_FAIL(OHM_ERR_IO, "%s: no such file; %s, or say where the files are with data.dir", path, remedy);
    OHM_TRY(ohm_file_read(&data, size, path, FILE_BYTES_MAX));
    *bytes = (uint8_t *)data;
    return OHM_OK;
}

static ohm_status load(ohm_dataset *train, ohm_dataset *test, const ohm_config *config)
{
    const char *dir = config->data.dir;
    switch (config->data.kind) {
    case OHM_DATA_DIGITS:
        return ohm_digits_load(train, test);
    case OHM_DATA_MNIST:
        return ohm_mnist_load(train, test, *dir ? dir : "data/mnist");
    case OHM_DATA_CIFAR10:
        return ohm_cifar10_load(train, test, *dir ? dir : "data/cifar10");
    default:
        return OHM_FAIL(OHM_ERR_ARGUMENT, "unknown data set %d", config->data.kind);
    }
}

static ohm_status shape_part(ohm_dataset *set, const ohm_config *config, int limit)
{
    ohm_dataset_limit(set, limit);
    return config->data.image_size ? ohm_dataset_resize(set, config->data.image_size) : OHM_OK;
}

ohm_status ohm_datasets_load(ohm_dataset *train, ohm_dataset *test, const ohm_config *config)
{
    OHM_TRY(load(train, test, config));
    ohm_status status = shape_part(train, config, config->data.train_limit);
    if (status == OHM_OK)
        status = shape_part(test, config, config->data.test_limit);
    if (status != OHM_OK) {
        ohm_dataset_free(train);
        ohm_dataset_free(test);
        return status;
    }
    ohm_dataset_measure(train);
    for (int c = 0; c < OHM_CHANNELS_MAX; c++) {
        test->mean[c] = train->mean[c];
        test->deviation[c] = train->deviation[c];
    }
    return OHM_OK;
}

ohm_status ohm_datasets_shape(int *height, int *width, int *channels, int *classes, const ohm_config *config)
{
    static const struct {
        int side, channels;
    } native[] = {[OHM_DATA_DIGITS] = {8, 1}, [OHM_DATA_MNIST] = {28, 1}, [OHM_DATA_CIFAR10] = {32, 3}};
    if (config->data.kind < 0 || (size_t)config->data.kind >= sizeof native / sizeof *native)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "unknown data set %d", config->data.kind);
    *height = *width = config->data.image_size ? config->data.image_size : native[config->data.kind].side;
    *channels = native[config->data.kind].channels;
    *classes = 10;
    return OHM_OK;
}
