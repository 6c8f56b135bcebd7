// One kernel of each kind that a loader must handle: globals that need relocations, LDS, scratch.
__constant int table[4] = {3, 1, 4, 1};
global int counter = 7;
global int *global pointers[2] = {&counter, &counter};

#define LOCAL_ID __builtin_amdgcn_workitem_id_x()
#define GLOBAL_ID (__builtin_amdgcn_workgroup_id_x() * __builtin_amdgcn_workgroup_size_x() + LOCAL_ID)

kernel void saxpy(global float *y, const global float *restrict x, float a, int n) {
    int i = GLOBAL_ID;
    if (i < n) y[i] = a * x[i] + y[i];
}

kernel void through(global int *out, int which) {
    *out = *pointers[which & 1] + table[which & 3];
}

kernel __attribute__((reqd_work_group_size(64, 1, 1))) void reverse(global int *data) {
    local int tile[64];
    tile[LOCAL_ID] = data[LOCAL_ID];
    __builtin_amdgcn_fence(__ATOMIC_SEQ_CST, "workgroup");
    __builtin_amdgcn_s_barrier();
    data[LOCAL_ID] = tile[63 - LOCAL_ID];
}

kernel void spill(global int *out, int n) {
    volatile int room[16];
    for (int i = 0; i < 16; i++) room[i] = i * n;
    *out = room[n & 15];
}
