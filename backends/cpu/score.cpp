// logits[m, c] = k_scale * sum over h of w[m, h] * relu(q[m, h] . k)
//
// A thread holds the queries of a block of rows and takes runs of keys past them, 256 at a time: each tile of keys is
// widened once for the whole block, then multiplied with 192 / H rows at a time, and the weighted sum over heads
// follows while the products lie in L2. FP8, INT8, MXFP4 and bf16 are exact in bf16: where the processor has a unit for
// it, that is what is multiplied, else f32. FLOPs: 2 D H a pair. Bound: compute.

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

/// Rows of one sequence, [first, first + count) in the order by sequence, and the tokens that any of them sees.
struct Block {
  i64 first = 0, count = 0;
  i64 begin = 0, end = 0;
};

/// The keys [begin, end) for the rows of a block.
struct Item {
  const Block* block = nullptr;
  i64 begin = 0, end = 0;
};

/// Blocks of rows that share a sequence, `held` at most.
std::vector<Block> blocks_of(const Windows& windows, const std::vector<i64>& order, i64 held) {
  std::vector<Block> blocks;
  for (i64 i = 0; i < static_cast<i64>(order.size()); ++i) {
    const i64 m = order[i], begin = windows.begin[m], end = windows.end[m];
    if (blocks.empty() || blocks.back().count == held ||
        windows.sequence[order[blocks.back().first]] != windows.sequence[m]) {
      blocks.push_back({i, 0, begin, end});
    }
    Block& block = blocks.back();
    ++block.count;
    block.begin = std::min(block.begin, begin);
    block.end = std::max(block.end, end);
  }
  return blocks;
}

/// Runs of at most 16 tiles of keys, fewer where threads would wait for the last of them.
std::vector<Item> items_of(const std::vector<Block>& blocks, int threads) {
  i64 tiles = 0;
  for (const Block& block : blocks) tiles += ceil_div(std::max<i64>(0, block.end - block.begin), kTileColumns);
  const i64 run = std::clamp<i64>(tiles / (i64{threads} * 8), 1, 16) * kTileColumns;
  std::vector<Item> items;
  for (const Block& block : blocks) {
    for (i64 token = block.begin; token < block.end; token += run) {
      items.push_back({&block, token, std::min(token + run, block.end)});
    }
  }
  return items;
}

template <class Operand>
void score_windows(const ScoreTask& task, int threads) {
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  const Windows& windows = task.windows;
  const i64 rows = logits.shape[0], heads = heads_of(task.queries), dim = head_dim_of(task.queries);
  std::vector<i64> order(static_cast<std::size_t>(rows));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](i64 a, i64 b) { return windows.sequence[a] < windows.sequence[b]; });
  const std::vector<Block> blocks = blocks_of(windows, order, rows_held(heads));
  const std::vector<Item> items = items_of(blocks, threads);

#pragma omp parallel num_threads(threads)
  {
    const Working working(omp_get_thread_num());
    Tile<Operand> tile(dim);
#pragma omp for schedule(static)
    for (i64 m = 0; m < rows; ++m) {
      const i64 visible = std::max<i64>(0, windows.end[m] - windows.begin[m]);
      std::fill(logits[m].data + visible, logits[m].data + logits.shape[1], kNothing);
    }
    const Block* held = nullptr;
#pragma omp for schedule(dynamic) nowait
    for (std::size_t n = 0; n < items.size(); ++n) {
      const Block& block = *items[n].block;
      if (held != &block && !interrupted()) {
        for (i64 i = 0; i < block.count; ++i) load_queries(task.queries, order[block.first + i], i * heads, tile);
        held = &block;
      }
      for (i64 first = items[n].begin; first < items[n].end && !interrupted(); first += kTileColumns) {
        const i64 last = std::min(first + kTileColumns, items[n].end);
        load_keys(task.keys, windows.sequence[order[block.first]], first, last - first, tile);
        const auto sees_tile = [&](i64 i) {
          const i64 m = order[block.first + i];
          return windows.begin[m] < last && windows.end[m] > first;
        };
        for (i64 row = 0; row < block.count;) {
          if (!sees_tile(row)) {
            ++row;
            continue;
          }
          i64 used = std::min(block.count - row, rows_per_tile(heads));
          while (!sees_tile(row + used - 1)) --used;
          tile.multiply(row * heads, used * heads, last - first);
          for (i64 i = 0; i < used; ++i) {
            const i64 m = order[block.first + row + i], begin = windows.begin[m];
            const i64 from = std::max(first, begin), to = std::min<i64>(last, windows.end[m]);
            if (from >= to) continue;
            loops().weigh_heads(tile.products + i * heads * kTileColumns, kTileColumns, &task.queries.weights(m, 0),
                                heads, tile.scales, from - first, to - first, &logits(m, from - begin));
          }
          row += used;
        }
      }
    }
  }
  stop_if_interrupted();
}

