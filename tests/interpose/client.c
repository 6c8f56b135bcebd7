/* A client of the KFD that checks what it sees; prints "ok" and exits 0 when all of it is right. */
#define _GNU_SOURCE
#include <assert.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
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

static void check_other_ways(int kfd)
{
    static const char nodes[] = "/sys/class/kfd/kfd/topology/nodes";
    struct statx facts;
    assert(!statx(AT_FDCWD, "/dev/dri/renderD128", 0, STATX_BASIC_STATS, &facts));
    assert(S_ISCHR(facts.stx_mode) && facts.stx_rdev_major == 226 && facts.stx_rdev_minor == 128);
    assert(!statx(kfd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &facts) && S_ISCHR(facts.stx_mode));
    struct stat status;
    assert(!fstatat(AT_FDCWD, "/dev/kfd", &status, 0) && S_ISCHR(status.st_mode));
    assert(!lstat("/dev/kfd", &status) && S_ISCHR(status.st_mode));
    assert(!faccessat(AT_FDCWD, "/sys/module/amdgpu", R_OK, 0));
    assert(access("/sys/module/amdgpu/nothing", R_OK) == -1 && errno == ENOENT);
    char target[256];
    ssize_t length = readlinkat(AT_FDCWD, "/sys/class/kfd/kfd", target, sizeof target);
    assert(length > 0 && readlink("/sys/class/kfd/kfd", target, sizeof target) == length);
    char *whole = realpath("/sys/class/kfd/kfd", NULL);
    assert(whole && !strcmp(whole, "/sys/devices/virtual/kfd/kfd"));
    free(whole);
    struct dirent **names;
    int count = scandir(nodes, &names, NULL, alphasort);
    assert(count == 4 && !strcmp(names[3]->d_name, "1"));
    while (count--)
        free(names[count]);
    free(names);
    int folder = open(nodes, O_RDONLY | O_DIRECTORY), inside = openat(folder, "1/gpu_id", O_RDONLY);
    assert(folder >= 0 && inside >= 0 && read(inside, target, 1) == 1);
    uint32_t version[2];
    int other = dup3(kfd, 77, O_CLOEXEC);
    assert(other == 77 && !ioctl(other, GET_VERSION, version) && dup2(folder, other) == other);
    assert(ioctl(other, GET_VERSION, version) == -1 && errno == ENOTTY);
    close(other), close(inside), close(folder);
    int (*looked_up)(int, unsigned long, ...) = dlsym(RTLD_DEFAULT, "ioctl");
    assert(looked_up && !looked_up(kfd, GET_VERSION, version));
}

