#include "core/measure/contention.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/steady_seconds.hpp"

namespace misa {
namespace {

constexpr double kInterval = 0.1;     // seconds between two readings
constexpr double kReadingShare = 20;  // a reading may take a twentieth of them
constexpr double kTickSeconds = 0.5;  // ticks of 10 ms say nothing about less

/// (after - before) / whole, at least 0: threads that ended leave the sums.
std::optional<double> share(std::optional<double> before, std::optional<double> after, double whole) {
  if (!before || !after || !(whole > 0)) return std::nullopt;
  return std::max(0.0, *after - *before) / whole;
}

}  // namespace

double Contention::clock_drift() const {
  return clock_max_hz && *clock_max_hz > 0 ? (*clock_max_hz - *clock_min_hz) / *clock_max_hz : 0;
}

std::optional<std::string> why_loaded(const Contention& contention) {
  if (contention.waiting_share.value_or(0) > kWaitingTolerance) {
    return fmt::format("threads waited for a core for {:.0f} % of the time", 100 * *contention.waiting_share);
  }
  if (contention.steal_share.value_or(0) > kWaitingTolerance) {
    return fmt::format("the hypervisor took the cores away for {:.0f} % of the time", 100 * *contention.steal_share);
  }
  if (contention.others_share.value_or(0) > kOthersTolerance) {
    return fmt::format("other processes used {:.0f} % of the cores", 100 * *contention.others_share);
  }
  return std::nullopt;
}

ContentionWatch::ContentionWatch(i64 threads, i64 cores, std::function<LoadReading()> read)
    : threads_(static_cast<double>(std::max<i64>(1, threads))),
      cores_(static_cast<double>(std::max<i64>(1, cores))),
      read_(std::move(read)),
      first_(read_()),
      most_runnable_(first_.runnable),
      next_(steady_seconds() + kInterval) {}

void ContentionWatch::note(const LoadReading& reading) {
  if (reading.runnable) most_runnable_ = std::max(most_runnable_.value_or(0), *reading.runnable);
  if (!reading.clock_hz) return;
  clock_min_hz_ = std::min(clock_min_hz_.value_or(*reading.clock_hz), *reading.clock_hz);
  clock_max_hz_ = std::max(clock_max_hz_.value_or(*reading.clock_hz), *reading.clock_hz);
}

void ContentionWatch::sampled() {
  const double start = steady_seconds();
  if (start < next_) return;
  note(read_());
  const double end = steady_seconds();
  next_ = end + std::max(kInterval, kReadingShare * (end - start));
}

Contention ContentionWatch::finish() {
  const LoadReading last = read_();
  note(last);
  Contention found;
  found.seconds = last.seconds - first_.seconds;
  const double of_threads = found.seconds * threads_, of_cores = found.seconds * cores_;
  const double own = last.own_cpu_seconds - first_.own_cpu_seconds;
  if (of_threads > 0) found.own_cpu_share = own / of_threads;
  found.waiting_share = share(first_.waiting_seconds, last.waiting_seconds, of_threads);
  found.pressure_share = share(first_.pressure_seconds, last.pressure_seconds, found.seconds);
  if (found.seconds >= kTickSeconds) {
    found.steal_share = share(first_.steal_seconds, last.steal_seconds, of_cores);
    const std::optional<double> busy = share(first_.busy_seconds, last.busy_seconds, of_cores);
    if (busy) found.others_share = std::max(0.0, *busy - own / of_cores);
  }
  found.voluntary_switches = last.voluntary_switches - first_.voluntary_switches;
  found.involuntary_switches = last.involuntary_switches - first_.involuntary_switches;
  found.load_average_before = first_.load_average;
  found.load_average_after = last.load_average;
  found.most_runnable = most_runnable_;
  found.clock_min_hz = clock_min_hz_;
  found.clock_max_hz = clock_max_hz_;
  return found;
}

}  // namespace misa
