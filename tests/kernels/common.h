// What all kernels of the corpus share: the place of a work-item without any library.
#pragma once
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#pragma OPENCL EXTENSION __cl_clang_function_pointers : enable
#define ITEM ((uint)__builtin_amdgcn_workitem_id_x())
#define ITEM_Y ((uint)__builtin_amdgcn_workitem_id_y())
#define GROUP ((uint)__builtin_amdgcn_workgroup_id_x())
#define GROUP_Y ((uint)__builtin_amdgcn_workgroup_id_y())
#ifndef LANES // of a wave: what the target does where nothing else is asked for
#ifdef __GFX9__
#define LANES 64
#else
#define LANES 32
#endif
#endif
#define SIZE 64
#define PLACE (GROUP * SIZE + ITEM)
#define COUNT 128 // work-items of kernels that write one row for each operation
#define ROW(n) ((n)*COUNT + i)

static inline void barrier_of_group(void) {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
