#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "core/base/types.hpp"

namespace misa {

/// How busy the machine and this process are at one moment. The first block are counters that only grow: what matters
/// is the difference of two readings. "CPUs" are those that this process may run on. What the system does not tell is
/// empty.
struct LoadReading {
  double seconds = 0;                                    ///< steady clock
  double own_cpu_seconds = 0;                            ///< user and system time of all threads of this process
  i64 voluntary_switches = 0, involuntary_switches = 0;  ///< of all threads of this process
  std::optional<double> waiting_seconds;                 ///< threads of this process were ready and had no CPU; summed
  std::optional<double> busy_seconds;                    ///< the CPUs worked, for whomever; summed
  std::optional<double> steal_seconds;                   ///< a hypervisor gave the CPUs to another guest; summed
  std::optional<double> pressure_seconds;                ///< some task of the machine was ready and had no CPU

  std::optional<double> load_average;  ///< over the last minute
  std::optional<i64> runnable;         ///< tasks of the machine that run or are ready to
  std::optional<double> clock_hz;      ///< of the fastest of the CPUs
};

/// Reads /proc and /sys: some 50 us, and 10 us more for each thread of this process.
LoadReading read_load();

/// Ticks of /proc/stat, summed over the CPUs for which `counts(number)`; nothing when there is none of them.
struct CpuTicks {
  i64 busy = 0, steal = 0;
};
std::optional<CpuTicks> parse_cpu_ticks(std::string_view stat, const std::function<bool(i64 cpu)>& counts);

/// "3.15 2.04 0.89 5/111 14754" of /proc/loadavg -> the average over a minute, and the tasks that run or are ready to.
struct LoadAverage {
  double minute = 0;
  i64 runnable = 0;
};
std::optional<LoadAverage> parse_load_average(std::string_view loadavg);

/// The second number of a task's schedstat: nanoseconds that it was ready and had no CPU.
std::optional<i64> parse_waiting_ns(std::string_view schedstat);

/// "some avg10=0.00 avg60=0.00 avg300=0.00 total=137891786" of /proc/pressure/cpu -> 137.891786 seconds.
std::optional<double> parse_pressure_seconds(std::string_view pressure);

/// The largest "cpu MHz" of /proc/cpuinfo, in hertz.
std::optional<double> parse_clock_hz(std::string_view cpuinfo);

}  // namespace misa
