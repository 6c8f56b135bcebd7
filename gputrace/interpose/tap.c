/* Rings the kernel's doorbells for the server, which decides when.

   KFD serves doorbells to the process that opened it and to no other, so the store must come from
   its memory; but the program is to stand still from the look at its memory until the GPU has done
   its work. So a second process stores, one that shares the program's memory: it is not stopped
   when the program is. It ends with the connection, and nobody waits for it. */

#define _GNU_SOURCE
#include "tap.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "protocol.h"

#define STACK 65536
#define STORAGE 65536 /* stands in for the thread's own variables, of which only errno is used */

static void store(const struct head *asked)
{
#if defined __x86_64__
    __asm__ volatile("sfence" ::: "memory"); /* write-combined stores of the program count too */
#endif
    atomic_thread_fence(memory_order_seq_cst);
    if (asked->c == 32)
        *(volatile uint32_t *)(uintptr_t)asked->a = (uint32_t)asked->b;
    else
        *(volatile uint64_t *)(uintptr_t)asked->a = asked->b;
    atomic_thread_fence(memory_order_seq_cst);
}

/* Calls nothing but the kernel: all that the C library keeps is the program's. */
__attribute__((no_sanitize("address", "undefined"))) static int ringer(void *argument)
{
    int fd = (int)(intptr_t)argument;
    struct head asked;
    for (;;) {
        long got = syscall(SYS_recvfrom, fd, &asked, sizeof asked, 0, 0, 0);
        if (got != sizeof asked || asked.message != RING)
            break;
        store(&asked);
        struct head done = {.message = DONE};
        if (syscall(SYS_sendto, fd, &done, sizeof done, MSG_NOSIGNAL, 0, 0) < 0)
            break;
    }
    return 0;
}

static int introduce(int fd, uint64_t image)
{
    struct head hello = {.message = HELLO, .a = PROTOCOL_VERSION, .b = (uint64_t)getpid(),
                         .c = image};
    struct head here = {.message = RINGER};
    if (send(fd, &hello, sizeof hello, MSG_NOSIGNAL) < 0)
        return errno;
    if (recv(fd, &hello, sizeof hello, 0) != sizeof hello || hello.b)
        return ECONNREFUSED;
    return send(fd, &here, sizeof here, MSG_NOSIGNAL) < 0 ? errno : 0;
}

int tap_ringer(int fd, uint64_t image)
{
    int failed = introduce(fd, image);
    if (failed)
        return failed;
    char *room = mmap(NULL, STACK + STORAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
    if (room == MAP_FAILED)
        return errno;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SETTLS;
    int made = clone(ringer, room + STACK, flags, (void *)(intptr_t)fd, NULL,
                     room + STACK + STORAGE / 2, NULL);
    failed = made < 0 ? errno : 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}
