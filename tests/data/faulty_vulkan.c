// A Vulkan loader whose driver fails on request of a file. All other calls go to the real loader.
// See tests/driver_faults.rs.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*Function)(void);
typedef Function (*GetProcAddress)(void *, const char *);
typedef int32_t Result;

enum { INITIALIZATION_FAILED = -3, DEVICE_LOST = -4 };

static Function real_wait, real_counter, real_submit, real_create;
static GetProcAddress real_instance, real_device;

// Whether the file named by XENT_FAULT contains exactly this word.
static int fails(const char *what) {
    char line[32] = "";
    const char *path = getenv("XENT_FAULT");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return 0;
    if (!fgets(line, sizeof line, file)) line[0] = 0;
    fclose(file);
    return strcmp(line, what) == 0;
}

static Result wait(void *device, const void *info, uint64_t timeout) {
    return fails("wait") ? DEVICE_LOST : ((Result(*)(void *, const void *, uint64_t))real_wait)(device, info, timeout);
}

static Result counter(void *device, uint64_t semaphore, uint64_t *value) {
    return fails("wait") ? DEVICE_LOST : ((Result(*)(void *, uint64_t, uint64_t *))real_counter)(device, semaphore, value);
}

static Result submit(void *queue, uint32_t count, const void *infos, uint64_t fence) {
    if (fails("submit") || fails("wait")) return DEVICE_LOST;
    return ((Result(*)(void *, uint32_t, const void *, uint64_t))real_submit)(queue, count, infos, fence);
}

static Result create(void *adapter, const void *info, const void *allocator, void *device) {
    if (fails("create")) return INITIALIZATION_FAILED;
    return ((Result(*)(void *, const void *, const void *, void *))real_create)(adapter, info, allocator, device);
}

static Function device_function(void *device, const char *name);

static Function faulty(const char *name, Function real) {
    if (!real) return NULL;
    if (!strncmp(name, "vkWaitSemaphores", 16)) return real_wait = real, (Function)wait;
    if (!strncmp(name, "vkGetSemaphoreCounterValue", 26)) return real_counter = real, (Function)counter;
    if (!strcmp(name, "vkQueueSubmit")) return real_submit = real, (Function)submit;
    if (!strcmp(name, "vkCreateDevice")) return real_create = real, (Function)create;
    if (!strcmp(name, "vkGetDeviceProcAddr")) return real_device = (GetProcAddress)real, (Function)device_function;
    return real;
}

static Function device_function(void *device, const char *name) {
    return faulty(name, real_device(device, name));
}

Function vkGetInstanceProcAddr(void *instance, const char *name) {
    if (!real_instance) {
        void *loader = dlopen(getenv("XENT_VULKAN"), RTLD_NOW | RTLD_LOCAL);
        real_instance = loader ? (GetProcAddress)dlsym(loader, "vkGetInstanceProcAddr") : NULL;
        if (!real_instance) return NULL;
    }
    return faulty(name, real_instance(instance, name));
}
