/* The CUDA runtime as the host code sees it: devices, memory, streams, events, graphs. C, opaque
 * handles, no CUDA header. runtime_cuda.cu implements it on the runtime; in tests
 * tests/executor/runtime_executor.cpp implements the same on host memory.
 *
 * Every call returns a status; on failure ohm_cuda_error_text() is one line: phase, call, reason.
 * Calls that take a stream are asynchronous: their memory must stay until the stream was waited for,
 * and an error inside a kernel may come out of a later call. A NULL stream is not allowed: there is
 * no default stream. While a stream is captured, nothing may be allocated, freed or waited for.
 * On a machine without driver or device every call returns OHM_CUDA_ABSENT, and none crashes. */
#ifndef OHM_KERNELS_RUNTIME_CUDA_H
#define OHM_KERNELS_RUNTIME_CUDA_H

#include <stddef.h>

#include "kernels/portable.h"

OHM_C_BEGIN

typedef enum {
    OHM_CUDA_OK = 0,
    OHM_CUDA_ABSENT,   /* no driver, an old one, or no such device */
    OHM_CUDA_ARGUMENT, /* a launch or a call that the runtime refuses: sizes, handles, order */
    OHM_CUDA_MEMORY,   /* does not fit */
    OHM_CUDA_KERNEL,   /* a kernel failed: address, trap, time-out; its results are void */
    OHM_CUDA_LOST      /* the device or its context is gone: nothing on it can be used again */
} ohm_cuda_status;

typedef struct ohm_cuda_stream_body *ohm_cuda_stream;
typedef struct ohm_cuda_event_body *ohm_cuda_event;
typedef struct ohm_cuda_graph_body *ohm_cuda_graph;

typedef struct {
    char name[256];
    char bus[16];     /* where the system finds it: "0000:3b:00.0"; "" nowhere */
    int major, minor; /* compute capability */
    int multiprocessors;
    size_t memory_bytes; /* of the device in total */
    size_t l2_bytes;
    size_t shared_bytes; /* most dynamic shared memory a block may ask for */
    int driver, runtime; /* 1000·major + 10·minor of what each supports */
    unsigned distrusted; /* bit ohm_mvm_kernel: it was tried here and gave wrong results; 0 at first */
} ohm_cuda_device;

/* The last failure of this thread, never NULL: "call: reason". */
const char *ohm_cuda_error_text(void);

/* ---- devices ------------------------------------------------------------------------------- */

/* *count = devices that can be used; 0 with OHM_CUDA_ABSENT where there is no driver. */
ohm_cuda_status ohm_cuda_count(int *count);
ohm_cuda_status ohm_cuda_describe(ohm_cuda_device *out, int device);
/* Later calls of this thread are about this device. */
ohm_cuda_status ohm_cuda_use(int device);
/* Bytes of the device in use. */
ohm_cuda_status ohm_cuda_memory(size_t *available, size_t *total);

/* ---- memory -------------------------------------------------------------------------------- */

/* At least 256-byte aligned; 0 bytes give NULL. Contents are undefined. */
ohm_cuda_status ohm_cuda_allocate(void **out, size_t bytes);
ohm_cuda_status ohm_cuda_free(void *device);
/* Page-locked host memory, which copies need in order to be asynchronous. */
ohm_cuda_status ohm_cuda_allocate_host(void **out, size_t bytes);
ohm_cuda_status ohm_cuda_free_host(void *host);

ohm_cuda_status ohm_cuda_upload(void *device, const void *host, size_t bytes, ohm_cuda_stream s);
ohm_cuda_status ohm_cuda_download(void *host, const void *device, size_t bytes, ohm_cuda_stream s);
ohm_cuda_status ohm_cuda_copy(void *device, const void *from_device, size_t bytes,
                              ohm_cuda_stream s);
/* Every byte becomes `byte`. */
ohm_cuda_status ohm_cuda_fill(void *device, int byte, size_t bytes, ohm_cuda_stream s);

/* ---- streams and events -------------------------------------------------------------------- */

ohm_cuda_status ohm_cuda_stream_create(ohm_cuda_stream *out);
void ohm_cuda_stream_destroy(ohm_cuda_stream s); /* NULL-safe, as all three */
ohm_cuda_status ohm_cuda_stream_wait(ohm_cuda_stream s);

ohm_cuda_status ohm_cuda_event_create(ohm_cuda_event *out);
void ohm_cuda_event_destroy(ohm_cuda_event e);
ohm_cuda_status ohm_cuda_event_record(ohm_cuda_event e, ohm_cuda_stream s);
/* The host waits. */
ohm_cuda_status ohm_cuda_event_wait(ohm_cuda_event e);
/* Time between two recorded and reached events. */
ohm_cuda_status ohm_cuda_event_seconds(double *out, ohm_cuda_event from, ohm_cuda_event to);

/* ---- graphs -------------------------------------------------------------------------------- */

/* What is queued on s between begin and end is not run but recorded. end makes *graph where it is
 * NULL, else replaces its work (in place where the shape allows, made anew where not). After a
 * failure inside a capture, end must still be called; it fails then and leaves *graph as it was. */
ohm_cuda_status ohm_cuda_graph_begin(ohm_cuda_stream s);
ohm_cuda_status ohm_cuda_graph_end(ohm_cuda_graph *graph, ohm_cuda_stream s);
ohm_cuda_status ohm_cuda_graph_launch(ohm_cuda_graph graph, ohm_cuda_stream s);
void ohm_cuda_graph_destroy(ohm_cuda_graph graph);

/* Records a failure as this module does and returns status: for the other *_cuda.cu files. */
ohm_cuda_status ohm_cuda_fail(ohm_cuda_status status, const char *call, const char *reason);

OHM_C_END

#endif
