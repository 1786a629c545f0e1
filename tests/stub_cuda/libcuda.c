/* A CUDA driver without a device, for tests: libcuda.so.1 with as many of its functions as gpuio,
 * numba-cuda, cuda-core and cuda-bindings call.
 *
 * There are two devices. Device memory is host memory; copies and fills are done at once, within
 * the bounds of one allocation; kernels are recorded, and not run. What CUDA would refuse is
 * refused: no context, memory or handles that were freed, streams of another device, use after a
 * fork. Functions that are missing here are "not found", as in an old driver.
 *
 * stub_* are for the tests: failing calls, names of all calls, what is alive, and the launches.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, BAD_VALUE = 1, NO_MEMORY = 2, NO_INIT = 3, BAD_CONTEXT = 201,
       BAD_HANDLE = 400, NOT_FOUND = 500, UNSUPPORTED = 900 };
enum { DEVICES = 2, DEPTH = 64, WORDS = 16, NAME = 256, MOST_CALLS = 1 << 16 };
enum { DEVICE_MEMORY, PINNED_MEMORY, STREAM, EVENT, LIBRARY, KERNEL, KINDS };

typedef struct Object {  /* anything that is made and destroyed; memory lies behind `start` */
    int kind, device;
    char *start;
    size_t nbytes;
    struct Object *owner, *next;
    char name[NAME];
    int count, sizes[WORDS];  /* a kernel's parameters */
} Object;

typedef struct {
    char name[NAME];
    int device;
    unsigned grid[3], block[3], shared;
    void *stream;
    int count;
    uint64_t words[WORDS];
} Launch;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Object *objects;
static Launch *launches;
static const char *calls[MOST_CALLS];
static int launched, called, owner_pid;
static char context[DEVICES], fail_name[NAME];
static long fail_after;
static int fail_code, fail_stays;
static __thread int stack[DEPTH], depth, mode;
static int capturing;

static int enter(const char *name, int needs_init)
{
    int code = OK;
    pthread_mutex_lock(&lock);
    if (called < MOST_CALLS) calls[called++] = name;
    if (fail_code && (!fail_name[0] || !strcmp(fail_name, name)) && fail_after-- <= 0) {
        code = fail_code;
        if (!fail_stays) fail_code = OK;
    }
    if (needs_init && owner_pid != getpid()) code = NO_INIT;
    pthread_mutex_unlock(&lock);
    return code;
}
#define CALL_(needs_init) do { int code = enter(__func__, needs_init); if (code) return code; } while (0)
#define CALL CALL_(1)
#define CURRENT (depth ? stack[depth - 1] : -1)
#define NEEDS_CONTEXT do { if (CURRENT < 0) return BAD_CONTEXT; } while (0)

static Object *make(int kind, int device, size_t nbytes)
{
    Object *object = calloc(1, sizeof *object);
    object->kind = kind, object->device = device, object->nbytes = nbytes;
    object->start = nbytes ? aligned_alloc(512, (nbytes + 511) / 512 * 512) : (char *)object;
    pthread_mutex_lock(&lock);
    object->next = objects, objects = object;
    pthread_mutex_unlock(&lock);
    return object;
}

/* The object of a kind that has `nbytes` from `start` on, or exactly `start` if `nbytes` is 0. */
static Object *find(int kind, const char *start, size_t nbytes)
{
    Object *object;
    pthread_mutex_lock(&lock);
    for (object = objects; object; object = object->next) {
        if (object->kind == kind && (start == object->start ||
            (nbytes && start >= object->start && start + nbytes <= object->start + object->nbytes)))
            break;
    }
    pthread_mutex_unlock(&lock);
    return object && nbytes <= object->nbytes + (object->nbytes == 0) ? object : NULL;
}

static int destroy(int kind, void *start)
{
    Object **at, *object = find(kind, start, 0);
    if (!object) return kind <= PINNED_MEMORY ? BAD_VALUE : BAD_HANDLE;
    pthread_mutex_lock(&lock);
    for (at = &objects; *at != object; at = &(*at)->next) {}
    *at = object->next;
    pthread_mutex_unlock(&lock);
    if (object->start != (char *)object) free(object->start);
    free(object);
    return OK;
}

