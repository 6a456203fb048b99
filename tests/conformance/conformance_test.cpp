// What no result may depend on: how much else is asked for. That results are right is kernels_test.cpp's question.

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/cases.hpp"
#include "tests/support/on_backend.hpp"
#include "tests/support/present_backends.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

/// Few rows, some of them of the same sequence, as at decode: a kernel may read their keys once.
CaseOptions draw_decode(u64 seed) {
  Draw draw(seed * 2654435761u + 7);
  CaseOptions options;
  options.seed = seed;
  options.heads = draw.one_of<i64>({1, 3, 8, 12, 16, 32, 33, 64});
  options.dim = 128;
  options.dtype = Dtype::e4m3;
  options.numbers = draw.one_of<Numbers>({Numbers::normal, Numbers::negative_gates, Numbers::zeros, Numbers::nan});
  options.paged = draw.whole(0, 3) != 0;
  options.page_size = draw.one_of<i64>({8, 16, 24, 32, 64, 128});
  options.next_n = draw.whole(1, 4);
  options.rows = draw.whole(1, 15);
  options.contexts.clear();
  const i64 longest = draw.one_of<i64>({1, 70, 700, 3000});
  for (i64 n = options.paged ? draw.whole(1, 12) : draw.whole(1, 2); n > 0; --n) {
    options.contexts.push_back(draw.whole(1, longest));
  }
  return options;
}

/// The same rows with other windows: some begin late, some are empty, and some rows move to the sequence before theirs.
void draw_windows(Workload& workload, Draw& draw) {
  for (std::size_t m = 0; m < workload.sequence.size(); ++m) {
    if (workload.paged() && m > 0 && draw.whole(0, 4) == 0) {
      workload.sequence[m] = workload.sequence[m - 1];
      workload.ks[m] = 0;
      workload.ke[m] = workload.seq_lens.span<i32>()[static_cast<std::size_t>(workload.sequence[m])];
    }
    const i64 kind = draw.whole(0, 5);
    if (kind == 0) workload.ke[m] = workload.ks[m];
    if (kind < 3) workload.ks[m] = static_cast<i32>(draw.whole(workload.ks[m], workload.ke[m]));
    if (kind == 3) workload.ke[m] = static_cast<i32>(draw.whole(workload.ks[m], workload.ke[m]));
  }
}

/// Scores [M, columns] of the windows; or, with `step`, of every step-th token as a candidate.
std::vector<double> scores(Backend& backend, const Problem& problem, i64 columns, i64 step = 0) {
  On on(backend);
  ScoreTask task{problem.queries, problem.keys, problem.windows, {}, on.logits(problem.shape.rows, columns)};
  if (step > 0) {
    std::vector<i32> tokens;
    for (i64 i = 0; i < problem.shape.rows * columns; ++i) tokens.push_back(static_cast<i32>(i % columns * step));
    task.candidates = Candidates{on.place<i32, 2>(tokens, {problem.shape.rows, columns}), problem.windows.begin, 1};
  }
  backend.score(task);
  return on.fetch_logits(task.logits);
}

/// How many scores of windows are not, bit for bit, what they are where rows list every step-th token, and where each
/// row is scored alone.
i64 differences(Backend& backend, const Workload& workload, i64 more_columns, i64 step, bool alone) {
  const Placement placement(backend, workload);
  const Problem& problem = placement.problem();
  const i64 columns = std::max<i64>(1, problem.shape.max_window + more_columns), few = ceil_div(columns, step);
  const std::vector<double> found = scores(backend, problem, columns), listed = scores(backend, problem, few, step);
  i64 count = 0;
  const auto compare = [&](double a, double b) { count += a == b || (std::isnan(a) && std::isnan(b)) ? 0 : 1; };
  for (i64 m = 0; m < problem.shape.rows; ++m) {
    const double* row = found.data() + m * columns;
    for (i64 i = 0; i < few; ++i) compare(row[i * step], listed[static_cast<std::size_t>(m * few + i)]);
    if (!alone) continue;
    const std::vector<double> apart = scores(backend, slice(problem, m, 1), columns);
    for (i64 c = 0; c < columns; ++c) compare(row[c], apart[static_cast<std::size_t>(c)]);
  }
  return count;
}

}  // namespace

TEST_CASE("a block mean does not depend on how many others are wanted") {
  for (const std::string& name : present_backends()) {
    const auto backend = make_backend(name, 2);
    for (u64 seed = 1; seed <= 6; ++seed) {
      CaseOptions options{.seed = seed, .rows = 30, .heads = 8, .dim = 128};
      options.dtype = seed % 2 == 0 ? Dtype::bf16 : Dtype::e4m3;
      options.paged = seed > 3;
      options.page_size = 24;
      options.next_n = 9;
      options.contexts = {1500};
      CAPTURE(name);
      CAPTURE(options.describe());
      const Workload workload = draw_workload(options);
      const Placement placement(*backend, workload);
      Draw draw(seed);
      const auto means_of = [&](const std::vector<i32>& begin, const std::vector<i32>& end) {
        On on(*backend);
        const i64 count = std::ssize(begin);
        const View<float, 2> means = on.make<float, 2>({count, options.dim});
        backend->pool({placement.problem().keys,
                       {on.place<i32, 1>(std::vector<i32>(begin.size(), 0), {count}), on.place<i32, 1>(begin, {count}),
                        on.place<i32, 1>(end, {count})},
                       means});
        return on.fetch(means);
      };
      std::vector<i32> begin, end;
      for (const i32 last : workload.ke) {
        begin.push_back(static_cast<i32>(draw.whole(0, last)));
        end.push_back(static_cast<i32>(draw.whole(begin.back(), last)));
        begin.push_back(begin.back());
        end.push_back(last);
      }
      const std::vector<float> expected = means_of(begin, end);
      const std::size_t few = begin.size();
      while (begin.size() < 5000) {
        begin.push_back(begin[begin.size() - few]);
        end.push_back(end[end.size() - few]);
      }
      const std::vector<float> found = means_of(begin, end);
      i64 different = 0;
      for (std::size_t i = 0; i < found.size(); ++i) different += found[i] == expected[i % expected.size()] ? 0 : 1;
      CHECK(different == 0);
    }
  }
}

TEST_CASE("the score of a pair does not depend on what else is scored") {
  for (const std::string& name : present_backends()) {
    const auto backend = make_backend(name, 2);
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::e4m3, Dtype::int8, Dtype::e2m1}) {
      for (const i64 heads : {1, 8, 13, 32, 64}) {
        CaseOptions options{.seed = 77, .rows = 30, .heads = heads, .dim = 128, .dtype = dtype};
        options.contexts = {900};
        CAPTURE(name);
        CAPTURE(options.describe());
        CHECK(differences(*backend, draw_workload(options), 0, 3, true) == 0);
      }
    }
  }
}

TEST_CASE("rows that share a sequence have the scores that each has alone") {
  for (const std::string& name : present_backends()) {
    const auto backend = make_backend(name, 2);
    for (u64 seed = 1; seed <= 120; ++seed) {
      const CaseOptions options = draw_decode(seed);
      CAPTURE(name);
      CAPTURE(options.describe());
      CAPTURE(options.page_size);
      Workload workload = draw_workload(options);
      Draw draw(seed);
      if (seed % 3 != 0) draw_windows(workload, draw);
      CHECK(differences(*backend, workload, draw.one_of<i64>({0, 1, 100, 9000}), 1, false) == 0);
    }
  }
}
