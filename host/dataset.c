#include "host/dataset.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/philox.h"

ohm_status ohm_dataset_create(ohm_dataset *set, const char *name, int count, int height, int width, int channels, int classes)
{
    memset(set, 0, sizeof *set);
    if (count < 1 || height < 1 || width < 1 || channels < 1 || channels > OHM_CHANNELS_MAX || classes < 1 || classes > 256)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "%s: a data set of %d images of %dx%dx%d in %d classes is not possible", name, count,
                        height, width, channels, classes);
    snprintf(set->name, sizeof set->name, "%s", name);
    set->count = count;
    set->height = height;
    set->width = width;
    set->channels = channels;
    set->classes = classes;
    set->pixels = calloc((size_t)count, ohm_dataset_image_bytes(set));
    set->labels = calloc((size_t)count, 1);
    for (int c = 0; c < OHM_CHANNELS_MAX; c++)
        set->deviation[c] = 1;
    if (set->pixels && set->labels)
        return OHM_OK;
    ohm_dataset_free(set);
    return OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory for %d images of %dx%dx%d", name, count, height, width, channels);
}

void ohm_dataset_free(ohm_dataset *set)
{
    if (!set)
        return;
    free(set->pixels);
    free(set->labels);
    memset(set, 0, sizeof *set);
}

size_t ohm_dataset_image_bytes(const ohm_dataset *set)
{
    return (size_t)set->height * (size_t)set->width * (size_t)set->channels;
}

void ohm_dataset_limit(ohm_dataset *set, int limit)
{
    if (limit <= 0 || limit >= set->count)
        return;
    size_t bytes = ohm_dataset_image_bytes(set);
    for (int i = 0; i < limit; i++) {
        size_t from = (size_t)i * (size_t)set->count / (size_t)limit; /* never before i */
        memmove(set->pixels + (size_t)i * bytes, set->pixels + from * bytes, bytes);
        set->labels[i] = set->labels[from];
    }
    set->count = limit;
}

/* Where output pixel `at` of `out` falls among `in` pixels: the lower neighbour and the upper one's share. */
static int source_pixel(int at, int out, int in, float *share)
{
    float position = ((float)at + 0.5f) * (float)in / (float)out - 0.5f;
    position = fminf(fmaxf(position, 0), (float)(in - 1));
    int low = (int)position;
    *share = position - (float)low;
    return low;
}

static void resize_image(uint8_t *out, int size, const uint8_t *in, int height, int width, int channels)
{
    for (int r = 0; r < size; r++) {
        float down, right;
        int top = source_pixel(r, size, height, &down), bottom = top + (top + 1 < height);
        for (int c = 0; c < size; c++) {
            int left = source_pixel(c, size, width, &right), next = left + (left + 1 < width);
            for (int k = 0; k < channels; k++) {
                float a = in[(top * width + left) * channels + k], b = in[(top * width + next) * channels + k];
                float d = in[(bottom * width + left) * channels + k], e = in[(bottom * width + next) * channels + k];
                float value = (a + (b - a) * right) * (1 - down) + (d + (e - d) * right) * down;
                *out++ = (uint8_t)lrintf(value);
            }
        }
    }
}

ohm_status ohm_dataset_resize(ohm_dataset *set, int size)
{
    if (size == set->height && size == set->width)
        return OHM_OK;
    ohm_dataset out;
    OHM_TRY(ohm_dataset_create(&out, set->name, set->count, size, size, set->channels, set->classes));
    for (int i = 0; i < set->count; i++)
        resize_image(out.pixels + (size_t)i * ohm_dataset_image_bytes(&out), size,
                     set->pixels + (size_t)i * ohm_dataset_image_bytes(set), set->height, set->width, set->channels);
    memcpy(out.labels, set->labels, (size_t)set->count);
    memcpy(out.mean, set->mean, sizeof out.mean);
    memcpy(out.deviation, set->deviation, sizeof out.deviation);
    ohm_dataset_free(set);
    *set = out;
    return OHM_OK;
}

void ohm_dataset_measure(ohm_dataset *set)
{
    size_t pixels = (size_t)set->count * (size_t)set->height * (size_t)set->width;
    for (int c = 0; c < set->channels; c++) {
        uint64_t sum = 0, squares = 0; /* integers: exact in any order */
        for (size_t i = 0; i < pixels; i++) {
            uint32_t v = set->pixels[i * (size_t)set->channels + (size_t)c];
            sum += v;
            squares += (uint64_t)v * v;
        }
        double mean = (double)sum / (double)pixels;
        double variance = (double)squares / (double)pixels - mean * mean;
        set->mean[c] = (float)(mean / 255);
        set->deviation[c] = variance > 1e-9 ? (float)(sqrt(variance) / 255) : 1;
    }
}

void ohm_dataset_order(uint32_t *order, int count, uint32_t seed, uint32_t epoch)
{
    const ohm_stream stream = {.key = {seed, 0}, .site = OHM_SITE_DATA_ORDER, .step = epoch};
    for (int i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    /* Fisher-Yates; the multiply-shift's bias is below count / 2^32. */
    for (int i = count - 1; i > 0; i--) {
        uint32_t j = (uint32_t)((uint64_t)ohm_stream_word(&stream, (uint64_t)i) * ((uint64_t)i + 1) >> 32);
        uint32_t swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

typedef struct {
    int down, right, mirrored; /* shift of the crop window against the image */
} image_view;

static image_view draw_view(const ohm_augment *augment, int position)
{
    image_view view = {0, 0, 0};
    if (!augment || (augment->crop == 0 && !augment->flip))
        return view;
    const ohm_stream stream = {.key = {augment->seed, 0}, .site = OHM_SITE_AUGMENT, .step = augment->step};
    uint32_t word[4];
    ohm_stream_block(word, &stream, augment->first + (uint64_t)position);
    uint64_t shifts = 2 * (uint64_t)augment->crop + 1;
    view.down = (int)(word[0] * shifts >> 32) - augment->crop;
    view.right = (int)(word[1] * shifts >> 32) - augment->crop;
    view.mirrored = augment->flip && word[2] >> 31;
    return view;
}

static void normalise_image(float *x, const ohm_dataset *set, const uint8_t *pixels, image_view view, float table[][256])
{
    const int height = set->height, width = set->width, channels = set->channels;
    for (int r = 0; r < height; r++)
        for (int c = 0; c < width; c++) {
            int row = r + view.down, column = (view.mirrored ? width - 1 - c : c) + view.right;
            int inside = row >= 0 && row < height && column >= 0 && column < width;
            const uint8_t *pixel = inside ? pixels + (row * width + column) * channels : NULL;
            for (int k = 0; k < channels; k++)
                *x++ = table[k][pixel ? pixel[k] : 0];
        }
}

void ohm_dataset_batch(float *x, int32_t *labels, const ohm_dataset *set, const uint32_t *indices, int n, const ohm_augment *augment)
{
    float table[OHM_CHANNELS_MAX][256];
    for (int c = 0; c < set->channels; c++)
        for (int v = 0; v < 256; v++)
            table[c][v] = ((float)v / 255.0f - set->mean[c]) / set->deviation[c];
    const size_t bytes = ohm_dataset_image_bytes(set);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++) {
        normalise_image(x + (size_t)i * bytes, set, set->pixels + indices[i] * bytes, draw_view(augment, i), table);
        labels[i] = set->labels[indices[i]];
    }
}
