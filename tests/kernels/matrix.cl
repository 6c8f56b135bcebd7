// Matrix products of the matrix unit: one tile of 16 by 16 for each group.
#include "common.h"
typedef half half4_t __attribute__((ext_vector_type(4)));
typedef half half8_t __attribute__((ext_vector_type(8)));
typedef half half16_t __attribute__((ext_vector_type(16)));
typedef float float8_t __attribute__((ext_vector_type(8)));

// Result `r` of a lane goes to row `at` of its tile.
#define PUT(r, at) c[(row + (at)) * n + column + place] = sum[r];

// c = a * b for n by n matrices; `a` by rows, `b` by columns.
kernel void tiles(global float *c, global const half *a, global const half *b, uint n) {
    uint lane = ITEM, row = GROUP * 16, column = GROUP_Y * 16, place = lane % 16;
#if defined(__gfx90a__) || defined(__gfx942__) || defined(__gfx950__)
    float4 sum = 0;
    for (uint k = 0; k < n; k += 16) {
        uint first = k + lane / 16 * 4;
        half4_t x = *(global const half4_t *)(a + (row + place) * n + first);
        half4_t y = *(global const half4_t *)(b + (column + place) * n + first);
        sum = __builtin_amdgcn_mfma_f32_16x16x16f16(x, y, sum, 0, 0, 0);
    }
    PUT(0, lane / 16 * 4) PUT(1, lane / 16 * 4 + 1)
    PUT(2, lane / 16 * 4 + 2) PUT(3, lane / 16 * 4 + 3)
#elif defined(__gfx1100__)
    float8_t sum = 0;
    for (uint k = 0; k < n; k += 16) {
        half16_t x = *(global const half16_t *)(a + (row + place) * n + k);
        half16_t y = *(global const half16_t *)(b + (column + place) * n + k);
        sum = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(x, y, sum);
    }
    PUT(0, lane / 16) PUT(1, 2 + lane / 16) PUT(2, 4 + lane / 16) PUT(3, 6 + lane / 16)
    PUT(4, 8 + lane / 16) PUT(5, 10 + lane / 16) PUT(6, 12 + lane / 16) PUT(7, 14 + lane / 16)
#elif defined(__gfx1201__)
    float8_t sum = 0;
    for (uint k = 0; k < n; k += 16) {
        uint first = k + lane / 16 * 8;
        half8_t x = *(global const half8_t *)(a + (row + place) * n + first);
        half8_t y = *(global const half8_t *)(b + (column + place) * n + first);
        sum = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32_gfx12(x, y, sum);
    }
    uint half_row = 8 * (lane / 16);
    PUT(0, half_row) PUT(1, half_row + 1) PUT(2, half_row + 2) PUT(3, half_row + 3)
    PUT(4, half_row + 4) PUT(5, half_row + 5) PUT(6, half_row + 6) PUT(7, half_row + 7)
#else // no matrix unit: each lane computes its rows
    for (uint r = lane / 16; r < 16; r += 2) {
        float sum = 0;
        for (uint k = 0; k < n; k++)
            sum += (float)a[(row + r) * n + k] * (float)b[(column + place) * n + k];
        c[(row + r) * n + column + place] = sum;
    }
#endif
}

// Four and eight products in each lane.
kernel void dots(global int *out, global const int *a, global const int *b) {
    uint i = PLACE;
#if defined(__GFX9__) || defined(__gfx1030__)
    out[ROW(0)] = __builtin_amdgcn_sdot4(a[i], b[i], (int)i, false);
    out[ROW(1)] = __builtin_amdgcn_sdot8(a[i], b[i], (int)i, false);
#else
    out[ROW(0)] = __builtin_amdgcn_sudot4(true, a[i], true, b[i], (int)i, false);
    out[ROW(1)] = __builtin_amdgcn_sudot8(true, a[i], true, b[i], (int)i, false);
#endif
    out[ROW(2)] = (int)__builtin_amdgcn_udot4((uint)a[i], (uint)b[i], i, false);
    out[ROW(3)] = (int)__builtin_amdgcn_udot8((uint)a[i], (uint)b[i], i, true);
}
