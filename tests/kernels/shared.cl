// LDS and barriers: prefix sum, transposition, matrix product, histogram.
#include "common.h"
#define TILE 8

kernel void prefix_sum(global uint *out, global const uint *in) {
    local uint sums[2][SIZE * 2];
    uint t = ITEM, from = 0;
    sums[0][t] = in[GROUP * SIZE * 2 + t];
    for (uint step = 1; step < SIZE * 2; step <<= 1) {
        barrier_of_group();
        sums[1 - from][t] = t >= step ? sums[from][t] + sums[from][t - step] : sums[from][t];
        from = 1 - from;
    }
    barrier_of_group();
    out[GROUP * SIZE * 2 + t] = sums[from][t];
}

kernel void transpose(global float *out, global const float *in, uint width, uint height) {
    local float tile[TILE][TILE + 1];
    uint x = GROUP * TILE + ITEM, y = GROUP_Y * TILE + ITEM_Y;
    tile[ITEM_Y][ITEM] = in[y * width + x];
    barrier_of_group();
    out[(GROUP * TILE + ITEM_Y) * height + GROUP_Y * TILE + ITEM] = tile[ITEM][ITEM_Y];
}

kernel void matmul(global float *c, global const float *a, global const float *b, uint n) {
    local float left[TILE][TILE], right[TILE][TILE];
    uint x = GROUP * TILE + ITEM, y = GROUP_Y * TILE + ITEM_Y;
    float sum = 0;
    for (uint k = 0; k < n; k += TILE) {
        left[ITEM_Y][ITEM] = a[y * n + k + ITEM];
        right[ITEM_Y][ITEM] = b[(k + ITEM_Y) * n + x];
        barrier_of_group();
        for (uint j = 0; j < TILE; j++)
            sum = __builtin_fmaf(left[ITEM_Y][j], right[j][ITEM], sum);
        barrier_of_group();
    }
    c[y * n + x] = sum;
}

kernel void histogram(global uint *bins, global const uchar *data, uint n) {
    local uint part[256];
    for (uint k = ITEM; k < 256; k += SIZE)
        part[k] = 0;
    barrier_of_group();
    for (uint k = PLACE; k < n; k += SIZE * 2)
        __scoped_atomic_fetch_add(&part[data[k]], 1u, __ATOMIC_RELAXED, __MEMORY_SCOPE_WRKGRP);
    barrier_of_group();
    for (uint k = ITEM; k < 256; k += SIZE)
        if (part[k])
            __scoped_atomic_fetch_add(&bins[k], part[k], __ATOMIC_RELAXED, __MEMORY_SCOPE_DEVICE);
}

kernel void lds_widths(global ulong *out, global const ulong *in) {
    local uchar bytes[SIZE * 64] __attribute__((aligned(16)));
    uint i = PLACE, t = ITEM, other = SIZE - 1 - t;
    ulong v = in[i];
    local uchar *mine = bytes + t * 64, *theirs = bytes + other * 64;
    mine[0] = (uchar)v;
    *(local ushort *)(mine + 2) = (ushort)(v >> 8);
    *(local uint *)(mine + 4) = (uint)(v >> 16);
    *(local ulong *)(mine + 8) = v * 3;
    *(local uint4 *)(mine + 16) = (uint4)((uint)v, (uint)(v >> 32), t, i);
    *(local uint3 *)(mine + 32) = (uint3)((uint)v * 5, (uint)(v >> 32) + 1, t * 7);
    *(local ulong2 *)(mine + 48) = (ulong2)(v ^ 1, v + 2);
    barrier_of_group();
    out[ROW(0)] = theirs[0] + (ulong)(long)(char)theirs[0];
    out[ROW(1)] = *(local ushort *)(theirs + 2) + (ulong)(long)*(local short *)(theirs + 2);
    out[ROW(2)] = *(local uint *)(theirs + 4);
    out[ROW(3)] = *(local ulong *)(theirs + 8);
    uint4 four = *(local uint4 *)(theirs + 16);
    out[ROW(4)] = four.x + 2 * four.y + 3 * four.z + 4 * four.w;
    uint3 three = *(local uint3 *)(theirs + 32);
    out[ROW(5)] = three.x + 2 * three.y + 3 * three.z;
    ulong2 two = *(local ulong2 *)(theirs + 48);
    out[ROW(6)] = two.x ^ (two.y << 1);
}
