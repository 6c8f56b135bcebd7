// Smooth a signal of `count` samples: each work-item writes one.
kernel void smooth(global uint *out, global const uint *in, uint count) {
    uint i = __builtin_amdgcn_workgroup_id_x() * 64 + __builtin_amdgcn_workitem_id_x();
    uint left = i ? in[i - 1] : in[0], right = i + 1 < count ? in[i + 1] : in[count - 1];
    // The bug: nothing stops the work-items behind the last sample.
    out[i] = left / 4 + in[i < count ? i : count - 1] / 2 + right / 4;
}
