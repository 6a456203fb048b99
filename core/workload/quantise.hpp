#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "core/tensor/dtype.hpp"

namespace misa {

/// How values are stored: the element type, and how its scales are chosen.
enum class ValueFormat : u8 {
  f32,
  bf16,
  e4m3,        ///< one f32 scale per vector: amax / 448
  e4m3_ue8m0,  ///< one power-of-two scale per vector: 2^ceil(log2(amax / 448)), as the served models have it
  int8,        ///< one f32 scale per vector: amax / 127
  mxfp4,       ///< e2m1, one power-of-two scale for every 32 numbers: 2^ceil(log2(amax / 6))
};

/// "f32", "bf16", "e4m3", "e4m3-ue8m0", "int8", "mxfp4".
std::span<const std::string_view> value_format_names();
std::string_view value_format_name(ValueFormat format);

constexpr Dtype element_dtype(ValueFormat format) {
  switch (format) {
    case ValueFormat::f32: return Dtype::f32;
    case ValueFormat::bf16: return Dtype::bf16;
    case ValueFormat::int8: return Dtype::int8;
    case ValueFormat::mxfp4: return Dtype::e2m1;
    default: return Dtype::e4m3;
  }
}
/// Whether each vector has a scale of its own, by which queries' weights are multiplied.
constexpr bool has_vector_scale(ValueFormat format) {
  return element_dtype(format) == Dtype::e4m3 || format == ValueFormat::int8;
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

/// codes[i] = the nearest whole number to values[i] / scale, ties to even, from -127 to 127; scale = amax / 127, of
/// magnitudes below 1e-4 as if they were 1e-4. Returns the scale. Source: ours; symmetric, as kernels of INT8 indexers
/// have it (npu_quant_lightning_indexer of CANN).
///
/// values  [n] f32, finite
/// codes   [n], all written
float quantise_int8(std::span<const float> values, i8* codes);

/// MXFP4: numbers[i] = e2m1(values[i] / scale of its 32), nearest, ties to even, saturating at 6; scale = 2^ceil(log2(
/// amax / 6)), amax of at least 1e-4. A block that holds a number which is not finite gets the scale NaN.
/// Source: DeepGEMM, deep_gemm/utils/math.py, per_token_cast_to_fp4, with use_ue8m0; where it rounds ties towards 0 we
/// round as OCP and the processors' instruction do.
///
/// values  [n] f32, n a multiple of 32
/// codes   [n / 2] two numbers a byte, the first in the lower four bits
/// scales  [4 * scale_words(n)] UE8M0; those beyond n / 32 become 2^0
void quantise_mxfp4(std::span<const float> values, u8* codes, u8* scales);

/// codes[i] = bf16(values[i]), nearest, ties to even.
void quantise_bf16(std::span<const float> values, Bf16* codes);

/// One vector in `format` to its place, and its scale or its blocks' scales, where it has any, to `scales`.
void quantise(std::span<const float> values, ValueFormat format, std::byte* to, std::byte* scales);

}  // namespace misa
