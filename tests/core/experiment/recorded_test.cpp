#include "core/experiment/recorded.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "core/base/error.hpp"

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

TEST_CASE("ids may be in any order with pads anywhere, and what names no token of its row is a violation") {
  Workload w = workload_with_topk();
  w.k = HostTensor(Dtype::f32, {8, 32});
  w.ks = {0, 0, 2, 0};
  w.ke = {6, 6, 8, 6};
  const std::vector<i32> ids{-1, 6, 4, /**/ 4, 4, 9};  // rows 2 and 0
  std::copy(ids.begin(), ids.end(), w.topk.span<i32>().begin());
  const auto as = [&](IdKind kind) {
    std::vector<std::tuple<i64, i64, i64, Fault>> found;
    const std::optional<RecordedTopK> recorded = recorded_topk(w, kind);
    for (const Violation& one : recorded->violations) {
      found.emplace_back(one.row, one.column, one.id, one.fault);
    }
    return found;
  };
  using Found = std::vector<std::tuple<i64, i64, i64, Fault>>;
  const Found of_row_0{{0, 1, 4, Fault::duplicate}, {0, 2, 9, Fault::out_of_range}};
  Found of_tokens{{2, 1, 6, Fault::out_of_window}};
  of_tokens.insert(of_tokens.end(), of_row_0.begin(), of_row_0.end());
  CHECK(as(IdKind::token) == of_tokens);
  CHECK(as(IdKind::slot) == of_row_0);
  CHECK(row(recorded_topk(w, IdKind::slot)->tokens, 2) == std::vector<i32>{2, 4, -1});
  CHECK(row(recorded_topk(w, IdKind::slot, 5)->tokens, 2) == std::vector<i32>{2, 4, -1, -1, -1});
  CHECK_THROWS_AS(recorded_topk(w, IdKind::slot, 1), Error);
  CHECK(id_of(w, IdKind::slot, 2, 4) == 6);
  CHECK(id_of(w, IdKind::token, 2, 4) == 4);
  w.topk.span<i32>()[1] = -2;
  CHECK(as(IdKind::slot).front() == Found::value_type{2, 1, -2, Fault::padding});
}

TEST_CASE("a row that sees fewer than k tokens and holds all of them may name others, but none twice") {
  Workload w = workload_with_topk();
  w.k = HostTensor(Dtype::f32, {6, 32});
  w.ke = {2, 6, 6, 6};
  const auto row_0 = [&](std::vector<i32> ids, i64 k = 3) {
    std::copy(ids.begin(), ids.end(), w.topk.span<i32>().begin() + 3);
    const auto recorded = recorded_topk(w, IdKind::token, k);
    return std::pair(recorded->violations.size(), recorded->padded);
  };
  CHECK(row_0({1, 0, 5}) == std::pair(std::size_t{0}, i64{1}));
  CHECK(row(recorded_topk(w)->tokens, 0) == std::vector<i32>{0, 1, -1});
  CHECK(row_0({1, 0, -1}) == std::pair(std::size_t{0}, i64{0}));
  CHECK(row_0({1, 5, 4}) == std::pair(std::size_t{2}, i64{0}));
  CHECK(row_0({1, 0, 0}) == std::pair(std::size_t{1}, i64{0}));
  CHECK(row_0({1, 0, -7}) == std::pair(std::size_t{1}, i64{0}));
  w.topk.span<i32>()[2] = -1;  // the other row has two tokens
  CHECK(row_0({1, 0, 5}, 2) == std::pair(std::size_t{1}, i64{0}));
  w.ke[0] = 1;
  CHECK(row_0({-7, 5, 0}) == std::pair(std::size_t{2}, i64{0}));
}

TEST_CASE("slots of pages name the tokens that a sequence's block table puts there") {
  Workload w;
  w.q = HostTensor(Dtype::f32, {2, 1, 32});
  w.k_pages = HostTensor(Dtype::f32, {5, 4, 32});
  const std::vector<i32> table{3, 0, -1, /**/ 1, 4, 3}, lengths{6, 12};
  w.block_table = HostTensor::from<i32>(table, {2, 3});
  w.seq_lens = HostTensor::from<i32>(lengths, {2});
  w.ks = {0, 0};
  w.ke = {6, 12};
  w.sequence = {0, 1};
  const std::vector<i32> slots{12, 15, 0, 1, 2, 16, -1, 20};
  for (const IdKind kind : {IdKind::slot, IdKind::page}) {
    CHECK(tokens_of(w, kind, 0, slots) == std::vector<i32>{0, 3, 4, 5, -1, -1, -1, -1});
    CHECK(tokens_of(w, kind, 1, slots) == std::vector<i32>{8, 11, -1, -1, -1, 4, -1, -1});
    for (i64 m = 0; m < 2; ++m) {
      for (i64 token = 0; token < w.ke[static_cast<std::size_t>(m)]; ++token) {
        const std::vector<i32> id{static_cast<i32>(id_of(w, kind, m, token))};
        CHECK(tokens_of(w, kind, m, id) == std::vector<i32>{static_cast<i32>(token)});
      }
    }
  }
  CHECK(tokens_of(w, IdKind::token, 0, slots) == std::vector<i32>{-1, -1, 0, 1, 2, -1, -1, -1});
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
