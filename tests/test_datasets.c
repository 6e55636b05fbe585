#include "datasets/datasets.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernels/philox.h"
#include "tests/compare.h"
#include "tests/runner.h"

static void put_file(const char *dir, const char *name, const void *bytes, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

static void refuse(ohm_status status, ohm_status expected, const char *part, const char *remedy)
{
    ck_assert_int_eq(status, expected);
    ck_assert_msg(strstr(ohm_error_text(), part), "'%s' says nothing of '%s'", ohm_error_text(), part);
    ck_assert_msg(strstr(ohm_error_text(), remedy), "'%s' says nothing of '%s'", ohm_error_text(), remedy);
    ck_assert_ptr_null(strchr(ohm_error_text(), '\n'));
}

/* ---- digits -------------------------------------------------------------------------------- */

OHM_TEST(datasets, digits_are_the_uci_set_split_by_class)
{
    static const int class_count[10] = {178, 182, 177, 183, 181, 182, 181, 179, 174, 180};
    ohm_dataset train, test;
    OHM_OK_OR_FAIL(ohm_digits_load(&train, &test));
    ck_assert_int_eq(train.count, 1437);
    ck_assert_int_eq(test.count, 360);
    int seen[10] = {0}, tests[10] = {0};
    uint64_t sum = 0;
    for (int i = 0; i < train.count; i++)
        seen[train.labels[i]]++;
    for (int i = 0; i < test.count; i++)
        tests[test.labels[i]]++;
    for (int i = 0; i < train.count * 64; i++)
        sum += (train.pixels[i] * 16u + 127) / 255;
    for (int i = 0; i < test.count * 64; i++)
        sum += (test.pixels[i] * 16u + 127) / 255;
    for (int c = 0; c < 10; c++) {
        ck_assert_int_eq(seen[c] + tests[c], class_count[c]);
        ck_assert(tests[c] >= class_count[c] / 5 && tests[c] <= class_count[c] / 5 + 1);
    }
    ck_assert_uint_eq(sum, 561718); /* of the original's values 0..16 */
    ohm_dataset_free(&train);
    ohm_dataset_free(&test);
    ohm_dataset_free(&test);
    ohm_dataset_free(NULL);
}

OHM_TEST(datasets, dispatcher_resizes_limits_and_shares_statistics)
{
    ohm_config config = {0};
    config.data.kind = OHM_DATA_DIGITS;
    config.data.image_size = 32;
    config.data.train_limit = 100;
    config.data.test_limit = 7;
    ohm_dataset train, test;
    OHM_OK_OR_FAIL(ohm_datasets_load(&train, &test, &config));
    ck_assert_int_eq(train.count, 100);
    ck_assert_int_eq(test.count, 7);
    ck_assert_int_eq(test.height, 32);
    int seen[10] = {0};
    for (int i = 0; i < 100; i++)
        seen[train.labels[i]]++;
    for (int label = 0; label < 10; label++)
        ck_assert_int_ge(seen[label], 9); /* the digits are kept by class: a few of each */
    ck_assert(train.mean[0] == test.mean[0] && train.deviation[0] == test.deviation[0] && train.mean[0] > 0);
    ohm_dataset_free(&train);
    ohm_dataset_free(&test);
}

/* ---- batches ------------------------------------------------------------------------------- */

/* Two images of 3x4x2 whose pixels are all different. */
static void small_set(ohm_dataset *set)
{
    OHM_OK_OR_FAIL(ohm_dataset_create(set, "small", 2, 3, 4, 2, 3));
    for (int i = 0; i < 48; i++)
        set->pixels[i] = (uint8_t)(5 * i + 3);
    set->labels[1] = 2;
}

OHM_TEST(datasets, batch_normalises_by_channel)
{
    ohm_dataset set;
    small_set(&set);
    ohm_dataset_measure(&set);
    const uint32_t indices[3] = {1, 0, 1};
    float x[72];
    double reference[72], sum = 0, squares = 0;
    int32_t labels[3];
    ohm_dataset_batch(x, labels, &set, indices, 3, NULL);
    for (int i = 0; i < 72; i++)
        reference[i] = (set.pixels[indices[i / 24] * 24 + (unsigned)i % 24] / 255.0 - set.mean[i & 1]) / set.deviation[i & 1];
    OHM_ASSERT(ohm_compare_close(x, reference, 72, 1e-6, 1e-6));
    for (int i = 0; i < 48; i += 2) {
        sum += x[i];
        squares += x[i] * x[i];
    }
    ck_assert_double_eq_tol(sum / 24, 0, 1e-5);
    ck_assert_double_eq_tol(squares / 24, 1, 1e-5);
    ck_assert(labels[0] == 2 && labels[1] == 0 && labels[2] == 2);
    ohm_dataset_free(&set);
}

OHM_TEST(datasets, resize_is_bilinear)
{
    ohm_dataset set;
    OHM_OK_OR_FAIL(ohm_dataset_create(&set, "two", 1, 2, 2, 1, 1));
    memcpy(set.pixels, (const uint8_t[]){0, 100, 200, 40}, 4);
    OHM_OK_OR_FAIL(ohm_dataset_resize(&set, 4));
    /* Samples at 0, 1/4, 3/4 and 1 of the way between the two pixel centres. */
    const uint8_t expected[16] = {0, 25, 75, 100, 50, 59, 76, 85, 150, 126, 79, 55, 200, 160, 80, 40};
    for (int i = 0; i < 16; i++)
        ck_assert_msg(abs(set.pixels[i] - expected[i]) <= 1, "pixel %d is %u, not %u", i, set.pixels[i], expected[i]);
    ohm_dataset_free(&set);
}

/* The same crop and flip, written from their definition. */
static float augmented_pixel(const ohm_dataset *set, const ohm_augment *augment, int position, int index, int r, int c, int k)
{
    const ohm_stream stream = {.key = {augment->seed, 0}, .site = OHM_SITE_AUGMENT, .step = augment->step};
    uint64_t first = 4 * (augment->first + (uint64_t)position), shifts = 2 * (uint64_t)augment->crop + 1;
    int down = (int)(ohm_stream_word(&stream, first) * shifts / 4294967296.0) - augment->crop;
    int right = (int)(ohm_stream_word(&stream, first + 1) * shifts / 4294967296.0) - augment->crop;
    if (augment->flip && ohm_stream_word(&stream, first + 2) >= 0x80000000u)
        c = set->width - 1 - c;
    r += down;
    c += right;
    int outside = r < 0 || c < 0 || r >= set->height || c >= set->width;
    int pixel = outside ? 0 : set->pixels[((index * set->height + r) * set->width + c) * set->channels + k];
    return ((float)pixel / 255.0f - set->mean[k]) / set->deviation[k];
}

OHM_TEST(datasets, augmentation_depends_on_position_alone)
{
    ohm_dataset set;
    small_set(&set);
    uint32_t indices[33];
    float whole[33 * 24], parts[33 * 24];
    int32_t labels[33];
    for (uint32_t i = 0; i < 33; i++)
        indices[i] = i & 1;
    ohm_augment augment = {.crop = 2, .flip = 1, .seed = 7, .step = 11};
    omp_set_num_threads(1);
    ohm_dataset_batch(whole, labels, &set, indices, 33, &augment);
    omp_set_num_threads(2);
    ohm_dataset_batch(parts, labels, &set, indices, 20, &augment);
    augment.first = 20;
    ohm_dataset_batch(parts + 20 * 24, labels, &set, indices + 20, 13, &augment);
    OHM_ASSERT(ohm_compare_bits(parts, whole, 33 * 24));
    augment.first = 0;
    for (int i = 0; i < 33 * 24; i++)
        ck_assert(whole[i] == augmented_pixel(&set, &augment, i / 24, (int)indices[i / 24], i % 24 / 8, i % 8 / 2, i % 2));
    ohm_dataset_free(&set);
}

OHM_TEST(datasets, order_is_a_permutation_that_moves_with_epoch_and_seed)
{
    enum { COUNT = 257 };
    uint32_t order[COUNT], other[COUNT];
    int seen[COUNT] = {0}, fixed = 0, same = 0;
    ohm_dataset_order(order, COUNT, 5, 0);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_uint_lt(order[i], COUNT);
        ck_assert_int_eq(seen[order[i]]++, 0);
        fixed += order[i] == (uint32_t)i;
    }
    ck_assert_int_lt(fixed, 12); /* Poisson of mean 1: P(>= 12) < 1e-9 */
    ohm_dataset_order(other, COUNT, 5, 1);
    for (int i = 0; i < COUNT; i++)
        same += order[i] == other[i];
    ck_assert_int_lt(same, 12);
    ohm_dataset_order(other, COUNT, 6, 0);
    ck_assert_int_ne(memcmp(order, other, sizeof order), 0);
    ohm_dataset_order(order, 1, 5, 0);
    ck_assert_uint_eq(order[0], 0);
}

