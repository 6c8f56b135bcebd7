// Lanes by number, masks, counters of a wave; what else only some targets have.
#include "common.h"

#if LANES == 64
#define BALLOT(c) __builtin_amdgcn_ballot_w64(c)
bool from_mask(ulong mask) __asm("llvm.amdgcn.inverse.ballot.i64");
#else
#define BALLOT(c) ((ulong)__builtin_amdgcn_ballot_w32(c))
bool from_mask(uint mask) __asm("llvm.amdgcn.inverse.ballot.i32");
#endif
uint least_of_wave(uint v, int strategy) __asm("llvm.amdgcn.wave.reduce.umin.i32");
uint most_of_wave(uint v, int strategy) __asm("llvm.amdgcn.wave.reduce.umax.i32");

static uint lane_of(void) {
    return __builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0));
}

kernel void by_number(global uint *out, global const uint *in, uint first, ulong mask) {
    uint i = PLACE, v = in[i], lane = lane_of();
    out[ROW(0)] = (uint)__builtin_amdgcn_readlane((int)v, (int)first);
    uint at = (uint)__builtin_amdgcn_readfirstlane((int)(v & 15));
    out[ROW(1)] = (uint)__builtin_amdgcn_readlane((int)v, (int)at);
    out[ROW(2)] = from_mask(mask) ? v : 1;
    out[ROW(3)] = (uint)BALLOT((v & 3) == 1) + (uint)(BALLOT((v & 3) == 2) >> 7);
    uint seen = 0;
    for (uint k = 0; k < 8; k++)
        if ((v & 7) == k)
            seen = (uint)__builtin_popcountl(BALLOT(1)) * 16 + k;
    out[ROW(4)] = seen;
    out[ROW(5)] = least_of_wave(v, 0);
    out[ROW(6)] = most_of_wave(v, 0);
    out[ROW(7)] = lane;
}

kernel void swizzles(global uint *out, global const uint *in) {
    uint i = PLACE;
    int v = (int)in[i];
    out[ROW(0)] = (uint)__builtin_amdgcn_ds_swizzle(v, 0x401F); // lane ^ 16
    out[ROW(1)] = (uint)__builtin_amdgcn_ds_swizzle(v, 0x0018); // the first of eight
    out[ROW(2)] = (uint)__builtin_amdgcn_ds_swizzle(v, 0x0407); // four apart, or'ed and crossed
    out[ROW(3)] = (uint)__builtin_amdgcn_ds_swizzle(v, 0x80FF); // the quad's last
    out[ROW(4)] = (uint)__builtin_amdgcn_ds_swizzle(v, 0xC0A0); // turned by five
}

#if defined(__GFX9__)
// Shifts of the whole wave and broadcasts of rows: only here.
kernel void whole_wave(global uint *out, global const uint *in) {
    uint i = PLACE;
    int v = (int)in[i], old = 9;
    out[ROW(0)] = (uint)__builtin_amdgcn_update_dpp(old, v, 0x130, 0xF, 0xF, false); // wave_shl
    out[ROW(1)] = (uint)__builtin_amdgcn_update_dpp(old, v, 0x138, 0xF, 0xF, false); // wave_shr
    out[ROW(2)] = (uint)__builtin_amdgcn_update_dpp(old, v, 0x134, 0xF, 0xF, false); // wave_rol
    out[ROW(3)] = (uint)__builtin_amdgcn_update_dpp(old, v, 0x13C, 0xF, 0xF, false); // wave_ror
    out[ROW(4)] = (uint)__builtin_amdgcn_update_dpp(old, v, 0x142, 0xA, 0xF, false); // row_bcast15
    out[ROW(5)] = (uint)__builtin_amdgcn_update_dpp(old, v, 0x143, 0xC, 0xF, false); // row_bcast31
}
#endif

#if defined(__GFX11__) || defined(__GFX12__)
kernel void far_lanes(global uint *out, global const uint *in) {
    uint i = PLACE, v = in[i];
    out[ROW(0)] = __builtin_amdgcn_permlane64(v);
#if defined(__GFX12__)
    out[ROW(1)] = __builtin_amdgcn_permlane16_var(v, v, v & 15, false, false);
    out[ROW(2)] = __builtin_amdgcn_permlanex16_var(v, v, (v >> 4) & 15, false, false);
#endif
}
#endif
