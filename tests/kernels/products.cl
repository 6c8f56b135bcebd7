// Targets: gfx90a gfx942 gfx950 gfx1100 gfx1201
// One tile by the matrix unit in every type of element: c += a * b, `a` by rows, `b` by columns.
#include "common.h"
typedef half half4_t __attribute__((ext_vector_type(4)));
typedef half half8_t __attribute__((ext_vector_type(8)));
typedef half half16_t __attribute__((ext_vector_type(16)));
typedef short short4_t __attribute__((ext_vector_type(4)));
typedef short short8_t __attribute__((ext_vector_type(8)));
typedef short short16_t __attribute__((ext_vector_type(16)));
typedef int int2_t __attribute__((ext_vector_type(2)));
typedef int int4_t __attribute__((ext_vector_type(4)));
typedef int int8_t __attribute__((ext_vector_type(8)));
typedef int int16_t __attribute__((ext_vector_type(16)));
typedef float float2_t __attribute__((ext_vector_type(2)));
typedef float float4_t __attribute__((ext_vector_type(4)));
typedef float float8_t __attribute__((ext_vector_type(8)));
typedef float float16_t __attribute__((ext_vector_type(16)));
typedef double double4_t __attribute__((ext_vector_type(4)));

// `bytes` of a row of `a`; `count` results of a lane, of which `r` lies in row ROW_OF(r).
#define TILE(name, size, bytes, part, sums, element, count, product)                              \
    kernel void name(global element *c, global const uchar *a, global const uchar *b) {           \
        uint lane = ITEM, column = lane % size, group = lane / size;                              \
        part x = *(global const part *)(a + column * (bytes) + GROUP_BYTES(part));                \
        part y = *(global const part *)(b + column * (bytes) + GROUP_BYTES(part));                \
        sums sum;                                                                                 \
        for (uint r = 0; r < count; r++)                                                          \
            sum[r * STEP(count, sums, element)] = c[ROW_OF(r) * size + column];                   \
        sum = product;                                                                            \
        for (uint r = 0; r < count; r++)                                                          \
            c[ROW_OF(r) * size + column] = sum[r * STEP(count, sums, element)];                   \
    }
#define STEP(count, sums, element) (sizeof(sums) / sizeof(element) / count)

#if defined(__gfx90a__) || defined(__gfx942__) || defined(__gfx950__)
#define GROUP_BYTES(part) (group * sizeof(part))
#define ROW_OF(r) (8 * ((r) / 4) + 4 * group + (r) % 4)
#define MFMA(name) __builtin_amdgcn_mfma_##name(x, y, sum, 0, 0, 0)
TILE(tile16_f32, 16, 16, float, float4_t, float, 4, MFMA(f32_16x16x4f32))
TILE(tile32_f32, 32, 8, float, float16_t, float, 16, MFMA(f32_32x32x2f32))
TILE(tile16_f16, 16, 32, half4_t, float4_t, float, 4, MFMA(f32_16x16x16f16))
TILE(tile32_f16, 32, 16, half4_t, float16_t, float, 16, MFMA(f32_32x32x8f16))
TILE(tile16_bf16, 16, 32, short4_t, float4_t, float, 4, MFMA(f32_16x16x16bf16_1k))
TILE(tile32_bf16, 32, 16, short4_t, float16_t, float, 16, MFMA(f32_32x32x8bf16_1k))
#if defined(__gfx90a__)
TILE(tile16_i8, 16, 16, int, int4_t, int, 4, MFMA(i32_16x16x16i8))
TILE(tile32_i8, 32, 8, int, int16_t, int, 16, MFMA(i32_32x32x8i8))
#else
TILE(tile16_i8, 16, 32, long, int4_t, int, 4, MFMA(i32_16x16x32_i8))
TILE(tile32_i8, 32, 16, long, int16_t, int, 16, MFMA(i32_32x32x16_i8))
TILE(tile16_fp8, 16, 32, long, float4_t, float, 4, MFMA(f32_16x16x32_fp8_fp8))
TILE(tile32_fp8, 32, 16, long, float16_t, float, 16, MFMA(f32_32x32x16_fp8_fp8))
TILE(tile16_bf8, 16, 32, long, float4_t, float, 4, MFMA(f32_16x16x32_bf8_bf8))
TILE(tile32_bf8_fp8, 32, 16, long, float16_t, float, 16, MFMA(f32_32x32x16_bf8_fp8))
#endif
#if defined(__gfx950__)
typedef __bf16 bfloat8_t __attribute__((ext_vector_type(8)));
#define MIXED(shape) __builtin_amdgcn_mfma_scale_f32_##shape##_f8f6f4(x, y, sum, 0, 0, 0, 0, 0, 0)
TILE(tile16_long_f16, 16, 64, half8_t, float4_t, float, 4, MFMA(f32_16x16x32_f16))
TILE(tile32_long_f16, 32, 32, half8_t, float16_t, float, 16, MFMA(f32_32x32x16_f16))
TILE(tile16_long_bf16, 16, 64, bfloat8_t, float4_t, float, 4, MFMA(f32_16x16x32_bf16))
TILE(tile32_long_bf16, 32, 32, bfloat8_t, float16_t, float, 16, MFMA(f32_32x32x16_bf16))
TILE(tile16_long_i8, 16, 64, int4_t, int4_t, int, 4, MFMA(i32_16x16x64_i8))
TILE(tile32_long_i8, 32, 32, int4_t, int16_t, int, 16, MFMA(i32_32x32x32_i8))
TILE(tile16_long_fp8, 16, 128, int8_t, float4_t, float, 4, MIXED(16x16x128))
TILE(tile32_long_fp8, 32, 64, int8_t, float16_t, float, 16, MIXED(32x32x64))
#endif
#if defined(__gfx942__)
TILE(tile16_xf32, 16, 32, float2_t, float4_t, float, 4, MFMA(f32_16x16x8_xf32))
TILE(tile32_xf32, 32, 16, float2_t, float16_t, float, 16, MFMA(f32_32x32x4_xf32))
#endif
#undef ROW_OF
#define ROW_OF(r) (4 * (r) + group)
TILE(tile16_f64, 16, 32, double, double4_t, double, 4, MFMA(f64_16x16x4f64))