/* ---- files --------------------------------------------------------------------------------- */

enum { IDX_COUNT = 5, IDX_IMAGES_BYTES = 16 + IDX_COUNT * 6, IDX_LABELS_BYTES = 8 + IDX_COUNT };

static void make_idx(uint8_t *images, uint8_t *labels)
{
    memcpy(images, (const uint8_t[]){0, 0, 8, 3, 0, 0, 0, IDX_COUNT, 0, 0, 0, 2, 0, 0, 0, 3}, 16);
    memcpy(labels, (const uint8_t[]){0, 0, 8, 1, 0, 0, 0, IDX_COUNT}, 8);
    for (int i = 0; i < IDX_COUNT * 6; i++)
        images[16 + i] = (uint8_t)(7 * i);
    for (int i = 0; i < IDX_COUNT; i++)
        labels[8 + i] = (uint8_t)(9 - i);
}

OHM_TEST(datasets, mnist_reads_idx_files)
{
    const char *dir = ohm_test_tmpdir();
    uint8_t images[IDX_IMAGES_BYTES], labels[IDX_LABELS_BYTES];
    make_idx(images, labels);
    ohm_dataset train, test;
    refuse(ohm_mnist_load(&train, &test, dir), OHM_ERR_IO, "train-images-idx3-ubyte: no such file", "fetch_mnist.sh");
    put_file(dir, "train-images-idx3-ubyte", images, sizeof images);
    put_file(dir, "train-labels-idx1-ubyte", labels, sizeof labels);
    put_file(dir, "t10k-images-idx3-ubyte", images, sizeof images);
    refuse(ohm_mnist_load(&train, &test, dir), OHM_ERR_IO, "t10k-labels-idx1-ubyte: no such file", "fetch_mnist.sh");
    ck_assert_ptr_null(train.pixels);
    put_file(dir, "t10k-labels-idx1-ubyte", labels, sizeof labels);
    OHM_OK_OR_FAIL(ohm_mnist_load(&train, &test, dir));
    ck_assert(train.count == IDX_COUNT && train.height == 2 && train.width == 3 && train.channels == 1 && train.classes == 10);
    ck_assert_mem_eq(test.pixels, images + 16, IDX_COUNT * 6);
    ck_assert_mem_eq(test.labels, labels + 8, IDX_COUNT);
    ohm_dataset_free(&train);
    ohm_dataset_free(&test);
}

