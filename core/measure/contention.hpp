#pragma once

#include <functional>
#include <optional>
#include <string>

#include "core/platform/load.hpp"

namespace misa {

/// What other work took from this process while it was measured. Shares are of the whole time that was watched; empty:
/// the system does not tell, or the time was too short for the ticks it counts in.
struct Contention {
  double seconds = 0;                    ///< watched
  double own_cpu_share = 0;              ///< CPU time of this process / (seconds * threads)
  std::optional<double> waiting_share;   ///< its threads were ready and had no CPU, / (seconds * threads)
  std::optional<double> others_share;    ///< CPU time of other processes / (seconds * cores)
  std::optional<double> steal_share;     ///< CPU time that a hypervisor gave to another guest / (seconds * cores)
  std::optional<double> pressure_share;  ///< some task of the machine was ready and had no CPU, / seconds
  i64 voluntary_switches = 0, involuntary_switches = 0;
  std::optional<double> load_average_before, load_average_after;
  std::optional<i64> most_runnable;                  ///< of all readings
  std::optional<double> clock_min_hz, clock_max_hz;  ///< of all readings but the first: an idle CPU is slow

  /// (max - min) / max of the clock; 0 where it is not known.
  double clock_drift() const;
};

/// A result is suspect when its threads waited, or a hypervisor stole, more than this share of the time.
constexpr double kWaitingTolerance = 0.05;
/// ... or when other processes used more than this share of the CPUs: they share caches, memory and power.
constexpr double kOthersTolerance = 0.25;
/// ... or when the clock of the fastest CPU moved by more than this.
constexpr double kCpuClockTolerance = 0.1;

/// What disturbed the measurement, in words that follow "other work shared the cores:"; nothing when nothing did.
std::optional<std::string> why_loaded(const Contention& contention);

/// Reads the load when it is made, between samples, and when it is done. Sets nothing.
class ContentionWatch {
 public:
  /// `threads`: of this process's work; `cores`: those it may use. `read`: for tests.
  ContentionWatch(i64 threads, i64 cores, std::function<LoadReading()> read = read_load);

  /// To be called between samples. Reads when 0.1 s have passed, and so that readings take at most a twentieth of the
  /// time; else returns at once.
  void sampled();
  Contention finish();

 private:
  void note(const LoadReading& reading);

  double threads_, cores_;
  std::function<LoadReading()> read_;
  LoadReading first_;
  std::optional<i64> most_runnable_;
  std::optional<double> clock_min_hz_, clock_max_hz_;
  double next_ = 0;  ///< steady seconds before which nothing is read
};

}  // namespace misa
