#pragma once

#include <type_traits>

#include "backends/cuda/pipeline/keys.cuh"
#include "backends/cuda/pipeline/means.cuh"
#include "backends/cuda/pipeline/rank.cuh"
#include "backends/cuda/ptx/warp.cuh"
#include "backends/cuda/route/sampled_layout.hpp"
#include "core/indexer/backend.hpp"
#include "core/indexer/linear_head.hpp"
#include "core/indexer/routing.hpp"

// What the kernels share that route by sampled keys; formulas: core/indexer/linear_head.hpp. They differ in where a
// row's dot products lie.

namespace misa::cuda {

/// A RankGatherTask without its variants, or a RankTask.
template <class Q>
struct SampledTask {
  Vectors<Q> queries;
  View<const float, 2> weights, keys;  ///< keys: [P, D]
  Windows windows;
  View<i32, 2> heads;
  View<double, 2> energies;  ///< without data: not asked for
  View<double, 2> slopes;    ///< of a linear head where nothing is gathered
  Routed<Q>* values;         ///< null: nothing is gathered
  View<float, 2> routed_weights;
  bool linear;
  int kept;       ///< heads of a row
  int shortlist;  ///< router covariance, else 0
  int samples;    ///< most of a row

  __host__ __device__ bool covariance() const { return shortlist > 0; }
  __device__ bool gathers() const { return values != nullptr; }
};

/// Calls `body` with the task as a SampledTask of the queries' elements. Without `gather` nothing is gathered.
template <class Body>
auto with_sampled_task(const RankTask& rank, const GatherTask* gather, const Body& body) {
  const auto& sampled = std::get<View<const float, 3>>(rank.keys.values);
  const i64 kept = rank.heads.shape[1];
  const i64 shortlist = rank.router == Router::covariance ? shortlist_size(heads_of(rank.queries), kept) : 0;
  return std::visit(
      [&](const auto& queries) {
        using Q = Element<decltype(queries)>;
        using Batch = Routed<Q>;
        SampledTask<Q> task{
            .queries = queries,
            .weights = rank.queries.weights,
            .keys = {sampled.data, {sampled.shape[1], sampled.shape[2]}, {sampled.stride[1], sampled.stride[2]}},
            .windows = rank.windows,
            .heads = rank.heads,
            .energies = rank.energies,
            .slopes = rank.slopes,
            .values = nullptr,
            .routed_weights = {},
            .linear = !rank.slopes.empty(),
            .kept = static_cast<int>(kept),
            .shortlist = static_cast<int>(shortlist),
            .samples = static_cast<int>(rank.samples)};
        if (gather != nullptr) {
          // The batch is the task's output; its views are const because a routed query is read as any query.
          task.values = const_cast<Batch*>(std::get<View<const Batch, 3>>(gather->values).data);
          task.routed_weights = gather->weights;
          task.slopes = {};  // the linear head is made at once
        }
        return body(task);
      },
      rank.queries.values);
}

/// Warps that take a row; they follow one another in the block.
struct Group {
  int barrier, warps, warp, lane;

