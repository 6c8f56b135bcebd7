// The two stages of the overlap pipeline, in groups of 64 work-items.
#define INDEX (__builtin_amdgcn_workgroup_id_x() * 64 + __builtin_amdgcn_workitem_id_x())

kernel void scale(global uint *out, global const uint *in, uint factor) {
    uint i = INDEX;
    out[i] = in[i] * factor;
}

kernel void transform(global uint *out, global const uint *in, uint last) {
    uint i = INDEX;
    out[i] = in[last - i] ^ i * 2654435761u;
}
