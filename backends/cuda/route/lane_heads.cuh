#pragma once

#include "backends/cuda/pipeline/f16_operands.cuh"
#include "backends/cuda/route/route_samples.cuh"

// The two heads of a row that a lane of route_samples_tile.cu has.

namespace misa::cuda {

constexpr int kDim = 128, kMostHeads = 64;
constexpr int kWarps = 4, kHeadsOfWarp = kMostHeads / kWarps;  ///< of a row

/// A lane's first reads of a row: dimensions 32 (l % 4) + [0, 32) of the queries of its two heads, l / 4 and l / 4 + 8
/// of its warp's, and the weights of heads l and l + 32. Heads that the row lacks have weight 0.
template <class Q>
struct Fetched {
  static constexpr int kWords = 2 * sizeof(Q);
  uint4 words[2][kWords];
  float weights[kMostHeads / 32];

  __device__ void read(const SampledTask<Q>& task, int m, const Group& group) {
    const int heads = static_cast<int>(task.queries.shape[1]), head = kHeadsOfWarp * group.warp + group.lane / 4;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const Q* query = &task.queries(m, min(head + 8 * r, heads - 1), 32 * (group.lane % 4));
#pragma unroll
      for (int w = 0; w < kWords; ++w) words[r][w] = reinterpret_cast<const uint4*>(query)[w];
    }
#pragma unroll
    for (int i = 0; i < kMostHeads / 32; ++i) {
      const int h = group.lane + 32 * i;
      weights[i] = h < heads ? task.weights(m, h) : 0.0f;
    }
  }
};

/// A lane's heads. Queries are operands of the tensor cores, 0 where not all are finite: e4m3 exactly, bf16 divided by
/// a power of two, by which `scaled_weights` are multiplied instead.
struct Own {
  u32 queries[8][4];
  float scales[2], weights[2], scaled_weights[2];

  template <class Q>
  __device__ Own(const Fetched<Q>& fetched, const Group& group) {
    u32 largest = 0;
    float mine = 0;  // weights[] of the warp's heads, which are in one word
#pragma unroll
    for (int i = 0; i < kMostHeads / 32; ++i) {
      largest = max(largest, __float_as_uint(fabsf(finite_or_0(fetched.weights[i]))));
      mine = group.warp / 2 == i ? fetched.weights[i] : mine;
    }
    const float inverse = scale_for(__reduce_max_sync(kFullWarp, largest)).inverse;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      weights[r] = __shfl_sync(kFullWarp, mine, group.warp % 2 * kHeadsOfWarp + group.lane / 4 + 8 * r);
      scales[r] = set_query(queries, r, fetched.words[r]);
      scaled_weights[r] = finite_or_0(weights[r]) * inverse * scales[r];
      drop_unless_finite<Q>(r, fetched.words[r]);
    }
  }

 private:
  /// Sets bits where a number is not finite: its exponent, or in e4m3 all but the sign, is all ones.
  __device__ static u32 odd_bits(u32 word, const E4m3*) { return ((word & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u; }
  __device__ static u32 odd_bits(u32 word, const Bf16*) { return ((word & 0x7fff7fffu) + 0x00800080u) & 0x80008000u; }

  template <class Q>
  __device__ void drop_unless_finite(int r, const uint4 (&words)[Fetched<Q>::kWords]) {
    const Q* type = nullptr;
    u32 odd = 0;
#pragma unroll
    for (const uint4& four : words) {
      odd |= odd_bits(four.x, type) | odd_bits(four.y, type) | odd_bits(four.z, type) | odd_bits(four.w, type);
    }
    if (__ballot_sync(kFullWarp, odd != 0) == 0) return;
    odd |= __shfl_xor_sync(kFullWarp, odd, 1);
    odd |= __shfl_xor_sync(kFullWarp, odd, 2);
#pragma unroll
    for (int at = 0; at < 16; ++at) {
      u32& two = queries[at / 2][at % 2 * 2 + r];
      two = odd != 0 ? 0 : two;
    }
  }
};

}  // namespace misa::cuda