  __device__ int threads() const { return 32 * warps; }
  __device__ int thread() const { return 32 * warp + lane; }
  __device__ void sync() const { group_barrier(barrier, threads()); }
};

__device__ inline float finite_or_0(float x) { return isfinite(x) ? x : 0.0f; }

/// Sums Count numbers at once, a power of two, over the lanes of a warp that differ in the bits 16 to Last. In each
/// step a lane gives half of its numbers and keeps the other half. It is left with a few sums, x[0] on: of the Count
/// numbers those from (l / Last) * Count * Last / 32 on, or one of them.
template <int Last, int Count, int Half = Count / 2, int Step = 16>
__device__ void spread_sum(float (&x)[Count]) {
  if constexpr (Half > 0) {
    const bool upper = (threadIdx.x & Step) != 0;
#pragma unroll
    for (int i = 0; i < Half; ++i) {
      const float given = upper ? x[i] : x[Half + i];
      x[i] = (upper ? x[Half + i] : x[i]) + __shfl_xor_sync(kFullWarp, given, Step);
    }
  } else {
    x[0] += __shfl_xor_sync(kFullWarp, x[0], Step);
  }
  if constexpr (Step > Last) spread_sum<Last, Count, Half / 2, Step / 2>(x);
}

/// Returns a rank that is not 0; 0 means that there is none.
__device__ inline u32 rank_from_1(float score) { return max(1u, rank_of(score)); }

/// Finds the `most` highest of a warp's ranks, and of equal ones the lower index. Item j of lane l has index 32 j + l;
/// rank 0 means that there is none.
template <int OfLane>
__device__ void find_highest(const u32 (&ranks)[OfLane], int most, bool (&is_in)[OfLane]) {
  constexpr int kBits = 10;  // of a count, up to 1023
  static_assert(32 * OfLane < 1 << kBits);
  /// Counts the ranks above each of three limits.
  const auto count_above = [&](u32 one, u32 two, u32 three) {
    u32 counts = 0;
#pragma unroll
    for (const u32 rank : ranks) {
      counts += (rank > one ? 1 : 0) + (rank > two ? 1 << kBits : 0) + (rank > three ? 1 << 2 * kBits : 0);
    }
    return __reduce_add_sync(kFullWarp, counts);
  };
  u32 least = ~0u, largest = 0;
#pragma unroll
  for (const u32 rank : ranks) {
    least = min(least, rank - 1);  // 0 comes after all
    largest = max(largest, rank);
  }
  // More than `most` are above `low`, fewer above `high`, until as many are above one of three between or they meet.
  u32 low = __reduce_min_sync(kFullWarp, least), high = __reduce_max_sync(kFullWarp, largest), limit = high;
  int above = 0;
  if (static_cast<int>(count_above(0, ~0u, ~0u)) <= most) {
    above = most;
    limit = 0;
  }
#pragma unroll 1
  while (above != most && high - low > 1) {
    const u32 width = high - low, limits[3] = {low + width / 4, low + width / 2, high - width / 4};
    const u32 counts = count_above(limits[0], limits[1], limits[2]);
    u32 from = low;
    bool bounded = false;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      const int found = static_cast<int>(counts >> (kBits * i) & ((1u << kBits) - 1));
      if (bounded) continue;
      bounded = found <= most;
      if (bounded) {
        high = limit = limits[i];
        above = found;
      } else {
        from = limits[i];
      }
    }
    low = from;
  }
  int wanted = most - above;  // of those equal to `limit`
#pragma unroll
  for (int j = 0; j < OfLane; ++j) {
    is_in[j] = ranks[j] > limit;
    if (wanted <= 0) continue;
    const u32 equal = __ballot_sync(kFullWarp, ranks[j] == limit);
    is_in[j] = is_in[j] || (ranks[j] == limit && __popc(equal & ((1u << (threadIdx.x % 32)) - 1)) < wanted);
    wanted -= __popc(equal);
  }
}

/// Calls write(place, i) for the samples i = 32 j + l that count, ascending; by a whole warp.
template <int OfLane, class Write>
__device__ void list_samples(const bool (&counts)[OfLane], const Write& write) {
  int place = 0;
#pragma unroll
  for (int j = 0; j < OfLane; ++j) {
    const u32 members = __ballot_sync(kFullWarp, counts[j]), lane = threadIdx.x % 32;
    if (counts[j]) write(place + __popc(members & ((1u << lane) - 1)), static_cast<int>(32 * j + lane));
    place += __popc(members);
  }
}

/// A set of heads; every lane of a warp has a copy.
struct Heads {
  u32 words[kMostRoutedHeads / 32] = {};

  __device__ bool has(int h) const { return (word(h / 32) >> (h % 32) & 1) != 0; }
  /// Returns the number of its heads below h.
  __device__ int before(int h) const {
    int count = __popc(word(h / 32) & ((1u << (h % 32)) - 1));
#pragma unroll
    for (int i = 0; i < kMostRoutedHeads / 32; ++i) count += i < h / 32 ? __popc(words[i]) : 0;
    return count;
  }

