#include "core/experiment/recorded.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/agreement/judge.hpp"
#include "core/agreement/offer.hpp"
#include "core/base/error.hpp"

namespace misa {
namespace {

/// The tokens of `chosen` that the exact selection of as many tokens leaves out. Tokens whose scores equal that of the
/// last that belongs do not count, and forced ones, which `chosen` holds, belong.
Difference difference_of(const Field& field, std::span<const i32> chosen) {
  std::vector<std::size_t> order(field.ids.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  const std::size_t kept = std::min(chosen.size(), order.size());
  std::vector<i32> forced = field.forced;
  std::sort(forced.begin(), forced.end());
  const auto rank = [&](std::size_t i) {
    if (std::binary_search(forced.begin(), forced.end(), field.ids[i])) return HUGE_VAL;
    return std::isnan(field.scores[i]) ? -HUGE_VAL : field.scores[i];
  };
  Difference found;
  if (kept == 0) return found;
  std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept - 1), order.end(),
                   [&](std::size_t a, std::size_t b) { return rank(a) > rank(b); });
  const std::size_t last = order[kept - 1];
  std::size_t lowest = last;
  for (std::size_t i = 0, c = 0; i < field.ids.size() && c < chosen.size(); ++i) {
    if (field.ids[i] != chosen[c]) continue;
    ++c;
    if (!(rank(i) < rank(last))) continue;
    ++found.tokens;
    if (rank(i) < rank(lowest)) lowest = i;
  }
  found.token = field.ids[lowest];
  found.score = field.scores[lowest];
  found.last_score = field.scores[last];
  found.bound = field.bounds[lowest] + field.bounds[last];
  for (std::size_t i = 0; i < field.ids.size(); ++i) {
    if (rank(i) > rank(lowest) || (rank(i) == rank(lowest) && i < lowest)) ++found.rank;
  }
  return found;
}

/// Row `r` of ids, which is row m's: its tokens, and what of it names none.
struct RowOfIds {
  std::vector<i32> tokens;  ///< ascending, each once
  std::vector<Violation> violations;
  bool padded = false;  ///< the row sees no more tokens than these, and what else it names is no violation
};

RowOfIds read_row(const Workload& workload, const HostTensor& given, IdKind kind, i64 r, i64 m, i64 k) {
  const std::span<const i32> ids = row_of<i32>(given, r);
  const std::vector<i32> tokens = tokens_of(workload, kind, m, ids);
  const std::size_t row = static_cast<std::size_t>(m);
  const i64 window = workload.ke[row] - workload.ks[row];
  std::vector<bool> taken(static_cast<std::size_t>(std::max<i64>(0, window)), false);
  RowOfIds found;
  bool negative = false, repeated = false;
  for (std::size_t c = 0; c < ids.size(); ++c) {
    if (ids[c] == -1) continue;
    const auto add = [&](Fault fault) { found.violations.push_back({{}, m, static_cast<i64>(c), ids[c], fault}); };
    if (tokens[c] < 0) {
      negative = negative || ids[c] < 0;
      add(ids[c] < 0 ? Fault::padding : ids[c] < workload.keys() ? Fault::out_of_window : Fault::out_of_range);
    } else if (taken[static_cast<std::size_t>(tokens[c])]) {
      repeated = true;
      add(Fault::duplicate);
    } else {
      taken[static_cast<std::size_t>(tokens[c])] = true;
      found.tokens.push_back(tokens[c]);
    }
  }
  std::sort(found.tokens.begin(), found.tokens.end());
  if (window < k && static_cast<i64>(found.tokens.size()) == std::max<i64>(0, window) && !negative && !repeated) {
    found.padded = !found.violations.empty();
    found.violations.clear();
  }
  return found;
}

}  // namespace

RecordedTopK topk_of(const Workload& workload, const HostTensor& given, std::vector<i32> rows, IdKind ids, i64 k) {
  RecordedTopK recorded;
  recorded.k = k;
  recorded.rows = std::move(rows);
  recorded.given = &given;
  recorded.ids = ids;
  recorded.tokens = HostTensor(Dtype::int32, {workload.rows(), recorded.k});
  const std::span<i32> tokens = recorded.tokens.span<i32>();
  std::fill(tokens.begin(), tokens.end(), -1);
  for (std::size_t r = 0; r < recorded.rows.size(); ++r) {
    const i32 m = recorded.rows[r];
    RowOfIds row = read_row(workload, given, ids, static_cast<i64>(r), m, recorded.k);
    if (static_cast<i64>(row.tokens.size()) > recorded.k) {
      throw Error(ErrorKind::usage, "MP-E061",
                  fmt::format("row {} selects {} tokens, and each row keeps {}", m, row.tokens.size(), recorded.k),
                  workload.name, "--top-k, as many as each row keeps");
    }
    std::copy(row.tokens.begin(), row.tokens.end(), tokens.begin() + m * recorded.k);
    std::move(row.violations.begin(), row.violations.end(), std::back_inserter(recorded.violations));
    if (row.padded) ++recorded.padded;
  }
  return recorded;
}

std::optional<RecordedTopK> recorded_topk(const Workload& workload, IdKind ids, std::optional<i64> k) {
  if (workload.topk.empty()) return std::nullopt;
  RecordedTopK recorded =
      topk_of(workload, workload.topk, workload.topk_row, ids, k.value_or(workload.topk.shape.at(1)));
  if (const auto stated = workload.metadata.find("topk_arithmetic"); stated != workload.metadata.end()) {
    recorded.arithmetic = find_arithmetic(stated->second);
  }
  return recorded;
}

