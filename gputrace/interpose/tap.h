/* What tap.c offers to preload.c. */

#ifndef GPUTRACE_TAP_H
#define GPUTRACE_TAP_H

#include <stdint.h>

/* Has somebody store doorbells in this process's memory, even while the process stands still, as
   the server asks for on the connection `fd`, until that is closed. Returns 0 or an errno. */
int tap_ringer(int fd, uint64_t image);

#endif
