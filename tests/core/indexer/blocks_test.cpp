#include "core/indexer/blocks.hpp"

#include <doctest/doctest.h>

using namespace misa;

namespace {

Problem problem_of(std::vector<i32> sequence, std::vector<i32> begin, std::vector<i32> end, i64 keys, bool paged) {
  Problem problem;
  problem.sequence = std::move(sequence);
  problem.begin = std::move(begin);
  problem.end = std::move(end);
  problem.shape.rows = static_cast<i64>(problem.begin.size());
  problem.shape.keys = keys;
  problem.shape.paged = paged;
  if (paged) problem.lengths = problem.end;  // a row each
  return problem;
}

}  // namespace

TEST_CASE("visible blocks start at the sequence's begin and a row's last block ends with the row") {
  const Problem problem = problem_of({0, 0, 1}, {0, 0, 10}, {4, 9, 15}, 20, false);
  const BlockLayout layout = layout_blocks(problem, 4, BlockWindow::visible);
  CHECK(layout.begin == std::vector<i32>{0, 4, 8, 10, 14});
  CHECK(layout.end == std::vector<i32>{4, 8, 9, 14, 15});
  CHECK(layout.first == std::vector<i32>{0, 0, 3});
  CHECK(layout.last == std::vector<i32>{1, 3, 5});
  CHECK(layout.origin == std::vector<i32>{0, 0, 10});
  CHECK(layout.tail_begin == std::vector<i32>{0, 8, 14});
}

TEST_CASE("blocks reach as far as the row that sees most, wherever it stands, and each begin has its own") {
  const Problem problem = problem_of({0, 0, 0}, {0, 0, 6}, {9, 4, 15}, 20, false);
  const BlockLayout layout = layout_blocks(problem, 4, BlockWindow::visible);
  CHECK(layout.begin == std::vector<i32>{0, 4, 8, 6, 10, 14});
  CHECK(layout.end == std::vector<i32>{4, 8, 9, 10, 14, 15});
  CHECK(layout.first == std::vector<i32>{0, 0, 3});
  CHECK(layout.last == std::vector<i32>{3, 1, 6});
  CHECK(layout.origin == std::vector<i32>{0, 0, 6});
}

TEST_CASE("upstream blocks ignore where sequences begin") {
  const Problem problem = problem_of({0, 0, 1}, {0, 0, 10}, {4, 9, 15}, 18, false);
  const BlockLayout layout = layout_blocks(problem, 4, BlockWindow::upstream);
  CHECK(layout.begin == std::vector<i32>{0, 4, 8, 12, 16});
  CHECK(layout.end == std::vector<i32>{4, 8, 12, 16, 18});
  CHECK(layout.first == std::vector<i32>{0, 0, 2});  // floor(10 / 4)
  CHECK(layout.last == std::vector<i32>{1, 3, 4});   // ceil(15 / 4)
  CHECK(layout.origin == std::vector<i32>{0, 0, 8});
  CHECK(layout.tail_begin.empty());
}

TEST_CASE("a step changes the blocks of its rows' own tokens that a row reads") {
  // Two sequences of 9 and 6 tokens; the rows' own tokens are 7 and 8, and 5. Blocks of 4: 0 4 8, 0 4.
  const Problem problem = problem_of({0, 0, 1}, {0, 0, 0}, {8, 9, 6}, 64, true);
  const BlockLayout layout = layout_blocks(problem, 4, BlockWindow::visible);
  REQUIRE(layout.begin == std::vector<i32>{0, 4, 8, 0, 4});
  // Each row has a mean of its own for its last block, so that only the second row reads a changed one: 4 to 7.
  CHECK(changed_keys(layout, problem, true) == std::vector<i32>{1});
  CHECK(changed_keys(layout, problem, false) == std::vector<i32>{1, 2, 4});
}

TEST_CASE("a row that sees nothing has no blocks") {
  for (const BlockWindow window : {BlockWindow::visible, BlockWindow::upstream}) {
    const Problem problem = problem_of({0, 1}, {0, 0}, {0, 5}, 16, true);
    const BlockLayout layout = layout_blocks(problem, 4, window);
    CHECK(layout.first[0] == layout.last[0]);
    CHECK(layout.last[1] - layout.first[1] == 2);
    CHECK(layout.pooled() == 2);
    CHECK(layout.sequence == std::vector<i32>{1, 1});
  }
}

