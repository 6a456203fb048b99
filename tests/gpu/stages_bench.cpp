// Every primitive of a backend on the shapes that the project's targets name: the timed cases of
// tests/support/primitive_cases.cpp. Times are the device's own (its clock); inputs that would otherwise stay in the
// cache are rotated. A benchmark's label is the kernel that ran. MISA_BACKEND names another backend than cuda.

#include <benchmark/benchmark.h>

#include <cstdlib>

#include "backends/backends.hpp"
#include "core/measure/statistics.hpp"
#include "tests/support/primitive_cases.hpp"

namespace {

using namespace misa;

/// Sets the time of one call: the median of samples of several calls in a row, which take a twentieth of a second in
/// all. The calls are recorded where the backend records, and wait for no host. One iteration of the benchmark is
/// enough
/// (--benchmark_min_time=0).
double measure(benchmark::State& state, Backend& backend, testing::PlacedTask& task) {
  constexpr int kLeastSamples = 10, kMostSamples = 200;
  const i64 calls = std::max<i64>(4, task.turns);
  const auto clock = backend.clock();
  int from = 0, to = 0;
  const auto run = [&] {
    clock->reset();
    from = clock->mark();
    for (i64 i = 0; i < calls; ++i) task.run(i % task.turns);
    to = clock->mark();
  };
  run();
  const auto recording = backend.record(run);
  std::vector<double> samples;
  double total = 0;
  while (static_cast<int>(samples.size()) < kLeastSamples ||
         (total < 0.05 && static_cast<int>(samples.size()) < kMostSamples)) {
    backend.prepare_run(false);
    recording ? recording->replay() : run();
    const double seconds = clock->seconds(from, to);
    samples.push_back(seconds / static_cast<double>(calls));
    total += seconds;
  }
  const double seconds = median(samples);
  for (auto _ : state) state.SetIterationTime(seconds);
  return seconds;
}

void time_case(benchmark::State& state, const testing::PrimitiveCase& one) {
  const char* name = std::getenv("MISA_BACKEND");
  const auto backend = make_backend(name != nullptr ? name : "cuda", 0);
  const auto task = one.place(*backend);
  state.SetLabel(std::string(task->run(0)));
  const double seconds = measure(state, *backend, *task);
  if (task->flops > 0) state.counters["tflops"] = task->flops / seconds * 1e-12;
  if (task->bytes > 0) state.counters["tbytes"] = task->bytes / seconds * 1e-12;
  if (task->pairs > 0) state.counters["ps_per_pair"] = seconds / task->pairs * 1e12;
}

}  // namespace

int main(int count, char** words) {
  for (const testing::PrimitiveCase& one : testing::primitive_cases()) {
    if (!one.timed) continue;
    benchmark::RegisterBenchmark(one.name.c_str(), time_case, one)->UseManualTime()->Unit(benchmark::kMicrosecond);
  }
  benchmark::Initialize(&count, words);
  if (benchmark::ReportUnrecognizedArguments(count, words)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
