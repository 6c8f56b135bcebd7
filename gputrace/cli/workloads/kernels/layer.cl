// One layer of a small network: every row of 64 outputs is weighted and clamped.
kernel void layer(global float *out, global const float *in, global const float *weights) {
    uint i = __builtin_amdgcn_workgroup_id_x() * 64 + __builtin_amdgcn_workitem_id_x();
    float value = in[i] * weights[i];
    out[i] = value > 0.0f ? value : 0.0f;
}
