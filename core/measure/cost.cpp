#include "core/measure/cost.hpp"

#include <algorithm>
#include <cstddef>
#include <map>
#include <utility>
#include <variant>

#include "core/indexer/blocks.hpp"
#include "core/indexer/linear_head.hpp"

namespace misa {
namespace {

constexpr i64 kFloat = 4, kIndex = 4;  // bytes
// Of a sampled product: mean, difference, square added up; beside a linear head both of x and of its product with
// relu(x), and the residual.
constexpr i64 kDeviationFlops = 4, kLineFlops = 12;

/// Bytes of a vector of `dim` numbers that a kernel must read: of MXFP4 with the scales of its blocks.
i64 vector_bytes(Dtype dtype, i64 dim) {
  return dtype_bytes(dtype, dim) + (dtype == Dtype::e2m1 ? dim / Mxfp4::kBlock : 0);
}

i64 visible(const Problem& problem, std::size_t m) { return std::max<i64>(0, problem.end[m] - problem.begin[m]); }

/// Tokens in the union of the ranges [begin, end) of each sequence.
i64 distinct_tokens(const std::vector<i32>& sequence, const std::vector<i32>& begin, const std::vector<i32>& end) {
  std::map<i32, std::vector<std::pair<i64, i64>>> ranges;
  for (std::size_t i = 0; i < begin.size(); ++i) {
    if (end[i] > begin[i]) ranges[sequence[i]].emplace_back(begin[i], end[i]);
  }
  i64 tokens = 0;
  for (auto& [id, list] : ranges) {
    std::sort(list.begin(), list.end());
    i64 reached = list.front().first;
    for (const auto& [from, to] : list) {
      tokens += std::max<i64>(0, to - std::max(from, reached));
      reached = std::max(reached, to);
    }
  }
  return tokens;
}

/// Counts per row, and what they add up to.
struct RowCounts {
  std::vector<i64> of_row;
  i64 sum = 0;

