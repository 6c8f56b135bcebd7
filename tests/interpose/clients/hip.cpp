// What HIP programs do, one thing for each argument; prints "ok" when the results are right.
#include <hip/hip_runtime.h>
// It needs the one above.
#include <hip/hip_cooperative_groups.h>
#include <sys/wait.h>
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
#define REQUIRE(what)                                                                              \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "line %d: %s\n", __LINE__, #what);                                     \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

__global__ void saxpy(int n, float a, const float *x, float *y)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = a * x[i] + y[i];
}

__global__ void sum(int n, const int *x, int *total)
{
    __shared__ int part[256];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    part[threadIdx.x] = i < n ? x[i] : 0;
    __syncthreads();
    for (int step = 128; step; step /= 2) {
        if (threadIdx.x < step)
            part[threadIdx.x] += part[threadIdx.x + step];
        __syncthreads();
    }
    if (!threadIdx.x)
        atomicAdd(total, part[0]);
}

__host__ __device__ __attribute__((noinline)) unsigned fibonacci(unsigned n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

__host__ __device__ inline unsigned on_the_stack(unsigned value)
{
    unsigned local[40], total = fibonacci(value % 9);
    for (unsigned i = 0; i < 40; i++)
        local[(7 * i + value) % 40] = i ^ value;
    for (unsigned i = 0; i < 40; i++)
        total = 31 * total + local[(i + value) % 40];
    return total;
}

__global__ void stack(int n, unsigned *values)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        values[i] = on_the_stack(values[i]);
}

__global__ void say(int number)
{
    if (threadIdx.x == 3)
        printf("%d from %d\n", number, (int)threadIdx.x);
}

// Each block needs what all others have left in the round before.
__global__ void rounds(unsigned *values, unsigned blocks, unsigned count)
{
    auto grid = cooperative_groups::this_grid();
    for (unsigned round = 0; round < count; round++) {
        unsigned *from = values + round % 2 * blocks, *to = values + (round + 1) % 2 * blocks;
        unsigned total = 0;
        for (unsigned k = 0; k < blocks; k++)
            total = 3 * total + from[k];
        grid.sync();
        if (!threadIdx.x)
            to[blockIdx.x] = total + from[(blockIdx.x + 1) % blocks];
        grid.sync();
    }
}

static void run_saxpy()
{
    const int n = 1000;
    std::vector<float> x(n), y(n, 1.0f);
    for (int i = 0; i < n; i++)
        x[i] = i;
    float *dx, *dy;
    CHECK(hipMalloc(&dx, n * 4));
    CHECK(hipMalloc(&dy, n * 4));
    CHECK(hipMemcpy(dx, x.data(), n * 4, hipMemcpyHostToDevice));
    CHECK(hipMemcpy(dy, y.data(), n * 4, hipMemcpyHostToDevice));
    saxpy<<<(n + 255) / 256, 256>>>(n, 2.0f, dx, dy);
    CHECK(hipGetLastError());
    CHECK(hipMemcpy(y.data(), dy, n * 4, hipMemcpyDeviceToHost));
    for (int i = 0; i < n; i++)
        REQUIRE(y[i] == 2.0f * i + 1);
    CHECK(hipFree(dx));
    CHECK(hipFree(dy));
}

static void run_sum()
{
    const int n = 10000;
    std::vector<int> x(n);
    long wanted = 0;
    for (int i = 0; i < n; i++)
        wanted += x[i] = i * 7 % 101;
    int *dx, *total, found;
    CHECK(hipMalloc(&dx, n * 4));
    CHECK(hipMalloc(&total, 4));
    CHECK(hipMemset(total, 0, 4));
    CHECK(hipMemcpy(dx, x.data(), n * 4, hipMemcpyHostToDevice));
    sum<<<(n + 255) / 256, 256>>>(n, dx, total);
    CHECK(hipMemcpy(&found, total, 4, hipMemcpyDeviceToHost));
    REQUIRE(found == wanted);
}

static void run_streams()
{
    const int n = 4096;
    hipStream_t streams[2];
    hipEvent_t begin, end;
    float *x[2], *host, elapsed;
    CHECK(hipHostMalloc(&host, n * 4));
    CHECK(hipEventCreate(&begin));
    CHECK(hipEventCreate(&end));
    for (int s = 0; s < 2; s++) {
        CHECK(hipStreamCreate(&streams[s]));
        CHECK(hipMalloc(&x[s], n * 4));
    }
    for (int i = 0; i < n; i++)
        host[i] = i;
    CHECK(hipEventRecord(begin, streams[0]));
    CHECK(hipMemcpyAsync(x[0], host, n * 4, hipMemcpyHostToDevice, streams[0]));
    saxpy<<<n / 256, 256, 0, streams[0]>>>(n, 1.0f, x[0], x[0]);
    CHECK(hipEventRecord(end, streams[0]));
    CHECK(hipStreamWaitEvent(streams[1], end, 0));
    CHECK(hipMemcpyAsync(x[1], x[0], n * 4, hipMemcpyDeviceToDevice, streams[1]));
    CHECK(hipMemcpyAsync(host, x[1], n * 4, hipMemcpyDeviceToHost, streams[1]));
    CHECK(hipStreamSynchronize(streams[1]));
    for (int i = 0; i < n; i++)
        REQUIRE(host[i] == 2.0f * i);
    CHECK(hipEventElapsedTime(&elapsed, begin, end));
    REQUIRE(elapsed > 0 && elapsed < 60000);
}

