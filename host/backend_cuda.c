/* The backend of CUDA devices: kernels/layers_cuda.h on one stream. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/backend.h"
#include "host/backend_cuda.h"
#include "host/mvm_check_cuda.h"
#include "host/chip_analog.h"
#include "kernels/activation.h"
#include "kernels/batchnorm.h"
#include "kernels/layers_cuda.h"
#include "kernels/ranges_cuda.h"

enum { PIECES = 64, PLACES = 1024 };

/* What a part of the queue is about. */
typedef struct {
    const char *phase, *layer;
} place;

struct ohm_device {
    int index;
    ohm_cuda_device about;
    ohm_cuda_stream stream;
    ohm_gemm_cuda gemm;
    ohm_cuda_graph graph;
    int recording;
    /* Places that were marked, in order of their first mark; `here` is the present one. As the stream
     * comes to a mark it writes the number to the host, where it outlives the device. */
    place at[PLACES];
    int places, here;
    uint16_t *reached;
    ohm_cuda_status failed; /* the first failure; nothing is queued after it */
    char text[512];         /* of it */
};

/* ---- errors -------------------------------------------------------------------------------- */

static ohm_status code_of(ohm_cuda_status status)
{
    switch (status) {
    case OHM_CUDA_OK:
        return OHM_OK;
    case OHM_CUDA_MEMORY:
        return OHM_ERR_MEMORY;
    case OHM_CUDA_ABSENT:
        return OHM_ERR_UNSUPPORTED;
    default:
        return OHM_ERR_DEVICE;
    }
}

/* Keeps the first failure and where it was. */
static void note_at(ohm_device *device, ohm_cuda_status status, const place *at)
{
    if (status == OHM_CUDA_OK || device->failed != OHM_CUDA_OK)
        return;
    device->failed = status;
    snprintf(device->text, sizeof device->text, "device cuda:%d: %s%s%s%s%s", device->index,
             at->phase ? at->phase : "", at->layer ? ", layer " : "", at->layer ? at->layer : "",
             at->phase ? ": " : "", ohm_cuda_error_text());
}

/* Of a call that failed by itself. */
static void note(ohm_device *device, ohm_cuda_status status)
{
    note_at(device, status, &device->at[device->here]);
}

static ohm_status status_of(ohm_device *device)
{
    if (device->failed == OHM_CUDA_OK)
        return OHM_OK;
    return OHM_FAIL(code_of(device->failed), "%s", device->text);
}

static ohm_status check(ohm_device *device, ohm_cuda_status status)
{
    note(device, status);
    return status_of(device);
}

ohm_cuda_stream ohm_backend_cuda_stream(ohm_device *device)
{
    return device->stream;
}

const ohm_cuda_device *ohm_backend_cuda_about(const ohm_device *device)
{
    return &device->about;
}

ohm_status ohm_backend_cuda_status(ohm_device *device)
{
    return status_of(device);
}

void ohm_backend_cuda_note(ohm_device *device, ohm_cuda_status status)
{
    note(device, status);
}

/* ---- the device ---------------------------------------------------------------------------- */

static int threads(void)
{
    return PIECES;
}

/* The kernels are built for compute capability 8.0 and later. A device without a driver is the host
 * executor of the tests: for those who ask for it. */
static int usable(int index, int automatic)
{
    int count;
    ohm_cuda_device about;
    return ohm_cuda_count(&count) == OHM_CUDA_OK && index < count &&
           ohm_cuda_describe(&about, index) == OHM_CUDA_OK && about.major >= 8 &&
           (about.driver > 0 || !automatic);
}

static ohm_status describe(char *name, size_t room, size_t *bytes, int index)
{
    int count;
    ohm_cuda_device about;
    if (ohm_cuda_count(&count) != OHM_CUDA_OK || count < 1)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED, "device cuda:%d: %s; set device: cpu", index,
                        ohm_cuda_error_text());
    if (index >= count)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "device cuda:%d: this machine has %d, from cuda:0 on; name one of them",
                        index, count);
    if (ohm_cuda_describe(&about, index) != OHM_CUDA_OK)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED, "device cuda:%d: %s; set device: cpu", index,
                        ohm_cuda_error_text());
    if (about.major < 8)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "device cuda:%d: %s has compute capability %d.%d, 8.0 is needed; set "
                        "device: cpu",
                        index, about.name, about.major, about.minor);
    snprintf(name, room, "%s", about.name);
    *bytes = about.memory_bytes;
    return OHM_OK;
}

static void address(char *text, size_t room, int index)
{
    ohm_cuda_device about;
    *text = 0;
    if (ohm_cuda_describe(&about, index) == OHM_CUDA_OK)
        snprintf(text, room, "%s", about.bus);
}

