// A program on the HSA runtime that launches any kernel of a code object:
//
//     hsa MODE CODE KERNEL GRID BLOCK LDS ARGUMENT...
//
// GRID counts work-groups, LDS is in bytes. An ARGUMENT is u32:N, f32:X, u64:N, or the name of a
// file: memory with its contents, which go there by a copy engine and come back to the file the
// same way. A barrier packet holds the kernel back until the copies have ended and the program has
// opened a gate; with MODE "lost" it never does, with "run" all is well and "ok" is printed.
#include <hsa/hsa.h>
#include <hsa/hsa_ext_amd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(call)                                                                                \
    do {                                                                                           \
        hsa_status_t status_ = (call);                                                             \
        if (status_ != HSA_STATUS_SUCCESS && status_ != HSA_STATUS_INFO_BREAK) {                   \
            fprintf(stderr, "%s: status %#x\n", #call, status_);                                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
enum { BUFFERS = 16, KERNARG = 4096 };

struct buffer {
    const char *file;
    size_t size;
    void *host, *locked, *device;
    hsa_signal_t copied;
};

static hsa_agent_t cpu, gpu;
static hsa_amd_memory_pool_t device_pool, kernarg_pool;
static hsa_queue_t *queue;
static struct buffer buffers[BUFFERS];
static int buffer_count;

static hsa_status_t find_agent(hsa_agent_t agent, void *data)
{
    hsa_device_type_t type;
    (void)data;
    CHECK(hsa_agent_get_info(agent, HSA_AGENT_INFO_DEVICE, &type));
    if (type == HSA_DEVICE_TYPE_GPU && !gpu.handle)
        gpu = agent;
    else if (type == HSA_DEVICE_TYPE_CPU && !cpu.handle)
        cpu = agent;
    return HSA_STATUS_SUCCESS;
}

static hsa_status_t find_pool(hsa_amd_memory_pool_t pool, void *data)
{
    hsa_amd_segment_t segment;
    uint32_t flags = 0;
    int on_device = *(int *)data;
    CHECK(hsa_amd_memory_pool_get_info(pool, HSA_AMD_MEMORY_POOL_INFO_SEGMENT, &segment));
    if (segment != HSA_AMD_SEGMENT_GLOBAL)
        return HSA_STATUS_SUCCESS;
    CHECK(hsa_amd_memory_pool_get_info(pool, HSA_AMD_MEMORY_POOL_INFO_GLOBAL_FLAGS, &flags));
    if (on_device && flags & HSA_AMD_MEMORY_POOL_GLOBAL_FLAG_COARSE_GRAINED && !device_pool.handle)
        device_pool = pool;
    if (!on_device && flags & HSA_AMD_MEMORY_POOL_GLOBAL_FLAG_KERNARG_INIT)
        kernarg_pool = pool;
    return HSA_STATUS_SUCCESS;
}

static void wait_for(hsa_signal_t signal)
{
    while (hsa_signal_wait_scacquire(signal, HSA_SIGNAL_CONDITION_LT, 1, UINT64_MAX,
                                     HSA_WAIT_STATE_BLOCKED) >= 1)
        ;
}

static void *slot(uint64_t *index)
{
    *index = hsa_queue_add_write_index_screlease(queue, 1);
    while (*index - hsa_queue_load_read_index_scacquire(queue) >= queue->size)
        ;
    return (char *)queue->base_address + 64 * (*index % queue->size);
}

static void publish(void *packet, uint64_t index, int type, uint16_t setup)
{
    uint32_t header = type << HSA_PACKET_HEADER_TYPE | 1 << HSA_PACKET_HEADER_BARRIER |
                      HSA_FENCE_SCOPE_SYSTEM << HSA_PACKET_HEADER_SCACQUIRE_FENCE_SCOPE |
                      HSA_FENCE_SCOPE_SYSTEM << HSA_PACKET_HEADER_SCRELEASE_FENCE_SCOPE;
    __atomic_store_n((uint32_t *)packet, header | (uint32_t)setup << 16, __ATOMIC_RELEASE);
    hsa_signal_store_screlease(queue->doorbell_signal, index);
}

static void hold_back(hsa_signal_t first, hsa_signal_t second)
{
    uint64_t index;
    hsa_barrier_and_packet_t *packet = slot(&index);
    memset((char *)packet + 4, 0, sizeof *packet - 4);
    packet->dep_signal[0] = first;
    packet->dep_signal[1] = second;
    publish(packet, index, HSA_PACKET_TYPE_BARRIER_AND, 0);
}

static hsa_executable_symbol_t load(const char *path, const char *name)
{
    hsa_code_object_reader_t reader;
    hsa_executable_t executable;
    hsa_executable_symbol_t symbol;
    FILE *file = fopen(path, "rb");
    char full[256];
    if (!file) {
        perror(path);
        exit(1);
    }
    snprintf(full, sizeof full, "%s.kd", name);
    CHECK(hsa_code_object_reader_create_from_file(fileno(file), &reader));
    CHECK(hsa_executable_create_alt(HSA_PROFILE_FULL, HSA_DEFAULT_FLOAT_ROUNDING_MODE_DEFAULT, NULL,
                                    &executable));
    CHECK(hsa_executable_load_agent_code_object(executable, gpu, reader, NULL, NULL));
    CHECK(hsa_executable_freeze(executable, NULL));
    CHECK(hsa_executable_get_symbol_by_name(executable, full, &gpu, &symbol));
    return symbol;
}

static void *take_buffer(const char *path)
{
    struct buffer *one = &buffers[buffer_count++];
    FILE *file = fopen(path, "rb");
    if (!file || buffer_count > BUFFERS) {
        perror(path);
        exit(1);
    }
    fseek(file, 0, SEEK_END);
    one->file = path;
    one->size = ftell(file);
    one->host = malloc(one->size); /* buffers share pages */
    rewind(file);
    if (fread(one->host, 1, one->size, file) != one->size)
        exit(1);
    fclose(file);
    CHECK(hsa_amd_memory_lock(one->host, one->size, &gpu, 1, &one->locked));
    CHECK(hsa_amd_memory_pool_allocate(device_pool, one->size, 0, &one->device));
    CHECK(hsa_signal_create(1, 0, NULL, &one->copied));
    CHECK(hsa_amd_memory_async_copy(one->device, gpu, one->locked, cpu, one->size, 0, NULL,
                                    one->copied));
    return one->device;
}

static void give_back(struct buffer *one, hsa_signal_t done)
{
    FILE *file;
    hsa_signal_store_screlease(one->copied, 1);
    CHECK(hsa_amd_memory_async_copy(one->locked, cpu, one->device, gpu, one->size, 1, &done,
                                    one->copied));
    wait_for(one->copied);
    file = fopen(one->file, "wb");
    if (!file || fwrite(one->host, 1, one->size, file) != one->size || fclose(file))
        exit(1);
    CHECK(hsa_amd_memory_unlock(one->host));
    CHECK(hsa_amd_memory_pool_free(one->device));
    CHECK(hsa_signal_destroy(one->copied));
    free(one->host);
}

static size_t put(char *kernarg, size_t at, const void *value, size_t size)
{
    at = (at + size - 1) / size * size;
    memcpy(kernarg + at, value, size);
    return at + size;
}

static size_t put_argument(char *kernarg, size_t at, const char *text)
{
    if (!strncmp(text, "u32:", 4)) {
        uint32_t value = strtoul(text + 4, NULL, 0);
        return put(kernarg, at, &value, 4);
    }
    if (!strncmp(text, "f32:", 4)) {
        float value = strtof(text + 4, NULL);
        return put(kernarg, at, &value, 4);
    }
    if (!strncmp(text, "u64:", 4)) {
        uint64_t value = strtoull(text + 4, NULL, 0);
        return put(kernarg, at, &value, 8);
    }
    void *device = take_buffer(text);
    return put(kernarg, at, &device, 8);
}

static void dispatch(hsa_executable_symbol_t kernel, char **arguments, void *kernarg,
                     hsa_signal_t done)
{
    uint32_t grid = atoi(arguments[4]), block = atoi(arguments[5]), group = 0, private = 0;
    uint64_t index, object;
    hsa_kernel_dispatch_packet_t *packet;
    CHECK(hsa_executable_symbol_get_info(kernel, HSA_EXECUTABLE_SYMBOL_INFO_KERNEL_OBJECT,
                                         &object));
    CHECK(hsa_executable_symbol_get_info(
        kernel, HSA_EXECUTABLE_SYMBOL_INFO_KERNEL_GROUP_SEGMENT_SIZE, &group));
    CHECK(hsa_executable_symbol_get_info(
        kernel, HSA_EXECUTABLE_SYMBOL_INFO_KERNEL_PRIVATE_SEGMENT_SIZE, &private));
    packet = slot(&index);
    memset((char *)packet + 4, 0, sizeof *packet - 4);
    packet->workgroup_size_x = block;
    packet->workgroup_size_y = packet->workgroup_size_z = 1;
    packet->grid_size_x = grid * block;
    packet->grid_size_y = packet->grid_size_z = 1;
    packet->group_segment_size = group + atoi(arguments[6]);
    packet->private_segment_size = private;
    packet->kernel_object = object;
    packet->kernarg_address = kernarg;
    packet->completion_signal = done;
    publish(packet, index, HSA_PACKET_TYPE_KERNEL_DISPATCH, 1);
}

int main(int count, char **arguments)
{
    int on_device = 1;
    hsa_signal_t gate, done;
    hsa_executable_symbol_t kernel;
    char *kernarg;
    size_t at = 0;
    if (count < 7)
        return 2;
    CHECK(hsa_init());
    CHECK(hsa_iterate_agents(find_agent, NULL));
    CHECK(hsa_amd_agent_iterate_memory_pools(gpu, find_pool, &on_device));
    on_device = 0;
    CHECK(hsa_amd_agent_iterate_memory_pools(cpu, find_pool, &on_device));
    CHECK(hsa_queue_create(gpu, 64, HSA_QUEUE_TYPE_MULTI, NULL, NULL, UINT32_MAX, UINT32_MAX,
                           &queue));
    kernel = load(arguments[2], arguments[3]);
    CHECK(hsa_amd_memory_pool_allocate(kernarg_pool, KERNARG, 0, (void **)&kernarg));
    CHECK(hsa_amd_agents_allow_access(1, &gpu, NULL, kernarg));
    memset(kernarg, 0, KERNARG);
    for (int i = 7; i < count; i++)
        at = put_argument(kernarg, at, arguments[i]);
    CHECK(hsa_signal_create(1, 0, NULL, &gate));
    CHECK(hsa_signal_create(1, 0, NULL, &done));
    for (int i = 0; i < buffer_count; i++)
        hold_back(buffers[i].copied, gate);
    dispatch(kernel, arguments, kernarg, done);
    if (!strcmp(arguments[1], "lost")) {
        printf("waiting %d\n", getpid());
        fflush(stdout);
    } else
        hsa_signal_subtract_screlease(gate, 1);
    wait_for(done);
    for (int i = 0; i < buffer_count; i++)
        give_back(&buffers[i], done);
    CHECK(hsa_queue_destroy(queue));
    CHECK(hsa_shut_down());
    puts("ok");
    return 0;
}
