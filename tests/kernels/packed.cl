// Packed and mixed arithmetic: two halves in a register, two floats in a pair, dot products.
#include "common.h"
typedef half half2 __attribute__((ext_vector_type(2)));

kernel void packed_half(global uint *out, global const uint *a, global const uint *b,
                        global const uint *c) {
    uint i = PLACE;
    half2 x = __builtin_astype(a[i], half2), y = __builtin_astype(b[i], half2);
    half2 z = __builtin_astype(c[i], half2);
    out[ROW(0)] = __builtin_astype(x + y, uint);
    out[ROW(1)] = __builtin_astype(x * y, uint);
    out[ROW(2)] = __builtin_astype(__builtin_elementwise_fma(x, y, z), uint);
    out[ROW(3)] = __builtin_astype(__builtin_elementwise_min(x, y), uint);
    out[ROW(4)] = __builtin_astype(__builtin_elementwise_max(x, y), uint);
    out[ROW(5)] = __builtin_astype(x.yx * -y + z, uint);
    out[ROW(6)] = __builtin_astype(x * (half2)(half)2.0 + y.yy, uint);
    out[ROW(7)] = __builtin_astype(__builtin_amdgcn_cvt_pkrtz((float)x.x * 3.0f, (float)y.y),
                                   uint);
}

kernel void packed_short(global uint *out, global const uint *a, global const uint *b) {
    uint i = PLACE;
    short2 x = __builtin_astype(a[i], short2), y = __builtin_astype(b[i], short2);
    ushort2 p = __builtin_astype(x, ushort2), q = __builtin_astype(y, ushort2);
    out[ROW(0)] = __builtin_astype(x + y, uint);
    out[ROW(1)] = __builtin_astype(x - y, uint);
    out[ROW(2)] = __builtin_astype(x * y, uint);
    out[ROW(3)] = __builtin_astype(x * y + x, uint);
    out[ROW(4)] = __builtin_astype(x << (y & (short2)15), uint);
    out[ROW(5)] = __builtin_astype(x >> (y & (short2)15), uint);
    out[ROW(6)] = __builtin_astype(p >> (q & (ushort2)15), uint);
    out[ROW(7)] = __builtin_astype(__builtin_elementwise_min(x, y), uint);
    out[ROW(8)] = __builtin_astype(__builtin_elementwise_max(p, q), uint);
    out[ROW(9)] = __builtin_astype(__builtin_elementwise_add_sat(x, y), uint);
    out[ROW(10)] = __builtin_astype(__builtin_elementwise_sub_sat(p, q), uint);
    out[ROW(11)] = __builtin_astype(x.yx + y.xx, uint);
}

kernel void packed_float(global float2 *out, global const float2 *a, global const float2 *b,
                         global const float2 *c) {
    uint i = PLACE;
    float2 x = a[i], y = b[i], z = c[i];
    out[ROW(0)] = x + y;
    out[ROW(1)] = x * y;
    out[ROW(2)] = __builtin_elementwise_fma(x, y, z);
    out[ROW(3)] = x.yx * y + z.xx;
    out[ROW(4)] = x - y;
}

kernel void mixed(global float *out, global const half *a, global const half *b,
                  global const float *c) {
    uint i = PLACE;
    out[ROW(0)] = __builtin_fmaf((float)a[i], (float)b[i], c[i]);
    out[ROW(1)] = __builtin_fmaf(-(float)a[i], c[i], (float)b[i]);
    half low = (half)__builtin_fmaf((float)a[i], c[i], (float)b[i]);
    half high = (half)__builtin_fmaf((float)b[i], c[i], (float)a[i]);
    ((global half2 *)out)[ROW(2)] = (half2)(low, high);
}