OHM_TEST(datasets, bad_idx_files_are_refused_in_one_line)
{
    uint8_t images[IDX_IMAGES_BYTES], labels[IDX_LABELS_BYTES];
    ohm_dataset set;
    make_idx(images, labels);
#define PARSE(images_bytes, labels_bytes) ohm_idx_parse(&set, "mnist", images, (images_bytes), "I", labels, (labels_bytes), "L")
    for (size_t size = 0; size < sizeof images; size++)
        refuse(PARSE(size, sizeof labels), OHM_ERR_DATA, "I: ", "fetch_mnist.sh");
    for (size_t size = 0; size < sizeof labels; size++)
        refuse(PARSE(sizeof images, size), OHM_ERR_DATA, "L: ", "fetch_mnist.sh");
    labels[8 + 2] = 10;
    refuse(PARSE(sizeof images, sizeof labels), OHM_ERR_DATA, "label 10 of image 2", "fetch_mnist.sh");
    labels[3] = 9;
    refuse(PARSE(sizeof images, sizeof labels), OHM_ERR_DATA, "magic", "fetch_mnist.sh");
    make_idx(images, labels);
    labels[7] = IDX_COUNT - 1;
    refuse(PARSE(sizeof images, sizeof labels - 1), OHM_ERR_DATA, "4 labels for the 5 images", "fetch_mnist.sh");
    make_idx(images, labels);
    memset(images + 4, 0xff, 12);
    refuse(PARSE(sizeof images, sizeof labels), OHM_ERR_DATA, "dimension 0", "fetch_mnist.sh");
    make_idx(images, labels);
    images[7] = 0;
    refuse(PARSE(16, sizeof labels), OHM_ERR_DATA, "dimension 0 is 0", "fetch_mnist.sh");
}

