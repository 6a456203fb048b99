#include "core/experiment/recorded.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

using namespace misa;

namespace {

/// Four rows of one sequence, each sees six tokens; rows 2 and 0 have a recorded selection of three columns, unsorted.
Workload workload_with_topk() {
  Workload w;
  w.q = HostTensor(Dtype::f32, {4, 1, 32});
  w.ks = {0, 0, 0, 0};
  w.ke = {6, 6, 6, 6};
  w.q_pos = {5, 5, 5, 5};
  w.sequence = {0, 0, 0, 0};
  w.topk = HostTensor(Dtype::int32, {2, 3});
  const std::vector<i32> ids{5, 0, 3, /**/ 4, 1, -1};
  std::copy(ids.begin(), ids.end(), w.topk.span<i32>().begin());
  w.topk_row = {2, 0};
  return w;
}

std::vector<i32> row(const HostTensor& tokens, i64 m) {
  const auto ids = row_of<i32>(tokens, m);
  return {ids.begin(), ids.end()};
}

}  // namespace

TEST_CASE("a recorded selection becomes one that a backend could have made") {
  Workload w = workload_with_topk();
  const auto recorded = recorded_topk(w);
  REQUIRE(recorded.has_value());
  CHECK(recorded->k == 3);
  CHECK(row(recorded->tokens, 0) == std::vector<i32>{1, 4, -1});
  CHECK(row(recorded->tokens, 1) == std::vector<i32>{-1, -1, -1});
  CHECK(row(recorded->tokens, 2) == std::vector<i32>{0, 3, 5});
  CHECK_FALSE(recorded->arithmetic.has_value());
  w.metadata["topk_arithmetic"] = "fp8-mma";
  CHECK(recorded_topk(w)->arithmetic->name == "fp8-mma");
  w.topk = {};
  CHECK_FALSE(recorded_topk(w).has_value());
}

TEST_CASE("a recorded selection is rated over the rows that have one") {
  Workload w = workload_with_topk();
  w.attention_mass = HostTensor(Dtype::f16, {1, 6});
  w.attention_mass_row = {1};
  w.needles = {{.start = 0, .length = 1, .question_start = 5, .question_length = 1}};
  const auto recorded = recorded_topk(w);
  const std::vector<i32> reference{1, 2, 4, /**/ 0, 1, 2, /**/ 1, 2, 5, /**/ 0, 1, 2};
  const Quality quality = rate_recorded(w, *recorded, reference);
  CHECK(quality.rows == 2);
  CHECK(quality.recall.mean == doctest::Approx((2.0 / 3 + 1.0 / 3) / 2));
  CHECK(quality.recall.worst_row == 2);
  CHECK_FALSE(quality.attention_mass.has_value());
  CHECK_FALSE(quality.needle_hit_rate.has_value());
  CHECK(quality.needle_cells == 0);
}
