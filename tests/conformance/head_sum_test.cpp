// What heads add up to where they cancel: `Arithmetic::head_sum` is a promise.

#include <doctest/doctest.h>

#include "tests/support/cases.hpp"
#include "tests/support/on_backend.hpp"
#include "tests/support/present_backends.hpp"

using namespace misa;
using namespace misa::testing;

TEST_CASE("a backend that states a sum of heads in double keeps the small head between two that cancel") {
  CaseOptions options{.seed = 3, .heads = 3, .dim = 8, .dtype = Dtype::f32};
  options.contexts = {40};
  options.rows = 2;
  Workload workload = draw_workload(options);
  for (i64 i = 0; i < workload.q.size(); ++i) store(workload.q, i, i % options.dim == 0 ? 1.0f : 0.0f);
  for (i64 i = 0; i < workload.k.size(); ++i) store(workload.k, i, i % options.dim == 0 ? 1.0f : 0.0f);
  for (i64 i = 0; i < workload.weights.size(); ++i) {
    constexpr float kWeights[] = {0x1p24f, 1.0f, -0x1p24f};
    store(workload.weights, i, kWeights[i % 3]);
  }
  i64 stated = 0;
  for (const std::string& name : present_backends()) {
    const auto backend = make_backend(name, 2);
    const Placement placement(*backend, workload);
    const Problem& problem = placement.problem();
    const auto arithmetic = backend->arithmetic(problem.shape);
    if (!arithmetic || arithmetic->head_sum > 0x1p-53) continue;
    ++stated;
    On on(*backend);
    const ScoreTask task{
        problem.queries, problem.keys, problem.windows, {}, on.logits(problem.shape.rows, problem.shape.max_window)};
    backend->score(task);
    const std::vector<double> scores = on.fetch_logits(task.logits);
    CAPTURE(name);
    for (i64 m = 0; m < problem.shape.rows; ++m) {
      for (i64 s = 0; s < workload.ke[static_cast<std::size_t>(m)] - workload.ks[static_cast<std::size_t>(m)]; ++s) {
        CHECK(scores[static_cast<std::size_t>(m * problem.shape.max_window + s)] == 1.0);
      }
    }
  }
  CHECK(stated > 0);
}
