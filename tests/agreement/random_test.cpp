// A backend against the oracle on drawn cases: every choice of every row is the same, a tie, or explained by rounding.
// MISA_RANDOM_CASES sets how many (10,000), MISA_RANDOM_SEED the first seed (1), MISA_RANDOM_BACKEND the backend (cpu).

#include <doctest/doctest.h>

#include <cstdlib>
#include <iostream>

#include "core/agreement/compare_sides.hpp"
#include "tests/support/drawn_case.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

Agreement agreement_of(const DrawnCase& drawn, Backend& tested, Backend& oracle) {
  const Workload workload = draw_workload(drawn.workload);
  const IndexerSpec spec = make_indexer(drawn.indexer, drawn.settings);
  const Placement placement(tested, workload);
  ExactReference reference(oracle, workload);
  Selection exact = run_selection(oracle, spec, reference.problem());
  exact.exact = true;
  return compare_sides(reference, spec, run_selection(tested, spec, placement.problem()), exact);
}

bool fails(const DrawnCase& drawn, Backend& tested, Backend& oracle) {
  const Agreement agreement = agreement_of(drawn, tested, oracle);
  return agreement.missed() + agreement.violated() > 0 || agreement.count(Verdict::unknown) > 0;
}

/// The smallest case found by halving one number at a time that still fails.
DrawnCase shrunk(DrawnCase drawn, Backend& tested, Backend& oracle) {
  for (bool smaller = true; smaller;) {
    smaller = false;
    std::vector<DrawnCase> tries;
    const auto with = [&](auto&& change) {
      tries.push_back(drawn);
      change(tries.back());
    };
    with([](DrawnCase& one) { one.workload.rows = std::max<i64>(1, one.workload.rows / 2); });
    with([](DrawnCase& one) { one.workload.heads = std::max<i64>(1, one.workload.heads / 2); });
    with([](DrawnCase& one) { one.workload.next_n = 1; });
    with([](DrawnCase& one) { one.settings.top_k = std::max<i64>(1, one.settings.top_k / 2); });
    with([](DrawnCase& one) { one.settings.forced = {one.settings.forced.first / 2, one.settings.forced.last / 2}; });
    with([](DrawnCase& one) {
      if (one.workload.contexts.size() > 1) one.workload.contexts.pop_back();
    });
    with([](DrawnCase& one) {
      for (i64& context : one.workload.contexts) context = std::max<i64>(1, context / 2);
    });
    for (const DrawnCase& one : tries) {
      if (one.describe() == drawn.describe() || !fails(one, tested, oracle)) continue;
      drawn = one;
      smaller = true;
      break;
    }
  }
  return drawn;
}

u64 from_environment(const char* name, u64 otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

/// Compares `count` cases that `draw` makes, `of` what, from seed `first` on, and prints how many rows were which.
void compare_drawn(DrawnCase (*draw)(u64), const char* of, u64 first, u64 count) {
  const char* name = std::getenv("MISA_RANDOM_BACKEND");
  const auto tested = make_backend(name == nullptr ? "cpu" : name, 1), oracle = make_backend("oracle", 1);
  std::array<i64, kVerdictNames.size()> verdicts{};
  i64 trivial = 0;
  double largest_share = 0;
  for (u64 seed = first; seed < first + count; ++seed) {
    const DrawnCase drawn = draw(seed);
    const Agreement agreement = agreement_of(drawn, *tested, *oracle);
    for (const ChoiceAgreement& choice : agreement.choices) {
      for (std::size_t v = 0; v < verdicts.size(); ++v) verdicts[v] += choice.verdicts[v];
      trivial += choice.trivial;
      largest_share = std::max(largest_share, choice.largest_share);
    }
    if (agreement.missed() + agreement.violated() == 0 && agreement.count(Verdict::unknown) == 0) continue;
    const DrawnCase small = shrunk(drawn, *tested, *oracle);
    std::string missed;
    for (const ChoiceAgreement& choice : agreement_of(small, *tested, *oracle).choices) {
      for (const Miss& miss : choice.misses) {
        missed += "\n" + std::string(choice_name(choice.choice)) + " of row " + std::to_string(miss.row) + ": " +
                  std::to_string(miss.missed) + " missed, " + std::to_string(miss.taken) + " taken, they differ by " +
                  std::to_string(miss.missed_score - miss.taken_score) + ", the bound is " + std::to_string(miss.bound);
      }
    }
    FAIL_CHECK("seed " << seed << " fails: " << drawn.describe() << "\nsmallest: " << small.describe() << missed
                       << "\nMISA_RANDOM_SEED=" << seed << " MISA_RANDOM_CASES=1 runs it again");
    break;
  }
  std::cout << count << of << " cases from seed " << first << ":";
  for (std::size_t v = 0; v < verdicts.size(); ++v) std::cout << ' ' << kVerdictNames[v] << ' ' << verdicts[v];
  std::cout << " rows; " << trivial << " had no choice; largest score difference " << largest_share
            << " of its bound\n";
  CHECK(verdicts[static_cast<std::size_t>(Verdict::exact)] > 0);
}

}  // namespace

TEST_CASE("a backend agrees with the oracle on every drawn case") {
  compare_drawn(drawn_case, "", from_environment("MISA_RANDOM_SEED", 1), from_environment("MISA_RANDOM_CASES", 10000));
}

TEST_CASE("a backend agrees with the oracle on every drawn case of INT8 and MXFP4") {
  compare_drawn(narrow_case, " INT8 and MXFP4", from_environment("MISA_RANDOM_SEED", 1),
                from_environment("MISA_RANDOM_CASES", 6000) / 3);
}

TEST_CASE("a backend agrees with the oracle on every drawn case of entries") {
  compare_drawn(drawn_case_of_entries, " entries'", from_environment("MISA_RANDOM_SEED", 1),
                std::max<u64>(1, from_environment("MISA_RANDOM_CASES", 8000) / 4));
}

TEST_CASE("a backend agrees with the oracle on every drawn case with forced tokens") {
  compare_drawn(forced_case, " forced", from_environment("MISA_RANDOM_SEED", 1),
                from_environment("MISA_RANDOM_CASES", 3000) / 3);
}