static void make_cifar(const char *dir, int batch_records, int test_records)
{
    uint8_t *bytes = malloc((size_t)(batch_records + test_records) * OHM_CIFAR_RECORD);
    for (int i = 0; i < (batch_records + test_records) * OHM_CIFAR_RECORD; i++)
        bytes[i] = (uint8_t)(i % OHM_CIFAR_RECORD ? i * 7 % 251 : i / OHM_CIFAR_RECORD % 10);
    for (int i = 1; i <= 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "data_batch_%d.bin", i);
        put_file(dir, name, bytes, (size_t)batch_records * OHM_CIFAR_RECORD);
    }
    put_file(dir, "test_batch.bin", bytes, (size_t)test_records * OHM_CIFAR_RECORD);
    free(bytes);
}

OHM_TEST(datasets, cifar_planes_become_channels)
{
    const char *dir = ohm_test_tmpdir();
    ohm_dataset train, test;
    refuse(ohm_cifar10_load(&train, &test, dir), OHM_ERR_IO, "data_batch_1.bin: no such file", "fetch_cifar10.sh");
    make_cifar(dir, 3, 2);
    OHM_OK_OR_FAIL(ohm_cifar10_load(&train, &test, dir));
    ck_assert(train.count == 15 && test.count == 2 && train.height == 32 && train.channels == 3 && train.classes == 10);
    int image = 4, y = 5, x = 6, plane = 2; /* image 4 is record 1 of the second file */
    int byte = OHM_CIFAR_RECORD + 1 + plane * 1024 + y * 32 + x;
    ck_assert_uint_eq(train.pixels[((image * 32 + y) * 32 + x) * 3 + plane], byte * 7 % 251);
    ck_assert_uint_eq(train.labels[image], 1);
    ohm_dataset_free(&train);
    ohm_dataset_free(&test);
}

OHM_TEST(datasets, bad_cifar_files_are_refused_in_one_line)
{
    const char *dir = ohm_test_tmpdir();
    ohm_dataset train, test;
    uint8_t record[2 * OHM_CIFAR_RECORD] = {0};
    make_cifar(dir, 2, 2);
    put_file(dir, "data_batch_3.bin", record, sizeof record - 1);
    refuse(ohm_cifar10_load(&train, &test, dir), OHM_ERR_DATA, "data_batch_3.bin: 6145 bytes", "fetch_cifar10.sh");
    put_file(dir, "data_batch_3.bin", record, OHM_CIFAR_RECORD);
    refuse(ohm_cifar10_load(&train, &test, dir), OHM_ERR_DATA, "data_batch_3.bin: 1 images", "fetch_cifar10.sh");
    record[OHM_CIFAR_RECORD] = 10;
    put_file(dir, "data_batch_3.bin", record, sizeof record);
    refuse(ohm_cifar10_load(&train, &test, dir), OHM_ERR_DATA, "label 10 of image 1", "fetch_cifar10.sh");
    put_file(dir, "data_batch_3.bin", record, 0);
    refuse(ohm_cifar10_load(&train, &test, dir), OHM_ERR_DATA, "data_batch_3.bin: 0 bytes", "fetch_cifar10.sh");
    ck_assert_ptr_null(train.pixels);
    ck_assert_ptr_null(test.pixels);
}

