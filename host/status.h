/* Errors. Every call that can fail returns an ohm_status. The place where something goes wrong
 * records one line (what, where, what to do) with OHM_FAIL; callers forward with OHM_TRY; whoever
 * handles it prints ohm_error_text() once. The record is one per thread, like errno. */
#ifndef OHM_HOST_STATUS_H
#define OHM_HOST_STATUS_H

typedef enum {
    OHM_OK = 0,
    OHM_ERR_ARGUMENT,    /* a value the caller passed: shape, range, null */
    OHM_ERR_CONFIG,      /* a key or value of a configuration or command line */
    OHM_ERR_DATA,        /* a file's contents: truncated, torn, wrong magic, NaN */
    OHM_ERR_IO,          /* the operating system refused: missing, unwritable, disk full */
    OHM_ERR_MEMORY,      /* does not fit */
    OHM_ERR_UNSUPPORTED, /* a backend, plug-in or mode lacks this operation */
    OHM_ERR_INTERRUPTED, /* stopped by a signal after a clean checkpoint */
    OHM_ERR_DEVICE,      /* a device failed while it computed: what was on it is void */
} ohm_status;

ohm_status ohm_fail_at(const char *file, int line, ohm_status code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
#define OHM_FAIL(code, ...) ohm_fail_at(__FILE__, __LINE__, (code), __VA_ARGS__)

#define OHM_TRY(call)                                                                              \
    do {                                                                                           \
        ohm_status ohm_try_status_ = (call);                                                       \
        if (ohm_try_status_ != OHM_OK)                                                             \
            return ohm_try_status_;                                                                \
    } while (0)

/* The last failure of this thread: its line of text (never NULL), its origin "file:line". */
const char *ohm_error_text(void);
const char *ohm_error_origin(void);
/* Puts "prefix: " in front of the recorded text (a file name, a layer) and returns code unchanged. */
ohm_status ohm_error_prefix(ohm_status code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
