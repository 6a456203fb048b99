#include "core/agreement/exact_reference.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/base/interrupt.hpp"
#include "core/workload/subset.hpp"

namespace misa {
namespace {

std::vector<i32> numbered(std::size_t count) {
  std::vector<i32> ids(count);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

/// Rows of what a side recorded, cut to the width of a plan; only pads are cut off.
template <class T>
Buffer place_rows(Backend& backend, const HostTensor& recorded, const RowRange& rows, i64 width,
                  View<const T, 2>& view) {
  if (recorded.empty() || width == 0) return {};
  const i64 given = recorded.shape[1], count = rows.last - rows.first;
  std::vector<T> placed(static_cast<std::size_t>(count * width), T{-1});
  for (i64 i = 0; i < count; ++i) {
    const auto from = recorded.span<const T>().subspan(static_cast<std::size_t>((rows.first + i) * given));
    std::copy_n(from.begin(), std::min(width, given), placed.begin() + i * width);
  }
  Buffer buffer(backend, count * width * static_cast<i64>(sizeof(T)));
  backend.upload(buffer.data(), reinterpret_cast<const std::byte*>(placed.data()), buffer.bytes());
  view = View<const T, 2>(buffer.as<const T>(), {count, width});
  return buffer;
}

i64 width_of(const View<const i32, 2>& view) { return view.empty() ? 0 : view.shape[1]; }

}  // namespace

std::vector<i32> forced_among(std::span<const i32> ids, const Forced& forced, i64 wanted) {
  const i64 count = std::ssize(ids);
  if (count <= wanted) return {};
  const auto [first, last] = forced.within(wanted);
  std::vector<i32> found(ids.begin(), ids.begin() + first);
  found.insert(found.end(), ids.rbegin(), ids.rbegin() + last);
  return found;
}

const Field& ExactRow::operator[](Choice choice) const {
  switch (choice) {
    case Choice::heads: return heads;
    case Choice::linear: return linear;
    case Choice::blocks: return blocks;
    case Choice::candidates: return candidates;
    case Choice::tokens:
    case Choice::scores: break;
  }
  return tokens;
}

ExactReference::ExactReference(Backend& exact, const Workload& workload)
    : exact_(exact), workload_(workload), placement_(exact, workload), bounds_(placement_.problem()) {}

i64 ExactReference::bytes_needed(const Workload& workload) {
  // The placement, the norms of keys and queries, and the norms of placing, which are gone by then.
  const i64 norms = workload.keys() * 8 + workload.rows() * workload.heads() * 8;
  return Placement::bytes_needed(workload) + norms;
}

i64 ExactReference::row_bytes(const Backend& exact, const IndexerSpec& spec, const Problem& problem) {
  // Each token has an id, a score and a bound on both sides. While a row is scored its scores exist twice, and its
  // tokens; while it is judged there are ranks, their order, and lists of what is inside and outside. Each miss has
  // its numbers.
  constexpr i64 kColumn = 128, kMiss = 128;
  const PlanBytes plan = Plan::bytes_needed(exact, spec, problem, true);
  const i64 columns = std::max(plan.columns, problem.shape.max_window);
  i64 samples = 0;
  if (spec.heads && samples_keys(spec.heads->router)) samples = count_samples(problem, spec.heads->samples).longest;
  const i64 together = spec.heads ? spec.heads->group : 1;
  return plan.fixed + plan.per_row * together + kColumn * columns + kMiss * std::min(spec.top_k, columns) +
         2 * sampled_row_bytes(problem.shape.heads, samples);
}

const BlockLayout& ExactReference::blocks(i64 block_size, BlockWindow window) {
  const auto [found, inserted] = layouts_.try_emplace({block_size, window});
  if (inserted) found->second = layout_blocks(problem(), block_size, window);
  return found->second;
}

ExactRow ExactReference::row(const IndexerSpec& spec, const Selection& side, i64 m,
                             const std::optional<Arithmetic>& arithmetic) {
  // A row is judged among the rows of its group, and looked at alone.
  const RowRange together = spec.heads ? group_of(problem(), spec.heads->group, m) : RowRange{m, m + 1};
  const Problem rows = slice(problem(), together.first, together.last - together.first);
  const i64 own = m - together.first;
  const std::size_t at = static_cast<std::size_t>(m);
  const i32 sequence = problem().sequence[at], begin = problem().begin[at];
  const std::span<const i32> own_heads = row_of<i32>(side[Choice::heads], m);
  const std::span<const float> own_linear = row_of<float>(side[Choice::linear], m);
  const Arithmetic formulas = *exact_.arithmetic(problem().shape);
  const auto both = [&](auto&& bound) { return arithmetic ? bound(*arithmetic) + bound(formulas) : 0.0; };

  ExactRow found;
  const auto take_tokens = [&](const Logits& logits, const std::optional<Candidates>& columns, i64 wanted,
                               std::span<const i32> heads, std::span<const float> linear) {
    Field field;
    const std::vector<double> scores = fetch_row(exact_, logits, own);
    const std::vector<i32> tokens = column_tokens(exact_, rows, own, own, static_cast<i64>(scores.size()), columns);
    field.ids.reserve(tokens.size());
    field.scores.reserve(tokens.size());
    field.bounds.reserve(tokens.size());
    for (std::size_t c = 0; c < tokens.size(); ++c) {
      stop_if_interrupted();
      if (tokens[c] < 0) continue;
      field.ids.push_back(tokens[c]);
      field.scores.push_back(scores[c]);
      field.bounds.push_back(both([&](const Arithmetic& a) {
        return bounds_.score(a, m, heads, linear, bounds_.key(sequence, begin + tokens[c]));
      }));
    }
    field.forced = forced_among(field.ids, spec.forced_tokens(), wanted);
    return field;
  };

  PlanOptions options;
  options.fusion = false;
  options.first_row = first_row(workload_) + together.first;
  options.after_chunk = [&](const ChunkScores& chunk) {
    if (chunk.route) {
      const View<double, 2>& energies = chunk.route->rank.energies;
      found.heads.ids = numbered(static_cast<std::size_t>(energies.shape[1]));
      found.heads.scores.assign(&energies(own, 0), &energies(own, 0) + energies.shape[1]);
      found.heads.bounds.assign(found.heads.ids.size(), 0.0);
      if (arithmetic) {
        const BlockLayout* layout =
            spec.heads->router == Router::pooled ? &blocks(spec.heads->block_size, spec.block_window) : nullptr;
        for (const Arithmetic& a : {*arithmetic, formulas}) {
          for (i64 r = together.first; r < together.last; ++r) {
            const std::vector<double> bounds =
                bounds_.energies(a, r, spec.heads->router, layout, spec.heads->block_size);
            for (std::size_t h = 0; h < bounds.size(); ++h) found.heads.bounds[h] += bounds[h];
          }
        }
      }
    }
    if (chunk.route && samples_keys(spec.heads->router)) {
      judge_by_samples(chunk.route->rank, *spec.heads, m, own_heads, arithmetic, found);
    }
    if (chunk.blocks) {
      const BlockLayout& layout = blocks(spec.blocks->block_size, spec.block_window);
      const i64 first = layout.first[at], count = layout.last[at] - first;
      found.blocks.scores = fetch_row(exact_, *chunk.blocks, own);
      found.blocks.scores.resize(static_cast<std::size_t>(count));
      found.blocks.ids = numbered(static_cast<std::size_t>(count));
      for (i64 b = first; b < first + count; ++b) {
        const std::size_t p = static_cast<std::size_t>(b);
        found.blocks.bounds.push_back(
            both([&](const Arithmetic& a) { return bounds_.block_score(a, m, layout.begin[p], layout.end[p]); }));
      }
      found.blocks.forced = forced_among(found.blocks.ids, spec.forced_blocks(), spec.blocks->blocks);
    }
    const i64 kept = spec.rerank ? spec.rerank->candidates : spec.top_k;
    Field first_pass = take_tokens(*chunk.tokens, chunk.within, kept, own_heads, own_linear);
    if (chunk.candidates) {
      found.candidates = std::move(first_pass);
      found.tokens = take_tokens(*chunk.candidates, chunk.listed, spec.top_k, {}, {});
    } else {
      found.tokens = std::move(first_pass);
    }
  };
  Plan plan(exact_, spec, rows, options);
  Follow follow;
  const Buffer heads = place_rows(exact_, side[Choice::heads], together, width_of(plan.heads()), follow.heads);
  const Buffer chosen = place_rows(exact_, side[Choice::blocks], together, width_of(plan.blocks()), follow.blocks);
  const Buffer candidates =
      place_rows(exact_, side[Choice::candidates], together, width_of(plan.candidates()), follow.candidates);
  const Buffer linear =
      place_rows(exact_, side[Choice::linear], together, static_cast<i64>(own_linear.size()), follow.linear);
  plan.run(nullptr, follow);
  return found;
}

/// What follows from sampled products alone: what heads were ranked by, if `kept` are those a side kept, and the linear
/// query of all others.
void ExactReference::judge_by_samples(const RankTask& task, const HeadRouting& routing, i64 m,
                                      std::span<const i32> kept, const std::optional<Arithmetic>& arithmetic,
                                      ExactRow& found) {
  const std::span<const float> weights(&task.queries.weights(0, 0), static_cast<std::size_t>(heads_of(task.queries)));
  const SampledRow row(sampled_products(task, 0), weights, !task.slopes.empty());
  const auto [layout, inserted] = samples_.try_emplace(routing.samples);
  if (inserted) layout->second = layout_samples(problem(), routing.samples);
  const BlockLayout& samples = layout->second;
  const auto bounded = [&](std::size_t count, auto&& bounds_of) {
    std::vector<double> bounds(count, 0.0);
    if (!arithmetic) return bounds;
    for (const Arithmetic& a : {*arithmetic, *exact_.arithmetic(problem().shape)}) {
      const std::vector<double> more = bounds_of(a);
      for (std::size_t i = 0; i < count; ++i) bounds[i] += more[i];
    }
    return bounds;
  };

  const std::size_t heads = weights.size();
  std::vector<double> of_residuals =
      bounded(heads, [&](const Arithmetic& a) { return bounds_.residuals(a, m, samples, row); });
  if (routing.router == Router::covariance) {
    const i64 places = static_cast<i64>(kept.size());
    // A head whose weight is not finite is on the shortlist in no arithmetic.
    for (std::size_t h = 0; h < heads; ++h) {
      if (!std::isfinite(weights[h])) of_residuals[h] = 0;
    }
    const std::vector<i32> shortlist = row.shortlist(places);
    const std::vector<bool> unsure = left_open(row.shortlist_energies(), of_residuals, shortlist);
    const Elimination left = row.eliminate(places, kept);
    found.heads.scores = left.margins;
    found.heads.bounds = bounded(
        heads, [&](const Arithmetic& a) { return bounds_.costs(a, m, samples, row, kept, unsure, left.deviation); });
    // A head that cannot be on the shortlist cannot be kept.
    for (const i32 h : kept) {
      if (std::binary_search(shortlist.begin(), shortlist.end(), h)) continue;
      if (unsure[static_cast<std::size_t>(h)]) continue;
      found.heads.scores[static_cast<std::size_t>(h)] = -std::numeric_limits<double>::infinity();
    }
    // A margin is over any of the heads dropped: over the one that is known least.
    double most = 0;
    for (std::size_t h = 0; h < heads; ++h) {
      if (left.margins[h] == 0) most = std::max(most, found.heads.bounds[h]);
    }
    for (std::size_t h = 0; h < heads; ++h) {
      if (!std::binary_search(kept.begin(), kept.end(), static_cast<i32>(h))) found.heads.bounds[h] = most;
    }
  } else {
    found.heads.bounds = of_residuals;
  }
  if (task.slopes.empty()) return;
  found.linear.scores = linear_query(task.queries, 0, row.slopes(), kept);
  found.linear.ids = numbered(found.linear.scores.size());
  found.linear.bounds = bounded(found.linear.ids.size(),
                                [&](const Arithmetic& a) { return bounds_.linear_query(a, m, samples, row, kept); });
}

}  // namespace misa