/* The original CIFAR-10, where it is: OHMGRAD_DATA/cifar10 or data/cifar10. */
OHM_TEST_SLOW(datasets, original_cifar_has_its_known_shape)
{
    char dir[512];
    const char *data = getenv("OHMGRAD_DATA");
    struct stat info;
    snprintf(dir, sizeof dir, "%s/cifar10", data ? data : "data");
    if (stat(dir, &info) != 0)
        OHM_SKIP("%s is not there; datasets/fetch_cifar10.sh fetches it", dir);
    ohm_dataset train, test;
    OHM_OK_OR_FAIL(ohm_cifar10_load(&train, &test, dir));
    ck_assert(train.count == 50000 && test.count == 10000);
    int seen[10] = {0};
    for (int i = 0; i < train.count; i++)
        seen[train.labels[i]]++;
    for (int c = 0; c < 10; c++)
        ck_assert_int_eq(seen[c], 5000);
    ohm_dataset_measure(&train);
    const double mean[3] = {0.4914, 0.4822, 0.4465}; /* of the original; a JPEG copy is as close */
    OHM_ASSERT(ohm_compare_close(train.mean, mean, 3, 2e-3, 0));
    ohm_dataset_free(&train);
    ohm_dataset_free(&test);
}

/* ---- fetch scripts ------------------------------------------------------------------------- */

/* A curl that delivers "part" and fails, then, asked to continue, delivers the rest. */
static void fake_curl(const char *dir)
{
    ck_assert_int_eq(ohm_test_run(NULL, 0,
                                  "cd %s && cat >curl <<'EOF'\n#!/bin/sh\nfor last; do :; done\nwhile [ \"$1\" != -o ]; do shift; done\n"
                                  "if [ -f \"$2\" ]; then printf whole >>\"$2\"; else printf part >\"$2\"; exit 18; fi\nEOF\nchmod +x curl",
                                  dir),
                     0);
}

OHM_TEST(datasets, fetch_continues_and_checks)
{
    const char *dir = ohm_test_tmpdir();
    char out[1024];
    fake_curl(dir);
    const char *sum = "ad46ea1139b94af7ab6f30a2dd5fa0a1a57d5bda4bbb4d1ac5c1a1ca8b5a6b3c";
#define FETCH(sum) ohm_test_run(out, sizeof out, "PATH=%s:$PATH sh -c '. datasets/fetch_lib.sh; fetch %s/file %s http://one'", dir, dir, sum)
    ck_assert_int_ne(FETCH(sum), 0);
    ck_assert_ptr_nonnull(strstr(out, "continues where it stopped"));
    ck_assert_int_ne(FETCH(sum), 0); /* complete, but not what was asked for */
    ck_assert_ptr_nonnull(strstr(out, "SHA-256 is not"));
    ck_assert_int_eq(ohm_test_run(NULL, 0, "test ! -e %s/file && test ! -e %s/file.part", dir, dir), 0);
    ohm_test_run(out, sizeof out, "printf partwhole | sha256sum");
    out[64] = 0;
    char right[65];
    memcpy(right, out, 65);
    ck_assert_int_ne(FETCH(right), 0);
    ck_assert_int_eq(FETCH(right), 0);
    ck_assert_int_eq(ohm_test_run(out, sizeof out, "cat %s/file", dir), 0);
    ck_assert_str_eq(out, "partwhole");
}

OHM_TEST(datasets, fetch_scripts_leave_nothing_damaged)
{
    const char *dir = ohm_test_tmpdir();
    char out[1024];
    fake_curl(dir);
    ck_assert_int_ne(ohm_test_run(out, sizeof out, "for i in 1 2; do PATH=%s:$PATH CIFAR10_URL=http://one sh datasets/fetch_cifar10.sh %s/cifar; done", dir, dir), 0);
    ck_assert_ptr_nonnull(strstr(out, "damaged file is removed"));
    ck_assert_int_ne(ohm_test_run(out, sizeof out, "PATH=%s:$PATH sh datasets/fetch_mnist.sh %s/mnist", dir, dir), 0);
    ck_assert_ptr_nonnull(strstr(out, "damaged file is removed")); /* the second address continued the first's part */
    ck_assert_int_eq(ohm_test_run(out, sizeof out, "find %s/cifar %s/mnist -type f", dir, dir), 0);
    ck_assert_str_eq(out, "");
}
