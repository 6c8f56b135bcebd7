// Targets: gfx942 gfx950 gfx1201
// Floats of eight bits.
#include "common.h"
typedef float float2_t __attribute__((ext_vector_type(2)));

kernel void to_eight(global uint *out, global const float *a, global const float *b) {
    uint i = PLACE;
    uint low = (uint)__builtin_amdgcn_cvt_pk_fp8_f32(a[i], b[i], 0, false);
    out[ROW(0)] = (uint)__builtin_amdgcn_cvt_pk_fp8_f32(b[i], a[i], (int)low, true);
    low = (uint)__builtin_amdgcn_cvt_pk_bf8_f32(a[i], b[i], -1, false);
    out[ROW(1)] = low;
    out[ROW(2)] = (uint)__builtin_amdgcn_cvt_sr_fp8_f32(a[i], 0, -1, 2); // nothing is added
    out[ROW(3)] = (uint)__builtin_amdgcn_cvt_sr_bf8_f32(a[i], 0, 0, 1);
}

kernel void from_eight(global float *out, global const uint *in) {
    uint i = PLACE;
    int v = (int)in[i];
    out[ROW(0)] = __builtin_amdgcn_cvt_f32_fp8(v, 0);
    out[ROW(1)] = __builtin_amdgcn_cvt_f32_fp8(v, 3);
    out[ROW(2)] = __builtin_amdgcn_cvt_f32_bf8(v, 1);
    out[ROW(3)] = __builtin_amdgcn_cvt_f32_bf8(v, 2);
    float2_t two = __builtin_amdgcn_cvt_pk_f32_fp8(v, true);
    out[ROW(4)] = two.x;
    out[ROW(5)] = two.y;
    two = __builtin_amdgcn_cvt_pk_f32_bf8(v, false);
    out[ROW(6)] = two.x;
    out[ROW(7)] = two.y;
}
