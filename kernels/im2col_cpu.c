#include "kernels/im2col.h"

#include <string.h>

enum { ROWS = 256 };

/* Where a row of the product looks at the input. */
typedef struct {
    size_t image;
    int y, x; /* of the patch's first tap; may lie outside */
} window;

static window window_of(const ohm_conv_shape *s, size_t row)
{
    size_t positions = ohm_conv_rows(s, 1), at = row % positions;
    return (window){row / positions, (int)(at / (size_t)s->out_width) * s->stride - s->pad,
                    (int)(at % (size_t)s->out_width) * s->stride - s->pad};
}

static void advance(window *at, const ohm_conv_shape *s)
{
    at->x += s->stride;
    if (at->x < s->out_width * s->stride - s->pad)
        return;
    at->x = -s->pad;
    at->y += s->stride;
    if (at->y < s->out_height * s->stride - s->pad)
        return;
    at->y = -s->pad;
    at->image++;
}

/* The taps of one kernel row that fall on pixels: taps first .. first + count - 1. */
typedef struct {
    int first, count;
} run;

static run inside(const ohm_conv_shape *s, int x)
{
    int first = x < 0 ? -x : 0;
    int last = x + s->kernel > s->width ? s->width - x : s->kernel;
    if (first > s->kernel)
        first = s->kernel;
    return (run){first, last > first ? last - first : 0};
}

static size_t pixel(const ohm_conv_shape *s, size_t image, int y, int x)
{
    return ((image * (size_t)s->height + (size_t)y) * (size_t)s->width + (size_t)x) *
           (size_t)s->channels;
}

/* Elements of `unit` bytes; what lies outside the image gets the byte `outside`. */
static void gather(char *patches, const char *x, size_t unit, int outside, const ohm_conv_shape *s,
                   size_t first_row, int rows, int ky0, int ky1)
{
    size_t one = (size_t)s->channels * unit, line = (size_t)s->kernel * one;
    window at = window_of(s, first_row);
    for (int r = 0; r < rows; r++, advance(&at, s)) {
        run taps = inside(s, at.x);
        size_t before = (size_t)taps.first * one, across = (size_t)taps.count * one;
        for (int ky = ky0; ky < ky1; ky++, patches += line) {
            int y = at.y + ky;
            if (y < 0 || y >= s->height || across == 0) {
                memset(patches, outside, line);
                continue;
            }
            const char *from = x + pixel(s, at.image, y, at.x + taps.first) * unit;
            if (across == line) {
                memcpy(patches, from, line);
                continue;
            }
            memset(patches, outside, before);
            memcpy(patches + before, from, across);
            memset(patches + before + across, outside, line - before - across);
        }
    }
}

void ohm_im2col_block(float *patches, const float *x, const ohm_conv_shape *s, size_t first_row,
                      int rows, int ky0, int ky1)
{
    gather((char *)patches, (const char *)x, sizeof *x, 0, s, first_row, rows, ky0, ky1);
}

void ohm_col2im_block(float *dx, const float *patches, const ohm_conv_shape *s, size_t first_row,
                      int rows)
{
    size_t channels = (size_t)s->channels, line = (size_t)s->kernel * channels;
    window at = window_of(s, first_row);
    for (int r = 0; r < rows; r++, advance(&at, s)) {
        run taps = inside(s, at.x);
        size_t before = (size_t)taps.first * channels, across = (size_t)taps.count * channels;
        for (int ky = 0; ky < s->kernel; ky++, patches += line) {
            int y = at.y + ky;
            if (y < 0 || y >= s->height || across == 0)
                continue;
            float *restrict to = dx + pixel(s, at.image, y, at.x + taps.first);
            const float *restrict from = patches + before;
            for (size_t i = 0; i < across; i++)
                to[i] += from[i];
        }
    }
}

void ohm_im2col_cpu(float *patches, const float *x, const ohm_conv_shape *s, size_t first_row,
                    int rows)
{
    size_t k = (size_t)ohm_conv_k(s);
#pragma omp parallel for schedule(static) if (rows > ROWS)
    for (int row = 0; row < rows; row += ROWS)
        ohm_im2col_block(patches + (size_t)row * k, x, s, first_row + (size_t)row,
                         rows - row < ROWS ? rows - row : ROWS, 0, s->kernel);
}

void ohm_im2col_codes_cpu(uint8_t *patches, const uint8_t *x, uint8_t outside,
                          const ohm_conv_shape *s, size_t first_row, int rows)
{
    size_t k = (size_t)ohm_conv_k(s);
#pragma omp parallel for schedule(static) if (rows > ROWS)
    for (int row = 0; row < rows; row += ROWS)
        gather((char *)patches + (size_t)row * k, (const char *)x, 1, outside, s,
               first_row + (size_t)row, rows - row < ROWS ? rows - row : ROWS, 0, s->kernel);
}

/* Patches of an image overlap, those of two images do not: a thread takes whole images. */
void ohm_col2im_cpu(float *dx, const float *patches, const ohm_conv_shape *s, size_t first_row,
                    int rows)
{
    if (rows <= 0)
        return;
    size_t positions = ohm_conv_rows(s, 1), k = (size_t)ohm_conv_k(s),
           end = first_row + (size_t)rows;
#pragma omp parallel for schedule(static) if (rows > ROWS)
    for (size_t image = first_row / positions; image <= (end - 1) / positions; image++) {
        size_t from = image * positions > first_row ? image * positions : first_row;
        size_t to = (image + 1) * positions < end ? (image + 1) * positions : end;
        ohm_col2im_block(dx, patches + (from - first_row) * k, s, from, (int)(to - from));
    }
}
