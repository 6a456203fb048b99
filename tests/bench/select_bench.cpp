// The select stage against std::nth_element on (score, index) pairs, side by side in one loop, one thread each.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>

#include "tests/bench/support.hpp"

namespace {

using namespace misa;

enum Scores { kNormal, kZeroPlateau, kEqual, kAscending };

std::vector<float> make_scores(i64 count, i64 kind) {
  std::mt19937_64 engine(7);
  std::normal_distribution<float> normal;
  std::vector<float> scores(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const float x = normal(engine);
    scores[i] = kind == kNormal        ? x
                : kind == kZeroPlateau ? std::max(0.0f, x - 2.5f)
                : kind == kEqual       ? 1.0f
                                       : static_cast<float>(i);
  }
  return scores;
}

void select_vs_nth_element(benchmark::State& state) {
  const i64 columns = state.range(0), k = 2048;
  std::vector<float> scores = make_scores(columns, state.range(1));
  const auto backend = make_backend("cpu", 1);
  std::vector<i32> sequence{0}, begin{0}, end{static_cast<i32>(columns)}, selected(k);
  const SelectTask task{View<float, 2>(scores.data(), {1, columns}),
                        {View<const i32, 1>(sequence.data(), {1}), View<const i32, 1>(begin.data(), {1}),
                         View<const i32, 1>(end.data(), {1})},
                        {},
                        false,
                        View<i32, 2>(selected.data(), {1, k})};
  const auto better = [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  };
  std::vector<std::pair<float, i32>> pairs(static_cast<std::size_t>(columns));
  double ours = 0, theirs = 0;
  for (auto _ : state) {
    const double seconds = bench::seconds_of([&] { backend->select(task); });
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
  if (expected != selected) state.SkipWithError("the two sets differ");
  state.counters["ns_per_score"] = ours / static_cast<double>(columns * state.iterations()) * 1e9;
  state.counters["x_nth_element"] = theirs / ours;
}
BENCHMARK(select_vs_nth_element)
    ->ArgsProduct({{8192, 32768, 131072, 1048576}, {kNormal}})
    ->ArgsProduct({{131072}, {kZeroPlateau, kEqual, kAscending}})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
