// Forced tokens on both sides of a comparison: they are never missing, and never ties.

#include <doctest/doctest.h>

#include "core/agreement/compare_sides.hpp"
#include "core/base/error.hpp"
#include "core/experiment/recorded.hpp"
#include "core/selection/golden.hpp"
#include "tests/support/cases.hpp"
#include "tests/support/temporary.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

IndexerSettings forced_settings() {
  IndexerSettings settings;
  settings.top_k = 20;
  settings.active_heads = 3;
  settings.candidates = 60;
  settings.blocks = 5;
  settings.block_size = 16;
  settings.forced = {2, 5};
  return settings;
}

/// cpu and the oracle on rows of more tokens than are kept.
struct ForcedSides {
  std::unique_ptr<Backend> cpu = make_backend("cpu", 2), oracle = make_backend("oracle", 2);
  Workload workload;
  IndexerSpec spec;
  ExactReference reference;
  Selection side, exact;

  explicit ForcedSides(const std::string& indexer, Numbers numbers = Numbers::normal)
      : workload(draw_workload({.seed = 7, .rows = 4, .heads = 8, .numbers = numbers, .contexts = {200, 300}})),
        spec(make_indexer(indexer, forced_settings())),
        reference(*oracle, workload) {
    const Placement placement(*cpu, workload);
    side = run_selection(*cpu, spec, placement.problem());
    exact = run_selection(*oracle, spec, reference.problem());
    exact.exact = true;
  }
  i64 visible(i64 m) const {
    return workload.ke[static_cast<std::size_t>(m)] - workload.ks[static_cast<std::size_t>(m)];
  }
  i64 longest() const {
    i64 longest = 0;
    for (i64 m = 1; m < workload.rows(); ++m) longest = visible(m) > visible(longest) ? m : longest;
    return longest;
  }
  std::span<i32> row(Selection& of, Choice choice, i64 m) const {
    const std::size_t width = static_cast<std::size_t>(of[choice].shape[1]);
    return of[choice].span<i32>().subspan(static_cast<std::size_t>(m) * width, width);
  }
  /// Puts a token that is not chosen in the place of `token`.
  static i32 drop(std::span<i32> ids, i32 token) {
    i32 other = 3;
    while (std::find(ids.begin(), ids.end(), other) != ids.end()) ++other;
    *std::find(ids.begin(), ids.end(), token) = other;
    std::sort(ids.begin(), ids.end());
    return other;
  }
};

}  // namespace

TEST_CASE("a forced token that is missing is a violation, of candidates and of tokens") {
  for (const auto& pair : {std::pair("dsa", Choice::tokens),
                           {"misa-dagger", Choice::candidates},
                           {"misa-dagger", Choice::tokens},
                           {"hisa", Choice::tokens}}) {
    const char* const indexer = pair.first;
    const Choice choice = pair.second;
    for (const i64 from_end : {0, 1, 5}) {
      ForcedSides sides(indexer);
      const i64 m = sides.longest();
      const i32 token = static_cast<i32>(from_end == 0 ? 1 : sides.visible(m) - from_end);
      INFO(indexer, " ", choice_name(choice), " ", token);
      CHECK(compare_sides(sides.reference, sides.spec, sides.side, sides.exact).violated() == 0);
      const auto ids = sides.row(sides.side, choice, m);
      const bool listed = choice == Choice::tokens && !sides.side[Choice::candidates].empty();
      std::vector<i32> others;  // that were on offer: of hisa in a block of forced tokens
      if (listed) {
        const auto candidates = sides.row(sides.side, Choice::candidates, m);
        others.assign(candidates.begin(), candidates.end());
      } else {
        for (i32 i = 0; i < 16; ++i) others.push_back(from_end == 0 ? i : token - i);
      }
      const auto free = std::find_if(others.begin(), others.end(),
                                     [&](i32 id) { return std::find(ids.begin(), ids.end(), id) == ids.end(); });
      REQUIRE(free != others.end());
      *std::find(ids.begin(), ids.end(), token) = *free;
      std::sort(ids.begin(), ids.end());
      const Agreement agreement = compare_sides(sides.reference, sides.spec, sides.side, sides.exact);
      for (const ChoiceAgreement& one : agreement.choices) {
        if (one.choice != choice) continue;
        REQUIRE(one.violated == 1);
        CHECK(one.violations.at(0).fault == Fault::forced_missing);
        CHECK(one.violations.at(0).id == token);
      }
      CHECK(conclude(agreement, 1000).conclusion == Conclusion::failed);
    }
  }
}

TEST_CASE("where all scores are equal, what is free may be a tie and what is forced may not") {
  ForcedSides sides("dsa", Numbers::zeros);
  const i64 m = sides.longest();
  const auto ids = sides.row(sides.side, Choice::tokens, m);
  const i32 last_free = ids[14];  // 2 first, 13 free, 5 last
  sides.side[Choice::scores] = {};
  ForcedSides::drop(ids, last_free);
  const Agreement agreement = compare_sides(sides.reference, sides.spec, sides.side, sides.exact);
  CHECK(agreement.violated() + agreement.missed() == 0);
  CHECK(agreement.count(Verdict::tie_swap) == 1);
  ForcedSides::drop(ids, 0);
  CHECK(compare_sides(sides.reference, sides.spec, sides.side, sides.exact).violated() == 1);
}

TEST_CASE("a recorded selection without a forced token is none, though nobody knows its arithmetic") {
  ForcedSides sides("dsa");
  const i64 m = sides.longest();
  HostTensor given = sides.exact[Choice::tokens].copy();
  std::vector<i32> rows;
  for (i64 row = 0; row < sides.workload.rows(); ++row) rows.push_back(static_cast<i32>(row));
  const auto judged = [&] {
    const RecordedTopK recorded = topk_of(sides.workload, given, rows, IdKind::token, sides.spec.top_k);
    return judge_recorded(sides.reference, recorded, sides.spec, sides.exact, "file");
  };
  CHECK(conclude(judged(), 0).conclusion == Conclusion::passed);
  const i32 last = static_cast<i32>(sides.visible(m)) - 1;
  ForcedSides::drop(given.span<i32>().subspan(static_cast<std::size_t>(m * sides.spec.top_k), 20), last);
  const Agreement agreement = judged();
  REQUIRE(agreement.violated() == 1);
  CHECK(agreement.choices[0].violations.at(0).fault == Fault::forced_missing);
  CHECK(agreement.choices[0].violations.at(0).id == last);
  CHECK(conclude(agreement, 0).conclusion == Conclusion::failed);
}

TEST_CASE("a golden says what was forced, and is refused where other tokens are") {
  const TemporaryPath file;
  ForcedSides sides("dsa");
  IndexerSpec plain = sides.spec;
  plain.forced = {};
  const auto accepted = [&](const IndexerSpec& spec) {
    try {
      read_golden(file.path, sides.workload, spec);
      return true;
    } catch (const Error& error) {
      CHECK(error.id() == "MP-E604");
      return false;
    }
  };
  write_golden(file.path, sides.workload, sides.spec, sides.side, {{"backend", "cpu"}});
  CHECK(accepted(sides.spec));
  CHECK_FALSE(accepted(plain));
  write_golden(file.path, sides.workload, plain, sides.side, {{"backend", "cpu"}});
  CHECK(accepted(plain));
  CHECK_FALSE(accepted(sides.spec));
}
