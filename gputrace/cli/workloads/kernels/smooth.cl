// Smooth a signal of `count` samples: each work-item reads three and writes one.
kernel void smooth(global uint *out, global const uint *in, uint count) {
    uint i = __builtin_amdgcn_workgroup_id_x() * 64 + __builtin_amdgcn_workitem_id_x();
    uint at = i < count ? i : count - 1;
    uint left = in[at ? at - 1 : 0], right = in[at + 1 < count ? at + 1 : at];
    // The bug: nothing stops the work-items behind the last sample from writing.
    out[i] = left / 4 + in[at] / 2 + right / 4;
}
