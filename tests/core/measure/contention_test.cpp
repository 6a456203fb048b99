#include "core/measure/contention.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

namespace misa {
namespace {

/// Two readings, ten seconds apart, of a process with four threads on eight cores that nothing disturbs.
std::vector<LoadReading> quiet() {
  LoadReading first;
  first.seconds = 100;
  first.own_cpu_seconds = 7;
  first.voluntary_switches = 10;
  first.involuntary_switches = 20;
  first.waiting_seconds = 3;
  first.busy_seconds = 50;
  first.steal_seconds = 5;
  first.pressure_seconds = 1;
  first.load_average = 0.5;
  first.runnable = 1;
  first.clock_hz = 1e9;
  LoadReading last = first;
  last.seconds += 10;
  last.own_cpu_seconds += 36;
  last.voluntary_switches += 3;
  last.involuntary_switches += 4;
  *last.busy_seconds += 38;
  last.load_average = 4.5;
  last.runnable = 5;
  last.clock_hz = 3e9;
  return {first, last};
}

Contention watch(const std::vector<LoadReading>& readings) {
  std::size_t next = 0;
  ContentionWatch watch(4, 8, [&] { return readings.at(next++); });
  return watch.finish();
}

}  // namespace

TEST_CASE("shares are differences of two readings over the time of threads and cores") {
  const Contention found = watch(quiet());
  CHECK(found.seconds == 10);
  CHECK(found.own_cpu_share == doctest::Approx(36.0 / 40));
  CHECK(found.waiting_share == 0.0);
  CHECK(*found.others_share == doctest::Approx(2.0 / 80));
  CHECK(found.steal_share == 0.0);
  CHECK(found.pressure_share == 0.0);
  CHECK(found.voluntary_switches == 3);
  CHECK(found.involuntary_switches == 4);
  CHECK(found.load_average_before == 0.5);
  CHECK(found.load_average_after == 4.5);
  CHECK(found.most_runnable == 5);
  CHECK(found.clock_min_hz == 3e9);  // the clock of the idle machine before the samples does not count
  CHECK(found.clock_drift() == 0);
  CHECK_FALSE(why_loaded(found).has_value());
}

TEST_CASE("each kind of contention is seen, with its share") {
  std::vector<LoadReading> readings = quiet();
  *readings[1].waiting_seconds += 8;
  Contention found = watch(readings);
  CHECK(*found.waiting_share == doctest::Approx(0.2));
  CHECK(why_loaded(found) == "threads waited for a core for 20 % of the time");

  readings = quiet();
  *readings[1].steal_seconds += 8;
  found = watch(readings);
  CHECK(*found.steal_share == doctest::Approx(0.1));
  CHECK(why_loaded(found) == "the hypervisor took the cores away for 10 % of the time");

  readings = quiet();
  *readings[1].busy_seconds += 22;
  found = watch(readings);
  CHECK(*found.others_share == doctest::Approx(0.3));
  CHECK(why_loaded(found) == "other processes used 30 % of the cores");

  readings = quiet();
  *readings[1].pressure_seconds += 2.5;
  CHECK(*watch(readings).pressure_share == doctest::Approx(0.25));
}

TEST_CASE("a contention of exactly the tolerance is none, one above it is") {
  Contention found;
  found.waiting_share = kWaitingTolerance;
  found.steal_share = kWaitingTolerance;
  found.others_share = kOthersTolerance;
  CHECK_FALSE(why_loaded(found).has_value());
  Contention more = found;
  *more.waiting_share *= 1.01;
  CHECK(why_loaded(more).has_value());
  more = found;
  *more.steal_share *= 1.01;
  CHECK(why_loaded(more).has_value());
  more = found;
  *more.others_share *= 1.01;
  CHECK(why_loaded(more).has_value());
}

TEST_CASE("what the system does not tell, or tells in ticks longer than the time, is not known") {
  std::vector<LoadReading> readings(2);
  readings[1].seconds = 10;
  Contention found = watch(readings);
  CHECK_FALSE(found.waiting_share.has_value());
  CHECK_FALSE(found.others_share.has_value());
  CHECK_FALSE(found.most_runnable.has_value());
  CHECK_FALSE(why_loaded(found).has_value());
  CHECK(found.clock_drift() == 0);

  readings = quiet();
  readings[1].seconds = 100.4;
  found = watch(readings);
  CHECK_FALSE(found.others_share.has_value());
  CHECK_FALSE(found.steal_share.has_value());
  CHECK(found.waiting_share.has_value());
}

TEST_CASE("sums that shrink because threads ended count as nothing") {
  std::vector<LoadReading> readings = quiet();
  *readings[1].waiting_seconds -= 2;
  *readings[1].busy_seconds -= 30;
  const Contention found = watch(readings);
  CHECK(found.waiting_share == 0.0);
  CHECK(found.others_share == 0.0);
}

TEST_CASE("between samples the load is read now and then, not each time") {
  int readings = 0;
  ContentionWatch watch(1, 1, [&] {
    LoadReading reading;
    reading.runnable = ++readings == 2 ? 9 : 1;
    return reading;
  });
  for (int i = 0; i < 1000; ++i) watch.sampled();
  CHECK(readings <= 3);
  watch.finish();
}

}  // namespace misa
