/* runtime_cuda.h on the CUDA runtime. */
#include "kernels/platform_cuda.h"

#include <stdio.h>

static thread_local char error_text[512] = "no CUDA error";

extern "C" const char *ohm_cuda_error_text(void)
{
    return error_text;
}

extern "C" ohm_cuda_status ohm_cuda_fail(ohm_cuda_status status, const char *call,
                                         const char *reason)
{
    snprintf(error_text, sizeof error_text, "%s: %s", call, reason);
    return status;
}

static ohm_cuda_status status_of(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return OHM_CUDA_OK;
    case cudaErrorMemoryAllocation:
        return OHM_CUDA_MEMORY;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorInvalidDevice:
    case cudaErrorInitializationError:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
        return OHM_CUDA_ABSENT;
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
        return OHM_CUDA_KERNEL;
    case cudaErrorECCUncorrectable:
    case cudaErrorDevicesUnavailable:
    case cudaErrorDeviceUninitialized:
    case cudaErrorContextIsDestroyed:
    case cudaErrorUnknown:
        return OHM_CUDA_LOST;
    default:
        return OHM_CUDA_ARGUMENT;
    }
}

extern "C" ohm_cuda_status ohm_cuda_report(cudaError_t error, const char *call)
{
    if (error == cudaSuccess)
        return OHM_CUDA_OK;
    int driver = 0;
    const bool old = error == cudaErrorInsufficientDriver;
    if (old && cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
        cudaGetLastError();
        return ohm_cuda_fail(OHM_CUDA_ABSENT, call, "no NVIDIA driver on this machine");
    }
    cudaGetLastError(); /* what does not stick must not surface at the next launch */
    char reason[256];
    snprintf(reason, sizeof reason, "%s (%s)", cudaGetErrorString(error), cudaGetErrorName(error));
    return ohm_cuda_fail(status_of(error), call, reason);
}

/* CALL(x) is the status of a runtime call, its text recorded. */
#define CALL(name, ...) ohm_cuda_report(name(__VA_ARGS__), #name)

static cudaStream_t stream_of(ohm_cuda_stream s)
{
    return reinterpret_cast<cudaStream_t>(s);
}

static cudaEvent_t event_of(ohm_cuda_event e)
{
    return reinterpret_cast<cudaEvent_t>(e);
}

static cudaGraphExec_t graph_of(ohm_cuda_graph g)
{
    return reinterpret_cast<cudaGraphExec_t>(g);
}

/* ---- devices ------------------------------------------------------------------------------- */

extern "C" ohm_cuda_status ohm_cuda_count(int *count)
{
    *count = 0;
    int found = 0;
    ohm_cuda_status status = CALL(cudaGetDeviceCount, &found);
    *count = status == OHM_CUDA_OK ? found : 0;
    return status;
}

extern "C" ohm_cuda_status ohm_cuda_describe(ohm_cuda_device *out, int device)
{
    cudaDeviceProp p;
    ohm_cuda_status status = CALL(cudaGetDeviceProperties, &p, device);
    if (status != OHM_CUDA_OK)
        return status;
    *out = ohm_cuda_device();
    snprintf(out->name, sizeof out->name, "%s", p.name);
    out->major = p.major;
    out->minor = p.minor;
    out->multiprocessors = p.multiProcessorCount;
    out->memory_bytes = p.totalGlobalMem;
    out->l2_bytes = static_cast<size_t>(p.l2CacheSize);
    out->shared_bytes = p.sharedMemPerBlockOptin;
    status = CALL(cudaDeviceGetPCIBusId, out->bus, static_cast<int>(sizeof out->bus), device);
    if (status == OHM_CUDA_OK)
        status = CALL(cudaDriverGetVersion, &out->driver);
    return status == OHM_CUDA_OK ? CALL(cudaRuntimeGetVersion, &out->runtime) : status;
}

extern "C" ohm_cuda_status ohm_cuda_use(int device)
{
    return CALL(cudaSetDevice, device);
}

extern "C" ohm_cuda_status ohm_cuda_memory(size_t *available, size_t *total)
{
    return CALL(cudaMemGetInfo, available, total);
}

/* ---- memory -------------------------------------------------------------------------------- */

extern "C" ohm_cuda_status ohm_cuda_allocate(void **out, size_t bytes)
{
    *out = nullptr;
    return bytes ? CALL(cudaMalloc, out, bytes) : OHM_CUDA_OK;
}

extern "C" ohm_cuda_status ohm_cuda_free(void *device)
{
    return device ? CALL(cudaFree, device) : OHM_CUDA_OK;
}

extern "C" ohm_cuda_status ohm_cuda_allocate_host(void **out, size_t bytes)
{
    *out = nullptr;
    return bytes ? CALL(cudaMallocHost, out, bytes) : OHM_CUDA_OK;
}

extern "C" ohm_cuda_status ohm_cuda_free_host(void *host)
{
    return host ? CALL(cudaFreeHost, host) : OHM_CUDA_OK;
}

