// A backend against the oracle on drawn cases: every choice of every row is the same, a tie, or explained by rounding.
// MISA_RANDOM_CASES sets how many (10,000), MISA_RANDOM_SEED the first seed (1), MISA_RANDOM_BACKEND the backend (cpu).

#include <doctest/doctest.h>

#include <cstdlib>
#include <iostream>

#include "core/agreement/compare_sides.hpp"
#include "tests/support/cases.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

struct DrawnCase {
  CaseOptions workload;
  std::string indexer;
  IndexerSettings settings;

  std::string describe() const {
    return workload.describe() + "; " + indexer + ", top_k " + std::to_string(settings.top_k) + ", active_heads " +
           std::to_string(settings.active_heads) + ", candidates " + std::to_string(settings.candidates) + ", blocks " +
           std::to_string(settings.blocks) + ", block_size " + std::to_string(*settings.block_size) + ", samples " +
           std::to_string(settings.samples) + ", router " +
           std::string(router_name(settings.router.value_or(Router::pooled))) + ", block window " +
           std::string(block_window_name(settings.block_window));
  }
};

DrawnCase draw_case(u64 seed) {
  Draw draw(seed * 6364136223846793005u + 11);
  DrawnCase drawn;
  CaseOptions& options = drawn.workload;
  options.seed = seed;
  options.heads = draw.one_of<i64>({1, 2, 3, 4, 8, 8, 16, 32, 64, 128});
  options.dim = draw.one_of<i64>({32, 32, 64, 128, 256});
  options.dtype = draw.one_of<Dtype>({Dtype::f32, Dtype::bf16, Dtype::e4m3, Dtype::e4m3});
  options.numbers = draw.one_of<Numbers>({Numbers::normal, Numbers::normal, Numbers::few_keys, Numbers::zeros,
                                          Numbers::negative_gates, Numbers::nan, Numbers::infinite, Numbers::denormal,
                                          Numbers::hostile, Numbers::hostile});
  options.rows = draw.whole(1, 5);
  options.contexts.clear();
  for (i64 n = draw.whole(1, 3); n > 0; --n) options.contexts.push_back(draw.whole(1, draw.whole(1, 150)));
  options.paged = draw.whole(0, 2) == 0;
  options.page_size = draw.one_of<i64>({1, 16, 64});
  options.next_n = draw.whole(1, 4);
  if (options.paged && draw.whole(0, 1) == 1) options.contexts.push_back(draw.whole(0, 3));

  const IndexerInfo indexer = draw.one_of(std::vector<IndexerInfo>(indexers().begin(), indexers().end()));
  drawn.indexer = indexer.name;
  drawn.settings.top_k = draw.whole(1, 60);
  drawn.settings.active_heads = draw.whole(1, 10);
  drawn.settings.candidates = drawn.settings.top_k + draw.whole(0, 60);
  drawn.settings.blocks = draw.whole(1, 6);
  drawn.settings.block_size = draw.one_of<i64>({1, 8, 16, 32});
  std::vector<Router> allowed;
  for (const RouterInfo& info : routers()) {
    if (!indexer.linear || samples_keys(info.router)) allowed.push_back(info.router);
  }
  drawn.settings.router = draw.one_of(allowed);
  drawn.settings.block_window = draw.whole(0, 2) == 0 ? BlockWindow::upstream : BlockWindow::visible;
  drawn.settings.seed = seed;
  drawn.settings.samples = draw.one_of<i64>({1, 2, 8, 30, 128});
  if (indexer.linear) drawn.settings.active_heads = draw.whole(2, 10);
  return drawn;
}

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

}  // namespace

TEST_CASE("a backend agrees with the oracle on every drawn case") {
  const char* name = std::getenv("MISA_RANDOM_BACKEND");
  const auto tested = make_backend(name == nullptr ? "cpu" : name, 1), oracle = make_backend("oracle", 1);
  const u64 first = from_environment("MISA_RANDOM_SEED", 1), count = from_environment("MISA_RANDOM_CASES", 10000);
  std::array<i64, kVerdictNames.size()> verdicts{};
  i64 trivial = 0;
  double largest_share = 0;
  for (u64 seed = first; seed < first + count; ++seed) {
    const DrawnCase drawn = draw_case(seed);
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
  std::cout << count << " cases from seed " << first << ":";
  for (std::size_t v = 0; v < verdicts.size(); ++v) std::cout << ' ' << kVerdictNames[v] << ' ' << verdicts[v];
  std::cout << " rows; " << trivial << " had no choice; largest score difference " << largest_share
            << " of its bound\n";
  CHECK(verdicts[static_cast<std::size_t>(Verdict::exact)] > 0);
}