static void run_copies()
{
    const size_t sizes[] = {1, 3, 63, 64, 65, 1000, 4095, 4097, 65537, 1 << 20};
    for (size_t size : sizes) {
        std::vector<unsigned char> out(size + 8), back(size + 8, 0xee);
        for (size_t i = 0; i < size + 8; i++)
            out[i] = (unsigned char)(i * 31 + size);
        unsigned char *a, *b;
        CHECK(hipMalloc(&a, size + 8));
        CHECK(hipMalloc(&b, size + 8));
        CHECK(hipMemset(a, 0x5a, size + 8));
        CHECK(hipMemcpy(a + 3, out.data(), size, hipMemcpyHostToDevice));
        CHECK(hipMemcpy(b + 1, a + 3, size, hipMemcpyDeviceToDevice));
        CHECK(hipMemcpy(back.data(), b + 1, size, hipMemcpyDeviceToHost));
        REQUIRE(!memcmp(back.data(), out.data(), size) && back[size] == 0xee);
        CHECK(hipMemcpy(back.data(), a, 3, hipMemcpyDeviceToHost));
        REQUIRE(back[0] == 0x5a && back[2] == 0x5a);
        CHECK(hipFree(a));
        CHECK(hipFree(b));
    }
}

static void run_host_memory()
{
    const int n = 3000;
    float *managed, *own = (float *)malloc(n * 4 + 8192), *mapped;
    CHECK(hipMallocManaged(&managed, n * 4));
    for (int i = 0; i < n; i++)
        managed[i] = own[i] = i;
    saxpy<<<(n + 255) / 256, 256>>>(n, 3.0f, managed, managed);
    CHECK(hipDeviceSynchronize());
    for (int i = 0; i < n; i++)
        REQUIRE(managed[i] == 4.0f * i);
    CHECK(hipHostRegister(own, n * 4, hipHostRegisterDefault));
    CHECK(hipHostGetDevicePointer((void **)&mapped, own, 0));
    saxpy<<<(n + 255) / 256, 256>>>(n, 1.0f, managed, mapped);
    CHECK(hipDeviceSynchronize());
    for (int i = 0; i < n; i++)
        REQUIRE(own[i] == 5.0f * i);
    CHECK(hipHostUnregister(own));
    own[0] = 9; /* its own again */
    free(own);
}

static void run_stack()
{
    const int n = 1000;
    std::vector<unsigned> values(n);
    for (int i = 0; i < n; i++)
        values[i] = i * 2654435761u;
    unsigned *on_gpu;
    CHECK(hipMalloc(&on_gpu, n * 4));
    CHECK(hipMemcpy(on_gpu, values.data(), n * 4, hipMemcpyHostToDevice));
    stack<<<(n + 255) / 256, 256>>>(n, on_gpu);
    std::vector<unsigned> found(n);
    CHECK(hipMemcpy(found.data(), on_gpu, n * 4, hipMemcpyDeviceToHost));
    for (int i = 0; i < n; i++)
        REQUIRE(found[i] == on_the_stack(values[i]));
    say<<<1, 64>>>(12);
    CHECK(hipDeviceSynchronize());
}

static void run_grid()
{
    unsigned blocks = 24, count = 5;
    std::vector<unsigned> values(2 * blocks), found(2 * blocks);
    for (unsigned k = 0; k < 2 * blocks; k++)
        values[k] = 77 * k + 1;
    unsigned *on_gpu;
    CHECK(hipMalloc(&on_gpu, 8 * blocks));
    CHECK(hipMemcpy(on_gpu, values.data(), 8 * blocks, hipMemcpyHostToDevice));
    void *given[] = {&on_gpu, &blocks, &count};
    CHECK(hipLaunchCooperativeKernel((void *)rounds, dim3(blocks), dim3(256), given, 0, 0));
    CHECK(hipMemcpy(found.data(), on_gpu, 8 * blocks, hipMemcpyDeviceToHost));
    for (unsigned round = 0; round < count; round++) {
        unsigned *from = &values[round % 2 * blocks], *to = &values[(round + 1) % 2 * blocks];
        unsigned total = 0;
        for (unsigned k = 0; k < blocks; k++)
            total = 3 * total + from[k];
        for (unsigned k = 0; k < blocks; k++)
            to[k] = total + from[(k + 1) % blocks];
    }
    REQUIRE(found == values);
}

int main(int, char **arguments)
{
    const char *what = arguments[1];
    if (!strcmp(what, "fork")) {
        run_saxpy();
        pid_t child = fork();
        if (!child) {
            execl("/proc/self/exe", arguments[0], "sum", (char *)NULL);
            _exit(127);
        }
        int status;
        REQUIRE(waitpid(child, &status, 0) == child && !status);
        run_sum();
    } else if (!strcmp(what, "saxpy"))
        run_saxpy();
    else if (!strcmp(what, "sum"))
        run_sum();
    else if (!strcmp(what, "streams"))
        run_streams();
    else if (!strcmp(what, "copies"))
        run_copies();
    else if (!strcmp(what, "host"))
        run_host_memory();
    else if (!strcmp(what, "stack"))
        run_stack();
    else if (!strcmp(what, "grid"))
        run_grid();
    else
        return 2;
    puts("ok");
    return 0;
}
