// Buffer instructions: descriptors with bounds, strides and offsets of every kind.
#include "common.h"
typedef uint uint2_t __attribute__((ext_vector_type(2)));
typedef uint uint3_t __attribute__((ext_vector_type(3)));
typedef uint uint4_t __attribute__((ext_vector_type(4)));
typedef int int4_t __attribute__((ext_vector_type(4)));

// The last word: raw data, and bounds that count bytes (gfx10 and later say so).
#if defined(__GFX9__)
#define RAW 0x00027000
#define BY_RECORD 0x00027000
#elif defined(__GFX10__)
#define RAW 0x31014000
#define BY_RECORD 0x01014000
#else
#define RAW 0x31004000
#define BY_RECORD 0x01004000
#endif

static int4_t described(const global void *at, uint stride, uint records, uint last) {
    ulong place = (ulong)at;
    return (int4_t)((int)place, (int)((uint)(place >> 32) | stride << 16), (int)records, (int)last);
}

uint raw_load(int4_t from, int at, int base, int cache) __asm("llvm.amdgcn.raw.buffer.load.i32");
uint4_t raw_load4(int4_t from, int at, int base,
                  int cache) __asm("llvm.amdgcn.raw.buffer.load.v4i32");
uint3_t raw_load3(int4_t from, int at, int base,
                  int cache) __asm("llvm.amdgcn.raw.buffer.load.v3i32");
uint2_t raw_load2(int4_t from, int at, int base,
                  int cache) __asm("llvm.amdgcn.raw.buffer.load.v2i32");
ushort raw_load_short(int4_t from, int at, int base,
                      int cache) __asm("llvm.amdgcn.raw.buffer.load.i16");
uchar raw_load_byte(int4_t from, int at, int base,
                    int cache) __asm("llvm.amdgcn.raw.buffer.load.i8");
void raw_store(uint v, int4_t to, int at, int base,
               int cache) __asm("llvm.amdgcn.raw.buffer.store.i32");
void raw_store4(uint4_t v, int4_t to, int at, int base,
                int cache) __asm("llvm.amdgcn.raw.buffer.store.v4i32");
void raw_store_short(ushort v, int4_t to, int at, int base,
                     int cache) __asm("llvm.amdgcn.raw.buffer.store.i16");
void raw_store_byte(uchar v, int4_t to, int at, int base,
                    int cache) __asm("llvm.amdgcn.raw.buffer.store.i8");
uint indexed_load(int4_t from, int index, int at, int base,
                  int cache) __asm("llvm.amdgcn.struct.buffer.load.i32");
void indexed_store(uint v, int4_t to, int index, int at, int base,
                   int cache) __asm("llvm.amdgcn.struct.buffer.store.i32");
uint raw_add(uint v, int4_t to, int at, int base,
             int cache) __asm("llvm.amdgcn.raw.buffer.atomic.add.i32");
uint raw_swap(uint v, int4_t to, int at, int base,
              int cache) __asm("llvm.amdgcn.raw.buffer.atomic.swap.i32");
uint raw_compare(uint v, uint old, int4_t to, int at, int base,
                 int cache) __asm("llvm.amdgcn.raw.buffer.atomic.cmpswap.i32");
uint scalar_load(int4_t from, int at, int cache) __asm("llvm.amdgcn.s.buffer.load.i32");
uint4_t scalar_load4(int4_t from, int at, int cache) __asm("llvm.amdgcn.s.buffer.load.v4i32");

// `bytes` of the source may be read; what lies beyond reads as 0.
kernel void raw_loads(global uint *out, global const uint *in, uint bytes, uint base) {
    int4_t from = described(in, 0, bytes, RAW);
    uint i = PLACE, at = i * 12;
    out[ROW(0)] = raw_load(from, (int)at, 0, 0);
    out[ROW(1)] = raw_load(from, (int)at, (int)base, 0);
    uint4_t four = raw_load4(from, (int)at + 16, 0, 0);
    out[ROW(2)] = four.x + 3 * four.y + 5 * four.z + 7 * four.w;
    uint3_t three = raw_load3(from, (int)at, 0, 0);
    out[ROW(3)] = three.x + 3 * three.y + 5 * three.z;
    uint2_t two = raw_load2(from, (int)at + 4, (int)base, 0);
    out[ROW(4)] = two.x + 3 * two.y;
    out[ROW(5)] = raw_load_short(from, (int)at + 2, 0, 0);
    out[ROW(6)] = (uint)(char)raw_load_byte(from, (int)at + 3, 0, 0);
    out[ROW(7)] = scalar_load(from, 4 * (int)GROUP + 8, 0);
    four = scalar_load4(from, 16 * (int)GROUP, 0);
    out[ROW(8)] = four.x + 3 * four.y + 5 * four.z + 7 * four.w;
}

// What lies beyond the bounds is not written.
kernel void raw_stores(global uint *out, global const uint *in, uint bytes) {
    int4_t to = described(out, 0, bytes, RAW);
    uint i = PLACE, v = in[i];
    raw_store(v, to, (int)i * 4, 0, 0);
    raw_store4((uint4_t)(v, v + 1, v + 2, v + 3), to, 1024 + (int)i * 16, 0, 0);
    raw_store_short((ushort)v, to, 4096 + (int)i * 4, 0, 0);
    raw_store_byte((uchar)v, to, 4096 + (int)i * 4 + 3, 0, 0);
    out[2048 + i] = raw_add(v, to, 6144 + (int)(i % 8) * 4, 0, 0) * 0 + 1;
    out[2048 + COUNT + i] = raw_swap(v, to, 6400 + (int)i * 4, 0, 0);
    out[2048 + 2 * COUNT + i] = raw_compare(v * 2, v, to, 7168 + (int)i * 4, 0, 0);
}

// Records of twelve bytes; `records` of them exist.
kernel void records(global uint *out, global uint *cells, uint records) {
    int4_t with = described(cells, 12, records, BY_RECORD);
    uint i = PLACE;
    out[ROW(0)] = indexed_load(with, (int)i, 0, 0, 0);
    out[ROW(1)] = indexed_load(with, (int)i, 8, 0, 0);
    out[ROW(2)] = indexed_load(with, (int)(i ^ 3), 4, 0, 0);
    indexed_store(out[ROW(0)] + 5, with, (int)i, 4, 0, 0);
}
