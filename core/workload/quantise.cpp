#include "core/workload/quantise.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/tensor/vectors.hpp"

namespace misa {
namespace {

constexpr std::array<std::string_view, 6> kNames = {"f32", "bf16", "e4m3", "e4m3-ue8m0", "int8", "mxfp4"};

constexpr float kLargest = 448.0f;
constexpr float kSmallestAmax = 1e-4f;

/// 2^ceil(log2(x)) of a normal positive x: one exponent up unless the mantissa is zero.
float next_power_of_two(float x) {
  const u32 bits = std::bit_cast<u32>(x);
  return std::bit_cast<float>((bits + 0x7FFFFFu) & 0x7F800000u);
}

}  // namespace

std::span<const std::string_view> value_format_names() { return kNames; }

std::string_view value_format_name(ValueFormat format) { return kNames[static_cast<std::size_t>(format)]; }

float e4m3_scale(float amax, ValueFormat format) {
  const float scale = std::max(amax, kSmallestAmax) / kLargest;
  return format == ValueFormat::e4m3_ue8m0 ? next_power_of_two(scale) : scale;
}

float quantise_e4m3(std::span<const float> values, ValueFormat format, E4m3* codes) {
  float amax = 0;
  for (float value : values) amax = std::max(amax, std::abs(value));
  const float scale = e4m3_scale(amax, format);
  for (std::size_t i = 0; i < values.size(); ++i) codes[i] = to_e4m3(values[i] / scale);
  return scale;
}

float quantise_int8(std::span<const float> values, i8* codes) {
  constexpr float kMost = 127.0f;
  float amax = kSmallestAmax;
  for (float value : values) amax = std::max(amax, std::abs(value));
  const float scale = amax / kMost;
  for (std::size_t i = 0; i < values.size(); ++i) {
    codes[i] = static_cast<i8>(std::clamp(std::nearbyint(values[i] / scale), -kMost, kMost));
  }
  return scale;
}

void quantise_mxfp4(std::span<const float> values, u8* codes, u8* scales) {
  constexpr float kMost = 6.0f;
  constexpr u8 kOne = 127, kNan = 255;
  constexpr auto kBlock = static_cast<std::size_t>(Mxfp4::kBlock);
  std::fill_n(scales, 4 * Mxfp4::scale_words(static_cast<i64>(values.size())), kOne);
  for (std::size_t first = 0; first < values.size(); first += kBlock) {
    float amax = kSmallestAmax;
    bool finite = true;
    for (const float value : values.subspan(first, kBlock)) {
      amax = std::max(amax, std::abs(value));
      finite = finite && std::isfinite(value);
    }
    const float scale = next_power_of_two(amax / kMost);
    scales[first / kBlock] = finite ? static_cast<u8>(std::bit_cast<u32>(scale) >> 23) : kNan;
    for (std::size_t i = first; i < first + kBlock; i += 2) {
      codes[i / 2] = static_cast<u8>(to_e2m1(values[i] / scale) | to_e2m1(values[i + 1] / scale) << 4);
    }
  }
}

void quantise_bf16(std::span<const float> values, Bf16* codes) {
  std::transform(values.begin(), values.end(), codes, [](float value) { return to_bf16(value); });
}

void quantise(std::span<const float> values, ValueFormat format, std::byte* to, std::byte* scales) {
  const auto store_scale = [&](float scale) { std::memcpy(scales, &scale, sizeof scale); };
  switch (format) {
    case ValueFormat::f32: std::memcpy(to, values.data(), values.size_bytes()); return;
    case ValueFormat::bf16: quantise_bf16(values, reinterpret_cast<Bf16*>(to)); return;
    case ValueFormat::e4m3:
    case ValueFormat::e4m3_ue8m0: store_scale(quantise_e4m3(values, format, reinterpret_cast<E4m3*>(to))); return;
    case ValueFormat::int8: store_scale(quantise_int8(values, reinterpret_cast<i8*>(to))); return;
    case ValueFormat::mxfp4: quantise_mxfp4(values, reinterpret_cast<u8*>(to), reinterpret_cast<u8*>(scales)); return;
  }
}

}  // namespace misa
