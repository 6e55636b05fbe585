/* Whole files: bounded reading, atomic writing. */
#ifndef OHM_HOST_FILE_H
#define OHM_HOST_FILE_H

#include <stddef.h>
#include <stdio.h>

#include "host/status.h"

/* Reads a file of at most `limit` bytes. *data is allocated, ends in a NUL that *bytes does not
 * count, and belongs to the caller (free). OHM_ERR_IO: missing, a directory or device, unreadable;
 * OHM_ERR_DATA: longer than the limit. */
ohm_status ohm_file_read(char **data, size_t *bytes, const char *path, size_t limit);

typedef struct {
    const void *data;
    size_t bytes;
} ohm_file_part;

/* Writes the parts one after another to a temporary file beside `path`, syncs it and renames it to
 * `path`, so that a reader sees the old file or the whole new one, never a piece. On failure
 * (OHM_ERR_IO) the old file stands and the temporary one is gone; a process killed meanwhile leaves
 * PATH.tmp-<pid>-<n>. What is not a regular file (a device, a directory) is never replaced. */
ohm_status ohm_file_write_atomic(const char *path, const ohm_file_part *parts, int count);

/* Text that is printed before it is known whether it can be written. */
typedef struct {
    FILE *stream;
    char *data;
    size_t bytes;
} ohm_file_text;
/* Opens *text for printing to text->stream; `path` is for the message. OHM_ERR_MEMORY. */
ohm_status ohm_file_text_open(ohm_file_text *text, const char *path);
/* Writes what was printed, atomically, and frees it, written or not. */
ohm_status ohm_file_text_write(ohm_file_text *text, const char *path);

/* Whether ohm_file_write_atomic could write to `path` now; leaves nothing. For a run that must not find
 * out at its end. */
ohm_status ohm_file_check_writable(const char *path);

/* Makes a folder and those above it that are missing, as mkdir -p. OHM_ERR_IO: cannot, or a file stands there. */
ohm_status ohm_file_make_folder(const char *path);

/* Puts `name` behind the folder of `of` ("a/b.yaml", "c" -> "a/c"); an absolute name stays. */
ohm_status ohm_file_beside(char *path, size_t bytes, const char *of, const char *name);

#endif
