#include "core/experiment/recorded.hpp"

#include <algorithm>
#include <cmath>

#include "core/agreement/judge.hpp"

namespace misa {
namespace {

constexpr std::string_view kLoosest = "bf16-result";

/// The tokens of `chosen` that the exact selection of as many tokens leaves out. Tokens whose scores equal that of the
/// last that belongs do not count.
Difference difference(const Field& field, std::span<const i32> chosen) {
  std::vector<std::size_t> order(field.ids.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  const std::size_t kept = std::min(chosen.size(), order.size());
  const auto rank = [&](std::size_t i) { return std::isnan(field.scores[i]) ? -HUGE_VAL : field.scores[i]; };
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
  return found;
}

}  // namespace

std::optional<RecordedTopK> recorded_topk(const Workload& workload) {
  if (workload.topk.empty()) return std::nullopt;
  RecordedTopK recorded;
  recorded.k = workload.topk.shape.at(1);
  recorded.rows = workload.topk_row;
  recorded.tokens = HostTensor(Dtype::int32, {workload.rows(), recorded.k});
  const std::span<i32> tokens = recorded.tokens.span<i32>();
  std::fill(tokens.begin(), tokens.end(), -1);
  for (std::size_t r = 0; r < recorded.rows.size(); ++r) {
    const std::span<const i32> from = without_pads(row_of<i32>(workload.topk, static_cast<i64>(r)));
    const auto to = tokens.begin() + recorded.rows[r] * recorded.k;
    std::sort(to, std::copy(from.begin(), from.end(), to));
  }
  if (const auto stated = workload.metadata.find("topk_arithmetic"); stated != workload.metadata.end()) {
    recorded.arithmetic = find_arithmetic(stated->second);
  }
  return recorded;
}

Quality rate_recorded(const Workload& workload, const RecordedTopK& recorded, std::span<const i32> reference) {
  // Where nothing is recorded nothing is wanted: such rows do not count.
  HostTensor wanted(Dtype::int32, recorded.tokens.shape);
  const std::span<i32> tokens = wanted.span<i32>();
  std::fill(tokens.begin(), tokens.end(), -1);
  for (const i32 row : recorded.rows) {
    const auto from = reference.begin() + row * recorded.k;
    std::copy(from, from + recorded.k, tokens.begin() + row * recorded.k);
  }
  Quality quality = compare_selections(workload, {wanted.span<const i32>(), recorded.k, "dsa"},
                                       {recorded.tokens.span<const i32>(), recorded.k});
  quality.attention_rows = quality.needle_cells = quality.needle_answer_cells = 0;
  quality.attention_mass = quality.attention_mass_absolute = quality.reference_attention_mass = std::nullopt;
  quality.needle_hit_rate = quality.reference_needle_hit_rate = std::nullopt;
  return quality;
}

RecordedAgreement judge_recorded(ExactReference& exact_reference, const RecordedTopK& recorded, const IndexerSpec& dsa,
                                 const Selection& exact) {
  RecordedAgreement result;
  result.assumed = !recorded.arithmetic;
  result.judged_by = recorded.arithmetic.value_or(*find_arithmetic(kLoosest));
  result.agreement = {.indexer = "recorded topk", .side = "trace", .against = exact.name, .choices = {}};
  ChoiceAgreement& one = result.agreement.choices.emplace_back();
  one.choice = Choice::tokens;
  Selection side;
  side.name = "trace";
  side[Choice::tokens] = recorded.tokens.copy();

  bool zeros = true;  // every score on offer so far is 0
  const Problem& problem = exact_reference.problem();
  for (const i32 m : recorded.rows) {
    const std::size_t at = static_cast<std::size_t>(m);
    const i64 window = problem.end[at] - problem.begin[at];
    if (window <= 0) continue;
    const std::span<const i32> chosen = without_pads(row_of<i32>(recorded.tokens, m));
    const std::span<const i32> right = without_pads(row_of<i32>(exact[Choice::tokens], m));
    const bool same = std::equal(chosen.begin(), chosen.end(), right.begin(), right.end());
    Verdict verdict = Verdict::exact;
    std::optional<Field> field;
    if (!same || zeros) field = exact_reference.row(dsa, side, m, result.judged_by).tokens;
    if (zeros) {
      zeros = std::all_of(field->scores.begin(), field->scores.end(), [](double score) { return score == 0; });
    }
    if (chosen.size() < right.size()) {
      verdict = Verdict::violation;
      one.add(Violation{side.name, m, static_cast<i64>(chosen.size()), -1, Fault::truncated});
    } else if (!same) {
      const Judgement judgement = judge(*field, chosen);
      verdict = judgement.verdict;
      one.mass_lost = std::max(one.mass_lost, judgement.mass_lost);
      for (Miss miss : judgement.misses) {
        miss.side = side.name;
        miss.row = m;
        one.add(miss);
      }
      Difference differs = difference(*field, chosen);
      differs.row = m;
      if (differs.tokens > 0) one.add(differs);
    }
    ++one.rows;
    if (window <= recorded.k) ++one.trivial;
    ++one.verdicts[static_cast<std::size_t>(verdict)];
    one.row_verdicts.push_back(verdict);
  }
  if (one.rows == 0) one.reason = kNoRecordedRow;
  result.agreement.all_zero = one.rows > 0 && one.violated == 0 && zeros;
  return result;
}

}  // namespace misa
