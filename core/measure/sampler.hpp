#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/measure/stage_timer.hpp"

namespace misa {

/// Something to time. run() does the work once, times it itself and returns what it took.
struct Subject {
  std::string name;
  std::function<RunTimes()> run;
};

struct SamplerOptions {
  i64 warm_up = 3;             ///< runs of each subject that are thrown away, after its first call
  i64 min_samples = 10;        ///< of each subject, whatever they take
  i64 max_samples = 100;       ///< of each subject
  double budget_seconds = 10;  ///< of all subjects together, first calls and warm-up included

  /// Seconds that pass, for the budget; empty: the steady clock.
  std::function<double()> now;
  /// Polled before every run; empty: never.
  std::function<bool()> interrupted;
  /// Told once, when first calls and warm-up are over; empty: nobody is.
  std::function<void()> warmed_up = {};
  /// Told after every run: which subject, and how many samples it has by now (0: first call or warm-up).
  std::function<void(std::size_t subject, i64 samples)> after_run;
};

/// What one subject gave.
struct Samples {
  std::optional<RunTimes> first;  ///< its very first call: lazy loading, first touch
  std::vector<RunTimes> runs;     ///< in the order they were taken
};

struct SampleSet {
  std::vector<Samples> subjects;  ///< as many and in the order of the subjects
  bool interrupted = false;       ///< some samples may be missing, at most one per subject more than the others have
};

/// Samples all subjects side by side in one process: first calls, warm-up, then rounds in which every subject runs
/// once. The order turns round after every round (ABBA), so that a drift that is linear in time falls on all of them
/// alike. Ends between rounds: at max_samples, or when the budget is used and everyone has min_samples. Warm-up ends
/// early, too, when it has used a quarter of the budget. When a subject throws, so does this.
SampleSet sample(std::span<const Subject> subjects, const SamplerOptions& options);

}  // namespace misa
