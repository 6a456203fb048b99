#include <doctest/doctest.h>

#include "core/agreement/compare_sides.hpp"
#include "core/base/error.hpp"
#include "tests/support/cases.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

IndexerSpec misa_in_groups(i64 group, Router router = Router::pooled, i64 heads = 3) {
  IndexerSettings settings;
  settings.top_k = 17;
  settings.active_heads = heads;
  settings.block_size = 16;
  settings.group = group;
  settings.router = router;
  return make_indexer("misa", settings);
}

CaseOptions draw_rows(u64 seed) {
  Draw draw(seed * 7919 + 11);
  CaseOptions options{.seed = seed, .heads = draw.one_of<i64>({4, 8, 33}), .contexts = {}};
  options.dtype = draw.one_of<Dtype>({Dtype::f32, Dtype::bf16, Dtype::e4m3});
  options.rows = draw.whole(2, 14);
  options.paged = draw.whole(0, 2) == 0;
  options.next_n = draw.whole(1, 4);
  for (i64 n = draw.whole(1, 3); n > 0; --n) options.contexts.push_back(draw.whole(1, 300));
  return options;
}

struct Run {
  std::vector<i32> heads, tokens;
};

Run run_plan(std::string_view backend, const Workload& workload, const IndexerSpec& spec, i64 rows_per_chunk = 0) {
  const auto made = make_backend(backend, 2);
  const Placement placement(*made, workload);
  Plan plan(*made, spec, placement.problem(), {.rows_per_chunk = rows_per_chunk});
  plan.run(nullptr);
  const auto copy = [](const HostTensor& ids) {
    const auto values = ids.span<const i32>();
    return std::vector<i32>(values.begin(), values.end());
  };
  return {copy(fetch_ids(*made, plan.heads())), copy(fetch_tokens(*made, plan))};
}

}  // namespace

TEST_CASE("a group keeps the heads of the largest sums of its rows' energies, worked out by hand") {
  CaseOptions options{.rows = 5, .heads = 3, .contexts = {40}};
  Workload workload = draw_workload(options);
  const std::vector<float> weights{5,  1, 0,   // rows 0 and 1: sums 5, 8, 4
                                   0,  7, 4,   //
                                   0,  1, 2,   // rows 2 and 3: 6, -, 3: a weight counts by its size
                                   -6, 1, 1,   //
                                   1,  2, 3};  // row 4 alone
  std::copy(weights.begin(), weights.end(), workload.weights.span<float>().begin());
  const Run found = run_plan("oracle", workload, misa_in_groups(2, Router::gate, 1));
  CHECK(found.heads == std::vector<i32>{1, 1, 0, 0, 2});
  CHECK(run_plan("cpu", workload, misa_in_groups(2, Router::gate, 1)).heads == found.heads);
}

TEST_CASE("rows of other sequences are of other groups, and groups do not depend on chunks or threads") {
  for (u64 seed = 1; seed <= 40; ++seed) {
    const CaseOptions options = draw_rows(seed);
    CAPTURE(options.describe());
    const Workload workload = draw_workload(options);
    const i64 group = static_cast<i64>(seed % 4) + 2;
    const IndexerSpec spec = misa_in_groups(group, seed % 2 == 0 ? Router::pooled : Router::oracle);
    const Run whole = run_plan("cpu", workload, spec);
    for (const i64 chunk : {1, 3, 7}) {
      const Run parts = run_plan("cpu", workload, spec, chunk);
      CHECK(parts.heads == whole.heads);
      CHECK(parts.tokens == whole.tokens);
    }
    for (i64 m = 1; m < workload.rows(); ++m) {
      const std::size_t at = static_cast<std::size_t>(m);
      if (m % group == 0 || workload.sequence[at] != workload.sequence[at - 1]) continue;
      const i64 kept = static_cast<i64>(whole.heads.size()) / workload.rows();
      CHECK(std::equal(whole.heads.begin() + m * kept, whole.heads.begin() + (m + 1) * kept,
                       whole.heads.begin() + (m - 1) * kept));
    }
  }
}

TEST_CASE("a group of one row is a row, and with every head a group is dsa") {
  for (u64 seed = 41; seed <= 60; ++seed) {
    const CaseOptions options = draw_rows(seed);
    CAPTURE(options.describe());
    const Workload workload = draw_workload(options);
    IndexerSettings settings;
    settings.top_k = 17;
    const Run dsa = run_plan("cpu", workload, make_indexer("dsa", settings));
    CHECK(run_plan("cpu", workload, misa_in_groups(4, Router::pooled, 128)).tokens == dsa.tokens);
    IndexerSpec alone = misa_in_groups(1);
    const Run one = run_plan("cpu", workload, alone);
    // Each row stands in a sequence of its own: nothing to share.
    if (!options.paged || options.next_n != 1) continue;
    CHECK(run_plan("cpu", workload, misa_in_groups(4)).heads == one.heads);
  }
}

TEST_CASE("the cpu routes groups as the formulas do, and a head of one row's own choice is a miss") {
  const auto oracle = make_backend("oracle", 2), cpu = make_backend("cpu", 2);
  i64 wrong = 0;
  for (u64 seed = 61; seed <= 100; ++seed) {
    const CaseOptions options = draw_rows(seed);
    CAPTURE(options.describe());
    const Workload workload = draw_workload(options);
    const Router router = std::vector{Router::pooled, Router::oracle, Router::gate, Router::selfk}[seed % 4];
    const IndexerSpec spec = misa_in_groups(3, router);
    ExactReference reference(*oracle, workload);
    Selection exact = run_selection(*oracle, spec, reference.problem());
    exact.exact = true;
    const Placement placement(*cpu, workload);
    const Agreement agreement =
        compare_sides(reference, spec, run_selection(*cpu, spec, placement.problem()), exact, kChoices);
    CHECK(agreement.missed() == 0);
    CHECK(agreement.violated() == 0);
    // Rows that route for themselves are found out where they choose otherwise.
    const Agreement alone = compare_sides(
        reference, spec, run_selection(*cpu, misa_in_groups(1, router), placement.problem()), exact, kChoices);
    wrong += alone.missed() > 0 ? 1 : 0;
  }
  CHECK(wrong >= 10);
}

TEST_CASE("groups take routers that rank by energies") {
  for (const char* indexer : {"misa", "misa-lr"}) {
    IndexerSettings settings;
    settings.group = 4;
    settings.router = Router::covariance;
    try {
      make_indexer(indexer, settings);
      FAIL("accepted");
    } catch (const Error& error) {
      CHECK(error.id() == "MP-E569");
    }
  }
}
