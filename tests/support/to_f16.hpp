#pragma once

#include <bit>

#include "core/tensor/dtype.hpp"

namespace misa {

/// Round to nearest, ties to even; overflow becomes infinity.
constexpr F16 to_f16(float value) {
  const u32 bits = std::bit_cast<u32>(value);
  const u16 sign = static_cast<u16>((bits >> 16) & 0x8000u);
  const u32 magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return {static_cast<u16>(sign | 0x7E00u)};
  if (magnitude >= 0x477FF000u) return {static_cast<u16>(sign | 0x7C00u)};  // 65520 and above
  if (magnitude < 0x38800000u) {                                            // below 2^-14: subnormal, step 2^-24
    const float shifted = std::bit_cast<float>(magnitude) + 0.75f;          // 1.5 * 2^-1: ulp is 2^-24
    return {static_cast<u16>(sign | (std::bit_cast<u32>(shifted) & 0x7FFu))};
  }
  const u32 rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
  return {static_cast<u16>(sign | ((rounded >> 13) - ((127u - 15u) << 10)))};
}

}  // namespace misa