/* The device of a stream, of the current context for the default streams; -1 for none. */
static int device_of(void *stream)
{
    if ((uintptr_t)stream <= 2) return CURRENT;
    Object *object = find(STREAM, stream, 0);
    return object ? object->device : -1;
}

static int known(const void *start, size_t nbytes)
{
    return find(DEVICE_MEMORY, start, nbytes) || find(PINNED_MEMORY, start, nbytes);
}

/* ---- the driver: devices and contexts ---- */
int cuInit(unsigned flags) { CALL_(0); if (!owner_pid) owner_pid = getpid(); return owner_pid == getpid() ? OK : NO_INIT; }
int cuDriverGetVersion(int *version) { CALL_(0); *version = 13020; return OK; }
int cuDeviceGet(int *device, int number) { CALL; *device = number; return number >= 0 && number < DEVICES ? OK : BAD_VALUE; }
int cuDeviceGetCount(int *count) { CALL; *count = DEVICES; return OK; }
int cuDeviceGetName(char *name, int length, int device) { CALL; snprintf(name, length, "Stub %d", device); return OK; }
int cuDeviceGetUuid_v2(char *uuid, int device) { CALL; memset(uuid, device + 1, 16); return OK; }
int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    CALL;
    switch (attribute) {
    case 75: *value = 9; break;  /* compute capability 9.0 */
    case 76: *value = 0; break;
    case 16: *value = 132; break;  /* multiprocessors */
    case 10: *value = 32; break;  /* warp */
    case 41: *value = 1; break;  /* unified addressing */
    case 115: *value = 0; break;  /* memory pools */
    default: *value = 1024;
    }
    return OK;
}
int cuDevicePrimaryCtxRetain(void **ctx, int device) { CALL; *ctx = &context[device]; return OK; }
/* cuda.core calls it as a thread ends, and crashes where it is missing. */
int cuDevicePrimaryCtxRelease_v2(int device) { CALL; return device >= 0 && device < DEVICES ? OK : BAD_VALUE; }
int cuCtxGetCurrent(void **ctx) { CALL; *ctx = CURRENT < 0 ? NULL : &context[CURRENT]; return OK; }
int cuCtxGetDevice(int *device) { CALL; NEEDS_CONTEXT; *device = CURRENT; return OK; }
int cuCtxGetDevice_v2(int *device, void *ctx) { CALL; *device = (int)((char *)ctx - context); return OK; }
int cuCtxPushCurrent_v2(void *ctx) { CALL; if (depth == DEPTH) return BAD_VALUE; stack[depth++] = (int)((char *)ctx - context); return OK; }
int cuCtxPopCurrent_v2(void **ctx) { CALL; NEEDS_CONTEXT; depth--; if (ctx) *ctx = &context[stack[depth]]; return OK; }
int cuCtxSetCurrent(void *ctx)
{
    CALL;
    if (!ctx) { depth -= depth > 0; return OK; }
    if (!depth) depth = 1;
    stack[depth - 1] = (int)((char *)ctx - context);
    return OK;
}
int cuCtxSynchronize(void) { CALL; NEEDS_CONTEXT; return OK; }

int cuThreadExchangeStreamCaptureMode(int *wanted) { CALL; int before = mode; mode = *wanted; *wanted = before; return OK; }

