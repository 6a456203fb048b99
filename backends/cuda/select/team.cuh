#pragma once

#include "backends/cuda/ptx/ptx.cuh"
#include "core/base/types.hpp"

// Warps that work on one row together: sums over them, and the k-th best of what they have by histograms.

namespace misa::cuda::topk {

constexpr int kBins = 2048;
constexpr u32 kWarp = 0xffffffffu;

/// Threads with a barrier of their own, whole warps.
template <int kSize>
struct Team {
  static constexpr int kThreads = kSize, kWarps = kSize / 32;
  int thread, barrier;
  __device__ void sync() const { group_barrier(barrier, kSize); }
};

/// What a team counts in.
struct Counters {
  alignas(16) unsigned histogram[kBins];  ///< zeros between selections
  unsigned warp_sums[32];
  u32 highest, lowest;
  int count, digit, wanted, inside, first, last;
};

/// Sum of `value` over the lanes up to this one.
__device__ inline int scan_warp(int value) {
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    asm volatile(
        "{\n.reg .pred inside;\n.reg .s32 before;\nshfl.sync.up.b32 before|inside, %0, %1, 0, 0xffffffff;\n"
        "@inside add.s32 %0, %0, before;\n}"
        : "+r"(value)
        : "r"(step));
  }
  return value;
}

/// Sum of `value` over the threads before this one; `total` over all. A barrier within; the next scan wants another
/// before it.
template <int kSize>
__device__ unsigned scan(const Team<kSize>& team, Counters& shared, unsigned value, unsigned& total) {
  const int lane = team.thread % 32, warp = team.thread / 32;
  const unsigned sum = static_cast<unsigned>(scan_warp(static_cast<int>(value)));
  if (lane == 31) shared.warp_sums[warp] = sum;
  team.sync();
  const unsigned others = lane < team.kWarps ? shared.warp_sums[lane] : 0;
  const unsigned before = __reduce_add_sync(kWarp, lane < warp ? others : 0);
  total = __reduce_add_sync(kWarp, others);
  return before + sum - value;
}

/// Reads a histogram, leaves zeros there, and calls `visit` with each digit, how many keys have higher ones, and how
/// many have it. The histogram is complete at a barrier before it.
template <int kSize, class Visit>
__device__ __forceinline__ void read_histogram(const Team<kSize>& team, Counters& shared, const Visit& visit) {
  constexpr int kEach = kBins / kSize;
  const int best = kBins - 1 - kEach * team.thread;
  unsigned here[kEach], mine = 0, total = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    here[i] = shared.histogram[best - i];
    shared.histogram[best - i] = 0;
    mine += here[i];
  }
  unsigned above = scan(team, shared, mine, total);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    visit(best - i, static_cast<int>(above), static_cast<int>(here[i]));
    above += here[i];
  }
}

/// Reads a histogram and leaves zeros there. The digit that `wanted` keys reach if those of higher digits are counted
/// too goes to shared.digit, how many of its own are wanted then to shared.wanted, and how many it has to
/// shared.inside. The results are there after another barrier.
template <int kSize>
__device__ __forceinline__ void find_digit(const Team<kSize>& team, Counters& shared, int wanted) {
  read_histogram(team, shared, [&](int digit, int above, int here) {
    if (above < wanted && wanted <= above + here) {
      shared.digit = digit;
      shared.wanted = wanted - above;
      shared.inside = here;
    }
  });
}

/// A key that exactly `wanted` keys reach, 1 <= wanted <= all; `tied` when more reach it, for they equal it.
/// `each(visit)` visits the keys of a thread. Keys differ in their upper 32 bits first.
template <class Key, int kSize, class Each>
__device__ Key kth_best(const Team<kSize>& team, Counters& shared, const Each& each, int wanted, bool& tied) {
  constexpr int kBits = 8 * sizeof(Key);
  if (team.thread == 0) {
    shared.highest = 0;
    shared.lowest = 0xffffffffu;
  }
  team.sync();
  u32 highest = 0, lowest = 0xffffffffu;
  each([&](Key key) {
    const u32 upper = static_cast<u32>(key >> (kBits - 32));
    highest = max(highest, upper);
    lowest = min(lowest, upper);
  });
  highest = __reduce_max_sync(kWarp, highest);
  lowest = __reduce_min_sync(kWarp, lowest);
  if (team.thread % 32 == 0) {
    atomicMax(&shared.highest, highest);
    atomicMin(&shared.lowest, lowest);
  }
  team.sync();
  // Keys differ in no bit above `top`.
  const Key base = static_cast<Key>(shared.lowest) << (kBits - 32);
  int top = kBits - __clz(static_cast<int>(shared.highest - shared.lowest));
  Key prefix = 0;
  for (;;) {
    const int shift = max(0, top - 11);
    each([&](Key key) {
      key -= base;
      if (top >= kBits || key >> top == prefix) atomicAdd(&shared.histogram[(key >> shift) & (kBins - 1)], 1u);
    });
    team.sync();
    find_digit(team, shared, wanted);
    team.sync();
    prefix = (top >= kBits ? 0 : prefix << (top - shift)) | static_cast<Key>(shared.digit);
    wanted = shared.wanted;
    tied = shared.inside != wanted;
    if (!tied || shift == 0) return base + (prefix << shift);
    top = shift;
  }
}

}  // namespace misa::cuda::topk
