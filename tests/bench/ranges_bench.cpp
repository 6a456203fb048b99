// What a range costs where no profiler listens: two calls through pointers that are null.

#include <benchmark/benchmark.h>

#include "core/ranges/ranges.hpp"

namespace {

using namespace misa;

class Nobody final : public Observer {
 public:
  void begin(StageSet stages) override { benchmark::DoNotOptimize(stages); }
  void end() override {}
};

void stage_range(benchmark::State& state) {
  Nobody nobody;
  StageRanges ranges(nobody);
  for (auto _ : state) {
    ranges.begin(Stage::score);
    ranges.end();
  }
}
BENCHMARK(stage_range);

}  // namespace
