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

/// Which regions the blocks of a problem lie in, and which of their blocks a row sees.
class BlockRegions {
 public:
  using Key = std::pair<i64, i64>;

  BlockRegions(const Problem& problem, i64 block_size, BlockWindow window)
      : problem_(problem), size_(block_size), flat_(window == BlockWindow::upstream && !problem.shape.paged) {
    const bool whole = window == BlockWindow::upstream && problem.shape.paged;
    for (std::size_t m = 0; m < problem.begin.size(); ++m) {
      if (!sees(m)) continue;
      Region& region = regions.try_emplace(key_of(m)).first->second;
      region.begin = flat_ ? 0 : problem.begin[m];
      region.end = flat_   ? problem.shape.keys
                   : whole ? problem.lengths[static_cast<std::size_t>(problem.sequence[m])]
                           : std::max<i64>(region.end, problem.end[m]);
    }
    for (auto& [key, region] : regions) {
      region.first_block = count.pooled;
      count.pooled += ceil_div(region.end - region.begin, size_);
      count.stretch = std::max(count.stretch, region.end - region.begin);
    }
    for (std::size_t m = 0; m < problem.begin.size(); ++m) {
      if (!sees(m)) continue;
      count.longest = std::max(count.longest, reached(m) - skipped(m));
      count.reach = std::max(count.reach, problem.end[m] - origin(m));
    }
  }

  bool sees(std::size_t m) const { return problem_.end[m] > problem_.begin[m]; }
  const Region& of(std::size_t m) const { return regions.at(key_of(m)); }
  /// Row m sees the blocks [skipped, reached) of its region, from the token `origin` on.
  i64 skipped(std::size_t m) const { return (problem_.begin[m] - of(m).begin) / size_; }
  i64 reached(std::size_t m) const { return ceil_div(problem_.end[m] - of(m).begin, size_); }
  i64 origin(std::size_t m) const { return of(m).begin + skipped(m) * size_; }

  std::map<Key, Region> regions;  ///< in order of their keys, so that a layout does not depend on the order of rows
  BlockCount count;

 private:
  Key key_of(std::size_t m) const {
    if (flat_) return {0, 0};
    return {problem_.sequence[m], problem_.begin[m]};
  }

  const Problem& problem_;
  i64 size_;
  bool flat_;
};

/// Which sampled tokens stand for the windows of a problem. A region is the longest window of a (sequence, begin,
/// stride).
class SampleRegions {
 public:
  using Key = std::array<i64, 3>;

  SampleRegions(const Problem& problem, i64 samples) : problem_(problem), samples_(samples) {
    for (std::size_t m = 0; m < problem.begin.size(); ++m) {
      if (visible(m) == 0) continue;
      Region& region = regions[key_of(m)];
      region.end = std::max<i64>(region.end, problem.end[m]);
    }
    for (auto& [key, region] : regions) {
      region.begin = key[1] + sample_offset(key[2]);
      region.first_block = count.pooled;
      count.pooled += std::max<i64>(0, ceil_div(region.end - region.begin, key[2]));
    }
    for (std::size_t m = 0; m < problem.begin.size(); ++m) {
      if (visible(m) > 0) count.longest = std::max(count.longest, seen(m));
    }
  }

  i64 visible(std::size_t m) const { return std::max<i64>(0, problem_.end[m] - problem_.begin[m]); }
  const Region& of(std::size_t m) const { return regions.at(key_of(m)); }
  /// How many samples row m sees, from its region's first on.
  i64 seen(std::size_t m) const { return ceil_div(problem_.end[m] - of(m).begin, stride_of(m)); }

  std::map<Key, Region> regions;  ///< in order of their keys, so that a layout does not depend on the order of rows
  BlockCount count;

 private:
  i64 stride_of(std::size_t m) const {
    i64 stride = 1;
    while (ceil_div(visible(m), stride) > 2 * samples_) stride *= 2;
    return stride;
  }
  Key key_of(std::size_t m) const { return {problem_.sequence[m], problem_.begin[m], stride_of(m)}; }

  const Problem& problem_;
  i64 samples_;
};

