// Control flow: loops that lanes leave at different times, switch, calls, recursion, locks.
#include "common.h"

kernel void collatz(global uint *out, global const uint *in, uint limit) {
    uint i = PLACE, n = in[i], steps = 0;
    while (n != 1) {
        if (steps == limit)
            break;
        if (n % 2) {
            n = 3 * n + 1;
            steps++;
            continue;
        }
        n /= 2;
        steps++;
    }
    out[i] = steps;
}

kernel void choose(global uint *out, global const uint *in) {
    uint i = PLACE, v = in[i], r;
    switch (v % 11) {
    case 0: r = v + 1; break;
    case 1: r = v * v; break;
    case 2: r = v ^ 0x55; // fall through
    case 3: r = v << 3; break;
    case 4: r = v >> 2; break;
    case 5: r = ~v; break;
    case 7: r = v / 3; break;
    case 8: r = 12345; break;
    default: r = v - 7;
    }
    out[i] = r;
}

static __attribute__((noinline)) uint twice(uint v) { return 2 * v; }
static __attribute__((noinline)) uint square(uint v) { return v * v; }
static __attribute__((noinline)) uint other(uint v) { return v ^ 0xABCD; }

kernel void call_pointers(global uint *out, global const uint *in) {
    uint i = PLACE, v = in[i];
    uint (*function)(uint);
    if (v % 3 == 0)
        function = twice;
    else if (v % 3 == 1)
        function = square;
    else
        function = other;
    out[i] = function(v) + 1;
}

static __attribute__((noinline)) uint fibonacci(uint n) {
    if (n < 2)
        return n;
    return fibonacci(n - 1) + fibonacci(n - 2);
}

kernel void recurse(global uint *out, global const uint *in) {
    uint i = PLACE;
    out[i] = fibonacci(in[i] % 9);
}

kernel void private_array(global uint *out, global const uint *in) {
    uint i = PLACE, table[24];
    for (uint k = 0; k < 24; k++)
        table[k] = in[i] * (k + 1);
    uint at = in[i] % 24, sum = 0;
    for (uint k = 0; k < 24; k++) {
        sum = sum * 31 + table[at];
        at = (at + 7) % 24;
    }
    out[i] = sum;
}

// One work-item of each group at a time; the lock lies in memory.
kernel void spin_lock(global uint *lock, global uint *total) {
    if (ITEM == 0) {
        uint free = 0;
        while (!__scoped_atomic_compare_exchange_n(lock, &free, 1u, 0, __ATOMIC_ACQUIRE,
                                                   __ATOMIC_RELAXED, __MEMORY_SCOPE_DEVICE)) {
            free = 0;
            __builtin_amdgcn_s_sleep(1);
        }
        uint seen = __scoped_atomic_load_n(total, __ATOMIC_RELAXED, __MEMORY_SCOPE_DEVICE);
        __scoped_atomic_store_n(total, seen * 3 + 1, __ATOMIC_RELAXED, __MEMORY_SCOPE_DEVICE);
        __scoped_atomic_store_n(lock, 0u, __ATOMIC_RELEASE, __MEMORY_SCOPE_DEVICE);
    }
}

kernel void nested(global uint *out, global const uint *in, uint n) {
    uint i = PLACE, v = in[i], sum = 0;
    for (uint a = 0; a < v % 7; a++) {
        for (uint b = a; b < n; b++) {
            if ((a ^ b) == (v & 3))
                continue;
            if (b > v)
                goto out;
            sum += a * b + 1;
        }
    }
out:
    out[i] = sum;
}
