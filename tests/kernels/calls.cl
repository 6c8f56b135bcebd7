// Calls and stacks: structures by value, arguments on the stack, tables of functions, recursion.
#include "common.h"

struct box {
    uint a[6];
    ulong wide;
    float real;
};

static __attribute__((noinline)) struct box turned(struct box given, uint by) {
    struct box made = given;
    for (uint k = 0; k < 6; k++)
        made.a[k] = given.a[(k + by) % 6] + k;
    made.wide = given.wide * 3 + by;
    made.real = given.real + 0.5f;
    return made;
}

kernel void boxes(global uint *out, global const uint *in) {
    uint i = PLACE;
    struct box one = {{in[i], 1, 2, 3, 4, 5}, in[i] * 5ul, (float)(in[i] & 1023)};
    one = turned(turned(one, in[i] % 6), 1);
    for (uint k = 0; k < 6; k++)
        out[ROW(k)] = one.a[k];
    out[ROW(6)] = (uint)one.wide;
    out[ROW(7)] = (uint)(one.real * 2.0f);
}

#define TEN(p) p##0, p##1, p##2, p##3, p##4, p##5, p##6, p##7, p##8, p##9
#define TAKE(p) uint p##0, uint p##1, uint p##2, uint p##3, uint p##4, uint p##5, uint p##6,       \
                uint p##7, uint p##8, uint p##9
#define SUM(p) (p##0 + 2 * p##1 + 3 * p##2 + 4 * p##3 + 5 * p##4 + 6 * p##5 + 7 * p##6 +           \
                8 * p##7 + 9 * p##8 + 10 * p##9)

static __attribute__((noinline)) uint many(TAKE(a), TAKE(b), TAKE(c), TAKE(d)) {
    return SUM(a) + 3 * SUM(b) + 5 * SUM(c) + 7 * SUM(d);
}

kernel void arguments(global uint *out, global const uint *in) {
    uint i = PLACE, x = in[i], y = x ^ i, z = i, w = x + 1;
    out[i] = many(x, y, z, w, x, y, z, w, x, y, z, w, x, y, z, w, x, y, z, w, y, z, w, x, y, z, w,
                  x, y, z, w, x, y, z, w, x, y, z, w, x);
}

static __attribute__((noinline)) uint plus(uint a, uint b) { return a + b; }
static __attribute__((noinline)) uint minus(uint a, uint b) { return a - b; }
static __attribute__((noinline)) uint times(uint a, uint b) { return a * b; }
static __attribute__((noinline)) uint both(uint a, uint b) { return plus(times(a, b), minus(a, b)); }

// Each lane calls what its number names, three times over.
kernel void machine(global uint *out, global const uint *in) {
    uint i = PLACE, v = in[i];
    uint (*table[4])(uint, uint) = {plus, minus, times, both};
    for (uint k = 0; k < 3; k++)
        v = table[(in[i] >> 2 * k) & 3](v, i + k);
    out[i] = v;
}

static __attribute__((noinline)) uint depth(uint n, uint v) {
    uint kept[4] = {v, v + 1, v + 2, v + 3};
    if (n == 0)
        return kept[v & 3];
    uint below = depth(n - 1, v * 5 + n);
    return below + kept[below & 3];
}

kernel void deep(global uint *out, global const uint *in) {
    uint i = PLACE;
    out[i] = depth(in[i] % 7, in[i]);
}

// More values alive than there are registers for.
kernel void crowded(global uint *out, global const uint *in) {
    uint i = PLACE, held[160], sum = 0;
    for (uint k = 0; k < 160; k++)
        held[k] = in[(i + k) % COUNT] * (2 * k + 1);
    for (uint round = 0; round < 2; round++)
        for (uint k = 0; k < 160; k++)
            held[k] ^= held[(k * 7 + 3) % 160] >> 1;
    for (uint k = 0; k < 160; k++)
        sum = sum * 3 + held[k];
    out[i] = sum;
}
