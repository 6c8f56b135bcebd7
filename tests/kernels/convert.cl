// Conversions between all widths, and single-operand functions.
#include "common.h"

kernel void from_float(global ulong *out, global const float *in) {
    uint i = PLACE;
    float x = in[i];
    out[ROW(0)] = (ulong)(long)(int)x;
    out[ROW(1)] = (uint)__builtin_fabsf(x);
    out[ROW(2)] = (ulong)(long)x;
    out[ROW(3)] = (ulong)__builtin_fabsf(x);
    out[ROW(4)] = __builtin_astype((double)x, ulong);
    out[ROW(5)] = __builtin_astype((half)x, ushort);
    out[ROW(6)] = (ulong)(long)(short)x;
    out[ROW(7)] = (uchar)__builtin_fabsf(x);
}

kernel void from_double(global ulong *out, global const double *in) {
    uint i = PLACE;
    double x = in[i];
    out[ROW(0)] = (ulong)(long)(int)x;
    out[ROW(1)] = (uint)__builtin_fabs(x);
    out[ROW(2)] = (ulong)(long)x;
    out[ROW(3)] = (ulong)__builtin_fabs(x);
    out[ROW(4)] = __builtin_astype((float)x, uint);
    out[ROW(5)] = __builtin_astype((half)(float)x, ushort);
}

kernel void from_half(global ulong *out, global const half *in) {
    uint i = PLACE;
    half x = in[i];
    out[ROW(0)] = (ulong)(long)(int)x;
    out[ROW(1)] = (uint)(x < 0 ? -x : x);
    out[ROW(2)] = (ulong)(long)(short)x;
    out[ROW(3)] = (ushort)(x < 0 ? -x : x);
    out[ROW(4)] = __builtin_astype((float)x, uint);
    out[ROW(5)] = __builtin_astype((double)x, ulong);
    out[ROW(6)] = (ulong)(long)x;
}

kernel void from_long(global ulong *out, global const ulong *in) {
    uint i = PLACE;
    ulong x = in[i];
    out[ROW(0)] = __builtin_astype((float)x, uint);
    out[ROW(1)] = __builtin_astype((float)(long)x, uint);
    out[ROW(2)] = __builtin_astype((double)x, ulong);
    out[ROW(3)] = __builtin_astype((double)(long)x, ulong);
    out[ROW(4)] = __builtin_astype((float)(uint)x, uint);
    out[ROW(5)] = __builtin_astype((float)(int)x, uint);
    out[ROW(6)] = __builtin_astype((double)(uint)x, ulong);
    out[ROW(7)] = __builtin_astype((double)(int)x, ulong);
    out[ROW(8)] = __builtin_astype((half)(short)x, ushort);
    out[ROW(9)] = __builtin_astype((half)(ushort)x, ushort);
    out[ROW(10)] = __builtin_astype((float)(uchar)x, uint);
    out[ROW(11)] = __builtin_astype((float)(uchar)(x >> 8), uint);
    out[ROW(12)] = __builtin_astype((float)(uchar)(x >> 16), uint);
    out[ROW(13)] = __builtin_astype((float)(uchar)(x >> 24), uint);
    out[ROW(14)] = (ulong)(long)(char)x;
    out[ROW(15)] = (ulong)(long)(short)x;
}

kernel void round_float(global float *out, global const float *in) {
    uint i = PLACE;
    float x = in[i];
    out[ROW(0)] = __builtin_floorf(x);
    out[ROW(1)] = __builtin_ceilf(x);
    out[ROW(2)] = __builtin_truncf(x);
    out[ROW(3)] = __builtin_rintf(x);
    out[ROW(4)] = __builtin_amdgcn_fractf(x);
    out[ROW(5)] = __builtin_amdgcn_frexp_mantf(x);
    out[ROW(6)] = (float)__builtin_amdgcn_frexp_expf(x);
    out[ROW(7)] = __builtin_ldexpf(x, (int)i - 64);
    out[ROW(8)] = __builtin_amdgcn_fmed3f(x, 1.0f, -3.0f);
    out[ROW(9)] = __builtin_fminf(__builtin_fmaxf(x, 0.0f), 1.0f);
    out[ROW(10)] = (float)__builtin_amdgcn_classf(x, 0x155);
    out[ROW(11)] = __builtin_fmaxf(__builtin_fmaxf(x, 2.0f), -x);
    out[ROW(12)] = __builtin_fminf(__builtin_fminf(x, 2.0f), -x);
    out[ROW(13)] = __builtin_roundevenf(x * 0.25f);
}

kernel void round_double(global double *out, global const double *in) {
    uint i = PLACE;
    double x = in[i];
    out[ROW(0)] = __builtin_floor(x);
    out[ROW(1)] = __builtin_ceil(x);
    out[ROW(2)] = __builtin_trunc(x);
    out[ROW(3)] = __builtin_rint(x);
    out[ROW(4)] = __builtin_amdgcn_fract(x);
    out[ROW(5)] = __builtin_amdgcn_frexp_mant(x);
    out[ROW(6)] = (double)__builtin_amdgcn_frexp_exp(x);
    out[ROW(7)] = __builtin_ldexp(x, (int)i - 64);
    out[ROW(8)] = (double)__builtin_amdgcn_class(x, 0x2AA);
}

kernel void round_half(global half *out, global const half *in) {
    uint i = PLACE;
    half x = in[i];
    out[ROW(0)] = __builtin_floorf16(x);
    out[ROW(1)] = __builtin_ceilf16(x);
    out[ROW(2)] = __builtin_truncf16(x);
    out[ROW(3)] = __builtin_rintf16(x);
    out[ROW(4)] = __builtin_amdgcn_fracth(x);
    out[ROW(5)] = __builtin_amdgcn_frexp_manth(x);
    out[ROW(6)] = (half)__builtin_amdgcn_frexp_exph(x);
    out[ROW(7)] = (half)__builtin_amdgcn_classh(x, 0x1F0);
}

// Approximations: compared within a bound.
kernel void approximate(global float *out, global const float *in) {
    uint i = PLACE;
    float x = in[i];
    out[ROW(0)] = __builtin_amdgcn_rcpf(x);
    out[ROW(1)] = __builtin_amdgcn_rsqf(x);
    out[ROW(2)] = __builtin_amdgcn_sqrtf(x);
    out[ROW(3)] = __builtin_exp2f(x);
    out[ROW(4)] = __builtin_log2f(x);
    out[ROW(5)] = __builtin_amdgcn_sinf(x);
    out[ROW(6)] = __builtin_amdgcn_cosf(x);
    out[ROW(7)] = __builtin_expf(x);
    out[ROW(8)] = __builtin_logf(x);
    out[ROW(9)] = (float)__builtin_amdgcn_rcp((double)x);
    out[ROW(10)] = (float)__builtin_amdgcn_rsq((double)x);
    out[ROW(11)] = (float)__builtin_amdgcn_rcph((half)x);
    out[ROW(12)] = (float)__builtin_amdgcn_sinh((half)x);
}
