// What a kernel learns about its wave and its clock, and how it stops one.
#include "common.h"
#define REGISTER(id, first, bits) ((id) | (first) << 6 | ((bits)-1) << 11)

kernel void registers(global uint *out) {
    uint i = PLACE;
    out[ROW(0)] = __builtin_amdgcn_s_getreg(REGISTER(1, 0, 8)); // MODE: rounding, small numbers
    out[ROW(1)] = __builtin_amdgcn_s_getreg(REGISTER(1, 4, 4));
}

// Times go up, also over sleeps; the second clock is of constant rate.
kernel void clocks(global ulong *out) {
    uint i = PLACE;
    ulong first = __builtin_readcyclecounter(), steady = __builtin_readsteadycounter();
    __builtin_amdgcn_s_sleep(2);
    __builtin_amdgcn_sched_barrier(0);
    ulong second = __builtin_readcyclecounter(), later = __builtin_readsteadycounter();
    out[ROW(0)] = second > first;
    out[ROW(1)] = later >= steady;
    out[ROW(2)] = steady != 0;
}

kernel void hints(global uint *out, global const uint *in) {
    uint i = PLACE;
    __builtin_amdgcn_s_setprio(3);
    __builtin_amdgcn_s_sendmsg(1, i); // an interrupt
    __asm volatile("s_nop 4");
    __builtin_amdgcn_wave_barrier();
    __builtin_amdgcn_s_incperflevel(1);
    __builtin_amdgcn_s_decperflevel(1);
    __builtin_prefetch(&in[i + 1]);
    out[i] = in[i] + 1;
    __builtin_amdgcn_fence(__ATOMIC_SEQ_CST, "");
    __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "agent");
    __builtin_amdgcn_s_setprio(0);
    out[i] += in[i];
}

// One wave of two ends at a trap; the other has written.
kernel void trap(global uint *out, uint group) {
    out[PLACE] = 7;
    if (GROUP == group)
        __builtin_trap();
}

kernel void debugger(global uint *out) {
    out[PLACE] = 5;
    __builtin_debugtrap();
    out[PLACE] = 6;
}

// Waves of one group hand values on, one after another, round by round.
kernel void relay(global uint *out, global const uint *in, uint rounds) {
    local uint held[256];
    uint t = ITEM;
    held[t] = in[t];
    for (uint k = 0; k < rounds; k++) {
        barrier_of_group();
        uint next = held[(t + 37) % 256] * 5 + k;
        barrier_of_group();
        held[t] = next;
    }
    out[t] = held[t];
}
