/* The library that stands between a program and the KFD: loaded with LD_PRELOAD.

   It answers for /dev/kfd, the render nodes and the files of sysfs that tell about them. The nodes
   are memory files that the server hands out, so that mmap, munmap, mremap and fork need no help:
   memory of the GPU is mapped at true offsets of a true file. Opening and ioctl go to the server, on
   a connection of each thread's own. Paths below the prefixes are looked up in a generated tree.

   GPUTRACE_SOCKET names the server's socket, GPUTRACE_TREE the tree. Without them the library does
   nothing.

   Built with -DTAP=1 it stands before the machine's own KFD instead, in the way of a wire tap: nodes
   and ioctls are the kernel's, but the server is asked first and has each ioctl called in its time,
   and where the program maps doorbells it finds a page that the server watches (tap.c). That one
   goes by GPUTRACE_TAP, so that it can stand before the other. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "protocol.h"
#include "tap.h"

#ifndef TAP
#define TAP 0
#endif
#define EXPORT __attribute__((visibility("default")))
#define DESCRIPTORS 65536      /* descriptors above this are never ours */
#define PATIENCE_NS 60000      /* how long a thread asks for an answer before it sleeps */
#define PRIVATE_FROM 960       /* where the library's own sockets go, out of the program's way */
#define KFD_MAJOR 238          /* any number that the machine does not use will do */
#define DRM_MAJOR 226

/* ---- what the program's descriptors are ---- */

struct file {
    _Atomic uint32_t node;     /* enum node, or PRIVATE */
    uint32_t handle;           /* the server's name for what is open */
    uint32_t minor;
    uint32_t owner;            /* the process that opened it: KFD serves no other */
};

#define PRIVATE 255

static struct file files[DESCRIPTORS];
static char tree[PATH_MAX / 2];
static char server[sizeof(((struct sockaddr_un *)0)->sun_path)];
static _Atomic bool recorded; /* the server wants to know of mappings and stores */
static pthread_key_t at_thread_end;
static uint64_t image; /* tells this program from the one that it was before exec */
static __thread int connection = -1;
static __thread uint32_t connected_as; /* process that made the connection */

static struct file *special(int fd)
{
    if (fd < 0 || fd >= DESCRIPTORS)
        return NULL;
    uint32_t node = atomic_load_explicit(&files[fd].node, memory_order_acquire);
    return node == NODE_NONE || node == PRIVATE ? NULL : &files[fd];
}

static bool private(int fd)
{
    return fd >= 0 && fd < DESCRIPTORS && atomic_load(&files[fd].node) == PRIVATE;
}

/* Between vfork and exec a child has descriptors of its own but works in its parent's memory. */
static pid_t owner_of_files;

static bool borrowed(void)
{
    return owner_of_files != getpid();
}

static void same_file(int from, int to)
{
    if (to < 0 || to >= DESCRIPTORS || borrowed())
        return;
    struct file *file = special(from);
    uint32_t node = NODE_NONE;
    if (file) {
        node = file->node;
        files[to].handle = file->handle;
        files[to].minor = file->minor;
        files[to].owner = file->owner;
    }
    atomic_store_explicit(&files[to].node, node, memory_order_release);
}

/* ---- the functions that stand behind ours ---- */

typedef void *(*lookup)(void *, const char *);
void *gputrace_real_dlsym;

/* A sanitizer's runtime looks functions up before it can bear code that it has instrumented. */
#define PLAIN __attribute__((no_sanitize("address", "undefined")))

PLAIN static void find_dlsym(void)
{
    static const char *const versions[] = {"GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_2.17"};
    for (size_t i = 0; i < sizeof versions / sizeof *versions && !gputrace_real_dlsym; i++)
        gputrace_real_dlsym = dlvsym(RTLD_NEXT, "dlsym", versions[i]);
}

/* Other libraries' constructors may call us before our own has run. */
static void *real(const char *name)
{
    if (!gputrace_real_dlsym)
        find_dlsym();
    return ((lookup)gputrace_real_dlsym)(RTLD_NEXT, name);
}

