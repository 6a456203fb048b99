// Few rows over windows, some of them of the same sequence, as at decode: a kernel may read their keys once. Every
// score must be, bit for bit, what it is where each row lists the tokens of its window as candidates.

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/cases.hpp"
#include "tests/support/on_backend.hpp"
#include "tests/support/present_backends.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

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

std::vector<double> scores(Backend& backend, const Problem& problem, i64 columns, bool listed) {
  On on(backend);
  ScoreTask task{problem.queries, problem.keys, problem.windows, {}, on.logits(problem.shape.rows, columns)};
  if (listed) {
    std::vector<i32> tokens;
    for (i64 i = 0; i < problem.shape.rows * columns; ++i) tokens.push_back(static_cast<i32>(i % columns));
    task.candidates = Candidates{on.place<i32, 2>(tokens, {problem.shape.rows, columns}), problem.windows.begin, 1};
  }
  backend.score(task);
  return on.fetch_logits(task.logits);
}

i64 differences(Backend& backend, const Workload& workload, i64 more_columns) {
  const Placement placement(backend, workload);
  const Problem& problem = placement.problem();
  const i64 columns = std::max<i64>(1, problem.shape.max_window + more_columns);
  const std::vector<double> found = scores(backend, problem, columns, false),
                            expected = scores(backend, problem, columns, true);
  i64 count = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] != expected[i] && !(std::isnan(found[i]) && std::isnan(expected[i]))) ++count;
  }
  return count;
}

}  // namespace

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
      CHECK(differences(*backend, workload, draw.one_of<i64>({0, 1, 100, 9000})) == 0);
    }
  }
}

TEST_CASE("a batch of more rows than one launch takes has all its scores") {
  for (const std::string& name : present_backends()) {
    const auto backend = make_backend(name, 2);
    CaseOptions options{.seed = 5, .heads = 8, .dim = 128, .dtype = Dtype::e4m3, .paged = true, .next_n = 3};
    options.contexts.clear();
    for (i64 s = 0; s < 400; ++s) options.contexts.push_back(s * 37 % 90 + 1);
    CAPTURE(name);
    CHECK(differences(*backend, draw_workload(options), 0) == 0);
  }
}
