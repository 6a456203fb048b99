// dsa and misa end to end with 1 thread to all cores, each beside 1 thread in one loop: 64 rows x 16K, H = 64, h = 8.

#include <benchmark/benchmark.h>

#include "core/indexer/plan.hpp"
#include "core/platform/threads.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/synthetic.hpp"
#include "tests/bench/support.hpp"

namespace {

using namespace misa;

/// A plan, and the backend that it runs on.
struct Team {
  Team(int threads, const Workload& workload, const char* indexer)
      : backend(make_backend("cpu", threads)),
        placement(*backend, workload),
        plan(*backend, make_indexer(indexer, {}), placement.problem()) {
    plan.run(nullptr);
  }

  std::unique_ptr<Backend> backend;
  Placement placement;
  Plan plan;
};

void threads(benchmark::State& state, const char* indexer) {
  const Workload workload =
      generate({.format = ValueFormat::e4m3, .knobs = {}, .contexts = {16384}, .rows = 64, .needles = {}});
  Team many(static_cast<int>(state.range(0)), workload, indexer), one(1, workload, indexer);
  double ours = 0, alone = 0;
  for (auto _ : state) {
    const double seconds = bench::seconds_of([&] { many.plan.run(nullptr); });
    alone += bench::seconds_of([&] { one.plan.run(nullptr); });
    ours += seconds;
    state.SetIterationTime(seconds);
  }
  state.counters["x_1"] = alone / ours;
  state.counters["efficiency"] = alone / ours / static_cast<double>(state.range(0));
}

/// 1, 2, 4, ... and all cores.
void to_all_cores(benchmark::internal::Benchmark* benchmark) {
  const int cores = default_threads();
  for (int count = 1; count < cores; count *= 2) benchmark->Arg(count);
  benchmark->Arg(cores)->UseManualTime()->Unit(benchmark::kMillisecond);
}
BENCHMARK_CAPTURE(threads, dsa, "dsa")->Apply(to_all_cores);
BENCHMARK_CAPTURE(threads, misa, "misa")->Apply(to_all_cores);

}  // namespace
