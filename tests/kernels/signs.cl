// Signs and choices of floats: source modifiers, classes, and the steps of division by themselves.
#include "common.h"

kernel void choices(global float *out, global const float *a, global const float *b) {
    uint i = PLACE;
    float x = a[i], y = b[i];
    bool odd = i & 1;
    out[ROW(0)] = odd ? -x : y;
    out[ROW(1)] = odd ? __builtin_fabsf(x) : -y;
    out[ROW(2)] = odd ? -__builtin_fabsf(x) : __builtin_fabsf(y);
    out[ROW(3)] = (odd ? x : -x) + y;
    out[ROW(4)] = -x * __builtin_fabsf(y) - x;
    out[ROW(5)] = (x + y) * 2.0f;
    out[ROW(6)] = (x - __builtin_fabsf(y)) * 0.5f;
    out[ROW(7)] = __builtin_fminf(__builtin_fmaxf(x * y, 0.0f), 1.0f);
    out[ROW(8)] = __builtin_signbit(x) ? 1.0f : __builtin_isinf(y) ? 2.0f : 3.0f;
}

kernel void choices_half(global half *out, global const half *a, global const half *b) {
    uint i = PLACE;
    half x = a[i], y = b[i];
    bool odd = i & 1;
    out[ROW(0)] = odd ? -x : y;
    out[ROW(1)] = odd ? __builtin_fabsf16(x) : -y;
    out[ROW(2)] = -x * __builtin_fabsf16(y);
    out[ROW(3)] = __builtin_fmaxf16(__builtin_fmaxf16(x, y), (half)-1.0);
    out[ROW(4)] = __builtin_fminf16(__builtin_fminf16(-x, y), (half)2.0);
    out[ROW(5)] = (x + y) * (half)4.0;
}

kernel void choices_double(global double *out, global const double *a, global const double *b) {
    uint i = PLACE;
    double x = a[i], y = b[i];
    bool odd = i & 1;
    out[ROW(0)] = odd ? -x : y;
    out[ROW(1)] = odd ? __builtin_fabs(x) : -__builtin_fabs(y);
    out[ROW(2)] = -x * __builtin_fabs(y) + y;
    out[ROW(3)] = __builtin_copysign(x, y);
    out[ROW(4)] = (double)(float)x - y;
}

// Pairs whose halves change places, and what a pair operation makes of signs.
kernel void pairs(global float2 *out, global const float2 *a, global const float2 *b) {
    uint i = PLACE;
    float2 x = a[i], y = b[i];
    out[ROW(0)] = (float2)(x.y, y.x);
    out[ROW(1)] = (float2)(x.y + y.x, x.x - y.y);
    out[ROW(2)] = x.yx * (float2)(-y.x, y.y);
    out[ROW(3)] = (float2)(x.x * y.x - x.y * y.y, x.x * y.y + x.y * y.x);
    out[ROW(4)] = -x + y.xx;
}

kernel void scaled_division(global double *out, global const double *a, global const double *b) {
    uint i = PLACE;
    bool first, second;
    double x = __builtin_amdgcn_div_scale(a[i], b[i], true, &first);
    double y = __builtin_amdgcn_div_scale(a[i], b[i], false, &second);
    double q = x / y; // the expansion of the compiler, once more inside
    double fused = __builtin_amdgcn_div_fmas(q, 1.0, 0.0, second);
    out[ROW(0)] = __builtin_amdgcn_div_fixup(fused, b[i], a[i]);
    out[ROW(1)] = __builtin_amdgcn_ldexp(a[i], (int)i - 64);
}