/* ---- memory ---- */
/* While any thread captures a graph, calls that it could not hold are errors; not in mode 2. */
#define NO_CAPTURE do { if (capturing && mode != 2) return UNSUPPORTED; } while (0)
int cuMemGetInfo_v2(size_t *spare, size_t *total) { CALL; NEEDS_CONTEXT; *spare = *total = (size_t)1 << 34; return OK; }
int cuMemAlloc_v2(void **start, size_t nbytes) { CALL; NO_CAPTURE; NEEDS_CONTEXT; if (!nbytes) return BAD_VALUE; *start = make(DEVICE_MEMORY, CURRENT, nbytes)->start; return OK; }
int cuMemFree_v2(void *start) { CALL; NO_CAPTURE; return destroy(DEVICE_MEMORY, start); }
int cuMemHostAlloc(void **start, size_t nbytes, unsigned flags) { CALL; NO_CAPTURE; NEEDS_CONTEXT; if (!nbytes) return BAD_VALUE; *start = make(PINNED_MEMORY, CURRENT, nbytes)->start; return OK; }
int cuMemFreeHost(void *start) { CALL; NO_CAPTURE; return destroy(PINNED_MEMORY, start); }
int cuMemcpyAsync(void *to, const void *start, size_t nbytes, void *stream)
{
    CALL;
    if (device_of(stream) < 0) return BAD_HANDLE;
    if (!known(to, nbytes) || !known(start, nbytes)) return BAD_VALUE;
    memmove(to, start, nbytes);
    return OK;
}
int cuMemsetD8Async(void *to, unsigned char value, size_t nbytes, void *stream)
{
    CALL;
    if (device_of(stream) < 0) return BAD_HANDLE;
    if (!find(DEVICE_MEMORY, to, nbytes)) return BAD_VALUE;
    memset(to, value, nbytes);
    return OK;
}

