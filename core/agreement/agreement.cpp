#include "core/agreement/agreement.hpp"

#include <fmt/format.h>

namespace misa {
namespace {

i64 sum_of(const std::vector<ChoiceAgreement>& choices, const auto& number) {
  i64 sum = 0;
  for (const ChoiceAgreement& one : choices) sum += number(one);
  return sum;
}

}  // namespace

void ChoiceAgreement::add(const Miss& miss) {
  if (missed++ < kListed) misses.push_back(miss);
}

void ChoiceAgreement::add(const Violation& violation) {
  if (violated++ < kListed) violations.push_back(violation);
}

void ChoiceAgreement::add(const Difference& difference) {
  if (differing++ < kListed) differences.push_back(difference);
}

i64 Agreement::missed() const {
  return sum_of(choices, [](const ChoiceAgreement& one) { return one.missed; });
}
i64 Agreement::violated() const {
  return sum_of(choices, [](const ChoiceAgreement& one) { return one.violated; });
}
i64 Agreement::rows() const {
  return sum_of(choices, [](const ChoiceAgreement& one) { return one.rows; });
}
i64 Agreement::count(Verdict verdict) const {
  return sum_of(choices, [&](const ChoiceAgreement& one) { return one.count(verdict); });
}

Concluded conclude(const Agreement& agreement, i64 max_miss) {
  const auto counted = [](i64 count, const char* one, const char* many) {
    return fmt::format("{} {}", count, count == 1 ? one : many);
  };
  const i64 missed = agreement.missed(), violated = agreement.violated();
  if (violated > 0 || missed > max_miss) {
    std::string why;
    if (missed > 0) why = counted(missed, "miss", "misses");
    if (violated > 0) why += (why.empty() ? "" : " and ") + counted(violated, "violation", "violations");
    for (const ChoiceAgreement& one : agreement.choices) {
      if (one.missed + one.violated == 0) continue;
      return {Conclusion::failed, why + ", first in the " + std::string(choice_name(one.choice))};
    }
  }
  if (agreement.rows() == 0) {
    std::string why = "nothing was compared";
    if (agreement.choices.empty()) why += fmt::format(": {} makes none of the choices asked for", agreement.indexer);
    for (const ChoiceAgreement& one : agreement.choices) {
      why += fmt::format("; {}: {}", choice_name(one.choice), one.reason.empty() ? "no rows" : one.reason);
    }
    return {Conclusion::nothing, why, "--stages that both sides have"};
  }
  if (agreement.rows() == agreement.count(Verdict::empty))
    return {Conclusion::nothing, "no row sees a token", "rows that see tokens"};
  if (agreement.all_zero)
    return {Conclusion::nothing, "every score on offer is 0: agreement says nothing",
            "a workload whose scores are not all 0"};
  if (const i64 unknown = agreement.count(Verdict::unknown); unknown > 0) {
    return {Conclusion::inconclusive,
            fmt::format("{} of {} rows differ, and the arithmetic of a side is not known", unknown, agreement.rows()),
            "a golden that names its arithmetic"};
  }
  for (const ChoiceAgreement& one : agreement.choices) {
    const i64 unbounded = one.count(Verdict::unbounded);
    if (unbounded == 0 || unbounded < one.rows - one.count(Verdict::empty) - one.trivial) continue;
    return {Conclusion::inconclusive,
            fmt::format("the {} of {} differ, and the bound is infinite: an intermediate may have exceeded the largest "
                        "number of the arithmetic",
                        choice_name(one.choice), counted(unbounded, "row", "rows")),
            "inputs of which no product overflows"};
  }
  return {};
}

}  // namespace misa
