// The select stage against std::nth_element on (score, index) pairs, side by side in one loop, one thread each.

#include <benchmark/benchmark.h>

#include <algorithm>

#include "tests/bench/support.hpp"
#include "tests/support/primitive_cases.hpp"
#include "tests/support/select_rows.hpp"

namespace {

using namespace misa;

void select_vs_nth_element(benchmark::State& state) {
  const i64 columns = state.range(0), kind = state.range(1), k = 2048;
  const auto backend = make_backend("cpu", 1);
  const auto task = testing::primitive_case("select", {1, columns, k, kind}).place(*backend);
  const std::vector<float> scores = testing::select_scores(1, columns, kind);
  const auto better = [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  };
  std::vector<std::pair<float, i32>> pairs(static_cast<std::size_t>(columns));
  double ours = 0, theirs = 0;
  for (auto _ : state) {
    const double seconds = bench::seconds_of([&] { task->run(0); });
    theirs += bench::seconds_of([&] {
      for (i64 i = 0; i < columns; ++i) pairs[i] = {scores[i], static_cast<i32>(i)};
      std::nth_element(pairs.begin(), pairs.begin() + k, pairs.end(), better);
    });
    ours += seconds;
    state.SetIterationTime(seconds);
  }
  std::vector<i32> expected;
  for (i64 i = 0; i < k; ++i) expected.push_back(pairs[i].second);
  std::sort(expected.begin(), expected.end());
  const Selection selected = task->outputs().choices;
  if (!std::ranges::equal(expected, selected[Choice::tokens].span<const i32>()))
    state.SkipWithError("the two sets differ");
  state.counters["ns_per_score"] = ours / static_cast<double>(columns * state.iterations()) * 1e9;
  state.counters["x_nth_element"] = theirs / ours;
}
BENCHMARK(select_vs_nth_element)
    ->ArgsProduct({{8192, 32768, 131072, 1048576}, {0}})
    ->ArgsProduct({{131072}, {1, 2, 3}})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