#define REAL(name)                                                                                 \
    static __typeof__(name) *behind;                                                               \
    if (!behind)                                                                                   \
        *(void **)&behind = real(#name);

/* ---- the connection ---- */

static int raw_close(int fd)
{
    return (int)syscall(SYS_close, fd);
}

static void drop_connection(void)
{
    if (connection < 0)
        return;
    atomic_store(&files[connection].node, NODE_NONE);
    raw_close(connection);
    connection = -1;
}

static void thread_ends(void *unused)
{
    (void)unused;
    drop_connection();
}

/* Sends one message, with a descriptor beside it unless that is -1. */
static int send_with(struct head *head, const void *payload, int descriptor)
{
    struct iovec parts[2] = {{head, sizeof *head}, {(void *)payload, head->size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = head->size ? 2 : 1};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    if (descriptor >= 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *beside = CMSG_FIRSTHDR(&message);
        beside->cmsg_level = SOL_SOCKET;
        beside->cmsg_type = SCM_RIGHTS;
        beside->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(beside), &descriptor, sizeof descriptor);
    }
    ssize_t sent;
    do
        sent = sendmsg(connection, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -1 : 0;
}

static int send_message(struct head *head, const void *payload)
{
    return send_with(head, payload, -1);
}

/* Waits for a message. Most answers come at once, sooner than the kernel wakes a thread that
   sleeps on another core: so ask for a while, and let others run in between. */
static ssize_t wait_for_message(struct msghdr *message)
{
    struct timespec begin, now;
    ssize_t got;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        got = recvmsg(connection, message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (got >= 0 || (errno != EAGAIN && errno != EINTR))
            return got;
        sched_yield();
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1000000000L + now.tv_nsec - begin.tv_nsec < PATIENCE_NS);
    do
        got = recvmsg(connection, message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    return got;
}

/* Takes one message; *descriptor is what came along with it, or -1. */
static int take_message(struct head *head, void *payload, int *descriptor)
{
    struct iovec parts[2] = {{head, sizeof *head}, {payload, PAYLOAD_LIMIT}};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {
        .msg_iov = parts, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof control};
    *descriptor = -1;
    ssize_t got = wait_for_message(&message);
    if (got < 0)
        return -1;
    struct cmsghdr *extra = CMSG_FIRSTHDR(&message);
    if (extra && extra->cmsg_level == SOL_SOCKET && extra->cmsg_type == SCM_RIGHTS)
        memcpy(descriptor, CMSG_DATA(extra), sizeof *descriptor);
    if ((size_t)got < sizeof *head || (size_t)got != sizeof *head + head->size ||
        message.msg_flags & MSG_TRUNC) {
        if (*descriptor >= 0)
            raw_close(*descriptor);
        errno = EPROTO;
        return -1;
    }
    return 0;
}

/* ---- stores of the program, while it is recorded ---- */

static int faults = -1; /* the userfaultfd, whose asynchronous write protection the server reads */

static int stores_descriptor(void)
{
    static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&once);
    if (faults < 0) {
        struct uffdio_api api = {.api = UFFD_API, .features = 1 << 12 | 1 << 13 | 1 << 15};
        int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1 /* user mode only */);
        int high = fd < 0 ? -1 : (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, PRIVATE_FROM);
        if (fd >= 0)
            raw_close(fd);
        if (high >= 0 && (high >= DESCRIPTORS || syscall(SYS_ioctl, high, UFFDIO_API, &api))) {
            raw_close(high);
            high = -1;
        }
        if (high >= 0)
            atomic_store(&files[high].node, PRIVATE);
        faults = high;
    }
    pthread_mutex_unlock(&once);
    return faults;
}

/* Asks the kernel to tell which pages of a range are written; says whether it will. */
static bool find_stores(uint64_t address, uint64_t size)
{
    struct uffdio_register range = {.range = {address, size}, .mode = UFFDIO_REGISTER_MODE_WP};
    int fd = stores_descriptor();
    return fd >= 0 && !syscall(SYS_ioctl, fd, UFFDIO_REGISTER, &range);
}

/* ---- what the server asks while we wait ---- */

/* Copies through the kernel, so that a wild pointer of the program is EFAULT and not a crash. */
static int copy(void *here, uint64_t there, size_t size, bool write)
{
    struct iovec local = {here, size};
    struct iovec remote = {(void *)(uintptr_t)there, size};
    ssize_t done = size == 0 ? 0
                   : write   ? process_vm_writev(getpid(), &local, 1, &remote, 1, 0)
                             : process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
    if (done == (ssize_t)size)
        return 0;
    return done < 0 ? errno : EFAULT;
}

/* Moves pages of the program into the memory file: the GPU then sees what the program sees. */
static int share(const struct head *asked, int descriptor, uint64_t *found)
{
    uint64_t address = asked->a, size = asked->b, offset = asked->c;
    uint64_t done = 0;
    while (done < size) {
        ssize_t put = pwrite(descriptor, (void *)(uintptr_t)(address + done), size - done,
                             (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? errno : EIO;
        done += (uint64_t)put;
    }
    long at = syscall(SYS_mmap, address, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                      descriptor, offset);
    if (at == -1)
        return errno;
    if (atomic_load(&recorded))
        *found = find_stores(address, size);
    return 0;
}

static int detach(uint64_t address, uint64_t size)
{
    long kept = syscall(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                        0);
    if (kept == -1)
        return errno;
    int failed = copy((void *)kept, address, size, false);
    if (failed) {
        syscall(SYS_munmap, kept, size);
        return failed;
    }
    long at = syscall(SYS_mremap, kept, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, address);
    return at == -1 ? errno : 0;
}

/* What this thread is about to do when the server has been asked. */
static __thread struct {
    int fd;
    unsigned long request; /* of an ioctl */
    uint64_t offset;       /* of a mapping */
} pending;

static int (*kernel_ioctl)(int, unsigned long, ...);
static int dial(void);

/* The mapping that the program asked for is made elsewhere, and what it finds is the descriptor's. */
static int shadow(const struct head *asked, int descriptor, uint64_t *frame)
{
    long there = syscall(SYS_mmap, 0, asked->b, PROT_READ | PROT_WRITE, MAP_SHARED, pending.fd,
                         pending.offset);
    if (there == -1)
        return errno;
    long at = syscall(SYS_mmap, asked->a, asked->b, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                      descriptor, 0);
    if (at == -1)
        return errno;
    *frame = (uint64_t)there;
    static pid_t rings; /* the process that has somebody who rings */
    if (rings == getpid())
        return 0;
    int own = dial();
    if (own < 0)
        return ECONNREFUSED;
    int failed = tap_ringer(own, image);
    if (!failed)
        rings = getpid();
    return failed;
}

static int serve(const struct head *asked, char *payload, int descriptor)
{
    struct head done = {.message = DONE};
    switch (asked->message) {
    case CALL: {
        int result = kernel_ioctl ? kernel_ioctl(pending.fd, pending.request, payload) : -1;
        done.b = result < 0 ? (uint64_t)errno : 0;
        done.a = result < 0 ? 0 : (uint64_t)result;
        done.size = asked->size;
        break;
    }
    case SHADOW:
        done.b = (uint64_t)shadow(asked, descriptor, &done.a);
        break;
    case READ:
        if (asked->b > PAYLOAD_LIMIT) {
            done.b = E2BIG;
            break;
        }
        done.b = (uint64_t)copy(payload, asked->a, asked->b, false);
        done.size = done.b ? 0 : (uint32_t)asked->b;
        break;
    case WRITE:
        done.b = (uint64_t)copy(payload, asked->a, asked->size, true);
        break;
    case SHARE:
        done.b = (uint64_t)share(asked, descriptor, &done.a);
        break;
    case DETACH:
        done.b = (uint64_t)detach(asked->a, asked->b);
        break;
    case FIND: {
        struct file *file = asked->a < DESCRIPTORS ? special((int)asked->a) : NULL;
        done.a = file ? file->handle : 0;
        break;
    }
    default:
        done.b = ENOSYS;
    }
    if (descriptor >= 0)
        raw_close(descriptor);
    return send_message(&done, payload);
}

/* Sends a message and waits for its answer. The payload of the answer replaces `payload`, up to
   `room` bytes. Returns 0, or -1 with errno when the server is not there. *descriptor goes along
   with the message unless it is -1, and is what came along with the answer then. */
static int ask(struct head *head, void *payload, size_t room, int *descriptor)
{
    static __thread char buffer[PAYLOAD_LIMIT];
    if (send_with(head, payload, *descriptor))
        return -1;
    for (;;) {
        if (take_message(head, buffer, descriptor))
            return -1;
        if (head->message == ANSWER)
            break;
        if (serve(head, buffer, *descriptor))
            return -1;
    }
    if (room)
        memcpy(payload, buffer, head->size < room ? head->size : room);
    return 0;
}

/* Returns a new connection to the server, marked as the library's own, or -1. */
static int dial(void)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int high = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, PRIVATE_FROM);
    if (high >= 0) {
        raw_close(fd);
        fd = high;
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, server, sizeof server);
    if (fd >= DESCRIPTORS || connect(fd, (struct sockaddr *)&address, sizeof address)) {
        raw_close(fd);
        return -1;
    }
    atomic_store(&files[fd].node, PRIVATE);
    return fd;
}

static bool connected(void)
{
    if (connection >= 0 && connected_as == (uint32_t)getpid())
        return true;
    drop_connection();
    int fd = dial();
    if (fd < 0)
        return false;
    connection = fd;
    connected_as = (uint32_t)getpid();
    pthread_setspecific(at_thread_end, &connection);
    struct head hello = {
        .message = HELLO, .a = PROTOCOL_VERSION, .b = connected_as, .c = image};
    int none = -1;
    if (ask(&hello, NULL, 0, &none) || hello.b) {
        drop_connection();
        return false;
    }
    atomic_store(&recorded, hello.a != 0);
    return true;
}

/* ---- opening and closing nodes ---- */

/* Says which node a path is; *minor is filled for render nodes. */
static enum node node_of(const char *path, uint32_t *minor)
{
    static const char render[] = "/dev/dri/renderD";
    *minor = 0;
    if (!*server || !path)
        return NODE_NONE;
    if (!strcmp(path, "/dev/kfd"))
        return NODE_KFD;
    if (strncmp(path, render, sizeof render - 1))
        return NODE_NONE;
    char *end;
    unsigned long number = strtoul(path + sizeof render - 1, &end, 10);
    if (end == path + sizeof render - 1 || *end || number > 255)
        return NODE_NONE;
    *minor = (uint32_t)number;
    return NODE_RENDER;
}

/* Takes `fd` for what the server knows by this handle from now on. */
static int take_node(int fd, enum node node, uint32_t minor, uint64_t handle)
{
    if (fd >= DESCRIPTORS) {
        raw_close(fd);
        errno = EMFILE;
        return -1;
    }
    files[fd].handle = (uint32_t)handle;
    files[fd].minor = minor;
    files[fd].owner = (uint32_t)getpid();
    atomic_store_explicit(&files[fd].node, node, memory_order_release);
    return fd;
}

static int open_node(enum node node, uint32_t minor, int flags)
{
    struct head head = {.message = OPEN, .a = node, .b = minor};
    int fd = -1;
    if (!connected() || ask(&head, NULL, 0, &fd)) {
        errno = ENXIO;
        return -1;
    }
    if (head.b || fd < 0) {
        errno = head.b ? (int)head.b : EPROTO;
        return -1;
    }
    if (!(flags & O_CLOEXEC))
        syscall(SYS_fcntl, fd, F_SETFD, 0);
    return take_node(fd, node, minor, head.a);
}

/* The kernel has opened a node for the program: from here on the server is asked first. */
static int tap_node(enum node node, uint32_t minor, int fd)
{
    struct head head = {.message = OPEN, .a = node, .b = minor};
    int beside = fd;
    if (fd < 0)
        return fd;
    if (!connected() || ask(&head, NULL, 0, &beside) || head.b) {
        raw_close(fd);
        errno = ENXIO;
        return -1;
    }
    return take_node(fd, node, minor, head.a);
}

/* The server is told when the last descriptor of what it opened is closed. */
static void close_node(int fd)
{
    struct file gone = files[fd];
    atomic_store_explicit(&files[fd].node, NODE_NONE, memory_order_release);
    if (gone.owner != (uint32_t)getpid())
        return;
    for (int other = 0; other < DESCRIPTORS; other++)
        if (special(other) && files[other].handle == gone.handle)
            return;
    struct head head = {.message = CLOSE, .a = gone.handle};
    int none = -1;
    int kept = errno;
    if (connected())
        ask(&head, NULL, 0, &none);
    errno = kept;
}

/* ---- paths ---- */

static bool below(const char *path, const char *prefix)
{
    size_t length = strlen(prefix);
    if (strncmp(path, prefix, length))
        return false;
    return prefix[length - 1] == ':' || !path[length] || path[length] == '/';
}

/* The place of a path in the tree, or the path itself when it is none of ours. */
static const char *place(const char *path, char *room)
{
    static const char *const prefixes[] = {
        "/dev/kfd",       "/dev/dri",           "/sys/devices/virtual/kfd", "/sys/class/kfd",
        "/sys/class/drm", "/sys/dev/char/226:", "/sys/module/amdgpu",       "/proc/modules"};
    if (!*tree || !path || *path != '/')
        return path;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        if (below(path, prefixes[i])) {
            if ((size_t)snprintf(room, PATH_MAX, "%s%s", tree, path) >= PATH_MAX)
                return path;
            return room;
        }
    }
    return path;
}

