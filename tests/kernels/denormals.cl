// Built with: -cl-denorms-are-zero
// Floats of which the small ones count as zero; halves and doubles keep theirs.
#include "common.h"

kernel void flushed(global float *out, global const float *a, global const float *b,
                    global const float *c) {
    uint i = PLACE;
    float x = a[i], y = b[i], z = c[i];
    out[ROW(0)] = x + y;
    out[ROW(1)] = x * y;
    out[ROW(2)] = __builtin_fmaf(x, y, z);
    out[ROW(3)] = x * y + z;
    out[ROW(4)] = (float)((double)x * 0.5);
    out[ROW(5)] = x < y ? 1.0f : 0.0f;
    out[ROW(6)] = __builtin_fmaxf(x, y);
    out[ROW(7)] = (float)(half)x;
    out[ROW(8)] = x * 2.5f;
}

kernel void kept(global double *out, global const double *a, global const float *b) {
    uint i = PLACE;
    out[ROW(0)] = a[i] * 0.25;
    out[ROW(1)] = (double)(half)((half)b[i] * (half)0.5);
    out[ROW(2)] = a[i] + (double)b[i];
}
