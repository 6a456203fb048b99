#include "core/experiment/explain.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <numeric>
#include <span>

#include "core/agreement/exact_reference.hpp"
#include "core/base/error.hpp"
#include "core/indexer/blocks.hpp"
#include "core/selection/run_selection.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/subset.hpp"

namespace misa {
namespace {

std::size_t index(i64 i) { return static_cast<std::size_t>(i); }

/// Tokens with scores, and their order: forced tokens first, then higher score first, ties: lower token first, NaN
/// last.
struct RankedScores {
  std::vector<i32> tokens;     ///< ascending
  std::vector<double> scores;  ///< of each
  std::vector<i64> order;      ///< places in `tokens`, the best first
  std::vector<i64> ranks;      ///< of each, from 1

  i64 size() const { return static_cast<i64>(tokens.size()); }

  void rank(std::vector<i32> forced = {}) {
    std::sort(forced.begin(), forced.end());
    std::vector<bool> first;
    for (const i32 token : tokens) first.push_back(std::binary_search(forced.begin(), forced.end(), token));
    order.resize(tokens.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](i64 a, i64 b) {
      if (first[index(a)] != first[index(b)]) return static_cast<bool>(first[index(a)]);
      const double x = scores[index(a)], y = scores[index(b)];
      return std::isnan(y) ? !std::isnan(x) : x > y;
    });
    ranks.resize(tokens.size());
    for (i64 i = 0; i < size(); ++i) ranks[index(order[index(i)])] = i + 1;
  }

