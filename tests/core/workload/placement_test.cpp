#include "core/workload/placement.hpp"

#include <doctest/doctest.h>

#include "tests/support/cases.hpp"

using namespace misa;
using namespace misa::testing;

TEST_CASE("a placement takes the bytes that were announced, and its longest window is that of any row") {
  const auto cpu = make_backend("cpu", 1);
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::e4m3}) {
    for (const bool paged : {false, true}) {
      CaseOptions options{.seed = 3, .rows = 5, .heads = 3, .dtype = dtype, .contexts = {90, 40}, .paged = paged};
      CAPTURE(options.describe());
      Workload workload = draw_workload(options);
      const Placement placement(*cpu, workload);
      CHECK(placement.problem().bytes == Placement::bytes_needed(workload));
      i64 longest = 0;
      for (std::size_t m = 0; m < workload.ks.size(); ++m) {
        longest = std::max<i64>(longest, workload.ke[m] - workload.ks[m]);
      }
      CHECK(placement.problem().shape.max_window == longest);
      workload.q_norm = {};
      const Placement without(*cpu, workload);
      CHECK(without.problem().norms.empty() == (dtype == Dtype::e4m3));
    }
  }
}