static int plain_files(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int plain_files64(const struct dirent64 *entry)
{
    return entry->d_name[0] != '.';
}

/* The rest of the ways in which the C library takes a path: each must lead into the tree. */
static void check_rarer_ways(void)
{
    static const char nodes[] = "/sys/class/kfd/kfd/topology/nodes";
    static const char id[] = "/sys/devices/virtual/kfd/kfd/topology/nodes/1/gpu_id";
    struct dirent **names;
    struct dirent64 **names64;
    assert(scandir64(nodes, &names64, plain_files64, alphasort64) == 2);
    assert(!strcmp(names64[1]->d_name, "1"));
    assert(scandirat(AT_FDCWD, nodes, &names, plain_files, alphasort) == 2);
    assert(scandirat64(AT_FDCWD, nodes, &names64, plain_files64, alphasort64) == 2);
    glob_t found = {0};
    assert(!glob("/sys/class/kfd/kfd/topology/nodes/[0-9]/gpu_id", 0, NULL, &found));
    assert(found.gl_pathc == 2);
    assert(!strcmp(found.gl_pathv[1], "/sys/class/kfd/kfd/topology/nodes/1/gpu_id"));
    globfree(&found);
    glob64_t found64 = {0};
    assert(!glob64("/dev/dri/renderD*", 0, NULL, &found64) && found64.gl_pathc == 1);
    assert(!strcmp(found64.gl_pathv[0], "/dev/dri/renderD128"));
    globfree64(&found64);
    assert(!eaccess(id, R_OK) && !euidaccess(id, R_OK) && !access(id, R_OK));
    assert(eaccess("/sys/module/amdgpu/nothing", R_OK) == -1);
    FILE *(*again[])(const char *, const char *, FILE *) = {freopen, freopen64};
    for (int i = 0; i < 2; i++) {
        uint32_t number = 0;
        FILE *file = again[i](id, "r", fopen("/dev/null", "r"));
        assert(file && fscanf(file, "%u", &number) == 1 && number == gpu_id());
        fclose(file);
    }
    char *whole = canonicalize_file_name("/sys/class/kfd/kfd");
    assert(whole && !strcmp(whole, "/sys/devices/virtual/kfd/kfd"));
    free(whole);
    uint32_t version[2];
    int made[] = {creat("/dev/kfd", 0600), creat64("/dev/kfd", 0600)};
    for (int i = 0; i < 2; i++) /* never a file of that name on the machine itself */
        assert(made[i] >= 0 && !ioctl(made[i], GET_VERSION, version) && !close(made[i]));
}

/* A program may close all that it has, but the library's own connection is not its. */
static void check_closing_all(void)
{
    int first = open("/dev/kfd", O_RDWR), second;
    uint32_t version[2];
    assert(dup2(first, 500) == 500 && !ioctl(500, GET_VERSION, version));
    closefrom(499);
    assert(ioctl(500, GET_VERSION, version) == -1 && errno == EBADF);
    assert(open("/dev/null", O_RDONLY) >= 0 && dup2(0, 500) == 500);
    assert(ioctl(500, GET_VERSION, version) == -1 && errno != ENODEV);
    assert(!ioctl(first, GET_VERSION, version));
    assert(!close_range(first, first, 0) && ioctl(first, GET_VERSION, version) == -1);
    second = open("/dev/kfd", O_RDWR);
    assert(second >= 0 && !ioctl(second, GET_VERSION, version) && !close(second));
}

static void check_spawned(void)
{
    extern char **environ;
    char *command[] = {"sh", "-c", "test -c /dev/kfd && cat /proc/modules | grep -q amdgpu", NULL};
    pid_t child;
    int status;
    assert(!posix_spawn(&child, "/bin/sh", NULL, NULL, command, environ));
    assert(waitpid(child, &status, 0) == child && status == 0);
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

/* Blocks side by side, wherever the system puts them: each its own, and none is refused. */
static void check_neighbours(int kfd, uint32_t gpu)
{
    enum { BLOCK = 2 << 20, COUNT = 12, ROOM = 16 << 20 };
    char *area = mmap(NULL, 4 * ROOM, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *top = (char *)(((uintptr_t)area + 3 * ROOM) / ROOM * ROOM) + BLOCK / 2;
    uint64_t handles[COUNT];
    for (int i = 0; i < COUNT; i++) {
        char *block = top - (i + 1) * BLOCK;
        block[0] = block[BLOCK - 1] = (char)(i + 1);
        struct alloc alloc = {(uintptr_t)block, BLOCK, 0, (uintptr_t)block, gpu, 0xd4000004};
        assert(!ioctl(kfd, ALLOC, &alloc));
        handles[i] = alloc.handle;
    }
    for (int i = 0; i < COUNT; i++) {
        char *block = top - (i + 1) * BLOCK;
        assert(block[0] == i + 1 && block[BLOCK - 1] == i + 1);
        assert(!ioctl(kfd, FREE, handles + i) && block[0] == i + 1 && block[BLOCK - 1] == i + 1);
    }
    munmap(area, 4 * ROOM);
}

int main(void)
{
    uint32_t version[2] = {0}, gpu = gpu_id();
    int kfd = open("/dev/kfd", O_RDWR | O_CLOEXEC), render = open("/dev/dri/renderD128", O_RDWR);
    assert(kfd >= 0 && render >= 0);
    check_nodes(kfd, render);
    check_other_ways(kfd);
    check_rarer_ways();
    check_spawned();
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
    check_neighbours(copy, gpu);
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
    check_closing_all();
    puts("ok");
    return 0;
}