/// Columns of a row that hold a token, and the tokens.
struct Listed {
  i64 count = 0;
  i64 columns[kTileColumns], tokens[kTileColumns];
};

/// Scores the listed columns of row m, whose queries the tile holds.
template <class Operand>
void score_listed(const ScoreTask& task, const View<float, 2>& logits, i64 m, const Listed& listed,
                  Tile<Operand>& tile) {
  const i64 heads = heads_of(task.queries);
  for (i64 i = 0, run = 1; i < listed.count; i += run, run = 1) {
    while (i + run < listed.count && listed.tokens[i + run] == listed.tokens[i] + run) ++run;
    load_keys(task.keys, task.windows.sequence[m], listed.tokens[i], run, tile, i);
  }
  tile.multiply(0, heads, listed.count);
  float sums[kTileColumns];
  loops().weigh_heads(tile.products, kTileColumns, &task.queries.weights(m, 0), heads, tile.scales, 0, listed.count,
                      sums);
  for (i64 i = 0; i < listed.count; ++i) logits(m, listed.columns[i]) = sums[i];
}

template <class Operand>
void score_candidates(const ScoreTask& task, int threads) {
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  const Candidates& candidates = *task.candidates;
  const i64 rows = logits.shape[0], columns = logits.shape[1], length = candidates.length;
  // A row at a time, or a part of it where there are few.
  const i64 part = rows >= i64{threads} * 8 ? std::max<i64>(columns, 1) : 4 * kTileColumns;
  const i64 parts = ceil_div(columns, part);

#pragma omp parallel num_threads(threads)
  {
    const Working working(omp_get_thread_num());
    Tile<Operand> tile(head_dim_of(task.queries));
#pragma omp for schedule(dynamic) collapse(2) nowait
    for (i64 m = 0; m < rows; ++m) {
      for (i64 p = 0; p < parts; ++p) {
        if (interrupted()) continue;
        load_queries(task.queries, m, 0, tile);
        const i64 begin = task.windows.begin[m], end = task.windows.end[m], last = std::min((p + 1) * part, columns);
        Listed listed;
        i64 run = p * part / length, within = p * part % length;
        for (i64 c = p * part; c < last; ++c) {
          logits(m, c) = kNothing;
          const i64 id = candidates.runs(m, run), token = candidates.origin[m] + id * length + within;
          if (++within == length) ++run, within = 0;
          if (id < 0 || token < begin || token >= end) continue;
          listed.columns[listed.count] = c;
          listed.tokens[listed.count++] = token;
          if (listed.count < kTileColumns) continue;
          score_listed(task, logits, m, listed, tile);
          listed.count = 0;
        }
        if (listed.count > 0) score_listed(task, logits, m, listed, tile);
      }
    }
  }
  stop_if_interrupted();
}

bool bf16_products(const ScoreTask& task) { return multiplies_bf16(task.queries, task.keys); }

constexpr std::array<Kernel<ScoreTask, int>, 4> kScoreKernels{{
    {"windows-bf16", "tiles of keys, each widened once for a block of rows; all but f32 in AMX or AVX512-BF16",
     [](const ScoreTask& task) { return !task.candidates && bf16_products(task); }, score_windows<Bf16>},
    {"candidates-bf16", "tiles of a row's own candidates; all but f32 in AMX or AVX512-BF16",
     [](const ScoreTask& task) { return task.candidates && bf16_products(task); }, score_candidates<Bf16>},
    {"windows", "tiles of keys, each widened once for a block of rows; f32 products",
     [](const ScoreTask& task) { return !task.candidates; }, score_windows<float>},
    {"candidates", "tiles of a row's own candidates; f32 products",
     [](const ScoreTask& task) { return task.candidates.has_value(); }, score_candidates<float>},
}};

}  // namespace

std::span<const Kernel<ScoreTask, int>> score_kernels() { return kScoreKernels; }

}  // namespace misa::cpu
