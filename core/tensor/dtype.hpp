#pragma once

#include <array>
#include <bit>
#include <optional>
#include <string_view>
#include <type_traits>

#include "core/base/types.hpp"

namespace misa {

/// Element types that cross the project's edges. Storage sizes in dtype_bytes; the spelling of dtype_name is
/// that of safetensors. Both are in this order.
enum class Dtype { f32, f64, bf16, f16, e4m3, e8m0, int32, uint8, int8, e2m1 };

/// Bytes of `count` elements; e2m1 have half a byte each.
constexpr i64 dtype_bytes(Dtype dtype, i64 count) {
  constexpr std::array<i64, 10> kBits{32, 64, 16, 16, 8, 8, 32, 8, 8, 4};
  return kBits[static_cast<std::size_t>(dtype)] * count / 8;
}

constexpr std::string_view dtype_name(Dtype dtype) {
  constexpr std::array<std::string_view, 10> kNames{"F32",     "F64", "BF16", "F16", "F8_E4M3",
                                                    "F8_E8M0", "I32", "U8",   "I8",  "F4"};
  return kNames[static_cast<std::size_t>(dtype)];
}

/// bfloat16: the upper half of an f32.
struct Bf16 {
  u16 bits = 0;
};

/// OCP FP8 e4m3fn: bias 7, no infinity, 0x7F and 0xFF are NaN, largest finite 448.
struct E4m3 {
  u8 bits = 0;
};

/// IEEE binary16.
struct F16 {
  u16 bits = 0;
};

constexpr float to_float(float value) { return value; }
constexpr float to_float(i8 value) { return value; }
constexpr float to_float(Bf16 value) { return std::bit_cast<float>(static_cast<u32>(value.bits) << 16); }

/// Exact, without branches and without f32 subnormals, so that loops over it become fast vector code.
constexpr float to_float(E4m3 value) {
  const u32 magnitude = value.bits & 0x7Fu;
  const u32 sign = (value.bits & 0x80u) << 24;
  const u32 normal = (magnitude << 20) + (120u << 23);
  // Below 2^-6 the exponent field is 0: read it as 2^-6 * (1 + m/8) and take the 2^-6 away.
  const u32 subnormal = std::bit_cast<u32>(std::bit_cast<float>((magnitude << 20) + (121u << 23)) - 0x1p-6f);
  const u32 is_subnormal = 0u - static_cast<u32>(magnitude < 8);
  const u32 is_nan = 0u - static_cast<u32>(magnitude == 0x7F);
  return std::bit_cast<float>((subnormal & is_subnormal) | (normal & ~is_subnormal) | (is_nan & 0x7FC00000u) | sign);
}

constexpr float to_float(F16 value) {
  const u32 sign = (value.bits & 0x8000u) << 16;
  const u32 magnitude = value.bits & 0x7FFFu;
  if (magnitude >= 0x7C00) return std::bit_cast<float>(sign | 0x7F800000u | ((magnitude & 0x3FFu) << 13));
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(std::bit_cast<u32>(scaled) | sign);
}

/// The power of two 2^(bits - 127); 0xFF is NaN. (OCP MX scale format.)
constexpr float e8m0_to_float(u8 bits) {
  if (bits == 0xFF) return std::bit_cast<float>(0x7FC00000u);
  if (bits == 0) return std::bit_cast<float>(0x00400000u);
  return std::bit_cast<float>(static_cast<u32>(bits) << 23);
}

/// OCP FP4 e2m1, in the lower four bits: 0, 1/2, 1, 3/2, 2, 3, 4, 6; the fourth bit is the sign.
constexpr float e2m1_to_float(u32 code) {
  const u32 magnitude = code & 7u, sign = (code & 8u) << 28;
  const float value =
      magnitude < 2 ? 0.5f * static_cast<float>(magnitude) : std::bit_cast<float>((magnitude << 22) + (126u << 23));
  return std::bit_cast<float>(std::bit_cast<u32>(value) | sign);
}

/// Round to nearest, ties to even, saturating at +-6; NaN becomes 6. Source: OCP Microscaling Formats v1.0, 5.3.3.
constexpr u8 to_e2m1(float value) {
  const u32 bits = std::bit_cast<u32>(value);
  const u8 sign = static_cast<u8>((bits >> 28) & 8u);
  const float size = std::bit_cast<float>(bits & 0x7FFFFFFFu);
  // Halfway between two numbers the one of even code is nearest.
  constexpr std::array<float, 7> kHalfway{0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
  u8 code = 0;
  while (code < 7 && !(code % 2 == 0 ? size <= kHalfway[code] : size < kHalfway[code])) ++code;
  return static_cast<u8>(sign | code);
}

/// Round to nearest, ties to even; NaN stays NaN.
constexpr Bf16 to_bf16(float value) {
  const u32 bits = std::bit_cast<u32>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return {static_cast<u16>((bits >> 16) | 0x40u)};
  return {static_cast<u16>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

/// Round to nearest, ties to even, saturating at +-448 (as the stacks' clamp does); NaN becomes 0x7F.
constexpr E4m3 to_e4m3(float value) {
  const u32 bits = std::bit_cast<u32>(value);
  const u8 sign = static_cast<u8>((bits >> 24) & 0x80u);
  const u32 magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return {0x7F};
  if (magnitude >= 0x43E00000u) return {static_cast<u8>(sign | 0x7Eu)};  // 448 and above
  if (magnitude < 0x3C800000u) {                                         // below 2^-6: subnormal, step 2^-9
    // Adding 1.5 * 2^14 leaves the multiple of 2^-9 in the low mantissa bits, rounded to nearest even.
    const float shifted = std::bit_cast<float>(magnitude) + 24576.0f;
    return {static_cast<u8>(sign | (std::bit_cast<u32>(shifted) & 0xFu))};
  }
  const u32 rounded = magnitude + 0x7FFFFu + ((magnitude >> 20) & 1u);
  const u32 code = (rounded >> 20) - ((127u - 7u) << 3);
  return {static_cast<u8>(sign | (code > 0x7Eu ? 0x7Eu : code))};
}

/// `value` as an element of a tensor.
template <class T>
constexpr T from_float(float value) {
  if constexpr (std::is_same_v<T, Bf16>) {
    return to_bf16(value);
  } else if constexpr (std::is_same_v<T, E4m3>) {
    return to_e4m3(value);
  } else {
    return value;
  }
}

}  // namespace misa
