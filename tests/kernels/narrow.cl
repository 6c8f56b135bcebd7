// Narrow and saturating numbers: bytes, shorts, bfloat16; sums of differences; wide products.
#include "common.h"
typedef __bf16 bf16;

kernel void bytes(global uint *out, global const uint *a, global const uint *b) {
    uint i = PLACE;
    uchar4 p = __builtin_astype(a[i], uchar4), q = __builtin_astype(b[i], uchar4);
    char4 s = __builtin_astype(a[i], char4), t = __builtin_astype(b[i], char4);
    out[ROW(0)] = __builtin_astype(p + q, uint);
    out[ROW(1)] = __builtin_astype(p * q, uint);
    out[ROW(2)] = __builtin_astype(__builtin_elementwise_add_sat(p, q), uint);
    out[ROW(3)] = __builtin_astype(__builtin_elementwise_sub_sat(s, t), uint);
    out[ROW(4)] = __builtin_astype(__builtin_elementwise_max(s, t), uint);
    out[ROW(5)] = __builtin_astype(s >> (t & (char4)7), uint);
    out[ROW(6)] = __builtin_astype(p.wzyx, uint);
    out[ROW(7)] = (uint)(s.x * t.x + s.y * t.y + s.z * t.z + s.w * t.w);
    out[ROW(8)] = __builtin_astype(p / (q | (uchar4)1), uint);
}

kernel void saturating(global ulong *out, global const ulong *a, global const ulong *b) {
    uint i = PLACE;
    ulong x = a[i], y = b[i];
    out[ROW(0)] = __builtin_elementwise_add_sat(x, y);
    out[ROW(1)] = __builtin_elementwise_sub_sat(x, y);
    out[ROW(2)] = (ulong)__builtin_elementwise_add_sat((long)x, (long)y);
    out[ROW(3)] = (ulong)__builtin_elementwise_sub_sat((long)x, (long)y);
    out[ROW(4)] = __builtin_elementwise_add_sat((uint)x, (uint)y);
    out[ROW(5)] = __builtin_elementwise_sub_sat((uint)x, (uint)y);
    out[ROW(6)] = (ulong)(long)__builtin_elementwise_add_sat((int)x, (int)y);
    out[ROW(7)] = (ulong)(long)__builtin_elementwise_sub_sat((int)x, (int)y);
}

kernel void wide_products(global ulong *out, global const ulong *a, global const uint *b) {
    uint i = PLACE, p = (uint)a[i], q = b[i];
    ulong z = a[i];
    out[ROW(0)] = (ulong)p * q + z;
    out[ROW(1)] = (ulong)((long)(int)p * (int)q + (long)z);
    out[ROW(2)] = (ulong)(p & 0xFFFFFF) * (q & 0xFFFFFF);
    out[ROW(3)] = (ulong)((long)((int)p << 8 >> 8) * ((int)q << 8 >> 8));
    out[ROW(4)] = ((ulong)p << 3) + z;
    out[ROW(5)] = z * q;
    out[ROW(6)] = z + p;
    out[ROW(7)] = (ulong)(ushort)p * (ushort)q + (ushort)z;
    out[ROW(8)] = (ulong)(((unsigned __int128)z * z) >> 61);
}

kernel void differences(global uint *out, global const uint *a, global const uint *b) {
    uint i = PLACE, x = a[i], y = b[i];
    ulong wide = (ulong)x << 32 | y;
    out[ROW(0)] = __builtin_amdgcn_sad_hi_u8(x, y, 7);
    out[ROW(1)] = __builtin_amdgcn_msad_u8(x, y, 8);
    ulong four = __builtin_amdgcn_qsad_pk_u16_u8(wide, x, 3);
    out[ROW(2)] = (uint)four;
    out[ROW(3)] = (uint)(four >> 32);
    four = __builtin_amdgcn_mqsad_pk_u16_u8(wide, y, 5);
    out[ROW(4)] = (uint)four;
    out[ROW(5)] = (uint)(four >> 32);
    uint4 all = __builtin_amdgcn_mqsad_u32_u8(wide, y, (uint4)(1, 2, 3, 4));
    out[ROW(6)] = all.x;
    out[ROW(7)] = all.y;
    out[ROW(8)] = all.z;
    out[ROW(9)] = all.w;
}

kernel void bounds(global int *out, global const int *a, global const int *b) {
    uint i = PLACE;
    int x = a[i], y = b[i];
    uint p = (uint)x, q = (uint)y;
#define LEAST(a, b) __builtin_elementwise_min(a, b)
#define MOST(a, b) __builtin_elementwise_max(a, b)
    out[ROW(0)] = LEAST(LEAST(x, y), 77);
    out[ROW(1)] = MOST(MOST(x, y), -5);
    out[ROW(2)] = (int)LEAST(LEAST(p, q), 1234567u);
    out[ROW(3)] = (int)MOST(MOST(p, q), 99u);
    out[ROW(4)] = LEAST(MOST(x, -1000), 1000);
    out[ROW(5)] = (int)LEAST(MOST(p, 10u), 100000u);
    out[ROW(6)] = LEAST(MOST(x, y), 500);
    out[ROW(7)] = (short)LEAST(MOST((short)x, (short)-300), (short)y);
    out[ROW(8)] = __builtin_elementwise_abs(x) - MOST(x, 0);
}

kernel void brain_floats(global ushort *out, global const ushort *a, global const ushort *b,
                         global const float *c) {
    uint i = PLACE;
    bf16 x = __builtin_astype(a[i], bf16), y = __builtin_astype(b[i], bf16);
    out[ROW(0)] = __builtin_astype((bf16)(x + y), ushort);
    out[ROW(1)] = __builtin_astype((bf16)(x * y), ushort);
    out[ROW(2)] = __builtin_astype((bf16)c[i], ushort);
    out[ROW(3)] = __builtin_astype((bf16)((float)x - c[i]), ushort);
    out[ROW(4)] = x < y;
    out[ROW(5)] = __builtin_astype(x < y ? -x : y, ushort);
}