#define PLACED(path)                                                                               \
    char room_##path[PATH_MAX];                                                                    \
    path = place(path, room_##path)

#define OPENER(name, parameters, arguments)                                                        \
    EXPORT int name parameters                                                                     \
    {                                                                                              \
        REAL(name)                                                                                 \
        uint32_t minor;                                                                            \
        enum node node = node_of(path, &minor);                                                    \
        if (node != NODE_NONE && !TAP)                                                             \
            return open_node(node, minor, flags);                                                  \
        mode_t mode = 0;                                                                           \
        if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) {                                      \
            va_list list;                                                                          \
            va_start(list, flags);                                                                 \
            mode = (mode_t)va_arg(list, unsigned);                                                 \
            va_end(list);                                                                          \
        }                                                                                          \
        PLACED(path);                                                                              \
        int fd = behind arguments;                                                                 \
        return node == NODE_NONE ? fd : tap_node(node, minor, fd);                                 \
    }

OPENER(open, (const char *path, int flags, ...), (path, flags, mode))
OPENER(open64, (const char *path, int flags, ...), (path, flags, mode))
OPENER(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode))
OPENER(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode))

/* The forms that _FORTIFY_SOURCE calls, for flags without a mode. */
#define CHECKED_OPENER(name, parameters, arguments)                                                \
    EXPORT int name parameters;                                                                    \
    EXPORT int name parameters                                                                     \
    {                                                                                              \
        return arguments;                                                                          \
    }

