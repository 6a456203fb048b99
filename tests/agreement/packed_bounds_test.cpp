// Bounds of rows whose window does not begin at the buffer's first key.

#include <doctest/doctest.h>

#include <numeric>

#include "backends/backends.hpp"
#include "core/agreement/exact_reference.hpp"
#include "core/workload/subset.hpp"
#include "tests/support/cases.hpp"

using namespace misa;
using namespace misa::testing;

TEST_CASE("a sequence packed after another has the bounds that it has alone") {
  const auto oracle = make_backend("oracle", 1);
  const Arithmetic f32 = *find_arithmetic("f32");
  for (u64 seed = 1; seed <= 6; ++seed) {
    CaseOptions options{.seed = seed, .rows = 12, .heads = 4, .dim = 16};
    options.contexts = {50, 70};
    options.dtype = seed % 2 == 0 ? Dtype::e4m3 : Dtype::f32;
    CAPTURE(options.describe());
    const Workload packed = draw_workload(options);
    std::vector<i64> rows, heads(static_cast<std::size_t>(options.heads));
    std::iota(heads.begin(), heads.end(), 0);
    for (std::size_t m = 0; m < packed.ks.size(); ++m) {
      if (packed.ks[m] > 0 && packed.ke[m] > packed.ks[m]) rows.push_back(static_cast<i64>(m));
    }
    REQUIRE(!rows.empty());
    const Workload alone = take(packed, rows, heads, 1000);
    CHECK(alone.ks.front() == 0);

    IndexerSettings settings;
    settings.top_k = 8;
    const IndexerSpec dsa = make_indexer("dsa", settings);
    ExactReference of_packed(*oracle, packed), of_alone(*oracle, alone);
    const Selection packed_side = run_selection(*oracle, dsa, of_packed.problem());
    const Selection alone_side = run_selection(*oracle, dsa, of_alone.problem());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const Field there = of_packed.row(dsa, packed_side, rows[i], f32).tokens;
      const Field here = of_alone.row(dsa, alone_side, static_cast<i64>(i), f32).tokens;
      CAPTURE(rows[i]);
      CHECK(there.ids == here.ids);
      CHECK(there.bounds == here.bounds);
    }
  }
}
