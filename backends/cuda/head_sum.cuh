#pragma once

#include "backends/cuda/keys.cuh"

namespace misa::cuda {

/// The heads of one query as a tensor core's result holds them: head 8 i + 2 c + e with the lanes whose number is c
/// modulo 4. Their sum has the order of score_tile.cu. H: heads, rounded up; the missing ones have weight 0.
template <int H>
class SpreadHeads {
 public:
  __device__ SpreadHeads(const View<const float, 2>& weights, i64 m) {
    const int heads = static_cast<int>(weights.shape[1]), quad = static_cast<int>(threadIdx.x % 4);
#pragma unroll
    for (int i = 0; i < H / 4; ++i) {
      const int head = i / 2 * 8 + 2 * quad + i % 2;
      halves_[i] = head < heads ? 0.5f * weights(m, head) : 0.0f;  // see twice_relu
    }
  }

  /// Sum of weight * relu(dot) of row l / 4 + 8 r, l the lane; in all four lanes.
  __device__ float sum(const float (&dots)[H / 2], int r) const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < H / 4; ++i) {
      const float x = twice_relu(dots[i / 2 * 4 + 2 * r + i % 2]);
      sum = i == 0 ? __fmul_rn(halves_[i], x) : __fmaf_rn(halves_[i], x, sum);
    }
    sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, 1));
    return __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, 2));
  }

 private:
  float halves_[H / 4];
};

}  // namespace misa::cuda