static void versions(int *driver, int *runtime, int index)
{
    ohm_cuda_device about;
    *driver = *runtime = 0;
    if (ohm_cuda_describe(&about, index) != OHM_CUDA_OK)
        return;
    *driver = about.driver;
    *runtime = about.runtime;
}

extern const ohm_backend ohm_backend_cuda;

/* A chip of one cell is made and dropped: the simulator says what it cannot do. */
static ohm_status check_config(const ohm_config *config)
{
    ohm_chip *chip;
    if (!config->hardware_enabled)
        return OHM_OK;
    OHM_TRY(ohm_chip_create(&chip, &ohm_backend_cuda, &config->hardware, 1, 1, 0));
    ohm_chip_destroy(chip);
    if (config->train.mode == OHM_MODE_FULL && config->train.full == OHM_FULL_SAVE)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED, "key 'train.full': save runs on the CPU alone so far; "
                                             "set recompute, or device: cpu");
    return OHM_OK;
}

static void close_device(ohm_device *device)
{
    if (!device)
        return;
    ohm_cuda_graph_destroy(device->graph);
    (void)ohm_cuda_free_host(device->reached);
    ohm_gemm_handle_destroy(device->gemm.handle);
    ohm_cuda_stream_destroy(device->stream);
    free(device);
}

static ohm_status start(ohm_device *device)
{
    void *reached;
    OHM_TRY(check(device, ohm_cuda_use(device->index)));
    OHM_TRY(check(device, ohm_cuda_describe(&device->about, device->index)));
    OHM_TRY(check(device, ohm_cuda_stream_create(&device->stream)));
    OHM_TRY(check(device, ohm_gemm_handle_create(&device->gemm.handle)));
    device->gemm.stream = device->stream;
    OHM_TRY(check(device, ohm_cuda_allocate_host(&reached, sizeof *device->reached)));
    device->reached = reached;
    *device->reached = 0;
    return OHM_OK;
}

static ohm_status open_device(ohm_device **out, const ohm_config *config)
{
    const int index = ohm_backend_index(config);
    char name[256];
    size_t bytes;
    OHM_TRY(describe(name, sizeof name, &bytes, index));
    ohm_device *device = calloc(1, sizeof *device);
    if (!device)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for a device's description");
    device->index = index;
    device->gemm.precision = (ohm_gemm_precision)config->train.gemm;
    device->at[device->places++] = (place){"start", NULL};
    ohm_status status = start(device);
    if (status == OHM_OK && config->hardware_enabled)
        device->about.distrusted = ohm_mvm_distrusted(&device->about, index, device->stream);
    if (status == OHM_OK)
        *out = device;
    else
        close_device(device);
    return status;
}

static ohm_status available(ohm_device *device, size_t *bytes)
{
    size_t total;
    return check(device, ohm_cuda_memory(bytes, &total));
}

static ohm_status reserve(ohm_device *device, void **block, size_t bytes)
{
    OHM_TRY(check(device, ohm_cuda_allocate(block, bytes)));
    OHM_TRY(check(device, ohm_cuda_fill(*block, 0, bytes, device->stream)));
    return check(device, ohm_cuda_stream_wait(device->stream));
}

static void release(ohm_device *device, void *block)
{
    note(device, ohm_cuda_free(block));
}

static ohm_status reserve_host(ohm_device *device, void **block, size_t bytes)
{
    OHM_TRY(check(device, ohm_cuda_allocate_host(block, bytes)));
    memset(*block, 0, bytes);
    return OHM_OK;
}

static void release_host(ohm_device *device, void *block)
{
    note(device, ohm_cuda_free_host(block));
}

/* ---- queueing ------------------------------------------------------------------------------ */

#define DO(call)                                                                                   \
    do                                                                                             \
        if (device->failed == OHM_CUDA_OK)                                                         \
            note(device, call);                                                                    \
    while (0)

static void upload(ohm_device *device, void *to, const void *host, size_t bytes)
{
    DO(ohm_cuda_upload(to, host, bytes, device->stream));
}

static void download(ohm_device *device, void *host, const void *from, size_t bytes)
{
    DO(ohm_cuda_download(host, from, bytes, device->stream));
}

static void set_bytes(ohm_device *device, void *to, int byte, size_t bytes)
{
    DO(ohm_cuda_fill(to, byte, bytes, device->stream));
}

/* What failed was queued long ago: the last mark that the stream came to says where. */
static ohm_status wait(ohm_device *device)
{
    if (device->failed == OHM_CUDA_OK) {
        ohm_cuda_status status = ohm_cuda_stream_wait(device->stream);
        note_at(device, status, &device->at[*device->reached]);
    }
    return status_of(device);
}

