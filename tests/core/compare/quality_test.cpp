#include "core/compare/quality.hpp"

#include <doctest/doctest.h>

using namespace misa;

namespace {

/// Rows at the given lengths of one sequence; q is never looked at.
Workload rows_of_lengths(const std::vector<i32>& lengths) {
  Workload workload;
  workload.q = HostTensor(Dtype::f32, {static_cast<i64>(lengths.size()), 1, 32});
  for (const i32 length : lengths) {
    workload.ks.push_back(0);
    workload.ke.push_back(length);
    workload.q_pos.push_back(length - 1);
    workload.sequence.push_back(0);
  }
  return workload;
}

}  // namespace

TEST_CASE("recall counts the reference's tokens that were found, row by row") {
  const Workload workload = rows_of_lengths({10, 10, 2});
  const std::vector<i32> reference{1, 2, 3, 4, /**/ 0, 5, 6, 9, /**/ 0, 1, -1, -1};
  const std::vector<i32> selected{1, 2, 3, 4, /**/ 1, 5, 7, 8, /**/ 0, 1, -1, -1};
  const Quality quality = compare_selections(workload, {reference, 4}, {selected, 4});
  CHECK(quality.rows == 3);
  CHECK(quality.recall.mean == doctest::Approx((1 + 0.25 + 1) / 3));
  CHECK(quality.recall.median == 1);
  CHECK(quality.recall.worst == 0.25);
  CHECK(quality.recall.worst_row == 1);
  CHECK(quality.recall.p1 == doctest::Approx(0.25 + 0.02 * 0.75));
  CHECK(quality.iou == doctest::Approx((1 + 1.0 / 7 + 1) / 3));
  CHECK_FALSE(quality.attention_mass.has_value());
  CHECK_FALSE(quality.needle_hit_rate.has_value());
}

TEST_CASE("a selection compared with itself is perfect, and rows that see nothing do not count") {
  const Workload workload = rows_of_lengths({3, 0});
  const std::vector<i32> same{0, 2, -1, -1};
  const Quality quality = compare_selections(workload, {same, 2}, {same, 2});
  CHECK(quality.rows == 1);
  CHECK(quality.recall.worst == 1);
  CHECK(quality.iou == 1);
}

TEST_CASE("attention mass is relative to the reference's, over the rows that record it") {
  Workload workload = rows_of_lengths({4, 4});
  workload.attention_mass = HostTensor(Dtype::f16, {1, 4});
  const float mass[4] = {0.5f, 0.25f, 0.125f, 0.125f};
  for (std::size_t i = 0; i < 4; ++i) workload.attention_mass.span<F16>()[i] = to_f16(mass[i]);
  workload.attention_mass_row = {1};
  const std::vector<i32> reference{0, 1, 0, 1}, selected{2, 3, 0, 2};
  const Quality quality = compare_selections(workload, {reference, 2}, {selected, 2});
  CHECK(quality.attention_rows == 1);
  CHECK(*quality.reference_attention_mass == 0.75);
  CHECK(*quality.attention_mass_absolute == 0.625);
  CHECK(*quality.attention_mass == doctest::Approx(0.625 / 0.75));
}

TEST_CASE("a needle is found when nine tenths of it are selected by a row that asks for it") {
  Workload workload = rows_of_lengths({40, 40, 15});
  workload.needles = {{.start = 10, .length = 10, .question_start = 39, .question_length = 1},
                      {.start = 10, .length = 10, .question_start = 14, .question_length = 1}};
  std::vector<i32> tokens;
  for (i32 t = 10; t < 19; ++t) tokens.push_back(t);
  tokens.push_back(30);  // row 0: 9 of 10
  for (i32 t = 10; t < 18; ++t) tokens.push_back(t);
  tokens.insert(tokens.end(), {30, 31});             // row 1: 8 of 10
  for (i32 t = 0; t < 10; ++t) tokens.push_back(t);  // row 2 asks for a needle that it cannot see whole
  const Quality quality = compare_selections(workload, {tokens, 10}, {tokens, 10});
  CHECK(quality.needle_cells == 2);
  CHECK(*quality.needle_hit_rate == 0.5);
}

TEST_CASE("baselines say what chance and the last k tokens would have found") {
  const Workload workload = rows_of_lengths({8, 2});
  const std::vector<i32> reference{0, 7, /**/ 0, 1};
  const Baselines found = baselines(workload, {reference, 2});
  CHECK(found.chance == doctest::Approx((2.0 / 8 + 1) / 2));
  CHECK(found.window == doctest::Approx((0.5 + 1) / 2));
}