Quality rate_recorded(const Workload& workload, const RecordedTopK& recorded, std::span<const i32> reference,
                      std::string_view name, const Forced& forced) {
  // Where nothing is recorded nothing is wanted: such rows do not count.
  HostTensor wanted(Dtype::int32, recorded.tokens.shape);
  const std::span<i32> tokens = wanted.span<i32>();
  std::fill(tokens.begin(), tokens.end(), -1);
  for (const i32 row : recorded.rows) {
    const auto from = reference.begin() + row * recorded.k;
    std::copy(from, from + recorded.k, tokens.begin() + row * recorded.k);
  }
  Quality quality = compare_selections(workload, {wanted.span<const i32>(), recorded.k, name, forced},
                                       {recorded.tokens.span<const i32>(), recorded.k});
  quality.attention_rows = quality.needle_cells = quality.needle_answer_cells = 0;
  quality.attention_mass = quality.attention_mass_absolute = quality.reference_attention_mass = std::nullopt;
  quality.needle_hit_rate = quality.reference_needle_hit_rate = std::nullopt;
  return quality;
}

Agreement judge_recorded(ExactReference& exact_reference, const RecordedTopK& recorded, const IndexerSpec& spec,
                         const Selection& exact, const std::string& name) {
  Agreement result{.indexer = spec.name, .side = name, .against = exact.name, .choices = {}};
  ChoiceAgreement& one = result.choices.emplace_back();
  one.choice = Choice::tokens;
  const Problem& problem = exact_reference.problem();
  const Workload& workload = exact_reference.workload();
  Selection side;  // what came before tokens was not recorded
  for (const Choice choice : {Choice::heads, Choice::linear, Choice::blocks, Choice::candidates}) {
    if (!exact[choice].empty()) side[choice] = exact[choice].copy();
  }
  std::vector<bool> broken(static_cast<std::size_t>(problem.shape.rows), false);
  const auto violate = [&](i64 m, i64 column, i64 id, Fault fault) {
    broken[static_cast<std::size_t>(m)] = true;
    one.add(Violation{name, m, column, id, fault});
  };
  for (const Violation& found : recorded.violations) violate(found.row, found.column, found.id, found.fault);

  bool zeros = true;  // every score on offer so far is 0
  for (std::size_t r = 0; r < recorded.rows.size(); ++r) {
    const i32 m = recorded.rows[r];
    const std::size_t at = static_cast<std::size_t>(m);
    if (problem.end[at] <= problem.begin[at] && !broken[at]) continue;
    const std::span<const i32> chosen = without_pads(row_of<i32>(recorded.tokens, m));
    const std::span<const i32> right = without_pads(row_of<i32>(exact[Choice::tokens], m));
    const Offer offered = offer_of(exact_reference, spec, side, Choice::tokens, m);
    if (offered.limited) {
      const std::span<const i32> ids = row_of<i32>(*recorded.given, static_cast<i64>(r));
      const std::vector<i32> tokens = tokens_of(workload, recorded.ids, m, ids);
      for (std::size_t c = 0; c < ids.size(); ++c) {
        if (tokens[c] >= 0 && !offered.holds(tokens[c])) violate(m, static_cast<i64>(c), ids[c], Fault::not_offered);
      }
    }
    if (!broken[at] && chosen.size() < right.size()) {
      violate(m, static_cast<i64>(chosen.size()), -1, Fault::truncated);
    }
    if (!broken[at]) {
      for (const i32 token : missing_forced(offered, chosen)) {
        const i64 column = std::lower_bound(chosen.begin(), chosen.end(), token) - chosen.begin();
        violate(m, column, id_of(workload, recorded.ids, m, token), Fault::forced_missing);
      }
    }
    Verdict verdict = broken[at] ? Verdict::violation : Verdict::exact;
    const bool differs = !broken[at] && !std::equal(chosen.begin(), chosen.end(), right.begin(), right.end());
    std::optional<Field> field;
    if (differs || zeros) field = exact_reference.row(spec, side, m, recorded.arithmetic).tokens;
    if (zeros) {
      zeros = std::all_of(field->scores.begin(), field->scores.end(), [](double score) { return score == 0; });
    }
    if (differs) {
      const Judgement judgement = judge(*field, chosen);
      verdict = judgement.verdict;
      one.mass_lost = std::max(one.mass_lost, judgement.mass_lost);
      if (!recorded.arithmetic && verdict > Verdict::tie_swap) verdict = Verdict::unknown;
      for (Miss miss : judgement.misses) {
        if (verdict == Verdict::unknown) break;
        miss.side = name;
        miss.row = m;
        one.add(miss);
      }
      Difference difference = difference_of(*field, chosen);
      difference.row = m;
      difference.id = id_of(workload, recorded.ids, m, difference.token);
      if (!recorded.arithmetic) difference.bound.reset();
      if (difference.tokens > 0) one.add(difference);
    }
    ++one.rows;
    if (offered.count == offered.wanted) ++one.trivial;
    ++one.verdicts[static_cast<std::size_t>(verdict)];
    one.row_verdicts.push_back(verdict);
  }
  if (one.rows == 0) one.reason = kNoRecordedRow;
  result.all_zero = one.rows > 0 && one.violated == 0 && zeros;
  return result;
}

}  // namespace misa
