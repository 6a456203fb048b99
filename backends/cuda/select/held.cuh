#pragma once

#include "backends/cuda/pipeline/rank.cuh"
#include "backends/cuda/select/team.cuh"

// Columns that a team has in registers, and what of them is selected: histograms of digits of their ranks find the k-th
// best; a bit for each column and one sum over the threads put what reaches it in its place.

namespace misa::cuda::topk {

/// What exceeds `key` is selected, and of what equals it all or, if `tied`, the first `wanted`.
struct Cut {
  u32 key;
  int wanted;
  bool tied;
};

constexpr int kRounds = 3;  ///< digits of 11, 11 and 10 bits

template <int kSize, int kEach>
struct Held {
  static constexpr int kVectors = kEach / 4;

  Team<kSize> team;
  int turn, first;   ///< a thread starts with another vector than its neighbours, so that a warp reads from all banks
  int own;           ///< how many of the thread's columns are seen
  u32 ranks[kEach];  ///< 0, that of NaN, also of columns that are not seen
  u32 taken = 0, same = 0;

  __device__ __forceinline__ explicit Held(int thread)
      : team{thread, 0}, turn(thread * kVectors / 8 % kVectors), first(kEach * thread) {}

  /// Takes the team's columns, of which `count` are seen.
  __device__ __forceinline__ void load(const float4* columns, int count) {
    own = min(kEach, max(0, count - first));
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      const float4 four = columns[kVectors * team.thread + (i + turn) % kVectors];
      ranks[4 * i] = rank_of(four.x);
      ranks[4 * i + 1] = rank_of(four.y);
      ranks[4 * i + 2] = rank_of(four.z);
      ranks[4 * i + 3] = rank_of(four.w);
    }
    if (own == kEach) return;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if ((i / 4 + turn) % kVectors * 4 + i % 4 >= own) ranks[i] = 0;
    }
  }

  /// Counts the digits of those that agree with `cut` in the digits of earlier rounds.
  __device__ __forceinline__ void count(Counters& shared, int round, const Cut& cut) const {
    const int top = round == 0 ? 32 : round == 1 ? 21 : 10, shift = round == 0 ? 21 : round == 1 ? 10 : 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (round == 0 || ranks[i] >> top % 32 == cut.key >> top % 32) {
        atomicAdd(&shared.histogram[ranks[i] >> shift & ((1 << (top - shift)) - 1)], 1u);
      }
    }
  }

  /// Adds a round's digit, which find_digit() found.
  __device__ __forceinline__ void narrow(const Counters& shared, int round, Cut& cut) const {
    cut.key |= static_cast<u32>(shared.digit) << (round == 0 ? 21 : round == 1 ? 10 : 0);
    cut.wanted = shared.wanted;
    cut.tied = shared.inside != cut.wanted;
  }

  /// Marks all that is seen.
  __device__ __forceinline__ void take_all() {
    taken = own == 0 ? 0 : 0xffffffffu >> (32 - own);
    same = 0;
  }

  /// Marks what is above the cut, and apart from it what is tied.
  __device__ __forceinline__ void take(const Cut& cut) {
    const auto in_order = [&](u32 bits) {
      if (kEach == 32) return __funnelshift_l(bits, bits, 4 * turn);
      return (bits << 4 * turn | bits >> (kEach - 4 * turn)) & ((1u << kEach % 32) - 1);
    };
    u32 reach = 0, equal = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) reach |= ranks[i] >= cut.key ? 1u << i : 0;
    if (cut.tied) {
#pragma unroll
      for (int i = 0; i < kEach; ++i) equal |= ranks[i] == cut.key ? 1u << i : 0;
    }
    taken = in_order(reach ^ equal);
    same = own == 0 ? 0 : in_order(equal) & 0xffffffffu >> (32 - own);
  }

  /// How many columns are taken, and from bit 16 on how many are tied.
  __device__ __forceinline__ unsigned counts() const {
    return static_cast<unsigned>(__popc(taken) | __popc(same) << 16);
  }

  /// Writes what is selected, in order; `before` are taken before the thread's and `ties` tied.
  __device__ __forceinline__ void write(const Cut& cut, int before, int ties, int from, i32* selected) {
    int place = before + min(ties, cut.wanted);
    for (; same != 0 && ties < cut.wanted; ++ties, same &= same - 1) taken |= same & (0u - same);
    for (; taken != 0; taken &= taken - 1) selected[place++] = from + first + __ffs(static_cast<int>(taken)) - 1;
  }
};

}  // namespace misa::cuda::topk
