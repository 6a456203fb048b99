#include "core/platform/load.hpp"

#include <doctest/doctest.h>

#include <chrono>

#include "core/platform/system.hpp"

namespace misa {

TEST_CASE("ticks are summed over the CPUs that count, and the line of all CPUs is left out") {
  const char* stat =
      "cpu  900 900 900 900 900 900 900 900 0 0\n"
      "cpu0 1 2 4 1000 2000 8 16 32 0 0\n"
      "cpu1 100 0 0 0 0 0 0 5 0 0\n"
      "intr 1 2 3\n";
  const auto both = parse_cpu_ticks(stat, [](i64) { return true; });
  REQUIRE(both.has_value());
  CHECK(both->busy == 1 + 2 + 4 + 8 + 16 + 100);
  CHECK(both->steal == 32 + 5);
  const auto second = parse_cpu_ticks(stat, [](i64 cpu) { return cpu == 1; });
  REQUIRE(second.has_value());
  CHECK(second->busy == 100);
  CHECK(second->steal == 5);
  CHECK_FALSE(parse_cpu_ticks(stat, [](i64 cpu) { return cpu == 7; }).has_value());
  for (const char* none :
       {"", "cpu  1 2 3 4 5 6 7 8\n", "cpu0 1 2 3\n", "cpu0 1 2 x 4 5 6 7 8\n", "cpux 1 2 3 4 5 6 7 8"}) {
    CAPTURE(none);
    CHECK_FALSE(parse_cpu_ticks(none, [](i64) { return true; }).has_value());
  }
}

TEST_CASE("load average, run queue, waiting time, pressure and clock are read from the kernel's words") {
  const auto average = parse_load_average("3.15 2.04 0.89 5/111 14754\n");
  REQUIRE(average.has_value());
  CHECK(average->minute == 3.15);
  CHECK(average->runnable == 5);
  for (const char* none : {"", "3.15", "3.15 2 1 5", "x 2 1 5/111 3"}) {
    CAPTURE(none);
    CHECK_FALSE(parse_load_average(none).has_value());
  }
  CHECK(parse_waiting_ns("123 39960 1\n") == 39960);
  CHECK_FALSE(parse_waiting_ns("123\n").has_value());
  CHECK(
      parse_pressure_seconds("some avg10=33.57 avg60=38.42 avg300=28.45 total=137891786\nfull avg10=0.00 total=7\n") ==
      doctest::Approx(137.891786));
  CHECK_FALSE(parse_pressure_seconds("full avg10=0.00 total=7\n").has_value());
  CHECK(parse_clock_hz("cpu MHz\t\t: 2596.120\nmodel : 1\ncpu MHz : 3000.5\n") == 3000.5e6);
  CHECK_FALSE(parse_clock_hz("BogoMIPS : 50\n").has_value());
}

TEST_CASE("the size of a cache is read with its unit") {
  CHECK(parse_cache_size("32768K\n") == i64{32} << 20);
  CHECK(parse_cache_size("16M") == i64{16} << 20);
  CHECK(parse_cache_size("512") == 512);
  for (const char* none : {"", "K", "-1K", "12X", "99999999999999K"}) {
    CAPTURE(none);
    CHECK_FALSE(parse_cache_size(none).has_value());
  }
}

TEST_CASE("this process's CPU time and the machine's grow while it works") {
  const LoadReading before = read_load();
  const auto start = std::chrono::steady_clock::now();
  volatile unsigned work = 0;
  while (std::chrono::steady_clock::now() - start < std::chrono::milliseconds(200)) work = work + 1;
  const LoadReading after = read_load();
  CHECK(after.seconds - before.seconds >= 0.2);
  CHECK(after.own_cpu_seconds > before.own_cpu_seconds);
  REQUIRE(after.busy_seconds.has_value());  // every Linux has /proc/stat
  CHECK(*after.busy_seconds > *before.busy_seconds);
  REQUIRE(after.load_average.has_value());
  CHECK(*after.runnable >= 1);
}

}  // namespace misa