/// A layout without its pooled keys, and with memory for them.
BlockLayout empty_layout(const Problem& problem, i64 pooled) {
  BlockLayout layout;
  for (std::vector<i32>* of_keys : {&layout.sequence, &layout.begin, &layout.end}) {
    of_keys->reserve(static_cast<std::size_t>(pooled));
  }
  layout.first.assign(problem.begin.size(), 0);
  layout.last.assign(problem.begin.size(), 0);
  layout.origin.assign(problem.begin.begin(), problem.begin.end());
  return layout;
}

void add_key(BlockLayout& layout, i64 sequence, i64 begin, i64 end) {
  layout.sequence.push_back(static_cast<i32>(sequence));
  layout.begin.push_back(static_cast<i32>(begin));
  layout.end.push_back(static_cast<i32>(end));
}

}  // namespace

BlockCount count_blocks(const Problem& problem, i64 block_size, BlockWindow window) {
  return BlockRegions(problem, block_size, window).count;
}

BlockCount count_samples(const Problem& problem, i64 samples) { return SampleRegions(problem, samples).count; }

BlockLayout layout_blocks(const Problem& problem, i64 block_size, BlockWindow window) {
  const BlockRegions regions(problem, block_size, window);
  BlockLayout layout = empty_layout(problem, regions.count.pooled);
  for (const auto& [key, region] : regions.regions) {
    for (i64 token = region.begin; token < region.end; token += block_size) {
      add_key(layout, key.first, token, std::min(token + block_size, region.end));
    }
  }
  if (window == BlockWindow::visible) layout.tail_begin.assign(problem.end.begin(), problem.end.end());
  for (std::size_t m = 0; m < problem.begin.size(); ++m) {
    if (!regions.sees(m)) continue;
    const Region& region = regions.of(m);
    layout.first[m] = static_cast<i32>(region.first_block + regions.skipped(m));
    layout.last[m] = static_cast<i32>(region.first_block + regions.reached(m));
    layout.origin[m] = static_cast<i32>(regions.origin(m));
    if (!layout.tail_begin.empty()) {
      layout.tail_begin[m] = static_cast<i32>(region.begin + (regions.reached(m) - 1) * block_size);
    }
  }
  return layout;
}

std::vector<i32> changed_keys(const BlockLayout& layout, const Problem& problem, bool tails) {
  // Contiguous keys have one numbering of tokens.
  const auto numbering = [&](i32 sequence) { return problem.shape.paged ? sequence : 0; };
  std::map<i32, std::vector<i32>> own;                   // tokens of the rows, of each sequence
  std::vector<i64> readers(layout.begin.size() + 1, 0);  // how many more read key p than read key p - 1
  for (std::size_t m = 0; m < problem.begin.size(); ++m) {
    if (problem.end[m] <= problem.begin[m]) continue;
    own[numbering(problem.sequence[m])].push_back(problem.end[m] - 1);
    const i32 last = layout.last[m] - (tails ? 1 : 0);
    ++readers[static_cast<std::size_t>(layout.first[m])];
    --readers[static_cast<std::size_t>(std::max(last, layout.first[m]))];
  }
  for (auto& [sequence, tokens] : own) std::sort(tokens.begin(), tokens.end());
  std::vector<i32> changed;
  i64 reading = 0;
  for (std::size_t p = 0; p < layout.begin.size(); ++p) {
    reading += readers[p];
    const auto tokens = own.find(numbering(layout.sequence[p]));
    if (reading == 0 || tokens == own.end()) continue;
    const auto next = std::lower_bound(tokens->second.begin(), tokens->second.end(), layout.begin[p]);
    if (next != tokens->second.end() && *next < layout.end[p]) changed.push_back(static_cast<i32>(p));
  }
  return changed;
}

BlockLayout layout_samples(const Problem& problem, i64 samples) {
  const SampleRegions regions(problem, samples);
  BlockLayout layout = empty_layout(problem, regions.count.pooled);
  for (const auto& [key, region] : regions.regions) {
    for (i64 token = region.begin; token < region.end; token += key[2]) add_key(layout, key[0], token, token + 1);
  }
  for (std::size_t m = 0; m < problem.begin.size(); ++m) {
    if (regions.visible(m) == 0) continue;
    layout.first[m] = static_cast<i32>(regions.of(m).first_block);
    layout.last[m] = static_cast<i32>(regions.of(m).first_block + regions.seen(m));
  }
  return layout;
}

}  // namespace misa