 private:
  __device__ u32 word(int at) const {
    u32 found = words[0];
#pragma unroll
    for (int i = 1; i < kMostRoutedHeads / 32; ++i) found = at == i ? words[i] : found;
    return found;
  }
};

/// Returns the set of heads h with is_in(h); by a whole warp. is_in is evaluated for h rounded up to a multiple of 32.
template <class IsIn>
__device__ Heads heads_where(int heads, const IsIn& is_in) {
  Heads found;
#pragma unroll
  for (int i = 0; i < kMostRoutedHeads / 32; ++i) {
    const int h = 32 * i + static_cast<int>(threadIdx.x % 32);
    if (32 * i >= heads) continue;
    const bool is = is_in(h);
    found.words[i] = __ballot_sync(kFullWarp, h < heads && is);
  }
  return found;
}

/// Returns the `most` heads of highest rank; by a whole warp.
template <int OfLane>
__device__ Heads highest_heads(const u32* ranks, int heads, int most) {
  u32 mine[OfLane];
  bool is_in[OfLane];
  Heads found;
#pragma unroll
  for (int i = 0; i < OfLane; ++i) {
    const int h = 32 * i + static_cast<int>(threadIdx.x % 32);
    mine[i] = h < heads ? ranks[h] : 0;
  }
  find_highest(mine, most, is_in);
#pragma unroll
  for (int i = 0; i < OfLane; ++i) found.words[i] = __ballot_sync(kFullWarp, is_in[i]);
  return found;
}

/// Returns the slope of the line through (x, relu(x)). Sums over samples: `x_squares` of (x - mean_x)^2, `both` of (x -
/// mean_x) (relu(x) - its mean).
__device__ inline float slope_of(float x_squares, float both, float mean_x) {
  return x_squares > 0 ? fminf(fmaxf(both / x_squares, 0.0f), 1.0f) : mean_x > 0 ? 1.0f : 0.0f;
}

/// Ranks a head by |weight| * residual. For a shortlist, heads without a finite weight come last.
__device__ inline u32 rank_head(float weight, float scaled_weight, float residual, bool shortlists) {
  const bool finite = isfinite(weight);
  return finite || !shortlists ? rank_from_1((finite ? fabsf(scaled_weight) : fabsf(weight)) * residual) : 1;
}

/// Computes, from the contributions of a shortlist of `count` heads to n samples [count, stride], zeros up to a
/// multiple of 4: covariances[a][b] = n * cov(a, b), and costs[a] = n * (var(a) + 2 cov(a, all other heads)). `others`:
/// the sum of all other heads in Each samples of a lane, l + 32 i. Costs must be 0 before, or -infinity for heads whose
/// weight is not finite: those stay as they are.
template <int Each>
__device__ void find_covariances(const Group& group, int count, const float* contributions, int stride, int n,
                                 const float (&others)[Each], float* costs, float* covariances) {
  constexpr int kAtOnce = 4;
  for (int first = group.warp * kAtOnce; first < count; first += group.warps * kAtOnce) {
    float sums[kAtOnce] = {};
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const float* own = contributions + min(first + j, count - 1) * stride + group.lane;
#pragma unroll
      for (int i = 0; i < Each; ++i) {
        if (group.lane + 32 * i < n) sums[j] = fmaf(own[32 * i], fmaf(2.0f, others[i], own[32 * i]), sums[j]);
      }
    }
    spread_sum<1>(sums);
    const int a = first + group.lane / (32 / kAtOnce);
    if (group.lane % (32 / kAtOnce) == 0 && a < count && costs[a] == 0) costs[a] = sums[0];
  }
  // Lanes l and l + 16 make four of them, each of every other four samples.
  const int half = (count + 1) / 2, blocks = half * half;
  for (int first = 16 * group.warp; first < blocks; first += 16 * group.warps) {
    const int at = min(first + group.lane % 16, blocks - 1), a = at / half, b = at % half;
    const float* rows[4] = {contributions + a * stride, contributions + min(a + half, count - 1) * stride,
                            contributions + b * stride, contributions + min(b + half, count - 1) * stride};
    float sums[4] = {};
#pragma unroll 2
    for (int i = group.lane / 16 * 4; i < n; i += 8) {
      float4 x[4];
#pragma unroll
      for (int r = 0; r < 4; ++r) x[r] = *reinterpret_cast<const float4*>(rows[r] + i);
#pragma unroll
      for (int s = 0; s < 4; ++s) {
        const float4 &y = x[s / 2], &z = x[2 + s % 2];
        sums[s] = fmaf(y.x, z.x, fmaf(y.y, z.y, fmaf(y.z, z.z, fmaf(y.w, z.w, sums[s]))));
      }
    }
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      sums[s] += __shfl_xor_sync(kFullWarp, sums[s], 16);
      const int of_a = a + s / 2 * half, of_b = b + s % 2 * half;
      if (group.lane < 16 && first + group.lane < blocks && of_a < count && of_b < count) {
        covariances[of_a * count + of_b] = sums[s];
      }
    }
  }
}

