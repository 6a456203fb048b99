#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/base/work_spans.hpp"
#include "core/measure/stage_timer.hpp"
#include "core/ranges/ranges.hpp"

namespace misa {

struct TimedRunOptions {
  bool stages = false;     ///< mark the stages too; else nothing is marked inside
  bool cold = true;        ///< with caches that have forgotten earlier runs, where the backend can
  bool record = true;      ///< replay a recording, where the backend makes one
  int traced_threads = 0;  ///< keep the first run that counts as a TracedRun, with the work of so many threads
};

/// A run on a timeline. Times of the host are in steady_seconds.
struct TracedRun {
  double begin = 0, launched = 0;  ///< of the host: when it began, and when it had put all work on the backend
  RunTimes times = {};             ///< with spans; a device's clock begins when the run begins there
  std::vector<std::vector<WorkSpan>> threads = {};  ///< when each thread of the host worked
};

/// Work on a backend, done and timed once with every call. The first call does it as it is: that one pays for lazy
/// loading. The second records it, and what is timed from then on is a replay: one launch for the whole run, without
/// gaps between its parts. To a profiler it is range `name`, in that kWarmUpRange or kMeasureRange round what is timed,
/// and in kMeasureRange the stages, if they are marked and nothing is replayed.
class TimedRun {
 public:
  using Work = std::function<void(Observer*)>;  ///< puts the same work on the backend each time

  TimedRun(Backend& backend, const RangeName& name, Work work, TimedRunOptions options);

  /// `counts`: not the first call, nor warm-up.
  RunTimes operator()(bool counts);

  bool cold() const { return cold_; }  ///< the last run found cold caches
  bool recorded() const { return recording_ != nullptr; }
  /// Empty before the first run that counts, and where none was asked for.
  const std::optional<TracedRun>& traced() const { return traced_; }

 private:
  void work(Observer& stages);
  /// Does what is timed.
  void run(bool counts);

  Backend& backend_;
  RangeName name_;
  Work work_;
  TimedRunOptions options_;
  std::unique_ptr<Clock> clock_;
  StageTimer timer_;
  StageRanges stage_ranges_;
  std::unique_ptr<Recording> recording_;
  std::optional<TracedRun> traced_;
  i64 calls_ = 0;
  bool cold_ = false;
};

}  // namespace misa
