// The first kernels: saxpy, and fill, busy and reduce as small drivers test themselves with.
#define ITEM __builtin_amdgcn_workitem_id_x()
#define GROUP __builtin_amdgcn_workgroup_id_x()
#define SIZE 64

kernel void saxpy(global float *y, global const float *x, float a, int n) {
    int i = GROUP * SIZE + ITEM;
    if (i < n)
        y[i] = a * x[i] + y[i];
}

kernel void fill(global uint *out, uint value) { out[GROUP * SIZE + ITEM] = value; }

kernel void busy(global uint *out, uint seed, uint rounds) {
    uint i = GROUP * SIZE + ITEM, v = seed + i;
    for (uint k = 0; k < rounds; k++)
        v = v * 2654435761u + 1;
    out[i] = v;
}

kernel void reduce(global uint *out, global const uint *in) {
    local uint part[SIZE * 4];
    uint t = ITEM;
    part[t] = in[GROUP * SIZE * 4 + t];
    for (uint step = SIZE * 2; step; step >>= 1) {
        __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
        __builtin_amdgcn_s_barrier();
        __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
        if (t < step)
            part[t] += part[t + step];
    }
    if (t == 0)
        out[GROUP] = part[0];
}
