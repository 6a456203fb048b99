// logits[m, c] = k_scale * sum over h of w[m, h] * relu(q[m, h] . k)
//
// Tiles of kTileColumns keys are the units of parallel work. A thread widens a tile of keys to f32 once and takes every
// row that sees any of them past it: 192 / H rows at a time, one GEMM of at most 192 x 256 x D, then the weighted sum
// over heads while the products lie in L2. FLOPs: 2 D H a pair. Bound: compute.

#include <omp.h>

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <vector>

#include "backends/cpu/tasks.hpp"
#include "backends/cpu/tile.hpp"
#include "core/base/interrupt.hpp"
#include "core/base/work_spans.hpp"

namespace misa::cpu {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

/// NaN stays NaN.
inline float relu(float x) { return 0.0f > x ? 0.0f : x; }

/// out[c] = scale[c] * sum over h of weight[h] * relu(products[h, c]) for the columns [from, to) of a tile. Sums in
/// f64, so that the order of heads does not show in f32; 32 columns at a time stay in registers.
void reduce_heads(const float* products, const float* weight, i64 heads, const float* scale, i64 from, i64 to,
                  float* out) {
  constexpr i64 kBlock = 32;
  for (i64 block = from / kBlock * kBlock; block < to; block += kBlock) {
    double sum[kBlock] = {};
    for (i64 h = 0; h < heads; ++h) {
      const float* p = products + h * kTileColumns + block;
      const double w = weight[h];
#pragma omp simd
      for (i64 c = 0; c < kBlock; ++c) sum[c] += w * relu(p[c]);
    }
    for (i64 c = std::max(from, block); c < std::min(to, block + kBlock); ++c) {
      out[c - from] = static_cast<float>(scale[c] * sum[c - block]);
    }
  }
}

/// Rows of one sequence, and the tokens that any of them sees.
struct Group {
  i64 first = 0, count = 0;  // in the order by sequence
  i64 begin = 0, end = 0;
};

struct Item {
  i64 group = 0, token = 0;
};

void score_windows(const ScoreTask& task, int threads) {
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  const i64 rows = logits.shape[0], heads = heads_of(task.queries), dim = head_dim_of(task.queries);
  std::vector<i64> order(static_cast<std::size_t>(rows));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](i64 a, i64 b) { return task.windows.sequence[a] < task.windows.sequence[b]; });

  std::vector<Group> groups;
  for (i64 i = 0; i < rows; ++i) {
    const i64 m = order[i], begin = task.windows.begin[m], end = task.windows.end[m];
    if (groups.empty() || task.windows.sequence[order[groups.back().first]] != task.windows.sequence[m]) {
      groups.push_back({i, 0, begin, end});
    }
    Group& group = groups.back();
    ++group.count;
    group.begin = std::min(group.begin, begin);
    group.end = std::max(group.end, end);
  }
  std::vector<Item> items;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (i64 token = groups[g].begin; token < groups[g].end; token += kTileColumns) {
      items.push_back({static_cast<i64>(g), token});
    }
  }

#pragma omp parallel num_threads(threads)
  {
    const Working working(omp_get_thread_num());
    Tile tile;
#pragma omp for schedule(static)
    for (i64 m = 0; m < rows; ++m) {
      const i64 visible = std::max<i64>(0, task.windows.end[m] - task.windows.begin[m]);
      std::fill(logits[m].data + visible, logits[m].data + logits.shape[1], kNothing);
    }
#pragma omp for schedule(dynamic) nowait
    for (std::size_t n = 0; n < items.size(); ++n) {
      if (interrupted()) continue;
      const Group& group = groups[items[n].group];
      const i64 first = items[n].token, last = std::min(first + kTileColumns, group.end);
      load_keys(task.keys, task.windows.sequence[order[group.first]], first, last - first, dim, tile);
      const auto sees_tile = [&](i64 m) { return task.windows.begin[m] < last && task.windows.end[m] > first; };

      i64 next = group.first;
      while (next < group.first + group.count && !interrupted()) {
        i64 members[kMaxTileRows];
        i64 used = 0;
        for (; next < group.first + group.count && used < rows_per_tile(heads); ++next) {
          const i64 m = order[next];
          if (!sees_tile(m)) continue;
          load_queries(task.queries, m, used, tile);
          members[used++] = m;
        }
        if (used == 0) break;
        multiply(used * heads, dim, tile);
        for (i64 i = 0; i < used; ++i) {
          const i64 m = members[i], begin = task.windows.begin[m];
          const i64 from = std::max(first, begin), to = std::min<i64>(last, task.windows.end[m]);
          reduce_heads(tile.products + i * heads * kTileColumns, &task.queries.weights(m, 0), heads, tile.scales,
                       from - first, to - first, &logits(m, from - begin));
        }
      }
    }
  }
  stop_if_interrupted();
}

void score_candidates(const ScoreTask& task, int threads) {
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  const i64 rows = logits.shape[0], columns = logits.shape[1];
  const i64 heads = heads_of(task.queries), dim = head_dim_of(task.queries);
  const i64 tiles = ceil_div(columns, kTileColumns);

#pragma omp parallel num_threads(threads)
  {
    const Working working(omp_get_thread_num());
    Tile tile;
#pragma omp for schedule(dynamic) collapse(2) nowait
    for (i64 m = 0; m < rows; ++m) {
      for (i64 t = 0; t < tiles; ++t) {
        if (interrupted()) continue;
        const i64 first = t * kTileColumns, count = std::min(kTileColumns, columns - first);
        i64 scored[kTileColumns];  // columns that hold a token, packed
        i64 used = 0;
        for (i64 c = first; c < first + count; ++c) {
          logits(m, c) = kNothing;
          const i64 token = visible_token(task.windows, task.candidates, m, c);
          if (token < 0) continue;
          tile.scales[used] = widen_key(task.keys, task.windows.sequence[m], token, tile.keys + used * dim);
          scored[used++] = c;
        }
        if (used == 0) continue;
        load_queries(task.queries, m, 0, tile);
        multiply(heads, dim, tile);
        float sums[kTileColumns];
        reduce_heads(tile.products, &task.queries.weights(m, 0), heads, tile.scales, 0, used, sums);
        for (i64 i = 0; i < used; ++i) logits(m, scored[i]) = sums[i];
      }
    }
  }
  stop_if_interrupted();
}

constexpr std::array<Kernel<ScoreTask, int>, 2> kScoreKernels{{
    {"windows", "tiles of keys, each widened once for all rows that see it",
     [](const ScoreTask& task) { return !task.candidates; }, score_windows},
    {"candidates", "tiles of a row's own candidates", [](const ScoreTask& task) { return task.candidates.has_value(); },
     score_candidates},
}};

}  // namespace

std::span<const Kernel<ScoreTask, int>> score_kernels() { return kScoreKernels; }

}  // namespace misa::cpu
