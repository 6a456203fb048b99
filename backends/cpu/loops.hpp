#pragma once

#include <span>

#include "core/tensor/dtype.hpp"

namespace misa::cpu {

/// The loops in which the backend spends its time beside the matrix product, as the compiler makes them of plain code
/// for one level of vector instructions. All levels give the same numbers, but for the last bit of sums in f64, whose
/// products may be fused.
struct Loops {
  const char* level;  ///< for people: "AVX-512"

  /// out[i] = in[i], exactly.
  void (*e4m3_to_bf16)(const E4m3* in, i64 count, Bf16* out);
  void (*e4m3_to_f32)(const E4m3* in, i64 count, float* out);
  void (*bf16_to_f32)(const Bf16* in, i64 count, float* out);
  void (*int8_to_bf16)(const i8* in, i64 count, Bf16* out);
  void (*int8_to_f32)(const i8* in, i64 count, float* out);
  /// The same of one MXFP4 vector of `dim` numbers (core/tensor/vectors.hpp).
  void (*mxfp4_to_bf16)(const u8* codes, const u8* scales, i64 dim, Bf16* out);
  void (*mxfp4_to_f32)(const u8* codes, const u8* scales, i64 dim, float* out);

  /// sum[d] += scales[t] * keys[t, d] in f64, for t = 0, 1, ..., count - 1. keys [count, dim], sum [dim]
  void (*add_keys)(const float* keys, i64 count, i64 dim, const float* scales, double* sum);

  /// out[c - from] = scales[c] * sum over h of weights[h] * relu(products[h * stride + c]) for c in [from, to). Sums in
  /// f64, in the order of h, so that the order of heads does not show in f32; NaN stays NaN. `products` and `scales`
  /// can be read up to the next multiple of 64 after `to`.
  void (*weigh_heads)(const float* products, i64 stride, const float* weights, i64 heads, const float* scales, i64 from,
                      i64 to, float* out);

  /// Copies the numbers of in[0..count) above `bound` and their places, in order, and returns how many there are; NaN
  /// never is. `values` and `places` have room for `count`.
  i64 (*keep_above)(const float* in, i64 count, float bound, float* values, i32* places);
  /// How many of in[0..count) are `least` or more; NaN is not.
  i64 (*count_from)(const float* in, i64 count, float least);
};

/// The loops for the instructions that this processor has.
const Loops& loops();

/// Every level that this processor can run, for tests; the first is loops().
std::span<const Loops* const> all_loops();

}  // namespace misa::cpu
