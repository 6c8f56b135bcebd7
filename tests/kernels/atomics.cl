// Atomic operations on memory, LDS and generic pointers.
#include "common.h"
#define ADD(p, v) __scoped_atomic_fetch_add(p, v, __ATOMIC_RELAXED, __MEMORY_SCOPE_DEVICE)
#define DO(f, p, v) __scoped_atomic_##f(p, v, __ATOMIC_RELAXED, __MEMORY_SCOPE_DEVICE)

kernel void atomics_int(global uint *cells, global const uint *in, global uint *old) {
    uint v = in[PLACE];
    global int *s = (global int *)cells;
    ADD(&cells[0], v);
    DO(fetch_sub, &cells[1], v);
    DO(fetch_and, &cells[2], v);
    DO(fetch_or, &cells[3], v);
    DO(fetch_xor, &cells[4], v);
    DO(fetch_min, &cells[5], v);
    DO(fetch_max, &cells[6], v);
    DO(fetch_min, &s[7], (int)v);
    DO(fetch_max, &s[8], (int)v);
    DO(exchange_n, &cells[16 + PLACE], v);
    __builtin_amdgcn_atomic_inc32(&cells[9], 99, __ATOMIC_RELAXED, "agent");
    __builtin_amdgcn_atomic_dec32(&cells[10], 99, __ATOMIC_RELAXED, "agent");
    old[PLACE] = ADD(&cells[11], 1u);
    uint expected = v;
    __scoped_atomic_compare_exchange_n(&cells[16 + COUNT + PLACE], &expected, v * 2, 0,
                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED, __MEMORY_SCOPE_DEVICE);
    old[COUNT + PLACE] = expected;
}

kernel void atomics_long(global ulong *cells, global const ulong *in, global ulong *old) {
    ulong v = in[PLACE];
    global long *s = (global long *)cells;
    ADD(&cells[0], v);
    DO(fetch_sub, &cells[1], v);
    DO(fetch_and, &cells[2], v);
    DO(fetch_or, &cells[3], v);
    DO(fetch_xor, &cells[4], v);
    DO(fetch_min, &cells[5], v);
    DO(fetch_max, &cells[6], v);
    DO(fetch_min, &s[7], (long)v);
    DO(fetch_max, &s[8], (long)v);
    DO(exchange_n, &cells[16 + PLACE], v);
    __builtin_amdgcn_atomic_inc64(&cells[9], 99, __ATOMIC_RELAXED, "agent");
    __builtin_amdgcn_atomic_dec64(&cells[10], 99, __ATOMIC_RELAXED, "agent");
    old[PLACE] = ADD(&cells[11], 1ul);
    ulong expected = v;
    __scoped_atomic_compare_exchange_n(&cells[16 + COUNT + PLACE], &expected, v * 2, 0,
                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED, __MEMORY_SCOPE_DEVICE);
    old[COUNT + PLACE] = expected;
}

kernel void atomics_float(global float *cells, global double *wide, global const float *in) {
    float v = in[PLACE];
    DO(fetch_add, &cells[0], v);
    DO(fetch_min, &cells[1], v);
    DO(fetch_max, &cells[2], v);
    DO(fetch_add, &wide[0], (double)v);
    DO(fetch_min, &wide[1], (double)v);
    DO(fetch_max, &wide[2], (double)v);
}

kernel void atomics_lds(global uint *out, global const uint *in) {
    local uint cells[16];
    local ulong wide[4];
    local float real[2];
    uint v = in[PLACE], t = ITEM;
    if (t < 16)
        cells[t] = t * 1000;
    if (t < 4)
        wide[t] = t;
    if (t < 2)
        real[t] = 0;
    barrier_of_group();
    ADD(&cells[0], v);
    DO(fetch_sub, &cells[1], v);
    DO(fetch_and, &cells[2], v);
    DO(fetch_or, &cells[3], v);
    DO(fetch_xor, &cells[4], v);
    DO(fetch_min, &cells[5], v);
    DO(fetch_max, &cells[6], v);
    DO(fetch_min, (local int *)&cells[7], (int)v);
    DO(fetch_max, (local int *)&cells[8], (int)v);
    uint old = ADD(&cells[9], 1u);
    __builtin_amdgcn_atomic_inc32(&cells[10], 50, __ATOMIC_RELAXED, "workgroup");
    ADD(&wide[0], (ulong)v << 20);
    DO(fetch_max, &wide[1], (ulong)v << 8);
    DO(fetch_xor, &wide[2], (ulong)v << 30);
    DO(fetch_add, &real[0], (float)(v & 255));
    DO(fetch_max, &real[1], (float)v);
    uint expected = 11000 + t;
    __scoped_atomic_compare_exchange_n(&cells[11], &expected, 5u, 0, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED, __MEMORY_SCOPE_WRKGRP);
    barrier_of_group();
    global uint *row = out + GROUP * 32;
    if (t < 16)
        row[t] = cells[t];
    if (t < 4) {
        row[16 + 2 * t] = (uint)wide[t];
        row[17 + 2 * t] = (uint)(wide[t] >> 32);
    }
    if (t < 2)
        row[24 + t] = __builtin_astype(real[t], uint);
    out[64 + PLACE] = old;
}

static __attribute__((noinline)) uint add_any(uint *at, uint v) { return ADD(at, v); }

kernel void atomics_generic(global uint *out, global const uint *in) {
    local uint sum;
    if (ITEM == 0)
        sum = 0;
    barrier_of_group();
    uint *at = ITEM & 1 ? (uint *)&sum : (uint *)&out[0];
    add_any(at, in[PLACE]);
    barrier_of_group();
    if (ITEM == 0)
        out[1 + GROUP] = sum;
}
