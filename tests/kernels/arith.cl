// Plain arithmetic of each type: row n of the output holds operation n.
#include "common.h"

kernel void int_ops(global uint *out, global const uint *a, global const uint *b) {
    uint i = PLACE, x = a[i], y = b[i];
    int s = (int)x, t = (int)y;
    out[ROW(0)] = x + y;
    out[ROW(1)] = x - y;
    out[ROW(2)] = x * y;
    out[ROW(3)] = (uint)(((ulong)x * y) >> 32);
    out[ROW(4)] = (uint)(((long)s * t) >> 32);
    out[ROW(5)] = (x & y) | (~x ^ y);
    out[ROW(6)] = x << (y & 31);
    out[ROW(7)] = x >> (y & 31);
    out[ROW(8)] = (uint)(s >> (t & 31));
    out[ROW(9)] = s < t ? x : y;
    out[ROW(10)] = x < y ? x : y;
    out[ROW(11)] = s > t ? s : t;
    out[ROW(12)] = (x & 0xFFFFFF) * (y & 0xFFFFFF) + x;
    out[ROW(13)] = x * y + x + y;
    out[ROW(14)] = (uint)((s << 8 >> 8) * (t << 8 >> 8));
    out[ROW(15)] = s < 0 ? -s : s;
}

kernel void long_ops(global ulong *out, global const ulong *a, global const ulong *b) {
    uint i = PLACE;
    ulong x = a[i], y = b[i];
    long s = (long)x, t = (long)y;
    out[ROW(0)] = x + y;
    out[ROW(1)] = x - y;
    out[ROW(2)] = x * y;
    out[ROW(3)] = x << (y & 63);
    out[ROW(4)] = x >> (y & 63);
    out[ROW(5)] = (ulong)(s >> (t & 63));
    out[ROW(6)] = s < t ? x : y;
    out[ROW(7)] = x > y ? x : y;
    out[ROW(8)] = (x & y) ^ ~y;
    out[ROW(9)] = (ulong)((unsigned __int128)x * y >> 64);
    out[ROW(10)] = (ulong)(s < 0 ? -s : s);
    out[ROW(11)] = (x == y) + 2 * (x != y) + 4 * (s <= t) + 8 * (x <= y);
}

kernel void small_ops(global ushort *out, global const ushort *a, global const ushort *b) {
    uint i = PLACE;
    ushort x = a[i], y = b[i];
    short s = (short)x, t = (short)y;
    uchar p = (uchar)x, q = (uchar)y;
    out[ROW(0)] = x + y;
    out[ROW(1)] = x - y;
    out[ROW(2)] = x * y;
    out[ROW(3)] = x << (y & 15);
    out[ROW(4)] = x >> (y & 15);
    out[ROW(5)] = (ushort)(s >> (t & 15));
    out[ROW(6)] = s < t ? x : y;
    out[ROW(7)] = x > y ? x : y;
    out[ROW(8)] = (uchar)(p + q);
    out[ROW(9)] = (ushort)((char)p * (char)q);
    out[ROW(10)] = x * y + x;
    out[ROW(11)] = (ushort)(p < q ? p : q);
}

kernel void float_ops(global float *out, global const float *a, global const float *b,
                      global const float *c) {
    uint i = PLACE;
    float x = a[i], y = b[i], z = c[i];
    out[ROW(0)] = x + y;
    out[ROW(1)] = x - y;
    out[ROW(2)] = x * y;
    out[ROW(3)] = __builtin_fmaf(x, y, z);
    out[ROW(4)] = __builtin_fminf(x, y);
    out[ROW(5)] = __builtin_fmaxf(x, y);
    out[ROW(6)] = -__builtin_fabsf(x);
    out[ROW(7)] = __builtin_copysignf(x, y);
    out[ROW(8)] = x < y ? z : x;
    out[ROW(9)] = x * y + z;
    out[ROW(10)] = x * 0.5f - 4.0f;
    out[ROW(11)] = (x >= y) + 2 * (x != y) + 4 * (x > z) + 8 * __builtin_isnan(y);
    out[ROW(12)] = __builtin_fmaf(x, 3.25f, y);
    out[ROW(13)] = __builtin_fmaf(x, y, 7.75f);
}

kernel void half_ops(global half *out, global const half *a, global const half *b,
                     global const half *c) {
    uint i = PLACE;
    half x = a[i], y = b[i], z = c[i];
    out[ROW(0)] = x + y;
    out[ROW(1)] = x - y;
    out[ROW(2)] = x * y;
    out[ROW(3)] = __builtin_fmaf16(x, y, z);
    out[ROW(4)] = __builtin_fminf16(x, y);
    out[ROW(5)] = __builtin_fmaxf16(x, y);
    out[ROW(6)] = -__builtin_fabsf16(x);
    out[ROW(7)] = x < y ? z : x;
    out[ROW(8)] = x * y + z;
    out[ROW(9)] = x * (half)0.5 - (half)4.0;
    out[ROW(10)] = (half)((float)x * (float)y + (float)z);
}

kernel void double_ops(global double *out, global const double *a, global const double *b,
                       global const double *c) {
    uint i = PLACE;
    double x = a[i], y = b[i], z = c[i];
    out[ROW(0)] = x + y;
    out[ROW(1)] = x - y;
    out[ROW(2)] = x * y;
    out[ROW(3)] = __builtin_fma(x, y, z);
    out[ROW(4)] = __builtin_fmin(x, y);
    out[ROW(5)] = __builtin_fmax(x, y);
    out[ROW(6)] = -__builtin_fabs(x);
    out[ROW(7)] = x < y ? z : x;
    out[ROW(8)] = x * y + z;
    out[ROW(9)] = x * 0.5 - 4.0;
    out[ROW(10)] = (x >= y) + 2 * (x != y) + 4 * (x > z) + 8 * __builtin_isnan(y);
}
