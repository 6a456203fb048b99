#pragma once

#include "backends/cuda/ptx/ptx.cuh"

// What the lanes of a warp do together.

namespace misa::cuda {

constexpr u32 kFullWarp = 0xffffffffu;  ///< the mask of all lanes

/// The sum over the four lanes whose numbers differ in their lowest two bits, in all of them.
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(kFullWarp, x, 1);
  return x + __shfl_xor_sync(kFullWarp, x, 2);
}

/// Their maximum.
__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFullWarp, x, 2));
}

}  // namespace misa::cuda
