// E[m, h] by the router's formula, the best heads, and their queries gathered
//
// A block takes a row, a warp a head at a time, its lanes the keys; f32 dots, f64 energies in an order that does not
// depend on other rows. Bound by the dots.

#include "backends/cuda/check.hpp"
#include "backends/cuda/pipeline/keys.cuh"
#include "backends/cuda/ptx/warp.cuh"
#include "backends/cuda/route/route.hpp"
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
__device__ double energy_of(const View<const Q, 3>& queries, const View<const float, 2>& weights, const Keys<K>& keys,
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
      const K* key = keys.vector(windows.sequence[m], token, scale);
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
    route_kernel(View<const Q, 3> queries, View<const float, 2> weights, Keys<K> keys, Windows windows, Ranking ranking,
                 View<i32, 2> heads, View<double, 2> energies) {
  __shared__ double energy[kMaxHeads];
  __shared__ bool kept[kMaxHeads];
  const i64 m = blockIdx.x, count = queries.shape[1];
  for (i64 h = threadIdx.x / kLanes; h < count; h += kWarps) {
    const double found = energy_of(queries, weights, keys, windows, ranking, m, h, threadIdx.x % kLanes);
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
__global__ void gather_kernel(View<const Q, 3> queries, View<const float, 2> weights, View<const i32, 2> heads,
                              Q* values, View<float, 2> routed_weights) {
  const i64 m = blockIdx.x, i = blockIdx.y, head = heads(m, i), dim = queries.shape[2];
  for (i64 d = threadIdx.x; d < dim; d += blockDim.x) values[(m * heads.shape[1] + i) * dim + d] = queries(m, head, d);
  if (threadIdx.x == 0) routed_weights(m, i) = weights(m, head);
}

}  // namespace

bool routes_plainly(const RouteTask& task) { return !reads_samples(task); }

void route_plainly(const RouteTask& task, int /*num_sms*/, cudaStream_t stream) {
  const i64 rows = rows_of(task.queries);
  const Ranking ranking{task.router, task.tails, task.norms, task.seed, task.first_row};
  const View<const i32, 2> chosen = task.given.empty() ? View<const i32, 2>(task.heads) : task.given;
  with_types(task.queries.values, task.keys, [&](const auto& queries, const auto& keys) {
    using Q = std::remove_const_t<std::remove_reference_t<decltype(*queries.data)>>;
    if (task.given.empty()) {
      route_kernel<<<static_cast<unsigned>(rows), kWarps * kLanes, 0, stream>>>(
          queries, task.queries.weights, keys, task.windows, ranking, task.heads, task.energies);
      check(cudaGetLastError(), "route");
    }
    // The batch is the task's output; its views are const because a routed query is read as any query.
    Q* values = const_cast<Q*>(std::get<View<const Q, 3>>(task.routed_values).data);
    const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(chosen.shape[1]));
    gather_kernel<Q><<<grid, 64, 0, stream>>>(queries, task.queries.weights, chosen, values, task.routed_weights);
  });
  check(cudaGetLastError(), "gather");
}

}  // namespace misa::cuda
