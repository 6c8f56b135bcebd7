// Moves between the lanes of a wave.
#include "common.h"

kernel void votes(global ulong *out, global const uint *in) {
    uint i = PLACE, v = in[i];
#if LANES == 64
    ulong odd = __builtin_amdgcn_ballot_w64(v & 1), big = __builtin_amdgcn_ballot_w64(v > 100);
    uint below = __builtin_amdgcn_mbcnt_hi(odd >> 32, __builtin_amdgcn_mbcnt_lo((uint)odd, 0));
#else
    ulong odd = __builtin_amdgcn_ballot_w32(v & 1), big = __builtin_amdgcn_ballot_w32(v > 100);
    uint below = __builtin_amdgcn_mbcnt_lo((uint)odd, 0);
#endif
    out[ROW(0)] = odd;
    out[ROW(1)] = big;
    out[ROW(2)] = below;
    out[ROW(3)] = (uint)__builtin_amdgcn_readfirstlane((int)v);
    if (v & 1)
        out[ROW(4)] = (uint)__builtin_amdgcn_readfirstlane((int)v);
    else
        out[ROW(4)] = (uint)__builtin_amdgcn_readlane((int)v, 5);
}

kernel void shuffles(global uint *out, global const uint *in) {
    uint i = PLACE, v = in[i];
    uint lane = __builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0));
    out[ROW(0)] = (uint)__builtin_amdgcn_ds_bpermute((int)((lane ^ 5) * 4), (int)v);
    out[ROW(1)] = (uint)__builtin_amdgcn_ds_bpermute((int)(v * 4), (int)v);
    out[ROW(2)] = (uint)__builtin_amdgcn_ds_permute((int)((lane ^ 3) * 4), (int)v);
    out[ROW(3)] = (uint)__builtin_amdgcn_ds_swizzle((int)v, 0x041F); // lane ^ 1
    out[ROW(4)] = (uint)__builtin_amdgcn_ds_swizzle((int)v, 0x801B); // quad reversed
    uint other = v;
    if (lane & 1)
        other = (uint)__builtin_amdgcn_ds_bpermute((int)((lane ^ 2) * 4), (int)v);
    out[ROW(5)] = other;
}

kernel void dpp(global uint *out, global const uint *in) {
    uint i = PLACE;
    int v = (int)in[i], old = 7;
    out[ROW(0)] = (uint)__builtin_amdgcn_update_dpp(old, v, 0x1B, 0xF, 0xF, false);
    out[ROW(1)] = (uint)__builtin_amdgcn_update_dpp(old, v, 0x101, 0xF, 0xF, false);
    out[ROW(2)] = (uint)__builtin_amdgcn_update_dpp(old, v, 0x113, 0xF, 0xF, true);
    out[ROW(3)] = (uint)__builtin_amdgcn_update_dpp(old, v, 0x124, 0xF, 0xF, false);
    out[ROW(4)] = (uint)__builtin_amdgcn_update_dpp(old, v, 0x140, 0xF, 0xF, false);
    out[ROW(5)] = (uint)__builtin_amdgcn_update_dpp(old, v, 0x141, 0x5, 0xF, false);
    out[ROW(6)] = (uint)__builtin_amdgcn_update_dpp(old, v, 0x111, 0xF, 0xA, false);
    out[ROW(7)] = (uint)__builtin_amdgcn_mov_dpp(v, 0xB1, 0xF, 0xF, true) + (uint)v;
    uint sum = in[i];
    sum += (uint)__builtin_amdgcn_update_dpp(0, (int)sum, 0x111, 0xF, 0xF, true);
    sum += (uint)__builtin_amdgcn_update_dpp(0, (int)sum, 0x112, 0xF, 0xF, true);
    sum += (uint)__builtin_amdgcn_update_dpp(0, (int)sum, 0x114, 0xF, 0xF, true);
    sum += (uint)__builtin_amdgcn_update_dpp(0, (int)sum, 0x118, 0xF, 0xF, true);
    out[ROW(8)] = sum; // prefix sums of rows of sixteen lanes
}

#if __has_builtin(__builtin_amdgcn_permlane16) && !defined(__GFX9__)
kernel void permutations(global uint *out, global const uint *in) {
    uint i = PLACE, v = in[i];
    out[ROW(0)] = __builtin_amdgcn_permlane16(v, v, 0x01234567, 0x89ABCDEF, false, false);
    out[ROW(1)] = __builtin_amdgcn_permlanex16(v, v, 0x76543210, 0xFEDCBA98, false, false);
    out[ROW(2)] = __builtin_amdgcn_mov_dpp8(v, 0x053977);
    out[ROW(3)] = (uint)__builtin_amdgcn_update_dpp(1, (int)v, 0x155, 0xF, 0xF, false);
    out[ROW(4)] = (uint)__builtin_amdgcn_update_dpp(1, (int)v, 0x163, 0xF, 0xF, false);
}
#endif
