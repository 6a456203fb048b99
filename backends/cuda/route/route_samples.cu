// Ranks heads by the residual of ReLU after a line fit over sampled dot products, and makes the linear head of all
// others; every dtype and shape. Formulas: core/indexer/linear_head.hpp
//
// A block takes one row after the other: dot products of its heads with the sampled keys lie in shared memory, and a
// warp fits a head's line. Arithmetic is f32.

#include <algorithm>
#include <type_traits>

#include "backends/cuda/kernels.hpp"
#include "backends/cuda/pipeline/launch.cuh"
#include "backends/cuda/route/route_samples.cuh"
#include "backends/cuda/route/sampled_layout.hpp"

namespace misa::cuda {
namespace {

using Layout = SampledLayout;
constexpr int kWarps = Layout::kWarps, kThreads = 32 * kWarps, kEach = Layout::kEach;

/// The shared memory of a row.
struct Row {
  float *products, *parts, *contributions, *costs, *covariances;
  float *scaled_weights, *slopes, *residuals;  ///< [H]
  u32 *ranks, *head_ranks;                     ///< of samples, of heads
  int* counted;                                ///< samples that count

  __device__ Row(float* memory, const Layout& layout) : products(memory) {
    parts = products + layout.heads * layout.stride();
    contributions = parts + kWarps * layout.columns();
    scaled_weights = contributions + layout.shortlist * layout.columns();
    slopes = scaled_weights + layout.padded_heads();
    residuals = slopes + layout.padded_heads();
    head_ranks = reinterpret_cast<u32*>(residuals + layout.padded_heads());
    ranks = head_ranks + layout.padded_heads();
    counted = reinterpret_cast<int*>(ranks + layout.stride());
    costs = reinterpret_cast<float*>(counted + layout.stride());
    covariances = costs + layout.shortlist;
  }
};

/// Sums over the lanes of a warp; all lanes get all sums.
template <int Count>
__device__ void sum_of_lanes(float (&x)[Count]) {
  spread_sum<1>(x);
  const float mine = x[0];
#pragma unroll
  for (int i = 0; i < Count; ++i) x[i] = __shfl_sync(kFullWarp, mine, i * (32 / Count));
}

/// Returns the inverse of a power of two near the largest weight; by a whole warp. Weights may be so small or so large
/// that f32 cannot represent their squares, and only their proportions decide which samples count and which heads are
/// kept.
template <class Q>
__device__ float inverse_weight_scale(const SampledTask<Q>& task, int m) {
  const int heads = static_cast<int>(task.queries.shape[1]);
  u32 largest = 0;
  for (int h = static_cast<int>(threadIdx.x % 32); h < heads; h += 32) {
    largest = max(largest, __float_as_uint(fabsf(finite_or_0(task.weights(m, h)))));
  }
  return scale_for(__reduce_max_sync(kFullWarp, largest)).inverse;
}

/// products[h, i] of the keys [first, first + n0).
template <class Q>
__device__ void multiply(const SampledTask<Q>& task, int m, const Group& group, const Row& row, const Layout& layout,
                         int first, int n0) {
  for (int at = group.thread(); at < layout.heads * n0; at += kThreads) {
    const int h = at / n0, i = at % n0;
    float dot = 0;
    for (int d = 0; d < layout.dim; ++d) dot = fmaf(to_float(task.queries(m, h, d)), task.keys(first + i, d), dot);
    row.products[h * layout.stride() + i] = finite_or_0(dot);
  }
  group.sync();
}

/// Finds the samples that count: all, or beside a linear head the half of highest score. Returns their number.
__device__ int count_samples(const Group& group, const Row& row, const Layout& layout, int n0, bool linear) {
  constexpr int kOfLane = 2 * kEach;
  for (int i = group.thread(); linear && i < n0; i += kThreads) {
    float total = 0;
#pragma unroll 8
    for (int h = 0; h < layout.heads; ++h) {
      total = fmaf(row.scaled_weights[h], fmaxf(0.0f, row.products[h * layout.stride() + i]), total);
    }
    row.ranks[i] = rank_from_1(total);
  }
  group.sync();
  const int n = linear ? (n0 + 1) / 2 : n0;
  if (group.warp == 0) {
    u32 ranks[kOfLane];
    bool counts[kOfLane];
#pragma unroll
    for (int j = 0; j < kOfLane; ++j) {
      const int i = group.lane + 32 * j;
      ranks[j] = i < n0 ? linear ? row.ranks[i] : 1 : 0;
    }
    find_highest(ranks, n, counts);
    list_samples(counts, [&](int place, int i) { row.counted[place] = i; });
  }
  group.sync();
  return n;
}

/// Fits the lines of all heads, one at a time in each warp. Products become w_h (relu(x) - slope x) less its mean in
/// the first n columns, and 0 up to the next multiple of 32.
__device__ void fit_lines(const Group& group, const Row& row, const Layout& layout, int n, bool linear) {
  const float share = 1.0f / static_cast<float>(max(1, n));
  for (int h = group.warp; h < layout.heads; h += kWarps) {
    float* products = row.products + h * layout.stride();
    float x[kEach], means[2] = {}, about[2] = {}, squares[1] = {};
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int at = group.lane + 32 * i;
      x[i] = at < n ? products[row.counted[at]] : 0.0f;
      means[0] += x[i];
      means[1] += fmaxf(0.0f, x[i]);
    }
    sum_of_lanes(means);
    const float mean_x = means[0] * share, mean_y = means[1] * share;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (group.lane + 32 * i >= n) continue;
      const float centred = x[i] - mean_x;
      about[0] = fmaf(centred, centred, about[0]);
      about[1] = fmaf(fmaxf(0.0f, x[i]) - mean_y, centred, about[1]);
    }
    sum_of_lanes(about);
    const float slope = linear && n > 0 ? slope_of(about[0], about[1], mean_x) : 0.0f;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      x[i] = group.lane + 32 * i < n ? fmaf(-slope, x[i] - mean_x, fmaxf(0.0f, x[i]) - mean_y) : 0.0f;
      squares[0] = fmaf(x[i], x[i], squares[0]);
    }
    sum_of_lanes(squares);
    if (group.lane == 0) {
      row.slopes[h] = slope;
      row.residuals[h] = sqrtf(squares[0] * share);
    }
    __syncwarp();  // the products are read
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (32 * i < n) products[group.lane + 32 * i] = row.scaled_weights[h] * x[i];
    }
  }
  group.sync();
}

