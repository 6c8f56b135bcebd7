// Bit operations, wide shifts, carry chains.
#include "common.h"

kernel void bit_ops(global uint *out, global const uint *a, global const uint *b) {
    uint i = PLACE, x = a[i], y = b[i];
    out[ROW(0)] = (uint)__builtin_popcount(x) + y;
    out[ROW(1)] = x ? (uint)__builtin_clz(x) : 32;
    out[ROW(2)] = x ? (uint)__builtin_ctz(x) : 32;
    out[ROW(3)] = __builtin_bitreverse32(x);
    out[ROW(4)] = __builtin_bswap32(x);
    out[ROW(5)] = __builtin_rotateleft32(x, y);
    out[ROW(6)] = __builtin_amdgcn_ubfe(x, y & 31, 7);
    out[ROW(7)] = (uint)__builtin_amdgcn_sbfe((int)x, y & 31, 9);
    out[ROW(8)] = __builtin_amdgcn_perm(x, y, 0x0C070205);
    out[ROW(9)] = (x & y) | (~x & 0x12345678);
    out[ROW(10)] = __builtin_amdgcn_alignbyte(x, y, 3);
    out[ROW(11)] = __builtin_amdgcn_alignbit(x, y, y & 31);
    out[ROW(12)] = (x << 5) | y;
    out[ROW(13)] = (x + y) << 3;
    out[ROW(14)] = x ^ y ^ 0x0F0F0F0F;
    out[ROW(15)] = x | y | 0x10101010;
    out[ROW(16)] = ((x >> 3) & 0x1F) + ((uint)((int)y << 20) >> 24);
    out[ROW(17)] = __builtin_amdgcn_sad_u8(x, y, 5);
    out[ROW(18)] = __builtin_amdgcn_sad_u16(x, y, 6);
    out[ROW(19)] = __builtin_amdgcn_lerp(x, y, 0x01010101);
    out[ROW(20)] = __builtin_amdgcn_perm(x, y, x ^ y);
}

kernel void wide_bits(global ulong *out, global const ulong *a, global const ulong *b) {
    uint i = PLACE;
    ulong x = a[i], y = b[i];
    out[ROW(0)] = (ulong)__builtin_popcountl(x);
    out[ROW(1)] = x ? (ulong)__builtin_clzl(x) : 64;
    out[ROW(2)] = x ? (ulong)__builtin_ctzl(x) : 64;
    out[ROW(3)] = __builtin_bitreverse64(x);
    out[ROW(4)] = __builtin_rotateleft64(x, y);
    unsigned __int128 p = ((unsigned __int128)x << 64) | y, q = ((unsigned __int128)y << 64) | x;
    unsigned __int128 sum = p + q, less = p - 2 * q, moved = p >> (x & 127);
    out[ROW(5)] = (ulong)sum;
    out[ROW(6)] = (ulong)(sum >> 64);
    out[ROW(7)] = (ulong)less;
    out[ROW(8)] = (ulong)(less >> 64);
    out[ROW(9)] = (ulong)moved;
    out[ROW(10)] = (ulong)(moved >> 64);
    uint carry, parts[2] = {(uint)x, (uint)(x >> 32)};
    parts[0] = __builtin_addc(parts[0], (uint)y, 1, &carry);
    parts[1] = __builtin_addc(parts[1], (uint)(y >> 32), carry, &carry);
    out[ROW(11)] = parts[0] | ((ulong)parts[1] << 32);
    out[ROW(12)] = carry;
}

// The same operations on values that are equal in all lanes, for the scalar unit.
kernel void uniform_bits(global ulong *out, ulong x, ulong y, uint s) {
    uint p = (uint)x, q = (uint)y;
    if (ITEM)
        return;
    out[0] = (ulong)__builtin_popcountl(x) + (ulong)__builtin_popcount(p);
    out[1] = (ulong)(x ? __builtin_clzl(x) : 64) + (ulong)(p ? __builtin_clz(p) : 32);
    out[2] = (ulong)(x ? __builtin_ctzl(x) : 64) + (ulong)(p ? __builtin_ctz(p) : 32);
    out[3] = __builtin_bitreverse64(x) ^ __builtin_bitreverse32(p);
    out[4] = x << (s & 63);
    out[5] = x >> (s & 63);
    out[6] = (ulong)((long)x >> (s & 63));
    out[7] = (x & y) | ~(x ^ y);
    out[8] = x * y;
    out[9] = x + y + (x < y);
    out[10] = x - y - ((long)x < (long)y);
    out[11] = (ulong)(p / (q | 1)) + (ulong)(p % (q | 1)) * 65536;
    out[12] = (ulong)__builtin_amdgcn_ubfe(p, s & 31, 6) + ((p >> 4) & 0xFFF);
    out[13] = (ulong)(long)((int)(p << 12) >> 20);
    out[14] = (ulong)(((unsigned __int128)x * y) >> 64);
    out[15] = (ulong)(p < q ? p : q) + ((ulong)((int)p > (int)q ? p : q) << 32);
    out[16] = (ulong)(long)(char)p + (ulong)(long)(short)q;
    out[17] = (p << 3) + q + ((ulong)((int)p < 0 ? -(int)p : (int)p) << 32);
    out[18] = (p & 0xFFFF) | (q << 16);
    out[19] = s > 5 ? x : y;
}
