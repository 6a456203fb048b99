#pragma once

#include <span>
#include <vector>

#include "core/indexer/backend.hpp"
#include "core/indexer/stage.hpp"
#include "core/measure/statistics.hpp"

namespace misa {

struct StageSeconds {
  StageSet stages;
  double seconds = 0;
  std::vector<KernelRun> kernels = {};  ///< each once, in the order in which they ran first
};

/// A span of a run, in seconds since the run's start.
struct StageSpan {
  StageSet stages;
  double begin = 0, end = 0;
  std::vector<KernelRun> kernels = {};
};

/// One run: from start() to stop(), and what of it lay in spans. Spans of equal label add up (row chunks); labels
/// stand in the order of their first span.
struct RunTimes {
  double seconds = 0;
  std::vector<StageSeconds> stages;
  std::vector<StageSpan> spans = {};  ///< one by one, where they were asked for
};

/// Times one run at a time with a backend's clock:
///
///     timer.start();
///     plan.run(&timer);          // with stages; or plan.run(nullptr): end to end, nothing marked inside
///     timer.stop();
///     RunTimes times = timer.times();
///
/// Marks are read in times() only, so nothing waits inside the run. Where start() to stop() were recorded, times() are
/// those of the last replay. Spans do not nest: Error(internal).
class StageTimer final : public Observer {
 public:
  explicit StageTimer(Clock& clock) : clock_(clock) {}

  void start();
  void begin(StageSet stages) override;
  void ran(Primitive primitive, std::string_view kernel) override;
  void end() override;
  void stop();
  /// `spans`: with the spans one by one.
  RunTimes times(bool spans = false);

 private:
  struct Span {
    StageSet stages;
    int from = 0, to = 0;
    std::vector<KernelRun> kernels = {};
  };

  Clock& clock_;
  std::vector<Span> spans_;
  int start_ = 0, stop_ = 0;
  bool open_ = false;
};

/// The runs' stages, each summarised over the runs, in the order of the first run that has it. A run without a stage
/// gives no sample for it.
struct StageSummary {
  StageSet stages;
  Summary seconds;
  std::vector<KernelRun> kernels = {};  ///< those of all runs
};
std::vector<StageSummary> summarise_stages(std::span<const RunTimes> runs);

/// The runs' totals.
std::vector<double> seconds_of(std::span<const RunTimes> runs);

/// (end_to_end - sum of the stages) / end_to_end: what the breakdown does not explain. Positive: gaps between stages.
/// Negative: timing the stages cost time of its own. NaN when end_to_end is not positive.
double closure_residual(double end_to_end_seconds, std::span<const StageSummary> stages);

/// A breakdown is believed when |residual| is at most this.
constexpr double kClosureTolerance = 0.05;

}  // namespace misa
