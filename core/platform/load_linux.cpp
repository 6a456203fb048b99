#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/steady_seconds.hpp"
#include "core/platform/load.hpp"
#include "core/platform/proc_linux.hpp"

namespace misa {
namespace {

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

/// The CPUs that this process may run on; all, where there are more than a cpu_set_t holds.
std::function<bool(i64)> allowed_to_this_process() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return [](i64) { return true; };
  return [set](i64 cpu) { return cpu < CPU_SETSIZE && CPU_ISSET(static_cast<std::size_t>(cpu), &set); };
}

std::optional<double> waiting_seconds() {
  std::optional<double> sum;
  std::error_code failure;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", failure)) {
    const std::optional<i64> waited = parse_waiting_ns(read_all((task.path() / "schedstat").string()));
    if (waited) sum = sum.value_or(0) + 1e-9 * static_cast<double>(*waited);
  }
  return sum;
}

/// /proc/cpuinfo asks every CPU, which takes milliseconds on large machines: cpufreq goes first.
std::optional<double> clock_hz(const std::function<bool(i64)>& counts) {
  std::optional<double> fastest;
  for (i64 cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!counts(cpu)) continue;
    const std::string file = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cpufreq/scaling_cur_freq";
    const std::optional<i64> khz = parse_number<i64>(read_all(file));
    if (!khz) break;
    fastest = std::max(fastest.value_or(0), 1e3 * static_cast<double>(*khz));
  }
  return fastest ? fastest : parse_clock_hz(read_all("/proc/cpuinfo"));
}

}  // namespace

std::optional<CpuTicks> parse_cpu_ticks(std::string_view stat, const std::function<bool(i64 cpu)>& counts) {
  std::optional<CpuTicks> sum;
  while (!stat.empty()) {
    std::string_view line = next_line(stat);
    const std::string_view name = next_word(line);
    if (name.substr(0, 3) != "cpu" || name.size() == 3) continue;  // "cpu" is the sum of all
    const std::optional<i64> cpu = parse_number<i64>(name.substr(3));
    // user nice system idle iowait irq softirq steal; kernels before 2.6.11 end earlier
    std::vector<i64> ticks;
    while (ticks.size() < 8) {
      const std::optional<i64> count = parse_number<i64>(next_word(line));
      if (!count) break;
      ticks.push_back(*count);
    }
    if (!cpu || ticks.size() < 8 || !counts(*cpu)) continue;
    if (!sum) sum.emplace();
    sum->busy += ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6];
    sum->steal += ticks[7];
  }
  return sum;
}

std::optional<LoadAverage> parse_load_average(std::string_view loadavg) {
  const std::optional<double> minute = parse_number<double>(next_word(loadavg));
  next_word(loadavg);
  next_word(loadavg);
  const std::string_view tasks = next_word(loadavg);
  const std::optional<i64> runnable = parse_number<i64>(tasks.substr(0, tasks.find('/')));
  if (!minute || !runnable || tasks.find('/') == std::string_view::npos) return std::nullopt;
  return LoadAverage{.minute = *minute, .runnable = *runnable};
}

std::optional<i64> parse_waiting_ns(std::string_view schedstat) {
  next_word(schedstat);
  return parse_number<i64>(next_word(schedstat));
}

std::optional<double> parse_pressure_seconds(std::string_view pressure) {
  while (!pressure.empty()) {
    std::string_view line = next_line(pressure);
    if (next_word(line) != "some") continue;
    while (!line.empty()) {
      const std::string_view word = next_word(line);
      if (word.substr(0, 6) != "total=") continue;
      const std::optional<i64> microseconds = parse_number<i64>(word.substr(6));
      if (microseconds) return 1e-6 * static_cast<double>(*microseconds);
    }
  }
  return std::nullopt;
}

std::optional<double> parse_clock_hz(std::string_view cpuinfo) {
  std::optional<double> fastest;
  while (!cpuinfo.empty()) {
    const std::string_view line = next_line(cpuinfo);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || trimmed(line.substr(0, colon)) != "cpu MHz") continue;
    const std::optional<double> mhz = parse_number<double>(line.substr(colon + 1));
    if (mhz) fastest = std::max(fastest.value_or(0), 1e6 * *mhz);
  }
  return fastest;
}

LoadReading read_load() {
  LoadReading reading;
  const std::function<bool(i64)> counts = allowed_to_this_process();
  if (const std::optional<CpuTicks> ticks = parse_cpu_ticks(read_all("/proc/stat"), counts)) {
    const double seconds = 1.0 / static_cast<double>(std::max<i64>(1, sysconf(_SC_CLK_TCK)));
    reading.busy_seconds = seconds * static_cast<double>(ticks->busy);
    reading.steal_seconds = seconds * static_cast<double>(ticks->steal);
  }
  if (const std::optional<LoadAverage> average = parse_load_average(read_all("/proc/loadavg"))) {
    reading.load_average = average->minute;
    reading.runnable = average->runnable;
  }
  reading.pressure_seconds = parse_pressure_seconds(read_all("/proc/pressure/cpu"));
  reading.clock_hz = clock_hz(counts);
  reading.waiting_seconds = waiting_seconds();
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    reading.own_cpu_seconds = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
    reading.voluntary_switches = usage.ru_nvcsw;
    reading.involuntary_switches = usage.ru_nivcsw;
  }
  reading.seconds = steady_seconds();
  return reading;
}

}  // namespace misa
