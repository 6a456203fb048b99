#pragma once

#include <span>
#include <string_view>

#include "core/tensor/dtype.hpp"

namespace misa {

/// How values are stored: the element type, and with FP8 how its scales are chosen.
enum class ValueFormat : u8 {
  f32,
  bf16,
  e4m3,        ///< one f32 scale per vector: amax / 448
  e4m3_ue8m0,  ///< one power-of-two scale per vector: 2^ceil(log2(amax / 448)), as the served models have it
};

/// "f32", "bf16", "e4m3", "e4m3-ue8m0".
std::span<const std::string_view> value_format_names();
std::string_view value_format_name(ValueFormat format);

constexpr bool is_fp8(ValueFormat format) { return format == ValueFormat::e4m3 || format == ValueFormat::e4m3_ue8m0; }
constexpr Dtype element_dtype(ValueFormat format) {
  return is_fp8(format) ? Dtype::e4m3 : format == ValueFormat::bf16 ? Dtype::bf16 : Dtype::f32;
}

/// The scale of a vector whose largest magnitude is `amax`. Magnitudes below 1e-4 count as 1e-4, so the scale is
/// never zero.
/// Source: DeepSeek-V3.2-Exp inference/kernel.py, act_quant. Ours: a division where the kernel multiplies by 1/448,
/// so that an amax of exactly 448 * 2^n gives 2^n.
float e4m3_scale(float amax, ValueFormat format);

/// codes[i] = e4m3(values[i] / scale), nearest, ties to even, saturating at 448. Returns the scale.
///
/// values  [n] f32, finite
/// codes   [n] e4m3, all written
float quantise_e4m3(std::span<const float> values, ValueFormat format, E4m3* codes);

/// codes[i] = bf16(values[i]), nearest, ties to even.
void quantise_bf16(std::span<const float> values, Bf16* codes);

}  // namespace misa
