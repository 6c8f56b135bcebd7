// Render a frame: a pattern that every later stage can be checked against.
kernel void render(global uint *frame, uint number, uint rounds) {
    uint i = __builtin_amdgcn_workgroup_id_x() * 64 + __builtin_amdgcn_workitem_id_x();
    uint value = number * 0x01000193u + i;
    for (uint round = 0; round < rounds; round++)
        value = (value ^ value >> 15) * 0x85ebca6bu;
    frame[i] = value;
}