  void push(i64 count) {
    of_row.push_back(count);
    sum += count;
  }
};

/// Tokens that must be read at least: per sequence, the largest count of any row.
i64 shared_tokens(const Problem& problem, const RowCounts& counts) {
  std::map<i32, i64> most;
  for (std::size_t m = 0; m < counts.of_row.size(); ++m) {
    i64& tokens = most[problem.sequence[m]];
    tokens = std::max(tokens, counts.of_row[m]);
  }
  i64 sum = 0;
  for (const auto& [id, tokens] : most) sum += tokens;
  return sum;
}

/// Block means, or sampled keys, that scoring or routing reads.
struct Means {
  i64 pooled_tokens = 0;  ///< under those that a run pools
  i64 pooled = 0;         ///< that a run pools
  i64 count = 0;          ///< P + T
  RowCounts blocks;       ///< b[m]
  BlockLayout layout;
};

/// `heads`: those that are ranked over the means, where a row's last block has a mean of its own.
Means means_of(const Problem& problem, BlockLayout layout_of_rows, Pooling pooling, bool heads) {
  Means means;
  means.layout = std::move(layout_of_rows);
  const BlockLayout& layout = means.layout;
  const bool tails = heads && !layout.tail_begin.empty();
  std::vector<i32> sequence = layout.sequence, begin = layout.begin, end = layout.end;
  if (pooling == Pooling::cached) {
    sequence.clear(), begin.clear(), end.clear();
    for (const i32 changed : changed_keys(layout, problem, tails)) {
      const auto p = static_cast<std::size_t>(changed);
      sequence.push_back(layout.sequence[p]), begin.push_back(layout.begin[p]), end.push_back(layout.end[p]);
    }
  }
  means.count = layout.pooled();
  means.pooled = std::ssize(begin);
  for (std::size_t m = 0; m < problem.begin.size(); ++m) {
    const i64 blocks = layout.last[m] - layout.first[m];
    means.blocks.push(blocks);
    // A row that ends inside its last block averages fewer tokens than the mean that the sequence shares.
    const bool own_tail =
        blocks > 0 && tails && problem.end[m] < layout.end[static_cast<std::size_t>(layout.last[m] - 1)];
    if (own_tail) ++means.count;
    // No cached mean stands for a row's last block, though it be whole.
    if (own_tail || (pooling == Pooling::cached && blocks > 0 && tails)) {
      ++means.pooled;
      sequence.push_back(problem.sequence[m]), begin.push_back(layout.tail_begin[m]), end.push_back(problem.end[m]);
    }
  }
  means.pooled_tokens = distinct_tokens(sequence, begin, end);
  return means;
}

/// Tokens of the row's `kept` blocks, the first and the last among them.
i64 tokens_in_blocks(const Problem& problem, const Means& means, std::size_t m, i64 kept, i64 block_size) {
  const i64 all = visible(problem, m);
  const i64 left = means.blocks.of_row[m] - kept;
  if (left <= 0) return all;
  if (kept == 1) return std::min<i64>(problem.end[m], means.layout.origin[m] + block_size) - problem.begin[m];
  return all - left * block_size;
}

}  // namespace

i64 visible_pairs(const Problem& problem) {
  i64 pairs = 0;
  for (std::size_t m = 0; m < problem.begin.size(); ++m) pairs += visible(problem, m);
  return pairs;
}

std::vector<StageCost> stage_costs(const IndexerSpec& spec, const Problem& problem) {
  const i64 rows = problem.shape.rows, heads = problem.shape.heads, dim = problem.shape.head_dim;
  const i64 active = spec.heads ? std::min(spec.heads->active, heads) : heads;
  const i64 query_vector = vector_bytes(problem.shape.dtype, dim);
  const bool scaled = !problem.keys.scales.empty();
  const i64 key_bytes = vector_bytes(dtype_of(problem.keys.values), dim) + (scaled ? kFloat : 0);
  const i64 mean_bytes = dim * kFloat;
  const i64 head_flops = 2 * dim + 3;  // dot, relu, weight, sum
  const i64 query_bytes = rows * heads * query_vector, weight_bytes = rows * heads * kFloat;
  // Heads are gathered from queries as they are, to what their batch is.
  const i64 gathered_query_bytes = rows * active * query_vector, routed_weight_bytes = rows * active * kFloat;
  const i64 routed_query_bytes =
      spec.heads ? rows * active * vector_bytes(routed_dtype(problem.shape.dtype), dim) : gathered_query_bytes;
  const i64 pairs = visible_pairs(problem);
  const i64 tokens = distinct_tokens(problem.sequence, problem.begin, problem.end);

  StageCost pool{.stages = Stage::pool};
  StageCost route{.stages = Stage::route};
  const auto count_pool = [&](const Means& means) {
    pool.flops += means.pooled_tokens * dim * (scaled ? 2 : 1) + means.pooled * dim;
    pool.bytes += means.pooled_tokens * key_bytes + means.pooled * mean_bytes;
  };

  if (spec.heads) {
    // The ranked heads are gathered: queries, weights and head ids are written. q and w are read once for both.
    const i64 kept = spec.heads->kept(heads);
    route.bytes += routed_query_bytes + routed_weight_bytes + rows * kept * kIndex;
    switch (spec.heads->router) {
      case Router::pooled: {
        const Means means =
            means_of(problem, layout_blocks(problem, spec.heads->block_size, spec.block_window), spec.pooling, true);
        count_pool(means);
        route.flops += means.blocks.sum * heads * head_flops;
        route.bytes += query_bytes + weight_bytes + means.count * mean_bytes;
        break;
      }
      case Router::oracle:
        route.flops += pairs * heads * head_flops;
        route.bytes += query_bytes + weight_bytes + tokens * key_bytes;
        break;
      case Router::selfk:
        route.flops += rows * heads * head_flops;
        route.bytes += query_bytes + weight_bytes + std::min(rows, tokens) * key_bytes;
        break;
      case Router::gate:
        route.flops += rows * heads;
        route.bytes += gathered_query_bytes + weight_bytes;
        break;
      case Router::qnorm: route.bytes += gathered_query_bytes + routed_weight_bytes + rows * heads * kFloat; break;
      case Router::random: route.bytes += gathered_query_bytes + routed_weight_bytes; break;
      case Router::linear_residual:
      case Router::covariance: {
        const Means samples = means_of(problem, layout_samples(problem, spec.heads->samples), spec.pooling, true);
        count_pool(samples);
        const bool linear = spec.heads->linear_head(heads);
        route.flops += samples.blocks.sum * heads * (2 * dim + 1);
        if (linear) route.flops += samples.blocks.sum * heads * 2 + rows * (heads - kept) * 2 * dim;
        for (const i64 sampled : samples.blocks.of_row) {
          const i64 counted = linear ? (sampled + 1) / 2 : sampled;
          route.flops += counted * heads * (linear ? kLineFlops : kDeviationFlops);
          if (spec.heads->router != Router::covariance) continue;
          // Covariances of the shortlist, and with the sum of all others.
          const i64 shortlist = shortlist_size(heads, kept), others = heads - shortlist;
          route.flops += counted * (shortlist * (shortlist + 1) + (others > 0 ? others + 2 * shortlist : 0));
        }
        route.bytes += query_bytes + weight_bytes + samples.count * mean_bytes;
        break;
      }
    }
  }

  RowCounts scored;
  i64 key_reads = tokens;
  if (spec.blocks) {
    const Means means =
        means_of(problem, layout_blocks(problem, spec.blocks->block_size, spec.block_window), spec.pooling, false);
    count_pool(means);
    const i64 logits = means.blocks.sum * kFloat;
    route.flops += means.blocks.sum * heads * head_flops;
    route.bytes += query_bytes + weight_bytes + means.count * mean_bytes + 2 * logits;
    const i64 most =
        means.blocks.of_row.empty() ? 0 : *std::max_element(means.blocks.of_row.begin(), means.blocks.of_row.end());
    route.bytes += rows * std::min(spec.blocks->blocks, most) * kIndex;
    for (std::size_t m = 0; m < problem.begin.size(); ++m) {
      scored.push(tokens_in_blocks(problem, means, m, spec.blocks->blocks, spec.blocks->block_size));
    }
    key_reads = shared_tokens(problem, scored);
  } else if (spec.given) {
    for (const i32 keys : problem.given_keys) scored.push(keys);
    key_reads = shared_tokens(problem, scored);
  } else {
    for (std::size_t m = 0; m < problem.begin.size(); ++m) scored.push(visible(problem, m));
  }

  const i64 logits = scored.sum * kFloat;
  StageCost score{.stages = Stage::score,
                  .flops = scored.sum * active * head_flops,
                  .bytes = routed_query_bytes + routed_weight_bytes + key_reads * key_bytes + logits,
                  .logits_bytes = logits};
  const i64 kept = spec.rerank ? std::min(spec.rerank->candidates, problem.shape.max_window) : spec.top_k;
  if (spec.given) score.bytes += rows * problem.given_runs * kIndex;
  const StageCost select{.stages = Stage::select, .bytes = logits + rows * kept * kIndex, .logits_bytes = logits};

  std::vector<StageCost> costs;
  if (pool.bytes > 0) costs.push_back(pool);
  if (spec.heads || spec.blocks) costs.push_back(route);
  costs.push_back(score);
  costs.push_back(select);
  if (spec.rerank) {
    RowCounts again;
    for (i64 count : scored.of_row) again.push(std::min(count, spec.rerank->candidates));
    const i64 rerank_logits = 2 * again.sum * kFloat;
    costs.push_back({.stages = Stage::rerank,
                     .flops = again.sum * heads * head_flops,
                     .bytes = query_bytes + weight_bytes + again.sum * kIndex +
                              shared_tokens(problem, again) * key_bytes + rerank_logits + rows * spec.top_k * kIndex,
                     .logits_bytes = rerank_logits});
  }
  return costs;
}

std::optional<StageCost> cost_of(StageSet label, std::span<const StageCost> costs) {
  const bool fused = label.has(Stage::score) && label.has(Stage::select);
  StageCost sum;
  for (const StageCost& cost : costs) {
    if ((cost.stages.bits & label.bits) == 0) continue;
    const i64 saved = fused && cost.stages != Stage::rerank ? cost.logits_bytes : 0;
    sum.stages = sum.stages | cost.stages;
    sum.flops += cost.flops;
    sum.bytes += cost.bytes - saved;
    sum.logits_bytes += cost.logits_bytes - saved;
  }
  if (sum.stages != label || label == StageSet{}) return std::nullopt;
  return sum;
}

std::optional<Roofline> roofline(double seconds, const StageCost& cost, const Roofs& roofs, Dtype dtype,
                                 bool recorded) {
  const double peak = roofs.flops_of(dtype);
  const double launch = recorded ? roofs.recorded_launch_seconds : roofs.launch_seconds;
  if (!(seconds > 0 && roofs.bytes_per_second > 0 && launch > 0) || (cost.flops > 0 && !(peak > 0))) {
    return std::nullopt;
  }
  const double floors[]{cost.flops > 0 ? static_cast<double>(cost.flops) / peak : 0,
                        static_cast<double>(cost.bytes) / roofs.bytes_per_second, launch};
  const auto largest = std::max_element(std::begin(floors), std::end(floors));
  return Roofline{*largest, *largest / seconds, static_cast<Bound>(largest - std::begin(floors)), dtype};
}

}  // namespace misa
