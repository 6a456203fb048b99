// E[m, h] by the router's formula and the best heads; queries gathered, a linear head's too
//
// A block takes a row, a warp a head at a time, its lanes the keys; f32 dots, f64 energies in an order that does not
// depend on other rows. Bound by the dots.

#include "backends/cuda/check.hpp"
#include "backends/cuda/kernels.hpp"
#include "backends/cuda/pipeline/keys.cuh"
#include "backends/cuda/ptx/warp.cuh"
#include "core/indexer/linear_head.hpp"
#include "core/indexer/routing.hpp"

namespace misa::cuda {
namespace {

constexpr int kWarps = 8, kLanes = 32, kMaxHeads = 128;

struct Ranking {
  Router router;
  View<const float, 2> tails, norms;
  u64 seed;
  i64 first_row;
};

template <class Q, class K>
__device__ double energy_of(const Vectors<Q>& queries, const View<const float, 2>& weights, const Keys<K>& keys,
                            const Windows& windows, const Ranking& ranking, i64 m, i64 h, unsigned lane) {
  const double weight = weights(m, h);
  if (ranking.router == Router::gate) return fabs(weight);
  if (ranking.router == Router::qnorm) return ranking.norms(m, h);
  if (ranking.router == Router::random) return random_head_rank(ranking.seed, ranking.first_row + m, h);
  const i64 end = windows.end[m], dim = queries.shape[2];
  const i64 begin = ranking.router == Router::selfk && end > windows.begin[m] ? end - 1 : windows.begin[m];
  double sum = 0;
  for (i64 token = begin + lane; token < end; token += kLanes) {
    float scale = 1, dot = 0;
    if (token == end - 1 && ranking.tails.data != nullptr) {
      for (i64 d = 0; d < dim; ++d) dot += to_float(queries(m, h, d)) * ranking.tails(m, d);
    } else {
      const auto key = keys.vector(windows.sequence[m], token, scale);
      for (i64 d = 0; d < dim; ++d) dot += to_float(queries(m, h, d)) * to_float(key[d]);
    }
    const double one = weight * relu(dot) * scale;
    sum += ranking.router == Router::selfk ? one : fabs(one);
  }
  for (int step = kLanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kFullWarp, sum, step);
  return ranking.router == Router::selfk ? sum : sum / static_cast<double>(end > begin ? end - begin : 1);
}

template <class Q, class K>
__global__ void __launch_bounds__(kWarps* kLanes)
    rank_kernel(Vectors<Q> queries, View<const float, 2> weights, Keys<K> keys, Windows windows, Ranking ranking,
                View<i32, 2> heads, View<double, 2> energies) {
  __shared__ double energy[kMaxHeads];
  __shared__ bool kept[kMaxHeads];
  const i64 m = blockIdx.x, count = queries.shape[1];
  for (i64 h = threadIdx.x / kLanes; h < count; h += kWarps) {
    const double found = energy_of<Q>(queries, weights, keys, windows, ranking, m, h, threadIdx.x % kLanes);
    if (threadIdx.x % kLanes == 0) energy[h] = found;
  }
  __syncthreads();
  const i64 h = threadIdx.x;
  if (h < count) {
    // Better: higher, then the lower head; NaN last.
    i64 better = 0;
    for (i64 other = 0; other < count; ++other) {
      const double a = energy[other], b = energy[h];
      const bool equal = a == b || (isnan(a) && isnan(b));
      if (equal ? other < h : isnan(b) || a > b) ++better;
    }
    kept[h] = better < heads.shape[1];
    if (energies.data != nullptr) energies(m, h) = energy[h];
  }
  __syncthreads();
  if (h < count && kept[h]) {
    i64 place = 0;
    for (i64 other = 0; other < h; ++other) place += kept[other] ? 1 : 0;
    heads(m, place) = static_cast<i32>(h);
  }
}

template <class Q>
__global__ void gather_kernel(Vectors<Q> queries, View<const float, 2> weights, View<const i32, 2> heads,
                              Routed<Q>* values, View<float, 2> batch_weights) {
  const i64 m = blockIdx.x, i = blockIdx.y, head = heads(m, i), dim = queries.shape[2];
  Routed<Q>* to = values + (m * batch_weights.shape[1] + i) * dim;
  for (i64 d = threadIdx.x; d < dim; d += blockDim.x) to[d] = as_routed<Routed<Q>>(queries(m, head, d));
  if (threadIdx.x == 0) batch_weights(m, i) = weights(m, head);
}

/// q_lin and -q_lin of a row; a thread has a dimension.
template <class Q>
__global__ void gather_linear_kernel(Vectors<Q> queries, View<const float, 2> weights, View<const i32, 2> heads,
                                     View<const double, 2> slopes, View<const float, 2> linear, Routed<Q>* values,
                                     View<float, 2> batch_weights) {
  __shared__ u32 largest;  // the bits of a magnitude
  const i64 m = blockIdx.x, d = threadIdx.x, dim = queries.shape[2], kept = heads.shape[1];
  if (d == 0) largest = 0;
  __syncthreads();
  float number = 0, scale = 1;
  if (linear.data != nullptr) {
    number = linear(m, d);
    scale = linear(m, dim);
  } else {
    double sum = 0;
    i64 place = 0;
    for (i64 h = 0; h < queries.shape[1]; ++h) {
      if (place < kept && heads(m, place) == h) {
        ++place;
        continue;
      }
      const double factor = static_cast<double>(weights(m, h)) * slopes(m, h);
      if (factor != 0 && isfinite(factor)) sum += factor * to_float(queries(m, h, d));
    }
    number = static_cast<float>(sum);
    if constexpr (std::is_same_v<Q, E4m3>) {
      if (!isnan(number)) atomicMax(&largest, __float_as_uint(fabsf(number)));
      __syncthreads();
      scale = linear_scale(__uint_as_float(largest));
      number /= scale;
    }
  }
  Routed<Q>* to = values + (m * batch_weights.shape[1] + kept) * dim;
  to[d] = from_float<Routed<Q>>(number);
  to[dim + d] = from_float<Routed<Q>>(-number);
  if (d == 0) {
    batch_weights(m, kept) = scale;
    batch_weights(m, kept + 1) = -scale;
  }
}

}  // namespace

void rank_plainly(const RankTask& task, int /*num_sms*/, cudaStream_t stream) {
  const Ranking ranking{task.router, task.tails, task.norms, task.seed, task.first_row};
  with_types(task.queries.values, task.keys, [&](const auto& queries, const auto& keys) {
    using Q = Element<decltype(queries)>;
    using K = Element<decltype(keys.values)>;
    rank_kernel<Q, K><<<static_cast<unsigned>(rows_of(task.queries)), kWarps * kLanes, 0, stream>>>(
        queries, task.queries.weights, keys, task.windows, ranking, task.heads, task.energies);
  });
  check(cudaGetLastError(), "rank");
}

void gather_plainly(const GatherTask& task, int /*num_sms*/, cudaStream_t stream) {
  const unsigned rows = static_cast<unsigned>(rows_of(task.queries)), kept = static_cast<unsigned>(task.heads.shape[1]);
  std::visit(
      [&](const auto& queries) {
        using Q = Element<decltype(queries)>;
        using Batch = Routed<Q>;
        // The batch is the task's output; its views are const because a routed query is read as any query.
        Batch* values = const_cast<Batch*>(std::get<View<const Batch, 3>>(task.values).data);
        if (kept > 0) {
          gather_kernel<Q>
              <<<dim3(rows, kept), 64, 0, stream>>>(queries, task.queries.weights, task.heads, values, task.weights);
        }
        if (task.has_linear()) {
          gather_linear_kernel<Q><<<rows, static_cast<unsigned>(queries.shape[2]), 0, stream>>>(
              queries, task.queries.weights, task.heads, task.slopes, task.linear, values, task.weights);
        }
      },
      task.queries.values);
  check(cudaGetLastError(), "gather");
}

}  // namespace misa::cuda
