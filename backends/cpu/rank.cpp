// E[m, h] by the router's formula, and the best heads.
//
// The two routers that look at many keys (pooled, oracle) run the tile GEMM over rows that share a sequence, 192 / H at
// a time; energies add up in f64 in token order, so they do not depend on the tiles. Routers that sample keys run it
// over one row's samples; what follows from the products is core/indexer/linear_head.hpp. Bound: compute.

#include <omp.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "backends/cpu/tasks.hpp"
#include "backends/cpu/tile.hpp"
#include "core/base/interrupt.hpp"
#include "core/base/work_spans.hpp"
#include "core/indexer/linear_head.hpp"
#include "core/indexer/routing.hpp"

namespace misa::cpu {
namespace {

inline double relu(double x) { return 0.0 > x ? 0.0 : x; }

/// q[m, h] . key in f64.
double dot(const Queries& queries, i64 m, i64 h, const float* key) {
  return std::visit(
      [&](const auto& values) {
        const auto query = vector_of(values, m, h);
        const auto product = [&](i64 d) { return static_cast<double>(to_float(query[d])) * key[d]; };
        double sum = 0;
        if constexpr (std::is_same_v<Element<decltype(values)>, Mxfp4>) {  // whose numbers are no vector in memory
          for (i64 d = 0; d < values.shape[2]; ++d) sum += product(d);
        } else {
#pragma omp simd reduction(+ : sum)
          for (i64 d = 0; d < values.shape[2]; ++d) sum += product(d);
        }
        return sum;
      },
      queries.values);
}

/// Rows [first, first + count) of one sequence: energy[i, h] of the pooled and the oracle router.
template <class Operand>
void mean_energies(const RankTask& task, i64 first, i64 count, Tile<Operand>& tile, double* energy) {
  const i64 heads = heads_of(task.queries);
  const i64 own_tail = task.tails.empty() ? 0 : 1;
  const auto last_of = [&](i64 m) { return std::max<i64>(task.windows.begin[m], task.windows.end[m] - own_tail); };
  std::fill(energy, energy + count * heads, 0.0);

  i64 begin = task.windows.begin[first], end = begin;
  for (i64 m = first; m < first + count; ++m) {
    begin = std::min<i64>(begin, task.windows.begin[m]);
    end = std::max(end, last_of(m));
    load_queries(task.queries, m, (m - first) * heads, tile);
  }
  for (i64 token = begin; token < end && !interrupted(); token += kTileColumns) {
    const i64 next = std::min(token + kTileColumns, end);
    load_keys(task.keys, task.windows.sequence[first], token, next - token, tile);
    tile.multiply(0, count * heads, next - token);
    for (i64 i = 0; i < count; ++i) {
      const i64 from = std::max<i64>(token, task.windows.begin[first + i]), to = std::min(next, last_of(first + i));
      // Heads are independent sums, several of which are under way at once.
      constexpr i64 kSums = 8;
      for (i64 h = 0; h < heads; h += kSums) {
        const i64 own = std::min(kSums, heads - h);
        const float* products = tile.products + (i * heads + h) * kTileColumns;
        double sum[kSums] = {};
        std::copy_n(energy + i * heads + h, own, sum);
        for (i64 c = from - token; c < to - token; ++c) {
          const double scale = tile.scales[c];
          for (i64 j = 0; j < own; ++j) sum[j] += relu(products[j * kTileColumns + c]) * scale;
        }
        std::copy_n(sum, own, energy + i * heads + h);
      }
    }
  }
  for (i64 i = 0; i < count; ++i) {
    const i64 m = first + i, visible = task.windows.end[m] - task.windows.begin[m];
    for (i64 h = 0; h < heads; ++h) {
      double& value = energy[i * heads + h];
      if (own_tail == 1 && visible > 0) value += relu(dot(task.queries, m, h, &task.tails(m, 0)));
      value *=
          std::abs(static_cast<double>(task.queries.weights(m, h))) / static_cast<double>(std::max<i64>(1, visible));
    }
  }
}

/// energy[h] of row m for the routers that look at one key or none.
void simple_energies(const RankTask& task, i64 m, Tile<float>& tile, double* energy) {
  const i64 heads = heads_of(task.queries);
  float scale = 1;
  const i64 end = task.windows.end[m];
  const bool blind = end <= task.windows.begin[m];
  if (task.router == Router::selfk && !blind) {
    scale = widen_key(task.keys, task.windows.sequence[m], end - 1, tile.keys);
  }
  for (i64 h = 0; h < heads; ++h) {
    const double weight = task.queries.weights(m, h);
    switch (task.router) {
      case Router::gate: energy[h] = std::abs(weight); break;
      case Router::qnorm: energy[h] = task.norms(m, h); break;
      case Router::random: energy[h] = random_head_rank(task.seed, task.first_row + m, h); break;
      default: energy[h] = blind ? 0.0 : weight * relu(dot(task.queries, m, h, tile.keys)) * scale; break;
    }
  }
}

/// q[m, h] . k of the row's sampled keys: f32 dots. [H, n]
std::vector<double> tile_products(const RankTask& task, i64 m, Tile<float>& tile) {
  const i64 heads = heads_of(task.queries);
  const i64 begin = task.windows.begin[m], count = std::max<i64>(0, task.windows.end[m] - begin);
  std::vector<double> found(static_cast<std::size_t>(heads * count));
  load_queries(task.queries, m, 0, tile);
  for (i64 first = 0; first < count && !interrupted(); first += kTileColumns) {
    const i64 columns = std::min(kTileColumns, count - first);
    load_keys(task.keys, task.windows.sequence[m], begin + first, columns, tile);
    tile.multiply(0, heads, columns);
    for (i64 h = 0; h < heads; ++h) {
      const float* products = tile.products + h * kTileColumns;
      std::copy_n(products, columns, found.begin() + h * count + first);
    }
  }
  return found;
}

bool reads_many_keys(const RankTask& task) { return task.router == Router::pooled || task.router == Router::oracle; }

template <class Operand>
void rank_in_tiles(const RankTask& task, int threads) {
  const i64 rows = rows_of(task.queries), heads = heads_of(task.queries);
  // Runs of rows that share a tile.
  std::vector<i64> starts;
  for (i64 m = 0; m < rows; ++m) {
    const bool together =
        m > 0 && m - starts.back() < rows_per_tile(heads) && task.windows.sequence[m] == task.windows.sequence[m - 1];
    if (!together) starts.push_back(m);
  }
  starts.push_back(rows);

#pragma omp parallel num_threads(threads)
  {
    const Working working(omp_get_thread_num());
    Tile<Operand> tile(head_dim_of(task.queries));
    std::vector<double> energy(static_cast<std::size_t>(rows_per_tile(heads) * heads));
#pragma omp for schedule(dynamic) nowait
    for (std::size_t s = 0; s < starts.size() - 1; ++s) {
      if (interrupted()) continue;
      const i64 first = starts[s], count = starts[s + 1] - first;
      mean_energies(task, first, count, tile, energy.data());
      for (i64 i = 0; i < count; ++i) {
        choose_heads(task, first + i, {energy.data() + i * heads, static_cast<std::size_t>(heads)});
      }
    }
  }
  stop_if_interrupted();
}

/// Calls rank(m, tile) for each row.
void for_each_row(const RankTask& task, int threads, const auto& rank) {
#pragma omp parallel num_threads(threads)
  {
    const Working working(omp_get_thread_num());
    Tile<float> tile(head_dim_of(task.queries));
#pragma omp for schedule(dynamic) nowait
    for (i64 m = 0; m < rows_of(task.queries); ++m) {
      if (!interrupted()) rank(m, tile);
    }
  }
  stop_if_interrupted();
}

void rank_over_samples(const RankTask& task, int threads) {
  for_each_row(task, threads,
               [&](i64 m, Tile<float>& tile) { rank_by_samples(task, m, tile_products(task, m, tile)); });
}

void rank_row_by_row(const RankTask& task, int threads) {
  for_each_row(task, threads, [&](i64 m, Tile<float>& tile) {
    std::vector<double> energy(static_cast<std::size_t>(heads_of(task.queries)));
    simple_energies(task, m, tile, energy.data());
    choose_heads(task, m, energy);
  });
}

constexpr std::array<Kernel<RankTask, int>, 4> kRankKernels{{
    {"tiles-bf16", "oracle: tiles of rows that share their keys; FP8 and bf16 in AMX or AVX512-BF16",
     [](const RankTask& task) { return reads_many_keys(task) && multiplies_bf16(task.queries, task.keys); },
     rank_in_tiles<Bf16>},
    {"tiles", "pooled and oracle: tiles of rows that share their keys; f32 products", reads_many_keys,
     rank_in_tiles<float>},
    {"samples", "routers that sample keys: tiles of a row's own samples",
     [](const RankTask& task) { return samples_keys(task.router); }, rank_over_samples},
    {"rows", "routers that read one key of a row, or none",
     [](const RankTask& task) { return !reads_many_keys(task) && !samples_keys(task.router); }, rank_row_by_row},
}};

}  // namespace

std::span<const Kernel<RankTask, int>> rank_kernels() { return kRankKernels; }

}  // namespace misa::cpu