TEST_CASE("samples are spread evenly over a window, all tokens of a short one, and rows that can share them do") {
  for (const i64 samples : {1, 3, 20, 128}) {
    for (i32 n = 0; n <= 700; ++n) {
      CAPTURE(samples);
      CAPTURE(n);
      // A row of n tokens after another of the same begin, and one of another sequence's.
      const Problem problem = problem_of({0, 0, 1}, {5, 5, 5}, {5 + n / 2, 5 + n, 5 + n}, 2000, false);
      const BlockLayout layout = layout_samples(problem, samples);
      CHECK(layout.tail_begin.empty());
      for (std::size_t m = 0; m < 3; ++m) {
        const i64 visible = problem.end[m] - problem.begin[m], count = layout.last[m] - layout.first[m];
        CHECK(count <= 2 * samples);
        CHECK(count >= std::min(visible, visible <= 2 * samples ? visible : samples));
        i64 stride = 1;
        for (i64 i = 0; i < count; ++i) {
          const std::size_t p = static_cast<std::size_t>(layout.first[m] + i);
          CHECK(layout.sequence[p] == problem.sequence[m]);
          CHECK(layout.begin[p] >= problem.begin[m]);
          CHECK(layout.begin[p] < problem.end[m]);
          CHECK(layout.end[p] == layout.begin[p] + 1);
          if (i == 1) stride = layout.begin[p] - layout.begin[p - 1];
          if (i > 1) CHECK(layout.begin[p] - layout.begin[p - 1] == stride);
        }
        if (count > 1) {
          CHECK(layout.begin[static_cast<std::size_t>(layout.first[m])] == problem.begin[m] + sample_offset(stride));
          CHECK(layout.begin[static_cast<std::size_t>(layout.last[m] - 1)] + stride >= problem.end[m]);
        }
        // The same alone, whatever other rows see, and in pages.
        Problem alone = problem_of({problem.sequence[m]}, {5}, {problem.end[m]}, 2000, m == 1);
        const BlockLayout single = layout_samples(alone, samples);
        REQUIRE(single.pooled() == count);
        CHECK(std::equal(single.begin.begin(), single.begin.end(), layout.begin.begin() + layout.first[m]));
      }
    }
  }
}

TEST_CASE("a shorter row's samples are the first of a longer one's with the same stride") {
  const Problem problem = problem_of({0, 0}, {0, 0}, {601, 800}, 1000, false);
  const BlockLayout layout = layout_samples(problem, 100);  // every fourth of both
  CHECK(layout.first[0] == layout.first[1]);
  CHECK(layout.pooled() == layout.last[1]);
  CHECK(layout.last[0] == ceil_div(601 - sample_offset(4), 4));
  CHECK(layout.last[1] == ceil_div(800 - sample_offset(4), 4));
}

TEST_CASE("a layout is as large as it was counted to be") {
  for (const BlockWindow window : {BlockWindow::visible, BlockWindow::upstream}) {
    for (const bool paged : {false, true}) {
      const Problem problem = paged ? problem_of({0, 1, 2}, {0, 0, 0}, {0, 37, 5}, 100, true)
                                    : problem_of({0, 0, 1, 1}, {0, 0, 30, 30}, {4, 30, 31, 95}, 100, false);
      for (const i64 size : {1, 4, 7, 37, 64, 1000, 0x7fffffff}) {
        CAPTURE(size);
        CAPTURE(paged);
        CAPTURE(block_window_name(window));
        const BlockLayout layout = layout_blocks(problem, size, window);
        const BlockCount count = count_blocks(problem, size, window);
        CHECK(count.pooled == layout.pooled());
        i64 longest = 0, reach = 0;
        for (std::size_t m = 0; m < problem.begin.size(); ++m) {
          longest = std::max<i64>(longest, layout.last[m] - layout.first[m]);
          if (problem.end[m] > problem.begin[m]) reach = std::max<i64>(reach, problem.end[m] - layout.origin[m]);
        }
        CHECK(count.longest == longest);
        CHECK(count.reach == reach);
        if (window == BlockWindow::visible) CHECK(count.reach == (paged ? 37 : 65));
      }
      for (const i64 samples : {1, 3, 20, 0x7fffffff}) {
        CAPTURE(samples);
        const BlockLayout layout = layout_samples(problem, samples);
        const BlockCount count = count_samples(problem, samples);
        CHECK(count.pooled == layout.pooled());
        i64 longest = 0;
        for (std::size_t m = 0; m < problem.begin.size(); ++m) {
          longest = std::max<i64>(longest, layout.last[m] - layout.first[m]);
        }
        CHECK(count.longest == longest);
      }
    }
  }
}
