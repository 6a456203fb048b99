#include "core/measure/stage_timer.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "core/base/error.hpp"
#include "tests/core/measure/fake_clock.hpp"

namespace misa {

TEST_CASE("spans of equal label add up, in the order of their first span") {
  FakeClock clock;
  StageTimer timer(clock);
  timer.start();
  for (int chunk = 0; chunk < 2; ++chunk) {
    timer.begin(Stage::score);
    clock.now += 3;
    timer.end();
    clock.now += 0.25;  // a gap belongs to no stage
    timer.begin(Stage::select);
    clock.now += 1;
    timer.end();
  }
  timer.stop();
  const RunTimes times = timer.times();
  CHECK(times.seconds == 8.5);
  REQUIRE(times.stages.size() == 2);
  CHECK(times.stages[0].stages == StageSet(Stage::score));
  CHECK(times.stages[0].seconds == 6);
  CHECK(times.stages[1].seconds == 2);
}

TEST_CASE("a stage names each kernel that ran in it once, in order") {
  FakeClock clock;
  StageTimer timer(clock);
  timer.start();
  for (int chunk = 0; chunk < 2; ++chunk) {
    timer.begin(Stage::route);
    timer.ran(Primitive::rank, chunk == 0 ? "tiles" : "rows");
    timer.ran(Primitive::gather, "rows");
    timer.ran(Primitive::gather, "");  // there was no work
    timer.end();
  }
  timer.stop();
  const std::vector<KernelRun> expected{
      {Primitive::rank, "tiles"}, {Primitive::gather, "rows"}, {Primitive::rank, "rows"}};
  const std::vector<RunTimes> runs{timer.times(), timer.times()};
  CHECK(runs[0].stages.at(0).kernels == expected);
  CHECK(summarise_stages(runs).at(0).kernels == expected);
}

TEST_CASE("a fused span keeps its own label") {
  FakeClock clock;
  StageTimer timer(clock);
  timer.start();
  timer.begin(StageSet(Stage::score) | Stage::select);
  clock.now += 2;
  timer.end();
  timer.begin(Stage::score);
  clock.now += 1;
  timer.end();
  timer.stop();
  const RunTimes times = timer.times();
  REQUIRE(times.stages.size() == 2);
  CHECK(stage_set_name(times.stages[0].stages) == "score+select");
  CHECK(times.stages[0].seconds == 2);
  CHECK(times.stages[1].seconds == 1);
}

TEST_CASE("every run starts afresh") {
  FakeClock clock;
  StageTimer timer(clock);
  timer.start();
  timer.begin(Stage::pool);
  clock.now += 1;
  timer.end();
  timer.stop();
  timer.start();
  clock.now += 4;
  timer.stop();
  const RunTimes times = timer.times();
  CHECK(times.seconds == 4);
  CHECK(times.stages.empty());
  CHECK(clock.resets == 2);
}

TEST_CASE("spans that nest, end twice or never end are errors of ours") {
  FakeClock clock;
  StageTimer timer(clock);
  timer.start();
  CHECK_THROWS_AS(timer.end(), Error);
  timer.begin(Stage::score);
  CHECK_THROWS_AS(timer.begin(Stage::select), Error);
  CHECK_THROWS_AS(timer.stop(), Error);
}

TEST_CASE("stages are summarised over runs, and a run without a stage gives no sample of it") {
  const std::vector<RunTimes> runs{
      {.seconds = 5, .stages = {{Stage::score, 3}, {Stage::select, 1}}},
      {.seconds = 7, .stages = {{Stage::score, 5}}},
      {.seconds = 6, .stages = {{Stage::score, 4}, {Stage::select, 2}}},
  };
  const std::vector<StageSummary> stages = summarise_stages(runs);
  REQUIRE(stages.size() == 2);
  CHECK(stages[0].seconds.median == 4);
  CHECK(stages[0].seconds.samples == 3);
  CHECK(stages[1].seconds.median == 1.5);
  CHECK(stages[1].seconds.samples == 2);
  CHECK(seconds_of(runs) == std::vector<double>{5, 7, 6});
}

TEST_CASE("closure is the share of end to end that no stage explains") {
  const std::vector<RunTimes> runs{{.seconds = 10, .stages = {{Stage::score, 7}, {Stage::select, 2}}}};
  const std::vector<StageSummary> stages = summarise_stages(runs);
  CHECK(closure_residual(10, stages) == doctest::Approx(0.1));
  CHECK(closure_residual(8, stages) == doctest::Approx(-0.125));
  CHECK(closure_residual(10, {}) == 1);
  CHECK(std::isnan(closure_residual(0, stages)));
  CHECK(std::isnan(closure_residual(std::nan(""), stages)));
}

}  // namespace misa