  std::optional<i64> place_of(i64 token) const {
    const auto at = std::lower_bound(tokens.begin(), tokens.end(), token);
    if (at == tokens.end() || *at != token) return std::nullopt;
    return at - tokens.begin();
  }
};

/// What a plan did with one row.
struct ExplainedRun {
  RankedScores first_pass;
  std::vector<i32> tokens, heads, blocks, candidates;
  std::vector<double> energies, block_scores;
  i64 block_origin = 0;  ///< the token that the row's first block begins at
};

std::vector<i32> ids_of(Backend& backend, const View<const i32, 2>& view) {
  const HostTensor ids = fetch_ids(backend, view);
  const auto chosen = without_pads(row_of<i32>(ids, 0));
  return {chosen.begin(), chosen.end()};
}

/// Runs `spec` on `row`, which is number `number` of the workload.
ExplainedRun run_row(Backend& exact, const IndexerSpec& spec, const Problem& row, i64 number,
                     const std::function<void(const GatherTask&)>& seen_route = {}) {
  ExplainedRun run;
  PlanOptions options;
  options.fusion = false;
  options.first_row = number;
  options.after_chunk = [&](const ChunkScores& chunk) {
    const std::vector<double> scores = fetch_row(exact, *chunk.tokens, 0);
    const std::vector<i32> tokens = column_tokens(exact, row, 0, 0, static_cast<i64>(scores.size()), chunk.within);
    for (std::size_t c = 0; c < tokens.size(); ++c) {
      if (tokens[c] < 0) continue;
      run.first_pass.tokens.push_back(tokens[c]);
      run.first_pass.scores.push_back(scores[c]);
    }
    if (chunk.blocks) run.block_scores = fetch_row(exact, *chunk.blocks, 0);
    if (chunk.within) run.block_origin = chunk.within->origin[0];
    if (!chunk.route) return;
    const View<double, 2>& energies = chunk.route->rank.energies;
    run.energies.assign(&energies(0, 0), &energies(0, 0) + energies.shape[1]);
    if (seen_route) seen_route(chunk.route->gather);
  };
  Plan plan(exact, spec, row, options);
  plan.run(nullptr);
  run.first_pass.rank(
      forced_among(run.first_pass.tokens, spec.forced_tokens(), spec.rerank ? spec.rerank->candidates : spec.top_k));
  run.tokens = ids_of(exact, plan.tokens());
  run.heads = ids_of(exact, plan.heads());
  run.blocks = ids_of(exact, plan.blocks());
  run.candidates = ids_of(exact, plan.candidates());
  return run;
}

/// Heads [first, first + count) of a batch.
Queries slice_heads(const Queries& queries, i64 first, i64 count) {
  return {std::visit([&](const auto& values) -> Values { return slice_second(values, first, count); }, queries.values),
          slice_second(queries.weights, first, count)};
}

/// Scores of some tokens of a row by the heads of `queries`.
std::vector<double> score_tokens(Backend& exact, const Problem& row, const Queries& queries,
                                 const std::vector<i32>& tokens) {
  const i64 count = static_cast<i64>(tokens.size());
  std::vector<double> scores(tokens.size());
  if (count == 0) return scores;
  const Candidates listed{.runs = View<const i32, 2>(tokens.data(), {1, count}), .origin = row.windows.begin};
  exact.score({queries, row.keys, row.windows, listed, View<double, 2>(scores.data(), {1, count})});
  return scores;
}

std::vector<i32> without(const std::vector<i32>& from, const std::vector<i32>& those) {
  std::vector<i32> left;
  std::set_difference(from.begin(), from.end(), those.begin(), those.end(), std::back_inserter(left));
  return left;
}

/// A share of `sum`, if that has shares.
std::optional<double> share_of(double part, double sum) {
  return std::isfinite(sum) && sum > 0 ? std::optional(part / sum) : std::nullopt;
}

/// The heads by rank. `votes` [H, n] of each for each missed token.
std::vector<ExplainedHead> explain_heads(const ExplainedRun& run, const Queries& queries, Router router,
                                         const std::vector<std::vector<double>>& votes) {
  std::vector<ExplainedHead> heads;
  double energy = 0, cast = 0;
  bool are_parts = router != Router::covariance;
  for (i64 h = 0; h < static_cast<i64>(run.energies.size()); ++h) {
    const std::vector<double>& own = votes[index(h)];
    heads.push_back({.head = h,
                     .weight = queries.weights(0, h),
                     .energy = run.energies[index(h)],
                     .kept = std::binary_search(run.heads.begin(), run.heads.end(), static_cast<i32>(h)),
                     .votes = std::accumulate(own.begin(), own.end(), 0.0)});
    energy += heads.back().energy;
    cast += heads.back().votes < 0 ? 0 : heads.back().votes;
    are_parts = are_parts && !(heads.back().energy < 0);
  }
  std::stable_sort(heads.begin(), heads.end(), [](const ExplainedHead& a, const ExplainedHead& b) {
    if (std::isnan(a.energy) != std::isnan(b.energy)) return std::isnan(b.energy);
    if (a.energy != b.energy && !std::isnan(a.energy)) return a.energy > b.energy;
    return a.kept && !b.kept;
  });
  for (std::size_t i = 0; i < heads.size(); ++i) {
    heads[i].rank = static_cast<i64>(i) + 1;
    if (are_parts) heads[i].share = share_of(heads[i].energy, energy);
    heads[i].votes_share = share_of(heads[i].votes, cast);
  }
  return heads;
}

RankedToken ranked_token(const RankedScores& dsa, const RankedScores& own, i64 place) {
  RankedToken token{
      .token = dsa.tokens[index(place)], .rank = dsa.ranks[index(place)], .score = dsa.scores[index(place)]};
  if (const auto at = own.place_of(token.token)) {
    token.own_rank = own.ranks[index(*at)];
    token.own_score = own.scores[index(*at)];
  }
  return token;
}

/// The last of `tokens` in the order of `by`, as its place there.
std::optional<i64> last_of(const std::vector<i32>& tokens, const RankedScores& by) {
  std::optional<i64> last;
  for (const i32 token : tokens) {
    const auto place = by.place_of(token);
    if (place && (!last || by.ranks[index(*place)] > by.ranks[index(*last)])) last = place;
  }
  return last;
}

/// Of block `block` among the row's, by score; the first and the last are chosen whatever they score.
i64 rank_of_block(const ExplainedRun& run, i64 block) {
  RankedScores blocks;
  blocks.scores = run.block_scores;
  blocks.tokens.resize(run.block_scores.size());
  std::iota(blocks.tokens.begin(), blocks.tokens.end(), 0);
  blocks.rank();
  return blocks.ranks[index(block)];
}

MissedToken explain_missed(const RankedToken& at, const ExplainedRun& run, const IndexerSpec& spec, i64 begin) {
  MissedToken missed{.at = at};
  const std::vector<i32>& through = spec.rerank ? run.candidates : run.tokens;
  if (!at.own_rank) {
    missed.lost = Lost::blocks;
    missed.block_rank = rank_of_block(run, (begin + at.token - run.block_origin) / spec.blocks->block_size);
  } else if (spec.rerank && !std::binary_search(through.begin(), through.end(), static_cast<i32>(at.token))) {
    missed.lost = Lost::candidates;
  }
  const auto last = last_of(through, run.first_pass);
  if (at.own_score && last) missed.beaten_by = run.first_pass.scores[index(*last)] - *at.own_score;
  return missed;
}

std::vector<HeadVote> top_voters(const std::vector<std::vector<double>>& votes, std::size_t token) {
  std::vector<HeadVote> voters;
  double cast = 0;
  for (std::size_t h = 0; h < votes.size(); ++h) {
    if (!(votes[h][token] > 0)) continue;
    voters.push_back({static_cast<i64>(h), votes[h][token]});
    cast += votes[h][token];
  }
  for (HeadVote& voter : voters) voter.share = share_of(voter.vote, cast);
  std::stable_sort(voters.begin(), voters.end(), [](const HeadVote& a, const HeadVote& b) { return a.vote > b.vote; });
  if (voters.size() > index(kVoters)) voters.resize(index(kVoters));
  return voters;
}

void count_found(const std::vector<i32>& wanted, const RankedScores& own, i64 k, Explanation& found) {
  std::vector<i64> ranks;
  for (const i32 token : wanted) {
    if (const auto place = own.place_of(token)) ranks.push_back(own.ranks[index(*place)]);
  }
  if (ranks.size() == wanted.size() && !ranks.empty()) found.needed = *std::max_element(ranks.begin(), ranks.end());
  for (const i64 times : {1, 2, 4}) {
    const i64 best = std::min(times * k, own.size());
    if (!found.found.empty() && found.found.back().best == best) break;
    found.found.push_back({best, std::count_if(ranks.begin(), ranks.end(), [&](i64 rank) { return rank <= best; })});
  }
}

std::vector<ExplainedPart> explain_parts(const std::vector<i32>& wanted, const std::vector<i32>& missed, i64 visible) {
  const auto within = [](const std::vector<i32>& tokens, i64 begin, i64 end) {
    return std::lower_bound(tokens.begin(), tokens.end(), end) - std::lower_bound(tokens.begin(), tokens.end(), begin);
  };
  std::vector<ExplainedPart> parts;
  const i64 count = std::min(kParts, visible);
  for (i64 i = 0; i < count; ++i) {
    ExplainedPart part{.begin = i * visible / count, .end = (i + 1) * visible / count};
    part.wanted = within(wanted, part.begin, part.end);
    part.found = part.wanted - within(missed, part.begin, part.end);
    parts.push_back(part);
  }
  return parts;
}

/// [M, k] tokens of which only row m has any.
HostTensor only_row(const std::vector<i32>& tokens, i64 m, i64 rows, i64 k) {
  HostTensor all(Dtype::int32, {rows, k});
  const auto ids = all.span<i32>();
  std::fill(ids.begin(), ids.end(), -1);
  std::copy(tokens.begin(), tokens.end(), ids.begin() + m * k);
  return all;
}

RowQuality quality_of_row(const Workload& workload, const std::vector<i32>& wanted, const std::vector<i32>& selected,
                          i64 m, i64 k, const Forced& forced) {
  const HostTensor reference = only_row(wanted, m, workload.rows(), k);
  const HostTensor own = only_row(selected, m, workload.rows(), k);
  return compare_selections(workload, {reference.span<const i32>(), k, {}, forced}, {own.span<const i32>(), k})
      .per_row.front();
}

void refuse_row(const ExplainRequest& request) {
  const i64 rows = request.workload.rows();
  if (rows == 0) throw Error(ErrorKind::nothing, "MP-E030", "the workload has no query rows", request.workload.name);
  if (request.row < 0 || request.row >= rows) {
    throw Error(ErrorKind::usage, "MP-E450", fmt::format("there is no row {}: rows are 0 to {}", request.row, rows - 1),
                request.workload.name, fmt::format("--row {}", rows - 1));
  }
  if (request.workload.ke[index(request.row)] > request.workload.ks[index(request.row)]) return;
  throw Error(ErrorKind::nothing, "MP-E451", fmt::format("row {} sees no token", request.row), request.workload.name,
              "without --row: the row of lowest recall");
}

}  // namespace

