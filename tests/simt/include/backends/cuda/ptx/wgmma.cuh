#pragma once

#include "backends/cuda/ptx/ptx.cuh"

// The tensor core instructions of the header of this name, on the host, done at once: sums rounded once.

namespace misa::cuda {

inline int swizzled(int row, int byte) { return 128 * row + (byte ^ 16 * (row % 8)); }
inline u64 wgmma_operand(u32 address) { return address >> 4; }
inline void wgmma_fence() {}
inline void wgmma_commit() {}
template <int Pending, int Count>
void wgmma_wait(float (&)[Count]) {}

/// D[64, N] (+)= A[64, 16] * B[N, 16]^T of numbers of 16 bits, which `widen` makes f32 of. A is of a warp's own lanes;
/// B's rows have 128 bytes, whose 16-byte chunks are swizzled.
template <int N, class Widen>
void multiply_step(float (&d)[N / 2], const u32 (&a)[4], u64 b, bool add, const char* what, const Widen& widen) {
  struct Own {
    float a[4][2];
  } own;
  const auto both = [&](u32 two, float(&to)[2]) {
    to[0] = widen(static_cast<u16>(two));
    to[1] = widen(static_cast<u16>(two >> 16));
  };
  for (int i = 0; i < 4; ++i) both(a[i], own.a[i]);
  const auto all = simt::machine().of_lanes(own, ~0u, what, 0);
  const unsigned group = simt::lane() / 4, quad = simt::lane() % 4;
  for (unsigned i = 0; i < N / 2; ++i) {
    const unsigned row = 8 * (i / 4) + 2 * quad + i % 2, r = i / 2 % 2;
    double sum = add ? d[i] : 0.0;
    for (unsigned k = 0; k < 16; k += 2) {
      const u32 linear = static_cast<u32>(b << 4) + 128 * row + 2 * k;
      u32 two;
      std::memcpy(&two, simt::machine().shared.data() + (linear ^ (linear >> 7 & 7) << 4), sizeof two);
      float of_key[2];
      both(two, of_key);
      const auto& of_query = all[4 * group + k % 8 / 2].a[r + 2 * (k / 8)];
      for (unsigned e = 0; e < 2; ++e) sum += static_cast<double>(of_query[e]) * static_cast<double>(of_key[e]);
    }
    d[i] = static_cast<float>(sum);
  }
}

inline void wgmma_f16(float (&d)[32], const u32 (&a)[4], u64 b, bool add) {
  multiply_step<64>(d, a, b, add, "wgmma_f16", [](u16 bits) { return __half2float(__ushort_as_half(bits)); });
}

template <class T, int N>
void wgmma_from_registers(float (&d)[N / 2], const u32 (&a)[4], u64 b, bool add) {
  static_assert(std::is_same_v<T, Bf16>);
  multiply_step<N>(d, a, b, add, "wgmma_from_registers", [](u16 bits) { return to_float(Bf16{bits}); });
}

}  // namespace misa::cuda
