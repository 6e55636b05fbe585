/* safetensors files (github.com/huggingface/safetensors): 8 bytes of header length, a JSON header
 * (names, types, shapes, offsets, string metadata), then the tensors without gaps. Numbers are
 * little-endian. We write F32 and read every type of the format, strictly.
 *
 * A sealed file carries the metadata "ohmgrad.sha256": the SHA-256 of the whole file with these 64
 * hexadecimal digits taken as '0'. It covers the header as well as the data. */
#ifndef OHM_HOST_SAFETENSORS_H
#define OHM_HOST_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "host/status.h"

enum { OHM_TENSOR_RANK_MAX = 8 };

typedef struct {
    const char *name;
    const char *type;                   /* "F32", ... */
    int rank;
    int64_t shape[OHM_TENSOR_RANK_MAX];
    size_t count, bytes;                /* elements; bytes of data */
    void *data;                         /* inside the file's memory; aligned to 8 bytes only in files made here */
} ohm_safetensor;

typedef struct {
    const char *key, *value;
} ohm_metadata;

typedef struct ohm_safetensors ohm_safetensors; /* one file in memory */

/* Lays out a new file of F32 tensors: name, rank and shape are taken from the rows (copied). The data
 * are zero; the caller fills them through ohm_safetensors_find, then calls _write. A shape or a
 * repeated name that the format does not allow: OHM_ERR_ARGUMENT. */
ohm_status ohm_safetensors_create(ohm_safetensors **file, const ohm_safetensor *tensors, int count, const ohm_metadata *metadata, int pairs);
/* Seals the file and writes it atomically. */
ohm_status ohm_safetensors_write(ohm_safetensors *file, const char *path);

/* Reads and checks a file: header, sizes, offsets (no gap, no overlap, nothing after the end), names
 * used once, and the seal where there is one. OHM_ERR_IO, OHM_ERR_DATA. */
ohm_status ohm_safetensors_read(ohm_safetensors **file, const char *path);
/* The same from memory: `bytes` (from malloc) is taken over, also on failure. `path` is for messages. */
ohm_status ohm_safetensors_parse(ohm_safetensors **file, void *bytes, size_t size, const char *path);
void ohm_safetensors_destroy(ohm_safetensors *file); /* NULL-safe */

int ohm_safetensors_count(const ohm_safetensors *file);
const ohm_safetensor *ohm_safetensors_at(const ohm_safetensors *file, int index); /* in order of offsets */
const ohm_safetensor *ohm_safetensors_find(const ohm_safetensors *file, const char *name); /* NULL if absent */
const char *ohm_safetensors_metadata(const ohm_safetensors *file, const char *key);        /* NULL if absent */
int ohm_safetensors_sealed(const ohm_safetensors *file); /* 1: it carries a checksum, and it is right */

#endif
