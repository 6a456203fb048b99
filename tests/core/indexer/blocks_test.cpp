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
