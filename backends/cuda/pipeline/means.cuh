#pragma once

#include <cuda_fp16.h>

#include "backends/cuda/ptx/warp.cuh"
#include "core/base/types.hpp"

// Block means, f32, as the f16 operands of tensor cores.

namespace misa::cuda {

/// A power of two; the largest of some numbers divided by it is between 1 and 2. Infinities and NaN are not changed by
/// the division.
struct Scale {
  float value, inverse;
};

__device__ inline Scale scale_for(u32 largest_bits) {
  const int exponent = max(-120, min(120, static_cast<int>(largest_bits >> 23) - 127));
  return {__uint_as_float(static_cast<u32>(127 + exponent) << 23),
          __uint_as_float(static_cast<u32>(127 - exponent) << 23)};
}

/// Four consecutive dimensions of a mean divided by `scale`.
struct ScaledMean {
  float scale;
  __half2 low, high;
};

/// Scales a mean, four dimensions a lane; by a whole warp.
__device__ inline ScaledMean scale_mean(const float4& four) {
  const float largest = fmaxf(fmaxf(fabsf(four.x), fabsf(four.y)), fmaxf(fabsf(four.z), fabsf(four.w)));
  const auto [scale, inverse] = scale_for(__reduce_max_sync(kFullWarp, __float_as_uint(largest)));
  return {scale, __floats2half2_rn(four.x * inverse, four.y * inverse),
          __floats2half2_rn(four.z * inverse, four.w * inverse)};
}

}  // namespace misa::cuda
