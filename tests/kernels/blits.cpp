// What the kernels built into HIP and ROCr do: fills and copies of every kind, of odd sizes and at
// odd places; prints "ok" when memory is right.
#include <hip/hip_runtime.h>
#include <hsa/hsa_ext_amd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define CHECK(call)                                                                                \
    do {                                                                                           \
        int error = (int)(call);                                                                   \
        if (error != 0) {                                                                          \
            fprintf(stderr, "line %d: %s: %d\n", __LINE__, #call, error);                          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

typedef std::vector<unsigned char> Bytes;
static const size_t SIZE = 12000;
static unsigned char *device[2];
static Bytes model[2] = {Bytes(SIZE), Bytes(SIZE)};

static void compare(const char *what, size_t size)
{
    for (int k = 0; k < 2; k++) {
        Bytes found(SIZE);
        CHECK(hipDeviceSynchronize());
        CHECK(hipMemcpy(found.data(), device[k], SIZE, hipMemcpyDeviceToHost));
        for (size_t i = 0; i < SIZE; i++)
            if (found[i] != model[k][i]) {
                fprintf(stderr, "%s of %zu: byte %zu of buffer %d is %d, not %d\n", what, size, i,
                        k, found[i], model[k][i]);
                exit(1);
            }
    }
}

static void fill_model(int k, size_t at, const void *pattern, size_t width, size_t count)
{
    for (size_t i = 0; i < count; i++)
        memcpy(&model[k][at + i * width], pattern, width);
}

static void fills(void)
{
    const size_t sizes[] = {1, 3, 64, 257, 1023};
    for (size_t size : sizes) {
        unsigned char one = (unsigned char)size;
        uint16_t two = (uint16_t)(size * 77);
        uint32_t four = (uint32_t)(size * 1234567);
        size_t at = size < 16 ? 0 : 3; // HIP 5.2 fills almost all memory for a few odd bytes
        CHECK(hipMemset(device[0] + at, one, size));
        fill_model(0, at, &one, 1, size);
        CHECK(hipMemsetD16((hipDeviceptr_t)(device[1] + 4 * at), two, size));
        fill_model(1, 4 * at, &two, 2, size);
        CHECK(hipMemsetD32((hipDeviceptr_t)(device[0] + 4096), (int)four, size));
        fill_model(0, 4096, &four, 4, size);
        compare("fill", size);
    }
    CHECK(hipMemset2D(device[1] + 5, 111, 0x77, 33, 29));
    for (int row = 0; row < 29; row++)
        fill_model(1, 5 + row * 111, "\x77", 1, 33);
    compare("rectangle", 33);
}

static void move_model(size_t to, size_t from, size_t size)
{
    memcpy(&model[1][to], &model[0][from], size);
}

static void copies(void)
{
    const size_t sizes[] = {1, 16, 63, 1000, 9999};
    const size_t places[] = {0, 1, 16};
    for (size_t size : sizes)
        for (size_t to : places) {
            size_t from = size % 3 ? 16 : 3;
            CHECK(hipMemcpyAsync(device[1] + to, device[0] + from, size, hipMemcpyDeviceToDevice,
                                 nullptr));
            move_model(to, from, size);
            if (to)
                compare("copy", size);
        }
    // Rectangles: of whole words, and of odd bytes.
    const size_t widths[] = {64, 17};
    for (size_t width : widths) {
        size_t from = width % 4 ? 3 : 16;
        CHECK(hipMemcpy2D(device[1] + 8, 200, device[0] + from, 256, width, 21,
                          hipMemcpyDeviceToDevice));
        for (int row = 0; row < 21; row++)
            move_model(8 + row * 200, from + row * 256, width);
        compare("rectangle", width);
    }
}

static void stream_values(void)
{
    uint64_t *word;
    CHECK(hipExtMallocWithFlags((void **)&word, 8, hipMallocSignalMemory));
    CHECK(hipStreamWriteValue64(nullptr, word, 0x123456789aull, 0));
    CHECK(hipStreamWaitValue64(nullptr, word, 0x1234, hipStreamWaitValueGte, ~0ull));
    CHECK(hipStreamSynchronize(nullptr));
    uint64_t seen = *(volatile uint64_t *)word;
    if (seen != 0x123456789aull) {
        fprintf(stderr, "a value written by a stream is %llx\n", (unsigned long long)seen);
        exit(1);
    }
    CHECK(hipFree(word));
}

// ROCr's own fill, behind HIP's back.
static void words(void)
{
    const size_t counts[] = {1, 3, 64, 65, 2099};
    for (size_t count : counts) {
        uint32_t value = 0xC0FFEE00u + (uint32_t)count;
        CHECK(hsa_amd_memory_fill(device[1] + 64, value, count));
        fill_model(1, 64, &value, 4, count);
        compare("words", count);
    }
}

int main()
{
    for (int k = 0; k < 2; k++) {
        CHECK(hipMalloc(&device[k], SIZE));
        for (size_t i = 0; i < SIZE; i++)
            model[k][i] = (unsigned char)(i * 31 + i / 253 + (size_t)k);
        CHECK(hipMemcpy(device[k], model[k].data(), SIZE, hipMemcpyHostToDevice));
    }
    compare("upload", SIZE);
    fills();
    copies();
    stream_values();
    words();
    puts("ok");
    return 0;
}
