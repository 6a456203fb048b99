#include "core/quality/quality.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <random>
#include <set>
#include <vector>

#include "tests/support/to_f16.hpp"

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
  CHECK(*quality.recall.mean == doctest::Approx((1 + 0.25 + 1) / 3));
  CHECK(quality.recall.median == 1);
  CHECK(quality.recall.worst == 0.25);
  CHECK(quality.recall.worst_row == 1);
  CHECK(*quality.recall.p1 == doctest::Approx(0.25 + 0.02 * 0.75));
  CHECK(*quality.iou == doctest::Approx((1 + 1.0 / 7 + 1) / 3));
  CHECK_FALSE(quality.attention_mass.has_value());
  CHECK_FALSE(quality.needle_hit_rate.has_value());
}

TEST_CASE("recall and iou are those of sets on drawn selections of any size, and the worst row is named") {
  for (unsigned seed = 1; seed <= 100; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const std::size_t rows = 1 + random() % 6, k = 1 + random() % 8;
    std::vector<i32> reference, selected;
    double recalls = 0, overlaps = 0, worst = 2;
    i64 counted = 0, worst_row = 0;
    std::vector<RowQuality> wanted;
    for (std::size_t m = 0; m < rows; ++m) {
      std::array<std::set<i32>, 2> sets;
      for (std::set<i32>& set : sets) {
        for (std::size_t n = random() % (k + 1); n > 0; --n) set.insert(static_cast<i32>(random() % 12));
      }
      std::vector<i32> both;
      std::set_intersection(sets[0].begin(), sets[0].end(), sets[1].begin(), sets[1].end(), std::back_inserter(both));
      for (int side = 0; side < 2; ++side) {
        std::vector<i32> row(sets[static_cast<std::size_t>(side)].begin(), sets[static_cast<std::size_t>(side)].end());
        row.resize(k, -1);
        std::vector<i32>& into = side == 0 ? reference : selected;
        into.insert(into.end(), row.begin(), row.end());
      }
      if (sets[0].empty()) continue;
      wanted.push_back({.row = static_cast<i64>(m),
                        .wanted = static_cast<i64>(sets[0].size()),
                        .selected = static_cast<i64>(sets[1].size()),
                        .shared = static_cast<i64>(both.size()),
                        .attention_mass = {}});
      const double shared = static_cast<double>(both.size()), recall = shared / static_cast<double>(sets[0].size());
      if (recall < worst) worst_row = static_cast<i64>(m);
      worst = std::min(worst, recall);
      recalls += recall;
      overlaps += shared / (static_cast<double>(sets[0].size() + sets[1].size()) - shared);
      ++counted;
    }
    const Workload workload = rows_of_lengths(std::vector<i32>(rows, 12));
    const Quality quality =
        compare_selections(workload, {reference, static_cast<i64>(k)}, {selected, static_cast<i64>(k)});
    CHECK(quality.rows == counted);
    CHECK(quality.per_row == wanted);
    if (counted == 0) continue;
    CHECK(quality.recall.mean == doctest::Approx(recalls / static_cast<double>(counted)));
    CHECK(quality.iou == doctest::Approx(overlaps / static_cast<double>(counted)));
    CHECK(quality.recall.worst == worst);
    CHECK(quality.recall.worst_row == worst_row);
  }
}

TEST_CASE("what a window does not reach is counted from where it begins: attention and needles") {
  // Row 0 sees tokens 0 to 7 of the buffer, rows 1 and 2 tokens 8 to 15 and 12 to 15.
  Workload workload = rows_of_lengths({8, 16, 16});
  workload.ks = {0, 8, 12};
  workload.sequence = {0, 1, 2};
  workload.q_pos = {7, 7, 3};
  workload.attention_mass = HostTensor(Dtype::f16, {2, 16});
  for (i64 i = 0; i < 32; ++i) workload.attention_mass.span<F16>()[static_cast<std::size_t>(i)] = to_f16(0.0f);
  workload.attention_mass.span<F16>()[0 * 16 + 13] = to_f16(0.5f);   // row 2, its token 1
  workload.attention_mass.span<F16>()[1 * 16 + 10] = to_f16(0.25f);  // row 1, its token 2
  workload.attention_mass_row = {2, 1};
  const std::vector<i32> reference{0, 1, 0, 2, 1, 2}, selected{0, 1, 1, 2, 0, 2};
  Quality quality = compare_selections(workload, {reference, 2}, {selected, 2});
  CHECK(quality.attention_rows == 2);
  CHECK(*quality.reference_attention_mass == (0.5 + 0.25) / 2);
  CHECK(*quality.attention_mass_absolute == 0.25 / 2);
  CHECK(*quality.attention_mass == doctest::Approx(0.25 / 0.75));
  CHECK_FALSE(quality.per_row[0].attention_mass.has_value());  // not recorded
  CHECK(*quality.per_row[1].attention_mass == 1);
  CHECK(*quality.per_row[2].attention_mass == 0);

  workload.needles = {{.start = 9, .length = 2, .question_start = 2, .question_length = 6}};
  quality = compare_selections(workload, {reference, 2}, {selected, 2});
  CHECK(quality.needle_cells == 1);  // row 1; row 0 ends before it, row 2 begins after its first token
  CHECK(*quality.needle_hit_rate == 1);
  workload.needles[0].question_length = 5;  // positions 2 to 6: row 1 asks no more
  CHECK(compare_selections(workload, {reference, 2}, {selected, 2}).needle_cells == 0);
}

