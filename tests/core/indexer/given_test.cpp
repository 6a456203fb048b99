#include <doctest/doctest.h>

#include "core/agreement/compare_sides.hpp"
#include "core/base/error.hpp"
#include "core/workload/subset.hpp"
#include "tests/support/cases.hpp"
#include "tests/support/present_backends.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

IndexerSettings given_settings() {
  IndexerSettings settings;
  settings.top_k = 17;
  settings.active_heads = 3;
  settings.candidates = 40;
  settings.blocks = 4;
  settings.block_size = 16;
  return settings;
}

CaseOptions draw_given_case(u64 seed) {
  Draw draw(seed * 7919 + 3);
  CaseOptions options{.seed = seed, .heads = draw.one_of<i64>({1, 3, 8, 33}), .contexts = {}};
  options.dtype = draw.one_of<Dtype>({Dtype::f32, Dtype::bf16, Dtype::e4m3});
  options.numbers = draw.one_of<Numbers>({Numbers::normal, Numbers::normal, Numbers::few_keys, Numbers::nan});
  options.rows = draw.whole(1, 8);
  options.paged = draw.whole(0, 1) == 1;
  options.next_n = draw.whole(1, 3);
  for (i64 n = draw.whole(1, 3); n > 0; --n) options.contexts.push_back(draw.whole(1, 300));
  return options;
}

/// What `spec` selects: tokens, and what it chose on the way.
Selection select(std::string_view backend, const Workload& workload, const IndexerSpec& spec) {
  const auto made = make_backend(backend, 2);
  const Placement placement(*made, workload);
  return run_selection(*made, spec, placement.problem());
}

std::vector<i32> tokens_of(const Selection& selection) {
  const auto tokens = selection[Choice::tokens].span<const i32>();
  return {tokens.begin(), tokens.end()};
}

void give(Workload& workload, const HostTensor& ids, i64 length) {
  workload.candidates = ids.copy();
  workload.candidate_length = length;
}

}  // namespace

TEST_CASE("given every run of a window, given is dsa") {
  for (u64 seed = 1; seed <= 40; ++seed) {
    const CaseOptions options = draw_given_case(seed);
    CAPTURE(options.describe());
    Workload workload = draw_workload(options);
    const IndexerSpec dsa = make_indexer("dsa", given_settings()), given = make_indexer("given", given_settings());
    i64 longest = 1;
    for (std::size_t m = 0; m < workload.ks.size(); ++m) {
      longest = std::max<i64>(longest, workload.ke[m] - workload.ks[m]);
    }
    const i64 length = seed % 3 == 0 ? 1 : seed % 3 == 1 ? 8 : 300;
    std::vector<i32> all;
    for (std::size_t m = 0; m < workload.ks.size(); ++m) {
      for (i64 run = 0; run < ceil_div(longest, length); ++run) {
        all.push_back(run * length < workload.ke[m] - workload.ks[m] ? static_cast<i32>(run) : -1);
      }
    }
    give(workload, HostTensor::from<i32>(all, {workload.rows(), ceil_div(longest, length)}), length);
    for (const char* backend : {"cpu", "oracle"}) {
      CHECK(tokens_of(select(backend, workload, given)) == tokens_of(select(backend, workload, dsa)));
    }
  }
}

TEST_CASE(
    "given what another indexer kept, given selects what that one selects: blocks of hisa, candidates of a dagger") {
  for (u64 seed = 41; seed <= 70; ++seed) {
    const CaseOptions options = draw_given_case(seed);
    CAPTURE(options.describe());
    Workload workload = draw_workload(options);
    const IndexerSpec given = make_indexer("given", given_settings());
    const Selection hisa = select("cpu", workload, make_indexer("hisa", given_settings()));
    give(workload, hisa[Choice::blocks], 16);
    CHECK(tokens_of(select("cpu", workload, given)) == tokens_of(hisa));
    const Selection dagger = select("cpu", workload, make_indexer("misa-dagger", given_settings()));
    give(workload, dagger[Choice::candidates], 1);
    CHECK(tokens_of(select("cpu", workload, given)) == tokens_of(dagger));
  }
}

