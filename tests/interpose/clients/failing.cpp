// HIP programs that fail, one way for each argument. One that waits for ever says so before.
#include <hip/hip_runtime.h>
// It needs the one above.
#include <hip/hip_cooperative_groups.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define CHECK(call)                                                                                \
    do {                                                                                           \
        hipError_t error = (call);                                                                 \
        if (error != hipSuccess) {                                                                 \
            fprintf(stderr, "%s: %s\n", #call, hipGetErrorString(error));                          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static const int N = 1024; // one page of numbers

__global__ void fill(int n, int *out, int value)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        out[i] = value + i;
}

__global__ void scale(int n, int *out, const int *in, int factor)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        out[i] = factor * in[i];
}

__global__ void wait_for(volatile int *flag)
{
    while (!*flag)
        ;
}

__global__ void meet(int *out)
{
    if (blockIdx.x == 3)
        return;
    cooperative_groups::this_grid().sync();
    out[blockIdx.x] = 1;
}

static int *array(int value)
{
    int *made;
    CHECK(hipMalloc(&made, N * sizeof(int)));
    fill<<<N / 256, 256>>>(N, made, value);
    return made;
}

static void steps(int *a, int *b, int count)
{
    std::vector<int> host(N);
    for (int i = 0; i < count; i++) {
        scale<<<N / 256, 256>>>(N, b, a, i + 2);
        CHECK(hipMemcpy(host.data(), b, N * sizeof(int), hipMemcpyDeviceToHost));
        scale<<<N / 256, 256>>>(N, a, b, 1);
    }
    CHECK(hipDeviceSynchronize());
}

static void waiting()
{
    printf("waiting %d\n", getpid());
    fflush(stdout);
}

int main(int, char **arguments)
{
    const char *what = arguments[1];
    int *a = array(1), *b = array(2), *flag;
    CHECK(hipMalloc(&flag, sizeof(int)));
    CHECK(hipMemset(flag, 0, sizeof(int)));
    steps(a, b, 5);
    if (!strcmp(what, "overrun")) {
        scale<<<2 * N / 256, 256>>>(2 * N, b, a, 3);
    } else if (!strcmp(what, "spin")) {
        wait_for<<<1, 64>>>(flag);
        waiting();
    } else if (!strcmp(what, "unset")) {
        hipStream_t stream;
        uint32_t *signal;
        CHECK(hipStreamCreate(&stream));
        CHECK(hipExtMallocWithFlags((void **)&signal, 8, hipMallocSignalMemory));
        *(volatile uint64_t *)signal = 0;
        CHECK(hipStreamWaitValue32(stream, signal, 1, hipStreamWaitValueEq, 0xffffffff));
        scale<<<N / 256, 256, 0, stream>>>(N, b, a, 3);
        waiting();
        CHECK(hipStreamSynchronize(stream));
    } else if (!strcmp(what, "early")) {
        void *given[] = {&b};
        CHECK(hipLaunchCooperativeKernel((void *)meet, dim3(8), dim3(64), given, 0, 0));
        waiting();
    } else if (!strcmp(what, "freed")) {
        CHECK(hipFree(a));
        scale<<<N / 256, 256>>>(N, b, a, 3);
    } else
        return 2;
    CHECK(hipDeviceSynchronize());
    puts("ok");
    return 0;
}
