/* What the preloaded library and the server say to one another: gputrace/interpose/wire.py has the
   same numbers, and a test holds the two together.

   One message is one packet of a SOCK_SEQPACKET socket: this head, then `size` bytes. */

#ifndef GPUTRACE_PROTOCOL_H
#define GPUTRACE_PROTOCOL_H

#include <stdint.h>

#define PROTOCOL_VERSION 2
#define PAYLOAD_LIMIT 65536

enum node { NODE_NONE = 0, NODE_KFD = 1, NODE_RENDER = 2 };

enum message {
    /* Asked by the library; each is answered by ANSWER, after any number of the server's own. */
    HELLO = 1, /* a: version, b: process, c: a number of this image: exec makes another;
                  the answer's a: 1 when the program is recorded */
    OPEN = 2,  /* a: node, b: minor; the answer carries a descriptor, a: handle. From a tap the
                  message carries the descriptor */
    CLOSE = 3, /* a: handle */
    IOCTL = 4, /* a: handle, b: request, c: address of the argument; payload: the argument */
    MAPPED = 5, /* a: address, b: bytes, c: offset in the file; payload: handle, PROT_*, whether
                   stores to it can be found, whether it is the rest or the new place of what was
                   mapped before, 8 bytes each. Sent while a program is recorded */
    UNMAPPED = 6, /* a: address, b: bytes: about to be unmapped, or mapped over */
    RINGER = 7, /* this connection is of somebody who stores doorbells from here on: a tap's */

    /* Asked by the server while the library waits; each is answered by DONE. */
    READ = 16,   /* a: address, b: bytes; the answer's payload holds them */
    WRITE = 17,  /* a: address; payload: the bytes */
    SHARE = 18,  /* a: address, b: bytes, c: offset in the descriptor that comes along: move the
                    pages there and map them shared; the answer's a: stores can be found */
    DETACH = 19, /* a: address, b: bytes: make the pages the process's own again */
    CALL = 21,   /* payload: the argument of the ioctl that the library has asked for: call it with
                    that; the answer: a: result, b: errno, payload: the argument afterwards */
    SHADOW = 22, /* a: address, b: bytes: map the descriptor that comes along over the mapping that
                    the library tells of; the answer's a: where that is mapped instead */
    RING = 23,   /* a: address, b: value, c: bits: store a doorbell. Asked of a RINGER only */
    FIND = 20,   /* a: descriptor; the answer's a: handle of what it is, 0 for none of ours */

    ANSWER = 32, /* a: result, b: errno; payload: what the call gave back */
    DONE = 33    /* b: errno, and what READ and FIND say */
};

struct head {
    uint32_t message;
    uint32_t size;
    uint64_t a, b, c;
};

#endif