TEST_CASE("a selection compared with itself is perfect, and rows that see nothing do not count") {
  const Workload workload = rows_of_lengths({3, 0});
  const std::vector<i32> same{0, 2, -1, -1};
  const Quality quality = compare_selections(workload, {same, 2}, {same, 2});
  CHECK(quality.rows == 1);
  CHECK(quality.recall.worst == 1);
  CHECK(quality.iou == 1);
}

TEST_CASE("where no row sees a token there is no recall, no chance and no attention mass") {
  Workload workload = rows_of_lengths({0, 0});
  workload.attention_mass = HostTensor(Dtype::f16, {2, 4});
  workload.attention_mass_row = {0, 1};
  const std::vector<i32> none{-1, -1, -1, -1};
  const Quality quality = compare_selections(workload, {none, 2}, {none, 2});
  CHECK(quality.rows == 0);
  CHECK_FALSE(quality.recall.mean.has_value());
  CHECK_FALSE(quality.recall.median.has_value());
  CHECK_FALSE(quality.recall.p1.has_value());
  CHECK_FALSE(quality.recall.worst.has_value());
  CHECK_FALSE(quality.recall.worst_row.has_value());
  CHECK_FALSE(quality.iou.has_value());
  CHECK(quality.attention_rows == 0);
  CHECK_FALSE(quality.attention_mass_absolute.has_value());
  const Baselines found = baselines(workload, {none, 2});
  CHECK_FALSE(found.chance.has_value());
  CHECK_FALSE(found.window.has_value());
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

TEST_CASE("of a needle whose answer is known, the answer's tokens count") {
  Workload workload = rows_of_lengths({40, 40, 40});
  // Rows 0 and 1 ask for tokens 12 and 13 of a sentence of ten, row 2 for a sentence whose answer is not known.
  workload.q_pos = {37, 38, 39};
  workload.needles = {
      {.start = 10, .length = 10, .question_start = 37, .question_length = 2, .answer_start = 12, .answer_length = 2},
      {.start = 20, .length = 4, .question_start = 39, .question_length = 1}};
  const std::vector<i32> reference{12, 13, 20, 21, /**/ 12, 13, 14, 15, /**/ 20, 21, 22, 30};
  const std::vector<i32> selected{0, 12, 13, 39, /**/ 10, 12, 14, 15, /**/ 20, 21, 22, 23};
  const Quality quality = compare_selections(workload, {reference, 4}, {selected, 4});
  CHECK(quality.needle_cells == 3);
  CHECK(quality.needle_answer_cells == 2);
  CHECK(*quality.needle_hit_rate == doctest::Approx(2.0 / 3));            // rows 0 and 2
  CHECK(*quality.reference_needle_hit_rate == doctest::Approx(2.0 / 3));  // rows 0 and 1
}

TEST_CASE("baselines say what chance and the last k tokens would have found") {
  const Workload workload = rows_of_lengths({8, 2});
  const std::vector<i32> reference{0, 7, /**/ 0, 1};
  const Baselines found = baselines(workload, {reference, 2});
  CHECK(*found.chance == doctest::Approx((2.0 / 8 + 1) / 2));
  CHECK(*found.window == doctest::Approx((0.5 + 1) / 2));
}

TEST_CASE("recall of what was free leaves out what is forced, and rows that had no choice") {
  const Workload workload = rows_of_lengths({10, 10, 4, 10});
  const std::vector<i32> reference{0, 3, 4, 9, /**/ 0, 5, 6, 9, /**/ 0, 1, 2, 3, /**/ -1, -1, -1, -1};
  const std::vector<i32> selected{0, 3, 8, 9, /**/ 0, 5, 6, 9, /**/ 0, 1, 2, -1, /**/ 0, 1, 2, 9};
  const Quality quality = compare_selections(workload, {reference, 4, "dsa", Forced{1, 1}}, {selected, 4});
  CHECK(quality.rows == 3);
  CHECK(quality.recall.worst == 0.75);
  CHECK(quality.free_rows == 2);
  CHECK(*quality.free_recall.mean == doctest::Approx(0.75));
  CHECK(quality.free_recall.worst == 0.5);
  CHECK(quality.free_recall.worst_row == 0);
  CHECK(*quality.free_iou == doctest::Approx((1.0 / 3 + 1) / 2));
  CHECK(quality.per_row[2].free == 0);

  const Quality plain = compare_selections(workload, {reference, 4}, {selected, 4});
  CHECK(plain.free_rows == 0);
  CHECK_FALSE(plain.free_recall.mean.has_value());
  CHECK(plain.recall.mean == quality.recall.mean);

  const std::vector<i32> first{0, 1, 2, 3, /**/ 0, 1, 2, 3, /**/ 0, 1, 2, 3, /**/ 0, 1, 2, 3};
  const Quality all = compare_selections(workload, {first, 4, "dsa", Forced{9, 9}}, {selected, 4});
  CHECK(all.free_rows == 0);
  CHECK_FALSE(all.free_iou.has_value());
}
