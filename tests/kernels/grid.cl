// Work-groups that wait for one another: global wave sync.
// Targets: gfx90a gfx942 gfx950 gfx1030 gfx1100
#include "common.h"

#define AGENT_FENCE(order) __builtin_amdgcn_fence(order, "agent")

kernel void prepare(uint count, uint resource) {
    __builtin_amdgcn_ds_gws_init(count, resource);
}

// As cooperative launches do it: one wave of each group at the barrier of the grid, the others
// at that of the group.
static void grid_sync(uint groups, uint resource) {
    AGENT_FENCE(__ATOMIC_SEQ_CST);
    __builtin_amdgcn_s_barrier();
    if (ITEM == 0)
        __builtin_amdgcn_ds_gws_barrier(groups - 1, resource);
    __builtin_amdgcn_s_barrier();
    AGENT_FENCE(__ATOMIC_SEQ_CST);
}

// Each group needs what all others have left in the round before.
kernel void rounds(global uint *values, uint groups, uint count, uint resource) {
    for (uint round = 0; round < count; round++) {
        global uint *old = values + (round & 1) * groups, *new = values + (~round & 1) * groups;
        uint sum = 0;
        for (uint k = 0; k < groups; k++)
            sum = sum * 3 + old[k];
        grid_sync(groups, resource);
        if (ITEM == 0)
            new[GROUP] = sum + old[(GROUP + 1) % groups];
        grid_sync(groups, resource);
    }
}

// The first group takes what the others have made, then lets all of them take its sum.
kernel void semaphores(global uint *made, global uint *taken, volatile global atomic_uint *passed,
                       uint groups) {
    if (GROUP == 0) {
        uint sum = 0;
        for (uint k = 1; k < groups; k++)
            __builtin_amdgcn_ds_gws_sema_p(5);
        AGENT_FENCE(__ATOMIC_ACQUIRE);
        for (uint k = 1; k < groups; k++)
            sum += made[k];
        taken[0] = sum;
        AGENT_FENCE(__ATOMIC_RELEASE);
        __builtin_amdgcn_ds_gws_sema_br(groups - 1, 6);
        while (__opencl_atomic_load(passed, __ATOMIC_RELAXED, memory_scope_device) < groups - 1)
            __builtin_amdgcn_ds_gws_sema_release_all(7);
        return;
    }
    made[GROUP] = GROUP * GROUP;
    AGENT_FENCE(__ATOMIC_RELEASE);
    __builtin_amdgcn_ds_gws_sema_v(5);
    __builtin_amdgcn_ds_gws_sema_p(6);
    AGENT_FENCE(__ATOMIC_ACQUIRE);
    taken[GROUP] = taken[0] + GROUP;
    __builtin_amdgcn_ds_gws_sema_p(7);
    if (ITEM == 0)
        __opencl_atomic_fetch_add(passed, 1, __ATOMIC_RELAXED, memory_scope_device);
}