Explanation explain(const ExplainRequest& request) {
  refuse_row(request);
  Backend& exact = request.exact;
  const IndexerSpec& spec = request.spec;
  if (spec.heads && spec.heads->group > 1) {
    throw Error(ErrorKind::usage, "MP-E569", "a row is explained alone, and group routes several rows together", {},
                "group 1");
  }
  const IndexerSpec reference = make_indexer("dsa", request.settings);
  plan_limits(request.memory, exact, request.workload, {spec, reference}, request.settings);
  const Placement placement(exact, request.workload);
  const Problem row = slice(placement.problem(), request.row, 1);
  const i64 begin = row.begin.front(), visible = row.end.front() - begin, k = spec.top_k;

  const ExplainedRun dsa = run_row(exact, reference, row, first_row(request.workload) + request.row);
  Explanation found{.row = request.row,
                    .rows = request.workload.rows(),
                    .sequence = row.sequence.front(),
                    .visible = visible,
                    .spec = spec};
  std::vector<double> linear;  // of each token that was offered
  const auto score_linear = [&](const GatherTask& batch) {
    if (!batch.has_linear()) return;
    const Queries pair = slice_heads({batch.values, batch.weights}, batch.heads.shape[1], 2);
    linear = score_tokens(exact, row, pair, dsa.first_pass.tokens);
  };
  const ExplainedRun run = run_row(exact, spec, row, first_row(request.workload) + request.row, score_linear);
  found.offered = run.first_pass.size();
  found.missed_tokens = without(dsa.tokens, run.tokens);
  found.quality = quality_of_row(request.workload, dsa.tokens, run.tokens, request.row, k, spec.forced);

  std::vector<std::vector<double>> votes;
  for (i64 h = 0; h < row.shape.heads; ++h) {
    votes.push_back(score_tokens(exact, row, slice_heads(row.queries, h, 1), found.missed_tokens));
  }
  if (!run.energies.empty()) found.heads = explain_heads(run, row.queries, spec.heads->router, votes);
  if (!linear.empty()) {
    found.linear.emplace();
    for (const i32 token : found.missed_tokens) found.linear->votes += linear[index(token)];
    for (const ExplainedHead& head : found.heads) found.linear->dropped += head.kept ? 0 : head.votes;
  }
  if (spec.blocks) {
    const BlockLayout layout = layout_blocks(row, spec.blocks->block_size, spec.block_window);
    found.blocks = layout.last.front() - layout.first.front();
  }

  const i64 wanted = static_cast<i64>(dsa.tokens.size());
  for (i64 rank = std::max<i64>(1, wanted - 2); rank <= std::min(visible, wanted + 3); ++rank) {
    found.border.push_back(ranked_token(dsa.first_pass, run.first_pass, dsa.first_pass.order[index(rank - 1)]));
  }
  count_found(dsa.tokens, run.first_pass, k, found);
  for (i64 i = 0; i < wanted && static_cast<i64>(found.missed.size()) < kMissedListed; ++i) {
    const i64 place = dsa.first_pass.order[index(i)];
    const i32 token = dsa.first_pass.tokens[index(place)];
    const auto at = std::lower_bound(found.missed_tokens.begin(), found.missed_tokens.end(), token);
    if (at == found.missed_tokens.end() || *at != token) continue;
    MissedToken missed = explain_missed(ranked_token(dsa.first_pass, run.first_pass, place), run, spec, begin);
    missed.top_voters = top_voters(votes, static_cast<std::size_t>(at - found.missed_tokens.begin()));
    found.missed.push_back(std::move(missed));
  }
  found.parts = explain_parts(dsa.tokens, found.missed_tokens, visible);
  return found;
}

i64 worst_row(Backend& backend, const Workload& workload, const IndexerSpec& spec, const IndexerSettings& settings,
              const MemoryLimits& memory) {
  const IndexerSpec reference = make_indexer("dsa", settings);
  const std::vector<i64> limits = plan_limits(memory, backend, workload, {spec, reference}, settings);
  const Placement placement(backend, workload);
  const auto tokens_of = [&](const IndexerSpec& one, i64 limit) {
    Plan plan(backend, one, placement.problem(), {.max_bytes = limit + placement.problem().bytes});
    plan.run(nullptr);
    return fetch_tokens(backend, plan);
  };
  const HostTensor wanted = tokens_of(reference, limits[1]);
  const HostTensor own = tokens_of(spec, limits[0]);
  const i64 k = spec.top_k;
  const Quality quality = compare_selections(workload, {wanted.span<const i32>(), k}, {own.span<const i32>(), k});
  if (!quality.recall.worst_row) {
    throw Error(ErrorKind::nothing, "MP-E451", "no row sees a token", workload.name, "another workload");
  }
  return *quality.recall.worst_row - first_row(workload);
}

}  // namespace misa