#elif defined(__gfx1100__)
#define GROUP_BYTES(part) 0
#define ROW_OF(r) (2 * (r) + group)
#define WMMA(name) __builtin_amdgcn_wmma_##name##_w32(x, y, sum)
#define WMMA_INT(name) __builtin_amdgcn_wmma_##name##_w32(true, x, true, y, sum, false)
TILE(tile16_f16, 16, 32, half16_t, float8_t, float, 8, WMMA(f32_16x16x16_f16))
TILE(tile16_bf16, 16, 32, short16_t, float8_t, float, 8, WMMA(f32_16x16x16_bf16))
TILE(tile16_f16_f16, 16, 32, half16_t, half16_t, half, 8,
     __builtin_amdgcn_wmma_f16_16x16x16_f16_w32(x, y, sum, false))
TILE(tile16_i8, 16, 16, int4_t, int8_t, int, 8, WMMA_INT(i32_16x16x16_iu8))
TILE(tile16_i4, 16, 8, int2_t, int8_t, int, 8, WMMA_INT(i32_16x16x16_iu4))

#elif defined(__gfx1201__)
#define GROUP_BYTES(part) (group * sizeof(part))
#define ROW_OF(r) (8 * group + (r))
#define WMMA(name) __builtin_amdgcn_wmma_##name##_w32_gfx12(x, y, sum)
#define WMMA_INT(name) __builtin_amdgcn_wmma_##name##_w32_gfx12(true, x, true, y, sum, false)
TILE(tile16_f16, 16, 32, half8_t, float8_t, float, 8, WMMA(f32_16x16x16_f16))
TILE(tile16_bf16, 16, 32, short8_t, float8_t, float, 8, WMMA(f32_16x16x16_bf16))
TILE(tile16_f16_f16, 16, 32, half8_t, half8_t, half, 8, WMMA(f16_16x16x16_f16))
TILE(tile16_i8, 16, 16, int2_t, int8_t, int, 8, WMMA_INT(i32_16x16x16_iu8))
TILE(tile16_i4, 16, 8, int, int8_t, int, 8, WMMA_INT(i32_16x16x16_iu4))
TILE(tile16_long_i4, 16, 16, int2_t, int8_t, int, 8, WMMA_INT(i32_16x16x32_iu4))
TILE(tile16_fp8, 16, 16, int2_t, float8_t, float, 8, WMMA(f32_16x16x16_fp8_fp8))
TILE(tile16_bf8, 16, 16, int2_t, float8_t, float, 8, WMMA(f32_16x16x16_bf8_bf8))
TILE(tile16_bf8_fp8, 16, 16, int2_t, float8_t, float, 8, WMMA(f32_16x16x16_bf8_fp8))
#endif
