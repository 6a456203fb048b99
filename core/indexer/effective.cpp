#include "core/indexer/effective.hpp"

#include <algorithm>

#include "core/indexer/blocks.hpp"

namespace misa {

IndexerSpec effective(IndexerSpec spec, const Problem& problem) {
  const auto cut = [](i64& value, i64 room) { value = std::min(value, std::max<i64>(1, room)); };
  const i64 window = problem.shape.max_window;
  cut(spec.top_k, window);
  spec.forced = spec.forced_tokens();
  if (spec.heads) {
    HeadRouting& heads = *spec.heads;
    heads.linear = heads.linear_head(problem.shape.heads);
    cut(heads.active, problem.shape.heads);
    cut(heads.samples, window);
    cut(heads.group, problem.shape.rows);
    if (heads.router == Router::pooled) {
      cut(heads.block_size, count_blocks(problem, heads.block_size, spec.block_window).stretch);
    }
  }
  if (spec.blocks) {
    BlockPruning& blocks = *spec.blocks;
    const BlockCount count = count_blocks(problem, blocks.block_size, spec.block_window);
    cut(blocks.block_size, count.stretch);
    cut(blocks.blocks, count.longest);
  }
  if (spec.rerank) cut(spec.rerank->candidates, window);
  return spec;
}

}  // namespace misa
