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

/// How far sampling has come.
struct SamplingProgress {
  std::size_t subject = 0;      ///< that ran last
  i64 samples = 0;              ///< that it has by now; 0: that was its first call, or warm-up
  i64 runs = 0, most_runs = 0;  ///< of all subjects: done, and to be done unless the budget ends them
  double seconds = 0;           ///< since the first call began
  double seconds_left = 0;      ///< by the mean of the runs so far, and by the budget
};

struct SamplerOptions {
  i64 warm_up = 3;             ///< runs of each subject that are thrown away, after its first call
  i64 max_samples = 100;       ///< of each subject
  double budget_seconds = 10;  ///< of all subjects together, from the start of the first call on
  /// Subjects 2i and 2i + 1 are sides of one thing: after two rounds they change places, so that within four rounds
  /// each runs as often after the other, after itself and after a third.
  bool sides = false;

  /// Seconds that pass, for the budget; empty: the steady clock.
  std::function<double()> now;
  /// Polled before every run; empty: never.
  std::function<bool()> interrupted;
  /// Told once, when first calls and warm-up are over; empty: nobody is.
  std::function<void()> warmed_up = {};
  /// Told after every run; empty: nobody is.
  std::function<void(const SamplingProgress&)> after_run;
};

/// What one subject gave.
struct Samples {
  std::optional<RunTimes> first;  ///< its very first call: lazy loading, first touch
  std::vector<RunTimes> runs;     ///< in the order they were taken
};

struct SampleSet {
  std::vector<Samples> subjects;  ///< as many and in the order of the subjects
  bool interrupted = false;       ///< some samples may be missing, at most one per subject more than the others have
  bool cut = false;               ///< the budget ended sampling before everyone had max_samples
};

/// Samples all subjects side by side in one process: first calls, warm-up, then rounds in which every subject runs
/// once. The order turns round after every round (ABBA), so that a drift that is linear in time falls on all of them
/// alike. Ends between rounds: at max_samples, or before a round that the budget does not hold if it takes as long as
/// the last one; the first round of samples runs whatever is left. Warm-up ends early, too, before it uses more than a
/// quarter of the budget. A run that ends by Interrupted gives no sample and is the last. When a subject throws
/// anything else, so does this.
SampleSet sample(std::span<const Subject> subjects, const SamplerOptions& options);

}  // namespace misa
