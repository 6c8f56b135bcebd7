/* Maps memory of the GPU, unmaps, covers and moves parts of it, and stores into what is left. */
#define _GNU_SOURCE
#include <assert.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

struct alloc { uint64_t va, size, handle, offset; uint32_t gpu, flags; };

static int kfd;

static void look(void) /* any call has the recorder look at memory */
{
    uint32_t version[2];
    assert(!ioctl(kfd, 0x80084b01, version));
}

int main(void)
{
    uint32_t gpu;
    FILE *file = fopen("/sys/devices/virtual/kfd/kfd/topology/nodes/1/gpu_id", "r");
    assert(file && fscanf(file, "%u", &gpu) == 1);
    kfd = open("/dev/kfd", O_RDWR);
    int render = open("/dev/dri/renderD128", O_RDWR);
    uint32_t acquire[2] = {render, gpu};
    assert(!ioctl(kfd, 0x40084b15, acquire));
    size_t size = 5 * 4096;
    char *at = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct alloc one = {(uintptr_t)at, size, 0, 0, gpu, 0xd6000002};
    assert(!ioctl(kfd, 0xc0284b16, &one));
    int both = PROT_READ | PROT_WRITE;
    assert(mmap(at, size, both, MAP_SHARED | MAP_FIXED, render, one.offset) == at);
    for (int page = 0; page < 5; page++)
        strcpy(at + 4096 * page, "whole");
    look();
    assert(!munmap(at + 4096, 1));
    strcpy(at, "first");
    strcpy(at + 4096 * 2, "third");
    look();
    mmap(at + 4096 * 4, 4096, both, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    strcpy(at + 4096 * 3, "fourth");
    look();
    char *moved = mremap(at + 4096 * 2, 8192, 8192, MREMAP_MAYMOVE | MREMAP_FIXED, at + (1 << 26));
    assert(moved == at + (1 << 26) && !strcmp(moved + 4096, "fourth"));
    strcpy(moved, "moved");
    look();
    printf("%p %p\n", (void *)at, (void *)moved);
    return 0;
}