TEST_CASE("candidates come before a second pass too: routed heads rank them, and all heads what is left") {
  for (u64 seed = 71; seed <= 100; ++seed) {
    const CaseOptions options = draw_given_case(seed);
    CAPTURE(options.describe());
    Workload workload = draw_workload(options);
    give_candidates(workload, seed, 30, 4);
    const IndexerSpec given = make_indexer("given", given_settings());
    IndexerSpec again = make_indexer("misa-dagger", given_settings());
    again.given = true;
    again.rerank->candidates = 120;  // as many as are given: nothing is lost on the way
    for (const char* backend : {"cpu", "oracle"}) {
      CHECK(tokens_of(select(backend, workload, again)) == tokens_of(select(backend, workload, given)));
    }
    again.rerank->candidates = 20;
    const Selection fewer = select("oracle", workload, again);
    const auto kept = fewer[Choice::tokens].span<const i32>();
    for (i64 i = 0; i < fewer[Choice::tokens].size(); ++i) {
      if (kept[static_cast<std::size_t>(i)] < 0) continue;
      const auto ids = workload.candidates.span<const i32>().subspan(static_cast<std::size_t>(i / 17 * 30), 30);
      CHECK(std::find(ids.begin(), ids.end(), kept[static_cast<std::size_t>(i)] / 4) != ids.end());
    }
  }
}

TEST_CASE("every backend selects among candidates as the formulas do, and a token that nobody gave is a violation") {
  const auto oracle = make_backend("oracle", 2);
  for (const std::string& name : present_backends()) {
    const auto backend = make_backend(name, 2);
    i64 compared = 0;
    for (u64 seed = 101; seed <= 140; ++seed) {
      const CaseOptions options = draw_given_case(seed);
      CAPTURE(name);
      CAPTURE(options.describe());
      Workload workload = draw_workload(options);
      give_candidates(workload, seed, 12, seed % 2 == 0 ? 1 : 8);
      IndexerSpec spec = make_indexer(seed % 3 == 0 ? "misa-dagger" : "given", given_settings());
      spec.given = true;
      spec.forced = {seed % 4 == 0 ? 2 : 0, seed % 4 == 0 ? 1 : 0};
      const Placement placement(*backend, workload);
      if (backend->why_not(spec, placement.problem().shape)) continue;
      ExactReference reference(*oracle, workload);
      Selection exact = run_selection(*oracle, spec, reference.problem());
      exact.exact = true;
      Selection side = run_selection(*backend, spec, placement.problem());
      const Agreement agreement = compare_sides(reference, spec, side, exact, kChoices);
      CHECK(agreement.missed() == 0);
      CHECK(agreement.violated() == 0);
      if (spec.rerank || options.numbers != Numbers::normal) continue;
      // Row 0 takes a token that stands in no run of its own.
      const auto ids = workload.candidates.span<const i32>().first(12);
      const auto tokens = side[Choice::tokens].span<i32>().first(17);
      const i64 window = workload.ke[0] - workload.ks[0];
      for (i32 token = 0; token < window; ++token) {
        const bool is_given = std::find(ids.begin(), ids.end(), token / workload.candidate_length) != ids.end();
        if (is_given || tokens[0] < 0) continue;
        tokens[0] = token;
        std::sort(tokens.begin(), std::find(tokens.begin(), tokens.end(), -1));
        side[Choice::scores] = {};
        const Agreement wrong = compare_sides(reference, spec, side, exact, kChoices);
        REQUIRE(wrong.violated() == 1);
        for (const ChoiceAgreement& choice : wrong.choices) {
          for (const Violation& violation : choice.violations) CHECK(violation.fault == Fault::not_offered);
        }
        ++compared;
        break;
      }
    }
    CHECK(compared >= 3);
  }
}

TEST_CASE("part of a workload keeps the candidates that its rows still see, and its rows choose what they chose") {
  CaseOptions options{.seed = 7, .rows = 6, .contexts = {200, 150}};
  Workload workload = draw_workload(options);
  give_candidates(workload, 9, 10, 8);
  const IndexerSpec given = make_indexer("given", given_settings());
  const std::vector<i64> rows{1, 4}, heads{0, 1, 2, 3, 4, 5, 6, 7};
  const Workload part = take(workload, rows, heads, 200);
  const std::vector<i32> whole = tokens_of(select("cpu", workload, given)),
                         some = tokens_of(select("cpu", part, given));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    CHECK(std::equal(some.begin() + static_cast<i64>(i) * 17, some.begin() + static_cast<i64>(i + 1) * 17,
                     whole.begin() + rows[i] * 17));
  }
  const Workload cut = take(workload, rows, heads, 40);
  for (const i32 id : cut.candidates.span<const i32>()) CHECK(id * 8 < 40);
}

TEST_CASE("given says so where the workload brings no candidates") {
  const Workload workload = draw_workload({});
  const auto cpu = make_backend("cpu", 1);
  const Placement placement(*cpu, workload);
  try {
    const Plan plan(*cpu, make_indexer("given", {}), placement.problem());
    FAIL("a plan was made");
  } catch (const Error& error) {
    CHECK(error.id() == "MP-E565");
  }
}