/// Returns the heads of the shortlist that are left after backward elimination.
template <class Q>
__device__ Heads settle(const SampledTask<Q>& task, int m, const Group& group, const Row& row, const Layout& layout,
                        int n, const Heads& shortlist) {
  float others[kEach] = {};
  for (int h = group.warp; h < layout.heads; h += kWarps) {
    const bool listed = shortlist.has(h);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (32 * i >= n) continue;
      const float one = row.products[h * layout.stride() + group.lane + 32 * i];
      if (listed) row.contributions[shortlist.before(h) * layout.columns() + group.lane + 32 * i] = one;
      others[i] += listed ? 0.0f : one;
    }
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (32 * i < n) row.parts[group.warp * layout.columns() + group.lane + 32 * i] = others[i];
  }
  for (int h = group.thread(); h < layout.heads; h += kThreads) {
    if (shortlist.has(h)) row.costs[shortlist.before(h)] = isfinite(task.weights(m, h)) ? 0.0f : -INFINITY;
  }
  group.sync();
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    others[i] = 0;
    for (int warp = 0; 32 * i < n && warp < kWarps; ++warp) {
      others[i] += row.parts[warp * layout.columns() + group.lane + 32 * i];
    }
  }
  find_covariances<kEach>(group, task.shortlist, row.contributions, layout.columns(), n, others, row.costs,
                          row.covariances);
  group.sync();
  return drop_in_turns(shortlist, layout.heads, task.shortlist, task.kept, row.costs, row.covariances);
}

template <class Q>
__device__ Heads find_heads(const SampledTask<Q>& task, int m, const Group& group, const Row& row, const Layout& layout,
                            int n) {
  for (int h = group.thread(); h < layout.heads; h += kThreads) {
    const float weight = task.weights(m, h);
    if (task.energies.data != nullptr) task.energies(m, h) = static_cast<double>(fabsf(weight)) * row.residuals[h];
    row.head_ranks[h] = rank_head(weight, row.scaled_weights[h], row.residuals[h], task.covariance());
  }
  group.sync();
  const int most = task.covariance() ? task.shortlist : task.kept;
  const Heads found = highest_heads<kMostRoutedHeads / 32>(row.head_ranks, layout.heads, most);
  return task.covariance() ? settle(task, m, group, row, layout, n, found) : found;
}

/// Writes the kept heads' queries and weights.
template <class Q>
__device__ void write_kept(const SampledTask<Q>& task, int m, const Group& group, const Heads& kept) {
  const int dim = static_cast<int>(task.queries.shape[2]), batch = task.kept + (task.linear ? 2 : 0);
  for (int h = group.warp; h < task.queries.shape[1]; h += kWarps) {
    if (!kept.has(h)) continue;
    const int place = kept.before(h);
    if (group.lane == 0) task.heads(m, place) = h;
    if (!task.gathers()) continue;
    Routed<Q>* values = task.values + (static_cast<i64>(m) * batch + place) * dim;
    for (int d = group.lane; d < dim; d += 32) values[d] = as_routed<Routed<Q>>(task.queries(m, h, d));
    if (group.lane == 0) task.routed_weights(m, place) = task.weights(m, h);
  }
}

