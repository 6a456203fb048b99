#pragma once

#include "backends/cuda/ptx/ptx.cuh"
#include "core/base/types.hpp"

// The order of scores and of heads' costs as integers. tests/simt checks it on the host.

namespace misa::cuda {

constexpr u32 kLowest = 0x007fffffu, kHighest = 0xff800000u;  // the ranks of -inf and inf

/// Returns a rank: larger is better; equal scores have equal ranks; NaN is 0.
__device__ inline u32 rank_of(float score) {
  const u32 bits = __float_as_uint(score + 0.0f);  // -0 becomes 0
  const u32 sign = static_cast<u32>(static_cast<i32>(bits) >> 31);
  return isnan(score) ? 0 : bits ^ (sign | 0x80000000u);
}

/// Returns the score of a rank from kLowest to kHighest.
__device__ inline float score_of(u32 rank) {
  return __uint_as_float((rank & 0x80000000u) != 0 ? rank & 0x7fffffffu : ~rank);
}

/// Returns the rank next below `rank`, which is above kLowest. The number below the rank of 0 is no score's rank: it
/// would be that of -0, which equals 0.
__device__ inline u32 rank_below(u32 rank) { return rank == 0x80000000u ? rank - 2 : rank - 1; }

/// Returns a word whose highest bit is set exactly where `score` is above `threshold`, the score_of a rank: the
/// difference is negative there, and the device's NaN results have the sign bit clear.
__device__ inline u32 above_bit(float score, float threshold) { return __float_as_uint(threshold - score); }

constexpr i32 kDropped = 0x7fffffff;  // after every number and NaN

/// Returns the order of a head's cost on the shortlist: lower first, -0 equals 0, and NaN, the result of sums outside
/// of f32's range, by its sign. Never returns kDropped, which the device's NaN would be.
__device__ inline i32 order_of_cost(float cost) {
  const i32 bits = static_cast<i32>(__float_as_uint(cost + 0.0f)), order = bits ^ (bits >> 31 & 0x7fffffff);
  return min(order, kDropped - 1);
}

}  // namespace misa::cuda
