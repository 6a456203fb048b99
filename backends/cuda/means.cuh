#pragma once

#include <cuda_fp16.h>

#include "core/base/types.hpp"

// Block means, f32, as the f16 operands of tensor cores.

namespace misa::cuda {

/// Four consecutive dimensions of a mean divided by `scale`.
struct ScaledMean {
  float scale;
  __half2 low, high;
};

/// By a whole warp, four dimensions a lane. The scale is the power of two that takes the largest to 1 to 2; infinities
/// and NaN stay what they are.
__device__ inline ScaledMean scale_mean(const float4& four) {
  const float largest = fmaxf(fmaxf(fabsf(four.x), fabsf(four.y)), fmaxf(fabsf(four.z), fabsf(four.w)));
  const u32 most = __reduce_max_sync(0xffffffffu, __float_as_uint(largest));
  const int exponent = max(-120, min(120, static_cast<int>(most >> 23) - 127));
  const float inverse = __uint_as_float(static_cast<u32>(127 - exponent) << 23);
  return {__uint_as_float(static_cast<u32>(127 + exponent) << 23),
          __floats2half2_rn(four.x * inverse, four.y * inverse), __floats2half2_rn(four.z * inverse, four.w * inverse)};
}

}  // namespace misa::cuda