/// Writes q_lin and -q_lin.
template <class Q>
__device__ void write_linear(const SampledTask<Q>& task, int m, const Group& group, const Row& row,
                             const Layout& layout, const Heads& kept) {
  for (int d = group.thread(); d < layout.dim; d += kThreads) {
    float sum = 0;
    for (int h = 0; h < layout.heads; ++h) {
      const float factor = kept.has(h) ? 0.0f : finite_or_0(task.weights(m, h) * row.slopes[h]);
      sum = factor != 0 ? fmaf(factor, to_float(task.queries(m, h, d)), sum) : sum;
    }
    row.parts[d] = sum;
  }
  group.sync();
  float scale = 1, largest = 0;
  for (int d = group.lane; d < layout.dim; d += 32) largest = fmaxf(largest, fabsf(row.parts[d]));
  largest = __uint_as_float(__reduce_max_sync(0xffffffffu, __float_as_uint(largest)));
  if constexpr (std::is_same_v<Q, E4m3>) scale = linear_scale(largest);
  const float inverse = 1.0f / scale;
  group.sync();
  Routed<Q>* values = task.values + (static_cast<i64>(m) * (task.kept + 2) + task.kept) * layout.dim;
  for (int at = group.thread(); at < 2 * layout.dim; at += kThreads) {
    const int d = at % layout.dim;
    const float sign = at < layout.dim ? 1.0f : -1.0f;
    values[at] = from_float<Routed<Q>>(sign * (row.parts[d] * inverse));
    if (d == 0) task.routed_weights(m, task.kept + at / layout.dim) = sign * scale;
  }
}

template <class Q>
__global__ void __launch_bounds__(kThreads)
    route_samples_kernel(const __grid_constant__ SampledTask<Q> task, const Layout layout) {
  const Group group{0, kWarps, static_cast<int>(threadIdx.x / 32), static_cast<int>(threadIdx.x % 32)};
  const Row row(&shared_as<float>(), layout);
  wait_for_stream();
  for (int m = static_cast<int>(blockIdx.x); m < task.queries.shape[0]; m += static_cast<int>(gridDim.x)) {
    group.sync();
    const float inverse = inverse_weight_scale(task, m);
    for (int h = group.thread(); h < layout.heads; h += kThreads) {
      row.scaled_weights[h] = finite_or_0(task.weights(m, h)) * inverse;
    }
    const int first = task.windows.begin[m], n0 = max(0, task.windows.end[m] - first);
    multiply(task, m, group, row, layout, first, n0);
    const int n = count_samples(group, row, layout, n0, task.linear);
    fit_lines(group, row, layout, n, task.linear);
    const Heads kept = find_heads(task, m, group, row, layout, n);
    write_kept(task, m, group, kept);
    if (!task.linear) continue;
    if (task.gathers()) {
      write_linear(task, m, group, row, layout, kept);
    } else {
      for (int h = group.thread(); h < layout.heads; h += kThreads) task.slopes(m, h) = row.slopes[h];
    }
  }
}

template <class Q>
void launch(const SampledTask<Q>& task, int num_sms, cudaStream_t stream) {
  const Layout layout{.heads = static_cast<int>(task.queries.shape[1]),
                      .samples = task.samples,
                      .dim = static_cast<int>(task.queries.shape[2]),
                      .counted = task.linear ? (task.samples + 1) / 2 : task.samples,
                      .shortlist = task.shortlist};
  constexpr i64 kBlocks = 4;  // of an SM: a wave of them, or of fewer where they need more memory
  launch_kernel("route_samples", route_samples_kernel<Q>,
                {std::min(task.queries.shape[0], kBlocks * num_sms), kThreads, layout.bytes(), stream}, true, task,
                layout);
}

void rank_by_samples(const RankTask& rank, const GatherTask* gather, int num_sms, cudaStream_t stream) {
  with_sampled_task(rank, gather, [&](const auto& sampled) { launch(sampled, num_sms, stream); });
}

}  // namespace

bool ranks_samples(const RankTask& task) { return samples_keys(task.router); }
bool routes_samples(const RankGatherTask& task) { return ranks_samples(task.rank); }

void rank_samples(const RankTask& task, int num_sms, cudaStream_t stream) {
  rank_by_samples(task, nullptr, num_sms, stream);
}
void route_samples(const RankGatherTask& task, int num_sms, cudaStream_t stream) {
  rank_by_samples(task.rank, &task.gather, num_sms, stream);
}

}  // namespace misa::cuda
