// Division and remainder, as the compiler expands them.
#include "common.h"

kernel void div_int(global int *out, global const int *a, global const int *b) {
    uint i = PLACE;
    out[ROW(0)] = a[i] / b[i];
    out[ROW(1)] = a[i] % b[i];
    out[ROW(2)] = (int)((uint)a[i] / (uint)b[i]);
    out[ROW(3)] = (int)((uint)a[i] % (uint)b[i]);
    out[ROW(4)] = a[i] / 7;
    out[ROW(5)] = (int)((uint)a[i] % 10u);
}

kernel void div_long(global long *out, global const long *a, global const long *b) {
    uint i = PLACE;
    out[ROW(0)] = a[i] / b[i];
    out[ROW(1)] = a[i] % b[i];
    out[ROW(2)] = (long)((ulong)a[i] / (ulong)b[i]);
    out[ROW(3)] = (long)((ulong)a[i] % (ulong)b[i]);
}

kernel void div_float(global float *out, global const float *a, global const float *b) {
    uint i = PLACE;
    out[ROW(0)] = a[i] / b[i];
    out[ROW(1)] = 1.0f / b[i];
    out[ROW(2)] = __builtin_sqrtf(a[i]);
}

kernel void div_double(global double *out, global const double *a, global const double *b) {
    uint i = PLACE;
    out[ROW(0)] = a[i] / b[i];
    out[ROW(1)] = __builtin_sqrt(a[i]);
}

kernel void div_half(global half *out, global const half *a, global const half *b) {
    uint i = PLACE;
    out[ROW(0)] = a[i] / b[i];
    out[ROW(1)] = __builtin_sqrtf16(a[i]);
}

kernel void mod_float(global float *out, global const float *a, global const float *b) {
    uint i = PLACE;
    out[i] = a[i] - b[i] * __builtin_truncf(a[i] / b[i]);
}
