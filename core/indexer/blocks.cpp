#include "core/indexer/blocks.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

namespace misa {
namespace {

/// Tokens that share one numbering of blocks.
struct Region {
  i64 begin = 0, end = 0;
  i64 first_block = 0;  ///< its first pooled key
};

}  // namespace

BlockLayout layout_blocks(const Problem& problem, i64 block_size, BlockWindow window) {
  const std::size_t rows = problem.begin.size();
  const bool flat = window == BlockWindow::upstream && !problem.shape.paged;
  const bool whole = window == BlockWindow::upstream && problem.shape.paged;

  // Regions in order of their key, so that a layout does not depend on the order of rows.
  std::map<std::pair<i64, i64>, Region> regions;
  const auto key_of = [&](std::size_t m) {
    if (flat) return std::pair<i64, i64>{0, 0};
    return std::pair<i64, i64>{problem.sequence[m], problem.begin[m]};
  };
  for (std::size_t m = 0; m < rows; ++m) {
    if (problem.end[m] <= problem.begin[m]) continue;
    const auto [found, inserted] = regions.try_emplace(key_of(m));
    Region& region = found->second;
    region.begin = flat ? 0 : problem.begin[m];
    region.end = flat    ? problem.shape.keys
                 : whole ? problem.lengths[static_cast<std::size_t>(problem.sequence[m])]
                         : std::max<i64>(region.end, problem.end[m]);
  }

  BlockLayout layout;
  for (auto& [key, region] : regions) {
    region.first_block = layout.pooled();
    for (i64 token = region.begin; token < region.end; token += block_size) {
      layout.sequence.push_back(static_cast<i32>(key.first));
      layout.begin.push_back(static_cast<i32>(token));
      layout.end.push_back(static_cast<i32>(std::min(token + block_size, region.end)));
    }
  }

  layout.first.assign(rows, 0);
  layout.last.assign(rows, 0);
  layout.origin.assign(rows, 0);
  if (window == BlockWindow::visible) layout.tail_begin.assign(rows, 0);
  for (std::size_t m = 0; m < rows; ++m) {
    layout.origin[m] = problem.begin[m];
    if (!layout.tail_begin.empty()) layout.tail_begin[m] = problem.end[m];
    if (problem.end[m] <= problem.begin[m]) continue;
    const Region& region = regions.at(key_of(m));
    const i64 skipped = (problem.begin[m] - region.begin) / block_size;
    const i64 reached = ceil_div(problem.end[m] - region.begin, block_size);
    layout.first[m] = static_cast<i32>(region.first_block + skipped);
    layout.last[m] = static_cast<i32>(region.first_block + reached);
    layout.origin[m] = static_cast<i32>(region.begin + skipped * block_size);
    if (!layout.tail_begin.empty()) {
      layout.tail_begin[m] = static_cast<i32>(region.begin + (reached - 1) * block_size);
    }
  }
  return layout;
}

BlockLayout layout_samples(const Problem& problem, i64 samples) {
  const std::size_t rows = problem.begin.size();
  const auto visible = [&](std::size_t m) { return std::max<i64>(0, problem.end[m] - problem.begin[m]); };
  const auto stride_of = [&](std::size_t m) {
    i64 stride = 1;
    while (ceil_div(visible(m), stride) > 2 * samples) stride *= 2;
    return stride;
  };

  // The longest window of each (sequence, begin, stride), in this order, so that a layout does not depend on that of
  // rows.
  std::map<std::array<i64, 3>, Region> regions;
  const auto key_of = [&](std::size_t m) {
    return std::array<i64, 3>{problem.sequence[m], problem.begin[m], stride_of(m)};
  };
  for (std::size_t m = 0; m < rows; ++m) {
    if (visible(m) == 0) continue;
    Region& region = regions[key_of(m)];
    region.end = std::max<i64>(region.end, problem.end[m]);
  }
  BlockLayout layout;
  for (auto& [key, region] : regions) {
    region.begin = key[1] + sample_offset(key[2]);
    region.first_block = layout.pooled();
    for (i64 token = region.begin; token < region.end; token += key[2]) {
      layout.sequence.push_back(static_cast<i32>(key[0]));
      layout.begin.push_back(static_cast<i32>(token));
      layout.end.push_back(static_cast<i32>(token + 1));
    }
  }

  layout.first.assign(rows, 0);
  layout.last.assign(rows, 0);
  layout.origin.assign(problem.begin.begin(), problem.begin.end());
  for (std::size_t m = 0; m < rows; ++m) {
    if (visible(m) == 0) continue;
    const auto key = key_of(m);
    const Region& region = regions.at(key);
    layout.first[m] = static_cast<i32>(region.first_block);
    layout.last[m] = static_cast<i32>(region.first_block + ceil_div(problem.end[m] - region.begin, key[2]));
  }
  return layout;
}

}  // namespace misa
