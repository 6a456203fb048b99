#include "core/measure/timed_run.hpp"

#include <doctest/doctest.h>

#include "backends/backends.hpp"
#include "core/measure/device_watch.hpp"
#include "tests/core/measure/noting_backend.hpp"

namespace misa {
namespace {

/// Runs that count; what a profiler sees of them is for tests/cli/nsight_test.py.
struct NotedRuns {
  std::unique_ptr<Backend> oracle = make_backend("oracle", 1);
  NotingBackend backend{*oracle};

  TimedRun run(TimedRunOptions options) {
    return {backend, RangeName("case"),
            [this](Observer* observer) {
              backend.notes += "work";
              if (observer != nullptr) observer->begin(Stage::score);
              backend.now += 3;
              if (observer != nullptr) observer->end();
            },
            options};
  }
};

}  // namespace

TEST_CASE("the first call does the work, the second records it, and what is timed then is a replay") {
  NotedRuns bench;
  TimedRun run = bench.run({});
  CHECK(run(true).seconds == 3);
  CHECK_FALSE(run.recorded());
  CHECK(bench.backend.notes == " cold work");
  bench.backend.notes.clear();
  CHECK(run(true).seconds == 1);
  CHECK(run.recorded());
  CHECK(bench.backend.notes == "record(work) cold replay");
  bench.backend.notes.clear();
  CHECK(run(true).seconds == 1);
  CHECK(bench.backend.notes == " cold replay");
}

TEST_CASE("a replay times the stages that were recorded") {
  NotedRuns bench;
  TimedRun run = bench.run({.stages = true});
  CHECK(run(true).stages.at(0).seconds == 3);
  const RunTimes times = run(true);
  CHECK(times.seconds == 3);  // four marks of a replay
  REQUIRE(times.stages.size() == 1);
  CHECK(times.stages[0].stages == StageSet(Stage::score));
  CHECK(times.stages[0].seconds == 1);
}

TEST_CASE("without recordings every call does the work") {
  for (const bool asked : {false, true}) {
    NotedRuns bench;
    bench.backend.records = false;
    TimedRun run = bench.run({.record = asked});
    for (int i = 0; i < 3; ++i) CHECK(run(true).seconds == 3);
    CHECK_FALSE(run.recorded());
    CHECK(bench.backend.notes == " cold work cold work cold work");
  }
}

TEST_CASE("a run is cold when that was asked for and the backend can") {
  for (const bool asked : {false, true}) {
    for (const bool flushes : {false, true}) {
      NotedRuns bench;
      bench.backend.flushes = flushes;
      TimedRun run = bench.run({.cold = asked});
      run(true);
      CHECK(run.cold() == (asked && flushes));
    }
  }
}

TEST_CASE("a device is asked before, after each sample and after all") {
  NotedRuns bench;
  const auto state = [](double clock, std::vector<std::string> throttled) {
    return DeviceState{.sm_clock_hz = clock,
                       .memory_clock_hz = {},
                       .power_watts = {},
                       .temperature_celsius = {},
                       .throttled = std::move(throttled)};
  };
  bench.backend.states = {state(345, {}), state(2000, {}), state(1800, {"power cap"}), state(1900, {"power cap"}),
                          state(1950, {})};
  DeviceWatch watch(bench.backend);
  for (int i = 0; i < 3; ++i) watch.sampled();
  const auto record = watch.finish();
  REQUIRE(record.has_value());
  CHECK(record->before.sm_clock_hz == 345);
  CHECK(record->after.sm_clock_hz == 1950);
  CHECK(record->sm_clock_min_hz == 1800);
  CHECK(record->sm_clock_max_hz == 2000);
  CHECK(record->clock_drift() == doctest::Approx(0.1));
  CHECK(record->throttled == std::vector<std::string>{"power cap"});
}

TEST_CASE("where no driver tells there is no record, and where it does not tell clocks there is no drift") {
  NotedRuns bench;
  CHECK_FALSE(DeviceWatch(bench.backend).finish().has_value());
  bench.backend.states = {DeviceState{}};
  DeviceWatch watch(bench.backend);
  watch.sampled();
  CHECK(watch.finish()->clock_drift() == 0);
}

}  // namespace misa
