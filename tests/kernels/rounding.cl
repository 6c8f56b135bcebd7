// Rounding modes and small numbers that the code sets itself, in the middle of its work.
#include "common.h"

// Rows by mode: to the nearest, up, down, toward zero.
#define IN_MODE(mode, row)                                                                        \
    {                                                                                             \
        float sum, product, fused;                                     \
        double wide;                                                                              \
        __asm volatile("s_setreg_imm32_b32 hwreg(HW_REG_MODE, 0, 4), " #mode " * 5\n"            \
                       "v_add_f32 %0, %4, %5\n"                                                  \
                       "v_mul_f32 %1, %4, %5\n"                                                  \
                       "v_fma_f32 %2, %4, %5, 1.0\n"                                             \
                       "v_fma_f64 %3, %6, %7, %6\n"                                              \
                       "s_setreg_imm32_b32 hwreg(HW_REG_MODE, 0, 4), 0\n"                        \
                       : "=&v"(sum), "=&v"(product), "=&v"(fused), "=&v"(wide)                    \
                       : "v"(a[i]), "v"(b[i]), "v"((double)a[i]), "v"((double)b[i]));             \
        out[ROW(row)] = sum;                                                                      \
        out[ROW(row + 1)] = product;                                                              \
        out[ROW(row + 2)] = fused;                                                                \
        wides[ROW(mode)] = wide;                                                                  \
    }

kernel void rounded(global float *out, global double *wides, global const float *a,
                    global const float *b) {
    uint i = PLACE;
    IN_MODE(0, 0)
    IN_MODE(1, 3)
    IN_MODE(2, 6)
    IN_MODE(3, 9)
    out[ROW(12)] = a[i] + b[i];
}

// Small numbers of f32 count as zero for one operation, and do not for the next.
kernel void small(global float *out, global const float *a, global const float *b) {
    uint i = PLACE;
    float without, with;
    __asm volatile("s_setreg_imm32_b32 hwreg(HW_REG_MODE, 4, 2), 0\n"
                   "v_mul_f32 %0, %2, %3\n"
                   "s_setreg_imm32_b32 hwreg(HW_REG_MODE, 4, 2), 3\n"
                   "v_mul_f32 %1, %2, %3\n"
                   : "=&v"(without), "=&v"(with)
                   : "v"(a[i]), "v"(b[i]));
    out[ROW(0)] = without;
    out[ROW(1)] = with;
}
