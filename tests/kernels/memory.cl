// Memory of every kind and width, through pointers that say where they point and that do not.
#include "common.h"

kernel void widths(global ulong *out, global const uchar *in) {
    uint i = PLACE;
    global const uchar *at = in + i * 32;
    out[ROW(0)] = at[1] + (ulong)(long)((global const char *)at)[2];
    out[ROW(1)] = *(global const ushort *)(at + 2) + (ulong)(long)*(global const short *)(at + 4);
    out[ROW(2)] = *(global const uint *)(at + 4) + *(global const ulong *)(at + 8);
    uint3 three = *(global const uint3 *)(at + 16);
    uint4 four = *(global const uint4 *)(at + 16);
    out[ROW(3)] = three.x + 2 * three.y + 3 * three.z;
    out[ROW(4)] = four.x ^ (four.y << 1) ^ (four.z << 2) ^ (four.w << 3);
    struct __attribute__((packed)) { uint v; } const global *odd = (const global void *)(at + 1);
    out[ROW(5)] = odd->v;
}

kernel void store_widths(global uchar *out, global const ulong *in) {
    uint i = PLACE;
    ulong v = in[i];
    global uchar *at = out + i * 64;
    at[0] = (uchar)v;
    at[1] = (uchar)(v >> 24);
    *(global ushort *)(at + 2) = (ushort)(v >> 16);
    *(global uint *)(at + 4) = (uint)v;
    *(global ulong *)(at + 8) = v;
    *(global uint3 *)(at + 16) = (uint3)((uint)v, 2, 3);
    *(global uint4 *)(at + 32) = (uint4)((uint)v, (uint)(v >> 32), i, 4);
    *(global ulong2 *)(at + 48) = (ulong2)(v + 1, v + 2);
}

static __attribute__((noinline)) void add_to(uint *at, uint v) { *at += v; }
static __attribute__((noinline)) ulong read_wide(const ulong *at) { return at[0] * 2 + at[1]; }

// The same function is given memory, LDS and scratch.
kernel void any_space(global uint *out, global const uint *in) {
    local uint mine[SIZE];
    local ulong pairs[2 * SIZE];
    uint i = PLACE, own[8], t = ITEM;
    for (uint k = 0; k < 8; k++)
        own[k] = k * in[i];
    mine[t] = in[i];
    pairs[2 * t] = i;
    pairs[2 * t + 1] = in[i];
    out[ROW(0)] = in[i];
    add_to((uint *)&out[ROW(0)], 1);
    add_to((uint *)&mine[t], 2);
    add_to(&own[in[i] % 8], 3);
    out[ROW(1)] = mine[t];
    out[ROW(2)] = own[in[i] % 8] + own[3];
    out[ROW(3)] = (uint)read_wide((const ulong *)&pairs[2 * t]);
    uint *any = t % 3 == 0 ? &own[1] : t % 3 == 1 ? (uint *)&mine[t] : (uint *)&out[ROW(0)];
    out[ROW(4)] = *any;
    *any = 99;
    out[ROW(5)] = own[1] + mine[t] + out[ROW(0)];
}

// Offsets beyond 4 GiB in both directions.
kernel void far(global uint *out, global const uint *base, long stride) {
    uint i = PLACE;
    out[i] = base[(long)(i % 4) * stride] + i;
}

constant uint TABLE[16] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};

kernel void constants(global uint *out, global const uint *in) {
    uint i = PLACE;
    out[i] = TABLE[in[i] & 15] * 10 + TABLE[GROUP & 15];
}

struct pair {
    ulong a;
    uint b[5];
    uchar c;
};

kernel void structs(global struct pair *out, struct pair given, global const uint *in) {
    uint i = PLACE;
    struct pair made = given;
    made.a += in[i];
    made.b[in[i] % 5] = i;
    made.c = (uchar)(made.c + i);
    out[i] = made;
}
