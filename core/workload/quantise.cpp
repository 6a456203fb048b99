#include "core/workload/quantise.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace misa {
namespace {

constexpr std::array<std::string_view, 4> kNames = {"f32", "bf16", "e4m3", "e4m3-ue8m0"};

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

void quantise_bf16(std::span<const float> values, Bf16* codes) {
  std::transform(values.begin(), values.end(), codes, [](float value) { return to_bf16(value); });
}

}  // namespace misa