/* ---- streams and events ---- */
int cuStreamCreate(void **stream, unsigned flags) { CALL; NEEDS_CONTEXT; *stream = make(STREAM, CURRENT, 0); return OK; }
int cuStreamDestroy_v2(void *stream) { CALL; return destroy(STREAM, stream); }
int cuStreamSynchronize(void *stream) { CALL; return device_of(stream) < 0 ? BAD_HANDLE : OK; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { CALL; return device_of(stream) < 0 || !find(EVENT, event, 0) ? BAD_HANDLE : OK; }
int cuEventCreate(void **event, unsigned flags) { CALL; NEEDS_CONTEXT; *event = make(EVENT, CURRENT, 0); return OK; }
int cuEventDestroy_v2(void *event) { CALL; return destroy(EVENT, event); }
int cuEventSynchronize(void *event) { CALL; NO_CAPTURE; return find(EVENT, event, 0) ? OK : BAD_HANDLE; }
int cuEventRecord(void *event, void *stream)
{
    CALL;
    Object *object = find(EVENT, event, 0);
    return !object || device_of(stream) != object->device ? BAD_HANDLE : OK;
}

/* ---- code ---- */
int cuLibraryLoadData(void **library, const void *code, void *o, void *p, unsigned n, void *q, void *r, unsigned m)
{
    CALL;
    const Elf64_Ehdr *elf = code;
    if (memcmp(elf->e_ident, ELFMAG, SELFMAG)) return BAD_VALUE;
    size_t nbytes = elf->e_shoff + (size_t)elf->e_shnum * elf->e_shentsize;
    if (elf->e_phoff + (size_t)elf->e_phnum * elf->e_phentsize > nbytes) nbytes = elf->e_phoff + (size_t)elf->e_phnum * elf->e_phentsize;
    Object *object = make(LIBRARY, -1, nbytes);
    memcpy(object->start, code, nbytes);
    *library = object->start;
    return OK;
}
int cuLibraryUnload(void *library) { CALL; return destroy(LIBRARY, library); }

/* Sizes of a kernel's parameters: records of kind 0x1704 (KPARAM_INFO) in its section .nv.info. */
static int read_parameters(Object *kernel, const char *code)
{
    const Elf64_Ehdr *elf = (const void *)code;
    const Elf64_Shdr *sections = (const void *)(code + elf->e_shoff);
    const char *names = code + sections[elf->e_shstrndx].sh_offset;
    for (int n = 0; n < elf->e_shnum; n++) {
        const char *name = names + sections[n].sh_name;
        if (strncmp(name, ".nv.info.", 9) || strcmp(name + 9, kernel->name)) continue;
        const char *at = code + sections[n].sh_offset, *end = at + sections[n].sh_size;
        for (uint16_t kind, size; at + 4 <= end; at += 4 + ((kind & 0xff) == 4 ? size : 0)) {
            memcpy(&kind, at, 2), memcpy(&size, at + 2, 2);
            if (kind != 0x1704) continue;
            uint16_t ordinal; uint32_t bits;
            memcpy(&ordinal, at + 8, 2), memcpy(&bits, at + 12, 4);
            if (ordinal >= WORDS) return BAD_VALUE;
            kernel->sizes[ordinal] = bits >> 18;
            if (ordinal >= kernel->count) kernel->count = ordinal + 1;
        }
        return OK;
    }
    return NOT_FOUND;
}
int cuLibraryGetKernel(void **kernel, void *library, const char *name)
{
    CALL;
    Object *owner = find(LIBRARY, library, 0);
    if (!owner) return BAD_HANDLE;
    Object *object = make(KERNEL, -1, 0);
    object->owner = owner;
    snprintf(object->name, NAME, "%s", name);
    *kernel = object;
    return read_parameters(object, owner->start);
}
int cuKernelGetAttribute(int *value, int attribute, void *kernel, int device) { CALL; *value = 0; return find(KERNEL, kernel, 0) ? OK : BAD_HANDLE; }
static int launch(Object *kernel, const unsigned *sizes, void *stream, void **parameters)
{
    int device = device_of(stream);
    if (!kernel || kernel->kind != KERNEL || device < 0 || device != CURRENT) return BAD_HANDLE;
    for (int side = 0; side < 6; side++) if (!sizes[side]) return BAD_VALUE;
    pthread_mutex_lock(&lock);
    if (!(launched & (launched - 1))) launches = realloc(launches, (launched ? 2 * launched : 1) * sizeof *launches);
    Launch *to = &launches[launched++];
    memset(to, 0, sizeof *to);
    memcpy(to->name, kernel->name, NAME);
    memcpy(to->grid, sizes, sizeof to->grid), memcpy(to->block, sizes + 3, sizeof to->block);
    to->shared = sizes[6], to->device = device, to->stream = stream, to->count = kernel->count;
    for (int n = 0; n < kernel->count; n++) memcpy(&to->words[n], parameters[n], kernel->sizes[n]);
    pthread_mutex_unlock(&lock);
    return OK;
}
int cuLaunchKernel(void *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra)
{
    CALL;
    unsigned sizes[7] = {gx, gy, gz, bx, by, bz, shared};
    return launch(kernel, sizes, stream, parameters);
}

/* ---- for cuda-bindings, and errors ---- */
int cuGetErrorString(int code, const char **text) { *text = "said by the stub"; return OK; }
int cuGetErrorName(int code, const char **text) { *text = code == NO_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR"; return OK; }

/* The newest version of a function, except for those whose name alone means that of CUDA 12. */
int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status)
{
    char newer[NAME];
    Dl_info info;
    dladdr((void *)cuGetProcAddress_v2, &info);
    void *self = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    snprintf(newer, NAME, "%s_v2", symbol);
    *function = version < 13000 && !strcmp(symbol, "cuCtxGetDevice") ? NULL : dlsym(self, newer);
    if (!*function) *function = dlsym(self, symbol);
    dlclose(self);
    if (status) *status = *function ? 0 : 1;
    return *function ? OK : NOT_FOUND;
}
int cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) { return cuGetProcAddress_v2(symbol, function, version, flags, NULL); }

/* ---- for the tests ---- */

/* Of the calls of `name` from now on, or of all for "", number `after` (from 0) returns `code`; and
 * all after it, if that stays. */
void stub_fail(const char *name, long after, int code, int stays)
{
    pthread_mutex_lock(&lock);
    snprintf(fail_name, NAME, "%s", name);
    fail_after = after, fail_code = code, fail_stays = stays;
    pthread_mutex_unlock(&lock);
}
void stub_capture(int running) { capturing = running; }
int stub_pending(void) { return fail_code != OK; }
int stub_depth(void) { return depth; }
int stub_called(void) { return called; }
const char *stub_call(int number) { return calls[number]; }
int stub_launched(void) { return launched; }
const Launch *stub_launch(int number) { return &launches[number]; }
int stub_alive(int kind)
{
    int count = 0;
    pthread_mutex_lock(&lock);
    for (Object *object = objects; object; object = object->next) count += object->kind == kind;
    pthread_mutex_unlock(&lock);
    return count;
}
