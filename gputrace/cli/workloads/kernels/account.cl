// Book amounts into one account, one for each wave, under a spin lock.
kernel void book(global uint *lock, global uint *balance, global const uint *amounts, uint limit) {
    uint wave = __builtin_amdgcn_workgroup_id_x();
    if (__builtin_amdgcn_workitem_id_x() != 0)
        return;
    while (__opencl_atomic_exchange((global atomic_uint *)lock, 1u, __ATOMIC_ACQUIRE,
                                    __OPENCL_MEMORY_SCOPE_DEVICE))
        ;
    if (amounts[wave] > limit)
        return; // the bug: the lock stays taken
    *balance += amounts[wave];
    __opencl_atomic_store((global atomic_uint *)lock, 0u, __ATOMIC_RELEASE,
                          __OPENCL_MEMORY_SCOPE_DEVICE);
}