extern "C" ohm_cuda_status ohm_cuda_upload(void *device, const void *host, size_t bytes,
                                           ohm_cuda_stream s)
{
    return CALL(cudaMemcpyAsync, device, host, bytes, cudaMemcpyHostToDevice, stream_of(s));
}

extern "C" ohm_cuda_status ohm_cuda_download(void *host, const void *device, size_t bytes,
                                             ohm_cuda_stream s)
{
    return CALL(cudaMemcpyAsync, host, device, bytes, cudaMemcpyDeviceToHost, stream_of(s));
}

extern "C" ohm_cuda_status ohm_cuda_copy(void *device, const void *from, size_t bytes,
                                         ohm_cuda_stream s)
{
    return CALL(cudaMemcpyAsync, device, from, bytes, cudaMemcpyDeviceToDevice, stream_of(s));
}

extern "C" ohm_cuda_status ohm_cuda_fill(void *device, int byte, size_t bytes, ohm_cuda_stream s)
{
    return CALL(cudaMemsetAsync, device, byte, bytes, stream_of(s));
}

/* ---- streams and events -------------------------------------------------------------------- */

extern "C" ohm_cuda_status ohm_cuda_stream_create(ohm_cuda_stream *out)
{
    cudaStream_t made = nullptr;
    ohm_cuda_status status = CALL(cudaStreamCreateWithFlags, &made, cudaStreamNonBlocking);
    *out = reinterpret_cast<ohm_cuda_stream>(made);
    return status;
}

extern "C" void ohm_cuda_stream_destroy(ohm_cuda_stream s)
{
    if (s)
        CALL(cudaStreamDestroy, stream_of(s));
}

extern "C" ohm_cuda_status ohm_cuda_stream_wait(ohm_cuda_stream s)
{
    return CALL(cudaStreamSynchronize, stream_of(s));
}

extern "C" ohm_cuda_status ohm_cuda_event_create(ohm_cuda_event *out)
{
    cudaEvent_t made = nullptr;
    ohm_cuda_status status = CALL(cudaEventCreate, &made);
    *out = reinterpret_cast<ohm_cuda_event>(made);
    return status;
}

extern "C" void ohm_cuda_event_destroy(ohm_cuda_event e)
{
    if (e)
        CALL(cudaEventDestroy, event_of(e));
}

extern "C" ohm_cuda_status ohm_cuda_event_record(ohm_cuda_event e, ohm_cuda_stream s)
{
    return CALL(cudaEventRecord, event_of(e), stream_of(s));
}

extern "C" ohm_cuda_status ohm_cuda_event_wait(ohm_cuda_event e)
{
    return CALL(cudaEventSynchronize, event_of(e));
}

extern "C" ohm_cuda_status ohm_cuda_event_seconds(double *out, ohm_cuda_event from,
                                                  ohm_cuda_event to)
{
    float ms = 0.0f;
    ohm_cuda_status status = CALL(cudaEventElapsedTime, &ms, event_of(from), event_of(to));
    *out = 1e-3 * static_cast<double>(ms);
    return status;
}

/* ---- graphs -------------------------------------------------------------------------------- */

extern "C" ohm_cuda_status ohm_cuda_graph_begin(ohm_cuda_stream s)
{
    return CALL(cudaStreamBeginCapture, stream_of(s), cudaStreamCaptureModeThreadLocal);
}

extern "C" ohm_cuda_status ohm_cuda_graph_end(ohm_cuda_graph *graph, ohm_cuda_stream s)
{
    cudaGraph_t captured = nullptr;
    ohm_cuda_status status = CALL(cudaStreamEndCapture, stream_of(s), &captured);
    if (status != OHM_CUDA_OK)
        return status;
    cudaGraphExecUpdateResultInfo unused;
    if (*graph && cudaGraphExecUpdate(graph_of(*graph), captured, &unused) == cudaSuccess) {
        cudaGraphDestroy(captured);
        return OHM_CUDA_OK;
    }
    cudaGetLastError(); /* a shape that cannot be updated is no failure */
    cudaGraphExec_t made = nullptr;
    status = CALL(cudaGraphInstantiate, &made, captured, 0);
    cudaGraphDestroy(captured);
    if (status != OHM_CUDA_OK)
        return status;
    ohm_cuda_graph_destroy(*graph);
    *graph = reinterpret_cast<ohm_cuda_graph>(made);
    return OHM_CUDA_OK;
}

extern "C" ohm_cuda_status ohm_cuda_graph_launch(ohm_cuda_graph graph, ohm_cuda_stream s)
{
    return CALL(cudaGraphLaunch, graph_of(graph), stream_of(s));
}

extern "C" void ohm_cuda_graph_destroy(ohm_cuda_graph graph)
{
    if (graph)
        CALL(cudaGraphExecDestroy, graph_of(graph));
}
