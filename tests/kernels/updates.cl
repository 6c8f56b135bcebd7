// Atomic operations of each kind with their old values, on every kind of memory.
#include "common.h"
#if defined(__gfx90a__) || defined(__gfx942__) || defined(__gfx950__)
#define CDNA
#endif
typedef half half2_t __attribute__((ext_vector_type(2)));
typedef short short2_t __attribute__((ext_vector_type(2)));
#define DO(f, p, v) __scoped_atomic_##f(p, v, __ATOMIC_RELAXED, __MEMORY_SCOPE_DEVICE)
#define KINDS 12

// Row k of `old` gets what cell k of this item held; `v` goes in by operation k.
#define ALL(type, stype, cells, step)                                                             \
    {                                                                                             \
        type v = in[i];                                                                           \
        old[ROW(step + 0)] = DO(fetch_add, &cells[0], v);                                         \
        old[ROW(step + 1)] = DO(fetch_sub, &cells[1], v);                                         \
        old[ROW(step + 2)] = DO(fetch_and, &cells[2], v);                                         \
        old[ROW(step + 3)] = DO(fetch_or, &cells[3], v);                                          \
        old[ROW(step + 4)] = DO(fetch_xor, &cells[4], v);                                         \
        old[ROW(step + 5)] = DO(fetch_min, &cells[5], v);                                         \
        old[ROW(step + 6)] = DO(fetch_max, &cells[6], v);                                         \
        old[ROW(step + 7)] = (type)DO(fetch_min, (stype)&cells[7], (__typeof__(*(stype)0))v);     \
        old[ROW(step + 8)] = (type)DO(fetch_max, (stype)&cells[8], (__typeof__(*(stype)0))v);     \
        old[ROW(step + 9)] = DO(exchange_n, &cells[9], v);                                        \
        type expected = i & 1 ? v : cells[10];                                                    \
        __scoped_atomic_compare_exchange_n(&cells[10], &expected, v + 1, 0, __ATOMIC_RELAXED,     \
                                           __ATOMIC_RELAXED, __MEMORY_SCOPE_DEVICE);              \
        old[ROW(step + 10)] = expected;                                                           \
        old[ROW(step + 11)] = DO(fetch_nand, &cells[11], v);                                      \
    }

kernel void old_of_memory(global uint *old, global uint *cells, global const uint *in) {
    uint i = PLACE;
    global uint *mine = cells + i * KINDS;
    ALL(uint, global int *, mine, 0)
}

kernel void old_of_memory_wide(global ulong *old, global ulong *cells, global const ulong *in) {
    uint i = PLACE;
    global ulong *mine = cells + i * KINDS;
    ALL(ulong, global long *, mine, 0)
}

kernel void old_of_lds(global uint *old, global uint *cells, global const uint *in) {
    local uint held[SIZE * KINDS];
    uint i = PLACE;
    local uint *mine = held + ITEM * KINDS;
    for (uint k = 0; k < KINDS; k++)
        mine[k] = cells[i * KINDS + k];
    ALL(uint, local int *, mine, 0)
    for (uint k = 0; k < KINDS; k++)
        cells[i * KINDS + k] = mine[k];
}

kernel void old_of_lds_wide(global ulong *old, global ulong *cells, global const ulong *in) {
    local ulong held[SIZE * KINDS];
    uint i = PLACE;
    local ulong *mine = held + ITEM * KINDS;
    for (uint k = 0; k < KINDS; k++)
        mine[k] = cells[i * KINDS + k];
    ALL(ulong, local long *, mine, 0)
    for (uint k = 0; k < KINDS; k++)
        cells[i * KINDS + k] = mine[k];
}

// The compiler does not see where the pointer points.
static __attribute__((noinline)) void change(global uint *old, uint *mine, global const uint *in) {
    uint i = PLACE;
    ALL(uint, int *, mine, 0)
}

kernel void old_of_anything(global uint *old, global uint *cells, global const uint *in) {
    local uint held[SIZE * KINDS];
    uint i = PLACE;
    for (uint k = 0; k < KINDS; k++)
        held[ITEM * KINDS + k] = cells[i * KINDS + k];
    change(old, i % 3 ? (uint *)(cells + i * KINDS) : (uint *)(held + ITEM * KINDS), in);
    if (i % 3 == 0)
        for (uint k = 0; k < KINDS; k++)
            cells[i * KINDS + k] = held[ITEM * KINDS + k];
}

// Counters of LDS: each active lane takes one.
kernel void counters(global uint *out, global const uint *in) {
    local uint count[2];
    if (ITEM < 2)
        count[ITEM] = 100 * ITEM;
    barrier_of_group();
    uint i = PLACE, before = 0;
    if (in[i] & 1)
        before = (uint)__builtin_amdgcn_ds_append((local int *)&count[0]);
    else
        before = (uint)__builtin_amdgcn_ds_consume((local int *)&count[1]);
    out[ROW(0)] = before;
    barrier_of_group();
    out[ROW(1)] = count[0];
    out[ROW(2)] = count[1];
}

// Sums and bounds of floats by the units that the target has: one cell for each item.
kernel void float_units(global float *old, global float *cells, global const float *in) {
    local float held[SIZE];
    uint i = PLACE;
    held[ITEM] = cells[i];
    old[ROW(0)] = __builtin_amdgcn_ds_faddf(&held[ITEM], in[i], 0, 0, false);
    old[ROW(1)] = __builtin_amdgcn_ds_fminf(&held[ITEM], in[i], 0, 0, false);
    old[ROW(2)] = __builtin_amdgcn_ds_fmaxf(&held[ITEM], in[i] * 2, 0, 0, false);
    old[ROW(3)] = held[ITEM];
#if defined(CDNA) || defined(__GFX11__) || defined(__GFX12__)
    old[ROW(4)] = __builtin_amdgcn_global_atomic_fadd_f32(&cells[i], in[i]);
#else
    old[ROW(4)] = cells[i];
    cells[i] += in[i];
#endif
}

#if defined(CDNA)
kernel void double_units(global double *old, global double *cells, global const double *in) {
    local double held[SIZE];
    uint i = PLACE;
    held[ITEM] = cells[i];
    old[ROW(0)] = __builtin_amdgcn_ds_atomic_fadd_f64(&held[ITEM], in[i]);
    old[ROW(1)] = held[ITEM];
    old[ROW(2)] = __builtin_amdgcn_global_atomic_fadd_f64(&cells[i], in[i]);
    old[ROW(3)] = __builtin_amdgcn_global_atomic_fmin_f64(&cells[i], in[i]);
    old[ROW(4)] = __builtin_amdgcn_global_atomic_fmax_f64(&cells[i], -in[i]);
    old[ROW(5)] = __builtin_amdgcn_flat_atomic_fadd_f64((double *)&cells[i], 1.0);
}
#endif

#if defined(CDNA) || defined(__gfx1201__)
kernel void half_units(global half2_t *old, global half2_t *cells, global const half2_t *in) {
    uint i = PLACE;
    old[ROW(0)] = __builtin_amdgcn_global_atomic_fadd_v2f16(&cells[i], in[i]);
#if !defined(__gfx90a__)
    local half2_t held[SIZE];
    held[ITEM] = cells[i];
    old[ROW(1)] = __builtin_amdgcn_ds_atomic_fadd_v2f16(&held[ITEM], in[i]);
    old[ROW(2)] = held[ITEM];
    old[ROW(3)] = __builtin_amdgcn_flat_atomic_fadd_v2f16((half2_t *)&cells[i], in[i]);
#endif
}
#endif
