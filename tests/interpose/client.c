/* A client of the KFD that checks what it sees; prints "ok" and exits 0 when all of it is right. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#undef NDEBUG

#define GET_VERSION 0x80084b01
#define ACQUIRE_VM 0x40084b15
#define ALLOC 0xc0284b16
#define FREE 0x40084b17

struct alloc { uint64_t va, size, handle, offset; uint32_t gpu, flags; };

static uint32_t gpu_id(void)
{
    uint32_t id = 0;
    FILE *file = fopen("/sys/devices/virtual/kfd/kfd/topology/nodes/1/gpu_id", "r");
    assert(file && fscanf(file, "%u", &id) == 1);
    fclose(file);
    return id;
}

static void *other_thread(void *argument)
{
    uint32_t version[2] = {0};
    assert(!ioctl(*(int *)argument, GET_VERSION, version) && version[0] == 1);
    return NULL;
}

static void check_nodes(int kfd, int render)
{
    struct stat status;
    assert(!fstat(kfd, &status) && S_ISCHR(status.st_mode));
    assert(!fstat(render, &status) && status.st_rdev == makedev(226, 128));
    assert(!stat("/dev/kfd", &status) && S_ISCHR(status.st_mode));
    assert(!access("/dev/dri/renderD128", R_OK | W_OK));
    int count = 0;
    DIR *folder = opendir("/sys/class/kfd/kfd/topology/nodes");
    assert(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    assert(count == 4); /* ., .., 0 and 1 */
}

static void check_user_pointer(int kfd, uint32_t gpu)
{
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(page, "what the program wrote");
    struct alloc alloc = {(uintptr_t)page, 8192, 0, (uintptr_t)page, gpu, 0xd4000004};
    assert(!ioctl(kfd, ALLOC, &alloc));
    assert(!strcmp(page, "what the program wrote"));
    page[4096] = 7;
    assert(!ioctl(kfd, FREE, &alloc.handle) && page[4096] == 7 && page[0] == 'w');
    struct alloc wild = {(uintptr_t)page, 4096, 0, 0x10000, gpu, 0xd4000004};
    assert(ioctl(kfd, ALLOC, &wild) == -1 && errno == EFAULT);
    assert(ioctl(kfd, ALLOC, (void *)8) == -1 && errno == EFAULT);
}

int main(void)
{
    uint32_t version[2] = {0}, gpu = gpu_id();
    int kfd = open("/dev/kfd", O_RDWR | O_CLOEXEC), render = open("/dev/dri/renderD128", O_RDWR);
    assert(kfd >= 0 && render >= 0);
    check_nodes(kfd, render);
    int copy = dup(kfd), high = fcntl(kfd, F_DUPFD, 100);
    assert(high >= 100 && !ioctl(high, GET_VERSION, version) && version[0] == 1);
    close(kfd);
    assert(ioctl(kfd, GET_VERSION, version) == -1 && errno == EBADF);
    assert(ioctl(copy, 0x80084bff, version) == -1 && errno == ENOTTY);
    uint32_t acquire[2] = {(uint32_t)render, gpu};
    assert(!ioctl(copy, ACQUIRE_VM, acquire));
    acquire[0] = 0;
    assert(ioctl(copy, ACQUIRE_VM, acquire) == -1 && errno == EINVAL);
    pthread_t thread;
    assert(!pthread_create(&thread, NULL, other_thread, &copy) && !pthread_join(thread, NULL));
    check_user_pointer(copy, gpu);
    pid_t child = fork();
    if (!child) {
        if (ioctl(copy, GET_VERSION, version) != -1 || errno != EBADF)
            _exit(1); /* the parent's descriptor is of no use to a child */
        int own = open("/dev/kfd", O_RDWR);
        _exit(own < 0 || ioctl(own, GET_VERSION, version));
    }
    int status;
    assert(waitpid(child, &status, 0) == child && status == 0);
    assert(!ioctl(copy, GET_VERSION, version));
    child = vfork();
    if (!child) { /* what it closes is closed for itself alone */
        close(copy);
        dup2(0, render);
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    assert(waitpid(child, &status, 0) == child && status == 0);
    assert(!ioctl(copy, GET_VERSION, version));
    acquire[0] = (uint32_t)render;
    assert(!ioctl(copy, ACQUIRE_VM, acquire));
    puts("ok");
    return 0;
}