/// Eliminates the head of lowest cost from the shortlist until `kept` are left; by a whole warp. Lane l has heads
/// OfLane l and on.
template <int OfLane>
__device__ Heads drop_in_turns(const Heads& shortlist, int heads, int count, int kept, const float* costs,
                               const float* covariances) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  float cost[OfLane] = {};
  i32 order[OfLane];  // of the costs
#pragma unroll
  for (int i = 0; i < OfLane; ++i) {
    const int a = OfLane * lane + i;
    if (a < count) cost[i] = costs[a];
    order[i] = a < count ? order_of_cost(cost[i]) : kDropped;
  }
  for (int left = count; left > kept; --left) {
    i32 least = order[0];
    int mine = 0;
#pragma unroll
    for (int i = 1; i < OfLane; ++i) {
      if (order[i] <= least) least = order[i], mine = i;
    }
    const unsigned holders = __ballot_sync(kFullWarp, least == __reduce_min_sync(kFullWarp, least));
    const int holder = 31 - __clz(static_cast<int>(holders));
    int drop = OfLane * holder;
#pragma unroll
    for (int bit = 1; bit < OfLane; bit *= 2) {
      drop += (__ballot_sync(kFullWarp, (mine & bit) != 0) >> holder & 1) != 0 ? bit : 0;
    }
#pragma unroll
    for (int i = 0; i < OfLane; ++i) {
      const int a = OfLane * lane + i;
      cost[i] = fmaf(2.0f, covariances[drop * count + min(a, count - 1)], cost[i]);
      order[i] = a == drop || order[i] == kDropped ? kDropped : order_of_cost(cost[i]);
    }
  }
  unsigned stay[OfLane];
#pragma unroll
  for (int i = 0; i < OfLane; ++i) stay[i] = __ballot_sync(kFullWarp, order[i] != kDropped);
  return heads_where(heads, [&](int h) {
    const int a = shortlist.before(h);
    bool stays = false;
#pragma unroll
    for (int i = 0; i < OfLane; ++i) stays = stays || (a % OfLane == i && (stay[i] >> (a / OfLane % 32) & 1) != 0);
    return stays && shortlist.has(h);
  });
}

__device__ inline Heads drop_in_turns(const Heads& shortlist, int heads, int count, int kept, const float* costs,
                                      const float* covariances) {
  return count <= 32   ? drop_in_turns<1>(shortlist, heads, count, kept, costs, covariances)
         : count <= 64 ? drop_in_turns<2>(shortlist, heads, count, kept, costs, covariances)
                       : drop_in_turns<4>(shortlist, heads, count, kept, costs, covariances);
}

}  // namespace misa::cuda
