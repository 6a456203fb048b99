// misa, misa-dagger and hisa end to end against dsa, side by side in one loop: 128 rows x 32K, H = 64, h = 8.

#include <benchmark/benchmark.h>

#include "core/indexer/plan.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/synthetic.hpp"
#include "tests/bench/support.hpp"

namespace {

using namespace misa;

void indexer_vs_dsa(benchmark::State& state, const char* name) {
  const Workload workload = generate({.format = ValueFormat::e4m3, .knobs = {}, .contexts = {32768}, .needles = {}});
  const auto backend = make_backend("cpu", bench::threads());
  const Placement placement(*backend, workload);
  Plan dsa(*backend, make_indexer("dsa", {}), placement.problem());
  Plan other(*backend, make_indexer(name, {}), placement.problem());
  dsa.run(nullptr);
  other.run(nullptr);
  double ours = 0, theirs = 0;
  for (auto _ : state) {
    const double seconds = bench::seconds_of([&] { other.run(nullptr); });
    theirs += bench::seconds_of([&] { dsa.run(nullptr); });
    ours += seconds;
    state.SetIterationTime(seconds);
  }
  state.counters["dsa_ms"] = theirs / static_cast<double>(state.iterations()) * 1e3;
  state.counters["x_dsa"] = theirs / ours;
}
BENCHMARK_CAPTURE(indexer_vs_dsa, misa, "misa")->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(indexer_vs_dsa, misa_dagger, "misa-dagger")->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(indexer_vs_dsa, hisa, "hisa")->UseManualTime()->Unit(benchmark::kMillisecond);

}  // namespace
