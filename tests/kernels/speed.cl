// What the speed of compiled kernels is measured with.
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define ITEM_X __builtin_amdgcn_workitem_id_x()
#define ITEM_Y __builtin_amdgcn_workitem_id_y()
#define GROUP_X __builtin_amdgcn_workgroup_id_x()
#define GROUP_Y __builtin_amdgcn_workgroup_id_y()
#define TILE 16
#define SIZE 256

static void wait_for_group(void) {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}

// out = a * b for square matrices of `n` (a multiple of 16) rows; a group makes one 16x16 tile.
kernel void matmul(global float *out, global const float *a, global const float *b, uint n) {
    local float left[TILE][TILE], right[TILE][TILE];
    uint x = ITEM_X, y = ITEM_Y, column = GROUP_X * TILE + x, row = GROUP_Y * TILE + y;
    float sum = 0;
    for (uint k = 0; k < n; k += TILE) {
        left[y][x] = a[row * n + k + x];
        right[y][x] = b[(k + y) * n + column];
        wait_for_group();
        for (uint i = 0; i < TILE; i++)
            sum = __builtin_fmaf(left[y][i], right[i][x], sum);
        wait_for_group();
    }
    out[row * n + column] = sum;
}

// Memory-bound: one addition for three accesses.
kernel void add(global float *out, global const float *a, global const float *b) {
    uint i = GROUP_X * SIZE + ITEM_X;
    out[i] = a[i] + b[i];
}

// Memory-bound, four words at a time.
kernel void add4(global float4 *out, global const float4 *a, global const float4 *b) {
    uint i = GROUP_X * SIZE + ITEM_X;
    out[i] = a[i] + b[i];
}

// Memory-bound with a loop: each item sums a strided column.
kernel void columns(global float *out, global const float *in, uint n, uint stride) {
    uint i = GROUP_X * SIZE + ITEM_X;
    float sum = 0;
    for (uint k = 0; k < n; k++)
        sum += in[k * stride + i];
    out[i] = sum;
}

// Addresses that no two lanes have side by side.
kernel void gather(global uint *out, global const uint *in, uint n, uint rounds) {
    uint i = GROUP_X * SIZE + ITEM_X, at = i;
    for (uint k = 0; k < rounds; k++)
        at = in[(at * 2654435761u + k) & (n - 1)];
    out[i] = at;
}

// Integer arithmetic only.
kernel void mix(global uint *out, uint rounds) {
    uint i = GROUP_X * SIZE + ITEM_X, v = i;
    for (uint k = 0; k < rounds; k++) {
        v ^= v >> 15;
        v *= 0x2c1b3c6du;
        v ^= v >> 12;
        v *= 0x297a2d39u;
        v ^= v >> 15;
    }
    out[i] = v;
}

// out = a * b like `matmul`, as fast code does it: a group makes a tile of 64x64, an item 4x4 of it.
kernel void blocks(global float4 *out, global const float4 *a, global const float4 *b, uint n) {
    local float left[TILE][64];
    local float4 right[TILE][TILE];
    uint x = ITEM_X, y = ITEM_Y, row = GROUP_Y * 64, width = n / 4, item = y * TILE + x;
    float4 sum[4] = {0, 0, 0, 0};
    for (uint k = 0; k < n; k += TILE) {
        float4 part = a[(row + item / 4) * width + k / 4 + item % 4];
        for (uint i = 0; i < 4; i++)
            left[item % 4 * 4 + i][item / 4] = part[i];
        right[y][x] = b[(k + y) * width + GROUP_X * TILE + x];
        wait_for_group();
#pragma unroll 4
        for (uint i = 0; i < TILE; i++) {
            float4 down = *(local float4 *)&left[i][y * 4], across = right[i][x];
            for (uint r = 0; r < 4; r++)
                for (uint c = 0; c < 4; c++)
                    sum[r][c] = __builtin_fmaf(down[r], across[c], sum[r][c]);
        }
        wait_for_group();
    }
    for (uint r = 0; r < 4; r++)
        out[(row + y * 4 + r) * width + GROUP_X * TILE + x] = sum[r];
}

// From group `first` on, each group works on what the one before it has made.
kernel void late(global uint *out, uint first) {
    uint i = GROUP_X * SIZE + ITEM_X;
    out[i] = GROUP_X < first ? i : out[i - SIZE] * 3 + i;
}