static int place_of(ohm_device *device, const char *phase, const char *layer)
{
    for (int i = 0; i < device->places; i++)
        if (device->at[i].phase == phase && device->at[i].layer == layer)
            return i;
    if (device->places == PLACES)
        return 0;
    device->at[device->places] = (place){phase, layer};
    return device->places++;
}

/* Recorded steps mark their layers, too: a failure in one is known by nothing else. */
static void mark(ohm_device *device, const char *phase, const char *layer)
{
    device->here = place_of(device, phase, layer);
    DO(ohm_mark_cuda(device->reached, (uint16_t)device->here, device->stream));
}

static ohm_status record(ohm_device *device)
{
    DO(ohm_cuda_graph_begin(device->stream));
    device->recording = device->failed == OHM_CUDA_OK;
    return status_of(device);
}

static ohm_status recorded(ohm_device *device)
{
    if (device->recording)
        note(device, ohm_cuda_graph_end(&device->graph, device->stream));
    device->recording = 0;
    return status_of(device);
}

/* The failure that led here stays the one that is told. */
static void drop_recording(ohm_device *device)
{
    ohm_cuda_graph dropped = NULL;
    if (device->recording)
        (void)ohm_cuda_graph_end(&dropped, device->stream);
    ohm_cuda_graph_destroy(dropped);
    device->recording = 0;
}

static ohm_status replay(ohm_device *device)
{
    DO(ohm_cuda_graph_launch(device->graph, device->stream));
    return status_of(device);
}

/* ---- operations ---------------------------------------------------------------------------- */

#define QUEUED(name, kernel, parameters, arguments)                                                \
    static void name(ohm_device *device, OHM_UNPACK parameters)                                    \
    {                                                                                              \
        DO(kernel##_cuda(OHM_UNPACK arguments, device->stream));                                   \
    }
OHM_LAYER_OPERATIONS(QUEUED)
OHM_STEP_OPERATIONS(QUEUED)
OHM_CHIP_OPERATIONS(QUEUED)

static void conv_forward(ohm_device *device, float *y, const float *x, const float *w,
                         const float *bias, const ohm_conv_shape *s, int images, float *workspace,
                         size_t floats)
{
    DO(ohm_conv_forward_cuda(y, x, w, bias, s, images, workspace, floats, &device->gemm));
}

static void conv_input(ohm_device *device, float *dx, const float *dy, const float *w,
                       const ohm_conv_shape *s, int images, int accumulate, float *workspace,
                       size_t floats)
{
    DO(ohm_conv_input_cuda(dx, dy, w, s, images, accumulate, workspace, floats, &device->gemm));
}

static void conv_weight(ohm_device *device, float *dw, const float *dy, const float *x,
                        const ohm_conv_shape *s, int images, float *workspace, size_t floats)
{
    DO(ohm_conv_weight_cuda(dw, dy, x, s, images, workspace, floats, &device->gemm));
}

static void copy(ohm_device *device, float *y, const float *x, size_t n)
{
    DO(ohm_cuda_copy(y, x, n * sizeof *y, device->stream));
}

static void fill(ohm_device *device, float *y, float value, size_t n)
{
    if (value == 0.0f)
        DO(ohm_cuda_fill(y, 0, n * sizeof *y, device->stream));
    else
        DO(ohm_fill_cuda(y, value, n, device->stream));
}

#define ENTRY(name, kernel, parameters, arguments) .name = name,
const ohm_backend ohm_backend_cuda = {
    .name = "cuda",
    .threads = threads,
    .usable = usable,
    .describe = describe,
    .address = address,
    .versions = versions,
    .check = check_config,
    .analog = &ohm_simulator_analog_cuda,
    .open = open_device,
    .close = close_device,
    .available = available,
    .reserve = reserve,
    .release = release,
    .reserve_host = reserve_host,
    .release_host = release_host,
    .upload = upload,
    .download = download,
    .set_bytes = set_bytes,
    .wait = wait,
    .status = status_of,
    .mark = mark,
    .record = record,
    .recorded = recorded,
    .drop_recording = drop_recording,
    .replay = replay,
    .conv_forward_floats = ohm_conv_forward_floats_cuda,
    .conv_input_floats = ohm_conv_input_floats_cuda,
    .conv_weight_floats = ohm_conv_weight_floats_cuda,
    .column_partials = ohm_column_partials,
    .batch_norm_doubles = ohm_batch_norm_doubles,
    .sum_squares_blocks = ohm_sum_squares_blocks,
    OHM_OPERATIONS(ENTRY)};