CHECKED_OPENER(__open_2, (const char *path, int flags), open(path, flags))
CHECKED_OPENER(__open64_2, (const char *path, int flags), open64(path, flags))
CHECKED_OPENER(__openat_2, (int at, const char *path, int flags), openat(at, path, flags))
CHECKED_OPENER(__openat64_2, (int at, const char *path, int flags), openat64(at, path, flags))

EXPORT int creat(const char *path, mode_t mode)
{
    return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

EXPORT int creat64(const char *, mode_t) __attribute__((alias("creat")));

/* A stream on a node is of no use to anybody, but opening one must not reach the machine's own. */
#define STREAM(name)                                                                               \
    EXPORT FILE *name(const char *path, const char *mode)                                          \
    {                                                                                              \
        REAL(name)                                                                                 \
        PLACED(path);                                                                              \
        return behind(path, mode);                                                                 \
    }

STREAM(fopen)
STREAM(fopen64)

#define STREAM_AGAIN(name)                                                                         \
    EXPORT FILE *name(const char *path, const char *mode, FILE *stream)                            \
    {                                                                                              \
        REAL(name)                                                                                 \
        PLACED(path);                                                                              \
        return behind(path, mode, stream);                                                         \
    }

STREAM_AGAIN(freopen)
STREAM_AGAIN(freopen64)

EXPORT DIR *opendir(const char *path)
{
    REAL(opendir)
    PLACED(path);
    return behind(path);
}

#define SCANNER(size)                                                                              \
    EXPORT int scandir##size(const char *path, struct dirent##size ***names,                       \
                             int (*filter)(const struct dirent##size *),                           \
                             int (*compare)(const struct dirent##size **,                          \
                                            const struct dirent##size **))                         \
    {                                                                                              \
        REAL(scandir##size)                                                                        \
        PLACED(path);                                                                              \
        return behind(path, names, filter, compare);                                               \
    }                                                                                              \
    EXPORT int scandirat##size(int at, const char *path, struct dirent##size ***names,             \
                               int (*filter)(const struct dirent##size *),                         \
                               int (*compare)(const struct dirent##size **,                        \
                                              const struct dirent##size **))                       \
    {                                                                                              \
        REAL(scandirat##size)                                                                      \
        PLACED(path);                                                                              \
        return behind(at, path, names, filter, compare);                                           \
    }

SCANNER()
SCANNER(64)

/* The C library looks for names with functions of ours: so found ones are the program's own. */
static void *glob_open(const char *path)
{
    return opendir(path);
}

static void glob_close(void *folder)
{
    closedir(folder);
}

#define GLOBBER(size)                                                                              \
    static struct dirent##size *glob_read##size(void *folder)                                      \
    {                                                                                              \
        return readdir##size(folder);                                                              \
    }                                                                                              \
    EXPORT int glob##size(const char *restrict pattern, int flags, int (*failed)(const char *, int), \
                          glob##size##_t *restrict found)                                          \
    {                                                                                              \
        REAL(glob##size)                                                                           \
        if (!*tree || flags & GLOB_ALTDIRFUNC)                                                     \
            return behind(pattern, flags, failed, found);                                          \
        found->gl_opendir = glob_open;                                                             \
        found->gl_readdir = glob_read##size;                                                       \
        found->gl_closedir = glob_close;                                                           \
        found->gl_stat = stat##size;                                                               \
        found->gl_lstat = lstat##size;                                                             \
        return behind(pattern, flags | GLOB_ALTDIRFUNC, failed, found);                            \
    }

GLOBBER()
GLOBBER(64)

#define ACCESS(name)                                                                               \
    EXPORT int name(const char *path, int mode)                                                    \
    {                                                                                              \
        REAL(name)                                                                                 \
        PLACED(path);                                                                              \
        return behind(path, mode);                                                                 \
    }

ACCESS(access)
ACCESS(eaccess)
ACCESS(euidaccess)

EXPORT int faccessat(int at, const char *path, int mode, int flags)
{
    REAL(faccessat)
    PLACED(path);
    return behind(at, path, mode, flags);
}

EXPORT ssize_t readlink(const char *path, char *target, size_t size)
{
    REAL(readlink)
    PLACED(path);
    return behind(path, target, size);
}

EXPORT ssize_t readlinkat(int at, const char *path, char *target, size_t size)
{
    REAL(readlinkat)
    PLACED(path);
    return behind(at, path, target, size);
}

EXPORT ssize_t __readlink_chk(const char *path, char *target, size_t size, size_t room);
EXPORT ssize_t __readlink_chk(const char *path, char *target, size_t size, size_t room)
{
    if (size > room)
        abort();
    return readlink(path, target, size);
}

EXPORT ssize_t __readlinkat_chk(int at, const char *path, char *target, size_t size, size_t room);
EXPORT ssize_t __readlinkat_chk(int at, const char *path, char *target, size_t size, size_t room)
{
    if (size > room)
        abort();
    return readlinkat(at, path, target, size);
}

/* What lies in the tree is called by the name that the program knows. */
static char *own_name(char *resolved)
{
    size_t length = strlen(tree);
    if (resolved && length && !strncmp(resolved, tree, length) && resolved[length] == '/')
        memmove(resolved, resolved + length, strlen(resolved + length) + 1);
    return resolved;
}

EXPORT char *realpath(const char *path, char *resolved)
{
    REAL(realpath)
    PLACED(path);
    return own_name(behind(path, resolved));
}

EXPORT char *canonicalize_file_name(const char *path)
{
    return realpath(path, NULL);
}

EXPORT char *__realpath_chk(const char *path, char *resolved, size_t size);
EXPORT char *__realpath_chk(const char *path, char *resolved, size_t size)
{
    if (size < PATH_MAX)
        abort();
    return realpath(path, resolved);
}

/* ---- stat: the nodes look like devices ---- */

static dev_t device_of(enum node node, uint32_t minor)
{
    return node == NODE_KFD ? makedev(KFD_MAJOR, 0) : makedev(DRM_MAJOR, minor);
}

#define AS_DEVICE(status, node, minor)                                                             \
    do {                                                                                           \
        if (TAP)                                                                                   \
            break;                                                                                 \
        (status)->st_mode = S_IFCHR | 0666;                                                        \
        (status)->st_rdev = device_of(node, minor);                                                \
        (status)->st_size = 0;                                                                     \
    } while (0)

#define STATUS_OF_PATH(name, type, parameters, arguments)                                          \
    EXPORT int name parameters;                                                                    \
    EXPORT int name parameters                                                                     \
    {                                                                                              \
        REAL(name)                                                                                 \
        uint32_t minor;                                                                            \
        enum node node = node_of(path, &minor);                                                    \
        PLACED(path);                                                                              \
        int result = behind arguments;                                                             \
        if (!result && node != NODE_NONE)                                                          \
            AS_DEVICE(status, node, minor);                                                        \
        return result;                                                                             \
    }

#define STATUS_OF_FILE(name, type, parameters, arguments)                                          \
    EXPORT int name parameters;                                                                    \
    EXPORT int name parameters                                                                     \
    {                                                                                              \
        REAL(name)                                                                                 \
        int result = behind arguments;                                                             \
        struct file *file = special(fd);                                                           \
        if (!result && file)                                                                       \
            AS_DEVICE(status, file->node, file->minor);                                            \
        return result;                                                                             \
    }

#define STATUS(size, type)                                                                         \
    STATUS_OF_PATH(stat##size, type, (const char *restrict path, type *restrict status),           \
                   (path, status))                                                                 \
    STATUS_OF_PATH(lstat##size, type, (const char *restrict path, type *restrict status),          \
                   (path, status))                                                                 \
    STATUS_OF_FILE(fstat##size, type, (int fd, type *status), (fd, status))                        \
    STATUS_OF_PATH(__xstat##size, type, (int version, const char *path, type *status),             \
                   (version, path, status))                                                        \
    STATUS_OF_PATH(__lxstat##size, type, (int version, const char *path, type *status),            \
                   (version, path, status))                                                        \
    STATUS_OF_FILE(__fxstat##size, type, (int version, int fd, type *status),                      \
                   (version, fd, status))

STATUS(, struct stat)
STATUS(64, struct stat64)

#define STATUS_AT(name, type, parameters, arguments)                                               \
    EXPORT int name parameters;                                                                    \
    EXPORT int name parameters                                                                     \
    {                                                                                              \
        REAL(name)                                                                                 \
        uint32_t minor;                                                                            \
        enum node node = node_of(path, &minor);                                                    \
        PLACED(path);                                                                              \
        int result = behind arguments;                                                             \
        struct file *file = !*path ? special(fd) : NULL;                                           \
        if (!result && node != NODE_NONE)                                                          \
            AS_DEVICE(status, node, minor);                                                        \
        else if (!result && file)                                                                  \
            AS_DEVICE(status, file->node, file->minor);                                            \
        return result;                                                                             \
    }

#define BOTH_AT(size, type)                                                                        \
    STATUS_AT(fstatat##size, type,                                                                 \
              (int fd, const char *restrict path, type *restrict status, int flags),               \
              (fd, path, status, flags))                                                           \
    STATUS_AT(__fxstatat##size, type,                                                              \
              (int version, int fd, const char *path, type *status, int flags),                    \
              (version, fd, path, status, flags))

BOTH_AT(, struct stat)
BOTH_AT(64, struct stat64)

EXPORT int statx(int fd, const char *restrict path, int flags, unsigned mask,
                 struct statx *restrict status)
{
    REAL(statx)
    uint32_t minor;
    enum node node = node_of(path, &minor);
    struct file *file = !*path ? special(fd) : NULL;
    PLACED(path);
    int result = behind(fd, path, flags, mask, status);
    if (!result && file) {
        node = file->node;
        minor = file->minor;
    }
    if (!result && node != NODE_NONE && !TAP) {
        dev_t device = device_of(node, minor);
        status->stx_mode = S_IFCHR | 0666;
        status->stx_rdev_major = major(device);
        status->stx_rdev_minor = minor(device);
        status->stx_size = 0;
    }
    return result;
}

/* ---- descriptors ---- */

EXPORT int close(int fd)
{
    REAL(close)
    if (private(fd)) {
        errno = EBADF;
        return -1;
    }
    if (special(fd) && !borrowed())
        close_node(fd);
    return behind(fd);
}

/* Closes all but the library's own. */
EXPORT int close_range(unsigned low, unsigned high, int flags)
{
    REAL(close_range)
    if (borrowed() || flags & CLOSE_RANGE_CLOEXEC)
        return behind(low, high, flags);
    unsigned first = low;
    for (unsigned fd = low; fd <= high && fd < DESCRIPTORS; fd++) {
        if (special((int)fd))
            close_node((int)fd);
        if (!private((int)fd))
            continue;
        if (first < fd && behind(first, fd - 1, flags))
            return -1;
        first = fd + 1;
    }
    return first <= high || low > high ? behind(first, high, flags) : 0;
}

EXPORT void closefrom(int low)
{
    close_range(low < 0 ? 0 : (unsigned)low, ~0U, 0);
}

EXPORT int dup(int fd)
{
    REAL(dup)
    int made = behind(fd);
    same_file(fd, made);
    return made;
}

static void make_way(int from, int to)
{
    if (from != to && special(to) && !borrowed())
        close_node(to);
}

EXPORT int dup2(int from, int to)
{
    REAL(dup2)
    make_way(from, to);
    int made = behind(from, to);
    if (made >= 0 && from != to)
        same_file(from, made);
    return made;
}

EXPORT int dup3(int from, int to, int flags)
{
    REAL(dup3)
    make_way(from, to);
    int made = behind(from, to, flags);
    if (made >= 0)
        same_file(from, made);
    return made;
}

#define CONTROL(name)                                                                              \
    EXPORT int name(int fd, int command, ...)                                                      \
    {                                                                                              \
        REAL(name)                                                                                 \
        va_list list;                                                                              \
        va_start(list, command);                                                                   \
        void *argument = va_arg(list, void *);                                                     \
        va_end(list);                                                                              \
        int result = behind(fd, command, argument);                                                \
        if (result >= 0 && (command == F_DUPFD || command == F_DUPFD_CLOEXEC))                     \
            same_file(fd, result);                                                                 \
        return result;                                                                             \
    }

CONTROL(fcntl)
CONTROL(fcntl64)

/* ---- mappings, which matter while the program is recorded ---- */

#define MAPPINGS 65536

struct mapping {
    uint64_t start, end, offset, handle, protection;
};
static struct mapping mapped[MAPPINGS];
static int mapped_count;
static pthread_mutex_t mapped_lock = PTHREAD_MUTEX_INITIALIZER;

static void tell(uint32_t message, uint64_t a, uint64_t b, uint64_t c, void *payload, uint32_t size)
{
    struct head head = {.message = message, .size = size, .a = a, .b = b, .c = c};
    int none = -1, kept = errno;
    if (connected())
        ask(&head, payload, 0, &none);
    errno = kept;
}

static void came(struct mapping one, bool kept)
{
    if (one.start >= one.end)
        return;
    uint64_t size = one.end - one.start, facts[4] = {one.handle, one.protection, 0, kept};
    if (one.protection & PROT_WRITE && !TAP)
        facts[2] = find_stores(one.start, size);
    pthread_mutex_lock(&mapped_lock);
    if (mapped_count < MAPPINGS)
        mapped[mapped_count++] = one;
    pthread_mutex_unlock(&mapped_lock);
    tell(MAPPED, one.start, size, one.offset, facts, sizeof facts);
}

/* Must come before the range loses what it holds. Of a mapping that goes in part the rest stays. */
static void gone(uint64_t start, uint64_t size)
{
    uint64_t end = start + ((size + 4095) & ~UINT64_C(4095));
    for (;;) {
        struct mapping found = {0};
        pthread_mutex_lock(&mapped_lock);
        for (int i = 0; i < mapped_count && !found.end; i++) {
            if (mapped[i].start < end && start < mapped[i].end) {
                found = mapped[i];
                mapped[i] = mapped[--mapped_count];
            }
        }
        pthread_mutex_unlock(&mapped_lock);
        if (!found.end)
            return;
        tell(UNMAPPED, found.start, found.end - found.start, 0, NULL, 0);
        struct mapping low = found, high = found;
        low.end = start;
        high.start = end;
        high.offset += end - found.start;
        came(low, true);
        came(high, true);
    }
}

/* Finds the mapping of the GPU's memory that begins a range which is about to move. */
static bool moves(uint64_t start, struct mapping *found)
{
    bool there = false;
    pthread_mutex_lock(&mapped_lock);
    for (int i = 0; i < mapped_count && !there; i++)
        if (mapped[i].start <= start && start < mapped[i].end) {
            *found = mapped[i];
            there = true;
        }
    pthread_mutex_unlock(&mapped_lock);
    return there;
}

/* Allocators may call this before anything else works, so it needs nobody's help. */
EXPORT void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    bool watched = atomic_load(&recorded);
    if (watched && flags & MAP_FIXED)
        gone((uintptr_t)address, size);
    long at = syscall(SYS_mmap, address, size, protection, flags, fd, offset);
    struct file *file = watched && at != -1 ? special(fd) : NULL;
    if (file && (flags & MAP_TYPE) != MAP_PRIVATE) {
        uint64_t start = (uint64_t)at, end = start + ((size + 4095) & ~UINT64_C(4095));
        pending.fd = fd;
        pending.offset = (uint64_t)offset;
        came((struct mapping){start, end, (uint64_t)offset, file->handle, (uint64_t)protection},
             false);
    }
    return (void *)at;
}

EXPORT void *mmap64(void *, size_t, int, int, int, off64_t) __attribute__((alias("mmap")));

EXPORT int munmap(void *address, size_t size)
{
    if (atomic_load(&recorded))
        gone((uintptr_t)address, size);
    return (int)syscall(SYS_munmap, address, size);
}

EXPORT void *mremap(void *address, size_t size, size_t wanted, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    void *target = va_arg(list, void *);
    va_end(list);
    struct mapping one = {0};
    uint64_t start = (uintptr_t)address;
    bool ours = false;
    if (atomic_load(&recorded)) {
        ours = moves(start, &one);
        gone(start, size);
        if (flags & MREMAP_FIXED)
            gone((uintptr_t)target, wanted);
    }
    long at = syscall(SYS_mremap, address, size, wanted, flags, target);
    if (ours) { /* a move that failed leaves it where it was */
        one.offset += start - one.start;
        one.start = at == -1 ? start : (uint64_t)at;
        one.end = one.start + (((at == -1 ? size : wanted) + 4095) & ~UINT64_C(4095));
        came(one, true);
    }
    return (void *)at;
}

/* ---- ioctl ---- */

static int ask_ioctl(struct file *file, unsigned long request, void *argument)
{
    size_t size = _IOC_SIZE(request);
    static __thread char payload[1 << _IOC_SIZEBITS];
    if (file->owner != (uint32_t)getpid()) {
        errno = EBADF; /* KFD serves only the process that opened it */
        return -1;
    }
    int failed = _IOC_DIR(request) & _IOC_WRITE ? copy(payload, (uintptr_t)argument, size, false) : 0;
    if (failed) {
        errno = failed;
        return -1;
    }
    struct head head = {.message = IOCTL,
                        .size = _IOC_DIR(request) & _IOC_WRITE ? (uint32_t)size : 0,
                        .a = file->handle,
                        .b = request & 0xffffffff,
                        .c = (uintptr_t)argument};
    int descriptor = -1;
    pending.request = request;
    if (!connected() || ask(&head, payload, sizeof payload, &descriptor)) {
        errno = ENODEV;
        return -1;
    }
    if (head.size && _IOC_DIR(request) & _IOC_READ) {
        failed = copy(payload, (uintptr_t)argument, head.size < size ? head.size : size, true);
        if (failed) {
            errno = failed;
            return -1;
        }
    }
    if (head.b) {
        errno = (int)head.b;
        return -1;
    }
    /* A descriptor that an ioctl made (a dma-buf, an event stream) takes the place of the result. */
    return descriptor >= 0 ? descriptor : (int)head.a;
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
    REAL(ioctl)
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    struct file *file = special(fd);
    if (!file)
        return behind(fd, request, argument);
    kernel_ioctl = behind;
    pending.fd = fd;
    return ask_ioctl(file, request, argument);
}

/* ---- dlsym: for callers that look functions up ---- */

struct name {
    const char *name;
    void *ours;
};

#define OURS(name) {#name, (void *)name}

void *gputrace_lookup(void *handle, const char *name);
PLAIN void *gputrace_lookup(void *handle, const char *name)
{
    static const struct name names[] = {
        OURS(open),       OURS(open64),     OURS(openat),    OURS(openat64),  OURS(creat),
        OURS(creat64),    OURS(fopen),      OURS(fopen64),   OURS(freopen),   OURS(freopen64),
        OURS(opendir),    OURS(scandir),    OURS(scandir64), OURS(scandirat), OURS(scandirat64),
        OURS(glob),       OURS(glob64),     OURS(access),    OURS(eaccess),   OURS(euidaccess),
        OURS(faccessat),  OURS(readlink),   OURS(realpath),  OURS(stat),      OURS(lstat),
        OURS(fstat),      OURS(stat64),     OURS(lstat64),   OURS(fstat64),   OURS(fstatat),
        OURS(fstatat64),  OURS(statx),      OURS(close),     OURS(dup),       OURS(dup2),
        OURS(dup3),       OURS(fcntl),      OURS(fcntl64),   OURS(ioctl),     OURS(readlinkat),
        OURS(mmap),       OURS(mmap64),     OURS(munmap),    OURS(mremap),    OURS(close_range),
        OURS(closefrom),  OURS(canonicalize_file_name)};
    if (!gputrace_real_dlsym)
        find_dlsym();
    if (handle == RTLD_NEXT)
        return NULL; /* a library that wraps us, or that we stand before: its own search */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i].name))
            return names[i].ours;
    return NULL;
}

/* The real dlsym finds RTLD_NEXT by its caller, so it must be reached by a jump, not by a call. */
#if defined __x86_64__
__asm__(".text\n"
        ".globl dlsym\n"
        ".type dlsym, @function\n"
        "dlsym:\n"
        "    endbr64\n"
        "    pushq %rdi\n"
        "    pushq %rsi\n"
        "    subq $8, %rsp\n"
        "    call gputrace_lookup@PLT\n"
        "    addq $8, %rsp\n"
        "    popq %rsi\n"
        "    popq %rdi\n"
        "    testq %rax, %rax\n"
        "    jne 1f\n"
        "    movq gputrace_real_dlsym@GOTPCREL(%rip), %rax\n"
        "    jmpq *(%rax)\n"
        "1:  ret\n"
        ".size dlsym, . - dlsym\n");
#elif defined __aarch64__
__asm__(".text\n"
        ".globl dlsym\n"
        ".type dlsym, %function\n"
        "dlsym:\n"
        "    stp x0, x1, [sp, #-32]!\n"
        "    str x30, [sp, #16]\n"
        "    bl gputrace_lookup\n"
        "    mov x9, x0\n"
        "    ldr x30, [sp, #16]\n"
        "    ldp x0, x1, [sp], #32\n"
        "    cbnz x9, 1f\n"
        "    adrp x9, :got:gputrace_real_dlsym\n"
        "    ldr x9, [x9, :got_lo12:gputrace_real_dlsym]\n"
        "    ldr x9, [x9]\n"
        "    br x9\n"
        "1:  mov x0, x9\n"
        "    ret\n"
        ".size dlsym, . - dlsym\n");
#endif

/* ---- start and fork ---- */

/* The connections belong to the parent, and so does everything that it opened. */
static void in_child(void)
{
    for (int fd = PRIVATE_FROM / 2; fd < DESCRIPTORS; fd++)
        if (private(fd)) {
            atomic_store(&files[fd].node, NODE_NONE);
            raw_close(fd);
        }
    owner_of_files = getpid();
    connection = -1;
    faults = -1;
    mapped_count = 0;
}

static void setting(const char *name, char *room, size_t size)
{
    const char *value = getenv(name);
    if (value && strlen(value) < size)
        memcpy(room, value, strlen(value) + 1);
}

__attribute__((constructor)) static void start(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    owner_of_files = getpid();
    image = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    setting(TAP ? "GPUTRACE_TAP" : "GPUTRACE_SOCKET", server, sizeof server);
    if (!TAP)
        setting("GPUTRACE_TREE", tree, sizeof tree);
    pthread_key_create(&at_thread_end, thread_ends);
    pthread_atfork(NULL, NULL, in_child);
}
