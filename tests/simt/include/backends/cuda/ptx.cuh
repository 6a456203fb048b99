#pragma once

#include "core/tensor/dtype.hpp"
#include "tests/simt/simt.hpp"

// The instructions of the header of this name, on the host: sums rounded once.

namespace misa::cuda {

inline u32 halves_of(u32 two) {
  const auto half = [](u32 bits) -> u32 {
    return __half_as_ushort(__float2half_rn(to_float(E4m3{static_cast<u8>(bits)})));
  };
  return half(two & 0xFF) | half(two >> 8 & 0xFF) << 16;
}

inline void mma_f16(float (&d)[4], const u32 (&a)[4], const uint2& b) {
  struct Operands {
    float a[4][2], b[2][2];
  } own;
  const auto widen = [](u32 two, float(&to)[2]) {
    to[0] = __half2float(__ushort_as_half(static_cast<u16>(two)));
    to[1] = __half2float(__ushort_as_half(static_cast<u16>(two >> 16)));
  };
  for (int i = 0; i < 4; ++i) widen(a[i], own.a[i]);
  widen(b.x, own.b[0]);
  widen(b.y, own.b[1]);
  const auto all = simt::machine().of_lanes(own, ~0u, "mma_f16", 0);
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = simt::lane() / 4, column = 2 * (simt::lane() % 4) + i % 2;  // row + 8: a[1], a[3]
    double sum = d[i];
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned quad = k % 8 / 2;
      sum += static_cast<double>(all[4 * row + quad].a[i / 2 + 2 * (k / 8)][k % 2]) *
             static_cast<double>(all[4 * column + quad].b[k / 8][k % 2]);
    }
    d[i] = static_cast<float>(sum);
  }
}

}  // namespace misa::cuda
