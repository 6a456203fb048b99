#pragma once

#include <type_traits>

#include "backends/cuda/ptx/ptx.cuh"
#include "core/base/types.hpp"
#include "core/tensor/dtype.hpp"

// Hopper's warpgroup matrix multiply: D[64, N] (+)= A[64, 32] * B[N, 32]^T, e4m3 operands in shared memory, f32 sums in
// registers. Source: PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions".
//
// Lane l of warp w holds d[4 j + 2 r + e] = D[16 w + l / 4 + 8 r, 8 j + 2 (l % 4) + e].

namespace misa::cuda {

/// Returns the offset of byte `byte` of row `row` in rows of 128 bytes with the 128-byte swizzle.
__device__ inline int swizzled(int row, int byte) { return row * 128 + (((byte / 16) ^ (row % 8)) * 16 + byte % 16); }

/// Returns the descriptor of an operand in rows of 128 bytes with the 128-byte swizzle, in contiguous groups of eight
/// rows. `address`: of the first row, aligned to 1024, plus 32 bytes for each step along the row.
__device__ inline u64 wgmma_operand(u32 address) {
  constexpr u64 kGroupStride = 1024 >> 4, kSwizzle128 = 1;
  return static_cast<u64>((address & 0x3FFFF) >> 4) | (u64{1} << 16) | (kGroupStride << 32) | (kSwizzle128 << 62);
}

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Waits until at most `Pending` committed groups are under way.
template <int Pending>
__device__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

/// Compiler barrier on d: no use of d moves across it.
template <int Count>
__device__ void keep_here(float (&d)[Count]) {
#pragma unroll
  for (int i = 0; i < Count; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

/// Waits likewise; d is read after the wait.
template <int Pending, int Count>
__device__ void wgmma_wait(float (&d)[Count]) {
  wgmma_wait<Pending>();
  keep_here(d);
}

/// Multiplies one step of 32 along the rows, and adds to d or, unless `add`, overwrites it.
template <int N>
__device__ void wgmma(float (&d)[N / 2], u64 a, u64 b, bool add);

// The registers of N = 8 n columns: their numbers in the instruction, and their operands.

#define MISA_NAMES_1 "%0,%1,%2,%3"
#define MISA_NAMES_2 MISA_NAMES_1 ",%4,%5,%6,%7"
#define MISA_NAMES_4 MISA_NAMES_2 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define MISA_NAMES_8 MISA_NAMES_4 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define MISA_NAMES_9 MISA_NAMES_8 ",%32,%33,%34,%35"
#define MISA_NAMES_10 MISA_NAMES_9 ",%36,%37,%38,%39"
#define MISA_NAMES_11 MISA_NAMES_10 ",%40,%41,%42,%43"
#define MISA_NAMES_12 MISA_NAMES_11 ",%44,%45,%46,%47"
#define MISA_NAMES_13 MISA_NAMES_12 ",%48,%49,%50,%51"
#define MISA_NAMES_14 MISA_NAMES_13 ",%52,%53,%54,%55"
#define MISA_NAMES_15 MISA_NAMES_14 ",%56,%57,%58,%59"
#define MISA_NAMES_16 MISA_NAMES_15 ",%60,%61,%62,%63"
#define MISA_NAMES_18 MISA_NAMES_16 ",%64,%65,%66,%67,%68,%69,%70,%71"
#define MISA_NAMES_20 MISA_NAMES_18 ",%72,%73,%74,%75,%76,%77,%78,%79"
#define MISA_REGISTERS(i) "+f"(d[4 * i]), "+f"(d[4 * i + 1]), "+f"(d[4 * i + 2]), "+f"(d[4 * i + 3])
#define MISA_OPERANDS_1 MISA_REGISTERS(0)
#define MISA_OPERANDS_2 MISA_OPERANDS_1, MISA_REGISTERS(1)
#define MISA_OPERANDS_4 MISA_OPERANDS_2, MISA_REGISTERS(2), MISA_REGISTERS(3)
#define MISA_OPERANDS_8 MISA_OPERANDS_4, MISA_REGISTERS(4), MISA_REGISTERS(5), MISA_REGISTERS(6), MISA_REGISTERS(7)
#define MISA_OPERANDS_9 MISA_OPERANDS_8, MISA_REGISTERS(8)
#define MISA_OPERANDS_10 MISA_OPERANDS_9, MISA_REGISTERS(9)
#define MISA_OPERANDS_11 MISA_OPERANDS_10, MISA_REGISTERS(10)
#define MISA_OPERANDS_12 MISA_OPERANDS_11, MISA_REGISTERS(11)
#define MISA_OPERANDS_13 MISA_OPERANDS_12, MISA_REGISTERS(12)
#define MISA_OPERANDS_14 MISA_OPERANDS_13, MISA_REGISTERS(13)
#define MISA_OPERANDS_15 MISA_OPERANDS_14, MISA_REGISTERS(14)
#define MISA_OPERANDS_16 MISA_OPERANDS_15, MISA_REGISTERS(15)
#define MISA_OPERANDS_18 MISA_OPERANDS_16, MISA_REGISTERS(16), MISA_REGISTERS(17)
#define MISA_OPERANDS_20 MISA_OPERANDS_18, MISA_REGISTERS(18), MISA_REGISTERS(19)

// `kind`: dimensions of a step, types of the sums and the operands; `order`: of 16-bit operands in shared memory.
#define MISA_WGMMA_OF(function, kind, order, n, columns, a_name, b_name, add_name)           \
  template <>                                                                                \
  __device__ inline void function<columns>(float(&d)[columns / 2], u64 a, u64 b, bool add) { \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" add_name                           \
                 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #columns kind " {" MISA_NAMES_##n \
                 "}, %" a_name ", %" b_name ", add, 1, 1" order ";\n}"                       \
                 : MISA_OPERANDS_##n                                                         \
                 : "l"(a), "l"(b), "r"(static_cast<int>(add)));                              \
  }

#define MISA_WGMMA(...) MISA_WGMMA_OF(wgmma, "k32.f32.e4m3.e4m3", "", __VA_ARGS__)
MISA_WGMMA(1, 8, "4", "5", "6")
MISA_WGMMA(2, 16, "8", "9", "10")
MISA_WGMMA(4, 32, "16", "17", "18")
MISA_WGMMA(8, 64, "32", "33", "34")
MISA_WGMMA(9, 72, "36", "37", "38")
MISA_WGMMA(10, 80, "40", "41", "42")
MISA_WGMMA(11, 88, "44", "45", "46")
MISA_WGMMA(12, 96, "48", "49", "50")
MISA_WGMMA(13, 104, "52", "53", "54")
MISA_WGMMA(14, 112, "56", "57", "58")
MISA_WGMMA(15, 120, "60", "61", "62")
MISA_WGMMA(16, 128, "64", "65", "66")
MISA_WGMMA(18, 144, "72", "73", "74")
MISA_WGMMA(20, 160, "80", "81", "82")

/// D[64, 64] (+)= A[64, 16] * B[64, 16]^T in f16. A lane of warp w holds of A, by twos: row 16 w + l / 4, columns
/// 2 (l % 4) + {0, 1}; row + 8, the same columns; and both again 8 columns further.
__device__ inline void wgmma_f16(float (&d)[32], const u32 (&a)[4], u64 b, bool add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %37, 0;\nwgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" MISA_NAMES_8
      "}, {%32, %33, %34, %35}, %36, add, 1, 1, 0;\n}"
      : MISA_OPERANDS_8
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));
}

/// Multiplies likewise with both operands in shared memory, rows of 64 dimensions and N columns.
template <int N>
__device__ void wgmma_f16(float (&d)[N / 2], u64 a, u64 b, bool add);

#define MISA_WGMMA_F16(...) MISA_WGMMA_OF(wgmma_f16, "k16.f32.f16.f16", ", 0, 0", __VA_ARGS__)
MISA_WGMMA_F16(1, 8, "4", "5", "6")
MISA_WGMMA_F16(2, 16, "8", "9", "10")
MISA_WGMMA_F16(4, 32, "16", "17", "18")
MISA_WGMMA_F16(8, 64, "32", "33", "34")

/// Multiplies bf16 operands.
template <int N>
__device__ void wgmma_bf16(float (&d)[N / 2], u64 a, u64 b, bool add);

#define MISA_WGMMA_BF16(...) MISA_WGMMA_OF(wgmma_bf16, "k16.f32.bf16.bf16", ", 0, 0", __VA_ARGS__)
MISA_WGMMA_BF16(1, 8, "4", "5", "6")
MISA_WGMMA_BF16(2, 16, "8", "9", "10")
MISA_WGMMA_BF16(4, 32, "16", "17", "18")
MISA_WGMMA_BF16(8, 64, "32", "33", "34")
MISA_WGMMA_BF16(16, 128, "64", "65", "66")

/// Multiplies one step of 32 bytes along rows of T.
template <class T, int N>
__device__ void wgmma_of(float (&d)[N / 2], u64 a, u64 b, bool add) {
  if constexpr (std::is_same_v<T, E4m3>) {
    wgmma<N>(d, a, b, add);
  } else {
    wgmma_bf16<N>(d, a, b, add);
  }
}

/// D[64, N] (+)= A[64, 32 bytes] * B[N, 32 bytes]^T, A in registers. Lane l of warp w holds of A four bytes a register:
/// row 16 w + l / 4, bytes 4 (l % 4) on; row + 8, the same bytes; and both again 16 bytes further.
template <class T, int N>
__device__ void wgmma_from_registers(float (&d)[N / 2], const u32 (&a)[4], u64 b, bool add);

#define MISA_WGMMA_FROM_REGISTERS_OF(type, kind, order, n, columns, a0, a1, a2, a3, b_name, add_name)         \
  template <>                                                                                                 \
  __device__ inline void wgmma_from_registers<type, columns>(float(&d)[columns / 2], const u32(&a)[4], u64 b, \
                                                             bool add) {                                      \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" add_name                                            \
                 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #columns kind " {" MISA_NAMES_##n                  \
                 "}, {%" a0 ", %" a1 ", %" a2 ", %" a3 "}, %" b_name ", add, 1, 1" order ";\n}"               \
                 : MISA_OPERANDS_##n                                                                          \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));           \
  }
#define MISA_WGMMA_FROM_REGISTERS(...)                                     \
  MISA_WGMMA_FROM_REGISTERS_OF(E4m3, "k32.f32.e4m3.e4m3", "", __VA_ARGS__) \
  MISA_WGMMA_FROM_REGISTERS_OF(Bf16, "k16.f32.bf16.bf16", ", 0", __VA_ARGS__)
MISA_WGMMA_FROM_REGISTERS(1, 8, "4", "5", "6", "7", "8", "9")
MISA_WGMMA_FROM_REGISTERS(2, 16, "8", "9", "10", "11", "12", "13")
MISA_WGMMA_FROM_REGISTERS(4, 32, "16", "17", "18", "19", "20", "21")
MISA_WGMMA_FROM_REGISTERS(8, 64, "32", "33", "34", "35", "36", "37")

}  // namespace misa::cuda
