#pragma once

#include <type_traits>

#include "backends/cuda/pipeline/keys.cuh"
#include "backends/cuda/ptx/warp.cuh"

namespace misa::cuda {

/// Sums one query's heads where the MMA result spreads them over four lanes: head 8 i + 2 c + e is with the lanes whose
/// number is c modulo 4. The sum has the order of score_tile.cu. H: heads, rounded up; the missing ones have weight 0.
/// T: the queries' elements. Dots of bf16 may be infinite, and their relu is a maximum; those of FP8 are not: see
/// twice_relu.
template <int H, class T = E4m3>
class SpreadHeads {
  static constexpr bool kFinite = std::is_same_v<T, E4m3>;

 public:
  SpreadHeads() = default;
  __device__ SpreadHeads(const View<const float, 2>& weights, i64 m) {
    const int heads = static_cast<int>(weights.shape[1]), quad = static_cast<int>(threadIdx.x % 4);
#pragma unroll
    for (int i = 0; i < H / 4; ++i) {
      const int head = i / 2 * 8 + 2 * quad + i % 2;
      weights_[i] = head < heads ? (kFinite ? 0.5f : 1.0f) * weights(m, head) : 0.0f;
    }
  }

  /// Returns this lane's part of the sum of weight * relu(dot) of row l / 4 + 8 r, l the lane. `first`: the index of
  /// the first head's column.
  template <int N>
  __device__ float partial(const float (&dots)[N], int first, int r) const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < H / 4; ++i) {
      const float dot = dots[first + i / 2 * 4 + 2 * r + i % 2], x = kFinite ? twice_relu(dot) : relu(dot);
      sum = i == 0 ? __fmul_rn(weights_[i], x) : __fmaf_rn(weights_[i], x, sum);
    }
    return sum;
  }

  /// Returns the sum, in all four lanes.
  __device__ float sum(const float (&dots)[H / 2], int r) const {
    float sum = partial(dots, 0, r);
    sum = __fadd_rn(sum, __shfl_xor_sync(kFullWarp, sum, 1));
    return __fadd_rn(sum, __shfl_xor_sync(kFullWarp, sum, 2));
  }

 private:
  float weights_[H / 4];
};

/// Sums the heads of eight bf16 queries whose head h of query c is column 8 h + c: lane l has all heads of queries 2 (l
/// % 4) + {0, 1}. The sum has the same order.
template <int H>
class GroupedHeads {
 public:
  GroupedHeads() = default;
  /// Reads the weights of queries m and on.
  __device__ GroupedHeads(const View<const float, 2>& weights, i64 m) {
    const int heads = static_cast<int>(weights.shape[1]), quad = static_cast<int>(threadIdx.x % 4);
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const i64 row = min(m + 2 * quad + e, weights.shape[0] - 1);
#pragma unroll
      for (int h = 0; h < H; ++h) weights_[e][h] = h < heads ? weights(row, h) : 0.0f;
    }
  }

  /// Returns the sum of weight * relu(dot) of query 2 (l % 4) + e and row l / 4 + 8 r. `first`: the index of the
  /// group's first column.
  template <int N>
  __device__ float sum(const float (&dots)[N], int first, int e, int r) const {
    float partial[4];
#pragma unroll
    for (int h = 0; h < H; ++h) {
      const float x = relu(dots[first + 4 * h + 2 * r + e]);
      float& p = partial[h / 2 % 4];
      p = h < 8 && h % 2 == 0 ? __fmul_rn(weights_[e][h], x) : __fmaf_rn(weights_[e][h], x, p);
    }
    return __fadd_rn(__fadd_rn(partial[0], partial[1]), __fadd_rn(partial[2], partial[3]));
  }

 private:
  float weights_[2][H];
};

/// Adds four partial sums [query][r] over four lanes at once, in the same order: lane c gets r = c % 2 of query c / 2.
__device__ inline float sum_partials(const float (&partial)[2][2]) {
  const bool odd = threadIdx.x % 2 != 0, upper = threadIdx.x % 4 >= 2;
  float sum[2];
#pragma unroll
  for (int query = 0; query < 2; ++query) {
    const float kept = odd ? partial[query][1] : partial[query][0], given = odd ? partial[query][0] : partial[query][1];
    sum[query] = __fadd_rn(kept, __shfl_xor_sync(kFullWarp, given, 1));
  }
  return __fadd_rn(upper ? sum[1] : sum[0], __shfl_xor_sync(kFullWarp, upper ? sum[0] : sum[1], 2));
}

}  // namespace misa::cuda
